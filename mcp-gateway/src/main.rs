//! Parses the command line, runs, and turns the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mcp_gateway::cli::main(std::env::args().collect()))
}
