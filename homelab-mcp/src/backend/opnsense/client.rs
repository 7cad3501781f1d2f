//! How the firewall wants to be asked: paths in two spellings, Basic authentication, and what its refusals mean. Facts
//! are from the vendor's running API, 24.1 to 26.7.
//!
//! - Privileges are patterns over the raw path. From 25.7 they are written in snake_case, before in camelCase, and a key
//!   that does not have "All pages" gets 403 for the other spelling; 24.1 answers 400 to a spelling it does not know. So a
//!   GET is tried in both, and the one that worked is tried first from then on.
//! - Patterns are exact: an added `?`, a slash at the end, anything encoded is another path, and is refused.
//! - 200 is not success: an empty body means that the firewall's own backend failed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use shared::Secret;

use super::model::{self, Activity, Disk, Firmware, Gateways, Memory, Notice, Service, Uptime};
use crate::{
    config::appliances,
    error::{Fault, Kind},
    http::{Door, Request, Response, text::vendor_text},
    proof,
};

/// The firewall restarts a service before it answers.
const RESTART: Duration = Duration::from_secs(120);

const CONFIGD: &str = "Look whether configd runs: System > Diagnostics > Services.";

/// An endpoint, and the privilege that opens it as the firewall's user manager names it.
struct Endpoint {
    snake: &'static str,
    /// Before 25.7; the same where a path has one word per segment.
    camel: &'static str,
    privilege: &'static str,
}

impl Endpoint {
    const fn one(path: &'static str, privilege: &'static str) -> Self {
        Self { snake: path, camel: path, privilege }
    }
}

/// Of what the dashboard shows.
pub(super) const DASHBOARD: &str = "Lobby: Dashboard";
pub(super) const FIRMWARE: &str = "System: Firmware";
pub(super) const ACTIVITY: &str = "Diagnostics: System Activity";
pub(super) const GATEWAYS: &str = "System: Gateways";
pub(super) const SERVICES: &str = "Status: Services";
pub(super) const NOTICES: &str = "System: Status";

/// One OPNsense.
pub(crate) struct Opnsense {
    door: Door,
    /// The header's value.
    authorization: Secret,
    /// The spelling that worked last.
    camel: AtomicBool,
    /// It took the key the last time it was asked.
    signed_in: AtomicBool,
}

/// What became of a restart request.
pub(super) enum Restarted {
    /// It says "ok", which it says to everything.
    Answered,
    /// Sent, and no answer that tells anything.
    Unsure(Fault),
}

