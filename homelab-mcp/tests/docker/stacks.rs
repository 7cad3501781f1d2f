//! Compose stacks: which there are, bringing them up and down, and what compose gets to see.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    lab::{IDLE, Lab, docker, engine, inspect, rows, text, try_docker, until},
    support::Core,
};

/// One service that runs until it is told to stop.
pub(crate) fn service(name: &str) -> String {
    format!("  {name}:\n    image: IMAGE\n    command: [\"/bin/sh\", \"-c\", {}]\n", json!(IDLE.replace('$', "$$")))
}

pub(crate) fn stack(core: &mut Core, name: &str) -> Value {
    let list = core.ok("docker_list_stacks", json!({"name": name}));
    let found = rows(&list, "stacks").iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {list}")).clone()
}

fn failed(core: &mut Core, tool: &str, arguments: Value) -> Value {
    let result = core.call(tool, arguments);
    assert_eq!(result["isError"], json!(true), "{result}");
    let told = result["structuredContent"].clone();
    assert_eq!((text(&told, "outcome"), &told["success"]), ("failed", &json!(false)), "{told}");
    told
}

/// compose itself, as a person in a shell would call it.
fn compose(lab: &Lab, what: &str, arguments: &[&str]) {
    let folder = lab.stacks().join(lab.name(what));
    let ran =
        Command::new("docker").env("DOCKER_HOST", engine()).arg("compose").args(arguments).current_dir(folder).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// The containers of a project, from outside.
fn containers(project: &str) -> Vec<String> {
    let filter = format!("label=com.docker.compose.project={project}");
    let found = docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]);
    let mut names: Vec<_> = found.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_stack_goes_up_and_down_and_each_says_what_became_of_it() {
    let lab = Lab::new();
    let name = lab.stack(
        "web",
        &format!(
            "services:\n{}{}volumes:\n  data:\n",
            service("app"),
            service("db") + "    volumes: [\"data:/data\"]\n"
        ),
    );
    let mut core = lab.core(&[]);
    assert_eq!(text(&stack(&mut core, &name), "state"), "down");

    let done = core.ok("docker_compose_up", json!({"stack": name}));
    assert_eq!((text(&done, "outcome"), text(&done, "state"), &done["exit_code"]), ("changed", "running", &json!(0)));
    assert!(text(&done, "message").contains("2 of 2"), "{done}");
    assert!(text(&done, "output").contains("Started"), "compose's own words: {done}");
    let told: Vec<_> = rows(&done, "services").iter().map(|row| (text(row, "service"), text(row, "state"))).collect();
    assert_eq!(told, [("app", "running"), ("db", "running")]);
    let (app, db) = (format!("{name}-app-1"), format!("{name}-db-1"));
    assert_eq!(containers(&name), [app.clone(), db.clone()]);
    assert_eq!(inspect(&app, "{{.State.Status}}"), "running");
    assert_eq!(done["services"][0]["containers"], json!([app]));

    let id = inspect(&app, "{{.Id}}");
    let done = core.ok("docker_compose_up", json!({"stack": name}));
    assert_eq!(text(&done, "outcome"), "unchanged", "{done}");
    assert_eq!(inspect(&app, "{{.Id}}"), id);

    // A changed service is made anew; one that is gone from the file goes.
    let text_now = lab.text(&format!("services:\n{}", service("app") + "    environment: {COLOUR: blue}\n"));
    fs::write(lab.stacks().join(&name).join("compose.yaml"), text_now).unwrap();
    let planned = core.ok("docker_compose_up", json!({"stack": name, "dry_run": true}));
    assert!(text(&planned, "message").contains("Containers of db go"), "{planned}");
    assert_eq!(containers(&name).len(), 2, "a dry run does nothing");
    let done = core.ok("docker_compose_up", json!({"stack": name}));
    assert_eq!(text(&done, "outcome"), "changed");
    assert!(inspect(&app, "{{.Id}}") != id && containers(&name) == [app]);

    let done = core.ok("docker_compose_down", json!({"stack": name}));
    assert_eq!((text(&done, "outcome"), &done["containers_left"]), ("changed", &json!(0)));
    assert!(done.get("volumes_removed").is_none(), "{done}");
    assert_eq!(containers(&name), Vec::<String>::new());
    assert!(try_docker(&["volume", "inspect", &format!("{name}_data")]).1, "volumes stay");
    assert!(!try_docker(&["network", "inspect", &format!("{name}_default")]).1);
    let done = core.ok("docker_compose_down", json!({"stack": name}));
    assert_eq!(text(&done, "outcome"), "unchanged", "{done}");
}

