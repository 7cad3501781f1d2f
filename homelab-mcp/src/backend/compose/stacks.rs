//! Stack folders as Dockge lays them out: which there are, which files compose would read there, and what they say.
//! Nothing here runs a program or changes a file: running is `command.rs`, writing is `write.rs`, and which containers
//! belong to which folder is `states.rs`.
//!
//! Everything is blocking but short: small files, opened so that a pipe or a device cannot hold us.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, Read},
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};

use crate::error::{Fault, Kind};
use crate::state::sha256;

/// The names compose accepts, in the order in which compose looks for them.
pub(super) const COMPOSE_ORDER: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The same names in the order in which Dockge looks for the file that it shows and edits.
const DOCKGE_ORDER: [&str; 4] = ["compose.yaml", "docker-compose.yaml", "docker-compose.yml", "compose.yml"];

/// Files that compose lays over the first one. It takes the first of them that there is, and no other.
const OVERRIDE_ORDER: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The longest file that is read or written. Compose files of homelabs have a few KiB.
pub(crate) const LARGEST: u64 = 1 << 20;

/// The longest stack name.
const LONGEST_NAME: usize = 64;

/// How many existing names an error offers.
const NEAREST: usize = 5;

/// A name that is one path component, a legal compose project name and nothing else: the only way from a caller's text
/// to a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StackName(String);

impl StackName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A caller's text as a stack name.
pub(crate) fn name(text: &str) -> Result<StackName, Fault> {
    if is_name(text) {
        return Ok(StackName(text.to_owned()));
    }
    let shown: String = text.chars().take(LONGEST_NAME).collect();
    Err(Fault::new(
        Kind::Invalid,
        format!(
            "{shown:?} is no stack name; allowed are lower-case letters, digits, `-` and `_`, the first a letter or a \
             digit, {LONGEST_NAME} characters at most"
        ),
    ))
}

/// The rule of [`name`].
fn is_name(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= LONGEST_NAME
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'-' || c == b'_')
}

/// Where the stacks lie.
#[derive(Clone, Debug)]
pub(crate) struct Stacks {
    /// As configured, made absolute. Compose is given paths below this one, because they end up in labels and bind
    /// mounts, and Dockge and people in a shell have them in this form.
    pub(super) root: PathBuf,
    /// Where earlier versions of files are kept: `STATE_DIR`, if it is writable.
    pub(super) state_dir: Option<PathBuf>,
    /// Held by whoever finds out whether the folder answers.
    probe: Arc<tokio::sync::Mutex<()>>,
}

/// What is known of a folder from its files alone.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// The folder's name; for an alias, the name of the folder it leads to.
    pub(crate) name: String,
    /// Why homelab-mcp does not operate it, if it does not: a whole sentence without a full stop.
    pub(crate) inoperable: Option<String>,
    /// The name of the symbolic link that it was reached by, if it was.
    pub(crate) alias: Option<String>,
    /// The folder without any symbolic link: what is read and written.
    pub(crate) dir: PathBuf,
    /// The folder below the root as configured: what compose is given.
    pub(crate) path: PathBuf,
    /// Whether there is a folder with a compose file. False only for a stack that is about to be created.
    pub(crate) exists: bool,
    /// The compose files that there are, in compose's order, below `path`. Override files are not among them.
    pub(crate) files: Vec<PathBuf>,
    /// The file that reading and writing mean: the first that compose uses.
    pub(crate) chosen: PathBuf,
    /// All files compose is to use, in order; the first is `chosen`.
    pub(crate) used: Vec<PathBuf>,
    /// The file that Dockge shows and edits, when that is another one than `chosen`.
    pub(crate) dockge_shows: Option<PathBuf>,
    /// Whether there is a `.env` beside the compose file.
    pub(crate) has_env: bool,
    /// The `global.env` of all stacks, if there is one.
    pub(crate) global_env: Option<PathBuf>,
    /// The project name compose would choose. `Compose::config` knows it for certain.
    pub(crate) project: String,
    /// Whether `project` is a guess because the name has variables in it.
    pub(crate) project_uncertain: bool,
    /// What a reader should know: sentences without a full stop.
    pub(crate) notes: Vec<String>,
}

