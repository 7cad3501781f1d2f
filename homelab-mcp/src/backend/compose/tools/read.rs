//! A stack's compose file, masked.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{failed, find};
use crate::{
    Core,
    backend::compose::text::CUT_MARK,
    error::ToolError,
    reply,
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

pub(crate) struct ReadCompose;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    stack: String,
    /// Id of an earlier version, from `versions`.
    version: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    stack: String,
    /// The file's text; secrets are `[redacted:…]`.
    compose: String,
    path: String,
    /// Of the file as it is, for `expected_sha256`.
    sha256: String,
    /// All compose files of the folder.
    files: Vec<String>,
    /// How many secrets were masked.
    masked: usize,
    /// Characters cut off the end; such a text must not be written back.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<usize>,
    /// Further files that compose reads with it, masked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<Override>,
    /// The `.env` file with its values masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    /// Earlier versions that are kept, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<Version>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Override {
    file: String,
    compose: String,
}

#[derive(Serialize, JsonSchema)]
struct Version {
    id: String,
    replaced: String,
    bytes: u64,
}

impl Tool for ReadCompose {
    const ABOUT: About = About {
        name: "docker_read_compose",
        title: "Read a compose file",
        text: "Read a stack's compose file, its sha256, its .env (values masked) and the versions kept. Write \
               [redacted:…] back as it is.",
        level: Level::Configure,
        toolset: Toolset::Compose,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["compose", "overrides", "env"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        Some(args.stack.clone())
    }
}

impl Read for ReadCompose {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        const DOING: &str = "read the compose file of stack";
        let compose = &core.backends.compose;
        let stack = find(&core, &args.stack).await.map_err(failed(&core, DOING, &args.stack))?;
        let read = match &args.version {
            Some(version) => compose.stacks.read_kept(&stack, version),
            None => compose.stacks.read(&stack),
        };
        let file = read.map_err(failed(&core, DOING, &args.stack))?;
        let mut notes = stack.notes.clone();
        if let Some(other) = &stack.dockge_shows {
            notes.push(format!("Dockge shows {}, docker compose uses this file", other.display()));
        }
        if file.lossy {
            notes.push(
                "the file is not UTF-8; what could not be read is replaced, so it must not be written back".to_owned(),
            );
        }
        let mask = |text: &str| if core.config.redact { compose.masker.mask(text) } else { plain(text) };
        let masked = mask(&file.text);
        let mut overrides = Vec::new();
        for used in stack.used.iter().filter(|used| **used != stack.chosen) {
            let text = compose.stacks.read_used(&stack, used).map_err(failed(&core, DOING, &args.stack))?.text;
            overrides.push(Override { file: file_name(used), compose: mask(&text).text });
        }
        let env = compose.stacks.read_env(&stack).map_err(failed(&core, DOING, &args.stack))?;
        let env =
            env.map(|env| if core.config.redact { compose.masker.mask_env_file(&env.text).text } else { env.text });
        let versions = compose.stacks.previous_versions(&stack).map_err(failed(&core, DOING, &args.stack))?;

        let budget = reply::row_budget(core.config.max_result_chars) - 2000;
        let (text, cut) = fit(&masked.text, budget / 2);
        let env = env.map(|env| fit(&env, budget / 4).0);
        let each = budget / 4 / overrides.len().max(1);
        overrides.iter_mut().for_each(|other| other.compose = fit(&other.compose, each).0);
        Ok(Out {
            stack: stack.name.clone(),
            compose: text,
            path: file.path.display().to_string(),
            sha256: file.sha256,
            files: stack.files.iter().map(|path| file_name(path)).collect(),
            masked: masked.masked,
            cut,
            overrides,
            env,
            versions: versions
                .into_iter()
                .take(20)
                .map(|kept| Version {
                    id: kept.id,
                    replaced: Timestamp::try_from(kept.at).map_or_else(|_| String::new(), |at| at.to_string()),
                    bytes: kept.bytes,
                })
                .collect(),
            notes,
        })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn plain(text: &str) -> crate::backend::compose::text::Masked {
    crate::backend::compose::text::Masked { text: text.to_owned(), masked: 0 }
}

/// The beginning of a text that fits as JSON, cut at a line end and marked so that it cannot be written back unseen.
fn fit(text: &str, budget: usize) -> (String, Option<usize>) {
    let size = |text: &str| serde_json::to_string(text).map_or(0, |json| json.chars().count());
    if size(text) <= budget {
        return (text.to_owned(), None);
    }
    let mut kept = String::new();
    let mut used = 0;
    for line in text.split_inclusive('\n') {
        used += size(line);
        if used > budget {
            break;
        }
        kept.push_str(line);
    }
    let left = text.chars().count() - kept.chars().count();
    kept.push_str(&format!("{CUT_MARK}{left} more characters; raise MAX_RESULT_CHARS to read all]\n"));
    (kept, Some(left))
}
