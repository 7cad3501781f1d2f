//! Names by ZFS's own rules (`zfs_namecheck.c` of OpenZFS). They are checked before anything is sent, because newer
//! TrueNAS releases pass on what they are given.

/// Of a dataset, and of a snapshot with its dataset: ZFS's limit without the terminating zero.
const LONGEST: usize = 255;

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | ' ')
}

fn stranger(text: &str) -> Option<char> {
    text.chars().find(|c| !is_allowed(*c))
}

/// What is wrong with the path of a dataset, as a clause after its name.
pub(super) fn check_dataset(path: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`{path}` is no dataset path: {why} (for example tank/media)"));
    if path.is_empty() {
        return wrong("it is empty");
    }
    if path.contains('@') {
        return wrong("it has an @, which only snapshots have");
    }
    if path.starts_with('/') {
        return wrong("it begins with a slash; give pool and path without /mnt");
    }
    if path.len() > LONGEST {
        return wrong(&format!("it is longer than {LONGEST} characters"));
    }
    for part in path.split('/') {
        if part.is_empty() {
            return wrong("it has an empty part between slashes");
        }
        if matches!(part, "." | "..") {
            return wrong("`.` and `..` are not allowed");
        }
        if let Some(c) = stranger(part) {
            return wrong(&format!("ZFS does not allow `{}` in it", c.escape_debug()));
        }
    }
    if !path.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return wrong("a pool's name begins with a letter");
    }
    Ok(())
}

/// What is wrong with a snapshot's name, the part after the @.
pub(super) fn check_snapshot(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the snapshot's name is empty".to_owned());
    }
    match stranger(name) {
        Some(c @ ('@' | '/')) => Err(format!(
            "`{name}` is no snapshot name: it has {c}; give only the part after the @, the dataset has its own argument"
        )),
        Some(c) => Err(format!(
            "`{name}` is no snapshot name: ZFS allows letters, digits, space and - _ . : in it, not `{}`",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}

/// Whether `dataset@name` is short enough.
pub(super) fn check_length(dataset: &str, name: &str) -> Result<(), String> {
    let length = dataset.len() + 1 + name.len();
    if length > LONGEST {
        return Err(format!("{dataset}@{name} would have {length} characters, and ZFS allows {LONGEST}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_zfs_takes() {
        for path in ["tank", "tank/media", "tank/a b/c-d_e.f:g", "Tank/1", "t/..a", "tank/.hidden"] {
            assert_eq!(check_dataset(path), Ok(()), "{path}");
        }
        for (path, why) in [
            ("", "empty"),
            ("/mnt/tank", "slash"),
            ("tank/", "empty part"),
            ("tank//a", "empty part"),
            ("tank/../x", "`..`"),
            ("tank/.", "`.`"),
            ("tank@a", "snapshots"),
            ("tank/a%b", "`%`"),
            ("tank/ä", "`ä`"),
            ("tank/a\nb", "`\\n`"),
            ("tank/a?b=c", "`?`"),
            ("1tank", "letter"),
            (&"t".repeat(256), "255"),
        ] {
            let error = check_dataset(path).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
        assert_eq!(check_dataset(&"t".repeat(255)), Ok(()));
    }

    #[test]
    fn snapshot_names_are_what_zfs_takes() {
        for name in ["auto-2026-11-22_00-00", "before upgrade", "a:b.c", ".", "1"] {
            assert_eq!(check_snapshot(name), Ok(()), "{name}");
        }
        for (name, why) in [("", "empty"), ("tank@a", "has @"), ("a/b", "has /"), ("a%b", "`%`"), ("юни", "`ю`")] {
            let error = check_snapshot(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert_eq!(check_length("tank", &"x".repeat(250)), Ok(()));
        assert!(check_length("tank", &"x".repeat(251)).unwrap_err().contains("256"));
    }
}
