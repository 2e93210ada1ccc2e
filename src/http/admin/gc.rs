//! Collecting garbage, and who holds what.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;

use serde::Deserialize;

use super::{Context, answer, job, refuse};
use crate::oci::Digest;
use crate::registry::Error;
use crate::registry::gc::Pass;

pub async fn collect(State(context): State<Context>, Json(pass): Json<Pass>) -> Response {
    let Context { registry, served, .. } = context;
    if served && pass.grace_seconds.is_some() {
        let error = "a server serves the store, and its clients rely on the configured grace; \
                     stop it first, or leave --grace out";
        return refuse(StatusCode::CONFLICT, error.to_owned());
    }
    job::run(move |progress| async move { registry.garbage_collect(pass, served, &progress).await })
}

/// Which content.
#[derive(Debug, Deserialize)]
pub struct Subject {
    digest: String,
}

pub async fn explain(State(context): State<Context>, Query(subject): Query<Subject>) -> Response {
    let digest = match Digest::parse(&subject.digest) {
        Ok(digest) => digest,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match context.registry.explain(&digest).await {
        Err(Error::BlobUnknown) => {
            refuse(StatusCode::NOT_FOUND, format!("{digest} is not stored here"))
        }
        explained => answer(explained),
    }
}
