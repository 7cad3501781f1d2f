//! The core's configuration, read once into types that cannot be half right. Every problem is reported at once with
//! the variable's name. What the values do is explained in [`VARS`], which feeds `--help` and the README.

pub(crate) mod appliances;

use std::{collections::BTreeMap, path::PathBuf};

use regex::Regex;
use shared::{
    Level, Secret,
    vars::{Problems, Var, Vars},
};

use self::appliances::Appliances;
use crate::{
    backend::{compose::ALLOWED, docker::endpoint::Endpoint},
    gate::protected::Protected,
    tool::Toolset,
};

const fn var(name: &'static str, default: &'static str, about: &'static str) -> Var {
    Var { name, default, about, secret: false }
}

const fn secret(name: &'static str, default: &'static str, about: &'static str) -> Var {
    Var { name, default, about, secret: true }
}

/// How an appliance's certificate is checked; the same for each.
macro_rules! trust_vars {
    ($prefix:literal) => {
        [
            var(concat!($prefix, "_TLS_FINGERPRINT"), "–", "SHA-256 of the certificate to believe; several, separated by commas, for a renewal"),
            var(concat!($prefix, "_CA_FILE"), "–", "PEM file with the authority, or the very certificate, to believe"),
            var(concat!($prefix, "_TLS_VERIFY"), "true", "`false` believes anybody: warned about at every start"),
            var(concat!($prefix, "_TIMEOUT"), "15", "seconds for one request"),
        ]
    };
}

const PROXMOX_TRUST: [Var; 4] = trust_vars!("PROXMOX");
const TRUENAS_TRUST: [Var; 4] = trust_vars!("TRUENAS");
const OPNSENSE_TRUST: [Var; 4] = trust_vars!("OPNSENSE");

/// Every variable of the core.
pub const VARS: &[Var] = &[
    var("CAPABILITY_LEVEL", "1", "how much a client may do: 1–4, or monitor, operate, configure, manage"),
    var(
        "TOOLSETS",
        "all",
        "`all`, `auto` (only what is configured), or a list of docker, compose, system, opnsense, truenas, proxmox",
    ),
    var("TOOLS_ALLOW", "–", "only these tools: names or globs, comma-separated"),
    var("TOOLS_DENY", "–", "never these tools: names or globs; wins over TOOLS_ALLOW"),
    var("PROTECTED", "–", "objects that no tool may change at any level: `docker:traefik, stack:infra`"),
    var(
        "CONFIRM",
        "destructive",
        "ask before: `destructive` (what cannot be undone), `changes` (everything that changes something), `never`",
    ),
    var("CONFIRM_WITHOUT_DIALOG", "code", "clients without a dialog: `code` (a second call repeats a code), `deny`"),
    secret(
        "CONFIRM_KEY",
        "made in STATE_DIR",
        "signs confirmation codes; at least 32 characters, the same for all processes that share a STATE_DIR",
    ),
    var(
        "STATE_DIR",
        "~/.local/state/homelab-mcp",
        "audit, kept compose versions, used confirmations, operations; without a writable one nothing destructive is done",
    ),
    var("AUDIT_LOG", "STATE_DIR/audit.jsonl", "one JSON line before and after every change, chained by hashes"),
    var("REDACT", "on", "`off` shows secrets in compose files, `.env` and inspect output"),
    var("CHANGES_PER_MINUTE", "30", "brake for a looping model; 0 switches it off"),
    var("CHANGES_PER_OBJECT", "6", "the same per object in 10 minutes; 0 switches it off"),
    var("MAX_LINE", "4259840", "longest request line in bytes"),
    var("MAX_RESULT_CHARS", "50000", "largest result in characters; what is cut is said"),
    var("DOCKER_HOST", "–", "the Docker Engine: unix:///path, tcp://host:port"),
    var("DOCKER_SOCKET", "/var/run/docker.sock", "path of the engine's socket when DOCKER_HOST is not set"),
    var("DOCKER_TLS_VERIFY", "–", "any value: tcp with TLS, certificates checked"),
    var("DOCKER_CERT_PATH", "~/.docker", "folder with ca.pem, cert.pem, key.pem"),
    var("DOCKER_TIMEOUT", "15", "seconds for one request to the engine"),
    var("DOCKGE_STACKS_PATH", "/opt/stacks", "folder of the stack folders"),
    var("HOST_ROOT", "/", "where the host's root is mounted when this runs in a container"),
    var(
        "PROXMOX_HOST",
        "–",
        "host, host:port or https URL, port 8006 unless given; a comma list of cluster members fails over",
    ),
    var("PROXMOX_TOKEN_ID", "–", "API token: user@realm!name"),
    secret("PROXMOX_TOKEN_SECRET", "–", "the token's secret"),
    PROXMOX_TRUST[0],
    PROXMOX_TRUST[1],
    PROXMOX_TRUST[2],
    PROXMOX_TRUST[3],
    var("TRUENAS_HOST", "–", "host, host:port or https URL"),
    secret("TRUENAS_API_KEY", "–", "API key"),
    var("TRUENAS_USERNAME", "–", "the key's owner: a failed login then says why; newer releases need it"),
    TRUENAS_TRUST[0],
    TRUENAS_TRUST[1],
    TRUENAS_TRUST[2],
    TRUENAS_TRUST[3],
    var("OPNSENSE_HOST", "–", "host, host:port or https URL"),
    secret("OPNSENSE_API_KEY", "–", "API key"),
    secret("OPNSENSE_API_SECRET", "–", "the key's secret"),
    OPNSENSE_TRUST[0],
    OPNSENSE_TRUST[1],
    OPNSENSE_TRUST[2],
    OPNSENSE_TRUST[3],
    var("RUST_LOG", "info", "log level on stderr: error, warn, info, debug"),
];

