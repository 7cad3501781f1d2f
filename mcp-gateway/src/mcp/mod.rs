//! The MCP endpoint. The era is decided for every request by what the request itself says: `_meta` or a version header
//! of 2026-07-28 or later; a session, or the `initialize` that opens one; or neither, which stands alone.

mod modern;
mod sessions;
mod stream;

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde_json::value::RawValue;
use shared::{Level, jsonrpc};
use tokio::sync::mpsc;

pub(crate) use sessions::Sessions;

use crate::{
    Gateway,
    access::{Entry, Era},
    auth::Caller,
    body::{self, Refused, Reply},
    mcp::{
        sessions::Session,
        stream::{Statuses, refusal},
    },
    message::{self, Members, Posted, Response, Stamp},
    pool::{Busy, LEGACY, NEWEST_LEGACY},
    worker::{Ask, Exchange, Lost, Outlet, Worker},
};

const SESSION_HEADER: &str = "mcp-session-id";
/// The longest `initialize` parameters that are kept.
const LONGEST_GREETING: usize = 16 << 10;
/// Messages that wait on a session's own stream.
const WAITING: usize = 64;

/// What the headers of a POST say of the answer that its client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    /// Only one JSON object: plain HTTP clients.
    Json,
    /// An event stream too.
    Events,
    Neither,
}

impl Accepts {
    fn of(headers: &HeaderMap) -> Self {
        let (mut any, mut json, mut events) = (false, false, false);
        for value in headers.get_all(header::ACCEPT) {
            let Ok(value) = value.to_str() else { continue };
            for kind in value.split(',') {
                any = true;
                let kind = kind.split(';').next().unwrap_or_default().trim();
                let is = |name: &str| kind.eq_ignore_ascii_case(name);
                json |= is("application/json") || is("*/*") || is("application/*");
                events |= is("text/event-stream");
            }
        }
        match (any, json, events) {
            (_, _, true) => Self::Events,
            (false, ..) | (_, true, _) => Self::Json,
            _ => Self::Neither,
        }
    }
}

/// Answers a POST.
pub(crate) async fn post(
    gateway: &Arc<Gateway>,
    request: Request<Incoming>,
    caller: &Caller,
    entry: &mut Entry,
) -> Reply {
    let (head, body) = request.into_parts();
    let kind = modern::text(&head.headers, header::CONTENT_TYPE.as_str());
    if kind.is_some_and(|kind| !kind.to_ascii_lowercase().starts_with("application/json")) {
        let text = "Send the message as `Content-Type: application/json`.";
        return body::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text);
    }
    let accepts = Accepts::of(&head.headers);
    if accepts == Accepts::Neither {
        let text = "Accept application/json, and text/event-stream if you can read it.";
        return body::problem(StatusCode::NOT_ACCEPTABLE, "not_acceptable", text);
    }
    let _room = gateway.bodies.room(&head.headers, gateway.max_body).await;
    let body = match body::read(body, &head.headers, gateway.max_body).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let posted = match message::read(&body) {
        Ok(posted) => posted,
        Err(reject) => return stream::refusal_line(StatusCode::BAD_REQUEST, reject.code, reject.line()),
    };
    let post = Post { gateway, headers: &head.headers, caller, events: accepts == Accepts::Events };
    match posted {
        Posted::Request(request) => {
            entry.call = Some(request.method.clone().into_owned());
            entry.tool = request.tool().map(|tool| tool.into_owned());
            let era = post.era(&request);
            entry.era = Some(era);
            let answered = match era {
                Era::Modern => post.modern(&request).await,
                Era::Session if request.method == "initialize" => post.initialize(&request).await,
                Era::Session => post.in_session(&request).await,
                Era::Bare => post.bare(&request).await,
            };
            answered.unwrap_or_else(|refused| *refused)
        }
        Posted::Notification { method, params, raw_params } => {
            let session = post.session();
            entry.era = Some(if matches!(session, Ok(Some(_))) { Era::Session } else { Era::Bare });
            let reply = match session {
                Ok(Some(session)) => post.notification(&session, &method, &params, raw_params),
                // Since 2026-07-28 there is none that means something over HTTP.
                Ok(None) => body::empty(StatusCode::ACCEPTED),
                Err(refused) => *refused,
            };
            entry.call = Some(method.into_owned());
            reply
        }
        Posted::Response(response) => {
            entry.era = Some(Era::Session);
            match post.session() {
                Ok(Some(session)) => post.response(&session, response),
                Ok(None) => refusal(
                    StatusCode::BAD_REQUEST,
                    None,
                    jsonrpc::INVALID_REQUEST,
                    "Invalid request: an answer needs the session that it was asked in",
                ),
                Err(refused) => *refused,
            }
        }
    }
}

