//! What Proxmox VE says, in our types. Read leniently: numbers come as numbers or strings, flags as 0/1, "1", "" or
//! true, and what a version or a missing privilege leaves out is `None`, never a zero as if measured.
//!
//! Names that go into a URL again are types of their own, checked by the vendor's rule: its server decodes `%2f` before
//! it routes, so encoding alone protects nothing.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A member as text; numbers become text, an empty one counts as absent.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) => Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A member as a number.
pub(super) fn number(value: &Value, name: &str) -> Option<f64> {
    match value.get(name)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// A member as a whole number that is not negative.
pub(super) fn whole(value: &Value, name: &str) -> Option<u64> {
    match value.get(name)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(exact) if exact.is_u64() => exact.as_u64(),
        _ => number(value, name).filter(|number| *number >= 0.0).map(|number| number as u64),
    }
}

/// A member as yes or no.
pub(super) fn flag(value: &Value, name: &str) -> Option<bool> {
    match value.get(name)? {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => match text.trim() {
            "1" | "true" | "yes" | "on" => Some(true),
            "" | "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The rows of a list; `None` when it is none.
pub(super) fn rows(value: &Value) -> Option<&[Value]> {
    value.as_array().map(Vec::as_slice)
}

/// A share as percent with two decimals.
pub(super) fn percent(part: f64, of: f64) -> Option<f64> {
    (of > 0.0 && part.is_finite()).then(|| (part / of * 10_000.0).round() / 100.0)
}

/// `3d 4h`, `4h 5m`, `5m`.
pub(super) fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, hours) => format!("{hours}h {minutes}m"),
        (days, hours) => format!("{days}d {hours}h"),
    }
}

/// A node's name by the vendor's rule: letters, digits and inner dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub(super) struct Node(String);

impl Node {
    pub(super) fn new(name: &str) -> Option<Self> {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let fine = name.len() <= 63
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && edge(name.chars().next())
            && edge(name.chars().last());
        fine.then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A storage's name by the vendor's rule: begins with a letter, ends with a letter or digit, dashes, dots and underscores
/// between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub(super) struct StorageId(String);

impl StorageId {
    pub(super) fn new(name: &str) -> Option<Self> {
        let fine = (2..=100).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric());
        fine.then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// What a guest is. (No doc comment: it would stand in every schema.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum GuestType {
    Qemu,
    Lxc,
}

impl GuestType {
    pub(super) fn new(word: &str) -> Option<Self> {
        match word {
            "qemu" => Some(Self::Qemu),
            "lxc" => Some(Self::Lxc),
            _ => None,
        }
    }

    /// The vendor's word, in paths and results.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    /// As the vendor calls one in sentences.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Qemu => "VM",
            Self::Lxc => "CT",
        }
    }
}

/// Where a guest is: what every request about it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) vmid: u32,
    pub(super) node: Node,
    pub(super) kind: GuestType,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.noun(), self.vmid)
    }
}

/// What is measured of a guest, a node or the like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Use {
    /// 0 to 1, of all its CPUs.
    pub(super) cpu: Option<f64>,
    pub(super) cpus: Option<f64>,
    pub(super) memory: Option<u64>,
    pub(super) memory_max: Option<u64>,
    pub(super) disk: Option<u64>,
    pub(super) disk_max: Option<u64>,
    /// Seconds.
    pub(super) uptime: Option<u64>,
}

impl Use {
    fn read(row: &Value) -> Self {
        Self {
            cpu: number(row, "cpu"),
            cpus: number(row, "maxcpu").or_else(|| number(row, "cpus")),
            memory: whole(row, "mem"),
            memory_max: whole(row, "maxmem"),
            disk: whole(row, "disk"),
            disk_max: whole(row, "maxdisk"),
            uptime: whole(row, "uptime"),
        }
    }

    pub(super) fn cpu_percent(&self) -> Option<f64> {
        percent(self.cpu?, 1.0)
    }

    pub(super) fn memory_percent(&self) -> Option<f64> {
        percent(self.memory? as f64, self.memory_max? as f64)
    }
}

/// A guest as the cluster's list shows it: up to ten seconds old. Of one on a node that is off, and of one just made,
/// little more than the id is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Guest {
    pub(super) at: At,
    pub(super) name: Option<String>,
    /// `running`, `stopped`, `paused` and qemu's other words; `unknown`.
    pub(super) status: String,
    pub(super) template: bool,
    pub(super) used: Use,
    pub(super) lock: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) pool: Option<String>,
    pub(super) ha_state: Option<String>,
}

