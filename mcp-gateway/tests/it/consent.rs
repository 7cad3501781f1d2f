//! The owner lets an app in: the whole way by HTTP, as a browser and an app take it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::gateway::{Answer, Gateway, call, initialize};

pub(crate) const ID: &str = "homelab";
pub(crate) const SECRET: &str = "secret-0123456789-0123456789";
pub(crate) const PASSWORD: &str = "four plain words here";
pub(crate) const CALLBACK: &str = "https://claude.ai/api/mcp/auth_callback";
pub(crate) const PUBLIC: &str = "https://mcp.example.com";
pub(crate) const STATE: &str = "state-4f9b";
/// What an app keeps for itself (RFC 7636, appendix B).
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// A gateway with an owner and a client, at level 3.
pub(crate) fn with_owner(more: &[(&str, &str)]) -> Gateway {
    let env = [
        ("OAUTH_CLIENT_ID", ID),
        ("OAUTH_CLIENT_SECRET", SECRET),
        ("OWNER_PASSWORD", PASSWORD),
        ("PUBLIC_URL", PUBLIC),
        ("CAPABILITY_LEVEL", "3"),
    ];
    Gateway::real(&[&env, more].concat())
}

pub(crate) fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The pairs with some of them changed; an empty value takes one away.
pub(crate) fn changed<'a>(pairs: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = pairs.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())).copied().collect()
}

/// What an app asks for.
pub(crate) fn request<'a>(challenge: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("response_type", "code"),
        ("client_id", ID),
        ("redirect_uri", CALLBACK),
        ("state", STATE),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
        ("resource", "https://mcp.example.com/mcp"),
    ];
    changed(&usual, changes)
}

pub(crate) fn challenge() -> String {
    BASE64.encode(Sha256::digest(VERIFIER))
}

/// Opens the page.
pub(crate) fn open(gateway: &Gateway, changes: &[(&str, &str)]) -> Answer {
    let path = format!("/authorize?{}", encoded(&request(&challenge(), changes)));
    gateway.connect().request("GET", &path, &[], b"")
}

pub(crate) fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], pairs: &[(&str, &str)]) -> Answer {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    gateway.connect().request("POST", path, &[&[kind], headers].concat(), encoded(pairs).as_bytes())
}

/// What a hidden field of a page holds.
pub(crate) fn hidden(page: &Answer, name: &str) -> String {
    let text = page.text();
    let field = format!("name=\"{name}\" value=\"");
    let (_, rest) = text.split_once(&field).unwrap_or_else(|| panic!("no {name}: {text}"));
    rest.split('"').next().unwrap().to_owned()
}

/// Sends the form with this password and level.
pub(crate) fn allow(gateway: &Gateway, form: &str, level: &str, password: &str) -> Answer {
    let pairs = [("form", form), ("level", level), ("password", password), ("decision", "allow")];
    post(gateway, "/authorize", &[("origin", PUBLIC), ("sec-fetch-site", "same-origin")], &pairs)
}

/// One parameter of where an answer leads to.
pub(crate) fn led(answer: &Answer, name: &str) -> Option<String> {
    let location = answer.header("location").unwrap_or_else(|| panic!("{answer:?}"));
    let query = location.split_once('?').unwrap().1;
    form_urlencoded::parse(query.as_bytes()).find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

/// The owner lets the app in.
pub(crate) fn code(gateway: &Gateway, level: &str, changes: &[(&str, &str)]) -> String {
    let page = open(gateway, changes);
    assert_eq!(page.status, 200, "{}", page.text());
    let answer = allow(gateway, &hidden(&page, "form"), level, PASSWORD);
    assert_eq!(answer.status, 303, "{}", answer.text());
    led(&answer, "code").unwrap()
}

pub(crate) fn token_request(gateway: &Gateway, usual: &[(&str, &str)], changes: &[(&str, &str)]) -> Answer {
    let client = [("client_id", ID), ("client_secret", SECRET)];
    let answer = post(gateway, "/oauth/token", &[], &changed(&[usual, &client].concat(), changes));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer
}

/// The app exchanges its code.
pub(crate) fn exchange(gateway: &Gateway, code: &str, changes: &[(&str, &str)]) -> Answer {
    let usual = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("resource", "https://mcp.example.com/mcp"),
    ];
    token_request(gateway, &usual, changes)
}

pub(crate) fn refresh(gateway: &Gateway, token: &str, changes: &[(&str, &str)]) -> Answer {
    token_request(gateway, &[("grant_type", "refresh_token"), ("refresh_token", token)], changes)
}

