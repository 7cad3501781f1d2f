//! Which containers there are, and everything about one.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::Level;

use super::{OneContainer, no_such};
use crate::{
    Core,
    backend::docker::{
        client::Filters,
        model::{Port, Summary},
        place,
    },
    error::ToolError,
    redact,
    reply::{self, Page},
    times,
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// So many inspections are asked for side by side.
const INSPECTS_AT_ONCE: usize = 16;

pub(crate) struct ListContainers;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListArgs {
    /// Stopped ones too (default true).
    all: Option<bool>,
    state: Option<StateArg>,
    /// Part of the name.
    name: Option<String>,
    stack: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StateArg {
    Created,
    Restarting,
    Running,
    Removing,
    Paused,
    Exited,
    Dead,
}

impl StateArg {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Restarting => "restarting",
            Self::Running => "running",
            Self::Removing => "removing",
            Self::Paused => "paused",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    containers: Vec<Row>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    #[serde(skip)]
    full_id: String,
    /// The first 12 characters.
    id: String,
    name: String,
    image: String,
    /// The engine's sentence.
    status: String,
    /// The engine's word.
    state: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// `[address:]public:private/protocol`, without an address when bound to all; `private/protocol` when not published.
    ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// By the restart policy, since it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_count: Option<u64>,
}

impl Tool for ListContainers {
    const ABOUT: About = About {
        name: "docker_list_containers",
        title: "List containers",
        text: "List containers with state, health, ports ([address:]public:private), stack and restart count: \
               to find names or what keeps restarting. No resource use.",
        level: Level::Monitor,
        toolset: Toolset::Docker,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["containers[].name", "containers[].image", "containers[].stack", "containers[].service"],
    };
    type Args = ListArgs;
    type Out = ListOut;
}

impl Read for ListContainers {
    async fn read(core: Arc<Core>, _call: Call, args: ListArgs) -> Result<ListOut, ToolError> {
        let docker = &core.backends.docker;
        let filters = Filters {
            all: args.all.unwrap_or(true),
            states: args.state.map(|state| state.word().to_owned()).into_iter().collect(),
            ..Filters::default()
        };
        let found = docker.list(&filters).await.map_err(|fault| fault.doing("list containers", place(&core)))?;
        let mut found: Vec<_> = found.into_iter().filter(|container| wanted(container, &args)).collect();
        found.sort_by(|a, b| a.names.cmp(&b.names));
        // The restart count that is put in afterwards takes some room too.
        let budget = reply::row_budget(core.config.max_result_chars) * 9 / 10;
        let rows = found.iter().map(row).collect();
        let (mut kept, page) =
            reply::page(rows, args.limit, args.cursor.as_deref(), budget, "`state`, `name` or `stack`")
                .map_err(|problem| ToolError::invalid("list containers", problem))?;
        // Only an inspection tells how often a container was restarted; a page of them is asked for side by side.
        let ids: Vec<_> = kept.iter().map(|row| row.full_id.clone()).collect();
        let inspections = stream::iter(ids.into_iter().map(|id| async move { docker.resolve(&id).await }));
        let counts: Vec<_> = inspections.buffered(INSPECTS_AT_ONCE).collect().await;
        for (row, found) in kept.iter_mut().zip(counts) {
            // One that went away meanwhile has none.
            row.restart_count = found.ok().and_then(|container| container.restart_count);
        }
        Ok(ListOut { containers: kept, page })
    }
}

fn wanted(container: &Summary, args: &ListArgs) -> bool {
    let named = |part: &String| container.names.iter().any(|name| name.to_lowercase().contains(&part.to_lowercase()));
    let of_stack = |stack: &String| {
        container.compose.as_ref().is_some_and(|compose| {
            let folder = compose.working_dir.as_deref().and_then(|dir| dir.rsplit('/').next());
            compose.project == *stack || folder == Some(stack)
        })
    };
    args.name.as_ref().is_none_or(named) && args.stack.as_ref().is_none_or(of_stack)
}

fn row(container: &Summary) -> Row {
    Row {
        full_id: container.id.clone(),
        id: container.id.get(..12).unwrap_or(&container.id).to_owned(),
        name: container.names.first().cloned().unwrap_or_else(|| "unknown".to_owned()),
        image: container.image.clone(),
        status: container.status.clone(),
        state: container.state.clone(),
        created: container.created.and_then(times::rfc3339),
        ports: container.ports.iter().map(port).collect(),
        health: container.health.clone(),
        stack: container.compose.as_ref().map(|compose| compose.project.clone()),
        service: container.compose.as_ref().and_then(|compose| compose.service.clone()),
        restart_count: None,
    }
}

/// The earlier server's form, with the address where it is not everywhere.
fn port(port: &Port) -> String {
    let inner = format!("{}/{}", port.private, port.protocol);
    match (port.public, port.address.as_deref()) {
        (None, _) => inner,
        (Some(public), None | Some("*")) => format!("{public}:{inner}"),
        (Some(public), Some(address)) if address.contains(':') => format!("[{address}]:{public}:{inner}"),
        (Some(public), Some(address)) => format!("{address}:{public}:{inner}"),
    }
}

pub(crate) struct InspectContainer;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct InspectArgs {
    #[serde(flatten)]
    one: OneContainer,
    /// Such as State, Config.Env, HostConfig.Binds.
    #[schemars(length(max = 20))]
    fields: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct InspectOut {
    container: String,
    /// The engine's document.
    config: Map<String, Value>,
    /// Members that were too long, with their sizes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cut: Vec<String>,
}

impl Tool for InspectContainer {
    const ABOUT: About = About {
        name: "docker_inspect_container",
        title: "Inspect a container",
        text: "Read a container's whole configuration and state (secrets masked). It is long: name `fields`. \
               For the compose file use docker_read_compose.",
        level: Level::Configure,
        toolset: Toolset::Docker,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["config"],
    };
    type Args = InspectArgs;
    type Out = InspectOut;

    fn subject(args: &InspectArgs) -> Option<String> {
        Some(args.one.container.clone())
    }
}

impl Read for InspectContainer {
    async fn read(core: Arc<Core>, _call: Call, args: InspectArgs) -> Result<InspectOut, ToolError> {
        let name = args.one.container;
        let doing = format!("inspect container `{name}`");
        let found = core.backends.docker.inspect(&name).await;
        let mut document = found.map_err(|fault| no_such(fault).doing(&doing, place(&core)))?;
        if core.config.redact {
            redact::json(&mut document);
        }
        let Value::Object(mut config) = document else {
            return Err(ToolError::invalid(doing, "the engine's answer is no document"));
        };
        if let Some(fields) = &args.fields {
            config = chosen(&config, fields).map_err(|problem| ToolError::invalid(doing, problem))?;
        }
        let cut = fit(&mut config, reply::row_budget(core.config.max_result_chars));
        Ok(InspectOut { container: name, config, cut })
    }
}

/// The named members, each under the name it was asked by.
fn chosen(document: &Map<String, Value>, fields: &[String]) -> Result<Map<String, Value>, String> {
    let mut kept = Map::new();
    for field in fields {
        let mut path = field.split('.');
        let first = path.next().and_then(|name| document.get(name));
        match path.fold(first, |value, name| value.and_then(|value| value.get(name))) {
            Some(value) => kept.insert(field.clone(), value.clone()),
            None => {
                let valid: Vec<_> = document.keys().map(String::as_str).collect();
                return Err(format!("the document has no member `{field}`; it has {}", valid.join(", ")));
            }
        };
    }
    Ok(kept)
}

/// Leaves out the largest members until the rest fits, naming them.
fn fit(config: &mut Map<String, Value>, budget: usize) -> Vec<String> {
    let mut sizes: Vec<_> =
        config.iter().map(|(name, value)| (value.to_string().chars().count(), name.clone())).collect();
    sizes.sort_unstable();
    let mut total: usize = sizes.iter().map(|(size, name)| size + name.len() + 4).sum();
    let mut cut = Vec::new();
    while total > budget
        && let Some((size, name)) = sizes.pop()
    {
        config.shift_remove(&name);
        total -= size + name.len() + 4;
        cut.push(format!("{name}: {size} characters; ask for less of it with `fields`"));
    }
    cut
}
