//! How we talk with the Docker Engine: connection, API version, time-outs, and what a failure means. The only file that
//! knows bollard. Logs, exec and stats are beside it and use [`Docker::open`]; what the answers mean is in `model`.
//!
//! bollard carries the requests (unix socket, named pipe, TCP, TLS), but its typed methods are not used: they drop
//! fields they do not know, refuse a whole list for one unknown word, take some log output for frame headers, log
//! bodies (which hold environment values), and send no API version. [`Link::send`] says how we get at the bytes.
//!
//! Every future here can be dropped at any time: that ends its HTTP request and leaves nothing behind.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::endpoint::{Endpoint, bracketed};
use super::model::{self, Container, Network, Summary, Version, Volumes};
use crate::error::{Fault, Kind};
use crate::proof;

/// The newest API that we speak; an older engine is spoken to in its own.
const NEWEST: Api = Api(1, 53);
/// The oldest API that we speak: Docker 20.10.
const OLDEST: Api = Api(1, 41);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long starting a container may take: network, volumes on a server, a disk that has to spin up.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take whose container has no limit of its own.
const ENDLESS_STOP: Duration = Duration::from_secs(600);
/// The longest answer that is read whole. A thousand containers are about 5 MB.
const LONGEST: usize = 64 << 20;
/// The longest that anything may be asked to take: adding more to the present time would overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);
/// The label compose puts on what belongs to a project.
const PROJECT: &str = "com.docker.compose.project";

/// An API version: major, minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Api(u32, u32);

impl Api {
    /// Reads `1.41`.
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// A Docker Engine. Nothing is connected until the first call.
#[derive(Debug)]
pub(crate) struct Docker {
    /// Where it listens.
    endpoint: Endpoint,
    /// How long a read may take.
    limit: Duration,
    /// The negotiated connection; dropped when the engine goes away, since another version may come back.
    link: Mutex<Option<Arc<Link>>>,
}

/// An engine that has told its version.
#[derive(Debug)]
struct Link {
    /// The transport.
    bollard: bollard::Docker,
    /// What paths begin with: `/v1.41`.
    prefix: String,
    /// What it said.
    version: Version,
}

/// Which containers a list is to have. Everything is left to the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    /// Stopped ones too. A filter by state implies it.
    pub(crate) all: bool,
    /// Any of these states: `created`, `restarting`, `running`, `removing`, `paused`, `exited`, `dead`.
    pub(crate) states: Vec<String>,
    /// Any of these names. The engine takes each as a regular expression that may match anywhere in the name.
    pub(crate) names: Vec<String>,
    /// All of these labels: `name` or `name=value`.
    pub(crate) labels: Vec<String>,
    /// Any of `starting`, `healthy`, `unhealthy`, `none`.
    pub(crate) health: Vec<String>,
}

/// Whether a call did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acted {
    /// It did.
    Changed,
    /// The object was in that state already.
    Unchanged,
}

/// How waiting for a state ended.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// The container was seen in the state.
    Reached(Container),
    /// The time was over; this is how it was last seen.
    NotYet(Container),
}

/// One request.
pub(super) struct Call {
    /// `GET` or `POST`.
    method: &'static str,
    /// Path and query, checked or escaped.
    path: String,
    /// A JSON body.
    body: Option<Value>,
    /// Whether it changes something: then a broken connection leaves open whether it happened.
    changes: bool,
}

impl Call {
    /// A read.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), body: None, changes: false }
    }

    /// A POST that changes something.
    pub(super) fn post(path: impl Into<String>) -> Self {
        Self { method: "POST", path: path.into(), body: None, changes: true }
    }

    /// With a body.
    pub(super) fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Without an effect worth a warning when the connection breaks.
    pub(super) fn harmless(mut self) -> Self {
        self.changes = false;
        self
    }
}

/// An answer that is being read.
pub(super) struct Answer<'a> {
    /// Its bytes, in the pieces the network made.
    stream: ByteStream,
    /// Who answers, for the wording of failures.
    docker: &'a Docker,
    /// Whether the request changes something.
    changes: bool,
}

