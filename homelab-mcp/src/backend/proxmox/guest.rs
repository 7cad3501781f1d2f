//! Finding the guest that a caller means: by its id, which is unique in a cluster, or by its name. Looked up anew for
//! every call, since guests move; a node or type that the caller had wrong is corrected and said.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    client::Proxmox,
    model::{At, Current, Guest, GuestType, Node, Permissions, Resources},
};
use crate::{
    error::{Fault, Kind},
    target::Target,
};

/// Candidates that an error lists.
const LISTED: usize = 10;

/// The arguments of tools about one guest: `vmid` or `name` is enough, and the tools' texts say so once instead of ten
/// schemas each time.
#[derive(Clone, Deserialize, JsonSchema)]
pub(super) struct GuestArgs {
    #[schemars(range(min = 100, max = 999_999_999))]
    pub(super) vmid: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) node: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<GuestType>,
}

impl GuestArgs {
    /// For the log and for sentences: what the caller called it.
    pub(super) fn called(&self) -> String {
        match (self.vmid, &self.name) {
            (Some(vmid), _) => vmid.to_string(),
            (None, Some(name)) => format!("`{name}`"),
            (None, None) => "(none)".to_owned(),
        }
    }
}

/// A guest, found, with what its node says of it now.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) at: At,
    /// `VM 105` when it has none.
    pub(super) name: String,
    pub(super) now: Current,
    /// What the cluster's list has beside that.
    pub(super) pool: Option<String>,
    pub(super) tags: Vec<String>,
    /// What was corrected of the caller's words: a sentence.
    pub(super) note: Option<String>,
}

impl Found {
    /// `VM 105 (web)`.
    pub(super) fn label(&self) -> String {
        let (at, name) = (self.at.to_string(), &self.name);
        if *name == at { at } else { format!("{at} ({name})") }
    }

    /// `VM 105 (web, running, node pve1)`.
    pub(super) fn described(&self) -> String {
        let name = if self.name == self.at.to_string() { String::new() } else { format!("{}, ", self.name) };
        let ha = if self.now.ha_managed { ", HA-managed" } else { "" };
        format!("{} ({name}{}, node {}{ha})", self.at, self.now.state(), self.at.node)
    }

    /// As the gate judges it: under its id and its name.
    pub(super) fn target(&self) -> Target {
        Target::new("proxmox", &self.name, self.at.vmid.to_string()).state(self.now.state())
    }

    /// A sentence with what was corrected behind it.
    pub(super) fn with_note(&self, sentence: String) -> String {
        match &self.note {
            Some(note) => format!("{sentence} {note}"),
            None => sentence,
        }
    }
}

impl Proxmox {
    /// Finds a guest and reads its state from its node. One that moves meanwhile is looked up once more.
    pub(super) async fn find(&self, args: &GuestArgs) -> Result<Found, Fault> {
        let resources = self.resources(Some("vm")).await?;
        let guest = self.pick(&resources, args).await?;
        let (guest, now) = match self.current(&guest.at).await {
            Ok(now) => (guest, now),
            Err(fault) if fault.kind == Kind::NotFound => {
                let again = self.resources(Some("vm")).await?;
                let guest = self.pick(&again, args).await?;
                let now = self.current(&guest.at).await.map_err(|fault| moving(fault, &guest.at))?;
                (guest, now)
            }
            Err(fault) => return Err(self.with_node(fault, &guest.at.node).await),
        };
        let name = now.name.clone().or_else(|| guest.name.clone()).unwrap_or_else(|| guest.at.to_string());
        if let (Some(_), Some(wanted)) = (args.vmid, &args.name)
            && *wanted != name
        {
            return Err(Fault::new(Kind::Conflict, format!("{} is called `{name}`, not `{wanted}`", guest.at))
                .hint("Nothing was done. Give either `vmid` or `name`."));
        }
        Ok(Found { note: corrected(&guest.at, args), at: guest.at, name, now, pool: guest.pool, tags: guest.tags })
    }

    /// Where a guest is now; `None` when it is nowhere.
    pub(super) async fn locate(&self, vmid: u32) -> Result<Option<At>, Fault> {
        let resources = self.resources(Some("vm")).await?;
        Ok(resources.guests.into_iter().find(|guest| guest.at.vmid == vmid).map(|guest| guest.at))
    }

