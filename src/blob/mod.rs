//! Bytes: content-addressed files, and staging for those still arriving.
//!
//! May import `oci`, `disk`, `ops`. Each durable step is one method and one await point, so
//! that simulation can interleave clients and cut the power there. Invariants:
//! B1 a file at its digest's path was fully synced before it got that name;
//! B2 a staging directory holds exactly one entry, `data`;
//! B3 names come only from parsed digests and upload ids;
//! B4 nothing here decides who may read, or whether a digest is known: that is `meta`.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod fs;
mod hash;
mod layout;
mod memory;
#[cfg(test)]
mod model_tests;
mod names;
mod staging;
mod tree;
mod verify;
mod walk;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::disk;
use crate::oci::{Algorithm, Digest, Shard, UploadId};

pub use fs::FsBlobs;
pub use hash::Hasher;
pub use layout::Layout;
pub use memory::MemoryBlobs;

/// Why a blob store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full; nothing was lost, room makes it work again.
    #[error("no space left: {0}")]
    Full(#[source] disk::Error),
    /// A sync failed, now or earlier: what is durable is unknown, so the store takes no more
    /// writes until a restart.
    #[error("the store is read-only after a failed sync")]
    Poisoned,
    /// Any other I/O error.
    #[error(transparent)]
    Io(disk::Error),
}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        if error.is_full() { Self::Full(error) } else { Self::Io(error) }
    }
}

/// Result of a blob store's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Names published but perhaps not durable yet: what [`BlobStore::sync_directories`] is for.
#[derive(Debug, Default)]
#[must_use = "a published name is not durable before its directories are synced"]
pub struct Published {
    /// To be synced.
    directories: Vec<PathBuf>,
    /// Algorithm and shard directories whose own names this makes durable.
    parents: Vec<PathBuf>,
}

impl Published {
    /// Both together, for one [`BlobStore::sync_directories`].
    pub fn merge(mut self, other: Self) -> Self {
        self.directories.extend(other.directories);
        self.parents.extend(other.parents);
        self
    }
}

/// What became of a batch of small contents.
#[derive(Debug, Default)]
pub struct Spilled {
    /// These have a right and durable file now.
    pub durable: Vec<Digest>,
    /// These have not, each for a reason of its own, such as a directory in the file's place.
    pub failed: Vec<(Digest, Error)>,
}

/// What lies in one shard of the tree of blobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardFiles {
    /// Every file at a digest's place, with its length in bytes.
    pub files: Vec<(Digest, u64)>,
    /// Paths below the root that have no place there.
    pub foreign: Vec<String>,
}

