//! The state of a cluster, and how it goes on: tasks end, locks are let go, the HA manager follows.
//!
//! Nothing runs in the background. Before each look at the state, everything that was due by then happens, in
//! the order in which it was due.

use super::access::Token;
use super::guards::{Attempt, refused_by_the_task};
use super::model::{
    Backup, Daemon, Disk, Ending, Follows, Guest, Kind, Node, OnShutdown, Run, Snapshot, Storage, Times,
};
use super::profile::Profile;
use super::tasks::{Job, Phase, Task, Verb};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a task waits for a guest's lock file, in the vendor's seconds.
const LOCK_PATIENCE: u32 = 10;
const ROOT: &str = "root@pam";

pub(crate) struct Cluster {
    pub(crate) profile: Profile,
    /// `None`: a standalone host.
    pub(crate) name: Option<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) guests: BTreeMap<u32, Guest>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) backups: Vec<Backup>,
    /// Oldest first.
    pub(crate) tasks: Vec<Task>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) quorate: bool,
    pub(crate) daemon: Daemon,
    pub(crate) times: Times,
    /// How the next tasks end.
    pub(crate) endings: VecDeque<Ending>,
    /// Lock files that something else holds.
    pub(crate) held: HashMap<u32, Instant>,
    moves: Vec<Move>,
    /// What `/cluster/resources` shows, when that lags.
    published: Option<(Instant, BTreeMap<u32, Guest>)>,
    began: Instant,
    /// Seconds of the Unix epoch.
    pub(crate) began_at: i64,
    next_pid: u32,
}

/// What the HA manager is going to do.
struct Move {
    at: Instant,
    vmid: u32,
    start: bool,
}

enum Event {
    TaskEnds(usize),
    TaskGivesUp(usize),
    LockIsLetGo(u32),
    Manager(usize),
}

impl Cluster {
    pub(crate) fn new(profile: Profile, name: Option<String>, nodes: Vec<Node>) -> Self {
        let times = Times {
            second: Duration::from_secs(1),
            task: Duration::from_secs(1),
            lag: Duration::ZERO,
            idle: Duration::from_secs(5),
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            profile,
            name,
            nodes,
            guests: BTreeMap::new(),
            storages: Vec::new(),
            backups: Vec::new(),
            tasks: Vec::new(),
            tokens: Vec::new(),
            quorate: true,
            daemon: Daemon::Up,
            times,
            endings: VecDeque::new(),
            held: HashMap::new(),
            moves: Vec::new(),
            published: None,
            began: Instant::now(),
            began_at: i64::try_from(since_epoch.as_secs()).unwrap_or_default(),
            next_pid: 0x58C5,
        }
    }

    /// Seconds of the Unix epoch.
    pub(crate) fn epoch(&self, at: Instant) -> i64 {
        let passed = at.saturating_duration_since(self.began).as_secs();
        self.began_at.saturating_add_unsigned(passed)
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub(crate) fn storage(&self, name: &str) -> Option<&Storage> {
        self.storages.iter().find(|storage| storage.name == name)
    }

    pub(crate) fn task(&self, upid: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.upid == upid)
    }

    /// A guest of this kind whose configuration is on this node.
    pub(crate) fn guest_on(&self, node: &str, kind: Kind, vmid: u32) -> Option<&Guest> {
        self.guests.get(&vmid).filter(|guest| guest.kind == kind && guest.node == node)
    }

    pub(crate) fn takes_snapshots_of(&self, disk: &Disk) -> bool {
        self.storage(disk.storage()).is_some_and(|storage| storage.takes_snapshots_of(&disk.volume))
    }

    /// The guests as `/cluster/resources` knows them.
    pub(crate) fn published_guests(&self) -> &BTreeMap<u32, Guest> {
        self.published.as_ref().map_or(&self.guests, |(_, guests)| guests)
    }

