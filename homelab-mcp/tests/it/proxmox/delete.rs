//! Deleting a guest: what is said before, what is refused, and what is true afterwards.

use lab::proxmox::{Ending, Guest, Privileges, Profile};
use serde_json::{Value, json};

use super::{act, act_with_consent, assert_outcome, assert_says, changes, cluster, core, env, with_between};

const DELETE: &str = "proxmox_delete_vm";

#[test]
fn a_guest_is_deleted_after_consent_and_gone_afterwards_in_every_version() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.change(103, |git| git.run = lab::proxmox::Run::Stopped);
        let mut core = core(&machine);
        let asked = act(&mut core, DELETE, json!({"vmid": 103}));
        assert_outcome(&asked, "needs_confirmation", &["Delete VM 103 (git, stopped, node pve1) for good"]);
        assert_says(asked["plan"].as_str().unwrap(), &["vm-103-disk-0", "before-upgrade", "base"]);
        assert!(machine.lab.guest(103).is_some() && changes(&machine).is_empty());
        for (vmid, label, node, path) in [
            (103, "VM 103 (git)", "pve1", "qemu"),
            (105, "VM 105 (docker)", "pve1", "qemu"),
            (202, "CT 202 (wiki)", "pve2", "lxc"),
            (9000, "VM 9000 (debian-template)", "pve1", "qemu"),
        ] {
            let content = act_with_consent(&mut core, DELETE, json!({"vmid": vmid}));
            assert_outcome(&content, "changed", &[label, "deleted successfully", "gone from the cluster"]);
            assert_eq!((&content["status"], &content["vmid"]), (&json!("deleted"), &json!(vmid)), "{profile:?}");
            assert!(content["task"].as_str().unwrap().contains("destroy:"), "{content}");
            assert!(machine.lab.guest(vmid).is_none());
            assert_eq!(changes(&machine).last().unwrap(), &format!("DELETE /nodes/{node}/{path}/{vmid}"), "no body");
            assert_says(&core.error("proxmox_vm_status", json!({"vmid": vmid})), &[&format!("no guest {vmid}")]);
        }
        assert_eq!(changes(&machine).len(), 4, "each asked for once");
        core.finish();
    }
}

#[test]
fn what_goes_and_what_would_bring_it_back_is_told_before() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.change(105, |docker| {
            docker.disks.push(lab::proxmox::Disk {
                key: "scsi1".into(),
                volume: "vmstore:105/vm-105-disk-1.qcow2".into(),
                size: 9 << 30,
            });
        });
        let newest = machine_newest(&machine.lab, 105);
        let mut core = core(&machine);
        let planned = act(&mut core, DELETE, json!({"vmid": 105, "dry_run": true, "purge": true}));
        let newest = format!("Its newest backup is {newest} on pbs; nothing else would bring it back.");
        assert_outcome(&planned, "planned", &["with 2 disks and 0 snapshots", &newest, "Nothing was done"]);
        assert_says(
            planned["plan"].as_str().unwrap(),
            &[
                "scsi0 local-zfs:vm-105-disk-0 (64G)",
                "scsi1 vmstore:105/vm-105-disk-1.qcow2 (9G)",
                "Snapshots that go:\n  none",
                "Backups that stay:\n  pbs:backup/vm/105/",
                "nas:backup/vzdump-qemu-105-",
                "archive: storage 'archive' is not online",
                "backup jobs, replication jobs and HA",
            ],
        );
        let planned = act(&mut core, DELETE, json!({"vmid": 104, "dry_run": true}));
        assert_outcome(
            &planned,
            "planned",
            &["No backup of guest 104 was found", "Not known for: archive", "cannot be brought back"],
        );
        core.finish();
        assert!(changes(&machine).is_empty() && machine.lab.guest(105).is_some());
    }
}

/// When the newest backup of a guest was made.
fn machine_newest(lab: &lab::proxmox::Proxmox, vmid: u32) -> String {
    let rows = super::raw(lab, &format!("/nodes/pve1/storage/pbs/content?content=backup&vmid={vmid}"));
    let newest = rows.as_array().unwrap().iter().map(|row| row["ctime"].as_i64().unwrap()).max().unwrap();
    jiff::Timestamp::from_second(newest).unwrap().to_string()
}

