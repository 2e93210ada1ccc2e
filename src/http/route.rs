//! Which endpoint a request is for: pure, from method, path and query alone.
//!
//! The path is taken apart from its right end, because repository names contain slashes and
//! may have components called `manifests`, `blobs`, `uploads`, `tags`, `list` or `referrers`.
//! It is split at its slashes first and each part percent-decoded once, so that an encoded
//! slash never separates anything: router, authorisation and store see the same name.

mod endpoint;
mod error;
mod query;
#[cfg(test)]
mod tests;

use self::endpoint::Endpoint;
pub use self::error::RouteError;
use crate::auth::Action;
use crate::oci::{Algorithm, Digest, Reference, RepositoryName, Tag, UploadId};

/// Most `tag` parameters of one push; the specification asks for at least 10.
pub const TAGS_MAX: usize = 100;

/// Most different `artifactType` parameters of one request for referrers.
pub const ARTIFACT_TYPES_MAX: usize = 100;

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageQuery {
    /// `n`: most items to send; 0 is legal. To be clamped by the caller.
    pub n: Option<u32>,
    /// `last`: send what sorts after it. Any text, as long as the request line may be; what is
    /// not UTF-8 in it is U+FFFD, which sorts after every tag and name as well.
    pub last: Option<String>,
}

/// A request for an endpoint of the registry, one variant for each (distribution-spec,
/// "Endpoints"). `HEAD` has its own where it costs less than `GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `OPTIONS` of any endpoint; its repository and digest are not looked at.
    Options {
        /// The endpoint's methods.
        allow: &'static [&'static str],
    },
    /// end-1
    Base,
    /// `/v2/_catalog` (not in the specification)
    Catalog {
        /// Which part.
        page: PageQuery,
    },
    /// end-8
    ListTags {
        /// Of which repository.
        repository: RepositoryName,
        /// Which part.
        page: PageQuery,
    },
    /// end-3
    GetManifest {
        /// Of which repository.
        repository: RepositoryName,
        /// Which.
        reference: Reference,
    },
    /// end-3
    HeadManifest {
        /// Of which repository.
        repository: RepositoryName,
        /// Which.
        reference: Reference,
    },
    /// end-7
    PutManifest {
        /// Into which repository.
        repository: RepositoryName,
        /// Under which name.
        reference: Reference,
        /// Further tags, each once; only with a digest.
        tags: Vec<Tag>,
    },
    /// end-9
    DeleteManifest {
        /// From which repository.
        repository: RepositoryName,
        /// Which.
        reference: Reference,
    },
    /// end-2
    GetBlob {
        /// Of which repository.
        repository: RepositoryName,
        /// Which.
        digest: Digest,
    },
    /// end-2
    HeadBlob {
        /// Of which repository.
        repository: RepositoryName,
        /// Which.
        digest: Digest,
    },
    /// end-10
    DeleteBlob {
        /// From which repository.
        repository: RepositoryName,
        /// Which.
        digest: Digest,
    },
    /// end-12
    ListReferrers {
        /// Of which repository.
        repository: RepositoryName,
        /// To which manifest.
        subject: Digest,
        /// Only of these types, each once; empty: of any.
        artifact_types: Vec<String>,
        /// `last`: send what sorts after it; a parameter of our own `Link`.
        last: Option<Digest>,
    },
    /// end-4a, end-4c
    BeginUpload {
        /// Into which repository.
        repository: RepositoryName,
        /// Of which algorithm its digest is expected to be.
        algorithm: Algorithm,
    },
    /// end-4b
    PushBlob {
        /// Into which repository.
        repository: RepositoryName,
        /// Of the request's body.
        digest: Digest,
    },
    /// end-11
    MountBlob {
        /// Into which repository.
        repository: RepositoryName,
        /// Which.
        digest: Digest,
        /// From which repository; `None`: from any that the client may read.
        from: Option<RepositoryName>,
        /// For the session that is opened when mounting is not possible.
        algorithm: Algorithm,
    },
    /// end-13
    UploadStatus {
        /// Of which repository.
        repository: RepositoryName,
        /// Which session.
        id: UploadId,
    },
    /// end-5
    AppendUpload {
        /// Of which repository.
        repository: RepositoryName,
        /// Which session.
        id: UploadId,
    },
    /// end-6
    FinishUpload {
        /// Of which repository.
        repository: RepositoryName,
        /// Which session.
        id: UploadId,
        /// Of all that was uploaded.
        digest: Digest,
    },
    /// end-14
    CancelUpload {
        /// Of which repository.
        repository: RepositoryName,
        /// Which session.
        id: UploadId,
    },
}

