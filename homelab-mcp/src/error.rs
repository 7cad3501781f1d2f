//! What goes wrong, worded once. A [`Fault`] is what a backend did (kind and cause); a [`ToolError`] adds what only
//! the tool knows (what it was doing, to what) and, from the kind, what to do next. Tool errors are read by a model,
//! so each is one or two sentences that stand alone.

use std::fmt;

/// What kind of failure it was. The kind decides the advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The backend is not configured here, or a program it needs is missing.
    NotConfigured,
    /// Nobody answered: no socket, refused, no route.
    Unreachable,
    /// The backend answered that we may not.
    Forbidden,
    /// There is no such object.
    NotFound,
    /// The backend refused because of the object's state.
    Conflict,
    /// What the caller gave cannot be right.
    Invalid,
    /// No answer in time. For a change: it may have happened.
    TimedOut,
    /// The backend failed by its own words.
    Upstream,
    /// The backend answered something that is not an answer.
    Malformed,
}

/// A failure as a backend's client sees it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct Fault {
    /// What kind it was.
    pub(crate) kind: Kind,
    /// The backend's own words, or ours, without a full stop.
    pub(crate) cause: String,
    /// Advice that is better than the kind's.
    pub(crate) hint: Option<String>,
}

impl Fault {
    /// A fault without advice of its own.
    pub(crate) fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, cause: one_line(&cause.into()), hint: None }
    }

    /// Advice in place of the kind's: a sentence, with its full stop.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The cause with its advice, for `--check`.
    pub(crate) fn with_advice(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}. {hint}", self.cause),
            None => self.cause.clone(),
        }
    }

    /// The change was made, but what came of it could not be read back: not a failure of the change.
    pub(crate) fn read_back(self) -> Self {
        Self {
            kind: Kind::TimedOut,
            cause: format!("it was done, but the state could not be read back ({})", self.cause),
            ..self
        }
    }

    /// Adds what the tool was doing, for example `restart container web`, and on which backend.
    pub(crate) fn doing(self, action: impl Into<String>, place: impl Into<String>) -> ToolError {
        ToolError { action: one_line(&action.into()), place: place.into(), fault: self }
    }
}

/// A failed tool call: what failed, where, why, and what to do next.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) struct ToolError {
    /// The verb and its object: "restart container web".
    pub(crate) action: String,
    /// Which backend: "docker (unix:///var/run/docker.sock)".
    pub(crate) place: String,
    /// What happened.
    pub(crate) fault: Fault,
}

impl ToolError {
    /// The caller's arguments cannot be right; nothing was asked of any backend.
    pub(crate) fn invalid(action: impl Into<String>, cause: impl Into<String>) -> Self {
        Fault::new(Kind::Invalid, cause).doing(action, "")
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.action)?;
        if !self.place.is_empty() {
            write!(f, " on {}", self.place)?;
        }
        let cause = self.fault.cause.trim_end_matches('.');
        let end = if cause.ends_with(['?', '!', '…']) { "" } else { "." };
        write!(f, ": {cause}{end}")?;
        let hint = self.fault.hint.as_deref().unwrap_or(match self.fault.kind {
            Kind::NotConfigured | Kind::Upstream | Kind::Conflict | Kind::Forbidden => "",
            Kind::Unreachable => "Other backends are not affected.",
            Kind::NotFound => "List the objects for valid names.",
            Kind::Invalid => "Correct the argument and call again.",
            Kind::TimedOut => "It may have happened: read the state before trying again.",
            Kind::Malformed => "This may be a version that is not known here; please report it.",
        });
        if hint.is_empty() { Ok(()) } else { write!(f, " {hint}") }
    }
}

/// Foreign text in one line of bounded length: an HTML page or a traceback must not become the answer.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for word in text.split_whitespace() {
        if line.len() + word.len() >= LONGEST {
            line.push_str(" …");
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_why_and_what_next() {
        let error = Fault::new(Kind::NotFound, "no such container")
            .hint("Call docker_list_containers for valid names.")
            .doing("restart container `web`", "docker (unix:///var/run/docker.sock)");
        assert_eq!(
            error.to_string(),
            "could not restart container `web` on docker (unix:///var/run/docker.sock): no such container. \
             Call docker_list_containers for valid names."
        );
    }

    #[test]
    fn foreign_text_is_one_bounded_line() {
        let fault = Fault::new(Kind::Upstream, "a\nb\t c ".to_owned() + &"x ".repeat(5000));
        assert!(fault.cause.starts_with("a b c x x") && fault.cause.len() < 700);
    }
}
