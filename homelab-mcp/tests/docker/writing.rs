//! Writing compose files: checked before anything is replaced, replaced whole or not at all, the earlier version kept,
//! secrets back in their places.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command};

use serde_json::{Value, json};

use crate::{
    lab::{Lab, inspect, rows, sha256, text, try_docker},
    stacks::service,
    support::Core,
};

const PASSWORD: &str = "Zebra-71-quantum";

fn failed(core: &mut Core, arguments: Value) -> Value {
    let result = core.call("docker_write_compose", arguments);
    assert_eq!(result["isError"], json!(true), "{result}");
    let told = result["structuredContent"].clone();
    assert_eq!(text(&told, "outcome"), "failed", "{told}");
    told
}

/// The files of a stack's folder.
fn files(lab: &Lab, what: &str) -> Vec<String> {
    let found = fs::read_dir(lab.stacks().join(lab.name(what))).into_iter().flatten().flatten();
    let mut names: Vec<_> = found.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_stack_is_made_after_compose_has_checked_it() {
    let lab = Lab::new();
    let name = lab.name("web");
    let compose = lab.text(&format!("# mine\nservices:\n{}", service("app")));
    let mut core = lab.core(&[]);
    for (text_now, word) in [
        ("services:\n  app:\n    imagee: x\n", "imagee"),
        ("services:\n  app:\n\timage: x\n", "line 3"),
        ("services:\n  app:\n    image: x\n    depends_on: [ghost]\n", "ghost"),
        ("hello", ""),
    ] {
        let told = failed(&mut core, json!({"stack": name, "compose": text_now}));
        assert!(text(&told, "message").contains(word), "{told}");
        assert!(!lab.stacks().join(&name).exists(), "nothing was made");
    }
    let planned = core.ok("docker_write_compose", json!({"stack": name, "compose": compose, "dry_run": true}));
    assert_eq!(text(&planned, "outcome"), "planned");
    assert!(text(&planned, "plan").contains("+# mine") && !lab.stacks().join(&name).exists());

    let done = core.ok("docker_write_compose", json!({"stack": name, "compose": compose}));
    let path = lab.stacks().join(&name).join("compose.yaml");
    assert_eq!((text(&done, "outcome"), text(&done, "path")), ("changed", path.to_str().unwrap()));
    assert_eq!(fs::read_to_string(&path).unwrap(), compose);
    assert_eq!(text(&done, "sha256"), sha256(&compose));
    assert!(text(&done, "diff").contains("+# mine") && done.get("previous_version").is_none(), "{done}");
    assert_eq!(files(&lab, "web"), ["compose.yaml"]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    assert!(!try_docker(&["inspect", &format!("{name}-app-1")]).1, "nothing is started");
    let done = core.ok("docker_write_compose", json!({"stack": name, "compose": compose}));
    assert_eq!(text(&done, "outcome"), "unchanged");
    core.ok("docker_compose_up", json!({"stack": name}));
    assert_eq!(inspect(&format!("{name}-app-1"), "{{.State.Status}}"), "running");
}

#[test]
fn a_file_is_replaced_under_its_own_name_and_can_be_brought_back() {
    let lab = Lab::new();
    let name = lab.name("web");
    // Comments, odd layout and line ends are somebody's: they come back to the letter.
    let original = lab.text(&format!("# first\r\nservices:\n{}\n\n# ü last, no line end", service("app")));
    let path = lab.file("web", "docker-compose.yml", &original);
    let mut core = lab.core(&[]);
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    assert_eq!(text(&read, "compose"), original);
    let sha = text(&read, "sha256").to_owned();
    let changed = original.replace("# first", "# second");

    // With another hash: somebody else wrote in between.
    let told = failed(&mut core, json!({"stack": name, "compose": changed, "expected_sha256": sha256("other")}));
    assert!(text(&told, "message").contains("Read it again") && text(&told, "message").contains(&sha), "{told}");
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    // Of a text that does not hold, nothing is written, hash or not.
    failed(&mut core, json!({"stack": name, "compose": "services: [1]\n", "expected_sha256": sha}));
    assert_eq!(fs::read_to_string(&path).unwrap(), original);

    let done = core.ok("docker_write_compose", json!({"stack": name, "compose": changed, "expected_sha256": sha}));
    assert_eq!((text(&done, "outcome"), text(&done, "previous_sha256")), ("changed", sha.as_str()));
    let diff = text(&done, "diff");
    assert!(diff.contains("-# first") && diff.contains("+# second") && diff.contains("docker-compose.yml"), "{diff}");
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    assert_eq!(files(&lab, "web"), ["docker-compose.yml"], "no compose.yaml that would shadow it");

    let version = text(&done, "previous_version").to_owned();
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    assert_eq!(text(&rows(&read, "versions")[0], "id"), version);
    let old = core.ok("docker_read_compose", json!({"stack": name, "version": version}));
    assert_eq!(text(&old, "compose"), original);
    let now = text(&read, "sha256");
    let done = core.ok("docker_write_compose", json!({"stack": name, "restore": version, "expected_sha256": now}));
    assert_eq!(text(&done, "outcome"), "changed");
    assert_eq!(fs::read(&path).unwrap(), original.as_bytes());
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    assert_eq!(rows(&read, "versions").len(), 2, "what the restoring replaced is kept too");

    failed(&mut core, json!({"stack": name, "restore": "docker-compose.yml.1-00000000", "expected_sha256": sha}));
    failed(&mut core, json!({"stack": name, "restore": "../../../etc/passwd", "expected_sha256": sha}));
    failed(&mut core, json!({"stack": name, "restore": version, "compose": changed, "expected_sha256": sha}));
    failed(&mut core, json!({"stack": name, "expected_sha256": sha}));
    assert_eq!(fs::read(&path).unwrap(), original.as_bytes());
}

#[test]
fn a_hash_of_a_file_that_is_not_there_is_a_conflict() {
    let lab = Lab::new();
    let name = lab.name("web");
    let compose = lab.text(&format!("services:\n{}", service("app")));
    let mut core = lab.core(&[]);
    let told = failed(&mut core, json!({"stack": name, "compose": compose, "expected_sha256": sha256("gone")}));
    assert!(text(&told, "message").contains("there is no such file"), "{told}");
    assert!(!lab.stacks().join(&name).exists());
}

#[test]
fn replacing_without_the_hash_is_asked_for() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let path = lab.stacks().join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    let compose = lab.text(&format!("services:\n{}", service("other")));
    let mut core = lab.core(&[]);
    let arguments = json!({"stack": name, "compose": compose});
    let asked = core.ok("docker_write_compose", arguments.clone());
    assert_eq!(text(&asked, "outcome"), "needs_confirmation");
    assert!(text(&asked, "plan").contains("-  app:") && text(&asked, "plan").contains("+  other:"), "{asked}");
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    let mut second = arguments;
    second["confirm"] = asked["confirm"].clone();
    let done = core.ok("docker_write_compose", second);
    assert_eq!(text(&done, "outcome"), "changed");
    assert_eq!(fs::read_to_string(&path).unwrap(), compose);
    assert!(done["previous_version"].is_string(), "it is kept all the same: {done}");
}

#[test]
fn masked_secrets_come_back_in_their_places() {
    let lab = Lab::new();
    let environment = format!(
        "    environment:\n      DB_PASSWORD: \"{PASSWORD}\" # never show\n      DATABASE_URL: postgres://app:{PASSWORD}@db/app\n      COLOUR: blue\n"
    );
    let name = lab.stack("web", &format!("services:\n{}{environment}", service("app")));
    let path = lab.stacks().join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    let mut core = lab.core(&[]);
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    let shown = text(&read, "compose").to_owned();
    assert!(!shown.contains(PASSWORD) && shown.contains("DB_PASSWORD") && shown.contains("COLOUR: blue"), "{shown}");
    assert_eq!((shown.matches("[redacted:").count(), read["masked"].as_u64()), (2, Some(2)), "{shown}");
    let sha = text(&read, "sha256").to_owned();
    let write = |text_now: &str| json!({"stack": name, "compose": text_now, "expected_sha256": sha});

    let placeholder = &shown[shown.find("[redacted:").unwrap()..][..21];
    for (wrong, word) in [
        (shown.replace(placeholder, "[redacted:0123456789]"), "stands for no secret"),
        (shown.replace("COLOUR: blue", &format!("COLOUR: \"{placeholder}\"")), "would be shown"),
        (format!("{shown}[cut: 99 more characters; raise MAX_RESULT_CHARS to read all]\n"), "shortened"),
    ] {
        let told = failed(&mut core, write(&wrong));
        assert!(text(&told, "message").contains(word), "{told}");
        assert!(!told.to_string().contains(PASSWORD), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), original);
    }

    let done = core.ok("docker_write_compose", write(&shown.replace("COLOUR: blue", "COLOUR: green")));
    assert_eq!(text(&done, "outcome"), "changed");
    assert!(!done.to_string().contains(PASSWORD) && text(&done, "diff").contains("+      COLOUR: green"), "{done}");
    assert_eq!(fs::read_to_string(&path).unwrap(), original.replace("COLOUR: blue", "COLOUR: green"));
    // A kept version is masked as well, and restoring it restores the secret.
    let version = text(&done, "previous_version");
    let old = core.ok("docker_read_compose", json!({"stack": name, "version": version}));
    assert!(!old.to_string().contains(PASSWORD) && text(&old, "compose") == shown);
    let now = sha256(fs::read(&path).unwrap());
    let done = core.ok("docker_write_compose", json!({"stack": name, "restore": version, "expected_sha256": now}));
    assert!(!done.to_string().contains(PASSWORD));
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    // A new secret in the open is written, and masked from then on.
    let now = sha256(fs::read(&path).unwrap());
    let fresh = shown.replacen(placeholder, "Yak-42-fresh-secret", 1);
    let done = core.ok("docker_write_compose", json!({"stack": name, "compose": fresh, "expected_sha256": now}));
    assert!(!text(&done, "diff").contains("Yak-42-fresh-secret"), "{done}");
    assert!(fs::read_to_string(&path).unwrap().contains("Yak-42-fresh-secret"));
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    assert!(!text(&read, "compose").contains("Yak-42-fresh-secret") && text(&read, "compose").contains("# never show"));
}

