//! The wire: HTTP in, HTTP out.
//!
//! May import `oci`, `disk`, `ops`, `blob`, `meta`, `auth`, `registry`. A request passes, in this
//! order: [`serve`] (connections), `wire` and `connection` (framing and timeouts),
//! `middleware` (id, span, logs), [`route`] (which endpoint), one file per noun (typed headers
//! in, registry call, answer out). `error` alone turns refusals into status codes. Invariants:
//! H1 a head reaches the HTTP library only when it follows RFC 9112 to the letter;
//! H2 no header of an answer is made of text that a client chose and no grammar checked;
//! H3 nothing is allocated by a number that a client chose, only by bytes that arrived;
//! H4 every 405 has `Allow`, every 401 a challenge, every error a body with a code.

pub mod access_log;
pub mod admin;
mod base;
mod blobs;
mod body;
mod catalog;
mod connection;
pub mod debug;
mod dispatch;
pub mod error;
mod extract;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
pub mod link;
pub mod listen;
mod location;
mod manifests;
mod middleware;
pub mod options;
mod pace;
mod range;
mod referrers;
mod reply;
pub mod route;
pub mod serve;
mod tags;
#[cfg(test)]
mod tests;
mod uploads;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::routing::any;
use tokio_util::sync::CancellationToken;

use self::access_log::AccessLog;
use self::extract::Collected;
use self::location::Locations;
pub use self::options::Options;
use crate::ops::{Clock, Random};
use crate::registry::Registry;

/// What every request needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    options: Options,
    headers: Vec<(HeaderName, HeaderValue)>,
    locations: Locations,
    collected: Collected,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    access_log: Option<AccessLog>,
    draining: CancellationToken,
}

/// What an [`Api`] is made of besides its options.
#[derive(Debug)]
pub struct Parts {
    /// What it serves.
    pub registry: Registry,
    /// For timeouts and logs.
    pub clock: Arc<dyn Clock>,
    /// For request ids and boundaries.
    pub random: Arc<dyn Random>,
    /// Where requests leave their lines, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Cancelled when the process is about to stop: readiness goes down then.
    pub draining: CancellationToken,
}

/// A configured header that HTTP does not allow.
#[derive(Debug, thiserror::Error)]
#[error("http.headers: {name:?} has a name or a value that HTTP does not allow")]
pub struct HeaderError {
    /// Its name.
    pub name: String,
}

impl Api {
    /// Puts the parts together.
    pub fn new(options: Options, parts: Parts) -> Result<Self, HeaderError> {
        let mut headers = Vec::new();
        for (name, values) in &options.headers {
            let invalid = || HeaderError { name: name.clone() };
            let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
            for value in values {
                headers.push((parsed.clone(), value.parse().map_err(|_| invalid())?));
            }
        }
        let (locations, collected) = (Locations::new(&options), Collected::default());
        let Parts { registry, clock, random, access_log, draining } = parts;
        let inner = Inner {
            registry,
            options,
            headers,
            locations,
            collected,
            clock,
            random,
            access_log,
            draining,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.inner.headers
    }

    fn locations(&self) -> &Locations {
        &self.inner.locations
    }

    fn collected(&self) -> &Collected {
        &self.inner.collected
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    fn random(&self) -> &dyn Random {
        self.inner.random.as_ref()
    }

    fn access_log(&self) -> Option<&AccessLog> {
        self.inner.access_log.as_ref()
    }

    fn is_ready(&self) -> bool {
        self.inner.registry.is_ready() && !self.inner.draining.is_cancelled()
    }
}

/// Everything that is served: the API under the prefix, and the probes beside it.
pub fn router(api: Api) -> Router {
    let probe =
        |path: &'static str| any(move |State(api), method| health::probe(api, method, path));
    Router::new()
        .route(health::ROOT, probe(health::ROOT))
        .route(health::LIVE, probe(health::LIVE))
        .route(health::READY, probe(health::READY))
        .fallback(dispatch::dispatch)
        .with_state(api)
}
