//! Starts, talks to and always ends a program over its pipes.

use crate::{Fallible, variable};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A step that takes longer than this loses its child.
pub const STEP: Duration = Duration::from_secs(60);
/// How long a program may take to leave after the end of its input.
const LEAVING: Duration = Duration::from_secs(5);
/// What the bench itself may take to notice that its child was killed.
const NOTICING: Duration = Duration::from_secs(20);
/// Bytes read at once: what a Linux pipe holds.
const BUFFER: usize = 64 * 1024;

/// A program, and how to start it.
pub struct Program {
    /// Such as `core` or `floor`.
    pub name: &'static str,
    /// Its binary, absolute.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working and state directory.
    pub state: PathBuf,
    /// Its `CAPABILITY_LEVEL`.
    pub level: u8,
    /// Further variables.
    pub env: Vec<(&'static str, String)>,
}

impl Program {
    /// The same conditions for all: three variables and its own, pipes, no stderr.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).current_dir(&self.state).env_clear();
        if let Some(path) = variable("PATH") {
            command.env("PATH", path);
        }
        command.env("STATE_DIR", &self.state).env("CAPABILITY_LEVEL", self.level.to_string());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}

/// A child that several may hold; std never signals one that was reaped already.
type Shared = Arc<Mutex<Child>>;

/// Takes the lock; a panic elsewhere must not keep a child alive.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the children of a step that takes too long, and nothing else.
#[derive(Clone)]
pub struct Watchdog {
    state: Arc<Mutex<Watched>>,
    fired: Arc<AtomicBool>,
}

/// What the watchdog looks at.
struct Watched {
    deadline: Instant,
    children: Vec<(u32, Shared)>,
}

impl Watchdog {
    /// Starts the thread, which ends with the process.
    pub fn start() -> Self {
        let dog = Self {
            state: Arc::new(Mutex::new(Watched { deadline: Instant::now() + STEP, children: Vec::new() })),
            fired: Arc::default(),
        };
        let own = dog.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(100));
                own.look();
            }
        });
        dog
    }

    /// Gives the next step its own time.
    pub fn next_step(&self) {
        lock(&self.state).deadline = Instant::now() + STEP;
        self.fired.store(false, Ordering::Relaxed);
    }

    /// Whether the present step was cut short.
    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }

    /// Kills what is late. A grandchild may still hold the pipes, and the bench then hangs in a read: it
    /// leaves instead.
    #[expect(clippy::disallowed_methods, reason = "main itself is what hangs")]
    fn look(&self) {
        let watched = lock(&self.state);
        let late = Instant::now().saturating_duration_since(watched.deadline);
        if late.is_zero() || watched.children.is_empty() {
            return;
        }
        self.fired.store(true, Ordering::Relaxed);
        for (_, child) in &watched.children {
            let mut child = lock(child);
            // An error means that it has ended.
            let _ = child.kill();
            if late > NOTICING {
                let _ = child.wait();
            }
        }
        if late > NOTICING {
            let _ = writeln!(io::stderr(), "bench: a killed program's pipes stay open; giving up");
            std::process::exit(1);
        }
    }
}

/// A running program.
pub struct Server {
    pid: u32,
    child: Shared,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    dog: Watchdog,
}

impl Server {
    /// Starts `program` under the watchdog.
    pub fn start(program: &Program, dog: &Watchdog) -> Fallible<Self> {
        let mut child = program.command().spawn()?;
        let input = child.stdin.take();
        let Some(output) = child.stdout.take() else {
            child.kill()?;
            child.wait()?;
            return Err("no stdout".into());
        };
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        lock(&dog.state).children.push((pid, Arc::clone(&child)));
        Ok(Self { pid, child, input, output: BufReader::with_capacity(BUFFER, output), dog: dog.clone() })
    }

    /// Its process id, valid as long as `self` lives.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends one line and reads one into `answer`.
    pub fn ask(&mut self, request: &[u8], answer: &mut Vec<u8>) -> Fallible<()> {
        self.input.as_mut().ok_or("input closed")?.write_all(request)?;
        answer.clear();
        self.output.read_until(b'\n', answer)?;
        if answer.ends_with(b"\n") { Ok(()) } else { Err("ended without an answer".into()) }
    }

