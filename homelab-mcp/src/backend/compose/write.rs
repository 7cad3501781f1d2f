//! Compose files replaced whole or not at all, and what was there before kept. A stack may be edited in Dockge's page
//! at the same time, and there is no lock to take, so the content is compared directly before it is replaced.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::NamedTempFile;

use super::stacks::{LARGEST, Stack, Stacks, Text, file, read_regular, resolve_below};
use crate::{
    error::{Fault, Kind},
    proof,
    state::sha256,
};

/// How many earlier versions are kept of each stack.
const KEPT: usize = 20;

/// What a write did.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The file, below the root as configured.
    pub(crate) path: PathBuf,
    /// Whether the stack is new.
    pub(crate) created: bool,
    /// Whether anything is different now. Writing what is there already changes nothing and keeps nothing.
    pub(crate) changed: bool,
    /// The SHA-256 of what the file holds now.
    pub(crate) sha256: String,
    /// The SHA-256 of what it held before.
    pub(crate) previous_sha256: Option<String>,
    /// Where the earlier version is kept.
    pub(crate) kept: Option<PathBuf>,
    /// What a reader should know: sentences without a full stop.
    pub(crate) notes: Vec<String>,
}

/// An earlier version of a compose file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What to ask for it by: `<file>.<unix seconds>-<first 8 of its SHA-256>`.
    pub(crate) id: String,
    /// The name of the file that it was.
    pub(crate) file: String,
    /// When it was replaced.
    pub(crate) at: SystemTime,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Its length in bytes.
    pub(crate) bytes: u64,
}

