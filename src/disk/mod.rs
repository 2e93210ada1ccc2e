//! Files and directories behind a trait, so that a simulated disk can lose power.
//!
//! All calls block; they run inside [`crate::ops::Blocking`] or on the writer's thread.
//! Invariants: V1 a name is durable only after [`Vfs::sync_dir`] of its directory, data only
//! after [`VfsFile::sync_data`]; V2 every error names its path; V3 a failed sync is never
//! retried on the same file or directory.

pub mod ballast;
pub mod durable;
#[cfg(feature = "failpoints")]
pub mod failpoint;
mod os;
#[cfg(test)]
pub(crate) mod probe;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod stream;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

pub use os::OsVfs;
pub use stream::{FileReader, FileWriter};

/// The [`Error::operation`] of a failed sync, of every implementation.
pub const SYNC: &str = "sync";

/// An I/O error and the path that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct Error {
    /// What was tried: `open`, `write`, `sync`, ...
    pub operation: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl Error {
    /// Wraps `source`.
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source }
    }

    /// Whether the disk (or the quota) is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the process or the machine has no descriptor or no memory left for it, for now.
    pub fn is_exhausted(&self) -> bool {
        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        let code = self.source.raw_os_error();
        exhausted.iter().any(|errno| code == Some(errno.raw_os_error()))
    }

    /// Whether a sync itself failed (V3), not the opening of what was to be synced.
    pub fn is_failed_sync(&self) -> bool {
        self.operation == SYNC
    }

    /// The same failure for one more caller; only an error made in memory loses its inner value.
    pub fn duplicate(&self) -> Self {
        let source = match self.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        Self { operation: self.operation, path: self.path.clone(), source }
    }

    /// Whether the name is taken: a file or directory is there, or a directory is not empty.
    pub fn is_taken(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
        )
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Result of a disk operation.
pub type Result<T> = std::result::Result<T, Error>;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing.
    ReadWrite,
    /// New, for reading and writing; fails when the name exists. `mode` is under the umask.
    Create {
        /// Permission bits.
        mode: u32,
    },
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes of a file.
    pub size_bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The file system it lies on (`st_dev`).
    pub device: u64,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an unprivileged process may still write.
    pub free_bytes: u64,
    /// Size of the file system.
    pub total_bytes: u64,
    /// Inodes left; `u64::MAX` where the file system does not count them.
    pub free_inodes: u64,
    /// All inodes; zero where the file system does not count them.
    pub total_inodes: u64,
}

/// A file system.
pub trait Vfs: Send + Sync + Debug + 'static {
    /// Opens a file; a directory is an error.
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>>;
    /// Makes one directory; fails when the name exists. `mode` is under the umask.
    fn create_dir(&self, path: &Path, mode: u32) -> Result<()>;
    /// Renames a file or directory; a file replaces a file, a directory only an empty directory.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// What the path is; `None` when it does not exist.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>>;
    /// The names in a directory, sorted by bytes. A name that is not UTF-8 is an error that names
    /// the directory: nothing of ours makes one, and to skip it would hide why a directory that
    /// looks empty cannot be removed.
    fn list(&self, path: &Path) -> Result<Vec<String>>;
    /// Makes the names in a directory durable. Called by [`durable`] alone.
    fn sync_dir(&self, path: &Path) -> Result<()>;
    /// Room on the file system of this path.
    fn space(&self, path: &Path) -> Result<Space>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait VfsFile: Send + Sync + Debug {
    /// Fills `buffer` from `offset`; fails with `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
    /// As [`Self::read_exact_at`], for who reads everything once: where the system can do so, what
    /// was not in its cache before is not in it afterwards.
    fn read_once_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.read_exact_at(buffer, offset)
    }
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Length of the file.
    fn size_bytes(&self) -> Result<u64>;
    /// Cuts or extends the file.
    fn set_size(&self, size_bytes: u64) -> Result<()>;
    /// Reserves room without changing the length; a file system that cannot is no error.
    fn preallocate(&self, offset: u64, length: u64) -> Result<()>;
    /// Makes data and length durable (not the name). Called by [`durable`] alone.
    fn sync_data(&self) -> Result<()>;
    /// Takes the advisory lock of this file; `false` when another process holds it.
    fn try_lock(&self) -> Result<bool>;
    /// Drops the clean cached pages of this file, so that the next read asks the device.
    fn drop_cache(&self) -> Result<()>;
    /// All of this file is about to be read, in no order: where the system can do so, it begins
    /// to read it in order.
    fn read_ahead(&self) {}
}
