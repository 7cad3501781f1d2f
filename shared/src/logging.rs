//! The log of both programs: stderr, one line each, readable alone. Never a token, a body or an argument.

use std::io::Write;

const DEFAULT: &str = "info,rmcp=warn,hyper=warn,bollard=warn,ureq=warn,rustls=warn,tungstenite=warn";

/// Crates whose finer levels print what they send: bodies, headers, frames, and with them commands and keys.
const SENDERS: [&str; 5] = ["bollard", "ureq", "rustls", "tungstenite", "tokio_tungstenite"];

/// Starts the log at the level that `RUST_LOG` has (`info` when that is not set).
pub fn start(rust_log: Option<&str>) {
    start_to(rust_log, env_logger::Target::Stderr);
}

/// The same to another writer, which gets one whole line at a time.
pub fn start_through(rust_log: Option<&str>, writer: Box<dyn Write + Send>) {
    start_to(rust_log, env_logger::Target::Pipe(writer));
}

fn start_to(rust_log: Option<&str>, target: env_logger::Target) {
    let unknown = rust_log.filter(|text| !says_a_level(text));
    // A second call (tests) keeps the first logger, which is the same.
    let _ = env_logger::Builder::new()
        .parse_filters(rust_log.filter(|_| unknown.is_none()).unwrap_or(DEFAULT))
        .target(target)
        .format(|out, record| {
            let sender = SENDERS.iter().any(|name| record.target().starts_with(name));
            if sender && record.level() > log::Level::Info {
                return Ok(());
            }
            // A line break inside a message would let a name that came from outside forge a second line.
            let mut message = record.args().to_string();
            if message.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
                message = message.replace(['\n', '\r'], "\\n");
            }
            writeln!(out, "{} {:<5} {} {message}", out.timestamp_millis(), record.level(), record.target())
        })
        .try_init();
    if let Some(text) = unknown {
        log::warn!("RUST_LOG: `{text}` is no level; use error, warn, info or debug. Going on with info.");
    }
}

/// A word that is no level is taken for the name of a module, and everything else would be silent.
fn says_a_level(text: &str) -> bool {
    text.split(',').any(|part| {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        level.parse::<log::LevelFilter>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_level_is_found() {
        for text in ["info", "WARN", "off", "debug,rmcp=warn", "homelab_mcp=debug"] {
            assert!(says_a_level(text), "{text}");
        }
        for text in ["verbose", "2", "", "homelab_mcp"] {
            assert!(!says_a_level(text), "{text}");
        }
    }
}
