//! Which guests there are, and how one of them is now.

use std::{collections::BTreeSet, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{budget, failed, nameless};
use crate::{
    Core,
    backend::proxmox::{
        client,
        guest::{Found, GuestArgs, hidden},
        model::{Guest, GuestType, Node, Resources, Use, uptime},
    },
    error::ToolError,
    http::text::vendor_text,
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// What the list and the status of one guest have in common.
#[derive(Serialize, JsonSchema)]
struct Row {
    vmid: u32,
    name: String,
    node: String,
    #[serde(rename = "type")]
    kind: GuestType,
    /// qemu's word where it has one: running, stopped, paused, …; unknown.
    status: String,
    /// Of all its CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    template: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ha_state: Option<String>,
}

impl Row {
    fn of(guest: Guest) -> Self {
        let up = running_for(&guest.used);
        Self {
            vmid: guest.at.vmid,
            name: guest.name.unwrap_or_else(|| nameless(guest.at.kind, guest.at.vmid)),
            node: guest.at.node.to_string(),
            kind: guest.at.kind,
            status: guest.status,
            cpu_percent: guest.used.cpu_percent(),
            memory_percent: guest.used.memory_percent(),
            uptime: up.map(uptime),
            uptime_seconds: up,
            template: guest.template,
            lock: guest.lock,
            tags: guest.tags,
            pool: guest.pool,
            ha_state: guest.ha_state,
        }
    }
}

/// Of one that does not run the server says 0, which is no uptime.
fn running_for(used: &Use) -> Option<u64> {
    used.uptime.filter(|seconds| *seconds > 0)
}

pub(crate) struct ListVms;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListArgs {
    node: Option<String>,
    #[serde(rename = "type")]
    kind: Option<GuestType>,
    /// Such as running.
    status: Option<String>,
    /// Part of the name.
    name: Option<String>,
    /// With this tag.
    tag: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    vms: Vec<Row>,
    #[serde(flatten)]
    page: Page,
    /// Nothing newer is known of their guests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    offline_nodes: Vec<String>,
    /// Why there may be more, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Tool for ListVms {
    const ABOUT: About = About {
        name: "proxmox_list_vms",
        title: "List VMs and containers",
        text: "List Proxmox VMs and containers with node, state and load, up to 10 s old.",
        level: Level::Monitor,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["vms[].name"],
    };
    type Args = ListArgs;
    type Out = ListOut;
}

impl Read for ListVms {
    async fn read(core: Arc<Core>, _call: Call, args: ListArgs) -> Result<ListOut, ToolError> {
        const DOING: &str = "list guests";
        let found = async {
            let client = client(&core)?;
            let resources = client.resources(None).await?;
            let note = if resources.guests.is_empty() {
                let held = client.permissions().await;
                held.ok()
                    .and_then(|held| hidden(&held, None))
                    .map(|why| format!("There may be guests: {}.", why.replacen("it is", "the list is", 1)))
            } else {
                args.node.as_deref().and_then(|node| unknown_node(&resources, node))
            };
            Ok((resources, note))
        };
        let (resources, note) = found.await.map_err(failed(&core, DOING))?;
        let offline_nodes = resources.offline().into_iter().map(ToString::to_string).collect();
        let rows = resources.guests.into_iter().filter(|guest| wanted(guest, &args)).map(Row::of).collect();
        let narrow = "`node`, `type`, `status`, `name` or `tag`";
        let (vms, page) = reply::page(rows, args.limit, args.cursor.as_deref(), budget(&core), narrow)
            .map_err(|problem| ToolError::invalid(DOING, problem))?;
        Ok(ListOut { vms, page, offline_nodes, note })
    }
}

/// "No guests" on a node that does not exist would be taken for an answer. Without the right to see nodes, guests tell.
fn unknown_node(resources: &Resources, node: &str) -> Option<String> {
    let nodes = resources.nodes.iter().map(|member| &member.node);
    let names: BTreeSet<_> =
        nodes.chain(resources.guests.iter().map(|guest| &guest.at.node)).map(Node::as_str).collect();
    if names.contains(node) {
        return None;
    }
    let names: Vec<_> = names.into_iter().collect();
    let asked: String = vendor_text(node).chars().take(63).collect();
    Some(format!("No node is called `{asked}`; there are: {}.", names.join(", ")))
}

fn wanted(guest: &Guest, args: &ListArgs) -> bool {
    let named =
        |part: &String| guest.name.as_ref().is_some_and(|name| name.to_lowercase().contains(&part.to_lowercase()));
    args.node.as_ref().is_none_or(|node| node == guest.at.node.as_str())
        && args.kind.is_none_or(|kind| kind == guest.at.kind)
        && args.status.as_ref().is_none_or(|status| status.eq_ignore_ascii_case(&guest.status))
        && args.name.as_ref().is_none_or(named)
        && args.tag.as_ref().is_none_or(|tag| guest.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
}

pub(crate) struct VmStatus;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct StatusArgs {
    #[serde(flatten)]
    guest: GuestArgs,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct StatusOut {
    #[serde(flatten)]
    row: Row,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_total_bytes: Option<u64>,
    /// Containers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_total_bytes: Option<u64>,
    ha_managed: bool,
    /// Switched on; VMs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_agent: Option<bool>,
    /// What was corrected.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Tool for VmStatus {
    const ABOUT: About = About {
        name: "proxmox_vm_status",
        title: "Status of a guest",
        text: "Tell how one guest is now: state, load, lock, HA. `vmid` or the exact `name` is enough.",
        level: Level::Monitor,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["name"],
    };
    type Args = StatusArgs;
    type Out = StatusOut;

    fn subject(args: &StatusArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Read for VmStatus {
    async fn read(core: Arc<Core>, _call: Call, args: StatusArgs) -> Result<StatusOut, ToolError> {
        let doing = format!("read the status of guest {}", args.guest.called());
        let found = async { client(&core)?.find(&args.guest).await };
        Ok(status(found.await.map_err(failed(&core, doing))?))
    }
}

fn status(found: Found) -> StatusOut {
    let now = found.now;
    let up = running_for(&now.used);
    let vm = found.at.kind == GuestType::Qemu;
    StatusOut {
        row: Row {
            vmid: found.at.vmid,
            name: found.name,
            node: found.at.node.to_string(),
            kind: found.at.kind,
            status: now.state().to_owned(),
            cpu_percent: now.used.cpu_percent(),
            memory_percent: now.used.memory_percent(),
            uptime: up.map(uptime),
            uptime_seconds: up,
            template: now.template,
            lock: now.lock,
            tags: if now.tags.is_empty() { found.tags } else { now.tags },
            pool: found.pool,
            ha_state: now.ha_state,
        },
        cpus: now.used.cpus,
        memory_bytes: now.used.memory,
        memory_total_bytes: now.used.memory_max,
        // Of a VM the server does not know it and says 0.
        disk_bytes: now.used.disk.filter(|_| !vm),
        disk_total_bytes: now.used.disk_max.filter(|size| *size > 0),
        ha_managed: now.ha_managed,
        guest_agent: vm.then_some(now.agent),
        note: found.note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_has_what_is_known_and_no_more() {
        let all = Resources::read(&json!([
            {"type": "qemu", "vmid": 100, "node": "pve1", "name": "web", "status": "running", "cpu": 0, "mem": 1, "maxmem": 4,
             "uptime": 7260, "tags": "prod", "hastate": "started"},
            {"type": "lxc", "vmid": 202, "node": "pve3", "status": "unknown"},
        ]));
        let rows: Vec<_> =
            all.unwrap().guests.into_iter().map(|guest| serde_json::to_value(Row::of(guest)).unwrap()).collect();
        assert_eq!(
            rows,
            [
                json!({"vmid": 100, "name": "web", "node": "pve1", "type": "qemu", "status": "running", "cpu_percent": 0.0,
                    "memory_percent": 25.0, "uptime": "2h 1m", "uptime_seconds": 7260, "tags": ["prod"], "ha_state": "started"}),
                json!({"vmid": 202, "name": "CT 202", "node": "pve3", "type": "lxc", "status": "unknown"}),
            ]
        );
    }

    #[test]
    fn a_node_that_does_not_exist_has_not_simply_no_guests() {
        let all = Resources::read(&json!([
            {"type": "node", "node": "empty", "status": "online"}, {"type": "qemu", "vmid": 100, "node": "pve1"},
        ]));
        let all = all.unwrap();
        assert_eq!((unknown_node(&all, "empty"), unknown_node(&all, "pve1")), (None, None));
        assert!(unknown_node(&all, "pve9").unwrap().ends_with("there are: empty, pve1."));
    }

    #[test]
    fn filters_narrow_the_list() {
        let all = Resources::read(&json!([
            {"type": "qemu", "vmid": 100, "node": "pve1", "name": "Web-1", "status": "running", "tags": "prod;x"},
            {"type": "lxc", "vmid": 202, "node": "pve3", "status": "unknown"},
        ]));
        let guests = all.unwrap().guests;
        let told = |value| {
            let args = serde_json::from_value(value).unwrap();
            guests.iter().filter(|guest| wanted(guest, &args)).map(|guest| guest.at.vmid).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({})), [100, 202]);
        assert_eq!(
            told(json!({"name": "web", "tag": "PROD", "status": "running", "type": "qemu", "node": "pve1"})),
            [100]
        );
        assert_eq!(told(json!({"status": "unknown"})), [202]);
        assert!(told(json!({"tag": "pro"})).is_empty());
    }
}
