//! A request's way: method, token, body, path, parameters, privileges, node, daemon; each may end it.
//!
//! The order is the vendor's, and it shows: who lacks a privilege does not learn that the VM does not exist, and a
//! bad parameter to a node that is down is a 595.

use super::access::Token;
use super::cluster::Cluster;
use super::guards::{Attempt, config_file, refused_by_the_request};
use super::model::{Daemon, Guest, Kind, NodeState, Run, Unreachable};
use super::profile::Profile;
use super::refusal::Refusal;
use super::rules::{Action, Change, Needs, RULES, Rule, truth};
use super::tasks::{Job, Verb, is_upid};
use crate::{Reply, Request};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// A form may have this many bytes.
const LONGEST_FORM: usize = 512 << 10;
/// The vendor waits this many of its seconds before it says 401.
const DELAY_OF_401: u32 = 3;
const DELAY_OF_NO_ROUTE: u32 = 3;
const PATIENCE_WITH_DAEMON: u32 = 30;
const REQUESTS_PER_CONNECTION: usize = 100;

/// Answers as the member `local`.
pub(crate) fn answer(cluster: &mut Cluster, local: &str, request: &Request) -> Reply {
    let now = Instant::now();
    cluster.advance(now);
    let last = request.nth >= REQUESTS_PER_CONNECTION
        || request.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    match (Call { cluster, local, request, now }).run() {
        Ok(answer) => {
            let kept = if last { "close" } else { "Keep-Alive" };
            let connection: &[&str] = if answer.proxied { &["close", kept] } else { &[kept] };
            let mut reply = super::dress(Reply::empty(200), connection);
            reply.headers.push(("Content-Type".into(), super::JSON.into()));
            reply.body = Value::Object(answer.body).to_string().into_bytes();
            reply.close = last;
            reply
        }
        Err(refusal) => refusal.reply(cluster.profile),
    }
}

/// A success.
struct Answer {
    body: Map<String, Value>,
    proxied: bool,
}

/// `data`, maybe with `total` beside it.
enum Data {
    Plain(Value),
    Paged(Value, usize),
}

impl From<Value> for Data {
    fn from(data: Value) -> Self {
        Self::Plain(data)
    }
}

type Parameters = BTreeMap<String, String>;

struct Call<'a> {
    cluster: &'a mut Cluster,
    local: &'a str,
    request: &'a Request,
    now: Instant,
}

