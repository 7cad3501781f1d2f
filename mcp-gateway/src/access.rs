//! The access log: one line per request, written when its answer has been sent. Never a token, a body or a query string.

use std::{sync::Arc, time::Instant};

use hyper::{Method, StatusCode};

use crate::{auth::Principal, metrics::Metrics};

/// How a request to the MCP endpoint was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28 and later.
    Modern,
    /// A session of a version up to 2025-11-25.
    Session,
    /// Neither: a request that stands alone.
    Bare,
}

impl Era {
    const fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Session => "session",
            Self::Bare => "bare",
        }
    }
}

/// The JSON-RPC error code of an answer; an extension of it, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RpcError(pub(crate) i64);

/// What is known of a request so far. It is logged when this is dropped: with the end of the answer's body, or without
/// an answer when the client has gone.
pub(crate) struct Entry {
    started: Instant,
    metrics: Arc<Metrics>,
    method: Method,
    path: &'static str,
    status: Option<StatusCode>,
    error: Option<i64>,
    pub(crate) caller: Option<Principal>,
    pub(crate) era: Option<Era>,
    pub(crate) call: Option<String>,
    pub(crate) tool: Option<String>,
}

impl Entry {
    pub(crate) fn new(metrics: Arc<Metrics>, method: Method, path: &'static str) -> Self {
        let (status, error, caller, era, call, tool) = (None, None, None, None, None, None);
        Self { started: Instant::now(), metrics, method, path, status, error, caller, era, call, tool }
    }

    pub(crate) fn answered(&mut self, status: StatusCode, error: Option<RpcError>) {
        self.status = Some(status);
        self.error = error.map(|error| error.0);
    }

    fn outcome(&self) -> &'static str {
        match (self.status, self.error) {
            (None, _) => "gone",
            (Some(status), _) if status.is_server_error() => "failed",
            (Some(_), Some(_)) => "error",
            (Some(status), None) if status.is_client_error() => "refused",
            (Some(_), None) => "ok",
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if let Some(era) = self.era {
            self.metrics.request(era.name(), self.call.as_deref().unwrap_or_default(), self.outcome(), took);
        }
        let micros = took.as_micros();
        log::info!(
            target: "access",
            "{} {} {} {}{}{} {} {}{}.{} ms",
            self.caller.as_ref().map_or("-", Principal::as_str),
            self.method,
            self.path,
            self.call.as_deref().map_or("-", shown),
            self.tool.as_deref().map_or("", |_| " "),
            self.tool.as_deref().map_or("", shown),
            self.status.map_or_else(|| "gone".to_owned(), |status| status.as_u16().to_string()),
            self.error.map_or_else(String::new, |error| format!("({error}) ")),
            micros / 1000,
            micros / 100 % 10,
        );
    }
}

/// A method's or tool's name as the client gave it; anything else than a name is not shown.
fn shown(name: &str) -> &str {
    let fine = name.len() <= 80 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./$".contains(&byte));
    if fine { name } else { "?" }
}
