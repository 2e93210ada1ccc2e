//! A disk in memory that fails on command and forgets what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Error, Metadata, Open, Result, SYNC, Space, Vfs, VfsFile};

/// Operations that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    /// Writes and changes of length.
    Write,
    /// Of files and directories.
    Sync,
}

/// Which operations fail: `count` of them, the `first` (from 0) and those after it.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub operation: Operation,
    pub first: usize,
    pub count: usize,
    pub kind: io::ErrorKind,
}

#[derive(Debug, Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    locked: bool,
}

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    fault: Option<(Fault, usize)>,
    fired: usize,
}

#[derive(Debug, Clone, Default)]
pub struct MemoryVfs(Arc<Mutex<Disk>>);

impl MemoryVfs {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on operations fail as the fault says.
    pub fn arm(&self, fault: Fault) {
        let mut disk = self.disk();
        disk.fault = Some((fault, 0));
        disk.fired = 0;
    }

    /// Nothing fails any more; how often something did.
    pub fn disarm(&self) -> usize {
        let mut disk = self.disk();
        disk.fault = None;
        disk.fired
    }

    /// The disk after a power cut: only what was synced is there.
    pub fn after_power_cut(&self) -> Self {
        let disk = self.disk();
        let lost = |content: &Content| Content {
            live: content.durable.clone(),
            durable: content.durable.clone(),
            locked: false,
        };
        let names = disk.durable_names.clone();
        Self::of(disk.files.iter().map(lost).collect(), names)
    }

    /// The disk after the process was killed: everything written is there.
    pub fn after_kill(&self) -> Self {
        let disk = self.disk();
        let kept = |content: &Content| Content { locked: false, ..content.clone() };
        Self::of(disk.files.iter().map(kept).collect(), disk.names.clone())
    }

    fn of(files: Vec<Content>, names: BTreeMap<PathBuf, usize>) -> Self {
        let durable_names = names.clone();
        Self(Arc::new(Mutex::new(Disk { files, names, durable_names, ..Disk::default() })))
    }

    /// Puts a file there, durably.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let content = Content { live: bytes.to_vec(), durable: bytes.to_vec(), locked: false };
        disk.files.push(content);
        let index = disk.files.len() - 1;
        disk.names.insert(path.to_owned(), index);
        disk.durable_names.insert(path.to_owned(), index);
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.files[disk.names[path]].live.clone()
    }

    /// Every name.
    pub fn names(&self) -> Vec<String> {
        self.disk().names.keys().map(|path| path.display().to_string()).collect()
    }
}

impl Disk {
    fn meet(&mut self, operation: Operation, name: &'static str, path: &Path) -> Result<()> {
        let Some((fault, met)) = &mut self.fault else {
            return Ok(());
        };
        if fault.operation != operation {
            return Ok(());
        }
        let fails = (fault.first..fault.first + fault.count).contains(met);
        *met += 1;
        let kind = fault.kind;
        if !fails {
            return Ok(());
        }
        self.fired += 1;
        Err(Error::new(name, path, kind.into()))
    }

    fn index(&self, name: &'static str, path: &Path) -> Result<usize> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| Error::new(name, path, io::ErrorKind::NotFound.into()))
    }
}

impl Vfs for MemoryVfs {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>> {
        let mut disk = self.disk();
        if let Open::Create { .. } = how {
            disk.meet(Operation::Write, "create", path)?;
            if disk.names.contains_key(path) {
                return Err(Error::new("create", path, io::ErrorKind::AlreadyExists.into()));
            }
            disk.files.push(Content::default());
            let index = disk.files.len() - 1;
            disk.names.insert(path.to_owned(), index);
        }
        let index = disk.index("open", path)?;
        drop(disk);
        let locks = Mutex::new(false);
        Ok(Arc::new(MemoryFile { vfs: self.clone(), index, path: path.to_owned(), locks }))
    }

    fn create_dir(&self, _: &Path, _: u32) -> Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut disk = self.disk();
        disk.meet(Operation::Write, "rename", to)?;
        let index = disk.index("rename", from)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let mut disk = self.disk();
        disk.index("remove", path)?;
        disk.names.remove(path);
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        let disk = self.disk();
        Ok(disk.names.get(path).map(|index| Metadata {
            size_bytes: disk.files[*index].live.len() as u64,
            is_dir: false,
            device: 1,
        }))
    }

    fn list(&self, _: &Path) -> Result<Vec<String>> {
        Ok(self.names())
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let mut disk = self.disk();
        disk.meet(Operation::Sync, SYNC, path)?;
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn space(&self, _: &Path) -> Result<Space> {
        let all = u64::MAX;
        Ok(Space { free_bytes: all, total_bytes: all, free_inodes: all, total_inodes: 0 })
    }
}

#[derive(Debug)]
struct MemoryFile {
    vfs: MemoryVfs,
    index: usize,
    path: PathBuf,
    locks: Mutex<bool>,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if *self.locks.lock().unwrap_or_else(PoisonError::into_inner) {
            self.vfs.disk().files[self.index].locked = false;
        }
    }
}

impl VfsFile for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let mut disk = self.vfs.disk();
        disk.meet(Operation::Read, "read", &self.path)?;
        let offset = usize::try_from(offset).unwrap();
        match disk.files[self.index].live.get(offset..offset + buffer.len()) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => {
                return Err(Error::new("read", &self.path, io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut disk = self.vfs.disk();
        disk.meet(Operation::Write, "write", &self.path)?;
        let offset = usize::try_from(offset).unwrap();
        let live = &mut disk.files[self.index].live;
        live.resize(live.len().max(offset + bytes.len()), 0);
        live[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64> {
        Ok(self.vfs.disk().files[self.index].live.len() as u64)
    }

    fn set_size(&self, size_bytes: u64) -> Result<()> {
        let mut disk = self.vfs.disk();
        disk.meet(Operation::Write, "truncate", &self.path)?;
        disk.files[self.index].live.resize(usize::try_from(size_bytes).unwrap(), 0);
        Ok(())
    }

    fn preallocate(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut disk = self.vfs.disk();
        disk.meet(Operation::Sync, SYNC, &self.path)?;
        let content = &mut disk.files[self.index];
        content.durable = content.live.clone();
        Ok(())
    }

    fn try_lock(&self) -> Result<bool> {
        let content = &mut self.vfs.disk().files[self.index];
        if content.locked {
            return Ok(false);
        }
        content.locked = true;
        *self.locks.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(true)
    }

    fn drop_cache(&self) -> Result<()> {
        Ok(())
    }
}
