//! A disk in memory that can lose power and fails where it is told (docs/design/simulation.md).
//!
//! Everything that changes it goes into one log. A [`Recording`] plays the log again and stops
//! anywhere: [`Disk::crash`] tells what a power cut there may leave, without a second run of the
//! workload.

mod content;
mod crash;
mod fault;
mod state;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::fault::{Plan, error};
use self::state::Name;
use super::{Error, Metadata, Open, Result, Space, Vfs, VfsFile};

pub use crash::{Image, Variant};
pub use fault::{Class, EDQUOT, EINTR, EIO, EMFILE, ENOSPC, EROFS, Fault, Kind};
pub use state::{Disk, Id, Op, Synced};

/// A process's view of a simulated disk; a clone is the same process.
#[derive(Debug, Clone)]
pub struct SimVfs {
    shared: Arc<Mutex<Shared>>,
    /// The process: those before the last are dead, and so are their open files.
    process: u64,
}

#[derive(Debug)]
struct Shared {
    begin: Disk,
    disk: Disk,
    log: Vec<Op>,
    plan: Plan,
    process: u64,
    locked: BTreeSet<Id>,
}

/// What happened to a disk, from its first state on.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Before the first operation.
    pub begin: Disk,
    /// In order.
    pub log: Vec<Op>,
}

impl Default for SimVfs {
    fn default() -> Self {
        Self::new(Disk::default())
    }
}

impl SimVfs {
    /// A disk in this state.
    pub fn new(disk: Disk) -> Self {
        let shared = Shared {
            begin: disk.clone(),
            disk,
            log: Vec::new(),
            plan: Plan::default(),
            process: 0,
            locked: BTreeSet::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), process: 0 }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the process and gives its successor: what was written stays, what was not synced is
    /// no more durable than before, locks and open files are gone.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut shared = self.shared();
        shared.process += 1;
        shared.locked.clear();
        Self { shared: Arc::clone(&self.shared), process: shared.process }
    }

    /// How many operations changed the disk so far.
    pub fn position(&self) -> usize {
        self.shared().log.len()
    }

    /// The present state.
    pub fn disk(&self) -> Disk {
        self.shared().disk.clone()
    }

    /// What happened so far.
    pub fn recording(&self) -> Recording {
        let shared = self.shared();
        Recording { begin: shared.begin.clone(), log: shared.log.clone() }
    }

    /// From now on operations fail as the fault says.
    pub fn fail(&self, fault: Fault) {
        self.shared().plan.add(fault);
    }

    /// Nothing fails any more; how many operations did.
    pub fn heal(&self) -> usize {
        self.shared().plan.heal()
    }

    /// How many operations failed since the last [`Self::heal`].
    pub fn fired(&self) -> usize {
        self.shared().plan.fired()
    }

    /// The disk, if the process lives and no fault is due.
    fn enter(&self, class: Class, path: &Path) -> Result<(MutexGuard<'_, Shared>, Option<Kind>)> {
        let mut shared = self.shared();
        if shared.process != self.process {
            return Err(Error::new(class.operation(), path, error(EIO)));
        }
        match shared.plan.meet(class, path) {
            Some(Kind::Error(errno)) => {
                if Class::SYNCS.contains(&class) {
                    return Ok((shared, Some(Kind::FailedSync { visible: true })));
                }
                Err(Error::new(class.operation(), path, error(errno)))
            }
            met => Ok((shared, met)),
        }
    }

    fn alive(&self, operation: &'static str, path: &Path) -> Result<MutexGuard<'_, Shared>> {
        let shared = self.shared();
        if shared.process == self.process {
            return Ok(shared);
        }
        Err(Error::new(operation, path, error(EIO)))
    }
}

impl Shared {
    fn log(&mut self, op: Op) {
        self.disk.apply(&op);
        self.log.push(op);
    }

