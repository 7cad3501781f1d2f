//! Our own rmcp transport over stdin and stdout: one line in, one line out. rmcp's stock transport says nothing to
//! malformed lines, loses answers after the end of input and one of two requests with the same id; this one answers
//! every request that was read exactly once.
//!
//! Two threads do the blocking: one reads and parses, one writes. Requests get ids of ours on the way in and their own
//! back on the way out. Reading pauses while too many requests are open or too much output is unread, so a client that
//! pipelines without reading costs bounded memory. After the end of input the transport stays open until every request
//! has been answered and written.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, BufRead as _, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc as blocking,
    },
};

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequest, CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification,
        ClientRequest, DiscoverRequest, InitializeRequest, JsonRpcMessage, ListToolsRequest, RequestId, ServerResult,
    },
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::jsonrpc::{self, IdFinder, Message, Reject};
use tokio::sync::{Notify, mpsc};

use shared::Stop;

/// Requests that may be open at once. Reads and changes have tighter bounds of their own; this one bounds memory.
const MAX_OPEN: usize = 256;
/// Bytes of open requests and of unread answers at which reading pauses.
const MAX_BYTES: usize = 4 << 20;

/// A line as the reading thread understood it.
enum Line {
    Request {
        id: Box<RawValue>,
        request: Box<ClientRequest>,
        bytes: usize,
    },
    Cancel {
        id: Box<RawValue>,
        reason: Option<String>,
    },
    /// Notifications and answers to our requests.
    Other(Box<ClientJsonRpcMessage>),
    /// No message, with its answer.
    Reject(Vec<u8>),
}

/// A line to write, and the request that it answers.
struct Frame {
    bytes: Vec<u8>,
    /// Where in `bytes` the list of tools goes, if this is an answer that has it.
    tools_at: Option<usize>,
    closes: Option<i64>,
}

impl Frame {
    /// A line that answers no open request.
    fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, tools_at: None, closes: None }
    }

    /// How many bytes will be written.
    fn len(&self, wire: &Wire) -> usize {
        self.bytes.len() + self.tools_at.map_or(0, |_| wire.tools().len())
    }

    /// Takes the empty list out of an answer of `tools/list`: the ready text is written in its place, see `server::listing`.
    fn leave_room_for_tools(&mut self, start: usize) {
        const NONE: &[u8] = br#""tools":[]"#;
        if let Some(at) = self.bytes[start..].windows(NONE.len()).position(|window| window == NONE) {
            let end = start + at + NONE.len();
            self.bytes.drain(end - 2..end);
            self.tools_at = Some(end - 2);
        }
    }

    fn write(&self, output: &mut impl Write, wire: &Wire) -> io::Result<()> {
        let Some(at) = self.tools_at else { return output.write_all(&self.bytes) };
        let (before, after) = self.bytes.split_at(at);
        output.write_all(before)?;
        output.write_all(wire.tools().as_bytes())?;
        output.write_all(after)
    }
}

/// What an open request must get back.
struct Open {
    id: Box<RawValue>,
    bytes: usize,
}

/// What the transport, its send futures and the writing thread share.
struct Wire {
    open: Mutex<HashMap<i64, Open>>,
    open_bytes: AtomicUsize,
    unread: AtomicUsize,
    /// Nobody reads our output any more.
    broken: AtomicBool,
    changed: Notify,
    /// The tools of every `tools/list` answer, as text. Set once, while the threads start.
    tools: OnceLock<String>,
}

impl Wire {
    fn open(&self) -> MutexGuard<'_, HashMap<i64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, id: i64) {
        if let Some(open) = self.open().remove(&id) {
            self.open_bytes.fetch_sub(open.bytes, Ordering::Relaxed);
        }
    }

    fn tools(&self) -> &str {
        self.tools.get().map_or("[]", String::as_str)
    }

    fn has_room(&self) -> bool {
        self.open().len() < MAX_OPEN
            && self.open_bytes.load(Ordering::Relaxed) < MAX_BYTES
            && self.unread.load(Ordering::Relaxed) < MAX_BYTES
    }
}

