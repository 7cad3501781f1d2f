//! The command line: options, exit codes, `--check`, `--verify-audit`, and what a person at a terminal is told.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    stand_in::{Reply, StandIn},
    support::{Core, Ran, run},
    wire::{ask, modern},
};

const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[test]
fn version_and_help_print_and_end_with_0() {
    let version = run(&["--version"], &[("CAPABILITY_LEVEL", "nonsense")], LIST);
    let expected = format!("homelab-mcp {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout, version.stderr), (Some(0), expected, String::new()));
    let help = run(&["--help"], &[], LIST);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for option in
        ["--env-file", "--check", "--list-tools", "--json", "--verify-audit", "--behind-gateway", "--version", "--help"]
    {
        assert!(help.stdout.contains(option), "{option} is not explained");
    }
    for code in ["Exit codes", " 0 ", " 1 ", " 64 "] {
        assert!(help.stdout.contains(code), "{code:?} is not explained");
    }
}

#[test]
fn help_has_every_variable_with_its_meaning_and_default() {
    let help = run(&["--help"], &[], b"").stdout;
    for var in homelab_mcp::VARS {
        let line = help.lines().find(|line| line.trim_start().starts_with(&format!("{} ", var.name)));
        let line = line.unwrap_or_else(|| panic!("{} is missing", var.name));
        assert!(line.contains(var.about) && line.ends_with(&format!("[{}]", var.default)), "{line}");
    }
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_is_wrong() {
    for (args, word) in [
        (&["--nothing"][..], "--nothing"),
        (&["serve"], "serve"),
        (&["--check=yes"], "--check=yes"),
        (&["--json"], "--list-tools"),
        (&["--json", "--check"], "--list-tools"),
        (&["--env-file"], "--env-file"),
        (&["--verify-audit"], "--verify-audit"),
        (&["--list-tools", "--env-file", "/nothing/here"], "/nothing/here"),
    ] {
        let ran = run(args, &[], LIST);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
    }
}

/// A folder with a `docker` that answers what `--check` asks.
fn with_compose_plugin() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let docker = dir.path().join("docker");
    fs::write(&docker, "#!/bin/sh\necho 2.40.3\n").unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn row<'a>(ran: &'a Ran, name: &str) -> &'a str {
    let row = ran.stdout.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
    row.unwrap_or_else(|| panic!("no row for {name}: {}\n{}", ran.stdout, ran.stderr))
}

#[test]
fn check_is_a_table_of_every_backend_and_ends_with_0_when_all_is_fine() {
    let (engine, plugin, stacks) = (StandIn::engine(|_| None), with_compose_plugin(), tempfile::tempdir().unwrap());
    let path = format!("{}:/usr/bin:/bin", plugin.path().display());
    for level in ["1", "4"] {
        let ran = run(
            &["--check"],
            &[
                ("CAPABILITY_LEVEL", level),
                ("DOCKER_HOST", &engine.host()),
                ("DOCKGE_STACKS_PATH", stacks.path().to_str().unwrap()),
                ("PATH", &path),
            ],
            b"",
        );
        for (backend, word) in [
            ("host", "CPU"),
            ("docker", "28.0.0"),
            ("compose", "2.40.3"),
            ("stacks", "0 stacks"),
            ("state", ""),
            ("opnsense", "OPNSENSE_HOST"),
            ("truenas", "TRUENAS_HOST"),
            ("proxmox", "PROXMOX_HOST"),
        ] {
            let row = row(&ran, backend);
            let unused = (backend, level) == ("state", "1") || word.ends_with("_HOST");
            let mark = if unused { "- " } else { "ok " };
            assert!(row.starts_with(mark) && row.contains(word), "{row}");
        }
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 8), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn check_says_what_to_fix_and_ends_with_1() {
    let ran = run(
        &["--check"],
        &[
            ("CAPABILITY_LEVEL", "4"),
            ("DOCKER_HOST", "unix:///nothing/here.sock"),
            ("DOCKGE_STACKS_PATH", "/nothing/there"),
            ("PATH", "/nothing"),
            ("STATE_DIR", "/dev/null/state"),
        ],
        b"",
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(row(&ran, "host").starts_with("ok "));
    for (backend, words) in [
        ("docker", &["/nothing/here.sock", "no such socket", "DOCKER_HOST"][..]),
        ("compose", &["plugin", "nstall"]),
        ("stacks", &["/nothing/there", "DOCKGE_STACKS_PATH"]),
        ("state", &["/dev/null/state", "STATE_DIR"]),
    ] {
        let row = row(&ran, backend);
        assert!(row.starts_with("FIX ") && words.iter().all(|word| row.contains(word)), "{words:?}: {row}");
    }
}

#[test]
fn check_of_an_engine_that_does_not_answer_takes_no_longer_than_its_time_out() {
    let engine = StandIn::silent();
    let clock = std::time::Instant::now();
    let ran = run(&["--check"], &[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "2")], b"");
    assert_eq!(ran.code, Some(1));
    assert!(row(&ran, "docker").starts_with("FIX ") && row(&ran, "docker").contains("2 s"), "{}", ran.stdout);
    assert!(clock.elapsed().as_secs() < 15, "{:?}", clock.elapsed());
}

#[test]
fn check_of_a_wrong_configuration_is_the_configurations_error() {
    let ran = run(&["--check"], &[("DOCKER_HOST", "ssh://nas")], b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""));
    assert!(ran.stderr.contains("DOCKER_HOST") && ran.stderr.contains("ssh -N -L"), "{}", ran.stderr);
}

