//! What reads: status, guests, nodes, storages, configurations, over every version.

use lab::proxmox::{Guest, NodeState, Privileges, Profile, Proxmox, TOKEN_ID, Unreachable};
use serde_json::{Value, json};

use super::{assert_says, changes, cluster, core, env, hurried, percent, raw};
use crate::appliances::Machine;

const GIB: u64 = 1 << 30;

/// The vendor's rows of a kind, by name or number.
fn raw_rows(lab: &Proxmox, kind: &str) -> Vec<Value> {
    raw(lab, &format!("/cluster/resources?type={kind}")).as_array().unwrap().clone()
}

/// Seconds that two looks at an uptime may differ by.
#[track_caller]
fn assert_uptime(row: &Value, seconds: &Value) {
    let seconds = seconds.as_i64().unwrap();
    let told = row["uptime_seconds"].as_i64().unwrap_or_default();
    assert!((told - seconds).abs() <= 5, "{row} is not up for {seconds} s");
    let (days, hours, minutes) = (told / 86_400, told / 3600 % 24, told / 60 % 60);
    let text = match (days, hours) {
        (0, 0) => json!(format!("{minutes}m")),
        (0, hours) => json!(format!("{hours}h {minutes}m")),
        (days, hours) => json!(format!("{days}d {hours}h")),
    };
    assert_eq!(row["uptime"], if told == 0 { Value::Null } else { text }, "{row}");
}

/// A member that is left out when the vendor has nothing, 0 or "".
fn or_absent(value: &Value) -> Value {
    if [json!(0), json!(""), Value::Null].contains(value) { Value::Null } else { value.clone() }
}

#[test]
fn the_cluster_its_nodes_and_guests_are_counted_in_every_version() {
    for (profile, version) in Profile::ALL.into_iter().zip(["7.4-20", "8.4.21", "9.0.11", "9.2.11"]) {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let status = core.ok("proxmox_status", json!({}));
        assert_eq!(status["version"], version);
        assert_eq!((&status["cluster"], &status["quorate"]), (&json!("homelab"), &json!(true)));
        assert_eq!(
            status["guests"],
            json!({"total": 20, "running": 7, "stopped": 10, "other": 1, "templates": 2}),
            "{version}"
        );
        let nodes = status["nodes"].as_array().unwrap();
        let there = raw_rows(&machine.lab, "node");
        assert_eq!(nodes.len(), 3);
        for (told, node) in nodes.iter().zip(&there) {
            assert_eq!((&told["node"], &told["status"]), (&node["node"], &json!("online")));
            assert_eq!(told["cpu_percent"], json!(8.91), "0.0891 of its CPUs");
            assert_eq!(told["memory_percent"], percent(&node["mem"], node["maxmem"].as_f64().unwrap()));
            assert_uptime(told, &node["uptime"]);
        }
        assert!(status.get("problems").is_none() && status.get("storages_nearly_full").is_none(), "{status}");

        let nodes = core.ok("proxmox_list_nodes", json!({}))["nodes"].as_array().unwrap().clone();
        for (told, node) in nodes.iter().zip(&there) {
            assert_eq!((&told["node"], &told["cpus"]), (&node["node"], &json!(16.0)));
            assert_eq!((&told["memory_bytes"], &told["memory_total_bytes"]), (&node["mem"], &node["maxmem"]));
            assert_eq!((&told["disk_bytes"], &told["disk_total_bytes"]), (&node["disk"], &node["maxdisk"]));
            assert_eq!(told["ha_state"], node["hastate"], "from 9.0 on");
        }
        core.finish();
        assert!(changes(&machine).is_empty());
    }
}

#[test]
fn storages_that_are_nearly_full_and_a_lost_quorum_show_in_the_status() {
    let machine = cluster(Profile::V9_2);
    machine.lab.change_storage("nas", |nas| nas.used = 7800 * GIB);
    machine.lab.change_storage("vmstore", |store| (store.used, store.nodes) = (449 * GIB, vec!["pve2".into()]));
    machine.lab.set_quorum(false);
    let mut core = core(&machine);
    let status = core.ok("proxmox_status", json!({}));
    assert_eq!(status["storages_nearly_full"], json!(["nas: 98 %", "vmstore on pve2: 100 %"]));
    assert_eq!(status["quorate"], false);
    core.finish();
}

