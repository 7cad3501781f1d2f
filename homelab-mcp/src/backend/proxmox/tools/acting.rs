//! What every change of a guest goes through: the request, its task to the end, and then the guest's state read back,
//! which alone decides. A request whose answer was lost is looked for before it is called unknown.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    backend::proxmox::{
        client::{NewSnapshot, Power, Proxmox},
        guest::Found,
        model::{At, Current, GuestType},
        task::{End, Pace, Sent, Upid, quoted, says_gone},
    },
    error::{Fault, Kind},
    operations::Running,
    proof,
    tool::{Done, Outcome},
};

/// A task may still be cleaning up when it has ended.
const SETTLE: Duration = Duration::from_secs(10);

/// Seconds that a guest must have run for its age to tell whether it was restarted.
const YOUNG: u64 = 30;

/// A change's result beside the envelope.
#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct ActOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vmid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// Read back afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
    /// UPID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// What state is asked for.
#[derive(Clone, Debug)]
pub(super) enum Want {
    Running,
    Stopped,
    /// Running, and started after that.
    Restarted {
        pid: Option<u64>,
        uptime: Option<u64>,
    },
}

impl Want {
    /// Whether a guest is as wanted, when its task ended well. (A reboot's task ends when the guest is down.)
    fn is(&self, now: &Current) -> bool {
        match self {
            Self::Running => now.is_running() && !now.is_held(),
            Self::Stopped => now.is_stopped(),
            Self::Restarted { pid, uptime } => {
                let same_process = pid.is_none() || now.pid.is_none() || *pid == now.pid;
                // A guest that was itself just started is hardly older than one that was restarted.
                let older = match (uptime, now.used.uptime) {
                    (Some(before), Some(now)) => *before >= YOUNG && now >= *before,
                    _ => pid.is_some() && now.pid.is_some(),
                };
                now.is_running() && !now.is_held() && !(same_process && older)
            }
        }
    }

    /// Whether the state alone proves it, when nothing is known of the task.
    fn is_proven(&self, now: &Current) -> bool {
        match self {
            Self::Restarted { pid, uptime } => {
                let new_process = pid.zip(now.pid).is_some_and(|(before, now)| before != now);
                let younger = uptime.zip(now.used.uptime).is_some_and(|(before, now)| now < before);
                self.is(now) && (new_process || younger)
            }
            _ => self.is(now),
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Restarted { .. } => "restarted",
        }
    }
}

/// What is asked of a guest's node, with the proof that it may be.
pub(super) enum Ask<'a> {
    Power(&'a proof::Change, &'a Power),
    Snapshot(&'a proof::Change, &'a NewSnapshot),
    /// With `purge`.
    Delete(&'a proof::Destroy, bool),
}

/// A change of power, decided.
pub(crate) struct Plan {
    pub(super) found: Found,
    pub(super) power: Power,
    pub(super) want: Want,
    /// The types its task can have.
    pub(super) kinds: &'static [&'static str],
    /// For the task.
    pub(super) bound: Duration,
    /// For the state after it: of an HA-managed guest the task is only the request.
    pub(super) settle: Duration,
    /// `started successfully`.
    pub(super) done: &'static str,
}

impl Plan {
    pub(super) fn new(found: Found, power: Power) -> Self {
        let ha = found.now.ha_managed;
        let seconds = |timeout: Option<u32>| Duration::from_secs(timeout.unwrap_or(180).into());
        // Far more than any of it takes: the caller does not wait for it, `running` does.
        let margin = Duration::from_secs(600);
        let (want, kinds, bound, settle, done): (_, &[&str], _, _, _) = match &power {
            Power::Start => {
                (Want::Running, &["qmstart", "vzstart", "hastart", "qmresume"], margin, 120, "started successfully")
            }
            Power::Stop { .. } => (Want::Stopped, &["qmstop", "vzstop", "hastop"], margin, 120, "stopped successfully"),
            Power::Shutdown { timeout, .. } => (
                Want::Stopped,
                &["qmshutdown", "vzshutdown", "hastop"],
                seconds(*timeout) + margin,
                u64::from(timeout.unwrap_or(60)) + 180,
                "shut down successfully",
            ),
            Power::Reboot { timeout } => {
                let want = Want::Restarted { pid: found.now.pid, uptime: found.now.used.uptime };
                (want, &["qmreboot", "vzreboot"], seconds(*timeout) + margin, 60, "rebooted successfully")
            }
        };
        let settle = match power {
            // The guest is started by a second task, after the first has ended.
            Power::Reboot { .. } => Duration::from_secs(settle),
            _ if ha => Duration::from_secs(settle),
            _ => SETTLE,
        };
        Self { found, power, want, kinds, bound, settle, done }
    }

