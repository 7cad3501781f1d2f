//! How errors look: which status, and where the text is.

use super::profile::Profile;
use crate::{Reply, Request};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A request that is not carried out.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: u16,
    text: String,
    form: Form,
    delay: Duration,
}

#[derive(Clone, Debug)]
enum Form {
    /// `{"data":null}` with `message` where the version has it, and `errors` by parameter.
    Json { errors: Vec<(String, String)>, newline: bool },
    /// The text again as the body.
    Plain,
    /// Neither a body nor its length: only the reason phrase says what it is.
    Bare,
}

impl Refusal {
    /// 500: what a handler dies with.
    pub(crate) fn dies(text: impl Into<String>) -> Self {
        Self::json(500, text.into(), Vec::new())
    }

    /// 400: a parameter.
    pub(crate) fn parameters(errors: Vec<(String, String)>) -> Self {
        Self::json(400, "Parameter verification failed.".into(), errors)
    }

    pub(crate) fn parameter(name: &str, text: impl Into<String>) -> Self {
        Self::parameters(vec![(name.to_owned(), text.into())])
    }

    /// 403, naming the path and what is missing there.
    pub(crate) fn permission(path: &str, privileges: &[&str]) -> Self {
        Self::json(403, format!("Permission check failed ({path}, {})", privileges.join("|")), Vec::new())
    }

    /// 501: no such path or method. Its message has no line end.
    pub(crate) fn not_implemented(method: &str, path: &str) -> Self {
        let text = format!("Method '{method} {path}' not implemented");
        Self { status: 501, text, form: Form::Json { errors: Vec::new(), newline: false }, delay: Duration::ZERO }
    }

    pub(crate) fn plain(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), form: Form::Plain, delay: Duration::ZERO }
    }

    pub(crate) fn bare(status: u16, reason: impl Into<String>) -> Self {
        Self { status, text: reason.into(), form: Form::Bare, delay: Duration::ZERO }
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    fn json(status: u16, text: String, errors: Vec<(String, String)>) -> Self {
        Self { status, text, form: Form::Json { errors, newline: true }, delay: Duration::ZERO }
    }

    /// Every error ends the connection.
    pub(crate) fn reply(&self, profile: Profile) -> Reply {
        let mut reply = match &self.form {
            Form::Json { errors, newline } => {
                let mut body = Map::from_iter([("data".to_owned(), Value::Null)]);
                if profile.says_it_in_the_body() {
                    let end = if *newline { "\n" } else { "" };
                    body.insert("message".into(), json!(format!("{}{end}", self.text)));
                }
                if !errors.is_empty() {
                    let errors = errors.iter().map(|(name, text)| (name.clone(), json!(text)));
                    body.insert("errors".into(), Value::Object(errors.collect()));
                }
                let mut reply = super::dress(Reply::empty(self.status), &["close"]);
                reply.headers.push(("Content-Type".into(), super::JSON.into()));
                reply.body = Value::Object(body).to_string().into_bytes();
                reply
            }
            Form::Plain => {
                let mut reply = super::dress(Reply::empty(self.status), &["close"]);
                reply.body = self.text.clone().into_bytes();
                reply
            }
            Form::Bare => {
                let mut reply = super::dress(Reply::empty(self.status), &["close"]);
                reply.length = false;
                reply
            }
        };
        reply.close = true;
        // A status line has no room for more lines.
        reply.reason(self.text.trim_end().replace('\n', " ")).after(self.delay)
    }

    /// What a fault of this status looks like.
    pub(crate) fn of_status(status: u16, request: &Request) -> Self {
        match status {
            401 => Self::bare(401, "Authentication failed!"),
            403 => Self::permission("/", &["Sys.Audit"]),
            501 => Self::not_implemented(&request.method, request.path()),
            595 => Self::bare(595, "Connection refused"),
            596 => Self::bare(596, "Connection timed out"),
            599 => Self::bare(599, "Unexpected end-of-file"),
            status => Self::json(status, "internal error".into(), Vec::new()),
        }
    }
}