/// The tokens of an answer that must have some.
pub(crate) fn tokens(answer: &Answer) -> (String, String) {
    let said = answer.json();
    assert_eq!((answer.status, &said["token_type"]), (200, &json!("Bearer")), "{said}");
    let text = |name: &str| said[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

pub(crate) fn connected(gateway: &Gateway, level: &str) -> (String, String) {
    tokens(&exchange(gateway, &code(gateway, level, &[]), &[]))
}

/// A message to the MCP endpoint with this token.
pub(crate) fn with(gateway: &Gateway, token: &str, message: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    gateway.connect().request("POST", "/mcp", &headers, message.to_string().as_bytes())
}

pub(crate) fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

pub(crate) fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_chosen_level_is_what_the_token_can_do() {
    let gateway = with_owner(&[]);
    for (level, scope, tool) in [
        ("1", "homelab:monitor", "system_info"),
        ("2", "homelab:monitor homelab:operate", "docker_restart_container"),
        ("configure", "homelab:monitor homelab:operate homelab:configure", "docker_list_volumes"),
    ] {
        let answer = exchange(&gateway, &code(&gateway, level, &[]), &[]);
        assert_eq!((&answer.json()["scope"], &answer.json()["expires_in"]), (&json!(scope), &json!(3600)));
        let listed = with(&gateway, &tokens(&answer).0, &list()).text();
        assert!(listed.contains(tool) && !listed.contains("docker_exec"), "{listed}");
        assert_eq!(listed.contains("docker_list_volumes"), level == "configure", "not above the token's level");
    }
    assert!(gateway.log().contains("is connected at level 2 (operate) as grant:"));
}

#[test]
fn the_answer_names_its_sender_and_keeps_the_state() {
    let gateway = with_owner(&[]);
    let page = open(&gateway, &[("state", "a&b=c d/é")]);
    let form = hidden(&page, "form");
    for answer in [
        allow(&gateway, &form, "1", PASSWORD),
        post(&gateway, "/authorize", &[], &[("form", &form), ("decision", "deny")]),
    ] {
        assert!(answer.header("location").unwrap().starts_with(&format!("{CALLBACK}?")));
        assert_eq!(led(&answer, "state").as_deref(), Some("a&b=c d/é"));
        assert_eq!(led(&answer, "iss").as_deref(), Some(PUBLIC));
    }
    let denied = post(&gateway, "/authorize", &[], &[("form", &form), ("decision", "deny")]);
    assert_eq!((led(&denied, "error").as_deref(), led(&denied, "code")), (Some("access_denied"), None));
}

#[test]
fn a_higher_level_is_asked_for_and_given_on_the_same_page() {
    let gateway = with_owner(&[]);
    let (low, _) = connected(&gateway, "1");
    let restart = call(1, "docker_restart_container", json!({"container": "x"}));
    let refused = with(&gateway, &low, &restart);
    let challenge = refused.header("www-authenticate").unwrap().to_owned();
    assert_eq!(refused.status, 403, "{challenge}");
    assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
    let scope = challenge.split_once("scope=\"").unwrap().1.split('"').next().unwrap();
    assert_eq!(scope, "homelab:monitor homelab:operate");
    let page = open(&gateway, &[("scope", scope)]).text();
    let operate = page.split_once("for=\"level-2\"").unwrap().1;
    assert!(operate.split("</label>").next().unwrap().contains("the app asks for this"));
    let (high, _) = connected(&gateway, "2");
    assert_ne!(with(&gateway, &high, &restart).status, 403);
    // Above what anybody can have here there is nothing to step up to: the core explains.
    let explained = with(&gateway, &low, &call(1, "docker_exec", json!({})));
    assert_eq!((explained.status, &explained.json()["result"]["isError"]), (200, &json!(true)));
}

#[test]
fn an_app_keeps_its_session_when_it_may_do_more_and_another_app_does_not_get_it() {
    let gateway = with_owner(&[("DYNAMIC_REGISTRATION", "on")]);
    let (low, _) = connected(&gateway, "1");
    let (high, _) = connected(&gateway, "2");
    let body = json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}).to_string();
    let registered = gateway.connect().request("POST", "/oauth/register", &[], body.as_bytes()).json();
    let other = [("client_id", registered["client_id"].as_str().unwrap()), ("client_secret", "")];
    let (foreign, _) = tokens(&exchange(&gateway, &code(&gateway, "2", &other[..1]), &other));
    let opened = with(&gateway, &low, &initialize("2025-11-25", json!({})));
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let restart = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("mcp-session-id", session.as_str())];
        let message = call(1, "docker_restart_container", json!({"container": "x"})).to_string();
        gateway.connect().request("POST", "/mcp", &headers, message.as_bytes()).status
    };
    assert_eq!([restart(&low), restart(&high), restart(&foreign)], [403, 200, 404]);
    assert_eq!(restart(crate::gateway::KEY), 404);
}

