//! Making a backup.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::destination::{Destination, check_apart};
use super::{Contents, Copied, Tools, copy_batch, refused, unusable};
use crate::disk::{FileWriter, Open, VfsFile};
use crate::meta::export::Totals;
use crate::meta::{self, MetaStore};
use crate::ops::progress::Unit;
use crate::ops::{Clock, Progress};
use crate::registry::Registry;
use crate::registry::error::Result;

/// How long an export may take: the snapshot that it reads holds back pages of the database.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(600);
/// Permission bits of an export.
const FILE_MODE: u32 = 0o600;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackUp {
    /// Where to; absolute, outside of the store.
    pub destination: PathBuf,
}

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backup {
    /// Its number.
    pub generation: u64,
    /// Contents with files that it names.
    pub contents: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Of these, how many were copied now.
    pub copied: u64,
    /// Their bytes.
    pub copied_size_bytes: u64,
    /// Contents whose file in the store is missing or wrong: they are not in the backup.
    pub damaged: u64,
    /// Length of the metadata export.
    pub export_size_bytes: u64,
    /// How long it took.
    pub duration_ms: u64,
}

impl Registry {
    /// Makes a backup of this store, which lies in `root`, while it is being pushed to. A content
    /// without a sound file is an item of kind `damaged`, and the rest is backed up.
    ///
    /// # Errors
    /// A destination that is in use, is something else, or cannot be written; it has no new
    /// generation then.
    pub async fn back_up(
        &self,
        tools: &Tools,
        root: &Path,
        ask: &BackUp,
        progress: &Progress,
    ) -> Result<Backup> {
        let began = tools.clock.monotonic();
        check_apart(&ask.destination, root)?;
        let destination = Destination::create(tools, &ask.destination).await?;
        progress.phase("waiting for the collector", None, Unit::Items).await;
        // R2: no content of the snapshot goes before it is copied.
        let _pause = self.pause_collector().await;
        progress.phase("exporting the database", None, Unit::Items).await;
        let draft = destination.draft();
        let (file, totals) = export_to(tools, self.meta(), draft.clone()).await?;
        progress.phase("copying contents", Some(totals.contents), Unit::Items).await;
        let mut backup = self.copy_contents(tools, &destination, progress).await?;
        destination.blobs.sync_names().await?;
        backup.generation = destination.finish(tools, file).await?;
        backup.export_size_bytes = totals.size_bytes;
        let took = tools.clock.monotonic().saturating_sub(began);
        backup.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Ok(backup)
    }

    async fn copy_contents(
        &self,
        tools: &Tools,
        destination: &Destination,
        progress: &Progress,
    ) -> Result<Backup> {
        let mut contents = Contents::open(tools, &destination.draft()).await?;
        let (mut backup, mut done) = (Backup::default(), 0);
        loop {
            let batch = contents.next().await?;
            if batch.is_empty() {
                return Ok(backup);
            }
            done += batch.len() as u64;
            let (from, to) = (&*self.inner.blobs, &destination.blobs);
            for (content, copied) in copy_batch(from, to, tools, batch).await? {
                backup.contents += 1;
                backup.size_bytes += content.size_bytes;
                match copied {
                    Copied::Kept => {}
                    Copied::Now => {
                        backup.copied += 1;
                        backup.copied_size_bytes += content.size_bytes;
                    }
                    Copied::Damaged(reason) => {
                        backup.damaged += 1;
                        let digest = content.digest.to_string();
                        let item = json!({ "kind": "damaged", "digest": digest, "reason": reason });
                        progress.item(item).await;
                    }
                }
            }
            progress.advance(done)?;
        }
    }
}

/// Exports one snapshot into a new file, which is not synced yet.
pub(super) async fn export_to(
    tools: &Tools,
    meta: &Arc<dyn MetaStore>,
    path: PathBuf,
) -> Result<(Arc<dyn VfsFile>, Totals)> {
    let (vfs, clock, meta) = (Arc::clone(&tools.vfs), Arc::clone(&tools.clock), Arc::clone(meta));
    let export = move || {
        let exporter = meta.exporter().ok_or_else(|| refused("this store cannot be exported"))?;
        let file = vfs.open(&path, Open::Create { mode: FILE_MODE }).map_err(unusable)?;
        let deadline = clock.monotonic() + EXPORT_TIME_MAX;
        let mut out = Timed { out: FileWriter::new(Arc::clone(&file)), clock: &*clock, deadline };
        let totals = exporter.export(clock.now(), &mut out);
        let totals = totals.map_err(|error: meta::Error| refused(error.to_string()))?;
        Ok((file, totals))
    };
    tools.blocking.run(export).await
}

/// Ends an export that takes too long.
struct Timed<'a> {
    out: FileWriter,
    clock: &'a dyn Clock,
    deadline: Duration,
}

impl io::Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.clock.monotonic() > self.deadline {
            let text = "writing it takes too long; choose a faster destination";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
