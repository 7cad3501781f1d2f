//! Is there a backup of this guest? An answer, or what is missing for one.

use std::time::{Duration, Instant};

use lab::{
    Fault, Rule,
    proxmox::{NodeState, Privileges, Profile, Unreachable},
};
use serde_json::{Value, json};

use super::{assert_says, cluster, core, env, raw};

const LIST: &str = "proxmox_list_backups";
pub(super) const OFF: &str = "archive: storage 'archive' is not online";

/// Volumes of a list, as they come.
fn volumes(list: &Value) -> Vec<String> {
    list["backups"].as_array().unwrap().iter().map(|row| row["volid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_backups_are_listed_newest_first_with_what_is_known_of_each() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let list = core.ok(LIST, json!({}));
        // The vendor's own rows, storage by storage.
        let mut there = Vec::new();
        for (node, storage) in [("pve1", "nas"), ("pve1", "pbs"), ("pve2", "local")] {
            let rows = raw(&machine.lab, &format!("/nodes/{node}/storage/{storage}/content?content=backup"));
            there.extend(rows.as_array().unwrap().iter().map(|row| (storage, node, row.clone())));
        }
        there.sort_by_key(|(_, _, row)| (-row["ctime"].as_i64().unwrap(), row["volid"].as_str().unwrap().to_owned()));
        let rows = list["backups"].as_array().unwrap();
        assert_eq!((rows.len(), &list["total"]), (9, &json!(9)), "{profile:?}");
        for (told, (storage, node, row)) in rows.iter().zip(&there) {
            assert_eq!((&told["storage"], &told["node"]), (&json!(storage), &json!(node)));
            for (ours, theirs) in [
                ("volid", "volid"),
                ("vmid", "vmid"),
                ("type", "subtype"),
                ("size_bytes", "size"),
                ("format", "format"),
            ] {
                assert_eq!(told[ours], row[theirs], "{ours} {row}");
            }
            let time = jiff::Timestamp::from_second(row["ctime"].as_i64().unwrap()).unwrap();
            assert_eq!(told["created"], time.to_string());
            assert_eq!(told["protected"], json!(row["protected"] == 1));
            assert_eq!(told["verification"], row["verification"]["state"]);
            let encrypted = if row.get("encrypted").is_some() { json!(true) } else { Value::Null };
            assert_eq!(told["encrypted"], encrypted);
            assert_eq!(told["notes"], row["notes"]);
            assert_eq!(told["guest_exists"], json!(row["vmid"] != 666));
        }
        let named = |vmid: u32| rows.iter().find(|row| row["vmid"] == vmid).unwrap()["name"].clone();
        assert_eq!((named(105), named(666)), (json!("docker"), Value::Null));
        assert_eq!(
            list["searched"],
            json!(["local on pve1", "local on pve2", "local on pve3", "nas", "pbs"]),
            "shared ones once"
        );
        assert_eq!(list["problems"], json!([OFF]), "beside what there is");
        assert!(list.get("note").is_none());
        core.finish();
    }
}

#[test]
fn is_there_a_backup_of_this_guest() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let list = core.ok(LIST, json!({"vmid": 105}));
        let kinds: Vec<_> = list["backups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["storage"].as_str().unwrap(), row["verification"].clone()))
            .collect();
        assert_eq!(kinds, [("pbs", json!("ok")), ("nas", Value::Null), ("pbs", json!("failed"))], "newest first");
        assert_eq!(core.ok(LIST, json!({"name": "docker"}))["backups"], list["backups"]);
        let gone = core.ok(LIST, json!({"vmid": 666}));
        assert_eq!((&gone["total"], &gone["backups"][0]["guest_exists"]), (&json!(1), &json!(false)));
        let one = core.ok(LIST, json!({"vmid": 105, "storage": "nas"}));
        assert_eq!((&one["total"], &one["searched"]), (&json!(1), &json!(["nas"])));
        assert!(one.get("problems").is_none(), "{one}");
        let local = core.ok(LIST, json!({"node": "pve2", "storage": "local"}));
        assert_eq!((&local["total"], &local["backups"][0]["vmid"]), (&json!(1), &json!(202)));

        let none = core.ok(LIST, json!({"vmid": 104}));
        assert_eq!(none["backups"], json!([]));
        let note = none["note"].as_str().unwrap();
        assert_says(note, &["No backup of guest 104 was found on local on pve1", "nas, pbs", "Not known for", OFF]);
        assert!(!note.contains("lacks"), "it may see all: {note}");

        let said = core.error(LIST, json!({"storage": "local-zfs"}));
        assert_says(&said, &["no storage that may hold backups fits", "nas on pve1"]);
        assert_says(&core.error(LIST, json!({"name": "nobody"})), &["no guest is called `nobody`", "`vmid`"]);
        core.finish();
    }
}

