//! The OPNsense stand-in against what the vendor's code was seen to do, rule by rule.
#![expect(clippy::unwrap_used, reason = "a test that cannot talk has failed")]

use crate::client::{Answer, Client};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lab::opnsense::{
    Behaviour, Endpoint, Failure, Gateway, GatewayState, Key, Language, Measured, Notice, Opnsense, Privilege, Profile,
    Services, Times, Updates, Verb,
};
use lab::{Fault, Options, Rule, Server};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SEARCH: &str = "/api/core/service/search";
const NOW: (&str, &str) = ("Content-Length", "0");
const JSON: (&str, &str) = ("Content-Type", "application/json");

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A stand-in that does not dawdle, and its server.
struct Lab {
    opnsense: Arc<Opnsense>,
    server: Arc<Server>,
}

impl Lab {
    fn new(profile: Profile) -> Self {
        let opnsense = Opnsense::new(profile);
        opnsense.with(|f| f.times = Times::quick());
        let server = Arc::new(Server::start(opnsense.clone(), Options::default()).unwrap());
        Self { opnsense, server }
    }

    /// On a connection of its own.
    fn ask(&self, key: Option<&Key>, method: &str, target: &str, headers: Headers, body: &str) -> Answer {
        let authorization = key.map(basic);
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        Client::connect(&self.server).send(method, target, &headers, body).unwrap()
    }

    fn get(&self, key: &Key, target: &str) -> Answer {
        self.ask(Some(key), "GET", target, &[], "")
    }

    fn root(&self, target: &str) -> Answer {
        self.get(&self.opnsense.root(), target)
    }

    fn post(&self, target: &str) -> Answer {
        self.ask(Some(&self.opnsense.root()), "POST", target, &[NOW], "")
    }

    fn search(&self, body: &str) -> Value {
        self.ask(Some(&self.opnsense.root()), "POST", SEARCH, &[JSON], body).json()
    }

    /// The row of the list, as a client gets it.
    fn row(&self, id: &str) -> Value {
        let rows = self.root(SEARCH).json()["rows"].clone();
        rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id}")).clone()
    }

    fn pid(&self, id: &str) -> Option<u32> {
        self.opnsense.with(|f| f.services.get(id).unwrap().pid())
    }

    fn behave(&self, id: &str, behaviour: Behaviour) {
        self.opnsense.with(|f| f.services.get_mut(id).unwrap().behaviour = behaviour);
    }
}

fn basic(key: &Key) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", key.key, key.secret)))
}

/// A value under a JSON pointer.
fn at(value: &Value, pointer: &str) -> Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}")).clone()
}

/// Until it holds, or too much time has passed.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_key_is_read_as_php_reads_it() {
    for profile in [Profile::V26_7, Profile::V24_7, Profile::V24_1] {
        let lab = Lab::new(profile);
        let root = lab.opnsense.root();
        let disabled = lab.opnsense.key(&[Privilege::AllPages]);
        lab.opnsense.disable(&disabled);
        let encode = |text: String| STANDARD.encode(text);
        let pair = format!("{}:{}", root.key, root.secret);
        let good = encode(pair.clone());
        let table = [
            (format!("Basic {good}"), 200),
            (format!("basic {good}"), 200),
            (format!("Bearer {good}"), 200),
            (format!("Basic {}", encode(format!("{pair}:more"))), 200),
            (format!("Basic {}", good.trim_end_matches('=')), 200),
            (format!("Basic  {good}"), 401),
            (good.clone(), 401),
            ("Basic ***".into(), 401),
            (format!("Basic {}", encode(root.key.clone())), 401),
            (format!("Basic {}", encode(format!("{}:", root.key))), 401),
            (format!("Basic {}", encode(format!("{}:wrong", root.key))), 401),
            (format!("Basic {}", encode(format!("wrong:{}", root.secret))), 401),
            (basic(&disabled), 401),
        ];
        for (header, expected) in table {
            let answer = lab.ask(None, "GET", SEARCH, &[("Authorization", &header)], "");
            assert_eq!(answer.status, expected, "{profile:?} {header}");
            if expected == 401 {
                assert_eq!(answer.text(), r#"{"status":401,"message":"Authentication Failed"}"#);
            }
        }
    }
}

#[test]
fn a_wrong_secret_is_answered_after_two_seconds_and_an_unreadable_one_at_once() {
    let lab = Lab::new(Profile::V26_7);
    lab.opnsense.with(|f| f.times = Times::default());
    let wrong = Key { secret: "wrong".into(), ..lab.opnsense.root() };
    let begin = Instant::now();
    assert_eq!(lab.get(&wrong, SEARCH).status, 401);
    assert!(begin.elapsed() >= Duration::from_secs(2));
    lab.opnsense.with(|f| f.times.refused_key = Duration::from_secs(600));
    assert_eq!(lab.ask(None, "GET", SEARCH, &[("Authorization", "Basic ***")], "").status, 401);
}

#[test]
fn without_a_key_it_is_a_redirect_to_the_login_form() {
    let lab = Lab::new(Profile::V26_7);
    for (method, headers) in
        [("GET", vec![]), ("POST", vec![NOW]), ("PUT", vec![NOW]), ("GET", vec![("Accept", "application/json")])]
    {
        let answer = lab.ask(None, method, "/api/core/service/restart/cron?x=1", &headers, "");
        assert_eq!((answer.status, answer.text()), (302, ""), "{method}");
        assert_eq!(answer.headers("Location"), ["/?url=/api/core/service/restart/cron?x=1"]);
    }
    let answer = Lab::new(Profile::V24_1).ask(None, "GET", SEARCH, &[], "");
    assert_eq!((answer.status, answer.text()), (401, ""));
}

