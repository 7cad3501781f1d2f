//! The gateway's configuration, read once into types that cannot be half right. Every problem is reported at once with
//! the variable's name. What the values do is explained in [`VARS`], which feeds `--help` and the README.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use shared::{
    Level, Secret,
    vars::{Problems, Var, Vars},
};

use crate::{auth::RedirectUri, guard::Network};

const fn var(name: &'static str, default: &'static str, about: &'static str) -> Var {
    Var { name, default, about, secret: false }
}

const fn secret(name: &'static str, default: &'static str, about: &'static str) -> Var {
    Var { name, default, about, secret: true }
}

/// Every variable of the gateway. What is not here is passed on to the core.
pub const VARS: &[Var] = &[
    var("PORT", "3005", "port to listen on; 0 takes a free one"),
    var("BIND", "127.0.0.1", "address to listen on"),
    var(
        "PUBLIC_URL",
        "the listener, if it is loopback",
        "the https origin that clients use, such as https://mcp.example.com; needed for OAuth behind a proxy",
    ),
    var("SERVER_DOMAIN", "–", "the name in PUBLIC_URL, for a configuration of the earlier server"),
    var("CAPABILITY_LEVEL", "1", "how much any caller may do: 1–4, or monitor, operate, configure, manage"),
    secret("API_KEY", "–", "a bearer token that does not expire"),
    var("API_KEY_LEVEL", "CAPABILITY_LEVEL", "how much the bearer of API_KEY may do"),
    var("OAUTH_CLIENT_ID", "–", "id of the OAuth client"),
    secret("OAUTH_CLIENT_SECRET", "–", "its secret"),
    var("CLIENT_CREDENTIALS_LEVEL", "CAPABILITY_LEVEL", "how much a token got with id and secret alone may do"),
    secret(
        "OWNER_PASSWORD",
        "–",
        "asked for on the page where you let an app in; at least 12 characters; without it Claude Chat cannot sign in",
    ),
    var("REFRESH_TTL", "30d", "how long a connection lasts that is not used"),
    var("EXTRA_REDIRECT_URIS", "–", "where the client may return to, beside Claude and /callback on your own device"),
    var("DYNAMIC_REGISTRATION", "off", "`on` lets apps register themselves; each still needs your consent"),
    secret("TOKEN_KEY", "made in STATE_DIR", "signs access tokens: 32 random bytes in hex"),
    var("TOKEN_TTL", "1h", "how long an access token lasts"),
    var("STATE_DIR", "~/.local/state/homelab-mcp", "keys that outlive a restart; shared with the core"),
    var("METRICS_ADDR", "127.0.0.1:9464", "where GET /metrics is served, without sign-in; `off` for nowhere"),
    var("DRAIN", "25s", "how long calls may go on after SIGTERM"),
    var("MAX_BODY", "4194304", "largest request body in bytes"),
    var("CORE_COMMAND", "the homelab-mcp beside this program", "MCP server over stdio to start, with its arguments"),
    var("POOL_SIZE", "1", "core processes per capability level; one serves many callers, more help only the CPU"),
    var("MAX_IN_FLIGHT", "256", "calls at the same time; more wait a few seconds, then get 503"),
    var(
        "MAX_SESSIONS",
        "10000",
        "sessions (protocol up to 2025-11-25) at the same time; a caller's oldest idle one goes",
    ),
    var("SESSION_TTL", "24h", "how long an unused session is kept"),
    var("ALLOWED_ORIGINS", "https://claude.ai, https://claude.com", "web pages that may call, beside the public URL"),
    var("ALLOWED_HOSTS", "–", "Host names to answer to, beside the public one and loopback"),
    var("TRUSTED_PROXIES", "–", "addresses or networks whose X-Forwarded-For is believed: 127.0.0.1, 172.16.0.0/12"),
    var("RUST_LOG", "info", "log level on stderr: error, warn, info, debug; shared with the core"),
];

/// Variables of ours that the core is started with too. `CAPABILITY_LEVEL` it gets from the caller's level.
const SHARED_WITH_CORE: &[&str] = &["STATE_DIR", "RUST_LOG"];

/// The static bearer token.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) key: Secret,
    pub(crate) level: Level,
}

/// The one configured OAuth client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    /// Ceiling of tokens got with id and secret alone.
    pub(crate) level: Level,
}

