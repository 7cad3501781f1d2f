//! What each read tool costs against appliances of full size: 200 guests on 3 nodes, 2,000 datasets, 300 services.
//!
//! The stand-ins of `lab` run in this process, the core beside it over a pipe, as a client starts it. Requests are
//! counted where they arrive. Nothing fails for being slow; the exit code says only whether everything could be
//! measured.

use argh::FromArgs;
use bench::answers::{self, Recorded};
use bench::child::{Program, Server, Watchdog};
use bench::samples::median;
use bench::table::table;
use bench::{Fallible, Scratch, measured_program, proc};
use lab::opnsense::{self, Opnsense};
use lab::proxmox::{self, Proxmox};
use lab::truenas::{self, TrueNas};
use lab::{Appliance, Options};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Reading is all the same at every level, but at this one every read tool is there.
const LEVEL: u8 = 3;
/// No list has more pages.
const MOST_PAGES: usize = 1_000;

/// Requests, time and bytes of every read tool against stand-ins of full size.
#[derive(FromArgs)]
struct Arguments {
    /// path to homelab-mcp; built with cargo build --profile dist -p homelab-mcp
    #[argh(positional)]
    core: PathBuf,
    /// calls of each tool that count (20)
    #[argh(option, default = "20")]
    runs: usize,
}

