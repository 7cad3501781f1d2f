//! Brakes for a model that loops: so many changes a minute, so many to one object in ten minutes. Counted in STATE_DIR
//! under a lock, so that the processes of one pool share them.

use std::{
    fs,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::state::{self, State};

const MINUTE: u64 = 60;
const PER_OBJECT: u64 = 600;

/// Counts changes.
pub(crate) struct Brakes {
    per_minute: u32,
    per_object: u32,
    state: State,
    /// For a process without a STATE_DIR.
    memory: Mutex<Vec<(u64, String)>>,
}

impl Brakes {
    pub(crate) fn new(per_minute: u32, per_object: u32, state: State) -> Self {
        Self { per_minute, per_object, state, memory: Mutex::new(Vec::new()) }
    }

    /// Whether a change to these objects would pass, without counting it.
    pub(crate) fn look(&self, objects: &[String]) -> Result<(), String> {
        self.judge(objects, false)
    }

    /// Counts one change to these objects, or says in a sentence which brake holds it and for how long.
    pub(crate) fn pass(&self, objects: &[String]) -> Result<(), String> {
        self.judge(objects, true)
    }

    fn judge(&self, objects: &[String], counts: bool) -> Result<(), String> {
        if self.per_minute == 0 && self.per_object == 0 {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Also serialises the threads of this process: a file lock is one per open file, not per thread.
        let mut memory = self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(dir) = self.state.dir() else { return self.count(&mut memory, objects, now, counts) };
        let locked = state::open_locked(&dir.join("brakes.lock"));
        let path = dir.join("brakes.json");
        let mut seen: Vec<(u64, String)> =
            fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        self.count(&mut seen, objects, now, counts)?;
        if !counts {
            return Ok(());
        }
        let kept = locked.and_then(|_lock| state::replace(&path, &serde_json::to_vec(&seen)?));
        kept.map_err(|error| format!("changes cannot be counted in {} ({error})", dir.display()))
    }

    fn count(&self, seen: &mut Vec<(u64, String)>, objects: &[String], now: u64, counts: bool) -> Result<(), String> {
        seen.retain(|(at, _)| *at + PER_OBJECT > now && *at <= now);
        let minute: Vec<_> = seen.iter().filter(|(at, object)| *at + MINUTE > now && object.is_empty()).collect();
        if self.per_minute > 0 && minute.len() >= self.per_minute as usize {
            let wait = minute.first().map_or(MINUTE, |(at, _)| at + MINUTE - now);
            return Err(format!(
                "the brake CHANGES_PER_MINUTE={} holds: {} changes in the last minute; wait {wait} s",
                self.per_minute,
                minute.len()
            ));
        }
        for object in objects {
            let hits: Vec<_> = seen.iter().filter(|(_, seen)| seen == object).collect();
            if self.per_object > 0 && hits.len() >= self.per_object as usize {
                let wait = hits.first().map_or(PER_OBJECT, |(at, _)| at + PER_OBJECT - now);
                return Err(format!(
                    "the brake CHANGES_PER_OBJECT={} holds: this object was changed {} times in ten minutes; find out why; wait {wait} s, or have its operator raise it",
                    self.per_object,
                    hits.len()
                ));
            }
        }
        if !counts {
            return Ok(());
        }
        seen.push((now, String::new()));
        seen.extend(objects.iter().map(|object| (now, object.clone())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_brakes_hold_and_zero_switches_off() {
        for dir in [None, Some(tempfile::tempdir().unwrap())] {
            let state = || State::open(dir.as_ref().map(tempfile::TempDir::path));
            let brakes = Brakes::new(5, 2, state());
            let web = ["docker/default/web".to_owned()];
            assert_eq!((brakes.pass(&web), brakes.pass(&web)), (Ok(()), Ok(())));
            assert!(brakes.pass(&web).unwrap_err().contains("CHANGES_PER_OBJECT=2"));
            for n in 0..3 {
                assert_eq!(brakes.pass(&[format!("docker/default/{n}")]), Ok(()));
            }
            assert!(brakes.pass(&["docker/default/x".to_owned()]).unwrap_err().contains("CHANGES_PER_MINUTE=5"));
            if dir.is_some() {
                let other_process = Brakes::new(5, 2, state());
                assert!(other_process.pass(&["docker/default/y".to_owned()]).is_err());
            }
            let off = Brakes::new(0, 0, state());
            assert!((0..50).all(|_| off.pass(&web).is_ok()));
        }
    }

    #[test]
    fn old_changes_do_not_count() {
        let brakes = Brakes::new(1, 1, State::open(None));
        let mut seen = Vec::new();
        assert!(brakes.count(&mut seen, &["a".into()], 1000, true).is_ok());
        assert!(brakes.count(&mut seen, &["b".into()], 1059, true).is_err());
        assert!(brakes.count(&mut seen, &["b".into()], 1060, true).is_ok());
        assert!(brakes.count(&mut seen, &["a".into()], 1599, true).is_err());
        assert!(brakes.count(&mut seen, &["a".into()], 1600, true).is_ok());
    }
}
