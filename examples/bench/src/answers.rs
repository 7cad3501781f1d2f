//! Requests as they are sent, and the proof that what came back are answers.
//!
//! A benchmark that measures errors is worthless: every id must come back exactly once, with a result that
//! holds the tools.

use crate::Fallible;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// One answer; unknown members are of no interest.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The part of a `tools/list` result which is looked into.
#[derive(Deserialize)]
struct List {
    tools: Vec<IgnoredAny>,
}

/// A bare request, as a script sends it without `initialize`.
pub fn request(id: usize) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\"}}\n")
}

/// What the core answers to `tools/list`; the floor sends the same.
#[derive(Debug)]
pub struct Recorded {
    /// The bytes of `result`.
    pub result: String,
    /// Number of tools in it.
    pub tools: usize,
}

impl Recorded {
    /// Reads the first answer.
    pub fn new(line: &[u8], id: usize) -> Fallible<Self> {
        let result = result(line, id)?;
        let tools = serde_json::from_str::<List>(result).map_err(|e| format!("no tools in the answer: {e}"))?.tools;
        Ok(Self { result: result.to_owned(), tools: tools.len() })
    }
}

/// Ticks off the answers to requests with consecutive ids.
pub struct Ledger<'a> {
    expected: &'a Recorded,
    first: usize,
    seen: Vec<bool>,
    missing: usize,
    different: bool,
}

impl<'a> Ledger<'a> {
    /// Waits for `count` answers, their ids from `first` on.
    pub fn new(expected: &'a Recorded, first: usize, count: usize) -> Self {
        Self { expected, first, seen: vec![false; count], missing: count, different: false }
    }

    /// Takes one line. An error when it is no answer with tools, or its id was not asked or is answered twice.
    pub fn take(&mut self, line: &[u8]) -> Fallible<()> {
        let (id, result) = open(line)?;
        if result != self.expected.result {
            let list =
                serde_json::from_str::<List>(result).map_err(|e| format!("id {id}: no tools in the answer: {e}"))?;
            if list.tools.len() != self.expected.tools {
                return Err(format!("id {id}: {} tools instead of {}", list.tools.len(), self.expected.tools).into());
            }
            self.different = true;
        }
        match id.checked_sub(self.first).and_then(|at| self.seen.get_mut(at)) {
            None => Err(format!("answer to id {id}, which was not asked").into()),
            Some(true) => Err(format!("id {id} answered twice").into()),
            Some(seen) => {
                *seen = true;
                self.missing -= 1;
                Ok(())
            }
        }
    }

    /// Takes many lines.
    pub fn take_all(&mut self, lines: &[u8]) -> Fallible<()> {
        lines.split_inclusive(|&byte| byte == b'\n').try_for_each(|line| self.take(line))
    }

    /// An error when answers are missing; otherwise whether all had the bytes of the first one.
    pub fn close(self) -> Fallible<bool> {
        match self.missing {
            0 => Ok(!self.different),
            n => Err(format!("{n} of {} answers missing", self.seen.len()).into()),
        }
    }
}

/// The bytes of the result of an answer to this id. An error when it is none, or the answer is an error.
pub fn result(line: &[u8], id: usize) -> Fallible<&str> {
    match open(line)? {
        (got, result) if got == id => Ok(result),
        (got, _) => Err(format!("asked with id {id}, answered with id {got}").into()),
    }
}

/// The id and the raw result of an answer.
fn open(line: &[u8]) -> Fallible<(usize, &str)> {
    let shown = || String::from_utf8_lossy(line.get(..200).unwrap_or(line)).trim_end().to_owned();
    let answer: Answer<'_> = serde_json::from_slice(line).map_err(|e| format!("not an answer ({e}): {}", shown()))?;
    if let Some(error) = answer.error {
        return Err(format!("answered with an error: {error}").into());
    }
    match (answer.id.and_then(|id| id.get().parse().ok()), answer.result) {
        (Some(id), Some(result)) => Ok((id, result.get())),
        _ => Err(format!("neither result nor error with an id: {}", shown()).into()),
    }
}

#[cfg(test)]
mod tests {
    //! Whatever is not a full set of proper answers must be refused.

    use super::*;

    const ONE: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}"#;
    const TWO: &[u8] = br#"{"result":{"tools":[{"name":"a"}]},"jsonrpc":"2.0","id":2}"#;

    fn recorded() -> Recorded {
        Recorded { result: r#"{"tools":[{"name":"a"}]}"#.into(), tools: 1 }
    }

    #[test]
    fn accepts_every_id_once_in_any_order() {
        let recorded = recorded();
        let mut ledger = Ledger::new(&recorded, 1, 2);
        let lines = [TWO, b"\n", ONE, b"\n"].concat();
        assert!(ledger.take_all(&lines).is_ok());
        assert_eq!(ledger.close().ok(), Some(true));
    }

    #[test]
    fn refuses_doubles_strangers_errors_and_gaps() {
        let recorded = recorded();
        let mut ledger = Ledger::new(&recorded, 1, 3);
        assert!(ledger.take(ONE).is_ok());
        assert!(ledger.take(ONE).is_err());
        for bad in [
            &br#"{"jsonrpc":"2.0","id":9,"result":{"tools":[{"name":"a"}]}}"#[..],
            br#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#,
            br#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
            br#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"no"}}"#,
            br#"{"jsonrpc":"2.0","method":"notifications/message"}"#,
            b"hello",
            b"",
        ] {
            assert!(ledger.take(bad).is_err());
        }
        assert!(ledger.close().is_err());
    }

    #[test]
    fn records_the_first_answer() {
        assert!(Recorded::new(ONE, 1).is_ok_and(|r| r.result == recorded().result && r.tools == 1));
        assert!(Recorded::new(ONE, 2).is_err());
    }
}