/// What bollard streams.
type ByteStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, bollard::errors::Error>> + Send>>;

impl Answer<'_> {
    /// The next piece; `None` at the end. No time limit.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self.stream.next().await {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(error)) => Err(self.docker.fault(&error, self.changes)),
        }
    }
}

impl Docker {
    /// An engine at that address. Does not connect; reads may take 15 seconds.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, limit: Duration::from_secs(15), link: Mutex::new(None) }
    }

    /// With another limit for reads.
    pub(crate) fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How long a read may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    // --- what tools ask ---------------------------------------------------------------------

    /// Which engine it is; always asked anew, so that it says whether the engine answers now.
    pub(crate) async fn version(&self) -> Result<Version, Fault> {
        self.drop_link();
        Ok(self.link().await?.version.clone())
    }

    /// The containers, newest first as the engine has them.
    pub(crate) async fn list(&self, filters: &Filters) -> Result<Vec<Summary>, Fault> {
        let mut by = serde_json::Map::new();
        for (name, values) in [
            ("status", &filters.states),
            ("name", &filters.names),
            ("label", &filters.labels),
            ("health", &filters.health),
        ] {
            if !values.is_empty() {
                by.insert(name.to_owned(), json!(values));
            }
        }
        let query = escaped(&Value::Object(by).to_string());
        let rows = self.json(Call::get(format!("/containers/json?all={}&filters={query}", filters.all))).await?;
        Ok(rows.as_array().ok_or_else(|| not_a("list of containers"))?.iter().map(model::summary).collect())
    }

    /// Everything the engine knows about a container, exactly as it says it. Holds environment values: redact before
    /// showing.
    pub(crate) async fn inspect(&self, name: &str) -> Result<Value, Fault> {
        let name = checked(name)?;
        self.json(Call::get(format!("/containers/{name}/json"))).await
    }

    /// The container of that name, id or beginning of an id. The engine prefers a full id, then a name.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Container, Fault> {
        model::container(&self.inspect(name).await?).ok_or_else(|| not_a("container"))
    }

    /// Polls a container until it is in a state or the time is over. Ask by id: a name may be reused meanwhile. A
    /// container that goes away is [`Kind::NotFound`].
    pub(crate) async fn wait_state(
        &self,
        id: &str,
        within: Duration,
        mut reached: impl FnMut(&Container) -> bool + Send,
    ) -> Result<Settled, Fault> {
        let deadline = after(within);
        loop {
            let seen = self.resolve(id).await?;
            if reached(&seen) {
                return Ok(Settled::Reached(seen));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Settled::NotYet(seen));
            }
            sleep(left.min(Duration::from_millis(150))).await;
        }
    }

    /// The volumes, sorted by name; of one compose project if asked. The engine may take its time over volumes of
    /// plugins.
    pub(crate) async fn volumes(&self, project: Option<&str>) -> Result<Volumes, Fault> {
        let path = format!("/volumes{}", project_query(project));
        let answer = self.json(Call::get(path)).await?;
        if !answer.is_object() {
            return Err(not_a("list of volumes"));
        }
        let mut volumes: Vec<_> = model::list(&answer["Volumes"]).iter().map(model::volume).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let warnings = model::list(&answer["Warnings"]).iter().filter_map(|w| w.as_str().map(str::to_owned)).collect();
        Ok(Volumes { volumes, warnings })
    }

    /// The networks, sorted by name; of one compose project if asked.
    pub(crate) async fn networks(&self, project: Option<&str>) -> Result<Vec<Network>, Fault> {
        let path = format!("/networks{}", project_query(project));
        let rows = self.json(Call::get(path)).await?;
        let rows = rows.as_array().ok_or_else(|| not_a("list of networks"))?;
        let mut networks: Vec<_> = rows.iter().map(model::network).collect();
        networks.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(networks)
    }

    /// Starts a container. The engine's answer means that its process was created; look again a moment later whether
    /// it stayed.
    pub(crate) async fn start(&self, _: &proof::Change, name: &str) -> Result<Acted, Fault> {
        let before = self.resolve(name).await?;
        self.read(Call::post(format!("/containers/{}/start", before.id)), START).await.map_err(not_the_callers)?;
        if before.state.running {
            // The engine says 204 or 304, and bollard takes both for success. The time of the start tells them apart,
            // also when the container ended by itself after we looked.
            let unchanged = match self.resolve(&before.id).await {
                Ok(after) => after.state.started_at == before.state.started_at,
                Err(_) => false,
            };
            return Ok(if unchanged { Acted::Unchanged } else { Acted::Changed });
        }
        Ok(Acted::Changed)
    }

    /// Stops a container: its stop signal, then after so many seconds (its own limit, or 10) a kill.
    pub(crate) async fn stop(&self, _: &proof::Change, name: &str, seconds: Option<u32>) -> Result<Acted, Fault> {
        let before = self.resolve(name).await?;
        let path = format!("/containers/{}/stop{}", before.id, grace_query(seconds));
        self.read(Call::post(path), self.stop_limit(&before, seconds)).await?;
        Ok(if before.state.running { Acted::Changed } else { Acted::Unchanged })
    }

    /// Stops a container as [`Self::stop`] does, if it runs, and starts it.
    pub(crate) async fn restart(&self, _: &proof::Change, name: &str, seconds: Option<u32>) -> Result<(), Fault> {
        let before = self.resolve(name).await?;
        let path = format!("/containers/{}/restart{}", before.id, grace_query(seconds));
        self.read(Call::post(path), self.stop_limit(&before, seconds) + START).await.map_err(not_the_callers)?;
        Ok(())
    }

    /// How long we wait for a stop: what the engine waits before it kills, and some time for the kill.
    fn stop_limit(&self, container: &Container, seconds: Option<u32>) -> Duration {
        let grace = seconds.map(i64::from).or(container.stop_timeout).unwrap_or(10);
        u64::try_from(grace)
            .map_or(ENDLESS_STOP, |grace| Duration::from_secs(grace).min(LONGEST_WAIT) + self.limit.max(START / 2))
    }

    // --- requests ---------------------------------------------------------------------------

    /// A read whose answer is JSON.
    pub(super) async fn json(&self, call: Call) -> Result<Value, Fault> {
        let limit = self.limit;
        self.json_within(call, limit).await
    }

    /// The same with its own limit.
    pub(super) async fn json_within(&self, call: Call, limit: Duration) -> Result<Value, Fault> {
        let bytes = self.read(call, limit).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Fault::new(Kind::Malformed, format!("the engine's answer is not JSON: {error}")))
    }

    /// Sends a request and reads the whole answer.
    async fn read(&self, call: Call, limit: Duration) -> Result<Vec<u8>, Fault> {
        let link = self.link().await?;
        self.read_over(&link, call, limit).await
    }

    /// Sends a request and leaves the answer to be read. Nothing is sent before the first [`Answer::next`].
    pub(super) async fn open(&self, call: Call) -> Result<Answer<'_>, Fault> {
        let link = self.link().await?;
        Ok(self.send(&link, &call))
    }

    /// Over a connection whose version is known.
    fn send(&self, link: &Link, call: &Call) -> Answer<'_> {
        Answer { stream: link.send(call), docker: self, changes: call.changes }
    }

    /// Reads the whole answer over a given connection.
    async fn read_over(&self, link: &Link, call: Call, limit: Duration) -> Result<Vec<u8>, Fault> {
        let mut answer = self.send(link, &call);
        let whole = async {
            let mut bytes = Vec::new();
            while let Some(piece) = answer.next().await? {
                if bytes.len() + piece.len() > LONGEST {
                    return Err(Fault::new(Kind::Malformed, "the engine's answer is longer than 64 MiB"));
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        };
        timeout(limit, whole).await.unwrap_or_else(|_| Err(late(limit, call.changes)))
    }

    // --- the connection ---------------------------------------------------------------------

    /// The connection; at the first call, and after the engine was away, its version is asked first.
    async fn link(&self) -> Result<Arc<Link>, Fault> {
        if let Some(link) = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(link);
        }
        self.reach().await?;
        let asking = Link { bollard: self.connect()?, prefix: String::new(), version: unknown_version() };
        let answer = self.read_over(&asking, Call::get("/version"), self.limit).await;
        let not_docker =
            || Fault::new(Kind::Malformed, format!("what answers at {} is not a Docker Engine", self.endpoint));
        let answer = answer.map_err(|fault| if fault.kind == Kind::NotFound { not_docker() } else { fault })?;
        let Ok(said) = serde_json::from_slice::<Value>(&answer) else { return Err(not_docker()) };
        let (version, api) = spoken(&said)?;
        let link = Arc::new(Link { prefix: format!("/v{}.{}", api.0, api.1), version, ..asking });
        log::debug!("Docker Engine {} at {}, API {}", link.version.engine, self.endpoint, link.version.spoken);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Forgets the connection, so that the next call asks for the version again.
    fn drop_link(&self) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Finds out in short time whether there is something to talk to: bollard sets no limit of its own on connecting.
    async fn reach(&self) -> Result<(), Fault> {
        #[cfg(unix)]
        if let Endpoint::Unix(path) = &self.endpoint {
            use std::os::unix::fs::FileTypeExt as _;
            match tokio::fs::metadata(path).await {
                Ok(found) if found.file_type().is_socket() => {}
                Ok(found) => {
                    let what = if found.is_dir() { "a folder" } else { "a file" };
                    let cause = format!("no Docker Engine answers at {}: that is {what}, not a socket", self.endpoint);
                    return Err(Fault::new(Kind::Unreachable, cause).hint(if found.is_dir() {
                        "If this runs in a container, the engine's socket was missing on the host when it was made. Correct \
                         the mount, remove the folder, and make the container anew."
                    } else {
                        "Set DOCKER_HOST or DOCKER_SOCKET to where the engine listens."
                    }));
                }
                Err(error) => return Err(self.unreachable(error.kind(), &error.to_string())),
            }
        }
        let Some((host, port)) = self.endpoint.remote() else { return Ok(()) };
        match timeout(CONNECT, tokio::net::TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.unreachable(error.kind(), &error.to_string())),
            Err(_) => {
                Err(self.unreachable(io::ErrorKind::TimedOut, &format!("no answer within {} s", CONNECT.as_secs())))
            }
        }
    }

    /// Sets up the transport. Reads certificates, sends nothing.
    fn connect(&self) -> Result<bollard::Docker, Fault> {
        // bollard's limit covers only the time until the headers; ours cover all, so it must never be first.
        const NEVER: u64 = 7 * 24 * 3600;
        let version = bollard::API_DEFAULT_VERSION;
        let connected = match &self.endpoint {
            #[cfg(unix)]
            Endpoint::Unix(path) => {
                let Some(path) = path.to_str() else {
                    return Err(Fault::new(Kind::NotConfigured, "the path of the Docker socket is not valid UTF-8"));
                };
                bollard::Docker::connect_with_unix(path, NEVER, version)
            }
            #[cfg(windows)]
            Endpoint::Pipe(path) => bollard::Docker::connect_with_named_pipe(path, NEVER, version),
            Endpoint::Tcp { host, .. } => {
                let port = self.endpoint.remote().map_or(2375, |(_, port)| port);
                bollard::Docker::connect_with_http(&format!("{}:{port}", bracketed(host)), NEVER, version)
            }
            Endpoint::Tls { host, certs, .. } => {
                let port = self.endpoint.remote().map_or(2376, |(_, port)| port);
                // Only the first installation counts; bollard panics without any.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let (key, cert, ca) = certificates(certs.as_deref())?;
                let address = format!("{}:{port}", bracketed(host));
                bollard::Docker::connect_with_ssl(&address, &key, &cert, &ca, NEVER, version)
            }
        };
        connected.map_err(|error| match error {
            // It was there a moment ago.
            bollard::errors::Error::SocketNotFoundError(_) => self.unreachable(io::ErrorKind::NotFound, "no such file"),
            bollard::errors::Error::LoadNativeCertsErrors { errors } => {
                let why = errors.first().map_or_else(String::new, |error| format!(": {error}"));
                Fault::new(Kind::NotConfigured, format!("the system's certificate authorities cannot be read{why}"))
                    .hint("Correct SSL_CERT_FILE and SSL_CERT_DIR if they are set, or install the package ca-certificates.")
            }
            other => Fault::new(
                Kind::NotConfigured,
                format!("the connection to {} cannot be set up: {other}", self.endpoint),
            ),
        })
    }

    // --- failures ---------------------------------------------------------------------------

    /// What a failure of bollard means.
    fn fault(&self, error: &bollard::errors::Error, changes: bool) -> Fault {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                let fault = refused(*status_code, message);
                if fault.kind == Kind::NotConfigured {
                    self.drop_link(); // The engine was replaced by one of another version.
                }
                fault
            }
            Error::HyperLegacyError { err } if err.is_connect() => {
                self.drop_link();
                let root = root_of(err);
                self.unreachable(io_kind(err).unwrap_or(io::ErrorKind::Other), &root)
            }
            Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. } => {
                self.drop_link();
                let root = root_of(error);
                if root.contains("fatal alert") {
                    // TLS 1.3 refuses a client's certificate only after the request was sent, but does not read it.
                    self.unreachable(io::ErrorKind::Other, &root)
                } else if changes {
                    Fault::new(
                        Kind::TimedOut,
                        format!(
                            "the connection to the engine broke before it answered ({root}), so it may have happened"
                        ),
                    )
                } else if root.starts_with("invalid HTTP") {
                    Fault::new(Kind::Malformed, format!("what answers at {} does not speak HTTP", self.endpoint))
                } else {
                    Fault::new(Kind::Unreachable, format!("the connection to the engine broke: {root}"))
                }
            }
            other => Fault::new(Kind::Malformed, format!("the engine's answer could not be read: {other}")),
        }
    }

    /// Nobody answers at our address, or we may not ask.
    fn unreachable(&self, kind: io::ErrorKind, cause: &str) -> Fault {
        let place = &self.endpoint;
        match kind {
            #[cfg(unix)]
            io::ErrorKind::PermissionDenied => {
                let fault = Fault::new(Kind::Forbidden, format!("we may not open {place}: {}", owner(place)));
                fault.hint(may_open(place))
            }
            io::ErrorKind::NotFound => {
                Fault::new(Kind::Unreachable, format!("no Docker Engine answers at {place}: there is no such socket")).hint(
                    "Start the engine (systemctl start docker), mount its socket if this runs in a container, or set \
                     DOCKER_HOST or DOCKER_SOCKET to where it listens.",
                )
            }
            io::ErrorKind::ConnectionRefused => {
                Fault::new(Kind::Unreachable, format!("no Docker Engine answers at {place}: connection refused")).hint(
                    "Start the engine (systemctl start docker), or set DOCKER_HOST or DOCKER_SOCKET to where it listens.",
                )
            }
            _ if matches!(place, Endpoint::Tls { .. }) && (cause.contains("certificate") || cause.contains("alert")) => {
                Fault::new(Kind::NotConfigured, format!("no TLS connection with {place}: {cause}")).hint(
                    "DOCKER_CERT_PATH must name the folder with the ca.pem that signed the engine's certificate and, if it \
                     asks for one, our cert.pem and key.pem; the host name must be in its certificate.",
                )
            }
            _ => Fault::new(Kind::Unreachable, format!("no Docker Engine answers at {place}: {cause}"))
                .hint("Check that the host is up and that DOCKER_HOST names where its engine listens."),
        }
    }
}

