//! The part that the stand-ins share: what is sent, how connections live and end, and each fault.

use crate::client::Client;
use lab::{Appliance, Certificate, Fault, KeepAlive, Options, Reply, Request, Rule, Server, Stream};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Says what it was asked, and counts.
#[derive(Default)]
struct Echo {
    answered: AtomicUsize,
    keep_alive: KeepAlive,
    refuses_chunks: bool,
}

impl Appliance for Echo {
    fn answer(&self, request: &Request) -> Reply {
        self.answered.fetch_add(1, Ordering::SeqCst);
        if request.path() == "/strange" {
            let mut reply = Reply::text(596, "text/plain", "until the end").reason(b"gr\xc3\xbc\xc3\x9fe".to_vec());
            reply = reply.header("Connection", "close").header("Connection", "Keep-Alive");
            reply.length = false;
            return reply;
        }
        Reply::json(
            200,
            &json!({"path": request.path(), "query": request.query(), "nth": request.nth,
            "connection": request.connection, "body": String::from_utf8_lossy(&request.body)}),
        )
    }

    fn keep_alive(&self) -> KeepAlive {
        self.keep_alive
    }

    fn upgrade(&self, _request: &Request) -> Option<Box<dyn FnOnce(Stream) + Send + '_>> {
        Some(Box::new(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n");
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                let _ = stream.write_all(&byte);
            }
        }))
    }

    fn refusal(&self, status: u16, _request: &Request) -> Reply {
        Reply::empty(status).reason("the vendor's way").closing()
    }

    fn plain_http(&self, _request: &Request) -> Option<Reply> {
        Some(Reply::empty(301).header("Location", "https://localhost/"))
    }

    fn reads_chunks(&self) -> bool {
        !self.refuses_chunks
    }
}

#[expect(clippy::unwrap_used, reason = "a test without a server has failed")]
fn start(echo: Echo) -> (Arc<Echo>, Server) {
    let echo = Arc::new(echo);
    let server = Server::start(echo.clone(), Options::default()).unwrap();
    (echo, server)
}

#[test]
fn a_connection_is_reused_and_its_requests_are_counted() {
    let (_, server) = start(Echo::default());
    let mut client = Client::connect(&server);
    assert_eq!(client.send("GET", "/a?b=c", &[], "").unwrap().json()["query"], "b=c");
    let second = client.send("POST", "/x", &[], "hello").unwrap().json();
    assert_eq!(second, json!({"path": "/x", "query": "", "nth": 2, "connection": 1, "body": "hello"}));
    assert_eq!(server.connections(), 1);
    let seen: Vec<String> = server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    assert_eq!(seen, ["GET /a?b=c", "POST /x"]);
}

#[test]
fn what_is_strange_is_sent_as_it_is() {
    let (_, server) = start(Echo::default());
    let answer = Client::connect(&server).send("GET", "/strange", &[], "").unwrap();
    assert_eq!((answer.status, &*answer.reason), (596, "grüße"));
    assert_eq!(answer.headers("connection"), ["close", "Keep-Alive"]);
    assert_eq!(answer.headers("content-length"), [""; 0]);
    assert_eq!(answer.text(), "until the end");
}

#[test]
fn chunks_are_joined_or_left_alone() {
    let request = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    for (refuses_chunks, body) in [(false, "abcde"), (true, "")] {
        let (_, server) = start(Echo { refuses_chunks, ..Echo::default() });
        let mut client = Client::connect(&server);
        client.write(request).unwrap();
        assert_eq!(client.answer(true).unwrap().json()["body"], body);
    }
}

#[test]
fn an_idle_connection_is_closed_and_so_is_one_that_had_its_share() {
    let keep_alive = KeepAlive { idle: Duration::from_millis(500), requests: 2, notice: false };
    let (_, server) = start(Echo { keep_alive, ..Echo::default() });
    let mut idle = Client::connect(&server);
    idle.send("GET", "/", &[], "").unwrap();
    assert_eq!(idle.rest(), b"");
    let mut busy = Client::connect(&server);
    assert_eq!(busy.send("GET", "/", &[], "").unwrap().headers("Connection"), [""; 0]);
    assert_eq!(busy.send("GET", "/", &[], "").unwrap().headers("Connection"), ["close"]);
    assert_eq!(busy.rest(), b"");
}

#[test]
fn each_fault_happens_as_often_as_asked_and_says_whether_the_request_was_processed() {
    let status = |status: u16| format!("{status}");
    let table = [
        (Fault::Slow(Duration::from_millis(50)), status(200), 1),
        (Fault::CutBefore, "cut".into(), 0),
        (Fault::CutAfter, "cut".into(), 1),
        (Fault::CutMiddle, "cut".into(), 1),
        (Fault::Garbage, "garbage".into(), 0),
        (Fault::NotJson, status(200), 0),
        (Fault::HtmlError(502), status(502), 0),
        (Fault::Status(403), status(403), 0),
        (Fault::Huge(1_000_000), status(200), 0),
        (Fault::Truncated, status(200), 1),
    ];
    for (fault, expected, processed) in table {
        let (echo, server) = start(Echo::default());
        server.fault(Rule::new("/x", fault.clone()).method("GET").times(1));
        let mut client = Client::connect(&server);
        let outcome = if fault == Fault::Garbage {
            client.write(b"GET /x HTTP/1.1\r\n\r\n").unwrap();
            if client.rest().starts_with(b"HTTP/") { "HTTP".into() } else { "garbage".to_owned() }
        } else {
            client.send("GET", "/x", &[], "").map_or("cut".into(), |answer| answer.status.to_string())
        };
        assert_eq!(outcome, expected, "{fault:?}");
        assert_eq!(echo.answered.load(Ordering::SeqCst), processed, "{fault:?}");
        assert_eq!(Client::connect(&server).send("GET", "/x", &[], "").unwrap().status, 200, "{fault:?}");
    }
}

