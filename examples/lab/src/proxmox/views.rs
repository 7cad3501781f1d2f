//! The state as JSON, in the shapes of each version.

use super::cluster::Cluster;
use super::model::{Backup, Guest, Kind, Node, NodeState, Run, Storage};
use super::profile::Profile;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

type Row = Map<String, Value>;

const DAY: i64 = 86_400;

fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

fn put(row: &mut Row, key: &str, value: impl Into<Value>) {
    row.insert(key.to_owned(), value.into());
}

fn put_some(row: &mut Row, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        row.insert(key.to_owned(), value.into());
    }
}

/// 40 hex digits that change with the text.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// What a running guest uses: steady, but not the same for each.
struct Load {
    uptime: i64,
    cpu: Value,
    memory: u64,
    disk: u64,
    traffic: u64,
}

impl Load {
    fn of(guest: &Guest, now: i64) -> Self {
        let Some(since) = guest.run.since() else {
            return Self { uptime: 0, cpu: json!(0), memory: 0, disk: 0, traffic: 0 };
        };
        let share = u64::from(guest.vmid % 7 + 1);
        let uptime = (now - since).max(0);
        // An idle guest, and any guest on its first sample, is a whole 0.
        let idle = guest.vmid.is_multiple_of(5) || uptime == 0 || matches!(guest.run, Run::Paused(_));
        let cpu = if idle { json!(0) } else { json!(0.0137 * f64::from(guest.vmid % 7 + 1)) };
        let size: u64 = guest.disks.iter().map(|disk| disk.size).sum();
        Self {
            uptime,
            cpu,
            memory: (guest.memory << 20) / 10 * share,
            disk: if guest.kind == Kind::Container { size / 10 * share } else { 0 },
            traffic: uptime.unsigned_abs().saturating_mul(1000 * share),
        }
    }
}

fn boot_disk_size(guest: &Guest) -> u64 {
    guest.disks.first().map_or(0, |disk| disk.size)
}

/// `status` in lists over the cluster: for a VM what QEMU says.
fn published_status(guest: &Guest) -> &'static str {
    match guest.run {
        Run::Stopped => "stopped",
        Run::Running(_) => "running",
        Run::Paused(_) => "paused",
    }
}

/// Another one after each start.
fn process(guest: &Guest) -> u32 {
    let since = guest.run.since().unwrap_or_default().rem_euclid(1_000_000);
    20_000 + guest.vmid + u32::try_from(since).unwrap_or_default()
}

impl Cluster {
    /// A row of `/cluster/resources`.
    pub(crate) fn guest_resource(&self, guest: &Guest, now: i64) -> Value {
        let mut row = row(json!({
            "id": guest.id(), "vmid": guest.vmid, "node": guest.node, "type": guest.kind.name(),
        }));
        put_some(&mut row, "pool", guest.pool.clone());
        put_some(&mut row, "hastate", guest.ha.as_ref().map(|ha| ha.state.clone()));
        // What a node has not told (yet) is not known: neither state nor name.
        if self.node(&guest.node).is_none_or(|node| node.state != NodeState::Online) {
            put(&mut row, "status", "unknown");
            return Value::Object(row);
        }
        let load = Load::of(guest, now);
        put(&mut row, "status", published_status(guest));
        put(&mut row, "name", guest.shown_name());
        put(&mut row, "template", u8::from(guest.template));
        put(&mut row, "uptime", load.uptime);
        put(&mut row, "cpu", load.cpu);
        put(&mut row, "maxcpu", guest.cores);
        put(&mut row, "mem", load.memory);
        put(&mut row, "maxmem", guest.memory << 20);
        put(&mut row, "disk", load.disk);
        put(&mut row, "maxdisk", boot_disk_size(guest));
        for counter in ["netin", "netout", "diskread", "diskwrite"] {
            put(&mut row, counter, load.traffic);
        }
        put_some(&mut row, "lock", guest.lock.clone());
        if !guest.tags.is_empty() {
            put(&mut row, "tags", guest.tags.join(";"));
        }
        if self.profile >= Profile::V9_0 && guest.kind == Kind::Vm && guest.is_running() {
            put(&mut row, "memhost", load.memory + (64 << 20));
        }
        Value::Object(row)
    }

