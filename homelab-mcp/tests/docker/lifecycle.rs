//! Start, stop and restart: what is said is read back; what already was is not called a change; brakes, dry runs and
//! operations that outlast their calls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    lab::{DEAF, IDLE, Lab, docker, image, inspect, rows, text, until},
    support::Core,
};

fn refused(core: &mut Core, tool: &str, arguments: Value) -> Value {
    let result = core.call(tool, arguments);
    assert_eq!(result["isError"], json!(true), "{result}");
    result["structuredContent"].clone()
}

fn started(name: &str) -> String {
    inspect(name, "{{.State.StartedAt}}")
}

#[test]
fn stop_start_and_restart_say_what_they_changed() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[("CAPABILITY_LEVEL", "2")]);
    let first = started(&web);

    let done = core.ok("docker_start_container", json!({"container": web}));
    assert_eq!((text(&done, "outcome"), &done["success"]), ("unchanged", &json!(true)));
    assert!(text(&done, "message").contains("already running"), "{done}");
    assert_eq!(started(&web), first);

    let done = core.ok("docker_stop_container", json!({"container": web}));
    assert_eq!((text(&done, "outcome"), text(&done, "state"), &done["exit_code"]), ("changed", "exited", &json!(0)));
    assert_eq!((text(&done, "container"), text(&done["target"], "state")), (web.as_str(), "running"));
    assert_eq!(inspect(&web, "{{.State.Status}}"), "exited");

    let done = core.ok("docker_stop_container", json!({"container": web}));
    assert_eq!(text(&done, "outcome"), "unchanged");
    assert!(text(&done, "message").contains("was not running"), "{done}");

    let done = core.ok("docker_start_container", json!({"container": web}));
    assert_eq!((text(&done, "outcome"), text(&done, "state")), ("changed", "running"));
    assert_eq!(inspect(&web, "{{.State.Status}}"), "running");
    let second = started(&web);
    assert_ne!(second, first);

    let done = core.ok("docker_restart_container", json!({"container": web}));
    assert_eq!((text(&done, "outcome"), text(&done, "state")), ("changed", "running"));
    assert_ne!(started(&web), second);
    core.ok("docker_stop_container", json!({"container": web}));
    let done = core.ok("docker_restart_container", json!({"container": web}));
    assert_eq!((text(&done, "outcome"), inspect(&web, "{{.State.Status}}").as_str()), ("changed", "running"));
}

#[test]
fn a_paused_container_is_not_said_to_run() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    docker(&["pause", &web]);
    let mut core = lab.core(&[]);
    let told = refused(&mut core, "docker_start_container", json!({"container": web}));
    assert_eq!(text(&told, "outcome"), "failed", "{told}");
    assert!(text(&told, "message").contains("paused"), "{told}");
}

#[test]
fn a_stop_kills_after_its_time() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let clock = Instant::now();
    let done = core.ok("docker_stop_container", json!({"container": deaf, "timeout": 1}));
    assert!((1..9).contains(&clock.elapsed().as_secs()), "{:?}", clock.elapsed());
    assert_eq!((text(&done, "outcome"), &done["exit_code"]), ("changed", &json!(137)));
}

#[test]
fn a_container_that_ends_at_once_is_told_with_its_last_words() {
    let lab = Lab::new();
    let (bad, good) = (
        lab.create("bad", &[], "echo cannot open config; echo giving up >&2; exit 3"),
        lab.create("good", &[], "echo done"),
    );
    let mut core = lab.core(&[]);
    let told = refused(&mut core, "docker_start_container", json!({"container": bad}));
    assert_eq!((text(&told, "outcome"), text(&told, "state"), &told["exit_code"]), ("failed", "exited", &json!(3)));
    assert!(text(&told, "message").contains("exit code 3"), "{told}");
    let logs = text(&told, "logs");
    assert!(logs.contains("cannot open config") && logs.contains("giving up"), "{logs}");

    let done = core.ok("docker_start_container", json!({"container": good}));
    assert_eq!((text(&done, "outcome"), &done["exit_code"], text(&done, "logs")), ("changed", &json!(0), "done"));
    assert!(text(&done, "message").contains("ended by itself"), "{done}");

    let told = refused(&mut core, "docker_restart_container", json!({"container": bad}));
    assert_eq!((text(&told, "outcome"), &told["exit_code"]), ("failed", &json!(3)));
}

