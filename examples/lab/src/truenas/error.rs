//! How the middleware words a failure: as a JSON-RPC error and as a REST answer.

use serde_json::{Value, json};

use super::profile::Profile;
use crate::message::Reply;

/// EINVAL, the number every failure without a better one gets.
pub(crate) const EINVAL: i32 = 22;
/// EEXIST.
pub(crate) const EEXIST: i32 = 17;
/// ENOENT.
pub(crate) const ENOENT: i32 = 2;
/// EACCES.
pub(crate) const EACCES: i32 = 13;
/// EFAULT, "something went wrong below".
pub(crate) const EFAULT: i32 = 14;
/// EBUSY, the rate limit.
pub(crate) const EBUSY: i32 = 16;
/// EOPNOTSUPP.
pub(crate) const EOPNOTSUPP: i32 = 95;
/// The middleware's own number for an unknown method.
pub(crate) const ENOMETHOD: i32 = 201;
/// The middleware's own number for an anonymous session.
pub(crate) const ENOTAUTHENTICATED: i32 = 207;

/// One entry of `extra`: which argument, what about it, and the real error number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Path of the argument; `None` for a missing instance.
    pub attribute: Option<String>,
    /// The sentence.
    pub message: String,
    /// Error number.
    pub errno: i32,
}

impl Issue {
    /// An EINVAL issue.
    pub(crate) fn new(attribute: impl Into<String>, message: impl Into<String>) -> Self {
        Self { attribute: Some(attribute.into()), message: message.into(), errno: EINVAL }
    }

    /// As Python prints it; EINVAL is the default, and shown only where the class fills it in.
    fn repr(&self, filled_in: bool) -> String {
        let [attribute, message] = [json!(self.attribute), json!(self.message)].map(|value| python(&value));
        if filled_in || self.errno != EINVAL {
            format!("ValidationError({attribute}, {message}, {})", self.errno)
        } else {
            format!("ValidationError({attribute}, {message})")
        }
    }
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcError {
    /// -32601.
    NoSuchMethod,
    /// -32602 with all that is wrong with the arguments (`ValidationErrors`).
    Invalid(Vec<Issue>),
    /// -32602 from one check in a method's body (`ValidationError`, `InstanceNotFound`).
    Refused {
        /// The Python class.
        class: &'static str,
        /// What is wrong.
        issue: Issue,
    },
    /// -32001 raised on purpose, with its error number.
    Call {
        /// The Python class.
        class: &'static str,
        /// Error number.
        errno: i32,
        /// The sentence, without the `[NAME] ` prefix.
        message: String,
    },
    /// -32001 of any other Python exception: EINVAL, and the sentence without a prefix.
    Exception {
        /// The Python class.
        class: &'static str,
        /// `str()` of it.
        message: String,
    },
}

/// What the traceback of a failure can see.
pub(crate) struct Frame<'a> {
    /// The method that was called.
    pub(crate) method: &'a str,
    /// Its arguments.
    pub(crate) params: &'a [Value],
    /// The key of the session, if any: an ordinary local variable some frames up.
    pub(crate) key: Option<&'a str>,
}

impl RpcError {
    /// A `CallError`.
    pub(crate) fn call(errno: i32, message: impl Into<String>) -> Self {
        Self::Call { class: "CallError", errno, message: message.into() }
    }

    /// An `InstanceNotFound`.
    pub(crate) fn no_instance(message: impl Into<String>) -> Self {
        let issue = Issue { attribute: None, message: message.into(), errno: ENOENT };
        Self::Refused { class: "InstanceNotFound", issue }
    }