    /// A row of `/nodes/{node}/qemu` or `lxc`.
    pub(crate) fn guest_row(&self, guest: &Guest, full: bool, now: i64) -> Row {
        let load = Load::of(guest, now);
        let mut row = row(json!({
            "name": guest.shown_name(),
            "status": if guest.is_running() { "running" } else { "stopped" },
            "uptime": load.uptime, "cpu": load.cpu, "mem": load.memory, "maxmem": guest.memory << 20,
            "disk": load.disk, "maxdisk": boot_disk_size(guest), "netin": load.traffic, "netout": load.traffic,
        }));
        let old = self.profile == Profile::V7_4;
        // 7.x took these from file names and command lines, as text.
        let text_if_old = |number: u32| if old { json!(number.to_string()) } else { json!(number) };
        let vmid = if guest.kind == Kind::Container { text_if_old(guest.vmid) } else { json!(guest.vmid) };
        put(&mut row, "vmid", vmid);
        put(&mut row, "cpus", if guest.kind == Kind::Vm { text_if_old(guest.cores) } else { json!(guest.cores) });
        if guest.is_running() {
            put(&mut row, "pid", text_if_old(process(guest)));
        }
        match guest.kind {
            Kind::Vm if full => {
                put(&mut row, "qmpstatus", published_status(guest));
                if guest.is_running() {
                    put(&mut row, "diskread", load.traffic);
                    put(&mut row, "diskwrite", load.traffic);
                }
            }
            Kind::Vm => {}
            Kind::Container => {
                put(&mut row, "type", "lxc");
                put(&mut row, "swap", 0);
                put(&mut row, "maxswap", 512u64 << 20);
                put(&mut row, "diskread", load.traffic);
                put(&mut row, "diskwrite", load.traffic);
            }
        }
        if guest.template {
            put(&mut row, "template", 1);
        }
        put_some(&mut row, "lock", guest.lock.clone());
        if !guest.tags.is_empty() || (old && guest.kind == Kind::Container) {
            put(&mut row, "tags", guest.tags.join(";"));
        }
        row
    }

    /// `/nodes/{node}/{qemu,lxc}/{vmid}/status/current`
    pub(crate) fn current(&self, guest: &Guest, now: i64) -> Value {
        let mut row = self.guest_row(guest, true, now);
        put(&mut row, "ha", self.ha_of(guest));
        if guest.kind == Kind::Vm {
            if guest.agent {
                put(&mut row, "agent", 1);
            }
            if self.profile >= Profile::V8_4 {
                put(&mut row, "clipboard", Value::Null);
            }
            if guest.is_running() {
                let memory = guest.memory << 20;
                put(&mut row, "balloon", memory);
                put(&mut row, "ballooninfo", json!({"max_mem": memory, "actual": memory, "last_update": now}));
                put(&mut row, "running-qemu", "10.1.2");
                put(&mut row, "proxmox-support", json!({"pbs-library-version": "1.5.2"}));
                let nic = json!({"netin": 1000, "netout": 2000});
                put(&mut row, "nics", json!({ format!("tap{}i0", guest.vmid): nic }));
                put(&mut row, "blockstat", json!({}));
            }
        }
        if self.profile >= Profile::V9_0 && guest.is_running() {
            if guest.kind == Kind::Vm {
                let used = row.get("mem").and_then(Value::as_u64).unwrap_or_default();
                put(&mut row, "memhost", used + (64 << 20));
            }
            for key in ["cpusome", "cpufull", "iosome", "iofull", "memorysome", "memoryfull"] {
                put(&mut row, &format!("pressure{key}"), 0);
            }
        }
        Value::Object(row)
    }

    fn ha_of(&self, guest: &Guest) -> Value {
        let Some(ha) = &guest.ha else { return json!({"managed": 0}) };
        let mut row = row(json!({"managed": 1, "state": ha.state}));
        if self.profile < Profile::V9_0 {
            put(&mut row, "group", ha.group.clone());
        }
        Value::Object(row)
    }

