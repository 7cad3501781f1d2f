//! From a URL to an endpoint, by the rules of the release: the vendor's own router (24.7 and later) and Phalcon's (24.1).
//!
//! Nothing is ever percent-decoded, and routing comes before authentication in every release.

use super::profile::Profile;

/// What the stand-in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `core/firmware/status`
    FirmwareStatus,
    /// `core/firmware/running`
    FirmwareRunning,
    /// `diagnostics/system/memory`
    Memory,
    /// `diagnostics/system/system_information`
    SystemInformation,
    /// `diagnostics/system/system_time`
    SystemTime,
    /// `diagnostics/system/system_resources`
    SystemResources,
    /// `diagnostics/system/system_disk`
    SystemDisk,
    /// `diagnostics/system/system_swap`
    SystemSwap,
    /// `diagnostics/system/system_temperature`
    SystemTemperature,
    /// `diagnostics/activity/get_activity`
    Activity,
    /// `diagnostics/cpu_usage/stream`
    CpuStream,
    /// `diagnostics/cpu_usage/get_c_p_u_type`
    CpuType,
    /// `routes/gateway/status`
    GatewayStatus,
    /// `core/service/search`
    ServiceSearch,
    /// `core/service/start/{name}[/{id}]`
    ServiceStart,
    /// `core/service/restart/{name}[/{id}]`
    ServiceRestart,
    /// `core/service/stop/{name}[/{id}]`
    ServiceStop,
    /// `core/system/status`
    SystemStatus,
}

struct Known {
    module: &'static str,
    /// As the class is called, without `Controller`.
    controller: &'static str,
    /// As the method is called, without `Action`.
    action: &'static str,
    parameters: usize,
    since: Profile,
    endpoint: Endpoint,
}

const fn known(
    module: &'static str,
    controller: &'static str,
    action: &'static str,
    parameters: usize,
    since: Profile,
    endpoint: Endpoint,
) -> Known {
    Known { module, controller, action, parameters, since, endpoint }
}

