//! What `--check` says of Proxmox VE: whether it is reached, believed and signed in to, and which privilege the token
//! lacks for which tool that is switched on.

use super::{client, model::Permissions};
use crate::{
    Core,
    backend::{Checked, Finding},
    error::Fault,
};

/// What a tool needs: each item is a path and the privileges of which one is enough.
type Needs = &'static [(&'static str, &'static [&'static str])];

const AUDIT: (&str, &[&str]) = ("/vms", &["VM.Audit"]);
const POWER: (&str, &[&str]) = ("/vms", &["VM.PowerMgmt"]);

/// By the vendor's API viewer; for backups by what its server filters.
const NEEDS: [(&str, Needs); 14] = [
    ("proxmox_status", &[AUDIT, ("/", &["Sys.Audit"])]),
    ("proxmox_list_vms", &[AUDIT]),
    ("proxmox_vm_status", &[AUDIT]),
    (
        "proxmox_list_backups",
        &[AUDIT, ("/storage", &["Datastore.AllocateSpace", "Datastore.Allocate"]), ("/vms", &["VM.Backup"])],
    ),
    ("proxmox_list_snapshots", &[AUDIT]),
    ("proxmox_start_vm", &[AUDIT, POWER]),
    ("proxmox_stop_vm", &[AUDIT, POWER]),
    ("proxmox_shutdown_vm", &[AUDIT, POWER]),
    ("proxmox_reboot_vm", &[AUDIT, POWER]),
    ("proxmox_vm_config", &[AUDIT]),
    ("proxmox_list_storage", &[("/storage", &["Datastore.Audit", "Datastore.AllocateSpace"])]),
    ("proxmox_list_nodes", &[("/nodes", &["Sys.Audit"])]),
    ("proxmox_create_snapshot", &[AUDIT, ("/vms", &["VM.Snapshot"])]),
    ("proxmox_delete_vm", &[AUDIT, ("/vms", &["VM.Allocate"])]),
];

/// One row for the connection, one for the privileges.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let row = |place: String, finding| Checked { name: "proxmox", place, finding };
    let client = match client(core) {
        Ok(client) => client,
        Err(fault) => return vec![row("-".to_owned(), Finding::Unused(fault.with_advice()))],
    };
    let version: Result<_, Fault> = client.version().await;
    let reached = version.is_ok();
    let mut rows = vec![row(
        client.place(),
        Finding::of(version, |version| format!("Proxmox VE {version}, token {}", client.token_id())),
    )];
    if reached {
        let tools: Vec<_> = core.registry.listed(&core.config).map(|item| item.entry.about.name).collect();
        let finding = match client.permissions().await {
            Ok(held) => judged(&held, &tools),
            Err(fault) => Finding::Fix(fault.with_advice()),
        };
        rows.push(row(client.place(), finding));
    }
    rows
}

/// The privileges that are missing, each with the tools that want it.
fn judged(held: &Permissions, tools: &[&str]) -> Finding {
    let mut missing: Vec<(String, Vec<&str>)> = Vec::new();
    let mut partly: Vec<String> = Vec::new();
    let mut checked = 0;
    for (tool, needs) in NEEDS.iter().filter(|(tool, _)| tools.contains(tool)) {
        checked += 1;
        for (path, privileges) in *needs {
            let lacking = format!("{} on {path}", privileges.join(" or "));
            if privileges.iter().any(|privilege| held.has(path, privilege)) {
                continue;
            }
            let some: Vec<_> = privileges.iter().flat_map(|privilege| held.below(path, privilege)).collect();
            if !some.is_empty() {
                let note = format!("{} only on {}", privileges.join(" or "), some.join(", "));
                if !partly.contains(&note) {
                    partly.push(note);
                }
                continue;
            }
            match missing.iter_mut().find(|(known, _)| *known == lacking) {
                Some((_, wanting)) => wanting.push(tool),
                None => missing.push((lacking, vec![tool])),
            }
        }
    }
    let partly = if partly.is_empty() { String::new() } else { format!("; {}", partly.join("; ")) };
    if missing.is_empty() {
        return Finding::Fine(format!("the token has the privileges of its {checked} tools{partly}"));
    }
    let missing: Vec<_> = missing.iter().map(|(what, tools)| format!("{what} (for {})", tools.join(", "))).collect();
    Finding::Fix(format!(
        "the token lacks {}{partly}. Give it a role under Datacenter > Permissions, with privilege separation to the token \
         itself: PVEAuditor to read; VM.PowerMgmt, VM.Snapshot, VM.Allocate and VM.Backup with Datastore.AllocateSpace for \
         the rest. What it is not to have, TOOLS_DENY can switch off.",
        missing.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judge(held: serde_json::Value, tools: &[&str]) -> (bool, String) {
        match judged(&Permissions::read(&held).unwrap(), tools) {
            Finding::Fine(text) => (true, text),
            Finding::Fix(text) | Finding::Unused(text) => (false, text),
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_tools_that_want_it() {
        let auditor = json!({"/": {"VM.Audit": 1, "Sys.Audit": 1, "Datastore.Audit": 1}});
        assert!(judge(auditor.clone(), &["proxmox_list_vms", "proxmox_status", "proxmox_list_nodes"]).0);
        let (fine, text) = judge(auditor, &["proxmox_list_vms", "proxmox_start_vm", "proxmox_stop_vm"]);
        assert!(!fine && text.contains("VM.PowerMgmt on /vms (for proxmox_start_vm, proxmox_stop_vm)"), "{text}");
        let (fine, text) = judge(json!({"/vms/105": {"VM.Audit": 1}}), &["proxmox_list_vms"]);
        assert!(fine && text.contains("VM.Audit only on /vms/105"), "{text}");
        assert!(!judge(json!({}), &["proxmox_list_vms"]).0);
    }

    #[test]
    fn every_tool_of_ours_is_known() {
        let named: Vec<_> = super::super::TOOLS.iter().map(|entry| entry.about.name).collect();
        assert_eq!(NEEDS.iter().map(|(tool, _)| *tool).collect::<Vec<_>>(), named);
    }
}
