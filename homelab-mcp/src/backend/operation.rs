//! `operation_status`: what became of changes that outlasted their calls.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    error::{Fault, Kind, ToolError},
    operations::Row,
    tool::{About, Call, Effect, Entry, Read, Tool, Toolset, reading},
};

pub(crate) const TOOLS: &[Entry] = &[reading::<OperationStatus>()];

struct OperationStatus;

#[derive(Deserialize, JsonSchema)]
struct Args {
    /// From a `running` answer; without it, all are listed.
    operation: Option<String>,
    #[schemars(range(min = 0, max = 600))]
    wait_seconds: Option<u16>,
}

#[derive(Serialize, JsonSchema)]
struct Out {
    operations: Vec<Row>,
}

impl Tool for OperationStatus {
    const ABOUT: About = About {
        name: "operation_status",
        title: "Follow a running operation",
        text: "Say how far a change is that answered `running`, and how it ended, with its newest output and result.",
        level: Level::Monitor,
        toolset: Toolset::Core,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["operations[].output", "operations[].message", "operations[].result"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        args.operation.clone()
    }
}

impl Read for OperationStatus {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        let Some(id) = args.operation else { return Ok(Out { operations: core.operations.rows() }) };
        let wait = Duration::from_secs(args.wait_seconds.unwrap_or(0).into());
        match core.operations.status(&id, wait).await {
            Some(row) => Ok(Out { operations: vec![row] }),
            None => Err(Fault::new(Kind::NotFound, "no operation has this id")
                .hint("Operations are known for seven days; read the state of the object instead.")
                .doing(format!("tell about operation `{id}`"), "")),
        }
    }
}
