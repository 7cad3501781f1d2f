//! Cores that misbehave. Whatever they do, their callers are answered and the others notice nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::Gateway;

#[test]
fn a_core_that_dies_is_said_and_replaced() {
    let gateway = Gateway::fake(&[]);
    let mut bystander = gateway.connect();
    bystander.begin_modern("bystander", "tools/call", json!({"name": "never"}));
    for tool in ["die", "half_and_die"] {
        let answer = gateway.modern("tools/call", json!({"name": tool}));
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (502, -32603, &json!(1)), "{tool}");
        assert!(answer.text().contains("may have happened"), "{answer:?}");
        let session = gateway.session(json!({}));
        let answer = gateway.call_in(&session, tool, json!({}));
        assert_eq!((answer.status, answer.code()), (200, -32603), "{tool}");
        gateway.until("a new process", |gateway| gateway.modern("tools/list", json!({})).status == 200);
    }
    let answer = bystander.answer();
    assert_eq!((answer.status, &answer.json()["id"]), (502, &json!("bystander")));
    assert!(gateway.metric("mcp_gateway_restarts_total") >= 4);
    gateway.until("one process", |gateway| gateway.children().len() == 1);
}

#[test]
fn a_core_that_never_stays_up_is_not_started_all_the_time() {
    let gateway = Gateway::fake(&[]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = loop {
        let answer = gateway.modern("tools/call", json!({"name": "die"}));
        if answer.status == 503 {
            break answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    };
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert!(refused.text().contains("nothing was done"), "{refused:?}");
    assert!(gateway.metric("mcp_gateway_restarts_total") < 20);
    let ready = gateway.connect().request("GET", "/ready", &[], b"");
    assert_eq!(ready.status, 503);
    gateway.until("it is tried again", |gateway| gateway.modern("tools/list", json!({})).status == 200);
}

#[test]
fn garbage_is_logged_and_survived() {
    let gateway = Gateway::fake(&[]);
    let before = gateway.modern("tools/call", json!({"name": "echo"})).said()["pid"].clone();
    let answer = gateway.modern("tools/call", json!({"name": "garbage"}));
    assert_eq!(answer.said(), "after the garbage");
    gateway.until_logged("Segmentation fault (not really)");
    assert_eq!(gateway.modern("tools/call", json!({"name": "echo"})).said()["pid"], before);
    let noisy = Gateway::fake(&[("FAKE_CORE", "garbage")]);
    assert_eq!(noisy.modern("tools/list", json!({})).status, 200);
}

#[test]
fn a_flood_on_stderr_holds_up_nobody_and_not_all_of_it_is_logged() {
    let gateway = Gateway::fake(&[]);
    assert_eq!(gateway.modern("tools/call", json!({"name": "flood"})).said(), "after the flood");
    assert_eq!(gateway.modern("tools/list", json!({})).status, 200);
    gateway.until_logged("worker 1: flood 0 ");
    assert!(gateway.log().matches("flood").count() < 2000);
}

#[test]
fn answers_out_of_order_find_their_requests() {
    let gateway = Gateway::fake(&[]);
    let mut first = gateway.connect();
    first.begin_modern(1, "tools/call", json!({"name": "later", "arguments": "first"}));
    // Which brings the first one out.
    gateway.until("the first is with the core", |gateway| {
        gateway.modern("tools/call", json!({"name": "cancelled"})).said()["id"].as_u64().unwrap() > 2
    });
    let second = gateway.connect().modern(1, "tools/list", json!({}));
    assert!(second.json()["result"].get("tools").is_some());
    assert_eq!(first.answer().json()["result"]["tag"], "first");
}

#[test]
fn answers_that_nobody_waits_for_go_nowhere() {
    let gateway = Gateway::fake(&[]);
    let mut connection = gateway.connect();
    assert_eq!(connection.modern(1, "tools/call", json!({"name": "twice"})).said(), "once");
    assert_eq!(connection.modern(1, "tools/call", json!({"name": "unknown_id"})).said(), "yours");
    assert_eq!(connection.modern(1, "tools/call", json!({"name": "echo", "arguments": 5})).said()["arguments"], 5);
}

#[test]
fn a_line_that_stays_half_holds_up_only_what_is_behind_it() {
    let gateway = Gateway::fake(&[]);
    let mut half = gateway.connect();
    half.begin_modern(1, "tools/call", json!({"name": "half"}));
    // What the core writes next lands in the same line: it is lost, and its caller may leave.
    let mut next = gateway.connect();
    next.begin_modern(2, "tools/call", json!({"name": "never"}));
    half.drop_it();
    next.drop_it();
    gateway.until("it goes on", |gateway| {
        let mut connection = gateway.connect();
        connection.begin_modern(3, "tools/list", json!({}));
        connection.head().status == 200
    });
}

#[test]
fn eight_mebibytes_are_passed_on() {
    let gateway = Gateway::fake(&[]);
    let answer = gateway.modern("tools/call", json!({"name": "big"}));
    assert_eq!(answer.said().as_str().unwrap().len(), 8 << 20);
    let session = gateway.session(json!({"elicitation": {}}));
    assert_eq!(gateway.call_in(&session, "big", json!({})).said().as_str().unwrap().len(), 8 << 20);
}

#[test]
fn too_many_calls_wait_a_little_and_are_refused_then() {
    let gateway = Gateway::fake(&[("MAX_IN_FLIGHT", "2")]);
    let mut stuck: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for connection in &mut stuck {
        connection.begin_modern(1, "tools/call", json!({"name": "never"}));
    }
    gateway.until("both are under way", |gateway| {
        let begun = Instant::now();
        let answer = gateway.modern("tools/list", json!({}));
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some() && begun.elapsed() >= Duration::from_secs(4), "{answer:?}");
        }
        answer.status == 503
    });
    // One that waits gets the place of one that leaves.
    let mut waiting = gateway.connect();
    waiting.begin_modern(1, "tools/list", json!({}));
    stuck.pop().unwrap().drop_it();
    assert_eq!(waiting.answer().status, 200);
}

#[test]
fn a_pool_of_several_shares_the_work() {
    let gateway = Gateway::fake(&[("POOL_SIZE", "3")]);
    let answering = |gateway: &Gateway| gateway.modern("tools/call", json!({"name": "echo"})).said()["pid"].clone();
    let mut stuck = Vec::new();
    let mut seen = vec![answering(&gateway)];
    for _ in 0..2 {
        let mut connection = gateway.connect();
        connection.begin_modern(1, "tools/call", json!({"name": "never"}));
        stuck.push(connection);
        gateway.until("another process answers", |gateway| !seen.contains(&answering(gateway)));
        seen.push(answering(&gateway));
    }
    assert_eq!(gateway.children().len(), 3);
}
