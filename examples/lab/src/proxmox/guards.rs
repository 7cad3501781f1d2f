//! What the vendor refuses, at which moment, in which order and in which words.
//!
//! Virtual machines are mostly looked at by the task, containers mostly by the request: the same mistake is a
//! failed task for the one and a 500 for the other.

use super::cluster::Cluster;
use super::model::{Guest, Kind, Run};
use super::tasks::Verb;

/// One reason to refuse.
struct Guard {
    kind: Kind,
    verbs: &'static [&'static str],
    when: When,
    /// `{vmid}`, `{lock}`, `{config}`, `{storage}`, `{name}` and `{node}` are filled in.
    text: &'static str,
}

#[derive(Clone, Copy)]
enum When {
    Missing,
    NoQuorum,
    Running,
    RunningUnlessForced,
    NotRunning,
    Paused,
    Template,
    Locked,
    /// A stopped guest is not looked at any further.
    LockedAndRunning,
    Protected,
    /// Under HA, and not to be purged from there.
    Managed,
    StorageMissing,
    NoSnapshots,
    NameTaken,
    NoSuchSnapshot,
    NameReserved(&'static str),
}

const fn guard(kind: Kind, verbs: &'static [&'static str], when: When, text: &'static str) -> Guard {
    Guard { kind, verbs, when, text }
}

const CONFIG: &str = "Configuration file '{config}' does not exist";
const NOT_FOUND: &str = "unable to find configuration file for VM {vmid} on node '{node}'";
const READ_ONLY: &str = "unable to open file '/etc/pve/{config}.tmp.{pid}' - Permission denied";
const HA: &str = "unable to remove {short} {vmid} - used in HA resources and purge parameter not set.";
const PROTECTED: &str = "can't remove {short} {vmid} - protection mode enabled";
const RESERVED: &str = "unable to use snapshot name '{name}' (reserved name)";
const LOCKED: &str = "{short} is locked ({lock})";
const SNAPSHOTS: &[&str] = &["snapshot", "delsnapshot", "rollback"];

/// Checked by the request: 500 at once.
const BY_THE_REQUEST: &[Guard] = &[
    guard(Kind::Vm, &["start"], When::NoQuorum, "cluster not ready - no quorum?"),
    guard(Kind::Vm, &["shutdown", "reboot"], When::Paused, "VM is paused - cannot shutdown"),
    guard(Kind::Vm, &["reboot"], When::Missing, NOT_FOUND),
    guard(Kind::Vm, &["reboot"], When::NotRunning, "VM {vmid} not running"),
    guard(Kind::Vm, &["suspend", "resume", "reset"], When::Missing, NOT_FOUND),
    guard(Kind::Vm, &["suspend", "resume", "reset"], When::NotRunning, "VM {vmid} not running"),
    guard(Kind::Vm, &["snapshot"], When::NameReserved("current"), RESERVED),
    guard(Kind::Vm, &["snapshot"], When::NameReserved("pending"), RESERVED),
    guard(Kind::Vm, &["snapshot"], When::Missing, CONFIG),
    guard(Kind::Vm, &["destroy"], When::Missing, CONFIG),
    guard(Kind::Vm, &["destroy"], When::Protected, PROTECTED),
    guard(Kind::Vm, &["destroy"], When::Managed, HA),
    guard(Kind::Vm, &["destroy"], When::Running, "VM {vmid} is running - destroy failed"),
    guard(Kind::Container, &["start"], When::Running, "CT {vmid} already running"),
    guard(Kind::Container, &["start"], When::NoQuorum, "cluster not ready - no quorum?"),
    guard(Kind::Container, &["stop", "shutdown", "suspend"], When::NotRunning, "CT {vmid} not running"),
    guard(Kind::Container, &["reboot"], When::NotRunning, "VM {vmid} not running"),
    guard(Kind::Container, &["snapshot"], When::NameReserved("current"), RESERVED),
    guard(Kind::Container, &["snapshot"], When::NameReserved("vzdump"), RESERVED),
    guard(Kind::Container, &["snapshot"], When::Missing, CONFIG),
    guard(Kind::Container, &["destroy"], When::Missing, CONFIG),
    guard(Kind::Container, &["destroy"], When::Protected, PROTECTED),
    guard(Kind::Container, &["destroy"], When::Locked, LOCKED),
    guard(Kind::Container, &["destroy"], When::Managed, HA),
    guard(
        Kind::Container,
        &["destroy"],
        When::RunningUnlessForced,
        "unable to destroy CT {vmid} - container is running",
    ),
];

