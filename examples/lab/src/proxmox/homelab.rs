//! The clusters to start with.

use super::access::{Privileges, Token};
use super::cluster::Cluster;
use super::model::{Backup, Disk, Follows, Guest, Ha, Kind, Node, NodeState, OnShutdown, Run, Snapshot, Storage};
use super::profile::Profile;
use serde_json::json;
use std::time::Instant;

/// The token of every cluster here.
pub const TOKEN_ID: &str = "root@pam!lab";
/// Its secret.
pub const TOKEN_SECRET: &str = "5bd1c1a2-7f4e-4f0c-9a53-2f2f6f0e1c01";

const DAY: i64 = 86_400;
const GIB: u64 = 1 << 30;

/// Three nodes, and a guest for each thing that can be the matter with one.
pub(crate) fn cluster(profile: Profile) -> Cluster {
    let nodes = ["pve1", "pve2", "pve3"].map(node).into();
    let mut cluster = Cluster::new(profile, Some("homelab".into()), nodes);
    furnish(&mut cluster);
    let now = cluster.epoch(Instant::now());
    for guest in guests(now) {
        cluster.guests.insert(guest.vmid, guest);
    }
    cluster.backups = backups(now);
    cluster
}

/// The guests of `pve1`, on a host of its own.
pub(crate) fn standalone(profile: Profile) -> Cluster {
    let mut cluster = Cluster::new(profile, None, vec![node("pve")]);
    furnish(&mut cluster);
    let now = cluster.epoch(Instant::now());
    for guest in guests(now).into_iter().filter(|guest| guest.node == "pve1" && guest.ha.is_none()) {
        cluster.guests.insert(guest.vmid, guest.on("pve"));
    }
    cluster.backups = backups(now);
    cluster
}

/// 200 guests, one in four a container, one in three stopped.
pub(crate) fn big(profile: Profile) -> Cluster {
    let nodes = ["pve1", "pve2", "pve3"].map(node).into();
    let mut cluster = Cluster::new(profile, Some("homelab".into()), nodes);
    furnish(&mut cluster);
    let now = cluster.epoch(Instant::now());
    for number in 0..200 {
        let vmid = 1000 + number;
        let kind = if number % 4 == 3 { Kind::Container } else { Kind::Vm };
        let key = if kind == Kind::Vm { "scsi0" } else { "rootfs" };
        let mut guest = Guest::new(kind, vmid, &format!("guest-{number:03}"))
            .on(["pve1", "pve2", "pve3"][number as usize % 3])
            .size(number % 8 + 1, 512 * u64::from(number % 16 + 1))
            .disk(key, &format!("local-zfs:vm-{vmid}-disk-0"), 32)
            .tags(&[["prod", "test", "infra"][number as usize % 3]]);
        if number % 3 != 0 {
            guest.run = Run::Running(now - i64::from(number) * 3600);
        }
        cluster.guests.insert(vmid, guest);
    }
    cluster
}

fn node(name: &str) -> Node {
    Node { name: name.into(), state: NodeState::Online, cpus: 16, memory: 64 * GIB, disk: 92 * GIB }
}

fn furnish(cluster: &mut Cluster) {
    let privileges = Privileges::administrator();
    cluster.tokens = vec![Token { id: TOKEN_ID.into(), secret: TOKEN_SECRET.into(), privileges }];
    let local = |name: &str, plugin: &'static str, content: &'static [&'static str], total: u64, used: u64| Storage {
        name: name.into(),
        plugin,
        content,
        shared: false,
        active: true,
        enabled: true,
        total: total * GIB,
        used: used * GIB,
        nodes: Vec::new(),
    };
    let shared = |storage: Storage| Storage { shared: true, ..storage };
    cluster.storages = vec![
        local("local", "dir", &["iso", "vztmpl", "backup", "snippets"], 92, 18),
        local("local-zfs", "zfspool", &["images", "rootdir"], 900, 412),
        local("vmstore", "dir", &["images"], 450, 120),
        shared(local("nas", "nfs", &["backup", "iso"], 8000, 5100)),
        shared(local("pbs", "pbs", &["backup"], 4000, 1300)),
        Storage { active: false, ..shared(local("archive", "nfs", &["backup"], 16_000, 9000)) },
        Storage { enabled: false, ..local("old", "dir", &["images"], 100, 60) },
    ];
}

