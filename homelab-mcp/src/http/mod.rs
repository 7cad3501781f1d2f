//! The one door to appliances that speak HTTP. It knows addresses, trust, time-outs and connections; a backend says
//! what to ask and reads what came. ureq is blocking, so a call runs on the blocking pool, in a bounded number per
//! appliance.
//!
//! - A read is repeated once when the kept connection it went over proved to be dead.
//! - A change goes over a connection of its own and is sent once. When it was sent and no answer came, the fault says
//!   that it may have happened.
//! - An appliance with several members is asked through the one that answered last; the next one is tried only when no
//!   connection could be made, so nothing can have been received.
//! - Redirects are answers, not followed: a key is for the appliance it was made for.

pub(crate) mod origin;
pub(crate) mod text;
pub(crate) mod trust;

mod link;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use shared::Secret;
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::{TlsConnector, client::TlsStream};
use ureq::{Agent, http, unversioned::resolver::DefaultResolver};

use self::{
    link::{Dialler, Journal},
    origin::Origin,
    trust::Trust,
};
use crate::{
    error::{Fault, Kind},
    proof,
};

/// Requests to one appliance at the same time. Home appliances have few workers.
const AT_ONCE: usize = 8;

/// An idle connection is used again for this long. Proxmox and OPNsense close theirs after five seconds.
const IDLE: Duration = Duration::from_secs(4);

/// Of one answer. The largest honest ones are lists of thousands of datasets.
const BODY: u64 = 32 << 20;

/// When nobody set a time.
const LONGEST: Duration = Duration::from_secs(600);

/// How an appliance is reached, as configured.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// The variables' prefix: `PROXMOX`.
    pub(crate) prefix: &'static str,
    /// At least one.
    pub(crate) members: Vec<Origin>,
    pub(crate) trust: trust::Choice,
    /// For one request, unless it says otherwise.
    pub(crate) timeout: Duration,
}

/// One appliance.
#[derive(Clone)]
pub(crate) struct Door(Arc<Inner>);

struct Inner {
    members: Vec<Member>,
    /// The member that answered last.
    good: AtomicUsize,
    trust: Arc<Trust>,
    slots: Arc<Semaphore>,
    timeout: Duration,
}

struct Member {
    origin: Origin,
    /// Keeps connections, for reads.
    kept: Agent,
    /// A new connection each time, for changes.
    fresh: Agent,
}

/// What to ask.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: http::Method,
    path: String,
    headers: Vec<(&'static str, Header)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
    enough: Option<fn(&[u8]) -> bool>,
}

#[derive(Clone, Debug)]
enum Header {
    Plain(&'static str),
    Secret(Secret),
}

impl Request {
    fn new(method: http::Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Vec::new(), timeout: None, enough: None }
    }

    /// `path` begins with `/`; what a caller gave in it has been checked and encoded ([`text::encode`]).
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(http::Method::GET, path)
    }

    /// Without a body until one is given.
    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(http::Method::POST, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(http::Method::DELETE, path)
    }

    /// For example `authorization`; the value does not print.
    pub(crate) fn secret_header(mut self, name: &'static str, value: Secret) -> Self {
        self.headers.push((name, Header::Secret(value)));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, Header::Plain(value)));
        self
    }

    /// A form, encoded.
    pub(crate) fn form<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let pairs: Vec<_> =
            pairs.into_iter().map(|(name, value)| format!("{}={}", text::encode(name), text::encode(&value))).collect();
        self.body = pairs.join("&").into_bytes();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    /// A JSON body.
    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", "application/json")
    }

    /// In place of the appliance's usual time.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// For an answer that does not end: hang up when what came so far is enough.
    pub(crate) fn until(mut self, enough: fn(&[u8]) -> bool) -> Self {
        self.enough = Some(enough);
        self
    }
}

