//! The door to appliances, through the real binary and `opnsense_status`, its simplest tool: whom it believes, what it
//! repeats and what never, how long it waits, and that the key goes nowhere else.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lab::{
    Appliance, Certificate, Fault, Options, Reply, Request, Rule, Server,
    opnsense::{Key, Opnsense, Profile, Times},
};
use serde_json::{Value, json};

use crate::{
    support::{Core, run},
    wire::{ask, until},
};

const STATUS: &str = "opnsense_status";
const RESTART: &str = "opnsense_service_restart";
const FIRMWARE: &str = "/api/core/firmware/status";
const SERVICES: &str = "/api/core/service/search";
const GATEWAYS: &str = "/api/routes/gateway/status";

/// A firewall that is reached.
struct Firewall {
    server: Server,
    opnsense: Arc<Opnsense>,
}

impl Firewall {
    fn new() -> Self {
        Self::with(Certificate::default())
    }

    fn with(certificate: Certificate) -> Self {
        let opnsense = Opnsense::new(Profile::V26_7);
        opnsense.with(|firewall| firewall.times = Times::quick());
        let server = Server::start(opnsense.clone(), Options { certificate, ..Options::default() }).unwrap();
        Self { server, opnsense }
    }

    fn key(&self) -> Key {
        self.opnsense.root()
    }

    /// A core that may talk to it, with these variables more.
    fn core(&self, more: &[(&str, &str)]) -> Core {
        self.core_at(&self.server.host(), more)
    }

    fn core_at(&self, host: &str, more: &[(&str, &str)]) -> Core {
        let key = self.key();
        let mut env =
            vec![("OPNSENSE_HOST", host), ("OPNSENSE_API_KEY", &key.key), ("OPNSENSE_API_SECRET", &key.secret)];
        env.extend(more);
        Core::start(&env)
    }

    /// One that trusts it.
    fn trusted(&self, more: &[(&str, &str)]) -> Core {
        let mut env = vec![("OPNSENSE_TLS_FINGERPRINT", self.server.fingerprint())];
        env.extend(more);
        self.core(&env)
    }

    /// How often this path was asked for.
    fn asked(&self, path: &str) -> usize {
        self.server.seen().iter().filter(|seen| seen.target == path).count()
    }
}

/// An appliance that answers everything in one way.
struct Always<F>(F);

impl<F: Fn(&Request) -> Reply + Send + Sync + 'static> Appliance for Always<F> {
    fn answer(&self, request: &Request) -> Reply {
        (self.0)(request)
    }
}

fn always(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(Arc::new(Always(answer)), Options::default()).unwrap()
}

/// A core for a server that is no firewall.
fn core_of(server: &Server) -> Core {
    Core::start(&[
        ("OPNSENSE_HOST", &server.host()),
        ("OPNSENSE_API_KEY", "the-key"),
        ("OPNSENSE_API_SECRET", "the-secret"),
        ("OPNSENSE_TLS_FINGERPRINT", server.fingerprint()),
    ])
}

fn pem_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Passes bytes on to a server, and notes when the client hangs up.
struct Relay {
    host: String,
    left: Arc<Mutex<Vec<Instant>>>,
}

impl Relay {
    fn start(listener: TcpListener, to: String) -> Self {
        let host = listener.local_addr().unwrap().to_string();
        let left = Arc::<Mutex<Vec<Instant>>>::default();
        let noted = left.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (noted, server) = (noted.clone(), TcpStream::connect(&to).unwrap());
                let (back_from, back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass_on(back_from, back_to));
                thread::spawn(move || {
                    pass_on(client, server);
                    noted.lock().unwrap().push(Instant::now());
                });
            }
        });
        Self { host, left }
    }

    fn left(&self) -> Option<Instant> {
        self.left.lock().unwrap().first().copied()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16384];
    while let Ok(amount @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..amount]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The line that an error tells to set.
#[track_caller]
fn line_of(error: &str) -> (&str, &str) {
    let at = error.find("OPNSENSE_TLS_FINGERPRINT=").unwrap_or_else(|| panic!("no line to set: {error}"));
    let line = error[at..].split_whitespace().next().unwrap().trim_end_matches(['.', ',', ')']);
    line.split_once('=').unwrap()
}

#[track_caller]
fn problem<'a>(status: &'a Value, part: &str) -> &'a str {
    let problems = status["problems"].as_array().unwrap_or_else(|| panic!("no problems: {status}"));
    let found = problems.iter().find(|problem| problem["part"] == part);
    found.unwrap_or_else(|| panic!("no problem with {part}: {status}"))["error"].as_str().unwrap()
}

