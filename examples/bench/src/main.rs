//! Measures `homelab-mcp` beside `floor-stdio`, a trivial program which sends the same bytes.
//!
//! Machines differ and are noisy, so a number means little alone: samples of both are taken in turn (core,
//! floor, core, floor …) under the same conditions, and the ratios are what to compare. Nothing fails for
//! being slow; the exit code says only whether everything could be measured.

mod report;

use bench::answers::{Ledger, Recorded, request};
use bench::child::{Program, STEP, Server, Watchdog, read_lines};
use bench::{Fallible, Scratch, measured_program, own_program, proc};
use report::{Aim, Measure, Pick, Report, Unit};
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: bench <path to homelab-mcp> [--runs N] [--level 1..4] [--json] [-- ARGUMENT...]

  --runs N     samples of the start of each program (20); longer measures take fewer
  --level N    CAPABILITY_LEVEL of both programs (1)
  --json       JSON instead of a table
  -- ...       arguments for the core

Build the core with: cargo build --profile dist -p homelab-mcp";

/// Requests in one pipelined sample.
const FLOOD: usize = 2_000;
/// Requests sent to a program whose reader sleeps.
const SLOW_FLOOD: usize = 10_000;
/// How long that reader sleeps.
const SLEEP: Duration = Duration::from_secs(2);
/// Round trips of each program.
const ROUND_TRIPS: usize = 1_000;
/// Round trips before those which count.
const WARM_UP: usize = 50;
/// Quiet before idle memory is read.
const QUIET: Duration = Duration::from_millis(200);
/// No further sample is begun when a step has taken this long: what there is has to do.
const ENOUGH: Duration = Duration::from_secs(35);

/// The command line.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    core: PathBuf,
    runs: usize,
    level: u8,
    json: bool,
    rest: Vec<OsString>,
}

fn main() -> ExitCode {
    match arguments(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => match run(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => complain(&format!("bench: {error}")),
        },
        Ok(None) => match writeln!(io::stdout(), "{USAGE}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => complain(&format!("bench: {error}\n\n{USAGE}")),
    }
}

/// Says on stderr why there is no report.
fn complain(why: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed too.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}

/// Reads the command line; nothing when help is asked for.
fn arguments(given: impl Iterator<Item = OsString>) -> Fallible<Option<Arguments>> {
    let mut given = given;
    let mut core = None;
    let (mut runs, mut level, mut json, mut rest) = (20, 1, false, Vec::new());
    while let Some(word) = given.next() {
        let mut number = |most: usize| {
            let text = given.next().unwrap_or_default();
            let number = text.to_str().and_then(|text| text.parse().ok());
            number.filter(|n| (1..=most).contains(n)).ok_or_else(|| format!("{word:?} takes a number from 1 to {most}"))
        };
        match word.to_str() {
            Some("--help" | "-h") => return Ok(None),
            Some("--runs") => runs = number(1_000)?,
            Some("--level") => level = u8::try_from(number(4)?)?,
            Some("--json") => json = true,
            Some("--") => rest.extend(given.by_ref()),
            Some(option) if option.starts_with('-') => return Err(format!("unknown option {option}").into()),
            _ if core.is_none() => core = Some(PathBuf::from(word)),
            _ => return Err(format!("one program only, not also {word:?}").into()),
        }
    }
    let core = core.ok_or("which program?")?;
    Ok(Some(Arguments { core, runs, level, json, rest }))
}

/// Measures and shows; whether everything could be measured.
fn run(arguments: &Arguments) -> Fallible<bool> {
    let path = measured_program(&arguments.core, "homelab-mcp")?;
    let floor = own_program("floor-stdio")?;
    let scratch = Scratch::new()?;
    let level = arguments.level;
    let state = scratch.folder("core")?;
    let core = Program { name: "core", path, args: arguments.rest.clone(), state, level, env: Vec::new() };

    let dog = Watchdog::start();
    let mut report = Report { subject: Vec::new(), measures: Vec::new(), notes: Vec::new(), failures: Vec::new() };
    let recorded = first_answer(&core, &dog).map_err(|error| format!("no first answer from the core: {error}"))?;
    let canned = scratch.file("canned.json");
    fs::write(&canned, &recorded.result)?;
    let state = scratch.folder("floor")?;
    let floor = Program { name: "floor", path: floor, args: vec![canned.into()], state, level, env: Vec::new() };
    let echoed = first_answer(&floor, &dog).map_err(|error| format!("no first answer from the floor: {error}"))?;
    if echoed.result != recorded.result {
        return Err("the floor does not send the bytes of the core".into());
    }
    describe(&mut report, &core, &recorded);

    let mut bench = Bench { programs: [core, floor], recorded, dog, report, runs: arguments.runs };
    bench.start();
    bench.pipelined();
    bench.slow_reader();
    bench.round_trips();
    bench.size();
    let report = bench.report;
    if arguments.json {
        report.json()?
    } else {
        report.table()?
    }
    for failure in &report.failures {
        writeln!(io::stderr(), "bench: not measured: {failure}")?;
    }
    Ok(report.failures.is_empty())
}

/// What is measured, on what.
fn describe(report: &mut Report, core: &Program, recorded: &Recorded) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.subject = vec![
        ("core", core.path.display().to_string().into()),
        ("level", core.level.into()),
        ("tools", recorded.tools.into()),
        ("result bytes", recorded.result.len().into()),
        ("processors", thread::available_parallelism().map_or(0, usize::from).into()),
        ("kernel", kernel.trim_end().into()),
    ];
    if recorded.tools == 0 {
        report.note("the core lists no tools under these settings".into());
    }
    if cfg!(debug_assertions) {
        report.note("the bench and the floor are built without optimisation: use --release".into());
    }
}

