//! The tools of compose stacks, and what several of them need.

mod down;
mod list;
mod read;
mod up;
mod write;

use std::collections::HashMap;

use serde::Serialize;

use super::{
    command,
    stacks::{self, Folder, Stack},
    states::{ContainerLabels, Identity, Service, StackState},
};
use crate::{
    Core,
    backend::docker::{self, client::Filters, model::Summary},
    error::{Fault, Kind, ToolError},
    operations::Running,
    target::Target,
    tool::{Entry, Outcome, changing, reading},
};

pub(crate) const TOOLS: &[Entry] = &[
    reading::<list::ListStacks>(),
    reading::<read::ReadCompose>(),
    changing::<write::WriteCompose>(),
    changing::<up::ComposeUp>(),
    changing::<down::ComposeDown>(),
];

/// How long `docker compose` gets to end in order when the program must.
const LAST_GRACE: std::time::Duration = std::time::Duration::from_millis(800);

/// Where the stacks are, for errors.
fn place(core: &Core) -> String {
    format!("stacks ({})", core.config.stacks_path.display())
}

/// A stack that holds the container we run in would end us halfway.
fn not_ourselves(found: &Found) -> Result<(), Fault> {
    found.own().try_for_each(|row| docker::tools::not_ourselves(&row.id))
}

