//! JSON-RPC as the gateway sees it: ids, methods, `params._meta` and error codes. Everything else stays text, in both
//! directions: arguments and results are not looked into.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use shared::jsonrpc::{self, Message, Reject};

/// Where a request says that it belongs to the era of 2026-07-28 and later.
pub(crate) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Who is calling; only we may say so, and the core believes it from nobody else.
const PRINCIPAL: &str = "homelab-mcp/principal";
const PROGRESS_TOKEN: &str = "progressToken";

/// An internal error.
pub(crate) const INTERNAL: i32 = -32603;

/// The members of a JSON object in their order, each value as it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

/// More members than any message has: bounds the search for duplicates.
const MOST_MEMBERS: usize = 256;

impl<'a> Members<'a> {
    /// Reads an object. One that has a member twice is refused: two readers would see two different objects.
    pub(crate) fn read(raw: &'a RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(raw.get())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// A member that is a string.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        serde_json::from_str::<Text<'_>>(self.get(name)?.get()).ok().map(|text| text.0)
    }

    fn set(&mut self, name: &'static str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((name.into(), Cow::Owned(value))),
        }
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(found, _)| found != name);
    }

    fn to_raw(&self) -> Box<RawValue> {
        let mut text = String::from("{");
        for (name, value) in &self.0 {
            if text.len() > 1 {
                text.push(',');
            }
            // Writing into a string cannot fail.
            let _ = write!(text, "{}:{value}", serde_json::Value::from(&**name));
        }
        text.push('}');
        raw(text)
    }
}

/// Text that we made and know to be JSON.
pub(crate) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if members.get(&name.0).is_some() {
                        return Err(A::Error::custom(format!("`{}` is given twice", name.0)));
                    }
                    if members.0.len() == MOST_MEMBERS {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.0.push((name.0, Cow::Borrowed(value)));
                }
                Ok(members)
            }
        }
        from.deserialize_map(Reader)
    }
}

/// Borrows where there are no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A request from a client.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) id: Box<RawValue>,
    pub(crate) method: Cow<'a, str>,
    pub(crate) params: Members<'a>,
    meta: Members<'a>,
    raw_params: Option<&'a RawValue>,
}

/// A message from a client.
#[derive(Debug)]
pub(crate) enum Posted<'a> {
    Request(Request<'a>),
    Notification {
        method: Cow<'a, str>,
        params: Members<'a>,
        raw_params: Option<&'a RawValue>,
    },
    /// Answers a request of the core's.
    Response(Response),
}

/// What a client answers to a request of the core's.
#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    pub(crate) id: u64,
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
}

impl Response {
    /// Its size, roughly.
    pub(crate) fn len(&self) -> usize {
        [&self.result, &self.error].into_iter().flatten().map(|raw| raw.get().len()).sum()
    }

    /// As a line for the core, under its own id.
    pub(crate) fn line(&self, id: &RawValue) -> Vec<u8> {
        match (&self.result, &self.error) {
            (Some(result), _) => one_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)),
            (None, error) => {
                let error = error.as_ref().map_or("null", |error| error.get());
                one_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
            }
        }
    }
}

/// Reads what a client posted.
pub(crate) fn read(body: &[u8]) -> Result<Posted<'_>, Reject> {
    let twice = |id: Option<&RawValue>, error: &serde_json::Error| Reject {
        id: id.map(ToOwned::to_owned),
        code: jsonrpc::INVALID_PARAMS,
        message: format!("Invalid params: {error}"),
    };
    match jsonrpc::read(body)? {
        Message::Request { id, method, params: raw_params } => {
            let params = raw_params.map(Members::read).transpose().map_err(|error| twice(Some(&id), &error))?;
            let params = params.unwrap_or_default();
            let meta = meta_of(raw_params, &params).map_err(|error| twice(Some(&id), &error))?;
            Ok(Posted::Request(Request { id, method, params, meta, raw_params }))
        }
        Message::Notification { method, params: raw_params } => {
            let params = raw_params.map(Members::read).transpose().map_err(|error| twice(None, &error))?;
            Ok(Posted::Notification { method, params: params.unwrap_or_default(), raw_params })
        }
        // One with an id that is none of ours answers nothing.
        Message::Response { .. } => {
            Ok(Posted::Response(serde_json::from_slice(body).unwrap_or(Response { id: 0, result: None, error: None })))
        }
    }
}

