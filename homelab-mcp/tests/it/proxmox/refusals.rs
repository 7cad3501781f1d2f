//! What the vendor refuses, wherever a version puts its reason, and what never gets as far as the vendor.

use std::time::{Duration, Instant};

use lab::{
    Reply,
    proxmox::{Daemon, NodeState, Privileges, Profile, TOKEN_ID, Unreachable},
};
use serde_json::{Value, json};

use super::{act, act_with_consent, assert_outcome, assert_says, changes, cluster, core, env, with_between};

/// The tools that take a guest, in the order of their levels.
const OF_A_GUEST: [&str; 9] = [
    "proxmox_vm_status",
    "proxmox_list_snapshots",
    "proxmox_start_vm",
    "proxmox_stop_vm",
    "proxmox_shutdown_vm",
    "proxmox_reboot_vm",
    "proxmox_vm_config",
    "proxmox_create_snapshot",
    "proxmox_delete_vm",
];

const EVIL: [&str; 9] = [
    "pve1%2fqemu",
    "pve1/qemu",
    "../../access",
    "..%2f..%2faccess",
    "pve1?x=1",
    "pve1#",
    "pve1\r\nX-Evil: 1",
    "pve1 qemu",
    "%00",
];

#[test]
fn a_number_that_is_no_guests_is_refused_before_anything_is_asked() {
    let machine = cluster(Profile::V9_2);
    let mut core = core(&machine);
    for vmid in
        [json!(99), json!(1_000_000_000), json!(0), json!(-105), json!(105.5), json!("105"), json!("105/../100")]
    {
        for tool in OF_A_GUEST.into_iter().chain(["proxmox_list_backups"]) {
            let result = core.call(tool, json!({"vmid": vmid}));
            assert_eq!(result["isError"], true, "{tool} {vmid}");
            assert_says(&result["content"][0]["text"].to_string(), &["vmid"]);
        }
    }
    let result = core.call("proxmox_vm_status", json!({"vmid": 100, "type": "qemu/100"}));
    assert_eq!(result["isError"], true);
    assert_eq!(machine.requests(), 0);
    for vmid in [100, 999_999_999] {
        core.call("proxmox_vm_status", json!({"vmid": vmid}));
    }
    assert!(machine.requests() > 0, "these are in bounds");
    core.finish();
}

#[test]
fn nothing_that_a_caller_writes_gets_into_a_path() {
    for profile in [Profile::V7_4, Profile::V9_2] {
        let machine = cluster(profile);
        let mut core = core(&machine);
        for evil in EVIL {
            // A wrong node is corrected, as any other is.
            for tool in OF_A_GUEST {
                let mut arguments = json!({"vmid": 105, "node": evil});
                if !["proxmox_vm_status", "proxmox_list_snapshots", "proxmox_vm_config"].contains(&tool) {
                    arguments["dry_run"] = json!(true);
                }
                core.call(tool, arguments);
                core.call(tool, json!({"name": evil}));
            }
            for (tool, argument) in [
                ("proxmox_list_vms", "node"),
                ("proxmox_list_vms", "status"),
                ("proxmox_list_vms", "tag"),
                ("proxmox_list_storage", "node"),
                ("proxmox_list_backups", "node"),
                ("proxmox_list_backups", "storage"),
                ("proxmox_list_backups", "name"),
            ] {
                core.call(tool, json!({argument: evil}));
            }
            for (tool, argument) in [("proxmox_list_storage", "node"), ("proxmox_list_backups", "storage")] {
                assert_says(&core.error(tool, json!({argument: evil})), &["pve1"]);
            }
            let found = core.ok("proxmox_vm_status", json!({"vmid": 105, "node": evil}));
            assert_says(found["note"].as_str().unwrap(), &["105 is qemu on node pve1"]);
            let refused = core.call("proxmox_create_snapshot", json!({"vmid": 105, "snapname": evil}));
            assert_eq!(refused["isError"], true);
        }
        core.finish();
        let plain = |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte));
        let known =
            ["type=vm", "type=node", "type=storage", "current=1", "content=backup", "content=backup&vmid=105", ""];
        for seen in machine.server.seen() {
            let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
            assert!(plain(path) && known.contains(&query), "{} {}", seen.method, seen.target);
            assert!(!path.contains("access/") || path == "/api2/json/access/permissions", "{path}");
        }
        assert!(changes(&machine).is_empty() && machine.lab.tasks().is_empty());
    }
}

