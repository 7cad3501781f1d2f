//! One connection: handshake, requests in turn, and the faults that happen on the way.

use crate::fault::{Fault, Rule};
use crate::message::{Reply, Request, usual_reason};
use crate::server::{Seen, Shared};
use rustls::{ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A handshake, or a client that stops reading, may take this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest body that is read.
const LONGEST_BODY: usize = 64 << 20;
const MOST_HEADERS: usize = 100;

/// The stream of a connection, TLS or not.
pub struct Stream {
    pub(crate) inner: Inner,
    /// Read from the connection, but not yet from here.
    pub(crate) ahead: Vec<u8>,
}

pub(crate) enum Inner {
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    Plain(TcpStream),
}

impl Stream {
    /// Reads fail with `WouldBlock` or `TimedOut` after this long.
    ///
    /// # Errors
    /// When the time is zero, or the system refuses.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket().set_read_timeout(timeout)
    }

    fn socket(&self) -> &TcpStream {
        match &self.inner {
            Inner::Tls(tls) => &tls.sock,
            Inner::Plain(plain) => plain,
        }
    }

    /// Ends the connection without `close_notify`.
    pub(crate) fn cut(&self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    pub(crate) fn close(&mut self) {
        if let Inner::Tls(tls) = &mut self.inner {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        // Only this side: closing with unread bytes would reset the connection and could take the answer with it.
        let _ = self.socket().shutdown(Shutdown::Write);
        let _ = self.set_read_timeout(Some(Duration::from_millis(200)));
        let mut rest = [0; 4096];
        while matches!(self.socket().read(&mut rest), Ok(1..)) {}
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let count = into.len().min(self.ahead.len());
            into[..count].copy_from_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            return Ok(count);
        }
        match &mut self.inner {
            Inner::Tls(tls) => tls.read(into),
            Inner::Plain(plain) => plain.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Tls(tls) => tls.write(bytes),
            Inner::Plain(plain) => plain.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Tls(tls) => tls.flush(),
            Inner::Plain(plain) => plain.flush(),
        }
    }
}

/// What follows an answer.
enum Next {
    Request,
    Close,
    Cut,
}

pub(crate) struct Connection<'a> {
    shared: &'a Shared,
    key: u64,
    serial: u64,
    nth: usize,
    /// Read, but not part of a request yet.
    buffer: Vec<u8>,
}

/// What the bytes so far are.
enum Parsed {
    Partial,
    Broken,
    Head { request: Request, length: usize, http10: bool },
}

impl<'a> Connection<'a> {
    pub(crate) fn new(shared: &'a Shared, key: u64) -> Self {
        Self { shared, key, serial: 0, nth: 0, buffer: Vec::new() }
    }

    pub(crate) fn run(mut self, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let Some(config) = self.shared.tls.clone() else {
            return self.converse(Stream { inner: Inner::Plain(socket), ahead: Vec::new() });
        };
        let mut first = [0];
        // A TLS record of type "handshake" starts with 22; anything else is taken for HTTP.
        if socket.peek(&mut first)? == 1 && first[0] != 22 {
            return self.plain_http(Stream { inner: Inner::Plain(socket), ahead: Vec::new() });
        }
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let tls = StreamOwned::new(session, socket);
        self.converse(Stream { inner: Inner::Tls(Box::new(tls)), ahead: Vec::new() })
    }

    fn plain_http(&mut self, mut stream: Stream) -> io::Result<()> {
        if let Some((request, _)) = self.read_request(&mut stream)?
            && let Some(reply) = self.shared.appliance.plain_http(&request)
        {
            stream.write_all(&reply.bytes(true, true))?;
            stream.close();
        }
        Ok(())
    }

