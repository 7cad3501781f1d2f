//! Snapshots: which there are, and a new one.

use lab::proxmox::{Ending, Profile, Snapshot};
use serde_json::{Value, json};

use super::{act, assert_outcome, assert_says, changes, cluster, core, with_between};

const LIST: &str = "proxmox_list_snapshots";
const CREATE: &str = "proxmox_create_snapshot";

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

#[test]
fn snapshots_are_listed_newest_first_without_the_one_that_is_none() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let times: Vec<_> = machine.lab.guest(103).unwrap().snapshots.iter().map(|one| rfc3339(one.time)).collect();
        machine.lab.change(200, |dns| {
            dns.snapshots.push(Snapshot {
                name: "half".into(),
                description: "cut off".into(),
                time: 1_795_364_255,
                vmstate: false,
                parent: None,
                state: Some("prepare".into()),
            });
        });
        let mut core = core(&machine);
        let list = core.ok(LIST, json!({"name": "git"}));
        assert_eq!((&list["vmid"], &list["total"]), (&json!(103), &json!(2)));
        assert_eq!(
            list["snapshots"],
            json!([
                {"name": "before-upgrade", "created": times[1], "description": "before-upgrade, made by hand",
                 "vmstate": false, "parent": "base"},
                {"name": "base", "created": times[0], "description": "base, made by hand", "vmstate": false},
            ]),
            "{profile:?}"
        );
        let dns = core.ok(LIST, json!({"vmid": 200}));
        assert_eq!(
            dns["snapshots"],
            json!([{"name": "half", "created": rfc3339(1_795_364_255), "description": "cut off", "state": "prepare"}])
        );
        assert_eq!(core.ok(LIST, json!({"vmid": 100}))["snapshots"], json!([]));
        core.finish();
    }
}

#[test]
fn a_snapshot_is_made_and_seen_in_every_version() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let text = "before & after = 100 % über; ls";
        let content = act(
            &mut core,
            CREATE,
            json!({"vmid": 100, "snapname": "Before-9_2", "description": text, "vmstate": true}),
        );
        assert_outcome(&content, "changed", &["Snapshot `Before-9_2` of VM 100 (web) created successfully"]);
        assert_eq!((&content["vmid"], &content["snapshot"]), (&json!(100), &json!("Before-9_2")));
        assert!(content["task"].as_str().unwrap().contains(":qmsnapshot:100:"), "{content}");
        let made = machine.lab.guest(100).unwrap().snapshots.remove(0);
        assert_eq!((made.name.as_str(), made.description.as_str(), made.vmstate), ("Before-9_2", text, true));

        // A container knows no memory, and a guest without disks can be snapshot too.
        for (vmid, label) in [(200, "CT 200 (dns)"), (102, "VM 102")] {
            let content = act(&mut core, CREATE, json!({"vmid": vmid}));
            assert_outcome(&content, "changed", &[label]);
            let made = machine.lab.guest(vmid).unwrap().snapshots.remove(0);
            assert_eq!(content["snapshot"], made.name);
            let stamp: i64 = made.name.strip_prefix("snapshot-").unwrap().parse().unwrap();
            assert!((stamp / 1000 - made.time).abs() < 60, "{stamp} is in milliseconds");
            assert!(!made.vmstate && made.description.is_empty());
        }
        core.finish();
        assert_eq!(changes(&machine).len(), 3);
    }
}

#[test]
fn what_cannot_be_snapshot_is_refused_before() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        for (arguments, words) in [
            (json!({"vmid": 103, "snapname": "base"}), "VM 103 (git) has a snapshot `base` already"),
            (json!({"vmid": 101}), "VM 101 (db) is locked (backup)"),
            (json!({"vmid": 9000}), "VM 9000 (debian-template) is a template"),
            (json!({"vmid": 201}), "CT 201 (ct-template) is a template"),
            (json!({"vmid": 200, "vmstate": true}), "is a container, and its memory cannot be saved"),
            (json!({"vmid": 4711}), "no guest 4711"),
        ] {
            assert_outcome(&act(&mut core, CREATE, arguments), "failed", &[words]);
        }
        core.finish();
        assert!(changes(&machine).is_empty());
    }
}