#[test]
fn a_host_in_no_cluster_has_no_cluster_and_no_quorum() {
    for profile in Profile::ALL {
        let machine = Machine::start(hurried(Proxmox::standalone(profile)));
        let mut core = core(&machine);
        let status = core.ok("proxmox_status", json!({}));
        assert!(status.get("cluster").is_none() && status.get("quorate").is_none(), "{status}");
        assert_eq!(status["nodes"][0]["node"], "pve");
        assert_eq!(core.ok("proxmox_vm_status", json!({"name": "web"}))["node"], "pve");
        core.finish();
    }
}

#[test]
fn every_guest_is_listed_as_the_vendor_has_it() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let list = core.ok("proxmox_list_vms", json!({}));
        let there = raw_rows(&machine.lab, "vm");
        let rows = list["vms"].as_array().unwrap();
        assert_eq!((rows.len(), &list["total"]), (there.len(), &json!(20)));
        for (told, guest) in rows.iter().zip(&there) {
            for member in ["vmid", "name", "node", "type", "status"] {
                assert_eq!(told[member], guest[member], "{profile:?} {guest}");
            }
            assert_eq!(told["cpu_percent"], percent(&guest["cpu"], 1.0), "0 is 0: {guest}");
            assert_eq!(told["memory_percent"], percent(&guest["mem"], guest["maxmem"].as_f64().unwrap()));
            assert_uptime(told, &guest["uptime"]);
            let template = if guest["template"] == 1 { json!(true) } else { Value::Null };
            assert_eq!(told["template"], template, "{guest}");
            assert_eq!((&told["lock"], &told["pool"]), (&or_absent(&guest["lock"]), &guest["pool"]));
            assert_eq!(told["ha_state"], guest["hastate"]);
            let tags = guest["tags"].as_str().map_or(Value::Null, |tags| json!(tags.split(';').collect::<Vec<_>>()));
            assert_eq!(told["tags"], tags);
        }
        let of = |vmid: u32| rows.iter().find(|row| row["vmid"] == vmid).unwrap();
        assert_eq!(of(102)["name"], "VM 102", "one without a name");
        assert_eq!(of(107)["status"], "paused");
        assert_eq!((&of(101)["lock"], &of(109)["ha_state"]), (&json!("backup"), &json!("started")));
        assert!(list.get("note").is_none() && list.get("offline_nodes").is_none());
        core.finish();
        assert_eq!(machine.requests(), 1, "one request for all");
    }
}

#[test]
fn filters_narrow_the_list_of_guests() {
    let machine = cluster(Profile::V9_0);
    let mut core = core(&machine);
    for (filter, expected) in [
        (json!({"node": "pve3"}), vec![300, 301, 302]),
        (json!({"type": "lxc", "status": "running"}), vec![200, 302]),
        (json!({"status": "paused"}), vec![107]),
        (json!({"tag": "PROD"}), vec![100, 101, 105]),
        (json!({"name": "WEB"}), vec![100]),
        (json!({"node": "pve9"}), vec![]),
        (json!({"limit": 2}), vec![100, 101]),
    ] {
        let list = core.ok("proxmox_list_vms", filter.clone());
        let ids: Vec<_> = list["vms"].as_array().unwrap().iter().map(|row| row["vmid"].as_u64().unwrap()).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    core.finish();
}

#[test]
fn a_guest_is_told_as_it_is_now() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let web = core.ok("proxmox_vm_status", json!({"vmid": 100}));
        let there = raw(&machine.lab, "/nodes/pve1/qemu/100/status/current");
        assert_uptime(&web, &there["uptime"]);
        for (member, value) in [
            ("vmid", json!(100)),
            ("name", json!("web")),
            ("node", json!("pve1")),
            ("type", json!("qemu")),
            ("status", json!("running")),
            ("cpu_percent", json!(0.0)),
            ("memory_percent", percent(&there["mem"], there["maxmem"].as_f64().unwrap())),
            ("cpus", json!(4.0)),
            ("memory_bytes", there["mem"].clone()),
            ("memory_total_bytes", json!(4 * GIB)),
            ("disk_bytes", Value::Null),
            ("disk_total_bytes", json!(32 * GIB)),
            ("ha_managed", json!(false)),
            ("guest_agent", json!(true)),
            ("tags", json!(["prod", "web"])),
            ("pool", json!("prod")),
            ("lock", Value::Null),
            ("note", Value::Null),
        ] {
            assert_eq!(web[member], value, "{profile:?} {member}");
        }
        let dns = core.ok("proxmox_vm_status", json!({"vmid": 200}));
        let there = raw(&machine.lab, "/nodes/pve1/lxc/200/status/current");
        assert_eq!((&dns["type"], &dns["disk_bytes"]), (&json!("lxc"), &there["disk"]));
        assert!(dns.get("guest_agent").is_none() && there["disk"].as_u64().unwrap() > 0);
        let paused = core.ok("proxmox_vm_status", json!({"vmid": 107}));
        assert_eq!(paused["status"], "paused", "its process runs, it does not");
        let mail = core.ok("proxmox_vm_status", json!({"name": "mail"}));
        assert_eq!((&mail["ha_managed"], &mail["ha_state"]), (&json!(true), &json!("started")));
        let stopped = core.ok("proxmox_vm_status", json!({"vmid": 105}));
        assert_eq!((&stopped["status"], &stopped["cpu_percent"]), (&json!("stopped"), &json!(0.0)));
        assert!(stopped.get("uptime").is_none(), "0 is no uptime: {stopped}");
        assert_eq!(core.ok("proxmox_vm_status", json!({"vmid": 102}))["name"], "VM 102");
        core.finish();
    }
}

