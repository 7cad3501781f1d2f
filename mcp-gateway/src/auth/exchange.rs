//! What the token endpoint gives for a code or a refresh token, and how an app gives its tokens back (RFC 7009). The
//! level is what the owner chose; nothing that is sent here raises it.

use std::net::IpAddr;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::{Level, Secret};

use super::{
    Auth, Principal,
    codes::Allowed,
    grants::{Dead, Grant, New},
    oauth::{self, Refused, Request, refused, wanted_level},
    owner::Owner,
    scopes,
    token::{Claims, now},
};
use crate::{
    body::{self, Reply},
    metrics::Metrics,
};

const BAD_CODE: Refused = refused("invalid_grant", "The code is not valid (any more). Ask the owner again.");
const BAD_REFRESH: Refused =
    refused("invalid_grant", "The refresh token is not valid (any more). Ask the owner again.");

impl Auth {
    /// Exchanges an authorization code for tokens.
    pub(super) async fn exchange_code(&self, owner: &Owner, request: &Request) -> Result<Value, Refused> {
        let app = self.app(owner, request)?;
        self.check_resource(request)?;
        let code = request.get("code").ok_or(refused("invalid_request", "code is missing."))?;
        let Some(Allowed { asked, level }) = owner.codes.take(code) else {
            // Used before? Then one of the two was a thief, and it is not known which.
            if let Some(grant) = owner.grants.end_by_code(code) {
                log::warn!("a code of {} was used twice: its connection, grant:{}, is ended", grant.name, grant.id);
                let _ = owner.grants.save().await;
            }
            return Err(BAD_CODE);
        };
        if asked.app != app || request.get("redirect_uri").is_some_and(|uri| uri != asked.redirect.as_str()) {
            return Err(BAD_CODE);
        }
        let verifier = request.get("code_verifier").ok_or(refused("invalid_grant", "code_verifier is missing."))?;
        if !proves(verifier, &asked.challenge) {
            return Err(refused("invalid_grant", "code_verifier does not fit the code."));
        }
        let (grant, refresh) = owner.grants.add(New {
            fingerprint: owner.fingerprint(&self.token_key, asked.kind, self.client.as_ref()),
            host: asked.redirect.authority().to_owned(),
            name: asked.name,
            code: code.to_owned(),
            app,
            level,
        });
        let _ = owner.grants.save().await;
        log::info!("{} ({}) is connected at level {level} as grant:{}", grant.name, grant.host, grant.id);
        Ok(self.tokens(&grant, level, refresh))
    }

    /// Exchanges a refresh token for the next one and an access token.
    pub(super) async fn exchange_refresh(&self, owner: &Owner, request: &Request) -> Result<Value, Refused> {
        let app = self.app(owner, request)?;
        self.check_resource(request)?;
        let token = request.get("refresh_token").ok_or(refused("invalid_request", "refresh_token is missing."))?;
        // Looked at before anything is exchanged, so that a refusal costs nothing.
        let ceiling =
            owner.grants.of_refresh_token(token).and_then(|id| owner.grants.find(&id)).map(|grant| grant.level);
        let level = match request.get("scope") {
            None => ceiling,
            Some(wanted) => ceiling.map(|ceiling| wanted_level(wanted, ceiling)).transpose()?,
        };
        match owner.grants.refresh(token, &app) {
            Ok((grant, refresh)) => {
                let _ = owner.grants.save().await;
                let level = level.unwrap_or(grant.level).min(grant.level);
                Ok(self.tokens(&grant, level, refresh))
            }
            Err(Dead::Unknown) => Err(BAD_REFRESH),
            Err(Dead::Reused) => {
                log::warn!("a refresh token was used twice: its connection is ended");
                let _ = owner.grants.save().await;
                Err(BAD_REFRESH)
            }
        }
    }

