//! Storage pools and the rows that `pool.query` and `boot.get_state` make of them.

use serde_json::{Map, Value, json};

use super::profile::{Pin, Profile};

/// How a pool is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All well.
    Online,
    /// ONLINE and healthy, and something needs attention all the same.
    Warning {
        /// `status_code`, as `FEAT_DISABLED`.
        code: &'static str,
        /// `status_detail`.
        detail: &'static str,
    },
    /// Any unhealthy status of an imported pool.
    Bad {
        /// `DEGRADED`, `FAULTED`, `SUSPENDED`, `UNAVAIL`, `REMOVED`.
        status: &'static str,
        /// `status_code`.
        code: &'static str,
        /// `status_detail`.
        detail: &'static str,
    },
    /// Known but not imported: OFFLINE, and everything else null.
    Exported,
}

/// The last or running scrub or resilver.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// `SCRUB` or `RESILVER`.
    pub function: &'static str,
    /// `SCANNING`, `FINISHED`, `CANCELED`, `NONE`.
    pub state: &'static str,
    /// How far, in percent.
    pub percentage: f64,
    /// Milliseconds since 1970.
    pub start: i64,
    /// Milliseconds since 1970; `None` while it runs.
    pub end: Option<i64>,
    /// Errors found.
    pub errors: u64,
    /// Seconds to go.
    pub seconds_left: Option<u64>,
}

/// A disk or a group of disks.
#[derive(Clone, Debug)]
pub struct Vdev {
    /// As `mirror-0` or a device path.
    pub name: String,
    /// `MIRROR`, `RAIDZ1`, `DISK`, …
    pub kind: &'static str,
    /// `ONLINE`, `DEGRADED`, `REMOVED`, `AVAIL` (a spare), …
    pub status: &'static str,
    /// Read, write and checksum errors.
    pub errors: [u64; 3],
    /// The kernel's name of the disk; `None` where it is not there.
    pub disk: Option<String>,
    /// Members.
    pub children: Vec<Self>,
}

impl Vdev {
    /// A healthy disk.
    #[must_use]
    pub fn disk(name: &str) -> Self {
        Self {
            name: format!("/dev/disk/by-partuuid/{name}"),
            kind: "DISK",
            status: "ONLINE",
            errors: [0; 3],
            disk: Some(name.to_owned()),
            children: Vec::new(),
        }
    }

    /// A healthy group.
    #[must_use]
    pub fn group(name: &str, kind: &'static str, children: Vec<Self>) -> Self {
        Self { name: name.to_owned(), kind, status: "ONLINE", errors: [0; 3], disk: None, children }
    }

    fn row(&self, size: u64, allocated: u64) -> Value {
        let [read, write, checksum] = self.errors;
        let leaf = self.children.is_empty();
        let mut row = json!({
            "name": self.name,
            "type": self.kind,
            "guid": guid(&self.name),
            "path": leaf.then_some(&self.name),
            "stats": {
                "timestamp": 41_523_000_117_u64,
                "read_errors": read,
                "write_errors": write,
                "checksum_errors": checksum,
                "ops": [0, 5120, 7340, 0, 0, 0, 0],
                "bytes": [0, 91_750_400, 204_472_320, 0, 0, 0, 0],
                "size": if leaf { 0 } else { size },
                "allocated": if leaf { 0 } else { allocated },
                "fragmentation": 4,
                "self_healed": 0,
                "configured_ashift": 12,
                "logical_ashift": 9,
                "physical_ashift": 12,
            },
            "children": self.children.iter().map(|child| child.row(size, allocated)).collect::<Vec<_>>(),
            "status": self.status,
            "unavail_disk": null,
        });
        if leaf {
            row["device"] = self.disk.as_ref().map_or(Value::Null, |disk| Value::from(format!("{disk}1")));
            row["disk"] = json!(self.disk);
        }
        row
    }
}

/// A pool.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Number in the middleware's database.
    pub id: u64,
    /// Its name, and its root dataset's.
    pub name: String,
    /// How it is doing.
    pub health: Health,
    /// Raw capacity in bytes, parity included.
    pub size: u64,
    /// Of which used.
    pub allocated: u64,
    /// In percent.
    pub fragmentation: u8,
    /// Last scan, if there was one.
    pub scan: Option<Scan>,
    /// `data`.
    pub data: Vec<Vdev>,
    /// `log`, `cache`, `spare`, `special`, `dedup`.
    pub others: [Vec<Vdev>; 5],
    /// Whether all feature flags are on.
    pub upgraded: bool,
}