/// Answers a GET: the stream of a session.
pub(crate) fn get(gateway: &Gateway, headers: &HeaderMap, caller: &Caller) -> Reply {
    let Some(id) = modern::text(headers, SESSION_HEADER) else {
        let mut reply = body::problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This is an MCP endpoint: send messages with POST. A GET opens the stream of a session and needs its Mcp-Session-Id.",
        );
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, GET, DELETE, OPTIONS"));
        return reply;
    };
    let Some(session) = gateway.sessions.find(id, &caller.tenant) else { return unknown_session(None) };
    if headers.contains_key(header::ACCEPT) && Accepts::of(headers) == Accepts::Neither {
        return body::problem(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "Accept text/event-stream.");
    }
    let (sender, events) = mpsc::channel(WAITING);
    // A second stream takes the first one's place; that one ends.
    *session.outlet.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
    stream::session(events, gateway.pool.stop().clone())
}

/// Answers a DELETE: the end of a session.
pub(crate) fn delete(gateway: &Gateway, headers: &HeaderMap, caller: &Caller) -> Reply {
    match modern::text(headers, SESSION_HEADER) {
        Some(id) if gateway.sessions.close(id, &caller.tenant) => body::empty(StatusCode::NO_CONTENT),
        Some(_) => unknown_session(None),
        None => {
            let text = "DELETE ends a session and needs its Mcp-Session-Id.";
            body::problem(StatusCode::BAD_REQUEST, "invalid_request", text)
        }
    }
}

fn unknown_session(id: Option<&RawValue>) -> Reply {
    let text =
        "Unknown session: it has ended, or was never opened with these credentials. Start again with `initialize`.";
    refusal(StatusCode::NOT_FOUND, id, jsonrpc::INVALID_REQUEST, text)
}

fn busy(id: &RawValue) -> Reply {
    let text = "Too many calls are under way; nothing was done. Try again in a few seconds.";
    let reply = refusal(StatusCode::SERVICE_UNAVAILABLE, Some(id), message::INTERNAL, text);
    body::retry_after(reply, std::time::Duration::from_secs(2))
}

/// What all messages that are posted have in common.
struct Post<'a> {
    gateway: &'a Arc<Gateway>,
    headers: &'a HeaderMap,
    caller: &'a Caller,
    /// Whether the client reads event streams.
    events: bool,
}

/// Where a request goes to, and how its answer comes back.
struct Way<'a> {
    stamp: Stamp<'a>,
    tenant: Option<u64>,
    statuses: Statuses,
    streams: bool,
    ends_with_caller: bool,
}

