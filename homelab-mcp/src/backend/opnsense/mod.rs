//! OPNsense: to be written.

use crate::{
    Core,
    backend::{Checked, Finding},
    config::appliances,
    error::{Fault, Kind},
    http::Door,
    tool::Entry,
};

pub(crate) const TOOLS: &[Entry] = &[];

/// The client of one OPNsense.
pub(crate) struct Opnsense {
    door: Door,
}

impl Opnsense {
    pub(crate) fn new(config: &appliances::Opnsense) -> Self {
        Self { door: Door::new(&config.address) }
    }
}

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
        Some(client) => format!("opnsense ({})", client.door.place()),
        None => "opnsense".to_owned(),
    }
}

/// What `--check` says of it.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let finding = match client(core) {
        Ok(_) => Finding::Unused("not written yet".to_owned()),
        Err(fault) => Finding::Unused(fault.with_advice()),
    };
    vec![Checked { name: "opnsense", place: place(core), finding }]
}
