//! Who is let in: the key, tokens, every refusal, and that guessing is slow while valid credentials are not.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::gateway::{Answer, Gateway, KEY, call, initialize};

const ID: &str = "tablet";
const SECRET: &str = "secret+/ 0123456789=&";
const OAUTH: [(&str, &str); 2] = [("OAUTH_CLIENT_ID", ID), ("OAUTH_CLIENT_SECRET", SECRET)];
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

fn with(gateway: &Gateway, authorization: Option<&str>, message: &Value) -> Answer {
    let mut headers = vec![JSON];
    headers.extend(authorization.map(|value| ("authorization", value)));
    gateway.connect().request("POST", "/mcp", &headers, message.to_string().as_bytes())
}

fn token_request(gateway: &Gateway, headers: &[(&str, &str)], body: &str) -> Answer {
    let answer = gateway.connect().request("POST", "/oauth/token", headers, body.as_bytes());
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    answer
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn token(gateway: &Gateway, more: &[(&str, &str)]) -> String {
    let pairs = [&[("grant_type", "client_credentials"), ("client_id", ID), ("client_secret", SECRET)], more].concat();
    let answer = token_request(gateway, &[FORM], &form(&pairs));
    assert_eq!(answer.status, 200, "{answer:?}");
    format!("Bearer {}", answer.json()["access_token"].as_str().unwrap())
}

#[test]
fn the_walk_of_the_earlier_readme() {
    let gateway = Gateway::real(&OAUTH);
    let health = gateway.connect().request("GET", "/health", &[], b"");
    assert_eq!((health.status, health.json()), (200, json!({"status": "ok", "capability_level": 2})));
    let ready = gateway.connect().request("GET", "/ready", &[], b"");
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready"})));
    let token = token(&gateway, &[]);
    // As curl sends it: accepts anything, says nothing of versions.
    let headers = [("accept", "*/*"), ("authorization", token.as_str()), JSON];
    for path in ["/mcp", "/", "/mcp/"] {
        let answer = gateway.connect().request("POST", path, &headers, list().to_string().as_bytes());
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
        let names: Vec<_> =
            answer.json()["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
        assert!(names.contains(&json!("docker_list_containers")), "{names:?}");
    }
}

#[test]
fn a_token_is_given_for_basic_form_and_json() {
    let gateway = Gateway::fake(&OAUTH);
    let body = json!({"grant_type": "client_credentials", "client_id": ID, "client_secret": SECRET}).to_string();
    let plain = format!("Basic {}", BASE64_STANDARD.encode(format!("{ID}:{SECRET}")));
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let encoded = format!("Basic {}", BASE64_STANDARD.encode(format!("{ID}:{encoded}")));
    let grant = "grant_type=client_credentials";
    for answer in [
        token_request(&gateway, &[JSON], &body),
        token_request(&gateway, &[FORM, ("authorization", &plain)], grant),
        token_request(&gateway, &[FORM, ("authorization", &encoded)], &format!("{grant}&client_id={ID}")),
        token_request(
            &gateway,
            &[FORM],
            &form(&[("grant_type", "client_credentials"), ("client_id", ID), ("client_secret", SECRET)]),
        ),
    ] {
        let said = answer.json();
        assert_eq!((answer.status, &said["token_type"], &said["expires_in"]), (200, &json!("Bearer"), &json!(3600)));
        assert_eq!(said["scope"], "homelab:monitor homelab:operate");
        let bearer = format!("Bearer {}", said["access_token"].as_str().unwrap());
        assert_eq!(with(&gateway, Some(&bearer), &list()).status, 200);
    }
}

#[test]
fn token_requests_are_refused_in_the_words_of_the_rfc() {
    let gateway = Gateway::fake(&OAUTH);
    let good = [("grant_type", "client_credentials"), ("client_id", ID), ("client_secret", SECRET)];
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{ID}:{SECRET}")));
    let check = |name: &str, pairs: &[(&str, &str)], status: u16, error: &str| {
        let answer = token_request(&gateway, &[FORM], &form(pairs));
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(error)), "{name}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{name}");
    };
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    check("no grant", &good[1..], 400, "invalid_request");
    check("other grant", &[("grant_type", "password"), good[1], good[2]], 400, "unsupported_grant_type");
    check("wrong secret", &[good[0], good[1], ("client_secret", "x")], 401, "invalid_client");
    check("wrong id", &[good[0], ("client_id", "x"), good[2]], 401, "invalid_client");
    check("no secret", &good[..2], 401, "invalid_client");
    check("twice", &with(&[("scope", "a"), ("scope", "b")]), 400, "invalid_request");
    check("above", &with(&[("scope", "homelab:manage")]), 400, "invalid_scope");
    check("unknown", &with(&[("scope", "admin")]), 400, "invalid_scope");
    check("elsewhere", &with(&[("resource", "https://evil.example/mcp")]), 400, "invalid_target");
    let answer = token_request(&gateway, &[FORM, ("authorization", &basic)], &form(&good));
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "two places");
    let answer = gateway.connect().request("GET", "/oauth/token", &[], b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")));
}

