//! The versions, and what differs between them on the wire.

/// A version of Proxmox VE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// 7.4: error texts only in the reason phrase; numbers as strings here and there.
    V7_4,
    /// 8.4: error texts also in the body.
    V8_4,
    /// 9.0: without `VM.Monitor`, with `memhost`, `pressure…` and network rows.
    V9_0,
    /// 9.2: `host-arch`, one text for every failed authentication.
    V9_2,
}

impl Profile {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V7_4, Self::V8_4, Self::V9_0, Self::V9_2];

    /// As `/version` says it.
    pub fn release(self) -> &'static str {
        match self {
            Self::V7_4 => "7.4",
            Self::V8_4 => "8.4",
            Self::V9_0 => "9.0",
            Self::V9_2 => "9.2",
        }
    }

    /// As `/version` says it; 7.x wrote its patch level after a dash.
    pub fn version(self) -> &'static str {
        match self {
            Self::V7_4 => "7.4-20",
            Self::V8_4 => "8.4.21",
            Self::V9_0 => "9.0.11",
            Self::V9_2 => "9.2.11",
        }
    }

    pub(crate) fn repoid(self) -> &'static str {
        match self {
            Self::V7_4 => "7f3c2a10",
            Self::V8_4 => "84d19b6c52e07f31",
            Self::V9_0 => "90ab44f1d3c7e285",
            Self::V9_2 => "92c05e7716ad8b43",
        }
    }

    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Self::V7_4 => "5.15.158-2-pve",
            Self::V8_4 => "6.8.12-15-pve",
            Self::V9_0 => "6.14.11-4-pve",
            Self::V9_2 => "6.17.13-6-pve",
        }
    }

    /// `message` in the body (libpve-http-server-perl 5.2.0, January 2025); before, only the reason phrase has it.
    pub(crate) fn says_it_in_the_body(self) -> bool {
        self >= Self::V8_4
    }

    /// "Authentication failed!" whatever the cause (early 2026, 8.4's later packages too).
    pub(crate) fn hides_why_authentication_failed(self) -> bool {
        matches!(self, Self::V8_4 | Self::V9_2)
    }

    /// Every privilege there is.
    pub(crate) fn privileges(self) -> Vec<&'static str> {
        let guest: &[&str] = if self >= Self::V9_0 {
            &[
                "VM.GuestAgent.Audit",
                "VM.GuestAgent.FileRead",
                "VM.GuestAgent.FileSystemMgmt",
                "VM.GuestAgent.FileWrite",
                "VM.GuestAgent.Unrestricted",
                "VM.Replicate",
            ]
        } else {
            &["VM.Monitor"]
        };
        let network: &[&str] = if self >= Self::V8_4 {
            &["Mapping.Audit", "Mapping.Modify", "Mapping.Use", "SDN.Use", "Sys.AccessNetwork"]
        } else {
            &[]
        };
        [COMMON, guest, network].concat()
    }
}

const COMMON: &[&str] = &[
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "Group.Allocate",
    "Permissions.Modify",
    "Pool.Allocate",
    "Pool.Audit",
    "Realm.Allocate",
    "Realm.AllocateUser",
    "SDN.Allocate",
    "SDN.Audit",
    "Sys.Audit",
    "Sys.Console",
    "Sys.Incoming",
    "Sys.Modify",
    "Sys.PowerMgmt",
    "Sys.Syslog",
    "User.Modify",
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.Migrate",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
];
