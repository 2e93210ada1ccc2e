//! Backups: a consistent copy of a store that is being pushed to, and the way back.
//!
//! A backup is one metadata export, of one snapshot, and the contents that it names. Each run is
//! a *generation*; contents are kept once for all of them. A generation's file gets its name when
//! everything that it names is durable: a killed run leaves contents that the next one uses, and
//! no half generation. The collector waits meanwhile, so that no content goes between the
//! snapshot and its copy (R2).

mod automatic;
mod destination;
mod listing;
mod metadata;
#[cfg(test)]
mod power_tests;
mod restore;
mod take;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::error::{Error, Result};
use crate::blob::{BlobStore, FsBlobs};
use crate::disk::{self, FileReader, Open, Vfs};
use crate::meta;
use crate::meta::export::{Content, Header, Reader, Record};
use crate::oci::UploadId;
use crate::ops::{Blocking, Clock, Random};

pub use automatic::{Exports, KEPT_MAX};
pub use destination::Generation;
pub use listing::list;
pub use metadata::{MetadataSource, RestoredMetadata, restore_metadata};
pub use restore::{Restore, Restored, restore};
pub use take::{BackUp, Backup};
pub use verify::{Verified, verify};

/// What a backup needs of the machine.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Where files are.
    pub vfs: Arc<dyn Vfs>,
    /// How blocking work is run.
    pub blocking: Blocking,
    /// For the names of staged contents.
    pub random: Arc<dyn Random>,
    /// For deadlines and dates.
    pub clock: Arc<dyn Clock>,
}

/// Contents that are looked at together.
const BATCH_LENGTH_MAX: usize = 256;
/// Contents that are copied or read at the same time: enough that syncs overlap.
const AT_ONCE: usize = 4;
/// Bytes that are read at once.
const PIECE_SIZE_BYTES: usize = 1 << 20;

/// A refusal, or a failure that only its text tells.
fn refused(text: impl Into<String>) -> Error {
    Error::Storage(text.into())
}

fn unusable(error: disk::Error) -> Error {
    Error::from(crate::blob::Error::from(error))
}

/// The store that an export is of, as `store.json` spells it.
fn store_uuid(header: &Header) -> String {
    UploadId::from_bytes(header.store_id).to_string()
}

/// The contents that an export names, batch by batch.
struct Contents {
    blocking: Blocking,
    /// `None` after the last.
    reader: Option<Reader<FileReader>>,
}

/// Opens an export; blocks.
fn open_export(vfs: &dyn Vfs, path: &std::path::Path) -> Result<Reader<FileReader>> {
    let file = vfs.open(path, Open::Read).map_err(unusable)?;
    let reader = Reader::new(FileReader::new(file).map_err(unusable)?);
    reader.map_err(|error| refused(format!("{}: {error}", path.display())))
}

impl Contents {
    async fn open(tools: &Tools, path: &std::path::Path) -> Result<Self> {
        let (vfs, path) = (Arc::clone(&tools.vfs), path.to_owned());
        let reader = tools.blocking.run(move || open_export(&*vfs, &path)).await?;
        Ok(Self { blocking: tools.blocking, reader: Some(reader) })
    }

    /// The next contents; none at the end.
    async fn next(&mut self) -> Result<Vec<Content>> {
        let Some(mut reader) = self.reader.take() else { return Ok(Vec::new()) };
        let read = move || {
            let mut batch = Vec::new();
            while batch.len() < BATCH_LENGTH_MAX {
                match reader.next_record().map_err(meta::Error::from)? {
                    Some(Record::Content(content)) => batch.push(content),
                    _ => return Ok((batch, None)),
                }
            }
            Ok::<_, Error>((batch, Some(reader)))
        };
        let (batch, reader) = self.blocking.run(read).await?;
        self.reader = reader;
        Ok(batch)
    }
}

/// Reads a whole export and compares it with its sum.
async fn verify_export(tools: &Tools, path: &std::path::Path) -> Result<(Header, u64)> {
    let (vfs, path) = (Arc::clone(&tools.vfs), path.to_owned());
    let verify = move || {
        let found = open_export(&*vfs, &path)?.verify();
        let (header, totals) =
            found.map_err(|error| refused(format!("{}: {error}", path.display())))?;
        Ok((header, totals.contents))
    };
    tools.blocking.run(verify).await
}

/// What became of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Copied {
    /// It was there.
    Kept,
    /// It was copied now.
    Now,
    /// There is no sound file of it to copy, and why.
    Damaged(String),
}

/// Runs a few of `jobs` at a time; their results in any order.
async fn at_once<T>(jobs: Vec<BoxFuture<'_, Result<T>>>) -> Result<Vec<T>> {
    stream::iter(jobs).buffer_unordered(AT_ONCE).try_collect().await
}

/// Copies those of a batch that have files; see [`copy`].
async fn copy_batch(
    from: &dyn BlobStore,
    to: &FsBlobs,
    tools: &Tools,
    batch: Vec<Content>,
) -> Result<Vec<(Content, Copied)>> {
    let with_file = batch.into_iter().filter(|content| content.has_file);
    let copies = with_file.map(|content| {
        let copied = async move { Ok((content, copy(from, to, tools, &content).await?)) };
        copied.boxed()
    });
    at_once(copies.collect()).await
}

/// Copies a content and checks its digest on the way. Its bytes are durable then, its name after
/// [`FsBlobs::sync_names`]. One that is there with the right size is kept.
async fn copy(from: &dyn BlobStore, to: &FsBlobs, tools: &Tools, it: &Content) -> Result<Copied> {
    if let Some(found) = to.open(&it.digest).await? {
        if found.size_bytes == it.size_bytes {
            return Ok(Copied::Kept);
        }
        to.remove(&it.digest).await?;
    }
    let file = match from.open(&it.digest).await {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Copied::Damaged("its file is missing".to_owned())),
        Err(error) => return Ok(Copied::Damaged(error.to_string())),
    };
    if file.size_bytes != it.size_bytes {
        let text = format!("its file has {} bytes, not {}", file.size_bytes, it.size_bytes);
        return Ok(Copied::Damaged(text));
    }
    let id = UploadId::from_random(tools.random.bytes());
    let mut staging = to.stage(id, it.digest.algorithm()).await?;
    let mut offset = 0;
    while offset < it.size_bytes {
        let length = (it.size_bytes - offset).min(PIECE_SIZE_BYTES as u64);
        let piece = match file.reader.read(offset, length as usize).await {
            Ok(piece) => piece,
            Err(error) => {
                to.discard(id).await?;
                return Ok(Copied::Damaged(error.to_string()));
            }
        };
        staging.append(vec![piece]).await?;
        offset += length;
    }
    let actual = staging.digest(it.digest.algorithm()).await?;
    if actual != it.digest {
        to.discard(id).await?;
        return Ok(Copied::Damaged(format!("its file has the digest {actual}")));
    }
    // Its directories are synced once, with all others.
    let _published = to.publish(staging, &it.digest, it.size_bytes, false).await?;
    Ok(Copied::Now)
}
