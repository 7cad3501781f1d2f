//! How the program ends: first nothing new is begun, later nothing is waited for any more.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Stopping,
    Abandoned,
}

/// Where the program stands. Clones share it.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Phase>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }
}

impl Stop {
    /// Nothing new; what runs may finish.
    pub fn stop(&self) {
        self.reach(Phase::Stopping);
    }

    /// Whatever still runs is given up.
    pub fn abandon(&self) {
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
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow() >= Phase::Stopping
    }

    /// Comes when the program is to stop.
    pub async fn stopping(&self) {
        self.wait(Phase::Stopping).await;
    }

    /// Comes when whatever still runs is given up.
    pub async fn abandoned(&self) {
        self.wait(Phase::Abandoned).await;
    }

    async fn wait(&self, phase: Phase) {
        // The sender lives in `self`, so this ends only by the condition.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }
}
