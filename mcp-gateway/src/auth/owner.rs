//! The owner's side of signing in: the password, what was allowed with it, and the page that lists and ends it.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};
use shared::Level;

use super::{
    Auth,
    clients::{Apps, Kind},
    codes::{Codes, parameters},
    grants::Grants,
    meter::Throttle,
    password::{Attempt, Device, Password},
    token::{TokenKey, now},
};
use crate::{
    body::{self, Reply},
    config::{self, Client, Origin},
    metrics::Metrics,
    pages,
};

/// How long the owner stays signed in without doing anything.
const SESSION: Duration = Duration::from_secs(15 * 60);
/// Browsers that are signed in at once; the one that was quiet for longest goes.
const MOST: usize = 16;
const WHERE: &str = "/connections";

/// Everything that exists only where the owner has a password here.
pub(super) struct Owner {
    /// What may be allowed at most.
    pub(super) ceiling: Level,
    pub(super) password: Password,
    pub(super) apps: Apps,
    pub(super) codes: Codes,
    pub(super) grants: Grants,
    pub(super) registrations: Throttle,
    /// Whether the browser comes by https.
    secure: bool,
    sessions: Mutex<HashMap<String, Instant>>,
}

impl Owner {
    pub(super) fn new(
        given: config::Owner,
        ceiling: Level,
        client: Option<&Client>,
        issuer: &Origin,
        state_dir: Option<&Path>,
        key: &TokenKey,
    ) -> Self {
        let password = Password::new(given.password);
        let grants = Grants::open(state_dir, key.clone(), given.refresh_ttl.as_secs(), |grant| {
            let kind =
                if client.is_some_and(|client| client.id == grant.app) { Kind::Configured } else { Kind::Described };
            grant.fingerprint == fingerprint(key, &password, kind, client)
        });
        Self {
            ceiling,
            password,
            apps: Apps::new(&given.redirects, given.registration),
            codes: Codes::default(),
            grants,
            registrations: Throttle::new(20, Duration::from_secs(10)),
            secure: issuer.as_str().starts_with("https:"),
            sessions: Mutex::default(),
        }
    }

    /// Of what a connection is allowed with: when it changes, the connection ends.
    pub(super) fn fingerprint(&self, key: &TokenKey, kind: Kind, client: Option<&Client>) -> String {
        fingerprint(key, &self.password, kind, client)
    }

    /// The browser, if the owner has signed in from it before.
    pub(super) fn device(&self, key: &TokenKey, headers: &HeaderMap) -> Option<Device> {
        key.open("device", &cookie(headers, self.device_cookie())?).filter(Device::is_current)
    }

    /// Lets the browser be recognised from now on.
    pub(super) fn remember(&self, key: &TokenKey, reply: &mut Reply) {
        let device = key.seal("device", &Device::new());
        self.set_cookie(reply, self.device_cookie(), &device, Duration::from_secs(365 * 86_400));
    }

    const fn device_cookie(&self) -> &'static str {
        if self.secure { "__Host-homelab-device" } else { "homelab-device" }
    }

    const fn session_cookie(&self) -> &'static str {
        if self.secure { "__Host-homelab-owner" } else { "homelab-owner" }
    }

    fn set_cookie(&self, reply: &mut Reply, name: &str, value: &str, lasts: Duration) {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lasts.as_secs());
        if let Ok(text) = HeaderValue::from_str(&text) {
            reply.headers_mut().append(header::SET_COOKIE, text);
        }
    }

    fn begin_session(&self) -> String {
        let session = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        sessions.retain(|_, until| *until > now);
        if sessions.len() >= MOST
            && let Some(oldest) = sessions.iter().min_by_key(|(_, until)| **until).map(|(session, _)| session.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(session.clone(), now + SESSION);
        session
    }

    fn end_session(&self, session: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
    }

    /// The session of the request: `Err` if it names one that is over.
    fn session(&self, headers: &HeaderMap) -> Result<Option<String>, ()> {
        let Some(named) = cookie(headers, self.session_cookie()) else { return Ok(None) };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let until = sessions.get_mut(&named).filter(|until| **until > now).ok_or(())?;
        *until = now + SESSION;
        Ok(Some(named))
    }
}

fn fingerprint(key: &TokenKey, password: &Password, kind: Kind, client: Option<&Client>) -> String {
    let secret = client.filter(|_| kind == Kind::Configured).map_or("", |client| client.secret.expose());
    key.fingerprint("grant", &format!("{}\0{secret}", password.expose()))
}

/// A cookie's value. With two of a name the browser was tricked, and none counts.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut found = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(found, _)| *found == name);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value.to_owned()),
        _ => None,
    }
}

/// Whether a browser says that another site's page sent this form.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// What the owner is told about a password that was not right.
pub(super) const WRONG: &str = "That password is not right.";

/// The same about too many of them.
pub(super) fn too_many(wait: Duration) -> String {
    let seconds = wait.as_secs() + 1;
    format!(
        "There were too many wrong passwords. Wait {seconds} second{} and try again.",
        if seconds == 1 { "" } else { "s" }
    )
}

pub(super) fn see_other(target: &str) -> Reply {
    let mut reply = body::empty(StatusCode::SEE_OTHER);
    if let Ok(target) = HeaderValue::from_str(target) {
        reply.headers_mut().insert(header::LOCATION, target);
    }
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What the address of the page held is nobody else's business.
    reply.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    reply
}

