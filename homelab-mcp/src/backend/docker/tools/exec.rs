//! Commands inside containers.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{OneContainer, find, no_such, target};
use crate::{
    Core,
    backend::docker::{
        exec::{ExecResult, ExecSpec, Outcome as Ended},
        place,
    },
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    redact, reply,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

/// Of each of both outputs.
const OUTPUT_CAP: usize = 256 << 10;

pub(crate) struct Exec;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ExecArgs {
    #[serde(flatten)]
    one: OneContainer,
    /// For the image's /bin/sh.
    #[schemars(length(max = 32000), extend("examples" = ["df -h /data"]))]
    command: Option<String>,
    /// Instead, without a shell.
    #[schemars(length(min = 1, max = 200), inner(length(max = 32000)))]
    argv: Option<Vec<String>>,
    workdir: Option<String>,
    /// Name, uid or uid:gid.
    user: Option<String>,
    /// Seconds (default 30).
    #[schemars(range(min = 1, max = 3600))]
    timeout: Option<u32>,
}

impl ExecArgs {
    fn shown(&self) -> String {
        self.command
            .clone()
            .unwrap_or_else(|| self.argv.iter().flatten().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "))
    }
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { format!("'{}'", arg.replace('\'', r"'\''")) }
}

#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct Out {
    container: String,
    command: String,
    /// Absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    /// Bytes left out in the middle.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_truncated_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_truncated_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Of a process that could not be ended, on the engine's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i64>,
}

impl Tool for Exec {
    const ABOUT: About = About {
        name: "docker_exec",
        title: "Run a command in a container",
        text: "Run a command in a running container, ended after `timeout`; returns exit code, stdout, stderr. \
               Cannot be undone: prefer reading tools.",
        level: Level::Manage,
        toolset: Toolset::Docker,
        // What a command does is the caller's doing; as an effect it counts as a change.
        worst: Effect::Destroy,
        idempotent: false,
        open_world: true,
        untrusted: &["stdout", "stderr"],
    };
    type Args = ExecArgs;
    type Out = Out;

    fn subject(args: &ExecArgs) -> Option<String> {
        Some(args.one.container.clone())
    }
}

pub(crate) struct Plan {
    id: String,
    name: String,
    spec: ExecSpec,
}

impl Change for Exec {
    type Plan = Plan;

    fn known(args: &ExecArgs) -> Out {
        Out {
            container: args.one.container.clone(),
            command: redact::mask_text(&args.shown()).into_owned(),
            ..Out::default()
        }
    }

    async fn resolve(core: &Core, _call: &Call, args: &ExecArgs) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "run a command in container";
        let name = &args.one.container;
        let argv = match (&args.command, &args.argv) {
            (Some(command), None) => vec!["/bin/sh".to_owned(), "-c".to_owned(), command.clone()],
            (None, Some(argv)) => argv.clone(),
            _ => return Err(ToolError::invalid(format!("{DOING} `{name}`"), "give either `command` or `argv`")),
        };
        let container = find(core, name, DOING).await?;
        if !container.state.running || container.state.paused {
            return Err(Fault::new(Kind::Conflict, format!("it is {}", container.state.status))
                .hint("A command needs a running container: start it with docker_start_container.")
                .doing(format!("{DOING} `{name}`"), place(core)));
        }
        let timeout = args.timeout.unwrap_or(30);
        Ok(Resolved {
            targets: vec![target(&container)],
            effect: Effect::Change,
            summary: format!(
                "Run in container {} ({}), for at most {timeout} s: `{}`.",
                container.name,
                container.image,
                redact::mask_text(&args.shown())
            ),
            detail: None,
            unchanged: None,
            plan: Plan {
                id: container.id,
                name: container.name,
                spec: ExecSpec {
                    argv,
                    workdir: args.workdir.clone(),
                    user: args.user.clone(),
                    timeout: Duration::from_secs(timeout.into()),
                    output_cap: OUTPUT_CAP.min(core.config.max_result_chars * 4),
                },
            },
        })
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: ExecArgs,
    ) -> Result<Done<Out>, ToolError> {
        running.say(format!("running a command in {}", plan.name));
        let ended = core.backends.docker.exec(proof.change(), &plan.id, &plan.spec).await;
        let ended = ended.map_err(|fault| {
            no_such(without_shell(fault, &args))
                .doing(format!("run a command in container `{}`", plan.name), place(&core))
        })?;
        Ok(done(&core, &plan, &ended, Self::known(&args)))
    }
}

