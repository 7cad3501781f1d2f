//! The one connection to a TrueNAS from 25.04 on: JSON-RPC 2.0 over a WebSocket. A task owns it: it connects at the
//! first call, signs in once, tells answers apart by their ids, notices when the other side is gone, and connects again
//! when the next call comes. Handles ask it by message, so every caller is answered however the connection ends.
//!
//! - TrueNAS takes 20 calls of one connection at a time; we send ten, more wait for their turn.
//! - It counts logins (20 a minute from one address, of all methods that need none); we make few, and none for a while
//!   once it said so.
//! - A call says whether it was sent, because what changes something must not be sent twice.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, protocol::CloseFrame, protocol::WebSocketConfig},
};

use super::{
    login::Credentials,
    refusal::{Refusal, errno},
};
use crate::{
    error::{Fault, Kind},
    http::{Door, text::vendor_text},
};

/// Calls under way at a time. TrueNAS runs as many and lets as many more wait.
const AT_ONCE: usize = 10;
/// Calls that TrueNAS may owe an answer to, those included that nobody waits for any more.
const UNANSWERED: usize = 20;
/// The id of the login; calls count from 1.
const LOGIN: u64 = 0;
/// TrueNAS closes the connection at 64 KiB, and before the login at 8 KiB.
const LONGEST_REQUEST: usize = 65_000;
const LONGEST_LOGIN: usize = 8_000;
/// Of one answer.
const LONGEST_ANSWER: usize = 64 << 20;

/// After that long without a word a call also asks whether the other side is still there.
const QUIET: Duration = Duration::from_secs(20);
/// An idle connection is asked that often.
const IDLE: Duration = Duration::from_secs(60);
/// How long the other side has to say that it is there. Its event loop answers, however busy its workers are.
const ALIVE: Duration = Duration::from_secs(5);

/// Logins within [`MINUTE`].
const LOGINS: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// A refused login is not tried again for that long: the answer would be the same.
const REFUSED: Duration = Duration::from_secs(10);
/// The longest wait before connecting again after a connection that ended early.
const BACK_OFF: Duration = Duration::from_secs(4);
/// A connection that lived that long was a good one.
const GOOD: Duration = Duration::from_secs(30);

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The appliance refused it.
    Refused(Refusal),
    /// It was not sent: nothing can have happened.
    NotSent(Fault),
    /// It was sent, and the connection ended before the answer.
    Lost(Fault),
    /// It was sent, and there was no answer in time.
    Silent(Fault),
}

/// A handle; the connection is made when it is first used.
pub(super) struct Socket {
    setup: Setup,
    slots: Semaphore,
    actor: Mutex<Option<mpsc::Sender<Order>>>,
}

#[derive(Clone)]
struct Setup {
    door: Door,
    credentials: Credentials,
    /// What the connection that is being made waits for, told to those whose time runs out meanwhile. `None` while there
    /// is one.
    phase: Arc<Mutex<Option<&'static str>>>,
}

enum Order {
    Call(Ask),
    /// A call had no answer in time: is anybody there?
    Doubt,
}

struct Ask {
    method: &'static str,
    params: Value,
    sent: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Value, Failure>>,
}

impl Ask {
    fn end(self, result: Result<Value, Failure>) {
        // Nobody waits any more: so be it.
        let _ = self.reply.send(result);
    }
}

impl Socket {
    pub(super) fn new(door: Door, credentials: Credentials) -> Self {
        let phase = Arc::new(Mutex::new(Some("a connection")));
        Self { setup: Setup { door, credentials, phase }, slots: Semaphore::new(AT_ONCE), actor: Mutex::default() }
    }

