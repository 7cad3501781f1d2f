//! What starts, what does not, and what the core is given.

use serde_json::json;

use crate::gateway::{Gateway, KEY, command, fake_core, real_core, refused};

#[test]
fn every_problem_is_reported_at_once_with_the_cores_own() {
    let core = format!("'{}'", real_core());
    let (code, text) = refused(&[
        ("CORE_COMMAND", &core),
        ("PORT", "http"),
        ("OAUTH_CLIENT_ID", "only-half"),
        ("TOOLSETS", "podman"),
        ("METRICS_ADDR", "off"),
    ]);
    assert_eq!(code, 64, "{text}");
    for part in ["PORT: `http`", "OAUTH_CLIENT_SECRET: missing", "TOOLSETS: `podman` is not known"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let (code, text) = refused(&[("API_KEY", "k"), ("CORE_COMMAND", &core), ("TOOLSETS", "podman")]);
    assert!(code == 1 && text.contains("TOOLSETS: `podman`"), "{code} {text}");
}

#[test]
fn without_a_way_to_sign_in_or_with_a_bad_level_it_does_not_start() {
    let core = format!("'{}'", fake_core());
    let (code, text) = refused(&[("CORE_COMMAND", &core)]);
    assert!(code == 64 && text.contains("no way to sign in"), "{text}");
    for level in ["0", "5", "level2", "1.9"] {
        let (code, text) = refused(&[("CORE_COMMAND", &core), ("API_KEY", "k"), ("CAPABILITY_LEVEL", level)]);
        assert!(code == 64 && text.contains("CAPABILITY_LEVEL"), "{text}");
    }
}

#[test]
fn a_core_that_cannot_be_used_is_refused_with_its_own_words() {
    let key = ("API_KEY", "k");
    let (code, text) = refused(&[key, ("CORE_COMMAND", "/nonexistent/core --x")]);
    assert!(code == 1 && text.contains("/nonexistent/core") && text.contains("CORE_COMMAND"), "{code} {text}");
    let core = format!("'{}'", fake_core());
    let (code, text) = refused(&[key, ("CORE_COMMAND", &core), ("FAKE_CORE", "exit")]);
    assert!(code == 1 && text.contains("no database, no service") && text.contains("exit status: 3"), "{text}");
    let (code, text) = refused(&[key, ("CORE_COMMAND", "/bin/true")]);
    assert!(code == 1 && text.contains("ended without an answer"), "{text}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let gateway = Gateway::fake(&[]);
    let core = format!("'{}'", fake_core());
    let (code, text) = refused(&[("API_KEY", "k"), ("CORE_COMMAND", &core), ("PORT", &gateway.port.to_string())]);
    assert!(code == 1 && text.contains("PORT") && text.contains("in use"), "{text}");
}

#[test]
fn check_says_whether_it_would_start() {
    let state = tempfile::tempdir().unwrap();
    let core = format!("'{}'", fake_core());
    let env = [("API_KEY", "k"), ("CORE_COMMAND", core.as_str())];
    let output = command(&env, state.path()).arg("--check").output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    let env = [&env[..], &[("FAKE_CORE", "exit")]].concat();
    let output = command(&env, state.path()).arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn health_is_that_of_the_gateway_on_the_configured_port() {
    let mut gateway = Gateway::fake(&[]);
    let ask = |env: &[(&str, &str)]| {
        // Its own listener is all it may need to know: no key, no core.
        let output = command(env, gateway.state.path()).arg("--health").output().unwrap();
        assert!(output.stdout.is_empty(), "{output:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let port = gateway.port.to_string();
    let well = (Some(0), String::new());
    assert_eq!(ask(&[("PORT", &port)]), well);
    assert_eq!(ask(&[("PORT", &port), ("BIND", "0.0.0.0")]), well);
    for (env, why) in
        [([("PORT", "http"), ("BIND", "::1")], "PORT: `http`"), ([("PORT", "0"), ("BIND", "")], "Set PORT")]
    {
        let (code, text) = ask(&env);
        assert!(code == Some(1) && text.contains(why), "{text}");
    }
    gateway.signal("TERM");
    gateway.end();
    let output = command(&[("PORT", &port)], gateway.state.path()).arg("--health").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn help_names_every_variable() {
    let state = tempfile::tempdir().unwrap();
    let output = command(&[], state.path()).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for var in mcp_gateway::VARS {
        assert!(text.contains(&format!("  {} ", var.name)) && text.contains(var.about), "{}", var.name);
    }
    let output = command(&[], state.path()).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("mcp-gateway {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(command(&[], state.path()).arg("--nope").output().unwrap().status.code(), Some(64));
}

#[test]
fn the_core_gets_its_own_variables_and_none_of_our_secrets() {
    let gateway = Gateway::fake(&[
        ("OAUTH_CLIENT_ID", "tablet"),
        ("OAUTH_CLIENT_SECRET", "client-secret-0123456789"),
        ("OWNER_PASSWORD", "owner-password-0123456789"),
        ("TOKEN_KEY", &"ab".repeat(32)),
        ("TRUENAS_API_KEY", "for the core"),
        ("API_KEY_LEVEL", "1"),
    ]);
    let said = gateway.modern("tools/call", json!({"name": "echo"})).said();
    let environment = said["environment"].to_string();
    for secret in [KEY, "client-secret", "owner-password", "abababab", "OAUTH_", "API_KEY="] {
        assert!(!environment.replace("TRUENAS_API_KEY=", "").contains(secret), "{secret}: {environment}");
    }
    for theirs in ["TRUENAS_API_KEY=for the core", "CAPABILITY_LEVEL=1", "STATE_DIR="] {
        assert!(environment.contains(theirs), "{theirs}: {environment}");
    }
}