// --- whom it believes -----------------------------------------------------------------------------------------------

#[test]
fn a_self_signed_certificate_is_refused_with_the_line_that_makes_it_work() {
    let firewall = Firewall::with(Certificate::self_signed("OPNsense.internal", &["127.0.0.1"]).unwrap());
    let mut core = firewall.core(&[]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    let host = firewall.server.host();
    for part in [host.as_str(), "CN=OPNsense.internal", firewall.server.fingerprint(), "signed by itself"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(firewall.server.seen().len(), 0, "the key was sent to somebody who is not believed");
    let (name, value) = line_of(&error);
    let mut core = firewall.core(&[(name, value)]);
    let status = core.ok(STATUS, json!({}));
    core.finish();
    assert!(status["version"].as_str().unwrap().starts_with("26.7"), "{status}");
}

#[test]
fn check_prints_that_line_too_and_then_what_it_found() {
    let firewall = Firewall::new();
    let key = firewall.key();
    let host = firewall.server.host();
    let mut env = vec![
        ("OPNSENSE_HOST", host.as_str()),
        ("OPNSENSE_API_KEY", &key.key),
        ("OPNSENSE_API_SECRET", &key.secret),
        ("TOOLSETS", "opnsense"),
    ];
    let before = run(&["--check"], &env, b"");
    assert_ne!(before.code, Some(0), "{}", before.stdout);
    let (name, value) = line_of(&before.stdout);
    env.push((name, value));
    let after = run(&["--check"], &env, b"");
    assert_eq!(after.code, Some(0), "{}{}", after.stdout, after.stderr);
    assert!(after.stdout.contains("OPNsense 26.7"), "{}", after.stdout);
}

#[test]
fn a_wrong_fingerprint_is_refused_and_names_the_right_one_and_one_of_several_is_enough() {
    let firewall = Firewall::new();
    let wrong = ["AB"; 32].join(":");
    let mut core = firewall.core(&[("OPNSENSE_TLS_FINGERPRINT", &wrong)]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("not one that OPNSENSE_TLS_FINGERPRINT names"), "{error}");
    assert_eq!(line_of(&error).1, firewall.server.fingerprint());
    assert_eq!(firewall.server.seen().len(), 0);
    let both = format!("{wrong}, {}", firewall.server.fingerprint().replace(':', "").to_lowercase());
    let mut core = firewall.core(&[("OPNSENSE_TLS_FINGERPRINT", &both)]);
    core.ok(STATUS, json!({}));
    core.finish();
}

#[test]
fn a_ca_file_is_believed_for_what_it_signed_and_for_itself() {
    let issued = Firewall::with(Certificate::issued("fw", &["127.0.0.1"]).unwrap());
    let itself = Firewall::new();
    for firewall in [&issued, &itself] {
        let file = pem_file(firewall.server.certificate_pem());
        let mut core = firewall.core(&[("OPNSENSE_CA_FILE", file.path().to_str().unwrap())]);
        core.ok(STATUS, json!({}));
        core.finish();
    }
    // Another one's is not.
    let file = pem_file(itself.server.certificate_pem());
    let mut core = issued.core(&[("OPNSENSE_CA_FILE", file.path().to_str().unwrap())]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("nobody trusted") && error.contains(issued.server.fingerprint()), "{error}");
}

#[test]
fn a_ca_file_that_is_none_is_told_by_name() {
    let firewall = Firewall::new();
    let empty = pem_file("nothing\n");
    for path in ["/nothing/here.pem", empty.path().to_str().unwrap()] {
        let mut core = firewall.core(&[("OPNSENSE_CA_FILE", path)]);
        let error = core.error(STATUS, json!({}));
        core.finish();
        assert!(error.contains("OPNSENSE_CA_FILE") && error.contains(path), "{error}");
    }
    assert_eq!(firewall.server.seen().len(), 0);
}

#[test]
fn a_certificate_for_another_name_is_told_as_that() {
    let firewall = Firewall::with(Certificate::issued("fw", &["fw.example"]).unwrap());
    let file = pem_file(firewall.server.certificate_pem());
    let mut core = firewall.core(&[("OPNSENSE_CA_FILE", file.path().to_str().unwrap())]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("is for another name") && error.contains("OPNSENSE_HOST"), "{error}");
    assert_eq!(line_of(&error).1, firewall.server.fingerprint());
    assert_eq!(firewall.server.seen().len(), 0);
}

#[test]
fn an_expired_certificate_says_when_and_a_fingerprint_still_means_it() {
    let firewall = Firewall::with(Certificate::expired("fw", &["127.0.0.1"]).unwrap());
    let mut core = firewall.core(&[]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("valid until 2020-12-31"), "{error}");
    let mut core = firewall.trusted(&[]);
    core.ok(STATUS, json!({}));
    core.finish();
}

#[test]
fn without_the_check_it_works_and_the_start_warns() {
    let firewall = Firewall::with(Certificate::expired("somebody", &["elsewhere.example"]).unwrap());
    let mut core = firewall.core(&[("OPNSENSE_TLS_VERIFY", "false")]);
    core.ok(STATUS, json!({}));
    let log = core.log();
    assert!(log.contains("WARN") && log.contains("OPNSENSE_TLS_VERIFY=false"), "{log}");
    core.finish();
}

#[test]
fn plain_http_is_refused_at_the_start() {
    let ran = run(&[], &[("OPNSENSE_HOST", "http://fw"), ("OPNSENSE_API_KEY", "k"), ("OPNSENSE_API_SECRET", "s")], b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""));
    assert!(ran.stderr.contains("OPNSENSE_HOST") && ran.stderr.contains("in clear"), "{}", ran.stderr);
}

#[test]
fn a_server_without_tls_is_told_as_one_and_gets_no_key() {
    let heard = Arc::<Mutex<String>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (host, ears) = (listener.local_addr().unwrap().to_string(), heard.clone());
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut piece = [0; 4096];
            let amount = client.read(&mut piece).unwrap_or(0);
            ears.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..amount]));
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let firewall = Firewall::new();
    let mut core = firewall.core_at(&host, &[]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("does not speak TLS"), "{error}");
    assert!(!heard.lock().unwrap().to_lowercase().contains("authorization"));
}

