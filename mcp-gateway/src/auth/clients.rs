//! Which app is asking: the one of the configuration, one that is described by a document at its own address, or one that
//! registered itself (RFC 7591, switched off unless the operator wants it). Registration keeps nothing: the client's id
//! is its description, sealed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::Secret;

use super::{
    documents::{self, Documents},
    redirect::RedirectUri,
    token::{TokenKey, now},
};
use crate::config::Client;

/// Where Claude's hosted clients return to, and where programs on the owner's own device listen.
const DEFAULT_REDIRECTS: [&str; 5] = [
    "https://claude.ai/api/mcp/auth_callback",
    "https://claude.com/api/mcp/auth_callback",
    "http://localhost/callback",
    "http://127.0.0.1/callback",
    "http://[::1]/callback",
];
/// Begins the ids of apps that registered themselves.
const REGISTERED: &str = "hlc_";
/// How long such an id may begin something new.
const REGISTRATION: u64 = 90 * 86_400;
/// The longest id: it travels in a query.
const LONGEST_ID: usize = 1536;
const LONGEST_NAME: usize = 60;

/// How an app came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Configured,
    Described,
    Registered,
}

/// An app that may ask the owner.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    redirects: Vec<RedirectUri>,
}

impl App {
    /// Whether it may be returned to there.
    pub(super) fn allows(&self, redirect: &RedirectUri) -> bool {
        self.redirects.iter().any(|allowed| allowed.allows(redirect))
    }
}

/// What a registered app's id is made of.
#[derive(Debug, Serialize, Deserialize)]
struct Registration {
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "r")]
    redirects: Vec<RedirectUri>,
    /// It got a secret, and must show it.
    #[serde(rename = "s")]
    secret: bool,
    #[serde(rename = "t")]
    at: u64,
    /// So that two registrations are two clients.
    #[serde(rename = "u")]
    unique: u64,
}

/// All apps that there are.
pub(super) struct Apps {
    redirects: Vec<RedirectUri>,
    registration: bool,
    documents: Documents,
}

impl Apps {
    /// `extra` is allowed beside the usual redirect URIs of the configured client.
    pub(super) fn new(extra: &[RedirectUri], registration: bool) -> Self {
        let usual = DEFAULT_REDIRECTS.into_iter().filter_map(|uri| uri.parse().ok());
        Self { redirects: usual.chain(extra.iter().cloned()).collect(), registration, documents: Documents::default() }
    }

    /// The app with this id. An error is a sentence for whoever sees the page.
    pub(super) async fn find(&self, id: &str, configured: Option<&Client>, key: &TokenKey) -> Result<App, String> {
        if let Some(client) = configured.filter(|client| client.id == id) {
            let redirects = self.redirects.clone();
            return Ok(App { id: id.to_owned(), name: client.id.clone(), kind: Kind::Configured, redirects });
        }
        if documents::is_address(id) {
            let document = self.documents.get(id).await?;
            let (name, redirects) = (document.name.clone(), document.redirects.clone());
            return Ok(App { id: id.to_owned(), name, kind: Kind::Described, redirects });
        }
        match self.registered(id, key) {
            Some(registration) if registration.at + REGISTRATION > now() => {
                let (name, redirects) = (registration.name, registration.redirects);
                Ok(App { id: id.to_owned(), name, kind: Kind::Registered, redirects })
            }
            _ => Err("This server does not know the app's client id. Check the id in the app's settings; an app that \
                      registered itself a long time ago must be removed there and added again."
                .to_owned()),
        }
    }

    fn registered(&self, id: &str, key: &TokenKey) -> Option<Registration> {
        key.open("client", id.strip_prefix(REGISTERED)?).filter(|_| self.registration)
    }

    /// Whether somebody with this id and secret is that app, as far as it can tell. The configured client is not looked
    /// at here.
    pub(super) fn authentic(&self, id: &str, secret: Option<&str>, key: &TokenKey) -> bool {
        match self.registered(id, key) {
            Some(registration) if registration.secret => {
                secret.is_some_and(|secret| Secret::new(key.tag("client-secret", id)).matches(secret))
            }
            Some(_) => true,
            // A public client: what it has must say that it was given to this id.
            None => documents::is_address(id),
        }
    }

    /// Whether apps may register themselves.
    pub(super) fn registers(&self) -> bool {
        self.registration
    }

