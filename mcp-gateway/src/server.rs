//! Connections: accepted, served in a task each, and brought to their end when the gateway stops.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{Method, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::Sender,
};

use crate::{Gateway, LAST_WORDS, body, process::Limit, route};

/// How long a client may take for the head of a request; an idle connection is closed after it too.
const HEAD: Duration = Duration::from_secs(60);
/// The longest head.
const LONGEST_HEAD: usize = 64 << 10;

/// Accepts connections for as long as it is polled. Each holds a clone of `connected`.
pub(crate) async fn accept(gateway: &Arc<Gateway>, listener: TcpListener, connected: &Sender<()>) {
    let mut limit = Limit::default();
    loop {
        let (stream, peer) = next(&listener, &mut limit).await;
        let (gateway, connected) = (gateway.clone(), connected.clone());
        tokio::spawn(async move {
            gateway.metrics.connections.add(1);
            let shared = gateway.clone();
            let service = service_fn(move |request| {
                let gateway = shared.clone();
                async move { Ok::<_, Infallible>(route::answer(&gateway, request, peer).await) }
            });
            serve(&gateway, stream, service).await;
            gateway.metrics.connections.sub(1);
            drop(connected);
        });
    }
}

/// The same for `GET /metrics`, which has a port of its own and no sign-in.
pub(crate) async fn accept_metrics(gateway: &Arc<Gateway>, listener: Option<TcpListener>, connected: &Sender<()>) {
    let Some(listener) = listener else { return std::future::pending().await };
    let mut limit = Limit::default();
    loop {
        let (stream, _) = next(&listener, &mut limit).await;
        let (gateway, connected) = (gateway.clone(), connected.clone());
        tokio::spawn(async move {
            let metrics = gateway.metrics.clone();
            let service = service_fn(move |request: hyper::Request<_>| {
                let reply = match (request.method(), request.uri().path()) {
                    (&Method::GET, "/metrics") => {
                        body::text("text/plain; version=0.0.4; charset=utf-8", metrics.text())
                    }
                    _ => body::problem(StatusCode::NOT_FOUND, "not_found", "There is only GET /metrics here."),
                };
                std::future::ready(Ok::<_, Infallible>(reply))
            });
            serve(&gateway, stream, service).await;
            drop(connected);
        });
    }
}

async fn next(listener: &TcpListener, limit: &mut Limit) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it every streamed answer waits for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                if limit.take().is_some() {
                    log::warn!("cannot accept a connection: {error}");
                }
                // Out of descriptors, most likely; they come back when others go.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve<S>(gateway: &Gateway, stream: TcpStream, service: S)
where
    S: hyper::service::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = body::Reply,
            Error = Infallible,
            Future: Send,
        >,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = gateway.stop.stopping() => {
            // The request under way is finished, none follows.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = async { gateway.stop.abandoned().await; tokio::time::sleep(LAST_WORDS).await } => return,
            }
        }
    };
    if let Err(error) = ended {
        // A client that went away, or one that speaks no HTTP.
        log::debug!("a connection ended: {error}");
    }
}
