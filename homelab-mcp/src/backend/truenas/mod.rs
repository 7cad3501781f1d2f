//! TrueNAS: to be written.

use crate::{
    Core,
    backend::{Checked, Finding},
    config::appliances,
    error::{Fault, Kind},
    http::Door,
    tool::Entry,
};

pub(crate) const TOOLS: &[Entry] = &[];

/// The client of one TrueNAS.
pub(crate) struct Truenas {
    door: Door,
}

impl Truenas {
    pub(crate) fn new(config: &appliances::Truenas) -> Self {
        Self { door: Door::new(&config.address) }
    }
}

/// The client, or what to set so that there is one.
fn client(core: &Core) -> Result<&Truenas, Fault> {
    core.backends.truenas.as_ref().ok_or_else(|| {
        Fault::new(Kind::NotConfigured, "TrueNAS is not configured")
            .hint("Set TRUENAS_HOST and TRUENAS_API_KEY, and start again.")
    })
}

/// Where it is, for errors.
pub(crate) fn place(core: &Core) -> String {
    match &core.backends.truenas {
        Some(client) => format!("truenas ({})", client.door.place()),
        None => "truenas".to_owned(),
    }
}

/// What `--check` says of it.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let finding = match client(core) {
        Ok(_) => Finding::Unused("not written yet".to_owned()),
        Err(fault) => Finding::Unused(fault.with_advice()),
    };
    vec![Checked { name: "truenas", place: place(core), finding }]
}
