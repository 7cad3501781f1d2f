//! What the middleware says when it will not: JSON-RPC's error member and REST's bodies, read into one type and told as
//! a [`Fault`]. Only messages are taken out of them. The rest is never kept, logged or forwarded: up to 25.10 a traceback
//! there holds every local variable of the middleware, the API key among them.

use serde_json::Value;

use crate::{
    error::{Fault, Kind},
    http::{Response, text::vendor_text},
};

/// Numbers of `errno.h`, and the middleware's own from 200.
pub(super) mod errno {
    pub(in super::super) const ENOENT: i64 = 2;
    pub(in super::super) const EACCES: i64 = 13;
    pub(in super::super) const EBUSY: i64 = 16;
    pub(in super::super) const EEXIST: i64 = 17;
    pub(in super::super) const EINVAL: i64 = 22;
    pub(in super::super) const EOPNOTSUPP: i64 = 95;
    pub(in super::super) const ENOMETHOD: i64 = 201;
    pub(in super::super) const EDATASETISLOCKED: i64 = 205;
    pub(in super::super) const ENOTAUTHENTICATED: i64 = 207;
}

const NO_METHOD: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const TOO_MANY: i64 = -32000;

/// Of the two ways to name a new snapshot, the one that is used here. A wrong argument is told once for each of them.
const MEANT: &str = "PoolSnapshotCreateWithName";

/// An error that the appliance answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// JSON-RPC's code; 0 for REST.
    code: i64,
    errno: Option<i64>,
    message: String,
}

impl Refusal {
    /// Reads the `error` member of an answer.
    pub(super) fn from_rpc(error: &Value) -> Self {
        let code = error["code"].as_i64().unwrap_or_default();
        let data = &error["data"];
        let issues: Vec<_> = data["extra"].as_array().into_iter().flatten().filter_map(Issue::from_rpc).collect();
        // A wrong argument always has 22 here; the number that tells more is with each issue.
        let errno = match issues.first() {
            Some(issue) if code == INVALID_PARAMS => issue.errno,
            _ => data["error"].as_i64(),
        };
        let message = match (issues.is_empty(), data["reason"].as_str()) {
            (false, _) => told(issues),
            (true, Some(reason)) => plain(reason),
            (true, None) => vendor_text(error["message"].as_str().unwrap_or_default()),
        };
        Self { code, errno, message }
    }

    /// Reads the body of a REST answer that is no success: `{message, errno}` or `{"field": [{message, errno}]}`.
    pub(super) fn from_rest(response: &Response) -> Self {
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let (errno, message) = match &body {
            Value::Object(fields) if fields.get("message").is_some_and(Value::is_string) => {
                (body["errno"].as_i64(), plain(body["message"].as_str().unwrap_or_default()))
            }
            Value::Object(fields) => {
                let issues: Vec<_> = fields
                    .iter()
                    .flat_map(|(field, issues)| issues.as_array().into_iter().flatten().map(move |one| (field, one)))
                    .filter_map(|(field, issue)| Issue::from_rest(field, issue))
                    .collect();
                (issues.first().and_then(|issue| issue.errno), told(issues))
            }
            _ => (None, vendor_text(&String::from_utf8_lossy(&response.body))),
        };
        Self { code: 0, errno, message }
    }

    pub(super) fn is(&self, errno: i64) -> bool {
        self.errno == Some(errno)
    }

    /// This release does not have the method.
    pub(super) fn is_no_method(&self) -> bool {
        self.code == NO_METHOD || self.is(errno::ENOMETHOD)
    }

    /// The login counts no more; the call was not made.
    pub(super) fn is_logged_out(&self) -> bool {
        self.is(errno::ENOTAUTHENTICATED) || (self.is(errno::EACCES) && self.message.contains("expired"))
    }

    /// The appliance's words.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// For a call of `method`.
    pub(super) fn fault(&self, method: &str) -> Fault {
        let said = match self.message.as_str() {
            "" => "TrueNAS gave no reason".to_owned(),
            message => format!("TrueNAS says: {message}"),
        };
        if self.is_no_method() {
            return Fault::new(Kind::Upstream, format!("this TrueNAS has no method {method}"))
                .hint("It may be a release that is not known here; please report it.");
        }
        if self.code == TOO_MANY {
            return Fault::new(Kind::Conflict, "TrueNAS has too many calls of this connection to answer already")
                .hint("It seems to be busy; nothing was done. Try again later.");
        }
        match self.errno {
            // With -32602 it is an object that is not to be touched, not a right that is missing.
            Some(errno::EACCES) if self.code != INVALID_PARAMS => denied(method),
            Some(errno::ENOTAUTHENTICATED) => {
                Fault::new(Kind::Conflict, "the login had ended").hint("Nothing was done; call again.")
            }
            Some(errno::ENOENT) => Fault::new(Kind::NotFound, said),
            Some(errno::EEXIST | errno::EBUSY | errno::EDATASETISLOCKED | errno::EACCES) => {
                Fault::new(Kind::Conflict, said)
            }
            // 25.10 and 26 give 14 and 22 for this.
            _ if is_missing(&self.message) => Fault::new(Kind::NotFound, said),
            Some(errno::EINVAL) if self.code == INVALID_PARAMS || self.code == 0 => Fault::new(Kind::Invalid, said),
            _ => Fault::new(Kind::Upstream, said),
        }
    }
}

