//! The OPNsense stand-in: its web server, router, access control, and what lies behind them.
//!
//! Written from what the vendor's code was seen to do on 26.7.2 and 24.7.12, and for the releases between from their
//! sources. What cannot be shown through [`crate::Server`]: chunked answers, which the vendor mixes with
//! `Content-Length` ones, and HTTP/2.

mod access;
mod answers;
mod firewall;
mod front;
mod grid;
mod profile;
mod route;
mod services;

use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

pub use self::access::{Key, Privilege};
pub use self::firewall::{
    Cpu, Disk, Failure, Firewall, Gateway, GatewayState, Language, Measured, Memory, Notice, Times, Updates, Watch,
};
pub use self::profile::Profile;
pub use self::route::Endpoint;
pub use self::services::{Behaviour, Control, Kind, Service, Services, Verb};

use self::access::{Credentials, User};
use self::answers::Answer;
use self::grid::Row;
use self::route::Route;
use crate::{Appliance, KeepAlive, Reply, Request, Server};

/// A stand-in of one release. Give it to a [`Server`], and keep it to look at and change what is behind the API.
pub struct Opnsense {
    profile: Profile,
    users: Mutex<Vec<User>>,
    firewall: Mutex<Firewall>,
    sessions: AtomicU64,
    server: OnceLock<Weak<Server>>,
}

impl Opnsense {
    /// A home firewall of this release with one user, [`Self::root`].
    pub fn new(profile: Profile) -> Arc<Self> {
        let opnsense = Self {
            profile,
            users: Mutex::default(),
            firewall: Mutex::new(Firewall::new(profile)),
            sessions: AtomicU64::new(1),
            server: OnceLock::new(),
        };
        opnsense.key(&[Privilege::AllPages]);
        Arc::new(opnsense)
    }

    /// The release.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The key of a user with all privileges, always the same.
    pub fn root(&self) -> Key {
        make_key(0)
    }

    /// The key of a new user with these privileges; always the same for the n-th user.
    pub fn key(&self, privileges: &[Privilege]) -> Key {
        let mut users = lock(&self.users);
        let key = make_key(users.len());
        users.push(User { key: key.clone(), privileges: privileges.to_vec(), enabled: true });
        key
    }

    /// Disables the user of this key: it is refused like a wrong one.
    pub fn disable(&self, key: &Key) {
        for user in lock(&self.users).iter_mut().filter(|user| user.key == *key) {
            user.enabled = false;
        }
    }

