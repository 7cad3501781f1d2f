//! The filters and options every `X.query` takes, with the vendor's refusals.

use std::cmp::Ordering;

use regex::Regex;
use serde_json::{Map, Value};

use super::error::{Issue, RpcError, python};
use super::profile::Profile;

const OPERATORS: [&str; 15] = ["=", "!=", ">", ">=", "<", "<=", "~", "in", "nin", "rin", "rnin", "^", "!^", "$", "!$"];

/// Checked arguments of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) filters: Vec<Value>,
    pub(crate) select: Vec<Value>,
    pub(crate) order_by: Vec<String>,
    pub(crate) limit: i64,
    pub(crate) offset: usize,
    pub(crate) count: bool,
    pub(crate) get: bool,
    pub(crate) extra: Map<String, Value>,
}

impl Query {
    /// Reads `[filters, options]`.
    pub(crate) fn read(profile: Profile, params: &[Value]) -> Result<Self, RpcError> {
        let models = profile.has_models();
        let (filters_at, options_at) = if models { ("filters", "options") } else { ("query-filters", "query-options") };
        let mut issues = Vec::new();
        let mut query = Self::default();
        match params.first() {
            None => {}
            Some(Value::Array(filters)) => match check_filters(filters) {
                Ok(()) => query.filters.clone_from(filters),
                Err(FilterFault::Worded(text)) => {
                    let text = if models { format!("Value error, {text}") } else { text };
                    issues.push(Issue::new(filters_at, text));
                }
                Err(FilterFault::Python(text)) => return Err(RpcError::type_error(text)),
            },
            Some(_) => issues.push(Issue::new(filters_at, wrong(models, Kind::List))),
        }
        match params.get(1) {
            None => {}
            Some(Value::Object(options)) => query.read_options(options, options_at, models, &mut issues),
            Some(_) => issues.push(Issue::new(options_at, wrong(models, Kind::Object))),
        }
        if params.len() > 2 {
            let text = format!("Too many arguments (expected 2, found {})", params.len());
            return Err(RpcError::invalid("", text));
        }
        if issues.is_empty() { Ok(query) } else { Err(RpcError::Invalid(issues)) }
    }

    fn read_options(&mut self, options: &Map<String, Value>, at: &str, models: bool, issues: &mut Vec<Issue>) {
        for (key, value) in options {
            let kind = match (key.as_str(), value) {
                ("extra", Value::Object(extra)) => {
                    self.extra.clone_from(extra);
                    continue;
                }
                ("select", Value::Array(select)) => {
                    self.select.clone_from(select);
                    continue;
                }
                ("order_by", Value::Array(fields)) => {
                    self.order_by = fields.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                    continue;
                }
                ("count", Value::Bool(on)) => {
                    self.count = *on;
                    continue;
                }
                ("get", Value::Bool(on)) => {
                    self.get = *on;
                    continue;
                }
                ("limit", Value::Number(number)) if number.is_i64() => {
                    self.limit = number.as_i64().unwrap_or(0);
                    continue;
                }
                ("offset", Value::Number(number)) if number.is_u64() => {
                    self.offset = number.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
                    continue;
                }
                ("force_sql_filters", Value::Bool(_)) => continue,
                ("relationships" | "extend" | "extend_context" | "prefix", _) if !models => continue,
                ("extra", _) => Kind::Object,
                ("select" | "order_by", _) => Kind::List,
                ("count" | "get" | "force_sql_filters", _) => Kind::Bool,
                ("limit" | "offset", _) => Kind::Int,
                _ => {
                    issues.push(Issue::new(format!("{at}.{key}"), unexpected(models)));
                    continue;
                }
            };
            issues.push(Issue::new(format!("{at}.{key}"), wrong(models, kind)));
        }
    }

    /// An entry of `extra`, if it is the flag `true`/`false`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.extra.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Filters, orders, cuts and shapes `rows`: what the method returns.
    pub(crate) fn apply(&self, rows: Vec<Value>) -> Result<Value, RpcError> {
        let mut kept = Vec::new();
        for row in rows {
            if all_match(&self.filters, &row)? {
                kept.push(row);
            }
        }
        if self.count {
            return Ok(Value::from(kept.len()));
        }
        for field in self.order_by.iter().rev() {
            order(&mut kept, field)?;
        }
        if self.get {
            return kept.into_iter().next().map(|row| self.shape(row)).ok_or_else(RpcError::match_not_found);
        }
        let mut kept: Vec<Value> = kept.into_iter().skip(self.offset).collect();
        match self.limit {
            0 => {}
            // A Python slice: a negative limit cuts off the end.
            below if below < 0 => {
                kept.truncate(kept.len().saturating_sub(usize::try_from(below.unsigned_abs()).unwrap_or(usize::MAX)));
            }
            limit => kept.truncate(usize::try_from(limit).unwrap_or(usize::MAX)),
        }
        Ok(kept.into_iter().map(|row| self.shape(row)).collect())
    }