impl Pool {
    /// A healthy pool.
    #[must_use]
    pub fn new(id: u64, name: &str, size: u64, allocated: u64, data: Vec<Vdev>) -> Self {
        Self {
            id,
            name: name.to_owned(),
            health: Health::Online,
            size,
            allocated,
            fragmentation: 4,
            scan: None,
            data,
            others: Default::default(),
            upgraded: true,
        }
    }

    /// Whether its datasets can be seen.
    #[must_use]
    pub fn imported(&self) -> bool {
        self.health != Health::Exported
    }

    /// The row of `pool.query`.
    pub(crate) fn row(&self, profile: Profile, pin: Pin, with_upgraded: bool) -> Value {
        let (status, healthy, warning, code, detail) = match &self.health {
            Health::Online => ("ONLINE", true, false, Some("OK"), None),
            Health::Warning { code, detail } => ("ONLINE", true, true, Some(*code), Some(*detail)),
            Health::Bad { status, code, detail } => (*status, false, false, Some(*code), Some(*detail)),
            Health::Exported => ("OFFLINE", false, false, None, None),
        };
        let here = self.imported();
        let number = |value: u64| if here { Value::from(value) } else { Value::Null };
        let digits = |value: u64| if here { Value::from(value.to_string()) } else { Value::Null };
        let free = self.size.saturating_sub(self.allocated);
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
        put("id", json!(self.id));
        put("name", json!(self.name));
        put("guid", json!(guid(&self.name)));
        if profile >= Profile::V26 && pin == Pin::Current {
            put("all_sed", if here { json!(false) } else { Value::Null });
        }
        put("status", json!(status));
        put("path", json!(format!("/mnt/{}", self.name)));
        put("scan", if here { self.scan_row() } else { Value::Null });
        put("expand", Value::Null);
        if with_upgraded {
            put("is_upgraded", json!(here && self.upgraded));
        }
        put("healthy", json!(healthy));
        put("warning", json!(warning));
        put("status_code", json!(code));
        put("status_detail", json!(detail));
        put("size", number(self.size));
        put("allocated", number(self.allocated));
        put("free", number(free));
        put("freeing", number(0));
        if profile >= Profile::V25_10 {
            put("dedup_table_size", number(0));
            put("dedup_table_quota", if here { json!("auto") } else { Value::Null });
        }
        put("fragmentation", digits(u64::from(self.fragmentation)));
        put("size_str", digits(self.size));
        put("allocated_str", digits(self.allocated));
        put("free_str", digits(free));
        put("freeing_str", digits(0));
        put("autotrim", json!({"parsed": "off", "rawvalue": "off", "source": "DEFAULT", "value": "off"}));
        put("topology", if here { self.topology() } else { Value::Null });
        if profile == Profile::Core13 {
            put("encrypt", json!(0));
            put("encryptkey", json!(""));
            put("encryptkey_path", Value::Null);
            put("is_decrypted", json!(here));
        }
        Value::Object(row)
    }

    /// The answer of `boot.get_state`: a pool's row without a database number.
    pub(crate) fn boot_state(&self, profile: Profile, pin: Pin) -> Value {
        let mut row = self.row(profile, pin, true);
        if let Value::Object(row) = &mut row {
            row.remove("id");
            row.insert("path".to_owned(), json!("/"));
        }
        row
    }

    fn scan_row(&self) -> Value {
        let Some(scan) = &self.scan else {
            return json!({
                "function": null, "state": null, "start_time": null, "end_time": null, "percentage": null,
                "bytes_to_process": null, "bytes_processed": null, "bytes_issued": null, "pause": null,
                "errors": null, "total_secs_left": null,
            });
        };
        let done = (self.allocated / 1000).saturating_mul((scan.percentage * 10.0) as u64);
        json!({
            "function": scan.function,
            "state": scan.state,
            "start_time": {"$date": scan.start},
            "end_time": scan.end.map(|end| json!({"$date": end})),
            "percentage": scan.percentage,
            "bytes_to_process": self.allocated,
            "bytes_processed": done,
            "bytes_issued": done,
            "pause": null,
            "errors": scan.errors,
            "total_secs_left": scan.seconds_left,
        })
    }

    fn topology(&self) -> Value {
        let rows = |vdevs: &[Vdev]| vdevs.iter().map(|vdev| vdev.row(self.size, self.allocated)).collect::<Value>();
        let mut topology = json!({"data": rows(&self.data)});
        for (name, vdevs) in ["log", "cache", "spare", "special", "dedup"].iter().zip(&self.others) {
            topology[*name] = rows(vdevs);
        }
        topology
    }
}

/// A guid as ZFS has them: digits beyond what a double holds exactly, so it travels as a string.
fn guid(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash | 1 << 62).to_string()
}
