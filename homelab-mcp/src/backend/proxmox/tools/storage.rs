//! The storages of the cluster.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{budget, failed};
use crate::{
    Core,
    backend::proxmox::{client, model::Storage},
    error::{Fault, Kind, ToolError},
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

pub(crate) struct ListStorage;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    node: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    storage: Vec<Row>,
    #[serde(flatten)]
    page: Page,
    /// Why there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    storage: String,
    /// Where the numbers are from.
    node: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Separated by commas.
    content: String,
    active: bool,
    shared: bool,
    /// GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_gb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_gb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
    /// Nodes on which a shared one is not active.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inactive_on: Vec<String>,
}

impl Tool for ListStorage {
    const ABOUT: About = About {
        name: "proxmox_list_storage",
        title: "List storages",
        text: "List storages with type, content and use; a shared one once, a local one for each node.",
        level: Level::Configure,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = Args;
    type Out = Out;
}

impl Read for ListStorage {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        const DOING: &str = "list storages";
        let found = async {
            let client = client(&core)?;
            let storages = client.resources(Some("storage")).await?.storages;
            let mut note = None;
            if storages.is_empty() {
                let held = client.permissions().await.ok();
                let lacks = held.is_some_and(|held| {
                    !["Datastore.Audit", "Datastore.AllocateSpace"]
                        .iter()
                        .any(|privilege| held.has("/storage", privilege))
                });
                note = lacks.then(|| {
                    "The list is empty because the API token lacks Datastore.Audit on /storage (role PVEAuditor or \
                     PVEDatastoreUser)."
                        .to_owned()
                });
            }
            if let Some(node) = &args.node
                && !storages.is_empty()
                && !storages.iter().any(|storage| storage.node.as_str() == node)
            {
                return Err(unknown_node(node, &storages));
            }
            Ok((storages, note))
        };
        let (storages, note) = found.await.map_err(failed(&core, DOING))?;
        let rows = rows(&storages, args.node.as_deref());
        let (storage, page) = reply::page(rows, args.limit, args.cursor.as_deref(), budget(&core), "`node`")
            .map_err(|problem| ToolError::invalid(DOING, problem))?;
        Ok(Out { storage, page, note })
    }
}

fn unknown_node(node: &str, storages: &[Storage]) -> Fault {
    let mut nodes: Vec<_> = storages.iter().map(|storage| storage.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Fault::new(Kind::NotFound, format!("no storage is listed for node `{node}`; there are: {}", nodes.join(", ")))
        .hint("Correct `node`, or leave it out.")
}

/// A shared storage is one row, from a node where it is active; a local one is a row for each node.
fn rows(storages: &[Storage], node: Option<&str>) -> Vec<Row> {
    let mut kept: Vec<(&Storage, Vec<String>)> = Vec::new();
    for storage in storages.iter().filter(|storage| node.is_none_or(|node| node == storage.node.as_str())) {
        let inactive = || (!storage.is_available()).then(|| storage.node.to_string());
        match kept.iter_mut().find(|(known, _)| storage.shared && known.shared && known.storage == storage.storage) {
            Some((known, off)) => {
                off.extend(inactive());
                if storage.is_available() && !known.is_available() {
                    *known = storage;
                }
            }
            None => kept.push((storage, inactive().into_iter().collect())),
        }
    }
    kept.into_iter().map(|(storage, off)| row(storage, off)).collect()
}

fn row(storage: &Storage, off: Vec<String>) -> Row {
    let active = storage.is_available();
    // Of one that is not active an old measurement may be kept, or a zero.
    let used = storage.used.filter(|_| active && storage.total.is_some());
    let total = storage.total.filter(|_| active);
    let gib = |bytes: u64| (bytes as f64 / f64::from(1 << 30) * 100.0).round() / 100.0;
    Row {
        storage: storage.storage.to_string(),
        node: storage.node.to_string(),
        kind: storage.kind.clone(),
        content: storage.content.join(","),
        active,
        shared: storage.shared,
        used_gb: used.map(gib),
        total_gb: total.map(gib),
        used_percent: storage.used_percent().filter(|_| active),
        used_bytes: used,
        total_bytes: total,
        inactive_on: if storage.shared { off } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::proxmox::model::Resources;
    use serde_json::json;

    #[test]
    fn a_shared_storage_is_one_row_and_an_inactive_one_has_no_numbers() {
        let all = Resources::read(&json!([
            {"type": "storage", "storage": "nas", "node": "pve1", "shared": 1, "status": "unknown", "plugintype": "nfs",
             "content": "iso,backup"},
            {"type": "storage", "storage": "nas", "node": "pve2", "shared": 1, "status": "available", "plugintype": "nfs",
             "content": "iso,backup", "disk": 1_610_612_736_u64, "maxdisk": 3_221_225_472_u64},
            {"type": "storage", "storage": "local", "node": "pve1", "status": "available", "disk": 0, "maxdisk": 1_073_741_824},
            {"type": "storage", "storage": "local", "node": "pve2", "status": "unknown", "disk": 0, "maxdisk": 0},
        ]));
        let storages = all.unwrap().storages;
        let told = |node| serde_json::to_value(rows(&storages, node)).unwrap();
        assert_eq!(
            told(None),
            json!([
                {"storage": "local", "node": "pve1", "content": "", "active": true, "shared": false, "used_gb": 0.0,
                 "total_gb": 1.0, "used_percent": 0.0, "used_bytes": 0, "total_bytes": 1_073_741_824},
                {"storage": "local", "node": "pve2", "content": "", "active": false, "shared": false},
                {"storage": "nas", "node": "pve2", "type": "nfs", "content": "backup,iso", "active": true, "shared": true,
                 "used_gb": 1.5, "total_gb": 3.0, "used_percent": 50.0, "used_bytes": 1_610_612_736_u64,
                 "total_bytes": 3_221_225_472_u64, "inactive_on": ["pve1"]},
            ])
        );
        assert_eq!(told(Some("pve1"))[1]["active"], json!(false));
    }
}