/// When to ask before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// Before what cannot be undone.
    Destructive,
    /// Before everything that changes something.
    Changes,
    /// Not at all.
    Never,
}

/// How to ask a client that cannot show a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithoutDialog {
    /// A second call repeats the code that the first one answered.
    Code,
    /// Not at all: refused.
    Deny,
}

/// Which tools are switched on.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// `None` is `all`.
    pub(crate) toolsets: Option<Vec<Toolset>>,
    /// Empty: all.
    allow: Vec<Glob>,
    deny: Vec<Glob>,
}

/// A tool name with `*` and `?`, for TOOLS_ALLOW and TOOLS_DENY.
#[derive(Clone, Debug)]
struct Glob {
    text: String,
    pattern: Regex,
}

impl std::str::FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '*' | '?')) {
            return Err(format!("`{text}` is not a tool name or glob (letters, digits, _, * and ?)"));
        }
        let pattern = format!("^{}$", regex::escape(text).replace(r"\*", ".*").replace(r"\?", "."));
        let pattern = Regex::new(&pattern).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), pattern })
    }
}

impl Selection {
    /// TOOLS_ALLOW and TOOLS_DENY entries that match none of these tools: misspelt, or of another version.
    pub(crate) fn without_effect<'a>(&'a self, tools: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let all = self.allow.iter().chain(&self.deny);
        all.filter(|glob| !tools.iter().any(|tool| glob.pattern.is_match(tool))).map(|glob| glob.text.as_str())
    }

    /// Whether TOOLSETS switches a group on.
    pub(crate) fn has(&self, toolset: Toolset) -> bool {
        self.toolsets.as_ref().is_none_or(|sets| sets.contains(&toolset))
    }

    /// Why a tool is switched off, naming the variable; `None` when it is on.
    pub(crate) fn switched_off(&self, tool: &str, toolset: Toolset) -> Option<&'static str> {
        let hit = |globs: &[Glob]| globs.iter().any(|glob| glob.pattern.is_match(tool));
        if hit(&self.deny) {
            Some("TOOLS_DENY")
        } else if !self.allow.is_empty() && !hit(&self.allow) {
            Some("TOOLS_ALLOW")
        } else if toolset != Toolset::Core && !self.has(toolset) {
            Some("TOOLSETS")
        } else {
            None
        }
    }
}

/// Everything the core needs to know.
#[derive(Debug)]
pub struct Config {
    pub(crate) level: Level,
    pub(crate) selection: Selection,
    pub(crate) protected: Protected,
    pub(crate) confirm: Confirm,
    pub(crate) without_dialog: WithoutDialog,
    pub(crate) confirm_key: Option<Secret>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) audit_log: Option<PathBuf>,
    pub(crate) redact: bool,
    pub(crate) changes_per_minute: u32,
    pub(crate) changes_per_object: u32,
    pub(crate) max_line: usize,
    pub(crate) max_result_chars: usize,
    pub(crate) docker: Endpoint,
    pub(crate) docker_timeout: std::time::Duration,
    pub(crate) stacks_path: PathBuf,
    /// The operator named it; else it need not be there.
    pub(crate) stacks_given: bool,
    pub(crate) host_root: PathBuf,
    pub(crate) appliances: Appliances,
    /// What a `docker compose` process may see of our environment.
    pub(crate) compose_env: BTreeMap<String, String>,
}