    fn shape(&self, row: Value) -> Value {
        if self.select.is_empty() {
            return row;
        }
        let mut shaped = Value::Object(Map::new());
        for field in &self.select {
            match field {
                Value::String(path) => copy_path(&row, path, &mut shaped),
                Value::Array(pair) => {
                    if let [Value::String(path), Value::String(name)] = pair.as_slice()
                        && let Some(value) = look(&row, path)
                    {
                        shaped[name.as_str()] = value.clone();
                    }
                }
                _ => {}
            }
        }
        shaped
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    List,
    Object,
    Bool,
    Int,
    Text,
}

/// The sentence for a value of the wrong type.
pub(crate) fn wrong(models: bool, kind: Kind) -> String {
    let (new, old) = match kind {
        Kind::List => ("list", "Not a list"),
        Kind::Object => ("dictionary", "Not a dict"),
        Kind::Bool => ("boolean", "Not a boolean"),
        Kind::Int => ("integer", "Not an integer"),
        Kind::Text => ("string", "Not a string"),
    };
    if models { format!("Input should be a valid {new}") } else { old.to_owned() }
}

/// The sentence for an unknown key.
pub(crate) fn unexpected(models: bool) -> &'static str {
    if models { "Extra inputs are not permitted" } else { "Field was not expected" }
}

/// The sentence for a missing key.
pub(crate) fn required(models: bool) -> &'static str {
    if models { "Field required" } else { "attribute required" }
}

enum FilterFault {
    Worded(String),
    Python(String),
}

fn check_filters(filters: &[Value]) -> Result<(), FilterFault> {
    for filter in filters {
        let Value::Array(parts) = filter else {
            let text = filter.as_str().map_or_else(|| python(filter), str::to_owned);
            return Err(FilterFault::Worded(format!("Invalid filter {text}")));
        };
        match parts.as_slice() {
            [Value::String(junction), branches] => {
                let Value::Array(branches) = branches else {
                    return Err(FilterFault::Worded(format!("Invalid operation: {junction}")));
                };
                if junction != "OR" && junction != "AND" {
                    return Err(FilterFault::Worded(format!("Invalid operation: {junction}")));
                }
                for branch in branches {
                    // A branch is one filter, or a list of filters that must all match.
                    match branch {
                        Value::Array(inner) if inner.first().is_some_and(Value::is_array) => check_filters(inner)?,
                        single => check_filters(std::slice::from_ref(single))?,
                    }
                }
            }
            [field, operator, _] => {
                if !field.is_string() {
                    return Err(FilterFault::Python("'int' object is not subscriptable".to_owned()));
                }
                if !operator.as_str().is_some_and(|name| OPERATORS.contains(&name)) {
                    let name = operator.as_str().map_or_else(|| python(operator), str::to_owned);
                    return Err(FilterFault::Worded(format!("Invalid operation: {name}")));
                }
            }
            _ => return Err(FilterFault::Worded(format!("Invalid filter {}", python(filter)))),
        }
    }
    Ok(())
}