/// What came. Every status is an answer; a backend knows what its statuses mean.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// Also one that HTTP does not know: Proxmox answers 595.
    pub(crate) status: u16,
    /// The status line's words, where some vendors put all that they say.
    pub(crate) reason: String,
    pub(crate) content_type: String,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Which member said it: `pve1.lan:8006`.
    pub(crate) member: String,
}

impl Response {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON, or a fault that says what it is instead.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Fault> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let shown = text::vendor_text(&String::from_utf8_lossy(&self.body));
            let is = if shown.is_empty() { "nothing".to_owned() } else { format!("not JSON: `{shown}`") };
            Fault::new(Kind::Malformed, format!("{} answered {}, and that is {is}", self.member, self.status))
                .hint("Something else may answer at this address: a proxy, a login page, another service.")
        })
    }
}

/// A call that nobody waits for any more must not keep its connection.
struct Guard(Option<Arc<Journal>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(journal) = self.0.take() {
            journal.cancel();
        }
    }
}

impl Door {
    pub(crate) fn new(address: &Address) -> Self {
        let trust = Arc::new(Trust::new(address.trust.clone(), address.prefix));
        let agent = |origin: &Origin, kept: usize| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                // A proxy of the environment is for the internet, not for the rack.
                .proxy(None)
                .user_agent(concat!("homelab-mcp/", env!("CARGO_PKG_VERSION")))
                .max_idle_connections(kept)
                .max_idle_connections_per_host(kept)
                .max_idle_age(IDLE)
                .https_only(true)
                // A dead name server is no reason to wait longer than for a dead appliance.
                .timeout_resolve(Some(link::CONNECT))
                .build();
            let dialler = Dialler { origin: origin.clone(), trust: trust.clone() };
            Agent::with_parts(config, dialler, DefaultResolver::default())
        };
        let members = address.members.iter().map(|origin| Member {
            origin: origin.clone(),
            kept: agent(origin, AT_ONCE),
            fresh: agent(origin, 0),
        });
        Self(Arc::new(Inner {
            members: members.collect(),
            good: AtomicUsize::new(0),
            trust,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            timeout: address.timeout,
        }))
    }

    /// Where it is, for errors: `pve1.lan:8006`, the one that answered last.
    pub(crate) fn place(&self) -> String {
        self.0.member().origin.to_string()
    }

    /// For one request, when it does not say otherwise.
    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Asks for something that changes nothing. Dropping this ends the request.
    pub(crate) async fn read(&self, request: Request) -> Result<Response, Fault> {
        self.call(request, false).await
    }

    /// Sends what changes something, once. Dropping this ends the waiting; the request may have arrived.
    pub(crate) async fn change(&self, _proof: &proof::Change, request: Request) -> Result<Response, Fault> {
        self.call(request, true).await
    }

    async fn call(&self, request: Request, changes: bool) -> Result<Response, Fault> {
        let limit = request.timeout.unwrap_or(self.0.timeout);
        let busy = || {
            Fault::new(Kind::Conflict, format!("{AT_ONCE} requests to {} are unanswered already", self.place()))
                .hint("It seems to hang; nothing was asked. Try again later.")
        };
        let deadline = Instant::now() + limit;
        let slot = tokio::time::timeout(limit, self.0.slots.clone().acquire_owned()).await;
        let slot = slot.map_err(|_| busy())?.map_err(|_| busy())?;
        let journal = Arc::new(Journal::default());
        let mut guard = Guard(Some(journal.clone()));
        let inner = self.0.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            // What a read waited for its turn is part of its time; a change that is sent gets all of it.
            let deadline = if changes { Instant::now() + limit } else { deadline };
            inner.ask(&request, changes, limit, deadline, &journal)
        });
        let result = work.await;
        guard.0 = None;
        result.unwrap_or_else(|_| Err(Fault::new(Kind::Malformed, "asking the appliance crashed")))
    }

    /// A TLS connection of its own, for what is not HTTP. The handshake is done.
    pub(crate) async fn connect(&self) -> Result<TlsStream<TcpStream>, Fault> {
        let origin = &self.0.member().origin;
        let place = origin.to_string();
        let limit = link::CONNECT.min(self.0.timeout);
        let unreachable = |why: String| Fault::new(Kind::Unreachable, format!("{place} cannot be reached: {why}"));
        let (config, doubt) = self.0.trust.client()?;
        let name: ServerName<'static> =
            origin.server_name().ok_or_else(|| unreachable("its name cannot be used".to_owned()))?;
        let connecting = async {
            let socket =
                TcpStream::connect(origin.host_port()).await.map_err(|error| unreachable(link::said(&error)))?;
            let _ = socket.set_nodelay(true);
            let tls = TlsConnector::from(config).connect(name, socket).await;
            tls.map_err(|error| self.0.trust.explain(&place, &doubt, &link::said(&error)))
        };
        let connected = tokio::time::timeout(limit, connecting).await;
        connected.map_err(|_| unreachable(format!("no connection within {} s", limit.as_secs())))?
    }
}