    /// `/nodes/{node}/{qemu,lxc}/{vmid}/config`
    pub(crate) fn config(&self, guest: &Guest, applied_only: bool) -> Value {
        let mut row = Row::new();
        // 8.x stored options for `memory`, which made it text.
        let text = guest.kind == Kind::Vm && self.profile >= Profile::V8_4;
        put(&mut row, "memory", if text { json!(guest.memory.to_string()) } else { json!(guest.memory) });
        put(&mut row, "cores", guest.cores);
        let name_key = if guest.kind == Kind::Vm { "name" } else { "hostname" };
        put_some(&mut row, name_key, guest.name.clone());
        for disk in &guest.disks {
            put(&mut row, &disk.key, format!("{},size={}G", disk.volume, disk.size >> 30));
        }
        match guest.kind {
            Kind::Vm => {
                put(&mut row, "ostype", "l26");
                put(&mut row, "smbios1", format!("uuid=6f6b6a0e-0d8e-4a2f-9c0a-{:012x}", guest.vmid));
                put(&mut row, "net0", format!("virtio=BC:24:11:00:00:{:02X},bridge=vmbr0", guest.vmid % 256));
                if let Some(disk) = guest.disks.first() {
                    put(&mut row, "boot", format!("order={}", disk.key));
                    put(&mut row, "scsihw", "virtio-scsi-single");
                }
                if guest.agent {
                    put(&mut row, "agent", "1");
                }
            }
            Kind::Container => {
                put(&mut row, "arch", "amd64");
                put(&mut row, "ostype", "debian");
                put(&mut row, "swap", 512);
                put(&mut row, "unprivileged", 1);
                let address = format!("BC:24:11:00:01:{:02X}", guest.vmid % 256);
                put(&mut row, "net0", format!("name=eth0,bridge=vmbr0,hwaddr={address},ip=dhcp,type=veth"));
            }
        }
        let end = if guest.kind == Kind::Container { "\n" } else { "" };
        put_some(&mut row, "description", guest.description.as_ref().map(|text| format!("{text}{end}")));
        put_some(&mut row, "lock", guest.lock.clone());
        if !guest.tags.is_empty() {
            put(&mut row, "tags", guest.tags.join(";"));
        }
        if guest.template {
            put(&mut row, "template", 1);
        }
        if guest.protection {
            put(&mut row, "protection", 1);
        }
        put_some(&mut row, "parent", guest.snapshots.last().map(|snapshot| snapshot.name.clone()));
        for (key, value) in &guest.config {
            put(&mut row, key, value.clone());
        }
        let digest = digest(&Value::Object(row.clone()).to_string());
        if !applied_only {
            for (key, value) in &guest.pending {
                put(&mut row, key, value.clone());
            }
        }
        put(&mut row, "digest", digest);
        Value::Object(row)
    }

    /// `/nodes/{node}/{qemu,lxc}/{vmid}/snapshot`: ends with an entry that is none.
    pub(crate) fn snapshots(&self, guest: &Guest) -> Value {
        let mut rows: Vec<Value> = guest
            .snapshots
            .iter()
            .map(|snapshot| {
                let end = if guest.kind == Kind::Container && !snapshot.description.is_empty() { "\n" } else { "" };
                let mut row = row(json!({
                    "name": snapshot.name,
                    "description": format!("{}{end}", snapshot.description),
                    "snaptime": snapshot.time,
                }));
                if guest.kind == Kind::Vm {
                    put(&mut row, "vmstate", u8::from(snapshot.vmstate));
                }
                put_some(&mut row, "parent", snapshot.parent.clone());
                put_some(&mut row, "snapstate", snapshot.state.clone());
                Value::Object(row)
            })
            .collect();
        let mut current = row(json!({
            "name": "current",
            "description": "You are here!",
            "running": u8::from(guest.is_running()),
            "digest": digest(&self.config(guest, true).to_string()),
        }));
        put_some(&mut current, "parent", guest.snapshots.last().map(|snapshot| snapshot.name.clone()));
        rows.push(Value::Object(current));
        Value::Array(rows)
    }

    /// A row of `/nodes`, and of `/cluster/resources` without the fingerprint.
    pub(crate) fn node_row(&self, node: &Node, audited: bool, of_resources: bool, now: i64) -> Value {
        let status = match node.state {
            NodeState::Online => "online",
            NodeState::Booting => "unknown",
            NodeState::Offline(_) => "offline",
        };
        let mut row = row(json!({
            "id": format!("node/{}", node.name), "node": node.name, "type": "node", "status": status,
        }));
        if !of_resources {
            put(&mut row, "ssl_fingerprint", fingerprint(&node.name));
        }
        if node.state != NodeState::Online {
            return Value::Object(row);
        }
        put(&mut row, "level", "");
        if of_resources && self.profile >= Profile::V8_4 {
            put(&mut row, "cgroup-mode", 2);
        }
        if of_resources && self.profile >= Profile::V9_2 {
            put(&mut row, "host-arch", "x86_64");
        }
        if of_resources && self.profile >= Profile::V9_0 && self.guests.values().any(|guest| guest.ha.is_some()) {
            put(&mut row, "hastate", "online");
        }
        if audited {
            put(&mut row, "cpu", 0.0731 + f64::from(node.cpus) / 1000.0);
            put(&mut row, "maxcpu", node.cpus);
            put(&mut row, "mem", self.memory_used(node, now));
            put(&mut row, "maxmem", node.memory);
            put(&mut row, "disk", node.disk / 5);
            put(&mut row, "maxdisk", node.disk);
            put(&mut row, "uptime", self.uptime(now));
        }
        Value::Object(row)
    }

