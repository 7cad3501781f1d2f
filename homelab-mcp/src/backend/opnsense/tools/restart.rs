//! `opnsense_service_restart`. The firewall answers "ok" to any name at all, so the service must be in its list before, and
//! what became of it is read from the list afterwards.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;
use tokio::time::{Instant, sleep};

use crate::{
    Core,
    backend::opnsense::{
        Opnsense, client,
        client::{Restarted, ServiceId},
        model::{Service, word},
        place,
    },
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    reply,
    target::Target,
    tool::{About, Call, Change, Done, Effect, Outcome, Resolved, Tool, Toolset},
};

pub(crate) const NAME: &str = "opnsense_service_restart";

/// How long a service may take until it runs.
const SETTLE: Duration = Duration::from_secs(30);
/// It must still run after this long.
const STAYS: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Names in an error.
const NAMED: usize = 12;

pub(crate) struct Restart;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    /// Id or name, as in opnsense_status.
    service: String,
}

/// A change's result beside the envelope.
#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct Out {
    /// Its id.
    service: String,
    /// Read back: running, stopped, unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_before: Option<&'static str>,
    /// Others that run or stand still since: `id: before -> after`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others_changed: Vec<String>,
}

/// What is known when it begins.
pub(crate) struct Plan {
    id: ServiceId,
    service: Service,
    /// Ids of what restarts along with it.
    siblings: Vec<String>,
    /// Everything as it was.
    before: Vec<Service>,
}

impl Tool for Restart {
    const ABOUT: About = About {
        name: NAME,
        title: "Restart an OPNsense service",
        text: "Restart one OPNsense service (a stopped one starts) and watch that it runs. A name with several \
               instances needs the id. configd, webgui and locked ones are refused.",
        level: Level::Operate,
        toolset: Toolset::Opnsense,
        worst: Effect::Change,
        idempotent: false,
        open_world: false,
        // The question before it quotes the service's description, which somebody wrote.
        untrusted: &["message"],
    };
    type Args = Args;
    type Out = Out;

    fn subject(args: &Args) -> Option<String> {
        Some(args.service.clone())
    }
}

fn failed(core: &Core, service: &str) -> impl Fn(Fault) -> ToolError {
    let (action, place) = (format!("restart service `{service}`"), place(core));
    move |fault| fault.doing(action.clone(), place.clone())
}

impl Change for Restart {
    type Plan = Plan;

    fn known(args: &Args) -> Out {
        Out { service: args.service.clone(), ..Out::default() }
    }

    async fn resolve(core: &Core, _call: &Call, args: &Args) -> Result<Resolved<Plan>, ToolError> {
        let asked = args.service.trim();
        // Also bounds what an error quotes.
        if let Err(problem) = asked.parse::<ServiceId>() {
            return Err(ToolError::invalid("restart a service", problem));
        }
        let failed = failed(core, asked);
        let before = client(core).map_err(&failed)?.services().await.map_err(&failed)?;
        let service = find(&before, asked).and_then(restartable).map_err(&failed)?.clone();
        let id: ServiceId = service.id.parse().map_err(|problem: String| failed(Fault::new(Kind::Invalid, problem)))?;
        let siblings = siblings(&before, &service);
        let described = if service.description.is_empty() {
            String::new()
        } else {
            format!(", \"{}\"", service.description.chars().take(60).collect::<String>())
        };
        let along = if siblings.is_empty() { String::new() } else { format!(" {}", along(&siblings)) };
        let target = |service: &Service| {
            Target::new("opnsense", &service.id, &service.id).alias("opnsense", &service.name).state(service.status())
        };
        let others = before.iter().filter(|other| siblings.contains(&other.id)).map(target);
        Ok(Resolved {
            targets: std::iter::once(target(&service)).chain(others).collect(),
            effect: Effect::Change,
            summary: format!("Restart service {} ({}{described}).{along}", service.id, service.status()),
            detail: None,
            unchanged: None,
            plan: Plan { id, service, siblings, before },
        })
    }

