//! The admin socket: what commands beside a running server ask it.
//!
//! HTTP over a Unix socket that only its owner may open. The same router answers a command that
//! opened the store itself, because no server runs.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::oci::{Digest, RepositoryName};
use crate::registry::{self, Registry};

/// Which page of which list.
#[derive(Debug, Default, Deserialize)]
struct Page {
    repository: Option<String>,
    after: Option<String>,
}

/// What a command is told when its question cannot be answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for people.
    pub error: String,
}

/// The paths of the admin socket, on a registry.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/repositories", get(repositories))
        .route("/manifests", get(manifests))
        .route("/blobs", get(blobs))
        .with_state(registry)
}

/// Makes the socket at `path`. The caller holds the store's lock, so a file that is there already
/// is one of a process that died.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers on the socket until `stop`.
pub async fn serve(
    listener: UnixListener,
    registry: Registry,
    stop: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, router(registry)).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(registry): State<Registry>) -> Response {
    if registry.is_ready() {
        return Json("ready").into_response();
    }
    let error = "the store is read-only after a failed write; restart the server".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Json(Refusal { error })).into_response()
}

async fn repositories(State(registry): State<Registry>, Query(page): Query<Page>) -> Response {
    answer(registry.list_repositories(page.after.as_deref()).await)
}

async fn manifests(State(registry): State<Registry>, Query(page): Query<Page>) -> Response {
    match parse(&page) {
        Ok((repo, after)) => answer(registry.list_manifests(&repo, after.as_ref()).await),
        Err(refusal) => refuse(StatusCode::BAD_REQUEST, refusal),
    }
}

async fn blobs(State(registry): State<Registry>, Query(page): Query<Page>) -> Response {
    match parse(&page) {
        Ok((repo, after)) => answer(registry.list_blobs(&repo, after.as_ref()).await),
        Err(refusal) => refuse(StatusCode::BAD_REQUEST, refusal),
    }
}

fn parse(page: &Page) -> Result<(RepositoryName, Option<Digest>), String> {
    let name = page.repository.as_deref().unwrap_or_default();
    let repo = RepositoryName::parse(name).map_err(|error| error.to_string())?;
    let after = page.after.as_deref().map(Digest::parse).transpose();
    Ok((repo, after.map_err(|error| error.to_string())?))
}

fn answer<T: Serialize>(result: registry::error::Result<T>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error @ registry::Error::RepositoryUnknown) => {
            refuse(StatusCode::NOT_FOUND, error.to_string())
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(Refusal { error })).into_response()
}
