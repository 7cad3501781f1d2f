//! Sessions of the versions up to 2025-11-25.

use serde_json::{Value, json};

use crate::gateway::{Gateway, KEY, call, exists, initialize, signal};

/// The capabilities of a client that can be asked.
fn elicitation() -> Value {
    json!({"elicitation": {}})
}

fn in_session(session: &str) -> [(&str, &str); 1] {
    [("mcp-session-id", session)]
}

fn bearer() -> String {
    format!("Bearer {KEY}")
}

#[test]
fn a_session_from_hello_to_goodbye() {
    let gateway = Gateway::real(&[]);
    for (asked, agreed) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("nonsense", "2025-11-25"),
    ] {
        let answer = gateway.post(&[], &initialize(asked, json!({})));
        assert_eq!((answer.status, &answer.json()["result"]["protocolVersion"]), (200, &json!(agreed)), "{answer:?}");
        assert_eq!(answer.json()["id"], 0);
        let session = answer.header("mcp-session-id").unwrap().to_owned();
        let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", agreed)];
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let answer = gateway.post(&headers, &initialized);
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        let answer = gateway.post(&headers, &json!({"jsonrpc": "2.0", "id": 5, "method": "tools/list"}));
        assert!(answer.status == 200 && answer.json()["result"].get("resultType").is_none(), "{answer:?}");
        assert_eq!(
            gateway.post(&headers, &json!({"jsonrpc": "2.0", "id": 6, "method": "ping"})).json()["result"],
            json!({})
        );
        let unknown = gateway.post(&headers, &json!({"jsonrpc": "2.0", "id": 7, "method": "made/up"}));
        assert_eq!((unknown.status, unknown.code()), (200, -32601));
        let delete = |headers: &[(&str, &str)]| {
            let bearer = bearer();
            gateway
                .connect()
                .request("DELETE", "/mcp", &[&[("authorization", bearer.as_str())], headers].concat(), b"")
                .status
        };
        assert_eq!((delete(&headers), delete(&headers)), (204, 404));
        assert_eq!(gateway.post(&headers, &call(1, "x", json!({}))).status, 404);
    }
    assert_eq!(gateway.metric("mcp_gateway_sessions"), 0);
}

#[test]
fn a_session_must_be_known_and_ones_own() {
    let secret = "secret-0123456789-x";
    let gateway = Gateway::fake(&[("OAUTH_CLIENT_ID", "tablet"), ("OAUTH_CLIENT_SECRET", secret)]);
    let session = gateway.session(json!({}));
    let form = format!("grant_type=client_credentials&client_id=tablet&client_secret={secret}");
    let token = gateway.connect().request("POST", "/oauth/token", &[], form.as_bytes()).json();
    let other = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let mine = bearer();
    let made_up = "0123456789abcdef0123456789abcdef";
    for (authorization, id, status) in [
        (&mine, Some(session.as_str()), 200),
        (&other, Some(session.as_str()), 404),
        (&mine, Some(made_up), 404),
        (&mine, Some("'"), 404),
    ] {
        for method in ["POST", "GET", "DELETE"] {
            if status == 200 && method != "POST" {
                continue;
            }
            let mut headers = vec![("authorization", authorization.as_str()), ("content-type", "application/json")];
            headers.extend(id.map(|id| ("mcp-session-id", id)));
            let body = if method == "POST" { call(1, "echo", json!({})).to_string() } else { String::new() };
            assert_eq!(
                gateway.connect().request(method, "/mcp", &headers, body.as_bytes()).status,
                status,
                "{method} {id:?}"
            );
        }
    }
    // A version of this era and no session: one is needed.
    let answer = gateway.post(&[("mcp-protocol-version", "2025-11-25")], &call(1, "echo", json!({})));
    assert_eq!((answer.status, answer.code()), (400, -32600));
    let answer = gateway
        .post(&[("mcp-session-id", &session), ("mcp-protocol-version", "2020-01-01")], &call(1, "echo", json!({})));
    assert_eq!(answer.status, 400);
    let get =
        gateway.connect().request("GET", "/mcp", &[("authorization", &mine), ("accept", "text/event-stream")], b"");
    assert_eq!(get.status, 405);
}

#[test]
fn a_session_ends_when_it_was_not_used_for_long() {
    let gateway = Gateway::fake(&[("SESSION_TTL", "1")]);
    let session = gateway.session(json!({}));
    let mut stream = gateway.connect();
    stream.send("GET", "/mcp", &[("authorization", &bearer()), ("mcp-session-id", &session)], b"");
    assert!(stream.head().is_stream());
    assert!(stream.event().is_none(), "its stream does not keep it alive, and ends with it");
    assert_eq!(gateway.metric("mcp_gateway_sessions"), 0);
    assert_eq!(gateway.call_in(&session, "echo", json!({})).status, 404);
}

