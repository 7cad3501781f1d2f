//! Measures `mcp-gateway` beside two floors: (a) hyper that answers the same bytes after a bearer check, and (b) hyper
//! that passes bytes to one shared child, ids swapped. The gateway stands in front of that same child and of the real
//! core.
//!
//! Machines differ and are noisy, so samples of all four are taken in turn, and every ratio is one of samples of the
//! same round. The load comes from one thread of this process over loopback. Nothing fails for being slow; the exit code
//! says only whether everything could be measured.

mod http;
mod load;
mod memory;
mod report;
mod server;

use argh::FromArgs;
use bench::answers::{Recorded, request};
use bench::child::{Program, Server as Stdio, Watchdog};
use bench::{Fallible, KEY, Scratch, measured_program, own_program, variable};
use http::{Era, FIRST_ID};
use load::{Kind, Target};
use report::{Report, Row};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Server;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Connections of the samples.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Of one sample.
const LENGTH: Duration = Duration::from_millis(200);
/// New sessions of each server and round.
const SESSIONS: usize = 10;
/// How long a spare core has to come up before the next session needs it.
const SPARE: Duration = Duration::from_millis(40);
/// No further round is begun after this long: what there is has to do.
const ENOUGH: Duration = Duration::from_secs(120);
/// Descriptors that the idle sessions need, here and in the server.
const DESCRIPTORS: u64 = 4_096;

/// What mcp-gateway costs beside programs that do as little as they can.
#[derive(FromArgs)]
struct Arguments {
    /// path to mcp-gateway; built with cargo build --profile dist -p mcp-gateway
    #[argh(positional)]
    gateway: PathBuf,
    /// path to homelab-mcp (the one beside it)
    #[argh(positional)]
    core: Option<PathBuf>,
    /// rounds of samples (11)
    #[argh(option, default = "11")]
    runs: usize,
}

fn main() -> ExitCode {
    match run(&argh::from_env()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when stderr is closed too.
            let _ = writeln!(io::stderr(), "gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and shows; whether everything could be measured.
fn run(arguments: &Arguments) -> Fallible<bool> {
    if arguments.runs == 0 {
        return Err("--runs: at least 1".into());
    }
    let programs = Programs::new(arguments)?;
    more_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure(&programs, arguments.runs));
    io::stdout().lock().write_all(report.text(&programs.subject()).as_bytes())?;
    for failure in &report.failures {
        writeln!(io::stderr(), "gateway: not measured: {failure}")?;
    }
    Ok(report.failures.is_empty())
}

/// Everything that is started, and the bytes that are answered.
struct Programs {
    gateway: PathBuf,
    core: PathBuf,
    floor_stdio: PathBuf,
    floor_http: PathBuf,
    /// For the floor in front of nothing: a whole answer.
    answer: PathBuf,
    /// For the floor on stdio: its result.
    result: PathBuf,
    bytes: usize,
    scratch: Scratch,
}

impl Programs {
    fn new(arguments: &Arguments) -> Fallible<Self> {
        let gateway = measured_program(&arguments.gateway, "mcp-gateway")?;
        let beside = gateway.with_file_name("homelab-mcp");
        let core = measured_program(arguments.core.as_deref().unwrap_or(&beside), "homelab-mcp")?;
        let (floor_stdio, floor_http) = (own_program("floor-stdio")?, own_program("floor-http")?);
        let scratch = Scratch::new()?;
        let recorded = first_answer(&core, &scratch)?;
        let (answer, result) = (scratch.file("answer.json"), scratch.file("result.json"));
        fs::write(&answer, format!(r#"{{"jsonrpc":"2.0","id":{FIRST_ID},"result":{}}}"#, recorded.result))?;
        fs::write(&result, &recorded.result)?;
        Ok(Self { gateway, core, floor_stdio, floor_http, answer, result, bytes: recorded.result.len(), scratch })
    }

    fn subject(&self) -> String {
        format!("gateway: {}\ncore: {}\nresult bytes: {}\n", self.gateway.display(), self.core.display(), self.bytes)
    }

    fn floor_a(&self) -> Fallible<Target> {
        let mut command = bare(&self.floor_http);
        command.arg(&self.answer);
        Ok(Target::new("(a) hyper", Kind::Canned, Server::start(command)?))
    }

    fn floor_b(&self) -> Fallible<Target> {
        let mut command = bare(&self.floor_http);
        command.arg("--").arg(&self.floor_stdio).arg(&self.result);
        Ok(Target::new("(b) hyper + child", Kind::Plain, Server::start(command)?))
    }

    /// The gateway in front of the floor's child.
    fn gateway(&self) -> Fallible<Target> {
        let command = format!("'{}' '{}'", self.floor_stdio.display(), self.result.display());
        Ok(Target::new("gateway + child", Kind::Full, self.start(&command)?))
    }

    fn product(&self) -> Fallible<Target> {
        Ok(Target::new("gateway + core", Kind::Full, self.start(&format!("'{}'", self.core.display()))?))
    }

    fn start(&self, core: &str) -> Fallible<Server> {
        let mut command = bare(&self.gateway);
        command
            .env("PORT", "0")
            .env("METRICS_ADDR", "off")
            .env("API_KEY", KEY)
            .env("MAX_SESSIONS", "20000")
            .env("CORE_COMMAND", core)
            .env("STATE_DIR", self.scratch.file("state"));
        Server::start(command)
    }
}

/// With nothing of our environment but the search path.
fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(variable("PATH").map(|path| ("PATH", path)));
    command
}

/// What the core itself answers to `tools/list`.
fn first_answer(core: &Path, scratch: &Scratch) -> Fallible<Recorded> {
    let state = scratch.folder("state")?;
    let core = Program { name: "core", path: core.to_owned(), args: Vec::new(), state, level: 1, env: Vec::new() };
    let dog = Watchdog::start();
    dog.next_step();
    let mut server = Stdio::start(&core, &dog)?;
    let mut line = Vec::new();
    server.ask(request(1).as_bytes(), &mut line)?;
    let recorded = Recorded::new(&line, 1)?;
    server.finish()?;
    Ok(recorded)
}

/// Raises our own limit, and so that of the servers, as far as that is allowed and needed.
fn more_descriptors() -> Fallible<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        let most = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })?;
    }
    Ok(())
}