    fn memory_used(&self, node: &Node, now: i64) -> u64 {
        let guests = self.guests.values().filter(|guest| guest.node == node.name);
        (2u64 << 30) + guests.map(|guest| Load::of(guest, now).memory).sum::<u64>()
    }

    fn uptime(&self, now: i64) -> i64 {
        now - self.began_at + 14 * DAY
    }

    /// `/nodes/{node}/status`
    pub(crate) fn node_status(&self, node: &Node, now: i64) -> Value {
        let used = self.memory_used(node, now);
        let free = node.memory.saturating_sub(used);
        let mut memory = row(json!({"total": node.memory, "used": used, "free": free}));
        if self.profile >= Profile::V9_0 {
            put(&mut memory, "available", free + (1 << 30));
        }
        let kernel = self.profile.kernel();
        let mut row = row(json!({
            "uptime": self.uptime(now), "cpu": 0.0731 + f64::from(node.cpus) / 1000.0, "wait": 0, "idle": 0,
            "loadavg": ["0.42", "0.37", "0.31"],
            "memory": memory,
            "swap": {"total": 8u64 << 30, "used": 0, "free": 8u64 << 30},
            "rootfs": {"total": node.disk, "used": node.disk / 5, "avail": node.disk / 4 * 3, "free": node.disk / 5 * 4},
            "ksm": {"shared": 0},
            "cpuinfo": {
                "model": "AMD Ryzen 7 5700U with Radeon Graphics", "cpus": node.cpus, "cores": node.cpus / 2,
                "sockets": 1, "mhz": "1800.000", "user_hz": 100, "hvm": "1", "flags": "fpu vme de pse tsc msr",
            },
            "kversion": format!("Linux {kernel} #1 SMP PREEMPT_DYNAMIC"),
            "pveversion": format!("pve-manager/{}/{}", self.profile.version(), self.profile.repoid()),
        }));
        if self.profile >= Profile::V8_4 {
            let version = "#1 SMP PREEMPT_DYNAMIC";
            let current = json!({"sysname": "Linux", "release": kernel, "version": version, "machine": "x86_64"});
            put(&mut row, "current-kernel", current);
            put(&mut row, "boot-info", json!({"mode": "efi", "secureboot": 0}));
        }
        Value::Object(row)
    }

    /// `/cluster/status`, as the member `local` sees it.
    pub(crate) fn status(&self, local: &str) -> Value {
        let mut rows = Vec::new();
        if let Some(name) = &self.name {
            rows.push(json!({
                "type": "cluster", "id": "cluster", "name": name, "nodes": self.nodes.len(),
                "version": self.nodes.len(), "quorate": u8::from(self.quorate),
            }));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let online = !matches!(node.state, NodeState::Offline(_));
            let mut row = row(json!({
                "type": "node", "id": format!("node/{}", node.name), "name": node.name, "level": "",
                "nodeid": if self.name.is_some() { index + 1 } else { 0 },
                "local": u8::from(node.name == local), "online": u8::from(online),
            }));
            if online {
                put(&mut row, "ip", format!("192.0.2.{}", index + 11));
            }
            rows.push(Value::Object(row));
        }
        Value::Array(rows)
    }

    /// `/cluster/ha/status/current`, as the member `local` sees it.
    pub(crate) fn ha_status(&self, local: &str, now: i64) -> Value {
        let status = if self.quorate { "OK".to_owned() } else { format!("No quorum on node '{local}'!") };
        let quorate = u8::from(self.quorate);
        let mut rows =
            vec![json!({"type": "quorum", "id": "quorum", "node": local, "quorate": quorate, "status": status})];
        let managed: Vec<&Guest> = self.guests.values().filter(|guest| guest.ha.is_some()).collect();
        if !managed.is_empty() {
            rows.push(json!({
                "type": "master", "id": "master", "node": local, "timestamp": now,
                "status": format!("{local} (active, {})", Timestamp::from_second(now).unwrap_or_default()),
            }));
        }
        for guest in managed {
            let Some(ha) = &guest.ha else { continue };
            let sid = ha_sid(guest);
            rows.push(json!({
                "type": "service", "id": format!("service:{sid}"), "sid": sid, "node": guest.node,
                "state": ha.state, "request_state": ha.state, "max_restart": 1, "max_relocate": 1,
                "status": format!("{sid} ({}, {})", guest.node, ha.state),
            }));
        }
        Value::Array(rows)
    }

