//! The log of both programs: stderr, one line each, readable alone. Never a token, a body or an argument.

use std::io::Write as _;

/// Starts the log at the level that `RUST_LOG` has (`info` when that is not set).
pub fn start(rust_log: Option<&str>) {
    // A second call (tests) keeps the first logger, which is the same.
    let _ = env_logger::Builder::new()
        .parse_filters(rust_log.unwrap_or("info,rmcp=warn,hyper=warn,bollard=warn"))
        .target(env_logger::Target::Stderr)
        .format(|out, record| {
            // Their finer levels print what is sent: bollard's bodies hold commands and environment values, ureq's and
            // tungstenite's bytes the keys that sign in to appliances.
            let talkative = ["bollard", "tungstenite", "tokio_tungstenite", "ureq"];
            if record.level() > log::Level::Info && talkative.iter().any(|name| record.target().starts_with(name)) {
                return Ok(());
            }
            // A line break inside a message would let a name that came from outside forge a second line.
            let message = record.args().to_string().replace(['\n', '\r'], "\\n");
            writeln!(out, "{} {:<5} {} {message}", out.timestamp_millis(), record.level(), record.target())
        })
        .try_init();
}