/// A folder that may be operated: [`Stacks::find`] and [`Stacks::draft`] are the only ways to one.
#[derive(Clone, Debug)]
pub(crate) struct Stack(pub(super) Folder);

impl Deref for Stack {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.0
    }
}

/// Every stack folder, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// Folders with a compose file, aliases included.
    pub(crate) folders: Vec<Folder>,
    /// Folders that could not be looked into, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// A file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Where it lies, below the root as configured.
    pub(crate) path: PathBuf,
    /// What it says. Bytes that are not UTF-8 are replaced; then `lossy` is set.
    pub(crate) text: String,
    /// The SHA-256 of its bytes, in hex.
    pub(crate) sha256: String,
    /// Whether the text is not exactly what the file holds.
    pub(crate) lossy: bool,
}

/// How long a folder may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Runs `look` on another thread. While one that hangs holds `probe`, the others do not hang with it.
async fn answers(
    probe: &Arc<tokio::sync::Mutex<()>>,
    limit: Duration,
    look: impl FnOnce() + Send + 'static,
) -> Result<(), ()> {
    let probe = probe.clone();
    let looking = async {
        let held = probe.lock_owned().await;
        tokio::task::spawn_blocking(move || {
            let _held = held;
            look();
        })
        .await
    };
    // A look that crashed is none that hangs.
    tokio::time::timeout(limit, looking).await.map(drop).map_err(drop)
}

impl Stacks {
    /// The stacks below `root` (`DOCKGE_STACKS_PATH`). Whether it exists is asked at each call: a share may be mounted
    /// later than we start. Without a `state_dir` nothing can be replaced, because what was there could not be kept.
    pub(crate) fn new(root: PathBuf, state_dir: Option<PathBuf>) -> Self {
        let root = std::path::absolute(&root).unwrap_or(root);
        Self { root, state_dir, probe: Arc::default() }
    }

    /// The root as configured.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the stacks folder, and that of one stack, answer at all. A hanging network share holds up whoever looks
    /// into it; so this is found out on another thread, by one call at a time, before anything is read on ours.
    pub(crate) async fn answers(&self, stack: Option<&StackName>) -> Result<(), Fault> {
        let path = stack.map_or_else(|| self.root.clone(), |name| self.root.join(name.as_str()));
        answers(&self.probe, ANSWER, move || {
            // What is wrong otherwise is for those to say who need it.
            let _ = std::fs::read_dir(path).map(|mut entries| entries.next());
        })
        .await
        .map_err(|()| {
            let text = format!("the stacks folder {} did not answer within {ANSWER:?}", self.root.display());
            Fault::new(Kind::Unreachable, text).hint("If it is a network share, look at its server.")
        })
    }

