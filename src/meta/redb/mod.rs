//! The store on redb.
//!
//! A write goes through the queue of the one writer and returns after its commit; a read runs
//! on a snapshot, off the async threads. The file is reached through [`crate::disk::Vfs`] alone.

mod backend;
mod check;
mod codec;
mod collector;
mod dump;
mod error;
mod explain;
mod export;
#[cfg(test)]
mod fault_tests;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handle;
mod integrity;
mod migrate;
// The steps lie at the top level of the project, beside those of other databases.
#[path = "../../../migrations/redb/mod.rs"]
mod migrations;
mod reads;
mod rebuild;
#[cfg(test)]
mod rebuild_tests;
mod rows;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;
mod writer;
mod writes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use self::handle::Handle;
use self::tables::Snapshot;
use self::writer::{Queue, Sender, Writer};
use self::writes::Operation;
#[cfg(any(test, feature = "conformance"))]
use super::Garbage;
use super::export::Totals;
use super::{
    Amount, BlobRecord, Candidate, Collected, Counters, Explanation, Exporter, Finding, GcQueue,
    LinkBlob, ManifestRecord, MetaStore, Moment, MountBlob, Page, PushManifest, PutManifest,
    RepositoryRecord, Result, ScrubRecord, Standing, TagRecord, Timestamp, UnlinkBlob,
    UploadRecord, Use, Verdict, Waiting,
};
use crate::disk::{self, Vfs};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName, Shard, Tag, UploadId};
use crate::ops::Blocking;

pub use export::LEAP;
pub use migrations::Step;

/// Transactions of a database that was made, and perhaps given its store's name, and never used:
/// one for each step of its schema, and one for the name.
pub const UNUSED_TRANSACTIONS_MAX: u64 = migrations::ALL.len() as u64 + 1;

/// How a database is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Memory for pages of the database; 16 MiB unless set.
    pub cache_size_bytes: usize,
    /// Room set aside in `<path>.ballast`, for commits on a full disk; zero: none.
    pub ballast_size_bytes: u64,
    /// Whether a missing database is created. A store that had one must not get an empty one.
    pub create: bool,
    /// Whether every page is verified when it is opened, however large the file is. One of up to
    /// 256 MiB always is.
    pub verify: bool,
    /// Wall time, for the history of migrations.
    pub now: Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_size_bytes: 16 << 20,
            ballast_size_bytes: 0,
            create: true,
            verify: false,
            now: Timestamp::default(),
        }
    }
}

/// Which schema a database has, and the way to this release's.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Its schema.
    pub schema: u32,
    /// This release's.
    pub supported: u32,
    /// What leads there, in order; nothing when they are the same.
    pub steps: Vec<Step>,
    /// Length of the file.
    pub size_bytes: u64,
}

impl Inspection {
    /// Length of the copy that is made before the first step.
    pub fn copy_size_bytes(&self) -> u64 {
        if self.steps.is_empty() { 0 } else { self.size_bytes }
    }
}

/// A metadata store in one redb file. Dropping the last clone ends the writer; [`Self::close`]
/// says whether that went well.
#[derive(Debug, Clone)]
pub struct RedbMeta {
    handle: Arc<Handle>,
    blocking: Blocking,
    writes: Writes,
    /// Writes since it was opened that can have changed what an export would hold.
    changes: Arc<AtomicU64>,
}

/// Who drives the writer.
#[derive(Clone)]
enum Writes {
    /// Its own thread.
    Thread(Sender),
    /// Whoever waits for an answer.
    Inline { sender: Sender, writer: Writer, queue: Arc<std::sync::Mutex<Queue>> },
}

impl std::fmt::Debug for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Thread(_) => "Thread",
            Self::Inline { .. } => "Inline",
        })
    }
}

impl RedbMeta {
    /// The schema of this release, which every open database has.
    pub const SCHEMA: u32 = migrations::NEWEST;

