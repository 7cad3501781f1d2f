//! TrueNAS, from CORE 13 to 27: pools, alerts, datasets, snapshots. `client` and its neighbours talk with it (`socket`
//! over JSON-RPC, `rest` where there is nothing else), `tools` is what a model sees.

mod client;
mod login;
mod model;
mod names;
mod refusal;
mod rest;
mod socket;
mod text;
mod tools;
mod units;

pub(crate) use client::Truenas;
pub(crate) use tools::TOOLS;

use crate::{
    Core,
    backend::{Checked, Finding},
    error::{Fault, Kind},
    tool::Toolset,
};

/// The client, or what to set so that there is one.
fn client(core: &Core) -> Result<&Truenas, Fault> {
    core.backends.truenas.as_ref().ok_or_else(|| {
        Fault::new(Kind::NotConfigured, "TrueNAS is not configured")
            .hint("Set TRUENAS_HOST and TRUENAS_API_KEY, and start again.")
    })
}

/// Where it is, for errors.
pub(crate) fn place(core: &Core) -> String {
    match &core.backends.truenas {
        Some(client) => format!("truenas ({})", client.door.place()),
        None => "truenas".to_owned(),
    }
}

/// What `--check` says of it: whether it can be reached and signed in to, and which role the key lacks for which tool.
pub(crate) async fn check(core: &Core) -> Vec<Checked> {
    let row = |finding| Checked { name: "truenas", place: place(core), finding };
    let client = match client(core) {
        Ok(client) => client,
        Err(fault) => return vec![row(Finding::Unused(fault.with_advice()))],
    };
    let api = match client.api().await {
        Ok(api) => api,
        Err(fault) => return vec![row(Finding::Fix(fault.with_advice()))],
    };
    let info = client.info().await;
    let spoken = match api {
        client::Api::Rpc { newest: (major, minor) } => format!("JSON-RPC, API {major}.{minor:02}"),
        client::Api::Rest => "REST v2.0".to_owned(),
    };
    let version = match info {
        Ok(info) => info.version.unwrap_or_else(|| "of unknown version".to_owned()),
        // It let us in, and that is what this row is about.
        Err(fault) if fault.cause.contains("lacks the role") => "(its version needs READONLY_ADMIN)".to_owned(),
        Err(fault) => return vec![row(Finding::Fix(fault.with_advice()))],
    };
    let mut found = vec![row(Finding::Fine(format!("TrueNAS {version} ({spoken})")))];
    if api == client::Api::Rest {
        // Up to 24.10 a key may do whatever root may.
        return found;
    }
    let privileges = match client.me().await {
        Ok(me) => {
            let user = model::user(&me).unwrap_or_else(|| "the key's user".to_owned());
            match model::roles(&me) {
                Some(roles) => privileges(&user, &roles, &tools_on(core)),
                None => Finding::Unused(format!("which roles {user} has is not told")),
            }
        }
        Err(fault) => Finding::Unused(format!("which roles the key has is not told: {}", fault.cause)),
    };
    found.push(row(privileges));
    found
}

/// The tools of this toolset that this server lists.
fn tools_on(core: &Core) -> Vec<&'static str> {
    let listed = core.registry.listed(&core.config).map(|item| &item.entry.about);
    listed.filter(|about| about.toolset == Toolset::Truenas).map(|about| about.name).collect()
}

/// What each tool needs.
const NEEDS: [(&str, &[&str]); 6] = [
    ("truenas_status", &["READONLY_ADMIN", "POOL_READ", "DATASET_READ"]),
    ("truenas_alerts", &["ALERT_LIST_READ"]),
    ("truenas_list_snapshots", &["SNAPSHOT_READ", "DATASET_READ"]),
    ("truenas_list_datasets", &["DATASET_READ"]),
    ("truenas_dataset_info", &["DATASET_READ", "SNAPSHOT_READ"]),
    ("truenas_create_snapshot", &["SNAPSHOT_WRITE", "SNAPSHOT_READ", "DATASET_READ"]),
];

fn privileges(user: &str, roles: &[String], tools: &[&str]) -> Finding {
    let has = |role: &&str| {
        roles
            .iter()
            .any(|have| have == role || have == "FULL_ADMIN" || (have == "READONLY_ADMIN" && role.ends_with("_READ")))
    };
    let lacking: Vec<_> = NEEDS
        .iter()
        .filter(|(tool, _)| tools.contains(tool))
        .filter_map(|(tool, needs)| {
            let missing: Vec<_> = needs.iter().filter(|role| !has(role)).copied().collect();
            (!missing.is_empty()).then(|| format!("{tool} needs {}", missing.join(" and ")))
        })
        .collect();
    if lacking.is_empty() {
        return Finding::Fine(format!("{user} has every role that the tools of this level need"));
    }
    Finding::Fix(format!(
        "{user} lacks roles: {}. Add them to a privilege of its groups (Credentials > Groups > Privileges), or leave the tools \
         out with TOOLS_DENY.",
        lacking.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_roles_are_told_by_tool() {
        let tools = ["truenas_alerts", "truenas_create_snapshot"];
        let finding = |roles: &[&str]| {
            let roles: Vec<_> = roles.iter().map(|role| (*role).to_owned()).collect();
            privileges("mcp", &roles, &tools)
        };
        assert!(matches!(finding(&["FULL_ADMIN"]), Finding::Fine(_)));
        assert!(matches!(finding(&["READONLY_ADMIN", "SNAPSHOT_WRITE"]), Finding::Fine(_)));
        let Finding::Fix(text) = finding(&["READONLY_ADMIN"]) else { panic!() };
        assert!(text.contains("truenas_create_snapshot needs SNAPSHOT_WRITE."), "{text}");
        let Finding::Fix(text) = finding(&["DATASET_READ"]) else { panic!() };
        assert!(text.contains("truenas_alerts needs ALERT_LIST_READ; truenas_create_snapshot needs"), "{text}");
        assert!(NEEDS.iter().all(|(tool, _)| TOOLS.iter().any(|entry| entry.about.name == *tool)));
        assert_eq!(NEEDS.len(), TOOLS.len());
    }
}
