//! TrueNAS, CORE 13.0 to 27: JSON-RPC 2.0 over WebSocket from 25.04 on, REST v2.0 up to 25.10.
//!
//! ```no_run
//! use lab::truenas::{Profile, TrueNas};
//! let nas = TrueNas::new(Profile::V26);
//! let server = lab::Server::start(nas.clone(), lab::Options::default())?;
//! println!("TRUENAS_HOST={} TRUENAS_API_KEY={}", server.host(), nas.key("svc"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Users of a new appliance: `svc` (FULL_ADMIN), `viewer` (READONLY_ADMIN) and `nobody` (no role), with a key each.
//! A plain [`Server`](crate::Server) stands for HTTP from another machine: a key that is presented there is revoked
//! (the real appliance spares loopback). Left out: SCRAM, passwords, tokens, the legacy `/websocket`, jobs that run.

mod access;
mod alert;
mod dataset;
mod error;
mod method;
mod pool;
mod profile;
mod query;
mod rest;
mod session;
mod snapshot;
mod socket;
mod world;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use alert::Alert;
pub use dataset::{Dataset, Encryption, Kind};
pub use error::{Issue, RpcError};
pub use pool::{Health, Pool, Scan, Vdev};
pub use profile::{PROFILES, Profile};
pub use snapshot::Snapshot;
pub use world::World;

use crate::connection::Stream;
use crate::message::{Reply, Request};
use crate::server::{Appliance, KeepAlive};
use access::Access;
use error::text;
use socket::Socket;

/// One method call that arrived, over either protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Serial number of the WebSocket connection; 0 for REST.
    pub session: u64,
    /// Its name; for REST the method behind the path.
    pub method: String,
    /// Its arguments.
    pub params: Vec<Value>,
}

/// What is wrong with the appliance, on request.
struct Knobs {
    /// Answers of these methods come this late; `Duration::MAX`: never.
    slow: HashMap<String, Duration>,
    /// These methods fail.
    failures: HashMap<String, RpcError>,
    /// Anonymous calls per method, the window, and how long the refusal takes.
    rate_limit: (u32, Duration, Duration),
    refusal_delay: Duration,
    address_denied: bool,
    standby: Option<Vec<String>>,
    login_answer: Option<Value>,
    no_plain_keys: bool,
    noise: bool,
    /// The middleware is back at this time.
    down_until: Option<Instant>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            slow: HashMap::new(),
            failures: HashMap::new(),
            rate_limit: (20, Duration::from_secs(60), Duration::from_secs(1)),
            refusal_delay: Duration::from_millis(1200),
            address_denied: false,
            standby: None,
            login_answer: None,
            no_plain_keys: false,
            noise: false,
            down_until: None,
        }
    }
}

struct State {
    world: World,
    access: Access,
    knobs: Knobs,
    calls: Vec<Call>,
    sessions: HashMap<u64, Sender<Value>>,
    opened: u64,
    login_attempts: u64,
    logins: u64,
    serial: u64,
}

impl State {
    /// Tells all connections; each decides whether it subscribed.
    fn announce(&mut self, collection: &str, msg: &str, id: &str, fields: Option<Value>) {
        let mut params = json!({"msg": msg, "collection": collection, "id": id});
        match fields {
            Some(fields) => params["fields"] = fields,
            None => params["extra"] = json!({"recursive": false}),
        }
        self.tell(&json!({"jsonrpc": "2.0", "method": "collection_update", "params": params}));
    }

    fn tell(&mut self, event: &Value) {
        self.sessions.retain(|_, sender| sender.send(event.clone()).is_ok());
    }

    fn raise(&mut self, klass: &str, level: &'static str, formatted: &str) {
        self.serial += 1;
        let number = 0x1000 + u32::try_from(self.serial).unwrap_or(u32::MAX / 2);
        self.world.alerts.push(Alert::new(number, klass, level, formatted, world::now_millis()));
    }

    fn complain_about_rest(&mut self) {
        if !self.world.alerts.iter().any(|alert| alert.klass == "RESTAPIUsage") {
            let text = "The deprecated REST API was used to authenticate 1 times in the last 24 hours from the \
                        following IP addresses:<br>127.0.0.1.<br>The REST API will be removed in version 26.04.";
            self.raise("RESTAPIUsage", "WARNING", text);
        }
    }
}

/// A TrueNAS appliance. Clone the [`Arc`] to look at it and to prepare it while it runs.
pub struct TrueNas {
    profile: Profile,
    started: Instant,
    state: Mutex<State>,
    /// Counts the middleware's restarts.
    epoch: AtomicU64,
}