    /// Looks at the state, or changes it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Firewall) -> T) -> T {
        act(&mut lock(&self.firewall))
    }

    /// The ids of the rows that were restarted so far, in order.
    pub fn restarts(&self) -> Vec<String> {
        self.with(|f| {
            let restarts = f.controls.iter().filter(|control| control.verb == Verb::Restart);
            restarts.flat_map(|control| control.touched.clone()).collect()
        })
    }

    /// Lets a restart of the web GUI close the port for a while, as it does on the appliance. Without this the caller
    /// gets 503 pages meanwhile.
    pub fn attach(&self, server: &Arc<Server>) {
        // Attached once; a second server would be another appliance.
        let _ = self.server.set(Arc::downgrade(server));
    }

    /// Router, then authentication, then access control, then parameters: an early end is a finished reply.
    fn serve(&self, request: &Request) -> Result<Reply, Reply> {
        let uri = route::uri(&request.target);
        let (endpoint, parameters, too_few) = match route::route(&request.target, self.profile) {
            Route::Login => return Err(self.session(request, front::login())),
            Route::Elsewhere => return Err(self.redirect(request, 302)),
            Route::NotFound { session } => {
                let reply = error(404, &json!({ "errorMessage": "Endpoint not found" }));
                return Err(if session { self.session(request, reply) } else { reply });
            }
            Route::Refused(message) => {
                return Err(self.json(request, 400, &json!({ "message": message, "status": 400 })));
            }
            Route::TooFew(endpoint, message) => (endpoint, Vec::new(), Some(message)),
            Route::Found(endpoint, parameters) => (endpoint, parameters, None),
        };
        let user = self.authenticate(request)?;
        if !user.may(uri, self.profile) {
            return Err(self.json(request, 403, &json!({ "status": 403, "message": "Forbidden" })));
        }
        let posted = grid::parameters(request);
        let refused = too_few.or_else(|| posted.is_none().then(|| "Invalid JSON syntax".to_owned()));
        if let Some(message) = refused {
            let body = match self.profile.phalcon() {
                true => json!({ "message": message, "status": 400 }),
                false => json!({ "status": 400, "message": message }),
            };
            return Err(self.json(request, 400, &body));
        }
        Ok(self.execute(request, endpoint, &parameters, &posted.unwrap_or_default(), &user))
    }

    fn authenticate(&self, request: &Request) -> Result<User, Reply> {
        let refused = || self.json(request, 401, &json!({ "status": 401, "message": "Authentication Failed" }));
        match access::credentials(request.header("authorization")) {
            // 24.1 names the login form too, but answers 401.
            Credentials::None => Err(self.redirect(request, if self.profile.phalcon() { 401 } else { 302 })),
            Credentials::Unreadable => Err(refused()),
            Credentials::Pair(key, secret) => {
                let users = lock(&self.users);
                let known = users.iter().find(|u| u.key.key == key && u.key.secret == secret && u.enabled);
                known.cloned().ok_or_else(|| refused().after(self.with(|f| f.times.refused_key)))
            }
        }
    }

    fn execute(
        &self,
        request: &Request,
        endpoint: Endpoint,
        parameters: &[String],
        posted: &Row,
        user: &User,
    ) -> Reply {
        let post = request.method == "POST";
        let verb = match endpoint {
            Endpoint::ServiceStart => Some(Verb::Start),
            Endpoint::ServiceRestart => Some(Verb::Restart),
            Endpoint::ServiceStop => Some(Verb::Stop),
            _ => None,
        };
        if verb.is_some() && !post {
            return self.json(request, 200, &json!({ "result": "failed" }));
        }
        let mut firewall = lock(&self.firewall);
        let failure = firewall.failures.get(&endpoint).cloned();
        let mut delay = firewall.backend_back.map_or(Duration::ZERO, |t| t.saturating_duration_since(Instant::now()));
        match failure {
            Some(Failure::UserException { message, title }) => {
                return self.session(request, user_exception(self.profile, &message, &title));
            }
            Some(Failure::Unexpected) => return self.session(request, unexpected(self.profile)),
            _ => {}
        }
        let refused = failure == Some(Failure::Refused) || firewall.backend_down;
        if firewall.backend_down {
            delay = firewall.times.backend_down;
        }
        if let Some(verb) = verb {
            let web = self.control(&mut firewall, verb, parameters, refused);
            delay += firewall.times.control;
            let gap = firewall.times.carrier_restart;
            drop(firewall);
            if web && verb != Verb::Start {
                self.cut(gap);
                return front::unavailable();
            }
            return self.json(request, 200, &json!({ "result": "ok" })).after(delay);
        }
        let answer = if refused {
            answers::without_backend(endpoint, &firewall, self.profile)
        } else {
            match endpoint {
                Endpoint::ServiceSearch => Answer::Json(grid::search(firewall.services.list(), posted)),
                Endpoint::FirmwareStatus if post => {
                    if firewall.updates == Updates::Unknown {
                        firewall.updates = Updates::None;
                    }
                    delay += firewall.times.firmware_check;
                    answers::read(endpoint, &firewall, self.profile, user)
                }
                Endpoint::Activity => {
                    delay += firewall.times.activity;
                    answers::read(endpoint, &firewall, self.profile, user)
                }
                Endpoint::CpuStream => {
                    let cpu = firewall.cpu;
                    drop(firewall);
                    return self.stream(request, cpu);
                }
                _ => answers::read(endpoint, &firewall, self.profile, user),
            }
        };
        match answer {
            Answer::Json(value) => self.json(request, 200, &value).after(delay),
            Answer::Nothing => self.session(request, Reply::empty(200).header("Content-type", HTML)).after(delay),
            Answer::Unexpected => self.session(request, unexpected(self.profile)).after(delay),
        }
    }

    /// Whether the web GUI was among what it acted on.
    fn control(&self, firewall: &mut Firewall, verb: Verb, parameters: &[String], refused: bool) -> bool {
        let parameter = |n: usize| parameters.get(n).map_or("", String::as_str);
        let (name, instance) = (parameter(0), parameter(1));
        let touched = if refused { Vec::new() } else { firewall.services.control(verb, name, instance) };
        let gap = firewall.times.carrier_restart;
        if touched.iter().any(|id| id == "configd") {
            match verb {
                Verb::Restart => firewall.backend_back = Some(Instant::now() + gap),
                Verb::Stop => firewall.backend_down = true,
                Verb::Start => {}
            }
        }
        let web = touched.iter().any(|id| id == "webgui");
        if web && verb != Verb::Start {
            // Stopped, it does not come back by itself: long enough for any test.
            let gap = if verb == Verb::Stop { Duration::from_secs(86_400) } else { gap };
            firewall.web_back = Some(Instant::now() + gap);
        }
        firewall.controls.push(Control { verb, asked: (name.to_owned(), instance.to_owned()), touched });
        web
    }

    /// Closes the port of the attached server, and opens it again after `gap`.
    fn cut(&self, gap: Duration) {
        let Some(weak) = self.server.get().cloned() else { return };
        let Some(server) = weak.upgrade() else { return };
        server.pause_listener();
        drop(server);
        thread::spawn(move || {
            thread::sleep(gap);
            // Gone or taken: then there is nothing to come back to.
            let _ = weak.upgrade().map(|server| server.resume());
        });
    }

    /// The first events of a stream that never ends. The rest never comes: whoever reads to the end is left waiting
    /// until the connection is too old. (The vendor's goes on, chunked, with an event a second.)
    fn stream(&self, request: &Request, cpu: Cpu) -> Reply {
        let [user, nice, sys, intr] = [cpu.user, cpu.nice, cpu.system, cpu.interrupt].map(|share| share.round() as u8);
        let total = user + nice + sys + intr;
        let data = json!({ "total": total, "user": user, "nice": nice, "sys": sys, "intr": intr,
            "idle": 100u8.saturating_sub(total) });
        let event = format!("event: message\ndata: {data}\n\n\n");
        let reply = Reply::text(200, "text/event-stream", event.repeat(3)).header("Content-Length", "65536");
        self.session(request, reply)
    }

    fn json(&self, request: &Request, status: u16, body: &Value) -> Reply {
        self.session(request, Reply::text(status, "application/json; charset=UTF-8", answers::php(body)))
    }

    fn redirect(&self, request: &Request, status: u16) -> Reply {
        let place = format!("/?url={}", route::uri(&request.target));
        self.session(request, Reply::empty(status).header("Location", &place).header("Content-type", HTML))
    }

    /// A session begins with every request that brings none.
    fn session(&self, request: &Request, reply: Reply) -> Reply {
        let brought = request.header("cookie").is_some_and(|cookie| cookie.contains("PHPSESSID="));
        let reply = reply
            .header("Expires", "Thu, 19 Nov 1981 08:52:00 GMT")
            .header("Cache-Control", "no-store, no-cache, must-revalidate")
            .header("Pragma", "no-cache");
        if brought {
            return reply;
        }
        let id = self.sessions.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let cookie = format!("PHPSESSID={id:032x}; path=/; secure; HttpOnly; SameSite=Lax");
        reply.header("Set-Cookie", &cookie)
    }
}

