//! The authorization endpoint: an app sends the owner's browser here, the owner decides, and the browser goes back with a
//! code or a refusal. Nothing is kept until the password was right: what was asked travels in the form, sealed.

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::Level;

use super::{
    Auth,
    clients::{App, Kind},
    codes::{Asked, Given, parameters},
    documents,
    owner::{Owner, WRONG, is_cross_site, see_other, too_many},
    password::Attempt,
    redirect::RedirectUri,
    scope, scopes,
    token::now,
};
use crate::{
    body::{self, Reply},
    config::Origin,
    metrics::Metrics,
    pages::{self, Consent, Trust},
};

/// How long the page may stay open, in seconds.
const FORM: u64 = 600;
const LONGEST_QUERY: usize = 12 << 10;
const LONGEST_STATE: usize = 4096;
const CONNECT_AGAIN: &str = "Go back to the app and connect again.";

/// What the page's form carries.
#[derive(Serialize, Deserialize)]
struct Form {
    asked: Asked,
    nonce: String,
    until: u64,
}

/// Why nobody is asked.
enum Refusal {
    /// Nothing is known about where to go back to: the owner is told.
    Here(String),
    /// The app is told, in the words of RFC 6749.
    Back { app: App, redirect: RedirectUri, state: Option<String>, error: &'static str, description: &'static str },
}

impl Auth {
    /// Answers `GET /authorize`.
    pub(crate) async fn authorize(&self, query: Option<&str>) -> Option<Reply> {
        let owner = self.owner.as_ref()?;
        Some(match self.asked(owner, query.unwrap_or_default()).await {
            Ok(asked) => {
                let form = Form { asked, nonce: format!("{:032x}", rand::random::<u128>()), until: now() + FORM };
                let sealed = self.token_key.seal("form", &form);
                consent(owner, &form.asked, &sealed, Level::Monitor, None, StatusCode::OK)
            }
            Err(Refusal::Here(why)) => {
                pages::message(StatusCode::BAD_REQUEST, "This app cannot be connected", &[&why], None)
            }
            Err(Refusal::Back { app, redirect, state, error, description }) => {
                let target =
                    self.back(&redirect, state.as_deref(), &[("error", error), ("error_description", description)]);
                match app.kind {
                    Kind::Configured => see_other(&target),
                    // Anybody can make up such an app: this server is no way to send browsers somewhere unasked.
                    Kind::Described | Kind::Registered => {
                        let link = format!("Back to {}", redirect.authority());
                        let heading = "This app asked in a way that is not allowed";
                        pages::message(StatusCode::BAD_REQUEST, heading, &[description], Some((&target, &link)))
                    }
                }
            }
        })
    }

    async fn asked(&self, owner: &Owner, query: &str) -> Result<Asked, Refusal> {
        let here = |why: &str| Refusal::Here(why.to_owned());
        if query.len() > LONGEST_QUERY {
            return Err(here("Its request is too long."));
        }
        let mut given = parameters(query.as_bytes()).ok_or_else(|| here("Its request says something twice."))?;
        let id =
            given.remove("client_id").ok_or_else(|| here("Its request does not say which app it is (client_id)."))?;
        let app = owner.apps.find(&id, self.client.as_ref(), &self.token_key).await.map_err(Refusal::Here)?;
        let redirect = given
            .remove("redirect_uri")
            .ok_or_else(|| here("Its request does not say where to return to (redirect_uri)."))?;
        let redirect = RedirectUri::try_from(redirect)
            .map_err(|why| Refusal::Here(format!("Where it wants to return to {why}.")))?;
        if !app.allows(&redirect) {
            let hint = match app.kind {
                Kind::Configured => {
                    "If you trust that address, add it to EXTRA_REDIRECT_URIS in the server's configuration."
                }
                Kind::Described | Kind::Registered => "The app itself does not list that address.",
            };
            return Err(Refusal::Here(format!(
                "It wants to return to {redirect}, which is not allowed for it. {hint}"
            )));
        }
        let state = given.remove("state");
        let is_long = state.as_ref().is_some_and(|state| state.len() > LONGEST_STATE);
        let challenge = given.remove("code_challenge");
        let wrong =
            match (given.get("response_type").map(String::as_str), &challenge, given.get("code_challenge_method")) {
                _ if is_long => Some(("invalid_request", "state is too long.")),
                (None, ..) => Some(("invalid_request", "response_type is missing.")),
                (Some(kind), ..) if kind != "code" => {
                    Some(("unsupported_response_type", "response_type must be code."))
                }
                (_, None, _) => Some(("invalid_request", "PKCE is required: code_challenge is missing.")),
                (_, _, method) if method.is_none_or(|method| method != "S256") => {
                    Some(("invalid_request", "code_challenge_method must be S256."))
                }
                (_, Some(challenge), _) if !is_s256(challenge) => {
                    Some(("invalid_request", "code_challenge is no S256 challenge."))
                }
                _ if given.get("resource").is_some_and(|resource| !self.is_ours(resource)) => {
                    Some(("invalid_target", "resource is not this server's."))
                }
                _ if given.contains_key("request") => {
                    Some(("request_not_supported", "request objects are not supported."))
                }
                _ => None,
            };
        if let Some((error, description)) = wrong {
            let state = state.filter(|_| !is_long);
            return Err(Refusal::Back { app, redirect, state, error, description });
        }
        // The owner chooses anyway, so what is not known does no harm.
        let wanted = given.get("scope").and_then(|names| {
            let levels = names
                .split_ascii_whitespace()
                .filter_map(|name| Level::ALL.into_iter().find(|level| scope(*level) == name));
            levels.max()
        });
        let (name, kind, challenge) = (app.name, app.kind, challenge.unwrap_or_default());
        Ok(Asked { app: app.id, name, kind, redirect, state, challenge, wanted })
    }

