//! The Proxmox VE stand-in against what the vendor's running API was seen to do: statuses, where the text is,
//! shapes, tasks and the ways of a cluster.

use crate::client::{Answer, Client};
use lab::proxmox::{
    Daemon, Ending, NodeState, OnShutdown, Privileges, Profile, Proxmox, Run, TOKEN_ID, TOKEN_SECRET, Unreachable,
};
use lab::{Appliance, Fault, Options, Rule, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One of the vendor's seconds, here.
const SECOND: Duration = Duration::from_millis(10);

struct Lab {
    proxmox: Arc<Proxmox>,
    server: Server,
}

impl Lab {
    fn new(profile: Profile) -> Self {
        Self::of(Proxmox::new(profile))
    }

    fn of(proxmox: Arc<Proxmox>) -> Self {
        proxmox.set_second(SECOND);
        proxmox.set_task_time(SECOND);
        let server = serve(proxmox.clone());
        Self { proxmox, server }
    }

    fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        call(&self.server, method, path, body)
    }

    /// Starts a task and waits for its end: its exit status and its log.
    fn run(&self, method: &str, path: &str, body: &str) -> (String, Vec<String>) {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        self.wait_for(answer.json()["data"].as_str().unwrap_or_else(|| panic!("no task: {answer:?}")))
    }

    fn wait_for(&self, upid: &str) -> (String, Vec<String>) {
        let node = upid.split(':').nth(1).unwrap_or_default();
        let task = format!("/nodes/{node}/tasks/{}", upid.replace(':', "%3A"));
        let mut exit = None;
        until(|| {
            let status = self.get(&format!("{task}/status")).json();
            exit = status["data"]["exitstatus"].as_str().map(str::to_owned);
            status["data"]["status"] == "stopped"
        });
        let log = self.get(&format!("{task}/log?limit=0")).json();
        let lines = log["data"].as_array().into_iter().flatten();
        let lines = lines.map(|line| line["t"].as_str().unwrap_or_default().to_owned()).collect();
        (exit.unwrap_or_default(), lines)
    }
}

#[expect(clippy::unwrap_used, reason = "a test without a server has failed")]
fn serve(appliance: Arc<dyn Appliance>) -> Server {
    Server::start(appliance, Options::default()).unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test without an answer has failed")]
fn call(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let authorization = format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}");
    let mut headers = vec![("Authorization", &*authorization)];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/x-www-form-urlencoded"));
    }
    Client::connect(server).send(method, &format!("/api2/json{path}"), &headers, body).unwrap()
}

fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn row<'a>(rows: &'a Value, key: &str, value: impl Into<Value>) -> &'a Value {
    let value = value.into();
    rows["data"].as_array().and_then(|rows| rows.iter().find(|row| row[key] == value)).unwrap_or(&Value::Null)
}

const NO_SUCH_PROPERTY: &str = "property is not defined in schema and the schema does not allow additional properties";

