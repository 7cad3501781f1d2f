//! Proxmox VE: a cluster (or one host) with guests, storages, backups and tasks.
//!
//! Written from the vendor's API description and from exchanges with its running code. Several members serve one
//! state: [`Proxmox::member`].

mod access;
mod api;
mod cluster;
mod guards;
mod homelab;
mod model;
mod profile;
mod refusal;
mod rules;
mod tasks;
mod views;

pub use access::Privileges;
pub use homelab::{TOKEN_ID, TOKEN_SECRET};
pub use model::{
    Backup, Daemon, Disk, Ending, Follows, Guest, Ha, Kind, Node, NodeState, OnShutdown, Run, Snapshot, Storage,
    Unreachable,
};
pub use profile::Profile;

use crate::{Appliance, KeepAlive, Reply, Request};
use access::Token;
use cluster::Cluster;
use jiff::Timestamp;
use refusal::Refusal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const JSON: &str = "application/json;charset=UTF-8";

/// A cluster and the means to look into it and to change it. As an [`Appliance`] it is its first member.
pub struct Proxmox {
    cluster: Mutex<Cluster>,
    first: String,
}

/// One task, as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSeen {
    /// The whole ID.
    pub upid: String,
    /// `qmstart`, `vzsnapshot` …
    pub kind: String,
    /// Mostly a guest's number.
    pub id: String,
    /// Who started it, a token with its name.
    pub user: String,
    /// `None` while it runs.
    pub exit: Option<String>,
}

impl Proxmox {
    /// The homelab: three nodes, guests in every state, storages with backups, one token that may do everything
    /// ([`TOKEN_ID`], [`TOKEN_SECRET`]).
    pub fn new(profile: Profile) -> Arc<Self> {
        Self::of(homelab::cluster(profile))
    }

    /// One host named `pve`, in no cluster.
    pub fn standalone(profile: Profile) -> Arc<Self> {
        Self::of(homelab::standalone(profile))
    }

    /// 200 guests on three nodes.
    pub fn big(profile: Profile) -> Arc<Self> {
        Self::of(homelab::big(profile))
    }

    fn of(cluster: Cluster) -> Arc<Self> {
        let first = cluster.nodes.first().map(|node| node.name.clone()).unwrap_or_default();
        Arc::new(Self { cluster: Mutex::new(cluster), first })
    }

    /// The same cluster, as another of its nodes answers for it.
    pub fn member(self: &Arc<Self>, node: &str) -> Arc<dyn Appliance> {
        Arc::new(Member { cluster: self.clone(), node: node.to_owned() })
    }

    /// The guest as it is now.
    pub fn guest(&self, vmid: u32) -> Option<Guest> {
        self.now().guests.get(&vmid).cloned()
    }

    /// Changes a guest behind the API's back; `None` when there is none.
    pub fn change<R>(&self, vmid: u32, change: impl FnOnce(&mut Guest) -> R) -> Option<R> {
        self.now().guests.get_mut(&vmid).map(change)
    }

    /// Adds a guest, or puts it in the place of the one with its number.
    pub fn add(&self, guest: Guest) {
        self.now().guests.insert(guest.vmid, guest);
    }

    /// Takes a guest away.
    pub fn remove(&self, vmid: u32) -> Option<Guest> {
        self.now().guests.remove(&vmid)
    }

    /// Adds a backup.
    pub fn add_backup(&self, backup: Backup) {
        self.now().backups.push(backup);
    }

    /// Changes a storage; `None` when there is none.
    pub fn change_storage<R>(&self, name: &str, change: impl FnOnce(&mut Storage) -> R) -> Option<R> {
        self.now().storages.iter_mut().find(|storage| storage.name == name).map(change)
    }

    /// How the other members see this node.
    pub fn set_node(&self, name: &str, state: NodeState) {
        if let Some(node) = self.now().nodes.iter_mut().find(|node| node.name == name) {
            node.state = state;
        }
    }

    /// Without quorum, nothing starts and no configuration is written.
    pub fn set_quorum(&self, quorate: bool) {
        self.now().quorate = quorate;
    }

    /// The state of the privileged daemon of every node.
    pub fn set_daemon(&self, daemon: Daemon) {
        self.now().daemon = daemon;
    }

    /// Adds a token, or gives an existing one another secret and other privileges.
    pub fn set_token(&self, id: &str, secret: &str, privileges: Privileges) {
        let mut cluster = self.now();
        cluster.tokens.retain(|token| token.id != id);
        cluster.tokens.push(Token { id: id.to_owned(), secret: secret.to_owned(), privileges });
    }

