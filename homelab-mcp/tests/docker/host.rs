//! The host's numbers beside what this machine says of itself. (In a container with HOST_ROOT: `tests/container.sh`.)

use std::{fs, process::Command};

use serde_json::json;

use crate::{
    lab::{rows, text},
    support::Core,
};

fn gib(kib: &str) -> f64 {
    kib.parse::<f64>().unwrap() / 1024.0 / 1024.0
}

#[test]
fn system_info_tells_what_the_machine_says() {
    let mut core = Core::start(&[]);
    let info = core.ok("system_info", json!({}));
    let close = |member: &str, expected: f64, by: f64| {
        let told = info[member].as_f64().unwrap_or_else(|| panic!("no {member} in {info}"));
        assert!((told - expected).abs() <= by, "{member} is {told}, not {expected}");
    };
    let hostname = Command::new("hostname").output().unwrap();
    assert_eq!(text(&info, "hostname"), String::from_utf8(hostname.stdout).unwrap().trim());
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let line = |name: &str| {
        memory.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next().unwrap()
    };
    close("memory_total_gb", gib(line("MemTotal:")), 0.02);
    close("memory_available_gb", gib(line("MemAvailable:")), 1.5);
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    close("uptime_hours", uptime.split('.').next().unwrap().parse::<f64>().unwrap() / 3600.0, 0.05);
    let cpu = info["cpu_percent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&cpu) && info["measured_over_ms"].as_u64().unwrap() >= 900, "{info}");
    let df = Command::new("df").args(["-k", "--output=size", "/"]).output().unwrap();
    let size = String::from_utf8(df.stdout).unwrap();
    close("disk_total_gb", gib(size.lines().last().unwrap().trim()), 0.1);
    let places: Vec<_> = rows(&info, "filesystems").iter().map(|row| row.to_string()).collect();
    assert!(places.iter().all(|row| !row.contains("\"overlay\"") && !row.contains("\"tmpfs\"")), "{places:?}");
}
