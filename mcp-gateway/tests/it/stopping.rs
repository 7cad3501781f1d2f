//! How it ends: what is under way is answered, streams hear of it, and no process is left.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::{Gateway, KEY, exists};

#[test]
fn what_is_under_way_is_finished() {
    let mut gateway = Gateway::fake(&[]);
    let mut idle = gateway.connect();
    assert_eq!(idle.modern(1, "tools/list", json!({})).status, 200);
    let session = gateway.session(json!({}));
    let mut stream = gateway.connect();
    stream.send("GET", "/mcp", &[("authorization", &format!("Bearer {KEY}")), ("mcp-session-id", &session)], b"");
    assert!(stream.head().is_stream());
    let mut busy = gateway.connect();
    busy.begin_modern(1, "tools/call", json!({"name": "slow", "arguments": {"ms": 1000}}));
    gateway.until("it is under way", |gateway| {
        gateway.modern("tools/call", json!({"name": "cancelled"})).said()["id"].as_u64().unwrap() > 2
    });
    let children = gateway.children();
    gateway.signal("TERM");
    assert_eq!(busy.answer().status, 200);
    assert!(stream.event().is_none(), "the session's stream ends at once");
    assert!(idle.is_closed());
    assert!(gateway.end().success());
    assert!(!children.is_empty() && children.iter().all(|pid| !exists(*pid)));
    assert!(gateway.log().contains("stopped"));
}

#[test]
fn the_drain_has_a_deadline_that_calls_and_streams_hear() {
    let mut gateway = Gateway::fake(&[("DRAIN", "1")]);
    let mut plain = gateway.connect();
    plain.begin_modern("plain", "tools/call", json!({"name": "never"}));
    let mut stream = gateway.connect();
    stream.begin_modern("stream", "tools/call", json!({"name": "progress", "_meta": {"progressToken": 1}}));
    assert_eq!(stream.answer().status, 200);
    stream.begin_modern("stream", "tools/call", json!({"name": "slow", "arguments": {"ms": 60_000}}));
    assert!(stream.head().is_stream());
    let begun = Instant::now();
    gateway.signal("TERM");
    let event = stream.event().unwrap();
    assert_eq!((&event["id"], &event["error"]["code"]), (&json!("stream"), &json!(-32603)));
    assert!(stream.event().is_none());
    // This one became a stream long ago, too.
    assert!(plain.head().is_stream());
    let event = plain.event().unwrap();
    assert_eq!((&event["id"], &event["error"]["code"]), (&json!("plain"), &json!(-32603)));
    assert!(gateway.end().success());
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(gateway.log().contains("given up"));
}

#[test]
fn a_core_that_does_not_end_is_ended() {
    let mut gateway = Gateway::fake(&[("FAKE_CORE", "stays")]);
    assert_eq!(gateway.modern("tools/list", json!({})).status, 200);
    let children = gateway.children();
    gateway.signal("INT");
    assert!(gateway.end().success());
    assert!(!children.is_empty() && children.iter().all(|pid| !exists(*pid)));
}

#[test]
fn a_group_is_ended_with_its_leader() {
    // A shell between us and the core: whoever ends only the shell leaves the core behind.
    let core = format!("sh -c '\"{}\"; exit 0'", crate::gateway::fake_core());
    let mut gateway = Gateway::fake(&[("CORE_COMMAND", &core), ("FAKE_CORE", "stays"), ("PATH", "/usr/bin:/bin")]);
    let pid = gateway.modern("tools/call", json!({"name": "echo"})).said()["pid"].as_u64().unwrap();
    let pid = u32::try_from(pid).unwrap();
    assert!(!gateway.children().contains(&pid) && exists(pid));
    gateway.signal("TERM");
    assert!(gateway.end().success());
    gateway.until("the core has gone", |_| !exists(pid));
}

#[test]
fn a_gateway_that_is_killed_leaves_no_core() {
    let mut gateway = Gateway::real(&[]);
    let children = gateway.children();
    gateway.signal("KILL");
    gateway.end();
    gateway.until("the cores have gone", |_| children.iter().all(|pid| !exists(*pid)));
}

#[test]
fn a_signal_during_the_start_ends_it() {
    let state = tempfile::tempdir().unwrap();
    let core = format!("'{}'", crate::gateway::fake_core());
    let env = [("API_KEY", "k"), ("CORE_COMMAND", core.as_str()), ("FAKE_CORE", "silent")];
    let mut child = crate::gateway::command(&env, state.path()).spawn().unwrap();
    // Its core is there: the start is waiting for it.
    let deadline = Instant::now() + crate::gateway::PATIENCE;
    while crate::gateway::children_of(child.id()).is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    crate::gateway::signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
