//! A process that kills itself at a named place of its write path, for the crash tests. It does
//! not compile without debug assertions.
//!
//! A failpoint is `operation/place/moment/n`: the `n`-th (from 1) such operation on what lies at
//! that [place](place::of), `before` or `after` it. [`POINTS`] is complete: an operation that is
//! not in it ends the process, so that a new write path comes with its place in the crash tests.
//! Exempt are the places of [`ATTACKED_ELSEWHERE`], where no server under load comes by.

mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::{Metadata, Open, Result, Space, Vfs, VfsFile, durable};
use place::Place;

/// When a run of the server comes by a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// While it makes a store.
    FirstStart,
    /// Once at each start.
    Start,
    /// While it serves.
    Serving,
}

impl When {
    fn name(self) -> &'static str {
        match self {
            Self::FirstStart => "first-start",
            Self::Start => "start",
            Self::Serving => "serving",
        }
    }
}

/// All operations with their places; each has a moment before and one after.
pub const POINTS: &[(&str, Place, When)] = &[
    ("create-dir", Place::Root, When::FirstStart),
    ("create-dir", Place::Private, When::FirstStart),
    ("create-dir", Place::Tree, When::FirstStart),
    ("create-dir", Place::Staging, When::FirstStart),
    ("create-dir", Place::Quarantine, When::FirstStart),
    ("create", Place::Lock, When::FirstStart),
    ("set-size", Place::Ballast, When::FirstStart),
    ("create-dir", Place::Exports, When::FirstStart),
    ("create", Place::NewDatabase, When::FirstStart),
    ("write", Place::NewDatabase, When::FirstStart),
    ("write", Place::NewDatabaseHeader, When::FirstStart),
    ("set-size", Place::NewDatabase, When::FirstStart),
    ("sync-data", Place::NewDatabase, When::FirstStart),
    ("sync-data", Place::NewDatabaseHeader, When::FirstStart),
    ("rename", Place::Database, When::FirstStart),
    ("preallocate", Place::NewDatabase, When::FirstStart),
    ("create", Place::Ballast, When::Start),
    ("preallocate", Place::Ballast, When::Start),
    ("remove-file", Place::NewDatabase, When::Start),
    ("sync-dir", Place::AboveRoot, When::Start),
    ("sync-dir", Place::Root, When::Start),
    ("sync-dir", Place::Private, When::Start),
    ("remove-file", Place::NewIdentity, When::Start),
    ("create", Place::NewIdentity, When::Start),
    ("write", Place::NewIdentity, When::Start),
    ("sync-data", Place::NewIdentity, When::Start),
    ("rename", Place::Identity, When::Start),
    ("remove-file", Place::NewExport, When::Start),
    ("create", Place::NewExport, When::Start),
    ("write", Place::NewExport, When::Start),
    ("sync-data", Place::NewExport, When::Start),
    ("rename", Place::Export, When::Start),
    ("sync-dir", Place::Exports, When::Start),
    ("write", Place::Database, When::Serving),
    ("write", Place::DatabaseHeader, When::Serving),
    ("set-size", Place::Database, When::Serving),
    ("preallocate", Place::Database, When::Serving),
    ("sync-data", Place::Database, When::Serving),
    ("sync-data", Place::DatabaseHeader, When::Serving),
    ("create-dir", Place::Upload, When::Serving),
    ("create", Place::UploadData, When::Serving),
    ("preallocate", Place::UploadData, When::Serving),
    ("write", Place::UploadData, When::Serving),
    ("set-size", Place::UploadData, When::Serving),
    ("sync-data", Place::UploadData, When::Serving),
    ("sync-dir", Place::Upload, When::Serving),
    ("sync-dir", Place::Staging, When::Serving),
    ("remove-file", Place::UploadData, When::Serving),
    ("remove-dir", Place::Upload, When::Serving),
    ("create-dir", Place::Algorithm, When::Serving),
    ("create-dir", Place::Shard, When::Serving),
    ("rename", Place::Blob, When::Serving),
    ("rename", Place::BlobData, When::Serving),
    ("sync-data", Place::BlobData, When::Serving),
    ("sync-dir", Place::Blob, When::Serving),
    ("sync-dir", Place::Shard, When::Serving),
    ("sync-dir", Place::Algorithm, When::Serving),
    ("sync-dir", Place::Tree, When::Serving),
    ("rename", Place::Quarantined, When::Serving),
    ("remove-file", Place::BlobData, When::Serving),
    ("remove-dir", Place::Blob, When::Serving),
    ("remove-file", Place::Export, When::Serving),
];

