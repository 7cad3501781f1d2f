//! Which containers, volumes and networks there are, and finding one by its names.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};

use crate::lab::{IDLE, Lab, docker, image, inspect, rows, socket, text, until};

fn row(lab: &Lab, core: &mut crate::support::Core, name: &str) -> Value {
    let list = core.ok("docker_list_containers", json!({"name": name}));
    let found = rows(&list, "containers").iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("{name} of {} is not in {list}", lab.prefix())).clone()
}

#[test]
fn a_row_tells_state_health_stack_and_restarts() {
    let lab = Lab::new();
    let labels = |name: &str, value: &str| format!("com.docker.compose.{name}={value}");
    let (project, folder) = (lab.name("project"), lab.name("folder"));
    let web = lab.run(
        "web",
        &[
            "--label",
            &labels("project", &project),
            "--label",
            &labels("service", "web"),
            "--label",
            &labels("project.working_dir", &format!("/somewhere/{folder}")),
            "--health-cmd",
            "true",
            "--health-interval",
            "1s",
        ],
        IDLE,
    );
    let looping = lab.run("looping", &["--restart", "always"], "exit 7");
    until("it was restarted twice", || inspect(&looping, "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
    until("it is healthy", || inspect(&web, "{{.State.Health.Status}}") == "healthy");

    let mut core = lab.core(&[]);
    let found = row(&lab, &mut core, &web);
    assert_eq!(text(&found, "id"), &inspect(&web, "{{.Id}}")[..12]);
    assert_eq!(text(&found, "image"), image());
    assert_eq!((text(&found, "state"), text(&found, "health")), ("running", "healthy"));
    assert_eq!((text(&found, "stack"), text(&found, "service")), (project.as_str(), "web"));
    assert_eq!((found["restart_count"].clone(), found["ports"].clone()), (json!(0), json!([])));
    assert!(text(&found, "status").starts_with("Up "), "{found}");
    let created = inspect(&web, "{{.Created}}");
    assert_eq!(text(&found, "created")[..19], created[..19]);

    let found = row(&lab, &mut core, &looping);
    assert!(found["restart_count"].as_u64().unwrap() >= 2, "{found}");
    assert!(["restarting", "running", "exited"].contains(&text(&found, "state")), "{found}");
    assert!(found.get("health").is_none() && found.get("stack").is_none(), "{found}");
}

#[test]
fn filters_narrow_by_state_name_and_stack() {
    let lab = Lab::new();
    let project = lab.name("project");
    let label = format!("com.docker.compose.project={project}");
    let folder = format!("com.docker.compose.project.working_dir=/somewhere/{}", lab.name("folder"));
    lab.run("runs", &["--label", &label, "--label", &folder], IDLE);
    lab.ran("ended", &["--label", &label], "exit 3");
    lab.create("made", &[], IDLE);
    let paused = lab.run("paused", &[], IDLE);
    docker(&["pause", &paused]);

    let mut core = lab.core(&[]);
    let mut names = |mut filter: Value| {
        if filter.get("stack").is_none() {
            filter["name"] = json!(lab.prefix().to_uppercase());
        }
        let list = core.ok("docker_list_containers", filter);
        assert_eq!(list["total"], list["returned"]);
        let short = |row: &Value| text(row, "name").strip_prefix(&lab.name("")).unwrap().to_owned();
        rows(&list, "containers").iter().map(short).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(json!({})), "ended made paused runs");
    assert_eq!(names(json!({"all": true})), "ended made paused runs");
    assert_eq!(names(json!({"all": false})), "paused runs", "a paused container runs, for Docker");
    for (state, expected) in [("running", "runs"), ("exited", "ended"), ("created", "made"), ("paused", "paused")] {
        assert_eq!(names(json!({"state": state})), expected);
    }
    assert_eq!(names(json!({"state": "dead"})), "");
    assert_eq!(names(json!({"stack": project})), "ended runs");
    assert_eq!(names(json!({"stack": lab.name("folder")})), "runs");
    assert_eq!(names(json!({"stack": project, "state": "exited"})), "ended");
    let wrong = core.error("docker_list_containers", json!({"state": "asleep"}));
    assert!(wrong.contains("state") && wrong.contains("exited"), "{wrong}");
}

#[test]
fn a_port_is_told_once_with_the_address_it_is_bound_to() {
    let lab = Lab::new();
    let ports = ["-p", "127.0.0.1::80", "-p", "81", "-p", "127.0.0.1::82/udp", "--expose", "83"];
    let web = lab.run("web", &ports, IDLE);
    let mut core = lab.core(&[]);
    let found = row(&lab, &mut core, &web);
    let public = |private: &str| {
        let bound = docker(&["port", &web, private]);
        bound.lines().next().unwrap().rsplit(':').next().unwrap().to_owned()
    };
    let expected = BTreeSet::from([
        format!("127.0.0.1:{}:80/tcp", public("80/tcp")),
        format!("{}:81/tcp", public("81/tcp")),
        format!("127.0.0.1:{}:82/udp", public("82/udp")),
        "83/tcp".to_owned(),
    ]);
    let told: Vec<_> = rows(&found, "ports").iter().map(|port| port.as_str().unwrap().to_owned()).collect();
    assert_eq!(told.len(), expected.len(), "{told:?}");
    assert_eq!(BTreeSet::from_iter(told), expected);
}

#[test]
fn five_hundred_containers_fit_the_cap_and_pages_cover_each_once() {
    const MANY: usize = 500;
    let lab = Lab::new();
    let script = format!(
        r#"seq {MANY} | xargs -P 4 -I N curl --silent --show-error --fail --retry 20 --retry-all-errors --retry-delay 1 \
           --output /dev/null --unix-socket {} \
           -X POST -H 'Content-Type: application/json' -d '{{"Image":"{}","Cmd":["true"]}}' \
           "http://engine/v1.41/containers/create?name={}-N""#,
        socket().display(),
        image(),
        lab.prefix()
    );
    let made = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut core = lab.core(&[]);
    // Whatever else the engine has, the answer keeps to the cap and says how to narrow.
    let result = core.call("docker_list_containers", json!({}));
    let said = result["content"][0]["text"].as_str().unwrap();
    assert!(said.chars().count() <= 50_000, "{}", said.chars().count());
    let first = &result["structuredContent"];
    assert!(first["total"].as_u64().unwrap() as usize >= MANY);
    let hint = text(first, "hint");
    assert!(hint.contains("next_cursor") && hint.contains("`state`") && hint.contains("`name`"), "{hint}");

    let filter = lab.name("");
    let mut pages = |limit: Option<u32>| {
        let (mut names, mut arguments, mut count) = (Vec::new(), json!({"name": filter}), 0);
        if let Some(limit) = limit {
            arguments["limit"] = json!(limit);
        }
        loop {
            let result = core.call("docker_list_containers", arguments.clone());
            assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 50_000);
            let page = result["structuredContent"].clone();
            assert_eq!(page["total"], MANY);
            assert_eq!(page["returned"].as_u64().unwrap() as usize, rows(&page, "containers").len());
            names.extend(rows(&page, "containers").iter().map(|row| text(row, "name").to_owned()));
            count += 1;
            match page.get("next_cursor") {
                Some(next) => arguments["cursor"] = next.clone(),
                None => return (names, count),
            }
        }
    };
    let expected: BTreeSet<_> = (1..=MANY).map(|n| lab.name(&n.to_string())).collect();
    let (names, count) = pages(None);
    assert_eq!((names.len(), BTreeSet::from_iter(names)), (MANY, expected.clone()));
    assert!(count > 1, "500 containers cannot be one page");
    let (names, count) = pages(Some(170));
    assert_eq!((names.len(), BTreeSet::from_iter(names), count >= 3), (MANY, expected, true));

    let wrong = core.error("docker_list_containers", json!({"cursor": "bm9uc2Vuc2U"}));
    assert!(wrong.contains("cursor"), "{wrong}");

    // So many ids share beginnings: one that fits several is no container, for any tool.
    let ids = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &format!("name={filter}")]);
    let ids: Vec<_> = ids.lines().collect();
    let shared = ids.iter().find_map(|id| {
        let short = &id[..2];
        // A name of a container of another test is not of this form.
        (ids.iter().filter(|other| other.starts_with(short)).count() > 1).then_some(short)
    });
    let shared = shared.expect("500 ids share beginnings");
    for tool in ["docker_inspect_container", "docker_container_logs", "docker_start_container"] {
        let said = core.error(tool, json!({"container": shared}));
        assert!(said.contains("Give more of the id"), "{tool}: {said}");
    }
    let fresh =
        docker(&["ps", "--all", "--quiet", "--filter", &format!("name={filter}"), "--filter", "status=created"]);
    assert_eq!(fresh.lines().count(), MANY, "nothing was started");
}

