//! Sessions of the versions up to 2025-11-25. A session is paper: who opened it, with which parameters, and a clock. It
//! costs no process; calls go to shared workers. Only a client that can be asked something (elicitation, sampling, roots)
//! gets a worker of its own, and only while it has something to do.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use shared::Level;

use crate::{
    auth::Principal,
    metrics::Metrics,
    pool::{Busy, Pool},
    worker::{Outlet, Worker},
};

/// 128 random bits.
type Id = [u8; 16];

/// One session.
pub(crate) struct Session {
    /// Unique in this process and no secret, unlike the id.
    pub(crate) number: u64,
    principal: Principal,
    pub(crate) version: &'static str,
    /// Its `initialize` parameters.
    params: Box<RawValue>,
    /// It needs a worker that serves nobody else.
    exclusive: AtomicBool,
    own: Mutex<Option<Worker>>,
    /// Its GET stream.
    pub(crate) outlet: Outlet,
    used: Mutex<Instant>,
    calls: AtomicUsize,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl Session {
    /// Its own worker at this level, if it needs one: the one that it has, or another.
    pub(crate) async fn worker(&self, pool: &Pool, level: Level) -> Result<Option<Worker>, Busy> {
        if !self.exclusive.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(own) = own.filter(|own| !own.is_gone()) {
            // A token of another level must not meet a process of this one.
            if own.level() == level {
                return Ok(Some(own));
            }
            own.stop();
        }
        let worker = pool.own(level, self.outlet.clone(), Some(self.params.clone())).await?;
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        match &*own {
            // Two calls at once: the first one's worker serves both.
            Some(other) if !other.is_gone() && other.level() == level => {
                worker.stop();
                Ok(Some(other.clone()))
            }
            _ => {
                *own = Some(worker.clone());
                Ok(Some(worker))
            }
        }
    }

    /// Its own worker, if it has one now.
    pub(crate) fn current(&self) -> Option<Worker> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|own| !own.is_gone())
    }

    /// From now on it shares its worker with nobody: it changes what the process keeps for a client.
    pub(crate) fn claim(&self) {
        self.exclusive.store(true, Ordering::Relaxed);
    }

    /// Counts a call as under way; a session with one is not idle.
    pub(crate) fn busy(self: &Arc<Self>) -> Calling {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Calling(self.clone())
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        self.calls.load(Ordering::Relaxed) == 0
    }

    fn end(&self) {
        if let Some(own) = self.own.lock().unwrap_or_else(PoisonError::into_inner).take() {
            own.stop();
        }
        // The stream's other half sees its end.
        *self.outlet.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A call of a session under way.
pub(crate) struct Calling(Arc<Session>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// All sessions.
pub(crate) struct Sessions {
    all: Mutex<HashMap<Id, Arc<Session>>>,
    most: usize,
    ttl: Duration,
    metrics: Arc<Metrics>,
}

impl Sessions {
    pub(crate) fn new(most: usize, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        Self { all: Mutex::default(), most, ttl, metrics }
    }

    /// Opens a session and returns its id as a header has it. When there are too many, the caller's oldest idle one
    /// goes; without one of theirs there is no room.
    pub(crate) fn open(
        &self,
        principal: &Principal,
        version: &'static str,
        params: Box<RawValue>,
        exclusive: bool,
    ) -> Result<String, Busy> {
        let session = Arc::new(Session {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            principal: principal.clone(),
            version,
            params,
            exclusive: AtomicBool::new(exclusive),
            own: Mutex::default(),
            outlet: Outlet::default(),
            used: Mutex::new(Instant::now()),
            calls: AtomicUsize::new(0),
        });
        let id: Id = rand::random();
        let mut all = self.all();
        if all.len() >= self.most {
            let theirs = all.iter().filter(|(_, session)| session.principal == *principal && session.is_idle());
            let oldest = theirs.min_by_key(|(_, session)| session.used()).map(|(id, _)| *id).ok_or(Busy)?;
            if let Some(session) = all.remove(&oldest) {
                session.end();
            }
        }
        all.insert(id, session);
        self.count(&all);
        Ok(text(&id))
    }

    /// The session with this id, if it is this principal's and not over. To others it looks like an unknown one.
    pub(crate) fn find(&self, id: &str, principal: &Principal) -> Option<Arc<Session>> {
        let session = self.all().get(&parse(id)?)?.clone();
        if session.principal != *principal || self.is_over(&session) {
            return None;
        }
        session.touch();
        Some(session)
    }

    /// Ends a session of this principal's; whether there was one.
    pub(crate) fn close(&self, id: &str, principal: &Principal) -> bool {
        let Some(session) = self.find(id, principal) else { return false };
        session.end();
        let mut all = self.all();
        if let Some(id) = parse(id) {
            all.remove(&id);
        }
        self.count(&all);
        true
    }

    /// Now and then: ends what nobody used for long.
    pub(crate) fn tidy(&self) {
        let mut all = self.all();
        all.retain(|_, session| {
            let over = self.is_over(session);
            if over {
                session.end();
            }
            !over
        });
        self.count(&all);
    }

    fn is_over(&self, session: &Session) -> bool {
        session.is_idle() && session.used().elapsed() > self.ttl
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Id, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, all: &HashMap<Id, Arc<Session>>) {
        let sessions = i64::try_from(all.len()).unwrap_or(i64::MAX);
        self.metrics.sessions.add(sessions - self.metrics.sessions.get());
    }
}

fn text(id: &Id) -> String {
    id.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse(text: &str) -> Option<Id> {
    let mut id = Id::default();
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::raw, pool::NEWEST_LEGACY};

    fn sessions(most: usize, ttl: Duration) -> Sessions {
        Sessions::new(most, ttl, Arc::default())
    }

    fn open(sessions: &Sessions, who: &Principal) -> Result<String, Busy> {
        sessions.open(who, NEWEST_LEGACY, raw("{}".to_owned()), false)
    }

    #[test]
    fn a_session_is_its_principals_alone() {
        let sessions = sessions(10, Duration::from_secs(60));
        let (one, other) = (Principal::client("one"), Principal::client("other"));
        let id = open(&sessions, &one).unwrap();
        assert_eq!(id.len(), 32);
        assert!(sessions.find(&id, &one).is_some() && sessions.find(&id, &other).is_none());
        assert!(!sessions.close(&id, &other) && sessions.close(&id, &one) && !sessions.close(&id, &one));
        for id in ["", "x", &"0".repeat(32), &"+".repeat(32), &"é".repeat(16)] {
            assert!(sessions.find(id, &one).is_none(), "{id}");
        }
    }

    #[test]
    fn the_callers_oldest_idle_one_goes_and_never_anothers() {
        let sessions = sessions(2, Duration::from_secs(60));
        let (one, other) = (Principal::client("one"), Principal::client("other"));
        let (first, second) = (open(&sessions, &one).unwrap(), open(&sessions, &one).unwrap());
        assert!(open(&sessions, &other).is_err());
        let calling = sessions.find(&first, &one).unwrap().busy();
        let third = open(&sessions, &one).unwrap();
        assert!(sessions.find(&second, &one).is_none(), "the first is at work");
        assert!(sessions.find(&first, &one).is_some() && sessions.find(&third, &one).is_some());
        drop(calling);
    }

    #[test]
    fn an_unused_one_is_over() {
        let sessions = sessions(2, Duration::ZERO);
        let one = Principal::client("one");
        let id = open(&sessions, &one).unwrap();
        assert!(sessions.find(&id, &one).is_none());
        sessions.tidy();
        assert_eq!(sessions.metrics.sessions.get(), 0);
    }
}
