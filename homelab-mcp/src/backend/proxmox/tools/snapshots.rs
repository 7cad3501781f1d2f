//! Snapshots of a guest: which there are, and a new one.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{acting::Ask, budget, failed, refused, unlocked};
use crate::{
    Core,
    backend::proxmox::{
        client,
        client::NewSnapshot,
        guest::{Found, GuestArgs},
        model::{GuestType, Snapshot},
        task::{End, Sent, Upid, quoted},
    },
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    reply::{self, Page},
    times,
    tool::{About, Call, Change, Done, Effect, Outcome, Read, Resolved, Tool, Toolset},
};

/// One with the memory of a large VM takes long.
const BOUND: Duration = Duration::from_secs(3600);

pub(crate) struct ListSnapshots;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListArgs {
    #[serde(flatten)]
    guest: GuestArgs,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    vmid: u32,
    name: String,
    snapshots: Vec<Row>,
    #[serde(flatten)]
    page: Page,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// With the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    vmstate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// `prepare` or `delete`: not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl Tool for ListSnapshots {
    const ABOUT: About = About {
        name: "proxmox_list_snapshots",
        title: "List snapshots of a guest",
        text: "List a guest's snapshots, newest first. `vmid` or `name` is enough.",
        level: Level::Monitor,
        toolset: Toolset::Proxmox,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["name", "snapshots[].name", "snapshots[].description"],
    };
    type Args = ListArgs;
    type Out = ListOut;