/// One part after the other; a part that fails leaves the others alone.
async fn measure(programs: &Programs, runs: usize) -> Report {
    let mut report = Report::default();
    if let Err(error) = under_load(programs, runs, &mut report).await {
        report.failures.push(format!("under load: {error}"));
    }
    if let Err(error) = at_rest(programs, &mut report).await {
        report.failures.push(format!("at rest: {error}"));
    }
    report
}

async fn under_load(programs: &Programs, runs: usize, report: &mut Report) -> Fallible<()> {
    let mut targets = [programs.floor_a()?, programs.floor_b()?, programs.gateway()?, programs.product()?];
    report.names = targets.each_ref().map(|target| target.name);
    report.rows = Era::ALL
        .into_iter()
        .flat_map(|era| CONNECTIONS.map(|connections| Row { era, connections, rounds: Vec::new() }))
        .collect();
    let begun = Instant::now();
    for round in 0..runs {
        if begun.elapsed() > ENOUGH {
            report.notes.push(format!("{round} of {runs} rounds, to come to an end"));
            break;
        }
        for row in &mut report.rows {
            let mut samples = Vec::with_capacity(targets.len());
            for target in &mut targets {
                let sample = target.sample(row.era, row.connections, LENGTH).await;
                samples.push(sample.map_err(|error| format!("{}, {}: {error}", target.name, row.title()))?);
            }
            row.rounds.push(samples);
        }
        for _ in 0..SESSIONS {
            for (target, millis) in targets.iter().zip(&mut report.new_session) {
                millis.push(target.new_session("{}").await.map_err(|error| format!("{}: {error}", target.name))?);
            }
            // One that can be asked questions has a process of its own.
            for (target, millis) in targets.iter().zip(&mut report.new_own_session).skip(2) {
                let session = target.new_session(r#"{"elicitation":{}}"#).await;
                millis.push(session.map_err(|error| format!("{}: {error}", target.name))?);
            }
            tokio::time::sleep(SPARE).await;
        }
    }
    Ok(())
}

/// Each on a server of its own.
async fn at_rest(programs: &Programs, report: &mut Report) -> Fallible<()> {
    report.idle.push(("(a) hyper: connections", memory::idle(&programs.floor_a()?).await?));
    report.idle.push(("gateway: sessions with their connections", memory::idle(&programs.gateway()?).await?));
    report.abandoned = Some(memory::abandoned(&programs.gateway()?).await?);
    Ok(())
}
