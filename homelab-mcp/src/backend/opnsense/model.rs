//! What the firewall's answers mean. PHP made them: numbers come as strings too, an empty map is `[]`, truth is 0, 1, "0",
//! "1" or a boolean. What is not there stays unknown. Texts may be translated, so only codes and numbers decide.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{http::text::vendor_text, times};

/// Version and updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Firmware {
    /// `26.7.2 (Nickname)`.
    pub(super) version: Option<String>,
    pub(super) updates: Updates,
    /// Why its last check for updates failed, if it did.
    pub(super) failed: Option<String>,
}

/// As of the firewall's last check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(super) struct Updates {
    /// Unknown when it never checked, or the check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<bool>,
    /// Packages that would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packages: Option<usize>,
    /// The pending update does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) needs_reboot: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latest_version: Option<String>,
    /// In the firewall's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_check: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Uptime {
    pub(super) seconds: Option<u64>,
    /// 1, 5 and 15 minutes.
    pub(super) load: Option<[f64; 3]>,
}

/// In bytes. `used` is without what can be had back at once, and with ZFS's cache (ARC).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) used: u64,
    pub(super) total: Option<u64>,
    pub(super) arc: Option<u64>,
}

/// A file system; sizes as `df -h` prints them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Disk {
    mountpoint: String,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_percent: Option<f64>,
}

/// What `top` says above its table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Activity {
    pub(super) cpu_percent: Option<f64>,
    pub(super) uptime: Uptime,
    pub(super) memory: Option<Memory>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gateways {
    /// online, degraded or unknown.
    pub(super) overall: &'static str,
    pub(super) rows: Vec<Gateway>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Gateway {
    name: String,
    /// online, down, force_down, loss, delay, delay+loss, unmonitored; pending: not measured yet.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// What is pinged.
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<String>,
}

/// One of its own findings that is not OK.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Notice {
    subject: String,
    /// error, warning, notice.
    severity: String,
    message: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// `name` or `name/instance`.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) running: Option<bool>,
    pub(super) locked: bool,
}

impl Service {
    /// The contract's word.
    pub(super) fn status(&self) -> &'static str {
        word(self.running)
    }

    /// Its rows are shown as locked and as running whatever they do: the firewall does not check them.
    pub(super) fn is_wireguard(&self) -> bool {
        self.name == "wireguard"
    }
}

/// `running`, `stopped`.
pub(super) fn word(running: Option<bool>) -> &'static str {
    match running {
        Some(true) => "running",
        Some(false) => "stopped",
        None => "unknown",
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// The number before a unit: `8.1 ms`, `0.0 %`; none in `~`.
fn measured(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => {
            text.split_whitespace().next()?.trim_end_matches('%').parse().ok().filter(|n: &f64| n.is_finite())
        }
        value => number(value),
    }
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Some(false),
        value => number(value).map(|number| number != 0.0),
    }
}

/// Text in one line; none where it is empty or `~`.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => vendor_text(text),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text != "~").then_some(text)
}

fn bytes(value: &Value) -> Option<u64> {
    number(value).filter(|number| *number >= 0.0).map(|number| number as u64)
}

/// How many a map or list has.
fn len(value: &Value) -> Option<usize> {
    value.as_object().map(serde_json::Map::len).or_else(|| value.as_array().map(Vec::len))
}

fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| round(part * 100.0 / whole))
}

pub(super) fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl Memory {
    pub(super) fn percent(&self) -> Option<f64> {
        percent(self.used as f64, self.total? as f64)
    }
}

