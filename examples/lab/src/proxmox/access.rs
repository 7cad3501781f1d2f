//! API tokens and what each may do.

use super::profile::Profile;
use std::collections::BTreeMap;

/// An API token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// `user@realm!name`
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) privileges: Privileges,
}

impl Token {
    /// A token owns the tasks that it started; another token of its user does not.
    pub(crate) fn owns(&self, started_by: &str) -> bool {
        self.id == started_by
    }
}

/// `user@realm` of `user@realm!name`.
pub(crate) fn user_of(id: &str) -> &str {
    id.split_once('!').map_or(id, |(user, _)| user)
}

/// What a token may do: grants on paths, where the deepest path that is a part of the asked one decides.
#[derive(Clone, Debug, Default)]
pub struct Privileges {
    grants: BTreeMap<String, Grant>,
}

#[derive(Clone, Debug)]
enum Grant {
    Everything,
    Only(Vec<String>),
}

impl Privileges {
    /// A token with privilege separation and no ACL of its own, be its user root: nothing at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// `Administrator` on `/`.
    pub fn administrator() -> Self {
        Self { grants: BTreeMap::from([("/".to_owned(), Grant::Everything)]) }
    }

    /// `PVEAuditor` on `/`.
    pub fn auditor() -> Self {
        let privileges = ["Datastore.Audit", "Mapping.Audit", "Pool.Audit", "SDN.Audit", "Sys.Audit", "VM.Audit"];
        Self::none().on("/", &[&privileges[..], &["VM.GuestAgent.Audit"]].concat())
    }

    /// With these privileges on this path and below, instead of what was there.
    #[must_use]
    pub fn on(mut self, path: &str, privileges: &[&str]) -> Self {
        let privileges = privileges.iter().map(|&privilege| privilege.to_owned()).collect();
        self.grants.insert(path.to_owned(), Grant::Only(privileges));
        self
    }

    pub(crate) fn has(&self, profile: Profile, path: &str, privilege: &str) -> bool {
        profile.privileges().contains(&privilege)
            && self.grant(path).is_some_and(|grant| match grant {
                Grant::Everything => true,
                Grant::Only(privileges) => privileges.iter().any(|given| given == privilege),
            })
    }

    /// Everything on one path, as `/access/permissions` lists it.
    pub(crate) fn all_on(&self, profile: Profile, path: &str) -> Vec<&'static str> {
        profile.privileges().into_iter().filter(|privilege| self.has(profile, path, privilege)).collect()
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.grants.keys().map(|path| &**path)
    }

    fn grant(&self, path: &str) -> Option<&Grant> {
        let mut path = path;
        loop {
            if let Some(grant) = self.grants.get(if path.is_empty() { "/" } else { path }) {
                return Some(grant);
            }
            path = &path[..path.rfind('/')?];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_path_decides() {
        let privileges = Privileges::auditor().on("/vms/105", &["VM.PowerMgmt"]);
        let has = |path, privilege| privileges.has(Profile::V9_2, path, privilege);
        assert!(has("/", "Sys.Audit") && has("/vms/100", "VM.Audit") && has("/vms/105", "VM.PowerMgmt"));
        assert!(!has("/vms/105", "VM.Audit") && !has("/vms/100", "VM.PowerMgmt"));
        assert!(!Privileges::none().has(Profile::V9_2, "/vms/100", "VM.Audit"));
    }

    #[test]
    fn a_privilege_that_the_version_lacks_is_nobodys() {
        let administrator = Privileges::administrator();
        assert!(administrator.has(Profile::V8_4, "/vms/100", "VM.Monitor"));
        assert!(!administrator.has(Profile::V9_0, "/vms/100", "VM.Monitor"));
    }
}
