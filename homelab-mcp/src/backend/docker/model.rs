//! What the Docker Engine says, in our types. Read leniently from its JSON: engines differ by version (and Podman from
//! both), so a field that is missing or of another form is `None` or left out, never a failure of the whole answer.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// A container as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The full id.
    pub(crate) id: String,
    /// Its names without the slash; the container's own name first, no link aliases.
    pub(crate) names: Vec<String>,
    /// The image as it was asked for; an id if its name has moved on.
    pub(crate) image: String,
    /// The image's id, `sha256:…`.
    pub(crate) image_id: String,
    /// The command line, cut by the engine.
    pub(crate) command: String,
    /// The state in one word: `running`, `exited`, …
    pub(crate) state: String,
    /// The engine's sentence: `Up 3 hours (healthy)`.
    pub(crate) status: String,
    /// `healthy`, `unhealthy` or `starting`; `None` without a health check.
    pub(crate) health: Option<String>,
    /// When it was created, in unix seconds.
    pub(crate) created: Option<i64>,
    /// Ports, published or only exposed.
    pub(crate) ports: Vec<Port>,
    /// All labels.
    pub(crate) labels: Labels,
    /// Its compose project, if compose made it.
    pub(crate) compose: Option<Compose>,
    /// The networks it is attached to.
    pub(crate) networks: Vec<Attachment>,
    /// What is mounted into it.
    pub(crate) mounts: Vec<Mount>,
}

/// One port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// The port inside the container.
    pub(crate) private: u16,
    /// `tcp`, `udp` or `sctp`.
    pub(crate) protocol: String,
    /// The port on the host, if it is published.
    pub(crate) public: Option<u16>,
    /// The host's address it is bound to; `*` when it is bound to all IPv4 and all IPv6 addresses.
    pub(crate) address: Option<String>,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(public) = self.public {
            let address = self.address.as_deref().unwrap_or("*");
            if address.contains(':') {
                write!(f, "[{address}]")?
            } else {
                write!(f, "{address}")?
            }
            write!(f, ":{public}->")?;
        }
        write!(f, "{}/{}", self.private, self.protocol)
    }
}

/// Where a container is on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The network's name.
    pub(crate) network: String,
    /// The container's address there, while it runs: IPv4, else IPv6.
    pub(crate) address: Option<String>,
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `bind`, `volume`, `tmpfs`, …
    pub(crate) kind: String,
    /// The volume's name, or the path on the host.
    pub(crate) source: String,
    /// The path in the container.
    pub(crate) target: String,
    /// Whether the container may write.
    pub(crate) writable: bool,
}

/// What compose wrote on its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compose {
    /// The project.
    pub(crate) project: String,
    /// The service in it.
    pub(crate) service: Option<String>,
    /// The folder compose was called in or told.
    pub(crate) working_dir: Option<String>,
    /// The files it was made from.
    pub(crate) config_files: Vec<String>,
}

