//! What TrueNAS's rows say, whatever release wrote them: numbers as text, dates in wrappers, properties as objects, and
//! nulls wherever something is not known. What is not known stays absent.

use serde_json::Value;

use super::text;
use crate::{http::text::vendor_text, times};

/// A word or a name; empty counts as absent.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A count or a size. `-` and text beside digits are no number.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A number with a fraction; a ratio may end in `x`.
fn real(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().trim_end_matches(['x', 'X']).parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(is) => Some(*is),
        Value::Number(number) => number.as_i64().map(|number| number != 0),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Seconds since 1970: `{"$date": milliseconds}`, or plain seconds, which snapshots have from 26 on.
fn moment(value: &Value) -> Option<i64> {
    match value {
        Value::Object(map) => {
            let date = map.get("$date")?;
            date.as_i64().or_else(|| date.as_f64().map(|ms| ms as i64)).map(|ms| ms.div_euclid(1000))
        }
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second))
        }
        _ => None,
    }
}

fn date(value: &Value) -> Option<String> {
    moment(value).and_then(times::rfc3339)
}

/// The rows of a list; anything else has none.
fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `system.info`.
#[derive(Debug, Default)]
pub(super) struct Info {
    /// As the appliance writes it: `25.10.1`, `TrueNAS-SCALE-24.10.2`, `TrueNAS-13.0-U6.8`.
    pub(super) version: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) model: Option<String>,
    pub(super) uptime_seconds: Option<u64>,
    pub(super) ecc: Option<bool>,
}

impl Info {
    pub(super) fn of(value: &Value) -> Self {
        Self {
            version: words(&value["version"]),
            hostname: words(&value["hostname"]),
            // The board or appliance where it has a name, else the processor's.
            model: words(&value["system_product"]).or_else(|| words(&value["model"])),
            uptime_seconds: whole(&value["uptime_seconds"]),
            ecc: flag(&value["ecc_memory"]),
        }
    }
}

/// The number in a version, `24.10.2` of `TrueNAS-SCALE-24.10.2`.
pub(super) fn release(version: &str) -> Option<&str> {
    let start = version.find(|c: char| c.is_ascii_digit())?;
    let rest = &version[start..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.'))
}

/// A pool's last or running scrub or resilver.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) function: Option<String>,
    pub(super) state: Option<String>,
    pub(super) percent: Option<f64>,
    pub(super) errors: Option<u64>,
    pub(super) ended: Option<String>,
    pub(super) seconds_left: Option<u64>,
}

/// A disk, or a group of disks.
#[derive(Debug)]
pub(super) struct Vdev {
    /// `sda` where the disk is known, else what ZFS calls it.
    pub(super) name: String,
    pub(super) state: String,
    pub(super) read: u64,
    pub(super) write: u64,
    pub(super) checksum: u64,
    /// It has no members: its counters are a disk's own.
    pub(super) leaf: bool,
}

impl Vdev {
    pub(super) fn errors(&self) -> u64 {
        self.read.saturating_add(self.write).saturating_add(self.checksum)
    }

    /// Not as it should be. Spares wait or stand in.
    pub(super) fn is_bad(&self) -> bool {
        !matches!(self.state.as_str(), "ONLINE" | "AVAIL" | "INUSE") || self.errors() > 0
    }

    fn of(value: &Value) -> Self {
        let stats = &value["stats"];
        let count = |name: &str| whole(&stats[name]).unwrap_or_default();
        let name = [&value["disk"], &value["device"], &value["unavail_disk"]["name"], &value["name"], &value["guid"]];
        Self {
            name: name.into_iter().find_map(words).unwrap_or_else(|| "unnamed".to_owned()),
            state: words(&value["status"]).unwrap_or_else(|| "UNKNOWN".to_owned()),
            read: count("read_errors"),
            write: count("write_errors"),
            checksum: count("checksum_errors"),
            leaf: rows(&value["children"]).next().is_none(),
        }
    }
}

/// `pool.query`, and `boot.get_state`.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) healthy: Option<bool>,
    pub(super) warning: Option<bool>,
    pub(super) detail: Option<String>,
    /// Raw, parity included; absent where the pool is not imported.
    pub(super) size: Option<u64>,
    pub(super) allocated: Option<u64>,
    pub(super) scan: Option<Scan>,
    /// All of the topology, groups before their members; `None` where it is not known.
    pub(super) vdevs: Option<Vec<Vdev>>,
}

