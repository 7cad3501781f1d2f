//! What containers use, compared with what `docker stats` says.

use std::time::Instant;

use serde_json::{Value, json};

use crate::lab::{IDLE, Lab, docker, inspect, rows, text, until};

const NUMBERS: [&str; 6] =
    ["cpu_percent", "memory_usage_mb", "memory_limit_mb", "memory_percent", "network_rx_mb", "network_tx_mb"];

/// `12.5MiB` in MiB.
fn mib(text: &str) -> f64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().unwrap_or_else(|_| panic!("{text}"));
    match &text[digits.len()..] {
        "B" => number / 1024.0 / 1024.0,
        "KiB" => number / 1024.0,
        "MiB" => number,
        "GiB" => number * 1024.0,
        unit => panic!("{unit}"),
    }
}

/// CPU time of a process of this machine, from the kernel, which counts hundredths.
fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn number(row: &Value, member: &str) -> f64 {
    row[member].as_f64().unwrap_or_else(|| panic!("no {member} in {row}"))
}

#[test]
fn the_numbers_are_those_of_docker_stats() {
    let lab = Lab::new();
    // On a disk, so that what is written stays in the page cache, which is no use of memory.
    let data = lab.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let script = "dd if=/dev/zero of=/data/file bs=1M count=40 2>/dev/null; echo ready; while :; do :; done";
    let web =
        lab.run("web", &["--memory", "128m", "--cpus", "0.5", "-v", &format!("{}:/data", data.display())], script);
    until("it is busy", || docker(&["logs", &web]) == "ready");
    let mut core = lab.core(&[]);
    let pid = inspect(&web, "{{.State.Pid}}");
    let (before, clock) = (cpu_seconds(&pid), Instant::now());
    let stats = core.ok("docker_container_stats", json!({"container": web}));
    // What the process really used meanwhile: a busy machine may give it less than its half.
    let used_cpu = 100.0 * (cpu_seconds(&pid) - before) / clock.elapsed().as_secs_f64();
    let outside = docker(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", &web]);
    let outside: Vec<_> = outside.split_whitespace().collect();

    assert_eq!((text(&stats, "container"), text(&stats, "state")), (web.as_str(), "running"));
    assert!(NUMBERS.iter().all(|name| stats[name].is_number()), "{stats}");
    let cpu = number(&stats, "cpu_percent");
    assert!(cpu <= 75.0 && (cpu - used_cpu).abs() < 20.0, "half a CPU over a real interval, {used_cpu}, not {cpu}");
    assert_eq!(number(&stats, "memory_limit_mb"), 128.0);
    let told = number(&stats, "memory_usage_mb");
    assert!((number(&stats, "memory_percent") - told / 1.28).abs() < 0.1, "{stats}");
    // The kernel sorts the pages of the file just written a moment later, so two looks may differ once. With the page cache
    // counted in they would differ always, by the 40 MiB of the file.
    until("both say the same memory", || {
        let stats = core.ok("docker_container_stats", json!({"container": web}));
        let outside = docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &web]);
        let (told, used) = (number(&stats, "memory_usage_mb"), mib(outside.split_whitespace().next().unwrap()));
        (used - told).abs() < 4.0 && told < 20.0
    });
    assert_eq!(stats["pids"].to_string(), outside[3], "{outside:?}");
    assert!(stats.get("containers").is_none(), "{stats}");
}

#[test]
fn a_container_that_does_not_run_has_no_numbers() {
    let lab = Lab::new();
    let stopped = lab.ran("stopped", &[], "true");
    let fresh = lab.create("fresh", &[], IDLE);
    let mut core = lab.core(&[]);
    for (name, state) in [(&stopped, "exited"), (&fresh, "created")] {
        let stats = core.ok("docker_container_stats", json!({"container": name}));
        assert_eq!((text(&stats, "container"), text(&stats, "state")), (name.as_str(), state));
        assert!(text(&stats, "note").contains("does not run"), "{stats}");
        assert!(NUMBERS.iter().all(|name| stats.get(name).is_none()), "zero is not measured: {stats}");
    }
}

#[test]
fn several_are_measured_side_by_side() {
    let lab = Lab::new();
    let names: Vec<_> = (0..6).map(|n| lab.run(&format!("web{n}"), &[], IDLE)).collect();
    let busy = lab.run("busy", &[], "while :; do :; done");
    let (stopped, missing) = (lab.ran("stopped", &[], "true"), lab.name("missing"));
    let mut core = lab.core(&[]);
    let clock = Instant::now();
    core.ok("docker_container_stats", json!({"container": names[0]}));
    let one = clock.elapsed();

    let mut all = names.clone();
    all.extend([busy.clone(), stopped.clone(), missing.clone()]);
    let clock = Instant::now();
    let stats = core.ok("docker_container_stats", json!({"containers": all}));
    let nine = clock.elapsed();
    assert!(nine < one * 4, "seven running ones took {nine:?}, one {one:?}");
    let told = rows(&stats, "containers");
    assert_eq!((told.len(), stats["total"].clone()), (9, json!(9)));
    assert_eq!(text(&told[0], "container"), busy, "the busiest comes first: {stats}");
    let row =
        |name: &str| told.iter().find(|row| row["container"] == name).unwrap_or_else(|| panic!("{name}: {stats}"));
    assert!(names.iter().all(|name| number(row(name), "memory_usage_mb") > 0.0), "{stats}");
    assert_eq!(text(row(&stopped), "state"), "exited");
    assert!(text(row(&missing), "note").to_lowercase().contains("no such container"), "{stats}");

    // Without names, all that run.
    let stats = core.ok("docker_container_stats", json!({}));
    let told: Vec<_> = rows(&stats, "containers").iter().map(|row| text(row, "container")).collect();
    assert!(names.iter().all(|name| told.contains(&name.as_str())) && !told.contains(&stopped.as_str()), "{stats}");

    let said = core.error("docker_container_stats", json!({"container": busy, "containers": [busy]}));
    assert!(said.contains("either"), "{said}");
}
