//! What a cluster consists of.

use serde_json::Value;
use std::time::Duration;

/// A virtual machine or a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `qemu`
    Vm,
    /// `lxc`
    Container,
}

impl Kind {
    /// In paths and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vm => "qemu",
            Self::Container => "lxc",
        }
    }

    /// In the vendor's texts.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Vm => "VM",
            Self::Container => "CT",
        }
    }

    pub(crate) fn task_prefix(self) -> &'static str {
        match self {
            Self::Vm => "qm",
            Self::Container => "vz",
        }
    }

    pub(crate) fn config_directory(self) -> &'static str {
        match self {
            Self::Vm => "qemu-server",
            Self::Container => "lxc",
        }
    }

    pub(crate) fn lock_file(self, vmid: u32) -> String {
        match self {
            Self::Vm => format!("/var/lock/qemu-server/lock-{vmid}.conf"),
            Self::Container => format!("/run/lock/lxc/pve-config-{vmid}.lock"),
        }
    }
}

/// Whether a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// No process.
    Stopped,
    /// Since this second of the Unix epoch.
    Running(i64),
    /// `status` says running, `qmpstatus` says paused; since when as for running.
    Paused(i64),
}

impl Run {
    pub(crate) fn since(self) -> Option<i64> {
        match self {
            Self::Stopped => None,
            Self::Running(since) | Self::Paused(since) => Some(since),
        }
    }
}

/// What a guest does when asked to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// It does.
    Obeys,
    /// Nothing, until the time-out.
    Ignores,
}

/// What the HA manager makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It carries it out this much later, in the vendor's seconds.
    After(u32),
    /// It never does (no LRM, fencing, an error state).
    Never,
}

/// A guest under HA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ha {
    /// `started`, `stopped`, `error`, `fence` …
    pub state: String,
    /// Dropped by 9.0.
    pub group: Option<String>,
    /// What happens after a request.
    pub follows: Follows,
}

/// A disk or a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// `scsi0`, `rootfs`, `mp0` …
    pub key: String,
    /// `storage:volume`
    pub volume: String,
    /// In bytes.
    pub size: u64,
}

impl Disk {
    /// On which storage.
    pub fn storage(&self) -> &str {
        self.volume.split_once(':').map_or(&*self.volume, |(storage, _)| storage)
    }
}

/// A snapshot of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Unique in the guest.
    pub name: String,
    /// May be empty.
    pub description: String,
    /// Seconds of the Unix epoch.
    pub time: i64,
    /// With RAM.
    pub vmstate: bool,
    /// The one before.
    pub parent: Option<String>,
    /// `prepare` or `delete`: it was never finished.
    pub state: Option<String>,
}

/// A guest. Tests may change any field.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Unique in the cluster.
    pub vmid: u32,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub node: String,
    /// Without one, the vendor makes one up.
    pub name: Option<String>,
    /// Whether it runs.
    pub run: Run,
    /// Cannot be started.
    pub template: bool,
    /// `backup`, `snapshot`, `migrate` …
    pub lock: Option<String>,
    /// In order.
    pub tags: Vec<String>,
    /// The resource pool.
    pub pool: Option<String>,
    /// Cannot be removed.
    pub protection: bool,
    /// Virtual CPUs.
    pub cores: u32,
    /// In MiB.
    pub memory: u64,
    /// In the order of the configuration.
    pub disks: Vec<Disk>,
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Several lines, maybe.
    pub description: Option<String>,
    /// The QEMU guest agent is switched on.
    pub agent: bool,
    /// What it does when asked to shut down.
    pub on_shutdown: OnShutdown,
    /// Managed by HA.
    pub ha: Option<Ha>,
    /// Printed at each start, which then ends with warnings.
    pub start_warnings: Vec<String>,
    /// Further keys of the configuration.
    pub config: Vec<(String, Value)>,
    /// Changed, but not applied yet: shown by a configuration without `current=1`.
    pub pending: Vec<(String, Value)>,
}

