//! What each endpoint says, in the shape of the release: empty maps are `[]`, many numbers are strings.

use super::access::User;
use super::firewall::{Firewall, Gateway, GatewayState, Language, Notice, Updates};
use super::profile::Profile;
use super::route::Endpoint;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a controller gives back.
pub(super) enum Answer {
    /// JSON.
    Json(Value),
    /// `null`: an empty 200 that calls itself HTML.
    Nothing,
    /// A PHP error: the 500 that says nothing.
    Unexpected,
}

/// The answer of an endpoint that only reads and needs no parameters.
pub(super) fn read(endpoint: Endpoint, firewall: &Firewall, profile: Profile, user: &User) -> Answer {
    Answer::Json(match endpoint {
        Endpoint::FirmwareStatus => firmware(firewall, profile),
        Endpoint::FirmwareRunning => json!({ "status": "ready" }),
        Endpoint::SystemInformation => information(firewall, profile),
        Endpoint::SystemTime => time(firewall, profile),
        Endpoint::SystemResources => resources(firewall),
        Endpoint::SystemDisk => disks(firewall),
        Endpoint::SystemSwap => swap(firewall),
        Endpoint::SystemTemperature => temperatures(firewall, profile),
        Endpoint::Activity => activity(firewall),
        Endpoint::CpuType => cpu_type(firewall),
        Endpoint::GatewayStatus => gateways(firewall, profile),
        Endpoint::SystemStatus => notices(firewall, profile, user),
        Endpoint::Memory
        | Endpoint::CpuStream
        | Endpoint::ServiceSearch
        | Endpoint::ServiceStart
        | Endpoint::ServiceRestart
        | Endpoint::ServiceStop => json!([]),
    })
}

/// The same when configd refuses or cannot be reached: each controller makes something else of nothing.
pub(super) fn without_backend(endpoint: Endpoint, firewall: &Firewall, profile: Profile) -> Answer {
    match endpoint {
        Endpoint::FirmwareStatus => Answer::Json(json!({
            "status_msg": text(firewall, "Firmware status check was aborted internally. Please try again.",
                "Die Firmware-Prüfung wurde intern abgebrochen. Bitte erneut versuchen."),
            "status": "error",
        })),
        Endpoint::SystemResources => Answer::Json(json!({ "memory": { "used": text(firewall, "N/A", "k. A.") } })),
        Endpoint::SystemDisk | Endpoint::Memory => Answer::Json(json!([])),
        Endpoint::GatewayStatus => Answer::Json(json!({ "items": [], "status": "failed" })),
        Endpoint::SystemStatus if profile < Profile::V25_1 => Answer::Json(json!({ "status": "failed" })),
        Endpoint::SystemStatus => Answer::Json(metadata(firewall, json!(2))),
        Endpoint::SystemTemperature if profile < Profile::V25_1 => Answer::Json(json!([])),
        Endpoint::FirmwareRunning => Answer::Json(json!({ "status": "" })),
        Endpoint::SystemInformation | Endpoint::SystemTime | Endpoint::SystemTemperature | Endpoint::CpuType => {
            Answer::Unexpected
        }
        Endpoint::SystemSwap | Endpoint::Activity | Endpoint::CpuStream => Answer::Nothing,
        Endpoint::ServiceSearch => Answer::Json(json!({ "total": 0, "rowCount": 0, "current": 1, "rows": [] })),
        Endpoint::ServiceStart | Endpoint::ServiceRestart | Endpoint::ServiceStop => {
            Answer::Json(json!({ "result": "ok" }))
        }
    }
}

