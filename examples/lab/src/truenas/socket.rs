//! JSON-RPC 2.0 over a WebSocket: framing, limits, and the order in which answers go out.
//!
//! One thread serves a connection. A call is run when one of ten slots is free and its answer is sent at once, or held
//! until it is due; ten more wait; the next is refused.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::TrueNas;
use super::error::{Frame, RpcError};
use super::profile::Pin;
use super::session::Session;
use crate::connection::{Inner, Stream};

/// Calls that run at a time, per connection.
const SLOTS: usize = 10;
/// Calls that run or wait, per connection.
const MOST: usize = 20;
/// Characters in a message before and after login.
const ANONYMOUS: usize = 8192;
const KNOWN: usize = 65_536;
/// Above this many bytes the library below refuses, without a reason.
const LIBRARY: usize = 4 << 20;
/// How often a quiet connection looks at what else happened.
const LOOK: Duration = Duration::from_millis(20);
/// How long a closed connection waits for the other side.
const FAREWELL: Duration = Duration::from_secs(2);

/// A call that was read.
struct Request {
    id: Option<Value>,
    method: String,
    params: Vec<Value>,
}

/// An answer that is not due yet; `None` is never due.
struct Held {
    due: Option<Instant>,
    answer: Option<Value>,
}

pub(super) struct Socket<'a> {
    nas: &'a TrueNas,
    web: WebSocket<Stream>,
    session: Session,
    events: Receiver<Value>,
    held: Vec<Held>,
    waiting: VecDeque<Request>,
    epoch: u64,
}

impl<'a> Socket<'a> {
    /// Answers the handshake.
    pub(super) fn open(nas: &'a TrueNas, mut stream: Stream, key: &str, pin: Pin) -> io::Result<Self> {
        let accept = derive_accept_key(key.as_bytes());
        io::Write::write_all(
            &mut stream,
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nServer: nginx\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .as_bytes(),
        )?;
        io::Write::flush(&mut stream)?;
        let plain = matches!(stream.inner, Inner::Plain(_));
        let (sender, events) = mpsc::channel();
        let (number, epoch) = nas.open_session(sender);
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let web = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
        let session = Session::new(number, pin, plain);
        Ok(Self { nas, web, session, events, held: Vec::new(), waiting: VecDeque::new(), epoch })
    }

    /// Until the connection is over.
    pub(super) fn serve(mut self) {
        if self.converse().is_ok() {
            self.web.get_mut().close();
        }
        self.nas.close_session(self.session.number);
    }