impl Config {
    /// Reads and checks everything.
    pub fn read(mut vars: Vars) -> Result<Self, Problems> {
        let v = &mut vars;
        let level = v.parse("CAPABILITY_LEVEL", Level::Monitor);
        let appliances = Appliances::read(v);
        let config = Self {
            level,
            selection: selection(v, &appliances),
            protected: protected(v),
            confirm: v
                .word(
                    "CONFIRM",
                    &[("destructive", Confirm::Destructive), ("changes", Confirm::Changes), ("never", Confirm::Never)],
                )
                .unwrap_or(Confirm::Destructive),
            without_dialog: v
                .word("CONFIRM_WITHOUT_DIALOG", &[("code", WithoutDialog::Code), ("deny", WithoutDialog::Deny)])
                .unwrap_or(WithoutDialog::Code),
            confirm_key: confirm_key(v),
            state_dir: v.state_dir(),
            audit_log: v.path("AUDIT_LOG"),
            redact: v.word("REDACT", &[("on", true), ("off", false)]).unwrap_or(true),
            changes_per_minute: v.number("CHANGES_PER_MINUTE", 30, 0..=100_000) as u32,
            changes_per_object: v.number("CHANGES_PER_OBJECT", 6, 0..=100_000) as u32,
            max_line: v.number("MAX_LINE", (4 << 20) + (64 << 10), 1024..=(1 << 30)) as usize,
            max_result_chars: v.number("MAX_RESULT_CHARS", 50_000, 2_000..=10_000_000) as usize,
            docker: docker(v),
            docker_timeout: std::time::Duration::from_secs(v.number("DOCKER_TIMEOUT", 15, 1..=3600)),
            stacks_given: v.text("DOCKGE_STACKS_PATH").is_some(),
            stacks_path: absolute(v, "DOCKGE_STACKS_PATH", "/opt/stacks"),
            host_root: absolute(v, "HOST_ROOT", "/"),
            compose_env: compose_env(v),
            appliances,
        };
        vars.finish().map(|()| config)
    }
}

fn absolute(vars: &mut Vars, name: &str, default: &str) -> PathBuf {
    let path = vars.path(name).unwrap_or_else(|| PathBuf::from(default));
    if !path.is_absolute() {
        vars.problem(format!("{name}: `{}` is not an absolute path.", path.display()));
    }
    path
}

fn selection(vars: &mut Vars, appliances: &Appliances) -> Selection {
    let names = vars.list("TOOLSETS");
    let toolsets = match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["all"] => None,
        // What needs no configuration is always there; appliances join when they are configured.
        ["auto"] => {
            let configured = [
                (Toolset::Opnsense, appliances.opnsense.is_some()),
                (Toolset::Truenas, appliances.truenas.is_some()),
                (Toolset::Proxmox, appliances.proxmox.is_some()),
            ];
            let appliances = configured.into_iter().filter_map(|(set, is)| is.then_some(set));
            Some([Toolset::Docker, Toolset::Compose, Toolset::System].into_iter().chain(appliances).collect())
        }
        names => Some(
            names
                .iter()
                .filter_map(|name| {
                    let found = Toolset::ALL.into_iter().find(|set| set.name() == *name);
                    if found.is_none() {
                        let valid: Vec<_> = Toolset::ALL.iter().map(|set| set.name()).collect();
                        vars.problem(format!(
                            "TOOLSETS: `{name}` is not known; use all, auto or a list of {}.",
                            valid.join(", ")
                        ));
                    }
                    found
                })
                .collect(),
        ),
    };
    let mut globs = |name: &str| {
        let mut found = Vec::new();
        for item in vars.list(name) {
            match item.parse() {
                Ok(glob) => found.push(glob),
                Err(error) => vars.problem(format!("{name}: {error}.")),
            }
        }
        found
    };
    Selection { toolsets, allow: globs("TOOLS_ALLOW"), deny: globs("TOOLS_DENY") }
}

