//! How TrueNAS wants it: which of its two APIs, which method a release has, what an answer means.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    login::Credentials,
    model::{self, Alert, Dataset, Info, LISTED, Pool, SNAPSHOT_PROPERTIES, Snapshot},
    refusal::{Refusal, errno},
    rest,
    socket::{self, Socket},
};
use crate::{
    config::appliances,
    error::{Fault, Kind},
    http::{
        Door, Request,
        text::{encode, vendor_text},
    },
    proof,
};

/// Taking a snapshot may wait for the pool, and for virtual machines.
const CREATE: Duration = Duration::from_secs(60);
/// What was found out of an appliance with REST holds that long; an upgrade ends REST.
const REST_HOLDS: Duration = Duration::from_secs(300);

/// Which API an appliance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// JSON-RPC, from 25.04 on; the newest version that it lists.
    Rpc { newest: (u32, u32) },
    /// REST v2.0.
    Rest,
}

/// The client of one TrueNAS.
pub(crate) struct Truenas {
    pub(super) door: Door,
    credentials: Credentials,
    socket: Socket,
    api: Mutex<Option<(Api, Instant)>>,
    /// It has `zfs.snapshot` in place of `pool.snapshot`, as 25.04 does.
    zfs_snapshots: AtomicBool,
}

/// A call that changes nothing, in both languages.
struct Query {
    method: &'static str,
    params: Value,
    /// Path and query of the REST counterpart.
    path: String,
}

/// Why a call has no result.
enum Failure {
    Refused(Refusal),
    /// Nothing can have happened.
    NotSent(Fault),
    /// It may have happened.
    Unknown(Fault),
}

/// What became of a snapshot that was asked for.
pub(super) enum Created {
    /// The appliance says that it is there.
    Yes,
    /// There was one of that name already.
    Exists,
    /// It was asked for, and there was no answer. The fault says why.
    Unknown(Fault),
}

impl Truenas {
    pub(crate) fn new(config: &appliances::Truenas) -> Self {
        let door = Door::new(&config.address);
        let credentials = Credentials { key: config.api_key.clone(), username: config.username.clone() };
        Self {
            socket: Socket::new(door.clone(), credentials.clone()),
            door,
            credentials,
            api: Mutex::default(),
            zfs_snapshots: AtomicBool::new(false),
        }
    }

    /// Which API it has. Asked without the key, and kept.
    pub(super) async fn api(&self) -> Result<Api, Fault> {
        let deadline = Instant::now() + self.door.timeout();
        // Others that ask meanwhile wait for the same answer, no longer than their own time.
        let waited = tokio::time::timeout_at(deadline, self.api.lock()).await;
        let mut known = waited.map_err(|_| {
            let seconds = self.door.timeout().as_secs();
            let cause = format!("{} did not say within {seconds} s which API it has", self.door.place());
            Fault::new(Kind::TimedOut, cause).hint("It may be busy or hang; other backends are not affected.")
        })?;
        if let Some((api, at)) = *known
            && (api != Api::Rest || at.elapsed() < REST_HOLDS)
        {
            return Ok(api);
        }
        let mut request = Request::get("/api/versions");
        let left = deadline.saturating_duration_since(Instant::now());
        if self.door.timeout().saturating_sub(left) > Duration::from_millis(100) {
            request = request.timeout(left.max(Duration::from_millis(100)));
        }
        let response = self.door.read(request).await?;
        let api = detect(&response)?;
        log::debug!("truenas ({}): {api:?}", self.door.place());
        *known = Some((api, Instant::now()));
        Ok(api)
    }

    /// Asks again the next time: what was found does not fit any more.
    fn forget(&self) {
        // Held: somebody is asking anew already.
        if let Ok(mut known) = self.api.try_lock() {
            *known = None;
        }
    }

    async fn read(&self, query: Query) -> Result<Value, Fault> {
        let method = query.method;
        self.attempt(query).await.map_err(|failure| read_fault(failure, method))
    }