/// An image without a shell needs another way of calling.
fn without_shell(fault: Fault, args: &ExecArgs) -> Fault {
    if args.command.is_some() && fault.cause.contains("/bin/sh") {
        Fault { kind: Kind::Invalid, ..fault }
            .hint("This image has no shell: give the program and its arguments as `argv`, for example [\"/app\", \"--version\"].")
    } else {
        fault
    }
}

fn done(core: &Core, plan: &Plan, ended: &ExecResult, mut out: Out) -> Done<Out> {
    out.container.clone_from(&plan.name);
    // Both outputs share what a result may hold; half of a half is left for what JSON makes longer.
    let budget = reply::row_budget(core.config.max_result_chars) / 2;
    let shown = |text: &str| if core.config.redact { redact::mask_text(text).into_owned() } else { text.to_owned() };
    let (stdout, stdout_lost) = fit(shown(&ended.stdout).trim_end(), budget);
    let (stderr, stderr_lost) = fit(shown(&ended.stderr).trim_end(), budget);
    let truncated = |lost: u64| (lost > 0).then_some(lost);
    out.stdout = Some(stdout);
    out.stderr = Some(stderr);
    out.stdout_truncated_bytes = truncated(ended.stdout_truncated_bytes + stdout_lost);
    out.stderr_truncated_bytes = truncated(ended.stderr_truncated_bytes + stderr_lost);
    out.duration_ms = Some(ended.duration_ms);
    out.exit_code = ended.exit_code;
    let seconds = plan.spec.timeout.as_secs();
    let (outcome, message) = match (&ended.outcome, ended.exit_code) {
        (Ended::Finished, Some(0)) => (Outcome::Changed, "The command ended with exit code 0.".to_owned()),
        (Ended::Finished, Some(code)) => (Outcome::Changed, format!("The command ended with exit code {code}.")),
        (Ended::Finished, None) => (
            Outcome::Unknown,
            "The command's exit code is not known: the container may have ended. Read its state.".to_owned(),
        ),
        (Ended::TimedOutKilled, _) => (
            Outcome::Failed,
            format!(
                "The command took longer than {seconds} s and was ended, with the children that kept its environment; what it did until then stays."
            ),
        ),
        (Ended::StillRunning { pid }, _) => {
            out.pid = *pid;
            (
                Outcome::Running,
                format!(
                    "The command took longer than {seconds} s and could not be ended: it still runs. `pid` is its number on the engine's host."
                ),
            )
        }
    };
    Done { outcome, message, out }
}

/// The newest lines that fit as JSON.
fn fit(text: &str, budget: usize) -> (String, u64) {
    let mut kept = text;
    let mut room = budget;
    loop {
        let size = serde_json::to_string(kept).map_or(0, |json| json.chars().count());
        if size <= budget || room < 16 {
            return (kept.to_owned(), (text.len() - kept.len()) as u64);
        }
        room = room.min(kept.chars().count()) * budget / size;
        kept = reply::newest(text, room).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_fits_as_json() {
        for text in ["a\n".repeat(100_000), "\u{1}".repeat(100_000), "ü\"\\\n".repeat(50_000), "x".repeat(99)] {
            let (kept, lost) = fit(&text, 10_000);
            assert!(serde_json::to_string(&kept).unwrap().chars().count() <= 10_000);
            assert!(text.ends_with(&kept) && kept.len() as u64 + lost == text.len() as u64 && !kept.is_empty());
        }
    }

    #[test]
    fn arguments_are_shown_as_a_shell_would_take_them() {
        let args = ExecArgs {
            one: OneContainer { container: "x".into() },
            command: None,
            argv: Some(vec!["echo".into(), "it's".into(), String::new(), "a=b".into()]),
            workdir: None,
            user: None,
            timeout: None,
        };
        assert_eq!(args.shown(), r"echo 'it'\''s' '' a=b");
    }
}