impl Appliance for Opnsense {
    fn answer(&self, request: &Request) -> Reply {
        if self.with(|f| f.web_back.is_some_and(|back| Instant::now() < back)) {
            return front::unavailable();
        }
        if let Some(reply) = front::refuse(request) {
            return reply;
        }
        self.serve(request).unwrap_or_else(|reply| reply).header("Server", "OPNsense")
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive { idle: Duration::from_secs(30), requests: 16, ..KeepAlive::default() }
    }

    fn refusal(&self, status: u16, request: &Request) -> Reply {
        match status {
            401 => self.json(request, 401, &json!({ "status": 401, "message": "Authentication Failed" })),
            403 => self.json(request, 403, &json!({ "status": 403, "message": "Forbidden" })),
            404 => error(404, &json!({ "errorMessage": "Endpoint not found" })),
            500 => self.session(request, unexpected(self.profile)),
            503 => front::unavailable(),
            other => front::page(other, "Error"),
        }
    }
}

const HTML: &str = "text/html; charset=UTF-8";

/// What api.php itself says, not a controller.
fn error(status: u16, body: &Value) -> Reply {
    Reply::text(status, "application/json;charset=utf-8", body.to_string())
}

fn user_exception(profile: Profile, message: &str, title: &str) -> Reply {
    let mut body = json!({ "errorMessage": message });
    if profile.phalcon() {
        body["errorTrace"] = TRACE.into();
    }
    body["errorTitle"] = title.into();
    if profile < Profile::V26_7 {
        return error(500, &body);
    }
    body["errorLevel"] = "error".into();
    let mut reply = error(500, &body);
    let escaped = body.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    reply.body = escaped.into_bytes();
    reply
}

fn unexpected(profile: Profile) -> Reply {
    if !profile.phalcon() {
        return error(500, &json!({ "errorMessage": "Unexpected error, check log for details" }));
    }
    let place = "/usr/local/opnsense/mvc/app/controllers/OPNsense/Core/Api/SystemController.php:71";
    error(
        500,
        &json!({ "errorMessage": format!("{place}: Trying to access array offset on value of type null"),
            "errorTrace": TRACE, "errorTitle": "An API exception occurred" }),
    )
}

/// Where it happened; 24.1 tells everybody.
const TRACE: &str = "#0 [internal function]: OPNsense\\Core\\Api\\SystemController->statusAction()\n#1 \
                     /usr/local/opnsense/www/api.php(25): Phalcon\\Mvc\\Application->handle('/api/core/syste...')\n#2 {main}";

/// 80 characters each, with those that a client must not encode.
fn make_key(n: usize) -> Key {
    let fill = |word: &str| format!("{word}{n:04}+/{}", "LabKeyOfNoValue".repeat(6)).chars().take(80).collect();
    Key { key: fill("key"), secret: fill("secret") }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
