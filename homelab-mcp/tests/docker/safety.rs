//! What must not happen: protected objects, confirmations in every form, the audit log, folders that cannot be written.

use std::{collections::BTreeSet, fs, sync::Barrier, thread};

use serde_json::{Value, json};

use crate::{
    lab::{IDLE, Lab, docker, inspect, rows, sha256, text, try_docker},
    stacks::service,
    support::{Core, run},
};

fn outcome(core: &mut Core, tool: &str, arguments: Value) -> (String, Value) {
    let told = core.call(tool, arguments)["structuredContent"].clone();
    (text(&told, "outcome").to_owned(), told)
}

#[track_caller]
fn refused(core: &mut Core, tool: &str, arguments: &Value, word: &str) {
    let result = core.call(tool, arguments.clone());
    let told = &result["structuredContent"];
    assert_eq!((&result["isError"], text(told, "outcome")), (&json!(true), "refused"), "{tool} {arguments}: {told}");
    assert!(text(told, "message").contains(word), "{word}: {told}");
}

fn with(arguments: &Value, name: &str, value: &Value) -> Value {
    let mut arguments = arguments.clone();
    arguments[name] = value.clone();
    arguments
}

fn started(name: &str) -> String {
    inspect(name, "{{.Id}} {{.State.StartedAt}}")
}

// --- PROTECTED ----------------------------------------------------------------------------------------------------------

#[test]
fn a_container_is_protected_under_each_of_its_names() {
    let lab = Lab::new();
    let labels = ["--label", &format!("com.docker.compose.project={}", lab.name("infra"))];
    let folder = format!("com.docker.compose.project.working_dir=/somewhere/{}", lab.name("folder"));
    let proxy = lab.run("proxy", &[&labels[..], &["--label", &folder]].concat(), IDLE);
    let free = lab.run("free", &[], IDLE);
    let id = inspect(&proxy, "{{.Id}}");
    let before = started(&proxy);
    let infra = format!("stack:{}", lab.name("infra"));
    let items = [
        format!("docker:{proxy}"),
        format!("docker:/{proxy}"),
        format!("docker:{id}"),
        format!("docker:{}", &id[..12]),
        format!("docker:{}", id[..8].to_uppercase()),
        infra,
        format!("stack:{}", lab.name("folder")),
    ];
    for item in items {
        let list = format!("proxmox:100, {item}");
        let mut core = lab.core(&[("PROTECTED", &list), ("CONFIRM", "never")]);
        for name in [&proxy, &id, &id[..12], &id[..6]] {
            for tool in ["docker_stop_container", "docker_start_container", "docker_restart_container"] {
                refused(&mut core, tool, &json!({"container": name}), "PROTECTED");
                refused(&mut core, tool, &json!({"container": name, "dry_run": true}), "PROTECTED");
            }
            refused(&mut core, "docker_exec", &json!({"container": name, "command": "true"}), "PROTECTED");
        }
        core.ok("docker_container_logs", json!({"container": proxy}));
        core.ok("docker_exec", json!({"container": free, "command": "true"}));
    }
    assert_eq!(started(&proxy), before);
}

#[test]
fn a_stack_that_would_touch_a_protected_container_is_refused() {
    let lab = Lab::new();
    let name = lab.stack("infra", &format!("services:\n{}{}", service("proxy"), service("other")));
    let mut setup = lab.core(&[]);
    setup.ok("docker_compose_up", json!({"stack": name}));
    let proxy = format!("{name}-proxy-1");
    let path = lab.stacks().join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    let before = started(&proxy);
    let sha = sha256(&original);
    let id = inspect(&proxy, "{{.Id}}");
    for item in [format!("docker:{proxy}"), format!("docker:{}", &id[..12]), format!("stack:{name}")] {
        let mut core = lab.core(&[("PROTECTED", &item), ("CONFIRM", "never")]);
        let compose = original.replace("other:", "another:");
        for (tool, arguments) in [
            ("docker_compose_up", json!({"stack": name})),
            ("docker_compose_down", json!({"stack": name})),
            ("docker_compose_down", json!({"stack": name, "remove_volumes": true})),
            ("docker_write_compose", json!({"stack": name, "compose": compose})),
            ("docker_write_compose", json!({"stack": name, "compose": compose, "expected_sha256": sha})),
        ] {
            refused(&mut core, tool, &arguments, "PROTECTED");
        }
    }
    assert_eq!((started(&proxy), fs::read_to_string(&path).unwrap()), (before, original));
}