#[test]
fn a_token_has_the_level_of_its_scope_and_no_more() {
    let gateway = Gateway::real(&OAUTH);
    let low = token(&gateway, &[("scope", "homelab:monitor")]);
    // docker_restart_container is of level 2: this client could have asked for it.
    let answer = with(&gateway, Some(&low), &call(1, "docker_restart_container", json!({"container": "x"})));
    assert_eq!(answer.status, 403, "{answer:?}");
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.contains(r#"error="insufficient_scope""#)
            && challenge.contains(r#"scope="homelab:monitor homelab:operate""#)
    );
    let listed = with(&gateway, Some(&low), &list()).text();
    assert!(listed.contains("docker_list_containers") && !listed.contains("docker_restart_container"));
    // Nobody may have level 4 here: the core explains.
    for bearer in [low, token(&gateway, &[]), format!("Bearer {KEY}")] {
        let answer = with(&gateway, Some(&bearer), &call(1, "docker_exec", json!({})));
        assert_eq!((answer.status, &answer.json()["result"]["isError"]), (200, &json!(true)), "{answer:?}");
    }
}

#[test]
fn tokens_end_with_the_secret_the_id_the_key_and_the_audience() {
    let keys = ["cd".repeat(32), "00".repeat(32)];
    let start = |id: &str, secret: &str, key: usize, url: &str| {
        let env =
            [("OAUTH_CLIENT_ID", id), ("OAUTH_CLIENT_SECRET", secret), ("TOKEN_KEY", &keys[key]), ("PUBLIC_URL", url)];
        Gateway::fake(&env)
    };
    let url = "https://mcp.example.com";
    let bearer = token(&start(ID, SECRET, 0, url), &[]);
    // Another process with the same configuration takes it.
    assert_eq!(with(&start(ID, SECRET, 0, url), Some(&bearer), &list()).status, 200);
    for gateway in [
        start(ID, "another-secret-0123456789", 0, url),
        start("another", SECRET, 0, url),
        start(ID, SECRET, 1, url),
        start(ID, SECRET, 0, "https://other.example.com"),
    ] {
        let answer = with(&gateway, Some(&bearer), &list());
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.header("www-authenticate").unwrap().contains(r#"error="invalid_token""#), "{answer:?}");
    }
}

#[test]
fn a_token_key_is_kept_over_a_restart_and_readable_by_its_owner_only() {
    let gateway = Gateway::fake(&OAUTH);
    let file = gateway.state.path().join("gateway/token.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!((mode & 0o777, std::fs::read(&file).unwrap().len()), (0o600, 32));
    // Without OAuth nothing is kept.
    assert!(!Gateway::fake(&[]).state.path().join("gateway").exists());
}

#[test]
fn whoever_is_not_signed_in_is_told_how() {
    let gateway = Gateway::fake(&[&OAUTH[..], &[("PUBLIC_URL", "https://mcp.example.com")]].concat());
    let pointer = r#"resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp""#;
    for (authorization, error) in [
        (None, None),
        (Some("Bearer wrong"), Some("invalid_token")),
        (Some("Bearer "), Some("invalid_request")),
        (Some("Bearer hlmcp_x.y"), Some("invalid_token")),
        (Some("Basic eDp5"), Some("invalid_request")),
        (Some(KEY), Some("invalid_request")),
    ] {
        for method in ["POST", "GET", "DELETE"] {
            let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
            let answer = gateway.connect().request(method, "/mcp", &headers, b"");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                answer.status == 401 && challenge.starts_with("Bearer ") && challenge.contains(pointer),
                "{answer:?}"
            );
            let said = error.map(|error| format!(r#"error="{error}""#));
            assert_eq!(challenge.contains("error="), said.is_some(), "{challenge}");
            assert!(said.is_none_or(|said| challenge.contains(&said)), "{challenge}");
        }
    }
    // A token in the query string is none.
    let path = format!("/mcp?access_token={KEY}");
    assert_eq!(gateway.connect().request("POST", &path, &[JSON], b"{}").status, 401);
}

#[test]
fn metadata_names_the_public_url_whatever_a_request_says() {
    let gateway = Gateway::fake(&[&OAUTH[..], &[("PUBLIC_URL", "https://mcp.example.com")]].concat());
    let headers =
        [("host", "mcp.example.com"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")];
    let get = |path: &str| gateway.connect().request("GET", path, &headers, b"").json();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let found = get(path);
        assert_eq!(found["resource"], "https://mcp.example.com/mcp");
        assert_eq!(found["authorization_servers"], json!(["https://mcp.example.com"]));
        assert_eq!(found["scopes_supported"], json!(["homelab:monitor", "homelab:operate"]));
    }
    let found = get("/.well-known/oauth-authorization-server");
    assert_eq!(
        (&found["issuer"], &found["token_endpoint"]),
        (&json!("https://mcp.example.com"), &json!("https://mcp.example.com/oauth/token"))
    );
    assert_eq!(found["grant_types_supported"], json!(["client_credentials"]));
    // The Python client refuses a document without it.
    assert_eq!(found["authorization_endpoint"], "https://mcp.example.com/authorize");
    assert_eq!(gateway.connect().request("GET", "/authorize?response_type=code", &headers, b"").status, 404);
}

#[test]
fn without_oauth_there_is_no_metadata_and_the_challenge_is_plain() {
    let gateway = Gateway::fake(&[]);
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
    ] {
        assert_eq!(gateway.connect().request("GET", path, &[], b"").status, 404, "{path}");
    }
    assert_eq!(
        gateway.connect().request("POST", "/oauth/token", &[FORM], b"grant_type=client_credentials").status,
        404
    );
    assert_eq!(with(&gateway, None, &list()).header("www-authenticate"), Some("Bearer"));
}

#[test]
fn who_guesses_is_slowed_and_who_knows_is_not() {
    let gateway = Gateway::fake(&[&OAUTH[..], &[("TRUSTED_PROXIES", "127.0.0.0/8")]].concat());
    let bearer = token(&gateway, &[]);
    let from = |source: &str, authorization: &str| {
        let headers = [JSON, ("x-forwarded-for", source), ("authorization", authorization)];
        gateway.connect().request("POST", "/mcp", &headers, list().to_string().as_bytes())
    };
    let statuses: Vec<_> =
        (0..30).map(|number| from("198.51.100.7", &format!("Bearer guess{number}")).status).collect();
    assert!(
        statuses[..5].iter().all(|status| *status == 401) && statuses[25..].iter().all(|status| *status == 429),
        "{statuses:?}"
    );
    assert!(from("198.51.100.7", "Bearer guess").header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    let form = form(&[("grant_type", "client_credentials"), ("client_id", ID), ("client_secret", "guess")]);
    let headers = [FORM, ("x-forwarded-for", "198.51.100.7")];
    assert_eq!(gateway.connect().request("POST", "/oauth/token", &headers, form.as_bytes()).status, 429);
    // The same address with valid credentials, and another address.
    assert_eq!(from("198.51.100.7", &format!("Bearer {KEY}")).status, 200);
    assert_eq!(from("198.51.100.7", &bearer).status, 200);
    assert_eq!(from("198.51.100.8", "Bearer guess").status, 401);
    assert!(gateway.metric(r#"mcp_gateway_sign_in_failures_total{kind="bearer"}"#) >= 31);
}

#[test]
fn an_untrusted_forwarded_address_counts_for_nothing_and_is_warned_about_once() {
    let gateway = Gateway::fake(&[]);
    let statuses: Vec<_> = (0..30)
        .map(|number| {
            let source = format!("198.51.100.{number}");
            let headers = [JSON, ("x-forwarded-for", source.as_str()), ("authorization", "Bearer guess")];
            gateway.connect().request("POST", "/mcp", &headers, b"{}").status
        })
        .collect();
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    gateway.until_logged("- POST /mcp - 429");
    assert_eq!(gateway.log().matches("X-Forwarded-For from 127.0.0.1 is not believed").count(), 1);
}

#[test]
fn no_secret_and_no_session_gets_into_log_or_metrics() {
    let gateway = Gateway::fake(&[&OAUTH[..], &[("RUST_LOG", "debug")]].concat());
    let bearer = token(&gateway, &[]);
    with(&gateway, Some(&bearer), &call(1, "echo", json!({"password": "argument-hunter2"})));
    with(&gateway, Some("Bearer wrong-hunter3"), &list());
    gateway.connect().request("POST", "/mcp?token=query-hunter4", &[JSON], b"{}");
    token_request(
        &gateway,
        &[FORM],
        &form(&[("grant_type", "client_credentials"), ("client_id", ID), ("client_secret", "wrong-hunter5")]),
    );
    let answer = gateway.post(&[], &initialize("2025-11-25", json!({})));
    let session = answer.header("mcp-session-id").unwrap();
    gateway.call_in(session, "echo", json!({}));
    gateway.until_logged("tools/call echo 200");
    let seen = gateway.log() + &gateway.metrics();
    for secret in [KEY, SECRET, "hunter", bearer.trim_start_matches("Bearer "), session] {
        assert!(!seen.contains(secret), "{secret}\n{seen}");
    }
}