    /// Calls a method and waits for its answer until `deadline`. Dropping this makes room for another call.
    pub(super) async fn call(&self, method: &'static str, params: Value, deadline: Instant) -> Result<Value, Failure> {
        let place = self.setup.door.place();
        let begun = Instant::now();
        let busy = || {
            Failure::NotSent(
                Fault::new(Kind::Conflict, format!("{AT_ONCE} calls to {place} are unanswered already"))
                    .hint("It seems to hang; nothing was asked. Try again later."),
            )
        };
        let _slot = timeout_at(deadline, self.slots.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())?;
        let sent = Arc::new(AtomicBool::new(false));
        let (reply, mut answer) = oneshot::channel();
        let actor = self.actor();
        let ask = Order::Call(Ask { method, params, sent: sent.clone(), reply });
        timeout_at(deadline, actor.send(ask)).await.map_err(|_| busy())?.map_err(|_| busy())?;
        match timeout_at(deadline, &mut answer).await {
            Ok(Ok(result)) => result,
            // The task ended with the call in its hands.
            Ok(Err(_)) if sent.load(Ordering::SeqCst) => Err(Failure::Lost(lost(&place, "its task crashed"))),
            Ok(Err(_)) => Err(Failure::NotSent(Fault::new(Kind::Malformed, "the connection's task crashed"))),
            Err(_) => {
                // Closed first: what is not sent by now is not sent at all.
                answer.close();
                let seconds = begun.elapsed().as_secs_f32().round();
                if sent.load(Ordering::SeqCst) {
                    let _ = actor.try_send(Order::Doubt);
                    let cause = format!("{place} did not answer {method} within {seconds} s");
                    return Err(Failure::Silent(Fault::new(Kind::TimedOut, cause)));
                }
                let Some(phase) = self.setup.phase() else { return Err(busy()) };
                let cause = format!("{place} cannot be reached: {seconds} s were not enough for {phase}");
                Err(Failure::NotSent(Fault::new(Kind::Unreachable, cause)))
            }
        }
    }

    /// The task, begun if there is none.
    fn actor(&self) -> mpsc::Sender<Order> {
        let mut actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        match &*actor {
            Some(inbox) if !inbox.is_closed() => inbox.clone(),
            _ => {
                let (sender, inbox) = mpsc::channel(2 * AT_ONCE);
                let task = Actor { setup: self.setup.clone(), logins: VecDeque::new(), barred: None, early_ends: 0 };
                tokio::spawn(task.run(inbox));
                *actor = Some(sender.clone());
                sender
            }
        }
    }
}

impl Setup {
    fn phase(&self) -> Option<&'static str> {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits_for(&self, phase: Option<&'static str>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}

fn lost(place: &str, why: &str) -> Fault {
    Fault::new(Kind::TimedOut, format!("the connection to {place} ended before the answer came: {why}"))
}

type Web = WebSocketStream<TlsStream<TcpStream>>;