/// The transport.
pub(crate) struct Stdio {
    wire: Arc<Wire>,
    /// To the writing thread, which ends with this.
    out: blocking::Sender<Frame>,
    lines: mpsc::Receiver<Line>,
    /// Read, but there was no room for it yet.
    held: Option<Line>,
    /// Several messages from one line.
    ready: VecDeque<ClientJsonRpcMessage>,
    next: i64,
    ended: bool,
    /// Requests of ours that the client has not answered.
    asked: Arc<Mutex<HashSet<RequestId>>>,
    stop: Stop,
}

impl Stdio {
    /// Reads `input` and writes `output`, each in a thread of its own.
    pub(crate) fn new(
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
        max_line: usize,
        stop: Stop,
    ) -> io::Result<Self> {
        let (to_lines, lines) = mpsc::channel(16);
        let (out, frames) = blocking::channel();
        let wire = Arc::new(Wire {
            open: Mutex::default(),
            open_bytes: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            changed: Notify::new(),
            tools: OnceLock::new(),
        });
        let reading = std::thread::Builder::new().name("stdin".into());
        reading.spawn(move || read_lines(input, max_line, |line| to_lines.blocking_send(line).is_ok()))?;
        let (shared, writing) = (wire.clone(), std::thread::Builder::new().name("stdout".into()));
        writing.spawn(move || write_frames(output, &frames, &shared))?;
        Ok(Self {
            wire,
            out,
            lines,
            held: None,
            ready: VecDeque::new(),
            next: 0,
            ended: false,
            asked: Arc::default(),
            stop,
        })
    }

    /// What `tools/list` is answered with; before the first message is received.
    pub(crate) fn list(&self, tools: String) {
        let _ = self.wire.tools.set(tools);
    }

    fn write(&self, frame: Frame) {
        self.wire.unread.fetch_add(frame.len(&self.wire), Ordering::Relaxed);
        // The thread listens as long as we are here.
        let _ = self.out.send(frame);
    }

    /// Gives a request an id of ours.
    fn admit(&mut self, id: Box<RawValue>, request: ClientRequest, bytes: usize) -> ClientJsonRpcMessage {
        self.next += 1;
        self.wire.open().insert(self.next, Open { id, bytes });
        self.wire.open_bytes.fetch_add(bytes, Ordering::Relaxed);
        JsonRpcMessage::request(request, RequestId::Number(self.next))
    }

    /// The client waits no more for any request with this id: nothing will be sent for it.
    fn cancel(&mut self, id: &RawValue, reason: Option<&String>) {
        let ours: Vec<_> = {
            let open = self.wire.open();
            open.iter().filter(|(_, open)| same_id(&open.id, id)).map(|(ours, _)| *ours).collect()
        };
        for ours in ours {
            self.wire.close(ours);
            let param = CancelledNotificationParam::new(Some(RequestId::Number(ours)), reason.cloned());
            let cancelled = ClientNotification::CancelledNotification(CancelledNotification::new(param));
            self.ready.push_back(JsonRpcMessage::notification(cancelled));
        }
    }

    /// After the end of input nobody can answer a question of ours any more; whoever waits for it must hear that.
    fn nobody_answers(&self) -> Option<ClientJsonRpcMessage> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let id = asked.iter().next().cloned()?;
        asked.remove(&id);
        Some(JsonRpcMessage::error(ErrorData::internal_error("the client closed its output", None), Some(id)))
    }
}

fn same_id(one: &RawValue, other: &RawValue) -> bool {
    one.get() == other.get()
        || matches!(
            (serde_json::from_str::<serde_json::Value>(one.get()), serde_json::from_str::<serde_json::Value>(other.get())),
            (Ok(one), Ok(other)) if one == other
        )
}