#[test]
fn what_the_appliance_names_is_checked_before_it_is_used() {
    let machine = with_between(Profile::V8_4, |lab, request| {
        let mut answer = None;
        if request.method == "POST" {
            // It does it, and names a task that is a path.
            lab::Appliance::answer(lab, request);
            let upid = "UPID:pve1/../../access:000058C5:0003D5CD:6B031542:qmstart:105:root@pam!lab:";
            answer = Some(Reply::json(200, &json!({"data": upid})));
        }
        answer
    });
    machine.lab.change(106, |guest| guest.node = "pve1/qemu/../../..".into());
    machine.lab.change(103, |guest| guest.node = "pve1%2fqemu".into());
    let mut core = core(&machine);
    assert_eq!(core.ok("proxmox_list_vms", json!({}))["total"], 18);
    assert_says(&core.error("proxmox_vm_status", json!({"vmid": 106})), &["no guest 106"]);
    let content = act(&mut core, "proxmox_start_vm", json!({"vmid": 105}));
    assert_outcome(&content, "changed", &["started successfully"]);
    assert!(content["task"].as_str().unwrap().starts_with("UPID:pve1:"), "the real one was looked for: {content}");
    core.finish();
    assert!(machine.server.seen().iter().all(|seen| !seen.target.contains("..") && !seen.target.contains("%2f")));
}

#[test]
fn a_token_that_is_not_accepted_is_told_with_the_variables_to_check() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let plain = matches!(profile, Profile::V7_4 | Profile::V9_0);
        for (name, value, older) in [
            ("PROXMOX_TOKEN_SECRET", "00000000-0000-4000-8000-000000000000", "invalid token value!"),
            ("PROXMOX_TOKEN_ID", "nobody@pve!x", "no such token 'x' for user 'nobody@pve'"),
        ] {
            let reason = if plain { older } else { "Authentication failed!" };
            let mut core = env(&machine).and(name, value).core();
            let before = machine.requests();
            for (tool, arguments) in [("proxmox_list_vms", json!({})), ("proxmox_vm_config", json!({"vmid": 105}))] {
                let said = core.error(tool, arguments);
                assert_says(
                    &said,
                    &["does not accept the API token", reason, "PROXMOX_TOKEN_ID", "PROXMOX_TOKEN_SECRET"],
                );
                assert!(!said.contains(value) || name == "PROXMOX_TOKEN_ID", "{said}");
            }
            let content = act(&mut core, "proxmox_start_vm", json!({"vmid": 105}));
            assert_outcome(&content, "failed", &[reason]);
            assert_eq!(machine.requests() - before, 3, "tried once each");
            core.finish();
        }
    }
}

#[test]
fn three_seconds_until_a_refusal_are_waited_for() {
    let machine = cluster(Profile::V9_2);
    machine.lab.set_second(Duration::from_secs(1));
    let mut core = env(&machine).and("PROXMOX_TOKEN_SECRET", "00000000-0000-4000-8000-000000000000").core();
    let clock = Instant::now();
    assert_says(&core.error("proxmox_list_vms", json!({})), &["Authentication failed!"]);
    assert!(clock.elapsed() >= Duration::from_secs(3), "no body and no length; only the reason phrase says it");
    core.finish();
}

#[test]
fn the_privilege_that_is_missing_is_named_in_every_version() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_privileges(Privileges::auditor());
        let mut core = core(&machine);
        for (tool, vmid, privilege) in [
            ("proxmox_start_vm", 105, "VM.PowerMgmt on /vms/105"),
            ("proxmox_stop_vm", 100, "VM.PowerMgmt on /vms/100"),
            ("proxmox_shutdown_vm", 200, "VM.PowerMgmt on /vms/200"),
            ("proxmox_reboot_vm", 200, "VM.PowerMgmt on /vms/200"),
            ("proxmox_create_snapshot", 105, "VM.Snapshot on /vms/105"),
        ] {
            let content = act(&mut core, tool, json!({"vmid": vmid}));
            assert_outcome(&content, "failed", &["the API token lacks the privilege", privilege, "Permissions"]);
        }
        let content = act_with_consent(&mut core, "proxmox_delete_vm", json!({"vmid": 105}));
        assert_outcome(&content, "failed", &["VM.Allocate on /vms/105"]);
        assert!(machine.lab.tasks().is_empty());
        // In the list, but not to be looked into: the node knows better than the list.
        machine.lab.set_privileges(Privileges::auditor().on("/", &["VM.Audit"]));
        let status = core.ok("proxmox_status", json!({}));
        assert_says(&status["problems"].to_string(), &["Sys.Audit on /"]);
        assert_eq!(status["guests"]["total"], 20, "{profile:?}: the rest is there");
        core.finish();
    }
}

#[test]
fn the_daemon_being_down_is_said_and_the_list_still_answers() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_daemon(Daemon::Down);
        let mut core = core(&machine);
        assert_eq!(core.ok("proxmox_list_vms", json!({}))["total"], 20);
        let said = core.error("proxmox_vm_status", json!({"vmid": 100}));
        assert_says(&said, &["cannot connect to node pve1 (Connection refused)", "pvedaemon"]);
        let status = core.ok("proxmox_status", json!({}));
        assert_says(&status["problems"].to_string(), &["cluster name and quorum", "Connection refused"]);
        machine.lab.set_daemon(Daemon::Hung);
        let said = core.error("proxmox_vm_status", json!({"vmid": 100}));
        assert_says(&said, &["node pve1 did not answer", "Connection timed out"]);
        assert!(!said.contains("may have happened"), "a read does nothing: {said}");
        core.finish();
    }
}