    /// Answers `POST /authorize`: what the owner decided.
    pub(crate) async fn decide(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        source: IpAddr,
        metrics: &Metrics,
    ) -> Option<Reply> {
        let owner = self.owner.as_ref()?;
        if is_cross_site(headers) {
            let why = ["The form was sent by another site's page, so nothing was done.", CONNECT_AGAIN];
            return Some(pages::message(StatusCode::FORBIDDEN, "That did not come from this page", &why, None));
        }
        let given = parameters(body).unwrap_or_default();
        let field = |name: &str| given.get(name).map_or("", String::as_str);
        let sealed = field("form");
        let Some(form) = self.token_key.open::<Form>("form", sealed) else {
            let why = ["The form is not as this server made it, so nothing was done.", CONNECT_AGAIN];
            return Some(pages::message(StatusCode::BAD_REQUEST, "This form is not valid", &why, None));
        };
        let asked = &form.asked;
        let left = form.until.saturating_sub(now());
        if left == 0 {
            let why = [
                "The page was open for more than ten minutes, so nothing was done. Start again here, or go back to the app and connect again.",
            ];
            let again = self.again(asked);
            return Some(pages::message(
                StatusCode::BAD_REQUEST,
                "This form has expired",
                &why,
                Some((&again, "Start again")),
            ));
        }
        match field("decision") {
            "deny" => {
                log::info!("{} ({}) was denied", asked.name, asked.redirect.authority());
                let denied = [("error", "access_denied"), ("error_description", "The owner said no.")];
                return Some(see_other(&self.back(&asked.redirect, asked.state.as_deref(), &denied)));
            }
            "allow" => {}
            _ => {
                let why = ["It says neither Allow nor Deny, so nothing was done.", CONNECT_AGAIN];
                return Some(pages::message(StatusCode::BAD_REQUEST, "This form is not complete", &why, None));
            }
        }
        let Some(level) = field("level").parse::<Level>().ok().filter(|level| *level <= owner.ceiling) else {
            let error = Some("Choose what the connection may do.");
            return Some(consent(owner, asked, sealed, Level::Monitor, error, StatusCode::BAD_REQUEST));
        };
        let device = owner.device(&self.token_key, headers);
        Some(match owner.password.attempt(field("password"), source, device.as_ref()) {
            Attempt::Wrong => {
                metrics.refused_sign_in("password");
                log::warn!("a wrong owner password from {source}");
                consent(owner, asked, sealed, level, Some(WRONG), StatusCode::FORBIDDEN)
            }
            Attempt::TooMany(wait) => {
                metrics.refused_sign_in("password");
                let page = consent(owner, asked, sealed, level, Some(&too_many(wait)), StatusCode::TOO_MANY_REQUESTS);
                body::retry_after(page, wait)
            }
            Attempt::Right => {
                let code = self.token_key.tag("code", &form.nonce);
                let mut reply = match owner.codes.give(code, asked.clone(), level, Duration::from_secs(left)) {
                    Given::Code(code) => {
                        log::info!("{} ({}) was allowed level {level}", asked.name, asked.redirect.authority());
                        see_other(&self.back(&asked.redirect, asked.state.as_deref(), &[("code", &code)]))
                    }
                    Given::Repeated => pages::message(
                        StatusCode::CONFLICT,
                        "This form was used already",
                        &[
                            "If the app says that it is connected, all is well and this page can be closed.",
                            "If not, go back to the app and connect again.",
                        ],
                        None,
                    ),
                };
                if device.is_none() {
                    owner.remember(&self.token_key, &mut reply);
                }
                reply
            }
        })
    }

