//! Proxmox VE through the real binary: every version, all fourteen tools, and each oddity of the vendor's API.

mod backups;
mod delete;
mod failover;
mod faults;
mod lists;
mod power;
mod refusals;
mod snapshots;

use std::{sync::Arc, time::Duration};

use lab::{
    Appliance as _, Options, Reply, Request, Server,
    proxmox::{Profile, Proxmox, TOKEN_ID, TOKEN_SECRET},
};
use serde_json::{Value, json};

use crate::{
    appliances::{Always, Env, Machine},
    support::Core,
};

/// How long one of the vendor's seconds takes here.
const SECOND: Duration = Duration::from_millis(1);

/// The homelab, in a hurry: tasks end at once.
fn cluster(profile: Profile) -> Machine<Proxmox> {
    Machine::start(hurried(Proxmox::new(profile)))
}

fn hurried(lab: Arc<Proxmox>) -> Arc<Proxmox> {
    lab.set_second(SECOND);
    lab.set_task_time(Duration::ZERO);
    lab
}

/// The homelab behind something that sees each request first, and may answer it in the cluster's place.
fn with_between<F>(profile: Profile, between: F) -> Machine<Proxmox>
where
    F: Fn(&Proxmox, &Request) -> Option<Reply> + Send + Sync + 'static,
{
    let lab = hurried(Proxmox::new(profile));
    let behind = lab.clone();
    let answer = move |request: &Request| between(&behind, request).unwrap_or_else(|| behind.answer(request));
    Machine { lab, server: Arc::new(Server::start(Arc::new(Always(answer)), Options::default()).unwrap()) }
}

fn env(machine: &Machine<Proxmox>) -> Env {
    machine.env("PROXMOX").and("PROXMOX_TOKEN_ID", TOKEN_ID).and("PROXMOX_TOKEN_SECRET", TOKEN_SECRET)
}

fn core(machine: &Machine<Proxmox>) -> Core {
    env(machine).core()
}

/// What the cluster itself answers to a GET, past the network.
fn raw(lab: &Proxmox, path: &str) -> Value {
    let request = Request {
        method: "GET".to_owned(),
        target: format!("/api2/json{path}"),
        headers: vec![("Authorization".to_owned(), format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}"))],
        body: Vec::new(),
        connection: 0,
        nth: 1,
    };
    let mut answer: Value = serde_json::from_slice(&lab.answer(&request).body).unwrap();
    answer["data"].take()
}

/// Everything that was asked for besides reading: `POST /nodes/…`.
fn changes(machine: &Machine<Proxmox>) -> Vec<String> {
    let seen = machine.server.seen().into_iter().filter(|seen| seen.method != "GET");
    seen.map(|seen| format!("{} {}", seen.method, seen.target.trim_start_matches("/api2/json"))).collect()
}

/// A call of a changing tool: how it ended, with everything in it.
fn act(core: &mut Core, tool: &str, arguments: Value) -> Value {
    core.call(tool, arguments)["structuredContent"].clone()
}

/// The same with the user's consent, for what asks for it.
fn act_with_consent(core: &mut Core, tool: &str, mut arguments: Value) -> Value {
    let asked = act(core, tool, arguments.clone());
    assert_eq!(asked["outcome"], "needs_confirmation", "{asked}");
    arguments["confirm"] = asked["confirm"].clone();
    act(core, tool, arguments)
}

#[track_caller]
fn assert_outcome(content: &Value, outcome: &str, words: &[&str]) {
    assert_eq!(content["outcome"], outcome, "{content:#}");
    assert_eq!(content["success"], json!(["changed", "unchanged"].contains(&outcome)), "{content:#}");
    assert_says(message(content), words);
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
}

#[track_caller]
fn message(content: &Value) -> &str {
    content["message"].as_str().unwrap_or_else(|| panic!("no message: {content:#}"))
}

/// A share as percent with two decimals.
fn percent(part: &Value, of: f64) -> Value {
    json!((part.as_f64().unwrap() / of * 10_000.0).round() / 100.0)
}
