//! redb's storage on a [`VfsFile`]: redb never touches a file by itself.
//!
//! After a failed sync nothing may be written or synced again (V3), but reads go on. redb cannot
//! open a file that needs repair without writing to it, so a frozen backend keeps what redb
//! writes in memory, over the file: the repair succeeds, the file stays as it is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{BackendError, StorageBackend};

use super::error::to_io;
use crate::disk::ballast::Ballast;
use crate::disk::durable::{self, Step};
use crate::disk::{self, VfsFile};

/// What the store knows of its file, over all handles.
#[derive(Debug, Default)]
pub struct FileState {
    /// Whether a sync failed.
    pub poisoned: AtomicBool,
    /// Length in bytes.
    pub size_bytes: AtomicU64,
    /// Released when the disk is full, so that this file can still be written.
    pub ballast: Option<Ballast>,
}

impl FileState {
    /// Writes so many bytes at `offset`, again while the disk is full and the ballast makes room
    /// there. A write may be done again, other than a sync (V3).
    fn with_room(
        &self,
        file: &dyn VfsFile,
        (offset, length_bytes): (u64, usize),
        write: impl Fn() -> disk::Result<()>,
    ) -> disk::Result<()> {
        loop {
            let done = write();
            let is_full = done.as_ref().is_err_and(disk::Error::is_full);
            let Some(ballast) = self.ballast.as_ref().filter(|_| is_full) else { return done };
            if !ballast.release_for(file, offset, length_bytes as u64) {
                return done;
            }
        }
    }

    fn set_size(&self, file: &dyn VfsFile, size_bytes: u64) -> disk::Result<()> {
        let old_bytes = self.size_bytes.load(Ordering::Relaxed);
        self.with_room(file, (old_bytes, 0), || file.set_size(size_bytes))?;
        self.size_bytes.store(size_bytes, Ordering::Relaxed);
        if let (Some(ballast), Some(grown)) = (&self.ballast, size_bytes.checked_sub(old_bytes)) {
            ballast.back(file, old_bytes, grown);
        }
        Ok(())
    }
}

/// Storage of one handle.
#[derive(Debug)]
pub struct Backend {
    /// `None` once closed: the lock goes with the file.
    file: RwLock<Option<Arc<dyn VfsFile>>>,
    state: Arc<FileState>,
    overlay: Option<RwLock<Overlay>>,
}

type IoResult<T> = io::Result<T>;

impl Backend {
    /// Reads and writes the file.
    pub fn writable(file: Arc<dyn VfsFile>, state: Arc<FileState>) -> disk::Result<Self> {
        state.size_bytes.store(file.size_bytes()?, Ordering::Relaxed);
        Ok(Self { file: RwLock::new(Some(file)), state, overlay: None })
    }

    /// Reads the file and keeps writes in memory.
    pub fn frozen(file: Arc<dyn VfsFile>, state: Arc<FileState>) -> disk::Result<Self> {
        let overlay = Some(RwLock::new(Overlay::over(file.size_bytes()?)));
        Ok(Self { file: RwLock::new(Some(file)), state, overlay })
    }