    /// The guest of the cluster's list that the arguments name.
    async fn pick(&self, resources: &Resources, args: &GuestArgs) -> Result<Guest, Fault> {
        match choose(&resources.guests, args) {
            Ok(guest) => Ok(guest.clone()),
            Err(fault) if fault.kind == Kind::NotFound => Err(self.or_hidden(fault, args.vmid).await),
            Err(fault) => Err(fault),
        }
    }

    /// A guest that the token may not see is not in the list, so its absence proves nothing then.
    async fn or_hidden(&self, fault: Fault, vmid: Option<u32>) -> Fault {
        let Ok(held) = self.permissions().await else { return fault };
        match hidden(&held, vmid) {
            Some(why) => Fault::new(Kind::NotFound, format!("{}, or {why}", fault.cause)).hint(ROLE),
            None => fault,
        }
    }

    /// Says of a fault whether the node is known to be off.
    async fn with_node(&self, fault: Fault, node: &Node) -> Fault {
        if fault.kind != Kind::Unreachable {
            return fault;
        }
        let off = self.resources(Some("node")).await.is_ok_and(|all| all.offline().contains(&node));
        if off { Fault { cause: format!("its node {node} is offline: {}", fault.cause), ..fault } } else { fault }
    }
}

/// The list and the node contradict each other: that passes.
fn moving(fault: Fault, at: &At) -> Fault {
    if fault.kind != Kind::NotFound {
        return fault;
    }
    let cause = format!("the cluster lists {at} on node {}, but that node does not have it ({})", at.node, fault.cause);
    Fault::new(Kind::NotFound, cause).hint("It seems to be moving, or being deleted: call again in ten seconds.")
}

/// How a token gets what it lacks.
pub(super) const ROLE: &str = "Give the token a role with VM.Audit (PVEAuditor) on /vms under Datacenter > Permissions; with privilege \
                               separation the token needs it itself.";

/// Why guests may be missing in the list, if so.
pub(super) fn hidden(held: &Permissions, vmid: Option<u32>) -> Option<String> {
    let path = vmid.map_or_else(|| "/vms".to_owned(), |vmid| format!("/vms/{vmid}"));
    if held.has(&path, "VM.Audit") {
        return None;
    }
    let some = held.below("/vms", "VM.Audit");
    Some(if some.is_empty() {
        format!("it is hidden: the API token lacks VM.Audit on {path}")
    } else {
        format!("it is hidden: the API token has VM.Audit on {} only", some[..some.len().min(LISTED)].join(", "))
    })
}

fn choose<'a>(guests: &'a [Guest], args: &GuestArgs) -> Result<&'a Guest, Fault> {
    if let Some(vmid) = args.vmid {
        let found = guests.iter().find(|guest| guest.at.vmid == vmid);
        return found.ok_or_else(|| none(format!("the cluster has no guest {vmid}")));
    }
    let Some(name) = &args.name else {
        return Err(Fault::new(Kind::Invalid, "neither `vmid` nor `name` is given")
            .hint("Call proxmox_list_vms for the guests there are."));
    };
    let called: Vec<_> = guests.iter().filter(|guest| guest.name.as_ref() == Some(name)).collect();
    let on = |guest: &Guest| {
        args.node.as_deref().is_none_or(|node| node == guest.at.node.as_str())
            && args.kind.is_none_or(|kind| kind == guest.at.kind)
    };
    let narrowed: Vec<_> = called.iter().copied().filter(|guest| on(guest)).collect();
    match (called.as_slice(), narrowed.as_slice()) {
        ([one], _) | (_, [one]) => Ok(one),
        ([], _) => {
            let part = name.to_lowercase();
            let like = guests
                .iter()
                .filter(|guest| guest.name.as_ref().is_some_and(|name| name.to_lowercase().contains(&part)));
            let like: Vec<_> = like.take(LISTED).map(candidate).collect();
            let nameless = guests.iter().filter(|guest| guest.name.is_none()).count();
            let mut cause = format!("no guest is called `{name}`");
            if !like.is_empty() {
                cause += &format!("; similar are {}", like.join(", "));
            }
            if nameless > 0 {
                cause += &format!(
                    "; of {nameless} guests the cluster does not know the name at the moment, use `vmid` for them"
                );
            }
            Err(none(cause))
        }
        (many, _) => {
            let listed: Vec<_> = many.iter().take(LISTED).map(|guest| candidate(guest)).collect();
            Err(Fault::new(Kind::Conflict, format!("{} guests are called `{name}`: {}", many.len(), listed.join(", ")))
                .hint("Call again with `vmid`."))
        }
    }
}

