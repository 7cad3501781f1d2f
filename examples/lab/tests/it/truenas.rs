//! The TrueNAS stand-in against what the vendor's own code was seen to do: a plain WebSocket client walks the rules.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot talk has failed")]

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::truenas::{Health, PROFILES, Profile, RpcError, TrueNas};
use lab::{Fault, Options, Rule, Server};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::client::Client;

const JSON_RPC: [Profile; 4] = [Profile::V25_04, Profile::V25_10, Profile::V26, Profile::V27];
const REST: [Profile; 6] =
    [Profile::Core13, Profile::V22_12, Profile::V24_04, Profile::V24_10, Profile::V25_04, Profile::V25_10];

/// Both ends of a byte stream, with or without TLS.
trait Wire: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Wire for T {}

struct Rpc {
    web: WebSocket<Box<dyn Wire>>,
    next: u64,
    /// Notifications since the last look.
    heard: Vec<Value>,
}

/// Refused handshakes give their status.
fn open(server: &Server, path: &str, plain: bool) -> Result<Rpc, u16> {
    let socket = TcpStream::connect(server.host()).expect("a server that listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.set_nodelay(true).unwrap();
    let wire: Box<dyn Wire> = if plain {
        Box::new(socket)
    } else {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.certificate_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        Box::new(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket))
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    match tungstenite::client::client_with_config(format!("ws://localhost{path}"), wire, Some(config)) {
        Ok((web, _)) => Ok(Rpc { web, next: 0, heard: Vec::new() }),
        Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
        Err(error) => panic!("{path}: {error}"),
    }
}

impl Rpc {
    fn send(&mut self, text: impl Into<String>) {
        self.web.send(Message::text(text.into())).expect("an open connection");
    }

    fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.send(json!({"jsonrpc": "2.0", "method": method, "params": params, "id": id}).to_string());
        id
    }

    fn read(&mut self) -> Value {
        loop {
            match self.web.read().expect("an answer") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The answer with this id; notifications before it are kept.
    fn wait(&mut self, id: u64) -> Value {
        loop {
            let message = self.read();
            if message.get("method").is_some() {
                self.heard.push(message);
            } else {
                assert_eq!(message["id"], id, "{message}");
                return message;
            }
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, &params);
        self.wait(id)
    }

    fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn error(&mut self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("result").is_none(), "{method}: {answer}");
        answer["error"].clone()
    }

    /// Code and reason of the close frame that comes next.
    fn close(&mut self) -> (u16, String) {
        loop {
            match self.web.read() {
                Ok(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }
}

struct Lab {
    nas: Arc<TrueNas>,
    server: Server,
}

impl Lab {
    fn new(profile: Profile) -> Self {
        let nas = TrueNas::new(profile);
        nas.refusal_delay(Duration::from_millis(10));
        let server = Server::start(nas.clone(), Options::default()).expect("a port");
        Self { nas, server }
    }

    fn anonymous(&self) -> Rpc {
        open(&self.server, "/api/current", false).expect("a handshake")
    }

    fn login(&self, user: &str) -> Rpc {
        let mut rpc = self.anonymous();
        let login = json!([{"mechanism": "API_KEY_PLAIN", "username": user, "api_key": self.nas.key(user)}]);
        assert_eq!(rpc.result("auth.login_ex", login)["response_type"], "SUCCESS");
        rpc
    }

    fn rest(&self, verb: &str, path: &str, key: &str, body: &str) -> (u16, String) {
        let bearer = format!("Bearer {key}");
        let headers = if key.is_empty() { vec![] } else { vec![("Authorization", &*bearer)] };
        let answer = Client::connect(&self.server).send(verb, path, &headers, body).expect("an answer");
        (answer.status, answer.text().to_owned())
    }
}

fn names(rows: &Value, field: &str) -> Vec<String> {
    rows.as_array().expect("rows").iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

/// Code, `data.error`, and the first sentence of `extra` or else the reason.
fn gist(error: &Value) -> (i64, i64, String) {
    let data = &error["data"];
    let text = data["extra"][0][1].as_str().or(data["reason"].as_str()).or(error["message"].as_str());
    (error["code"].as_i64().unwrap(), data["error"].as_i64().unwrap_or(0), text.unwrap().to_owned())
}

#[test]
fn each_release_shows_what_it_is_by_its_paths() {
    for profile in PROFILES {
        let lab = Lab::new(profile);
        let mut client = Client::connect(&lab.server);
        let versions = client.send("GET", "/api/versions", &[], "").unwrap();
        let handshake = open(&lab.server, "/api/current", false).err();
        match profile {
            Profile::Core13 => assert_eq!((versions.status, handshake), (404, Some(404))),
            Profile::V22_12 | Profile::V24_04 | Profile::V24_10 => {
                assert_eq!((versions.status, handshake), (302, Some(302)));
                assert_eq!(versions.headers("Location"), ["https://localhost/ui/"]);
                assert_eq!(versions.reason, "Moved Temporarily");
            }
            _ => {
                assert_eq!((versions.status, handshake), (200, None));
                let newest = versions.json().as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
                let short = profile.info_version();
                assert!(newest.starts_with(&format!("v{}", &short[..2])), "{newest} {short}");
            }
        }
        let (status, body) = lab.rest("GET", "/api/v2.0/system/version", &lab.nas.key("svc"), "");
        if profile.has_rest() {
            assert_eq!((status, body), (200, format!("\"{}\"", profile.long_version())));
        } else {
            assert_eq!((status, body.as_str()), (404, "404: Not Found"));
        }
    }
    let lab = Lab::new(Profile::V26);
    for (path, expected) in [
        ("/api/v26.0.0", None),
        ("/api/v25.04.2", None),
        ("/api/v24.10", None),
        ("/api/v25.04", Some(404)),
        ("/api/v99.0.0", Some(404)),
        ("/api/current/", Some(404)),
    ] {
        assert_eq!(open(&lab.server, path, false).err(), expected, "{path}");
    }
    for (verb, path, expected) in
        [("GET", "/api/current", 400), ("POST", "/api/current", 405), ("GET", "/api/versions/", 404), ("GET", "/", 302)]
    {
        assert_eq!(lab.rest(verb, path, "", "").0, expected, "{verb} {path}");
    }
}

#[test]
fn what_is_no_request_is_told_so_and_the_connection_lives_on() {
    let lab = Lab::new(Profile::V26);
    let mut rpc = lab.anonymous();
    let table = [
        (r#"[{"jsonrpc":"2.0","method":"core.ping","id":1}]"#, -32700, "Batch messages are not supported at this time"),
        ("[]", -32700, "Batch messages are not supported at this time"),
        (r#"{"jsonrpc": "2.0", "method":"#, -32700, "Expecting value: line 1 column 29 (char 28)"),
        ("17", -32700, "Invalid Message Format"),
        ("null", -32700, "Invalid Message Format"),
        (r#"{"method":"core.ping","id":1}"#, -32600, "Missing 'jsonrpc' member"),
        (
            r#"{"jsonrpc":"1.0","method":"core.ping","id":1}"#,
            -32600,
            "'jsonrpc' member must be of type string and must be exactly '2.0'",
        ),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600, "Missing 'method' member"),
        (r#"{"jsonrpc":"2.0","method":"","id":1}"#, -32600, "'method' member must be of type string"),
        (
            r#"{"jsonrpc":"2.0","method":"core.ping","params":{},"id":1}"#,
            -32600,
            "'params' member must be of type array",
        ),
        (
            r#"{"jsonrpc":"2.0","method":"core.ping","params":null,"id":1}"#,
            -32600,
            "'params' member must be of type array",
        ),
        (
            r#"{"jsonrpc":"2.0","method":"core.ping","id":1.5}"#,
            -32600,
            "'id' member must be of type null, string or number",
        ),
        (r#"{"jsonrpc":"2.0","method":"no.such","id":1}"#, -32601, "Method does not exist"),
        (r#"{"jsonrpc":"2.0","method":"nodots","id":1}"#, -32601, "Method does not exist"),
    ];
    for (message, code, text) in table {
        rpc.send(message);
        let answer = rpc.read();
        assert_eq!((answer["error"]["code"].as_i64(), answer["error"]["message"].as_str()), (Some(code), Some(text)));
        assert!(answer["error"].get("data").is_none(), "{answer}");
    }
    // Identifiers come back as they were; a notification is not answered, not even its error.
    for id in [json!("text"), json!(null), json!(0), json!(-5), json!(true), json!("")] {
        rpc.send(json!({"jsonrpc": "2.0", "method": "no.such"}).to_string());
        rpc.send(json!({"jsonrpc": "2.0", "method": "core.ping", "id": id}).to_string());
        assert_eq!(rpc.read(), json!({"jsonrpc": "2.0", "result": "pong", "id": id}));
    }
}

#[test]
fn messages_have_a_longest_length_in_characters() {
    let lab = Lab::new(Profile::V26);
    let padded = |length: usize, filler: char| {
        let start = r#"{"jsonrpc":"2.0","method":"core.ping","id":1,"x":""#;
        let filling: String = std::iter::repeat_n(filler, length - start.len() - 2).collect();
        format!("{start}{filling}\"}}")
    };
    let anonymous = "Anonymous connection max message length is 8 kB";
    for (user, length, filler, expected) in [
        (None, 8192, 'a', None),
        (None, 8193, 'a', Some((1007, anonymous))),
        (None, 8192, 'é', None),
        (Some("svc"), 65_536, 'a', None),
        (Some("svc"), 65_536, 'é', None),
        (Some("svc"), 65_537, 'a', Some((1009, "Max message length is 64 kB"))),
        (Some("svc"), 5 << 20, 'a', Some((1009, ""))),
    ] {
        let mut rpc = user.map_or_else(|| lab.anonymous(), |user| lab.login(user));
        rpc.send(padded(length, filler));
        match expected {
            None => assert_eq!(rpc.read()["result"], "pong", "{length}"),
            Some((code, reason)) => assert_eq!(rpc.close(), (code, reason.to_owned()), "{length}"),
        }
    }
    let mut rpc = lab.anonymous();
    rpc.web.send(Message::binary(b"{}".to_vec())).unwrap();
    assert_eq!(rpc.close(), (1003, "Invalid websocket message type: <WSMsgType.BINARY: 2>".to_owned()));
}

#[test]
fn ten_calls_run_ten_wait_and_the_next_is_refused_at_once() {
    let lab = Lab::new(Profile::V26);
    let mut rpc = lab.login("svc");
    lab.nas.slow("alert.list", Duration::from_secs(1));
    let first = rpc.ask("alert.list", &json!([]));
    for _ in 1..20 {
        rpc.ask("alert.list", &json!([]));
    }
    let refused = rpc.ask("core.ping", &json!([]));
    let answer = rpc.read();
    assert_eq!(answer["id"], refused);
    let text = "Maximum number of concurrent calls (20) has exceeded";
    assert_eq!(answer["error"], json!({"code": -32000, "message": text}));
    assert_eq!(lab.nas.calls("alert.list").len(), 10, "the other ten have not begun");
    for id in first..refused {
        let answer = rpc.read();
        assert_eq!((answer["id"].as_u64(), answer["result"].is_array()), (Some(id), true), "{answer}");
    }
    assert_eq!(lab.nas.calls("alert.list").len(), 20);
    // With slots free, a quick call overtakes a slow one.
    let slow = rpc.ask("alert.list", &json!([]));
    let quick = rpc.ask("core.ping", &json!([]));
    assert_eq!((rpc.read()["id"].as_u64(), rpc.read()["id"].as_u64()), (Some(quick), Some(slow)));
}

#[test]
fn without_login_there_is_next_to_nothing() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let mut rpc = lab.anonymous();
        assert_eq!(rpc.result("core.ping", json!([])), "pong");
        for method in ["system.info", "pool.query", "auth.me", "auth.logout", "core.subscribe", "core.get_jobs"] {
            let error = rpc.error(method, json!([]));
            assert_eq!(gist(&error), (-32001, 207, "[ENOTAUTHENTICATED] Not authenticated".to_owned()), "{method}");
        }
        let choices = rpc.call("auth.mechanism_choices", json!([]));
        assert_eq!(choices.get("error").is_some(), profile <= Profile::V25_10, "{choices}");
        let garbage = rpc.error("auth.login_ex", json!([{"mechanism": "MAGIC", "username": "x"}]));
        assert!(gist(&garbage).2.starts_with("Input tag 'MAGIC' found using 'mechanism'"), "{garbage}");
        let extra =
            json!([{"mechanism": "API_KEY_PLAIN", "username": "svc", "api_key": lab.nas.key("svc"), "surprise": 1}]);
        let error = rpc.error("auth.login_ex", extra);
        let expected = json!([["login_data.API_KEY_PLAIN.surprise", "Extra inputs are not permitted", 22]]);
        assert_eq!((&error["code"], &error["data"]["extra"]), (&json!(-32602), &expected));
    }
}

#[test]
fn a_login_says_as_much_as_the_release_says() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let expired = lab.nas.add_user("late", &["READONLY_ADMIN"]);
        lab.nas.expire(&expired);
        let revoked = lab.nas.add_user("out", &["READONLY_ADMIN"]);
        lab.nas.revoke(&revoked);
        let (svc, nobody) = (lab.nas.key("svc"), lab.nas.key("nobody"));
        let wrong = format!("{}X", &svc[..svc.len() - 1]);
        let new = profile >= Profile::V26;
        let table = [
            ("svc", &svc, "SUCCESS"),
            ("viewer", &svc, "AUTH_ERR"),
            ("svc", &wrong, "AUTH_ERR"),
            ("late", &expired, "EXPIRED"),
            ("out", &revoked, if new { "AUTH_ERR" } else { "EXPIRED" }),
            ("nobody", &nobody, if new { "DENIED" } else { "AUTH_ERR" }),
        ];
        for (user, key, expected) in table {
            let mut rpc = lab.anonymous();
            let options = json!({"user_info": false});
            let login = json!([{
                "mechanism": "API_KEY_PLAIN", "username": user, "api_key": key, "login_options": options,
            }]);
            let answer = rpc.result("auth.login_ex", login);
            assert_eq!(answer["response_type"], expected, "{profile:?} {user}");
            if expected == "SUCCESS" {
                assert_eq!(answer.get("reconnect_token").is_some(), new);
            } else {
                assert_eq!(answer.as_object().unwrap().len(), 1);
            }
            let mut rpc = lab.anonymous();
            if profile == Profile::V27 {
                assert_eq!(rpc.error("auth.login_with_api_key", json!([key]))["code"], -32601);
            } else if user != "viewer" {
                assert_eq!(rpc.result("auth.login_with_api_key", json!([key])), expected == "SUCCESS");
            }
        }
    }
}

#[test]
fn a_failed_login_is_late_and_leaves_the_old_session() {
    let lab = Lab::new(Profile::V25_10);
    lab.nas.refusal_delay(Duration::from_millis(200));
    let mut rpc = lab.login("viewer");
    let asked = Instant::now();
    assert_eq!(rpc.result("auth.login_with_api_key", json!(["garbage"])), false);
    assert!(asked.elapsed() >= Duration::from_millis(200));
    assert_eq!(rpc.result("auth.me", json!([]))["pw_name"], "viewer");
    assert_eq!(rpc.result("auth.login_with_api_key", json!([lab.nas.key("svc")])), true);
    assert_eq!(rpc.result("auth.me", json!([]))["pw_name"], "svc");
    assert_eq!(rpc.result("auth.logout", json!([])), true);
    assert_eq!(rpc.error("auth.me", json!([]))["data"]["error"], 207);
    assert_eq!((lab.nas.login_attempts(), lab.nas.logins(), lab.nas.sessions_opened()), (3, 2, 1));
    for (params, attribute, text) in [
        (json!([]), "api_key", "Field required"),
        (json!([5]), "api_key", "Input should be a valid string"),
        (json!(["a", "b"]), "", "Too many arguments (expected 1, found 2)"),
    ] {
        let error = rpc.error("auth.login_with_api_key", params);
        assert_eq!(error["data"]["extra"], json!([[attribute, text, 22]]));
        assert_eq!(error["data"]["reason"], format!("[EINVAL] {attribute}: {text}\n"));
    }
}

#[test]
fn a_key_over_plain_transport_is_revoked() {
    for (profile, again) in [(Profile::V25_10, "EXPIRED"), (Profile::V26, "AUTH_ERR")] {
        let nas = TrueNas::new(profile);
        nas.refusal_delay(Duration::from_millis(10));
        let plain = Server::start(nas.clone(), Options { plain: true, ..Options::default() }).expect("a port");
        let key = nas.key("svc");
        let login = json!([{"mechanism": "API_KEY_PLAIN", "username": "svc", "api_key": key}]);
        let mut rpc = open(&plain, "/api/current", true).unwrap();
        assert_eq!(rpc.result("auth.login_ex", login.clone())["response_type"], "EXPIRED");
        assert!(nas.is_revoked(&key));
        assert_eq!(rpc.error("auth.me", json!([]))["data"]["error"], 207);
        assert_eq!(rpc.result("auth.login_ex", login)["response_type"], again);
        assert!(nas.world(|world| world.alerts.iter().any(|alert| alert.klass == "ApiKeyRevoked")));
        let other = nas.key("viewer");
        assert_eq!(rpc.result("auth.login_with_api_key", json!([other])), false);
        assert!(nas.is_revoked(&other));
    }
}

#[test]
fn the_twenty_first_anonymous_call_of_a_method_is_one_too_many() {
    let lab = Lab::new(Profile::V26);
    lab.nas.rate_limit(20, Duration::from_secs(60), Duration::from_millis(150));
    let mut rpc = lab.anonymous();
    for _ in 0..20 {
        assert_eq!(rpc.result("core.ping", json!([])), "pong");
    }
    let asked = Instant::now();
    let error = rpc.error("core.ping", json!([]));
    assert_eq!(gist(&error), (-32001, 16, "[EBUSY] Rate Limit Exceeded".to_owned()));
    assert!(asked.elapsed() >= Duration::from_millis(150));
    // Counted by caller and method, not by connection; and no longer after login.
    assert_eq!(lab.anonymous().error("core.ping", json!([]))["data"]["error"], 16);
    assert_eq!(lab.login("svc").result("core.ping", json!([])), "pong");
    lab.nas.rate_limit(20, Duration::ZERO, Duration::ZERO);
    assert_eq!(lab.anonymous().result("core.ping", json!([])), "pong");
}

#[test]
fn a_role_that_lacks_is_told_before_the_arguments_are_looked_at() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let service = profile.snapshot_service();
        let (create, query) = (format!("{service}.create"), format!("{service}.query"));
        lab.nas.add_user("snapper", &["SNAPSHOT_WRITE"]);
        let table = [
            ("viewer", "system.info", true),
            ("viewer", "pool.query", true),
            ("viewer", "boot.get_state", true),
            ("viewer", "pool.dataset.query", true),
            ("viewer", "alert.list", true),
            ("viewer", &query, true),
            ("viewer", &create, false),
            ("viewer", "alert.dismiss", false),
            ("snapper", &query, true),
            ("snapper", "pool.query", false),
            ("snapper", "system.info", false),
        ];
        for (user, method, allowed) in table {
            let answer = lab.login(user).call(method, json!([]));
            let refused = answer["error"]["data"]["errname"] == "EACCES";
            assert_eq!(!refused, allowed, "{profile:?} {user} {method} {answer}");
            if refused {
                assert_eq!(gist(&answer["error"]), (-32001, 13, "[EACCES] Not authorized".to_owned()));
            }
        }
        let made = lab.login("snapper").result(&create, json!([{"dataset": "tank", "name": "by-role"}]));
        assert_eq!(made["id"], "tank@by-role");
    }
}

#[test]
fn tracebacks_hold_the_key_up_to_25_10() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let error = lab.login("svc").error("pool.get_instance", json!([77]));
        let trace = &error["data"]["trace"];
        assert!(trace["formatted"].as_str().unwrap().starts_with("Traceback (most recent call last):"));
        let leaks = error.to_string().contains(&lab.nas.key("svc"));
        let old = profile <= Profile::V25_10;
        assert_eq!((leaks, trace.get("frames").is_some()), (old, old), "{error}");
    }
}

#[test]
fn an_old_pin_on_a_newer_release_is_useless() {
    let lab = Lab::new(Profile::V26);
    let login = json!([{"mechanism": "API_KEY_PLAIN", "username": "svc", "api_key": lab.nas.key("svc")}]);
    let mut rpc = open(&lab.server, "/api/v25.04.2", false).unwrap();
    let hidden = rpc.error("auth.login_with_api_key", json!([lab.nas.key("svc")]));
    let text = "[ENOMETHOD] Method 'login_with_api_key' not found in 'auth'";
    assert_eq!(gist(&hidden), (-32001, 201, text.to_owned()));
    assert_eq!(rpc.result("auth.login_ex", login.clone())["response_type"], "SUCCESS");
    for (method, errno) in [
        ("system.info", 201),
        ("pool.get_instance", 201),
        ("pool.snapshot.create", 201),
        ("pool.query", 22),
        ("pool.dataset.query", 22),
        ("core.get_jobs", 22),
    ] {
        assert_eq!(rpc.error(method, json!([]))["data"]["error"], errno, "{method}");
    }
    let missing = rpc.error("pool.query", json!([]));
    assert_eq!(gist(&missing).2, "API version 'v25.04.2' does not contain model 'PoolQueryResult'");
    assert!(rpc.result("alert.list", json!([])).is_array());
    let mut rpc = open(&lab.server, "/api/v24.10", false).unwrap();
    assert_eq!(rpc.error("core.ping", json!([]))["data"]["error"], 201);
    let mut rpc = open(&lab.server, "/api/v25.10.0", false).unwrap();
    assert_eq!(rpc.result("auth.login_ex", login)["response_type"], "SUCCESS");
    assert!(rpc.result("pool.query", json!([]))[0].get("all_sed").is_none());
    assert!(lab.login("svc").result("pool.query", json!([]))[0].get("all_sed").is_some());
}

#[test]
fn pools_show_health_scan_and_the_nulls_of_an_exported_one() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let mut rpc = lab.login("viewer");
        let pools = rpc.result("pool.query", json!([]));
        assert_eq!(names(&pools, "name"), ["tank", "flash", "attic", "shelf"]);
        assert_eq!(names(&pools, "status"), ["ONLINE", "DEGRADED", "ONLINE", "OFFLINE"]);
        assert_eq!((&pools[2]["healthy"], &pools[2]["warning"]), (&json!(true), &json!(true)));
        assert_eq!(pools[1]["scan"]["state"], "SCANNING");
        assert_eq!(pools[1]["scan"]["end_time"], Value::Null);
        let mirror = &pools[1]["topology"]["data"][0];
        assert_eq!(mirror["children"][1]["status"], "REMOVED");
        assert_eq!(mirror["children"][0]["stats"]["checksum_errors"], 17);
        assert_eq!(pools[0]["topology"]["spare"][0]["status"], "AVAIL");
        for field in ["scan", "size", "free", "fragmentation", "topology", "status_code"] {
            assert_eq!(pools[3][field], Value::Null, "{field}");
        }
        assert!(pools[0]["guid"].is_string() && pools[0]["fragmentation"].is_string());
        assert_eq!(pools[0].get("dedup_table_size").is_some(), profile >= Profile::V25_10);
        assert!(pools[0].get("is_upgraded").is_none());
        let boot = rpc.result("boot.get_state", json!([]));
        assert_eq!((&boot["name"], boot.get("id")), (&json!("boot-pool"), None));
        let missing = rpc.error("pool.get_instance", json!([77]));
        assert_eq!(missing["data"]["extra"], json!([[null, "Pool 77 does not exist", 2]]));
        assert_eq!(missing["data"]["reason"], "[ENOENT] None: Pool 77 does not exist");
        assert_eq!(missing["data"]["error"], 22);
    }
    let lab = Lab::new(Profile::V26);
    lab.nas.world(|world| world.pools[0].health = Health::Exported);
    let rows = lab.login("viewer").result("pool.dataset.query", json!([]));
    assert!(names(&rows, "pool").iter().all(|pool| pool != "tank"));
}

