//! How far a call has come. Tools say it in words; the server sends it on as a notification when the client asked for
//! progress, and the registry of operations keeps the last lines. Nobody waits for anybody here.

use std::sync::Arc;

use tokio::sync::watch;

/// A handle to say how far it has come.
#[derive(Clone)]
pub(crate) struct Progress(Arc<watch::Sender<String>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(String::new())))
    }
}

impl Progress {
    /// The newest word on it replaces the one before.
    pub(crate) fn say(&self, message: impl Into<String>) {
        self.0.send_replace(message.into());
    }

    /// The newest word, or nothing yet.
    pub(crate) fn latest(&self) -> String {
        self.0.borrow().clone()
    }
}
