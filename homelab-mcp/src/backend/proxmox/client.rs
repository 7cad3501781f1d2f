//! How Proxmox VE wants it: paths, the token, forms, and where each version puts the text of an error. Before 8.3 that is
//! the reason phrase alone; 401, 595 and 596 have nothing else in any version.

use std::fmt::Display;

use serde_json::Value;
use shared::Secret;

use super::{
    model::{
        At, Backup, Cluster, Config, Current, GuestType, Node, Permissions, Resources, Snapshot, StorageId, rows, text,
    },
    task::{Upid, says_gone},
};
use crate::{
    config::appliances,
    error::{Fault, Kind},
    http::{
        Door, Request, Response,
        text::{encode, vendor_text},
    },
    proof,
};

/// Longest list of a guest's tasks that is compared.
const TASKS: usize = 50;

/// The client of one Proxmox VE cluster, or of one host in none.
pub(crate) struct Proxmox {
    door: Door,
    /// `PVEAPIToken=ID=SECRET`.
    authorization: Secret,
    token_id: String,
}

/// What to do to a guest's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Start,
    /// At once. `overrule`: end shutdowns of it that still wait (8.2 and later).
    Stop {
        overrule: bool,
    },
    /// By asking the guest, for so many seconds; then by force, if so.
    Shutdown {
        timeout: Option<u32>,
        force: bool,
    },
    Reboot {
        timeout: Option<u32>,
    },
}

/// What a snapshot is to be.
#[derive(Clone, Debug)]
pub(super) struct NewSnapshot {
    pub(super) name: String,
    pub(super) description: Option<String>,
    /// With the memory; VMs only.
    pub(super) vmstate: bool,
}

impl Proxmox {
    pub(crate) fn new(config: &appliances::Proxmox) -> Self {
        let authorization = format!("PVEAPIToken={}={}", config.token_id, config.token_secret.expose());
        Self {
            door: Door::new(&config.address),
            authorization: Secret::new(authorization),
            token_id: config.token_id.clone(),
        }
    }

    /// The member that answered last.
    pub(super) fn place(&self) -> String {
        self.door.place()
    }

    /// `user@realm!name`, as tasks of ours are signed.
    pub(super) fn token_id(&self) -> &str {
        &self.token_id
    }

    // --- reads ------------------------------------------------------------------------------

    /// The running version: `8.4.21`.
    pub(super) async fn version(&self) -> Result<String, Fault> {
        let data = self.get("/version").await?;
        text(&data, "version").or_else(|| text(&data, "release")).ok_or_else(|| not_a("version"))
    }

    /// All there is in the cluster, at most ten seconds old; of one kind (`vm`, `node`, `storage`) if asked.
    pub(super) async fn resources(&self, only: Option<&'static str>) -> Result<Resources, Fault> {
        let path = match only {
            Some(kind) => format!("/cluster/resources?type={kind}"),
            None => "/cluster/resources".to_owned(),
        };
        Resources::read(&self.get(&path).await?).ok_or_else(|| not_a("list of resources"))
    }

    /// The cluster's name and quorum; needs Sys.Audit.
    pub(super) async fn cluster(&self) -> Result<Cluster, Fault> {
        Cluster::read(&self.get("/cluster/status").await?).ok_or_else(|| not_a("cluster status"))
    }

    /// What our token may do.
    pub(super) async fn permissions(&self) -> Result<Permissions, Fault> {
        Permissions::read(&self.get("/access/permissions").await?).ok_or_else(|| not_a("list of permissions"))
    }

    /// A guest as it is now. One that is not there (any more) is [`Kind::NotFound`].
    pub(super) async fn current(&self, at: &At) -> Result<Current, Fault> {
        Current::read(&self.get(&format!("{}/status/current", base(at))).await?).ok_or_else(|| not_a("guest's status"))
    }

    /// A guest's configuration as it is in force, without what waits for the next start. Holds secrets.
    pub(super) async fn config(&self, at: &At) -> Result<Config, Fault> {
        match self.get(&format!("{}/config?current=1", base(at))).await? {
            Value::Object(config) => Ok(config),
            _ => Err(not_a("configuration")),
        }
    }

    pub(super) async fn snapshots(&self, at: &At) -> Result<Vec<Snapshot>, Fault> {
        Snapshot::list(&self.get(&format!("{}/snapshot", base(at))).await?).ok_or_else(|| not_a("list of snapshots"))
    }

    /// The backups on a storage as a node sees it. Those that our token may not see are left out by the server.
    pub(super) async fn backups(
        &self,
        node: &Node,
        storage: &StorageId,
        vmid: Option<u32>,
    ) -> Result<Vec<Backup>, Fault> {
        let of = vmid.map_or_else(String::new, |vmid| format!("&vmid={vmid}"));
        let path = format!("/nodes/{node}/storage/{storage}/content?content=backup{of}");
        Backup::list(&self.get(&path).await?).ok_or_else(|| not_a("list of backups"))
    }