    async fn act(core: Arc<Core>, running: Running, proof: Proof, plan: Plan, _: Args) -> Result<Done<Out>, ToolError> {
        let failed = failed(&core, &plan.service.id);
        let client = client(&core).map_err(&failed)?;
        running.say(format!("restarting {}", plan.service.id));
        let restarted = client.restart(proof.change(), &plan.id).await.map_err(&failed)?;
        running.say(format!("looking whether {} runs", plan.service.id));
        let seen = match watch(client, &plan.service.id).await {
            Ok(seen) => seen,
            Err(fault) => {
                let fault = match restarted {
                    Restarted::Answered => fault.read_back(),
                    Restarted::Unsure(unsure) => Fault { kind: Kind::TimedOut, hint: None, ..unsure },
                };
                return Err(failed(fault.hint(LOOK)));
            }
        };
        Ok(told(&plan, &restarted, &seen))
    }
}

const LOOK: &str = "It may have happened: call opnsense_status to see whether the service runs.";

/// By its exact id; else by a name that only one has.
fn find<'a>(services: &'a [Service], asked: &str) -> Result<&'a Service, Fault> {
    if let Some(service) = services.iter().find(|service| service.id == asked) {
        return Ok(service);
    }
    let named: Vec<_> = services.iter().filter(|service| service.name == asked).collect();
    match named.as_slice() {
        [one] => Ok(one),
        [] => Err(Fault::new(Kind::NotFound, "there is no such service").hint(near(services, asked))),
        several => {
            let ids = several.iter().map(|service| service.id.as_str());
            Err(Fault::new(Kind::Invalid, format!("{} services have that name", several.len()))
                .hint(format!("Give one of these ids: {}.", some(ids))))
        }
    }
}

/// Services that may have been meant; the names that there are, when none looks like it.
fn near(services: &[Service], asked: &str) -> String {
    let mut names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
    names.dedup();
    let ids = services.iter().map(|service| service.id.as_str()).filter(|id| !names.contains(id));
    reply::did_you_mean(asked, names.iter().copied().chain(ids))
        .unwrap_or_else(|| format!("Services are {}.", some(names.into_iter())))
}

/// The first of them, and how many more.
fn some<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let shown: Vec<_> = names.by_ref().take(NAMED).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more (opnsense_status lists them)", shown.join(", ")),
    }
}

/// Refuses what must not be restarted from here, with the reason.
fn restartable(service: &Service) -> Result<&Service, Fault> {
    let refused = |why: &str, hint: &str| Err(Fault::new(Kind::Conflict, format!("refused: {why}")).hint(hint));
    let console = "Restart it on the firewall's console.";
    match service.name.as_str() {
        "configd" => refused(
            "the firewall does everything through configd, this restart too, and the API would be cut off",
            console,
        ),
        "webgui" => refused("webgui serves the API that this server talks to, and would cut it off", console),
        "login" | "pf" | "routing" | "sysctl" if service.locked => refused(
            "it is no daemon but stands for a part of the firewall's configuration, which is applied when that is saved",
            "Apply that part on the firewall itself.",
        ),
        _ if service.locked && !service.is_wireguard() => {
            refused("the firewall has it locked: it belongs to another service or to the system", "Restart that one.")
        }
        _ => Ok(service),
    }
}

/// What restarts along: Kea has one script for all its daemons, and an id without an instance stands for all of its name.
fn siblings(services: &[Service], service: &Service) -> Vec<String> {
    let kea = |service: &Service| service.name.starts_with("kea-");
    let along = |other: &&Service| {
        other.id != service.id
            && (kea(other) && kea(service) || service.id == service.name && other.name == service.name)
    };
    services.iter().filter(along).map(|other| other.id.clone()).collect()
}

fn along(siblings: &[String]) -> String {
    format!("With it restarts {}.", siblings.join(", "))
}

/// Looks until it runs and goes on running, or the time is over: everything as it was seen last. An error when no look
/// succeeded.
async fn watch(client: &Opnsense, id: &str) -> Result<Vec<Service>, Fault> {
    let end = Instant::now() + SETTLE;
    let (mut seen, mut trouble) = (None, None);
    let mut runs_since = None;
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
        match client.services_within(left.min(client.timeout())).await {
            Ok(services) => {
                let runs = services.iter().any(|service| service.id == id && service.running == Some(true));
                seen = Some(services);
                let since = *runs_since.get_or_insert_with(Instant::now);
                if !runs {
                    runs_since = None;
                } else if since.elapsed() >= STAYS {
                    break;
                }
            }
            Err(fault) => trouble = Some(fault),
        }
        if Instant::now() + PAUSE >= end {
            break;
        }
        sleep(PAUSE).await;
    }
    match (seen, trouble) {
        (Some(seen), _) => Ok(seen),
        (None, Some(fault)) => Err(fault),
        (None, None) => Err(Fault::new(Kind::TimedOut, "the list of services could not be read")),
    }
}

