//! Tasks: every change answers with one, and only its end says what became of it. Following one only reads, so a lost
//! connection does not end it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    client::Proxmox,
    model::{At, Node, text},
};
use crate::{
    error::{Fault, Kind},
    http::text::vendor_text,
    operations::Running,
};

/// Pauses between two looks; the last is repeated.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// How long to look for a task whose announcement was lost.
const SEARCH: Duration = Duration::from_secs(10);

/// Log lines that are shown of a failed task.
const LAST_LINES: usize = 8;

/// A task's id, checked: it comes from the appliance and goes into URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upid {
    pub(super) text: String,
    /// Where it runs, which is not always where it was asked for.
    pub(super) node: Node,
    /// `qmstart`, `hastop`, …
    pub(super) kind: String,
    /// `user@realm`, with `!name` of a token.
    pub(super) user: String,
}

impl Upid {
    /// `UPID:node:pid:pstart:starttime:type:id:user:`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str, sizes: std::ops::RangeInclusive<usize>| {
            sizes.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let word = |part: &str| !part.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        let parts: Vec<_> = text.split(':').collect();
        let ["UPID", node, pid, pstart, start, kind, id, user, ""] = parts.as_slice() else { return None };
        let fine = text.len() <= 300
            && hex(pid, 8..=8)
            && hex(pstart, 8..=9)
            && hex(start, 8..=8)
            && [kind, id, user].iter().all(|part| word(part))
            && !kind.is_empty()
            && !user.is_empty();
        fine.then_some(())?;
        Some(Self { text: text.to_owned(), node: Node::new(node)?, kind: (*kind).to_owned(), user: (*user).to_owned() })
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `OK`, or with warnings, which is a success too.
    Fine {
        warnings: Vec<String>,
    },
    Failed {
        why: String,
        log: Vec<String>,
    },
    /// It ended and nobody knows how, it cannot be asked, or it did not end within the time.
    Unknown {
        why: String,
    },
}

/// What a task's exit status means.
#[derive(Debug, PartialEq, Eq)]
enum Exit {
    Fine,
    Warnings,
    Unknown,
    Failed,
}

fn exit(status: &str) -> Exit {
    if status == "OK" {
        Exit::Fine
    } else if status.strip_prefix("WARNINGS: ").is_some_and(|count| count.bytes().all(|byte| byte.is_ascii_digit())) {
        Exit::Warnings
    } else if status.is_empty()
        || status.starts_with("unexpected status")
        || status.starts_with("unable to read tail")
        || status.starts_with("unable to get last line")
    {
        // Its worker was killed, or its node went down; or the last line is not yet written.
        Exit::Unknown
    } else {
        Exit::Failed
    }
}

/// Waits between looks: half a second, one, then two.
#[derive(Default)]
pub(super) struct Pace(usize);

impl Pace {
    /// False when the time is over.
    pub(super) async fn wait(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = PAUSES[self.0.min(PAUSES.len() - 1)];
        self.0 += 1;
        sleep(pause.min(left)).await;
        !left.is_zero()
    }
}

impl Proxmox {
    /// Follows a task to its end, saying what its log says, for at most so long.
    pub(super) async fn follow(&self, upid: &Upid, running: &Running, bound: Duration) -> End {
        running.is(format!("task {}", upid.text));
        let deadline = Instant::now() + bound;
        let mut pace = Pace::default();
        let (mut seen, mut complained, mut doubted) = (0, false, false);
        loop {
            match self.task(upid).await {
                Ok(status) if text(&status, "status").as_deref() == Some("stopped") => {
                    let status = text(&status, "exitstatus").unwrap_or_default();
                    match exit(&status) {
                        Exit::Fine => return End::Fine { warnings: Vec::new() },
                        Exit::Warnings => return End::Fine { warnings: self.warnings(upid).await },
                        Exit::Failed => {
                            return End::Failed {
                                why: vendor_text(&status),
                                log: self.last_lines(upid, &status).await,
                            };
                        }
                        Exit::Unknown if doubted => {
                            let said =
                                if status.is_empty() { "no exit status".to_owned() } else { vendor_text(&status) };
                            return End::Unknown { why: format!("the task ended and how is not known ({said})") };
                        }
                        Exit::Unknown => {
                            doubted = true;
                            sleep(Duration::from_secs(1)).await;
                            continue;
                        }
                    }
                }
                Ok(_) => {
                    complained = false;
                    if pace.0 >= 2
                        && let Ok((lines, _)) = self.log(upid, seen, 50).await
                        && let Some(last) = lines.last()
                    {
                        seen += lines.len();
                        running.say(vendor_text(last));
                    }
                }
                Err(fault) if fault.kind == Kind::NotFound && !doubted => {
                    doubted = true;
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
                // Asking again would not help.
                Err(fault) if matches!(fault.kind, Kind::Forbidden | Kind::NotFound | Kind::Invalid) => {
                    return End::Unknown { why: format!("the task cannot be followed: {}", fault.cause) };
                }
                Err(fault) => {
                    if !complained {
                        running.say(format!("the task cannot be asked now: {}", fault.cause));
                    }
                    complained = true;
                }
            }
            if !pace.wait(deadline).await {
                let why = format!("the task did not end within {} s", bound.as_secs());
                return End::Unknown { why };
            }
        }
    }

    /// The task of a request whose answer was lost: one of ours, of that kind, that was not there before.
    pub(super) async fn search(&self, at: &At, kinds: &[&str], before: &[Upid]) -> Option<Upid> {
        let deadline = Instant::now() + SEARCH;
        let mut pace = Pace::default();
        loop {
            if let Ok(tasks) = self.tasks(at).await {
                let ours = |upid: &Upid| {
                    upid.user == self.token_id() && kinds.contains(&upid.kind.as_str()) && !before.contains(upid)
                };
                if let Some(found) = tasks.into_iter().find(ours) {
                    return Some(found);
                }
            }
            if !pace.wait(deadline).await {
                return None;
            }
        }
    }

    /// The warnings in a log; they explain, they are not the result.
    async fn warnings(&self, upid: &Upid) -> Vec<String> {
        let (lines, _) = self.log(upid, 0, 500).await.unwrap_or_default();
        let warnings =
            lines.iter().filter_map(|line| line.strip_prefix("WARN: ").or_else(|| line.strip_prefix("WARNING: ")));
        warnings.map(vendor_text).take(LAST_LINES).collect()
    }

    /// The last lines of a log, without the one that repeats the exit status.
    async fn last_lines(&self, upid: &Upid, status: &str) -> Vec<String> {
        let Ok((mut lines, total)) = self.log(upid, 0, 50).await else { return Vec::new() };
        if total > lines.len() {
            // `start` counts from the beginning, so the tail is a second look.
            lines = self.log(upid, total.saturating_sub(LAST_LINES + 1), LAST_LINES + 1).await.unwrap_or_default().0;
        }
        lines.retain(|line| !line.strip_prefix("TASK ERROR: ").is_some_and(|error| status.starts_with(error.trim())));
        lines.drain(..lines.len().saturating_sub(LAST_LINES));
        lines.iter().map(|line| vendor_text(line)).collect()
    }
}

/// What is known after a request was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) upid: Option<Upid>,
    pub(super) end: End,
}

