//! HTTP/1.1 over TLS by hand, so that everything an appliance sends, and everything it should not, can be sent.
//!
//! One thread per connection. A [`Server`] that is dropped closes its listener and its connections.

use crate::connection::{Connection, Stream};
use crate::fault::{Fault, Rule};
use crate::message::{Reply, Request};
use crate::tls::Certificate;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connections end within this time of the server's end.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long a connection without a request lives, and how many requests it takes.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Without a (whole) request for this long, the connection is closed.
    pub idle: Duration,
    /// Closed after this many answers.
    pub requests: usize,
    /// `false`: an idle connection is cut without TLS's `close_notify`.
    pub notice: bool,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), requests: usize::MAX, notice: true }
    }
}

/// A stand-in's behaviour. Called from many threads.
pub trait Appliance: Send + Sync + 'static {
    /// Answers one request. To be slow, set [`Reply::delay`]; a thread that sleeps in here delays the server's end.
    fn answer(&self, request: &Request) -> Reply;

    /// How long an idle connection lives, and how many requests it takes.
    fn keep_alive(&self) -> KeepAlive {
        KeepAlive::default()
    }

    /// `Some` takes the connection over as a WebSocket. The request was read already and nothing is answered to it
    /// yet. The function returns when the connection is over. Asked only for `Upgrade: websocket`.
    fn upgrade(&self, _request: &Request) -> Option<Box<dyn FnOnce(Stream) + Send + '_>> {
        None
    }

    /// How [`Fault::Status`] looks at this vendor.
    fn refusal(&self, status: u16, _request: &Request) -> Reply {
        Reply::empty(status)
    }

    /// The answer to plain HTTP on the TLS port; `None` closes the connection.
    fn plain_http(&self, _request: &Request) -> Option<Reply> {
        None
    }

    /// The longest request line with headers, in bytes; the rest is not read, and nothing is answered until the
    /// connection is idle for too long.
    fn longest_head(&self) -> usize {
        64 << 10
    }

    /// `false`: a chunked request is passed on without its body.
    fn reads_chunks(&self) -> bool {
        true
    }
}

/// How a [`Server`] is started.
#[derive(Default)]
pub struct Options {
    /// Sent to clients; [`Certificate::default`] is self-signed for `localhost` and `127.0.0.1`.
    pub certificate: Certificate,
    /// 0: any free port.
    pub port: u16,
    /// HTTP without TLS.
    pub plain: bool,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As sent.
    pub method: String,
    /// Path and query, not decoded.
    pub target: String,
    /// Names as sent.
    pub headers: Vec<(String, String)>,
    /// As read.
    pub body: Vec<u8>,
    /// Serial number of the connection.
    pub connection: u64,
    /// Which request on the connection, from 1.
    pub nth: usize,
    /// When it was read.
    pub time: Instant,
}

impl Seen {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// A running stand-in on loopback. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    certificate: Certificate,
    address: SocketAddr,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Listens on `127.0.0.1`.
    ///
    /// # Errors
    /// When the port is taken, or the certificate is refused.
    pub fn start(appliance: Arc<dyn Appliance>, options: Options) -> io::Result<Self> {
        let tls = if options.plain { None } else { Some(options.certificate.server_config()?) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { appliance, tls, state: Mutex::default(), changed: Condvar::new() });
        let thread = shared.clone().accept_on(listener)?;
        Ok(Self { shared, certificate: options.certificate, address, listener: Mutex::new(Some(thread)) })
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// SHA-256 of the certificate, as `AA:BB:…`.
    pub fn fingerprint(&self) -> &str {
        self.certificate.fingerprint()
    }

    /// What a client has to trust.
    pub fn certificate_pem(&self) -> &str {
        self.certificate.pem()
    }

    /// Every request so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Connections so far, each with its handshake done.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// From now on, before the rules that are there already.
    pub fn fault(&self, rule: Rule) {
        self.shared.fault(rule);
    }

    /// No faults from now on.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// As if the machine were down: open connections are cut, new ones are refused.
    pub fn pause_listener(&self) {
        self.stop_listening();
        self.shared.cut_all();
    }

    /// Up again, on the same port.
    ///
    /// # Errors
    /// When something else took the port meanwhile.
    pub fn resume(&self) -> io::Result<()> {
        let mut thread = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(self.shared.clone().accept_on(TcpListener::bind(self.address)?)?);
        }
        Ok(())
    }

    fn stop_listening(&self) {
        let Some(thread) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.shared.lock().closed = true;
        // `accept` has no time-out; a connection wakes it.
        let _ = TcpStream::connect(self.address);
        let _ = thread.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        self.stop_listening();
        self.shared.cut_all();
        let state = self.shared.lock();
        let _ = self.shared.changed.wait_timeout_while(state, FAREWELL, |state| !state.open.is_empty());
    }
}

pub(crate) struct Shared {
    pub(crate) appliance: Arc<dyn Appliance>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
    /// The server is stopping, or a connection ended.
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    /// Newest first.
    pub(crate) faults: Vec<Rule>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) connections: u64,
    /// By a number that is given before the handshake.
    pub(crate) open: HashMap<u64, Open>,
    accepted: u64,
    closed: bool,
    pub(crate) stopping: bool,
}

pub(crate) struct Open {
    socket: TcpStream,
    /// The path of a connection that is a WebSocket now.
    pub(crate) upgraded: Option<String>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_on(self: Arc<Self>, listener: TcpListener) -> io::Result<JoinHandle<()>> {
        self.lock().closed = false;
        thread::Builder::new().name("lab-accept".into()).spawn(move || {
            for socket in listener.incoming() {
                if self.lock().closed {
                    return;
                }
                let Ok(socket) = socket else { continue };
                let shared = self.clone();
                let _ = thread::Builder::new().name("lab-connection".into()).spawn(move || shared.serve(socket));
            }
        })
    }

    fn cut_all(&self) {
        for open in self.lock().open.values() {
            let _ = open.socket.shutdown(Shutdown::Both);
        }
    }

    fn fault(&self, rule: Rule) {
        let mut state = self.lock();
        if rule.fault == Fault::DropSocket {
            let mut dropped = 0;
            for open in state.open.values() {
                if open.upgraded.as_deref().is_some_and(|path| rule.matches("GET", path, false)) {
                    let _ = open.socket.shutdown(Shutdown::Both);
                    dropped += 1;
                }
            }
            if dropped > 0 {
                return;
            }
        }
        state.faults.insert(0, rule);
    }

    /// `false` when the server stops meanwhile.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.stopping);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    fn serve(self: Arc<Self>, socket: TcpStream) {
        let Ok(handle) = socket.try_clone() else { return };
        let key = {
            let mut state = self.lock();
            if state.stopping || state.closed {
                return;
            }
            state.accepted += 1;
            let key = state.accepted;
            state.open.insert(key, Open { socket: handle, upgraded: None });
            key
        };
        let _registered = Registered { shared: &self, key };
        // Whatever ends a connection ends only that connection.
        let _ = Connection::new(&self, key).run(socket);
    }
}

/// A connection in [`State::open`]; also a panic in an appliance takes it out.
struct Registered<'a> {
    shared: &'a Shared,
    key: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.key);
        self.shared.changed.notify_all();
    }
}
