//! The log's way to stderr: through a thread of its own. With a line per request the system calls are worth gathering,
//! and a log that nobody reads (a stuck pipe) must not hold up requests.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// What waits at most; further lines are left out, and that is said.
const MOST: usize = 1 << 20;
/// How long the end of the program waits for the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log of this process.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Lines>);

#[derive(Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    left_out: u64,
    /// Some are on their way.
    writing: bool,
    /// Nothing is gathered any more.
    hurry: bool,
}

impl Log {
    /// Starts the thread and returns where lines go. An error is one of starting it.
    pub(crate) fn writer(&self) -> io::Result<impl Write + Send + use<>> {
        let lines = self.0.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || lines.write_to(&mut io::stderr()))?;
        Ok(Writer(self.0.clone()))
    }

    /// Waits until all lines are written, but not for ever.
    pub(crate) fn finish(&self) {
        let mut waiting = self.0.waiting();
        waiting.hurry = true;
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.bytes.is_empty();
        let _ = self.0.changed.wait_timeout_while(waiting, LAST_WORDS, busy);
    }
}

impl Lines {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, out: &mut impl Write) {
        loop {
            let empty = |waiting: &mut Waiting| waiting.bytes.is_empty();
            let waiting = self.changed.wait_while(self.waiting(), empty).unwrap_or_else(PoisonError::into_inner);
            let hurry = waiting.hurry;
            drop(waiting);
            if !hurry {
                std::thread::sleep(GATHER);
            }
            let (bytes, left_out) = {
                let mut waiting = self.waiting();
                waiting.writing = true;
                (std::mem::take(&mut waiting.bytes), std::mem::take(&mut waiting.left_out))
            };
            // Nobody is left to tell when stderr is closed.
            let _ = out.write_all(&bytes);
            if left_out > 0 {
                let _ = writeln!(out, "{left_out} lines of this log were left out: it was not read fast enough");
            }
            self.waiting().writing = false;
            self.changed.notify_all();
        }
    }
}

struct Writer(Arc<Lines>);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting();
        if waiting.bytes.len() + line.len() > MOST {
            waiting.left_out += 1;
            return Ok(line.len());
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a write only when it is told to.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_is_not_read_holds_up_nobody_and_says_what_is_missing() {
        let (allow, allowed) = mpsc::channel();
        let (written, seen) = mpsc::channel();
        let log = Log::default();
        let lines = log.0.clone();
        std::thread::spawn(move || lines.write_to(&mut Slow(allowed, written)));
        let mut writer = Writer(log.0.clone());
        for _ in 0..3000 {
            writer.write_all(&[b'x'; 1024]).unwrap();
        }
        for _ in 0..100 {
            allow.send(()).unwrap();
        }
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains("were left out") {
            all.extend(seen.recv_timeout(Duration::from_secs(30)).unwrap());
        }
        log.finish();
        assert!(log.0.waiting().bytes.is_empty() && all.len() >= MOST / 2 && all.len() < 3 * MOST);
    }
}
