//! What a registry can refuse.

use crate::meta::Error as MetaError;
use crate::oci::{Digest, DigestError};
use crate::{blob, disk, meta};

/// Result of a registry operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request is refused. `http` alone turns this into status codes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository has no manifest.
    #[error("repository unknown")]
    RepositoryUnknown,
    /// The repository may not read such a blob.
    #[error("blob unknown to the repository")]
    BlobUnknown,
    /// A manifest of the repository needs the blob.
    #[error("a manifest of the repository refers to the blob; delete the manifest first")]
    BlobReferenced,
    /// The repository has no such manifest or tag.
    #[error("manifest unknown")]
    ManifestUnknown,
    /// No such session in this repository.
    #[error("upload unknown to the repository")]
    UploadUnknown,
    /// The chunk does not start where the session stands. The session is intact.
    #[error("the chunk does not start at offset {}", .0.offset)]
    UploadOutOfOrder(super::UploadStatus),
    /// A newer request took the session over; its prefix was kept.
    #[error("a newer request took the upload over")]
    UploadSuperseded,
    /// The body has another length than its headers say.
    #[error("the body has another length than its headers say")]
    SizeInvalid,
    /// The body ended early or was malformed.
    #[error("the body could not be read: {0}")]
    Body(#[from] super::BodyError),
    /// The content has another digest.
    #[error("the content has the digest {actual}")]
    DigestMismatch {
        /// What was received.
        actual: Digest,
    },
    /// The text is no usable digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The manifest cannot be accepted.
    #[error("{0}")]
    ManifestInvalid(String),
    /// The manifest refers to content that is not in the repository.
    #[error("the manifest refers to content that is not in the repository")]
    ManifestBlobUnknown(Vec<Digest>),
    /// The condition of the request does not hold.
    #[error("the precondition does not hold")]
    PreconditionFailed,
    /// Deletion is switched off.
    #[error("deletion is disabled by storage.delete.enabled")]
    DeleteDisabled,
    /// The registry is read-only by configuration.
    #[error("the registry is read-only (storage.maintenance.readonly)")]
    ReadOnly,
    /// Too many open sessions in the repository.
    #[error("too many open uploads in the repository")]
    TooManyUploads,
    /// Nothing more fits on the disk.
    #[error("no space left")]
    Full,
    /// The disk has less free space than the watermark, or would have with this content.
    #[error("too little space is left for more content (kelson.storage.watermark)")]
    LowSpace,
    /// The process has no descriptor or memory left for it.
    #[error("out of descriptors or memory: {0}")]
    Exhausted(String),
    /// The store takes no writes until a restart.
    #[error("the store is read-only after a failed write")]
    Poisoned,
    /// Nobody waits for the work any more.
    #[error(transparent)]
    Abandoned(#[from] crate::ops::progress::Abandoned),
    /// Stored bytes could not be read back.
    #[error("{0}")]
    Storage(String),
}

impl From<blob::Error> for Error {
    fn from(error: blob::Error) -> Self {
        match error {
            blob::Error::Full(_) => Self::Full,
            blob::Error::Poisoned => Self::Poisoned,
            blob::Error::Io(error) => error.into(),
        }
    }
}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        if error.is_exhausted() {
            return Self::Exhausted(error.to_string());
        }
        Self::Storage(error.to_string())
    }
}

impl From<meta::Error> for Error {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Full => Self::Full,
            MetaError::Poisoned => Self::Poisoned,
            MetaError::Disk(error) => error.into(),
            other => Self::Storage(other.to_string()),
        }
    }
}
