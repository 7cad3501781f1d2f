//! Volumes and networks.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    backend::docker::{model::Labels, place},
    error::ToolError,
    redact,
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

const PROJECT: &str = "com.docker.compose.project";

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ResourceArgs {
    /// Part of the name.
    name: Option<String>,
    stack: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

impl ResourceArgs {
    fn wants(&self, name: &str, labels: &Labels) -> bool {
        let named = |part: &String| name.to_lowercase().contains(&part.to_lowercase());
        self.name.as_ref().is_none_or(named)
            && self.stack.as_ref().is_none_or(|stack| labels.get(PROJECT) == Some(stack))
    }

    fn page<T: Serialize>(&self, core: &Core, doing: &str, rows: Vec<T>) -> Result<(Vec<T>, Page), ToolError> {
        let budget = reply::row_budget(core.config.max_result_chars);
        reply::page(rows, self.limit, self.cursor.as_deref(), budget, "`name` or `stack`")
            .map_err(|problem| ToolError::invalid(doing, problem))
    }
}

/// Labels and options as they may be shown: compose's own are told by `stack`, secrets are masked.
fn shown(core: &Core, pairs: &Labels) -> Labels {
    let pairs = pairs.iter().filter(|(name, _)| !name.starts_with("com.docker.compose."));
    pairs
        .map(|(name, value)| {
            let masked = core.config.redact && (redact::secret_pair(name, value) || redact::secret_value(value));
            (name.clone(), if masked { redact::MASK.to_owned() } else { value.clone() })
        })
        .collect()
}

pub(crate) struct ListVolumes;

#[derive(Serialize, JsonSchema)]
pub(crate) struct VolumesOut {
    volumes: Vec<VolumeRow>,
    #[serde(flatten)]
    page: Page,
    /// What the engine could not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct VolumeRow {
    name: String,
    driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mountpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    options: Labels,
}

impl Tool for ListVolumes {
    const ABOUT: About = About {
        name: "docker_list_volumes",
        title: "List volumes",
        text: "List volumes with driver, mount point and stack. Neither sizes nor contents.",
        level: Level::Configure,
        toolset: Toolset::Docker,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = ResourceArgs;
    type Out = VolumesOut;
}

impl Read for ListVolumes {
    async fn read(core: Arc<Core>, _call: Call, args: ResourceArgs) -> Result<VolumesOut, ToolError> {
        const DOING: &str = "list volumes";
        let found = core.backends.docker.volumes(None).await.map_err(|fault| fault.doing(DOING, place(&core)))?;
        let rows = found.volumes.into_iter().filter(|volume| args.wants(&volume.name, &volume.labels)).map(|volume| {
            VolumeRow {
                stack: volume.labels.get(PROJECT).cloned(),
                labels: shown(&core, &volume.labels),
                options: shown(&core, &volume.options),
                name: volume.name,
                driver: volume.driver,
                mountpoint: volume.mountpoint,
                created: volume.created,
            }
        });
        let (volumes, page) = args.page(&core, DOING, rows.collect())?;
        Ok(VolumesOut { volumes, page, warnings: found.warnings })
    }
}

pub(crate) struct ListNetworks;

#[derive(Serialize, JsonSchema)]
pub(crate) struct NetworksOut {
    networks: Vec<NetworkRow>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Serialize, JsonSchema)]
struct NetworkRow {
    name: String,
    id: String,
    driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// No way out of it.
    internal: bool,
    /// Subnets, with the gateway where there is one.
    subnets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

impl Tool for ListNetworks {
    const ABOUT: About = About {
        name: "docker_list_networks",
        title: "List networks",
        text: "List networks with driver, subnets and stack; not what is attached.",
        level: Level::Configure,
        toolset: Toolset::Docker,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = ResourceArgs;
    type Out = NetworksOut;
}

impl Read for ListNetworks {
    async fn read(core: Arc<Core>, _call: Call, args: ResourceArgs) -> Result<NetworksOut, ToolError> {
        const DOING: &str = "list networks";
        let found = core.backends.docker.networks(None).await.map_err(|fault| fault.doing(DOING, place(&core)))?;
        let rows =
            found.into_iter().filter(|network| args.wants(&network.name, &network.labels)).map(|network| NetworkRow {
                stack: network.labels.get(PROJECT).cloned(),
                labels: shown(&core, &network.labels),
                subnets: network
                    .subnets
                    .iter()
                    .map(|subnet| match &subnet.gateway {
                        Some(gateway) => format!("{} via {gateway}", subnet.subnet),
                        None => subnet.subnet.clone(),
                    })
                    .collect(),
                id: network.id.get(..12).unwrap_or(&network.id).to_owned(),
                name: network.name,
                driver: network.driver,
                scope: network.scope,
                internal: network.internal,
                created: network.created,
            });
        let (networks, page) = args.page(&core, DOING, rows.collect())?;
        Ok(NetworksOut { networks, page })
    }
}
