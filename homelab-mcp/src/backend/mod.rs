//! The one list of backends: their tools, and what `--check` tries.

pub(crate) mod compose;
pub(crate) mod docker;
pub(crate) mod host;
pub(crate) mod operation;
pub(crate) mod opnsense;
pub(crate) mod proxmox;
pub(crate) mod truenas;

use std::fmt::Write as _;

use crate::{
    Core,
    config::Config,
    error::Fault,
    state::State,
    tool::{Entry, Toolset},
};

/// Every tool of the core.
pub(crate) const TOOLSETS: &[&[Entry]] =
    &[compose::TOOLS, docker::TOOLS, host::TOOLS, operation::TOOLS, opnsense::TOOLS, proxmox::TOOLS, truenas::TOOLS];

/// What the tools work on. Nothing is connected before it is needed.
pub(crate) struct Backends {
    pub(crate) docker: docker::Docker,
    pub(crate) compose: compose::Compose,
    pub(crate) opnsense: Option<opnsense::Opnsense>,
    pub(crate) proxmox: Option<proxmox::Proxmox>,
    pub(crate) truenas: Option<truenas::Truenas>,
}

impl Backends {
    pub(crate) fn new(config: &Config, state: &State, key: [u8; 32]) -> Self {
        let appliances = &config.appliances;
        Self {
            docker: docker::Docker::new(config.docker.clone()).with_limit(config.docker_timeout),
            compose: compose::Compose::new(config, state, key),
            opnsense: appliances.opnsense.as_ref().map(opnsense::Opnsense::new),
            proxmox: appliances.proxmox.as_ref().map(proxmox::Proxmox::new),
            truenas: appliances.truenas.as_ref().map(truenas::Truenas::new),
        }
    }
}

/// One row of `--check`.
pub(crate) struct Checked {
    pub(crate) name: &'static str,
    pub(crate) place: String,
    pub(crate) finding: Finding,
}

/// What a check found.
pub(crate) enum Finding {
    /// It answers; with what.
    Fine(String),
    /// Nobody configured it and it is not there.
    Unused(String),
    /// What to fix.
    Fix(String),
}

impl Finding {
    /// A backend's answer, or its fault with the advice.
    pub(crate) fn of<T>(result: Result<T, Fault>, fine: impl FnOnce(T) -> String) -> Self {
        match result {
            Ok(answer) => Self::Fine(fine(answer)),
            Err(fault) => Self::Fix(fault.with_advice()),
        }
    }
}

/// Tries every backend whose tools are switched on: a table, and whether all is fine.
pub(crate) async fn check(core: &Core) -> (String, bool) {
    let on = |toolset| core.config.selection.has(toolset);
    let mut rows = Vec::new();
    if on(Toolset::System) {
        rows.push(host::check(core).await);
    }
    if on(Toolset::Docker) || on(Toolset::Compose) {
        rows.push(docker::check(core).await);
    }
    if on(Toolset::Compose) {
        rows.extend(compose::check(core).await);
    }
    if on(Toolset::Opnsense) {
        rows.extend(opnsense::check(core).await);
    }
    if on(Toolset::Truenas) {
        rows.extend(truenas::check(core).await);
    }
    if on(Toolset::Proxmox) {
        rows.extend(proxmox::check(core).await);
    }
    rows.push(state_row(core));
    let width = rows.iter().map(|row| row.place.chars().count()).max().unwrap_or_default();
    let mut table = String::new();
    for row in &rows {
        let (word, text) = match &row.finding {
            Finding::Fine(text) => ("ok", text),
            Finding::Unused(text) => ("-", text),
            Finding::Fix(text) => ("FIX", text),
        };
        let _ = writeln!(table, "{word:<5}{:<9}{:<width$}  {text}", row.name, row.place);
    }
    let fine = rows.iter().all(|row| !matches!(row.finding, Finding::Fix(_)));
    (table, fine)
}

fn state_row(core: &Core) -> Checked {
    let place = core.config.state_dir.as_ref().map_or_else(|| "-".to_owned(), |dir| dir.display().to_string());
    let finding = match core.gate.no_destroy() {
        _ if core.config.level == shared::Level::Monitor => Finding::Unused("not needed at level 1".to_owned()),
        Some(why) => Finding::Fix(format!("{why}: set STATE_DIR to a writable folder")),
        None => match core.gate.audit().check() {
            Ok(()) => Finding::Fine("writable; changes are recorded".to_owned()),
            Err(error) => Finding::Fix(format!("the audit log cannot be written: {error}; correct AUDIT_LOG")),
        },
    };
    Checked { name: "state", place, finding }
}
