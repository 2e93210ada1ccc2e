//! Backups of the store that is served. The server writes them: a destination is a path of its
//! machine.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::{Context, job};
use crate::meta::redb::RedbMeta;
use crate::registry::backup::BackUp;

pub async fn back_up(State(context): State<Context>, Json(ask): Json<BackUp>) -> Response {
    job::run(move |progress| async move {
        let Context { registry, root, tools, .. } = context;
        registry.back_up(&tools, &root, &ask, &progress).await
    })
}

/// The schema that this release works with, and an open store has.
pub async fn schema(State(_): State<Context>) -> Response {
    Json(RedbMeta::SCHEMA).into_response()
}