#[test]
fn another_stack_cannot_claim_what_is_protected() {
    let lab = Lab::new();
    let infra = lab.stack("infra", &format!("services:\n{}", service("proxy")));
    let mut setup = lab.core(&[]);
    setup.ok("docker_compose_up", json!({"stack": infra}));
    let proxy = format!("{infra}-proxy-1");
    let lone = lab.run("lone", &[], IDLE);
    let (before, lone_before) = (started(&proxy), started(&lone));

    let by_container = format!("services:\n{}    container_name: {lone}\n", service("app"));
    let by_project = format!("name: {infra}\nservices:\n{}", service("app"));
    let by_project_down = format!("name: {infra}\nservices:\n{}", service("proxy"));
    let by_name = format!("name: {infra}\nservices:\n{}    container_name: {proxy}\n", service("proxy"));
    let items = format!("docker:{lone}, stack:{infra}");
    let mut core = lab.core(&[("PROTECTED", &items), ("CONFIRM", "never")]);
    for (n, compose) in [by_container, by_project, by_project_down, by_name].into_iter().enumerate() {
        let (what, compose) = (format!("evil{n}"), lab.text(&compose));
        let name = lab.name(&what);
        refused(&mut core, "docker_write_compose", &json!({"stack": name, "compose": compose}), "PROTECTED");
        assert!(!lab.stacks().join(&name).exists());
        // Also when it came there another way.
        lab.file(&what, "compose.yaml", &compose);
        refused(&mut core, "docker_compose_up", &json!({"stack": name}), "PROTECTED");
        refused(&mut core, "docker_compose_down", &json!({"stack": name, "remove_volumes": true}), "PROTECTED");
    }
    // By an env file beside it.
    lab.file("byenv", "compose.yaml", &format!("services:\n{}", service("app")));
    lab.file("byenv", ".env", &format!("COMPOSE_PROJECT_NAME={infra}\n"));
    refused(&mut core, "docker_compose_down", &json!({"stack": lab.name("byenv")}), "PROTECTED");
    refused(&mut core, "docker_compose_up", &json!({"stack": lab.name("byenv")}), "PROTECTED");
    // By a variable in the name.
    lab.file("byvar", "compose.yaml", &format!("name: ${{TAKEN}}\nservices:\n{}", service("app")));
    lab.file("byvar", ".env", &format!("TAKEN={infra}\n"));
    refused(&mut core, "docker_compose_up", &json!({"stack": lab.name("byvar")}), "PROTECTED");
    // With only the container protected it is the same: `up` and `down` would remove it as one that the file lacks.
    let mut core = lab.core(&[("PROTECTED", &format!("docker:{proxy}")), ("CONFIRM", "never")]);
    for what in ["evil1", "evil2", "evil3", "byenv", "byvar"] {
        refused(&mut core, "docker_compose_up", &json!({"stack": lab.name(what)}), "PROTECTED");
        refused(&mut core, "docker_compose_down", &json!({"stack": lab.name(what)}), "PROTECTED");
    }
    // And under its id, whatever name a file claims.
    let id = inspect(&lone, "{{.Id}}");
    let mut core = lab.core(&[("PROTECTED", &format!("docker:{}", &id[..12])), ("CONFIRM", "never")]);
    refused(&mut core, "docker_compose_up", &json!({"stack": lab.name("evil0")}), "PROTECTED");
    assert_eq!((started(&proxy), started(&lone)), (before, lone_before));
    // A name that is protected before there is such a container cannot be taken either.
    let claim = lab.text(&format!("services:\n{}    container_name: LAB-tomorrow\n", service("app")));
    let item = format!("docker:{}", lab.name("tomorrow"));
    let mut core = lab.core(&[("PROTECTED", &item)]);
    refused(&mut core, "docker_write_compose", &json!({"stack": lab.name("claim"), "compose": claim}), "PROTECTED");
}

