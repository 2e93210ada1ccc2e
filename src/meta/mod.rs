//! Facts about bytes: repositories, tags, manifests, links, upload sessions.
//!
//! May import `oci`, `disk`, `ops`. The contract speaks plain domain data; **one method is one
//! atomic, durable fact**: when a writing method returns, its change is committed, and an answer
//! that changed nothing still left only after the commit before it. No database type crosses
//! this boundary. Invariants:
//! M1 a row of `blobs` has `repositories` equal to the number of repositories in
//!    `blob_repositories` for its digest;
//! M2 an edge's parent is a manifest of the same repository;
//! M3 a tag points at a manifest of the same repository, and `tags_by_manifest` mirrors `tags`;
//! M4 a repository is in `repository_names` exactly while it has a manifest;
//! M5 a blob whose place is inline or both has its bytes in `small_contents`, and one whose place
//!    is inline stands in the spill queue, unless it is unlinking;
//! M6 repository ids are never used again; a repository with nothing in it has no row;
//! M7 `gc_queue` holds exactly what nothing holds, each once: a link that no manifest of its
//!    repository refers to, a content that no repository has, and a manifest whose subject was
//!    deleted while it has no tag and no index of the repository refers to it;
//! M8 `untagged_manifests` holds exactly the manifests without tag, index and living subject that
//!    are not in `gc_queue`;
//! M9 a content is unlinking only while no repository has it, and only what stands in a queue is
//!    condemned.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod explain;
pub mod export;
mod garbage;
mod integrity;
pub mod memory;
#[cfg(test)]
mod model_tests;
pub mod record;
pub mod redb;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::disk;
use crate::oci::{Descriptor, Digest, Reference, RepositoryName, Shard, Tag, UploadId};
pub use explain::*;
pub use garbage::*;
pub use integrity::{ScrubRecord, ScrubTotals, Verdict};
pub use record::*;

/// A fact of a store that does not agree with another, or breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding(pub String);

/// Why a metadata store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full; nothing was lost. Nothing of the call was done either, unless the room
    /// ended in the very last step of its commit and has not come back: then it may have been.
    #[error("no space left for the database")]
    Full,
    /// A commit or sync failed: the store takes no writes until a restart.
    #[error("the database is read-only after a failed commit")]
    Poisoned,
    /// What is stored cannot be understood.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The database was written by a newer release.
    #[error(
        "the database has schema {found} of release {release}, this release knows up to \
         {supported}; use release {release} or a newer one"
    )]
    SchemaTooNew {
        /// The release that made it so.
        release: String,
        /// Its version.
        found: u32,
        /// The newest that this release knows.
        supported: u32,
    },
    /// The file is a database, but not one of this program.
    #[error("the database is not Kelson's: {0}")]
    Foreign(String),
    /// An export cannot be read or written.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// I/O on a file.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// Any other failure of the database.
    #[error("database: {0}")]
    Backend(String),
}