impl Link {
    /// The bytes of any answer. bollard has no such method, but `export_container` streams a body untouched, and a
    /// request modifier may make of its request what it likes: method, path and body. Status codes are still bollard's:
    /// anything but 2xx and 304 becomes an error with the engine's message.
    fn send(&self, call: &Call) -> ByteStream {
        let path = format!("{}{}", self.prefix, call.path);
        let method = call.method;
        let body = call.body.as_ref().map(Value::to_string);
        let bollard = self.bollard.clone().with_request_modifier(move |mut request| {
            let host = request.uri().authority().map_or("localhost", |authority| authority.as_str());
            let uri = format!("{}://{host}{path}", request.uri().scheme_str().unwrap_or("http"));
            // Neither parse can fail: names in the path were checked, all else was escaped. If one did, the request
            // would stay one for a container `-`, which no engine has.
            if let (Ok(uri), Ok(method)) = (uri.parse(), method.parse()) {
                *request.uri_mut() = uri;
                *request.method_mut() = method;
                if let Some(body) = &body {
                    *request.body_mut() = bollard::body_full(body.clone().into());
                }
            }
            request
        });
        Box::pin(bollard.export_container("-").map(|piece| piece.map(Vec::from)))
    }
}

/// Placeholder while the version is being asked.
fn unknown_version() -> Version {
    Version {
        engine: String::new(),
        api: String::new(),
        spoken: String::new(),
        os: String::new(),
        arch: String::new(),
        kernel: None,
        product: None,
    }
}