#[test]
fn too_many_sessions_cost_the_oldest() {
    let gateway = Gateway::fake(&[("MAX_SESSIONS", "3")]);
    let sessions: Vec<_> = (0..4).map(|_| gateway.session(json!({}))).collect();
    assert_eq!(gateway.call_in(&sessions[0], "echo", json!({})).status, 404);
    assert_eq!(gateway.call_in(&sessions[1], "echo", json!({})).status, 200);
    assert_eq!(gateway.metric("mcp_gateway_sessions"), 3);
}

#[test]
fn sessions_share_a_worker_and_each_is_greeted_alike() {
    let gateway = Gateway::fake(&[]);
    let (one, other) = (gateway.session(json!({})), gateway.session(json!({})));
    let said = |session: &str| gateway.call_in(session, "echo", json!({})).said();
    assert_eq!(said(&one)["pid"], said(&other)["pid"]);
    assert_eq!(said(&one)["greeting"]["clientInfo"]["name"], "mcp-gateway");
    assert_eq!(said(&one)["notifications"], json!(["notifications/initialized"]));
}

#[test]
fn a_client_that_can_be_asked_has_a_worker_for_itself() {
    let gateway = Gateway::fake(&[]);
    let shared = gateway.modern("tools/call", json!({"name": "echo"})).said()["pid"].clone();
    let (one, other) = (gateway.session(elicitation()), gateway.session(elicitation()));
    gateway.until("sessions alone cost no process", |gateway| gateway.children().len() == 1);
    let said = |session: &str| gateway.call_in(session, "echo", json!({})).said();
    let (first, second) = (said(&one), said(&other));
    assert!(first["pid"] != second["pid"] && first["pid"] != shared && second["pid"] != shared);
    assert_eq!(first["greeting"]["capabilities"], elicitation());
    assert_eq!(first["notifications"], json!(["notifications/initialized"]));
    assert_eq!(said(&one)["pid"], first["pid"], "it waits for the next call");
    // The end of the session is the end of its process.
    gateway.connect().request("DELETE", "/mcp", &[("authorization", &bearer()), ("mcp-session-id", &one)], b"");
    let pid = u32::try_from(first["pid"].as_u64().unwrap()).unwrap();
    gateway.until("it has gone", |_| !exists(pid));
}

#[test]
fn the_core_asks_and_the_client_answers() {
    let gateway = Gateway::fake(&[]);
    let session = gateway.session(elicitation());
    let mut connection = gateway.connect();
    connection.begin(&in_session(&session), &call("c", "ask", json!({})));
    assert!(connection.head().is_stream());
    let question = connection.event().unwrap();
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&json!("elicitation/create"), &json!("Really?"))
    );
    // Another caller's answer, and one to nothing.
    let stranger = gateway.session(elicitation());
    let answer =
        json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"by": "stranger"}}});
    assert_eq!(gateway.post(&in_session(&stranger), &answer).status, 202);
    assert_eq!(gateway.post(&in_session(&session), &json!({"jsonrpc": "2.0", "id": 0, "result": {}})).status, 202);
    assert_eq!(gateway.post(&[], &answer).status, 400);
    let answer =
        json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"by": "me"}}});
    let accepted = gateway.post(&in_session(&session), &answer);
    assert_eq!((accepted.status, accepted.body.len()), (202, 0));
    let said = connection.event().unwrap();
    assert_eq!(said["id"], "c");
    assert!(said["result"]["content"][0]["text"].as_str().unwrap().contains(r#""by":"me""#), "{said}");
    assert!(connection.event().is_none());
}

#[test]
fn a_question_goes_to_the_sessions_own_stream_when_the_call_has_none() {
    let gateway = Gateway::fake(&[]);
    let session = gateway.session(elicitation());
    let bearer = bearer();
    let mut stream = gateway.connect();
    stream.send(
        "GET",
        "/mcp",
        &[("authorization", &bearer), ("mcp-session-id", &session), ("accept", "text/event-stream")],
        b"",
    );
    assert!(stream.head().is_stream());
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("mcp-session-id", &session)];
    let mut connection = gateway.connect();
    connection.send("POST", "/mcp", &headers, call(1, "ask", json!({})).to_string().as_bytes());
    let question = stream.event().unwrap();
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}});
    assert_eq!(gateway.post(&in_session(&session), &answer).status, 202);
    assert_eq!(connection.answer().said()["error"]["code"], -1);
    // With the session its stream ends.
    gateway.connect().request("DELETE", "/mcp", &[("authorization", &bearer), ("mcp-session-id", &session)], b"");
    assert!(stream.event().is_none());
}