#[test]
fn a_text_that_was_cut_for_size_cannot_be_written_back() {
    let lab = Lab::new();
    let comment = "# filler filler filler filler filler filler filler filler\n".repeat(200);
    let name = lab.stack("web", &format!("services:\n{}{comment}", service("app")));
    let path = lab.stacks().join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    let mut core = lab.core(&[("MAX_RESULT_CHARS", "6000")]);
    let result = core.call("docker_read_compose", json!({"stack": name}));
    assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 6000);
    let read = &result["structuredContent"];
    assert!(read["cut"].as_u64().unwrap() > 5000, "{read}");
    let arguments = json!({"stack": name, "compose": read["compose"], "expected_sha256": read["sha256"]});
    let told = failed(&mut core, arguments);
    assert!(text(&told, "message").contains("shortened"), "{told}");
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    let long = format!("services: {{}}\n{}", "# x\n".repeat(270_000));
    let said = core.call("docker_write_compose", json!({"stack": lab.name("long"), "compose": long}));
    assert_eq!(said["isError"], json!(true), "more than a megabyte is no compose file");
    assert!(!lab.stacks().join(lab.name("long")).exists());
}

#[test]
fn the_env_file_is_never_shown_with_values() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    lab.file("web", ".env", &format!("# comment\nCOLOUR=blue\nexport DB_PASSWORD='{PASSWORD}'\nEMPTY=\n"));
    let mut core = lab.core(&[("CAPABILITY_LEVEL", "3")]);
    let read = core.ok("docker_read_compose", json!({"stack": name}));
    let env = text(&read, "env");
    assert!(env.contains("COLOUR=") && env.contains("DB_PASSWORD=") && env.contains("EMPTY="), "{env}");
    assert!(!read.to_string().contains(PASSWORD) && !env.contains("blue"), "{env}");
    // The operator can have it otherwise.
    let mut open = lab.core(&[("REDACT", "off")]);
    let read = open.ok("docker_read_compose", json!({"stack": name}));
    assert!(text(&read, "env").contains(PASSWORD));
}

