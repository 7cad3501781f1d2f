//! The audit log: one JSON line before and one after every change, appended under a lock and flushed to disk before
//! anything is done. Each line holds the hash of the one before it, so a line that was altered, removed or moved is found
//! by `--verify-audit`. (Lines cut off at the end are not: copy the log elsewhere if that matters to you.)

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::state::{self, State};

/// What the chain begins with.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// A line is far shorter; the tail of the file that surely holds the last one.
const TAIL: u64 = 64 << 10;

/// Where changes are recorded.
#[derive(Debug)]
pub(crate) struct Audit {
    path: Option<PathBuf>,
}

impl Audit {
    /// At `given`, else in the state folder, else nowhere.
    pub(crate) fn new(given: Option<&Path>, state: &State) -> Self {
        Self { path: given.map(Path::to_owned).or_else(|| state.dir().map(|dir| dir.join("audit.jsonl"))) }
    }

    /// Whether anything is recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.path.is_some()
    }

    /// Whether a line could be appended; for the start.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| state::open_locked(path).map(drop))
    }

    /// Appends one line and waits until it is on disk.
    pub(crate) fn append(&self, entry: Map<String, Value>) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut file = state::open_locked(path)?;
        let (previous, torn) = last_hash(&mut file)?;
        let mut line = Map::new();
        line.insert("time".into(), json!(jiff::Timestamp::now().to_string()));
        line.extend(entry);
        line.insert("prev".into(), json!(previous));
        let open = Value::Object(line).to_string();
        let mut text = chained(&open);
        if torn {
            // A process died while writing: what it wrote stays, on a line of its own.
            text.insert(0, '\n');
        }
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

/// Closes a line with the hash of everything before it.
fn chained(open: &str) -> String {
    let hash = state::sha256(open.as_bytes());
    format!("{},\"hash\":\"{hash}\"}}", open.strip_suffix('}').unwrap_or(open))
}

/// Splits a line into what was hashed and its hash.
fn unchained(line: &str) -> Option<(String, &str)> {
    let rest = line.strip_suffix("\"}")?;
    let (body, hash) = rest.rsplit_once(",\"hash\":\"")?;
    (hash.len() == 64).then(|| (format!("{body}}}"), hash))
}

fn last_hash(file: &mut File) -> io::Result<(String, bool)> {
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let torn = tail.last().is_some_and(|byte| *byte != b'\n');
    let text = String::from_utf8_lossy(&tail);
    let hash = text.lines().rev().find_map(|line| unchained(line).map(|(_, hash)| hash.to_owned()));
    Ok((hash.unwrap_or_else(|| GENESIS.to_owned()), torn))
}

/// Reads a log from its beginning: how many lines are good, or which is the first that is not.
pub(crate) fn verify(path: &Path) -> Result<usize, String> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut previous = GENESIS.to_owned();
    let mut count = 0;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let at = |what: &str| format!("{} line {}: {what}", path.display(), number + 1);
        let line = line.map_err(|error| at(&error.to_string()))?;
        if line.is_empty() {
            continue;
        }
        let Some((open, hash)) = unchained(&line) else { return Err(at("not a whole line of an audit log")) };
        if state::sha256(open.as_bytes()) != hash {
            return Err(at("was altered: its hash does not fit its text"));
        }
        let entry: Value = serde_json::from_str(&line).map_err(|error| at(&error.to_string()))?;
        if entry.get("prev").and_then(Value::as_str) != Some(&previous) {
            return Err(at("does not follow the line before it: lines were removed, added or moved"));
        }
        previous = hash.to_owned();
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize) -> Map<String, Value> {
        let Value::Object(map) = json!({"n": n, "target": {"name": "}}\"},{", "inner": {"a": {}}}}) else { panic!() };
        map
    }

    fn log_of(lines: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::new(Some(&path), &State::open(None));
        (0..lines).for_each(|n| audit.append(entry(n)).unwrap());
        (dir, path)
    }

    #[test]
    fn a_log_of_several_writers_verifies() {
        let (_dir, path) = log_of(5);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..10).for_each(|n| Audit::new(Some(&path), &State::open(None)).append(entry(n)).unwrap())
                });
            }
        });
        assert_eq!(verify(&path), Ok(45));
    }

    #[test]
    fn an_altered_removed_or_moved_line_is_found() {
        let (_dir, path) = log_of(4);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for (name, changed, line) in [
            ("altered", text.replacen("\"n\":2", "\"n\":9", 1), 3),
            ("removed", [lines[0], lines[2], lines[3]].join("\n"), 2),
            ("moved", [lines[0], lines[2], lines[1], lines[3]].join("\n"), 2),
            ("torn", format!("{text}{}", &lines[0][..20]), 5),
            ("headless", lines[1..].join("\n"), 1),
        ] {
            std::fs::write(&path, changed).unwrap();
            let found = verify(&path).expect_err(name);
            assert!(found.contains(&format!("line {line}:")), "{name}: {found}");
        }
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let (_dir, path) = log_of(2);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"time\":\"20");
        std::fs::write(&path, text).unwrap();
        Audit::new(Some(&path), &State::open(None)).append(entry(7)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().last().unwrap().contains("\"n\":7"));
        assert!(verify(&path).unwrap_err().contains("line 3:"));
    }
}
