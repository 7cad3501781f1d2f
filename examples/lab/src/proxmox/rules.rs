//! The endpoints: who answers, what it takes to be allowed, which parameters there are.

use super::model::Kind;
use super::profile::Profile;

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    /// Below `/api2/json`; `{…}` is one segment.
    pub(crate) path: &'static str,
    /// Handed on to the node's privileged daemon, so that a second `Connection` header appears.
    pub(crate) daemon: bool,
    pub(crate) needs: Needs,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) action: Action,
}

/// What a token must have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    /// Any token; what it may not see is left out silently.
    Nothing,
    /// One of these on the path.
    AnyOf(&'static str, &'static [&'static str]),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Root,
    Version,
    Resources,
    ClusterStatus,
    ClusterTasks,
    NextId,
    HaStatus,
    HaResources,
    Nodes,
    NodeStatus,
    NodeVersion,
    Guests(Kind),
    GuestIndex(Kind),
    Config(Kind),
    Current(Kind),
    Snapshots(Kind),
    Change(Kind, Change),
    Storages,
    StorageStatus,
    StorageContent,
    StorageConfig,
    Tasks,
    TaskIndex,
    TaskStatus,
    TaskLog,
    TaskStop,
    Permissions,
}

/// What is done to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Start,
    Stop,
    Shutdown,
    Reboot,
    Suspend,
    Resume,
    Reset,
    Snapshot,
    DeleteSnapshot,
    Rollback,
    Destroy,
}

/// One parameter.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) optional: bool,
    pub(crate) since: Profile,
    pub(crate) root_only: bool,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Text,
    Integer,
    Boolean,
    Vmid,
    ConfigId,
    StorageId,
    Content,
    OneOf(&'static [&'static str]),
}

const fn optional(name: &'static str, shape: Shape) -> Parameter {
    Parameter { name, shape, optional: true, since: Profile::V7_4, root_only: false }
}

const fn required(name: &'static str, shape: Shape) -> Parameter {
    Parameter { name, shape, optional: false, since: Profile::V7_4, root_only: false }
}

impl Parameter {
    const fn since(mut self, since: Profile) -> Self {
        self.since = since;
        self
    }

    const fn root_only(mut self) -> Self {
        self.root_only = true;
        self
    }
}

const fn rule(method: &'static str, path: &'static str, action: Action) -> Rule {
    Rule { method, path, daemon: false, needs: Needs::Nothing, parameters: &[], action }
}

const fn get(path: &'static str, action: Action) -> Rule {
    rule("GET", path, action)
}

const fn post(path: &'static str, action: Action) -> Rule {
    rule("POST", path, action).daemon()
}

const fn delete(path: &'static str, action: Action) -> Rule {
    rule("DELETE", path, action).daemon()
}

impl Rule {
    const fn daemon(mut self) -> Self {
        self.daemon = true;
        self
    }