    fn with_file<T>(&self, work: impl FnOnce(&dyn VfsFile) -> disk::Result<T>) -> IoResult<T> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let file = file.as_deref().ok_or_else(|| io::Error::other("the storage is closed"))?;
        work(file).map_err(to_io)
    }

    fn sync(&self, file: &dyn VfsFile) -> disk::Result<()> {
        durable::sync_file(file, Step::DatabaseData)
            .inspect_err(|_| self.state.poisoned.store(true, Ordering::Release))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> IoResult<u64> {
        match &self.overlay {
            Some(overlay) => Ok(read(overlay).size_bytes),
            None => self.with_file(|file| file.size_bytes()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        match &self.overlay {
            Some(overlay) => self.with_file(|file| read(overlay).read(file, offset, out)),
            None => self.with_file(|file| file.read_exact_at(out, offset)),
        }
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        if let Some(overlay) = &self.overlay {
            write(overlay).set_size(len);
            return Ok(());
        }
        self.with_file(|file| self.state.set_size(file, len))
    }

    fn sync_data(&self) -> IoResult<()> {
        match &self.overlay {
            Some(_) => Ok(()),
            None => self.with_file(|file| self.sync(file)),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> IoResult<()> {
        match &self.overlay {
            Some(overlay) => self.with_file(|file| write(overlay).write(file, offset, data)),
            None => self.with_file(|file| {
                let range = (offset, data.len());
                self.state.with_room(file, range, || file.write_all_at(data, offset))
            }),
        }
    }

    fn close(&self) -> IoResult<()> {
        self.file.write().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        // One advisory lock for the whole file is all that exclusive mode asks for.
        if !matches!(start, Bound::Unbounded | Bound::Included(0)) || end != Bound::Unbounded {
            return Err(BackendError::Unsupported);
        }
        // What only looks must not keep a server from its database. Torn pages are damage to it.
        if self.overlay.is_some() {
            return Ok(true);
        }
        self.with_file(|file| file.try_lock()).map_err(BackendError::Io)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        // The lock ends with the file, which `close` drops right after.
        Ok(())
    }
}

fn read(overlay: &RwLock<Overlay>) -> std::sync::RwLockReadGuard<'_, Overlay> {
    overlay.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(overlay: &RwLock<Overlay>) -> std::sync::RwLockWriteGuard<'_, Overlay> {
    overlay.write().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes per page of the overlay.
const PAGE_SIZE_BYTES: u64 = 4096;

/// What was written over a file, by page. It holds what a repair writes: the header, and up to
/// one bit per page of the database.
#[derive(Debug)]
struct Overlay {
    size_bytes: u64,
    /// How much of the file shows through; what was once cut off stays gone.
    visible_bytes: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn over(size_bytes: u64) -> Self {
        Self { size_bytes, visible_bytes: size_bytes, pages: BTreeMap::new() }
    }

    fn set_size(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
        self.visible_bytes = self.visible_bytes.min(size_bytes);
        self.pages.retain(|page, _| page * PAGE_SIZE_BYTES < size_bytes);
    }

    fn read(&self, file: &dyn VfsFile, offset: u64, out: &mut [u8]) -> disk::Result<()> {
        for (page, start, part) in Parts::new(offset, out) {
            match self.pages.get(&page) {
                Some(bytes) => part.copy_from_slice(&bytes[start..start + part.len()]),
                None => self.read_file(file, page * PAGE_SIZE_BYTES + start as u64, part)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &dyn VfsFile, offset: u64, data: &[u8]) -> disk::Result<()> {
        let mut data = data.to_vec();
        for (page, start, part) in Parts::new(offset, &mut data) {
            if !self.pages.contains_key(&page) {
                let mut bytes = vec![0; PAGE_SIZE_BYTES as usize];
                self.read_file(file, page * PAGE_SIZE_BYTES, &mut bytes)?;
                self.pages.insert(page, bytes);
            }
            if let Some(bytes) = self.pages.get_mut(&page) {
                bytes[start..start + part.len()].copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// Reads what shows through of this range; beyond it there are zeros.
    fn read_file(&self, file: &dyn VfsFile, offset: u64, out: &mut [u8]) -> disk::Result<()> {
        let there = self.visible_bytes.saturating_sub(offset).min(out.len() as u64);
        let (there, beyond) = out.split_at_mut(there as usize);
        beyond.fill(0);
        file.read_exact_at(there, offset)
    }
}

/// A range cut at page borders: page, start within the page, bytes.
struct Parts<'a> {
    offset: u64,
    rest: &'a mut [u8],
}

impl<'a> Parts<'a> {
    fn new(offset: u64, bytes: &'a mut [u8]) -> Self {
        Self { offset, rest: bytes }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (u64, usize, &'a mut [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (page, start) = (self.offset / PAGE_SIZE_BYTES, self.offset % PAGE_SIZE_BYTES);
        let room = PAGE_SIZE_BYTES - start;
        let length = room.min(self.rest.len() as u64);
        let (part, rest) = std::mem::take(&mut self.rest).split_at_mut(length as usize);
        self.rest = rest;
        self.offset += length;
        Some((page, start as usize, part))
    }
}