#[test]
fn tokens_and_connections_outlive_a_restart() {
    let mut gateway = with_owner(&[]);
    let (access, first) = connected(&gateway, "2");
    let (_, second) = tokens(&refresh(&gateway, &first, &[]));
    let state = gateway.state.path().to_owned();
    gateway.signal("TERM");
    gateway.end();
    let again = with_owner(&[("STATE_DIR", state.to_str().unwrap())]);
    assert!(again.log().contains("connections: 1"));
    assert_eq!(with(&again, &access, &list()).status, 200);
    let (access, third) = tokens(&refresh(&again, &second, &[]));
    assert_eq!(with(&again, &access, &list()).status, 200);
    tokens(&refresh(&again, &third, &[]));
    // The first one is from before the restart, and was exchanged long ago: somebody has a copy.
    assert_eq!(error(&refresh(&again, &first, &[])), (400, "invalid_grant".to_owned()));
    assert_eq!(with(&again, &access, &list()).status, 401);
}

#[test]
fn another_password_secret_or_no_file_means_asking_again() {
    let mut gateway = with_owner(&[("TOKEN_KEY", &"ab".repeat(32))]);
    let (access, token) = connected(&gateway, "1");
    let state = gateway.state.path().to_owned();
    gateway.signal("TERM");
    gateway.end();
    let grants = std::fs::read(state.join("gateway/grants.json")).unwrap();
    for (name, value) in [
        ("OWNER_PASSWORD", "four other words here"),
        ("OAUTH_CLIENT_SECRET", "another secret"),
        ("TOKEN_KEY", &*"cd".repeat(32)),
        ("STATE_DIR", "/nonexistent"),
    ] {
        std::fs::write(state.join("gateway/grants.json"), &grants).unwrap();
        let usual =
            [("TOKEN_KEY", &*"ab".repeat(32)), ("STATE_DIR", state.to_str().unwrap())].map(|(n, v)| (n, v.to_owned()));
        let usual: Vec<_> = usual.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let gateway = with_owner(&changed(&usual, &[(name, value)]));
        assert_eq!(with(&gateway, &access, &list()).status, 401, "{name}");
        let secret = if name == "OAUTH_CLIENT_SECRET" { value } else { SECRET };
        assert_eq!(refresh(&gateway, &token, &[("client_secret", secret)]).status, 400, "{name}");
    }
    std::fs::write(state.join("gateway/grants.json"), &grants).unwrap();
    let same = with_owner(&[("TOKEN_KEY", &"ab".repeat(32)), ("STATE_DIR", state.to_str().unwrap())]);
    assert_eq!(with(&same, &access, &list()).status, 200, "without a change all goes on");
}

#[test]
fn an_app_gives_its_connection_back() {
    let gateway = with_owner(&[]);
    let revoke = |token: &str, changes: &[(&str, &str)]| {
        let usual = [("token", token), ("client_id", ID), ("client_secret", SECRET)];
        post(&gateway, "/oauth/revoke", &[], &changed(&usual, changes))
    };
    for which in [0, 1] {
        let pair = connected(&gateway, "1");
        let token = if which == 0 { &pair.0 } else { &pair.1 };
        assert_eq!(error(&revoke(token, &[("client_secret", "x")])), (401, "invalid_client".to_owned()));
        assert_eq!(with(&gateway, &pair.0, &list()).status, 200);
        assert_eq!((revoke(token, &[]).status, revoke(token, &[]).status), (200, 200), "twice is no error");
        assert_eq!(with(&gateway, &pair.0, &list()).status, 401);
        assert_eq!(error(&refresh(&gateway, &pair.1, &[])), (400, "invalid_grant".to_owned()));
    }
    assert_eq!(revoke("unknown", &[]).status, 200);
    assert_eq!(error(&revoke("unknown", &[("token", "")])), (400, "invalid_request".to_owned()));
    let own = token_request(&gateway, &[("grant_type", "client_credentials")], &[]).json();
    let own = own["access_token"].as_str().unwrap();
    assert_eq!(error(&revoke(own, &[])), (400, "unsupported_token_type".to_owned()));
}