impl Guest {
    /// Stopped, on `pve1`, one core, 1 GiB, no disk.
    pub fn new(kind: Kind, vmid: u32, name: &str) -> Self {
        Self {
            vmid,
            kind,
            node: "pve1".into(),
            name: Some(name.into()),
            run: Run::Stopped,
            template: false,
            lock: None,
            tags: Vec::new(),
            pool: None,
            protection: false,
            cores: 1,
            memory: 1024,
            disks: Vec::new(),
            snapshots: Vec::new(),
            description: None,
            agent: false,
            on_shutdown: OnShutdown::Obeys,
            ha: None,
            start_warnings: Vec::new(),
            config: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// A virtual machine.
    pub fn vm(vmid: u32, name: &str) -> Self {
        Self::new(Kind::Vm, vmid, name)
    }

    /// A container.
    pub fn container(vmid: u32, name: &str) -> Self {
        Self::new(Kind::Container, vmid, name)
    }

    /// On this node.
    #[must_use]
    pub fn on(self, node: &str) -> Self {
        Self { node: node.into(), ..self }
    }

    /// With these cores and MiB of memory.
    #[must_use]
    pub fn size(self, cores: u32, memory: u64) -> Self {
        Self { cores, memory, ..self }
    }

    /// With one more disk: key, volume, GiB.
    #[must_use]
    pub fn disk(mut self, key: &str, volume: &str, gib: u64) -> Self {
        self.disks.push(Disk { key: key.into(), volume: volume.into(), size: gib << 30 });
        self
    }

    /// With these tags.
    #[must_use]
    pub fn tags(self, tags: &[&str]) -> Self {
        Self { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..self }
    }

    /// Not stopped.
    pub fn is_running(&self) -> bool {
        self.run != Run::Stopped
    }

    /// What the vendor calls it.
    pub(crate) fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| match self.kind {
            Kind::Vm => format!("VM {}", self.vmid),
            Kind::Container => format!("CT{}", self.vmid),
        })
    }

    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.kind.name(), self.vmid)
    }
}

/// How the other members see a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Up.
    Online,
    /// Up, but its figures have not arrived yet: its guests are `unknown`, without names.
    Booting,
    /// Down; asking for it fails with 595 and this cause.
    Offline(Unreachable),
}

/// Why a node cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// At once.
    ConnectionRefused,
    /// After three of the vendor's seconds.
    NoRoute,
}

/// A member of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// A host name.
    pub name: String,
    /// How it is seen.
    pub state: NodeState,
    /// Threads.
    pub cpus: u32,
    /// In bytes.
    pub memory: u64,
    /// Root file system, in bytes.
    pub disk: u64,
}

/// A storage, defined for the cluster.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Its ID.
    pub name: String,
    /// `dir`, `nfs`, `zfspool`, `lvmthin`, `pbs` …
    pub plugin: &'static str,
    /// What it may hold.
    pub content: &'static [&'static str],
    /// The same on every node.
    pub shared: bool,
    /// Can be reached.
    pub active: bool,
    /// Not switched off in the configuration.
    pub enabled: bool,
    /// In bytes.
    pub total: u64,
    /// In bytes.
    pub used: u64,
    /// Only there; everywhere when empty.
    pub nodes: Vec<String>,
}

impl Storage {
    pub(crate) fn is_on(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|name| name == node)
    }

    /// Whether a volume there can be part of a snapshot.
    pub(crate) fn takes_snapshots_of(&self, volume: &str) -> bool {
        match self.plugin {
            "zfspool" | "lvmthin" | "rbd" | "btrfs" => true,
            "dir" | "nfs" | "cifs" => volume.ends_with(".qcow2"),
            _ => false,
        }
    }
}

/// A backup on a storage.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Where it is.
    pub storage: String,
    /// On which node, when the storage is not shared.
    pub node: Option<String>,
    /// What was backed up.
    pub kind: Kind,
    /// Whose.
    pub vmid: u32,
    /// Seconds of the Unix epoch.
    pub time: i64,
    /// In bytes.
    pub size: u64,
    /// The first line is listed.
    pub notes: Option<String>,
    /// Kept by pruning.
    pub protected: bool,
    /// `ok` or `failed`; only a backup server verifies.
    pub verification: Option<&'static str>,
    /// A fingerprint; only on a backup server.
    pub encrypted: Option<String>,
}

/// Which part of a node answers requests that need more than reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// As usual.
    Up,
    /// 595 at once.
    Down,
    /// 596 after 30 of the vendor's seconds; what was asked for happens nevertheless.
    Hung,
}

/// How a task ends, when it is not to be decided by the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `exitstatus: OK`.
    Ok,
    /// `exitstatus: WARNINGS: n`, with these lines in the log.
    Warnings(Vec<String>),
    /// This text.
    Error(String),
    /// This `exitstatus`, which says nothing; done or not.
    Unclear {
        /// `unexpected status`, `unable to read tail (got 0 bytes)` …
        status: String,
        /// Whether it did what it was to do.
        done: bool,
    },
}

/// The times that are the vendor's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// One second of the vendor's.
    pub(crate) second: Duration,
    /// A start, a stop, a snapshot.
    pub(crate) task: Duration,
    /// `/cluster/resources` is this old at most.
    pub(crate) lag: Duration,
    /// A connection without a request.
    pub(crate) idle: Duration,
}
