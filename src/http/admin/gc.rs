//! Collecting garbage, and who holds what.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{Context, job, refuse};
use crate::registry::gc::Pass;

pub async fn collect(State(context): State<Context>, Json(pass): Json<Pass>) -> Response {
    let Context { registry, served } = context;
    if served && pass.grace_seconds.is_some() {
        let error = "a server serves the store, and its clients rely on the configured grace; \
                     stop it first, or leave --grace out";
        return refuse(StatusCode::CONFLICT, error.to_owned());
    }
    job::run(move |progress| async move { registry.garbage_collect(pass, served, &progress).await })
}
