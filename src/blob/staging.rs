//! Uploads as files: `staging/<uuid>/data`.
//!
//! A request may be dropped while its blocking work runs, or before that began. So the work and
//! the handle share an [`Upload`], and each append has a ticket: dropping its future voids the
//! ticket, and work whose ticket is void leaves the upload as it found it. A newer handle of the
//! same upload voids every ticket of the older one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;

use super::hash::hash_file;
use super::{Error, Hasher, Layout, Result, Staging};
use crate::disk::durable::{DirectorySyncs, Step, SyncError, sync_file};
use crate::disk::{self, VfsFile};
use crate::oci::{Algorithm, Digest, UploadId};
use crate::ops::Blocking;

/// Reserved ahead of what was received, at most. Never more than was received already either, so
/// that a client cannot claim room by opening uploads.
const AHEAD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Shorter uploads reserve nothing.
const AHEAD_FROM_BYTES: u64 = 4 * 1024 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards changes in single assignments: it is whole after a panic too.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One upload, shared by its handle and the calls in flight.
#[derive(Debug)]
pub(super) struct Upload {
    id: UploadId,
    directory: PathBuf,
    mark: Mutex<Mark>,
    /// Locked by blocking work alone, as long as it runs.
    content: Mutex<Content>,
}

/// Where an upload stands; locked for moments only.
#[derive(Debug)]
struct Mark {
    offset: u64,
    /// That of the append that may move `offset`.
    ticket: u64,
    /// Another handle has taken over, or the upload is gone.
    ended: bool,
}

/// What is on disk.
#[derive(Debug)]
struct Content {
    file: Arc<dyn VfsFile>,
    hasher: Hasher,
    /// Up to here room is reserved; `None`: it cannot be.
    reserved: Option<u64>,
    /// Whether the file may reach beyond the offset, in length or in reserved room.
    tail: bool,
    /// Offset at the last sync of the file, if nothing was written since.
    synced: Option<u64>,
    /// A sync failed: what the file holds is unknown (V3).
    lost: bool,
}

impl Upload {
    pub(super) fn new(
        layout: &Layout,
        id: UploadId,
        file: Arc<dyn VfsFile>,
        hasher: Hasher,
        offset: u64,
    ) -> Self {
        let content =
            Content { file, hasher, reserved: Some(0), tail: false, synced: None, lost: false };
        Self {
            id,
            directory: layout.upload(id),
            mark: Mutex::new(Mark { offset, ticket: 0, ended: false }),
            content: Mutex::new(content),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        lock(&self.mark).offset
    }

    /// Voids the appends in flight and lets one more begin.
    fn next_ticket(&self) -> u64 {
        let mut mark = lock(&self.mark);
        mark.ticket += 1;
        mark.ticket
    }

    /// Ends the handle. What is in flight still runs: see [`Upload::wait`].
    fn end(&self) {
        lock(&self.mark).ended = true;
        self.next_ticket();
    }

    /// Blocks until no work is in flight.
    fn wait(&self) {
        drop(lock(&self.content));
    }

    /// Where the append with this ticket begins; `None` when it is void.
    fn begin(&self, ticket: u64) -> Option<u64> {
        let mark = lock(&self.mark);
        (mark.ticket == ticket).then_some(mark.offset)
    }

    /// Moves the offset; `false` when the ticket is void.
    fn advance(&self, ticket: u64, offset: u64) -> bool {
        let mut mark = lock(&self.mark);
        let valid = mark.ticket == ticket;
        if valid {
            mark.offset = offset;
        }
        valid
    }

    fn error(&self, kind: io::ErrorKind, text: &str) -> Error {
        Error::Io(disk::Error::new("use", &self.directory, io::Error::new(kind, text)))
    }

    fn ended(&self) -> Error {
        self.error(io::ErrorKind::NotFound, "the upload was taken over or is gone")
    }

    /// The content, unless the handle has ended or the content is lost.
    fn content(&self) -> Result<MutexGuard<'_, Content>> {
        let content = lock(&self.content);
        if lock(&self.mark).ended {
            return Err(self.ended());
        }
        if content.lost {
            return Err(self.error(io::ErrorKind::Other, "an earlier sync failed"));
        }
        Ok(content)
    }

    fn append(&self, ticket: u64, chunks: &[Bytes]) -> Result<()> {
        let mut content = self.content()?;
        let begin = self.begin(ticket).ok_or_else(|| self.ended())?;
        let written = content.write(chunks, begin);
        let appended = written.and_then(|(hasher, end)| {
            let hasher = self.advance(ticket, end).then_some(hasher);
            hasher.ok_or_else(|| self.ended())
        });
        match appended {
            Ok(hasher) => {
                content.hasher = hasher;
                Ok(())
            }
            Err(error) => {
                content.cut_back(begin);
                Err(error)
            }
        }
    }

    fn sync_data(&self) -> Result<()> {
        let mut content = self.content()?;
        let offset = self.offset();
        content.trim(offset)?;
        if content.synced == Some(offset) {
            return Ok(());
        }
        if let Err(error) = sync_file(&*content.file, Step::UploadData) {
            content.lost = true;
            tracing::error!(%error, upload.id = %self.id, "an upload is lost: a sync failed");
            return Err(error.into());
        }
        content.synced = Some(offset);
        Ok(())
    }

