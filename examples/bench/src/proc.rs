//! What Linux says about a running child: its memory and its processor time, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// `/proc/PID/stat` counts in these; 100 a second on every Linux architecture.
const TICK: Duration = Duration::from_millis(10);

/// Memory held now, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident pages.
    pub rss: u64,
    /// The same, pages shared with others divided among them.
    pub pss: u64,
}

/// Reads `/proc/PID/smaps_rollup`.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory { rss: field(&text, "Rss:")?, pss: field(&text, "Pss:")? })
}

/// The most memory that was ever resident, in KiB (`VmHWM`).
pub fn peak(pid: u32) -> io::Result<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmHWM:")
}

/// Processor time spent so far by all threads.
///
/// The scheduler's nanoseconds cover live threads only, the 10 ms ticks of `stat` also those which ended:
/// the ticks are taken when they say clearly more, or when the kernel keeps no nanoseconds.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let ticks = ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
    let (mut fine, mut threads) = (Duration::ZERO, 0);
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let nanos = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        fine += Duration::from_nanos(nanos);
        threads += 1;
    }
    let coarse = TICK * ticks;
    Ok(if coarse > fine + TICK * 2 * threads.max(1) || fine.is_zero() { coarse } else { fine })
}

/// User and system ticks: fields 14 and 15, counted behind the name, which may hold spaces.
fn ticks(stat: &str) -> io::Result<u32> {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let mut numbers = behind.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user.saturating_add(system)),
        _ => Err(io::Error::other("/proc/PID/stat not understood")),
    }
}

/// The number (KiB) on the line that begins with `name`.
fn field(text: &str, name: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {name} (has the process ended?)")))
}

#[cfg(test)]
mod tests {
    //! Readings of this very process, and the shapes of the files.

    use super::*;

    #[test]
    fn reads_itself() {
        let me = std::process::id();
        assert!(memory(me).is_ok_and(|memory| memory.rss >= memory.pss && memory.pss > 0));
        assert!(peak(me).is_ok_and(|peak| peak > 0));
        assert!(cpu(me).is_ok());
    }

    #[test]
    fn finds_the_fields() {
        assert_eq!(field("Name:\tx\nVmHWM:\t    1234 kB\n", "VmHWM:").ok(), Some(1234));
        assert!(field("Name:\tx\n", "VmHWM:").is_err());
        assert_eq!(ticks("1 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 12 30 0 0").ok(), Some(42));
        assert!(ticks("1 (a").is_err());
    }
}