#[test]
fn a_form_sent_twice_gives_one_code_and_later_none() {
    let gateway = with_owner(&[]);
    let form = hidden(&open(&gateway, &[]), "form");
    let first = led(&allow(&gateway, &form, "1", PASSWORD), "code").unwrap();
    assert_eq!(led(&allow(&gateway, &form, "1", PASSWORD), "code").unwrap(), first);
    let other = allow(&gateway, &form, "3", PASSWORD);
    assert_eq!((other.status, other.text().contains("used already")), (409, true), "another choice needs another form");
    let (access, _) = tokens(&exchange(&gateway, &first, &[]));
    let repeated = allow(&gateway, &form, "1", PASSWORD);
    assert_eq!((repeated.status, repeated.text().contains("go back to the app")), (409, true));
    assert_eq!(with(&gateway, &access, &list()).status, 200, "that did no harm");
}

#[test]
fn the_owner_sees_and_ends_connections() {
    let gateway = with_owner(&[]);
    let (one, _) = connected(&gateway, "1");
    let (other, _) = connected(&gateway, "2");
    let page = gateway.connect().request("GET", "/connections", &[], b"");
    assert!(page.status == 200 && !page.text().contains("claude.ai"), "nothing before the password");
    let wrong = post(&gateway, "/connections", &[], &[("action", "sign-in"), ("password", "wrong password")]);
    assert_eq!((wrong.status, wrong.header("set-cookie")), (403, None));
    let signed_in = post(&gateway, "/connections", &[], &[("action", "sign-in"), ("password", PASSWORD)]);
    assert_eq!((signed_in.status, signed_in.header("location")), (303, Some("/connections")));
    let mut cookies =
        signed_in.head.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str());
    let cookie = cookies.find(|value| value.starts_with("__Host-homelab-owner=")).unwrap();
    assert!(
        ["; HttpOnly", "; Secure", "; SameSite=Strict", "; Path=/"].iter().all(|part| cookie.contains(part)),
        "{cookie}"
    );
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    let page = gateway.connect().request("GET", "/connections", &[cookie], b"");
    assert_eq!(page.text().matches("claude.ai · ").count(), 2, "{}", page.text());

    let (id, token) = (hidden(&page, "id"), hidden(&page, "token"));
    let end = |headers: &[(&str, &str)], token: &str| {
        post(&gateway, "/connections", headers, &[("action", "end"), ("id", &id), ("token", token)])
    };
    assert_eq!(end(&[], &token).status, 403, "without the cookie");
    assert_eq!(end(&[cookie], "").status, 403, "without the form's token");
    assert_eq!(end(&[cookie], "x").status, 403);
    assert_eq!(end(&[cookie, ("sec-fetch-site", "cross-site")], &token).status, 403);
    assert_eq!(end(&[cookie, ("origin", "https://evil.example")], &token).status, 403);
    let both = || [&one, &other].map(|token| with(&gateway, token, &list()).status);
    assert_eq!(both(), [200, 200]);
    let ended = end(&[cookie], &token);
    assert!(ended.status == 200 && ended.text().contains("has ended"), "{}", ended.text());
    let mut both = both();
    both.sort_unstable();
    assert_eq!(both, [200, 401]);
    post(&gateway, "/connections", &[cookie], &[("action", "sign-out"), ("token", &token)]);
    assert_eq!(end(&[cookie], &token).status, 403, "signed out");
}

/// A client that is refused while it still sends must see why: everything begins with this answer.
#[test]
fn the_first_refusal_arrives_whole_and_leaves_the_connection_open() {
    let gateway = with_owner(&[]);
    for host in ["127.0.0.1", "evil.example"] {
        for _ in 0..50 {
            let mut connection = gateway.connect();
            for _ in 0..2 {
                let head = format!("POST /mcp HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n");
                connection.raw(head.as_bytes());
                std::thread::yield_now();
                connection.raw(b"{}");
                let status = connection.answer().status;
                assert_eq!(status, if host == "127.0.0.1" { 401 } else { 403 });
            }
        }
    }
}

