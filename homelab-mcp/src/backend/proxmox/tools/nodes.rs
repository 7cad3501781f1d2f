//! The cluster and its nodes.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::failed;
use crate::{
    Core,
    backend::proxmox::{
        client,
        model::{Guest, Member, Resources, uptime},
    },
    error::{Kind, ToolError},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// From here on a storage is worth a word.
const NEARLY_FULL: f64 = 85.0;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct NoArgs {}

#[derive(Serialize, JsonSchema)]
struct Row {
    node: String,
    /// online, offline, unknown.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
}

impl Row {
    fn of(member: &Member) -> Self {
        // Of a node that is off an old measurement may be kept for a while.
        let used = Some(&member.used).filter(|_| member.is_online());
        let up = used.and_then(|used| used.uptime);
        Self {
            node: member.node.to_string(),
            status: member.status.clone(),
            cpu_percent: used.and_then(|used| used.cpu_percent()),
            memory_percent: used.and_then(|used| used.memory_percent()),
            uptime: up.map(uptime),
            uptime_seconds: up,
        }
    }
}

pub(crate) struct Status;

#[derive(Serialize, JsonSchema)]
pub(crate) struct StatusOut {
    version: String,
    /// Absent for a host in no cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quorate: Option<bool>,
    nodes: Vec<Row>,
    guests: Guests,
    /// `storage on node: 91 %`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    storages_nearly_full: Vec<String>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Guests {
    total: usize,
    running: usize,
    stopped: usize,
    /// Paused, unknown and the like.
    other: usize,
    templates: usize,
}

impl Guests {
    fn count(guests: &[Guest]) -> Self {
        let mut counts = Self { total: guests.len(), ..Self::default() };
        for guest in guests {
            match guest.status.as_str() {
                _ if guest.template => counts.templates += 1,
                "running" => counts.running += 1,
                "stopped" => counts.stopped += 1,
                _ => counts.other += 1,
            }
        }
        counts
    }
}

impl Tool for Status {
    const ABOUT: About = About {
        name: "proxmox_status",
        title: "Proxmox VE status",
        text: "Tell how Proxmox VE is: version, quorum, load of nodes, guests by state, full storages.",
        level: Level::Monitor,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = NoArgs;
    type Out = StatusOut;
}

impl Read for Status {
    async fn read(core: Arc<Core>, _call: Call, _: NoArgs) -> Result<StatusOut, ToolError> {
        let read = async {
            let client = client(&core)?;
            let (version, resources, cluster) =
                tokio::join!(client.version(), client.resources(None), client.cluster());
            Ok((version?, resources?, cluster))
        };
        let (version, resources, cluster) = read.await.map_err(failed(&core, "read the cluster's status"))?;
        let mut problems = Vec::new();
        let cluster = cluster.unwrap_or_else(|fault| {
            problems.push(format!("cluster name and quorum: {}", fault.cause));
            crate::backend::proxmox::model::Cluster::default()
        });
        if resources.guests.is_empty()
            && let Ok(held) = client(&core).map_err(failed(&core, "read the cluster's status"))?.permissions().await
            && let Some(why) = crate::backend::proxmox::guest::hidden(&held, None)
        {
            problems.push(format!("guests: {}", why.replacen("it is", "they are", 1)));
        }
        // Without Sys.Audit the nodes are listed without what they measure.
        let silent = resources.nodes.iter().any(|node| node.is_online() && node.used.cpu.is_none());
        problems
            .extend(silent.then(|| "load of nodes: not told; the API token may lack Sys.Audit on /nodes".to_owned()));
        Ok(StatusOut {
            version,
            cluster: cluster.name,
            quorate: cluster.quorate,
            nodes: resources.nodes.iter().map(Row::of).collect(),
            guests: Guests::count(&resources.guests),
            storages_nearly_full: nearly_full(&resources),
            problems,
        })
    }
}

fn nearly_full(resources: &Resources) -> Vec<String> {
    let mut full = Vec::new();
    let mut seen = Vec::new();
    for storage in &resources.storages {
        if storage.shared && seen.contains(&&storage.storage) {
            continue;
        }
        if let Some(percent) = storage.used_percent().filter(|percent| *percent >= NEARLY_FULL) {
            let place = if storage.shared { String::new() } else { format!(" on {}", storage.node) };
            full.push(format!("{}{place}: {percent:.0} %", storage.storage));
            seen.push(&storage.storage);
        }
    }
    full
}

pub(crate) struct ListNodes;

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    nodes: Vec<NodeRow>,
}

#[derive(Serialize, JsonSchema)]
struct NodeRow {
    #[serde(flatten)]
    row: Row,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_total_bytes: Option<u64>,
    /// Its root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ha_state: Option<String>,
}

impl Tool for ListNodes {
    const ABOUT: About = About {
        name: "proxmox_list_nodes",
        title: "List nodes",
        text: "List the nodes of the Proxmox cluster with CPUs, memory and root disk; offline ones too.",
        level: Level::Configure,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = NoArgs;
    type Out = ListOut;
}

impl Read for ListNodes {
    async fn read(core: Arc<Core>, _call: Call, _: NoArgs) -> Result<ListOut, ToolError> {
        let read = async { client(&core)?.resources(Some("node")).await };
        let resources = read.await.map_err(failed(&core, "list nodes"))?;
        if resources.nodes.is_empty() {
            let fault = crate::error::Fault::new(Kind::Malformed, "the answer lists no node, and there must be one");
            return Err(failed(&core, "list nodes")(fault));
        }
        Ok(ListOut { nodes: resources.nodes.iter().map(node_row).collect() })
    }
}

fn node_row(member: &Member) -> NodeRow {
    let used = Some(&member.used).filter(|_| member.is_online());
    NodeRow {
        row: Row::of(member),
        cpus: member.used.cpus,
        memory_bytes: used.and_then(|used| used.memory),
        memory_total_bytes: member.used.memory_max,
        disk_bytes: used.and_then(|used| used.disk),
        disk_total_bytes: member.used.disk_max,
        ha_state: member.ha_state.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources() -> Resources {
        Resources::read(&json!([
            {"type": "node", "node": "pve1", "status": "online", "cpu": 0, "mem": 1, "maxmem": 2, "uptime": 90_000},
            {"type": "node", "node": "pve2", "status": "offline", "cpu": 0.5, "maxmem": 2, "uptime": 5, "maxcpu": 4},
            {"type": "storage", "storage": "nas", "node": "pve1", "shared": 1, "disk": 90, "maxdisk": 100},
            {"type": "storage", "storage": "nas", "node": "pve2", "shared": 1, "disk": 90, "maxdisk": 100},
            {"type": "storage", "storage": "local", "node": "pve1", "disk": 84, "maxdisk": 100},
            {"type": "storage", "storage": "local", "node": "pve2", "disk": 99, "maxdisk": 100},
            {"type": "qemu", "vmid": 1000, "node": "pve1", "status": "stopped", "template": 1},
            {"type": "qemu", "vmid": 1001, "node": "pve1", "status": "paused"},
            {"type": "lxc", "vmid": 1002, "node": "pve1", "status": "running"},
        ]))
        .unwrap()
    }

    #[test]
    fn an_offline_node_has_no_load() {
        let rows: Vec<_> = resources().nodes.iter().map(|node| serde_json::to_value(node_row(node)).unwrap()).collect();
        assert_eq!(
            rows,
            [
                json!({"node": "pve1", "status": "online", "cpu_percent": 0.0, "memory_percent": 50.0, "uptime": "1d 1h",
                    "uptime_seconds": 90_000, "memory_bytes": 1, "memory_total_bytes": 2}),
                json!({"node": "pve2", "status": "offline", "cpus": 4.0, "memory_total_bytes": 2}),
            ]
        );
    }

    #[test]
    fn guests_are_counted_and_full_storages_named_once() {
        let counts = serde_json::to_value(Guests::count(&resources().guests)).unwrap();
        assert_eq!(counts, json!({"total": 3, "running": 1, "stopped": 0, "other": 1, "templates": 1}));
        assert_eq!(nearly_full(&resources()), ["local on pve2: 99 %", "nas: 90 %"]);
    }
}