    /// Registers an app: the answer, or the error of RFC 7591 and its description.
    pub(super) fn register(&self, body: &[u8], key: &TokenKey) -> Result<Value, (&'static str, String)> {
        #[derive(Deserialize)]
        struct Request {
            #[serde(default)]
            redirect_uris: Vec<String>,
            client_name: Option<String>,
            token_endpoint_auth_method: Option<String>,
        }
        let wrong = |description: &str| ("invalid_client_metadata", description.to_owned());
        let request: Request =
            serde_json::from_slice(body).map_err(|_| wrong("The body is not JSON as RFC 7591 describes it."))?;
        if !(1..=8).contains(&request.redirect_uris.len()) {
            return Err(("invalid_redirect_uri", "Give one to eight redirect_uris.".to_owned()));
        }
        let redirects: Result<Vec<RedirectUri>, _> = request.redirect_uris.into_iter().map(TryInto::try_into).collect();
        let redirects = redirects.map_err(|error| ("invalid_redirect_uri", error))?;
        let method = request.token_endpoint_auth_method.as_deref().unwrap_or("client_secret_basic");
        if !matches!(method, "none" | "client_secret_basic" | "client_secret_post") {
            return Err(wrong("token_endpoint_auth_method must be none, client_secret_post or client_secret_basic."));
        }
        let name = shown(request.client_name.as_deref().unwrap_or_default());
        let at = now();
        let registration = Registration { name, redirects, secret: method != "none", at, unique: rand::random() };
        let id = format!("{REGISTERED}{}", key.seal("client", &registration));
        if id.len() > LONGEST_ID {
            return Err(("invalid_redirect_uri", "The redirect_uris are too long together.".to_owned()));
        }
        let mut answer = json!({
            "client_id": id,
            "client_id_issued_at": at,
            "client_name": registration.name,
            "redirect_uris": registration.redirects,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
        });
        if registration.secret {
            answer["client_secret"] = json!(key.tag("client-secret", &id));
            answer["client_secret_expires_at"] = json!(0);
        }
        Ok(answer)
    }
}

/// A name that somebody gave himself, fit to be shown: on one line, without what turns text around or hides in it.
pub(super) fn shown(name: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffd}' | '\u{e0000}'..='\u{e0fff}')
    };
    let words: Vec<_> = name.split_whitespace().collect();
    let name: String = words.join(" ").chars().filter(|c| !hidden(*c)).take(LONGEST_NAME).collect();
    if name.is_empty() { "An app without a name".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(body: &Value) -> Result<Value, &'static str> {
        let apps = Apps::new(&[], true);
        apps.register(body.to_string().as_bytes(), &TokenKey::new([7; 32])).map_err(|(error, _)| error)
    }

    #[tokio::test]
    async fn a_registration_is_all_in_its_id() {
        let key = TokenKey::new([7; 32]);
        let answer = registered(&json!({
            "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
            "client_name": "Claude",
            "token_endpoint_auth_method": "client_secret_post",
        }))
        .unwrap();
        let (id, secret) = (answer["client_id"].as_str().unwrap(), answer["client_secret"].as_str().unwrap());
        assert_eq!(answer["client_secret_expires_at"], 0);
        let apps = Apps::new(&[], true);
        let app = apps.find(id, None, &key).await.unwrap();
        assert_eq!((app.name.as_str(), app.kind), ("Claude", Kind::Registered));
        assert!(app.allows(&"https://claude.ai/api/mcp/auth_callback".parse().unwrap()));
        assert!(!app.allows(&"http://localhost/callback".parse().unwrap()), "only what it registered");
        assert!(apps.authentic(id, Some(secret), &key));
        assert!(!apps.authentic(id, Some("x"), &key) && !apps.authentic(id, None, &key));
        let off = Apps::new(&[], false);
        assert!(off.find(id, None, &key).await.is_err() && !off.authentic(id, Some(secret), &key));
        assert!(apps.find(id, None, &TokenKey::new([8; 32])).await.is_err());
    }

    #[test]
    fn what_cannot_be_registered() {
        let uri = "https://a.example/x";
        for (body, error) in [
            (json!([]), "invalid_client_metadata"),
            (json!({}), "invalid_redirect_uri"),
            (json!({"redirect_uris": ["http://a.example/x"]}), "invalid_redirect_uri"),
            (json!({"redirect_uris": [uri, "javascript:x"]}), "invalid_redirect_uri"),
            (json!({"redirect_uris": vec![uri; 9]}), "invalid_redirect_uri"),
            (
                json!({"redirect_uris": vec![format!("https://a.example/{}", "x".repeat(400)); 8]}),
                "invalid_redirect_uri",
            ),
            (
                json!({"redirect_uris": [uri], "token_endpoint_auth_method": "private_key_jwt"}),
                "invalid_client_metadata",
            ),
        ] {
            assert_eq!(registered(&body), Err(error), "{body}");
        }
        let public = registered(&json!({"redirect_uris": [uri], "token_endpoint_auth_method": "none"})).unwrap();
        assert!(public.get("client_secret").is_none());
        assert!(public.as_object().unwrap().values().all(|value| !value.is_null()));
    }

    #[test]
    fn names_are_tamed() {
        assert_eq!(shown(" Claude \n\t Code "), "Claude Code");
        assert_eq!(shown("a\u{202e}b\u{200b}c\u{0}"), "abc");
        assert_eq!(shown("\u{200b}"), "An app without a name");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), LONGEST_NAME);
    }
}