fn is_missing(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["not found", "does not exist", "matchnotfound"].iter().any(|words| message.contains(words))
}

/// The role that a method asks for.
pub(super) fn role(method: &str) -> &'static str {
    match method {
        "pool.query" => "POOL_READ",
        "alert.list" => "ALERT_LIST_READ",
        "pool.dataset.query" => "DATASET_READ",
        "pool.snapshot.query" | "zfs.snapshot.query" => "SNAPSHOT_READ",
        "pool.snapshot.create" | "zfs.snapshot.create" => "SNAPSHOT_WRITE",
        _ => "READONLY_ADMIN",
    }
}

/// The key's user lacks a role.
pub(super) fn denied(method: &str) -> Fault {
    let role = role(method);
    let with = if role == "SNAPSHOT_WRITE" { "" } else { " (READONLY_ADMIN includes it)" };
    let with = if role == "READONLY_ADMIN" { "" } else { with };
    Fault::new(Kind::Forbidden, format!("the API key's user may not call {method}: it lacks the role {role}")).hint(
        format!("In TrueNAS, give one of its groups a privilege with {role}{with}: Credentials > Groups > Privileges."),
    )
}

/// One thing that is wrong with the arguments.
struct Issue {
    attribute: Option<String>,
    message: String,
    errno: Option<i64>,
}

impl Issue {
    fn from_rpc(issue: &Value) -> Option<Self> {
        Some(Self {
            attribute: issue[0].as_str().map(str::to_owned),
            message: issue[1].as_str()?.to_owned(),
            errno: issue[2].as_i64(),
        })
    }

    fn from_rest(field: &str, issue: &Value) -> Option<Self> {
        Some(Self {
            // REST writes Python's None and JSON's null for no attribute at all.
            attribute: Some(field.to_owned()).filter(|field| !matches!(field.as_str(), "null" | "None" | "")),
            message: issue["message"].as_str()?.to_owned(),
            errno: issue["errno"].as_i64(),
        })
    }
}

/// `name: Field required; …`, of a union only the branch that was meant.
fn told(issues: Vec<Issue>) -> String {
    let meant = |issue: &Issue| issue.attribute.as_deref().is_some_and(|path| path.contains(MEANT));
    let only = issues.iter().any(meant);
    let clauses: Vec<_> = issues
        .iter()
        .filter(|issue| !only || meant(issue))
        .map(|issue| {
            let name = issue.attribute.as_deref().and_then(|path| path.rsplit('.').next());
            match name.filter(|name| *name != MEANT && *name != "create") {
                Some(name) => format!("{name}: {}", plain(&issue.message)),
                None => plain(&issue.message),
            }
        })
        .collect();
    vendor_text(&clauses.join("; "))
}