#[test]
fn filters_and_options_are_the_vendors() {
    let lab = Lab::new(Profile::V25_10);
    let mut rpc = lab.login("viewer");
    for (filters, options, expected) in [
        (
            json!([["OR", [["name", "=", "tank"], ["healthy", "=", false]]]]),
            json!({}),
            json!(["tank", "flash", "shelf"]),
        ),
        (json!([["name", "~", "a"]]), json!({}), json!(["attic"])),
        (json!([["name", "in", ["tank", "x"]]]), json!({}), json!(["tank"])),
        (json!([["status", "nin", ["ONLINE"]]]), json!({}), json!(["flash", "shelf"])),
        (json!([["name", "^", "ta"], ["name", "$", "nk"]]), json!({}), json!(["tank"])),
        (json!([["nosuch", "=", 1]]), json!({}), json!([])),
        (json!([["topology.data.0.type", "=", "MIRROR"]]), json!({}), json!(["flash"])),
        (json!([]), json!({"order_by": ["-name"], "limit": 2, "offset": 1}), json!(["shelf", "flash"])),
        (json!([]), json!({"limit": -1}), json!(["tank", "flash", "attic"])),
    ] {
        let rows = rpc.result("pool.query", json!([filters, options]));
        assert_eq!(json!(names(&rows, "name")), expected, "{filters} {options}");
    }
    let select = json!({"select": ["name", "autotrim.value", "topology.data", "nosuch", ["scan.state", "s"]]});
    let rows = rpc.result("pool.query", json!([[["name", "in", ["shelf"]]], select]));
    let expected = json!([{"name": "shelf", "autotrim": {"value": "off"}, "topology": null, "s": null}]);
    assert_eq!(rows, expected);
    assert_eq!(rpc.result("pool.query", json!([[["name", "=", "tank"]], {"count": true}])), 1);
    let invalid = |text: &str| (-32602, 22, text.to_owned());
    let raised = |text: &str| (-32001, 22, text.to_owned());
    for (params, expected) in [
        (json!([["name", "=", "tank"]]), invalid("Value error, Invalid filter name")),
        (json!([[["name", "=", "tank", "x"]]]), invalid("Value error, Invalid filter ['name', '=', 'tank', 'x']")),
        (json!([[["name", "="]]]), invalid("Value error, Invalid operation: name")),
        (json!([[["name", "!~", "x"]]]), invalid("Value error, Invalid operation: !~")),
        (json!([[[1, 2, 3]]]), raised("'int' object is not subscriptable")),
        (json!([[["size", ">", 1]]]), raised("'>' not supported between instances of 'NoneType' and 'int'")),
        (json!([[["name", "=", "zzz"]], {"get": true}]), raised("MatchNotFound()")),
        (json!([5]), invalid("Input should be a valid list")),
        (json!([[], {"limt": 1}]), invalid("Extra inputs are not permitted")),
        (json!([[], {"prefix": "vol_"}]), invalid("Extra inputs are not permitted")),
        (json!([[], {"limit": "1"}]), invalid("Input should be a valid integer")),
        (json!([[], {"select": "name"}]), invalid("Input should be a valid list")),
        (json!([[], {}, 3]), invalid("Too many arguments (expected 2, found 3)")),
    ] {
        assert_eq!(gist(&rpc.error("pool.query", params.clone())), expected, "{params}");
    }
}

