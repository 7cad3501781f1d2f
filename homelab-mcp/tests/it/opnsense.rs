//! OPNsense through the real binary: every release, both tools, and each oddity of the vendor's API.
//!
//! Oddity, and the test that shows it is met:
//!
//! | the firewall | test |
//! |---|---|
//! | privileges are patterns over the raw path, camelCase before 25.7, snake_case since | `a_restricted_key_reads_everything_in_every_release` |
//! | an added `?`, a slash at the end, anything encoded is another path, and is 403 | `what_is_sent_is_what_its_router_takes` |
//! | 24.1 has none of `diagnostics/system/*`, and says 400 for 404 | `every_release_is_read_as_it_is` |
//! | system_time has no `boottime` on 24.7; gateways no `monitor` on 24.1 | `every_release_is_read_as_it_is` |
//! | numbers are strings, empty maps `[]` | `every_release_is_read_as_it_is`, `what_is_not_there_is_left_out` |
//! | texts may be translated | `translated_texts_decide_nothing` |
//! | an unmonitored gateway is "none" with `~`; a fresh one `down` with `~`; names may hold spaces | `gateways_are_told_apart` |
//! | status words in upper or mixed case, "No pending messages" under an ERROR, flat before 25.1 | `notices_are_those_that_are_not_ok` |
//! | an entry without a page spoils the whole status on 24.x | `notices_are_those_that_are_not_ok` |
//! | `core/system/status` needs "System: Status", each part its own privilege | `each_part_without_its_privilege_says_which` |
//! | "none" is also what one says that never looked for updates | `updates_are_pending_none_or_unknown` |
//! | 200 with an empty body, `[]`, "N/A", `failed`: its backend failed | `a_backend_that_refuses_is_told_part_by_part` |
//! | configd down: 210 s of silence | `a_firewall_that_is_silent_costs_its_time_out_and_no_more` |
//! | 500 with an escaped message (26.7), with a trace (24.1), or without a word | `its_errors_are_told_without_traces_and_pages` |
//! | HTML pages of the web server; what is no JSON, cut, or no HTTP | `its_errors_are_told_without_traces_and_pages`, `what_is_no_answer_is_said_to_be_none` |
//! | a refused key takes 2 s, and a line in its log each time | `a_refused_key_is_tried_once` |
//! | 302 to the login form | `a_redirect_is_told_and_not_followed` |
//! | POST without a length is 411; a JSON type without a body 400; a charset loses the body | `what_is_sent_is_what_its_router_takes` |
//! | a session cookie with every answer | `no_cookie_is_kept_and_closed_connections_do_not_matter` |
//! | the connection is closed after 16 answers | `no_cookie_is_kept_and_closed_connections_do_not_matter` |
//! | pages of a list are of its choosing unless all rows are asked for | `three_hundred_services_are_one_request_and_fit` |
//! | restart answers `ok` to unknown, locked and ambiguous names, and the router decodes nothing | `only_a_service_of_the_list_is_restarted` |
//! | restarting configd or webgui cuts the API off | `only_a_service_of_the_list_is_restarted` |
//! | WireGuard's rows are locked, and restartable | `wireguard_is_restarted_though_shown_as_locked` |
//! | one instance may take its siblings along; Kea's rows differ by release | `a_restart_names_what_goes_along` |
//! | restart answers `ok` to a failed start | `what_the_list_says_afterwards_decides` |
//! | a user with read-only configuration may restart; one without "Status: Services" may not | `each_part_without_its_privilege_says_which` |
//!
//! Not shown: HTTP/2 by ALPN (the stand-in speaks HTTP/1.1 only, and the core offers no ALPN), `rowCount: 0`,
//! `diagnostics/log` and aliases (not used).

use std::time::{Duration, Instant};

use lab::{
    Fault, Reply, Rule, Server,
    opnsense::{
        Behaviour, Endpoint, Failure, Gateway, GatewayState, Key, Language, Measured, Notice, Opnsense, Privilege,
        Profile, Service, Services, Times, Updates, Verb,
    },
};
use serde_json::{Value, json};

use crate::{
    appliances::{Always, Env, Machine},
    support::Core,
};

const STATUS: &str = "opnsense_status";
const RESTART: &str = "opnsense_service_restart";
const SEARCH: &str = "/api/core/service/search";
const ASKED_TO_RESTART: &str = "/api/core/service/restart";

/// All that a status needs. On 24.1 the gateways have no privilege of their own.
const ALL_OF_THEM: [Privilege; 7] = [
    Privilege::Dashboard,
    Privilege::Firmware,
    Privilege::Services,
    Privilege::Gateways,
    Privilege::StaticRoutes,
    Privilege::Status,
    Privilege::Activity,
];

/// A firewall that does not dawdle.
fn firewall(profile: Profile) -> Machine<Opnsense> {
    let opnsense = Opnsense::new(profile);
    opnsense.with(|firewall| firewall.times = Times::quick());
    Machine::start(opnsense)
}

fn env_with(firewall: &Machine<Opnsense>, key: &Key) -> Env {
    firewall.env("OPNSENSE").and("OPNSENSE_API_KEY", &key.key).and("OPNSENSE_API_SECRET", &key.secret)
}

fn env(firewall: &Machine<Opnsense>) -> Env {
    env_with(firewall, &firewall.lab.root())
}

/// The services as the contract words them.
fn services(opnsense: &Opnsense) -> Value {
    let mut rows = opnsense.with(|firewall| firewall.services.iter().cloned().collect::<Vec<_>>());
    rows.sort_by_key(Service::id);
    let row = |service: &Service| {
        let status = if service.running() { "running" } else { "stopped" };
        let mut row = json!({"id": service.id(), "name": service.name, "status": status});
        if service.locked {
            row["locked"] = json!(true);
        }
        row["description"] = json!(service.description);
        row
    };
    rows.iter().map(row).collect()
}

