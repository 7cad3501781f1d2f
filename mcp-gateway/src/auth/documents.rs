//! Client ID Metadata Documents: a client's id is the https address of a JSON document that describes it. The address
//! comes from anybody, so the fetch is fenced in: https on its own port, public addresses only (checked after the name
//! was looked up, and the connection goes to what was checked), no redirect, no proxy, little time and few bytes, few at
//! once. The only user of ureq.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::sync::Semaphore;
use ureq::{
    Agent,
    config::Config,
    http::Uri,
    tls::{Certificate, RootCerts, TlsConfig},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{meter::Throttle, redirect::RedirectUri};

/// Longer documents are refused.
const LONGEST: u64 = 16 << 10;
/// The longest address of one.
const LONGEST_URL: usize = 512;
/// From looking up the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a document is used again, and how long a failure is.
const FRESH: Duration = Duration::from_secs(3600);
const FAILED: Duration = Duration::from_secs(30);
/// Documents remembered at once.
const MOST: usize = 64;
/// Fetches at the same time; who comes later is told to try again.
const AT_ONCE: usize = 4;

/// What a client says of itself.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) redirects: Vec<RedirectUri>,
}

/// Fetches documents and remembers them.
pub(super) struct Documents {
    fetcher: Arc<Fetcher>,
    known: Mutex<HashMap<String, (Instant, Fetched)>>,
    slots: Semaphore,
    /// So that nobody makes us knock at somebody else's door for ever.
    throttle: Throttle,
}

/// An error is a sentence for the owner.
type Fetched = Result<Arc<Document>, String>;

impl Default for Documents {
    fn default() -> Self {
        let fetcher = Arc::new(Fetcher::new(is_public));
        let (slots, throttle) = (Semaphore::new(AT_ONCE), Throttle::new(20, Duration::from_secs(3)));
        Self { fetcher, known: Mutex::default(), slots, throttle }
    }
}

impl Documents {
    /// The document at this address, which has been checked by [`is_address`].
    pub(super) async fn get(&self, url: &str) -> Fetched {
        if let Some(known) = self.known(url) {
            return known;
        }
        let (Ok(_slot), Ok(())) = (self.slots.try_acquire(), self.throttle.take()) else {
            return Err("Too many apps are being looked up at this moment. Try again in a few seconds.".to_owned());
        };
        let (fetcher, address) = (self.fetcher.clone(), url.to_owned());
        let fetched = tokio::task::spawn_blocking(move || fetcher.fetch(&address).map(Arc::new)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("The app's description could not be fetched.".to_owned()));
        if let Err(why) = &fetched {
            log::info!("the client document of {}: {why}", host(url).unwrap_or_default());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, fetched)| at.elapsed() < lifetime(fetched));
        if known.len() >= MOST
            && let Some(oldest) = known.iter().min_by_key(|(_, (at, _))| *at).map(|(url, _)| url.clone())
        {
            known.remove(&oldest);
        }
        known.insert(url.to_owned(), (Instant::now(), fetched.clone()));
        fetched
    }

    fn known(&self, url: &str) -> Option<Fetched> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(url).filter(|(at, fetched)| at.elapsed() < lifetime(fetched)).map(|(_, fetched)| fetched.clone())
    }
}

fn lifetime(fetched: &Fetched) -> Duration {
    if fetched.is_ok() { FRESH } else { FAILED }
}

/// Whether a client id is the address of a document: https on its own port, a name, and a path without tricks.
pub(super) fn is_address(id: &str) -> bool {
    let Some(host) = host(id) else { return false };
    let path = id.get("https://".len() + host.len()..).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let labels = host.split('.').collect::<Vec<_>>();
    let label = |label: &&str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    id.len() <= LONGEST_URL
        && id.bytes().all(|byte| byte.is_ascii_graphic() && !br#"#"<>\^`{|}"#.contains(&byte))
        && labels.len() > 1
        && labels.iter().all(label)
        // An address is no name, in none of the ways to write one.
        && labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_alphabetic()) || last.starts_with("xn--"))
        && path.len() > 1
        && !path.split('/').any(|segment| matches!(segment.to_ascii_lowercase().as_str(), "." | ".." | "%2e" | "%2e%2e" | ".%2e" | "%2e."))
}

/// The name in such an address.
pub(super) fn host(id: &str) -> Option<&str> {
    id.strip_prefix("https://")?.split(['/', '?', '#']).next()
}

/// Fetches one document.
struct Fetcher {
    allowed: fn(IpAddr) -> bool,
    agent: OnceLock<Agent>,
}

