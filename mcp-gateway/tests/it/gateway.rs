//! Starts the real binary and speaks HTTP with it over sockets, byte by byte where a test needs that.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The API key of every gateway here.
pub(crate) const KEY: &str = "key-0123456789-0123456789";

/// A running gateway.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) port: u16,
    pub(crate) metrics_port: u16,
    log: Arc<Mutex<String>>,
    pub(crate) state: tempfile::TempDir,
}

/// The scripted core, which cargo builds with the tests.
pub(crate) fn fake_core() -> String {
    built("examples/fake_core", "cargo test -p mcp-gateway (without --test)")
}

/// The real core, which has a package of its own.
pub(crate) fn real_core() -> String {
    built("homelab-mcp", "cargo build -p homelab-mcp")
}

fn built(name: &str, how: &str) -> String {
    let us = std::env::current_exe().unwrap();
    let path: PathBuf = us.parent().unwrap().parent().unwrap().join(name);
    assert!(path.is_file(), "{} is missing: {how}", path.display());
    path.to_str().unwrap().to_owned()
}

/// The gateway's command with just these variables.
pub(crate) fn command(env: &[(&str, &str)], state: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-gateway"));
    command.env_clear().env("STATE_DIR", state).env("HOME", state).env("PORT", "0").env("METRICS_ADDR", "127.0.0.1:0");
    command.envs(env.iter().copied()).stdin(Stdio::null());
    command
}

impl Gateway {
    /// With the scripted core behind it, at level 2.
    pub(crate) fn fake(env: &[(&str, &str)]) -> Self {
        let core = format!("'{}'", fake_core());
        let env = [&[("CORE_COMMAND", core.as_str()), ("CAPABILITY_LEVEL", "2")], env].concat();
        Self::start(&env)
    }

    /// With the real core behind it, at level 2.
    pub(crate) fn real(env: &[(&str, &str)]) -> Self {
        let core = format!("'{}'", real_core());
        let env = [&[("CORE_COMMAND", core.as_str()), ("CAPABILITY_LEVEL", "2")], env].concat();
        Self::start(&env)
    }

    fn start(env: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let env = [&[("API_KEY", KEY)], env].concat();
        let mut child = command(&env, state.path()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (to, mut from) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
        thread::spawn(move || {
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut gateway = Self { child, port: 0, metrics_port: 0, log, state };
        gateway.port = gateway.logged_port("listening on http://127.0.0.1:");
        gateway.metrics_port = gateway.logged_port("metrics on http://127.0.0.1:");
        gateway
    }

    fn logged_port(&mut self, before: &str) -> u16 {
        let port = |log: &str| {
            let (_, rest) = log.split_once(before)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            rest.contains('\n').then(|| digits.parse().unwrap())
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = port(&self.log()) {
                return port;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended\n{}", self.log());
            assert!(Instant::now() < deadline, "{before} is not logged\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.port)
    }

    /// Posts a message with the API key and just these further headers.
    pub(crate) fn post(&self, headers: &[(&str, &str)], message: &Value) -> Answer {
        self.connect().post(headers, message)
    }

    /// A request in the way of 2026-07-28.
    pub(crate) fn modern(&self, method: &str, params: Value) -> Answer {
        self.connect().modern(1, method, params)
    }

    /// Opens a session with these capabilities and returns its id.
    pub(crate) fn session(&self, capabilities: Value) -> String {
        let answer = self.post(&[], &initialize("2025-11-25", capabilities));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("mcp-session-id").unwrap().to_owned()
    }

    /// A call in a session.
    pub(crate) fn call_in(&self, session: &str, tool: &str, arguments: Value) -> Answer {
        self.post(&[("mcp-session-id", session)], &call(1, tool, arguments))
    }

    pub(crate) fn metrics(&self) -> String {
        let mut connection = Connection::open(self.metrics_port);
        connection.send("GET", "/metrics", &[], b"");
        connection.answer().text()
    }

    /// One number of the metrics.
    pub(crate) fn metric(&self, name: &str) -> i64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("{name}\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until this is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not so in time: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn until_logged(&self, text: &str) {
        self.until(text, |gateway| gateway.log().contains(text));
    }

    /// Its child processes that still run, zombies included.
    pub(crate) fn children(&self) -> Vec<u32> {
        children_of(self.child.id())
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end of the process.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Whether a process is there, be it as a zombie.
pub(crate) fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids.filter(is_child).collect()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // In order, so that no core of a failed test stays behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of a tool's result, which the scripted core fills with JSON.
    pub(crate) fn said(&self) -> Value {
        let answer = self.json();
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str(text).unwrap()
    }

    pub(crate) fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += "host: 127.0.0.1\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat());
    }

    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, body);
        self.answer()
    }

    /// Sends a message with the API key, ready for a stream, and does not wait.
    pub(crate) fn begin(&mut self, headers: &[(&str, &str)], message: &Value) {
        let bearer = format!("Bearer {KEY}");
        let ours = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        self.send("POST", "/mcp", &[&ours, headers].concat(), message.to_string().as_bytes());
    }

    pub(crate) fn post(&mut self, headers: &[(&str, &str)], message: &Value) -> Answer {
        self.begin(headers, message);
        self.answer()
    }

    pub(crate) fn begin_modern(&mut self, id: impl Into<Value>, method: &str, mut params: Value) {
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let message = json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params});
        let mut headers = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
        if !name.is_empty() {
            headers.push(("Mcp-Name", &name));
        }
        self.begin(&headers, &message);
    }

    pub(crate) fn modern(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Answer {
        self.begin_modern(id, method, params);
        self.answer()
    }

    /// Reads bytes of a body as they are.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn head(&mut self) -> Head {
        let line = self.line();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Head { status, headers }
    }

    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut body = Vec::new();
        if let Some(length) = head.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).unwrap();
        } else if head.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        }
        Answer { status: head.status, head, body }
    }

    /// The next chunk; nothing at the end of the body.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line(), 16).expect("a chunk");
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// The next event of a stream, whatever comments come before; nothing at its end. The gateway sends one per chunk.
    pub(crate) fn event(&mut self) -> Option<Value> {
        loop {
            let chunk = String::from_utf8(self.chunk()?).unwrap();
            if let Some(data) = chunk.lines().find_map(|line| line.strip_prefix("data: ")) {
                return Some(serde_json::from_str(data).unwrap());
            }
            assert!(chunk.starts_with(':'), "{chunk:?}");
        }
    }

    /// Goes away without a word.
    pub(crate) fn drop_it(self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }

    /// Whether the other side has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

pub(crate) fn initialize(version: &str, capabilities: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"},
    }})
}

pub(crate) fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// What a start that must fail says, and its exit code.
pub(crate) fn refused(env: &[(&str, &str)]) -> (i32, String) {
    let state = tempfile::tempdir().unwrap();
    let output = command(env, state.path()).output().unwrap();
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}
