//! The pages that the owner sees: plain HTML and one style sheet, no script, nothing from elsewhere. Pure rendering; what
//! is true is decided in `auth`. Every text is escaped where it is put in.

mod connections;
mod consent;
mod message;

pub(crate) use connections::{Row, list, sign_in};
pub(crate) use consent::{Consent, Trust};
pub(crate) use message::message;

use std::{
    fmt::{self, Write as _},
    sync::LazyLock,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use sha2::{Digest as _, Sha256};
use shared::Level;

use crate::body::{self, Reply};

const STYLE: &str = include_str!("style.css");

/// Everything is forbidden but our style sheet and our own forms. A browser checks `form-action` also against where a
/// form's answer redirects to, so a page that leads back to an app names its origin.
fn policy(form_targets: &[&str]) -> String {
    static HASH: LazyLock<String> = LazyLock::new(|| BASE64_STANDARD.encode(Sha256::digest(STYLE)));
    let hash = &*HASH;
    let mut policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    );
    for target in form_targets {
        let _ = write!(policy, " {target}");
    }
    policy
}

/// A whole page. `main` is HTML.
fn page(status: StatusCode, title: &str, main: &str, form_targets: &[&str]) -> Reply {
    let title = Text(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header><p>homelab-mcp</p></header>\n<main>\n{main}</main>\n</body>\n</html>\n"
    );
    let mut reply = body::text("text/html; charset=utf-8", html);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy(form_targets)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Nobody else learns of the address. With `no-referrer` our own forms would come without their Origin.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    // No Cross-Origin-Opener-Policy: an app that opened this page in a window must find that window again afterwards.
    reply
}

/// Text in HTML, also inside of quoted attributes.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The password field, with what was wrong about the last one. The name beside it is for password managers.
fn password_field(error: Option<&str>) -> String {
    let (said, described, state) = match error {
        // The field is where to go on; a screen reader says what describes it.
        Some(error) => (
            format!("<p class=\"error\" id=\"error\" role=\"alert\">{}</p>\n", Text(error)),
            "error hint",
            " aria-invalid=\"true\" autofocus",
        ),
        None => (String::new(), "hint", ""),
    };
    format!(
        "<input type=\"text\" name=\"username\" value=\"owner\" autocomplete=\"username\" readonly hidden>\n\
         <div class=\"field\">\n<label for=\"password\">Owner password</label>\n{said}\
         <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" required \
         maxlength=\"1024\" aria-describedby=\"{described}\"{state}>\n\
         <p class=\"hint\" id=\"hint\">The OWNER_PASSWORD of this server. No app gets to see it.</p>\n</div>\n"
    )
}

/// A level's name and what it allows, for people.
pub(crate) const fn in_words(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Monitor => (
            "Monitor",
            "See states, logs and numbers of containers, machines, storage and firewall. It changes nothing.",
        ),
        Level::Operate => ("Operate", "Also start, stop and restart containers, virtual machines and services."),
        Level::Configure => (
            "Configure",
            "Also read configurations: compose files, container settings, volumes, networks and datasets.",
        ),
        Level::Manage => (
            "Manage",
            "Also write compose files, run commands in containers, make snapshots and delete machines. Only for an app that you watch.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        let text = Text(r#"<script>alert('x')</script>" onload="y&amp;"#).to_string();
        assert!(!text.contains(['<', '>', '"', '\'']), "{text}");
        assert_eq!(Text("a&b <c>").to_string(), "a&amp;b &lt;c&gt;");
    }

    #[test]
    fn the_style_needs_nothing_from_elsewhere_and_cannot_end_its_element() {
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
        let reply = page(StatusCode::OK, "t", "", &["https://claude.ai"]);
        let policy = reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.ends_with("form-action 'self' https://claude.ai") && !policy.contains("unsafe"), "{policy}");
    }
}