/// The task that owns the connection.
struct Actor {
    setup: Setup,
    /// When we signed in lately.
    logins: VecDeque<Instant>,
    /// No login before then, and why.
    barred: Option<(Instant, Fault)>,
    /// Connections in a row that ended soon after they were made.
    early_ends: u32,
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut left_over = None;
        loop {
            let ask = match left_over.take() {
                Some(ask) => ask,
                None => match inbox.recv().await {
                    Some(Order::Call(ask)) => ask,
                    Some(Order::Doubt) => continue,
                    None => return,
                },
            };
            if ask.reply.is_closed() {
                continue;
            }
            match self.open().await {
                Ok(web) => {
                    self.setup.waits_for(None);
                    let begun = Instant::now();
                    let place = self.setup.door.place();
                    let (why, unsent) = Link::new(web, &place).serve(ask, &mut inbox).await;
                    left_over = unsent;
                    log::debug!("truenas ({place}): the connection ended: {why}");
                    self.early_ends = if begun.elapsed() < GOOD { self.early_ends.saturating_add(1) } else { 0 };
                }
                Err(fault) => {
                    ask.end(Err(Failure::NotSent(fault.clone())));
                    // They waited for the same connection.
                    while let Ok(order) = inbox.try_recv() {
                        if let Order::Call(ask) = order {
                            ask.end(Err(Failure::NotSent(fault.clone())));
                        }
                    }
                }
            }
            self.setup.waits_for(Some("a connection"));
        }
    }

    /// A connection that is signed in.
    async fn open(&mut self) -> Result<Web, Fault> {
        if let Some((until, fault)) = &self.barred {
            if Instant::now() < *until {
                return Err(fault.clone());
            }
            self.barred = None;
        }
        self.logins.retain(|at| at.elapsed() < MINUTE);
        if let Some(oldest) = self.logins.front().filter(|_| self.logins.len() >= LOGINS) {
            let wait = MINUTE.saturating_sub(oldest.elapsed()).as_secs() + 1;
            let cause = format!("this server signed in {LOGINS} times within a minute, and TrueNAS limits that");
            return Err(Fault::new(Kind::Conflict, cause)
                .hint(format!("Nothing was asked; call again in {wait} s. Its connections seem to be cut.")));
        }
        if self.early_ends > 0 {
            self.setup.waits_for(Some("connecting again (its connections end early)"));
            tokio::time::sleep((Duration::from_millis(100) * 2_u32.saturating_pow(self.early_ends)).min(BACK_OFF))
                .await;
        }
        let limit = self.setup.door.timeout();
        let place = self.setup.door.place();
        match timeout(limit, self.connect()).await {
            Ok(result) => result,
            Err(_) => {
                let phase = self.setup.phase().unwrap_or("a connection");
                let cause = format!("{place} cannot be reached: {} s were not enough for {phase}", limit.as_secs());
                Err(Fault::new(Kind::Unreachable, cause))
            }
        }
    }

    async fn connect(&mut self) -> Result<Web, Fault> {
        let place = self.setup.door.place();
        self.setup.waits_for(Some("TCP and TLS"));
        let stream = self.setup.door.connect().await?;
        self.setup.waits_for(Some("the WebSocket handshake"));
        let config =
            WebSocketConfig::default().max_message_size(Some(LONGEST_ANSWER)).max_frame_size(Some(LONGEST_ANSWER));
        let opened = client_async_with_config(format!("wss://{place}/api/current"), stream, Some(config)).await;
        let (mut web, _) = opened.map_err(|error| no_handshake(&place, &error))?;

        self.setup.waits_for(Some("the answer to the login"));
        self.logins.push_back(Instant::now());
        let credentials = &self.setup.credentials;
        let (method, params) = credentials.request();
        let text = request(LOGIN, method, &params);
        if text.len() > LONGEST_LOGIN {
            return Err(
                Fault::new(Kind::NotConfigured, "TRUENAS_API_KEY is too long to be a key").hint("Copy it again.")
            );
        }
        let ended = |why: Ending| {
            let fault = why.fault(&place);
            Fault { kind: if fault.kind == Kind::TimedOut { Kind::Unreachable } else { fault.kind }, ..fault }
        };
        // Where the address is not allowed, the connection is closed already, and what can be read says so.
        let _ = web.send(Message::text(text)).await;
        let answer = loop {
            match web.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str::<Incoming>(&text) {
                    Ok(incoming) if incoming.id == LOGIN => break incoming,
                    _ => {}
                },
                Some(Ok(Message::Close(frame))) => return Err(ended(Ending::Closed(frame))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(ended(Ending::of(&error))),
                None => return Err(ended(Ending::Closed(None))),
            }
        };
        let judged = match answer.result() {
            Ok(result) => credentials.verdict(&result),
            Err(refusal) if refusal.is(errno::EBUSY) => {
                let fault = Fault::new(
                    Kind::Conflict,
                    "TrueNAS has seen too many logins from here and refuses more for now",
                )
                .hint("Nothing was asked. It counts anew after a minute: call again then, and see who else signs in.");
                self.barred = Some((Instant::now() + MINUTE, fault.clone()));
                return Err(fault);
            }
            Err(refusal) => Err(credentials.refused(&refusal)),
        };
        match judged {
            Ok(()) => {
                log::debug!("truenas ({place}): signed in");
                Ok(web)
            }
            Err(fault) => {
                self.barred = Some((Instant::now() + REFUSED, fault.clone()));
                Err(fault)
            }
        }
    }
}

