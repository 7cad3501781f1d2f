//! Tests of the real binary that need nothing but this machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be; clippy's exemption covers only test functions"
)]

mod appliance_edges;
mod appliances;
mod cli;
mod config;
mod docs;
mod eras;
mod faults;
mod http;
mod inventory;
mod isolation;
mod levels;
mod lifecycle;
mod opnsense;
mod protocol;
mod proxmox;
mod stand_in;
mod truenas;
mod wire;

#[path = "../support/mod.rs"]
mod support;
