//! A running HTTP server: the gateway or one of its floors.

use bench::{Fallible, proc};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(30);
/// How long it may take to leave.
const LEAVING: Duration = Duration::from_secs(20);
/// What it says before its address.
const LISTENING: &str = "listening on http://";

/// Ends with its handle.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

/// Processor time so far.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// Of the server's own threads.
    pub(crate) own: Duration,
    /// Of its children.
    pub(crate) children: Duration,
}

impl Server {
    /// Starts it and waits until it listens. Its log is read and thrown away.
    pub(crate) fn start(mut command: Command) -> Fallible<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let log = child.stderr.take();
        // From here on it ends with its handle, whatever happens.
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let (sender, heard) = mpsc::channel();
        let mut log = BufReader::new(log.ok_or("no stderr")?);
        thread::spawn(move || {
            let (mut line, mut words) = (String::new(), String::new());
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some((_, address)) = line.split_once(LISTENING) {
                    // Nobody waits any more when it was late.
                    let _ = sender.send(Ok(address.trim().to_owned()));
                    let _ = io::copy(&mut log, &mut io::sink());
                    return;
                }
                words += &line;
                line.clear();
            }
            let _ = sender.send(Err(words));
        });
        let listens = heard.recv_timeout(STARTING).map_err(|_| "it did not listen in time")?;
        server.address = listens.map_err(|words| format!("it does not start:\n{words}"))?.parse()?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn memory(&self) -> io::Result<proc::Memory> {
        proc::memory(self.child.id())
    }

    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let children = self.children()?.into_iter().map(proc::cpu).sum::<io::Result<Duration>>()?;
        Ok(Cpu { own: proc::cpu(self.child.id())?, children })
    }

    /// The process ids of its children.
    pub(crate) fn children(&self) -> io::Result<Vec<u32>> {
        let mut children = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(entry?.path().join("children")) else { continue };
            children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        Ok(children)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The gateway leaves by the signal, a floor by the end of its stdin.
        self.child.stdin = None;
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let until = Instant::now() + LEAVING;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
