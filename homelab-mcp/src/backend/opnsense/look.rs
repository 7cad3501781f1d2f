//! One look at everything: each part is asked for on its own and at the same time, within one time for all, and a part that
//! cannot be had says why and leaves the rest.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::future::maybe_done;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    client::{self, Opnsense},
    model::{Activity, Disk, Firmware, Gateways, Memory, Notice, Service, Updates, Uptime},
};
use crate::error::{Fault, Kind};

/// A refused key takes two seconds to be refused. Until it has been taken once, one request goes ahead of the others for so
/// long.
const AHEAD: Duration = Duration::from_millis(2500);

/// What could be found out.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) version: Option<String>,
    pub(super) updates: Option<Updates>,
    pub(super) uptime: Uptime,
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory: Option<Memory>,
    pub(super) disks: Option<Vec<Disk>>,
    pub(super) gateways: Option<Gateways>,
    pub(super) services: Option<Vec<Service>>,
    pub(super) notices: Option<Vec<Notice>>,
    pub(super) problems: Vec<Problem>,
}

/// Why a part is missing.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    pub(super) part: &'static str,
    pub(super) error: String,
    /// As the firewall's user manager names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missing_privilege: Option<String>,
    /// This version cannot tell it, whatever the key may.
    #[serde(skip)]
    pub(super) never: bool,
}

impl Problem {
    fn new(part: &'static str, fault: &Fault, privilege: &str) -> Self {
        let missing_privilege = (fault.kind == Kind::Forbidden).then(|| privilege.to_owned());
        // What to do about it is to grant what is named beside it.
        let error = if missing_privilege.is_some() { fault.cause.clone() } else { fault.with_advice() };
        Self { part, error, missing_privilege, never: false }
    }

    fn never(part: &'static str) -> Self {
        let error = "this version of the firewall has no call for it".to_owned();
        Self { part, error, missing_privilege: None, never: true }
    }
}

/// Looks. An error when there is no connection, no trust or no key, or when no part at all can be had.
pub(super) async fn look(client: &Opnsense) -> Result<Look, Fault> {
    let limit = client.timeout();
    let deadline = Instant::now() + limit;
    let mut first = pin!(maybe_done(first(client, deadline, limit)));
    if !client.signed_in() {
        let _ = timeout_at(deadline.min(Instant::now() + AHEAD), &mut first).await;
        if let Some((Err(fault), _)) = first.as_mut().output_mut()
            && client::is_about_all(fault)
        {
            return Err(fault.clone());
        }
    }
    let ((), uptime, memory, disks, cpu, gateways, services, notices) = tokio::join!(
        first.as_mut(),
        within(deadline, limit, client.uptime()),
        within(deadline, limit, client.memory()),
        within(deadline, limit, client.disks()),
        within(deadline, limit, cpu(client)),
        within(deadline, limit, client.gateways()),
        within(deadline, limit, client.services()),
        within(deadline, limit, client.notices()),
    );
    let (firmware, version) = first.as_mut().take_output().unwrap_or_else(|| (Err(late(limit)), None));

    let mut parts = Parts::default();
    let (known, updates) = match parts.take("firmware", client::FIRMWARE, firmware) {
        Some(Firmware { version, updates, failed }) => {
            if let Some(why) = failed {
                let fault = Fault::new(Kind::Upstream, format!("its last check for updates failed: {why}"));
                parts.problems.push(Problem::new("firmware", &fault, client::FIRMWARE));
            }
            (version, Some(updates))
        }
        None => (None, None),
    };
    // 24.1 has none of the dashboard's calls; what `top` says is all it tells.
    let old = matches!(&uptime, Err(fault) if fault.kind == Kind::NotFound);
    let version = known.or_else(|| parts.take("version", client::DASHBOARD, version?));
    let cpu_fault = cpu.as_ref().err().cloned();
    let (cpu_percent, activity) = match parts.take("cpu", client::ACTIVITY, cpu) {
        Some(Cpu::Activity(activity)) => (activity.cpu_percent, activity),
        Some(Cpu::Percent(percent)) => (Some(percent), Activity::default()),
        None => (None, Activity::default()),
    };
    if cpu_percent.is_none() && cpu_fault.is_none() {
        let fault = Fault::new(Kind::Upstream, "the firewall did not measure it");
        parts.problems.push(Problem::new("cpu", &fault, client::ACTIVITY));
    }
    let top = activity.uptime;
    let from_top = top.seconds.is_some().then(|| top.clone());
    let uptime = parts.take_or("uptime", uptime, from_top, cpu_fault.as_ref()).unwrap_or_default();
    let uptime = Uptime { seconds: uptime.seconds.or(top.seconds), load: uptime.load.or(top.load) };
    let memory = parts.take_or("memory", memory, activity.memory, cpu_fault.as_ref());
    let look = Look {
        updates,
        uptime,
        cpu_percent,
        memory,
        disks: parts.take("disks", client::DASHBOARD, disks),
        gateways: parts.take("gateways", client::GATEWAYS, gateways),
        services: parts.take("services", client::SERVICES, services),
        notices: parts.take("notices", client::NOTICES, notices),
        problems: Vec::new(),
        version,
    };
    let mut problems = parts.problems;
    // The firmware's says why there is no version.
    problems.retain(|problem| !(problem.part == "version" && problem.never));
    for problem in &mut problems {
        if let Some(privilege) = &mut problem.missing_privilege {
            let name = in_version(privilege, look.version.as_deref(), old);
            problem.error = problem.error.replace(privilege.as_str(), &name);
            *privilege = name;
        }
    }
    match parts.first {
        Some(first) if parts.nothing => {
            let allowed = problems.iter().any(|problem| problem.missing_privilege.is_none() && !problem.never);
            Err(if allowed { first } else { nothing_allowed(&problems) })
        }
        _ => Ok(Look { problems, ..look }),
    }
}

