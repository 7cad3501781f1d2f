//! What an appliance said, fit to be told: its message without tags, tracebacks and source lines, in bounded length.
//! And the other way round: what goes into a URL.

use std::{borrow::Cow, fmt::Write as _, sync::LazyLock};

use regex::Regex;

/// Of one message of a vendor's.
const LONGEST: usize = 300;

/// Of what is looked at for a message: an answer may be a page of megabytes, and its beginning says what it is.
const LOOKED_AT: usize = 64 << 10;

/// A vendor's message as one line of at most 300 characters. An HTML page becomes its words; what follows the start of
/// a traceback is dropped, and so are the file and line that Perl and PHP put behind or before a message.
pub(crate) fn vendor_text(text: &str) -> String {
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static UNSEEN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?is)<(script|style|head)\b.*?</(script|style|head)\s*>|<!--.*?-->").unwrap());
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)</?[A-Za-z!?][^<>]*>").unwrap());
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static SOURCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)(^\s*|\s*(\bat|\bin|in file) "?)/[^\s"]+\.(pm|pl|php|py)"?(,? line |:)\d+\b[.:]?"#).unwrap()
    });

    let text = &text[..text.floor_char_boundary(LOOKED_AT)];
    let text = ["Traceback (most recent call last)", "Stack trace:", "#0 /"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .map_or(text, |at| &text[..at]);
    // Only what looks like markup is treated as markup: `a < b` and `&x` are words.
    let text = if TAG.is_match(text) {
        let seen = UNSEEN.replace_all(text, " ");
        Cow::Owned(TAG.replace_all(&seen, " ").into_owned())
    } else {
        Cow::Borrowed(text)
    };
    let text = SOURCE.replace_all(&text, "");
    let text = entities(&text);
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || is_unseen(c)).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        let kept = line.char_indices().nth(LONGEST - 1).map_or(end, |(at, _)| at);
        line.truncate(kept);
        line.push('…');
    }
    line
}

/// Control characters, and what is not shown or turns round what is: text that a person would not see must not reach a
/// model either.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// The entities that the vendors' pages and escaped messages use.
pub(crate) fn entities(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let replaced = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#039;", "'")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&nbsp;", " ");
    // Last, so that an escaped escape is taken off once.
    replaced.replace("&amp;", "&")
}

/// A path segment or query value, percent-encoded: only RFC 3986's unreserved characters pass. A server may decode
/// before it routes, so this does not replace the check of what goes in.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_without_its_wrapping() {
        for (given, told) in [
            ("VM is locked (backup)\n", "VM is locked (backup)"),
            ("a < b & c > d", "a < b & c > d"),
            ("no such storage 'x' at /usr/share/perl5/PVE/Storage.pm line 411.\n", "no such storage 'x'"),
            ("/usr/local/opnsense/mvc/app/x.php:71: offset on null", "offset on null"),
            ("boom in /usr/local/opnsense/mvc/app/x.php:12\nStack trace:\n#0 /usr", "boom"),
            (
                "[EFAULT] broken\nTraceback (most recent call last):\n  File \"/x.py\", line 3\nkey='secret'",
                "[EFAULT] broken",
            ),
            (
                "<html><head><title>502</title><style>b{}</style></head><body><h1>502 Bad&nbsp;Gateway</h1><hr>nginx</body></html>",
                "502 Bad Gateway nginx",
            ),
            ("<?xml version=\"1.0\"?><html><h1>411 Length Required</h1></html>", "411 Length Required"),
            ("&lt;b&gt; &amp;lt; &quot;x&#039;", "<b> &lt; \"x'"),
            ("a\u{1b}[31m\u{0}b", "a [31m b"),
            ("safe\u{202e}lived\u{2069}\u{e0041}\u{e0042} end", "safe lived end"),
            ("<p>Pool <b>tank</b> is <br>DEGRADED</p>", "Pool tank is DEGRADED"),
        ] {
            assert_eq!(vendor_text(given), told, "{given}");
        }
        // Cut within a letter of two bytes.
        let page = format!("<p>{}{}", "ä ".repeat(LOOKED_AT), "</p>never");
        assert!(
            vendor_text(&page).starts_with("ä ä")
                && !vendor_text(&format!("{} end", " ".repeat(LOOKED_AT))).contains("end")
        );
        let long = vendor_text(&"ä".repeat(5000));
        assert!(long.chars().count() == 300 && long.ends_with('…'));
    }

    #[test]
    fn what_goes_into_a_url_cannot_leave_its_place() {
        assert_eq!(encode("tank/a b@x%2f../?#ä"), "tank%2Fa%20b%40x%252f..%2F%3F%23%C3%A4");
        assert_eq!(encode("UPID:pve:0:root@pam!x:"), "UPID%3Apve%3A0%3Aroot%40pam%21x%3A");
    }
}
