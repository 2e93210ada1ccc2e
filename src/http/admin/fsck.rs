//! The check of a whole store.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::{Context, job};
use crate::registry::fsck::FsckOptions;

/// Runs it, and tells every finding.
pub async fn fsck(State(context): State<Context>, Json(options): Json<FsckOptions>) -> Response {
    let registry = context.registry;
    job::run(move |progress| async move { registry.fsck(options, progress).await })
}
