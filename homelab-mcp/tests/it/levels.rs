//! Which tools a client of a configuration sees and may call: levels, TOOLSETS, TOOLS_ALLOW and TOOLS_DENY. The golden
//! files in `snapshots` are what it sees; `UPDATE=1` in the environment rewrites them.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::{
    stand_in::StandIn,
    support::{Core, run},
    wire::{ask, code, modern, text, with_id},
};

const LEVELS: [(&str, &str); 4] = [("1", "monitor"), ("2", "operate"), ("3", "configure"), ("4", "manage")];

/// Whether golden files and tables are to be rewritten.
pub(crate) fn updating() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

/// The complete `tools/list` answer of a configuration.
pub(crate) fn listed(env: &[(&str, &str)]) -> Value {
    let ran = run(&[], env, br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    with_id(&ran, 1)["result"].clone()
}

fn names(result: &Value) -> BTreeSet<String> {
    result["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// `--list-tools --json`: every tool there is.
pub(crate) fn all_tools() -> Vec<Value> {
    let ran = run(&["--list-tools", "--json"], &[], b"");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str::<Value>(&ran.stdout).unwrap()["tools"].as_array().unwrap().clone()
}

#[test]
fn what_a_client_sees_at_each_level_is_the_golden_file() {
    for (level, _) in LEVELS {
        let seen = format!("{:#}\n", listed(&[("CAPABILITY_LEVEL", level)]));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/tools-{level}.json"));
        if updating() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &seen).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = seen.lines().zip(golden.lines()).position(|(seen, golden)| seen != golden);
        assert!(
            seen == golden,
            "{} is not what a client sees, from line {}. If that is meant: UPDATE=1 cargo test",
            path.display(),
            differs.map_or(golden.lines().count(), |line| line) + 1
        );
    }
}

#[test]
fn each_level_has_the_tools_of_those_below_and_its_own() {
    let all = all_tools();
    let mut before = BTreeSet::new();
    for (level, name) in LEVELS {
        let seen = names(&listed(&[("CAPABILITY_LEVEL", level)]));
        let number: u64 = level.parse().unwrap();
        let expected: BTreeSet<_> = all
            .iter()
            .filter(|tool| tool["level"].as_u64().unwrap() <= number)
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(seen, expected, "level {level}");
        assert!(seen.is_superset(&before) && seen.len() > before.len(), "level {level}");
        assert_eq!(names(&listed(&[("CAPABILITY_LEVEL", name)])), seen, "{name} is {level}");
        assert_eq!(names(&listed(&[("CAPABILITY_LEVEL", &name.to_uppercase())])), seen);
        before = seen;
    }
}

#[test]
fn without_a_level_it_is_the_lowest() {
    for env in [&[][..], &[("CAPABILITY_LEVEL", "")], &[("CAPABILITY_LEVEL", "  ")]] {
        assert_eq!(listed(env), listed(&[("CAPABILITY_LEVEL", "1")]));
    }
}

#[test]
fn what_is_not_a_level_stops_the_start() {
    for level in ["0", "5", "-1", "1.9", "2abc", "level2", "01", "+2", "1,2", "admin", "one", "²"] {
        let ran = run(&[], &[("CAPABILITY_LEVEL", level)], br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{level}: {}", ran.stderr);
        for word in ["CAPABILITY_LEVEL", level, "1, 2, 3, 4", "monitor, operate, configure, manage"] {
            assert!(ran.stderr.contains(word), "{level}: {word:?} is missing in {}", ran.stderr);
        }
    }
}

#[test]
fn a_call_above_the_level_says_what_it_needs_what_is_in_force_and_which_variable_changes_it() {
    let all = all_tools();
    for (level, name) in LEVELS {
        let number: u64 = level.parse().unwrap();
        let engine = StandIn::engine(|_| None);
        let mut core = Core::start(&[("CAPABILITY_LEVEL", level), ("DOCKER_HOST", &engine.host())]);
        for tool in all.iter().filter(|tool| tool["level"].as_u64().unwrap() > number) {
            let tool_name = tool["name"].as_str().unwrap();
            // Right arguments, wrong ones and a dry run: the level comes first.
            for arguments in [json!({"container": "web"}), json!({"no such argument": 1}), json!({"dry_run": true})] {
                let said = core.error(tool_name, arguments);
                let needs = format!("level {} ({})", tool["level"], tool["level_name"].as_str().unwrap());
                for word in [tool_name, &needs, &format!("level {level} ({name})"), "CAPABILITY_LEVEL"] {
                    assert!(said.contains(word), "{tool_name} at {level}: {word:?} is missing in {said}");
                }
            }
            let answer = ask(&mut core, "tools/call", modern(json!({"name": tool_name, "arguments": {}})));
            assert_eq!(answer["result"]["isError"], true, "{answer}");
        }
        core.finish();
        assert_eq!(engine.asked(""), 0, "a refused call reached the engine");
    }
}

#[test]
fn toolsets_choose_groups_and_say_so_at_a_call() {
    let all = all_tools();
    let of = |sets: &[&str]| -> BTreeSet<String> {
        let own =
            all.iter().filter(|tool| sets.contains(&tool["toolset"].as_str().unwrap()) || tool["toolset"] == "core");
        own.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let everything = of(&["docker", "compose", "system", "opnsense", "truenas", "proxmox"]);
    let four = ("CAPABILITY_LEVEL", "4");
    for (toolsets, expected) in [
        ("all", everything.clone()),
        ("", everything.clone()),
        ("auto", of(&["docker", "compose", "system"])),
        ("docker", of(&["docker"])),
        ("compose, system", of(&["compose", "system"])),
        ("system,", of(&["system"])),
        ("proxmox", of(&["proxmox"])),
        ("truenas, opnsense", of(&["truenas", "opnsense"])),
    ] {
        assert_eq!(names(&listed(&[four, ("TOOLSETS", toolsets)])), expected, "{toolsets:?}");
    }
    // An appliance joins when it is configured.
    let nas = [four, ("TOOLSETS", "auto"), ("TRUENAS_HOST", "nas"), ("TRUENAS_API_KEY", "1-x")];
    assert_eq!(names(&listed(&nas)), of(&["docker", "compose", "system", "truenas"]));
    let mut core = Core::start(&[four, ("TOOLSETS", "system")]);
    let said = core.error("docker_list_containers", json!({}));
    assert!(said.contains("docker_list_containers") && said.contains("TOOLSETS"), "{said}");
    core.finish();
}

#[test]
fn allow_and_deny_take_names_and_globs_and_deny_wins() {
    let four = ("CAPABILITY_LEVEL", "4");
    let of = |env: &[(&str, &str)]| names(&listed(&[&[four], env].concat()));
    let all = of(&[]);
    let docker: BTreeSet<_> = all.iter().filter(|name| name.starts_with("docker_")).cloned().collect();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(of(&[("TOOLS_ALLOW", "docker_*")]), docker);
    assert_eq!(of(&[("TOOLS_ALLOW", " system_info , operation_status ")]), set(&["system_info", "operation_status"]));
    assert_eq!(of(&[("TOOLS_ALLOW", "*"), ("TOOLS_DENY", "docker_*")]), &all - &docker);
    assert_eq!(of(&[("TOOLS_DENY", "docker_exe?")]), &all - &set(&["docker_exec"]));
    assert_eq!(of(&[("TOOLS_DENY", "exec")]), all, "a name is matched whole");
    assert_eq!(of(&[("TOOLS_ALLOW", "system_*"), ("TOOLS_DENY", "system_info")]), set(&[]));
    // Neither raises the level.
    assert_eq!(names(&listed(&[("CAPABILITY_LEVEL", "1"), ("TOOLS_ALLOW", "docker_exec")])), set(&[]));

    let mut core = Core::start(&[four, ("TOOLS_ALLOW", "docker_*"), ("TOOLS_DENY", "docker_exec")]);
    let denied = core.error("docker_exec", json!({"container": "a", "command": "b"}));
    assert!(denied.contains("docker_exec") && denied.contains("TOOLS_DENY"), "{denied}");
    let not_allowed = core.error("system_info", json!({}));
    assert!(not_allowed.contains("system_info") && not_allowed.contains("TOOLS_ALLOW"), "{not_allowed}");
    core.finish();
}

#[test]
fn a_list_without_tools_is_warned_about_and_served() {
    let mut core = Core::start(&[("TOOLS_DENY", "*")]);
    assert_eq!(ask(&mut core, "tools/list", json!({}))["result"]["tools"], json!([]));
    core.error("system_info", json!({}));
    assert_eq!(code(&ask(&mut core, "tools/call", json!({"name": "nothing"}))), -32602);
    assert!(core.log().contains("no tool is listed"), "{}", core.log());
    core.finish();
}

#[test]
fn the_tools_on_the_command_line_are_those_of_the_list() {
    for (level, _) in LEVELS {
        let env = [("CAPABILITY_LEVEL", level), ("TOOLS_DENY", "docker_list_*")];
        let seen = names(&listed(&env));
        let ran = run(&["--list-tools"], &env, b"");
        let lines: BTreeSet<_> = ran.stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!((ran.code, lines), (Some(0), seen.clone()));
        let json: Value = serde_json::from_str(&run(&["--list-tools", "--json"], &env, b"").stdout).unwrap();
        assert_eq!(json["level"].to_string(), level);
        let listed = json["tools"].as_array().unwrap().iter().filter(|tool| tool["listed"] == true);
        assert_eq!(listed.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), seen);
    }
}

#[test]
fn the_refusal_is_the_same_text_in_both_eras() {
    let mut core = Core::start(&[]);
    let call = json!({"name": "docker_exec", "arguments": {}});
    let (old, new) = (ask(&mut core, "tools/call", call.clone()), ask(&mut core, "tools/call", modern(call)));
    assert_eq!(text(&old), text(&new));
    core.finish();
}
