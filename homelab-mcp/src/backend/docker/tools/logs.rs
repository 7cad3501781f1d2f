//! The output of a container.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

use regex::RegexBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use super::{OneContainer, find};
use crate::{
    Core,
    backend::docker::{
        logs::{Because, LogLine, LogQuery, Stream},
        place,
    },
    error::ToolError,
    redact, reply, times,
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

/// So many of the last lines are searched by a filter when no `since` says otherwise.
const SEARCHED: u32 = 100_000;

pub(crate) struct ContainerLogs;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct LogArgs {
    #[serde(flatten)]
    one: OneContainer,
    /// Newest lines (default 50).
    #[schemars(range(min = 1, max = 500))]
    lines: Option<u32>,
    /// 10m, 2h, 1d ago, or RFC 3339.
    #[schemars(extend("examples" = ["2h"]))]
    since: Option<String>,
    /// Likewise.
    until: Option<String>,
    /// Case-insensitive regex.
    #[schemars(extend("examples" = ["error|warn"]))]
    filter: Option<String>,
    stream: Option<StreamArg>,
    timestamps: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StreamArg {
    Stdout,
    Stderr,
    Both,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct LogOut {
    container: String,
    /// One line each; those of stderr begin with `stderr: ` when both streams are shown.
    logs: String,
    metadata: Metadata,
}

#[derive(Serialize, JsonSchema)]
struct Metadata {
    lines_requested: u32,
    lines_returned: usize,
    /// Lines of the chosen streams and time that were read to find these.
    lines_searched: u64,
    /// Older lines were left out for size.
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Tool for ContainerLogs {
    const ABOUT: About = About {
        name: "docker_container_logs",
        title: "Read container logs",
        text: "Read the newest log lines of a container, running or stopped, to see why something fails. Lines of \
               stderr begin with `stderr: `.",
        level: Level::Monitor,
        toolset: Toolset::Docker,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["logs"],
    };
    type Args = LogArgs;
    type Out = LogOut;

    fn subject(args: &LogArgs) -> Option<String> {
        Some(args.one.container.clone())
    }
}

impl Read for ContainerLogs {
    async fn read(core: Arc<Core>, call: Call, args: LogArgs) -> Result<LogOut, ToolError> {
        let name = &args.one.container;
        let doing = "read the logs of container";
        let invalid = |problem: String| ToolError::invalid(format!("{doing} `{name}`"), problem);
        let now = jiff::Timestamp::now();
        let moment = |argument: &str, text: &Option<String>| {
            text.as_ref()
                .map(|text| {
                    times::when(text, now).map_err(|problem| invalid(format!("argument `{argument}`: {problem}")))
                })
                .transpose()
        };
        let (since, until) = (moment("since", &args.since)?, moment("until", &args.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            return Err(invalid("argument `since` is later than `until`".to_owned()));
        }
        let filter = args.filter.as_ref().map(|filter| {
            RegexBuilder::new(filter).case_insensitive(true).size_limit(1 << 20).build().map_err(|error| {
                invalid(format!("argument `filter` is not a regular expression: {}", last_line(&error.to_string())))
            })
        });
        let filter = filter.transpose()?;
        let container = find(&core, name, doing).await?;

        let wanted = args.lines.unwrap_or(50);
        let stream = args.stream.unwrap_or(StreamArg::Both);
        let query = LogQuery {
            tail: match (&filter, since) {
                (None, _) => Some(wanted),
                (Some(_), None) => Some(SEARCHED),
                (Some(_), Some(_)) => None,
            },
            since,
            until,
            timestamps: args.timestamps.unwrap_or(false),
            stdout: stream != StreamArg::Stderr,
            stderr: stream != StreamArg::Stdout,
            limit: core.config.docker_timeout,
        };
        let mut kept: VecDeque<String> = VecDeque::new();
        let (mut searched, mut matched) = (0_u64, 0_u64);
        let end = core.backends.docker.logs(&container, &query, |line| {
            searched += 1;
            if searched.is_multiple_of(10_000) {
                call.progress.say(format!("{searched} lines searched"));
            }
            if filter.as_ref().is_none_or(|filter| filter.is_match(&line.text)) {
                matched += 1;
                if kept.len() == wanted as usize {
                    kept.pop_front();
                }
                kept.push_back(text(line, stream));
            }
            ControlFlow::Continue(())
        });
        let end = end.await.map_err(|fault| fault.doing(format!("{doing} `{name}`"), place(&core)))?;

        let mut hints = Vec::new();
        if end.because == Because::OutOfTime {
            hints.push(format!(
                "the time was over after {} s: the newest lines were not reached; narrow with `since`",
                core.config.docker_timeout.as_secs()
            ));
        }
        if let Some(error) = end.engine_error {
            hints.push(format!("the engine said: {error}"));
        }
        if let Some(driver) = container.log_driver.as_deref().filter(|driver| *driver == "none") {
            hints.push(format!("this container's log driver is `{driver}`: nothing is kept"));
        }
        if matched > u64::from(wanted) {
            hints.push(format!("{matched} lines matched; these are the newest {wanted}"));
        } else if filter.is_some() && since.is_none() && searched >= u64::from(SEARCHED) {
            hints.push(format!("only the last {SEARCHED} lines were searched; use `since` for older ones"));
        }
        let (left_out, lost) = fit(&mut kept, reply::row_budget(core.config.max_result_chars));
        if left_out > 0 {
            hints.push(format!(
                "{left_out} older lines were left out for size; ask for fewer lines, a filter or a time"
            ));
        }
        Ok(LogOut {
            container: container.name,
            metadata: Metadata {
                lines_requested: wanted,
                lines_returned: kept.len(),
                lines_searched: searched,
                truncated: lost > 0,
                truncated_bytes: (lost > 0).then_some(lost),
                hint: (!hints.is_empty()).then(|| hints.join("; ")),
            },
            logs: shown(&core, kept.make_contiguous().join("\n")),
        })
    }
}

/// What programs log is masked like everything else that a model reads.
fn shown(core: &Core, text: String) -> String {
    if core.config.redact { redact::mask_text(&text).into_owned() } else { text }
}

/// regex words its errors over several lines, the reason last.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn text(line: LogLine, stream: StreamArg) -> String {
    let mark = if line.stream == Stream::Stderr && stream == StreamArg::Both { "stderr: " } else { "" };
    match line.timestamp {
        Some(at) => format!("{at} {mark}{}", line.text),
        None => format!("{mark}{}", line.text),
    }
}

/// Drops the oldest lines until the rest fits as JSON, where a control character takes six. Returns lines and bytes lost;
/// a single line that is too long keeps its end.
fn fit(lines: &mut VecDeque<String>, budget: usize) -> (usize, usize) {
    let size = |line: &String| serde_json::to_string(line).map_or(0, |text| text.chars().count());
    let mut total = 0;
    let fitting = lines.iter().rev().take_while(|line| {
        total += size(line);
        total <= budget
    });
    let fitting = fitting.count();
    if fitting == 0 && !lines.is_empty() {
        let Some(newest) = lines.pop_back() else { return (0, 0) };
        let lost: usize = lines.iter().map(String::len).sum();
        let (tail, _) = reply::newest(&newest, budget / 6);
        let (count, cut) = (lines.len(), newest.len() - tail.len());
        let tail = tail.to_owned();
        lines.clear();
        lines.push_back(tail);
        return (count, lost + cut);
    }
    let out = lines.len() - fitting;
    let lost = lines.drain(..out).map(|line| line.len() + 1).sum();
    (out, lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_whole() {
        let mut lines: VecDeque<_> = (0..100).map(|n| format!("line {n:03}")).collect();
        let (left_out, lost) = fit(&mut lines, 100);
        assert_eq!((lines.len(), left_out, lost), (10, 90, 90 * 9));
        assert_eq!((lines[0].as_str(), lines[9].as_str()), ("line 090", "line 099"));
    }

    #[test]
    fn one_line_too_long_keeps_its_end() {
        let mut lines: VecDeque<_> = ["short".to_owned(), format!("{}end", "\u{1}".repeat(5000))].into();
        let (left_out, lost) = fit(&mut lines, 600);
        assert_eq!((lines.len(), left_out), (1, 1));
        assert!(lines[0].ends_with("end") && lines[0].len() == 100 && lost == 5 + 5003 - 100);
    }
}