#[test]
fn a_guest_is_found_by_number_or_by_a_name_that_is_the_only_one() {
    let machine = cluster(Profile::V8_4);
    machine.lab.add(Guest::container(120, "web").on("pve2"));
    let mut core = core(&machine);
    let said = core.error("proxmox_vm_status", json!({"name": "web"}));
    assert_says(&said, &["2 guests are called `web`", "100 web (qemu on pve1)", "120 web (lxc on pve2)", "`vmid`"]);
    assert_eq!(core.ok("proxmox_vm_status", json!({"name": "web", "node": "pve2"}))["vmid"], 120);
    assert_eq!(core.ok("proxmox_vm_status", json!({"name": "web", "type": "qemu"}))["vmid"], 100);
    assert_eq!(core.ok("proxmox_vm_status", json!({"name": "docker"}))["vmid"], 105);
    let said = core.error("proxmox_vm_status", json!({"name": "dock"}));
    assert_says(&said, &["no guest is called `dock`", "105 docker (qemu on pve1)"]);
    let said = core.error("proxmox_vm_status", json!({"vmid": 100, "name": "git"}));
    assert_says(&said, &["VM 100 is called `web`, not `git`"]);
    assert_says(&core.error("proxmox_vm_status", json!({"vmid": 4711})), &["no guest 4711", "proxmox_list_vms"]);
    assert_says(&core.error("proxmox_vm_status", json!({})), &["neither `vmid` nor `name`"]);
    core.finish();
}

#[test]
fn a_wrong_node_or_type_is_corrected_and_said() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let wrong = json!({"vmid": 100, "node": "pve3", "type": "lxc"});
        let correction = "(Corrected: 100 is qemu on node pve1, not on node pve3 and not lxc.)";
        for tool in ["proxmox_vm_status", "proxmox_vm_config", "proxmox_list_snapshots"] {
            let told = core.ok(tool, wrong.clone());
            assert_eq!(told["note"], correction, "{tool}");
        }
        let started = core.ok("proxmox_start_vm", json!({"vmid": 105, "node": "pve2"}));
        assert_says(
            started["message"].as_str().unwrap(),
            &["(Corrected: 105 is qemu on node pve1, not on node pve2.)"],
        );
        assert_eq!(started["node"], "pve1");
        let right = core.ok("proxmox_vm_status", json!({"vmid": 100, "node": "pve1", "type": "qemu"}));
        assert!(right.get("note").is_none());
        core.finish();
        assert_eq!(changes(&machine), ["POST /nodes/pve1/qemu/105/status/start"]);
    }
}

