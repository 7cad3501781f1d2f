//! Stand-ins for the appliances that `homelab-mcp` talks to: stateful, strict, over TLS, with faults on request.
//!
//! Each is written from what the vendor's own code was seen to do, and is never kinder than it: what the vendor
//! refuses is refused here, with the vendor's status, shape and style of text. [`Server`] is the part they share.

mod connection;
mod fault;
mod message;
pub mod opnsense;
pub mod proxmox;
mod server;
mod tls;
pub mod truenas;

pub use connection::Stream;
pub use fault::{Fault, Rule};
pub use message::{Reply, Request};
pub use server::{Appliance, KeepAlive, Options, Seen, Server};
pub use tls::Certificate;