impl Transport<RoleServer> for Stdio {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &item {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(request.id.clone());
            self.wire.changed.notify_one();
        }
        let written = encode(item, &self.wire).map(|frame| {
            if let Some(frame) = frame {
                self.write(frame);
            }
        });
        std::future::ready(written)
    }

    /// Cancel-safe: rmcp drops this future whenever something else happens first.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let wire = self.wire.clone();
            // A notification that comes between a look and the wait is kept for the wait.
            let changed = wire.changed.notified();
            if wire.broken.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(Line::Request { .. }) = &self.held {
                if self.wire.has_room() {
                    if let Some(Line::Request { id, request, bytes }) = self.held.take() {
                        return Some(self.admit(id, *request, bytes));
                    }
                } else {
                    changed.await;
                }
                continue;
            }
            if self.ended {
                if let Some(message) = self.nobody_answers() {
                    return Some(message);
                }
                if self.wire.open().is_empty() && self.wire.unread.load(Ordering::Relaxed) == 0 {
                    return None;
                }
                changed.await;
                continue;
            }
            let line = tokio::select! {
                biased;
                () = self.stop.stopping() => None,
                line = self.lines.recv() => line,
                () = changed => continue,
            };
            match line {
                None => self.ended = true,
                Some(line @ Line::Request { .. }) => self.held = Some(line),
                Some(Line::Cancel { id, reason }) => self.cancel(&id, reason.as_ref()),
                Some(Line::Reject(bytes)) => self.write(Frame::plain(bytes)),
                Some(Line::Other(message)) => {
                    if let JsonRpcMessage::Response(response) = &*message {
                        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&response.id);
                    } else if let JsonRpcMessage::Error(error) = &*message
                        && let Some(id) = &error.id
                    {
                        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                    }
                    return Some(*message);
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        Ok(())
    }
}

/// A message as a line; `None` for the answer to a request that was cancelled meanwhile.
fn encode(item: TxJsonRpcMessage<RoleServer>, wire: &Wire) -> io::Result<Option<Frame>> {
    let (id, head, body) = match &item {
        JsonRpcMessage::Response(response) => (&response.id, "result", to_bytes(&response.result)?),
        JsonRpcMessage::Error(error) => match &error.id {
            Some(id) => (id, "error", to_bytes(&error.error)?),
            None => return Ok(Some(Frame::plain(line(to_bytes(&item)?)))),
        },
        _ => return Ok(Some(Frame::plain(line(to_bytes(&item)?)))),
    };
    let RequestId::Number(ours) = *id else { return Ok(None) };
    let open = wire.open();
    let Some(theirs) = open.get(&ours) else { return Ok(None) };
    let mut bytes = Vec::with_capacity(body.len() + theirs.id.get().len() + 48);
    bytes.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    bytes.extend_from_slice(theirs.id.get().as_bytes());
    bytes.extend_from_slice(b",\"");
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(b"\":");
    let start = bytes.len();
    bytes.extend_from_slice(&body);
    bytes.push(b'}');
    let mut frame = Frame { bytes: line(bytes), tools_at: None, closes: Some(ours) };
    if let JsonRpcMessage::Response(response) = &item
        && matches!(response.result, ServerResult::ListToolsResult(_))
    {
        frame.leave_room_for_tools(start);
    }
    Ok(Some(frame))
}

