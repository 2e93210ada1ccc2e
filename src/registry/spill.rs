//! Giving small contents their files.
//!
//! A small content's bytes are durable in the database from its commit on; its file follows
//! here, in batches, within a second and before a clean stop, so that the tree of blobs is
//! complete.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::error::{Error, Result};
use super::room::Amount;
use crate::blob;
use crate::meta::{BlobState, Place};
use crate::oci::Digest;

/// Contents in one batch.
const BATCH_MAX: usize = 256;

/// Bytes in one batch.
const BATCH_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long commits gather before their contents are written out together.
const GATHER: Duration = Duration::from_millis(250);

/// How long to wait after an error. Short, as a disk that was full is used again 5 seconds after it
/// no longer is.
const RETRY: Duration = Duration::from_secs(2);

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Contents that now have files.
    pub contents: usize,
    /// Contents that could get none, each for a reason of its own.
    pub failed: usize,
}

impl Registry {
    /// Writes out every content that has no file yet, in one pass over the queue. One that cannot
    /// get its file is passed over; the error of the first such ends the pass that met it.
    pub async fn spill_once(&self) -> Result<Report> {
        let mut report = Report::default();
        let (mut after, mut failed) = (None, None);
        let mut batch_max = BATCH_MAX;
        let mut awaited = self.inner.room.awaited();
        loop {
            let meta = &self.inner.meta;
            let batch = meta.unspilled(after.as_ref(), batch_max, BATCH_SIZE_BYTES_MAX).await?;
            let Some((last, _)) = batch.last() else { break };
            let (last, length) = (*last, batch.len());
            let size_bytes = batch.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            let batch_amount = Amount { files: length as u64, bytes: size_bytes };
            let digests: Vec<_> = batch.iter().map(|(digest, _)| *digest).collect();
            let _stripes = self.inner.stripes.lock_all(digests.iter()).await;
            let spilled = match self.inner.blobs.spill(self.still_there(batch).await?).await {
                // What does not fit as a whole may fit in part, and then it is that much less.
                Err(blob::Error::Full(_)) if length > 1 => {
                    batch_max = length / 2;
                    continue;
                }
                spilled => {
                    // What is acknowledged comes before anything new.
                    spilled.map_err(Error::from).inspect_err(|error| self.inner.room.note(error))?
                }
            };
            after = Some(last);
            report.contents += spilled.durable.len();
            report.failed += spilled.failed.len();
            meta.mark_spilled(spilled.durable).await?;
            let written = batch_amount.min(awaited);
            self.inner.room.end_waiting(written);
            awaited.take(written);
            failed = failed.or_else(|| spilled.failed.into_iter().next());
        }
        self.inner.room.end_waiting(awaited);
        let Some((digest, error)) = failed else { return Ok(report) };
        let contents = report.failed;
        tracing::error!(blob.digest = %digest, %error, contents, "small contents get no files");
        Err(error.into())
    }

    /// Those that are still to get a file. The collector takes a content away under its stripe: one
    /// that went since it was read must leave no file behind.
    async fn still_there(&self, mut batch: Vec<(Digest, Bytes)>) -> Result<Vec<(Digest, Bytes)>> {
        let mut wanted = Vec::with_capacity(batch.len());
        for (digest, _) in &batch {
            let stored = self.inner.meta.stored(digest).await?;
            wanted.push(stored.is_some_and(|blob| {
                blob.place == Place::Inline && blob.state != BlobState::Unlinking
            }));
        }
        let mut wanted = wanted.into_iter();
        batch.retain(|_| wanted.next().unwrap_or_default());
        Ok(batch)
    }

    /// Spills whenever there is something to, until `stop`; then once more.
    pub async fn run_spill(&self, stop: CancellationToken) {
        let mut failing = false;
        self.spill_and_log(&mut failing).await;
        loop {
            tokio::select! {
                () = self.inner.spill_wanted.notified() => {}
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = self.inner.clock.sleep(GATHER) => {}
                () = stop.cancelled() => break,
            }
            if !self.spill_and_log(&mut failing).await {
                self.inner.spill_wanted.notify_one();
                tokio::select! {
                    () = self.inner.clock.sleep(RETRY) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
        self.spill_and_log(&mut failing).await;
    }

    /// Whether nothing is to be tried again. Failures in a row are told once, and their end.
    async fn spill_and_log(&self, failing: &mut bool) -> bool {
        match self.spill_once().await {
            Ok(report) => {
                let contents = report.contents;
                if std::mem::take(failing) {
                    tracing::info!(contents, "small contents are written to files again");
                }
                tracing::debug!(contents, "small contents written to files");
                true
            }
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    tracing::error!(%error, "small contents could not be written to files");
                }
                // A poisoned store stays so until a restart: trying again would only repeat this.
                !self.is_ready()
            }
        }
    }
}