/// Starts a program once, which also warms the page cache, and reads its first answer.
fn first_answer(program: &Program, dog: &Watchdog) -> Fallible<Recorded> {
    dog.next_step();
    let (_, server, answer) = timed_start(program, dog)?;
    let recorded = Recorded::new(&answer, 1)?;
    server.finish()?;
    Ok(recorded)
}

/// From before the start to the end of the first answer.
fn timed_start(program: &Program, dog: &Watchdog) -> Fallible<(Duration, Server, Vec<u8>)> {
    let request = request(1);
    let mut answer = Vec::with_capacity(256 * 1024);
    let begun = Instant::now();
    let mut server = Server::start(program, dog)?;
    server.ask(request.as_bytes(), &mut answer)?;
    Ok((begun.elapsed(), server, answer))
}

/// What one pipelined sample tells.
struct Flooded {
    idle: proc::Memory,
    settled: bool,
    peak: u64,
    wall: Duration,
    cpu: Duration,
    same: bool,
}

/// The measuring: both programs, and the report which grows.
struct Bench {
    programs: [Program; 2],
    recorded: Recorded,
    dog: Watchdog,
    report: Report,
    runs: usize,
}

impl Bench {
    /// Takes up to `rounds` samples of each program in turn. One that fails ends the step.
    fn in_turn<T>(
        &mut self,
        step: &str,
        rounds: usize,
        mut sample: impl FnMut(&Self, &Program, &mut Vec<String>) -> Fallible<T>,
    ) -> [Vec<T>; 2] {
        self.dog.next_step();
        let begun = Instant::now();
        let mut samples = [Vec::new(), Vec::new()];
        let mut remarks = Vec::new();
        let mut failed = false;
        'rounds: for round in 0..rounds {
            if begun.elapsed() > ENOUGH {
                self.report.note(format!("{step}: {round} of {rounds} samples, to stay within {} s", STEP.as_secs()));
                break;
            }
            for (program, samples) in self.programs.iter().zip(&mut samples) {
                match sample(self, program, &mut remarks) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => {
                        let late = if self.dog.fired() { " (killed: it took too long)" } else { "" };
                        self.report.failures.push(format!("{step}: {}: {error}{late}", program.name));
                        failed = true;
                        break 'rounds;
                    }
                }
            }
        }
        for remark in remarks {
            self.report.note(remark);
        }
        // Half a measure would look like a whole one.
        if failed { [Vec::new(), Vec::new()] } else { samples }
    }

    /// Adds a line of the table.
    fn add(&mut self, key: &'static str, title: String, unit: Unit, pick: Pick, aim: Aim, samples: [Vec<f64>; 2]) {
        self.report.measures.push(Measure { title, key, unit, pick, aim, samples });
    }

    /// Start to first answer.
    fn start(&mut self) {
        let samples = self.in_turn("start", self.runs, |bench, program, remarks| {
            let (time, server, answer) = timed_start(program, &bench.dog)?;
            let mut ledger = Ledger::new(&bench.recorded, 1, 1);
            ledger.take(&answer)?;
            ledger.close()?;
            finish(server, program, remarks)?;
            Ok(time.as_secs_f64() * 1e3)
        });
        self.add(
            "start",
            "start to first tools/list".into(),
            Unit::Millis,
            Pick::Median,
            Aim::RatioAtMost(2.5),
            samples,
        );
    }

    /// Idle memory, then the rate, the processor time and the peak of pipelined requests.
    fn pipelined(&mut self) {
        let requests: String = (2..FLOOD + 2).map(request).collect();
        // Touched beforehand, or the first sample would pay for the pages.
        let mut store = vec![1; FLOOD * (self.recorded.result.len() + 64) + 256 * 1024];
        let samples = self.in_turn("pipelined", self.runs.div_ceil(3), |bench, program, remarks| {
            let flooded = bench.flooded(program, &requests, &mut store, remarks)?;
            if !flooded.settled {
                remarks.push(format!("{}: idle memory did not settle", program.name));
            }
            if !flooded.same {
                remarks.push(format!("{}: the bytes of its answers vary", program.name));
            }
            Ok(flooded)
        });
        let each = |get: fn(&Flooded) -> f64| samples.each_ref().map(|all| all.iter().map(get).collect::<Vec<f64>>());
        let (rss, pss) = (each(|f| mib(f.idle.rss)), each(|f| mib(f.idle.pss)));
        let (rate, peak) = (each(|f| FLOOD as f64 / f.wall.as_secs_f64()), each(|f| mib(f.peak)));
        let cpu = each(|f| f.cpu.as_secs_f64() * 1e6 / FLOOD as f64);
        self.add("idle_rss", "idle memory, RSS".into(), Unit::MiB, Pick::Median, Aim::AtMost(8.0), rss);
        self.add("idle_pss", "idle memory, PSS".into(), Unit::MiB, Pick::Median, Aim::None, pss);
        let title = |what: &str| format!("{FLOOD} pipelined: {what}");
        self.add("pipelined_rate", title("rate"), Unit::PerSecond, Pick::Median, Aim::RatioAtLeast(0.4), rate);
        self.add("pipelined_cpu", title("CPU per request"), Unit::Micros, Pick::Median, Aim::None, cpu);
        self.add("pipelined_peak", title("peak RSS"), Unit::MiB, Pick::Max, Aim::AtMost(24.0), peak);
    }

    /// One sample of the above.
    fn flooded(
        &self,
        program: &Program,
        requests: &str,
        store: &mut Vec<u8>,
        remarks: &mut Vec<String>,
    ) -> Fallible<Flooded> {
        let (_, mut server, _) = timed_start(program, &self.dog)?;
        let (idle, settled) = idle(server.pid())?;
        let before = proc::cpu(server.pid())?;
        let begun = Instant::now();
        let length = server.flood(requests.as_bytes(), |from| read_lines(from, FLOOD, store))?;
        let wall = begun.elapsed();
        // Its last system call may still be on the way out.
        thread::sleep(Duration::from_millis(5));
        let cpu = proc::cpu(server.pid())?.saturating_sub(before);
        let peak = proc::peak(server.pid())?;
        let mut ledger = Ledger::new(&self.recorded, 2, FLOOD);
        ledger.take_all(store.get(..length).unwrap_or_default())?;
        let same = ledger.close()?;
        finish(server, program, remarks)?;
        Ok(Flooded { idle, settled, peak, wall, cpu, same })
    }

    /// Peak memory of a program that can write far more than is read.
    fn slow_reader(&mut self) {
        let requests: String = (1..=SLOW_FLOOD).map(request).collect();
        let peaks = self.in_turn("slow reader", self.runs.div_ceil(10).min(3), |bench, program, remarks| {
            let mut server = Server::start(program, &bench.dog)?;
            let mut ledger = Ledger::new(&bench.recorded, 1, SLOW_FLOOD);
            server.flood(requests.as_bytes(), |from| {
                thread::sleep(SLEEP);
                let mut line = Vec::new();
                for read in 0..SLOW_FLOOD {
                    line.clear();
                    if from.read_until(b'\n', &mut line)? == 0 {
                        return Err(format!("ended after {read} of {SLOW_FLOOD} answers").into());
                    }
                    ledger.take(&line)?;
                }
                Ok(())
            })?;
            ledger.close()?;
            let peak = proc::peak(server.pid())?;
            finish(server, program, remarks)?;
            Ok(mib(peak))
        });
        let title = format!("{SLOW_FLOOD}, reader asleep {} s: peak RSS", SLEEP.as_secs());
        self.add("slow_reader_peak", title, Unit::MiB, Pick::Max, Aim::AtMost(24.0), peaks);
    }

    /// One request at a time, on two processes which both live on.
    fn round_trips(&mut self) {
        self.dog.next_step();
        let mut samples = [Vec::new(), Vec::new()];
        if let Err((name, error)) = self.ask_in_turn(&mut samples) {
            let late = if self.dog.fired() { " (killed: it took too long)" } else { "" };
            self.report.failures.push(format!("round trip: {name}: {error}{late}"));
            samples = [Vec::new(), Vec::new()];
        }
        let title = "one tools/list at a time".to_owned();
        self.add("round_trip", title, Unit::Micros, Pick::Median, Aim::None, samples);
    }

    /// The samples of the above, in microseconds; an error comes with the name of the program.
    fn ask_in_turn(&mut self, samples: &mut [Vec<f64>; 2]) -> Result<(), (&'static str, Box<dyn Error + Send + Sync>)> {
        let mut live = Vec::new();
        for program in &self.programs {
            let server = Server::start(program, &self.dog).map_err(|error| (program.name, error))?;
            live.push((program, server, Ledger::new(&self.recorded, 1, WARM_UP + ROUND_TRIPS)));
        }
        let begun = Instant::now();
        let mut line = Vec::with_capacity(256 * 1024);
        let mut asked = 0;
        while asked < WARM_UP + ROUND_TRIPS && begun.elapsed() < ENOUGH {
            asked += 1;
            let request = request(asked);
            for ((program, server, ledger), samples) in live.iter_mut().zip(samples.iter_mut()) {
                let begun = Instant::now();
                let answered = server.ask(request.as_bytes(), &mut line);
                let time = begun.elapsed();
                answered.and_then(|()| ledger.take(&line)).map_err(|error| (program.name, error))?;
                if asked > WARM_UP {
                    samples.push(time.as_secs_f64() * 1e6);
                }
            }
        }
        let mut remarks = Vec::new();
        for (program, server, _) in live {
            finish(server, program, &mut remarks).map_err(|error| (program.name, error))?;
        }
        if asked < WARM_UP + ROUND_TRIPS {
            remarks.push(format!(
                "round trip: {asked} of {} asked, to stay within {} s",
                WARM_UP + ROUND_TRIPS,
                STEP.as_secs()
            ));
        }
        for remark in remarks {
            self.report.note(remark);
        }
        Ok(())
    }

    /// The files.
    fn size(&mut self) {
        let sizes =
            self.in_turn("size", 1, |_, program, _| Ok(fs::metadata(&program.path)?.len() as f64 / (1024.0 * 1024.0)));
        self.add("binary", "binary size".into(), Unit::MiB, Pick::Median, Aim::AtMost(8.0), sizes);
    }
}

