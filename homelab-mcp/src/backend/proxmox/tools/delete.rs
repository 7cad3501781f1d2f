//! Deleting a guest for good, which is told in full before it is done: which disks and snapshots go, and whether a backup
//! would bring it back.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use shared::Level;
use tokio::time::Instant;

use super::{
    acting::{ActOut, Ask},
    backups::{Backups, Search, none_found},
    failed, refused, unlocked,
};
use crate::{
    Core,
    backend::proxmox::{
        client,
        client::Proxmox,
        guest::{Found, GuestArgs},
        model::{At, Config, Disk, Snapshot, StorageId, disks, flag},
        task::{End, Pace, Sent, quoted},
    },
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    reply::count,
    times,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

/// Wiping large disks takes long.
const BOUND: Duration = Duration::from_secs(3600);
/// Until the cluster has forgotten it.
const GONE: Duration = Duration::from_secs(15);
/// Items of a kind that the plan lists.
const LISTED: usize = 30;

pub(crate) struct DeleteVm;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    #[serde(flatten)]
    guest: GuestArgs,
    /// Also out of jobs and HA.
    purge: Option<bool>,
}

pub(crate) struct Plan {
    found: Found,
}

impl Tool for DeleteVm {
    const ABOUT: About = About {
        name: "proxmox_delete_vm",
        title: "Delete a guest",
        text: "Delete a stopped guest with its disks and snapshots; backups stay. dry_run lists all.",
        level: Level::Manage,
        toolset: Toolset::Proxmox,
        worst: Effect::Destroy,
        idempotent: false,
        open_world: false,
        untrusted: &["plan", "warnings"],
    };
    type Args = Args;
    type Out = ActOut;

    fn subject(args: &Args) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Change for DeleteVm {
    type Plan = Plan;

    fn known(args: &Args) -> ActOut {
        ActOut { vmid: args.guest.vmid, ..ActOut::default() }
    }

    async fn resolve(core: &Core, _call: &Call, args: &Args) -> Result<Resolved<Plan>, ToolError> {
        let doing = format!("delete guest {}", args.guest.called());
        let purge = args.purge.unwrap_or(false);
        let found = async {
            let client = client(core)?;
            let found = client.find(&args.guest).await?;
            let config = client.config(&found.at).await?;
            allowed(&found, &config, purge)?;
            let disks = disks(&config, found.at.vmid);
            if found.now.template {
                client.without_clones(&found, &disks).await?;
            }
            let (snapshots, resources) = tokio::join!(client.snapshots(&found.at), client.resources(None));
            let search = Search { vmid: Some(found.at.vmid), storage: None, node: None };
            let backups = client.backups_everywhere(&resources?, &search).await;
            Ok((found, disks, snapshots?, backups))
        };
        let (found, disks, snapshots, backups) = found.await.map_err(failed(core, doing))?;
        let summary = format!(
            "Delete {} for good, with {} and {}. {}",
            found.described(),
            count(disks.len(), "disk"),
            count(snapshots.len(), "snapshot"),
            newest(found.at.vmid, &backups)
        );
        Ok(Resolved {
            targets: vec![found.target()],
            effect: Effect::Destroy,
            summary: found.with_note(summary),
            detail: Some(detail(&disks, &snapshots, &backups, purge)),
            unchanged: None,
            plan: Plan { found },
        })
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: Args,
    ) -> Result<Done<ActOut>, ToolError> {
        let found = plan.found;
        let label = found.label();
        let doing = format!("delete {label}");
        let proof =
            proof.destroy().ok_or_else(|| ToolError::invalid(&doing, "this call was not admitted to destroy"))?;
        let client = client(&core).map_err(failed(&core, &doing))?;
        running.say(format!("deleting {label} on node {}", found.at.node));
        let ask = Ask::Delete(proof, args.purge.unwrap_or(false));
        let (at, sent) = client.perform(&running, &ask, &found.at, &["qmdestroy", "vzdestroy"], BOUND).await;
        let Sent { upid, end } = sent.map_err(failed(&core, &doing))?;
        let fine = matches!(end, End::Fine { .. });
        // The task's word is not enough, nor is its failure: what counts is whether the guest is there.
        let gone = client.gone(&at, if fine { GONE } else { Duration::ZERO }).await;
        let task = upid.as_ref().map_or_else(String::new, |upid| format!(" Task: {}.", upid.text));
        let (outcome, message, warnings) = concluded(&label, end, &gone, &task);
        let out = ActOut {
            vmid: Some(at.vmid),
            node: Some(at.node.to_string()),
            status: gone.ok().filter(|gone| *gone).map(|_| "deleted".to_owned()),
            task: upid.map(|upid| upid.text),
            warnings,
        };
        Ok(Done { outcome, message: found.with_note(message), out })
    }
}

impl Proxmox {
    /// Whether a guest is gone from the cluster: neither on its node nor anywhere else. Looks until it is, or the time is
    /// over.
    async fn gone(&self, at: &At, within: Duration) -> Result<bool, Fault> {
        let deadline = Instant::now() + within;
        let mut pace = Pace::default();
        loop {
            let gone = match self.config(at).await {
                Ok(_) => Ok(false),
                Err(fault) if fault.kind == Kind::NotFound => self.locate(at.vmid).await.map(|at| at.is_none()),
                Err(fault) => Err(fault),
            };
            if matches!(gone, Ok(true)) || !pace.wait(deadline).await {
                return gone;
            }
        }
    }

