//! What we hand out and must recognise later without keeping it: forms, refresh tokens, registered clients. Signed, not
//! encrypted, and good for the one purpose that it was made for.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::Mac as _;
use serde::{Serialize, de::DeserializeOwned};

use super::token::TokenKey;

/// Longer ones are none of ours.
const LONGEST: usize = 16 << 10;

impl TokenKey {
    /// `value` as text that only we can have made.
    pub(super) fn seal<T: Serialize>(&self, purpose: &str, value: &T) -> String {
        // Only plain structures are sealed, and those always serialise.
        let payload = BASE64.encode(serde_json::to_vec(value).unwrap_or_default());
        let tag = self.tag(purpose, &payload);
        format!("{payload}.{tag}")
    }

    /// What was sealed for this purpose, if it is unchanged.
    pub(super) fn open<T: DeserializeOwned>(&self, purpose: &str, text: &str) -> Option<T> {
        let (payload, tag) = text.split_once('.').filter(|_| text.len() <= LONGEST)?;
        let tag = BASE64.decode(tag).ok()?;
        // In constant time.
        self.mac(format!("seal {purpose}\0").as_bytes(), payload.as_bytes()).verify_slice(&tag).ok()?;
        serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()
    }

    /// 256 bits that follow from `text`, and that nobody can guess without the key.
    pub(super) fn tag(&self, purpose: &str, text: &str) -> String {
        BASE64.encode(self.mac(format!("seal {purpose}\0").as_bytes(), text.as_bytes()).finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_unchanged_and_for_its_purpose() {
        let key = TokenKey::new([7; 32]);
        let sealed = key.seal("form", &("a", 1));
        assert_eq!(key.open("form", &sealed), Some(("a".to_owned(), 1)));
        assert_eq!(key.open::<(String, u8)>("client", &sealed), None);
        assert_eq!(TokenKey::new([8; 32]).open::<(String, u8)>("form", &sealed), None);
        for at in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.open::<(String, u8)>("form", std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
    }
}
