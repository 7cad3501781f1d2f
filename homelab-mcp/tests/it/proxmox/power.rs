//! Start, stop, shut down, reboot: what the task says, what is true afterwards, and what is said when the two differ.

use std::time::Duration;

use lab::proxmox::{Ending, Guest, Kind, OnShutdown, Profile, Proxmox, Run};
use serde_json::{Value, json};

use super::{act, assert_outcome, assert_says, changes, cluster, core, message, with_between};
use crate::{support::Core, wire::until};

const START: &str = "proxmox_start_vm";
const STOP: &str = "proxmox_stop_vm";
const SHUTDOWN: &str = "proxmox_shutdown_vm";
const REBOOT: &str = "proxmox_reboot_vm";

fn runs(lab: &Proxmox, vmid: u32) -> bool {
    lab.guest(vmid).is_some_and(|guest| matches!(guest.run, Run::Running(_)))
}

fn is_stopped(lab: &Proxmox, vmid: u32) -> bool {
    lab.guest(vmid).is_some_and(|guest| guest.run == Run::Stopped)
}

/// Since when it runs.
fn since(lab: &Proxmox, vmid: u32) -> i64 {
    match lab.guest(vmid).unwrap().run {
        Run::Running(since) => since,
        other => panic!("{vmid} is {other:?}"),
    }
}

#[test]
fn each_change_of_power_is_seen_to_its_end_in_every_version() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let lab = &machine.lab;
        let mut core = core(&machine);
        for (vmid, label, kind, short) in [(105, "VM 105 (docker)", "qemu", "qm"), (202, "CT 202 (wiki)", "lxc", "vz")]
        {
            let node = lab.guest(vmid).unwrap().node;
            let check = |content: &Value, words: &str, state: &str, task: &str| {
                assert_outcome(content, "changed", &[label, words]);
                assert_eq!((&content["vmid"], &content["node"]), (&json!(vmid), &json!(node)), "{profile:?}");
                assert_eq!(content["status"], state, "{content}");
                let upid = content["task"].as_str().unwrap();
                let seen = lab.tasks().into_iter().find(|task| task.upid == upid).unwrap();
                assert_eq!((seen.kind.as_str(), seen.exit.as_deref()), (task, Some("OK")));
                assert_eq!(content["target"]["id"], vmid.to_string());
            };
            let started = act(&mut core, START, json!({"vmid": vmid}));
            check(&started, "started successfully", "running", &format!("{short}start"));
            assert!(runs(lab, vmid));
            let began = since(lab, vmid) - 86_400;
            // So that a reboot shows.
            lab.change(vmid, |guest| guest.run = Run::Running(began));
            let before = since(lab, vmid);
            let rebooted = act(&mut core, REBOOT, json!({"vmid": vmid}));
            check(&rebooted, "rebooted successfully", "running", &format!("{short}reboot"));
            assert!(since(lab, vmid) > before + 86_000, "{profile:?}: it is up since before");
            let shut = act(&mut core, SHUTDOWN, json!({"vmid": vmid, "timeout": 30}));
            check(&shut, "shut down successfully", "stopped", &format!("{short}shutdown"));
            assert!(is_stopped(lab, vmid));
            act(&mut core, START, json!({"vmid": vmid}));
            let stopped = act(&mut core, STOP, json!({"vmid": vmid}));
            check(&stopped, "stopped successfully", "stopped", &format!("{short}stop"));
            assert!(is_stopped(lab, vmid));
            let base = format!("POST /nodes/{node}/{kind}/{vmid}/status");
            let sent: Vec<_> = changes(&machine).into_iter().filter(|sent| sent.starts_with(&base)).collect();
            let words = ["start", "reboot", "shutdown", "start", "stop"];
            assert_eq!(sent, words.map(|word| format!("{base}/{word}")), "each once");
        }
        core.finish();
    }
}