/// Which worker takes a request.
#[derive(Clone, Copy)]
enum To<'a> {
    /// One that is greeted with this version.
    Shared(&'static str),
    /// The session's own, or one that is shared by sessions of its version.
    Session(&'a Arc<Session>),
}

impl Post<'_> {
    fn era(&self, request: &message::Request<'_>) -> Era {
        // A full handshake opens a session, whatever is said beside it.
        if request.method == "initialize" && request.params.text("protocolVersion").is_some() {
            return Era::Session;
        }
        let header = modern::text(self.headers, modern::VERSION_HEADER);
        if request.version().is_some() || header.is_some_and(modern::is_modern) {
            return Era::Modern;
        }
        // With a version of theirs, a session is meant; without anything the request stands alone.
        if header.is_some() || self.headers.contains_key(SESSION_HEADER) { Era::Session } else { Era::Bare }
    }

    async fn modern(&self, request: &message::Request<'_>) -> Result<Reply, Refused> {
        modern::refuse(request, self.headers, self.gateway.pool.eras())?;
        self.check_level(request)?;
        let way = Way {
            stamp: Stamp { principal: self.principal(request), version: None },
            tenant: None,
            statuses: Statuses::ByCode,
            streams: self.events,
            ends_with_caller: true,
        };
        if self.events && request.wants_log() && self.gateway.pool.eras().logs {
            // Log messages name no request, so that this one needs a process for itself.
            let pool = &self.gateway.pool;
            let own = pool
                .own(self.caller.level, Outlet::default(), None)
                .await
                .map_err(|Busy| Box::new(busy(&request.id)))?;
            let kept = OnlyOne(own);
            let exchange = self.ask(&kept.0, request, &way).await?;
            let replied = stream::reply(exchange, &request.id, way.statuses, way.streams, kept).await;
            return replied.map_err(|_| busy(&request.id).into());
        }
        self.pass_on(request, &way, To::Shared(NEWEST_LEGACY)).await
    }

    async fn bare(&self, request: &message::Request<'_>) -> Result<Reply, Refused> {
        self.check_level(request)?;
        let pool = &self.gateway.pool;
        let way = Way {
            stamp: Stamp { principal: self.principal(request), version: pool.eras().newest() },
            tenant: None,
            statuses: Statuses::ByCode,
            streams: self.events,
            ends_with_caller: true,
        };
        self.pass_on(request, &way, To::Shared(NEWEST_LEGACY)).await
    }

    async fn initialize(&self, request: &message::Request<'_>) -> Result<Reply, Refused> {
        let pool = &self.gateway.pool;
        let requested = request.params.text("protocolVersion").unwrap_or_default();
        if !pool.eras().legacy {
            return Err(modern::unsupported(request, &requested, pool.eras()).into());
        }
        let version = LEGACY.into_iter().find(|known| *known == requested).unwrap_or(NEWEST_LEGACY);
        let params = request.plain_params();
        if params.get().len() > LONGEST_GREETING {
            let text = format!("Invalid params: more than {LONGEST_GREETING} bytes are not kept for a session");
            return Err(refusal(StatusCode::BAD_REQUEST, Some(&request.id), jsonrpc::INVALID_PARAMS, &text).into());
        }
        let capabilities =
            request.params.get("capabilities").and_then(|raw| Members::read(raw).ok()).unwrap_or_default();
        let can_be_asked = ["elicitation", "sampling", "roots"].iter().any(|name| capabilities.get(name).is_some());
        // What the core says to one client it says to all of that version.
        let worker = self.shared(version);
        let greeting = worker.up().await.map_err(|lost| {
            let reply = refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(&request.id),
                message::INTERNAL,
                "The MCP server behind this gateway is not running at the moment. Try again in a while.",
            );
            let wait = if let Lost::Down { wait, .. } = lost { wait } else { std::time::Duration::from_secs(1) };
            Box::new(body::retry_after(reply, wait))
        })?;
        let id = &request.id;
        match greeting.as_deref() {
            Some(Ok(result)) => {
                let opened = self.gateway.sessions.open(&self.caller.tenant, version, params, can_be_asked);
                let session = opened.map_err(|Busy| Box::new(busy(id)))?;
                let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
                let mut reply = body::json(StatusCode::OK, [Bytes::from(line)]);
                if let Ok(session) = HeaderValue::from_str(&session) {
                    reply.headers_mut().insert(SESSION_HEADER, session);
                }
                Ok(reply)
            }
            Some(Err(error)) => {
                let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
                Err(stream::refusal_line(StatusCode::OK, message::INTERNAL, line.into_bytes()).into())
            }
            None => Err(modern::unsupported(request, &requested, pool.eras()).into()),
        }
    }

    async fn in_session(&self, request: &message::Request<'_>) -> Result<Reply, Refused> {
        let Some(session) = self.session_for(Some(&request.id))? else {
            let text = "Invalid request: a session is needed; start with `initialize` and send its Mcp-Session-Id";
            return Err(refusal(StatusCode::BAD_REQUEST, Some(&request.id), jsonrpc::INVALID_REQUEST, text).into());
        };
        if let Some(version) = modern::text(self.headers, modern::VERSION_HEADER)
            && !LEGACY.contains(&version)
        {
            let text = format!("Invalid request: MCP-Protocol-Version {version} is not supported in a session");
            return Err(refusal(StatusCode::BAD_REQUEST, Some(&request.id), jsonrpc::INVALID_REQUEST, &text).into());
        }
        self.check_level(request)?;
        if matches!(&*request.method, "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe") {
            session.claim();
        }
        let way = Way {
            stamp: Stamp { principal: self.principal(request), version: None },
            tenant: Some(session.number),
            statuses: Statuses::Plain,
            streams: self.events,
            // Whoever loses the connection here may come back and ask what became of it.
            ends_with_caller: false,
        };
        self.pass_on(request, &way, To::Session(&session)).await
    }

    /// Sends a request to a worker and answers with what comes back. A worker that ended before it took the request is
    /// replaced once.
    async fn pass_on(&self, request: &message::Request<'_>, way: &Way<'_>, to: To<'_>) -> Result<Reply, Refused> {
        for _ in 0..2 {
            let (own, calling) = match to {
                To::Shared(_) => (None, None),
                To::Session(session) => {
                    let calling = session.busy();
                    let own = session.worker(&self.gateway.pool, self.caller.level).await;
                    (own.map_err(|Busy| Box::new(busy(&request.id)))?, Some(calling))
                }
            };
            let version = match to {
                To::Shared(version) => version,
                To::Session(session) => session.version,
            };
            let worker = own.unwrap_or_else(|| self.shared(version));
            let exchange = self.ask(&worker, request, way).await?;
            match stream::reply(exchange, &request.id, way.statuses, way.streams, calling).await {
                Ok(reply) => return Ok(reply),
                Err(_not_sent) => {}
            }
        }
        Err(busy(&request.id).into())
    }

    async fn ask(&self, worker: &Worker, request: &message::Request<'_>, way: &Way<'_>) -> Result<Exchange, Refused> {
        let permit = self.gateway.pool.admit().await.map_err(|Busy| Box::new(busy(&request.id)))?;
        let (stamp, tenant, ends_with_caller) = (way.stamp, way.tenant, way.ends_with_caller);
        // From a shared worker only what names the request can come before its answer.
        let named = request.progress_token().is_some() || request.method == "subscriptions/listen";
        let events = way.streams && (named || worker.is_own());
        Ok(worker.ask(Ask { request, stamp, tenant, events, ends_with_caller, permit }))
    }

    fn notification(
        &self,
        session: &Session,
        method: &str,
        params: &Members<'_>,
        raw_params: Option<&RawValue>,
    ) -> Reply {
        match method {
            // Every worker is told so by us.
            "notifications/initialized" => {}
            "notifications/cancelled" => {
                if let Some(id) = params.get("requestId") {
                    let shared = self.gateway.pool.shared_of(session.version);
                    shared.iter().chain(session.current().iter()).for_each(|worker| worker.cancel(session.number, id));
                }
            }
            _ => {
                if let Some(own) = session.current() {
                    own.tell(message::notification_line(method, raw_params));
                }
            }
        }
        body::empty(StatusCode::ACCEPTED)
    }

    fn response(&self, session: &Session, response: Response) -> Reply {
        if let Some(own) = session.current() {
            own.reply(response);
        }
        body::empty(StatusCode::ACCEPTED)
    }

    /// The session that the message belongs to, if it names one.
    fn session(&self) -> Result<Option<Arc<Session>>, Refused> {
        self.session_for(None)
    }

    fn session_for(&self, id: Option<&RawValue>) -> Result<Option<Arc<Session>>, Refused> {
        let Some(named) = self.headers.get(SESSION_HEADER) else { return Ok(None) };
        let found = named.to_str().ok().and_then(|named| self.gateway.sessions.find(named, &self.caller.tenant));
        found.map(Some).ok_or_else(|| unknown_session(id).into())
    }

    fn shared(&self, version: &'static str) -> Worker {
        self.gateway.pool.shared(self.caller.level, version)
    }

    /// Said to our own core only, and only where it matters.
    fn principal(&self, request: &message::Request<'_>) -> Option<&str> {
        let said = request.method == "tools/call" && self.gateway.pool.core_is_ours();
        said.then(|| self.caller.principal.as_str())
    }

    /// Refuses a call that other credentials of the same caller would allow. What nobody may do here, the core explains.
    fn check_level(&self, request: &message::Request<'_>) -> Result<(), Refused> {
        let needed = request.tool().and_then(|tool| self.gateway.pool.level_of(&tool)).unwrap_or(Level::Monitor);
        if needed > self.caller.level && needed <= self.caller.reachable {
            return Err(self.gateway.auth.insufficient_scope(needed).into());
        }
        Ok(())
    }
}

/// A worker for one request.
struct OnlyOne(Worker);

impl Drop for OnlyOne {
    fn drop(&mut self) {
        self.0.stop();
    }
}