#[test]
fn removing_volumes_is_asked_for_and_told_by_name() {
    let lab = Lab::new();
    let (kept, other) = (lab.name("kept"), lab.name("other"));
    docker(&["volume", "create", &kept]);
    docker(&["volume", "create", &other]);
    let volumes = "    volumes: [\"data:/data\", \"kept:/kept\", \"/anonymous\"]\nvolumes:\n  data:\n  kept:\n    external: true\n    name: LAB-kept\n";
    let name = lab.stack("web", &format!("services:\n{}{volumes}", service("app")));
    let mut core = lab.core(&[]);
    core.ok("docker_compose_up", json!({"stack": name}));
    let mounts = inspect(&format!("{name}-app-1"), "{{range .Mounts}}{{.Destination}}={{.Name}} {{end}}");
    let anonymous = mounts.split(' ').find_map(|mount| mount.strip_prefix("/anonymous=")).unwrap().to_owned();
    let data = format!("{name}_data");
    let mut expected = vec![anonymous.clone(), data.clone()];
    expected.sort();

    let asked = core.ok("docker_compose_down", json!({"stack": name, "remove_volumes": true}));
    assert_eq!((text(&asked, "outcome"), &asked["success"]), ("needs_confirmation", &json!(false)));
    let question = text(&asked, "message");
    assert!(question.contains("DELETES") && question.contains(&data) && question.contains(&anonymous), "{question}");
    assert!(!question.contains(&kept) && !question.contains(&other), "{question}");
    assert!(rows(&asked, "also").iter().any(|also| *also == json!(format!("volume:{data}"))), "{asked}");
    assert_eq!(containers(&name).len(), 1, "nothing was done yet");

    let code = text(&asked, "confirm");
    let done = core.ok("docker_compose_down", json!({"stack": name, "remove_volumes": true, "confirm": code}));
    assert_eq!(text(&done, "outcome"), "changed");
    assert_eq!((&done["volumes_removed"], &done["volumes_left"]), (&json!(expected), &json!([])));
    assert!(text(&done, "message").contains(&data), "{done}");
    for (volume, there) in [(&data, false), (&anonymous, false), (&kept, true), (&other, true)] {
        assert_eq!(try_docker(&["volume", "inspect", volume]).1, there, "{volume}");
    }
}

#[test]
fn every_file_name_that_compose_takes_is_read_and_brought_up() {
    let lab = Lab::new();
    let mut core = lab.core(&[]);
    for (n, file) in
        ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"].into_iter().enumerate()
    {
        let what = format!("web{n}");
        let path = lab.file(&what, file, &format!("# kept to the letter: {file}\nservices:\n{}", service("app")));
        let name = lab.name(&what);
        let read = core.ok("docker_read_compose", json!({"stack": name}));
        assert_eq!(text(&read, "compose"), fs::read_to_string(&path).unwrap());
        assert_eq!((text(&read, "path"), &read["files"]), (path.to_str().unwrap(), &json!([file])));
        assert_eq!(text(&read, "sha256"), crate::lab::sha256(fs::read(&path).unwrap()));
        let done = core.ok("docker_compose_up", json!({"stack": name}));
        assert_eq!(text(&done, "state"), "running", "{done}");
        assert_eq!(containers(&name), [format!("{name}-app-1")]);
        assert_eq!(stack(&mut core, &name)["files"], json!([file]));
        core.ok("docker_compose_down", json!({"stack": name}));
    }
}

