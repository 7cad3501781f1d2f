//! What the era of 2026-07-28 demands of a request: headers that agree with the body, and `_meta`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{HeaderMap, StatusCode};
use shared::jsonrpc;

use super::stream;
use crate::{
    body::{Refused, Reply},
    message::Request,
    pool::{Eras, MODERN},
};

/// A header that is missing or differs from the body.
const HEADER_MISMATCH: i32 = -32_020;
const UNSUPPORTED_VERSION: i32 = -32_022;
/// Methods that this era no longer has.
const REMOVED: [&str; 5] = ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

pub(super) const VERSION_HEADER: &str = "mcp-protocol-version";

/// Whether the version of a header is of this era.
pub(super) fn is_modern(version: &str) -> bool {
    // Versions are dates.
    version >= MODERN && version.len() == MODERN.len() && version.starts_with(|c: char| c.is_ascii_digit())
}

/// The answer that refuses a request of this era, in the order that the specification's own tests expect.
pub(super) fn refuse(request: &Request<'_>, headers: &HeaderMap, eras: &Eras) -> Result<(), Refused> {
    let refuse = |status, code, text: &str| Err(stream::refusal(status, Some(&request.id), code, text).into());
    let mismatch = |text: &str| refuse(StatusCode::BAD_REQUEST, HEADER_MISMATCH, text);
    let version = request.version();
    if eras.modern.is_none() {
        let text = "This server speaks MCP up to 2025-11-25. Start with `initialize`.";
        return refuse(StatusCode::BAD_REQUEST, jsonrpc::INVALID_REQUEST, text);
    }
    if let Some(version) = &version {
        match text(headers, VERSION_HEADER) {
            Some(header) if *header == **version => {}
            Some(_) => return mismatch("Header mismatch: MCP-Protocol-Version differs from the version in `_meta`"),
            None => return mismatch("Header mismatch: MCP-Protocol-Version is missing"),
        }
    }
    match text(headers, "mcp-method") {
        Some(method) if *method == *request.method => {}
        Some(_) => return mismatch("Header mismatch: Mcp-Method differs from `method`"),
        None => return mismatch("Header mismatch: Mcp-Method is missing"),
    }
    let named = match &*request.method {
        "tools/call" | "prompts/get" => request.params.text("name"),
        "resources/read" => request.params.text("uri"),
        _ => None,
    };
    if let Some(name) = named {
        match text(headers, "mcp-name").and_then(decoded) {
            Some(header) if *header == *name => {}
            Some(_) => return mismatch("Header mismatch: Mcp-Name differs from the body"),
            None => return mismatch("Header mismatch: Mcp-Name is missing or malformed"),
        }
    }
    if version.is_none() || !request.has_capabilities() {
        let text = "Invalid params: `_meta` needs io.modelcontextprotocol/protocolVersion and \
                    io.modelcontextprotocol/clientCapabilities";
        return refuse(StatusCode::BAD_REQUEST, jsonrpc::INVALID_PARAMS, text);
    }
    let supported = eras.modern.as_deref().unwrap_or_default();
    if let Some(version) = &version
        && !supported.iter().any(|known| known == version)
    {
        return Err(unsupported(request, version, eras).into());
    }
    if REMOVED.contains(&&*request.method) {
        let text = format!("Method not found: {}", request.method);
        return refuse(StatusCode::NOT_FOUND, jsonrpc::METHOD_NOT_FOUND, &text);
    }
    Ok(())
}

/// The refusal of a version, with those that are supported.
pub(super) fn unsupported(request: &Request<'_>, requested: &str, eras: &Eras) -> Reply {
    let supported = eras.modern.as_deref().unwrap_or_default();
    let error = serde_json::json!({
        "code": UNSUPPORTED_VERSION,
        "message": "Unsupported protocol version",
        "data": {"supported": supported, "requested": requested},
    });
    let line = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, request.id);
    stream::refusal_line(StatusCode::BAD_REQUEST, UNSUPPORTED_VERSION, line.into_bytes())
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `=?base64?…?=` stands for what a header cannot hold.
fn decoded(header: &str) -> Option<String> {
    match header.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
        None => Some(header.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_encoded() {
        assert_eq!(decoded("plain").as_deref(), Some("plain"));
        assert_eq!(decoded("=?base64?w6k=?=").as_deref(), Some("é"));
        assert_eq!(decoded("=?base64?!?="), None);
        assert_eq!(decoded("=?BASE64?w6k=?=").as_deref(), Some("=?BASE64?w6k=?="));
    }

    #[test]
    fn versions_are_dates() {
        assert!(is_modern("2026-07-28") && is_modern("2027-01-01") && is_modern("9999-01-01"));
        assert!(!is_modern("2025-11-25") && !is_modern("") && !is_modern("latest") && !is_modern("2026-07-28x"));
    }
}
