//! How calls and the process end: the end of input, cancellation, signals. Every request that was read is answered, a
//! cancelled one is not, and no change is cut off in the middle without saying so.

use std::{
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    stand_in::{Reply, StandIn},
    support::{Core, command, run},
    wire::{ask, code, initialize, modern, text, until, with_id},
};

/// A core at level 2 whose engine is this one and which waits for it as long as it takes.
fn core_of(engine: &StandIn) -> Core {
    Core::start(&[("CAPABILITY_LEVEL", "2"), ("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "600")])
}

/// An engine whose restarts take until they are released.
fn slow_restart() -> StandIn {
    StandIn::engine(|request| request.contains("/restart").then(|| Reply::Held(204, Value::Null)))
}

fn restart(core: &mut Core) -> u64 {
    core.begin("docker_restart_container", json!({"container": "web"}))
}

/// The audit lines' phases and outcomes.
fn audited(core: &Core) -> Vec<String> {
    let log = std::fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap_or_default();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| format!("{} {}", line["phase"].as_str().unwrap(), line["outcome"].as_str().unwrap_or("-")))
        .collect()
}

#[track_caller]
fn assert_within(limit: Duration, since: Instant, core: &Core) {
    assert!(since.elapsed() < limit, "it took {:?}\n{}", since.elapsed(), core.transcript());
}

// --- the end of input -----------------------------------------------------------------------------------------------

#[test]
fn the_end_of_input_waits_for_calls_that_take_a_while() {
    let call = |id: u32| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "system_info"}}).to_string()
    };
    let ran = run(&[], &[], [call(1), call(2), call(3)].join("\n").as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 3), "{}", ran.stderr);
    for id in 1..=3 {
        assert_eq!(with_id(&ran, id)["result"]["isError"], false);
    }
}

#[test]
fn the_end_of_input_waits_longer_than_the_library_would_and_progress_goes_on() {
    // rmcp gives up five seconds after the end of input, and sooner when a notification is to be sent.
    let engine = StandIn::silent();
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "7")]);
    let call = json!({"name": "docker_list_containers", "arguments": {}, "_meta": {"progressToken": "t"}});
    let old = core.request("tools/call", call.clone());
    let new = core.request("tools/call", modern(call));
    core.close();
    for id in [old, new] {
        let answer = core.answer(id);
        assert!(text(&answer).contains("7 s"), "{answer}");
    }
    assert!(core.end().success());
    let notifications = core.unasked();
    assert!(notifications.len() >= 10, "{notifications:?}");
}

#[test]
fn the_end_of_input_waits_for_a_change_and_its_answer() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    core.close();
    engine.wait_for("/restart", 1);
    engine.release();
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    assert!(core.end().success());
    assert_eq!(audited(&core), ["before -", "after changed"]);
}

#[test]
fn the_end_of_input_waits_for_a_change_that_has_outlasted_its_call() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = core.begin("docker_restart_container", json!({"container": "web", "wait_seconds": 0}));
    let content = core.answer(id)["result"]["structuredContent"].clone();
    assert_eq!(content["outcome"], "running", "{content}");
    assert!(content["operation"].as_str().is_some_and(|id| id.starts_with("op-")));
    core.close();
    core.wait_for_log("waiting for 1 running change");
    engine.release();
    assert!(core.end().success());
    assert_eq!(audited(&core), ["before -", "after changed"]);
}

// --- cancellation ---------------------------------------------------------------------------------------------------

fn cancel(core: &mut Core, id: Value) {
    let params = json!({"requestId": id, "reason": "test"});
    core.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string());
}

#[test]
fn cancelling_a_read_drops_its_request_within_100_ms_and_answers_nothing() {
    // The quickest of some tries: how busy the machine is must not decide.
    let mut quickest = Duration::MAX;
    for era in ["bare", "legacy", "modern", "bare", "bare", "bare"] {
        let engine = StandIn::silent();
        let mut core = core_of(&engine);
        if era == "legacy" {
            initialize(&mut core, "2025-11-25", json!({}));
        }
        let call = json!({"name": "docker_list_containers", "arguments": {}});
        let id = core.request("tools/call", if era == "modern" { modern(call) } else { call });
        engine.wait_for("/version", 1);
        let clock = Instant::now();
        cancel(&mut core, json!(id));
        until("the core hangs up", || engine.left("/version").is_some());
        quickest = quickest.min(engine.left("/version").unwrap().saturating_duration_since(clock));
        assert_within(Duration::from_secs(5), clock, &core);
        ask(&mut core, "tools/list", json!({}));
        core.close();
        assert!(core.end().success());
        assert_eq!(core.unasked(), Vec::<Value>::new(), "{era}: something was answered");
    }
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
}