#[test]
fn a_truncated_body_fits_its_length_and_is_no_json() {
    let (_, server) = start(Echo::default());
    server.fault(Rule::new("/", Fault::Truncated));
    let answer = Client::connect(&server).send("GET", "/", &[], "").unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_err());
    server.clear_faults();
    server.fault(Rule::new("/", Fault::Huge(100_000)));
    let answer = Client::connect(&server).send("GET", "/", &[], "").unwrap();
    assert_eq!(answer.json()["data"].as_str().map(str::len), Some(100_000));
}

#[test]
fn a_stale_connection_is_cut_at_its_next_request_only() {
    let (echo, server) = start(Echo::default());
    server.fault(Rule::new("/", Fault::StaleKeepAlive).times(1));
    let mut client = Client::connect(&server);
    client.send("GET", "/", &[], "").unwrap();
    assert!(client.send("GET", "/", &[], "").is_err());
    assert_eq!(echo.answered.load(Ordering::SeqCst), 1);
    let mut client = Client::connect(&server);
    client.send("GET", "/", &[], "").unwrap();
    client.send("GET", "/", &[], "").unwrap();
}

#[test]
fn a_server_that_is_dropped_ends_what_hangs() {
    let (_, server) = start(Echo::default());
    server.fault(Rule::new("/hang", Fault::Hang));
    server.fault(Rule::new("/slow", Fault::Slow(Duration::from_secs(3600))));
    let mut clients = [Client::connect(&server), Client::connect(&server)];
    clients[0].write(b"GET /hang HTTP/1.1\r\n\r\n").unwrap();
    clients[1].write(b"GET /slow HTTP/1.1\r\n\r\n").unwrap();
    until(|| server.seen().len() == 2);
    drop(server);
    for client in &mut clients {
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_paused_server_refuses_and_comes_back_on_the_same_port() {
    let (_, server) = start(Echo::default());
    let mut client = Client::connect(&server);
    client.send("GET", "/", &[], "").unwrap();
    server.pause_listener();
    assert!(client.send("GET", "/", &[], "").is_err());
    assert!(TcpStream::connect(server.host()).is_err());
    server.resume().unwrap();
    assert_eq!(Client::connect(&server).send("GET", "/", &[], "").unwrap().status, 200);
}

#[test]
fn a_websocket_is_handed_over_and_can_be_dropped() {
    let (_, server) = start(Echo::default());
    let mut client = Client::connect(&server);
    assert_eq!(client.send("GET", "/ws", &[("Upgrade", "websocket")], "").unwrap().status, 101);
    client.write(b"ping").unwrap();
    server.fault(Rule::new("/ws", Fault::DropSocket));
    assert!(b"ping".starts_with(&client.rest()));
    let mut again = Client::connect(&server);
    assert_eq!(again.send("GET", "/ws", &[("Upgrade", "websocket")], "").unwrap().status, 101);
    server.fault(Rule::new("/ws", Fault::Slow(Duration::from_millis(10))).times(1));
    let mut slow = Client::connect(&server);
    assert_eq!(slow.send("GET", "/ws", &[("Upgrade", "websocket")], "").unwrap().status, 101);
}

#[test]
fn plain_http_on_the_tls_port_is_answered_in_plain() {
    let (_, server) = start(Echo::default());
    let mut socket = TcpStream::connect(server.host()).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 301 Moved Permanently\r\nLocation: https://localhost/\r\n"), "{answer}");
    assert!(server.seen().is_empty());
}

#[test]
fn certificates_are_self_signed_or_issued_by_a_ca_that_is_not_sent() {
    for certificate in [
        Certificate::self_signed("pve1", &["localhost"]).unwrap(),
        Certificate::issued("pve1", &["localhost", "127.0.0.1"]).unwrap(),
    ] {
        let options = Options { certificate, ..Options::default() };
        let server = Server::start(Arc::new(Echo::default()), options).unwrap();
        assert_eq!(server.fingerprint().len(), 95);
        assert_eq!(Client::connect(&server).send("GET", "/", &[], "").unwrap().status, 200);
    }
    let options = Options { certificate: Certificate::expired("pve1", &["localhost"]).unwrap(), ..Options::default() };
    let server = Server::start(Arc::new(Echo::default()), options).unwrap();
    assert!(Client::connect(&server).send("GET", "/", &[], "").is_err());
}

fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time");
        std::thread::yield_now();
    }
}
