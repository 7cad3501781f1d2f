//! The actor that owns one core process: its pipes and the table of requests that wait for it. Requests of many callers
//! share it, since ids and progress tokens are replaced on the way in and restored on the way out. However the process
//! ends, every waiter is answered; a shared worker then starts a new one.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use shared::{Level, Stop, jsonrpc::IdFinder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::MissedTickBehavior,
};

use crate::{
    config::CoreCommand,
    message::{self, Answer, Line, Members, Rest, Stamp},
    metrics::Metrics,
    process::{Limit, Process},
};

/// The longest line that is taken from a core.
const LONGEST_LINE: usize = 64 << 20;
/// Reading of new requests pauses when so much is not yet written to the core.
const UNWRITTEN: usize = 256 << 10;
/// What is read from the core at once.
const CHUNK: usize = 64 << 10;
/// Lines up to this are copied out of what was read.
const SHORT_LINE: usize = 4 << 10;
/// What a session may have on its way to its own process beside its requests.
const UNTAKEN: usize = 4 << 20;
/// Notifications that wait for a slow reader; further ones are dropped.
const EVENTS: usize = 64;
/// How long a core may take to answer `initialize`.
const GREETING: Duration = Duration::from_secs(30);
/// A call whose caller has gone is given up after this.
const ABANDONED: Duration = Duration::from_secs(600);
/// How long a session's own process waits for the session's next call.
const LINGER: Duration = Duration::from_secs(30);
/// A process that lived so long ended for a reason of its own: the next one starts at once.
const STABLE: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A shorter pause is waited through by the callers.
const SHORT: Duration = Duration::from_secs(1);

/// The next id of a request, on either way. Unique in this process, so that nothing late can be taken for something new.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// The request never reached a core; another worker can take it.
    NotSent,
    /// The process ended, or was ended, with the request in its hands.
    Died,
    /// There is no process at the moment.
    Down { why: String, wait: Duration },
    /// The answer was longer than what is taken.
    TooLong,
    /// The gateway is stopping.
    Stopping,
}

/// What waits for an answer.
struct Pending {
    /// The client's.
    id: Box<RawValue>,
    token: Option<Box<RawValue>>,
    /// Its answer names the subscription that it was.
    subscription: bool,
    answer: oneshot::Sender<Result<Answer, Lost>>,
    events: Option<mpsc::Sender<Bytes>>,
    tenant: Option<u64>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Messages of the core's that belong to no request, on their way to a session's own stream.
pub(crate) type Outlet = Arc<Mutex<Option<mpsc::Sender<Bytes>>>>;

enum Command {
    Request {
        id: u64,
        line: Bytes,
        pending: Box<Pending>,
    },
    /// The caller has gone, and its request with it.
    Cancel(u64),
    /// A session takes back a request by its own id.
    CancelOf {
        tenant: u64,
        id: Box<RawValue>,
    },
    /// A notification from the session that owns this process.
    Tell(Bytes),
    /// The session's answer to a request of the core's.
    Reply(message::Response),
    /// A spare becomes a session's own.
    Adopt {
        outlet: Outlet,
        permit: OwnedSemaphorePermit,
    },
    /// Begin with `initialize` and these parameters.
    Greet(Box<RawValue>),
    /// Another session wants its place: it ends, if it has nothing to do.
    Retire,
    Stop,
}

/// How the worker is used.
enum Role {
    /// By many callers, for ever; each process is greeted with these `initialize` parameters first, if there are any.
    Shared { greeting: Option<Box<RawValue>> },
    /// By one session, until that has had nothing to do for a while.
    Own { outlet: Outlet, _permit: OwnedSemaphorePermit },
    /// By nobody yet.
    Spare,
}

/// What a worker's process said to `initialize`, or the error it answered.
pub(crate) type Greeting = Result<Box<RawValue>, Box<RawValue>>;

/// Where a worker stands.
#[derive(Clone, Debug)]
pub(crate) enum Status {
    Starting,
    Up(Option<Arc<Greeting>>),
    Down { why: String, until: Instant },
}

/// What all workers have in common.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) core: Arc<CoreCommand>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: Stop,
    /// Held by every actor: when all are gone, no process is left.
    pub(crate) _alive: mpsc::Sender<()>,
}

