//! What the benchmarks share: programs over pipes, recorded answers, readings from `/proc`, and tables.

pub mod answers;
pub mod child;
pub mod proc;
pub mod samples;
pub mod table;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// An error is a sentence for the reader of the report.
pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The bearer token of every HTTP server that is measured.
pub const KEY: &str = "bench-key-0123456789-0123456789-0123456789";

/// How long cargo may take over a program of ours.
const BUILD: Duration = Duration::from_secs(600);

/// A directory of our own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it in the system's temporary directory.
    ///
    /// # Errors
    /// When it cannot be made, or something of its name is there.
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("homelab-mcp-bench-{}", std::process::id()));
        // Fails when it exists: nobody else can have prepared it.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a folder in it and returns its path.
    ///
    /// # Errors
    /// When it cannot be made, or is there already.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).map(|()| path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the temporary directory is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What cargo and the shell tell every program; no settings of ours.
#[expect(clippy::disallowed_methods, reason = "shared::vars is for the settings of the servers")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Another program of this package, beside our own binary. `cargo run` builds only what it runs, so under cargo it is
/// (re)built here.
///
/// # Errors
/// When it cannot be built or is missing; the text says how to build it.
pub fn own_program(name: &str) -> Fallible<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name(name);
    let folder = own.parent().ok_or("the benchmark has no folder")?;
    if let (Some(cargo), Some(target), Some(manifest)) =
        (variable("CARGO"), folder.parent(), variable("CARGO_MANIFEST_DIR"))
    {
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let mut build = Command::new(cargo)
            .args(["build", "--quiet", "--bin", name, "--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(Path::new(&manifest))
            .stdin(Stdio::null())
            .spawn()?;
        let until = Instant::now() + BUILD;
        let status = loop {
            if let Some(status) = build.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                build.kill()?;
                break build.wait()?;
            }
            thread::sleep(Duration::from_millis(10));
        };
        if !status.success() {
            return Err(format!("cargo could not build {name} ({status})").into());
        }
    }
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("{} is missing. Build it with: cargo build --release -p bench", program.display()).into())
    }
}

/// The absolute path of a program that is measured.
///
/// # Errors
/// When there is no such file; the text says how to build it.
pub fn measured_program(path: &Path, package: &str) -> Fallible<PathBuf> {
    let missing = |error: io::Error| {
        format!("{}: {error}\nBuild it with: cargo build --profile dist -p {package}", path.display())
    };
    let found = fs::canonicalize(path).map_err(missing)?;
    if found.is_file() { Ok(found) } else { Err(missing(io::Error::other("not a file")).into()) }
}
