//! The tools of the Docker Engine, by what they are about, and what several of them need.

mod containers;
mod exec;
mod lifecycle;
mod logs;
mod resources;
mod stats;

use std::{path::Path, sync::LazyLock};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{client::Filters, model::Container, place};
use crate::{
    Core,
    error::{Fault, Kind, ToolError},
    reply,
    target::Target,
    tool::{Entry, changing, reading},
};

pub(crate) const TOOLS: &[Entry] = &[
    reading::<containers::ListContainers>(),
    reading::<containers::InspectContainer>(),
    reading::<logs::ContainerLogs>(),
    reading::<stats::ContainerStats>(),
    reading::<resources::ListVolumes>(),
    reading::<resources::ListNetworks>(),
    changing::<lifecycle::StartContainer>(),
    changing::<lifecycle::StopContainer>(),
    changing::<lifecycle::RestartContainer>(),
    changing::<exec::Exec>(),
];

/// The argument of tools about one container.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OneContainer {
    container: String,
}

/// Finds a container by any of its names, wording the failure.
async fn find(core: &Core, name: &str, doing: &str) -> Result<Container, ToolError> {
    let docker = &core.backends.docker;
    let mut found = docker.resolve(name).await;
    if let Err(fault) = &mut found
        && fault.kind == Kind::NotFound
        && let Ok(all) = docker.list(&Filters { all: true, ..Filters::default() }).await
    {
        let names = all.iter().filter_map(|row| row.names.first().map(String::as_str));
        fault.hint = reply::did_you_mean(name, names).map(|meant| format!("{meant} {VALID_NAMES}"));
    }
    found.map_err(|fault| no_such(fault).doing(format!("{doing} `{name}`"), place(core)))
}

const VALID_NAMES: &str = "Call docker_list_containers for valid names.";

fn no_such(fault: Fault) -> Fault {
    if fault.kind == Kind::NotFound && fault.hint.is_none() { fault.hint(VALID_NAMES) } else { fault }
}

/// A container as the gate judges it: under its name, its id, and the stack that would redefine it.
fn target(container: &Container) -> Target {
    let mut target = Target::new("docker", &container.name, &container.id).state(&container.state.status);
    if let Some(compose) = &container.compose {
        target = target.alias("stack", &compose.project);
        let folder = compose.working_dir.as_deref().and_then(|dir| Path::new(dir).file_name()?.to_str());
        if let Some(folder) = folder {
            target = target.alias("stack", folder);
        }
    }
    target
}

/// Changing the container that this program runs in would end the call before it could answer.
pub(crate) fn not_ourselves(id: &str) -> Result<(), Fault> {
    static OURS: LazyLock<Option<String>> = LazyLock::new(|| {
        // Docker mounts the container's own files from a folder that is named for the container.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let path = mounts.lines().find_map(|line| {
            line.split(' ').find(|word| word.ends_with("/hostname") && word.contains("/containers/"))
        })?;
        path.split('/').find(|part| part.len() == 64).map(str::to_owned)
    });
    if OURS.as_deref() == Some(id) {
        return Err(Fault::new(Kind::Conflict, "this is the container that homelab-mcp itself runs in")
            .hint("Ask its operator to do it."));
    }
    Ok(())
}