impl Fetcher {
    fn new(allowed: fn(IpAddr) -> bool) -> Self {
        Self { allowed, agent: OnceLock::new() }
    }

    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs().certs;
            agent(self.allowed, found.iter().map(|root| Certificate::from_der(root).to_owned()).collect())
        })
    }

    fn fetch(&self, url: &str) -> Result<Document, String> {
        let mut answer = self.agent().get(url).call().map_err(|error| explain(&error))?;
        if answer.status() != 200 {
            let status = answer.status().as_u16();
            return Err(format!(
                "The app's description is not there: its server answered {status}, and 200 is needed."
            ));
        }
        let body = answer.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(|error| explain(&error))?;
        Document::read(url, &body)
    }
}

fn agent(allowed: fn(IpAddr) -> bool, roots: Vec<Certificate<'static>>) -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(provider);
    let config = Config::builder()
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(PATIENCE))
        .max_response_header_size(LONGEST as usize)
        .max_idle_connections(0)
        .user_agent(concat!("mcp-gateway/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .tls_config(tls.build());
    Agent::with_parts(config.build(), DefaultConnector::default(), Checked(allowed))
}

/// Looks names up and lets only allowed addresses through. The connection is made to what comes out of here.
#[derive(Debug)]
struct Checked(fn(IpAddr) -> bool);

impl Resolver for Checked {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        // One that is not public is reason enough: an honest name has none.
        if found.iter().all(|address| (self.0)(address.ip())) {
            Ok(found)
        } else {
            Err(ureq::Error::Other(Box::new(NotPublic)))
        }
    }
}

#[derive(Debug)]
struct NotPublic;

impl std::fmt::Display for NotPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name leads to an address that is not public")
    }
}

impl std::error::Error for NotPublic {}

fn explain(error: &ureq::Error) -> String {
    let why = match error {
        ureq::Error::Other(error) if error.is::<NotPublic>() => "its name leads to an address that is not public",
        ureq::Error::Timeout(_) => "it did not come within 5 seconds",
        ureq::Error::HostNotFound => "its name is not known",
        ureq::Error::BodyExceedsLimit(_) => "it is too long",
        ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.to_string().contains("limit")) => {
            "it is too long"
        }
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => {
            "its server cannot be reached, or its certificate is not valid"
        }
        _ => "its server's answer cannot be used",
    };
    format!("The app's description could not be fetched: {why}.")
}

impl Document {
    fn read(url: &str, body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fields {
            client_id: String,
            client_name: String,
            redirect_uris: Vec<String>,
            token_endpoint_auth_method: Option<String>,
        }
        let wrong = |what: &str| format!("The app's description cannot be used: {what}.");
        let fields: Fields = serde_json::from_slice(body)
            .map_err(|_| wrong("it must be JSON with client_id, client_name and redirect_uris"))?;
        if fields.client_id != url {
            return Err(wrong("its client_id is not the address that it was fetched from"));
        }
        if !matches!(fields.token_endpoint_auth_method.as_deref(), None | Some("none")) {
            return Err(wrong("its token_endpoint_auth_method must be none"));
        }
        // Those that we would not go to (an app's own scheme) are no reason to refuse the others.
        let redirects = fields.redirect_uris.into_iter().take(32).filter_map(|uri| uri.try_into().ok()).collect();
        Ok(Self { name: super::clients::shown(&fields.client_name), redirects })
    }
}

/// Whether an address is one of the public internet's.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Without what the special-purpose registry of IANA keeps from the public.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

