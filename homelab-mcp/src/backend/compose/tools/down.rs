//! Taking a stack down.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{Found, broken_off, engine_failed, failed, find, finished, identity, not_ourselves, output, quiet};
use crate::{
    Core,
    backend::compose::{command, stacks::Stack},
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    reply,
    target::Target,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

/// The label that compose puts on what a project made.
const PROJECT: &str = "com.docker.compose.project";

pub(crate) struct ComposeDown;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    stack: String,
    /// Also delete its volumes and their data.
    remove_volumes: Option<bool>,
}

#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct Out {
    stack: String,
    /// How many containers are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    containers_left: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes_removed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes_left: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

pub(crate) struct Plan {
    stack: Stack,
    before: Found,
    /// Those that would go.
    volumes: Vec<String>,
}

impl Tool for ComposeDown {
    const ABOUT: About = About {
        name: "docker_compose_down",
        title: "Take a stack down",
        text: "Stop and remove a stack's containers and networks. Files and volumes stay, so docker_compose_up \
               brings it back; with remove_volumes their data is lost for good.",
        level: Level::Manage,
        toolset: Toolset::Compose,
        worst: Effect::Destroy,
        idempotent: true,
        open_world: false,
        untrusted: &["output"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        Some(args.stack.clone())
    }
}

impl Change for ComposeDown {
    type Plan = Plan;

    fn known(args: &Args) -> Out {
        Out { stack: args.stack.clone(), ..Out::default() }
    }

    async fn resolve(core: &Core, _call: &Call, args: &Args) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "take down stack";
        let compose = &core.backends.compose;
        let remove_volumes = args.remove_volumes.unwrap_or(false);
        let stack = find(core, &args.stack).await.map_err(failed(core, DOING, &args.stack))?;
        let before = Found::of(core, &stack).await.map_err(engine_failed(core, DOING, &args.stack))?;
        let config = compose.command.config(&stack, identity(&before)).await;
        let config = config.map_err(|fault| failed(core, DOING, &args.stack)(quiet(core, &stack, fault)))?;
        not_ourselves(&before).map_err(failed(core, DOING, &args.stack))?;
        let networks = core.backends.docker.networks(Some(&config.project)).await;
        let networks = networks.map_err(engine_failed(core, DOING, &args.stack))?;
        let volumes = if remove_volumes {
            volumes(core, &config, &before).await.map_err(engine_failed(core, DOING, &args.stack))?
        } else {
            Vec::new()
        };
        let mut targets = before.targets(&stack, Some(&config));
        targets.extend(volumes.iter().map(|name| Target::new("volume", name, name)));
        targets.extend(networks.iter().map(|network| Target::new("network", &network.name, &network.id)));
        let containers = before.own().count();
        let unchanged = (containers == 0 && networks.is_empty() && volumes.is_empty())
            .then(|| format!("Stack {} was already down.", args.stack));
        let loss = match (remove_volumes, volumes.as_slice()) {
            (false, _) => "Its volumes stay.".to_owned(),
            (true, []) => "It has no volumes.".to_owned(),
            (true, volumes) => {
                format!("DELETES these volumes with all data in them, for good: {}.", volumes.join(", "))
            }
        };
        Ok(Resolved {
            targets,
            effect: if remove_volumes { Effect::Destroy } else { Effect::Change },
            summary: format!(
                "Take down stack {}: remove {} and {}. {loss}",
                args.stack,
                reply::count(containers, "container"),
                reply::count(networks.len(), "network")
            ),
            detail: None,
            unchanged,
            plan: Plan { stack, before, volumes },
        })
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: Args,
    ) -> Result<Done<Out>, ToolError> {
        const DOING: &str = "take down stack";
        let compose = &core.backends.compose;
        let lines = running.clone();
        let on_line = move |line: &str| lines.say(line);
        let remove_volumes = args.remove_volumes.unwrap_or(false);
        let process = match (remove_volumes, proof.destroy()) {
            (false, _) => compose.command.down(proof.change(), &plan.stack, identity(&plan.before), on_line),
            (true, Some(destroy)) => {
                compose.command.down_with_volumes(destroy, &plan.stack, identity(&plan.before), on_line)
            }
            (true, None) => Err(Fault::new(Kind::Conflict, "removing volumes was not admitted")),
        };
        let process = process.map_err(failed(&core, DOING, &args.stack))?;
        let ended = finished(&running, &process).await;
        let mut out = Self::known(&args);
        let after = Found::of(&core, &plan.stack).await;
        out.containers_left = after.as_ref().ok().map(|after| after.own().count());
        if remove_volumes {
            // Also after a failure: what is gone is gone, and must be said.
            let present = core.backends.docker.volumes(None).await;
            let present = present.map_err(|fault| engine_failed(&core, DOING, &args.stack)(fault.read_back()))?;
            let is_left = |name: &String| present.volumes.iter().any(|volume| volume.name == *name);
            let (left, gone) = plan.volumes.iter().cloned().partition(is_left);
            (out.volumes_left, out.volumes_removed) = (Some(left), Some(gone));
        }
        match ended {
            Ok(done) => {
                out.output = output(&core, &plan.stack, &done.output, done.dropped);
                out.exit_code = Some(0);
                after.map_err(|fault| engine_failed(&core, DOING, &args.stack)(fault.read_back()))?;
                Ok(judged(&args.stack, out))
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

fn judged(name: &str, out: Out) -> Done<Out> {
    let volumes = match out.volumes_removed.as_deref() {
        None | Some([]) => String::new(),
        Some(gone) => format!(" Volumes deleted: {}.", gone.join(", ")),
    };
    match out.containers_left {
        Some(left) if left > 0 => {
            let message =
                format!("Stack {name} is not down: {} left.{volumes} See `output`.", reply::count(left, "container"));
            Done { outcome: Outcome::Failed, message, out }
        }
        _ => Done::changed(format!("Stack {name} removed successfully.{volumes}"), out),
    }
}

/// The volumes that `down --volumes` would remove: those that the file names, whoever made them, unless they are external;
/// those that the project made; and anonymous ones of its containers, which have no label of the project.
async fn volumes(core: &Core, config: &command::Config, before: &Found) -> Result<Vec<String>, Fault> {
    let (external, own): (Vec<_>, Vec<_>) = config.volumes().into_iter().partition(|volume| volume.external);
    let present = core.backends.docker.volumes(None).await?.volumes.into_iter();
    let removed = present.filter(|volume| {
        let made = volume.labels.get(PROJECT) == Some(&config.project);
        own.iter().any(|own| own.name == volume.name) || made && !external.iter().any(|kept| kept.name == volume.name)
    });
    let mut names: Vec<_> = removed.map(|volume| volume.name).collect();
    let is_anonymous = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for mount in before.own().flat_map(|row| &row.mounts) {
        if mount.kind == "volume" && is_anonymous(&mount.source) && !names.contains(&mount.source) {
            names.push(mount.source.clone());
        }
    }
    names.sort();
    Ok(names)
}