/// Reads `GET /version` and chooses the API.
fn spoken(said: &Value) -> Result<(Version, Api), Fault> {
    let engine = model::text(said, "Version");
    let text = model::text(said, "ApiVersion");
    let Some(newest) = Api::parse(&text) else {
        return Err(Fault::new(Kind::Malformed, "what answers does not name the API of a Docker Engine"));
    };
    if newest < OLDEST {
        return Err(Fault::new(
            Kind::NotConfigured,
            format!("Docker Engine {engine} is too old: its API is {text}, and 1.41 (Docker 20.10) is needed"),
        )
        .hint("Update the engine."));
    }
    if said["MinAPIVersion"].as_str().and_then(Api::parse).is_some_and(|oldest| oldest > NEWEST) {
        let minimum = model::text(said, "MinAPIVersion");
        return Err(Fault::new(
            Kind::NotConfigured,
            format!("Docker Engine {engine} is too new: it speaks API {minimum} and later, and 1.53 is the newest known here"),
        )
        .hint("Update homelab-mcp."));
    }
    let api = newest.min(NEWEST);
    // Podman names itself in the first component, Docker in the platform.
    let product = model::some_text(&said["Platform"]["Name"]);
    let podman =
        model::list(&said["Components"]).iter().find_map(|c| c["Name"].as_str().filter(|n| n.contains("Podman")));
    Ok((
        Version {
            engine,
            api: text,
            spoken: format!("{}.{}", api.0, api.1),
            os: model::text(said, "Os"),
            arch: model::text(said, "Arch"),
            kernel: model::some_text(&said["KernelVersion"]),
            product: podman.map(str::to_owned).or(product),
        },
        api,
    ))
}