/// core/firmware/status. `None` when it is nothing of that kind.
pub(super) fn firmware(value: &Value) -> Option<Firmware> {
    let status = value["status"].as_str()?.to_ascii_lowercase();
    let product = &value["product"];
    let version = text(&product["product_version"])
        .or_else(|| text(&product["CORE_VERSION"]))
        .or_else(|| text(&value["product_version"]));
    let nickname = text(&product["product_nickname"]).or_else(|| text(&product["CORE_NICKNAME"]));
    let version = match (version, nickname) {
        (Some(version), Some(nickname)) => Some(format!("{version} ({nickname})")),
        (version, _) => version,
    };
    // "none" is also what one says that never looked.
    let pending = match status.as_str() {
        "update" | "upgrade" => Some(true),
        "none" | "ok" if product["product_check"].is_object() => Some(false),
        _ => None,
    };
    let waiting = pending == Some(true);
    let reboot = ["status_reboot", "needs_reboot", "upgrade_needs_reboot"];
    let reboot: Vec<_> = reboot.iter().filter_map(|name| flag(&value[*name])).collect();
    let updates = Updates {
        pending,
        packages: len(&value["all_packages"]).filter(|_| waiting),
        needs_reboot: (waiting && !reboot.is_empty()).then(|| reboot.contains(&true)),
        latest_version: text(&product["product_latest"]),
        last_check: text(&value["last_check"]).or_else(|| text(&product["product_check"]["last_check"])),
    };
    let failed =
        (status == "error").then(|| text(&value["status_msg"]).unwrap_or_else(|| "no reason given".to_owned()));
    Some(Firmware { version, updates, failed })
}

/// The version in diagnostics/system/system_information: `OPNsense 26.7.2-amd64`.
pub(super) fn version(value: &Value) -> Option<String> {
    let first = value["versions"].as_array()?.first()?.as_str()?;
    let version = first.strip_prefix("OPNsense").unwrap_or(first).trim();
    // Without the architecture, which is behind the last dash and begins with a letter.
    let version = match version.rsplit_once('-') {
        Some((version, machine)) if machine.starts_with(|c: char| c.is_ascii_lowercase()) => version,
        _ => version,
    };
    text(&Value::String(version.to_owned()))
}

/// diagnostics/system/system_time.
pub(super) fn uptime(value: &Value) -> Option<Uptime> {
    let uptime =
        Uptime { seconds: value["uptime"].as_str().and_then(seconds), load: value["loadavg"].as_str().and_then(load) };
    (uptime != Uptime::default()).then_some(uptime)
}

