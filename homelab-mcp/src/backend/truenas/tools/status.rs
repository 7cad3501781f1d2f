//! How the system and its pools are. What one part cannot say leaves the others.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    backend::truenas::{
        client,
        model::{self, Dataset, Pool, Vdev},
        place,
        units::{percent, rounded, size},
    },
    error::{Fault, ToolError},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// Disks and groups shown of one pool; a shelf that lost its cable has many.
const SHOWN: usize = 40;

pub(crate) struct Status;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    /// As the appliance writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The number in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Whole hours: `12h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    /// Memory with error correction.
    #[serde(skip_serializing_if = "Option::is_none")]
    ecc: Option<bool>,
    pools: Vec<PoolRow>,
    /// Parts that could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct PoolRow {
    name: String,
    /// ONLINE, DEGRADED, …; OFFLINE: exported or locked.
    status: String,
    /// The system starts from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    boot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthy: Option<bool>,
    /// Wants attention though it may be ONLINE and healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_bytes: Option<u64>,
    /// Sizes are of the raw disks, parity included.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    raw: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<ScanRow>,
    /// Of all disks together.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Errors>,
    /// Disks and groups that are not ONLINE or have errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bad: Vec<BadRow>,
}

#[derive(Serialize, JsonSchema)]
struct ScanRow {
    /// SCRUB or RESILVER.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Errors {
    read: u64,
    write: u64,
    checksum: u64,
}

#[derive(Serialize, JsonSchema)]
struct BadRow {
    name: String,
    state: String,
    #[serde(flatten)]
    errors: Errors,
}

impl PoolRow {
    /// `root` is the pool's own dataset.
    fn of(pool: Pool, root: Option<&Dataset>, boot: bool) -> Self {
        let known = root.and_then(|root| Some((root.used?, root.available?)));
        let disks = pool.size.and_then(|size| Some((pool.allocated?, size.saturating_sub(pool.allocated?))));
        let space = known.or(disks);
        let vdevs = pool.vdevs.unwrap_or_default();
        Self {
            name: pool.name,
            status: pool.status,
            boot,
            healthy: pool.healthy,
            warning: pool.warning,
            status_detail: pool.detail,
            used_percent: space.and_then(|(used, free)| percent(used, used.saturating_add(free))),
            used: space.map(|(used, _)| size(used)),
            available: space.map(|(_, free)| size(free)),
            used_bytes: space.map(|(used, _)| used),
            available_bytes: space.map(|(_, free)| free),
            raw: known.is_none() && disks.is_some(),
            scan: pool.scan.map(|scan| ScanRow {
                function: scan.function,
                state: scan.state,
                percent: scan.percent.map(rounded),
                errors: scan.errors,
                ended: scan.ended,
                seconds_left: scan.seconds_left,
            }),
            errors: (!vdevs.is_empty()).then(|| total(&vdevs)),
            bad: vdevs
                .into_iter()
                .filter(Vdev::is_bad)
                .take(SHOWN)
                .map(|vdev| BadRow {
                    errors: Errors { read: vdev.read, write: vdev.write, checksum: vdev.checksum },
                    name: vdev.name,
                    state: vdev.state,
                })
                .collect(),
        }
    }
}

/// Of the disks alone: what a group could not repair is counted at its disks too.
fn total(vdevs: &[Vdev]) -> Errors {
    let leaves = vdevs.iter().filter(|vdev| vdev.leaf);
    leaves.fold(Errors::default(), |sum, vdev| Errors {
        read: sum.read.saturating_add(vdev.read),
        write: sum.write.saturating_add(vdev.write),
        checksum: sum.checksum.saturating_add(vdev.checksum),
    })
}

