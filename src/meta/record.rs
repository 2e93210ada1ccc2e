//! Plain records: what the metadata store takes and gives.

use bytes::Bytes;

use super::Standing;
use crate::oci::{Algorithm, Descriptor, Digest, MediaType, RepositoryName, Tag, UploadId};
pub use crate::ops::Timestamp;

/// A part of a sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether there are more after them.
    pub more: bool,
}

/// When something happens: wall time for people, accumulated uptime for ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall time.
    pub time: Timestamp,
    /// Accumulated uptime in seconds at which a thing that loses its last use now becomes
    /// garbage: now plus the grace.
    pub eligible_uptime_seconds: u64,
}

/// Counters of the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Transactions committed over the life of the store; rises with each.
    pub transactions: u64,
    /// Time the store was open, in seconds.
    pub uptime_seconds: u64,
}

/// One repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryRecord {
    /// Its id, never used again.
    pub id: u64,
    /// Manifests in it.
    pub manifests: u64,
    /// Tags in it.
    pub tags: u64,
    /// Blobs that it may read.
    pub blobs: u64,
    /// Bytes of those blobs and of its manifests, each digest once per repository and kind.
    pub size_bytes: u64,
}

/// Where the bytes of a content are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the database only; its file is still to be written.
    Inline,
    /// In its file only.
    File,
    /// In both.
    Both,
}

/// Whether a content is there. Only a live one is served, or found by a manifest that refers to
/// it; the others become live when they are uploaded again, which writes their bytes anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// In use, or may be.
    Live,
    /// No repository has it, and its file is being removed.
    Unlinking,
    /// Its bytes were found damaged. Links and references to it stay.
    Quarantined,
}

/// One content: a blob, a manifest, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRecord {
    /// Length.
    pub size_bytes: u64,
    /// Where the bytes are.
    pub place: Place,
    /// Where in its life it is.
    pub state: BlobState,
    /// Repositories that have it, as a blob or as a manifest.
    pub repositories: u64,
}

/// A blob arrives.
#[derive(Debug, Clone)]
pub struct LinkBlob {
    /// Into this repository.
    pub repository: RepositoryName,
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// Its bytes when they are to be stored inline; `None` when its file is durable.
    pub content: Option<Bytes>,
    /// The session that ends with it.
    pub upload: Option<UploadId>,
    /// When.
    pub moment: Moment,
}

/// A blob becomes readable in another repository.
#[derive(Debug, Clone)]
pub struct MountBlob {
    /// Where it is readable.
    pub from: RepositoryName,
    /// Where it is to be.
    pub to: RepositoryName,
    /// Which.
    pub digest: Digest,
    /// When.
    pub moment: Moment,
}

/// What became of [`super::MetaStore::unlink_blob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlinkBlob {
    /// The link is gone.
    Removed,
    /// There was no link.
    Unknown,
    /// A manifest of the repository needs it: nothing changed.
    Referenced,
}

/// What a manifest refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// Its config: a blob.
    Config,
    /// A layer: a blob.
    Layer,
    /// A child of an index: a manifest or a blob.
    Child,
}

/// One reference of a manifest. A subject is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// What it refers to.
    pub digest: Digest,
    /// As what.
    pub kind: EdgeKind,
    /// The length that the manifest states.
    pub size_bytes: u64,
    /// Whether the content may be missing from the repository.
    pub optional: bool,
}

/// Condition on what the tags point at before a push.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expect {
    /// Anything.
    #[default]
    Anything,
    /// No such tag (or, for a push by digest, no such manifest).
    Absent,
    /// Some such tag.
    Present,
    /// One of these.
    OneOf(Vec<Digest>),
    /// None of these (absent is fine).
    NoneOf(Vec<Digest>),
}

impl Expect {
    /// Whether the condition holds for what is there.
    pub fn holds_for(&self, found: Option<&Digest>) -> bool {
        match (self, found) {
            (Self::Anything, _) | (Self::Absent | Self::NoneOf(_), None) => true,
            (Self::Present, found) => found.is_some(),
            (Self::Absent, Some(_)) | (Self::OneOf(_), None) => false,
            (Self::OneOf(digests), Some(found)) => digests.contains(found),
            (Self::NoneOf(digests), Some(found)) => !digests.contains(found),
        }
    }
}

/// A manifest arrives.
#[derive(Debug, Clone)]
pub struct PushManifest {
    /// Into this repository.
    pub repository: RepositoryName,
    /// Its name: the digest the client used, sha256 for a push by tag.
    pub digest: Digest,
    /// Its type.
    pub media_type: MediaType,
    /// Its length.
    pub size_bytes: u64,
    /// Its bytes when they are to be stored inline; `None` when its file is durable.
    pub content: Option<Bytes>,
    /// What it refers to, each (digest, kind) once.
    pub edges: Vec<Edge>,
    /// What it is attached to.
    pub subject: Option<Digest>,
    /// Media type of its config, for images.
    pub config_type: Option<MediaType>,
    /// The artifact type that referrers show: its own, or an image's config type.
    pub artifact_type: Option<String>,
    /// Its annotations, which referrers show.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Tags to move to it.
    pub tags: Vec<Tag>,
    /// Condition that every tag must meet (the manifest itself when there are no tags).
    pub expect: Expect,
    /// When.
    pub moment: Moment,
}

/// What became of [`super::MetaStore::put_manifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutManifest {
    /// Committed.
    Stored,
    /// These are not in the repository: nothing changed.
    Missing(Vec<Digest>),
    /// The stored content has another length than the manifest says: nothing changed.
    SizeMismatch {
        /// Which content.
        digest: Digest,
        /// Its real length.
        stored_size_bytes: u64,
    },
    /// The condition does not hold: nothing changed.
    Unexpected,
}

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Its name.
    pub digest: Digest,
    /// Its type, as pushed.
    pub media_type: MediaType,
    /// Its length.
    pub size_bytes: u64,
    /// What it is attached to.
    pub subject: Option<Digest>,
    /// The artifact type that referrers show.
    pub artifact_type: Option<String>,
    /// Media type of its config, for images.
    pub config_type: Option<MediaType>,
    /// When it was last pushed.
    pub pushed_at: Timestamp,
    /// Whether it is needed.
    pub standing: Standing,
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRecord {
    /// The tag.
    pub tag: Tag,
    /// What it points at.
    pub digest: Digest,
    /// Since when.
    pub updated_at: Timestamp,
}

/// One upload session whose bytes are durable up to `offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// Its id.
    pub id: UploadId,
    /// The repository it was opened in.
    pub repository: RepositoryName,
    /// Bytes durably received.
    pub offset: u64,
    /// What is hashed as bytes arrive.
    pub algorithm: Algorithm,
    /// When it was opened.
    pub started_at: Timestamp,
    /// Accumulated uptime in seconds when it was opened: what its age is measured by, and the key
    /// of `uploads_by_time`.
    pub started_uptime_seconds: u64,
}

impl PushManifest {
    /// The descriptor under which referrers list it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size_bytes: self.size_bytes,
            artifact_type: self.artifact_type.clone(),
            annotations: self.annotations.clone(),
        }
    }
}
