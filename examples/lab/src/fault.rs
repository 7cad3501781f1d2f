//! Faults on request: what goes wrong between a healthy appliance and its client.

use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is processed at once, the answer comes this late.
    Slow(Duration),
    /// Not processed, no answer, until the client goes away or the server stops.
    Hang,
    /// Closed without a byte; not processed.
    CutBefore,
    /// Processed, then closed without a byte.
    CutAfter,
    /// Processed, then closed in the middle of the answer.
    CutMiddle,
    /// Not processed, answered with bytes that are no HTTP.
    Garbage,
    /// Not processed, `200` with text that is no JSON.
    NotJson,
    /// Not processed, a reverse proxy's HTML page with this status.
    HtmlError(u16),
    /// Not processed, this status the way the vendor would send it.
    Status(u16),
    /// Not processed, `200` with a JSON body of about this many bytes.
    Huge(usize),
    /// Processed, JSON cut in the middle under a Content-Length that fits.
    Truncated,
    /// Open WebSockets on the path are closed at once without a close frame; with none open, the next is cut.
    DropSocket,
    /// A reused connection is closed when its next request arrives; not processed. A fresh one is let through.
    StaleKeepAlive,
}

/// When a [`Fault`] happens: newest rule first, one fault per request.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Any method when `None`.
    pub method: Option<String>,
    /// Path without query: a prefix, or a pattern of the whole path when it holds a `*` (any text).
    pub path: String,
    /// How often; for ever when `None`.
    pub times: Option<usize>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Any method, for ever.
    pub fn new(path: impl Into<String>, fault: Fault) -> Self {
        Self { method: None, path: path.into(), times: None, fault }
    }

    /// Only this method.
    #[must_use]
    pub fn method(self, method: impl Into<String>) -> Self {
        Self { method: Some(method.into()), ..self }
    }

    /// Only the next `times` requests.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times: Some(times), ..self }
    }

    pub(crate) fn matches(&self, method: &str, path: &str, reused: bool) -> bool {
        self.times != Some(0)
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && (reused || self.fault != Fault::StaleKeepAlive)
            && self.matches_path(path)
    }

    pub(crate) fn matches_path(&self, path: &str) -> bool {
        let mut parts = self.path.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = path.strip_prefix(first) else { return false };
        let mut last = None;
        for part in parts {
            last = Some(part);
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        // The text after the last `*` has to end the path, and may have been found too early.
        last.is_none_or(|part| part.is_empty() || rest.is_empty() || rest.ends_with(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_prefix_or_a_pattern() {
        let table = [
            ("/api2", "/api2/json/version", true),
            ("/api2", "/api", false),
            ("", "/anything", true),
            ("*", "/anything", true),
            ("/nodes/*/status", "/nodes/pve1/status", true),
            ("/nodes/*/status", "/nodes/pve1/status/status", true),
            ("/nodes/*/status", "/nodes/pve1/status/current", false),
            ("/nodes/*/qemu/*/status/*", "/nodes/pve1/qemu/100/status/start", true),
            ("/nodes/*/qemu/*/status/*", "/nodes/pve1/lxc/100/status/start", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(Rule::new(pattern, Fault::Hang).matches("GET", path, false), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_rule_can_name_a_method_and_spares_fresh_connections_from_staleness() {
        let rule = Rule::new("/", Fault::Hang).method("POST");
        assert!(rule.matches("POST", "/x", false));
        assert!(!rule.matches("GET", "/x", false));
        let stale = Rule::new("/", Fault::StaleKeepAlive);
        assert!(!stale.matches("GET", "/x", false));
        assert!(stale.matches("GET", "/x", true));
    }
}
