//! The engine's own troubles: absent, forbidden, too old, slow, breaking off. They cost the Docker tools and no others.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    lab::{Do, IDLE, Lab, Proxy, inspect, rows, socket, text},
    support::{Core, run},
};

/// The sentence that a Docker tool answers; other tools answer as ever.
fn sentence(core: &mut Core) -> String {
    let said = core.error("docker_list_containers", json!({}));
    assert!(said.ends_with('.') && said.lines().count() == 1 && said.len() < 700, "{said}");
    let told = core.call("docker_restart_container", json!({"container": "any"}));
    assert_eq!((&told["isError"], &told["structuredContent"]["outcome"]), (&json!(true), &json!("failed")), "{told}");
    assert!(core.ok("system_info", json!({}))["memory_total_gb"].is_number());
    said
}

#[test]
fn an_engine_that_is_not_there_is_said_with_what_to_do() {
    let lab = Lab::new();
    let folder = lab.dir.path().join("folder.sock");
    std::fs::create_dir(&folder).unwrap();
    let stale = lab.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (variable, value, words) in [
        ("DOCKER_HOST", "unix:///nonexistent/docker.sock".to_owned(), ["no such socket", "DOCKER_HOST"]),
        ("DOCKER_SOCKET", "/nonexistent/docker.sock".to_owned(), ["no such socket", "systemctl start docker"]),
        ("DOCKER_HOST", format!("unix://{}", folder.display()), ["a folder, not a socket", "mount"]),
        ("DOCKER_HOST", format!("unix://{}", stale.display()), ["refused", "systemctl start docker"]),
        ("DOCKER_HOST", format!("tcp://127.0.0.1:{port}"), ["refused", "DOCKER_HOST"]),
    ] {
        let mut core = Core::start(&[("CAPABILITY_LEVEL", "4"), (variable, &value)]);
        let said = sentence(&mut core);
        assert!(words.iter().all(|word| said.contains(word)), "{value}: {said}");
        let ran = run(&["--check"], &[(variable, &value)], b"");
        assert_eq!(ran.code, Some(1));
        assert!(ran.stdout.lines().any(|line| line.starts_with("FIX") && line.contains("docker")), "{}", ran.stdout);
    }
}

