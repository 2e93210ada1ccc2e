//! The model: what a blob store does, without files.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    BlobFile, BlobRead, BlobStore, Error, Hasher, Published, Result, ShardFiles, Spilled, Staging,
};
use crate::disk;
use crate::oci::{Algorithm, Digest, Shard, UploadId};

/// Blobs and uploads in memory; a clone is the same store. Everything is durable at once, and
/// at first there is all the room there can be.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    blobs: BTreeMap<Digest, Bytes>,
    staged: BTreeMap<UploadId, Staged>,
    quarantined: BTreeMap<String, Bytes>,
    /// That of the newest handle.
    handles: u64,
    /// What the store says of its room; nothing here takes any.
    space: disk::Space,
}

/// All the room there is.
const PLENTY: disk::Space = disk::Space {
    free_bytes: u64::MAX,
    total_bytes: u64::MAX,
    free_inodes: u64::MAX,
    total_inodes: 0,
};

impl Default for Inner {
    fn default() -> Self {
        let (blobs, staged, quarantined, handles) = Default::default();
        Self { blobs, staged, quarantined, handles, space: PLENTY }
    }
}

#[derive(Debug, Default)]
struct Staged {
    bytes: Vec<u8>,
    /// The handle that may use it.
    handle: u64,
}

impl MemoryBlobs {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts bytes at a digest's place, right or wrong, as an outsider might.
    pub fn plant(&self, digest: &Digest, bytes: Bytes) {
        self.inner().blobs.insert(*digest, bytes);
    }

    /// Sets what the store says of its room.
    pub fn set_space(&self, free_bytes: u64, total_bytes: u64) {
        self.inner().space = disk::Space { free_bytes, total_bytes, ..PLENTY };
    }

    /// Sets what it says of its inodes.
    pub fn set_inodes(&self, free_inodes: u64, total_inodes: u64) {
        let space = &mut self.inner().space;
        (space.free_inodes, space.total_inodes) = (free_inodes, total_inodes);
    }

    /// What became of the store after its process was killed: no upload has a handle.
    pub fn restart(&self) -> Self {
        let Inner { blobs, staged, quarantined, handles, space } = &*self.inner();
        let staged = staged
            .iter()
            .map(|(id, upload)| (*id, Staged { bytes: upload.bytes.clone(), handle: 0 }));
        Self(Arc::new(Mutex::new(Inner {
            blobs: blobs.clone(),
            staged: staged.collect(),
            quarantined: quarantined.clone(),
            handles: *handles,
            space: *space,
        })))
    }

    fn handle(&self, id: UploadId, bytes: Vec<u8>) -> Box<dyn Staging> {
        let mut inner = self.inner();
        inner.handles += 1;
        let handle = inner.handles;
        inner.staged.insert(id, Staged { bytes, handle });
        Box::new(MemoryStaging { store: self.clone(), id, handle })
    }
}

fn error(operation: &'static str, id: UploadId, kind: io::ErrorKind) -> Error {
    Error::Io(disk::Error::new(operation, &PathBuf::from(id.to_string()), kind.into()))
}

