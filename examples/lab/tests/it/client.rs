//! A client that sends what it is told, byte by byte, and shows the answer as it came.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot talk has failed")]

use lab::Server;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        same.map(|(_, value)| &**value).collect()
    }
}

impl Client {
    /// Trusts what the server says has to be trusted, and nothing else.
    pub(crate) fn connect(server: &Server) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.certificate_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(server.host()).expect("a server that listens");
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        Self { stream: StreamOwned::new(session, socket), buffer: Vec::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// With `Host` and, for a body, `Content-Length`.
    pub(crate) fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.write(format!("{head}\r\n{body}").as_bytes())?;
        self.answer(method != "HEAD")
    }

    pub(crate) fn answer(&mut self, with_body: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head in UTF-8");
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
        let status = first.next().and_then(|status| status.parse().ok()).expect("a status");
        let reason = first.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line}")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, reason, headers, body: Vec::new() };
        let length = answer.headers("Content-Length").first().map(|length| length.parse::<usize>().unwrap());
        if !with_body {
            return Ok(answer);
        }
        while length.is_none_or(|length| self.buffer.len() < length) {
            match self.fill() {
                Err(error) if length.is_some() => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        let length = length.unwrap_or(self.buffer.len());
        answer.body = self.buffer.drain(..length).collect();
        Ok(answer)
    }

    /// Until the server has ended the connection; what it still said.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        std::mem::take(&mut self.buffer)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }
}