#[test]
fn datasets_come_nested_unless_asked_otherwise() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let mut rpc = lab.login("viewer");
        let all = rpc.result("pool.dataset.query", json!([]));
        assert_eq!(all.as_array().unwrap().len(), 11, "without the internal one");
        assert!(names(&all, "id").iter().all(|id| !id.contains(".system")));
        let media = all[0]["children"].as_array().unwrap().iter().find(|row| row["id"] == "tank/media").unwrap();
        assert_eq!(media["children"][0]["id"], "tank/media/films");
        let options = json!({"extra": {"retrieve_children": false}});
        let roots = rpc.result("pool.dataset.query", json!([[], options]));
        assert_eq!(names(&roots, "id"), ["tank", "flash", "attic"], "only the pools' own");
        let filtered = rpc.result("pool.dataset.query", json!([[["pool", "=", "tank"]], options]));
        assert_eq!(filtered.as_array().unwrap().len(), 7);
        assert!(filtered.as_array().unwrap().iter().all(|row| row["children"] == json!([])));
        for (filters, options, count) in [
            (json!([]), json!({"count": true}), 11),
            (json!([["id", "=", "nosuch"]]), json!({"count": true}), 11),
            (json!([]), json!({"count": true, "extra": {"retrieve_children": false}}), 3),
        ] {
            assert_eq!(rpc.result("pool.dataset.query", json!([filters, options])), count, "{filters}");
        }
        let flat = rpc.result("pool.dataset.query", json!([[], {"extra": {"flat": false}}]));
        assert_eq!(names(&flat, "id"), ["tank", "flash", "attic"]);
        let row = |id: &str| filtered.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone();
        let (vault, papers, volume) = (row("tank/vault"), row("tank/papers"), row("tank/vm-disk"));
        assert_eq!((&vault["locked"], &vault["key_loaded"]), (&json!(true), &json!(false)));
        assert_eq!((&vault["mountpoint"], &vault["available"]["parsed"]), (&json!("none"), &json!("-")));
        assert_eq!((&papers["encryption_root"], &papers["locked"]), (&json!("tank/papers"), &json!(false)));
        assert_eq!((&volume["type"], &volume["mountpoint"]), (&json!("VOLUME"), &Value::Null));
        assert!(volume.get("quota").is_none() && volume.get("volsize").is_some());
        assert_eq!(row("tank/media")["quota"]["value"], "3 TiB");
        assert_eq!((&papers["quota"]["parsed"], &papers["key_loaded"]), (&Value::Null, &json!(true)));
        assert_eq!(row("tank")["key_loaded"], false, "false, not null, on what is not encrypted");
        let sparse = json!({"extra": {
            "retrieve_children": false, "properties": ["used", "no_such"], "retrieve_user_props": false,
        }});
        let sparse = rpc.result("pool.dataset.query", json!([[["id", "=", "tank/vault"]], sparse]));
        let keys: Vec<&String> = sparse[0].as_object().unwrap().keys().collect();
        if profile >= Profile::V25_10 {
            assert_eq!(keys, ["id", "type", "name", "pool", "children", "used", "mountpoint"]);
        } else {
            assert!(sparse[0].get("locked").is_some());
        }
        let counted = json!({"extra": {"snapshots": true, "retrieve_children": false, "properties": []}});
        let counted = rpc.result("pool.dataset.query", json!([[["id", "=", "tank/media"]], counted]));
        assert_eq!(
            (&counted[0]["snapshot_count"], &counted[0]["snapshots"][0]["createtxg"]),
            (&json!(3), &json!("950"))
        );
        let one = rpc.result("pool.dataset.get_instance", json!(["tank/media"]));
        assert_eq!(one["children"][0]["id"], "tank/media/films");
        let missing = rpc.error("pool.dataset.get_instance", json!(["tank/nosuch"]));
        assert_eq!(missing["data"]["extra"], json!([[null, "PoolDataset tank/nosuch does not exist", 2]]));
    }
}

