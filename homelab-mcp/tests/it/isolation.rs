//! Appliances that hang or are down hold up nobody else, and cost no more than their own time-out.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use lab::{
    Appliance, Fault, Rule,
    opnsense::{Opnsense, Profile as OpnsenseProfile, Times},
    proxmox::{Profile as ProxmoxProfile, Proxmox, TOKEN_ID, TOKEN_SECRET},
    truenas::{Profile as TruenasProfile, TrueNas},
};
use serde_json::json;

use crate::{
    appliances::{Env, Machine},
    stand_in::StandIn,
    support::Core,
};

/// What an appliance may take for one answer.
const LIMIT: Duration = Duration::from_secs(4);
/// For what has to be done besides waiting, on a busy machine.
const BESIDES: Duration = Duration::from_secs(5);
/// Calls of each backend that hangs: more than it is asked at once.
const CALLS: usize = 10;

/// How a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    Hangs,
    Down,
}

/// A backend with its variables; the first member keeps it alive.
struct Backend {
    _alive: Box<dyn Any>,
    env: Env,
    tool: &'static str,
}

fn prepared<A: Appliance>(machine: Machine<A>, health: Health, env: Env, tool: &'static str) -> Backend {
    match health {
        Health::Well => {}
        Health::Hangs => machine.server.fault(Rule::new("", Fault::Hang)),
        Health::Down => machine.server.pause_listener(),
    }
    Backend { _alive: Box::new(machine), env, tool }
}

/// Docker, OPNsense, TrueNAS and Proxmox, in this order.
fn backends(health: [Health; 4]) -> [Backend; 4] {
    let docker = if health[0] == Health::Well { StandIn::engine(|_| None) } else { StandIn::silent() };
    let host = if health[0] == Health::Down { "unix:///nothing/here.sock".to_owned() } else { docker.host() };
    let docker = Backend {
        _alive: Box::new(docker),
        env: Env::default().and("DOCKER_HOST", &host),
        tool: "docker_list_containers",
    };

    let opnsense = Opnsense::new(OpnsenseProfile::V26_7);
    opnsense.with(|firewall| firewall.times = Times::quick());
    let (key, machine) = (opnsense.root(), Machine::start(opnsense));
    let env = machine.env("OPNSENSE").and("OPNSENSE_API_KEY", &key.key).and("OPNSENSE_API_SECRET", &key.secret);
    let opnsense = prepared(machine, health[1], env, "opnsense_status");

    let machine = Machine::start(TrueNas::new(TruenasProfile::V26));
    let env = machine.env("TRUENAS").and("TRUENAS_API_KEY", &machine.lab.key("svc"));
    let truenas = prepared(machine, health[2], env, "truenas_status");

    let machine = Machine::start(Proxmox::new(ProxmoxProfile::V9_2));
    let env = machine.env("PROXMOX").and("PROXMOX_TOKEN_ID", TOKEN_ID).and("PROXMOX_TOKEN_SECRET", TOKEN_SECRET);
    let proxmox = prepared(machine, health[3], env, "proxmox_list_vms");
    [docker, opnsense, truenas, proxmox]
}

/// A core of all four.
fn core(backends: &[Backend]) -> Core {
    let mut env = Env::default();
    for prefix in ["DOCKER", "OPNSENSE", "TRUENAS", "PROXMOX"] {
        env = env.and(&format!("{prefix}_TIMEOUT"), &LIMIT.as_secs().to_string());
    }
    backends.iter().fold(env, |env, backend| env.with(backend.env.clone())).core()
}

fn hold_up_nobody(health: [Health; 4]) {
    let backends = backends(health);
    let mut core = core(&backends);
    let of = |wanted: Health| {
        backends.iter().zip(health).filter(move |(_, is)| *is == wanted).map(|(backend, _)| backend.tool)
    };
    let clock = Instant::now();
    let mut hanging = Vec::new();
    for tool in of(Health::Hangs) {
        hanging.extend((0..CALLS).map(|_| (tool, core.begin(tool, json!({})))));
    }
    // What is well answers while they hang, and so does what asks nobody.
    for tool in of(Health::Well) {
        for _ in 0..5 {
            let told = core.ok(tool, json!({}));
            assert!(told.get("problems").is_none(), "{told}");
        }
    }
    core.ok("system_info", json!({}));
    // What is down says so at once.
    for tool in of(Health::Down) {
        let told = core.error(tool, json!({}));
        assert!(told.contains("could not"), "{told}");
    }
    assert!(clock.elapsed() < LIMIT, "{health:?}: {:?}", clock.elapsed());
    for (tool, id) in hanging {
        let answer = core.answer(id)["result"].clone();
        assert_eq!(answer["isError"], true, "{tool}: {answer}");
        assert!(clock.elapsed() < LIMIT + BESIDES, "{health:?} {tool}: {:?}", clock.elapsed());
        let text = answer["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("could not") && text.contains(tool.split('_').next().unwrap()), "{text}");
    }
    // Nobody has to wait for its end either.
    core.finish();
}

/// More calls than may look at one appliance at once.
const CROWD: usize = 50;

#[test]
fn of_a_crowd_at_an_appliance_that_hangs_those_who_waited_in_vain_are_told_so() {
    let machine = Machine::start(Proxmox::new(ProxmoxProfile::V9_2));
    machine.server.fault(Rule::new("", Fault::Hang));
    let env = machine.env("PROXMOX").and("PROXMOX_TOKEN_ID", TOKEN_ID).and("PROXMOX_TOKEN_SECRET", TOKEN_SECRET);
    let mut core = env.and("PROXMOX_TIMEOUT", "2").core();
    let ids: Vec<_> = (0..CROWD).map(|_| core.begin("proxmox_status", json!({}))).collect();
    let mut waited = 0;
    for id in ids {
        let answer = core.answer(id)["result"].clone();
        assert_eq!(answer["isError"], true, "{answer}");
        waited +=
            usize::from(answer["content"][0]["text"].as_str().unwrap().contains("calls to it are unanswered already"));
    }
    assert!(waited > 0, "all of them were let through, one lot after the other");
    core.finish();
}

#[test]
fn docker_answers_while_two_appliances_hang_and_one_is_down() {
    hold_up_nobody([Health::Well, Health::Hangs, Health::Hangs, Health::Down]);
}

#[test]
fn opnsense_answers_while_two_others_hang_and_docker_is_down() {
    hold_up_nobody([Health::Down, Health::Well, Health::Hangs, Health::Hangs]);
}

#[test]
fn truenas_answers_while_docker_and_another_hang_and_one_is_down() {
    hold_up_nobody([Health::Hangs, Health::Down, Health::Well, Health::Hangs]);
}

#[test]
fn proxmox_answers_while_docker_and_another_hang_and_one_is_down() {
    hold_up_nobody([Health::Hangs, Health::Hangs, Health::Down, Health::Well]);
}
