//! Commands in containers: how they are called, what comes back, and that they end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    lab::{IDLE, Lab, bare_image, docker, inspect, sha256, text, try_docker, until, within},
    support::Core,
};

fn exec(core: &mut Core, container: &str, more: Value) -> Value {
    let mut arguments = more;
    arguments["container"] = json!(container);
    core.ok("docker_exec", arguments)
}

fn refused(core: &mut Core, container: &str, more: Value) -> Value {
    let mut arguments = more;
    arguments["container"] = json!(container);
    let result = core.call("docker_exec", arguments);
    assert_eq!(result["isError"], json!(true), "{result}");
    result["structuredContent"].clone()
}

/// What runs in a container, seen from outside.
fn processes(container: &str) -> String {
    let (text, success) = try_docker(&["top", container, "-eo", "pid,args"]);
    if success { text } else { String::new() }
}

#[test]
fn a_shell_string_and_an_argument_vector_both_work() {
    let lab = Lab::new();
    let web = lab.run("web", &["-e", "COLOUR=blue"], IDLE);
    let mut core = lab.core(&[]);
    let done = exec(&mut core, &web, json!({"command": "echo $COLOUR | tr a-z A-Z; echo oops >&2; exit 3"}));
    assert_eq!((text(&done, "stdout"), text(&done, "stderr"), &done["exit_code"]), ("BLUE", "oops", &json!(3)));
    assert_eq!((text(&done, "outcome"), &done["success"]), ("changed", &json!(true)));
    assert!(text(&done, "message").contains("exit code 3"), "{done}");
    assert!(text(&done, "command").starts_with("echo $COLOUR") && done["duration_ms"].is_u64());
    assert_eq!(done["untrusted"], json!(["stdout", "stderr"]));

    // No shell is put between: nothing is split, expanded or interpreted.
    let argv = ["printf", "<%s>", "a b", "$HOME;`id`", "it's \"x\"", "", "zwei\nzeilen", "ü€"];
    let done = exec(&mut core, &web, json!({"argv": argv}));
    assert_eq!(text(&done, "stdout"), argv[2..].iter().map(|word| format!("<{word}>")).collect::<String>());
    assert_eq!((&done["exit_code"], text(&done, "stderr")), (&json!(0), ""));
}

#[test]
fn folder_and_user_are_as_asked_or_refused() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[]);
    let command = "id -u; id -g; pwd";
    assert_eq!(text(&exec(&mut core, &web, json!({"command": command})), "stdout"), "0\n0\n/");
    let done = exec(&mut core, &web, json!({"command": command, "user": "app", "workdir": "/home/app"}));
    assert_eq!(text(&done, "stdout"), "1000\n1000\n/home/app");
    let done = exec(&mut core, &web, json!({"command": command, "user": "1234:77"}));
    assert_eq!(text(&done, "stdout"), "1234\n77\n/");
    for (arguments, word) in [
        (json!({"command": "true", "user": "nobody-there"}), "user"),
        (json!({"command": "true", "workdir": "/not/there"}), "folder"),
        (json!({"argv": ["/bin/nothing-here"]}), "full path"),
        (json!({}), "either"),
        (json!({"command": "true", "argv": ["true"]}), "either"),
    ] {
        let told = refused(&mut core, &web, arguments.clone());
        assert_eq!(text(&told, "outcome"), "failed");
        assert!(text(&told, "message").contains(word), "{arguments}: {told}");
        assert!(told.get("exit_code").is_none(), "{told}");
    }
}