    /// Sends all of `requests` from a thread of its own while `read` reads.
    pub fn flood<T>(
        &mut self,
        requests: &[u8],
        read: impl FnOnce(&mut BufReader<ChildStdout>) -> Fallible<T>,
    ) -> Fallible<T> {
        let Self { child, input, output, .. } = self;
        let input = input.as_mut().ok_or("input closed")?;
        thread::scope(|scope| {
            let writer = scope.spawn(move || input.write_all(requests));
            let got = read(output);
            if got.is_err() {
                // Otherwise the writer could wait for a program that waits for its reader.
                let _ = lock(child).kill();
            }
            let written = writer.join().map_err(|_| "the writer panicked")?;
            let got = got?;
            written?;
            Ok(got)
        })
    }

    /// Closes the input and waits until the program has left. The text says what was not as it should be.
    /// An error when it had more to say than it was asked.
    pub fn finish(mut self) -> Fallible<Option<String>> {
        self.input = None;
        let status = self.wait(LEAVING)?;
        let remark = match status {
            None => Some(format!("did not leave within {} s after the end of its input", LEAVING.as_secs())),
            Some(status) if !status.success() => Some(format!("left with {status} at the end of its input")),
            Some(_) => None,
        };
        if status.is_none() {
            self.kill();
        }
        let mut rest = Vec::new();
        self.output.by_ref().take(200).read_to_end(&mut rest)?;
        if rest.is_empty() {
            Ok(remark)
        } else {
            Err(format!("said more than it was asked: {}", String::from_utf8_lossy(&rest)).into())
        }
    }

    /// Polls, so that the watchdog can reach the child meanwhile.
    fn wait(&self, most: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + most;
        loop {
            let status = lock(&self.child).try_wait()?;
            if status.is_some() || Instant::now() >= until {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends and reaps the child; nothing happens when it was reaped before.
    fn kill(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        lock(&self.dog.state).children.retain(|(pid, _)| *pid != self.pid);
    }
}

/// Reads `lines` whole lines into `store`, grown when too small; their length. Nothing is looked at but the
/// line ends, so that the reader costs as little as it can.
pub fn read_lines(from: &mut impl Read, lines: usize, store: &mut Vec<u8>) -> Fallible<usize> {
    let (mut length, mut seen) = (0, 0);
    while seen < lines {
        if store.len() - length < BUFFER {
            store.resize(store.len() * 2 + BUFFER, 0);
        }
        let space = store.get_mut(length..).unwrap_or_default();
        let read = from.read(space)?;
        if read == 0 {
            return Err(format!("ended after {seen} of {lines} answers").into());
        }
        seen += space.iter().take(read).filter(|&&byte| byte == b'\n').count();
        length += read;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    //! The ends of children: they leave, they hang, they die.

    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            name: "core",
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            state: std::env::temp_dir(),
            level: 1,
            env: Vec::new(),
        }
    }

    #[test]
    fn a_child_leaves_by_itself() {
        let dog = Watchdog::start();
        let mut answer = Vec::new();
        let ended = Server::start(&shell("exec cat"), &dog).and_then(|mut server| {
            server.ask(b"x\n", &mut answer)?;
            server.finish()
        });
        assert!(ended.is_ok_and(|remark| remark.is_none()));
        assert_eq!(answer, b"x\n");
        assert!(lock(&dog.state).children.is_empty());
    }

    #[test]
    fn exit_codes_and_surplus_output_are_noticed() {
        let dog = Watchdog::start();
        let ended = Server::start(&shell("read x; exit 3"), &dog).and_then(Server::finish);
        assert!(ended.is_ok_and(|remark| remark.is_some_and(|r| r.contains('3'))));
        let ended = Server::start(&shell("echo more"), &dog).and_then(Server::finish);
        assert!(ended.is_err());
    }

    #[test]
    fn a_late_child_is_killed() {
        let dog = Watchdog::start();
        let server = Server::start(&shell("exec sleep 600"), &dog);
        lock(&dog.state).deadline = Instant::now();
        let asked = server.and_then(|mut server| server.ask(b"x\n", &mut Vec::new()));
        assert!(asked.is_err());
        assert!(dog.fired());
    }

    #[test]
    fn a_child_that_dies_in_a_flood_is_an_error() {
        let dog = Watchdog::start();
        let many = vec![b'\n'; 1 << 20];
        let got = Server::start(&shell("echo; exit"), &dog)
            .and_then(|mut server| server.flood(&many, |from| read_lines(from, 2, &mut Vec::new())));
        assert!(got.is_err_and(|e| e.to_string().contains("after 1 of 2")));
    }
}