    /// Opens the database at `path`, bringing an older schema up to this release's (a copy of
    /// the file is left at `<path>.v<version>`); creates it when it is missing. Blocks.
    ///
    /// # Errors
    /// [`super::Error::SchemaTooNew`], [`super::Error::Foreign`] and [`super::Error::Corrupt`] for
    /// a file that is not a sound database of this or an older release; it is left as it is.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        options: Options,
        blocking: Blocking,
    ) -> Result<Self> {
        let handle = Arc::new(Handle::open(vfs, path, options)?);
        let (sender, mut queue) = writer::queue();
        let writer = Writer::new(Arc::clone(&handle));
        let writes = match blocking {
            Blocking::Inline => {
                Writes::Inline { sender, writer, queue: Arc::new(std::sync::Mutex::new(queue)) }
            }
            Blocking::Pool => {
                let run = move || while queue.wait() && writer.step(&mut queue) {};
                blocking
                    .thread("metadata", run)
                    .map_err(|source| disk::Error::new("start a thread for", path, source))?;
                Writes::Thread(sender)
            }
        };
        Ok(Self { handle, blocking, writes, changes: Arc::default() })
    }

    /// Looks at the database at `path` and changes nothing, not even to repair it. Blocks.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn inspect(vfs: Arc<dyn Vfs>, path: &Path, options: Options) -> Result<Inspection> {
        Handle::inspect(vfs, path, options, migrations::ALL)
    }

    /// Commits what is queued and closes the database, so that the next start need not repair
    /// it. Every later call fails.
    pub async fn close(&self) -> Result<()> {
        let answer = self.writes.sender().close().await?;
        self.writes.drive().await;
        answer.get().await
    }

    /// Writes the whole database as text, one snapshot. Blocks.
    pub fn dump(&self, out: &mut dyn std::io::Write) -> Result<()> {
        self.handle.read_once(|snapshot| dump::dump(snapshot, out))
    }

    /// Makes a database at `path` out of an export, of this or an older schema, checks it, and
    /// gives it its name. It has seen `transactions`, or those of the export if they are more, and
    /// [`LEAP`]. Blocks.
    ///
    /// # Errors
    /// [`super::Error::Export`] for a damaged export, [`super::Error::Corrupt`] for one whose facts
    /// break an invariant, [`super::Error::SchemaTooNew`]; nothing is left then.
    pub fn import(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        options: Options,
        source: impl std::io::Read,
        transactions: u64,
    ) -> Result<super::export::Header> {
        export::import(vfs, path, options, source, transactions)
    }

    /// Facts that do not agree with each other or break an invariant, of one snapshot. Reads the
    /// whole database; blocks.
    pub fn check(&self) -> Result<Vec<Finding>> {
        self.handle.read(check::check)
    }

    /// What waits for the collector: when, in which repository (0: none), what (M7). Reads the
    /// whole queue; blocks.
    #[cfg(any(test, feature = "conformance"))]
    pub fn gc_queue(&self) -> Result<Vec<(u64, u64, Digest, Garbage)>> {
        self.handle.read(Snapshot::places)
    }

    /// Puts a content into a state. Blocks.
    #[cfg(any(test, feature = "conformance"))]
    pub fn set_state(&self, digest: &Digest, state: super::BlobState) -> Result<()> {
        let turn = self.handle.turn();
        let transaction = self.handle.begin_write(&turn)?;
        tables::Tables::open(&transaction)?.force_state(digest, state)?;
        Ok(transaction.commit()?)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let handle = Arc::clone(&self.handle);
        self.blocking.run(move || handle.read(work)).await
    }

    async fn write<O: Operation>(&self, operation: O) -> Result<O::Answer> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.write_uncounted(operation).await
    }

    async fn write_uncounted<O: Operation>(&self, operation: O) -> Result<O::Answer> {
        let answer = self.writes.sender().write(operation).await?;
        self.writes.drive().await;
        answer.get().await
    }
}

impl Writes {
    fn sender(&self) -> &Sender {
        match self {
            Self::Thread(sender) | Self::Inline { sender, .. } => sender,
        }
    }

    /// Where no thread does: commits what is queued, which answers the caller, too. Others may
    /// queue before it, as they do while a commit runs.
    async fn drive(&self) {
        if let Self::Inline { writer, queue, .. } = self {
            tokio::task::yield_now().await;
            let mut queue = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            while !queue.is_empty() && writer.step(&mut queue) {}
        }
    }
}

#[async_trait]
impl MetaStore for RedbMeta {
    async fn repositories(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let after = after.map(str::to_owned);
        self.read(move |snapshot| snapshot.repository_page(after.as_deref(), limit)).await
    }

    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRecord>> {
        let name = name.clone();
        self.read(move |snapshot| snapshot.repository(&name)).await
    }

