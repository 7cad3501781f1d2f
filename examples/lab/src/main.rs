//! Runs one of each stand-in on loopback until it is stopped, and writes the variables with which `homelab-mcp` finds them.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use argh::FromArgs;
use lab::{
    Fault, Options, Rule, Server,
    opnsense::{self, Opnsense},
    proxmox::{self, Proxmox},
    truenas::{self, TrueNas},
};

/// Stand-ins for Proxmox VE, TrueNAS and OPNsense on loopback, for trying homelab-mcp without owning any of them. They
/// keep state, take their time and refuse what the vendors refuse. Runs until Ctrl-C.
#[derive(FromArgs)]
struct Arguments {
    /// file to write the variables to, for homelab-mcp --env-file (default: target/lab.env)
    #[argh(option, default = "PathBuf::from(\"target/lab.env\")")]
    env: PathBuf,
    /// version: 7.4, 8.4, 9.0 or 9.2 (default)
    #[argh(option, default = "proxmox::Profile::V9_2", from_str_fn(proxmox_profile))]
    proxmox: proxmox::Profile,
    /// version: core, 22.12, 24.04, 24.10, 25.04, 25.10, 26 (default) or 27
    #[argh(option, default = "truenas::Profile::V26", from_str_fn(truenas_profile))]
    truenas: truenas::Profile,
    /// version: 24.1, 24.7, 25.1, 25.7, 26.1, 26.4 (business edition) or 26.7 (default)
    #[argh(option, default = "opnsense::Profile::V26_7", from_str_fn(opnsense_profile))]
    opnsense: opnsense::Profile,
    /// 200 guests, 2,000 datasets and 300 services
    #[argh(switch)]
    big: bool,
    /// make an appliance fail, as proxmox:hang; slow, hang, cut, garbage, html, huge, 401, 403, 500 or 503; repeatable
    #[argh(option, from_str_fn(fault))]
    fault: Vec<(Kind, Fault)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Proxmox,
    Truenas,
    Opnsense,
}

fn proxmox_profile(text: &str) -> Result<proxmox::Profile, String> {
    let all = proxmox::Profile::ALL;
    let found = all.into_iter().find(|profile| profile.release() == text);
    found.ok_or_else(|| format!("{text} is none of {}", all.map(proxmox::Profile::release).join(", ")))
}

fn opnsense_profile(text: &str) -> Result<opnsense::Profile, String> {
    let all = opnsense::Profile::ALL;
    let found = all.into_iter().find(|profile| profile.series() == text);
    found.ok_or_else(|| format!("{text} is none of {}", all.map(opnsense::Profile::series).join(", ")))
}

fn truenas_profile(text: &str) -> Result<truenas::Profile, String> {
    const NAMES: [&str; 8] = ["core", "22.12", "24.04", "24.10", "25.04", "25.10", "26", "27"];
    let at = NAMES.iter().position(|name| *name == text);
    at.map(|at| truenas::PROFILES[at]).ok_or_else(|| format!("{text} is none of {}", NAMES.join(", ")))
}

fn fault(text: &str) -> Result<(Kind, Fault), String> {
    let wrong = || format!("{text} is not of the form appliance:fault, for example proxmox:hang");
    let (kind, fault) = text.split_once(':').ok_or_else(wrong)?;
    let kind = match kind {
        "proxmox" => Kind::Proxmox,
        "truenas" => Kind::Truenas,
        "opnsense" => Kind::Opnsense,
        _ => return Err(wrong()),
    };
    let fault = match fault {
        "slow" => Fault::Slow(Duration::from_secs(5)),
        "hang" => Fault::Hang,
        "cut" => Fault::CutBefore,
        "garbage" => Fault::Garbage,
        "html" => Fault::HtmlError(502),
        "huge" => Fault::Huge(64 << 20),
        status => Fault::Status(status.parse().ok().filter(|s| (400..600).contains(s)).ok_or_else(wrong)?),
    };
    Ok((kind, fault))
}

fn main() -> ExitCode {
    match run(&argh::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let start = |appliance, kind| {
        let server = Arc::new(Server::start(appliance, Options::default())?);
        for (_, fault) in arguments.fault.iter().filter(|(of, _)| *of == kind) {
            server.fault(Rule::new("/", fault.clone()));
        }
        Ok::<_, io::Error>(server)
    };
    let cluster = if arguments.big { Proxmox::big(arguments.proxmox) } else { Proxmox::new(arguments.proxmox) };
    let proxmox = start(cluster, Kind::Proxmox)?;

    let nas = TrueNas::new(arguments.truenas);
    if arguments.big {
        nas.world(|world| world.add_datasets("tank", 2000));
    }
    let api_key = nas.key("svc");
    let truenas = start(nas, Kind::Truenas)?;

    let firewall = Opnsense::new(arguments.opnsense);
    if arguments.big {
        firewall.with(|firewall| firewall.services = opnsense::Services::many(arguments.opnsense, 300));
    }
    let key = firewall.root();
    let opnsense = start(firewall.clone(), Kind::Opnsense)?;
    firewall.attach(&opnsense);

    let lines = format!(
        "# Stand-ins on loopback, as long as `lab` runs.\n\
         TOOLSETS=auto\n\
         PROXMOX_HOST={}\nPROXMOX_TOKEN_ID={}\nPROXMOX_TOKEN_SECRET={}\nPROXMOX_TLS_FINGERPRINT={}\n\
         TRUENAS_HOST={}\nTRUENAS_USERNAME=svc\nTRUENAS_API_KEY={api_key}\nTRUENAS_TLS_FINGERPRINT={}\n\
         OPNSENSE_HOST={}\nOPNSENSE_API_KEY={}\nOPNSENSE_API_SECRET={}\nOPNSENSE_TLS_FINGERPRINT={}\n",
        proxmox.host(),
        proxmox::TOKEN_ID,
        proxmox::TOKEN_SECRET,
        proxmox.fingerprint(),
        truenas.host(),
        truenas.fingerprint(),
        opnsense.host(),
        key.key,
        key.secret,
        opnsense.fingerprint(),
    );
    if let Some(folder) = arguments.env.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&arguments.env, &lines)?;
    let mut out = io::stdout().lock();
    write!(out, "{lines}\n# The same is in {0}: homelab-mcp --env-file {0}\n", arguments.env.display())?;
    out.flush()?;
    loop {
        thread::park();
    }
}
