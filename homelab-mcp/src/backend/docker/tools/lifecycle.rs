//! Start, stop and restart. The engine's "yes" is not the end: the state is read back, and a container that ends right
//! after its start is reported with its exit code and last words.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{OneContainer, find, no_such, not_ourselves, target};
use crate::{
    Core,
    backend::docker::{
        client::{Acted, Settled},
        logs::LogQuery,
        model::Container,
        place,
    },
    error::{Fault, ToolError},
    operations::Running,
    proof::Proof,
    redact, times,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

/// A process that cannot start properly is mostly gone within this.
const SETTLE: Duration = Duration::from_millis(1500);
/// How many lines of a container that ended are shown.
const LAST_WORDS: u32 = 20;

/// A change's result beside the envelope.
#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct Out {
    container: String,
    /// Read back afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
    /// The last log lines of a container that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<String>,
}

impl Out {
    fn of(name: &str) -> Self {
        Self { container: name.to_owned(), ..Self::default() }
    }

    fn after(container: &Container) -> Self {
        Self {
            container: container.name.clone(),
            state: Some(container.state.status.clone()),
            health: container.state.health.clone(),
            exit_code: container.state.exit_code,
            logs: None,
        }
    }
}

/// What is known of the container when the change begins.
pub(crate) struct Plan {
    id: String,
    name: String,
}

fn resolved(container: &Container, summary: String, unchanged: Option<String>) -> Resolved<Plan> {
    Resolved {
        targets: vec![target(container)],
        effect: Effect::Change,
        summary,
        detail: None,
        unchanged,
        plan: Plan { id: container.id.clone(), name: container.name.clone() },
    }
}

fn described(container: &Container) -> String {
    let stack = container.compose.as_ref().map_or_else(String::new, |compose| format!(", stack {}", compose.project));
    format!("{} ({}, {}{stack})", container.name, container.state.status, container.image)
}

fn failed(core: &Core, doing: &str, name: &str) -> impl FnOnce(Fault) -> ToolError {
    let (action, place) = (format!("{doing} `{name}`"), place(core));
    move |fault| no_such(fault).doing(action, place)
}

pub(crate) struct StartContainer;

impl Tool for StartContainer {
    const ABOUT: About = About {
        name: "docker_start_container",
        title: "Start a container",
        text: "Start a stopped container and watch that it stays up; gives exit code and last log lines if not. \
               Creates nothing: docker_compose_up does.",
        level: Level::Operate,
        toolset: Toolset::Docker,
        worst: Effect::Change,
        idempotent: true,
        open_world: false,
        untrusted: &["logs"],
    };
    type Args = OneContainer;
    type Out = Out;

    fn subject(args: &OneContainer) -> Option<String> {
        Some(args.container.clone())
    }
}

impl Change for StartContainer {
    type Plan = Plan;

    fn known(args: &OneContainer) -> Out {
        Out::of(&args.container)
    }

    async fn resolve(core: &Core, _call: &Call, args: &OneContainer) -> Result<Resolved<Plan>, ToolError> {
        let container = find(core, &args.container, "start container").await?;
        let unchanged = (container.state.running && !container.state.paused && !container.state.restarting)
            .then(|| format!("Container {} was already running.", container.name));
        Ok(resolved(&container, format!("Start container {}.", described(&container)), unchanged))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        _: OneContainer,
    ) -> Result<Done<Out>, ToolError> {
        const DOING: &str = "start container";
        running.say(format!("starting {}", plan.name));
        let acted =
            core.backends.docker.start(proof.change(), &plan.id).await.map_err(failed(&core, DOING, &plan.name))?;
        let done = settled(&core, DOING, &plan, &format!("Container {} started successfully", plan.name)).await?;
        if acted == Acted::Unchanged && done.outcome == Outcome::Changed {
            let message = format!("Container {} was already running.", plan.name);
            return Ok(Done { outcome: Outcome::Unchanged, message, out: done.out });
        }
        Ok(done)
    }
}