impl Route {
    /// Finds the endpoint. `path` is the request's, still encoded, from `/v2` on (without the
    /// configured prefix); `query` is what follows its question mark, still encoded. Unknown
    /// parameters are ignored, among them `ns` and `origin`, which clients add.
    ///
    /// A wrong method is told before a wrong name, and that before anything else.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        let endpoint = Endpoint::find(path).ok_or(RouteError::NotFound)?;
        let allow = endpoint.methods();
        if !allow.contains(&method) {
            return Err(RouteError::MethodNotAllowed { allow });
        }
        if method == "OPTIONS" {
            return Ok(Self::Options { allow });
        }
        endpoint.route(method, query.unwrap_or_default())
    }

    /// What the client must be allowed to do. Cancelling an upload undoes one's own push.
    pub const fn action(&self) -> Action {
        match self {
            Self::Options { .. } | Self::Base => Action::Base,
            Self::Catalog { .. } => Action::Catalog,
            Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::HeadManifest { .. }
            | Self::GetBlob { .. }
            | Self::HeadBlob { .. }
            | Self::ListReferrers { .. } => Action::Pull,
            Self::PutManifest { .. }
            | Self::BeginUpload { .. }
            | Self::PushBlob { .. }
            | Self::MountBlob { .. }
            | Self::UploadStatus { .. }
            | Self::AppendUpload { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. } => Action::Push,
            Self::DeleteManifest { .. } | Self::DeleteBlob { .. } => Action::Delete,
        }
    }

    /// The repository it is about, if it is about one.
    pub const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Options { .. } | Self::Base | Self::Catalog { .. } => None,
            Self::ListTags { repository, .. }
            | Self::GetManifest { repository, .. }
            | Self::HeadManifest { repository, .. }
            | Self::PutManifest { repository, .. }
            | Self::DeleteManifest { repository, .. }
            | Self::GetBlob { repository, .. }
            | Self::HeadBlob { repository, .. }
            | Self::DeleteBlob { repository, .. }
            | Self::ListReferrers { repository, .. }
            | Self::BeginUpload { repository, .. }
            | Self::PushBlob { repository, .. }
            | Self::MountBlob { repository, .. }
            | Self::UploadStatus { repository, .. }
            | Self::AppendUpload { repository, .. }
            | Self::FinishUpload { repository, .. }
            | Self::CancelUpload { repository, .. } => Some(repository),
        }
    }

    /// Its name in logs and metrics; never changes.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Options { .. } => "options",
            Self::Base => "base",
            Self::Catalog { .. } => "catalog",
            Self::ListTags { .. } => "list_tags",
            Self::GetManifest { .. } => "get_manifest",
            Self::HeadManifest { .. } => "head_manifest",
            Self::PutManifest { .. } => "put_manifest",
            Self::DeleteManifest { .. } => "delete_manifest",
            Self::GetBlob { .. } => "get_blob",
            Self::HeadBlob { .. } => "head_blob",
            Self::DeleteBlob { .. } => "delete_blob",
            Self::ListReferrers { .. } => "list_referrers",
            Self::BeginUpload { .. } => "begin_upload",
            Self::PushBlob { .. } => "push_blob",
            Self::MountBlob { .. } => "mount_blob",
            Self::UploadStatus { .. } => "upload_status",
            Self::AppendUpload { .. } => "append_upload",
            Self::FinishUpload { .. } => "finish_upload",
            Self::CancelUpload { .. } => "cancel_upload",
        }
    }
}
