//! From refusals to status codes: the only place that knows them for errors.

use axum::body::Body;
use axum::http::{StatusCode, header};
use serde::Serialize;

use super::reply::Reply;
use super::route::RouteError;
use super::uploads;
use super::wire::{Reason, Rejection};
use crate::oci::{Digest, ErrorCode};
use crate::registry::{self, BodyError, UploadStatus};

/// Seconds after which a client may try again what a full disk, a limit, or a store that waits
/// for a restart refused.
const RETRY_AFTER_SECONDS: u64 = 10;

/// Why a request is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request line names nothing that there is.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The framing guard refused the head.
    #[error("{}", .0.reason)]
    Rejected(Rejection),
    /// The registry refused.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A chunk does not start where its session stands.
    #[error("the chunk does not start at offset {}", .status.offset)]
    UploadOutOfOrder {
        /// Where to go on.
        location: String,
        /// Where the session stands.
        status: UploadStatus,
    },
    /// `Content-Range` is not `start-end`.
    #[error("Content-Range is start-end, both numbers")]
    ContentRange,
    /// `Content-Type` is no media type.
    #[error("Content-Type is one media type")]
    ContentType,
    /// Both conditions at once.
    #[error("a push has either If-Match or If-None-Match")]
    Conditions,
    /// The manifest is too large.
    #[error("a manifest has at most {size_bytes_max} bytes")]
    ManifestTooLarge {
        /// The limit.
        size_bytes_max: u64,
    },
    /// No byte of the content is in the wanted range.
    #[error("the content has {size_bytes} bytes, none of them in the range")]
    RangeNotSatisfiable {
        /// Length of the content.
        size_bytes: u64,
    },
    /// The wanted page of the catalog is too long.
    #[error("a page has at most {entries_max} entries")]
    PageTooLong {
        /// The limit.
        entries_max: usize,
    },
    /// A handler panicked.
    #[error("internal error")]
    Panicked,
}

/// `{"errors": [...]}` (distribution-spec, "Error codes").
#[derive(Debug, Serialize)]
struct ErrorBody {
    errors: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
}

#[derive(Debug, Serialize)]
struct Detail {
    digest: Digest,
}

impl ApiError {
    /// The answer. `allow` lists the methods that the route takes now, for those answers that must
    /// say so. What a 5xx was about goes into the log, not to the client.
    pub fn into_reply(self, allow: &str) -> Reply {
        let status = self.status();
        // Low space is reported once, where it begins, not by each request that it refuses.
        if status.is_server_error() && !matches!(self, Self::Registry(registry::Error::LowSpace)) {
            tracing::error!(error = %self, status = status.as_u16(), "a request failed");
        }
        if let Self::Rejected(Rejection { reason: Reason::Tls, .. }) = &self {
            // What a TLS client shows of it is text.
            let text = format!("{self}\n");
            return Reply::new(status)
                .header(header::CONTENT_LENGTH, text.len())
                .text(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                .body(Body::from(text));
        }
        let body = ErrorBody { errors: self.entries(status) };
        // Strings and digests always serialise.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let reply = Reply::new(status)
            .header(header::CONTENT_LENGTH, body.len())
            .text(header::CONTENT_TYPE, "application/json; charset=utf-8");
        self.add_headers(status, allow, reply).body(Body::from(body))
    }

    fn add_headers(&self, status: StatusCode, allow: &str, reply: Reply) -> Reply {
        let reply = match self {
            Self::UploadOutOfOrder { location, status } => {
                uploads::progress(reply, *status).text(header::LOCATION, location)
            }
            Self::Registry(registry::Error::UploadOutOfOrder(status)) => {
                uploads::progress(reply, *status)
            }
            Self::RangeNotSatisfiable { size_bytes } => {
                reply.text(header::CONTENT_RANGE, &format!("bytes */{size_bytes}"))
            }
            _ => reply,
        };
        match status {
            StatusCode::METHOD_NOT_ALLOWED => reply.text(header::ALLOW, allow),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE => {
                reply.header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
            }
            _ => reply,
        }
    }

    fn entries(&self, status: StatusCode) -> Vec<Entry> {
        if let Self::Registry(registry::Error::ManifestBlobUnknown(missing)) = self {
            return missing.iter().map(|digest| self.entry(Some(*digest))).collect();
        }
        let mut entry = self.entry(None);
        if status.is_server_error() {
            entry.message = status.canonical_reason().unwrap_or_default().to_lowercase();
        }
        vec![entry]
    }

    fn entry(&self, digest: Option<Digest>) -> Entry {
        let detail = digest.map(|digest| Detail { digest });
        Entry { code: self.code().as_str(), message: self.to_string(), detail }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Route(error) => route_status(error),
            Self::Rejected(rejection) => rejection_status(rejection.reason),
            Self::Registry(error) => registry_status(error),
            Self::UploadOutOfOrder { .. } | Self::RangeNotSatisfiable { .. } => {
                StatusCode::RANGE_NOT_SATISFIABLE
            }
            Self::ContentRange
            | Self::ContentType
            | Self::Conditions
            | Self::PageTooLong { .. } => StatusCode::BAD_REQUEST,
            Self::ManifestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Route(error) => error.code(),
            Self::Registry(error) => registry_code(error),
            Self::UploadOutOfOrder { .. } | Self::ContentRange => ErrorCode::BlobUploadInvalid,
            Self::ContentType | Self::Conditions | Self::ManifestTooLarge { .. } => {
                ErrorCode::ManifestInvalid
            }
            Self::RangeNotSatisfiable { .. } => ErrorCode::SizeInvalid,
            Self::Rejected(_) | Self::PageTooLong { .. } => ErrorCode::Unsupported,
            Self::Panicked => ErrorCode::Unknown,
        }
    }
}