/// Lets a program leave and keeps what was odd about it.
fn finish(server: Server, program: &Program, remarks: &mut Vec<String>) -> Fallible<()> {
    remarks.extend(server.finish()?.map(|remark| format!("{} {remark}", program.name)));
    Ok(())
}

/// KiB as MiB.
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Memory after some quiet, once two readings are equal (three seconds at most), and whether they were.
fn idle(pid: u32) -> Fallible<(proc::Memory, bool)> {
    thread::sleep(QUIET);
    let mut last = proc::memory(pid)?;
    for _ in 0..60 {
        thread::sleep(Duration::from_millis(50));
        let now = proc::memory(pid)?;
        // PSS moves with the processes of others.
        if now.rss == last.rss {
            return Ok((now, true));
        }
        last = now;
    }
    Ok((last, false))
}

#[cfg(test)]
mod tests {
    //! The command line.

    use super::*;

    fn parse(words: &str) -> Fallible<Option<Arguments>> {
        arguments(words.split_ascii_whitespace().map(OsString::from))
    }

    #[test]
    fn reads_the_command_line() {
        let wanted =
            Arguments { core: "x".into(), runs: 3, level: 4, json: true, rest: vec!["hold".into(), "-x".into()] };
        assert_eq!(parse("--runs 3 x --level 4 --json -- hold -x").ok(), Some(Some(wanted)));
        assert!(parse("x --help").is_ok_and(|found| found.is_none()));
        for bad in ["", "x y", "x --runs", "x --runs 0", "x --runs many", "x --level 5", "x --what"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
