//! What the gateway keeps in STATE_DIR: its token key. Files are written whole or not at all, readable by their owner only.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// The key that signs access tokens: kept in the folder, made there at the first start. Without a writable folder one
/// for this process alone, and a warning.
pub(crate) fn token_key(dir: Option<&Path>) -> [u8; 32] {
    let fresh: [u8; 32] = rand::random();
    let kept = match dir {
        Some(dir) => {
            keep(&dir.join("gateway"), &fresh).map_err(|error| format!("STATE_DIR {}: {error}", dir.display()))
        }
        None => Err("neither STATE_DIR nor HOME is set".to_owned()),
    };
    kept.unwrap_or_else(|why| {
        log::warn!(
            "access tokens will end with this process: {why}. Set STATE_DIR to a writable folder, or TOKEN_KEY."
        );
        fresh
    })
}

fn keep(dir: &Path, fresh: &[u8; 32]) -> io::Result<[u8; 32]> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    let path = dir.join("token.key");
    if !path.exists() {
        let mut file = tempfile::Builder::new().prefix(".key").tempfile_in(dir)?;
        file.write_all(fresh)?;
        file.as_file().sync_all()?;
        // Of several replicas that start at once one wins; all read the winner's.
        if let Err(error) = file.persist_noclobber(&path)
            && error.error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error.error);
        }
    }
    let kept = fs::read(&path)?;
    <[u8; 32]>::try_from(kept).map_err(|_| {
        io::Error::other(format!("{} does not hold 32 bytes; delete it to have a new one made", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let key = token_key(Some(dir.path()));
        assert_eq!(token_key(Some(dir.path())), key);
        let file = dir.path().join("gateway/token.key");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o077, 0);
        fs::write(&file, "short").unwrap();
        assert_ne!(token_key(Some(dir.path())), key);
    }
}
