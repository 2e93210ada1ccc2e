//! A store out of a backup.
//!
//! Everything is made below `<root>/.kelson-restore` and verified there. Then the marker `done`
//! is written, the tree of contents gets its place, and last `kelson/`, without which nothing is
//! served. While the directory is there no server starts. A restore that was cut short begins anew,
//! or, once there is the marker, only gives the rest its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::destination::{Destination, Generation};
use super::metadata::look_for_files;
use super::{Contents, Copied, Tools, copy_batch, open_export, refused, store_uuid, unusable};
use crate::blob::FsBlobs;
use crate::disk::Vfs;
use crate::disk::durable::{self, Step};
use crate::meta::export::Header;
use crate::meta::redb::{Options, RedbMeta};
use crate::meta::{Error as MetaError, MetaStore};
use crate::ops::Progress;
use crate::ops::progress::Unit;
use crate::registry::error::Result;
use crate::registry::identity::{self, Paths, RESTORED};

/// Uploads that are ended at once.
const UPLOADS_MAX: usize = 100;

/// A restored store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restored {
    /// Which backup.
    pub generation: u64,
    /// When it was made: milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// The store's uuid: that of the store that was backed up.
    pub store: String,
    /// Contents with files.
    pub contents: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Contents without a sound file in the backup, whose rows are quarantined.
    pub missing: u64,
    /// Upload sessions that ended: their bytes are in no backup.
    pub uploads: u64,
}

/// Which backup is restored, and how.
#[derive(Debug, Clone)]
pub struct Restore {
    /// Where the backups are.
    pub source: PathBuf,
    /// Which; `None`: the newest.
    pub generation: Option<u64>,
    /// Whether contents without a sound file are left out, and their rows quarantined.
    pub allow_missing: bool,
    /// How the database is made.
    pub database: Options,
}

/// Makes the store of a generation below `root`.
///
/// # Errors
/// A root that holds anything of a store; a backup that is damaged: each content without a sound
/// file is an item of kind `damaged`, and, unless they may be missing, nothing is put into place.
pub async fn restore(
    tools: &Tools,
    root: &Path,
    ask: &Restore,
    progress: &Progress,
) -> Result<Restored> {
    let source = Destination::open(tools, &ask.source).await?;
    let generation = source.generation(tools, ask.generation).await?;
    let draft = Draft::begin(tools, root).await?;
    let restored = match draft.finished(tools).await? {
        Some(finished) => finished,
        None => {
            let made = draft.make(tools, &source, &generation, ask, progress).await?;
            draft.mark_finished(tools, &made).await?;
            made
        }
    };
    draft.put_into_place(tools).await?;
    Ok(restored)
}

/// A store in the making.
struct Draft {
    root: PathBuf,
    path: PathBuf,
    _lock: Arc<dyn crate::disk::VfsFile>,
}

impl Draft {
    /// Locks the place and refuses a root that is in use.
    async fn begin(tools: &Tools, root: &Path) -> Result<Self> {
        let (vfs, target) = (Arc::clone(&tools.vfs), root.to_owned());
        let begin = move || {
            let path = identity::restoring(&target);
            let mut taken = false;
            for name in ["docker", "kelson"] {
                taken |= vfs.metadata(&target.join(name)).map_err(unusable)?.is_some();
            }
            if taken && read_done(&*vfs, &path)?.is_none() {
                return Err(refused(format!(
                    "{} is not empty; restore into an empty storage.filesystem.rootdirectory, and \
                     move what is there away yourself",
                    target.display()
                )));
            }
            let step = Step::RestoreRoot;
            durable::create_dir_durable(&*vfs, &target, 0o777, step).map_err(unusable)?;
            match vfs.create_dir(&path, 0o700) {
                Err(error) if !error.is_taken() => return Err(unusable(error)),
                _ => {}
            }
            let lock = identity::open_lock(&*vfs, &path.join("LOCK")).map_err(unusable)?;
            if !lock.try_lock().map_err(unusable)? {
                return Err(refused(format!("{} is being restored already", target.display())));
            }
            Ok(Self { root: target, path, _lock: lock })
        };
        tools.blocking.run(begin).await
    }

