//! The owner's password, and how guessing it is slowed. Unlike a key, a password can be guessed, so an attempt costs
//! something before it is compared: each address has few, and all addresses together have not many. So that strangers
//! cannot lock the owner out, a browser that once knew the password is recognised by a cookie and has attempts of its
//! own (OWASP's "device cookies").

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::Secret;

use super::{
    failures::block,
    meter::{Limit, Meter},
    token::now,
};

/// Of one address, or of one known browser.
const EACH: Limit = Limit { at_once: 5, every: Duration::from_secs(30) };
/// Of everybody who is not known.
const ALL: Limit = Limit { at_once: 30, every: Duration::from_secs(10) };
/// Addresses and browsers remembered at once.
const MOST: usize = 10_000;
/// How long a browser stays known.
const KNOWN: u64 = 365 * 86_400;

/// A browser from which the owner has signed in before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Device {
    #[serde(rename = "d")]
    number: u64,
    #[serde(rename = "x")]
    until: u64,
}

impl Device {
    pub(super) fn new() -> Self {
        Self { number: rand::random(), until: now() + KNOWN }
    }

    pub(super) fn is_current(&self) -> bool {
        self.until > now()
    }
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Right,
    Wrong,
    /// Nothing was compared.
    TooMany(Duration),
}

/// The password and what is left of the attempts.
pub(super) struct Password {
    password: Secret,
    attempts: Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    each: HashMap<Whose, Meter>,
    all: Option<Meter>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Whose {
    Address(IpAddr),
    Device(u64),
}

impl Password {
    pub(super) fn new(password: Secret) -> Self {
        Self { password, attempts: Mutex::default() }
    }

    /// For fingerprints.
    pub(super) fn expose(&self) -> &str {
        self.password.expose()
    }

    /// Compares, if there is an attempt left for this address or browser. A right one costs nothing.
    pub(super) fn attempt(&self, tried: &str, source: IpAddr, device: Option<&Device>) -> Attempt {
        self.attempt_at(tried, source, device, Instant::now())
    }

    fn attempt_at(&self, tried: &str, source: IpAddr, device: Option<&Device>, now: Instant) -> Attempt {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = device.map_or_else(|| Whose::Address(block(source)), |device| Whose::Device(device.number));
        let each = attempts.each.get(&whose).copied().unwrap_or(Meter(now));
        let all = attempts.all.unwrap_or(Meter(now));
        let wait = each.wait(EACH, now).max(if device.is_none() { all.wait(ALL, now) } else { Duration::ZERO });
        if !wait.is_zero() {
            return Attempt::TooMany(wait);
        }
        if self.is(tried) {
            return Attempt::Right;
        }
        attempts.take(whose, device.is_none(), now);
        Attempt::Wrong
    }

    /// In a time that tells neither where they differ nor how long the password is.
    fn is(&self, tried: &str) -> bool {
        let [tried, right] =
            [tried, self.password.expose()].map(Sha256::digest).map(|digest| BASE64_STANDARD.encode(digest));
        Secret::new(right).matches(&tried)
    }
}

impl Attempts {
    fn take(&mut self, whose: Whose, of_all: bool, now: Instant) {
        if self.each.len() >= MOST {
            self.each.retain(|_, meter| meter.0 > now);
        }
        if self.each.len() >= MOST
            && let Some(least) = self.each.iter().min_by_key(|(_, meter)| meter.0).map(|(whose, _)| whose.clone())
        {
            self.each.remove(&least);
        }
        self.each.entry(whose).or_insert(Meter(now)).take(EACH, now);
        if of_all {
            self.all.get_or_insert(Meter(now)).take(ALL, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Password {
        Password::new(Secret::new("correct horse battery"))
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn an_address_has_few_attempts_and_gets_them_back() {
        let (password, start) = (password(), Instant::now());
        let attempt = |tried, after| password.attempt_at(tried, address(1), None, start + Duration::from_secs(after));
        for _ in 0..EACH.at_once {
            assert_eq!(attempt("x", 0), Attempt::Wrong);
        }
        assert_eq!(attempt("x", 0), Attempt::TooMany(EACH.every));
        assert_eq!(attempt("correct horse battery", 29), Attempt::TooMany(Duration::from_secs(1)), "not even compared");
        assert_eq!(attempt("correct horse battery", 30), Attempt::Right);
        assert_eq!(attempt("x", 30), Attempt::Wrong);
        assert!(matches!(attempt("x", 30), Attempt::TooMany(_)));
    }

    #[test]
    fn many_addresses_share_a_limit_which_a_known_browser_does_not() {
        let (password, now) = (password(), Instant::now());
        for number in 0..ALL.at_once {
            assert_eq!(password.attempt_at("x", address(number), None, now), Attempt::Wrong);
        }
        assert_eq!(password.attempt_at("correct horse battery", address(999), None, now), Attempt::TooMany(ALL.every));
        let device = Device::new();
        assert_eq!(password.attempt_at("x", address(999), Some(&device), now), Attempt::Wrong);
        assert_eq!(password.attempt_at("correct horse battery", address(999), Some(&device), now), Attempt::Right);
        for _ in 1..EACH.at_once {
            assert_eq!(password.attempt_at("x", address(999), Some(&device), now), Attempt::Wrong);
        }
        assert!(matches!(password.attempt_at("x", address(999), Some(&device), now), Attempt::TooMany(_)));
        // A day of guessing from everywhere is so many guesses.
        let day = now + Duration::from_secs(86_400);
        let guesses =
            (0..100).filter(|number| password.attempt_at("x", address(5000 + number), None, day) == Attempt::Wrong);
        assert_eq!(guesses.count() as u32, ALL.at_once);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..MOST as u32 + 100 {
            attempts.take(Whose::Address(address(number)), false, now);
        }
        assert_eq!(attempts.each.len(), MOST);
    }

    #[test]
    fn only_the_password_itself() {
        for tried in ["", "correct", "correct horse batterY", "correct horse battery "] {
            assert!(!password().is(tried), "{tried}");
        }
        assert!(password().is("correct horse battery"));
    }
}
