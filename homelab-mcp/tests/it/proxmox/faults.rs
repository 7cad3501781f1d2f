//! Between the appliance and us: connections that die, answers that break off or come from something else. A read says
//! so; a change is sent once, and what became of it is looked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lab::{
    Appliance as _, Fault, Reply, Request, Rule,
    proxmox::{Daemon, Privileges, Profile, Proxmox, Run},
};
use serde_json::json;

use super::{act, assert_outcome, assert_says, changes, cluster, core, env, message, with_between};
use crate::appliances::Machine;

const START: &str = "proxmox_start_vm";

/// Requests of the list of guests.
fn listed(machine: &Machine<Proxmox>) -> usize {
    machine.seen("GET", "/api2/json/cluster/resources").len()
}

#[test]
fn a_read_over_a_connection_that_was_cut_meanwhile_is_repeated_once() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        core.ok("proxmox_list_vms", json!({}));
        machine.server.fault(Rule::new("/api2/json/cluster/resources", Fault::StaleKeepAlive).times(1));
        assert_eq!(core.ok("proxmox_list_vms", json!({}))["total"], 20);
        assert_eq!((listed(&machine), machine.server.connections()), (3, 2));
        // On a fresh one it is not: the appliance has a reason.
        machine.server.fault(Rule::new("/api2/json/cluster/resources", Fault::CutBefore));
        core.error("proxmox_list_vms", json!({}));
        assert!(listed(&machine) <= 5, "at most once more");
        core.finish();
    }
}

#[test]
fn a_connection_takes_a_hundred_requests_and_then_another_is_made() {
    let machine = cluster(Profile::V9_2);
    let mut core = core(&machine);
    for _ in 0..120 {
        core.ok("proxmox_list_nodes", json!({}));
    }
    core.finish();
    assert_eq!((machine.requests(), machine.server.connections()), (120, 2));
}

#[test]
fn a_change_goes_over_a_connection_of_its_own() {
    let machine = cluster(Profile::V8_4);
    machine.server.fault(Rule::new("/api2/json/nodes", Fault::StaleKeepAlive).method("POST"));
    let mut core = core(&machine);
    assert_outcome(&act(&mut core, START, json!({"vmid": 105})), "changed", &["started"]);
    core.finish();
    let sent = machine.seen("POST", "/");
    assert!(sent.len() == 1 && sent[0].nth == 1, "{sent:?}");
}

#[test]
fn a_change_whose_answer_is_lost_is_looked_for_and_not_sent_again() {
    for fault in [Fault::CutAfter, Fault::CutMiddle, Fault::Truncated] {
        for profile in [Profile::V7_4, Profile::V9_2] {
            let machine = cluster(profile);
            machine.server.fault(Rule::new("/api2/json/nodes/*/status/*", fault.clone()).method("POST"));
            machine.server.fault(Rule::new("/api2/json/nodes/*/snapshot", fault.clone()).method("POST"));
            machine.server.fault(Rule::new("/api2/json/nodes/*", fault.clone()).method("DELETE"));
            machine.lab.change(100, |guest| guest.run = Run::Running(1_700_000_000));
            if profile == Profile::V7_4 {
                // It is still running when it is found.
                machine.lab.set_task_time(Duration::from_millis(300));
            }
            let mut core = env(&machine).and("CONFIRM", "never").core();
            for (tool, vmid, task) in [
                (START, 105, "qmstart"),
                // Its second task, of root@pam, is not ours.
                ("proxmox_reboot_vm", 100, "qmreboot"),
                ("proxmox_create_snapshot", 106, "qmsnapshot"),
                ("proxmox_delete_vm", 202, "vzdestroy"),
            ] {
                let content = act(&mut core, tool, json!({"vmid": vmid}));
                assert_outcome(&content, "changed", &["successfully"]);
                assert!(
                    content["task"].as_str().unwrap().contains(&format!(":{task}:{vmid}:root@pam!lab:")),
                    "{content}"
                );
            }
            core.finish();
            assert_eq!(changes(&machine).len(), 4, "{fault:?}: each once");
        }
    }
}

