//! From an exchange with a worker to an HTTP answer: JSON when the answer comes first, an event stream when something
//! else comes before it or nothing comes for a while.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use hyper::StatusCode;
use serde_json::value::RawValue;
use shared::{Stop, jsonrpc};
use tokio::sync::mpsc;

use crate::{
    access::RpcError,
    body::{self, Reply},
    message::{self, Answer},
    stop::within,
    worker::{Exchange, Lost, Next},
};

/// After so long without a message the answer becomes a stream, so that nobody on the way takes the call for dead.
const SILENCE: Duration = Duration::from_secs(5);
/// How often a stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// How an era puts an answer into HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statuses {
    /// By error code, as since 2026-07-28.
    ByCode,
    /// 200 whatever the core answers, as before.
    Plain,
}

impl Statuses {
    fn of(self, error: Option<i64>) -> StatusCode {
        match (self, error) {
            (Self::ByCode, Some(-32_601)) => StatusCode::NOT_FOUND,
            (Self::ByCode, Some(-32_700 | -32_600 | -32_022..=-32_020)) => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        }
    }
}

/// Waits for the first message and answers accordingly. `NotSent` comes back as it is: another worker may take it.
/// What is in `kept` is dropped with the end of the answer.
pub(crate) async fn reply(
    mut exchange: Exchange,
    id: &RawValue,
    statuses: Statuses,
    streams: bool,
    kept: impl Send + 'static,
) -> Result<Reply, Lost> {
    let first = if streams {
        within(SILENCE, exchange.next()).await
    } else {
        loop {
            // Without a stream there is no place for events.
            if let answer @ Next::Answer(_) = exchange.next().await {
                break Some(answer);
            }
        }
    };
    let first = match first {
        Some(Next::Answer(Err(Lost::NotSent))) => return Err(Lost::NotSent),
        Some(Next::Answer(answer)) => return Ok(json(answer, id, statuses)),
        Some(Next::Event(event)) => framed(&[event]),
        None => COMMENT,
    };
    let source = Source { exchange, id: id.to_owned(), kept };
    let rest = stream::unfold(Some((source, Some(first))), |state| async move {
        let (mut source, first) = state?;
        if let Some(first) = first {
            return Some((first, Some((source, None))));
        }
        match within(KEEP_ALIVE, source.exchange.next()).await {
            None => Some((COMMENT, Some((source, None)))),
            Some(Next::Event(event)) => Some((framed(&[event]), Some((source, None)))),
            Some(Next::Answer(answer)) => {
                let answer = answer.unwrap_or_else(|lost| explain(&source.id, &lost));
                Some((framed(&answer.pieces), None))
            }
        }
    });
    Ok(body::events(rest))
}

struct Source<K> {
    exchange: Exchange,
    id: Box<RawValue>,
    #[expect(dead_code, reason = "held for as long as the stream is open")]
    kept: K,
}

fn json(answer: Result<Answer, Lost>, id: &RawValue, statuses: Statuses) -> Reply {
    match answer {
        Ok(answer) => {
            let mut reply = body::json(statuses.of(answer.error), answer.pieces);
            if let Some(code) = answer.error {
                reply.extensions_mut().insert(RpcError(code));
            }
            reply
        }
        Err(lost) => {
            let answer = explain(id, &lost);
            let status = match (&lost, statuses) {
                (Lost::Down { .. } | Lost::Stopping | Lost::NotSent, _) => StatusCode::SERVICE_UNAVAILABLE,
                (Lost::Died | Lost::TooLong, Statuses::ByCode) => StatusCode::BAD_GATEWAY,
                // Clients of that era take another status for a broken connection.
                (Lost::Died | Lost::TooLong, Statuses::Plain) => StatusCode::OK,
            };
            let mut reply = body::json(status, answer.pieces);
            reply.extensions_mut().insert(RpcError(message::INTERNAL.into()));
            match lost {
                Lost::Down { wait, .. } => body::retry_after(reply, wait),
                Lost::Stopping | Lost::NotSent => body::retry_after(reply, Duration::from_secs(1)),
                _ => reply,
            }
        }
    }
}

/// What the caller is told when there is no answer.
fn explain(id: &RawValue, lost: &Lost) -> Answer {
    let text = match lost {
        Lost::NotSent | Lost::Down { .. } => {
            "The MCP server behind this gateway is not running at the moment; nothing was done. Try again in a while."
                .to_owned()
        }
        Lost::Died => "The MCP server behind this gateway ended before it answered. What was asked may have \
                          happened: check before you repeat it. The gateway's log says more."
            .to_owned(),
        Lost::TooLong => "The MCP server's answer was too long to be passed on. Ask for less.".to_owned(),
        Lost::Stopping => {
            "The gateway is stopping. What was asked may have happened: check before you repeat it.".to_owned()
        }
    };
    Answer::error(id, message::INTERNAL, &text)
}

/// A refusal of ours in JSON-RPC's form.
pub(crate) fn refusal(status: StatusCode, id: Option<&RawValue>, code: i32, text: &str) -> Reply {
    refusal_line(status, code, jsonrpc::error_line(id, code, text))
}

/// The same with the line ready.
pub(crate) fn refusal_line(status: StatusCode, code: i32, line: Vec<u8>) -> Reply {
    let mut reply = body::json(status, [Bytes::from(line)]);
    reply.extensions_mut().insert(RpcError(code.into()));
    reply
}

/// The stream of a session that belongs to no call. It ends with the session, with the next such stream, or when the
/// gateway stops.
pub(crate) fn session(events: mpsc::Receiver<Bytes>, stop: Stop) -> Reply {
    let stopped: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move { stop.stopping().await });
    // The comment gets the head on its way.
    let rest = stream::unfold((events, stopped, true), |(mut events, mut stopped, first)| async move {
        if first {
            return Some((COMMENT, (events, stopped, false)));
        }
        let piece = tokio::select! {
            biased;
            event = events.recv() => framed(&[event?]),
            () = &mut stopped => return None,
            () = tokio::time::sleep(KEEP_ALIVE) => COMMENT,
        };
        Some((piece, (events, stopped, false)))
    });
    body::events(rest)
}

/// One event. Messages have no line breaks.
fn framed(pieces: &[Bytes]) -> Bytes {
    const HEAD: &[u8] = b"event: message\ndata: ";
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let mut event = BytesMut::with_capacity(HEAD.len() + length + 2);
    event.put_slice(HEAD);
    pieces.iter().for_each(|piece| event.put_slice(piece));
    event.put_slice(b"\n\n");
    event.freeze()
}
