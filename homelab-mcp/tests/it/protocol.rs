//! JSON-RPC over lines: what is read, what is answered, and that nothing else is ever printed. What the two eras of MCP
//! make different is in `eras`; the end of a process is in `lifecycle`.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    stand_in::StandIn,
    support::{Core, command, run},
    wire::{ask, code, text, until, with_id},
};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"last","method":"ping"}"#;

#[test]
fn a_bare_tools_list_prints_the_list_and_ends_with_0() {
    let ran = run(&[], &[], format!("{LIST}\n").as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{}", ran.stderr);
    let names: Vec<_> = with_id(&ran, 1)["result"]["tools"].as_array().unwrap().clone();
    assert!(names.iter().any(|tool| tool["name"] == "system_info"), "{names:?}");
}

#[test]
fn no_input_at_all_is_a_clean_end() {
    for input in ["", "\n", "\r\n\n   \n\t\n"] {
        let ran = run(&[], &[], input.as_bytes());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{input:?}: {}", ran.stderr);
    }
}

#[test]
fn line_ends_blank_lines_and_a_byte_order_mark_do_not_matter() {
    let input = format!("\u{feff}{LIST}\r\n\r\n\n  \n \t{}  \r\n\n{PING}", LIST.replace("\"id\":1", "\"id\":2"));
    let ran = run(&[], &[], input.as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 3), "{}", ran.stdout);
    for id in [json!(1), json!(2), json!("last")] {
        assert!(with_id(&ran, id.clone()).get("result").is_some(), "{id}");
    }
}

#[test]
fn the_last_line_needs_no_line_end_even_for_a_call_that_takes_a_while() {
    let input = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"system_info"}}"#;
    let ran = run(&[], &[], input.as_bytes());
    assert_eq!(ran.code, Some(0));
    assert!(with_id(&ran, 1)["result"]["structuredContent"]["memory_total_gb"].is_number(), "{}", ran.stdout);
}

