//! What the web server decides before any of OPNsense's own code runs, and the pages it answers with.

use crate::{Reply, Request};

/// Methods the web server lets through. Case matters: `get` is another method.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"];
/// More header bytes than this is 431.
const HEADER_LIMIT: usize = 16 * 1024;

/// The web server's own refusal, if the request does not get past it.
pub(super) fn refuse(request: &Request) -> Option<Reply> {
    let size: usize = request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if size + request.target.len() > HEADER_LIMIT {
        return Some(page(431, "Request Header Fields Too Large"));
    }
    if !METHODS.contains(&request.method.as_str()) {
        return Some(page(501, "Not Implemented"));
    }
    let hosts = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count();
    if hosts != 1 || encodes_control_character(&request.target) {
        return Some(page(400, "Bad Request"));
    }
    let chunked = request.header("transfer-encoding").is_some();
    let length = request.header("content-length");
    match request.method.as_str() {
        "GET" | "HEAD" if chunked || !request.body.is_empty() => Some(page(400, "Bad Request")),
        "POST" if length.is_none() && !chunked => Some(page(411, "Length Required")),
        _ => None,
    }
}

/// `%00` to `%1f` and `%7f`, anywhere in the target.
fn encodes_control_character(target: &str) -> bool {
    target.as_bytes().windows(3).any(|w| {
        w[0] == b'%' && (matches!(w[1], b'0' | b'1') && w[2].is_ascii_hexdigit() || w[1] == b'7' && w[2] | 0x20 == b'f')
    })
}

/// The web server's error page: HTML, no session, and the connection is closed.
pub(super) fn page(status: u16, words: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 \
         Transitional//EN\"\n         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html \
         xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n  <title>{status} \
         {words}</title>\n </head>\n <body>\n  <h1>{status} {words}</h1>\n </body>\n</html>\n"
    );
    Reply::text(status, "text/html", body).reason(words).header("Server", "OPNsense").closing()
}

/// The login form, all that is on `/` for somebody without a session.
pub(super) fn login() -> Reply {
    let body = "<!doctype html>\n<html lang=\"en-US\" class=\"no-js\">\n  <head>\n    <title>Login | OPNsense</title>\n  \
                </head>\n  <body class=\"page-login\">\n    <form method=\"post\" action=\"/\"></form>\n  </body>\n</html>\n";
    Reply::text(200, "text/html; charset=UTF-8", body)
        .header("X-Frame-Options", "SAMEORIGIN")
        .header("X-Content-Type-Options", "nosniff")
}

/// Nothing runs behind the web server.
pub(super) fn unavailable() -> Reply {
    page(503, "Service Unavailable")
}
