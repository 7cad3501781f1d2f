//! The token endpoint (RFC 6749). Every refusal is one of its errors.

use std::{collections::HashMap, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};
use serde_json::{Value, json};
use shared::{Level, Secret};

use super::{
    Auth, Principal, scope, scopes,
    token::{Claims, now},
};
use crate::{
    body::{self, Reply},
    config::Client,
    metrics::Metrics,
};

/// Larger token requests are none.
pub(crate) const MAX_BODY: usize = 64 << 10;

/// A refusal in the words of RFC 6749.
pub(super) struct Refused {
    pub(super) error: &'static str,
    pub(super) description: &'static str,
}

pub(super) const fn refused(error: &'static str, description: &'static str) -> Refused {
    Refused { error, description }
}

const WRONG_CLIENT: Refused = refused("invalid_client", "The client id or secret is not right.");

/// A token request: parameters, and the credentials of its `Authorization` header.
pub(super) struct Request {
    parameters: HashMap<String, String>,
    basic: Option<(String, String)>,
}

impl Auth {
    /// Answers `POST /oauth/token`.
    pub(crate) async fn issue(&self, headers: &HeaderMap, body: &[u8], source: IpAddr, metrics: &Metrics) -> Reply {
        let answer = self.token_answer(headers, body).await;
        not_kept(match answer {
            Ok(answer) => body::value(StatusCode::OK, &answer),
            Err(refused) => self.refuse(&refused, source, metrics),
        })
    }

    /// Whoever is not the client that he says is slowed down.
    pub(super) fn refuse(&self, refused: &Refused, source: IpAddr, metrics: &Metrics) -> Reply {
        if refused.error != WRONG_CLIENT.error {
            return body::problem(StatusCode::BAD_REQUEST, refused.error, refused.description);
        }
        metrics.refused_sign_in("client");
        self.slowed(source).unwrap_or_else(|| {
            let mut reply = body::problem(StatusCode::UNAUTHORIZED, refused.error, refused.description);
            let basic = HeaderValue::from_static(r#"Basic realm="homelab-mcp", charset="UTF-8""#);
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
            reply
        })
    }

    async fn token_answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refused> {
        let request = Request::read(headers, body)?;
        let Some(grant) = request.parameters.get("grant_type") else {
            return Err(refused("invalid_request", "grant_type is missing."));
        };
        match (grant.as_str(), &self.owner) {
            ("client_credentials", _) => {}
            ("authorization_code", Some(owner)) => return self.exchange_code(owner, &request).await,
            ("refresh_token", Some(owner)) => return self.exchange_refresh(owner, &request).await,
            _ => return Err(refused("unsupported_grant_type", "grant_type is none of those in the metadata.")),
        }
        let client = self.authenticate(&request)?;
        self.check_resource(&request)?;
        let level = match request.parameters.get("scope").map(String::as_str) {
            None => client.level,
            Some(wanted) => wanted_level(wanted, client.level)?,
        };
        log::info!("access token for {} at level {level}", Principal::client(&client.id));
        let claims = Claims {
            principal: Principal::client(&client.id),
            level,
            audience: self.resource.clone(),
            expires: now() + self.token_ttl.as_secs(),
            fingerprint: self.fingerprint(client),
        };
        Ok(json!({
            "access_token": self.token_key.sign(&claims),
            "token_type": "Bearer",
            "expires_in": self.token_ttl.as_secs(),
            "scope": scopes(level),
        }))
    }

    /// The configured client, if the request shows its secret.
    pub(super) fn authenticate(&self, request: &Request) -> Result<&Client, Refused> {
        let tries = request.credentials()?;
        if tries.iter().any(|(_, secret)| secret.is_none()) {
            return Err(refused("invalid_client", "Send the client's id and secret."));
        }
        let client = self.client.as_ref().ok_or(WRONG_CLIENT)?;
        let right = tries.iter().fold(false, |right, (id, secret)| {
            // Both are always compared, so that the time does not tell which one was wrong.
            let secret = secret.as_deref().unwrap_or_default();
            let (same_id, same_secret) = (Secret::new(client.id.as_str()).matches(id), client.secret.matches(secret));
            right | (same_id & same_secret)
        });
        if right { Ok(client) } else { Err(WRONG_CLIENT) }
    }

    /// RFC 8707: a token is for this resource or for none.
    pub(super) fn check_resource(&self, request: &Request) -> Result<(), Refused> {
        match request.get("resource") {
            Some(resource) if !self.is_ours(resource) => {
                Err(refused("invalid_target", "resource is not this server's."))
            }
            _ => Ok(()),
        }
    }
}

/// The highest of the wanted scopes; none may be above the ceiling.
pub(super) fn wanted_level(wanted: &str, ceiling: Level) -> Result<Level, Refused> {
    let mut level = None;
    for name in wanted.split_ascii_whitespace() {
        match Level::ALL.into_iter().find(|level| scope(*level) == name) {
            Some(found) if found > ceiling => {
                return Err(refused("invalid_scope", "The scope is above what this client may have."));
            }
            Some(found) => level = level.max(Some(found)),
            // Some clients ask for a refresh token this way wherever they are.
            None if name == "offline_access" => {}
            None => return Err(refused("invalid_scope", "The scope is not known; see scopes_supported.")),
        }
    }
    Ok(level.unwrap_or(ceiling))
}

impl Request {
    /// A form, or JSON as some clients send it.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refused> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut parameters = HashMap::new();
        let mut add = |name: String, value: String| match parameters.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(refused("invalid_request", "A parameter is given twice.")),
        };
        if kind.to_ascii_lowercase().starts_with("application/json") {
            let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
                return Err(refused("invalid_request", "The body is not a JSON object."));
            };
            for (name, value) in object {
                if let Value::String(text) = value {
                    add(name, text)?;
                }
            }
        } else {
            for (name, value) in form_urlencoded::parse(body) {
                add(name.into_owned(), value.into_owned())?;
            }
        }
        // RFC 6749 §3.1: without a value is as if not sent.
        parameters.retain(|_, value| !value.is_empty());
        Ok(Self { parameters, basic: basic(headers)? })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The id and, if there is one, the secret that the client sent; in every way that they may be meant.
    pub(super) fn credentials(&self) -> Result<Vec<(String, Option<String>)>, Refused> {
        let id = self.get("client_id");
        let mut tries = match (&self.basic, id, self.get("client_secret")) {
            (Some(_), _, Some(_)) => {
                return Err(refused("invalid_request", "Send the client's secret in one place only."));
            }
            // RFC 6749 §2.3.1 has the halves form-encoded; curl and others send them as they are.
            (Some((id, secret)), _, None) => {
                vec![(id.clone(), Some(secret.clone())), (form_decoded(id), Some(form_decoded(secret)))]
            }
            (None, Some(id), secret) => vec![(id.to_owned(), secret.map(str::to_owned))],
            (None, None, _) => return Err(refused("invalid_client", "Send the client's id and secret.")),
        };
        tries.retain(|(tried, _)| id.is_none_or(|id| id == tried));
        Ok(tries)
    }
}

