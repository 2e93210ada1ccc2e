//! What surrounds every request: its id and span, the headers of every answer, the access log,
//! and the last line of defence.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::{Frame, SizeHint};
use tower::ServiceExt as _;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::Api;
use super::access_log::Entry;
use super::connection::Exchange;
use super::error::ApiError;
use super::wire::Rejection;

/// The status that stands in the logs when the client did not wait for an answer, as in
/// distribution and nginx. It is never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Where requests come from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address, if the connection has one.
    pub peer: Option<IpAddr>,
    /// What is shared with the connection's stream.
    pub exchange: Arc<Exchange>,
}

/// Answers one request, and sees to it that the answer is counted and logged once it is
/// finished. `rejection`: the request stands for one that could not be read.
pub async fn answer<B>(
    api: &Api,
    router: Router,
    origin: Origin,
    rejection: Option<Rejection>,
    request: Request<B>,
) -> Response<Tracked>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let exchange = Arc::clone(&origin.exchange);
    let mut completion = Completion::new(api, origin, rejection.is_none().then_some(&request));
    let span = completion.span.clone();
    let mut response = match rejection {
        Some(rejection) => {
            let reply = span.in_scope(|| ApiError::Rejected(rejection).into_reply(""));
            closing(reply.into_response())
        }
        None => route(router, request, exchange).instrument(span).await,
    };
    let is_bodyless =
        matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    if is_bodyless {
        // The router states the length of every body, but here there is none to state
        // (RFC 9110, section 8.6).
        headers.remove(header::CONTENT_LENGTH);
    }
    for (name, value) in api.headers() {
        headers.append(name, value.clone());
    }
    completion.status = Some(response.status().as_u16());
    response.map(|inner| Tracked { inner, completion })
}

async fn route<B>(router: Router, request: Request<B>, exchange: Arc<Exchange>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let ended = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let watched = Arc::clone(&ended);
    let request = request.map(|inner| Body::new(Watched { inner, ended: watched }));
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // A panic in one request must not take the connection's other answers with it.
    let work = AssertUnwindSafe(router.oneshot(request)).catch_unwind();
    let outcome = if is_change {
        // A change runs to its end when its client goes away: half of one is never left behind.
        // It keeps the connection's slot for as long, or there could be any number of them.
        let work = async move {
            let outcome = work.await;
            drop(exchange);
            outcome
        };
        tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| Err(Box::new(error)))
    } else {
        work.await
    };
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => ApiError::Panicked.into_reply("").into_response(),
    };
    // What is left of the body is not read: the next request cannot be found behind it.
    if ended.load(Ordering::Relaxed) { response } else { closing(response) }
}

fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A request's body that tells whether it was read to its end.
struct Watched<B> {
    inner: B,
    ended: Arc<AtomicBool>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if frame.is_none() || this.inner.is_end_stream() {
            this.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that is counted.
#[derive(Debug)]
pub struct Tracked {
    inner: Body,
    completion: Completion,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.completion.size_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Tells the logs and the connection, when it is dropped, what became of a request: with its
/// answer's body, or before there is one when the client goes away.
#[derive(Debug)]
struct Completion {
    api: Api,
    exchange: Arc<Exchange>,
    span: Span,
    entry: Option<Entry>,
    started: Duration,
    status: Option<u16>,
    size_bytes: u64,
}

impl Completion {
    fn new<B>(api: &Api, origin: Origin, request: Option<&Request<B>>) -> Self {
        let id = uuid::Builder::from_random_bytes(api.random().bytes()).into_uuid();
        let method = request.map_or("-", |request| request.method().as_str());
        let span = tracing::info_span!(
            "request",
            %id,
            method,
            route = Empty,
            repo.name = Empty,
            status = Empty,
            duration_ms = Empty,
            size_bytes = Empty,
        );
        Self {
            exchange: origin.exchange,
            span,
            entry: api.access_log().map(|_| Entry::new(origin.peer, request)),
            started: api.clock().monotonic(),
            status: None,
            size_bytes: 0,
            api: api.clone(),
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let now = self.api.clock().monotonic();
        self.exchange.finish_answer(now);
        let status = self.status.unwrap_or(CLIENT_CLOSED_REQUEST);
        if !self.span.is_disabled() {
            let duration = now.saturating_sub(self.started);
            let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            self.span.record("status", status);
            self.span.record("duration_ms", duration_ms);
            self.span.record("size_bytes", self.size_bytes);
            self.span.in_scope(|| tracing::debug!("request finished"));
        }
        if let (Some(log), Some(entry)) = (self.api.access_log(), &self.entry) {
            log.write(entry.line(self.api.clock().now(), status, self.size_bytes));
        }
    }
}
