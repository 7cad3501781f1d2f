//! Snapshots: listed per dataset, and taken.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    backend::truenas::{
        Truenas, client,
        client::Created,
        model::{Dataset, Snapshot},
        names, place,
        units::size,
    },
    error::{Fault, Kind, ToolError},
    operations::Running,
    proof::Proof,
    reply::{self, Page},
    target::Target,
    tool::{About, Call, Change, Done, Effect, Outcome, Read, Resolved, Tool, Toolset},
};

pub(crate) struct ListSnapshots;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListArgs {
    /// Full path: tank/media.
    dataset: String,
    /// Part of the snapshot's name.
    name: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ListOut {
    dataset: String,
    snapshots: Vec<Row>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    /// The part after the @.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// Freed if this one were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    /// The data it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    referenced: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referenced_bytes: Option<u64>,
}

impl Row {
    fn of(snapshot: Snapshot) -> Self {
        Self {
            created: snapshot.created(),
            used: snapshot.used.map(size),
            used_bytes: snapshot.used,
            referenced: snapshot.referenced.map(size),
            referenced_bytes: snapshot.referenced,
            name: snapshot.name,
        }
    }
}

impl Tool for ListSnapshots {
    const ABOUT: About = About {
        name: "truenas_list_snapshots",
        title: "List snapshots",
        text: "List the ZFS snapshots of one TrueNAS dataset, the newest first. Not those of datasets within it.",
        level: Level::Monitor,
        toolset: Toolset::Truenas,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        // ZFS allows spaces in names, and so whole sentences.
        untrusted: &["snapshots[].name"],
    };
    type Args = ListArgs;
    type Out = ListOut;

    fn subject(args: &ListArgs) -> Option<String> {
        Some(args.dataset.clone())
    }
}

impl Read for ListSnapshots {
    async fn read(core: Arc<Core>, _call: Call, args: ListArgs) -> Result<ListOut, ToolError> {
        let doing = format!("list snapshots of `{}`", args.dataset);
        names::check_dataset(&args.dataset).map_err(|problem| ToolError::invalid(&doing, problem))?;
        let failed = |fault: Fault| fault.doing(&doing, place(&core));
        let nas = client(&core).map_err(failed)?;
        let found = nas.snapshots(&args.dataset).await.map_err(failed)?;
        if found.is_empty() {
            // A dataset that is not there has none either, and that is another answer.
            nas.dataset(&args.dataset).await.map_err(failed)?;
        }
        let wanted = |snapshot: &Snapshot| {
            let part = args.name.as_ref().map(|part| part.to_lowercase());
            part.is_none_or(|part| snapshot.name.to_lowercase().contains(&part))
        };
        let rows = found.into_iter().filter(wanted).map(Row::of).collect();
        let budget = reply::row_budget(core.config.max_result_chars);
        let (snapshots, page) = reply::page(rows, args.limit, args.cursor.as_deref(), budget, "`name`")
            .map_err(|problem| ToolError::invalid(&doing, problem))?;
        Ok(ListOut { dataset: args.dataset, snapshots, page })
    }
}

pub(crate) struct CreateSnapshot;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct CreateArgs {
    /// Full path: tank/media.
    dataset: String,
    /// Default snapshot-<epoch ms>.
    name: Option<String>,
    /// Of every dataset within too.
    recursive: Option<bool>,
    /// Once per call, so that the question and the deed mean the same name.
    #[serde(skip, default = "by_time")]
    #[schemars(skip)]
    default_name: String,
}

fn by_time() -> String {
    format!("snapshot-{}", jiff::Timestamp::now().as_millisecond())
}

impl CreateArgs {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.default_name)
    }

    fn id(&self) -> String {
        format!("{}@{}", self.dataset, self.name())
    }

    fn doing(&self) -> String {
        format!("create snapshot `{}`", self.id())
    }
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct CreateOut {
    /// dataset@name
    snapshot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// Datasets with this snapshot now, when recursive.
    #[serde(skip_serializing_if = "Option::is_none")]
    datasets: Option<usize>,
}