    fn subject(args: &ListArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Read for ListSnapshots {
    async fn read(core: Arc<Core>, _call: Call, args: ListArgs) -> Result<ListOut, ToolError> {
        let doing = format!("list the snapshots of guest {}", args.guest.called());
        let found = async {
            let client = client(&core)?;
            let found = client.find(&args.guest).await?;
            let snapshots = client.snapshots(&found.at).await?;
            Ok((found, snapshots))
        };
        let (found, snapshots) = found.await.map_err(failed(&core, &doing))?;
        let rows = snapshots.into_iter().map(row).collect();
        let (snapshots, page) = reply::page(rows, args.limit, args.cursor.as_deref(), budget(&core), "`limit`")
            .map_err(|problem| ToolError::invalid(doing, problem))?;
        Ok(ListOut { vmid: found.at.vmid, name: found.name, snapshots, page, note: found.note })
    }
}

fn row(snapshot: Snapshot) -> Row {
    Row {
        name: snapshot.name,
        created: snapshot.created.and_then(times::rfc3339),
        description: snapshot.description,
        vmstate: snapshot.vmstate,
        parent: snapshot.parent,
        state: snapshot.state,
    }
}

pub(crate) struct CreateSnapshot;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct CreateArgs {
    #[serde(flatten)]
    guest: GuestArgs,
    /// Made up if absent.
    snapname: Option<String>,
    /// Free text.
    description: Option<String>,
    /// With memory (VMs).
    vmstate: Option<bool>,
}

#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct CreateOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    vmid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    /// UPID.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

pub(crate) struct Plan {
    found: Found,
    new: NewSnapshot,
}

impl Tool for CreateSnapshot {
    const ABOUT: About = About {
        name: "proxmox_create_snapshot",
        title: "Take a snapshot of a guest",
        text: "Take a snapshot of a guest and see that it exists. It is no backup.",
        level: Level::Manage,
        toolset: Toolset::Proxmox,
        worst: Effect::Change,
        idempotent: false,
        open_world: false,
        untrusted: &["warnings"],
    };
    type Args = CreateArgs;
    type Out = CreateOut;

    fn subject(args: &CreateArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Change for CreateSnapshot {
    type Plan = Plan;

    fn known(args: &CreateArgs) -> CreateOut {
        CreateOut { vmid: args.guest.vmid, snapshot: args.snapname.clone(), ..CreateOut::default() }
    }

    async fn resolve(core: &Core, _call: &Call, args: &CreateArgs) -> Result<Resolved<Plan>, ToolError> {
        let doing = format!("take a snapshot of guest {}", args.guest.called());
        if let Some(problem) = args.snapname.as_deref().and_then(misnamed) {
            return Err(ToolError::invalid(doing, problem));
        }
        let found = async {
            let client = client(core)?;
            let found = client.find(&args.guest).await?;
            allowed(&found, args)?;
            let existing = client.snapshots(&found.at).await?;
            if let Some(name) = &args.snapname
                && existing.iter().any(|snapshot| snapshot.name == *name)
            {
                return Err(refused(
                    format!("{} has a snapshot `{name}` already", found.label()),
                    "Nothing was done. Choose another name, or leave it out.",
                ));
            }
            Ok(found)
        };
        let found = found.await.map_err(failed(core, doing))?;
        let name = args.snapname.clone().unwrap_or_else(|| format!("snapshot-{}", Timestamp::now().as_millisecond()));
        let vmstate = args.vmstate.unwrap_or(false);
        let called = args.snapname.as_ref().map_or_else(String::new, |name| format!(" `{name}`"));
        let memory = match (vmstate, found.now.is_running()) {
            (true, true) => ", with its memory (it stands still meanwhile)",
            (true, false) => "; it does not run, so there is no memory to save",
            (false, true) => ", without its memory",
            (false, false) => "",
        };
        Ok(Resolved {
            targets: vec![found.target()],
            effect: Effect::Change,
            summary: found.with_note(format!("Take a snapshot{called} of {}{memory}.", found.described())),
            detail: None,
            unchanged: None,
            plan: Plan { found, new: NewSnapshot { name, description: args.description.clone(), vmstate } },
        })
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        _: CreateArgs,
    ) -> Result<Done<CreateOut>, ToolError> {
        let Plan { found, new } = plan;
        let label = found.label();
        let doing = format!("take snapshot `{}` of {label}", new.name);
        running.say(&doing);
        let client = client(&core).map_err(failed(&core, &doing))?;
        let ask = Ask::Snapshot(proof.change(), &new);
        let (at, sent) = client.perform(&running, &ask, &found.at, &["qmsnapshot", "vzsnapshot"], BOUND).await;
        let Sent { upid, end } = sent.map_err(failed(&core, &doing))?;
        // Only the list proves that it exists, and that it is whole.
        let list = client.snapshots(&at).await;
        let (outcome, message, warnings) = concluded(&label, &new.name, end, &list, upid.as_ref());
        let out =
            CreateOut { vmid: Some(at.vmid), snapshot: Some(new.name), task: upid.map(|upid| upid.text), warnings };
        Ok(Done { outcome, message: found.with_note(message), out })
    }
}

/// What the vendor's rule says against a name.
fn misnamed(name: &str) -> Option<String> {
    let rule = (2..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !rule {
        return Some(
            "argument `snapname` must begin with a letter and have 2 to 40 letters, digits, dashes and underscores"
                .to_owned(),
        );
    }
    ["current", "pending", "vzdump"]
        .contains(&name)
        .then(|| format!("`{name}` is a name that Proxmox VE keeps for itself; choose another `snapname`"))
}

fn allowed(found: &Found, args: &CreateArgs) -> Result<(), Fault> {
    if args.vmstate == Some(true) && found.at.kind == GuestType::Lxc {
        return Err(Fault::new(
            Kind::Invalid,
            format!("{} is a container, and its memory cannot be saved", found.label()),
        )
        .hint("Nothing was done. Leave out `vmstate`."));
    }
    if found.now.template {
        return Err(refused(
            format!("{} is a template, of which no snapshot can be taken", found.label()),
            "Nothing was done.",
        ));
    }
    unlocked(found, &[])
}

/// What is true of the snapshot after its task.
fn concluded(
    label: &str,
    name: &str,
    end: End,
    list: &Result<Vec<Snapshot>, Fault>,
    upid: Option<&Upid>,
) -> (Outcome, String, Vec<String>) {
    let there = list.as_ref().map(|list| list.iter().find(|snapshot| snapshot.name == name));
    let whole = matches!(there, Ok(Some(snapshot)) if snapshot.state.is_none());
    let words = match &there {
        Ok(None) => "the snapshot does not exist".to_owned(),
        Ok(Some(Snapshot { state: Some(state), .. })) => {
            format!("the snapshot is in the list, unfinished ({state}); remove it in Proxmox VE")
        }
        Ok(Some(_)) => "the snapshot exists".to_owned(),
        Err(fault) => format!("the list of snapshots cannot be read ({})", fault.cause),
    };
    let task = upid.map_or_else(String::new, |upid| format!(" Task: {}.", upid.text));
    match end {
        End::Fine { warnings } if whole => {
            let warned =
                if warnings.is_empty() { String::new() } else { format!(" With warnings: {}.", warnings.join(" | ")) };
            (Outcome::Changed, format!("Snapshot `{name}` of {label} created successfully.{warned}"), warnings)
        }
        End::Fine { warnings } => {
            let outcome = if there.is_ok() { Outcome::Failed } else { Outcome::Unknown };
            (outcome, format!("{label}: the task ended well, but {words}.{task}"), warnings)
        }
        End::Failed { why, log } => {
            let help = if why.contains("snapshot feature is not available") {
                " One of its disks is on a storage or in a format without snapshots; proxmox_vm_config shows its disks."
            } else {
                ""
            };
            let message = format!("{label}: the task failed: {}; {words}.{help}", quoted(&why, &log));
            (Outcome::Failed, message, Vec::new())
        }
        End::Unknown { why } if whole => {
            let message = format!("Snapshot `{name}` of {label} exists, though of its task is known only: {why}.");
            (Outcome::Changed, message, Vec::new())
        }
        End::Unknown { why } => {
            let message = format!(
                "{label}: {why}; {words}. It may still come: look at proxmox_list_snapshots before trying again.{task}"
            );
            (Outcome::Unknown, message, Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_follow_the_vendors_rule() {
        for name in ["ab", "Before-9_2", "snapshot-1795364255000", &"a".repeat(40)] {
            assert_eq!(misnamed(name), None, "{name}");
        }
        for name in ["", "a", "1a", "-a", "a b", "a/b", "ä1", "a.b", "current", "pending", "vzdump", &"a".repeat(41)] {
            assert!(misnamed(name).is_some(), "{name}");
        }
    }

    #[test]
    fn only_the_list_proves_it() {
        let list = |value| Ok(Snapshot::list(&value).unwrap());
        let outcome = |end, list| concluded("VM 105", "s1", end, &list, None).0;
        let fine = || End::Fine { warnings: Vec::new() };
        let unknown = || End::Unknown { why: "x".to_owned() };
        assert_eq!(outcome(fine(), list(json!([{"name": "s1"}]))), Outcome::Changed);
        assert_eq!(outcome(fine(), list(json!([{"name": "s2"}]))), Outcome::Failed);
        assert_eq!(outcome(fine(), list(json!([{"name": "s1", "snapstate": "prepare"}]))), Outcome::Failed);
        assert_eq!(outcome(fine(), Err(Fault::new(Kind::Unreachable, "x"))), Outcome::Unknown);
        assert_eq!(outcome(unknown(), list(json!([{"name": "s1"}]))), Outcome::Changed);
        assert_eq!(outcome(unknown(), list(json!([]))), Outcome::Unknown);
        let failed = End::Failed { why: "snapshot feature is not available".to_owned(), log: Vec::new() };
        let (outcome, message, _) = concluded("VM 105", "s1", failed, &list(json!([])), None);
        assert!(outcome == Outcome::Failed && message.contains("without snapshots"), "{message}");
    }
}
