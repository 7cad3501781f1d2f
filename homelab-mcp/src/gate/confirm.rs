//! Confirmation codes: what the first call hands out and the second brings back. A code is signed, bound to the tool,
//! its arguments, the objects as they were found and the caller, short-lived, and consumed by an exclusive file at the
//! moment of acting, so it works once, whichever process acts.

use std::{
    fs, io,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::state::{State, hex};

/// Long enough to read a question and answer it.
pub(crate) const LIFE: Duration = Duration::from_secs(600);

const NONCE: usize = 9;
const EXPIRY: usize = 8;
const MAC: usize = 16;

/// Hands out and consumes codes.
pub(crate) struct Codes {
    key: [u8; 32],
    state: State,
    /// For a process without a STATE_DIR.
    used: Mutex<Vec<[u8; NONCE]>>,
}

/// Why a code is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    #[error(
        "this confirmation code is not one of this call's: the arguments, the object or the caller have changed since, or it was copied wrongly"
    )]
    Foreign,
    #[error("this confirmation code has expired")]
    Expired,
    #[error("this confirmation code was used before")]
    Used,
    #[error("the confirmation could not be recorded ({0})")]
    NotRecorded(String),
}

impl Codes {
    pub(crate) fn new(key: [u8; 32], state: State) -> Self {
        Self { key, state, used: Mutex::new(Vec::new()) }
    }

    /// A code for what `bound` describes.
    pub(crate) fn issue(&self, bound: &str) -> String {
        self.issue_at(bound, now())
    }

    fn issue_at(&self, bound: &str, now: u64) -> String {
        let mut bytes = rand::random::<[u8; NONCE]>().to_vec();
        bytes.extend((now + LIFE.as_secs()).to_be_bytes());
        let mac = self.mac(&bytes, bound).finalize().into_bytes();
        bytes.extend(&mac[..MAC]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Takes a code once.
    pub(crate) fn redeem(&self, code: &str, bound: &str) -> Result<(), Rejected> {
        let bytes = URL_SAFE_NO_PAD.decode(code.trim()).map_err(|_| Rejected::Foreign)?;
        if bytes.len() != NONCE + EXPIRY + MAC {
            return Err(Rejected::Foreign);
        }
        let (payload, mac) = bytes.split_at(NONCE + EXPIRY);
        self.mac(payload, bound).verify_truncated_left(mac).map_err(|_| Rejected::Foreign)?;
        let (nonce, expiry) = payload.split_at(NONCE);
        let expiry = expiry.try_into().map_or(0, u64::from_be_bytes);
        if expiry < now() {
            return Err(Rejected::Expired);
        }
        self.consume(nonce.try_into().map_err(|_| Rejected::Foreign)?)
    }

    fn mac(&self, payload: &[u8], bound: &str) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length");
        mac.update(payload);
        mac.update(bound.as_bytes());
        mac
    }

    fn consume(&self, nonce: [u8; NONCE]) -> Result<(), Rejected> {
        if self.state.dir().is_none() {
            let mut used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if used.contains(&nonce) {
                return Err(Rejected::Used);
            }
            used.push(nonce);
            return Ok(());
        }
        let not_recorded = |error: io::Error| Rejected::NotRecorded(error.to_string());
        let dir = self.state.sub("confirmations").map_err(not_recorded)?;
        // Old ones say nothing any more: their codes have expired.
        for old in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let age = old.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > 2 * LIFE) {
                let _ = fs::remove_file(old.path());
            }
        }
        match fs::OpenOptions::new().write(true).create_new(true).open(dir.join(hex(&nonce))) {
            Ok(file) => file.sync_all().map_err(not_recorded),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Rejected::Used),
            Err(error) => Err(not_recorded(error)),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(dir: Option<&std::path::Path>) -> Codes {
        Codes::new([7; 32], State::open(dir))
    }

    #[test]
    fn a_code_works_once_across_processes() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (codes(Some(dir.path())), codes(Some(dir.path())));
        let code = one.issue("restart web");
        assert_eq!(other.redeem(&code, "restart web"), Ok(()));
        assert_eq!(one.redeem(&code, "restart web"), Err(Rejected::Used));
        let alone = codes(None);
        let code = alone.issue("x");
        assert_eq!((alone.redeem(&code, "x"), alone.redeem(&code, "x")), (Ok(()), Err(Rejected::Used)));
    }

    #[test]
    fn a_code_holds_for_its_call_and_its_time_only() {
        let codes = codes(None);
        let code = codes.issue("restart web");
        assert_eq!(codes.redeem(&code, "restart db"), Err(Rejected::Foreign));
        assert_eq!(codes.redeem(&codes.issue_at("x", now() - LIFE.as_secs() - 1), "x"), Err(Rejected::Expired));
        let other = Codes::new([8; 32], State::open(None));
        assert_eq!(other.redeem(&code, "restart web"), Err(Rejected::Foreign));
        let bytes = URL_SAFE_NO_PAD.decode(&code).unwrap();
        for at in 0..bytes.len() {
            let mut tampered = bytes.clone();
            tampered[at] ^= 1;
            assert_eq!(
                codes.redeem(&URL_SAFE_NO_PAD.encode(tampered), "restart web"),
                Err(Rejected::Foreign),
                "byte {at}"
            );
        }
        for junk in ["", "yes", "AAAA", &"A".repeat(500)] {
            assert_eq!(codes.redeem(junk, "restart web"), Err(Rejected::Foreign));
        }
    }
}
