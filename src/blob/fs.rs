//! Blobs as files, in the tree of distribution.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::hash::{hash_file, hash_once};
use super::staging::{FileStaging, Upload, Uploads};
use super::tree::{Existing, Naming, Tree};
use super::{
    BlobFile, BlobRead, BlobStore, Error, Hasher, Published, Result, ShardFiles, Spilled, Staging,
};
use crate::disk::durable::{DirectorySyncs, Step, sync_file};
use crate::disk::{self, Vfs, VfsFile};
use crate::oci::{Algorithm, Digest, Shard, UploadId};
use crate::ops::{Blocking, Random};

/// Files that a spill has open at once: what it may take of the process's descriptors.
const SPILL_FILES_OPEN_MAX: usize = 16;

/// Small contents and the staging directories made for them.
type Batch = Vec<(UploadId, Digest, Bytes)>;

/// Staged content on its way to its name.
#[derive(Debug, Clone, Copy)]
struct Placing {
    id: UploadId,
    digest: Digest,
    size_bytes: u64,
    live: bool,
}

impl Placing {
    /// Its inline copy is the live one, so a file in its place is checked.
    fn small((id, digest, bytes): &(UploadId, Digest, Bytes)) -> Self {
        Self { id: *id, digest: *digest, size_bytes: bytes.len() as u64, live: false }
    }
}

/// The blob files and staging directories below one root directory.
#[derive(Debug)]
pub struct FsBlobs {
    tree: Arc<Tree>,
    syncs: DirectorySyncs,
    uploads: Uploads,
    blocking: Blocking,
    random: Arc<dyn Random>,
}

