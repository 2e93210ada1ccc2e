//! Whose store this is: the lock, `store.json`, and what is refused at start (design 2).
//!
//! `store.json` lies beside the database, so that an empty, older or foreign database next to a
//! full tree of blobs is refused instead of served as an empty registry.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::disk::durable::{self, Step};
use crate::disk::{self, Open, Vfs, VfsFile};
use crate::meta::redb::UNUSED_TRANSACTIONS_MAX;
use crate::meta::{self, MetaStore};
use crate::oci::UploadId;
use crate::ops::{Blocking, Random};

/// The layout of the store on disk that this release writes and reads.
const FORMAT: u32 = 1;

/// What to do about a database that is not the right one.
const WAY_OUT: &str = "put the right file back, or restore it: `kelson restore --metadata` from \
     the newest export of this store, `kelson restore SRC` from a backup";

/// Why a store is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "{} is in use by another process; stop that one first, or give this one another \
         storage.filesystem.rootdirectory", .0.display()
    )]
    Locked(PathBuf),
    /// The tree belongs to distribution.
    #[error(
        "{} holds a store of distribution (docker/registry/v2 without kelson/store.json). \
         Adopting such a store is not part of this release; nothing was changed. \
         Start with an empty storage.filesystem.rootdirectory", .0.display()
    )]
    Distribution(PathBuf),
    /// `store.json` is there and the database is not.
    #[error(
        "{} is missing, but kelson/store.json says that this store was in use; {WAY_OUT}. \
         Nothing was changed", .0.display()
    )]
    DatabaseMissing(PathBuf),
    /// The database is older than `store.json` knows.
    #[error(
        "the database has seen {found} transactions, kelson/store.json knows of {expected}: it is \
         an older copy, or empty; {WAY_OUT}. Nothing was changed"
    )]
    DatabaseBehind {
        /// Of the database.
        found: u64,
        /// Of `store.json`.
        expected: u64,
    },
    /// The database is of another store.
    #[error(
        "the database belongs to store {found}, kelson/store.json to store {expected}; {WAY_OUT}. \
         Nothing was changed"
    )]
    DatabaseForeign {
        /// Of the database.
        found: String,
        /// Of `store.json`.
        expected: String,
    },
    /// The database has content, and `store.json` is gone.
    #[error(
        "kelson/store.json is missing, but the database is not new. Put the file back, or restore \
         a backup: `kelson restore SRC`. Nothing was changed"
    )]
    IdentityMissing,
    /// The database is damaged, or none of ours.
    #[error("{}: {reason}; {WAY_OUT}", path.display())]
    DatabaseUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: meta::Error,
    },
    /// `store.json` cannot be understood.
    #[error(
        "{} is damaged: {reason}; put the file back, or restore a backup: `kelson restore SRC`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Adopting the store was begun and not finished: files without a row are not orphans yet.
    #[error("the store is being adopted; finish that with the release that began it")]
    Adopting,
    /// The store was written by a newer release.
    #[error("the store has format {found}, this release knows up to {FORMAT}")]
    TooNew {
        /// Its format.
        found: u32,
    },
    /// The parts of the store are not on one file system.
    #[error(
        "{} and {} are on different file systems; a store must be on one, or a blob cannot be \
         renamed into place", .0.display(), .1.display()
    )]
    FileSystems(PathBuf, PathBuf),
    /// A restore has begun here.
    #[error(
        "{} is being restored, or a restore was cut short; finish it with `kelson restore`, \
         or remove .kelson-restore in it", .0.display()
    )]
    Restoring(PathBuf),
    /// There is no store whose database could be repaired.
    #[error("{} is missing: there is no store here", .0.display())]
    Nothing(PathBuf),
    /// I/O on a file.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The database cannot be read.
    #[error(transparent)]
    Meta(#[from] meta::Error),
}

impl Error {
    /// A failure of the database, with what to do about it.
    pub fn database(paths: &Paths, error: meta::Error) -> Self {
        match error {
            reason @ (meta::Error::Corrupt(_) | meta::Error::Foreign(_)) => {
                Self::DatabaseUnusable { path: paths.database.clone(), reason }
            }
            other => Self::Meta(other),
        }
    }
}

/// How the store came to be. Orphan files are removed only where every file has a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Origin {
    Created,
    Adopting,
    Adopted,
}

/// The contents of `store.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoreFile {
    uuid: String,
    format: u32,
    origin: Origin,
    /// A number of transactions that the database had committed when this was written.
    transactions: u64,
}

/// The paths of a store.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `storage.filesystem.rootdirectory`
    pub root: PathBuf,
    /// `kelson/`
    pub own: PathBuf,
    /// `kelson/metadata.redb`
    pub database: PathBuf,
    /// `kelson/admin.sock`
    pub socket: PathBuf,
    store: PathBuf,
    lock: PathBuf,
    tree: PathBuf,
}

