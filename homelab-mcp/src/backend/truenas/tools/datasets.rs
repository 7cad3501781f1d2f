//! Datasets and volumes.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    backend::truenas::{client, model::Dataset, names, place, units::size},
    error::{Fault, ToolError},
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

pub(crate) struct ListDatasets;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListArgs {
    pool: Option<String>,
    /// Part of the path.
    name: Option<String>,
    r#type: Option<Kind>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Filesystem,
    Volume,
}

impl ListArgs {
    fn wants(&self, dataset: &Dataset) -> bool {
        let kind = |kind: Kind| {
            let word = if kind == Kind::Volume { "VOLUME" } else { "FILESYSTEM" };
            dataset.kind.as_deref() == Some(word)
        };
        self.pool.as_ref().is_none_or(|pool| dataset.pool == *pool)
            && self.name.as_ref().is_none_or(|part| dataset.name.to_lowercase().contains(&part.to_lowercase()))
            && self.r#type.is_none_or(kind)
    }
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    datasets: Vec<Row>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    name: String,
    pool: String,
    /// filesystem or volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_bytes: Option<u64>,
    /// `none` where it is not mounted.
    mountpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    /// Its key is not loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked: Option<bool>,
    /// With its descendants.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
    /// Without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    refquota_bytes: Option<u64>,
    /// A volume's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    volsize_bytes: Option<u64>,
}

impl Row {
    fn of(dataset: Dataset) -> Self {
        Self {
            name: dataset.name,
            pool: dataset.pool,
            r#type: dataset.kind.map(|kind| kind.to_lowercase()),
            used: dataset.used.map(size),
            available: dataset.available.map(size),
            used_bytes: dataset.used,
            available_bytes: dataset.available,
            mountpoint: dataset.mountpoint.unwrap_or_else(|| "none".to_owned()),
            encrypted: dataset.encrypted,
            // Told where it matters.
            locked: dataset.locked.filter(|_| dataset.encrypted != Some(false)),
            quota_bytes: dataset.quota,
            refquota_bytes: dataset.refquota,
            volsize_bytes: dataset.volsize,
        }
    }
}

impl Tool for ListDatasets {
    const ABOUT: About = About {
        name: "truenas_list_datasets",
        title: "List datasets",
        text: "List datasets and volumes of TrueNAS with space, mount point, encryption and quotas.",
        level: Level::Configure,
        toolset: Toolset::Truenas,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        // ZFS allows spaces in names, and so whole sentences.
        untrusted: &["datasets[].name", "datasets[].mountpoint"],
    };
    type Args = ListArgs;
    type Out = ListOut;
}

impl Read for ListDatasets {
    async fn read(core: Arc<Core>, _call: Call, args: ListArgs) -> Result<ListOut, ToolError> {
        const DOING: &str = "list datasets";
        let failed = |fault: Fault| fault.doing(DOING, place(&core));
        if let Some(pool) = &args.pool {
            names::check_dataset(pool).map_err(|problem| ToolError::invalid(DOING, problem))?;
        }
        let found = client(&core).map_err(failed)?.datasets(args.pool.as_deref()).await.map_err(failed)?;
        let rows = found.into_iter().filter(|dataset| args.wants(dataset)).map(Row::of).collect();
        let budget = reply::row_budget(core.config.max_result_chars);
        let (datasets, page) =
            reply::page(rows, args.limit, args.cursor.as_deref(), budget, "`pool`, `name` or `type`")
                .map_err(|problem| ToolError::invalid(DOING, problem))?;
        Ok(ListOut { datasets, page })
    }
}

pub(crate) struct DatasetInfo;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct InfoArgs {
    /// Full path: tank/media.
    dataset: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct InfoOut {
    #[serde(flatten)]
    row: Row,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compress_ratio: Option<f64>,
    /// Of this dataset alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_by_snapshots_bytes: Option<u64>,
    /// Datasets within it, at any depth.
    children: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readonly: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comments: Option<String>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl Tool for DatasetInfo {
    const ABOUT: About = About {
        name: "truenas_dataset_info",
        title: "Show a dataset",
        text: "One dataset of TrueNAS: space, quotas, compression, encryption, number of snapshots and of datasets within.",
        level: Level::Configure,
        toolset: Toolset::Truenas,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["comments"],
    };
    type Args = InfoArgs;
    type Out = InfoOut;

    fn subject(args: &InfoArgs) -> Option<String> {
        Some(args.dataset.clone())
    }
}

impl Read for DatasetInfo {
    async fn read(core: Arc<Core>, _call: Call, args: InfoArgs) -> Result<InfoOut, ToolError> {
        let doing = format!("show dataset `{}`", args.dataset);
        names::check_dataset(&args.dataset).map_err(|problem| ToolError::invalid(&doing, problem))?;
        let failed = |fault: Fault| fault.doing(&doing, place(&core));
        let nas = client(&core).map_err(failed)?;
        let (dataset, within) = nas.dataset(&args.dataset).await.map_err(failed)?;
        let counted = nas.snapshot_count(&args.dataset).await;
        let mut problems = Vec::new();
        let snapshots = counted.map_err(|fault| problems.push(format!("snapshots: {}", fault.with_advice()))).ok();
        Ok(InfoOut {
            compression: dataset.compression.clone(),
            compress_ratio: dataset.ratio,
            snapshots,
            used_by_snapshots_bytes: dataset.used_by_snapshots,
            children: within.len(),
            encryption_root: dataset.encryption_root.clone(),
            readonly: dataset.readonly,
            created: dataset.created.clone(),
            comments: dataset.comments.clone(),
            row: Row::of(dataset),
            problems,
        })
    }
}
