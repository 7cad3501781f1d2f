//! The command line. Exit codes: 0 a clean end (also by SIGTERM), 1 a failure at run time or a failed check, 64 wrong
//! usage or configuration.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use argh::FromArgs;
use shared::vars::Vars;
use tokio::runtime::Runtime;

use crate::{
    Config, VARS,
    config::{self, CoreCommandToCheck},
    health,
    journal::Log,
    pool, run,
};

const OK: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 64;

/// HTTP front door of homelab-mcp, for Claude Chat and other remote clients. Configuration comes from environment
/// variables; those that are not the gateway's go to the core.
#[derive(FromArgs)]
struct Options {
    /// read NAME=value lines from this file; variables that are already set win
    #[argh(option, arg_name = "file")]
    env_file: Option<PathBuf>,
    /// check the configuration and the core, and exit
    #[argh(switch)]
    check: bool,
    /// ask the gateway that runs with this PORT and BIND for its health, and exit
    #[argh(switch)]
    health: bool,
    /// print the version
    #[argh(switch)]
    version: bool,
}

/// Runs the program with these arguments.
pub fn main(arguments: Vec<String>) -> u8 {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).skip(1).collect();
    let options = match Options::from_args(&["mcp-gateway"], &arguments) {
        Ok(options) => options,
        Err(exit) if exit.status.is_ok() => return print(&help(&exit.output)),
        Err(exit) => return complain(USAGE, &format!("{}\nTry mcp-gateway --help.", exit.output.trim())),
    };
    if options.version {
        return print(concat!("mcp-gateway ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let mut vars = Vars::from_process();
    if let Some(file) = &options.env_file {
        vars.add_env_file(file);
    }
    if options.health {
        let listener = config::listener(&mut vars);
        return match vars.finish().map_err(|problems| problems.to_string()).and_then(|()| health::ask(listener)) {
            Ok(()) => OK,
            Err(problem) => complain(FAILED, &problem),
        };
    }
    let rust_log = vars.text("RUST_LOG");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(FAILED, &format!("cannot start: {error}")),
    };
    let (core, config) = Config::read(vars);
    let config = match config {
        Ok(config) => config,
        Err(problems) => {
            let problems = match check(&runtime, &core) {
                Ok(()) => problems.to_string(),
                Err(problem) => format!("{problems}\n{problem}"),
            };
            return complain(USAGE, &format!("the configuration is wrong:\n{problems}"));
        }
    };
    if options.check {
        return match check(&runtime, &core) {
            Ok(()) => print("the configuration is right, and the core starts\n"),
            Err(problem) => complain(FAILED, &problem),
        };
    }
    let log = Log::default();
    match log.writer() {
        Ok(writer) => shared::logging::start_through(rust_log.as_deref(), Box::new(writer)),
        Err(error) => return complain(FAILED, &format!("cannot start: {error}")),
    }
    let served = runtime.block_on(run(config));
    runtime.shutdown_timeout(Duration::from_millis(100));
    log.finish();
    match served {
        Ok(()) => OK,
        Err(problem) => complain(FAILED, &problem),
    }
}

/// Whether the core can be started and used.
fn check(runtime: &Runtime, core: &CoreCommandToCheck) -> Result<(), String> {
    runtime.block_on(pool::look_at(&core.command, core.level)).map(drop)
}

fn help(usage: &str) -> String {
    let mut text = format!("{}\n\nVariables (a secret X can also be given as a file in X_FILE):\n", usage.trim_end());
    for var in VARS {
        text += &format!("  {:<25}{} [{}]\n", var.name, var.about, var.default);
    }
    text += "\nEvery other variable is passed on to the core; see homelab-mcp --help.\n";
    text + "\nExit codes: 0 clean end, 1 failure or failed check, 64 wrong usage or configuration.\n"
}

fn print(text: &str) -> u8 {
    // A reader that has seen enough (`| head`) is no failure.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    OK
}

fn complain(code: u8, text: &str) -> u8 {
    let _ = writeln!(io::stderr(), "mcp-gateway: {text}");
    code
}