#[test]
fn a_protected_volume_is_not_removed_with_its_stack() {
    let lab = Lab::new();
    let name =
        lab.stack("web", &format!("services:\n{}    volumes: [\"data:/data\"]\nvolumes:\n  data:\n", service("app")));
    let volume = format!("{name}_data");
    let mut core = lab.core(&[("PROTECTED", &format!("volume:{volume}")), ("CONFIRM", "never")]);
    core.ok("docker_compose_up", json!({"stack": name}));
    refused(&mut core, "docker_compose_down", &json!({"stack": name, "remove_volumes": true}), &volume);
    assert_eq!(inspect(&format!("{name}-app-1"), "{{.State.Status}}"), "running");
    core.ok("docker_compose_down", json!({"stack": name}));
    assert!(try_docker(&["volume", "inspect", &volume]).1);
}

#[test]
fn a_volume_that_a_stack_only_names_is_removed_as_well_and_so_is_asked_for() {
    let lab = Lab::new();
    let precious = lab.name("precious");
    docker(&["volume", "create", &precious]);
    // Made elsewhere and not said to be external: compose removes it with the stack.
    let volumes = "    volumes: [\"data:/data\"]\nvolumes:\n  data:\n    name: LAB-precious\n";
    let name = lab.stack("web", &format!("services:\n{}{volumes}", service("app")));
    let mut core = lab.core(&[]);
    core.ok("docker_compose_up", json!({"stack": name}));
    let call = json!({"stack": name, "remove_volumes": true});
    let mut guarded = lab.core(&[("PROTECTED", &format!("volume:{precious}")), ("CONFIRM", "never")]);
    refused(&mut guarded, "docker_compose_down", &call, &precious);
    let (asked, told) = outcome(&mut core, "docker_compose_down", call.clone());
    assert_eq!(asked, "needs_confirmation");
    assert!(text(&told, "message").contains(&precious), "{told}");
    let done = core.ok("docker_compose_down", with(&call, "confirm", &told["confirm"]));
    let gone = !try_docker(&["volume", "inspect", &precious]).1;
    assert_eq!(rows(&done, "volumes_removed").contains(&json!(precious)), gone, "{done}");
}

#[test]
fn a_protected_network_is_not_removed_with_its_stack() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let network = format!("{name}_default");
    let mut core = lab.core(&[("PROTECTED", &format!("network:{network}")), ("CONFIRM", "never")]);
    core.ok("docker_compose_up", json!({"stack": name}));
    refused(&mut core, "docker_compose_down", &json!({"stack": name}), &network);
    assert!(try_docker(&["network", "inspect", &network]).1);
    assert_eq!(inspect(&format!("{name}-app-1"), "{{.State.Status}}"), "running");
}

// --- CONFIRM ------------------------------------------------------------------------------------------------------------