    /// The HA manager does it: the task is only the request.
    fn by_ha(&self) -> bool {
        self.found.now.ha_managed && !matches!(self.power, Power::Reboot { .. })
    }
}

/// The state that a guest came to.
struct Settled {
    at: At,
    reached: bool,
    now: Result<Current, Fault>,
}

impl Settled {
    fn state(&self) -> Option<String> {
        self.now.as_ref().ok().map(|now| now.state().to_owned())
    }

    /// `it is running now`, or why that is not known.
    fn words(&self) -> String {
        match &self.now {
            Ok(now) => format!("it is {} now", now.state()),
            Err(fault) => format!("its state cannot be read ({})", fault.cause),
        }
    }
}

impl Proxmox {
    /// Polls a guest until it is as wanted or the time is over. It may move meanwhile.
    async fn settle(&self, at: &At, want: &Want, within: Duration) -> Settled {
        let deadline = Instant::now() + within;
        let mut at = at.clone();
        let mut pace = Pace::default();
        loop {
            let now = self.current(&at).await;
            let reached = now.as_ref().is_ok_and(|now| want.is(now));
            // Nothing follows from here until somebody has cleared the error.
            let stuck = now.as_ref().is_ok_and(|now| now.ha_state.as_deref() == Some("error"));
            if let Err(fault) = &now
                && fault.kind == Kind::NotFound
                && let Ok(Some(moved)) = self.locate(at.vmid).await
            {
                at = moved;
            }
            if reached || stuck || !pace.wait(deadline).await {
                return Settled { at, reached, now };
            }
        }
    }

    /// Sends a change and follows its task to the end; gives the place where the guest was then. A fault is a request that
    /// certainly had no effect.
    pub(super) async fn perform(
        &self,
        running: &Running,
        ask: &Ask<'_>,
        at: &At,
        kinds: &[&str],
        bound: Duration,
    ) -> (At, Result<Sent, Fault>) {
        let mut at = at.clone();
        let mut moved = false;
        loop {
            let before = self.tasks(&at).await.ok();
            let sent = match ask {
                Ask::Power(proof, power) => self.power(proof, &at, power).await,
                Ask::Snapshot(proof, new) => self.snapshot(proof, &at, new).await,
                Ask::Delete(proof, purge) => self.delete(proof, &at, *purge).await,
            };
            let result = self.see_through(&at, running, sent, before.as_deref(), kinds, bound).await;
            // It is not on that node any more, so that nothing was done; where it is now, it is asked for once.
            if !moved
                && was_gone(&result)
                && let Ok(Some(now)) = self.locate(at.vmid).await
                && now.node != at.node
            {
                running.say(format!("{at} has moved to node {}", now.node));
                (at, moved) = (now, true);
                continue;
            }
            return (at, result);
        }
    }

    /// Sends a change of power and sees it through. A fault is a request that certainly had no effect.
    pub(super) async fn act(
        &self,
        running: &Running,
        proof: &proof::Change,
        plan: &Plan,
    ) -> Result<Done<ActOut>, Fault> {
        let ask = Ask::Power(proof, &plan.power);
        let (at, result) = self.perform(running, &ask, &plan.found.at, plan.kinds, plan.bound).await;
        match result {
            Ok(sent) => Ok(self.conclude(running, plan, &at, sent).await),
            Err(fault) if says_already(&fault.cause) => {
                let settled = self.settle(&at, &plan.want, Duration::ZERO).await;
                if settled.reached { Ok(unchanged(plan, settled, None)) } else { Err(explained(plan, fault)) }
            }
            Err(fault) => Err(explained(plan, fault)),
        }
    }

