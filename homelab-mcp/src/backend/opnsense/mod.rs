//! OPNsense: how the firewall is, and restarting its services. `client` knows paths, spellings and errors, `model` what
//! the answers mean, `look` asks for everything at once, `tools` is what a model sees.

mod client;
mod look;
mod model;
mod tools;

pub(crate) use client::Opnsense;
pub(crate) use tools::TOOLS;

use self::look::Problem;
use crate::{
    Core,
    backend::{Checked, Finding},
    error::{Fault, Kind},
};

/// The client, or what to set so that there is one.
fn client(core: &Core) -> Result<&Opnsense, Fault> {
    core.backends.opnsense.as_ref().ok_or_else(|| {
        Fault::new(Kind::NotConfigured, "OPNsense is not configured")
            .hint("Set OPNSENSE_HOST, OPNSENSE_API_KEY and OPNSENSE_API_SECRET, and start again.")
    })
}

/// Where it is, for errors.
pub(crate) fn place(core: &Core) -> String {
    match &core.backends.opnsense {
        Some(client) => format!("opnsense ({})", client.place()),
        None => "opnsense".to_owned(),
    }
}

/// What `--check` says of it: whether it lets us in and which version it is, and what the key may not read.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let row = |finding| Checked {
        name: "opnsense",
        place: core.backends.opnsense.as_ref().map_or_else(|| "-".to_owned(), Opnsense::place),
        finding,
    };
    let client = match client(core) {
        Ok(client) => client,
        Err(fault) => return vec![row(Finding::Unused(fault.with_advice()))],
    };
    let look = match look::look(client).await {
        Ok(look) => look,
        Err(fault) => return vec![row(Finding::Fix(fault.with_advice()))],
    };
    let restart = core.registry.listed(&core.config).any(|item| item.entry.about.name == tools::RESTART);
    let version = look.version.as_deref().unwrap_or("signed in, version unknown");
    let mut rows = vec![row(Finding::Fine(format!("OPNsense {version}")))];
    let found = found(&look.problems, restart);
    rows.push(row(if found.is_empty() {
        let able = if restart { "read all and restart services" } else { "read all" };
        Finding::Fine(format!("the key may {able} at level {}", core.config.level))
    } else {
        Finding::Fix(found.join("; "))
    }));
    rows
}

/// The problems in words, those with one privilege together. `restart`: whether services can be restarted at this level.
fn found(problems: &[Problem], restart: bool) -> Vec<String> {
    let mut lacking: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut others = Vec::new();
    for problem in problems.iter().filter(|problem| !problem.never) {
        match &problem.missing_privilege {
            Some(privilege) => match lacking.iter_mut().find(|(name, _)| name == privilege) {
                Some((_, parts)) => parts.push(problem.part),
                None => lacking.push((privilege, vec![problem.part])),
            },
            None => others.push(format!("opnsense_status: {}: {}", problem.part, problem.error)),
        }
    }
    let told = lacking.into_iter().map(|(privilege, parts)| {
        let also = if restart && parts.contains(&"services") { "; opnsense_service_restart" } else { "" };
        format!("the key lacks \"{privilege}\" (opnsense_status: {}{also})", parts.join(", "))
    });
    told.chain(others).collect()
}