#[test]
fn cancelling_a_call_that_waits_for_its_turn_answers_nothing_either() {
    let engine = StandIn::silent();
    let mut core = core_of(&engine);
    let calls: Vec<_> = (0..80).map(|_| core.begin("docker_list_containers", json!({}))).collect();
    engine.wait_for("/version", 2);
    for id in calls {
        cancel(&mut core, json!(id));
    }
    core.close();
    assert!(core.end().success());
    assert_eq!(core.unasked(), Vec::<Value>::new());
}

#[test]
fn a_cancel_names_its_request_whatever_form_the_id_has() {
    for id in [r#""a""#, r#""ä\u0041""#, "18446744073709551616", "-5"] {
        let engine = StandIn::silent();
        let mut core = core_of(&engine);
        core.send(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"docker_list_containers"}}}}"#
        ));
        engine.wait_for("/version", 1);
        core.send(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
        core.close();
        assert!(core.end().success());
        assert_eq!(core.unasked(), Vec::<Value>::new(), "{id}");
    }
}

#[test]
fn a_cancel_ends_both_of_two_requests_with_one_id_and_no_other() {
    let engine = StandIn::silent();
    let mut core = core_of(&engine);
    for id in [r#"5"#, r#"5"#, r#""5""#] {
        core.send(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"docker_container_logs","arguments":{{"container":"a"}}}}}}"#
        ));
    }
    engine.wait_for("/version", 3);
    cancel(&mut core, json!(5));
    core.signal("TERM");
    assert_eq!(core.answer("5")["result"]["isError"], true);
    core.end();
    assert_eq!(core.unasked(), Vec::<Value>::new());
}

#[test]
fn cancels_of_nothing_are_ignored() {
    let mut core = Core::start(&[]);
    let first = core.begin("system_info", json!({}));
    for params in [
        json!({"requestId": 4711}),
        json!({"requestId": "1"}),
        json!({"requestId": null}),
        json!({"requestId": {}}),
        json!({"requestId": 1.5}),
        json!({}),
    ] {
        core.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string());
    }
    core.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#);
    assert_eq!(core.answer(first)["result"]["isError"], false);
    // One that has ended, and then its id again.
    cancel(&mut core, json!(first));
    core.send(&json!({"jsonrpc": "2.0", "id": first, "method": "ping"}).to_string());
    assert_eq!(core.answer(first)["result"], json!({}));
    core.finish();
}

#[test]
fn cancelling_a_change_that_was_sent_ends_only_the_waiting() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/restart", 1);
    cancel(&mut core, json!(id));
    // The change is still there and can be followed.
    let rows = core.ok("operation_status", json!({}))["operations"].clone();
    assert_eq!(rows[0]["outcome"], "running", "{rows}");
    assert!(engine.left("/restart").is_none(), "the request to the engine was dropped");
    engine.release();
    let row = core.ok("operation_status", json!({"operation": rows[0]["operation"], "wait_seconds": 30}))["operations"]
        [0]
    .clone();
    assert_eq!(row["outcome"], "changed", "{row}");
    core.close();
    assert!(core.end().success());
    assert_eq!(core.unasked(), Vec::<Value>::new(), "nothing is answered for the cancelled call");
    assert_eq!(audited(&core), ["before -", "after changed"]);
}

#[test]
fn cancelling_a_change_that_is_still_looked_at_does_nothing_at_all() {
    let engine = StandIn::engine(|request| request.contains("/web/json").then_some(Reply::Silence));
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/web/json", 1);
    cancel(&mut core, json!(id));
    until("the core hangs up", || engine.left("/web/json").is_some());
    core.close();
    assert!(core.end().success());
    assert_eq!((engine.asked("POST"), audited(&core)), (0, Vec::new()));
    assert_eq!(core.unasked(), Vec::<Value>::new());
}

// --- signals --------------------------------------------------------------------------------------------------------

#[test]
fn a_signal_ends_an_idle_process_within_a_second_with_stdin_open() {
    for signal in ["TERM", "INT"] {
        let mut core = Core::start(&[]);
        ask(&mut core, "ping", json!({}));
        let clock = Instant::now();
        core.signal(signal);
        assert_eq!(core.end().code(), Some(0), "{signal}");
        assert_within(Duration::from_secs(1), clock, &core);
    }
}