    fn converse(&mut self) -> Result<(), Error> {
        if self.nas.lock().knobs.address_denied {
            return self.close(CloseCode::Policy, "You are not allowed to access this resource");
        }
        loop {
            if self.nas.epoch() != self.epoch {
                // The middleware went away, and no close frame with it.
                self.web.get_ref().cut();
                return Ok(());
            }
            self.send_events()?;
            self.send_due()?;
            let next = self.held.iter().filter_map(|held| held.due).min();
            let patience = next.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
            self.web.get_ref().set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
            let message = match self.web.read() {
                Ok(message) => message,
                Err(Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            match message {
                Message::Text(text) => {
                    if let Some((code, reason)) = self.too_long(&text) {
                        return self.close(code, reason);
                    }
                    self.hear(&text)?;
                }
                Message::Binary(_) => {
                    let reason = "Invalid websocket message type: <WSMsgType.BINARY: 2>";
                    return self.close(CloseCode::Unsupported, reason);
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(_) => {
                    // The library answers it while it is read from.
                    while self.web.read().is_ok() {}
                    return Ok(());
                }
            }
        }
    }

    /// Limits count characters, not bytes.
    fn too_long(&self, text: &str) -> Option<(CloseCode, &'static str)> {
        if text.len() > LIBRARY {
            return Some((CloseCode::Size, ""));
        }
        let length = text.chars().count();
        match self.session.login {
            None if length > ANONYMOUS => Some((CloseCode::Invalid, "Anonymous connection max message length is 8 kB")),
            Some(_) if length > KNOWN => Some((CloseCode::Size, "Max message length is 64 kB")),
            _ => None,
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.web.close(Some(CloseFrame { code, reason: reason.to_owned().into() }))?;
        self.web.get_ref().set_read_timeout(Some(LOOK))?;
        let end = Instant::now() + FAREWELL;
        while Instant::now() < end {
            match self.web.read() {
                Err(Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self, text: &str) -> Result<(), Error> {
        let message: Value = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => {
                // The words of Python's parser; the place is where ours stopped.
                let (line, column) = (error.line().max(1), error.column() + 1);
                let at = if error.is_eof() { text.chars().count() } else { column.saturating_sub(2) };
                let reason = format!("Expecting value: line {line} column {} (char {at})", at + 1);
                return self.fail(-32700, &reason, Value::Null);
            }
        };
        let Value::Object(fields) = message else {
            let batch = message.is_array();
            let reason = if batch { "Batch messages are not supported at this time" } else { "Invalid Message Format" };
            return self.fail(-32700, reason, Value::Null);
        };
        let id = fields.get("id").cloned();
        let fault = match (&id, fields.get("jsonrpc"), fields.get("method"), fields.get("params")) {
            (Some(Value::Array(_) | Value::Object(_)), ..) => {
                Some("'id' member must be of type null, string or number")
            }
            (Some(Value::Number(number)), ..) if number.is_f64() => {
                Some("'id' member must be of type null, string or number")
            }
            (_, None, ..) => Some("Missing 'jsonrpc' member"),
            (_, Some(version), ..) if version != "2.0" => {
                Some("'jsonrpc' member must be of type string and must be exactly '2.0'")
            }
            (_, _, None, _) => Some("Missing 'method' member"),
            (_, _, Some(method), _) if method.as_str().is_none_or(str::is_empty) => {
                Some("'method' member must be of type string")
            }
            (_, _, _, Some(params)) if !params.is_array() => Some("'params' member must be of type array"),
            _ => None,
        };
        if let Some(fault) = fault {
            return id.map_or(Ok(()), |id| self.fail(-32600, fault, id));
        }
        if self.held.len() + self.waiting.len() >= MOST {
            let reason = format!("Maximum number of concurrent calls ({MOST}) has exceeded");
            return id.map_or(Ok(()), |id| self.fail(-32000, &reason, id));
        }
        let method = fields.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        let params = fields.get("params").and_then(Value::as_array).cloned().unwrap_or_default();
        self.waiting.push_back(Request { id, method, params });
        self.run_waiting()
    }

    fn run_waiting(&mut self) -> Result<(), Error> {
        while self.held.len() < SLOTS
            && let Some(request) = self.waiting.pop_front()
        {
            self.run(request)?;
        }
        Ok(())
    }

    fn run(&mut self, request: Request) -> Result<(), Error> {
        let Request { id, method, params } = request;
        let result = self.nas.call(&mut self.session, &method, &params);
        let answer = id.map(|id| self.answer(id, result, &method, &params));
        // What a call caused is told before its result.
        self.send_events()?;
        match self.session.hold {
            Duration::ZERO => {
                if let Some(answer) = answer {
                    if self.nas.lock().knobs.noise {
                        self.send_noise()?;
                    }
                    self.send(&answer)?;
                }
            }
            Duration::MAX => self.held.push(Held { due: None, answer }),
            hold => self.held.push(Held { due: Instant::now().checked_add(hold), answer }),
        }
        Ok(())
    }

    fn answer(&self, id: Value, result: Result<Value, RpcError>, method: &str, params: &[Value]) -> Value {
        match result {
            Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
            Err(error) => {
                let key = self.session.login.as_ref().map(|login| login.key.as_str());
                let error = error.to_json(self.nas.profile, &Frame { method, params, key });
                json!({"jsonrpc": "2.0", "error": error, "id": id})
            }
        }
    }

    fn fail(&mut self, code: i64, message: &str, id: Value) -> Result<(), Error> {
        self.send(&json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id}))
    }

    fn send_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        while let Some(at) = self.held.iter().position(|held| held.due.is_some_and(|due| due <= now)) {
            if let Some(answer) = self.held.remove(at).answer {
                self.send(&answer)?;
            }
            self.run_waiting()?;
        }
        Ok(())
    }

    /// Events of the collections this connection subscribed to, and those pushed at everybody.
    fn send_events(&mut self) -> Result<(), Error> {
        while let Ok(event) = self.events.try_recv() {
            let collection = event["params"]["collection"].as_str().unwrap_or_default();
            let subscribed = self.session.subscriptions.iter().any(|(_, name)| name == collection || name == "*");
            if subscribed || event["unsolicited"] == true {
                let mut event = event;
                if let Value::Object(event) = &mut event {
                    event.remove("unsolicited");
                }
                self.send(&event)?;
            }
        }
        Ok(())
    }

    fn send_noise(&mut self) -> Result<(), Error> {
        self.send(&json!({
            "jsonrpc": "2.0",
            "method": "collection_update",
            "params": {"msg": "changed", "collection": "core.get_jobs", "id": 4711, "fields": {"id": 4711}},
        }))?;
        self.send(&json!({
            "jsonrpc": "2.0",
            "method": "notify_unsubscribed",
            "params": {"collection": "reporting.realtime", "error": null},
        }))
    }

    fn send(&mut self, message: &Value) -> Result<(), Error> {
        self.web.send(Message::text(message.to_string()))
    }
}
