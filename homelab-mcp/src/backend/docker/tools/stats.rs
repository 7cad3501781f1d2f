//! What containers use.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::find;
use crate::{
    Core,
    backend::docker::{client::Filters, model::Container, place, stats::Stats},
    error::ToolError,
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// The engine takes a second or two for each; so many are asked side by side.
const AT_ONCE: usize = 32;

pub(crate) struct ContainerStats;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct StatsArgs {
    container: Option<String>,
    /// Several; with neither, all that run.
    #[schemars(length(min = 1, max = 200))]
    containers: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct StatsOut {
    #[serde(flatten)]
    one: Option<Row>,
    /// When several were asked for, the busiest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<Row>>,
    #[serde(flatten)]
    page: Option<Page>,
}

#[derive(Clone, Default, Serialize, JsonSchema)]
struct Row {
    container: String,
    state: String,
    /// 100 is one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    /// MiB, without the page cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_usage_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    /// MiB since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_rx_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_tx_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_read_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_write_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<u64>,
    /// Why there are no numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Tool for ContainerStats {
    const ABOUT: About = About {
        name: "docker_container_stats",
        title: "Container resource use",
        text: "Measure CPU (100 is one CPU), memory, network, disk I/O and processes of containers over a \
               second: what makes the host slow.",
        level: Level::Monitor,
        toolset: Toolset::Docker,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = StatsArgs;
    type Out = StatsOut;

    fn subject(args: &StatsArgs) -> Option<String> {
        args.container.clone()
    }
}

impl Read for ContainerStats {
    async fn read(core: Arc<Core>, _call: Call, args: StatsArgs) -> Result<StatsOut, ToolError> {
        const DOING: &str = "measure container";
        let docker = &core.backends.docker;
        if let Some(name) = &args.container {
            if args.containers.is_some() {
                return Err(ToolError::invalid(format!("{DOING} `{name}`"), "give either `container` or `containers`"));
            }
            let container = find(&core, name, DOING).await?;
            let row = measure(&core, &container)
                .await
                .map_err(|fault| fault.doing(format!("{DOING} `{name}`"), place(&core)))?;
            return Ok(StatsOut { one: Some(row), containers: None, page: None });
        }
        let names = match args.containers {
            Some(names) => names,
            None => {
                let running = docker.list(&Filters::default()).await;
                let running = running.map_err(|fault| fault.doing("list running containers", place(&core)))?;
                running.into_iter().map(|container| container.id).collect()
            }
        };
        let core = &core;
        let measured = stream::iter(names.into_iter().map(|name| async move {
            let found = match docker.resolve(&name).await {
                Ok(container) => measure(core, &container).await,
                Err(fault) => Err(fault),
            };
            // One that went away does not cost the others' numbers.
            found.unwrap_or_else(|fault| Row {
                container: name,
                state: "unknown".to_owned(),
                note: Some(fault.to_string()),
                ..Row::default()
            })
        }));
        let mut rows: Vec<_> = measured.buffer_unordered(AT_ONCE).collect().await;
        rows.sort_by(|a, b| {
            b.cpu_percent
                .unwrap_or(-1.0)
                .total_cmp(&a.cpu_percent.unwrap_or(-1.0))
                .then_with(|| a.container.cmp(&b.container))
        });
        let budget = reply::row_budget(core.config.max_result_chars);
        let (rows, mut page) = reply::page(rows, None, None, budget, "`containers`")
            .map_err(|problem| ToolError::invalid(DOING, problem))?;
        // The numbers are taken anew with every call, so there is no next page of these.
        if page.next_cursor.take().is_some() {
            page.hint = Some(format!(
                "{} less busy ones are left out; name those you want in `containers`",
                page.total - page.returned
            ));
        }
        Ok(StatsOut { one: None, containers: Some(rows), page: Some(page) })
    }
}

async fn measure(core: &Core, container: &Container) -> Result<Row, crate::error::Fault> {
    let mut row = Row { container: container.name.clone(), state: container.state.status.clone(), ..Row::default() };
    match core.backends.docker.stats(container).await? {
        Some(stats) => fill(&mut row, &stats),
        None => row.note = Some("it does not run, so it uses nothing".to_owned()),
    }
    Ok(row)
}

fn fill(row: &mut Row, stats: &Stats) {
    let hundredths = |value: f64| (value * 100.0).round() / 100.0;
    let mib = |bytes: Option<u64>| bytes.map(|bytes| hundredths(bytes as f64 / (1024.0 * 1024.0)));
    row.cpu_percent = stats.cpu_percent.map(hundredths);
    row.memory_usage_mb = mib(stats.memory_bytes);
    row.memory_limit_mb = mib(stats.memory_limit_bytes);
    row.memory_percent = stats.memory_percent.map(hundredths);
    row.network_rx_mb = mib(stats.network_rx_bytes);
    row.network_tx_mb = mib(stats.network_tx_bytes);
    row.block_read_mb = mib(stats.block_read_bytes);
    row.block_write_mb = mib(stats.block_write_bytes);
    row.pids = stats.pids;
}