    /// What an earlier restore had finished but for its place.
    async fn finished(&self, tools: &Tools) -> Result<Option<Restored>> {
        let (vfs, path) = (Arc::clone(&tools.vfs), self.path.clone());
        tools.blocking.run(move || read_done(&*vfs, &path)).await
    }

    async fn make(
        &self,
        tools: &Tools,
        source: &Destination,
        generation: &Generation,
        ask: &Restore,
        progress: &Progress,
    ) -> Result<Restored> {
        let (vfs, path) = (Arc::clone(&tools.vfs), self.path.clone());
        tools.blocking.run(move || clear(&*vfs, &path)).await?;
        progress.phase("verifying the export", None, Unit::Items).await;
        let (header, contents) = super::verify_export(tools, &generation.path).await?;
        progress.phase("restoring contents", Some(contents), Unit::Items).await;
        let (vfs, path) = (Arc::clone(&tools.vfs), self.path.clone());
        let (blocking, random) = (tools.blocking, Arc::clone(&tools.random));
        let blobs = blocking.run(move || FsBlobs::open(vfs, &path, blocking, random)).await?;
        let mut restored = copy_contents(tools, source, &blobs, generation, progress).await?;
        if restored.missing > 0 && !ask.allow_missing {
            return Err(refused(format!(
                "{} contents of generation {} have no sound file, so nothing was restored. Restore \
                 another generation, or what is there with --allow-missing",
                restored.missing, generation.number
            )));
        }
        blobs.sync_names().await?;
        progress.phase("restoring the database", None, Unit::Items).await;
        let missing = (restored.missing > 0).then_some(&blobs);
        restored.uploads = self.import(tools, generation, ask.database, missing).await?;
        restored.generation = generation.number;
        restored.created_at_ms = header.created_at.0;
        restored.store = store_uuid(&header);
        Ok(restored)
    }

    /// Makes the database and `store.json`; how many upload sessions ended.
    async fn import(
        &self,
        tools: &Tools,
        generation: &Generation,
        database: Options,
        missing: Option<&FsBlobs>,
    ) -> Result<u64> {
        let (vfs, export) = (Arc::clone(&tools.vfs), generation.path.clone());
        let (paths, blocking) = (Paths::new(&self.path), tools.blocking);
        let now = tools.clock.now();
        let options = Options { create: false, now, ballast_size_bytes: 0, ..database };
        let file = paths.database.clone();
        let import = move || {
            let header = import_file(&vfs, &export, &file, options, 0)?;
            Ok::<_, crate::registry::Error>((
                RedbMeta::open(vfs, &file, options, blocking)?,
                header,
            ))
        };
        let (meta, header) = blocking.run(import).await?;
        if let Some(blobs) = missing {
            let silent = Progress::silent();
            look_for_files(tools, &generation.path, blobs, &meta, &silent).await?;
        }
        let mut ended = 0;
        loop {
            let uploads = meta.uploads(u64::MAX, None, UPLOADS_MAX).await?;
            if uploads.is_empty() {
                break;
            }
            for upload in uploads {
                meta.forget_upload(upload.id).await?;
                ended += 1;
            }
        }
        let transactions = meta.counters().await?.transactions;
        meta.close().await?;
        let vfs = Arc::clone(&tools.vfs);
        let write = move || identity::write_restored(&*vfs, &paths, header.store_id, transactions);
        blocking.run(write).await.map_err(|error| refused(error.to_string()))?;
        Ok(ended)
    }

    async fn mark_finished(&self, tools: &Tools, made: &Restored) -> Result<()> {
        let text = serde_json::to_vec(made).map_err(|error| refused(error.to_string()))?;
        let (vfs, path) = (Arc::clone(&tools.vfs), self.path.join(RESTORED));
        let steps = [Step::RestoreMarkerData, Step::RestoreMarkerName];
        let write = move || durable::write_atomic(&*vfs, &path, &text, 0o600, steps);
        tools.blocking.run(write).await.map_err(unusable)
    }