/// The owner, who can be asked on a page.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) password: Secret,
    pub(crate) refresh_ttl: Duration,
    /// Where the configured client may return to beside the usual places.
    pub(crate) redirects: Vec<RedirectUri>,
    pub(crate) registration: bool,
}

/// How core processes are started.
#[derive(Clone, Debug)]
pub(crate) struct CoreCommand {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// It is a homelab-mcp, not some other MCP server: it knows levels and believes us who is calling.
    pub(crate) ours: bool,
    /// Its whole environment but for `CAPABILITY_LEVEL`.
    pub(crate) environment: Vec<(String, String)>,
}

impl CoreCommand {
    /// For messages.
    pub(crate) fn name(&self) -> String {
        self.program.display().to_string()
    }
}

/// Everything the gateway needs to know.
#[derive(Debug)]
pub struct Config {
    pub(crate) level: Level,
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Option<Origin>,
    pub(crate) api_key: Option<ApiKey>,
    pub(crate) client: Option<Client>,
    pub(crate) owner: Option<Owner>,
    pub(crate) token_key: Option<[u8; 32]>,
    pub(crate) token_ttl: Duration,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) drain: Duration,
    pub(crate) max_body: usize,
    pub(crate) core: CoreCommand,
    pub(crate) pool_size: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) max_sessions: usize,
    pub(crate) session_ttl: Duration,
    pub(crate) origins: Vec<Origin>,
    pub(crate) hosts: Vec<String>,
    pub(crate) proxies: Vec<Network>,
}

impl Config {
    /// Reads and checks everything. The command of the core comes back in any case, so that its problems can be
    /// reported together with ours.
    pub fn read(mut vars: Vars) -> (CoreCommandToCheck, Result<Self, Problems>) {
        let v = &mut vars;
        let level = v.parse("CAPABILITY_LEVEL", Level::Monitor);
        let core = core_command(v);
        let to_check = CoreCommandToCheck { command: core.clone(), level };
        let api_key = v.secret("API_KEY").map(|key| ApiKey { key, level: ceiling(v, "API_KEY_LEVEL", level) });
        let client = client(v, level);
        let token_secret = v.secret("TOKEN_KEY");
        let others = [
            ("API_KEY", api_key.as_ref().map(|key| &key.key)),
            ("OAUTH_CLIENT_SECRET", client.as_ref().map(|client| &client.secret)),
            ("TOKEN_KEY", token_secret.as_ref()),
        ];
        let owner = owner(v, &others);
        let tried = ["API_KEY", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OWNER_PASSWORD"];
        if !tried.iter().any(|name| v.text(name).is_some() || v.text(&format!("{name}_FILE")).is_some()) {
            v.problem(
                "there is no way to sign in. Set API_KEY, or OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET, for example to \
                 the output of `openssl rand -hex 32`; and OWNER_PASSWORD for Claude Chat.",
            );
        }
        let listen = listener(v);
        let public_url = public_url(v);
        if public_url.is_none() && (client.is_some() || owner.is_some()) && !listen.ip().is_loopback() {
            v.problem(
                "PUBLIC_URL: needed, since OAuth is configured and BIND is no loopback address. Set it to the origin \
                 that clients use, such as https://mcp.example.com.",
            );
        }
        let config = Self {
            level,
            listen,
            public_url,
            api_key,
            client,
            owner,
            token_key: token_secret.and_then(|secret| token_key(v, &secret)),
            token_ttl: span(v, "TOKEN_TTL", "1h", 60..=30 * 86_400),
            state_dir: v.state_dir(),
            metrics: v.parse("METRICS_ADDR", MetricsAddr(Some(SocketAddr::from(([127, 0, 0, 1], 9464))))).0,
            drain: span(v, "DRAIN", "25s", 0..=3600),
            max_body: v.number("MAX_BODY", 4 << 20, 1024..=(1 << 28)) as usize,
            core,
            pool_size: v.number("POOL_SIZE", 1, 1..=64) as usize,
            max_in_flight: v.number("MAX_IN_FLIGHT", 256, 1..=100_000) as usize,
            max_sessions: v.number("MAX_SESSIONS", 10_000, 1..=1_000_000) as usize,
            session_ttl: span(v, "SESSION_TTL", "24h", 1..=365 * 86_400),
            origins: origins(v),
            hosts: v.list("ALLOWED_HOSTS").iter().map(|host| host.to_ascii_lowercase()).collect(),
            proxies: proxies(v),
        };
        (to_check, vars.finish().map(|()| config))
    }
}

/// What is needed to try the core while the rest of the configuration may be wrong.
#[derive(Debug)]
pub struct CoreCommandToCheck {
    pub(crate) command: CoreCommand,
    pub(crate) level: Level,
}

/// Where to listen.
pub(crate) fn listener(vars: &mut Vars) -> SocketAddr {
    let bind = vars.parse("BIND", Bind(IpAddr::from([127, 0, 0, 1]))).0;
    SocketAddr::new(bind, vars.number("PORT", 3005, 0..=65_535) as u16)
}

fn ceiling(vars: &mut Vars, name: &str, level: Level) -> Level {
    let wanted = vars.parse(name, level);
    if wanted > level {
        vars.problem(format!("{name}: {wanted} is above CAPABILITY_LEVEL, which is {level}. Lower it or raise that."));
    }
    wanted
}

fn client(vars: &mut Vars, level: Level) -> Option<Client> {
    let (id, secret) = (vars.text("OAUTH_CLIENT_ID"), vars.secret("OAUTH_CLIENT_SECRET"));
    let client_level = ceiling(vars, "CLIENT_CREDENTIALS_LEVEL", level);
    match (id, secret) {
        (Some(id), Some(secret)) => {
            if !id.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                vars.problem("OAUTH_CLIENT_ID: only printable ASCII is allowed.");
            }
            Some(Client { id, secret, level: client_level })
        }
        (Some(_), None) => {
            // A file that cannot be read has been reported.
            if vars.text("OAUTH_CLIENT_SECRET_FILE").is_none() {
                vars.problem("OAUTH_CLIENT_SECRET: missing, while OAUTH_CLIENT_ID is set. Set both or neither.");
            }
            None
        }
        (None, Some(_)) => {
            vars.problem("OAUTH_CLIENT_ID: missing, while OAUTH_CLIENT_SECRET is set. Set both or neither.");
            None
        }
        (None, None) => None,
    }
}