/// The same: of global unicast only what carries no address of version 4 inside and is nobody's example.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    (0x2000..0x4000).contains(&a)
        && a != 0x2002
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn an_address_of_a_document() {
        for id in [
            "https://claude.ai/oauth/claude-code-client-metadata",
            "https://a.example/x?y",
            "https://xn--bcher-kva.example/x",
        ] {
            assert!(is_address(id), "{id}");
        }
        for id in [
            "http://a.example/x",
            "https://a.example",
            "https://a.example/",
            "https://a.example/x#y",
            "https://a.example:8443/x",
            "https://user@a.example/x",
            "https://a.example@127.0.0.1/x",
            "https://localhost/x",
            "https://127.0.0.1/x",
            "https://127.1/x",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://[::1]/x",
            "https://a.example/../x",
            "https://a.example/%2E%2e/x",
            "https://a..example/x",
            "https://a.example/x y",
            "HTTPS://a.example/x",
            "claude",
        ] {
            assert!(!is_address(id), "{id}");
        }
    }

    #[test]
    fn only_public_addresses() {
        for text in ["1.1.1.1", "160.79.104.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    /// Answers on loopback over TLS with this head and then this body as often as asked.
    fn serve(head: String, body: Vec<u8>, repeats: usize) -> (u16, Certificate<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let root = Certificate::from_der(signed.der()).to_owned();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![signed.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tls = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut stream = BufReader::new(rustls::StreamOwned::new(tls, stream));
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let out = stream.get_mut();
                let mut sent = out.write_all(head.as_bytes());
                for _ in 0..repeats {
                    sent = sent.and_then(|()| out.write_all(&body));
                }
                out.conn.send_close_notify();
                let _ = sent.and_then(|()| out.flush());
            }
        });
        (port, root)
    }

    fn fetcher(allowed: fn(IpAddr) -> bool, root: Certificate<'static>) -> Fetcher {
        let fetcher = Fetcher::new(allowed);
        fetcher.agent.set(agent(allowed, vec![root])).unwrap();
        fetcher
    }

    fn ok(length: impl std::fmt::Display) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
    }

    #[test]
    fn a_document_is_fetched_and_read() {
        // The address holds the port, which is known only when the server runs: so the id is a placeholder of its length.
        let (port, root) = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(), Vec::new(), 0);
        let url = format!("https://localhost:{port}/client");
        assert!(fetcher(|_| true, root).fetch(&url).unwrap_err().contains("must be JSON"));
        let body = format!(
            r#"{{"client_id":"{url}","client_name":" A\u202eb ","redirect_uris":["http://localhost/callback","app://x"],"extra":1}}"#
        );
        let document = Document::read(&url, body.as_bytes()).unwrap();
        assert_eq!((document.name.as_str(), document.redirects.len()), ("Ab", 1));
        for (what, body) in [
            ("client_id", body.replace("/client\"", "/other\"")),
            (
                "token_endpoint_auth_method",
                body.replace("\"extra\":1", "\"token_endpoint_auth_method\":\"client_secret_post\""),
            ),
            ("JSON", body.replace("client_name", "name")),
        ] {
            assert!(Document::read(&url, body.as_bytes()).unwrap_err().contains(what), "{what}");
        }
    }

    #[test]
    fn a_server_that_is_not_public_is_not_spoken_to() {
        let (port, root) = serve(ok(2), b"{}".to_vec(), 1);
        let error = fetcher(is_public, root).fetch(&format!("https://localhost:{port}/x")).unwrap_err();
        assert!(error.contains("not public"), "{error}");
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let (target, root) = serve(ok(2), b"{}".to_vec(), 1);
        drop(root);
        let (port, root) = serve(
            format!("HTTP/1.1 302 Found\r\nLocation: https://localhost:{target}/\r\nContent-Length: 0\r\n\r\n"),
            Vec::new(),
            0,
        );
        let error = fetcher(|_| true, root).fetch(&format!("https://localhost:{port}/x")).unwrap_err();
        assert!(error.contains("302"), "{error}");
    }

    #[test]
    fn a_gigabyte_is_left_where_it_is() {
        let piece = vec![b' '; 1 << 20];
        for head in [ok(1u64 << 30), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned()] {
            let (port, root) = serve(head, piece.clone(), 1024);
            let error = fetcher(|_| true, root).fetch(&format!("https://localhost:{port}/x")).unwrap_err();
            assert!(error.contains("too long"), "{error}");
        }
    }

    #[test]
    fn an_unknown_certificate_is_not_believed() {
        let (_, other) = serve(ok(2), b"{}".to_vec(), 1);
        let (port, _) = serve(ok(2), b"{}".to_vec(), 1);
        let error = fetcher(|_| true, other).fetch(&format!("https://localhost:{port}/x")).unwrap_err();
        assert!(error.contains("certificate"), "{error}");
    }

    #[tokio::test]
    async fn what_was_fetched_is_remembered_within_bounds() {
        let documents = Documents::default();
        let document = || Ok(Arc::new(Document { name: "x".to_owned(), redirects: Vec::new() }));
        for number in 0..MOST {
            documents.known.lock().unwrap().insert(format!("https://a.example/{number}"), (Instant::now(), document()));
        }
        assert_eq!(documents.get("https://a.example/7").await.unwrap().name, "x");
        // Not a name that can be looked up: it fails, and is remembered as such.
        assert!(documents.get("https://nowhere.invalid/x").await.is_err());
        assert!(documents.known("https://nowhere.invalid/x").unwrap().is_err());
        assert_eq!(documents.known.lock().unwrap().len(), MOST);
    }
}