#[test]
fn two_thousand_datasets_in_one_answer() {
    let lab = Lab::new(Profile::V26);
    lab.nas.world(|world| world.add_datasets("tank", 2000));
    let mut rpc = lab.login("viewer");
    let options = json!({"extra": {"retrieve_children": false, "properties": ["used"]}});
    let rows = rpc.result("pool.dataset.query", json!([[["pool", "=", "tank"]], options]));
    assert_eq!(rows.as_array().unwrap().len(), 2007);
}

#[test]
fn alerts_have_seven_levels_and_keep_the_dismissed() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let alerts = lab.login("viewer").result("alert.list", json!([]));
        let levels = names(&alerts, "level");
        for level in ["INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"] {
            assert!(levels.iter().any(|found| found == level), "{level}");
        }
        let rows = alerts.as_array().unwrap();
        assert_eq!(rows.iter().filter(|row| row["dismissed"] == true).count(), 1);
        assert!(rows.iter().all(|row| row["id"] == row["uuid"] && row["datetime"]["$date"].is_i64()));
        assert!(rows.iter().any(|row| row["formatted"].as_str().is_some_and(|text| text.contains("<ul><li>"))));
        assert!(rows.iter().any(|row| row["formatted"].is_null()));
        let mut admin = lab.login("svc");
        assert_eq!(admin.result("alert.dismiss", json!([rows[0]["uuid"]])), Value::Null);
        assert_eq!(admin.result("alert.list", json!([]))[0]["dismissed"], true);
    }
}