#[test]
fn what_is_so_already_is_not_asked_for() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        for (tool, vmid, words) in [
            (START, 100, "VM 100 (web) was already running."),
            (START, 200, "CT 200 (dns) was already running."),
            (STOP, 105, "VM 105 (docker) was not running."),
            (STOP, 101, "VM 101 (db) was not running."),
            (STOP, 202, "CT 202 (wiki) was not running."),
            (SHUTDOWN, 105, "VM 105 (docker) was not running."),
            (SHUTDOWN, 202, "CT 202 (wiki) was not running."),
        ] {
            assert_outcome(&act(&mut core, tool, json!({"vmid": vmid})), "unchanged", &[words]);
        }
        for (vmid, words) in [(105, "VM 105 (docker) is not running"), (202, "CT 202 (wiki) is not running")] {
            assert_outcome(&act(&mut core, REBOOT, json!({"vmid": vmid})), "failed", &[words, "proxmox_start_vm"]);
        }
        core.finish();
        assert!(changes(&machine).is_empty());
    }
}

#[test]
fn somebody_who_was_faster_is_no_failure() {
    // What the vendor says of it depends on the kind: a failed task, a task that is OK, a 500 at once.
    for profile in Profile::ALL {
        let machine = with_between(profile, |lab, request| {
            if request.method == "POST" {
                let vmid: u32 = request.path().split('/').nth(6).unwrap().parse().unwrap();
                let on = request.path().ends_with("start");
                lab.change(vmid, |guest| guest.run = if on { Run::Running(1_700_000_000) } else { Run::Stopped });
            }
            None
        });
        let mut core = core(&machine);
        for (tool, vmid, outcome, words) in [
            (START, 105, "unchanged", "VM 105 (docker) was already running"),
            (START, 202, "unchanged", "CT 202 (wiki) was already running"),
            (STOP, 100, "changed", "VM 100 (web) stopped successfully"),
            (STOP, 200, "unchanged", "CT 200 (dns) was already stopped"),
            (SHUTDOWN, 302, "unchanged", "CT 302 (proxy) was already stopped"),
            (REBOOT, 103, "failed", "VM 103 not running"),
        ] {
            assert_outcome(&act(&mut core, tool, json!({"vmid": vmid})), outcome, &[words]);
        }
        core.finish();
        assert_eq!(changes(&machine).len(), 6, "each asked for once");
    }
}

#[test]
fn a_task_that_fails_gives_its_reason_and_the_state() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let failed = act(&mut core, START, json!({"vmid": 104}));
        assert_outcome(&failed, "failed", &["the task failed: storage 'ghost' does not exist", "it is stopped now"]);
        assert_eq!(failed["status"], "stopped");
        assert!(failed["task"].as_str().is_some_and(|upid| upid.starts_with("UPID:pve1:")), "{failed}");
        machine.lab.fail_next_task("start failed: QEMU exited with code 1");
        let failed = act(&mut core, START, json!({"vmid": 105}));
        assert_outcome(&failed, "failed", &["start failed: QEMU exited with code 1", "it is stopped now"]);
        assert!(is_stopped(&machine.lab, 105));
        machine.lab.fail_next_task("received interrupt");
        assert_outcome(
            &act(&mut core, SHUTDOWN, json!({"vmid": 100})),
            "failed",
            &["received interrupt", "running now"],
        );
        core.finish();
    }
}

#[test]
fn warnings_are_a_success_and_are_told() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let started = act(&mut core, START, json!({"vmid": 106}));
        assert_outcome(&started, "changed", &["started successfully", "no physical CD-ROM available, ignoring"]);
        assert_eq!(started["warnings"], json!(["no physical CD-ROM available, ignoring"]));
        assert!(runs(&machine.lab, 106));
        core.finish();
    }
}