#[test]
fn the_web_server_refuses_first_and_in_html() {
    let lab = Lab::new(Profile::V26_7);
    let long = "y".repeat(20_000);
    let table: [(&str, &str, Headers, &str, u16); 12] = [
        ("POST", SEARCH, &[], "", 411),
        ("POST", "/api/core/service/restart", &[], "", 411),
        ("POST", "/api/nosuch/thing/here", &[], "", 411),
        ("GET", SEARCH, &[JSON], r#"{"rowCount":2}"#, 400),
        ("GET", "/api/core/service/search/%00", &[], "", 400),
        ("POST", "/api/core/service/restart/cron%0a", &[NOW], "", 400),
        ("POST", "/api/core/service/restart/cron%7F", &[NOW], "", 400),
        ("GET", SEARCH, &[("Host", "elsewhere.example")], "", 400),
        ("GET", SEARCH, &[("X-Long", &long)], "", 431),
        ("FOO", SEARCH, &[], "", 501),
        ("get", SEARCH, &[], "", 501),
        ("GET", "/api/core/service/search/%zz", &[], "", 200),
    ];
    for (method, target, headers, body, expected) in table {
        let answer = lab.ask(Some(&lab.opnsense.root()), method, target, headers, body);
        assert_eq!(answer.status, expected, "{method} {target}");
        if expected != 200 {
            assert_eq!(answer.headers("Content-Type"), ["text/html"]);
            assert_eq!(answer.headers("Connection"), ["close"]);
            assert!(answer.headers("Set-Cookie").is_empty());
            assert!(answer.text().contains(&format!("<h1>{expected} ")), "{}", answer.text());
        }
    }
    assert!(lab.opnsense.restarts().is_empty());
}

#[test]
fn a_connection_ends_after_sixteen_answers() {
    let lab = Lab::new(Profile::V26_7);
    let authorization = basic(&lab.opnsense.root());
    let mut client = Client::connect(&lab.server);
    for n in 1..=16 {
        let answer =
            client.send("GET", "/api/core/firmware/running", &[("Authorization", &authorization)], "").unwrap();
        assert_eq!(answer.headers("Connection").is_empty(), n < 16, "answer {n}");
    }
    assert!(client.send("GET", "/api/core/firmware/running", &[("Authorization", &authorization)], "").is_err());
}

#[test]
fn a_session_begins_with_every_answer_unless_one_was_brought() {
    let lab = Lab::new(Profile::V26_7);
    let cookies = |answer: &Answer| answer.headers("Set-Cookie").len();
    let first = lab.root(SEARCH);
    assert_eq!(cookies(&first), 1);
    assert_ne!(first.headers("Set-Cookie"), lab.root(SEARCH).headers("Set-Cookie"));
    let brought = [("Cookie", "PHPSESSID=00000000000000000000000000000000")];
    assert_eq!(cookies(&lab.ask(Some(&lab.opnsense.root()), "GET", SEARCH, &brought, "")), 0);
    assert_eq!(cookies(&lab.root("/api/core/nosuch/search")), 0);
    assert_eq!(cookies(&lab.root("/api/core/service/nosuch")), 1);
}

#[test]
fn routes_are_never_decoded_and_come_before_authentication() {
    let table = [
        ("/api/core/service/search", 200),
        ("/api/core/service/search/", 200),
        ("/api/core/service/search?x=1", 200),
        ("/api/core/service/search?", 200),
        ("/api/core/service/search#x", 200),
        ("/api/core/service/search/extra/more", 200),
        ("/api//core//service//search", 200),
        ("//api/core/service/search", 200),
        ("https://127.0.0.1/api/core/service/search", 200),
        ("/api/Core/Service/Search", 200),
        ("/api/core/service/SEARCH", 200),
        ("/api/CORE/service/search", 200),
        ("/api/diagnostics/system/systemTime", 200),
        ("/api/diagnostics/system/system_time", 200),
        ("/api/diagnostics/cpuUsage/getCPUType", 200),
        ("/api/diagnostics/cpu_usage/get_c_p_u_type", 200),
        ("/api/CORE/SERVICE/SEARCH", 404),
        ("/api/diagnostics/cpuusage/getCPUType", 404),
        ("/api/diagnostics/system/system-time", 404),
        ("/api/diagnostics/system/system%5Ftime", 404),
        ("/api/routes/gateway/stat%75s", 404),
        ("/api/routes/gateway%2fstatus", 404),
        ("/api/routes/gateway/status;x", 404),
        ("/api/routes/gateway/status%23x", 404),
        ("/api/core/firmware/../service/search", 404),
        ("/api/core/service/restart", 404),
        ("/api/core/service/nosuch", 404),
        ("/api/core/service", 404),
        ("/api/core/nosuch/search", 404),
        ("/api/core", 404),
        ("/api/nosuch/thing/here", 404),
        ("/API/core/service/search", 302),
        ("/api", 302),
        ("/api/", 302),
        ("/ui/core/firmware", 302),
        ("/../../etc/passwd", 302),
        ("/", 200),
    ];
    for profile in [Profile::V24_7, Profile::V25_1, Profile::V26_7] {
        let lab = Lab::new(profile);
        let unknown = Key { key: "nosuch".into(), secret: "nosuch".into() };
        for (target, expected) in table {
            let answer = lab.root(target);
            assert_eq!(answer.status, expected, "{profile:?} {target}");
            if expected == 404 {
                assert_eq!(answer.text(), r#"{"errorMessage":"Endpoint not found"}"#);
                assert_eq!(answer.headers("Content-Type"), ["application/json;charset=utf-8"]);
                assert_eq!(lab.get(&unknown, target).status, 404, "{target} with an unknown key");
                assert_eq!(lab.ask(None, "GET", target, &[], "").status, 404, "{target} without a key");
            }
        }
    }
}

#[test]
fn the_first_release_answers_400_with_what_is_missing() {
    let lab = Lab::new(Profile::V24_1);
    let table = [
        ("/api/core/service/foo", "action foo not found"),
        ("/api/diagnostics/system/systemTime", "action systemTime not found"),
        ("/api/diagnostics/activity/get_activity", "action get_activity not found"),
        ("/api/diagnostics/cpu_usage/stream", "controller OPNsense\\Diagnostics\\Api\\CpuUsageController not found"),
        ("/api/core/service/restart", "action restart expects at least 1 parameter(s)"),
    ];
    for (target, message) in table {
        let answer = lab.root(target);
        assert_eq!(answer.status, 400, "{target}");
        assert_eq!(answer.json(), json!({ "message": message, "status": 400 }));
    }
    assert_eq!(lab.root("/api/diagnostics/activity/getActivity").status, 200);
    assert_eq!(lab.ask(None, "GET", "/api/core/service/foo", &[], "").status, 400, "before authentication");
    assert_eq!(lab.ask(None, "GET", "/api/core/service/restart", &[], "").status, 401, "after authentication");
}

/// Everything that the status tool of a client asks for, in both spellings.
const SPELLINGS: [(&str, &str, Privilege); 6] = [
    ("/api/diagnostics/system/system_information", "/api/diagnostics/system/systemInformation", Privilege::Dashboard),
    ("/api/diagnostics/system/system_time", "/api/diagnostics/system/systemTime", Privilege::Dashboard),
    ("/api/diagnostics/system/system_resources", "/api/diagnostics/system/systemResources", Privilege::Dashboard),
    ("/api/diagnostics/system/system_disk", "/api/diagnostics/system/systemDisk", Privilege::Dashboard),
    ("/api/diagnostics/system/system_temperature", "/api/diagnostics/system/systemTemperature", Privilege::Dashboard),
    ("/api/diagnostics/activity/get_activity", "/api/diagnostics/activity/getActivity", Privilege::Activity),
];

#[test]
fn a_restricted_user_needs_the_spelling_of_the_release() {
    for profile in Profile::ALL.into_iter().filter(|profile| *profile != Profile::V24_1) {
        let lab = Lab::new(profile);
        for (snake, camel, privilege) in SPELLINGS {
            let key = lab.opnsense.key(&[privilege]);
            let stranger = lab.opnsense.key(&[Privilege::Services]);
            let statuses = (lab.get(&key, snake).status, lab.get(&key, camel).status);
            let expected = match privilege {
                Privilege::Activity => (200, 200),
                _ if profile >= Profile::V25_7 => (200, 403),
                _ => (403, 200),
            };
            assert_eq!(statuses, expected, "{profile:?} {snake}");
            assert_eq!((lab.root(snake).status, lab.root(camel).status), (200, 200), "{profile:?} {snake} as root");
            assert_eq!(lab.get(&stranger, snake).status, 403);
            assert_eq!(lab.get(&stranger, camel).text(), r#"{"status":403,"message":"Forbidden"}"#);
        }
        let key = lab.opnsense.key(&[Privilege::Dashboard]);
        assert_eq!(lab.get(&key, "/api/diagnostics/system/system_swap").status, 200, "{profile:?}: snake in all");
        assert_eq!(lab.get(&key, "/api/diagnostics/system/systemSwap").status, 403);
    }
}

#[test]
fn each_privilege_opens_its_pages_only() {
    let pages = [
        ("/api/core/firmware/status", Privilege::Firmware),
        (SEARCH, Privilege::Services),
        ("/api/routes/gateway/status", Privilege::Gateways),
        ("/api/core/system/status", Privilege::Status),
    ];
    for profile in Profile::ALL {
        let lab = Lab::new(profile);
        for (_, privilege) in pages {
            let key = lab.opnsense.key(&[privilege]);
            for (page, needed) in pages {
                let covered = privilege == needed && !(profile == Profile::V24_1 && privilege == Privilege::Gateways);
                let expected = if covered { 200 } else { 403 };
                assert_eq!(lab.get(&key, page).status, expected, "{profile:?} {privilege:?} {page}");
            }
        }
        let both = lab.opnsense.key(&[Privilege::StaticRoutes, Privilege::Status]);
        assert_eq!(lab.get(&both, "/api/routes/gateway/status").status, 200);
        assert_eq!(lab.get(&both, "/api/core/system/status").status, 200);
        assert_eq!(lab.get(&lab.opnsense.key(&[]), SEARCH).status, 403);
    }
}

#[test]
fn exact_patterns_refuse_whatever_is_added() {
    for profile in [Profile::V24_7, Profile::V26_7] {
        let lab = Lab::new(profile);
        let key = lab.opnsense.key(&[Privilege::Gateways, Privilege::Services, Privilege::Firmware, Privilege::Status]);
        let status = "/api/routes/gateway/status";
        let table = [
            (status.to_owned(), 200),
            (format!("{status}#x"), 200),
            (format!("{status}?x=1"), 403),
            (format!("{status}?"), 403),
            (format!("{status}/"), 403),
            (format!("{status}/extra/more"), 403),
            ("/api//routes/gateway/status".into(), 403),
            ("/api/Routes/Gateway/Status".into(), 403),
            (format!("/{SEARCH}"), 403),
            ("/api/Core/Service/Search".into(), 403),
            (format!("{SEARCH}/extra/more"), 200),
            (format!("{SEARCH}?x=1"), 200),
            (format!("{SEARCH}/"), 200),
            ("/api/core/firmware/status?x=1".into(), 200),
            // `status*` since 25.1.
            ("/api/core/system/status?x=1".into(), if profile == Profile::V24_7 { 403 } else { 200 }),
        ];
        for (target, expected) in table {
            assert_eq!(lab.get(&key, &target).status, expected, "{profile:?} {target}");
        }
    }
}

#[test]
fn only_an_empty_body_is_invalid_json_and_broken_json_is_no_parameters() {
    let two = r#"{"rowCount":2}"#;
    let table = [
        ("application/json", two, Some(2)),
        ("application/json; charset=utf-8", two, Some(2)),
        ("application/json;charset=UTF-8", two, Some(2)),
        ("Application/JSON", two, Some(2)),
        ("application/json; charset=utf8", two, None),
        ("application/json; charset=\"utf-8\"", two, None),
        ("application/problem+json", two, None),
        ("text/plain", two, None),
        ("application/json", r#"{"rowCount":2"#, None),
        ("application/json", "\u{feff}{\"rowCount\":2}", None),
        ("application/json", "[]", None),
        ("application/json", "null", None),
        ("application/json", "\"x\"", None),
        ("application/x-www-form-urlencoded", "rowCount=2&current=1", Some(2)),
    ];
    for profile in [Profile::V24_1, Profile::V26_7] {
        let lab = Lab::new(profile);
        let all = lab.root(SEARCH).json()["total"].as_u64().unwrap();
        for (kind, body, rows) in table {
            let answer = lab.ask(Some(&lab.opnsense.root()), "POST", SEARCH, &[("Content-Type", kind)], body);
            assert_eq!(answer.status, 200, "{kind} {body}");
            assert_eq!(answer.json()["rowCount"], rows.unwrap_or(all), "{kind} {body}");
        }
        let empty = [
            lab.ask(Some(&lab.opnsense.root()), "GET", SEARCH, &[JSON], ""),
            lab.ask(Some(&lab.opnsense.root()), "POST", "/api/core/service/restart/cron", &[JSON, NOW], ""),
            lab.ask(Some(&lab.opnsense.root()), "POST", SEARCH, &[JSON], "0"),
        ];
        for answer in empty {
            assert_eq!(answer.status, 400);
            assert_eq!(answer.json(), json!({ "status": 400, "message": "Invalid JSON syntax" }));
        }
        assert!(lab.opnsense.restarts().is_empty());
    }
}

#[test]
fn a_page_of_services_is_cut_as_php_cuts_it() {
    let lab = Lab::new(Profile::V26_7);
    let all = lab.root(SEARCH).json()["total"].as_u64().unwrap();
    let table = [
        (r#"{"current":1,"rowCount":-1,"searchPhrase":"","sort":{}}"#, all, all, 1),
        (r#"{"rowCount":2}"#, all, 2, 1),
        (r#"{"rowCount":"2"}"#, all, 2, 1),
        (r#"{"rowCount":2,"current":99}"#, all, 0, 99),
        (r#"{"rowCount":0}"#, all, 0, 1),
        (r#"{"rowCount":"abc"}"#, all, 0, 1),
        (r#"{"rowCount":[]}"#, all, 0, 1),
        (r#"{"rowCount":null}"#, all, all, 1),
        (r#"{"rowCount":2.7}"#, all, all.min(27), 1),
        (r#"{"rowCount":true}"#, all, 1, 1),
        (r#"{"searchPhrase":"zzzz"}"#, 0, 0, 1),
        (r#"{"searchPhrase":["a"]}"#, 0, 0, 1),
        (r#"{"searchPhrase":"DPINGER"}"#, 4, 4, 1),
        (r#"{"searchPhrase":"wan dpinger"}"#, 1, 1, 1),
        (r#"{"sort":"name"}"#, all, all, 1),
    ];
    for (body, total, count, current) in table {
        let answer = lab.search(body);
        assert_eq!(answer["total"], total, "{body}");
        assert_eq!(answer["rowCount"], count, "{body}");
        assert_eq!(answer["rows"].as_array().unwrap().len() as u64, count, "{body}");
        assert_eq!(answer["current"], current, "{body}");
    }
    let ids = |body: &str| -> Vec<String> {
        let rows = lab.search(body)["rows"].clone();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(r#"{"rowCount":2}"#), ["configd", "cron"]);
    assert_eq!(ids(r#"{"rowCount":2,"current":2}"#), ["dnsmasq", "dpinger/:watcher:"]);
    let last = ids(r#"{"rowCount":2,"current":0}"#);
    assert!(last.iter().all(|id| id.starts_with("wireguard/")), "{last:?}");
    let backwards = ids(r#"{"rowCount":3,"sort":{"name":"desc"}}"#);
    assert_eq!((&*backwards[2], backwards[0] < backwards[1]), ("webgui", true));
    assert_eq!(lab.search(r#"{"rowCount":1,"sort":{"nosuch":"asc"}}"#)["rows"][0]["nosuch"], Value::Null);
    let query = lab.root(&format!("{SEARCH}?rowCount=2&searchPhrase=cron")).json();
    assert_eq!(query["rowCount"], all, "a GET's parameters are not read");
}

#[test]
fn three_hundred_services_come_in_one_answer() {
    let lab = Lab::new(Profile::V25_7);
    lab.opnsense.with(|f| f.services = Services::many(Profile::V25_7, 300));
    let answer = lab.root(SEARCH).json();
    assert_eq!((&answer["total"], answer["rows"].as_array().unwrap().len()), (&json!(300), 300));
}

#[test]
fn a_restart_is_ok_whatever_it_does() {
    let lab = Lab::new(Profile::V26_7);
    let dpinger = ["dpinger/:watcher:", "dpinger/WAN_DHCP", "dpinger/LTE_GW", "dpinger/VPN_GW"];
    let server = "openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e001";
    let tunnel = "wireguard/83b1d0aa-60c2-4d0f-8a31-7e5a9c11f002";
    let one = |id: &'static str| vec![id];
    let table: Vec<(&str, Vec<&str>)> = vec![
        ("cron", one("cron")),
        ("cron/", one("cron")),
        ("/cron", one("cron")),
        ("cron?x=1", one("cron")),
        ("dpinger", dpinger.to_vec()),
        ("dpinger/WAN_DHCP", one("dpinger/WAN_DHCP")),
        ("dpinger/:watcher:", one("dpinger/:watcher:")),
        (server, one(server)),
        (tunnel, one(tunnel)),
        ("kea-dhcp", vec!["kea-dhcp/v4", "kea-dhcp/ca"]),
        ("kea-dhcp/v4", vec!["kea-dhcp/v4", "kea-dhcp/ca"]),
        ("login", one("login")),
        ("nosuch", vec![]),
        ("CRON", vec![]),
        ("cron/0", vec![]),
        ("cron/a/b/c", vec![]),
        ("cron%20", vec![]),
        ("cron+", vec![]),
        ("cron%2f", vec![]),
        ("cron;id", vec![]),
        ("$(id)", vec![]),
        ("-S", vec![]),
        ("%s", vec![]),
        ("..", vec![]),
        ("../search", vec![]),
        ("cron/../../search", vec![]),
        ("%2e%2e%2fsearch", vec![]),
        ("dpinger/NOSUCH", vec![]),
        ("dpinger/wan_dhcp", vec![]),
        ("dpinger/WAN%5FDHCP", vec![]),
        ("dpinger%2FWAN_DHCP", vec![]),
        ("dp%69nger/WAN_DHCP", vec![]),
        ("dpinger/%3Awatcher%3A", vec![]),
        ("G%C3%A4ste", vec![]),
    ];
    for (name, touched) in table {
        let pids = |lab: &Lab| -> Vec<(String, Option<u32>, u64)> {
            lab.opnsense.with(|f| f.services.iter().map(|s| (s.id(), s.pid(), s.starts())).collect())
        };
        let before = pids(&lab);
        let answer = lab.post(&format!("/api/core/service/restart/{name}"));
        assert_eq!((answer.status, answer.text()), (200, r#"{"result":"ok"}"#), "{name}");
        let after = pids(&lab);
        let changed: Vec<&str> = before.iter().zip(&after).filter(|(b, a)| b.2 != a.2).map(|(b, _)| &*b.0).collect();
        assert_eq!(changed, touched, "{name}");
        for (b, a) in before.iter().zip(&after) {
            let process = b.1.is_some() && touched.contains(&&*b.0);
            assert_eq!(b.1 != a.1, process, "{name}: the pid of {}", b.0);
        }
    }
}

#[test]
fn only_post_acts() {
    let lab = Lab::new(Profile::V26_7);
    let root = lab.opnsense.root();
    for verb in ["start", "restart", "stop"] {
        let target = format!("/api/core/service/{verb}/cron");
        for (method, headers) in [("GET", vec![]), ("PUT", vec![NOW]), ("DELETE", vec![NOW]), ("PATCH", vec![NOW])] {
            let answer = lab.ask(Some(&root), method, &target, &headers, "");
            assert_eq!((answer.status, answer.text()), (200, r#"{"result":"failed"}"#), "{method} {verb}");
        }
    }
    assert!(lab.opnsense.with(|f| f.controls.is_empty()));
    let stranger = lab.opnsense.key(&[Privilege::Firmware]);
    let answer = lab.ask(Some(&stranger), "POST", "/api/core/service/restart/cron", &[NOW], "");
    assert_eq!(answer.status, 403);
    assert!(lab.opnsense.with(|f| f.controls.is_empty()));
}

#[test]
fn a_head_has_no_body() {
    let lab = Lab::new(Profile::V26_7);
    let authorization = basic(&lab.opnsense.root());
    let mut client = Client::connect(&lab.server);
    for target in ["/api/routes/gateway/status", "/api/core/service/restart/cron", "/api/core/firmware/running"] {
        let answer = client.send("HEAD", target, &[("Authorization", &authorization)], "").unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{target}");
    }
    assert!(lab.opnsense.restarts().is_empty());
    let key = lab.opnsense.key(&[Privilege::Services]);
    assert_eq!(lab.ask(Some(&key), "HEAD", "/api/core/system/status", &[], "").status, 403);
}

#[test]
fn a_service_can_be_stopped_and_started() {
    let lab = Lab::new(Profile::V24_7);
    lab.post("/api/core/service/stop/cron");
    assert_eq!((&lab.row("cron")["running"], lab.pid("cron")), (&json!(0), None));
    lab.post("/api/core/service/start/cron");
    assert_eq!(lab.row("cron")["running"], 1);
    lab.post("/api/core/service/stop/login");
    assert_eq!((&lab.row("login")["running"], &lab.row("login")["locked"]), (&json!(1), &json!(1)));
    lab.post("/api/core/service/stop/kea-dhcp/v4");
    assert_eq!(lab.row("kea-dhcpv4")["running"], 1, "24.7 knows it under another name");
    let asked = lab.opnsense.with(|f| f.controls.iter().map(|c| (c.verb, c.touched.len())).collect::<Vec<_>>());
    assert_eq!(asked, [(Verb::Stop, 1), (Verb::Start, 1), (Verb::Stop, 0), (Verb::Stop, 0)]);
    assert!(lab.opnsense.restarts().is_empty());
}

#[test]
fn a_service_can_fail_to_come_up() {
    let lab = Lab::new(Profile::V26_7);
    let restart =
        |id: &str| assert_eq!(lab.post(&format!("/api/core/service/restart/{id}")).text(), r#"{"result":"ok"}"#);
    lab.behave("unbound", Behaviour::FailsToStart);
    restart("unbound");
    assert_eq!(lab.row("unbound")["running"], 0);
    lab.behave("unbound", Behaviour::Normal);
    restart("unbound");
    assert_eq!(lab.row("unbound")["running"], 1);

    let before = lab.pid("ntpd");
    lab.behave("ntpd", Behaviour::Ignored);
    restart("ntpd");
    assert_eq!((&lab.row("ntpd")["running"], lab.pid("ntpd")), (&json!(1), before));

    let (long, short) = (Duration::from_secs(600), Duration::from_millis(50));
    lab.behave("cron", Behaviour::ComesUpAfter(long));
    restart("cron");
    assert_eq!((&lab.row("cron")["running"], lab.pid("cron")), (&json!(0), None));
    lab.behave("cron", Behaviour::ComesUpAfter(short));
    restart("cron");
    eventually("cron runs", || lab.row("cron")["running"] == 1);

    lab.behave("openssh", Behaviour::DiesAfter(long));
    restart("openssh");
    assert_eq!(lab.row("openssh")["running"], 1);
    lab.behave("openssh", Behaviour::DiesAfter(short));
    restart("openssh");
    eventually("openssh died", || lab.row("openssh")["running"] == 0);
}

#[test]
fn restarting_configd_stalls_what_needs_it() {
    let lab = Lab::new(Profile::V26_7);
    lab.opnsense.with(|f| f.times.carrier_restart = Duration::from_millis(1500));
    let begin = Instant::now();
    lab.post("/api/core/service/restart/configd");
    assert_eq!(lab.row("configd")["running"], 1);
    assert!(begin.elapsed() >= Duration::from_millis(1500));
    assert_eq!(lab.opnsense.restarts(), ["configd"]);
}

#[test]
fn restarting_the_web_gui_closes_the_port() {
    let lab = Lab::new(Profile::V26_7);
    lab.opnsense.attach(&lab.server);
    lab.opnsense.with(|f| f.times.carrier_restart = Duration::from_secs(3));
    let authorization = basic(&lab.opnsense.root());
    let mut client = Client::connect(&lab.server);
    let headers = [("Authorization", &*authorization), NOW];
    assert!(client.send("POST", "/api/core/service/restart/webgui", &headers, "").is_err(), "the answer is lost");
    assert!(TcpStream::connect(lab.server.host()).is_err(), "nobody listens");
    eventually("the port is open", || TcpStream::connect(lab.server.host()).is_ok());
    eventually("it answers", || lab.root(SEARCH).status == 200);
    assert_eq!(lab.opnsense.restarts(), ["webgui"]);
}

#[test]
fn restarting_the_web_gui_of_an_unattached_stand_in_leaves_503_for_a_while() {
    let lab = Lab::new(Profile::V26_7);
    lab.opnsense.with(|f| f.times.carrier_restart = Duration::from_secs(3));
    lab.post("/api/core/service/restart/webgui");
    assert_eq!(lab.root(SEARCH).status, 503);
    eventually("it answers", || lab.root(SEARCH).status == 200);
}

#[test]
fn each_release_has_its_shapes() {
    for profile in Profile::ALL {
        let lab = Lab::new(profile);
        let firmware = lab.root("/api/core/firmware/status").json();
        assert_eq!(at(&firmware, "/product/product_version"), profile.version());
        assert_eq!(firmware["all_packages"], json!([]), "an empty map is a list");
        assert_eq!(firmware["product"].get("CORE_ABI").is_some(), profile == Profile::V26_7);
        let business = profile == Profile::Business26_4;
        assert_eq!(firmware["product"]["product_license"].is_object(), business, "{profile:?}");

        let gateways = lab.root("/api/routes/gateway/status").json();
        assert_eq!(gateways["items"][0].get("monitor").is_some(), profile != Profile::V24_1);

        let status = lab.root("/api/core/system/status").json();
        if profile < Profile::V25_1 {
            assert_eq!(status["System"], json!({ "status": "OK" }));
            assert_eq!(status["CrashReporter"]["timestamp"], "0");
        } else {
            assert_eq!(at(&status, "/metadata/system/status"), 2, "a number when there is nothing to say");
            assert!(status.get("subsystems").is_none());
        }
        if profile == Profile::V24_1 {
            continue;
        }
        let information = lab.root("/api/diagnostics/system/system_information").json();
        assert_eq!(information["versions"][0], format!("OPNsense {}-amd64", profile.version()));
        assert_eq!(information["versions"].as_array().unwrap().len(), if business { 4 } else { 3 });
        let time = lab.root("/api/diagnostics/system/system_time").json();
        assert!(time["uptime"].as_str().unwrap().starts_with("12 days, 03:04:"), "{time}");
        assert_eq!(time.get("boottime").is_some(), profile >= Profile::V25_1);
        let memory = lab.root("/api/diagnostics/system/system_resources").json()["memory"].clone();
        assert!(memory["total"].is_string() && memory["used"].is_u64(), "{memory}");
        let heat = lab.root("/api/diagnostics/system/system_temperature").json()[0].clone();
        let (number, kind) = if profile == Profile::V24_7 { (json!("0"), "core") } else { (json!(0), "cpu") };
        assert_eq!((&heat["device_seq"], heat["type"].as_str()), (&number, Some(kind)));
    }
}

#[test]
fn slashes_and_umlauts_are_escaped_and_services_keep_their_names() {
    let lab = Lab::new(Profile::V26_7);
    let answer = lab.root(SEARCH);
    assert!(answer.text().contains(r#""id":"dpinger\/WAN_DHCP""#) && answer.text().contains(r"B\u00fcro"));
    assert_eq!(lab.row("openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e001")["description"], "OpenVPN server Büro & Zuhause");
    let row = lab.row("wireguard/83b1d0aa-60c2-4d0f-8a31-7e5a9c11f001");
    assert_eq!((&row["locked"], &row["running"], &row["name"]), (&json!(1), &json!(1), &json!("wireguard")));
}

#[test]
fn the_parts_of_the_status_can_be_absent() {
    let lab = Lab::new(Profile::V25_7);
    lab.opnsense.with(|f| {
        (f.memory, f.load) = (None, None);
        f.disks.clear();
        f.gateways.clear();
        f.set_uptime(Duration::from_secs(4 * 60 + 5));
        f.updates = Updates::Unknown;
    });
    assert_eq!(lab.root("/api/diagnostics/system/system_resources").json(), json!({ "memory": { "used": "N/A" } }));
    assert_eq!(lab.root("/api/diagnostics/system/system_disk").json(), json!([]));
    assert_eq!(lab.root("/api/routes/gateway/status").json(), json!({ "items": [], "status": "failed" }));
    let time = lab.root("/api/diagnostics/system/system_time").json();
    assert!(time["uptime"].as_str().unwrap().starts_with("00:04:"), "{time}");
    assert_eq!(time["loadavg"], "N/A");
    let firmware = lab.root("/api/core/firmware/status").json();
    assert_eq!((&firmware["status"], at(&firmware, "/product/product_check")), (&json!("none"), Value::Null));
    let checked = lab.post("/api/core/firmware/status").json();
    assert_eq!(checked["needs_reboot"], "0", "a POST looks for updates first");
    lab.opnsense.with(|f| f.updates = Updates::Available { packages: 3, reboot: true });
    let firmware = lab.root("/api/core/firmware/status").json();
    assert_eq!((&firmware["status"], &firmware["status_reboot"]), (&json!("update"), &json!("1")));
    assert_eq!(firmware["all_packages"].as_object().unwrap().len(), 3);
}

#[test]
fn gateways_are_told_by_their_word_and_a_tilde() {
    let lab = Lab::new(Profile::V26_7);
    let measured = Some(Measured { loss: 22.0, delay: 690.2, deviation: 120.3 });
    let states = [
        (GatewayState::Online, "none"),
        (GatewayState::Loss, "loss"),
        (GatewayState::Delay, "delay"),
        (GatewayState::DelayAndLoss, "delay+loss"),
        (GatewayState::Down, "down"),
        (GatewayState::ForcedDown, "force_down"),
        (GatewayState::Unheard, "resting"),
    ];
    lab.opnsense.with(|f| {
        f.gateways = states.iter().map(|(s, word)| Gateway::monitored(word, "192.0.2.1", *s, measured)).collect();
        f.gateways.push(Gateway::monitored("BOOTING", "192.0.2.1", GatewayState::Down, None));
        f.gateways.push(Gateway::unmonitored("LTE BACK UP", None));
    });
    let items = lab.root("/api/routes/gateway/status").json()["items"].clone();
    for (n, (_, word)) in states.iter().enumerate() {
        assert_eq!((&items[n]["status"], &items[n]["delay"]), (&json!(word), &json!("690.2 ms")));
    }
    assert_eq!((&items[7]["status"], &items[7]["loss"]), (&json!("down"), &json!("~")));
    assert_eq!(items[7]["monitor"], "192.0.2.1");
    for part in ["address", "loss", "delay", "stddev", "monitor"] {
        assert_eq!(items[8][part], "~");
    }
    assert_eq!(items[8]["status"], "none", "unmonitored is told by the tilde only");
}

#[test]
fn notices_follow_the_release_and_the_privileges() {
    let notice = |name: &str, code, location: &str| Notice {
        name: name.into(),
        title: name.into(),
        code,
        message: "Something is wrong.".into(),
        location: location.into(),
        age: Some(10_800),
    };
    for profile in Profile::ALL {
        let lab = Lab::new(profile);
        lab.opnsense.with(|f| {
            f.notices =
                vec![notice("Disk", 0, "/ui/core/firmware#status"), notice("CrashReporter", -1, "/crash_reporter.php")];
        });
        let all = lab.root("/api/core/system/status").json();
        let some = lab.get(&lab.opnsense.key(&[Privilege::Status]), "/api/core/system/status").json();
        if profile < Profile::V25_1 {
            assert_eq!(
                (at(&all, "/System/status"), at(&all, "/CrashReporter/status")),
                (json!("Error"), json!("Error"))
            );
            assert_eq!(at(&all, "/CrashReporter/logLocation"), "/crash_reporter.php");
            assert_eq!(some, json!({ "System": { "status": "OK" } }));
            lab.opnsense.with(|f| f.notices[0].location.clear());
            assert_eq!(lab.root("/api/core/system/status").json(), json!({ "status": "failed" }));
        } else {
            assert_eq!(
                at(&all, "/metadata/system"),
                json!({ "status": "ERROR", "message": "No pending messages", "title": "System" })
            );
            assert_eq!(at(&all, "/subsystems/crashreporter/statusCode"), -1);
            assert_eq!(at(&all, "/subsystems/disk/age"), "3 hours ago");
            assert_eq!((at(&some, "/metadata/system/status"), &some["subsystems"]), (json!("OK"), &json!([])));
        }
    }
}

#[test]
fn no_text_decides_anything_in_german() {
    let lab = Lab::new(Profile::V25_7);
    lab.opnsense.with(|f| f.language = Language::German);
    let time = lab.root("/api/diagnostics/system/system_time").json();
    assert!(time["uptime"].as_str().unwrap().starts_with("12 Tage, 03:04:"), "{time}");
    let gateway = lab.root("/api/routes/gateway/status").json()["items"][1].clone();
    assert_eq!((&gateway["status"], &gateway["status_translated"]), (&json!("down"), &json!("Getrennt")));
    let updates = lab.root("/api/diagnostics/system/system_information").json()["updates"].clone();
    assert!(updates.as_str().unwrap().starts_with("Klicken"));
    lab.opnsense.with(|f| f.memory = None);
    assert_eq!(at(&lab.root("/api/diagnostics/system/system_resources").json(), "/memory/used"), "k. A.");
}

#[test]
fn a_refused_backend_looks_different_everywhere() {
    let table = [
        (Endpoint::Activity, "/api/diagnostics/activity/get_activity", ""),
        (Endpoint::SystemSwap, "/api/diagnostics/system/system_swap", ""),
        (Endpoint::SystemDisk, "/api/diagnostics/system/system_disk", "[]"),
        (Endpoint::SystemResources, "/api/diagnostics/system/system_resources", r#"{"memory":{"used":"N\/A"}}"#),
        (Endpoint::GatewayStatus, "/api/routes/gateway/status", r#"{"items":[],"status":"failed"}"#),
        (Endpoint::ServiceSearch, SEARCH, r#"{"total":0,"rowCount":0,"current":1,"rows":[]}"#),
    ];
    let lab = Lab::new(Profile::V26_7);
    for (endpoint, target, body) in table {
        lab.opnsense.with(|f| f.failures.insert(endpoint, Failure::Refused));
        let answer = lab.root(target);
        assert_eq!((answer.status, answer.text()), (200, body), "{target}");
        let kind = if body.is_empty() { "text/html; charset=UTF-8" } else { "application/json; charset=UTF-8" };
        assert_eq!(answer.headers("Content-Type"), [kind]);
    }
    lab.opnsense.with(|f| f.failures.insert(Endpoint::SystemTime, Failure::Refused));
    assert_eq!(lab.root("/api/diagnostics/system/system_time").status, 500);
    lab.opnsense.with(|f| f.failures.insert(Endpoint::ServiceRestart, Failure::Refused));
    assert_eq!(lab.post("/api/core/service/restart/cron").text(), r#"{"result":"ok"}"#);
    assert!(lab.opnsense.restarts().is_empty(), "and nothing happened");
}

#[test]
fn configd_down_is_a_late_nothing() {
    let lab = Lab::new(Profile::V26_7);
    lab.opnsense.with(|f| {
        f.backend_down = true;
        f.times.backend_down = Duration::from_millis(800);
    });
    let begin = Instant::now();
    let answer = lab.root("/api/diagnostics/system/system_swap");
    assert!(begin.elapsed() >= Duration::from_millis(800));
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!(lab.post("/api/core/service/restart/cron").text(), r#"{"result":"ok"}"#);
    assert!(lab.opnsense.restarts().is_empty());
    assert_eq!(Times::default().backend_down, Duration::from_secs(210), "as it was seen");
}

#[test]
fn a_500_has_the_shape_of_its_release() {
    let message = "User <b>x</b> & co denied";
    for profile in Profile::ALL {
        let lab = Lab::new(profile);
        let fail = |failure| lab.opnsense.with(|f| f.failures.insert(Endpoint::ServiceSearch, failure));
        fail(Failure::UserException { message: message.into(), title: "General access".into() });
        let answer = lab.root(SEARCH);
        assert_eq!(answer.status, 500);
        let body = answer.json();
        assert_eq!(body["errorTitle"], "General access");
        assert_eq!(body.get("errorTrace").is_some(), profile == Profile::V24_1);
        let escaped = profile == Profile::V26_7;
        assert_eq!(body.get("errorLevel").is_some(), escaped);
        let expected = if escaped { "User &lt;b&gt;x&lt;/b&gt; &amp; co denied" } else { message };
        assert_eq!(body["errorMessage"], expected, "{profile:?}");
        fail(Failure::Unexpected);
        let answer = lab.root(SEARCH);
        assert_eq!(answer.status, 500);
        if profile != Profile::V24_1 {
            assert_eq!(answer.text(), r#"{"errorMessage":"Unexpected error, check log for details"}"#);
        }
    }
}

#[test]
fn the_cpu_stream_has_no_end() {
    let lab = Lab::new(Profile::V26_7);
    let mut client = Client::connect(&lab.server);
    let head = format!(
        "GET /api/diagnostics/cpu_usage/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n",
        basic(&lab.opnsense.root())
    );
    client.write(head.as_bytes()).unwrap();
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.headers("Content-Type")), (200, vec!["text/event-stream"]));
    lab.server.pause_listener();
    let rest = String::from_utf8(client.rest()).unwrap();
    let data = rest.lines().nth(1).and_then(|line| line.strip_prefix("data: ")).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["total"].as_u64().unwrap() + data["idle"].as_u64().unwrap(), 100);
    let promised: usize = answer.headers("Content-Length")[0].parse().unwrap();
    assert!(rest.len() < promised, "more is promised than ever comes");
}

#[test]
fn faults_speak_the_vendors_language() {
    let lab = Lab::new(Profile::V26_7);
    for (status, body) in [
        (401, r#"{"status":401,"message":"Authentication Failed"}"#),
        (403, r#"{"status":403,"message":"Forbidden"}"#),
        (404, r#"{"errorMessage":"Endpoint not found"}"#),
        (500, r#"{"errorMessage":"Unexpected error, check log for details"}"#),
    ] {
        lab.server.fault(Rule::new(SEARCH, Fault::Status(status)).times(1));
        let answer = lab.root(SEARCH);
        assert_eq!((answer.status, answer.text()), (status, body));
    }
    lab.server.fault(Rule::new(SEARCH, Fault::Status(503)).times(1));
    assert!(lab.root(SEARCH).text().starts_with("<?xml"));
    assert_eq!(lab.root(SEARCH).status, 200);
}