/// The part and the reason of each problem.
fn problems(status: &Value) -> Vec<(String, String)> {
    let rows = status["problems"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(&row["part"]), text(&row["error"]))).collect()
}

fn parts(status: &Value) -> Vec<String> {
    let mut parts: Vec<_> = problems(status).into_iter().map(|(part, _)| part).collect();
    parts.sort();
    parts
}

/// A change that did not come out as asked; its structured answer.
fn refused(core: &mut Core, tool: &str, arguments: Value) -> Value {
    let result = core.call(tool, arguments);
    assert_eq!(result["isError"], true, "{result}");
    result["structuredContent"].clone()
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn every_release_is_read_as_it_is() {
    for profile in Profile::ALL {
        let firewall = firewall(profile);
        let mut core = env(&firewall).core();
        let before = firewall.lab.with(|f| f.uptime().as_secs());
        let status = core.ok(STATUS, json!({}));
        let after = firewall.lab.with(|f| f.uptime().as_secs());
        core.finish();

        assert_eq!(status["version"], format!("{} (Lab Lemur)", profile.version()));
        let uptime = status["uptime_seconds"].as_u64().unwrap();
        assert!((before..=after).contains(&uptime), "{profile:?}: {before} {uptime} {after}");
        has(status["uptime"].as_str().unwrap(), &["12 days, 03:04:"]);
        assert_eq!(status["cpu_percent"], 3.9);
        assert_eq!(status["load_average"], json!([0.42, 0.37, 0.3]));
        assert_eq!(status["memory_used_bytes"], 2_u64 << 30);
        assert_eq!(status["memory_percent"], 25.28);
        assert_eq!(status["updates"]["pending"], false);
        assert_eq!(status["updates"]["latest_version"], profile.version().split('_').next().unwrap());
        assert_eq!(status["notices"], json!([]));
        assert_eq!(status["services"], services(&firewall.lab));
        let total = json!(status["services"].as_array().unwrap().len());
        assert_eq!((&status["total"], &status["returned"], status.get("next_cursor")), (&total, &total, None));
        assert_eq!(status["gateway_status"], "degraded");

        let monitored = |name: &str, status: &str, numbers: [f64; 2], address: &str| {
            let [loss, delay] = numbers;
            let mut row = json!({"name": name, "status": status, "loss_percent": loss, "delay_ms": delay,
                "address": address});
            if profile >= Profile::V24_7 {
                row["monitor"] = json!(address);
            }
            row
        };
        let gateways = json!([
            monitored("LTE_GW", "down", [100.0, 0.0], "192.0.2.8"),
            monitored("VPN_GW", "loss", [12.0, 41.0], "198.51.100.9"),
            monitored("WAN_DHCP", "online", [0.0, 8.1], "203.0.113.1"),
            {"name": "WAN_DHCP6", "status": "unmonitored"},
        ]);
        assert_eq!(status["gateways"], gateways, "{profile:?}");

        if profile == Profile::V24_1 {
            // Only what `top` prints.
            assert_eq!(status["memory_total_bytes"], 8102_u64 << 20);
            assert!(status.get("memory_arc_bytes").is_none() && status.get("disks").is_none(), "{status}");
            assert_eq!(parts(&status), ["disks"]);
            has(&problems(&status)[0].1, &["has no call for it"]);
        } else {
            assert_eq!(status["memory_total_bytes"], (8_u64 << 30) - 93_769_728);
            assert_eq!(status["memory_arc_bytes"], 1_u64 << 29);
            let disks = json!([
                {"mountpoint": "/", "device": "zroot/ROOT/default", "size": "112G", "used": "3.4G",
                    "available": "109G", "used_percent": 3.0},
                {"mountpoint": "/boot/efi", "device": "/dev/gpt/efiboot0", "size": "260M",
                    "used": "1.3M", "available": "259M", "used_percent": 1.0},
                {"mountpoint": "/tmp", "device": "tmpfs", "size": "3.9G", "used": "2.8M",
                    "available": "3.9G", "used_percent": 0.0},
            ]);
            assert_eq!(status["disks"], disks);
            assert!(status.get("problems").is_none(), "{profile:?}: {status}");
        }
    }
}

#[test]
fn a_service_is_restarted_in_every_release() {
    let started = |firewall: &Machine<Opnsense>| {
        firewall.lab.with(|f| f.services.get("unbound").map(|service| (service.pid(), service.starts()))).unwrap()
    };
    let mut running = Vec::new();
    for profile in Profile::ALL {
        let firewall = firewall(profile);
        let mut core = env(&firewall).and("CAPABILITY_LEVEL", "2").core();
        let id = core.begin(RESTART, json!({"service": "unbound"}));
        running.push((profile, started(&firewall), firewall, core, id));
    }
    for (profile, before, firewall, mut core, id) in running {
        let done = core.answer(id)["result"]["structuredContent"].clone();
        assert_eq!((&done["outcome"], &done["success"]), (&json!("changed"), &json!(true)), "{profile:?}: {done}");
        assert_eq!((&done["service"], &done["status"]), (&json!("unbound"), &json!("running")));
        assert_eq!(
            done["target"],
            json!({"kind": "opnsense", "instance": "default", "name": "unbound", "id": "unbound",
            "state": "running"})
        );
        let after = started(&firewall);
        assert!(after.0.is_some() && after.0 != before.0 && after.1 == before.1 + 1, "{before:?} {after:?}");
        assert_eq!(firewall.lab.restarts(), ["unbound"]);
        assert_eq!(firewall.seen("POST", ASKED_TO_RESTART).len(), 1);
        core.finish();
    }
}

#[test]
fn a_restricted_key_reads_everything_in_every_release() {
    for profile in Profile::ALL {
        let firewall = firewall(profile);
        let key = firewall.lab.key(&ALL_OF_THEM);
        let mut core = env_with(&firewall, &key).core();
        let status = core.ok(STATUS, json!({}));
        let expected: &[&str] = if profile == Profile::V24_1 { &["disks"] } else { &[] };
        assert_eq!(parts(&status), expected, "{profile:?}: {status}");
        assert_eq!((&status["cpu_percent"], &status["services"]), (&json!(3.9), &services(&firewall.lab)));
        assert_eq!(status["version"], format!("{} (Lab Lemur)", profile.version()));

        // What the first look learned of the spelling is kept.
        let first = firewall.requests();
        core.ok(STATUS, json!({}));
        let second = firewall.server.seen().split_off(first);
        let camel = profile < Profile::V25_7;
        let words = second.iter().filter(|seen| seen.target.starts_with("/api/diagnostics/"));
        let own = words.filter(|seen| seen.target.contains("_") != camel).count();
        assert!(own >= 4, "{profile:?}: {second:#?}");
        let limit = if profile == Profile::V24_1 { 12 } else { 8 };
        assert!(second.len() <= limit, "{profile:?}: {} requests", second.len());
        core.finish();
    }
}

#[test]
fn what_is_sent_is_what_its_router_takes() {
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).core();
    core.ok(STATUS, json!({}));
    core.ok(RESTART, json!({"service": "dpinger/LTE_GW"}));
    core.finish();
    let seen = firewall.server.seen();
    for one in &seen {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_:.-/".contains(c);
        assert!(one.target.chars().all(plain) && !one.target.ends_with('/') && !one.target.contains("//"), "{one:?}");
        match one.method.as_str() {
            "GET" => assert!(one.header("content-type").is_none() && one.header("content-length").is_none(), "{one:?}"),
            "POST" if one.body.is_empty() => {
                assert_eq!((one.header("content-length"), one.header("content-type")), (Some("0"), None), "{one:?}");
            }
            _ => assert_eq!(one.header("content-type"), Some("application/json"), "{one:?}"),
        }
    }
    let restarts: Vec<_> = seen.iter().filter(|seen| seen.target.starts_with(ASKED_TO_RESTART)).collect();
    assert_eq!(restarts.len(), 1);
    assert_eq!(restarts[0].target, "/api/core/service/restart/dpinger/LTE_GW");
    let asked = firewall.lab.with(|f| f.controls.clone());
    assert_eq!((asked.len(), asked[0].verb, &asked[0].touched), (1, Verb::Restart, &vec!["dpinger/LTE_GW".to_owned()]));
}

