//! What the tests need beside the core: names of their own in the engine, whatever is made under them removed at the
//! end, and a socket before the engine that can stall, break and dribble.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{Core, PATIENCE};

/// Runs until it is told to stop, and then stops at once.
pub(crate) const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
/// Runs and does not hear that it is to stop.
pub(crate) const DEAF: &str = "trap '' TERM; while :; do sleep 1; done";

fn variable(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own environment")]
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: ./test.sh --full starts an engine and sets it"))
}

/// The engine's address.
pub(crate) fn engine() -> &'static str {
    static ENGINE: LazyLock<String> = LazyLock::new(|| variable("HOMELAB_TEST_DOCKER_HOST"));
    &ENGINE
}

/// The engine's socket.
pub(crate) fn socket() -> PathBuf {
    PathBuf::from(engine().strip_prefix("unix://").expect("these tests need an engine on a unix socket"))
}

/// An image with a shell.
pub(crate) fn image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| variable("HOMELAB_TEST_IMAGE"));
    &IMAGE
}

/// An image with `/busybox` and nothing else.
pub(crate) fn bare_image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| variable("HOMELAB_TEST_NOSHELL_IMAGE"));
    &IMAGE
}

/// The docker command line, for setting up and for looking from outside: what it printed, whether it succeeded.
pub(crate) fn try_docker(arguments: &[&str]) -> (String, bool) {
    let ran = Command::new("docker").env("DOCKER_HOST", engine()).args(arguments).output().unwrap();
    let text = [ran.stdout, ran.stderr].concat();
    (String::from_utf8_lossy(&text).trim().to_owned(), ran.status.success())
}

/// The same where it must succeed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let (text, success) = try_docker(arguments);
    assert!(success, "docker {arguments:?}: {text}");
    text
}

/// One field of `docker inspect`.
pub(crate) fn inspect(name: &str, format: &str) -> String {
    docker(&["inspect", "--format", format, name])
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    within(PATIENCE, what, is_so);
}

/// Waits so long until something is so.
pub(crate) fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A test's own corner of the engine. All that is made there has a name that begins with the corner's, and goes with
/// it, also when the test fails.
pub(crate) struct Lab {
    name: String,
    /// Holds the stacks folder and whatever else the test puts there.
    pub(crate) dir: tempfile::TempDir,
    mounts: Mutex<Vec<PathBuf>>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // A variable that is missing is said here, and not while a failed test cleans up.
        let _ = (engine(), image(), bare_image());
        let name = format!("lab{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("stacks")).unwrap();
        Self { name, dir, mounts: Mutex::default() }
    }