/// In place of our own key.
const HUSHED: &str = "[our key]";

/// What answers may be something that repeats what it was asked, headers and all. Our key is not for whoever reads the
/// error, also where the operator has redaction switched off for values of their own.
fn without(body: Vec<u8>, secret: &str) -> Vec<u8> {
    let Some(first) = secret.as_bytes().first() else { return body };
    let is_here = |at: usize| body[at..].starts_with(secret.as_bytes());
    let here = body.iter().enumerate().any(|(at, byte)| byte == first && is_here(at));
    if here { String::from_utf8_lossy(&body).replace(secret, HUSHED).into_bytes() } else { body }
}

/// Reads until it is enough, or the end. A body that was not read to its end takes its connection with it.
fn read_until(mut reader: impl io::Read, enough: fn(&[u8]) -> bool) -> Result<Vec<u8>, ureq::Error> {
    let (mut body, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let amount = reader.read(&mut piece)?;
        body.extend_from_slice(&piece[..amount]);
        if amount == 0 || enough(&body) {
            return Ok(body);
        }
    }
}

impl Inner {
    fn member(&self) -> &Member {
        // `members` has at least one, and `good` is an index into it.
        &self.members[self.good.load(Ordering::Relaxed) % self.members.len()]
    }

    fn ask(
        &self,
        request: &Request,
        changes: bool,
        limit: Duration,
        deadline: Instant,
        journal: &Arc<Journal>,
    ) -> Result<Response, Fault> {
        let first = self.good.load(Ordering::Relaxed);
        let mut result = Err(Fault::new(Kind::NotConfigured, "no address"));
        for step in 0..self.members.len() {
            let at = (first + step) % self.members.len();
            let member = &self.members[at];
            result = member.ask(request, changes, limit, deadline, journal);
            match &result {
                Err(fault)
                    if fault.kind == Kind::Unreachable && !(changes && journal.sent()) && !journal.cancelled() =>
                {
                    if self.members.len() > 1 {
                        log::warn!("{}; trying the next member", fault.cause);
                    }
                }
                _ => {
                    self.good.store(at, Ordering::Relaxed);
                    return result;
                }
            }
        }
        if self.members.len() > 1 {
            let all: Vec<_> = self.members.iter().map(|member| member.origin.to_string()).collect();
            result = result.map_err(|fault| Fault {
                cause: format!("none of {} can be reached (the last: {})", all.join(", "), fault.cause),
                ..fault
            });
        }
        result
    }
}

impl Member {
    fn ask(
        &self,
        request: &Request,
        changes: bool,
        limit: Duration,
        deadline: Instant,
        journal: &Arc<Journal>,
    ) -> Result<Response, Fault> {
        let agent = if changes { &self.fresh } else { &self.kept };
        match self.send(agent, request, deadline, journal) {
            // Silence is no sign of a dead connection, but of an appliance that hangs.
            Err(error) if !changes && !link::timed_out(&error) && journal.proved_stale() && !journal.cancelled() => {
                // The connection was dead before we wrote to it; a new one tells.
                self.send(&self.fresh, request, deadline, journal)
            }
            result => result,
        }
        .map_err(|error| self.fault(&error, changes, limit, journal))
    }

