//! Answers in the making.

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

/// The digest of the content that an answer is about.
pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The version of the API, on each of its answers.
pub const DOCKER_DISTRIBUTION_API_VERSION: HeaderName =
    HeaderName::from_static("docker-distribution-api-version");
/// The id of an upload session.
pub const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Which filters a list of referrers went through.
pub const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The subject of a pushed manifest: tells the client that referrers are kept here.
pub const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// The tags that a push moved.
pub const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// An answer whose headers are sent in the order in which they were added.
#[derive(Debug)]
pub struct Reply {
    response: Response,
}

impl Reply {
    /// An answer without a body and without headers.
    pub fn new(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self { response }
    }

    /// An answer that has no body and says so.
    pub fn empty(status: StatusCode) -> Self {
        Self::new(status).header(header::CONTENT_LENGTH, 0)
    }

    /// An answer whose body is a JSON document of that type.
    pub fn json(content_type: &'static str, document: Vec<u8>) -> Self {
        Self::new(StatusCode::OK)
            .header(header::CONTENT_LENGTH, document.len())
            .text(header::CONTENT_TYPE, content_type)
            .body(Body::from(document))
    }

    /// Adds a header whose value displays as visible ASCII: a number, a digest, an id.
    pub fn header(self, name: HeaderName, value: impl Display) -> Self {
        self.text(name, &value.to_string())
    }

    /// Adds a header. A value that no header can have is left out: each one here was parsed
    /// before or is made of parts that were.
    pub fn text(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.response.headers_mut().append(name, value);
            }
            Err(error) => tracing::error!(%name, %error, "a header is left out"),
        }
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: Body) -> Self {
        *self.response.body_mut() = body;
        self
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        self.response
    }
}