impl Compose {
    /// Reads compose's labels; `None` when there is no project.
    fn read(labels: &Labels) -> Option<Self> {
        let label = |name: &str| labels.get(&format!("com.docker.compose.{name}")).filter(|v| !v.is_empty()).cloned();
        Some(Self {
            project: label("project")?,
            service: label("service"),
            working_dir: label("project.working_dir"),
            config_files: label("project.config_files")
                .map(|files| files.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    }
}

/// One container as `inspect` has it, as far as tools decide by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// The full id.
    pub(crate) id: String,
    /// Its name without the slash.
    pub(crate) name: String,
    /// The image as it was asked for.
    pub(crate) image: String,
    /// The image's id, `sha256:…`.
    pub(crate) image_id: String,
    /// What it is doing.
    pub(crate) state: State,
    /// How often the engine restarted it by its policy.
    pub(crate) restart_count: Option<u64>,
    /// Whether it has a terminal: its output is one stream then, without stdout and stderr.
    pub(crate) tty: bool,
    /// All labels.
    pub(crate) labels: Labels,
    /// Its compose project, if compose made it.
    pub(crate) compose: Option<Compose>,
    /// `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:5`.
    pub(crate) restart_policy: String,
    /// Whether it is removed when it ends.
    pub(crate) auto_remove: bool,
    /// Seconds the engine waits for it to stop before it kills it; the engine's default is 10. Negative: for ever.
    pub(crate) stop_timeout: Option<i64>,
    /// The logging driver: `json-file`, `local`, `none`, …
    pub(crate) log_driver: Option<String>,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub(crate) status: String,
    /// Whether its process exists: true also while paused.
    pub(crate) running: bool,
    /// Whether it is frozen.
    pub(crate) paused: bool,
    /// Whether the engine is about to start it again.
    pub(crate) restarting: bool,
    /// How the last run ended; `None` while it runs and before the first run.
    pub(crate) exit_code: Option<i64>,
    /// Why it could not be started, in the engine's words.
    pub(crate) error: Option<String>,
    /// When the last run began, RFC 3339.
    pub(crate) started_at: Option<String>,
    /// When the last run ended, RFC 3339.
    pub(crate) finished_at: Option<String>,
    /// Whether the kernel ended it for want of memory.
    pub(crate) oom_killed: bool,
    /// Its process on the engine's host, while it runs.
    pub(crate) pid: Option<i64>,
    /// `healthy`, `unhealthy` or `starting`; `None` without a health check.
    pub(crate) health: Option<String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Its name.
    pub(crate) name: String,
    /// Its driver.
    pub(crate) driver: String,
    /// Its folder on the engine's host.
    pub(crate) mountpoint: Option<String>,
    /// `local` or `global`.
    pub(crate) scope: Option<String>,
    /// When it was created, RFC 3339.
    pub(crate) created: Option<String>,
    /// All labels.
    pub(crate) labels: Labels,
    /// The driver's options. May hold a password (CIFS): redact before showing.
    pub(crate) options: Labels,
}

/// The volumes, and what the engine could not list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    /// Sorted by name.
    pub(crate) volumes: Vec<Volume>,
    /// The engine's warnings, for example about a volume plugin that does not answer: the list is then incomplete.
    pub(crate) warnings: Vec<String>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// The full id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// `bridge`, `host`, `overlay`, …
    pub(crate) driver: String,
    /// `local`, `swarm` or `global`.
    pub(crate) scope: Option<String>,
    /// When it was created, RFC 3339.
    pub(crate) created: Option<String>,
    /// Whether it has no way out.
    pub(crate) internal: bool,
    /// Whether it has IPv6.
    pub(crate) ipv6: bool,
    /// Its address ranges.
    pub(crate) subnets: Vec<Subnet>,
    /// All labels.
    pub(crate) labels: Labels,
    /// The driver's options.
    pub(crate) options: Labels,
}

/// An address range of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// The range, for example `172.18.0.0/16`.
    pub(crate) subnet: String,
    /// The host's address in it.
    pub(crate) gateway: Option<String>,
}

/// Which engine it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The engine's version: `29.1.3`.
    pub(crate) engine: String,
    /// The newest API it speaks: `1.52`.
    pub(crate) api: String,
    /// The API spoken with it: at most ours.
    pub(crate) spoken: String,
    /// `linux` or `windows`.
    pub(crate) os: String,
    /// `amd64`, `arm64`, …
    pub(crate) arch: String,
    /// The kernel's version.
    pub(crate) kernel: Option<String>,
    /// The product: `Docker Engine - Community`, `Podman Engine`, …
    pub(crate) product: Option<String>,
}

/// A row of `GET /containers/json`.
pub(crate) fn summary(row: &Value) -> Summary {
    let labels = labels(&row["Labels"]);
    let status = text(row, "Status");
    Summary {
        id: text(row, "Id"),
        names: names(&row["Names"]),
        image: text(row, "Image"),
        image_id: text(row, "ImageID"),
        command: text(row, "Command"),
        state: text(row, "State"),
        // The field is in newer engines; the sentence in all.
        health: row["Health"]["Status"].as_str().and_then(health_word).or_else(|| health_of_status(&status)),
        status,
        created: row["Created"].as_i64(),
        ports: ports(&row["Ports"]),
        compose: Compose::read(&labels),
        labels,
        networks: attachments(&row["NetworkSettings"]["Networks"]),
        mounts: list(&row["Mounts"]).iter().map(mount).collect(),
    }
}

/// The document of `GET /containers/{id}/json`; `None` when it is not one.
pub(crate) fn container(document: &Value) -> Option<Container> {
    let id = document["Id"].as_str()?.to_owned();
    let state = &document["State"];
    let config = &document["Config"];
    let host = &document["HostConfig"];
    let labels = labels(&config["Labels"]);
    let running = flag(state, "Running");
    let started_at = moment(&state["StartedAt"]);
    Some(Container {
        id,
        name: text(document, "Name").trim_start_matches('/').to_owned(),
        image: text(config, "Image"),
        image_id: text(document, "Image"),
        restart_count: document["RestartCount"].as_u64(),
        tty: flag(config, "Tty"),
        compose: Compose::read(&labels),
        labels,
        restart_policy: restart_policy(&host["RestartPolicy"]),
        auto_remove: flag(host, "AutoRemove"),
        stop_timeout: config["StopTimeout"].as_i64(),
        log_driver: some_text(&host["LogConfig"]["Type"]),
        state: State {
            status: text(state, "Status"),
            running,
            paused: flag(state, "Paused"),
            restarting: flag(state, "Restarting"),
            // The engine says 0 while it runs and before the first run: no truth in either. One that could not be
            // started at all has a code and no start.
            exit_code: state["ExitCode"]
                .as_i64()
                .filter(|code| (!running || flag(state, "Restarting")) && (started_at.is_some() || *code != 0)),
            error: some_text(&state["Error"]),
            started_at,
            finished_at: moment(&state["FinishedAt"]),
            oom_killed: flag(state, "OOMKilled"),
            pid: state["Pid"].as_i64().filter(|pid| *pid > 0),
            health: state["Health"]["Status"].as_str().and_then(health_word),
        },
    })
}