    /// The root without symbolic links, which must be a folder.
    pub(super) fn real_root(&self) -> Result<PathBuf, Fault> {
        let missing = |why: &dyn fmt::Display| {
            Fault::new(Kind::NotConfigured, format!("the stacks folder {} {why}", self.root.display())).hint(
                "Set DOCKGE_STACKS_PATH to the folder that holds the stacks; in a container, mount it there under the \
                 same path as on the host.",
            )
        };
        let real = self.root.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(&"does not exist"),
            _ => missing(&format_args!("cannot be reached: {error}")),
        })?;
        if real.is_dir() { Ok(real) } else { Err(missing(&"is not a folder")) }
    }

    /// The stack of that name, which must have a compose file.
    pub(crate) fn find(&self, name: &StackName) -> Result<Stack, Fault> {
        let root = self.real_root()?;
        let folder = match self.inspect(&root, OsStr::new(name.as_str()))? {
            Seen::Folder(folder) => *folder,
            Seen::Bare => {
                return Err(self.not_found(&root, name, "the folder has no compose file, so it is not a stack"));
            }
            Seen::Nothing => return Err(self.not_found(&root, name, "there is no such stack")),
        };
        match &folder.inoperable {
            Some(why) => Err(Fault::new(Kind::Forbidden, why.clone())),
            None => Ok(Stack(folder)),
        }
    }

    /// What a stack of that name will be once it is created: `compose.yaml` in a folder of that name. Conflict if there
    /// is one.
    pub(crate) fn draft(&self, name: &StackName) -> Result<Stack, Fault> {
        let root = self.real_root()?;
        match self.inspect(&root, OsStr::new(name.as_str()))? {
            Seen::Folder(folder) => {
                return Err(Fault::new(
                    Kind::Conflict,
                    format!("the stack {name} exists already, with {}", folder.chosen.display()),
                ));
            }
            Seen::Bare if root.join(name.as_str()).is_symlink() => {
                return Err(Fault::new(
                    Kind::Conflict,
                    format!("{name} is a symbolic link to a folder of another name"),
                ));
            }
            Seen::Bare | Seen::Nothing => {}
        }
        let path = self.root.join(name.as_str());
        let mut folder = Folder {
            name: name.to_string(),
            inoperable: None,
            alias: None,
            dir: root.join(name.as_str()),
            exists: false,
            files: Vec::new(),
            chosen: path.join(COMPOSE_ORDER[0]),
            used: vec![path.join(COMPOSE_ORDER[0])],
            dockge_shows: None,
            has_env: path.join(".env").is_file(),
            global_env: self.global_env(),
            project: name.to_string(),
            project_uncertain: false,
            notes: Vec::new(),
            path,
        };
        let variables = folder.variables();
        if let Some(name) = variables.get("COMPOSE_PROJECT_NAME").filter(|n| !n.is_empty()) {
            folder.project.clone_from(name);
        }
        if variables.contains_key("COMPOSE_FILE") {
            return Err(Fault::new(
                Kind::Conflict,
                format!(
                    "the .env or global.env of {name} sets COMPOSE_FILE, so compose would not read a new compose.yaml"
                ),
            ));
        }
        // An override file that lies there already will be laid over the new file.
        let existing = OVERRIDE_ORDER.iter().map(|name| folder.path.join(name)).find(|path| path.is_file());
        folder.used.extend(existing);
        Ok(Stack(folder))
    }

    /// Every stack folder. One that cannot be read costs a note, not the list.
    pub(crate) fn list(&self) -> Result<Listing, Fault> {
        let root = self.real_root()?;
        let unreadable = |error: io::Error| {
            Fault::new(Kind::Forbidden, format!("the stacks folder {} cannot be listed: {error}", self.root.display()))
        };
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(&root).map_err(unreadable)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    listing.notes.push(format!("an entry of {} could not be read: {error}", self.root.display()));
                    continue;
                }
            };
            // A plain file is not looked at; a link may lead to a folder.
            if entry.file_type().is_ok_and(|kind| !kind.is_dir() && !kind.is_symlink()) {
                continue;
            }
            match self.inspect(&root, &entry.file_name()) {
                Ok(Seen::Folder(folder)) => listing.folders.push(*folder),
                Ok(Seen::Bare | Seen::Nothing) => {}
                Err(fault) => listing.notes.push(format!("{}: {}", entry.file_name().display(), fault.cause)),
            }
        }
        listing.folders.sort_by(|a, b| (&a.name, &a.alias).cmp(&(&b.name, &b.alias)));
        listing.notes.sort();
        Ok(listing)
    }

    /// The stack's compose file.
    pub(crate) fn read(&self, stack: &Stack) -> Result<Text, Fault> {
        stack.text(&stack.chosen)
    }

    /// Another file that compose uses for this stack (an override): one of `stack.used`.
    pub(crate) fn read_used(&self, stack: &Stack, file: &Path) -> Result<Text, Fault> {
        if !stack.used.iter().any(|used| used == file) {
            return Err(Fault::new(
                Kind::Invalid,
                format!("{} is no file of the stack {}", file.display(), stack.name),
            ));
        }
        stack.text(file)
    }

    /// The values of its env files, longest first; those too short to be a secret are left out.
    pub(crate) fn env_values(&self, stack: &Stack) -> Vec<String> {
        /// Shorter ones are words that stand everywhere: `true`, `web`, `5432`.
        const SHORTEST: usize = 6;
        let own = self.read_env(stack).ok().flatten().map(|env| env.text);
        let global = stack.global_env.as_deref().and_then(|path| std::fs::read_to_string(path).ok());
        let mut values: Vec<String> = own
            .iter()
            .chain(&global)
            .flat_map(|text| text.lines())
            .filter_map(|line| line.split_once('='))
            .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
            .filter(|value| value.len() >= SHORTEST)
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values
    }

    /// The stack's `.env`, if it has one. It holds secrets.
    pub(crate) fn read_env(&self, stack: &Stack) -> Result<Option<Text>, Fault> {
        if stack.has_env { stack.text(&stack.path.join(".env")).map(Some) } else { Ok(None) }
    }

    /// Looks at one entry of the root. An error is about this entry only.
    fn inspect(&self, root: &Path, entry: &OsStr) -> Result<Seen, Fault> {
        let at = root.join(entry);
        let dir = match at.canonicalize() {
            Ok(dir) => dir,
            // A link to nowhere is no stack either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
            Err(error) => return Err(Fault::new(Kind::Forbidden, format!("the folder cannot be reached: {error}"))),
        };
        if !dir.is_dir() {
            return Ok(Seen::Nothing);
        }
        // The target of a link must be a stack folder itself, or its name would not be one path component.
        if dir.parent() != Some(root) {
            return Err(Fault::new(
                Kind::Forbidden,
                format!(
                    "{} is a symbolic link to {}, which is not a folder directly in {}; homelab-mcp does not follow it",
                    entry.display(),
                    dir.display(),
                    self.root.display()
                ),
            ));
        }
        let base = dir.file_name().unwrap_or(entry).to_owned();
        let path = self.root.join(&base);
        let present = |names: &[&str]| -> Result<Vec<PathBuf>, Fault> {
            let mut found = Vec::new();
            for name in names {
                match dir.join(name).metadata() {
                    Ok(meta) if meta.is_dir() => {}
                    Ok(_) => found.push(path.join(name)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(Fault::new(Kind::Forbidden, format!("the folder cannot be looked into: {error}")));
                    }
                }
            }
            Ok(found)
        };
        let files = present(&COMPOSE_ORDER)?;
        let Some(chosen) = files.first().cloned() else { return Ok(Seen::Bare) };
        let overrides = present(&OVERRIDE_ORDER)?;

        let mut folder = Folder {
            name: base.to_string_lossy().into_owned(),
            inoperable: None,
            alias: (base != entry).then(|| entry.to_string_lossy().into_owned()),
            dir,
            has_env: path.join(".env").is_file(),
            path,
            exists: true,
            used: vec![chosen.clone()],
            chosen,
            files,
            dockge_shows: None,
            global_env: self.global_env(),
            project: String::new(),
            project_uncertain: false,
            notes: Vec::new(),
        };
        if !base.to_str().is_some_and(is_name) {
            folder.inoperable = Some(format!(
                "the folder name {:?} is not one that homelab-mcp operates (lower-case letters, digits, `-` and `_`, \
                 the first a letter or a digit, {LONGEST_NAME} characters at most)",
                folder.name
            ));
        }
        let variables = folder.variables();
        match variables.get("COMPOSE_FILE").filter(|list| !list.is_empty()) {
            None => folder.used.extend(overrides.first().cloned()),
            Some(list) => folder.follow_compose_file(list, variables.get("COMPOSE_PATH_SEPARATOR").map(String::as_str)),
        }
        if let [_, second, ..] = &overrides[..]
            && !variables.contains_key("COMPOSE_FILE")
        {
            folder.notes.push(format!("compose ignores {}: it lays one override file over the first", file(second)));
        }
        folder.see_names(&variables);
        Ok(Seen::Folder(Box::new(folder)))
    }

    /// The `global.env` that Dockge gives to every stack.
    fn global_env(&self) -> Option<PathBuf> {
        Some(self.root.join("global.env")).filter(|path| path.is_file())
    }

    /// Says what there is instead.
    fn not_found(&self, root: &Path, name: &StackName, why: &str) -> Fault {
        let fault = Fault::new(Kind::NotFound, format!("{why} ({})", self.root.join(name.as_str()).display()));
        let mut names: Vec<(usize, String)> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| COMPOSE_ORDER.iter().any(|file| entry.path().join(file).exists()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .map(|other| (distance(name.as_str(), &other), other))
            .collect();
        names.sort();
        let total = names.len();
        let near: Vec<String> = names.into_iter().take(NEAREST).map(|(_, name)| name).collect();
        match (near.len(), total) {
            (0, _) => fault.hint("There are no stacks at all."),
            (shown, total) if shown == total => fault.hint(format!("Stacks: {}.", near.join(", "))),
            (_, total) => fault.hint(format!("Nearest of {total} stacks: {}.", near.join(", "))),
        }
    }
}

