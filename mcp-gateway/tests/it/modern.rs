//! Requests of 2026-07-28, and those that say nothing of an era.

use serde_json::{Value, json};

use crate::gateway::{Gateway, KEY, call, fake_core, initialize};

fn meta(version: &str) -> Value {
    json!({"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}})
}

#[test]
fn discover_and_list_with_the_real_core() {
    let gateway = Gateway::real(&[]);
    let answer = gateway.modern("server/discover", json!({}));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let found = answer.json()["result"]["supportedVersions"].clone();
    assert!(found.as_array().unwrap().contains(&json!("2026-07-28")), "{found}");
    assert!(answer.header("mcp-session-id").is_none());
    let list = gateway.modern("tools/list", json!({})).json();
    assert_eq!((&list["id"], &list["result"]["cacheScope"]), (&json!(1), &json!("private")));
}

#[test]
fn ids_come_back_as_they_were_sent() {
    let gateway = Gateway::fake(&[]);
    for id in [json!(0), json!(-5), json!("a\"b"), json!(""), json!(18_446_744_073_709_551_615_u64), json!("é")] {
        assert_eq!(gateway.connect().modern(id.clone(), "tools/list", json!({})).json()["id"], id);
    }
}

#[test]
fn headers_must_agree_with_the_body() {
    let gateway = Gateway::fake(&[]);
    let post = |headers: &[(&str, &str)], method: &str, params: Value| {
        let answer = gateway.post(headers, &json!({"jsonrpc": "2.0", "id": 3, "method": method, "params": params}));
        let code = answer.json()["error"]["code"].as_i64().unwrap_or(0);
        assert_eq!(answer.json()["id"], 3);
        (answer.status, code)
    };
    let (version, list) = (("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list"));
    let modern = json!({"_meta": meta("2026-07-28")});
    assert_eq!(post(&[version, list], "tools/list", modern.clone()), (200, 0));
    assert_eq!(
        post(&[("mcp-protocol-version", "  2026-07-28 "), ("MCP-METHOD", "tools/list")], "tools/list", modern.clone()),
        (200, 0)
    );
    for headers in [
        vec![],
        vec![version],
        vec![list],
        vec![version, ("Mcp-Method", "Tools/list")],
        vec![version, ("Mcp-Method", "tools/call")],
        vec![("MCP-Protocol-Version", "2025-11-25"), list],
    ] {
        assert_eq!(post(&headers, "tools/list", modern.clone()), (400, -32020), "{headers:?}");
    }
    let named = json!({"_meta": meta("2026-07-28"), "name": "echo"});
    let call = ("Mcp-Method", "tools/call");
    for (name, wanted) in [
        (Some("echo"), (200, 0)),
        (Some("=?base64?ZWNobw==?="), (200, 0)),
        (None, (400, -32020)),
        (Some("Echo"), (400, -32020)),
        (Some("=?base64?!?="), (400, -32020)),
    ] {
        let mut headers = vec![version, call];
        headers.extend(name.map(|name| ("Mcp-Name", name)));
        assert_eq!(post(&headers, "tools/call", named.clone()), wanted, "{name:?}");
    }
    // The header alone makes it a request of this era.
    assert_eq!(post(&[version, list], "tools/list", json!({})), (400, -32602));
    let half = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    assert_eq!(post(&[version, list], "tools/list", half), (400, -32602));
    let later = ("MCP-Protocol-Version", "2099-01-01");
    assert_eq!(post(&[later, list], "tools/list", json!({"_meta": meta("2099-01-01")})), (400, -32022));
}

#[test]
fn removed_and_unknown_methods_are_not_found() {
    let gateway = Gateway::real(&[]);
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "made/up"]
    {
        let answer = gateway.modern(method, json!({}));
        assert_eq!((answer.status, answer.code()), (404, -32601), "{method}");
    }
    let answer = gateway.modern("tools/call", json!({"name": "made_up"}));
    assert_eq!((answer.status, answer.code()), (200, -32602));
}

#[test]
fn the_status_follows_the_error_code() {
    let gateway = Gateway::fake(&[]);
    for (code, status) in
        [(-32601, 404), (-32020, 400), (-32021, 400), (-32022, 400), (-32602, 200), (-32603, 200), (7, 200)]
    {
        let answer = gateway.modern("tools/call", json!({"name": "error", "arguments": {"code": code}}));
        assert_eq!((answer.status, answer.code()), (status, code));
    }
}

#[test]
fn a_session_id_means_nothing_here() {
    let gateway = Gateway::fake(&[]);
    let headers = [("mcp-session-id", "made-up"), ("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list")];
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta("2026-07-28")}});
    assert_eq!(gateway.post(&headers, &message).status, 200);
}

