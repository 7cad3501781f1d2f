//! The `docker compose` program: how it is called, what it sees of our environment (next to nothing), and what its
//! ends mean. The only place of the core that starts a process.
//!
//! Questions (`config`, `version`) have a time limit and die with whoever asked. Changes (`up`, `down`) run on when
//! nobody waits any more: their output goes to a file without a name and not to a pipe, so that they do not even break
//! when this program ends.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs::File,
    io,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{stacks::Stack, states::Identity};
use crate::{
    error::{Fault, Kind},
    proof,
};

/// The variables that the program is given, if they are set; `DOCKER_HOST` is ours to say. Not `DOCKER_CONTEXT`, which
/// would name another engine. All that a compose file can substitute beyond its own `.env` is this.
pub(crate) const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "XDG_RUNTIME_DIR",
    "TMPDIR",
];

/// Where programs are looked for without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a question may take. Reading a project is quick; the Engine may be slow to list volumes.
const QUESTION: Duration = Duration::from_secs(30);

/// The longest answer to a question.
const LONGEST_ANSWER: u64 = 8 << 20;

/// How much of a change's output is remembered: the newest of it.
const REMEMBERED: usize = 64 << 10;

/// How much of the output a failure carries.
const SHOWN: usize = 4 << 10;

/// The longest line that is passed on.
const LONGEST_LINE: usize = 4 << 10;

/// How often a running change's output is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long the rest of a process group may outlive its leader before we stop waiting for it.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// How to call `docker compose`.
#[derive(Clone, Debug)]
pub(crate) struct Compose {
    docker: OsString,
    environment: BTreeMap<String, String>,
}

/// What compose makes of a stack's files.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `docker compose config --format json`: every variable and env file resolved, so it holds secrets.
    pub(crate) json: Value,
    /// The project name, for certain.
    pub(crate) project: String,
    /// Compose's warnings: variables that are not set, attributes without effect.
    pub(crate) warnings: Vec<String>,
}

/// A service in a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceConfig {
    /// Its name.
    pub(crate) service: String,
    /// The fixed name of its container, if it has one.
    pub(crate) container_name: Option<String>,
    /// Its image; None when it is built.
    pub(crate) image: Option<String>,
}

/// A named volume in a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeConfig {
    /// Its name in the file.
    pub(crate) key: String,
    /// Its name in the Engine.
    pub(crate) name: String,
    /// Whether it is made elsewhere; compose never removes such a one.
    pub(crate) external: bool,
}

impl Config {
    /// Its services, in compose's order.
    pub(crate) fn services(&self) -> Vec<ServiceConfig> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let services = self.json.get("services").and_then(Value::as_object).into_iter().flatten();
        services
            .map(|(service, value)| ServiceConfig {
                service: service.clone(),
                container_name: text(value, "container_name"),
                image: text(value, "image"),
            })
            .collect()
    }

    /// Its named volumes.
    pub(crate) fn volumes(&self) -> Vec<VolumeConfig> {
        let volumes = self.json.get("volumes").and_then(Value::as_object).into_iter().flatten();
        volumes
            .map(|(key, value)| VolumeConfig {
                key: key.clone(),
                name: value.get("name").and_then(Value::as_str).unwrap_or(key).to_owned(),
                external: value.get("external").is_some_and(|external| *external != Value::Bool(false)),
            })
            .collect()
    }
}

/// A change that ended well.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The newest of its output, standard output and error as they came.
    pub(crate) output: String,
    /// How many bytes of output before that are gone.
    pub(crate) dropped: u64,
}

/// A change that did not end well. What it had done by then stays done.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// What happened; the cause is the end of the output.
    pub(crate) fault: Fault,
    /// The last lines, [`SHOWN`] bytes at most.
    pub(crate) output: String,
    /// The exit code, if it was not a signal.
    pub(crate) code: Option<i32>,
    /// Whether [`Running::terminate`] ended it.
    pub(crate) terminated: bool,
}

/// A change under way. Dropping this neither ends nor disturbs it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// The process id, which is the id of its process group too.
    pub(crate) pid: u32,
    log: Arc<Mutex<Log>>,
    stop: mpsc::UnboundedSender<Duration>,
    end: watch::Receiver<Option<Result<Done, Failed>>>,
}