#[test]
fn a_code_works_once_for_its_call_and_its_object() {
    let lab = Lab::new();
    let (web, other) = (lab.run("web", &[], IDLE), lab.run("other", &[], IDLE));
    let mut core = lab.core(&[("CONFIRM", "changes")]);
    let call = json!({"container": web, "timeout": 5});
    let ask = |core: &mut Core, tool: &str, call: &Value| {
        let (outcome, told) = outcome(core, tool, call.clone());
        assert_eq!((outcome.as_str(), &told["success"]), ("needs_confirmation", &json!(false)), "{told}");
        assert!(text(&told, "message").contains("`confirm`"), "{told}");
        told["confirm"].clone()
    };
    let (web_before, other_before) = (started(&web), started(&other));
    let code = ask(&mut core, "docker_restart_container", &call);
    let (first, rest) = code.as_str().unwrap().split_at(1);
    let altered = format!("{}{rest}", if first == "A" { "B" } else { "A" });
    // Not for other arguments, another object, another tool, or altered.
    for (tool, arguments) in [
        ("docker_restart_container", json!({"container": web, "timeout": 6, "confirm": code})),
        ("docker_restart_container", json!({"container": web, "confirm": code})),
        ("docker_restart_container", json!({"container": other, "timeout": 5, "confirm": code})),
        ("docker_stop_container", json!({"container": web, "timeout": 5, "confirm": code})),
        ("docker_restart_container", with(&call, "confirm", &json!(altered))),
        ("docker_restart_container", with(&call, "confirm", &json!("yes"))),
        ("docker_restart_container", with(&call, "confirm", &json!(""))),
    ] {
        refused(&mut core, tool, &arguments, "confirmation code");
    }
    assert_eq!((started(&web), started(&other)), (web_before.clone(), other_before));
    // In another order, with another way of waiting, and from another process: it is the same call.
    let state = core.state.path().to_str().unwrap().to_owned();
    let mut second = lab.core(&[("CONFIRM", "changes"), ("STATE_DIR", &state)]);
    let done = second
        .ok("docker_restart_container", json!({"confirm": code, "wait_seconds": 60, "timeout": 5, "container": web}));
    assert_eq!(text(&done, "outcome"), "changed");
    let web_after = started(&web);
    assert_ne!(web_after, web_before);
    for core in [&mut core, &mut second] {
        refused(core, "docker_restart_container", &with(&call, "confirm", &code), "used before");
    }
    assert_eq!(started(&web), web_after);

    // Not for another container that has taken the name.
    let code = ask(&mut core, "docker_restart_container", &call);
    docker(&["rm", "--force", &web]);
    lab.run("web", &[], IDLE);
    let before = started(&web);
    refused(&mut core, "docker_restart_container", &with(&call, "confirm", &code), "confirmation code");
    assert_eq!(started(&web), before);
    // With nothing to do, nothing is asked.
    let (outcome, _) = outcome(&mut core, "docker_start_container", json!({"container": web}));
    assert_eq!(outcome, "unchanged");
}

#[test]
fn of_many_who_bring_the_same_code_one_acts() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[("CONFIRM", "changes")]);
    let call = json!({"container": web, "command": "echo x >> /count"});
    let (_, told) = outcome(&mut core, "docker_exec", call.clone());
    let call = with(&call, "confirm", &told["confirm"]);
    let state = core.state.path().to_str().unwrap();
    let together = Barrier::new(4);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let bring = || {
            let mut core = lab.core(&[("CONFIRM", "changes"), ("STATE_DIR", state)]);
            core.ok("docker_list_containers", json!({"limit": 1}));
            together.wait();
            outcome(&mut core, "docker_exec", call.clone()).0
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(bring)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "changed").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "refused").count(), 3, "{outcomes:?}");
    assert_eq!(docker(&["exec", &web, "cat", "/count"]), "x");
}

#[test]
fn when_to_ask_and_how_is_the_operators_choice() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let name =
        lab.stack("web", &format!("services:\n{}    volumes: [\"data:/data\"]\nvolumes:\n  data:\n", service("app")));
    let restart = json!({"container": web});
    let destroy = json!({"stack": name, "remove_volumes": true});

    let mut denies = lab.core(&[("CONFIRM_WITHOUT_DIALOG", "deny")]);
    denies.ok("docker_restart_container", restart.clone());
    denies.ok("docker_compose_up", json!({"stack": name}));
    refused(&mut denies, "docker_compose_down", &destroy, "CONFIRM_WITHOUT_DIALOG=deny");
    let mut denies = lab.core(&[("CONFIRM_WITHOUT_DIALOG", "deny"), ("CONFIRM", "changes")]);
    let before = started(&web);
    refused(&mut denies, "docker_restart_container", &restart, "CONFIRM_WITHOUT_DIALOG=deny");
    assert_eq!(started(&web), before);

    let mut asks = lab.core(&[]);
    let (asked, _) = outcome(&mut asks, "docker_compose_down", destroy.clone());
    assert_eq!(asked, "needs_confirmation", "by default what cannot be undone is asked for");
    // A code that nobody needed is looked at all the same.
    refused(&mut asks, "docker_restart_container", &with(&restart, "confirm", &json!("AAAA")), "confirmation code");

    let mut never = lab.core(&[("CONFIRM", "never")]);
    let done = never.ok("docker_compose_down", destroy);
    assert_eq!(done["volumes_removed"], json!([format!("{name}_data")]));
}

