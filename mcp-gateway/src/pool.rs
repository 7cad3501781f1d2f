//! Which worker takes a request: the shared ones by level and protocol version, a session's own, a warm spare for the
//! next such session. Limits are here too: rather a 503 than an endless queue.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use shared::{Level, Stop};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::{
    config::{Config, CoreCommand},
    message::{self, Posted, Stamp},
    metrics::Metrics,
    process::{self, Process},
    stop::within,
    worker::{Ask, Ground, Lost, Next, Outlet, Status, Worker},
};

/// The versions that have sessions, oldest first.
pub(crate) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST_LEGACY];
/// Shared workers are greeted with it unless a session wants an older one.
pub(crate) const NEWEST_LEGACY: &str = "2025-11-25";
/// The first version without sessions.
pub(crate) const MODERN: &str = "2026-07-28";

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often somebody who waits for a place looks whether one can be freed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Sessions that have a process of their own at the same time.
const MOST_OWN: usize = 32;
/// Workers for older versions go when nobody used them for so long.
const UNUSED: Duration = Duration::from_secs(600);
/// How long a core may take to say which versions it speaks.
const PROBE: Duration = Duration::from_secs(30);
/// A core of an earlier era may say nothing to a question of the later one.
const PROBE_MODERN: Duration = Duration::from_secs(5);

/// Which eras a core speaks; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eras {
    /// The versions it names, if it knows 2026-07-28 or later.
    pub(crate) modern: Option<Vec<String>>,
    pub(crate) legacy: bool,
    /// Whether it sends its log to requests that ask for it.
    pub(crate) logs: bool,
}

impl Eras {
    /// The newest version without sessions.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.modern.as_ref()?.iter().map(String::as_str).max()
    }
}

/// No worker can take the request now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy;

/// The workers.
pub(crate) struct Pool {
    ground: Ground,
    eras: Eras,
    /// The levels of the core's tools, by name.
    tools: HashMap<String, Level>,
    size: usize,
    shared: Mutex<HashMap<(Level, &'static str), Shared>>,
    spares: Mutex<HashMap<Level, Worker>>,
    own: Mutex<Vec<Worker>>,
    own_permits: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

struct Shared {
    workers: Vec<Worker>,
    used: Instant,
}

impl Pool {
    /// Asks the core what it speaks and which tools it has, and starts the first worker. An error is why the core cannot
    /// be used, with its own words.
    pub(crate) async fn start(
        config: &Config,
        metrics: Arc<Metrics>,
        stop: Stop,
        alive: mpsc::Sender<()>,
    ) -> Result<Self, String> {
        let core = Arc::new(config.core.clone());
        let (eras, tools) = look_at(&core, config.level).await?;
        let pool = Self {
            ground: Ground { core, metrics, stop, _alive: alive },
            eras,
            tools,
            size: config.pool_size,
            shared: Mutex::default(),
            spares: Mutex::default(),
            own: Mutex::default(),
            own_permits: Arc::new(Semaphore::new(MOST_OWN)),
            in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
            waiting: AtomicUsize::new(0),
            most_waiting: 4 * config.max_in_flight,
        };
        let first = pool.shared(config.level, NEWEST_LEGACY);
        match within(PROBE, first.up()).await {
            Some(Ok(_)) => Ok(pool),
            Some(Err(Lost::Down { why, .. })) => Err(why),
            _ => Err(format!("{} did not answer within {} s", pool.ground.core.name(), PROBE.as_secs())),
        }
    }

    pub(crate) fn eras(&self) -> &Eras {
        &self.eras
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.ground.stop
    }

    /// The level that a tool needs, if the core told us.
    pub(crate) fn level_of(&self, tool: &str) -> Option<Level> {
        self.tools.get(tool).copied()
    }

    /// Whether the core believes us who is calling.
    pub(crate) fn core_is_ours(&self) -> bool {
        self.ground.core.ours
    }

    /// Waits for a place among the requests under way.
    pub(crate) async fn admit(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = self.in_flight.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::enter(&self.waiting, self.most_waiting).ok_or(Busy)?;
        within(PATIENCE, self.in_flight.clone().acquire_owned()).await.and_then(Result::ok).ok_or(Busy)
    }

    /// The shared worker of this level and version that has the least to do.
    pub(crate) fn shared(&self, level: Level, version: &'static str) -> Worker {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shared.entry((level, version)).or_insert_with(|| {
            let greeting = self.eras.legacy.then(|| message::raw(greeting(version)));
            let worker = || Worker::shared(&self.ground, level, greeting.clone());
            Shared { workers: (0..self.size).map(|_| worker()).collect(), used: Instant::now() }
        });
        entry.used = Instant::now();
        let down = |worker: &Worker| matches!(worker.status(), Status::Down { .. });
        let best = match entry.workers.as_slice() {
            [only] => Some(only),
            several => several.iter().min_by_key(|worker| (down(worker), worker.load())),
        };
        best.cloned().unwrap_or_else(|| Worker::spare(&self.ground, level))
    }