/// What an entry of the root is.
enum Seen {
    /// No folder of that name.
    Nothing,
    /// A folder without a compose file.
    Bare,
    /// A folder with one.
    Folder(Box<Folder>),
}

impl Folder {
    /// A file of this folder as text.
    pub(super) fn text(&self, path: &Path) -> Result<Text, Fault> {
        let bytes = read_below(&self.dir, &self.real(path))?;
        let sha256 = sha256(&bytes);
        let (text, lossy) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
        };
        Ok(Text { path: path.to_owned(), text, sha256, lossy })
    }

    /// The same file without the symbolic links of the root.
    pub(super) fn real(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.path).map_or_else(|_| path.to_owned(), |rest| self.dir.join(rest))
    }

    /// The variables of `global.env` and `.env`, the latter winning, as far as choosing files and names needs them.
    fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let global = self.global_env.as_ref().and_then(|path| {
            let path = path.canonicalize().ok()?;
            read_below(path.parent()?, &path).ok()
        });
        let own = self.has_env.then(|| read_below(&self.dir, &self.dir.join(".env")).ok()).flatten();
        for bytes in [global, own].into_iter().flatten() {
            env_lines(&String::from_utf8_lossy(&bytes), &mut variables);
        }
        variables
    }

    /// `COMPOSE_FILE` in an env file replaces compose's own choice; what Dockge runs obeys it, so we do.
    fn follow_compose_file(&mut self, list: &str, separator: Option<&str>) {
        let separator = separator.filter(|s| !s.is_empty()).unwrap_or(":");
        let files: Vec<PathBuf> = list.split(separator).map(|file| self.path.join(file.trim())).collect();
        // Only plain files of this folder: what lies elsewhere is not this stack's to read or to replace.
        let followed = !list.contains('$')
            && files.iter().all(|file| self.real(file).canonicalize().is_ok_and(|real| real.starts_with(&self.dir)));
        match files.first() {
            Some(first) if followed => {
                self.notes.push(format!("an env file sets COMPOSE_FILE={list}, so compose reads that"));
                self.chosen = first.clone();
                if !self.files.contains(first) {
                    self.files.insert(0, first.clone());
                }
                self.used = files;
            }
            _ => {
                self.inoperable = self.inoperable.take().or_else(|| {
                    Some(format!(
                        "an env file of the stack sets COMPOSE_FILE={list}, which homelab-mcp does not follow: it names \
                         something other than files in the stack's folder"
                    ))
                });
            }
        }
    }

    /// Works out the project name and which file Dockge shows.
    fn see_names(&mut self, variables: &BTreeMap<String, String>) {
        let shown = DOCKGE_ORDER.iter().map(|name| self.path.join(name)).find(|path| self.files.contains(path));
        if let Some(shown) = shown.filter(|shown| *shown != self.chosen) {
            self.notes.push(format!(
                "there are several compose files: compose uses {}, Dockge shows and edits {}",
                file(&self.chosen),
                file(&shown)
            ));
            self.dockge_shows = Some(shown);
        }
        // The last file that has a name wins, as in compose.
        let mut named = None;
        for path in &self.used {
            match self.text(path) {
                Ok(text) => named = top_level_name(&text.text).or(named),
                Err(fault) => self.notes.push(format!("{}: {}", file(path), fault.cause)),
            }
        }
        let chosen = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned().or(named);
        self.project_uncertain = chosen.as_ref().is_some_and(|name| name.contains('$'));
        self.project = chosen.filter(|name| !name.contains('$')).unwrap_or_else(|| normalised(&self.name));
    }
}

