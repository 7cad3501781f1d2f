//! REST v2.0: the same methods under paths, for the releases that have it.

use serde_json::{Map, Value, json};

use super::TrueNas;
use super::access::Verdict;
use super::error::{pretty, text};
use super::profile::{Pin, Profile};
use super::session::{Login, Session};
use crate::message::{Reply, Request};

/// What a path and a verb stand for.
struct Route {
    method: String,
    params: Vec<Value>,
}

impl TrueNas {
    /// Answers a path below `/api/v2.0`, which `path` is without.
    pub(super) fn rest(&self, request: &Request, path: &str) -> Reply {
        let path = path.trim_end_matches('/');
        let route = match self.route(request, path) {
            Ok(route) => route,
            Err(reply) => return reply,
        };
        let mut session = Session::new(0, Pin::Current, false);
        match self.authenticate(request) {
            Ok(login) => session.login = Some(login),
            Err(reply) => return reply,
        }
        if self.profile >= Profile::V25_10 {
            self.lock().complain_about_rest();
        }
        let route = match route {
            Some(route) => route,
            None if self.profile >= Profile::V25_10 => return broken(),
            None => return pretty(400, &json!({"message": "Expecting value: line 1 column 1 (char 0)"})),
        };
        let result = self.call(&mut session, &route.method, &route.params);
        let reply = match result {
            Ok(result) => pretty(200, &result),
            Err(error) => error.to_reply(),
        };
        if session.hold.is_zero() { reply } else { reply.after(session.hold) }
    }

    /// Paths are matched before anybody asks who calls. `None`: the body is no JSON.
    fn route(&self, request: &Request, path: &str) -> Result<Option<Route>, Reply> {
        let plain = |method: &str| Ok(Some(Route { method: method.to_owned(), params: Vec::new() }));
        let verb = request.method.as_str();
        let service = self.profile.snapshot_service();
        let snapshots = format!("/{}", service.replace('.', "/"));
        let only = |allowed: &'static str| if verb == allowed { Ok(()) } else { Err(not_allowed(allowed)) };
        let table = [
            ("/system/info", "system.info"),
            ("/system/version", "system.version"),
            ("/alert/list", "alert.list"),
            ("/boot/get_state", "boot.get_state"),
            ("/core/ping", "core.ping"),
        ];
        if let Some((_, method)) = table.iter().find(|(known, _)| *known == path) {
            only("GET")?;
            return plain(method);
        }
        let listed = match path {
            "/pool" => Some("pool.query"),
            "/pool/dataset" => Some("pool.dataset.query"),
            "/core/get_jobs" => Some("core.get_jobs"),
            _ => None,
        };
        if let Some(method) = listed {
            only("GET")?;
            return Ok(Some(Route { method: method.to_owned(), params: arguments(request.query()) }));
        }
        if path == "/alert/dismiss" || path == "/alert/restore" {
            only("POST")?;
            return Ok(body(request).map(|uuid| Route { method: path[1..].replace('/', "."), params: vec![uuid] }));
        }
        if path == snapshots {
            return match verb {
                "GET" => Ok(Some(Route { method: format!("{service}.query"), params: arguments(request.query()) })),
                "POST" => {
                    Ok(body(request).map(|data| Route { method: format!("{service}.create"), params: vec![data] }))
                }
                _ => Err(not_allowed("GET,POST")),
            };
        }
        let entity = |base: &str| {
            let id = path.strip_prefix(base)?.strip_prefix("/id/")?;
            // A slash that is not encoded makes it another path.
            (!id.is_empty() && !id.contains('/')).then(|| decode(id))
        };
        let one = |method: &str, id: Value| {
            let params = vec![json!([["id", "=", id]]), json!({"get": true})];
            Ok(Some(Route { method: method.to_owned(), params }))
        };
        if let Some(id) = entity("/pool") {
            only("GET")?;
            return one("pool.query", convert(&id));
        }
        if let Some(id) = entity("/pool/dataset") {
            only("GET")?;
            return one("pool.dataset.query", Value::from(id));
        }
        if let Some(id) = entity(&snapshots) {
            return match verb {
                "GET" => one(&format!("{service}.query"), Value::from(id)),
                "DELETE" => Ok(Some(Route { method: format!("{service}.delete"), params: vec![Value::from(id)] })),
                _ => Err(not_allowed("DELETE,GET")),
            };
        }
        Err(text(404, "404: Not Found"))
    }

    fn authenticate(&self, request: &Request) -> Result<Login, Reply> {
        let mut state = self.lock();
        if state.knobs.address_denied {
            return Err(text(403, "You are not allowed to access this resource"));
        }
        let Some(header) = request.header("Authorization") else { return Err(text(401, "401: Unauthorized")) };
        match header.split_once(' ') {
            Some(("Bearer", key)) => {
                state.login_attempts += 1;
                let number = key.split_once('-').and_then(|(id, _)| id.parse::<u32>().ok());
                let Some(number) = number else { return Err(text(401, "Invalid API key")) };
                if !state.access.keys.iter().any(|known| known.id == number) {
                    return Err(broken());
                }
                match state.access.judge(key, false, self.profile) {
                    (Verdict::Welcome, Some(user)) => {
                        state.logins += 1;
                        Ok(Login { user, key: key.to_owned() })
                    }
                    _ => Err(text(401, "Invalid API key")),
                }
            }
            Some(("Basic", value)) => {
                use base64::Engine as _;
                let decoded = base64::engine::general_purpose::STANDARD.decode(value.trim());
                match decoded {
                    Ok(pair) if pair.contains(&b':') => Err(text(401, "Bad username or password")),
                    _ => Err(broken()),
                }
            }
            Some(("Token", _)) => Err(text(403, "Invalid token")),
            _ => Err(text(401, "401: Unauthorized")),
        }
    }
}

fn broken() -> Reply {
    text(500, "500 Internal Server Error\n\nServer got itself in trouble")
}

fn not_allowed(allowed: &str) -> Reply {
    text(405, "405: Method Not Allowed").header("Allow", allowed)
}

/// The JSON body; an empty one is an empty object.
fn body(request: &Request) -> Option<Value> {
    if request.body.is_empty() { Some(json!({})) } else { serde_json::from_slice(&request.body).ok() }
}

/// `?name=tank&limit=2&extra.flat=false` as filters and options.
fn arguments(query: &str) -> Vec<Value> {
    let mut filters = Vec::new();
    let mut options = Map::new();
    let mut extra = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")));
        if let Some(name) = key.strip_prefix("extra.") {
            extra.insert(name.to_owned(), convert(&value));
        } else if matches!(key.as_str(), "limit" | "offset" | "count") {
            options.insert(key, convert(&value));
        } else if key == "sort" {
            // Passed on under this name, which no method knows.
            options.insert(key, value.split(',').collect());
        } else {
            let (field, operator) = key.split_once("__").unwrap_or((&key, "eq"));
            let operator = match operator {
                "eq" => "=",
                "neq" => "!=",
                "gt" => ">",
                "gte" => ">=",
                "lt" => "<",
                "lte" => "<=",
                "regex" => "~",
                "startswith" => "^",
                "endswith" => "$",
                other => other,
            };
            filters.push(json!([field, operator, convert(&value)]));
        }
    }
    if !extra.is_empty() {
        options.insert("extra".to_owned(), Value::Object(extra));
    }
    vec![Value::Array(filters), Value::Object(options)]
}

fn convert(text: &str) -> Value {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from);
    }
    match text.to_ascii_lowercase().as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        _ => Value::from(text),
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