/// `12 days, 03:04:05`, `1 day, …`, `03:04:05`, `12+03:04:05`, in any language.
fn seconds(text: &str) -> Option<u64> {
    let (before, clock) = match text.trim().rsplit_once([' ', '+', ',']) {
        Some((before, clock)) => (before, clock),
        None => ("", text.trim()),
    };
    let mut parts = clock.split(':').map(str::parse::<u64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let days = before.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty());
    let days: u64 = days.map_or(Ok(0), str::parse).ok().filter(|days| *days < 100_000)?;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// What the firewall writes for an uptime, in English.
pub(super) fn uptime_text(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

/// `0.42, 0.37, 0.30`.
fn load(text: &str) -> Option<[f64; 3]> {
    let numbers: Vec<f64> = text.split(',').map_while(|part| part.trim().parse().ok()).collect();
    numbers.get(..3)?.try_into().ok()
}

/// diagnostics/system/system_resources; `None` when it says `N/A`.
pub(super) fn memory(value: &Value) -> Option<Memory> {
    let memory = &value["memory"];
    Some(Memory { used: bytes(&memory["used"])?, total: bytes(&memory["total"]), arc: bytes(&memory["arc"]) })
}

/// diagnostics/system/system_disk, by mount point.
pub(super) fn disks(value: &Value) -> Vec<Disk> {
    let rows = value["devices"].as_array().into_iter().flatten();
    let mut disks: Vec<_> = rows
        .filter_map(|row| {
            Some(Disk {
                mountpoint: text(&row["mountpoint"])?,
                device: text(&row["device"]).unwrap_or_default(),
                size: text(&row["blocks"]),
                used: text(&row["used"]),
                available: text(&row["available"]),
                used_percent: measured(&row["used_pct"]),
            })
        })
        .collect();
    disks.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    disks
}

/// diagnostics/activity/get_activity: the lines of `top`, which come in English whatever the language.
pub(super) fn activity(value: &Value) -> Option<Activity> {
    let lines: Vec<_> = value["headers"].as_array()?.iter().filter_map(Value::as_str).collect();
    let after = |mark: &str| lines.iter().find_map(|line| line.split_once(mark)).map(|(_, rest)| rest.trim_start());
    let idle = after("CPU:").and_then(|rest| {
        let part = rest.split(',').find(|part| part.trim_end().ends_with("idle"))?;
        part.split('%').next()?.trim().parse::<f64>().ok()
    });
    Some(Activity {
        cpu_percent: idle.filter(|idle| (0.0..=100.0).contains(idle)).map(|idle| round(100.0 - idle)),
        uptime: Uptime {
            seconds: after(" up ").and_then(|rest| seconds(rest.split_whitespace().next()?)),
            load: after("load averages:").and_then(|rest| load(rest.split([';', 'u']).next()?)),
        },
        memory: lines.iter().find_map(|line| line.strip_prefix("Mem:")).and_then(top_memory),
    })
}

/// `123M Active, 1456M Inact, 45M Laundry, 1024M Wired, 512M Buf, 5120M Free`. Buffers and ARC are part of what is wired.
fn top_memory(line: &str) -> Option<Memory> {
    let parts: Vec<_> = line.split(',').filter_map(|part| part.trim().split_once(' ')).collect();
    let of = |name: &str| parts.iter().find(|(_, of)| of.trim() == name).and_then(|(amount, _)| amount_of(amount));
    let used = of("Active").unwrap_or(0).checked_add(of("Wired")?)?;
    let mut rest = [of("Inact"), of("Laundry"), of("Cache"), Some(of("Free")?)].into_iter().flatten();
    let total = rest.try_fold(used, u64::checked_add);
    Some(Memory { used, total, arc: None })
}

/// `1456M` in bytes.
fn amount_of(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let power = match &text[at..] {
        "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    text[..at].parse::<u64>().ok()?.checked_mul(1 << power)
}

/// CPU use in what came of diagnostics/cpu_usage/stream so far. The first event is the mean since the start of the firewall,
/// so the second one tells.
pub(super) fn cpu_event(body: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(body);
    // The last piece may be half an event.
    let (whole, _) = text.rsplit_once('\n')?;
    let event = whole.lines().filter_map(|line| line.strip_prefix("data:")).nth(1)?;
    let event: Value = serde_json::from_str(event).ok()?;
    number(&event["total"]).filter(|total| (0.0..=100.0).contains(total))
}

/// routes/gateway/status; `None` when there is none to tell of.
pub(super) fn gateways(value: &Value) -> Option<Gateways> {
    let items = value["items"].as_array().filter(|items| !items.is_empty())?;
    let mut rows: Vec<_> = items.iter().filter_map(gateway).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let any = |words: &[&str]| rows.iter().any(|row| words.contains(&row.status.as_str()));
    let overall = if rows.iter().any(|row| !["online", "unmonitored", "pending"].contains(&row.status.as_str())) {
        "degraded"
    } else if any(&["pending"]) || !any(&["online"]) {
        "unknown"
    } else {
        "online"
    };
    Some(Gateways { overall, rows })
}

fn gateway(row: &Value) -> Option<Gateway> {
    let (loss, delay) = (measured(&row["loss"]), measured(&row["delay"]));
    let measured_now = loss.is_some() || delay.is_some();
    let word = row["status"].as_str().unwrap_or_default().to_ascii_lowercase();
    let status = match (word.as_str(), measured_now) {
        // The firewall's word for "nothing is wrong", which it also says of what it does not look at.
        ("none", true) => "online",
        ("none", false) => "unmonitored",
        // Its monitor has not said anything yet.
        ("down", false) => "pending",
        ("down" | "force_down" | "loss" | "delay" | "delay+loss", _) => word.as_str(),
        _ => "pending",
    };
    Some(Gateway {
        name: text(&row["name"])?,
        status: status.to_owned(),
        loss_percent: loss,
        delay_ms: delay,
        address: text(&row["address"]),
        monitor: text(&row["monitor"]),
    })
}

/// core/system/status: since 25.1 under `subsystems`, before that a flat map; the worst first. `None` when it failed.
pub(super) fn notices(value: &Value) -> Option<Vec<Notice>> {
    let all = if value.get("metadata").is_some() || value.get("subsystems").is_some() {
        // Not there when all is well.
        value.get("subsystems").unwrap_or(&Value::Null)
    } else if value["status"].is_string() {
        return None;
    } else {
        value
    };
    let rows = all.as_object().into_iter().flatten().filter(|(_, row)| row.is_object());
    let mut found: Vec<_> = rows
        // The sum of the others, without a code and a message.
        .filter(|(name, row)| !(name.eq_ignore_ascii_case("system") && row.get("message").is_none()))
        .filter_map(|(name, row)| {
            let severity = severity(row)?;
            let since = number(&row["timestamp"]).filter(|at| *at > 0.0).and_then(|at| times::rfc3339(at as i64));
            let subject = text(&row["title"]).unwrap_or_else(|| vendor_text(name));
            Some(Notice {
                subject,
                severity: severity.to_owned(),
                message: text(&row["message"]).unwrap_or_default(),
                since,
            })
        })
        .collect();
    let rank = |notice: &Notice| ["error", "warning", "notice"].iter().position(|word| *word == notice.severity);
    found.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.subject.cmp(&b.subject)));
    Some(found)
}

/// By its code; by its word where there is none. `None` for OK.
fn severity(row: &Value) -> Option<&'static str> {
    match number(&row["statusCode"]) {
        Some(code) if code < 0.0 => Some("error"),
        Some(0.0) => Some("warning"),
        Some(1.0) => Some("notice"),
        Some(_) => None,
        None => match row["status"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
            "error" => Some("error"),
            "warning" => Some("warning"),
            "notice" => Some("notice"),
            _ => None,
        },
    }
}