fn to_bytes(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn line(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(b'\n');
    bytes
}

/// The writing thread. Lines that are ready together are written together.
fn write_frames(output: impl Write, frames: &blocking::Receiver<Frame>, wire: &Wire) {
    let mut output = io::BufWriter::with_capacity(64 << 10, output);
    while let Ok(first) = frames.recv() {
        let mut closed = Vec::new();
        let mut written = 0;
        let mut batch = Some(first);
        while let Some(frame) = batch {
            if !wire.broken.load(Ordering::Relaxed) && frame.write(&mut output, wire).is_err() {
                wire.broken.store(true, Ordering::Relaxed);
            }
            written += frame.len(wire);
            closed.extend(frame.closes);
            batch = if written < MAX_BYTES { frames.try_recv().ok() } else { None };
        }
        if output.flush().is_err() {
            wire.broken.store(true, Ordering::Relaxed);
        }
        for id in closed {
            wire.close(id);
        }
        wire.unread.fetch_sub(written, Ordering::Relaxed);
        wire.changed.notify_one();
    }
}

/// The reading thread.
fn read_lines(input: impl Read, max: usize, mut deliver: impl FnMut(Line) -> bool) {
    let mut input = io::BufReader::with_capacity(64 << 10, input);
    let mut text = Vec::new();
    loop {
        text.clear();
        match read_line(&mut input, max, &mut text) {
            Ok(Some(true)) => {}
            Ok(Some(false)) => {
                let mut finder = IdFinder::default();
                finder.feed(&text);
                // The rest of the line is looked at, not kept: the id may stand at its end.
                if skip_line(&mut input, &mut finder).is_err() {
                    return;
                }
                let message = format!("Invalid request: the line is longer than MAX_LINE ({max} bytes)");
                let reject = Reject { id: finder.finish(), code: jsonrpc::INVALID_REQUEST, message };
                if !deliver(Line::Reject(line(reject.line()))) {
                    return;
                }
                continue;
            }
            Ok(None) => return,
            Err(error) => {
                log::warn!("stdin cannot be read any more: {error}");
                return;
            }
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if let Some(understood) = understand(&text)
            && !deliver(understood)
        {
            return;
        }
    }
}

/// Reads up to a line end or the end of input: `true` for a whole line, `false` for one that is too long.
fn read_line(input: &mut impl io::BufRead, max: usize, text: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let read = input.by_ref().take(max as u64 + 1).read_until(b'\n', text)?;
    if read == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
        return Ok(Some(true));
    }
    // Without a line end it is either the last line or too long.
    Ok(Some(text.len() <= max))
}

fn skip_line(input: &mut impl io::BufRead, finder: &mut IdFinder) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (used, end) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        finder.feed(&buffer[..used]);
        input.consume(used);
        if end {
            return Ok(());
        }
    }
}

fn understand(text: &[u8]) -> Option<Line> {
    Some(match jsonrpc::read(text) {
        Err(reject) => Line::Reject(line(reject.line())),
        Ok(Message::Request { id, method, params }) => match request(&method, params) {
            Ok(request) => Line::Request { id, request: Box::new(request), bytes: text.len() },
            Err((code, message)) => Line::Reject(line(jsonrpc::error_line(Some(&id), code, &message))),
        },
        Ok(Message::Notification { method, params }) if method == "notifications/cancelled" => {
            #[derive(Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct Cancelled {
                request_id: Box<RawValue>,
                reason: Option<String>,
            }
            // One that names no request cancels nothing.
            let cancelled: Cancelled = serde_json::from_str(params?.get()).ok()?;
            Line::Cancel { id: cancelled.request_id, reason: cancelled.reason }
        }
        Ok(Message::Notification { .. } | Message::Response { .. }) => {
            let text = std::str::from_utf8(text).ok()?.trim_start_matches('\u{feff}').trim();
            match serde_json::from_str::<ClientJsonRpcMessage>(text) {
                Ok(message) => Line::Other(Box::new(message)),
                Err(error) => {
                    log::debug!("a notification or response was not understood: {error}");
                    return None;
                }
            }
        }
    })
}