    /// From the end of the task to what is true of the guest.
    async fn conclude(&self, running: &Running, plan: &Plan, at: &At, sent: Sent) -> Done<ActOut> {
        let Sent { upid, end } = sent;
        let label = plan.found.label();
        let task = upid.as_ref().map_or_else(String::new, |upid| format!(" Task: {}.", upid.text));
        match end {
            End::Fine { warnings } => {
                if plan.by_ha() {
                    running
                        .say(format!("the HA manager has the request; waiting until {label} is {}", plan.want.words()));
                }
                let settled = self.settle(at, &plan.want, plan.settle).await;
                let ha = if plan.by_ha() { " It is HA-managed: the HA manager did it and keeps it so." } else { "" };
                let warned = if warnings.is_empty() {
                    String::new()
                } else {
                    format!(" With warnings: {}.", warnings.join(" | "))
                };
                let (outcome, message) = if settled.reached {
                    (Outcome::Changed, format!("{label} {}.{ha}{warned}", plan.done))
                } else {
                    not_reached(plan, &settled, &label, &warned, &task)
                };
                done(outcome, plan.found.with_note(message), settled, upid, warnings)
            }
            End::Failed { why, log } => {
                let settled = self.settle(at, &plan.want, Duration::ZERO).await;
                if settled.reached && says_already(&why) {
                    return unchanged(plan, settled, upid);
                }
                let help = help(plan, &why, settled.now.as_ref().is_ok_and(Current::is_running));
                let message = format!("{label}: the task failed: {}; {}.{help}", quoted(&why, &log), settled.words());
                done(Outcome::Failed, plan.found.with_note(message), settled, upid, Vec::new())
            }
            End::Unknown { why } => {
                // The search for a lost task has waited already.
                let within = if upid.is_some() { SETTLE } else { Duration::ZERO };
                let settled = self.settle(at, &plan.want, within).await;
                let proven = settled.now.as_ref().is_ok_and(|now| plan.want.is_proven(now));
                let (outcome, message) = if proven {
                    (
                        Outcome::Changed,
                        format!("{label} is {} now, though of its task is known only: {why}.", plan.want.words()),
                    )
                } else {
                    let check = "It may still happen: look at proxmox_vm_status before trying again.";
                    (Outcome::Unknown, format!("{label}: {why}; {}. {check}{task}", settled.words()))
                };
                done(outcome, plan.found.with_note(message), settled, upid, Vec::new())
            }
        }
    }
}

fn done(
    outcome: Outcome,
    message: String,
    settled: Settled,
    upid: Option<Upid>,
    warnings: Vec<String>,
) -> Done<ActOut> {
    let out = ActOut {
        vmid: Some(settled.at.vmid),
        node: Some(settled.at.node.to_string()),
        status: settled.state(),
        task: upid.map(|upid| upid.text),
        warnings,
    };
    Done { outcome, message, out }
}

/// Somebody else was faster.
fn unchanged(plan: &Plan, settled: Settled, upid: Option<Upid>) -> Done<ActOut> {
    let message = format!("{} was already {}.", plan.found.label(), plan.want.words());
    done(Outcome::Unchanged, plan.found.with_note(message), settled, upid, Vec::new())
}

/// The task said OK, and the state is another.
fn not_reached(plan: &Plan, settled: &Settled, label: &str, warned: &str, task: &str) -> (Outcome, String) {
    let words = settled.words();
    if plan.by_ha() {
        let state = settled.now.as_ref().ok().and_then(|now| now.ha_state.as_deref());
        let outcome = if state == Some("error") { Outcome::Failed } else { Outcome::Unknown };
        let state = state.map_or_else(String::new, |state| format!(" HA state: {state}."));
        let message = format!(
            "{label} is HA-managed: the HA manager has the request, but {words}.{state}{warned} It may still happen: look at \
             proxmox_vm_status.{task}"
        );
        return (outcome, message);
    }
    match (&plan.want, &settled.now) {
        (_, Err(_)) => (Outcome::Unknown, format!("{label}: the task ended well, but {words}.{warned}{task}")),
        (Want::Restarted { .. }, Ok(now)) if now.is_running() => (
            Outcome::Unknown,
            format!("{label}: the task ended well, but {words} and seems not to have been restarted.{warned}{task}"),
        ),
        (Want::Restarted { .. }, Ok(_)) => (
            Outcome::Failed,
            format!("{label} was shut down, but has not come up again; {words}. Call proxmox_start_vm.{warned}{task}"),
        ),
        _ => (Outcome::Failed, format!("{label}: the task ended well, but {words}.{warned}{task}")),
    }
}