#[test]
fn a_socket_that_may_not_be_opened_names_its_group() {
    let ours = Command::new("id").arg("-u").output().unwrap().stdout;
    if ours != b"0\n" {
        println!("left out: only root can run the program as somebody else");
        return;
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let group =
        groups.lines().find(|line| line.starts_with("daemon:") || line.starts_with("bin:")).expect("a system group");
    let mut parts = group.split(':');
    let (name, gid) = (parts.next().unwrap(), parts.nth(1).unwrap());
    let proxy = Proxy::new(|_| Do::Pass);
    std::fs::set_permissions(proxy.path.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&proxy.path, std::fs::Permissions::from_mode(0o660)).unwrap();
    chown(&proxy.path, Some(0), Some(gid.parse().unwrap())).unwrap();
    // From a place that everybody may read.
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = place.path().join("homelab-mcp");
    std::fs::copy(env!("CARGO_BIN_EXE_homelab-mcp"), &binary).unwrap();
    let mut child = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(&binary)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("DOCKER_HOST", proxy.host())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let calls = ["docker_list_containers", "system_info"].map(|tool| {
        json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
            .to_string()
    });
    child.stdin.take().unwrap().write_all(calls.join("\n").as_bytes()).unwrap();
    let ran = child.wait_with_output().unwrap();
    let answers: Vec<Value> =
        String::from_utf8(ran.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = |id: &str| {
        &answers.iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("{id}: {answers:?}"))["result"]
    };
    let said = result("docker_list_containers")["content"][0]["text"].as_str().unwrap();
    assert!(
        said.contains(&format!("the group {name} ({gid})")) && said.contains(&format!("usermod -aG {name}")),
        "{said}"
    );
    assert!(said.contains("65534"), "{said}");
    assert_ne!(result("system_info")["isError"], json!(true));
}

#[test]
fn an_engine_of_an_unknown_time_is_named() {
    for (answer, words) in [
        (
            json!({"Version": "18.06.1-ce", "ApiVersion": "1.30", "MinAPIVersion": "1.12"}),
            ["18.06.1-ce is too old", "Update the engine"],
        ),
        (
            json!({"Version": "99.0", "ApiVersion": "9.99", "MinAPIVersion": "9.0"}),
            ["99.0 is too new", "Update homelab-mcp"],
        ),
        (json!({"hello": "world"}), ["does not name the API", "Docker Engine"]),
    ] {
        let body = answer.to_string();
        let proxy = Proxy::new(move |_| Do::Answer(body.clone()));
        let mut core = Core::start(&[("CAPABILITY_LEVEL", "4"), ("DOCKER_HOST", &proxy.host())]);
        let said = sentence(&mut core);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn the_engine_is_reached_over_tcp_and_by_the_path_of_its_socket() {
    let lab = Lab::new();
    let web = lab.run("web", &[], "echo hello; sleep 1000");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(join));
    let name = lab.stack("stack", &format!("services:\n{}", crate::stacks::service("app")));
    for (variable, value) in [("DOCKER_HOST", address.as_str()), ("DOCKER_SOCKET", socket().to_str().unwrap())] {
        let stacks = lab.stacks();
        let mut core = Core::start(&[
            ("CAPABILITY_LEVEL", "4"),
            ("DOCKGE_STACKS_PATH", stacks.to_str().unwrap()),
            (variable, value),
        ]);
        let list = core.ok("docker_list_containers", json!({"name": web}));
        assert_eq!(rows(&list, "containers").len(), 1);
        let done = core.ok("docker_exec", json!({"container": web, "command": "echo there; echo oops >&2; exit 3"}));
        assert_eq!((text(&done, "stdout"), text(&done, "stderr"), &done["exit_code"]), ("there", "oops", &json!(3)));
        // compose is told the same address.
        core.ok("docker_compose_up", json!({"stack": name}));
        core.ok("docker_compose_down", json!({"stack": name}));
    }
}

/// Both ways between a TCP client and the engine.
fn join(client: TcpStream) {
    let server = UnixStream::connect(socket()).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let (mut from, mut to) = (server, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn a_slow_engine_holds_up_nobody_else() {
    let proxy = Proxy::new(|line| if line.contains("/json") { Do::Stall } else { Do::Pass });
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "4"), ("DOCKER_HOST", &proxy.host()), ("DOCKER_TIMEOUT", "5")]);
    let clock = Instant::now();
    let slow = core.begin("docker_list_containers", json!({}));
    proxy.wait_stalled("/containers/json");
    let quick = Instant::now();
    core.ok("system_info", json!({}));
    core.ok("operation_status", json!({}));
    core.ok("docker_list_networks", json!({}));
    assert!(quick.elapsed() < Duration::from_secs(3), "{:?}", quick.elapsed());
    let result = core.answer(slow)["result"].clone();
    let took = clock.elapsed();
    assert!((4..9).contains(&took.as_secs()), "{took:?}");
    let said = result["content"][0]["text"].as_str().unwrap();
    assert!(result["isError"] == json!(true) && said.contains("did not answer within 5 s"), "{said}");
    assert!(said.contains("Nothing was changed"), "{said}");
}

#[test]
fn a_change_whose_answer_is_lost_is_unknown_and_not_tried_again() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let proxy = Proxy::new(|line| if line.contains("/stop") { Do::Break } else { Do::Pass });
    let mut core = lab.core(&[("DOCKER_HOST", &proxy.host())]);
    let result = core.call("docker_stop_container", json!({"container": web}));
    let told = &result["structuredContent"];
    assert_eq!((&result["isError"], text(told, "outcome")), (&json!(true), "unknown"), "{told}");
    assert!(text(told, "message").contains("may have happened"), "{told}");
    let sent = proxy.seen.lock().unwrap().iter().filter(|line| line.contains("/stop")).count();
    assert_eq!(sent, 1, "nothing that changes something is sent twice");
    let audit = std::fs::read_to_string(core.state.path().join("audit.jsonl")).unwrap();
    assert!(audit.lines().last().unwrap().contains(r#""outcome":"unknown""#), "{audit}");
    // The next call connects anew.
    let list = core.ok("docker_list_containers", json!({"name": web}));
    assert_eq!(rows(&list, "containers").len(), 1);
}

#[test]
fn an_engine_that_comes_back_is_found_again() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let path = lab.dir.path().join("later.sock");
    let mut core = lab.core(&[("DOCKER_HOST", &format!("unix://{}", path.display()))]);
    let said = core.error("docker_list_containers", json!({}));
    assert!(said.contains("no such socket"), "{said}");
    std::os::unix::fs::symlink(socket(), &path).unwrap();
    assert_eq!(text(&core.ok("docker_container_stats", json!({"container": web})), "container"), web);
    std::fs::remove_file(&path).unwrap();
    core.error("docker_list_containers", json!({}));
    std::os::unix::fs::symlink(socket(), &path).unwrap();
    core.ok("docker_list_containers", json!({"name": web}));
    assert_eq!(inspect(&web, "{{.State.Status}}"), "running");
}

#[test]
fn check_tells_that_all_is_well() {
    let lab = Lab::new();
    lab.stack("web", "services: {}\n");
    let stacks = lab.stacks();
    let ran = run(
        &["--check"],
        &[("DOCKER_HOST", crate::lab::engine()), ("DOCKGE_STACKS_PATH", stacks.to_str().unwrap())],
        b"",
    );
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    for (name, word) in [("host", "CPUs"), ("docker", "API"), ("compose", "version 2"), ("stacks", "1 stack")] {
        assert!(
            ran.stdout.lines().any(|line| line.starts_with("ok") && line.contains(name) && line.contains(word)),
            "{name}: {}",
            ran.stdout
        );
    }
}
