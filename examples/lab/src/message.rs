//! What goes over a connection: requests as they came, replies as they are to be sent.

use serde_json::Value;
use std::time::Duration;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// Raw request target: path and query, not decoded.
    pub target: String,
    /// Names as sent; [`Request::header`] looks up without case.
    pub headers: Vec<(String, String)>,
    /// Without its chunks, if it came in chunks; empty where [`reads_chunks`](crate::Appliance::reads_chunks) says no.
    pub body: Vec<u8>,
    /// Serial number of the connection, from 1.
    pub connection: u64,
    /// Which request on the connection, from 1.
    pub nth: usize,
}

impl Request {
    /// The target up to the question mark, not decoded.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// What follows the question mark, not decoded; empty without one.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// What is sent back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Any number; vendors leave the registered range.
    pub status: u16,
    /// Reason phrase, raw bytes; `None`: the usual one.
    pub reason: Option<Vec<u8>>,
    /// Sent as they are, in this order (several of one name allowed). A closing reply that names no `Connection`
    /// gets one.
    pub headers: Vec<(String, String)>,
    /// Sent as it is.
    pub body: Vec<u8>,
    /// `false`: no Content-Length, the end of the connection ends the body.
    pub length: bool,
    /// Close the connection afterwards.
    pub close: bool,
    /// Wait before answering.
    pub delay: Duration,
}

impl Reply {
    /// `application/json`.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    /// Any content type.
    pub fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut reply = Self::empty(status).header("Content-Type", content_type);
        reply.body = body.into();
        reply
    }

    /// `Content-Length: 0` and nothing else.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            reason: None,
            headers: Vec::new(),
            body: Vec::new(),
            length: true,
            close: false,
            delay: Duration::ZERO,
        }
    }

    /// With this reason phrase.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Vec<u8>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Closing the connection.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// This much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn bytes(&self, closing: bool, with_body: bool) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} ", self.status).into_bytes();
        bytes.extend_from_slice(self.reason.as_deref().unwrap_or_else(|| usual_reason(self.status).as_bytes()));
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let named = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if closing && !named("Connection") {
            bytes.extend_from_slice(b"Connection: close\r\n");
        }
        if self.length && !named("Content-Length") && self.status >= 200 && self.status != 204 {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        if with_body {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

pub(crate) fn usual_reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Payload Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
