//! How the user of this call can be asked. The two eras differ: up to 2025-11-25 the server sends a request of its own
//! and waits; since 2026-07-28 it answers "input required" and the client calls again with what its user said.

use std::{future::Future, pin::Pin, sync::Arc};

/// What the user said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Go on.
    Yes,
    /// Do not.
    No,
    /// Nothing: the dialog was closed, timed out or could not be shown.
    Nothing,
}

type Asking = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Said> + Send>> + Send + Sync>;

/// The ways to ask.
#[derive(Clone)]
pub(crate) enum Dialog {
    /// The client has no dialog.
    None,
    /// A request of the server's own, in a session.
    Now(Asking),
    /// The answer comes, or came, with a second call.
    Later {
        /// What the user said, with the state we gave with the question.
        said: Option<(Said, String)>,
    },
}