fn request(id: u64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// The part of a message that matters. What has no id of ours (events, complaints about garbage) is not for anybody.
#[derive(Deserialize)]
struct Incoming {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

impl Incoming {
    fn result(self) -> Result<Value, Refusal> {
        if self.error.is_null() { Ok(self.result) } else { Err(Refusal::from_rpc(&self.error)) }
    }
}

/// How a connection came to its end.
enum Ending {
    /// The other side closed it, with or without saying why.
    Closed(Option<CloseFrame>),
    /// It broke.
    Broken(String),
    /// The other side does not even answer a ping.
    Dead,
    /// The login counts no more.
    LoggedOut,
    /// TrueNAS is busy with calls that nobody waits for any more, which it counts per connection.
    Stuck,
    /// Nobody needs it any more.
    Unused,
}

impl Ending {
    fn of(error: &tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::Closed(None),
            tungstenite::Error::Io(_) | tungstenite::Error::Protocol(_) | tungstenite::Error::Tls(_) => {
                Self::Broken("it broke off".to_owned())
            }
            tungstenite::Error::Capacity(_) => {
                Self::Broken(format!("the answer was larger than {} MiB", LONGEST_ANSWER >> 20))
            }
            _ => Self::Broken("what came is no WebSocket message".to_owned()),
        }
    }

    /// For those whose call it took with it.
    fn fault(&self, place: &str) -> Fault {
        match self {
            Self::Closed(Some(frame)) => {
                let code = u16::from(frame.code);
                let said = vendor_text(&frame.reason);
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                match code {
                    1008 => Fault::new(Kind::Forbidden, format!("{place} closed the connection (1008{said})")).hint(
                        "This machine's address is not among those that TrueNAS lets in: System > General > Allowed IP \
                         Addresses.",
                    ),
                    1007 | 1009 => lost(place, &format!("TrueNAS found the request too long ({code}{said})")),
                    _ => lost(place, &format!("TrueNAS closed it ({code}{said})")),
                }
            }
            Self::Closed(None) => lost(place, "TrueNAS closed it"),
            Self::Broken(why) => lost(place, why),
            Self::Dead => lost(place, "TrueNAS does not answer any more"),
            Self::LoggedOut => lost(place, "the login had ended"),
            Self::Stuck => lost(place, "its calls hang"),
            Self::Unused => lost(place, "it was closed"),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(Some(frame)) => write!(f, "closed by TrueNAS ({})", u16::from(frame.code)),
            Self::Closed(None) => f.write_str("closed by TrueNAS"),
            Self::Broken(why) => f.write_str(why),
            Self::Dead => f.write_str("no sign of life"),
            Self::LoggedOut => f.write_str("the login had ended"),
            Self::Stuck => f.write_str("its calls hang"),
            Self::Unused => f.write_str("not needed any more"),
        }
    }
}

fn no_handshake(place: &str, error: &tungstenite::Error) -> Fault {
    let tungstenite::Error::Http(response) = error else {
        let cause = format!("{place} did not open a WebSocket: {}", Ending::of(error));
        return Fault::new(Kind::Unreachable, cause).hint("Something else may answer at this address.");
    };
    let status = response.status().as_u16();
    let cause = format!("{place} answered the WebSocket handshake with HTTP {status}");
    match status {
        300..=399 => {
            let to = response.headers().get("location").map(|to| vendor_text(&String::from_utf8_lossy(to.as_bytes())));
            let cause = format!("{cause}, a redirect to {}", to.as_deref().unwrap_or("nowhere"));
            Fault::new(Kind::Malformed, cause).hint("The key was not sent. Set TRUENAS_HOST to the appliance itself.")
        }
        401 | 403 => Fault::new(Kind::Forbidden, cause)
            .hint("A proxy in between may ask for its own login; the API needs the appliance itself."),
        500..=599 => Fault::new(Kind::Unreachable, cause).hint("TrueNAS may be starting: try again in a minute."),
        _ => Fault::new(Kind::Malformed, cause)
            .hint("A proxy in between may not let WebSockets through; use the appliance's own address."),
    }
}

/// A connection in use.
struct Link<'a> {
    web: Web,
    place: &'a str,
    waiting: HashMap<u64, Ask>,
    next: u64,
    /// When the other side last said anything.
    heard: Instant,
    /// Since when we wait for a sign of life.
    asked: Option<Instant>,
    /// What the next connection is to begin with.
    unsent: Option<Ask>,
}

impl<'a> Link<'a> {
    fn new(web: Web, place: &'a str) -> Self {
        Self { web, place, waiting: HashMap::new(), next: 1, heard: Instant::now(), asked: None, unsent: None }
    }