#[test]
fn a_task_whose_end_says_nothing_is_judged_by_the_state() {
    let machine = cluster(Profile::V8_4);
    let mut core = core(&machine);
    let unclear = |status: &str, done| {
        machine.lab.next_task(Ending::Unclear { status: status.to_owned(), done });
    };
    unclear("unable to read tail (got 0 bytes)", true);
    let done = act(&mut core, START, json!({"vmid": 105}));
    assert_outcome(&done, "changed", &["VM 105 (docker) is running now", "unable to read tail (got 0 bytes)"]);
    // Both at a time: it takes a while until it is given up.
    unclear("unexpected status", false);
    let first = core.begin(START, json!({"vmid": 202}));
    until("its task", || machine.lab.tasks().iter().any(|task| task.id == "202"));
    unclear("unable to get last line from task log - /var/log/pve/tasks/x", false);
    let second = core.begin(START, json!({"vmid": 106}));
    for (id, said) in [(first, "unexpected status"), (second, "unable to get last line")] {
        let content = core.answer(id)["result"]["structuredContent"].clone();
        assert_outcome(&content, "unknown", &[said, "it is stopped now", "It may still happen", "Task: UPID:"]);
    }
    core.finish();
    assert_eq!(changes(&machine).len(), 3);
}

#[test]
fn a_task_that_is_ok_without_its_effect_is_no_success() {
    let machine = with_between(Profile::V9_2, |lab, request| {
        // It falls over at once.
        if request.path().contains("/105/status/current") {
            lab.change(105, |guest| guest.run = Run::Stopped);
        }
        None
    });
    let mut core = core(&machine);
    let content = act(&mut core, START, json!({"vmid": 105}));
    assert_outcome(&content, "failed", &["the task ended well, but it is stopped now", "Task: UPID:"]);
    core.finish();
}

#[test]
fn what_a_guest_is_like_is_looked_at_before_anything_is_asked() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.change(300, |guest| guest.lock = Some("migrate".into()));
        machine.lab.change(302, |guest| guest.lock = Some("mounted".into()));
        let mut core = core(&machine);
        for (tool, vmid, words) in [
            (START, 101, "VM 101 (db) is locked (backup)"),
            (START, 9000, "VM 9000 (debian-template) is a template"),
            (START, 201, "CT 201 (ct-template) is a template"),
            (START, 107, "VM 107 (paused) is paused"),
            (SHUTDOWN, 107, "cannot shut down"),
            (REBOOT, 107, "cannot reboot"),
            (STOP, 300, "VM 300 (nvr) is locked (migrate)"),
            (SHUTDOWN, 300, "is locked (migrate)"),
            (REBOOT, 300, "is locked (migrate)"),
            (REBOOT, 302, "is locked (mounted)"),
        ] {
            let content = act(&mut core, tool, json!({"vmid": vmid}));
            assert_outcome(&content, "failed", &[words, "Nothing was done"]);
        }
        core.finish();
        assert!(changes(&machine).is_empty());
    }
}

#[test]
fn what_became_so_in_between_is_what_the_task_says() {
    for profile in Profile::ALL {
        let machine = with_between(profile, |lab, request| {
            if request.method == "POST" {
                match request.path().rsplit('/').nth(2) {
                    Some("105") => lab.change(105, |guest| guest.lock = Some("backup".into())),
                    Some("106") => lab.change(106, |guest| guest.template = true),
                    Some("103") => lab.change(103, |guest| guest.run = Run::Paused(1_700_000_000)),
                    Some("202") => lab.change(202, |guest| guest.lock = Some("snapshot".into())),
                    _ => None,
                };
            }
            None
        });
        let mut core = core(&machine);
        for (tool, vmid, words) in [
            (START, 105, "VM is locked (backup)"),
            (START, 106, "you can't start a vm if it's a template"),
            (START, 202, "CT is locked (snapshot)"),
            (SHUTDOWN, 103, "VM is paused - cannot shutdown"),
        ] {
            assert_outcome(&act(&mut core, tool, json!({"vmid": vmid})), "failed", &[words]);
        }
        core.finish();
    }
}