    /// Volumes of guests on a storage, each with the volume it was cloned from.
    pub(super) async fn clones(&self, node: &Node, storage: &StorageId) -> Result<Vec<(String, String)>, Fault> {
        let data = self.get(&format!("/nodes/{node}/storage/{storage}/content")).await?;
        let volumes = rows(&data).ok_or_else(|| not_a("list of volumes"))?;
        Ok(volumes.iter().filter_map(|row| Some((text(row, "volid")?, text(row, "parent")?))).collect())
    }

    /// The newest tasks of a guest, running ones included.
    pub(super) async fn tasks(&self, at: &At) -> Result<Vec<Upid>, Fault> {
        let path = format!("/nodes/{}/tasks?vmid={}&source=all&limit={TASKS}", at.node, at.vmid);
        let data = self.get(&path).await?;
        let tasks = rows(&data).ok_or_else(|| not_a("list of tasks"))?;
        Ok(tasks.iter().filter_map(|row| Upid::parse(row.get("upid")?.as_str()?)).collect())
    }

    /// The status object of a task.
    pub(super) async fn task(&self, upid: &Upid) -> Result<Value, Fault> {
        self.get(&format!("/nodes/{}/tasks/{}/status", upid.node, encode(&upid.text))).await
    }

    /// Lines of a task's log from `start` on, and how many there are in all.
    pub(super) async fn log(&self, upid: &Upid, start: usize, limit: usize) -> Result<(Vec<String>, usize), Fault> {
        let path = format!("/nodes/{}/tasks/{}/log?start={start}&limit={limit}", upid.node, encode(&upid.text));
        let answer = self.answer(&path).await?;
        // Of a log that is gone there is an object in place of the list; of one without lines there is one that says so.
        let lines = answer.get("data").and_then(rows).unwrap_or_default().iter().filter_map(|row| text(row, "t"));
        let lines: Vec<_> = lines.filter(|line| line != "no content").collect();
        let total = super::model::whole(&answer, "total").and_then(|total| usize::try_from(total).ok());
        Ok((lines, total.unwrap_or(0)))
    }