/// A handle to a worker, which ends with the last of its handles.
#[derive(Clone)]
pub(crate) struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
    load: Arc<AtomicUsize>,
    /// Bytes of notifications and replies that the actor has not taken yet.
    untaken: Arc<AtomicUsize>,
    level: Level,
    own: bool,
}

/// A request for a worker.
pub(crate) struct Ask<'a> {
    pub(crate) request: &'a message::Request<'a>,
    pub(crate) stamp: Stamp<'a>,
    /// The session it comes from.
    pub(crate) tenant: Option<u64>,
    /// Whether its caller can read events before the answer.
    pub(crate) events: bool,
    /// Whether it ends with its caller.
    pub(crate) ends_with_caller: bool,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Worker {
    /// Starts a worker that many callers share.
    pub(crate) fn shared(ground: &Ground, level: Level, greeting: Option<Box<RawValue>>) -> Self {
        Self::start(ground, level, Role::Shared { greeting })
    }

    /// Starts a process for a session that will need its own.
    pub(crate) fn spare(ground: &Ground, level: Level) -> Self {
        Self::start(ground, level, Role::Spare)
    }

    fn start(ground: &Ground, level: Level, role: Role) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (says, status) = watch::channel(Status::Starting);
        let load = Arc::new(AtomicUsize::new(0));
        let untaken = Arc::new(AtomicUsize::new(0));
        let own = matches!(role, Role::Spare);
        let actor = Actor {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            ground: ground.clone(),
            level,
            role,
            inbox,
            status: says,
            load: load.clone(),
            untaken: untaken.clone(),
            pending: HashMap::new(),
            asked: HashMap::new(),
            output: BytesMut::new(),
            greeting: None,
            idle: Instant::now(),
            limit: Limit::default(),
        };
        tokio::spawn(actor.run());
        Self { commands, status, load, untaken, level, own }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Whether it serves one session or request only.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// Requests that wait for it.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Whether it has ended and takes nothing any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.commands.is_closed()
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Comes when the worker is up, with what its process said to `initialize`.
    pub(crate) async fn up(&self) -> Result<Option<Arc<Greeting>>, Lost> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| !matches!(status, Status::Starting)).await;
        match settled.map(|status| status.clone()) {
            Ok(Status::Up(greeting)) => Ok(greeting),
            Ok(Status::Down { why, until }) => {
                Err(Lost::Down { why, wait: until.saturating_duration_since(Instant::now()) })
            }
            Ok(Status::Starting) | Err(_) => Err(Lost::Stopping),
        }
    }

    /// Makes a spare worker a session's own.
    pub(crate) fn adopt(self, outlet: Outlet, greeting: Option<Box<RawValue>>, permit: OwnedSemaphorePermit) -> Self {
        self.send(Command::Adopt { outlet, permit });
        if let Some(greeting) = greeting {
            self.send(Command::Greet(greeting));
        }
        self
    }

    /// Sends a request on its way.
    pub(crate) fn ask(&self, ask: Ask<'_>) -> Exchange {
        let id = next_id();
        let (to_answer, answer) = oneshot::channel();
        let (to_events, events) = if ask.events {
            let (sender, receiver) = mpsc::channel(EVENTS);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let pending = Box::new(Pending {
            id: ask.request.id.clone(),
            token: ask.request.progress_token().map(ToOwned::to_owned),
            subscription: ask.request.method == "subscriptions/listen",
            answer: to_answer,
            events: to_events,
            tenant: ask.tenant,
            since: Instant::now(),
            _permit: ask.permit,
        });
        self.send(Command::Request { id, line: ask.request.line(id, ask.stamp), pending });
        Exchange { id, answer, events, cancels: ask.ends_with_caller.then(|| self.commands.clone()) }
    }

    /// A session takes back its request.
    pub(crate) fn cancel(&self, tenant: u64, id: &RawValue) {
        self.send_bounded(id.get().len(), Command::CancelOf { tenant, id: id.to_owned() });
    }

    /// Passes on a notification of the session that owns this worker.
    pub(crate) fn tell(&self, line: Vec<u8>) {
        self.send_bounded(line.len(), Command::Tell(line.into()));
    }

    /// Passes on a session's answer to a question of the core's.
    pub(crate) fn reply(&self, response: message::Response) {
        self.send_bounded(response.len(), Command::Reply(response));
    }

    /// Ends it, unless it has something to do.
    pub(crate) fn retire(&self) {
        self.send(Command::Retire);
    }

    /// Ends it. Whoever still waits is told.
    pub(crate) fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Sends what no limit on requests holds back. A core that does not read costs its session such messages.
    fn send_bounded(&self, size: usize, command: Command) {
        if self.untaken.load(Ordering::Relaxed) + size > UNTAKEN {
            log::warn!("a core does not read what its session sends: a message is dropped");
            return;
        }
        self.untaken.fetch_add(size, Ordering::Relaxed);
        self.send(command);
    }

    fn send(&self, command: Command) {
        // A worker that has ended drops what was not taken; the waiters see that.
        let _ = self.commands.send(command);
    }
}