#[test]
fn a_guest_that_moves_between_the_look_and_the_request_is_asked_for_where_it_is() {
    for profile in Profile::ALL {
        let machine = with_between(profile, |lab, request| {
            if request.method != "GET" {
                for vmid in [104, 105, 106] {
                    lab.change(vmid, |guest| guest.node = "pve2".into());
                }
            }
            None
        });
        machine.lab.change(104, |guest| guest.disks.clear());
        let mut core = super::env(&machine).and("CONFIRM", "never").core();
        for (tool, vmid, method, end) in [
            (START, 105, "POST", "/status/start"),
            ("proxmox_create_snapshot", 106, "POST", "/snapshot"),
            ("proxmox_delete_vm", 104, "DELETE", ""),
        ] {
            for vmid in [104, 105, 106] {
                machine.lab.change(vmid, |guest| guest.node = "pve1".into());
            }
            let before = changes(&machine).len();
            let content = act(&mut core, tool, json!({"vmid": vmid}));
            assert_outcome(&content, "changed", &["successfully"]);
            let sent = changes(&machine).split_off(before);
            assert_eq!(sent, ["pve1", "pve2"].map(|node| format!("{method} /nodes/{node}/qemu/{vmid}{end}")));
        }
        assert!(runs(&machine.lab, 105) && machine.lab.guest(104).is_none(), "{profile:?}");
        core.finish();
    }
}

#[test]
fn a_held_guest_can_be_stopped_or_shut_down_by_force() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let content = act(&mut core, SHUTDOWN, json!({"vmid": 107, "force_stop": true}));
        assert_outcome(&content, "changed", &["shut down successfully"]);
        assert!(is_stopped(&machine.lab, 107));
        machine.lab.change(107, |guest| guest.run = Run::Paused(1_700_000_000));
        assert_outcome(&act(&mut core, STOP, json!({"name": "paused"})), "changed", &["stopped successfully"]);
        assert!(is_stopped(&machine.lab, 107));
        core.finish();
    }
}

#[test]
fn a_guest_that_does_not_listen_runs_into_its_time_and_force_helps() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut container = Guest::new(Kind::Container, 210, "stubborn");
        container.run = Run::Running(1_700_000_000);
        container.on_shutdown = OnShutdown::Ignores;
        machine.lab.add(container);
        let mut core = core(&machine);
        for (tool, vmid, words) in [
            (SHUTDOWN, 111, "VM quit/powerdown failed - got timeout"),
            (REBOOT, 111, "VM quit/powerdown failed - got timeout"),
            (SHUTDOWN, 210, "failed: exit code 1"),
        ] {
            let content = act(&mut core, tool, json!({"vmid": vmid, "timeout": 5}));
            assert_outcome(&content, "failed", &[words, "it is running now", "force_stop", "proxmox_stop_vm"]);
            assert!(runs(&machine.lab, vmid));
        }
        let content = act(&mut core, SHUTDOWN, json!({"vmid": 111, "timeout": 5, "force_stop": true}));
        assert_outcome(&content, "changed", &["shut down successfully"]);
        assert!(is_stopped(&machine.lab, 111));
        core.finish();
    }
}

#[test]
fn a_lock_that_somebody_holds_fails_after_the_vendors_patience() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.hold_lock_file(100, Duration::from_secs(600));
        let mut core = core(&machine);
        let content = act(&mut core, STOP, json!({"vmid": 100}));
        let file = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout";
        assert_outcome(&content, "failed", &[file, "it is running now", "overrule_shutdown"]);
        core.finish();
        assert_eq!(changes(&machine).len(), 1);
    }
}

#[test]
fn a_waiting_shutdown_can_be_overruled_where_the_version_can() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_second(Duration::from_secs(1));
        let mut core = core(&machine);
        let begun = act(&mut core, SHUTDOWN, json!({"vmid": 111, "timeout": 600, "wait_seconds": 0}));
        assert_outcome(&begun, "running", &["operation_status"]);
        until("the shutdown waits", || machine.lab.tasks().iter().any(|task| task.kind == "qmshutdown"));
        // Another process's, since changes of one object follow each other in one.
        let mut other = super::core(&machine);
        let content = act(&mut other, STOP, json!({"vmid": 111, "overrule_shutdown": true}));
        if profile == Profile::V7_4 {
            assert_outcome(&content, "failed", &["Proxmox VE 7.4-20 cannot overrule", "8.2"]);
            assert_eq!(changes(&machine).len(), 1);
        } else {
            assert_outcome(&content, "changed", &["stopped successfully"]);
            let content = act(&mut other, STOP, json!({"vmid": 109, "overrule_shutdown": true}));
            assert_outcome(&content, "failed", &["HA-managed", "cannot be overruled"]);
        }
        other.finish();
    }
}