    /// A name in this corner.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// What all names here begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.name
    }

    /// The stacks folder.
    pub(crate) fn stacks(&self) -> PathBuf {
        self.dir.path().join("stacks")
    }

    /// Starts a container that runs a script; its name.
    pub(crate) fn run(&self, what: &str, options: &[&str], script: &str) -> String {
        self.make("run", what, options, script)
    }

    /// Creates one without starting it.
    pub(crate) fn create(&self, what: &str, options: &[&str], script: &str) -> String {
        self.make("create", what, options, script)
    }

    fn make(&self, verb: &str, what: &str, options: &[&str], script: &str) -> String {
        let name = self.name(what);
        let mut arguments = vec![verb, "--name", &name];
        if verb == "run" {
            arguments.push("--detach");
        }
        arguments.extend(options);
        arguments.extend([image(), "/bin/sh", "-c", script]);
        docker(&arguments);
        name
    }

    /// Runs a script in a container to its end.
    pub(crate) fn ran(&self, what: &str, options: &[&str], script: &str) -> String {
        let name = self.run(what, options, script);
        docker(&["wait", &name]);
        name
    }

    /// Writes a stack's compose.yaml, in which `IMAGE` stands for the image and `LAB` for this corner; the stack's name.
    pub(crate) fn stack(&self, what: &str, text: &str) -> String {
        self.file(what, "compose.yaml", text);
        self.name(what)
    }

    /// Writes a file of a stack's folder; its path.
    pub(crate) fn file(&self, what: &str, file: &str, text: &str) -> PathBuf {
        let folder = self.stacks().join(self.name(what));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(file);
        fs::write(&path, self.text(text)).unwrap();
        path
    }

    /// A text with this corner's image and name put in.
    pub(crate) fn text(&self, text: &str) -> String {
        text.replace("IMAGE", image()).replace("LAB", &self.name)
    }

    /// Starts the core at level 4 on this corner, with further variables.
    pub(crate) fn core(&self, variables: &[(&str, &str)]) -> Core {
        let stacks = self.stacks();
        let mut all = vec![
            ("CAPABILITY_LEVEL", "4"),
            ("DOCKER_HOST", engine()),
            ("DOCKGE_STACKS_PATH", stacks.to_str().unwrap()),
        ];
        all.extend(variables);
        Core::start(&all)
    }

    /// Mounts a small file system in memory; the error says why that is not possible here.
    pub(crate) fn tmpfs(&self, at: &Path, options: &str) -> Result<(), String> {
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        match made {
            Ok(made) if made.status.success() => {
                self.mounts.lock().unwrap().push(at.to_owned());
                Ok(())
            }
            Ok(made) => Err(format!("mounting is not allowed here: {}", String::from_utf8_lossy(&made.stderr).trim())),
            Err(error) => Err(format!("there is no mount command: {error}")),
        }
    }

    fn all(&self, list: &[&str]) -> Vec<String> {
        let filter = format!("name={}", self.name);
        let (found, _) = try_docker(&[list, &["--quiet", "--filter", &filter]].concat());
        found.lines().map(str::to_owned).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (list, remove) in [
            (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
            (&["network", "ls"], &["network", "rm"]),
            (&["volume", "ls"], &["volume", "rm", "--force"]),
        ] {
            let found = self.all(list);
            if !found.is_empty() {
                let found: Vec<_> = found.iter().map(String::as_str).collect();
                try_docker(&[remove, &found[..]].concat());
            }
        }
        for mount in self.mounts.lock().unwrap().drain(..).rev() {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
    }
}

/// What a proxy does with a request.
pub(crate) enum Do {
    /// Hands it on.
    Pass,
    /// Never answers.
    Stall,
    /// Hands it on, and the answer byte by byte.
    Dribble,
    /// Hands it on and breaks the connection without an answer.
    Break,
    /// Answers this JSON itself.
    Answer(String),
}

/// A request that was stalled.
#[derive(Clone)]
pub(crate) struct Stalled {
    pub(crate) request: String,
    /// When its client gave up.
    pub(crate) dropped: Option<Instant>,
}

type Rule = dyn Fn(&str) -> Do + Send + Sync;

/// A socket before the engine, with a rule for each request's first line.
pub(crate) struct Proxy {
    pub(crate) path: PathBuf,
    pub(crate) stalled: Arc<Mutex<Vec<Stalled>>>,
    /// The first lines of all requests.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn new(rule: impl Fn(&str) -> Do + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (stalled, seen) = (Arc::<Mutex<Vec<Stalled>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let rule: Arc<Rule> = Arc::new(rule);
        let (stalls, sees) = (stalled.clone(), seen.clone());
        // Ends with the test program: a listener cannot be told to.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (rule, stalls, sees) = (rule.clone(), stalls.clone(), sees.clone());
                thread::spawn(move || serve(client, &rule, &stalls, &sees));
            }
        });
        Self { path, stalled, seen, _dir: dir }
    }

    /// Its address for DOCKER_HOST.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Forgets the requests that were stalled and dropped.
    pub(crate) fn forget(&self) {
        self.stalled.lock().unwrap().clear();
    }

    /// Waits until a request with this in its first line is stalled.
    pub(crate) fn wait_stalled(&self, part: &str) {
        until("a request is stalled", || self.stalled.lock().unwrap().iter().any(|one| one.request.contains(part)));
    }

    /// Waits until it was given up; when that was.
    pub(crate) fn wait_dropped(&self, part: &str) -> Instant {
        let dropped = || {
            let stalled = self.stalled.lock().unwrap();
            stalled.iter().find(|one| one.request.contains(part)).and_then(|one| one.dropped)
        };
        until("a stalled request is dropped", || dropped().is_some());
        dropped().unwrap()
    }
}

/// One connection: what the client sends is looked at piece by piece; a request begins a piece.
fn serve(mut client: UnixStream, rule: &Arc<Rule>, stalls: &Mutex<Vec<Stalled>>, sees: &Mutex<Vec<String>>) {
    let Ok(mut server) = UnixStream::connect(socket()) else { return };
    let slowly = Arc::new(Mutex::new(false));
    let (mut from, mut to, slow) = (server.try_clone().unwrap(), client.try_clone().unwrap(), slowly.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let step = if *slow.lock().unwrap() { 1 } else { read };
            if buffer[..read].chunks(step).any(|piece| to.write_all(piece).is_err()) {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let line = text.lines().next().unwrap_or_default();
        if line.ends_with("HTTP/1.1") {
            sees.lock().unwrap().push(line.to_owned());
            match rule(line) {
                Do::Pass => *slowly.lock().unwrap() = false,
                Do::Dribble => *slowly.lock().unwrap() = true,
                Do::Stall => {
                    let at = {
                        let mut stalls = stalls.lock().unwrap();
                        stalls.push(Stalled { request: line.to_owned(), dropped: None });
                        stalls.len() - 1
                    };
                    while let Ok(1..) = client.read(&mut buffer) {}
                    stalls.lock().unwrap()[at].dropped = Some(Instant::now());
                    break;
                }
                Do::Break => {
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.write_all(&buffer[..read]);
                    // The engine must have read it before it sees the end.
                    let _ = server.set_read_timeout(Some(Duration::from_secs(5)));
                    let _ = server.read(&mut buffer);
                    break;
                }
                Do::Answer(body) => {
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
                    let _ = write!(client, "{head} {}\r\n\r\n{body}", body.len());
                    continue;
                }
            }
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// The text of a member.
pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no text {member} in {value}"))
}

/// The rows of a list.
pub(crate) fn rows<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().unwrap_or_else(|| panic!("no list {member} in {value}"))
}