/// Result of a metadata store's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Where facts live.
#[async_trait]
pub trait MetaStore: Send + Sync + Debug + 'static {
    // --- repositories -------------------------------------------------------------------

    /// Names of repositories with at least one manifest, by bytes, after `after`.
    async fn repositories(&self, after: Option<&str>, limit: usize)
    -> Result<Page<RepositoryName>>;

    /// What is known of one repository, also of one that has only blobs.
    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRecord>>;

    // --- blobs --------------------------------------------------------------------------

    /// The blob, if this repository may read it (a row in `repo_blobs`) and it is live; and
    /// whether the repository needs it, in the same snapshot.
    async fn blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(BlobRecord, Standing)>>;

    /// The blob or manifest content of that name, whoever may read it. For publishing only,
    /// never for answering a client.
    async fn stored(&self, digest: &Digest) -> Result<Option<BlobRecord>>;

    /// The inline copy of a content, if there is one.
    async fn small_content(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// Blobs that the repository may read, by digest.
    async fn blobs(
        &self,
        repo: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>>;

    /// Repositories that may read the blob, in the order in which they were made.
    async fn repositories_with_blob(
        &self,
        digest: &Digest,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Page<RepositoryName>>;

    /// A blob arrived in a repository: its row, the link, its bytes if small, the end of its
    /// session. One that is not live becomes live. The file, if it is one, is durable already.
    async fn link_blob(&self, link: LinkBlob) -> Result<()>;

    /// Lets `to` read what `from` may read; `false` when `from` may not.
    async fn mount_blob(&self, mount: MountBlob) -> Result<bool>;

    /// Ends a repository's permission to read a blob, unless a manifest of it needs the blob.
    async fn unlink_blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
    ) -> Result<UnlinkBlob>;

    // --- manifests and tags -------------------------------------------------------------

    /// The manifest, if its content is live, and its bytes when they are stored inline; one
    /// snapshot.
    async fn manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(ManifestRecord, Option<Bytes>)>>;

    /// The manifest without its bytes.
    async fn stat_manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestRecord>>;

    /// Manifests of a repository, by digest.
    async fn manifests(
        &self,
        repo: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<ManifestRecord>>;

    /// Stores a manifest and moves tags to it: one transaction that checks every reference.
    async fn put_manifest(&self, push: PushManifest) -> Result<PutManifest>;

    /// Removes a manifest, its tags, its edges, its entry among referrers, and queues its
    /// referrers; `false` when there is none.
    async fn delete_manifest(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
    ) -> Result<bool>;

    /// Tags by bytes, after `after`; `None` when the repository has no manifest.
    async fn tags(
        &self,
        repo: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<TagRecord>>>;

    /// Tags on one manifest.
    async fn tags_of(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Page<Tag>>;

    /// Removes a tag; `false` when there is none.
    async fn delete_tag(&self, repo: &RepositoryName, tag: &Tag, moment: Moment) -> Result<bool>;

    /// Descriptors of manifests whose subject is `subject`, by digest. `artifact_types` empty: all.
    /// A page ends before its descriptors exceed `size_bytes_max` in JSON, but has at least one.
    async fn referrers(
        &self,
        repo: &RepositoryName,
        subject: &Digest,
        artifact_types: &[String],
        after: Option<&Digest>,
        size_bytes_max: usize,
    ) -> Result<Page<Descriptor>>;

    // --- upload sessions ----------------------------------------------------------------

    /// The session of that id, whatever its repository: callers compare it.
    async fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>>;

    /// Sessions started before that accumulated uptime (ages never go by the wall clock), in the
    /// order of (uptime, id), after `after`.
    async fn uploads(
        &self,
        started_before_uptime_seconds: u64,
        after: Option<(u64, UploadId)>,
        limit: usize,
    ) -> Result<Vec<UploadRecord>>;

    /// Adds a session, or replaces what is known of it. Its bytes are durable already.
    async fn save_upload(&self, upload: UploadRecord) -> Result<()>;

    /// Ends a session; none is no error.
    async fn forget_upload(&self, id: UploadId) -> Result<()>;

    // --- the collector (docs/design/collector.md) -----------------------------------------

    /// What stands in the queue with a place before that accumulated uptime, in its order, after
    /// `after`.
    async fn garbage(
        &self,
        queue: GcQueue,
        eligible_before_uptime_seconds: u64,
        after: Option<&Candidate>,
        limit: usize,
    ) -> Result<Vec<Candidate>>;

    /// How much stands in the queues; what has a place before that uptime is eligible, of untagged
    /// manifests before that of their own.
    async fn waiting(
        &self,
        eligible_before_uptime_seconds: u64,
        untagged_before_uptime_seconds: u64,
    ) -> Result<Waiting>;

    /// Who has a content and what holds it there; at most `limit` repositories, and as many tags
    /// and manifests in each. `None`: it is not stored.
    async fn explain(&self, digest: &Digest, limit: usize) -> Result<Option<Explanation>>;

    /// T1: those that still stand at their place are condemned; they are returned.
    async fn condemn(&self, batch: Vec<Candidate>) -> Result<Vec<Candidate>>;

    /// Somebody holds a lease: links and manifests that are still condemned wait again, until that
    /// accumulated uptime.
    async fn spare(&self, batch: Vec<Candidate>, eligible_uptime_seconds: u64) -> Result<()>;

    /// T2: links and manifests that are still condemned go, and with them the manifest's edges.
    /// Links and manifests that lose their last use by it wait until `moment`. Contents that no
    /// repository has, whether by it or before, are unlinking.
    async fn collect(&self, batch: Vec<Candidate>, moment: Moment) -> Result<Collected>;

    /// T3: rows of contents that are still unlinking go; their files are gone already.
    async fn forget_contents(&self, digests: Vec<Digest>) -> Result<Amount>;

    /// A reader met something condemned: it waits again, until `moment`. `false` when it is gone.
    async fn revive(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        usage: Use,
        moment: Moment,
    ) -> Result<bool>;

    // --- housekeeping -------------------------------------------------------------------

    /// Contents that have no file yet, by digest and behind `after`: at most `limit`, and at most
    /// `size_bytes_max` together but at least one.
    async fn unspilled(
        &self,
        after: Option<&Digest>,
        limit: usize,
        size_bytes_max: usize,
    ) -> Result<Vec<(Digest, Bytes)>>;

    /// These contents now have durable files: a blob's inline copy goes, a manifest's stays.
    async fn mark_spilled(&self, digests: Vec<Digest>) -> Result<()>;

    /// Adds to the accumulated uptime, which ages are measured in.
    async fn advance_uptime(&self, seconds: u64) -> Result<()>;

    /// Accumulated uptime in seconds, and the number of committed transactions.
    async fn counters(&self) -> Result<Counters>;

    /// The store that this database belongs to; `None` in a new one.
    async fn store_id(&self) -> Result<Option<[u8; 16]>>;

    /// Says which store this database belongs to (table `schema`).
    async fn set_store_id(&self, id: [u8; 16]) -> Result<()>;

    // --- integrity ----------------------------------------------------------------------

    /// Every content of a shard, by digest, whoever has it and in whatever state.
    async fn contents(
        &self,
        shard: Shard,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>>;

    /// Says whether the file of a content is there and has its digest; the caller found out while
    /// it holds the stripe. The transaction compares the inline copy itself, keeps what is right,
    /// and quarantines the content when nothing is.
    async fn judge(&self, digest: &Digest, file_is_right: bool) -> Result<Verdict>;

    /// Facts of one snapshot that do not agree with each other, or break an invariant. Reads
    /// everything.
    async fn check_facts(&self) -> Result<Vec<Finding>>;

    /// Makes facts that follow from others agree with them again; how many rows were wrong. What
    /// turns out to be garbage may go from this accumulated uptime on. Other writes wait for it.
    async fn rebuild_facts(&self, eligible_uptime_seconds: u64) -> Result<u64>;

    /// Where the background scrub stands.
    async fn scrub(&self) -> Result<ScrubRecord>;

    /// Remembers where the background scrub stands.
    async fn save_scrub(&self, scrub: ScrubRecord) -> Result<()>;

    /// Whether a failed commit has made the store read-only.
    fn is_poisoned(&self) -> bool;

    /// Whether what was set aside for a full disk is being used: what adds content must leave the
    /// rest to what removes some.
    fn uses_reserve(&self) -> bool {
        false
    }

    /// Sets it aside again, if there is plenty of room.
    async fn restore_reserve(&self) {}

    /// What writes exports of this store; `None` where nothing is stored that could be lost.
    fn exporter(&self) -> Option<&dyn Exporter> {
        None
    }
}

/// A store that can be written to one file, and made anew from it.
pub trait Exporter: Send + Sync {
    /// Writes every fact of one snapshot as an [`export`]; `now` goes into its header. Blocks, and
    /// must end soon: what is changed meanwhile cannot be overwritten before it does, so `out`
    /// fails when it takes too long.
    fn export(&self, now: Timestamp, out: &mut dyn std::io::Write) -> Result<export::Totals>;

    /// Rises with every write that can have changed what an export would hold. Not stored.
    fn changes(&self) -> u64;
}
