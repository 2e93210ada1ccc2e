//! The tree of blob files and the steps of a publish (design 2). Every function here blocks.
//!
//! B1: only whole, synced staging directories and files are renamed into the tree.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::layout::{BLOB_DIRECTORY_MODE, BLOB_FILE_MODE, PRIVATE_DIRECTORY_MODE};
use super::{Layout, Published, Result};
use crate::disk::durable::{Step, create_dir_durable};
use crate::disk::{self, Open, Vfs, VfsFile};
use crate::oci::{Algorithm, Digest, UploadId};

/// The directories of one store.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) layout: Layout,
    /// Algorithm and shard directories whose names are durable: at most 257 for each algorithm.
    /// One that is only there is not enough: whoever made it may have been killed before its sync.
    durable: Mutex<BTreeSet<PathBuf>>,
}

/// What stands in the way of a new name.
#[derive(Debug)]
pub(super) enum Naming {
    /// Nothing: the digest's directory is the staging directory now.
    Done,
    /// The digest's directory is there and not empty.
    Taken,
}

/// The file at a digest's path.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) size_bytes: u64,
}

impl Tree {
    /// Makes the fixed directories, durably, and checks that they lie on one file system. The name
    /// of the root itself is the business of whoever made or locked it.
    pub(super) fn open(vfs: Arc<dyn Vfs>, root: &Path) -> Result<Self> {
        let layout = Layout::new(root);
        for directory in ["docker", "docker/registry", "docker/registry/v2"] {
            create_dir_durable(
                &*vfs,
                &root.join(directory),
                BLOB_DIRECTORY_MODE,
                Step::TreeParents,
            )?;
        }
        create_dir_durable(&*vfs, &layout.blobs(), BLOB_DIRECTORY_MODE, Step::TreeBlobs)?;
        for directory in [layout.staging(), layout.quarantine()] {
            create_dir_durable(&*vfs, &directory, PRIVATE_DIRECTORY_MODE, Step::TreePrivate)?;
        }
        let tree = Self { vfs, layout, durable: Mutex::default() };
        tree.check_one_file_system()?;
        Ok(tree)
    }

    /// A tree that is there, for reading.
    pub(super) fn existing_at(vfs: Arc<dyn Vfs>, root: &Path) -> Self {
        Self { vfs, layout: Layout::new(root), durable: Mutex::default() }
    }

    /// A rename does not cross file systems: better to refuse than to fail at the first push.
    fn check_one_file_system(&self) -> Result<()> {
        let device = |path: &Path| Ok::<_, disk::Error>(self.vfs.metadata(path)?.map(|m| m.device));
        let staging = device(&self.layout.staging())?;
        let algorithms = Algorithm::ALL.map(|name| self.layout.algorithm(name));
        for path in algorithms.into_iter().chain([self.layout.blobs(), self.layout.quarantine()]) {
            let found = device(&path)?;
            if found.is_some() && found != staging {
                let text = "it must lie on the same file system as kelson/staging";
                let source = io::Error::new(io::ErrorKind::CrossesDevices, text);
                return Err(disk::Error::new("use", &path, source).into());
            }
        }
        Ok(())
    }

    /// Makes a staging directory and its file. Nothing is durable.
    pub(super) fn stage(&self, id: UploadId) -> Result<Arc<dyn VfsFile>> {
        let directory = self.layout.upload(id);
        self.vfs.create_dir(&directory, BLOB_DIRECTORY_MODE)?;
        let how = Open::Create { mode: BLOB_FILE_MODE };
        let file = self.vfs.open(&self.layout.upload_data(id), how);
        if file.is_err() {
            // The error is reported; a directory left over is swept like any stale upload.
            let _ = self.vfs.remove_dir(&directory);
        }
        Ok(file?)
    }

    /// As `stage`, with these bytes; nothing is left after an error.
    pub(super) fn stage_bytes(&self, id: UploadId, bytes: &Bytes) -> Result<Arc<dyn VfsFile>> {
        let file = self.stage(id)?;
        if let Err(error) = file.write_all_at(bytes, 0) {
            // The first error is the one that counts; what is left is swept later.
            let _ = self.discard(id);
            return Err(error.into());
        }
        Ok(file)
    }

    /// Opens a staging file and cuts it to `offset`; `None` when it is absent or shorter.
    pub(super) fn reopen(&self, id: UploadId, offset: u64) -> Result<Option<Arc<dyn VfsFile>>> {
        let file = match self.vfs.open(&self.layout.upload_data(id), Open::ReadWrite) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        if file.size_bytes()? < offset {
            return Ok(None);
        }
        // Also when the length is right: room reserved before a restart goes with it.
        file.set_size(offset)?;
        Ok(Some(file))
    }