impl Call<'_> {
    fn run(&mut self) -> Result<Answer, Refusal> {
        let method = self.request.method.as_str();
        if !["GET", "POST", "PUT", "DELETE"].contains(&method) {
            return Err(Refusal::bare(501, format!("method '{method}' not available")));
        }
        if self.request.header("Transfer-Encoding").is_some() {
            return Err(Refusal::plain(501, "chunked transfer encoding not supported"));
        }
        // Bytes as characters, and slashes out of `%2f` too: this is what gets routed.
        let path: String = unescape(self.request.path()).into_iter().map(char::from).collect();
        let Some(below) = path.strip_prefix("/api2/") else {
            return Err(Refusal::plain(500, format!("no such file '{path}'\n")));
        };
        let (format, path) = below.split_once('/').unwrap_or((below, ""));
        let token = self.authenticate()?;
        let given = self.parameters()?;
        if format != "json" {
            return Err(Refusal::plain(501, format!("no formatter for uri /{path}, {format}")));
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let found = RULES.iter().find_map(|rule| Some((rule, rule.matches(method, &segments)?)));
        let Some((rule, captured)) = found else {
            return Err(Refusal::not_implemented(method, &format!("/{path}")));
        };
        let parameters = merge(given, &captured)?;
        self.check_needs(rule, &token, &parameters)?;
        let node = self.resolve_node(&parameters)?;
        let proxied = rule.daemon || node.as_deref().is_some_and(|node| node != self.local);
        let hung = self.check_daemon(rule)?;
        self.validate(rule, &parameters)?;
        let data = self.act(rule.action, &token, node.as_deref().unwrap_or(self.local), &parameters);
        if hung {
            let wait = self.cluster.times.second * PATIENCE_WITH_DAEMON;
            return Err(Refusal::bare(596, "Connection timed out").after(wait));
        }
        let body = match data? {
            Data::Plain(data) => Map::from_iter([("data".to_owned(), data)]),
            Data::Paged(data, total) => Map::from_iter([("data".to_owned(), data), ("total".to_owned(), json!(total))]),
        };
        Ok(Answer { body, proxied })
    }

    fn authenticate(&self) -> Result<Token, Refusal> {
        let refuse = |reason: String| Err(Refusal::bare(401, reason).after(self.cluster.times.second * DELAY_OF_401));
        let given = self.request.header("Authorization").and_then(|value| {
            let value = value.strip_prefix("PVEAPIToken")?;
            value.strip_prefix(['=', ' '])
        });
        let Some(given) = given else { return refuse("No ticket".into()) };
        let hidden = "Authentication failed!";
        // The last `=` is the one between ID and secret.
        let Some((id, secret)) = given.rsplit_once('=') else { return refuse(hidden.into()) };
        match self.cluster.tokens.iter().find(|token| token.id == id) {
            Some(token) if token.secret == secret => Ok(token.clone()),
            _ if self.cluster.profile.hides_why_authentication_failed() => refuse(hidden.into()),
            Some(_) => refuse("invalid token value!".into()),
            None => {
                let (user, name) = id.split_once('!').unwrap_or((id, ""));
                refuse(format!("no such token '{name}' for user '{user}'"))
            }
        }
    }

    /// From the query, and for POST and PUT from the body.
    fn parameters(&self) -> Result<Parameters, Refusal> {
        let mut parameters = parse_form(self.request.query());
        let body = &self.request.body;
        let method = self.request.method.as_str();
        if body.is_empty() {
            return Ok(parameters);
        }
        if !["POST", "PUT"].contains(&method) {
            return Err(Refusal::plain(501, format!("Unexpected content for method '{method}'")));
        }
        let kind = self.request.header("Content-Type").unwrap_or("application/x-www-form-urlencoded");
        if body.len() > LONGEST_FORM {
            return Err(Refusal::plain(501, "for data too large"));
        }
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/x-www-form-urlencoded" => parameters.extend(parse_form(&String::from_utf8_lossy(body))),
            "application/json" => parameters.extend(parse_json(body)?),
            kind => return Err(Refusal::plain(506, format!("upload 'Content-Type '{kind}' not implemented"))),
        }
        Ok(parameters)
    }

    fn check_needs(&self, rule: &Rule, token: &Token, parameters: &Parameters) -> Result<(), Refusal> {
        let Needs::AnyOf(path, privileges) = rule.needs else { return Ok(()) };
        let mut path = path.to_owned();
        for (name, value) in parameters {
            // "localhost" is another name of the node that was asked.
            let value = if name == "node" && value == "localhost" { self.local } else { value };
            path = path.replace(&format!("{{{name}}}"), value);
        }
        if privileges.iter().any(|privilege| self.may(token, &path, privilege)) {
            return Ok(());
        }
        Err(Refusal::permission(&path, privileges))
    }

    /// A guest's pool counts as well as the guest.
    fn may(&self, token: &Token, path: &str, privilege: &str) -> bool {
        let profile = self.cluster.profile;
        let guest = path.strip_prefix("/vms/").and_then(|vmid| self.cluster.guests.get(&vmid.parse().ok()?));
        let pool = guest.and_then(|guest| guest.pool.as_deref());
        token.privileges.has(profile, path, privilege)
            || pool.is_some_and(|pool| token.privileges.has(profile, &format!("/pool/{pool}"), privilege))
    }

    /// The node that is to answer; where it cannot be reached, the member says so in its place.
    fn resolve_node(&self, parameters: &Parameters) -> Result<Option<String>, Refusal> {
        let Some(name) = parameters.get("node") else { return Ok(None) };
        if name == "localhost" || name == self.local {
            return Ok(Some(self.local.to_owned()));
        }
        let Some(node) = self.cluster.node(name) else {
            let looks_like_an_address = name.parse::<std::net::IpAddr>().is_ok();
            return Err(Refusal::dies(if looks_like_an_address {
                format!("address lookup for '{name}' did not find any IP address")
            } else {
                format!(
                    "hostname lookup '{name}' failed - failed to get address info for: {name}: \
                     Name or service not known"
                )
            }));
        };
        match node.state {
            NodeState::Offline(Unreachable::ConnectionRefused) => Err(Refusal::bare(595, "Connection refused")),
            NodeState::Offline(Unreachable::NoRoute) => {
                let wait = self.cluster.times.second * DELAY_OF_NO_ROUTE;
                Err(Refusal::bare(595, "No route to host").after(wait))
            }
            NodeState::Online | NodeState::Booting => Ok(Some(node.name.clone())),
        }
    }

    /// Whether the daemon hangs: the request is going to be carried out, but not to be answered in time.
    fn check_daemon(&self, rule: &Rule) -> Result<bool, Refusal> {
        match self.cluster.daemon {
            Daemon::Down if rule.daemon => Err(Refusal::bare(595, "Connection refused")),
            Daemon::Hung => Ok(rule.daemon),
            Daemon::Up | Daemon::Down => Ok(false),
        }
    }

    fn validate(&self, rule: &Rule, given: &Parameters) -> Result<(), Refusal> {
        let known =
            |name: &str| rule.parameters.iter().find(|known| known.name == name && known.since <= self.cluster.profile);
        let mut errors = Vec::new();
        for (name, value) in given.iter().filter(|(name, _)| *name != "node") {
            match known(name) {
                Some(parameter) => errors.extend(parameter.shape.fault(value).map(|text| (name.clone(), text))),
                None => errors.push((
                    name.clone(),
                    "property is not defined in schema and the schema does not allow additional properties".into(),
                )),
            }
        }
        for parameter in rule.parameters.iter().filter(|parameter| !parameter.optional) {
            if !given.contains_key(parameter.name) {
                errors.push((parameter.name.into(), "property is missing and it is not optional".into()));
            }
        }
        if !errors.is_empty() {
            return Err(Refusal::parameters(errors));
        }
        // root@pam itself has no token that is it.
        let given_root_only = rule.parameters.iter().find(|parameter| {
            parameter.root_only && given.get(parameter.name).is_some_and(|value| truth(value) != Some(false))
        });
        match given_root_only {
            Some(parameter) => Err(Refusal::parameter(parameter.name, "Only root may use this option.")),
            None => Ok(()),
        }
    }

    fn act(&mut self, action: Action, token: &Token, node: &str, given: &Parameters) -> Result<Data, Refusal> {
        let now = self.cluster.epoch(self.now);
        let profile = self.cluster.profile;
        Ok(match action {
            Action::Root => subdirectories(&["version", "cluster", "nodes", "storage", "access", "pools"]).into(),
            Action::Version | Action::NodeVersion => {
                json!({"release": profile.release(), "version": profile.version(), "repoid": profile.repoid()}).into()
            }
            Action::Resources => self.resources(token, given.get("type").map(String::as_str), now).into(),
            Action::ClusterStatus => self.cluster.status(self.local).into(),
            Action::ClusterTasks => {
                let own = self.cluster.tasks.iter().rev().filter(|task| self.sees_task(token, &task.node, &task.user));
                Value::Array(own.take(25).map(|task| task.cluster_row()).collect()).into()
            }
            Action::NextId => self.next_id(given)?.into(),
            Action::HaStatus => self.cluster.ha_status(self.local, now).into(),
            Action::HaResources => self.cluster.ha_resources().into(),
            Action::Nodes => {
                let rows = self.cluster.nodes.iter().map(|node| {
                    let audited = self.may(token, &format!("/nodes/{}", node.name), "Sys.Audit");
                    self.cluster.node_row(node, audited, false, now)
                });
                Value::Array(rows.collect()).into()
            }
            Action::NodeStatus => match self.cluster.node(node) {
                Some(node) => self.cluster.node_status(node, now).into(),
                None => return Err(Refusal::dies("no such node")),
            },
            Action::Guests(kind) => {
                let full = given.get("full").and_then(|value| truth(value)).unwrap_or(false);
                let guests = self.cluster.guests.values().filter(|guest| guest.kind == kind && guest.node == node);
                let visible = guests.filter(|guest| self.sees_guest(token, guest.vmid));
                Value::Array(visible.map(|guest| Value::Object(self.cluster.guest_row(guest, full, now))).collect())
                    .into()
            }
            Action::GuestIndex(_) => subdirectories(&["config", "status", "snapshot"]).into(),
            Action::Config(kind) => {
                let guest = self.guest(node, kind, given)?;
                let applied = given.get("current").and_then(|value| truth(value)).unwrap_or(false);
                match given.get("snapshot") {
                    Some(name) if !guest.snapshots.iter().any(|snapshot| snapshot.name == *name) => {
                        return Err(Refusal::dies(format!("snapshot '{name}' does not exist")));
                    }
                    _ => self.cluster.config(guest, applied).into(),
                }
            }
            Action::Current(kind) => self.cluster.current(self.guest(node, kind, given)?, now).into(),
            Action::Snapshots(kind) => self.cluster.snapshots(self.guest(node, kind, given)?).into(),
            Action::Change(kind, change) => self.change(token, node, kind, change, given)?.into(),
            Action::Storages => self.storages(token, node, given).into(),
            Action::StorageStatus => {
                let name = text(given, "storage");
                match self.cluster.storage(name).filter(|storage| storage.is_on(node)) {
                    Some(storage) => self.cluster.storage_row(storage, false).into(),
                    None => return Err(Refusal::parameter("storage", "No such storage.")),
                }
            }
            Action::StorageContent => self.storage_content(token, node, given)?.into(),
            Action::StorageConfig => self.storage_config(token).into(),
            Action::Tasks => self.tasks(token, node, given),
            Action::TaskIndex => json!([{"name": "log"}, {"name": "status"}]).into(),
            Action::TaskStatus => self.task_status(token, node, given)?.into(),
            Action::TaskLog => self.task_log(token, node, given)?,
            Action::TaskStop => {
                let upid = self.upid(token, node, given, "Sys.Modify")?;
                self.cluster.stop_task(&upid, self.now);
                Value::Null.into()
            }
            Action::Permissions => self.permissions(token, given).into(),
        })
    }

    fn guest(&self, node: &str, kind: Kind, given: &Parameters) -> Result<&Guest, Refusal> {
        let vmid = number(given, "vmid").unwrap_or_default();
        self.cluster.guest_on(node, kind, vmid).ok_or_else(|| {
            Refusal::dies(format!("Configuration file '{}' does not exist", config_file(node, kind, vmid)))
        })
    }

    fn sees_guest(&self, token: &Token, vmid: u32) -> bool {
        self.may(token, &format!("/vms/{vmid}"), "VM.Audit")
    }

    fn sees_task(&self, token: &Token, node: &str, started_by: &str) -> bool {
        token.owns(started_by) || self.may(token, &format!("/nodes/{node}"), "Sys.Audit")
    }

    fn sees_storage(&self, token: &Token, name: &str) -> bool {
        let path = format!("/storage/{name}");
        ["Datastore.Audit", "Datastore.AllocateSpace"].iter().any(|privilege| self.may(token, &path, privilege))
    }

    fn resources(&self, token: &Token, only: Option<&str>, now: i64) -> Value {
        let wants = |kind: &str| only.is_none_or(|only| only == kind);
        let cluster = &*self.cluster;
        let mut rows = Vec::new();
        if only.is_none() {
            let pools: std::collections::BTreeSet<&str> =
                cluster.guests.values().filter_map(|guest| guest.pool.as_deref()).collect();
            let visible = pools.into_iter().filter(|pool| self.may(token, &format!("/pool/{pool}"), "Pool.Audit"));
            rows.extend(visible.map(|pool| json!({"id": format!("/pool/{pool}"), "type": "pool", "pool": pool})));
        }
        if wants("vm") {
            let visible = cluster.published_guests().values().filter(|guest| self.sees_guest(token, guest.vmid));
            rows.extend(visible.map(|guest| cluster.guest_resource(guest, now)));
        }
        if wants("node") {
            rows.extend(cluster.nodes.iter().map(|node| {
                let audited = self.may(token, &format!("/nodes/{}", node.name), "Sys.Audit");
                cluster.node_row(node, audited, true, now)
            }));
        }
        if wants("storage") {
            for storage in cluster.storages.iter().filter(|s| s.enabled && self.sees_storage(token, &s.name)) {
                let nodes = cluster.nodes.iter().filter(|node| storage.is_on(&node.name));
                rows.extend(nodes.map(|node| cluster.storage_resource(storage, node)));
            }
        }
        if wants("sdn") && cluster.profile >= Profile::V8_4 && self.may(token, "/sdn", "SDN.Audit") {
            rows.extend(cluster.nodes.iter().map(|node| {
                let node = &node.name;
                if cluster.profile >= Profile::V9_0 {
                    json!({"id": format!("network/{node}/zone/localnetwork"), "type": "network", "node": node,
                        "network-type": "zone", "network": "localnetwork", "status": "ok"})
                } else {
                    json!({"id": format!("sdn/{node}/localnetwork"), "type": "sdn", "node": node,
                        "sdn": "localnetwork", "status": "ok"})
                }
            }));
        }
        Value::Array(rows)
    }

    fn next_id(&self, given: &Parameters) -> Result<Value, Refusal> {
        let taken = |vmid: u32| self.cluster.guests.contains_key(&vmid);
        match number(given, "vmid") {
            Some(vmid) if taken(vmid) => Err(Refusal::parameter("vmid", format!("VM {vmid} already exists"))),
            Some(vmid) => Ok(json!(vmid.to_string())),
            None => Ok(json!((100..).find(|vmid| !taken(*vmid)).unwrap_or_default().to_string())),
        }
    }

    /// Starts a task, unless the request itself is refused.
    fn change(
        &mut self,
        token: &Token,
        node: &str,
        kind: Kind,
        change: Change,
        given: &Parameters,
    ) -> Result<Value, Refusal> {
        let vmid = number(given, "vmid").unwrap_or_default();
        let verb = verb(change, given);
        let attempt = Attempt { node, kind, vmid, verb: &verb, pid: 0 };
        if let Some(text) = refused_by_the_request(self.cluster, attempt) {
            return Err(Refusal::dies(text));
        }
        let guest = self.cluster.guest_on(node, kind, vmid);
        let managed = guest.is_some_and(|guest| guest.ha.is_some());
        let job = match &verb {
            Verb::Start if managed => Job::Manage { vmid, state: "started" },
            Verb::Stop { overrule: true } if managed => {
                return Err(Refusal::parameter("overrule-shutdown", "Not applicable for HA resources."));
            }
            Verb::Stop { .. } | Verb::Shutdown { .. } if managed => Job::Manage { vmid, state: "stopped" },
            _ => {
                // A paused VM that is shut down by force is stopped instead.
                let paused = guest.is_some_and(|guest| matches!(guest.run, Run::Paused(_)));
                let stops = paused && matches!(verb, Verb::Shutdown { .. });
                Job::Guest { kind, vmid, verb: if stops { Verb::Stop { overrule: false } } else { verb } }
            }
        };
        Ok(json!(self.cluster.start_task(node, &token.id, job, self.now)))
    }

    fn storages(&self, token: &Token, node: &str, given: &Parameters) -> Value {
        let enabled = given.get("enabled").and_then(|value| truth(value)).unwrap_or(false);
        let wanted: Option<Vec<&str>> = given.get("content").map(|content| content.split([',', ';', ' ']).collect());
        let fits = |content: &[&str]| wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|w| content.contains(w)));
        let rows = self.cluster.storages.iter().filter(|storage| {
            storage.is_on(node)
                && (storage.enabled || !enabled)
                && fits(storage.content)
                && given.get("storage").is_none_or(|name| *name == storage.name)
                && self.sees_storage(token, &storage.name)
        });
        Value::Array(rows.map(|storage| self.cluster.storage_row(storage, true)).collect())
    }

    /// Rows of backups need more than reading the list of storages: `Datastore.Allocate`, or
    /// `Datastore.AllocateSpace` with `VM.Backup` on the guest; an auditor sees none (`check_volume_access`).
    fn storage_content(&self, token: &Token, node: &str, given: &Parameters) -> Result<Value, Refusal> {
        let name = text(given, "storage");
        let Some(storage) = self.cluster.storage(name) else {
            return Err(Refusal::dies(format!("storage '{name}' does not exist")));
        };
        if !storage.enabled {
            return Err(Refusal::dies(format!("storage '{name}' is disabled")));
        }
        if !storage.is_on(node) {
            return Err(Refusal::dies(format!("storage '{name}' is not available on node '{node}'")));
        }
        if !storage.active {
            return Err(Refusal::dies(format!("storage '{name}' is not online")));
        }
        let path = format!("/storage/{name}");
        let everything = self.may(token, &path, "Datastore.Allocate");
        let space = self.may(token, &path, "Datastore.AllocateSpace");
        let wanted = given.get("content").map(String::as_str);
        let vmid = number(given, "vmid");
        let mut rows = Vec::new();
        if wanted.is_none_or(|wanted| wanted == "backup") {
            let backups = self.cluster.backups.iter().filter(|backup| {
                backup.storage == name
                    && backup.node.as_deref().is_none_or(|on| on == node)
                    && vmid.is_none_or(|vmid| vmid == backup.vmid)
                    && (everything || (space && self.may(token, &format!("/vms/{}", backup.vmid), "VM.Backup")))
            });
            rows.extend(backups.map(|backup| backup.row(storage.plugin)));
        }
        if everything {
            let guests = self.cluster.guests.values();
            let disks = guests.flat_map(|guest| guest.disks.iter().map(move |disk| (guest, disk)));
            rows.extend(disks.filter_map(|(guest, disk)| {
                let content = if guest.kind == Kind::Vm { "images" } else { "rootdir" };
                let listed = disk.storage() == name
                    && (storage.shared || guest.node == node)
                    && vmid.is_none_or(|vmid| vmid == guest.vmid)
                    && wanted.is_none_or(|wanted| wanted == content);
                let format = disk.volume.rsplit_once('.').map_or("raw", |(_, ending)| ending);
                listed.then(|| {
                    json!({"volid": disk.volume, "content": content, "format": format, "size": disk.size,
                        "vmid": guest.vmid})
                })
            }));
        }
        Ok(Value::Array(rows))
    }

    fn storage_config(&self, token: &Token) -> Value {
        let visible = self.cluster.storages.iter().filter(|storage| self.sees_storage(token, &storage.name));
        let rows = visible.map(|storage| {
            let mut row = json!({"storage": storage.name, "type": storage.plugin,
                "content": storage.content.join(","), "digest": super::views::digest(&storage.name)});
            if storage.shared {
                row["shared"] = json!(1);
            }
            if !storage.enabled {
                row["disable"] = json!(1);
            }
            if !storage.nodes.is_empty() {
                row["nodes"] = json!(storage.nodes.join(","));
            }
            row
        });
        Value::Array(rows.collect())
    }

    fn tasks(&self, token: &Token, node: &str, given: &Parameters) -> Data {
        let source = given.get("source").map_or("archive", String::as_str);
        let errors = given.get("errors").and_then(|value| truth(value)).unwrap_or(false);
        let kinds: Option<Vec<&str>> = given.get("statusfilter").map(|filter| filter.split(',').collect());
        let rows: Vec<Value> = self
            .cluster
            .tasks
            .iter()
            .rev()
            .filter(|task| {
                let exit = task.exit();
                task.node == node
                    && self.sees_task(token, node, &task.user)
                    && match source {
                        "active" => exit.is_none(),
                        "archive" => exit.is_some(),
                        _ => true,
                    }
                    && (!errors || exit.is_some_and(|exit| exit != "OK"))
                    && kinds.as_ref().is_none_or(|kinds| exit.is_some_and(|exit| kinds.contains(&class(exit))))
                    && given.get("vmid").is_none_or(|vmid| *vmid == task.id)
                    && given.get("typefilter").is_none_or(|kind| *kind == task.kind)
                    && given.get("userfilter").is_none_or(|user| task.user.contains(user.as_str()))
                    && given.get("since").is_none_or(|since| since.parse().is_ok_and(|since| task.starttime >= since))
                    && given.get("until").is_none_or(|until| until.parse().is_ok_and(|until| task.starttime <= until))
            })
            .map(|task| task.node_row())
            .collect();
        let total = rows.len();
        Data::Paged(Value::Array(page(rows, given)), total)
    }

    fn task_status(&self, token: &Token, node: &str, given: &Parameters) -> Result<Value, Refusal> {
        let upid = self.upid(token, node, given, "Sys.Audit")?;
        let task = self.cluster.task(&upid).filter(|task| task.node == node);
        task.map(|task| task.status()).ok_or_else(|| Refusal::parameter("upid", "no such task"))
    }

    fn task_log(&self, token: &Token, node: &str, given: &Parameters) -> Result<Data, Refusal> {
        let upid = self.upid(token, node, given, "Sys.Audit")?;
        let Some(task) = self.cluster.task(&upid).filter(|task| task.node == node) else {
            // An object where a list is expected: so it is.
            let line = json!({"n": 1, "t": "unable to open file - No such file or directory"});
            return Ok(Data::Paged(line, 1));
        };
        let lines: Vec<Value> =
            task.lines().iter().enumerate().map(|(index, line)| json!({"n": index + 1, "t": line})).collect();
        let total = lines.len();
        Ok(Data::Paged(Value::Array(page(lines, given)), total))
    }

    /// A well-formed ID of a task that the token may look at; who started it is in the ID.
    fn upid(&self, token: &Token, node: &str, given: &Parameters, privilege: &'static str) -> Result<String, Refusal> {
        let upid = text(given, "upid");
        if !is_upid(upid) {
            return Err(Refusal::dies(format!("unable to parse worker upid '{upid}'")));
        }
        let started_by = upid.split(':').nth(7).unwrap_or_default();
        let path = format!("/nodes/{node}");
        if token.owns(started_by) || self.may(token, &path, privilege) {
            return Ok(upid.to_owned());
        }
        Err(Refusal::permission(&path, &[privilege]))
    }

    fn permissions(&self, token: &Token, given: &Parameters) -> Value {
        let profile = self.cluster.profile;
        let default = ["/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"];
        let paths: std::collections::BTreeSet<&str> = match given.get("path") {
            Some(path) => [path.as_str()].into(),
            None => default.into_iter().chain(token.privileges.paths()).collect(),
        };
        let rows = paths.into_iter().filter_map(|path| {
            let privileges = token.privileges.all_on(profile, path);
            let row = privileges.into_iter().map(|privilege| (privilege.to_owned(), json!(1)));
            let row: Map<String, Value> = row.collect();
            (!row.is_empty()).then(|| (path.to_owned(), Value::Object(row)))
        });
        Value::Object(rows.collect())
    }
}