#[test]
fn the_guests_of_a_node_that_is_off_are_listed_as_unknown() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_node("pve3", NodeState::Offline(Unreachable::NoRoute));
        let mut core = core(&machine);
        let list = core.ok("proxmox_list_vms", json!({}));
        assert_eq!((&list["total"], &list["offline_nodes"]), (&json!(20), &json!(["pve3"])));
        let on_it: Vec<_> = list["vms"].as_array().unwrap().iter().filter(|row| row["node"] == "pve3").collect();
        let unknown = |vmid: u32, name: &str, kind: &str| json!({"vmid": vmid, "name": name, "node": "pve3", "type": kind, "status": "unknown"});
        let mut managed = unknown(301, "VM 301", "qemu");
        managed["ha_state"] = json!("started");
        let expected = [unknown(300, "VM 300", "qemu"), managed, unknown(302, "CT 302", "lxc")];
        assert_eq!(on_it, expected.iter().collect::<Vec<_>>(), "no zeros as if measured");

        let status = core.ok("proxmox_status", json!({}));
        assert_eq!(status["nodes"][2], json!({"node": "pve3", "status": "offline"}));
        assert_eq!(status["guests"]["other"], 4);
        assert_eq!(core.ok("proxmox_list_nodes", json!({}))["nodes"][2]["status"], "offline");
        let storage = core.ok("proxmox_list_storage", json!({}));
        let of_it = storage["storage"].as_array().unwrap().iter().find(|row| row["node"] == "pve3").unwrap();
        assert_eq!(of_it["active"], false);
        assert!(of_it.get("used_gb").is_none() && of_it.get("total_bytes").is_none(), "{of_it}");

        let said = core.error("proxmox_vm_status", json!({"vmid": 300}));
        assert_says(&said, &["node pve3 is offline", "No route to host"]);
        let said = core.error("proxmox_start_vm", json!({"vmid": 300}));
        assert_says(&said, &["node pve3 is offline"]);
        let said = core.error("proxmox_vm_status", json!({"name": "nvr"}));
        assert_says(&said, &["no guest is called `nvr`", "of 3 guests the cluster does not know the name", "`vmid`"]);
        core.finish();
        assert!(changes(&machine).is_empty());
    }
}

#[test]
fn after_a_restart_of_the_cluster_file_system_what_is_unknown_is_not_made_up() {
    let machine = cluster(Profile::V8_4);
    for node in ["pve1", "pve2", "pve3"] {
        machine.lab.set_node(node, NodeState::Booting);
    }
    let mut core = core(&machine);
    let list = core.ok("proxmox_list_vms", json!({}));
    for row in list["vms"].as_array().unwrap() {
        let known = ["vmid", "name", "node", "type", "status", "pool", "ha_state"];
        assert!(row.as_object().unwrap().keys().all(|member| known.contains(&member.as_str())), "{row}");
        assert_eq!(row["status"], "unknown");
    }
    let status = core.ok("proxmox_status", json!({}));
    assert_eq!(status["guests"], json!({"total": 20, "running": 0, "stopped": 0, "other": 20, "templates": 0}));
    assert_eq!(status["nodes"][0], json!({"node": "pve1", "status": "unknown"}));
    // The node itself knows.
    let web = core.ok("proxmox_vm_status", json!({"vmid": 100}));
    assert_eq!((&web["name"], &web["status"]), (&json!("web"), &json!("running")));
    core.finish();
}

#[test]
fn a_state_that_the_list_does_not_show_yet_is_read_from_the_node() {
    let machine = cluster(Profile::V9_0);
    machine.lab.set_resources_lag(std::time::Duration::from_secs(600));
    let mut core = core(&machine);
    let started = core.ok("proxmox_start_vm", json!({"vmid": 105}));
    assert_eq!((&started["outcome"], &started["status"]), (&json!("changed"), &json!("running")));
    assert_eq!(core.ok("proxmox_vm_status", json!({"vmid": 105}))["status"], "running");
    let listed = core.ok("proxmox_list_vms", json!({"name": "docker"}));
    assert_eq!(listed["vms"][0]["status"], "stopped", "up to ten seconds old, as its description says");
    core.finish();
}

#[test]
fn a_guest_that_moved_since_the_list_was_made_is_looked_up_again() {
    for profile in Profile::ALL {
        let machine = super::with_between(profile, |lab, request| {
            // It has gone when its node is asked for it.
            if request.path().ends_with("/nodes/pve1/qemu/105/status/current") {
                lab.change(105, |guest| guest.node = "pve2".into());
            }
            None
        });
        let mut core = core(&machine);
        let found = core.ok("proxmox_vm_status", json!({"vmid": 105}));
        assert_eq!((&found["node"], &found["name"]), (&json!("pve2"), &json!("docker")), "{profile:?}");
        core.finish();
        assert_eq!(machine.seen("GET", "/api2/json/cluster/resources").len(), 2);
    }
}