/// One request under way, as its caller sees it.
pub(crate) struct Exchange {
    id: u64,
    answer: oneshot::Receiver<Result<Answer, Lost>>,
    events: Option<mpsc::Receiver<Bytes>>,
    /// Where to cancel it when the caller goes.
    cancels: Option<mpsc::UnboundedSender<Command>>,
}

/// What comes next.
pub(crate) enum Next {
    Event(Bytes),
    Answer(Result<Answer, Lost>),
}

impl Exchange {
    /// The next event, or the answer. After the answer nothing comes; do not ask.
    pub(crate) async fn next(&mut self) -> Next {
        let answer = match &mut self.events {
            None => (&mut self.answer).await,
            Some(events) => tokio::select! {
                biased;
                Some(event) = events.recv() => return Next::Event(event),
                answer = &mut self.answer => answer,
            },
        };
        self.cancels = None;
        Next::Answer(answer.unwrap_or(Err(Lost::NotSent)))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(commands) = &self.cancels {
            let _ = commands.send(Command::Cancel(self.id));
        }
    }
}

/// How a process' service came to its end.
enum End {
    /// It was told to.
    Stopped(Lost),
    Died(String),
}

struct Actor {
    number: u32,
    ground: Ground,
    level: Level,
    role: Role,
    inbox: mpsc::UnboundedReceiver<Command>,
    status: watch::Sender<Status>,
    load: Arc<AtomicUsize>,
    untaken: Arc<AtomicUsize>,
    pending: HashMap<u64, Pending>,
    /// Questions of the core's that its session has not answered, by our ids.
    asked: HashMap<u64, Box<RawValue>>,
    /// Not yet written to the core.
    output: BytesMut,
    /// The id of `initialize` while that is not answered, and since when. Nothing else is begun meanwhile.
    greeting: Option<(u64, Instant)>,
    /// When it last had something to do.
    idle: Instant,
    limit: Limit,
}