#[test]
fn nobody_to_ask_is_said_to_the_core() {
    let gateway = Gateway::fake(&[]);
    let session = gateway.session(json!({}));
    let said = gateway.call_in(&session, "ask", json!({})).said();
    assert_eq!(said["error"]["code"], -32603);
}

#[test]
fn who_leaves_does_not_cancel_and_who_cancels_does() {
    let gateway = Gateway::fake(&[]);
    let session = gateway.session(json!({}));
    let cancelled =
        || gateway.modern("tools/call", json!({"name": "cancelled"})).said()["cancelled"].as_array().unwrap().len();
    let mut connection = gateway.connect();
    connection.begin(&in_session(&session), &call("x", "never", json!({})));
    let mut other = gateway.connect();
    other.begin(&in_session(&session), &call("y", "slow", json!({"ms": 300})));
    assert_eq!(other.answer().status, 200);
    connection.drop_it();
    gateway.until_logged("tools/call never gone");
    assert_eq!(cancelled(), 0);
    let cancel = |session: &str, id: &str| {
        let message = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        assert_eq!(gateway.post(&in_session(session), &message).status, 202);
    };
    cancel(&gateway.session(json!({})), "x");
    cancel(&session, "z");
    assert_eq!(cancelled(), 0, "neither another session's nor an unknown id");
    cancel(&session, "x");
    gateway.until("the core was told", |_| cancelled() == 1);
}

#[test]
fn progress_and_log_come_on_the_calls_stream() {
    let gateway = Gateway::fake(&[]);
    let session = gateway.session(elicitation());
    let mut message = call(1, "progress", json!({}));
    message["params"]["_meta"] = json!({"progressToken": "p"});
    let mut connection = gateway.connect();
    connection.begin(&in_session(&session), &message);
    assert!(connection.head().is_stream());
    for _ in 0..3 {
        assert_eq!(connection.event().unwrap()["params"]["progressToken"], "p");
    }
    assert_eq!(connection.event().unwrap()["id"], 1);
    let mut connection = gateway.connect();
    connection.begin(&in_session(&session), &call(2, "log", json!("words")));
    assert!(connection.head().is_stream());
    assert_eq!(connection.event().unwrap()["params"]["data"], "words");
}

#[test]
fn a_session_outlives_its_workers() {
    let gateway = Gateway::fake(&[]);
    for capabilities in [json!({}), elicitation()] {
        let session = gateway.session(capabilities);
        let pid = gateway.call_in(&session, "echo", json!({})).said()["pid"].as_u64().unwrap();
        signal(u32::try_from(pid).unwrap(), "KILL");
        gateway.until("a new process answers", |gateway| {
            let answer = gateway.call_in(&session, "echo", json!({}));
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            answer.json().get("result").is_some() && answer.said()["pid"] != pid
        });
    }
}

#[test]
fn what_changes_the_process_for_a_client_gets_a_process_of_its_own() {
    let gateway = Gateway::fake(&[]);
    let session = gateway.session(json!({}));
    let shared = gateway.call_in(&session, "echo", json!({})).said()["pid"].clone();
    let level = json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}});
    assert_eq!(gateway.post(&in_session(&session), &level).status, 200);
    assert_ne!(gateway.call_in(&session, "echo", json!({})).said()["pid"], shared);
    assert_eq!(gateway.modern("tools/call", json!({"name": "echo"})).said()["pid"], shared);
}

#[test]
fn long_greetings_are_refused() {
    let gateway = Gateway::fake(&[]);
    let answer = gateway.post(&[], &initialize("2025-11-25", json!({"x": "y".repeat(20_000)})));
    assert_eq!((answer.status, answer.code()), (400, -32602));
}

#[test]
fn processes_of_sessions_are_bounded_and_idle_ones_make_room() {
    let gateway = Gateway::fake(&[]);
    let sessions: Vec<_> = (0..40).map(|_| gateway.session(elicitation())).collect();
    for session in &sessions {
        assert_eq!(gateway.call_in(session, "echo", json!({})).status, 200);
    }
    // The shared one, the spare, and those that still end beside them.
    gateway.until("not too many", |gateway| gateway.children().len() <= 34);
    assert_eq!(gateway.call_in(&sessions[0], "echo", json!({})).status, 200);
}
