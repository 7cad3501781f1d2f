//! What the owner has allowed: one grant per connection, in one file that is written whole. A token names its grant, and
//! a grant that is not here is dead: losing the file means signing in again, nothing worse. Refresh tokens are not kept;
//! each says which one of its grant it is, so that an old one is recognised after any restart.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use shared::Level;

use super::token::{TokenKey, now};

/// Connections at once; the longest unused goes.
const MOST: usize = 200;
/// A refresh token may be shown again for so long after it was exchanged, and gets the same answer: an answer may be
/// lost on its way, and an app may have several processes. In seconds.
const GRACE: u64 = 30;
/// Last uses are written at most this often, in seconds.
const SELDOM: u64 = 300;
const REFRESH: &str = "hlr_";
/// Longer files are none of ours.
const LONGEST_FILE: u64 = 4 << 20;

/// One connection that the owner allowed. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    pub(super) id: String,
    pub(super) app: String,
    pub(super) name: String,
    /// Where it was returned to.
    pub(super) host: String,
    pub(super) level: Level,
    pub(super) created: u64,
    pub(super) used: u64,
    /// When it ends unless it is refreshed.
    expires: u64,
    /// How often it was refreshed: which of its refresh tokens is good.
    generation: u64,
    rotated: u64,
    /// Of what it was allowed with.
    pub(super) fingerprint: String,
    /// Of the code it was got with, so that the code is recognised.
    code: String,
}

/// A new connection.
pub(super) struct New {
    pub(super) app: String,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) level: Level,
    pub(super) fingerprint: String,
    /// The code itself.
    pub(super) code: String,
}

/// What a refresh token says.
#[derive(Serialize, Deserialize)]
struct Refresh {
    #[serde(rename = "g")]
    grant: String,
    #[serde(rename = "n")]
    generation: u64,
}

/// Why a refresh token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    /// Made up, over, ended, or another app's.
    Unknown,
    /// It was exchanged before: somebody has a copy. The grant is ended.
    Reused,
}

/// All grants, and the file that they are in.
pub(super) struct Grants {
    key: TokenKey,
    lasts: u64,
    file: Option<PathBuf>,
    grants: Mutex<HashMap<String, Grant>>,
    /// A last use is not written yet.
    touched: AtomicBool,
    /// When the file was written; held while it is, so that an older state cannot come later.
    writing: tokio::sync::Mutex<u64>,
}

