//! `PROTECTED`: objects that no tool may change at any level. Judged on every name a target has, and on the objects a
//! change would touch besides the named one.

use std::path::Path;

use crate::target::Target;

/// Kinds that may be protected. Those of appliances are known here before their tools are.
const KINDS: [&str; 8] = ["docker", "stack", "volume", "network", "proxmox", "truenas", "opnsense", "system"];

/// The protected objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protected(Vec<(String, String)>);

impl Protected {
    /// Reads `kind:name` items; every wrong one is a problem.
    pub(crate) fn parse(items: &[String]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut found = Vec::new();
        for item in items {
            match item.split_once(':') {
                Some((kind, name))
                    if KINDS.contains(&kind.trim()) && !canonical(kind.trim(), name.trim()).is_empty() =>
                {
                    found.push((kind.trim().to_owned(), canonical(kind.trim(), name.trim()).to_owned()));
                }
                _ => problems.push(format!(
                    "`{item}` is not of the form kind:name with a kind of {} (for example docker:traefik)",
                    KINDS.join(", ")
                )),
            }
        }
        if problems.is_empty() { Ok(Self(found)) } else { Err(problems) }
    }

    /// The entry that protects one of these targets, with the target, if any does. A protected name in the stacks folder may
    /// be a link to another stack's folder, which is protected by that then.
    pub(crate) fn hit<'a>(&self, targets: &'a [Target], stacks: &Path) -> Option<(String, &'a Target)> {
        self.0.iter().find_map(|(kind, name)| {
            // Only where it can matter: the folder may be on a slow share.
            let judged = kind == "stack" && targets.iter().any(Target::is_of_a_stack);
            let linked = judged.then(|| stacks.join(name).canonicalize().ok()).flatten();
            let linked = linked.as_deref().and_then(|path| path.file_name()?.to_str());
            let hit = |target: &&Target| {
                protects(kind, name, target) || linked.is_some_and(|linked| protects(kind, linked, target))
            };
            Some((format!("{kind}:{name}"), targets.iter().find(hit)?))
        })
    }
}

/// The name as targets have it. What protects nothing because of a slash would not be noticed until it is too late.
fn canonical<'a>(kind: &str, name: &'a str) -> &'a str {
    match kind {
        // Also as the mount point, which is what file managers and shares show.
        "truenas" => name.strip_prefix("/mnt/").unwrap_or(name).trim_matches('/'),
        _ => name.trim_start_matches('/'),
    }
}

fn protects(kind: &str, name: &str, target: &Target) -> bool {
    let own = [(target.kind.as_str(), target.name.as_str()), (target.kind.as_str(), target.id.as_str())];
    let names = own.into_iter().chain(target.aliases.iter().map(|(kind, name)| (*kind, name.as_str())));
    let mut same_kind = names.filter(|(of, _)| *of == kind).map(|(_, name)| name);
    same_kind.any(|known| known == name || (kind == "docker" && is_id_prefix(name, known)))
}

/// An operator who wrote a shortened container id (12 characters is what Docker shows; 6 are enough to mean an id and
/// not a name) means that container.
fn is_id_prefix(short: &str, full: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    short.len() >= 6 && hex(short) && full.len() == 64 && hex(full) && full.starts_with(&short.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f3ab2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3";

    fn container() -> Target {
        Target::new("docker", "traefik", ID).alias("stack", "infra").alias("docker", "proxy-1")
    }

    fn hit(item: &str) -> bool {
        Protected::parse(&[item.to_owned()])
            .unwrap()
            .hit(&[Target::new("docker", "other", "0"), container()], Path::new("/nonexistent"))
            .is_some()
    }

    #[test]
    fn a_container_is_protected_under_every_name_it_has() {
        for item in [
            "docker:traefik",
            "docker:/traefik",
            &format!("docker:{ID}"),
            "docker:4f3ab2c1d0e9",
            "docker:4F3AB2",
            "stack:infra",
            "docker:proxy-1",
        ] {
            assert!(hit(item), "{item}");
        }
        for item in
            ["docker:traefik2", "docker:4f3ab", "docker:infra", "stack:traefik", "docker:ffffffffffff", "proxmox:100"]
        {
            assert!(!hit(item), "{item}");
        }
    }

    #[test]
    fn a_dataset_is_protected_however_its_path_is_written() {
        let dataset = [Target::new("truenas", "tank/backup", "tank/backup")];
        for name in ["tank/backup", "tank/backup/", "/tank/backup", "/mnt/tank/backup", "/mnt/tank/backup/"] {
            let protected = Protected::parse(&[format!("truenas:{name}")]).unwrap();
            assert!(protected.hit(&dataset, Path::new("/nonexistent")).is_some(), "{name}");
        }
        assert!(Protected::parse(&["truenas:/mnt/".to_owned()]).is_err());
        assert!(Protected::parse(&["docker:/".to_owned()]).is_err());
    }

    #[test]
    fn what_is_not_kind_and_name_is_a_problem() {
        for item in ["traefik", "docker:", ":x", "dokcer:traefik", ""] {
            assert!(Protected::parse(&[item.to_owned()]).is_err(), "{item}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_stack_is_protected_through_the_link_that_was_named() {
        let stacks = tempfile::tempdir().unwrap();
        std::fs::create_dir(stacks.path().join("media-v2")).unwrap();
        std::os::unix::fs::symlink("media-v2", stacks.path().join("media")).unwrap();
        let protected = Protected::parse(&["stack:media".to_owned()]).unwrap();
        let container = Target::new("docker", "media-v2-jelly-1", "1").alias("stack", "media-v2");
        assert!(protected.hit(&[container], stacks.path()).is_some());
        assert!(protected.hit(&[Target::new("stack", "other", "2")], stacks.path()).is_none());
    }
}