impl Actor {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let why = match Process::spawn(&self.ground.core, self.level, self.number) {
                Ok(process) => match self.live(process).await {
                    Ok(()) => return,
                    Err(why) => why,
                },
                Err(error) => format!("cannot start {}: {error}", self.ground.core.name()),
            };
            if !matches!(self.role, Role::Shared { .. }) {
                self.refuse_the_rest();
                return;
            }
            self.ground.metrics.restarts.add(1);
            failures = if started.elapsed() >= STABLE { 1 } else { failures + 1 };
            let pause = back_off(failures);
            log::error!("worker {}: {why}; a new process in {} ms", self.number, pause.as_millis());
            if !self.pause(&why, pause).await {
                return;
            }
        }
    }

    /// Serves with this process until it ends or must; an error is why it ended by itself.
    async fn live(&mut self, mut process: Process) -> Result<(), String> {
        log::info!(
            "worker {}: process {} at level {}",
            self.number,
            process.id().map_or_else(|| "-".to_owned(), |id| id.to_string()),
            self.level
        );
        self.ground.metrics.workers.add(1);
        let end = self.serve(&mut process).await;
        self.output.clear();
        self.asked.clear();
        self.greeting = None;
        let result = match end {
            End::Stopped(lost) => {
                // Nothing is taken any more, and who waits hears it before the process has come to its end.
                self.answer_all(&lost);
                self.refuse_the_rest();
                let (how, _) = process.stop().await;
                log::debug!("worker {}: stopped, {how}", self.number);
                Ok(())
            }
            End::Died(why) => {
                self.answer_all(&Lost::Died);
                if !matches!(self.role, Role::Shared { .. }) {
                    log::error!("worker {}: {why}", self.number);
                }
                let (how, words) = process.stop().await;
                let mut why = if why.contains(&how) { why } else { format!("{why}; {how}") };
                if !words.is_empty() {
                    why = format!("{why}. Its last words:\n{words}");
                }
                Err(why)
            }
        };
        self.ground.metrics.workers.sub(1);
        result
    }

    async fn serve(&mut self, process: &mut Process) -> End {
        if let Role::Shared { greeting: Some(params) } = &self.role {
            let params = params.clone();
            self.greet(&params);
        } else {
            self.status.send_replace(Status::Up(None));
        }
        let stop = self.ground.stop.clone();
        let mut stopped = pin!(stop.abandoned());
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut input = Input::default();
        // Taken out, so that the process itself can be waited for.
        let mut stdin = process.stdin.take();
        let (stdout, mut ending) = process.listen();
        let died = loop {
            let may_take = self.greeting.is_none() && self.output.len() < UNWRITTEN;
            tokio::select! {
                biased;
                command = self.inbox.recv(), if may_take => match command {
                    Some(Command::Stop) => break Err(Lost::Died),
                    Some(Command::Retire) if self.pending.is_empty() => break Err(Lost::NotSent),
                    Some(command) => self.take(command),
                    None => break Err(Lost::NotSent),
                },
                written = write(&mut stdin, &mut self.output), if !self.output.is_empty() => {
                    if written.is_err() {
                        // It does not read any more; what it still says counts until it ends.
                        stdin = None;
                        self.output.clear();
                    }
                },
                read = stdout.read_buf(input.room()) => match read {
                    Ok(read) if read > 0 => self.hear(&mut input),
                    _ => break Ok("the core closed its stdout".to_owned()),
                },
                _ = tick.tick() => {
                    if let Some(end) = self.look_around() {
                        break end;
                    }
                },
                () = &mut stopped => break Err(Lost::Stopping),
                how = ending.come() => {
                    // What it wrote before its end is still in the pipe.
                    let rest = async {
                        while matches!(stdout.read_buf(input.room()).await, Ok(read) if read > 0) {
                            self.hear(&mut input);
                        }
                    };
                    let _ = crate::stop::within(Duration::from_millis(500), rest).await;
                    break Ok(format!("the core ended ({how})"));
                },
            }
        };
        process.stdin = stdin;
        match died {
            Ok(why) => End::Died(why),
            Err(lost) => End::Stopped(lost),
        }
    }

    /// Once a second. Comes back with an end, if it is time for one.
    fn look_around(&mut self) -> Option<Result<String, Lost>> {
        if self.greeting.is_some_and(|(_, since)| since.elapsed() > GREETING) {
            return Some(Ok(format!("the core did not answer initialize within {} s", GREETING.as_secs())));
        }
        let over = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.answer.is_closed() && pending.since.elapsed() > ABANDONED);
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.cancel(id);
        }
        if !self.pending.is_empty() {
            self.idle = Instant::now();
        }
        let idle = matches!(self.role, Role::Own { .. }) && self.idle.elapsed() > LINGER;
        idle.then_some(Err(Lost::NotSent))
    }

    fn take(&mut self, command: Command) {
        self.idle = Instant::now();
        match command {
            Command::Request { id, line, pending } => {
                if self.pending.insert(id, *pending).is_none() {
                    self.load.fetch_add(1, Ordering::Relaxed);
                }
                self.output.extend_from_slice(&line);
            }
            Command::Cancel(id) => self.cancel(id),
            Command::CancelOf { tenant, id } => {
                self.taken(id.get().len());
                let same = |pending: &Pending| pending.tenant == Some(tenant) && message::same_id(&pending.id, &id);
                let ids: Vec<_> = self.pending.iter().filter(|(_, pending)| same(pending)).map(|(id, _)| *id).collect();
                ids.into_iter().for_each(|id| self.cancel(id));
            }
            Command::Tell(line) => {
                self.taken(line.len());
                self.output.extend_from_slice(&line);
            }
            Command::Reply(response) => {
                self.taken(response.len());
                // One that nobody asked for, or that comes too late, is nothing to the core.
                if let Some(theirs) = self.asked.remove(&response.id) {
                    self.output.extend_from_slice(&response.line(&theirs));
                }
            }
            Command::Greet(params) => self.greet(&params),
            Command::Adopt { outlet, permit } => self.role = Role::Own { outlet, _permit: permit },
            // It has something to do.
            Command::Retire => {}
            // Taken by the loop.
            Command::Stop => {}
        }
    }

    fn taken(&self, size: usize) {
        self.untaken.fetch_sub(size, Ordering::Relaxed);
    }

    fn greet(&mut self, params: &RawValue) {
        let id = next_id();
        self.output.extend_from_slice(&message::request_line(id, "initialize", params.get()));
        self.greeting = Some((id, Instant::now()));
    }

    fn greeted(&mut self, greeting: Greeting) {
        self.greeting = None;
        self.output.extend_from_slice(&message::notification_line("notifications/initialized", None));
        self.status.send_replace(Status::Up(Some(Arc::new(greeting))));
    }

    /// Nobody waits for it any more: the core is told, and gets nothing to answer.
    fn cancel(&mut self, id: u64) {
        if self.close(id).is_some() {
            self.output.extend_from_slice(&message::cancelled_line(id));
        }
    }

    fn close(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.load.fetch_sub(1, Ordering::Relaxed);
        Some(pending)
    }

    fn hear(&mut self, input: &mut Input) {
        while let Some(line) = input.line() {
            match line {
                Heard::Line(line) => self.line(&line),
                Heard::TooLong(id) => {
                    log::error!("worker {}: a line is longer than {LONGEST_LINE} bytes and left out", self.number);
                    if let Some(pending) = id.and_then(|id| id.get().parse().ok()).and_then(|id| self.close(id)) {
                        let _ = pending.answer.send(Err(Lost::TooLong));
                    }
                }
            }
        }
    }

    fn line(&mut self, line: &Bytes) {
        match Line::read(line) {
            Some(Line::Answer { id, rest, error }) => self.answer(line, id, rest, error),
            Some(Line::Notification { method, params, raw_params }) => self.notification(&method, &params, raw_params),
            Some(Line::Request { id, method, params }) => self.question(id, &method, params),
            None if line.trim_ascii().is_empty() => {}
            None => {
                if let Some(left_out) = self.limit.take() {
                    let start: String = String::from_utf8_lossy(line).chars().take(80).collect();
                    let before = if left_out > 0 { format!(" ({left_out} more before)") } else { String::new() };
                    log::warn!("worker {}: no message on stdout{before}: {start:?}", self.number);
                }
            }
        }
    }

    fn answer(&mut self, line: &Bytes, id: u64, rest: Rest<'_>, error: Option<i64>) {
        if self.greeting.is_some_and(|(greeting, _)| greeting == id) {
            let raw = match &rest {
                Rest::Result(raw) => Ok((*raw).to_owned()),
                Rest::Error(raw) => Err((*raw).to_owned()),
                Rest::From(_) => match Line::read_whole(line) {
                    Some(raw) => Ok(raw),
                    None => Err(message::raw(r#"{"code":-32603,"message":"the answer is not JSON"}"#.to_owned())),
                },
            };
            self.greeted(raw);
            return;
        }
        let Some(pending) = self.close(id) else {
            // The core answered while it was being cancelled; or it made the id up, or answers twice.
            if let Some(_left_out) = self.limit.take() {
                log::debug!("worker {}: an answer that nobody waits for", self.number);
            }
            return;
        };
        let mut restored = message::restore(line, &rest, error, &pending.id);
        if pending.subscription
            && error.is_none()
            && let Some(raw) = Line::read_whole(line)
            && let Some(raw) = message::restore_subscription_result(&raw, &pending.id)
        {
            restored = message::restore(line, &Rest::Result(&raw), None, &pending.id);
        }
        let _ = pending.answer.send(Ok(restored));
    }

    fn notification(&mut self, method: &str, params: &Members<'_>, raw_params: Option<&RawValue>) {
        if let Some(id) = message::belongs_to(params) {
            if let Some(pending) = self.pending.get(&id) {
                let event = message::restore_notification(method, params, &pending.id, pending.token.as_deref());
                // A reader that does not keep up loses progress, not its answer.
                let _ = pending.events.as_ref().map(|events| events.try_send(event));
            } else if method == "notifications/cancelled" {
                // The core takes back one of its own questions.
                self.take_back(params);
            }
            return;
        }
        if method == "notifications/cancelled" {
            self.take_back(params);
            return;
        }
        // In a process that many share nobody knows whom it is for.
        if let Role::Own { outlet, .. } = &self.role {
            let mut event = message::notification_line(method, raw_params);
            event.pop();
            let _ = deliver(&self.pending, outlet, event.into());
        }
    }

    fn take_back(&mut self, params: &Members<'_>) {
        let Role::Own { outlet, .. } = &self.role else { return };
        let Some(theirs) = params.get("requestId") else { return };
        let Some(ours) = self.asked.iter().find(|(_, id)| message::same_id(id, theirs)).map(|(ours, _)| *ours) else {
            return;
        };
        self.asked.remove(&ours);
        let mut event = message::cancelled_line(ours);
        event.pop();
        let _ = deliver(&self.pending, outlet, event.into());
    }

    fn question(&mut self, id: &RawValue, method: &str, params: Option<&RawValue>) {
        if method == "ping" {
            self.output.extend_from_slice(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n").as_bytes());
            return;
        }
        let delivered = match &self.role {
            Role::Own { outlet, .. } => {
                let ours = next_id();
                let mut event = message::request_line(ours, method, params.map_or("{}", RawValue::get));
                event.pop();
                deliver(&self.pending, outlet, event.into()).then_some(ours)
            }
            _ => None,
        };
        match delivered {
            Some(ours) => {
                self.asked.insert(ours, id.to_owned());
            }
            None => {
                let why = "no client with an open stream can be asked";
                self.output.extend_from_slice(&shared::jsonrpc::error_line(Some(id), message::INTERNAL, why));
                self.output.extend_from_slice(b"\n");
            }
        }
    }

    fn answer_all(&mut self, lost: &Lost) {
        for (_, pending) in self.pending.drain() {
            let _ = pending.answer.send(Err(lost.clone()));
        }
        self.load.store(0, Ordering::Relaxed);
    }

    /// Takes no more; what was not taken yet can go to another worker.
    fn refuse_the_rest(&mut self) {
        self.inbox.close();
        let lost = if self.ground.stop.is_stopping() { Lost::Stopping } else { Lost::NotSent };
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Request { pending, .. } = command {
                let _ = pending.answer.send(Err(lost.clone()));
            }
        }
    }

    /// Waits before the next process; whether there is to be one.
    async fn pause(&mut self, why: &str, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        if pause > SHORT {
            self.status.send_replace(Status::Down { why: why.to_owned(), until });
        } else {
            self.status.send_replace(Status::Starting);
        }
        let stop = self.ground.stop.clone();
        let mut stopped = pin!(stop.abandoned());
        loop {
            tokio::select! {
                () = &mut stopped => {
                    self.refuse_the_rest();
                    return false;
                }
                () = tokio::time::sleep_until(until.into()) => break,
                command = self.inbox.recv(), if pause > SHORT => match command {
                    Some(Command::Request { pending, .. }) => {
                        let wait = until.saturating_duration_since(Instant::now());
                        let _ = pending.answer.send(Err(Lost::Down { why: why.to_owned(), wait }));
                    }
                    Some(Command::Stop) | None => {
                        self.refuse_the_rest();
                        return false;
                    }
                    Some(_) => {}
                },
            }
        }
        self.status.send_replace(Status::Starting);
        true
    }
}

/// No pause after a single death, then longer and longer ones.
fn back_off(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => Duration::from_millis(100 << (more - 2).min(10)).min(LONGEST_BACK_OFF),
    }
}

