//! Room set aside: a file whose blocks are given back when the disk is full, so that what must
//! be written even then finds room.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Open, Result, Vfs, VfsFile};

/// Never more than this part of the file system.
const SHARE: u64 = 64;
/// Set aside again when this many times as much is free.
const PLENTY: u64 = 4;
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
    held: AtomicBool,
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
        let ballast = Self { vfs, path, file, size_bytes, held: AtomicBool::new(false) };
        if ballast.take() {
            ballast.held.store(true, Ordering::Release);
        } else {
            // What has another size could never be released.
            ballast.file.set_size(0)?;
            ballast.restore();
        }
        Ok(ballast)
    }

    /// Whether all of it lies there from before, or could be taken with plenty left.
    fn take(&self) -> bool {
        self.file.size_bytes().is_ok_and(|size_bytes| size_bytes == self.size_bytes)
            && self.file.preallocate(0, self.size_bytes).is_ok()
    }

    /// Gives the room back; `false` when it is given back already.
    pub fn release(&self) -> bool {
        if !self.held.swap(false, Ordering::AcqRel) {
            return false;
        }
        match self.file.set_size(0) {
            Ok(()) => {
                let (path, size_bytes) = (self.path.display(), self.size_bytes);
                tracing::warn!(%path, size_bytes, "the disk is full: its ballast is released");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the disk is full, and its ballast cannot be released");
                false
            }
        }
    }

    /// Sets the room aside again when it was given back and plenty is free.
    pub fn restore(&self) {
        if self.held.load(Ordering::Acquire) {
            return;
        }
        let free_bytes = self.vfs.space(&self.path).map_or(0, |space| space.free_bytes);
        if free_bytes < self.size_bytes.saturating_mul(PLENTY) {
            return;
        }
        let size = self.file.set_size(self.size_bytes);
        match size.and_then(|()| self.file.preallocate(0, self.size_bytes)) {
            Ok(()) => {
                self.held.store(true, Ordering::Release);
                tracing::info!(size_bytes = self.size_bytes, "the ballast of the disk is there");
            }
            // Somebody else was faster. What was taken in part must not stay.
            Err(error) => {
                let cut = self.file.set_size(0).is_ok();
                tracing::debug!(%error, cut, "the ballast of the disk cannot be made");
            }
        }
    }
}

#[cfg(test)]
#[path = "ballast_tests.rs"]
mod tests;
