//! The floors of the gateway: HTTP servers that do as little as can be done over hyper, on one thread as the gateway.
//!
//! `floor-http FILE` compares the bearer token and answers every request with the bytes of FILE. `floor-http -- PROGRAM
//! ARGUMENT...` compares it too and passes bodies on to one child that all share, ids swapped: what comes without an id
//! is lost, a child that ends is not replaced, nothing is bounded and nothing is logged. Both listen on a free port of
//! loopback, say which on stderr, and end with their stdin.

use bench::{Fallible, KEY};
use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};
use std::rc::Rc;
use std::thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

/// What is read from the child at once.
const CHUNK: usize = 64 * 1024;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(first) = arguments.next() else {
        return fail("usage: floor-http FILE | floor-http -- PROGRAM ARGUMENT...");
    };
    match run(&first, arguments.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Says why on stderr.
fn fail(why: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed too.
    let _ = writeln!(io::stderr(), "floor-http: {why}");
    ExitCode::FAILURE
}

fn run(first: &OsString, rest: Vec<OsString>) -> Fallible<()> {
    let (ended, end) = oneshot::channel();
    thread::spawn(move || {
        // An error is an end too.
        let _ = io::stdin().read(&mut [0]);
        let _ = ended.send(());
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let floor = Rc::new(if first == "--" { Floor::shared(rest)? } else { Floor::canned(first)? });
        tokio::select! {
            served = serve(floor) => served,
            _ = end => Ok(()),
        }
    })
}

/// Where answers come from.
enum Floor {
    Canned(Bytes),
    Shared(Child),
}

/// An answer in two pieces, neither of them copied.
type Body = Full<Chain<Bytes, Bytes>>;

fn body(first: Bytes, second: Bytes) -> Body {
    Full::new(first.chain(second))
}

impl Floor {
    fn canned(path: &OsString) -> Fallible<Self> {
        Ok(Self::Canned(std::fs::read(path)?.into()))
    }

    fn shared(command: Vec<OsString>) -> Fallible<Self> {
        let mut command = command.into_iter();
        let program = command.next().ok_or("which program?")?;
        let mut child = Command::new(program)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the child has no pipes".into());
        };
        let (lines, inbox) = mpsc::unbounded_channel();
        let waiting = Waiting::default();
        spawn_local(write(stdin, inbox));
        spawn_local(read(stdout, waiting.clone()));
        Ok(Self::Shared(Child { lines, waiting, next: Cell::new(1), _process: child }))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let token = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        if token.and_then(|value| value.strip_prefix(b"Bearer ")) != Some(KEY.as_bytes()) {
            return refusal(StatusCode::UNAUTHORIZED);
        }
        let Ok(posted) = request.into_body().collect().await else { return refusal(StatusCode::BAD_REQUEST) };
        let body = match self {
            Self::Canned(bytes) => body(bytes.clone(), Bytes::new()),
            Self::Shared(child) => match child.ask(&posted.to_bytes()).await {
                Some(body) => body,
                None => return refusal(StatusCode::BAD_GATEWAY),
            },
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body(Bytes::new(), Bytes::new()));
    *response.status_mut() = status;
    response
}

async fn serve(floor: Rc<Floor>) -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stderr(), "listening on http://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let floor = floor.clone();
        spawn_local(async move {
            let service = service_fn(|request| async { Ok::<_, hyper::Error>(floor.answer(request).await) });
            // Clients come and go.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Who waits for which of our ids.
type Waiting = Rc<RefCell<HashMap<u64, oneshot::Sender<Bytes>>>>;

/// The one child.
struct Child {
    lines: mpsc::UnboundedSender<Bytes>,
    waiting: Waiting,
    next: Cell<u64>,
    _process: tokio::process::Child,
}

impl Child {
    async fn ask(&self, posted: &Bytes) -> Option<Body> {
        let (before, id, after) = split(posted)?;
        let ours = self.next.replace(self.next.get() + 1);
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(ours, sender);
        let line = [before, ours.to_string().as_bytes(), after, b"\n"].concat();
        self.lines.send(line.into()).ok()?;
        let answer = answer.await.ok()?;
        let (before, _, after) = split(&answer)?;
        let rest = answer.slice_ref(after);
        Some(body([before, id].concat().into(), rest))
    }
}

/// A message before, in and after its first `id`.
fn split(message: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let at = memmem::find(message, br#""id":"#)? + 5;
    let (before, from) = message.split_at_checked(at)?;
    let (id, after) = from.split_at_checked(memchr::memchr2(b',', b'}', from)?)?;
    Some((before, id, after))
}

/// Gathers what is there and writes it at once.
async fn write(mut stdin: ChildStdin, mut inbox: mpsc::UnboundedReceiver<Bytes>) {
    let mut output = BytesMut::new();
    while let Some(line) = inbox.recv().await {
        output.extend_from_slice(&line);
        while let Ok(line) = inbox.try_recv() {
            output.extend_from_slice(&line);
        }
        if stdin.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

async fn read(mut stdout: ChildStdout, waiting: Waiting) {
    let mut input = BytesMut::new();
    let mut searched = 0;
    loop {
        input.reserve(CHUNK);
        if !matches!(stdout.read_buf(&mut input).await, Ok(read) if read > 0) {
            return;
        }
        while let Some(at) = memchr::memchr(b'\n', input.get(searched..).unwrap_or_default()) {
            let mut line = input.split_to(searched + at + 1);
            line.truncate(searched + at);
            searched = 0;
            let line = line.freeze();
            let id = split(&line).and_then(|(_, id, _)| std::str::from_utf8(id).ok()?.parse().ok());
            if let Some(sender) = id.and_then(|id: u64| waiting.borrow_mut().remove(&id)) {
                // Whoever has gone needs no answer.
                let _ = sender.send(line);
            }
        }
        searched = input.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found() {
        let message = br#"{"jsonrpc":"2.0","id":12,"method":"ping"}"#;
        let (before, id, after) = split(message).expect("an id");
        assert_eq!((before.len(), id, after.len()), (22, &b"12"[..], 17));
        assert_eq!([before, id, after].concat(), message);
        assert_eq!(split(br#"{"method":"x","id":"a"}"#).map(|(_, id, _)| id), Some(&br#""a""#[..]));
        assert!(split(b"{}").is_none() && split(br#"{"id":1"#).is_none());
    }
}