    /// Where the browser goes with an answer: with the state that came, and with who answers (RFC 9207).
    fn back(&self, redirect: &RedirectUri, state: Option<&str>, answer: &[(&str, &str)]) -> String {
        let state = state.map(|state| ("state", state));
        let parameters: Vec<_> = answer.iter().copied().chain(state).chain([("iss", self.issuer.as_str())]).collect();
        redirect.with(&parameters)
    }

    /// The same request once more.
    fn again(&self, asked: &Asked) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("response_type", "code").append_pair("client_id", &asked.app);
        query.append_pair("redirect_uri", asked.redirect.as_str()).append_pair("resource", &self.resource);
        query.append_pair("code_challenge", &asked.challenge).append_pair("code_challenge_method", "S256");
        query.extend_pairs(asked.state.iter().map(|state| ("state", state)));
        query.extend_pairs(asked.wanted.iter().map(|level| ("scope", scopes(*level))));
        format!("/authorize?{}", query.finish())
    }

    /// RFC 8707: a token is for this resource or for none. Upper case in the host and a slash at the end mean the same.
    pub(super) fn is_ours(&self, resource: &str) -> bool {
        let resource = resource.strip_suffix('/').unwrap_or(resource);
        let (origin, path) = resource.split_at(self.issuer.as_str().len().min(resource.len()));
        origin.eq_ignore_ascii_case(self.issuer.as_str()) && matches!(path, "" | "/mcp")
    }
}

fn consent(owner: &Owner, asked: &Asked, form: &str, chosen: Level, error: Option<&str>, status: StatusCode) -> Reply {
    let trust = match asked.kind {
        Kind::Configured => Trust::Configured,
        Kind::Described => Trust::DescribedAt(documents::host(&asked.app).unwrap_or_default()),
        Kind::Registered => Trust::Claimed,
    };
    let wanted = asked.wanted.map(|level| level.min(owner.ceiling));
    Consent { name: &asked.name, trust, redirect: &asked.redirect, ceiling: owner.ceiling, wanted, chosen, form, error }
        .page(status)
}

/// Adds to the metadata what the owner's page makes possible.
pub(super) fn describe(metadata: &mut Value, issuer: &Origin, confidential: bool, registers: bool) {
    let methods = if confidential || registers {
        json!(["client_secret_basic", "client_secret_post", "none"])
    } else {
        json!(["none"])
    };
    let more: &[&str] = if confidential { &["client_credentials"] } else { &[] };
    let grants = [&["authorization_code", "refresh_token"], more].concat();
    metadata["revocation_endpoint"] = json!(format!("{issuer}/oauth/revoke"));
    if registers {
        metadata["registration_endpoint"] = json!(format!("{issuer}/oauth/register"));
    }
    metadata["response_types_supported"] = json!(["code"]);
    metadata["response_modes_supported"] = json!(["query"]);
    metadata["grant_types_supported"] = json!(grants);
    metadata["token_endpoint_auth_methods_supported"] = methods.clone();
    metadata["revocation_endpoint_auth_methods_supported"] = methods;
    metadata["code_challenge_methods_supported"] = json!(["S256"]);
    metadata["authorization_response_iss_parameter_supported"] = json!(true);
    metadata["client_id_metadata_document_supported"] = json!(true);
}

/// A SHA-256 digest in base64url, as RFC 7636 §4.2 has it.
fn is_s256(challenge: &str) -> bool {
    challenge.len() == 43 && BASE64.decode(challenge).is_ok_and(|digest| digest.len() == 32)
}