#[test]
fn nobody_there_is_told_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let firewall = Firewall::new();
    let mut core = firewall.core_at(&free, &[]);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains(&free) && error.contains("connection refused"), "{error}");
}

#[test]
fn ipv6_addresses_are_reached() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        println!("left out: this machine has no IPv6");
        return;
    };
    let firewall = Firewall::new();
    let relay = Relay::start(listener, firewall.server.host());
    assert!(relay.host.starts_with("[::1]:"));
    for host in [relay.host.clone(), format!("https://{}/", relay.host)] {
        let mut core = firewall.core_at(&host, &[("OPNSENSE_TLS_FINGERPRINT", firewall.server.fingerprint())]);
        core.ok(STATUS, json!({}));
        core.finish();
    }
}

// --- where the key goes ---------------------------------------------------------------------------------------------

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = always(|_| Reply::json(200, &json!({"rows": []})));
    let target = format!("https://{}/api/core/firmware/status", elsewhere.host());
    let redirecting = always(move |_| Reply::empty(302).header("Location", &target));
    let mut core = core_of(&redirecting);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("302") && error.contains(&elsewhere.host()), "{error}");
    assert_eq!(elsewhere.connections(), 0, "it went there");
}

#[test]
fn the_key_is_in_no_log_and_in_no_answer() {
    let firewall = Firewall::new();
    let Key { key, secret } = firewall.key();
    let pair = STANDARD.encode(format!("{key}:{secret}"));
    let mut core = firewall.trusted(&[("RUST_LOG", "trace"), ("CAPABILITY_LEVEL", "2")]);
    core.ok(STATUS, json!({}));
    core.ok(RESTART, json!({"service": "cron"}));
    firewall.server.fault(Rule::new("/api", Fault::Status(401)));
    core.error(STATUS, json!({}));
    firewall.server.fault(Rule::new("/api", Fault::Garbage));
    core.error(STATUS, json!({}));
    core.close();
    assert!(core.end().success());
    let all = core.transcript();
    assert!(core.log().contains(RESTART), "nothing was logged: {all}");
    for hidden in [&key, &secret, &pair] {
        assert!(!all.contains(hidden.as_str()), "{hidden} is printed");
    }
    let echo = always(|request| {
        let said = request.header("authorization").unwrap_or_default().to_owned();
        Reply::json(200, &json!({"status": "none", "heard": said}))
    });
    let mut core = core_of(&echo);
    ask(&mut core, "tools/call", json!({"name": STATUS, "arguments": {}}));
    assert!(!core.transcript().contains(&STANDARD.encode("the-key:the-secret")));
    core.finish();
}