#[test]
fn translated_texts_decide_nothing() {
    for profile in Profile::ALL {
        let firewall = firewall(profile);
        firewall.lab.with(|f| {
            f.updates = Updates::Available { packages: 3, reboot: true };
            f.notices =
                vec![notice("CrashReporter", "Absturzberichte", -1, "Es wurde ein Absturz gefunden.", Some(60))];
        });
        let mut core = env(&firewall).core();
        // 24.1 names the call that it does not have, and the first look tries both spellings of it.
        core.ok(STATUS, json!({}));
        let mut english = core.ok(STATUS, json!({}));
        firewall.lab.with(|f| f.language = Language::German);
        let mut german = core.ok(STATUS, json!({}));
        core.finish();
        for status in [&mut english, &mut german] {
            // The clock goes on between the two.
            for name in ["uptime", "uptime_seconds"] {
                status.as_object_mut().unwrap().remove(name).unwrap();
            }
            status["notices"][0].as_object_mut().unwrap().remove("since").unwrap();
        }
        assert_eq!(english, german, "{profile:?}");
        assert_eq!(german["updates"]["packages"], 3);
    }
}

#[test]
fn gateways_are_told_apart() {
    let firewall = firewall(Profile::V26_7);
    let measured = Some(Measured { loss: 1.5, delay: 250.5, deviation: 3.0 });
    let mut core = env(&firewall).core();
    let mut ask = |gateways: Vec<Gateway>| {
        firewall.lab.with(|f| f.gateways = gateways);
        core.ok(STATUS, json!({}))
    };
    let states = [
        ("A", GatewayState::Online, measured, "online"),
        ("B", GatewayState::Delay, measured, "delay"),
        ("C", GatewayState::DelayAndLoss, measured, "delay+loss"),
        ("D", GatewayState::ForcedDown, measured, "force_down"),
        ("E", GatewayState::Unheard, measured, "pending"),
        // Right after boot.
        ("F", GatewayState::Down, None, "pending"),
        ("G", GatewayState::Down, measured, "down"),
    ];
    let gateway = |(name, state, measured, _): &(&str, GatewayState, Option<Measured>, &str)| {
        Gateway::monitored(name, "192.0.2.1", *state, *measured)
    };
    let status = ask(states.iter().map(gateway).collect());
    assert_eq!(status["gateway_status"], "degraded");
    for (row, (name, _, measured, word)) in status["gateways"].as_array().unwrap().iter().zip(&states) {
        assert_eq!((&row["name"], &row["status"]), (&json!(name), &json!(word)));
        let (loss, delay) = (row.get("loss_percent"), row.get("delay_ms"));
        let expected = measured.map(|measured| (json!(measured.loss), json!(250.5)));
        assert_eq!((loss, delay), (expected.as_ref().map(|e| &e.0), expected.as_ref().map(|e| &e.1)), "{name}");
    }

    let office = "Büro Fiber 1";
    let status = ask(vec![
        Gateway::monitored(office, "192.0.2.1", GatewayState::Online, measured),
        Gateway::unmonitored("Spare", Some("192.0.2.2")),
    ]);
    assert_eq!((&status["gateway_status"], &status["gateways"][0]["name"]), (&json!("online"), &json!(office)));
    assert_eq!(status["gateways"][1], json!({"name": "Spare", "status": "unmonitored", "address": "192.0.2.2"}));
    has(&status["untrusted"].to_string(), &["gateways[].name"]);

    // Nobody watches any: that is not healthy.
    let status = ask(vec![Gateway::unmonitored("Spare", None)]);
    assert_eq!(status["gateway_status"], "unknown");

    let status = ask(Vec::new());
    assert_eq!((&status["gateway_status"], status.get("gateways")), (&json!("unknown"), None));
    assert_eq!(parts(&status), ["gateways"]);
    has(&problems(&status)[0].1, &["no gateway"]);
    core.finish();
}

