//! Our end of ureq's connector chain: a TCP connection with TLS of our own choosing. It knows what ureq does not tell:
//! whether anything was sent, whether the connection had been used before, the status line's reason phrase (all that
//! some Proxmox errors have), and how to end a call that nobody waits for any more.
//!
//! ureq runs a call on one thread from beginning to end, so the call under way is found in a thread-local.

use std::{
    cell::RefCell,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};
use ureq::{
    Error, Timeout,
    unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
};

use super::{origin::Origin, trust::Trust};
use crate::error::{Fault, Kind};

/// How long to wait for a TCP connection and its TLS handshake. Appliances are near; one that is off must not cost more.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// What became of one call, as its connection sees it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The request may have reached the appliance.
    sent: AtomicBool,
    /// Something of an answer came.
    answered: AtomicBool,
    /// A connection was made for this call.
    fresh: AtomicBool,
    cancelled: AtomicBool,
    socket: Mutex<Option<Arc<TcpStream>>>,
    head: Mutex<Vec<u8>>,
    fault: Mutex<Option<Fault>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Journal>>> = const { RefCell::new(None) };
}

impl Journal {
    /// Runs `work` as the call of this journal.
    pub(super) fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
        let result = work();
        CURRENT.with(|current| *current.borrow_mut() = None);
        // Back in the pool, it may be another call's by now: a late cancellation must not end that one.
        lock(&self.socket).take();
        result
    }

    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }

    /// The pool's connection had been closed by the other side before it was used: nobody read the request.
    pub(super) fn proved_stale(&self) -> bool {
        self.sent() && !self.answered.load(Ordering::SeqCst) && !self.fresh.load(Ordering::SeqCst)
    }

    /// Ends the call from another thread: what waits on the socket returns at once.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(socket) = lock(&self.socket).take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// What the connector found wrong, in better words than ureq's.
    pub(super) fn fault(&self) -> Option<Fault> {
        lock(&self.fault).take()
    }

    /// The reason phrase of the status line. Vendors put UTF-8 into it.
    pub(super) fn reason(&self) -> String {
        let head = lock(&self.head);
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        line.trim_end().splitn(3, ' ').nth(2).unwrap_or_default().trim().to_owned()
    }

    fn uses(&self, socket: &Arc<TcpStream>) {
        *lock(&self.socket) = Some(socket.clone());
        // Cancelled while it was connecting: there was no socket to shut down then.
        if self.cancelled() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current() -> Option<Arc<Journal>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Makes connections to one member of an appliance.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) origin: Origin,
    pub(super) trust: Arc<Trust>,
}

impl Connector for Dialler {
    type Out = Link;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Link>, Error> {
        let limit = details.timeout.not_zero().map_or(CONNECT, |left| (*left).min(CONNECT));
        let deadline = Instant::now() + limit;
        let refused = |fault: Fault| {
            if let Some(journal) = current() {
                *lock(&journal.fault) = Some(fault);
            }
            Error::ConnectionFailed
        };
        let place = self.origin.to_string();
        let unreachable = |why: String| Fault::new(Kind::Unreachable, format!("{place} cannot be reached: {why}"));
        let timed_out = || unreachable(format!("no connection within {} s", limit.as_secs_f32().round()));

        let mut socket = Err(io::Error::other("the name has no address"));
        for (tried, address) in details.addrs.iter().enumerate() {
            // A name with several addresses shares the time, so that a dead one cannot use up all of it.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (details.addrs.len() - tried).max(1) as u32;
            if share.is_zero() {
                return Err(refused(timed_out()));
            }
            socket = TcpStream::connect_timeout(address, share);
            if socket.is_ok() {
                break;
            }
        }
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(refused(timed_out())),
            Err(error) => return Err(refused(unreachable(said(&error)))),
        };
        // Requests are small and wait for their answers.
        let _ = socket.set_nodelay(true);
        let socket = Arc::new(socket);
        let journal = current();
        if let Some(journal) = &journal {
            journal.fresh.store(true, Ordering::SeqCst);
            journal.uses(&socket);
        }

