//! `/v2/<name>/blobs/<digest>` (distribution-spec, end-2 and end-10).

use axum::http::{HeaderMap, StatusCode, header};

use super::Api;
use super::body::{self, Piece};
use super::error::ApiError;
use super::extract;
use super::range::{self, Multipart};
use super::reply::{DOCKER_CONTENT_DIGEST, Reply};
use crate::oci::range::{ByteRange, RangeOutcome};
use crate::oci::{Digest, RepositoryName};
use crate::registry::Content;

/// Content of a digest never changes.
const CACHE_CONTROL: &str = "max-age=31536000";
const CONTENT_TYPE: &str = "application/octet-stream";

/// `GET`: the blob, or parts of it.
pub async fn get(
    api: &Api,
    headers: &HeaderMap,
    repo: &RepositoryName,
    digest: &Digest,
) -> Result<Reply, ApiError> {
    if extract::is_cached(headers, digest) {
        return head(api, headers, repo, digest).await;
    }
    let (size_bytes, content) = api.registry().blob(repo, digest).await?;
    let wanted = extract::range(headers, digest);
    match wanted.map_or(RangeOutcome::Whole, |text| RangeOutcome::parse(text, size_bytes)) {
        RangeOutcome::Whole => {
            let piece = Piece::Slice { offset: 0, length: size_bytes };
            let content = api.registry().verifying(digest, content);
            let body = body::send(content, std::iter::once(piece), size_bytes);
            Ok(whole(size_bytes, digest).body(body))
        }
        RangeOutcome::Unsatisfiable => Err(ApiError::RangeNotSatisfiable { size_bytes }),
        RangeOutcome::Ranges(ranges) => Ok(partial(api, digest, size_bytes, content, ranges)),
    }
}

/// `HEAD`: what `GET` would say. Ranges are for `GET` alone (RFC 9110, section 14.2).
pub async fn head(
    api: &Api,
    headers: &HeaderMap,
    repo: &RepositoryName,
    digest: &Digest,
) -> Result<Reply, ApiError> {
    // A condition never hides that the repository may not read the blob.
    let size_bytes = api.registry().stat_blob(repo, digest).await?;
    if extract::is_cached(headers, digest) {
        return Ok(describe(Reply::new(StatusCode::NOT_MODIFIED), digest));
    }
    Ok(whole(size_bytes, digest))
}

/// `DELETE`: the repository may no longer read the blob.
pub async fn delete(api: &Api, repo: &RepositoryName, digest: &Digest) -> Result<Reply, ApiError> {
    api.registry().delete_blob(repo, digest).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

fn whole(size_bytes: u64, digest: &Digest) -> Reply {
    let reply = Reply::new(StatusCode::OK)
        .text(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, size_bytes)
        .text(header::CONTENT_TYPE, CONTENT_TYPE);
    describe(reply, digest)
}

fn describe(reply: Reply, digest: &Digest) -> Reply {
    reply
        .text(header::CACHE_CONTROL, CACHE_CONTROL)
        .header(DOCKER_CONTENT_DIGEST, digest)
        .text(header::ETAG, &format!("\"{digest}\""))
}

fn partial(
    api: &Api,
    digest: &Digest,
    size_bytes: u64,
    content: Content,
    ranges: Vec<ByteRange>,
) -> Reply {
    let reply = Reply::new(StatusCode::PARTIAL_CONTENT).text(header::ACCEPT_RANGES, "bytes");
    let reply = if let [only] = ranges.as_slice() {
        let length = only.size_bytes();
        reply
            .header(header::CONTENT_LENGTH, length)
            .text(header::CONTENT_RANGE, &range::content_range(only, size_bytes))
            .text(header::CONTENT_TYPE, CONTENT_TYPE)
            .body(body::send(content, std::iter::once(range::slice(only)), length))
    } else {
        let multipart = Multipart::new(api.random().bytes(), ranges, size_bytes);
        let length = multipart.size_bytes();
        reply
            .header(header::CONTENT_LENGTH, length)
            .text(header::CONTENT_TYPE, &multipart.content_type())
            .body(body::send(content, multipart.pieces(), length))
    };
    describe(reply, digest)
}