#[test]
fn a_snapshot_is_made_once_and_seen_afterwards() {
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let mut rpc = lab.login("svc");
        let service = profile.snapshot_service();
        let (create, query) = (format!("{service}.create"), format!("{service}.query"));
        let of_media = json!([[["dataset", "=", "tank/media"]], {"select": ["name", "createtxg"]}]);
        let before = rpc.result(&query, of_media.clone());
        let made = rpc.result(&create, json!([{"dataset": "tank/media", "name": "now"}]));
        assert_eq!((&made["id"], &made["createtxg"]), (&json!("tank/media@now"), &json!("1001")));
        let after = rpc.result(&query, of_media);
        assert_eq!(after.as_array().unwrap().len(), before.as_array().unwrap().len() + 1);
        // `createtxg` is a string, and is ordered as one.
        let newest = json!([[["dataset", "=", "tank/media"]], {"order_by": ["-createtxg"], "limit": 1}]);
        assert_eq!(rpc.result(&query, newest)[0]["createtxg"], "993");
        let created = &made["properties"]["creation"]["parsed"];
        assert_eq!(created.is_i64(), profile >= Profile::V26, "{created}");

        let again = rpc.error(&create, json!([{"dataset": "tank/media", "name": "now"}]));
        let missing = rpc.error(&create, json!([{"dataset": "tank/nosuch", "name": "now"}]));
        if profile >= Profile::V26 {
            let extra = json!([["pool.snapshot.create", "now already exists.", 17]]);
            assert_eq!(
                (&again["code"], &again["data"]["error"], &again["data"]["extra"]),
                (&json!(-32602), &json!(22), &extra)
            );
            assert_eq!(gist(&missing), (-32001, 22, "'tank/nosuch' not found".to_owned()));
        } else {
            assert_eq!((gist(&again).0, gist(&again).1), (-32001, 17));
            let text = "[EFAULT] Failed to snapshot tank/nosuch@now: Dataset tank/nosuch not found";
            assert_eq!(gist(&missing), (-32001, 14, text.to_owned()));
        }
        rpc.result(&create, json!([{"dataset": "flash", "name": "all", "recursive": true}]));
        let all = rpc.result(&query, json!([[["snapshot_name", "=", "all"]]]));
        assert_eq!(names(&all, "id"), ["flash@all", "flash/db@all"]);
        assert_eq!(all[0]["properties"] == json!({}), profile >= Profile::V26);
        // A recursive one clashes with any below.
        rpc.result(&create, json!([{"dataset": "flash/db", "name": "deep"}]));
        let clash = rpc.error(&create, json!([{"dataset": "flash", "name": "deep", "recursive": true}]));
        assert!(clash.to_string().contains("already exists"), "{clash}");
        assert_eq!(rpc.result(&query, json!([[["dataset", "=", "nosuch"]]])), json!([]));
        let unfiltered = names(&rpc.result(&query, json!([])), "dataset");
        assert_eq!(unfiltered.iter().any(|id| id == "tank/.system"), profile < Profile::V26);
        let named = rpc.result(&query, json!([[["dataset", "=", "tank/.system"]]]));
        assert_eq!(named.as_array().unwrap().len(), 1);
        let absent = rpc.error(&format!("{service}.get_instance"), json!(["tank/media@nosuch"]));
        assert_eq!(absent["data"]["extra"][0][2], 2);
        let other = if service == "pool.snapshot" { "zfs.snapshot.create" } else { "pool.snapshot.create" };
        let answer = rpc.call(other, json!([{"dataset": "tank/media", "name": "other"}]));
        // 25.10 keeps the old service as a private one, which full administrators reach.
        assert_eq!(answer.get("result").is_some(), profile == Profile::V25_10, "{answer}");
        if profile != Profile::V25_10 {
            assert_eq!(answer["error"]["code"], -32601);
        }
    }
}

