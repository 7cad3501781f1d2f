//! Before anybody signs in: Host, Origin, CORS, sizes, times, paths.

use serde_json::json;

use crate::gateway::{Gateway, KEY};

const OAUTH: [(&str, &str); 3] = [
    ("OAUTH_CLIENT_ID", "tablet"),
    ("OAUTH_CLIENT_SECRET", "secret-0123456789-x"),
    ("PUBLIC_URL", "https://mcp.example.com"),
];

#[test]
fn a_foreign_host_or_origin_is_refused_everywhere() {
    let gateway = Gateway::fake(&OAUTH);
    for path in ["/mcp", "/health", "/.well-known/oauth-protected-resource", "/oauth/token", "/nowhere"] {
        for headers in [
            vec![("host", "evil.example")],
            vec![("host", "127.0.0.1"), ("origin", "https://evil.example")],
            vec![("host", "127.0.0.1"), ("origin", "null")],
        ] {
            assert_eq!(gateway.connect().request("GET", path, &headers, b"").status, 403, "{path} {headers:?}");
        }
    }
    for headers in [
        vec![("host", "mcp.example.com"), ("origin", "https://claude.ai")],
        vec![("host", "localhost:1234"), ("origin", "http://localhost:1234")],
        vec![("host", "127.0.0.1")],
    ] {
        assert_eq!(gateway.connect().request("GET", "/health", &headers, b"").status, 200, "{headers:?}");
    }
}

#[test]
fn browsers_may_ask_from_allowed_pages() {
    let gateway = Gateway::fake(&OAUTH);
    let page = ("origin", "https://claude.ai");
    let asks = ("access-control-request-headers", "authorization, mcp-method, Mcp-Param-Region, x-evil");
    for path in
        ["/mcp", "/oauth/token", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"]
    {
        let headers = [page, ("access-control-request-method", "DELETE"), asks];
        let answer = gateway.connect().request("OPTIONS", path, &headers, b"");
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (204, Some("https://claude.ai")),
            "{path}"
        );
        assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
        let allowed = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        for name in [
            "authorization",
            "content-type",
            "mcp-protocol-version",
            "mcp-session-id",
            "mcp-method",
            "mcp-name",
            "last-event-id",
            "mcp-param-region",
        ] {
            assert!(allowed.contains(name), "{name}: {allowed}");
        }
        assert!(!allowed.contains("x-evil"));
    }
    // An error must be readable too, and its header as well.
    let answer = gateway.connect().request("POST", "/mcp", &[page], b"");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, Some("https://claude.ai")));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("mcp-session-id") && exposed.contains("www-authenticate"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    assert!(gateway.connect().request("GET", "/health", &[], b"").header("access-control-allow-origin").is_none());
}

#[test]
fn a_body_that_is_too_large_is_refused_announced_or_not() {
    let gateway = Gateway::fake(&[("MAX_BODY", "2000")]);
    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut connection = gateway.connect();
    let announced = [&headers[..], &[("content-length", "2001")]].concat();
    connection.send("POST", "/mcp", &announced, b"");
    assert_eq!(connection.answer().status, 413);
    let mut connection = gateway.connect();
    connection.send("POST", "/mcp", &[&headers[..], &[("transfer-encoding", "chunked")]].concat(), b"");
    for _ in 0..3 {
        connection.raw(format!("3e8\r\n{}\r\n", " ".repeat(1000)).as_bytes());
    }
    assert_eq!(connection.answer().status, 413);
    // What just fits is passed on, line breaks and all.
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"pad": "x".repeat(1850)}});
    let pretty = serde_json::to_string_pretty(&message).unwrap();
    assert!(pretty.len() > 1900 && pretty.len() <= 2000, "{}", pretty.len());
    assert_eq!(gateway.connect().request("POST", "/mcp", &headers, pretty.as_bytes()).status, 200);
}

#[test]
fn nobody_without_credentials_makes_us_read_a_body() {
    let gateway = Gateway::fake(&[]);
    let mut connection = gateway.connect();
    connection.send("POST", "/mcp", &[("content-length", "1000000")], b"");
    assert_eq!(connection.answer().status, 401);
}

#[test]
fn what_is_no_http_or_no_message_is_refused() {
    let gateway = Gateway::fake(&[]);
    let mut connection = gateway.connect();
    connection.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    assert!(connection.head().status == 400 || connection.is_closed());
    let mut connection = gateway.connect();
    connection
        .raw(format!("GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nx: {}\r\n\r\n", "x".repeat(1_000_000)).as_bytes());
    assert_eq!(connection.head().status, 431);

    let bearer = format!("Bearer {KEY}");
    let auth = ("authorization", bearer.as_str());
    let post = |headers: &[(&str, &str)], body: &str| {
        gateway.connect().request("POST", "/mcp", &[&[auth], headers].concat(), body.as_bytes())
    };
    assert_eq!(post(&[("content-type", "text/plain")], "{}").status, 415);
    assert_eq!(post(&[("accept", "text/html")], "{}").status, 406);
    for (body, code, id) in [
        ("", -32700, json!(null)),
        ("{", -32700, json!(null)),
        (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":"#, -32700, json!(7)),
        ("[]", -32600, json!(null)),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600, json!(null)),
        (r#"{"id":7,"method":"ping"}"#, -32600, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"name":"a","name":"b"}}"#, -32602, json!(7)),
    ] {
        let answer = post(&[("content-type", "application/json")], body);
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, code, &id), "{body}");
    }
    let answer = gateway.connect().request("PUT", "/mcp", &[auth], b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, GET, DELETE, OPTIONS")));
    for path in ["/oauth/register", "/authorize", "/..", "//mcp", "/mcp/x", "/metrics"] {
        assert_eq!(gateway.connect().request("GET", path, &[auth], b"").status, 404, "{path}");
    }
}