impl Grants {
    /// Reads what is there. Grants whose fingerprint is not `current` any more are dropped: the password or the client's
    /// secret was changed.
    pub(super) fn open(dir: Option<&Path>, key: TokenKey, lasts: u64, current: impl Fn(&Grant) -> bool) -> Self {
        let file = dir.map(|dir| dir.join("gateway").join("grants.json"));
        let read = file.as_deref().map_or_else(|| Ok(Vec::new()), read);
        let grants = read.unwrap_or_else(|error| {
            log::warn!("{error}. Every app has to be connected again.");
            Vec::new()
        });
        let found = grants.len();
        let grants: HashMap<_, _> = grants
            .into_iter()
            .filter(|grant| grant.expires > now() && current(grant))
            .map(|grant| (grant.id.clone(), grant))
            .collect();
        log::info!("connections: {} ({} ended since the last start)", grants.len(), found - grants.len());
        let (grants, touched) = (Mutex::new(grants), AtomicBool::new(false));
        Self { key, lasts, file, grants, touched, writing: tokio::sync::Mutex::new(now()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection, and its first refresh token.
    pub(super) fn add(&self, new: New) -> (Grant, String) {
        let New { app, name, host, level, fingerprint, code } = new;
        let (now, code) = (now(), self.code(&code));
        let (id, expires) = (format!("{:032x}", rand::random::<u128>()), now + self.lasts);
        let (created, used, rotated, generation) = (now, now, now, 0);
        let grant =
            Grant { id, app, name, host, level, created, used, expires, generation, rotated, fingerprint, code };
        let mut grants = self.lock();
        grants.retain(|_, grant| grant.expires > now);
        if grants.len() >= MOST
            && let Some(oldest) = grants.values().min_by_key(|grant| grant.used).map(|grant| grant.id.clone())
        {
            grants.remove(&oldest);
        }
        grants.insert(grant.id.clone(), grant.clone());
        let refresh = self.refresh_token(&grant);
        (grant, refresh)
    }

    /// The grant with this id, if it lives.
    pub(super) fn find(&self, id: &str) -> Option<Grant> {
        self.lock().get(id).filter(|grant| grant.expires > now()).cloned()
    }

    /// The same for a call that is made with it: this is its last use now.
    pub(super) fn using(&self, id: &str) -> Option<Grant> {
        let mut grants = self.lock();
        let now = now();
        let grant = grants.get_mut(id).filter(|grant| grant.expires > now)?;
        if grant.used != now {
            grant.used = now;
            self.touched.store(true, Ordering::Relaxed);
        }
        Some(grant.clone())
    }

    /// All that live, the last used first.
    pub(super) fn list(&self) -> Vec<Grant> {
        let now = now();
        let mut list: Vec<_> = self.lock().values().filter(|grant| grant.expires > now).cloned().collect();
        list.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.id.cmp(&other.id)));
        list
    }

    /// Ends a grant; whether it lived.
    pub(super) fn end(&self, id: &str) -> Option<Grant> {
        self.lock().remove(id)
    }

    /// Ends what this code gave, when it was used before.
    pub(super) fn end_by_code(&self, code: &str) -> Option<Grant> {
        let code = self.code(code);
        let mut grants = self.lock();
        let id = grants.values().find(|grant| grant.code == code)?.id.clone();
        grants.remove(&id)
    }

    /// Exchanges a refresh token for the next.
    pub(super) fn refresh(&self, token: &str, app: &str) -> Result<(Grant, String), Dead> {
        self.refresh_at(token, app, now())
    }

    fn refresh_at(&self, token: &str, app: &str, now: u64) -> Result<(Grant, String), Dead> {
        let refresh = self.read_refresh_token(token).ok_or(Dead::Unknown)?;
        let mut grants = self.lock();
        let grant = grants.get_mut(&refresh.grant).filter(|grant| grant.app == app && grant.expires > now);
        let grant = grant.ok_or(Dead::Unknown)?;
        let again = refresh.generation + 1 == grant.generation && now.saturating_sub(grant.rotated) <= GRACE;
        if !again && refresh.generation != grant.generation {
            grants.remove(&refresh.grant);
            return Err(Dead::Reused);
        }
        if !again {
            (grant.generation, grant.rotated) = (grant.generation + 1, now);
        }
        (grant.used, grant.expires) = (now, now + self.lasts);
        let grant = grant.clone();
        drop(grants);
        let next = self.refresh_token(&grant);
        Ok((grant, next))
    }

    /// The grant that a refresh token of any age is for.
    pub(super) fn of_refresh_token(&self, token: &str) -> Option<String> {
        self.read_refresh_token(token).map(|refresh| refresh.grant)
    }

    fn refresh_token(&self, grant: &Grant) -> String {
        let refresh = Refresh { grant: grant.id.clone(), generation: grant.generation };
        format!("{REFRESH}{}", self.key.seal("refresh", &refresh))
    }

    fn read_refresh_token(&self, token: &str) -> Option<Refresh> {
        self.key.open("refresh", token.strip_prefix(REFRESH)?)
    }

    fn code(&self, code: &str) -> String {
        self.key.fingerprint("code", code)
    }

    /// Writes everything down. An error is for whoever must know that it was not; it is logged already.
    pub(super) async fn save(&self) -> Result<(), String> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let mut written = self.writing.lock().await;
        self.touched.store(false, Ordering::Relaxed);
        // Only plain structures: they always serialise.
        let text = serde_json::to_vec_pretty(&File { version: VERSION, grants: self.list() }).unwrap_or_default();
        let name = file.display().to_string();
        let wrote = tokio::task::spawn_blocking(move || write(&file, &text)).await;
        *written = now();
        let wrote = wrote.unwrap_or_else(|error| Err(io::Error::other(error)));
        wrote.map_err(|error| {
            let why = format!("{name} cannot be written: {error}");
            log::warn!("{why}. What was changed about connections is forgotten with the next start.");
            why
        })
    }

    /// Writes last uses down, now and then.
    pub(super) async fn tidy(&self) {
        let due = now().saturating_sub(*self.writing.lock().await) >= SELDOM;
        if due {
            self.save_uses().await;
        }
    }

    /// Writes last uses down if there are any that are not.
    pub(super) async fn save_uses(&self) {
        if self.touched.load(Ordering::Relaxed) {
            let _ = self.save().await;
        }
    }
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    grants: Vec<Grant>,
}

fn read(path: &Path) -> Result<Vec<Grant>, String> {
    let wrong = |why: &str| format!("{} {why}", path.display());
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(about) if about.len() > LONGEST_FILE => return Err(wrong("is too long to be ours")),
        _ => {}
    }
    let text = fs::read(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let file: File = serde_json::from_slice(&text).map_err(|error| wrong(&format!("is damaged: {error}")))?;
    if file.version == VERSION { Ok(file.grants) } else { Err(wrong("is of another version")) }
}