#[test]
fn snapshot_arguments_are_refused_in_each_releases_words() {
    let required = "Field required";
    let unwanted = "Extra inputs are not permitted";
    let name = |field: &str, text: &str| json!([format!("data.PoolSnapshotCreateWithName.{field}"), text, 22]);
    let schema = |field: &str, text: &str| json!([format!("data.PoolSnapshotCreateWithSchema.{field}"), text, 22]);
    let old = |field: &str, text: &str| json!([format!("snapshot_create.{field}"), text, 22]);
    let table = [
        (
            json!({"dataset": "tank/media"}),
            json!([name("name", required), schema("naming_schema", required)]),
            json!([old("naming_schema", "You must specify either name or naming schema")]),
        ),
        (
            json!({"dataset": "tank/media", "name": "a", "naming_schema": "auto-%Y"}),
            json!([name("naming_schema", unwanted), schema("name", unwanted)]),
            json!([old("naming_schema", "You can't specify name and naming schema at the same time")]),
        ),
        (
            json!({"dataset": "tank/media", "name": ""}),
            json!([
                name("name", "String should have at least 1 character"),
                schema("naming_schema", required),
                schema("name", unwanted),
            ]),
            json!([old("name", "Empty value not allowed")]),
        ),
        (
            json!({"dataset": "tank/media", "name": "x", "surprise": 1}),
            json!([
                name("surprise", unwanted),
                schema("naming_schema", required),
                schema("name", unwanted),
                schema("surprise", unwanted),
            ]),
            json!([old("surprise", "Field was not expected")]),
        ),
        (
            json!({"dataset": "tank/media", "name": "y", "recursive": "yes"}),
            json!([
                name("recursive", "Input should be a valid boolean"),
                schema("recursive", "Input should be a valid boolean"),
                schema("naming_schema", required),
                schema("name", unwanted),
            ]),
            json!([old("recursive", "Not a boolean")]),
        ),
        (
            json!({"name": "x"}),
            json!([
                name("dataset", required),
                schema("dataset", required),
                schema("naming_schema", required),
                schema("name", unwanted),
            ]),
            json!([old("dataset", "attribute required")]),
        ),
        (
            json!({"dataset": "tank/media", "name": "y1", "exclude": ["tank/media/films"]}),
            json!([old("exclude", "This option has no sense for non-recursive snapshots")]),
            json!([old("exclude", "This option has no sense for non-recursive snapshots")]),
        ),
    ];
    for profile in JSON_RPC {
        let lab = Lab::new(profile);
        let mut rpc = lab.login("svc");
        let create = format!("{}.create", profile.snapshot_service());
        let before = lab.nas.world(|world| world.snapshots.len());
        for (data, new_words, old_words) in &table {
            let error = rpc.error(&create, json!([data]));
            let expected = if profile >= Profile::V25_10 { new_words } else { old_words };
            assert_eq!((&error["code"], &error["data"]["extra"]), (&json!(-32602), expected), "{profile:?} {data}");
        }
        for bad in ["bad@name", "bad/name", "b%d", "юникод", &"x".repeat(260)] {
            let error = rpc.error(&create, json!([{"dataset": "tank/media", "name": bad}]));
            if profile >= Profile::V26 {
                assert_eq!((gist(&error).0, gist(&error).1), (-32001, 22), "what ZFS says: {error}");
            } else {
                assert_eq!(gist(&error), (-32602, 22, "Invalid snapshot name".to_owned()), "{bad}");
            }
        }
        let internal = rpc.call(&create, json!([{"dataset": "tank/.system", "name": "z"}]));
        if profile >= Profile::V26 {
            assert_eq!(internal["error"]["data"]["extra"][0][2], 13);
            assert_eq!(lab.nas.world(|world| world.snapshots.len()), before);
        } else {
            assert_eq!(internal["result"]["id"], "tank/.system@z");
        }
        let dated = rpc.result(&create, json!([{"dataset": "tank/media", "naming_schema": "auto-%Y-%m-%d_%H-%M"}]));
        assert_eq!(dated["snapshot_name"].as_str().unwrap().len(), "auto-2026-11-22_17-39".len());
        rpc.result(&create, json!([{"dataset": "tank/laptop backup", "name": "with space"}]));
        assert_eq!(gist(&rpc.error(&create, json!([{}, {}]))).2, "Too many arguments (expected 1, found 2)");
    }
}

