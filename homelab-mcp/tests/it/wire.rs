//! What several test files say and read on the wire: both eras' envelopes, answers by id, raw lines.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Core, PATIENCE, Ran};

/// The newest revision, and the first without a handshake.
pub(crate) const MODERN: &str = "2026-07-28";
/// The revisions with a handshake, oldest first.
pub(crate) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// These parameters as a client of 2026-07-28 sends them.
pub(crate) fn modern(params: Value) -> Value {
    modern_with(params, json!({}))
}

/// The same with capabilities of the client.
pub(crate) fn modern_with(mut params: Value, capabilities: Value) -> Value {
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
    meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    params
}

/// The handshake of the earlier eras; returns the `initialize` result.
pub(crate) fn initialize(core: &mut Core, version: &str, capabilities: Value) -> Value {
    let info = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": info});
    let id = core.request("initialize", params);
    let answer = core.answer(id);
    core.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert!(answer.get("result").is_some(), "{answer}");
    answer["result"].clone()
}

/// A request's answer.
pub(crate) fn ask(core: &mut Core, method: &str, params: Value) -> Value {
    let id = core.request(method, params);
    core.answer(id)
}

/// The one message with this id.
pub(crate) fn with_id(ran: &Ran, id: impl Into<Value>) -> Value {
    let id = id.into();
    let mut found: Vec<_> = ran.messages().into_iter().filter(|message| message["id"] == id).collect();
    assert_eq!(found.len(), 1, "answers to {id}\n{}\n{}", ran.stdout, ran.stderr);
    found.remove(0)
}

/// The code of an error answer.
#[track_caller]
pub(crate) fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {answer:.300}"))
}

/// The text of a tool's answer.
#[track_caller]
pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer:.300}"))
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