impl Guest {
    fn read(row: &Value) -> Option<Self> {
        Some(Self {
            at: At {
                vmid: u32::try_from(whole(row, "vmid")?).ok()?,
                node: Node::new(&text(row, "node")?)?,
                kind: GuestType::new(row.get("type")?.as_str()?)?,
            },
            name: text(row, "name"),
            status: text(row, "status").unwrap_or_else(|| "unknown".to_owned()),
            template: flag(row, "template").unwrap_or(false),
            used: Use::read(row),
            lock: text(row, "lock"),
            tags: tags(row),
            pool: text(row, "pool"),
            ha_state: text(row, "hastate"),
        })
    }
}

/// Tags are separated by semicolons; older versions wrote commas and spaces too.
fn tags(row: &Value) -> Vec<String> {
    let tags = text(row, "tags").unwrap_or_default();
    tags.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) node: Node,
    /// `online`, `offline` or `unknown`.
    pub(super) status: String,
    pub(super) used: Use,
    pub(super) ha_state: Option<String>,
}

impl Member {
    fn read(row: &Value) -> Option<Self> {
        Some(Self {
            node: Node::new(&text(row, "node")?)?,
            status: text(row, "status").unwrap_or_else(|| "unknown".to_owned()),
            used: Use::read(row),
            ha_state: text(row, "hastate"),
        })
    }

    pub(super) fn is_online(&self) -> bool {
        self.status == "online"
    }
}

/// A storage as one node sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub(super) storage: StorageId,
    pub(super) node: Node,
    /// The plugin: `dir`, `nfs`, `zfspool`, `pbs`, …
    pub(super) kind: Option<String>,
    pub(super) content: Vec<String>,
    /// `available` or `unknown`.
    pub(super) status: String,
    pub(super) shared: bool,
    pub(super) used: Option<u64>,
    pub(super) total: Option<u64>,
}

impl Storage {
    fn read(row: &Value) -> Option<Self> {
        let content = text(row, "content").unwrap_or_default();
        let mut content: Vec<_> =
            content.split(',').map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
        content.sort();
        Some(Self {
            storage: StorageId::new(&text(row, "storage")?)?,
            node: Node::new(&text(row, "node")?)?,
            kind: text(row, "plugintype"),
            content,
            status: text(row, "status").unwrap_or_else(|| "unknown".to_owned()),
            shared: flag(row, "shared").unwrap_or(false),
            used: whole(row, "disk"),
            total: whole(row, "maxdisk").filter(|total| *total > 0),
        })
    }

    pub(super) fn is_available(&self) -> bool {
        self.status == "available"
    }

    pub(super) fn used_percent(&self) -> Option<f64> {
        percent(self.used? as f64, self.total? as f64)
    }
}

/// The cluster's one list, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Resources {
    pub(super) guests: Vec<Guest>,
    pub(super) nodes: Vec<Member>,
    pub(super) storages: Vec<Storage>,
}

impl Resources {
    /// `None` when it is no list. Kinds that are not known here (pools, networks) are left out.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut all = Self::default();
        for row in rows(value)? {
            match row.get("type").and_then(Value::as_str) {
                Some("qemu" | "lxc") => all.guests.extend(Guest::read(row)),
                Some("node") => all.nodes.extend(Member::read(row)),
                Some("storage") => all.storages.extend(Storage::read(row)),
                _ => {}
            }
        }
        all.guests.sort_by_key(|guest| guest.at.vmid);
        all.nodes.sort_by(|a, b| a.node.cmp(&b.node));
        all.storages.sort_by(|a, b| (&a.storage, &a.node).cmp(&(&b.storage, &b.node)));
        Some(all)
    }

    pub(super) fn offline(&self) -> Vec<&Node> {
        self.nodes.iter().filter(|node| !node.is_online()).map(|node| &node.node).collect()
    }
}

/// The cluster, as `cluster/status` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    /// `None` for a host that is in no cluster.
    pub(super) name: Option<String>,
    pub(super) quorate: Option<bool>,
}

impl Cluster {
    pub(super) fn read(value: &Value) -> Option<Self> {
        let cluster = rows(value)?.iter().find(|row| row.get("type").and_then(Value::as_str) == Some("cluster"));
        Some(cluster.map_or_else(Self::default, |row| Self { name: text(row, "name"), quorate: flag(row, "quorate") }))
    }
}

