//! Keys, users and privileges.
//!
//! A privilege is a list of URI patterns. They are matched, case and all, against the raw request URI with its query,
//! so the spelling that a release registered decides, and `?x=1` behind an exact pattern is refused.

use super::profile::Profile;

/// A privilege as the user manager calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// "All pages"
    AllPages,
    /// "Lobby: Dashboard"
    Dashboard,
    /// "System: Firmware"
    Firmware,
    /// "Status: Services"
    Services,
    /// "System: Gateways"
    Gateways,
    /// "System: Static Routes", on 24.1 the smallest one that covers the gateway status
    StaticRoutes,
    /// "System: Status"
    Status,
    /// "Diagnostics: System Activity"
    Activity,
}

impl Privilege {
    /// The patterns that this release gives it, as far as they concern the API.
    fn patterns(self, profile: Profile) -> &'static [&'static str] {
        match self {
            Self::AllPages => &["*"],
            // On 24.1 the dashboard was still an old page.
            Self::Dashboard if profile < Profile::V24_7 => &["index.php*"],
            Self::Dashboard if profile < Profile::V25_7 => &[
                "index.php*",
                "ui/core/dashboard",
                "api/core/dashboard/*",
                "api/diagnostics/cpu_usage/*",
                "api/diagnostics/firewall/pf_states",
                "api/diagnostics/system/systemDisk",
                "api/diagnostics/system/systemInformation",
                "api/diagnostics/system/systemResources",
                "api/diagnostics/system/systemTemperature",
                "api/diagnostics/system/systemTime",
                "api/diagnostics/system/system_mbuf",
                "api/diagnostics/system/system_swap",
            ],
            Self::Dashboard => &[
                "index.php*",
                "ui/core/dashboard",
                "api/core/dashboard/*",
                "api/diagnostics/cpu_usage/*",
                "api/diagnostics/firewall/pf_states",
                "api/diagnostics/system/system_disk",
                "api/diagnostics/system/system_information",
                "api/diagnostics/system/system_resources",
                "api/diagnostics/system/system_temperature",
                "api/diagnostics/system/system_time",
                "api/diagnostics/system/system_mbuf",
                "api/diagnostics/system/system_swap",
            ],
            Self::Firmware => &[
                "ui/core/firmware/*",
                "api/core/firmware/*",
                "ui/diagnostics/log/core/pkg/*",
                "api/diagnostics/log/core/pkg/*",
            ],
            Self::Services => &["ui/core/service", "api/core/service/*"],
            Self::Gateways if profile < Profile::V24_7 => &["ui/routing/configuration", "api/routing/settings/*"],
            Self::Gateways => &["ui/routing/configuration", "api/routing/settings/*", "api/routes/gateway/status"],
            Self::StaticRoutes => &["ui/routes/*", "api/routes/*"],
            Self::Status if profile < Profile::V25_1 => &["api/core/system/status", "api/core/system/dismissStatus"],
            Self::Status if profile < Profile::V25_7 => &["api/core/system/status*", "api/core/system/dismissStatus"],
            Self::Status => &["api/core/system/status*", "api/core/system/dismiss_status"],
            Self::Activity => &["ui/diagnostics/activity/*", "api/diagnostics/activity/*"],
        }
    }
}

/// A key and its secret, as downloaded from the user manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The part before the colon.
    pub key: String,
    /// The part behind it.
    pub secret: String,
}

/// Who has a key.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) key: Key,
    pub(super) privileges: Vec<Privilege>,
    pub(super) enabled: bool,
}

impl User {
    /// Whether `uri` (raw, with query) is open to this user.
    pub(super) fn may(&self, uri: &str, profile: Profile) -> bool {
        let granted = self.privileges.iter().flat_map(|privilege| privilege.patterns(profile));
        granted.chain(&["api/core/menu/*"]).any(|pattern| matches(pattern, uri))
    }
}

/// A pattern is the whole URI without its first slash, or its beginning when it ends in `*`.
fn matches(pattern: &str, uri: &str) -> bool {
    let Some(uri) = uri.strip_prefix('/') else { return false };
    match pattern.strip_suffix('*') {
        Some(beginning) => uri.starts_with(beginning),
        None => uri == pattern,
    }
}

/// What an Authorization header is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// No header: the caller is taken for a browser.
    None,
    /// Not `word base64(key:secret)`: refused at once.
    Unreadable,
    /// Something to look up.
    Pair(String, String),
}

/// Reads the header as PHP does: any scheme word, one space, base64 with strange characters skipped, and whatever
/// follows a second colon ignored.
pub(super) fn credentials(header: Option<&str>) -> Credentials {
    let Some(header) = header.filter(|header| !header.is_empty() && *header != "0") else { return Credentials::None };
    let Some(encoded) = header.split(' ').nth(1) else { return Credentials::Unreadable };
    let decoded = lenient_base64(encoded);
    let text = String::from_utf8_lossy(&decoded);
    let mut parts = text.split(':');
    match (parts.next(), parts.next()) {
        (Some(key), Some(secret)) => Credentials::Pair(key.to_owned(), secret.to_owned()),
        _ => Credentials::Unreadable,
    }
}

/// Base64 as PHP reads it: what is not of the alphabet is skipped, padding may be missing. No library is so forgiving.
fn lenient_base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(six)) & 0x3_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            #[expect(clippy::cast_possible_truncation, reason = "the byte above the bits still waiting")]
            out.push((bits >> count) as u8);
        }
    }
    out
}