    fn converse(&mut self, mut stream: Stream) -> io::Result<()> {
        self.serial = {
            let mut state = self.shared.lock();
            state.connections += 1;
            state.connections
        };
        let keep_alive = self.shared.appliance.keep_alive();
        loop {
            stream.set_read_timeout(Some(keep_alive.idle))?;
            let Ok(Some((request, http10))) = self.read_request(&mut stream) else {
                if keep_alive.notice {
                    stream.close();
                } else {
                    stream.cut();
                }
                return Ok(());
            };
            let last = http10
                || self.nth >= keep_alive.requests
                || request.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let fault = self.note(&request);
            if is_websocket(&request)
                && self.lets_upgrade(fault.as_ref())
                && let Some(take_over) = self.shared.appliance.upgrade(&request)
            {
                self.mark_upgraded(&request);
                stream.set_read_timeout(None)?;
                stream.ahead = std::mem::take(&mut self.buffer);
                take_over(stream);
                return Ok(());
            }
            match self.respond(&mut stream, &request, fault, last)? {
                Next::Request => {}
                Next::Close => {
                    stream.close();
                    return Ok(());
                }
                Next::Cut => {
                    stream.cut();
                    return Ok(());
                }
            }
        }
    }

    /// Writes the request down, and takes the fault that is due.
    fn note(&self, request: &Request) -> Option<Fault> {
        let mut state = self.shared.lock();
        state.seen.push(Seen {
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            connection: request.connection,
            nth: request.nth,
            time: Instant::now(),
        });
        let due = |rule: &&mut Rule| rule.matches(&request.method, request.path(), request.nth > 1);
        let rule = state.faults.iter_mut().find(due)?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.fault.clone())
    }

    /// Whether an upgrade goes ahead under this fault, late if it must.
    fn lets_upgrade(&self, fault: Option<&Fault>) -> bool {
        match fault {
            None => true,
            Some(Fault::Slow(time)) => self.shared.wait(*time),
            Some(_) => false,
        }
    }

    fn mark_upgraded(&self, request: &Request) {
        if let Some(open) = self.shared.lock().open.get_mut(&self.key) {
            open.upgraded = Some(request.path().to_owned());
        }
    }

    fn respond(&self, stream: &mut Stream, request: &Request, fault: Option<Fault>, last: bool) -> io::Result<Next> {
        let appliance = &self.shared.appliance;
        let reply = match &fault {
            Some(Fault::Hang) => {
                self.hang(stream)?;
                return Ok(Next::Cut);
            }
            Some(Fault::CutBefore | Fault::DropSocket | Fault::StaleKeepAlive) => return Ok(Next::Cut),
            Some(Fault::Garbage) => {
                stream.write_all(b"\x00\xff\x13\x37 this is no HTTP\n\n")?;
                return Ok(Next::Close);
            }
            Some(Fault::NotJson) => Reply::text(200, "application/json", "this is no JSON"),
            Some(Fault::HtmlError(status)) => html_error(*status),
            Some(Fault::Status(status)) => appliance.refusal(*status, request),
            Some(Fault::Huge(size)) => {
                return if huge(stream, *size, last)? { Ok(Next::Close) } else { Ok(Next::Request) };
            }
            Some(Fault::Slow(time)) => appliance.answer(request).after(*time),
            Some(Fault::Truncated) => {
                let mut reply = appliance.answer(request);
                reply.body.truncate(reply.body.len() / 2);
                reply
            }
            Some(Fault::CutAfter | Fault::CutMiddle) | None => appliance.answer(request),
        };
        if !self.shared.wait(reply.delay) {
            return Ok(Next::Cut);
        }
        let closing = last || reply.close || !reply.length;
        let bytes = reply.bytes(closing, request.method != "HEAD");
        match fault {
            Some(Fault::CutAfter) => return Ok(Next::Cut),
            Some(Fault::CutMiddle) => {
                stream.write_all(&bytes[..bytes.len() / 2])?;
                stream.flush()?;
                return Ok(Next::Cut);
            }
            _ => stream.write_all(&bytes)?,
        }
        stream.flush()?;
        Ok(if closing { Next::Close } else { Next::Request })
    }

    /// Until the client goes away or the server stops.
    fn hang(&self, stream: &mut Stream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut byte = [0];
        while !self.shared.lock().stopping {
            match stream.read(&mut byte) {
                Ok(1..) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Ok(0) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// `None` when the connection is over, or no whole request came in time.
    fn read_request(&mut self, stream: &mut Stream) -> io::Result<Option<(Request, bool)>> {
        let (mut request, length, http10) = loop {
            match self.parse() {
                Parsed::Head { request, length, http10 } => break (request, length, http10),
                Parsed::Broken => return Ok(None),
                Parsed::Partial if self.buffer.len() > self.shared.appliance.longest_head() => {
                    self.swallow(stream);
                    return Ok(None);
                }
                Parsed::Partial => {}
            }
            if !self.fill(stream)? {
                return Ok(None);
            }
        };
        if length > self.shared.appliance.longest_head() {
            self.swallow(stream);
            return Ok(None);
        }
        self.buffer.drain(..length);
        let chunked = request.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if chunked {
            if self.shared.appliance.reads_chunks() {
                let Some(body) = self.read_chunks(stream)? else { return Ok(None) };
                request.body = body;
            }
        } else if let Some(length) = request.header("Content-Length") {
            let Ok(length) = length.trim().parse::<usize>() else { return Ok(None) };
            let Some(body) = self.take(stream, length)? else { return Ok(None) };
            request.body = body;
        }
        self.nth += 1;
        request.nth = self.nth;
        Ok(Some((request, http10)))
    }

    fn parse(&self) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let length = match head.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_) => return Parsed::Broken,
        };
        let headers = head.headers.iter();
        let request = Request {
            method: head.method.unwrap_or_default().to_owned(),
            target: head.path.unwrap_or_default().to_owned(),
            headers: headers.map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned())).collect(),
            body: Vec::new(),
            connection: self.serial,
            nth: 0,
        };
        Parsed::Head { request, length, http10: head.version == Some(0) }
    }

    /// `false` at the end of the connection.
    fn fill(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let count = stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Reads and forgets until the client has been silent for too long.
    fn swallow(&mut self, stream: &mut Stream) {
        while self.fill(stream).unwrap_or(false) {
            self.buffer.clear();
        }
    }

    fn take(&mut self, stream: &mut Stream, length: usize) -> io::Result<Option<Vec<u8>>> {
        if length > LONGEST_BODY {
            return Ok(None);
        }
        while self.buffer.len() < length {
            if !self.fill(stream)? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.drain(..length).collect()))
    }

    fn read_chunks(&mut self, stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.take_line(stream)? else { return Ok(None) };
            let size = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else { return Ok(None) };
            if size == 0 {
                // Trailers, up to the empty line.
                while self.take_line(stream)?.is_some_and(|line| !line.is_empty()) {}
                return Ok(Some(body));
            }
            if body.len().saturating_add(size) > LONGEST_BODY {
                return Ok(None);
            }
            let Some(chunk) = self.take(stream, size)? else { return Ok(None) };
            body.extend_from_slice(&chunk);
            self.take_line(stream)?;
        }
    }

    fn take_line(&mut self, stream: &mut Stream) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.buffer.len() > LONGEST_BODY || !self.fill(stream)? {
                return Ok(None);
            }
        }
    }
}

fn is_websocket(request: &Request) -> bool {
    request.header("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

fn html_error(status: u16) -> Reply {
    let reason = usual_reason(status);
    let page = format!(
        "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1>\
         </center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    Reply::text(status, "text/html", page).closing()
}

/// Writes without holding it all; `true` when the connection is to be closed.
fn huge(stream: &mut Stream, size: usize, last: bool) -> io::Result<bool> {
    const PIECE: [u8; 16 << 10] = [b'a'; 16 << 10];
    let (start, end) = (br#"{"data":""#, br#""}"#);
    let length = (start.len() + size + end.len()).to_string();
    let head = Reply::empty(200).header("Content-Type", "application/json").header("Content-Length", &length);
    stream.write_all(&head.bytes(last, false))?;
    stream.write_all(start)?;
    let mut left = size;
    while left > 0 {
        let count = left.min(PIECE.len());
        stream.write_all(&PIECE[..count])?;
        left -= count;
    }
    stream.write_all(end)?;
    stream.flush()?;
    Ok(last)
}