/// Whole or not at all, and readable by its owner only.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(path);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    let mut file = tempfile::Builder::new().prefix(".grants").tempfile_in(dir)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename is on the disk with its folder.
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn open(dir: &Path) -> Grants {
        Grants::open(Some(dir), TokenKey::new([7; 32]), 30 * DAY, |grant| grant.fingerprint == "f")
    }

    fn new(app: &str) -> New {
        let (app, name, host) = (app.to_owned(), "A".to_owned(), "a.example".to_owned());
        New { code: format!("code of {app}"), app, name, host, level: Level::Operate, fingerprint: "f".to_owned() }
    }

    #[tokio::test]
    async fn grants_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (grant, refresh) = grants.add(new("a"));
        grants.save().await.unwrap();
        let text = fs::read_to_string(dir.path().join("gateway/grants.json")).unwrap();
        assert!(!text.contains(&refresh) && !text.contains("code of"), "{text}");
        #[cfg(unix)]
        {
            let about = fs::metadata(dir.path().join("gateway/grants.json")).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077, 0);
        }
        let grants = open(dir.path());
        assert_eq!(grants.find(&grant.id), Some(grant.clone()));
        assert_eq!(grants.refresh(&refresh, "a").unwrap().0.id, grant.id);
        assert!(grants.end_by_code("code of a").is_some() && grants.find(&grant.id).is_none());
    }

    #[tokio::test]
    async fn a_refresh_token_is_good_once_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (grant, first) = grants.add(new("a"));
        let (_, second) = grants.refresh(&first, "a").unwrap();
        let (_, third) = grants.refresh(&second, "a").unwrap();
        assert!(first != second && second != third);
        grants.save().await.unwrap();
        let grants = open(dir.path());
        assert_eq!(grants.refresh(&first, "a").unwrap_err(), Dead::Reused);
        assert_eq!(grants.refresh(&third, "a").unwrap_err(), Dead::Unknown, "the thief's too");
        assert!(grants.find(&grant.id).is_none());
    }

    #[test]
    fn an_answer_that_was_lost_is_given_again_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (_, first) = grants.add(new("a"));
        let start = now();
        let (_, second) = grants.refresh_at(&first, "a", start).unwrap();
        assert_eq!(grants.refresh_at(&first, "a", start + GRACE).unwrap().1, second);
        assert_eq!(grants.refresh_at(&first, "a", start + GRACE + 1).unwrap_err(), Dead::Reused);
        assert_eq!(grants.refresh_at(&second, "a", start + GRACE + 1).unwrap_err(), Dead::Unknown);
    }

    #[test]
    fn a_refresh_token_is_its_apps_and_ends_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (_, token) = grants.add(new("a"));
        assert_eq!(grants.refresh(&token, "b").unwrap_err(), Dead::Unknown);
        assert_eq!(grants.refresh_at(&token, "a", now() + 30 * DAY).unwrap_err(), Dead::Unknown);
        let (_, next) = grants.refresh_at(&token, "a", now() + 29 * DAY).unwrap();
        assert!(grants.refresh_at(&next, "a", now() + 58 * DAY).is_ok(), "thirty days from the last use");
        for forged in ["", "hlr_", "hlr_a.b", &token[4..], &token[..token.len() - 1]] {
            assert_eq!(grants.refresh(forged, "a").unwrap_err(), Dead::Unknown, "{forged}");
        }
    }

    #[tokio::test]
    async fn what_was_allowed_with_an_old_password_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (grant, _) = grants.add(new("a"));
        grants.add(New { fingerprint: "old".to_owned(), ..new("b") });
        grants.save().await.unwrap();
        assert_eq!(open(dir.path()).list(), [grant]);
    }

    #[tokio::test]
    async fn a_file_that_is_lost_or_damaged_means_signing_in_again() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (_, token) = grants.add(new("a"));
        grants.save().await.unwrap();
        let file = dir.path().join("gateway/grants.json");
        for damage in ["", "{", "[]", r#"{"version":2,"grants":[]}"#] {
            fs::write(&file, damage).unwrap();
            let grants = open(dir.path());
            assert!(grants.list().is_empty());
            assert_eq!(grants.refresh(&token, "a").unwrap_err(), Dead::Unknown);
        }
        fs::remove_file(&file).unwrap();
        assert!(open(dir.path()).list().is_empty());
    }

    #[tokio::test]
    async fn a_use_is_written_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        let (grant, _) = grants.add(new("a"));
        grants.lock().get_mut(&grant.id).unwrap().used = 1;
        grants.save().await.unwrap();
        assert!(grants.using(&grant.id).unwrap().used > 1);
        grants.tidy().await;
        assert_eq!(open(dir.path()).list()[0].used, 1, "too soon");
        *grants.writing.lock().await = now() - SELDOM;
        grants.tidy().await;
        assert!(open(dir.path()).list()[0].used > 1);
    }

    #[test]
    fn the_number_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let grants = open(dir.path());
        for number in 0..MOST + 5 {
            grants.add(new(&number.to_string()));
        }
        assert_eq!(grants.list().len(), MOST);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("gateway"), "in the way").unwrap();
        let grants = open(dir.path());
        grants.add(new("a"));
        assert!(grants.save().await.unwrap_err().contains("cannot be written"));
    }
}