impl Stacks {
    /// Makes a new stack of a draft: the folder, if it is missing, and `compose.yaml` in it. Conflict if somebody else
    /// was faster.
    pub(crate) fn create(&self, _: &proof::Change, draft: &Stack, text: &str) -> Result<Written, Fault> {
        short_enough(text)?;
        if draft.exists {
            return Err(Fault::new(
                Kind::Conflict,
                format!("the stack {} exists already; nothing was changed", draft.name),
            ));
        }
        let root = self.real_root()?;
        let mut notes = Vec::new();
        let made = match DirBuilder::new().mode(0o755).create(&draft.dir) {
            Ok(()) => {
                // The umask may have taken bits; Dockge, another user, has to get in.
                let as_root = fs::metadata(&root).and_then(|root| {
                    fs::set_permissions(&draft.dir, Permissions::from_mode(0o755))?;
                    give_to(&File::open(&draft.dir)?, &root)
                });
                if let Err(error) = as_root {
                    notes
                        .push(format!("the folder could not be given the owner of {}: {error}", self.root().display()));
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(unchanged(&error, "the folder could not be made", &draft.path)),
        };
        let result = self.create_file(draft, text, notes);
        if result.is_err() && made {
            // Only an empty folder goes: what somebody put there in the meantime stays.
            let _ = fs::remove_dir(&draft.dir);
        }
        result
    }

    /// The file of [`Stacks::create`].
    fn create_file(&self, draft: &Stack, text: &str, mut notes: Vec<String>) -> Result<Written, Fault> {
        // A folder that was there may be a link by now.
        let folder = fs::symlink_metadata(&draft.dir)
            .map_err(|error| unchanged(&error, "the folder cannot be reached", &draft.path))?;
        if !folder.is_dir() {
            return Err(Fault::new(Kind::Conflict, format!("{} is not a folder", draft.path.display())));
        }
        let target = draft.real(&draft.chosen);
        let temporary = written_beside(&target, text.as_bytes(), 0o644, &folder, &mut notes)
            .map_err(|error| unchanged(&error, "the file could not be written", &draft.chosen))?;
        // Another name would be found first or shadowed; checked as late as possible.
        if let Some(other) = super::stacks::COMPOSE_ORDER.iter().find(|name| draft.dir.join(name).exists()) {
            return Err(Fault::new(
                Kind::Conflict,
                format!("{} has got a {other} in the meantime; nothing was changed", draft.path.display()),
            ));
        }
        temporary.persist_noclobber(&target).map_err(|failed| {
            if failed.error.kind() == io::ErrorKind::AlreadyExists {
                let cause = format!(
                    "{} was made by somebody else in the meantime; nothing was changed",
                    draft.chosen.display()
                );
                return Fault::new(Kind::Conflict, cause);
            }
            unchanged(&failed.error, "the file could not be put in place", &draft.chosen)
        })?;
        settle(&draft.dir, &mut notes);
        if let Some(root) = draft.dir.parent() {
            settle(root, &mut notes);
        }
        Ok(Written {
            path: draft.chosen.clone(),
            created: true,
            changed: true,
            sha256: sha256(text.as_bytes()),
            previous_sha256: None,
            kept: None,
            notes,
        })
    }

    /// Replaces the stack's compose file, if it still holds what the caller read (`expected_sha256`, hex).
    pub(crate) fn replace(
        &self,
        _: &proof::Change,
        stack: &Stack,
        text: &str,
        expected_sha256: &str,
    ) -> Result<Written, Fault> {
        self.put(stack, text, Some(expected_sha256))
    }

    /// Replaces the stack's compose file whatever it holds. It is kept, but nobody has looked at it.
    pub(crate) fn overwrite(&self, _: &proof::Destroy, stack: &Stack, text: &str) -> Result<Written, Fault> {
        self.put(stack, text, None)
    }

    /// Keep, write beside, compare, rename.
    fn put(&self, stack: &Stack, text: &str, expected: Option<&str>) -> Result<Written, Fault> {
        short_enough(text)?;
        let target = resolve_below(&stack.dir, &stack.real(&stack.chosen))?;
        let before = read_regular(&target)?;
        let previous = sha256(&before);
        if let Some(expected) = expected.filter(|expected| !expected.trim().eq_ignore_ascii_case(&previous)) {
            return Err(Fault::new(
                Kind::Conflict,
                format!(
                    "{} is not what was read (expected SHA-256 {}, it is {previous}); nothing was changed",
                    stack.chosen.display(),
                    expected.chars().take(64).collect::<String>()
                ),
            )
            .hint("Somebody edited it: read it again and decide with what it says now."));
        }
        let mut written = Written {
            path: stack.chosen.clone(),
            created: false,
            changed: false,
            sha256: sha256(text.as_bytes()),
            previous_sha256: Some(previous.clone()),
            kept: None,
            notes: Vec::new(),
        };
        if written.sha256 == previous {
            return Ok(written);
        }
        let meta =
            fs::metadata(&target).map_err(|error| unchanged(&error, "the file cannot be reached", &stack.chosen))?;
        let temporary = written_beside(&target, text.as_bytes(), meta.mode() & 0o7777, &meta, &mut written.notes)
            .map_err(|error| unchanged(&error, "the new text could not be written", &stack.chosen))?;
        let kept = self.keep(stack, &file(&stack.chosen), &before, &previous)?;
        // The last look. What is left of the race is the time between these two lines.
        let now = read_regular(&target).map(|bytes| sha256(&bytes));
        if now.as_ref().ok() != Some(&previous) {
            let cause =
                format!("{} was changed by somebody else just now; nothing was changed", stack.chosen.display());
            return Err(Fault::new(Kind::Conflict, cause).hint("Read it again and decide with what it says now."));
        }
        temporary
            .persist(&target)
            .map_err(|failed| unchanged(&failed.error, "the new text could not be put in place", &stack.chosen))?;
        if let Some(dir) = target.parent() {
            settle(dir, &mut written.notes);
        }
        self.prune(stack, &kept);
        written.changed = true;
        written.kept = Some(kept);
        Ok(written)
    }

    /// Earlier versions of the stack's files, newest first.
    pub(crate) fn previous_versions(&self, stack: &Stack) -> Result<Vec<Kept>, Fault> {
        let Some(dir) = self.kept_dir(stack) else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Fault::new(Kind::Forbidden, format!("{} cannot be listed: {error}", dir.display())));
            }
        };
        let mut versions: Vec<(SystemTime, Kept)> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                let id = entry.file_name().into_string().ok()?;
                let (file, at) = parted(&id)?;
                let kept = Kept { file: file.to_owned(), at, path: entry.path(), bytes: meta.len(), id: id.clone() };
                Some((meta.modified().unwrap_or(at), kept))
            })
            .collect();
        // Two in one second are told by the time of the file itself.
        versions.sort_by(|(x, a), (y, b)| (b.at, y).cmp(&(a.at, x)));
        Ok(versions.into_iter().map(|(_, kept)| kept).collect())
    }

    /// One of [`Stacks::previous_versions`], by its id.
    pub(crate) fn read_kept(&self, stack: &Stack, id: &str) -> Result<Text, Fault> {
        let versions = self.previous_versions(stack)?;
        let Some(kept) = versions.into_iter().find(|kept| kept.id == id) else {
            let shown: String = id.chars().take(100).collect();
            return Err(Fault::new(
                Kind::NotFound,
                format!("no version {shown:?} of the stack {} is kept", stack.name),
            ));
        };
        let bytes = read_regular(&kept.path)?;
        let sha256 = sha256(&bytes);
        if !id.ends_with(sha256.get(..8).unwrap_or_default()) {
            return Err(Fault::new(Kind::Malformed, format!("{} no longer holds what was kept", kept.path.display())));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Text { path: kept.path, text, sha256, lossy: false }),
            // Bringing it back as text would change it.
            Err(_) => Err(Fault::new(Kind::Malformed, format!("{} is not UTF-8 text", kept.path.display()))),
        }
    }

    /// Where the versions of a stack are kept.
    fn kept_dir(&self, stack: &Stack) -> Option<PathBuf> {
        self.state_dir.as_ref().map(|dir| dir.join("kept").join(&stack.name))
    }

    /// Keeps what is about to be replaced. Without that, nothing is replaced.
    fn keep(&self, stack: &Stack, file: &str, bytes: &[u8], sha256: &str) -> Result<PathBuf, Fault> {
        let Some(dir) = self.kept_dir(stack) else {
            return Err(Fault::new(
                Kind::NotConfigured,
                "the present version could not be kept, because there is no writable STATE_DIR; nothing was changed",
            )
            .hint("Set STATE_DIR to a writable folder."));
        };
        let failed = |error: io::Error| unchanged(&error, "the present version could not be kept", &dir);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = dir.join(format!("{file}.{seconds}-{}", sha256.get(..8).unwrap_or(sha256)));
        // tempfile makes it 0600: compose files hold passwords.
        let mut temporary = temporary_in(&dir).map_err(failed)?;
        temporary.write_all(bytes).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(&path).map_err(|error| failed(error.error))?;
        settle(&dir, &mut Vec::new());
        Ok(path)
    }

    /// Removes the oldest versions beyond [`KEPT`]. Failing costs space, not truth.
    fn prune(&self, stack: &Stack, newest: &Path) {
        let versions = self.previous_versions(stack).unwrap_or_default();
        for old in versions.iter().filter(|kept| kept.path != newest).skip(KEPT - 1) {
            if let Err(error) = fs::remove_file(&old.path) {
                log::warn!("an old version could not be removed: {}: {error}", old.path.display());
            }
        }
    }
}

