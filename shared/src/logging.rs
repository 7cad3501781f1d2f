//! The log of both programs: stderr, one line each, readable alone. Never a token, a body or an argument.

use std::io::Write;

/// Starts the log at the level that `RUST_LOG` has (`info` when that is not set).
pub fn start(rust_log: Option<&str>) {
    start_to(rust_log, env_logger::Target::Stderr);
}

/// The same to another writer, which gets one whole line at a time.
pub fn start_through(rust_log: Option<&str>, writer: Box<dyn Write + Send>) {
    start_to(rust_log, env_logger::Target::Pipe(writer));
}

fn start_to(rust_log: Option<&str>, target: env_logger::Target) {
    // A second call (tests) keeps the first logger, which is the same.
    let _ = env_logger::Builder::new()
        .parse_filters(rust_log.unwrap_or("info,rmcp=warn,hyper=warn,bollard=warn"))
        .target(target)
        .format(|out, record| {
            // bollard's finer levels print request bodies, which hold commands and environment values.
            if record.target().starts_with("bollard") && record.level() > log::Level::Info {
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
}