fn protected(vars: &mut Vars) -> Protected {
    let items = vars.list("PROTECTED");
    Protected::parse(&items).unwrap_or_else(|problems| {
        for problem in problems {
            vars.problem(format!("PROTECTED: {problem}."));
        }
        Protected::default()
    })
}

fn confirm_key(vars: &mut Vars) -> Option<Secret> {
    let key = vars.secret("CONFIRM_KEY")?;
    if key.expose().len() < 32 {
        vars.problem("CONFIRM_KEY: shorter than 32 characters. Use for example the output of `openssl rand -hex 32`.");
        return None;
    }
    Some(key)
}

fn docker(vars: &mut Vars) -> Endpoint {
    let socket = vars.text("DOCKER_SOCKET");
    let verify = vars.text("DOCKER_TLS_VERIFY").is_some();
    let certs = vars.path("DOCKER_CERT_PATH").or_else(|| vars.path("HOME").map(|home| home.join(".docker")));
    match vars.text("DOCKER_HOST") {
        Some(host) => match Endpoint::parse(&host) {
            Ok(endpoint) if verify => endpoint.with_tls(certs),
            Ok(endpoint) => endpoint,
            Err(error) => {
                vars.problem(format!("DOCKER_HOST: {error}."));
                Endpoint::default()
            }
        },
        None => match socket {
            Some(socket) => Endpoint::parse(&socket).unwrap_or_else(|error| {
                vars.problem(format!("DOCKER_SOCKET: {error}."));
                Endpoint::default()
            }),
            None => Endpoint::default(),
        },
    }
}

/// What the Docker CLI needs to find itself, its plugins, the engine and its language.
fn compose_env(vars: &mut Vars) -> BTreeMap<String, String> {
    ALLOWED.iter().filter_map(|name| Some(((*name).to_owned(), vars.text(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
        Config::read(Vars::from_pairs(pairs.iter().copied())).expect_err("the configuration is wrong").0
    }

    #[test]
    fn nothing_set_is_a_configuration() {
        let config = Config::read(Vars::from_pairs([("HOME", "/home/x")])).unwrap();
        assert_eq!((config.level, config.confirm, config.redact), (Level::Monitor, Confirm::Destructive, true));
        assert_eq!(config.state_dir.unwrap(), PathBuf::from("/home/x/.local/state/homelab-mcp"));
    }

    #[test]
    fn every_problem_is_named_in_one_go() {
        let found = problems(&[
            ("CAPABILITY_LEVEL", "level2"),
            ("TOOLSETS", "docker,podman"),
            ("TOOLS_DENY", "docker_*,rm -rf"),
            ("PROTECTED", "traefik"),
            ("DOCKER_HOST", "ssh://nas"),
            ("REDACT", "maybe"),
            ("HOST_ROOT", "host"),
            ("CONFIRM_KEY", "short"),
        ]);
        for name in [
            "CAPABILITY_LEVEL",
            "TOOLSETS",
            "TOOLS_DENY",
            "PROTECTED",
            "DOCKER_HOST",
            "REDACT",
            "HOST_ROOT",
            "CONFIRM_KEY",
        ] {
            assert_eq!(found.iter().filter(|problem| problem.starts_with(name)).count(), 1, "{name}: {found:?}");
        }
    }

    #[test]
    fn deny_wins_and_globs_match_whole_names() {
        let vars =
            Vars::from_pairs([("TOOLS_ALLOW", "docker_*"), ("TOOLS_DENY", "docker_exec"), ("TOOLSETS", "docker")]);
        let selection = Config::read(vars).unwrap().selection;
        assert_eq!(selection.switched_off("docker_list", Toolset::Docker), None);
        assert_eq!(selection.switched_off("docker_exec", Toolset::Docker), Some("TOOLS_DENY"));
        assert_eq!(selection.switched_off("system_info", Toolset::System), Some("TOOLS_ALLOW"));
        assert_eq!(selection.switched_off("docker_read_compose", Toolset::Compose), Some("TOOLSETS"));
    }

    #[test]
    fn compose_sees_nothing_of_ours() {
        let vars = Vars::from_pairs([
            ("PATH", "/bin"),
            ("TRUENAS_HOST", "nas"),
            ("TRUENAS_API_KEY", "1-x"),
            ("CONFIRM_KEY_FILE", ""),
            ("FOO", "y"),
        ]);
        let env = Config::read(vars).unwrap().compose_env;
        assert_eq!(env.keys().collect::<Vec<_>>(), ["PATH"]);
    }
}
