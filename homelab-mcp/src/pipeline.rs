//! The way of one call: arguments, then for a read the read, for a change resolve → gate → act. Every outcome becomes
//! an answer here, including a tool that panics.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use serde_json::{Map, Value};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

use crate::{
    Core,
    error::{Fault, Kind, ToolError},
    gate::{Case, Ticket, Verdict},
    operations::Ended,
    redact,
    reply::{Answer, Envelope},
    target::Target,
    tool::{About, Call, Change, Done, Effect, Flow, Outcome, Read, Resolved, Toolset},
};

/// One change at a time to one object; two stacks need not wait for each other.
#[derive(Default)]
pub(crate) struct Locks(std::sync::Mutex<HashMap<String, Arc<AsyncMutex<()>>>>);

impl Locks {
    /// Whether a change to one of these is under way.
    fn any_held(&self, keys: &[String]) -> bool {
        let locks = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.iter().any(|key| locks.get(key).is_some_and(|lock| lock.try_lock().is_err()))
    }

    /// Takes them in one order, so that two changes never wait for each other in a circle.
    async fn hold(&self, mut keys: Vec<String>) -> Vec<tokio::sync::OwnedMutexGuard<()>> {
        keys.sort();
        keys.dedup();
        let wanted: Vec<_> = {
            let mut locks = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            keys.into_iter().map(|key| locks.entry(key).or_default().clone()).collect()
        };
        let mut held = Vec::new();
        for lock in wanted {
            held.push(lock.lock_owned().await);
        }
        held
    }
}

/// How many calls may look at one backend at once. More wait for their turn, while other backends answer as usual.
const AT_ONCE: usize = 32;

/// The turns of each toolset.
pub(crate) struct Slots(HashMap<&'static str, Semaphore>);

impl Default for Slots {
    fn default() -> Self {
        let sets = Toolset::ALL.into_iter().chain([Toolset::Core]);
        Self(sets.map(|set| (set.name(), Semaphore::new(AT_ONCE))).collect())
    }
}

impl Slots {
    async fn hold(&self, toolset: Toolset) -> Option<SemaphorePermit<'_>> {
        // Never closed, so this is always a permit.
        self.0.get(toolset.name())?.acquire().await.ok()
    }
}

/// A turn at a toolset's backend. At an appliance that hangs, waiting for one is over before the calls that it hangs with
/// are: those who come then would wait for as long again.
async fn turn<'a>(core: &'a Core, about: &About) -> Result<Option<SemaphorePermit<'a>>, ToolError> {
    let hold = core.slots.hold(about.toolset);
    let Some(limit) = core.config.appliances.timeout(about.toolset) else { return Ok(hold.await) };
    tokio::time::timeout(limit - limit / 10, hold).await.map_err(|_| {
        Fault::new(Kind::Conflict, format!("{AT_ONCE} calls to it are unanswered already"))
            .hint("It seems to hang; nothing was asked. Try again later.")
            .doing(format!("begin {}", about.name), about.toolset.name())
    })
}

/// What an engine or compose says may quote the very value it stumbled over.
fn masked(core: &Core, text: String) -> String {
    if core.config.redact { redact::mask_text(&text).into_owned() } else { text }
}

/// A reading tool's call.
pub(crate) async fn read<T: Read>(core: Arc<Core>, call: Call, args: Map<String, Value>) -> Flow {
    let args: T::Args = match serde_json::from_value(Value::Object(args)) {
        Ok(args) => args,
        Err(error) => return Flow::Done(Answer::error("invalid", format!("{}: {error}.", T::ABOUT.name))),
    };
    let subject = T::subject(&args);
    let cap = core.config.max_result_chars;
    let read = async {
        let _turn = turn(&core, &T::ABOUT).await?;
        T::read(core.clone(), call, args).await
    };
    let mut answer = match read.await.map(serde_json::to_value) {
        Ok(Ok(value)) => Answer::object(&T::ABOUT, value, false, "ok", cap),
        Ok(Err(error)) => Answer::error("failed", format!("{}: the result cannot be written: {error}.", T::ABOUT.name)),
        Err(error) => Answer::error("failed", masked(&core, error.to_string())),
    };
    answer.subject = subject;
    Flow::Done(answer)
}

