//! The methods: who may call them, with which arguments, and what they return.
//!
//! The order of refusals is the vendor's: unknown method, unknown in this version of the interface, too many anonymous
//! calls, not authenticated, not authorised, arguments, and only then the method itself.

use serde_json::{Value, json};

use super::access::{Verdict, includes};
use super::error::{EACCES, EBUSY, EINVAL, ENOMETHOD, ENOTAUTHENTICATED, EOPNOTSUPP, Issue, RpcError, python};
use super::profile::{Pin, Profile};
use super::query::{Kind, Query, required, wrong};
use super::session::{Login, Session};
use super::{Call, State, TrueNas, dataset, snapshot};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Anyone; counted while anonymous.
    Nothing,
    /// Any user.
    Login,
    /// A user with this role.
    Role(&'static str),
}

fn need(profile: Profile, method: &str) -> Option<Need> {
    let need = match method {
        "core.ping" | "core.set_options" | "auth.login_ex" | "auth.login_with_api_key" | "auth.mechanism_choices" => {
            Need::Nothing
        }
        "auth.logout" | "auth.me" | "core.subscribe" | "core.unsubscribe" | "core.get_jobs" => Need::Login,
        "system.info" | "boot.get_state" => Need::Role("READONLY_ADMIN"),
        "system.version" | "system.version_short" => Need::Role("SYSTEM_GENERAL_READ"),
        "pool.query" | "pool.get_instance" => Need::Role("POOL_READ"),
        "pool.dataset.query" | "pool.dataset.get_instance" => Need::Role("DATASET_READ"),
        "alert.list" => Need::Role("ALERT_LIST_READ"),
        "alert.dismiss" | "alert.restore" => Need::Role("ALERT_LIST_WRITE"),
        _ => {
            let (service, name) = method.rsplit_once('.')?;
            let private = service == "zfs.snapshot" && profile >= Profile::V25_10;
            match (service, name) {
                ("pool.snapshot" | "zfs.snapshot", "query" | "get_instance" | "create" | "delete") if private => {
                    Need::Role("FULL_ADMIN")
                }
                ("pool.snapshot" | "zfs.snapshot", "query" | "get_instance") => Need::Role("SNAPSHOT_READ"),
                ("pool.snapshot" | "zfs.snapshot", "create") => Need::Role("SNAPSHOT_WRITE"),
                ("pool.snapshot" | "zfs.snapshot", "delete") => Need::Role("SNAPSHOT_DELETE"),
                _ => return None,
            }
        }
    };
    profile.has_method(method).then_some(need)
}

/// The positional arguments of the methods that are not queries; all are required.
fn arguments(method: &str) -> Option<&'static [(&'static str, Kind)]> {
    Some(match method {
        "core.ping"
        | "auth.logout"
        | "auth.me"
        | "auth.mechanism_choices"
        | "system.info"
        | "system.version"
        | "system.version_short"
        | "boot.get_state"
        | "alert.list" => &[],
        "auth.login_with_api_key" => &[("api_key", Kind::Text)],
        "auth.login_ex" => &[("login_data", Kind::Object)],
        "core.set_options" => &[("options", Kind::Object)],
        "core.subscribe" => &[("event", Kind::Text)],
        "core.unsubscribe" => &[("id_", Kind::Text)],
        "pool.get_instance" => &[("id", Kind::Int)],
        "pool.dataset.get_instance" | "pool.snapshot.get_instance" | "zfs.snapshot.get_instance" => {
            &[("id", Kind::Text)]
        }
        "alert.dismiss" | "alert.restore" => &[("uuid", Kind::Text)],
        _ => return None,
    })
}