    /// Removes a staging directory and its file, if they are there.
    pub(super) fn discard(&self, id: UploadId) -> Result<()> {
        was_there(self.vfs.remove_file(&self.layout.upload_data(id)))?;
        was_there(self.vfs.remove_dir(&self.layout.upload(id)))?;
        Ok(())
    }

    /// The ids among the names in the staging directory.
    pub(super) fn staged(&self) -> Result<Vec<UploadId>> {
        let names = self.vfs.list(&self.layout.staging())?;
        Ok(names.iter().filter_map(|name| UploadId::parse(name)).collect())
    }

    /// First step of a publish: renames the staging directory to the digest's. `Published` holds
    /// what is to be synced, whatever the next step will be.
    pub(super) fn name(&self, id: UploadId, digest: &Digest) -> Result<(Naming, Published)> {
        let mut published = self.make_parents(digest)?;
        match self.vfs.rename(&self.layout.upload(id), &self.layout.blob(digest)) {
            Ok(()) => Ok((Naming::Done, published)),
            Err(error) if error.is_taken() => {
                published.directories.push(self.layout.blob(digest));
                Ok((Naming::Taken, published))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// `<alg>` and `<hh>`. The directory above each that is not known to be durable is to be
    /// synced, whoever made it.
    fn make_parents(&self, digest: &Digest) -> Result<Published> {
        let mut published = Published::default();
        let shard = self.layout.shard(digest);
        let chain = [
            (self.layout.blobs(), self.layout.algorithm(digest.algorithm())),
            (self.layout.algorithm(digest.algorithm()), shard.clone()),
        ];
        for (above, directory) in chain {
            let made = match self.vfs.create_dir(&directory, BLOB_DIRECTORY_MODE) {
                Ok(()) => true,
                Err(error) if error.is_taken() => false,
                Err(error) => return Err(error.into()),
            };
            let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
            if made {
                durable.remove(&directory);
            }
            if !durable.contains(&directory) {
                published.directories.push(above);
                published.parents.push(directory);
            }
        }
        published.directories.extend([shard, self.layout.staging()]);
        Ok(published)
    }

    /// Remembers that the names of these directories are durable.
    pub(super) fn remember(&self, parents: Vec<PathBuf>) {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).extend(parents);
    }

    /// The file at a digest's path; `None` when there is none. Anything else there is an error.
    pub(super) fn existing(&self, digest: &Digest) -> Result<Option<Existing>> {
        match self.vfs.open(&self.layout.blob_data(digest), Open::Read) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(file) => Ok(Some(Existing { size_bytes: file.size_bytes()?, file })),
        }
    }

    /// Whether a file of this size is at the digest's path.
    pub(super) fn has_size(&self, digest: &Digest, size_bytes: u64) -> bool {
        // Where nothing can be found out, the steps of a publish report why.
        let found = self.vfs.metadata(&self.layout.blob_data(digest)).ok().flatten();
        found.is_some_and(|found| !found.is_dir && found.size_bytes == size_bytes)
    }

    /// Last step of a publish over a wrong file, or into a directory without one: renames the
    /// staged file over it.
    pub(super) fn replace(&self, id: UploadId, digest: &Digest) -> Result<()> {
        self.vfs.rename(&self.layout.upload_data(id), &self.layout.blob_data(digest))?;
        tidied_up(self.vfs.remove_dir(&self.layout.upload(id)), id);
        Ok(())
    }

    /// Last step of a publish that keeps the existing file.
    pub(super) fn keep(&self, id: UploadId) -> Result<()> {
        let data = self.vfs.remove_file(&self.layout.upload_data(id));
        tidied_up(data.and_then(|()| self.vfs.remove_dir(&self.layout.upload(id))), id);
        Ok(())
    }

    /// What is to be synced for a file that is kept without anything staged.
    pub(super) fn kept(&self, digest: &Digest) -> Result<Published> {
        let mut published = self.make_parents(digest)?;
        published.directories.push(self.layout.blob(digest));
        Ok(published)
    }

    /// Removes a blob's file and its directory; `false` when there was no file.
    pub(super) fn remove(&self, digest: &Digest) -> Result<bool> {
        let removed = was_there(self.vfs.remove_file(&self.layout.blob_data(digest)))?;
        match self.vfs.remove_dir(&self.layout.blob(digest)) {
            Err(error) if !error.is_not_found() && !error.is_taken() => Err(error.into()),
            _ => Ok(removed),
        }
    }
}

/// What is left of a staging directory does not undo a publish; it is swept later.
fn tidied_up(removed: disk::Result<()>, id: UploadId) {
    if let Err(error) = removed {
        tracing::warn!(%error, upload.id = %id, "a staging directory was left over");
    }
}

/// Whether there was something to remove.
fn was_there(removed: disk::Result<()>) -> Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