fn guests(now: i64) -> Vec<Guest> {
    let running = |guest: Guest| Guest { run: Run::Running(now - 3 * DAY - i64::from(guest.vmid)), ..guest };
    let zfs = |vmid: u32| format!("local-zfs:vm-{vmid}-disk-0");
    let snapshot = |name: &str, days: i64, parent: Option<&str>| Snapshot {
        name: name.into(),
        description: format!("{name}, made by hand"),
        time: now - days * DAY,
        vmstate: false,
        parent: parent.map(str::to_owned),
        state: None,
    };
    let ha = |follows| Some(Ha { state: "started".into(), group: Some("prod".into()), follows });
    vec![
        Guest {
            description: Some("Frontend — café 日本\nsecond line".into()),
            agent: true,
            pool: Some("prod".into()),
            ..running(Guest::vm(100, "web").size(4, 4096).disk("scsi0", &zfs(100), 32).tags(&["prod", "web"]))
        },
        Guest {
            lock: Some("backup".into()),
            ..Guest::vm(101, "db").size(8, 16_384).disk("scsi0", &zfs(101), 100).tags(&["prod"])
        },
        Guest { name: None, ..Guest::vm(102, "") },
        Guest {
            snapshots: vec![snapshot("base", 40, None), snapshot("before-upgrade", 9, Some("base"))],
            ..running(Guest::vm(103, "git").size(2, 2048).disk("scsi0", "vmstore:103/vm-103-disk-0.qcow2", 20))
        },
        Guest::vm(104, "no-such-storage").disk("scsi0", "ghost:104/vm-104-disk-0.qcow2", 8),
        Guest {
            agent: true,
            pending: vec![("memory".into(), json!("6144"))],
            ..Guest::vm(105, "docker").size(4, 4096).disk("scsi0", &zfs(105), 64).tags(&["prod"])
        },
        Guest {
            start_warnings: vec!["no physical CD-ROM available, ignoring".into()],
            config: vec![("ide2".into(), json!("cdrom,media=cdrom"))],
            ..Guest::vm(106, "warns-on-start").disk("scsi0", &zfs(106), 8)
        },
        Guest { run: Run::Paused(now - DAY), ..Guest::vm(107, "paused").size(2, 2048).disk("scsi0", &zfs(107), 16) },
        Guest { protection: true, ..Guest::vm(108, "protected").disk("scsi0", &zfs(108), 16) },
        Guest { ha: ha(Follows::After(4)), ..running(Guest::vm(109, "mail").on("pve2").disk("scsi0", &zfs(109), 24)) },
        Guest::vm(110, "raw-disk").on("pve2").disk("scsi0", "vmstore:110/vm-110-disk-0.raw", 16),
        Guest {
            on_shutdown: OnShutdown::Ignores,
            ..running(Guest::vm(111, "no-acpi").on("pve2").disk("scsi0", &zfs(111), 16))
        },
        Guest { template: true, ..Guest::vm(9000, "debian-template").disk("scsi0", "local-zfs:base-9000-disk-0", 8) },
        running(Guest::container(200, "dns").size(1, 512).disk("rootfs", &zfs(200), 8).tags(&["infra"])),
        Guest { template: true, ..Guest::container(201, "ct-template").disk("rootfs", "local-zfs:base-201-disk-0", 4) },
        Guest::container(202, "wiki").on("pve2").size(2, 1024).disk("rootfs", &zfs(202), 16),
        Guest {
            disks: vec![Disk { key: "rootfs".into(), volume: "vmstore:203/vm-203-disk-0.raw".into(), size: 4 * GIB }],
            ..Guest::container(203, "ct-raw").on("pve2")
        },
        running(Guest::vm(300, "nvr").on("pve3").size(4, 8192).disk("scsi0", &zfs(300), 200)),
        Guest {
            ha: ha(Follows::Never),
            ..Guest::vm(301, "ha-that-never-moves").on("pve3").disk("scsi0", &zfs(301), 16)
        },
        running(Guest::container(302, "proxy").on("pve3").disk("rootfs", &zfs(302), 8)),
    ]
}

fn backups(now: i64) -> Vec<Backup> {
    let backup = |storage: &str, kind: Kind, vmid: u32, days: i64, gib: u64| Backup {
        storage: storage.into(),
        node: None,
        kind,
        vmid,
        time: now - days * DAY,
        size: gib * GIB,
        notes: None,
        protected: false,
        verification: None,
        encrypted: None,
    };
    vec![
        Backup { notes: Some("web\nweekly".into()), ..backup("nas", Kind::Vm, 100, 8, 12) },
        Backup { notes: Some("web".into()), ..backup("nas", Kind::Vm, 100, 1, 12) },
        backup("nas", Kind::Container, 200, 1, 1),
        backup("nas", Kind::Vm, 105, 3, 21),
        Backup { verification: Some("ok"), ..backup("pbs", Kind::Vm, 105, 2, 22) },
        Backup {
            verification: Some("failed"),
            encrypted: Some("7f:3a:0c:55:91:de:20:4b".into()),
            ..backup("pbs", Kind::Vm, 105, 9, 22)
        },
        Backup { protected: true, notes: Some("keep".into()), ..backup("pbs", Kind::Vm, 101, 30, 80) },
        // Of a guest that is gone.
        backup("nas", Kind::Vm, 666, 200, 5),
        Backup { node: Some("pve2".into()), ..backup("local", Kind::Container, 202, 60, 2) },
    ]
}