/// What every changing tool takes beside its own arguments.
struct Common {
    dry_run: bool,
    confirm: Option<String>,
    wait: Duration,
}

impl Common {
    fn take(args: &mut Map<String, Value>) -> Self {
        Self {
            dry_run: args.shift_remove("dry_run").and_then(|value| value.as_bool()).unwrap_or(false),
            confirm: args.shift_remove("confirm").and_then(|value| value.as_str().map(str::to_owned)),
            wait: Duration::from_secs(args.shift_remove("wait_seconds").and_then(|value| value.as_u64()).unwrap_or(50)),
        }
    }
}

/// A changing tool's call.
pub(crate) async fn change<T: Change>(core: Arc<Core>, call: Call, mut arguments: Map<String, Value>) -> Flow {
    let common = Common::take(&mut arguments);
    let args: T::Args = match serde_json::from_value(Value::Object(arguments.clone())) {
        Ok(args) => args,
        Err(error) => return Flow::Done(Answer::error("invalid", format!("{}: {error}.", T::ABOUT.name))),
    };
    let subject = T::subject(&args);
    let cap = core.config.max_result_chars;
    let answer = |envelope: Envelope<T::Out>| {
        let outcome = envelope.outcome;
        let value = serde_json::to_value(envelope).unwrap_or_default();
        let mut answer = Answer::object(&T::ABOUT, value, outcome.is_error(), outcome.name(), cap);
        answer.subject.clone_from(&subject);
        Flow::Done(answer)
    };

    let resolve = async {
        // Given back before what follows, which may wait for a person.
        let _turn = turn(&core, &T::ABOUT).await?;
        T::resolve(&core, &call, &args).await
    };
    let resolved = tokio::select! {
        resolved = resolve => resolved,
        () = core.stop.stopping() => return answer(envelope(Outcome::Refused, stopping(), &[], T::known(&args))),
    };
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return answer(envelope(Outcome::Failed, masked(&core, error.to_string()), &[], T::known(&args))),
    };
    let Resolved { targets, effect, summary, detail, unchanged, plan: _ } = resolved;
    let short = |outcome, message: String| answer(envelope(outcome, message, &targets, T::known(&args)));

    if let Some(message) = core.gate.protects(&targets).await {
        return short(Outcome::Refused, message);
    }
    // Not while something else changes it: what is so now may not be so when that has ended. Then it takes its turn.
    if let Some(message) = unchanged.filter(|_| !core.locks.any_held(&keys(&targets))) {
        return short(Outcome::Unchanged, message);
    }
    if common.dry_run {
        let mut planned =
            envelope(Outcome::Planned, format!("Would do: {summary} Nothing was done."), &targets, T::known(&args));
        planned.plan = detail;
        return answer(planned);
    }
    let case = Case {
        about: &T::ABOUT,
        call: &call,
        targets: &targets,
        effect,
        summary: &summary,
        detail: detail.as_deref(),
        arguments: &arguments,
        code: common.confirm,
    };
    let ticket = match core.gate.judge(case).await {
        Verdict::Go(ticket) => ticket,
        Verdict::Ask { message, state } => return Flow::Ask { message, state },
        Verdict::Answer { outcome, message, code } => {
            let mut held = envelope(outcome, message, &targets, T::known(&args));
            if code.is_some() {
                held.plan = detail;
            }
            held.confirm = code;
            return answer(held);
        }
    };

    if core.stop.is_stopping() {
        return short(Outcome::Refused, stopping());
    }
    let known = T::known(&args);
    let main = targets.first().cloned().unwrap_or_else(|| Target::new("none", T::ABOUT.name, T::ABOUT.name));
    let (judged, acting_core, acting_call) = ((targets.clone(), effect), core.clone(), call.clone());
    let crashed = ended_by_crash(T::ABOUT.name, &targets, T::known(&args));
    let started = core.operations.start(T::ABOUT.name, main, call.progress.clone(), move |running| async move {
        // Whatever crashes in there, this operation must end: its caller waits for it, and so does the end of the program.
        let work = AssertUnwindSafe(act::<T>(acting_core, acting_call, running, ticket, judged, args)).catch_unwind();
        work.await.unwrap_or(crashed)
    });

    tokio::select! {
        // What has ended is told as it ended, also when the program stops at that moment.
        biased;
        ended = started.ended() => finished::<T>(ended, subject, cap),
        () = tokio::time::sleep(common.wait) => {
            core.operations.announce(&started);
            let message = format!(
                "{summary} This has begun and is not finished after {} s{}. Follow it with operation_status and operation {}.",
                common.wait.as_secs(),
                started.reference().map(|reference| format!(" ({reference})")).unwrap_or_default(),
                started.id()
            );
            let mut running = envelope(Outcome::Running, message, &targets, known);
            running.operation = Some(started.id().to_owned());
            answer(running)
        }
        () = core.stop.abandoned() => {
            let message = format!(
                "The server is stopping and did not see the end of this{}: it may have happened. Read the object's state \
                 before trying again.",
                started.reference().map(|reference| format!(" ({reference})")).unwrap_or_default()
            );
            answer(envelope(Outcome::Unknown, message, &targets, known))
        }
    }
}

