//! Starts the real binary over real pipes and speaks lines with it. A test that waits in vain fails with both
//! transcripts. Used by both test programs: `it` (needs nothing) and `docker` (needs an engine).

use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running core.
pub(crate) struct Core {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: VecDeque<Value>,
    sent: Vec<String>,
    received: Vec<String>,
    stderr: Arc<Mutex<String>>,
    next: u64,
    /// Calls begun here, by id: their results are checked as they come.
    calls: HashMap<u64, String>,
    /// Its STATE_DIR unless the test gave one.
    pub(crate) state: tempfile::TempDir,
}

impl Core {
    /// Starts the core with just these variables (and PATH, HOME and a STATE_DIR of its own).
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        Self::with_args(&[], env)
    }

    /// The same with arguments.
    pub(crate) fn with_args(args: &[&str], env: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut command = command(args, env, state.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to_lines, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to_lines.send(line)));
        let stderr = Arc::new(Mutex::new(String::new()));
        let (log, mut from) = (stderr.clone(), BufReader::new(child.stderr.take().unwrap()));
        thread::spawn(move || {
            let mut line = String::new();
            while from.read_line(&mut line).is_ok_and(|read| read > 0) {
                log.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            seen: VecDeque::new(),
            sent: Vec::new(),
            received: Vec::new(),
            stderr,
            next: 0,
            calls: HashMap::new(),
            state,
        }
    }

    /// Writes a line as it is.
    pub(crate) fn send(&mut self, line: &str) {
        self.sent.push(line.to_owned());
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a request and returns its id.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}).to_string());
        self.next
    }

    /// Sends a `tools/call` and returns its id.
    pub(crate) fn begin(&mut self, tool: &str, arguments: Value) -> u64 {
        let id = self.request("tools/call", json!({"name": tool, "arguments": arguments}));
        self.calls.insert(id, tool.to_owned());
        id
    }

    /// Calls a tool and returns the `result` object (`content`, `structuredContent`, `isError`).
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin(tool, arguments);
        let answer = self.answer(id);
        assert!(answer.get("result").is_some(), "{tool}: {answer}");
        answer["result"].clone()
    }

    /// Calls a tool that must succeed and returns its structured content.
    pub(crate) fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], json!(true), "{tool}: {result}\n{}", self.transcript());
        result["structuredContent"].clone()
    }

    /// Calls a tool that must answer `isError` and returns the text.
    pub(crate) fn error(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], json!(true), "{tool}: {result}\n{}", self.transcript());
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// The answer with this id, whatever comes before it.
    pub(crate) fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        self.wait_for(|message| message.get("id") == Some(&id) && message.get("method").is_none())
    }

    /// The first message that fits; earlier ones that do not fit stay for later.
    pub(crate) fn wait_for(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.seen.iter().position(&fits) {
            return self.seen.remove(at).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(message) = self.receive(left) else { panic!("no answer in time\n{}", self.transcript()) };
            if fits(&message) {
                return message;
            }
            self.seen.push_back(message);
        }
    }

    /// The next message within this time, if any. Every line on stdout must be JSON-RPC.
    pub(crate) fn receive(&mut self, within: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(within).ok()?;
        self.received.push(line.clone());
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("stdout has {line:?}: {error}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        if let (Some(id), Some(result)) = (message["id"].as_u64(), message.get("result"))
            && let Some(tool) = self.calls.remove(&id)
        {
            check_result(&tool, result);
        }
        Some(message)
    }

    /// Messages that came and were not asked for yet.
    pub(crate) fn unasked(&mut self) -> Vec<Value> {
        while let Some(message) = self.receive(Duration::from_millis(50)) {
            self.seen.push_back(message);
        }
        self.seen.drain(..).collect()
    }

    /// Closes stdin.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal, for example `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end\n{}", self.transcript());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes stdin and expects a clean end.
    pub(crate) fn finish(mut self) {
        self.close();
        assert!(self.end().success(), "{}", self.transcript());
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until the log has this text.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not logged\n{}", self.transcript());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Both sides of the conversation and the log.
    pub(crate) fn transcript(&self) -> String {
        format!("sent:\n{}\nreceived:\n{}\nlog:\n{}", self.sent.join("\n"), self.received.join("\n"), self.log())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every tool promises of its results.
static PROMISED: LazyLock<HashMap<String, jsonschema::Validator>> = LazyLock::new(|| {
    let list = run(&[], &[("CAPABILITY_LEVEL", "4")], br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = list.messages().remove(0);
    let tools = list["result"]["tools"].as_array().unwrap().iter();
    tools.map(|tool| (name_of(tool), jsonschema::validator_for(&tool["outputSchema"]).unwrap())).collect()
});

fn name_of(tool: &Value) -> String {
    tool["name"].as_str().unwrap().to_owned()
}

/// Holds a tool's result against its output schema: structured content that fits it (only an error may be without), and
/// the same as compact text beside it. Every result of a call that was begun through [`Core`] passes here.
pub(crate) fn check_result(tool: &str, result: &Value) {
    if result["resultType"] == "input_required" {
        return;
    }
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool} answers without text: {result}"));
    let Some(structured) = result.get("structuredContent") else {
        assert_eq!(result["isError"], true, "{tool} answers without structured content: {result}");
        return;
    };
    let problems: Vec<_> =
        PROMISED[tool].iter_errors(structured).map(|error| format!("{error} at `{}`", error.instance_path())).collect();
    assert!(problems.is_empty(), "{tool} breaks its output schema: {problems:#?}\n{structured:#}");
    let same = serde_json::from_str::<Value>(text).is_ok_and(|text| text == *structured);
    assert!(same && !text.contains('\n'), "{tool}: the text is not its structured content: {text}\n{structured}");
}

/// The core's command with just these variables, for a test that has pipes of its own.
pub(crate) fn command(args: &[&str], env: &[(&str, &str)], state: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homelab-mcp"));
    command.args(args).env_clear().env("STATE_DIR", state).env("HOME", state);
    // PATH for the docker command, DOCKER_CONFIG for its compose plugin.
    for name in ["PATH", "DOCKER_CONFIG"] {
        #[expect(clippy::disallowed_methods, reason = "a test's own environment")]
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(env.iter().copied());
    command
}

/// What a run printed.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Ran {
    /// stdout as messages.
    pub(crate) fn messages(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .collect()
    }
}

/// Runs the core on the whole input, as a script's pipe does.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
    let state = tempfile::tempdir().unwrap();
    let mut child = command(args, env, state.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A core that ends early closes the pipe.
        let _ = stdin.write_all(&input);
    });
    let mut stderr = child.stderr.take().unwrap();
    let log = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let status = child.wait().unwrap();
    writer.join().unwrap();
    Ran { stdout, stderr: log.join().unwrap(), code: status.code() }
}