impl Pool {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let scan = &value["scan"];
        Some(Self {
            name: words(&value["name"])?,
            status: words(&value["status"]).unwrap_or_else(|| "UNKNOWN".to_owned()),
            healthy: flag(&value["healthy"]),
            warning: flag(&value["warning"]),
            detail: words(&value["status_detail"]).map(|text| vendor_text(&text)),
            size: whole(&value["size"]),
            allocated: whole(&value["allocated"]),
            scan: (scan.is_object() && words(&scan["function"]).is_some()).then(|| Scan {
                function: words(&scan["function"]),
                state: words(&scan["state"]),
                percent: real(&scan["percentage"]),
                errors: whole(&scan["errors"]),
                ended: date(&scan["end_time"]),
                seconds_left: whole(&scan["total_secs_left"]),
            }),
            vdevs: value["topology"].as_object().map(|groups| {
                let mut all = Vec::new();
                groups.values().flat_map(rows).for_each(|vdev| collect(vdev, &mut all, 0));
                all
            }),
        })
    }

    pub(super) fn list(value: &Value) -> Vec<Self> {
        rows(value).filter_map(Self::of).collect()
    }
}

fn collect(value: &Value, all: &mut Vec<Vdev>, depth: u32) {
    /// Groups, replacements within them, spares within those.
    const DEEPEST: u32 = 8;
    all.push(Vdev::of(value));
    if depth < DEEPEST {
        rows(&value["children"]).for_each(|child| collect(child, all, depth + 1));
    }
}

/// `alert.list`.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) level: String,
    pub(super) message: String,
    /// Seconds since 1970.
    pub(super) at: Option<i64>,
    pub(super) last: Option<i64>,
    pub(super) klass: Option<String>,
    pub(super) node: Option<String>,
    pub(super) dismissed: bool,
}

impl Alert {
    fn of(value: &Value) -> Self {
        let message = words(&value["formatted"])
            .map(|html| text::plain(&html))
            .or_else(|| words(&value["text"]).map(|template| text::filled(&template, &value["args"])));
        Self {
            level: words(&value["level"]).unwrap_or_else(|| "UNKNOWN".to_owned()).to_ascii_uppercase(),
            message: message.filter(|text| !text.is_empty()).unwrap_or_else(|| "No message".to_owned()),
            at: moment(&value["datetime"]),
            last: moment(&value["last_occurrence"]),
            klass: words(&value["klass"]),
            node: words(&value["node"]),
            dismissed: flag(&value["dismissed"]).unwrap_or(false),
        }
    }

    pub(super) fn list(value: &Value) -> Vec<Self> {
        rows(value).filter(|row| row.is_object()).map(Self::of).collect()
    }
}

/// A ZFS property: `{parsed, rawvalue, value}`, or its bare value.
struct Property<'a>(&'a Value);

impl<'a> Property<'a> {
    fn of(row: &'a Value, name: &str) -> Self {
        Self(&row[name])
    }

    fn parts(&self) -> [&'a Value; 3] {
        match self.0 {
            Value::Object(_) => [&self.0["parsed"], &self.0["rawvalue"], &self.0["value"]],
            bare => [bare, &Value::Null, &Value::Null],
        }
    }

    fn bytes(&self) -> Option<u64> {
        let [parsed, raw, _] = self.parts();
        whole(parsed).or_else(|| whole(raw))
    }

    /// A limit; none is null or 0.
    fn limit(&self) -> Option<u64> {
        self.bytes().filter(|bytes| *bytes > 0)
    }

    /// As the interface shows it.
    fn shown(&self) -> Option<String> {
        let [parsed, raw, value] = self.parts();
        words(value).or_else(|| words(raw)).or_else(|| words(parsed)).filter(|text| text != "-")
    }

    fn is(&self) -> Option<bool> {
        let [parsed, raw, value] = self.parts();
        flag(parsed).or_else(|| flag(raw)).or_else(|| flag(value))
    }
}