/// Where nothing happens that a walk under load could reach, and what attacks it instead.
const ATTACKED_ELSEWHERE: &[(Place, &str)] = &[
    (Place::DatabaseCopy, "once in the life of a schema: power cuts of sim::upgrade"),
    (Place::Restoring, "before a server is there: power cuts of registry::backup, .ci/backup"),
    (Place::Outside, "the destination of a backup: power cuts of registry::backup, .ci/backup"),
];

/// The environment variable that names the failpoint.
pub const VARIABLE: &str = "KELSON_FAILPOINT";

/// Whether the process was started as this mutant: the value of `KELSON_MUTANT`. A mutant breaks a
/// promise on purpose, so that the crash test is seen to notice.
pub fn is_mutant(name: &str) -> bool {
    std::env::var_os("KELSON_MUTANT").is_some_and(|value| value == name)
}

/// Everything there is to walk, one `operation/place/moment when` a line.
pub fn list() -> impl Iterator<Item = String> {
    POINTS.iter().flat_map(|(operation, place, when)| {
        let (place, when) = (place.name(), when.name());
        ["before", "after"].map(|moment| format!("{operation}/{place}/{moment} {when}"))
    })
}

/// Why a failpoint is not set.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}={text} names no failpoint; `kelson failpoints` lists them, /n follows")]
pub struct Unknown {
    text: String,
}

/// Where the process is to die.
#[derive(Debug)]
struct Armed {
    /// `operation/place/moment`
    point: String,
    /// How often it is passed before.
    left: AtomicU64,
}

/// The file system below `root` on which the process dies at the failpoint that `text`, the value
/// of [`VARIABLE`], names; at none when there is no text.
pub fn armed(
    vfs: Arc<dyn Vfs>,
    root: &Path,
    text: Option<&str>,
) -> std::result::Result<FailVfs, Unknown> {
    let armed = match text {
        None => None,
        Some(text) => Some(parse(text).ok_or_else(|| Unknown { text: text.to_owned() })?),
    };
    let points = Arc::new(Points { root: root.to_owned(), armed });
    Ok(FailVfs { inner: vfs, points })
}

fn parse(text: &str) -> Option<Armed> {
    let (point, count) = text.rsplit_once('/')?;
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    let known = list().any(|line| line.split_once(' ').is_some_and(|(name, _)| name == point));
    known.then(|| Armed { point: point.to_owned(), left: AtomicU64::new(count - 1) })
}

#[derive(Debug)]
struct Points {
    root: PathBuf,
    armed: Option<Armed>,
}

impl Points {
    /// Does `work`, which is `operation` on `place`, unless the process is to die before it.
    fn pass<T>(&self, operation: &'static str, place: Place, work: impl FnOnce() -> T) -> T {
        if let Some((_, why)) = ATTACKED_ELSEWHERE.iter().find(|(at, _)| *at == place) {
            tracing::debug!("{operation}/{}: no failpoint; {why}", place.name());
            return work();
        }
        if !POINTS.iter().any(|(known, at, _)| *known == operation && *at == place) {
            let place = place.name();
            tracing::error!("{operation}/{place} has no place in the crash tests, see {VARIABLE}");
            std::process::abort();
        }
        self.die_at(operation, place, "before");
        let result = work();
        self.die_at(operation, place, "after");
        result
    }