    async fn blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(BlobRecord, Standing)>> {
        let (repo, digest) = (repo.clone(), *digest);
        self.read(move |snapshot| snapshot.blob(&repo, &digest)).await
    }

    async fn stored(&self, digest: &Digest) -> Result<Option<BlobRecord>> {
        let digest = *digest;
        self.read(move |snapshot| snapshot.stored(&digest)).await
    }

    async fn small_content(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let digest = *digest;
        self.read(move |snapshot| snapshot.small_content(&digest)).await
    }

    async fn blobs(
        &self,
        repo: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>> {
        let (repo, after) = (repo.clone(), after.copied());
        self.read(move |snapshot| snapshot.blob_page(&repo, after.as_ref(), limit)).await
    }

    async fn repositories_with_blob(
        &self,
        digest: &Digest,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let (digest, after) = (*digest, after.cloned());
        self.read(move |snapshot| snapshot.repositories_with_blob(&digest, after.as_ref(), limit))
            .await
    }

    async fn link_blob(&self, link: LinkBlob) -> Result<()> {
        self.write(writes::Link(link)).await
    }

    async fn mount_blob(&self, mount: MountBlob) -> Result<bool> {
        self.write(writes::Mount(mount)).await
    }

    async fn unlink_blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
    ) -> Result<UnlinkBlob> {
        let (repository, digest) = (repo.clone(), *digest);
        self.write(writes::Unlink { repository, digest, moment }).await
    }

    async fn manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(ManifestRecord, Option<Bytes>)>> {
        let (repo, reference) = (repo.clone(), reference.clone());
        self.read(move |snapshot| snapshot.manifest(&repo, &reference)).await
    }

    async fn stat_manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestRecord>> {
        let (repo, reference) = (repo.clone(), reference.clone());
        self.read(move |snapshot| snapshot.stat_manifest(&repo, &reference)).await
    }