/// Sends an event on the newest open stream of the session's calls, else on its own; whether there was one.
fn deliver(pending: &HashMap<u64, Pending>, outlet: &Outlet, event: Bytes) -> bool {
    let open = pending.iter().filter_map(|(id, pending)| {
        let events = pending.events.as_ref().filter(|events| !events.is_closed())?;
        Some((id, events))
    });
    let newest = open.max_by_key(|(id, _)| **id).map(|(_, events)| events.clone());
    let stream = newest.or_else(|| outlet.lock().unwrap_or_else(PoisonError::into_inner).clone());
    stream.is_some_and(|stream| stream.try_send(event).is_ok())
}

async fn write(stdin: &mut Option<tokio::process::ChildStdin>, output: &mut BytesMut) -> std::io::Result<()> {
    match stdin {
        Some(stdin) => stdin.write_buf(output).await.map(drop),
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

/// What came from the core and is not yet a whole line.
#[derive(Default)]
struct Input {
    buffer: BytesMut,
    /// So far there is no line end.
    searched: usize,
    /// In a line that is too long to be kept.
    skipping: Option<IdFinder>,
}

enum Heard {
    Line(Bytes),
    /// The id, if it could be found.
    TooLong(Option<Box<RawValue>>),
}

impl Input {
    /// The buffer, with room for the next chunk.
    fn room(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < CHUNK / 4 {
            self.buffer.reserve(CHUNK.max(self.buffer.len()));
        }
        &mut self.buffer
    }

    /// The next whole line without its end.
    fn line(&mut self) -> Option<Heard> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unsearched).map(|at| self.searched + at) else {
            self.searched = self.buffer.len();
            if self.skipping.is_some() || self.buffer.len() > LONGEST_LINE {
                self.skipping.get_or_insert_default().feed(&self.buffer);
                self.buffer.clear();
                self.searched = 0;
            }
            return None;
        };
        self.searched = 0;
        let line = self.buffer.split_to(at + 1).freeze();
        Some(match self.skipping.take() {
            Some(mut finder) => {
                finder.feed(&line);
                Heard::TooLong(finder.finish())
            }
            // A short answer must not hold a whole chunk for as long as a slow client reads it.
            None if at < SHORT_LINE => Heard::Line(Bytes::copy_from_slice(line.get(..at).unwrap_or_default())),
            None => Heard::Line(line.slice(..at)),
        })
    }
}