#[test]
fn the_metadata_says_what_there_is() {
    let gateway = with_owner(&[("DYNAMIC_REGISTRATION", "on")]);
    let get = |path: &str| gateway.connect().request("GET", path, &[], b"").json();
    let metadata = get("/.well-known/oauth-authorization-server");
    assert_eq!(metadata, get("/.well-known/openid-configuration"));
    for (name, value) in [
        ("issuer", json!(PUBLIC)),
        ("authorization_endpoint", json!("https://mcp.example.com/authorize")),
        ("token_endpoint", json!("https://mcp.example.com/oauth/token")),
        ("revocation_endpoint", json!("https://mcp.example.com/oauth/revoke")),
        ("registration_endpoint", json!("https://mcp.example.com/oauth/register")),
        ("response_types_supported", json!(["code"])),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("grant_types_supported", json!(["authorization_code", "refresh_token", "client_credentials"])),
        ("token_endpoint_auth_methods_supported", json!(["client_secret_basic", "client_secret_post", "none"])),
        ("authorization_response_iss_parameter_supported", json!(true)),
        ("client_id_metadata_document_supported", json!(true)),
        ("scopes_supported", json!(["homelab:monitor", "homelab:operate", "homelab:configure"])),
    ] {
        assert_eq!(metadata[name], value, "{name}");
    }
    let resource = get("/.well-known/oauth-protected-resource/mcp");
    assert_eq!(resource["scopes_supported"], json!(["homelab:monitor"]), "a new app asks for the least");
    let challenge = gateway.connect().request("POST", "/mcp", &[], b"{}");
    assert!(challenge.header("www-authenticate").unwrap().contains(r#"scope="homelab:monitor""#));
}

#[test]
fn without_a_password_there_is_no_page() {
    let gateway = Gateway::fake(&[("OAUTH_CLIENT_ID", ID), ("OAUTH_CLIENT_SECRET", SECRET)]);
    assert!(gateway.log().contains("OWNER_PASSWORD is not set"));
    for path in ["/authorize", "/connections", "/oauth/revoke", "/oauth/register"] {
        for method in ["GET", "POST"] {
            assert_eq!(gateway.connect().request(method, path, &[], b"").status, 404, "{method} {path}");
        }
    }
    assert_eq!(error(&exchange(&gateway, "x", &[])), (400, "unsupported_grant_type".to_owned()));
}

/// As Claude's hosted clients were observed: two registrations in a row, the secret in the body whatever the metadata
/// says, a refresh, and a new sign-in with the client that was registered last.
#[test]
fn as_claude_does_it() {
    let gateway = with_owner(&[("DYNAMIC_REGISTRATION", "on")]);
    assert_eq!(gateway.connect().request("POST", "/mcp", &[], b"{}").status, 401);
    let registration = json!({
        "client_name": "Claude",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post",
        "scope": "homelab:monitor",
    });
    let register = || {
        let answer = gateway.connect().request("POST", "/oauth/register", &[], registration.to_string().as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let (first, second) = (register(), register());
    for registered in [&first, &second] {
        assert!(registered.as_object().unwrap().values().all(|value| !value.is_null()));
        assert_eq!(registered["client_secret_expires_at"], json!(0));
        assert!(!registered.to_string().contains(SECRET), "the operator's secret is nobody's");
    }
    let client = |registered: &Value| {
        let text = |name: &str| registered[name].as_str().unwrap().to_owned();
        (text("client_id"), text("client_secret"))
    };
    let (id, secret) = client(&second);
    let page = open(&gateway, &[("client_id", &id)]);
    assert!(page.text().contains("nobody has checked them"), "{}", page.text());
    let code = code(&gateway, "2", &[("client_id", &id)]);
    let credentials = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
    let answer = exchange(&gateway, &code, &credentials);
    let (_, token) = tokens(&answer);
    let (access, token) = tokens(&refresh(&gateway, &token, &credentials));
    assert_eq!(with(&gateway, &access, &list()).status, 200);
    let (other, other_secret) = client(&first);
    let foreign = [("client_id", other.as_str()), ("client_secret", other_secret.as_str())];
    assert_eq!(error(&refresh(&gateway, &token, &foreign)), (400, "invalid_grant".to_owned()));
    assert_eq!(
        error(&refresh(&gateway, &token, &[credentials[0], ("client_secret", "x")])),
        (401, "invalid_client".to_owned())
    );
    assert_eq!(
        error(&refresh(&gateway, &token, &[credentials[0], ("client_secret", "")])),
        (401, "invalid_client".to_owned())
    );
    tokens(&refresh(&gateway, &token, &credentials));
}
