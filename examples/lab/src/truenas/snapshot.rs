//! Snapshots: the rows, and the rules for making one, which differ by release.

use serde_json::{Map, Value, json};

use super::dataset::is_internal;
use super::error::{EACCES, EEXIST, EFAULT, EINVAL, Issue, RpcError};
use super::profile::Profile;
use super::query::{Kind, Query, required, unexpected, wrong};
use super::world::World;

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it is of.
    pub dataset: String,
    /// What follows the `@`.
    pub name: String,
    /// Transaction group.
    pub createtxg: u64,
    /// Seconds since 1970.
    pub creation: i64,
    /// Bytes only it holds.
    pub used: u64,
    /// Bytes it shows.
    pub referenced: u64,
}

impl Snapshot {
    /// `dataset@name`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}@{}", self.dataset, self.name)
    }

    pub(crate) fn short_row(&self) -> Value {
        let id = self.id();
        json!({
            "id": id,
            "pool": self.dataset.split('/').next(),
            "name": id,
            "type": "SNAPSHOT",
            "snapshot_name": self.name,
            "dataset": self.dataset,
            "createtxg": self.createtxg.to_string(),
        })
    }

    /// The whole row; `only` names the properties that 26 shows.
    fn row(&self, profile: Profile, only: &[&str]) -> Value {
        let mut row = self.short_row();
        row["properties"] = self.properties(profile, only);
        if profile >= Profile::V26 {
            row["holds"] = json!({});
        }
        row
    }

    fn properties(&self, profile: Profile, only: &[&str]) -> Value {
        let property =
            |raw: String, parsed: Value| json!({"value": raw, "rawvalue": raw, "source": "NONE", "parsed": parsed});
        let native = profile >= Profile::V26;
        let (seconds, txg) = (self.creation, self.createtxg);
        let mut properties = Map::new();
        for name in ["creation", "used", "referenced", "createtxg"] {
            if native && !only.contains(&name) {
                continue;
            }
            let value = match name {
                // From 26 on a plain number of seconds.
                "creation" if native => property(seconds.to_string(), json!(seconds)),
                "creation" => property(seconds.to_string(), json!({"$date": seconds.saturating_mul(1000)})),
                "used" => property(self.used.to_string(), json!(self.used)),
                "referenced" => property(self.referenced.to_string(), json!(self.referenced)),
                _ if native => property(txg.to_string(), json!(txg)),
                _ => property(txg.to_string(), json!(txg.to_string())),
            };
            properties.insert(name.to_owned(), value);
        }
        Value::Object(properties)
    }
}

/// `pool.snapshot.query` and `zfs.snapshot.query`.
pub(crate) fn query(world: &World, profile: Profile, service: &str, mut query: Query) -> Result<Value, RpcError> {
    if service == "pool.snapshot" {
        // The fast path of this method knows top-level fields only, and drops the rest without a word.
        query.select.retain(|field| field.as_str().is_none_or(|path| !path.contains('.')));
    }
    let asked = query.extra.get("properties").and_then(Value::as_array).cloned().unwrap_or_default();
    let only: Vec<&str> = asked.iter().filter_map(Value::as_str).collect();
    let named = query.filters.iter().any(|filter| matches!(filter[0].as_str(), Some("dataset" | "id" | "name")));
    let least = query.extra.get("min_txg").and_then(Value::as_u64).unwrap_or(0);
    let most = query.extra.get("max_txg").and_then(Value::as_u64).filter(|txg| *txg > 0).unwrap_or(u64::MAX);
    let mut found: Vec<&Snapshot> = world
        .snapshots
        .iter()
        .filter(|snapshot| world.visible_datasets().any(|dataset| dataset.id == snapshot.dataset))
        .filter(|snapshot| profile < Profile::V26 || named || !is_internal(&snapshot.dataset))
        .filter(|snapshot| (least..=most).contains(&snapshot.createtxg))
        .collect();
    found.sort_by_key(|snapshot| {
        (world.datasets.iter().position(|dataset| dataset.id == snapshot.dataset), snapshot.createtxg)
    });
    query.apply(found.into_iter().map(|snapshot| snapshot.row(profile, &only)).collect())
}