#[test]
fn a_project_is_found_by_its_labels_also_under_another_name() {
    let lab = Lab::new();
    // By the file itself …
    let named = lab.stack("folder", &format!("name: LAB-elsewhere\nservices:\n{}", service("app")));
    // … and by somebody who chose one on the command line.
    let chosen = lab.stack("chosen", &format!("services:\n{}", service("app")));
    compose(&lab, "chosen", &["--project-name", &lab.name("byhand"), "up", "--detach"]);
    let mut core = lab.core(&[]);
    core.ok("docker_compose_up", json!({"stack": named}));
    assert_eq!(containers(&lab.name("elsewhere")), [lab.name("elsewhere-app-1")]);

    for (name, project) in [(&named, lab.name("elsewhere")), (&chosen, lab.name("byhand"))] {
        let row = stack(&mut core, name);
        assert_eq!((text(&row, "project"), text(&row, "state")), (project.as_str(), "running"), "{row}");
        assert_eq!((&row["managed"], &row["running"], &row["total"]), (&json!(true), &json!(1), &json!(1)));
        let id = inspect(&format!("{project}-app-1"), "{{.Id}}");
        let done = core.ok("docker_compose_up", json!({"stack": name}));
        assert_eq!(text(&done, "outcome"), "unchanged", "no second copy under another name: {done}");
        assert_eq!((inspect(&format!("{project}-app-1"), "{{.Id}}"), containers(name)), (id, vec![]));
        let listed = core.ok("docker_list_containers", json!({"stack": name}));
        assert_eq!(text(&listed["containers"][0], "stack"), project, "found by folder too: {listed}");
        core.ok("docker_compose_down", json!({"stack": name}));
        assert_eq!(containers(&project), Vec::<String>::new());
    }
}

#[test]
fn global_env_and_env_are_used_as_dockge_does() {
    let lab = Lab::new();
    fs::write(lab.stacks().join("global.env"), "SHARED=from-global\nBOTH=global\n").unwrap();
    let environment = "    environment: [\"SHARED=${SHARED}\", \"BOTH=${BOTH}\", \"OWN=${OWN}\"]\n";
    let name = lab.stack("web", &format!("services:\n{}{environment}", service("app")));
    lab.file("web", ".env", "OWN=from-env\nBOTH=own\n");
    let bare = lab.stack("bare", &format!("services:\n{}{environment}", service("app")));
    let mut core = lab.core(&[]);
    let values = |name: &str| inspect(&format!("{name}-app-1"), "{{json .Config.Env}}");
    core.ok("docker_compose_up", json!({"stack": name}));
    for expected in ["\"SHARED=from-global\"", "\"BOTH=own\"", "\"OWN=from-env\""] {
        assert!(values(&name).contains(expected), "{}", values(&name));
    }
    let done = core.ok("docker_compose_up", json!({"stack": bare}));
    assert!(
        values(&bare).contains("\"SHARED=from-global\"") && values(&bare).contains("\"OWN=\""),
        "{}",
        values(&bare)
    );
    assert!(
        rows(&done, "notes").iter().any(|note| note.as_str().unwrap().contains("OWN")),
        "an unset variable is said: {done}"
    );
}

#[test]
fn no_variable_of_ours_reaches_a_compose_file() {
    let lab = Lab::new();
    let environment = "    environment:\n      A: \"${PROXMOX_TOKEN_SECRET:-unset}\"\n      B: \"${CONFIRM_KEY:-unset}\"\n      C: \"${STATE_DIR:-unset}\"\n      PROXMOX_TOKEN_SECRET:\n      CONFIRM_KEY:\n      PATH_SEEN: \"${PATH:+yes}\"\n";
    let name = lab.stack("web", &format!("services:\n{}{environment}", service("app")));
    let (secret, key) = ("s3cr3t-of-the-hypervisor", "0123456789abcdef0123456789abcdef-key");
    let proxmox = [("PROXMOX_HOST", "pve"), ("PROXMOX_TOKEN_ID", "a@pam!b"), ("PROXMOX_TOKEN_SECRET", secret)];
    let mut core = lab.core(&[&proxmox[..], &[("CONFIRM_KEY", key), ("HOMELAB_ANY", "x")]].concat());
    core.ok("docker_compose_up", json!({"stack": name}));
    let seen = inspect(&format!("{name}-app-1"), "{{json .Config.Env}}");
    for expected in ["\"A=unset\"", "\"B=unset\"", "\"C=unset\"", "\"PATH_SEEN=yes\""] {
        assert!(seen.contains(expected), "{seen}");
    }
    assert!(!seen.contains(secret) && !seen.contains(key) && !seen.contains("PROXMOX_TOKEN_SECRET="), "{seen}");
    // Nor a text that is only checked.
    let text_now = format!(
        "services:\n  app:\n    image: \"x:${{PROXMOX_TOKEN_SECRET}}\"\n    container_name: \"{}-${{CONFIRM_KEY}}\"\n",
        lab.name("c")
    );
    let told =
        core.call("docker_write_compose", json!({"stack": lab.name("new"), "compose": text_now, "dry_run": true}));
    assert!(!told.to_string().contains(secret) && !told.to_string().contains(key), "{told}");
}