fn notice(name: &str, title: &str, code: i8, message: &str, age: Option<u64>) -> Notice {
    let location = "/ui/core/firmware#status".to_owned();
    Notice { name: name.into(), title: title.into(), code, message: message.into(), location, age }
}

#[test]
fn notices_are_those_that_are_not_ok() {
    for profile in Profile::ALL {
        let firewall = firewall(profile);
        firewall.lab.with(|f| {
            f.notices = vec![
                notice("Fine", "All is well", 2, "No problems were detected.", None),
                notice("Disk", "Disk space", 1, "Less than <b>10 %</b> left.", Some(86_400)),
                notice("Kea", "Kea", 0, "No pending messages", None),
                notice("CrashReporter", "Crash reporter", -1, "A crash was found.", Some(120)),
            ];
        });
        let mut core = env(&firewall).core();
        let now = jiff::Timestamp::now().as_second();
        let status = core.ok(STATUS, json!({}));
        let notices = status["notices"].as_array().unwrap();
        let told: Vec<_> = notices.iter().map(|row| row["severity"].as_str().unwrap()).collect();
        assert_eq!(told, ["error", "warning", "notice"], "{profile:?}: {status}");
        let messages: Vec<_> = notices.iter().map(|row| row["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["A crash was found.", "No pending messages", "Less than 10 % left."]);
        let subjects: Vec<_> = notices.iter().map(|row| row["subject"].as_str().unwrap()).collect();
        let titled = ["Crash reporter", "Kea", "Disk space"];
        assert_eq!(subjects, if profile < Profile::V25_1 { ["CrashReporter", "Kea", "Disk"] } else { titled });
        let since: jiff::Timestamp = notices[0]["since"].as_str().unwrap().parse().unwrap();
        assert!((since.as_second() - (now - 120)).abs() <= 10, "{since}");
        assert!(notices[1].get("since").is_none(), "{status}");

        firewall.lab.with(|f| f.notices[1].location = String::new());
        let status = core.ok(STATUS, json!({}));
        if profile < Profile::V25_1 {
            assert!(parts(&status).contains(&"notices".to_owned()) && status.get("notices").is_none(), "{status}");
        } else {
            assert_eq!(status["notices"].as_array().unwrap().len(), 3);
        }
        core.finish();
    }
}

#[test]
fn updates_are_pending_none_or_unknown() {
    for profile in [Profile::V24_1, Profile::V24_7, Profile::Business26_4, Profile::V26_7] {
        let firewall = firewall(profile);
        let mut core = env(&firewall).core();
        let mut ask = |updates| {
            firewall.lab.with(|f| f.updates = updates);
            core.ok(STATUS, json!({}))["updates"].clone()
        };
        let unknown = ask(Updates::Unknown);
        assert!(unknown.get("pending").is_none() && unknown.get("packages").is_none(), "{unknown}");
        let none = ask(Updates::None);
        assert_eq!((&none["pending"], none.get("packages"), none.get("needs_reboot")), (&json!(false), None, None));
        assert_eq!(none["last_check"], "Sun Nov 22 06:00:01 UTC 2026");
        for reboot in [true, false] {
            let some = ask(Updates::Available { packages: 4, reboot });
            assert_eq!((&some["pending"], &some["packages"]), (&json!(true), &json!(4)), "{some}");
            assert_eq!(some["needs_reboot"], reboot);
            assert_eq!(some["latest_version"], format!("{}.99", profile.series()));
        }
        core.finish();
    }
}

#[test]
fn what_is_not_there_is_left_out() {
    let firewall = firewall(Profile::V26_7);
    firewall.lab.with(|f| {
        f.memory = None;
        f.load = None;
        f.disks = Vec::new();
        f.set_uptime(Duration::from_secs(86_400 + 61));
    });
    let mut core = env(&firewall).core();
    let status = core.ok(STATUS, json!({}));
    for name in ["memory_percent", "memory_used_bytes", "memory_total_bytes", "memory_arc_bytes"] {
        assert!(status.get(name).is_none(), "{name}: {status}");
    }
    // There is always a disk: none is an answer of a backend that failed.
    assert_eq!(parts(&status), ["disks", "memory"]);
    has(status["uptime"].as_str().unwrap(), &["1 day, 00:01:0"]);
    assert!(status.get("disks").is_none(), "{status}");
    // system_time does not know it, `top` does.
    assert_eq!(status["load_average"], json!([0.0, 0.0, 0.0]));
    core.finish();
}

#[test]
fn each_part_without_its_privilege_says_which() {
    let firewall = firewall(Profile::V26_7);
    let table: [(Privilege, &[&str], &str); 6] = [
        (Privilege::Dashboard, &["disks"], "Lobby: Dashboard"),
        (Privilege::Firmware, &["firmware"], "System: Firmware"),
        (Privilege::Services, &["services"], "Status: Services"),
        (Privilege::Gateways, &["gateways"], "System: Gateways"),
        (Privilege::Status, &["notices"], "System: Status"),
        // The dashboard's stream tells the CPU's use too.
        (Privilege::Activity, &[], "Diagnostics: System Activity"),
    ];
    for (privilege, missing, name) in table {
        let spared = [privilege, Privilege::StaticRoutes];
        let rest: Vec<_> = ALL_OF_THEM.into_iter().filter(|other| !spared.contains(other)).collect();
        let key = firewall.lab.key(&rest);
        let mut core = env_with(&firewall, &key).core();
        let status = core.ok(STATUS, json!({}));
        for part in missing {
            let row = status["problems"].as_array().unwrap().iter().find(|row| row["part"] == *part);
            let row = row.unwrap_or_else(|| panic!("{name}: {status}"));
            assert_eq!(row["missing_privilege"], name);
            has(row["error"].as_str().unwrap(), &[name]);
        }
        // The rest is there: what only this privilege opens is the only thing that is missing.
        let has_part = |part: &str| status.get(part).is_some();
        assert_eq!(has_part("disks"), privilege != Privilege::Dashboard);
        assert_eq!(has_part("updates"), privilege != Privilege::Firmware);
        assert_eq!(has_part("services"), privilege != Privilege::Services);
        assert_eq!(has_part("gateways"), privilege != Privilege::Gateways);
        assert_eq!(has_part("notices"), privilege != Privilege::Status);
        assert!(has_part("version") && has_part("cpu_percent") && has_part("memory_percent"), "{name}: {status}");
        if privilege == Privilege::Services {
            let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
            has(message(&told), &["could not restart service `unbound`", name]);
        }
        core.finish();

        let checked = env_with(&firewall, &key).and("CAPABILITY_LEVEL", "2").and("TOOLSETS", "opnsense").check();
        assert_eq!(checked.code == Some(0), missing.is_empty(), "{}", checked.stdout);
        if !missing.is_empty() {
            has(&checked.stdout, &[name, STATUS, "OPNsense 26.7.2"]);
            assert_eq!(checked.stdout.contains(RESTART), privilege == Privilege::Services, "{}", checked.stdout);
        }
    }
    assert!(firewall.lab.restarts().is_empty());

    let mut core = env_with(&firewall, &firewall.lab.key(&[])).core();
    has(&core.error(STATUS, json!({})), &["lacks every privilege", "System: Firmware", "Status: Services"]);
    core.finish();
}

#[test]
fn a_backend_that_refuses_is_told_part_by_part() {
    for profile in [Profile::V24_1, Profile::V24_7, Profile::V26_7] {
        let firewall = firewall(profile);
        let mut core = env(&firewall).core();
        let table: [(Endpoint, &str, &str); 7] = [
            (Endpoint::FirmwareStatus, "firmware", "updates"),
            (Endpoint::SystemTime, "uptime", ""),
            (Endpoint::SystemResources, "memory", ""),
            (Endpoint::Activity, "cpu", "cpu_percent"),
            (Endpoint::GatewayStatus, "gateways", "gateways"),
            (Endpoint::ServiceSearch, "services", "services"),
            (Endpoint::SystemStatus, "notices", if profile < Profile::V25_1 { "notices" } else { "" }),
        ];
        for (endpoint, part, gone) in table {
            if profile == Profile::V24_1 && matches!(endpoint, Endpoint::SystemTime | Endpoint::SystemResources) {
                continue;
            }
            firewall.lab.with(|f| f.failures.insert(endpoint, Failure::Refused));
            let status = core.ok(STATUS, json!({}));
            if !gone.is_empty() {
                assert!(
                    status.get(gone).is_none_or(|value| value.get("pending").is_none() && gone == "updates"),
                    "{profile:?} {endpoint:?}: {status}"
                );
            }
            // The status of 25.1 and later does not tell a failure from peace.
            if endpoint != Endpoint::SystemStatus || profile < Profile::V25_1 {
                assert!(parts(&status).iter().any(|known| known == part), "{profile:?} {endpoint:?}: {status}");
            }
            firewall.lab.with(|f| f.failures.clear());
        }
        let status = core.ok(STATUS, json!({}));
        assert_eq!(parts(&status), if profile == Profile::V24_1 { vec!["disks"] } else { vec![] });
        core.finish();
    }
}

#[test]
fn a_firewall_that_is_silent_costs_its_time_out_and_no_more() {
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).and("OPNSENSE_TIMEOUT", "1").core();
    core.ok(STATUS, json!({}));

    // One part hangs: the rest is told.
    firewall.server.fault(Rule::new("/api/routes/gateway/status", Fault::Hang));
    let clock = Instant::now();
    let status = core.ok(STATUS, json!({}));
    assert_eq!(parts(&status), ["gateways"]);
    has(&problems(&status)[0].1, &["within 1 s"]);
    assert_eq!(status["services"], services(&firewall.lab));
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
    firewall.server.clear_faults();

    // configd is down: every call takes 210 s.
    firewall.lab.with(|f| f.backend_down = true);
    let clock = Instant::now();
    has(&core.error(STATUS, json!({})), &["read the firewall's status", "within 1 s"]);
    let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
    has(message(&told), &["could not restart service `unbound`", "within 1 s"]);
    assert_eq!(told["outcome"], "failed");
    assert!(clock.elapsed() < Duration::from_secs(10), "{:?}", clock.elapsed());

    // Or answers in time, with nothing in it.
    firewall.lab.with(|f| f.times.backend_down = Duration::ZERO);
    let status = core.ok(STATUS, json!({}));
    for part in ["cpu", "uptime", "memory", "gateways", "services"] {
        assert!(parts(&status).iter().any(|known| known == part), "{part}: {status}");
    }
    has(&problems(&status).into_iter().find(|(part, _)| part == "cpu").unwrap().1, &["with nothing", "configd"]);
    let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
    assert!(!message(&told).contains("no such service"), "{told}");
    assert!(firewall.lab.restarts().is_empty());
    core.finish();
}

#[test]
fn its_errors_are_told_without_traces_and_pages() {
    for profile in Profile::ALL {
        let firewall = firewall(profile);
        firewall.lab.with(|f| {
            let exception = Failure::UserException { message: "No a < b & no \"c\"".into(), title: "Gateways".into() };
            f.failures.insert(Endpoint::GatewayStatus, exception);
            f.failures.insert(Endpoint::ServiceSearch, Failure::Unexpected);
        });
        firewall.server.fault(Rule::new("/api/core/system/status", Fault::HtmlError(502)));
        firewall.server.fault(Rule::new("/api/core/firmware/status", Fault::Status(503)));
        let mut core = env(&firewall).core();
        let status = core.ok(STATUS, json!({}));
        let told: Vec<_> = problems(&status);
        let of = |part: &str| told.iter().find(|(known, _)| known == part).map(|(_, text)| text.as_str()).unwrap();
        has(of("gateways"), &["answered 500", "Gateways: No a < b & no \"c\""]);
        has(of("services"), &["answered 500"]);
        has(of("notices"), &["answered 502", "HTML page"]);
        has(of("firmware"), &["answered 503"]);
        for (_, text) in &told {
            assert!(text.chars().count() < 400, "{text}");
            for dump in ["<html", "<h1", "DOCTYPE", "#0", ".php", "/usr/local", "&amp;"] {
                assert!(!text.contains(dump), "{dump}: {text}");
            }
        }
        if profile > Profile::V24_1 {
            // The version is also elsewhere.
            assert_eq!(status["version"], profile.version());
        }
        let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
        has(message(&told), &["answered 500"]);
        assert!(!core.log().contains("/usr/local"), "{}", core.log());
        core.finish();
    }
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).core();
    for (fault, words) in [
        (Fault::NotJson, &["not JSON", "this is no JSON"][..]),
        (Fault::Garbage, &["no HTTP"]),
        (Fault::Truncated, &["not JSON"]),
        (Fault::CutMiddle, &[]),
        (Fault::HtmlError(200), &["HTML page"]),
        (Fault::CutBefore, &["did not answer"]),
    ] {
        firewall.server.fault(Rule::new("/api/routes/gateway/status", fault.clone()));
        let status = core.ok(STATUS, json!({}));
        assert_eq!(parts(&status), ["gateways"], "{fault:?}: {status}");
        let text = &problems(&status)[0].1;
        has(text, words);
        assert!(text.chars().count() < 500 && !text.contains('<'), "{fault:?}: {text}");
        firewall.server.clear_faults();
    }
    core.finish();
}

