//! The releases the stand-in can be, and what differs between them.

/// One TrueNAS release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// TrueNAS CORE 13.0-U6.8, REST v2.0 only.
    Core13,
    /// TrueNAS SCALE 22.12, REST v2.0 only.
    V22_12,
    /// TrueNAS SCALE 24.04, REST v2.0 only.
    V24_04,
    /// TrueNAS SCALE 24.10, REST v2.0 only.
    V24_10,
    /// TrueNAS 25.04: JSON-RPC and the deprecated REST; snapshots are `zfs.snapshot.*`.
    V25_04,
    /// TrueNAS 25.10: JSON-RPC; `pool.snapshot.*`; using REST raises an alert.
    V25_10,
    /// TrueNAS 26.0: JSON-RPC only.
    V26,
    /// TrueNAS 27 as its master branch stands: `auth.login_with_api_key` is gone.
    V27,
}

/// Every profile, oldest first.
pub const PROFILES: [Profile; 8] = [
    Profile::Core13,
    Profile::V22_12,
    Profile::V24_04,
    Profile::V24_10,
    Profile::V25_04,
    Profile::V25_10,
    Profile::V26,
    Profile::V27,
];

impl Profile {
    /// `system.version`, the long form.
    #[must_use]
    pub fn long_version(self) -> &'static str {
        match self {
            Self::Core13 => "TrueNAS-13.0-U6.8",
            Self::V22_12 => "TrueNAS-SCALE-22.12.4.2",
            Self::V24_04 => "TrueNAS-SCALE-24.04.2.5",
            Self::V24_10 => "TrueNAS-SCALE-24.10.2.4",
            Self::V25_04 => "TrueNAS-25.04.2.6",
            Self::V25_10 => "TrueNAS-25.10.7",
            Self::V26 => "TrueNAS-26.0.0",
            Self::V27 => "TrueNAS-27.0.0",
        }
    }

    /// `version` in `system.info`: short from 25.04 on, the long form before.
    #[must_use]
    pub fn info_version(self) -> &'static str {
        let long = self.long_version();
        if self.has_jsonrpc() { long.trim_start_matches("TrueNAS-") } else { long }
    }

    /// Whether `/api/current` exists.
    #[must_use]
    pub fn has_jsonrpc(self) -> bool {
        self >= Self::V25_04
    }

    /// Whether `/api/v2.0` exists.
    #[must_use]
    pub fn has_rest(self) -> bool {
        self <= Self::V25_10
    }

    /// The name of the snapshot service that callers are meant to use.
    #[must_use]
    pub fn snapshot_service(self) -> &'static str {
        if self >= Self::V25_10 { "pool.snapshot" } else { "zfs.snapshot" }
    }

    /// Whether a method of this name exists at all (else: -32601, or 404 over REST).
    pub(crate) fn has_method(self, method: &str) -> bool {
        match method {
            "auth.login_with_api_key" => self < Self::V27,
            "auth.login_ex" | "auth.mechanism_choices" | "core.set_options" => self.has_jsonrpc(),
            _ if method.starts_with("zfs.snapshot.") => self <= Self::V25_10,
            _ if method.starts_with("pool.snapshot.") => self >= Self::V25_10,
            _ => true,
        }
    }

    /// Whether arguments are checked by the vendor's newer models ("Extra inputs are not permitted") or the older
    /// schema ("Field was not expected").
    pub(crate) fn has_models(self) -> bool {
        self >= Self::V25_10
    }

    /// Whether tracebacks list the frames with every local variable.
    pub(crate) fn leaks_locals(self) -> bool {
        self <= Self::V25_10
    }

    /// What `/api/versions` lists; empty where the path does not exist.
    #[must_use]
    pub fn api_versions(self) -> &'static [&'static str] {
        const ALL: [&str; 12] = [
            "v24.10", "v25.04.0", "v25.04.1", "v25.04.2", "v25.10.0", "v25.10.1", "v25.10.2", "v25.10.3", "v25.10.4",
            "v25.10.5", "v26.0.0", "v27.0.0",
        ];
        match self {
            Self::V25_04 => &ALL[..4],
            Self::V25_10 => &ALL[1..10],
            Self::V26 => &ALL[1..11],
            Self::V27 => &ALL[1..],
            _ => &[],
        }
    }

    /// The interface version behind `/api/NAME`, if the handshake is accepted. `v24.10` is accepted though not listed.
    pub(crate) fn pin(self, name: &str) -> Option<Pin> {
        let known = self.api_versions();
        match name {
            _ if !self.has_jsonrpc() => None,
            "current" => Some(Pin::Current),
            "v24.10" => Some(Pin::Legacy),
            _ if !known.contains(&name) => None,
            _ if name.starts_with("v25.04") && self >= Self::V25_10 => {
                Some(Pin::Fangtooth(if name == "v25.04.2" { "v25.04.2" } else { "v25.04.1" }))
            }
            _ if name.starts_with("v25.10") && self >= Self::V26 => Some(Pin::Goldeye),
            _ => Some(Pin::Current),
        }
    }
}

/// Which version of the interface a connection asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// The release's own.
    Current,
    /// v24.10, which has no versioned methods at all.
    Legacy,
    /// v25.04.x on a newer release, which knows few of its models; the text names the version that is missed.
    Fangtooth(&'static str),
    /// v25.10.x on a newer release: works, newer fields are taken out.
    Goldeye,
}

impl Pin {
    /// Methods that this version of the interface does not have although the release does.
    pub(crate) fn hides(self, method: &str) -> bool {
        match self {
            Self::Legacy => true,
            Self::Fangtooth(_) => {
                matches!(method, "auth.login_with_api_key" | "system.info" | "system.version" | "boot.get_state")
                    || method.ends_with(".get_instance")
                    || (method.starts_with("pool.snapshot.") && method != "pool.snapshot.query")
            }
            Self::Current | Self::Goldeye => false,
        }
    }

    /// The result model that the version adapter misses, with the version it looked in.
    pub(crate) fn missing_model(self, method: &str) -> Option<(&'static str, &'static str)> {
        let Self::Fangtooth(version) = self else { return None };
        let model = match method {
            "pool.query" => "PoolQueryResult",
            "pool.dataset.query" => "PoolDatasetQueryResult",
            "pool.snapshot.query" => "PoolSnapshotQueryResult",
            "core.get_jobs" => "CoreGetJobsResult",
            _ => return None,
        };
        Some((version, model))
    }
}
