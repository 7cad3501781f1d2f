//! Authorization codes: good once, for a minute, for the app that asked and nobody else. A code follows from its form, so
//! that a form sent twice leads to one code. Kept in memory only.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use shared::Level;

use super::{clients::Kind, redirect::RedirectUri};

/// How long a code is good.
const LIFETIME: Duration = Duration::from_secs(60);
/// Codes at once. Only the owner makes them.
const MOST: usize = 256;

/// What an app asked for: checked, and ready to be shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) app: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) redirect: RedirectUri,
    pub(super) state: Option<String>,
    /// PKCE, always S256.
    pub(super) challenge: String,
    pub(super) wanted: Option<Level>,
}

/// What a code stands for.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) asked: Asked,
    pub(super) level: Level,
}

/// What became of a form that the owner sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// This code is good now.
    Code(String),
    /// The form was used before, and its code has been used or is over, or it said something else.
    Repeated,
}

/// All codes that are good, and the forms that were used.
#[derive(Default)]
pub(super) struct Codes(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    codes: HashMap<String, (Instant, Allowed)>,
    /// Codes that were given out, until their forms are over.
    given: HashMap<String, Instant>,
}

impl Codes {
    /// Makes `code` good. `form_lasts` is how long its form could be sent again.
    pub(super) fn give(&self, code: String, asked: Asked, level: Level, form_lasts: Duration) -> Given {
        self.give_at(code, asked, level, form_lasts, Instant::now())
    }

    fn give_at(&self, code: String, asked: Asked, level: Level, form_lasts: Duration, now: Instant) -> Given {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.codes.retain(|_, (until, _)| *until > now);
        inner.given.retain(|_, until| *until > now);
        if inner.given.contains_key(&code) {
            // Pressed twice: the browser shows the second answer, which must lead on as well.
            let same = inner.codes.get(&code).is_some_and(|(_, allowed)| allowed.level == level);
            return if same { Given::Code(code) } else { Given::Repeated };
        }
        if inner.codes.len() >= MOST
            && let Some(oldest) = inner.codes.iter().min_by_key(|(_, (until, _))| *until).map(|(code, _)| code.clone())
        {
            inner.codes.remove(&oldest);
        }
        // Never forgotten before the code itself.
        inner.given.insert(code.clone(), now + form_lasts.max(LIFETIME));
        inner.codes.insert(code.clone(), (now + LIFETIME, Allowed { asked, level }));
        Given::Code(code)
    }

    /// What the code stands for. It is over with this, whoever asks.
    pub(super) fn take(&self, code: &str) -> Option<Allowed> {
        self.take_at(code, Instant::now())
    }

    fn take_at(&self, code: &str, now: Instant) -> Option<Allowed> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.codes.remove(code).filter(|(until, _)| *until > now).map(|(_, allowed)| allowed)
    }
}

/// The parameters of a query or form; nothing when one is given twice.
pub(super) fn parameters(text: &[u8]) -> Option<HashMap<String, String>> {
    let mut seen = HashSet::new();
    let pairs = form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned()));
    let pairs: Vec<_> = pairs.collect();
    pairs.iter().all(|(name, _)| seen.insert(name.as_str())).then(|| {
        // RFC 6749 §3.1: without a value is as if not sent.
        pairs.iter().filter(|(_, value)| !value.is_empty()).cloned().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Duration = Duration::from_secs(600);

    fn asked() -> Asked {
        Asked {
            app: "a".to_owned(),
            name: "A".to_owned(),
            kind: Kind::Configured,
            redirect: "https://a.example/x".parse().unwrap(),
            state: None,
            challenge: "c".to_owned(),
            wanted: None,
        }
    }

    fn give(codes: &Codes, code: &str, level: Level, now: Instant) -> Given {
        codes.give_at(code.to_owned(), asked(), level, FORM, now)
    }

    #[test]
    fn a_code_is_good_once_and_for_a_minute() {
        let (codes, now) = (Codes::default(), Instant::now());
        assert_eq!(give(&codes, "one", Level::Operate, now), Given::Code("one".to_owned()));
        assert_eq!(codes.take_at("one", now).unwrap().level, Level::Operate);
        assert!(codes.take_at("one", now).is_none() && codes.take_at("other", now).is_none());
        give(&codes, "two", Level::Monitor, now);
        assert!(codes.take_at("two", now + LIFETIME).is_none());
    }

    #[test]
    fn a_form_sent_twice_leads_to_one_code() {
        let (codes, now) = (Codes::default(), Instant::now());
        give(&codes, "one", Level::Monitor, now);
        assert_eq!(give(&codes, "one", Level::Monitor, now), Given::Code("one".to_owned()));
        assert_eq!(give(&codes, "one", Level::Manage, now), Given::Repeated, "another choice needs another form");
        assert!(codes.take_at("one", now).is_some());
        assert_eq!(give(&codes, "one", Level::Monitor, now), Given::Repeated);
        assert_eq!(give(&codes, "one", Level::Monitor, now + LIFETIME), Given::Repeated);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (codes, now) = (Codes::default(), Instant::now());
        for number in 0..MOST + 10 {
            give(&codes, &number.to_string(), Level::Monitor, now);
        }
        assert_eq!(codes.0.lock().unwrap().codes.len(), MOST);
        give(&codes, "later", Level::Monitor, now + FORM);
        assert_eq!(codes.0.lock().unwrap().given.len(), 1);
    }

    #[test]
    fn a_parameter_given_twice_is_none() {
        assert_eq!(parameters(b"a=1&b=&c=2").unwrap().len(), 2);
        assert!(parameters(b"a=1&a=1").is_none() && parameters(b"a=&a=1").is_none());
    }
}