impl Opnsense {
    pub(crate) fn new(config: &appliances::Opnsense) -> Self {
        let pair = format!("{}:{}", config.api_key.expose(), config.api_secret.expose());
        Self {
            door: Door::new(&config.address),
            authorization: Secret::new(format!("Basic {}", STANDARD.encode(pair))),
            camel: AtomicBool::new(false),
            signed_in: AtomicBool::new(false),
        }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> String {
        self.door.place()
    }

    /// For one request.
    pub(super) fn timeout(&self) -> Duration {
        self.door.timeout()
    }

    /// Whether it took the key the last time. A wrong one costs two seconds and a line in its log per request, so one
    /// request tries it before many do.
    pub(super) fn signed_in(&self) -> bool {
        self.signed_in.load(Ordering::Relaxed)
    }

    /// Version, and updates as of the last check.
    pub(super) async fn firmware(&self) -> Result<Firmware, Fault> {
        let value = self.get(&Endpoint::one("core/firmware/status", FIRMWARE)).await?;
        let firmware = model::firmware(&value).ok_or_else(|| unfit("core/firmware/status"))?;
        if firmware == Firmware::default() {
            return Err(
                Fault::new(Kind::Upstream, "the firewall could not tell the state of its firmware").hint(CONFIGD)
            );
        }
        Ok(firmware)
    }

    /// The version, where the firmware's page is not open to the key. Since 24.7.
    pub(super) async fn version(&self) -> Result<String, Fault> {
        let endpoint = Endpoint {
            snake: "diagnostics/system/system_information",
            camel: "diagnostics/system/systemInformation",
            privilege: DASHBOARD,
        };
        let value = self.get(&endpoint).await?;
        model::version(&value).ok_or_else(|| unfit(endpoint.snake))
    }

    /// Since 24.7.
    pub(super) async fn uptime(&self) -> Result<Uptime, Fault> {
        let endpoint = Endpoint {
            snake: "diagnostics/system/system_time",
            camel: "diagnostics/system/systemTime",
            privilege: DASHBOARD,
        };
        let value = self.get(&endpoint).await?;
        model::uptime(&value).ok_or_else(|| unfit(endpoint.snake))
    }

    /// Since 24.7.
    pub(super) async fn memory(&self) -> Result<Memory, Fault> {
        let endpoint = Endpoint {
            snake: "diagnostics/system/system_resources",
            camel: "diagnostics/system/systemResources",
            privilege: DASHBOARD,
        };
        let value = self.get(&endpoint).await?;
        model::memory(&value).ok_or_else(|| {
            Fault::new(Kind::Upstream, "the firewall could not measure it").hint("Look at its dashboard.")
        })
    }

    /// Since 24.7.
    pub(super) async fn disks(&self) -> Result<Vec<Disk>, Fault> {
        let endpoint = Endpoint {
            snake: "diagnostics/system/system_disk",
            camel: "diagnostics/system/systemDisk",
            privilege: DASHBOARD,
        };
        let value = self.get(&endpoint).await?;
        let disks = model::disks(&value);
        if disks.is_empty() {
            return Err(Fault::new(Kind::Upstream, "the firewall measured no disk, so its backend failed"));
        }
        Ok(disks)
    }

    /// The header lines of `top`, measured over two seconds: CPU, load, memory, uptime. In every version.
    pub(super) async fn activity(&self) -> Result<Activity, Fault> {
        let endpoint = Endpoint {
            snake: "diagnostics/activity/get_activity",
            camel: "diagnostics/activity/getActivity",
            privilege: ACTIVITY,
        };
        let value = self.get(&endpoint).await?;
        model::activity(&value).ok_or_else(|| unfit(endpoint.snake))
    }

    /// CPU use of one second, from the dashboard's endless stream. Since 24.7.
    pub(super) async fn cpu_percent(&self) -> Result<f64, Fault> {
        let path = "diagnostics/cpu_usage/stream";
        let request = self.request(Request::get(format!("/api/{path}"))).until(|body| model::cpu_event(body).is_some());
        let answer = self.door.read(request).await?;
        if !answer.is_success() {
            return Err(refusal(&answer, DASHBOARD));
        }
        model::cpu_event(&answer.body).ok_or_else(|| unfit(path))
    }

    pub(super) async fn gateways(&self) -> Result<Gateways, Fault> {
        let value = self.get(&Endpoint::one("routes/gateway/status", GATEWAYS)).await?;
        model::gateways(&value).ok_or_else(|| {
            Fault::new(Kind::Upstream, "the firewall reports no gateway: it has none, or could not ask its monitors")
        })
    }

    /// What its own checks found.
    pub(super) async fn notices(&self) -> Result<Vec<Notice>, Fault> {
        let value = self.get(&Endpoint::one("core/system/status", NOTICES)).await?;
        model::notices(&value).ok_or_else(|| Fault::new(Kind::Upstream, "the firewall could not run its own checks"))
    }

    /// All services, by id.
    pub(super) async fn services(&self) -> Result<Vec<Service>, Fault> {
        self.services_within(self.timeout()).await
    }

    /// The same, in less time than usual.
    pub(super) async fn services_within(&self, limit: Duration) -> Result<Vec<Service>, Fault> {
        let path = "core/service/search";
        // Without a body it would give a page of its own choosing.
        let all = json!({"current": 1, "rowCount": -1, "searchPhrase": "", "sort": {}});
        let request = Request::post(format!("/api/{path}")).json(&all).timeout(limit);
        let value = self.ask(request, SERVICES).await?;
        let services = model::services(&value).ok_or_else(|| unfit(path))?;
        // There is always one: configd, which makes the list.
        if services.is_empty() {
            return Err(
                Fault::new(Kind::Upstream, "the firewall lists no service at all, so its backend failed").hint(CONFIGD)
            );
        }
        Ok(services)
    }

    /// Restarts a service by its id, which must be from the list: what the firewall does not know it "restarts" too.
    pub(super) async fn restart(&self, proof: &proof::Change, id: &ServiceId) -> Result<Restarted, Fault> {
        let request = Request::post(format!("/api/core/service/restart/{}", id.0)).timeout(RESTART);
        let answer = match self.door.change(proof, self.request(request)).await {
            Ok(answer) => answer,
            Err(fault) if fault.kind == Kind::TimedOut => return Ok(Restarted::Unsure(fault)),
            Err(fault) => return Err(fault),
        };
        match answer.status {
            // Refused before anything was done.
            300..=499 => return Err(self.noticed(refusal(&answer, SERVICES))),
            200..=299 => {}
            _ => return Ok(Restarted::Unsure(refusal(&answer, SERVICES))),
        }
        match content(&answer) {
            Ok(value) => match value.get("result").and_then(Value::as_str) {
                Some(word) if word.eq_ignore_ascii_case("ok") => Ok(Restarted::Answered),
                Some(word) => Err(Fault::new(Kind::Upstream, format!("the firewall answered `{}`", vendor_text(word)))),
                None => Ok(Restarted::Unsure(unfit("core/service/restart"))),
            },
            Err(fault) => Ok(Restarted::Unsure(fault)),
        }
    }

    async fn get(&self, endpoint: &Endpoint) -> Result<Value, Fault> {
        let ask = |camel: bool| {
            let path = if camel { endpoint.camel } else { endpoint.snake };
            self.ask(Request::get(format!("/api/{path}")), endpoint.privilege)
        };
        let camel = self.camel.load(Ordering::Relaxed);
        let first = match ask(camel).await {
            Err(fault)
                if endpoint.snake != endpoint.camel && matches!(fault.kind, Kind::Forbidden | Kind::NotFound) =>
            {
                fault
            }
            done => return done,
        };
        match ask(!camel).await {
            Ok(value) => {
                self.camel.store(!camel, Ordering::Relaxed);
                Ok(value)
            }
            // A 403 proves that the endpoint is there, so it says more than a 404.
            Err(second) if first.kind == Kind::NotFound => Err(second),
            Err(second) if matches!(second.kind, Kind::Forbidden | Kind::NotFound) => Err(first),
            Err(second) => Err(second),
        }
    }

    async fn ask(&self, request: Request, privilege: &str) -> Result<Value, Fault> {
        let answer = match self.door.read(self.request(request)).await {
            Ok(answer) => answer,
            Err(fault) => return Err(self.noticed(fault)),
        };
        let result = if answer.is_success() { content(&answer) } else { Err(refusal(&answer, privilege)) };
        // It looks at the key after it found the endpoint, and before it looks at privileges.
        if result.is_ok() || answer.status == 403 {
            self.signed_in.store(true, Ordering::Relaxed);
        }
        result.map_err(|fault| self.noticed(fault))
    }

    fn request(&self, request: Request) -> Request {
        request.secret_header("authorization", self.authorization.clone())
    }

    /// After these the next look tries with one request again.
    fn noticed(&self, fault: Fault) -> Fault {
        if is_about_all(&fault) {
            self.signed_in.store(false, Ordering::Relaxed);
        }
        fault
    }
}

/// Whether every other request would fail in the same way: no connection, no trust, no key.
pub(super) fn is_about_all(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Unreachable | Kind::NotConfigured)
}

