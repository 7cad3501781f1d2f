//! `compose/.env.example` and `compose/compose.yaml` name the variables that the two programs declare. What the container
//! does is tested by `tests/container.py`.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::gateway::{KEY, command, real_core};

/// Names that only the compose file reads.
const COMPOSE_ONLY: &[(&str, &str)] = &[
    ("LISTEN", "the host's address; inside, BIND is every address"),
    ("STACKS_MODE", "how the stacks folder is mounted: a mount cannot depend on CAPABILITY_LEVEL"),
    ("HOST_MODE", "how the host's root is mounted: not every host's mounts can be followed"),
    ("IMAGE", "the image's name"),
];
/// Variables without a default that the example leaves out.
const LEFT_OUT: &[(&str, &str)] =
    &[("DOCKER_HOST", "the socket is mounted"), ("DOCKER_TLS_VERIFY", "the socket is mounted")];
/// What a `.env` of the earlier server has. (And MCP_TRANSPORT, which there was for choosing what two programs are now.)
const EARLIER: &[&str] = &[
    "CAPABILITY_LEVEL",
    "API_KEY",
    "PORT",
    "SERVER_DOMAIN",
    "OAUTH_CLIENT_ID",
    "OAUTH_CLIENT_SECRET",
    "DOCKER_SOCKET",
    "DOCKGE_STACKS_PATH",
    "OPNSENSE_HOST",
    "OPNSENSE_API_KEY",
    "OPNSENSE_API_SECRET",
    "TRUENAS_HOST",
    "TRUENAS_API_KEY",
    "PROXMOX_HOST",
    "PROXMOX_TOKEN_ID",
    "PROXMOX_TOKEN_SECRET",
];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("compose").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Name and default of every variable that one of the programs declares. The core's are in its help, as
/// `  NAME   what it does [default]`.
fn declared() -> BTreeMap<String, String> {
    let output = Command::new(real_core()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let of_core = help.lines().filter_map(|line| {
        let (name, about) = line.strip_prefix("  ")?.split_once(' ')?;
        let (_, default) = about.strip_suffix(']')?.rsplit_once('[')?;
        is_name(name).then(|| (name.to_owned(), default.to_owned()))
    });
    let mut declared: BTreeMap<_, _> = of_core.collect();
    assert!(declared.len() > 30, "{help}");
    declared.extend(mcp_gateway::VARS.iter().map(|var| (var.name.to_owned(), var.default.to_owned())));
    declared
}

/// Name and value of every variable of the example, also of those behind a `#`.
fn example() -> BTreeMap<String, String> {
    let text = read(".env.example");
    let pairs = text.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='));
    let pairs: Vec<_> = pairs.filter(|(name, _)| is_name(name)).collect();
    let example: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(example.len(), pairs.len(), "a name is there twice: {pairs:?}");
    example
}

/// Name and default of every `${NAME:-default}` of the compose file.
fn substituted() -> BTreeMap<String, String> {
    let text = read("compose.yaml");
    let found: Vec<_> = text.split("${").skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
    let pairs = found.iter().map(|inner| inner.split_once(":-").unwrap_or_else(|| panic!("{inner} has no default")));
    let mut substituted = BTreeMap::new();
    for (name, default) in pairs {
        let before = substituted.insert(name.to_owned(), default.to_owned());
        assert!(before.is_none_or(|before| before == default), "{name} has two defaults");
    }
    assert!(!substituted.is_empty());
    substituted
}

#[test]
fn every_name_in_the_example_is_read_by_somebody() {
    let (declared, substituted) = (declared(), substituted());
    for name in example().keys() {
        let only = COMPOSE_ONLY.iter().any(|(only, _)| only == name);
        assert!(declared.contains_key(name) != only, "{name}: declared by a program, or in COMPOSE_ONLY");
        assert!(
            !only || substituted.contains_key(name),
            "{name} is in COMPOSE_ONLY, and compose.yaml has no use for it"
        );
    }
}

#[test]
fn what_has_no_default_is_in_the_example() {
    let example = example();
    for (name, _) in declared().iter().filter(|(_, default)| *default == "–") {
        let left_out = LEFT_OUT.iter().any(|(left_out, _)| left_out == name);
        assert!(example.contains_key(name) != left_out, "{name}: in the example, or in LEFT_OUT");
    }
    for name in EARLIER {
        assert!(example.contains_key(*name), "{name} of the earlier server is missing");
    }
}

#[test]
fn what_the_compose_file_substitutes_is_in_the_example_with_the_same_default() {
    let example = example();
    for (name, default) in substituted() {
        assert_eq!(example.get(&name), Some(&default), "{name}");
    }
}

#[test]
fn what_the_compose_file_fixes_is_declared() {
    let (declared, text) = (declared(), read("compose.yaml"));
    let (_, block) = text.split_once("    environment:\n").unwrap();
    let lines = block.lines().take_while(|line| line.starts_with("      "));
    let names: Vec<_> = lines.filter_map(|line| line.trim().split_once(':').map(|(name, _)| name)).collect();
    let names: Vec<_> = names.into_iter().filter(|name| is_name(name)).collect();
    assert!(names.contains(&"HOST_ROOT"), "{names:?}");
    for name in names {
        assert!(declared.contains_key(name), "{name}");
    }
}

#[test]
fn the_example_needs_only_a_way_to_sign_in() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("env");
    fs::write(&file, read(".env.example")).unwrap();
    let core = format!("'{}'", real_core());
    let check = |env: &[(&str, &str)]| {
        let env = [&[("CORE_COMMAND", core.as_str())], env].concat();
        command(&env, state.path()).args(["--check", "--env-file"]).arg(&file).output().unwrap()
    };
    assert!(check(&[("API_KEY", KEY)]).status.success(), "{:?}", check(&[("API_KEY", KEY)]));
    let refused = String::from_utf8(check(&[]).stderr).unwrap();
    assert_eq!(refused.lines().count(), 2, "{refused}");
    assert!(refused.contains("no way to sign in"), "{refused}");
}