impl TrueNas {
    /// An appliance with the [sample](World::sample) content.
    #[must_use]
    pub fn new(profile: Profile) -> Arc<Self> {
        let state = State {
            world: World::sample(profile),
            access: Access::new(),
            knobs: Knobs::default(),
            calls: Vec::new(),
            sessions: HashMap::new(),
            opened: 0,
            login_attempts: 0,
            logins: 0,
            serial: 0,
        };
        let state = Mutex::new(state);
        Arc::new(Self { profile, started: Instant::now(), state, epoch: AtomicU64::new(0) })
    }

    /// The release it is.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Looks at or changes what it has.
    pub fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.lock().world)
    }

    /// The newest key of a user; empty for an unknown one.
    #[must_use]
    pub fn key(&self, user: &str) -> String {
        let state = self.lock();
        let newest = state.access.keys.iter().rev().find(|key| key.user == user);
        newest.map(|key| key.text.clone()).unwrap_or_default()
    }

    /// Adds or replaces a user with these roles (the vendor's names, as `READONLY_ADMIN`), and makes it a key.
    pub fn add_user(&self, name: &str, roles: &[&str]) -> String {
        let mut state = self.lock();
        state.access.add_user(name, roles);
        state.access.add_key(name)
    }

    /// The key's time is over.
    pub fn expire(&self, key: &str) {
        self.lock().access.keys.iter_mut().filter(|known| known.text == key).for_each(|known| known.expired = true);
    }

    /// The key was revoked.
    pub fn revoke(&self, key: &str) {
        self.lock().access.keys.iter_mut().filter(|known| known.text == key).for_each(|known| known.revoked = true);
    }

    /// Whether the key was revoked, by [`revoke`](Self::revoke) or by its use over plain transport.
    #[must_use]
    pub fn is_revoked(&self, key: &str) -> bool {
        self.lock().access.keys.iter().any(|known| known.text == key && known.revoked)
    }

    /// From now on answers of this method come this late; what it does is done at once.
    pub fn slow(&self, method: &str, by: Duration) {
        self.lock().knobs.slow.insert(method.to_owned(), by);
    }

    /// From now on this method does its work and never answers.
    pub fn silent(&self, method: &str) {
        self.slow(method, Duration::MAX);
    }

    /// From now on this method fails like this, after all checks of the caller.
    pub fn fail(&self, method: &str, error: RpcError) {
        self.lock().knobs.failures.insert(method.to_owned(), error);
    }

    /// Takes [`slow`](Self::slow), [`silent`](Self::silent) and [`fail`](Self::fail) back, for all methods.
    pub fn well_again(&self) {
        let mut state = self.lock();
        state.knobs.slow.clear();
        state.knobs.failures.clear();
    }

    /// Another limit on anonymous calls of a method (20 in 60 s, refused after 1 s; the vendor takes 1 to 10 s).
    pub fn rate_limit(&self, calls: u32, window: Duration, refused_after: Duration) {
        self.lock().knobs.rate_limit = (calls, window, refused_after);
    }

    /// How late a refused login is answered (1.2 s; the vendor takes 1 to 2 s).
    pub fn refusal_delay(&self, delay: Duration) {
        self.lock().knobs.refusal_delay = delay;
    }

    /// Whether the caller's address is missing on the allow-list.
    pub fn deny_address(&self, denied: bool) {
        self.lock().knobs.address_denied = denied;
    }

    /// As the standby controller of a pair; these are the addresses it names.
    pub fn standby(&self, urls: &[&str]) {
        self.lock().knobs.standby = Some(urls.iter().map(|url| (*url).to_owned()).collect());
    }

    /// `auth.login_ex` answers this, whoever asks: `{"response_type": "OTP_REQUIRED", …}` or what is yet to be invented.
    pub fn answer_login_ex(&self, answer: Value) {
        self.lock().knobs.login_answer = Some(answer);
    }

    /// Keys sent as they are, are not accepted (the security level of STIG mode).
    pub fn forbid_plain_keys(&self) {
        self.lock().knobs.no_plain_keys = true;
    }

    /// Whether notifications nobody asked for precede each result.
    pub fn noise(&self, on: bool) {
        self.lock().knobs.noise = on;
    }

    /// Sends all connections this notification, subscribed or not.
    pub fn push(&self, method: &str, params: Value) {
        let event = json!({"jsonrpc": "2.0", "method": method, "params": params, "unsolicited": true});
        self.lock().tell(&event);
    }

    /// The middleware restarts: all WebSockets are dropped without a close frame, and for this long nginx answers 502.
    pub fn restart(&self, down: Duration) {
        self.lock().knobs.down_until = Instant::now().checked_add(down);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The arguments of each call of this method so far, REST included.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Vec<Value>> {
        let state = self.lock();
        state.calls.iter().filter(|call| call.method == method).map(|call| call.params.clone()).collect()
    }

    /// Every call so far.
    #[must_use]
    pub fn all_calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// WebSocket connections so far.
    #[must_use]
    pub fn sessions_opened(&self) -> u64 {
        self.lock().opened
    }

    /// WebSocket connections now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Logins that were tried, REST requests included.
    #[must_use]
    pub fn login_attempts(&self) -> u64 {
        self.lock().login_attempts
    }

    /// Logins that succeeded, REST requests included.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.lock().logins
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The number of the session, and the restart it lives in.
    fn open_session(&self, sender: Sender<Value>) -> (u64, u64) {
        let mut state = self.lock();
        state.opened += 1;
        let number = state.opened;
        state.sessions.insert(number, sender);
        (number, self.epoch())
    }

    fn close_session(&self, number: u64) {
        self.lock().sessions.remove(&number);
    }

    fn is_down(&self) -> bool {
        self.lock().knobs.down_until.is_some_and(|until| Instant::now() < until)
    }

    /// The interface version a path below `/api/` asks for.
    fn pin(&self, path: &str) -> Option<profile::Pin> {
        self.profile.pin(path.strip_prefix("/api/")?)
    }
}

