//! One line of JSON-RPC 2.0 in, one line out: what kind of message it is, its id, or why it is none. Knows nothing
//! of MCP's methods. Ids stay as the sender wrote them, so that an answer carries exactly the id of its request.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Not JSON at all.
pub const PARSE_ERROR: i32 = -32700;
/// JSON, but not a JSON-RPC request.
pub const INVALID_REQUEST: i32 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The method exists, its parameters are wrong.
pub const INVALID_PARAMS: i32 = -32602;

/// A well-formed message.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants an answer with this id.
    Request {
        /// As the sender wrote it: a string or an integer of any size.
        id: Box<RawValue>,
        /// The method's name.
        method: Cow<'a, str>,
        /// An object, if given.
        params: Option<&'a RawValue>,
    },
    /// Wants no answer.
    Notification {
        /// The method's name.
        method: Cow<'a, str>,
        /// An object, if given.
        params: Option<&'a RawValue>,
    },
    /// Answers a request of ours.
    Response {
        /// Our id.
        id: Box<RawValue>,
    },
}

/// Why a line is no message, and whom to tell.
#[derive(Debug)]
pub struct Reject {
    /// The id of the request, where one could be read.
    pub id: Option<Box<RawValue>>,
    /// [`PARSE_ERROR`], [`INVALID_REQUEST`] or [`INVALID_PARAMS`].
    pub code: i32,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl Reject {
    /// The answer as a line.
    pub fn line(&self) -> Vec<u8> {
        error_line(self.id.as_deref(), self.code, &self.message)
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Tells `null` from absent: a plain `Option` does not.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads one line (without its line end).
pub fn read(line: &[u8]) -> Result<Message<'_>, Reject> {
    let reject = |code, message: String| Reject { id: find_id(line), code, message };
    let text = std::str::from_utf8(line)
        .map_err(|error| reject(PARSE_ERROR, format!("Parse error: not UTF-8 at byte {}", error.valid_up_to())))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            let what = if text.starts_with('[') {
                "Invalid request: batches are not part of MCP; send one message per line".to_owned()
            } else {
                format!("Invalid request: {error}")
            };
            return reject(INVALID_REQUEST, what);
        }
        reject(PARSE_ERROR, format!("Parse error: {error}"))
    })?;
    if text.starts_with('[') {
        // serde would also take the fields as a sequence.
        let what = "Invalid request: batches are not part of MCP; send one message per line";
        return Err(reject(INVALID_REQUEST, what.to_owned()));
    }
    let invalid = |message: &str| reject(INVALID_REQUEST, format!("Invalid request: {message}"));

    if fields.jsonrpc.is_none_or(|version| version.get() != r#""2.0""#) {
        return Err(invalid("`jsonrpc` must be \"2.0\""));
    }
    let id = match fields.id {
        None => None,
        Some(id) if is_id(id.get()) => Some(id.to_owned()),
        Some(_) => return Err(invalid("`id` must be a string or an integer")),
    };
    let Some(method) = fields.method else {
        return match id {
            Some(id) if fields.result.is_some() != fields.error.is_some() => Ok(Message::Response { id }),
            _ => Err(invalid("`method` is missing")),
        };
    };
    let Ok(method) = serde_json::from_str::<Text<'_>>(method.get()) else {
        return Err(invalid("`method` must be a string"));
    };
    let method = method.0;
    if fields.params.is_some_and(|params| !params.get().starts_with('{')) {
        return Err(reject(INVALID_PARAMS, "Invalid params: `params` must be an object".to_owned()));
    }
    Ok(match id {
        Some(id) => Message::Request { id, method, params: fields.params },
        None => Message::Notification { method, params: fields.params },
    })
}

/// Borrows where there are no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn is_id(text: &str) -> bool {
    text.starts_with('"')
        || (!text.is_empty() && text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()))
}

/// An error answer as a line. Without a readable id the member is left out, as MCP's schema has it.
pub fn error_line(id: Option<&RawValue>, code: i32, message: &str) -> Vec<u8> {
    let message = serde_json::Value::from(message);
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":{message}}}}}"#),
    }
    .into_bytes()
}

fn find_id(line: &[u8]) -> Option<Box<RawValue>> {
    let mut finder = IdFinder::default();
    finder.feed(line);
    finder.finish()
}

/// Looks for the top-level `"id"` in bytes that need be neither complete nor valid JSON, in pieces if need be:
/// the request whose line is too long to keep still gets its answer.
#[derive(Debug, Default)]
pub struct IdFinder {
    depth: u32,
    string: Option<Vec<u8>>,
    escaped: bool,
    at_key: bool,
    key_is_id: bool,
    value: Option<Vec<u8>>,
    found: Option<Vec<u8>>,
}

impl IdFinder {
    /// No id of a sane client is longer; what is, is not kept.
    const LONGEST: usize = 1024;

