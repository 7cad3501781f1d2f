//! Compose stacks: folders with a compose file below DOCKGE_STACKS_PATH, as Dockge lays them out. `stacks`, `states` and
//! `write` know the folders, `command` runs `docker compose`, `text` masks secrets in compose files, `tools` is what a
//! model sees.

mod command;
mod stacks;
mod states;
mod text;
mod tools;
mod write;

pub(crate) use command::ALLOWED;
pub(crate) use tools::TOOLS;

use crate::{
    Core,
    backend::{Checked, Finding, docker::endpoint::Endpoint},
    config::Config,
    state::State,
};

/// What the stack tools work with.
pub(crate) struct Compose {
    stacks: stacks::Stacks,
    command: command::Compose,
    masker: text::Masker,
}

impl Compose {
    pub(crate) fn new(config: &Config, state: &State, key: [u8; 32]) -> Self {
        let mut variables = config.compose_env.clone();
        let host = match &config.docker {
            // The CLI writes TLS as tcp with a variable beside it.
            Endpoint::Tls { certs, .. } => {
                variables.insert("DOCKER_TLS_VERIFY".to_owned(), "1".to_owned());
                if let Some(certs) = certs {
                    variables.insert("DOCKER_CERT_PATH".to_owned(), certs.display().to_string());
                }
                config.docker.to_string().replacen("https://", "tcp://", 1)
            }
            endpoint => endpoint.to_string(),
        };
        Self {
            stacks: stacks::Stacks::new(config.stacks_path.clone(), state.dir().map(std::path::Path::to_owned)),
            command: command::Compose::new("docker", &host, &variables),
            masker: text::Masker::new(key),
        }
    }
}

/// What `--check` says of the plugin and the folder.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let compose = &core.backends.compose;
    let plugin = Finding::of(compose.command.version().await, |version| format!("version {version}"));
    let stacks = match compose.stacks.answers(None).await {
        Ok(()) if core.config.stacks_given || core.config.stacks_path.is_dir() => {
            Finding::of(compose.stacks.list(), |listing| crate::reply::count(listing.folders.len(), "stack"))
        }
        Ok(()) => Finding::Unused("there is no such folder, and DOCKGE_STACKS_PATH names no other".to_owned()),
        Err(fault) => Finding::Fix(fault.with_advice()),
    };
    vec![
        Checked { name: "compose", place: "docker compose".to_owned(), finding: plugin },
        Checked { name: "stacks", place: core.config.stacks_path.display().to_string(), finding: stacks },
    ]
}