    /// Shared workers that may have requests of a session: to cancel them.
    pub(crate) fn shared_of(&self, version: &'static str) -> Vec<Worker> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = shared.iter().filter(|((_, other), _)| *other == version);
        theirs.flat_map(|(_, shared)| shared.workers.clone()).collect()
    }

    /// A worker of a session's own, or of one request's, begun with these `initialize` parameters.
    pub(crate) async fn own(
        &self,
        level: Level,
        outlet: Outlet,
        greeting: Option<Box<RawValue>>,
    ) -> Result<Worker, Busy> {
        let permit = match self.own_permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting, self.most_waiting).ok_or(Busy)?;
                within(PATIENCE, self.room()).await.flatten().ok_or(Busy)?
            }
        };
        let spare = {
            let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
            let spare = spares.remove(&level).filter(|spare| !spare.is_gone());
            // The next one comes up while this one works.
            spares.insert(level, Worker::spare(&self.ground, level));
            spare
        };
        let worker = spare.unwrap_or_else(|| Worker::spare(&self.ground, level)).adopt(outlet, greeting, permit);
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|worker| !worker.is_gone());
        own.push(worker.clone());
        Ok(worker)
    }

    /// A place for a session's own worker, as soon as one of the others can go.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let mut place = pin!(self.own_permits.clone().acquire_owned());
        loop {
            self.retire_one();
            if let Some(place) = within(LOOK_AGAIN, &mut place).await {
                return place.ok();
            }
        }
    }

    /// Ends the session's own worker that has waited longest for that session's next call.
    fn retire_one(&self) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|worker| !worker.is_gone());
        if let Some(at) = own.iter().position(|worker| worker.load() == 0) {
            // To the end, so that another waiter finds another one.
            let idle = own.remove(at);
            idle.retire();
            own.push(idle);
        }
    }

    /// Now and then: ends what nobody used for long.
    pub(crate) fn tidy(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(_, version), shared| {
            let busy = shared.workers.iter().any(|worker| worker.load() > 0);
            *version == NEWEST_LEGACY || busy || shared.used.elapsed() < UNUSED
        });
        self.own.lock().unwrap_or_else(PoisonError::into_inner).retain(|worker| !worker.is_gone());
    }

    /// Whether a core answers, at this level; an error says why not.
    pub(crate) async fn ready(&self, level: Level) -> Result<(), String> {
        let (text, version) = match self.eras.newest() {
            Some(version) => (r#"{"jsonrpc":"2.0","id":0,"method":"server/discover"}"#, Some(version)),
            None => (r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#, None),
        };
        let Ok(Posted::Request(request)) = message::read(text.as_bytes()) else { return Err(String::new()) };
        let permit = self.admit().await.map_err(|_| "too many calls are under way".to_owned())?;
        let stamp = Stamp { principal: None, version };
        let ask = Ask { request: &request, stamp, tenant: None, events: false, ends_with_caller: true, permit };
        let mut exchange = self.shared(level, NEWEST_LEGACY).ask(ask);
        match within(PATIENCE, exchange.next()).await {
            Some(Next::Answer(Ok(_))) => Ok(()),
            Some(Next::Answer(Err(lost))) => Err(format!("the core does not run: {lost:?}")),
            Some(Next::Event(_)) | None => Err(format!("the core did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// Counts who waits, up to a bound.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let entered = Self(waiting);
        // Dropped again at once, if there are too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a shared worker is begun with. Its answer is given to every session of that version.
fn greeting(version: &str) -> String {
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"mcp-gateway","version":"{}"}}}}"#,
        env!("CARGO_PKG_VERSION")
    )
}

/// What the core speaks, and its tools with their levels. An error is for the operator.
pub(crate) async fn look_at(core: &CoreCommand, level: Level) -> Result<(Eras, HashMap<String, Level>), String> {
    let tools = if core.ours { tools(core, level).await? } else { HashMap::new() };
    let mut process = Process::spawn(core, level, 0).map_err(|error| {
        format!(
            "CORE_COMMAND: cannot start {}: {error}. Name an MCP server that speaks over stdin and stdout.",
            core.name()
        )
    })?;
    let eras = within(PROBE, probe(&mut process)).await.unwrap_or_else(|| Err("no answer".to_owned()));
    let ended = process.stop();
    match eras {
        Ok(eras) => {
            // It may take its time to end.
            tokio::spawn(ended);
            Ok((eras, tools))
        }
        Err(why) => {
            let (how, words) = ended.await;
            let words = if words.is_empty() { "nothing on stderr".to_owned() } else { format!("on stderr:\n{words}") };
            Err(format!("CORE_COMMAND: {} is no MCP server that can be used: {why} ({how}); {words}", core.name()))
        }
    }
}

/// Asks a fresh process for its versions: first in the way of 2026-07-28, then in the earlier one.
async fn probe(process: &mut Process) -> Result<Eras, String> {
    let Some(stdin) = &mut process.stdin else { return Err("it has no stdin".to_owned()) };
    let mut lines = BufReader::new(&mut process.stdout);
    let params = format!(r#"{{"_meta":{}}}"#, message::modern_meta(MODERN));
    let discover = message::request_line(1, "server/discover", &params);
    // Whether it reads is seen from its answer.
    let _ = stdin.write_all(&discover).await;
    let mut logs = false;
    let modern = match within(PROBE_MODERN, answer(&mut lines, 1)).await {
        Some(Ok(answer)) => {
            logs = answer["result"]["capabilities"]["logging"].is_object();
            let versions = answer["result"]["supportedVersions"].as_array();
            let versions: Option<Vec<_>> =
                versions.map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect());
            versions.filter(|versions| versions.iter().any(|version| version.as_str() >= MODERN))
        }
        Some(Err(ended)) => return Err(ended),
        None => None,
    };
    let _ = stdin.write_all(&message::request_line(2, "initialize", &greeting(NEWEST_LEGACY))).await;
    let legacy = match answer(&mut lines, 2).await {
        Ok(answer) => answer["result"]["protocolVersion"].is_string(),
        // One that ends here, because it was asked in the later way before, speaks that.
        Err(ended) if modern.is_none() => return Err(ended),
        Err(_) => false,
    };
    if modern.is_none() && !legacy {
        return Err("it refused both `server/discover` and `initialize`".to_owned());
    }
    Ok(Eras { modern, legacy, logs })
}

/// The answer with this id, whatever comes before it.
async fn answer(lines: &mut (impl tokio::io::AsyncBufRead + Unpin), id: u64) -> Result<Value, String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(read) if read > 0 => {}
            _ => return Err("it ended without an answer".to_owned()),
        }
        if let Ok(answer) = serde_json::from_slice::<Value>(&line)
            && answer["id"] == id
            && answer.get("method").is_none()
        {
            return Ok(answer);
        }
    }
}

/// Our own core tells every tool's level.
async fn tools(core: &CoreCommand, level: Level) -> Result<HashMap<String, Level>, String> {
    #[derive(Deserialize)]
    struct Listed {
        tools: Vec<Tool>,
    }
    #[derive(Deserialize)]
    struct Tool {
        name: String,
        level_name: String,
    }
    let output = process::output(core, level, &["--list-tools", "--json"], PROBE).await?;
    let listed: Listed = serde_json::from_slice(&output)
        .map_err(|error| format!("{} --list-tools --json: {error}. Is it of another version?", core.name()))?;
    let tools = listed.tools.into_iter().map(|tool| Ok((tool.name, tool.level_name.parse()?)));
    tools.collect::<Result<_, shared::level::NotALevel>>().map_err(|error| format!("{}: {error}", core.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_than_may() {
        let waiting = AtomicUsize::new(0);
        let first = Waiting::enter(&waiting, 1);
        assert!(first.is_some() && Waiting::enter(&waiting, 1).is_none());
        drop(first);
        assert!(Waiting::enter(&waiting, 1).is_some());
    }
}