/// A name or id that may go into a URL.
pub(super) fn checked(name: &str) -> Result<&str, Fault> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= 255 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).collect();
    Err(Fault::new(Kind::Invalid, format!("`{shown}` cannot be the name or id of a container"))
        .hint("A name has letters, digits, `_`, `.` and `-`. Call docker_list_containers for valid names."))
}

/// Filters by compose project.
fn project_query(project: Option<&str>) -> String {
    project.map_or_else(String::new, |project| {
        format!("?filters={}", escaped(&json!({"label": [format!("{PROJECT}={project}")]}).to_string()))
    })
}

/// The time before the kill.
fn grace_query(seconds: Option<u32>) -> String {
    seconds.map_or_else(String::new, |seconds| format!("?t={seconds}"))
}

/// Text for a query, with everything escaped that is not plain.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The three files of a certificate folder. `cert.pem` and `key.pem` may both be missing: then we show no certificate.
fn certificates(
    folder: Option<&std::path::Path>,
) -> Result<(std::path::PathBuf, std::path::PathBuf, std::path::PathBuf), Fault> {
    let Some(folder) = folder else {
        // An empty CA file adds nothing to the system's authorities.
        let none = std::path::PathBuf::from(if cfg!(windows) { "NUL" } else { "/dev/null" });
        return Ok((none.clone(), none.clone(), none));
    };
    let (key, cert, ca) = (folder.join("key.pem"), folder.join("cert.pem"), folder.join("ca.pem"));
    let mut wanted = vec![&ca];
    if key.exists() || cert.exists() {
        wanted.extend([&key, &cert]);
    }
    for file in wanted {
        if let Err(error) = std::fs::File::open(file) {
            let cause = format!("the file {} of DOCKER_CERT_PATH cannot be read: {error}", file.display());
            return Err(Fault::new(Kind::NotConfigured, cause));
        }
    }
    Ok((key, cert, ca))
}

