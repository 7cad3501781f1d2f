//! The output of containers: both streams, terminals, time, filters and size.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Do, IDLE, Lab, Proxy, docker, rows, text, until};

#[test]
fn both_streams_are_told_apart_and_can_be_had_alone() {
    let lab = Lab::new();
    // The pauses keep the engine's order of two pipes.
    let web = lab.ran("web", &[], "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo drei-äöü-日本-😀; printf last");
    let mut core = lab.core(&[]);
    let mut logs = |more: Value| {
        let mut arguments = more;
        arguments["container"] = json!(web);
        core.ok("docker_container_logs", arguments)
    };
    let both = logs(json!({}));
    assert_eq!(text(&both, "logs"), "one\nstderr: two\ndrei-äöü-日本-😀\nlast");
    assert_eq!(
        both["metadata"],
        json!({"lines_requested": 50, "lines_returned": 4, "lines_searched": 4, "truncated": false})
    );
    assert_eq!(both["untrusted"], json!(["logs"]));
    assert_eq!(text(&logs(json!({"stream": "stdout"})), "logs"), "one\ndrei-äöü-日本-😀\nlast");
    assert_eq!(text(&logs(json!({"stream": "stderr"})), "logs"), "two");
    let last = logs(json!({"lines": 2}));
    assert_eq!(text(&last, "logs"), "drei-äöü-日本-😀\nlast");
    assert_eq!((&last["metadata"]["lines_requested"], &last["metadata"]["lines_returned"]), (&json!(2), &json!(2)));
}

#[test]
fn a_terminals_output_has_no_frames_in_it() {
    let lab = Lab::new();
    let web = lab.ran("web", &["--tty"], "echo one; echo two >&2; echo drei-ä😀");
    let mut core = lab.core(&[]);
    let logs = core.ok("docker_container_logs", json!({"container": web}));
    assert_eq!(text(&logs, "logs"), "one\ntwo\ndrei-ä😀");
    let logs = core.ok("docker_container_logs", json!({"container": web, "timestamps": true, "filter": "^drei"}));
    let line = text(&logs, "logs");
    assert!(line.ends_with(" drei-ä😀") && line.starts_with("20") && !line.contains('\r'), "{line:?}");
}

