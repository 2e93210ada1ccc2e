//! `/v2/<name>/blobs/uploads/` (distribution-spec, end-4 to end-6, end-11, end-13, end-14).

use axum::http::{StatusCode, header};

use super::Api;
use super::error::ApiError;
use super::reply::{DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, Reply};
use crate::oci::{Algorithm, Digest, RepositoryName, UploadId};
use crate::registry::{self, Chunk, UploadStatus};

/// `POST`: opens a session.
pub async fn begin(
    api: &Api,
    repo: &RepositoryName,
    algorithm: Algorithm,
) -> Result<Reply, ApiError> {
    let status = api.registry().begin_upload(repo, algorithm).await?;
    Ok(accepted(api, repo, status))
}

/// `POST` with `mount`: makes a blob of another repository readable here, or opens a session.
pub async fn mount(
    api: &Api,
    repo: &RepositoryName,
    digest: &Digest,
    from: Option<&RepositoryName>,
    algorithm: Algorithm,
) -> Result<Reply, ApiError> {
    // Until authentication exists, every repository is readable.
    let readable = |_: &RepositoryName| true;
    if api.registry().mount_blob(repo, digest, from, &readable).await? {
        return Ok(created(api, repo, digest));
    }
    begin(api, repo, algorithm).await
}

/// `POST` with `digest` and the whole blob.
pub async fn push(
    api: &Api,
    repo: &RepositoryName,
    digest: &Digest,
    blob: Chunk,
) -> Result<Reply, ApiError> {
    api.registry().push_blob(repo, digest, blob).await?;
    Ok(created(api, repo, digest))
}

/// `GET`: where a session stands.
pub async fn status(api: &Api, repo: &RepositoryName, id: UploadId) -> Result<Reply, ApiError> {
    let status = api.registry().upload_status(repo, id).await?;
    Ok(located(Reply::new(StatusCode::NO_CONTENT), api, repo, status))
}

/// `PATCH`: a chunk.
pub async fn append(
    api: &Api,
    repo: &RepositoryName,
    id: UploadId,
    chunk: Chunk,
) -> Result<Reply, ApiError> {
    let appended = api.registry().append_upload(repo, id, chunk).await;
    let status = appended.map_err(|error| with_location(api, repo, error))?;
    Ok(accepted(api, repo, status))
}

/// `PUT`: the last chunk, and the digest of all.
pub async fn finish(
    api: &Api,
    repo: &RepositoryName,
    id: UploadId,
    digest: &Digest,
    chunk: Chunk,
) -> Result<Reply, ApiError> {
    let finished = api.registry().finish_upload(repo, id, digest, chunk).await;
    finished.map_err(|error| with_location(api, repo, error))?;
    Ok(created(api, repo, digest))
}

/// `DELETE`: ends a session.
pub async fn cancel(api: &Api, repo: &RepositoryName, id: UploadId) -> Result<Reply, ApiError> {
    api.registry().cancel_upload(repo, id).await?;
    Ok(Reply::new(StatusCode::NO_CONTENT))
}

/// Adds where a session stands. `Range` has no unit, and no form for zero bytes: `0-0` is what
/// clients have always been told.
pub fn progress(reply: Reply, status: UploadStatus) -> Reply {
    let last = status.offset.saturating_sub(1);
    reply.header(DOCKER_UPLOAD_UUID, status.id).text(header::RANGE, &format!("0-{last}"))
}

fn located(reply: Reply, api: &Api, repo: &RepositoryName, status: UploadStatus) -> Reply {
    let location = api.locations().upload(repo, status.id);
    progress(reply, status).text(header::LOCATION, &location)
}

fn accepted(api: &Api, repo: &RepositoryName, status: UploadStatus) -> Reply {
    located(Reply::empty(StatusCode::ACCEPTED), api, repo, status)
}

fn created(api: &Api, repo: &RepositoryName, digest: &Digest) -> Reply {
    Reply::empty(StatusCode::CREATED)
        .header(DOCKER_CONTENT_DIGEST, digest)
        .text(header::LOCATION, &api.locations().blob(repo, digest))
}

/// An out-of-order chunk: the answer says where to go on, so that the client needs not ask.
fn with_location(api: &Api, repo: &RepositoryName, error: registry::Error) -> ApiError {
    match error {
        registry::Error::UploadOutOfOrder(status) => {
            let location = api.locations().upload(repo, status.id);
            ApiError::UploadOutOfOrder { location, status }
        }
        other => ApiError::Registry(other),
    }
}