/// Without the values of the stack's env files: compose quotes them in some of its errors, and a text that a caller proposes
/// can make it do so.
fn without_env_values(core: &Core, stack: &Stack, text: &str) -> String {
    if !core.config.redact {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    for value in core.backends.compose.stacks.env_values(stack) {
        text = text.replace(&value, crate::redact::MASK);
    }
    crate::redact::mask_text(&text).into_owned()
}

/// The same for a fault.
fn quiet(core: &Core, stack: &Stack, fault: Fault) -> Fault {
    Fault { cause: without_env_values(core, stack, &fault.cause), ..fault }
}

/// Words a failure about one stack.
fn failed(core: &Core, doing: &str, stack: &str) -> impl FnOnce(Fault) -> ToolError {
    let (action, place) = (format!("{doing} `{stack}`"), place(core));
    move |fault| {
        let fault = if fault.kind == Kind::NotFound && fault.hint.is_none() {
            fault.hint("Call docker_list_stacks for the names of stacks.")
        } else {
            fault
        };
        fault.doing(action, place)
    }
}

/// Finds a stack by its checked name.
async fn find(core: &Core, name: &str) -> Result<Stack, Fault> {
    let (stacks, name) = (&core.backends.compose.stacks, stacks::name(name)?);
    stacks.answers(Some(&name)).await?;
    let stack = stacks.find(&name)?;
    match &stack.inoperable {
        Some(why) => Err(Fault::new(Kind::Conflict, why.clone())),
        None => Ok(stack),
    }
}

/// All containers, with compose's labels read.
async fn containers(core: &Core) -> Result<Vec<(Summary, Option<ContainerLabels>)>, Fault> {
    let all = core.backends.docker.list(&Filters { all: true, ..Filters::default() }).await?;
    Ok(all
        .into_iter()
        .map(|row| {
            let labels: HashMap<_, _> = row.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let name = row.names.first().map_or("", String::as_str);
            let labels = ContainerLabels::from_row(name, &row.image, &row.state, &row.status, &labels);
            (row, labels)
        })
        .collect())
}

/// A stack with what runs of it now.
struct Found {
    state: StackState,
    /// Every container of the host: a compose file can claim the name of one that is not its own.
    all: Vec<Summary>,
}

impl Found {
    /// Looks at the engine for the containers of this folder.
    async fn of(core: &Core, stack: &Stack) -> Result<Self, Fault> {
        let containers = containers(core).await?;
        let labels: Vec<_> = containers.iter().filter_map(|(_, labels)| labels.clone()).collect();
        // Called by another name it is the same folder; lists leave such names out.
        let folder = Folder { alias: None, ..Folder::clone(stack) };
        let states = core.backends.compose.stacks.states(std::slice::from_ref(&folder), &labels);
        let state = states
            .into_iter()
            .find(|state| state.managed && state.name == folder.name)
            .ok_or_else(|| Fault::new(Kind::Conflict, "its containers cannot be told from those of other stacks"))?;
        Ok(Self { state, all: containers.into_iter().map(|(row, _)| row).collect() })
    }

    /// Its containers.
    fn own(&self) -> impl Iterator<Item = &Summary> {
        let names: Vec<_> = self.state.services.iter().flat_map(|service| &service.containers).collect();
        self.all.iter().filter(move |row| row.names.iter().any(|name| names.contains(&name)))
    }

    /// The stack and every container that a change to it touches: those it has, and those whose names the compose file
    /// claims.
    fn targets(&self, stack: &Stack, config: Option<&command::Config>) -> Vec<Target> {
        let mut main = Target::new("stack", &stack.name, stack.dir.display().to_string())
            .state(self.state.state.as_str())
            .alias("stack", &self.state.project);
        if let Some(alias) = &stack.alias {
            main = main.alias("stack", alias);
        }
        let mut claimed = Vec::new();
        if let Some(config) = config {
            main = main.alias("stack", &config.project);
            claimed.extend(config.services().into_iter().filter_map(|service| service.container_name));
            // A container that does not exist yet can be protected by name all the same.
            for name in &claimed {
                main = main.alias("docker", name);
            }
            for service in config.services().into_iter().filter(|service| service.container_name.is_none()) {
                main = main.alias("docker", format!("{}-{}-1", config.project, service.service));
            }
        }
        let mut targets = vec![main];
        let own: Vec<_> = self.own().map(|row| &row.id).collect();
        let of_project = |row: &Summary| {
            let project = row.compose.as_ref().map(|compose| &compose.project);
            config.is_some_and(|config| project == Some(&config.project))
        };
        let touched = self.all.iter().filter(|row| {
            own.contains(&&row.id) || of_project(row) || row.names.iter().any(|name| claimed.contains(name))
        });
        targets.extend(touched.map(|row| {
            let name = row.names.first().map_or(row.id.as_str(), String::as_str);
            let mut target = Target::new("docker", name, &row.id).state(&row.state);
            for other in row.names.iter().skip(1) {
                target = target.alias("docker", other);
            }
            if let Some(compose) = &row.compose {
                target = target.alias("stack", &compose.project);
            }
            target
        }));
        targets
    }
}

/// A service in a result.
#[derive(Serialize, schemars::JsonSchema)]
struct ServiceRow {
    service: String,
    /// The containers' common state, or `mixed`.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    containers: Vec<String>,
    image: String,
}

fn service_rows(services: &[Service]) -> Vec<ServiceRow> {
    let rows = services.iter().map(|service| ServiceRow {
        service: service.service.clone(),
        state: service.state.clone(),
        health: service.health.clone(),
        containers: service.containers.clone(),
        image: service.image.clone(),
    });
    rows.collect()
}

/// Waits for `docker compose`, whose output goes to whoever follows; when the program must end, ends it in order rather than leaving it behind unseen.
async fn finished(running: &Running, process: &command::Running) -> Result<command::Done, command::Failed> {
    log::debug!("docker compose runs as process {}", process.pid);
    tokio::select! {
        ended = process.wait() => ended,
        () = running.abandoned() => process.terminate(LAST_GRACE).await,
    }
}

/// How a `docker compose` that did not end well is answered.
fn broken_off(core: &Core, doing: &str, stack: &Stack, failure: command::Failed) -> (Outcome, String) {
    let outcome = if failure.terminated { Outcome::Unknown } else { Outcome::Failed };
    let error = failed(core, doing, &stack.name)(quiet(core, stack, failure.fault));
    (outcome, format!("{error} What was done until then stays; docker_list_stacks says how it is now."))
}

/// The newest of the output that fits an answer; `dropped` bytes before it were not kept at all.
fn output(core: &Core, stack: &Stack, text: &str, dropped: u64) -> Option<String> {
    let masked = without_env_values(core, stack, text);
    let (newest, _) = crate::reply::newest(masked.trim_end(), core.config.max_result_chars / 4);
    let left_out = dropped + (masked.trim_end().len() - newest.len()) as u64;
    match (newest.is_empty(), left_out) {
        (true, _) => None,
        (false, 0) => Some(newest.to_owned()),
        (false, left_out) => Some(format!("[{left_out} bytes before this left out]\n{newest}")),
    }
}

/// Who a project's containers are, to see whether a change changed any.
fn fingerprint(found: &Found) -> Vec<(String, String)> {
    let mut rows: Vec<_> = found.own().map(|row| (row.id.clone(), row.state.clone())).collect();
    rows.sort();
    rows
}

/// How compose has to be called for the containers that are there.
fn identity(found: &Found) -> &Identity {
    &found.state.identity
}

/// The engine is asked for containers; its failures name it.
fn engine_failed(core: &Core, doing: &str, stack: &str) -> impl FnOnce(Fault) -> ToolError {
    let (action, place) = (format!("{doing} `{stack}`"), docker::place(core));
    move |fault| fault.doing(action, place)
}
