//! What a container uses, with the numbers of `docker stats`. What the engine does not measure is absent, not zero.

use std::time::Duration;

use serde_json::Value;

use super::client::{Call, Docker};
use super::model::{self, Container};
use crate::error::Fault;

/// What a running container uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stats {
    /// When it was measured, RFC 3339.
    pub(crate) read_at: Option<String>,
    /// Use of CPU over the last second or so: 100 is one CPU fully used.
    pub(crate) cpu_percent: Option<f64>,
    /// How many CPUs there are.
    pub(crate) online_cpus: Option<u64>,
    /// Memory in use, without the page cache that can be dropped at once.
    pub(crate) memory_bytes: Option<u64>,
    /// Its limit; without one of its own that is the host's memory.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// The one in percent of the other.
    pub(crate) memory_percent: Option<f64>,
    /// Received over all its networks since it started; absent on the host's network.
    pub(crate) network_rx_bytes: Option<u64>,
    /// Sent likewise.
    pub(crate) network_tx_bytes: Option<u64>,
    /// Read from disks since it started. The engine says the same for "nothing yet" and "not measured": absent.
    pub(crate) block_read_bytes: Option<u64>,
    /// Written likewise.
    pub(crate) block_write_bytes: Option<u64>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
}

impl Docker {
    /// Measures for a second or two; `None` when the container does not run, or ended meanwhile.
    pub(crate) async fn stats(&self, container: &Container) -> Result<Option<Stats>, Fault> {
        if !container.state.running {
            return Ok(None);
        }
        // Without one-shot the engine takes two samples a second apart, which the use of CPU needs.
        let path = format!("/containers/{}/stats?stream=false", container.id);
        let sample = self.json_within(Call::get(path), self.limit() + Duration::from_secs(5)).await?;
        Ok(measured(&sample))
    }
}

/// Reads one answer; `None` when it is the empty one of a container that does not run.
fn measured(sample: &Value) -> Option<Stats> {
    let memory = &sample["memory_stats"];
    let zero_time = sample["read"].as_str().is_none_or(|read| read.starts_with("0001-01-01"));
    if zero_time && memory["usage"].as_u64().is_none() {
        return None;
    }
    let memory_bytes = used_memory(memory);
    let limit = memory["limit"].as_u64().filter(|limit| *limit > 0);
    let networks = sample["networks"].as_object();
    let network = |field: &str| -> Option<u64> {
        let sums: Vec<u64> = networks?.values().filter_map(|interface| interface[field].as_u64()).collect();
        (!sums.is_empty()).then(|| sums.iter().sum())
    };
    Some(Stats {
        read_at: model::some_text(&sample["read"]),
        cpu_percent: cpu_percent(sample),
        online_cpus: online_cpus(&sample["cpu_stats"]),
        memory_bytes,
        memory_limit_bytes: limit,
        memory_percent: memory_bytes.zip(limit).map(|(used, limit)| used as f64 / limit as f64 * 100.0),
        network_rx_bytes: network("rx_bytes"),
        network_tx_bytes: network("tx_bytes"),
        block_read_bytes: block_bytes(sample, "read"),
        block_write_bytes: block_bytes(sample, "write"),
        pids: sample["pids_stats"]["current"].as_u64(),
    })
}

/// The container's share of the CPU time that passed between the samples.
fn cpu_percent(sample: &Value) -> Option<f64> {
    let (now, before) = (&sample["cpu_stats"], &sample["precpu_stats"]);
    let between = |path: fn(&Value) -> &Value| path(now).as_u64()?.checked_sub(path(before).as_u64()?);
    let used = between(|cpu| &cpu["cpu_usage"]["total_usage"])?;
    // Without a first sample this is missing (or 0, in old engines): a share of all time since the boot is no answer.
    let passed = between(|cpu| &cpu["system_cpu_usage"])?;
    if passed == 0 || before["system_cpu_usage"].as_u64() == Some(0) {
        return None;
    }
    Some(used as f64 / passed as f64 * online_cpus(now)? as f64 * 100.0)
}

/// How many CPUs; old engines only list them.
fn online_cpus(cpu: &Value) -> Option<u64> {
    let listed = || model::list(&cpu["cpu_usage"]["percpu_usage"]).len() as u64;
    cpu["online_cpus"].as_u64().filter(|n| *n > 0).or_else(|| Some(listed()).filter(|n| *n > 0))
}

/// Usage without the inactive file cache: `total_inactive_file` in cgroup v1, `inactive_file` in v2.
fn used_memory(memory: &Value) -> Option<u64> {
    let usage = memory["usage"].as_u64()?;
    let stats = &memory["stats"];
    let inactive = stats["total_inactive_file"].as_u64().or_else(|| stats["inactive_file"].as_u64());
    // The two are not read at the same moment; then it is left as it is, as the command does.
    Some(inactive.and_then(|inactive| usage.checked_sub(inactive)).unwrap_or(usage))
}