#[test]
fn a_container_is_found_by_name_id_and_beginning_of_its_id() {
    let lab = Lab::new();
    let web = lab.run("web", &[], "echo hello; sleep 1000");
    let id = inspect(&web, "{{.Id}}");
    let mut core = lab.core(&[]);
    for name in [web.as_str(), &id, &id[..12], &id[..8]] {
        until("its log is there", || docker(&["logs", &web]) == "hello");
        let logs = core.ok("docker_container_logs", json!({"container": name}));
        assert_eq!((text(&logs, "container"), text(&logs, "logs")), (web.as_str(), "hello"));
        let done = core.ok("docker_exec", json!({"container": name, "command": "hostname"}));
        assert_eq!(text(&done, "stdout"), &id[..12]);
        assert_eq!((text(&done["target"], "name"), text(&done["target"], "id")), (web.as_str(), id.as_str()));
    }
}

#[test]
fn a_container_that_is_not_there_is_said_with_where_to_look() {
    let lab = Lab::new();
    let missing = lab.name("missing");
    let mut core = lab.core(&[]);
    for tool in ["docker_container_logs", "docker_container_stats", "docker_inspect_container"] {
        let said = core.error(tool, json!({"container": missing}));
        assert!(said.contains(&missing) && said.contains("docker_list_containers"), "{tool}: {said}");
        assert!(said.contains(&format!("docker ({})", crate::lab::engine())), "{tool} does not say where: {said}");
    }
    for (tool, more) in [
        ("docker_start_container", json!({})),
        ("docker_stop_container", json!({})),
        ("docker_restart_container", json!({})),
        ("docker_exec", json!({"command": "true"})),
    ] {
        let mut arguments = more;
        arguments["container"] = json!(missing);
        let result = core.call(tool, arguments);
        let told = &result["structuredContent"];
        assert_eq!((&result["isError"], text(told, "outcome")), (&json!(true), "failed"), "{result}");
        assert_eq!((&told["success"], text(told, "container")), (&json!(false), missing.as_str()));
        assert!(text(told, "message").contains("docker_list_containers"), "{told}");
    }
    // What cannot be a name never becomes part of a path.
    for name in ["../images/json?x=", "a/../../version", "web?all=1", "web#", "a b", "-x"] {
        let said = core.error("docker_inspect_container", json!({"container": name}));
        assert!(said.contains("cannot be the name"), "{name}: {said}");
        let said = core.error("docker_restart_container", json!({"container": name}));
        assert!(said.contains("cannot be the name"), "{name}: {said}");
    }
}

