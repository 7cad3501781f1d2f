//! Proxmox VE 7.4 to 9.2: guests, nodes, storages. `client` and `task` talk with it, `guest` finds what a caller means,
//! `tools` is what a model sees.
//!
//! What is done follows the vendor's API viewer (pve-docs) and what was seen on its running API; nothing depends on the
//! version but what a message says.

mod check;
mod client;
mod guest;
mod model;
mod task;
mod tools;

pub(crate) use check::check;
pub(crate) use client::Proxmox;
pub(crate) use tools::TOOLS;

use crate::{
    Core,
    error::{Fault, Kind},
};

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
        Some(client) => format!("proxmox ({})", client.place()),
        None => "proxmox".to_owned(),
    }
}
