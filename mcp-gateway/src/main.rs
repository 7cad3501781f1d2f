//! The HTTP front door of homelab-mcp, for Claude Chat and other remote clients. Not written yet: this start only says so,
//! so that nobody takes a silent program for a working one.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    let _ = writeln!(
        io::stderr(),
        "mcp-gateway {}: not available yet. homelab-mcp itself works over stdin and stdout; see the README.",
        env!("CARGO_PKG_VERSION")
    );
    ExitCode::from(64)
}