/// `pool.dataset.query`.
#[derive(Debug)]
pub(super) struct Dataset {
    /// The full path.
    pub(super) name: String,
    pub(super) pool: String,
    /// FILESYSTEM or VOLUME.
    pub(super) kind: Option<String>,
    pub(super) mountpoint: Option<String>,
    pub(super) used: Option<u64>,
    pub(super) available: Option<u64>,
    pub(super) used_by_snapshots: Option<u64>,
    pub(super) quota: Option<u64>,
    pub(super) refquota: Option<u64>,
    pub(super) volsize: Option<u64>,
    pub(super) compression: Option<String>,
    pub(super) ratio: Option<f64>,
    pub(super) encrypted: Option<bool>,
    pub(super) encryption_root: Option<String>,
    pub(super) locked: Option<bool>,
    pub(super) readonly: Option<bool>,
    pub(super) created: Option<String>,
    pub(super) comments: Option<String>,
}

/// The properties asked for where the release lets us choose; `encryption` is what the encrypted and locked members of
/// a row are made of from 25.10 on.
pub(super) const LISTED: [&str; 7] = ["used", "available", "quota", "refquota", "volsize", "mountpoint", "encryption"];

impl Dataset {
    fn of(value: &Value) -> Option<Self> {
        let name = words(&value["id"]).or_else(|| words(&value["name"]))?;
        let property = |name: &str| Property::of(value, name);
        let own = &value["user_properties"];
        let comments = ["comments", "org.freenas:description", "org.truenas:description"];
        let comments =
            property("comments").shown().or_else(|| comments.iter().find_map(|key| Property::of(own, key).shown()));
        let encrypted = flag(&value["encrypted"]);
        Some(Self {
            pool: words(&value["pool"]).unwrap_or_else(|| name.split('/').next().unwrap_or_default().to_owned()),
            kind: words(&value["type"]),
            mountpoint: property("mountpoint").shown(),
            used: property("used").bytes(),
            available: property("available").bytes(),
            used_by_snapshots: property("usedbysnapshots").bytes(),
            quota: property("quota").limit(),
            refquota: property("refquota").limit(),
            volsize: property("volsize").limit(),
            compression: property("compression").shown(),
            ratio: {
                let [parsed, raw, value] = property("compressratio").parts();
                real(parsed).or_else(|| real(raw)).or_else(|| real(value))
            },
            encrypted,
            encryption_root: words(&value["encryption_root"]),
            // What is not encrypted is never locked.
            locked: flag(&value["locked"]).or((encrypted == Some(false)).then_some(false)),
            readonly: property("readonly").is(),
            created: {
                let [parsed, raw, _] = property("creation").parts();
                date(parsed).or_else(|| date(raw))
            },
            comments,
            name,
        })
    }

    /// All of them, those within others too, each once, by name. A tree, a flat list and a flat list whose rows repeat
    /// their descendants come to the same.
    pub(super) fn all(value: &Value) -> Vec<Self> {
        let mut found = std::collections::BTreeMap::new();
        gather(value, &mut found, 0);
        found.into_values().collect()
    }
}

fn gather(value: &Value, found: &mut std::collections::BTreeMap<String, Dataset>, depth: u32) {
    /// ZFS's own limit.
    const DEEPEST: u32 = 50;
    for row in rows(value) {
        let Some(dataset) = Dataset::of(row) else { continue };
        if found.contains_key(&dataset.name) {
            continue;
        }
        found.insert(dataset.name.clone(), dataset);
        if depth < DEEPEST {
            gather(&row["children"], found, depth + 1);
        }
    }
}

/// A row of a snapshot query, and the answer to its creation.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// `dataset@name`.
    pub(super) id: String,
    /// What follows the @.
    pub(super) name: String,
    /// Grows with time.
    txg: Option<u64>,
    created: Option<i64>,
    pub(super) used: Option<u64>,
    pub(super) referenced: Option<u64>,
}

/// What 26 must be asked for by name.
pub(super) const SNAPSHOT_PROPERTIES: [&str; 3] = ["creation", "used", "referenced"];

impl Snapshot {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let id = words(&value["id"]).or_else(|| words(&value["name"]))?;
        let properties = &value["properties"];
        let property = |name: &str| Property::of(properties, name);
        let [created, raw, _] = property("creation").parts();
        Some(Self {
            name: id.split_once('@').map_or_else(String::new, |(_, name)| name.to_owned()),
            txg: whole(&value["createtxg"]).or_else(|| property("createtxg").bytes()),
            created: moment(created).or_else(|| moment(raw)),
            used: property("used").bytes(),
            referenced: property("referenced").bytes(),
            id,
        })
    }

    /// Newest first.
    pub(super) fn list(value: &Value) -> Vec<Self> {
        let mut list: Vec<_> = rows(value).filter_map(Self::of).collect();
        // As numbers: the appliance sorts them as text.
        list.sort_by(|a, b| (b.txg, b.created, &b.id).cmp(&(a.txg, a.created, &a.id)));
        list
    }

    pub(super) fn created(&self) -> Option<String> {
        self.created.and_then(times::rfc3339)
    }
}