#[test]
fn what_is_no_request_is_answered_with_its_id_where_there_is_one_and_the_process_goes_on() {
    let cases: &[(&[u8], i64, Option<&str>)] = &[
        (b"nonsense", -32700, None),
        (br#"{"jsonrpc":"2.0","id":7,"method":"#, -32700, Some("7")),
        (br#"{"jsonrpc":"2.0","method":nope,"id":"a"}"#, -32700, Some(r#""a""#)),
        (br#"{"jsonrpc":"2.0","id":8,"method":"ping"} trailing"#, -32700, Some("8")),
        (br#"{"jsonrpc":"2.0","id":9,"method":"ping"}{"jsonrpc":"2.0","id":10,"method":"ping"}"#, -32700, Some("9")),
        (b"{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"\xff\"}", -32700, Some("4")),
        (b"\xff\xfe\x00\x01", -32700, None),
        (b"{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"a\0b\"}", -32700, Some("4")),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#, -32600, None),
        (b"[]", -32600, None),
        (b"{}", -32600, None),
        (b"5", -32600, None),
        (b"null", -32600, None),
        (br#""tools/list""#, -32600, None),
        (br#"{"id":3,"method":"ping"}"#, -32600, Some("3")),
        (br#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#, -32600, Some("3")),
        (br#"{"jsonrpc":2.0,"id":3,"method":"ping"}"#, -32600, Some("3")),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, None),
        (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600, None),
        (br#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600, None),
        (br#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#, -32600, None),
        (br#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, -32600, None),
        (br#"{"jsonrpc":"2.0","id":3}"#, -32600, Some("3")),
        (br#"{"jsonrpc":"2.0","id":3,"method":5}"#, -32600, Some("3")),
        (br#"{"jsonrpc":"2.0","id":3,"method":null}"#, -32600, Some("3")),
        (br#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":[]}"#, -32602, Some("3")),
        (br#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":"x"}"#, -32602, Some("3")),
    ];
    let mut input = Vec::new();
    for (line, ..) in cases {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    input.extend_from_slice(PING.as_bytes());
    let ran = run(&[], &[], &input);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!((ran.code, lines.len()), (Some(0), cases.len() + 1), "{}", ran.stdout);
    assert!(with_id(&ran, "last").get("result").is_some());
    // Refusals come in the order of the lines.
    for ((line, expected, id), answer) in cases.iter().zip(&lines) {
        let line = String::from_utf8_lossy(line);
        let message: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(code(&message), *expected, "{line}: {answer}");
        assert_eq!(message.get("id").map(Value::to_string).as_deref(), *id, "{line}: {answer}");
        assert!(message["error"]["message"].as_str().is_some_and(|text| text.len() > 10), "{line}: {answer}");
    }
}

#[test]
fn ids_come_back_exactly_as_they_were_written() {
    let ids = [
        "0",
        "-1",
        "42",
        "9007199254740993",
        "9223372036854775808",
        "18446744073709551616",
        "123456789012345678901234567890",
        r#""""#,
        r#""a""#,
        r#""42""#,
        r#""\u0061\"\\ \ud83d\ude00""#,
        "\"ü\"",
    ];
    for line in [
        r#"{"jsonrpc":"2.0","id":ID,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"operation_status"},"id":ID}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"nothing"},"id": ID }"#,
        r#"{"jsonrpc":"2.0","method":"nothing","id":ID}"#,
        r#"{"jsonrpc":"1.0","method":"ping","id":ID}"#,
    ] {
        let input: Vec<_> = ids.iter().map(|id| line.replace("ID", id)).collect();
        let ran = run(&[], &[], input.join("\n").as_bytes());
        for id in ids {
            let answers = ran.stdout.lines().filter(|answer| answer.contains(&format!("\"id\":{id},"))).count();
            assert_eq!(answers, 1, "{line} with {id}\n{}", ran.stdout);
        }
        assert_eq!(ran.stdout.lines().count(), ids.len());
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_with_its_id_wherever_it_stands() {
    let padding = "x".repeat(3000);
    let input = [
        format!(r#"{{"jsonrpc":"2.0","method":"ping","params":{{"id":5,"a":"{padding}"}},"id":"at the end"}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":"at the start","method":"ping","params":{{"a":"{padding}"}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","method":"ping","params":{{"a":"{padding}"}}}}"#),
        format!("{}{PING}", " ".repeat(1024 - PING.len())),
    ];
    let ran = run(&[], &[("MAX_LINE", "1024")], input.join("\n").as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 4), "{}", ran.stdout);
    for id in ["at the end", "at the start"] {
        let answer = with_id(&ran, id);
        assert_eq!(code(&answer), -32600);
        assert!(answer["error"]["message"].as_str().unwrap().contains("MAX_LINE"), "{answer}");
    }
    assert!(ran.messages().iter().any(|message| message.get("id").is_none() && code(message) == -32600));
    assert!(with_id(&ran, "last").get("result").is_some(), "a line of exactly MAX_LINE is read");
}

#[test]
fn four_mebibytes_in_one_argument_are_read_and_not_repeated() {
    let long = "x".repeat(4 << 20);
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "operation_status", "arguments": {"operation": long}}});
    let ran = run(&[], &[], format!("{line}\n{PING}").as_bytes());
    let answer = with_id(&ran, 1);
    assert!(text(&answer).contains("`operation`") && text(&answer).len() < 1000, "{:.300}", text(&answer));
    assert!(ran.stderr.len() < 2000, "{:.300}", ran.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn an_endless_line_costs_no_memory() {
    let mut core = Piped::start(&[]);
    let piece = vec![b'x'; 1 << 20];
    let stdin = core.stdin.as_mut().unwrap();
    for _ in 0..48 {
        stdin.write_all(&piece).unwrap();
    }
    stdin.write_all(format!("\n{LIST}\n").as_bytes()).unwrap();
    let mut lines = core.stdout().lines();
    let refused: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(code(&refused), -32600);
    assert!(lines.next().unwrap().unwrap().contains("system_info"));
    let peak = core.peak_memory();
    assert!(peak < 40 << 20, "{peak} bytes for a line of 48 MiB");
}

#[test]
fn deep_nesting_is_answered_and_harms_nothing() {
    for depth in [100, 200, 100_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        for params in [
            format!(r#"{{"name":"operation_status","arguments":{{"operation":{open}{close}}}}}"#),
            format!(r#"{{"name":"operation_status","x":{open}{close}}}"#),
            format!(r#"{{"name":"operation_status","arguments":{{"operation":{open}"#),
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
            let ran = run(&[], &[], format!("{line}\n{PING}").as_bytes());
            assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{depth}: {}", ran.stderr);
            assert!(with_id(&ran, "last").get("result").is_some());
        }
    }
}

#[test]
fn unknown_methods_are_32601() {
    let mut core = Core::start(&[]);
    for method in [
        "nothing",
        "",
        "tools/",
        "tools/List",
        "resources/list",
        "prompts/get",
        "completion/complete",
        "ping2",
        "notifications/cancelled",
    ] {
        let answer = ask(&mut core, method, json!({}));
        assert_eq!(code(&answer), -32601, "{method}: {answer}");
    }
    core.finish();
}

#[test]
fn an_unknown_tool_and_a_call_without_form_are_32602() {
    let mut core = Core::start(&[("CAPABILITY_LEVEL", "4")]);
    let answer = ask(&mut core, "tools/call", json!({"name": "docker_list", "arguments": {}}));
    assert_eq!(code(&answer), -32602);
    assert!(answer["error"]["message"].as_str().unwrap().contains("docker_list"), "{answer}");
    for params in [
        json!({}),
        json!({"arguments": {}}),
        json!({"name": 5}),
        json!({"name": null}),
        json!({"name": ["system_info"]}),
        json!({"name": ""}),
        json!({"name": "System_Info"}),
        json!({"name": "system_info "}),
        json!({"name": "operation_status", "arguments": []}),
        json!({"name": "operation_status", "arguments": "x"}),
        json!({"name": "operation_status", "arguments": 5}),
    ] {
        let answer = ask(&mut core, "tools/call", params.clone());
        assert_eq!(code(&answer), -32602, "{params}: {answer}");
    }
    core.send(r#"{"jsonrpc":"2.0","id":"bare","method":"tools/call"}"#);
    assert_eq!(code(&core.answer("bare")), -32602);
    core.finish();
}

#[test]
fn the_list_has_one_page_and_a_cursor_it_never_gave_is_32602() {
    let mut core = Core::start(&[]);
    for cursor in [json!("x"), json!(""), json!("2"), json!(5), json!({}), json!(true)] {
        let answer = ask(&mut core, "tools/list", json!({"cursor": cursor}));
        assert_eq!(code(&answer), -32602, "{cursor}");
    }
    for params in [json!({}), json!({"cursor": null})] {
        let answer = ask(&mut core, "tools/list", params);
        assert!(answer["result"].get("nextCursor").is_none() && answer["result"]["tools"].is_array());
    }
    core.finish();
}

#[test]
fn arguments_may_be_left_out_or_null() {
    let mut core = Core::start(&[]);
    for params in [json!({"name": "operation_status"}), json!({"name": "operation_status", "arguments": null})] {
        let answer = ask(&mut core, "tools/call", params);
        assert_eq!(answer["result"]["structuredContent"]["operations"], json!([]), "{answer}");
    }
    core.finish();
}

#[test]
fn notifications_and_answers_nobody_asked_for_are_not_answered() {
    let input = [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/nothing","params":{"a":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"system_info"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":"no"}}"#,
        PING,
    ];
    let ran = run(&[], &[], input.join("\n").as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{}", ran.stdout);
}

#[test]
fn one_id_twice_at_once_is_answered_twice() {
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"system_info"}}"#;
    let other = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"operation_status"}}"#;
    let ran = run(&[], &[], format!("{call}\n{call}\n{other}\n{LIST}").as_bytes());
    assert_eq!(ran.code, Some(0));
    let answers: Vec<_> = ran.messages().into_iter().filter(|message| message["id"] == 7).collect();
    assert_eq!(answers.len(), 3, "{}", ran.stdout);
    let with = |member: &str| {
        answers.iter().filter(|answer| answer["result"]["structuredContent"].get(member).is_some()).count()
    };
    assert_eq!((with("memory_total_gb"), with("operations")), (2, 1));
}

#[test]
fn calls_run_at_the_same_time() {
    let calls: Vec<_> = (0..20)
        .map(|id| {
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "system_info"}}).to_string()
        })
        .collect();
    let clock = Instant::now();
    let ran = run(&[], &[], calls.join("\n").as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 20));
    assert!(clock.elapsed() < Duration::from_secs(10), "20 calls of a second took {:?}", clock.elapsed());
}

#[test]
fn a_backend_that_never_answers_holds_up_nobody_else() {
    let engine = StandIn::silent();
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "600")]);
    for _ in 0..100 {
        core.begin("docker_list_containers", json!({}));
    }
    engine.wait_for("GET /version", 1);
    let clock = Instant::now();
    core.ok("operation_status", json!({}));
    assert!(clock.elapsed() < Duration::from_millis(900), "{:?}", clock.elapsed());
    core.ok("system_info", json!({}));
    assert!(ask(&mut core, "tools/list", json!({}))["result"]["tools"].is_array());
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
}

#[test]
fn a_slow_backend_is_not_asked_by_everybody_at_once() {
    let engine = StandIn::silent();
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host()), ("DOCKER_TIMEOUT", "1")]);
    let calls: Vec<_> = (0..120).map(|_| core.begin("docker_list_containers", json!({}))).collect();
    for id in calls {
        let answer = core.answer(id);
        assert_eq!(answer["result"]["isError"], true, "{answer}");
    }
    assert!((2..=64).contains(&engine.most_open()), "{} connections at once", engine.most_open());
}

#[test]
fn stdout_carries_protocol_only_whatever_is_logged() {
    let engine = StandIn::engine(|_| None);
    let mut core = Core::start(&[("RUST_LOG", "trace"), ("CAPABILITY_LEVEL", "4"), ("DOCKER_HOST", &engine.host())]);
    // Every line that comes passes `Core::receive`, which takes nothing but JSON-RPC.
    core.ok("system_info", json!({}));
    core.ok("docker_list_containers", json!({}));
    core.error("docker_exec", json!({"container": "a", "command": "b"}));
    core.send("nonsense");
    core.wait_for(|message| message.get("error").is_some());
    assert!(core.log().contains("DEBUG"), "{}", core.log());
    core.close();
    core.end();
    assert_eq!(core.unasked(), Vec::<Value>::new());
}

/// The binary with pipes that the test reads and writes as slowly as it likes.
struct Piped {
    child: std::process::Child,
    stdin: Option<std::process::ChildStdin>,
    _state: tempfile::TempDir,
}

impl Piped {
    fn start(env: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut command = command(&[], env, state.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Self { stdin: child.stdin.take(), child, _state: state }
    }

    fn stdout(&mut self) -> BufReader<std::process::ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    #[cfg(target_os = "linux")]
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_requests_of_a_reader_that_is_slow_cost_bounded_memory_and_are_all_answered_once() {
    const ALL: usize = 10_000;
    let mut core = Piped::start(&[("CAPABILITY_LEVEL", "4"), ("RUST_LOG", "error")]);
    let mut stdin = core.stdin.take().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let writer = thread::spawn(move || {
        for id in 0..ALL {
            let (method, params) = match id % 4 {
                0 => ("ping", json!({})),
                1 => ("tools/call", json!({"name": "operation_status", "arguments": {}})),
                _ => ("tools/list", json!({})),
            };
            let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
            count.store(id + 1, Ordering::Relaxed);
        }
        stdin
    });
    // Nobody reads until the core stops reading too.
    let (mut last, mut since) = (0, Instant::now());
    until("the core stops reading", || {
        let now = written.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now > 0 && since.elapsed() > Duration::from_millis(500)
    });
    assert!(last < ALL, "the core reads on although nobody reads its answers");
    let peak = core.peak_memory();
    assert!(peak < 64 << 20, "{peak} bytes with {last} requests sent and nothing read");

    let mut seen = HashSet::new();
    let mut lines = core.stdout().lines();
    for _ in 0..ALL {
        let line = lines.next().unwrap().unwrap();
        let id = line.strip_prefix(r#"{"jsonrpc":"2.0","id":"#).and_then(|rest| rest.split(',').next());
        let id: usize = id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{line:.200}"));
        assert!(seen.insert(id), "{id} is answered twice");
        assert!(line.contains(r#","result":"#), "{line:.200}");
    }
    let peak = core.peak_memory();
    assert!(peak < 64 << 20, "{peak} bytes at the end");
    drop(writer.join().unwrap());
    assert!(lines.next().is_none(), "nothing follows");
    assert!(core.child.wait().unwrap().success());
}

#[test]
fn a_call_leaves_one_line_in_the_log_without_arguments_or_secrets() {
    const SECRET: &str = "correct-horse-battery";
    for level in ["info", "trace"] {
        let engine = StandIn::engine(|_| None);
        let mut core = Core::start(&[
            ("CAPABILITY_LEVEL", "4"),
            ("RUST_LOG", level),
            ("DOCKER_HOST", &engine.host()),
            ("CONFIRM_KEY", "correct-horse-battery-correct-horse-battery"),
        ]);
        core.ok("operation_status", json!({}));
        core.call("docker_exec", json!({"container": "web", "command": format!("export TOKEN={SECRET}")}));
        core.call(
            "docker_write_compose",
            json!({"stack": "infra", "compose": format!("services: {{a: {{environment: [PASSWORD={SECRET}]}}}}")}),
        );
        core.call("docker_container_logs", json!({"container": "nothing", "filter": SECRET}));
        core.call("docker_restart_container", json!({"container": "nothing", "timeout": SECRET}));
        core.call("docker_restart_container", json!({"container": "nothing", "confirm": SECRET}));
        let id = core.request("tools/call", json!({"name": SECRET}));
        core.answer(id);
        core.send(&format!(r#"{{"jsonrpc":"2.0","id":99,"method":"{SECRET}","#));
        core.answer(99);
        core.close();
        core.end();
        let log = core.log();
        assert!(!log.contains(SECRET), "{log}");
        let calls: Vec<_> = log.lines().filter(|line| line.contains(" ms") && line.contains("INFO")).collect();
        let ours: Vec<_> = calls.iter().filter_map(|line| line.split("homelab_mcp::server ").nth(1)).collect();
        assert_eq!(ours.len(), 6, "{log}");
        for (line, begins) in ours.iter().zip([
            "operation_status - ok ",
            "docker_exec web ",
            "docker_write_compose infra ",
            "docker_container_logs nothing failed ",
            "docker_restart_container - invalid ",
            "docker_restart_container nothing failed ",
        ]) {
            let milliseconds = line.strip_suffix(" ms").and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
            assert!(line.starts_with(begins) && milliseconds.parse::<u32>().is_ok(), "{line:?} is not {begins:?}…");
        }
    }
}

#[test]
fn a_name_with_a_line_end_forges_no_line_in_the_log() {
    let engine = StandIn::engine(|_| None);
    let mut core = Core::start(&[("DOCKER_HOST", &engine.host())]);
    core.error("docker_container_logs", json!({"container": "a\n2026-01-01T00:00:00Z INFO  forged"}));
    core.close();
    core.end();
    assert!(!core.log().lines().any(|line| line.starts_with("2026-01-01")), "{}", core.log());
}

#[test]
fn rust_log_sets_the_level() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"operation_status"}}"#;
    let log = |level: &str| run(&[], &[("RUST_LOG", level)], call.as_bytes()).stderr;
    assert_eq!(log("error"), "");
    assert_eq!(log("off"), "");
    assert!(log("").contains("INFO") && log("info").contains("operation_status - ok"));
    assert!(!log("warn").contains("INFO"));
    assert!(log("debug").len() >= log("info").len());
}

#[test]
fn output_that_nobody_reads_any_more_ends_the_process_without_a_panic() {
    let state = tempfile::tempdir().unwrap();
    let mut command = command(&[], &[], state.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // The first may fit a buffer; the process may be gone before the last.
    let _ = (0..10).try_for_each(|_| stdin.write_all(format!("{LIST}\n").as_bytes()));
    until("the process ends with its stdin still open", || child.try_wait().unwrap().is_some());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let status = child.wait().unwrap();
    assert!(status.code().is_some(), "it ended by itself: {status}");
}