    /// `/cluster/ha/resources`
    pub(crate) fn ha_resources(&self) -> Value {
        let managed = self.guests.values().filter_map(|guest| guest.ha.as_ref().map(|ha| (guest, ha)));
        let rows = managed.map(|(guest, ha)| {
            let kind = if guest.kind == Kind::Vm { "vm" } else { "ct" };
            json!({"sid": ha_sid(guest), "type": kind, "state": ha.state, "digest": digest(&ha_sid(guest))})
        });
        Value::Array(rows.collect())
    }

    /// A row of `/cluster/resources`.
    pub(crate) fn storage_resource(&self, storage: &Storage, node: &Node) -> Value {
        let reachable = storage.active && node.state == NodeState::Online;
        let mut row = row(json!({
            "id": format!("storage/{}/{}", node.name, storage.name), "type": "storage", "node": node.name,
            "storage": storage.name, "plugintype": storage.plugin, "shared": u8::from(storage.shared),
            "content": storage.content.join(","), "status": if reachable { "available" } else { "unknown" },
        }));
        if reachable {
            put(&mut row, "disk", storage.used);
            put(&mut row, "maxdisk", storage.total);
        }
        Value::Object(row)
    }

    /// A row of `/nodes/{node}/storage`; `…/storage/{storage}/status` is the same without `storage`.
    pub(crate) fn storage_row(&self, storage: &Storage, named: bool) -> Value {
        let usable = storage.active && storage.enabled;
        let size = |bytes: u64| if usable { bytes } else { 0 };
        let mut row = row(json!({
            "type": storage.plugin, "content": storage.content.join(","),
            "active": u8::from(usable), "enabled": u8::from(storage.enabled), "shared": u8::from(storage.shared),
            "total": size(storage.total), "used": size(storage.used),
            "avail": size(storage.total.saturating_sub(storage.used)),
        }));
        if named {
            put(&mut row, "storage", storage.name.clone());
            if usable && storage.total > 0 {
                #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
                let share = storage.used as f64 / storage.total as f64;
                put(&mut row, "used_fraction", share);
            }
        }
        Value::Object(row)
    }
}

fn ha_sid(guest: &Guest) -> String {
    format!("{}:{}", if guest.kind == Kind::Vm { "vm" } else { "ct" }, guest.vmid)
}

/// Made up from the name: no server of the lab is asked for its own.
fn fingerprint(node: &str) -> String {
    let bytes: Vec<String> = Sha256::digest(node).iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

impl Backup {
    /// As `…/content` lists it.
    pub(crate) fn row(&self, plugin: &str) -> Value {
        let on_server = plugin == "pbs";
        let time = Timestamp::from_second(self.time).unwrap_or_default();
        let (kind, subtype) = if self.kind == Kind::Vm { ("vm", "qemu") } else { ("ct", "lxc") };
        let (volume, format) = if on_server {
            (format!("backup/{kind}/{}/{}", self.vmid, time.strftime("%Y-%m-%dT%H:%M:%SZ")), format!("pbs-{kind}"))
        } else {
            let ending = if self.kind == Kind::Vm { "vma.zst" } else { "tar.zst" };
            let name = time.strftime("%Y_%m_%d-%H_%M_%S");
            (format!("backup/vzdump-{subtype}-{}-{name}.{ending}", self.vmid), ending.to_owned())
        };
        let mut row = row(json!({
            "volid": format!("{}:{volume}", self.storage), "content": "backup", "format": format,
            "subtype": subtype, "size": self.size, "ctime": self.time, "vmid": self.vmid,
        }));
        put_some(&mut row, "notes", self.notes.as_deref().and_then(|notes| notes.lines().next()).map(str::to_owned));
        if self.protected {
            put(&mut row, "protected", 1);
        }
        if on_server {
            let upid = "UPID:pbs:000003A1:0000C2B5:00000000:67401A00:verify:store:root@pam:";
            put_some(&mut row, "verification", self.verification.map(|state| json!({"state": state, "upid": upid})));
            put_some(&mut row, "encrypted", self.encrypted.clone());
        }
        Value::Object(row)
    }
}
