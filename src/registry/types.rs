//! What the registry takes and gives.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use crate::blob::BlobFile;
use crate::meta::Expect;
use crate::oci::range::ContentRange;
use crate::oci::{Descriptor, Digest, MediaType, Reference, RepositoryName, Tag, UploadId};

/// A request body, as it arrives.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client went away.
    #[error("the connection was closed")]
    Disconnected,
    /// The framing was malformed.
    #[error("the body is malformed")]
    Malformed,
    /// The client sent too slowly.
    #[error("the body arrived too slowly")]
    TooSlow,
}

/// Content to be sent.
#[derive(Debug, Clone)]
pub enum Content {
    /// Small, from the database.
    Inline(Bytes),
    /// From its file.
    File(BlobFile),
}

/// A chunk of an upload.
pub struct Chunk {
    /// Where it says it belongs; `None` appends.
    pub range: Option<ContentRange>,
    /// The body's length, when the client stated it.
    pub length: Option<u64>,
    /// The bytes.
    pub body: Body,
}

impl Chunk {
    /// How many bytes it should have, by its length or its range; `None`: nobody knows.
    pub fn announced(&self) -> Option<u64> {
        let of_range = |range: ContentRange| (range.end - range.start).saturating_add(1);
        self.length.or(self.range.map(of_range))
    }
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadStatus {
    /// The session.
    pub id: UploadId,
    /// Bytes received.
    pub offset: u64,
}

/// A manifest to be sent.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its name.
    pub digest: Digest,
    /// Its type, as pushed.
    pub media_type: MediaType,
    /// Its length.
    pub size_bytes: u64,
    /// Its bytes, exactly as pushed.
    pub bytes: Bytes,
}

/// A manifest to be stored.
#[derive(Debug)]
pub struct PutManifest {
    /// Where.
    pub repository: RepositoryName,
    /// Under which name.
    pub reference: Reference,
    /// Further tags (`?tag=`), only with a digest.
    pub tags: Vec<Tag>,
    /// The request's Content-Type, if it has one.
    pub media_type: Option<MediaType>,
    /// Its bytes.
    pub bytes: Bytes,
    /// The request's condition.
    pub expect: Expect,
}

/// What a manifest push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedManifest {
    /// Its name.
    pub digest: Digest,
    /// What it is attached to.
    pub subject: Option<Digest>,
}

/// A page of referrers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrers {
    /// The descriptors, by digest.
    pub descriptors: Vec<Descriptor>,
    /// Where the next page starts, if there is one.
    pub next: Option<Digest>,
}