fn none(cause: String) -> Fault {
    Fault::new(Kind::NotFound, cause).hint("Call proxmox_list_vms for the guests there are.")
}

/// `105 web (qemu on pve1)`.
fn candidate(guest: &Guest) -> String {
    let name = guest.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
    format!("{}{name} ({} on {})", guest.at.vmid, guest.at.kind.word(), guest.at.node)
}

/// What the caller had wrong.
fn corrected(at: &At, args: &GuestArgs) -> Option<String> {
    let node = args.node.as_deref().filter(|node| *node != at.node.as_str());
    let kind = args.kind.filter(|kind| *kind != at.kind);
    if node.is_none() && kind.is_none() {
        return None;
    }
    let mut wrong = Vec::new();
    wrong.extend(node.map(|node| format!("not on node {}", node.chars().take(63).collect::<String>())));
    wrong.extend(kind.map(|kind| format!("not {}", kind.word())));
    Some(format!("(Corrected: {} is {} on node {}, {}.)", at.vmid, at.kind.word(), at.node, wrong.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn guests() -> Vec<Guest> {
        let all = Resources::read(&json!([
            {"type": "qemu", "vmid": 100, "node": "pve1", "name": "web"},
            {"type": "lxc", "vmid": 101, "node": "pve2", "name": "web"},
            {"type": "lxc", "vmid": 102, "node": "pve2", "name": "Webcam"},
            {"type": "qemu", "vmid": 103, "node": "pve3", "status": "unknown"},
        ]));
        all.unwrap().guests
    }

    fn args(value: serde_json::Value) -> GuestArgs {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_id_or_a_name_that_is_the_only_one_is_enough() {
        let guests = guests();
        for (given, vmid) in [
            (json!({"vmid": 103}), 103),
            (json!({"vmid": 100, "node": "elsewhere", "type": "lxc"}), 100),
            (json!({"name": "Webcam", "node": "pve1"}), 102),
            (json!({"name": "web", "node": "pve2"}), 101),
            (json!({"name": "web", "type": "qemu"}), 100),
        ] {
            assert_eq!(choose(&guests, &args(given.clone())).unwrap().at.vmid, vmid, "{given}");
        }
    }

    #[test]
    fn what_is_not_one_guest_lists_the_candidates() {
        let guests = guests();
        let told = |given| choose(&guests, &args(given)).unwrap_err();
        let fault = told(json!({"name": "web"}));
        assert_eq!(fault.kind, Kind::Conflict);
        assert!(fault.cause.contains("100 web (qemu on pve1), 101 web (lxc on pve2)"), "{fault}");
        let fault = told(json!({"name": "webc"}));
        assert_eq!(fault.kind, Kind::NotFound);
        assert!(fault.cause.contains("102 Webcam") && fault.cause.contains("of 1 guests"), "{fault}");
        assert_eq!(told(json!({"vmid": 999})).kind, Kind::NotFound);
        assert_eq!(told(json!({})).kind, Kind::Invalid);
    }

    #[test]
    fn a_wrong_node_or_type_is_said() {
        let at = At { vmid: 100, node: Node::new("pve1").unwrap(), kind: GuestType::Qemu };
        assert_eq!(corrected(&at, &args(json!({"vmid": 100, "node": "pve1", "type": "qemu"}))), None);
        let said = corrected(&at, &args(json!({"vmid": 100, "node": "pve2", "type": "lxc"}))).unwrap();
        assert_eq!(said, "(Corrected: 100 is qemu on node pve1, not on node pve2 and not lxc.)");
    }

    #[test]
    fn a_guest_may_be_hidden_rather_than_missing() {
        let held = |value| Permissions::read(&value).unwrap();
        assert_eq!(hidden(&held(json!({"/vms": {"VM.Audit": 1}})), Some(5)), None);
        assert!(hidden(&held(json!({})), Some(105)).unwrap().contains("VM.Audit on /vms/105"));
        let some = hidden(&held(json!({"/vms": {}, "/vms/7": {"VM.Audit": 1}})), None).unwrap();
        assert!(some.contains("on /vms/7 only"), "{some}");
    }
}