#[test]
fn large_interleaved_output_is_complete_and_apart() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    // Every line goes out by itself, so that frames of both streams alternate.
    let awk = r#"BEGIN { for (i = 1; i <= 4000; i++) {
        printf "out %d äöü €uro 😀 %s\n", i, substr("abcdefghijklmnopqrstuvwxyz", 1, i % 26); fflush()
        printf "err %d %s\n", i, substr("zyxwvutsrqponmlkjihgfedcba", 1, i % 26) > "/dev/stderr"; fflush("/dev/stderr") } }"#;
    let alphabet = "abcdefghijklmnopqrstuvwxyz";
    let reversed: String = alphabet.chars().rev().collect();
    let out: Vec<_> = (1..=4000).map(|i| format!("out {i} äöü €uro 😀 {}", &alphabet[..i % 26])).collect();
    let err: Vec<_> = (1..=4000).map(|i| format!("err {i} {}", &reversed[..i % 26])).collect();
    let (out, err) = (out.join("\n"), err.join("\n"));
    let mut core = lab.core(&[("MAX_RESULT_CHARS", "2000000")]);
    let done = exec(&mut core, &web, json!({"argv": ["awk", awk]}));
    assert_eq!(done["exit_code"], 0);
    assert!(done.get("stdout_truncated_bytes").is_none() && done.get("stderr_truncated_bytes").is_none());
    assert_eq!(sha256(text(&done, "stdout")), sha256(out.trim_end()));
    assert_eq!(sha256(text(&done, "stderr")), sha256(err.trim_end()));
}

#[test]
fn output_beyond_the_cap_is_counted_and_its_end_kept() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[]);
    let command = "seq 1 500000; echo problem >&2; exit 4";
    let result = core.call("docker_exec", json!({"container": web, "command": command}));
    assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 50_000);
    let done = &result["structuredContent"];
    assert_eq!((&done["exit_code"], text(done, "stderr")), (&json!(4), "problem"));
    let kept = text(done, "stdout");
    assert!(kept.ends_with("\n499999\n500000"), "{}", &kept[kept.len() - 40..]);
    let written: usize = (1..=500_000).map(|n: u32| n.to_string().len() + 1).sum();
    let lost = done["stdout_truncated_bytes"].as_u64().unwrap() as usize;
    // What is shown may have a note in it about the gap, and lacks the last line's end.
    assert!((written - lost).abs_diff(kept.len()) < 100, "{written} = {lost} + {}", kept.len());
    assert!(kept.lines().all(|line| line.parse::<u32>().is_ok() || line.contains("left out")), "lines are whole");
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_its_children() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[]);
    let command = "echo begun; sleep 7301 & sh -c 'trap \"\" TERM; sleep 7302; sleep 7303' & (sleep 7304 | sleep 7305) & sleep 7306";
    let id = core.begin("docker_exec", json!({"container": web, "command": command, "timeout": 2}));
    until("all of it runs", || {
        ["7301", "7302", "7304", "7305", "7306"].iter().all(|n| processes(&web).contains(&format!("sleep {n}")))
    });
    let clock = Instant::now();
    let result = core.answer(id)["result"].clone();
    assert!(clock.elapsed() < Duration::from_secs(15), "{:?}", clock.elapsed());
    let told = &result["structuredContent"];
    assert_eq!((text(told, "outcome"), &result["isError"]), ("failed", &json!(true)), "{told}");
    assert!(text(told, "message").contains("2 s") && text(told, "message").contains("ended"), "{told}");
    assert_eq!(text(told, "stdout"), "begun", "what it said until then is kept");
    assert_ne!(told["exit_code"], 0);
    within(Duration::from_secs(1), "nothing of it is left", || !processes(&web).contains("sleep 73"));
    assert_eq!(inspect(&web, "{{.State.Running}}"), "true", "the container itself is not touched");
    // One that closes its outputs and goes on is not taken for ended.
    let told = refused(&mut core, &web, json!({"command": "exec >/dev/null 2>&1; sleep 7307", "timeout": 1}));
    assert_eq!(text(&told, "outcome"), "failed");
    within(Duration::from_secs(1), "nothing of it is left", || !processes(&web).contains("sleep 7307"));
}