    async fn get(&self, path: &str) -> Result<Value, Fault> {
        Ok(self.answer(path).await?.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// The whole answer.
    async fn answer(&self, path: &str) -> Result<Value, Fault> {
        let response = self.door.read(self.signed(Request::get(format!("/api2/json{path}")))).await?;
        if !response.is_success() {
            return Err(refusal(&response, path, false));
        }
        response.json()
    }

    fn signed(&self, request: Request) -> Request {
        request.secret_header("authorization", self.authorization.clone())
    }

    // --- changes ----------------------------------------------------------------------------

    /// Asks for a change of power; the task tells what becomes of it.
    pub(super) async fn power(&self, proof: &proof::Change, at: &At, power: &Power) -> Result<Upid, Fault> {
        let (word, form) = match power {
            Power::Start => ("start", vec![]),
            Power::Stop { overrule: false } => ("stop", vec![]),
            Power::Stop { overrule: true } => ("stop", vec![("overrule-shutdown", "1".to_owned())]),
            Power::Shutdown { timeout, force } => {
                let mut form: Vec<_> = timeout.iter().map(|seconds| ("timeout", seconds.to_string())).collect();
                form.extend(force.then(|| ("forceStop", "1".to_owned())));
                ("shutdown", form)
            }
            Power::Reboot { timeout } => {
                ("reboot", timeout.iter().map(|seconds| ("timeout", seconds.to_string())).collect())
            }
        };
        self.post(proof, &format!("{}/status/{word}", base(at)), form).await
    }

    /// Asks for a snapshot.
    pub(super) async fn snapshot(&self, proof: &proof::Change, at: &At, new: &NewSnapshot) -> Result<Upid, Fault> {
        let mut form = vec![("snapname", new.name.clone())];
        form.extend(new.description.iter().map(|text| ("description", text.clone())));
        // Containers do not know the parameter and would refuse it.
        form.extend((new.vmstate && at.kind == GuestType::Qemu).then(|| ("vmstate", "1".to_owned())));
        self.post(proof, &format!("{}/snapshot", base(at)), form).await
    }

    /// Asks for the end of a guest with its disks and snapshots; with `purge` also in jobs, replication and HA.
    pub(super) async fn delete(&self, proof: &proof::Destroy, at: &At, purge: bool) -> Result<Upid, Fault> {
        let path = format!("{}{}", base(at), if purge { "?purge=1" } else { "" });
        self.send(proof, Request::delete(format!("/api2/json{path}")), &path).await
    }

    async fn post(&self, proof: &proof::Change, path: &str, form: Vec<(&'static str, String)>) -> Result<Upid, Fault> {
        self.send(proof, Request::post(format!("/api2/json{path}")).form(form), path).await
    }

    /// Sends what starts a task.
    async fn send(&self, proof: &proof::Change, request: Request, path: &str) -> Result<Upid, Fault> {
        let response = self.door.change(proof, self.signed(request)).await?;
        if !response.is_success() {
            return Err(refusal(&response, path, true));
        }
        // It was taken: what cannot be read of the answer leaves open what became of it.
        let lost = |what: String| Fault::new(Kind::TimedOut, what);
        let answer = response.json().map_err(|fault| lost(fault.cause))?;
        let upid = answer.get("data").and_then(Value::as_str).and_then(Upid::parse);
        upid.ok_or_else(|| lost(format!("{} accepted it, but named no task", response.member)))
    }
}

/// The path of a guest.
fn base(at: &At) -> String {
    format!("/nodes/{}/{}/{}", at.node, at.kind.word(), at.vmid)
}

fn not_a(what: &str) -> Fault {
    Fault::new(Kind::Malformed, format!("the answer is no {what}"))
}

/// What an answer that is no success means.
fn refusal(response: &Response, path: &str, changes: bool) -> Fault {
    let said = said(response);
    let member = &response.member;
    let why = |nothing: &str| if said.is_empty() { nothing.to_owned() } else { said.clone() };
    match response.status {
        300..=399 => {
            let to = response.location.as_deref().map_or_else(String::new, |to| format!(" to {}", vendor_text(to)));
            Fault::new(Kind::Malformed, format!("{member} redirects{to} in place of answering"))
                .hint("Something else than Proxmox VE may answer at this address: a proxy or a login page.")
        }
        400 if said.contains("no such task") => Fault::new(Kind::NotFound, "it knows no such task"),
        400 => Fault::new(Kind::Invalid, why("it did not say why")),
        401 => Fault::new(
            Kind::Forbidden,
            format!("{member} does not accept the API token ({})", why("no reason given")),
        )
        .hint(
            "Check PROXMOX_TOKEN_ID (user@realm!name) and PROXMOX_TOKEN_SECRET, and that neither token nor user is \
                 disabled or expired.",
        ),
        403 => forbidden(&why("permission denied")),
        500 if says_gone(&said) => {
            Fault::new(Kind::NotFound, said).hint("Call proxmox_list_vms for the guests there are.")
        }
        500 if said.contains("no quorum") => Fault::new(Kind::Conflict, said)
            .hint("The cluster has lost its quorum: proxmox_status shows which nodes are missing."),
        500 if said.contains("lookup") && (said.contains("failed") || said.contains("did not find")) => {
            Fault::new(Kind::Unreachable, format!("{member} cannot find node {}: {said}", node_of(path)))
                .hint("The node may have left the cluster; proxmox_status shows its members.")
        }
        // The member could not connect to the node (or to its own daemon), so that nothing was asked.
        595 => {
            Fault::new(Kind::Unreachable, format!("{member} cannot connect to node {} ({})", node_of(path), why("595")))
                .hint("The node or its pvedaemon is down: proxmox_status shows which nodes are online.")
        }
        // The connection was there. The node may do it later, even when nobody waits any more.
        596..=599 if changes => Fault::new(
            Kind::TimedOut,
            format!("node {} did not answer {member} ({})", node_of(path), why(&response.status.to_string())),
        ),
        596..=599 => Fault::new(
            Kind::Unreachable,
            format!("node {} did not answer {member} ({})", node_of(path), why(&response.status.to_string())),
        )
        .hint("The node or its pvedaemon may hang: proxmox_status shows which nodes are online."),
        // Not words of Proxmox VE: a proxy in front of it gave up.
        502 | 504 if changes => {
            Fault::new(Kind::TimedOut, format!("{member} answered {} ({})", response.status, why("a proxy's error")))
        }
        500..=599 if response.content_type.contains("html") => {
            Fault::new(Kind::Upstream, format!("{member} answered {} with a page: {}", response.status, why("empty")))
                .hint("Pages are not from Proxmox VE's API: something in front of it may have failed.")
        }
        501 => Fault::new(Kind::Upstream, format!("{member} does not know this request ({})", why("501"))),
        status => Fault::new(Kind::Upstream, why(&format!("{member} answered {status} without a reason"))),
    }
}

/// The vendor's words, wherever this version has them: JSON `message` and `errors`, plain text, or the reason phrase.
fn said(response: &Response) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(&response.body) else {
        let shown = vendor_text(&String::from_utf8_lossy(&response.body));
        return if shown.is_empty() { vendor_text(&response.reason) } else { shown };
    };
    let message = text(&body, "message").unwrap_or_else(|| response.reason.clone());
    let errors = body.get("errors").and_then(Value::as_object).into_iter().flatten();
    let errors: Vec<_> = errors
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}: {}", value.trim())
        })
        .collect();
    if errors.is_empty() { vendor_text(&message) } else { vendor_text(&errors.join("; ")) }
}