    async fn attempt(&self, query: Query) -> Result<Value, Failure> {
        let deadline = Instant::now() + self.door.timeout();
        match self.api().await.map_err(Failure::NotSent)? {
            Api::Rpc { .. } => self.rpc_read(query.method, query.params, deadline).await,
            Api::Rest => {
                let response = self.door.read(rest::get(&query.path, &self.credentials.key)).await;
                let response = response.map_err(Failure::NotSent)?;
                match rest::result(&response, query.method) {
                    Ok(value) => Ok(value),
                    Err(rest::Failure::Refused(refusal)) => Err(Failure::Refused(refusal)),
                    Err(rest::Failure::Fault(fault)) => {
                        if fault.kind == Kind::Malformed {
                            self.forget();
                        }
                        Err(Failure::NotSent(fault))
                    }
                }
            }
        }
    }

    /// Once more where the connection proved stale.
    async fn rpc_read(&self, method: &'static str, params: Value, deadline: Instant) -> Result<Value, Failure> {
        let mut again = true;
        loop {
            let failure = match self.socket.call(method, params.clone(), deadline).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match failure {
                socket::Failure::Lost(_) if again => {}
                socket::Failure::Refused(refusal) if refusal.is_logged_out() && again => {}
                socket::Failure::Refused(refusal) => return Err(Failure::Refused(refusal)),
                socket::Failure::Lost(fault) | socket::Failure::Silent(fault) => return Err(Failure::Unknown(fault)),
                socket::Failure::NotSent(fault) => {
                    // It may become another release meanwhile, or another machine.
                    if matches!(fault.kind, Kind::Unreachable | Kind::Malformed) {
                        self.forget();
                    }
                    return Err(Failure::NotSent(fault));
                }
            }
            again = false;
        }
    }

    /// A method of the snapshots' service, which has another name up to 25.04.
    async fn snapshot_query(&self, params: Value, path: String) -> Result<Value, Fault> {
        const NEW: &str = "pool.snapshot.query";
        const OLD: &str = "zfs.snapshot.query";
        let query = |method| Query { method, params: params.clone(), path: path.clone() };
        if self.zfs_snapshots.load(Ordering::Relaxed) {
            match self.attempt(query(OLD)).await {
                Err(Failure::Refused(refusal)) if refusal.is_no_method() => {}
                result => return result.map_err(|failure| read_fault(failure, OLD)),
            }
        }
        match self.attempt(query(NEW)).await {
            Err(Failure::Refused(refusal)) if refusal.is_no_method() => {
                let result = self.attempt(query(OLD)).await;
                self.zfs_snapshots.store(result.is_ok(), Ordering::Relaxed);
                result.map_err(|failure| read_fault(failure, OLD))
            }
            result => {
                self.zfs_snapshots.store(false, Ordering::Relaxed);
                result.map_err(|failure| read_fault(failure, NEW))
            }
        }
    }

    pub(super) async fn info(&self) -> Result<Info, Fault> {
        let query = Query { method: "system.info", params: json!([]), path: "/system/info".to_owned() };
        Ok(Info::of(&self.read(query).await?))
    }