#[test]
fn notifications_come_before_the_result_that_caused_them() {
    let lab = Lab::new(Profile::V25_10);
    let mut rpc = lab.login("svc");
    rpc.result("core.subscribe", json!(["pool.snapshot.query"]));
    let mut bystander = lab.login("svc");
    rpc.result("pool.snapshot.create", json!([{"dataset": "tank/media", "name": "told"}]));
    let [told] = rpc.heard.as_slice() else { panic!("{:?}", rpc.heard) };
    assert_eq!((&told["method"], &told["params"]["msg"]), (&json!("collection_update"), &json!("added")));
    assert_eq!(told["params"]["id"], "tank/media@told");
    assert_eq!(bystander.result("core.ping", json!([])), "pong");
    assert!(bystander.heard.is_empty());
    lab.nas.push("collection_update", json!({"msg": "changed", "collection": "alert.list", "id": 1}));
    assert_eq!(bystander.read()["params"]["collection"], "alert.list");
    lab.nas.noise(true);
    assert_eq!(bystander.result("core.ping", json!([])), "pong");
    assert_eq!(bystander.heard.len(), 2);
    for (event, allowed) in [("auth.sessions", false), ("*", false), ("core.get_jobs", true)] {
        let answer = lab.login("viewer").call("core.subscribe", json!([event]));
        assert_eq!(answer.get("result").is_some(), allowed, "{event}");
    }
}

#[test]
fn a_restart_drops_the_sockets_and_nginx_answers_until_it_is_over() {
    let lab = Lab::new(Profile::V26);
    let mut rpc = lab.login("svc");
    lab.nas.restart(Duration::from_secs(600));
    match rpc.web.read() {
        Err(Error::Io(_) | Error::Protocol(_)) => {}
        other => panic!("a close frame, or worse: {other:?}"),
    }
    assert_eq!(open(&lab.server, "/api/current", false).err(), Some(502));
    assert_eq!(lab.rest("GET", "/api/versions", "", "").0, 502);
    lab.nas.restart(Duration::ZERO);
    assert_eq!(lab.login("svc").result("core.ping", json!([])), "pong");
}

#[test]
fn what_can_be_wrong_on_request() {
    let lab = Lab::new(Profile::V26);
    lab.nas.silent("pool.query");
    let mut rpc = lab.login("svc");
    rpc.ask("pool.query", &json!([]));
    assert_eq!(rpc.result("core.ping", json!([])), "pong");
    assert_eq!(lab.nas.calls("pool.query").len(), 1, "heard, and done, and never answered");
    let error = RpcError::Call { class: "CallError", errno: 14, message: "tank is busy".to_owned() };
    lab.nas.fail("alert.list", error);
    assert_eq!(gist(&rpc.error("alert.list", json!([]))).2, "[EFAULT] tank is busy");
    lab.nas.well_again();
    assert!(rpc.result("pool.query", json!([])).is_array());

    let key = lab.nas.key("svc");
    let login = json!([{"mechanism": "API_KEY_PLAIN", "username": "svc", "api_key": key}]);
    lab.nas.answer_login_ex(json!({"response_type": "OTP_REQUIRED", "username": "svc"}));
    assert_eq!(lab.anonymous().result("auth.login_ex", login.clone())["response_type"], "OTP_REQUIRED");
    lab.nas.standby(&["192.0.2.7"]);
    let redirect = json!({"response_type": "REDIRECT", "urls": ["192.0.2.7"]});
    assert_eq!(lab.anonymous().result("auth.login_ex", login.clone()), redirect);
    assert_eq!(lab.anonymous().result("auth.login_with_api_key", json!([key])), false);
    lab.nas.forbid_plain_keys();
    assert_eq!(lab.anonymous().error("auth.login_ex", login)["data"]["error"], 95);
    lab.nas.deny_address(true);
    let closed = lab.anonymous().close();
    assert_eq!(closed, (1008, "You are not allowed to access this resource".to_owned()));
    assert_eq!(lab.rest("GET", "/api/versions", "", "").0, 200, "still told");
    lab.nas.deny_address(false);
    lab.server.fault(Rule::new("/api/current", Fault::HtmlError(502)).times(1));
    assert_eq!(open(&lab.server, "/api/current", false).err(), Some(502));
}