/// `pool.snapshot.get_instance` and `zfs.snapshot.get_instance`.
pub(crate) fn get(world: &World, profile: Profile, service: &str, id: &str) -> Result<Value, RpcError> {
    let model = if service == "pool.snapshot" { "PoolSnapshot" } else { "ZFSSnapshot" };
    let found = world.snapshots.iter().find(|snapshot| snapshot.id() == id);
    found
        .map(|snapshot| snapshot.row(profile, &[]))
        .ok_or_else(|| RpcError::no_instance(format!("{model} {id} does not exist")))
}

/// `pool.snapshot.delete` and `zfs.snapshot.delete`.
pub(crate) fn delete(world: &mut World, profile: Profile, params: &[Value]) -> Result<Value, RpcError> {
    let Some(id) = params.first() else {
        return Err(RpcError::type_error("CRUDService.delete() missing 1 required positional argument: 'id_'"));
    };
    let Some(id) = id.as_str() else {
        return Err(RpcError::invalid("id", wrong(profile.has_models(), Kind::Text)));
    };
    if let Some(options) = params.get(1).and_then(Value::as_object) {
        let unknown = options.keys().filter(|key| !matches!(key.as_str(), "defer" | "recursive"));
        let issues: Vec<Issue> =
            unknown.map(|key| Issue::new(format!("options.{key}"), unexpected(profile.has_models()))).collect();
        if !issues.is_empty() {
            return Err(RpcError::Invalid(issues));
        }
    }
    if profile >= Profile::V26 && !id.contains('@') {
        let issue = Issue::new("pool.snapshot.delete", format!("Invalid snapshot name: '{id}'"));
        return Err(RpcError::Refused { class: "ValidationError", issue });
    }
    let Some(at) = world.snapshots.iter().position(|snapshot| snapshot.id() == id) else {
        let text =
            if profile >= Profile::V26 { format!("'{id}' not found") } else { format!("Snapshot {id} not found") };
        return Err(RpcError::no_instance(text));
    };
    world.snapshots.remove(at);
    Ok(Value::Bool(true))
}

/// The checked arguments of a creation.
struct Wanted {
    dataset: String,
    name: String,
    recursive: bool,
    exclude: Vec<String>,
}

/// `pool.snapshot.create` and `zfs.snapshot.create`. Returns the row of the snapshot and the ids of all that were made.
pub(crate) fn create(
    world: &mut World,
    profile: Profile,
    service: &str,
    params: &[Value],
) -> Result<(Value, Vec<String>), RpcError> {
    let Some(data) = params.first() else {
        let missing = |class: &str| {
            RpcError::type_error(format!("{class}.create() missing 1 required positional argument: 'data'"))
        };
        return Err(match (service, profile.has_models()) {
            ("zfs.snapshot", false) => RpcError::invalid("snapshot_create", required(false)),
            ("zfs.snapshot", true) => missing("ZFSSnapshotService"),
            _ => missing("CRUDService"),
        });
    };
    if params.len() > 1 {
        let text = format!("Too many arguments (expected 1, found {})", params.len());
        return Err(RpcError::invalid("", text));
    }
    let issues = if service == "pool.snapshot" { branches(data) } else { old_schema(data) };
    if !issues.is_empty() {
        return Err(RpcError::Invalid(issues));
    }
    let wanted = read(profile, data)?;
    if profile >= Profile::V26 {
        take_26(world, profile, &wanted)
    } else {
        take_before_26(world, profile, service, &wanted)
    }
}