    const fn needs(mut self, path: &'static str, privileges: &'static [&'static str]) -> Self {
        self.needs = Needs::AnyOf(path, privileges);
        self
    }

    const fn takes(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }
}

const GUEST: &str = "/vms/{vmid}";
const STORE: &str = "/storage/{storage}";
const AUDIT: &[&str] = &["VM.Audit"];
const POWER: &[&str] = &["VM.PowerMgmt"];
const SNAPSHOT: &[&str] = &["VM.Snapshot"];
const ROLLBACK: &[&str] = &["VM.Snapshot", "VM.Snapshot.Rollback"];
const ALLOCATE: &[&str] = &["VM.Allocate"];
const STORES: &[&str] = &["Datastore.Audit", "Datastore.AllocateSpace"];

const VMID: Parameter = required("vmid", Shape::Vmid);
const SKIPLOCK: Parameter = optional("skiplock", Shape::Boolean).root_only();
const TIMEOUT: Parameter = optional("timeout", Shape::Integer);
const SNAPNAME: Parameter = required("snapname", Shape::ConfigId);
const UPID: Parameter = required("upid", Shape::Text);

const CONFIG: &[Parameter] = &[VMID, optional("current", Shape::Boolean), optional("snapshot", Shape::ConfigId)];
const START: &[Parameter] = &[
    VMID,
    SKIPLOCK,
    TIMEOUT,
    optional("force-cpu", Shape::Text).root_only(),
    optional("machine", Shape::Text),
    optional("migratedfrom", Shape::Text).root_only(),
    optional("migration_network", Shape::Text).root_only(),
    optional("migration_type", Shape::OneOf(&["secure", "insecure"])).root_only(),
    optional("stateuri", Shape::Text).root_only(),
    optional("targetstorage", Shape::Text).root_only(),
    optional("with-conntrack-state", Shape::Boolean).since(Profile::V9_0).root_only(),
];
const STOP: &[Parameter] = &[
    VMID,
    SKIPLOCK,
    TIMEOUT,
    optional("keepActive", Shape::Boolean).root_only(),
    optional("migratedfrom", Shape::Text).root_only(),
    optional("overrule-shutdown", Shape::Boolean).since(Profile::V8_4),
];
const SHUTDOWN: &[Parameter] = &[
    VMID,
    SKIPLOCK,
    TIMEOUT,
    optional("forceStop", Shape::Boolean),
    optional("keepActive", Shape::Boolean).root_only(),
];
const CT_STOP: &[Parameter] = &[VMID, SKIPLOCK, optional("overrule-shutdown", Shape::Boolean).since(Profile::V8_4)];
const TASKS: &[Parameter] = &[
    optional("errors", Shape::Boolean),
    optional("limit", Shape::Integer),
    optional("since", Shape::Integer),
    optional("source", Shape::OneOf(&["archive", "active", "all"])),
    optional("start", Shape::Integer),
    optional("statusfilter", Shape::Text),
    optional("typefilter", Shape::Text),
    optional("until", Shape::Integer),
    optional("userfilter", Shape::Text),
    optional("vmid", Shape::Vmid),
];
const LOG: &[Parameter] =
    &[UPID, optional("download", Shape::Boolean), optional("limit", Shape::Integer), optional("start", Shape::Integer)];
const STORAGES: &[Parameter] = &[
    optional("content", Shape::Content),
    optional("enabled", Shape::Boolean),
    optional("format", Shape::Boolean),
    optional("storage", Shape::StorageId),
    optional("target", Shape::Text),
];
const CONTENT: &[Parameter] =
    &[required("storage", Shape::StorageId), optional("content", Shape::Content), optional("vmid", Shape::Vmid)];
const DESTROY: &[Parameter] =
    &[VMID, SKIPLOCK, optional("purge", Shape::Boolean), optional("destroy-unreferenced-disks", Shape::Boolean)];
const CT_DESTROY: &[Parameter] = &[
    VMID,
    optional("force", Shape::Boolean),
    optional("purge", Shape::Boolean),
    optional("destroy-unreferenced-disks", Shape::Boolean),
];
const SNAPSHOT_OF_VM: &[Parameter] =
    &[VMID, SNAPNAME, optional("description", Shape::Text), optional("vmstate", Shape::Boolean)];
const SNAPSHOT_OF_CT: &[Parameter] = &[VMID, SNAPNAME, optional("description", Shape::Text)];
const DELETE_SNAPSHOT: &[Parameter] = &[VMID, SNAPNAME, optional("force", Shape::Boolean)];
const ROLL_BACK: &[Parameter] = &[VMID, SNAPNAME, optional("start", Shape::Boolean)];

use Kind::{Container as Ct, Vm};

/// Everything that is not `501 … not implemented`.
pub(crate) const RULES: &[Rule] = &[
    get("/", Action::Root),
    get("/version", Action::Version),
    get("/access/permissions", Action::Permissions)
        .takes(&[optional("path", Shape::Text), optional("userid", Shape::Text)]),
    get("/cluster/resources", Action::Resources)
        .takes(&[optional("type", Shape::OneOf(&["vm", "storage", "node", "sdn"]))]),
    get("/cluster/status", Action::ClusterStatus).daemon().needs("/", &["Sys.Audit"]),
    get("/cluster/tasks", Action::ClusterTasks),
    get("/cluster/nextid", Action::NextId).takes(&[optional("vmid", Shape::Vmid)]),
    get("/cluster/ha/status/current", Action::HaStatus).needs("/", &["Sys.Audit"]),
    get("/cluster/ha/resources", Action::HaResources)
        .needs("/", &["Sys.Audit"])
        .takes(&[optional("type", Shape::OneOf(&["ct", "vm"]))]),
    get("/storage", Action::StorageConfig).takes(&[optional("type", Shape::Text)]),
    get("/nodes", Action::Nodes),
    get("/nodes/{node}/status", Action::NodeStatus).needs("/nodes/{node}", &["Sys.Audit"]),
    get("/nodes/{node}/version", Action::NodeVersion),
    get("/nodes/{node}/storage", Action::Storages).daemon().takes(STORAGES),
    get("/nodes/{node}/storage/{storage}/status", Action::StorageStatus)
        .daemon()
        .needs(STORE, STORES)
        .takes(&[required("storage", Shape::StorageId)]),
    get("/nodes/{node}/storage/{storage}/content", Action::StorageContent).daemon().needs(STORE, STORES).takes(CONTENT),
    get("/nodes/{node}/tasks", Action::Tasks).takes(TASKS),
    get("/nodes/{node}/tasks/{upid}", Action::TaskIndex).takes(&[UPID]),
    get("/nodes/{node}/tasks/{upid}/status", Action::TaskStatus).daemon().takes(&[UPID]),
    get("/nodes/{node}/tasks/{upid}/log", Action::TaskLog).daemon().takes(LOG),
    delete("/nodes/{node}/tasks/{upid}", Action::TaskStop).takes(&[UPID]),
    get("/nodes/{node}/qemu", Action::Guests(Vm)).daemon().takes(&[optional("full", Shape::Boolean)]),
    get("/nodes/{node}/qemu/{vmid}", Action::GuestIndex(Vm)).takes(&[VMID]),
    get("/nodes/{node}/qemu/{vmid}/config", Action::Config(Vm)).needs(GUEST, AUDIT).takes(CONFIG),
    get("/nodes/{node}/qemu/{vmid}/status/current", Action::Current(Vm)).daemon().needs(GUEST, AUDIT).takes(&[VMID]),
    post("/nodes/{node}/qemu/{vmid}/status/start", Action::Change(Vm, Change::Start)).needs(GUEST, POWER).takes(START),
    post("/nodes/{node}/qemu/{vmid}/status/stop", Action::Change(Vm, Change::Stop)).needs(GUEST, POWER).takes(STOP),
    post("/nodes/{node}/qemu/{vmid}/status/shutdown", Action::Change(Vm, Change::Shutdown))
        .needs(GUEST, POWER)
        .takes(SHUTDOWN),
    post("/nodes/{node}/qemu/{vmid}/status/reboot", Action::Change(Vm, Change::Reboot))
        .needs(GUEST, POWER)
        .takes(&[VMID, TIMEOUT]),
    post("/nodes/{node}/qemu/{vmid}/status/suspend", Action::Change(Vm, Change::Suspend))
        .needs(GUEST, POWER)
        .takes(&[VMID, SKIPLOCK]),
    post("/nodes/{node}/qemu/{vmid}/status/resume", Action::Change(Vm, Change::Resume)).needs(GUEST, POWER).takes(&[
        VMID,
        SKIPLOCK,
        optional("nocheck", Shape::Boolean),
    ]),
    post("/nodes/{node}/qemu/{vmid}/status/reset", Action::Change(Vm, Change::Reset))
        .needs(GUEST, POWER)
        .takes(&[VMID, SKIPLOCK]),
    get("/nodes/{node}/qemu/{vmid}/snapshot", Action::Snapshots(Vm)).daemon().needs(GUEST, AUDIT).takes(&[VMID]),
    post("/nodes/{node}/qemu/{vmid}/snapshot", Action::Change(Vm, Change::Snapshot))
        .needs(GUEST, SNAPSHOT)
        .takes(SNAPSHOT_OF_VM),
    delete("/nodes/{node}/qemu/{vmid}/snapshot/{snapname}", Action::Change(Vm, Change::DeleteSnapshot))
        .needs(GUEST, SNAPSHOT)
        .takes(DELETE_SNAPSHOT),
    post("/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback", Action::Change(Vm, Change::Rollback))
        .needs(GUEST, ROLLBACK)
        .takes(ROLL_BACK),
    delete("/nodes/{node}/qemu/{vmid}", Action::Change(Vm, Change::Destroy)).needs(GUEST, ALLOCATE).takes(DESTROY),
    get("/nodes/{node}/lxc", Action::Guests(Ct)).daemon(),
    get("/nodes/{node}/lxc/{vmid}", Action::GuestIndex(Ct)).takes(&[VMID]),
    get("/nodes/{node}/lxc/{vmid}/config", Action::Config(Ct)).needs(GUEST, AUDIT).takes(CONFIG),
    get("/nodes/{node}/lxc/{vmid}/status/current", Action::Current(Ct)).daemon().needs(GUEST, AUDIT).takes(&[VMID]),
    post("/nodes/{node}/lxc/{vmid}/status/start", Action::Change(Ct, Change::Start)).needs(GUEST, POWER).takes(&[
        VMID,
        SKIPLOCK,
        optional("debug", Shape::Boolean),
    ]),
    post("/nodes/{node}/lxc/{vmid}/status/stop", Action::Change(Ct, Change::Stop)).needs(GUEST, POWER).takes(CT_STOP),
    post("/nodes/{node}/lxc/{vmid}/status/shutdown", Action::Change(Ct, Change::Shutdown))
        .needs(GUEST, POWER)
        .takes(&[VMID, TIMEOUT, optional("forceStop", Shape::Boolean)]),
    post("/nodes/{node}/lxc/{vmid}/status/reboot", Action::Change(Ct, Change::Reboot))
        .needs(GUEST, POWER)
        .takes(&[VMID, TIMEOUT]),
    get("/nodes/{node}/lxc/{vmid}/snapshot", Action::Snapshots(Ct)).daemon().needs(GUEST, AUDIT).takes(&[VMID]),
    post("/nodes/{node}/lxc/{vmid}/snapshot", Action::Change(Ct, Change::Snapshot))
        .needs(GUEST, SNAPSHOT)
        .takes(SNAPSHOT_OF_CT),
    delete("/nodes/{node}/lxc/{vmid}/snapshot/{snapname}", Action::Change(Ct, Change::DeleteSnapshot))
        .needs(GUEST, SNAPSHOT)
        .takes(DELETE_SNAPSHOT),
    post("/nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback", Action::Change(Ct, Change::Rollback))
        .needs(GUEST, ROLLBACK)
        .takes(ROLL_BACK),
    delete("/nodes/{node}/lxc/{vmid}", Action::Change(Ct, Change::Destroy)).needs(GUEST, ALLOCATE).takes(CT_DESTROY),
];

impl Rule {
    /// The segments that `{…}` stand for.
    pub(crate) fn matches<'a>(&self, method: &str, segments: &[&'a str]) -> Option<Vec<(&'static str, &'a str)>> {
        let pattern: Vec<&'static str> = self.path.split('/').filter(|segment| !segment.is_empty()).collect();
        if self.method != method || pattern.len() != segments.len() {
            return None;
        }
        let mut captured = Vec::new();
        for (&expected, &given) in pattern.iter().zip(segments) {
            match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                // The vendor's routes take anything there but white space.
                Some(_) if given.contains(char::is_whitespace) => return None,
                Some(name) => captured.push((name, given)),
                None if expected != given => return None,
                None => {}
            }
        }
        Some(captured)
    }
}