impl Inner {
    fn put(&mut self, digest: Digest, bytes: Bytes, live: bool) {
        let keep = |found: &Bytes| {
            let right = Hasher::digest_of(digest.algorithm(), found) == digest;
            found.len() == bytes.len() && (live || right)
        };
        if !self.blobs.get(&digest).is_some_and(keep) {
            self.blobs.insert(digest, bytes);
        }
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn stage(&self, id: UploadId, _algorithm: Algorithm) -> Result<Box<dyn Staging>> {
        if self.inner().staged.contains_key(&id) {
            return Err(error("create directory", id, io::ErrorKind::AlreadyExists));
        }
        Ok(self.handle(id, Vec::new()))
    }

    async fn resume(
        &self,
        id: UploadId,
        offset: u64,
        _algorithm: Algorithm,
    ) -> Result<Option<Box<dyn Staging>>> {
        let bytes = {
            let mut inner = self.inner();
            let Some(staged) = inner.staged.get_mut(&id) else { return Ok(None) };
            staged.handle = 0;
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let Some(prefix) = staged.bytes.get(..offset) else { return Ok(None) };
            prefix.to_vec()
        };
        Ok(Some(self.handle(id, bytes)))
    }

    async fn discard(&self, id: UploadId) -> Result<()> {
        self.inner().staged.remove(&id);
        Ok(())
    }

    async fn cut(&self, id: UploadId, offset: u64) -> Result<()> {
        if let Some(staged) = self.inner().staged.get_mut(&id) {
            staged.handle = 0;
            staged.bytes.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    async fn staged(&self) -> Result<Vec<UploadId>> {
        Ok(self.inner().staged.keys().copied().collect())
    }

    async fn idle(&self) -> Result<Vec<UploadId>> {
        self.staged().await
    }

    async fn publish(
        &self,
        mut staged: Box<dyn Staging>,
        digest: &Digest,
        size_bytes: u64,
        live: bool,
    ) -> Result<Published> {
        let id = staged.id();
        let bytes = staged.contents().await?;
        if bytes.len() as u64 != size_bytes {
            return Err(error("publish", id, io::ErrorKind::InvalidInput));
        }
        let mut inner = self.inner();
        inner.staged.remove(&id);
        inner.put(*digest, bytes, live);
        Ok(Published::default())
    }

    async fn sync_directories(&self, _published: Published) -> Result<()> {
        Ok(())
    }

    async fn spill(&self, batch: Vec<(Digest, Bytes)>) -> Result<Spilled> {
        let mut spilled = Spilled::default();
        for (digest, bytes) in batch {
            self.inner().put(digest, bytes, false);
            spilled.durable.push(digest);
        }
        Ok(spilled)
    }

    async fn open(&self, digest: &Digest) -> Result<Option<BlobFile>> {
        let bytes = self.inner().blobs.get(digest).cloned();
        Ok(bytes.map(|bytes| BlobFile {
            size_bytes: bytes.len() as u64,
            reader: Arc::new(MemoryReader(bytes)),
        }))
    }

    async fn remove(&self, digest: &Digest) -> Result<bool> {
        Ok(self.inner().blobs.remove(digest).is_some())
    }

    async fn space(&self) -> Result<disk::Space> {
        Ok(self.inner().space)
    }

    async fn keep(&self, digest: &Digest, size_bytes: u64) -> Result<bool> {
        let found = self.inner().blobs.get(digest).cloned();
        Ok(found.is_some_and(|bytes| {
            bytes.len() as u64 == size_bytes && Digest::of(digest.algorithm(), &bytes) == *digest
        }))
    }

    async fn quarantine(&self, digest: &Digest) -> Result<Option<String>> {
        let mut inner = self.inner();
        let Some(bytes) = inner.blobs.remove(digest) else { return Ok(None) };
        let stem = digest.to_string().replace(':', "-");
        let number = inner.quarantined.keys().filter(|name| name.starts_with(&stem)).count();
        let name = format!("{stem}.{}", number.min(9));
        inner.quarantined.insert(name.clone(), bytes);
        Ok(Some(name))
    }

    async fn shard_files(&self, shard: Shard) -> Result<ShardFiles> {
        let inner = self.inner();
        let is_in = |digest: &Digest| {
            digest.algorithm() == shard.algorithm && digest.as_bytes()[0] == shard.first_byte
        };
        let files = inner.blobs.iter().filter(|(digest, _)| is_in(digest));
        let files = files.map(|(digest, bytes)| (*digest, bytes.len() as u64)).collect();
        Ok(ShardFiles { files, foreign: Vec::new() })
    }

    async fn foreign(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn is_poisoned(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct MemoryStaging {
    store: MemoryBlobs,
    id: UploadId,
    handle: u64,
}

impl MemoryStaging {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T> {
        match self.store.inner().staged.get_mut(&self.id) {
            Some(staged) if staged.handle == self.handle => Ok(work(&mut staged.bytes)),
            _ => Err(error("use", self.id, io::ErrorKind::NotFound)),
        }
    }
}

#[async_trait]
impl Staging for MemoryStaging {
    fn id(&self) -> UploadId {
        self.id
    }

    fn offset(&self) -> u64 {
        self.with(|bytes| bytes.len() as u64).unwrap_or_default()
    }

    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<()> {
        self.with(|bytes| chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk)))
    }

    async fn sync(&mut self) -> Result<()> {
        self.with(|_| ())
    }

    async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        self.with(|bytes| Hasher::digest_of(algorithm, bytes))
    }

    async fn contents(&mut self) -> Result<Bytes> {
        self.with(|bytes| Bytes::copy_from_slice(bytes))
    }
}

#[derive(Debug)]
struct MemoryReader(Bytes);

#[async_trait]
impl BlobRead for MemoryReader {
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(length) {
            Some(end) if end <= self.0.len() => Ok(self.0.slice(start..end)),
            _ => {
                let kind = io::ErrorKind::UnexpectedEof;
                Err(Error::Io(disk::Error::new("read", &PathBuf::from("memory"), kind.into())))
            }
        }
    }
}
