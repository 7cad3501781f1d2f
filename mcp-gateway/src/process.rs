//! One core process: its own process group, its pipes, its words on stderr in our log, and an end that leaves nothing
//! behind. The only file that starts processes.

use std::{
    collections::VecDeque,
    io,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use shared::Level;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::{config::CoreCommand, stop::within};

/// How long a process may take to end by itself once its stdin is closed.
const AFTER_EOF: Duration = Duration::from_secs(2);
/// How long after SIGTERM: the core gives running changes ten seconds.
const AFTER_TERM: Duration = Duration::from_secs(12);
/// Of one line on stderr, so much is logged.
const LONGEST_WORDS: usize = 4096;
/// Lines of stderr that are kept for a message about the end.
const LAST_WORDS: usize = 12;

/// A running process.
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    words: Words,
    relay: JoinHandle<()>,
}

/// The newest lines of stderr.
pub(crate) type Words = Arc<Mutex<VecDeque<String>>>;

impl Process {
    /// Starts the command at this level. `number` is the worker's, for the log.
    pub(crate) fn spawn(core: &CoreCommand, level: Level, number: u32) -> io::Result<Self> {
        let mut command = command(core, level);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // A signal to our group (Ctrl-C) is not for the core: it is stopped in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the process has no pipes"));
        };
        let words = Words::default();
        let relay = tokio::spawn(relay(stderr, number, words.clone()));
        Ok(Self { child, group, stdin: Some(stdin), stdout, words, relay })
    }

    /// Its stdout, and what comes when it has ended, in words.
    pub(crate) fn listen(&mut self) -> (&mut ChildStdout, Ending<'_>) {
        (&mut self.stdout, Ending(&mut self.child))
    }

    /// Its process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it said last on stderr.
    pub(crate) fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Ends it: closes stdin, waits, SIGTERM, waits, SIGKILL; then it has been reaped, and nothing of its group is left.
    /// Returns how it ended and what it said last.
    pub(crate) async fn stop(mut self) -> (String, String) {
        self.stdin = None;
        let group = self.group;
        let how = {
            let Self { child, stdout, .. } = &mut self;
            // What it still writes is read, or it could not come to its end.
            let mut sink = tokio::io::sink();
            let drain = async {
                let _ = tokio::io::copy(stdout, &mut sink).await;
                std::future::pending::<()>().await
            };
            let end = async {
                if let Some(status) = within(AFTER_EOF, child.wait()).await {
                    return status;
                }
                signal(group, Signal::TERM);
                if let Some(status) = within(AFTER_TERM, child.wait()).await {
                    return status;
                }
                signal(group, Signal::KILL);
                child.wait().await
            };
            tokio::select! {
                status = end => status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                () = drain => String::new(),
            }
        };
        // What it started may have stayed behind; as long as something is left, the group's number is not used anew.
        signal(group, Signal::KILL);
        // The relay has the last lines when it comes to the end of stderr.
        let _ = within(Duration::from_millis(200), &mut self.relay).await;
        (how, self.last_words())
    }
}

/// The end of a process, to wait for.
pub(crate) struct Ending<'a>(&'a mut Child);

impl Ending<'_> {
    pub(crate) async fn come(&mut self) -> String {
        match self.0.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // Nothing left of it is what we want.
        let _ = kill_process_group(group, signal);
    }
}

/// The core's command with nothing but its own environment.
fn command(core: &CoreCommand, level: Level) -> Command {
    let mut command = Command::new(&core.program);
    command
        .args(&core.arguments)
        .env_clear()
        .envs(core.environment.iter().map(|(name, value)| (name, value)))
        .env("CAPABILITY_LEVEL", level.number().to_string());
    command
}

/// Takes stderr to our log until it ends. It is always read, whatever comes, so that the process never waits for us.
async fn relay(stderr: impl AsyncRead + Unpin, number: u32, words: Words) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut limit = Limit::default();
    loop {
        line.clear();
        let read = (&mut stderr).take(LONGEST_WORDS as u64).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(read) if read > 0) {
            return;
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if let Some(left_out) = limit.take() {
            if left_out > 0 {
                log::warn!("worker {number}: {left_out} lines of stderr left out");
            }
            log::info!("worker {number}: {text}");
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(text.into_owned());
    }
}

/// Bounds how much of something is logged: a few hundred lines, refilled every ten seconds.
#[derive(Debug)]
pub(crate) struct Limit {
    since: Instant,
    passed: u32,
    left_out: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Self { since: Instant::now(), passed: 0, left_out: 0 }
    }
}

impl Limit {
    const MOST: u32 = 300;
    const PERIOD: Duration = Duration::from_secs(10);

    /// Whether one more may pass; then how many were left out before it.
    pub(crate) fn take(&mut self) -> Option<u64> {
        if self.since.elapsed() >= Self::PERIOD {
            (self.since, self.passed) = (Instant::now(), 0);
        }
        if self.passed < Self::MOST {
            self.passed += 1;
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

/// What the core prints with these arguments. An error has its own words.
pub(crate) async fn output(
    core: &CoreCommand,
    level: Level,
    arguments: &[&str],
    limit: Duration,
) -> Result<Vec<u8>, String> {
    let mut command = command(core, level);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let name = core.name();
    match within(limit, command.output()).await {
        None => Err(format!("{name} {} did not end within {} s", arguments.join(" "), limit.as_secs())),
        Some(Err(error)) => Err(format!(
            "CORE_COMMAND: cannot start {name}: {error}. Set it to the path of homelab-mcp, or install both programs in \
             the same folder."
        )),
        Some(Ok(output)) if output.status.success() => Ok(output.stdout),
        Some(Ok(output)) => {
            let words = String::from_utf8_lossy(output.stderr.trim_ascii()).into_owned();
            Err(format!("{name} does not start ({}):\n{words}", output.status))
        }
    }
}