#[test]
fn a_command_is_ended_whoever_runs_it() {
    let lab = Lab::new();
    let plain = lab.run("plain", &[], IDLE);
    let user = lab.run("user", &["--user", "app"], IDLE);
    let bound = lab.run("bound", &["--cap-drop", "ALL", "--read-only", "--security-opt", "no-new-privileges"], IDLE);
    let init = lab.run("init", &["--init"], IDLE);
    let mut core = lab.core(&[("CHANGES_PER_MINUTE", "0")]);
    let cases = [
        (&plain, json!({"user": "app"})),
        (&user, json!({})),
        (&user, json!({"user": "root"})),
        (&bound, json!({})),
        (&bound, json!({"user": "1000:1000"})),
        (&init, json!({})),
    ];
    // All at once: each takes seconds.
    let begun: Vec<_> = cases
        .into_iter()
        .enumerate()
        .map(|(n, (container, more))| {
            let seconds = 7400 + n;
            let mut arguments = more;
            arguments["container"] = json!(container);
            arguments["command"] = json!(format!("sleep {seconds} & sleep {seconds}; echo after"));
            arguments["timeout"] = json!(2);
            (core.begin("docker_exec", arguments), container, seconds)
        })
        .collect();
    for (id, container, seconds) in begun {
        let told = core.answer(id)["result"]["structuredContent"].clone();
        assert_eq!(text(&told, "outcome"), "failed", "{told}");
        let sleeps = format!("sleep {seconds}");
        within(Duration::from_secs(1), "nothing of it is left", || !processes(container).contains(&sleeps));
    }
}

#[test]
fn exit_codes_are_true_or_absent() {
    let lab = Lab::new();
    let web = lab.run("web", &[], IDLE);
    let mut core = lab.core(&[]);
    let done = exec(&mut core, &web, json!({"command": "exec >&- 2>&-; sleep 1; exit 4"}));
    assert_eq!(done["exit_code"], 4, "also of one that closed its outputs early");
    let done = exec(&mut core, &web, json!({"command": "kill -9 $$"}));
    assert_eq!(done["exit_code"], 137);
    // The container goes away under the command.
    let id = core.begin("docker_exec", json!({"container": web, "command": "sleep 7310", "timeout": 60}));
    until("it runs", || processes(&web).contains("sleep 7310"));
    docker(&["rm", "--force", &web]);
    let result = core.answer(id)["result"].clone();
    let told = &result["structuredContent"];
    assert_ne!(told["exit_code"], 0, "{told}");
    assert!(text(told, "outcome") == "unknown" || told["exit_code"] == 137, "{told}");
}

#[test]
fn an_image_without_a_shell_gets_advice_and_takes_argv() {
    let lab = Lab::new();
    let bare = lab.name("bare");
    docker(&["run", "--detach", "--name", &bare, bare_image(), "/busybox", "sleep", "3600"]);
    let mut core = lab.core(&[]);
    let told = refused(&mut core, &bare, json!({"command": "echo hello"}));
    assert_eq!(text(&told, "outcome"), "failed");
    assert!(text(&told, "message").contains("no shell") && text(&told, "message").contains("`argv`"), "{told}");
    let done = exec(&mut core, &bare, json!({"argv": ["/busybox", "echo", "hello"]}));
    assert_eq!((text(&done, "stdout"), &done["exit_code"]), ("hello", &json!(0)));
    // Where no shell can be used to end it, it is ended another way, or said to be running with its number.
    let mut arguments = json!({"argv": ["/busybox", "sleep", "7320"], "timeout": 1});
    arguments["container"] = json!(bare);
    let told = core.call("docker_exec", arguments)["structuredContent"].clone();
    match text(&told, "outcome") {
        "failed" => within(Duration::from_secs(1), "it is ended", || !processes(&bare).contains("sleep 7320")),
        "running" => assert!(told["pid"].as_i64().unwrap() > 1 && processes(&bare).contains("sleep 7320"), "{told}"),
        outcome => panic!("{outcome}: {told}"),
    }
}

#[test]
fn a_container_that_does_not_run_takes_no_command() {
    let lab = Lab::new();
    let (stopped, paused) = (lab.ran("stopped", &[], "true"), lab.run("paused", &[], IDLE));
    docker(&["pause", &paused]);
    let mut core = lab.core(&[]);
    for (name, state) in [(&stopped, "exited"), (&paused, "paused")] {
        let told = refused(&mut core, name, json!({"command": "true"}));
        assert_eq!(text(&told, "outcome"), "failed");
        let message = text(&told, "message");
        assert!(message.contains(&format!("it is {state}")) && message.contains("docker_start_container"), "{message}");
    }
}