/// A privilege's name in this version: before 25.1 the dashboard's was split, and in 24.1 it opened the gateways too, which
/// "System: Gateways" did not.
fn in_version(privilege: &str, version: Option<&str>, old: bool) -> String {
    match privilege {
        client::DASHBOARD if version.is_some_and(|version| version.starts_with("24.")) => {
            format!("{privilege} or Dashboard (all)")
        }
        client::GATEWAYS if old => "Dashboard (all)".to_owned(),
        _ => privilege.to_owned(),
    }
}

/// The firmware's page, which has the version with its nickname; else the version from elsewhere.
async fn first(
    client: &Opnsense,
    deadline: Instant,
    limit: Duration,
) -> (Result<Firmware, Fault>, Option<Result<String, Fault>>) {
    let firmware = within(deadline, limit, client.firmware()).await;
    let enough = match &firmware {
        Ok(firmware) => firmware.version.is_some(),
        Err(fault) => client::is_about_all(fault),
    };
    let version = if enough { None } else { Some(within(deadline, limit, client.version()).await) };
    (firmware, version)
}

/// Where the CPU's use came from.
enum Cpu {
    Activity(Activity),
    Percent(f64),
}

/// `top` is the better source: two seconds, tenths of percents, in every version. Without its privilege the dashboard's
/// stream tells whole percents of one second.
async fn cpu(client: &Opnsense) -> Result<Cpu, Fault> {
    match client.activity().await {
        Ok(activity) if activity.cpu_percent.is_none() => {
            log::debug!("opnsense: no CPU line in the activity headers");
            Ok(client.cpu_percent().await.map_or(Cpu::Activity(activity), Cpu::Percent))
        }
        Ok(activity) => Ok(Cpu::Activity(activity)),
        Err(fault) if fault.kind == Kind::Forbidden => client.cpu_percent().await.map(Cpu::Percent).map_err(|_| fault),
        Err(fault) => Err(fault),
    }
}

async fn within<T>(
    deadline: Instant,
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late(limit)))
}

fn late(limit: Duration) -> Fault {
    Fault::new(Kind::TimedOut, format!("no answer within {} s", limit.as_secs()))
        .hint("It may be busy or hang; other backends are not affected.")
}

fn nothing_allowed(problems: &[Problem]) -> Fault {
    let mut names: Vec<_> = problems.iter().filter_map(|problem| problem.missing_privilege.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    Fault::new(
        Kind::Forbidden,
        format!("the API key's user lacks every privilege that this needs: {}", names.join(", ")),
    )
    .hint("Grant what should be read at System > Access > Users.")
}

/// What came, one by one.
struct Parts {
    nothing: bool,
    first: Option<Fault>,
    problems: Vec<Problem>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { nothing: true, first: None, problems: Vec::new() }
    }
}

impl Parts {
    fn take<T>(&mut self, part: &'static str, privilege: &str, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(found) => {
                self.nothing = false;
                Some(found)
            }
            Err(fault) => {
                let dashboard = privilege == client::DASHBOARD && fault.kind == Kind::NotFound;
                self.problems.push(if dashboard {
                    Problem::never(part)
                } else {
                    Problem::new(part, &fault, privilege)
                });
                self.first.get_or_insert(fault);
                None
            }
        }
    }

    /// Of the dashboard's, what `top` has too, a little coarser. Where the dashboard has no call for it that is no problem,
    /// but then it is one that `top` could not be had.
    fn take_or<T>(
        &mut self,
        part: &'static str,
        result: Result<T, Fault>,
        from_top: Option<T>,
        top_fault: Option<&Fault>,
    ) -> Option<T> {
        match (result, from_top) {
            (Err(fault), Some(found)) => {
                if fault.kind != Kind::NotFound {
                    let mut problem = Problem::new(part, &fault, client::DASHBOARD);
                    problem.error = format!("{}; taken from the activity page instead", fault.cause);
                    self.problems.push(problem);
                }
                Some(found)
            }
            (Err(fault), None) if fault.kind == Kind::NotFound && top_fault.is_some() => {
                self.take(part, client::ACTIVITY, Err(top_fault.cloned().unwrap_or(fault)))
            }
            (result, _) => self.take(part, client::DASHBOARD, result),
        }
    }
}
