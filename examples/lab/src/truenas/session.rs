//! One caller: a WebSocket connection, or one REST request.

use std::time::Duration;

use serde_json::{Value, json};

use super::profile::Pin;

/// Who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) key: String,
}

/// A caller's state.
#[derive(Debug)]
pub(crate) struct Session {
    /// Serial number.
    pub(crate) number: u64,
    pub(crate) pin: Pin,
    /// Whether keys travel unprotected.
    pub(crate) plain: bool,
    pub(crate) login: Option<Login>,
    /// Identifiers and collections.
    pub(crate) subscriptions: Vec<(String, String)>,
    /// `core.set_options`.
    pub(crate) options: Value,
    /// How much later than usual the answer of the call just made is due.
    pub(crate) hold: Duration,
}

impl Session {
    pub(crate) fn new(number: u64, pin: Pin, plain: bool) -> Self {
        Self {
            number,
            pin,
            plain,
            login: None,
            subscriptions: Vec::new(),
            options: json!({"legacy_jobs": true, "private_methods": false, "py_exceptions": false}),
            hold: Duration::ZERO,
        }
    }
}
