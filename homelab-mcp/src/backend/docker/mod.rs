//! The Docker Engine: containers, volumes, networks. `client` and its neighbours talk with it, `tools` is what a model
//! sees.

pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod exec;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod stats;
pub(crate) mod tools;

pub(crate) use client::Docker;
pub(crate) use tools::TOOLS;

use crate::{
    Core,
    backend::{Checked, Finding},
};

/// Where the engine is, for errors.
pub(crate) fn place(core: &Core) -> String {
    format!("docker ({})", core.backends.docker.endpoint())
}

/// What `--check` says of the engine.
pub(crate) async fn check(core: &Core) -> Checked {
    let docker = &core.backends.docker;
    let finding = Finding::of(docker.version().await, |version| {
        format!("Docker Engine {} (API {})", version.engine, version.api)
    });
    Checked { name: "docker", place: docker.endpoint().to_string(), finding }
}