#[test]
fn a_refused_key_is_tried_once() {
    for profile in [Profile::V24_1, Profile::V26_7] {
        let firewall = firewall(profile);
        if profile == Profile::V26_7 {
            // As long as the vendor takes.
            firewall.lab.with(|f| f.times.refused_key = Times::default().refused_key);
        }
        let wrong = Key { secret: "not-the-secret".into(), ..firewall.lab.root() };
        let disabled = firewall.lab.key(&[Privilege::AllPages]);
        firewall.lab.disable(&disabled);
        for key in [&wrong, &disabled] {
            let before = firewall.requests();
            let mut core = env_with(&firewall, key).core();
            let told = core.error(STATUS, json!({}));
            has(&told, &["does not accept the API key", "OPNSENSE_API_KEY", "OPNSENSE_API_SECRET"]);
            assert_eq!(firewall.requests() - before, 1, "{profile:?}");
            for secret in [&key.key, &key.secret] {
                assert!(!core.transcript().contains(secret.as_str()));
            }
            core.finish();
        }
    }
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).core();
    core.ok(STATUS, json!({}));
    // Revoked while we run: the restart says so, and nothing happens.
    firewall.lab.disable(&firewall.lab.root());
    let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
    has(message(&told), &["does not accept the API key"]);
    core.finish();
    let checked = env(&firewall).and("TOOLSETS", "opnsense").check();
    assert_eq!(checked.code, Some(1));
    has(&checked.stdout, &["FIX", "OPNSENSE_API_SECRET"]);
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    let elsewhere = Machine::start(std::sync::Arc::new(Always(|_: &_| Reply::json(200, &json!({})))));
    let to = format!("https://{}/?url=/api", elsewhere.server.host());
    let login = Machine::start(std::sync::Arc::new(Always(move |_: &_| Reply::empty(302).header("Location", &to))));
    let mut core =
        login.env("OPNSENSE").and("OPNSENSE_API_KEY", "the-key").and("OPNSENSE_API_SECRET", "the-secret").core();
    has(&core.error(STATUS, json!({})), &["answered 302", "OPNSENSE_HOST"]);
    let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
    has(message(&told), &["answered 302"]);
    core.finish();
    assert_eq!(elsewhere.requests(), 0);
    assert!(login.requests() > 0);
}

