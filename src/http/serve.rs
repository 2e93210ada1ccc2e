//! Accepts connections and speaks HTTP/1.1 on them until it is told to stop.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::connection::{Connection, Exchange, Timeouts};
use super::listen::{Listener, Stream};
use super::middleware::{self, Origin};
use super::pace::Rate;

/// Waits between attempts to accept while the process has no descriptor left, shortest and
/// longest.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections whose requests took longer than the drain timeout.
    pub cut: usize,
}

/// Serves `api` on `listener` until `shutdown`. Then nothing is accepted any more, requests that
/// run are finished for up to the drain timeout, and the rest is cut.
pub async fn run(listener: Listener, api: Api, shutdown: CancellationToken) -> Stopped {
    let slots = Arc::new(Semaphore::new(api.options().limits.connections_max));
    let router = super::router(api.clone());
    let mut connections = JoinSet::new();
    let mut back_off = BACK_OFF_MIN;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &slots) => match accepted {
                Ok((stream, peer, slot)) => {
                    back_off = BACK_OFF_MIN;
                    let (api, router) = (api.clone(), router.clone());
                    let shutdown = shutdown.clone();
                    connections.spawn(async move {
                        converse(api, router, stream, (peer, Some(slot)), shutdown).await;
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    api.clock().sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            },
        }
    }
    drop(listener);
    drain(&api, connections).await
}

/// Whether only the connection that was to be accepted is lost.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The next connection, once there is a slot for it: others wait in the kernel's queue.
async fn accept(
    listener: &Listener,
    slots: &Arc<Semaphore>,
) -> io::Result<(Stream, Option<IpAddr>, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

async fn drain(api: &Api, mut connections: JoinSet<()>) -> Stopped {
    let mut deadline = api.clock().sleep(api.options().drain_timeout);
    loop {
        tokio::select! {
            finished = connections.join_next() => if finished.is_none() {
                return Stopped { cut: 0 };
            },
            () = &mut deadline => break,
        }
    }
    let cut = connections.len();
    connections.shutdown().await;
    Stopped { cut }
}

/// Serves one connection, which takes a slot, to its end.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    api: Api,
    router: Router,
    stream: S,
    (peer, slot): (Option<IpAddr>, Option<OwnedSemaphorePermit>),
    shutdown: CancellationToken,
) {
    let exchange = Arc::new(Exchange::holding(slot));
    let limits = &api.options().limits;
    let timeouts = Timeouts {
        header: limits.header_timeout,
        idle: limits.idle_timeout,
        progress: Rate {
            bytes_per_second: limits.body_bytes_per_second_min,
            window: limits.body_window,
        },
    };
    let clock = Arc::clone(api.clock());
    let io = Connection::new(stream, Arc::clone(&exchange), timeouts, clock);
    let service = service_fn(move |request| {
        let rejection = exchange.begin_request();
        let origin = Origin { peer, exchange: Arc::clone(&exchange) };
        let (api, router) = (api.clone(), router.clone());
        async move {
            let answer = middleware::answer(&api, router, origin, rejection, request);
            Ok::<_, Infallible>(answer.await)
        }
    });
    let connection = http1::Builder::new()
        .title_case_headers(true)
        .half_close(false)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was cut");
    }
}