fn meta_of<'a>(raw: Option<&'a RawValue>, params: &Members<'a>) -> Result<Members<'a>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow)]
        _meta: Option<Members<'a>>,
    }
    match raw {
        // Read again from the text, so that what is found lives as long as that.
        Some(raw) if params.get("_meta").is_some() => {
            serde_json::from_str::<Meta<'a>>(raw.get()).map(|found| found._meta.unwrap_or_default())
        }
        _ => Ok(Members::default()),
    }
}

/// What is put into a request on its way to the core.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp<'a> {
    /// Who is calling, for a core that believes us.
    pub(crate) principal: Option<&'a str>,
    /// The version of a request that names none.
    pub(crate) version: Option<&'a str>,
}

impl Request<'_> {
    /// The protocol version that the request itself names.
    pub(crate) fn version(&self) -> Option<Cow<'_, str>> {
        self.meta.text(VERSION)
    }

    /// Whether `_meta` has what the era of 2026-07-28 requires beside the version.
    pub(crate) fn has_capabilities(&self) -> bool {
        self.meta.get(CAPABILITIES).is_some_and(|value| value.get().starts_with('{'))
    }

    /// Whether it wants the log of the core on its stream.
    pub(crate) fn wants_log(&self) -> bool {
        self.meta.get(LOG_LEVEL).is_some()
    }

    /// The parameters as they came.
    pub(crate) fn plain_params(&self) -> Box<RawValue> {
        self.raw_params.map_or_else(|| raw("{}".to_owned()), ToOwned::to_owned)
    }

    pub(crate) fn progress_token(&self) -> Option<&RawValue> {
        self.meta.get(PROGRESS_TOKEN)
    }

    /// The name of the tool that is called.
    pub(crate) fn tool(&self) -> Option<Cow<'_, str>> {
        if self.method == "tools/call" { self.params.text("name") } else { None }
    }

    /// The line for the core: with an id of ours, which is the progress token too, and with what we say of the caller.
    pub(crate) fn line(&self, id: u64, stamp: Stamp<'_>) -> Bytes {
        let mut meta = Cow::Borrowed(&self.meta);
        if meta.get(PRINCIPAL).is_some() {
            meta.to_mut().remove(PRINCIPAL);
        }
        if let Some(principal) = stamp.principal {
            meta.to_mut().set(PRINCIPAL, raw(serde_json::Value::from(principal).to_string()));
        }
        if meta.get(PROGRESS_TOKEN).is_some() {
            meta.to_mut().set(PROGRESS_TOKEN, raw(id.to_string()));
        }
        if let Some(version) = stamp.version {
            meta.to_mut().set(VERSION, raw(serde_json::Value::from(version).to_string()));
            meta.to_mut().set(CAPABILITIES, raw("{}".to_owned()));
        }
        let method = serde_json::Value::from(&*self.method);
        let mut line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}"#);
        match meta {
            Cow::Owned(meta) => {
                let mut params = self.params.clone();
                params.set("_meta", meta.to_raw());
                let _ = write!(line, r#","params":{}"#, params.to_raw());
            }
            Cow::Borrowed(_) => {
                if let Some(params) = self.raw_params {
                    let _ = write!(line, r#","params":{params}"#);
                }
            }
        }
        line.push('}');
        one_line(line).into()
    }
}