impl Auth {
    /// Answers `GET /connections`.
    pub(crate) fn connections(&self, headers: &HeaderMap) -> Option<Reply> {
        let owner = self.owner.as_ref()?;
        Some(match owner.session(headers) {
            Ok(Some(session)) => self.list(owner, &session, StatusCode::OK, None),
            Ok(None) => pages::sign_in(StatusCode::OK, None, None),
            Err(()) => pages::sign_in(
                StatusCode::OK,
                Some("You were signed out, since nothing happened here for a while."),
                None,
            ),
        })
    }

    fn list(&self, owner: &Owner, session: &str, status: StatusCode, notice: Option<&str>) -> Reply {
        let (grants, now) = (owner.grants.list(), now());
        let rows: Vec<_> = grants
            .iter()
            .map(|grant| pages::Row {
                id: &grant.id,
                name: &grant.name,
                host: &grant.host,
                level: grant.level.min(owner.ceiling),
                age: now.saturating_sub(grant.created),
                idle: now.saturating_sub(grant.used),
            })
            .collect();
        pages::list(status, &rows, &self.token_key.tag("connections", session), notice)
    }

    /// Answers `POST /connections`.
    pub(crate) async fn change_connections(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        source: IpAddr,
        metrics: &Metrics,
    ) -> Option<Reply> {
        let owner = self.owner.as_ref()?;
        if is_cross_site(headers) {
            return Some(pages::sign_in(
                StatusCode::FORBIDDEN,
                Some("Another site's page sent that form; nothing was done."),
                None,
            ));
        }
        let form = parameters(body).unwrap_or_default();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        if field("action") == "sign-in" {
            return Some(self.sign_in(owner, headers, field("password"), source, metrics));
        }
        let session = match owner.session(headers) {
            Ok(Some(session))
                if shared::Secret::new(self.token_key.tag("connections", &session)).matches(field("token")) =>
            {
                session
            }
            _ => {
                let notice = "You are not signed in any more; nothing was done.";
                return Some(pages::sign_in(StatusCode::FORBIDDEN, Some(notice), None));
            }
        };
        Some(match field("action") {
            "end" => {
                let ended = owner.grants.end(field("id"));
                if let Some(grant) = &ended {
                    log::info!("the owner ended the connection of {} ({}), grant:{}", grant.name, grant.host, grant.id);
                }
                let (status, notice) = match (ended, owner.grants.save().await) {
                    (None, _) => (StatusCode::OK, "That connection had ended already.".to_owned()),
                    (Some(grant), Ok(())) => (StatusCode::OK, format!("The connection of {} has ended.", grant.name)),
                    (Some(_), Err(why)) => {
                        let notice =
                            format!("The connection has ended, but only until the next start of the server: {why}.");
                        (StatusCode::INTERNAL_SERVER_ERROR, notice)
                    }
                };
                self.list(owner, &session, status, Some(&notice))
            }
            "sign-out" => {
                owner.end_session(&session);
                let mut reply = pages::sign_in(StatusCode::OK, Some("You have signed out."), None);
                owner.set_cookie(&mut reply, owner.session_cookie(), "", Duration::ZERO);
                reply
            }
            _ => self.list(owner, &session, StatusCode::BAD_REQUEST, Some("Nothing was done.")),
        })
    }

    fn sign_in(&self, owner: &Owner, headers: &HeaderMap, password: &str, source: IpAddr, metrics: &Metrics) -> Reply {
        let device = owner.device(&self.token_key, headers);
        match owner.password.attempt(password, source, device.as_ref()) {
            Attempt::Right => {
                log::info!("the owner signed in from {source}");
                let mut reply = see_other(WHERE);
                owner.set_cookie(
                    &mut reply,
                    owner.session_cookie(),
                    &owner.begin_session(),
                    Duration::from_secs(86_400),
                );
                if device.is_none() {
                    owner.remember(&self.token_key, &mut reply);
                }
                reply
            }
            Attempt::Wrong => {
                metrics.refused_sign_in("password");
                log::warn!("a wrong owner password from {source}");
                pages::sign_in(StatusCode::FORBIDDEN, None, Some(WRONG))
            }
            Attempt::TooMany(wait) => {
                metrics.refused_sign_in("password");
                let page = pages::sign_in(StatusCode::TOO_MANY_REQUESTS, None, Some(&too_many(wait)));
                body::retry_after(page, wait)
            }
        }
    }

    /// Keeps what may be lost, now and then.
    pub(crate) async fn tidy(&self) {
        if let Some(owner) = &self.owner {
            owner.grants.tidy().await;
        }
    }

    /// Keeps what may be lost, before the program ends.
    pub(crate) async fn save(&self) {
        if let Some(owner) = &self.owner {
            owner.grants.save_uses().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_of_a_name() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, value.parse().unwrap());
            }
            cookie(&headers, "homelab-owner")
        };
        assert_eq!(of(&["a=b; homelab-owner=x=y"]).as_deref(), Some("x=y"));
        assert_eq!(of(&["a=b", "homelab-owner=x"]).as_deref(), Some("x"));
        assert_eq!(of(&["homelab-owner=x; homelab-owner=y"]), None);
        assert_eq!(of(&["not-homelab-owner=x"]), None);
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        assert!(too_many(Duration::from_millis(1)).contains("Wait 1 second and"));
        assert!(too_many(Duration::from_millis(1500)).contains("Wait 2 seconds and"));
    }
}
