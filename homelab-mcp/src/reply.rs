//! Shapes of answers: the envelope of every change, pages of lists, the size cap. A result is one JSON object; the same
//! object as compact text goes beside it for clients that do not read structured content.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    target::Target,
    tool::{About, Outcome},
};

/// An answer, ready for the protocol.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The result object; `None` for a read that failed, whose text says why.
    pub(crate) structured: Option<Value>,
    pub(crate) text: String,
    pub(crate) is_error: bool,
    /// For the log: what came of it, and to what it was done.
    pub(crate) outcome: &'static str,
    pub(crate) subject: Option<String>,
}

impl Answer {
    /// A read that failed, or a call that never reached a tool.
    pub(crate) fn error(outcome: &'static str, text: impl Into<String>) -> Self {
        Self { structured: None, text: text.into(), is_error: true, outcome, subject: None }
    }

    /// A result object. `cap` counts characters of one copy; what is over it is an error that says how to ask for less,
    /// because a cut JSON text is no JSON. (Tools page and cut before it comes to that.)
    pub(crate) fn object(about: &About, value: Value, is_error: bool, outcome: &'static str, cap: usize) -> Self {
        let mut value = value;
        if let Value::Object(map) = &mut value {
            mark_untrusted(about, map);
        }
        let text = value.to_string();
        if text.len() > cap && text.chars().count() > cap {
            let text = format!(
                "the result has {} characters, more than MAX_RESULT_CHARS ({cap}). Ask for less: use the filters, `limit` or `fields` of {}.",
                text.chars().count(),
                about.name
            );
            return Self::error("too_large", text);
        }
        Self { structured: Some(value), text, is_error, outcome, subject: None }
    }
}

/// Names the members whose text somebody else wrote, so that a model takes them as data.
fn mark_untrusted(about: &About, map: &mut Map<String, Value>) {
    let present: Vec<_> = about
        .untrusted
        .iter()
        .filter(|path| {
            let first = path.split(['.', '[']).next().unwrap_or_default();
            map.contains_key(first)
        })
        .collect();
    if !present.is_empty() {
        map.insert("untrusted".into(), json!(present));
    }
}

/// What every changing tool answers.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Envelope<T> {
    /// The object is as asked for.
    pub(crate) success: bool,
    /// What happened, for a person.
    pub(crate) message: String,
    pub(crate) outcome: Outcome,
    /// The object, as it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub(crate) target: Option<Target>,
    /// Further objects that the change touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) also: Vec<String>,
    /// For operation_status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<String>,
    /// Code for the second call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confirm: Option<String>,
    /// What would be done, in detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<String>,
    #[serde(flatten)]
    pub(crate) out: T,
}

/// The names that somebody may have meant who wrote `wanted`: "Did you mean jellyfin or jellyfin-db?"
pub(crate) fn did_you_mean<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    /// A list of more is no hint.
    const SHOWN: usize = 3;
    let names: Vec<_> = names.collect();
    let lower = wanted.to_lowercase();
    let mut near: Vec<_> = if lower.is_empty() {
        Vec::new()
    } else {
        names.iter().copied().filter(|name| name.to_lowercase().contains(&lower)).collect()
    };
    near.sort_unstable_by_key(|name| (name.len(), *name));
    for name in similar::get_close_matches(wanted, &names, SHOWN, 0.7) {
        if !near.contains(&name) {
            near.push(name);
        }
    }
    near.dedup();
    near.truncate(SHOWN);
    let near: Vec<_> = near.into_iter().map(|name| format!("`{name}`")).collect();
    (!near.is_empty()).then(|| format!("Did you mean {}?", near.join(" or ")))
}

/// One page of a list. Flattened into each list's result beside its rows.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Page {
    /// Rows that match, on all pages.
    pub(crate) total: usize,
    /// Rows on this page.
    pub(crate) returned: usize,
    /// For the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
    /// How to narrow, when this is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Cuts a page out of `rows`: at most `limit`, and no more than fit `budget` characters as JSON.
