//! Which backups there are, over all storages that may hold one. A storage that cannot be asked costs its own rows only,
//! and is named: "none found" is an answer only together with where was looked.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{budget, failed};
use crate::{
    Core,
    backend::proxmox::{
        client,
        client::Proxmox,
        model::{Backup, Guest, GuestType, Node, Permissions, Resources, Storage, StorageId},
    },
    error::{Fault, Kind, ToolError},
    reply::{self, Page},
    times,
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// Storages that are asked side by side; a sleeping disk takes its time.
const AT_ONCE: usize = 4;

pub(crate) struct ListBackups;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListArgs {
    #[schemars(range(min = 100, max = 999_999_999))]
    vmid: Option<u32>,
    name: Option<String>,
    storage: Option<String>,
    node: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    backups: Vec<Row>,
    #[serde(flatten)]
    page: Page,
    /// Storages that were read.
    searched: Vec<String>,
    /// Storages that were not, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// What may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    vmid: Option<u32>,
    /// Of the guest, if there is one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_exists: Option<bool>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<GuestType>,
    storage: String,
    node: String,
    volid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
    protected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    encrypted: bool,
}

impl Tool for ListBackups {
    const ABOUT: About = About {
        name: "proxmox_list_backups",
        title: "List backups",
        text: "List backups of all guests or one (`vmid`, also of a deleted one, or `name`), newest first. Read `problems` and `note`.",
        level: Level::Monitor,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["backups[].name", "backups[].notes"],
    };
    type Args = ListArgs;
    type Out = ListOut;

    fn subject(args: &ListArgs) -> Option<String> {
        args.vmid.map(|vmid| vmid.to_string()).or_else(|| args.name.clone())
    }
}

impl Read for ListBackups {
    async fn read(core: Arc<Core>, _call: Call, args: ListArgs) -> Result<ListOut, ToolError> {
        const DOING: &str = "list backups";
        let found = async {
            let client = client(&core)?;
            let resources = client.resources(None).await?;
            let vmid = wanted(&resources, &args)?;
            let search = Search { vmid, storage: args.storage.as_deref(), node: args.node.as_deref() };
            let found = client.backups_everywhere(&resources, &search).await;
            if found.searched.is_empty() && found.problems.is_empty() && (args.storage.is_some() || args.node.is_some())
            {
                return Err(no_such_storage(&resources));
            }
            Ok((resources, vmid, found))
        };
        let (resources, vmid, found) = found.await.map_err(failed(&core, DOING))?;
        let note = if found.backups.is_empty() {
            Some(none_found(vmid, &found))
        } else {
            found.hidden.as_ref().map(|hidden| format!("There may be more: {hidden}."))
        };
        let held = found.held.as_ref();
        let rows = found.backups.into_iter();
        let rows = rows.map(|(storage, node, backup)| row(&resources, held, storage, node, backup)).collect();
        let (backups, page) =
            reply::page(rows, args.limit, args.cursor.as_deref(), budget(&core), "`vmid`, `storage` or `node`")
                .map_err(|problem| ToolError::invalid(DOING, problem))?;
        Ok(ListOut { backups, page, searched: found.searched, problems: found.problems, note })
    }
}

/// The guest whose backups are wanted. One that is gone may have backups, but then only its id names it.
fn wanted(resources: &Resources, args: &ListArgs) -> Result<Option<u32>, Fault> {
    let Some(name) = &args.name else { return Ok(args.vmid) };
    let called: Vec<_> = resources.guests.iter().filter(|guest| guest.name.as_ref() == Some(name)).collect();
    match (called.as_slice(), args.vmid) {
        ([one], None) => Ok(Some(one.at.vmid)),
        (many, Some(vmid)) if many.iter().any(|guest| guest.at.vmid == vmid) => Ok(Some(vmid)),
        (_, Some(vmid)) => Err(Fault::new(Kind::Conflict, format!("guest {vmid} is not called `{name}`"))
            .hint("Give either `vmid` or `name`.")),
        ([], None) => Err(Fault::new(Kind::NotFound, format!("no guest is called `{name}`"))
            .hint("Call proxmox_list_vms for the guests there are; backups of one that is gone are found by `vmid`.")),
        (many, None) => {
            let ids: Vec<_> = many.iter().map(|guest| guest.at.vmid.to_string()).collect();
            Err(Fault::new(Kind::Conflict, format!("several guests are called `{name}`: {}", ids.join(", ")))
                .hint("Call again with `vmid`."))
        }
    }
}

fn no_such_storage(resources: &Resources) -> Fault {
    let mut names: Vec<_> =
        holding(resources).map(|storage| format!("{} on {}", storage.storage, storage.node)).collect();
    names.dedup();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Fault::new(Kind::NotFound, format!("no storage that may hold backups fits; there are: {names}"))
        .hint("Correct `storage` or `node`, or leave them out.")
}

/// Where to look.
pub(super) struct Search<'a> {
    pub(super) vmid: Option<u32>,
    pub(super) storage: Option<&'a str>,
    pub(super) node: Option<&'a str>,
}