#[test]
fn times_bound_what_is_read_and_are_shown_on_request() {
    let lab = Lab::new();
    // The engine compares whole seconds.
    let web = lab.ran("web", &[], "echo one; sleep 2.1; echo two; sleep 2.1; echo three");
    let stamps = docker(&["logs", "--timestamps", &web]);
    let stamps: Vec<_> = stamps.lines().map(|line| line.split_once(' ').unwrap().0.to_owned()).collect();
    let mut core = lab.core(&[]);
    let mut logs = |more: Value| {
        let mut arguments = more;
        arguments["container"] = json!(web);
        text(&core.ok("docker_container_logs", arguments), "logs").to_owned()
    };
    assert_eq!(logs(json!({"since": stamps[1]})), "two\nthree");
    assert_eq!(logs(json!({"until": stamps[1]})).lines().next(), Some("one"));
    assert!(!logs(json!({"until": stamps[1]})).contains("three"));
    assert_eq!(logs(json!({"since": stamps[1], "until": stamps[2]})).lines().next(), Some("two"));
    assert_eq!(logs(json!({"since": "10m"})), "one\ntwo\nthree");
    assert_eq!(logs(json!({"since": "1h30m", "filter": "TWO"})), "two");
    assert_eq!(logs(json!({"until": "10m"})), "");
    let told = logs(json!({"timestamps": true}));
    let told: Vec<_> = told.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(told.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(
        told.iter().map(|(at, _)| at[..19].to_owned()).collect::<Vec<_>>(),
        stamps.iter().map(|at| at[..19].to_owned()).collect::<Vec<_>>()
    );

    for (arguments, named) in [
        (json!({"since": "yesterday"}), "since"),
        (json!({"until": "5 parsecs"}), "until"),
        (json!({"since": "10m", "until": "1h"}), "since"),
    ] {
        let mut arguments = arguments;
        arguments["container"] = json!(web);
        let said = core.error("docker_container_logs", arguments);
        assert!(said.contains(&format!("`{named}`")), "{said}");
    }
}

#[test]
fn a_filter_that_is_no_regex_is_an_error() {
    let lab = Lab::new();
    let web = lab.ran("web", &[], "echo one");
    let mut core = lab.core(&[]);
    for filter in ["[unclosed", "(?P<", "*", r"(\w{500}){500}"] {
        let said = core.error("docker_container_logs", json!({"container": web, "filter": filter}));
        assert!(said.contains("`filter`") && said.lines().count() == 1, "{filter}: {said}");
    }
    for lines in [json!(0), json!(-1), json!(501), json!("50"), json!(1.5)] {
        let said = core.error("docker_container_logs", json!({"container": web, "lines": lines}));
        assert!(said.contains("`lines`") && said.contains("500"), "{said}");
    }
}

#[test]
fn ten_megabytes_are_searched_and_bounded() {
    let lab = Lab::new();
    // 130,000 lines of 81 bytes: more than is searched without a time.
    let script = r#"awk 'BEGIN { for (i = 1; i <= 130000; i++) {
        what = i == 10 ? "needle-oldest" : i == 60000 ? "needle-old" : "hay"
        printf "%06d %-13s %s\n", i, what, "äöü-filler-filler-filler-filler-filler-filler-filler" } }'"#;
    let web = lab.ran("web", &[], script);
    let mut core = lab.core(&[]);
    let mut logs = |more: Value| {
        let mut arguments = more;
        arguments["container"] = json!(web);
        let result = core.call("docker_container_logs", arguments);
        assert_ne!(result["isError"], json!(true), "{result}");
        assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 50_000);
        result["structuredContent"].clone()
    };
    let newest = logs(json!({}));
    let lines: Vec<_> = text(&newest, "logs").lines().collect();
    assert_eq!((lines.len(), &lines[0][..6], &lines[49][..6]), (50, "129951", "130000"));

    // Far older than the lines that are shown.
    let old = logs(json!({"filter": "needle"}));
    assert_eq!(text(&old, "logs").lines().count(), 1);
    assert!(text(&old, "logs").starts_with("060000 needle-old "), "{old}");
    assert_eq!(old["metadata"]["lines_searched"], 100_000);
    assert!(text(&old["metadata"], "hint").contains("`since`"), "{old}");
    // And with a time, all of it.
    let oldest = logs(json!({"filter": "NEEDLE", "since": "1h"}));
    assert_eq!(text(&oldest, "logs").lines().count(), 2);
    assert_eq!(oldest["metadata"]["lines_searched"], 130_000);

    // 500 lines are 40 kB; the cap of this server is smaller: the newest stay, whole.
    let mut small = lab.core(&[("MAX_RESULT_CHARS", "5000")]);
    let result = small.call("docker_container_logs", json!({"container": web, "lines": 500}));
    assert!(result["content"][0]["text"].as_str().unwrap().chars().count() <= 5000);
    let told = &result["structuredContent"];
    let lines: Vec<_> = text(told, "logs").lines().collect();
    assert!(lines.len() > 20 && lines.iter().all(|line| line.len() > 70 && line.ends_with("filler")), "{told}");
    assert!(lines.last().unwrap().starts_with("130000 "), "{told}");
    assert_eq!(told["metadata"]["truncated"], true);
    assert_eq!(told["metadata"]["lines_returned"], lines.len());
    let lost = told["metadata"]["truncated_bytes"].as_u64().unwrap() as usize;
    assert_eq!(lost + lines.iter().map(|line| line.len() + 1).sum::<usize>(), 500 * (lines[0].len() + 1));
}