pub(crate) fn page<T: Serialize>(
    rows: Vec<T>,
    limit: Option<u32>,
    cursor: Option<&str>,
    budget: usize,
    narrow: &str,
) -> Result<(Vec<T>, Page), String> {
    let total = rows.len();
    let start = match cursor {
        None => 0,
        Some(cursor) => read_cursor(cursor)
            .filter(|start| *start <= total)
            .ok_or("argument `cursor` is none that this server gave; leave it out to begin at the first page")?,
    };
    let mut size = 0;
    let mut kept = Vec::new();
    for row in rows.into_iter().skip(start).take(limit.unwrap_or(u32::MAX) as usize) {
        size += serde_json::to_string(&row).map_or(0, |text| text.chars().count() + 1);
        if size > budget && !kept.is_empty() {
            break;
        }
        kept.push(row);
    }
    let end = start + kept.len();
    let more = end < total;
    let page = Page {
        total,
        returned: kept.len(),
        next_cursor: more.then(|| write_cursor(end)),
        hint: more.then(|| format!("{} more; pass next_cursor as `cursor`, or narrow with {narrow}", total - end)),
    };
    Ok((kept, page))
}

/// `1 container`, `2 containers`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// How many characters of rows fit a result, leaving room for what stands around them.
pub(crate) fn row_budget(cap: usize) -> usize {
    cap - cap / 20 - 500
}

fn write_cursor(start: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("row {start}"))
}

fn read_cursor(cursor: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("row ")?.parse().ok()
}

/// The newest lines of `text` within `budget` characters, cut at a line boundary (inside a line only if that one line is
/// too long), and how many characters were left out.
pub(crate) fn newest(text: &str, budget: usize) -> (&str, usize) {
    let total = text.chars().count();
    if total <= budget {
        return (text, 0);
    }
    let cut = text.char_indices().rev().nth(budget.saturating_sub(1)).map_or(0, |(at, _)| at);
    let tail = &text[cut..];
    let whole_line = cut == 0 || text.as_bytes()[cut - 1] == b'\n';
    let tail = match tail.find('\n') {
        Some(end) if !whole_line && end + 1 < tail.len() => &tail[end + 1..],
        _ => tail,
    };
    (tail, total - tail.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_every_row_once() {
        let rows: Vec<_> = (0..503).map(|n| format!("row number {n}")).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let (kept, page) = page(rows.clone(), Some(50), cursor.as_deref(), 700, "`name`").unwrap();
            assert!(page.total == 503 && page.returned == kept.len() && kept.len() <= 50 && !kept.is_empty());
            seen.extend(kept);
            let Some(next) = page.next_cursor else { break };
            assert!(page.hint.unwrap().contains("`name`"));
            cursor = Some(next);
        }
        assert_eq!(seen, rows);
        for bad in ["", "x", "cm93IDk5OTk", "50"] {
            assert!(page(rows.clone(), None, Some(bad), 700, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn near_names_are_offered() {
        let names = ["jellyfin", "jellyfin-db", "immich-server", "immich-ml", "immich-db", "immich", "web"];
        let meant = |wanted| did_you_mean(wanted, names.into_iter());
        assert_eq!(meant("jelyfin").unwrap(), "Did you mean `jellyfin` or `jellyfin-db`?");
        assert_eq!(meant("JELLY").unwrap(), "Did you mean `jellyfin` or `jellyfin-db`?");
        assert_eq!(meant("immich").unwrap().matches('`').count(), 6);
        assert_eq!((meant("nextcloud"), meant("")), (None, None));
    }

    #[test]
    fn the_newest_lines_are_kept_at_a_line_boundary() {
        assert_eq!(newest("a\nb\nc", 100), ("a\nb\nc", 0));
        assert_eq!(newest("first\nsecond\nthird\n", 8), ("third\n", 13));
        assert_eq!(newest("first\nsecond\n", 7), ("second\n", 6));
        assert_eq!(newest("ääääää", 3), ("äää", 3));
        let text = "ä\nöö\nüüü\n".repeat(50);
        for budget in 1..text.chars().count() {
            let (tail, left_out) = newest(&text, budget);
            assert_eq!(tail.chars().count() + left_out, text.chars().count());
            assert!(tail.chars().count() <= budget && text.ends_with(tail));
        }
    }
}