/// The engine's refusal.
fn refused(status: u16, message: &str) -> Fault {
    let message = plain(message);
    let says = |part: &str| message.to_ascii_lowercase().contains(part);
    let fault =
        |kind| Fault::new(kind, if message.is_empty() { format!("HTTP status {status}") } else { message.clone() });
    if says("multiple ids found") {
        // 500 in Docker 20.10, 400 in later ones.
        return fault(Kind::Invalid).hint("Give more of the id, or the name.");
    }
    if says("client version") && says("api version") {
        return fault(Kind::NotConfigured).hint("The engine was changed for one of another version: call again.");
    }
    if says("http request to an https server") {
        return fault(Kind::NotConfigured)
            .hint("Set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or use https:// in DOCKER_HOST.");
    }
    if says("logging driver does not support reading") {
        return fault(Kind::Conflict).hint(
            "The container's logging driver sends its output elsewhere: read it there, or give the container the driver \
             `local` or `json-file`.",
        );
    }
    match status {
        400 | 405 | 406 | 422 => fault(Kind::Invalid),
        401 | 403 => fault(Kind::Forbidden).hint(
            "If a socket proxy stands before the engine, allow this there (for docker-socket-proxy: CONTAINERS=1, and POST=1 \
             or EXEC=1 for changes).",
        ),
        300..400 => fault(Kind::Malformed),
        404 => fault(Kind::NotFound),
        409 => fault(Kind::Conflict),
        _ => fault(Kind::Upstream),
    }
}

