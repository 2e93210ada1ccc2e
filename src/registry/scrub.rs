//! The background scrub: every content is compared with its digest once in a period, at a bounded
//! rate, and what is damaged is contained (see `examine.rs`).
//!
//! Where it stands is in the database, so that a restart goes on. What a request found to be
//! damaged comes first. The period is measured in uptime, as all ages are.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::error::Result;
use super::examine::{Damage, Health, Look, Pace};
use crate::meta::{ScrubRecord, ScrubTotals};
use crate::oci::{Digest, Shard};

/// Contents of one page of rows.
const PAGE_LENGTH: usize = 256;
/// Suspects that wait; more are found by the pass.
const SUSPECTS_MAX: usize = 1024;
/// How often the place of a pass is written down.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// Uptime before the first pass: a store that was just set up has other things to do.
const FIRST_PASS_AFTER: Duration = Duration::from_secs(3600);
/// How often to look whether a pass is due, and to try again after an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the store is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubOptions {
    /// `kelson.scrub.period`: from the begin of a pass to that of the next.
    pub period: Duration,
    /// `kelson.scrub.rate`: bytes read in a second.
    pub bytes_per_second: u64,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(14 * 24 * 3600), bytes_per_second: 16 << 20 }
    }
}

/// What requests found to be damaged, until it was examined.
#[derive(Debug, Default)]
pub struct Suspects {
    waiting: Mutex<BTreeSet<Digest>>,
    wanted: Notify,
}

impl Suspects {
    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, digest: &Digest) {
        let mut waiting = self.waiting();
        if waiting.len() < SUSPECTS_MAX {
            waiting.insert(*digest);
        }
        drop(waiting);
        self.wanted.notify_one();
    }

    fn take(&self) -> Option<Digest> {
        self.waiting().pop_first()
    }
}

/// What the scrub has done, for commands and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Passes that reached their end.
    pub passes: u64,
    /// When the last one did: milliseconds since the Unix epoch; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<u64>,
    /// Whether a pass is under way.
    pub running: bool,
    /// How much of it is done, in percent; 100 between two passes.
    pub done_percent: u64,
    /// Contents compared in this pass, or in the last one.
    pub contents: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Contents found to be damaged.
    pub damaged: u64,
    /// Contents that could not be read for a reason that is no damage.
    pub unreadable: u64,
    /// Files without a row.
    pub orphans: u64,
}

/// What was found in a page of contents.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Contents that were looked at.
    pub contents: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Bytes of those that were read.
    pub read_bytes: u64,
    /// Everything but sound contents.
    pub unsound: Vec<(Digest, Health)>,
    /// The last content that was looked at.
    pub last: Option<Digest>,
    /// Whether the shard has more.
    pub more: bool,
}

impl Registry {
    /// Somebody met signs of damage: the content is examined soon.
    pub(super) fn suspect(&self, digest: &Digest) {
        self.inner.suspects.add(digest);
    }

    /// How far the scrub is, and what it has found.
    pub async fn scrub_status(&self) -> Result<ScrubStatus> {
        let ScrubRecord { passes, finished_at, shard, totals, .. } =
            self.inner.meta.scrub().await?;
        Ok(ScrubStatus {
            passes,
            finished_at_ms: (passes > 0).then_some(finished_at.0),
            running: shard.is_some(),
            done_percent: shard
                .map_or(100, |shard| u64::from(shard) * 100 / u64::from(Shard::COUNT)),
            contents: totals.contents,
            size_bytes: totals.size_bytes,
            damaged: totals.damaged,
            unreadable: totals.unreadable,
            orphans: totals.orphans,
        })
    }

    /// Looks at a page of the contents of `shard` after `after`.
    pub(super) async fn examine_page(
        &self,
        shard: Shard,
        after: Option<&Digest>,
        look: &(dyn Fn(&Digest) -> Look + Sync),
        pace: &mut Pace,
    ) -> Result<Examined> {
        let page = self.inner.meta.contents(shard, after, PAGE_LENGTH).await?;
        let mut examined = Examined { more: page.more, ..Examined::default() };
        for (digest, row) in page.items {
            let look = look(&digest);
            let health = self.examine(&digest, look, pace).await?;
            if pace.is_stopped() {
                examined.more = true;
                break;
            }
            examined.contents += 1;
            examined.size_bytes = examined.size_bytes.saturating_add(row.size_bytes);
            let read_bytes = if look.read { row.size_bytes } else { 0 };
            examined.read_bytes = examined.read_bytes.saturating_add(read_bytes);
            if !matches!(health, Health::Sound | Health::Gone) {
                examined.unsound.push((digest, health));
            }
            examined.last = Some(digest);
        }
        Ok(examined)
    }

    /// Files of `shard` that no row names, with their lengths. A push that has its file already and
    /// its row not yet holds the stripe.
    pub(super) async fn orphans(
        &self,
        files: Vec<(Digest, u64)>,
        shard: Shard,
    ) -> Result<Vec<(Digest, u64)>> {
        let mut unnamed: std::collections::BTreeMap<_, _> = files.into_iter().collect();
        let mut after = None;
        while !unnamed.is_empty() {
            let page = self.inner.meta.contents(shard, after.as_ref(), PAGE_LENGTH).await?;
            for (digest, _) in &page.items {
                unnamed.remove(digest);
            }
            after = page.items.last().map(|(digest, _)| *digest);
            if !page.more {
                break;
            }
        }
        let mut orphans = Vec::new();
        for (digest, size_bytes) in unnamed {
            let _stripe = self.inner.stripes.lock(&digest).await;
            // What cannot be opened is there, too.
            let is_there = !matches!(self.inner.blobs.open(&digest).await, Ok(None));
            if is_there && self.inner.meta.stored(&digest).await?.is_none() {
                orphans.push((digest, size_bytes));
            }
        }
        Ok(orphans)
    }

