//! Why a request is for no endpoint.

use super::{ARTIFACT_TYPES_MAX, TAGS_MAX};
use crate::oci::name::NameError;
use crate::oci::reference::TagError;
use crate::oci::{DigestError, ErrorCode};

/// Why a request is for no endpoint, or names something that cannot exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No such endpoint: 404.
    #[error("no such endpoint")]
    NotFound,
    /// The endpoint has no such method: 405.
    #[error("the endpoint allows {}", .allow.join(", "))]
    MethodNotAllowed {
        /// The methods it has, for the `Allow` header.
        allow: &'static [&'static str],
    },
    /// No repository can have the name: 400.
    #[error(transparent)]
    NameInvalid(#[from] NameError),
    /// A push to what cannot be a tag: 400.
    #[error(transparent)]
    TagInvalid(#[from] TagError),
    /// Anything else of what cannot be a tag, hence is none: 404.
    #[error("manifest unknown")]
    ManifestUnknown,
    /// What should be a digest is none, or of an algorithm that is not computed: 400.
    #[error(transparent)]
    DigestInvalid(#[from] DigestError),
    /// An upload is to be closed without saying its digest: 400; the session is intact.
    #[error("the parameter \"digest\" is missing")]
    DigestMissing,
    /// What cannot be the id of a session, hence is none: 404.
    #[error("upload unknown to the repository")]
    UploadUnknown,
    /// `n` is no number from 0 to 4294967295: 400.
    #[error("the parameter \"n\" is not a number from 0 to {}", u32::MAX)]
    PageSizeInvalid,
    /// A parameter that may occur once occurs twice: 400.
    #[error("the parameter {0:?} occurs more than once")]
    ParameterRepeated(&'static str),
    /// `tag` parameters on a push to a tag: 400.
    #[error("the parameter \"tag\" needs a digest in the path")]
    TagsWithTag,
    /// More than [`TAGS_MAX`] `tag` parameters: 414.
    #[error("more than {TAGS_MAX} tag parameters")]
    TooManyTags,
    /// More than [`ARTIFACT_TYPES_MAX`] different `artifactType` parameters: 414.
    #[error("more than {ARTIFACT_TYPES_MAX} artifactType parameters")]
    TooManyArtifactTypes,
}

impl RouteError {
    /// The code of the specification to answer with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NameInvalid(_) => ErrorCode::NameInvalid,
            Self::TagInvalid(_) | Self::TagsWithTag => ErrorCode::ManifestInvalid,
            Self::ManifestUnknown => ErrorCode::ManifestUnknown,
            Self::DigestInvalid(_)
            | Self::DigestMissing
            | Self::ParameterRepeated("digest" | "mount" | "digest-algorithm") => {
                ErrorCode::DigestInvalid
            }
            Self::UploadUnknown => ErrorCode::BlobUploadUnknown,
            Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::PageSizeInvalid
            | Self::ParameterRepeated(_)
            | Self::TooManyTags
            | Self::TooManyArtifactTypes => ErrorCode::Unsupported,
        }
    }
}
