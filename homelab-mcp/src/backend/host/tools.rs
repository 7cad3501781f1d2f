//! `system_info`: the one tool of the host.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use shared::Level;

use super::model::{Sampler, SystemInfo};
use crate::{
    Core,
    backend::{Checked, Finding},
    error::{Fault, Kind, ToolError},
    reply,
    tool::{About, Call, Effect, Entry, Read, Tool, Toolset, reading},
};

pub(crate) const TOOLS: &[Entry] = &[reading::<SystemInfoTool>()];

/// CPU use is measured over this. The earlier server took a second as well.
const INTERVAL: Duration = Duration::from_secs(1);

struct SystemInfoTool;

#[derive(Deserialize, JsonSchema)]
struct Args {}

impl Tool for SystemInfoTool {
    const ABOUT: About = About {
        name: "system_info",
        title: "Host system info",
        text: "Read how the host is: CPU, load, pressure, memory, swap, uptime, file systems, temperatures, \
               network totals. For \"why is it slow?\". *_gb are GiB. No processes.",
        level: Level::Monitor,
        toolset: Toolset::System,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = Args;
    type Out = SystemInfo;
}

impl Read for SystemInfoTool {
    async fn read(core: Arc<Core>, _call: Call, _args: Args) -> Result<SystemInfo, ToolError> {
        measure(&core).await
    }
}

/// Two looks with a sleep between them. The looks are blocking calls into /proc and file systems, so they get a thread.
async fn measure(core: &Core) -> Result<SystemInfo, ToolError> {
    let crashed = |_| Fault::new(Kind::Upstream, "measuring crashed").doing("read the system's state", "this host");
    let root = core.config.host_root.clone();
    let sampler = tokio::task::spawn_blocking(move || Sampler::start(&root)).await.map_err(crashed)?;
    tokio::time::sleep(INTERVAL).await;
    tokio::task::spawn_blocking(move || sampler.finish()).await.map_err(crashed)
}

/// What `--check` says of the host.
pub(crate) async fn check(core: &Core) -> Checked {
    let finding = match measure(core).await {
        Ok(info) => Finding::Fine(format!(
            "{}: {}, {} CPUs",
            info.hostname.as_deref().unwrap_or("host name unknown"),
            reply::count(info.filesystems.len(), "file system"),
            info.cpu_count.map_or_else(|| "?".to_owned(), |count| count.to_string())
        )),
        Err(error) => Finding::Fix(error.to_string()),
    };
    Checked { name: "host", place: core.config.host_root.display().to_string(), finding }
}