/// 25.10 and later: the object must fit one of two models, and what is wrong is told for both.
fn branches(data: &Value) -> Vec<Issue> {
    let mut issues = Vec::new();
    for (model, own) in [("PoolSnapshotCreateWithName", "name"), ("PoolSnapshotCreateWithSchema", "naming_schema")] {
        let Value::Object(data) = data else {
            let text = format!("Input should be a valid dictionary or instance of {model}");
            issues.push(Issue::new(format!("data.{model}"), text));
            continue;
        };
        let mut here = Vec::new();
        let fields = ["dataset", "recursive", "exclude", "vmware_sync", "properties", own, "suspend_vms"];
        for field in fields {
            let text = match (field, data.get(field)) {
                ("dataset" | "name" | "naming_schema", None) => required(true).to_owned(),
                (_, None) => continue,
                ("dataset" | "name" | "naming_schema", Some(Value::String(text))) if text.is_empty() => {
                    "String should have at least 1 character".to_owned()
                }
                ("dataset" | "name" | "naming_schema", Some(Value::String(_)))
                | ("recursive" | "vmware_sync" | "suspend_vms", Some(Value::Bool(_)))
                | ("properties", Some(Value::Object(_))) => continue,
                ("exclude", Some(Value::Array(items))) if items.iter().all(Value::is_string) => continue,
                ("exclude", _) => wrong(true, Kind::List),
                ("properties", _) => wrong(true, Kind::Object),
                ("recursive" | "vmware_sync" | "suspend_vms", _) => wrong(true, Kind::Bool),
                _ => wrong(true, Kind::Text),
            };
            here.push(Issue::new(format!("data.{model}.{field}"), text));
        }
        for key in data.keys().filter(|key| !fields.contains(&key.as_str())) {
            here.push(Issue::new(format!("data.{model}.{key}"), unexpected(true)));
        }
        if here.is_empty() {
            return Vec::new();
        }
        issues.extend(here);
    }
    issues
}

/// 25.04 and earlier (and the private service of 25.10).
fn old_schema(data: &Value) -> Vec<Issue> {
    let Value::Object(data) = data else {
        return vec![Issue::new("snapshot_create", "A dict was expected")];
    };
    let mut issues = Vec::new();
    let mut add = |key: &str, text: &str| issues.push(Issue::new(format!("snapshot_create.{key}"), text));
    for (key, value) in data {
        match (key.as_str(), value) {
            ("dataset" | "name" | "naming_schema", Value::String(text)) if text.is_empty() => {
                add(key, "Empty value not allowed");
            }
            ("dataset" | "name" | "naming_schema", Value::String(_))
            | ("recursive" | "vmware_sync" | "suspend_vms", Value::Bool(_))
            | ("exclude", Value::Array(_))
            | ("properties", Value::Object(_)) => {}
            ("dataset" | "name" | "naming_schema", Value::Null) => add(key, "null not allowed"),
            ("dataset" | "name" | "naming_schema", _) => add(key, &wrong(false, Kind::Text)),
            ("recursive" | "vmware_sync" | "suspend_vms", _) => add(key, &wrong(false, Kind::Bool)),
            ("exclude", _) => add(key, &wrong(false, Kind::List)),
            ("properties", _) => add(key, &wrong(false, Kind::Object)),
            _ => add(key, unexpected(false)),
        }
    }
    if !data.contains_key("dataset") {
        add("dataset", required(false));
    }
    issues
}

/// The checks in the method's body, for all releases.
fn read(profile: Profile, data: &Value) -> Result<Wanted, RpcError> {
    let text = |key: &str| data[key].as_str().map(str::to_owned);
    let flag = |key: &str| data[key].as_bool().unwrap_or(false);
    let mut issues = Vec::new();
    let mut add = |key: &str, text: &str| issues.push(Issue::new(format!("snapshot_create.{key}"), text));
    let dataset = text("dataset").unwrap_or_default();
    let name = match (text("name"), text("naming_schema")) {
        (Some(_), Some(_)) => {
            add("naming_schema", "You can't specify name and naming schema at the same time");
            None
        }
        (Some(name), None) => Some(name),
        (None, Some(schema)) => schema_name(&schema),
        (None, None) => {
            add("naming_schema", "You must specify either name or naming schema");
            None
        }
    };
    let recursive = flag("recursive");
    let exclude: Vec<String> =
        data["exclude"].as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    if !exclude.is_empty() {
        if !recursive {
            add("exclude", "This option has no sense for non-recursive snapshots");
        }
        if flag("vmware_sync") {
            add("vmware_sync", "This option is not supported when excluding datasets");
        }
    }
    // 26 left this check out: the name goes to ZFS as it is.
    if profile < Profile::V26 && name.as_ref().is_some_and(|name| !zfs_takes(&dataset, name)) {
        add("name", "Invalid snapshot name");
    }
    match name {
        Some(name) if issues.is_empty() => Ok(Wanted { dataset, name, recursive, exclude }),
        _ => Err(RpcError::Invalid(issues)),
    }
}

