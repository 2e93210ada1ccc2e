//! Giving small contents their files.
//!
//! A small content's bytes are durable in the database from its commit on; its file follows
//! here, in batches, within a second and before a clean stop, so that the tree of blobs is
//! complete.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Registry;
use super::error::Result;

/// Contents in one batch.
const BATCH_MAX: usize = 256;

/// Bytes in one batch.
const BATCH_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long commits gather before their contents are written out together.
const GATHER: Duration = Duration::from_millis(250);

/// How long to wait after an error.
const RETRY: Duration = Duration::from_secs(5);

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Contents that now have files.
    pub contents: usize,
}

impl Registry {
    /// Writes out every content that has no file yet.
    pub async fn spill_once(&self) -> Result<Report> {
        let mut report = Report::default();
        loop {
            let batch = self.inner.meta.unspilled(BATCH_MAX, BATCH_SIZE_BYTES_MAX).await?;
            if batch.is_empty() {
                return Ok(report);
            }
            let digests: Vec<_> = batch.iter().map(|(digest, _)| *digest).collect();
            let _stripes = self.inner.stripes.lock_all(digests.iter()).await;
            let spilled = self.inner.blobs.spill(batch).await?;
            report.contents += spilled.durable.len();
            self.inner.meta.mark_spilled(spilled.durable).await?;
            if let Some((digest, error)) = spilled.failed.into_iter().next() {
                tracing::error!(blob.digest = %digest, %error, "a small content gets no file");
                return Err(error.into());
            }
        }
    }

    /// Spills whenever there is something to, until `stop`; then once more.
    pub async fn run_spill(&self, stop: CancellationToken) {
        self.spill_and_log().await;
        loop {
            tokio::select! {
                () = self.inner.spill_wanted.notified() => {}
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = self.inner.clock.sleep(GATHER) => {}
                () = stop.cancelled() => break,
            }
            if !self.spill_and_log().await {
                self.inner.spill_wanted.notify_one();
                tokio::select! {
                    () = self.inner.clock.sleep(RETRY) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
        self.spill_and_log().await;
    }

    async fn spill_and_log(&self) -> bool {
        match self.spill_once().await {
            Ok(report) => {
                tracing::debug!(contents = report.contents, "small contents written to files");
                true
            }
            Err(error) => {
                tracing::error!(%error, "small contents could not be written to files");
                // A poisoned store stays so until a restart: trying again would only repeat this.
                !self.is_ready()
            }
        }
    }
}
