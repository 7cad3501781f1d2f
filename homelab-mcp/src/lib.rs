//! The core: an MCP server over stdin and stdout for the machines of a homelab. It opens no listening socket.
//!
//! The files are the stations of a call: `transport` → `server` → `registry` → `pipeline` → `backend/*/tools` (resolve)
//! → `gate` → `backend/*/tools` (act) → `backend/*/client`, and back through `reply`.

mod audit;
mod backend;
pub mod cli;
mod config;
mod dialog;
mod error;
mod gate;
mod http;
mod operations;
mod pipeline;
mod progress;
mod proof;
mod redact;
mod registry;
mod reply;
mod schema;
mod server;
mod state;
mod target;
mod times;
mod tool;
mod transport;

use std::{io, sync::Arc, time::Duration};

use shared::{Level, Stop};

pub use config::{Config, VARS};

use crate::{backend::Backends, gate::Gate, operations::Operations, registry::Registry, state::State};

/// How long running changes get when the program is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long a client then has to read the answers that are still to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long what is given up may take to end: more than `docker compose` gets between SIGTERM and SIGKILL.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Everything that calls share.
pub(crate) struct Core {
    config: Config,
    behind_gateway: bool,
    registry: Registry,
    gate: Gate,
    locks: pipeline::Locks,
    slots: pipeline::Slots,
    operations: Arc<Operations>,
    backends: Backends,
    stop: Stop,
}

impl Core {
    pub(crate) fn new(config: Config, behind_gateway: bool) -> Self {
        let changes = config.level > Level::Monitor;
        let dir = config.state_dir.as_deref();
        let state = if changes { State::open(dir) } else { State::look(dir) };
        let key = if changes { state.key(config.confirm_key.as_ref()) } else { rand::random() };
        let stop = Stop::default();
        Self {
            gate: Gate::new(&config, &state, key),
            locks: pipeline::Locks::default(),
            slots: pipeline::Slots::default(),
            operations: Arc::new(Operations::new(state.clone(), stop.clone(), config.redact)),
            backends: Backends::new(&config, &state, key),
            registry: Registry::new(),
            behind_gateway,
            stop,
            config,
        }
    }

    /// What the operator should know before the first call; an error is one that must not wait for it.
    fn announce(&self) -> Result<(), String> {
        let tools = self.registry.listed(&self.config).count();
        log::info!("homelab-mcp {} at level {}: {tools} tools", env!("CARGO_PKG_VERSION"), self.config.level);
        if tools == 0 {
            log::warn!("no tool is listed: TOOLSETS, TOOLS_ALLOW and TOOLS_DENY leave none");
        }
        let names: Vec<_> = self.registry.all().iter().map(|item| item.entry.about.name).collect();
        for glob in self.config.selection.without_effect(&names) {
            log::warn!("TOOLS_ALLOW or TOOLS_DENY has {glob}, which is no tool of this version: is it misspelt?");
        }
        for prefix in self.config.appliances.unverified() {
            log::warn!(
                "{prefix}_TLS_VERIFY=false: whoever answers at its address gets the key. Set {prefix}_TLS_FINGERPRINT instead."
            );
        }
        if self.config.level == Level::Monitor {
            return Ok(());
        }
        if let Some(why) = self.gate.no_destroy() {
            log::warn!("nothing that cannot be undone will be done: {why}. Set STATE_DIR to a writable folder.");
        }
        self.gate
            .audit()
            .check()
            .map_err(|error| format!("AUDIT_LOG: cannot be written: {error}. Name a file that can be."))?;
        if !self.gate.audit().is_on() {
            log::warn!("changes are not recorded: there is neither a STATE_DIR nor an AUDIT_LOG");
        }
        if !self.config.redact {
            log::warn!("REDACT=off: secrets in compose files, .env and inspect output go to the model");
        }
        Ok(())
    }
}

/// Serves stdin and stdout until the input ends or a signal comes. Every request that was read is answered before that,
/// and changes that still run are waited for (after a signal: for ten seconds).
pub(crate) async fn serve(core: Core) -> Result<(), String> {
    // The threads come up while the schemas are made.
    let transport = transport::Stdio::new(io::stdin(), io::stdout(), core.config.max_line, core.stop.clone());
    let transport = transport.map_err(|error| format!("cannot start the threads for stdin and stdout: {error}"))?;
    core.announce()?;
    let core = Arc::new(core);
    transport.list(server::listing(&core));
    let service = server::start(core.clone(), transport);

    let stop = core.stop.clone();
    let signalled = async {
        signal().await?;
        log::info!(
            "stopping: no new requests, {} running change(s) get {} s",
            core.operations.running(),
            GRACE.as_secs()
        );
        stop.stop();
        tokio::select! {
            () = core.operations.idle() => {}
            () = tokio::time::sleep(GRACE) => {}
            again = signal() => again?,
        }
        stop.abandon();
        // `docker compose` is ended in order and recorded; then the answers that say so still go out.
        let _ = tokio::time::timeout(LAST_GRACE, core.operations.idle()).await;
        tokio::time::sleep(LAST_WORDS).await;
        Ok::<(), io::Error>(())
    };
    let served = async {
        service.await;
        if core.operations.running() > 0 {
            log::info!(
                "the input has ended; waiting for {} running change(s), SIGTERM to stop",
                core.operations.running()
            );
        }
        core.operations.idle().await;
    };
    tokio::select! {
        () = served => Ok(()),
        ended = signalled => ended.map_err(|error| format!("cannot listen for signals: {error}")),
    }
}

#[cfg(unix)]
async fn signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