#[test]
fn a_service_that_does_not_stay_up_is_no_success() {
    let lab = Lab::new();
    let name = lab.stack(
        "web",
        &format!("services:\n{}  bad:\n    image: IMAGE\n    command: [\"sh\", \"-c\", \"exit 3\"]\n", service("app")),
    );
    let done =
        lab.stack("job", &format!("services:\n{}  job:\n    image: IMAGE\n    command: [\"true\"]\n", service("app")));
    let mut core = lab.core(&[]);
    let told = failed(&mut core, "docker_compose_up", json!({"stack": name}));
    assert!(text(&told, "message").contains("bad is exited"), "{told}");
    let row = rows(&told, "services").iter().find(|row| row["service"] == "bad").unwrap();
    assert_eq!((text(row, "state"), text(&told, "state")), ("exited", "partial"));
    // One that did its work beside one that runs is fine.
    let told = core.ok("docker_compose_up", json!({"stack": done}));
    assert_eq!((text(&told, "outcome"), text(&told, "state")), ("changed", "running"), "{told}");
}

#[test]
fn a_failure_carries_composes_real_words() {
    let lab = Lab::new();
    let name = lab.stack("web", "services:\n  app:\n    image: LAB-image-that-nobody-made:7\n    pull_policy: never\n");
    let network = lab
        .stack("network", &format!("services:\n{}", service("app") + "    network_mode: \"container:LAB-nobody\"\n"));
    let broken = lab.stack("broken", "services:\n  app:\n    imagee: x\n");
    let mut core = lab.core(&[]);
    let told = failed(&mut core, "docker_compose_up", json!({"stack": name}));
    let image = lab.text("LAB-image-that-nobody-made:7");
    assert!(text(&told, "output").contains(&image) && text(&told, "message").contains(&image), "{told}");
    assert!(told["exit_code"].as_i64().unwrap() > 0, "{told}");
    assert_eq!(told["untrusted"], json!(["output"]));
    let told = failed(&mut core, "docker_compose_up", json!({"stack": network}));
    assert!(text(&told, "output").contains(&lab.name("nobody")), "{told}");
    for tool in ["docker_compose_up", "docker_compose_down"] {
        let told = failed(&mut core, tool, json!({"stack": broken}));
        assert!(text(&told, "message").contains("imagee"), "{told}");
    }
}

#[test]
fn endless_output_is_capped_to_its_newest_lines() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let bin = lab.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let cli = bin.join("docker");
    // compose itself, but for `up`.
    let real = Command::new("sh").args(["-c", "command -v docker"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' up '*) seq 1 200000; echo 'layer 7: no space left' >&2; exit 17;; esac\nexec {} \"$@\"\n",
        real.trim()
    );
    fs::write(&cli, script).unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let mut core = lab.core(&[("PATH", &path)]);
    let result = core.call("docker_compose_up", json!({"stack": name}));
    assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 50_000);
    let told = &result["structuredContent"];
    assert_eq!((&result["isError"], text(told, "outcome"), &told["exit_code"]), (&json!(true), "failed", &json!(17)));
    assert!(text(told, "message").contains("layer 7: no space left"), "{told}");
    let output = text(told, "output");
    assert!(output.ends_with("199999\n200000\nlayer 7: no space left") && output.len() < 20_000, "{}", output.len());
}

