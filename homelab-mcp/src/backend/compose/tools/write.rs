//! Writing a stack's compose file: checked by compose before anything is replaced, shown as a diff, the earlier version
//! kept.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{Found, failed, identity, quiet, without_env_values};
use crate::{
    Core,
    backend::compose::stacks::{self, Stack},
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    reply,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

pub(crate) struct WriteCompose;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    stack: String,
    /// The whole new file.
    #[schemars(length(max = 1_048_576))]
    compose: Option<String>,
    /// Instead: an earlier version's id.
    restore: Option<String>,
    /// As you read it; without it, replacing is destructive.
    expected_sha256: Option<String>,
}

#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct Out {
    stack: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_sha256: Option<String>,
    /// Id of the version that was replaced, for `restore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_version: Option<String>,
    /// What changed, secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

pub(crate) struct Plan {
    stack: Stack,
    text: String,
    /// Set for a file that is there: what it held when it was resolved.
    present: Option<String>,
    expected: Option<String>,
    diff: String,
    warnings: Vec<String>,
}

impl Tool for WriteCompose {
    const ABOUT: About = About {
        name: "docker_write_compose",
        title: "Write a compose file",
        text: "Create or replace a stack's whole compose file, checked by docker compose; returns a diff; the \
               old one is kept. Read first and pass its sha256. Starts nothing.",
        level: Level::Manage,
        toolset: Toolset::Compose,
        worst: Effect::Destroy,
        idempotent: true,
        open_world: false,
        untrusted: &["diff"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        Some(args.stack.clone())
    }
}

impl Change for WriteCompose {
    type Plan = Plan;

    fn known(args: &Args) -> Out {
        Out { stack: args.stack.clone(), ..Out::default() }
    }

    async fn resolve(core: &Core, call: &Call, args: &Args) -> Result<Resolved<Plan>, ToolError> {
        const DOING: &str = "write the compose file of stack";
        resolve(core, call, args).await.map_err(failed(core, DOING, &args.stack))
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: Args,
    ) -> Result<Done<Out>, ToolError> {
        const DOING: &str = "write the compose file of stack";
        running.say(format!("writing {}", args.stack));
        let stacks = &core.backends.compose.stacks;
        let written = match (&plan.expected, &plan.present, proof.destroy()) {
            (_, None, _) => stacks.create(proof.change(), &plan.stack, &plan.text),
            (Some(expected), Some(_), _) => stacks.replace(proof.change(), &plan.stack, &plan.text, expected),
            (None, Some(_), Some(destroy)) => stacks.overwrite(destroy, &plan.stack, &plan.text),
            (None, Some(_), None) => Err(Fault::new(Kind::Conflict, "the file came into being meanwhile")),
        };
        let written = written.map_err(failed(&core, DOING, &args.stack))?;
        let mut notes = written.notes;
        notes.extend(plan.warnings);
        let previous_version = written.kept.as_ref().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let outcome = if written.changed || written.created { Outcome::Changed } else { Outcome::Unchanged };
        let message = match (written.created, written.changed) {
            (true, _) => format!("Stack {} was created. Nothing runs yet: docker_compose_up starts it.", args.stack),
            (false, true) => {
                format!(
                    "The compose file of {} was replaced; what runs is as before until docker_compose_up.",
                    args.stack
                )
            }
            (false, false) => format!("The compose file of {} already held this.", args.stack),
        };
        let out = Out {
            stack: args.stack,
            path: Some(written.path.display().to_string()),
            sha256: Some(written.sha256),
            previous_sha256: written.previous_sha256,
            previous_version,
            diff: Some(plan.diff),
            notes,
        };
        Ok(Done { outcome, message, out })
    }
}

async fn resolve(core: &Core, _call: &Call, args: &Args) -> Result<Resolved<Plan>, Fault> {
    let compose = &core.backends.compose;
    let name = stacks::name(&args.stack)?;
    compose.stacks.answers(Some(&name)).await?;
    let (stack, present) = match compose.stacks.find(&name) {
        Ok(stack) => {
            if let Some(why) = &stack.inoperable {
                return Err(Fault::new(Kind::Conflict, why.clone()));
            }
            let file = compose.stacks.read(&stack)?;
            (stack, Some(file))
        }
        // Whether it may be made is for `draft` to say.
        Err(fault) if fault.kind == Kind::NotFound => (compose.stacks.draft(&name)?, None),
        Err(fault) => return Err(fault),
    };
    let present_text = present.as_ref().map_or("", |file| file.text.as_str());
    if let (Some(expected), present) = (&args.expected_sha256, &present) {
        let actual = present.as_ref().map(|file| file.sha256.as_str());
        if actual.is_none_or(|actual| !actual.eq_ignore_ascii_case(expected)) {
            let actual = actual
                .map_or_else(|| "there is no such file".to_owned(), |actual| format!("it has sha256 {actual} now"));
            return Err(Fault::new(Kind::Conflict, format!("the file is not the one that was read: {actual}"))
                .hint("Read it again and make the change on what it holds now."));
        }
    }
    let text = match (&args.compose, &args.restore) {
        (Some(text), None) => {
            let restored = compose.masker.restore(text, present_text);
            restored.map_err(|error| Fault::new(Kind::Invalid, error.to_string()).hint("Nothing was written."))?.text
        }
        (None, Some(version)) => compose.stacks.read_kept(&stack, version)?.text,
        _ => return Err(Fault::new(Kind::Invalid, "give either `compose` or `restore`")),
    };
    let found = Found::of(core, &stack).await?;
    let config = compose.command.check(&stack, identity(&found), &text).await;
    let config = config.map_err(|fault| quiet(core, &stack, fault)).map_err(|fault| {
        if fault.kind == Kind::Invalid && fault.hint.is_none() {
            fault.hint("Nothing was written; correct the text.")
        } else {
            fault
        }
    })?;
    let file = stack.chosen.file_name().and_then(|name| name.to_str()).unwrap_or("compose.yaml");
    let diff = if core.config.redact {
        compose.masker.diff(present_text, &text, file)
    } else {
        crate::backend::compose::text::diff(present_text, &text, file)
    };
    let diff = reply::newest(&diff, core.config.max_result_chars / 3).0.to_owned();
    let warnings = config.warnings.iter().map(|warning| without_env_values(core, &stack, warning)).collect();
    let effect = if present.is_some() && args.expected_sha256.is_none() { Effect::Destroy } else { Effect::Change };
    let summary = match (&present, effect) {
        (None, _) => {
            format!("Create stack {} with {file} ({}).", args.stack, reply::count(config.services().len(), "service"))
        }
        (Some(_), Effect::Destroy) => {
            format!(
                "Replace {file} of stack {} without regard to what it holds (it was not read first; it is kept).",
                args.stack
            )
        }
        (Some(_), _) => format!("Replace {file} of stack {}.", args.stack),
    };
    let unchanged = present.as_ref().filter(|file| file.text == text && !file.lossy);
    let unchanged = unchanged.map(|_| format!("The compose file of {} already holds this.", args.stack));
    Ok(Resolved {
        targets: found.targets(&stack, Some(&config)),
        effect,
        summary,
        detail: Some(diff.clone()),
        unchanged,
        plan: Plan {
            stack,
            text,
            present: present.map(|file| file.sha256),
            expected: args.expected_sha256.clone(),
            diff,
            warnings,
        },
    })
}