/// A message without the tags of a proxy's HTML page and without the engine's preamble.
fn plain(message: &str) -> String {
    let message = message.trim();
    if !message.starts_with('<') {
        return message
            .strip_prefix("Error response from daemon: ")
            .unwrap_or(message)
            .trim_end_matches('.')
            .to_owned();
    }
    let mut text = String::new();
    let mut tag = false;
    for c in message.chars() {
        match c {
            '<' => tag = true,
            '>' => {
                tag = false;
                text.push(' ');
            }
            c if !tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

/// The time so long from now.
pub(super) fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(LONGEST_WAIT)
}

/// The limit is over.
pub(super) fn late(limit: Duration, changes: bool) -> Fault {
    let seconds = limit.as_secs_f64();
    let seconds = if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") };
    let seconds = seconds.trim_end_matches(".0");
    if changes {
        Fault::new(Kind::TimedOut, format!("the engine did not answer within {seconds} s, so it may have happened"))
    } else {
        Fault::new(Kind::TimedOut, format!("the engine did not answer within {seconds} s"))
            .hint("Nothing was changed: try again, or look at what keeps the engine's host busy.")
    }
}

/// For a container whose own command or mounts are wrong the engine says 400, but no argument of ours is at fault.
fn not_the_callers(fault: Fault) -> Fault {
    if fault.kind != Kind::Invalid {
        return fault;
    }
    Fault { kind: Kind::Conflict, ..fault }
        .hint("The container itself is configured wrongly: correct it and create it anew.")
}

/// JSON of another form.
pub(super) fn not_a(what: &str) -> Fault {
    Fault::new(Kind::Malformed, format!("the engine's answer is not a {what}"))
}

/// The kind of the input/output error at the bottom, if there is one.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    let mut kind = None;
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        next = error.source();
    }
    kind
}

/// What the innermost error says.
fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

/// Whom the socket belongs to.
#[cfg(unix)]
fn owner(endpoint: &Endpoint) -> String {
    match socket_group(endpoint) {
        Some((gid, Some(name))) => format!("it belongs to the group {name} ({gid}), and we are not in it"),
        Some((gid, None)) => format!("it belongs to the group {gid}, and we are not in it"),
        None => "permission denied".to_owned(),
    }
}