/// A session of an earlier era whose client can ask its user.
fn legacy(lab: &Lab, variables: &[(&str, &str)]) -> Core {
    let mut core = lab.core(variables);
    let id = core.request(
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "test", "version": "1"}}),
    );
    assert_eq!(core.answer(id)["result"]["protocolVersion"], "2025-06-18");
    core.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    core
}

#[test]
fn a_legacy_clients_user_is_asked_and_obeyed() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = legacy(&lab, &[("CONFIRM", "changes"), ("CHANGES_PER_OBJECT", "0")]);
    let before = started(&web);
    for (answer, expected) in [
        (json!({"action": "decline"}), "refused"),
        (json!({"action": "cancel"}), "refused"),
        (json!({"action": "accept", "content": {"confirm": false}}), "refused"),
        (json!({"action": "accept", "content": {}}), "refused"),
        (json!({"action": "accept"}), "refused"),
        (json!({"action": "accept", "content": {"confirm": true}}), "changed"),
    ] {
        let id = core.begin("docker_restart_container", json!({"container": web}));
        let question = core.wait_for(|message| message["method"] == "elicitation/create");
        assert!(question["params"]["message"].as_str().unwrap().contains(&web), "{question}");
        assert_eq!(question["params"]["requestedSchema"]["properties"]["confirm"]["type"], "boolean", "{question}");
        assert_eq!(started(&web), before, "nothing happens before the answer");
        core.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}).to_string());
        let result = core.answer(id)["result"].clone();
        assert_eq!(text(&result["structuredContent"], "outcome"), expected, "{answer}: {result}");
        assert_eq!(started(&web) == before, expected == "refused", "{answer}");
    }
    // A client that cannot ask after all.
    let before = started(&web);
    let id = core.begin("docker_restart_container", json!({"container": web}));
    let question = core.wait_for(|message| message["method"] == "elicitation/create");
    core.send(
        &json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32603, "message": "no window"}}).to_string(),
    );
    assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "refused");
    // A dialog does not go around what is protected, and what is only planned is not asked for.
    let told = core.ok("docker_restart_container", json!({"container": web, "dry_run": true}));
    assert_eq!((text(&told, "outcome"), started(&web)), ("planned", before));
    assert!(core.unasked().is_empty());
}

/// A call of 2026-07-28 by a client that can ask its user.
fn modern(core: &mut Core, tool: &str, arguments: &Value, answer: Option<(&Value, &Value)>) -> Value {
    let mut params = json!({
        "name": tool,
        "arguments": arguments,
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        },
    });
    if let Some((response, state)) = answer {
        params["inputResponses"] = json!({"confirm": response});
        params["requestState"] = state.clone();
    }
    let id = core.request("tools/call", params);
    let answer = core.answer(id);
    assert!(answer["result"].is_object(), "{answer}");
    answer["result"].clone()
}

