//! Changes that are under way or ended lately. Every change runs here in a task of its own, so that a caller who stops
//! waiting does not stop it. One that outlasts its call is written to STATE_DIR, so that another process can tell of it;
//! a lock held by the process that runs it tells whether that process still lives.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::Stop;
use tokio::sync::watch;

use crate::{
    progress::Progress,
    redact,
    state::{self, State},
    target::Target,
    tool::Outcome,
};

/// Lines of output kept per operation.
const LINES: usize = 40;
/// Operations in a list.
const LISTED: usize = 30;
/// Ended operations kept in memory.
const KEPT: usize = 100;
const KEPT_ON_DISK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a change ended with.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) message: String,
    /// The whole result object.
    pub(crate) result: Value,
}

/// An operation as `operation_status` tells it and STATE_DIR keeps it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Row {
    pub(crate) operation: String,
    pub(crate) tool: String,
    pub(crate) target: String,
    pub(crate) started: String,
    pub(crate) seconds: u64,
    pub(crate) outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// The newest lines of its output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) output: Vec<String>,
    /// What the call would have answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub(crate) result: Option<Value>,
}

struct Op {
    id: String,
    tool: &'static str,
    target: Target,
    started: jiff::Timestamp,
    clock: Instant,
    lines: Mutex<VecDeque<String>>,
    /// What the appliance calls it.
    reference: Mutex<Option<String>>,
    ended: watch::Sender<Option<(Ended, u64)>>,
    /// Held while announced to other processes.
    lock: Mutex<Option<File>>,
}

/// All operations of this process.
pub(crate) struct Operations {
    ops: Mutex<BTreeMap<String, Arc<Op>>>,
    running: watch::Sender<usize>,
    state: State,
    stop: Stop,
    redact: bool,
}

/// A running change's handle to what it belongs to.
#[derive(Clone)]
pub(crate) struct Running {
    op: Arc<Op>,
    progress: Progress,
    stop: Stop,
    redact: bool,
}

impl Running {
    /// A line of output, or a word on how far it has come.
    pub(crate) fn say(&self, line: impl Into<String>) {
        /// Of one line.
        const LONGEST: usize = 500;
        let mut line: String = line.into();
        if self.redact {
            line = redact::mask_text(&line).into_owned();
        }
        if let Some((end, _)) = line.char_indices().nth(LONGEST) {
            line.truncate(end);
            line.push('…');
        }
        self.progress.say(line.clone());
        let mut lines = lock(&self.op.lines);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// What the appliance calls this work: "task UPID:…". Told when the call does not wait for the end.
    pub(crate) fn is(&self, reference: impl Into<String>) {
        let reference = reference.into();
        *lock(&self.op.reference) = Some(reference.clone());
        self.say(reference);
    }

    /// Comes when the program must end now: end what would be left behind.
    pub(crate) async fn abandoned(&self) {
        self.stop.abandoned().await;
    }
}

/// A started operation, for the call that waits for it.
pub(crate) struct Started(Arc<Op>);

impl Started {
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// What the appliance calls it, if it has said so.
    pub(crate) fn reference(&self) -> Option<String> {
        lock(&self.0.reference).clone()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.subscribe();
        match ended.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
            Ok(Some((ended, _))) => ended,
            // The sender lives in `self`.
            _ => std::future::pending().await,
        }
    }
}

impl Operations {
    pub(crate) fn new(state: State, stop: Stop, redact: bool) -> Self {
        Self { ops: Mutex::default(), running: watch::Sender::new(0), state, stop, redact }
    }

