//! Room set aside: a file whose blocks are given back when the disk is full, as many as each write
//! needs that is refused, so that what must be written even then finds room.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Open, Result, Vfs, VfsFile};

/// Never more than this part of the file system.
const SHARE: u64 = 64;
/// Set aside again when this many times as much is free.
const PLENTY: u64 = 3;
/// Of what the file beside it grows by, no more than this is allocated ahead.
const AHEAD_BYTES_MAX: u64 = 64 << 20;
/// What is given back is whole blocks of so many bytes.
const BLOCK_BYTES: u64 = 4096;
/// Permission bits.
const MODE: u32 = 0o600;

/// A file that takes room until it is released. It holds no data and is never synced: after a
/// crash the next [`Ballast::open`] makes it whole.
#[derive(Debug)]
pub struct Ballast {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    size_bytes: u64,
    /// What is left of it. The writer releases, and whoever looks for room restores.
    held_bytes: Mutex<u64>,
    /// Whether some of it was needed since it was whole.
    used: AtomicBool,
}

impl Ballast {
    /// Opens or makes the file, and sets aside `size_bytes`, or a small part of the file system if
    /// that is less. Where there is no room now, [`Ballast::restore`] sets it aside later.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, size_bytes: u64) -> Result<Self> {
        let file = match vfs.open(path, Open::Create { mode: MODE }) {
            Err(error) if error.is_taken() => vfs.open(path, Open::ReadWrite)?,
            opened => opened?,
        };
        let size_bytes = size_bytes.min(vfs.space(path)?.total_bytes / SHARE);
        let path = path.to_owned();
        let ballast = Self {
            vfs,
            path,
            file,
            size_bytes,
            held_bytes: Mutex::default(),
            used: AtomicBool::new(false),
        };
        let there_bytes = ballast.file.size_bytes()?;
        if there_bytes <= size_bytes && ballast.file.preallocate(0, there_bytes).is_ok() {
            *ballast.held_bytes() = there_bytes;
        } else {
            // Of another size, or without its blocks.
            ballast.file.set_size(0)?;
        }
        ballast.restore();
        Ok(ballast)
    }

    fn held_bytes(&self) -> MutexGuard<'_, u64> {
        self.held_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back as much as `length_bytes` at `offset` of `file` need, and takes it there before
    /// anybody else does; `false` when nothing is left.
    pub fn release_for(&self, file: &dyn VfsFile, offset: u64, length_bytes: u64) -> bool {
        let mut held_bytes = self.held_bytes();
        if *held_bytes == 0 {
            return false;
        }
        self.used.store(true, Ordering::Release);
        let (path, size_bytes) = (self.path.display(), self.size_bytes);
        let first = offset - offset % BLOCK_BYTES;
        let blocks = (offset + length_bytes - first).div_ceil(BLOCK_BYTES).max(1);
        let left_bytes = (*held_bytes).saturating_sub(blocks * BLOCK_BYTES);
        if *held_bytes == size_bytes {
            tracing::warn!(%path, size_bytes, "the disk is full: its ballast is released");
        }
        if left_bytes == 0 {
            tracing::warn!(%path, size_bytes, "nothing is left of the ballast of the full disk");
        }
        *held_bytes = left_bytes;
        if let Err(error) = self.file.set_size(left_bytes) {
            tracing::warn!(%error, "the disk is full, and its ballast cannot be released");
            return false;
        }
        let end = file.size_bytes().unwrap_or(0).min(first + blocks * BLOCK_BYTES);
        // Without it the write finds what there is.
        let _ = file.preallocate(first, end.saturating_sub(first));
        true
    }

    /// Whether some of it was needed since it was whole.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Allocates what `file` has grown by from `offset` on, where plenty is free: so that a disk
    /// that is full later does not refuse to write there.
    pub fn back(&self, file: &dyn VfsFile, offset: u64, grown_bytes: u64) {
        let wanted_bytes = grown_bytes.min(AHEAD_BYTES_MAX);
        let free_bytes = self.vfs.space(&self.path).map_or(0, |space| space.free_bytes);
        if free_bytes >= wanted_bytes.saturating_mul(PLENTY) {
            // Without it the writes find what there is.
            let _ = file.preallocate(offset, wanted_bytes);
        }
    }

    /// Sets the room aside again when it was given back and plenty is free.
    pub fn restore(&self) {
        let mut held_bytes = self.held_bytes();
        if *held_bytes == self.size_bytes {
            return;
        }
        let free_bytes = self.vfs.space(&self.path).map_or(0, |space| space.free_bytes);
        if free_bytes < self.size_bytes.saturating_mul(PLENTY) {
            return;
        }
        let size = self.file.set_size(self.size_bytes);
        match size.and_then(|()| self.file.preallocate(0, self.size_bytes)) {
            Ok(()) => {
                *held_bytes = self.size_bytes;
                self.used.store(false, Ordering::Release);
                tracing::info!(size_bytes = self.size_bytes, "the ballast of the disk is there");
            }
            // Somebody else was faster. What was taken in part must not stay.
            Err(error) => {
                let cut = self.file.set_size(*held_bytes).is_ok();
                tracing::debug!(%error, cut, "the ballast of the disk cannot be made");
            }
        }
    }
}

#[cfg(test)]
#[path = "ballast_tests.rs"]
mod tests;