/// What helps against that.
#[cfg(unix)]
fn may_open(endpoint: &Endpoint) -> String {
    let user = rustix::process::geteuid().as_raw();
    if user == 0 {
        return "Even root was refused: look for SELinux or AppArmor, or an engine that runs rootless for another user.".to_owned();
    }
    match socket_group(endpoint) {
        Some((gid, name)) if gid != 0 => {
            let name = name.unwrap_or_else(|| gid.to_string());
            format!(
                "Add our user to it (sudo usermod -aG {name} USER, then sign in anew), or in a container give it \
                 `group_add: [\"{gid}\"]`; we run as user id {user}. Whoever may use this socket is root on its host."
            )
        }
        _ => format!(
            "Only root may use it: give the engine's socket a group, or run as root, or use a rootless engine; we run as user \
             id {user}."
        ),
    }
}

/// The group of the socket: number, and name if this machine has one for it.
#[cfg(unix)]
fn socket_group(endpoint: &Endpoint) -> Option<(u32, Option<String>)> {
    use std::os::unix::fs::MetadataExt as _;
    let Endpoint::Unix(path) = endpoint else { return None };
    let gid = std::fs::metadata(path).ok()?.gid();
    let name = std::fs::read_to_string("/etc/group").ok().and_then(|groups| group_name(&groups, gid));
    Some((gid, name))
}

/// A group's name in the form of `/etc/group`.
#[cfg(unix)]
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_in_a_url_pass() {
        for name in ["web", "a1b2c3", "media-web-1", "A_b.c-d", "0"] {
            assert!(checked(name).is_ok(), "{name}");
        }
        for name in ["", "-a", ".", "..", "../x", "a/b", "a b", "a?b", "a%2f", "ä", "a\n", &"a".repeat(256)] {
            assert_eq!(checked(name).unwrap_err().kind, Kind::Invalid, "{name}");
        }
    }

    #[test]
    fn the_api_is_the_newest_that_both_know() {
        let said = |api: &str, min: &str| json!({"Version": "x", "ApiVersion": api, "MinAPIVersion": min});
        assert_eq!(spoken(&said("1.41", "1.12")).unwrap().0.spoken, "1.41");
        assert_eq!(spoken(&said("1.99", "1.44")).unwrap().0.spoken, "1.53");
        let old = spoken(&json!({"Version": "19.03.15", "ApiVersion": "1.40"})).unwrap_err();
        assert_eq!(old.kind, Kind::NotConfigured);
        assert!(old.cause.starts_with("Docker Engine 19.03.15 is too old"), "{}", old.cause);
        assert!(spoken(&said("1.99", "1.60")).unwrap_err().cause.contains("too new"));
        assert_eq!(spoken(&json!({"Version": "1.2"})).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn refusals_keep_the_words_and_get_a_kind() {
        let of = |status, message| {
            let fault = refused(status, message);
            (fault.kind, fault.cause)
        };
        assert_eq!(of(404, "No such container: web"), (Kind::NotFound, "No such container: web".into()));
        assert_eq!(of(409, "is not running"), (Kind::Conflict, "is not running".into()));
        assert_eq!(of(500, "Multiple IDs found with provided prefix: a").0, Kind::Invalid);
        assert_eq!(of(503, ""), (Kind::Upstream, "HTTP status 503".into()));
        assert_eq!(
            of(403, "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n"),
            (Kind::Forbidden, "403 Forbidden Request forbidden by administrative rules".into())
        );
        assert_eq!(
            of(400, "client version 1.53 is too new. Maximum supported API version is 1.41").0,
            Kind::NotConfigured
        );
        assert_eq!(of(400, "Client sent an HTTP request to an HTTPS server.\n").0, Kind::NotConfigured);
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped(r#"{"a":["ä b"]}"#), "%7B%22a%22%3A%5B%22%C3%A4%20b%22%5D%7D");
    }

    #[test]
    #[cfg(unix)]
    fn groups_are_found_by_number() {
        let groups = "root:x:0:\nbroken\ndocker:x:998:me,you\n";
        assert_eq!(group_name(groups, 998).as_deref(), Some("docker"));
        assert_eq!(group_name(groups, 1), None);
    }
}
