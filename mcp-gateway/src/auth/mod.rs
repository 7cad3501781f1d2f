//! Who is calling, and how much may they do: the API key or an access token of ours, or a refusal that says how to sign in.

mod authorize;
mod clients;
mod codes;
mod documents;
mod exchange;
mod failures;
mod grants;
mod metadata;
mod meter;
mod oauth;
mod owner;
mod password;
mod redirect;
mod seal;
mod token;

pub(crate) use oauth::MAX_BODY;
pub(crate) use redirect::RedirectUri;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};
use serde::{Deserialize, Serialize};
use shared::{Level, Secret};

use crate::{
    auth::{
        failures::Failures,
        owner::Owner,
        token::{Bad, Claims, TokenKey},
    },
    body::{self, Refused, Reply},
    config::{Client, Config, Origin},
    metrics::Metrics,
    state,
};

/// One notion of a caller for sessions, limits and audit: `api-key`, `client:<id>` or `grant:<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct Principal(Arc<str>);

impl Principal {
    fn api_key() -> Self {
        Self("api-key".into())
    }

    pub(crate) fn client(id: &str) -> Self {
        Self(format!("client:{id}").into())
    }

    fn app(fingerprint: &str) -> Self {
        Self(format!("app:{fingerprint}").into())
    }

    fn grant(id: &str) -> Self {
        Self(format!("grant:{id}").into())
    }

    fn grant_id(&self) -> Option<&str> {
        self.0.strip_prefix("grant:")
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Principal {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.as_str().to_owned()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Somebody who has signed in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// Whose sessions are its own. An app keeps them when the owner lets it do more, which is another grant.
    pub(crate) tenant: Principal,
    /// How much these credentials allow.
    pub(crate) level: Level,
    /// How much the same caller could get by signing in again. Above it, asking for more is pointless.
    pub(crate) reachable: Level,
}

/// Checks credentials, and hands out tokens for them.
pub(crate) struct Auth {
    api_key: Option<(Secret, Caller)>,
    client: Option<Client>,
    /// Nothing without a password: then there is no page, and no code.
    owner: Option<Owner>,
    token_key: TokenKey,
    token_ttl: Duration,
    issuer: Origin,
    resource: String,
    failures: Failures,
}

impl Auth {
    pub(crate) fn new(config: &mut Config, issuer: Origin) -> Self {
        let client = config.client.take();
        let key = match config.token_key.take() {
            Some(key) => key,
            // Nobody can get a token: nothing to keep.
            None if client.is_none() && config.owner.is_none() => rand::random(),
            None => state::token_key(config.state_dir.as_deref()),
        };
        let api_key = config.api_key.take().map(|api_key| {
            let (level, principal) = (api_key.level, Principal::api_key());
            (api_key.key, Caller { tenant: principal.clone(), principal, level, reachable: level })
        });
        let token_key = TokenKey::new(key);
        let owner = config.owner.take().map(|given| {
            Owner::new(given, config.level, client.as_ref(), &issuer, config.state_dir.as_deref(), &token_key)
        });
        Self {
            api_key,
            client,
            owner,
            token_key,
            token_ttl: config.token_ttl,
            resource: format!("{issuer}/mcp"),
            issuer,
            failures: Failures::default(),
        }
    }

    /// The caller, or the answer that refuses.
    pub(crate) fn caller(&self, headers: &HeaderMap, source: IpAddr, metrics: &Metrics) -> Result<Caller, Refused> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(self.challenge(None, "Sign in: send `Authorization: Bearer …`.").into());
        };
        let bearer = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = bearer else {
            metrics.refused_sign_in("malformed");
            let description = "Send `Authorization: Bearer` and one token.";
            return Err(self.challenge(Some("invalid_request"), description).into());
        };
        if let Some((key, caller)) = &self.api_key
            && key.matches(token)
        {
            return Ok(caller.clone());
        }
        match self.token(token) {
            Ok(caller) => Ok(caller),
            // Whoever has one of ours signed in once; this is no guess.
            Err(Bad::Expired) => {
                metrics.refused_sign_in("expired");
                Err(self.challenge(Some("invalid_token"), "The access token has expired. Get a new one.").into())
            }
            Err(Bad::Forged) => {
                metrics.refused_sign_in("bearer");
                let slowed = self.slowed(source);
                Err(slowed
                    .unwrap_or_else(|| self.challenge(Some("invalid_token"), "The API key or token is not valid."))
                    .into())
            }
        }
    }