fn check_arguments(profile: Profile, method: &str, params: &[Value]) -> Result<(), RpcError> {
    let Some(expected) = arguments(method) else { return Ok(()) };
    // `auth.*` and `core.*` had the newer models from the beginning.
    let models = profile.has_models() || method.starts_with("auth.") || method.starts_with("core.");
    if params.len() > expected.len() {
        let text = format!("Too many arguments (expected {}, found {})", expected.len(), params.len());
        return Err(RpcError::invalid("", text));
    }
    for (at, (name, kind)) in expected.iter().enumerate() {
        let fits = match (kind, params.get(at)) {
            (_, None) => return Err(RpcError::invalid(*name, required(models))),
            (Kind::Text, Some(value)) => value.is_string(),
            (Kind::Int, Some(value)) => value.is_i64(),
            (Kind::Bool, Some(value)) => value.is_boolean(),
            (Kind::List, Some(value)) => value.is_array(),
            (Kind::Object, Some(value)) => value.is_object(),
        };
        if !fits {
            return Err(RpcError::invalid(*name, wrong(models, *kind)));
        }
    }
    Ok(())
}

impl TrueNas {
    /// Runs one method for a caller, from the first check to the result.
    pub(crate) fn call(&self, session: &mut Session, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        session.hold = std::time::Duration::ZERO;
        let mut state = self.lock();
        state.calls.push(Call { session: session.number, method: method.to_owned(), params: params.to_vec() });
        if let Some(slow) = state.knobs.slow.get(method) {
            session.hold = *slow;
        }
        let need = need(self.profile, method).ok_or(RpcError::NoSuchMethod)?;
        if session.pin.hides(method) {
            let (service, name) = method.rsplit_once('.').unwrap_or(("", method));
            let message = format!("Method '{name}' not found in '{service}'");
            return Err(RpcError::Call { class: "MethodNotFoundError", errno: ENOMETHOD, message });
        }
        match (need, &session.login) {
            (Need::Nothing, None) => {
                let (limit, window, sleep) = state.knobs.rate_limit;
                if !state.access.admit(method, limit, window) {
                    session.hold = sleep;
                    return Err(RpcError::call(EBUSY, "Rate Limit Exceeded"));
                }
            }
            (Need::Nothing, Some(_)) => {}
            (_, None) => return Err(RpcError::call(ENOTAUTHENTICATED, "Not authenticated")),
            (Need::Login, Some(_)) => {}
            (Need::Role(role), Some(login)) => {
                if !state.access.user(&login.user).is_some_and(|user| includes(&user.roles, role)) {
                    return Err(RpcError::call(EACCES, "Not authorized"));
                }
            }
        }
        if let Some((version, model)) = session.pin.missing_model(method) {
            let message = format!("API version '{version}' does not contain model '{model}'");
            return Err(RpcError::Exception { class: "APIVersionDoesNotContainModelException", message });
        }
        if let Some(error) = state.knobs.failures.get(method) {
            return Err(error.clone());
        }
        check_arguments(self.profile, method, params)?;
        self.run(&mut state, session, method, params)
    }