fn owner(vars: &mut Vars, others: &[(&str, Option<&Secret>)]) -> Option<Owner> {
    let refresh_ttl = span(vars, "REFRESH_TTL", "30d", 60..=365 * 86_400);
    let registration = vars.word("DYNAMIC_REGISTRATION", &[("off", false), ("on", true)]).unwrap_or(false);
    let mut redirects = Vec::new();
    for text in vars.list("EXTRA_REDIRECT_URIS") {
        match text.parse() {
            Ok(uri) => redirects.push(uri),
            Err(error) => vars.problem(format!("EXTRA_REDIRECT_URIS: {error}.")),
        }
    }
    let password = vars.secret("OWNER_PASSWORD")?;
    if password.expose().chars().count() < 12 {
        vars.problem("OWNER_PASSWORD: shorter than 12 characters. Use four random words, for example.");
    }
    for (name, _) in others.iter().filter(|(_, other)| other.is_some_and(|other| other.matches(password.expose()))) {
        vars.problem(format!("OWNER_PASSWORD: the same as {name}, which is for something else. Use another one."));
    }
    Some(Owner { password, refresh_ttl, redirects, registration })
}

fn public_url(vars: &mut Vars) -> Option<Origin> {
    let url: Option<Origin> = vars.parse_option("PUBLIC_URL");
    let domain = vars.text("SERVER_DOMAIN").and_then(|domain| {
        let url = if domain.contains("://") { domain } else { format!("https://{domain}") };
        match url.parse::<Origin>() {
            Ok(origin) => Some(origin),
            Err(error) => {
                vars.problem(format!("SERVER_DOMAIN: {error}."));
                None
            }
        }
    });
    match (url, domain) {
        (Some(url), Some(domain)) if url != domain => {
            vars.problem(format!("PUBLIC_URL ({url}) and SERVER_DOMAIN ({domain}) differ. Keep one of them."));
            None
        }
        (url, domain) => url.or(domain),
    }
}

fn token_key(vars: &mut Vars, given: &Secret) -> Option<[u8; 32]> {
    let key = unhex(given.expose());
    if key.is_none() {
        vars.problem("TOKEN_KEY: not 64 hexadecimal digits. Use the output of `openssl rand -hex 32`.");
    }
    key
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(key)
}