fn verb(change: Change, given: &Parameters) -> Verb {
    let flag = |name: &str| given.get(name).and_then(|value| truth(value)).unwrap_or(false);
    let name = || text(given, "snapname").to_owned();
    let timeout = number(given, "timeout").unwrap_or(60);
    match change {
        Change::Start => Verb::Start,
        Change::Stop => Verb::Stop { overrule: flag("overrule-shutdown") },
        Change::Shutdown => Verb::Shutdown { timeout, force: flag("forceStop") },
        Change::Reboot => Verb::Reboot { timeout },
        Change::Suspend => Verb::Suspend,
        Change::Resume => Verb::Resume,
        Change::Reset => Verb::Reset,
        Change::Snapshot => {
            let description = text(given, "description").to_owned();
            Verb::Snapshot { name: name(), description, vmstate: flag("vmstate") }
        }
        Change::DeleteSnapshot => Verb::DeleteSnapshot { name: name() },
        Change::Rollback => Verb::Rollback { name: name(), start: flag("start") },
        Change::Destroy => Verb::Destroy { purge: flag("purge"), force: flag("force") },
    }
}

/// As `statusfilter` sorts them.
fn class(exit: &str) -> &'static str {
    match exit {
        "OK" => "ok",
        _ if exit.starts_with("WARNINGS: ") => "warning",
        _ if exit.starts_with("unexpected status") || exit.starts_with("unable to read tail") => "unknown",
        _ => "error",
    }
}