/// Where bytes live. After a failed sync of a directory every writing method but `discard` fails
/// with [`Error::Poisoned`]; reads go on.
#[async_trait]
pub trait BlobStore: Send + Sync + Debug + 'static {
    /// Begins an upload. Nothing is durable. An id that is staged already is an error.
    async fn stage(&self, id: UploadId, algorithm: Algorithm) -> Result<Box<dyn Staging>>;

    /// Goes on with an upload after a restart: cuts what lies beyond `offset` and reads the
    /// rest to hash it. `None` when there are fewer bytes than `offset`. An older [`Staging`] of
    /// the same id ends: each of its methods is an error from then on.
    async fn resume(
        &self,
        id: UploadId,
        offset: u64,
        algorithm: Algorithm,
    ) -> Result<Option<Box<dyn Staging>>>;

    /// Removes a staging directory and what is in it, and ends its [`Staging`]; none there is no
    /// error.
    async fn discard(&self, id: UploadId) -> Result<()>;

    /// Ends the [`Staging`] of an upload and gives the room back that it takes beyond `offset`.
    async fn cut(&self, id: UploadId, offset: u64) -> Result<()>;

    /// The staging directories that exist, by id, those in use by an upload or a spill included;
    /// so what has no session may be discarded at the start only. Other names are left alone.
    async fn staged(&self) -> Result<Vec<UploadId>>;

    /// Staging directories that no [`Staging`] has in use. Those of a spill under way are among
    /// them, for a moment.
    async fn idle(&self) -> Result<Vec<UploadId>>;

    /// Gives staged content its name (design 2, "Publish"), after a sync of what is not synced
    /// yet. The caller holds the digest's stripe and has checked the digest; `size_bytes` must be
    /// what was appended. `live`: the database has a row that says a good file of `size_bytes` is
    /// there; a file already there is then kept, otherwise it is hashed again, or replaced.
    /// After an error the staging directory is still there, for `resume` or `discard`.
    async fn publish(
        &self,
        staged: Box<dyn Staging>,
        digest: &Digest,
        size_bytes: u64,
        live: bool,
    ) -> Result<Published>;

    /// Makes published names durable. Calls that meet share one round of syncs.
    async fn sync_directories(&self, published: Published) -> Result<()>;

    /// Writes small contents to their files: the batch is staged, synced, renamed, and its
    /// directories are synced once. What stands in [`Spilled::durable`] is durable when it
    /// returns; a right file that exists is kept. An error means that none is known to be.
    /// Callers hold the stripes and bound the batch.
    async fn spill(&self, batch: Vec<(Digest, Bytes)>) -> Result<Spilled>;

    /// Makes a blob's file durable, its bytes and its names, if it is right; `false` when there is
    /// no right one. Before a row vouches for a file that nobody is known to have synced. The
    /// caller holds the stripe.
    async fn keep(&self, digest: &Digest, size_bytes: u64) -> Result<bool>;

    /// Opens a blob's file; `None` when there is none.
    async fn open(&self, digest: &Digest) -> Result<Option<BlobFile>>;

    /// Removes a blob's file and its directory; `false` when there was no file. A directory with
    /// foreign entries stays. Not synced: if the removal is undone by a power cut, an orphan is
    /// left. The caller holds the stripe.
    async fn remove(&self, digest: &Digest) -> Result<bool>;

    /// Room on the file system of the store.
    async fn space(&self) -> Result<disk::Space>;

    /// Moves a blob's file out of the tree, to where damaged files are kept, and removes its
    /// directory; its new name, `None` when there was no file. Not synced: a move that a power cut
    /// undoes leaves a file that no row vouches for. The caller holds the stripe.
    async fn quarantine(&self, digest: &Digest) -> Result<Option<String>>;

    /// What lies in one shard of the tree, by digest; one that was never made is empty.
    async fn shard_files(&self, shard: Shard) -> Result<ShardFiles>;

    /// Paths below the root that have no place above the shards or among the uploads.
    async fn foreign(&self) -> Result<Vec<String>>;

    /// Whether a failed sync has made the store read-only.
    fn is_poisoned(&self) -> bool;
}

/// Content on its way in. Dropping it leaves the file; [`BlobStore::discard`] removes it.
#[async_trait]
pub trait Staging: Send + Sync + Debug {
    /// The upload it belongs to.
    fn id(&self) -> UploadId;

    /// Bytes appended so far; exact at any time, also after a dropped `append`.
    fn offset(&self) -> u64;

    /// Appends and hashes `chunks`, in order: all of them or, after an error, none. An append
    /// whose future is dropped before its end has not happened.
    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<()>;

    /// Makes all appended bytes durable, and the name of the staging file at the first call.
    /// After a failed sync of the file every method is an error: the upload is lost.
    async fn sync(&mut self) -> Result<()>;

    /// The digest of all bytes so far. Free for the algorithm given at the start; any other
    /// reads the file again.
    async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest>;

    /// Reads everything back into memory, for contents of at most a few hundred KiB.
    async fn contents(&mut self) -> Result<Bytes>;
}

/// An open blob. It stays readable when its name goes.
#[derive(Debug, Clone)]
pub struct BlobFile {
    /// Length in bytes.
    pub size_bytes: u64,
    /// The bytes.
    pub reader: Arc<dyn BlobRead>,
}

/// Reads parts of an open blob.
#[async_trait]
pub trait BlobRead: Send + Sync + Debug {
    /// The `length` bytes from `offset`. A file that ends before that is an I/O error.
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes>;

    /// As [`Self::read`], and hashes what it read; a file does so off the async threads.
    async fn read_hashed(
        &self,
        offset: u64,
        length: usize,
        mut hasher: Hasher,
    ) -> Result<(Bytes, Hasher)> {
        let bytes = self.read(offset, length).await?;
        hasher.update(&bytes);
        Ok((bytes, hasher))
    }

    /// Hashes the `length` bytes from `offset`; a file does so in bounded memory, off the async
    /// threads, and without filling the system's cache.
    async fn hash(&self, offset: u64, length: u64, hasher: Hasher) -> Result<Hasher> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(self.read_hashed(offset, length, hasher).await?.1)
    }
}
