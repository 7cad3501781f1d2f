//! The documents by which clients find out how to sign in (RFC 9728, RFC 8414). Made from PUBLIC_URL only, never from
//! what a request says of itself.

use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use serde_json::json;

use super::{Auth, authorize, scopes};
use crate::body::{self, Reply};

/// Of the resource `<issuer>/mcp`: its path goes behind the well-known part.
pub(super) const RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource/mcp";

impl Auth {
    /// Which resource this is and who issues tokens for it; nothing when OAuth is not configured.
    pub(crate) fn resource_metadata(&self) -> Option<Reply> {
        let names = scopes(self.suggested()?);
        Some(cached(body::value(
            StatusCode::OK,
            &json!({
                "resource": self.resource,
                "resource_name": "homelab-mcp",
                "authorization_servers": [self.issuer.as_str()],
                "scopes_supported": names.split(' ').collect::<Vec<_>>(),
                "bearer_methods_supported": ["header"],
            }),
        )))
    }

    /// What the authorization server can do; nothing when OAuth is not configured.
    pub(crate) fn server_metadata(&self) -> Option<Reply> {
        let names = scopes(self.offered()?);
        let mut metadata = json!({
            "issuer": self.issuer.as_str(),
            // RFC 8414 wants none without the owner's page, but the Python client reads no document without it.
            "authorization_endpoint": format!("{}/authorize", self.issuer),
            "token_endpoint": format!("{}/oauth/token", self.issuer),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": names.split(' ').collect::<Vec<_>>(),
        });
        if let Some(owner) = &self.owner {
            authorize::describe(&mut metadata, &self.issuer, self.client.is_some(), owner.apps.registers());
        }
        Some(cached(body::value(StatusCode::OK, &metadata)))
    }
}

fn cached(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    reply
}