/// What was found, and where was looked.
#[derive(Default)]
pub(super) struct Backups {
    /// Newest first.
    pub(super) backups: Vec<(StorageId, Node, Backup)>,
    pub(super) searched: Vec<String>,
    pub(super) problems: Vec<String>,
    /// Why some may be hidden.
    pub(super) hidden: Option<String>,
    pub(super) held: Option<Permissions>,
}

/// The storages that may hold backups.
fn holding(resources: &Resources) -> impl Iterator<Item = &Storage> {
    resources.storages.iter().filter(|storage| storage.content.iter().any(|kind| kind == "backup"))
}

/// Each storage once: a shared one through the node that sees it best.
fn places<'a>(resources: &'a Resources, search: &Search<'_>) -> Vec<&'a Storage> {
    let online = |storage: &Storage| {
        // A node that the token does not see in the list is taken to be there.
        resources.nodes.iter().find(|node| node.node == storage.node).is_none_or(|node| node.is_online())
    };
    let fits = |storage: &&Storage| {
        search.storage.is_none_or(|name| name == storage.storage.as_str())
            && search.node.is_none_or(|node| node == storage.node.as_str())
    };
    let mut places: Vec<&Storage> = Vec::new();
    for storage in holding(resources).filter(fits) {
        let better = |one: &Storage| (one.is_available(), online(one));
        match places.iter_mut().find(|known| storage.shared && known.shared && known.storage == storage.storage) {
            Some(known) if better(storage) > better(known) => *known = storage,
            Some(_) => {}
            None => places.push(storage),
        }
    }
    places
}

impl Proxmox {
    /// The backups on every storage that may hold some.
    pub(super) async fn backups_everywhere(&self, resources: &Resources, search: &Search<'_>) -> Backups {
        let places: Vec<_> = places(resources, search).into_iter().cloned().collect();
        let offline = resources.offline();
        let mut found = Backups::default();
        let asked = stream::iter(places.into_iter().map(|place: Storage| {
            let off = offline.contains(&&place.node);
            async move {
                let answer = if off {
                    Err(Fault::new(Kind::Unreachable, format!("node {} is offline", place.node)))
                } else {
                    self.backups(&place.node, &place.storage, search.vmid).await
                };
                (place, answer)
            }
        }));
        let answers: Vec<_> = asked.buffered(AT_ONCE).collect().await;
        let mut readable = Vec::new();
        for (place, answer) in answers {
            let name =
                if place.shared { place.storage.to_string() } else { format!("{} on {}", place.storage, place.node) };
            match answer {
                Ok(list) => {
                    found.searched.push(name);
                    readable.push(place.storage.clone());
                    let list =
                        list.into_iter().filter(|backup| search.vmid.is_none_or(|vmid| backup.vmid == Some(vmid)));
                    found.backups.extend(list.map(|backup| (place.storage.clone(), place.node.clone(), backup)));
                }
                Err(fault) => found.problems.push(format!("{name}: {}", fault.cause)),
            }
        }
        found.backups.sort_by(|(_, _, a), (_, _, b)| (b.created, &a.volid).cmp(&(a.created, &b.volid)));
        // The server hides without a word, so that a list alone proves nothing.
        (found.held, found.hidden) = match self.permissions().await {
            Ok(held) => {
                let hidden = hidden(&held, &readable, search.vmid);
                (Some(held), hidden)
            }
            Err(fault) => {
                (None, Some(format!("whether the API token may see all of them cannot be read ({})", fault.cause)))
            }
        };
        found
    }
}

/// The server leaves out, without a word, backups that the token may not see: it needs Datastore.Allocate on the storage,
/// or Datastore.AllocateSpace there and VM.Backup on the guest.
fn hidden(held: &Permissions, searched: &[StorageId], vmid: Option<u32>) -> Option<String> {
    if searched.is_empty() {
        let any = held.has("/storage", "Datastore.Audit") || held.has("/storage", "Datastore.AllocateSpace");
        return (!any)
            .then(|| "the API token lacks Datastore.Audit on /storage, so storages are hidden from it".to_owned());
    }
    let guest = vmid.map_or_else(|| "/vms".to_owned(), |vmid| format!("/vms/{vmid}"));
    let mut lacking = Vec::new();
    for storage in searched {
        let path = format!("/storage/{storage}");
        if held.has(&path, "Datastore.Allocate") {
            continue;
        }
        for (path, privilege) in [(&path, "Datastore.AllocateSpace"), (&guest, "VM.Backup")] {
            if !held.has(path, privilege) {
                lacking.push(format!("{privilege} on {path}"));
            }
        }
    }
    // One storage is on many nodes, and one guest is behind all of them.
    lacking.sort();
    lacking.dedup();
    (!lacking.is_empty()).then(|| {
        format!("the API token lacks {}, and Proxmox VE hides backups from it without them", lacking.join(", "))
    })
}