/// core/service/search, by id. `None` also for an empty list: it has the firewall's own daemons at least, so its backend
/// failed.
pub(super) fn services(value: &Value) -> Option<Vec<Service>> {
    let rows = value["rows"].as_array()?;
    let mut services: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let name = text(&row["name"])?;
            Some(Service {
                id: text(&row["id"]).unwrap_or_else(|| name.clone()),
                name,
                description: text(&row["description"]).unwrap_or_default(),
                running: flag(&row["running"]),
                locked: flag(&row["locked"]).unwrap_or(false),
            })
        })
        .collect();
    services.sort_by(|a, b| a.id.cmp(&b.id));
    (!services.is_empty()).then_some(services)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn uptimes_are_read_in_any_language() {
        for (given, told) in [
            ("12 days, 03:04:05", Some(1_047_845)),
            ("1 day, 00:00:00", Some(86_400)),
            ("12 Tage, 03:04:05", Some(1_047_845)),
            ("00:04:05", Some(245)),
            ("12+03:04:05", Some(1_047_845)),
            ("N/A", None),
            ("", None),
            ("99:99:99", None),
            ("1:2", None),
        ] {
            assert_eq!(seconds(given), told, "{given}");
        }
        for text in ["12 days, 03:04:05", "1 day, 00:00:00", "00:04:05"] {
            assert_eq!(uptime_text(seconds(text).unwrap()), text);
        }
        assert_eq!(
            uptime(&json!({"uptime": "00:04:05", "loadavg": "N/A"})),
            Some(Uptime { seconds: Some(245), load: None })
        );
        assert_eq!(uptime(&json!([])), None);
    }

    #[test]
    fn the_version_has_its_nickname_and_an_update_is_pending_only_when_that_is_known() {
        let product = json!({"product_version": "26.7.2", "product_nickname": "Some Bird", "product_latest": "26.7.3", "product_check": null});
        let never = firmware(&json!({"status": "none", "status_msg": "…", "product": product})).unwrap();
        assert_eq!(never.version.as_deref(), Some("26.7.2 (Some Bird)"));
        assert_eq!((never.updates.pending, never.updates.needs_reboot), (None, None));
        let mut checked = product;
        checked["product_check"] = json!({"last_check": "Sun Nov 22 06:00:01 UTC 2026"});
        let calm =
            firmware(&json!({"status": "none", "product": checked, "needs_reboot": "0", "all_packages": []})).unwrap();
        assert_eq!((calm.updates.pending, calm.updates.packages), (Some(false), None));
        assert!(calm.updates.last_check.unwrap().contains("06:00:01"));
        let packages = json!({"opnsense": {"new": "26.7.3"}, "php": {}});
        let waiting =
            firmware(&json!({"status": "UPDATE", "product": checked, "needs_reboot": "1", "all_packages": packages}))
                .unwrap();
        assert_eq!(
            (waiting.updates.pending, waiting.updates.packages, waiting.updates.needs_reboot),
            (Some(true), Some(2), Some(true))
        );
        let broken = firmware(&json!({"status": "error", "status_msg": "aborted"})).unwrap();
        assert_eq!((broken.version, broken.updates.pending, broken.failed.as_deref()), (None, None, Some("aborted")));
        assert_eq!(firmware(&json!([])), None);
        for (first, told) in
            [("OPNsense 26.7.2-amd64", "26.7.2"), ("OPNsense 24.7.12_4-amd64", "24.7.12_4"), ("OPNsense 26.1", "26.1")]
        {
            assert_eq!(version(&json!({"versions": [first, "FreeBSD 15.1"]})).as_deref(), Some(told));
        }
        assert_eq!(version(&json!({"versions": []})), None);
    }

    #[test]
    fn memory_is_read_from_strings_and_numbers_and_na_is_unknown() {
        let read = memory(&json!({"memory": {"total": "8000000000", "used": 2000000000u64, "arc": "5"}})).unwrap();
        assert_eq!((read.percent(), read.arc), (Some(25.0), Some(5)));
        assert_eq!(memory(&json!({"memory": {"used": "N/A"}})), None);
        assert_eq!(memory(&json!([])), None);
    }

    #[test]
    fn the_lines_of_top_tell_cpu_load_uptime_and_memory() {
        let read = activity(&json!({"headers": [
            "last pid: 61102;  load averages:  0.42,  0.37,  0.30; battery: 0%  up 12+03:04:05    17:20:01",
            "214 threads:   5 running, 185 sleeping, 24 waiting",
            "CPU:   2.1% user,  0.0% nice,  1.4% system,  0.2% interrupt, 96.3% idle",
            "Mem: 100M Active, 1G Inact, 50M Laundry, 300M Wired, 200M Buf, 574M Free",
            "ARC: 584M Total, 210M MFU",
        ], "details": []}))
        .unwrap();
        assert_eq!(read.cpu_percent, Some(3.7));
        assert_eq!(read.uptime, Uptime { seconds: Some(1_047_845), load: Some([0.42, 0.37, 0.3]) });
        let memory = read.memory.unwrap();
        assert_eq!((memory.used, memory.total), (400 << 20, Some(2048 << 20)));
        let other = activity(
            &json!({"headers": ["last pid: 1;  load averages:  0.42,  0.37,  0.30  up 0+00:04:05    15:44:17"]}),
        );
        assert_eq!(other.unwrap().uptime, Uptime { seconds: Some(245), load: Some([0.42, 0.37, 0.3]) });
        let nothing = activity(&json!({"headers": ["CPU: ?", "Mem: what"]})).unwrap();
        assert_eq!(nothing, Activity::default());
        assert_eq!(activity(&json!([])), None);
    }

    #[test]
    fn the_second_event_tells_the_cpu() {
        let event = |total: u8| format!("event: message\ndata: {{\"total\":{total},\"idle\":0}}\n\n");
        assert_eq!(cpu_event(event(3).as_bytes()), None);
        assert_eq!(cpu_event((event(3) + "event: message\ndata: {\"total\":1").as_bytes()), None);
        assert_eq!(cpu_event((event(3) + &event(12)).as_bytes()), Some(12.0));
        assert_eq!(cpu_event(b""), None);
    }

    #[test]
    fn a_gateway_that_nobody_watches_is_not_healthy_and_a_silent_monitor_is_not_down() {
        let row = |name: &str, status: &str, loss: &str, delay: &str| json!({"name": name, "status": status, "loss": loss, "delay": delay, "address": "~", "monitor": "192.0.2.1", "status_translated": "?"});
        let read = |rows: Vec<Value>| gateways(&json!({"items": rows, "status": "ok"})).unwrap();
        let status = |row: Value| read(vec![row]).rows.remove(0).status;
        assert_eq!(status(row("a", "none", "0.0 %", "8.1 ms")), "online");
        assert_eq!(status(row("a", "None", "~", "~")), "unmonitored");
        assert_eq!(status(row("a", "down", "100.0 %", "0.0 ms")), "down");
        assert_eq!(status(row("a", "down", "~", "~")), "pending");
        assert_eq!(status(row("a", "force_down", "~", "~")), "force_down");
        assert_eq!(status(row("a", "delay+loss", "22.0 %", "690.2 ms")), "delay+loss");
        assert_eq!(status(row("a", "Ausstehend", "~", "~")), "pending");
        let one = read(vec![row("a", "none", "1.5 %", "8.1 ms")]).rows.remove(0);
        assert_eq!((one.loss_percent, one.delay_ms, one.address), (Some(1.5), Some(8.1), None));
        let up = || row("b", "none", "0.0 %", "8.1 ms");
        for (other, overall) in [
            (up(), "online"),
            (row("a", "none", "~", "~"), "online"),
            (row("a", "loss", "12 %", "1 ms"), "degraded"),
            (row("a", "?", "~", "~"), "unknown"),
        ] {
            assert_eq!(read(vec![up(), other]).overall, overall);
        }
        assert_eq!(read(vec![row("a", "none", "~", "~")]).overall, "unknown");
        assert_eq!(gateways(&json!({"items": [], "status": "failed"})), None);
    }

    #[test]
    fn notices_are_told_apart_by_code_in_both_shapes() {
        let new = json!({
            "metadata": {"system": {"status": "ERROR", "message": "No pending messages", "title": "System"}},
            "subsystems": {
                "disk": {"status": "OK", "statusCode": 2, "title": "Disk", "message": "fine", "timestamp": "0"},
                "fw": {"status": "Hinweis", "statusCode": "1", "title": "Firewall", "message": "<b>n</b>", "timestamp": "0"},
                "crash": {"status": "ERROR", "statusCode": -1, "title": "Crash", "message": "m", "timestamp": 1_795_367_691},
            },
        });
        let found = notices(&new).unwrap();
        let told: Vec<_> =
            found.iter().map(|n| (n.subject.as_str(), n.severity.as_str(), n.message.as_str())).collect();
        assert_eq!(told, [("Crash", "error", "m"), ("Firewall", "notice", "n")]);
        assert!(found[0].since.as_deref().is_some_and(|at| at.starts_with("2026-11-2")) && found[1].since.is_none());
        let old = json!({
            "CrashReporter": {"statusCode": 0, "message": "m", "status": "Warning", "timestamp": "0"},
            "Firewall": {"statusCode": 2, "message": "No problems", "status": "OK"},
            "System": {"status": "Warning"},
        });
        let found = notices(&old).unwrap();
        assert!(found.len() == 1 && found[0].subject == "CrashReporter" && found[0].severity == "warning");
        assert_eq!(notices(&json!({"metadata": {}, "subsystems": []})), Some(Vec::new()));
        assert_eq!(notices(&json!({"metadata": {"system": {"status": 2}}})), Some(Vec::new()));
        assert_eq!(notices(&json!({"status": "failed"})), None);
    }

    #[test]
    fn services_and_disks_take_php_for_what_it_means() {
        let rows = services(&json!({"rows": [
            {"id": "b/1", "name": "b", "running": "1", "locked": "0", "description": "B &amp; C"},
            {"name": "a", "running": 0, "locked": true},
            {"id": "c", "name": "c"},
            {"description": "nobody"},
        ]}))
        .unwrap();
        let told: Vec<_> = rows.iter().map(|s| (s.id.as_str(), s.status(), s.locked)).collect();
        assert_eq!(told, [("a", "stopped", true), ("b/1", "running", false), ("c", "unknown", false)]);
        assert_eq!(rows[1].description, "B & C");
        assert_eq!(services(&json!([])), None);
        assert_eq!(services(&json!({"total": 0, "rows": []})), None);
        assert!(disks(&json!([])).is_empty());
        let disks = disks(
            &json!({"devices": [{"mountpoint": "/tmp", "device": "tmpfs", "used_pct": "3", "blocks": "4.0G"}, {"mountpoint": "/"}]}),
        );
        assert_eq!(
            (disks[0].mountpoint.as_str(), disks[1].used_percent, disks[0].used_percent),
            ("/", Some(3.0), None)
        );
    }
}