    fn run(&self, state: &mut State, session: &mut Session, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        let profile = self.profile;
        Ok(match method {
            "core.ping" => json!("pong"),
            "core.set_options" => {
                if let (Value::Object(known), Some(Value::Object(given))) = (&mut session.options, params.first()) {
                    for (key, value) in given {
                        known.entry(key.clone()).and_modify(|old| *old = value.clone());
                    }
                }
                session.options.clone()
            }
            "core.subscribe" => self.subscribe(state, session, params)?,
            "core.unsubscribe" => {
                session.subscriptions.retain(|(id, _)| Some(id.as_str()) != params[0].as_str());
                Value::Null
            }
            "core.get_jobs" => Query::read(profile, params)?.apply(state.world.jobs.clone())?,
            "auth.login_with_api_key" => self.login_with_api_key(state, session, params),
            "auth.login_ex" => self.login_ex(state, session, params)?,
            "auth.logout" => {
                session.login = None;
                Value::Bool(true)
            }
            "auth.mechanism_choices" => self.mechanisms(session)?,
            "auth.me" => user_info(state, session),
            "system.info" => self.system_info(),
            "system.version" => json!(profile.long_version()),
            "system.version_short" => json!(profile.long_version().trim_start_matches("TrueNAS-")),
            "boot.get_state" => state.world.boot.boot_state(profile, session.pin),
            "pool.query" => {
                let query = Query::read(profile, params)?;
                let upgraded = query.flag("is_upgraded", false);
                query.apply(state.world.pools.iter().map(|pool| pool.row(profile, session.pin, upgraded)).collect())?
            }
            "pool.get_instance" => {
                let found = state.world.pools.iter().find(|pool| Some(pool.id) == params[0].as_u64());
                let missing = || RpcError::no_instance(format!("Pool {} does not exist", python(&params[0])));
                found.map(|pool| pool.row(profile, session.pin, true)).ok_or_else(missing)?
            }
            "pool.dataset.query" => dataset::query(&state.world, profile, &Query::read(profile, params)?)?,
            "pool.dataset.get_instance" => {
                let query = Query { filters: vec![json!(["id", "=", params[0]])], get: true, ..Query::default() };
                let missing = |_| {
                    let id = params[0].as_str().unwrap_or_default();
                    RpcError::no_instance(format!("PoolDataset {id} does not exist"))
                };
                dataset::query(&state.world, profile, &query).map_err(missing)?
            }
            "alert.list" => state.world.alerts.iter().map(super::alert::Alert::row).collect(),
            "alert.dismiss" | "alert.restore" => {
                let dismissed = method == "alert.dismiss";
                let wanted = params[0].as_str();
                for alert in state.world.alerts.iter_mut().filter(|alert| Some(alert.uuid.as_str()) == wanted) {
                    alert.dismissed = dismissed;
                }
                Value::Null
            }
            _ => self.run_snapshot(state, method, params)?,
        })
    }

    fn run_snapshot(&self, state: &mut State, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        let profile = self.profile;
        let (service, name) = method.rsplit_once('.').ok_or(RpcError::NoSuchMethod)?;
        match name {
            "query" => snapshot::query(&state.world, profile, service, Query::read(profile, params)?),
            "get_instance" => snapshot::get(&state.world, profile, service, params[0].as_str().unwrap_or_default()),
            "create" => {
                let (row, made) = snapshot::create(&mut state.world, profile, service, params)?;
                for id in made {
                    let fields = snapshot::get(&state.world, profile, service, &id)?;
                    state.announce(&format!("{}.query", profile.snapshot_service()), "added", &id, Some(fields));
                }
                Ok(row)
            }
            "delete" => {
                let done = snapshot::delete(&mut state.world, profile, params)?;
                let id = params[0].as_str().unwrap_or_default();
                state.announce(&format!("{}.query", profile.snapshot_service()), "removed", id, None);
                Ok(done)
            }
            _ => Err(RpcError::NoSuchMethod),
        }
    }

    fn subscribe(&self, state: &mut State, session: &mut Session, params: &[Value]) -> Result<Value, RpcError> {
        let event = params[0].as_str().unwrap_or_default();
        let full = session
            .login
            .as_ref()
            .and_then(|login| state.access.user(&login.user))
            .is_some_and(|user| includes(&user.roles, "FULL_ADMIN"));
        if !full && matches!(event, "*" | "auth.sessions") {
            return Err(RpcError::call(EACCES, "Not authorized"));
        }
        state.serial += 1;
        let id = format!("{:08x}-7c11-4f0a-8a52-{:012x}", state.serial, session.number);
        session.subscriptions.push((id.clone(), event.to_owned()));
        Ok(Value::from(id))
    }