/// A row of `GET /volumes`.
pub(crate) fn volume(row: &Value) -> Volume {
    Volume {
        name: text(row, "Name"),
        driver: text(row, "Driver"),
        mountpoint: some_text(&row["Mountpoint"]),
        scope: some_text(&row["Scope"]),
        created: some_text(&row["CreatedAt"]),
        labels: labels(&row["Labels"]),
        options: labels(&row["Options"]),
    }
}

/// A row of `GET /networks`.
pub(crate) fn network(row: &Value) -> Network {
    Network {
        id: text(row, "Id"),
        name: text(row, "Name"),
        driver: text(row, "Driver"),
        scope: some_text(&row["Scope"]),
        created: some_text(&row["Created"]),
        internal: flag(row, "Internal"),
        ipv6: flag(row, "EnableIPv6"),
        subnets: list(&row["IPAM"]["Config"])
            .iter()
            .filter_map(|range| {
                Some(Subnet { subnet: some_text(&range["Subnet"])?, gateway: some_text(&range["Gateway"]) })
            })
            .collect(),
        labels: labels(&row["Labels"]),
        options: labels(&row["Options"]),
    }
}

/// A list, or the empty one for `null` and anything else.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text field, or the empty text.
pub(crate) fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_default().to_owned()
}

/// A text that says something.
pub(crate) fn some_text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A field that is true only if it says so.
pub(crate) fn flag(object: &Value, field: &str) -> bool {
    object[field].as_bool().unwrap_or(false)
}