#[test]
fn a_signal_ends_reads_within_a_second_and_each_is_answered() {
    for signal in ["TERM", "INT"] {
        let engine = StandIn::silent();
        let mut core = core_of(&engine);
        let mut calls: Vec<_> = (0..40).map(|_| core.begin("docker_list_containers", json!({}))).collect();
        calls.push(core.begin("system_info", json!({})));
        engine.wait_for("/version", 1);
        ask(&mut core, "ping", json!({}));
        let clock = Instant::now();
        core.signal(signal);
        assert_eq!(core.end().code(), Some(0), "{signal}");
        assert_within(Duration::from_secs(1), clock, &core);
        for id in calls {
            let answer = core.answer(id);
            assert_eq!(answer["result"]["isError"], true);
            assert!(text(&answer).contains("stopping"), "{answer}");
        }
        assert_eq!(core.unasked(), Vec::<Value>::new());
    }
}

#[test]
fn a_signal_ends_a_change_that_has_not_begun_within_a_second_and_says_so() {
    let engine = StandIn::engine(|request| request.contains("/web/json").then_some(Reply::Silence));
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/web/json", 1);
    let clock = Instant::now();
    core.signal("TERM");
    assert_eq!(core.end().code(), Some(0));
    assert_within(Duration::from_secs(1), clock, &core);
    let answer = core.answer(id);
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(text(&answer).contains("stopping") && text(&answer).contains("othing was done"), "{answer}");
    assert_eq!((engine.asked("POST"), audited(&core)), (0, Vec::new()));
}

#[test]
fn a_signal_gives_a_running_change_time_to_end_well() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/restart", 1);
    core.signal("TERM");
    core.wait_for_log("1 running change");
    engine.release();
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    assert_eq!(core.end().code(), Some(0));
    assert_eq!(audited(&core), ["before -", "after changed"]);
}

#[test]
fn a_change_that_does_not_end_in_ten_seconds_is_answered_as_unknown() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/restart", 1);
    let clock = Instant::now();
    core.signal("TERM");
    let answer = core.answer(id);
    let took = clock.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(12), "{took:?}");
    assert_eq!(answer["result"]["isError"], true);
    let content = &answer["result"]["structuredContent"];
    assert_eq!(content["outcome"], "unknown", "{content}");
    assert!(content["message"].as_str().unwrap().contains("may have happened"), "{content}");
    assert_eq!(core.end().code(), Some(0));
    assert_within(Duration::from_secs(13), clock, &core);
}

#[test]
fn a_second_signal_ends_the_grace_of_the_first() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/restart", 1);
    core.signal("INT");
    core.wait_for_log("1 running change");
    let clock = Instant::now();
    // One that comes before the first is handled counts with it.
    let mut answered = None;
    until("an answer after a second signal", || {
        core.signal("INT");
        answered = core.receive(Duration::from_millis(200));
        answered.is_some()
    });
    let answered = answered.unwrap();
    assert_eq!((&answered["id"], &answered["result"]["structuredContent"]["outcome"]), (&json!(id), &json!("unknown")));
    assert_eq!(core.end().code(), Some(0));
    assert_within(Duration::from_secs(5), clock, &core);
}

#[test]
fn a_signal_ends_the_process_within_a_second_also_when_nobody_reads_its_output() {
    let state = tempfile::tempdir().unwrap();
    let mut child = command(&[], &[], state.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds, and less than would hold up the writing here.
    for id in 0..100 {
        stdin.write_all(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\"}}\n").as_bytes()).unwrap();
    }
    #[cfg(target_os = "linux")]
    until("the writing thread is stuck", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().flatten();
        tasks.into_iter().any(|task| {
            std::fs::read_to_string(task.path().join("wchan")).is_ok_and(|wait| wait.contains("pipe_write"))
        })
    });
    let clock = Instant::now();
    let sent = std::process::Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    until("it ends", || child.try_wait().unwrap().is_some());
    let took = clock.elapsed();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(took < Duration::from_millis(1500), "it took {took:?}");
}

#[test]
fn what_comes_after_a_signal_is_not_begun() {
    let engine = slow_restart();
    let mut core = core_of(&engine);
    let id = restart(&mut core);
    engine.wait_for("/restart", 1);
    core.signal("TERM");
    core.wait_for_log("stopping");
    let late = core.begin("docker_restart_container", json!({"container": "web"}));
    engine.release();
    core.answer(id);
    assert!(core.end().success());
    // Not read at all, or refused: never done.
    assert_eq!(engine.asked("/restart"), 1);
    for message in core.unasked() {
        assert!(
            message["id"] == late
                && (message.get("error").is_some_and(|_| code(&message) < 0) || message["result"]["isError"] == true),
            "{message}"
        );
    }
}
