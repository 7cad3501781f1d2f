//! Bringing a stack up.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{
    Found, ServiceRow, broken_off, engine_failed, failed, find, fingerprint, finished, identity, not_ourselves, output,
    quiet, service_rows, without_env_values,
};
use crate::{
    Core,
    backend::compose::stacks::Stack,
    error::ToolError,
    operations::Running,
    proof::Proof,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

/// A process that cannot start properly is mostly gone within this.
const SETTLE: Duration = Duration::from_millis(1500);

pub(crate) struct ComposeUp;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    stack: String,
}

#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct Out {
    stack: String,
    /// As docker_list_stacks has it, read back afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceRow>,
    /// What docker compose printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

pub(crate) struct Plan {
    stack: Stack,
    before: Found,
    notes: Vec<String>,
}

impl Tool for ComposeUp {
    const ABOUT: About = About {
        name: "docker_compose_up",
        title: "Bring a stack up",
        text: "Create and start a stack's containers as its compose file says, pulling images; recreates what \
               changed, removes services gone from the file.",
        level: Level::Manage,
        toolset: Toolset::Compose,
        worst: Effect::Change,
        idempotent: true,
        open_world: true,
        untrusted: &["output"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        Some(args.stack.clone())
    }
}

impl Change for ComposeUp {
    type Plan = Plan;

    fn known(args: &Args) -> Out {
        Out { stack: args.stack.clone(), ..Out::default() }
    }

    async fn resolve(core: &Core, _call: &Call, args: &Args) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "bring up stack";
        let stack = find(core, &args.stack).await.map_err(failed(core, DOING, &args.stack))?;
        let before = Found::of(core, &stack).await.map_err(engine_failed(core, DOING, &args.stack))?;
        let config = core.backends.compose.command.config(&stack, identity(&before)).await;
        let config = config.map_err(|fault| failed(core, DOING, &args.stack)(quiet(core, &stack, fault)))?;
        not_ourselves(&before).map_err(failed(core, DOING, &args.stack))?;
        let services: Vec<_> = config.services().into_iter().map(|service| service.service).collect();
        let gone: Vec<_> = before
            .state
            .services
            .iter()
            .map(|service| service.service.as_str())
            .filter(|name| !services.iter().any(|of| of == name))
            .collect();
        let removed = if gone.is_empty() {
            String::new()
        } else {
            format!(
                " Containers of {} go if the file no longer has them (it may only have switched them off by a profile).",
                gone.join(", ")
            )
        };
        let mut notes = before.state.notes.clone();
        notes.extend(config.warnings.iter().map(|warning| without_env_values(core, &stack, warning)));
        Ok(Resolved {
            targets: before.targets(&stack, Some(&config)),
            effect: Effect::Change,
            summary: format!(
                "Bring up stack {} ({}): {}.{removed}",
                args.stack,
                before.state.state.as_str(),
                services.join(", ")
            ),
            detail: (!notes.is_empty()).then(|| notes.join("\n")),
            unchanged: None,
            plan: Plan { stack, before, notes },
        })
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: Args,
    ) -> Result<Done<Out>, ToolError> {
        const DOING: &str = "bring up stack";
        let compose = &core.backends.compose;
        let lines = running.clone();
        let process =
            compose.command.up(proof.change(), &plan.stack, identity(&plan.before), move |line| lines.say(line));
        let process = process.map_err(failed(&core, DOING, &args.stack))?;
        let ended = finished(&running, &process).await;
        if ended.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
        let after = Found::of(&core, &plan.stack).await;
        let mut out = Self::known(&args);
        out.notes = plan.notes;
        if let Ok(after) = &after {
            out.state = Some(after.state.state.as_str().to_owned());
            out.services = service_rows(&after.state.services);
        }
        match ended {
            Ok(done) => {
                out.output = output(&core, &plan.stack, &done.output, done.dropped);
                out.exit_code = Some(0);
                let after = after.map_err(|fault| engine_failed(&core, DOING, &args.stack)(fault.read_back()))?;
                Ok(judged(&args.stack, &plan.before, &after, out))
            }
            Err(failure) => {
                out.output = output(&core, &plan.stack, &failure.output, 0);
                out.exit_code = failure.code;
                let (outcome, message) = broken_off(&core, DOING, &plan.stack, failure);
                Ok(Done { outcome, message, out })
            }
        }
    }
}

/// compose says that it started them; the states say whether they run.
fn judged(name: &str, before: &Found, after: &Found, out: Out) -> Done<Out> {
    let down: Vec<_> = after
        .state
        .services
        .iter()
        .filter(|service| service.state != "running" && !service.completed)
        .map(|service| format!("{} is {}", service.service, service.state))
        .collect();
    if !down.is_empty() {
        let message = format!(
            "Stack {name} was brought up, but not all of it runs: {}. Read docker_container_logs of its containers.",
            down.join(", ")
        );
        return Done { outcome: Outcome::Failed, message, out };
    }
    if fingerprint(before) == fingerprint(after) {
        return Done { outcome: Outcome::Unchanged, message: format!("Stack {name} was already up to date."), out };
    }
    let unhealthy = after.state.services.iter().any(|service| service.health.as_deref() == Some("starting"));
    let health = if unhealthy { " Some health checks have not passed yet." } else { "" };
    Done::changed(
        format!(
            "Stack {name} deployed successfully: {} of {} containers run.{health}",
            after.state.running, after.state.total
        ),
        out,
    )
}