/// Checked by the task: its exit status.
const BY_THE_TASK: &[Guard] = &[
    guard(Kind::Vm, &["start"], When::Missing, CONFIG),
    guard(Kind::Vm, &["start"], When::Template, "you can't start a vm if it's a template"),
    guard(Kind::Vm, &["start"], When::Locked, LOCKED),
    guard(Kind::Vm, &["start"], When::Running, "VM {vmid} already running"),
    guard(Kind::Vm, &["start"], When::StorageMissing, "storage '{storage}' does not exist"),
    guard(Kind::Vm, &["stop", "shutdown"], When::Missing, NOT_FOUND),
    guard(Kind::Vm, &["stop", "shutdown", "reboot"], When::LockedAndRunning, LOCKED),
    guard(Kind::Vm, &["suspend", "resume", "reset"], When::Locked, LOCKED),
    guard(Kind::Vm, &["snapshot"], When::Template, "you can't take a snapshot if it's a template"),
    guard(Kind::Vm, SNAPSHOTS, When::Missing, CONFIG),
    guard(Kind::Vm, SNAPSHOTS, When::Locked, LOCKED),
    guard(Kind::Vm, &["snapshot"], When::NameTaken, "snapshot name '{name}' already used"),
    guard(Kind::Vm, &["delsnapshot", "rollback"], When::NoSuchSnapshot, "snapshot '{name}' does not exist"),
    guard(Kind::Vm, &["snapshot"], When::StorageMissing, "storage '{storage}' does not exist"),
    guard(Kind::Vm, &["snapshot"], When::NoSnapshots, "snapshot feature is not available"),
    guard(Kind::Vm, &["destroy"], When::Missing, CONFIG),
    guard(Kind::Vm, &["destroy"], When::Protected, PROTECTED),
    guard(Kind::Vm, &["destroy"], When::Running, "VM {vmid} is running - destroy failed"),
    guard(Kind::Vm, &["destroy"], When::Locked, LOCKED),
    guard(Kind::Vm, &["snapshot", "delsnapshot", "rollback", "destroy"], When::NoQuorum, READ_ONLY),
    guard(Kind::Container, &["start"], When::Missing, CONFIG),
    guard(Kind::Container, &["start"], When::Template, "you can't start a CT if it's a template"),
    guard(Kind::Container, &["start", "stop", "shutdown", "reboot", "suspend"], When::Locked, LOCKED),
    guard(Kind::Container, &["start"], When::StorageMissing, "storage '{storage}' does not exist"),
    guard(Kind::Container, &["snapshot"], When::Template, "you can't take a snapshot if it's a template"),
    guard(Kind::Container, SNAPSHOTS, When::Missing, CONFIG),
    guard(Kind::Container, SNAPSHOTS, When::Locked, LOCKED),
    guard(Kind::Container, &["snapshot"], When::NameTaken, "snapshot name '{name}' already used"),
    guard(Kind::Container, &["delsnapshot", "rollback"], When::NoSuchSnapshot, "snapshot '{name}' does not exist"),
    guard(Kind::Container, &["snapshot"], When::NoSnapshots, "snapshot feature is not available"),
    guard(Kind::Container, &["destroy"], When::Missing, CONFIG),
    guard(Kind::Container, &["destroy"], When::Protected, PROTECTED),
    guard(Kind::Container, &["destroy"], When::Locked, LOCKED),
    guard(
        Kind::Container,
        &["destroy"],
        When::RunningUnlessForced,
        "unable to destroy CT {vmid} - container is running",
    ),
    guard(Kind::Container, &["snapshot", "delsnapshot", "rollback", "destroy"], When::NoQuorum, READ_ONLY),
];

