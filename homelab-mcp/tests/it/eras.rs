//! The two eras of MCP on one process, decided for every request: 2026-07-28 by its `_meta`, the earlier revisions by
//! `initialize`, and a bare request with neither.

use serde_json::{Value, json};

use crate::{
    stand_in::StandIn,
    support::Core,
    wire::{LEGACY, MODERN, ask, code, initialize, modern, modern_with, text},
};

const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// What a result of 2026-07-28 has and one of an earlier revision must not have.
#[track_caller]
fn assert_modern(answer: &Value) {
    let result = &answer["result"];
    assert_eq!(result["resultType"], "complete", "{answer:.300}");
    assert_eq!(result["_meta"][SERVER_INFO]["name"], "homelab-mcp", "{answer:.300}");
    assert_eq!(result["_meta"][SERVER_INFO]["version"], env!("CARGO_PKG_VERSION"));
}

#[track_caller]
fn assert_legacy(answer: &Value) {
    let result = answer["result"].as_object().unwrap_or_else(|| panic!("{answer:.300}"));
    for member in ["resultType", "ttlMs", "cacheScope", "_meta"] {
        assert!(!result.contains_key(member), "{member} in {answer:.300}");
    }
}

#[test]
fn one_process_serves_both_eras_and_bare_requests_in_any_order() {
    let mut core = Core::start(&[]);
    let status = json!({"name": "operation_status", "arguments": {}});
    for round in 0..2 {
        assert_modern(&ask(&mut core, "server/discover", modern(json!({}))));
        assert_modern(&ask(&mut core, "tools/list", modern(json!({}))));
        assert_legacy(&ask(&mut core, "tools/list", json!({})));
        let version = LEGACY[round * 3];
        assert_eq!(initialize(&mut core, version, json!({}))["protocolVersion"], version);
        assert_legacy(&ask(&mut core, "tools/list", json!({})));
        assert_legacy(&ask(&mut core, "tools/call", status.clone()));
        assert_modern(&ask(&mut core, "tools/call", modern(status.clone())));
        assert_legacy(&ask(&mut core, "ping", json!({})));
        assert_modern(&ask(&mut core, "tools/list", modern(json!({}))));
    }
    core.finish();
}

#[test]
fn discover_tells_versions_capabilities_and_how_long_it_holds() {
    let mut core = Core::start(&[]);
    let answer = ask(&mut core, "server/discover", modern(json!({})));
    let result = &answer["result"];
    let versions: Vec<_> = LEGACY.into_iter().chain([MODERN]).collect();
    assert_eq!(result["supportedVersions"], json!(versions));
    assert_eq!(result["capabilities"], json!({"tools": {}}), "no listChanged: the list is fixed");
    assert!(result["instructions"].as_str().is_some_and(|text| text.contains("untrusted")), "{answer}");
    assert!(result["ttlMs"].as_u64().is_some_and(|ttl| ttl > 0));
    assert_eq!(result["cacheScope"], "private");
    core.finish();
}

#[test]
fn the_list_of_2026_07_28_may_be_cached_privately_and_is_the_same_list() {
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "3")]);
    let new = ask(&mut core, "tools/list", modern(json!({})));
    assert!(new["result"]["ttlMs"].as_u64().is_some_and(|ttl| ttl > 0));
    assert_eq!(new["result"]["cacheScope"], "private");
    let bare = ask(&mut core, "tools/list", json!({}));
    assert_eq!(new["result"]["tools"], bare["result"]["tools"]);
    core.finish();
}

