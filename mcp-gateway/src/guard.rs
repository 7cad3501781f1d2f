//! Who may talk to us at all, before anybody signs in: the `Host` that was asked for (against DNS rebinding), the `Origin`
//! of a web page, and the answers that browsers need (CORS). Also whose word on the caller's address counts.

use std::{
    net::IpAddr,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use crate::{
    body::{self, Refused, Reply},
    config::{Config, Origin, host_of, is_loopback},
};

/// What a browser may send and read; `Mcp-Param-*` comes on top.
const ALLOWED_HEADERS: &str = "authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, \
                               mcp-session-id, last-event-id";
const EXPOSED_HEADERS: &str = "mcp-session-id, mcp-protocol-version, www-authenticate, retry-after";

/// The rules.
pub(crate) struct Guard {
    origins: Vec<Origin>,
    hosts: Vec<String>,
    proxies: Vec<Network>,
    warned: AtomicBool,
}

impl Guard {
    pub(crate) fn new(config: &Config, public: &Origin) -> Self {
        let mut origins = config.origins.clone();
        origins.push(public.clone());
        let mut hosts = config.hosts.clone();
        hosts.push(public.host().to_owned());
        Self { origins, hosts, proxies: config.proxies.clone(), warned: AtomicBool::new(false) }
    }

    /// A refusal, if the request must not go further; else the origin that the answer must name.
    pub(crate) fn check(&self, authority: Option<&str>, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refused> {
        let host = headers.get(header::HOST).map(HeaderValue::to_str);
        let host = match (host, authority) {
            // An absolute request target wins over the header.
            (_, Some(authority)) => authority,
            (Some(Ok(host)), None) => host,
            (Some(Err(_)), None) => {
                return Err(body::problem(StatusCode::BAD_REQUEST, "bad_request", "Bad Host header.").into());
            }
            // HTTP/1.0; nothing that a browser sends.
            (None, None) => "",
        };
        let host = host_of(host).to_ascii_lowercase();
        if !(host.is_empty() || is_loopback(&host) || self.hosts.contains(&host)) {
            return Err(body::problem(
                StatusCode::FORBIDDEN,
                "forbidden_host",
                "This server does not answer to that Host name. Its operator can allow it with PUBLIC_URL or ALLOWED_HOSTS.",
            )
            .into());
        }
        let Some(value) = headers.get(header::ORIGIN) else { return Ok(None) };
        let origin = value.to_str().ok().and_then(|text| Origin::of_a_page(text).ok());
        let allowed = origin.is_some_and(|origin| {
            // A page of this machine may call a gateway on this machine: inspectors do.
            self.origins.contains(&origin) || (is_loopback(origin.host()) && is_loopback(&host))
        });
        if !allowed {
            return Err(body::problem(
                StatusCode::FORBIDDEN,
                "forbidden_origin",
                "Web pages of that Origin may not call this server. Its operator can allow it with ALLOWED_ORIGINS.",
            )
            .into());
        }
        Ok(Some(value.clone()))
    }

    /// The caller's address: of the connection, or what trusted proxies say of it.
    pub(crate) fn source(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        let mut forwarded = headers.get_all(FORWARDED_FOR).iter().peekable();
        if forwarded.peek().is_none() {
            return peer;
        }
        if !self.trusts(peer) {
            if !self.warned.swap(true, Ordering::Relaxed) {
                log::warn!(
                    "X-Forwarded-For from {peer} is not believed. If that is your reverse proxy, put it into TRUSTED_PROXIES."
                );
            }
            return peer;
        }
        let mut source = peer;
        let hops: Vec<_> =
            forwarded.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
        for hop in hops.iter().rev() {
            // What stands left of something unreadable may have been made up.
            let Some(address) = address(hop.trim()) else { break };
            source = address.to_canonical();
            if !self.trusts(source) {
                break;
            }
        }
        source
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

fn address(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// The answer to a preflight request from an allowed origin.
pub(crate) fn preflight(headers: &HeaderMap) -> Reply {
    let mut allowed = ALLOWED_HEADERS.to_owned();
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok());
    for name in asked.unwrap_or_default().split(',').map(str::trim) {
        if name.len() < 64 && name.to_ascii_lowercase().starts_with("mcp-param-") && HeaderName::from_str(name).is_ok()
        {
            allowed += ", ";
            allowed += name;
        }
    }
    let mut reply = body::empty(StatusCode::NO_CONTENT);
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    reply
}

/// Whether this is a preflight request.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Lets a page of this origin read the answer.
pub(crate) fn allow(reply: &mut Reply, origin: HeaderValue) {
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
}

/// An address, or all addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        fn same(one: u128, other: u128, bits: u8, width: u8) -> bool {
            let shift = u32::from(width - bits);
            one.checked_shr(shift) == other.checked_shr(shift)
        }
        match (self.address, other) {
            (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), self.bits, 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), self.bits, 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address or network such as 127.0.0.1 or 172.16.0.0/12");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
        if bits > width { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

#[cfg(test)]
mod tests {
    use shared::vars::Vars;

    use super::*;

    fn guard(pairs: &[(&str, &str)]) -> Guard {
        let pairs = [&[("API_KEY", "k"), ("PUBLIC_URL", "https://mcp.example.com")], pairs].concat();
        let config = Config::read(Vars::from_pairs(pairs)).1.unwrap();
        Guard::new(&config, config.public_url.as_ref().unwrap())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn hosts_and_origins() {
        let guard = guard(&[("ALLOWED_HOSTS", "nas.lan"), ("ALLOWED_ORIGINS", "https://page.example")]);
        for (host, origin, allowed) in [
            ("mcp.example.com", None, true),
            ("MCP.example.com:8443", None, true),
            ("nas.lan:3005", None, true),
            ("127.0.0.1:1", None, true),
            ("[::1]:3005", None, true),
            ("localhost", Some("http://localhost:6274"), true),
            ("evil.example", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("mcp.example.com", Some("https://page.example"), true),
            ("mcp.example.com", Some("https://mcp.example.com"), true),
            ("mcp.example.com", Some("https://claude.ai"), false),
            ("mcp.example.com", Some("http://page.example"), false),
            ("mcp.example.com", Some("http://localhost:6274"), false),
            ("mcp.example.com", Some("null"), false),
            ("localhost", Some("https://evil.example"), false),
        ] {
            let mut map = headers(&[("host", host)]);
            if let Some(origin) = origin {
                map.insert("origin", origin.parse().unwrap());
            }
            assert_eq!(guard.check(None, &map).is_ok(), allowed, "{host} {origin:?}");
        }
        assert!(guard.check(Some("evil.example"), &headers(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn an_address_from_elsewhere_is_not_believed() {
        let from = |trusted, peer: &str, forwarded: &[&str]| {
            let mut map = HeaderMap::new();
            for value in forwarded {
                map.append("x-forwarded-for", value.parse().unwrap());
            }
            guard(&[("TRUSTED_PROXIES", trusted)]).source(peer.parse().unwrap(), &map).to_string()
        };
        assert_eq!(from("", "9.9.9.9", &["1.1.1.1"]), "9.9.9.9");
        assert_eq!(from("9.9.9.9", "9.9.9.9", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(from("9.9.9.9", "::ffff:9.9.9.9", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(from("9.0.0.0/8", "9.9.9.9", &["6.6.6.6, 1.1.1.1", "9.1.1.1"]), "1.1.1.1");
        assert_eq!(from("9.0.0.0/8", "9.9.9.9", &["6.6.6.6, made up, 9.1.1.1"]), "9.1.1.1");
        assert_eq!(from("fd00::/8", "fd00::2", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(from("0.0.0.0/0", "9.9.9.9", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(from("9.9.9.9", "9.9.9.9", &[]), "9.9.9.9");
    }

    #[test]
    fn networks() {
        for text in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
