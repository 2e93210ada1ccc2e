//! `/v2/<name>/manifests/<reference>` (distribution-spec, end-3, end-7 and end-9).

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};

use super::Api;
use super::error::ApiError;
use super::extract::{self, RequestBody};
use super::reply::{DOCKER_CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG, Reply};
use crate::oci::{Reference, RepositoryName, Tag};
use crate::registry::{Manifest, PutManifest};

/// `GET`: the document as it was pushed, whatever `Accept` says.
pub async fn get(
    api: &Api,
    headers: &HeaderMap,
    repo: &RepositoryName,
    reference: &Reference,
) -> Result<Reply, ApiError> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let manifest = api.registry().stat_manifest(repo, reference).await?;
        if extract::is_cached(headers, &manifest.digest) {
            return Ok(describe(Reply::new(StatusCode::NOT_MODIFIED), &manifest));
        }
    }
    let manifest = api.registry().manifest(repo, reference).await?;
    Ok(whole(&manifest).body(Body::from(manifest.bytes)))
}

/// `HEAD`: what `GET` would say.
pub async fn head(
    api: &Api,
    headers: &HeaderMap,
    repo: &RepositoryName,
    reference: &Reference,
) -> Result<Reply, ApiError> {
    let manifest = api.registry().stat_manifest(repo, reference).await?;
    if extract::is_cached(headers, &manifest.digest) {
        return Ok(describe(Reply::new(StatusCode::NOT_MODIFIED), &manifest));
    }
    Ok(whole(&manifest))
}

/// `PUT`: stores a manifest under its digest, and under tags.
pub async fn put(
    api: &Api,
    headers: HeaderMap,
    repo: RepositoryName,
    reference: Reference,
    tags: Vec<Tag>,
    body: RequestBody,
) -> Result<Reply, ApiError> {
    let media_type = extract::media_type(&headers)?;
    let expect = extract::expectation(&headers)?;
    let size_bytes_max = api.options().manifest_size_bytes_max;
    let (bytes, _counted) = body.collect(headers, size_bytes_max, api.collected()).await?;
    let repository = repo.clone();
    let accepted = tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ");
    let put = PutManifest { repository, reference, tags, media_type, bytes, expect };
    let pushed = api.registry().put_manifest(put).await?;
    let mut reply = Reply::empty(StatusCode::CREATED)
        .header(DOCKER_CONTENT_DIGEST, pushed.digest)
        .text(header::LOCATION, &api.locations().manifest(&repo, &pushed.digest));
    if let Some(subject) = pushed.subject {
        reply = reply.header(OCI_SUBJECT, subject);
    }
    if !accepted.is_empty() {
        reply = reply.text(OCI_TAG, &accepted);
    }
    Ok(reply)
}

/// `DELETE`: a tag, or a manifest with all its tags.
pub async fn delete(
    api: &Api,
    repo: &RepositoryName,
    reference: &Reference,
) -> Result<Reply, ApiError> {
    api.registry().delete_manifest(repo, reference).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

fn whole(manifest: &Manifest) -> Reply {
    let reply = Reply::new(StatusCode::OK)
        .header(header::CONTENT_LENGTH, manifest.size_bytes)
        .text(header::CONTENT_TYPE, manifest.media_type.as_str());
    describe(reply, manifest)
}

fn describe(reply: Reply, manifest: &Manifest) -> Reply {
    reply
        .header(DOCKER_CONTENT_DIGEST, manifest.digest)
        .text(header::ETAG, &format!("\"{}\"", manifest.digest))
}