#[test]
fn a_modern_clients_user_is_asked_by_a_second_call() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[("CONFIRM", "changes"), ("CHANGES_PER_OBJECT", "0")]);
    let call = json!({"container": web, "timeout": 5});
    let yes = json!({"action": "accept", "content": {"confirm": true}});
    let before = started(&web);
    let ask = |core: &mut Core| {
        let asked = modern(core, "docker_restart_container", &call, None);
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let question = &asked["inputRequests"]["confirm"];
        assert_eq!(question["method"], "elicitation/create", "{asked}");
        assert!(question["params"]["message"].as_str().unwrap().contains(&web), "{asked}");
        asked["requestState"].clone()
    };
    for no in [
        json!({"action": "decline"}),
        json!({"action": "cancel"}),
        json!({"action": "accept", "content": {"confirm": false}}),
    ] {
        let state = ask(&mut core);
        let told = modern(&mut core, "docker_restart_container", &call, Some((&no, &state)));
        assert_eq!(
            (&told["resultType"], &told["structuredContent"]["outcome"]),
            (&json!("complete"), &json!("refused")),
            "{told}"
        );
    }
    let state = ask(&mut core);
    // The state is the client's to alter: it holds for this very call only.
    for (arguments, state) in [
        (json!({"container": web, "timeout": 6}), state.clone()),
        (call.clone(), json!("AAAA")),
        (call.clone(), json!("")),
    ] {
        let told = modern(&mut core, "docker_restart_container", &arguments, Some((&yes, &state)));
        assert_eq!(told["structuredContent"]["outcome"], "refused", "{told}");
    }
    assert_eq!(started(&web), before);
    let told = modern(&mut core, "docker_restart_container", &call, Some((&yes, &state)));
    assert_eq!(
        (&told["resultType"], &told["structuredContent"]["outcome"]),
        (&json!("complete"), &json!("changed")),
        "{told}"
    );
    let after = started(&web);
    assert_ne!(after, before);
    let told = modern(&mut core, "docker_restart_container", &call, Some((&yes, &state)));
    assert_eq!(told["structuredContent"]["outcome"], "refused", "once: {told}");
    assert_eq!(started(&web), after);
}

// --- the audit log ------------------------------------------------------------------------------------------------------

#[test]
fn every_change_leaves_two_chained_lines_without_secrets() {
    const SECRET: &str = "Zebra-71-quantum";
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let log = lab.dir.path().join("audit.jsonl");
    let mut core = lab.core(&[("AUDIT_LOG", log.to_str().unwrap())]);
    core.ok("docker_restart_container", json!({"container": &web}));
    core.ok("docker_start_container", json!({"container": web}));
    core.ok("docker_container_logs", json!({"container": web}));
    core.ok("docker_exec", json!({"container": web, "command": format!("DB_PASSWORD={SECRET} true; curl -u app:{SECRET} http://x; exit 2")}));
    let compose = lab.text(&format!("services:\n{}    environment: {{DB_PASSWORD: {SECRET}}}\n", service("app")));
    core.ok("docker_write_compose", json!({"stack": lab.name("new"), "compose": compose}));

    let written = fs::read_to_string(&log).unwrap();
    assert!(!written.contains(SECRET), "{written}");
    assert!(!core.log().contains(SECRET), "{}", core.log());
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (text(line, "tool"), text(line, "phase"), line["outcome"].as_str())).collect();
    let expected = [
        ("docker_restart_container", "before", None),
        ("docker_restart_container", "after", Some("changed")),
        ("docker_exec", "before", None),
        ("docker_exec", "after", Some("changed")),
        ("docker_write_compose", "before", None),
        ("docker_write_compose", "after", Some("changed")),
    ];
    assert_eq!(told, expected, "what changed nothing is not recorded");
    for pair in lines.chunks(2) {
        assert_eq!((&pair[0]["call"], &pair[0]["targets"]), (&pair[1]["call"], &pair[1]["targets"]));
        assert!(
            pair[1]["ms"].is_u64() && pair.iter().all(|line| line["principal"] == "local" && line["time"].is_string())
        );
    }
    assert_eq!(
        (text(&lines[0], "effect"), &lines[0]["targets"][0]["id"]),
        ("change", &json!(inspect(&web, "{{.Id}}")))
    );
    let ran = run(&["--verify-audit", log.to_str().unwrap()], &[], b"");
    assert_eq!((ran.code, ran.stdout.contains("6 lines")), (Some(0), true), "{}{}", ran.stdout, ran.stderr);
    fs::write(&log, written.replacen("docker_exec", "docker_list", 1)).unwrap();
    let ran = run(&["--verify-audit", log.to_str().unwrap()], &[], b"");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 3"), "{}", ran.stderr);
}