#[test]
fn ha_is_followed_until_the_guest_has_moved() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let content = act(&mut core, STOP, json!({"vmid": 109}));
        assert_outcome(&content, "changed", &["VM 109 (mail) stopped successfully", "HA-managed"]);
        assert!(is_stopped(&machine.lab, 109));
        let upid = content["task"].as_str().unwrap();
        assert!(upid.contains(":hastop:109:"), "the task is only the request: {upid}");
        let content = act(&mut core, START, json!({"vmid": 109}));
        assert_outcome(&content, "changed", &["started successfully", "HA manager"]);
        assert!(runs(&machine.lab, 109));
        core.finish();
    }
}

#[test]
fn ha_that_never_moves_is_running_and_then_failed_but_never_done() {
    let machine = cluster(Profile::V9_0);
    machine.lab.change(301, |guest| guest.ha.as_mut().unwrap().state = "stopped".into());
    let mut core = core(&machine);
    let begun = act(&mut core, START, json!({"vmid": 301, "wait_seconds": 1}));
    assert_outcome(&begun, "running", &["task UPID:pve3:", ":hastart:301:"]);
    assert_eq!(machine.lab.tasks()[0].exit.as_deref(), Some("OK"), "the request is registered");
    machine.lab.change(301, |guest| guest.ha.as_mut().unwrap().state = "error".into());
    let ended = follow(&mut core, &begun);
    assert_eq!(ended["outcome"], "failed", "{ended}");
    assert_says(
        message(&ended),
        &["VM 301 (ha-that-never-moves) is HA-managed", "it is stopped now", "HA state: error"],
    );
    core.finish();
}

/// Waits for the end of an operation.
fn follow(core: &mut Core, begun: &Value) -> Value {
    let arguments = json!({"operation": begun["operation"], "wait_seconds": 50});
    core.ok("operation_status", arguments)["operations"][0].clone()
}

#[test]
fn a_wait_that_runs_out_is_running_with_the_task_and_can_be_followed_to_the_end() {
    let profile = Profile::V7_4;
    let machine = cluster(profile);
    machine.lab.set_task_time(Duration::from_millis(1600));
    let mut core = core(&machine);
    let begun = act(&mut core, START, json!({"vmid": 105, "wait_seconds": 1}));
    assert_outcome(&begun, "running", &["operation_status", "(task UPID:pve1:", ":qmstart:105:"]);
    assert!(is_stopped(&machine.lab, 105), "neither success nor failure");
    let ended = follow(&mut core, &begun);
    assert_eq!((&ended["outcome"], &ended["result"]["outcome"]), (&json!("changed"), &json!("changed")));
    assert_eq!(ended["result"]["status"], "running");
    assert!(ended["output"].to_string().contains("task UPID:pve1:"), "{ended}");
    assert!(runs(&machine.lab, 105));
    core.finish();
}

