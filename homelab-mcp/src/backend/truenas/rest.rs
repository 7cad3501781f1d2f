//! REST v2.0: all that CORE 13 and SCALE up to 24.10 have. Newer releases raise an alert when it is used, and 26 has
//! none, so it is asked only where `/api/versions` is no list.

use serde_json::Value;
use shared::Secret;

use super::refusal::{Refusal, denied};
use crate::{
    error::{Fault, Kind},
    http::{Request, Response, text::vendor_text},
};

/// The path of the API.
const ROOT: &str = "/api/v2.0";

/// A GET; `path` begins with a slash.
pub(super) fn get(path: &str, key: &Secret) -> Request {
    signed(Request::get(format!("{ROOT}{path}")), key)
}

/// A POST with a JSON body.
pub(super) fn post(path: &str, key: &Secret, body: &Value) -> Request {
    signed(Request::post(format!("{ROOT}{path}")), key).json(body)
}

fn signed(request: Request, key: &Secret) -> Request {
    request.secret_header("authorization", Secret::new(format!("Bearer {}", key.expose())))
}

/// Why a REST call has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The appliance refused the call.
    Refused(Refusal),
    /// Something else.
    Fault(Fault),
}

/// What came, for a call that JSON-RPC knows as `method`.
pub(super) fn result(response: &Response, method: &str) -> Result<Value, Failure> {
    let place = &response.member;
    let fault = |kind, cause: String, hint: &str| Err(Failure::Fault(Fault::new(kind, cause).hint(hint)));
    match response.status {
        200..=299 => response.json().map_err(Failure::Fault),
        300..=399 => {
            let to = vendor_text(response.location.as_deref().unwrap_or("nowhere"));
            let cause = format!("{place} redirects to {to}");
            fault(Kind::Malformed, cause, "The key was not sent there. Set TRUENAS_HOST to the appliance itself.")
        }
        401 => fault(
            Kind::Forbidden,
            "TrueNAS refused the API key (401)".to_owned(),
            "It is wrong, expired or revoked: check TRUENAS_API_KEY in TrueNAS under API Keys.",
        ),
        403 if response.body.is_empty() => Err(Failure::Fault(denied(method))),
        403 => fault(
            Kind::Forbidden,
            format!("TrueNAS refused the call (403): {}", Refusal::from_rest(response).message()),
            "This machine's address may not be allowed: System > General > Allowed IP Addresses.",
        ),
        // Of a path that exists it is JSON.
        404 if serde_json::from_slice::<Value>(&response.body).is_err() => fault(
            Kind::Malformed,
            format!("{place} has neither of TrueNAS's APIs (404)"),
            "Check TRUENAS_HOST: it must be the address of TrueNAS's own web interface.",
        ),
        404 => Err(Failure::Fault(Fault::new(Kind::NotFound, "TrueNAS has no such object"))),
        // What an unknown key's number makes of it.
        500 if !response.body.starts_with(b"{") => fault(
            Kind::Upstream,
            format!("TrueNAS failed (500): {}", Refusal::from_rest(response).message()),
            "It answers so to a key that it does not know: check TRUENAS_API_KEY.",
        ),
        502..=504 => fault(
            Kind::Unreachable,
            format!("{place} answered {}: its middleware does not run", response.status),
            "TrueNAS may be starting: try again in a minute.",
        ),
        _ => Err(Failure::Refused(Refusal::from_rest(response))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(status: u16, body: &str) -> Result<Value, Fault> {
        let response = Response {
            status,
            reason: String::new(),
            content_type: String::new(),
            location: Some("https://else.lan/ui/".to_owned()),
            body: body.as_bytes().to_vec(),
            member: "nas:443".to_owned(),
        };
        result(&response, "zfs.snapshot.create").map_err(|failure| match failure {
            Failure::Refused(refusal) => refusal.fault("zfs.snapshot.create"),
            Failure::Fault(fault) => fault,
        })
    }

    #[test]
    fn each_status_has_its_own_words() {
        assert_eq!(came(200, "[]").unwrap(), serde_json::json!([]));
        for (status, body, kind, words) in [
            (200, "<html>login</html>", Kind::Malformed, "not JSON"),
            (302, "", Kind::Malformed, "else.lan"),
            (401, "Invalid API key", Kind::Forbidden, "TRUENAS_API_KEY"),
            (403, "", Kind::Forbidden, "SNAPSHOT_WRITE"),
            (403, "You are not allowed to access this resource", Kind::Forbidden, "Allowed IP"),
            (404, "404: Not Found", Kind::Malformed, "TRUENAS_HOST"),
            (404, "{\"message\": \"\"}", Kind::NotFound, "no such object"),
            (422, r#"{"message": "cannot create: dataset already exists", "errno": 17}"#, Kind::Conflict, "already"),
            (422, r#"{"snapshot_create.name": [{"message": "Invalid", "errno": 22}]}"#, Kind::Invalid, "name: Invalid"),
            (500, "500 Internal Server Error\n\nServer got itself in trouble", Kind::Upstream, "TRUENAS_API_KEY"),
            (500, r#"{"message": "boom", "traceback": "key hush"}"#, Kind::Upstream, "boom"),
            (502, "<html>Bad Gateway</html>", Kind::Unreachable, "starting"),
        ] {
            let fault = came(status, body).unwrap_err();
            let text = fault.with_advice();
            assert!(fault.kind == kind && text.contains(words) && !text.contains("hush"), "{status}: {fault:?}");
        }
    }
}