    /// Until the connection ends. Then nobody waits for it any more; a call may be left that belongs to the next one.
    async fn serve(mut self, first: Ask, inbox: &mut mpsc::Receiver<Order>) -> (Ending, Option<Ask>) {
        let ending = match self.send(first).await {
            Ok(()) => self.converse(inbox).await,
            Err(ending) => ending,
        };
        for (_, ask) in self.waiting {
            ask.end(Err(Failure::Lost(ending.fault(self.place))));
        }
        (ending, self.unsent)
    }

    async fn converse(&mut self, inbox: &mut mpsc::Receiver<Order>) -> Ending {
        loop {
            let wake = self.asked.map_or(self.heard + IDLE, |asked| asked + ALIVE);
            let done = tokio::select! {
                message = self.web.next() => self.hear(message),
                order = inbox.recv() => match order {
                    Some(Order::Call(ask)) => self.send(ask).await,
                    Some(Order::Doubt) => self.ask_for_life().await,
                    None => Err(Ending::Unused),
                },
                () = tokio::time::sleep_until(wake) => match self.asked {
                    Some(_) => Err(Ending::Dead),
                    None => self.ask_for_life().await,
                },
            };
            if let Err(ending) = done {
                return ending;
            }
        }
    }

    async fn send(&mut self, ask: Ask) -> Result<(), Ending> {
        let in_use = self.waiting.values().any(|other| !other.reply.is_closed());
        if self.waiting.len() >= AT_ONCE && !in_use {
            self.unsent = Some(ask);
            return Err(Ending::Stuck);
        }
        if self.waiting.len() >= UNANSWERED {
            let cause = format!("{UNANSWERED} calls to {} are unanswered already", self.place);
            let fault = Fault::new(Kind::Conflict, cause).hint("It seems to hang; nothing was asked. Try again later.");
            ask.end(Err(Failure::NotSent(fault)));
            return Ok(());
        }
        let id = self.next;
        let text = request(id, ask.method, &ask.params);
        if text.len() > LONGEST_REQUEST {
            let cause = "the request would be longer than TrueNAS allows (64 KiB)";
            ask.end(Err(Failure::NotSent(Fault::new(Kind::Invalid, cause))));
            return Ok(());
        }
        ask.sent.store(true, Ordering::SeqCst);
        if ask.reply.is_closed() {
            return Ok(());
        }
        self.next += 1;
        self.waiting.insert(id, ask);
        self.write(Message::text(text)).await?;
        // It may have slept, or its cable been pulled, since it last said something.
        if self.heard.elapsed() > QUIET { self.ask_for_life().await } else { Ok(()) }
    }

    async fn ask_for_life(&mut self) -> Result<(), Ending> {
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            self.write(Message::Ping(Vec::new().into())).await?;
        }
        Ok(())
    }

    async fn write(&mut self, message: Message) -> Result<(), Ending> {
        match timeout(ALIVE, self.web.send(message)).await {
            Ok(sent) => sent.map_err(|error| Ending::of(&error)),
            // It reads nothing.
            Err(_) => Err(Ending::Dead),
        }
    }

    fn hear(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), Ending> {
        self.heard = Instant::now();
        self.asked = None;
        match message {
            Some(Ok(Message::Text(text))) => self.answered(&text),
            Some(Ok(Message::Close(frame))) => Err(Ending::Closed(frame)),
            // Pings are answered by the library; nothing that is not text is for us.
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(Ending::of(&error)),
            None => Err(Ending::Closed(None)),
        }
    }

    fn answered(&mut self, text: &str) -> Result<(), Ending> {
        let Ok(incoming) = serde_json::from_str::<Incoming>(text) else {
            // Not its content: it could be anything.
            log::debug!("truenas ({}): {} characters that are no JSON-RPC message", self.place, text.len());
            return Ok(());
        };
        let Some(ask) = incoming.id.as_u64().and_then(|id| self.waiting.remove(&id)) else { return Ok(()) };
        let result = incoming.result();
        let logged_out = matches!(&result, Err(refusal) if refusal.is_logged_out());
        ask.end(result.map_err(Failure::Refused));
        if logged_out { Err(Ending::LoggedOut) } else { Ok(()) }
    }
}