#[test]
fn a_node_that_cannot_be_reached_or_has_no_address_is_named() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_node("pve2", NodeState::Offline(Unreachable::ConnectionRefused));
        machine.lab.change(105, |guest| guest.node = "pve7".into());
        let mut core = core(&machine);
        for tool in ["proxmox_vm_status", "proxmox_vm_config", "proxmox_list_snapshots"] {
            let said = core.error(tool, json!({"vmid": 110}));
            assert_says(&said, &["node pve2 is offline", "cannot connect to node pve2 (Connection refused)"]);
            let said = core.error(tool, json!({"vmid": 105}));
            assert_says(&said, &["cannot find node pve7", "hostname lookup 'pve7' failed", "left the cluster"]);
        }
        core.finish();
    }
}

#[test]
fn without_quorum_nothing_starts_but_things_can_be_stopped() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_quorum(false);
        let mut core = core(&machine);
        for vmid in [105, 202] {
            let content = act(&mut core, "proxmox_start_vm", json!({"vmid": vmid}));
            assert_outcome(&content, "failed", &["cluster not ready - no quorum?", "proxmox_status"]);
        }
        assert!(machine.lab.tasks().is_empty(), "refused with the request");
        assert_outcome(&act(&mut core, "proxmox_stop_vm", json!({"vmid": 100})), "changed", &["stopped"]);
        let content = act(&mut core, "proxmox_create_snapshot", json!({"vmid": 105}));
        assert_outcome(&content, "failed", &["Permission denied", "the snapshot does not exist"]);
        let content = act_with_consent(&mut core, "proxmox_delete_vm", json!({"vmid": 105}));
        assert_outcome(&content, "failed", &["Permission denied", "it is still there"]);
        assert_eq!(core.ok("proxmox_status", json!({}))["quorate"], false);
        core.finish();
    }
}

#[test]
fn the_words_are_found_wherever_they_are_and_told_without_source_lines() {
    let answers: [(Reply, &str); 7] = [
        (Reply::text(500, "application/json", r#"{"data":null}"#).reason("storage is gone"), "storage is gone"),
        (Reply::json(500, &json!({"data": null, "message": "storage is gone\n"})).reason("x"), "storage is gone"),
        (
            Reply::json(500, &json!({"data": null, "message": "no", "errors": {"storage": "is gone\n"}})),
            "storage: is gone",
        ),
        (Reply::text(500, "text/plain", "storage is gone\n"), "storage is gone"),
        (
            Reply::text(500, "application/json", r#"{"data":null}"#)
                .reason("Ger\u{e4}t \u{2014} fort at /usr/share/perl5/PVE/Storage.pm line 1142.".as_bytes()),
            "Ger\u{e4}t \u{2014} fort",
        ),
        (Reply::empty(599).reason("Unexpected end-of-file"), "Unexpected end-of-file"),
        (Reply::text(501, "text/plain", "no such method").reason("Method not implemented"), "no such method"),
    ];
    for (answer, words) in answers {
        let machine = with_between(Profile::V7_4, move |_, request| {
            request.path().contains("/cluster/resources").then(|| answer.clone())
        });
        let mut core = core(&machine);
        let said = core.error("proxmox_list_vms", json!({}));
        assert_says(&said, &["could not list guests", words]);
        assert!(!said.contains("perl5") && said.len() < 900, "{said}");
        core.finish();
    }
}

#[test]
fn the_token_is_sent_in_the_vendors_form_and_nothing_else_is() {
    let machine = with_between(Profile::V9_2, |_, request| {
        let expected = format!("PVEAPIToken={TOKEN_ID}={}", lab::proxmox::TOKEN_SECRET);
        let fine = request.header("authorization") == Some(&expected)
            && request.header("cookie").is_none()
            && request.header("transfer-encoding").is_none()
            && (request.method == "POST" || (request.body.is_empty() && request.header("content-length").is_none()));
        let why: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        (!fine).then(|| Reply::json(500, &json!({"data": null, "message": why.join(" ")})))
    });
    let mut core = core(&machine);
    for (tool, arguments) in [
        ("proxmox_status", json!({})),
        ("proxmox_list_backups", json!({})),
        ("proxmox_start_vm", json!({"vmid": 105})),
        ("proxmox_shutdown_vm", json!({"vmid": 105, "timeout": 5, "force_stop": true})),
        ("proxmox_create_snapshot", json!({"vmid": 105, "description": "ü & +"})),
    ] {
        let told: Value = core.ok(tool, arguments);
        assert!(
            told.get("problems")
                .is_none_or(|problems| tool == "proxmox_list_backups" && problems[0] == super::backups::OFF),
            "{told}"
        );
    }
    let content = act_with_consent(&mut core, "proxmox_delete_vm", json!({"vmid": 105, "purge": true}));
    assert_outcome(&content, "changed", &["deleted"]);
    core.finish();
}
