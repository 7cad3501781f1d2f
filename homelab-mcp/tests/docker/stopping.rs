//! Calls that are given up, and a program that is told to end.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    lab::{DEAF, Do, IDLE, Lab, Proxy, inspect, rows, text, until, within},
    stacks::service,
    support::Core,
};

fn cancel(core: &mut Core, id: u64) {
    let note =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "enough"}});
    core.send(&note.to_string());
}

fn audit(core: &Core) -> Vec<Value> {
    let text = fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_cancelled_read_drops_its_request_at_once() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let parts = ["/containers/json", "/logs", "/stats", "/volumes"];
    let proxy = Proxy::new(move |line| if parts.iter().any(|part| line.contains(part)) { Do::Stall } else { Do::Pass });
    let mut core = lab.core(&[("DOCKER_HOST", &proxy.host())]);
    let mut cancelled = Vec::new();
    for (tool, arguments, part) in [
        ("docker_list_containers", json!({}), "/containers/json"),
        ("docker_container_logs", json!({"container": web}), "/logs"),
        ("docker_container_stats", json!({"container": web}), "/stats"),
        ("docker_list_volumes", json!({}), "/volumes"),
    ] {
        // Of three tries, since the machine that tests may itself be slower than that once.
        let took = (0..3).map(|_| {
            let id = core.begin(tool, arguments.clone());
            proxy.wait_stalled(part);
            let clock = Instant::now();
            cancel(&mut core, id);
            let took = proxy.wait_dropped(part).duration_since(clock);
            cancelled.push(id);
            proxy.forget();
            took
        });
        let took = took.min().unwrap();
        assert!(took < Duration::from_millis(100), "{tool}: {took:?}");
        // Nothing is answered, and the next call is.
        core.ok("docker_list_networks", json!({"limit": 1}));
        let answered = |message: &Value| cancelled.iter().any(|id| message["id"] == *id);
        assert!(!core.unasked().iter().any(answered), "{tool}");
    }
}

#[test]
fn a_cancelled_change_runs_on_and_is_recorded() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let id = core.begin("docker_stop_container", json!({"container": deaf, "timeout": 2}));
    until("it is recorded", || audit(&core).len() == 1);
    cancel(&mut core, id);
    let list = core.ok("operation_status", json!({}));
    let operation = text(&rows(&list, "operations")[0], "operation").to_owned();
    let status = core.ok("operation_status", json!({"operation": operation, "wait_seconds": 30}));
    assert_eq!(text(&rows(&status, "operations")[0], "outcome"), "changed", "{status}");
    assert_eq!(inspect(&deaf, "{{.State.Status}}"), "exited");
    until("its end is recorded", || audit(&core).len() == 2);
    assert_eq!(audit(&core)[1]["outcome"], "changed");
    assert!(core.unasked().iter().all(|message| message["id"] != id));
}

#[test]
fn a_change_that_only_looks_yet_is_given_up_when_cancelled() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let proxy = Proxy::new(|line| if line.contains("/json") { Do::Stall } else { Do::Pass });
    let mut core = lab.core(&[("DOCKER_HOST", &proxy.host())]);
    let id = core.begin("docker_restart_container", json!({"container": web}));
    proxy.wait_stalled("/json");
    let clock = Instant::now();
    cancel(&mut core, id);
    assert!(proxy.wait_dropped("/json").duration_since(clock) < Duration::from_millis(100));
    assert!(audit(&core).is_empty(), "nothing was begun");
}

#[test]
fn the_end_of_input_waits_for_what_runs() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let id = core.begin("docker_stop_container", json!({"container": deaf, "timeout": 2}));
    core.close();
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    assert!(core.end().success());
    // Also one whose call did not wait.
    lab.run("again", &[], DEAF);
    let mut core = lab.core(&[]);
    let id =
        core.begin("docker_stop_container", json!({"container": lab.name("again"), "timeout": 2, "wait_seconds": 0}));
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "running");
    core.close();
    assert!(core.end().success());
    assert_eq!(inspect(&lab.name("again"), "{{.State.Status}}"), "exited");
    assert_eq!(audit(&core).len(), 2);
}

#[test]
fn sigterm_gives_a_long_change_ten_seconds_and_then_says_unknown() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let id = core.begin("docker_stop_container", json!({"container": deaf, "timeout": 30}));
    until("it is under way", || audit(&core).len() == 1);
    let clock = Instant::now();
    core.signal("TERM");
    let result = core.answer(id)["result"].clone();
    let took = clock.elapsed();
    assert!((9..13).contains(&took.as_secs()), "{took:?}");
    let told = &result["structuredContent"];
    assert_eq!((&result["isError"], text(told, "outcome")), (&json!(true), "unknown"), "{told}");
    assert!(text(told, "message").contains("may have happened"), "{told}");
    assert!(core.end().success());
    assert!(clock.elapsed() < Duration::from_secs(14), "{:?}", clock.elapsed());
}

#[test]
fn sigterm_lets_a_short_change_finish() {
    let lab = Lab::new();
    let deaf = lab.run("deaf", &[], DEAF);
    let mut core = lab.core(&[]);
    let id = core.begin("docker_stop_container", json!({"container": deaf, "timeout": 3}));
    until("it is under way", || audit(&core).len() == 1);
    let clock = Instant::now();
    core.signal("TERM");
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    assert!(core.end().success());
    assert!(clock.elapsed() < Duration::from_secs(8), "{:?}", clock.elapsed());
    assert_eq!(audit(&core).len(), 2, "its end is recorded too");
}

#[test]
fn sigterm_and_sigint_end_a_program_that_only_reads_within_a_second() {
    for name in ["TERM", "INT"] {
        let proxy = Proxy::new(|line| if line.contains("/json") { Do::Stall } else { Do::Pass });
        let lab = Lab::new();
        let mut core = lab.core(&[("DOCKER_HOST", &proxy.host())]);
        let id = core.begin("docker_list_containers", json!({}));
        proxy.wait_stalled("/containers/json");
        let clock = Instant::now();
        core.signal(name);
        let answer = core.answer(id);
        assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("stopping"), "{answer}");
        assert!(core.end().success());
        assert!(clock.elapsed() < Duration::from_secs(1), "{name}: {:?}", clock.elapsed());
    }
}

#[test]
fn a_stack_under_way_is_ended_in_order_with_the_program() {
    let lab = Lab::new();
    // Waits for a health that never comes.
    let never = service("app") + "    healthcheck: {test: [\"CMD\", \"false\"], interval: 5s, retries: 100}\n";
    let waits = service("after") + "    depends_on: {app: {condition: service_healthy}}\n";
    let name = lab.stack("web", &format!("services:\n{never}{waits}"));
    let mut core = lab.core(&[]);
    let id = core.begin("docker_compose_up", json!({"stack": name}));
    until("compose waits", || crate::lab::try_docker(&["inspect", &format!("{name}-app-1")]).1);
    let plugin = || {
        let found =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        found.filter(|line| String::from_utf8_lossy(line).contains(&name)).count()
    };
    until("its program runs", || plugin() > 0);
    core.signal("TERM");
    // Told twice, it does not wait for what runs.
    core.wait_for_log("stopping:");
    core.signal("TERM");
    let result = core.answer(id)["result"].clone();
    assert_eq!(text(&result["structuredContent"], "outcome"), "unknown", "{result}");
    assert!(core.end().success());
    within(Duration::from_secs(3), "no process of it is left", || plugin() == 0);
}