impl Appliance for TrueNas {
    fn answer(&self, request: &Request) -> Reply {
        let path = request.path();
        let api = path == "/api" || path.starts_with("/api/");
        if api && self.is_down() {
            return nginx(502, "Bad Gateway");
        }
        if let Some(rest) = path.strip_prefix("/api/v2.0")
            && (rest.is_empty() || rest.starts_with('/'))
            && self.profile.has_rest()
        {
            return self.rest(request, rest);
        }
        match path {
            "/ui/" => Reply::text(200, "text/html", "<!doctype html><title>TrueNAS</title>"),
            "/" => self.to_ui(request),
            _ if !self.profile.has_jsonrpc() && self.profile == Profile::Core13 => nginx(404, "Not Found"),
            // nginx knows no /api here; everything unknown is shown the UI.
            _ if !self.profile.has_jsonrpc() => self.to_ui(request),
            "/api/versions" => Reply::json(200, &json!(self.profile.api_versions())),
            "/api/boot_id" => Reply::json(200, &Value::Null),
            _ if self.pin(path).is_some() && request.method == "GET" => {
                text(400, "No WebSocket UPGRADE hdr: None\n Can \"Upgrade\" only to \"WebSocket\".")
            }
            _ if self.pin(path).is_some() => text(405, "405: Method Not Allowed").header("Allow", "GET"),
            _ if api => text(404, "404: Not Found"),
            _ => nginx(404, "Not Found"),
        }
    }

    /// nginx's default.
    fn keep_alive(&self) -> KeepAlive {
        KeepAlive { idle: Duration::from_secs(65), requests: 1000, notice: true }
    }

    fn upgrade(&self, request: &Request) -> Option<Box<dyn FnOnce(Stream) + Send + '_>> {
        if request.method != "GET" || self.is_down() {
            return None;
        }
        let pin = self.pin(request.path())?;
        let key = request.header("Sec-WebSocket-Key")?.to_owned();
        Some(Box::new(move |stream| {
            if let Ok(socket) = Socket::open(self, stream, &key, pin) {
                socket.serve();
            }
        }))
    }

    fn refusal(&self, status: u16, _request: &Request) -> Reply {
        match status {
            401 => text(401, "Invalid API key"),
            403 => Reply::empty(403),
            500 => text(500, "500 Internal Server Error\n\nServer got itself in trouble"),
            502 => nginx(502, "Bad Gateway"),
            503 => nginx(503, "Service Temporarily Unavailable"),
            504 => nginx(504, "Gateway Time-out"),
            _ => text(status, &status.to_string()),
        }
    }

    /// What nginx says to HTTP on its TLS port.
    fn plain_http(&self, _request: &Request) -> Option<Reply> {
        let page = "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n<body>\
                    \r\n<center><h1>400 Bad Request</h1></center>\r\n<center>The plain HTTP request was sent to HTTPS \
                    port</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
        Some(Reply::text(400, "text/html", page).closing())
    }
}

impl TrueNas {
    fn to_ui(&self, request: &Request) -> Reply {
        let host = request.header("Host").unwrap_or("localhost");
        nginx(302, "Found").reason("Moved Temporarily").header("Location", &format!("https://{host}/ui/"))
    }
}

fn nginx(status: u16, reason: &str) -> Reply {
    let page = format!(
        "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1>\
         </center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    Reply::text(status, "text/html", page)
}
