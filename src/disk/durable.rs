//! The only fsync. A helper's name is its guarantee; nobody else calls a sync of [`Vfs`] or
//! [`VfsFile`], or one of the standard library.
//!
//! A name that is there already may still be lost at a power cut: whoever made it may have been
//! killed before its sync. So the helpers sync the directory of a name that they only found, too.
//!
//! Every call says by its [`Step`] what it protects.

#[cfg(any(test, feature = "sim"))]
pub mod mutant;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, Semaphore, oneshot};

use super::{Error, Open, Result, SYNC, Vfs, VfsFile};
use crate::ops::Blocking;

pub use step::Step;

/// Whether the simulator has taken the sync of this step away.
#[cfg(any(test, feature = "sim"))]
fn is_left_out(step: Step) -> bool {
    mutant::is_left_out(step)
}

/// Nothing is ever left out of a registry that people run.
#[cfg(not(any(test, feature = "sim")))]
fn is_left_out(_: Step) -> bool {
    false
}

/// `fdatasync`, for the operating system's [`VfsFile`].
pub(super) fn sync_os_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// `fsync` of a directory, for the operating system's [`Vfs`].
pub(super) fn sync_os_directory(path: &Path) -> Result<()> {
    let directory = File::open(path).map_err(|source| Error::new("open", path, source))?;
    directory.sync_all().map_err(|source| Error::new(SYNC, path, source))
}

/// Passes a file's sync on, for a [`VfsFile`] around another one: it is no step of its own.
#[cfg(feature = "failpoints")]
pub(super) fn sync_inner_data(inner: &dyn VfsFile) -> Result<()> {
    inner.sync_data()
}

/// Passes a directory's sync on, for a [`Vfs`] around another one.
#[cfg(feature = "failpoints")]
pub(super) fn sync_inner_directory(inner: &dyn Vfs, path: &Path) -> Result<()> {
    inner.sync_dir(path)
}

/// Makes a file's data and length durable (not its name, V1). After an error the file's content
/// is unknown and must not be synced again (V3).
pub fn sync_file(file: &dyn VfsFile, step: Step) -> Result<()> {
    if is_left_out(step) { Ok(()) } else { file.sync_data() }
}

/// Makes the names in these directories durable, each directory once; stops at the first error.
pub fn sync_dirs<'a>(
    vfs: &dyn Vfs,
    paths: impl IntoIterator<Item = &'a Path>,
    step: Step,
) -> Result<()> {
    if is_left_out(step) {
        return Ok(());
    }
    let distinct: BTreeSet<&Path> = paths.into_iter().collect();
    distinct.into_iter().try_for_each(|path| vfs.sync_dir(path))
}

/// Makes a directory and its missing ancestors, all with `mode` under the umask. When it returns,
/// their names are durable, and so is that of `path` if it was there already.
pub fn create_dir_durable(vfs: &dyn Vfs, path: &Path, mode: u32, step: Step) -> Result<()> {
    let missing = missing_ancestors(vfs, path)?;
    for directory in missing.iter().rev() {
        match vfs.create_dir(directory, mode) {
            Err(error) if !error.is_taken() => return Err(error),
            _ => {}
        }
    }
    let found = vfs.metadata(path)?;
    if !found.is_some_and(|found| found.is_dir) {
        return Err(Error::new("create directory", path, io::ErrorKind::NotADirectory.into()));
    }
    let named = missing.iter().copied().chain([path]);
    sync_dirs(vfs, named.filter_map(parent), step)
}

/// `path` and its ancestors up to the first that exists, deepest first.
fn missing_ancestors<'a>(vfs: &dyn Vfs, path: &'a Path) -> Result<Vec<&'a Path>> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors().filter(|ancestor| *ancestor != Path::new("")) {
        if vfs.metadata(ancestor)?.is_some() {
            break;
        }
        missing.push(ancestor);
    }
    Ok(missing)
}

/// The directory that holds this name; `None` for the root.
fn parent(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent == Path::new("") { Path::new(".") } else { parent })
}

/// Replaces a small file: after a power cut it has either its old or its new content, and the new
/// one once this returned. `mode` is under the umask. The caller keeps other writers away. The
/// steps are those of the data and of the name.
pub fn write_atomic(
    vfs: &dyn Vfs,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    [data, name]: [Step; 2],
) -> Result<()> {
    let (Some(directory), Some(file_name)) = (parent(path), path.file_name()) else {
        return Err(Error::new("write", path, io::ErrorKind::InvalidFilename.into()));
    };
    let mut temporary = file_name.to_owned();
    temporary.push(".tmp");
    let temporary = directory.join(temporary);
    remove_if_there(vfs, &temporary)?;
    if let Err(error) = write_beside(vfs, &temporary, path, bytes, mode, data) {
        // What failed is reported; a temporary file left over is removed by the next call.
        let _ = vfs.remove_file(&temporary);
        return Err(error);
    }
    sync_dirs(vfs, [directory], name)
}

fn write_beside(
    vfs: &dyn Vfs,
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    step: Step,
) -> Result<()> {
    let file = vfs.open(temporary, Open::Create { mode })?;
    file.write_all_at(bytes, 0)?;
    sync_file(&*file, step)?;
    vfs.rename(temporary, path)
}

