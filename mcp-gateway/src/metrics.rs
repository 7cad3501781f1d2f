//! Numbers for Prometheus. Labels come from closed lists, so nobody can fill our memory with names.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the latency histogram, in microseconds.
const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 15_000_000,
    60_000_000,
];

/// Methods that are counted by name.
const METHODS: [&str; 22] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "tasks/get",
    "tasks/cancel",
    "tasks/list",
];

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicI64);

impl Number {
    pub(crate) fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, less: i64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Core processes that run.
    pub(crate) workers: Number,
    /// Processes that ended by themselves and were replaced.
    pub(crate) restarts: Number,
    pub(crate) sessions: Number,
    pub(crate) connections: Number,
    requests: Mutex<BTreeMap<[&'static str; 3], u64>>,
    latency: Mutex<BTreeMap<&'static str, Histogram>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One more than there are bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Metrics {
    /// Counts a request to the MCP endpoint.
    pub(crate) fn request(&self, era: &'static str, method: &str, outcome: &'static str, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry([era, method, outcome]).or_default() += 1;
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = latency.entry(era).or_default();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = histogram.counts.get_mut(at) {
            *count += 1;
        }
        histogram.sum += took;
    }

    /// Counts a refused sign-in; a request without any credentials is none.
    pub(crate) fn refused_sign_in(&self, kind: &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP mcp_gateway_{name} {help}\n# TYPE mcp_gateway_{name} {kind}");
        };
        for (name, kind, help, number) in [
            ("workers", "gauge", "Core processes that run.", &self.workers),
            ("restarts_total", "counter", "Core processes that ended by themselves.", &self.restarts),
            ("sessions", "gauge", "Sessions of protocol versions up to 2025-11-25.", &self.sessions),
            ("connections", "gauge", "Open connections.", &self.connections),
        ] {
            head(&mut text, name, kind, help);
            let _ = writeln!(text, "mcp_gateway_{name} {}", number.get());
        }
        head(&mut text, "sign_in_failures_total", "counter", "Refused credentials.");
        for (kind, count) in &*self.refused.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(text, "mcp_gateway_sign_in_failures_total{{kind=\"{kind}\"}} {count}");
        }
        head(&mut text, "requests_total", "counter", "Requests to the MCP endpoint.");
        for ([era, method, outcome], count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(
                text,
                "mcp_gateway_requests_total{{era=\"{era}\",method=\"{method}\",outcome=\"{outcome}\"}} {count}"
            );
        }
        head(&mut text, "request_seconds", "histogram", "From the head of a request to the end of its answer.");
        for (era, histogram) in &*self.latency.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut sum = 0;
            let bounds = BOUNDS.iter().map(|bound| (*bound as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(histogram.counts) {
                sum += count;
                let _ = writeln!(text, "mcp_gateway_request_seconds_bucket{{era=\"{era}\",le=\"{bound}\"}} {sum}");
            }
            let _ = writeln!(text, "mcp_gateway_request_seconds_sum{{era=\"{era}\"}} {}", histogram.sum.as_secs_f64());
            let _ = writeln!(text, "mcp_gateway_request_seconds_count{{era=\"{era}\"}} {sum}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_closed_lists() {
        let metrics = Metrics::default();
        metrics.request("modern", "tools/list", "ok", Duration::from_micros(800));
        metrics.request("modern", "made/up", "ok", Duration::from_secs(100));
        metrics.request("modern", "made/up2", "ok", Duration::from_millis(1));
        metrics.refused_sign_in("bearer");
        let text = metrics.text();
        for line in [
            r#"mcp_gateway_requests_total{era="modern",method="tools/list",outcome="ok"} 1"#,
            r#"mcp_gateway_requests_total{era="modern",method="other",outcome="ok"} 2"#,
            r#"mcp_gateway_request_seconds_bucket{era="modern",le="0.0005"} 0"#,
            r#"mcp_gateway_request_seconds_bucket{era="modern",le="0.001"} 2"#,
            r#"mcp_gateway_request_seconds_bucket{era="modern",le="60"} 2"#,
            r#"mcp_gateway_request_seconds_bucket{era="modern",le="+Inf"} 3"#,
            r#"mcp_gateway_request_seconds_count{era="modern"} 3"#,
            r#"mcp_gateway_sign_in_failures_total{kind="bearer"} 1"#,
            "mcp_gateway_workers 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