/// A guest as its node sees it now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Current {
    pub(super) name: Option<String>,
    /// `running` or `stopped`; a paused VM is `running` here.
    pub(super) status: String,
    /// qemu's own word.
    pub(super) qmp: Option<String>,
    pub(super) used: Use,
    pub(super) pid: Option<u64>,
    pub(super) template: bool,
    pub(super) lock: Option<String>,
    pub(super) tags: Vec<String>,
    /// The guest agent is switched on in the configuration; whether it runs is another matter.
    pub(super) agent: bool,
    pub(super) ha_managed: bool,
    pub(super) ha_state: Option<String>,
}

impl Current {
    pub(super) fn read(value: &Value) -> Option<Self> {
        let ha = value.get("ha").unwrap_or(&Value::Null);
        Some(Self {
            name: text(value, "name"),
            status: text(value, "status")?,
            qmp: text(value, "qmpstatus"),
            used: Use::read(value),
            pid: whole(value, "pid"),
            template: flag(value, "template").unwrap_or(false),
            lock: text(value, "lock"),
            tags: tags(value),
            agent: flag(value, "agent").unwrap_or(false),
            // One that is ignored is left to whoever acts, past the HA stack.
            ha_managed: flag(ha, "managed").unwrap_or(false) && text(ha, "state").as_deref() != Some("ignored"),
            ha_state: text(ha, "state"),
        })
    }

    /// The state in one word: qemu's where it has one.
    pub(super) fn state(&self) -> &str {
        self.qmp.as_deref().unwrap_or(&self.status)
    }

    pub(super) fn is_running(&self) -> bool {
        self.status == "running"
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.status == "stopped"
    }

    /// Its process exists, but it computes nothing until it is resumed.
    pub(super) fn is_held(&self) -> bool {
        self.is_running() && matches!(self.state(), "paused" | "suspended" | "prelaunch")
    }
}

/// A snapshot of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) name: String,
    /// Unix seconds.
    pub(super) created: Option<i64>,
    pub(super) description: Option<String>,
    /// With the memory.
    pub(super) vmstate: Option<bool>,
    pub(super) parent: Option<String>,
    /// `prepare` or `delete` when that was not finished.
    pub(super) state: Option<String>,
}

impl Snapshot {
    /// Newest first, without the entry `current` that stands for the present.
    pub(super) fn list(value: &Value) -> Option<Vec<Self>> {
        let snapshots = rows(value)?.iter().filter_map(|row| {
            Some(Self {
                name: text(row, "name").filter(|name| name != "current")?,
                created: whole(row, "snaptime").filter(|at| *at > 0).and_then(|at| i64::try_from(at).ok()),
                description: text(row, "description"),
                vmstate: flag(row, "vmstate"),
                parent: text(row, "parent"),
                state: text(row, "snapstate"),
            })
        });
        let mut snapshots: Vec<_> = snapshots.collect();
        snapshots.sort_by(|a, b| (b.created, &a.name).cmp(&(a.created, &b.name)));
        Some(snapshots)
    }
}

/// A backup on a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backup {
    pub(super) volid: String,
    pub(super) vmid: Option<u32>,
    pub(super) kind: Option<GuestType>,
    /// Unix seconds.
    pub(super) created: Option<i64>,
    pub(super) size: Option<u64>,
    pub(super) format: Option<String>,
    pub(super) notes: Option<String>,
    pub(super) protected: bool,
    /// What a Proxmox Backup Server found when it last verified it: `ok`, `failed`.
    pub(super) verification: Option<String>,
    pub(super) encrypted: bool,
}

impl Backup {
    pub(super) fn list(value: &Value) -> Option<Vec<Self>> {
        let backups = rows(value)?.iter().filter_map(|row| {
            if row.get("content").and_then(Value::as_str).is_some_and(|content| content != "backup") {
                return None;
            }
            let volid = text(row, "volid")?;
            let (kind, named) = owner(&volid);
            Some(Self {
                vmid: whole(row, "vmid").and_then(|vmid| u32::try_from(vmid).ok()).or(named),
                kind: text(row, "subtype").as_deref().and_then(GuestType::new).or(kind),
                created: whole(row, "ctime").and_then(|at| i64::try_from(at).ok()),
                size: whole(row, "size"),
                format: text(row, "format"),
                notes: text(row, "notes"),
                protected: flag(row, "protected").unwrap_or(false),
                verification: row.get("verification").and_then(|found| text(found, "state")),
                encrypted: row
                    .get("encrypted")
                    .is_some_and(|by| !matches!(by, Value::Null) && by != "0" && by != 0 && by != ""),
                volid,
            })
        });
        Some(backups.collect())
    }
}