fn rejection_status(reason: Reason) -> StatusCode {
    match reason {
        Reason::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Reason::TargetTooLong => StatusCode::URI_TOO_LONG,
        Reason::TimedOut => StatusCode::REQUEST_TIMEOUT,
        Reason::Tls
        | Reason::ControlCharacter
        | Reason::RequestLine
        | Reason::Version
        | Reason::Target
        | Reason::Connect
        | Reason::Field
        | Reason::Folded
        | Reason::Host
        | Reason::ContentLength
        | Reason::TransferEncoding
        | Reason::BothFramings => StatusCode::BAD_REQUEST,
    }
}

fn route_status(error: &RouteError) -> StatusCode {
    match error {
        RouteError::NotFound | RouteError::ManifestUnknown | RouteError::UploadUnknown => {
            StatusCode::NOT_FOUND
        }
        RouteError::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        RouteError::NameInvalid(_)
        | RouteError::TagInvalid(_)
        | RouteError::DigestInvalid(_)
        | RouteError::DigestMissing
        | RouteError::PageSizeInvalid
        | RouteError::ParameterRepeated(_)
        | RouteError::TagsWithTag => StatusCode::BAD_REQUEST,
        RouteError::TooManyTags | RouteError::TooManyArtifactTypes => StatusCode::URI_TOO_LONG,
    }
}

fn registry_status(error: &registry::Error) -> StatusCode {
    use registry::Error;
    match error {
        Error::RepositoryUnknown
        | Error::BlobUnknown
        | Error::ManifestUnknown
        | Error::UploadUnknown => StatusCode::NOT_FOUND,
        Error::BlobReferenced | Error::DeleteDisabled | Error::ReadOnly => {
            StatusCode::METHOD_NOT_ALLOWED
        }
        Error::UploadOutOfOrder(_) => StatusCode::RANGE_NOT_SATISFIABLE,
        Error::UploadSuperseded => StatusCode::CONFLICT,
        Error::Body(BodyError::TooSlow) => StatusCode::REQUEST_TIMEOUT,
        Error::SizeInvalid
        | Error::Body(BodyError::Disconnected | BodyError::Malformed)
        | Error::DigestMismatch { .. }
        | Error::Digest(_)
        | Error::ManifestInvalid(_)
        | Error::ManifestBlobUnknown(_) => StatusCode::BAD_REQUEST,
        Error::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Error::TooManyUploads => StatusCode::TOO_MANY_REQUESTS,
        Error::Full | Error::LowSpace => StatusCode::INSUFFICIENT_STORAGE,
        Error::Exhausted(_) | Error::Poisoned | Error::Abandoned(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn registry_code(error: &registry::Error) -> ErrorCode {
    use registry::Error;
    match error {
        Error::RepositoryUnknown => ErrorCode::NameUnknown,
        Error::BlobUnknown => ErrorCode::BlobUnknown,
        Error::ManifestUnknown => ErrorCode::ManifestUnknown,
        Error::UploadUnknown => ErrorCode::BlobUploadUnknown,
        Error::BlobReferenced | Error::DeleteDisabled | Error::ReadOnly => ErrorCode::Unsupported,
        Error::UploadOutOfOrder(_) | Error::UploadSuperseded | Error::Body(_) => {
            ErrorCode::BlobUploadInvalid
        }
        Error::SizeInvalid => ErrorCode::SizeInvalid,
        Error::DigestMismatch { .. } | Error::Digest(_) => ErrorCode::DigestInvalid,
        Error::ManifestInvalid(_) | Error::PreconditionFailed => ErrorCode::ManifestInvalid,
        Error::ManifestBlobUnknown(_) => ErrorCode::ManifestBlobUnknown,
        Error::TooManyUploads => ErrorCode::TooManyRequests,
        Error::Full
        | Error::LowSpace
        | Error::Exhausted(_)
        | Error::Poisoned
        | Error::Abandoned(_) => ErrorCode::Unavailable,
        Error::Storage(_) => ErrorCode::Unknown,
    }
}
