//! Start, stop, shut down and reboot.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use shared::Level;

use super::{
    acting::{ActOut, Plan},
    failed, refused, unlocked,
};
use crate::{
    Core,
    backend::proxmox::{
        client,
        client::Power,
        guest::{Found, GuestArgs},
        model::GuestType,
    },
    error::{Fault, ToolError},
    operations::Running,
    proof::Proof,
    tool::{About, Call, Change, Done, Effect, Resolved, Tool, Toolset},
};

const fn about(name: &'static str, title: &'static str, text: &'static str, idempotent: bool) -> About {
    About {
        name,
        title,
        text,
        level: Level::Operate,
        toolset: Toolset::Proxmox,
        worst: Effect::Change,
        idempotent,
        open_world: false,
        untrusted: &["warnings"],
    }
}

fn known(args: &GuestArgs) -> ActOut {
    ActOut { vmid: args.vmid, ..ActOut::default() }
}

async fn find(core: &Core, doing: &str, args: &GuestArgs) -> Result<Found, ToolError> {
    let found = async { client(core)?.find(args).await };
    found.await.map_err(failed(core, format!("{doing} guest {}", args.called())))
}

/// What is to be done, or why there is nothing to do.
fn resolved(found: Found, verb: &str, power: Power, unchanged: Option<String>) -> Resolved<Plan> {
    let unchanged = unchanged.map(|sentence| found.with_note(sentence));
    Resolved {
        targets: vec![found.target()],
        effect: Effect::Change,
        summary: found.with_note(format!("{verb} {}.", found.described())),
        detail: None,
        unchanged,
        plan: Plan::new(found, power),
    }
}

async fn act(
    core: &Core,
    running: &Running,
    proof: &Proof,
    doing: &str,
    plan: Plan,
) -> Result<Done<ActOut>, ToolError> {
    let action = format!("{doing} {}", plan.found.label());
    running.say(format!("{action} on node {}", plan.found.at.node));
    let acted = async { client(core)?.act(running, proof.change(), &plan).await };
    acted.await.map_err(failed(core, action))
}

/// Whether the HA manager is about to make it the opposite of what it is, so that asking is not idle.
fn ha_turns(found: &Found, to: &[&str]) -> bool {
    found.now.ha_managed && found.now.ha_state.as_deref().is_some_and(|state| to.contains(&state))
}

/// HA states that end in a stopped guest.
const STOPPING: [&str; 2] = ["request_stop", "stopping"];
/// HA states that end in a running guest.
const STARTING: [&str; 6] = ["started", "starting", "request_start", "request_start_balance", "recovery", "queued"];

fn was_stopped(found: &Found) -> Option<String> {
    (found.now.is_stopped() && !ha_turns(found, &STARTING)).then(|| format!("{} was not running.", found.label()))
}

/// The refusal of what only a guest that computes can do.
fn not_held(found: &Found, verb: &str) -> Result<(), Fault> {
    if found.now.is_held() {
        return Err(refused(
            format!("{} is {}, and a guest that is held cannot {verb}", found.label(), found.now.state()),
            "Nothing was done. Resume it in Proxmox VE first, or end it with proxmox_stop_vm.",
        ));
    }
    Ok(())
}

pub(crate) struct StartVm;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct StartArgs {
    #[serde(flatten)]
    guest: GuestArgs,
}

impl Tool for StartVm {
    const ABOUT: About = about(
        "proxmox_start_vm",
        "Start a guest",
        "Start a VM or container and see that it runs. Resumes no paused one.",
        true,
    );
    type Args = StartArgs;
    type Out = ActOut;

