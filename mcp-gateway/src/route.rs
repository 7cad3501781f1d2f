//! Every path and method, in one match; around it what holds for all of them: the guard, CORS, the access log.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    Gateway,
    access::{Entry, RpcError},
    auth,
    body::{self, Reply},
    guard, mcp,
};

/// How long an answer of `/ready` is given again without asking the core.
const READY: Duration = Duration::from_secs(1);

/// Answers one request.
pub(crate) async fn answer(gateway: &Arc<Gateway>, request: Request<Incoming>, peer: SocketAddr) -> Reply {
    let mut entry = Entry::new(gateway.metrics.clone(), request.method().clone(), known(request.uri().path()));
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let mut reply = match gateway.guard.check(authority, request.headers()) {
        Err(refused) => {
            body::leave_out_of(request).await;
            *refused
        }
        Ok(origin) => {
            let mut reply = if guard::is_preflight(request.method(), request.headers()) {
                guard::preflight(request.headers())
            } else {
                routed(gateway, request, peer, &mut entry).await
            };
            if let Some(origin) = origin {
                guard::allow(&mut reply, origin);
            }
            reply
        }
    };
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    entry.answered(reply.status(), reply.extensions().get::<RpcError>().copied());
    reply.body_mut().log(entry);
    reply
}

async fn routed(gateway: &Arc<Gateway>, request: Request<Incoming>, peer: SocketAddr, entry: &mut Entry) -> Reply {
    let source = || gateway.guard.source(peer.ip(), request.headers());
    let path = known(request.uri().path());
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/health") => {
            body::value(StatusCode::OK, &json!({"status": "ok", "capability_level": gateway.level.number()}))
        }
        (&Method::GET | &Method::HEAD, "/ready") => gateway.readiness.answer(gateway).await,
        (&Method::GET | &Method::HEAD, RESOURCE | RESOURCE_MCP) => {
            gateway.auth.resource_metadata().unwrap_or_else(not_found)
        }
        (&Method::GET | &Method::HEAD, SERVER | OPENID) => gateway.auth.server_metadata().unwrap_or_else(not_found),
        (&Method::GET | &Method::HEAD, AUTHORIZE) if gateway.auth.has_owner() => {
            gateway.auth.authorize(request.uri().query()).await.unwrap_or_else(not_found)
        }
        (&Method::GET | &Method::HEAD, CONNECTIONS) => {
            gateway.auth.connections(request.headers()).unwrap_or_else(not_found)
        }
        (&Method::POST, AUTHORIZE | CONNECTIONS | TOKEN | REVOKE | REGISTER) if gateway.auth.has_oauth() => {
            let source = source();
            let (head, body) = request.into_parts();
            let body = match body::read(body, &head.headers, auth::MAX_BODY).await {
                Ok(body) => body,
                Err(refused) => return *refused,
            };
            let (auth, headers, metrics) = (&gateway.auth, &head.headers, &gateway.metrics);
            let answered = match path {
                AUTHORIZE => auth.decide(headers, &body, source, metrics).await,
                CONNECTIONS => auth.change_connections(headers, &body, source, metrics).await,
                REVOKE => auth.revoke(headers, &body, source, metrics).await,
                REGISTER => auth.register(&body),
                _ => Some(auth.issue(headers, &body, source, metrics).await),
            };
            answered.unwrap_or_else(not_found)
        }
        (&Method::GET | &Method::HEAD, AUTHORIZE) if gateway.auth.has_oauth() => {
            let text =
                "Sign-in with a browser is not set up on this server; clients sign in with their own credentials.";
            body::problem(StatusCode::NOT_FOUND, "unsupported_response_type", text)
        }
        (&(Method::POST | Method::GET | Method::DELETE), "/mcp" | "/") => {
            let caller = match gateway.auth.caller(request.headers(), source(), &gateway.metrics) {
                Ok(caller) => caller,
                Err(refused) => {
                    body::leave_out_of(request).await;
                    return *refused;
                }
            };
            entry.caller = Some(caller.principal.clone());
            match *request.method() {
                Method::POST => mcp::post(gateway, request, &caller, entry).await,
                Method::GET => mcp::get(gateway, request.headers(), &caller),
                _ => mcp::delete(gateway, request.headers(), &caller),
            }
        }
        (_, "/health" | "/ready" | RESOURCE | RESOURCE_MCP | SERVER | OPENID) => not_allowed("GET, HEAD, OPTIONS"),
        (_, TOKEN) if gateway.auth.has_oauth() => not_allowed("POST, OPTIONS"),
        (_, REVOKE | REGISTER) if gateway.auth.has_owner() => not_allowed("POST, OPTIONS"),
        (_, AUTHORIZE | CONNECTIONS) if gateway.auth.has_owner() => not_allowed("GET, HEAD, POST"),
        (_, "/mcp" | "/") => not_allowed("POST, GET, DELETE, OPTIONS"),
        _ => not_found(),
    }
}

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const RESOURCE_MCP: &str = "/.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
const TOKEN: &str = "/oauth/token";
const REVOKE: &str = "/oauth/revoke";
const REGISTER: &str = "/oauth/register";
const AUTHORIZE: &str = "/authorize";
const CONNECTIONS: &str = "/connections";

/// The path, if it is one of ours: what somebody else made up is not repeated in the log.
fn known(path: &str) -> &'static str {
    match path {
        "/" => "/",
        "/mcp" | "/mcp/" => "/mcp",
        "/health" => "/health",
        "/ready" => "/ready",
        TOKEN => TOKEN,
        REVOKE => REVOKE,
        REGISTER => REGISTER,
        AUTHORIZE => AUTHORIZE,
        CONNECTIONS => CONNECTIONS,
        RESOURCE => RESOURCE,
        RESOURCE_MCP => RESOURCE_MCP,
        SERVER => SERVER,
        OPENID => OPENID,
        _ => "(other)",
    }
}

fn not_found() -> Reply {
    body::problem(StatusCode::NOT_FOUND, "not_found", "There is nothing here. The MCP endpoint is /mcp.")
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = body::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not with this method.");
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// Whether a core answers: asked at most once a second, however many ask us.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, bool)>>);

impl Readiness {
    async fn answer(&self, gateway: &Gateway) -> Reply {
        if gateway.stop.is_stopping() {
            return body::value(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "stopping"}));
        }
        let mut last = self.0.lock().await;
        let ready = match *last {
            Some((at, ready)) if at.elapsed() < READY => ready,
            _ => {
                let asked = gateway.pool.ready(gateway.level).await;
                if let Err(why) = &asked {
                    log::warn!("not ready: {why}");
                }
                *last = Some((Instant::now(), asked.is_ok()));
                asked.is_ok()
            }
        };
        if ready {
            body::value(StatusCode::OK, &json!({"status": "ready"}))
        } else {
            body::value(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "the core does not answer"}))
        }
    }
}