impl Paths {
    /// Those below `root`.
    pub fn new(root: &Path) -> Self {
        let own = root.join("kelson");
        Self {
            root: root.to_owned(),
            database: own.join("metadata.redb"),
            socket: own.join("admin.sock"),
            store: own.join("store.json"),
            lock: own.join("LOCK"),
            tree: root.join("docker/registry/v2"),
            own,
        }
    }
}

/// A store that is locked, but whose database was not looked at yet.
#[derive(Debug)]
pub struct Claim {
    vfs: Arc<dyn Vfs>,
    paths: Paths,
    lock: Arc<dyn VfsFile>,
    stored: Option<StoreFile>,
}

/// An open store's identity; it holds the lock as long as it lives.
#[derive(Debug)]
pub struct Identity {
    vfs: Arc<dyn Vfs>,
    paths: Paths,
    file: Mutex<StoreFile>,
    blocking: Blocking,
    _lock: Arc<dyn VfsFile>,
}

/// Locks the store at `paths`, making its directories where they are missing, and refuses what
/// can be refused without the database. Blocks.
pub fn claim(vfs: Arc<dyn Vfs>, paths: Paths) -> Result<Claim, Error> {
    let stored = read(vfs.as_ref(), &paths.store)?;
    let restoring = restoring(&paths.root);
    // An empty directory may be left of a restore that was finished.
    if vfs.metadata(&restoring)?.is_some()
        && (stored.is_none() || vfs.metadata(&restoring.join(RESTORED))?.is_some())
    {
        return Err(Error::Restoring(paths.root));
    }
    let root_exists = vfs.metadata(&paths.root)?.is_some();
    if stored.is_none() && vfs.metadata(&paths.tree)?.is_some() {
        // A new store gets its tree after its `store.json`: no crash leaves one without it.
        return Err(match vfs.metadata(&paths.database)? {
            Some(_) => Error::IdentityMissing,
            None => Error::Distribution(paths.root),
        });
    }
    if stored.is_some() && vfs.metadata(&paths.database)?.is_none() {
        return Err(Error::DatabaseMissing(paths.database));
    }
    match durable::create_dir_durable(vfs.as_ref(), &paths.root, 0o777, Step::Root) {
        // Its parent need not be ours to open when the root itself was made by somebody else.
        Err(error) if !root_exists || error.is_failed_sync() => return Err(error.into()),
        _ => {}
    }
    // Its name becomes durable with that of `docker` beside it, which is made after `store.json`
    // and before anything can be pushed; if it is lost until then, nothing is.
    match vfs.create_dir(&paths.own, 0o700) {
        Err(error) if !error.is_taken() => return Err(error.into()),
        _ => {}
    }
    let lock = open_lock(vfs.as_ref(), &paths.lock)?;
    if !lock.try_lock()? {
        return Err(Error::Locked(paths.root));
    }
    // Read again under the lock: another process may have just made the store.
    let stored = read(vfs.as_ref(), &paths.store)?;
    check_file_systems(vfs.as_ref(), &paths)?;
    Ok(Claim { vfs, paths, lock, stored })
}

/// Where a store is restored before it gets its place in `root`.
pub(in crate::registry) fn restoring(root: &Path) -> PathBuf {
    root.join(".kelson-restore")
}

/// The file in [`restoring`] that says that all is there and only its place is missing.
pub(in crate::registry) const RESTORED: &str = "done";

/// Locks a store whose database may be missing or damaged. Blocks.
pub(in crate::registry) fn claim_for_repair(
    vfs: Arc<dyn Vfs>,
    paths: Paths,
) -> Result<Claim, Error> {
    let stored = read(vfs.as_ref(), &paths.store)?;
    if stored.is_none() {
        return Err(Error::Nothing(paths.store));
    }
    let lock = open_lock(vfs.as_ref(), &paths.lock)?;
    if !lock.try_lock()? {
        return Err(Error::Locked(paths.root));
    }
    check_file_systems(vfs.as_ref(), &paths)?;
    Ok(Claim { vfs, paths, lock, stored })
}

/// Writes the `store.json` of a restored database, durably. Blocks.
pub(in crate::registry) fn write_restored(
    vfs: &dyn Vfs,
    paths: &Paths,
    id: [u8; 16],
    transactions: u64,
) -> Result<(), Error> {
    let uuid = UploadId::from_bytes(id).to_string();
    let file = StoreFile { uuid, format: FORMAT, origin: Origin::Created, transactions };
    write(vfs, &paths.store, &file, [Step::RestoredIdentityData, Step::RestoredIdentityName])
}

fn write(vfs: &dyn Vfs, path: &Path, file: &StoreFile, steps: [Step; 2]) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(file)
        .map_err(|error| Error::Damaged { path: path.to_owned(), reason: error.to_string() })?;
    text.push(b'\n');
    Ok(durable::write_atomic(vfs, path, &text, 0o600, steps)?)
}

