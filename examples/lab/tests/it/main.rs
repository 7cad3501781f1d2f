//! The stand-ins, talked to byte by byte.

mod client;
mod server;