fn origins(vars: &mut Vars) -> Vec<Origin> {
    let mut given = vars.list("ALLOWED_ORIGINS");
    if given.is_empty() {
        given = vec!["https://claude.ai".to_owned(), "https://claude.com".to_owned()];
    }
    let mut origins = Vec::new();
    for text in given {
        match Origin::of_a_page(&text) {
            Ok(origin) => origins.push(origin),
            Err(error) => vars.problem(format!("ALLOWED_ORIGINS: {error}.")),
        }
    }
    origins
}

fn proxies(vars: &mut Vars) -> Vec<Network> {
    let mut proxies = Vec::new();
    for text in vars.list("TRUSTED_PROXIES") {
        match text.parse() {
            Ok(network) => proxies.push(network),
            Err(error) => vars.problem(format!("TRUSTED_PROXIES: {error}.")),
        }
    }
    proxies
}

fn core_command(vars: &mut Vars) -> CoreCommand {
    let environment = vars.pairs(|name| {
        let theirs = |var: &str| name == var || name.strip_suffix("_FILE") == Some(var);
        SHARED_WITH_CORE.contains(&name) || !VARS.iter().map(|var| var.name).any(theirs)
    });
    let words = match vars.text("CORE_COMMAND").map(|text| words(&text)) {
        None => Vec::new(),
        Some(Some(words)) => words,
        Some(None) => {
            vars.problem("CORE_COMMAND: a quotation mark is not closed.");
            Vec::new()
        }
    };
    let mut words = words.into_iter();
    let program = words.next().map_or_else(beside_us, PathBuf::from);
    let mut arguments: Vec<_> = words.collect();
    let ours = program.file_stem().is_some_and(|stem| stem == CORE_NAME);
    if ours && !arguments.iter().any(|argument| argument == "--behind-gateway") {
        arguments.push("--behind-gateway".to_owned());
    }
    CoreCommand { program, arguments, ours, environment }
}

const CORE_NAME: &str = "homelab-mcp";

/// The core that was installed with this program; else one on PATH.
fn beside_us() -> PathBuf {
    std::env::current_exe()
        .ok()
        .map(|us| us.with_file_name(CORE_NAME))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(CORE_NAME))
}

/// Splits a command at blanks outside of quotation marks; `None` when one is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match quote {
            Some(mark) if c == mark => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Scheme, host and port of a URL, in lower case and without the scheme's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    text: String,
    host: String,
}

impl Origin {
    /// Without a slash at the end.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The name or address, without the port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Of the listener itself.
    pub(crate) fn of_listener(address: SocketAddr) -> Self {
        Self { text: format!("http://{address}"), host: host_of(&address.to_string()).to_owned() }
    }

    /// Of a web page that may call: http is its owner's business.
    pub(crate) fn of_a_page(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an origin such as https://mcp.example.com");
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = lower.trim_end_matches('/').split_once("://").ok_or_else(wrong)?;
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ', '*']) || scheme.is_empty() {
            return Err(wrong());
        }
        let host = host_of(authority);
        let port = authority.get(host.len()..).unwrap_or_default();
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())) {
            return Err(wrong());
        }
        let default = matches!((scheme, port), ("https", ":443") | ("http", ":80"));
        let authority = if default { host } else { authority };
        Ok(Self { text: format!("{scheme}://{authority}"), host: host.to_owned() })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Origin {
    type Err = String;

    /// An origin that tokens may be issued for: https, or http on loopback.
    fn from_str(text: &str) -> Result<Self, String> {
        let origin = Self::of_a_page(text).map_err(|error| {
            if text.contains("://") { format!("{error}; give only that, without a path") } else { error }
        })?;
        match origin.text.split_once("://") {
            Some(("https", _)) => Ok(origin),
            Some(("http", _)) if is_loopback(&origin.host) => Ok(origin),
            _ => Err(format!("`{text}` must be https (http only on loopback), since tokens travel there")),
        }
    }
}

/// The host of `host:port`, `host` or `[v6]:port`.
pub(crate) fn host_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Whether a host means this machine only.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

struct Bind(IpAddr);

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map(Self).map_err(|_| format!("`{text}` is not an IP address; use 127.0.0.1, 0.0.0.0 or [::]"))
    }
}

struct MetricsAddr(Option<SocketAddr>);

