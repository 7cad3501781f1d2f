//! The gateway: the HTTP front door of the core. It knows who is calling and how much they may do, speaks both HTTP eras
//! of MCP, and pipes messages into core processes. It never reads a tool's arguments or results.
//!
//! The files are the stations of a request: `server` → `route` → `guard` → `auth` → `mcp` → `pool` → `worker`, and back
//! through `mcp/stream` and `body`.

mod access;
mod auth;
mod body;
pub mod cli;
mod config;
mod guard;
mod health;
mod journal;
mod mcp;
mod message;
mod metrics;
mod pages;
mod pool;
mod process;
mod route;
mod server;
mod state;
mod stop;
mod worker;

use std::{sync::Arc, time::Duration};

use shared::{Level, Stop};
use tokio::{net::TcpListener, sync::mpsc};

pub use config::{Config, VARS};

use crate::{
    auth::Auth, body::Bodies, config::Origin, guard::Guard, mcp::Sessions, metrics::Metrics, pool::Pool,
    route::Readiness,
};

/// How long answers that are ready may take to be written once the drain is over.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often what nobody uses any more is looked for.
const TIDY: Duration = Duration::from_secs(5);

/// Everything that requests share.
pub(crate) struct Gateway {
    level: Level,
    max_body: usize,
    bodies: Bodies,
    auth: Auth,
    guard: Guard,
    pool: Pool,
    sessions: Sessions,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: Stop,
}

/// Serves until a signal comes and the drain is over. Then no connection and no core process is left.
pub(crate) async fn run(config: Config) -> Result<(), String> {
    let drain = config.drain;
    let mut signalled = std::pin::pin!(stop::signal());
    let wrong = |error| format!("cannot listen for signals: {error}");
    let started = tokio::select! {
        // First, so that a signal is listened for before anything is started.
        biased;
        // Whatever was started ends with its future.
        ended = &mut signalled => return ended.map_err(wrong),
        started = Started::new(config) => started?,
    };
    let Started { gateway, listener, metrics_listener, mut workers } = started;
    let (connected, mut connections) = mpsc::channel(1);
    let serving = async {
        tokio::join!(
            server::accept(&gateway, listener, &connected),
            server::accept_metrics(&gateway, metrics_listener, &connected),
            tidy(&gateway),
        )
    };
    tokio::select! {
        ended = &mut signalled => ended.map_err(wrong)?,
        _ = serving => {}
    }

    log::info!("stopping: no new connections; what is under way gets {} s", drain.as_secs());
    gateway.stop.stop();
    drop(connected);
    let drained = tokio::select! {
        _ = connections.recv() => true,
        () = tokio::time::sleep(drain) => false,
        again = stop::signal() => again.map(|()| false).map_err(wrong)?,
    };
    // Whoever still waits is answered by this; idle core processes end at once.
    gateway.stop.abandon();
    if !drained {
        log::warn!("not everything came to its end in time: given up");
        let _ = stop::within(LAST_WORDS, connections.recv()).await;
    }
    gateway.auth.save().await;
    drop(gateway);
    let _ = workers.recv().await;
    log::info!("stopped");
    Ok(())
}

/// What is there once everything has been tried.
struct Started {
    gateway: Arc<Gateway>,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    /// Ends with the last core process.
    workers: mpsc::Receiver<()>,
}

impl Started {
    async fn new(mut config: Config) -> Result<Self, String> {
        let cannot = |name: &str, address, error| format!("{name}: cannot listen on {address}: {error}.");
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|error| cannot("PORT", config.listen, error))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let metrics_listener = match config.metrics {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                format!("{} Set it to another address, or to off.", cannot("METRICS_ADDR", address, error))
            })?),
        };
        let metrics = Arc::<Metrics>::default();
        let stop = Stop::default();
        let (alive, workers) = mpsc::channel(1);
        let pool = Pool::start(&config, metrics.clone(), stop.clone(), alive).await?;
        let public = config.public_url.clone().unwrap_or_else(|| Origin::of_listener(address));
        let guard = Guard::new(&config, &public);
        announce(&config, &public, &pool);
        let gateway = Arc::new(Gateway {
            level: config.level,
            max_body: config.max_body,
            bodies: Bodies::new(config.max_body),
            guard,
            sessions: Sessions::new(config.max_sessions, config.session_ttl, metrics.clone()),
            readiness: Readiness::default(),
            auth: Auth::new(&mut config, public),
            pool,
            metrics,
            stop,
        });
        if let Some(address) = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
            log::info!("metrics on http://{address}/metrics");
            if !address.ip().is_loopback() {
                log::warn!("METRICS_ADDR is no loopback address: whoever reaches it can read the metrics");
            }
        }
        log::info!("listening on http://{address}");
        Ok(Self { gateway, listener, metrics_listener, workers })
    }
}

/// What the operator should know before the first request.
fn announce(config: &Config, public: &Origin, pool: &Pool) {
    let mut ways = Vec::new();
    if let Some(key) = &config.api_key {
        ways.push(format!("API key (level {})", key.level.name()));
        if key.key.expose().len() < 16 {
            log::warn!("API_KEY is short enough to be guessed. Use the output of `openssl rand -hex 32`.");
        }
    }
    if let Some(client) = &config.client {
        ways.push(format!("client credentials (level {})", client.level.name()));
        if client.secret.expose().len() < 16 {
            log::warn!("OAUTH_CLIENT_SECRET is short enough to be guessed. Use the output of `openssl rand -hex 32`.");
        }
    }
    match (&config.owner, &config.client) {
        (Some(owner), _) => {
            ways.push(format!("the owner's consent (up to level {})", config.level.name()));
            if owner.registration {
                log::info!("apps may register themselves (DYNAMIC_REGISTRATION)");
            }
        }
        (None, Some(_)) => {
            log::info!("OWNER_PASSWORD is not set: there is no consent page, so Claude Chat cannot sign in")
        }
        (None, None) => {}
    }
    let eras = match (pool.eras().newest(), pool.eras().legacy) {
        (Some(modern), true) => format!("{modern} and sessions"),
        (Some(modern), false) => format!("{modern}, no sessions"),
        (None, _) => "sessions only".to_owned(),
    };
    log::info!(
        "mcp-gateway {} for {public} at level {}; sign-in by {}; {} speaks {eras}",
        env!("CARGO_PKG_VERSION"),
        config.level,
        ways.join(" or "),
        config.core.name(),
    );
}

async fn tidy(gateway: &Gateway) {
    loop {
        tokio::time::sleep(TIDY).await;
        gateway.auth.tidy().await;
        gateway.sessions.tidy();
        gateway.pool.tidy();
    }
}