/// ZFS's own rule for `dataset@name`.
fn zfs_takes(dataset: &str, name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.: ".contains(c);
    let parts_fit = dataset.split('/').all(|part| !part.is_empty() && part.chars().all(allowed));
    parts_fit && !name.is_empty() && name.chars().all(allowed) && dataset.len() + 1 + name.len() <= 255
}

fn schema_name(schema: &str) -> Option<String> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(schema, &now).ok()
}

fn targets(world: &World, wanted: &Wanted) -> Vec<String> {
    let below = format!("{}/", wanted.dataset);
    world
        .visible_datasets()
        .map(|dataset| &dataset.id)
        .filter(|id| **id == wanted.dataset || (wanted.recursive && id.starts_with(&below)))
        .filter(|id| !wanted.exclude.contains(id))
        .cloned()
        .collect()
}

fn taken(world: &World, targets: &[String], name: &str) -> Option<String> {
    let clash = |snapshot: &&Snapshot| snapshot.name == name && targets.contains(&snapshot.dataset);
    world.snapshots.iter().find(clash).map(Snapshot::id)
}

fn take_before_26(
    world: &mut World,
    profile: Profile,
    service: &str,
    wanted: &Wanted,
) -> Result<(Value, Vec<String>), RpcError> {
    let id = format!("{}@{}", wanted.dataset, wanted.name);
    let targets = targets(world, wanted);
    if !targets.contains(&wanted.dataset) {
        let text = format!("Failed to snapshot {id}: Dataset {} not found", wanted.dataset);
        return Err(RpcError::call(EFAULT, text));
    }
    if let Some(other) = taken(world, &targets, &wanted.name) {
        let text = if profile >= Profile::V25_10 {
            format!("Failed to snapshot {id}: cannot create snapshot '{other}': dataset already exists")
        } else {
            format!("Failed to snapshot {id}: dataset already exists")
        };
        return Err(RpcError::call(EEXIST, text));
    }
    let made = world.take(&targets, &wanted.name);
    Ok((get(world, profile, service, &id)?, made))
}

fn take_26(world: &mut World, profile: Profile, wanted: &Wanted) -> Result<(Value, Vec<String>), RpcError> {
    const SCHEMA: &str = "pool.snapshot.create";
    let refused = |text: String, errno: i32| {
        let issue = Issue { attribute: Some(SCHEMA.to_owned()), message: text, errno };
        RpcError::Refused { class: "ValidationError", issue }
    };
    if is_internal(&wanted.dataset) {
        return Err(refused(format!("{} is a protected path.", wanted.dataset), EACCES));
    }
    let targets = targets(world, wanted);
    if !targets.contains(&wanted.dataset) {
        let message = format!("'{}' not found", wanted.dataset);
        return Err(RpcError::Exception { class: "ZFSPathNotFoundException", message });
    }
    if taken(world, &targets, &wanted.name).is_some() {
        return Err(refused(format!("{} already exists.", wanted.name), EEXIST));
    }
    if !zfs_takes(&wanted.dataset, &wanted.name) {
        // What ZFS says here was never recorded; its number is EINVAL.
        let id = format!("{}@{}", wanted.dataset, wanted.name);
        return Err(RpcError::Call {
            class: "ZFSException",
            errno: EINVAL,
            message: format!("cannot create snapshots : invalid name '{id}'"),
        });
    }
    let made = world.take(&targets, &wanted.name);
    let id = format!("{}@{}", wanted.dataset, wanted.name);
    let Some(snapshot) = world.snapshots.iter().find(|snapshot| snapshot.id() == id) else {
        return Err(RpcError::match_not_found());
    };
    let mut row = snapshot.short_row();
    row["properties"] = snapshot.properties(profile, &["creation", "createtxg"]);
    Ok((row, made))
}