#[test]
fn two_hundred_guests_are_one_request_and_fit_the_cap() {
    let machine = Machine::start(hurried(Proxmox::big(Profile::V9_2)));
    for cap in ["12000", "50000"] {
        let mut core = env(&machine).and("MAX_RESULT_CHARS", cap).core();
        let (mut seen, mut arguments, before) = (Vec::new(), json!({}), machine.requests());
        let mut pages = 0;
        loop {
            let result = core.call("proxmox_list_vms", arguments);
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(text.chars().count() <= cap.parse().unwrap(), "{} characters of {cap}", text.chars().count());
            let page = &result["structuredContent"];
            let rows = page["vms"].as_array().unwrap();
            assert_eq!((&page["total"], &page["returned"]), (&json!(200), &json!(rows.len())));
            seen.extend(rows.iter().map(|row| row["vmid"].as_u64().unwrap()));
            pages += 1;
            let Some(next) = page.get("next_cursor") else { break };
            arguments = json!({"cursor": next});
        }
        assert_eq!(seen, (1000..1200).collect::<Vec<_>>(), "each once, in order");
        assert_eq!(machine.requests() - before, pages, "one request for each page");
        core.finish();
    }
}

#[test]
fn a_shared_storage_is_one_row_and_one_that_is_off_has_no_numbers() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let list = core.ok("proxmox_list_storage", json!({}));
        let rows = list["storage"].as_array().unwrap();
        let names: Vec<_> = rows
            .iter()
            .map(|row| format!("{}@{}", row["storage"].as_str().unwrap(), row["node"].as_str().unwrap()))
            .collect();
        assert_eq!(
            names,
            [
                "archive@pve1",
                "local@pve1",
                "local@pve2",
                "local@pve3",
                "local-zfs@pve1",
                "local-zfs@pve2",
                "local-zfs@pve3",
                "nas@pve1",
                "pbs@pve1",
                "vmstore@pve1",
                "vmstore@pve2",
                "vmstore@pve3"
            ]
        );
        assert_eq!(
            rows[0],
            json!({"storage": "archive", "node": "pve1", "type": "nfs", "content": "backup", "active": false,
                "shared": true, "inactive_on": ["pve1", "pve2", "pve3"]})
        );
        assert_eq!(
            rows[7],
            json!({"storage": "nas", "node": "pve1", "type": "nfs", "content": "backup,iso", "active": true, "shared": true,
                "used_gb": 5100.0, "total_gb": 8000.0, "used_percent": 63.75, "used_bytes": 5100 * GIB,
                "total_bytes": 8000 * GIB})
        );
        let one = core.ok("proxmox_list_storage", json!({"node": "pve2"}));
        assert!(one["storage"].as_array().unwrap().iter().all(|row| row["node"] == "pve2") && one["total"] == 6);
        let said = core.error("proxmox_list_storage", json!({"node": "pve9"}));
        assert_says(&said, &["no storage is listed for node `pve9`", "pve1, pve2, pve3"]);
        core.finish();
    }
}

#[test]
fn a_configuration_is_the_one_in_force_and_keeps_its_secrets() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.change(105, |guest| {
            guest.description = Some("Root password: hunter2-very-long\nmoved in June\n".into());
            guest.config = vec![
                ("cipassword".into(), json!("**********")),
                ("sshkeys".into(), json!("ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIJ%20me")),
                ("args".into(), json!("-object secret,id=s0,data=q7fD2kLpQ9 -cpu host")),
                ("hookscript".into(), json!("local:snippets/hook.sh")),
            ];
        });
        let mut core = core(&machine);
        let told = core.ok("proxmox_vm_config", json!({"vmid": 105}));
        for (member, value) in [
            ("vmid", json!(105)),
            ("name", json!("docker")),
            ("node", json!("pve1")),
            ("type", json!("qemu")),
            ("cores", json!(4)),
            ("memory", json!(4096)),
            ("disk", json!("local-zfs:vm-105-disk-0,size=64G")),
        ] {
            assert_eq!(told[member], value, "{profile:?}: {member}; 6144 is pending only");
        }
        let text = told.to_string();
        for secret in ["hunter2", "AAAAC3NzaC1lZDI1NTE5", "q7fD2kLpQ9", "6144", "**********"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for kept in ["moved in June", "-cpu host", "local:snippets/hook.sh", "virtio=BC:24:11"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        machine.lab.change(200, |guest| guest.description = Some("Resolver".into()));
        let dns = core.ok("proxmox_vm_config", json!({"name": "dns"}));
        assert_eq!((&dns["name"], &dns["memory"], &dns["cores"]), (&json!("dns"), &json!(512), &json!(1)));
        assert_eq!(dns["disk"], "local-zfs:vm-200-disk-0,size=8G");
        assert_eq!(core.ok("proxmox_vm_config", json!({"vmid": 102}))["name"], "VM 102");
        core.finish();
        assert!(machine.seen("GET", "/api2/json/nodes/pve1/qemu/105/config?current=1").len() == 1);
    }
}