#[test]
fn last_words_are_of_this_run_whenever_it_began() {
    let lab = Lab::new();
    let once = "if [ -e /again ]; then echo second run; else echo first run; touch /again; fi; exit 3";
    let names: Vec<_> = (0..6).map(|n| lab.create(&format!("job{n}"), &[], once)).collect();
    let mut core = lab.core(&[("CHANGES_PER_MINUTE", "0")]);
    // The engine notes the start after the process began, at times in the next second already.
    for round in ["first run", "second run"] {
        let begun: Vec<_> =
            names.iter().map(|name| core.begin("docker_start_container", json!({"container": name}))).collect();
        for id in begun {
            let told = core.answer(id)["result"]["structuredContent"].clone();
            assert!(text(&told, "logs").contains(round), "{round}: {told}");
        }
    }
}

#[test]
fn a_container_that_cannot_begin_says_why() {
    let lab = Lab::new();
    let broken = lab.name("broken");
    docker(&["create", "--name", &broken, image(), "/no/such/program"]);
    let mut core = lab.core(&[]);
    let told = refused(&mut core, "docker_start_container", json!({"container": broken}));
    assert_eq!(text(&told, "outcome"), "failed");
    assert!(text(&told, "message").contains("/no/such/program"), "{told}");
    assert_ne!(inspect(&broken, "{{.State.Status}}"), "running");
}

#[test]
fn a_crash_looping_container_is_not_called_restarted() {
    let lab = Lab::new();
    let looping = lab.run("looping", &["--restart", "always"], "echo no database; exit 5");
    until("it loops", || inspect(&looping, "{{.RestartCount}}").parse::<u32>().unwrap() >= 3);
    let mut core = lab.core(&[]);
    let told = refused(&mut core, "docker_restart_container", json!({"container": looping}));
    assert_eq!(text(&told, "outcome"), "failed", "{told}");
    assert!(text(&told, "message").contains("exit code 5"), "{told}");
    assert!(text(&told, "logs").contains("no database"), "{told}");
    let done = core.ok("docker_stop_container", json!({"container": looping}));
    assert_eq!(text(&done, "outcome"), "changed", "{done}");
    assert_eq!(inspect(&looping, "{{.State.Status}}"), "exited");
}

#[test]
fn a_container_that_is_removed_when_it_stops_is_stopped_all_the_same() {
    let lab = Lab::new();
    let web = lab.run("web", &["--rm"], IDLE);
    let mut core = lab.core(&[]);
    let done = core.ok("docker_stop_container", json!({"container": web}));
    assert_eq!(text(&done, "outcome"), "changed");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[("CONFIRM", "changes")]);
    let before = started(&web);
    for tool in ["docker_restart_container", "docker_stop_container"] {
        let told = core.ok(tool, json!({"container": web, "dry_run": true}));
        assert_eq!((text(&told, "outcome"), &told["success"]), ("planned", &json!(false)));
        assert!(text(&told, "message").contains(&web) && told.get("confirm").is_none(), "{told}");
    }
    let told = core.ok("docker_exec", json!({"container": web, "command": "touch /made", "dry_run": true}));
    assert_eq!(text(&told, "outcome"), "planned");
    docker(&["exec", &web, "test", "!", "-e", "/made"]);
    assert_eq!((started(&web), inspect(&web, "{{.State.Status}}")), (before, "running".to_owned()));
    let audit = std::fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap_or_default();
    assert_eq!(audit, "", "nothing was changed, so nothing is recorded");
}