    fn send(
        &self,
        agent: &Agent,
        request: &Request,
        deadline: Instant,
        journal: &Arc<Journal>,
    ) -> Result<Response, ureq::Error> {
        // Not zero, which would be no limit.
        let limit = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(format!("https://{}{}", self.origin, request.path));
        for (name, value) in &request.headers {
            builder = builder.header(
                *name,
                match value {
                    Header::Plain(value) => value,
                    Header::Secret(value) => value.expose(),
                },
            );
        }
        journal.during(|| {
            // A body only where one is meant: Proxmox refuses any with GET and DELETE, OPNsense wants a length with POST.
            let has_body = request.method == http::Method::POST;
            let mut answer = if has_body {
                let built = builder.body(request.body.clone())?;
                agent.run(agent.configure_request(built).timeout_global(Some(limit)).build())
            } else {
                let built = builder.body(())?;
                agent.run(agent.configure_request(built).timeout_global(Some(limit)).build())
            }?;
            let header =
                |name| answer.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let (content_type, location) = (header("content-type").unwrap_or_default(), header("location"));
            let status = answer.status().as_u16();
            let mut body = match request.enough {
                None => answer.body_mut().with_config().limit(BODY).read_to_vec()?,
                Some(enough) => read_until(answer.body_mut().with_config().limit(BODY).reader(), enough)?,
            };
            let mut reason = journal.reason();
            for (_, value) in &request.headers {
                if let Header::Secret(secret) = value {
                    body = without(body, secret.expose());
                    reason = reason.replace(secret.expose(), HUSHED);
                }
            }
            Ok(Response { status, reason, content_type, location, body, member: self.origin.to_string() })
        })
    }

    fn fault(&self, error: &ureq::Error, changes: bool, limit: Duration, journal: &Journal) -> Fault {
        if let Some(fault) = journal.fault() {
            return fault;
        }
        let place = self.origin.to_string();
        // What is left of a longer time has a fraction.
        let seconds = limit.as_secs_f64().ceil();
        let sent = journal.sent();
        let (kind, cause) = match error {
            error if link::timed_out(error) && sent => {
                (Kind::TimedOut, format!("{place} did not answer within {seconds} s"))
            }
            ureq::Error::Timeout(_) => {
                (Kind::Unreachable, format!("{place} cannot be reached: no connection within {seconds} s"))
            }
            ureq::Error::HostNotFound => (Kind::Unreachable, format!("{place} cannot be reached: no such host")),
            ureq::Error::BodyExceedsLimit(limit) => {
                (Kind::Upstream, format!("{place} answered more than {} MiB", limit >> 20))
            }
            ureq::Error::Io(error) if sent => {
                (Kind::TimedOut, format!("{place} was asked and did not answer: {}", link::said(error)))
            }
            ureq::Error::Io(error) => (Kind::Unreachable, format!("{place} cannot be reached: {}", link::said(error))),
            ureq::Error::ConnectionFailed => (Kind::Unreachable, format!("{place} cannot be reached")),
            error => (Kind::Malformed, format!("{place} answered what is no HTTP ({error})")),
        };
        let fault = Fault::new(kind, cause);
        match kind {
            // Sent, and not known what became of it: the kind's own advice and the outcome `unknown`.
            _ if changes && sent => Fault { kind: Kind::TimedOut, ..fault },
            Kind::TimedOut => fault.hint("It may be busy or hang; other backends are not affected."),
            Kind::Malformed => fault.hint("Something else may answer at this address, or the connection is damaged."),
            _ => fault,
        }
    }
}