    fn login_with_api_key(&self, state: &mut State, session: &mut Session, params: &[Value]) -> Value {
        let key = params[0].as_str().unwrap_or_default();
        state.login_attempts += 1;
        let (_, user) = if state.knobs.standby.is_some() || state.knobs.no_plain_keys {
            (Verdict::Wrong, None)
        } else {
            self.judge(state, key, session.plain)
        };
        let Some(user) = user else {
            // Never an error and never a reason: `false`, late.
            session.hold = session.hold.max(state.knobs.refusal_delay);
            return Value::Bool(false);
        };
        state.logins += 1;
        session.login = Some(Login { user, key: key.to_owned() });
        Value::Bool(true)
    }

    fn judge(&self, state: &mut State, key: &str, plain: bool) -> (Verdict, Option<String>) {
        let owner = |state: &State| {
            state.access.keys.iter().find(|known| known.text == key && known.revoked).map(|known| known.user.clone())
        };
        let revoked_before = owner(state).is_some();
        let verdict = state.access.judge(key, plain, self.profile);
        if let (false, Some(owner)) = (revoked_before, owner(state)) {
            let text = format!("{owner}: API key has been revoked and must either be renewed or deleted.");
            state.raise("ApiKeyRevoked", "WARNING", &text);
        }
        verdict
    }

    fn login_ex(&self, state: &mut State, session: &mut Session, params: &[Value]) -> Result<Value, RpcError> {
        let native = self.profile >= Profile::V26 && session.pin == Pin::Current;
        let data = &params[0];
        let fields: &[&str] = match data["mechanism"].as_str() {
            Some("API_KEY_PLAIN") => &["username", "api_key"],
            Some("PASSWORD_PLAIN") => &["username", "password"],
            Some("TOKEN_PLAIN") => &["token"],
            Some("OTP_TOKEN") => &["otp_token"],
            Some("SCRAM") if native => &["scram_type", "rfc_str"],
            Some(other) => return Err(RpcError::invalid("login_data", unknown_mechanism(other, native))),
            None => {
                let text = "Unable to extract tag using discriminator 'mechanism'";
                return Err(RpcError::invalid("login_data", text));
            }
        };
        let mechanism = data["mechanism"].as_str().unwrap_or_default();
        let mut issues = Vec::new();
        for field in fields {
            let text = match data.get(field) {
                None => required(true).to_owned(),
                Some(Value::String(_)) => continue,
                Some(_) => wrong(true, Kind::Text),
            };
            issues.push(Issue::new(format!("login_data.{mechanism}.{field}"), text));
        }
        for key in data.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !fields.contains(&key.as_str()) && !matches!(key.as_str(), "mechanism" | "login_options") {
                issues.push(Issue::new(format!("login_data.{mechanism}.{key}"), "Extra inputs are not permitted"));
            }
        }
        if !issues.is_empty() {
            return Err(RpcError::Invalid(issues));
        }
        if mechanism == "OTP_TOKEN" {
            return Err(RpcError::call(EINVAL, "OTP_TOKEN: no authentication in progress"));
        }
        if state.knobs.no_plain_keys && mechanism == "API_KEY_PLAIN" {
            let text = "API_KEY_PLAIN: mechanism is not supported at current authenticator level.";
            return Err(RpcError::call(EOPNOTSUPP, text));
        }
        state.login_attempts += 1;
        if let Some(urls) = &state.knobs.standby {
            return Ok(json!({"response_type": "REDIRECT", "urls": urls}));
        }
        if let Some(answer) = &state.knobs.login_answer {
            return Ok(answer.clone());
        }
        // No user of the stand-in has a password, and no token is ever given out.
        let key = data["api_key"].as_str().unwrap_or_default();
        let owner = state.access.keys.iter().find(|known| known.text == key).map(|known| known.user.clone());
        let (verdict, user) = if mechanism == "API_KEY_PLAIN" && owner.as_deref() == data["username"].as_str() {
            self.judge(state, key, session.plain)
        } else {
            (Verdict::Wrong, None)
        };
        if let (Verdict::Welcome, Some(user)) = (verdict, user) {
            state.logins += 1;
            session.login = Some(Login { user, key: key.to_owned() });
            let told = data["login_options"]["user_info"].as_bool().unwrap_or(true);
            let info = if told { user_info(state, session) } else { Value::Null };
            let mut answer = json!({"response_type": "SUCCESS", "user_info": info, "authenticator": "LEVEL_1"});
            if native {
                answer["reconnect_token"] = Value::Null;
            }
            return Ok(answer);
        }
        session.hold = session.hold.max(state.knobs.refusal_delay);
        let word = match verdict {
            Verdict::Expired => "EXPIRED",
            Verdict::Powerless if native => "DENIED",
            _ => "AUTH_ERR",
        };
        Ok(json!({"response_type": word}))
    }

    fn mechanisms(&self, session: &Session) -> Result<Value, RpcError> {
        if self.profile >= Profile::V26 {
            return Ok(json!(["API_KEY_PLAIN", "TOKEN_PLAIN", "PASSWORD_PLAIN", "SCRAM"]));
        }
        if session.login.is_none() {
            let message = "'NoneType' object has no attribute 'may_create_auth_token'".to_owned();
            return Err(RpcError::Exception { class: "AttributeError", message });
        }
        Ok(json!(["API_KEY_PLAIN", "TOKEN_PLAIN", "PASSWORD_PLAIN"]))
    }

    fn system_info(&self) -> Value {
        let now = super::world::now_millis();
        let up = self.started.elapsed().as_secs_f64() + 1_048_215.25;
        let mut info = json!({
            "version": self.profile.info_version(),
            "buildtime": {"$date": 1_788_000_000_000_i64},
            "hostname": "attic-nas",
            "physmem": 68_632_453_120_u64,
            "model": "AMD EPYC 3151 4-Core Processor",
            "cores": 8,
            "physical_cores": 4,
            "loadavg": [0.61, 0.48, 0.4],
            "uptime": "12 days, 3:10:15.250000",
            "uptime_seconds": up,
            "system_serial": null,
            "system_product": "EPYC3000D4I",
            "system_product_version": null,
            "license": null,
            "boottime": {"$date": now - (up * 1000.0) as i64},
            "datetime": {"$date": now},
            "timezone": "Europe/Berlin",
            "system_manufacturer": "Lab",
            "ecc_memory": true,
        });
        if let (Profile::Core13, Value::Object(info)) = (self.profile, &mut info) {
            info.remove("physical_cores");
            info.insert("birthday".to_owned(), json!({"$date": 1_512_000_000_000_i64}));
        }
        info
    }
}