/// Nobody on the way may keep it.
pub(super) fn not_kept(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    reply
}

/// The credentials of `Authorization: Basic`, as they stand.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refused> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let malformed = || refused("invalid_client", "The Authorization header is not `Basic` with id and secret.");
    let (scheme, encoded) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(malformed)?;
    let (id, secret) = decoded.split_once(':').ok_or_else(malformed)?;
    Ok(Some((id.to_owned(), secret.to_owned())))
}

fn form_decoded(text: &str) -> String {
    // `&` and `=` must come encoded, but not everybody does it; here they are no separators.
    let text = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_lowers_and_never_raises() {
        let level = |wanted, ceiling| wanted_level(wanted, ceiling).map_err(|refused| refused.error);
        assert_eq!(level("homelab:monitor", Level::Manage), Ok(Level::Monitor));
        assert_eq!(level("homelab:operate homelab:monitor", Level::Operate), Ok(Level::Operate));
        assert_eq!(level("homelab:manage", Level::Operate), Err("invalid_scope"));
        assert_eq!(level("homelab:monitor homelab:manage", Level::Operate), Err("invalid_scope"));
        assert_eq!(level("mcp", Level::Operate), Err("invalid_scope"));
        assert_eq!(level("offline_access", Level::Operate), Ok(Level::Operate));
        assert_eq!(level("", Level::Operate), Ok(Level::Operate));
    }

    #[test]
    fn basic_credentials_are_decoded() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            basic(&headers).map_err(|refused| refused.error)
        };
        let encoded = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let pair = |id: &str, secret: &str| Ok(Some((id.to_owned(), secret.to_owned())));
        assert_eq!(of(&encoded("id:a:b")), pair("id", "a:b"));
        assert_eq!(of(&encoded("my%20id:a+b")), pair("my%20id", "a+b"));
        assert_eq!(form_decoded("a%2Bb+c&d="), "a+b c&d=");
        assert_eq!(of(&encoded("id")), Err("invalid_client"));
        assert_eq!(of("Bearer x"), Err("invalid_client"));
    }
}