/// Whether a request or its task failed because the guest is not on that node.
fn was_gone(result: &Result<Sent, Fault>) -> bool {
    match result {
        Err(fault) => fault.kind == Kind::NotFound,
        Ok(Sent { end: End::Failed { why, .. }, .. }) => says_gone(why),
        Ok(_) => false,
    }
}

/// `VM 100 already running`, `CT 200 not running`.
fn says_already(why: &str) -> bool {
    why.ends_with("already running") || why.ends_with("not running")
}

/// A refusal with the advice that this action needs.
fn explained(plan: &Plan, fault: Fault) -> Fault {
    let help = help(plan, &fault.cause, false);
    if help.is_empty() || fault.hint.is_some() { fault } else { fault.hint(help.trim_start()) }
}

/// What to do about a failure, as a sentence with a space before it; nothing when it speaks for itself.
fn help(plan: &Plan, why: &str, still_runs: bool) -> String {
    let graceful = matches!(plan.power, Power::Shutdown { .. } | Power::Reboot { .. });
    if why.contains("can't lock file") {
        " Another action holds its lock, perhaps a shutdown that still waits: wait for it, or call proxmox_stop_vm with \
         overrule_shutdown (Proxmox VE 8.2 and later)."
            .to_owned()
    } else if why.contains("is locked (") {
        " Wait until what locked it has ended.".to_owned()
    } else if graceful && still_runs && !why.contains("interrupt") {
        let agent = match (plan.found.at.kind, plan.found.now.agent) {
            (GuestType::Lxc, _) => "Its init did not end in time.",
            (_, true) => {
                "Neither its guest agent, which is switched on but may not run, nor ACPI brought it down in time."
            }
            (_, false) => "It has no guest agent switched on, and its system did not react to ACPI in time.",
        };
        format!(
            " {agent} Give it more time with `timeout`, or end it by force: proxmox_shutdown_vm with force_stop, or \
                 proxmox_stop_vm."
        )
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now(value: serde_json::Value) -> Current {
        Current::read(&value).unwrap()
    }

    #[test]
    fn a_wanted_state_is_what_was_asked_and_no_less() {
        let running = now(json!({"status": "running", "qmpstatus": "running", "pid": 7, "uptime": 100}));
        let paused = now(json!({"status": "running", "qmpstatus": "paused"}));
        let stopped = now(json!({"status": "stopped"}));
        assert!(Want::Running.is(&running) && !Want::Running.is(&paused) && !Want::Running.is(&stopped));
        assert!(Want::Stopped.is(&stopped) && !Want::Stopped.is(&paused));
    }

    #[test]
    fn a_reboot_is_seen_by_a_new_process_or_a_younger_one() {
        let restarted = |pid, uptime| Want::Restarted { pid, uptime };
        let after = now(json!({"status": "running", "pid": 8, "uptime": 103}));
        for (pid, uptime, is, proven) in [
            (Some(7), Some(100), true, true),
            (Some(8), Some(100), false, false),
            (Some(8), Some(200), true, true),
            (None, Some(200), true, true),
            (None, Some(100), false, false),
            (Some(8), Some(2), true, false),
            (Some(8), None, false, false),
            (None, None, true, false),
        ] {
            let want = restarted(pid, uptime);
            assert_eq!((want.is(&after), want.is_proven(&after)), (is, proven), "{want:?}");
        }
        let stopped = now(json!({"status": "stopped"}));
        assert!(!restarted(Some(7), Some(100)).is(&stopped) && !restarted(None, None).is_proven(&stopped));
    }
}