pub(crate) struct StopContainer;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct StopArgs {
    #[serde(flatten)]
    one: OneContainer,
    /// Seconds (default 10).
    #[schemars(range(min = 0, max = 3600))]
    timeout: Option<u32>,
}

impl Tool for StopContainer {
    const ABOUT: About = About {
        name: "docker_stop_container",
        title: "Stop a container",
        text: "Stop a running container: stop signal, then a kill after `timeout`. It stays stopped; nothing is \
               removed.",
        level: Level::Operate,
        toolset: Toolset::Docker,
        worst: Effect::Change,
        idempotent: true,
        open_world: false,
        untrusted: &[],
    };
    type Args = StopArgs;
    type Out = Out;

    fn subject(args: &StopArgs) -> Option<String> {
        Some(args.one.container.clone())
    }
}

impl Change for StopContainer {
    type Plan = Plan;

    fn known(args: &StopArgs) -> Out {
        Out::of(&args.one.container)
    }

    async fn resolve(core: &Core, _call: &Call, args: &StopArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "stop container";
        let container = find(core, &args.one.container, DOING).await?;
        not_ourselves(&container.id).map_err(failed(core, DOING, &container.name))?;
        let unchanged = (!container.state.running && !container.state.restarting)
            .then(|| format!("Container {} was not running ({}).", container.name, container.state.status));
        Ok(resolved(&container, format!("Stop container {}.", described(&container)), unchanged))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: StopArgs,
    ) -> Result<Done<Out>, ToolError> {
        const DOING: &str = "stop container";
        running.say(format!("stopping {}", plan.name));
        let docker = &core.backends.docker;
        let acted = docker.stop(proof.change(), &plan.id, Some(args.timeout.unwrap_or(10))).await;
        let acted = acted.map_err(failed(&core, DOING, &plan.name))?;
        let container = match docker.resolve(&plan.id).await {
            Ok(container) => container,
            Err(fault) if fault.kind == crate::error::Kind::NotFound => {
                return Ok(Done::changed(
                    format!("Container {} stopped, and was removed as it was set to be.", plan.name),
                    Out::of(&plan.name),
                ));
            }
            Err(fault) => return Err(failed(&core, DOING, &plan.name)(fault.read_back())),
        };
        let out = Out::after(&container);
        let (outcome, message) = match (container.state.running, acted) {
            (true, _) => {
                (Outcome::Failed, format!("Container {} runs again or still: something else started it.", plan.name))
            }
            (false, Acted::Changed) => (Outcome::Changed, format!("Container {} stopped successfully", plan.name)),
            (false, Acted::Unchanged) => (Outcome::Unchanged, format!("Container {} was not running.", plan.name)),
        };
        Ok(Done { outcome, message, out })
    }
}

pub(crate) struct RestartContainer;

impl Tool for RestartContainer {
    const ABOUT: About = About {
        name: "docker_restart_container",
        title: "Restart a container",
        text: "Stop a container and start it again, and watch that it stays up. A changed compose file needs \
               docker_compose_up.",
        level: Level::Operate,
        toolset: Toolset::Docker,
        worst: Effect::Change,
        idempotent: false,
        open_world: false,
        untrusted: &["logs"],
    };
    type Args = StopArgs;
    type Out = Out;

    fn subject(args: &StopArgs) -> Option<String> {
        Some(args.one.container.clone())
    }
}

impl Change for RestartContainer {
    type Plan = Plan;

    fn known(args: &StopArgs) -> Out {
        Out::of(&args.one.container)
    }

