//! An engine that is away, refuses, lies, hangs or breaks off: one sentence that says what to do, only for its own
//! tools. And what that means for a change: never "done" when it is not known.

use std::{
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    stand_in::{Reply, StandIn, WEB},
    support::Core,
    wire::until,
};

/// The error of a Docker tool when the engine is like this; other tools must work.
fn said(host: &str) -> String {
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "2"), ("DOCKER_HOST", host), ("DOCKER_TIMEOUT", "2")]);
    let said = core.error("docker_list_containers", json!({}));
    assert!(said.len() < 800 && !said.contains('\n'), "{said}");
    assert!(said.contains("list containers"), "what could not be done: {said}");
    for (tool, arguments) in [
        ("docker_container_logs", json!({"container": "web"})),
        ("docker_container_stats", json!({"container": "web"})),
        ("docker_restart_container", json!({"container": "web"})),
    ] {
        core.error(tool, arguments);
    }
    core.ok("operation_status", json!({}));
    core.finish();
    said
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
}

#[test]
fn an_engine_that_is_not_there_is_said_to_be_away_and_how_to_bring_it() {
    let mut core = Core::start(&[("DOCKER_HOST", "unix:///nothing/here.sock")]);
    core.ok("system_info", json!({}));
    core.finish();
    assert_says(&said("unix:///nothing/here.sock"), &["/nothing/here.sock", "no such socket", "Start the engine"]);
    assert_says(&said("tcp://127.0.0.1:1"), &["tcp://127.0.0.1:1", "refused", "DOCKER_HOST"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert_says(&said(&format!("unix://{}", path.display())), &["refused", "Start the engine"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_says(&said(&format!("unix://{}", path.display())), &["a folder", "mount"]);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert_says(&said(&format!("unix://{}", path.display())), &["a file", "DOCKER_HOST"]);
}

#[test]
fn an_engine_of_another_time_or_none_at_all_is_recognised() {
    let version = |api: &'static str, oldest: &'static str| {
        let said_version = json!({"Version": "1.2.3", "ApiVersion": api, "MinAPIVersion": oldest});
        StandIn::new(move |_| Reply::Json(200, said_version.clone()))
    };
    assert_says(&said(&version("1.24", "1.12").host()), &["1.2.3", "too old", "1.24", "Update the engine"]);
    assert_says(&said(&version("9.0", "8.0").host()), &["too new", "Update homelab-mcp"]);
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n<html>hello</html>    ";
    for other in [
        StandIn::new(move |_| Reply::Raw(page)),
        StandIn::new(|_| Reply::Json(404, json!({"message": "page not found"}))),
        StandIn::new(|_| Reply::Json(200, json!({"a": 1}))),
    ] {
        assert_says(&said(&other.host()), &["Docker Engine"]);
    }
}

#[test]
fn an_engine_that_hangs_costs_its_time_out_and_says_so() {
    let engine = StandIn::silent();
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "1")]);
    let clock = Instant::now();
    let said = core.error("docker_list_containers", json!({}));
    assert_says(&said, &["1 s"]);
    assert!(!said.contains("may have happened"), "a read does nothing: {said}");
    let took = clock.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    core.finish();
}

#[test]
fn an_answer_that_breaks_off_or_makes_no_sense_is_an_error_and_not_an_empty_list() {
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n[{\"Id\":";
    const GARBAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for reply in [CUT, GARBAGE, "", "nonsense\r\n\r\n"] {
        let engine = StandIn::engine(move |request| request.contains("/containers/json").then_some(Reply::Raw(reply)));
        let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "2")]);
        let said = core.error("docker_list_containers", json!({}));
        assert_says(&said, &["could not list containers"]);
        core.finish();
    }
    let engine = StandIn::engine(|request| {
        request.contains("/containers/json").then(|| Reply::Json(200, json!({"message": "surprise"})))
    });
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host())]);
    core.error("docker_list_containers", json!({}));
    core.finish();
}

#[test]
fn the_engines_own_words_are_passed_on_in_one_bounded_line() {
    let words = format!("no space left\non device {}", "x".repeat(100_000));
    let engine = StandIn::engine(move |request| {
        request.contains("/containers/json").then(|| Reply::Json(500, json!({"message": words})))
    });
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host())]);
    let said = core.error("docker_list_containers", json!({}));
    assert_says(&said, &["no space left on device"]);
    assert!(said.len() < 1500 && !said.contains('\n'), "{} characters", said.len());
    core.finish();
}

#[test]
fn an_engine_that_comes_back_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let host = format!("unix://{}", path.display());
    let mut core = Core::start(&[("DOCKER_HOST", &host)]);
    assert_says(&core.error("docker_list_containers", json!({})), &["no such socket"]);
    let engine = StandIn::engine(|_| None);
    std::fs::hard_link(engine.host().trim_start_matches("unix://"), &path).unwrap();
    core.ok("docker_list_containers", json!({}));
    core.finish();
}

fn rows(count: usize) -> Value {
    (0..count)
        .map(|n| {
            json!({
                "Id": format!("{n:064x}"), "Names": [format!("/service-with-a-long-name-{n}")],
                "Image": "registry.example/some/where/image:1.2.3", "State": "running", "Status": "Up 3 weeks (healthy)",
                "Created": 1_760_000_000 + n, "Labels": {"com.docker.compose.project": format!("stack-{n}")},
                "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8000 + n, "Type": "tcp"}],
            })
        })
        .collect()
}