/// The roles of the key's user (`auth.me`), or none where they are not told.
pub(super) fn roles(me: &Value) -> Option<Vec<String>> {
    let roles = &me["privilege"]["roles"];
    let roles = roles.get("$set").unwrap_or(roles).as_array()?;
    Some(roles.iter().filter_map(words).collect())
}

/// The name of the key's user.
pub(super) fn user(me: &Value) -> Option<String> {
    words(&me["pw_name"]).map(|name| vendor_text(&name))
}

/// A count, also where all rows came in place of it.
pub(super) fn count(value: &Value) -> Option<u64> {
    whole(value).or_else(|| value.as_array().map(|rows| rows.len() as u64))
}

/// What `/api/versions` lists, if it is that list: the newest as major and minor number.
pub(super) fn newest_api(value: &Value) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let mut parts = text.strip_prefix('v')?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    value.as_array()?.iter().filter_map(Value::as_str).filter_map(number).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_of_every_product_have_a_release() {
        for (version, expected) in [
            ("25.10.7", Some("25.10.7")),
            ("TrueNAS-SCALE-24.10.2.4", Some("24.10.2.4")),
            ("TrueNAS-13.0-U6.8", Some("13.0")),
            ("26.0.0-BETA.3", Some("26.0.0")),
            ("v25.", Some("25")),
            ("nightly", None),
        ] {
            assert_eq!(release(version), expected, "{version}");
        }
        assert_eq!(newest_api(&json!(["v24.10", "v25.04.0", "v25.10.2", "v25.10.10"])), Some((25, 10)));
        assert_eq!(newest_api(&json!(["v9.0.0", "v26.0.0"])), Some((26, 0)));
        for no_list in [json!({"message": "x"}), json!([]), json!("v26.0.0"), json!([1, "x"])] {
            assert_eq!(newest_api(&no_list), None, "{no_list}");
        }
    }

    #[test]
    fn dates_come_in_three_forms() {
        for value in [
            json!({"$date": 1_795_312_800_000_i64}),
            json!({"$date": 1_795_312_800_999_i64}),
            json!(1_795_312_800),
            json!("1795312800"),
            json!("2026-11-22T02:00:00Z"),
        ] {
            assert_eq!(date(&value).as_deref(), Some("2026-11-22T02:00:00Z"), "{value}");
        }
        for value in [json!(null), json!({}), json!({"$date": null}), json!("x"), json!([])] {
            assert_eq!(date(&value), None, "{value}");
        }
    }

    #[test]
    fn an_exported_pool_has_no_numbers() {
        let pool = Pool::of(&json!({
            "name": "shelf", "status": "OFFLINE", "healthy": false, "warning": false, "status_detail": null,
            "size": null, "allocated": null, "scan": null, "topology": null,
        }))
        .unwrap();
        assert!(pool.size.is_none() && pool.allocated.is_none() && pool.scan.is_none() && pool.vdevs.is_none());
        assert_eq!((pool.healthy, pool.warning), (Some(false), Some(false)));
        let core = Pool::of(&json!({"name": "t", "status": "ONLINE", "healthy": "1", "size": "100", "allocated": 1e2}));
        let core = core.unwrap();
        assert_eq!((core.healthy, core.size, core.allocated), (Some(true), Some(100), Some(100)));
    }

    #[test]
    fn the_topology_is_walked_to_its_leaves() {
        let disk = |name: &str, status: &str, read: u64| {
            json!({"name": format!("/dev/{name}"), "disk": name, "status": status, "children": [],
                   "stats": {"read_errors": read, "write_errors": 0, "checksum_errors": "2"}})
        };
        let pool = Pool::of(&json!({
            "name": "t", "status": "DEGRADED",
            "topology": {
                "data": [{"name": "mirror-0", "status": "DEGRADED", "children": [disk("sda", "ONLINE", 0), {
                    "name": "old", "disk": null, "device": null, "status": "UNAVAIL", "unavail_disk": {"name": "sdz"},
                    "children": [], "stats": {},
                }]}],
                "spare": [disk("sdc", "AVAIL", 7)], "log": null,
            },
        }))
        .unwrap();
        let vdevs = pool.vdevs.unwrap();
        let names: Vec<_> = vdevs.iter().map(|vdev| (vdev.name.as_str(), vdev.leaf, vdev.errors())).collect();
        assert_eq!(names, [("mirror-0", false, 0), ("sda", true, 2), ("sdz", true, 0), ("sdc", true, 9)]);
        assert!(vdevs.iter().all(Vdev::is_bad));
        // A float beyond every number becomes the largest there is.
        let stats = json!({"read_errors": 1e30, "write_errors": 1e30, "checksum_errors": 1});
        let torn = Vdev::of(&json!({"name": "x", "status": "ONLINE", "stats": stats}));
        assert!(torn.errors() == u64::MAX && torn.is_bad());
    }

    #[test]
    fn datasets_are_told_once_however_they_are_nested() {
        let leaf = json!({"id": "t/a/b", "children": []});
        let tree = json!([{"id": "t", "children": [{"id": "t/a", "children": [leaf]}]}, {"id": "s", "children": []}]);
        let repeated = json!([{"id": "t", "children": [{"id": "t/a", "children": [leaf]}]}, {"id": "t/a", "children": [leaf]}, leaf, {"id": "s"}]);
        for value in [tree, repeated] {
            let names: Vec<_> = Dataset::all(&value).into_iter().map(|dataset| dataset.name).collect();
            assert_eq!(names, ["s", "t", "t/a", "t/a/b"]);
        }
        assert!(Dataset::all(&json!({"message": "x"})).is_empty());
    }

    #[test]
    fn a_locked_dataset_and_a_volume_keep_what_is_unknown_absent() {
        let dash = json!({"parsed": "-", "rawvalue": "-", "value": "-"});
        let none = json!({"parsed": null, "rawvalue": "0", "value": null});
        let locked = json!([{
            "id": "t/vault", "type": "FILESYSTEM", "pool": "t", "encrypted": true, "encryption_root": "t/vault",
            "key_loaded": false, "locked": true, "mountpoint": "none", "used": dash, "available": dash, "quota": none,
            "refquota": {"parsed": 1024, "rawvalue": "1024", "value": "1 KiB"},
        }]);
        let [locked] = &Dataset::all(&locked)[..] else { panic!() };
        assert_eq!((locked.used, locked.available, locked.quota, locked.refquota), (None, None, None, Some(1024)));
        assert_eq!((locked.locked, locked.mountpoint.as_deref()), (Some(true), Some("none")));
        let volume = json!([{
            "id": "t/v", "type": "VOLUME", "encrypted": false, "mountpoint": null, "user_properties": {"comments": {"value": "disk"}},
            "volsize": {"parsed": "2048"}, "compressratio": {"parsed": "1.25x"}, "compression": {"rawvalue": "lz4", "value": "LZ4"},
            "readonly": {"parsed": false, "value": "OFF"}, "creation": {"parsed": {"$date": 0}},
        }]);
        let [volume] = &Dataset::all(&volume)[..] else { panic!() };
        assert_eq!((volume.mountpoint.as_deref(), volume.volsize, volume.ratio), (None, Some(2048), Some(1.25)));
        assert_eq!((volume.locked, volume.readonly, volume.pool.as_str()), (Some(false), Some(false), "t"));
        assert_eq!(volume.compression.as_deref(), Some("LZ4"));
        assert_eq!(volume.comments.as_deref(), Some("disk"));
        assert_eq!(volume.created.as_deref(), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn snapshots_are_sorted_by_number_and_dated_in_both_ways() {
        let list = Snapshot::list(&json!([
            {"id": "t@old", "createtxg": "999", "properties": {"creation": {"parsed": {"$date": 1000}, "rawvalue": "1"}}},
            {"name": "t@new", "createtxg": "1000", "properties": {"creation": {"parsed": 2, "rawvalue": "2"}, "used": {"parsed": 5}}},
            {"id": "t@bare", "createtxg": 998, "properties": {}},
        ]));
        let told: Vec<_> = list.iter().map(|s| (s.name.as_str(), s.created(), s.used)).collect();
        assert_eq!(
            told,
            [
                ("new", Some("1970-01-01T00:00:02Z".to_owned()), Some(5)),
                ("old", Some("1970-01-01T00:00:01Z".to_owned()), None),
                ("bare", None, None),
            ]
        );
    }
}