pub(in crate::registry) fn open_lock(vfs: &dyn Vfs, path: &Path) -> disk::Result<Arc<dyn VfsFile>> {
    match vfs.open(path, Open::Create { mode: 0o600 }) {
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
            vfs.open(path, Open::ReadWrite)
        }
        other => other,
    }
}

fn check_file_systems(vfs: &dyn Vfs, paths: &Paths) -> Result<(), Error> {
    let blobs = paths.tree.join("blobs");
    for path in [&paths.own, &paths.tree, &blobs, &paths.own.join("staging")] {
        let own = vfs.metadata(&paths.root)?.map(|metadata| metadata.device);
        let Some(other) = vfs.metadata(path)? else { continue };
        if own != Some(other.device) {
            return Err(Error::FileSystems(paths.root.clone(), path.clone()));
        }
    }
    Ok(())
}

fn read(vfs: &dyn Vfs, path: &Path) -> Result<Option<StoreFile>, Error> {
    let file = match vfs.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A few hundred bytes; whatever is longer is not ours.
    let mut bytes = vec![0; file.size_bytes()?.min(4096) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let stored: StoreFile =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if stored.format > FORMAT {
        return Err(Error::TooNew { found: stored.format });
    }
    if stored.format == 0 || UploadId::parse(&stored.uuid).is_none() {
        return Err(damaged("format or uuid is no valid value".to_owned()));
    }
    if stored.origin == Origin::Adopting {
        return Err(Error::Adopting);
    }
    Ok(Some(stored))
}

impl Claim {
    /// Whether there is no store yet.
    pub fn is_new(&self) -> bool {
        self.stored.is_none()
    }

    /// The uuid in `store.json`.
    pub fn uuid(&self) -> Option<&str> {
        self.stored.as_ref().map(|stored| stored.uuid.as_str())
    }

    /// The transactions that `store.json` knows of.
    pub fn transactions(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.transactions)
    }

    /// Whether [`Claim::confirm`] would take this database.
    pub async fn fits(&self, meta: &dyn MetaStore) -> bool {
        let id = meta.store_id().await.ok().flatten();
        let id = id.map(|id| UploadId::from_bytes(id).to_string());
        let transactions = meta.counters().await.map(|counters| counters.transactions);
        id.as_deref() == self.uuid()
            && transactions.is_ok_and(|transactions| transactions >= self.transactions())
    }

    /// Checks the open database against `store.json`; in a new store, writes both identities.
    /// The database's comes first, so that a crash in between leaves a store that is still new.
    pub async fn confirm(
        self,
        meta: &dyn MetaStore,
        random: &dyn Random,
        blocking: Blocking,
    ) -> Result<Identity, Error> {
        let unusable = |error| Error::database(&self.paths, error);
        let found = meta.store_id().await.map_err(unusable)?.map(UploadId::from_bytes);
        let transactions = meta.counters().await.map_err(unusable)?.transactions;
        let is_new = self.is_new();
        let stored = match self.stored {
            Some(stored) => {
                let name = found.map_or_else(|| "without a name".to_owned(), |id| id.to_string());
                if transactions < stored.transactions {
                    let expected = stored.transactions;
                    return Err(Error::DatabaseBehind { found: transactions, expected });
                }
                if name != stored.uuid {
                    return Err(Error::DatabaseForeign { found: name, expected: stored.uuid });
                }
                stored
            }
            None => {
                if transactions > UNUSED_TRANSACTIONS_MAX {
                    return Err(Error::IdentityMissing);
                }
                let id = match found {
                    Some(id) => id,
                    None => {
                        let id = UploadId::from_random(random.bytes());
                        meta.set_store_id(*id.as_bytes()).await?;
                        id
                    }
                };
                let (uuid, origin) = (id.to_string(), Origin::Created);
                StoreFile { uuid, format: FORMAT, origin, transactions }
            }
        };
        let identity = Identity {
            vfs: self.vfs,
            paths: self.paths,
            file: Mutex::new(stored),
            blocking,
            _lock: self.lock,
        };
        match identity.record_transactions(transactions).await {
            // What it says holds still: a number that the database has reached.
            Err(Error::Disk(error)) if error.is_full() && !is_new => {
                tracing::warn!(%error, "store.json keeps an older state: the disk is full");
            }
            recorded => recorded?,
        }
        Ok(identity)
    }
}

impl Identity {
    /// The paths of the store.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Writes a number of committed transactions into `store.json`, durably.
    pub async fn record_transactions(&self, transactions: u64) -> Result<(), Error> {
        let mut file = self.file.lock().await;
        debug_assert!(transactions >= file.transactions, "the counter only rises");
        file.transactions = transactions;
        let (vfs, path) = (Arc::clone(&self.vfs), self.paths.store.clone());
        let written = file.clone();
        let steps = [Step::IdentityData, Step::IdentityName];
        self.blocking.run(move || write(vfs.as_ref(), &path, &written, steps)).await
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
