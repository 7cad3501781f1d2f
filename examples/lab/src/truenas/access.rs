//! Who may come in and do what: users, API keys, roles, and the limit on anonymous calls.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::profile::Profile;

/// A user with its roles, by the vendor's names.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
}

/// An API key.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) id: u32,
    pub(crate) user: String,
    pub(crate) text: String,
    pub(crate) expired: bool,
    pub(crate) revoked: bool,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// Unknown key, wrong secret, wrong user.
    Wrong,
    Expired,
    /// No privilege at all.
    Powerless,
}

/// Users, keys and the rate limiter.
pub(crate) struct Access {
    pub(crate) users: Vec<User>,
    pub(crate) keys: Vec<ApiKey>,
    limiter: HashMap<String, (Instant, u32)>,
}

impl Access {
    /// Three users with a key each: `svc` (FULL_ADMIN), `viewer` (READONLY_ADMIN), `nobody` (none).
    pub(crate) fn new() -> Self {
        let mut access = Self { users: Vec::new(), keys: Vec::new(), limiter: HashMap::new() };
        access.add_user("svc", &["FULL_ADMIN"]);
        access.add_user("viewer", &["READONLY_ADMIN"]);
        access.add_user("nobody", &[]);
        for user in ["svc", "viewer", "nobody"] {
            access.add_key(user);
        }
        access
    }

    pub(crate) fn add_user(&mut self, name: &str, roles: &[&str]) {
        self.users.retain(|user| user.name != name);
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        self.users.push(User { name: name.to_owned(), roles });
    }

    /// `ID-` and 64 characters.
    pub(crate) fn add_key(&mut self, user: &str) -> String {
        let id = self.keys.iter().map(|key| key.id).max().unwrap_or(0) + 1;
        let secret: String = format!("{user}Key{id}Of").repeat(64).chars().take(64).collect();
        let text = format!("{id}-{secret}");
        self.keys.push(ApiKey { id, user: user.to_owned(), text: text.clone(), expired: false, revoked: false });
        text
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// Judges a key. Over plain transport a good key is revoked at once.
    pub(crate) fn judge(&mut self, key: &str, plain: bool, profile: Profile) -> (Verdict, Option<String>) {
        let Some(at) = self.keys.iter().position(|known| known.text == key) else { return (Verdict::Wrong, None) };
        let powerless = self.user(&self.keys[at].user).is_none_or(|user| user.roles.is_empty());
        let known = &mut self.keys[at];
        if known.revoked {
            // 26 forgets why: only the use that revoked it hears of it.
            return (if profile >= Profile::V26 { Verdict::Wrong } else { Verdict::Expired }, None);
        }
        if plain {
            known.revoked = true;
            return (Verdict::Expired, None);
        }
        match (known.expired, powerless) {
            (true, _) => (Verdict::Expired, None),
            (false, true) => (Verdict::Powerless, None),
            (false, false) => (Verdict::Welcome, Some(known.user.clone())),
        }
    }

    /// Counts an anonymous call; `false`: one too many in this window.
    pub(crate) fn admit(&mut self, method: &str, limit: u32, window: Duration) -> bool {
        let entry = self.limiter.entry(method.to_owned()).or_insert_with(|| (Instant::now(), 0));
        if entry.0.elapsed() >= window {
            *entry = (Instant::now(), 0);
        }
        entry.1 += 1;
        entry.1 <= limit
    }
}

/// Whether one of `roles` includes `needed`.
pub(crate) fn includes(roles: &[String], needed: &str) -> bool {
    roles.iter().any(|role| {
        role == needed
            || match role.as_str() {
                "FULL_ADMIN" => true,
                "READONLY_ADMIN" | "SHARING_ADMIN" => needed.ends_with("_READ") || needed == "READONLY_ADMIN",
                "REPLICATION_ADMIN" => needed.starts_with("SNAPSHOT_") || needed == "DATASET_READ",
                _ => role.strip_suffix("_WRITE").is_some_and(|stem| needed.strip_suffix("_READ") == Some(stem)),
            }
    })
}