#[test]
fn empty_lists_of_a_token_without_rights_say_why() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_privileges(Privileges::none());
        let mut core = core(&machine);
        let list = core.ok("proxmox_list_vms", json!({}));
        assert_eq!(list["vms"], json!([]));
        assert_says(list["note"].as_str().unwrap(), &["There may be guests", "lacks VM.Audit on /vms"]);
        let list = core.ok("proxmox_list_storage", json!({}));
        assert_eq!(list["storage"], json!([]));
        assert_says(list["note"].as_str().unwrap(), &["lacks Datastore.Audit on /storage"]);
        let status = core.ok("proxmox_status", json!({}));
        let problems = status["problems"].to_string();
        assert_says(&problems, &["Sys.Audit on /", "lacks VM.Audit on /vms", "load of nodes"]);
        assert!(status.get("cluster").is_none() && status["nodes"][0].get("cpu_percent").is_none(), "{status}");
        let nodes = core.ok("proxmox_list_nodes", json!({}));
        let known = ["node", "status", "ha_state"];
        let row = nodes["nodes"][0].as_object().unwrap();
        assert!(row.keys().all(|member| known.contains(&member.as_str())) && row["node"] == "pve1", "{row:?}");
        let said = core.error("proxmox_vm_status", json!({"vmid": 100}));
        assert_says(&said, &["no guest 100", "lacks VM.Audit on /vms/100", "privilege separation"]);
        // A guest that it may see beside others that it may not.
        machine.lab.set_privileges(Privileges::none().on("/vms/105", &["VM.Audit"]));
        assert_eq!(core.ok("proxmox_list_vms", json!({}))["total"], 1);
        let said = core.error("proxmox_vm_status", json!({"vmid": 100}));
        assert_says(&said, &["has VM.Audit on /vms/105 only"]);
        core.finish();
    }
}

#[test]
fn an_empty_cluster_is_just_empty() {
    let machine = Machine::start(hurried(Proxmox::standalone(Profile::V8_4)));
    for vmid in (100..400).chain([9000]) {
        machine.lab.remove(vmid);
    }
    let mut core = core(&machine);
    let list = core.ok("proxmox_list_vms", json!({}));
    assert!(list["vms"] == json!([]) && list.get("note").is_none(), "{list}");
    core.finish();
}

#[test]
fn check_says_which_privilege_is_missing_for_which_tool() {
    for profile in [Profile::V7_4, Profile::V9_2] {
        let machine = cluster(profile);
        let env = env(&machine).and("CAPABILITY_LEVEL", "4").and("TOOLSETS", "proxmox");
        let ran = env.check();
        assert_says(&ran.stdout, &[&format!("token {TOKEN_ID}"), "the token has the privileges of its 14 tools"]);
        machine.lab.set_privileges(Privileges::auditor());
        let ran = env.check();
        assert_says(
            &ran.stdout,
            &[
                "VM.PowerMgmt on /vms (for proxmox_start_vm",
                "VM.Snapshot on /vms",
                "VM.Allocate on /vms",
                "VM.Backup on /vms",
            ],
        );
        let ran = env.and("CAPABILITY_LEVEL", "1").check();
        assert!(!ran.stdout.contains("VM.PowerMgmt on"), "{}", ran.stdout);
        assert_says(&ran.stdout, &["Datastore.AllocateSpace", "proxmox_list_backups"]);
    }
}
