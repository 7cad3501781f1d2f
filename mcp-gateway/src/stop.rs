//! How the program ends: first nothing new is begun, later nothing is waited for any more.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Abandoned,
}

/// Where the program stands. Clones share it.
#[derive(Clone)]
pub(crate) struct Stop(Arc<watch::Sender<Phase>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }
}

impl Stop {
    /// Nothing new; what runs may finish.
    pub(crate) fn drain(&self) {
        self.reach(Phase::Draining);
    }

    /// Whatever still runs is given up.
    pub(crate) fn abandon(&self) {
        self.reach(Phase::Abandoned);
    }

    fn reach(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Whether nothing new may begin.
    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Comes when nothing new may begin.
    pub(crate) async fn draining(&self) {
        self.wait(Phase::Draining).await;
    }

    /// Comes when whatever still runs is given up.
    pub(crate) async fn abandoned(&self) {
        self.wait(Phase::Abandoned).await;
    }

    async fn wait(&self, phase: Phase) {
        // The sender lives in `self`, so this ends only by the condition.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }
}

/// Comes with SIGTERM or SIGINT. An error is one of listening for them.
#[cfg(unix)]
pub(crate) async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Comes with Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// `future`, if it is done within `limit`.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}