#[test]
fn without_a_writable_state_folder_nothing_is_destroyed() {
    let lab = Lab::new();
    let name =
        lab.stack("web", &format!("services:\n{}    volumes: [\"data:/data\"]\nvolumes:\n  data:\n", service("app")));
    let path = lab.stacks().join(&name).join("compose.yaml");
    let original = fs::read_to_string(&path).unwrap();
    // Nobody, not even root, makes folders there.
    for confirm in ["destructive", "never"] {
        let mut core = lab.core(&[("STATE_DIR", "/proc/nowhere"), ("CONFIRM", confirm)]);
        core.wait_for_log("STATE_DIR");
        core.ok("docker_compose_up", json!({"stack": name}));
        refused(&mut core, "docker_compose_down", &json!({"stack": name, "remove_volumes": true}), "STATE_DIR");
        refused(&mut core, "docker_write_compose", &json!({"stack": name, "compose": "services: {}\n"}), "STATE_DIR");
        // A replacement that cannot be kept is not made either.
        let arguments =
            json!({"stack": name, "compose": original.replace("app:", "b:"), "expected_sha256": sha256(&original)});
        let (_, told) = outcome(&mut core, "docker_write_compose", arguments);
        assert!(text(&told, "message").contains("STATE_DIR"), "{told}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), original);
    assert!(try_docker(&["volume", "inspect", &format!("{name}_data")]).1);
    assert_eq!(inspect(&format!("{name}-app-1"), "{{.State.Status}}"), "running");
}

#[test]
fn a_change_that_cannot_be_recorded_is_not_made() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let ran = run(&[], &[("CAPABILITY_LEVEL", "2"), ("AUDIT_LOG", "/proc/nowhere/audit.jsonl")], b"");
    assert_eq!(ran.code, Some(1), "it is said at the start");
    assert!(ran.stderr.contains("AUDIT_LOG"), "{}", ran.stderr);
    // And when the place goes away later.
    let folder = lab.dir.path().join("log");
    fs::create_dir(&folder).unwrap();
    let mut core = lab.core(&[("AUDIT_LOG", folder.join("audit.jsonl").to_str().unwrap())]);
    core.ok("docker_exec", json!({"container": web, "command": "true"}));
    fs::remove_dir_all(&folder).unwrap();
    let before = started(&web);
    refused(&mut core, "docker_restart_container", &json!({"container": web}), "AUDIT_LOG");
    assert_eq!(started(&web), before);
}

#[test]
fn what_is_touched_besides_is_named() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}{}", service("app"), service("db")));
    let mut core = lab.core(&[]);
    core.ok("docker_compose_up", json!({"stack": name}));
    let planned = core.ok("docker_compose_down", json!({"stack": name, "dry_run": true}));
    let also: BTreeSet<_> = rows(&planned, "also").iter().map(|also| also.as_str().unwrap().to_owned()).collect();
    assert_eq!(
        also,
        BTreeSet::from(
            ["docker:LAB-app-1", "docker:LAB-db-1", "network:LAB_default"].map(|also| also.replace("LAB", &name))
        )
    );
    assert_eq!((text(&planned["target"], "kind"), text(&planned["target"], "name")), ("stack", name.as_str()));
}

// --- What was judged must still be so ---------------------------------------------------------------------------------

#[test]
fn what_changed_while_the_user_was_asked_is_not_done() {
    let lab = Lab::new();
    let name =
        lab.stack("web", &format!("services:\n{}    volumes: [\"junk:/junk\"]\nvolumes: {{junk: }}\n", service("app")));
    let precious = lab.name("precious");
    docker(&["volume", "create", &precious]);
    let mut core = legacy(&lab, &[("CHANGES_PER_OBJECT", "0"), ("PROTECTED", &format!("volume:{precious}"))]);
    core.ok("docker_compose_up", json!({"stack": name}));
    let id = core.begin("docker_compose_down", json!({"stack": name, "remove_volumes": true}));
    let question = core.wait_for(|message| message["method"] == "elicitation/create");
    // Somebody else edits the file while the dialog is open: now it names what is protected.
    let text = format!(
        "services:\n{}    volumes: [\"kept:/kept\"]\nvolumes: {{kept: {{name: {precious}}}}}\n",
        service("app")
    );
    lab.file("web", "compose.yaml", &text);
    let yes = json!({"action": "accept", "content": {"confirm": true}});
    core.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": yes}).to_string());
    let told = core.answer(id)["result"]["structuredContent"].clone();
    assert_eq!(text_of(&told), "refused", "{told}");
    assert!(try_docker(&["volume", "inspect", &precious]).1, "the protected volume is there");
    assert_eq!(inspect(&format!("{name}-app-1"), "{{.State.Status}}"), "running");
    docker(&["rm", "-f", &format!("{name}-app-1")]);
    docker(&["volume", "rm", &precious]);
}