    async fn manifests(
        &self,
        repo: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<ManifestRecord>> {
        let (repo, after) = (repo.clone(), after.copied());
        self.read(move |snapshot| snapshot.manifest_page(&repo, after.as_ref(), limit)).await
    }

    async fn put_manifest(&self, push: PushManifest) -> Result<PutManifest> {
        self.write(writes::Put(push)).await
    }

    async fn delete_manifest(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
    ) -> Result<bool> {
        let (repository, digest) = (repo.clone(), *digest);
        self.write(writes::DeleteManifest { repository, digest, moment }).await
    }

    async fn tags(
        &self,
        repo: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<TagRecord>>> {
        let (repo, after) = (repo.clone(), after.map(str::to_owned));
        self.read(move |snapshot| snapshot.tag_page(&repo, after.as_deref(), limit)).await
    }

    async fn tags_of(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        let (repo, digest, after) = (repo.clone(), *digest, after.cloned());
        self.read(move |snapshot| snapshot.tags_of(&repo, &digest, after.as_ref(), limit)).await
    }

    async fn delete_tag(&self, repo: &RepositoryName, tag: &Tag, moment: Moment) -> Result<bool> {
        let (repository, tag) = (repo.clone(), tag.clone());
        self.write(writes::DeleteTag { repository, tag, moment }).await
    }

    async fn referrers(
        &self,
        repo: &RepositoryName,
        subject: &Digest,
        artifact_types: &[String],
        after: Option<&Digest>,
        size_bytes_max: usize,
    ) -> Result<Page<Descriptor>> {
        let (repo, subject, after) = (repo.clone(), *subject, after.copied());
        let types = artifact_types.to_vec();
        self.read(move |snapshot| {
            snapshot.referrers_page(&repo, &subject, &types, after.as_ref(), size_bytes_max)
        })
        .await
    }

    async fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>> {
        self.read(move |snapshot| snapshot.upload(id)).await
    }

    async fn uploads(
        &self,
        started_before_uptime_seconds: u64,
        after: Option<(u64, UploadId)>,
        limit: usize,
    ) -> Result<Vec<UploadRecord>> {
        let before = started_before_uptime_seconds;
        self.read(move |snapshot| snapshot.upload_list(before, after, limit)).await
    }

    async fn save_upload(&self, upload: UploadRecord) -> Result<()> {
        self.write(writes::Save(upload)).await
    }

    async fn forget_upload(&self, id: UploadId) -> Result<()> {
        self.write(writes::Forget(id)).await
    }

    async fn garbage(
        &self,
        queue: GcQueue,
        eligible_before_uptime_seconds: u64,
        after: Option<&Candidate>,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        let (before, after) = (eligible_before_uptime_seconds, after.cloned());
        self.read(move |snapshot| snapshot.candidates(queue, before, after.as_ref(), limit)).await
    }

    async fn waiting(
        &self,
        eligible_before_uptime_seconds: u64,
        untagged_before_uptime_seconds: u64,
    ) -> Result<Waiting> {
        let before = [eligible_before_uptime_seconds, untagged_before_uptime_seconds];
        self.read(move |snapshot| snapshot.waiting(before)).await
    }

    async fn explain(&self, digest: &Digest, limit: usize) -> Result<Option<Explanation>> {
        let digest = *digest;
        self.read(move |snapshot| snapshot.explain(&digest, limit)).await
    }

    async fn condemn(&self, batch: Vec<Candidate>) -> Result<Vec<Candidate>> {
        self.write(writes::Condemn(batch)).await
    }

    async fn spare(&self, batch: Vec<Candidate>, eligible_uptime_seconds: u64) -> Result<()> {
        self.write(writes::Spare { batch, eligible_uptime_seconds }).await
    }

    async fn collect(&self, batch: Vec<Candidate>, moment: Moment) -> Result<Collected> {
        self.write(writes::Collect { batch, moment }).await
    }

    async fn forget_contents(&self, digests: Vec<Digest>) -> Result<Amount> {
        self.write(writes::ForgetContents(digests)).await
    }

    async fn revive(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        usage: Use,
        moment: Moment,
    ) -> Result<bool> {
        let (repository, digest) = (repo.clone(), *digest);
        self.write(writes::Revive { repository, digest, usage, moment }).await
    }

    async fn unspilled(
        &self,
        after: Option<&Digest>,
        limit: usize,
        size_bytes_max: usize,
    ) -> Result<Vec<(Digest, Bytes)>> {
        let after = after.copied();
        self.read(move |snapshot| snapshot.unspilled(after.as_ref(), limit, size_bytes_max)).await
    }

    async fn mark_spilled(&self, digests: Vec<Digest>) -> Result<()> {
        self.write(writes::MarkSpilled(digests)).await
    }

    async fn advance_uptime(&self, seconds: u64) -> Result<()> {
        self.write_uncounted(writes::AdvanceUptime(seconds)).await
    }

    async fn counters(&self) -> Result<Counters> {
        self.read(Snapshot::counters).await
    }

    async fn store_id(&self) -> Result<Option<[u8; 16]>> {
        self.read(Snapshot::store_id).await
    }

    async fn set_store_id(&self, id: [u8; 16]) -> Result<()> {
        self.write(writes::SetStoreId(id)).await
    }

    async fn contents(
        &self,
        shard: Shard,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>> {
        let after = after.copied();
        self.read(move |snapshot| snapshot.contents(shard, after.as_ref(), limit)).await
    }

    async fn judge(&self, digest: &Digest, file_is_right: bool) -> Result<Verdict> {
        self.write(writes::Judge { digest: *digest, file_is_right }).await
    }

    async fn check_facts(&self) -> Result<Vec<Finding>> {
        self.read(check::check).await
    }

    async fn rebuild_facts(&self, eligible_uptime_seconds: u64) -> Result<u64> {
        self.write(writes::Rebuild { eligible_uptime_seconds }).await
    }

    async fn scrub(&self) -> Result<ScrubRecord> {
        self.read(Snapshot::scrub).await
    }

    async fn save_scrub(&self, scrub: ScrubRecord) -> Result<()> {
        self.write(writes::SaveScrub(scrub)).await
    }

    fn is_poisoned(&self) -> bool {
        self.handle.is_poisoned()
    }

    fn uses_reserve(&self) -> bool {
        self.handle.uses_ballast()
    }

    async fn restore_reserve(&self) {
        let handle = Arc::clone(&self.handle);
        self.blocking.run(move || handle.restore_ballast()).await;
    }

    fn exporter(&self) -> Option<&dyn Exporter> {
        Some(self)
    }
}

impl Exporter for RedbMeta {
    fn export(&self, now: Timestamp, out: &mut dyn std::io::Write) -> Result<Totals> {
        self.handle.read_once(|snapshot| export::write(snapshot, now, out))
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}