impl FsBlobs {
    /// Opens the store below `root` (`storage.filesystem.rootdirectory`) and makes missing
    /// directories durably; blocks. Refuses a root whose parts lie on several file systems. The
    /// caller holds the store's lock and has checked that the root is ours.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        root: &Path,
        blocking: Blocking,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        Ok(Self::of_tree(Tree::open(vfs, root)?, blocking, random))
    }

    pub(super) fn of_tree(tree: Tree, blocking: Blocking, random: Arc<dyn Random>) -> Self {
        let syncs = DirectorySyncs::new(Arc::clone(&tree.vfs), blocking);
        Self { tree: Arc::new(tree), syncs, uploads: Uploads::default(), blocking, random }
    }

    pub(super) async fn sync(&self, directories: &[PathBuf], step: Step) -> Result<()> {
        Ok(self.syncs.sync(directories, step).await?)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = Arc::clone(&self.tree);
        self.blocking.run(move || work(&tree)).await
    }

    fn check_writable(&self) -> Result<()> {
        if self.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
    }

    fn handle(
        &self,
        id: UploadId,
        file: Arc<dyn VfsFile>,
        hasher: Hasher,
        offset: u64,
    ) -> Box<dyn Staging> {
        let layout = &self.tree.layout;
        let upload = Arc::new(Upload::new(layout, id, file, hasher, offset));
        self.uploads.insert(&upload);
        Box::new(FileStaging::new(upload, layout, self.syncs.clone(), self.blocking))
    }

    /// Whether the file has this digest. One that cannot be read is not right: it can be replaced.
    /// A right one is made durable, because it may come from somebody who did not sync it.
    async fn is_right(&self, existing: Existing, digest: Digest, size_bytes: u64) -> bool {
        if existing.size_bytes != size_bytes {
            return false;
        }
        let Existing { file, .. } = existing;
        let algorithm = digest.algorithm();
        let hashed = hash_file(self.blocking, Arc::clone(&file), algorithm, size_bytes).await;
        let checked = match hashed.map(Hasher::finish) {
            Ok(actual) if actual != digest => return false,
            Ok(_) => self.blocking.run(move || Ok(sync_file(&*file, Step::KeptData)?)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &checked {
            tracing::warn!(%error, blob.digest = %digest, "an unusable file will be replaced");
        }
        checked.is_ok()
    }

    /// Names synced staging directories. The caller holds the digests' stripes.
    async fn place(&self, named: &[Placing]) -> Vec<Result<Published>> {
        let tree = Arc::clone(&self.tree);
        let steps: Vec<_> = named.iter().map(|one| (one.id, one.digest)).collect();
        let name = move || steps.iter().map(|(id, digest)| tree.name(*id, digest)).collect();
        let namings: Vec<Result<(Naming, Published)>> = self.blocking.run(name).await;
        let mut placed = Vec::with_capacity(named.len());
        for (one, naming) in named.iter().zip(namings) {
            placed.push(match naming {
                Ok((Naming::Done, published)) => Ok(published),
                Ok((Naming::Taken, published)) => self.settle(one).await.map(|()| published),
                Err(error) => Err(error),
            });
        }
        placed
    }

    /// Decides between the staged file and the one whose directory is there already.
    async fn settle(&self, placing: &Placing) -> Result<()> {
        let Placing { id, digest, size_bytes, live } = *placing;
        let keep = match self.run(move |tree| tree.existing(&digest)).await? {
            None => false,
            Some(existing) if live && existing.size_bytes == size_bytes => true,
            Some(existing) => self.is_right(existing, digest, size_bytes).await,
        };
        let last = move |tree: &Tree| if keep { tree.keep(id) } else { tree.replace(id, &digest) };
        self.run(last).await
    }

    /// Divides a batch into what has a right file, with what is to be synced for it, and the rest.
    async fn keep_right(&self, batch: Vec<(Digest, Bytes)>) -> Result<(Spilled, Published, Batch)> {
        let mut spilled = Spilled::default();
        let mut published = Published::default();
        let mut missing = Vec::new();
        let sizes: Vec<_> = batch.iter().map(|(digest, bytes)| (*digest, bytes.len())).collect();
        let have = move |tree: &Tree| {
            let has = |(digest, length): &(Digest, usize)| tree.has_size(digest, *length as u64);
            Ok(sizes.iter().map(has).collect::<Vec<bool>>())
        };
        for ((digest, bytes), has_size) in batch.into_iter().zip(self.run(have).await?) {
            if !has_size {
                missing.push((UploadId::from_random(self.random.bytes()), digest, bytes));
                continue;
            }
            match self.keep_if_right(digest, bytes.len() as u64).await {
                Ok(Some(kept)) => {
                    published = published.merge(kept);
                    spilled.durable.push(digest);
                }
                Ok(None) => {
                    missing.push((UploadId::from_random(self.random.bytes()), digest, bytes));
                }
                // One file that cannot be read must not keep the others from theirs.
                Err(error) => spilled.failed.push((digest, error)),
            }
        }
        Ok((spilled, published, missing))
    }

    async fn keep_if_right(&self, digest: Digest, size_bytes: u64) -> Result<Option<Published>> {
        if !self.has_right(digest, size_bytes).await? {
            return Ok(None);
        }
        self.run(move |tree| tree.kept(&digest)).await.map(Some)
    }

    async fn has_right(&self, digest: Digest, size_bytes: u64) -> Result<bool> {
        match self.run(move |tree| tree.existing(&digest)).await? {
            Some(existing) => Ok(self.is_right(existing, digest, size_bytes).await),
            None => Ok(false),
        }
    }

    /// Writes and syncs the files of a batch and their directories.
    async fn stage_batch(&self, batch: &Batch) -> Result<()> {
        for part in batch.chunks(SPILL_FILES_OPEN_MAX) {
            let contents: Vec<_> = part.iter().map(|(id, _, bytes)| (*id, bytes.clone())).collect();
            let stage = move |tree: &Tree| {
                contents.iter().map(|(id, bytes)| tree.stage_bytes(*id, bytes)).collect()
            };
            let files: Vec<Arc<dyn VfsFile>> = self.run(stage).await?;
            let sync =
                move || files.iter().try_for_each(|file| sync_file(&**file, Step::SpilledData));
            self.blocking.run(sync).await?;
        }
        let layout = &self.tree.layout;
        let directories: Vec<_> = batch.iter().map(|(id, ..)| layout.upload(*id)).collect();
        Ok(self.syncs.sync(&directories, Step::SpilledNames).await?)
    }

    /// Removes what an unsuccessful spill left; failing that, the sweep of stale uploads does it.
    async fn abandon(&self, ids: Vec<UploadId>) {
        let discard = move |tree: &Tree| {
            for id in ids {
                let _ = tree.discard(id);
            }
        };
        let tree = Arc::clone(&self.tree);
        self.blocking.run(move || discard(&tree)).await;
    }
}

#[async_trait]
impl BlobStore for FsBlobs {
    async fn stage(&self, id: UploadId, algorithm: Algorithm) -> Result<Box<dyn Staging>> {
        self.check_writable()?;
        let file = self.run(move |tree| tree.stage(id)).await?;
        Ok(self.handle(id, file, Hasher::new(algorithm), 0))
    }

    async fn resume(
        &self,
        id: UploadId,
        offset: u64,
        algorithm: Algorithm,
    ) -> Result<Option<Box<dyn Staging>>> {
        self.check_writable()?;
        self.uploads.end(id, self.blocking).await;
        let Some(file) = self.run(move |tree| tree.reopen(id, offset)).await? else {
            return Ok(None);
        };
        let hasher = hash_file(self.blocking, Arc::clone(&file), algorithm, offset).await?;
        Ok(Some(self.handle(id, file, hasher, offset)))
    }

    async fn discard(&self, id: UploadId) -> Result<()> {
        self.uploads.end(id, self.blocking).await;
        self.run(move |tree| tree.discard(id)).await
    }

    async fn cut(&self, id: UploadId, offset: u64) -> Result<()> {
        self.check_writable()?;
        self.uploads.end(id, self.blocking).await;
        self.run(move |tree| tree.reopen(id, offset)).await.map(drop)
    }

    async fn staged(&self) -> Result<Vec<UploadId>> {
        self.run(Tree::staged).await
    }

    async fn idle(&self) -> Result<Vec<UploadId>> {
        let mut staged = self.run(Tree::staged).await?;
        staged.retain(|id| self.uploads.get(*id).is_none());
        Ok(staged)
    }

    async fn publish(
        &self,
        mut staged: Box<dyn Staging>,
        digest: &Digest,
        size_bytes: u64,
        live: bool,
    ) -> Result<Published> {
        self.check_writable()?;
        let id = staged.id();
        // B1, whatever the caller forgot.
        staged.sync().await?;
        let found = self.uploads.get(id).map(|upload| upload.offset());
        if found != Some(size_bytes) {
            let text = format!("{size_bytes} bytes were to be published, staged are {found:?}");
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
            let path = self.tree.layout.upload(id);
            return Err(Error::Io(disk::Error::new("publish", &path, source)));
        }
        self.uploads.end(id, self.blocking).await;
        let placing = Placing { id, digest: *digest, size_bytes, live };
        let placed = self.place(&[placing]).await;
        placed.into_iter().try_fold(Published::default(), |all, one| Ok(all.merge(one?)))
    }

    async fn sync_directories(&self, published: Published) -> Result<()> {
        self.syncs.sync(&published.directories, Step::PublishedNames).await?;
        self.tree.remember(published.parents);
        Ok(())
    }

    async fn keep(&self, digest: &Digest, size_bytes: u64) -> Result<bool> {
        self.check_writable()?;
        let Some(kept) = self.keep_if_right(*digest, size_bytes).await? else { return Ok(false) };
        self.sync_directories(kept).await?;
        Ok(true)
    }

    async fn spill(&self, batch: Vec<(Digest, Bytes)>) -> Result<Spilled> {
        self.check_writable()?;
        let (mut spilled, mut published, missing) = self.keep_right(batch).await?;
        if let Err(error) = self.stage_batch(&missing).await {
            self.abandon(missing.iter().map(|(id, ..)| *id).collect()).await;
            return Err(error);
        }
        let named: Vec<_> = missing.iter().map(Placing::small).collect();
        let mut abandoned = Vec::new();
        for (one, placed) in named.iter().zip(self.place(&named).await) {
            match placed {
                Ok(placed) => {
                    published = published.merge(placed);
                    spilled.durable.push(one.digest);
                }
                Err(error) => {
                    abandoned.push(one.id);
                    spilled.failed.push((one.digest, error));
                }
            }
        }
        self.abandon(abandoned).await;
        self.sync_directories(published).await?;
        Ok(spilled)
    }

    async fn open(&self, digest: &Digest) -> Result<Option<BlobFile>> {
        let digest = *digest;
        let found = self.run(move |tree| tree.existing(&digest)).await?;
        Ok(found.map(|Existing { file, size_bytes }| {
            let reader = Arc::new(FileReader { file, blocking: self.blocking });
            BlobFile { size_bytes, reader }
        }))
    }

    async fn remove(&self, digest: &Digest) -> Result<bool> {
        self.check_writable()?;
        let digest = *digest;
        self.run(move |tree| tree.remove(&digest)).await
    }

    async fn space(&self) -> Result<disk::Space> {
        self.run(|tree| Ok(tree.vfs.space(&tree.layout.private())?)).await
    }

    async fn quarantine(&self, digest: &Digest) -> Result<Option<String>> {
        self.check_writable()?;
        let digest = *digest;
        self.run(move |tree| tree.quarantine(&digest)).await
    }

    async fn shard_files(&self, shard: Shard) -> Result<ShardFiles> {
        self.run(move |tree| tree.shard_files(shard)).await
    }

    async fn foreign(&self) -> Result<Vec<String>> {
        self.run(Tree::foreign).await
    }

    fn is_poisoned(&self) -> bool {
        self.syncs.is_poisoned()
    }
}

/// Reads an open blob file.
#[derive(Debug)]
struct FileReader {
    file: Arc<dyn VfsFile>,
    blocking: Blocking,
}

#[async_trait]
impl BlobRead for FileReader {
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let file = Arc::clone(&self.file);
        let read = move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes.into())
        };
        self.blocking.run(read).await
    }

    async fn read_hashed(
        &self,
        offset: u64,
        length: usize,
        mut hasher: Hasher,
    ) -> Result<(Bytes, Hasher)> {
        let file = Arc::clone(&self.file);
        let read = move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            hasher.update(&bytes);
            Ok((bytes.into(), hasher))
        };
        self.blocking.run(read).await
    }

    async fn hash(&self, offset: u64, length: u64, hasher: Hasher) -> Result<Hasher> {
        let file = Arc::clone(&self.file);
        self.blocking.run(move || hash_once(&*file, hasher, offset, length)).await
    }
}

#[cfg(test)]
#[path = "fs_tests.rs"]
mod tests;