#[test]
fn five_hundred_containers_fit_the_cap_and_the_answer_says_how_to_get_the_rest() {
    let engine = StandIn::engine(|request| request.contains("/containers/json").then(|| Reply::Json(200, rows(500))));
    for cap in ["12000", "50000"] {
        let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("MAX_RESULT_CHARS", cap)]);
        let (mut seen, mut arguments) = (0, json!({}));
        loop {
            let result = core.call("docker_list_containers", arguments);
            assert_eq!(result["isError"], false, "{result}");
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(text.chars().count() <= cap.parse().unwrap(), "{} characters of {cap}", text.chars().count());
            let page = &result["structuredContent"];
            assert_eq!(page["total"], 500);
            let rows = page["containers"].as_array().unwrap().len();
            assert_eq!(page["returned"], rows);
            seen += rows;
            let Some(next) = page.get("next_cursor") else { break };
            assert!(page["hint"].as_str().is_some_and(|hint| hint.contains("cursor") && hint.contains("narrow")));
            arguments = json!({"cursor": next});
        }
        assert_eq!(seen, 500, "each row once");
        core.finish();
    }
}

fn operating(engine: &StandIn) -> Core {
    Core::start(&[("CAPABILITY_LEVEL", "2"), ("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "2")])
}

#[test]
fn a_change_whose_answer_breaks_off_is_unknown_and_not_sent_twice() {
    for reply in ["", "HTTP/1.1 204 No Con", "nonsense\r\n\r\n"] {
        let engine = StandIn::engine(move |request| request.contains("/restart").then_some(Reply::Raw(reply)));
        let mut core = operating(&engine);
        let result = core.call("docker_restart_container", json!({"container": "web"}));
        let content = &result["structuredContent"];
        assert_eq!(
            (&result["isError"], &content["outcome"]),
            (&json!(true), &json!("unknown")),
            "{reply:?}: {content}"
        );
        assert_says(content["message"].as_str().unwrap(), &["may have happened"]);
        assert_eq!(engine.asked("/restart"), 1, "{reply:?}: sent again");
        core.finish();
    }
}

#[test]
fn a_change_that_the_engine_refuses_has_failed_with_its_words() {
    for (status, words) in [(500, "driver failed"), (409, "is marked for removal"), (404, "No such container: web")] {
        let engine = StandIn::engine(move |request| {
            request.contains("/restart").then(|| Reply::Json(status, json!({"message": words})))
        });
        let mut core = operating(&engine);
        let result = core.call("docker_restart_container", json!({"container": "web"}));
        let content = &result["structuredContent"];
        assert_eq!((&result["isError"], &content["outcome"]), (&json!(true), &json!("failed")), "{status}: {content}");
        assert_says(content["message"].as_str().unwrap(), &[words]);
        assert_eq!(content["target"]["id"], WEB);
        core.finish();
    }
}

#[test]
fn two_changes_of_one_object_follow_each_other_and_those_of_others_do_not_wait() {
    let engine = StandIn::engine(|request| {
        let held = request.contains("/restart") && request.contains(WEB);
        held.then(|| Reply::Held(204, Value::Null))
    });
    let mut core = operating(&engine);
    let first = core.begin("docker_restart_container", json!({"container": "web"}));
    engine.wait_for("/restart", 1);
    let second = core.begin("docker_restart_container", json!({"container": "web"}));
    until("the second has looked at the container", || engine.asked("/containers/web/json") >= 2);
    core.ok("system_info", json!({}));
    assert_eq!(engine.asked("/restart"), 1, "the second did not wait");
    engine.release();
    for id in [first, second] {
        assert_eq!(core.answer(id)["result"]["structuredContent"]["outcome"], "changed");
    }
    assert_eq!(engine.asked("/restart"), 2);
    core.finish();
}

#[test]
fn another_process_can_follow_an_operation_and_tells_when_its_process_died() {
    let engine = StandIn::engine(|request| request.contains("/restart").then(|| Reply::Held(204, Value::Null)));
    let mut runs = operating(&engine);
    let content = runs.call("docker_restart_container", json!({"container": "web", "wait_seconds": 0}));
    let operation = content["structuredContent"]["operation"].clone();
    let state = runs.state.path().to_str().unwrap().to_owned();
    let mut follows = Core::start(&[("STATE_DIR", &state)]);
    let row = |core: &mut Core| core.ok("operation_status", json!({"operation": operation}))["operations"][0].clone();
    assert_eq!(row(&mut follows)["outcome"], "running");
    runs.signal("KILL");
    runs.end();
    let orphan = row(&mut follows);
    assert_eq!(orphan["outcome"], "unknown", "{orphan}");
    assert_says(orphan["message"].as_str().unwrap(), &["may have happened"]);
    let said = follows.error("operation_status", json!({"operation": "op-../../etc/passwd"}));
    assert_says(&said, &["no operation has this id"]);
    follows.finish();
}

#[test]
fn protected_objects_are_refused_under_every_name_and_other_objects_are_not() {
    for (protected, container) in
        [("docker:web", WEB), (&format!("docker:{}", &WEB[..12]), "web"), ("docker:/web", "web")]
    {
        let engine = StandIn::engine(|_| None);
        let env = [("CAPABILITY_LEVEL", "4"), ("DOCKER_HOST", &*engine.host()), ("PROTECTED", protected)];
        let mut core = Core::start(&env);
        for arguments in [json!({"container": container}), json!({"container": container, "dry_run": true})] {
            let result = core.call("docker_restart_container", arguments);
            assert_eq!(result["structuredContent"]["outcome"], "refused", "{protected}: {result}");
        }
        core.ok("docker_list_containers", json!({}));
        core.finish();
        assert_eq!(engine.asked("POST"), 0);
    }
}