#[test]
fn a_change_that_did_not_arrive_is_unknown_and_not_sent_again() {
    // One guest for each fault, all at a time: each is looked for for a while.
    let cases = [
        (105, Fault::CutBefore),
        (102, Fault::Hang),
        (106, Fault::Garbage),
        (202, Fault::NotJson),
        (203, Fault::Status(596)),
        (110, Fault::HtmlError(502)),
    ];
    let machine = cluster(Profile::V8_4);
    for (vmid, fault) in &cases {
        machine.server.fault(Rule::new(format!("/api2/json/nodes/*/{vmid}/status/start"), fault.clone()));
    }
    let mut core = env(&machine).and("PROXMOX_TIMEOUT", "2").core();
    let calls: Vec<_> = cases.iter().map(|(vmid, fault)| (core.begin(START, json!({"vmid": vmid})), fault)).collect();
    for (id, fault) in calls {
        let answer = core.answer(id);
        let content = &answer["result"]["structuredContent"];
        assert_eq!(answer["result"]["isError"], true, "{fault:?}");
        assert_outcome(content, "unknown", &["it is stopped now", "It may still happen", "proxmox_vm_status"]);
        assert!(content.get("task").is_none() && !message(content).contains("failed"), "{content}");
    }
    core.finish();
    assert_eq!(changes(&machine).len(), cases.len(), "each once");
}

#[test]
fn a_596_after_which_it_happened_nevertheless_is_found_out() {
    for profile in Profile::ALL {
        let machine = with_between(profile, |lab, request| {
            // The daemon hangs for this one request, which is carried out.
            (request.method == "POST").then(|| {
                lab.set_daemon(Daemon::Hung);
                let answer = lab.answer(request);
                lab.set_daemon(Daemon::Up);
                answer
            })
        });
        let mut core = core(&machine);
        let content = act(&mut core, START, json!({"vmid": 105}));
        assert_outcome(&content, "changed", &["VM 105 (docker) started successfully"]);
        assert!(content["task"].as_str().unwrap().contains(":qmstart:105:"), "{content}");
        let content = act(&mut core, "proxmox_create_snapshot", json!({"vmid": 105, "snapname": "late"}));
        assert_outcome(&content, "changed", &["`late`"]);
        core.finish();
        assert_eq!(changes(&machine).len(), 2);
    }
}

#[test]
fn an_earlier_task_or_somebody_elses_is_not_taken_for_the_lost_one() {
    let machine = with_between(Profile::V9_0, |lab, request| {
        let lost = request.method == "POST" && lab.tasks().len() > 1;
        lost.then(|| {
            if request.path().contains("/106/") {
                // Somebody else wanted the same at that moment, in vain.
                lab.fail_next_task("somebody else's trouble");
                let header = ("Authorization".to_owned(), "PVEAPIToken=root@pam!other=other".to_owned());
                lab.answer(&Request { headers: vec![header], ..request.clone() });
            }
            Reply::text(200, "application/json", "the answer is lost")
        })
    });
    machine.lab.set_token("root@pam!other", "other", Privileges::administrator());
    let mut core = core(&machine);
    for vmid in [105, 106] {
        act(&mut core, START, json!({"vmid": vmid}));
        machine.lab.change(vmid, |guest| guest.run = Run::Stopped);
    }
    let calls = [105, 106].map(|vmid| core.begin(START, json!({"vmid": vmid})));
    for id in calls {
        let content = core.answer(id)["result"]["structuredContent"].clone();
        assert_outcome(&content, "unknown", &["it is stopped now"]);
        assert!(content.get("task").is_none() && !message(&content).contains("trouble"), "{content}");
    }
    core.finish();
}

#[test]
fn a_task_is_followed_through_trouble_with_its_status() {
    for fault in [Fault::Status(596), Fault::CutBefore, Fault::NotJson, Fault::HtmlError(503)] {
        let machine = cluster(Profile::V8_4);
        machine.server.fault(Rule::new("/api2/json/nodes/pve1/tasks/*/status", fault).times(2));
        let mut core = core(&machine);
        let content = act(&mut core, START, json!({"vmid": 105}));
        assert_outcome(&content, "changed", &["started successfully"]);
        core.finish();
    }
}

#[test]
fn a_task_that_nobody_knows_any_more_is_judged_by_the_state() {
    for profile in Profile::ALL {
        let machine = with_between(profile, |_, request| {
            let errors = json!({"data": null, "message": "Parameter verification failed.\n", "errors": {"upid": "no such task"}});
            let gone = request.path().contains("/tasks/") && request.path().ends_with("/status");
            gone.then(|| Reply::json(400, &errors).reason("Parameter verification failed.").closing())
        });
        let mut core = core(&machine);
        let content = act(&mut core, START, json!({"vmid": 105}));
        assert_outcome(&content, "changed", &["VM 105 (docker) is running now", "no such task"]);
        core.finish();
    }
}

#[test]
fn a_log_that_is_gone_or_no_list_does_not_hide_how_a_task_ended() {
    for profile in [Profile::V7_4, Profile::V9_2] {
        for log in [
            json!({"data": {"n": 1, "t": "unable to open file - No such file or directory"}, "total": 1}),
            json!({"data": [{"n": 1, "t": "no content"}], "total": 1}),
            json!({"data": null}),
        ] {
            let machine = with_between(profile, move |_, request| {
                request.path().ends_with("/log").then(|| Reply::json(200, &log))
            });
            let mut core = core(&machine);
            let content = act(&mut core, START, json!({"vmid": 104}));
            assert_outcome(&content, "failed", &["storage 'ghost' does not exist"]);
            assert!(
                !message(&content).contains("no content") && !message(&content).contains("unable to open"),
                "{content}"
            );
            core.finish();
        }
    }
}