/// What to say of it.
fn told(plan: &Plan, restarted: &Restarted, seen: &[Service]) -> Done<Out> {
    let id = &plan.service.id;
    let status = |services: &[Service], id: &str| services.iter().find(|service| service.id == id).map(|s| s.running);
    let (before, after) = (plan.service.running, status(seen, id));
    let others = plan.before.iter().filter(|other| other.id != *id).filter_map(|other| {
        let now = status(seen, &other.id)?;
        (now != other.running).then(|| format!("{}: {} -> {}", other.id, word(other.running), word(now)))
    });
    let out = Out {
        service: id.clone(),
        status: Some(word(after.flatten())),
        status_before: Some(word(before)),
        others_changed: others.take(20).collect(),
    };
    let along = if plan.siblings.is_empty() { String::new() } else { format!(" {}", along(&plan.siblings)) };
    let changed = match out.others_changed.as_slice() {
        [] => String::new(),
        changed => format!(" Changed with it: {}.", changed.join(", ")),
    };
    let unsure = match restarted {
        Restarted::Answered => None,
        Restarted::Unsure(fault) => Some(fault.cause.trim_end_matches('.')),
    };
    let (outcome, message) = match (after, before, unsure) {
        (None, _, _) => {
            (Outcome::Failed, format!("Service {id} is not in the firewall's list any more, though it was before."))
        }
        (Some(None), _, _) => {
            (Outcome::Unknown, format!("Service {id} was asked to restart; the firewall does not say whether it runs."))
        }
        (Some(Some(false)), Some(true), Some(why)) => (
            Outcome::Failed,
            format!("Service {id} ran and does not run now, {} s after the restart ({why}).", SETTLE.as_secs()),
        ),
        (Some(Some(false)), _, Some(why)) => (
            Outcome::Unknown,
            format!("Service {id} does not run. It did not before; whether a start was tried is not known ({why})."),
        ),
        (Some(Some(false)), _, None) => (
            Outcome::Failed,
            format!(
                "Service {id} does not run {} s after the restart, though the firewall answered ok. It may be switched off \
                 in its settings, or fail at start: see its log on the firewall.",
                SETTLE.as_secs()
            ),
        ),
        (Some(Some(true)), _, _) if plan.service.is_wireguard() && unsure.is_none() => (
            Outcome::Changed,
            format!(
                "Service {id} was restarted. The firewall shows WireGuard as running whatever it does: look for a peer's handshake."
            ),
        ),
        (Some(Some(true)), Some(false), _) => {
            (Outcome::Changed, format!("Service {id} was stopped and was started; it runs."))
        }
        (Some(Some(true)), _, None) => (Outcome::Changed, format!("Service {id} restarted successfully; it runs.")),
        (Some(Some(true)), _, Some(why)) => (
            Outcome::Unknown,
            format!("Service {id} runs, but it ran before too, so whether it was restarted is not known ({why})."),
        ),
    };
    Done { outcome, message: format!("{message}{along}{changed}"), out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(id: &str, running: Option<bool>, locked: bool) -> Service {
        let name = id.split('/').next().unwrap().to_owned();
        Service { id: id.to_owned(), name, description: String::new(), running, locked }
    }

    fn list() -> Vec<Service> {
        let up = Some(true);
        vec![
            service("configd", up, true),
            service("cron", up, false),
            service("dpinger/:watcher:", up, true),
            service("dpinger/WAN", up, false),
            service("kea-dhcp/ca", up, false),
            service("kea-dhcp/v4", up, false),
            service("openvpn/9e00", up, false),
            service("pf", up, true),
            service("unbound", Some(false), false),
            service("webgui", up, true),
            service("wireguard/7c00", up, true),
        ]
    }

    #[test]
    fn a_service_is_found_by_id_or_by_a_name_that_is_its_own() {
        let list = list();
        for (asked, id) in [("cron", "cron"), ("dpinger/WAN", "dpinger/WAN"), ("openvpn", "openvpn/9e00")] {
            assert_eq!(find(&list, asked).unwrap().id, id);
        }
        let several = find(&list, "dpinger").unwrap_err().with_advice();
        assert!(several.contains("dpinger/:watcher:, dpinger/WAN"), "{several}");
        for (asked, part) in [
            ("bound", "Did you mean `unbound`?"),
            ("wan", "Did you mean `dpinger/WAN`?"),
            ("cronn", "Did you mean `cron`?"),
            ("open-vpn", "Did you mean `openvpn`"),
            ("zzz", "Services are configd, cron, dpinger, kea-dhcp, openvpn"),
        ] {
            let told = find(&list, asked).unwrap_err().with_advice();
            assert!(told.contains("no such service") && told.contains(part), "{told}");
        }
        let many: Vec<_> = (0..300).map(|n| service(&format!("openvpn/{n}"), None, false)).collect();
        let told = find(&many, "openvpn").unwrap_err().with_advice();
        assert!(told.contains("and 288 more") && told.len() < 400, "{told}");
    }

    #[test]
    fn what_would_cut_us_off_and_what_is_locked_is_refused_but_wireguard_is_not() {
        let list = list();
        let try_it = |id: &str| restartable(list.iter().find(|s| s.id == id).unwrap()).map_err(|f| f.with_advice());
        for id in ["cron", "unbound", "wireguard/7c00"] {
            assert!(try_it(id).is_ok(), "{id}");
        }
        for (id, why) in
            [("configd", "cut off"), ("webgui", "cut it off"), ("pf", "no daemon"), ("dpinger/:watcher:", "locked")]
        {
            let told = try_it(id).unwrap_err();
            assert!(told.contains("refused") && told.contains(why), "{told}");
        }
        assert_eq!(siblings(&list, &service("kea-dhcp/v4", None, false)), ["kea-dhcp/ca"]);
        assert!(siblings(&list, &service("dpinger/WAN", None, false)).is_empty());
        assert_eq!(siblings(&list, &service("dpinger", None, false)), ["dpinger/:watcher:", "dpinger/WAN"]);
    }

    #[test]
    fn what_is_said_follows_what_was_seen() {
        let unsure = || Restarted::Unsure(Fault::new(Kind::TimedOut, "fw did not answer within 120 s"));
        let of = |id: &str, restarted: &Restarted, after: Option<Option<bool>>| {
            let before = list();
            let service = before.iter().find(|s| s.id == id).unwrap().clone();
            let mut seen = before.clone();
            match after {
                None => seen.retain(|s| s.id != id),
                Some(running) => seen.iter_mut().filter(|s| s.id == id).for_each(|s| s.running = running),
            }
            let siblings = siblings(&before, &service);
            let plan = Plan { id: id.parse().unwrap(), service, siblings, before };
            let done = told(&plan, restarted, &seen);
            (done.outcome, done.message)
        };
        let (up, down) = (Some(Some(true)), Some(Some(false)));
        for (id, restarted, after, outcome, part) in [
            ("cron", Restarted::Answered, up, Outcome::Changed, "restarted successfully"),
            ("unbound", Restarted::Answered, up, Outcome::Changed, "was stopped and was started"),
            ("cron", Restarted::Answered, down, Outcome::Failed, "though the firewall answered ok"),
            ("unbound", Restarted::Answered, down, Outcome::Failed, "though the firewall answered ok"),
            ("cron", Restarted::Answered, None, Outcome::Failed, "not in the firewall's list"),
            ("cron", Restarted::Answered, Some(None), Outcome::Unknown, "does not say"),
            ("wireguard/7c00", Restarted::Answered, up, Outcome::Changed, "handshake"),
            ("kea-dhcp/v4", Restarted::Answered, up, Outcome::Changed, "With it restarts kea-dhcp/ca."),
            ("cron", unsure(), up, Outcome::Unknown, "within 120 s"),
            ("cron", unsure(), down, Outcome::Failed, "ran and does not run"),
            ("unbound", unsure(), up, Outcome::Changed, "was started"),
            ("unbound", unsure(), down, Outcome::Unknown, "It did not before"),
        ] {
            let (found, message) = of(id, &restarted, after);
            assert!(found == outcome && message.contains(part), "{id}: {found:?} {message}");
        }
    }
}
