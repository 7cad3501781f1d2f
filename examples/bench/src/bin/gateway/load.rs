//! Load on one server at a time, from one thread.

use crate::http::{Connection, Era, FIRST_ID, Request};
use crate::server::Server;
use bench::Fallible;
use bench::samples::quantile;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Each connection has ids of its own, so that an answer for another is noticed.
const IDS_EACH: u64 = 10_000_000;
/// How long anything with one server may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server under load.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    kind: Kind,
    /// One for each connection; opened when they are first needed.
    sessions: Vec<String>,
    /// What `tools/list` was answered first, by era.
    expected: [Option<Arc<[u8]>>; 2],
}

/// What can be expected of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The same bytes whatever is asked.
    Canned,
    /// Ids are as they should be, but it has no sessions.
    Plain,
    /// A gateway.
    Full,
}

/// What one sample tells.
pub(crate) struct Sample {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Milliseconds of processor time for each request, of the server itself.
    pub(crate) cpu: f64,
    /// The same of its children.
    pub(crate) children: f64,
    /// Milliseconds from sending to the last byte.
    pub(crate) p50: f64,
    /// The same.
    pub(crate) p99: f64,
}

impl Target {
    pub(crate) fn new(name: &'static str, kind: Kind, server: Server) -> Self {
        Self { name, server, kind, sessions: Vec::new(), expected: [None, None] }
    }

    /// Asks for the list on `connections` connections at once, each as soon as it has its answer, for `length`.
    pub(crate) async fn sample(&mut self, era: Era, connections: usize, length: Duration) -> Fallible<Sample> {
        tokio::time::timeout(PATIENCE, self.load(era, connections, length)).await?
    }

    async fn load(&mut self, era: Era, connections: usize, length: Duration) -> Fallible<Sample> {
        let mut open = Vec::with_capacity(connections);
        for number in 0..connections {
            let mut connection = Connection::open(self.server.address()).await?;
            let session =
                if era == Era::Session { self.session(number, &mut connection).await? } else { String::new() };
            let mut request = Request::list(era, &session);
            let id = FIRST_ID + number as u64 * IDS_EACH;
            request.set_id(id);
            connection.post(&request).await?;
            let rest = self.rest(connection.body(), id)?;
            let expected = self.expect(era, rest)?;
            open.push(Client { connection, request, id, expected, canned: self.kind == Kind::Canned });
        }
        let before = self.server.cpu()?;
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        open.into_iter().for_each(|client| drop(clients.spawn(client.ask_until(begun + length))));
        let mut millis = Vec::new();
        while let Some(done) = clients.join_next().await {
            millis.extend(done??);
        }
        let wall = begun.elapsed();
        let after = self.server.cpu()?;
        let each = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() * 1e3 / millis.len() as f64;
        Ok(Sample {
            rate: millis.len() as f64 / wall.as_secs_f64(),
            cpu: each(before.own, after.own),
            children: each(before.children, after.children),
            p50: quantile(&millis, 0.5).ok_or("no answer")?,
            p99: quantile(&millis, 0.99).ok_or("no answer")?,
        })
    }

    /// What follows the id.
    fn rest<'a>(&self, body: &'a [u8], id: u64) -> Fallible<&'a [u8]> {
        if self.kind == Kind::Canned { Ok(body) } else { behind_id(body, id) }
    }

    /// Keeps the first answer, and wants all others to be the same.
    fn expect(&mut self, era: Era, rest: &[u8]) -> Fallible<Arc<[u8]>> {
        let [modern, session] = &mut self.expected;
        let place = if era == Era::Modern { modern } else { session };
        match place {
            Some(expected) if **expected == *rest => Ok(expected.clone()),
            Some(_) => Err("the answers differ".into()),
            None => {
                let whole = String::from_utf8_lossy(rest);
                if !whole.contains(r#""tools":[{"#) {
                    return Err(format!("no tools in the answer: {whole:.200}").into());
                }
                Ok(place.insert(rest.into()).clone())
            }
        }
    }

    /// The session of this connection.
    async fn session(&mut self, number: usize, connection: &mut Connection) -> Fallible<String> {
        if let Some(session) = self.sessions.get(number) {
            return Ok(session.clone());
        }
        let session = self.open_session(connection, "{}").await?;
        self.sessions.push(session.clone());
        Ok(session)
    }

    /// `initialize`; a floor's session has a name of the same length.
    pub(crate) async fn open_session(&self, connection: &mut Connection, capabilities: &str) -> Fallible<String> {
        connection.post(&Request::initialize(capabilities)).await?;
        if self.kind != Kind::Full {
            return Ok("0".repeat(32));
        }
        initialized(connection.body())?;
        Ok(connection.header("mcp-session-id").ok_or("no Mcp-Session-Id")?.to_owned())
    }

    /// From connecting to the first answer in a new session, in milliseconds.
    pub(crate) async fn new_session(&self, capabilities: &str) -> Fallible<f64> {
        let measure = async {
            let begun = Instant::now();
            let mut connection = Connection::open(self.server.address()).await?;
            let session = self.open_session(&mut connection, capabilities).await?;
            connection.post(&Request::list(Era::Session, &session)).await?;
            let millis = begun.elapsed().as_secs_f64() * 1e3;
            self.rest(connection.body(), FIRST_ID)?;
            if self.kind == Kind::Full {
                connection.delete(&session).await?;
            }
            Ok(millis)
        };
        tokio::time::timeout(PATIENCE, measure).await?
    }
}

struct Client {
    connection: Connection,
    request: Request,
    id: u64,
    expected: Arc<[u8]>,
    canned: bool,
}

impl Client {
    /// The milliseconds of each answer.
    async fn ask_until(mut self, end: Instant) -> Fallible<Vec<f64>> {
        let mut millis = Vec::new();
        loop {
            let begun = Instant::now();
            if begun >= end {
                return Ok(millis);
            }
            self.id += 1;
            self.request.set_id(self.id);
            self.connection.post(&self.request).await?;
            millis.push(begun.elapsed().as_secs_f64() * 1e3);
            let body = self.connection.body();
            let rest = if self.canned { body } else { behind_id(body, self.id)? };
            if *rest != *self.expected {
                return Err(format!("id {}: not the list", self.id).into());
            }
        }
    }
}

/// The rest of an answer to this id.
fn behind_id(body: &[u8], id: u64) -> Fallible<&[u8]> {
    let start = format!(r#"{{"jsonrpc":"2.0","id":{id}"#);
    body.strip_prefix(start.as_bytes())
        .ok_or_else(|| format!("not an answer to {id}: {:.200}", String::from_utf8_lossy(body)).into())
}

fn initialized(body: &[u8]) -> Fallible<()> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "result")]
        _result: IgnoredAny,
    }
    serde_json::from_slice::<Answer>(body).map(drop).map_err(|error| format!("initialize: {error}").into())
}