fn all_match(filters: &[Value], row: &Value) -> Result<bool, RpcError> {
    for filter in filters {
        if !matches(filter, row)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn matches(filter: &Value, row: &Value) -> Result<bool, RpcError> {
    let Value::Array(parts) = filter else { return Ok(false) };
    match parts.as_slice() {
        [Value::String(junction), Value::Array(branches)] => {
            let wanted = junction == "OR";
            for branch in branches {
                let hit = match branch {
                    Value::Array(inner) if inner.first().is_some_and(Value::is_array) => all_match(inner, row)?,
                    single => matches(single, row)?,
                };
                if hit == wanted {
                    return Ok(wanted);
                }
            }
            Ok(!wanted)
        }
        [Value::String(field), Value::String(operator), wanted] => compare(look(row, field), operator, wanted),
        _ => Ok(false),
    }
}

fn compare(found: Option<&Value>, operator: &str, wanted: &Value) -> Result<bool, RpcError> {
    let Some(found) = found else { return Ok(matches!(operator, "!=" | "nin" | "rnin" | "!^" | "!$")) };
    Ok(match operator {
        "=" => same(found, wanted),
        "!=" => !same(found, wanted),
        "in" => wanted.as_array().is_some_and(|list| list.iter().any(|item| same(item, found))),
        "nin" => !wanted.as_array().is_some_and(|list| list.iter().any(|item| same(item, found))),
        "rin" => contains(found, wanted),
        "rnin" => !contains(found, wanted),
        "^" => texts(found, wanted).is_some_and(|(found, start)| found.starts_with(start)),
        "!^" => !texts(found, wanted).is_some_and(|(found, start)| found.starts_with(start)),
        "$" => texts(found, wanted).is_some_and(|(found, end)| found.ends_with(end)),
        "!$" => !texts(found, wanted).is_some_and(|(found, end)| found.ends_with(end)),
        "~" => {
            let (Some(found), Some(pattern)) = (found.as_str(), wanted.as_str()) else {
                return Err(RpcError::type_error("expected string or bytes-like object"));
            };
            // Python's re.match: anchored at the start, open at the end.
            let pattern = Regex::new(&format!("^(?:{pattern})"))
                .map_err(|_| RpcError::Exception { class: "error", message: "bad regular expression".to_owned() })?;
            pattern.is_match(found)
        }
        _ => {
            let ordering = rank(found, wanted).ok_or_else(|| {
                RpcError::type_error(format!(
                    "'{operator}' not supported between instances of '{}' and '{}'",
                    class(found),
                    class(wanted)
                ))
            })?;
            match operator {
                ">" => ordering.is_gt(),
                ">=" => ordering.is_ge(),
                "<" => ordering.is_lt(),
                _ => ordering.is_le(),
            }
        }
    })
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => a == b,
    }
}

fn contains(found: &Value, wanted: &Value) -> bool {
    match found {
        Value::Array(items) => items.iter().any(|item| same(item, wanted)),
        Value::String(text) => wanted.as_str().is_some_and(|part| text.contains(part)),
        _ => false,
    }
}

fn texts<'a>(found: &'a Value, wanted: &'a Value) -> Option<(&'a str, &'a str)> {
    found.as_str().zip(wanted.as_str())
}

fn rank(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Object(a), Value::Object(b)) => rank(a.get("$date")?, b.get("$date")?),
        _ => Some(number(a)?.total_cmp(&number(b)?)),
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|on| f64::from(u8::from(on))))
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(map) if map.contains_key("$date") => "datetime.datetime",
        Value::Object(_) => "dict",
    }
}

fn order(rows: &mut [Value], field: &str) -> Result<(), RpcError> {
    let (nulls, field) = match field.split_once(':') {
        Some(("nulls_first", rest)) => (Some(Ordering::Less), rest),
        Some(("nulls_last", rest)) => (Some(Ordering::Greater), rest),
        _ => (None, field),
    };
    let (field, reverse) = field.strip_prefix('-').map_or((field, false), |field| (field, true));
    let mut fault = None;
    rows.sort_by(|a, b| {
        let (a, b) = (look(a, field).unwrap_or(&Value::Null), look(b, field).unwrap_or(&Value::Null));
        if let Some(place) = nulls {
            match (a.is_null(), b.is_null()) {
                (true, true) => return Ordering::Equal,
                (true, false) => return place,
                (false, true) => return place.reverse(),
                (false, false) => {}
            }
        }
        let ordering = rank(a, b).unwrap_or_else(|| {
            fault.get_or_insert_with(|| {
                format!("'<' not supported between instances of '{}' and '{}'", class(a), class(b))
            });
            Ordering::Equal
        });
        if reverse { ordering.reverse() } else { ordering }
    });
    fault.map_or(Ok(()), |text| Err(RpcError::type_error(text)))
}

/// Follows `a.b.0.c`. Below a null there is only null.
fn look<'a>(row: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = row;
    for step in path.split('.') {
        at = match at {
            Value::Object(map) => map.get(step)?,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            Value::Null => at,
            _ => return None,
        };
    }
    Some(at)
}

/// Copies `a.b.c` with the objects around it; what is missing stays out.
fn copy_path(row: &Value, path: &str, into: &mut Value) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let Some(found) = row.get(step) else { return };
    match rest {
        Some(rest) if found.is_object() => {
            if look(found, rest).is_none() {
                return;
            }
            if !into[step].is_object() {
                into[step] = Value::Object(Map::new());
            }
            copy_path(found, rest, &mut into[step]);
        }
        Some(_) if found.is_null() => into[step] = Value::Null,
        Some(_) => {}
        None => into[step] = found.clone(),
    }
}
