//! Where backups are.
//!
//! ```text
//! <destination>/
//!   backup.json                                     that it is one, and its format
//!   LOCK                                            held while a backup is made
//!   docker/registry/v2/blobs/<alg>/<hh>/<hex>/data  contents, once for all generations
//!   kelson/staging/                                 contents on their way
//!   generations/<number>.export                     one for each backup
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Tools, refused, unusable};
use crate::blob::{BlobStore, FsBlobs};
use crate::disk::durable::{self, Step};
use crate::disk::{Open, Vfs, VfsFile};
use crate::registry::error::Result;

/// The layout of a destination that this release writes and reads.
const FORMAT: u32 = 1;
/// Only its owner may read a backup: it holds what the registry protects.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const EXTENSION: &str = ".export";

/// The contents of `backup.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
}

/// One finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// From 1 on.
    pub number: u64,
    /// Its export.
    pub path: PathBuf,
}

/// A directory of backups.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) path: PathBuf,
    pub(super) blobs: FsBlobs,
    /// Held while a backup is made.
    _lock: Option<Arc<dyn VfsFile>>,
}

impl Destination {
    /// Opens it to make a backup: an empty or missing directory becomes one; what a killed backup
    /// left half is removed.
    pub(super) async fn create(tools: &Tools, path: &Path) -> Result<Self> {
        if !path.is_absolute() {
            return Err(refused(format!("{} is not an absolute path", path.display())));
        }
        let (vfs, target) = (Arc::clone(&tools.vfs), path.to_owned());
        let lock = tools.blocking.run(move || prepare(&*vfs, &target)).await?;
        let (vfs, target) = (Arc::clone(&tools.vfs), path.to_owned());
        let (blocking, random) = (tools.blocking, Arc::clone(&tools.random));
        let open = move || FsBlobs::open(vfs, &target, blocking, random);
        let blobs = tools.blocking.run(open).await?;
        for id in blobs.staged().await? {
            blobs.discard(id).await?;
        }
        Ok(Self { path: path.to_owned(), blobs, _lock: Some(lock) })
    }

    /// Opens it to read what is there; changes nothing.
    pub(super) async fn open(tools: &Tools, path: &Path) -> Result<Self> {
        let (vfs, target) = (Arc::clone(&tools.vfs), path.to_owned());
        let marker = tools.blocking.run(move || read_marker(&*vfs, &target)).await?;
        if marker.is_none() {
            return Err(refused(format!("{} is no backup: it has no backup.json", path.display())));
        }
        let (vfs, random) = (Arc::clone(&tools.vfs), Arc::clone(&tools.random));
        let blobs = FsBlobs::existing(vfs, path, tools.blocking, random);
        Ok(Self { path: path.to_owned(), blobs, _lock: None })
    }

    /// Where a generation's export is written before it gets its name.
    pub(super) fn draft(&self) -> PathBuf {
        generations(&self.path).join("next.tmp")
    }

    /// The finished backups, oldest first.
    pub(super) async fn generations(&self, tools: &Tools) -> Result<Vec<Generation>> {
        let (vfs, folder) = (Arc::clone(&tools.vfs), generations(&self.path));
        tools.blocking.run(move || numbered(&*vfs, &folder)).await
    }

    /// The generation of that number, or the newest.
    pub(super) async fn generation(
        &self,
        tools: &Tools,
        number: Option<u64>,
    ) -> Result<Generation> {
        let found = self.generations(tools).await?;
        let chosen = match number {
            Some(number) => found.into_iter().find(|one| one.number == number),
            None => found.into_iter().next_back(),
        };
        chosen.ok_or_else(|| {
            let which = number.map_or_else(String::new, |number| format!(" {number}"));
            refused(format!("{} has no generation{which}", self.path.display()))
        })
    }

    /// Gives the drafted export its number: the backup is finished. `file` holds the whole draft.
    pub(super) async fn finish(&self, tools: &Tools, file: Arc<dyn VfsFile>) -> Result<u64> {
        let newest = self.generations(tools).await?.last().map_or(0, |one| one.number);
        let number = newest + 1;
        let name = generations(&self.path).join(format!("{number:06}{EXTENSION}"));
        let (vfs, draft) = (Arc::clone(&tools.vfs), self.draft());
        let steps = [Step::GenerationData, Step::GenerationName];
        let name_it = move || durable::name_file(&*vfs, &*file, &draft, &name, steps);
        tools.blocking.run(name_it).await.map_err(unusable)?;
        Ok(number)
    }
}