    fn subject(args: &StartArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Change for StartVm {
    type Plan = Plan;

    fn known(args: &StartArgs) -> ActOut {
        known(&args.guest)
    }

    async fn resolve(core: &Core, _call: &Call, args: &StartArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "start";
        let found = find(core, DOING, &args.guest).await?;
        let unchanged = startable(&found).map_err(failed(core, format!("{DOING} {}", found.label())))?;
        Ok(resolved(found, "Start", Power::Start, unchanged))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        _: StartArgs,
    ) -> Result<Done<ActOut>, ToolError> {
        act(&core, &running, &proof, "start", plan).await
    }
}

/// Why a guest cannot be started, or that it need not be.
fn startable(found: &Found) -> Result<Option<String>, Fault> {
    let label = found.label();
    if found.now.template {
        return Err(refused(
            format!("{label} is a template, and a template cannot be started"),
            "Nothing was done. Clone it in Proxmox VE and start the clone.",
        ));
    }
    // A backup of a stopped VM holds it at its beginning; starting lets it go on.
    let held_by_backup = found.now.is_running() && found.now.lock.as_deref() == Some("backup");
    match (found.now.is_running(), found.now.state()) {
        (true, "running") => Ok((!ha_turns(found, &STOPPING)).then(|| format!("{label} was already running."))),
        (true, _) if held_by_backup => Ok(None),
        (true, state) => Err(refused(
            format!("{label} is {state}: its process runs already, and starting does not resume it"),
            "Nothing was done. Resume it in Proxmox VE, or call proxmox_stop_vm and then proxmox_start_vm, which loses \
             what is in its memory.",
        )),
        // One that was hibernated carries that lock, and starting wakes it up.
        (false, _) => unlocked(found, &["suspended"]).map(|()| None),
    }
}

pub(crate) struct StopVm;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct StopArgs {
    #[serde(flatten)]
    guest: GuestArgs,
    /// End a shutdown that waits.
    overrule_shutdown: Option<bool>,
}

impl Tool for StopVm {
    const ABOUT: About = about(
        "proxmox_stop_vm",
        "Stop a guest at once",
        "Cut a guest's power; unsaved data is lost. Prefer proxmox_shutdown_vm.",
        true,
    );
    type Args = StopArgs;
    type Out = ActOut;

    fn subject(args: &StopArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Change for StopVm {
    type Plan = Plan;

    fn known(args: &StopArgs) -> ActOut {
        known(&args.guest)
    }

    async fn resolve(core: &Core, _call: &Call, args: &StopArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "stop";
        let found = find(core, DOING, &args.guest).await?;
        let unchanged = was_stopped(&found);
        let overrule = args.overrule_shutdown.unwrap_or(false);
        if unchanged.is_none() {
            let allowed = async {
                if found.now.is_running() {
                    unlocked(&found, if found.at.kind == GuestType::Lxc { &["mounted"] } else { &[] })?;
                }
                if overrule {
                    overrulable(&found, &client(core)?.version().await?)?;
                }
                Ok(())
            };
            allowed.await.map_err(failed(core, format!("{DOING} {}", found.label())))?;
        }
        Ok(resolved(found, "Cut the power of", Power::Stop { overrule }, unchanged))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        _: StopArgs,
    ) -> Result<Done<ActOut>, ToolError> {
        act(&core, &running, &proof, "stop", plan).await
    }
}

/// The parameter came with 8.2, and the HA manager does not take it.
fn overrulable(found: &Found, version: &str) -> Result<(), Fault> {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let known = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (cause, hint) = if found.now.ha_managed {
        (
            format!("{} is HA-managed, and its shutdown cannot be overruled", found.label()),
            "Nothing was done. Call again without overrule_shutdown.",
        )
    } else if known < (8, 2) {
        (
            format!("Proxmox VE {version} cannot overrule a shutdown; 8.2 was the first that could"),
            "Nothing was done. Call again without overrule_shutdown when the shutdown has timed out.",
        )
    } else {
        return Ok(());
    };
    Err(refused(cause, hint))
}

pub(crate) struct ShutdownVm;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ShutdownArgs {
    #[serde(flatten)]
    guest: GuestArgs,
    /// Seconds (default 60).
    #[schemars(range(min = 1, max = 7200))]
    timeout: Option<u32>,
    /// By force after that.
    force_stop: Option<bool>,
}

impl Tool for ShutdownVm {
    const ABOUT: About = about(
        "proxmox_shutdown_vm",
        "Shut a guest down",
        "Ask a guest's system to shut down, wait, and see that it is down.",
        true,
    );
    type Args = ShutdownArgs;
    type Out = ActOut;

    fn subject(args: &ShutdownArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Change for ShutdownVm {
    type Plan = Plan;

    fn known(args: &ShutdownArgs) -> ActOut {
        known(&args.guest)
    }

    async fn resolve(core: &Core, _call: &Call, args: &ShutdownArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "shut down";
        let found = find(core, DOING, &args.guest).await?;
        let unchanged = was_stopped(&found);
        let force = args.force_stop.unwrap_or(false);
        let allowed = || {
            if unchanged.is_none() && found.now.is_running() {
                unlocked(&found, if found.at.kind == GuestType::Lxc { &["mounted"] } else { &[] })?;
                // With force the vendor stops a held one in place of asking it.
                if !force {
                    not_held(&found, "shut down")?;
                }
            }
            Ok(())
        };
        allowed().map_err(failed(core, format!("{DOING} {}", found.label())))?;
        let verb = if force { "Shut down, by force if need be," } else { "Shut down" };
        Ok(resolved(found, verb, Power::Shutdown { timeout: args.timeout, force }, unchanged))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        _: ShutdownArgs,
    ) -> Result<Done<ActOut>, ToolError> {
        act(&core, &running, &proof, "shut down", plan).await
    }
}

pub(crate) struct RebootVm;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct RebootArgs {
    #[serde(flatten)]
    guest: GuestArgs,
    /// Seconds (default 60).
    #[schemars(range(min = 1, max = 7200))]
    timeout: Option<u32>,
}

impl Tool for RebootVm {
    const ABOUT: About = about(
        "proxmox_reboot_vm",
        "Reboot a guest",
        "Shut a guest down and start it again; applies changed settings.",
        false,
    );
    type Args = RebootArgs;
    type Out = ActOut;

    fn subject(args: &RebootArgs) -> Option<String> {
        Some(args.guest.called())
    }
}

impl Change for RebootVm {
    type Plan = Plan;

    fn known(args: &RebootArgs) -> ActOut {
        known(&args.guest)
    }

    async fn resolve(core: &Core, _call: &Call, args: &RebootArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "reboot";
        let found = find(core, DOING, &args.guest).await?;
        let allowed = || {
            if found.now.is_stopped() {
                return Err(refused(
                    format!("{} is not running", found.label()),
                    "Nothing was done. Call proxmox_start_vm.",
                ));
            }
            unlocked(&found, &[])?;
            not_held(&found, "reboot")
        };
        allowed().map_err(failed(core, format!("{DOING} {}", found.label())))?;
        Ok(resolved(found, "Reboot", Power::Reboot { timeout: args.timeout }, None))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        _: RebootArgs,
    ) -> Result<Done<ActOut>, ToolError> {
        act(&core, &running, &proof, "reboot", plan).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::proxmox::model::{At, Current, Node};
    use serde_json::{Value, json};

    fn found(now: Value) -> Found {
        let at = At { vmid: 105, node: Node::new("pve1").unwrap(), kind: GuestType::Qemu };
        let now = Current::read(&now).unwrap();
        Found { at, name: "web".to_owned(), now, pool: None, tags: Vec::new(), note: None }
    }

    #[test]
    fn what_a_start_would_come_to_is_foreseen() {
        let told = |now| startable(&found(now));
        assert_eq!(told(json!({"status": "stopped"})).unwrap(), None);
        assert_eq!(told(json!({"status": "stopped", "lock": "suspended"})).unwrap(), None);
        let running = json!({"status": "running", "qmpstatus": "running"});
        assert_eq!(told(running).unwrap().unwrap(), "VM 105 (web) was already running.");
        assert_eq!(told(json!({"status": "running", "qmpstatus": "prelaunch", "lock": "backup"})).unwrap(), None);
        for (now, word) in [
            (json!({"status": "stopped", "template": 1}), "template"),
            (json!({"status": "stopped", "lock": "backup"}), "locked (backup)"),
            (json!({"status": "running", "qmpstatus": "paused"}), "is paused"),
            (json!({"status": "running", "qmpstatus": "io-error"}), "is io-error"),
        ] {
            let fault = told(now).unwrap_err();
            assert!(fault.cause.contains(word) && fault.hint.unwrap().contains("Nothing was done"), "{word}");
        }
    }

    #[test]
    fn the_ha_manager_may_be_about_to_turn_it() {
        let ha = |status, state| json!({"status": status, "ha": {"managed": 1, "state": state}});
        assert!(was_stopped(&found(ha("stopped", Value::Null))).is_some());
        assert!(was_stopped(&found(ha("stopped", json!("started")))).is_none());
        assert!(startable(&found(ha("running", json!("request_stop")))).unwrap().is_none());
    }

    #[test]
    fn overruling_needs_a_version_and_no_ha() {
        let plain = found(json!({"status": "running"}));
        for (version, fine) in [("8.4.21", true), ("8.2", true), ("9.0.3", true), ("8.1.4", false), ("7.4-20", false)] {
            assert_eq!(overrulable(&plain, version).is_ok(), fine, "{version}");
        }
        assert!(overrulable(&found(json!({"status": "running", "ha": {"managed": 1}})), "9.0").is_err());
    }
}