fn stopping() -> String {
    "refused: the server is stopping. Nothing was done.".to_owned()
}

fn finished<T: Change>(mut ended: Ended, subject: Option<String>, cap: usize) -> Flow {
    shorten(&mut ended.result, cap);
    let mut answer = Answer::object(&T::ABOUT, ended.result, ended.outcome.is_error(), ended.outcome.name(), cap);
    answer.subject = subject;
    Flow::Done(answer)
}

/// A change was made, so it must be told, whatever becomes of its output: members that are too long are left out, which
/// every member of that size may be, and the message says which.
fn shorten(result: &mut Value, cap: usize) {
    /// Names, states and hashes are shorter, and are what a result needs.
    const KEPT: usize = 500;
    if result.to_string().chars().count() <= cap - cap / 20 {
        return;
    }
    let Value::Object(members) = result else { return };
    let long: Vec<_> = members
        .iter()
        .filter(|(name, value)| *name != "message" && value.to_string().len() > KEPT)
        .map(|(name, _)| name.clone())
        .collect();
    long.iter().for_each(|name| drop(members.shift_remove(name)));
    if let Some(Value::String(message)) = members.get_mut("message") {
        message.push_str(&format!(" (Left out, more than MAX_RESULT_CHARS: {}.)", long.join(", ")));
    }
}

