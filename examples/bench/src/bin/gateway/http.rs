//! As much of an HTTP client as the measuring needs: one request at a time on a connection, every answer checked.

use bench::{Fallible, KEY};
use bytes::BytesMut;
use std::fmt::Write as _;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Read at once at most.
const CHUNK: usize = 64 * 1024;
/// No answer is longer.
const LONGEST: usize = 16 << 20;
/// Ids have ten digits, so that requests have one length.
pub(crate) const FIRST_ID: u64 = 1_000_000_000;

/// How a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28: every request for itself.
    Modern,
    /// 2025-11-25: within a session.
    Session,
}

impl Era {
    pub(crate) const ALL: [Self; 2] = [Self::Modern, Self::Session];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Session => "session",
        }
    }
}

/// A POST with an id that can be changed in its place.
#[derive(Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    id_at: usize,
}

impl Request {
    /// `tools/list`; a session has a name.
    pub(crate) fn list(era: Era, session: &str) -> Self {
        match era {
            Era::Modern => Self::new(
                "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\n",
                concat!(
                    r#","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
                    r#""io.modelcontextprotocol/clientInfo":{"name":"bench","version":"0"},"#,
                    r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#
                ),
            ),
            Era::Session => Self::new(
                &format!("mcp-protocol-version: 2025-11-25\r\nmcp-session-id: {session}\r\n"),
                r#","method":"tools/list"}"#,
            ),
        }
    }

    /// `initialize` of a client with these capabilities.
    pub(crate) fn initialize(capabilities: &str) -> Self {
        let rest = format!(
            r#","method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"bench","version":"0"}}}}}}"#
        );
        Self::new("", &rest)
    }

    fn new(headers: &str, rest: &str) -> Self {
        const START: &str = r#"{"jsonrpc":"2.0","id":"#;
        let body = format!("{START}{FIRST_ID}{rest}");
        let mut text = format!(
            "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\n{headers}"
        );
        // Writing into a string cannot fail.
        let _ = write!(text, "content-length: {}\r\n\r\n", body.len());
        let id_at = text.len() + START.len();
        text += &body;
        Self { bytes: text.into_bytes(), id_at }
    }

    /// From [`FIRST_ID`] on, of ten digits.
    pub(crate) fn set_id(&mut self, id: u64) {
        let digits = id.to_string();
        if let Some(place) = self.bytes.get_mut(self.id_at..self.id_at + digits.len()) {
            place.copy_from_slice(digits.as_bytes());
        }
    }
}

/// A connection that lives on.
pub(crate) struct Connection {
    stream: TcpStream,
    input: BytesMut,
    head: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Fallible<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: BytesMut::with_capacity(2 * CHUNK), head: 0 })
    }

    /// Sends a request and reads its answer, which must be a whole 200.
    pub(crate) async fn post(&mut self, request: &Request) -> Fallible<()> {
        self.send(&request.bytes, "200").await
    }

    /// Ends a session.
    pub(crate) async fn delete(&mut self, session: &str) -> Fallible<()> {
        let text = format!(
            "DELETE /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\nmcp-session-id: {session}\r\n\r\n"
        );
        self.send(text.as_bytes(), "204").await
    }

    async fn send(&mut self, request: &[u8], expected: &str) -> Fallible<()> {
        self.stream.write_all(request).await?;
        self.input.clear();
        let head = loop {
            self.read().await?;
            if let Some(at) = memchr::memmem::find(&self.input, b"\r\n\r\n") {
                break at + 4;
            }
        };
        self.head = head;
        let length: usize = match self.header("content-length") {
            Some(length) => length.parse()?,
            None if expected == "204" => 0,
            None => return Err("answered without a length".into()),
        };
        if length > LONGEST {
            return Err(format!("answered with {length} bytes").into());
        }
        while self.input.len() < head + length {
            self.read().await?;
        }
        let status = self.input.get(9..12).unwrap_or_default();
        if status != expected.as_bytes() || self.input.len() > head + length {
            return Err(format!("answered with {}", String::from_utf8_lossy(&self.input)).into());
        }
        Ok(())
    }

    async fn read(&mut self) -> Fallible<()> {
        self.input.reserve(CHUNK);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err("closed by the server".into());
        }
        Ok(())
    }

    /// Without what was read last, and the room for it.
    pub(crate) fn shrunk(self) -> Self {
        Self { input: BytesMut::new(), head: 0, ..self }
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        self.input.get(self.head..).unwrap_or_default()
    }

    /// A header of the last answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(self.input.get(..self.head)?).ok()?;
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}