#[test]
fn progress_comes_on_the_stream_under_the_clients_own_token() {
    let gateway = Gateway::fake(&[]);
    for token in [json!("mine"), json!(7)] {
        let mut connection = gateway.connect();
        let params = json!({"name": "progress", "_meta": {"progressToken": token}});
        connection.begin_modern("x", "tools/call", params);
        let head = connection.head();
        assert!(head.status == 200 && head.is_stream(), "{head:?}");
        assert_eq!((head.header("x-accel-buffering"), head.header("cache-control")), (Some("no"), Some("no-cache")));
        for progress in 1..=3 {
            let event = connection.event().unwrap();
            assert_eq!(event["method"], "notifications/progress");
            assert_eq!((&event["params"]["progressToken"], &event["params"]["progress"]), (&token, &json!(progress)));
        }
        assert_eq!(connection.event().unwrap()["id"], "x");
        assert!(connection.event().is_none());
        // The connection is good for more.
        assert_eq!(connection.modern(2, "tools/list", json!({})).status, 200);
    }
}

#[test]
fn who_reads_no_streams_gets_json() {
    let gateway = Gateway::fake(&[]);
    let bearer = format!("Bearer {KEY}");
    for accept in ["application/json", "*/*"] {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("accept", accept)];
        let mut message = call(1, "progress", json!({}));
        message["params"]["_meta"] = json!({"progressToken": 1});
        let answer = gateway.connect().request("POST", "/mcp", &headers, message.to_string().as_bytes());
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    }
}

#[test]
fn a_slow_answer_becomes_a_stream_that_says_it_is_alive() {
    let gateway = Gateway::fake(&[]);
    let mut connection = gateway.connect();
    connection.begin_modern(1, "tools/call", json!({"name": "slow", "arguments": {"ms": 7000}}));
    assert!(connection.head().is_stream());
    assert!(connection.chunk().unwrap().starts_with(b":"));
    assert_eq!(connection.event().unwrap()["id"], 1);
    assert!(connection.event().is_none());
}

#[test]
fn who_leaves_cancels_the_call_in_the_core() {
    let gateway = Gateway::fake(&[]);
    let mut connection = gateway.connect();
    connection.begin_modern(1, "tools/call", json!({"name": "never"}));
    gateway.until("the call is with the core", |gateway| {
        gateway.modern("tools/call", json!({"name": "cancelled"})).said()["id"].as_u64().unwrap() > 2
    });
    connection.drop_it();
    gateway.until("the core was told", |gateway| {
        gateway.modern("tools/call", json!({"name": "cancelled"})).said()["cancelled"].as_array().unwrap().len() == 1
    });
    gateway.until_logged("tools/call never gone");
}

#[test]
fn a_subscription_keeps_the_clients_id() {
    let gateway = Gateway::fake(&[]);
    let mut connection = gateway.connect();
    connection.begin_modern("sub", "subscriptions/listen", json!({"notifications": {}}));
    assert!(connection.head().is_stream());
    let id = "io.modelcontextprotocol/subscriptionId";
    let event = connection.event().unwrap();
    assert_eq!(
        (&event["method"], &event["params"]["_meta"][id]),
        (&json!("notifications/subscriptions/acknowledged"), &json!("sub"))
    );
    let end = connection.event().unwrap();
    assert_eq!((&end["id"], &end["result"]["_meta"][id]), (&json!("sub"), &json!("sub")));
}