impl Proxmox {
    /// From the answer of a changing request to the end of its task. A fault is a request that certainly had no effect.
    pub(super) async fn see_through(
        &self,
        at: &At,
        running: &Running,
        sent: Result<Upid, Fault>,
        before: Option<&[Upid]>,
        kinds: &[&str],
        bound: Duration,
    ) -> Result<Sent, Fault> {
        let upid = match sent {
            Ok(upid) => upid,
            Err(fault) if fault.kind == Kind::TimedOut => {
                running.say(format!("{}; looking for its task", fault.cause));
                let found = match before {
                    Some(before) => self.search(at, kinds, before).await,
                    // Without knowing the earlier ones, any of them could be taken for it.
                    None => None,
                };
                match found {
                    Some(upid) => upid,
                    None => return Ok(Sent { upid: None, end: End::Unknown { why: fault.cause } }),
                }
            }
            Err(fault) => return Err(fault),
        };
        let end = self.follow(&upid, running, bound).await;
        Ok(Sent { upid: Some(upid), end })
    }
}

/// Whether a task's error says that the guest is not on that node (any more), so that nothing was done.
pub(super) fn says_gone(why: &str) -> bool {
    (why.contains("Configuration file") && why.contains("does not exist"))
        || why.contains("unable to find configuration file for")
}

/// A task's last message as a clause, with its log behind it.
pub(super) fn quoted(why: &str, log: &[String]) -> String {
    let why = why.trim_end_matches('.');
    if log.is_empty() { why.to_owned() } else { format!("{why} (log: {})", log.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_upid_is_taken_apart_or_refused() {
        let upid = Upid::parse("UPID:pve-1:00003D56:00061357:6B031AFE:hastart:105:root@pam!test:").unwrap();
        assert_eq!((upid.node.as_str(), upid.kind.as_str(), upid.user.as_str()), ("pve-1", "hastart", "root@pam!test"));
        assert!(Upid::parse("UPID:pve:00003D56:100061357:6B031AFE:srvreload::root@pam:").is_some());
        for text in [
            "",
            "UPID:pve:00003D56:00061357:6B031AFE:qmstart:105:root@pam",
            "UPID:p/e:00003D56:00061357:6B031AFE:qmstart:105:root@pam:",
            "UPID:pve:0003D56:00061357:6B031AFE:qmstart:105:root@pam:",
            "UPID:pve:00003D56:00061357:6B031AFE:qm/../x:105:root@pam:",
            "UPID:pve:00003D56:00061357:6B031AFE:qmstart:1 5:root@pam:",
            "UPID:pve:00003D56:00061357:6B031AFE:qmstart:105::",
            "UPID:pve:00003D56:00061357:6B031AFE:qmstart:105:root@pam:\n",
        ] {
            assert!(Upid::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn exit_statuses_are_told_apart() {
        for (status, expected) in [
            ("OK", Exit::Fine),
            ("WARNINGS: 1", Exit::Warnings),
            ("WARNINGS: many", Exit::Failed),
            ("unexpected status", Exit::Unknown),
            ("unable to read tail (got 0 bytes)", Exit::Unknown),
            ("unable to get last line from task log - x", Exit::Unknown),
            ("", Exit::Unknown),
            ("VM is locked (backup)", Exit::Failed),
            ("received interrupt", Exit::Failed),
            ("OK?", Exit::Failed),
        ] {
            assert_eq!(exit(status), expected, "{status}");
        }
    }

    #[test]
    fn a_migrated_guest_is_told_from_a_failed_one() {
        assert!(says_gone("Configuration file 'nodes/pve/qemu-server/105.conf' does not exist"));
        assert!(says_gone("unable to find configuration file for VM 105 on node 'pve1'"));
        assert!(!says_gone("storage 'ghost' does not exist"));
        assert_eq!(quoted("boom.", &["a".to_owned(), "b".to_owned()]), "boom (log: a | b)");
    }
}
