//! Where a browser is sent back to. Redirect URIs are compared as text, never normalised, so that there is no second
//! way to read one; only the port of a loopback address is free (RFC 8252 §7.3).

use std::{fmt, net::Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::is_loopback;

/// Longer ones are refused.
const LONGEST: usize = 512;

/// An https address, or an http one on loopback; without user name or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RedirectUri {
    text: String,
    /// Where the authority begins, where its port begins (if there is one), and where it ends.
    authority: usize,
    port: usize,
    rest: usize,
}

impl RedirectUri {
    /// As it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Name and, if given, port: what the owner is shown.
    pub(crate) fn authority(&self) -> &str {
        self.text.get(self.authority..self.rest).unwrap_or_default()
    }

    fn host(&self) -> &str {
        self.text.get(self.authority..self.port).unwrap_or_default()
    }

    /// Whether it leads to the device that the browser runs on.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// The source that a Content-Security-Policy must allow. It has no form for an IPv6 address.
    pub(crate) fn csp_source(&self) -> &str {
        match self.host().starts_with('[') {
            true if self.text.starts_with("http:") => "http:",
            true => "https:",
            false => self.text.get(..self.rest).unwrap_or_default(),
        }
    }

    /// Whether a request may name `given` where this one is allowed.
    pub(crate) fn allows(&self, given: &Self) -> bool {
        let portless = |uri: &Self| {
            (uri.text.starts_with("http:") && uri.is_loopback())
                .then(|| (uri.host().to_owned(), uri.text.get(uri.rest..).unwrap_or_default().to_owned()))
        };
        self.text == given.text || portless(self).is_some_and(|ours| portless(given) == Some(ours))
    }

    /// With these parameters added to its query.
    pub(crate) fn with(&self, parameters: &[(&str, &str)]) -> String {
        let mut text = self.text.clone();
        text.push(if text.contains('?') { '&' } else { '?' });
        text += &form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        text
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<RedirectUri> for String {
    fn from(uri: RedirectUri) -> Self {
        uri.text
    }
}

impl TryFrom<String> for RedirectUri {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{}` {why}", text.chars().take(80).collect::<String>());
        let plain = |byte: u8| byte.is_ascii_graphic() && !br##""#<>\^`{|}"##.contains(&byte);
        if text.len() > LONGEST || !text.bytes().all(plain) {
            return Err(wrong(
                "is no redirect URI: too long, with a fragment, or with characters that must be encoded",
            ));
        }
        let secure = text.starts_with("https://");
        if !secure && !text.starts_with("http://") {
            return Err(wrong("must begin with https://, or with http:// on loopback"));
        }
        let authority = if secure { 8 } else { 7 };
        let after = text.get(authority..).unwrap_or_default();
        let rest = authority + after.find(['/', '?']).unwrap_or(after.len());
        let named = text.get(authority..rest).unwrap_or_default();
        let (host, port) = match named.strip_prefix('[').and_then(|named| named.split_once(']')) {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (address.len() + 2, port),
            Some(_) => return Err(wrong("has no valid host")),
            None => {
                let host = named.split(':').next().unwrap_or_default();
                let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                if host.is_empty() || !host.bytes().all(fine) {
                    return Err(wrong("has no valid host, or a user name before it"));
                }
                (host.len(), named.get(host.len()..).unwrap_or_default())
            }
        };
        let number = port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if !port.is_empty() && !number.is_some_and(|digits| digits.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(wrong("has a port that is none"));
        }
        let uri = Self { authority, port: authority + host, rest, text };
        if secure || matches!(uri.host(), "localhost" | "127.0.0.1" | "[::1]") {
            Ok(uri)
        } else {
            Err(format!("`{uri}` must be https: http is for localhost, 127.0.0.1 and [::1] only"))
        }
    }
}

impl std::str::FromStr for RedirectUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> RedirectUri {
        text.parse().unwrap()
    }

    #[test]
    fn only_https_and_loopback() {
        for text in [
            "",
            "notaurl",
            "//claude.ai/x",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://claude.ai/x",
            "http://localhost.evil.example/x",
            "http://localhost@evil.example/x",
            "http://127.0.0.1.evil.example/x",
            "http://127.1/x",
            "http://0.0.0.0/x",
            "http://[::]/x",
            "https://user@claude.ai/x",
            "https://claude.ai:80:80/x",
            "https://claude.ai:/x",
            "https://claude.ai:0/x",
            "https://claude.ai:99999/x",
            "https://claude.ai/x#fragment",
            "https://claude.ai\\@evil.example/x",
            "https://claude.ai/x y",
            "https://claude.ai/\u{e9}",
            "https://claude.ai/\r\nSet-Cookie:x",
            "https://;form-action/x",
            "https://[::1/x",
            "https://",
            "HTTPS://claude.ai/x",
        ] {
            assert!(text.parse::<RedirectUri>().is_err(), "{text:?}");
        }
        assert!(format!("https://a/{}", "x".repeat(LONGEST)).parse::<RedirectUri>().is_err());
    }

    #[test]
    fn compared_as_text_but_for_a_loopback_port() {
        let claude = uri("https://claude.ai/api/mcp/auth_callback");
        for (given, allowed) in [
            ("https://claude.ai/api/mcp/auth_callback", true),
            ("https://claude.ai/api/mcp/auth_callback/", false),
            ("https://claude.ai/api/mcp/auth_callback?x=1", false),
            ("https://claude.ai/api/mcp/x/../auth_callback", false),
            ("https://claude.ai/api/mcp/auth_callbac%6b", false),
            ("https://claude.ai:443/api/mcp/auth_callback", false),
            ("https://claude.ai.evil.example/api/mcp/auth_callback", false),
            ("https://CLAUDE.ai/api/mcp/auth_callback", false),
        ] {
            assert_eq!(claude.allows(&uri(given)), allowed, "{given}");
        }
        let local = uri("http://localhost/callback");
        for (given, allowed) in [
            ("http://localhost/callback", true),
            ("http://localhost:1/callback", true),
            ("http://localhost:65535/callback", true),
            ("http://localhost:1/callback/../x", false),
            ("http://localhost:1/", false),
            ("http://127.0.0.1:1/callback", false),
            ("https://localhost:1/callback", false),
        ] {
            assert_eq!(local.allows(&uri(given)), allowed, "{given}");
            assert_eq!(uri("http://localhost:3118/callback").allows(&uri(given)), allowed, "{given}");
        }
    }

    #[test]
    fn parameters_are_encoded_into_the_query() {
        assert_eq!(uri("https://a.example/x").with(&[("state", "a&b=c d")]), "https://a.example/x?state=a%26b%3Dc+d");
        assert_eq!(uri("https://a.example/x?y=1").with(&[("code", "z")]), "https://a.example/x?y=1&code=z");
    }

    #[test]
    fn shown_and_allowed_by_its_origin() {
        let parts = |text| (uri(text).authority().to_owned(), uri(text).csp_source().to_owned());
        let pair = |authority: &str, source: &str| (authority.to_owned(), source.to_owned());
        assert_eq!(parts("https://claude.ai/x?y"), pair("claude.ai", "https://claude.ai"));
        assert_eq!(parts("http://localhost:80?y"), pair("localhost:80", "http://localhost:80"));
        assert_eq!(parts("http://[::1]:9/x"), pair("[::1]:9", "http:"));
        assert!(uri("http://[::1]:9/x").is_loopback() && !uri("https://claude.ai/x").is_loopback());
    }
}
