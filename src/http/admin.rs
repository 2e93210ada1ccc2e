//! The admin socket: what commands beside a running server ask it.
//!
//! HTTP over a Unix socket that only its owner may open. The same router answers a command that
//! opened the store itself, because no server runs.

mod backups;
mod fsck;
mod gc;
pub mod job;
mod lists;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::ops::metrics::MEDIA_TYPE;
use crate::registry::backup::Tools;
use crate::registry::{self, Registry};

/// What a command is told when its question cannot be answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for people.
    pub error: String,
}

/// What commands are answered from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store.
    pub registry: Registry,
    /// Whether a server serves it; otherwise the command has it for itself.
    pub served: bool,
    /// Its root directory.
    pub root: PathBuf,
    /// What long work needs of the machine.
    pub tools: Tools,
}

/// The paths of the admin socket.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/explain", get(gc::explain))
        .route("/garbage-collect", post(gc::collect))
        .route("/repositories", get(lists::repositories))
        .route("/manifests", get(lists::manifests))
        .route("/blobs", get(lists::blobs))
        .route("/scrub", get(scrub))
        .route("/metrics", get(metrics))
        .route("/fsck", post(fsck::fsck))
        .route("/backup", post(backups::back_up))
        .route("/schema", get(backups::schema))
        .with_state(context)
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
    context: Context,
    stop: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, router(context)).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(context): State<Context>) -> Response {
    if context.registry.is_ready() {
        return Json("ready").into_response();
    }
    let error = "the store is read-only after a failed write; restart the server".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Json(Refusal { error })).into_response()
}

async fn scrub(State(context): State<Context>) -> Response {
    answer(context.registry.scrub_status().await)
}

async fn metrics(State(context): State<Context>) -> Response {
    let media_type = [(header::CONTENT_TYPE, MEDIA_TYPE)];
    (media_type, context.registry.metrics().await).into_response()
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
