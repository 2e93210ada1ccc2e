//! The domain: the order of bytes, facts and answers is visible here.
//!
//! May import `oci`, `disk`, `ops`, `blob`, `meta`. Invariants:
//! R1 bytes before facts: a row never points at content that is not durable;
//! R2 facts before unlink: content is removed only after the commit that lets it go;
//! R3 an answer leaves after the commit it reports;
//! R4 read access goes by the repository's own row, never by existence;
//! R5 one writer per upload session; a newer request ends the older and keeps its prefix;
//! R6 content is added only while there is room left for everything else;
//! R7 what a client was told to be there stays for a lease, unless somebody deletes it: the lease
//!    is taken before the row is read, and looked at after the row was condemned.

pub mod backup;
mod blobs;
pub mod error;
mod examine;
pub mod explain;
pub mod fsck;
pub mod gc;
#[cfg(test)]
mod gc_tests;
pub mod heartbeat;
pub mod identity;
pub mod inventory;
mod lease;
mod listings;
mod manifests;
mod monitor;
pub mod options;
mod publish;
pub mod purge;
mod receive;
mod referrers;
mod room;
#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;
pub mod scrub;
mod sessions;
pub mod spill;
mod stripes;
#[cfg(test)]
mod tests;
pub mod types;
mod uploads;

use std::sync::Arc;

use tokio::sync::{Notify, OwnedMutexGuard};

use crate::blob::BlobStore;
use crate::meta::MetaStore;
use crate::ops::{Clock, Metrics, Random};
pub use error::Error;
use lease::Leases;
pub use options::{Options, Platform, Sparse, UploadPurging, Watermark};
use receive::Buffers;
use room::Room;
pub use scrub::ScrubOptions;
use scrub::Suspects;
use sessions::Sessions;
use stripes::Stripes;
pub use types::*;

/// The registry's handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    meta: Arc<dyn MetaStore>,
    blobs: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    options: Options,
    room: Room,
    buffers: Buffers,
    sessions: Sessions,
    stripes: Stripes,
    suspects: Suspects,
    leases: Leases,
    /// The collector's turn, for one batch, or a backup's.
    collection: Arc<tokio::sync::Mutex<()>>,
    metrics: Metrics,
    /// Wakes the collector.
    garbage_made: Notify,
    /// Wakes the spill task.
    spill_wanted: Notify,
    /// Accumulated uptime when this process opened the store, less the clock's time then.
    uptime_base_seconds: u64,
}

/// While it lives, the collector changes nothing.
#[derive(Debug)]
#[must_use = "the collector goes on when it is dropped"]
pub struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedMutexGuard<()>);

impl Registry {
    /// A registry on open stores. Removes what uploads of earlier processes left behind without
    /// a session; fails when the stores cannot be read.
    pub async fn open(
        meta: Arc<dyn MetaStore>,
        blobs: Arc<dyn BlobStore>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        options: Options,
    ) -> error::Result<Self> {
        let counters = meta.counters().await?;
        let sessions = Sessions::new(
            options.uploads_per_repository_max,
            options.uploads_max,
            options.uploads_open_max,
        );
        let room =
            Room::new(Arc::clone(&blobs), Arc::clone(&meta), Arc::clone(&clock), options.watermark);
        let inner = Inner {
            uptime_base_seconds: counters.uptime_seconds,
            leases: Leases::new(options.gc_lease),
            collection: Arc::default(),
            metrics: Metrics::new(),
            garbage_made: Notify::new(),
            meta,
            blobs,
            clock,
            random,
            options,
            room,
            buffers: Buffers::default(),
            sessions,
            stripes: Stripes::new(),
            suspects: Suspects::default(),
            spill_wanted: Notify::new(),
        };
        let registry = Self { inner: Arc::new(inner) };
        registry.discard_orphaned_staging().await?;
        Ok(registry)
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The facts, for listings beside the API.
    pub fn meta(&self) -> &Arc<dyn MetaStore> {
        &self.inner.meta
    }

    /// Whether writes work; false after a failed sync, until a restart.
    pub fn is_ready(&self) -> bool {
        !self.inner.meta.is_poisoned() && !self.inner.blobs.is_poisoned()
    }

    /// Time that the store was open, over all processes.
    pub(in crate::registry) fn uptime_seconds(&self) -> u64 {
        self.inner.uptime_base_seconds.saturating_add(self.inner.clock.monotonic().as_secs())
    }

    fn check_writable(&self) -> error::Result<()> {
        if self.inner.options.read_only {
            return Err(Error::ReadOnly);
        }
        if self.is_ready() { Ok(()) } else { Err(Error::Poisoned) }
    }

    fn check_deletable(&self) -> error::Result<()> {
        self.check_writable()?;
        if self.inner.options.delete_enabled { Ok(()) } else { Err(Error::DeleteDisabled) }
    }

    /// Staging directories without a session: a crash before the session's first commit, or
    /// after its last.
    async fn discard_orphaned_staging(&self) -> error::Result<()> {
        for id in self.inner.blobs.staged().await? {
            if self.inner.meta.upload(id).await?.is_some() {
                continue;
            }
            if let Err(error) = self.inner.blobs.discard(id).await {
                tracing::warn!(upload.id = %id, %error, "an old upload cannot be removed");
            }
        }
        Ok(())
    }
}