/// JSON as PHP writes it: slashes and everything beyond ASCII escaped.
pub(super) fn php(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            // A slash stands in strings only.
            '/' => out.push_str("\\/"),
            c if c.is_ascii() => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

fn text(firewall: &Firewall, english: &str, german: &str) -> String {
    match firewall.language {
        Language::English => english.to_owned(),
        Language::German => german.to_owned(),
    }
}

fn product(firewall: &Firewall, profile: Profile, check: &Value) -> Value {
    let series = profile.series();
    let id = if profile.business() { "opnsense-business" } else { "opnsense" };
    let version = profile.version();
    let latest = match firewall.updates {
        Updates::Available { .. } => format!("{series}.99"),
        Updates::Unknown | Updates::None => version.split('_').next().unwrap_or(version).to_owned(),
    };
    let license = if profile.business() { json!({ "valid_to": "2027-05-01" }) } else { json!([]) };
    let mut product = json!({
        "product_abi": series,
        "product_arch": "amd64",
        "product_check": check,
        "product_conflicts": "",
        "product_copyright_owner": "Deciso B.V.",
        "product_copyright_url": "https://www.deciso.com/",
        "product_copyright_years": "2014-2026",
        "product_email": "project@opnsense.org",
        "product_hash": "0123456789",
        "product_id": id,
        "product_latest": latest,
        "product_license": license,
        "product_log": u8::from(!check.is_null()),
        "product_mirror": format!("https://pkg.opnsense.org/{series}"),
        "product_name": "OPNsense",
        "product_nickname": "Lab Lemur",
        "product_repos": "OPNsense",
        "product_series": series,
        "product_tier": "1",
        "product_time": "Thu Aug 20 10:00:00 UTC 2026",
        "product_version": version,
        "product_website": "https://opnsense.org/",
    });
    if profile >= Profile::V26_7
        && let Some(map) = product.as_object_mut()
    {
        map.insert("CORE_ABI".into(), series.into());
        map.insert("CORE_VERSION".into(), version.into());
    }
    product
}

fn firmware(firewall: &Firewall, profile: Profile) -> Value {
    let (packages, reboot) = match firewall.updates {
        Updates::Unknown => {
            return json!({
                "product": product(firewall, profile, &Value::Null),
                "status_msg": text(firewall,
                    "Firmware status requires to check for update first to provide more information.",
                    "Der Firmware-Status verlangt zuerst eine Suche nach Aktualisierungen."),
                "status": "none",
            });
        }
        Updates::None => (0, false),
        Updates::Available { packages, reboot } => (packages, reboot),
    };
    let version = profile.version();
    let newer = |n: usize| {
        let name = if n == 0 { "opnsense".to_owned() } else { format!("os-plugin{n}") };
        json!({ "name": name, "repository": "OPNsense", "current_version": version, "new_version": "99.9" })
    };
    let check = json!({
        "api_version": "2",
        "connection": "ok",
        "downgrade_packages": [],
        "download_size": if packages > 0 { "96.5MiB" } else { "" },
        "last_check": "Sun Nov 22 06:00:01 UTC 2026",
        "needs_reboot": if reboot { "1" } else { "0" },
        "new_packages": [],
        "os_version": profile.kernel(),
        "product_id": "opnsense",
        "product_target": "opnsense",
        "product_version": version,
        "product_abi": profile.series(),
        "reinstall_packages": [],
        "remove_packages": [],
        "repository": "ok",
        "upgrade_major_message": "",
        "upgrade_major_version": "",
        "upgrade_needs_reboot": "0",
        "upgrade_packages": (0..packages).map(newer).collect::<Vec<_>>(),
        "upgrade_sets": [],
    });
    let mut answer = check.clone();
    let Some(map) = answer.as_object_mut() else { return answer };
    map.insert("product".into(), product(firewall, profile, &check));
    let all: Map<String, Value> = (0..packages)
        .map(newer)
        .map(|p| {
            let name = p["name"].as_str().unwrap_or_default().to_owned();
            let entry = json!({ "reason": "upgrade", "old": p["current_version"], "new": p["new_version"],
                "repository": "OPNsense", "name": name });
            (name, entry)
        })
        .collect();
    map.insert("all_packages".into(), if all.is_empty() { json!([]) } else { Value::Object(all) });
    map.insert("all_sets".into(), json!([]));
    if packages == 0 {
        let message = text(
            firewall,
            "There are no updates available on the selected mirror.",
            "Auf dem gewählten Spiegel sind keine Aktualisierungen verfügbar.",
        );
        map.insert("status_msg".into(), message.into());
        map.insert("status".into(), "none".into());
    } else {
        let message = text(
            firewall,
            &format!("There are {packages} updates available, total download size is 96.5MiB."),
            &format!("Es sind {packages} Aktualisierungen verfügbar, insgesamt 96.5MiB."),
        );
        map.insert("status_msg".into(), message.into());
        map.insert("status_reboot".into(), if reboot { "1" } else { "0" }.into());
        map.insert("status".into(), "update".into());
    }
    answer
}

fn information(firewall: &Firewall, profile: Profile) -> Value {
    let mut versions =
        vec![format!("OPNsense {}-amd64", profile.version()), profile.kernel().to_owned(), "OpenSSL 3.0.19".to_owned()];
    if profile.business() {
        versions.push(text(firewall, "Licensed until 2027-05-01", "Lizenziert bis 2027-05-01"));
    }
    let updates = match firewall.updates {
        Updates::Available { .. } => {
            text(firewall, "Click to view pending updates.", "Klicken, um ausstehende Aktualisierungen anzuzeigen.")
        }
        Updates::Unknown | Updates::None => {
            text(firewall, "Click to check for updates.", "Klicken, um nach Aktualisierungen zu suchen.")
        }
    };
    json!({ "name": firewall.name, "versions": versions, "updates": updates })
}

/// Days, and the clock within the day.
fn split_uptime(firewall: &Firewall) -> (u64, String) {
    let seconds = firewall.uptime().as_secs();
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    (seconds / 86_400, clock)
}

fn date(at: Timestamp) -> String {
    at.strftime("%a %b %-d %-H:%M:%S UTC %Y").to_string()
}

fn time(firewall: &Firewall, profile: Profile) -> Value {
    let uptime = match split_uptime(firewall) {
        (0, clock) => clock,
        (1, clock) => format!("1 {}, {clock}", text(firewall, "day", "Tag")),
        (days, clock) => format!("{days} {}, {clock}", text(firewall, "days", "Tage")),
    };
    let now = Timestamp::now();
    let load = match firewall.load {
        Some([one, five, fifteen]) => format!("{one:.2}, {five:.2}, {fifteen:.2}"),
        None => text(firewall, "N/A", "k. A."),
    };
    let mut answer = json!({ "uptime": uptime, "datetime": date(now) });
    if let Some(map) = answer.as_object_mut() {
        if profile >= Profile::V25_1 {
            let boot = now.as_second() - i64::try_from(firewall.uptime().as_secs()).unwrap_or(0);
            map.insert("boottime".into(), Timestamp::from_second(boot).map(date).unwrap_or_default().into());
        }
        map.insert("config".into(), "Sat Nov 21 20:01:02 UTC 2026".into());
        map.insert("loadavg".into(), load.into());
    }
    answer
}

fn resources(firewall: &Firewall) -> Value {
    let Some(memory) = firewall.memory else {
        return json!({ "memory": { "used": text(firewall, "N/A", "k. A.") } });
    };
    let mebi = |bytes: u64| (bytes >> 20).to_string();
    let mut answer = json!({
        "total": memory.total.to_string(),
        "total_frmt": mebi(memory.total),
        "used": memory.used,
        "used_frmt": mebi(memory.used),
    });
    if let (Some(arc), Some(map)) = (memory.arc, answer.as_object_mut()) {
        map.insert("arc".into(), arc.to_string().into());
        map.insert("arc_frmt".into(), mebi(arc).into());
        let words = text(firewall, "ARC size", "ARC-Größe");
        map.insert("arc_txt".into(), format!("{words} {} MB", mebi(arc)).into());
    }
    json!({ "memory": answer })
}

fn disks(firewall: &Firewall) -> Value {
    if firewall.disks.is_empty() {
        return json!([]);
    }
    let devices = firewall.disks.iter().map(|disk| {
        json!({
            "device": disk.device,
            "type": disk.filesystem,
            "blocks": disk.blocks,
            "used": disk.used,
            "available": disk.available,
            "used_pct": disk.percent,
            "mountpoint": disk.mountpoint,
        })
    });
    json!({ "devices": devices.collect::<Vec<_>>() })
}

fn swap(firewall: &Firewall) -> Value {
    let devices = firewall.swap.iter();
    let devices =
        devices.map(|(name, bytes)| json!({ "device": name, "total": (bytes >> 10).to_string(), "used": "0" }));
    json!({ "swap": devices.collect::<Vec<_>>() })
}

fn temperatures(firewall: &Firewall, profile: Profile) -> Value {
    let sensor = |(device, degrees): &(String, f64)| {
        let number: String = device.chars().filter(char::is_ascii_digit).collect();
        let zone = device.starts_with("hw.acpi.");
        let degrees = format!("{degrees:.1}");
        if profile < Profile::V25_1 {
            let (kind, words) = if zone { ("zone", ("Zone", "Zone")) } else { ("core", ("Core", "Kern")) };
            return json!({ "device": device, "device_seq": number, "temperature": degrees, "type": kind,
                "type_translated": text(firewall, words.0, words.1) });
        }
        let (kind, words) = match device {
            _ if zone => ("zone", ("Zone", "Zone")),
            device if device.starts_with("dev.cpu.") => ("cpu", ("CPU", "Prozessor")),
            device if device.starts_with("dev.amdtemp.") => ("amd", ("AMD", "AMD")),
            device if device.starts_with("dev.pchtherm.") => ("platform", ("Platform", "Plattform")),
            _ => ("other", ("Other", "Andere")),
        };
        json!({ "device": device, "device_seq": number.parse::<u64>().unwrap_or(0), "temperature": degrees,
            "type_translated": text(firewall, words.0, words.1), "type": kind })
    };
    Value::Array(firewall.temperatures.iter().map(sensor).collect())
}

/// `top`: the only source of uptime, load, memory and CPU on 24.1.
fn activity(firewall: &Firewall) -> Value {
    let load = firewall.load.unwrap_or_default();
    let (days, clock) = split_uptime(firewall);
    let cpu = firewall.cpu;
    let mut headers = vec![
        format!(
            "last pid: 61102;  load averages:  {:.2},  {:.2},  {:.2}; battery: 0%  up {days}+{clock}    17:20:01",
            load[0], load[1], load[2]
        ),
        "214 threads:   5 running, 185 sleeping, 24 waiting".to_owned(),
        format!(
            "CPU: {:>4.1}% user, {:>4.1}% nice, {:>4.1}% system, {:>4.1}% interrupt, {:>4.1}% idle",
            cpu.user, cpu.nice, cpu.system, cpu.interrupt, cpu.idle
        ),
    ];
    if let Some(memory) = firewall.memory {
        let (total, used) = (memory.total >> 20, memory.used >> 20);
        let (active, rest) = (used / 4, total.saturating_sub(used));
        headers.push(format!(
            "Mem: {active}M Active, {}M Inact, 45M Laundry, {}M Wired, {}M Free",
            rest / 4,
            used - active,
            (rest - rest / 4).saturating_sub(45)
        ));
        if let Some(arc) = memory.arc {
            headers.push(format!("ARC: {}M Total, 210M MFU, 330M MRU", arc >> 20));
        }
    }
    for (_, bytes) in &firewall.swap {
        headers.push(format!("Swap: {0}M Total, {0}M Free", bytes >> 20));
    }
    let process = |pid: &str, user: &str, share: &str, command: &str| {
        json!({ "C": "0", "PID": pid, "THR": "100003", "USERNAME": user, "PRI": "20", "NICE": "0", "SIZE": "162M",
            "RES": "98M", "STATE": "kqread", "TIME": "3:21", "WCPU": share, "COMMAND": command })
    };
    json!({
        "headers": headers,
        "details": [
            process("11", "root", "96.10%", "[idle{idle: cpu0}]"),
            process("4242", "unbound", "0.51%", "/usr/local/sbin/unbound -c /var/unbound/unbound.conf"),
        ],
    })
}

fn cpu_type(firewall: &Firewall) -> Value {
    let (model, cores) = (&firewall.processor, firewall.cores);
    json!([text(
        firewall,
        &format!("{model} ({cores} cores, {cores} threads)"),
        &format!("{model} ({cores} Kerne, {cores} Threads)")
    )])
}

fn gateways(firewall: &Firewall, profile: Profile) -> Value {
    if firewall.gateways.is_empty() {
        return json!({ "items": [], "status": "failed" });
    }
    let item = |gateway: &Gateway| {
        let (word, english, german) = match gateway.watch.as_ref().map_or(GatewayState::Online, |watch| watch.state) {
            GatewayState::Online => ("none", "Online", "Verbunden"),
            GatewayState::Loss => ("loss", "Packetloss", "Paketverlust"),
            GatewayState::Delay => ("delay", "Latency", "Latenz"),
            GatewayState::DelayAndLoss => ("delay+loss", "Latency, Packetloss", "Latenz, Paketverlust"),
            GatewayState::Down => ("down", "Offline", "Getrennt"),
            GatewayState::ForcedDown => ("force_down", "Offline (forced)", "Getrennt (erzwungen)"),
            GatewayState::Unheard => ("resting", "Pending", "Ausstehend"),
        };
        let measured = gateway.watch.as_ref().and_then(|watch| watch.measured);
        let or_tilde = |value: Option<String>| value.unwrap_or_else(|| "~".into());
        let mut item = json!({
            "name": gateway.name,
            "address": or_tilde(gateway.address.clone()),
            "status": word,
            "loss": or_tilde(measured.map(|m| format!("{:.1} %", m.loss))),
            "delay": or_tilde(measured.map(|m| format!("{:.1} ms", m.delay))),
            "stddev": or_tilde(measured.map(|m| format!("{:.1} ms", m.deviation))),
            "monitor": or_tilde(gateway.watch.as_ref().map(|watch| watch.monitor.clone())),
            "status_translated": text(firewall, english, german),
        });
        if let Some(map) = item.as_object_mut().filter(|_| profile < Profile::V24_7) {
            map.shift_remove("monitor");
        }
        item
    };
    json!({ "items": firewall.gateways.iter().map(item).collect::<Vec<_>>(), "status": "ok" })
}

fn notices(firewall: &Firewall, profile: Profile, user: &User) -> Value {
    let visible = |notice: &&Notice| {
        let page = notice.location.split('#').next().unwrap_or_default();
        page.is_empty() || user.may(page, profile)
    };
    if profile < Profile::V25_1 { flat_notices(firewall, visible) } else { layered_notices(firewall, visible) }
}

/// 24.x: a flat map that also holds what is well, and no answer at all when an entry has no page.
fn flat_notices(firewall: &Firewall, visible: impl Fn(&&Notice) -> bool) -> Value {
    let words = |code| match code {
        -1 => "Error",
        0 => "Warning",
        1 => "Notice",
        _ => "OK",
    };
    let well = |name: &str, location: &str| Notice {
        name: name.into(),
        title: String::new(),
        code: 2,
        message: text(firewall, "No problems were detected.", "Es wurden keine Probleme gefunden."),
        location: location.into(),
        age: None,
    };
    let mut all =
        vec![well("CrashReporter", "/crash_reporter.php"), well("Firewall", "/ui/diagnostics/log/core/firewall")];
    all.retain(|usual| firewall.notices.iter().all(|notice| notice.name != usual.name));
    all.extend(firewall.notices.iter().cloned());
    if all.iter().any(|notice| notice.location.is_empty()) {
        return json!({ "status": "failed" });
    }
    let mut map = Map::new();
    let mut worst = 2;
    for notice in all.iter().filter(visible) {
        worst = worst.min(notice.code);
        let mut entry = json!({
            "statusCode": notice.code,
            "message": notice.message,
            "logLocation": notice.location,
            "timestamp": stamp(notice),
            "status": words(notice.code),
        });
        add_age(&mut entry, notice, firewall);
        map.insert(notice.name.clone(), entry);
    }
    map.insert("System".into(), json!({ "status": words(worst) }));
    Value::Object(map)
}

/// 25.1 and later. With nothing to say there are no subsystems at all, and the status is the number 2.
fn layered_notices(firewall: &Firewall, visible: impl Fn(&&Notice) -> bool) -> Value {
    if firewall.notices.is_empty() {
        return metadata(firewall, json!(2));
    }
    let words = |code| match code {
        -1 => "ERROR",
        0 => "WARNING",
        1 => "NOTICE",
        _ => "OK",
    };
    let mut shown: Vec<&Notice> = firewall.notices.iter().filter(visible).collect();
    shown.sort_by_key(|notice| notice.code);
    let mut answer = metadata(firewall, words(shown.first().map_or(2, |notice| notice.code)).into());
    let mut map = Map::new();
    for notice in shown {
        let mut entry = json!({
            "title": notice.title,
            "statusCode": notice.code,
            "message": notice.message,
            "location": notice.location,
            "timestamp": stamp(notice),
            "persistent": false,
            "isBanner": false,
            "priority": 10,
            "status": words(notice.code),
        });
        add_age(&mut entry, notice, firewall);
        map.insert(notice.name.to_lowercase(), entry);
    }
    answer["subsystems"] = if map.is_empty() { json!([]) } else { Value::Object(map) };
    answer
}

fn metadata(firewall: &Firewall, status: Value) -> Value {
    json!({ "metadata": {
        "system": {
            "status": status,
            // Stays so whatever the status is.
            "message": text(firewall, "No pending messages", "Keine ausstehenden Meldungen"),
            "title": "System",
        },
        "translations": {
            "dialogTitle": text(firewall, "System Status", "Systemstatus"),
            "dialogCloseButton": text(firewall, "Close", "Schließen"),
        },
        "subsystems": [],
    } })
}

fn stamp(notice: &Notice) -> Value {
    match notice.age {
        Some(age) => (Timestamp::now().as_second() - i64::try_from(age).unwrap_or(0)).into(),
        None => "0".into(),
    }
}

fn add_age(entry: &mut Value, notice: &Notice, firewall: &Firewall) {
    let Some(age) = notice.age else { return };
    let (count, english, german) = match age {
        0..60 => (age, "seconds", "Sekunden"),
        60..3600 => (age / 60, "minutes", "Minuten"),
        3600..86_400 => (age / 3600, "hours", "Stunden"),
        _ => (age / 86_400, "days", "Tagen"),
    };
    let english = if count == 1 { english.trim_end_matches('s') } else { english };
    entry["age"] = text(firewall, &format!("{count} {english} ago"), &format!("vor {count} {german}")).into();
}
