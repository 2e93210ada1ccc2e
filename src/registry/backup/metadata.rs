//! The way back when the database is lost or damaged and the contents are there: the newest
//! export becomes the database. What is newer than it is lost, and is told; nothing is invented.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::automatic::exports_of;
use super::destination::{Generation, numbered};
use super::restore::import_file;
use super::{Contents, Tools, refused, store_uuid, unusable, verify_export};
use crate::blob::{BlobStore, FsBlobs};
use crate::disk::durable::{self, Step};
use crate::meta::redb::{Options, RedbMeta};
use crate::meta::{BlobState, MetaStore};
use crate::oci::{Digest, MediaType, Shard};
use crate::ops::Progress;
use crate::ops::progress::Unit;
use crate::registry::error::{Error, Result};
use crate::registry::identity::{self, Claim, Paths};

/// Files without a row up to this length are read, to see whether they are manifests.
const MANIFEST_SIZE_BYTES_MAX: u64 = 4 << 20;

/// Which export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataSource {
    /// The newest sound one in `kelson/exports`.
    Latest,
    /// This file.
    File(PathBuf),
}

/// A database made anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoredMetadata {
    /// The export that it was made of.
    pub export: PathBuf,
    /// When that was made: milliseconds since the Unix epoch. What is newer is lost.
    pub created_at_ms: u64,
    /// Transactions at least that were committed after it; `store.json` learns of them once a
    /// minute.
    pub lost_transactions_min: u64,
    /// Where the old database is; `None` when there was none.
    pub old_database: Option<PathBuf>,
    /// Contents that should have a file.
    pub contents: u64,
    /// Of these, how many have none, or one of another length: quarantined.
    pub missing: u64,
    /// Files that no row knows: contents that were pushed after the export, or are garbage.
    pub unknown: u64,
    /// Their bytes.
    pub unknown_size_bytes: u64,
}

/// Makes the database of the store below `root` out of an export. Nobody may have the store open.
/// A content without its file is an item of kind `missing`, a file without a row one of kind
/// `unknown`; such files stay.
///
/// # Errors
/// A store in use, or whose database is sound; no sound export of this store. Nothing was
/// changed then.
pub async fn restore_metadata(
    tools: &Tools,
    root: &Path,
    which: &MetadataSource,
    database: Options,
    progress: &Progress,
) -> Result<RestoredMetadata> {
    let paths = Paths::new(root);
    let claim = claim(tools, &paths).await?;
    progress.phase("looking at the old database", None, Unit::Items).await;
    refuse_sound(tools, &paths, &claim, database).await?;
    progress.phase("verifying exports", None, Unit::Items).await;
    let (export, known) = (choose(tools, &paths, which, progress).await?, claim.transactions());
    let (header, _) = verify_export(tools, &export).await?;
    if Some(store_uuid(&header).as_str()) != claim.uuid() {
        let of = store_uuid(&header);
        return Err(refused(format!(
            "{} is an export of store {of}, not of this one",
            export.display()
        )));
    }
    progress.phase("importing the export", None, Unit::Items).await;
    let now = tools.clock.now();
    let options = Options { create: false, now, ballast_size_bytes: 0, ..database };
    let draft = paths.own.join("metadata.redb.import");
    let mut restored = RestoredMetadata {
        created_at_ms: header.created_at.0,
        lost_transactions_min: known.saturating_sub(header.transactions),
        ..RestoredMetadata::default()
    };
    let meta = open_import(tools, &export, &draft, options, known).await?;
    let blobs =
        FsBlobs::existing(Arc::clone(&tools.vfs), root, tools.blocking, Arc::clone(&tools.random));
    (restored.contents, restored.missing) =
        look_for_files(tools, &export, &blobs, &meta, progress).await?;
    look_for_rows(&blobs, &meta, &mut restored, progress).await?;
    meta.close().await?;
    restored.export = export;
    restored.old_database = put_into_place(tools, &paths, draft, now.0).await?;
    Ok(restored)
}

async fn claim(tools: &Tools, paths: &Paths) -> Result<Claim> {
    let (vfs, paths) = (Arc::clone(&tools.vfs), paths.clone());
    let claim = tools.blocking.run(move || identity::claim_for_repair(vfs, paths)).await;
    claim.map_err(|error| refused(error.to_string()))
}

/// Only a database that no server would open, or that breaks an invariant, is replaced.
async fn refuse_sound(
    tools: &Tools,
    paths: &Paths,
    claim: &Claim,
    database: Options,
) -> Result<()> {
    let (vfs, path, blocking) = (Arc::clone(&tools.vfs), paths.database.clone(), tools.blocking);
    let options = Options { create: false, ballast_size_bytes: 0, ..database };
    let opened = blocking.run(move || RedbMeta::open(vfs, &path, options, blocking)).await;
    let Ok(meta) = opened else { return Ok(()) };
    let fits = claim.fits(&meta).await;
    let checked = meta.clone();
    let sound = blocking.run(move || checked.check().is_ok_and(|found| found.is_empty())).await;
    // Whether it closes well does not matter: it is replaced, or left as it is.
    let _ = meta.close().await;
    if fits && sound {
        return Err(refused(format!(
            "{} is sound: there is nothing to restore. To go back to an export all the same, move \
             it away first",
            paths.database.display()
        )));
    }
    Ok(())
}