/// File name and time of a kept version's id.
fn parted(id: &str) -> Option<(&str, SystemTime)> {
    let (file, stamp) = id.rsplit_once('.')?;
    let (seconds, hash) = stamp.split_once('-')?;
    if file.is_empty() || hash.len() != 8 || !hash.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    Some((file, UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?))
}

/// What cannot be read back must not be written.
fn short_enough(text: &str) -> Result<(), Fault> {
    if text.len() as u64 <= LARGEST {
        return Ok(());
    }
    Err(Fault::new(Kind::Invalid, format!("the text is longer than {} KiB; nothing was changed", LARGEST / 1024)))
}

/// A file in `dir` that goes away unless it is put in place. Compose and Dockge know it by no name.
fn temporary_in(dir: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".homelab-mcp-").suffix(".tmp").tempfile_in(dir)
}

/// The new content, on disk, beside its target, with the mode and the owner that it is to have.
fn written_beside(
    target: &Path,
    bytes: &[u8],
    mode: u32,
    like: &fs::Metadata,
    notes: &mut Vec<String>,
) -> io::Result<NamedTempFile> {
    let dir = target.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut temporary = temporary_in(dir)?;
    temporary.write_all(bytes)?;
    // The owner first: changing it clears some mode bits.
    if let Err(error) = give_to(temporary.as_file(), like) {
        notes.push(format!("the file could not be given its owner {}:{}: {error}", like.uid(), like.gid()));
    }
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// Owner and group as another file has them. Without the right to, it fails only where there is a difference.
fn give_to(handle: &File, like: &fs::Metadata) -> io::Result<()> {
    let now = handle.metadata()?;
    if (now.uid(), now.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    fchown(handle, Some(like.uid()), Some(like.gid()))
}

/// Makes a rename last. It has happened by now, so a failure is only told.
fn settle(dir: &Path, notes: &mut Vec<String>) {
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        notes.push(format!("the change is made, but {} could not be flushed to disk: {error}", dir.display()));
    }
}

/// An error before anything was changed.
fn unchanged(error: &io::Error, what: &str, path: &Path) -> Fault {
    use io::ErrorKind as E;
    let (kind, why) = match error.kind() {
        E::StorageFull | E::QuotaExceeded => (Kind::Upstream, "the disk is full".to_owned()),
        E::ReadOnlyFilesystem => (Kind::Forbidden, "it lies on a read-only file system".to_owned()),
        E::PermissionDenied => (Kind::Forbidden, "homelab-mcp may not write there".to_owned()),
        E::ResourceBusy => (Kind::Forbidden, "it is mounted by itself and cannot be replaced".to_owned()),
        _ => (Kind::Upstream, error.to_string()),
    };
    let fault = Fault::new(kind, format!("{what} ({}): {why}; nothing was changed", path.display()));
    match error.kind() {
        E::StorageFull | E::QuotaExceeded => fault.hint("Make room on that disk first."),
        E::ReadOnlyFilesystem => fault.hint("Mount the folder writable for homelab-mcp."),
        E::PermissionDenied => fault.hint("Give the user that homelab-mcp runs as the right to write there."),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::backend::compose::stacks::name;

    struct Scene {
        dir: tempfile::TempDir,
        stacks: Stacks,
        proof: proof::Destroy,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("stacks");
            fs::create_dir_all(root.join("web")).unwrap();
            fs::write(root.join("web/docker-compose.yml"), "one").unwrap();
            let stacks = Stacks::new(root, Some(dir.path().join("state")));
            Self { dir, stacks, proof: proof::destroy() }
        }

        fn web(&self) -> Stack {
            self.stacks.find(&name("web").unwrap()).unwrap()
        }

        fn files(&self, folder: &str) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path().join(folder)).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_file_is_replaced_under_its_own_name_and_kept() {
        let scene = Scene::new();
        let target = scene.stacks.root().join("web/docker-compose.yml");
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            chown(&target, Some(1234), Some(4321)).unwrap();
        }
        let written = scene.stacks.replace(&scene.proof, &scene.web(), "two", &sha256(b"one")).unwrap();
        assert!(!written.created && written.changed && written.notes.is_empty(), "{written:?}");
        assert_eq!((written.path.as_path(), written.sha256), (target.as_path(), sha256(b"two")));
        assert_eq!(written.previous_sha256, Some(sha256(b"one")));
        let meta = fs::metadata(&target).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o640);
        assert!(!root || (meta.uid(), meta.gid()) == (1234, 4321));
        assert_eq!(scene.files("stacks/web"), ["docker-compose.yml"]);

        let kept = written.kept.unwrap();
        assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
        for dir in [kept.parent().unwrap(), kept.parent().unwrap().parent().unwrap()] {
            assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
        }
        let versions = scene.stacks.previous_versions(&scene.web()).unwrap();
        assert_eq!((versions.len(), versions[0].file.as_str()), (1, "docker-compose.yml"));
        assert_eq!(scene.stacks.read_kept(&scene.web(), &versions[0].id).unwrap().text, "one");
        for bad in ["../../x", "", "docker-compose.yml"] {
            assert_eq!(scene.stacks.read_kept(&scene.web(), bad).unwrap_err().kind, Kind::NotFound);
        }
    }

    #[test]
    fn another_hash_or_the_same_text_changes_nothing() {
        let scene = Scene::new();
        let fault = scene.stacks.replace(&scene.proof, &scene.web(), "two", &sha256(b"zero")).unwrap_err();
        assert!(fault.kind == Kind::Conflict && fault.cause.contains(&sha256(b"one")), "{}", fault.cause);
        let same = scene.stacks.overwrite(&scene.proof, &scene.web(), "one").unwrap();
        assert!(!same.changed && same.kept.is_none());
        assert!(scene.files("state/kept/web").is_empty());
        let long = "#".repeat(2 << 20);
        assert_eq!(scene.stacks.overwrite(&scene.proof, &scene.web(), &long).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn what_cannot_be_kept_is_not_replaced() {
        let scene = Scene::new();
        let without = Stacks::new(scene.stacks.root().to_owned(), None);
        assert_eq!(without.overwrite(&scene.proof, &scene.web(), "two").unwrap_err().kind, Kind::NotConfigured);
        // A file where the folder should be: fails for root too.
        fs::write(scene.dir.path().join("state"), "").unwrap();
        let fault = scene.stacks.overwrite(&scene.proof, &scene.web(), "two").unwrap_err();
        assert!(fault.cause.contains("nothing was changed"), "{}", fault.cause);
        assert_eq!(fs::read_to_string(&scene.web().chosen).unwrap(), "one");
        assert_eq!(scene.files("stacks/web"), ["docker-compose.yml"]);
    }

    #[test]
    fn twenty_versions_are_kept() {
        let scene = Scene::new();
        for n in 0..25 {
            scene.stacks.overwrite(&scene.proof, &scene.web(), &format!("version {n}")).unwrap();
        }
        let versions = scene.stacks.previous_versions(&scene.web()).unwrap();
        assert_eq!(versions.len(), KEPT);
        assert_eq!(scene.stacks.read_kept(&scene.web(), &versions[0].id).unwrap().text, "version 23");
        assert_eq!(scene.stacks.read_kept(&scene.web(), &versions[19].id).unwrap().text, "version 4");
    }

    #[test]
    fn a_link_inside_the_folder_is_kept_and_one_out_of_it_refused() {
        let scene = Scene::new();
        let web = scene.stacks.root().join("web");
        fs::rename(web.join("docker-compose.yml"), web.join("real.yml")).unwrap();
        symlink("real.yml", web.join("compose.yaml")).unwrap();
        scene.stacks.overwrite(&scene.proof, &scene.web(), "two").unwrap();
        assert!(web.join("compose.yaml").is_symlink());
        assert_eq!(fs::read_to_string(web.join("real.yml")).unwrap(), "two");

        fs::write(scene.dir.path().join("outside"), "precious").unwrap();
        fs::remove_file(web.join("compose.yaml")).unwrap();
        symlink("../../outside", web.join("compose.yaml")).unwrap();
        assert_eq!(scene.stacks.overwrite(&scene.proof, &scene.web(), "two").unwrap_err().kind, Kind::Forbidden);
        assert_eq!(fs::read_to_string(scene.dir.path().join("outside")).unwrap(), "precious");
    }

    #[test]
    fn a_new_stack_is_made_once() {
        let scene = Scene::new();
        let root = rustix::process::geteuid().is_root();
        if root {
            chown(scene.stacks.root(), Some(1000), Some(1001)).unwrap();
        }
        let new = name("new").unwrap();
        let [first, second] = [scene.stacks.draft(&new).unwrap(), scene.stacks.draft(&new).unwrap()];
        let written = scene.stacks.create(&scene.proof, &first, "a").unwrap();
        assert!(written.created && written.notes.is_empty() && written.previous_sha256.is_none());
        let [dir, text] = [&first.path, &first.chosen].map(|path| fs::metadata(path).unwrap());
        assert_eq!((dir.mode() & 0o777, text.mode() & 0o777), (0o755, 0o644));
        assert!(!root || [dir.uid(), dir.gid(), text.uid(), text.gid()] == [1000, 1001, 1000, 1001]);
        assert_eq!(scene.stacks.create(&scene.proof, &second, "b").unwrap_err().kind, Kind::Conflict);
        assert_eq!(fs::read_to_string(&first.chosen).unwrap(), "a");
        assert_eq!(scene.files("stacks/new"), ["compose.yaml"]);
        assert_eq!(scene.stacks.find(&new).unwrap().name, "new");
    }

    #[test]
    fn a_folder_that_became_a_link_is_not_written_through() {
        let scene = Scene::new();
        let draft = scene.stacks.draft(&name("new").unwrap()).unwrap();
        symlink(scene.dir.path(), scene.stacks.root().join("new")).unwrap();
        assert_eq!(scene.stacks.create(&scene.proof, &draft, "a").unwrap_err().kind, Kind::Conflict);
        assert_eq!(scene.files("."), ["stacks"]);
    }

    #[test]
    fn a_folder_that_may_not_be_written_to_is_told_so() {
        // Nothing is forbidden to root.
        if rustix::process::geteuid().is_root() {
            return;
        }
        let scene = Scene::new();
        let web = scene.web();
        fs::set_permissions(&web.dir, Permissions::from_mode(0o555)).unwrap();
        let fault = scene.stacks.overwrite(&scene.proof, &web, "two").unwrap_err();
        fs::set_permissions(&web.dir, Permissions::from_mode(0o755)).unwrap();
        assert!(fault.kind == Kind::Forbidden && fault.cause.contains("may not write"), "{}", fault.cause);
        assert!(scene.files("state/kept/web").is_empty());
    }
}
