//! Access tokens: what they say, signed with HMAC-SHA-256. There is one algorithm and no header, so nothing can be
//! switched. Any process with the same key can check them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use shared::Level;

use super::Principal;

/// So that a token is recognised in places where it should not be.
const PREFIX: &str = "hlmcp_";
/// Longer ones are none of ours.
const LONGEST: usize = 2048;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Whose it is.
    #[serde(rename = "p")]
    pub(crate) principal: Principal,
    /// How much its bearer may do.
    #[serde(rename = "l")]
    pub(crate) level: Level,
    /// The resource it is for.
    #[serde(rename = "a")]
    pub(crate) audience: String,
    /// Until when, in seconds since 1970.
    #[serde(rename = "x")]
    pub(crate) expires: u64,
    /// Of the credential it was got with: when that changes, the token ends.
    #[serde(rename = "f")]
    pub(crate) fingerprint: String,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Not made by us, or with another key.
    Forged,
    /// Made by us, and over.
    Expired,
}

/// Signs and checks.
#[derive(Clone)]
pub(crate) struct TokenKey(Hmac<Sha256>);

impl TokenKey {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        // A shorter key counts as filled up with zeros.
        let mut block = [0; 64];
        let (start, _) = block.split_at_mut(key.len());
        start.copy_from_slice(&key);
        Self(Hmac::new(&block.into()))
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        // Numbers, names and text always serialise.
        let payload = BASE64.encode(serde_json::to_vec(claims).unwrap_or_default());
        let signature = BASE64.encode(self.mac(b"token\0", payload.as_bytes()).finalize().into_bytes());
        format!("{PREFIX}{payload}.{signature}")
    }

    /// Signature and time are checked here; audience and fingerprint are the caller's business.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, Bad> {
        let token = token.strip_prefix(PREFIX).filter(|token| token.len() <= LONGEST).ok_or(Bad::Forged)?;
        let (payload, signature) = token.split_once('.').ok_or(Bad::Forged)?;
        let signature = BASE64.decode(signature).map_err(|_| Bad::Forged)?;
        // In constant time.
        self.mac(b"token\0", payload.as_bytes()).verify_slice(&signature).map_err(|_| Bad::Forged)?;
        let payload = BASE64.decode(payload).map_err(|_| Bad::Forged)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Bad::Forged)?;
        if claims.expires > now() { Ok(claims) } else { Err(Bad::Expired) }
    }

    /// Stands for a credential in tokens without giving it away: without the key nobody can try secrets against it.
    pub(crate) fn fingerprint(&self, kind: &str, credential: &str) -> String {
        let mac = self.mac(format!("{kind}\0").as_bytes(), credential.as_bytes()).finalize().into_bytes();
        BASE64.encode(mac.get(..12).unwrap_or_default())
    }

    pub(super) fn mac(&self, domain: &[u8], data: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(domain);
        mac.update(data);
        mac
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: u64) -> Claims {
        Claims {
            principal: Principal::client("tablet"),
            level: Level::Operate,
            audience: "https://mcp.example.com/mcp".to_owned(),
            expires,
            fingerprint: "f".to_owned(),
        }
    }

    #[test]
    fn what_was_signed_comes_back() {
        let key = TokenKey::new([7; 32]);
        let claims = claims(now() + 60);
        assert_eq!(key.verify(&key.sign(&claims)), Ok(claims.clone()));
        assert_eq!(TokenKey::new([8; 32]).verify(&key.sign(&claims)), Err(Bad::Forged));
        assert_eq!(key.verify(&key.sign(&self::claims(now() - 1))), Err(Bad::Expired));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let key = TokenKey::new([7; 32]);
        let token = key.sign(&claims(now() + 60));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.verify(std::str::from_utf8(&other).unwrap()), Err(Bad::Forged), "{at}");
            assert_eq!(key.verify(&token[..at]), Err(Bad::Forged));
        }
        let (payload, _) = token.split_once('.').unwrap();
        for forged in [format!("{payload}."), payload.to_owned(), String::new(), "a.b.c".to_owned()] {
            assert_eq!(key.verify(&forged), Err(Bad::Forged));
        }
    }

    #[test]
    fn a_fingerprint_is_of_one_kind_and_one_credential() {
        let key = TokenKey::new([7; 32]);
        let print = key.fingerprint("client", "secret");
        assert_ne!(print, key.fingerprint("client", "secret2"));
        assert_ne!(print, key.fingerprint("grant", "secret"));
        assert_ne!(print, TokenKey::new([8; 32]).fingerprint("client", "secret"));
    }
}