impl Shape {
    /// What is wrong with this value, in the vendor's words.
    pub(crate) fn fault(self, value: &str) -> Option<String> {
        let kind = |name: &str| Some(format!("type check ('{name}') failed - got '{value}'"));
        match self {
            Self::Text => None,
            Self::Integer if !is_integer(value) => kind("integer"),
            Self::Integer if value.starts_with('-') => Some("value must have a minimum value of 0".into()),
            Self::Integer => None,
            Self::Boolean => truth(value).is_none().then(|| kind("boolean")).flatten(),
            Self::Vmid if !is_integer(value) => kind("integer"),
            Self::Vmid => {
                let fits = value.parse().is_ok_and(|vmid: u32| (100..=999_999_999).contains(&vmid));
                (!fits).then(|| "invalid format - value does not look like a valid VM ID\n".into())
            }
            // The length is looked at before the format.
            Self::ConfigId if value.chars().count() > 40 => Some("value may only be 40 characters long".into()),
            Self::ConfigId => {
                (!is_config_id(value)).then(|| format!("invalid format - invalid configuration ID '{value}'\n"))
            }
            Self::StorageId => (!is_storage_id(value))
                .then(|| format!("invalid format - storage ID '{value}' contains illegal characters\n")),
            Self::Content => value
                .split([',', ';', ' '])
                .find(|content| !CONTENTS.contains(content))
                .map(|content| format!("invalid format - invalid content type '{content}'\n")),
            Self::OneOf(values) => (!values.contains(&value))
                .then(|| format!("value '{value}' does not have a value in the enumeration '{}'", values.join(", "))),
        }
    }
}

const CONTENTS: &[&str] = &["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import"];

/// As the vendor reads booleans.
pub(crate) fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

fn is_integer(value: &str) -> bool {
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_config_id(value: &str) -> bool {
    let mut bytes = value.bytes();
    value.len() >= 2
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn is_storage_id(value: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    value.len() >= 2
        && value.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && edge(value.bytes().last())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