/// What is refused at once: request, status, reason phrase, `errors`.
#[test]
fn refusals_have_the_vendors_status_and_text_in_the_place_of_the_version() {
    let parameters = "Parameter verification failed.";
    let table: &[(&str, &str, &str, u16, &str, Value)] = &[
        (
            "GET",
            "/nodes/pve1/qemu/9999/config",
            "",
            500,
            "Configuration file 'nodes/pve1/qemu-server/9999.conf' does not exist",
            Value::Null,
        ),
        (
            "GET",
            "/nodes/pve1/lxc/9999/status/current",
            "",
            500,
            "Configuration file 'nodes/pve1/lxc/9999.conf' does not exist",
            Value::Null,
        ),
        // On another node, or of another kind, is as good as nowhere.
        (
            "GET",
            "/nodes/pve1/qemu/109/config",
            "",
            500,
            "Configuration file 'nodes/pve1/qemu-server/109.conf' does not exist",
            Value::Null,
        ),
        (
            "GET",
            "/nodes/pve1/qemu/200/config",
            "",
            500,
            "Configuration file 'nodes/pve1/qemu-server/200.conf' does not exist",
            Value::Null,
        ),
        (
            "GET",
            "/nodes/pve1/qemu/abc/config",
            "",
            400,
            parameters,
            json!({"vmid": "type check ('integer') failed - got 'abc'"}),
        ),
        (
            "GET",
            "/nodes/pve1/qemu/99/config",
            "",
            400,
            parameters,
            json!({"vmid": "invalid format - value does not look like a valid VM ID\n"}),
        ),
        (
            "GET",
            "/cluster/resources?type=nonsense",
            "",
            400,
            parameters,
            json!({"type": "value 'nonsense' does not have a value in the enumeration 'vm, storage, node, sdn'"}),
        ),
        ("GET", "/cluster/resources?type=vm&foo=1", "", 400, parameters, json!({"foo": NO_SUCH_PROPERTY})),
        ("POST", "/nodes/pve1/qemu/100/status/start", "nope=1", 400, parameters, json!({"nope": NO_SUCH_PROPERTY})),
        (
            "POST",
            "/nodes/pve1/lxc/200/snapshot",
            "snapname=ok&vmstate=1",
            400,
            parameters,
            json!({"vmstate": NO_SUCH_PROPERTY}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/100/status/shutdown",
            "timeout=soon",
            400,
            parameters,
            json!({"timeout": "type check ('integer') failed - got 'soon'"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/100/status/shutdown?timeout=soon",
            "",
            400,
            parameters,
            json!({"timeout": "type check ('integer') failed - got 'soon'"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/100/status/shutdown",
            "forceStop=maybe",
            400,
            parameters,
            json!({"forceStop": "type check ('boolean') failed - got 'maybe'"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/100/status/start",
            "skiplock=1",
            400,
            parameters,
            json!({"skiplock": "Only root may use this option."}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/100/status/start",
            "vmid=101",
            400,
            parameters,
            json!({"vmid": "duplicate parameter (already defined in URI)"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/103/snapshot",
            "",
            400,
            parameters,
            json!({"snapname": "property is missing and it is not optional"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/103/snapshot",
            "snapname=1+bad+name",
            400,
            parameters,
            json!({"snapname": "invalid format - invalid configuration ID '1 bad name'\n"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/103/snapshot",
            "snapname=%C3%A9",
            400,
            parameters,
            json!({"snapname": "invalid format - invalid configuration ID 'é'\n"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/103/snapshot",
            "snapname=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            400,
            parameters,
            json!({"snapname": "value may only be 40 characters long"}),
        ),
        (
            "POST",
            "/nodes/pve1/qemu/103/snapshot",
            "snapname=current",
            500,
            "unable to use snapshot name 'current' (reserved name)",
            Value::Null,
        ),
        (
            "POST",
            "/nodes/pve1/qemu/9999/snapshot",
            "snapname=s1",
            500,
            "Configuration file 'nodes/pve1/qemu-server/9999.conf' does not exist",
            Value::Null,
        ),
        ("POST", "/nodes/pve1/qemu/105/status/reboot", "", 500, "VM 105 not running", Value::Null),
        ("POST", "/nodes/pve1/qemu/107/status/shutdown", "", 500, "VM is paused - cannot shutdown", Value::Null),
        ("POST", "/nodes/pve1/lxc/200/status/start", "", 500, "CT 200 already running", Value::Null),
        ("POST", "/nodes/pve2/lxc/202/status/stop", "", 500, "CT 202 not running", Value::Null),
        ("POST", "/nodes/pve2/lxc/202/status/shutdown", "", 500, "CT 202 not running", Value::Null),
        ("POST", "/nodes/pve2/lxc/202/status/reboot", "", 500, "VM 202 not running", Value::Null),
        ("DELETE", "/nodes/pve1/qemu/100", "", 500, "VM 100 is running - destroy failed", Value::Null),
        ("DELETE", "/nodes/pve1/lxc/200", "", 500, "unable to destroy CT 200 - container is running", Value::Null),
        ("DELETE", "/nodes/pve1/qemu/108", "", 500, "can't remove VM 108 - protection mode enabled", Value::Null),
        (
            "DELETE",
            "/nodes/pve3/qemu/301",
            "",
            500,
            "unable to remove VM 301 - used in HA resources and purge parameter not set.",
            Value::Null,
        ),
        (
            "DELETE",
            "/nodes/pve1/qemu/9999",
            "",
            500,
            "Configuration file 'nodes/pve1/qemu-server/9999.conf' does not exist",
            Value::Null,
        ),
        ("DELETE", "/nodes/pve1/qemu/105?bogus=1", "", 400, parameters, json!({"bogus": NO_SUCH_PROPERTY})),
        ("GET", "/nodes/pve1/storage/ghost/status", "", 400, parameters, json!({"storage": "No such storage."})),
        ("GET", "/nodes/pve1/storage/archive/content", "", 500, "storage 'archive' is not online", Value::Null),
        ("GET", "/nodes/pve1/storage/ghost/content", "", 500, "storage 'ghost' does not exist", Value::Null),
        (
            "GET",
            "/nodes/elsewhere/status",
            "",
            500,
            "hostname lookup 'elsewhere' failed - failed to get address \
            info for: elsewhere: Name or service not known",
            Value::Null,
        ),
        (
            "GET",
            "/nodes/127.0.0.1/version",
            "",
            500,
            "address lookup for '127.0.0.1' did not find any IP address",
            Value::Null,
        ),
        (
            "GET",
            "/nodes/pve1/tasks/UPID:pve1:00000001:00000001:00000001:qmstart:100:root@pam:/status",
            "",
            400,
            parameters,
            json!({"upid": "no such task"}),
        ),
        ("GET", "/cluster/nextid?vmid=100", "", 400, parameters, json!({"vmid": "VM 100 already exists"})),
    ];
    for profile in Profile::ALL {
        let lab = Lab::new(profile);
        for (method, path, body, status, reason, errors) in table {
            let answer = lab.call(method, path, body);
            assert_eq!((answer.status, &*answer.reason), (*status, *reason), "{profile:?} {method} {path}");
            assert_eq!(answer.headers("Connection"), ["close"], "{profile:?} {method} {path}");
            assert_eq!(answer.headers("Content-Type"), ["application/json;charset=UTF-8"]);
            let mut expected = json!({"data": null});
            if profile != Profile::V7_4 {
                expected["message"] = json!(format!("{reason}\n"));
            }
            if !errors.is_null() {
                expected["errors"] = errors.clone();
            }
            assert_eq!(answer.json(), expected, "{profile:?} {method} {path}");
        }
        assert!(lab.proxmox.tasks().is_empty(), "a refused request starts no task");
    }
}

#[test]
fn what_is_no_part_of_the_api_is_501_and_its_text_has_no_line_end() {
    let lab = Lab::new(Profile::V9_2);
    for (method, path) in [
        ("GET", "/nope"),
        ("GET", "/nodes/pve1/qemu/100/nope"),
        ("POST", "/version"),
        ("GET", "/nodes/pve1/qemu/100/status/start"),
        ("POST", "/nodes/pve1/lxc/200/status/reset"),
        ("GET", "/nodes/pve1/../pve1/status"),
    ] {
        let answer = lab.call(method, path, "");
        let text = format!("Method '{method} {path}' not implemented");
        assert_eq!((answer.status, &answer.reason), (501, &text));
        assert_eq!(answer.json(), json!({"data": null, "message": text}));
    }
}

/// Sent byte by byte: what never reaches a handler.
#[test]
fn http_itself_is_refused_where_the_vendor_refuses_it() {
    let lab = Lab::new(Profile::V9_2);
    let authorization = format!("Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n");
    let request = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: x\r\n{authorization}{rest}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let start = "POST /api2/json/nodes/pve1/qemu/105/status/start";
    let perl = "at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 957.";
    let table = [
        (
            request("DELETE /api2/json/nodes/pve1/qemu/105", "Content-Length: 7\r\n\r\npurge=1"),
            501,
            "Unexpected content for method 'DELETE'".to_owned(),
        ),
        (
            request("GET /api2/json/version", "Content-Length: 1\r\n\r\nx"),
            501,
            "Unexpected content for method 'GET'".to_owned(),
        ),
        (
            request(start, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            501,
            "chunked transfer encoding not supported".to_owned(),
        ),
        (
            request(start, "Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx"),
            506,
            "upload 'Content-Type 'text/plain' not implemented".to_owned(),
        ),
        (
            request(start, "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n[1,2]"),
            500,
            format!("Not a HASH reference {perl}"),
        ),
        (
            request(start, &format!("{form}Content-Length: 600000\r\n\r\n{}", "x".repeat(600_000))),
            501,
            "for data too large".to_owned(),
        ),
        (request("GET /api2/xml/version", "\r\n"), 501, "no formatter for uri /version, xml".to_owned()),
        (request("GET /nope", "\r\n"), 500, "no such file '/nope'".to_owned()),
    ];
    for (bytes, status, text) in table {
        let mut client = Client::connect(&lab.server);
        client.write(bytes.as_bytes()).unwrap();
        let answer = client.answer(true).unwrap();
        assert_eq!((answer.status, &answer.reason), (status, &text));
        assert_eq!(answer.text().trim_end(), text);
        assert_eq!((answer.headers("Content-Type").len(), answer.headers("Connection")), (0, vec!["close"]));
    }
    let mut client = Client::connect(&lab.server);
    let head = client.send("HEAD", "/api2/json/version", &[], "").unwrap();
    assert_eq!((head.status, &*head.reason), (501, "method 'HEAD' not available"));
    assert!(lab.proxmox.tasks().is_empty());
}

#[test]
fn json_bodies_and_parameters_in_the_query_of_a_post_work() {
    let lab = Lab::new(Profile::V8_4);
    lab.proxmox.change(100, |guest| guest.on_shutdown = OnShutdown::Ignores);
    let authorization = format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}");
    let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
    let path = "/api2/json/nodes/pve1/qemu/100/status/shutdown";
    let body = r#"{"timeout":1,"forceStop":true,"keepActive":null}"#;
    let answer = Client::connect(&lab.server).send("POST", path, &headers, body).unwrap().json();
    let (exit, log) = lab.wait_for(answer["data"].as_str().unwrap());
    assert_eq!(exit, "OK");
    assert_eq!(log, ["VM still running - terminating now with SIGTERM", "TASK OK"]);
}

#[test]
fn a_401_is_late_bare_and_gives_its_cause_in_the_reason_phrase_alone() {
    let table = [
        (None, "No ticket", "No ticket"),
        (Some("pveapitoken=root@pam!lab=x"), "No ticket", "No ticket"),
        (Some("PVEAPIToken=garbage"), "Authentication failed!", "Authentication failed!"),
        (Some("PVEAPIToken=root@pam!lab=wrong"), "invalid token value!", "Authentication failed!"),
        (Some("PVEAPIToken=root@pam!mcp=x"), "no such token 'mcp' for user 'root@pam'", "Authentication failed!"),
    ];
    for (profile, unified) in
        [(Profile::V7_4, false), (Profile::V8_4, true), (Profile::V9_0, false), (Profile::V9_2, true)]
    {
        let lab = Lab::new(profile);
        for (authorization, before, since) in table {
            let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", *value)).collect();
            let began = Instant::now();
            let answer = Client::connect(&lab.server).send("GET", "/api2/json/version", &headers, "").unwrap();
            assert_eq!((answer.status, &*answer.reason), (401, if unified { since } else { before }), "{profile:?}");
            assert_eq!((answer.text(), answer.headers("Content-Length").len()), ("", 0));
            assert!(began.elapsed() >= SECOND * 3);
        }
    }
    let lab = Lab::new(Profile::V9_2);
    let spaced = format!("PVEAPIToken {TOKEN_ID}={TOKEN_SECRET}");
    let headers = [("Authorization", &*spaced)];
    assert_eq!(Client::connect(&lab.server).send("GET", "/api2/json/version", &headers, "").unwrap().status, 200);
}

#[test]
fn without_privileges_lists_are_empty_and_the_rest_is_a_403_that_names_what_is_missing() {
    let lab = Lab::new(Profile::V9_2);
    let (_, _) = lab.run("POST", "/nodes/pve1/qemu/105/status/start", "");
    let upid = lab.proxmox.tasks()[0].upid.clone();
    lab.proxmox.set_token("root@pam!other", "x", Privileges::administrator());
    lab.proxmox.set_privileges(Privileges::none());
    for path in [
        "/cluster/resources?type=vm",
        "/cluster/resources?type=storage",
        "/nodes/pve1/qemu",
        "/nodes/pve1/lxc",
        "/nodes/pve1/storage",
    ] {
        assert_eq!(lab.get(path).json(), json!({"data": []}), "{path}");
    }
    assert_eq!(lab.get("/access/permissions").json(), json!({"data": {}}));
    assert_eq!(lab.get("/version").status, 200);
    let nodes = lab.get("/nodes").json();
    assert_eq!(nodes["data"].as_array().map(Vec::len), Some(3));
    assert_eq!(row(&nodes, "node", "pve1")["cpu"], Value::Null);
    // Its own task it may read, whatever it lacks.
    assert_eq!(lab.get(&format!("/nodes/pve1/tasks/{upid}/status")).status, 200);
    let foreign = upid.replace("root@pam!lab", "root@pam!other");
    let table = [
        ("GET", "/nodes/pve1/status".to_owned(), "/nodes/pve1, Sys.Audit"),
        ("GET", "/cluster/status".into(), "/, Sys.Audit"),
        ("GET", "/nodes/pve1/qemu/100/status/current".into(), "/vms/100, VM.Audit"),
        ("GET", "/nodes/pve1/qemu/9999/config".into(), "/vms/9999, VM.Audit"),
        ("POST", "/nodes/pve1/qemu/100/status/start".into(), "/vms/100, VM.PowerMgmt"),
        ("POST", "/nodes/pve1/qemu/100/snapshot".into(), "/vms/100, VM.Snapshot"),
        ("DELETE", "/nodes/pve1/qemu/100".into(), "/vms/100, VM.Allocate"),
        ("GET", "/nodes/pve1/storage/nas/content".into(), "/storage/nas, Datastore.Audit|Datastore.AllocateSpace"),
        ("GET", format!("/nodes/pve1/tasks/{foreign}/log"), "/nodes/pve1, Sys.Audit"),
        ("DELETE", format!("/nodes/pve1/tasks/{foreign}"), "/nodes/pve1, Sys.Modify"),
    ];
    for (method, path, missing) in table {
        let answer = lab.call(method, &path, "");
        assert_eq!((answer.status, answer.reason), (403, format!("Permission check failed ({missing})")), "{path}");
    }
}

#[test]
fn an_auditor_reads_everything_but_backups() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_privileges(Privileges::auditor());
    assert_eq!(lab.get("/nodes/pve1/qemu/100/config").status, 200);
    assert_eq!(lab.get("/nodes/pve1/storage/nas/content?content=backup&vmid=105").json(), json!({"data": []}));
    let space = ["Datastore.Audit", "Datastore.AllocateSpace"];
    lab.proxmox.set_privileges(Privileges::auditor().on("/storage", &space).on("/vms/105", &["VM.Backup"]));
    let rows = lab.get("/nodes/pve1/storage/nas/content?content=backup").json();
    assert_eq!(rows["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(rows["data"][0]["vmid"], 105);
    let permissions = lab.get("/access/permissions?path=/vms/105").json();
    assert_eq!(permissions, json!({"data": {"/vms/105": {"VM.Backup": 1}}}));
}

#[test]
fn the_privileges_of_a_pool_hold_for_its_guests() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_privileges(Privileges::none().on("/pool/prod", &["VM.Audit"]));
    let rows = lab.get("/cluster/resources?type=vm").json();
    assert_eq!(rows["data"].as_array().map(|rows| rows.len()), Some(1));
    assert_eq!((&rows["data"][0]["vmid"], &rows["data"][0]["pool"]), (&json!(100), &json!("prod")));
}

/// What a request accepts and its task then does, or refuses.
#[test]
fn tasks_end_as_the_vendors_do() {
    let table: &[(&str, &str, &str, &str)] = &[
        ("POST", "/nodes/pve1/qemu/100/status/start", "", "VM 100 already running"),
        ("POST", "/nodes/pve1/qemu/101/status/start", "", "VM is locked (backup)"),
        ("POST", "/nodes/pve1/qemu/9000/status/start", "", "you can't start a vm if it's a template"),
        ("POST", "/nodes/pve1/lxc/201/status/start", "", "you can't start a CT if it's a template"),
        ("POST", "/nodes/pve1/qemu/104/status/start", "", "storage 'ghost' does not exist"),
        (
            "POST",
            "/nodes/pve1/qemu/9999/status/start",
            "",
            "Configuration file 'nodes/pve1/qemu-server/9999.conf' does not exist",
        ),
        ("POST", "/nodes/pve1/lxc/100/status/start", "", "Configuration file 'nodes/pve1/lxc/100.conf' does not exist"),
        ("POST", "/nodes/pve1/qemu/101/status/stop", "", "OK"),
        ("POST", "/nodes/pve1/qemu/105/status/shutdown", "", "OK"),
        ("POST", "/nodes/pve1/qemu/106/status/start", "", "WARNINGS: 1"),
        ("POST", "/nodes/pve1/qemu/107/status/shutdown", "forceStop=1", "OK"),
        ("POST", "/nodes/pve2/qemu/111/status/shutdown", "timeout=1", "VM quit/powerdown failed - got timeout"),
        ("POST", "/nodes/pve1/qemu/103/snapshot", "snapname=base", "snapshot name 'base' already used"),
        ("POST", "/nodes/pve2/qemu/110/snapshot", "snapname=s1", "snapshot feature is not available"),
        ("POST", "/nodes/pve2/lxc/203/snapshot", "snapname=s1", "snapshot feature is not available"),
        ("POST", "/nodes/pve1/qemu/101/snapshot", "snapname=s1", "VM is locked (backup)"),
        ("POST", "/nodes/pve1/qemu/104/snapshot", "snapname=s1", "storage 'ghost' does not exist"),
        ("POST", "/nodes/pve1/qemu/102/snapshot", "snapname=no-disks", "OK"),
        ("POST", "/nodes/pve1/lxc/200/snapshot", "snapname=s1&description=x", "OK"),
        ("DELETE", "/nodes/pve1/qemu/101", "", "VM is locked (backup)"),
        ("DELETE", "/nodes/pve1/qemu/104?purge=1&destroy-unreferenced-disks=0", "", "OK"),
    ];
    let lab = Lab::new(Profile::V8_4);
    for (method, path, body, expected) in table {
        let (exit, log) = lab.run(method, path, body);
        assert_eq!(exit, *expected, "{method} {path}");
        let last = match *expected {
            "OK" => "TASK OK".to_owned(),
            "WARNINGS: 1" => "TASK WARNINGS: 1".to_owned(),
            error => format!("TASK ERROR: {error}"),
        };
        assert_eq!(log.last(), Some(&last), "{method} {path}");
    }
    assert_eq!(lab.proxmox.guest(104).map(|guest| guest.vmid), None);
    let run = |vmid: u32| lab.proxmox.guest(vmid).map(|guest| guest.is_running());
    assert_eq!((run(106), run(107), run(111)), (Some(true), Some(false), Some(true)));
    let tasks = lab.get("/nodes/pve1/tasks?statusfilter=warning").json();
    assert_eq!((&tasks["total"], &tasks["data"][0]["status"]), (&json!(1), &json!("WARNINGS: 1")));
    assert_eq!(lab.get("/nodes/pve1/tasks?limit=1").json()["data"][0]["type"], "qmdestroy");
}

#[test]
fn a_task_runs_and_then_the_guest_does() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_task_time(Duration::from_secs(3600));
    let upid = lab.call("POST", "/nodes/pve1/qemu/105/status/start", "").json()["data"].clone();
    let upid = upid.as_str().unwrap();
    assert!(upid.starts_with("UPID:pve1:") && upid.ends_with(":qmstart:105:root@pam!lab:"), "{upid}");
    let status = lab.get(&format!("/nodes/pve1/tasks/{upid}/status")).json()["data"].clone();
    assert_eq!((&status["status"], &status["exitstatus"]), (&json!("running"), &Value::Null));
    assert_eq!(
        (&status["user"], &status["tokenid"], &status["id"]),
        (&json!("root@pam"), &json!("lab"), &json!("105"))
    );
    let log = lab.get(&format!("/nodes/pve1/tasks/{upid}/log")).json();
    assert_eq!(log, json!({"data": [{"n": 1, "t": "no content"}], "total": 1}));
    let active = lab.get("/nodes/pve1/tasks?source=active").json()["data"][0].clone();
    assert_eq!((&active["status"], &active["user"]), (&json!("RUNNING"), &json!("root@pam!lab")));
    assert_eq!(active.get("tokenid"), None);
    let of_cluster = lab.get("/cluster/tasks").json()["data"][0].clone();
    assert_eq!((&of_cluster["status"], &of_cluster["user"]), (&Value::Null, &json!("root@pam")));
    assert_eq!(lab.get("/nodes/pve1/qemu/105/status/current").json()["data"]["status"], "stopped");
    assert_eq!(lab.call("DELETE", &format!("/nodes/pve1/tasks/{upid}"), "").json(), json!({"data": null}));
    assert_eq!(lab.wait_for(upid).0, "received interrupt");
    lab.proxmox.set_task_time(SECOND);
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/105/status/start", "").0, "OK");
    assert_eq!(lab.get("/nodes/pve1/qemu/105/status/current").json()["data"]["qmpstatus"], "running");
}

#[test]
fn the_log_of_an_unknown_task_is_an_object_and_pages_are_cut() {
    let lab = Lab::new(Profile::V8_4);
    let unknown = "UPID:pve1:00000001:00000001:00000001:qmstart:100:root@pam:";
    let log = lab.get(&format!("/nodes/pve1/tasks/{unknown}/log")).json();
    assert_eq!(log, json!({"data": {"n": 1, "t": "unable to open file - No such file or directory"}, "total": 1}));
    lab.proxmox.next_task(Ending::Warnings((1..=60).map(|n| format!("warning {n}")).collect()));
    let (exit, lines) = lab.run("POST", "/nodes/pve1/qemu/105/status/start", "");
    assert_eq!((&*exit, lines.len()), ("WARNINGS: 60", 61));
    let upid = lab.proxmox.tasks()[0].upid.clone();
    let page = |query: &str| lab.get(&format!("/nodes/pve1/tasks/{upid}/log{query}")).json();
    assert_eq!(page("")["data"].as_array().map(Vec::len), Some(50));
    assert_eq!(page("")["total"], 61);
    assert_eq!(page("?start=60&limit=10")["data"], json!([{"n": 61, "t": "TASK WARNINGS: 60"}]));
    assert_eq!(page("?start=99")["data"], json!([]));
}

#[test]
fn endings_can_be_asked_for() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.fail_next_task("start failed: QEMU exited with code 1");
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/105/status/start", "").0, "start failed: QEMU exited with code 1");
    for done in [false, true] {
        let status = "unexpected status".to_owned();
        lab.proxmox.next_task(Ending::Unclear { status, done });
        let (exit, log) = lab.run("POST", "/nodes/pve1/qemu/105/status/start", "");
        assert_eq!((&*exit, log), ("unexpected status", vec!["no content".to_owned()]));
        assert_eq!(lab.proxmox.guest(105).map(|guest| guest.is_running()), Some(done));
    }
}

#[test]
fn a_task_waits_for_the_lock_file_and_gives_up() {
    let lab = Lab::new(Profile::V8_4);
    let timeout = "can't lock file '/var/lock/qemu-server/lock-111.conf' - got timeout";
    let shutdown = lab.call("POST", "/nodes/pve2/qemu/111/status/shutdown", "timeout=3600").json();
    let (exit, log) = lab.run("POST", "/nodes/pve2/qemu/111/status/start", "");
    assert_eq!((&*exit, log), (timeout, vec!["trying to acquire lock...".into(), format!("TASK ERROR: {timeout}")]));
    let (exit, log) = lab.run("POST", "/nodes/pve2/qemu/111/status/stop", "overrule-shutdown=1");
    let shutdown = shutdown["data"].as_str().unwrap();
    assert_eq!((&*exit, &log[0]), ("OK", &format!("overruled qmshutdown tasks: {shutdown}")));
    assert_eq!(lab.wait_for(shutdown).0, "received interrupt");
    lab.proxmox.set_second(Duration::from_secs(1));
    lab.proxmox.hold_lock_file(105, Duration::from_secs(3600));
    let upid = lab.call("POST", "/nodes/pve1/qemu/105/status/start", "").json()["data"].clone();
    let upid = upid.as_str().unwrap();
    let log = lab.get(&format!("/nodes/pve1/tasks/{upid}/log")).json();
    assert_eq!(log["data"], json!([{"n": 1, "t": "trying to acquire lock..."}]));
    lab.proxmox.release_lock_file(105);
    assert_eq!(lab.wait_for(upid).0, "OK");
}

#[test]
fn a_snapshot_locks_the_guest_is_listed_and_can_go() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_task_time(Duration::from_secs(3600));
    lab.call("POST", "/nodes/pve1/qemu/105/snapshot", "snapname=long");
    assert_eq!(lab.get("/nodes/pve1/qemu/105/config").json()["data"]["lock"], "snapshot");
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/105/status/start", "").0, "VM is locked (snapshot)");
    lab.proxmox.set_task_time(SECOND);
    let (exit, log) = lab.run("POST", "/nodes/pve1/qemu/103/snapshot", "snapname=now&description=l1%0Al2");
    assert_eq!(exit, "OK");
    assert_eq!(log, ["snapshotting 'drive-scsi0' (vmstore:103/vm-103-disk-0.qcow2)", "TASK OK"]);
    let list = lab.get("/nodes/pve1/qemu/103/snapshot").json();
    let names: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["base", "before-upgrade", "now", "current"]);
    assert_eq!(list["data"][2]["description"], "l1\nl2");
    assert_eq!((&list["data"][3]["parent"], &list["data"][3]["running"]), (&json!("now"), &json!(1)));
    assert_eq!(lab.run("DELETE", "/nodes/pve1/qemu/103/snapshot/before-upgrade", "").0, "OK");
    assert_eq!(lab.get("/nodes/pve1/qemu/103/snapshot").json()["data"][1]["parent"], "base");
    let missing = "snapshot 'nope' does not exist";
    assert_eq!(lab.run("DELETE", "/nodes/pve1/qemu/103/snapshot/nope", "").0, missing);
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/103/snapshot/base/rollback", "").0, "OK");
    assert_eq!(lab.proxmox.guest(103).map(|guest| guest.run), Some(Run::Stopped));
}

#[test]
fn a_reboot_leaves_a_second_task_of_roots_own() {
    let lab = Lab::new(Profile::V9_2);
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/100/status/reboot", "").0, "OK");
    let tasks: Vec<_> = lab.proxmox.tasks().into_iter().map(|task| (task.kind, task.user)).collect();
    let expected = [("qmreboot", "root@pam!lab"), ("qmstart", "root@pam")];
    assert_eq!(tasks, expected.map(|(kind, user)| (kind.to_owned(), user.to_owned())));
}

#[test]
fn under_ha_a_task_says_ok_and_the_guest_follows_later_or_never() {
    let lab = Lab::new(Profile::V8_4);
    for (node, vmid) in [("pve2", 109), ("pve3", 301)] {
        lab.proxmox.change(vmid, |guest| guest.run = Run::Stopped);
        let (exit, log) = lab.run("POST", &format!("/nodes/{node}/qemu/{vmid}/status/start"), "");
        assert_eq!((&*exit, &*log[0]), ("OK", &*format!("Requesting HA start for VM {vmid}")));
    }
    assert!(lab.proxmox.tasks().iter().any(|task| task.kind == "hastart" && task.user == TOKEN_ID));
    let current = lab.get("/nodes/pve3/qemu/301/status/current").json()["data"].clone();
    assert_eq!((&current["status"], &current["ha"]["managed"]), (&json!("stopped"), &json!(1)));
    assert_eq!((&current["ha"]["state"], &current["ha"]["group"]), (&json!("started"), &json!("prod")));
    until(|| lab.proxmox.guest(109).is_some_and(|guest| guest.is_running()));
    assert!(lab.proxmox.tasks().iter().any(|task| task.kind == "qmstart" && task.user == "root@pam"));
    assert_eq!(lab.proxmox.guest(301).map(|guest| guest.is_running()), Some(false));
    assert_eq!(lab.run("POST", "/nodes/pve2/qemu/109/status/shutdown", "").1[0], "Requesting HA stop for VM 109");
    let status = lab.get("/cluster/ha/status/current").json();
    assert_eq!(row(&status, "sid", "vm:109")["request_state"], "stopped");
    assert_eq!(lab.run("DELETE", "/nodes/pve3/qemu/301?purge=1", "").0, "OK");
}

#[test]
fn without_quorum_nothing_starts_and_a_stop_still_works() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_quorum(false);
    for path in ["/nodes/pve1/qemu/105/status/start", "/nodes/pve2/lxc/202/status/start"] {
        let answer = lab.call("POST", path, "");
        assert_eq!((answer.status, &*answer.reason), (500, "cluster not ready - no quorum?"));
    }
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/100/status/stop", "").0, "OK");
    let denied = lab.run("POST", "/nodes/pve1/qemu/103/snapshot", "snapname=s1").0;
    assert!(denied.starts_with("unable to open file '/etc/pve/nodes/pve1/qemu-server/103.conf.tmp."), "{denied}");
    assert!(denied.ends_with("' - Permission denied"), "{denied}");
    assert_eq!(row(&lab.get("/cluster/status").json(), "type", "cluster")["quorate"], 0);
    let status = lab.get("/cluster/ha/status/current").json();
    assert_eq!(row(&status, "type", "quorum")["status"], "No quorum on node 'pve1'!");
}

#[test]
fn a_node_that_is_down_is_595_and_its_guests_are_unknown() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_node("pve3", NodeState::Offline(Unreachable::NoRoute));
    let began = Instant::now();
    let answer = lab.get("/nodes/pve3/qemu/300/status/current");
    assert_eq!((answer.status, &*answer.reason, answer.text()), (595, "No route to host", ""));
    assert_eq!(answer.headers("Content-Length"), [""; 0]);
    assert!(began.elapsed() >= SECOND * 3);
    lab.proxmox.set_node("pve3", NodeState::Offline(Unreachable::ConnectionRefused));
    assert_eq!(lab.call("POST", "/nodes/pve3/qemu/300/status/start", "").reason, "Connection refused");
    let resources = lab.get("/cluster/resources").json();
    let unknown = json!({"id": "qemu/300", "vmid": 300, "node": "pve3", "type": "qemu", "status": "unknown"});
    assert_eq!(*row(&resources, "id", "qemu/300"), unknown);
    let offline = json!({"id": "node/pve3", "node": "pve3", "type": "node", "status": "offline"});
    assert_eq!(*row(&resources, "id", "node/pve3"), offline);
    assert_eq!(row(&resources, "id", "storage/pve3/local")["status"], "unknown");
    assert_eq!(row(&lab.get("/cluster/status").json(), "name", "pve3")["online"], 0);
    lab.proxmox.set_node("pve3", NodeState::Booting);
    assert_eq!(row(&lab.get("/nodes").json(), "node", "pve3")["status"], "unknown");
    assert_eq!(lab.get("/nodes/pve3/qemu/300/status/current").status, 200);
}

#[test]
fn a_daemon_that_hangs_is_596_and_the_start_happens_all_the_same() {
    let lab = Lab::new(Profile::V8_4);
    lab.proxmox.set_daemon(Daemon::Hung);
    let began = Instant::now();
    let answer = lab.call("POST", "/nodes/pve1/qemu/105/status/start", "");
    assert_eq!((answer.status, &*answer.reason, answer.text()), (596, "Connection timed out", ""));
    assert!(began.elapsed() >= SECOND * 30);
    assert_eq!(lab.get("/cluster/resources").status, 200);
    until(|| lab.proxmox.guest(105).is_some_and(|guest| guest.is_running()));
    lab.proxmox.set_daemon(Daemon::Down);
    for (method, path, status) in [
        ("GET", "/nodes/pve1/qemu/105/status/current", 595),
        ("POST", "/nodes/pve1/qemu/105/status/stop", 595),
        ("GET", "/nodes/pve1/qemu/105/config", 200),
        ("GET", "/cluster/resources", 200),
    ] {
        assert_eq!(lab.call(method, path, "").status, status, "{method} {path}");
    }
}

#[test]
fn answers_that_another_process_gave_carry_two_connection_headers() {
    let lab = Lab::new(Profile::V9_2);
    for (path, connection) in [
        ("/version", vec!["Keep-Alive"]),
        ("/cluster/resources", vec!["Keep-Alive"]),
        ("/nodes/pve1/qemu/100/config", vec!["Keep-Alive"]),
        ("/nodes/localhost/status", vec!["Keep-Alive"]),
        ("/nodes/pve1/qemu/100/status/current", vec!["close", "Keep-Alive"]),
        ("/nodes/pve1/storage", vec!["close", "Keep-Alive"]),
        ("/nodes/pve2/status", vec!["close", "Keep-Alive"]),
    ] {
        assert_eq!(lab.get(path).headers("Connection"), connection, "{path}");
    }
}

#[test]
fn an_idle_connection_is_cut_and_the_hundredth_answer_is_the_last() {
    let lab = Lab::new(Profile::V9_2);
    let authorization = format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}");
    let headers = [("Authorization", &*authorization)];
    let mut client = Client::connect(&lab.server);
    for nth in 1..=100 {
        let answer = client.send("GET", "/api2/json/version", &headers, "").unwrap();
        assert_eq!(answer.headers("Connection"), [if nth < 100 { "Keep-Alive" } else { "close" }]);
    }
    assert!(client.send("GET", "/api2/json/version", &headers, "").is_err());
    lab.proxmox.set_idle(Duration::from_millis(500));
    let mut client = Client::connect(&lab.server);
    client.send("GET", "/api2/json/version", &headers, "").unwrap();
    assert_eq!(client.rest(), b"");
    // A head of more than 8 KiB: silence, then the end.
    let mut client = Client::connect(&lab.server);
    let long = "x".repeat(9000);
    assert!(client.send("GET", "/api2/json/version", &[("X-Long", &*long)], "").is_err());
}

#[test]
fn paths_are_decoded_before_they_are_routed() {
    let lab = Lab::new(Profile::V9_2);
    let plain = lab.get("/nodes/pve1/qemu").json();
    assert_eq!(lab.get("/nodes/pve1%2fqemu").json(), plain);
    assert_eq!(lab.get("//nodes//pve1/qemu/").json(), plain);
    assert_eq!(lab.get("/nodes/pve1/qemu/100%20/config").status, 501);
}

#[test]
fn members_share_one_state_and_each_says_which_is_local() {
    let lab = Lab::new(Profile::V9_2);
    let second = serve(lab.proxmox.member("pve2"));
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/105/status/start", "").0, "OK");
    let seen = call(&second, "GET", "/nodes/pve1/qemu/105/status/current", "");
    assert_eq!(seen.json()["data"]["status"], "running");
    assert_eq!(row(&call(&second, "GET", "/cluster/status", "").json(), "name", "pve2")["local"], 1);
    assert_eq!(call(&second, "GET", "/nodes/pve2/status", "").headers("Connection"), ["Keep-Alive"]);
    lab.server.pause_listener();
    assert_eq!(call(&second, "GET", "/cluster/resources", "").status, 200);
}

#[test]
fn types_and_keys_are_those_of_the_version() {
    let current = |lab: &Lab, path: &str| lab.get(path).json()["data"].clone();
    for profile in Profile::ALL {
        let lab = Lab::new(profile);
        let version = current(&lab, "/version");
        assert_eq!((&version["release"], &version["version"]), (&json!(profile.release()), &json!(profile.version())));
        let vm = current(&lab, "/nodes/pve1/qemu/100/status/current");
        let old = profile == Profile::V7_4;
        assert_eq!(vm["cpus"], if old { json!("4") } else { json!(4) });
        assert_eq!(vm["pid"].is_string(), old);
        assert_eq!(vm.get("clipboard").is_some(), !old);
        assert_eq!(vm.get("memhost").is_some(), profile >= Profile::V9_0);
        assert_eq!(vm.get("template"), None);
        assert_eq!(vm["cpu"], json!(0), "an idle guest is a whole 0");
        assert!(current(&lab, "/nodes/pve1/qemu/103/status/current")["cpu"].is_f64());
        let containers = lab.get("/nodes/pve1/lxc").json();
        assert_eq!(row(&containers, "name", "dns")["vmid"].is_string(), old);
        let config = current(&lab, "/nodes/pve1/qemu/105/config?current=1");
        assert_eq!(config["memory"], if old { json!(4096) } else { json!("4096") });
        assert_eq!(current(&lab, "/nodes/pve1/qemu/105/config")["memory"], "6144", "pending values are merged in");
        assert_eq!(current(&lab, "/nodes/pve1/lxc/200/config")["memory"], 512);
        let permissions = current(&lab, "/access/permissions");
        assert_eq!(permissions["/vms"].get("VM.Monitor").is_some(), profile < Profile::V9_0);
        let status = current(&lab, "/nodes/pve1/status");
        assert!(status["loadavg"][0].is_string());
        assert_eq!(status["memory"].get("available").is_some(), profile >= Profile::V9_0);
        let resources = lab.get("/cluster/resources").json();
        assert_eq!(row(&resources, "id", "qemu/107")["status"], "paused");
        assert_eq!(row(&resources, "id", "qemu/102")["name"], "VM 102");
        assert_eq!(row(&resources, "type", "network").is_null(), profile < Profile::V9_0);
        assert_eq!(*row(&resources, "storage", "old"), Value::Null, "disabled ones are left out");
        let paused = current(&lab, "/nodes/pve1/qemu/107/status/current");
        assert_eq!((&paused["status"], &paused["qmpstatus"]), (&json!("running"), &json!("paused")));
        assert_eq!(current(&lab, "/cluster/nextid"), "112");
    }
}

#[test]
fn storages_say_what_they_cannot_know_with_zeros() {
    let lab = Lab::new(Profile::V9_2);
    let list = lab.get("/nodes/pve1/storage").json();
    let inactive = row(&list, "storage", "archive");
    assert_eq!((&inactive["active"], &inactive["enabled"], &inactive["total"]), (&json!(0), &json!(1), &json!(0)));
    assert_eq!(inactive.get("used_fraction"), None);
    assert_eq!(row(&list, "storage", "old")["enabled"], 0);
    let enabled = lab.get("/nodes/pve1/storage?enabled=1&content=images").json();
    let names: Vec<&Value> = enabled["data"].as_array().unwrap().iter().map(|row| &row["storage"]).collect();
    assert_eq!(names, ["local-zfs", "vmstore"]);
}

#[test]
fn backups_are_listed_by_storage_and_guest() {
    let lab = Lab::new(Profile::V9_2);
    let content = |path: &str| lab.get(path).json()["data"].as_array().cloned().unwrap_or_default();
    let nas = content("/nodes/pve2/storage/nas/content?content=backup");
    assert_eq!(nas.len(), 5);
    assert!(nas[0]["volid"].as_str().unwrap().starts_with("nas:backup/vzdump-qemu-100-2"), "{}", nas[0]);
    assert_eq!((&nas[0]["notes"], &nas[0]["format"]), (&json!("web"), &json!("vma.zst")));
    let pbs = content("/nodes/pve1/storage/pbs/content?content=backup&vmid=105");
    assert_eq!(pbs.len(), 2);
    assert!(pbs[0]["volid"].as_str().unwrap().starts_with("pbs:backup/vm/105/2"), "{}", pbs[0]);
    assert_eq!((&pbs[0]["verification"]["state"], &pbs[1]["verification"]["state"]), (&json!("ok"), &json!("failed")));
    assert_eq!((&pbs[0]["format"], &pbs[0]["vmid"]), (&json!("pbs-vm"), &json!(105)));
    assert!(pbs[1]["encrypted"].is_string());
    // What is not shared is only where it is.
    assert_eq!(content("/nodes/pve1/storage/local/content?content=backup").len(), 0);
    assert_eq!(content("/nodes/pve2/storage/local/content?content=backup").len(), 1);
}

#[test]
fn resources_lag_when_asked_to() {
    let lab = Lab::new(Profile::V9_2);
    lab.proxmox.set_resources_lag(Duration::from_secs(3600));
    let published = || row(&lab.get("/cluster/resources?type=vm").json(), "vmid", 105)["status"].clone();
    assert_eq!(published(), "stopped");
    assert_eq!(lab.run("POST", "/nodes/pve1/qemu/105/status/start", "").0, "OK");
    assert_eq!(lab.get("/nodes/pve1/qemu/105/status/current").json()["data"]["status"], "running");
    assert_eq!(published(), "stopped");
    lab.proxmox.set_resources_lag(Duration::from_millis(20));
    until(|| published() == "running");
}

#[test]
fn a_standalone_host_has_no_cluster_row_and_a_big_cluster_has_200_guests() {
    let lab = Lab::of(Proxmox::standalone(Profile::V8_4));
    let status = lab.get("/cluster/status").json();
    assert_eq!(status["data"].as_array().map(Vec::len), Some(1));
    assert_eq!((&status["data"][0]["type"], &status["data"][0]["nodeid"]), (&json!("node"), &json!(0)));
    assert_eq!(lab.run("POST", "/nodes/pve/qemu/105/status/start", "").0, "OK");
    let lab = Lab::of(Proxmox::big(Profile::V9_2));
    let rows = lab.get("/cluster/resources?type=vm").json();
    assert_eq!(rows["data"].as_array().map(Vec::len), Some(200));
}

#[test]
fn faults_of_a_status_look_like_the_vendors() {
    let lab = Lab::new(Profile::V8_4);
    for (status, reason, bare) in [
        (401, "Authentication failed!", true),
        (403, "Permission check failed (/, Sys.Audit)", false),
        (500, "internal error", false),
        (595, "Connection refused", true),
        (596, "Connection timed out", true),
        (599, "Unexpected end-of-file", true),
    ] {
        lab.server.fault(Rule::new("/api2/json/version", Fault::Status(status)).times(1));
        let answer = lab.get("/version");
        assert_eq!((answer.status, &*answer.reason, answer.body.is_empty()), (status, reason, bare));
    }
}