/// Without the `[ENOENT] ` in front of it, and the attribute that is none.
fn plain(reason: &str) -> String {
    let mut rest = reason.trim();
    if let Some((name, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once("] "))
        && name.starts_with('E')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    {
        rest = after;
    }
    vendor_text(rest.strip_prefix("None: ").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rpc(code: i64, error: i64, reason: &str, extra: Value) -> Refusal {
        Refusal::from_rpc(&json!({
            "code": code, "message": "words",
            "data": {
                "error": error, "errname": "E", "reason": reason, "extra": extra,
                "trace": {"class": "X", "formatted": "Traceback (most recent call last): key 1-hush",
                          "frames": [{"locals": {"api_key": "1-hush"}}]},
            },
        }))
    }

    fn rest(status: u16, body: &str) -> Refusal {
        Refusal::from_rest(&Response {
            status,
            reason: String::new(),
            content_type: String::new(),
            location: None,
            body: body.as_bytes().to_vec(),
            member: "nas:443".to_owned(),
        })
    }

    #[test]
    fn a_refusal_is_its_message_and_nothing_else() {
        let nothing = json!(null);
        for (refusal, kind, told) in [
            (
                rpc(-32001, 2, "[ENOENT] None: Pool 7 does not exist", nothing.clone()),
                Kind::NotFound,
                "Pool 7 does not",
            ),
            (rpc(-32001, 22, "'tank/x' not found", nothing.clone()), Kind::NotFound, "says: 'tank/x' not found"),
            (rpc(-32001, 14, "[EFAULT] dataset does not exist", nothing.clone()), Kind::NotFound, "says: dataset"),
            (rpc(-32001, 22, "MatchNotFound()", nothing.clone()), Kind::NotFound, "MatchNotFound"),
            (
                rpc(-32602, 22, "[ENOENT] None: gone", json!([[null, "PoolDataset x does not exist", 2]])),
                Kind::NotFound,
                "says: PoolDataset x does not exist",
            ),
            (
                rpc(-32602, 22, "[EEXIST] x", json!([["pool.snapshot.create", "a already exists.", 17]])),
                Kind::Conflict,
                "says: a already exists.",
            ),
            (rpc(-32001, 17, "[EEXIST] Failed to snapshot", nothing.clone()), Kind::Conflict, "says: Failed to"),
            (rpc(-32001, 205, "[EDATASETISLOCKED] locked", nothing.clone()), Kind::Conflict, "says: locked"),
            (
                rpc(-32602, 22, "x", json!([["pool.snapshot.create.dataset", "is internal", 13]])),
                Kind::Conflict,
                "says: dataset: is internal",
            ),
            (rpc(-32001, 13, "[EACCES] Not authorized", nothing.clone()), Kind::Forbidden, "the role SNAPSHOT_WRITE"),
            (rpc(-32000, 0, "too many", nothing.clone()), Kind::Conflict, "too many calls"),
            (rpc(-32001, 14, "[EFAULT] pool is busy <b>now</b>", nothing.clone()), Kind::Upstream, "pool is busy now"),
            (rpc(-32001, 22, "", nothing.clone()), Kind::Upstream, "no reason"),
            (rest(422, r#"{"message": "[EEXIST] a", "errno": 17}"#), Kind::Conflict, "says: a"),
            (rest(404, r#"{"message": ""}"#), Kind::Upstream, "no reason"),
            (
                rest(422, r#"{"null": [{"message": "Snapshot a@b not found", "errno": 2}]}"#),
                Kind::NotFound,
                "says: Snapshot a@b",
            ),
        ] {
            let fault = refusal.fault("pool.snapshot.create");
            assert_eq!(fault.kind, kind, "{refusal:?}");
            assert!(fault.cause.contains(told), "{fault:?}");
            assert!(!format!("{refusal:?} {fault:?}").contains("hush"), "{fault:?}");
        }
    }

    #[test]
    fn of_a_union_the_branch_that_was_meant_is_told() {
        let extra = json!([
            ["data.PoolSnapshotCreateWithName.name", "Field required", 22],
            ["data.PoolSnapshotCreateWithSchema.naming_schema", "Field required", 22],
            ["data.PoolSnapshotCreateWithSchema.name", "Extra inputs are not permitted", 22],
        ]);
        assert_eq!(rpc(-32602, 22, "x", extra).message(), "name: Field required");
        let body = r#"{"data.PoolSnapshotCreateWithName.name": [{"message": "Bad", "errno": 22}],
                       "data.PoolSnapshotCreateWithSchema.name": [{"message": "Extra", "errno": 22}]}"#;
        assert_eq!(rest(422, body).message(), "name: Bad");
    }

    #[test]
    fn a_missing_method_is_told_from_a_missing_object() {
        assert!(Refusal::from_rpc(&json!({"code": -32601, "message": "Method does not exist"})).is_no_method());
        assert!(rpc(-32001, 201, "[ENOMETHOD] Method 'create' not found", json!(null)).is_no_method());
        assert!(!rpc(-32001, 22, "'x' not found", json!(null)).is_no_method());
        assert!(rpc(-32001, 207, "[ENOTAUTHENTICATED] Not authenticated", json!(null)).is_logged_out());
        assert!(!rpc(-32001, 13, "[EACCES] Not authorized", json!(null)).is_logged_out());
    }

    #[test]
    fn odd_errors_do_no_harm() {
        for error in [json!(null), json!("x"), json!([]), json!({"data": {"extra": [1, [], [null], ["a"]]}})] {
            assert_eq!(Refusal::from_rpc(&error).fault("system.info").kind, Kind::Upstream);
        }
        assert_eq!(rest(502, "<html><h1>502 Bad Gateway</h1>").message(), "502 Bad Gateway");
    }
}