/// `Permission check failed (/vms/105, VM.PowerMgmt)` names the privilege.
fn forbidden(said: &str) -> Fault {
    let named =
        said.split_once("(/").and_then(|(_, rest)| rest.rsplit_once(')')).and_then(|(rest, _)| rest.split_once(", "));
    match named {
        Some((path, privilege)) => {
            let privilege = privilege.replace('|', " or ");
            Fault::new(Kind::Forbidden, format!("the API token lacks the privilege {privilege} on /{path}")).hint(
                "Give it a role that has it under Datacenter > Permissions; a token with privilege separation needs that \
                 itself, beside its user.",
            )
        }
        None => Fault::new(Kind::Forbidden, said)
            .hint("Compare the roles of the API token and its user under Datacenter > Permissions."),
    }
}

/// The node a path is for.
fn node_of(path: &str) -> impl Display + '_ {
    path.strip_prefix("/nodes/").and_then(|rest| rest.split('/').next()).unwrap_or("(the member itself)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, reason: &str, body: &str) -> Response {
        Response {
            status,
            reason: reason.to_owned(),
            content_type: "application/json;charset=UTF-8".to_owned(),
            location: None,
            body: body.as_bytes().to_vec(),
            member: "pve1:8006".to_owned(),
        }
    }

    fn told(status: u16, reason: &str, body: &str, changes: bool) -> (Kind, String) {
        let fault = refusal(&response(status, reason, body), "/nodes/pve2/qemu/105/status/start", changes);
        (fault.kind, fault.cause)
    }

    #[test]
    fn the_text_is_found_wherever_a_version_puts_it() {
        for (reason, body) in [
            ("VM is locked (backup)", r#"{"data":null}"#),
            ("x", r#"{"data":null,"message":"VM is locked (backup)\n"}"#),
            ("x", r#"{"data":null,"message":"VM is locked (backup)\n","errors":{}}"#),
            ("VM is locked (backup)", ""),
            ("x", "VM is locked (backup)"),
            ("x", "<html><head><title>x</title></head><body>VM is <b>locked</b> (backup)</body></html>"),
        ] {
            assert_eq!(told(500, reason, body, true), (Kind::Upstream, "VM is locked (backup)".to_owned()), "{body}");
        }
        let (kind, said) = told(
            400,
            "Parameter verification failed.",
            r#"{"data":null,"errors":{"snapname":"invalid format\n","vmid":"too small"}}"#,
            true,
        );
        assert_eq!((kind, said.as_str()), (Kind::Invalid, "snapname: invalid format; vmid: too small"));
    }

    #[test]
    fn a_privilege_a_token_and_a_node_are_named() {
        let (kind, said) = told(403, "Permission check failed (/vms/105, VM.PowerMgmt)", r#"{"data":null}"#, true);
        assert_eq!(
            (kind, said.as_str()),
            (Kind::Forbidden, "the API token lacks the privilege VM.PowerMgmt on /vms/105")
        );
        let (_, said) = told(
            403,
            "",
            r#"{"data":null,"message":"Permission check failed (/storage/x, Datastore.Audit|Datastore.AllocateSpace)\n"}"#,
            false,
        );
        assert!(said.ends_with("Datastore.Audit or Datastore.AllocateSpace on /storage/x"), "{said}");
        let (kind, said) = told(401, "Authentication failed!", "", false);
        assert!(kind == Kind::Forbidden && said.contains("(Authentication failed!)"), "{said}");
        let (kind, said) = told(595, "No route to host", "", true);
        assert!(kind == Kind::Unreachable && said.contains("node pve2 (No route to host)"), "{said}");
    }

    #[test]
    fn only_what_may_have_arrived_is_said_to_be_unknown() {
        assert_eq!(told(596, "Connection timed out", "", true).0, Kind::TimedOut);
        assert_eq!(told(596, "Connection timed out", "", false).0, Kind::Unreachable);
        assert_eq!(told(504, "Gateway Time-out", "<html>504</html>", true).0, Kind::TimedOut);
        assert_eq!(told(595, "Connection refused", "", true).0, Kind::Unreachable);
        let gone = "Configuration file 'nodes/pve/qemu-server/105.conf' does not exist";
        assert_eq!(told(500, gone, r#"{"data":null}"#, false).0, Kind::NotFound);
        assert_eq!(told(500, "cluster not ready - no quorum?", "", true).0, Kind::Conflict);
        let lookup = "hostname lookup 'pve2' failed - failed to get address info for: pve2: Name or service not known";
        assert_eq!(told(500, lookup, "", true).0, Kind::Unreachable);
    }
}