    /// The next bytes of the line.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.found.is_none() {
            bytes.iter().for_each(|&byte| self.step(byte));
        }
    }

    /// The id, if a whole one was seen.
    pub fn finish(self) -> Option<Box<RawValue>> {
        let text = String::from_utf8(self.found?).ok()?;
        let text = text.trim();
        if is_id(text) { RawValue::from_string(text.to_owned()).ok() } else { None }
    }

    fn step(&mut self, byte: u8) {
        if self.found.is_some() {
            return;
        }
        if let Some(value) = &mut self.value
            && value.len() < Self::LONGEST
        {
            value.push(byte);
        }
        if let Some(string) = &mut self.string {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.key_is_id = self.at_key && string.as_slice() == b"id";
                self.string = None;
                return;
            }
            if string.len() < 8 {
                string.push(byte);
            }
            return;
        }
        match byte {
            b'"' => self.string = Some(Vec::new()),
            b'{' | b'[' => {
                self.depth += 1;
                self.at_key = self.depth == 1 && byte == b'{';
                self.value = None;
            }
            b':' if self.depth == 1 && self.at_key => {
                self.at_key = false;
                self.value = self.key_is_id.then(Vec::new);
            }
            b',' | b'}' | b']' => {
                if self.depth == 1
                    && let Some(mut value) = self.value.take()
                {
                    value.pop();
                    self.found = (value.len() + 1 < Self::LONGEST).then_some(value);
                }
                if byte == b',' {
                    self.at_key = self.depth == 1;
                } else {
                    self.depth = self.depth.saturating_sub(1);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(line: &str) -> Option<String> {
        find_id(line.as_bytes()).map(|id| id.get().to_owned())
    }

    #[test]
    fn requests_notifications_and_responses_are_told_apart() {
        let line = br#" {"jsonrpc":"2.0","params":{"a":1},"method":"tools/list","id":18446744073709551616} "#;
        let Message::Request { id, method, params } = read(line).unwrap() else { panic!() };
        assert_eq!((id.get(), &*method, params.unwrap().get()), ("18446744073709551616", "tools/list", r#"{"a":1}"#));
        let Message::Notification { method, params: None } = read(br#"{"jsonrpc":"2.0","method":"x"}"#).unwrap() else {
            panic!()
        };
        assert_eq!(method, "x");
        assert!(matches!(read(br#"{"jsonrpc":"2.0","id":1,"result":null}"#), Ok(Message::Response { .. })));
        assert!(matches!(
            read(br#"{"jsonrpc":"2.0","id":"\u0031","method":"x","params":null}"#),
            Ok(Message::Request { params: None, .. })
        ));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_id() {
        for (line, code, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"#, PARSE_ERROR, Some("7")),
            (r#"{"jsonrpc":"2.0","method":nope,"id":"a"}"#, PARSE_ERROR, Some(r#""a""#)),
            (r"nonsense", PARSE_ERROR, None),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#, INVALID_REQUEST, None),
            (r"[]", INVALID_REQUEST, None),
            (r#"["2.0",1,"x"]"#, INVALID_REQUEST, None),
            (r"{}", INVALID_REQUEST, None),
            (r"5", INVALID_REQUEST, None),
            (r#"{"id":3,"method":"x"}"#, INVALID_REQUEST, Some("3")),
            (r#"{"jsonrpc":"1.0","id":3,"method":"x"}"#, INVALID_REQUEST, Some("3")),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, INVALID_REQUEST, None),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#, INVALID_REQUEST, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, INVALID_REQUEST, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#, INVALID_REQUEST, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#, INVALID_PARAMS, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":"y"}"#, INVALID_PARAMS, Some("1")),
        ] {
            let reject = read(line.as_bytes()).expect_err(line);
            assert_eq!((reject.code, reject.id.as_ref().map(|id| id.get())), (code, id), "{line}: {}", reject.message);
            serde_json::from_slice::<serde_json::Value>(&reject.line()).expect(line);
        }
        let reject = read(b"{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"\xff\"}").unwrap_err();
        assert_eq!((reject.code, reject.id.unwrap().get()), (PARSE_ERROR, "4"));
    }

    #[test]
    fn the_id_is_found_at_the_top_only_wherever_it_stands() {
        let nested = r#"{"params":{"id":1,"x":["id",{"id":2}],"s":"\"id\":3,{"},"id": 42 }"#;
        assert_eq!(id_of(nested).as_deref(), Some("42"));
        assert_eq!(id_of(r#"{"a":"id","id":"x,\"}y","b":1"#).as_deref(), Some(r#""x,\"}y""#));
        assert_eq!(id_of(r#"{"id":{"a":1},"b":2}"#), None);
        assert_eq!(id_of(r#"{"id":12"#), None, "the rest of the number may be missing");
        assert_eq!(id_of(r#"{"method":"id"}"#), None);
    }

    #[test]
    fn the_id_is_found_however_the_bytes_are_cut() {
        let line = r#"{"jsonrpc":"2.0","method":"x","params":{"id":9},"id":"ab\"c"}"#.as_bytes();
        for cut in 0..line.len() {
            let mut finder = IdFinder::default();
            finder.feed(&line[..cut]);
            finder.feed(&line[cut..]);
            assert_eq!(finder.finish().unwrap().get(), r#""ab\"c""#);
        }
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic() {
        // A small deterministic walk over mutations of a good line: every prefix, and every byte replaced.
        let line =
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1,2,"\u00e9"]}}}"#;
        for end in 0..line.len() {
            let _ = read(&line[..end]);
            for byte in [0, b'"', b'\\', b'{', b'}', b'[', 0x80, 0xff] {
                let mut mutated = line.to_vec();
                mutated[end] = byte;
                let _ = read(&mutated);
            }
        }
    }
}