#[test]
fn initialize_agrees_on_each_earlier_version_and_offers_the_newest_of_them_for_any_other() {
    for (asked, agreed) in LEGACY
        .into_iter()
        .map(|version| (version, version))
        .chain([MODERN, "1900-01-01", "2025-07-01", "2099-01-01", "", "x"].map(|asked| (asked, "2025-11-25")))
    {
        let mut core = Core::start(&[]);
        let result = initialize(&mut core, asked, json!({}));
        assert_eq!(result["protocolVersion"], agreed, "asked for {asked:?}");
        assert_eq!(result["serverInfo"]["name"], "homelab-mcp");
        assert_eq!(result["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(result["capabilities"]["tools"].is_object() && result["instructions"].is_string());
        assert_legacy(&json!({"result": result}));
        assert_legacy(&ask(&mut core, "tools/list", json!({})));
        assert_legacy(&ask(&mut core, "tools/call", json!({"name": "operation_status"})));
        core.finish();
    }
}

#[test]
fn initialize_without_form_is_32602() {
    let mut core = Core::start(&[]);
    for params in
        [json!({}), json!({"protocolVersion": 5, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}})]
    {
        assert_eq!(code(&ask(&mut core, "initialize", params)), -32602);
    }
    core.finish();
}

#[test]
fn a_real_handshake_is_served_also_with_the_meta_of_the_new_era() {
    let mut core = Core::start(&[]);
    let params =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
    let answer = ask(&mut core, "initialize", modern(params));
    assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{answer}");
    core.finish();
}

#[test]
fn an_unsupported_version_is_32022_and_says_which_are() {
    let mut core = Core::start(&[]);
    for method in ["server/discover", "tools/list", "tools/call"] {
        for version in ["1900-01-01", "2026-07-29", "2099-01-01", "", "x"] {
            let mut params = modern(json!({"name": "operation_status"}));
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(version);
            let answer = ask(&mut core, method, params);
            assert_eq!(code(&answer), -32022, "{method} {version}: {answer}");
            let supported: Vec<_> = LEGACY.into_iter().chain([MODERN]).collect();
            assert_eq!(
                answer["error"]["data"],
                json!({"requested": version, "supported": supported}),
                "{method} {version}"
            );
        }
    }
    core.finish();
}

#[test]
fn missing_or_malformed_meta_members_are_32602() {
    let mut core = Core::start(&[]);
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    for method in ["tools/list", "tools/call", "server/discover"] {
        for meta in [
            json!({version: MODERN}),
            json!({version: MODERN, capabilities: 5}),
            json!({version: MODERN, capabilities: null}),
            json!({version: 5, capabilities: {}}),
            json!({version: ["2026-07-28"], capabilities: {}}),
            json!("x"),
        ] {
            let answer = ask(&mut core, method, json!({"name": "operation_status", "_meta": meta}));
            assert_eq!(code(&answer), -32602, "{method} with {meta}: {answer:.300}");
        }
    }
    // Where only the new era has the method, its members are missed by name.
    let answer = ask(&mut core, "server/discover", json!({"_meta": {}}));
    assert_eq!(code(&answer), -32602);
    assert!(answer["error"]["message"].as_str().unwrap().contains(version), "{answer}");
    core.finish();
}

#[test]
fn what_the_new_era_removed_is_32601_there() {
    let mut core = Core::start(&[]);
    for method in
        ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "nothing/at/all"]
    {
        let answer = ask(&mut core, method, modern(json!({})));
        assert_eq!(code(&answer), -32601, "{method}: {answer}");
    }
    assert_eq!(code(&ask(&mut core, "subscriptions/listen", modern(json!({"notifications": {}})))), -32601);
    // The same ping is answered where it exists.
    assert_eq!(ask(&mut core, "ping", json!({}))["result"], json!({}));
    core.finish();
}

#[test]
fn a_probe_of_the_new_era_without_its_meta_is_an_error_at_once() {
    // Clients of both eras then fall back to `initialize`.
    let mut core = Core::start(&[]);
    core.send(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#);
    assert!([-32601, -32602].contains(&code(&core.answer(1))));
    assert_eq!(initialize(&mut core, "2025-11-25", json!({}))["protocolVersion"], "2025-11-25");
    core.finish();
}

#[test]
fn unknown_tools_and_cursors_are_32602_in_the_new_era_too() {
    let mut core = Core::start(&[]);
    assert_eq!(code(&ask(&mut core, "tools/call", modern(json!({"name": "nothing"})))), -32602);
    assert_eq!(code(&ask(&mut core, "tools/list", modern(json!({"cursor": "x"})))), -32602);
    assert_eq!(code(&ask(&mut core, "tools/call", modern(json!({"arguments": {}})))), -32602);
    core.finish();
}

#[test]
fn tool_errors_are_results_in_both_eras() {
    let mut core = Core::start(&[]);
    let call = json!({"name": "docker_exec", "arguments": {}});
    let new = ask(&mut core, "tools/call", modern(call.clone()));
    assert_modern(&new);
    let old = ask(&mut core, "tools/call", call);
    assert_legacy(&old);
    assert_eq!((&new["result"]["isError"], &old["result"]["isError"]), (&json!(true), &json!(true)));
    assert_eq!(text(&new), text(&old));
    core.finish();
}

const ELICITATION: &str = "elicitation/create";

fn restart() -> Value {
    json!({"name": "docker_restart_container", "arguments": {"container": "web"}})
}

fn asking_core(engine: &StandIn) -> Core {
    Core::start(&[("CAPABILITY_LEVEL", "2"), ("CONFIRM", "changes"), ("DOCKER_HOST", &engine.host())])
}

#[test]
fn the_new_era_asks_by_its_result_and_never_by_a_request() {
    let engine = StandIn::engine(|_| None);
    let mut core = asking_core(&engine);
    let capabilities = json!({"elicitation": {}});
    let answer = ask(&mut core, "tools/call", modern_with(restart(), capabilities.clone()));
    let result = &answer["result"];
    assert_eq!(result["resultType"], "input_required", "{answer}");
    let question = &result["inputRequests"]["confirm"];
    assert_eq!(question["method"], ELICITATION);
    assert!(question["params"]["message"].as_str().unwrap().contains("web"), "{answer}");
    assert_eq!(engine.asked("POST"), 0, "nothing is done before the answer");

    let mut again = restart();
    again["requestState"] = result["requestState"].clone();
    again["inputResponses"] = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let id = core.request("tools/call", modern_with(again, capabilities));
    let done = core.answer(id);
    assert_modern(&done);
    assert_eq!(done["result"]["structuredContent"]["outcome"], "changed", "{done}");
    assert_eq!(engine.asked("/restart"), 1);
    assert!(!core.unasked().iter().any(|message| message.get("method").is_some()));
    core.finish();
}

#[test]
fn a_session_that_asked_for_2026_07_28_in_initialize_stays_in_the_era_it_was_told() {
    // It was told 2025-11-25, so it is asked by a request, not by a result it does not know.
    for asked in [MODERN, "2025-06-18"] {
        let engine = StandIn::engine(|_| None);
        let mut core = asking_core(&engine);
        initialize(&mut core, asked, json!({"elicitation": {}}));
        let id = core.request("tools/call", restart());
        let question = core.wait_for(|message| message.get("method").is_some());
        assert_eq!(question["method"], ELICITATION, "{asked}: {question}");
        assert_eq!(engine.asked("POST"), 0);
        let accept = json!({"action": "accept", "content": {"confirm": true}});
        core.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": accept}).to_string());
        let done = core.answer(id);
        assert_legacy(&done);
        assert_eq!(done["result"]["structuredContent"]["outcome"], "changed", "{done}");
        core.finish();
    }
}

#[test]
fn a_question_still_open_at_the_end_of_input_counts_as_unanswered() {
    let engine = StandIn::engine(|_| None);
    let mut core = asking_core(&engine);
    initialize(&mut core, "2025-11-25", json!({"elicitation": {}}));
    let id = core.begin("docker_restart_container", json!({"container": "web"}));
    core.wait_for(|message| message["method"] == ELICITATION);
    core.close();
    let answer = core.answer(id);
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "refused", "{answer}");
    assert_eq!(engine.asked("POST"), 0);
    assert!(core.end().success());
}