async fn act<T: Change>(
    core: Arc<Core>,
    call: Call,
    running: crate::operations::Running,
    ticket: Ticket,
    judged: (Vec<Target>, Effect),
    args: T::Args,
) -> Ended {
    let (judged, effect) = judged;
    let masking = core.clone();
    let ended = |outcome: Outcome, message: String, out: T::Out| {
        let message = masked(&masking, message);
        let result = serde_json::to_value(envelope(outcome, message.clone(), &judged, out)).unwrap_or_default();
        Ended { outcome, message, result }
    };
    let known = || T::known(&args);
    let _alone = core.locks.hold(keys(&judged)).await;
    // A person may have thought about it, or another change may have come between: what was judged must still be so.
    let Resolved { targets, effect: now, unchanged, plan, .. } = match T::resolve(&core, &call, &args).await {
        Ok(resolved) => resolved,
        Err(error) => return ended(Outcome::Failed, error.to_string(), known()),
    };
    if let Some(message) = core.gate.protects(&targets).await {
        return ended(Outcome::Refused, message, known());
    }
    if let Some(message) = unchanged {
        return ended(Outcome::Unchanged, message, known());
    }
    if core.stop.is_stopping() {
        return ended(Outcome::Refused, stopping(), known());
    }
    if now != effect || identities(&targets) != identities(&judged) {
        let message =
            "refused: the objects changed while this was being decided, so it would do something else now. Nothing \
                       was done; call again."
                .to_owned();
        return ended(Outcome::Refused, message, known());
    }
    // Both wait for the disk, and for other processes that share the STATE_DIR.
    let gate = core.clone();
    let admitted = tokio::task::spawn_blocking(move || (gate.gate.admit(&ticket), ticket)).await;
    let (proof, ticket) = match admitted {
        Ok((Ok(proof), ticket)) => (proof, ticket),
        Ok((Err(message), _)) => return ended(Outcome::Refused, message, known()),
        Err(_) => return ended(Outcome::Refused, "refused: the gate crashed; nothing was done.".to_owned(), known()),
    };
    let on_failure = known();
    let clock = Instant::now();
    let done = AssertUnwindSafe(T::act(core.clone(), running, proof, plan, args)).catch_unwind().await;
    let ended = match done {
        Ok(Ok(Done { outcome, message, out })) => ended(outcome, message, out),
        Ok(Err(error)) => ended(outcome_of(&error), error.to_string(), on_failure),
        // Also told in the audit, which a crash elsewhere is not.
        Err(_) => ended_by_crash(T::ABOUT.name, &judged, on_failure),
    };
    let (outcome, message) = (ended.outcome, ended.message.clone());
    let recorded = tokio::task::spawn_blocking(move || {
        core.gate.record(&ticket, outcome, &message, clock.elapsed().as_millis());
    });
    if recorded.await.is_err() {
        log::error!("recording what became of {} crashed", T::ABOUT.name);
    }
    ended
}

/// A bug of ours; what was done until then is not known.
fn ended_by_crash<O: serde::Serialize>(tool: &str, targets: &[Target], out: O) -> Ended {
    let message =
        format!("{tool} crashed: this is a bug; it may have happened. Read the object's state before trying again.");
    let result = serde_json::to_value(envelope(Outcome::Unknown, message.clone(), targets, out)).unwrap_or_default();
    Ended { outcome: Outcome::Unknown, message, result }
}

/// Which objects these are, in any order, by key and name: a vmid may be another guest's by now.
fn identities(targets: &[Target]) -> std::collections::BTreeSet<(String, &str)> {
    targets.iter().map(|target| (target.key(), target.name.as_str())).collect()
}

/// What is locked for them.
fn keys(targets: &[Target]) -> Vec<String> {
    let mut keys: Vec<_> = targets.iter().map(Target::key).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// After sending, no answer in time is not a failure: it may have happened.
fn outcome_of(error: &ToolError) -> Outcome {
    if error.fault.kind == Kind::TimedOut { Outcome::Unknown } else { Outcome::Failed }
}

fn envelope<O>(outcome: Outcome, message: String, targets: &[Target], out: O) -> Envelope<O> {
    Envelope {
        success: outcome.is_success(),
        message,
        outcome,
        target: targets.first().cloned(),
        also: targets.iter().skip(1).map(Target::to_string).collect(),
        operation: None,
        confirm: None,
        plan: None,
        out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_told_however_long_its_output_is() {
        let mut result = json!({"success": true, "message": "Done.", "outcome": "changed", "stack": "web", "output": "x".repeat(9000)});
        shorten(&mut result, 100_000);
        assert_eq!(result["output"].as_str().unwrap().len(), 9000);
        shorten(&mut result, 2000);
        assert_eq!(
            result,
            json!({
                "success": true,
                "message": "Done. (Left out, more than MAX_RESULT_CHARS: output.)",
                "outcome": "changed",
                "stack": "web",
            })
        );
    }
}
