//! The command line. Exit codes: 0 a clean end (also by SIGTERM), 1 a failure at run time or a failed check, 64 wrong
//! usage or configuration.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use argh::FromArgs;
use serde_json::json;
use shared::vars::Vars;

use crate::{Config, Core, VARS, audit, backend, serve};

const OK: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 64;

/// MCP server over stdin and stdout for the machines of a homelab. Without an option it serves; configuration comes from
/// environment variables.
#[derive(FromArgs)]
struct Options {
    /// read NAME=value lines from this file; variables that are already set win
    #[argh(option, arg_name = "file")]
    env_file: Option<PathBuf>,
    /// try every backend, print what to fix, exit 1 if one fails
    #[argh(switch)]
    check: bool,
    /// print the tools of this configuration
    #[argh(switch)]
    list_tools: bool,
    /// with --list-tools: as JSON, every tool with its level
    #[argh(switch)]
    json: bool,
    /// check the chain of an audit log
    #[argh(option, arg_name = "file")]
    verify_audit: Option<PathBuf>,
    /// believe the caller's name that mcp-gateway sets
    #[argh(switch)]
    behind_gateway: bool,
    /// print the version
    #[argh(switch)]
    version: bool,
}

/// Runs the program with these arguments.
pub fn main(arguments: Vec<String>) -> u8 {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).skip(1).collect();
    let options = match Options::from_args(&["homelab-mcp"], &arguments) {
        Ok(options) => options,
        Err(exit) if exit.status.is_ok() => return print(&help(&exit.output)),
        Err(exit) => return complain(USAGE, &format!("{}\nTry homelab-mcp --help.", exit.output.trim())),
    };
    if options.version {
        return print(concat!("homelab-mcp ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    if let Some(path) = options.verify_audit {
        return match audit::verify(&path) {
            Ok(lines) => print(&format!("{}: {lines} lines, the chain is whole\n", path.display())),
            Err(problem) => complain(FAILED, &problem),
        };
    }
    if options.json && !options.list_tools {
        return complain(USAGE, "--json goes with --list-tools.");
    }
    let mut vars = Vars::from_process();
    if let Some(file) = &options.env_file {
        vars.add_env_file(file);
    }
    let rust_log = vars.text("RUST_LOG");
    let config = match Config::read(vars) {
        Ok(config) => config,
        Err(problems) => return complain(USAGE, &format!("the configuration is wrong:\n{problems}")),
    };
    shared::logging::start(rust_log.as_deref());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(FAILED, &format!("cannot start: {error}")),
    };
    let core = Core::new(config, options.behind_gateway);
    if options.list_tools {
        return print(&if options.json { tools_json(&core) } else { tools_text(&core) });
    }
    if options.check {
        let (table, fine) = runtime.block_on(backend::check(&core));
        let printed = print(&table);
        return if fine { printed } else { FAILED };
    }
    if io::stdin().is_terminal() {
        let _ = writeln!(
            io::stderr(),
            "homelab-mcp waits for JSON-RPC lines on stdin. Try: echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}}' | homelab-mcp   (--help for more)"
        );
    }
    let served = runtime.block_on(serve(core));
    // Threads that still read or measure must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match served {
        Ok(()) => OK,
        Err(problem) => complain(FAILED, &problem),
    }
}

fn help(usage: &str) -> String {
    let mut text = format!("{}\n\nVariables (a secret X can also be given as a file in X_FILE):\n", usage.trim_end());
    for var in VARS {
        text += &format!("  {:<26}{} [{}]\n", var.name, var.about, var.default);
    }
    text + "\nExit codes: 0 clean end, 1 failure or failed check, 64 wrong usage or configuration.\n"
}

fn tools_text(core: &Core) -> String {
    let mut text = String::new();
    for item in core.registry.listed(&core.config) {
        let about = &item.entry.about;
        text += &format!("{:<28}{:<14}{:<9}{}\n", about.name, about.level.to_string(), about.worst.name(), about.title);
    }
    text
}

/// Every tool, also those above the level: the gateway decides by it.
fn tools_json(core: &Core) -> String {
    let listed: Vec<_> = core.registry.listed(&core.config).map(|item| item.entry.about.name).collect();
    let tools: Vec<_> = core
        .registry
        .all()
        .iter()
        .map(|item| {
            let about = &item.entry.about;
            json!({
                "name": about.name,
                "title": about.title,
                "level": about.level.number(),
                "level_name": about.level.name(),
                "effect": about.worst.name(),
                "toolset": about.toolset.name(),
                "listed": listed.contains(&about.name),
            })
        })
        .collect();
    format!("{:#}\n", json!({"level": core.config.level.number(), "tools": tools}))
}

fn print(text: &str) -> u8 {
    // A reader that has seen enough (`| head`) is no failure.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    OK
}

fn complain(code: u8, text: &str) -> u8 {
    let _ = writeln!(io::stderr(), "homelab-mcp: {text}");
    code
}