/// Whose backup a volume is, by its name: `store:backup/vzdump-qemu-100-…` or `pbs:backup/vm/100/…`.
fn owner(volid: &str) -> (Option<GuestType>, Option<u32>) {
    let path = volid.split_once(":backup/").map_or("", |(_, path)| path);
    let (kind, rest) = match path.split_once('/') {
        Some(("vm", rest)) => (Some(GuestType::Qemu), rest),
        Some(("ct", rest)) => (Some(GuestType::Lxc), rest),
        _ => match path.strip_prefix("vzdump-").and_then(|rest| rest.split_once('-')) {
            Some((kind, rest)) => (GuestType::new(kind).or((kind == "openvz").then_some(GuestType::Lxc)), rest),
            None => (None, ""),
        },
    };
    (kind, rest.split(['/', '-']).next().and_then(|vmid| vmid.parse().ok()))
}

/// Privileges of our token, as `access/permissions` has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Permissions(BTreeMap<String, BTreeMap<String, bool>>);

impl Permissions {
    pub(super) fn read(value: &Value) -> Option<Self> {
        let paths = value.as_object()?.iter().map(|(path, privileges)| {
            // The value says whether it holds below that path too.
            let names = privileges.as_object().into_iter().flat_map(Map::keys);
            let held = names.map(|name| (name.clone(), flag(privileges, name).unwrap_or(false)));
            (path.clone(), held.collect())
        });
        Some(Self(paths.collect()))
    }

    /// Whether a privilege is held on a path: by the path's own entry, else by the nearest above that passes it on.
    pub(super) fn has(&self, path: &str, privilege: &str) -> bool {
        if let Some(own) = self.0.get(path) {
            return own.contains_key(privilege);
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            above = parent;
            let entry = self.0.get(if parent.is_empty() { "/" } else { parent });
            if let Some(entry) = entry {
                return entry.get(privilege).copied().unwrap_or(false);
            }
        }
        false
    }

    /// The paths below (`/vms/105`) on which a privilege is held.
    pub(super) fn below(&self, path: &str, privilege: &str) -> Vec<&str> {
        let inside = |found: &str| found.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let held = self.0.iter().filter(|(found, own)| inside(found) && own.contains_key(privilege));
        held.map(|(found, _)| found.as_str()).collect()
    }
}

/// A guest's configuration: flat, but for a container's raw `lxc` lines.
pub(super) type Config = Map<String, Value>;

/// A disk, or something like one, in a guest's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// `scsi0`, `rootfs`, `unused0`, …
    pub(super) key: String,
    /// `storage:volume`.
    pub(super) volume: String,
    pub(super) size: Option<String>,
}

/// The disks that a guest owns, which are what goes with it. Media, directories of the host and volumes of other guests
/// stay.
pub(super) fn disks(config: &Config, vmid: u32) -> Vec<Disk> {
    const KEYS: [&str; 9] = ["ide", "sata", "scsi", "virtio", "efidisk", "tpmstate", "unused", "mp", "rootfs"];
    let is_disk = |key: &str| {
        let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
        KEYS.contains(&stem) && (stem == "rootfs" || stem.len() < key.len())
    };
    let mut disks: Vec<_> = config
        .iter()
        .filter(|(key, _)| is_disk(key))
        .filter_map(|(key, value)| {
            let value = value.as_str()?;
            let mut parts = value.split(',');
            let volume = parts.next()?;
            let volume = volume.strip_prefix("volume=").or_else(|| volume.strip_prefix("file=")).unwrap_or(volume);
            let (_, path) = volume.split_once(':').filter(|_| !volume.starts_with('/'))?;
            let is_medium = value.split(',').any(|part| part == "media=cdrom") && !path.contains("cloudinit");
            let owner = owner_of_volume(path);
            if is_medium || owner.is_some_and(|owner| owner != vmid) {
                return None;
            }
            let size = parts.find_map(|part| part.strip_prefix("size=")).map(str::to_owned);
            Some(Disk { key: key.clone(), volume: volume.to_owned(), size })
        })
        .collect();
    disks.sort_by(|a, b| a.key.cmp(&b.key));
    disks
}

