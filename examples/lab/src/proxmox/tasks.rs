//! Tasks: what a changing request starts, and what is left to read of it.

use super::access::user_of;
use super::model::{Ending, Kind};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// What is done to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop { overrule: bool },
    Shutdown { timeout: u32, force: bool },
    Reboot { timeout: u32 },
    Suspend,
    Resume,
    Reset,
    Snapshot { name: String, description: String, vmstate: bool },
    DeleteSnapshot { name: String },
    Rollback { name: String, start: bool },
    Destroy { purge: bool, force: bool },
}

impl Verb {
    /// In the tables, and after the prefix in the task's type.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop { .. } => "stop",
            Self::Shutdown { .. } => "shutdown",
            Self::Reboot { .. } => "reboot",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Reset => "reset",
            Self::Snapshot { .. } => "snapshot",
            Self::DeleteSnapshot { .. } => "delsnapshot",
            Self::Rollback { .. } => "rollback",
            Self::Destroy { .. } => "destroy",
        }
    }

    pub(crate) fn task_type(&self, kind: Kind) -> String {
        // `suspend` without `todisk` is a pause.
        let name = if *self == Self::Suspend && kind == Kind::Vm { "pause" } else { self.name() };
        format!("{}{name}", kind.task_prefix())
    }

    pub(crate) fn is_forced(&self) -> bool {
        matches!(self, Self::Shutdown { force: true, .. } | Self::Destroy { force: true, .. })
    }

    pub(crate) fn purges(&self) -> bool {
        matches!(self, Self::Destroy { purge: true, .. })
    }

    pub(crate) fn snapshot_name(&self) -> Option<&str> {
        match self {
            Self::Snapshot { name, .. } | Self::DeleteSnapshot { name } | Self::Rollback { name, .. } => Some(name),
            _ => None,
        }
    }

    /// What the guest's configuration says while this goes on; such a task does not keep the lock file.
    pub(crate) fn config_lock(&self) -> Option<&'static str> {
        match self {
            Self::Snapshot { .. } => Some("snapshot"),
            Self::DeleteSnapshot { .. } => Some("snapshot-delete"),
            Self::Rollback { .. } => Some("rollback"),
            _ => None,
        }
    }
}

/// What a task is for.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Guest {
        kind: Kind,
        vmid: u32,
        verb: Verb,
    },
    /// A request to the HA manager.
    Manage {
        vmid: u32,
        state: &'static str,
    },
    /// One that is only there to be looked at.
    Record,
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Waiting for the guest's lock file.
    Queued {
        gives_up: Instant,
    },
    Running {
        ends: Instant,
        ending: Ending,
    },
    Done {
        exit: String,
        at: i64,
    },
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) upid: String,
    pub(crate) node: String,
    pub(crate) pid: u32,
    pub(crate) pstart: u32,
    pub(crate) starttime: i64,
    pub(crate) kind: String,
    pub(crate) id: String,
    /// `user@realm`, with `!name` when a token started it.
    pub(crate) user: String,
    pub(crate) job: Job,
    pub(crate) phase: Phase,
    /// Without the last line, which follows from how it ended.
    pub(crate) log: Vec<String>,
}

impl Task {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done { .. })
    }

    pub(crate) fn exit(&self) -> Option<&str> {
        match &self.phase {
            Phase::Done { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// Neither `OK` nor a warning count.
    pub(crate) fn has_unclear_end(&self) -> bool {
        self.exit().is_some_and(|exit| exit.starts_with("unexpected status") || exit.starts_with("unable to "))
            && self.log.is_empty()
    }

    /// `/nodes/{node}/tasks/{upid}/status`
    pub(crate) fn status(&self) -> Value {
        let mut row = self.row();
        row.insert("pstart".into(), json!(self.pstart));
        row.insert("pid".into(), json!(self.pid));
        row.insert("status".into(), json!(if self.is_done() { "stopped" } else { "running" }));
        if let Some(exit) = self.exit() {
            row.insert("exitstatus".into(), json!(exit));
        }
        Value::Object(row)
    }

    /// A row of `/nodes/{node}/tasks`; a running one is written as the worker's file has it.
    pub(crate) fn node_row(&self) -> Value {
        let mut row = self.row();
        row.insert("pid".into(), json!(self.pid));
        row.insert("pstart".into(), json!(self.pstart));
        match &self.phase {
            Phase::Done { exit, at } => {
                row.insert("endtime".into(), json!(at));
                row.insert("status".into(), json!(exit));
            }
            _ => {
                row.remove("tokenid");
                row.insert("user".into(), json!(self.user));
                row.insert("saved".into(), json!("0"));
                row.insert("status".into(), json!("RUNNING"));
            }
        }
        Value::Object(row)
    }

    /// A row of `/cluster/tasks`.
    pub(crate) fn cluster_row(&self) -> Value {
        let mut row = self.row();
        match &self.phase {
            Phase::Done { exit, at } => {
                row.insert("endtime".into(), json!(at));
                row.insert("saved".into(), json!("1"));
                row.insert("status".into(), json!(exit));
            }
            _ => {
                row.insert("pid".into(), json!(self.pid));
            }
        }
        Value::Object(row)
    }

    /// Every line of the log so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.log.clone();
        if let Some(exit) = self.exit().filter(|_| !self.has_unclear_end()) {
            lines.push(match exit {
                "OK" => "TASK OK".into(),
                warnings if warnings.starts_with("WARNINGS: ") => format!("TASK {warnings}"),
                error => format!("TASK ERROR: {error}"),
            });
        }
        if lines.is_empty() {
            lines.push("no content".into());
        }
        lines
    }

    fn row(&self) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("upid".into(), json!(self.upid));
        row.insert("node".into(), json!(self.node));
        row.insert("type".into(), json!(self.kind));
        row.insert("id".into(), json!(self.id));
        row.insert("user".into(), json!(user_of(&self.user)));
        if let Some((_, token)) = self.user.split_once('!') {
            row.insert("tokenid".into(), json!(token));
        }
        row.insert("starttime".into(), json!(self.starttime));
        row
    }
}

/// Whether this can be a task's ID: `UPID:node:pid:pstart:starttime:type:id:user:` with three numbers in hex.
pub(crate) fn is_upid(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let hex = |text: &str, longest: usize| {
        (8..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let [start, node, pid, pstart, starttime, kind, id, user, end] = parts[..] else { return false };
    start == "UPID"
        && !node.is_empty()
        && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && hex(pid, 8)
        && hex(pstart, 9)
        && hex(starttime, 8)
        && [kind, user].iter().all(|part| !part.is_empty() && !part.contains(['/', ' ']))
        && !id.contains(['/', ' '])
        && end.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_upid_has_nine_parts() {
        assert!(is_upid("UPID:pve1:000058C5:0003D5CD:6B031542:qmstart:103:root@pam!test:"));
        assert!(is_upid("UPID:pve1:000058C5:10003D5CD:6B031542:vzdump::root@pam:"));
        for wrong in [
            "UPID:pve1:000058C5:0003D5CD:6B031542:qmstart:103:root@pam!test",
            "UPID:pve/1:000058C5:0003D5CD:6B031542:qmstart:103:root@pam:",
            "UPID:pve1:58C5:0003D5CD:6B031542:qmstart:103:root@pam:",
            "nonsense",
        ] {
            assert!(!is_upid(wrong), "{wrong}");
        }
    }
}