/// A request of a known method is read as that method's type, so that wrong parameters are said to be wrong; rmcp would
/// take it for an unknown method.
fn request(method: &str, params: Option<&RawValue>) -> Result<ClientRequest, (i32, String)> {
    /// Members that rmcp takes for absent when they are of another type.
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "_meta")]
        _meta: Option<Meta>,
        #[serde(rename = "cursor")]
        _cursor: Option<String>,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
        _version: Option<String>,
    }
    let invalid = |error: serde_json::Error| (jsonrpc::INVALID_PARAMS, format!("Invalid params: {error}"));
    if let Some(params) = params
        && let Err(error) = serde_json::from_str::<Typed>(params.get())
    {
        return Err(invalid(error));
    }
    let name = serde_json::Value::from(method);
    let text = match params {
        Some(params) => format!(r#"{{"method":{name},"params":{params}}}"#),
        None => format!(r#"{{"method":{name}}}"#),
    };
    match method {
        "tools/list" => serde_json::from_str::<ListToolsRequest>(&text).map(Into::into).map_err(invalid),
        "tools/call" => serde_json::from_str::<CallToolRequest>(&text).map(Into::into).map_err(|error| {
            (
                jsonrpc::INVALID_PARAMS,
                format!("Invalid params: {error}; tools/call takes a string `name` and an object `arguments`"),
            )
        }),
        "server/discover" if params.is_some() => {
            serde_json::from_str::<DiscoverRequest>(&text).map(Into::into).map_err(invalid)
        }
        "initialize" => serde_json::from_str::<InitializeRequest>(&text).map(Into::into).map_err(|error| {
            if params.is_some_and(|params| params.get().contains("io.modelcontextprotocol/protocolVersion")) {
                // 2026-07-28 has no initialize; only a real handshake of an older revision is served.
                (jsonrpc::METHOD_NOT_FOUND, "initialize".to_owned())
            } else {
                invalid(error)
            }
        }),
        _ => serde_json::from_str::<ClientRequest>(&text).map_err(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], max: usize) -> Vec<String> {
        let mut seen = Vec::new();
        read_lines(input, max, |line| {
            seen.push(match line {
                Line::Request { id, request, .. } => format!("{} {}", id.get(), request.method()),
                Line::Cancel { id, .. } => format!("cancel {}", id.get()),
                Line::Other(_) => "other".to_owned(),
                Line::Reject(bytes) => String::from_utf8(bytes).unwrap(),
            });
            true
        });
        seen
    }

    #[test]
    fn the_last_line_needs_no_line_end_and_blank_ones_are_skipped() {
        let input = b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n\n  \n{\"jsonrpc\":\"2.0\",\"id\":\"b\",\"method\":\"tools/list\"}";
        assert_eq!(lines(input, 1000), ["1 ping", "\"b\" tools/list"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_answered_with_its_id_and_the_next_one_is_read() {
        let long = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{{\"a\":\"{}\"}},\"id\":77}}",
            "y".repeat(200_000)
        );
        let exactly = format!("{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"{}\"}}", "z".repeat(100 - 36));
        assert_eq!(exactly.len(), 100);
        let input = format!("{long}\n{exactly}\n{exactly}z\n");
        let seen = lines(input.as_bytes(), 100);
        assert!(
            seen[0].contains("\"id\":77") && seen[0].contains("-32600") && seen[0].contains("MAX_LINE"),
            "{}",
            seen[0]
        );
        assert!(seen[1].starts_with("2 zzz"), "{}", seen[1]);
        assert!(seen[2].contains("-32600"), "{}", seen[2]);
    }

    #[test]
    fn known_methods_with_wrong_parameters_are_invalid_params() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":[]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
        ] {
            let seen = lines(line.as_bytes(), 1000);
            assert!(seen.len() == 1 && seen[0].contains("-32602") && seen[0].contains("\"id\":1"), "{line}: {seen:?}");
        }
        let modern = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        assert!(lines(modern.as_bytes(), 1000)[0].contains("-32601"));
    }

    #[test]
    fn cancels_are_read_with_the_id_as_it_was_written() {
        let line = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a\u0062"}}"#;
        assert_eq!(lines(line.as_bytes(), 1000), ["cancel \"a\\u0062\""]);
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert!(same_id(&raw(r#""a\u0062""#), &raw(r#""ab""#)) && !same_id(&raw("1"), &raw(r#""1""#)));
    }
}