#[test]
fn no_cookie_is_kept_and_closed_connections_do_not_matter() {
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).core();
    let full = |server: &Server| server.seen().iter().filter(|seen| seen.nth == 16).count();
    let mut looks = 0;
    while full(&firewall.server) < 2 {
        looks += 1;
        assert!(looks < 100, "no connection was used sixteen times");
        let status = core.ok(STATUS, json!({}));
        assert!(status.get("problems").is_none(), "{status}");
    }
    let seen = firewall.server.seen();
    assert!(seen.iter().all(|seen| seen.header("cookie").is_none()));
    assert!(firewall.server.connections() < seen.len() as u64 / 2, "connections are used again");
    core.finish();
}

#[test]
fn three_hundred_services_are_one_request_and_fit() {
    let firewall = firewall(Profile::V26_7);
    firewall.lab.with(|f| f.services = Services::many(Profile::V26_7, 300));
    let all = services(&firewall.lab);
    let mut core = env(&firewall).and("MAX_RESULT_CHARS", "20000").core();
    let (mut rows, mut cursor, mut looks) = (Vec::new(), Value::Null, 0);
    while looks == 0 || !cursor.is_null() {
        let before = firewall.seen("POST", SEARCH).len();
        let arguments = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let status = core.ok(STATUS, arguments);
        assert_eq!(firewall.seen("POST", SEARCH).len(), before + 1);
        assert!(status.to_string().chars().count() <= 20_000);
        assert_eq!(status["total"], 300);
        rows.extend(status["services"].as_array().unwrap().iter().cloned());
        cursor = status["next_cursor"].clone();
        looks += 1;
        assert!(looks < 10, "{} rows", rows.len());
    }
    assert!(looks > 1);
    assert_eq!(Value::Array(rows), all);
    let search: Value = serde_json::from_slice(&firewall.seen("POST", SEARCH)[0].body).unwrap();
    assert_eq!(search["rowCount"], -1);

    let stopped = core.ok(STATUS, json!({"services": "stopped"}));
    let expected: Vec<_> = all.as_array().unwrap().iter().filter(|row| row["status"] == "stopped").cloned().collect();
    assert!(!expected.is_empty() && stopped["services"] == json!(expected), "{stopped}");
    let few = core.ok(STATUS, json!({"limit": 2}));
    assert_eq!((few["services"].as_array().unwrap().len(), &few["total"]), (2, &json!(300)));
    has(&core.error(STATUS, json!({"cursor": "nonsense"})), &["`cursor`"]);

    // An ambiguous name among so many is told in a bounded list.
    let told = refused(&mut core, RESTART, json!({"service": "openvpn"}));
    has(message(&told), &["services have that name", "openvpn/", "more"]);
    assert!(message(&told).len() < 1000, "{told}");
    core.finish();
}

