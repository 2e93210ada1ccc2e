//! The debug listener: metrics for those who watch the registry (`http.debug`).
//!
//! No part of the API, and without authentication, as in distribution: it belongs on an address
//! that only monitoring can reach. Of distribution's other pages it has `/debug/health`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::listen::{Listener, Stream};
use crate::ops::Clock;
use crate::ops::metrics::MEDIA_TYPE;
use crate::registry::Registry;

/// Connections at one time; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// From the begin of a connection to the end of its answer: there is one request on each.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Waits after a connection could not be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);

const HEALTH: &str = "/debug/health";

/// Answers on `listener` until `stop`.
pub async fn serve(
    listener: Listener,
    registry: Registry,
    clock: Arc<dyn Clock>,
    metrics_path: Option<String>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, _)| (stream, slot))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept => accepted,
        };
        let Ok((stream, slot)) = accepted else {
            clock.sleep(BACK_OFF).await;
            continue;
        };
        let (registry, metrics_path) = (registry.clone(), metrics_path.clone());
        let end = clock.sleep(CONNECTION_TIME_MAX);
        tokio::spawn(async move {
            tokio::select! {
                () = converse(stream, &registry, metrics_path.as_deref()) => {}
                () = end => {}
            }
            drop(slot);
        });
    }
}

async fn converse(stream: Stream, registry: &Registry, metrics_path: Option<&str>) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(&request, registry, metrics_path).await)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the debug listener was cut");
    }
}

async fn answer(
    request: &Request<Incoming>,
    registry: &Registry,
    metrics_path: Option<&str>,
) -> Response<Body> {
    let path = request.uri().path();
    if path != HEALTH && Some(path) != metrics_path {
        return reply(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
    }
    if path == HEALTH {
        return health(registry);
    }
    reply(StatusCode::OK, MEDIA_TYPE, registry.metrics().await)
}

fn health(registry: &Registry) -> Response<Body> {
    let (status, body) = if registry.is_ready() {
        (StatusCode::OK, json!({}))
    } else {
        let error = "the store is read-only after a failed write; restart the server";
        (StatusCode::SERVICE_UNAVAILABLE, json!({ "store": error }))
    };
    reply(status, "application/json", body.to_string())
}

fn reply(status: StatusCode, media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}