impl Tool for CreateSnapshot {
    const ABOUT: About = About {
        name: "truenas_create_snapshot",
        title: "Create a snapshot",
        text: "Take a ZFS snapshot of a TrueNAS dataset and see that it exists.",
        level: Level::Manage,
        toolset: Toolset::Truenas,
        worst: Effect::Change,
        idempotent: false,
        open_world: false,
        untrusted: &[],
    };
    type Args = CreateArgs;
    type Out = CreateOut;

    fn subject(args: &CreateArgs) -> Option<String> {
        Some(args.id())
    }
}

/// How many datasets will have the snapshot.
pub(crate) struct Plan {
    datasets: usize,
}

/// A dataset as the gate judges it: also under the datasets that it is part of, so that what protects one protects what
/// is within, and under those that a recursive snapshot reaches. These are names and not objects of their own: a pool
/// has thousands, and ZFS takes all of their snapshots in one step.
fn target(dataset: &Dataset, within: &[Dataset]) -> Target {
    let state = match (dataset.locked, dataset.readonly) {
        (Some(true), _) => "locked",
        (_, Some(true)) => "read-only",
        _ => "available",
    };
    let mut target = Target::new("truenas", &dataset.name, &dataset.name).state(state);
    for (at, _) in dataset.name.match_indices('/') {
        target = target.alias("truenas", &dataset.name[..at]);
    }
    for other in within {
        target = target.alias("truenas", &other.name);
    }
    target
}

fn taken(id: &str) -> Fault {
    Fault::new(Kind::Conflict, format!("there is a snapshot {id} already"))
        .hint("Nothing was done. Choose another name; truenas_list_snapshots shows those in use.")
}

impl Change for CreateSnapshot {
    type Plan = Plan;

    fn known(args: &CreateArgs) -> CreateOut {
        CreateOut { snapshot: args.id(), created: None, datasets: None }
    }

    async fn resolve(core: &Core, _call: &Call, args: &CreateArgs) -> Result<Resolved<Plan>, ToolError> {
        let doing = args.doing();
        names::check_dataset(&args.dataset)
            .and_then(|()| names::check_snapshot(args.name()))
            .and_then(|()| names::check_length(&args.dataset, args.name()))
            .map_err(|problem| ToolError::invalid(&doing, problem))?;
        let failed = |fault: Fault| fault.doing(&doing, place(core));
        let nas = client(core).map_err(failed)?;
        let (dataset, mut within) = nas.dataset(&args.dataset).await.map_err(failed)?;
        let recursive = args.recursive.unwrap_or(false);
        if !recursive {
            within.clear();
        }
        for other in &within {
            names::check_length(&other.name, args.name()).map_err(|problem| ToolError::invalid(&doing, problem))?;
        }
        if nas.snapshot(&args.id()).await.map_err(failed)?.is_some() {
            return Err(failed(taken(&args.id())));
        }
        let reach = match within.len() {
            0 => String::new(),
            others => format!(", and of the {} within it", reply::count(others, "dataset")),
        };
        let named = if args.name.is_some() { args.name() } else { "snapshot-<time>" };
        let listed: Vec<_> = within.iter().take(20).map(|other| other.name.as_str()).collect();
        let more = within.len().saturating_sub(listed.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(Resolved {
            targets: vec![target(&dataset, &within)],
            effect: Effect::Change,
            summary: format!("Create snapshot {named} of {}{reach}.", dataset.name),
            detail: (!within.is_empty()).then(|| format!("Also of {}{more}.", listed.join(", "))),
            unchanged: None,
            plan: Plan { datasets: within.len() + 1 },
        })
    }

    async fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Plan,
        args: CreateArgs,
    ) -> Result<Done<CreateOut>, ToolError> {
        let id = args.id();
        let failed = |fault: Fault| fault.doing(args.doing(), place(&core));
        let nas = client(&core).map_err(failed)?;
        let recursive = args.recursive.unwrap_or(false);
        running.say(format!("creating {id}"));
        let created = nas.create_snapshot(proof.change(), &args.dataset, args.name(), recursive).await;
        let doubt = match created.map_err(failed)? {
            Created::Yes => None,
            // Any one of them is enough for ZFS to take none.
            Created::Exists if plan.datasets > 1 => {
                return Err(failed(taken(&format!("{id} or one of this name of a dataset within it"))));
            }
            Created::Exists => return Err(failed(taken(&id))),
            Created::Unknown(fault) => {
                running.say(format!("{}; looking whether it was done", fault.cause));
                Some(fault)
            }
        };
        let datasets = recursive.then_some(plan.datasets);
        let out = |snapshot: &Snapshot| CreateOut { snapshot: id.clone(), created: snapshot.created(), datasets };
        let reach = match plan.datasets {
            1 => String::new(),
            all => format!(" of {}", reply::count(all, "dataset")),
        };
        // ZFS takes a recursive snapshot in one step, so the first one stands for all.
        match (find(nas, &id, doubt.is_some()).await, doubt) {
            (Ok(Some(snapshot)), None) => {
                Ok(Done::changed(format!("Snapshot {id}{reach} created successfully."), out(&snapshot)))
            }
            (Ok(Some(snapshot)), Some(fault)) => Ok(Done::changed(
                format!("Snapshot {id}{reach} was created: it is there, though {}.", fault.cause),
                out(&snapshot),
            )),
            (Ok(None), None) => {
                let cause = "TrueNAS said that it was created, and it is not in the list";
                Err(failed(Fault::new(Kind::Upstream, cause).hint("Look with truenas_list_snapshots.")))
            }
            (Ok(None), Some(fault)) => Ok(Done {
                outcome: Outcome::Unknown,
                message: format!(
                    "Snapshot {id} may still come: {}, and it is not there yet. Look with truenas_list_snapshots before trying \
                     again.",
                    fault.cause
                ),
                out: Self::known(&args),
            }),
            (Err(fault), None) => Ok(Done::changed(
                format!("Snapshot {id}{reach} was created, but could not be read back ({}).", fault.cause),
                Self::known(&args),
            )),
            (Err(fault), Some(first)) => Ok(Done {
                outcome: Outcome::Unknown,
                message: format!(
                    "Snapshot {id} may have been created: {}, and looking failed too ({}). Look with truenas_list_snapshots \
                     before trying again.",
                    first.cause, fault.cause
                ),
                out: Self::known(&args),
            }),
        }
    }
}