fn unknown_mechanism(given: &str, native: bool) -> String {
    let mut names = vec!["API_KEY_PLAIN", "PASSWORD_PLAIN", "TOKEN_PLAIN", "OTP_TOKEN"];
    if native {
        names.push("SCRAM");
    }
    let tag = |name: &&str| if native { format!("'{name}'") } else { format!("<AuthMech.{name}: '{name}'>") };
    let tags = names.iter().map(tag).collect::<Vec<_>>().join(", ");
    format!("Input tag '{given}' found using 'mechanism' does not match any of the expected tags: {tags}")
}

fn user_info(state: &State, session: &Session) -> Value {
    let name = session.login.as_ref().map_or("", |login| login.user.as_str());
    let roles = state.access.user(name).map(|user| user.roles.clone()).unwrap_or_default();
    json!({
        "pw_name": name,
        "pw_gecos": "",
        "pw_dir": "/var/empty",
        "pw_shell": "/usr/sbin/nologin",
        "pw_uid": 3000,
        "pw_gid": 3000,
        "grouplist": null,
        "sid": null,
        "source": "LOCAL",
        "local": true,
        "attributes": {},
        "two_factor_config": {
            "provisioning_uri": null, "secret_configured": false, "interval": 30, "otp_digits": 6,
        },
        "privilege": {"roles": {"$set": roles}, "allowlist": [], "web_shell": false, "webui_access": true},
        "account_attributes": ["LOCAL", "API_KEY"],
    })
}