#[test]
fn what_the_task_refuses_is_told_with_what_there_is() {
    for profile in Profile::ALL {
        let machine = with_between(profile, |lab, request| {
            if request.method == "POST" && request.path().contains("/105/") {
                lab.change(105, |guest| {
                    guest.snapshots = vec![Snapshot {
                        name: "twice".into(),
                        description: String::new(),
                        time: 1_795_364_255,
                        vmstate: false,
                        parent: None,
                        state: None,
                    }];
                });
            }
            if request.method == "POST" && request.path().contains("/202/") {
                lab.change(202, |guest| guest.lock = Some("backup".into()));
            }
            None
        });
        let mut core = core(&machine);
        for (arguments, words) in [
            (
                json!({"vmid": 110}),
                ["snapshot feature is not available", "the snapshot does not exist", "proxmox_vm_config"],
            ),
            (
                json!({"vmid": 203}),
                ["snapshot feature is not available", "the snapshot does not exist", "without snapshots"],
            ),
            (json!({"vmid": 104}), ["storage 'ghost' does not exist", "the snapshot does not exist", "failed"]),
            (json!({"vmid": 105, "snapname": "twice"}), ["snapshot name 'twice' already used", "failed", "VM 105"]),
            (json!({"vmid": 202}), ["CT is locked (backup)", "the snapshot does not exist", "CT 202"]),
        ] {
            assert_outcome(&act(&mut core, CREATE, arguments), "failed", &words);
        }
        core.finish();
    }
}

#[test]
fn only_the_list_proves_a_snapshot() {
    let machine = cluster(Profile::V9_2);
    let mut core = core(&machine);
    machine.lab.next_task(Ending::Unclear { status: "unable to read tail (got 0 bytes)".into(), done: true });
    let content = act(&mut core, CREATE, json!({"vmid": 105, "snapname": "there"}));
    assert_outcome(&content, "changed", &["`there` of VM 105 (docker) exists", "unable to read tail"]);
    machine.lab.next_task(Ending::Unclear { status: "unexpected status".into(), done: false });
    let content = act(&mut core, CREATE, json!({"vmid": 105, "snapname": "lost"}));
    assert_outcome(&content, "unknown", &["the snapshot does not exist", "proxmox_list_snapshots", "Task: UPID:"]);
    core.finish();
}

#[test]
fn a_bad_name_is_refused_by_the_vendors_rule_before_anything_is_asked() {
    let machine = cluster(Profile::V8_4);
    let mut core = core(&machine);
    let long = "a".repeat(41);
    for name in
        ["", "a", "1a", "a b", "a/b", "a%2fb", "../../x", "ä1", "a.b", "a\nb", "current", "pending", "vzdump", &long]
    {
        let result = core.call(CREATE, json!({"vmid": 100, "snapname": name}));
        assert_eq!(result["isError"], true, "{name}");
        assert_says(&result["content"][0]["text"].to_string(), &["snapname"]);
    }
    core.finish();
    assert_eq!(machine.requests(), 0);
}

#[test]
fn names_that_the_vendor_reserves_whatever_their_case() {
    // Its refusal comes with the request.
    let machine = cluster(Profile::V7_4);
    let mut core = core(&machine);
    for name in ["Current", "PENDING"] {
        let content = act(&mut core, CREATE, json!({"vmid": 100, "snapname": name}));
        assert_outcome(&content, "failed", &[name]);
    }
    assert!(machine.lab.guest(100).unwrap().snapshots.is_empty());
    core.finish();
}

#[test]
fn a_dry_run_says_whether_the_memory_is_saved() {
    let machine = cluster(Profile::V9_0);
    let mut core = core(&machine);
    for (arguments, words) in [
        (json!({"vmid": 100, "vmstate": true}), "with its memory"),
        (json!({"vmid": 100}), "without its memory"),
        (json!({"vmid": 105, "vmstate": true}), "there is no memory to save"),
    ] {
        let mut arguments: Value = arguments;
        arguments["dry_run"] = json!(true);
        assert_outcome(&act(&mut core, CREATE, arguments), "planned", &[words]);
    }
    core.finish();
    assert!(changes(&machine).is_empty());
}