/// A path's last component, for sentences.
pub(super) fn file(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
}

/// Where a file really lies, if that is below `dir` (which has no symbolic links itself).
pub(super) fn resolve_below(dir: &Path, path: &Path) -> Result<PathBuf, Fault> {
    let real = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::new(Kind::NotFound, format!("there is no file {}", path.display())),
        _ => Fault::new(Kind::Forbidden, format!("{} cannot be reached: {error}", path.display())),
    })?;
    if real.starts_with(dir) && real != dir {
        return Ok(real);
    }
    Err(Fault::new(
        Kind::Forbidden,
        format!(
            "{} leads out of its folder by a symbolic link, so homelab-mcp does not read or replace it",
            path.display()
        ),
    ))
}

/// The bytes of a regular file below `dir`, at most [`LARGEST`] of them.
pub(super) fn read_below(dir: &Path, path: &Path) -> Result<Vec<u8>, Fault> {
    let real = resolve_below(dir, path)?;
    read_regular(&real)
}

/// The bytes of a regular file, at most [`LARGEST`] of them.
pub(super) fn read_regular(path: &Path) -> Result<Vec<u8>, Fault> {
    let refused = |why: &dyn fmt::Display| Fault::new(Kind::Forbidden, format!("{} {why}", path.display()));
    // NONBLOCK so that opening a pipe returns; NOFOLLOW because the path was resolved just before.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| refused(&format_args!("cannot be read: {}", io::Error::from(error))))?;
    let handle = File::from(handle);
    let meta = handle.metadata().map_err(|error| refused(&format_args!("cannot be read: {error}")))?;
    if !meta.is_file() {
        return Err(refused(&"is not a regular file"));
    }
    let mut bytes = Vec::new();
    // The length may change or be a lie (as in /proc), so the reading itself is bounded.
    handle
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refused(&format_args!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Fault::new(
            Kind::Invalid,
            format!("{} is longer than {} KiB, more than homelab-mcp reads", path.display(), LARGEST / 1024),
        ));
    }
    Ok(bytes)
}