    fn tokens(&self, grant: &Grant, level: Level, refresh: String) -> Value {
        let claims = Claims {
            principal: Principal::grant(&grant.id),
            level,
            audience: self.resource.clone(),
            expires: now() + self.token_ttl.as_secs(),
            fingerprint: grant.fingerprint.clone(),
        };
        json!({
            "access_token": self.token_key.sign(&claims),
            "token_type": "Bearer",
            "expires_in": self.token_ttl.as_secs(),
            "refresh_token": refresh,
            "scope": scopes(level),
        })
    }

    /// Which app sent the request, as far as it can prove it: the configured one and those that registered for a secret
    /// must show it; others have none (and PKCE instead).
    fn app(&self, owner: &Owner, request: &Request) -> Result<String, Refused> {
        let tries = request.credentials()?;
        for (id, secret) in &tries {
            let configured = self.client.as_ref().is_some_and(|client| client.id == *id);
            if !configured && owner.apps.authentic(id, secret.as_deref(), &self.token_key) {
                return Ok(id.clone());
            }
        }
        self.authenticate(request).map(|client| client.id.clone())
    }

    /// Answers `POST /oauth/revoke`. That a token is unknown is no error: it is as the app wants it.
    pub(crate) async fn revoke(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        source: IpAddr,
        metrics: &Metrics,
    ) -> Option<Reply> {
        let owner = self.owner.as_ref()?;
        let answer = self.try_to_revoke(owner, headers, body).await;
        let reply = match answer {
            Ok(reply) => reply,
            Err(refused) => self.refuse(&refused, source, metrics),
        };
        Some(oauth::not_kept(reply))
    }

    async fn try_to_revoke(&self, owner: &Owner, headers: &HeaderMap, body: &[u8]) -> Result<Reply, Refused> {
        let request = Request::read(headers, body)?;
        let app = self.app(owner, &request)?;
        let token = request.get("token").ok_or(refused("invalid_request", "token is missing."))?;
        let id = match self.token_key.verify(token) {
            Ok(claims) => match claims.principal.grant_id() {
                Some(id) => Some(id.to_owned()),
                None => {
                    return Err(refused(
                        "unsupported_token_type",
                        "Such a token ends by itself, or with its client's secret.",
                    ));
                }
            },
            Err(_) => owner.grants.of_refresh_token(token),
        };
        let grant = id.and_then(|id| owner.grants.find(&id)).filter(|grant| grant.app == app);
        if let Some(grant) = grant {
            owner.grants.end(&grant.id);
            log::info!("{} ({}) gave its connection back, grant:{}", grant.name, grant.host, grant.id);
            if owner.grants.save().await.is_err() {
                let description = "It has ended, but that could not be written down.";
                return Ok(body::problem(StatusCode::SERVICE_UNAVAILABLE, "server_error", description));
            }
        }
        Ok(body::empty(StatusCode::OK))
    }

    /// Answers `POST /oauth/register`, where that is switched on.
    pub(crate) fn register(&self, body: &[u8]) -> Option<Reply> {
        let owner = self.owner.as_ref().filter(|owner| owner.apps.registers())?;
        let reply = match owner.registrations.take() {
            Err(wait) => {
                let description = "Too many apps register at this moment. Try again later.";
                body::retry_after(body::problem(StatusCode::TOO_MANY_REQUESTS, "slow_down", description), wait)
            }
            Ok(()) => match owner.apps.register(body, &self.token_key) {
                Ok(answer) => body::value(StatusCode::CREATED, &answer),
                Err((error, description)) => body::problem(StatusCode::BAD_REQUEST, error, &description),
            },
        };
        Some(oauth::not_kept(reply))
    }
}

/// RFC 7636 §4.6, and only its S256.
fn proves(verifier: &str, challenge: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let digest = BASE64.encode(Sha256::digest(verifier));
    Secret::new(digest).matches(challenge) && (43..=128).contains(&verifier.len()) && verifier.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_proved_by_its_digest_alone() {
        // The example of RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(proves(verifier, challenge));
        for other in ["", &verifier[1..], challenge, &format!("{verifier}x")] {
            assert!(!proves(other, challenge), "{other}");
        }
        let short = "short";
        assert!(!proves(short, &BASE64.encode(Sha256::digest(short))));
    }
}