#[test]
fn brakes_hold_a_loop() {
    let lab = Lab::new();
    let (web, other) = (lab.run("web", &[], IDLE), lab.run("other", &[], IDLE));
    let mut core = lab.core(&[("CHANGES_PER_OBJECT", "2"), ("CHANGES_PER_MINUTE", "3")]);
    let exec = |name: &str| json!({"container": name, "command": "true"});
    core.ok("docker_exec", exec(&web));
    core.ok("docker_exec", exec(&web));
    let first = started(&web);
    let told = refused(&mut core, "docker_restart_container", json!({"container": web}));
    assert_eq!(text(&told, "outcome"), "refused");
    assert!(text(&told, "message").contains("CHANGES_PER_OBJECT=2"), "{told}");
    assert_eq!(started(&web), first);
    core.ok("docker_exec", exec(&other));
    let told = refused(&mut core, "docker_exec", exec(&other));
    assert!(text(&told, "message").contains("CHANGES_PER_MINUTE=3"), "{told}");
    // Another process with the same STATE_DIR brakes with it; reading goes on.
    let state = core.state.path().to_str().unwrap().to_owned();
    let mut second = lab.core(&[("CHANGES_PER_MINUTE", "3"), ("STATE_DIR", &state)]);
    let told = refused(&mut second, "docker_exec", exec(&other));
    assert!(text(&told, "message").contains("CHANGES_PER_MINUTE=3"), "{told}");
    second.ok("docker_container_logs", json!({"container": web}));
}

#[test]
fn a_change_that_outlasts_its_call_is_followed_by_any_process() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let clock = Instant::now();
    let told = core.ok("docker_stop_container", json!({"container": deaf, "timeout": 4, "wait_seconds": 0}));
    assert!(clock.elapsed() < Duration::from_secs(3), "{:?}", clock.elapsed());
    assert_eq!((text(&told, "outcome"), &told["success"]), ("running", &json!(false)));
    assert!(text(&told, "message").contains("operation_status"), "{told}");
    let operation = text(&told, "operation").to_owned();

    let state = core.state.path().to_str().unwrap().to_owned();
    let mut other = lab.core(&[("STATE_DIR", &state), ("CAPABILITY_LEVEL", "1")]);
    for core in [&mut core, &mut other] {
        let status = core.ok("operation_status", json!({"operation": operation}));
        let row = &rows(&status, "operations")[0];
        assert_eq!((text(row, "outcome"), text(row, "tool")), ("running", "docker_stop_container"), "{status}");
        assert!(text(row, "target").contains(&deaf), "{row}");
    }
    let listed = core.ok("operation_status", json!({}));
    assert!(rows(&listed, "operations").iter().any(|row| row["operation"] == json!(operation)), "{listed}");
    for core in [&mut other, &mut core] {
        let status = core.ok("operation_status", json!({"operation": operation, "wait_seconds": 30}));
        let row = &rows(&status, "operations")[0];
        assert_eq!(text(row, "outcome"), "changed", "{status}");
        assert_eq!(row["result"]["state"], "exited", "{row}");
    }
    assert_eq!(inspect(&deaf, "{{.State.Status}}"), "exited");
    let said = core.error("operation_status", json!({"operation": "op-000000000000"}));
    assert!(said.contains("no operation has this id"), "{said}");
}

#[test]
fn what_takes_longer_than_a_second_tells_of_its_progress() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let params = json!({
        "name": "docker_stop_container",
        "arguments": {"container": deaf, "timeout": 3},
        "_meta": {"progressToken": "stop-it"},
    });
    let id = core.request("tools/call", params);
    // On a busy machine the first one may come before there is a word on how far it is.
    let told = core.wait_for(|message| {
        message["method"] == "notifications/progress" && text(&message["params"], "message").contains(&deaf)
    });
    assert_eq!(told["params"]["progressToken"], "stop-it");
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    for later in core.unasked() {
        assert_eq!(later["method"], "notifications/progress", "{later}");
    }
}

#[test]
fn two_changes_of_one_object_follow_each_other() {
    let lab = Lab::new();
    let (deaf, other) = (lab.run("deaf", &[], DEAF), lab.run("other", &[], IDLE));
    let mut core = lab.core(&[]);
    let stop = core.begin("docker_stop_container", json!({"container": deaf, "timeout": 3}));
    until("it is under way", || !rows(&core.ok("operation_status", json!({})), "operations").is_empty());
    let restart = core.begin("docker_restart_container", json!({"container": deaf, "timeout": 1}));
    let clock = Instant::now();
    core.ok("docker_exec", json!({"container": other, "command": "true"}));
    assert!(clock.elapsed() < Duration::from_millis(2500), "another container need not wait: {:?}", clock.elapsed());
    assert_eq!(core.answer(stop)["result"]["structuredContent"]["outcome"], "changed");
    assert_eq!(core.answer(restart)["result"]["structuredContent"]["outcome"], "changed");
    assert_eq!(inspect(&deaf, "{{.State.Status}}"), "running", "the restart came after the stop");
}