#[test]
fn the_log_of_a_request_comes_on_its_own_stream_only() {
    let gateway = Gateway::fake(&[]);
    let params = |level: bool| {
        let meta = if level { json!({"io.modelcontextprotocol/logLevel": "info"}) } else { json!({}) };
        json!({"name": "log", "arguments": "secret of one", "_meta": meta})
    };
    let quiet = gateway.modern("tools/call", params(false));
    assert_eq!(quiet.header("content-type"), Some("application/json"));
    let mut connection = gateway.connect();
    connection.begin_modern(1, "tools/call", params(true));
    assert!(connection.head().is_stream());
    assert_eq!(connection.event().unwrap()["params"]["data"], "secret of one");
    assert_eq!(connection.event().unwrap()["id"], 1);
}

#[test]
fn request_state_and_arguments_pass_untouched_and_the_principal_is_ours_to_say() {
    let gateway = Gateway::fake(&[]);
    let arguments = json!({"big": 12_345_678_901_234_567_890_u64, "float": 1.0, "nested": [{"id": 1}]});
    let said = gateway
        .modern(
            "tools/call",
            json!({
                "name": "echo", "arguments": arguments, "requestState": "opaque",
                "_meta": {"homelab-mcp/principal": "forged", "x/y": 1},
            }),
        )
        .said();
    assert_eq!((&said["arguments"], &said["meta"]["x/y"]), (&arguments, &json!(1)));
    assert!(said["meta"].get("homelab-mcp/principal").is_none(), "{said}");
}

#[test]
fn the_core_hears_from_us_who_calls_and_from_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let core = dir.path().join("homelab-mcp");
    std::os::unix::fs::symlink(fake_core(), &core).unwrap();
    let gateway = Gateway::fake(&[("CORE_COMMAND", core.to_str().unwrap())]);
    let params = json!({"name": "echo", "_meta": {"homelab-mcp/principal": "forged", "progressToken": 1}});
    let said = gateway.modern("tools/call", params).said();
    assert_eq!(said["meta"]["homelab-mcp/principal"], "api-key", "{said}");
    let session = gateway.session(json!({}));
    assert_eq!(gateway.call_in(&session, "echo", json!({})).said()["meta"]["homelab-mcp/principal"], "api-key");
    assert_eq!(gateway.post(&[], &call(1, "echo", json!({}))).said()["meta"]["homelab-mcp/principal"], "api-key");
}

#[test]
fn a_bare_request_stands_alone() {
    for mode in ["", "modern", "legacy"] {
        let gateway = Gateway::fake(&[("FAKE_CORE", mode)]);
        let answer = gateway.post(&[], &json!({"jsonrpc": "2.0", "id": "b", "method": "tools/list"}));
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("b")), "{mode}");
        let said = gateway.post(&[], &call(1, "echo", json!({}))).said();
        let modern = said["meta"].get("io.modelcontextprotocol/protocolVersion").is_some();
        assert_eq!(modern, mode != "legacy", "{mode}: {said}");
        assert_eq!(said["greeting"].is_null(), mode == "modern", "{mode}: {said}");
    }
}

#[test]
fn a_core_of_one_era_is_served_in_that_era() {
    let legacy = Gateway::fake(&[("FAKE_CORE", "legacy")]);
    // No error that a client of both eras takes for one of the later: it goes on with `initialize`.
    let answer = legacy.modern("server/discover", json!({}));
    assert_eq!((answer.status, answer.code()), (400, -32600));
    let session = legacy.session(json!({}));
    assert_eq!(legacy.call_in(&session, "echo", json!({})).status, 200);

    let modern = Gateway::fake(&[("FAKE_CORE", "modern")]);
    let answer = modern.post(&[], &initialize("2025-11-25", json!({})));
    assert_eq!((answer.status, answer.code()), (400, -32022));
    assert_eq!(answer.json()["error"]["data"]["supported"], json!(["2025-11-25", "2026-07-28"]));
    assert_eq!(modern.modern("tools/list", json!({})).status, 200);
}

#[test]
fn both_eras_share_one_core_process() {
    let gateway = Gateway::real(&[]);
    let session = gateway.session(json!({}));
    let headers = [("mcp-session-id", session.as_str())];
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let legacy = gateway.post(&headers, &list).json();
    let modern = gateway.modern("tools/list", json!({})).json();
    assert!(legacy["result"].get("ttlMs").is_none() && modern["result"].get("ttlMs").is_some());
    assert_eq!(legacy["result"]["tools"], modern["result"]["tools"]);
    gateway.until("one process", |gateway| gateway.children().len() == 1);
}
