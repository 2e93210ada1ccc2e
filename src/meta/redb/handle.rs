//! The open database: created whole or not at all, opened again after an I/O error, read-only
//! after a failed sync.
//!
//! redb refuses everything after the first I/O error, reads included, until it is opened again.
//! So a read that fails opens a new handle and is tried once more, and the writer opens one
//! before its next batch. When the file cannot be opened for writing, because the disk is full
//! or a sync failed, a frozen handle (see [`super::backend`]) keeps reads going.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{Builder, Database, ReadableDatabase, WriteTransaction};

use super::super::{Error, Result};
use super::backend::{Backend, FileState};
use super::error::{duplicate, needs_reopening};
use super::migrations::{self, Step};
use super::tables::Snapshot;
use super::{Inspection, Options, migrate};
use crate::disk::ballast::Ballast;
use crate::disk::{self, Open, Vfs, VfsFile, durable};

/// Above this size a crash may not cost a walk over the whole file: each commit then saves what
/// is needed to open it at once. Up to this size every open walks over it, and verifies each page:
/// a file that was damaged while nobody had it open is refused, not served.
const QUICK_REPAIR_SIZE_BYTES: u64 = 256 << 20;
/// Permission bits of the database.
const MODE: u32 = 0o600;
/// How many bytes are copied at once.
const COPY_SIZE_BYTES: usize = 1 << 20;

/// The database behind all readers and the writer.
#[derive(Debug)]
pub struct Handle {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    options: Options,
    file: Arc<FileState>,
    /// Held by whoever has a write transaction or opens the file again.
    turn: Mutex<()>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    database: Option<Database>,
    /// Rises with each handle.
    generation: u64,
    /// Why the present handle takes no writes.
    read_only: Option<Error>,
    closed: bool,
}

/// The right to write; one at a time.
pub struct Turn<'a>(#[expect(dead_code, reason = "held, never read")] MutexGuard<'a, ()>);