#[test]
fn inspect_gives_the_document_or_the_members_asked_for() {
    let lab = Lab::new();
    let web =
        lab.run("web", &["--memory", "64m", "--restart", "on-failure:3", "-v", "/data", "-e", "COLOUR=blue"], IDLE);
    let mut core = lab.core(&[]);
    let whole = core.ok("docker_inspect_container", json!({"container": web}));
    assert_eq!(whole["config"]["Id"], json!(inspect(&web, "{{.Id}}")));
    assert_eq!(whole["config"]["HostConfig"]["Memory"], 64 << 20);
    assert!(rows(&whole["config"]["Config"], "Env").contains(&json!("COLOUR=blue")));

    let fields = json!(["State.Status", "HostConfig.RestartPolicy", "Mounts"]);
    let some = core.ok("docker_inspect_container", json!({"container": web, "fields": fields}));
    assert_eq!(some["config"].as_object().unwrap().len(), 3);
    assert_eq!(some["config"]["State.Status"], "running");
    assert_eq!(some["config"]["HostConfig.RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    assert_eq!(some["config"]["Mounts"][0]["Destination"], "/data");

    let wrong = core.error("docker_inspect_container", json!({"container": web, "fields": ["State.Nope"]}));
    assert!(wrong.contains("State.Nope") && wrong.contains("HostConfig"), "{wrong}");

    // A document that is too long says what it left out, and how to have it.
    let mut small = lab.core(&[("MAX_RESULT_CHARS", "4000")]);
    let result = small.call("docker_inspect_container", json!({"container": web}));
    assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 4000);
    let cut = rows(&result["structuredContent"], "cut");
    assert!(cut.iter().any(|cut| cut.as_str().unwrap().starts_with("HostConfig:")), "{result}");
}

#[test]
fn volumes_and_networks_tell_what_they_belong_to() {
    let lab = Lab::new();
    let (mine, other, net) = (lab.name("mine"), lab.name("other"), lab.name("net"));
    let project = format!("com.docker.compose.project={}", lab.name("project"));
    docker(&[
        "volume",
        "create",
        "--label",
        &project,
        "--label",
        "colour=blue",
        "--label",
        "api_token=s3cr3t-Zebra99",
        &mine,
    ]);
    docker(&["volume", "create", &other]);
    docker(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.213.7.0/24",
        "--gateway",
        "10.213.7.1",
        "--label",
        &project,
        &net,
    ]);

    let mut core = lab.core(&[]);
    let list = core.ok("docker_list_volumes", json!({"name": lab.prefix()}));
    assert_eq!((list["total"].clone(), rows(&list, "volumes").len()), (json!(2), 2));
    let row = &rows(&list, "volumes")[0];
    assert_eq!(
        (text(row, "name"), text(row, "driver"), text(row, "stack")),
        (mine.as_str(), "local", lab.name("project").as_str())
    );
    assert_eq!(text(row, "mountpoint"), docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &mine]));
    assert_eq!(row["labels"], json!({"api_token": "[redacted]", "colour": "blue"}));
    assert!(rows(&list, "volumes")[1].get("stack").is_none());
    let list = core.ok("docker_list_volumes", json!({"stack": lab.name("project")}));
    assert_eq!(rows(&list, "volumes").len(), 1);

    let list = core.ok("docker_list_networks", json!({"name": lab.prefix()}));
    let row = &rows(&list, "networks")[0];
    assert_eq!((text(row, "name"), text(row, "driver"), text(row, "scope")), (net.as_str(), "bridge", "local"));
    assert_eq!((&row["internal"], &row["subnets"]), (&json!(true), &json!(["10.213.7.0/24 via 10.213.7.1"])));
    assert_eq!(text(row, "stack"), lab.name("project"));
    // The earlier server's rows had these three.
    let all = core.ok("docker_list_networks", json!({"limit": 1000}));
    assert!(rows(&all, "networks").iter().any(|row| row["name"] == "host" && row["driver"] == "host"), "{all}");

    for n in 0..5 {
        docker(&["volume", "create", &lab.name(&format!("page{n}"))]);
    }
    let mut arguments = json!({"name": lab.name("page"), "limit": 2});
    let mut seen = Vec::new();
    loop {
        let page = core.ok("docker_list_volumes", arguments.clone());
        seen.extend(rows(&page, "volumes").iter().map(|row| text(row, "name").to_owned()));
        let Some(next) = page.get("next_cursor") else { break };
        arguments["cursor"] = next.clone();
    }
    assert_eq!(seen, (0..5).map(|n| lab.name(&format!("page{n}"))).collect::<Vec<_>>());
}