/// Sums one kind of operation over all disks.
fn block_bytes(sample: &Value, operation: &str) -> Option<u64> {
    let entries = model::list(&sample["blkio_stats"]["io_service_bytes_recursive"]);
    let matching: Vec<u64> = entries
        .iter()
        .filter(|entry| entry["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(operation)))
        .filter_map(|entry| entry["value"].as_u64())
        .collect();
    (!matching.is_empty()).then(|| matching.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Docker 20.10.24, cgroup v1, shortened.
    fn v1() -> Value {
        json!({
            "read": "2026-11-22T18:44:46.580508652Z", "preread": "2026-11-22T18:44:45.576270771Z",
            "pids_stats": {"current": 2},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "Read", "value": 4096}, {"major": 8, "minor": 0, "op": "Write", "value": 100},
                {"major": 8, "minor": 16, "op": "Read", "value": 1}, {"major": 8, "minor": 0, "op": "Total", "value": 4196},
            ]},
            "cpu_stats": {"cpu_usage": {"total_usage": 642_336_400_u64, "percpu_usage": [71_484_464, 70_851_936]},
                "system_cpu_usage": 3_345_000_000_000_u64, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 142_336_400}, "system_cpu_usage": 3_343_000_000_000_u64},
            "memory_stats": {"usage": 10_000_000, "limit": 100_000_000,
                "stats": {"inactive_file": 1, "total_inactive_file": 4_000_000}},
            "networks": {"eth0": {"rx_bytes": 586, "tx_bytes": 0}, "eth1": {"rx_bytes": 14, "tx_bytes": 7}},
        })
    }

    #[test]
    fn the_numbers_are_those_of_docker_stats() {
        let stats = measured(&v1()).unwrap();
        assert_eq!(
            stats,
            Stats {
                read_at: Some("2026-11-22T18:44:46.580508652Z".into()),
                cpu_percent: Some(50.0),
                online_cpus: Some(2),
                memory_bytes: Some(6_000_000),
                memory_limit_bytes: Some(100_000_000),
                memory_percent: Some(6.0),
                network_rx_bytes: Some(600),
                network_tx_bytes: Some(7),
                block_read_bytes: Some(4097),
                block_write_bytes: Some(100),
                pids: Some(2),
            }
        );
    }

    #[test]
    fn cgroup_v2_has_other_names() {
        let mut sample = v1();
        sample["memory_stats"]["stats"] = json!({"inactive_file": 3_000_000, "anon": 5});
        sample["blkio_stats"]["io_service_bytes_recursive"] =
            json!([{"op": "read", "value": 5}, {"op": "write", "value": 6}]);
        let stats = measured(&sample).unwrap();
        assert_eq!(stats.memory_bytes, Some(7_000_000));
        assert_eq!((stats.block_read_bytes, stats.block_write_bytes), (Some(5), Some(6)));
    }

    #[test]
    fn what_is_absent_stays_absent() {
        let stats = measured(&json!({
            "read": "2026-11-22T18:44:46Z", "pids_stats": {}, "memory_stats": {}, "networks": null,
            "blkio_stats": {"io_service_bytes_recursive": null},
            "cpu_stats": {"cpu_usage": {"total_usage": 5}, "system_cpu_usage": 10, "online_cpus": 1},
            "precpu_stats": {"cpu_usage": {"total_usage": 0}},
        }))
        .unwrap();
        let read_at = Some("2026-11-22T18:44:46Z".into());
        assert_eq!(stats, Stats { read_at, online_cpus: Some(1), ..Stats::default() });
    }

    #[test]
    fn an_idle_container_uses_nothing_and_that_is_known() {
        let mut sample = v1();
        sample["precpu_stats"]["cpu_usage"]["total_usage"] = sample["cpu_stats"]["cpu_usage"]["total_usage"].clone();
        assert_eq!(measured(&sample).unwrap().cpu_percent, Some(0.0));
        // Counters of an earlier life are greater: no number rather than a wrong one.
        sample["precpu_stats"]["cpu_usage"]["total_usage"] = json!(u64::MAX);
        assert_eq!(measured(&sample).unwrap().cpu_percent, None);
        sample["memory_stats"] = json!({"usage": 5, "limit": 0, "stats": {"total_inactive_file": 9}});
        let stats = measured(&sample).unwrap();
        assert_eq!((stats.memory_bytes, stats.memory_limit_bytes, stats.memory_percent), (Some(5), None, None));
    }

    #[test]
    fn a_stopped_container_has_no_numbers() {
        // What Docker 20.10.24 answers.
        let empty = json!({"read": "0001-01-01T00:00:00Z", "preread": "0001-01-01T00:00:00Z", "pids_stats": {},
            "cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}});
        assert_eq!(measured(&empty), None);
    }
}