/// The audit log of two changes.
fn audit_log(args: &[&str]) -> (Core, Vec<Value>) {
    let engine = StandIn::engine(|_| None);
    let mut core = Core::with_args(args, &[("CAPABILITY_LEVEL", "2"), ("DOCKER_HOST", &engine.host())]);
    core.ok("docker_stop_container", json!({"container": "web", "dry_run": true}));
    for principal in ["client:tablet", "forged"] {
        let call = json!({
            "name": "docker_restart_container", "arguments": {"container": "web"},
            "_meta": {"homelab-mcp/principal": principal},
        });
        let answer = ask(&mut core, "tools/call", modern(call));
        assert_eq!(answer["result"]["structuredContent"]["outcome"], "changed", "{answer}");
    }
    core.close();
    assert!(core.end().success());
    let log = fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (core, lines)
}

fn verify(path: &Path) -> Ran {
    run(&["--verify-audit", path.to_str().unwrap()], &[("CAPABILITY_LEVEL", "nonsense")], LIST)
}

#[test]
fn verify_audit_counts_the_lines_of_a_whole_log_and_finds_what_was_done_to_a_changed_one() {
    let (core, lines) = audit_log(&[]);
    assert_eq!(lines.len(), 4, "a dry run is no change: {lines:?}");
    let path = core.state.path().join("audit.jsonl");
    let good = verify(&path);
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
    assert!(good.stdout.contains("4 lines"), "{}", good.stdout);

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for (change, line) in [
        (text.replacen("docker_restart_container", "docker_stop_container", 1), "line 1"),
        ([lines[0], lines[2], lines[3]].join("\n"), "line 2"),
        ([lines[1], lines[0], lines[2], lines[3]].join("\n"), "line 1"),
        (format!("{text}{}", &lines[0][..20]), "line 5"),
        ("nonsense\n".to_owned(), "line 1"),
    ] {
        fs::write(&path, change).unwrap();
        let bad = verify(&path);
        assert_eq!((bad.code, bad.stdout.as_str()), (Some(1), ""));
        assert!(bad.stderr.contains(line), "{line}: {}", bad.stderr);
    }
    fs::write(&path, "").unwrap();
    assert_eq!(verify(&path).code, Some(0), "nothing was changed yet");
    let missing = verify(&core.state.path().join("nothing"));
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("cannot read"), "{}", missing.stderr);
}

#[test]
fn the_callers_name_is_believed_only_behind_the_gateway() {
    let principals = |args: &[&str]| -> Vec<String> {
        let (_core, lines) = audit_log(args);
        lines.iter().map(|line| line["principal"].as_str().unwrap().to_owned()).collect()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(principals(&[]), ["local"; 4]));
        scope.spawn(|| {
            assert_eq!(principals(&["--behind-gateway"]), ["client:tablet", "client:tablet", "forged", "forged"]);
        });
    });
}

#[test]
fn a_person_at_a_terminal_is_told_what_it_waits_for_and_a_pipe_is_not() {
    let hint = |text: &str| text.lines().filter(|line| line.contains("waits for JSON-RPC")).count();
    assert_eq!(hint(&run(&[], &[], LIST).stderr), 0);

    let binary = env!("CARGO_BIN_EXE_homelab-mcp");
    let state = tempfile::tempdir().unwrap();
    // It gives the program a terminal; its own end of input ends the program.
    let ran = Command::new("script")
        .args(["-qec", binary, "/dev/null"])
        .env("STATE_DIR", state.path())
        .stdin(std::process::Stdio::null())
        .output();
    let Ok(ran) = ran else {
        println!("left out: `script` (util-linux) is not installed");
        return;
    };
    let shown = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(hint(&shown), 1, "{shown}");
    let line = shown.lines().find(|line| line.contains("waits for JSON-RPC")).unwrap();
    assert!(line.contains("stdin") && line.contains("tools/list") && line.contains("--help"), "{line}");
    assert_eq!(ran.status.code(), Some(0), "{shown}");
}

#[test]
fn help_can_be_cut_off_by_its_reader() {
    let shell = format!("{} --help | head -n 1", env!("CARGO_BIN_EXE_homelab-mcp"));
    let ran = Command::new("bash").args(["-c", &format!("set -o pipefail; {shell}")]).output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn an_engine_that_says_no_is_shown_with_its_words() {
    let engine = StandIn::new(|_| Reply::Json(500, json!({"message": "out of cheese"})));
    let ran = run(&["--check"], &[("DOCKER_HOST", &engine.host())], b"");
    assert!(row(&ran, "docker").contains("out of cheese"), "{}", ran.stdout);
}