fn generations(path: &Path) -> PathBuf {
    path.join("generations")
}

/// Makes directory, marker and lock. Blocks.
fn prepare(vfs: &dyn Vfs, path: &Path) -> Result<Arc<dyn VfsFile>> {
    let step = Step::DestinationRoot;
    durable::create_dir_durable(vfs, path, DIRECTORY_MODE, step).map_err(unusable)?;
    if read_marker(vfs, path)?.is_none() {
        // What a first backup that was killed had made.
        let made = ["LOCK", "backup.json.tmp", "generations"];
        let own = |name: &String| made.contains(&name.as_str());
        if !vfs.list(path).map_err(unusable)?.iter().all(own) {
            let text = format!(
                "{} is neither empty nor a backup; choose another directory",
                path.display()
            );
            return Err(refused(text));
        }
    }
    let lock = open_lock(vfs, &path.join("LOCK"))?;
    if !lock.try_lock().map_err(unusable)? {
        return Err(refused(format!("another backup to {} is running", path.display())));
    }
    let folder = generations(path);
    match vfs.create_dir(&folder, DIRECTORY_MODE) {
        Err(error) if !error.is_taken() => return Err(unusable(error)),
        _ => {}
    }
    let marker = serde_json::to_vec_pretty(&Marker { format: FORMAT });
    let marker = marker.map_err(|error| refused(error.to_string()))?;
    let (file, steps) = (path.join("backup.json"), [Step::MarkerData, Step::MarkerName]);
    durable::write_atomic(vfs, &file, &marker, FILE_MODE, steps).map_err(unusable)?;
    match vfs.remove_file(&folder.join("next.tmp")) {
        Err(error) if !error.is_not_found() => Err(unusable(error)),
        _ => Ok(lock),
    }
}

fn open_lock(vfs: &dyn Vfs, path: &Path) -> Result<Arc<dyn VfsFile>> {
    match vfs.open(path, Open::Create { mode: FILE_MODE }) {
        Err(error) if error.is_taken() => vfs.open(path, Open::ReadWrite).map_err(unusable),
        opened => opened.map_err(unusable),
    }
}

fn read_marker(vfs: &dyn Vfs, path: &Path) -> Result<Option<Marker>> {
    let file = match vfs.open(&path.join("backup.json"), Open::Read) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened.map_err(unusable)?,
    };
    // A few bytes; whatever is longer is not ours.
    let mut bytes = vec![0; file.size_bytes().map_err(unusable)?.min(4096) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(unusable)?;
    let damaged = |error| refused(format!("{}/backup.json is damaged: {error}", path.display()));
    let marker: Marker = serde_json::from_slice(&bytes).map_err(damaged)?;
    if marker.format > FORMAT {
        let found = marker.format;
        return Err(refused(format!(
            "{} has format {found}, this release knows up to {FORMAT}",
            path.display()
        )));
    }
    Ok(Some(marker))
}

/// The exports in a folder by the numbers in their names. Blocks.
pub(super) fn numbered(vfs: &dyn Vfs, folder: &Path) -> Result<Vec<Generation>> {
    let names = match vfs.list(folder) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        listed => listed.map_err(unusable)?,
    };
    let generation = |name: &String| {
        let number = name.strip_suffix(EXTENSION)?.parse().ok()?;
        Some(Generation { number, path: folder.join(name) })
    };
    let mut found: Vec<_> = names.iter().filter_map(generation).collect();
    found.sort_unstable_by_key(|one| one.number);
    Ok(found)
}

/// Refuses a destination inside the store, or around it.
pub(super) fn check_apart(path: &Path, root: &Path) -> Result<()> {
    if path.starts_with(root) || root.starts_with(path) {
        return Err(refused(format!(
            "{} and the store in {} lie in one another; choose another directory",
            path.display(),
            root.display()
        )));
    }
    Ok(())
}