async fn choose(
    tools: &Tools,
    paths: &Paths,
    which: &MetadataSource,
    progress: &Progress,
) -> Result<PathBuf> {
    if let MetadataSource::File(path) = which {
        return Ok(path.clone());
    }
    let folder = exports_of(&paths.own);
    let (vfs, listed) = (Arc::clone(&tools.vfs), folder.clone());
    let exports = tools.blocking.run(move || numbered(&*vfs, &listed)).await?;
    for Generation { path, .. } in exports.into_iter().rev() {
        match verify_export(tools, &path).await {
            Ok(_) => return Ok(path),
            Err(error) => {
                let text = error.to_string();
                progress.item(json!({ "kind": "damaged", "reason": text })).await;
            }
        }
    }
    Err(refused(format!(
        "{} has no sound export; restore a backup into another directory: kelson restore SRC",
        folder.display()
    )))
}

async fn open_import(
    tools: &Tools,
    export: &Path,
    draft: &Path,
    options: Options,
    known: u64,
) -> Result<RedbMeta> {
    let (vfs, blocking) = (Arc::clone(&tools.vfs), tools.blocking);
    let (export, draft) = (export.to_owned(), draft.to_owned());
    let import = move || {
        // One of an earlier try that was cut short.
        match vfs.remove_file(&draft) {
            Err(error) if !error.is_not_found() => return Err(unusable(error)),
            _ => {}
        }
        import_file(&vfs, &export, &draft, options, known)?;
        Ok::<_, Error>(RedbMeta::open(vfs, &draft, options, blocking)?)
    };
    blocking.run(import).await
}

/// Rows without a file are quarantined: not served, and live again when they are pushed again.
/// One whose bytes are in the database gets its file from there. How many should have a file, and
/// how many have none.
pub(super) async fn look_for_files(
    tools: &Tools,
    export: &Path,
    blobs: &FsBlobs,
    meta: &RedbMeta,
    progress: &Progress,
) -> Result<(u64, u64)> {
    progress.phase("looking for contents", None, Unit::Items).await;
    let mut contents = Contents::open(tools, export).await?;
    let (mut looked, mut lost) = (0, 0);
    loop {
        let batch = contents.next().await?;
        if batch.is_empty() {
            return Ok((looked, lost));
        }
        for content in batch.iter().filter(|content| content.has_file) {
            looked += 1;
            let Some(reason) = super::verify::wrong(blobs, content).await? else { continue };
            lost += 1;
            // An inline copy makes up for it.
            meta.judge(&content.digest, false).await?;
            let digest = content.digest.to_string();
            progress.item(json!({ "kind": "missing", "digest": digest, "reason": reason })).await;
        }
        progress.advance(looked)?;
    }
}

/// Files that no live row knows stay where they are.
async fn look_for_rows(
    blobs: &FsBlobs,
    meta: &RedbMeta,
    restored: &mut RestoredMetadata,
    progress: &Progress,
) -> Result<()> {
    progress.phase("looking for files without a row", None, Unit::Items).await;
    let mut seen = 0;
    for shard in (0..Shard::COUNT).filter_map(Shard::from_number) {
        for (digest, size_bytes) in blobs.shard_files(shard).await?.files {
            seen += 1;
            let row = meta.stored(&digest).await?;
            if row.is_some_and(|row| row.state == BlobState::Live) {
                continue;
            }
            restored.unknown += 1;
            restored.unknown_size_bytes += size_bytes;
            let text = digest.to_string();
            let mut item = json!({ "kind": "unknown", "digest": text, "size_bytes": size_bytes });
            if let Some(media_type) = manifest_type(blobs, &digest, size_bytes).await {
                item["media_type"] = json!(media_type);
            }
            progress.item(item).await;
        }
        progress.advance(seen)?;
    }
    Ok(())
}

/// What a document says it is; `None` for what is no manifest, or cannot be read.
async fn manifest_type(blobs: &FsBlobs, digest: &Digest, size_bytes: u64) -> Option<String> {
    if size_bytes > MANIFEST_SIZE_BYTES_MAX {
        return None;
    }
    let file = blobs.open(digest).await.ok()??;
    let bytes = file.reader.read(0, usize::try_from(size_bytes).ok()?).await.ok()?;
    let document: Value = serde_json::from_slice(&bytes).ok()?;
    document.get("schemaVersion")?;
    let found = document.get("mediaType").and_then(Value::as_str).unwrap_or("a manifest");
    MediaType::parse(found).map_or(Some("a manifest".to_owned()), |found| Some(found.to_string()))
}

/// The old database keeps everything but its name; blocks.
async fn put_into_place(
    tools: &Tools,
    paths: &Paths,
    draft: PathBuf,
    now_ms: u64,
) -> Result<Option<PathBuf>> {
    let (vfs, database) = (Arc::clone(&tools.vfs), paths.database.clone());
    let place = move || {
        let mut old = None;
        if vfs.metadata(&database)?.is_some() {
            let mut name = database.clone().into_os_string();
            name.push(format!(".damaged-{now_ms}"));
            let name = PathBuf::from(name);
            vfs.rename(&database, &name)?;
            old = Some(name);
        }
        // Both are names of one directory, and the second is free only when the first is gone.
        durable::rename_durable(&*vfs, &draft, &database, Step::RestoredDatabaseName)?;
        Ok(old)
    };
    tools.blocking.run(place).await.map_err(unusable)
}