impl Handle {
    /// Opens the database, or creates it (see [`Options::create`]).
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, options: Options) -> Result<Self> {
        let handle = Self::open_with(vfs, path, options, migrations::ALL)?;
        if let Some(database) = &read(&handle.state).database {
            guarded(|| migrate::check_tables(&database.begin_read()?))?;
        }
        Ok(handle)
    }

    /// As [`Handle::open`], with these steps.
    pub(super) fn open_with(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        options: Options,
        steps: &[Step],
    ) -> Result<Self> {
        let ballast = open_ballast(&vfs, path, options.ballast_size_bytes);
        let file = FileState { ballast, ..FileState::default() };
        let handle = Self { file: Arc::new(file), ..Self::unopened(vfs, path, options) };
        remove_if_there(&*handle.vfs, &handle.beside("new"))?;
        if handle.vfs.metadata(path)?.is_none() {
            handle.create(steps)?;
        }
        let database = handle.open_migrated(steps)?;
        write(&handle.state).database = Some(database);
        Ok(handle)
    }

    /// Which schema the database has; [`Inspection`].
    pub(super) fn inspect(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        options: Options,
        steps: &[Step],
    ) -> Result<Inspection> {
        let handle = Self::unopened(vfs, path, options);
        let size_bytes = handle.vfs.open(path, Open::Read)?.size_bytes()?;
        let database = handle.open_frozen()?;
        let found = guarded(|| migrate::version(&database.begin_read()?))?;
        let schema = found.ok_or_else(|| Error::Corrupt("it has no tables".to_owned()))?;
        let supported = migrate::newest(steps);
        if schema > supported {
            return Err(too_new(&database, schema, supported));
        }
        let steps = steps.iter().filter(|step| step.to > schema).copied().collect();
        Ok(Inspection { schema, supported, steps, size_bytes })
    }

    fn unopened(vfs: Arc<dyn Vfs>, path: &Path, options: Options) -> Self {
        let state = State { database: None, generation: 0, read_only: None, closed: false };
        Self {
            vfs,
            path: path.to_owned(),
            options,
            file: Arc::default(),
            turn: Mutex::default(),
            state: RwLock::new(state),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.path, suffix)
    }

    /// Makes the database under another name and renames it when it is whole.
    fn create(&self, steps: &[Step]) -> Result<()> {
        if !self.options.create {
            let error = std::io::ErrorKind::NotFound.into();
            return Err(disk::Error::new("open", &self.path, error).into());
        }
        self.build(|database| migrate::run(database, 0, steps, self.options.now))
    }

    /// Makes a new database at `path`, which `fill` fills; nothing is left after an error.
    pub(super) fn make<T>(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        options: Options,
        fill: impl FnOnce(&Database) -> Result<T>,
    ) -> Result<T> {
        let handle = Self::unopened(vfs, path, options);
        let new = handle.beside("new");
        remove_if_there(&*handle.vfs, &new)?;
        // What failed is reported; a file left over is removed by the next call.
        handle.build(|database| guarded(|| fill(database))).inspect_err(|_| {
            let _ = handle.vfs.remove_file(&new);
        })
    }

    fn build<T>(&self, fill: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let new = self.beside("new");
        let file = self.vfs.open(&new, Open::Create { mode: MODE })?;
        let database = self.open_file(file)?;
        let filled = fill(&database)?;
        // This syncs whatever its commits have not, as `Step::DatabaseData`.
        database.close()?;
        self.vfs.rename(&new, &self.path)?;
        durable::sync_dirs(&*self.vfs, self.path.parent(), durable::Step::NewDatabaseName)?;
        Ok(filled)
    }

    /// Syncs a finished file, gives it its name, syncs the name (V1).
    fn publish(
        &self,
        file: &dyn VfsFile,
        from: &Path,
        to: &Path,
        [data, name]: [durable::Step; 2],
    ) -> Result<()> {
        durable::sync_file(file, data)?;
        self.vfs.rename(from, to)?;
        durable::sync_dirs(&*self.vfs, to.parent(), name)?;
        Ok(())
    }

    fn open_migrated(&self, steps: &[Step]) -> Result<Database> {
        let database = self.open_writable()?;
        let supported = migrate::newest(steps);
        let found = guarded(|| migrate::version(&database.begin_read()?))?;
        let found = found.ok_or_else(|| Error::Corrupt("it has no tables".to_owned()))?;
        if found > supported {
            return Err(too_new(&database, found, supported));
        }
        if found == supported {
            return Ok(database);
        }
        database.close()?;
        self.back_up(found)?;
        let database = self.open_writable()?;
        guarded(|| migrate::run(&database, found, steps, self.options.now))?;
        Ok(database)
    }

    /// Copies the closed database to `<name>.v<version>`, which is the operator's to delete.
    fn back_up(&self, version: u32) -> Result<()> {
        let (copying, copy) = (self.beside("copy"), self.beside(&format!("v{version}")));
        remove_if_there(&*self.vfs, &copying)?;
        let from = self.vfs.open(&self.path, Open::Read)?;
        let to = self.vfs.open(&copying, Open::Create { mode: MODE })?;
        let size_bytes = from.size_bytes()?;
        let mut buffer = vec![0; COPY_SIZE_BYTES];
        let mut offset = 0;
        while offset < size_bytes {
            let part = &mut buffer[..(size_bytes - offset).min(COPY_SIZE_BYTES as u64) as usize];
            from.read_exact_at(part, offset)?;
            to.write_all_at(part, offset)?;
            offset += part.len() as u64;
        }
        let steps = [durable::Step::DatabaseCopyData, durable::Step::DatabaseCopyName];
        self.publish(&*to, &copying, &copy, steps)
    }

    fn open_writable(&self) -> Result<Database> {
        let file = self.vfs.open(&self.path, Open::ReadWrite)?;
        refuse_empty(&*file)?;
        // Pages that a failed write left in the cache may look right and not be on the device.
        file.drop_cache()?;
        self.open_file(file)
    }

    fn open_file(&self, file: Arc<dyn VfsFile>) -> Result<Database> {
        let verify = self.options.verify || file.size_bytes()? <= QUICK_REPAIR_SIZE_BYTES;
        if verify {
            file.read_ahead();
        }
        self.open_backend(Backend::writable(file, Arc::clone(&self.file))?, verify)
    }

    fn open_frozen(&self) -> Result<Database> {
        let file = self.vfs.open(&self.path, Open::Read)?;
        refuse_empty(&*file)?;
        file.drop_cache()?;
        self.open_backend(Backend::frozen(file, Arc::clone(&self.file))?, false)
    }

    fn open_backend(&self, backend: Backend, verify: bool) -> Result<Database> {
        let cache_size_bytes = self.options.cache_size_bytes;
        guarded(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(cache_size_bytes).set_check_integrity_on_open(verify);
            Ok(builder.create_with_backend(backend)?)
        })
    }

    /// Whether a sync has failed.
    pub fn is_poisoned(&self) -> bool {
        self.file.poisoned.load(Ordering::Acquire)
    }

    /// Runs a read on one snapshot; once more on a new handle when the present one is broken.
    pub fn read<T>(&self, work: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        let (generation, result) = self.try_read(&work);
        let error = match result {
            Err(error) if needs_reopening(&error) => error,
            other => return other,
        };
        tracing::warn!(%error, "a read failed; opening the database again");
        // Held until the end, so that no failing writer replaces this handle, too.
        let turn = self.turn();
        self.reopen(generation, &turn)?;
        self.try_read(&work).1
    }

    /// Runs a read that cannot be done twice.
    pub fn read_once<T>(&self, work: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        self.try_read(work).1
    }

    fn try_read<T>(&self, work: impl FnOnce(&Snapshot) -> Result<T>) -> (u64, Result<T>) {
        let state = read(&self.state);
        let generation = state.generation;
        let Some(database) = &state.database else {
            return (generation, Err(unavailable(&state)));
        };
        let transaction = database.begin_read();
        drop(state);
        let result = guarded(|| work(&Snapshot::new(transaction?)));
        (generation, result)
    }

    /// Waits for the right to write.
    pub fn turn(&self) -> Turn<'_> {
        Turn(self.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a durable write transaction, on a new handle if the present one takes no writes.
    pub fn begin_write(&self, turn: &Turn<'_>) -> Result<WriteTransaction> {
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        let generation = read(&self.state).generation;
        match self.try_begin_write() {
            Err(error) if needs_reopening(&error) => {
                self.reopen(generation, turn)?;
                self.try_begin_write()
            }
            other => other,
        }
    }

    fn try_begin_write(&self) -> Result<WriteTransaction> {
        let state = read(&self.state);
        if let Some(error) = &state.read_only {
            return Err(duplicate(error));
        }
        let Some(database) = &state.database else {
            return Err(unavailable(&state));
        };
        let mut transaction = database.begin_write()?;
        // `Durability::Immediate` is redb's default.
        transaction.set_two_phase_commit(true);
        let size_bytes = self.file.size_bytes.load(Ordering::Relaxed);
        transaction.set_quick_repair(size_bytes > QUICK_REPAIR_SIZE_BYTES);
        // A mutant: the crash test must notice commits that a kill takes back.
        #[cfg(feature = "failpoints")]
        if crate::disk::failpoint::is_mutant("commit-in-memory") {
            let set = transaction.set_durability(redb::Durability::None);
            set.map_err(|error| Error::Backend(error.to_string()))?;
        }
        Ok(transaction)
    }

    /// After a failed write transaction: a new handle, so that reads go on at once.
    pub fn recover(&self, turn: &Turn<'_>) {
        let generation = read(&self.state).generation;
        if let Err(error) = self.reopen(generation, turn) {
            tracing::error!(%error, "the database cannot be opened again");
        }
    }

    /// Whether the ballast was needed since it was set aside.
    pub fn uses_ballast(&self) -> bool {
        self.file.ballast.as_ref().is_some_and(Ballast::is_used)
    }

    /// Sets the ballast aside again if it was released and there is plenty of room.
    pub fn restore_ballast(&self) {
        if let Some(ballast) = &self.file.ballast {
            ballast.restore();
        }
    }

    /// Whether the transaction of that number is in a database that takes writes.
    pub fn has_committed(&self, number: u64) -> bool {
        read(&self.state).read_only.is_none()
            && self.read_once(Snapshot::counters).is_ok_and(|found| found.transactions == number)
    }

    /// Replaces the handle of this generation; another one is newer already.
    fn reopen(&self, generation: u64, _turn: &Turn<'_>) -> Result<()> {
        let mut state = write(&self.state);
        if state.generation != generation {
            return Ok(());
        }
        if state.closed {
            return Err(unavailable(&state));
        }
        if let Some(database) = state.database.take() {
            // It is broken: what closing it says is known.
            let _ = guarded(|| Ok(database.close()?));
        }
        state.generation += 1;
        let writable = if self.is_poisoned() { Err(Error::Poisoned) } else { self.open_writable() };
        match writable {
            Ok(database) => {
                state.read_only = None;
                state.database = Some(database);
                Ok(())
            }
            Err(error) => {
                // A sync that failed while opening poisons, too.
                let error = if self.is_poisoned() { Error::Poisoned } else { error };
                tracing::error!(%error, "the database is read-only");
                state.read_only = Some(error);
                state.database = Some(self.open_frozen()?);
                Ok(())
            }
        }
    }

    /// Closes the database so that the next open need not repair it.
    pub fn close(&self, _turn: &Turn<'_>) -> Result<()> {
        let mut state = write(&self.state);
        state.closed = true;
        match state.database.take() {
            Some(database) => guarded(|| Ok(database.close()?)),
            None => Ok(()),
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Without it everything works until the disk is full.
fn open_ballast(vfs: &Arc<dyn Vfs>, path: &Path, size_bytes: u64) -> Option<Ballast> {
    if size_bytes == 0 {
        return None;
    }
    match Ballast::open(Arc::clone(vfs), &beside(path, "ballast"), size_bytes) {
        Ok(ballast) => Some(ballast),
        Err(error) => {
            tracing::warn!(%error, "no room is set aside for a full disk");
            None
        }
    }
}

fn too_new(database: &Database, found: u32, supported: u32) -> Error {
    match guarded(|| migrate::release_of(&database.begin_read()?, found)) {
        Ok(release) => Error::SchemaTooNew { release, found, supported },
        Err(error) => error,
    }
}

fn unavailable(state: &State) -> Error {
    match &state.read_only {
        Some(error) => duplicate(error),
        None => Error::Backend("the database is closed".to_owned()),
    }
}

/// redb panics on some damage that is not from its own hand; that ends the work, not the process.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Corrupt(text.unwrap_or("reading it panicked").to_owned()))
    })
}

fn refuse_empty(file: &dyn VfsFile) -> Result<()> {
    if file.size_bytes()? == 0 {
        return Err(Error::Corrupt("the file is empty".to_owned()));
    }
    Ok(())
}

fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

fn read(state: &RwLock<State>) -> std::sync::RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(state: &RwLock<State>) -> std::sync::RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}