#[test]
fn a_client_without_a_dialog_gets_a_code_in_every_era() {
    let engine = StandIn::engine(|_| None);
    for era in ["bare", "legacy", "modern"] {
        let mut core = asking_core(&engine);
        if era == "legacy" {
            initialize(&mut core, "2025-11-25", json!({}));
        }
        let params = if era == "modern" { modern(restart()) } else { restart() };
        let answer = ask(&mut core, "tools/call", params);
        let content = &answer["result"]["structuredContent"];
        assert_eq!(content["outcome"], "needs_confirmation", "{era}: {answer}");
        assert!(content["confirm"].as_str().is_some_and(|code| code.len() > 20));
        core.finish();
    }
    assert_eq!(engine.asked("POST"), 0);
}

/// A call that takes some seconds, and the progress it made, in one era.
fn progress(token: Option<Value>, era: &str) -> Vec<Value> {
    let engine = StandIn::silent();
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "2")]);
    if era == "legacy" {
        initialize(&mut core, "2025-06-18", json!({}));
    }
    let mut params = json!({"name": "docker_list_containers", "arguments": {}});
    if let Some(token) = token {
        params["_meta"] = json!({"progressToken": token});
    }
    let id = core.request("tools/call", if era == "modern" { modern(params) } else { params });
    let answer = core.answer(id);
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    // A second further, nothing more may come for the call that has ended.
    let before = core.unasked();
    core.ok("system_info", json!({}));
    assert_eq!(core.unasked(), Vec::<Value>::new());
    before
}

#[test]
fn a_call_longer_than_a_second_tells_its_progress_when_a_token_was_given() {
    let cases: Vec<_> =
        ["bare", "legacy", "modern"].iter().flat_map(|era| [(*era, json!("abc")), (*era, json!(7))]).collect();
    let check = |era: &str, token: &Value| {
        let seen = progress(Some(token.clone()), era);
        assert!((1..=2).contains(&seen.len()), "{era}: {seen:?}");
        let mut last = 0.0;
        for message in seen {
            assert_eq!(message["method"], "notifications/progress");
            assert!(message.get("id").is_none());
            let params = &message["params"];
            assert_eq!(params["progressToken"], *token, "{era}: the token as it was given");
            let now = params["progress"].as_f64().unwrap();
            assert!(now > last, "{era}: it increases: {message}");
            last = now;
            assert!(params["message"].as_str().is_some_and(|text| !text.is_empty()), "{message}");
        }
    };
    std::thread::scope(|scope| {
        for (era, token) in &cases {
            scope.spawn(|| check(era, token));
        }
    });
}

#[test]
fn without_a_token_there_is_no_progress() {
    std::thread::scope(|scope| {
        for era in ["bare", "legacy", "modern"] {
            scope.spawn(move || assert_eq!(progress(None, era), Vec::<Value>::new(), "{era}"));
        }
    });
}

#[test]
fn a_quick_call_tells_no_progress() {
    let mut core = Core::start(&[]);
    for n in 0..20 {
        ask(&mut core, "tools/call", json!({"name": "operation_status", "_meta": {"progressToken": n}}));
    }
    assert_eq!(core.unasked(), Vec::<Value>::new());
    core.finish();
}
