//! The operating system's file system.
//!
//! Files and directories are made with the mode that the caller gives, under the process's
//! umask, and belong to whoever runs it: nothing here asks for a uid. Interrupted and short reads
//! and writes are continued by the standard library. The raw sync calls are in [`super::durable`].

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Error, Metadata, Open, Result, SYNC, Space, Vfs, VfsFile, durable};

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsVfs;

impl Vfs for OsVfs {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        let operation = match how {
            Open::Read => "open",
            Open::ReadWrite => {
                options.write(true);
                "open"
            }
            Open::Create { mode } => {
                options.write(true).create_new(true).mode(mode);
                "create"
            }
        };
        let error = |source| Error::new(operation, path, source);
        let file = options.open(path).map_err(error)?;
        // Opening a directory for reading succeeds; reading it would fail much later.
        if how == Open::Read && file.metadata().map_err(error)?.is_dir() {
            return Err(error(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Arc::new(OsFile { file, path: path.to_owned() }))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<()> {
        let made = DirBuilder::new().mode(mode).create(path);
        made.map_err(|source| Error::new("create directory", path, source))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|source| Error::new("rename to", to, source))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|source| Error::new("remove", path, source))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path).map_err(|source| Error::new("remove directory", path, source))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Metadata {
                size_bytes: found.len(),
                is_dir: found.is_dir(),
                device: found.dev(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new("stat", path, error)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        let error = |source| Error::new("list", path, source);
        let name = |entry: io::Result<fs::DirEntry>| {
            entry?.file_name().into_string().map_err(|name| {
                let text = format!("the name {name:?} is not UTF-8");
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
        };
        let entries = fs::read_dir(path).map_err(error)?;
        let mut names = entries.map(name).collect::<io::Result<Vec<_>>>().map_err(error)?;
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        durable::sync_os_directory(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let error = |errno: Errno| Error::new("statvfs", path, errno.into());
        let found = rustix::fs::statvfs(path).map_err(error)?;
        Ok(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_inodes: if found.f_files == 0 { u64::MAX } else { found.f_favail },
            total_inodes: found.f_files,
        })
    }
}

/// A file of the operating system.
#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl OsFile {
    /// Reads what is in the page cache at once; how many bytes.
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> usize {
        let buffers = &mut [io::IoSliceMut::new(buffer)];
        let read = rustix::io::preadv2(&self.file, buffers, offset, ReadWriteFlags::NOWAIT);
        // Whatever the reason, the ordinary read reports it or succeeds.
        read.unwrap_or_default()
    }

    fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> Error {
        Error::new(operation, &self.path, source.into())
    }
}

/// As much as Linux takes of one advice to read ahead, unless the device is set to take more.
const READ_AHEAD_BYTES: Option<NonZeroU64> = NonZeroU64::new(128 << 10);

impl VfsFile for OsFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|source| self.error("read", source))
    }

    fn read_once_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        if self.read_cached(buffer, offset) == buffer.len() {
            return Ok(());
        }
        // Nothing is read ahead: what was would look cached to the next read. Advice that is not
        // taken costs only room in the cache.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Random);
        self.read_exact_at(buffer, offset)?;
        let length = NonZeroU64::new(buffer.len() as u64);
        let _ = rustix::fs::fadvise(&self.file, offset, length, Advice::DontNeed);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.error("write", source))
    }

    fn size_bytes(&self) -> Result<u64> {
        let found = self.file.metadata().map_err(|source| self.error("stat", source))?;
        Ok(found.len())
    }

    fn set_size(&self, size_bytes: u64) -> Result<()> {
        self.file.set_len(size_bytes).map_err(|source| self.error("truncate", source))
    }

    fn preallocate(&self, offset: u64, length: u64) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        loop {
            let flags = FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&self.file, flags, offset, length) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("preallocate", errno)),
            }
        }
    }

    fn sync_data(&self) -> Result<()> {
        durable::sync_os_data(&self.file).map_err(|source| self.error(SYNC, source))
    }

    fn try_lock(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(self.error("lock", source)),
        }
    }

    fn drop_cache(&self) -> Result<()> {
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)
            .map_err(|errno| self.error("fadvise", errno))
    }

    fn read_ahead(&self) {
        let size_bytes = self.size_bytes().unwrap_or_default();
        let mut offset = 0;
        while offset < size_bytes {
            // Advice that is not taken costs only time.
            let _ = rustix::fs::fadvise(&self.file, offset, READ_AHEAD_BYTES, Advice::WillNeed);
            offset += READ_AHEAD_BYTES.map_or(size_bytes, NonZeroU64::get);
        }
    }
}

#[cfg(test)]
#[path = "os_tests.rs"]
mod tests;
