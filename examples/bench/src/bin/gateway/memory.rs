//! What sessions cost that nobody uses.

use crate::http::{Connection, Request};
use crate::load::Target;
use bench::Fallible;
use std::time::Duration;
use tokio::task::JoinSet;

/// Sessions that are idle: their connections stay open.
pub(crate) const IDLE: usize = 1_000;
/// Sessions that are abandoned: their connections are gone.
pub(crate) const ABANDONED: usize = 10_000;
/// Opened before the first reading, so that what every program needs once is not counted.
const WARM_UP: usize = 200;
/// Abandoned at the same time.
const AT_ONCE: usize = 8;
/// A client that could be asked questions: the dearest kind.
const CAPABILITIES: &str = r#"{"elicitation":{},"sampling":{},"roots":{"listChanged":true}}"#;
/// How long all of this may take with one server.
const PATIENCE: Duration = Duration::from_secs(90);
/// Memory is read when it was the same so often.
const QUIET: usize = 4;

/// What grew.
pub(crate) struct Growth {
    /// KiB resident.
    pub(crate) kib: u64,
    /// Child processes.
    pub(crate) children: usize,
}

/// Opens sessions and keeps their connections.
pub(crate) async fn idle(target: &Target) -> Fallible<Growth> {
    grow(target, async {
        let mut open = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            let mut connection = Connection::open(target.server.address()).await?;
            target.open_session(&mut connection, CAPABILITIES).await?;
            // Our own memory is not what is measured, but there is no need for that much of it.
            open.push(connection.shrunk());
        }
        Ok(open)
    })
    .await
}

/// Opens sessions and drops their connections.
pub(crate) async fn abandoned(target: &Target) -> Fallible<Growth> {
    grow(target, abandon(target, ABANDONED)).await
}

async fn grow<T>(target: &Target, act: impl Future<Output = Fallible<T>>) -> Fallible<Growth> {
    let measure = async {
        abandon(target, WARM_UP).await?;
        let (memory, children) = (settled(target).await?, target.server.children()?.len());
        let kept = act.await?;
        let (more, now) = (settled(target).await?, target.server.children()?.len());
        drop(kept);
        Ok(Growth { kib: more.saturating_sub(memory), children: now.saturating_sub(children) })
    };
    tokio::time::timeout(PATIENCE, measure).await?
}

async fn abandon(target: &Target, sessions: usize) -> Fallible<()> {
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let address = target.server.address();
        clients.spawn(async move {
            let request = Request::initialize(CAPABILITIES);
            for _ in 0..sessions / AT_ONCE {
                Connection::open(address).await?.post(&request).await?;
            }
            Fallible::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

/// Resident KiB, once they stay the same for a while (three seconds at most).
async fn settled(target: &Target) -> Fallible<u64> {
    let (mut last, mut same) = (target.server.memory()?.rss, 0);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = target.server.memory()?.rss;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same == QUIET {
            break;
        }
    }
    Ok(last)
}
