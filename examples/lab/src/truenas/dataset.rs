//! Datasets and the rows that `pool.dataset.query` makes of them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::error::RpcError;
use super::profile::Profile;
use super::query::Query;
use super::world::World;

/// What a dataset holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files.
    Filesystem,
    /// A block device of this size in bytes.
    Volume(u64),
}

/// Whether a dataset is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// In clear.
    None,
    /// Encrypted, the key is loaded; the dataset that holds the key.
    Unlocked(String),
    /// Encrypted, the key is not loaded; the dataset that holds the key.
    Locked(String),
}

/// A dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Full path without a leading slash.
    pub id: String,
    /// Files or a volume.
    pub kind: Kind,
    /// Bytes, descendants and snapshots included.
    pub used: u64,
    /// Bytes.
    pub available: u64,
    /// Bytes, descendants included.
    pub quota: Option<u64>,
    /// Bytes, without descendants.
    pub refquota: Option<u64>,
    /// As `lz4`.
    pub compression: String,
    /// Encryption.
    pub encryption: Encryption,
    /// Whether writes are refused.
    pub readonly: bool,
    /// The user's remark.
    pub comments: Option<String>,
    /// Seconds since 1970.
    pub creation: i64,
}

impl Dataset {
    /// A plain file system.
    #[must_use]
    pub fn new(id: &str, used: u64, available: u64) -> Self {
        Self {
            id: id.to_owned(),
            kind: Kind::Filesystem,
            used,
            available,
            quota: None,
            refquota: None,
            compression: "lz4".to_owned(),
            encryption: Encryption::None,
            readonly: false,
            comments: None,
            creation: 1_741_000_000,
        }
    }

    /// The pool it is in.
    #[must_use]
    pub fn pool(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }

    /// The appliance's own datasets, which no list shows.
    #[must_use]
    pub fn internal(&self) -> bool {
        is_internal(&self.id)
    }

    fn row(&self, profile: Profile, query: &Query) -> Map<String, Value> {
        let wanted = query.extra.get("properties").and_then(Value::as_array);
        let wants = |name: &str| wanted.is_none_or(|names| names.iter().any(|given| given == name));
        let locked = matches!(self.encryption, Encryption::Locked(_));
        let root = match &self.encryption {
            Encryption::None => None,
            Encryption::Unlocked(root) | Encryption::Locked(root) => Some(root),
        };
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
        put("id", json!(self.id));
        put("type", json!(if self.kind == Kind::Filesystem { "FILESYSTEM" } else { "VOLUME" }));
        put("name", json!(self.id));
        put("pool", json!(self.pool()));
        // From 25.10 on these four are computed from the property, and missing without it.
        let computed = profile < Profile::V25_10 || wants("encryption");
        if computed {
            put("encrypted", json!(root.is_some()));
            put("encryption_root", json!(root));
            put("key_loaded", json!(root.is_some() && !locked));
        }
        put("children", json!([]));
        if query.flag("retrieve_user_props", true) {
            let remark = self.comments.as_deref().map(|text| property(text, text, text, true));
            put("user_properties", remark.as_ref().map_or_else(|| json!({}), |remark| json!({"comments": remark})));
            if let Some(remark) = remark
                && profile < Profile::V25_10
                && wanted.is_none()
            {
                put("comments", remark);
            }
        }
        if computed {
            put("locked", json!(locked));
        }
        for (name, key, value) in self.properties(profile, locked) {
            if wants(name) {
                put(key, value);
            }
        }
        let mountpoint = match self.kind {
            Kind::Volume(_) => Value::Null,
            Kind::Filesystem if locked => json!("none"),
            Kind::Filesystem => json!(format!("/mnt/{}", self.id)),
        };
        put("mountpoint", mountpoint);
        row
    }