#[test]
fn rest_has_the_same_content_under_paths() {
    for profile in REST {
        let lab = Lab::new(profile);
        let key = lab.nas.key("svc");
        let get = |path: &str| {
            let (status, body) = lab.rest("GET", path, &key, "");
            assert_eq!(status, 200, "{profile:?} {path} {body}");
            serde_json::from_str::<Value>(&body).expect("JSON")
        };
        let info = get("/api/v2.0/system/info");
        assert_eq!(info["version"], profile.info_version());
        assert_eq!(info.get("physical_cores").is_none(), profile == Profile::Core13);
        assert_eq!(get("/api/v2.0/system/info/")["hostname"], info["hostname"]);
        assert_eq!(get("/api/v2.0/pool").as_array().unwrap().len(), 4);
        assert_eq!(get("/api/v2.0/pool?name=tank&limit=1")[0]["name"], "tank");
        assert_eq!(get("/api/v2.0/pool?count=true"), 4);
        assert_eq!(get("/api/v2.0/pool?nosuch=1"), json!([]));
        assert_eq!(get("/api/v2.0/pool/id/1")["name"], "tank");
        assert_eq!(get("/api/v2.0/boot/get_state")["name"], "boot-pool");
        assert!(get("/api/v2.0/alert/list").as_array().unwrap().len() > 6);
        assert_eq!(get("/api/v2.0/pool/dataset/id/tank%2Fmedia")["children"][0]["id"], "tank/media/films");
        assert_eq!(get("/api/v2.0/pool/dataset?extra.retrieve_children=false").as_array().unwrap().len(), 3);
        let snapshots = format!("/api/v2.0/{}", profile.snapshot_service().replace('.', "/"));
        let media = format!("{snapshots}?dataset=tank%2Fmedia");
        assert_eq!(get(&media).as_array().unwrap().len(), 3);
        let body = r#"{"dataset": "tank/media", "name": "rest-1"}"#;
        let (status, made) = lab.rest("POST", &snapshots, &key, body);
        assert_eq!(status, 200, "{made}");
        assert_eq!(serde_json::from_str::<Value>(&made).unwrap()["id"], "tank/media@rest-1");
        assert_eq!(get(&media).as_array().unwrap().len(), 4);
        let (status, again) = lab.rest("POST", &snapshots, &key, body);
        let again: Value = serde_json::from_str(&again).unwrap();
        assert_eq!((status, &again["errno"]), (422, &json!(17)));
        let used = lab.nas.world(|world| world.alerts.iter().any(|alert| alert.klass == "RESTAPIUsage"));
        assert_eq!(used, profile == Profile::V25_10);
    }
}

#[test]
fn rest_refuses_as_the_vendor_does() {
    let broken = "500 Internal Server Error\n\nServer got itself in trouble";
    for profile in REST {
        let lab = Lab::new(profile);
        let key = lab.nas.key("svc");
        let viewer = lab.nas.key("viewer");
        let nobody = lab.nas.key("nobody");
        let expired = lab.nas.add_user("late", &["FULL_ADMIN"]);
        lab.nas.expire(&expired);
        let service = format!("/api/v2.0/{}", profile.snapshot_service().replace('.', "/"));
        let good = r#"{"dataset": "tank/media", "name": "ro"}"#;
        let new = profile >= Profile::V25_10;
        let other = if new { "/api/v2.0/zfs/snapshot" } else { "/api/v2.0/pool/snapshot" };
        let table: [(&str, &str, &str, &str, u16, &str); 14] = [
            ("GET", "/api/v2.0/system/info", "", "", 401, "401: Unauthorized"),
            ("GET", "/api/v2.0/system/info", "garbage", "", 401, "Invalid API key"),
            ("GET", "/api/v2.0/system/info", &expired, "", 401, "Invalid API key"),
            ("GET", "/api/v2.0/system/info", &nobody, "", 401, "Invalid API key"),
            ("GET", "/api/v2.0/system/info", "999-bad", "", 500, broken),
            ("GET", "/api/v2.0/pool/id/77", &key, "", 404, "{\n \"message\": \"\"\n}"),
            ("GET", "/api/v2.0/pool/id/tank", &key, "", 404, "{\n \"message\": \"\"\n}"),
            ("GET", "/api/v2.0/pool/dataset/id/tank%2Fnosuch", &key, "", 404, "{\n \"message\": \"\"\n}"),
            ("GET", "/api/v2.0/pool/dataset/id/tank/media", &key, "", 404, "404: Not Found"),
            ("GET", other, &key, "", 404, "404: Not Found"),
            ("DELETE", "/api/v2.0/system/info", &key, "", 405, "405: Method Not Allowed"),
            ("POST", &service, &viewer, good, 403, ""),
            ("GET", "/api/v2.0/pool?sort=-name", &key, "", 422, ""),
            ("POST", &service, &key, "{\"dataset\":", if new { 500 } else { 400 }, if new { broken } else { "" }),
        ];
        for (verb, path, key, body, status, text) in table {
            let answer = lab.rest(verb, path, key, body);
            assert_eq!(answer.0, status, "{profile:?} {verb} {path}: {}", answer.1);
            if !text.is_empty() || status == 403 {
                assert_eq!(answer.1, text, "{profile:?} {verb} {path}");
            }
        }
        let (status, refused) =
            lab.rest("POST", &service, &key, r#"{"dataset": "tank/media", "name": "q", "surprise": 1}"#);
        let refused: Value = serde_json::from_str(&refused).unwrap();
        let (field, text) = if new {
            ("data.PoolSnapshotCreateWithName.surprise", "Extra inputs are not permitted")
        } else {
            ("snapshot_create.surprise", "Field was not expected")
        };
        assert_eq!((status, &refused[field]), (422, &json!([{"message": text, "errno": 22}])));
        let (status, gone) = lab.rest("DELETE", &format!("{service}/id/tank%2Fmedia%40nosuch"), &key, "");
        let gone: Value = serde_json::from_str(&gone).unwrap();
        assert_eq!((status, &gone["null"][0]["errno"]), (422, &json!(2)));
    }
}
