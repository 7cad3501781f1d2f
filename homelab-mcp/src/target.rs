//! An object that a change touches, under every name it has. The gate judges targets, never the caller's words: a
//! container named by three characters of its id is still the protected `traefik`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The instance of a backend that has only one.
pub(crate) const DEFAULT_INSTANCE: &str = "default";

/// One object, found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Target {
    /// Backend: docker, stack, …
    pub(crate) kind: String,
    /// Instance of that backend.
    pub(crate) instance: String,
    /// The name it is known by.
    pub(crate) name: String,
    /// Canonical id.
    pub(crate) id: String,
    /// State when it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// Further names, each with its kind, that protection is judged by.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) aliases: Vec<(&'static str, String)>,
}

impl Target {
    /// An object with its canonical id.
    pub(crate) fn new(kind: &'static str, name: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            instance: DEFAULT_INSTANCE.to_owned(),
            name: name.into(),
            id: id.into(),
            state: None,
            aliases: Vec::new(),
        }
    }

    /// The state it is in now.
    pub(crate) fn state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Another name it goes by, possibly of another kind (a container's stack).
    pub(crate) fn alias(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.aliases.push((kind, name.into()));
        self
    }

    /// Whether it is a stack or part of one.
    pub(crate) fn is_of_a_stack(&self) -> bool {
        self.kind == "stack" || self.aliases.iter().any(|(kind, _)| *kind == "stack")
    }

    /// What brakes, locks and confirmations are bound to.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}/{}", self.kind, self.instance, self.id)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}
