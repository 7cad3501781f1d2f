//! The configuration: every variable read, every problem told at once, `--env-file`, and what is made on disk.

use std::{collections::BTreeSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::Path, process::Stdio};

use regex::Regex;
use serde_json::json;

use crate::{
    stand_in::StandIn,
    support::{Core, command, run},
    wire::{ask, with_id},
};

const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[test]
fn each_wrong_value_stops_the_start_with_the_variables_name_and_what_is_valid() {
    let both = ("CONFIRM_KEY_FILE", "/dev/null");
    for (name, value, valid) in [
        ("CAPABILITY_LEVEL", "5", "manage"),
        ("TOOLSETS", "docker,podman", "compose"),
        ("TOOLS_ALLOW", "rm -rf /", "glob"),
        ("TOOLS_DENY", "docker_*;x", "glob"),
        ("PROTECTED", "traefik", "docker:traefik"),
        ("PROTECTED", "docker:", "docker:traefik"),
        ("PROTECTED", "dokcer:traefik", "docker:traefik"),
        ("CONFIRM", "yes", "destructive, changes, never"),
        ("CONFIRM_WITHOUT_DIALOG", "ask", "code, deny"),
        ("CONFIRM_KEY", "too-short-a-key", "32 characters"),
        ("CONFIRM_KEY_FILE", "/nothing/here", "/nothing/here"),
        ("CONFIRM_KEY_FILE", "/dev/null", "empty"),
        ("STATE_DIR", "state", "absolute"),
        ("REDACT", "maybe", "on, off"),
        ("CHANGES_PER_MINUTE", "-1", "0 to"),
        ("CHANGES_PER_MINUTE", "many", "0 to"),
        ("CHANGES_PER_OBJECT", "1.5", "0 to"),
        ("MAX_LINE", "1023", "1024 to"),
        ("MAX_LINE", "99999999999999999999", "1024 to"),
        ("MAX_RESULT_CHARS", "10", "2000 to"),
        ("DOCKER_HOST", "nas:2375", "tcp://"),
        ("DOCKER_HOST", "ssh://root@nas", "ssh -N -L"),
        ("DOCKER_SOCKET", "run/docker.sock", "unix://"),
        ("DOCKER_TIMEOUT", "0", "1 to"),
        ("DOCKER_TIMEOUT", "15s", "1 to"),
        ("DOCKGE_STACKS_PATH", "stacks", "absolute"),
        ("HOST_ROOT", "host", "absolute"),
    ] {
        let ran = run(&[], &[(name, value)], LIST);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{name}={value}: {}", ran.stderr);
        let named = ran.stderr.lines().any(|line| line.starts_with(name));
        assert!(named && ran.stderr.contains(valid), "{name}={value}: {}", ran.stderr);
        assert!(!ran.stderr.contains("too-short-a-key"), "a secret is printed: {}", ran.stderr);
    }
    let ran = run(&[], &[("CONFIRM_KEY", &"k".repeat(32)), both], LIST);
    assert_eq!(ran.code, Some(64));
    assert!(ran.stderr.contains("CONFIRM_KEY and CONFIRM_KEY_FILE"), "{}", ran.stderr);
}

#[test]
fn all_problems_are_told_at_once() {
    let wrong = [
        ("CAPABILITY_LEVEL", "level2"),
        ("TOOLSETS", "podman"),
        ("PROTECTED", "traefik, db"),
        ("CONFIRM", "maybe"),
        ("MAX_LINE", "0"),
        ("DOCKER_HOST", "nas"),
        ("HOST_ROOT", "host"),
    ];
    let ran = run(&[], &wrong, LIST);
    assert_eq!(ran.code, Some(64));
    for (name, _) in wrong {
        let times = ran.stderr.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(times, if name == "PROTECTED" { 2 } else { 1 }, "{name}: {}", ran.stderr);
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let empty: Vec<_> =
        homelab_mcp::VARS.iter().map(|var| (var.name, "")).filter(|(name, _)| *name != "STATE_DIR").collect();
    let ran = run(&[], &empty, LIST);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(with_id(&ran, 1), with_id(&run(&[], &[], LIST), 1));
    assert!(ran.stderr.contains("INFO"), "RUST_LOG too: {}", ran.stderr);
}

#[test]
fn what_is_not_utf_8_is_named() {
    let state = tempfile::tempdir().unwrap();
    let mut command = command(&[], &[], state.path());
    command.env("DOCKER_HOST", OsStr::from_bytes(b"unix:///\xff")).env("NOT_OURS", OsStr::from_bytes(b"\xff"));
    let ran = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(64), "{said}");
    assert!(said.contains("DOCKER_HOST") && said.contains("UTF-8") && !said.contains("NOT_OURS"), "{said}");
}

