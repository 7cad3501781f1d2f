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
    let client = match client(core) {
        Ok(client) => client,
        Err(fault) => {
            let finding = Finding::Unused(fault.with_advice());
            return vec![Checked { name: "truenas", place: "-".to_owned(), finding }];
        }
    };
    let row = |finding| Checked { name: "truenas", place: client.door.place(), finding };
    match examined(core, client).await {
        Ok(findings) => findings.into_iter().map(row).collect(),
        Err(fault) => vec![row(Finding::Fix(fault.with_advice()))],
    }
}

async fn examined(core: &Core, client: &Truenas) -> Result<Vec<Finding>, Fault> {
    let newest = match client.api().await? {
        client::Api::Rpc { newest } => newest,
        // Up to 24.10 a key may do whatever root may.
        client::Api::Rest => return Ok(vec![Finding::Fine(format!("{} (REST v2.0)", named(client.info().await?)))]),
    };
    // Needs no role, so it tells of the login alone.
    let me = client.me().await?;
    let version =
        client.info().await.map_or_else(|_| "TrueNAS, which keeps its version from this key".to_owned(), named);
    let user = model::user(&me).unwrap_or_else(|| "the key's user".to_owned());
    let roles = match model::roles(&me) {
        Some(roles) => privileges(&user, &roles, &tools_on(core)),
        None => Finding::Unused(format!("TrueNAS does not tell which roles {user} has")),
    };
    let (major, minor) = newest;
    let api = if minor == 0 { format!("{major}.0") } else { format!("{major}.{minor:02}") };
    Ok(vec![Finding::Fine(format!("{version} (JSON-RPC, API {api})")), roles])
}

fn named(info: model::Info) -> String {
    match info.version {
        Some(version) if version.starts_with("TrueNAS") => version,
        Some(version) => format!("TrueNAS {version}"),
        None => "TrueNAS of unknown version".to_owned(),
    }
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
