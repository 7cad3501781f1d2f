//! Alerts are HTML, with names in them that somebody else chose. Here they become lines of text.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::http::text::{entities, is_unseen};

/// Of one alert.
const LONGEST: usize = 1500;

/// HTML as text: breaks and list items begin lines, every other tag goes.
pub(super) fn plain(html: &str) -> String {
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)<(br|/?p|/?div|/?ul|/?ol|/?h[1-6]|/?tr)\b[^<>]*>|\r?\n").unwrap());
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static ITEM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)<li\b[^<>]*>").unwrap());
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"</?[A-Za-z!][^<>]*>").unwrap());
    let text = LINE.replace_all(html, "\n");
    let text = ITEM.replace_all(&text, "\n- ");
    let text = TAG.replace_all(&text, "");
    let text = entities(&text);
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let words: Vec<_> =
            line.split(|c: char| c.is_whitespace() || is_unseen(c)).filter(|word| !word.is_empty()).collect();
        if !words.is_empty() {
            lines.push(words.join(" "));
        }
    }
    let mut text = lines.join("\n");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An alert that was not formatted: Python's template `%(name)s` with its arguments.
pub(super) fn filled(template: &str, args: &Value) -> String {
    #[expect(clippy::unwrap_used, reason = "constant patterns, compiled in a test")]
    static FIELD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"%\((\w+)\)[-#0 +.\d]*[a-zA-Z]").unwrap());
    let filled = FIELD.replace_all(template, |found: &Captures<'_>| match &args[&found[1]] {
        Value::Null => found[0].to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    plain(&filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn html_becomes_lines() {
        for (html, text) in [
            (
                "Pool flash state is DEGRADED: one device.<br>The following devices are not healthy:<ul><li>Disk WD <b>SN</b> is \
                 UNAVAIL</li><li>Disk X</li></ul>",
                "Pool flash state is DEGRADED: one device.\nThe following devices are not healthy:\n- Disk WD SN is UNAVAIL\n- \
                 Disk X",
            ),
            ("See the <a href=\"https://x.lan\" target=\"_blank\">documentation</a>.", "See the documentation."),
            ("a < b &amp;lt; &quot;c&#x27;", "a < b &lt; \"c'"),
            ("5 > 3 and 2 <3", "5 > 3 and 2 <3"),
            ("<script>x</script>\u{1b}[0m", "x [0m"),
            ("disk\u{202e}\u{e0049} failed", "disk failed"),
            ("", ""),
        ] {
            assert_eq!(plain(html), text, "{html}");
        }
        assert_eq!(plain(&"ä".repeat(5000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_template_takes_its_arguments() {
        let args = json!({"volume": "tank", "days": 5});
        assert_eq!(filled("Pool %(volume)s: %(days)d days, %(gone)r %d", &args), "Pool tank: 5 days, %(gone)r %d");
        assert_eq!(filled("Scrub of pool %r finished.", &json!("tank")), "Scrub of pool %r finished.");
    }
}