fn page(rows: Vec<Value>, given: &Parameters) -> Vec<Value> {
    let start = number(given, "start").unwrap_or(0) as usize;
    let limit = match number(given, "limit").unwrap_or(50) {
        0 => usize::MAX,
        limit => limit as usize,
    };
    rows.into_iter().skip(start).take(limit).collect()
}

fn subdirectories(names: &[&str]) -> Value {
    Value::Array(names.iter().map(|name| json!({ "subdir": name })).collect())
}

fn text<'a>(given: &'a Parameters, name: &str) -> &'a str {
    given.get(name).map_or("", String::as_str)
}

fn number(given: &Parameters, name: &str) -> Option<u32> {
    given.get(name)?.parse().ok()
}

/// What the path says must not be said differently elsewhere.
fn merge(mut given: Parameters, captured: &[(&'static str, &str)]) -> Result<Parameters, Refusal> {
    for &(name, value) in captured {
        if let Some(other) = given.insert(name.to_owned(), value.to_owned())
            && other != value
        {
            return Err(Refusal::parameter(name, "duplicate parameter (already defined in URI)"));
        }
    }
    Ok(given)
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn parse_form(text: &str) -> Parameters {
    let decode = |text: &str| String::from_utf8_lossy(&unescape(&text.replace('+', " "))).into_owned();
    text.split(['&', ';'])
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn parse_json(body: &[u8]) -> Result<Parameters, Refusal> {
    let perl = "at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line";
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        let text = "malformed JSON string, neither tag, array, object, number, string or atom, at character offset 0";
        return Err(Refusal::plain(500, format!("{text} {perl} 917.\n")));
    };
    let Value::Object(body) = body else {
        return Err(Refusal::plain(500, format!("Not a HASH reference {perl} 957.\n")));
    };
    let parameters = body.into_iter().filter_map(|(name, value)| {
        let value = match value {
            Value::Null => return None,
            Value::Bool(value) => u8::from(value).to_string(),
            Value::Number(value) => value.to_string(),
            Value::String(value) => value,
            Value::Array(_) => "ARRAY(0x5581a0c3e1b8)".to_owned(),
            Value::Object(_) => "HASH(0x5581a0c3e1b8)".to_owned(),
        };
        Some((name, value))
    });
    Ok(parameters.collect())
}