#[cfg(test)]
mod tests {
    use hyper::header;
    use shared::vars::Vars;

    use super::*;
    use crate::{
        auth::{Principal, grants::New, token::Claims},
        config::Config,
    };

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn auth() -> Auth {
        let state = tempfile::tempdir().unwrap();
        let vars = [
            ("OWNER_PASSWORD", "four plain words here"),
            ("OAUTH_CLIENT_ID", "homelab"),
            ("OAUTH_CLIENT_SECRET", "secret"),
            ("PUBLIC_URL", "https://mcp.example.com"),
            ("STATE_DIR", state.path().to_str().unwrap()),
        ];
        let mut config = Config::read(Vars::from_pairs(vars)).1.unwrap();
        let public = config.public_url.clone().unwrap();
        Auth::new(&mut config, public)
    }

    fn asked() -> Asked {
        Asked {
            app: "homelab".to_owned(),
            name: "homelab".to_owned(),
            kind: Kind::Configured,
            redirect: "https://claude.ai/api/mcp/auth_callback".parse().unwrap(),
            state: Some("s".to_owned()),
            challenge: CHALLENGE.to_owned(),
            wanted: Some(Level::Monitor),
        }
    }

    #[tokio::test]
    async fn an_expired_form_does_nothing_and_leads_to_a_new_one() {
        let auth = auth();
        let decide = async |until| {
            let form = Form { asked: asked(), nonce: "n".to_owned(), until };
            let body = form_urlencoded::Serializer::new(String::new())
                .append_pair("form", &auth.token_key.seal("form", &form))
                .append_pair("decision", "allow")
                .append_pair("level", "1")
                .append_pair("password", "four plain words here")
                .finish();
            auth.decide(&HeaderMap::new(), body.as_bytes(), SOURCE, &Metrics::default()).await.unwrap()
        };
        let late = decide(now()).await;
        assert_eq!((late.status(), late.headers().get(header::LOCATION)), (StatusCode::BAD_REQUEST, None));
        assert_eq!(decide(now() + 60).await.status(), StatusCode::SEE_OTHER);
        let again = auth.again(&asked());
        let page = auth.authorize(again.strip_prefix("/authorize?")).await.unwrap();
        assert_eq!(page.status(), StatusCode::OK, "{again}");
    }

    #[tokio::test]
    async fn a_token_from_yesterday_is_none() {
        let auth = auth();
        let owner = auth.owner.as_ref().unwrap();
        let text = || String::from("x");
        let fingerprint = owner.fingerprint(&auth.token_key, Kind::Configured, auth.client.as_ref());
        let new = New { app: text(), name: text(), host: text(), code: text(), level: Level::Monitor, fingerprint };
        let (grant, _) = owner.grants.add(new);
        let status = |expires, change: fn(&mut Claims)| {
            let mut claims = Claims {
                principal: Principal::grant(&grant.id),
                level: Level::Manage,
                audience: "https://mcp.example.com/mcp".to_owned(),
                expires,
                fingerprint: grant.fingerprint.clone(),
            };
            change(&mut claims);
            let mut headers = HeaderMap::new();
            let bearer = format!("Bearer {}", auth.token_key.sign(&claims));
            headers.insert(header::AUTHORIZATION, bearer.parse().unwrap());
            auth.caller(&headers, SOURCE, &Metrics::default()).map(|caller| caller.level).map_err(|no| no.status())
        };
        let refused = Err(StatusCode::UNAUTHORIZED);
        assert_eq!(status(now() + 60, |_| {}), Ok(Level::Monitor), "and never above its grant");
        assert_eq!(status(now(), |_| {}), refused);
        assert_eq!(status(now() + 60, |claims| claims.audience = "https://mcp.example.com".to_owned()), refused);
        assert_eq!(status(now() + 60, |claims| claims.fingerprint.clear()), refused);
        assert_eq!(status(now() + 60, |claims| claims.principal = Principal::grant("other")), refused);
    }

    #[test]
    fn a_challenge_is_a_digest() {
        assert!(is_s256("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"));
        for text in
            ["", "short", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM="]
        {
            assert!(!is_s256(text), "{text}");
        }
    }
}