    /// Refuses a template whose disks others were cloned from without being copied. What cannot be read is left to the
    /// server, which looks too.
    async fn without_clones(&self, found: &Found, disks: &[Disk]) -> Result<(), Fault> {
        let storages: BTreeSet<_> =
            disks.iter().filter_map(|disk| StorageId::new(disk.volume.split_once(':')?.0)).collect();
        let bases: Vec<_> = disks.iter().filter_map(|disk| disk.volume.rsplit(['/', ':']).next()).collect();
        let mut clones = Vec::new();
        for storage in storages {
            let volumes = self.clones(&found.at.node, &storage).await.unwrap_or_default();
            let of_it = |parent: &str| bases.iter().any(|base| parent.split(['/', ':', '@']).any(|part| part == *base));
            clones.extend(volumes.into_iter().filter(|(_, parent)| of_it(parent)).map(|(volume, _)| volume));
        }
        if clones.is_empty() {
            return Ok(());
        }
        clones.truncate(LISTED);
        Err(refused(
            format!("{} is a template with linked clones, which need its disks: {}", found.label(), clones.join(", ")),
            "Nothing was done. Delete the clones first, or move their disks so that they are copied.",
        ))
    }
}

/// What the vendor refuses, foreseen.
fn allowed(found: &Found, config: &Config, purge: bool) -> Result<(), Fault> {
    let label = found.label();
    let protected = flag(&serde_json::Value::Object(config.clone()), "protection").unwrap_or(false);
    if protected {
        return Err(refused(
            format!("{label} is protected by its own configuration (protection: 1)"),
            "Nothing was done. Its owner can switch Protection off under Options in Proxmox VE.",
        ));
    }
    if !found.now.is_stopped() {
        return Err(refused(
            format!("{label} is {}, and only a stopped guest can be deleted", found.now.state()),
            "Nothing was done. Call proxmox_shutdown_vm or proxmox_stop_vm first.",
        ));
    }
    if found.now.ha_managed && !purge {
        return Err(refused(
            format!("{label} is HA-managed"),
            "Nothing was done. Call again with purge, which takes it out of HA and of all jobs too.",
        ));
    }
    // A hibernated one carries that lock, and may be deleted.
    unlocked(found, &["suspended"])
}

/// The newest backup, or that there is none, in a sentence.
fn newest(vmid: u32, backups: &Backups) -> String {
    match backups.backups.first() {
        Some((storage, _, backup)) => {
            let when = backup.created.and_then(times::rfc3339).unwrap_or_else(|| "of unknown time".to_owned());
            format!("Its newest backup is {when} on {storage}; nothing else would bring it back.")
        }
        None => {
            let sure = backups.problems.is_empty() && backups.hidden.is_none();
            let then = if sure { "It cannot be brought back then." } else { "Without one it cannot be brought back." };
            format!("{} {then}", none_found(Some(vmid), backups))
        }
    }
}

/// Everything that goes, and what stays.
fn detail(disks: &[Disk], snapshots: &[Snapshot], backups: &Backups, purge: bool) -> String {
    let listed = |title: &str, mut items: Vec<String>| {
        let more = items.len().saturating_sub(LISTED);
        items.truncate(LISTED);
        if more > 0 {
            items.push(format!("and {more} more"));
        }
        let items = if items.is_empty() { vec!["none".to_owned()] } else { items };
        format!("{title}:\n  {}", items.join("\n  "))
    };
    let disks = disks.iter().map(|disk| {
        let size = disk.size.as_ref().map_or_else(String::new, |size| format!(" ({size})"));
        format!("{} {}{size}", disk.key, disk.volume)
    });
    let at = |seconds: Option<i64>| seconds.and_then(times::rfc3339).map_or_else(String::new, |at| format!(" ({at})"));
    let snapshots = snapshots.iter().map(|snapshot| format!("{}{}", snapshot.name, at(snapshot.created)));
    let kept = backups.backups.iter().map(|(_, _, backup)| format!("{}{}", backup.volid, at(backup.created)));
    let mut parts = vec![
        listed("Disks that go", disks.collect()),
        listed("Snapshots that go", snapshots.collect()),
        listed("Backups that stay", kept.collect()),
    ];
    if !backups.problems.is_empty() {
        parts.push(listed("Storages that could not be searched for backups", backups.problems.clone()));
    }
    parts.extend(purge.then(|| "It is also taken out of backup jobs, replication jobs and HA.".to_owned()));
    parts.join("\n")
}

/// What is true after the task.
fn concluded(label: &str, end: End, gone: &Result<bool, Fault>, task: &str) -> (Outcome, String, Vec<String>) {
    let words = match gone {
        Ok(true) => "it is gone from the cluster".to_owned(),
        Ok(false) => "it is still there".to_owned(),
        Err(fault) => format!("whether it is still there cannot be read ({})", fault.cause),
    };
    match (end, gone) {
        (End::Fine { warnings }, Ok(true)) => {
            let warned =
                if warnings.is_empty() { String::new() } else { format!(" With warnings: {}.", warnings.join(" | ")) };
            (Outcome::Changed, format!("{label} deleted successfully: {words}.{warned}"), warnings)
        }
        // With a guest Proxmox VE takes away what was granted on it and on its pool, so a token of few rights cannot look.
        (End::Fine { warnings }, Err(fault)) if fault.kind == Kind::Forbidden => {
            let warned =
                if warnings.is_empty() { String::new() } else { format!(" With warnings: {}.", warnings.join(" | ")) };
            let message = format!(
                "{label} deleted successfully: its task ended well, and the token's rights on it went with it.{warned}{task}"
            );
            (Outcome::Changed, message, warnings)
        }
        (End::Fine { warnings }, gone) => {
            let outcome = if gone.is_ok() { Outcome::Failed } else { Outcome::Unknown };
            (outcome, format!("{label}: the task ended well, but {words}.{task}"), warnings)
        }
        (End::Failed { why, log }, Ok(true)) => (
            Outcome::Changed,
            format!(
                "{label}: {words}, but the task ended with: {}. Disks of it may be left.{task}",
                quoted(&why, &log)
            ),
            Vec::new(),
        ),
        (End::Failed { why, log }, _) => (
            Outcome::Failed,
            format!("{label}: the task failed: {}; {words}. Some of its disks may be gone.{task}", quoted(&why, &log)),
            Vec::new(),
        ),
        (End::Unknown { why }, Ok(true)) => {
            (Outcome::Changed, format!("{label}: {words}, though of its task is known only: {why}.{task}"), Vec::new())
        }
        (End::Unknown { why }, _) => (
            Outcome::Unknown,
            format!(
                "{label}: {why}; {words}. It may still happen: look at proxmox_list_vms before trying again.{task}"
            ),
            Vec::new(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::proxmox::model::{Backup, Current, GuestType, Node};
    use serde_json::{Value, json};

    fn found(now: Value) -> Found {
        let at = At { vmid: 105, node: Node::new("pve1").unwrap(), kind: GuestType::Qemu };
        Found {
            at,
            name: "web".to_owned(),
            now: Current::read(&now).unwrap(),
            pool: None,
            tags: Vec::new(),
            note: None,
        }
    }

    #[test]
    fn what_the_vendor_refuses_is_refused_before() {
        let stopped = || json!({"status": "stopped"});
        let ha = || json!({"status": "stopped", "ha": {"managed": 1}});
        let told = |now, config: Value, purge| {
            let Value::Object(config) = config else { panic!() };
            allowed(&found(now), &config, purge).map_err(|fault| fault.cause)
        };
        assert_eq!(told(stopped(), json!({}), false), Ok(()));
        assert_eq!(told(ha(), json!({}), true), Ok(()));
        for (now, config, word) in [
            (json!({"status": "running"}), json!({}), "is running"),
            (json!({"status": "running", "qmpstatus": "paused"}), json!({}), "is paused"),
            (stopped(), json!({"protection": 1}), "protected"),
            (stopped(), json!({"protection": "1"}), "protected"),
            (ha(), json!({}), "HA-managed"),
            (json!({"status": "stopped", "lock": "backup"}), json!({}), "locked (backup)"),
        ] {
            let said = told(now, config, false).unwrap_err();
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    #[test]
    fn the_plan_tells_what_goes_and_what_would_bring_it_back() {
        let Value::Object(config) = json!({"scsi0": "zfs:vm-105-disk-0,size=32G"}) else { panic!() };
        let snapshots = Snapshot::list(&json!([{"name": "s1", "snaptime": 0}])).unwrap();
        let list = Backup::list(&json!([{"volid": "nas:backup/vzdump-qemu-105-x", "ctime": 1_795_364_255}])).unwrap();
        let node = Node::new("pve1").unwrap();
        let mut backups = Backups { searched: vec!["nas".to_owned()], ..Backups::default() };
        assert!(newest(105, &backups).contains("No backup of guest 105 was found on nas. It cannot be brought back"));
        // Where something was not searched, nothing is certain.
        backups.problems = vec!["archive: not online".to_owned()];
        assert!(newest(105, &backups).ends_with("archive: not online. Without one it cannot be brought back."));
        backups.backups = list.into_iter().map(|one| (StorageId::new("nas").unwrap(), node.clone(), one)).collect();
        assert!(newest(105, &backups).starts_with("Its newest backup is 2026-11-22T"), "{}", newest(105, &backups));
        let text = detail(&disks(&config, 105), &snapshots, &backups, true);
        for part in
            ["scsi0 zfs:vm-105-disk-0 (32G)", "  s1\n", "nas:backup/vzdump-qemu-105-x (2026", "replication jobs"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn gone_is_what_the_cluster_says() {
        let outcome = |end, gone| concluded("VM 105", end, &gone, "").0;
        let fine = || End::Fine { warnings: Vec::new() };
        let failed = || End::Failed { why: "x".to_owned(), log: Vec::new() };
        let unknown = || End::Unknown { why: "x".to_owned() };
        let dark = || Err(Fault::new(Kind::Unreachable, "x"));
        assert_eq!(outcome(fine(), Ok(true)), Outcome::Changed);
        assert_eq!(outcome(fine(), Ok(false)), Outcome::Failed);
        assert_eq!(outcome(fine(), dark()), Outcome::Unknown);
        let no_right = || Err(Fault::new(Kind::Forbidden, "x"));
        assert_eq!(outcome(fine(), no_right()), Outcome::Changed);
        assert_eq!(outcome(failed(), no_right()), Outcome::Failed);
        assert_eq!(outcome(unknown(), no_right()), Outcome::Unknown);
        assert_eq!(outcome(failed(), Ok(false)), Outcome::Failed);
        assert_eq!(outcome(unknown(), Ok(true)), Outcome::Changed);
        assert_eq!(outcome(unknown(), Ok(false)), Outcome::Unknown);
    }
}