    async fn resolve(core: &Core, _call: &Call, args: &StopArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "restart container";
        let container = find(core, &args.one.container, DOING).await?;
        not_ourselves(&container.id).map_err(failed(core, DOING, &container.name))?;
        Ok(resolved(&container, format!("Restart container {}.", described(&container)), None))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: StopArgs,
    ) -> Result<Done<Out>, ToolError> {
        const DOING: &str = "restart container";
        running.say(format!("restarting {}", plan.name));
        let seconds = Some(args.timeout.unwrap_or(10));
        core.backends
            .docker
            .restart(proof.change(), &plan.id, seconds)
            .await
            .map_err(failed(&core, DOING, &plan.name))?;
        settled(&core, DOING, &plan, &format!("Container {} restarted successfully", plan.name)).await
    }
}

/// Looks whether a container that was started stays up.
async fn settled(core: &Core, doing: &str, plan: &Plan, success: &str) -> Result<Done<Out>, ToolError> {
    let docker = &core.backends.docker;
    let seen =
        docker.wait_state(&plan.id, SETTLE, |container| !container.state.running || container.state.restarting).await;
    let container = match seen {
        Ok(Settled::NotYet(container)) => {
            let health = match container.state.health.as_deref() {
                Some("starting") => " Its health check has not passed yet.",
                Some("unhealthy") => " Its health check says unhealthy.",
                _ => "",
            };
            let before = match container.restart_count {
                Some(count) if count > 0 => {
                    format!(" It had to be restarted {count} times before: look again in a minute.")
                }
                _ => String::new(),
            };
            return Ok(Done::changed(format!("{success}.{health}{before}"), Out::after(&container)));
        }
        Ok(Settled::Reached(container)) => container,
        Err(fault) if fault.kind == crate::error::Kind::NotFound => {
            let message =
                format!("Container {} was started, ended at once and was removed as it was set to be.", plan.name);
            return Ok(Done { outcome: Outcome::Failed, message, out: Out::of(&plan.name) });
        }
        Err(fault) => return Err(failed(core, doing, &plan.name)(fault.read_back())),
    };
    let mut out = Out::after(&container);
    out.logs = last_words(core, &container).await;
    let code = container.state.exit_code;
    let memory = if container.state.oom_killed { ", out of memory" } else { "" };
    let why = container.state.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    let again = if container.state.restarting { " The engine restarts it again and again." } else { "" };
    Ok(match code {
        Some(0) if !container.state.restarting => {
            Done::changed(format!("Container {} was started and ended by itself with exit code 0.", plan.name), out)
        }
        code => {
            let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            let message = format!(
                "Container {} was started but ended at once with exit code {code}{memory}{why}.{again} See `logs`.",
                plan.name
            );
            Done { outcome: Outcome::Failed, message, out }
        }
    })
}

/// The last log lines, if they can be had: they explain, they are not the result. Of this run only; an earlier one's end
/// would explain the wrong thing.
async fn last_words(core: &Core, container: &Container) -> Option<String> {
    let started = container.state.started_at.as_deref().and_then(|at| times::when(at, jiff::Timestamp::now()).ok());
    // The engine notes the start a moment after the process began, which may have said all it had to say by then.
    match lines_since(core, container, started).await {
        None if started.is_some() => lines_since(core, container, started.map(|at| at - 2)).await,
        words => words,
    }
}

/// The newest lines from then on; `None` when there are none.
async fn lines_since(core: &Core, container: &Container, since: Option<i64>) -> Option<String> {
    let query = LogQuery {
        tail: Some(LAST_WORDS),
        since,
        until: None,
        timestamps: false,
        stdout: true,
        stderr: true,
        limit: Duration::from_secs(5),
    };
    let mut lines = Vec::new();
    let read = core.backends.docker.logs(container, &query, |line| {
        lines.push(line.text);
        ControlFlow::Continue(())
    });
    read.await.ok()?;
    let text = lines.join("\n");
    let text = if core.config.redact { redact::mask_text(&text).into_owned() } else { text };
    let (newest, _) = crate::reply::newest(&text, 4000);
    (!newest.is_empty()).then(|| newest.to_owned())
}