/// Ends the line. In valid JSON a line break can only be white space.
fn one_line(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    if memchr::memchr2(b'\n', b'\r', &bytes).is_some() {
        bytes.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
    bytes.push(b'\n');
    bytes
}

/// A request of ours, as a line.
pub(crate) fn request_line(id: u64, method: &str, params: &str) -> Vec<u8> {
    one_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#))
}

/// A notification, as a line.
pub(crate) fn notification_line(method: &str, params: Option<&RawValue>) -> Vec<u8> {
    let method = serde_json::Value::from(method);
    match params {
        Some(params) => one_line(format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#)),
        None => one_line(format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#)),
    }
}

/// `notifications/cancelled` for a request of ours, as a line.
pub(crate) fn cancelled_line(id: u64) -> Vec<u8> {
    notification_line("notifications/cancelled", Some(&raw(format!(r#"{{"requestId":{id}}}"#))))
}

/// The `_meta` of a modern request of our own.
pub(crate) fn modern_meta(version: &str) -> String {
    format!(r#"{{"{VERSION}":"{version}","{CAPABILITIES}":{{}}}}"#)
}

/// The core's answer to a request, under the id of that request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Up to the id, and the rest.
    pub(crate) pieces: [Bytes; 2],
    /// The code, if it is an error.
    pub(crate) error: Option<i64>,
}

impl Answer {
    /// An error answer of ours.
    pub(crate) fn error(id: &RawValue, code: i32, message: &str) -> Self {
        let line = jsonrpc::error_line(Some(id), code, message);
        Self { pieces: [line.into(), Bytes::new()], error: Some(code.into()) }
    }

    /// In one piece.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.pieces.iter().map(Bytes::len).sum());
        self.pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.into()
    }
}

/// A line from the core, as far as it was looked at.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// Answers a request of ours.
    Answer {
        id: u64,
        /// The rest of the line behind the id.
        rest: Rest<'a>,
        error: Option<i64>,
    },
    /// Asks the client something.
    Request { id: &'a RawValue, method: Cow<'a, str>, params: Option<&'a RawValue> },
    /// Tells the client something.
    Notification { method: Cow<'a, str>, params: Members<'a>, raw_params: Option<&'a RawValue> },
}

/// What follows the id of an answer.
#[derive(Debug)]
pub(crate) enum Rest<'a> {
    /// This part of the line, with the closing brace.
    From(usize),
    /// A result.
    Result(&'a RawValue),
    /// An error.
    Error(&'a RawValue),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Tells `null` from absent: a plain `Option` does not.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct Code {
    code: i64,
}

impl<'a> Line<'a> {
    /// Reads a line of the core's; nothing, when it is no message.
    pub(crate) fn read(line: &'a [u8]) -> Option<Self> {
        if let Some(answer) = Self::quick(line) {
            return Some(answer);
        }
        let text = std::str::from_utf8(line).ok()?.trim();
        if !text.starts_with('{') {
            return None;
        }
        let fields: Fields<'a> = serde_json::from_str(text).ok()?;
        match (fields.method, fields.id) {
            (Some(method), Some(id)) => Some(Self::Request { id, method: method.0, params: fields.params }),
            (Some(method), None) => {
                let params = fields.params.map(Members::read).transpose().ok()?.unwrap_or_default();
                Some(Self::Notification { method: method.0, params, raw_params: fields.params })
            }
            (None, Some(id)) => {
                let id = id.get().parse().ok()?;
                match (fields.result, fields.error) {
                    (Some(result), None) => Some(Self::Answer { id, rest: Rest::Result(result), error: None }),
                    (None, Some(error)) => {
                        let code =
                            serde_json::from_str::<Code>(error.get()).map_or(INTERNAL.into(), |error| error.code);
                        Some(Self::Answer { id, rest: Rest::Error(error), error: Some(code) })
                    }
                    _ => None,
                }
            }
            (None, None) => None,
        }
    }

    /// The whole result of an answer.
    pub(crate) fn read_whole(line: &[u8]) -> Option<Box<RawValue>> {
        serde_json::from_slice::<Fields<'_>>(line).ok()?.result.map(ToOwned::to_owned)
    }

    /// A result as most servers write it, recognised by its first bytes: a list of 20 KiB is not parsed. Whether the
    /// rest is JSON is then the core's responsibility; that it is whole is seen from its end.
    fn quick(line: &'a [u8]) -> Option<Self> {
        let digits = line.strip_prefix(br#"{"jsonrpc":"2.0","id":"#)?;
        let length = digits.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = digits.split_at_checked(length)?;
        if !(rest.starts_with(br#","result":{"#) && rest.ends_with(b"}}")) {
            return None;
        }
        let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
        std::str::from_utf8(rest).ok()?;
        Some(Self::Answer { id, rest: Rest::From(line.len() - rest.len()), error: None })
    }
}

/// An answer of the core's under the id that its client gave.
pub(crate) fn restore(line: &Bytes, rest: &Rest<'_>, error: Option<i64>, id: &RawValue) -> Answer {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id}"#);
    match rest {
        Rest::From(at) => Answer { pieces: [head.into(), line.slice(*at..)], error },
        Rest::Result(result) => Answer { pieces: [head.into(), format!(r#","result":{result}}}"#).into()], error },
        Rest::Error(raw) => Answer { pieces: [head.into(), format!(r#","error":{raw}}}"#).into()], error },
    }
}

/// The request that a notification of the core's belongs to: by its progress token, its subscription, or the request
/// that it cancels. All of these are ids of ours.
pub(crate) fn belongs_to(params: &Members<'_>) -> Option<u64> {
    let number = |members: &Members<'_>, name| members.get(name).and_then(|value| value.get().parse().ok());
    number(params, PROGRESS_TOKEN).or_else(|| number(params, "requestId")).or_else(|| {
        let meta = Members::read(params.get("_meta")?).ok()?;
        number(&meta, SUBSCRIPTION)
    })
}

/// A notification with the client's own id and progress token in place of ours.
pub(crate) fn restore_notification(
    method: &str,
    params: &Members<'_>,
    id: &RawValue,
    token: Option<&RawValue>,
) -> Bytes {
    let mut params = params.clone();
    if let Some(token) = token
        && params.get(PROGRESS_TOKEN).is_some()
    {
        params.set(PROGRESS_TOKEN, token.to_owned());
    }
    if params.get("requestId").is_some() {
        params.set("requestId", id.to_owned());
    }
    restore_subscription(&mut params, id);
    let mut line = notification_line(method, Some(&params.to_raw()));
    line.pop();
    line.into()
}

/// The end of a subscription with the client's own id in it.
pub(crate) fn restore_subscription_result(result: &RawValue, id: &RawValue) -> Option<Box<RawValue>> {
    let mut result = Members::read(result).ok()?;
    restore_subscription(&mut result, id);
    Some(result.to_raw())
}

fn restore_subscription(members: &mut Members<'_>, id: &RawValue) {
    let replaced = members.get("_meta").and_then(|meta| {
        let mut meta = Members::read(meta).ok()?;
        meta.get(SUBSCRIPTION)?;
        meta.set(SUBSCRIPTION, id.to_owned());
        Some(meta.to_raw())
    });
    if let Some(meta) = replaced {
        members.set("_meta", meta);
    }
}

/// Whether two ids are the same, however they are written.
pub(crate) fn same_id(one: &RawValue, other: &RawValue) -> bool {
    let value = |id: &RawValue| serde_json::from_str::<serde_json::Value>(id.get()).ok();
    one.get() == other.get() || value(one).is_some_and(|one| value(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request<'_> {
        match read(text.as_bytes()).unwrap() {
            Posted::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn line(text: &str, stamp: Stamp<'_>) -> String {
        String::from_utf8(request(text).line(9, stamp).to_vec()).unwrap()
    }

    #[test]
    fn a_request_without_meta_keeps_its_params_to_the_byte() {
        let text = "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/call\",\n \"params\":{\"name\" : \"x\",\r\n\"arguments\":{\"a\":1.0}}}";
        assert_eq!(
            line(text, Stamp::default()),
            "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"tools/call\",\"params\":{\"name\" : \"x\",  \"arguments\":{\"a\":1.0}}}\n"
        );
        assert_eq!(
            line(r#"{"jsonrpc":"2.0","id":1,"method":"a\"b"}"#, Stamp::default()),
            "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"a\\\"b\"}\n"
        );
    }

    #[test]
    fn token_and_principal_are_ours_on_the_way_in() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t","homelab-mcp/principal":"forged","x":1},"name":"n"}}"#;
        let with = line(text, Stamp { principal: Some("client:a\"b"), version: None });
        assert!(with.contains(r#""_meta":{"progressToken":9,"x":1,"homelab-mcp/principal":"client:a\"b"}"#), "{with}");
        let without = line(text, Stamp::default());
        assert!(without.contains(r#""_meta":{"progressToken":9,"x":1}"#), "{without}");
        let bare =
            line(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, Stamp { principal: None, version: Some("V") });
        assert!(bare.contains(r#""params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"V","#), "{bare}");
    }

    #[test]
    fn members_given_twice_are_refused() {
        for params in [
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","n\u0061me":"b"}"#,
            r#"{"_meta":{},"_meta":{}}"#,
            r#"{"_meta":{"a":1,"a":2}}"#,
            r#"{"_meta":5}"#,
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{params}}}"#);
            let reject = read(text.as_bytes()).expect_err(params);
            assert_eq!((reject.code, reject.id.unwrap().get()), (jsonrpc::INVALID_PARAMS, "1"), "{params}");
        }
    }

    #[test]
    fn answers_are_recognised_wherever_the_id_stands() {
        let id = raw(r#""mine""#.to_owned());
        for (text, error) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"id":8}]}}"#, None),
            (r#"{"jsonrpc":"2.0","id":7,"result":null}"#, None),
            (r#"{"result":{"id":8},"jsonrpc":"2.0","id":7}"#, None),
            (r#" {"id":7, "jsonrpc":"2.0","error":{"message":"m","code":-32601}} "#, Some(-32601)),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":"?"}}"#, Some(-32603)),
        ] {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let Some(Line::Answer { id: 7, rest, error: found }) = Line::read(&bytes) else { panic!("{text}") };
            assert_eq!(found, error, "{text}");
            let answer = restore(&bytes, &rest, found, &id).whole();
            let (answer, original): (serde_json::Value, serde_json::Value) =
                (serde_json::from_slice(&answer).unwrap(), serde_json::from_str(text).unwrap());
            assert_eq!(answer["id"], "mine");
            assert_eq!((&answer["result"], &answer["error"]), (&original["result"], &original["error"]));
        }
    }

    #[test]
    fn garbage_is_no_message() {
        for text in [
            "",
            "hello",
            "{",
            "[]",
            "{}",
            r#"{"jsonrpc":"2.0","id":7,"result":{"tools":["#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":"x","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":99999999999999999999,"result":{}}"#,
            r#"{"result":{},"jsonrpc":"2.0","id":7,"error":{}}"#,
        ] {
            assert!(Line::read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Line::read(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"\xff\":1}}").is_none());
    }

    #[test]
    fn notifications_get_the_clients_own_ids_back() {
        let id = raw("\"i\"".to_owned());
        let token = raw("\"t\"".to_owned());
        for (text, wanted) in [
            (r#"{"progressToken":9,"progress":1}"#, r#"{"progressToken":"t","progress":1}"#),
            (r#"{"requestId":9}"#, r#"{"requestId":"i"}"#),
            (
                r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":9},"uri":"u"}"#,
                r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":"i"},"uri":"u"}"#,
            ),
        ] {
            let text = raw(text.to_owned());
            let params = Members::read(&text).unwrap();
            assert_eq!(belongs_to(&params), Some(9));
            let restored = restore_notification("m", &params, &id, Some(&token));
            assert_eq!(restored, format!(r#"{{"jsonrpc":"2.0","method":"m","params":{wanted}}}"#));
        }
    }

    #[test]
    fn ids_are_the_same_however_they_are_written() {
        let same = |one: &str, other: &str| same_id(&raw(one.to_owned()), &raw(other.to_owned()));
        assert!(same("1", "1") && same(r#""a""#, r#""\u0061""#));
        assert!(!same("1", r#""1""#) && !same("1", "2"));
    }
}