fn main() -> ExitCode {
    match run(&argh::from_env()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when stderr is closed too.
            let _ = writeln!(io::stderr(), "appliances: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and shows; whether everything could be measured.
fn run(arguments: &Arguments) -> Fallible<bool> {
    if arguments.runs == 0 {
        return Err("--runs: at least 1".into());
    }
    let path = measured_program(&arguments.core, "homelab-mcp")?;
    let scratch = Scratch::new()?;
    let lab = Lab::start()?;
    let core =
        Program { name: "core", path, args: Vec::new(), state: scratch.folder("core")?, level: LEVEL, env: lab.env() };
    let dog = Watchdog::start();
    dog.next_step();
    let mut server = Server::start(&core, &dog)?;
    let mut client = Client { next: 1, line: Vec::new() };
    let tools = client.read_tools(&mut server)?;

    let head = ["tool", "requests", "first ms", "median ms", "worst ms", "core cpu ms", "bytes", "pages"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut failures = Vec::new();
    for tool in tools {
        dog.next_step();
        match client.measure(&mut server, &lab, &tool, arguments.runs) {
            Ok(row) => rows.push(row),
            Err(error) => failures.push(format!("{tool}: {error}")),
        }
    }
    let remark = server.finish()?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "core: {}\nProxmox VE {}, 200 guests on 3 nodes; TrueNAS 26, 2,000 datasets; OPNsense {}, 300 services\n",
        core.path.display(),
        proxmox::Profile::V9_2.release(),
        opnsense::Profile::V26_7.series(),
    )?;
    write!(out, "{}", table(&rows))?;
    writeln!(
        out,
        "\n{} calls each, one at a time; requests to the appliance per call; the first call, which may connect and sign\n\
         in, beside the others; the core's own processor time, the rest is the stand-in's and waiting. Bytes of `result`\n\
         with the least arguments; pages until a list has come to its end.",
        arguments.runs
    )?;
    if let Some(remark) = remark {
        writeln!(out, "Note: the core {remark}")?;
    }
    for failure in &failures {
        writeln!(io::stderr(), "appliances: not measured: {failure}")?;
    }
    Ok(failures.is_empty())
}

/// One stand-in of each kind, of full size.
struct Lab {
    proxmox: lab::Server,
    truenas: lab::Server,
    nas: Arc<TrueNas>,
    nas_key: String,
    opnsense: Arc<lab::Server>,
    firewall_key: opnsense::Key,
}

impl Lab {
    fn start() -> Fallible<Self> {
        let start = |appliance: Arc<dyn Appliance>| lab::Server::start(appliance, Options::default());
        let proxmox = start(Proxmox::big(proxmox::Profile::V9_2))?;
        let nas = TrueNas::new(truenas::Profile::V26);
        nas.world(|world| world.add_datasets("tank", 2000));
        let nas_key = nas.key("svc");
        let truenas = start(nas.clone())?;
        let firewall = Opnsense::new(opnsense::Profile::V26_7);
        firewall.with(|firewall| firewall.services = opnsense::Services::many(opnsense::Profile::V26_7, 300));
        let firewall_key = firewall.root();
        let opnsense = Arc::new(start(firewall.clone())?);
        firewall.attach(&opnsense);
        Ok(Self { proxmox, truenas, nas, nas_key, opnsense, firewall_key })
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TOOLSETS", "proxmox,truenas,opnsense".to_owned()),
            ("PROXMOX_HOST", self.proxmox.host()),
            ("PROXMOX_TOKEN_ID", proxmox::TOKEN_ID.to_owned()),
            ("PROXMOX_TOKEN_SECRET", proxmox::TOKEN_SECRET.to_owned()),
            ("PROXMOX_TLS_FINGERPRINT", self.proxmox.fingerprint().to_owned()),
            ("TRUENAS_HOST", self.truenas.host()),
            ("TRUENAS_USERNAME", "svc".to_owned()),
            ("TRUENAS_API_KEY", self.nas_key.clone()),
            ("TRUENAS_TLS_FINGERPRINT", self.truenas.fingerprint().to_owned()),
            ("OPNSENSE_HOST", self.opnsense.host()),
            ("OPNSENSE_API_KEY", self.firewall_key.key.clone()),
            ("OPNSENSE_API_SECRET", self.firewall_key.secret.clone()),
            ("OPNSENSE_TLS_FINGERPRINT", self.opnsense.fingerprint().to_owned()),
        ]
    }

    /// Requests so far, over all of them; on a WebSocket a call is one.
    fn requests(&self) -> usize {
        self.proxmox.seen().len() + self.nas.all_calls().len() + self.opnsense.seen().len()
    }
}

/// What is asked with: the least that the tool takes.
fn arguments_of(tool: &str) -> Value {
    match tool {
        "proxmox_vm_status" | "proxmox_vm_config" | "proxmox_list_snapshots" => json!({"vmid": 1001}),
        "truenas_dataset_info" => json!({"dataset": "tank/d1001"}),
        "truenas_list_snapshots" => json!({"dataset": "tank"}),
        _ => json!({}),
    }
}

#[derive(Deserialize)]
struct List {
    tools: Vec<Tool>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    annotations: Annotations,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    #[serde(default)]
    read_only_hint: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Called<'a> {
    #[serde(default)]
    is_error: bool,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    structured_content: Option<Page>,
}

#[derive(Deserialize)]
struct Page {
    next_cursor: Option<String>,
}

/// One answer to a call.
struct Answer {
    millis: f64,
    bytes: usize,
    next_cursor: Option<String>,
}

/// Asks one thing at a time.
struct Client {
    next: usize,
    line: Vec<u8>,
}

impl Client {
    /// The read tools of appliances, in the order of the list.
    fn read_tools(&mut self, server: &mut Server) -> Fallible<Vec<String>> {
        server.ask(answers::request(self.next).as_bytes(), &mut self.line)?;
        let list: List = serde_json::from_str(&Recorded::new(&self.line, self.next)?.result)?;
        self.next += 1;
        let of_appliances = |name: &str| ["proxmox_", "truenas_", "opnsense_"].iter().any(|of| name.starts_with(of));
        let read = list.tools.into_iter().filter(|tool| tool.annotations.read_only_hint && of_appliances(&tool.name));
        Ok(read.map(|tool| tool.name).collect())
    }

    /// Its line of the table.
    fn measure(&mut self, server: &mut Server, lab: &Lab, tool: &str, runs: usize) -> Fallible<Vec<String>> {
        let arguments = arguments_of(tool);
        let first = self.call(server, tool, &arguments)?;
        let (mut pages, mut cursor) = (1, first.next_cursor);
        while let Some(next) = cursor {
            let mut arguments = arguments.clone();
            arguments["cursor"] = next.into();
            cursor = self.call(server, tool, &arguments)?.next_cursor;
            pages += 1;
            if pages > MOST_PAGES {
                return Err(format!("more than {MOST_PAGES} pages").into());
            }
        }
        let (before, cpu) = (lab.requests(), proc::cpu(server.pid())?);
        let mut millis = Vec::with_capacity(runs);
        for _ in 0..runs {
            millis.push(self.call(server, tool, &arguments)?.millis);
        }
        let requests = (lab.requests() - before) as f64 / runs as f64;
        let cpu = (proc::cpu(server.pid())?.saturating_sub(cpu)).as_secs_f64() * 1e3 / runs as f64;
        let worst = millis.iter().copied().fold(0.0, f64::max);
        Ok(vec![
            tool.to_owned(),
            format!("{requests:.1}"),
            format!("{:.1}", first.millis),
            format!("{:.1}", median(&millis).unwrap_or_default()),
            format!("{worst:.1}"),
            format!("{cpu:.2}"),
            first.bytes.to_string(),
            pages.to_string(),
        ])
    }

    fn call(&mut self, server: &mut Server, tool: &str, arguments: &Value) -> Fallible<Answer> {
        let params = json!({"name": tool, "arguments": arguments});
        let id = self.next;
        self.next += 1;
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#) + "\n";
        let begun = Instant::now();
        server.ask(request.as_bytes(), &mut self.line)?;
        let millis = begun.elapsed().as_secs_f64() * 1e3;
        let result = answers::result(&self.line, id)?;
        let called: Called<'_> = serde_json::from_str(result)?;
        if called.is_error {
            return Err(called.content.map_or("an error without words", RawValue::get).into());
        }
        Ok(Answer {
            millis,
            bytes: result.len(),
            next_cursor: called.structured_content.and_then(|page| page.next_cursor),
        })
    }
}