    /// ZFS's name, the row's key, the property.
    fn properties(&self, profile: Profile, locked: bool) -> Vec<(&'static str, &'static str, Value)> {
        let bytes = |value: u64| property(value, value, human(value), false);
        let limit = |value: Option<u64>| match value {
            Some(value) => property(value, value, human(value), true),
            None => property(Value::Null, 0, Value::Null, false),
        };
        let word = |value: &str, local: bool| property(value, value, value.to_uppercase(), local);
        let switch = |on: bool, local: bool| {
            let raw = if on { "on" } else { "off" };
            property(on, raw, raw.to_uppercase(), local)
        };
        let dash = || property("-", "-", "-", true);
        let encrypted = self.encryption != Encryption::None;
        let own = self.used / 10 * 9;
        let made = jiff::Timestamp::from_second(self.creation).unwrap_or_default();
        let mut list = vec![
            ("deduplication", "deduplication", word("off", false)),
            ("checksum", "checksum", switch(true, false)),
            ("sync", "sync", word("standard", false)),
            ("compression", "compression", word(&self.compression, self.compression != "lz4")),
            ("compressratio", "compressratio", property("1.13", "1.13", "1.13x", false)),
            ("origin", "origin", property("", "", "", false)),
            ("reservation", "reservation", limit(None)),
            ("refreservation", "refreservation", limit(None)),
            ("copies", "copies", property(1, 1, "1", false)),
            ("readonly", "readonly", switch(self.readonly, self.readonly)),
            (
                "keyformat",
                "key_format",
                if encrypted { word("passphrase", false) } else { property("none", "none", Value::Null, false) },
            ),
            (
                "encryption",
                "encryption_algorithm",
                if encrypted { word("aes-256-gcm", false) } else { property("off", "off", Value::Null, false) },
            ),
            // Up to 25.04 a locked dataset says nothing about its size at all.
            ("used", "used", if locked && profile <= Profile::V25_04 { dash() } else { bytes(self.used) }),
            ("usedbychildren", "usedbychildren", bytes(0)),
            ("usedbydataset", "usedbydataset", bytes(own)),
            ("usedbyrefreservation", "usedbyrefreservation", bytes(0)),
            ("usedbysnapshots", "usedbysnapshots", bytes(self.used - own)),
            ("available", "available", if locked { dash() } else { bytes(self.available) }),
            ("special_small_blocks", "special_small_block_size", property("0", "0", "0", false)),
            ("pbkdf2iters", "pbkdf2iters", property("0", "0", "0", false)),
            (
                "creation",
                "creation",
                property(
                    json!({"$date": self.creation.saturating_mul(1000)}),
                    self.creation,
                    made.strftime("%a %b %e %H:%M %Y").to_string(),
                    false,
                ),
            ),
            ("snapdev", "snapdev", word("hidden", false)),
        ];
        match self.kind {
            Kind::Filesystem => list.extend([
                ("quota", "quota", limit(self.quota)),
                ("refquota", "refquota", limit(self.refquota)),
                ("atime", "atime", switch(false, true)),
                ("exec", "exec", switch(true, false)),
                ("snapdir", "snapdir", word("hidden", false)),
                ("acltype", "acltype", word("posix", false)),
                ("aclmode", "aclmode", word("discard", false)),
                ("casesensitivity", "casesensitivity", word("sensitive", false)),
                ("xattr", "xattr", property(Value::Null, "sa", "SA", false)),
                ("recordsize", "recordsize", property(131_072, 131_072, "128K", false)),
            ]),
            Kind::Volume(size) => list.extend([
                ("volsize", "volsize", property(size, size, human(size), true)),
                ("volblocksize", "volblocksize", property(16_384, 16_384, "16K", false)),
            ]),
        }
        list
    }
}

/// Whether a path belongs to the appliance itself.
pub(crate) fn is_internal(id: &str) -> bool {
    id.split('/').nth(1).is_some_and(|name| matches!(name, ".system" | "ix-apps" | ".ix-virt" | "ix-applications"))
}

/// `pool.dataset.query`.
pub(crate) fn query(world: &World, profile: Profile, query: &Query) -> Result<Value, RpcError> {
    let visible: Vec<&Dataset> = world.visible_datasets().filter(|dataset| !dataset.internal()).collect();
    let nested = query.flag("retrieve_children", true);
    // Without a filter the vendor asks ZFS for the pools only, and ZFS does not go down.
    let roots_only = !query.flag("flat", true) || (!nested && query.filters.is_empty());
    let is_listed = |dataset: &&&Dataset| !roots_only || !dataset.id.contains('/');
    if query.count {
        // Counted before the filters are looked at.
        return Ok(Value::from(visible.iter().filter(is_listed).count()));
    }
    let tree = tree(&visible);
    let row = |dataset: &&Dataset| {
        let mut row = dataset.row(profile, query);
        if nested {
            row.insert("children".to_owned(), children(&tree, dataset, profile, query));
        }
        if query.flag("snapshots", false) || query.flag("snapshots_count", false) {
            let own = world.snapshots.iter().filter(|snapshot| snapshot.dataset == dataset.id);
            let rows: Vec<Value> = own.map(super::snapshot::Snapshot::short_row).collect();
            row.insert("snapshot_count".to_owned(), Value::from(rows.len()));
            if query.flag("snapshots", false) {
                row.insert("snapshots".to_owned(), Value::Array(rows));
                row.insert("_snapshots_properties".to_owned(), json!([]));
            }
        }
        Value::Object(row)
    };
    query.apply(visible.iter().filter(is_listed).map(row).collect())
}

/// Datasets by the path of their parent. Looking through all of them for each would take its time with thousands.
type Tree<'a> = HashMap<&'a str, Vec<&'a Dataset>>;

fn tree<'a>(all: &[&'a Dataset]) -> Tree<'a> {
    let mut tree = Tree::new();
    for dataset in all {
        if let Some((parent, _)) = dataset.id.rsplit_once('/') {
            tree.entry(parent).or_default().push(dataset);
        }
    }
    tree
}

/// The descendants, each with its own.
fn children(tree: &Tree<'_>, parent: &Dataset, profile: Profile, query: &Query) -> Value {
    let nested = |dataset: &&Dataset| {
        let mut row = dataset.row(profile, query);
        row.insert("children".to_owned(), children(tree, dataset, profile, query));
        Value::Object(row)
    };
    tree.get(parent.id.as_str()).into_iter().flatten().map(nested).collect()
}

fn property(parsed: impl Into<Value>, raw: impl Into<Value>, value: impl Into<Value>, local: bool) -> Value {
    let raw = match raw.into() {
        Value::String(text) => text,
        other => other.to_string(),
    };
    json!({
        "parsed": parsed.into(),
        "rawvalue": raw,
        "value": value.into(),
        "source": if local { "LOCAL" } else { "DEFAULT" },
        "source_info": null,
    })
}

/// Bytes as the appliance words them: `1.63 TiB`, `12 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let value = format!("{:.2}", bytes as f64 / (1_u64 << (10 * unit)) as f64);
    format!("{} {}", value.trim_end_matches('0').trim_end_matches('.'), UNITS[unit])
}