    /// The data pools, by name.
    pub(super) async fn pools(&self) -> Result<Vec<Pool>, Fault> {
        let query = Query { method: "pool.query", params: json!([[], {}]), path: "/pool".to_owned() };
        let mut pools = Pool::list(&self.read(query).await?);
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pools)
    }

    /// The pool that the system starts from, which is not among the others.
    pub(super) async fn boot_pool(&self) -> Result<Option<Pool>, Fault> {
        let query = Query { method: "boot.get_state", params: json!([]), path: "/boot/get_state".to_owned() };
        Ok(Pool::of(&self.read(query).await?))
    }

    /// All of them, dismissed ones too.
    pub(super) async fn alerts(&self) -> Result<Vec<Alert>, Fault> {
        let query = Query { method: "alert.list", params: json!([]), path: "/alert/list".to_owned() };
        Ok(Alert::list(&self.read(query).await?))
    }

    /// Each pool's own dataset, which knows how much fits into the pool.
    pub(super) async fn root_datasets(&self) -> Result<Vec<Dataset>, Fault> {
        // Without children and without a filter every release gives just these.
        let extra =
            json!({"retrieve_children": false, "properties": ["used", "available"], "retrieve_user_props": false});
        let query = Query {
            method: "pool.dataset.query",
            params: json!([[], {"extra": extra}]),
            path: "/pool/dataset?extra.retrieve_children=false".to_owned(),
        };
        let mut roots = Dataset::all(&self.read(query).await?);
        roots.retain(|dataset| !dataset.name.contains('/'));
        Ok(roots)
    }

    /// All datasets of all pools, or of one, by name. As a tree, which has each of them once: a flat list repeats every
    /// dataset below each of its parents, and one without children is just the roots on some releases.
    pub(super) async fn datasets(&self, pool: Option<&str>) -> Result<Vec<Dataset>, Fault> {
        let extra = json!({"flat": false, "properties": LISTED, "retrieve_user_props": false});
        let filters = pool.map_or_else(|| json!([]), |pool| json!([["id", "=", pool]]));
        let only = pool.map_or_else(String::new, |pool| format!("&id={}", encode(pool)));
        let query = Query {
            method: "pool.dataset.query",
            params: json!([filters, {"extra": extra}]),
            path: format!("/pool/dataset?extra.flat=false{only}"),
        };
        Ok(Dataset::all(&self.read(query).await?))
    }

    /// One dataset, followed by those within it. Not found is a fault.
    pub(super) async fn dataset(&self, name: &str) -> Result<(Dataset, Vec<Dataset>), Fault> {
        const SHOWN: [&str; 12] = [
            "used",
            "available",
            "usedbysnapshots",
            "quota",
            "refquota",
            "volsize",
            "mountpoint",
            "encryption",
            "compression",
            "compressratio",
            "readonly",
            "creation",
        ];
        let query = Query {
            method: "pool.dataset.query",
            params: json!([[["id", "=", name]], {"extra": {"properties": SHOWN}}]),
            path: format!("/pool/dataset?id={}", encode(name)),
        };
        let mut found = Dataset::all(&self.read(query).await?);
        let at = found.iter().position(|dataset| dataset.name == name);
        let Some(at) = at else {
            return Err(Fault::new(Kind::NotFound, format!("there is no dataset `{name}`"))
                .hint("Call truenas_list_datasets for valid names."));
        };
        let dataset = found.remove(at);
        found.retain(|other| other.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')));
        Ok((dataset, found))
    }

    /// The snapshots of one dataset, newest first.
    pub(super) async fn snapshots(&self, dataset: &str) -> Result<Vec<Snapshot>, Fault> {
        let options = self.snapshot_options().await?;
        let params = json!([[["dataset", "=", dataset]], options]);
        let path = format!("/zfs/snapshot?dataset={}", encode(dataset));
        Ok(Snapshot::list(&self.snapshot_query(params, path).await?))
    }

    /// 26 gives no property that is not asked for; the others give all.
    async fn snapshot_options(&self) -> Result<Value, Fault> {
        Ok(match self.api().await? {
            Api::Rpc { newest } if newest >= (26, 0) => json!({"extra": {"properties": SNAPSHOT_PROPERTIES}}),
            _ => json!({}),
        })
    }

    /// One snapshot by `dataset@name`.
    pub(super) async fn snapshot(&self, id: &str) -> Result<Option<Snapshot>, Fault> {
        let options = self.snapshot_options().await?;
        let path = format!("/zfs/snapshot?id={}", encode(id));
        let found = Snapshot::list(&self.snapshot_query(json!([[["id", "=", id]], options]), path).await?);
        Ok(found.into_iter().find(|snapshot| snapshot.id == id))
    }

    /// How many snapshots one dataset has; the appliance counts.
    pub(super) async fn snapshot_count(&self, dataset: &str) -> Result<u64, Fault> {
        let params = json!([[["dataset", "=", dataset]], {"count": true}]);
        let path = format!("/zfs/snapshot?dataset={}&count=true", encode(dataset));
        let counted = self.snapshot_query(params, path).await?;
        model::count(&counted).ok_or_else(|| Fault::new(Kind::Malformed, "the number of snapshots is no number"))
    }

    /// Takes a snapshot. Sent once, whatever happens.
    pub(super) async fn create_snapshot(
        &self,
        proof: &proof::Change,
        dataset: &str,
        name: &str,
        recursive: bool,
    ) -> Result<Created, Fault> {
        let body = json!({"dataset": dataset, "name": name, "recursive": recursive});
        let limit = CREATE.max(self.door.timeout());
        let (method, result) = match self.api().await? {
            Api::Rpc { .. } => self.create_by_rpc(proof, &body, limit).await,
            Api::Rest => ("zfs.snapshot.create", self.create_by_rest(proof, &body, limit).await),
        };
        match result {
            Ok(_) => Ok(Created::Yes),
            Err(Failure::Refused(refusal)) if refusal.is(errno::EEXIST) || exists(refusal.message()) => {
                Ok(Created::Exists)
            }
            Err(Failure::Refused(refusal)) => Err(refusal.fault(method)),
            Err(Failure::NotSent(fault)) => Err(fault),
            Err(Failure::Unknown(fault)) => Ok(Created::Unknown(fault)),
        }
    }

    async fn create_by_rpc(
        &self,
        _proof: &proof::Change,
        body: &Value,
        limit: Duration,
    ) -> (&'static str, Result<Value, Failure>) {
        const NAMES: [&str; 2] = ["pool.snapshot.create", "zfs.snapshot.create"];
        let deadline = Instant::now() + limit;
        let old = self.zfs_snapshots.load(Ordering::Relaxed);
        let [first, second] = if old { [NAMES[1], NAMES[0]] } else { NAMES };
        let result = self.socket.call(first, json!([body]), deadline).await;
        // A method that is not there has done nothing.
        let (method, result) = match result {
            Err(socket::Failure::Refused(refusal)) if refusal.is_no_method() => {
                (second, self.socket.call(second, json!([body]), deadline).await)
            }
            result => (first, result),
        };
        let result = result.map_err(|failure| match failure {
            socket::Failure::Refused(refusal) => Failure::Refused(refusal),
            socket::Failure::NotSent(fault) => Failure::NotSent(fault),
            socket::Failure::Lost(fault) | socket::Failure::Silent(fault) => Failure::Unknown(fault),
        });
        (method, result)
    }

    async fn create_by_rest(&self, proof: &proof::Change, body: &Value, limit: Duration) -> Result<Value, Failure> {
        let request = rest::post("/zfs/snapshot", &self.credentials.key, body).timeout(limit);
        let response = self.door.change(proof, request).await.map_err(|fault| match fault.kind {
            Kind::TimedOut => Failure::Unknown(fault),
            _ => Failure::NotSent(fault),
        })?;
        match rest::result(&response, "zfs.snapshot.create") {
            Ok(value) => Ok(value),
            Err(_) if response.is_success() => {
                let cause = format!("the answer of {} could not be read", response.member);
                Err(Failure::Unknown(Fault::new(Kind::TimedOut, cause)))
            }
            // A proxy's word on what it passed on is not the appliance's.
            Err(rest::Failure::Fault(fault)) if response.status >= 500 => {
                Err(Failure::Unknown(Fault { kind: Kind::TimedOut, ..fault }))
            }
            Err(rest::Failure::Fault(fault)) => Err(Failure::NotSent(fault)),
            Err(rest::Failure::Refused(refusal)) => Err(Failure::Refused(refusal)),
        }
    }

    /// Who the key's user is, where the API tells it.
    pub(super) async fn me(&self) -> Result<Value, Fault> {
        let query = Query { method: "auth.me", params: json!([]), path: "/auth/me".to_owned() };
        self.read(query).await
    }
}

