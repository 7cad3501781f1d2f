//! The stand-ins, talked to byte by byte.

mod client;
mod opnsense;
mod proxmox;
mod server;
mod truenas;