    /// The name of a path whose directory is there.
    fn name(&self, path: &Path) -> io::Result<Name> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let id = self.disk.find(directory).ok_or(io::ErrorKind::NotFound)?;
        if self.disk.names(id).is_none() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((id, name.to_owned()))
    }

    fn at(&self, name: &Name) -> Option<Id> {
        self.disk.names(name.0).and_then(|names| names.get(&name.1)).copied()
    }

    fn create(&mut self, path: &Path, is_dir: bool) -> io::Result<Id> {
        let name = self.name(path)?;
        if self.at(&name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.log(Op::Create { name: name.clone(), is_dir });
        self.at(&name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.name(from)?, self.name(to)?);
        let moved = self.at(&from).ok_or(io::ErrorKind::NotFound)?;
        match (self.disk.names(moved), self.at(&to)) {
            (_, None) => {}
            (None, Some(other)) if self.disk.names(other).is_none() => {}
            (None, Some(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(_), Some(other)) => match self.disk.names(other) {
                None => return Err(io::ErrorKind::NotADirectory.into()),
                Some(names) if names.is_empty() => {}
                Some(_) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            },
        }
        self.log(Op::Rename { from, to });
        Ok(())
    }

    fn remove(&mut self, path: &Path, is_dir: bool) -> io::Result<()> {
        let name = self.name(path)?;
        let found = self.at(&name).ok_or(io::ErrorKind::NotFound)?;
        match self.disk.names(found) {
            Some(_) if !is_dir => return Err(io::ErrorKind::IsADirectory.into()),
            Some(names) if !names.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            None if is_dir => return Err(io::ErrorKind::NotADirectory.into()),
            _ => {}
        }
        self.log(Op::Remove { name });
        Ok(())
    }

    /// How a sync ends under this fault; a failed one keeps what its seed, the time, decides.
    fn synced(&self, met: Option<Kind>) -> Synced {
        match met {
            Some(Kind::FailedSync { visible }) => {
                Synced::Failed { visible, seed: self.log.len() as u64 }
            }
            _ => Synced::Done,
        }
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>> {
        let create = matches!(how, Open::Create { .. });
        let class = if create { Class::Create } else { Class::Open };
        let (mut shared, _) = self.enter(class, path)?;
        let opened = if create {
            shared.create(path, false)
        } else {
            shared.disk.find(path).ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let fail = |source| Error::new(class.operation(), path, source);
        let id = opened.map_err(fail)?;
        if shared.disk.content(id).is_none() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        let lock = Mutex::new(false);
        Ok(Arc::new(SimFile { vfs: self.clone(), id, path: path.to_owned(), lock }))
    }

    fn create_dir(&self, path: &Path, _mode: u32) -> Result<()> {
        let (mut shared, _) = self.enter(Class::CreateDir, path)?;
        let made = shared.create(path, true);
        made.map(|_| ()).map_err(|source| Error::new("create directory", path, source))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (mut shared, _) = self.enter(Class::Rename, to)?;
        shared.rename(from, to).map_err(|source| Error::new("rename to", to, source))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let (mut shared, _) = self.enter(Class::RemoveFile, path)?;
        shared.remove(path, false).map_err(|source| Error::new("remove", path, source))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let (mut shared, _) = self.enter(Class::RemoveDir, path)?;
        shared.remove(path, true).map_err(|source| Error::new("remove directory", path, source))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        let shared = self.alive("stat", path)?;
        Ok(shared.disk.find(path).map(|id| {
            let content = shared.disk.content(id);
            let size_bytes = content.map_or(0, |content| content.size_bytes());
            Metadata { size_bytes, is_dir: content.is_none(), device: 1 }
        }))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        let shared = self.alive("list", path)?;
        let names = shared.disk.find(path).and_then(|id| shared.disk.names(id));
        let names = names.map(|names| names.keys().cloned().collect());
        names.ok_or_else(|| Error::new("list", path, io::ErrorKind::NotFound.into()))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let (mut shared, met) = self.enter(Class::SyncDir, path)?;
        let Some(directory) = shared.disk.find(path) else {
            return Err(Error::new("open", path, io::ErrorKind::NotFound.into()));
        };
        let synced = shared.synced(met);
        shared.log(Op::SyncDir { directory, synced });
        ended(synced, path)
    }

    fn space(&self, _path: &Path) -> Result<Space> {
        let (room, all) = (1 << 40, u64::MAX);
        Ok(Space { free_bytes: room, total_bytes: room, free_inodes: all, total_inodes: 0 })
    }
}

fn ended(synced: Synced, path: &Path) -> Result<()> {
    match synced {
        Synced::Done => Ok(()),
        Synced::Failed { .. } => Err(Error::new(super::SYNC, path, error(EIO))),
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
struct SimFile {
    vfs: SimVfs,
    id: Id,
    path: PathBuf,
    /// Whether this handle has the file's lock.
    lock: Mutex<bool>,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut shared = self.vfs.shared();
            if shared.process == self.vfs.process {
                shared.locked.remove(&self.id);
            }
        }
    }
}

impl VfsFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let (shared, met) = self.vfs.enter(Class::Read, &self.path)?;
        let content = shared.disk.content(self.id);
        if !content.is_some_and(|content| content.read(offset, buffer)) {
            return Err(Error::new("read", &self.path, io::ErrorKind::UnexpectedEof.into()));
        }
        if let (Some(Kind::Flip), false) = (met, buffer.is_empty()) {
            let at = shared.log.len() % buffer.len();
            buffer[at] ^= 1 << (shared.log.len() % 8);
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let (mut shared, met) = self.vfs.enter(Class::Write, &self.path)?;
        let (bytes, failed) = match met {
            Some(Kind::Short(errno)) => (&bytes[..bytes.len() / 2], Some(errno)),
            _ => (bytes, None),
        };
        let bytes = Bytes::copy_from_slice(bytes);
        shared.log(Op::Write { file: self.id, offset, bytes });
        match failed {
            Some(errno) => Err(Error::new("write", &self.path, error(errno))),
            None => Ok(()),
        }
    }

    fn size_bytes(&self) -> Result<u64> {
        let shared = self.vfs.alive("stat", &self.path)?;
        Ok(shared.disk.content(self.id).map_or(0, |content| content.size_bytes()))
    }

    fn set_size(&self, size_bytes: u64) -> Result<()> {
        let (mut shared, _) = self.vfs.enter(Class::SetSize, &self.path)?;
        shared.log(Op::SetSize { file: self.id, size_bytes });
        Ok(())
    }

    fn preallocate(&self, _offset: u64, _length: u64) -> Result<()> {
        drop(self.vfs.enter(Class::Preallocate, &self.path)?);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let (mut shared, met) = self.vfs.enter(Class::SyncFile, &self.path)?;
        let synced = shared.synced(met);
        shared.log(Op::SyncFile { file: self.id, synced });
        ended(synced, &self.path)
    }

    fn try_lock(&self) -> Result<bool> {
        let mut shared = self.vfs.alive("lock", &self.path)?;
        let mut own = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !*own && !shared.locked.insert(self.id) {
            return Ok(false);
        }
        *own = true;
        Ok(true)
    }

    fn drop_cache(&self) -> Result<()> {
        let mut shared = self.vfs.alive("fadvise", &self.path)?;
        shared.log(Op::DropCache { file: self.id });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