#[test]
fn a_running_task_is_told_of_and_an_empty_log_is_not_quoted() {
    let machine = cluster(Profile::V8_4);
    machine.lab.set_task_time(Duration::from_secs(4));
    let mut core = core(&machine);
    let call = json!({"name": START, "arguments": {"vmid": 105}, "_meta": {"progressToken": "p"}});
    let id = core.request("tools/call", call);
    let answer = core.answer(id);
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "changed", "{answer}");
    let told: Vec<_> = core
        .unasked()
        .iter()
        .filter(|message| message["method"] == "notifications/progress")
        .map(|message| message["params"]["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(told.iter().any(|line| line.contains("UPID:pve1:")), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("no content")), "{told:?}");
    let log = "/api2/json/nodes/pve1/tasks/";
    assert!(machine.seen("GET", log).iter().any(|seen| seen.target.contains("/log?")), "the log was looked at");
    core.finish();
}

#[test]
fn two_changes_of_one_guest_follow_each_other() {
    let machine = cluster(Profile::V9_2);
    machine.lab.set_task_time(Duration::from_millis(400));
    let mut core = core(&machine);
    let first = core.begin(REBOOT, json!({"vmid": 100}));
    until("the first was sent", || changes(&machine).len() == 1);
    let second = core.begin(STOP, json!({"name": "web"}));
    let other = core.begin(START, json!({"vmid": 202}));
    until("the other guest's was sent", || changes(&machine).iter().any(|sent| sent.contains("/202/")));
    assert_eq!(changes(&machine).len(), 2, "the second did not wait");
    for (id, words) in [(first, "rebooted"), (other, "started"), (second, "stopped")] {
        let content = core.answer(id)["result"]["structuredContent"].clone();
        assert_outcome(&content, "changed", &[words]);
    }
    assert!(is_stopped(&machine.lab, 100));
    let tasks = machine.lab.tasks();
    let of_it: Vec<_> = tasks.iter().filter(|task| task.id == "100").map(|task| task.kind.as_str()).collect();
    assert_eq!(of_it, ["qmreboot", "qmstart", "qmstop"], "the second by root@pam, after the reboot");
    core.finish();
}

#[test]
fn a_dry_run_changes_nothing() {
    let machine = cluster(Profile::V7_4);
    let mut core = core(&machine);
    for (tool, vmid, words) in [
        (START, 105, "Start VM 105 (docker, stopped, node pve1)."),
        (STOP, 100, "Cut the power of VM 100 (web, running, node pve1)."),
        (SHUTDOWN, 109, "Shut down VM 109 (mail, running, node pve2, HA-managed)."),
        (REBOOT, 200, "Reboot CT 200 (dns, running, node pve1)."),
    ] {
        let content = act(&mut core, tool, json!({"vmid": vmid, "dry_run": true}));
        assert_outcome(&content, "planned", &[words, "Nothing was done."]);
    }
    core.finish();
    assert!(changes(&machine).is_empty() && machine.lab.tasks().is_empty());
}

#[test]
fn protected_guests_are_refused_by_number_and_by_name() {
    let machine = cluster(Profile::V9_2);
    for protected in ["proxmox:105", "proxmox:docker"] {
        let mut core = super::env(&machine).and("PROTECTED", protected).core();
        for arguments in [json!({"vmid": 105}), json!({"name": "docker"}), json!({"vmid": 105, "dry_run": true})] {
            for tool in [START, STOP, "proxmox_create_snapshot", "proxmox_delete_vm"] {
                let content = act(&mut core, tool, arguments.clone());
                assert_outcome(&content, "refused", &[protected]);
            }
        }
        core.ok("proxmox_vm_status", json!({"vmid": 105}));
        core.finish();
    }
    assert!(changes(&machine).is_empty());
}

#[test]
fn the_audit_has_a_line_before_and_one_after() {
    let machine = cluster(Profile::V8_4);
    let mut core = core(&machine);
    act(&mut core, START, json!({"vmid": 105}));
    act(&mut core, START, json!({"vmid": 104}));
    act(&mut core, START, json!({"vmid": 100}));
    let log = std::fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| format!("{} {}", line["phase"].as_str().unwrap(), line["outcome"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(told, ["before -", "after changed", "before -", "after failed"], "nothing of what did not begin");
    for line in &lines {
        assert!(line["tool"] == START && line.to_string().contains("10"), "{line}");
    }
    assert!(!log.contains(lab::proxmox::TOKEN_SECRET));
    core.finish();
}

#[test]
fn what_is_already_so_is_not_while_something_else_changes_it() {
    let machine = cluster(Profile::V9_2);
    machine.lab.set_task_time(Duration::from_millis(1600));
    let mut core = core(&machine);
    let begun = act(&mut core, START, json!({"vmid": 105, "wait_seconds": 0}));
    assert_outcome(&begun, "running", &["VM 105"]);
    until("the start has been asked for", || !changes(&machine).is_empty());
    // It is stopped at this moment, and would not be soon.
    let stopped = act(&mut core, STOP, json!({"vmid": 105}));
    assert_outcome(&stopped, "changed", &["VM 105 (docker)"]);
    assert!(is_stopped(&machine.lab, 105));
    core.finish();
}