/// Up to 25.04 and on REST it may be said only in words.
fn exists(message: &str) -> bool {
    message.contains("already exists")
}

fn read_fault(failure: Failure, method: &str) -> Fault {
    match failure {
        Failure::Refused(refusal) => refusal.fault(method),
        Failure::NotSent(fault) => fault,
        Failure::Unknown(fault) if fault.kind == Kind::TimedOut && fault.hint.is_none() => fault.hint(
            "It may be busy or hang; other backends are not affected. TRUENAS_TIMEOUT is how long it is waited for.",
        ),
        Failure::Unknown(fault) => fault,
    }
}

/// What the answer to `/api/versions` says.
fn detect(response: &crate::http::Response) -> Result<Api, Fault> {
    let place = &response.member;
    let fault = |kind, cause: String, hint: &str| Err(Fault::new(kind, cause).hint(hint));
    match response.status {
        200..=299 => match serde_json::from_slice(&response.body).ok().as_ref().and_then(model::newest_api) {
            Some(newest) => Ok(Api::Rpc { newest }),
            None => fault(
                Kind::Malformed,
                format!("{place} answers, and not as TrueNAS does"),
                "Check TRUENAS_HOST: it must be the address of TrueNAS's own web interface.",
            ),
        },
        // SCALE up to 24.10 sends what it does not know to its interface; CORE does not know it.
        301 | 302 | 303 | 307 | 308 => {
            let to = response.location.as_deref().unwrap_or_default();
            let path = to.strip_prefix("https://").and_then(|rest| rest.strip_prefix(place.trim_end_matches(":443")));
            let path = path.map_or(to, |rest| rest.strip_prefix(":443").unwrap_or(rest));
            if path == "/ui" || path.starts_with("/ui/") {
                return Ok(Api::Rest);
            }
            fault(
                Kind::Malformed,
                format!("{place} redirects to {}", vendor_text(to)),
                "The key is not sent there. Set TRUENAS_HOST to the appliance itself.",
            )
        }
        404 => Ok(Api::Rest),
        500..=599 => fault(
            Kind::Unreachable,
            format!("{place} answered {}: its middleware does not run", response.status),
            "TrueNAS may be starting: try again in a minute.",
        ),
        status => fault(
            Kind::Malformed,
            format!("{place} answered {status} when it was asked for its API versions"),
            "A proxy in between may ask for its own login; use the appliance's own address.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;

    fn seen(status: u16, body: &str, location: Option<&str>) -> Result<Api, Fault> {
        detect(&Response {
            status,
            reason: String::new(),
            content_type: String::new(),
            location: location.map(str::to_owned),
            body: body.as_bytes().to_vec(),
            member: "nas.lan:443".to_owned(),
        })
    }

    #[test]
    fn the_api_is_told_by_its_list_of_versions() {
        assert_eq!(seen(200, r#"["v25.04.0", "v26.0.0"]"#, None).unwrap(), Api::Rpc { newest: (26, 0) });
        for to in ["/ui/", "https://nas.lan/ui/", "https://nas.lan:443/ui/"] {
            assert_eq!(seen(302, "", Some(to)).unwrap(), Api::Rest, "{to}");
        }
        assert_eq!(seen(404, "nginx", None).unwrap(), Api::Rest);
        for (status, body, to, kind, words) in [
            (200, "<html>router</html>", None, Kind::Malformed, "TRUENAS_HOST"),
            (302, "", Some("https://else.lan/ui/"), Kind::Malformed, "else.lan"),
            (302, "", Some("https://nas.lan.evil/ui/"), Kind::Malformed, "evil"),
            (307, "", Some("http://nas.lan/ui/"), Kind::Malformed, "redirects"),
            (502, "", None, Kind::Unreachable, "starting"),
            (401, "", None, Kind::Malformed, "proxy"),
        ] {
            let fault = seen(status, body, to).unwrap_err();
            assert!(fault.kind == kind && fault.with_advice().contains(words), "{fault:?}");
        }
    }
}