/// A service id that may stand in a path. The firewall decodes nothing, so what would need encoding is no service there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceId(String);

impl std::str::FromStr for ServiceId {
    type Err = String;

    /// `name` or `name/instance`.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &str| {
            !part.is_empty()
                // An option of the program that restarts it, or a way up.
                && !part.starts_with(['-', '.'])
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-".contains(&b))
        };
        let parts: Vec<_> = text.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| plain(part)) || text.len() > 200 {
            let shown: String = vendor_text(text).chars().take(60).collect();
            return Err(format!(
                "`{shown}` cannot be a service: ids are `name` or `name/instance` of A-Z a-z 0-9 _ : . -"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for ServiceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The JSON of a 200.
fn content(answer: &Response) -> Result<Value, Fault> {
    if answer.body.trim_ascii().is_empty() {
        return Err(
            Fault::new(Kind::Upstream, "the firewall answered with nothing, so its backend failed").hint(CONFIGD)
        );
    }
    if is_page(answer) {
        return Err(Fault::new(Kind::Malformed, format!("{} answered with {}", answer.member, page(answer)))
            .hint("Something else may answer at this address: a proxy, a login page, another service."));
    }
    answer.json()
}

/// What a status other than 2xx means here.
fn refusal(answer: &Response, privilege: &str) -> Fault {
    let said = message(answer);
    match answer.status {
        401 => Fault::new(Kind::NotConfigured, "the firewall does not accept the API key")
            .hint("Check OPNSENSE_API_KEY and OPNSENSE_API_SECRET; the key's user may also be disabled or expired."),
        403 => Fault::new(Kind::Forbidden, format!("the API key's user lacks the privilege \"{privilege}\"")).hint(
            "Grant it at System > Access > Users; a group that is limited to other networks is refused in the same way.",
        ),
        // 24.1 says 400 where the others say 404.
        400 | 404 => Fault::new(Kind::NotFound, format!("the firewall has no such call ({}{said})", answer.status))
            .hint("Its version may be older, or OPNSENSE_HOST may be something else."),
        300..=399 => {
            let to = answer.location.as_deref().map(vendor_text).unwrap_or_default();
            let to: String = to.chars().take(100).collect();
            Fault::new(Kind::Malformed, format!("{} answered {} to `{to}`", answer.member, answer.status))
                .hint("It did not take this for a call of its API: check that OPNSENSE_HOST is the firewall itself.")
        }
        status => Fault::new(Kind::Upstream, format!("the firewall answered {status}{said}"))
            .hint("Its log (System > Log Files > General) may say more."),
    }
}

/// Its own words, if there are any, with a separator before them.
fn message(answer: &Response) -> String {
    let text = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(value) => {
            let said = ["errorTitle", "errorMessage", "message"].iter().filter_map(|name| value.get(*name)?.as_str());
            said.map(vendor_text).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
        }
        Err(_) if is_page(answer) => page(answer),
        Err(_) => vendor_text(&String::from_utf8_lossy(&answer.body)),
    };
    if text.is_empty() { text } else { format!(": {}", text.chars().take(300).collect::<String>()) }
}

fn is_page(answer: &Response) -> bool {
    answer.body.trim_ascii_start().starts_with(b"<")
}

/// A page in a few words.
fn page(answer: &Response) -> String {
    let words = vendor_text(&String::from_utf8_lossy(&answer.body));
    let words: String = words.chars().take(80).collect();
    format!("an HTML page (`{words}`)")
}

fn unfit(path: &str) -> Fault {
    Fault::new(Kind::Malformed, format!("the answer to {path} has not what it should have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_service_goes_into_a_path() {
        for id in ["unbound", "kea-dhcp/v4", "dpinger/:watcher:", "dpinger/WAN_GW", "syslog-ng", "a.b"] {
            assert_eq!(id.parse::<ServiceId>().map(|id| id.to_string()).as_deref(), Ok(id));
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "..",
            ".",
            "a/..",
            "../search",
            "a/b/c",
            "a b",
            "a%20",
            "a?x=1",
            "a#",
            "-S",
            "a/-h",
            "Gäste",
            "a\n",
            "a;id",
            "$(id)",
            "a'",
        ] {
            assert!(bad.parse::<ServiceId>().is_err(), "{bad}");
        }
        assert!("x".repeat(201).parse::<ServiceId>().unwrap_err().len() < 200);
    }

    fn answer(status: u16, body: &str) -> Response {
        Response {
            status,
            reason: String::new(),
            content_type: String::new(),
            location: (status == 302).then(|| "/?url=/api/core/service/search".to_owned()),
            body: body.as_bytes().to_vec(),
            member: "fw:443".to_owned(),
        }
    }

    #[test]
    fn refusals_are_told_in_the_firewalls_words_or_ours_and_pages_are_not_dumped() {
        let page = format!(
            "<?xml version=\"1.0\"?><html><head><title>411</title></head><body><h1>411 Length Required</h1>{}</body></html>",
            "x ".repeat(500)
        );
        for (status, body, kind, part) in [
            (401, r#"{"status":401,"message":"Authentication Failed"}"#, Kind::NotConfigured, "OPNSENSE_API_KEY"),
            (403, r#"{"status":403,"message":"Forbidden"}"#, Kind::Forbidden, "\"Status: Services\""),
            (404, r#"{"errorMessage":"Endpoint not found"}"#, Kind::NotFound, "404: Endpoint not found"),
            (400, r#"{"message":"action fooAction not found","status":400}"#, Kind::NotFound, "fooAction"),
            (302, "", Kind::Malformed, "`/?url=/api/core/service/search`"),
            (
                500,
                r#"{"errorMessage":"Invalid &amp; &lt;b&gt;","errorTitle":"Sorry"}"#,
                Kind::Upstream,
                "Sorry: Invalid & <b>",
            ),
            (411, &page, Kind::Upstream, "an HTML page (`411 Length Required"),
            (503, "", Kind::Upstream, "answered 503"),
        ] {
            let fault = refusal(&answer(status, body), "Status: Services");
            let told = fault.with_advice();
            assert!(fault.kind == kind && told.contains(part) && told.len() < 300, "{told}");
        }
        assert_eq!(content(&answer(200, " \n")).unwrap_err().kind, Kind::Upstream);
        let fault = content(&answer(200, &page)).unwrap_err();
        assert!(fault.kind == Kind::Malformed && fault.cause.len() < 200, "{fault}");
        assert_eq!(content(&answer(200, "[]")).unwrap(), json!([]));
    }
}