/// A map of texts; the engine says `null` for an empty one.
fn labels(value: &Value) -> Labels {
    let Some(map) = value.as_object() else { return Labels::new() };
    map.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// A time; the engine writes Go's zero time for "never".
fn moment(value: &Value) -> Option<String> {
    some_text(value).filter(|text| !text.starts_with("0001-01-01"))
}

/// `none` is the engine's word for "no health check".
fn health_word(word: &str) -> Option<String> {
    (!matches!(word, "" | "none")).then(|| word.to_owned())
}

/// Health out of the sentence `Up 3 hours (healthy)`.
fn health_of_status(status: &str) -> Option<String> {
    let inner = status.strip_suffix(')')?.rsplit_once('(')?.1;
    match inner {
        "healthy" | "unhealthy" => Some(inner.to_owned()),
        // `(Paused)` and `Exited (0) …` have parentheses too.
        _ => inner.strip_prefix("health: ").map(str::to_owned),
    }
}

/// The container's own names. `/other/alias` is what a linked container calls it.
fn names(value: &Value) -> Vec<String> {
    let all: Vec<&str> = list(value).iter().filter_map(Value::as_str).map(|n| n.trim_start_matches('/')).collect();
    let mut own: Vec<String> = all.iter().filter(|name| !name.contains('/')).map(|&name| name.to_owned()).collect();
    own.dedup();
    own
}

/// The policy as `docker run --restart` takes it.
fn restart_policy(policy: &Value) -> String {
    match (policy["Name"].as_str().unwrap_or_default(), policy["MaximumRetryCount"].as_u64()) {
        ("", _) => "no".to_owned(),
        ("on-failure", Some(tries)) if tries > 0 => format!("on-failure:{tries}"),
        (name, _) => name.to_owned(),
    }
}

/// Ports without repetition: the engine lists a port once per address family it is published on.
fn ports(value: &Value) -> Vec<Port> {
    let number = |field: &Value| field.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    let mut ports: Vec<Port> = list(value)
        .iter()
        .filter_map(|row| {
            let public = number(&row["PublicPort"]);
            Some(Port {
                private: number(&row["PrivatePort"])?,
                protocol: some_text(&row["Type"]).unwrap_or_else(|| "tcp".to_owned()),
                public,
                address: public.and_then(|_| some_text(&row["IP"])),
            })
        })
        .collect();
    ports.sort();
    ports.dedup();
    // Sorted by address last: 0.0.0.0 and :: of one mapping may have others between them.
    let everywhere: Vec<Port> = ports
        .iter()
        .filter(|port| port.address.as_deref() == Some("0.0.0.0"))
        .filter(|v4| ports.contains(&Port { address: Some("::".to_owned()), ..(*v4).clone() }))
        .cloned()
        .collect();
    for port in everywhere {
        ports.retain(|other| *other != Port { address: Some("::".to_owned()), ..port.clone() });
        if let Some(both) = ports.iter_mut().find(|other| **other == port) {
            both.address = Some("*".to_owned());
        }
    }
    ports
}

/// Networks by name, sorted.
fn attachments(value: &Value) -> Vec<Attachment> {
    let Some(map) = value.as_object() else { return Vec::new() };
    let mut networks: Vec<Attachment> = map
        .iter()
        .map(|(network, at)| Attachment {
            network: network.clone(),
            address: some_text(&at["IPAddress"]).or_else(|| some_text(&at["GlobalIPv6Address"])),
        })
        .collect();
    networks.sort_by(|a, b| a.network.cmp(&b.network));
    networks
}

/// One mount. A volume is named by its name, not by its folder on the host.
fn mount(row: &Value) -> Mount {
    Mount {
        kind: text(row, "Type"),
        source: some_text(&row["Name"]).unwrap_or_else(|| text(row, "Source")),
        target: text(row, "Destination"),
        writable: flag(row, "RW"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(rows: Value) -> Vec<String> {
        ports(&rows).iter().map(Port::to_string).collect()
    }

    #[test]
    fn ports_keep_their_address_and_merge_both_families() {
        assert_eq!(
            shown(json!([
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
                {"IP": "::", "PrivatePort": 53, "PublicPort": 53, "Type": "tcp"},
                {"IP": "::1", "PrivatePort": 90, "PublicPort": 90, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
                {"PrivatePort": 0, "Type": "tcp"},
            ])),
            [
                "[::]:53->53/tcp",
                "0.0.0.0:53->53/udp",
                "*:8080->80/tcp",
                "127.0.0.1:8080->80/tcp",
                "[::1]:90->90/tcp",
                "443/tcp"
            ]
        );
        assert_eq!(shown(Value::Null), Vec::<String>::new());
    }

    #[test]
    fn health_is_read_from_field_or_sentence() {
        let health = |row: Value| summary(&row).health;
        assert_eq!(health(json!({"Status": "Up 3 hours (healthy)"})).as_deref(), Some("healthy"));
        assert_eq!(health(json!({"Status": "Up 3 hours (unhealthy)"})).as_deref(), Some("unhealthy"));
        assert_eq!(health(json!({"Status": "Up 1 second (health: starting)"})).as_deref(), Some("starting"));
        assert_eq!(health(json!({"Status": "Up 3 hours (Paused)"})), None);
        assert_eq!(health(json!({"Status": "Exited (0) 2 days ago"})), None);
        assert_eq!(health(json!({"Status": "Up", "Health": {"Status": "none"}})), None);
        assert_eq!(health(json!({"Status": "Up", "Health": {"Status": "starting"}})).as_deref(), Some("starting"));
    }

    #[test]
    fn a_link_alias_is_not_a_name() {
        let row = json!({"Id": "a", "Names": ["/web/db", "/db"], "Labels": null, "Ports": null, "Mounts": null});
        let row = summary(&row);
        assert_eq!(row.names, ["db"]);
        assert_eq!(row.compose, None);
    }

    #[test]
    fn an_exit_code_is_said_only_after_a_run() {
        let code = |state: Value| container(&json!({"Id": "a", "State": state})).unwrap().state.exit_code;
        assert_eq!(code(json!({"Running": true, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z"})), None);
        assert_eq!(code(json!({"Running": false, "ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z"})), None);
        assert_eq!(code(json!({"Running": false, "ExitCode": 127, "StartedAt": "0001-01-01T00:00:00Z"})), Some(127));
        assert_eq!(code(json!({"Running": false, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z"})), Some(0));
        assert_eq!(
            code(json!({"Running": true, "Restarting": true, "ExitCode": 3, "StartedAt": "2026-01-01T00:00:00Z"})),
            Some(3)
        );
    }

    #[test]
    fn compose_is_read_from_its_labels() {
        let document = json!({"Id": "a", "Name": "/media-web-1", "Config": {"Labels": {
            "com.docker.compose.project": "media",
            "com.docker.compose.service": "web",
            "com.docker.compose.project.working_dir": "/opt/stacks/media",
            "com.docker.compose.project.config_files": "/opt/stacks/media/compose.yaml,/opt/stacks/media/over.yaml",
        }}, "HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}});
        let container = container(&document).unwrap();
        assert_eq!(container.restart_policy, "on-failure:3");
        assert_eq!(
            container.compose.unwrap(),
            Compose {
                project: "media".into(),
                service: Some("web".into()),
                working_dir: Some("/opt/stacks/media".into()),
                config_files: vec!["/opt/stacks/media/compose.yaml".into(), "/opt/stacks/media/over.yaml".into()],
            }
        );
    }
}