    /// Goes on with the pass that is under way, or begins one, until its end or until `stop`.
    pub async fn scrub_once(
        &self,
        bytes_per_second: Option<u64>,
        stop: CancellationToken,
    ) -> Result<ScrubRecord> {
        let mut record = self.inner.meta.scrub().await?;
        if record.shard.is_none() {
            record.started_uptime_seconds = self.uptime_seconds();
            (record.shard, record.after) = (Some(0), None);
            record.totals = ScrubTotals::default();
            tracing::info!(pass = record.passes + 1, "the scrub begins a pass");
        }
        let mut pace = Pace::new(bytes_per_second, stop);
        let mut saved = self.inner.clock.monotonic();
        while let Some(number) = record.shard {
            match Shard::from_number(number) {
                Some(shard) => self.scrub_step(shard, &mut record, &mut pace).await?,
                None => self.end_pass(&mut record),
            }
            let now = self.inner.clock.monotonic();
            let stopped = pace.is_stopped();
            if record.shard.is_none() || stopped || now - saved >= CHECKPOINT {
                self.inner.meta.save_scrub(record).await?;
                saved = now;
            }
            if stopped {
                break;
            }
        }
        Ok(record)
    }

    /// Examines one page, and the files of the shard after its last one.
    async fn scrub_step(
        &self,
        shard: Shard,
        record: &mut ScrubRecord,
        pace: &mut Pace,
    ) -> Result<()> {
        let look = |_: &Digest| Look { read: true, contain: true };
        let after = record.after;
        let page = self.examine_page(shard, after.as_ref(), &look, pace).await?;
        record.after = page.last.or(after);
        let totals = &mut record.totals;
        totals.contents += page.contents;
        totals.size_bytes = totals.size_bytes.saturating_add(page.size_bytes);
        for (digest, health) in &page.unsound {
            match health {
                // Counted when it was quarantined.
                Health::Damaged(Damage::Quarantined, _) => {}
                Health::Damaged(..) => totals.damaged += 1,
                Health::Unreadable(error) => {
                    totals.unreadable += 1;
                    tracing::error!(blob.digest = %digest, %error, "a content cannot be read");
                }
                Health::Gone | Health::Sound => {}
            }
        }
        if page.more || pace.is_stopped() {
            return Ok(());
        }
        match self.inner.blobs.shard_files(shard).await {
            Ok(listed) => totals.orphans += self.orphans(listed.files, shard).await?.len() as u64,
            // One directory that cannot be read must not keep the scrub from the others.
            Err(error) => {
                totals.unreadable += 1;
                tracing::error!(%error, "a directory of the tree of blobs cannot be read");
            }
        }
        (record.shard, record.after) = (record.shard.map(|number| number + 1), None);
        Ok(())
    }

    fn end_pass(&self, record: &mut ScrubRecord) {
        record.shard = None;
        record.passes += 1;
        record.finished_at = self.inner.clock.now();
        let ScrubTotals { contents, size_bytes, damaged, unreadable, orphans } = record.totals;
        tracing::info!(
            contents,
            size_bytes,
            damaged,
            unreadable,
            orphans,
            "the scrub ended a pass"
        );
        if orphans > 0 {
            tracing::warn!(orphans, "files without a row; `kelson fsck --repair` moves them away");
        }
    }

    async fn examine_suspects(&self, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled()
            && let Some(digest) = self.inner.suspects.take()
        {
            let look = Look { read: true, contain: true };
            let mut pace = Pace::new(None, stop.clone());
            self.examine(&digest, look, &mut pace).await?;
        }
        Ok(())
    }

    /// Scrubs as its options say, and examines what requests suspect at once, until `stop`.
    /// Also where clients may only read: what is damaged must not be served there either.
    pub async fn run_scrub(&self, stop: CancellationToken) {
        tokio::join!(self.run_suspects(&stop), self.run_passes(&stop));
    }

    async fn run_suspects(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = self.inner.suspects.wanted.notified() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.examine_suspects(stop).await {
                tracing::error!(%error, "a suspected content could not be examined");
            }
        }
    }

    async fn run_passes(&self, stop: &CancellationToken) {
        let Some(options) = self.inner.options.scrub else { return };
        while !stop.is_cancelled() {
            if let Err(error) = self.scrub_if_due(options, stop).await {
                tracing::error!(%error, "the scrub could not go on");
            }
            tokio::select! {
                () = self.inner.clock.sleep(PATIENCE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn scrub_if_due(&self, options: ScrubOptions, stop: &CancellationToken) -> Result<()> {
        if !self.is_ready() {
            return Ok(());
        }
        let record = self.inner.meta.scrub().await?;
        let period = if record.passes == 0 { FIRST_PASS_AFTER } else { options.period };
        let due_seconds = record.started_uptime_seconds.saturating_add(period.as_secs());
        if record.shard.is_some() || self.uptime_seconds() >= due_seconds {
            self.scrub_once(Some(options.bytes_per_second), stop.clone()).await?;
        }
        Ok(())
    }
}