#[test]
fn a_token_that_sees_no_backups_does_not_say_that_there_is_none() {
    let machine = cluster(Profile::V8_4);
    machine.lab.set_privileges(Privileges::auditor().on("/vms", &["VM.Audit", "VM.Allocate"]));
    let mut core = core(&machine);
    let planned = act(&mut core, DELETE, json!({"vmid": 105, "dry_run": true}));
    assert_outcome(&planned, "planned", &["There may be some", "Datastore.AllocateSpace on /storage/nas"]);
    core.finish();
}

#[test]
fn what_the_vendor_would_refuse_is_refused_before() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        for (arguments, words) in [
            (json!({"vmid": 100}), vec!["VM 100 (web) is running", "proxmox_shutdown_vm"]),
            (json!({"vmid": 200}), vec!["CT 200 (dns) is running"]),
            (json!({"vmid": 107}), vec!["VM 107 (paused) is paused"]),
            (json!({"vmid": 108}), vec!["VM 108 (protected) is protected", "protection: 1"]),
            (json!({"vmid": 101}), vec!["VM 101 (db) is locked (backup)"]),
            (json!({"vmid": 301}), vec!["VM 301 (ha-that-never-moves) is HA-managed", "purge"]),
            (json!({"vmid": 4711}), vec!["no guest 4711"]),
        ] {
            for dry_run in [false, true] {
                let mut arguments: Value = arguments.clone();
                arguments["dry_run"] = json!(dry_run);
                assert_outcome(&act(&mut core, DELETE, arguments), "failed", &words);
            }
        }
        core.finish();
        assert!(changes(&machine).is_empty());
    }
}

#[test]
fn purge_takes_it_out_of_ha_too() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let content = act_with_consent(&mut core, DELETE, json!({"vmid": 301, "purge": true}));
        assert_outcome(&content, "changed", &["deleted successfully"]);
        assert_eq!(changes(&machine), ["DELETE /nodes/pve3/qemu/301?purge=1"]);
        core.finish();
    }
}

#[test]
fn a_template_with_linked_clones_is_kept() {
    // The stand-in does not know of linked clones; the row is the vendor's.
    let machine = with_between(Profile::V9_2, |_, request| {
        let rows = json!({"data": [
            {"volid": "local-zfs:base-9000-disk-0/vm-150-disk-0", "content": "images", "format": "raw", "size": 8, "vmid": 150,
             "parent": "base-9000-disk-0@__base__"},
            {"volid": "local-zfs:base-9000-disk-0", "content": "images", "format": "raw", "size": 8, "vmid": 9000},
        ]});
        request.path().ends_with("/storage/local-zfs/content").then(|| lab::Reply::json(200, &rows))
    });
    let mut core = core(&machine);
    let content = act(&mut core, DELETE, json!({"vmid": 9000}));
    assert_outcome(&content, "failed", &["a template with linked clones", "vm-150-disk-0", "Nothing was done"]);
    core.finish();
    assert!(changes(&machine).is_empty());
}

#[test]
fn what_became_so_in_between_is_refused_in_the_vendors_words() {
    for profile in Profile::ALL {
        let machine = with_between(profile, |lab, request| {
            if request.method == "DELETE" {
                match request.path().rsplit('/').next() {
                    Some("105") => lab.change(105, |guest| guest.protection = true),
                    Some("106") => lab.change(106, |guest| guest.run = lab::proxmox::Run::Running(1_700_000_000)),
                    Some("104") => lab.change(104, |guest| guest.lock = Some("backup".into())),
                    Some("202") => lab.change(202, |guest| guest.lock = Some("backup".into())),
                    Some("203") => lab.change(203, |guest| guest.run = lab::proxmox::Run::Running(1_700_000_000)),
                    _ => None,
                };
            }
            None
        });
        let mut core = core(&machine);
        for (vmid, words) in [
            (105, "can't remove VM 105 - protection mode enabled"),
            (106, "VM 106 is running - destroy failed"),
            (104, "VM is locked (backup)"),
            (202, "CT is locked (backup)"),
            (203, "unable to destroy CT 203 - container is running"),
        ] {
            let content = act_with_consent(&mut core, DELETE, json!({"vmid": vmid}));
            assert_outcome(&content, "failed", &[words]);
            assert!(machine.lab.guest(vmid).is_some());
        }
        core.finish();
    }
}

