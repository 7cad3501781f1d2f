//! STATE_DIR: what must outlive one process or be shared by several. Files are written whole or not at all, readable
//! by their owner only. Nothing is created before something must be kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// The folder, if there is a writable one.
#[derive(Clone, Debug)]
pub(crate) struct State {
    dir: Option<PathBuf>,
    why_not: String,
}

impl State {
    /// Tries the folder once, creating it; `None` is a state without one.
    pub(crate) fn open(dir: Option<&Path>) -> Self {
        let Some(dir) = dir else {
            return Self { dir: None, why_not: "neither STATE_DIR nor HOME is set".to_owned() };
        };
        let tried = private_dir(dir).and_then(|()| tempfile::Builder::new().prefix(".try").tempfile_in(dir).map(drop));
        match tried {
            Ok(()) => Self { dir: Some(dir.to_owned()), why_not: String::new() },
            Err(error) => Self { dir: None, why_not: format!("STATE_DIR {}: {error}", dir.display()) },
        }
    }

    /// A state for a server that changes nothing: looks into the folder if it is there, and creates nothing.
    pub(crate) fn look(dir: Option<&Path>) -> Self {
        Self { dir: dir.filter(|dir| dir.is_dir()).map(Path::to_owned), why_not: "this server only reads".to_owned() }
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Why there is none.
    pub(crate) fn why_not(&self) -> &str {
        &self.why_not
    }

    /// A folder inside, created for its owner only.
    pub(crate) fn sub(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.dir.as_ref().ok_or_else(|| io::Error::other(self.why_not.clone()))?.join(name);
        private_dir(&dir)?;
        Ok(dir)
    }

    /// A key that all processes with this folder share: given, or 32 random bytes made once. Without a folder, one for
    /// this process alone.
    pub(crate) fn key(&self, given: Option<&shared::Secret>) -> [u8; 32] {
        if let Some(given) = given {
            return Sha256::digest(given.expose().as_bytes()).into();
        }
        let fresh: [u8; 32] = rand::random();
        let Some(dir) = &self.dir else { return fresh };
        let path = dir.join("confirm.key");
        // Whoever links first wins; everybody reads the winner's.
        let made = (|| {
            let mut file = tempfile::Builder::new().prefix(".key").tempfile_in(dir)?;
            file.write_all(&fresh)?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&path).map(drop).map_err(|error| error.error)
        })();
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            log::warn!("cannot keep {}: {error}; confirmation codes hold for this process only", path.display());
            return fresh;
        }
        match fs::read(&path).map(<[u8; 32]>::try_from) {
            Ok(Ok(key)) => key,
            _ => {
                log::warn!("{} does not hold 32 bytes; delete it to have a new one made", path.display());
                fresh
            }
        }
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Opens a file for its owner only, creating it, and waits some seconds for the exclusive lock that other processes take
/// too.
pub(crate) fn open_locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    // Others hold it for milliseconds. One that was stopped while it did must not stop us.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if std::time::Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(io::Error::other(format!("another process holds the lock of {}", path.display())));
            }
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Replaces a small file whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