    /// The token of the homelab may do only this.
    pub fn set_privileges(&self, privileges: Privileges) {
        self.set_token(TOKEN_ID, TOKEN_SECRET, privileges);
    }

    /// The next task that gets to work ends like this; asked for several times, they queue up.
    pub fn next_task(&self, ending: Ending) {
        self.now().endings.push_back(ending);
    }

    /// The next task that gets to work fails with this text.
    pub fn fail_next_task(&self, text: &str) {
        self.next_task(Ending::Error(text.to_owned()));
    }

    /// Something else holds the lock file of a guest for this long.
    pub fn hold_lock_file(&self, vmid: u32, time: Duration) {
        self.now().held.insert(vmid, Instant::now() + time);
    }

    /// Lets the lock file go before its time.
    pub fn release_lock_file(&self, vmid: u32) {
        if let Some(until) = self.now().held.get_mut(&vmid) {
            *until = Instant::now();
        }
    }

    /// How long one of the vendor's seconds takes: what it waits before a 401 (3), for a lock file (10), for a guest
    /// that is shut down (60), before it gives up on a node (3) or a daemon (30), and what its HA manager takes.
    pub fn set_second(&self, second: Duration) {
        self.now().times.second = second;
    }

    /// How long a task works; a second at first.
    pub fn set_task_time(&self, time: Duration) {
        self.now().times.task = time;
    }

    /// How old `/cluster/resources` may be: 5 to 10 s at the vendor's, not at all here unless set.
    pub fn set_resources_lag(&self, lag: Duration) {
        self.now().times.lag = lag;
    }

    /// How long a connection without a request lives; 5 s at first, as at the vendor's.
    pub fn set_idle(&self, idle: Duration) {
        self.now().times.idle = idle;
    }

    /// Every task so far, oldest first.
    pub fn tasks(&self) -> Vec<TaskSeen> {
        let seen = |task: &tasks::Task| TaskSeen {
            upid: task.upid.clone(),
            kind: task.kind.clone(),
            id: task.id.clone(),
            user: task.user.clone(),
            exit: task.exit().map(str::to_owned),
        };
        self.now().tasks.iter().map(seen).collect()
    }

    /// The state, with everything that was due by now.
    fn now(&self) -> MutexGuard<'_, Cluster> {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.advance(Instant::now());
        cluster
    }

    fn serve(&self, local: &str, request: &Request) -> Reply {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        api::answer(&mut cluster, local, request)
    }
}

impl Appliance for Proxmox {
    fn answer(&self, request: &Request) -> Reply {
        self.serve(&self.first, request)
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive { idle: self.now().times.idle, requests: 100, notice: false }
    }

    fn refusal(&self, status: u16, request: &Request) -> Reply {
        let cluster = self.now();
        let refusal = Refusal::of_status(status, request);
        let wait = if status == 401 { cluster.times.second * 3 } else { Duration::ZERO };
        refusal.after(wait).reply(cluster.profile)
    }

    fn plain_http(&self, request: &Request) -> Option<Reply> {
        let host = request.header("Host").unwrap_or("localhost:8006");
        Some(Reply::empty(301).header("Location", &format!("https://{host}{}", request.target)))
    }

    fn longest_head(&self) -> usize {
        8 << 10
    }

    fn reads_chunks(&self) -> bool {
        false
    }
}

/// The cluster as one of its nodes serves it.
struct Member {
    cluster: Arc<Proxmox>,
    node: String,
}

impl Appliance for Member {
    fn answer(&self, request: &Request) -> Reply {
        self.cluster.serve(&self.node, request)
    }

    fn keep_alive(&self) -> KeepAlive {
        self.cluster.keep_alive()
    }

    fn refusal(&self, status: u16, request: &Request) -> Reply {
        self.cluster.refusal(status, request)
    }

    fn plain_http(&self, request: &Request) -> Option<Reply> {
        self.cluster.plain_http(request)
    }

    fn longest_head(&self) -> usize {
        self.cluster.longest_head()
    }

    fn reads_chunks(&self) -> bool {
        self.cluster.reads_chunks()
    }
}

/// The headers of every answer, in the vendor's order.
fn dress(mut reply: Reply, connection: &[&str]) -> Reply {
    let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    reply = reply.header("Cache-Control", "max-age=0");
    for value in connection {
        reply = reply.header("Connection", value);
    }
    reply
        .header("Date", &date)
        .header("Pragma", "no-cache")
        .header("Server", "pve-api-daemon/3.0")
        .header("Expires", &date)
}