#[test]
fn a_missing_plugin_or_program_is_said_in_a_sentence() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let (nothing, plain) = (lab.dir.path().join("nothing"), lab.dir.path().join("plain"));
    fs::create_dir_all(&nothing).unwrap();
    fs::create_dir_all(&plain).unwrap();
    // What a Docker CLI without the plugin says.
    let cli = plain.join("docker");
    fs::write(&cli, "#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n").unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    for (path, part) in [(&nothing, "there is no program docker"), (&plain, "plugin is not installed")] {
        let mut core = lab.core(&[("PATH", path.to_str().unwrap())]);
        for tool in ["docker_compose_up", "docker_compose_down"] {
            let told = failed(&mut core, tool, json!({"stack": name}));
            let message = text(&told, "message");
            assert!(message.contains(part) && message.contains("Install") && !message.contains('\n'), "{message}");
        }
        let told = failed(&mut core, "docker_write_compose", json!({"stack": name, "compose": "services: {}\n"}));
        assert!(text(&told, "message").contains(part), "{told}");
        // What needs no plugin works on.
        assert_eq!(text(&stack(&mut core, &name), "state"), "down");
        core.ok("docker_read_compose", json!({"stack": name}));
        core.ok("docker_list_containers", json!({"limit": 1}));
    }
}

#[test]
fn no_name_leads_out_of_the_stacks_folder() {
    let lab = Lab::new();
    let outside = lab.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let original = lab.text(&format!("services:\n{}", service("app")));
    fs::write(outside.join("compose.yaml"), &original).unwrap();
    symlink(&outside, lab.stacks().join(lab.name("link"))).unwrap();
    // A file that leads out of its folder is no better.
    fs::create_dir(lab.stacks().join(lab.name("file"))).unwrap();
    symlink(outside.join("compose.yaml"), lab.stacks().join(lab.name("file")).join("compose.yaml")).unwrap();
    let mut core = lab.core(&[("CONFIRM", "never")]);
    let (link, file, absolute) = (lab.name("link"), lab.name("file"), outside.to_str().unwrap().to_owned());
    for name in
        ["..", ".", "../outside", "x/../../outside", &absolute, "a/b", "a\\b", "-p", "UPPER", "..%2foutside", &link]
    {
        let said = core.call("docker_read_compose", json!({"stack": name}));
        assert_eq!(said["isError"], json!(true), "{name}: {said}");
        assert!(!said.to_string().contains("3600"), "nothing of the file is shown: {said}");
        for (tool, more) in [
            ("docker_compose_up", json!({})),
            ("docker_compose_down", json!({"remove_volumes": true})),
            ("docker_write_compose", json!({"compose": "services: {}\n"})),
        ] {
            let mut arguments = more;
            arguments["stack"] = json!(name);
            let result = core.call(tool, arguments);
            assert_eq!(result["isError"], json!(true), "{tool} {name}: {result}");
            if result["structuredContent"].is_object() {
                assert_eq!(text(&result["structuredContent"], "outcome"), "failed", "{tool} {name}");
            }
        }
    }
    // What its operator runs from there can be run, but is neither shown nor replaced.
    let said = core.error("docker_read_compose", json!({"stack": file}));
    assert!(said.contains("out of its folder") && !said.contains("3600"), "{said}");
    let told = failed(&mut core, "docker_write_compose", json!({"stack": file, "compose": "services: {}\n"}));
    assert!(text(&told, "message").contains("out of its folder"), "{told}");
    assert_eq!(fs::read_to_string(outside.join("compose.yaml")).unwrap(), original);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_dir(lab.dir.path()).unwrap().count(), 2, "nothing was made beside it");
    let notes = core.ok("docker_list_stacks", json!({}));
    assert!(rows(&notes, "notes").iter().any(|note| note.as_str().unwrap().contains("symbolic link")), "{notes}");
}