    fn token(&self, token: &str) -> Result<Caller, Bad> {
        let claims = self.token_key.verify(token)?;
        if let Some(id) = claims.principal.grant_id() {
            return self.by_grant(id, &claims).ok_or(Bad::Expired);
        }
        let Some(client) = self.client.as_ref().filter(|client| claims.principal == Principal::client(&client.id))
        else {
            return Err(Bad::Expired);
        };
        // What was good once and is over by a change of the configuration counts as expired.
        if claims.audience != self.resource || claims.fingerprint != self.fingerprint(client) {
            return Err(Bad::Expired);
        }
        let level = claims.level.min(client.level);
        Ok(Caller { tenant: claims.principal.clone(), principal: claims.principal, level, reachable: client.level })
    }

    /// The bearer of a token that the owner allowed, while its grant lives.
    fn by_grant(&self, id: &str, claims: &Claims) -> Option<Caller> {
        let owner = self.owner.as_ref().filter(|_| claims.audience == self.resource)?;
        let grant = owner.grants.using(id).filter(|grant| grant.fingerprint == claims.fingerprint)?;
        let level = claims.level.min(grant.level).min(owner.ceiling);
        let tenant = Principal::app(&self.token_key.fingerprint("app", &grant.app));
        Some(Caller { principal: claims.principal.clone(), tenant, level, reachable: owner.ceiling })
    }

    fn fingerprint(&self, client: &Client) -> String {
        self.token_key.fingerprint("client", client.secret.expose())
    }

    /// Notes a failed sign-in; the answer, if there were too many from that address.
    fn slowed(&self, source: IpAddr) -> Option<Reply> {
        let wait = self.failures.note(source)?;
        // Once, not for every further guess.
        if wait == failures::FORGIVE {
            log::warn!("sign-ins from {source} fail again and again: slowed down");
        }
        let description = "Too many failed sign-ins from this address. Valid credentials still work.";
        let reply = body::problem(StatusCode::TOO_MANY_REQUESTS, "slow_down", description);
        Some(body::retry_after(reply, wait))
    }

    /// 401, with the way to sign in.
    fn challenge(&self, error: Option<&str>, description: &str) -> Reply {
        let mut reply = body::problem(StatusCode::UNAUTHORIZED, error.unwrap_or("unauthorized"), description);
        self.add_challenge(&mut reply, error, self.suggested());
        reply
    }

    /// 403: the token is good, and its level is below what the call needs but not beyond reach.
    pub(crate) fn insufficient_scope(&self, needed: Level) -> Reply {
        let description = format!("This call needs level {needed}. Sign in again with the scope {}.", scope(needed));
        let mut reply = body::problem(StatusCode::FORBIDDEN, "insufficient_scope", &description);
        self.add_challenge(&mut reply, Some("insufficient_scope"), Some(needed));
        reply
    }

    fn add_challenge(&self, reply: &mut Reply, error: Option<&str>, scope: Option<Level>) {
        let mut parts = Vec::new();
        if let Some(error) = error {
            parts.push(format!(r#"error="{error}""#));
        }
        // Without OAuth there is nothing to point to.
        if self.has_oauth() {
            parts.push(format!(r#"resource_metadata="{}{}""#, self.issuer, metadata::RESOURCE_PATH));
            parts.extend(scope.map(|level| format!(r#"scope="{}""#, scopes(level))));
        }
        let challenge = if parts.is_empty() { "Bearer".to_owned() } else { format!("Bearer {}", parts.join(", ")) };
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
    }

    /// Whether tokens can be got here.
    pub(crate) fn has_oauth(&self) -> bool {
        self.client.is_some() || self.owner.is_some()
    }

    /// Whether the owner can be asked.
    pub(crate) fn has_owner(&self) -> bool {
        self.owner.is_some()
    }

    /// The highest level that can be had by OAuth.
    fn offered(&self) -> Option<Level> {
        let client = self.client.as_ref().map(|client| client.level);
        client.max(self.owner.as_ref().map(|owner| owner.ceiling))
    }

    /// The level that a new app should ask for. Where there is an owner to ask for more, that is the lowest.
    fn suggested(&self) -> Option<Level> {
        if self.owner.is_some() { Some(Level::Monitor) } else { self.offered() }
    }
}

/// The scope that stands for a level.
fn scope(level: Level) -> String {
    format!("homelab:{}", level.name())
}

/// The scope of a level and of those it includes.
fn scopes(level: Level) -> String {
    let names: Vec<_> = Level::ALL.into_iter().filter(|other| *other <= level).map(scope).collect();
    names.join(" ")
}
