//! Proxmox VE: to be written.

use crate::{
    Core,
    backend::{Checked, Finding},
    config::appliances,
    error::{Fault, Kind},
    http::Door,
    tool::Entry,
};

pub(crate) const TOOLS: &[Entry] = &[];

/// The client of one Proxmox VE.
pub(crate) struct Proxmox {
    door: Door,
}

impl Proxmox {
    pub(crate) fn new(config: &appliances::Proxmox) -> Self {
        Self { door: Door::new(&config.address) }
    }
}

/// The client, or what to set so that there is one.
fn client(core: &Core) -> Result<&Proxmox, Fault> {
    core.backends.proxmox.as_ref().ok_or_else(|| {
        Fault::new(Kind::NotConfigured, "Proxmox VE is not configured")
            .hint("Set PROXMOX_HOST, PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET, and start again.")
    })
}

/// Where it is, for errors.
pub(crate) fn place(core: &Core) -> String {
    match &core.backends.proxmox {
        Some(client) => format!("proxmox ({})", client.door.place()),
        None => "proxmox".to_owned(),
    }
}

/// What `--check` says of it.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let finding = match client(core) {
        Ok(_) => Finding::Unused("not written yet".to_owned()),
        Err(fault) => Finding::Unused(fault.with_advice()),
    };
    vec![Checked { name: "proxmox", place: place(core), finding }]
}