    /// The last steps. Each may be repeated.
    async fn put_into_place(&self, tools: &Tools) -> Result<()> {
        let vfs = Arc::clone(&tools.vfs);
        let (root, path) = (self.root.clone(), self.path.clone());
        let place = move || {
            for name in ["docker", "kelson"] {
                let from = path.join(name);
                if vfs.metadata(&from)?.is_some() {
                    durable::rename_durable(&*vfs, &from, &root.join(name), Step::RestorePlace)?;
                }
            }
            vfs.remove_file(&path.join(RESTORED))?;
            durable::sync_dirs(&*vfs, [path.as_path()], Step::RestoreEnd)?;
            vfs.remove_file(&path.join("LOCK"))?;
            vfs.remove_dir(&path)
        };
        tools.blocking.run(place).await.map_err(unusable)
    }
}

/// Copies what the generation names; each content without a sound file is an item.
async fn copy_contents(
    tools: &Tools,
    source: &Destination,
    blobs: &FsBlobs,
    generation: &Generation,
    progress: &Progress,
) -> Result<Restored> {
    let mut contents = Contents::open(tools, &generation.path).await?;
    let (mut restored, mut done) = (Restored::default(), 0);
    loop {
        let batch = contents.next().await?;
        if batch.is_empty() {
            return Ok(restored);
        }
        done += batch.len() as u64;
        let (from, to) = (&source.blobs, blobs);
        for (content, copied) in copy_batch(from, to, tools, batch).await? {
            if let Copied::Damaged(reason) = copied {
                restored.missing += 1;
                let digest = content.digest.to_string();
                let item = json!({ "kind": "damaged", "digest": digest, "reason": reason });
                progress.item(item).await;
                continue;
            }
            restored.contents += 1;
            restored.size_bytes += content.size_bytes;
        }
        progress.advance(done)?;
    }
}

/// Imports an export file as the database at `to`; blocks.
pub(super) fn import_file(
    vfs: &Arc<dyn Vfs>,
    export: &Path,
    to: &Path,
    options: Options,
    transactions: u64,
) -> Result<Header> {
    // Read once to its end first: a damaged export is told from a failure of the database.
    let verified = open_export(&**vfs, export)?.verify();
    verified.map_err(|error| refused(format!("{}: {error}", export.display())))?;
    let file = vfs.open(export, crate::disk::Open::Read).map_err(unusable)?;
    let source = crate::disk::FileReader::new(file).map_err(unusable)?;
    let imported = RedbMeta::import(Arc::clone(vfs), to, options, source, transactions);
    imported.map_err(|error| match error {
        error @ (MetaError::Full | MetaError::Poisoned) => error.into(),
        error => refused(format!("{}: {error}", export.display())),
    })
}

fn read_done(vfs: &dyn Vfs, path: &Path) -> Result<Option<Restored>> {
    let file = match vfs.open(&path.join(RESTORED), crate::disk::Open::Read) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened.map_err(unusable)?,
    };
    let mut bytes = vec![0; file.size_bytes().map_err(unusable)?.min(4096) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(unusable)?;
    let damaged = |error| refused(format!("{}/done is damaged: {error}", path.display()));
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Removes what a restore that was cut short has made.
fn clear(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    for name in vfs.list(path).map_err(unusable)? {
        if name != "LOCK" {
            remove_tree(vfs, &path.join(name)).map_err(unusable)?;
        }
    }
    Ok(())
}

fn remove_tree(vfs: &dyn Vfs, path: &Path) -> crate::disk::Result<()> {
    if !vfs.metadata(path)?.is_some_and(|found| found.is_dir) {
        return vfs.remove_file(path);
    }
    for name in vfs.list(path)? {
        remove_tree(vfs, &path.join(name))?;
    }
    vfs.remove_dir(path)
}