    /// Runs `work` to its end, whoever waits.
    pub(crate) fn start<F>(
        self: &Arc<Self>,
        tool: &'static str,
        target: Target,
        progress: Progress,
        work: impl FnOnce(Running) -> F,
    ) -> Started
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let op = Arc::new(Op {
            id: format!("op-{}", state::hex(&rand::random::<[u8; 6]>())),
            tool,
            target,
            started: jiff::Timestamp::now(),
            clock: Instant::now(),
            lines: Mutex::default(),
            reference: Mutex::default(),
            ended: watch::Sender::new(None),
            lock: Mutex::default(),
        });
        self.remember(&op);
        self.running.send_modify(|count| *count += 1);
        let work = work(Running { op: op.clone(), progress, stop: self.stop.clone(), redact: self.redact });
        let (all, this) = (self.clone(), op.clone());
        tokio::spawn(async move {
            let ended = work.await;
            this.ended.send_replace(Some((ended, this.clock.elapsed().as_secs())));
            if lock(&this.lock).is_some() {
                all.keep(&this);
                lock(&this.lock).take();
                log::info!("operation {} ({} {}) ended: {}", this.id, this.tool, this.target, this.outcome());
            }
            all.running.send_modify(|count| *count -= 1);
        });
        Started(op)
    }

    /// Makes a running operation known to other processes: its call answers without it.
    pub(crate) fn announce(&self, started: &Started) {
        let Ok(dir) = self.state.sub("operations") else { return };
        match state::open_locked(&dir.join(format!("{}.lock", started.id()))) {
            Ok(file) => {
                *lock(&started.0.lock) = Some(file);
                self.keep(&started.0);
            }
            Err(error) => log::warn!("operation {} cannot be kept in STATE_DIR: {error}", started.id()),
        }
    }

    fn keep(&self, op: &Op) {
        let kept = self.state.sub("operations").and_then(|dir| {
            for old in std::fs::read_dir(&dir)?.flatten() {
                let age = old.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
                if age.is_some_and(|age| age > KEPT_ON_DISK) {
                    let _ = std::fs::remove_file(old.path());
                }
            }
            state::replace(&dir.join(format!("{}.json", op.id)), &serde_json::to_vec(&op.row(true))?)
        });
        if let Err(error) = kept {
            log::warn!("operation {} cannot be kept in STATE_DIR: {error}", op.id);
        }
    }

    fn remember(&self, op: &Arc<Op>) {
        let mut ops = lock(&self.ops);
        if ops.len() >= KEPT {
            let oldest = ops.values().filter(|op| op.ended.borrow().is_some()).min_by_key(|op| op.started);
            if let Some(id) = oldest.map(|op| op.id.clone()) {
                ops.remove(&id);
            }
        }
        ops.insert(op.id.clone(), op.clone());
    }

    /// How many run now.
    pub(crate) fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Waits until none runs.
    pub(crate) async fn idle(&self) {
        // The sender lives in `self`, so this ends only by the condition.
        let _ = self.running.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The newest of this process, without their output and results.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut ops: Vec<_> = lock(&self.ops).values().cloned().collect();
        ops.sort_by_key(|op| std::cmp::Reverse(op.started));
        ops.iter().take(LISTED).map(|op| op.row(false)).collect()
    }

    /// One by its id, waiting up to `wait` for its end; `None` when nobody knows it.
    pub(crate) async fn status(&self, id: &str, wait: Duration) -> Option<Row> {
        let op = lock(&self.ops).get(id).cloned();
        if let Some(op) = op {
            let started = Started(op.clone());
            let _ = tokio::time::timeout(wait, started.ended()).await;
            return Some(op.row(true));
        }
        self.status_elsewhere(id, wait).await
    }

    async fn status_elsewhere(&self, id: &str, wait: Duration) -> Option<Row> {
        let plain = id.strip_prefix("op-").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        let dir = self.state.dir().filter(|_| plain)?.join("operations");
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let row: Row = serde_json::from_slice(&std::fs::read(dir.join(format!("{id}.json"))).ok()?).ok()?;
            if row.outcome != Outcome::Running.name() {
                return Some(row);
            }
            let owner_lives =
                File::open(dir.join(format!("{id}.lock"))).is_ok_and(|file| file.try_lock_shared().is_err());
            if !owner_lives {
                // It may have ended between the two looks.
                let row: Row = serde_json::from_slice(&std::fs::read(dir.join(format!("{id}.json"))).ok()?).ok()?;
                return Some(if row.outcome == Outcome::Running.name() { orphaned(row) } else { row });
            }
            if tokio::time::Instant::now() >= deadline {
                return Some(row);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

fn orphaned(mut row: Row) -> Row {
    row.outcome = Outcome::Unknown.name().to_owned();
    row.message =
        Some("The process that ran this ended before it: it may have happened. Read the object's state.".to_owned());
    row
}

impl Op {
    fn outcome(&self) -> &'static str {
        self.ended.borrow().as_ref().map_or(Outcome::Running.name(), |(ended, _)| ended.outcome.name())
    }

    fn row(&self, with_result: bool) -> Row {
        let ended = self.ended.borrow().clone();
        Row {
            operation: self.id.clone(),
            tool: self.tool.to_owned(),
            target: self.target.to_string(),
            started: self.started.to_string(),
            seconds: ended.as_ref().map_or_else(|| self.clock.elapsed().as_secs(), |(_, seconds)| *seconds),
            outcome: self.outcome().to_owned(),
            message: ended.as_ref().map(|(ended, _)| ended.message.clone()),
            output: if with_result { lock(&self.lines).iter().cloned().collect() } else { Vec::new() },
            result: ended.filter(|_| with_result).map(|(ended, _)| ended.result),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