#[test]
fn only_a_service_of_the_list_is_restarted() {
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).core();
    let before = firewall.requests();
    // What would need encoding or would be another path never leaves: not even the list is asked for.
    for bad in [
        "../../system/reboot",
        "cron ",
        "cron%20",
        "dpinger%2FWAN_GW",
        "dpinger/%3Awatcher%3A",
        "cron?x=1",
        "cron#a",
        "a/b/c",
        "/cron",
        "cron/",
        "Gäste",
        "-S",
        "cron\n",
        "..",
        &"x".repeat(300),
    ] {
        let trimmed = bad.trim();
        if trimmed == "cron" {
            continue;
        }
        let told = refused(&mut core, RESTART, json!({"service": bad}));
        has(message(&told), &["cannot be a service"]);
        assert!(message(&told).len() < 400, "{told}");
    }
    assert_eq!(firewall.requests(), before);
    core.error(RESTART, json!({"service": ""}));
    core.error(RESTART, json!({}));
    assert_eq!(firewall.requests(), before);

    for (asked, parts) in [
        ("unbund", &["no such service", "unbound"][..]),
        ("dns", &["no such service", "dnsmasq"]),
        ("zzz", &["no such service", "Services are", "cron"]),
        ("Unbound", &["no such service", "unbound"]),
        ("unbound/x", &["no such service", "unbound"]),
        ("dpinger", &["4 services", "dpinger/WAN_DHCP", "dpinger/LTE_GW", "dpinger/VPN_GW", "dpinger/:watcher:"]),
        ("openvpn", &["2 services", "openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e001"]),
        ("wireguard", &["2 services", "wireguard/83b1d0aa-60c2-4d0f-8a31-7e5a9c11f001"]),
        ("configd", &["refused", "cut off", "console"]),
        ("webgui", &["refused", "cut it off", "console"]),
        ("login", &["refused", "no daemon"]),
        ("pf", &["refused", "no daemon"]),
        ("routing", &["refused", "no daemon"]),
        ("sysctl", &["refused", "no daemon"]),
        ("dpinger/:watcher:", &["refused", "locked"]),
    ] {
        let told = refused(&mut core, RESTART, json!({"service": asked}));
        assert_eq!((&told["outcome"], &told["success"]), (&json!("failed"), &json!(false)), "{told}");
        has(message(&told), parts);
    }

    let planned = core.ok(RESTART, json!({"service": "unbound", "dry_run": true}));
    assert_eq!(planned["outcome"], "planned");
    has(message(&planned), &["unbound", "running", "Unbound", "Nothing was done"]);
    core.finish();

    // Protected by id, by a name that several share, and where it would only go along.
    for (protected, asked) in [
        ("opnsense:unbound", "unbound"),
        ("opnsense:openvpn", "openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e001"),
        ("opnsense:kea-dhcp/ca", "kea-dhcp/v4"),
    ] {
        let mut core = env(&firewall).and("PROTECTED", protected).core();
        let told = refused(&mut core, RESTART, json!({"service": asked}));
        assert_eq!(told["outcome"], "refused");
        has(message(&told), &[protected]);
        core.finish();
    }
    assert!(firewall.seen("POST", ASKED_TO_RESTART).is_empty() && firewall.lab.with(|f| f.controls.is_empty()));
}

#[test]
fn wireguard_is_restarted_though_shown_as_locked() {
    let firewall = firewall(Profile::V26_7);
    let id = "wireguard/83b1d0aa-60c2-4d0f-8a31-7e5a9c11f002";
    let mut core = env(&firewall).core();
    let done = core.ok(RESTART, json!({"service": id}));
    assert_eq!(done["outcome"], "changed");
    has(message(&done), &["WireGuard", "handshake"]);
    assert_eq!(firewall.lab.restarts(), [id]);
    core.finish();
}