/// The snapshot, if it is there; in doubt with some patience, because a call may go on after its connection.
async fn find(nas: &Truenas, id: &str, in_doubt: bool) -> Result<Option<Snapshot>, Fault> {
    const LOOKS: u32 = 4;
    const PAUSE: Duration = Duration::from_millis(700);
    let mut found = nas.snapshot(id).await;
    for _ in 1..if in_doubt { LOOKS } else { 1 } {
        if matches!(found, Ok(Some(_))) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        found = nas.snapshot(id).await;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gate::protected::Protected;
    use serde_json::json;

    #[test]
    fn what_protects_a_dataset_protects_what_is_within_and_what_reaches_it() {
        let all = Dataset::all(
            &json!([{"id": "tank"}, {"id": "tank/backup"}, {"id": "tank/backup/a"}, {"id": "tank/backups"}]),
        );
        let one = |name: &str| all.iter().find(|dataset| dataset.name == name).unwrap();
        let protected = Protected::parse(&["truenas:tank/backup".to_owned()]).unwrap();
        let hit = |target: Target| protected.hit(&[target], Path::new("/nonexistent")).is_some();
        assert!(hit(target(one("tank/backup"), &[])));
        assert!(hit(target(one("tank/backup/a"), &[])));
        assert!(hit(target(one("tank"), &all[1..])));
        assert!(!hit(target(one("tank"), &[])));
        assert!(!hit(target(one("tank/backups"), &[])));
    }

    #[test]
    fn the_default_name_stays_the_same_for_one_call() {
        let args: CreateArgs = serde_json::from_value(json!({"dataset": "tank"})).unwrap();
        assert_eq!(args.id(), args.id());
        let ms = args.name().strip_prefix("snapshot-").unwrap();
        assert!(ms.parse::<i64>().unwrap() > 1_700_000_000_000);
        let schema = crate::schema::arguments::<CreateArgs>();
        assert!(!schema["properties"].as_object().unwrap().contains_key("default_name"));
    }
}
