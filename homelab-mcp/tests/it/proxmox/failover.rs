//! A cluster reached through its members: the next one where one is away, and never twice what changes something.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use lab::{
    Fault, Options, Rule, Server,
    proxmox::{Profile, Proxmox, TOKEN_ID, TOKEN_SECRET},
};
use serde_json::json;

use super::{act, assert_outcome, assert_says, hurried};
use crate::{appliances::Env, support::Core};

/// A cluster with each of its nodes at an address of its own.
struct Members {
    lab: Arc<Proxmox>,
    servers: Vec<Server>,
}

impl Members {
    fn start(profile: Profile) -> Self {
        let lab = hurried(Proxmox::new(profile));
        let member = |node: &str| Server::start(lab.member(node), Options::default()).unwrap();
        let servers = ["pve1", "pve2", "pve3"].map(member).into();
        Self { lab, servers }
    }

    fn env(&self) -> Env {
        let hosts: Vec<_> = self.servers.iter().map(Server::host).collect();
        let fingerprints: Vec<_> = self.servers.iter().map(Server::fingerprint).collect();
        Env::default()
            .and("PROXMOX_HOST", &hosts.join(","))
            .and("PROXMOX_TLS_FINGERPRINT", &fingerprints.join(","))
            .and("PROXMOX_TOKEN_ID", TOKEN_ID)
            .and("PROXMOX_TOKEN_SECRET", TOKEN_SECRET)
    }

    fn core(&self) -> Core {
        self.env().core()
    }

    /// Requests that each has seen.
    fn asked(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.seen().len()).collect()
    }

    /// Changes that each has seen.
    fn changed(&self) -> Vec<usize> {
        let count = |server: &Server| server.seen().iter().filter(|seen| seen.method != "GET").count();
        self.servers.iter().map(count).collect()
    }
}

#[test]
fn a_member_that_is_away_is_stepped_over_and_the_good_one_remembered() {
    for profile in Profile::ALL {
        let members = Members::start(profile);
        members.servers[0].pause_listener();
        let mut core = members.core();
        assert_eq!(core.ok("proxmox_list_vms", json!({}))["total"], 20);
        assert_eq!(members.asked(), [0, 1, 0]);
        members.servers[0].resume().unwrap();
        assert_outcome(&act(&mut core, "proxmox_start_vm", json!({"vmid": 105})), "changed", &["started"]);
        assert_eq!((members.asked()[0], members.asked()[2]), (0, 0), "the second was good, so it stays");
        assert_eq!(members.changed(), [0, 1, 0]);
        assert_eq!(members.servers[0].connections(), 0, "not even tried");
        // From the last one round to the first.
        members.servers[1].pause_listener();
        members.servers[2].pause_listener();
        assert_eq!(core.ok("proxmox_vm_status", json!({"vmid": 105}))["status"], "running", "{profile:?}");
        assert!(members.asked()[0] > 0);
        members.servers[0].pause_listener();
        let said = core.error("proxmox_list_vms", json!({}));
        let mut words: Vec<_> = members.servers.iter().map(Server::host).collect();
        words.push("none of ".to_owned());
        assert_says(&said, &words.iter().map(String::as_str).collect::<Vec<_>>());
        core.finish();
    }
}

#[test]
fn a_member_that_accepts_and_says_nothing_is_stepped_over() {
    let members = Members::start(Profile::V9_2);
    // Connects, and the handshake is never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = format!("{},{}", silent.local_addr().unwrap(), members.servers[1].host());
    let mut core = members.env().and("PROXMOX_HOST", &hosts).and("PROXMOX_TIMEOUT", "8").core();
    let clock = Instant::now();
    assert_eq!(core.ok("proxmox_list_vms", json!({}))["total"], 20);
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    let clock = Instant::now();
    core.ok("proxmox_list_vms", json!({}));
    assert!(clock.elapsed() < Duration::from_secs(4), "remembered: {:?}", clock.elapsed());
    core.finish();
    assert_eq!(members.asked(), [0, 2, 0]);
}

#[test]
fn a_refusal_is_an_answer_and_no_reason_to_ask_another() {
    for (fault, words) in [
        (Fault::Status(401), "does not accept the API token"),
        (Fault::Status(403), "lacks the privilege"),
        (Fault::Status(500), "internal error"),
        (Fault::Status(595), "cannot connect"),
        (Fault::HtmlError(502), "502"),
        (Fault::NotJson, "not JSON"),
    ] {
        let members = Members::start(Profile::V8_4);
        members.servers[0].fault(Rule::new("/api2/json/cluster/resources", fault));
        let mut core = members.core();
        assert_says(&core.error("proxmox_list_vms", json!({})), &[words]);
        core.finish();
        assert_eq!(members.asked(), [1, 0, 0], "{words}");
    }
}

#[test]
fn a_change_that_may_have_been_received_is_not_sent_to_another() {
    for fault in [Fault::CutAfter, Fault::CutMiddle] {
        let members = Members::start(Profile::V9_0);
        members.servers[0].fault(Rule::new("/api2/json/nodes/*/status/start", fault).method("POST"));
        let mut core = members.core();
        // What became of it is asked of whoever answers.
        assert_outcome(&act(&mut core, "proxmox_start_vm", json!({"vmid": 105})), "changed", &["started successfully"]);
        core.finish();
        assert_eq!(members.changed(), [1, 0, 0]);
        assert_eq!(members.lab.tasks().len(), 1);
    }
}

#[test]
fn a_change_goes_to_the_next_where_no_connection_was_made() {
    let members = Members::start(Profile::V7_4);
    let mut core = members.core();
    core.ok("proxmox_list_vms", json!({}));
    members.servers[0].pause_listener();
    assert_outcome(&act(&mut core, "proxmox_stop_vm", json!({"vmid": 100})), "changed", &["stopped"]);
    core.finish();
    assert_eq!(members.changed(), [0, 1, 0]);
}
