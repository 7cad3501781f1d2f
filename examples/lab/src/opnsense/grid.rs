//! Posted parameters and the vendor's way to page, sort and search a list.

use crate::Request;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// Rows of a list.
pub(super) type Row = Map<String, Value>;

/// The posted parameters, or `None` for the 400 "Invalid JSON syntax": a JSON content type with an empty body or `0`,
/// whatever the method. Broken JSON is no parameters.
pub(super) fn parameters(request: &Request) -> Option<Row> {
    let kind = request.header("content-type").unwrap_or_default().replace(' ', "").to_ascii_lowercase();
    match kind.as_str() {
        "application/json" | "application/json;charset=utf-8" => match request.body.as_slice() {
            b"" | b"0" => None,
            body => Some(match serde_json::from_slice(body) {
                Ok(Value::Object(parameters)) => parameters,
                _ => Row::new(),
            }),
        },
        kind if kind.starts_with("application/x-www-form-urlencoded") && request.method == "POST" => {
            Some(form(&String::from_utf8_lossy(&request.body)))
        }
        _ => Some(Row::new()),
    }
}

/// `a=1&b[c]=d`; one level of brackets is all that a grid uses.
fn form(body: &str) -> Row {
    let mut row = Row::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name), unescape(value));
        match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((outer, inner)) => {
                let entry = row.entry(outer).or_insert_with(|| json!({}));
                if let Value::Object(map) = entry {
                    map.insert(inner.to_owned(), value.into());
                }
            }
            None => {
                row.insert(name, value.into());
            }
        }
    }
    row
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = rest.clone().take(2).map(char::from).collect::<String>();
        match (byte, u8::from_str_radix(&hex, 16)) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Ok(decoded)) if hex.len() == 2 => {
                bytes.push(decoded);
                rest.nth(1);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One page of `rows`, as `{total, rowCount, current, rows}`.
pub(super) fn search(mut rows: Vec<Row>, parameters: &Row) -> Value {
    let all = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let size = match integer(parameters.get("rowCount"), 9999) {
        -1 => all,
        size => size,
    };
    let current = integer(parameters.get("current"), 1);
    sort(&mut rows, parameters.get("sort"));
    let phrase = match parameters.get("searchPhrase") {
        None | Some(Value::Null) => String::new(),
        Some(value) => words(value),
    };
    let clauses: Vec<String> = phrase.split_whitespace().map(str::to_lowercase).collect();
    rows.retain(|row| clauses.iter().all(|clause| row.values().any(|v| words(v).to_lowercase().contains(clause))));
    let total = rows.len();
    let page = slice(rows, current.saturating_sub(1).saturating_mul(size), size);
    json!({ "total": total, "rowCount": page.len(), "current": current, "rows": page })
}

/// Sanitised to digits and signs, then as much of it as is a number: 2.7 is 27, a word is 0.
fn integer(value: Option<&Value>, default: i64) -> i64 {
    let value = match value {
        None | Some(Value::Null) => return default,
        Some(Value::Array(_) | Value::Object(_)) => return 0,
        Some(value) => words(value),
    };
    let kept: String = value.chars().filter(|c| c.is_ascii_digit() || "+-".contains(*c)).collect();
    let sign = usize::from(kept.starts_with(['+', '-']));
    let end = kept[sign..].find(|c: char| !c.is_ascii_digit()).map_or(kept.len(), |at| sign + at);
    kept[..end].parse().unwrap_or(0)
}

/// A value as PHP makes a string of it.
fn words(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "1".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => "Array".into(),
    }
}

fn sort(rows: &mut [Row], order: Option<&Value>) {
    let first = match order {
        Some(Value::Object(map)) => map.iter().next().map(|(key, way)| (key.clone(), way == "asc")),
        Some(Value::Array(list)) => list.first().map(|way| ("0".to_owned(), way == "asc")),
        _ => None,
    };
    let Some((key, ascending)) = first else { return };
    // A key that no row has appears in every row afterwards.
    for row in rows.iter_mut() {
        row.entry(&*key).or_insert(Value::Null);
    }
    rows.sort_by(|a, b| {
        let by_key = natural(&words(&a[&key]), &words(&b[&key]));
        let by_key = if ascending { by_key } else { by_key.reverse() };
        by_key.then_with(|| words(a.get("id").unwrap_or(&Value::Null)).cmp(&words(b.get("id").unwrap_or(&Value::Null))))
    });
}

/// Natural order without case: `wg2` before `wg10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let (mut a, mut b) = (a.as_str(), b.as_str());
    loop {
        let (x, y) = match (a.chars().next(), b.chars().next()) {
            (Some(x), Some(y)) => (x, y),
            (x, y) => return x.cmp(&y),
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (digits(a), digits(b));
            let (p, q) = (m.trim_start_matches('0'), n.trim_start_matches('0'));
            let order = p.len().cmp(&q.len()).then_with(|| p.cmp(q));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[m.len()..], &b[n.len()..]);
        } else if x == y {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        } else {
            return x.cmp(&y);
        }
    }
}

fn digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

/// PHP's `array_slice`, negative numbers and all: page 0 is the last rows.
fn slice<T>(rows: Vec<T>, offset: i64, length: i64) -> Vec<T> {
    let n = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 { n.saturating_add(offset).max(0) } else { offset.min(n) };
    let end = if length < 0 { n.saturating_add(length) } else { start.saturating_add(length).min(n) };
    let keep = usize::try_from(end - start).unwrap_or(0);
    rows.into_iter().skip(usize::try_from(start).unwrap_or(usize::MAX)).take(keep).collect()
}