/// The clear answer that there is none, as far as that is known.
pub(super) fn none_found(vmid: Option<u32>, found: &Backups) -> String {
    let of = vmid.map_or_else(String::new, |vmid| format!(" of guest {vmid}"));
    let mut note = if found.searched.is_empty() {
        format!("No backup{of} was found, because no storage that may hold backups could be read.")
    } else {
        format!("No backup{of} was found on {}.", found.searched.join(", "))
    };
    if !found.problems.is_empty() {
        note += &format!(" Not known for: {}.", found.problems.join("; "));
    }
    if let Some(hidden) = &found.hidden {
        note += &format!(" There may be some: {hidden}.");
    }
    note
}

fn guest_of<'a>(resources: &'a Resources, backup: &Backup) -> Option<&'a Guest> {
    resources.guests.iter().find(|guest| Some(guest.at.vmid) == backup.vmid)
}

fn row(resources: &Resources, held: Option<&Permissions>, storage: StorageId, node: Node, backup: Backup) -> Row {
    let guest = guest_of(resources, &backup);
    Row {
        vmid: backup.vmid,
        name: guest.and_then(|guest| guest.name.clone()),
        guest_exists: match (guest, backup.vmid) {
            (Some(_), _) => Some(true),
            // Only who would see the guest knows that it is gone.
            (None, Some(vmid)) => held.filter(|held| held.has(&format!("/vms/{vmid}"), "VM.Audit")).map(|_| false),
            (None, None) => None,
        },
        kind: backup.kind,
        storage: storage.to_string(),
        node: node.to_string(),
        volid: backup.volid,
        created: backup.created.and_then(times::rfc3339),
        size_bytes: backup.size,
        format: backup.format,
        notes: backup.notes,
        protected: backup.protected,
        verification: backup.verification,
        encrypted: backup.encrypted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources() -> Resources {
        Resources::read(&json!([
            {"type": "node", "node": "pve1", "status": "online"},
            {"type": "node", "node": "pve2", "status": "offline"},
            {"type": "storage", "storage": "local", "node": "pve1", "status": "available", "content": "backup,iso"},
            {"type": "storage", "storage": "local", "node": "pve2", "status": "unknown", "content": "backup,iso"},
            {"type": "storage", "storage": "nas", "node": "pve2", "status": "unknown", "content": "backup", "shared": 1},
            {"type": "storage", "storage": "nas", "node": "pve1", "status": "available", "content": "backup", "shared": 1},
            {"type": "storage", "storage": "zfs", "node": "pve1", "status": "available", "content": "images"},
            {"type": "qemu", "vmid": 100, "node": "pve1", "name": "web"},
            {"type": "qemu", "vmid": 101, "node": "pve1", "name": "twin"},
            {"type": "qemu", "vmid": 102, "node": "pve1", "name": "twin"},
        ]))
        .unwrap()
    }

    #[test]
    fn each_storage_is_asked_once_through_the_node_that_sees_it() {
        let all = resources();
        let told = |storage, node| {
            let places = places(&all, &Search { vmid: None, storage, node });
            places.iter().map(|place| format!("{}@{}", place.storage, place.node)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(None, None), "local@pve1 local@pve2 nas@pve1");
        assert_eq!(told(Some("nas"), None), "nas@pve1");
        assert_eq!(told(None, Some("pve2")), "local@pve2 nas@pve2");
        assert_eq!(told(Some("zfs"), None), "");
    }

    #[test]
    fn a_name_stands_for_one_guest() {
        let all = resources();
        let told = |value| wanted(&all, &serde_json::from_value(value).unwrap());
        assert_eq!(told(json!({"name": "web"})).unwrap(), Some(100));
        assert_eq!(told(json!({"vmid": 999})).unwrap(), Some(999));
        assert_eq!(told(json!({"vmid": 102, "name": "twin"})).unwrap(), Some(102));
        assert!(told(json!({"name": "twin"})).unwrap_err().cause.contains("101, 102"));
        assert_eq!(told(json!({"name": "gone"})).unwrap_err().kind, Kind::NotFound);
        assert_eq!(told(json!({"vmid": 100, "name": "twin"})).unwrap_err().kind, Kind::Conflict);
    }

    #[test]
    fn none_found_says_where_was_looked_and_what_may_be_hidden() {
        let held = |value| Permissions::read(&value).unwrap();
        let nas = [StorageId::new("nas").unwrap()];
        assert_eq!(hidden(&held(json!({"/storage": {"Datastore.Allocate": 1}})), &nas, Some(105)), None);
        let auditor = held(json!({"/storage": {"Datastore.Audit": 1}, "/vms": {"VM.Audit": 1}}));
        let why = hidden(&auditor, &nas, Some(105)).unwrap();
        assert!(why.contains("Datastore.AllocateSpace on /storage/nas, VM.Backup on /vms/105"), "{why}");
        assert!(hidden(&held(json!({})), &[], None).unwrap().contains("Datastore.Audit on /storage"));
        let found = Backups {
            searched: vec!["nas".to_owned()],
            problems: vec!["local on pve2: node pve2 is offline".to_owned()],
            ..Backups::default()
        };
        assert_eq!(
            none_found(Some(105), &found),
            "No backup of guest 105 was found on nas. Not known for: local on pve2: node pve2 is offline."
        );
    }
}