const KNOWN: [Known; 18] = [
    known("core", "Firmware", "status", 0, Profile::V24_1, Endpoint::FirmwareStatus),
    known("core", "Firmware", "running", 0, Profile::V24_1, Endpoint::FirmwareRunning),
    known("core", "Service", "search", 0, Profile::V24_1, Endpoint::ServiceSearch),
    known("core", "Service", "start", 1, Profile::V24_1, Endpoint::ServiceStart),
    known("core", "Service", "restart", 1, Profile::V24_1, Endpoint::ServiceRestart),
    known("core", "Service", "stop", 1, Profile::V24_1, Endpoint::ServiceStop),
    known("core", "System", "status", 0, Profile::V24_1, Endpoint::SystemStatus),
    known("diagnostics", "Activity", "getActivity", 0, Profile::V24_1, Endpoint::Activity),
    known("diagnostics", "System", "memory", 0, Profile::V24_1, Endpoint::Memory),
    known("diagnostics", "System", "systemInformation", 0, Profile::V24_7, Endpoint::SystemInformation),
    known("diagnostics", "System", "systemTime", 0, Profile::V24_7, Endpoint::SystemTime),
    known("diagnostics", "System", "systemResources", 0, Profile::V24_7, Endpoint::SystemResources),
    known("diagnostics", "System", "systemDisk", 0, Profile::V24_7, Endpoint::SystemDisk),
    known("diagnostics", "System", "systemSwap", 0, Profile::V24_7, Endpoint::SystemSwap),
    known("diagnostics", "System", "systemTemperature", 0, Profile::V24_7, Endpoint::SystemTemperature),
    known("diagnostics", "CpuUsage", "stream", 0, Profile::V24_7, Endpoint::CpuStream),
    known("diagnostics", "CpuUsage", "getCPUType", 0, Profile::V24_7, Endpoint::CpuType),
    known("routes", "Gateway", "status", 0, Profile::V24_1, Endpoint::GatewayStatus),
];

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/`: the login form.
    Login,
    /// Not the API: sent to the login form.
    Elsewhere,
    /// An endpoint and its path parameters, raw.
    Found(Endpoint, Vec<String>),
    /// 24.7 and later. A session has begun when the controller exists, so only then there is a cookie.
    NotFound { session: bool },
    /// 24.1: the message of the 400.
    Refused(String),
    /// 24.1 checks the number of parameters only for a caller it knows; the message of that 400.
    TooFew(Endpoint, String),
}

/// Path and query as PHP gets them: no scheme and host, no fragment.
pub(super) fn uri(target: &str) -> &str {
    let target = target.split('#').next().unwrap_or_default();
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphabetic()) && !scheme.is_empty() => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

/// Routes a raw target.
pub(super) fn route(target: &str, profile: Profile) -> Route {
    let path = uri(target).split('?').next().unwrap_or_default();
    if path == "/" || path.is_empty() {
        return Route::Login;
    }
    let mut elements = path.split('/').filter(|element| !element.is_empty());
    if elements.next() != Some("api") {
        return Route::Elsewhere;
    }
    let elements: Vec<&str> = elements.collect();
    match elements.as_slice() {
        [] => Route::Elsewhere,
        elements if profile.phalcon() => phalcon(path, elements, profile),
        [_] => Route::NotFound { session: false },
        [module, controller, rest @ ..] => own(module, controller, rest, profile),
    }
}

fn own(module: &str, controller: &str, rest: &[&str], profile: Profile) -> Route {
    let (module, controller) = (words(module), words(controller));
    let mut of_controller = KNOWN
        .iter()
        .filter(|k| k.since <= profile && k.module.eq_ignore_ascii_case(&module) && k.controller == controller)
        .peekable();
    if of_controller.peek().is_none() {
        return Route::NotFound { session: false };
    }
    // PHP finds methods without regard to case; classes come from files, whose names have one.
    let action = words(rest.first().copied().unwrap_or("index"));
    match of_controller.find(|k| k.action.eq_ignore_ascii_case(&action)) {
        Some(k) if rest.len() > k.parameters => Route::Found(k.endpoint, owned(&rest[1..])),
        _ => Route::NotFound { session: true },
    }
}

/// 24.1. Its modules are literal and lower case; the action is taken as it is written here, although Phalcon may
/// join snake_case: nobody has seen 24.1 run, and the stricter reading is the safer one to test against.
fn phalcon(path: &str, elements: &[&str], profile: Profile) -> Route {
    let class = |name: &str| format!("OPNsense\\{}\\Api\\{name}Controller", "Core");
    let doubled = path.trim_end_matches('/').contains("//");
    let plain = elements.iter().take(3).all(|e| e.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
    let (&module, rest) = elements.split_first().unwrap_or((&"", &[]));
    if doubled || !plain || !KNOWN.iter().any(|k| k.module == module) {
        return Route::Refused(format!("controller {} not found", class("Index")));
    }
    let controller = words(rest.first().copied().unwrap_or("index"));
    let mut of_controller =
        KNOWN.iter().filter(|k| k.since <= profile && k.module == module && k.controller == controller).peekable();
    if of_controller.peek().is_none() {
        let namespace = words(module);
        return Route::Refused(format!("controller OPNsense\\{namespace}\\Api\\{controller}Controller not found"));
    }
    let action = rest.get(1).copied().unwrap_or("index");
    match of_controller.find(|k| k.action.eq_ignore_ascii_case(action)) {
        None => Route::Refused(format!("action {action} not found")),
        Some(k) if rest.len() - 2 < k.parameters => {
            Route::TooFew(k.endpoint, format!("action {action} expects at least {} parameter(s)", k.parameters))
        }
        Some(k) => Route::Found(k.endpoint, owned(&rest[2..])),
    }
}

fn owned(parameters: &[&str]) -> Vec<String> {
    parameters.iter().map(|p| (*p).to_owned()).collect()
}

/// `cpu_usage` to `CpuUsage`; what follows a word's first letter stays as it is.
fn words(element: &str) -> String {
    let mut out = String::with_capacity(element.len());
    for word in element.split('_') {
        let mut letters = word.chars();
        out.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}