#[test]
fn a_read_only_stacks_folder_is_said_and_nothing_changes() {
    let lab = Lab::new();
    let stacks = lab.stacks();
    if let Err(why) = lab.tmpfs(&stacks, "size=4m") {
        println!("left out: {why}");
        return;
    }
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let original = fs::read_to_string(stacks.join(&name).join("compose.yaml")).unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&stacks).status().unwrap();
    assert!(remounted.success());
    let mut core = lab.core(&[]);
    let compose = lab.text(&format!("services:\n{}", service("other")));
    let told = failed(&mut core, json!({"stack": name, "compose": compose, "expected_sha256": sha256(&original)}));
    let message = text(&told, "message");
    assert!(message.contains("read-only") && message.contains("nothing was changed"), "{message}");
    let told = failed(&mut core, json!({"stack": lab.name("new"), "compose": compose}));
    assert!(text(&told, "message").contains("read-only"), "{told}");
    assert_eq!(fs::read_to_string(stacks.join(&name).join("compose.yaml")).unwrap(), original);
    // Reading and running need no writing.
    core.ok("docker_read_compose", json!({"stack": name}));
    core.ok("docker_compose_up", json!({"stack": name}));
}

#[test]
fn a_full_disk_is_said_and_nothing_changes() {
    let lab = Lab::new();
    let stacks = lab.stacks();
    if let Err(why) = lab.tmpfs(&stacks, "size=256k") {
        println!("left out: {why}");
        return;
    }
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let path = stacks.join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    let long = format!("{original}{}", "# filler filler filler filler filler\n".repeat(12_000));
    let mut core = lab.core(&[]);
    let told = failed(&mut core, json!({"stack": name, "compose": long, "expected_sha256": sha256(&original)}));
    let message = text(&told, "message");
    assert!(message.contains("the disk is full") && message.contains("nothing was changed"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    assert_eq!(files(&lab, "web"), ["compose.yaml"], "no half of a file is left");
    let told = failed(&mut core, json!({"stack": lab.name("new"), "compose": long}));
    assert!(text(&told, "message").contains("the disk is full"), "{told}");
    assert!(!stacks.join(lab.name("new")).exists());
    // What fits is written.
    let short = original.replace("app:", "other:");
    core.ok("docker_write_compose", json!({"stack": name, "compose": short, "expected_sha256": sha256(&original)}));
}

#[test]
fn a_full_state_folder_stops_changes_before_they_begin() {
    let lab = Lab::new();
    let state = lab.dir.path().join("state");
    fs::create_dir(&state).unwrap();
    if let Err(why) = lab.tmpfs(&state, "size=64k,mode=700") {
        println!("left out: {why}");
        return;
    }
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let path = lab.stacks().join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    let mut core = lab.core(&[("STATE_DIR", state.to_str().unwrap())]);
    core.ok("docker_list_stacks", json!({"name": name}));
    // As much as fits, and not a byte more.
    let _ =
        Command::new("dd").args(["if=/dev/zero", "bs=1k"]).arg(format!("of={}", state.join("fill").display())).output();
    let changed = original.replace("app:", "other:");
    let result = core
        .call("docker_write_compose", json!({"stack": name, "compose": changed, "expected_sha256": sha256(&original)}));
    assert_eq!(result["isError"], json!(true), "{result}");
    let told = &result["structuredContent"];
    assert!(["refused", "failed"].contains(&text(told, "outcome")), "{told}");
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    core.ok("docker_read_compose", json!({"stack": name}));
}
