//! Many at once: nobody sees another's answers, nothing is left behind, nobody holds up anybody.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::gateway::{Connection, Gateway, KEY, call};

#[test]
fn clients_with_the_same_ids_never_see_each_others_answers() {
    let gateway = Gateway::fake(&[]);
    let port = gateway.port;
    let session = gateway.session(json!({}));
    thread::scope(|scope| {
        for client in 0..64 {
            let session = session.clone();
            scope.spawn(move || {
                let mut connection = Connection::open(port);
                for id in 0..30 {
                    let arguments = json!({"client": client, "number": id, "ms": (client * 7 + id) % 5});
                    let tool = if id % 3 == 0 { "slow" } else { "echo" };
                    let answer = if id % 2 == 0 {
                        connection.modern(
                            id,
                            "tools/call",
                            json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": id}}),
                        )
                    } else {
                        connection.post(&[("mcp-session-id", &session)], &call(id, tool, arguments.clone()))
                    };
                    assert_eq!(answer.json()["id"], id);
                    let said = answer.said();
                    let said = if tool == "echo" { &said["arguments"] } else { &said };
                    assert_eq!(*said, arguments);
                }
            });
        }
    });
    assert_eq!(gateway.children().len(), 1);
}

#[test]
fn a_thousand_connections_dropped_on_the_way_leave_nothing_behind() {
    let gateway = Gateway::fake(&[]);
    gateway.modern("tools/list", json!({}));
    let (descriptors, children) = (gateway.descriptors(), gateway.children());
    let bearer = format!("Bearer {KEY}");
    for number in 0..1000 {
        let mut connection = gateway.connect();
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        match number % 5 {
            0 => {}
            1 => connection.raw(b"POST /mcp HTT"),
            2 => connection.send("POST", "/mcp", &[&headers[..], &[("content-length", "100")]].concat(), b""),
            3 => connection.begin_modern(1, "tools/call", json!({"name": "never"})),
            _ => connection.begin_modern(1, "tools/call", json!({"name": "slow", "arguments": {"ms": 50}})),
        }
        connection.drop_it();
    }
    gateway.until("all connections are closed", |gateway| gateway.metric("mcp_gateway_connections") == 0);
    gateway.until("no descriptor is left", |gateway| gateway.descriptors() <= descriptors + 1);
    assert_eq!(gateway.children(), children);
    // Nothing waits in the core either: all places are free.
    let free = gateway.modern("tools/call", json!({"name": "cancelled"})).said();
    assert!(!free["cancelled"].as_array().unwrap().is_empty(), "{free}");
    assert_eq!(gateway.modern("tools/list", json!({})).status, 200);
}

#[test]
fn a_reader_of_one_byte_a_second_holds_up_nobody() {
    let gateway = Gateway::fake(&[]);
    let mut slow = gateway.connect();
    slow.begin_modern(1, "tools/call", json!({"name": "big"}));
    assert_eq!(slow.head().status, 200);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut connection = gateway.connect();
        connection.begin_modern(1, "tools/call", json!({"name": "progress", "_meta": {"progressToken": 1}}));
        streams.push(connection);
    }
    let begun = Instant::now();
    for _ in 0..200 {
        assert_eq!(gateway.modern("tools/list", json!({})).status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
    // It is still being served.
    let mut body = vec![0; 1 << 20];
    slow.read_exact(&mut body);
    assert!(body.starts_with(b"{\"jsonrpc\""));
}

#[test]
fn abandoned_sessions_are_paper() {
    let gateway = Gateway::fake(&[]);
    let before = {
        let mut connection = gateway.connect();
        for _ in 0..200 {
            connection.post(&[], &crate::gateway::initialize("2025-11-25", json!({"elicitation": {}})));
        }
        gateway.memory()
    };
    let mut connection = gateway.connect();
    for _ in 0..10_000 {
        let answer = connection.post(&[], &crate::gateway::initialize("2025-11-25", json!({"elicitation": {}})));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(gateway.metric("mcp_gateway_sessions"), 10_000);
    assert_eq!(gateway.children().len(), 1);
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB");
}
