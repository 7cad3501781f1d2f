//! Commands in a container: run, output kept apart and bounded, and really ended when their time is over.
//!
//! The engine has no call that ends a command, and tells only its number on the engine's host. So each command gets an
//! environment variable with a random value, which its children inherit. To end it, a second command in the same
//! container looks for that value in `/proc/*/environ` with nothing but a shell's own words, and sends signals. Where
//! the image has no shell, the processes of this host are looked through for the same value, which works when we run
//! as root (and not in a container of our own) beside the engine. A number alone is never signalled.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::future::join;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client::{Answer, Call, Docker, after, checked, not_a};
use super::logs::{Channel, Frames, lossy, whole};
use super::model;
use crate::error::{Fault, Kind};
use crate::proof;

/// The variable by which our commands are known.
const MARK: &str = "HOMELAB_MCP_EXEC";
/// How long a command may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(2);
/// How long the command that sends signals may take.
const HELPER: Duration = Duration::from_secs(5);
/// How long the exit code may take to appear after the output ended.
const SETTLE: Duration = Duration::from_secs(2);

/// Counts the processes with the value `$1` in their environment, and sends them the signal `$2` (0: none). Only words
/// that every shell has built in: an image need not have `grep`. `read` drops the zero bytes.
const FIND: &str = r#"n=0
for d in /proc/[0-9]*; do
  p=${d#/proc/}
  [ "$p" = "$$" ] && continue
  f=
  { while IFS= read -r l || [ -n "$l" ]; do
    case "$l" in *"$1"*) f=1; break;; esac
    l=
  done < "$d/environ"; } 2>/dev/null
  [ -n "$f" ] || continue
  n=$((n+1))
  [ "$2" = 0 ] || kill -s "$2" "$p" 2>/dev/null
done
echo "found $n""#;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct ExecSpec {
    /// The program and its arguments; no shell is put between.
    pub(crate) argv: Vec<String>,
    /// The folder; else the image's.
    pub(crate) workdir: Option<String>,
    /// The user, `name`, `uid` or `uid:gid`; else the container's.
    pub(crate) user: Option<String>,
    /// After this long it is ended.
    pub(crate) timeout: Duration,
    /// How many bytes of each of both outputs are kept: the first half from the beginning, the second from the end.
    pub(crate) output_cap: usize,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExecResult {
    /// How the process ended; `None` when the engine does not know (the container went away) or it still runs.
    pub(crate) exit_code: Option<i64>,
    /// Standard output. Where bytes are left out in the middle, a note says so.
    pub(crate) stdout: String,
    /// Standard error likewise.
    pub(crate) stderr: String,
    /// How many bytes of standard output were left out.
    pub(crate) stdout_truncated_bytes: u64,
    /// How many bytes of standard error were left out.
    pub(crate) stderr_truncated_bytes: u64,
    /// Whether it came to its end.
    pub(crate) outcome: Outcome,
    /// How long it took, in milliseconds.
    pub(crate) duration_ms: u64,
}

/// Whether a command came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ended by itself.
    Finished,
    /// It took too long and was ended: the engine says that it runs no more. With it its children, except those that
    /// cleared their environment.
    TimedOutKilled,
    /// It took too long and could not be ended.
    StillRunning {
        /// Its number on the engine's host.
        pid: Option<i64>,
    },
}

/// What the engine says about a command.
#[derive(Clone, Copy, Debug, Default)]
struct ExecState {
    /// Whether it runs.
    running: bool,
    /// How it ended.
    exit_code: Option<i64>,
    /// Its number on the engine's host; `None` if it never started.
    pid: Option<i64>,
}

/// A command that was started.
struct Run<'a> {
    /// In which container.
    container: &'a str,
    /// The engine's id of it.
    id: String,
    /// The value that its processes have in their environment.
    mark: String,
    /// What was run.
    spec: &'a ExecSpec,
}

/// A way to reach a command's processes.
#[derive(Clone, Debug)]
enum Way {
    /// A shell in the container.
    Shell(Vec<String>),
    /// This host's own list of processes.
    Host,
}