// --- what is repeated -----------------------------------------------------------------------------------------------

#[test]
fn a_read_over_a_connection_that_proved_dead_is_repeated_once() {
    let firewall = Firewall::new();
    let mut core = firewall.trusted(&[("CAPABILITY_LEVEL", "2")]);
    // A dry run reads one list, so it is known which connection it goes over.
    let look = |core: &mut Core| core.call(RESTART, json!({"service": "cron", "dry_run": true}));
    let outcome = |result: &Value| result["structuredContent"]["outcome"].clone();
    assert_eq!(outcome(&look(&mut core)), "planned");
    firewall.server.fault(Rule::new(SERVICES, Fault::StaleKeepAlive));
    assert_eq!(outcome(&look(&mut core)), "planned");
    assert_eq!(firewall.asked(SERVICES), 3, "once, then once more for the dead connection");
    // Dead again at the second try: that is the appliance's fault, not the connection's.
    firewall.server.clear_faults();
    assert_eq!(outcome(&look(&mut core)), "planned");
    firewall.server.fault(Rule::new(SERVICES, Fault::CutBefore));
    let failed = look(&mut core);
    core.finish();
    assert_eq!(outcome(&failed), "failed");
    assert!(failed["content"][0]["text"].as_str().unwrap().contains("closed the connection"), "{failed}");
    assert_eq!(firewall.asked(SERVICES), 6);
}

#[test]
fn a_read_that_was_cut_on_a_fresh_connection_is_not_repeated() {
    for fault in [Fault::CutBefore, Fault::CutAfter, Fault::CutMiddle] {
        let firewall = Firewall::new();
        firewall.server.fault(Rule::new(FIRMWARE, fault.clone()));
        let mut core = firewall.trusted(&[]);
        let status = core.ok(STATUS, json!({}));
        core.finish();
        assert!(!problem(&status, "firmware").is_empty());
        assert_eq!(firewall.asked(FIRMWARE), 1, "{fault:?}");
        assert!(status["services"].as_array().is_some_and(|rows| !rows.is_empty()), "the rest is there: {status}");
    }
}

#[test]
fn a_change_goes_once_and_over_a_connection_of_its_own() {
    let restart = "/api/core/service/restart/cron";
    for fault in [None, Some(Fault::CutBefore), Some(Fault::CutAfter), Some(Fault::CutMiddle), Some(Fault::Garbage)] {
        let firewall = Firewall::new();
        let mut core = firewall.trusted(&[("CAPABILITY_LEVEL", "2")]);
        core.ok(STATUS, json!({}));
        if let Some(fault) = &fault {
            firewall.server.fault(Rule::new(restart, fault.clone()));
        }
        let result = core.call(RESTART, json!({"service": "cron"}));
        core.finish();
        let outcome = if fault.is_some() { "unknown" } else { "changed" };
        assert_eq!(result["structuredContent"]["outcome"], outcome, "{fault:?}: {result}");
        let seen: Vec<_> = firewall.server.seen().into_iter().filter(|seen| seen.target == restart).collect();
        assert_eq!((seen.len(), seen[0].nth, seen[0].method.as_str()), (1, 1, "POST"), "{fault:?}");
    }
}

#[test]
fn a_firewall_that_was_down_is_reached_again() {
    let firewall = Firewall::new();
    let mut core = firewall.trusted(&[]);
    core.ok(STATUS, json!({}));
    firewall.server.pause_listener();
    let error = core.error(STATUS, json!({}));
    assert!(error.contains("connection refused"), "{error}");
    firewall.server.resume().unwrap();
    let status = core.ok(STATUS, json!({}));
    core.finish();
    assert!(status.get("problems").is_none(), "{status}");
}

// --- what is no answer ----------------------------------------------------------------------------------------------

#[test]
fn what_is_no_answer_costs_its_part_and_is_told_in_a_few_words() {
    for (fault, said) in [
        (Fault::Garbage, "no HTTP"),
        (Fault::NotJson, "not JSON: `this is no JSON`"),
        (Fault::HtmlError(502), "502: an HTML page"),
        (Fault::Truncated, "not JSON"),
        (Fault::Huge(33 << 20), "more than 32 MiB"),
        (Fault::Status(503), "503"),
    ] {
        let firewall = Firewall::new();
        firewall.server.fault(Rule::new(GATEWAYS, fault.clone()));
        let mut core = firewall.trusted(&[]);
        let status = core.ok(STATUS, json!({}));
        core.finish();
        let error = problem(&status, "gateways");
        assert!(error.contains(said) && error.chars().count() < 500, "{fault:?}: {error}");
        assert!(!error.contains('<') && !error.contains("DOCTYPE"), "{fault:?}: {error}");
        assert_eq!(status["gateway_status"], "unknown");
        assert!(status.get("gateways").is_none() && status["services"].is_array(), "{status}");
    }
}