/// Syncs a finished file, gives it its name, and syncs the name (V1). The steps are those of the
/// data and of the name.
pub fn name_file(
    vfs: &dyn Vfs,
    file: &dyn VfsFile,
    from: &Path,
    to: &Path,
    [data, name]: [Step; 2],
) -> Result<()> {
    sync_file(file, data)?;
    rename_durable(vfs, from, to, name)
}

/// Renames what is durable, and syncs the new name and the old one's absence.
pub fn rename_durable(vfs: &dyn Vfs, from: &Path, to: &Path, step: Step) -> Result<()> {
    vfs.rename(from, to)?;
    sync_dirs(vfs, [from, to].into_iter().filter_map(parent), step)
}

fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Callers that may wait for one round; more wait for room before they queue.
const CALLERS_MAX: usize = 1024;

/// Why directories were not synced.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A sync failed, now or earlier: what is durable is unknown until a restart (V3).
    #[error("a directory could not be synced")]
    Poisoned,
    /// The directory could not be opened; no sync was tried.
    #[error(transparent)]
    Unopened(Error),
}

/// Group sync of directories, without a timer: what queued while the last round ran goes into the
/// next. A round syncs each distinct directory once, and each caller gets the outcome of the
/// round that its directories were in. A failed sync poisons: every later call fails at once.
#[derive(Debug, Clone)]
pub struct DirectorySyncs {
    shared: Arc<Shared>,
    blocking: Blocking,
}

#[derive(Debug)]
struct Shared {
    vfs: Arc<dyn Vfs>,
    /// Held by the round that runs.
    turn: Arc<tokio::sync::Mutex<()>>,
    room: Semaphore,
    queue: Mutex<Queue>,
    poisoned: AtomicBool,
}

/// The next round.
#[derive(Debug, Default)]
struct Queue {
    directories: BTreeSet<PathBuf>,
    callers: Vec<oneshot::Sender<Outcome>>,
}

/// What became of a round.
#[derive(Debug, Clone)]
enum Outcome {
    Poisoned,
    /// Every directory was synced but these.
    Done(Arc<BTreeMap<PathBuf, Error>>),
}

impl DirectorySyncs {
    /// Nothing queued, nothing poisoned.
    pub fn new(vfs: Arc<dyn Vfs>, blocking: Blocking) -> Self {
        let shared = Shared {
            vfs,
            turn: Arc::default(),
            room: Semaphore::new(CALLERS_MAX),
            queue: Mutex::default(),
            poisoned: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), blocking }
    }

    /// Whether a sync has failed.
    pub fn is_poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    /// Makes the names in `directories` durable. A caller that stops waiting takes nothing back.
    pub async fn sync(
        &self,
        directories: &[PathBuf],
        step: Step,
    ) -> std::result::Result<(), SyncError> {
        if self.is_poisoned() {
            return Err(SyncError::Poisoned);
        }
        if is_left_out(step) {
            return Ok(());
        }
        // The semaphore is never closed.
        let _room = self.shared.room.acquire().await;
        let mut outcome = self.shared.enqueue(directories);
        let settled = tokio::select! {
            biased;
            settled = &mut outcome => settled,
            turn = Arc::clone(&self.shared.turn).lock_owned() => {
                let shared = Arc::clone(&self.shared);
                self.blocking.run(move || shared.round(turn)).await;
                outcome.await
            }
        };
        match settled {
            Ok(Outcome::Done(failed)) => first_failure(directories, &failed),
            Ok(Outcome::Poisoned) => Err(SyncError::Poisoned),
            // The round ended in a panic: nothing is known of it.
            Err(_) => {
                self.shared.poison();
                Err(SyncError::Poisoned)
            }
        }
    }
}

fn first_failure(
    directories: &[PathBuf],
    failed: &BTreeMap<PathBuf, Error>,
) -> std::result::Result<(), SyncError> {
    match directories.iter().find_map(|directory| failed.get(directory)) {
        Some(error) => Err(SyncError::Unopened(error.duplicate())),
        None => Ok(()),
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, directories: &[PathBuf]) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.queue();
        queue.directories.extend(directories.iter().cloned());
        queue.callers.push(sender);
        receiver
    }

    /// Syncs what is queued. It reports from here, not from the caller that started it, because
    /// that one may be gone by now.
    fn round(&self, turn: OwnedMutexGuard<()>) {
        let Queue { directories, callers } = std::mem::take(&mut *self.queue());
        // A round that another caller ran has answered everybody who was queued.
        if callers.is_empty() {
            return;
        }
        let outcome = self.sync_each(directories);
        drop(turn);
        for caller in callers {
            // A caller that no longer waits needs no answer.
            let _ = caller.send(outcome.clone());
        }
    }

    fn sync_each(&self, directories: BTreeSet<PathBuf>) -> Outcome {
        let mut failed = BTreeMap::new();
        for directory in directories {
            if self.poisoned.load(Ordering::Acquire) {
                return Outcome::Poisoned;
            }
            match self.vfs.sync_dir(&directory) {
                Ok(()) => {}
                Err(error) if error.is_failed_sync() => {
                    tracing::error!(%error, "no more writes until a restart: a sync failed");
                    self.poison();
                    return Outcome::Poisoned;
                }
                Err(error) => {
                    failed.insert(directory, error);
                }
            }
        }
        Outcome::Done(Arc::new(failed))
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "durable_tests.rs"]
mod tests;