#[test]
fn variables_of_the_gateway_are_ignored() {
    let ran = run(&[], &[("PORT", "x"), ("API_KEY", ""), ("OAUTH_CLIENT_ID", "only one"), ("BIND", "nonsense")], LIST);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn every_variable_that_is_read_is_declared_and_the_other_way_round() {
    let source = include_str!("../../src/config.rs").split("#[cfg(test)]").next().unwrap();
    let (_, readers) = source.split_once("pub const VARS").unwrap().1.split_once("];").unwrap();
    let appliances = include_str!("../../src/config/appliances.rs").split("#[cfg(test)]").next().unwrap();
    let quoted = Regex::new(r#""([A-Z][A-Z0-9_]{3,})""#).unwrap();
    let mut read: BTreeSet<_> = quoted.captures_iter(readers).map(|found| found[1].to_owned()).collect();
    let in_appliances = quoted.captures_iter(appliances).map(|found| found[1].to_owned());
    let (prefixes, names): (BTreeSet<_>, BTreeSet<_>) = in_appliances.partition(|name| !name.contains('_'));
    read.extend(names);
    // Made of an appliance's prefix.
    let ending = Regex::new(r"\{prefix\}(_[A-Z_]+)").unwrap();
    for found in ending.captures_iter(appliances) {
        read.extend(prefixes.iter().map(|prefix| format!("{prefix}{}", &found[1])));
    }
    // The system's name, from which a default is made.
    assert!(read.remove("HOME"));
    assert!(readers.contains("state_dir()"));
    read.insert("STATE_DIR".to_owned());
    // Read before the rest, for the log.
    assert!(include_str!("../../src/cli.rs").contains(r#"text("RUST_LOG")"#));
    read.insert("RUST_LOG".to_owned());
    let declared: BTreeSet<_> = homelab_mcp::VARS.iter().map(|var| var.name.to_owned()).collect();
    assert_eq!(declared, read);
}

fn env_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn listed_with(file: &Path, env: &[(&str, &str)]) -> usize {
    let ran = run(&["--env-file", file.to_str().unwrap(), "--list-tools"], env, b"");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout.lines().count()
}

#[test]
fn an_env_file_is_read_and_the_environment_wins() {
    let plain = |level| listed_with(env_file("").path(), &[("CAPABILITY_LEVEL", level)]);
    let file = env_file("# ours\nexport CAPABILITY_LEVEL='4' \nTOOLS_DENY=\"docker_exec\" # not that\n\nNOT_OURS=1\n");
    assert_eq!(listed_with(file.path(), &[]), plain("4") - 1);
    assert_eq!(listed_with(file.path(), &[("CAPABILITY_LEVEL", "1")]), plain("1"));
    let quiet = env_file("RUST_LOG=error\n");
    let ran = run(&["--env-file", quiet.path().to_str().unwrap()], &[], LIST);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "RUST_LOG counts there too");
}

#[test]
fn an_env_file_that_is_missing_or_wrong_stops_the_start_along_with_the_other_problems() {
    let ran = run(&["--env-file", "/nothing/here.env"], &[("CONFIRM", "maybe")], LIST);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""));
    assert!(ran.stderr.contains("/nothing/here.env") && ran.stderr.contains("CONFIRM:"), "{}", ran.stderr);
    let file = env_file("A=1\nthis is not a line\nCAPABILITY_LEVEL=9\nSECRET-NAME=hunter2\n");
    let ran = run(&["--env-file", file.path().to_str().unwrap()], &[], LIST);
    assert_eq!(ran.code, Some(64));
    for word in ["line 2", "line 4", "CAPABILITY_LEVEL"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

#[test]
fn docker_host_wins_over_docker_socket_which_is_used_without_it() {
    let (host, socket) = (StandIn::engine(|_| None), StandIn::engine(|_| None));
    let path = socket.host().replace("unix://", "");
    let mut core = Core::start(&[("DOCKER_HOST", &host.host()), ("DOCKER_SOCKET", &path)]);
    core.ok("docker_list_containers", json!({}));
    core.finish();
    assert_eq!((host.asked("/version"), socket.asked("/version")), (1, 0));
    let mut core = Core::start(&[("DOCKER_SOCKET", &path)]);
    core.ok("docker_list_containers", json!({}));
    core.finish();
    assert_eq!((host.asked("/version"), socket.asked("/version")), (1, 1));
}

#[test]
fn a_server_that_only_reads_makes_nothing_on_disk_and_one_that_changes_keeps_it_private() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("deep/state");
    let text = dir.to_str().unwrap();
    let mut core = Core::start(&[("STATE_DIR", text)]);
    core.ok("system_info", json!({}));
    core.finish();
    assert!(!dir.exists());
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "2"), ("STATE_DIR", text)]);
    ask(&mut core, "ping", json!({}));
    core.finish();
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        assert_eq!(mode(&entry.path()) & 0o077, 0, "{}", entry.path().display());
    }
}

#[test]
fn without_a_writable_state_dir_the_start_says_what_is_not_done() {
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "4"), ("STATE_DIR", "/dev/null/state")]);
    ask(&mut core, "ping", json!({}));
    let log = core.log();
    assert!(log.contains("nothing that cannot be undone will be done") && log.contains("/dev/null/state"), "{log}");
    core.finish();
}

#[test]
fn an_audit_log_that_cannot_be_written_stops_the_start() {
    let ran = run(&[], &[("CAPABILITY_LEVEL", "2"), ("AUDIT_LOG", "/dev/null/audit.jsonl")], LIST);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("AUDIT_LOG"), "{}", ran.stderr);
    let ran = run(&[], &[("AUDIT_LOG", "/dev/null/audit.jsonl")], LIST);
    assert_eq!(ran.code, Some(0), "a server that only reads writes none: {}", ran.stderr);
}

#[test]
fn a_secret_is_taken_from_a_file_too() {
    let key = env_file(&format!("{}\n", "k".repeat(40)));
    let ran = run(&[], &[("CAPABILITY_LEVEL", "2"), ("CONFIRM_KEY_FILE", key.path().to_str().unwrap())], LIST);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