    /// Everything that is due by now happens.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.times.lag.is_zero() {
            self.published = None;
            self.run_until(now);
            return;
        }
        let last = self.published.as_ref().map_or(now, |(at, _)| {
            let passed = now.saturating_duration_since(*at).as_nanos() / self.times.lag.as_nanos();
            *at + self.times.lag.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX))
        });
        if self.published.as_ref().is_none_or(|(at, _)| *at < last) {
            self.run_until(last);
            self.published = Some((last, self.guests.clone()));
        }
        self.run_until(now);
    }

    fn run_until(&mut self, now: Instant) {
        while let Some((at, event)) = self.next_event().filter(|(at, _)| *at <= now) {
            match event {
                Event::TaskEnds(index) => self.finish(index, at),
                Event::TaskGivesUp(index) => self.give_up(index, at),
                Event::LockIsLetGo(vmid) => {
                    self.held.remove(&vmid);
                    self.wake(vmid, at);
                }
                Event::Manager(index) => {
                    let planned = self.moves.remove(index);
                    self.manager_acts(&planned);
                }
            }
        }
    }

    fn next_event(&self) -> Option<(Instant, Event)> {
        let tasks = self.tasks.iter().enumerate().filter_map(|(index, task)| match task.phase {
            Phase::Running { ends, .. } => Some((ends, Event::TaskEnds(index))),
            Phase::Queued { gives_up } => Some((gives_up, Event::TaskGivesUp(index))),
            Phase::Done { .. } => None,
        });
        let held = self.held.iter().map(|(&vmid, &until)| (until, Event::LockIsLetGo(vmid)));
        let moves = self.moves.iter().enumerate().map(|(index, planned)| (planned.at, Event::Manager(index)));
        tasks.chain(held).chain(moves).min_by_key(|(at, _)| *at)
    }

    /// Starts a task; its ID is all that the client gets.
    pub(crate) fn start_task(&mut self, node: &str, user: &str, job: Job, at: Instant) -> String {
        let (kind, id) = match &job {
            Job::Guest { kind, vmid, verb } => (verb.task_type(*kind), vmid.to_string()),
            Job::Manage { vmid, state } => {
                (if *state == "started" { "hastart" } else { "hastop" }.to_owned(), vmid.to_string())
            }
            Job::Record => ("qmstart".to_owned(), String::new()),
        };
        let index = self.add_task(node, user, &kind, &id, job.clone(), at);
        match job {
            Job::Guest { vmid, verb, .. } => {
                if verb == (Verb::Stop { overrule: true }) {
                    self.overrule(index, vmid, at);
                }
                if verb.config_lock().is_none() && self.lock_file_is_held(vmid) {
                    self.tasks[index].log.push("trying to acquire lock...".into());
                } else {
                    self.begin(index, at);
                }
            }
            Job::Manage { .. } => self.begin_managing(index, at),
            Job::Record => {}
        }
        let upid = self.tasks[index].upid.clone();
        self.run_until(at);
        upid
    }

    /// A task that is over already.
    pub(crate) fn record_task(&mut self, node: &str, user: &str, kind: &str, id: &str, exit: &str, at: Instant) {
        let index = self.add_task(node, user, kind, id, Job::Record, at);
        let at = self.epoch(at);
        self.tasks[index].phase = Phase::Done { exit: exit.into(), at };
    }

    /// Aborts it; one that is over stays as it is.
    pub(crate) fn stop_task(&mut self, upid: &str, at: Instant) {
        let Some(index) = self.tasks.iter().position(|task| task.upid == upid && !task.is_done()) else { return };
        self.close(index, "received interrupt".into(), at);
    }

    fn add_task(&mut self, node: &str, user: &str, kind: &str, id: &str, job: Job, at: Instant) -> usize {
        let pid = self.next_pid;
        self.next_pid += 3;
        let starttime = self.epoch(at);
        let pstart = u32::try_from(at.saturating_duration_since(self.began).as_millis() / 10).unwrap_or_default() + pid;
        let upid = format!("UPID:{node}:{pid:08X}:{pstart:08X}:{starttime:08X}:{kind}:{id}:{user}:");
        let phase = Phase::Queued { gives_up: at + self.times.second * LOCK_PATIENCE };
        self.tasks.push(Task {
            upid,
            node: node.into(),
            pid,
            pstart,
            starttime,
            kind: kind.into(),
            id: id.into(),
            user: user.into(),
            job,
            phase,
            log: Vec::new(),
        });
        self.tasks.len() - 1
    }

    fn lock_file_is_held(&self, vmid: u32) -> bool {
        let by_a_task = self.tasks.iter().any(|task| {
            matches!(task.phase, Phase::Running { .. })
                && matches!(&task.job, Job::Guest { vmid: other, verb, .. }
                    if *other == vmid && verb.config_lock().is_none())
        });
        by_a_task || self.held.contains_key(&vmid)
    }

    /// With the lock in hand, the task looks at the guest and gets to work.
    fn begin(&mut self, index: usize, at: Instant) {
        let task = &self.tasks[index];
        let Job::Guest { kind, vmid, verb } = task.job.clone() else { return };
        let attempt = Attempt { node: &task.node, kind, vmid, verb: &verb, pid: task.pid };
        if let Some(refusal) = refused_by_the_task(self, attempt) {
            self.tasks[index].phase = Phase::Running { ends: at, ending: Ending::Error(refusal) };
            return;
        }
        let (time, ending) = match self.endings.pop_front() {
            Some(ending) => (self.times.task, ending),
            None => self.plan(index, kind, vmid, &verb),
        };
        if let (Some(guest), Some(lock)) = (self.guests.get_mut(&vmid), verb.config_lock()) {
            guest.lock = Some(lock.into());
        }
        self.tasks[index].phase = Phase::Running { ends: at + time, ending };
    }

    /// How long it takes and how it ends, if nothing else comes up.
    fn plan(&mut self, index: usize, kind: Kind, vmid: u32, verb: &Verb) -> (Duration, Ending) {
        let Some(guest) = self.guests.get(&vmid) else { return (Duration::ZERO, Ending::Ok) };
        let (task, second) = (self.times.task, self.times.second);
        let ignores = guest.on_shutdown == OnShutdown::Ignores && guest.is_running();
        let log = &mut self.tasks[index].log;
        match verb {
            Verb::Start if !guest.start_warnings.is_empty() => (task, Ending::Warnings(guest.start_warnings.clone())),
            Verb::Stop { .. } | Verb::Shutdown { .. } if !guest.is_running() => (Duration::ZERO, Ending::Ok),
            Verb::Shutdown { timeout, force: true } if ignores => {
                log.push("VM still running - terminating now with SIGTERM".into());
                (second * *timeout, Ending::Ok)
            }
            Verb::Shutdown { timeout, .. } | Verb::Reboot { timeout } if ignores => {
                let text = match kind {
                    Kind::Vm => "VM quit/powerdown failed - got timeout".into(),
                    Kind::Container => format!("command 'lxc-stop -n {vmid} --timeout {timeout}' failed: exit code 1"),
                };
                (second * *timeout, Ending::Error(text))
            }
            Verb::Snapshot { .. } if kind == Kind::Vm => {
                for disk in &guest.disks {
                    log.push(format!("snapshotting 'drive-{}' ({})", disk.key, disk.volume));
                }
                (task, Ending::Ok)
            }
            Verb::Destroy { purge: true, .. } => {
                log.push(format!("purging {} {vmid} from related configurations..", kind.short()));
                (task, Ending::Ok)
            }
            _ => (task, Ending::Ok),
        }
    }

    fn begin_managing(&mut self, index: usize, at: Instant) {
        let Job::Manage { vmid, state } = self.tasks[index].job else { return };
        let what = if state == "started" { "start" } else { "stop" };
        let short = self.guests.get(&vmid).map_or("VM", |guest| guest.kind.short());
        self.tasks[index].log.push(format!("Requesting HA {what} for {short} {vmid}"));
        let ending = self.endings.pop_front().unwrap_or(Ending::Ok);
        self.tasks[index].phase = Phase::Running { ends: at, ending };
    }

    fn finish(&mut self, index: usize, at: Instant) {
        let Phase::Running { ending, .. } = self.tasks[index].phase.clone() else { return };
        let (done, exit) = match ending {
            Ending::Ok => (true, "OK".to_owned()),
            Ending::Warnings(lines) => {
                let exit = format!("WARNINGS: {}", lines.len());
                self.tasks[index].log.extend(lines.into_iter().map(|line| format!("WARN: {line}")));
                (true, exit)
            }
            Ending::Error(text) => (false, text),
            Ending::Unclear { status, done } => {
                self.tasks[index].log.clear();
                (done, status)
            }
        };
        let task = self.tasks[index].clone();
        if done {
            match &task.job {
                Job::Guest { kind, vmid, verb } => self.carry_out(&task.node, *kind, *vmid, verb, at),
                Job::Manage { vmid, state } => self.request(*vmid, state, at),
                Job::Record => {}
            }
        }
        // Last, as it lets the next task have the lock file.
        self.close(index, exit, at);
    }

    fn give_up(&mut self, index: usize, at: Instant) {
        let Job::Guest { kind, vmid, .. } = self.tasks[index].job else { return };
        self.close(index, format!("can't lock file '{}' - got timeout", kind.lock_file(vmid)), at);
    }

    fn close(&mut self, index: usize, exit: String, at: Instant) {
        let ended = self.epoch(at);
        let worked = matches!(self.tasks[index].phase, Phase::Running { .. });
        self.tasks[index].phase = Phase::Done { exit, at: ended };
        let Job::Guest { vmid, verb, .. } = self.tasks[index].job.clone() else { return };
        if let Some(guest) = self.guests.get_mut(&vmid)
            && worked
            && verb.config_lock().is_some_and(|lock| guest.lock.as_deref() == Some(lock))
        {
            guest.lock = None;
        }
        self.wake(vmid, at);
    }

    /// The lock file of this guest may be free: the first that waits gets it.
    fn wake(&mut self, vmid: u32, at: Instant) {
        if self.lock_file_is_held(vmid) {
            return;
        }
        let waits = |task: &Task| {
            matches!(task.phase, Phase::Queued { .. })
                && matches!(task.job, Job::Guest { vmid: other, .. } if other == vmid)
        };
        if let Some(index) = self.tasks.iter().position(waits) {
            self.begin(index, at);
        }
    }

    fn overrule(&mut self, by: usize, vmid: u32, at: Instant) {
        let shuts_down = |task: &Task| {
            !task.is_done()
                && matches!(&task.job, Job::Guest { vmid: other, verb: Verb::Shutdown { .. }, .. } if *other == vmid)
        };
        let overruled: Vec<usize> =
            self.tasks.iter().enumerate().filter(|(_, task)| shuts_down(task)).map(|(index, _)| index).collect();
        for index in overruled {
            let line = format!("overruled {} tasks: {}", self.tasks[index].kind, self.tasks[index].upid);
            self.tasks[by].log.push(line);
            self.close(index, "received interrupt".into(), at);
        }
    }

    fn carry_out(&mut self, node: &str, kind: Kind, vmid: u32, verb: &Verb, at: Instant) {
        let now = self.epoch(at);
        if let Verb::Destroy { .. } = verb {
            self.guests.remove(&vmid);
            return;
        }
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        match verb {
            Verb::Start => guest.run = Run::Running(now),
            Verb::Stop { .. } | Verb::Shutdown { .. } => guest.run = Run::Stopped,
            Verb::Suspend => guest.run = Run::Paused(guest.run.since().unwrap_or(now)),
            Verb::Resume => guest.run = Run::Running(guest.run.since().unwrap_or(now)),
            Verb::Reset | Verb::Destroy { .. } => {}
            Verb::Reboot { .. } => {
                guest.run = Run::Running(now);
                // The node's event daemon starts it again, in a task of root's own.
                if kind == Kind::Vm {
                    self.record_task(node, ROOT, "qmstart", &vmid.to_string(), "OK", at);
                }
            }
            Verb::Snapshot { name, description, vmstate } => {
                let parent = guest.snapshots.last().map(|last| last.name.clone());
                guest.snapshots.push(Snapshot {
                    name: name.clone(),
                    description: description.clone(),
                    time: now,
                    vmstate: *vmstate && guest.is_running(),
                    parent,
                    state: None,
                });
            }
            Verb::DeleteSnapshot { name } => {
                let gone = guest.snapshots.iter().find(|snapshot| snapshot.name == *name);
                let parent = gone.and_then(|snapshot| snapshot.parent.clone());
                guest.snapshots.retain(|snapshot| snapshot.name != *name);
                for child in guest.snapshots.iter_mut().filter(|s| s.parent.as_deref() == Some(name)) {
                    child.parent.clone_from(&parent);
                }
            }
            Verb::Rollback { name, start } => {
                let vmstate = guest.snapshots.iter().any(|snapshot| snapshot.name == *name && snapshot.vmstate);
                guest.run = if vmstate || *start { Run::Running(now) } else { Run::Stopped };
            }
        }
    }

    /// The request is registered, no more.
    fn request(&mut self, vmid: u32, state: &'static str, at: Instant) {
        let second = self.times.second;
        let Some(ha) = self.guests.get_mut(&vmid).and_then(|guest| guest.ha.as_mut()) else { return };
        ha.state = state.into();
        self.moves.retain(|planned| planned.vmid != vmid);
        if let Follows::After(seconds) = ha.follows {
            self.moves.push(Move { at: at + second * seconds, vmid, start: state == "started" });
        }
    }

    /// The local resource manager of the guest's node does it, in a task of root's own.
    fn manager_acts(&mut self, planned: &Move) {
        let Some(guest) = self.guests.get(&planned.vmid) else { return };
        if guest.is_running() == planned.start {
            return;
        }
        let (node, kind) = (guest.node.clone(), guest.kind);
        let verb = if planned.start { Verb::Start } else { Verb::Shutdown { timeout: 60, force: true } };
        self.record_task(&node, ROOT, &verb.task_type(kind), &planned.vmid.to_string(), "OK", planned.at);
        self.carry_out(&node, kind, planned.vmid, &verb, planned.at);
    }
}