#[test]
fn the_end_of_a_long_log_is_shown_of_a_failed_task() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let machine = with_between(Profile::V9_2, move |_, request| {
        if !request.path().ends_with("/log") {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let number = |name: &str| {
            let pair = request.query().split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.and_then(|value| value.parse::<usize>().ok())
        };
        let (start, limit) = (number("start").unwrap_or(0), number("limit").unwrap_or(50));
        let lines = (start..120).take(limit).map(|n| json!({"n": n + 1, "t": format!("line {}", n + 1)}));
        Some(Reply::json(200, &json!({"data": lines.collect::<Vec<_>>(), "total": 120})))
    });
    machine.lab.fail_next_task("start failed: QEMU exited with code 1");
    let mut core = core(&machine);
    let content = act(&mut core, START, json!({"vmid": 105}));
    assert_outcome(&content, "failed", &["start failed: QEMU exited with code 1", "line 119 | line 120"]);
    assert!(!message(&content).contains("line 5 "), "{content}");
    core.finish();
    assert_eq!(asked.load(Ordering::Relaxed), 2, "`start` counts from the beginning");
}

#[test]
fn an_answer_that_is_none_is_an_error_and_not_an_empty_list() {
    let cases = [
        (Fault::CutBefore, ""),
        (Fault::CutMiddle, ""),
        (Fault::Garbage, "no HTTP"),
        (Fault::NotJson, "not JSON"),
        (Fault::Truncated, "not JSON"),
        (Fault::HtmlError(502), "502"),
        (Fault::HtmlError(504), "504"),
        (Fault::Status(599), "Unexpected end-of-file"),
        (Fault::Huge(33 << 20), "more than 32 MiB"),
    ];
    let machine = cluster(Profile::V9_2);
    let mut core = core(&machine);
    for (fault, words) in cases {
        machine.server.clear_faults();
        machine.server.fault(Rule::new("/api2/json/cluster/resources", fault.clone()));
        for tool in ["proxmox_list_vms", "proxmox_list_storage", "proxmox_list_nodes", "proxmox_status"] {
            let said = core.error(tool, json!({}));
            assert_says(&said, &["could not ", "proxmox (127.0.0.1:", words]);
            assert!(said.len() < 900 && !said.contains('<') && !said.contains('\n'), "{fault:?}: {said}");
            if matches!(fault, Fault::Huge(_)) {
                break;
            }
        }
    }
    machine.server.clear_faults();
    core.ok("proxmox_list_vms", json!({}));
    core.finish();
}

#[test]
fn what_is_json_but_not_the_vendors_is_no_empty_list() {
    for body in [json!({"data": {"a": 1}}), json!({"data": null}), json!([]), json!({"message": "hello"})] {
        let machine = with_between(Profile::V8_4, move |_, request| {
            request.path().starts_with("/api2/json/cluster/resources").then(|| Reply::json(200, &body))
        });
        let mut core = core(&machine);
        assert_says(&core.error("proxmox_list_vms", json!({})), &["could not list guests", "no list of resources"]);
        core.finish();
    }
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    let machine = with_between(Profile::V9_0, |_, request| {
        let to = "https://login.example/";
        request.path().contains("resources").then(|| Reply::empty(302).header("Location", to))
    });
    let mut core = core(&machine);
    assert_says(&core.error("proxmox_list_vms", json!({})), &["redirects to https://login.example/", "proxy"]);
    core.finish();
    assert_eq!(machine.requests(), 1);
}

#[test]
fn an_appliance_that_hangs_costs_its_time_out_and_other_tools_nothing() {
    let machine = cluster(Profile::V7_4);
    machine.server.fault(Rule::new("/api2/json/cluster", Fault::Hang));
    let mut core = env(&machine).and("PROXMOX_TIMEOUT", "1").core();
    let clock = Instant::now();
    let calls: Vec<_> = ["proxmox_status", "proxmox_list_vms", "proxmox_list_storage", "proxmox_list_nodes"]
        .map(|tool| core.begin(tool, json!({})))
        .into();
    core.ok("system_info", json!({}));
    for id in calls {
        let answer = core.answer(id);
        assert_says(answer["result"]["content"][0]["text"].as_str().unwrap(), &["did not answer within 1 s"]);
    }
    let took = clock.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(15), "{took:?}");
    core.finish();
}