#[test]
fn something_else_at_the_address_is_told_as_that() {
    let page =
        "<!DOCTYPE html><html><head><title>Router</title><script>let x = 1;</script></head><body><h1>Welcome</h1>"
            .to_owned()
            + &"<p>word</p>".repeat(5000);
    let router = always(move |_| Reply::text(200, "text/html", page.clone()));
    let mut core = core_of(&router);
    let error = core.error(STATUS, json!({}));
    core.finish();
    assert!(error.contains("HTML page (`Welcome") && error.contains("Something else may answer"), "{error}");
    assert!(!error.contains('<') && !error.contains("let x") && error.len() < 600, "{error}");
}

// --- time -----------------------------------------------------------------------------------------------------------

#[test]
fn a_part_that_hangs_ends_with_the_time_out_and_leaves_the_rest() {
    let firewall = Firewall::new();
    let mut core = firewall.trusted(&[("OPNSENSE_TIMEOUT", "2")]);
    core.ok(STATUS, json!({}));
    // Over a kept connection: silence is no sign that it was dead, so this is not repeated.
    firewall.server.fault(Rule::new(GATEWAYS, Fault::Hang));
    let status = core.ok(STATUS, json!({}));
    core.finish();
    let error = problem(&status, "gateways");
    assert!(error.contains("within 2 s"), "{error}");
    assert!(status["services"].is_array() && status["version"].is_string(), "{status}");
    assert_eq!(firewall.asked(GATEWAYS), 2);
}

#[test]
fn a_firewall_that_hangs_costs_one_time_out_and_others_nothing() {
    let firewall = Firewall::new();
    firewall.server.fault(Rule::new("/", Fault::Hang));
    let mut core = firewall.trusted(&[("OPNSENSE_TIMEOUT", "5")]);
    let clock = Instant::now();
    let hanging = core.begin(STATUS, json!({}));
    core.ok("system_info", json!({}));
    assert!(!core.unasked().iter().any(|message| message["id"] == hanging), "it was first");
    let error = core.answer(hanging)["result"]["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(error.contains("within 5 s"), "{error}");
    // Not one after the other: parts, repetitions and connections share the one time.
    assert!(clock.elapsed() < Duration::from_secs(10), "{:?}", clock.elapsed());
    core.finish();
}

#[test]
fn a_peer_that_drips_does_not_stretch_the_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            // The beginning of a TLS record, and then of it a byte at a time.
            thread::spawn(move || {
                let mut drip = [22, 3, 3, 0x3f, 0xff].into_iter().chain(std::iter::repeat(0));
                while client.write_all(&[drip.next().unwrap()]).is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    let firewall = Firewall::new();
    let mut core = firewall.core_at(&host, &[("OPNSENSE_TIMEOUT", "1"), ("CAPABILITY_LEVEL", "2")]);
    // This one asks without a time of its own around the door's.
    let error = core.error(RESTART, json!({"service": "cron"}));
    core.finish();
    assert!(error.contains("no connection within 1 s"), "{error}");
}

#[test]
fn cancelling_drops_the_connection_within_100_ms_and_answers_nothing() {
    // The quickest of some tries: how busy the machine is must not decide.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let firewall = Firewall::new();
        firewall.server.fault(Rule::new("/", Fault::Hang));
        let relay = Relay::start(TcpListener::bind("127.0.0.1:0").unwrap(), firewall.server.host());
        let mut core = firewall.core_at(&relay.host, &[("OPNSENSE_TLS_FINGERPRINT", firewall.server.fingerprint())]);
        let id = core.begin(STATUS, json!({}));
        until("the firewall is asked", || firewall.asked(FIRMWARE) == 1);
        let clock = Instant::now();
        let params = json!({"requestId": id, "reason": "test"});
        core.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string());
        until("the core hangs up", || relay.left().is_some());
        quickest = quickest.min(relay.left().unwrap().saturating_duration_since(clock));
        ask(&mut core, "tools/list", json!({}));
        core.close();
        assert!(core.end().success());
        assert_eq!(core.unasked(), Vec::<Value>::new(), "something was answered");
    }
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
}
