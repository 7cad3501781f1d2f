//! Signing in over JSON-RPC. With the user's name the answer says what is wrong with a key; without it there is only
//! yes and no, and from 27 on not even that method.

use serde_json::{Value, json};
use shared::Secret;

use super::refusal::{Refusal, errno};
use crate::{
    error::{Fault, Kind},
    http::text::vendor_text,
};

/// What we sign in with.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) key: Secret,
    /// The key's owner.
    pub(super) username: Option<String>,
}

/// Where a user manages keys.
const KEYS: &str = "in TrueNAS under Credentials > Users > API Keys";

impl Credentials {
    /// The method and its parameters.
    pub(super) fn request(&self) -> (&'static str, Value) {
        match &self.username {
            Some(username) => (
                "auth.login_ex",
                json!([{
                    "mechanism": "API_KEY_PLAIN",
                    "username": username,
                    "api_key": self.key.expose(),
                    "login_options": {"user_info": false},
                }]),
            ),
            None => ("auth.login_with_api_key", json!([self.key.expose()])),
        }
    }

    /// What the result means.
    pub(super) fn verdict(&self, result: &Value) -> Result<(), Fault> {
        let forbidden = |cause: String, hint: String| Err(Fault::new(Kind::Forbidden, cause).hint(hint));
        if self.username.is_none() {
            return match result {
                Value::Bool(true) => Ok(()),
                Value::Bool(false) => forbidden(
                    "TrueNAS refused the API key".to_owned(),
                    format!(
                        "It is wrong, expired or revoked (a key that once travelled over plain http is), or its user has no \
                         privilege: check TRUENAS_API_KEY {KEYS}. With TRUENAS_USERNAME, the key's owner, set as well, \
                         TrueNAS says which."
                    ),
                ),
                _ => Err(Fault::new(Kind::Malformed, "the answer to the login was neither yes nor no")),
            };
        }
        match result["response_type"].as_str().unwrap_or_default() {
            "SUCCESS" => Ok(()),
            "AUTH_ERR" => forbidden(
                "TrueNAS refused the API key of this user (AUTH_ERR)".to_owned(),
                format!(
                    "Check TRUENAS_USERNAME (it must be the key's owner, who needs a privilege) and TRUENAS_API_KEY (wrong or \
                     revoked) {KEYS}."
                ),
            ),
            "EXPIRED" => forbidden(
                "the API key has expired or was revoked (EXPIRED)".to_owned(),
                format!("Renew it {KEYS} and set TRUENAS_API_KEY; a key is revoked when it travels over plain http."),
            ),
            "DENIED" => forbidden(
                "the API key's user has no privilege to use the API (DENIED)".to_owned(),
                "Give one of its groups a privilege, for example with READONLY_ADMIN: Credentials > Groups > Privileges."
                    .to_owned(),
            ),
            "OTP_REQUIRED" => forbidden(
                "TrueNAS asks for a one-time password (OTP_REQUIRED)".to_owned(),
                "That cannot be given here: use an API key of a user for whom it is not asked.".to_owned(),
            ),
            "REDIRECT" => {
                let urls: Vec<_> = result["urls"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let urls = vendor_text(&urls.join(", "));
                forbidden(
                    format!("this is the standby controller of a pair, and the active one is at {urls}"),
                    "The key was not sent there. Set TRUENAS_HOST to the active controller or the pair's virtual address."
                        .to_owned(),
                )
            }
            other => Err(Fault::new(
                Kind::Malformed,
                format!("TrueNAS answered the login with `{}`, which is not known here", vendor_text(other)),
            )),
        }
    }

    /// What a login that ended in an error means.
    pub(super) fn refused(&self, refusal: &Refusal) -> Fault {
        if refusal.is_no_method() && self.username.is_none() {
            return Fault::new(Kind::NotConfigured, "this TrueNAS takes an API key only together with its user's name")
                .hint("Set TRUENAS_USERNAME to the name of the user whom TRUENAS_API_KEY belongs to.");
        }
        if refusal.is(errno::EOPNOTSUPP) {
            return Fault::new(
                Kind::Forbidden,
                "the security level of this TrueNAS forbids signing in with a plain API key",
            )
            .hint("Lower it under System > Advanced > Security, or use another TrueNAS user as its policy demands.");
        }
        // An answer that quotes what it was given must not carry the key any further.
        let said = refusal.message().replace(self.key.expose(), "…");
        Fault::new(Kind::Forbidden, format!("the login failed: TrueNAS says: {said}"))
            .hint("Check TRUENAS_API_KEY and TRUENAS_USERNAME.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(username: Option<&str>) -> Credentials {
        Credentials { key: Secret::new("7-hush"), username: username.map(str::to_owned) }
    }

    #[test]
    fn each_answer_to_a_login_has_its_own_words() {
        let named = credentials(Some("mcp"));
        assert!(named.verdict(&json!({"response_type": "SUCCESS", "user_info": null})).is_ok());
        for (answer, cause, hint) in [
            (json!({"response_type": "AUTH_ERR"}), "AUTH_ERR", "TRUENAS_USERNAME"),
            (json!({"response_type": "EXPIRED"}), "expired or was revoked", "Renew"),
            (json!({"response_type": "DENIED"}), "no privilege", "READONLY_ADMIN"),
            (json!({"response_type": "OTP_REQUIRED", "username": "mcp"}), "one-time", "API key"),
            (json!({"response_type": "REDIRECT", "urls": ["10.0.0.106"]}), "10.0.0.106", "TRUENAS_HOST"),
        ] {
            let fault = named.verdict(&answer).unwrap_err();
            assert_eq!(fault.kind, Kind::Forbidden);
            assert!(fault.cause.contains(cause) && fault.hint.unwrap().contains(hint), "{}", fault.cause);
        }
        for answer in [json!({"response_type": "SCRAM_RESPONSE"}), json!({}), json!(null), json!(true)] {
            assert_eq!(named.verdict(&answer).unwrap_err().kind, Kind::Malformed, "{answer}");
        }

        let unnamed = credentials(None);
        assert!(unnamed.verdict(&json!(true)).is_ok());
        let fault = unnamed.verdict(&json!(false)).unwrap_err();
        assert!(fault.hint.unwrap().contains("TRUENAS_USERNAME") && fault.kind == Kind::Forbidden);
        assert_eq!(unnamed.verdict(&json!(null)).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn a_release_without_the_method_names_the_variable() {
        for error in [
            json!({"code": -32601, "message": "Method does not exist"}),
            json!({"code": -32001, "data": {"error": 201, "reason": "[ENOMETHOD] Method not found"}}),
        ] {
            let fault = credentials(None).refused(&Refusal::from_rpc(&error));
            assert!(fault.hint.unwrap().contains("TRUENAS_USERNAME") && fault.kind == Kind::NotConfigured);
        }
        let quoting = json!({"code": -32602, "data": {"error": 22, "reason": "bad 7-hush", "extra": null}});
        assert!(!credentials(None).refused(&Refusal::from_rpc(&quoting)).cause.contains("hush"));
    }
}