    /// A `ValidationErrors` with one entry.
    pub(crate) fn invalid(attribute: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Issue::new(attribute, message)])
    }

    /// `{"get": true}` without a row.
    pub(crate) fn match_not_found() -> Self {
        Self::Exception { class: "MatchNotFound", message: "MatchNotFound()".to_owned() }
    }

    /// A Python `TypeError`.
    pub(crate) fn type_error(message: impl Into<String>) -> Self {
        Self::Exception { class: "TypeError", message: message.into() }
    }

    /// The `error` member of a JSON-RPC answer.
    pub(crate) fn to_json(&self, profile: Profile, frame: &Frame<'_>) -> Value {
        let (code, text, errno, reason, class, extra) = match self {
            Self::NoSuchMethod => return json!({"code": -32601, "message": "Method does not exist"}),
            Self::Invalid(issues) => {
                let reason = issues.iter().map(|issue| line(issue) + "\n").collect::<String>();
                (-32602, "Invalid params", EINVAL, reason, "ValidationErrors", extra(issues))
            }
            Self::Refused { class, issue } => {
                (-32602, "Invalid params", EINVAL, line(issue), *class, extra(std::slice::from_ref(issue)))
            }
            Self::Call { class, errno, message } => {
                let reason = format!("[{}] {message}", errname(*errno));
                (-32001, "Method call error", *errno, reason, *class, Value::Null)
            }
            Self::Exception { class, message } => {
                (-32001, "Method call error", EINVAL, message.clone(), *class, Value::Null)
            }
        };
        let trace = self.trace(profile, class, &reason, frame);
        json!({
            "code": code,
            "message": text,
            "data": {"error": errno, "errname": errname(errno), "reason": reason, "trace": trace, "extra": extra},
        })
    }

    fn trace(&self, profile: Profile, class: &str, reason: &str, frame: &Frame<'_>) -> Value {
        let method = frame.method;
        let formatted = format!(
            "Traceback (most recent call last):\n  File \"/usr/lib/python3/dist-packages/middlewared/api/base/server/\
             ws_handler/rpc.py\", line 334, in process_method_call\n    result = await method.call(app, id_, params)\n\
             middlewared.service_exception.{class}: {reason}\n"
        );
        let mut trace = json!({"class": class});
        if profile.leaks_locals() {
            let locals = json!({
                "method": format!("<Method object {method}>"),
                "params": python(&Value::Array(frame.params.to_vec())),
                "authenticated_credentials": match frame.key {
                    Some(key) => format!("{{'credentials': 'API_KEY', 'api_key': '{key}'}}"),
                    None => "None".to_owned(),
                },
                "errno_": EINVAL.to_string(),
            });
            trace["frames"] = json!([{
                "filename": "/usr/lib/python3/dist-packages/middlewared/api/base/server/ws_handler/rpc.py",
                "lineno": 334,
                "method": "process_method_call",
                "line": "                result = await method.call(app, id_, params)\n",
                "argspec": ["self", "app", "id_", "method", "params"],
                "locals": locals,
            }]);
        }
        trace["formatted"] = Value::from(formatted);
        trace["repr"] = Value::from(self.repr());
        trace
    }

    /// The Python exception as Python prints it.
    fn repr(&self) -> String {
        let quoted = |text: &str| python(&Value::from(text));
        match self {
            Self::NoSuchMethod => String::new(),
            Self::Invalid(issues) => {
                let issues: Vec<String> = issues.iter().map(|issue| issue.repr(true)).collect();
                format!("ValidationErrors([{}])", issues.join(", "))
            }
            Self::Refused { class, issue: Issue { attribute: None, message, .. } } => {
                format!("{class}({})", quoted(message))
            }
            Self::Refused { issue, .. } => issue.repr(false),
            // Made of the two names in its sentence.
            Self::Call { class, errno: ENOMETHOD, message } => {
                let names: Vec<&str> = message.split('\'').skip(1).step_by(2).collect();
                format!("{class}({})", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
            }
            Self::Call { class, errno, message } => format!("{class}({}, {errno})", quoted(message)),
            Self::Exception { class: "MatchNotFound", message } => message.clone(),
            Self::Exception { class, message } => format!("{class}({})", quoted(message)),
        }
    }

    /// The same failure over REST v2.0.
    pub(crate) fn to_reply(&self) -> Reply {
        let body = match self {
            Self::NoSuchMethod => return text(404, "404: Not Found"),
            Self::Invalid(issues) => return issues_reply(issues),
            Self::Refused { issue, .. } => return issues_reply(std::slice::from_ref(issue)),
            Self::Call { errno: EACCES, .. } => return Reply::empty(403),
            Self::Call { errno, message, .. } => return pretty(422, &json!({"message": message, "errno": errno})),
            Self::Exception { class: "MatchNotFound", .. } => return pretty(404, &json!({"message": ""})),
            Self::Exception { message, class } => json!({
                "message": message,
                "traceback": format!("Traceback (most recent call last):\n  …\n{class}: {message}\n"),
            }),
        };
        pretty(500, &body)
    }
}

fn issues_reply(issues: &[Issue]) -> Reply {
    let mut body = serde_json::Map::new();
    for issue in issues {
        let key = issue.attribute.clone().unwrap_or_else(|| "null".to_owned());
        let entry = json!({"message": issue.message, "errno": issue.errno});
        if let Value::Array(entries) = body.entry(key).or_insert_with(|| json!([])) {
            entries.push(entry);
        }
    }
    pretty(422, &Value::Object(body))
}

/// JSON with one space of indentation, as REST v2.0 sends it.
pub(crate) fn pretty(status: u16, body: &Value) -> Reply {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let mut writer =
        serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b" "));
    // Writing a Value into a Vec has no way to fail.
    let _ = body.serialize(&mut writer);
    Reply::text(status, "application/json; charset=utf-8", bytes)
}

/// The plain text answers of aiohttp.
pub(crate) fn text(status: u16, body: &str) -> Reply {
    Reply::text(status, "text/plain; charset=utf-8", body)
}

fn line(issue: &Issue) -> String {
    let attribute = issue.attribute.as_deref().unwrap_or("None");
    format!("[{}] {attribute}: {}", errname(issue.errno), issue.message)
}

fn extra(issues: &[Issue]) -> Value {
    issues.iter().map(|issue| json!([issue.attribute, issue.message, issue.errno])).collect()
}

fn errname(errno: i32) -> &'static str {
    match errno {
        ENOENT => "ENOENT",
        EACCES => "EACCES",
        EFAULT => "EFAULT",
        EBUSY => "EBUSY",
        EEXIST => "EEXIST",
        EOPNOTSUPP => "EOPNOTSUPP",
        ENOMETHOD => "ENOMETHOD",
        ENOTAUTHENTICATED => "ENOTAUTHENTICATED",
        _ => "EINVAL",
    }
}

/// A JSON value as Python prints it.
pub(crate) fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\'') && !text.contains('"') => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('\n', "\\n"))
        }
        Value::String(text) => {
            format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let items = map.iter().map(|(key, value)| format!("'{key}': {}", python(value)));
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
    }
}