impl Tool for Status {
    const ABOUT: About = About {
        name: "truenas_status",
        title: "TrueNAS status",
        text: "TrueNAS version, uptime and pools, the boot pool too: health, usable space, scrub or resilver, errors, bad \
               disks.",
        level: Level::Monitor,
        toolset: Toolset::Truenas,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = Args;
    type Out = Out;
}

impl Read for Status {
    async fn read(core: Arc<Core>, _call: Call, _args: Args) -> Result<Out, ToolError> {
        let failed = |fault: Fault| fault.doing("read the status", place(&core));
        let nas = client(&core).map_err(failed)?;
        // So that an appliance that is away is asked once and not four times.
        nas.api().await.map_err(failed)?;
        let (info, pools, boot, roots) = tokio::join!(nas.info(), nas.pools(), nas.boot_pool(), nas.root_datasets());
        if let (Err(fault), Err(_), Err(_)) = (&info, &pools, &boot) {
            return Err(failed(fault.clone()));
        }
        let mut problems = Vec::new();
        let mut part = |name: &str, fault: Fault| problems.push(format!("{name}: {}", fault.with_advice()));
        let info = info.unwrap_or_else(|fault| {
            part("system", fault);
            model::Info::default()
        });
        let pools = pools.unwrap_or_else(|fault| {
            part("pools", fault);
            Vec::new()
        });
        let boot = boot.unwrap_or_else(|fault| {
            part("boot pool", fault);
            None
        });
        let roots = roots.unwrap_or_else(|fault| {
            part("usable space", fault);
            Vec::new()
        });
        let row = |pool: Pool| {
            let root = roots.iter().find(|dataset| dataset.name == pool.name);
            PoolRow::of(pool, root, false)
        };
        let mut rows: Vec<_> = pools.into_iter().map(row).collect();
        rows.extend(boot.map(|pool| PoolRow::of(pool, None, true)));
        Ok(Out {
            release: info.version.as_deref().and_then(model::release).map(str::to_owned),
            version: info.version,
            hostname: info.hostname,
            model: info.model,
            uptime: info.uptime_seconds.map(|seconds| format!("{}h", seconds / 3600)),
            uptime_seconds: info.uptime_seconds,
            ecc: info.ecc,
            pools: rows,
            problems,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(pool: serde_json::Value, root: serde_json::Value) -> serde_json::Value {
        let roots = Dataset::all(&json!([root]));
        serde_json::to_value(PoolRow::of(Pool::of(&pool).unwrap(), roots.first(), false)).unwrap()
    }

    #[test]
    fn space_is_the_root_datasets_and_the_disks_only_where_it_is_unknown() {
        let pool =
            json!({"name": "t", "status": "ONLINE", "healthy": true, "warning": true, "size": 1000, "allocated": 900});
        let root = json!({"id": "t", "used": {"parsed": 300}, "available": {"parsed": 100}});
        assert_eq!(
            row(pool.clone(), root),
            json!({
                "name": "t", "status": "ONLINE", "healthy": true, "warning": true, "used_percent": 75.0, "used": "300 B",
                "available": "100 B", "used_bytes": 300, "available_bytes": 100,
            })
        );
        let unknown = row(pool, json!({"id": "t", "used": {"parsed": "-"}}));
        assert_eq!((&unknown["used_percent"], &unknown["raw"]), (&json!(90.0), &json!(true)));
        let exported = json!({"name": "t", "status": "OFFLINE", "healthy": false, "size": null, "topology": null});
        assert_eq!(row(exported, json!(null)), json!({"name": "t", "status": "OFFLINE", "healthy": false}));
    }

    #[test]
    fn errors_are_counted_once() {
        let disk = json!({"name": "x", "disk": "sda", "status": "ONLINE", "children": [], "stats": {"read_errors": 3}});
        let group = json!({"name": "mirror-0", "status": "ONLINE", "children": [disk], "stats": {"read_errors": 3}});
        let told = row(json!({"name": "t", "status": "ONLINE", "topology": {"data": [group]}}), json!(null));
        assert_eq!(told["errors"], json!({"read": 3, "write": 0, "checksum": 0}));
        assert_eq!(told["bad"][1], json!({"name": "sda", "state": "ONLINE", "read": 3, "write": 0, "checksum": 0}));
    }
}