impl Docker {
    /// Runs a command to its end. Dropping the future leaves the command running.
    pub(crate) async fn exec(&self, _: &proof::Change, container: &str, spec: &ExecSpec) -> Result<ExecResult, Fault> {
        let container = checked(container)?;
        if spec.argv.first().is_none_or(String::is_empty) || spec.argv.iter().any(|arg| arg.contains('\0')) {
            return Err(Fault::new(Kind::Invalid, "the command is empty or holds a zero byte"));
        }
        let began = Instant::now();
        let mark = format!("{:032x}", rand::random::<u128>());
        let id = self.create_exec(container, &spec.argv, spec.workdir.as_deref(), spec.user.as_deref(), &mark).await?;
        let run = Run { container, id, mark, spec };
        let deadline = after(spec.timeout);

        let mut output = Output::new(spec.output_cap);
        let mut answer = self.open(start_call(&run.id)).await?;
        let mut timed_out = timeout_at(deadline, output.read(&mut answer)).await.map_or(Ok(true), |read| {
            // An error before the command began may be its own: newer engines refuse in the answer's status.
            read.map(|()| false).map_err(not_started_if_so)
        })?;
        let mut state = None;
        if !timed_out {
            state = self.settled(&run, deadline).await?;
            timed_out = state.is_none();
        }
        let mut outcome = Outcome::Finished;
        if timed_out {
            // What it still says while it is ended belongs to its output.
            let ended = {
                let mut drain = std::pin::pin!(output.read(&mut answer));
                let mut end = std::pin::pin!(self.end(&run));
                let ended = tokio::select! {
                    ended = &mut end => Some(ended),
                    _ = &mut drain => None,
                };
                match ended {
                    Some(ended) => {
                        let _ = timeout(Duration::from_millis(500), drain).await;
                        ended
                    }
                    None => end.await,
                }
            };
            (outcome, state) = ended;
        }
        let state = state.unwrap_or_default();
        if outcome == Outcome::Finished && state.pid.is_none() && matches!(state.exit_code, Some(126 | 127)) {
            // It never began: the engine writes the reason where the output would be.
            return Err(not_started(&lossy(output.stdout.finish().0.into_bytes())));
        }
        let (stdout, stdout_truncated_bytes) = output.stdout.finish();
        let (stderr, stderr_truncated_bytes) = output.stderr.finish();
        Ok(ExecResult {
            exit_code: if matches!(outcome, Outcome::StillRunning { .. }) { None } else { state.exit_code },
            stdout,
            stderr,
            stdout_truncated_bytes,
            stderr_truncated_bytes,
            outcome,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Prepares a command; nothing runs yet.
    async fn create_exec(
        &self,
        container: &str,
        argv: &[String],
        workdir: Option<&str>,
        user: Option<&str>,
        mark: &str,
    ) -> Result<String, Fault> {
        let mut body = json!({"AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": argv});
        if !mark.is_empty() {
            body["Env"] = json!([format!("{MARK}={mark}")]);
        }
        if let Some(workdir) = workdir {
            body["WorkingDir"] = json!(workdir);
        }
        if let Some(user) = user {
            body["User"] = json!(user);
        }
        let call = Call::post(format!("/containers/{container}/exec")).json(body).harmless();
        let made = self.json(call).await?;
        match made["Id"].as_str() {
            Some(id) if checked(id).is_ok() => Ok(id.to_owned()),
            _ => Err(not_a("command's id")),
        }
    }

    /// Asks how a command is. One that is unknown has gone with its container.
    async fn exec_state(&self, id: &str) -> Result<ExecState, Fault> {
        match self.json(Call::get(format!("/exec/{id}/json"))).await {
            Ok(said) => Ok(ExecState {
                running: model::flag(&said, "Running"),
                exit_code: said["ExitCode"].as_i64(),
                pid: said["Pid"].as_i64().filter(|pid| *pid > 0),
            }),
            // Without a number it looks like one that never began; -1 is what no process has.
            Err(fault) if fault.kind == Kind::NotFound => {
                Ok(ExecState { running: false, exit_code: None, pid: Some(-1) })
            }
            Err(fault) => Err(fault),
        }
    }

    /// After the output has ended: waits for the exit code. `None` when the command runs beyond its time (it may have
    /// closed its outputs).
    async fn settled(&self, run: &Run<'_>, deadline: Instant) -> Result<Option<ExecState>, Fault> {
        let patience = Instant::now() + SETTLE;
        let mut pause = Duration::from_millis(10);
        loop {
            let state = self.exec_state(&run.id).await.map_err(|fault| unknown(&fault))?;
            let now = Instant::now();
            if !state.running && (state.exit_code.is_some() || now >= patience) {
                return Ok(Some(state));
            }
            if state.running && now >= deadline.max(patience) {
                return Ok(None);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Ends a command and its children: SIGTERM, some time, SIGKILL. Says what came of it.
    async fn end(&self, run: &Run<'_>) -> (Outcome, Option<ExecState>) {
        let mut last = ExecState::default();
        match self.try_end(run, &mut last).await {
            Ok(outcome) => (outcome, Some(last)),
            Err(fault) => {
                log::warn!("a command in a container that took too long could not be ended: {fault}");
                (Outcome::StillRunning { pid: last.pid.filter(|pid| *pid > 0) }, Some(last))
            }
        }
    }

    /// The steps of [`Self::end`]. `last` is what was seen last, also when a step fails.
    async fn try_end(&self, run: &Run<'_>, last: &mut ExecState) -> Result<Outcome, Fault> {
        *last = self.exec_state(&run.id).await?;
        if !last.running {
            // It ended just now, and a child holds its output.
            return Ok(Outcome::Finished);
        }
        let Some(way) = self.find_way(run, last.pid).await else {
            *last = self.exec_state(&run.id).await?;
            return Ok(if last.running { Outcome::StillRunning { pid: last.pid } } else { Outcome::Finished });
        };
        let mut gone = self.gone_within(run, &way, GRACE).await;
        // Twice, since a process may be born while the list is read.
        for _ in 0..2 {
            if !gone {
                self.signal(run, &way, "KILL").await;
                gone = self.gone_within(run, &way, AFTER_KILL).await;
            }
        }
        if !gone {
            log::warn!("processes of a command in container {} could not be ended", run.container);
        }
        // Asked last: while a child holds the output of a command that has ended, the engine lets this wait for seconds.
        let patience = Instant::now() + SETTLE;
        loop {
            *last = self.exec_state(&run.id).await?;
            if !last.running {
                return Ok(Outcome::TimedOutKilled);
            }
            if Instant::now() >= patience {
                return Ok(Outcome::StillRunning { pid: last.pid });
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until no process of a command is left; whether that was so.
    async fn gone_within(&self, run: &Run<'_>, way: &Way, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if self.signal(run, way, "0").await == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(150)).await;
        }
    }

    /// Sends SIGTERM in the first way that finds the command.
    async fn find_way(&self, run: &Run<'_>, pid: Option<i64>) -> Option<Way> {
        for shell in shells(&run.spec.argv) {
            let way = Way::Shell(shell);
            if self.signal(run, &way, "TERM").await > 0 {
                return Some(way);
            }
        }
        (on_this_host(&run.mark, pid, "TERM").await > 0).then_some(Way::Host)
    }

    /// Signals all processes of a command that can be reached in this way; how many there were.
    async fn signal(&self, run: &Run<'_>, way: &Way, signal: &str) -> u32 {
        match way {
            Way::Host => on_this_host(&run.mark, None, signal).await,
            Way::Shell(shell) => {
                // Reading another user's environment takes a privilege that containers do not have, root neither: the
                // command's own user finds its processes, and root those that became root.
                let own = run.spec.user.as_deref();
                if own.is_some_and(|user| matches!(user.split(':').next(), Some("0" | "root"))) {
                    return self.signal_as(run, shell, own, signal).await.unwrap_or(0);
                }
                let (as_own, as_root) =
                    join(self.signal_as(run, shell, own, signal), self.signal_as(run, shell, Some("0"), signal)).await;
                as_own.unwrap_or(0).max(as_root.unwrap_or(0))
            }
        }
    }

    /// The same as one user; `None` when that shell cannot be run.
    async fn signal_as(&self, run: &Run<'_>, shell: &[String], user: Option<&str>, signal: &str) -> Option<u32> {
        let script = ["-c", FIND, "sh", &run.mark, signal].map(str::to_owned);
        let argv: Vec<String> = shell.iter().cloned().chain(script).collect();
        let helper = async {
            let id = self.create_exec(run.container, &argv, None, user, "").await?;
            let mut output = Output::new(4096);
            output.read(&mut self.open(start_call(&id)).await?).await?;
            Ok::<_, Fault>(output.stdout.finish().0)
        };
        match timeout(HELPER, helper).await {
            Ok(Ok(said)) => said.trim().strip_prefix("found ")?.parse().ok(),
            Ok(Err(fault)) => {
                log::debug!("no signal through {shell:?}: {fault}");
                None
            }
            Err(_) => None,
        }
    }
}

/// Starts a command and streams its output. Without an upgrade of the connection, which the engine does not need when
/// there is no input.
fn start_call(id: &str) -> Call {
    Call::post(format!("/exec/{id}/start")).json(json!({"Detach": false, "Tty": false}))
}

/// The connection to the engine was lost while a command ran.
fn unknown(fault: &Fault) -> Fault {
    Fault::new(Kind::TimedOut, format!("the command was started, but what became of it is not known: {}", fault.cause))
        .hint("It may still be running in the container: look before running it again.")
}

/// Shells to look for. If the command itself was one, that one is there.
fn shells(argv: &[String]) -> Vec<Vec<String>> {
    let mut shells: Vec<Vec<String>> = [
        &["/bin/sh"][..],
        &["sh"],
        &["/bin/busybox", "sh"],
        &["/busybox", "sh"],
        // Debug variants of the distroless images.
        &["/busybox/sh"],
    ]
    .map(|shell| shell.iter().map(|&word| word.to_owned()).collect())
    .to_vec();
    if let Some(program) = argv.first()
        && matches!(program.rsplit('/').next(), Some("sh" | "bash" | "ash" | "dash"))
    {
        shells.retain(|shell| shell.first() != Some(program));
        shells.insert(0, vec![program.clone()]);
    }
    shells
}

/// A failure that says that the command could not begin, as one.
fn not_started_if_so(fault: Fault) -> Fault {
    let cause = fault.cause.to_ascii_lowercase();
    let its_own =
        ["exec failed", "unable to start container process", "unable to find user", "executable file not found"];
    if its_own.iter().any(|part| cause.contains(part)) { not_started(&fault.cause) } else { fault }
}

/// The engine's reason why a command did not begin.
fn not_started(said: &str) -> Fault {
    let said = said.trim();
    let reason = said
        .rsplit_once("unable to start container process: ")
        .map_or(said, |(_, reason)| reason)
        .trim_start_matches("OCI runtime exec failed: ")
        .trim_end_matches(": unknown");
    let reason = if reason.is_empty() { "the engine gives no reason" } else { reason };
    let hint = if reason.contains("chdir") || reason.contains("Cwd") {
        "Give a folder that exists in the container, as an absolute path."
    } else if reason.contains("executable file not found") || reason.contains("no such file or directory") {
        "Not every image has a shell or the usual tools: name a program that the image has, with its full path."
    } else if reason.contains("user") {
        "Give a user that the image has, or a number."
    } else {
        "Correct the command and call again."
    };
    Fault::new(Kind::Invalid, format!("the command could not be started: {reason}")).hint(hint)
}

/// Signals the processes of this host that have the value in their environment; how many there were.
#[cfg(target_os = "linux")]
async fn on_this_host(mark: &str, pid: Option<i64>, signal: &str) -> u32 {
    let value = format!("{MARK}={mark}").into_bytes();
    let signal = match signal {
        "TERM" => Some(rustix::process::Signal::TERM),
        "KILL" => Some(rustix::process::Signal::KILL),
        _ => None,
    };
    // Reading another process's environment may hang with that process: not on the thread that serves.
    let all = tokio::task::spawn_blocking(move || host_signal(&value, pid, signal));
    timeout(HELPER, all).await.ok().and_then(Result::ok).unwrap_or(0)
}

/// Elsewhere the engine's processes are in another system.
#[cfg(not(target_os = "linux"))]
async fn on_this_host(_: &str, _: Option<i64>, _: &str) -> u32 {
    0
}

/// The same, blocking. The handle is taken before the environment is read, so the process that is signalled is the one
/// that was looked at, also if numbers are reused.
#[cfg(target_os = "linux")]
fn host_signal(value: &[u8], pid: Option<i64>, signal: Option<rustix::process::Signal>) -> u32 {
    use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
    let has = |number: i32| -> Option<bool> {
        let handle = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
        let environment = std::fs::read(format!("/proc/{number}/environ")).ok()?;
        if !environment.split(|byte| *byte == 0).any(|variable| variable == value) {
            return Some(false);
        }
        match signal {
            Some(signal) => Some(pidfd_send_signal(handle, signal).is_ok()),
            None => Some(true),
        }
    };
    // If the command itself is not here, nothing of it is, and other processes are left in peace.
    if let Some(pid) = pid
        && i32::try_from(pid).ok().and_then(has) != Some(true)
    {
        return 0;
    }
    let Ok(all) = std::fs::read_dir("/proc") else { return 0 };
    let others = all
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|number| has(*number) == Some(true))
        .count();
    u32::try_from(others).unwrap_or(u32::MAX).max(u32::from(pid.is_some()))
}

/// The outputs of a command.
struct Output {
    /// Takes the stream apart.
    frames: Frames,
    /// Standard output.
    stdout: Kept,
    /// Standard error.
    stderr: Kept,
}

impl Output {
    /// Nothing yet.
    fn new(cap: usize) -> Self {
        Self { frames: Frames::new(), stdout: Kept::new(cap), stderr: Kept::new(cap) }
    }

    /// Reads to the end. Can be dropped and called again.
    async fn read(&mut self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        while let Some(piece) = answer.next().await? {
            let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
            let _ = self.frames.feed(&piece, &mut |channel, _, part| {
                match channel {
                    Channel::Stdout => stdout.push(part),
                    // What the engine says about the stream is no output, but better there than nowhere.
                    Channel::Stderr | Channel::Engine => stderr.push(part),
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }
}

/// The beginning and the end of an output of any length.
struct Kept {
    /// The first bytes.
    head: Vec<u8>,
    /// The last bytes.
    tail: VecDeque<u8>,
    /// How many bytes are kept at the beginning.
    head_cap: usize,
    /// How many at the end.
    tail_cap: usize,
    /// How many there were.
    total: u64,
}

impl Kept {
    /// Nothing yet.
    fn new(cap: usize) -> Self {
        let head_cap = cap / 2;
        Self { head: Vec::new(), tail: VecDeque::new(), head_cap, tail_cap: cap - head_cap, total: 0 }
    }

    /// Takes more.
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(self.head_cap - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.tail_cap)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.tail_cap);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// The text, and how many bytes are left out.
    fn finish(self) -> (String, u64) {
        let mut head = self.head;
        let mut tail = Vec::from(self.tail);
        if self.total == (head.len() + tail.len()) as u64 {
            head.append(&mut tail);
            return (lossy(head), 0);
        }
        head.truncate(whole(&head));
        // The end of a code point whose beginning is left out.
        let rest = tail.iter().take(3).take_while(|byte| (0x80..0xC0).contains(*byte)).count();
        tail.drain(..rest);
        let left_out = self.total - (head.len() + tail.len()) as u64;
        (format!("{}\n[… {left_out} bytes left out …]\n{}", lossy(head), lossy(tail)), left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cap: usize, pieces: &[&[u8]]) -> (String, u64) {
        let mut kept = Kept::new(cap);
        for piece in pieces {
            kept.push(piece);
            assert!(kept.head.len() + kept.tail.len() <= cap);
        }
        kept.finish()
    }

    #[test]
    fn beginning_and_end_are_kept_at_every_cut() {
        let text = "abcdefghij".as_bytes();
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(kept(10, &[a, b]), ("abcdefghij".into(), 0), "{cut}");
            assert_eq!(kept(6, &[a, b]), ("abc\n[… 4 bytes left out …]\nhij".into(), 4), "{cut}");
            assert_eq!(kept(0, &[a, b]), ("\n[… 10 bytes left out …]\n".into(), 10), "{cut}");
        }
    }

    #[test]
    fn no_code_point_is_cut() {
        let text = "😀".repeat(20);
        for cap in 0..80 {
            let (shown, left_out) = kept(cap, &[text.as_bytes()]);
            assert!(!shown.contains('\u{fffd}'), "{cap}: {shown}");
            let faces = shown.matches('😀').count() as u64;
            assert_eq!(faces * 4 + left_out, 80, "{cap}");
        }
        assert_eq!(kept(80, &[text.as_bytes()]), (text, 0));
    }

    #[test]
    fn reasons_lose_the_machinery_around_them() {
        let fault = not_started(
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not \
             found in $PATH: unknown\r\n",
        );
        assert_eq!(fault.kind, Kind::Invalid);
        assert_eq!(fault.cause, "the command could not be started: exec: \"nope\": executable file not found in $PATH");
        assert!(fault.hint.unwrap().contains("Not every image"));
        assert!(not_started("").cause.ends_with("gives no reason"));
    }

    #[test]
    fn the_shell_that_ran_the_command_is_asked_first() {
        let argv = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(shells(&argv("/usr/bin/bash -c x"))[0], ["/usr/bin/bash"]);
        assert_eq!(shells(&argv("sh -c x"))[0], ["sh"]);
        assert_eq!(shells(&argv("/bin/ls"))[0], ["/bin/sh"]);
    }
}