/// `100/vm-100-disk-0.qcow2`, `vm-100-disk-0`, `base-9000-disk-0/vm-105-disk-0`, `subvol-200-disk-0` → the guest's id.
fn owner_of_volume(path: &str) -> Option<u32> {
    let name = path.rsplit('/').next()?;
    let mut words = name.split('-');
    matches!(words.next()?, "vm" | "base" | "subvol" | "basevol").then_some(())?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_flags_come_in_many_forms() {
        let row =
            json!({"a": "12", "b": 12, "c": null, "d": "", "e": 1.5, "f": "x", "g": true, "h": "1", "i": 0, "j": -1});
        let whole = |name| whole(&row, name);
        assert_eq!((whole("a"), whole("b"), whole("e")), (Some(12), Some(12), Some(1)));
        for name in ["c", "d", "f", "j", "none"] {
            assert_eq!(whole(name), None, "{name}");
        }
        let flag = |name| flag(&row, name);
        assert_eq!((flag("d"), flag("g"), flag("h"), flag("i")), (Some(false), Some(true), Some(true), Some(false)));
        assert_eq!((flag("c"), flag("f"), flag("none")), (None, None, None));
        assert_eq!((text(&row, "b"), text(&row, "d")), (Some("12".to_owned()), None));
        assert_eq!((number(&row, "e"), number(&row, "f")), (Some(1.5), None));
    }

    #[test]
    fn names_that_could_leave_their_place_in_a_url_are_none() {
        for name in ["pve", "pve-1", "9", "PVE2"] {
            assert!(Node::new(name).is_some(), "{name}");
        }
        for name in ["", "-a", "a-", "a/b", "a%2fqemu", "..", "a b", "pve?x", "ä", &"a".repeat(64)] {
            assert!(Node::new(name).is_none(), "{name}");
        }
        for name in ["local", "local-zfs", "nas_1.x", "b2"] {
            assert!(StorageId::new(name).is_some(), "{name}");
        }
        for name in ["", "x", "1a", "a/", "a-", "..", "a%2f1", "nas/../x"] {
            assert!(StorageId::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_list_keeps_what_is_unknown_absent() {
        let all = Resources::read(&json!([
            {"id": "lxc/202", "vmid": "202", "node": "pve3", "type": "lxc", "status": "unknown", "name": null},
            {"vmid": 100, "node": "pve1", "type": "qemu", "status": "running", "cpu": 0, "mem": 512, "maxmem": 1024,
             "uptime": 60, "tags": "prod;web", "template": 0, "lock": "backup"},
            {"vmid": 101, "node": "a/b", "type": "qemu"},
            {"node": "pve3", "type": "node", "status": "offline", "maxmem": 8},
            {"type": "storage", "storage": "nas", "node": "pve1", "status": "unknown", "shared": 1, "content": "iso,backup"},
            {"type": "sdn", "id": "sdn/x"}, {"type": "network"}, null,
        ]))
        .unwrap();
        let [web, far] = all.guests.as_slice() else { panic!("{:?}", all.guests) };
        assert_eq!((web.used.cpu_percent(), web.used.memory_percent()), (Some(0.0), Some(50.0)));
        assert_eq!(
            (web.tags.as_slice(), web.lock.as_deref()),
            (&["prod".to_owned(), "web".to_owned()][..], Some("backup"))
        );
        assert_eq!(
            (far.at.vmid, &far.name, far.used.cpu_percent(), far.used.memory_percent()),
            (202, &None, None, None)
        );
        assert_eq!(all.offline(), [&Node::new("pve3").unwrap()]);
        assert_eq!(
            (all.storages[0].used_percent(), all.storages[0].content.join(" ")),
            (None, "backup iso".to_owned())
        );
        assert!(Resources::read(&json!({})).is_none());
    }

    #[test]
    fn a_paused_guest_is_running_and_held() {
        let now = Current::read(
            &json!({"status": "running", "qmpstatus": "paused", "pid": "12", "ha": {"managed": 1, "state": null}}),
        );
        let now = now.unwrap();
        assert!(now.is_running() && now.is_held() && now.ha_managed && now.ha_state.is_none());
        assert_eq!((now.state(), now.pid), ("paused", Some(12)));
        let ct = Current::read(&json!({"status": "stopped", "type": "lxc", "ha": {"managed": "0"}})).unwrap();
        assert!(ct.is_stopped() && !ct.is_held() && !ct.ha_managed && ct.state() == "stopped");
        assert!(Current::read(&json!({})).is_none());
    }

    #[test]
    fn snapshots_are_newest_first_without_the_present() {
        let list = Snapshot::list(&json!([
            {"name": "base", "snaptime": 5, "description": ""},
            {"name": "broken", "snaptime": 0, "snapstate": "prepare"},
            {"name": "late", "snaptime": "9", "vmstate": 1, "parent": "base", "description": "a\n"},
            {"name": "current", "running": 1},
        ]));
        let list = list.unwrap();
        assert_eq!(list.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["late", "base", "broken"]);
        assert_eq!((list[0].vmstate, list[0].description.as_deref()), (Some(true), Some("a")));
        assert_eq!((list[2].created, list[2].state.as_deref()), (None, Some("prepare")));
    }

    #[test]
    fn a_backup_tells_whose_it_is_also_by_its_name() {
        let list = Backup::list(&json!([
            {"volid": "local:backup/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst", "content": "backup", "ctime": 7, "size": 9},
            {"volid": "pbs:backup/ct/200/2026-01-02T03:04:05Z", "vmid": 200, "verification": {"state": "ok"}, "protected": 1,
             "encrypted": "ab:cd"},
            {"volid": "local:iso/x.iso", "content": "iso"},
            {"volid": "nas:backup/odd.tar"},
        ]));
        let list = list.unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!((list[0].vmid, list[0].kind, list[0].encrypted), (Some(100), Some(GuestType::Qemu), false));
        assert_eq!(
            (list[1].vmid, list[1].kind, list[1].protected, list[1].encrypted),
            (Some(200), Some(GuestType::Lxc), true, true)
        );
        assert_eq!((list[2].vmid, list[2].kind), (None, None));
    }

    #[test]
    fn a_privilege_is_held_where_it_is_written_or_passed_down() {
        let held = Permissions::read(&json!({
            "/": {"Sys.Audit": 1, "VM.Audit": 0},
            "/vms": {"VM.PowerMgmt": 1},
            "/vms/105": {"VM.Snapshot": 0},
        }));
        let held = held.unwrap();
        assert!(held.has("/", "VM.Audit") && held.has("/nodes/pve", "Sys.Audit") && held.has("/vms/7", "VM.PowerMgmt"));
        assert!(held.has("/vms/105", "VM.Snapshot"));
        for (path, privilege) in [("/vms", "VM.Audit"), ("/vms/105", "VM.PowerMgmt"), ("/storage/x", "VM.Audit")] {
            assert!(!held.has(path, privilege), "{path} {privilege}");
        }
        assert_eq!(held.below("/vms", "VM.Snapshot"), ["/vms/105"]);
        assert!(!Permissions::read(&json!({})).unwrap().has("/vms", "VM.Audit"));
    }

    #[test]
    fn what_goes_with_a_guest_is_what_it_owns() {
        let Value::Object(config) = json!({
            "scsi0": "zfs:vm-105-disk-0,size=32G", "scsihw": "virtio-scsi-pci", "ide2": "local:iso/a.iso,media=cdrom",
            "ide0": "zfs:vm-105-cloudinit,media=cdrom", "ide3": "none,media=cdrom", "virtio1": "zfs:vm-106-disk-2",
            "unused0": "nas:105/vm-105-disk-1.qcow2", "efidisk0": "zfs:base-9-disk-0/vm-105-disk-3,size=1M",
            "mp0": "/mnt/data,mp=/data", "sata": "x", "memory": "512", "scsi1": "/dev/disk/by-id/x:y",
        }) else {
            panic!()
        };
        let found: Vec<_> = disks(&config, 105).into_iter().map(|disk| (disk.key, disk.size)).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            found,
            [
                ("efidisk0".to_owned(), some("1M")),
                ("ide0".to_owned(), None),
                ("scsi0".to_owned(), some("32G")),
                ("unused0".to_owned(), None),
            ]
        );
        let Value::Object(config) = json!({"rootfs": "vmstore:200/vm-200-disk-0.raw,size=64M", "mp1": "volume=zfs:subvol-200-disk-1,mp=/x,size=8G"})
        else {
            panic!()
        };
        assert_eq!(disks(&config, 200).len(), 2);
    }

    #[test]
    fn uptimes_read_as_the_earlier_server_wrote_them() {
        for (seconds, words) in [(0, "0m"), (59, "0m"), (3600, "1h 0m"), (7260, "2h 1m"), (90_000, "1d 1h")] {
            assert_eq!(uptime(seconds), words);
        }
    }
}
