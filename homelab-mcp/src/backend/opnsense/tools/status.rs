//! `opnsense_status`: how the firewall is.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    backend::opnsense::{
        client,
        look::{self, Look, Problem},
        model::{self, Disk, Gateway, Notice, Service, Updates},
        place,
    },
    error::ToolError,
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

const DOING: &str = "read the firewall's status";

pub(crate) struct Status;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    /// Default all.
    services: Option<Which>,
    /// Services per page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Which {
    All,
    Stopped,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    /// `26.7.2 (Nickname)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<Updates>,
    /// `12 days, 03:04:05`.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    /// 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_average: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    /// With `memory_arc_bytes`, ZFS's cache, which is given back when needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_arc_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disks: Option<Vec<Disk>>,
    /// online, degraded, unknown.
    gateway_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<Vec<Gateway>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notices: Option<Vec<Notice>>,
    /// Parts that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<Row>>,
    /// Of the services.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    page: Option<Page>,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    id: String,
    name: String,
    /// running, stopped, unknown.
    status: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    locked: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

impl From<Service> for Row {
    fn from(service: Service) -> Self {
        Self {
            status: service.status(),
            id: service.id,
            name: service.name,
            locked: service.locked,
            description: service.description,
        }
    }
}

impl Tool for Status {
    const ABOUT: About = About {
        name: "opnsense_status",
        title: "OPNsense status",
        text: "Read the OPNsense firewall: version, updates, uptime, CPU, memory, disks, gateways (loss, delay), \
               notices, services. `problems` says what could not be read and why.",
        level: Level::Monitor,
        toolset: Toolset::Opnsense,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["services[].description", "gateways[].name", "notices[].message", "problems[].error"],
    };
    type Args = Args;
    type Out = Out;
}

impl Read for Status {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        let failed = |fault: crate::error::Fault| fault.doing(DOING, place(&core));
        let client = client(&core).map_err(failed)?;
        let Look { version, updates, uptime, cpu_percent, memory, disks, gateways, services, notices, problems } =
            look::look(client).await.map_err(failed)?;
        let (gateway_status, gateways) = match gateways {
            Some(gateways) => (gateways.overall, Some(gateways.rows)),
            None => ("unknown", None),
        };
        let mut out = Out {
            version,
            updates,
            uptime: uptime.seconds.map(model::uptime_text),
            uptime_seconds: uptime.seconds,
            cpu_percent,
            load_average: uptime.load.map(Vec::from),
            memory_percent: memory.as_ref().and_then(model::Memory::percent),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.as_ref().and_then(|memory| memory.total),
            memory_arc_bytes: memory.as_ref().and_then(|memory| memory.arc),
            disks,
            gateway_status,
            gateways,
            notices,
            problems,
            services: None,
            page: None,
        };
        if let Some(services) = services {
            let stopped = args.services == Some(Which::Stopped);
            let rows: Vec<Row> = services
                .into_iter()
                .filter(|service| !stopped || service.running != Some(true))
                .map(Row::from)
                .collect();
            // What stands around the services takes its room first.
            let around = serde_json::to_string(&out).map_or(0, |text| text.chars().count());
            let budget = reply::row_budget(core.config.max_result_chars).saturating_sub(around);
            let (kept, page) = reply::page(rows, args.limit, args.cursor.as_deref(), budget, "`services`: stopped")
                .map_err(|problem| ToolError::invalid(DOING, problem))?;
            out.services = Some(kept);
            out.page = Some(page);
        }
        Ok(out)
    }
}