/// The project name compose makes of a folder name.
pub(super) fn normalised(folder: &str) -> String {
    let kept: String = folder
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-' || *c == '_')
        .collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

/// The top-level `name:` of a compose file, as far as it is on one line, which it is in practice. The parser that
/// decides is compose's own.
fn top_level_name(text: &str) -> Option<String> {
    let value = text.trim_start_matches('\u{feff}').lines().find_map(|line| line.strip_prefix("name:"))?;
    if !value.is_empty() && !value.starts_with([' ', '\t']) {
        return None;
    }
    let name = scalar(value);
    (!name.is_empty()).then_some(name)
}

/// Adds the assignments of an env file.
fn env_lines(text: &str, into: &mut BTreeMap<String, String>) {
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') {
            into.insert(name.trim().to_owned(), scalar(value));
        }
    }
}

/// A value without its quotes, or without its comment.
fn scalar(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inner, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    let bare = if value.starts_with('#') { "" } else { value };
    bare.split_once(" #").map_or(bare, |(bare, _)| bare).trim().to_owned()
}

/// How many single-character edits lie between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (corner + usize::from(x != *y)).min(above + 1).min(left + 1);
            *cell = left;
            corner = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn stacks(dir: &Path, files: &[(&str, &str)]) -> Stacks {
        let root = dir.join("stacks");
        fs::create_dir_all(&root).unwrap();
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Stacks::new(root, Some(dir.join("state")))
    }

    fn find(stacks: &Stacks, text: &str) -> Result<Stack, Fault> {
        stacks.find(&name(text)?)
    }

    #[test]
    fn a_name_is_one_harmless_path_component() {
        for good in ["web", "0a", "a-b_c", &"a".repeat(64)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", "../x", "a/b", "-p", "_a", "Web", "a b", "a.b", "ä", "a\0", "a\n", "/etc", &"a".repeat(65)]
        {
            let fault = name(bad).unwrap_err();
            assert_eq!(fault.kind, Kind::Invalid);
            assert!(fault.cause.contains("lower-case letters"), "{}", fault.cause);
        }
    }

    #[test]
    fn composes_order_decides_and_dockges_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let stacks = stacks(
            dir.path(),
            &[
                ("one/docker-compose.yml", ""),
                ("two/compose.yml", "name: 'other' # why"),
                ("two/docker-compose.yaml", ""),
                ("over/compose.yaml", ""),
                ("over/docker-compose.override.yml", "name: late"),
                ("over/compose.override.yaml", ""),
                ("empty/readme", ""),
            ],
        );
        let one = find(&stacks, "one").unwrap();
        assert!(one.chosen.ends_with("one/docker-compose.yml") && one.dockge_shows.is_none() && one.project == "one");
        let two = find(&stacks, "two").unwrap();
        assert!(two.chosen.ends_with("two/compose.yml") && two.project == "other");
        assert!(two.dockge_shows.as_ref().unwrap().ends_with("docker-compose.yaml") && !two.notes.is_empty());
        let over = find(&stacks, "over").unwrap();
        assert_eq!(over.used.len(), 2);
        assert!(over.used[1].ends_with("compose.override.yaml"), "{over:?}");
        assert!(over.notes[0].contains("docker-compose.override.yml"), "{:?}", over.notes);

        let fault = find(&stacks, "empty").unwrap_err();
        assert!(fault.kind == Kind::NotFound && fault.cause.contains("no compose file"));
        let fault = find(&stacks, "ovr").unwrap_err();
        assert_eq!(fault.hint.as_deref(), Some("Stacks: over, one, two."));
        let names: Vec<_> = stacks.list().unwrap().folders.into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["one", "over", "two"]);
    }

    #[test]
    fn env_files_choose_project_and_files_as_compose_does() {
        let dir = tempfile::tempdir().unwrap();
        let stacks = stacks(
            dir.path(),
            &[
                ("global.env", "COMPOSE_PROJECT_NAME=everywhere\n"),
                ("a/compose.yaml", "name: fromfile"),
                ("b/compose.yaml", "name: fromfile"),
                ("b/.env", "# c\nexport COMPOSE_PROJECT_NAME=\"mine\"\nSECRET=x"),
                ("c/compose.yaml", ""),
                ("c/x.yml", ""),
                ("c/.env", "COMPOSE_FILE=x.yml:compose.yaml"),
                ("d/compose.yaml", ""),
                ("d/.env", "COMPOSE_FILE=../a/compose.yaml"),
            ],
        );
        assert_eq!(find(&stacks, "a").unwrap().project, "everywhere");
        let b = find(&stacks, "b").unwrap();
        assert!(b.project == "mine" && b.has_env && b.global_env.is_some());
        assert!(stacks.read_env(&b).unwrap().unwrap().text.contains("SECRET"));
        let c = find(&stacks, "c").unwrap();
        assert!(c.chosen.ends_with("c/x.yml") && c.used.len() == 2 && c.notes[0].contains("COMPOSE_FILE"));
        let fault = find(&stacks, "d").unwrap_err();
        assert!(fault.kind == Kind::Forbidden && fault.cause.contains("COMPOSE_FILE"));
    }

    #[test]
    fn links_out_of_the_root_or_the_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let stacks = stacks(
            dir.path(),
            &[
                ("web/compose.yaml", "services: {}"),
                ("link/real.yaml", "x: 1"),
                ("out/other", ""),
                ("My App/compose.yml", ""),
            ],
        );
        let root = stacks.root().to_owned();
        fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
        fs::write(dir.path().join("elsewhere/compose.yaml"), "secret").unwrap();
        symlink(dir.path().join("elsewhere"), root.join("escape")).unwrap();
        symlink("web", root.join("web2")).unwrap();
        symlink("web/..", root.join("loop")).unwrap();
        symlink("real.yaml", root.join("link/compose.yaml")).unwrap();
        symlink("/etc/shadow", root.join("out/compose.yaml")).unwrap();

        let fault = find(&stacks, "escape").unwrap_err();
        assert!(fault.kind == Kind::Forbidden && fault.cause.contains("symbolic link"), "{}", fault.cause);
        assert!(find(&stacks, "loop").is_err());
        let alias = find(&stacks, "web2").unwrap();
        assert!(alias.name == "web" && alias.alias.as_deref() == Some("web2") && alias.path == root.join("web"));
        let link = find(&stacks, "link").unwrap();
        assert_eq!(stacks.read(&link).unwrap().text, "x: 1");
        let out = find(&stacks, "out").unwrap();
        let fault = stacks.read(&out).unwrap_err();
        assert!(fault.kind == Kind::Forbidden && fault.cause.contains("out of its folder"), "{}", fault.cause);

        let listing = stacks.list().unwrap();
        assert!(listing.notes.iter().any(|note| note.starts_with("escape:")), "{:?}", listing.notes);
        let odd = listing.folders.iter().find(|f| f.name == "My App").unwrap();
        assert!(odd.inoperable.is_some() && odd.project == "myapp");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_small_regular_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let stacks = stacks(dir.path(), &[("big/compose.yaml", &"#".repeat((1 << 20) + 1)), ("pipe/x", "")]);
        let big = find(&stacks, "big").unwrap();
        assert!(stacks.read(&big).unwrap_err().cause.contains("1024 KiB"));
        let pipe = stacks.root().join("pipe/compose.yaml");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let pipe = find(&stacks, "pipe").unwrap();
        assert!(stacks.read(&pipe).unwrap_err().cause.contains("not a regular file"));
    }

    #[test]
    fn a_missing_root_names_its_variable() {
        let stacks = Stacks::new("/nonexistent/stacks".into(), None);
        let fault = stacks.list().unwrap_err();
        assert!(fault.kind == Kind::NotConfigured && fault.hint.unwrap().contains("DOCKGE_STACKS_PATH"));
    }

    #[test]
    fn a_draft_is_a_stack_that_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let stacks = stacks(dir.path(), &[("web/compose.yml", ""), ("bare/data", ""), ("env/.env", "COMPOSE_FILE=x")]);
        assert_eq!(stacks.draft(&name("web").unwrap()).unwrap_err().kind, Kind::Conflict);
        assert_eq!(stacks.draft(&name("env").unwrap()).unwrap_err().kind, Kind::Conflict);
        for new in ["bare", "new"] {
            let draft = stacks.draft(&name(new).unwrap()).unwrap();
            assert!(!draft.exists && draft.chosen == stacks.root().join(new).join("compose.yaml"));
        }
    }

    #[tokio::test]
    async fn a_share_that_hangs_holds_up_its_callers_for_a_while_and_nobody_else() {
        let (end, hang) = std::sync::mpsc::channel::<()>();
        let probe = Arc::default();
        let limit = Duration::from_millis(50);
        assert_eq!(answers(&probe, limit, move || assert!(hang.recv().is_err())).await, Err(()));
        let (looked, seen) = std::sync::mpsc::channel();
        let next = looked.clone();
        assert_eq!(answers(&probe, limit, move || next.send(()).unwrap()).await, Err(()));
        assert!(seen.try_recv().is_err(), "a second look was begun beside one that hangs");
        drop(end);
        assert_eq!(answers(&probe, Duration::from_secs(30), move || looked.send(()).unwrap()).await, Ok(()));
        assert!(seen.try_recv().is_ok());
    }

    #[test]
    fn small_parsers_hold() {
        assert_eq!(normalised("_My App.2"), "myapp2");
        assert_eq!(top_level_name("services:\n  name: x\n"), None);
        assert_eq!(top_level_name("# c\nname: \"a\"\n").as_deref(), Some("a"));
        assert_eq!(top_level_name("name:x\n"), None);
        assert_eq!((distance("web", "web"), distance("wbe", "web"), distance("", "abc")), (0, 2, 3));
    }
}