#[test]
fn whether_it_is_gone_counts_and_not_how_its_task_ended() {
    let machine = with_between(Profile::V8_4, |_, _| None);
    let mut core = core(&machine);
    machine.lab.next_task(Ending::Unclear { status: "unexpected status".into(), done: true });
    let content = act_with_consent(&mut core, DELETE, json!({"vmid": 105}));
    assert_outcome(&content, "changed", &["gone from the cluster", "unexpected status"]);
    machine.lab.next_task(Ending::Unclear { status: "unexpected status".into(), done: false });
    let content = act_with_consent(&mut core, DELETE, json!({"vmid": 106}));
    assert_outcome(&content, "unknown", &["it is still there", "proxmox_list_vms", "Task: UPID:"]);
    assert!(content.get("status").is_none(), "{content}");
    machine.lab.next_task(Ending::Warnings(vec!["could not remove disk".into()]));
    let content = act_with_consent(&mut core, DELETE, json!({"vmid": 102}));
    assert_outcome(&content, "changed", &["With warnings: could not remove disk"]);
    machine.lab.fail_next_task("zfs error: dataset is busy");
    let content = act_with_consent(&mut core, DELETE, json!({"vmid": 104}));
    assert_outcome(&content, "failed", &["zfs error: dataset is busy", "it is still there"]);
    core.finish();
}

#[test]
fn a_confirmation_is_for_one_guest_and_one_time() {
    let machine = cluster(Profile::V9_0);
    let mut core = core(&machine);
    let asked = act(&mut core, DELETE, json!({"vmid": 105}));
    let other = act(&mut core, DELETE, json!({"vmid": 104, "confirm": asked["confirm"]}));
    assert_eq!(other["outcome"], "refused", "{other}");
    let purged = act(&mut core, DELETE, json!({"vmid": 105, "purge": true, "confirm": asked["confirm"]}));
    assert_eq!(purged["outcome"], "refused", "{purged}");
    assert!(changes(&machine).is_empty());
    let asked = act(&mut core, DELETE, json!({"vmid": 105}));
    let again = json!({"vmid": 105, "confirm": asked["confirm"]});
    assert_outcome(&act(&mut core, DELETE, again.clone()), "changed", &["deleted successfully"]);
    machine.lab.add(Guest::vm(105, "another"));
    assert_eq!(act(&mut core, DELETE, again)["outcome"], "refused");
    assert_eq!(machine.lab.guest(105).unwrap().name.as_deref(), Some("another"));
    assert_eq!(changes(&machine).len(), 1);
    core.finish();
}

#[test]
fn the_audit_names_the_guest_that_was_deleted() {
    let machine = cluster(Profile::V9_2);
    let mut core = env(&machine).and("CONFIRM", "never").core();
    assert_outcome(&act(&mut core, DELETE, json!({"name": "wiki"})), "changed", &["deleted successfully"]);
    let log = std::fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert_says(line, &["proxmox_delete_vm", "\"202\"", "wiki"]);
    }
    core.finish();
}

#[test]
fn a_code_does_not_delete_another_guest_that_got_the_number() {
    let machine = cluster(Profile::V9_2);
    let mut core = core(&machine);
    let asked = act(&mut core, DELETE, json!({"vmid": 105}));
    assert_outcome(&asked, "needs_confirmation", &["VM 105 (docker"]);
    machine.lab.change(105, |guest| guest.name = Some("photos".to_owned()));
    let refused = act(&mut core, DELETE, json!({"vmid": 105, "confirm": asked["confirm"]}));
    assert_outcome(&refused, "refused", &["confirmation code"]);
    assert!(machine.lab.guest(105).is_some() && changes(&machine).is_empty());
    core.finish();
}