#[test]
fn a_token_that_sees_no_backups_says_that_it_cannot_know() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        let mut core = core(&machine);
        let auditor = Privileges::auditor;
        for (privileges, missing) in [
            (auditor(), "Datastore.AllocateSpace on /storage/nas"),
            (auditor(), "VM.Backup on /vms/105"),
            (auditor().on("/storage", &["Datastore.Audit", "Datastore.AllocateSpace"]), "VM.Backup on /vms/105"),
            (auditor().on("/vms", &["VM.Audit", "VM.Backup"]), "Datastore.AllocateSpace on /storage/nas"),
        ] {
            machine.lab.set_privileges(privileges);
            let list = core.ok(LIST, json!({"vmid": 105}));
            assert_eq!(list["backups"], json!([]));
            assert_says(list["note"].as_str().unwrap(), &["There may be some", "the API token lacks", missing]);
        }
        for privileges in [
            auditor().on("/storage", &["Datastore.Audit", "Datastore.Allocate"]),
            auditor()
                .on("/storage", &["Datastore.Audit", "Datastore.AllocateSpace"])
                .on("/vms", &["VM.Audit", "VM.Backup"]),
        ] {
            machine.lab.set_privileges(privileges);
            assert_eq!(core.ok(LIST, json!({"vmid": 105}))["total"], 3, "{profile:?}");
            let none = core.ok(LIST, json!({"vmid": 104}));
            assert!(!none["note"].as_str().unwrap().contains("There may be some"), "{none}");
        }
        machine.lab.set_privileges(Privileges::none());
        let list = core.ok(LIST, json!({"vmid": 105}));
        assert_says(
            list["note"].as_str().unwrap(),
            &["no storage that may hold backups could be read", "Datastore.Audit"],
        );
        core.finish();
    }
}

#[test]
fn a_token_that_sees_only_some_backups_says_so() {
    let machine = cluster(Profile::V9_2);
    // All of the one storage, none of the other.
    machine.lab.set_privileges(Privileges::auditor().on("/storage/nas", &["Datastore.Audit", "Datastore.Allocate"]));
    let mut core = core(&machine);
    let list = core.ok(LIST, json!({"vmid": 101}));
    assert_eq!(list["backups"], json!([]), "its one backup is on pbs");
    assert_says(list["note"].as_str().unwrap(), &["There may be some", "/storage/pbs"]);
    let list = core.ok(LIST, json!({"vmid": 105}));
    assert_eq!(volumes(&list).len(), 1, "one of three");
    assert_says(&list.to_string(), &["Datastore.AllocateSpace on /storage/pbs"]);
    core.finish();
}

#[test]
fn a_storage_that_hangs_is_named_beside_the_rest() {
    let machine = cluster(Profile::V8_4);
    machine.server.fault(Rule::new("/api2/json/nodes/*/storage/nas/content", Fault::Hang));
    machine.server.fault(Rule::new("/api2/json/nodes/pve3/storage/local/content", Fault::Status(596)));
    let mut core = env(&machine).and("PROXMOX_TIMEOUT", "1").core();
    let clock = Instant::now();
    let list = core.ok(LIST, json!({"vmid": 105}));
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    assert_eq!(list["total"], 2, "those on pbs");
    let problems = list["problems"].to_string();
    assert_says(&problems, &["nas: ", "within 1 s", "local on pve3: ", "Connection timed out", OFF]);
    assert_eq!(list["searched"], json!(["local on pve1", "local on pve2", "pbs"]));
    core.finish();
}

#[test]
fn what_is_on_a_node_that_is_off_is_not_known() {
    for profile in Profile::ALL {
        let machine = cluster(profile);
        machine.lab.set_node("pve2", NodeState::Offline(Unreachable::ConnectionRefused));
        let mut core = core(&machine);
        let list = core.ok(LIST, json!({"vmid": 202}));
        assert_eq!(list["backups"], json!([]));
        assert_says(list["note"].as_str().unwrap(), &["Not known for", "local on pve2: node pve2 is offline"]);
        let list = core.ok(LIST, json!({}));
        assert_eq!(list["total"], 8, "the shared ones by a node that is there");
        core.finish();
        let asked = machine.server.seen().into_iter().filter(|seen| seen.target.contains("/nodes/pve2/"));
        assert_eq!(asked.count(), 0);
    }
}

#[test]
fn many_backups_come_in_pages() {
    let machine = cluster(Profile::V9_0);
    let mut core = core(&machine);
    let (mut seen, mut arguments) = (Vec::new(), json!({"limit": 4}));
    loop {
        let page = core.ok(LIST, arguments.clone());
        seen.extend(volumes(&page));
        let Some(next) = page.get("next_cursor") else { break };
        arguments["cursor"] = next.clone();
    }
    assert_eq!(seen, volumes(&core.ok(LIST, json!({}))));
    core.finish();
}