        let (config, doubt) = self.trust.client().map_err(refused)?;
        let name = self.origin.server_name().ok_or(Error::HostNotFound)?;
        let tls = ClientConnection::new(config, name)
            .map_err(|error| refused(unreachable(format!("TLS cannot be used ({error})"))))?;
        let mut stream = StreamOwned::new(tls, Wire { socket, deadline });
        // Now and not with the first request: what fails here was certainly not sent.
        while stream.conn.is_handshaking() {
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                if is_timeout(&error) {
                    return Err(refused(timed_out()));
                }
                let _ = stream.conn.write_tls(&mut stream.sock);
                return Err(refused(self.trust.explain(&place, &doubt, &said(&error))));
            }
        }
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Link { stream, buffers, in_head: false }))
    }
}

/// What is said of a connection that the other side ended.
pub(super) const CLOSED: &str = "it closed the connection";

/// An operating system's error without its number.
pub(super) fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to it".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CLOSED.to_owned(),
        _ => error.to_string(),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// The socket under TLS, shared so that another thread can shut it down.
#[derive(Debug)]
struct Wire {
    socket: Arc<TcpStream>,
    /// TLS reads and writes as often as it needs to; a peer that drips byte by byte must not stretch the time.
    deadline: Instant,
}

impl Wire {
    /// What is left of the time.
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl io::Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        (&*self.socket).read(buf)
    }
}

impl io::Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        (&*self.socket).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection.
pub(super) struct Link {
    stream: StreamOwned<ClientConnection, Wire>,
    buffers: LazyBuffers,
    /// Between a request and the end of its answer's first line.
    in_head: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("peer", &self.stream.sock.socket.peer_addr().ok()).finish_non_exhaustive()
    }
}

impl Link {
    /// Every wait on the socket is for what is left of the call's time.
    fn limit(&mut self, timeout: NextTimeout) {
        let limit = timeout.not_zero().map_or(super::LONGEST, |left| *left);
        self.stream.sock.deadline = Instant::now() + limit;
    }
}

fn told(error: io::Error, timeout: NextTimeout) -> Error {
    if is_timeout(&error) { Error::Timeout(timeout.reason) } else { Error::Io(error) }
}

impl Transport for Link {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.limit(timeout);
        self.in_head = true;
        if let Some(journal) = current() {
            journal.uses(&self.stream.sock.socket);
            journal.sent.store(true, Ordering::SeqCst);
            lock(&journal.head).clear();
        }
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).and_then(|()| self.stream.flush()).map_err(|error| told(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.limit(timeout);
        let buffer = self.buffers.input_append_buf();
        let amount = match self.stream.read(buffer) {
            Ok(amount) => amount,
            // Without a TLS goodbye: the vendors' servers do that, and what ends too early is found by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(told(error, timeout)),
        };
        if amount > 0
            && let Some(journal) = current()
        {
            journal.answered.store(true, Ordering::SeqCst);
            if self.in_head {
                /// More than any status line.
                const LINE: usize = 8192;
                let mut head = lock(&journal.head);
                head.extend_from_slice(&buffer[..amount]);
                self.in_head = !head.contains(&b'\n') && head.len() < LINE;
            }
        }
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // An idle connection has nothing to say; what can be read is its end.
        let socket = &self.stream.sock.socket;
        let quiet = socket.set_nonblocking(true).is_ok()
            && matches!(socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).is_ok() && quiet
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Whether ureq's error is that the time was over.
pub(super) fn timed_out(error: &Error) -> bool {
    matches!(
        error,
        Error::Timeout(
            Timeout::Global
                | Timeout::RecvResponse
                | Timeout::RecvBody
                | Timeout::SendRequest
                | Timeout::SendBody
                | Timeout::PerCall
        )
    ) || matches!(error, Error::Io(error) if is_timeout(error))
}