impl FromStr for MetricsAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| {
            format!("`{text}` is not an address with a port, such as 127.0.0.1:9464; `off` switches the metrics off")
        })
    }
}

/// A time such as `25s`, `90`, `15m`, `1h` or `30d`; a bare number is seconds.
struct Span(u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match text.get(digits.len()..).unwrap_or_default().trim() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => 0,
        };
        match digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
            Some(seconds) if factor > 0 => Ok(Self(seconds)),
            _ => Err(format!("`{text}` is not a time such as 25s, 15m, 1h or 30d")),
        }
    }
}

fn span(vars: &mut Vars, name: &str, default: &str, seconds: std::ops::RangeInclusive<u64>) -> Duration {
    let fallback = default.parse::<Span>().map_or(*seconds.start(), |span| span.0);
    let given = vars.parse(name, Span(fallback)).0;
    if !seconds.contains(&given) {
        vars.problem(format!("{name}: {given} s is not within {} s to {} s.", seconds.start(), seconds.end()));
    }
    Duration::from_secs(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
        Config::read(Vars::from_pairs(pairs.iter().copied())).1.expect_err("the configuration is wrong").0
    }

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::read(Vars::from_pairs(pairs.iter().copied())).1.expect("the configuration is right")
    }

    #[test]
    fn a_key_is_enough() {
        let config = config(&[("API_KEY", "k"), ("HOME", "/home/x")]);
        assert_eq!(config.listen.to_string(), "127.0.0.1:3005");
        assert_eq!((config.level, config.api_key.unwrap().level), (Level::Monitor, Level::Monitor));
        assert_eq!(
            (config.token_ttl.as_secs(), config.drain.as_secs(), config.session_ttl.as_secs()),
            (3600, 25, 86_400)
        );
        assert_eq!(config.state_dir.unwrap(), PathBuf::from("/home/x/.local/state/homelab-mcp"));
    }

    #[test]
    fn every_problem_is_named_in_one_go() {
        let found = problems(&[
            ("PORT", "http"),
            ("BIND", "everywhere"),
            ("CAPABILITY_LEVEL", "5"),
            ("OAUTH_CLIENT_ID", "x"),
            ("PUBLIC_URL", "http://mcp.example.com"),
            ("TOKEN_KEY", "short"),
            ("TOKEN_TTL", "soon"),
            ("DRAIN", "2w"),
            ("TRUSTED_PROXIES", "proxy"),
            ("ALLOWED_ORIGINS", "claude.ai"),
            ("METRICS_ADDR", "9464"),
            ("STATE_DIR", "state"),
            ("POOL_SIZE", "0"),
            ("API_KEY_FILE", "/nonexistent/key"),
        ]);
        for name in [
            "PORT",
            "BIND",
            "CAPABILITY_LEVEL",
            "OAUTH_CLIENT_SECRET",
            "PUBLIC_URL",
            "TOKEN_KEY",
            "TOKEN_TTL",
            "DRAIN",
            "TRUSTED_PROXIES",
            "ALLOWED_ORIGINS",
            "METRICS_ADDR",
            "STATE_DIR",
            "POOL_SIZE",
            "API_KEY_FILE",
        ] {
            assert_eq!(found.iter().filter(|problem| problem.starts_with(name)).count(), 1, "{name}: {found:#?}");
        }
    }

    #[test]
    fn without_a_way_to_sign_in_it_does_not_start() {
        assert!(problems(&[])[0].contains("no way to sign in"));
        assert!(problems(&[("OAUTH_CLIENT_SECRET", "x")])[0].starts_with("OAUTH_CLIENT_ID"));
        assert!(problems(&[("OAUTH_CLIENT_ID", "x")])[0].starts_with("OAUTH_CLIENT_SECRET"));
    }

    #[test]
    fn a_ceiling_is_not_above_the_servers_level() {
        assert!(problems(&[("API_KEY", "k"), ("API_KEY_LEVEL", "2")])[0].starts_with("API_KEY_LEVEL"));
        let config = config(&[("API_KEY", "k"), ("API_KEY_LEVEL", "2"), ("CAPABILITY_LEVEL", "3")]);
        assert_eq!((config.level, config.api_key.unwrap().level), (Level::Configure, Level::Operate));
    }

    #[test]
    fn the_owners_password_is_a_password_of_its_own() {
        let of = |password: &'static str, more: &[(&'static str, &'static str)]| {
            [&[("OWNER_PASSWORD", password), ("API_KEY", "key-0123456789")], more].concat()
        };
        assert!(problems(&of("short", &[]))[0].starts_with("OWNER_PASSWORD"));
        assert!(problems(&of("key-0123456789", &[]))[0].contains("the same as API_KEY"));
        let client = [("OAUTH_CLIENT_ID", "a"), ("OAUTH_CLIENT_SECRET", "secret-0123456789")];
        assert!(problems(&of("secret-0123456789", &client))[0].contains("the same as OAUTH_CLIENT_SECRET"));
        let key = "ab".repeat(32);
        let same = [("OWNER_PASSWORD", key.as_str()), ("TOKEN_KEY", key.as_str())];
        assert!(problems(&same)[0].contains("the same as TOKEN_KEY"));
        let wrong = [("EXTRA_REDIRECT_URIS", "http://evil.example/x"), ("DYNAMIC_REGISTRATION", "perhaps")];
        assert_eq!(problems(&of("four plain words", &wrong)).len(), 2);
        assert!(problems(&of("four plain words", &[("BIND", "0.0.0.0")]))[0].starts_with("PUBLIC_URL"));
        // Enough to sign in with: apps that are described by a document need nothing else.
        let alone = config(&[("OWNER_PASSWORD", "four plain words"), ("REFRESH_TTL", "1d")]);
        let owner = alone.owner.unwrap();
        assert_eq!((owner.refresh_ttl.as_secs(), owner.registration, owner.redirects.len()), (86_400, false, 0));
    }

    #[test]
    fn oauth_on_the_network_needs_the_public_url() {
        let oauth = [("OAUTH_CLIENT_ID", "a"), ("OAUTH_CLIENT_SECRET", "b"), ("BIND", "0.0.0.0")];
        assert!(problems(&oauth)[0].starts_with("PUBLIC_URL"));
        let domain = [oauth.as_slice(), &[("SERVER_DOMAIN", "MCP.example.com:443")]].concat();
        assert_eq!(config(&domain).public_url.unwrap().as_str(), "https://mcp.example.com");
        let both = [domain.as_slice(), &[("PUBLIC_URL", "https://other.example.com")]].concat();
        assert!(problems(&both)[0].contains("differ"));
    }

    #[test]
    fn origins_are_only_origins() {
        for (text, origin) in [
            ("https://a.example", "https://a.example"),
            ("https://A.example:443/", "https://a.example"),
            ("http://127.0.0.1:3005", "http://127.0.0.1:3005"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), origin);
        }
        for text in [
            "",
            "a.example",
            "https://",
            "https://a/mcp",
            "https://u@a",
            "http://a",
            "ftp://a",
            "https://a:x",
            "https://*",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_core_gets_none_of_our_secrets() {
        let ours =
            ["API_KEY", "OAUTH_CLIENT_SECRET_FILE", "TOKEN_KEY", "OWNER_PASSWORD", "OWNER_PASSWORD_FILE", "PORT"];
        let theirs = ["TRUENAS_API_KEY", "CONFIRM_KEY", "PATH", "STATE_DIR", "PROXMOX_TOKEN_SECRET_FILE", "RUST_LOG"];
        let pairs = ours.iter().chain(&theirs).map(|name| (*name, "x"));
        let (check, _) = Config::read(Vars::from_pairs(pairs));
        let mut names: Vec<_> = check.command.environment.iter().map(|(name, _)| name.as_str()).collect();
        let mut wanted = theirs.to_vec();
        names.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }

    #[test]
    fn a_command_is_split_like_a_shell_would() {
        let split = |text| words(text).map(|words| words.join("|"));
        assert_eq!(split(r#" a  "b c" d'e f'g "" "#).unwrap(), "a|b c|de fg|");
        assert_eq!(split("a 'b"), None);
        let (check, _) = Config::read(Vars::from_pairs([("CORE_COMMAND", "/opt/homelab-mcp --env-file x")]));
        assert_eq!(check.command.arguments, ["--env-file", "x", "--behind-gateway"]);
        let (check, _) = Config::read(Vars::from_pairs([("CORE_COMMAND", "uvx other")]));
        assert!(!check.command.ours && check.command.arguments == ["other"]);
    }
}