impl Compose {
    /// Calls `docker` (a path, or a name to be found on `PATH`) for the engine at `docker_host`, with those of the
    /// `variables` that are [`ALLOWED`].
    pub(crate) fn new(docker: impl Into<OsString>, docker_host: &str, variables: &BTreeMap<String, String>) -> Self {
        let mut environment: BTreeMap<String, String> = ALLOWED
            .iter()
            .filter_map(|name| variables.get_key_value(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        environment.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
        environment.insert("DOCKER_HOST".to_owned(), docker_host.to_owned());
        // By variable and not by flag: `--progress` came with 2.17, and a pipe or file gets plain lines anyway.
        environment.insert("COMPOSE_PROGRESS".to_owned(), "plain".to_owned());
        environment.insert("COMPOSE_ANSI".to_owned(), "never".to_owned());
        Self { docker: docker.into(), environment }
    }

    /// The plugin's version, which must be 2 or later.
    pub(crate) async fn version(&self) -> Result<String, Fault> {
        let words = ["compose", "version", "--short"].map(OsString::from);
        let answer = self.ask(&words, Path::new("/"), &[], &[]).await?;
        if !answer.status.success() {
            return Err(refusal(&answer.stderr, answer.status));
        }
        let version = answer.stdout.trim().trim_start_matches('v').to_owned();
        match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major >= 2 => Ok(version),
            Some(_) => Err(not_installed(&format!("the Docker compose plugin is too old: {version}"))),
            None => Err(Fault::new(Kind::Malformed, format!("`docker compose version` answered {version:?}"))),
        }
    }

    /// What compose makes of the stack as it is. Nothing is asked of the Engine.
    pub(crate) async fn config(&self, stack: &Stack, identity: &Identity) -> Result<Config, Fault> {
        let args = arguments(stack, identity, false, &["config", "--format", "json"]);
        self.resolve(stack, &args, &[], &[]).await
    }

    /// What compose would make of the stack with `text` in place of its compose file, which need not exist. Nothing is
    /// written, and nothing is fetched: an `include` of a repository or an image is refused here.
    pub(crate) async fn check(&self, stack: &Stack, identity: &Identity, text: &str) -> Result<Config, Fault> {
        let args = arguments(stack, identity, true, &["config", "--format", "json"]);
        // A text that somebody merely proposes must not make us run git against a host of its choosing.
        let offline = [("COMPOSE_EXPERIMENTAL_GIT_REMOTE", "false"), ("COMPOSE_EXPERIMENTAL_OCI_REMOTE", "false")];
        self.resolve(stack, &args, text.as_bytes(), &offline).await.map_err(|fault| {
            if !fault.cause.contains("remote resource is disabled") {
                return fault;
            }
            Fault::new(Kind::Invalid, "the text includes a repository or an image, which homelab-mcp does not fetch")
                .hint("Include files of the stack's folder, or put that text there by hand.")
        })
    }

    /// `up -d --remove-orphans`. `on_line` is called for each line, from a task of its own.
    pub(crate) fn up(
        &self,
        _: &proof::Change,
        stack: &Stack,
        identity: &Identity,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Running, Fault> {
        self.start(stack, arguments(stack, identity, false, &["up", "--detach", "--remove-orphans"]), on_line)
    }

    /// `down`. Volumes stay.
    pub(crate) fn down(
        &self,
        _: &proof::Change,
        stack: &Stack,
        identity: &Identity,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Running, Fault> {
        self.start(stack, arguments(stack, identity, false, &["down"]), on_line)
    }

    /// `down --volumes`: the named volumes that the stack made are removed with what they hold, and anonymous ones.
    pub(crate) fn down_with_volumes(
        &self,
        _: &proof::Destroy,
        stack: &Stack,
        identity: &Identity,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Running, Fault> {
        self.start(stack, arguments(stack, identity, false, &["down", "--volumes"]), on_line)
    }

    /// Asks `config`.
    async fn resolve(
        &self,
        stack: &Stack,
        args: &[OsString],
        stdin: &[u8],
        extra: &[(&str, &str)],
    ) -> Result<Config, Fault> {
        let answer = self.ask(args, place(stack), stdin, extra).await?;
        if !answer.status.success() {
            let fault = refusal(&answer.stderr, answer.status);
            return Err(match fault.kind {
                Kind::Upstream => Fault { kind: Kind::Invalid, ..fault },
                _ => fault,
            });
        }
        let malformed = |why: &str| Fault::new(Kind::Malformed, format!("`docker compose config` answered {why}"));
        let json: Value = serde_json::from_str(&answer.stdout).map_err(|error| malformed(&error.to_string()))?;
        let project = json.get("name").and_then(Value::as_str).ok_or_else(|| malformed("without a name"))?.to_owned();
        let warnings = answer.stderr.lines().filter_map(warning).collect();
        Ok(Config { json, project, warnings })
    }

    /// The command with its environment and nothing of ours.
    fn command(&self, args: &[OsString], dir: &Path) -> Command {
        let mut command = Command::new(&self.docker);
        command.args(args).current_dir(dir).env_clear().envs(&self.environment);
        // A group of its own: what is typed at our terminal is not for it, and it can be ended whole.
        command.process_group(0).stdin(Stdio::null());
        command
    }

    /// Runs a question to its end.
    async fn ask(&self, args: &[OsString], dir: &Path, stdin: &[u8], extra: &[(&str, &str)]) -> Result<Answer, Fault> {
        let mut command = self.command(args, dir);
        command.envs(extra.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if !stdin.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|error| self.not_started(&error))?;
        // Whoever stops asking ends the plugin too, not only the program that started it.
        let group = Group(child.id().and_then(pid_of));
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut input) = input {
                // It may end without having read everything; its exit status says why.
                let _ = input.write_all(stdin).await;
            }
        };
        let whole = async { tokio::join!(feed, drained(stdout), drained(stderr), child.wait()) };
        let ((), stdout, stderr, status) = timeout(QUESTION, whole).await.map_err(|_| {
            Fault::new(Kind::TimedOut, format!("docker did not answer within {} s", QUESTION.as_secs()))
                .hint("Nothing was changed.")
        })?;
        group.ended();
        let lost = |error: io::Error| Fault::new(Kind::Upstream, format!("docker's answer could not be read: {error}"));
        let (stdout, stderr, status) = (stdout.map_err(lost)?, stderr.map_err(lost)?, status.map_err(lost)?);
        if stdout.len() as u64 > LONGEST_ANSWER {
            return Err(Fault::new(Kind::Malformed, format!("docker answered more than {} MiB", LONGEST_ANSWER >> 20)));
        }
        Ok(Answer {
            status,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Starts a change.
    fn start(
        &self,
        stack: &Stack,
        args: Vec<OsString>,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Running, Fault> {
        let no_file = |error: io::Error| {
            Fault::new(Kind::Upstream, format!("no room for docker's output: {error}; nothing was started"))
        };
        let output = nameless_file().map_err(no_file)?;
        let [out, err] = [output.try_clone().map_err(no_file)?, output.try_clone().map_err(no_file)?];
        let mut command = self.command(&args, place(stack));
        command.stdout(out).stderr(err).kill_on_drop(false);
        let child = command.spawn().map_err(|error| self.not_started(&error))?;
        drop(command);
        let pid = child.id().unwrap_or_default();

        let log = Arc::new(Mutex::new(Log::default()));
        let (stop, stopped) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(None);
        let follower = Follower { output, offset: 0, partial: Vec::new(), log: Arc::clone(&log), on_line };
        tokio::spawn(async move {
            let result = follower.follow(child, stopped).await;
            let _ = ended.send(Some(result));
        });
        Ok(Running { pid, log, stop, end })
    }

    /// Why the program did not start.
    fn not_started(&self, error: &io::Error) -> Fault {
        let docker = self.docker.display();
        match error.kind() {
            io::ErrorKind::NotFound => not_installed(&format!("there is no program {docker}")),
            _ => Fault::new(Kind::NotConfigured, format!("{docker} could not be started: {error}")),
        }
    }
}

impl Running {
    /// Waits for the end. Giving up waiting changes nothing; it may be asked again, and by several.
    pub(crate) async fn wait(&self) -> Result<Done, Failed> {
        let mut end = self.end.clone();
        if let Ok(result) = end.wait_for(Option::is_some).await
            && let Some(result) = result.as_ref()
        {
            return result.clone();
        }
        // Only a panic in `on_line` leads here, or the end of the runtime.
        Err(Failed {
            fault: Fault::new(Kind::TimedOut, "nobody follows the docker process any more; it may still run"),
            output: locked(&self.log).tail(SHOWN),
            code: None,
            terminated: false,
        })
    }

    /// Ends it: SIGTERM to all of its processes, and SIGKILL to those that are left after `grace`. What it has done by
    /// then stays done.
    pub(crate) async fn terminate(&self, grace: Duration) -> Result<Done, Failed> {
        let _ = self.stop.send(grace);
        self.wait().await
    }

    /// Whether it has ended.
    #[cfg(test)]
    fn ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

/// A finished question.
struct Answer {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// A process group that is killed when its question is given up.
struct Group(Option<Pid>);

impl Group {
    /// It ended by itself; its number may be somebody else's soon.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Everything from a pipe, up to a limit; then the pipe is closed.
async fn drained(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(LONGEST_ANSWER + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The task behind a [`Running`]: reads on, obeys `terminate`, reaps.
struct Follower<F> {
    output: File,
    offset: u64,
    partial: Vec<u8>,
    log: Arc<Mutex<Log>>,
    on_line: F,
}

impl<F: FnMut(&str)> Follower<F> {
    /// Until the process and its group have ended.
    async fn follow(mut self, mut child: Child, mut stop: mpsc::UnboundedReceiver<Duration>) -> Result<Done, Failed> {
        let group = child.id().and_then(pid_of);
        let mut deadline = None;
        let mut asked_to_stop = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                Some(grace) = stop.recv() => {
                    asked_to_stop = true;
                    // The sooner of two requests counts.
                    let until = Instant::now() + grace;
                    deadline = Some(deadline.map_or(until, |earlier: Instant| earlier.min(until)));
                    signal(group, Signal::TERM);
                }
                () = sleep(TICK) => {}
            }
            self.read_on();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                signal(group, Signal::KILL);
            }
        };
        // The plugin is a child of `docker`; when that was killed, it may go on for a moment.
        let rest = deadline.unwrap_or_else(|| Instant::now() + STRAGGLERS);
        while group.is_some_and(|group| test_kill_process_group(group).is_ok()) && Instant::now() < rest {
            sleep(TICK).await;
            self.read_on();
        }
        if asked_to_stop {
            signal(group, Signal::KILL);
        }
        self.read_on();
        self.last_line();
        let log = locked(&self.log);
        match status {
            Ok(status) if status.success() => Ok(Done { output: log.tail(REMEMBERED), dropped: log.dropped }),
            Ok(status) => {
                let output = log.tail(SHOWN);
                let fault = if asked_to_stop {
                    Fault::new(
                        Kind::Upstream,
                        "docker compose was stopped before it was done; part of it may have happened",
                    )
                    .hint("Read the stack's state before going on.")
                } else {
                    refusal(&output, status)
                };
                Err(Failed { fault, output, code: status.code(), terminated: asked_to_stop })
            }
            Err(error) => Err(Failed {
                fault: Fault::new(Kind::TimedOut, format!("the end of the docker process was not seen: {error}")),
                output: log.tail(SHOWN),
                code: None,
                terminated: asked_to_stop,
            }),
        }
    }

    /// Takes in what has been written since.
    fn read_on(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.output.read_at(&mut buffer, self.offset) {
                Ok(0) => return,
                Ok(read) => {
                    self.offset += read as u64;
                    forget(&self.output, self.offset);
                    for byte in buffer.iter().take(read) {
                        match byte {
                            b'\n' => self.last_line(),
                            byte if self.partial.len() < LONGEST_LINE => self.partial.push(*byte),
                            _ => {}
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("the output of docker compose could not be read: {error}");
                    return;
                }
            }
        }
    }

    /// Passes the line on.
    fn last_line(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let line = clean(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        if !line.is_empty() {
            locked(&self.log).push(line.clone());
            (self.on_line)(&line);
        }
    }
}

/// The newest lines.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Log {
    /// Remembers a line and forgets the oldest ones.
    fn push(&mut self, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > REMEMBERED
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len() + 1;
            self.dropped += oldest.len() as u64 + 1;
        }
    }

    /// The last whole lines that fit.
    fn tail(&self, most: usize) -> String {
        let mut room = most;
        let from = self.lines.iter().rev().take_while(|line| {
            let fits = line.len() < room;
            room = room.saturating_sub(line.len() + 1);
            fits
        });
        let skip = self.lines.len() - from.count();
        self.lines.iter().skip(skip).map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// The log, even if `on_line` panicked once: it is only text.
fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number as a process id.
fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// To all processes of the group; there may be none any more.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = kill_process_group(group, signal);
    }
}

/// A file that is gone with its last handle.
#[cfg(target_os = "linux")]
fn nameless_file() -> io::Result<File> {
    // In memory: a container may have no writable folder at all.
    Ok(File::from(rustix::fs::memfd_create("docker-compose-output", rustix::fs::MemfdFlags::CLOEXEC)?))
}

/// A file that is gone with its last handle.
#[cfg(not(target_os = "linux"))]
fn nameless_file() -> io::Result<File> {
    tempfile::tempfile()
}

/// Gives back the memory of what was read, so that a chatty pull does not pile up. From the start each time, because
/// only whole pages are given back and a line is less.
#[cfg(target_os = "linux")]
fn forget(file: &File, until: u64) {
    use rustix::fs::FallocateFlags as Flags;
    let _ = rustix::fs::fallocate(file, Flags::PUNCH_HOLE | Flags::KEEP_SIZE, 0, until);
}

/// On disk it does not matter.
#[cfg(not(target_os = "linux"))]
fn forget(_: &File, _: u64) {}

/// The folder compose runs in. A draft has none yet; then its parent, and `--project-directory` says the rest.
fn place(stack: &Stack) -> &Path {
    if stack.dir.is_dir() { &stack.path } else { stack.path.parent().unwrap_or(&stack.path) }
}

/// The arguments. Everything that is not a word of ours is an absolute path or a checked name, behind its flag.
fn arguments(stack: &Stack, identity: &Identity, from_stdin: bool, words: &[&str]) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["compose", "--ansi", "never"].map(OsString::from).into();
    let mut flag = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
    // The other spelling of the folder, if it is one.
    let path = match &identity.path {
        Some(path) if path.is_absolute() && path.canonicalize().is_ok_and(|real| real == stack.dir) => path,
        _ => &stack.path,
    };
    let at = |file: &Path| file.strip_prefix(&stack.path).map_or_else(|_| file.to_owned(), |rest| path.join(rest));
    flag("--project-directory", path.into());
    if let Some(project) = identity.project.as_ref().filter(|name| is_project(name)) {
        flag("--project-name", project.into());
    }
    // As Dockge does; with `--env-file` the `.env` beside the compose file is no longer found by itself.
    if let Some(global) = &stack.global_env {
        flag("--env-file", global.into());
        if stack.has_env {
            flag("--env-file", path.join(".env").into());
        }
    }
    for (index, file) in stack.used.iter().enumerate() {
        flag("--file", if index == 0 && from_stdin { "-".into() } else { at(file).into() });
    }
    args.extend(words.iter().map(OsString::from));
    args
}

/// The names compose gives projects.
fn is_project(name: &str) -> bool {
    !name.starts_with(['-', '_'])
        && !name.is_empty()
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_')
}

/// A line without control characters, and of what was overwritten in place only the last.
fn clean(line: &str) -> String {
    let line = line.trim_end();
    let last = line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default();
    last.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// The message of a warning in compose's log.
fn warning(line: &str) -> Option<String> {
    let (_, message) = line.split_once("level=warning msg=\"")?;
    let message = message.strip_suffix('"').unwrap_or(message);
    Some(message.replace("\\\"", "\""))
}

/// The plugin or the program is missing.
fn not_installed(cause: &str) -> Fault {
    Fault::new(Kind::NotConfigured, cause).hint(
        "Install the Docker CLI and its compose plugin where homelab-mcp runs (docker-cli and docker-cli-compose on \
         Alpine, docker-ce-cli and docker-compose-plugin from Docker's own packages, docker-compose-v2 on Ubuntu).",
    )
}

/// What compose says of files that it does not take.
const MISWRITTEN: [&str; 5] =
    ["yaml: ", "validating ", "invalid interpolation format", "invalid compose project", "empty compose file"];

/// What a non-zero exit means, by the program's own words.
fn refusal(output: &str, status: ExitStatus) -> Fault {
    let has = |words: &[&str]| words.iter().any(|word| output.contains(word));
    // Without the plugin `docker` does not know the word, or takes the flags after it for its own.
    let no_plugin = ["'compose' is not a docker command", "unknown command: docker compose"];
    let own_flag = ["unknown flag: --", "unknown shorthand flag"];
    if has(&no_plugin) || (status.code() == Some(125) && has(&own_flag)) {
        return not_installed("the Docker compose plugin is not installed where homelab-mcp runs");
    }
    let cause = end_of(output);
    if has(&["permission denied while trying to connect"]) {
        return Fault::new(Kind::Forbidden, cause)
            .hint("Give the user that homelab-mcp runs as access to the Docker socket.");
    }
    let unreachable =
        ["Cannot connect to the Docker daemon", "failed to connect to the docker API", "error during connect"];
    if has(&unreachable) {
        return Fault::new(Kind::Unreachable, cause);
    }
    match (status.code(), status.signal()) {
        // 14: a file is missing; 15: it does not parse. Where both end with 1, the words tell, before anything else was
        // said; later they could be a build's.
        (Some(14 | 15), _) => Fault::new(Kind::Invalid, cause),
        (Some(1), _) if output.lines().count() <= 4 && has(&MISWRITTEN) => Fault::new(Kind::Invalid, cause),
        (Some(code), _) if cause.is_empty() => {
            Fault::new(Kind::Upstream, format!("docker ended with exit code {code}"))
        }
        (None, Some(signal)) => Fault::new(Kind::Upstream, format!("docker was ended by signal {signal}: {cause}")),
        _ => Fault::new(Kind::Upstream, cause),
    }
}

/// The last lines that fit in a fault, without progress and warnings if there is anything else.
fn end_of(output: &str) -> String {
    const ROOM: usize = 500;
    let noise = |line: &str| line.starts_with(' ') || line.contains("level=warning msg=");
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let words: Vec<&str> = lines.iter().copied().filter(|line| !noise(line)).collect();
    let chosen = if words.is_empty() { lines } else { words };
    let mut room = ROOM;
    let mut last: Vec<&str> = chosen
        .into_iter()
        .rev()
        .take_while(|line| {
            let first = room == ROOM;
            let fits = line.len() < room;
            room = room.saturating_sub(line.len() + 1);
            fits || first
        })
        .collect();
    last.reverse();
    last.join("; ")
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::*;
    use crate::backend::compose::stacks::{Stacks, name};

    /// A stack folder and a program that stands in for `docker`.
    fn scene(script: &str) -> (tempfile::TempDir, Stack, Compose) {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("stacks");
        fs::create_dir_all(root.join("web")).unwrap();
        fs::write(root.join("web/compose.yaml"), "services: {}").unwrap();
        let docker = dir.path().join("docker");
        fs::write(&docker, format!("#!/bin/sh\n[ \"$1\" = probe ] && exit\n{script}\n")).unwrap();
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
        // A process that another test is just starting may still have the script open for writing.
        while std::process::Command::new(&docker).arg("probe").status().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let stack = Stacks::new(root, None).find(&name("web").unwrap()).unwrap();
        let variables = [("PATH", "/usr/bin:/bin"), ("PROXMOX_TOKEN_SECRET", "s3cret"), ("DOCKER_CONTEXT", "other")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let compose = Compose::new(docker, "unix:///there", &variables);
        (dir, stack, compose)
    }

    fn started(stack: &Stack, compose: &Compose) -> (Running, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let on_line = move |line: &str| into.lock().unwrap().push(line.to_owned());
        let args = arguments(stack, &Identity::default(), false, &["up"]);
        (compose.start(stack, args, on_line).unwrap(), seen)
    }

    fn alive(pid: u32) -> bool {
        test_kill_process_group(pid_of(pid).unwrap()).is_ok()
    }

    #[test]
    fn arguments_are_explicit_and_mirror_dockge() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (path, text) in
            [("global.env", ""), ("web/.env", ""), ("web/compose.yaml", ""), ("web/compose.override.yml", "")]
        {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        let stack = Stacks::new(root.clone(), None).find(&name("web").unwrap()).unwrap();
        let shown = |identity: &Identity, stdin| {
            let args = arguments(&stack, identity, stdin, &["up"]);
            let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
            args.join(" ").replace(root.to_str().unwrap(), "R")
        };
        assert_eq!(
            shown(&Identity::default(), false),
            "compose --ansi never --project-directory R/web --env-file R/global.env --env-file R/web/.env \
             --file R/web/compose.yaml --file R/web/compose.override.yml up"
        );
        let odd = Identity { project: Some("old".into()), path: Some("/etc".into()) };
        assert_eq!(
            shown(&odd, true),
            "compose --ansi never --project-directory R/web --project-name old --env-file R/global.env \
             --env-file R/web/.env --file - --file R/web/compose.override.yml up"
        );
        let hostile = Identity { project: Some("--file=/etc/shadow".into()), path: None };
        assert!(!shown(&hostile, false).contains("shadow"));
    }

    #[tokio::test]
    async fn nothing_of_our_environment_reaches_the_program() {
        let (_dir, stack, compose) = scene("env | sort; pwd");
        let (running, _) = started(&stack, &compose);
        let output = running.wait().await.unwrap().output;
        let names: Vec<_> = output.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert_eq!(names, ["COMPOSE_ANSI", "COMPOSE_PROGRESS", "DOCKER_HOST", "PATH", "PWD"], "{output}");
        assert!(output.contains("DOCKER_HOST=unix:///there") && output.ends_with("stacks/web"), "{output}");
    }

    #[tokio::test]
    async fn lines_come_in_order_and_the_newest_stay() {
        let (_dir, stack, compose) = scene(
            "echo one; echo two >&2; printf 'a\\rb\\n\\033[1mc'; i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line $i; done",
        );
        let (running, seen) = started(&stack, &compose);
        let done = running.wait().await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen[..4], ["one", "two", "b", "[1mcline 1"]);
        assert_eq!(seen.len(), 9003);
        assert!(done.output.len() <= REMEMBERED && done.output.ends_with("line 9000") && done.dropped > 0);
        let all: usize = seen.iter().map(|line| line.len() + 1).sum();
        assert_eq!(done.output.len() as u64 + 1 + done.dropped, all as u64);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn output_that_was_read_takes_no_memory() {
        use std::{io::Write, os::unix::fs::MetadataExt};

        let output = nameless_file().unwrap();
        let mut writer = output.try_clone().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let mut follower =
            Follower { output, offset: 0, partial: Vec::new(), log: Arc::clone(&log), on_line: |_: &str| {} };
        for n in 0..20_000 {
            writer.write_all(format!("a line of some length, number {n}\n").as_bytes()).unwrap();
            if n % 10 == 0 {
                follower.read_on();
            }
        }
        follower.read_on();
        assert!(follower.offset > 600_000 && locked(&log).tail(100).ends_with("number 19999"));
        assert!(writer.metadata().unwrap().blocks() * 512 <= 64 << 10, "{}", writer.metadata().unwrap().blocks());
    }

    #[tokio::test]
    async fn a_dropped_handle_ends_nothing() {
        let (dir, stack, compose) = scene("sleep 0.4; echo late; touch \"$PWD/../../done\"");
        let (running, _) = started(&stack, &compose);
        drop(running);
        let deadline = SystemTime::now() + Duration::from_secs(10);
        while !dir.path().join("done").exists() {
            assert!(SystemTime::now() < deadline);
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn terminate_ends_the_whole_group() {
        for script in ["sleep 100 & echo up; wait", "trap '' TERM; sleep 100 & echo up; wait; wait; sleep 100"] {
            let (_dir, stack, compose) = scene(script);
            let (running, seen) = started(&stack, &compose);
            while seen.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
            let failed = running.terminate(Duration::from_millis(300)).await.unwrap_err();
            assert!(failed.terminated && failed.output == "up" && running.ended(), "{failed:?}");
            // In a container without an init the killed child stays as a zombie of process 1.
            let zombies = || {
                fs::read_dir("/proc")
                    .unwrap()
                    .flatten()
                    .filter_map(|entry| {
                        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                        let rest: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
                        (rest[2] == running.pid.to_string()).then(|| rest[0].clone())
                    })
                    .collect::<Vec<_>>()
            };
            sleep(Duration::from_millis(50)).await;
            assert!(!alive(running.pid) || zombies().iter().all(|state| state == "Z"), "{:?}", zombies());
            // Asking again is harmless.
            assert!(running.terminate(Duration::ZERO).await.is_err());
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_question_that_is_given_up_leaves_no_process() {
        let (_dir, stack, compose) = scene("sleep 100 & echo $$ >\"$PWD/../../pid\"; wait");
        let identity = Identity::default();
        let asking = compose.config(&stack, &identity);
        assert!(timeout(Duration::from_millis(500), asking).await.is_err());
        let pid: u32 = fs::read_to_string(stack.path.join("../../pid")).unwrap().trim().parse().unwrap();
        let deadline = SystemTime::now() + Duration::from_secs(5);
        let gone = || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"));
        while !gone() {
            assert!(SystemTime::now() < deadline);
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_missing_program_or_plugin_is_not_configured() {
        let (_dir, stack, compose) = scene("");
        let gone = Compose { docker: "no-such-docker".into(), ..compose };
        assert_eq!(gone.version().await.unwrap_err().kind, Kind::NotConfigured);
        for (words, code) in [
            ("docker: 'compose' is not a docker command.", 1),
            ("docker: unknown command: docker compose", 1),
            ("unknown flag: --ansi\nSee 'docker --help'.", 125),
            ("unknown flag: --short", 125),
        ] {
            let (_dir, _, compose) = scene(&format!("cat >&2 <<'E'\n{words}\nE\nexit {code}"));
            let fault = compose.config(&stack, &Identity::default()).await.unwrap_err();
            assert!(fault.kind == Kind::NotConfigured && fault.hint.unwrap().contains("docker-cli-compose"), "{words}");
        }
        for (version, good) in [("2.26.1-4", true), ("v2.0.0", true), ("5.0.1", true), ("1.29.2", false), ("x", false)]
        {
            let (_dir, _, compose) = scene(&format!("echo {version}"));
            assert_eq!(compose.version().await.is_ok(), good, "{version}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_failure_is_what_is_said() {
        for (words, code, kind, cause) in [
            (" s Pulling\nError response from daemon: no", 18, Kind::Upstream, "Error response from daemon: no"),
            ("validating x: nope", 15, Kind::Invalid, "validating x: nope"),
            ("yaml: line 2: nope", 1, Kind::Invalid, "line 2"),
            ("Cannot connect to the Docker daemon at unix:///x.", 1, Kind::Unreachable, "Cannot connect"),
            ("permission denied while trying to connect to y", 1, Kind::Forbidden, "permission denied"),
            ("", 3, Kind::Upstream, "exit code 3"),
        ] {
            let (_dir, stack, compose) = scene(&format!("cat >&2 <<'E'\n{words}\nE\nexit {code}"));
            let failed = started(&stack, &compose).0.wait().await.unwrap_err();
            assert!(failed.fault.kind == kind && failed.code == Some(code), "{failed:?}");
            assert!(failed.fault.cause.contains(cause) && !failed.fault.cause.contains("Pulling"), "{failed:?}");
        }
    }

    #[test]
    fn a_config_is_summed_up() {
        let json = serde_json::json!({
            "name": "web",
            "services": {"a": {"image": "x", "container_name": "c"}, "b": {"build": {}}},
            "volumes": {"v": {"name": "web_v"}, "e": {"name": "e", "external": true}},
        });
        let config = Config { json, project: "web".into(), warnings: Vec::new() };
        assert_eq!(config.services()[0].container_name.as_deref(), Some("c"));
        assert_eq!(config.services()[1].image, None);
        let volumes: Vec<_> = config.volumes().into_iter().map(|volume| (volume.name, volume.external)).collect();
        assert_eq!(volumes, [("web_v".to_owned(), false), ("e".to_owned(), true)]);
        let line = r#"time="t" level=warning msg="The \"X\" variable is not set.""#;
        assert_eq!(warning(line).as_deref(), Some("The \"X\" variable is not set."));
    }
}