#[test]
fn stacks_are_listed_in_every_state() {
    let lab = Lab::new();
    let two = format!("services:\n{}{}", service("app"), service("db"));
    for what in ["down", "running", "partial", "exited", "orphaned", "oneoff"] {
        lab.stack(what, &two);
    }
    for what in ["running", "partial", "exited", "orphaned"] {
        compose(&lab, what, &["up", "--detach"]);
    }
    docker(&["kill", &lab.name("partial-db-1")]);
    compose(&lab, "exited", &["stop"]);
    compose(&lab, "oneoff", &["run", "--detach", "--name", &lab.name("oneoff-by-hand"), "app"]);
    fs::remove_dir_all(lab.stacks().join(lab.name("orphaned"))).unwrap();
    // A project that somebody runs from another place.
    let elsewhere = format!("com.docker.compose.project.working_dir=/home/somebody/{}", lab.name("foreign"));
    let project = format!("com.docker.compose.project={}", lab.name("foreign"));
    lab.run(
        "foreign-app-1",
        &["--label", &project, "--label", "com.docker.compose.service=app", "--label", &elsewhere],
        IDLE,
    );

    let mut core = lab.core(&[("CAPABILITY_LEVEL", "1")]);
    let list = core.ok("docker_list_stacks", json!({"name": lab.prefix()}));
    let told: Vec<_> = rows(&list, "stacks")
        .iter()
        .map(|row| {
            let name = text(row, "name").strip_prefix(&lab.name("")).unwrap();
            (
                name,
                text(row, "state"),
                row["running"].as_u64().unwrap(),
                row["total"].as_u64().unwrap(),
                row["managed"] == true,
            )
        })
        .collect();
    let expected = [
        ("down", "down", 0, 0, true),
        ("exited", "exited", 0, 2, true),
        ("foreign", "running", 1, 1, false),
        ("oneoff", "down", 0, 0, true),
        ("orphaned", "orphaned", 2, 2, false),
        ("partial", "partial", 1, 2, true),
        ("running", "running", 2, 2, true),
    ];
    assert_eq!(told, expected);
    let row = rows(&list, "stacks").iter().find(|row| row["name"] == json!(lab.name("running"))).unwrap();
    assert_eq!(text(row, "folder"), lab.stacks().join(lab.name("running")).to_str().unwrap());
    assert_eq!((text(row, "project"), &row["files"]), (lab.name("running").as_str(), &json!(["compose.yaml"])));
    let services: Vec<_> = rows(row, "services").iter().map(|row| (text(row, "service"), text(row, "state"))).collect();
    assert_eq!(services, [("app", "running"), ("db", "running")]);

    let mut arguments = json!({"name": lab.prefix(), "limit": 3});
    let mut names = Vec::new();
    loop {
        let page = core.ok("docker_list_stacks", arguments.clone());
        names.extend(rows(&page, "stacks").iter().map(|row| text(row, "name").to_owned()));
        let Some(next) = page.get("next_cursor") else { break };
        arguments["cursor"] = next.clone();
    }
    assert_eq!(names.len(), expected.len());

    // An orphaned stack cannot be brought up, and the answer says which stacks there are.
    let mut manager = lab.core(&[]);
    let told = failed(&mut manager, "docker_compose_up", json!({"stack": lab.name("orphaned")}));
    assert!(text(&told, "message").contains("no such stack"), "{told}");
}

#[test]
fn without_an_engine_the_folders_are_still_told() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let mut core = lab.core(&[("DOCKER_HOST", "unix:///nonexistent/docker.sock")]);
    let list = core.ok("docker_list_stacks", json!({"name": name}));
    assert!(rows(&list, "stacks")[0].get("state").is_none(), "a state that is not known is absent: {list}");
    assert!(rows(&list, "notes").iter().any(|note| note.as_str().unwrap().contains("states are unknown")), "{list}");
    core.ok("docker_read_compose", json!({"stack": name}));
    failed(&mut core, "docker_compose_up", json!({"stack": name}));
    // And without a stacks folder the engine's side is.
    let mut core = lab.core(&[("DOCKGE_STACKS_PATH", "/nonexistent/stacks")]);
    let list = core.ok("docker_list_stacks", json!({}));
    assert!(rows(&list, "notes")[0].as_str().unwrap().contains("DOCKGE_STACKS_PATH"), "{list}");
}

#[test]
fn progress_of_a_stack_is_told_as_it_goes() {
    let lab = Lab::new();
    let slow = service("app")
        + "    healthcheck: {test: [\"CMD\", \"true\"], interval: 2s}\n"
        + &service("after")
        + "    depends_on: {app: {condition: service_healthy}}\n";
    let name = lab.stack("web", &format!("services:\n{slow}"));
    let mut core = lab.core(&[]);
    let params = json!({"name": "docker_compose_up", "arguments": {"stack": name}, "_meta": {"progressToken": 7}});
    let id = core.request("tools/call", params);
    // compose's own words, as soon as it has any.
    let told =
        core.wait_for(|message| message["params"]["message"].as_str().is_some_and(|words| words.contains(&name)));
    assert_eq!((&told["method"], &told["params"]["progressToken"]), (&json!("notifications/progress"), &json!(7)));
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    until("both run", || containers(&name).len() == 2);
}
