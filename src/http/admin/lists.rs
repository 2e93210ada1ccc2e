//! What is in the store, page by page.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Context, answer, refuse};
use crate::oci::{Digest, RepositoryName};

/// Which page of which list.
#[derive(Debug, Default, Deserialize)]
pub struct Page {
    repository: Option<String>,
    after: Option<String>,
}

pub async fn repositories(State(context): State<Context>, Query(page): Query<Page>) -> Response {
    answer(context.registry.list_repositories(page.after.as_deref()).await)
}

pub async fn manifests(State(context): State<Context>, Query(page): Query<Page>) -> Response {
    match parse(&page) {
        Ok((repo, after)) => answer(context.registry.list_manifests(&repo, after.as_ref()).await),
        Err(refusal) => refuse(StatusCode::BAD_REQUEST, refusal),
    }
}

pub async fn blobs(State(context): State<Context>, Query(page): Query<Page>) -> Response {
    match parse(&page) {
        Ok((repo, after)) => answer(context.registry.list_blobs(&repo, after.as_ref()).await),
        Err(refusal) => refuse(StatusCode::BAD_REQUEST, refusal),
    }
}

fn parse(page: &Page) -> Result<(RepositoryName, Option<Digest>), String> {
    let name = page.repository.as_deref().unwrap_or_default();
    let repo = RepositoryName::parse(name).map_err(|error| error.to_string())?;
    let after = page.after.as_deref().map(Digest::parse).transpose();
    Ok((repo, after.map_err(|error| error.to_string())?))
}