#[test]
fn a_line_longer_than_all_keeps_its_end_as_valid_text() {
    let lab = Lab::new();
    // 16 KiB is where the engine cuts a line into pieces, in the middle of a character too. Its default driver damages
    // such characters itself; this one does not.
    let script =
        r#"awk 'BEGIN { printf "x"; for (i = 0; i < 20000; i++) printf "€"; print "END" }'; printf '\377\376 after\n'"#;
    let web = lab.ran("web", &["--log-driver", "local"], script);
    let mut core = lab.core(&[("MAX_RESULT_CHARS", "1000000")]);
    let logs = core.ok("docker_container_logs", json!({"container": web}));
    let (line, bad) = text(&logs, "logs").split_once('\n').unwrap();
    assert!(line == format!("x{}END", "€".repeat(20_000)), "{} characters", line.chars().count());
    assert_eq!(bad, "\u{fffd}\u{fffd} after");
    let stamped = core.ok("docker_container_logs", json!({"container": web, "timestamps": true}));
    let (line, _) = text(&stamped, "logs").split_once('\n').unwrap();
    let line = line.split_once(' ').unwrap().1;
    assert!(
        line == format!("x{}END", "€".repeat(20_000)),
        "no time in the middle: {} characters",
        line.chars().count()
    );
    let json_file = lab.ran("json", &[], script);
    let logs = core.ok("docker_container_logs", json!({"container": json_file}));
    assert!(text(&logs, "logs") == docker(&["logs", &json_file]), "what the engine has");

    let mut small = lab.core(&[("MAX_RESULT_CHARS", "5000")]);
    let logs = small.ok("docker_container_logs", json!({"container": web, "filter": "END"}));
    let line = text(&logs, "logs");
    assert!(line.ends_with("€€END") && line.chars().count() > 300 && !line.contains('\u{fffd}'), "{line}");
    assert_eq!(logs["metadata"]["truncated"], true);

    // A single line without end cannot fill the memory: its beginning is kept, and what is left out is said.
    let script = r#"awk 'BEGIN { for (i = 0; i < 500000; i++) printf "€"; print "" }'; echo next"#;
    let endless = lab.ran("endless", &["--log-driver", "local"], script);
    // (Without a filter the engine counts the last lines itself, and takes each of its pieces of a line for one.)
    let logs = core.ok("docker_container_logs", json!({"container": endless, "filter": "€|next", "since": "1h"}));
    let (line, next) = text(&logs, "logs").split_once('\n').unwrap();
    let kept = line.matches('€').count();
    assert!(kept > 20_000 && !line.contains('\u{fffd}') && next == "next", "{kept}");
    assert!(line[kept * 3..].contains(&(1_500_000 - kept * 3).to_string()), "{}", &line[kept * 3..]);
}

#[test]
fn frames_cut_at_every_byte_are_read_the_same() {
    let lab = Lab::new();
    let script = "for i in 1 2 3 4 5 6 7 8; do echo out-ä€😀-$i; echo err-ä€😀-$i >&2; done; head -c 3000 /dev/zero | tr '\\0' x; echo";
    let web = lab.ran("web", &[], script);
    let proxy =
        Proxy::new(|line| if line.contains("/logs") || line.contains("/start") { Do::Dribble } else { Do::Pass });
    let mut slow = lab.core(&[("DOCKER_HOST", &proxy.host())]);
    let mut core = lab.core(&[]);
    for arguments in [json!({}), json!({"timestamps": true}), json!({"stream": "stderr"})] {
        let mut arguments = arguments;
        arguments["container"] = json!(web);
        let expected = core.ok("docker_container_logs", arguments.clone());
        assert!(text(&expected, "logs").contains("err-ä€😀-8"));
        assert_eq!(slow.ok("docker_container_logs", arguments), expected);
    }
    let runs = lab.run("runs", &[], IDLE);
    let done = slow.ok("docker_exec", json!({"container": runs, "command": script}));
    assert_eq!(text(&done, "stdout").lines().count(), 9);
    assert!(text(&done, "stdout").starts_with("out-ä€😀-1\nout-ä€😀-2\n") && text(&done, "stdout").ends_with("xxx"));
    assert_eq!(
        text(&done, "stderr").lines().collect::<Vec<_>>(),
        (1..=8).map(|n| format!("err-ä€😀-{n}")).collect::<Vec<_>>()
    );
    assert!(proxy.seen.lock().unwrap().iter().any(|line| line.contains("/logs")));
}

#[test]
fn a_container_that_keeps_no_logs_says_so() {
    let lab = Lab::new();
    let web = lab.run("web", &["--log-driver", "none"], IDLE);
    let mut core = lab.core(&[]);
    let result = core.call("docker_container_logs", json!({"container": web}));
    assert!(result.to_string().contains("driver"), "{result}");
    let never = lab.create("never", &[], IDLE);
    let logs = core.ok("docker_container_logs", json!({"container": never}));
    assert_eq!((text(&logs, "logs"), &logs["metadata"]["lines_returned"]), ("", &json!(0)));
}

#[test]
fn a_container_that_logs_on_is_read_to_its_present_end() {
    let lab = Lab::new();
    let web = lab.run("web", &[], "while :; do echo chatter; sleep 0.01; done");
    until("it logs", || docker(&["logs", "--tail", "1", &web]) == "chatter");
    let mut core = lab.core(&[]);
    let clock = std::time::Instant::now();
    let logs = core.ok("docker_container_logs", json!({"container": web, "filter": "chat", "lines": 5}));
    assert!(clock.elapsed() < Duration::from_secs(10) && rows(&logs, "untrusted").len() == 1);
    assert!(text(&logs, "logs").starts_with("chatter"), "{logs}");
}