    fn read_all(&self) -> Result<Bytes> {
        let content = self.content()?;
        let length = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        content.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    }
}

impl Content {
    /// Writes at `begin`; the hasher and the offset behind the last byte.
    fn write(&mut self, chunks: &[Bytes], begin: u64) -> Result<(Hasher, u64)> {
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let had_tail = std::mem::replace(&mut self.tail, true);
        self.synced = None;
        self.reserve(begin, begin + length);
        let mut hasher = self.hasher.clone();
        let mut offset = begin;
        for chunk in chunks {
            self.file.write_all_at(chunk, offset)?;
            // Now, while the processor still has the bytes at hand.
            hasher.update(chunk);
            offset += chunk.len() as u64;
        }
        self.tail = had_tail || self.reserved.is_none_or(|reserved| reserved > offset);
        Ok((hasher, offset))
    }

    /// Reserves room beyond `end`, where the bytes to come will lie. Not to get it is no error:
    /// the bytes that really come may still fit.
    fn reserve(&mut self, begin: u64, end: u64) {
        let Some(reserved) = self.reserved else { return };
        if end < AHEAD_FROM_BYTES || end <= reserved {
            return;
        }
        let from = reserved.max(begin);
        let target = end + end.min(AHEAD_BYTES_MAX);
        self.reserved = self.file.preallocate(from, target - from).is_ok().then_some(target);
    }

    /// Undoes a write. If that fails, the tail is cut by the next sync.
    fn cut_back(&mut self, offset: u64) {
        let _ = self.trim(offset);
    }

    /// Cuts the file, and the room reserved for it, to its offset.
    fn trim(&mut self, offset: u64) -> Result<()> {
        if !self.tail {
            return Ok(());
        }
        self.file.set_size(offset)?;
        self.tail = false;
        self.reserved = self.reserved.map(|_| 0);
        Ok(())
    }
}

/// The uploads that have a handle, so that a newer one can end the older.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<BTreeMap<UploadId, Weak<Upload>>>>);

impl Uploads {
    pub(super) fn insert(&self, upload: &Arc<Upload>) {
        lock(&self.0).insert(upload.id, Arc::downgrade(upload));
    }

    /// The handle's upload, while there is a handle.
    pub(super) fn get(&self, id: UploadId) -> Option<Arc<Upload>> {
        lock(&self.0).get(&id)?.upgrade()
    }

    /// Ends the handle of an upload and waits until nothing of it is in flight.
    pub(super) async fn end(&self, id: UploadId, blocking: Blocking) {
        let ended = lock(&self.0).remove(&id).and_then(|upload| upload.upgrade());
        if let Some(upload) = ended {
            upload.end();
            blocking.run(move || upload.wait()).await;
        }
    }
}

/// The handle of an upload.
#[derive(Debug)]
pub(super) struct FileStaging {
    upload: Arc<Upload>,
    /// Synced at the first sync, for the name of the file and that of its directory.
    directories: Option<[PathBuf; 2]>,
    syncs: DirectorySyncs,
    blocking: Blocking,
}

impl FileStaging {
    pub(super) fn new(
        upload: Arc<Upload>,
        layout: &Layout,
        syncs: DirectorySyncs,
        blocking: Blocking,
    ) -> Self {
        let directories = Some([layout.upload(upload.id), layout.staging()]);
        Self { upload, directories, syncs, blocking }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Upload) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let upload = Arc::clone(&self.upload);
        self.blocking.run(move || work(&upload)).await
    }

    fn check_writable(&self) -> Result<()> {
        if self.syncs.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
    }
}

/// Voids an append that is dropped before its end.
struct VoidOnDrop<'a>(&'a Upload);

impl Drop for VoidOnDrop<'_> {
    fn drop(&mut self) {
        self.0.next_ticket();
    }
}

#[async_trait]
impl Staging for FileStaging {
    fn id(&self) -> UploadId {
        self.upload.id
    }

    fn offset(&self) -> u64 {
        self.upload.offset()
    }

    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<()> {
        self.check_writable()?;
        let ticket = self.upload.next_ticket();
        let _void = VoidOnDrop(&self.upload);
        self.run(move |upload| upload.append(ticket, &chunks)).await
    }

    async fn sync(&mut self) -> Result<()> {
        self.check_writable()?;
        self.run(Upload::sync_data).await?;
        if let Some(directories) = &self.directories {
            self.syncs.sync(directories, Step::UploadNames).await?;
            self.directories = None;
        }
        Ok(())
    }

    async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        let (hasher, file, size_bytes) = self
            .run(|upload| {
                let content = upload.content()?;
                Ok((content.hasher.clone(), Arc::clone(&content.file), upload.offset()))
            })
            .await?;
        if hasher.algorithm() == algorithm {
            return Ok(hasher.finish());
        }
        Ok(hash_file(self.blocking, file, algorithm, size_bytes).await?.finish())
    }

    async fn contents(&mut self) -> Result<Bytes> {
        self.run(Upload::read_all).await
    }
}

impl From<SyncError> for Error {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Poisoned => Self::Poisoned,
            SyncError::Unopened(error) => error.into(),
        }
    }
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