#[test]
fn two_downs_at_once_are_one_change() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    let mut core = lab.core(&[("CHANGES_PER_OBJECT", "0")]);
    core.ok("docker_compose_up", json!({"stack": name}));
    let ids = [0, 1].map(|_| core.begin("docker_compose_down", json!({"stack": name})));
    let mut outcomes = ids.map(|id| text_of(&core.answer(id)["result"]["structuredContent"]).to_owned());
    outcomes.sort();
    // The second may find the containers gone already when it looks, or what it judged no longer there.
    assert_eq!(outcomes[0], "changed", "{outcomes:?}");
    assert!(outcomes[1] == "refused" || outcomes[1] == "unchanged", "{outcomes:?}");
}

#[test]
fn a_stack_is_protected_and_operated_through_a_link_to_it() {
    let lab = Lab::new();
    let name = lab.stack("real", &format!("services:\n{}", service("app")));
    let link = lab.name("link");
    std::os::unix::fs::symlink(&name, lab.stacks().join(&link)).unwrap();
    let mut core = lab.core(&[]);
    let told = core.ok("docker_compose_up", json!({"stack": link}));
    assert_eq!(text_of(&told), "changed", "{told}");
    let protected = format!("stack:{link}");
    let mut core = lab.core(&[("PROTECTED", &protected)]);
    for (tool, arguments) in [
        ("docker_compose_down", json!({"stack": name})),
        ("docker_compose_down", json!({"stack": link})),
        ("docker_stop_container", json!({"container": format!("{name}-app-1")})),
    ] {
        refused(&mut core, tool, &arguments, &protected);
    }
}

#[test]
fn codes_are_not_taken_where_they_are_denied() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let mut core = lab.core(&[("CONFIRM", "changes"), ("STATE_DIR", state)]);
    let code = core.ok("docker_restart_container", json!({"container": web}))["confirm"].clone();
    let mut denying = lab.core(&[("CONFIRM", "changes"), ("STATE_DIR", state), ("CONFIRM_WITHOUT_DIALOG", "deny")]);
    let call = json!({"container": web, "confirm": code});
    refused(&mut denying, "docker_restart_container", &call, "CONFIRM_WITHOUT_DIALOG");
    assert_eq!(
        text_of(&core.ok("docker_restart_container", call)),
        "changed",
        "it is still good where codes are taken"
    );
}

#[test]
fn compose_tells_no_value_of_an_env_file_in_its_errors() {
    let lab = Lab::new();
    let name = lab.stack("web", &format!("services:\n{}", service("app")));
    lab.file("web", ".env", "PLAIN=wordthatishidden\n");
    let mut core = lab.core(&[]);
    let prying = "services:\n  a:\n    image: x\n    command: \"${NOT_SET:?${PLAIN}}\"\n";
    let told = core.error("docker_write_compose", json!({"stack": name, "compose": prying, "dry_run": true}));
    assert!(told.contains("NOT_SET") && !told.contains("wordthatishidden"), "{told}");
}

#[test]
fn the_last_words_of_a_container_are_masked() {
    let lab = Lab::new();
    let job = lab.create("job", &[], "echo DB_PASSWORD=hunter2hunter2; exit 3");
    let told = lab.core(&[]).error("docker_start_container", json!({"container": job}));
    assert!(told.contains("DB_PASSWORD=[redacted]") && !told.contains("hunter2"), "{told}");
}

fn text_of(told: &Value) -> &str {
    text(told, "outcome")
}