#[test]
fn a_restart_names_what_goes_along() {
    let (old, new) = (firewall(Profile::V24_7), firewall(Profile::V26_7));
    let (mut old_core, mut new_core) = (env(&old).core(), env(&new).core());
    let old_id = old_core.begin(RESTART, json!({"service": "kea-dhcpv4"}));
    let new_id = new_core.begin(RESTART, json!({"service": "kea-dhcp/v4"}));
    let done = old_core.answer(old_id)["result"]["structuredContent"].clone();
    assert_eq!((&done["outcome"], done.get("also")), (&json!("changed"), None), "{done}");
    assert_eq!(old.lab.restarts(), ["kea-dhcpv4"]);

    let done = new_core.answer(new_id)["result"]["structuredContent"].clone();
    assert_eq!((&done["outcome"], &done["also"]), (&json!("changed"), &json!(["opnsense:kea-dhcp/ca"])), "{done}");
    has(message(&done), &["With it restarts kea-dhcp/ca"]);
    let mut touched = new.lab.restarts();
    touched.sort();
    assert_eq!(touched, ["kea-dhcp/ca", "kea-dhcp/v4"]);
    old_core.finish();
    new_core.finish();
}

/// Each waits as long as a service may take, so they wait together.
#[test]
fn what_the_list_says_afterwards_decides() {
    let firewall = firewall(Profile::V26_7);
    firewall.lab.with(|f| {
        let mut behave = |id: &str, behaviour| f.services.get_mut(id).unwrap().behaviour = behaviour;
        behave("ntpd", Behaviour::FailsToStart);
        behave("openssh", Behaviour::ComesUpAfter(Duration::from_secs(3)));
        behave("cron", Behaviour::DiesAfter(Duration::from_secs(1)));
        // It says ok, and nothing happens.
        behave("dnsmasq", Behaviour::Ignored);
    });
    let stopped = "openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e002";
    let mut core = env(&firewall).core();
    let clock = Instant::now();
    let begun: Vec<_> = ["ntpd", "openssh", "cron", "dnsmasq", stopped]
        .into_iter()
        .map(|service| core.begin(RESTART, json!({"service": service})))
        .collect();
    let answers: Vec<_> = begun.into_iter().map(|id| core.answer(id)["result"].clone()).collect();
    let told: Vec<_> = answers.iter().map(|answer| &answer["structuredContent"]).collect();
    assert!(clock.elapsed() < Duration::from_secs(45), "{:?}", clock.elapsed());
    let outcomes: Vec<_> = told.iter().map(|told| told["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "changed", "failed", "failed", "changed"], "{told:#?}");
    for failed in [0, 2, 3] {
        assert_eq!((&answers[failed]["isError"], &told[failed]["status"]), (&json!(true), &json!("stopped")));
        has(message(told[failed]), &["does not run", "though the firewall answered ok"]);
    }
    assert_eq!((&told[3]["status_before"], &told[1]["status"]), (&json!("stopped"), &json!("running")));
    assert_eq!((&told[4]["status_before"], &told[4]["status"]), (&json!("stopped"), &json!("running")));
    has(message(told[4]), &["was stopped and was started"]);
    // Each was asked for once.
    assert_eq!(firewall.seen("POST", ASKED_TO_RESTART).len(), 5);
    core.finish();
}

/// Each is watched for some seconds afterwards, so they run together.
#[test]
fn a_restart_that_is_not_answered_is_sent_once_and_read_back() {
    let table = [
        // It ran before and runs now: nobody can tell.
        (Fault::CutAfter, "unbound", "unknown", true),
        (Fault::CutBefore, "unbound", "unknown", false),
        (Fault::CutMiddle, "unbound", "unknown", true),
        // It stood still and runs now.
        (Fault::CutAfter, "dnsmasq", "changed", true),
        (Fault::NotJson, "unbound", "unknown", false),
        (Fault::HtmlError(502), "unbound", "unknown", false),
        (Fault::Status(500), "unbound", "unknown", false),
        // Refused: nothing was done.
        (Fault::Status(403), "unbound", "failed", false),
        (Fault::Status(401), "unbound", "failed", false),
    ];
    let begun = table.map(|(fault, service, outcome, done)| {
        let firewall = firewall(Profile::V26_7);
        firewall.server.fault(Rule::new(ASKED_TO_RESTART, fault.clone()).times(1));
        let mut core = env(&firewall).core();
        let id = core.begin(RESTART, json!({"service": service}));
        (firewall, core, id, fault, outcome, done)
    });
    for (firewall, mut core, id, fault, outcome, done) in begun {
        let told = core.answer(id)["result"]["structuredContent"].clone();
        assert_eq!(told["outcome"], outcome, "{fault:?}: {told}");
        assert_eq!(firewall.seen("POST", ASKED_TO_RESTART).len(), 1, "{fault:?}");
        assert_eq!(firewall.lab.restarts().len(), usize::from(done), "{fault:?}");
        if outcome == "unknown" {
            has(message(&told), &["not known", "it ran before too"]);
        }
        core.finish();
    }
}

#[test]
fn a_kept_connection_that_is_dead_costs_nothing() {
    let firewall = firewall(Profile::V26_7);
    let mut core = env(&firewall).core();
    core.ok(STATUS, json!({}));
    firewall.server.fault(Rule::new("/api", Fault::StaleKeepAlive));
    let status = core.ok(STATUS, json!({}));
    assert!(status.get("problems").is_none(), "{status}");
    firewall.server.clear_faults();

    firewall.server.pause_listener();
    let told = core.error(STATUS, json!({}));
    has(&told, &["read the firewall's status", &firewall.server.host(), "cannot be reached", "refused"]);
    let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
    has(message(&told), &["cannot be reached"]);
    assert_eq!(told["outcome"], "failed");
    firewall.server.resume().unwrap();
    let status = core.ok(STATUS, json!({}));
    assert!(status.get("problems").is_none(), "{status}");
    core.finish();
}

#[test]
fn without_a_firewall_the_tools_say_what_to_set() {
    let mut core = Env::default().core();
    has(&core.error(STATUS, json!({})), &["OPNSENSE_HOST", "OPNSENSE_API_KEY", "OPNSENSE_API_SECRET"]);
    let told = refused(&mut core, RESTART, json!({"service": "unbound"}));
    has(message(&told), &["OPNSENSE_HOST"]);
    core.finish();
}
