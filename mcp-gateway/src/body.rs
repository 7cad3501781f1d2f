//! Bodies: requests read within bounds of size and time, answers as one piece or as a stream.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    header::{self, HeaderValue},
};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::access::Entry;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is still taken, unread, of a body that is refused for its size, and for how long.
const REST: usize = 64 << 20;
const REST_PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
pub(crate) type Reply = Response<Body>;

/// An answer that refuses, where another outcome is wanted. Boxed, since answers are large.
pub(crate) type Refused = Box<Reply>;

/// The body of an answer, and the line of the access log that is written when it ends.
pub(crate) struct Body {
    pieces: VecDeque<Bytes>,
    stream: Option<Pin<Box<dyn Stream<Item = Bytes> + Send>>>,
    entry: Option<Entry>,
}

impl Body {
    fn of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), stream: None, entry: None }
    }

    /// Logs this entry when the body has been sent or its receiver has gone.
    pub(crate) fn log(&mut self, entry: Entry) {
        self.entry = Some(entry);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.stream {
            Some(stream) => stream.as_mut().poll_next(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.stream {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    reply(status, Body::of([]))
}

/// A JSON answer, in pieces that are sent one after the other.
pub(crate) fn json(status: StatusCode, pieces: impl IntoIterator<Item = Bytes>) -> Reply {
    typed(status, "application/json", Body::of(pieces))
}

/// A JSON answer made from a value.
pub(crate) fn value(status: StatusCode, value: &serde_json::Value) -> Reply {
    json(status, [Bytes::from(value.to_string())])
}

/// A text answer.
pub(crate) fn text(kind: &'static str, text: String) -> Reply {
    typed(StatusCode::OK, kind, Body::of([Bytes::from(text)]))
}

/// An answer that explains itself the way OAuth's errors do.
pub(crate) fn problem(status: StatusCode, error: &str, description: &str) -> Reply {
    value(status, &json!({"error": error, "error_description": description}))
}

/// An event stream. Dropping it tells its source that nobody listens any more.
pub(crate) fn events(stream: impl Stream<Item = Bytes> + Send + 'static) -> Reply {
    let body = Body { pieces: VecDeque::new(), stream: Some(Box::pin(stream)), entry: None };
    let mut reply = typed(StatusCode::OK, "text/event-stream", body);
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise gather the events before it sends them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

fn typed(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = reply(status, body);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn reply(status: StatusCode, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
}

/// Adds `Retry-After`.
pub(crate) fn retry_after(mut reply: Reply, wait: Duration) -> Reply {
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    reply
}

/// Bounds the memory for large request bodies that have not reached a worker yet.
pub(crate) struct Bodies {
    /// In KiB.
    room: Semaphore,
}

impl Bodies {
    /// What is smaller is not counted.
    const SMALL: usize = 64 << 10;
    const ROOM: usize = 64 << 20;

    pub(crate) fn new(max: usize) -> Self {
        Self { room: Semaphore::new(Self::ROOM.max(max).div_ceil(1024)) }
    }

    /// Waits for room for this body; it is given back with what is returned.
    pub(crate) async fn room(&self, headers: &HeaderMap, max: usize) -> Option<SemaphorePermit<'_>> {
        let size = announced(headers).unwrap_or(max).min(max);
        if size <= Self::SMALL {
            return None;
        }
        self.room.acquire_many(u32::try_from(size.div_ceil(1024)).ok()?).await.ok()
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The same for a whole request that is refused before its body was looked at.
pub(crate) async fn leave_out_of(request: Request<Incoming>) {
    if !request.headers().contains_key(header::EXPECT) {
        leave_out(request.into_body()).await;
    }
}

/// Takes the rest of a body and drops it, within bounds. Many clients read no answer before they have sent everything:
/// for them a connection that closes meanwhile is just broken.
async fn leave_out(mut body: Incoming) {
    let drained = async {
        let mut left = REST;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(REST_PATIENCE, drained).await;
}

/// Reads a whole request body of at most `max` bytes.
pub(crate) async fn read(mut body: Incoming, headers: &HeaderMap, max: usize) -> Result<Bytes, Refused> {
    let too_large = || {
        let description = format!("The body is larger than {max} bytes (MAX_BODY).");
        problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &description)
    };
    if announced(headers).is_some_and(|length| length > max) {
        // Who waits to be told to go on sends nothing when told not to.
        if !headers.contains_key(header::EXPECT) {
            leave_out(body).await;
        }
        return Err(too_large().into());
    }
    let read = async {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| problem(StatusCode::BAD_REQUEST, "bad_request", "The body was cut off."))?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + rest.len() + data.len() > max {
                leave_out(body).await;
                return Err(too_large().into());
            }
            if first.is_empty() {
                first = data;
            } else {
                // Only what was sent is kept: an announced length alone must not cost memory.
                rest.extend_from_slice(&data);
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok(whole.freeze())
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| {
        Err(problem(StatusCode::REQUEST_TIMEOUT, "timeout", "The body did not arrive within 30 seconds.").into())
    })
}