    fn die_at(&self, operation: &str, place: Place, moment: &str) {
        let Some(armed) = &self.armed else { return };
        if armed.point != format!("{operation}/{}/{moment}", place.name()) {
            return;
        }
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            // What it says when it fails does not matter: the process ends either way.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }
}

/// Mutants: tests must notice syncs that are left out, and those whose failure is ignored.
fn sync_unless_mutant(sync: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_mutant("no-sync") {
        return Ok(());
    }
    let synced = sync();
    if is_mutant("sync-errors-ignored") { Ok(()) } else { synced }
}

/// A file system with failpoints.
#[derive(Debug)]
pub struct FailVfs {
    inner: Arc<dyn Vfs>,
    points: Arc<Points>,
}

impl FailVfs {
    fn pass<T>(&self, operation: &'static str, path: &Path, work: impl FnOnce() -> T) -> T {
        self.points.pass(operation, place::of(&self.points.root, path), work)
    }
}

impl Vfs for FailVfs {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>> {
        let inner = match how {
            Open::Read | Open::ReadWrite => self.inner.open(path, how),
            Open::Create { .. } => self.pass("create", path, || self.inner.open(path, how)),
        }?;
        let place = place::of(&self.points.root, path);
        let pages = AtomicBool::new(false);
        Ok(Arc::new(FailFile { inner, points: Arc::clone(&self.points), place, pages }))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<()> {
        self.pass("create-dir", path, || self.inner.create_dir(path, mode))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.pass("rename", to, || self.inner.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.pass("remove-file", path, || self.inner.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.pass("remove-dir", path, || self.inner.remove_dir(path))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.inner.metadata(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let sync = || sync_unless_mutant(|| durable::sync_inner_directory(&*self.inner, path));
        self.pass("sync-dir", path, sync)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.inner.space(path)
    }
}

/// A file with failpoints.
#[derive(Debug)]
struct FailFile {
    inner: Arc<dyn VfsFile>,
    points: Arc<Points>,
    place: Place,
    /// Whether something else than a database's header was written since the last sync. A commit
    /// has two phases; this tells them apart.
    pages: AtomicBool,
}

impl VfsFile for FailFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let place = if offset == 0 { self.place.header() } else { self.place };
        self.pages.fetch_or(place == self.place, Ordering::SeqCst);
        self.points.pass("write", place, || self.inner.write_all_at(bytes, offset))
    }

    fn size_bytes(&self) -> Result<u64> {
        self.inner.size_bytes()
    }

    fn set_size(&self, size_bytes: u64) -> Result<()> {
        self.points.pass("set-size", self.place, || self.inner.set_size(size_bytes))
    }

    fn preallocate(&self, offset: u64, length: u64) -> Result<()> {
        self.points.pass("preallocate", self.place, || self.inner.preallocate(offset, length))
    }

    fn sync_data(&self) -> Result<()> {
        let pages = self.pages.swap(false, Ordering::SeqCst);
        let place = if pages { self.place } else { self.place.header() };
        let sync = || sync_unless_mutant(|| durable::sync_inner_data(&*self.inner));
        self.points.pass("sync-data", place, sync)
    }

    fn try_lock(&self) -> Result<bool> {
        self.inner.try_lock()
    }

    fn drop_cache(&self) -> Result<()> {
        self.inner.drop_cache()
    }

    fn read_ahead(&self) {
        self.inner.read_ahead();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsVfs;

    #[test]
    fn a_failpoint_is_one_of_the_list_and_a_count() {
        for good in ["write/database/before/1", "sync-dir/shard/after/12"] {
            assert!(parse(good).is_some(), "{good}");
        }
        let names = ["", "write/database/before", "write/database/before/0", "a/b/c/1"];
        for bad in names {
            let error = armed(Arc::new(OsVfs), Path::new("/"), Some(bad)).unwrap_err();
            assert!(error.to_string().contains(VARIABLE), "{error}");
        }
        assert_eq!(list().count(), 2 * POINTS.len());
    }

    #[test]
    fn a_point_that_is_passed_before_its_turn_kills_nobody() {
        let root = tempfile::tempdir().unwrap();
        let text = Some("create-dir/private/after/2");
        let vfs = armed(Arc::new(OsVfs), root.path(), text).unwrap();
        vfs.create_dir(&root.path().join("kelson"), 0o700).unwrap();
        let file = vfs.open(&root.path().join("kelson/LOCK"), Open::Create { mode: 0o600 });
        assert!(file.unwrap().try_lock().unwrap());
    }
}
