//! Which stacks there are and how they are.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{ServiceRow, containers, service_rows};
use crate::{
    Core,
    backend::compose::states::{self, StackState},
    error::ToolError,
    reply::{self, Page},
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

pub(crate) struct ListStacks;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    /// Part of the name.
    name: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    stacks: Vec<Row>,
    #[serde(flatten)]
    page: Page,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    files: Vec<String>,
    project: String,
    /// running, partial, exited, created, down (no containers), orphaned (its folder is gone); absent when the engine
    /// does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    running: usize,
    total: usize,
    /// Its folder is in the stacks folder, so the stack tools work on it.
    managed: bool,
    services: Vec<ServiceRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Tool for ListStacks {
    const ABOUT: About = About {
        name: "docker_list_stacks",
        title: "List compose stacks",
        text: "List compose stacks with folder, services and state: the names for the other stack tools. \
               managed=false can only be looked at.",
        level: Level::Monitor,
        toolset: Toolset::Compose,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["stacks[].name", "stacks[].project", "stacks[].services"],
    };
    type Args = Args;
    type Out = Out;
}

impl Read for ListStacks {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        const DOING: &str = "list stacks";
        let mut notes = Vec::new();
        let stacks = &core.backends.compose.stacks;
        let listing = stacks.answers(None).await.and_then(|()| stacks.list());
        let read = listing.is_ok();
        let containers = containers(&core).await;
        let (folders, labels) = match (listing, containers) {
            (Err(fault), Err(_)) => return Err(fault.doing(DOING, super::place(&core))),
            (listing, containers) => {
                let folders = match listing {
                    Ok(listing) => {
                        notes.extend(listing.notes);
                        listing.folders
                    }
                    Err(fault) => {
                        notes.push(fault.with_advice());
                        Vec::new()
                    }
                };
                let labels =
                    containers.map_err(|fault| notes.push(format!("states are unknown: {}", fault.with_advice())));
                (folders, labels.ok())
            }
        };
        let known = labels.is_some();
        let labels: Vec<_> = labels.into_iter().flatten().filter_map(|(_, labels)| labels).collect();
        // A folder that hangs is not looked into.
        let states =
            if read { stacks.states(&folders, &labels) } else { states::states(&[stacks.root()], &folders, &labels) };
        let named = |state: &StackState| {
            args.name.as_ref().is_none_or(|part| state.name.to_lowercase().contains(&part.to_lowercase()))
        };
        let rows = states.into_iter().filter(named).map(|state| Row {
            state: known.then(|| state.state.as_str().to_owned()),
            services: service_rows(&state.services),
            folder: state.folder.as_ref().map(|folder| folder.display().to_string()),
            name: state.name,
            files: state.files,
            project: state.project,
            running: state.running,
            total: state.total,
            managed: state.managed,
            notes: state.notes,
        });
        let budget = reply::row_budget(core.config.max_result_chars);
        let (stacks, page) = reply::page(rows.collect(), args.limit, args.cursor.as_deref(), budget, "`name`")
            .map_err(|problem| ToolError::invalid(DOING, problem))?;
        Ok(Out { stacks, page, notes })
    }
}