/// What is to be done, and to whom.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) node: &'a str,
    pub(crate) kind: Kind,
    pub(crate) vmid: u32,
    pub(crate) verb: &'a Verb,
    pub(crate) pid: u32,
}

/// Why the request is refused.
pub(crate) fn refused_by_the_request(cluster: &Cluster, attempt: Attempt<'_>) -> Option<String> {
    refused(cluster, attempt, BY_THE_REQUEST)
}

/// Why the task fails.
pub(crate) fn refused_by_the_task(cluster: &Cluster, attempt: Attempt<'_>) -> Option<String> {
    refused(cluster, attempt, BY_THE_TASK)
}

fn refused(cluster: &Cluster, attempt: Attempt<'_>, table: &[Guard]) -> Option<String> {
    let name = attempt.verb.name();
    let of_interest = |guard: &&Guard| guard.kind == attempt.kind && guard.verbs.contains(&name);
    let guard = table.iter().filter(of_interest).find(|guard| guard.when.holds(cluster, attempt))?;
    Some(fill(guard.text, cluster, attempt))
}

impl When {
    fn holds(self, cluster: &Cluster, attempt: Attempt<'_>) -> bool {
        let found = cluster.guest_on(attempt.node, attempt.kind, attempt.vmid);
        let is = |test: &dyn Fn(&Guest) -> bool| found.is_some_and(test);
        match self {
            Self::Missing => found.is_none(),
            Self::NoQuorum => !cluster.quorate,
            Self::Running => is(&Guest::is_running),
            Self::RunningUnlessForced => is(&Guest::is_running) && !attempt.verb.is_forced(),
            Self::NotRunning => !is(&Guest::is_running),
            Self::Paused => is(&|guest| matches!(guest.run, Run::Paused(_))) && !attempt.verb.is_forced(),
            Self::Template => is(&|guest| guest.template),
            Self::Locked => is(&|guest| guest.lock.is_some()),
            Self::LockedAndRunning => is(&|guest| guest.lock.is_some() && guest.is_running()),
            Self::Protected => is(&|guest| guest.protection),
            Self::Managed => is(&|guest| guest.ha.is_some()) && !attempt.verb.purges(),
            Self::StorageMissing => is(&|guest| missing_storage(cluster, guest).is_some()),
            Self::NoSnapshots => is(&|guest| !guest.disks.iter().all(|disk| cluster.takes_snapshots_of(disk))),
            Self::NameTaken => is(&|guest| has_snapshot(guest, attempt.verb)),
            Self::NoSuchSnapshot => is(&|guest| !has_snapshot(guest, attempt.verb)),
            Self::NameReserved(name) => attempt.verb.snapshot_name().is_some_and(|n| n.eq_ignore_ascii_case(name)),
        }
    }
}

fn has_snapshot(guest: &Guest, verb: &Verb) -> bool {
    guest.snapshots.iter().any(|snapshot| verb.snapshot_name() == Some(&snapshot.name))
}

fn missing_storage<'a>(cluster: &Cluster, guest: &'a Guest) -> Option<&'a str> {
    guest.disks.iter().map(|disk| disk.storage()).find(|storage| cluster.storage(storage).is_none())
}

fn fill(text: &str, cluster: &Cluster, attempt: Attempt<'_>) -> String {
    let guest = cluster.guest_on(attempt.node, attempt.kind, attempt.vmid);
    let lock = guest.and_then(|guest| guest.lock.as_deref()).unwrap_or_default();
    let storage = guest.and_then(|guest| missing_storage(cluster, guest)).unwrap_or_default();
    text.replace("{vmid}", &attempt.vmid.to_string())
        .replace("{short}", attempt.kind.short())
        .replace("{lock}", lock)
        .replace("{storage}", storage)
        .replace("{name}", attempt.verb.snapshot_name().unwrap_or_default())
        .replace("{node}", attempt.node)
        .replace("{pid}", &attempt.pid.to_string())
        .replace("{config}", &config_file(attempt.node, attempt.kind, attempt.vmid))
}

/// As the vendor's texts name it, below `/etc/pve`.
pub(crate) fn config_file(node: &str, kind: Kind, vmid: u32) -> String {
    format!("nodes/{node}/{}/{vmid}.conf", kind.config_directory())
}
