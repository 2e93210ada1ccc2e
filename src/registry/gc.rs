//! The collector: the order of its steps (`docs/design/collector.md`). What it decides is decided
//! in transactions of `meta`; here stand the leases, the unlinking, and when to look.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Result};
use super::lease::Lease;
use super::{Registry, Turn, UploadPurging};
use crate::meta::{
    self, Amount, Amounts, BlobState, Candidate, Collected, Garbage, GcQueue, Moment, Standing,
    Use, Waiting,
};
use crate::oci::{Digest, RepositoryName};
use crate::ops::Progress;
use crate::ops::progress::Unit;

/// Rows in one batch: the writer is not kept from others for longer than some milliseconds.
const BATCH_MAX: usize = 128;

/// How long after one pass the next may follow, and how long to sleep at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How one pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pass {
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Untagged manifests go too, once their grace has ended.
    #[serde(default)]
    pub untagged: bool,
    /// Show each thing that goes, or would.
    #[serde(default)]
    pub verbose: bool,
    /// Instead of the configured grace; only where nobody serves the store.
    #[serde(default)]
    pub grace_seconds: Option<u64>,
}

/// A number of things and the bytes of their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Total {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub size_bytes: u64,
}

impl From<Amount> for Total {
    fn from(Amount { count, size_bytes }: Amount) -> Self {
        Self { count, size_bytes }
    }
}

/// What stands in the collector's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queued {
    /// Blob links that no manifest of their repository uses.
    pub links: Total,
    /// Manifests whose subject was deleted, and untagged ones where those go too.
    pub manifests: Total,
    /// Contents that no repository has.
    pub contents: Total,
}

impl Queued {
    fn new(amounts: Amounts, untagged: bool) -> Self {
        let mut manifests = Total::from(amounts.referrers);
        if untagged {
            manifests.count += amounts.untagged.count;
            manifests.size_bytes += amounts.untagged.size_bytes;
        }
        Self { links: amounts.links.into(), manifests, contents: amounts.contents.into() }
    }

    /// Of all kinds.
    pub fn count(&self) -> u64 {
        self.links.count + self.manifests.count + self.contents.count
    }
}

/// What one pass did, or would have done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Links that went.
    pub links: u64,
    /// Manifests that went.
    pub manifests: u64,
    /// Contents that went, and the bytes that the disk got back.
    pub contents: Total,
    /// Links and manifests that stay because a client was told that they are there.
    pub leased: u64,
    /// Contents whose files could not be removed; the next pass tries again.
    pub failed: u64,
    /// Seconds in which nothing is collected yet, because the leases of an earlier process are
    /// not known.
    pub resting_seconds: Option<u64>,
    /// What may go now: after a pass, what it left. This and what follows is filled in by
    /// [`Registry::garbage_collect`] alone.
    pub eligible: Queued,
    /// What may go later.
    pub waiting: Queued,
    /// Untagged manifests, when they are kept.
    pub untagged_kept: u64,
    /// Seconds until the last of what waits may go.
    pub waiting_seconds: Option<u64>,
    /// Abandoned uploads that went, or would.
    pub uploads: u64,
}

/// Uptimes before which rows are eligible, by queue.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    garbage: u64,
    untagged: Option<u64>,
}

impl Registry {
    /// The time for which what loses its last use is kept: the grace or the lease, whichever is
    /// longer, and a second because uptime counts whole ones.
    fn grace_seconds(&self) -> u64 {
        let grace = self.inner.options.gc_grace.max(self.inner.leases.duration());
        grace.as_secs().saturating_add(1)
    }

    /// Now, for a change: anything it leaves without a use becomes garbage after the grace.
    pub(super) fn moment(&self) -> Moment {
        self.moment_after(self.grace_seconds())
    }

    fn moment_after(&self, seconds: u64) -> Moment {
        Moment {
            time: self.inner.clock.now(),
            eligible_uptime_seconds: self.uptime_seconds().saturating_add(seconds),
        }
    }

    /// A lease, taken before the row is read (R7).
    pub(super) fn lease(&self, repo: &RepositoryName, digest: &Digest) -> Lease<'_> {
        self.inner.leases.take(repo, digest, self.inner.clock.monotonic())
    }

    /// Makes sure that what was read stays for a lease; `false` when it is gone, or is about to be
    /// and the disk has no room to keep it.
    pub(super) async fn rely_on(
        &self,
        lease: Lease<'_>,
        repo: &RepositoryName,
        digest: &Digest,
        (usage, standing): (Use, Standing),
    ) -> Result<bool> {
        match standing {
            Standing::Held => Ok(true),
            Standing::Waiting { .. } => {
                lease.keep(self.inner.clock.monotonic());
                Ok(true)
            }
            Standing::Condemned => {
                match self.inner.meta.revive(repo, digest, usage, self.moment()).await {
                    // Whatever takes no writes loses nothing either.
                    Err(meta::Error::Poisoned) => Ok(true),
                    // The collector goes on, and takes it.
                    Err(meta::Error::Full) => Ok(false),
                    revived => Ok(revived?),
                }
            }
        }
    }

    /// Keeps the collector from changing anything while the guard lives; waits for its batch.
    pub async fn pause_collector(&self) -> Turn {
        Turn(std::sync::Arc::clone(&self.inner.collection).lock_owned().await)
    }

    /// What the command does: a pass, a look at what is left, and uploads that were abandoned for
    /// longer than `storage.maintenance.uploadpurging.age`.
    ///
    /// # Errors
    /// Those of the stores, as [`Self::collect_once`].
    pub async fn garbage_collect(
        &self,
        pass: Pass,
        served: bool,
        progress: &Progress,
    ) -> Result<Report> {
        let mut report = self.collect_once(pass, served, progress).await?;
        self.describe_rest(self.bounds(pass), &mut report).await?;
        if let Some(purging) = self.inner.options.upload_purging {
            let dry_run = pass.dry_run || purging.dry_run;
            let purged = self.purge_uploads_once(UploadPurging { dry_run, ..purging }).await?;
            report.uploads = purged.uploads as u64;
        }
        Ok(report)
    }

    /// Makes one pass over what is eligible. `served`: clients may hold leases. What is left is
    /// not looked at: that costs as much as there is of it.
    ///
    /// # Errors
    /// Those of the stores. What was done stays done, and the next pass goes on from there.
    pub async fn collect_once(
        &self,
        pass: Pass,
        served: bool,
        progress: &Progress,
    ) -> Result<Report> {
        let bounds = self.bounds(pass);
        let mut report = Report { dry_run: pass.dry_run, ..Report::default() };
        report.resting_seconds = self.resting().filter(|_| served).map(|rest| rest.as_secs() + 1);
        if pass.dry_run {
            if pass.verbose {
                self.show(bounds, progress).await?;
            }
        } else if report.resting_seconds.is_none() {
            if !self.is_ready() {
                return Err(Error::Poisoned);
            }
            let mut collecting = Collecting { registry: self, pass, served, progress, report };
            let ran = collecting.run(bounds).await;
            report = collecting.report;
            self.count_collected(&report);
            ran?;
            if report.manifests > 0 {
                // What they held waits now; another pass than this one may be for it.
                self.inner.garbage_made.notify_one();
            }
        }
        Ok(report)
    }

    /// How long the leases of an earlier process may still live.
    fn resting(&self) -> Option<Duration> {
        let lease = self.inner.leases.duration();
        lease.checked_sub(self.inner.clock.monotonic()).filter(|rest| !rest.is_zero())
    }

    fn bounds(&self, pass: Pass) -> Bounds {
        let now = self.uptime_seconds().saturating_add(1);
        let garbage = match pass.grace_seconds {
            None => now,
            Some(0) => u64::MAX,
            // Rows say when they may go after the configured grace.
            Some(grace) => {
                now.saturating_add(self.grace_seconds()).saturating_sub(grace.saturating_add(1))
            }
        };
        let age = self.inner.options.gc_untagged.map(|age| age.as_secs().saturating_add(1));
        let untagged = match (pass.untagged, age) {
            (true, _) => Some(garbage),
            (false, Some(age)) => {
                Some(now.saturating_sub(age.saturating_sub(self.grace_seconds())))
            }
            (false, None) => None,
        };
        Bounds { garbage, untagged }
    }

    /// Names what is eligible.
    async fn show(&self, bounds: Bounds, progress: &Progress) -> Result<()> {
        for (queue, before) in bounds.queues() {
            let mut after = None;
            loop {
                let meta = &self.inner.meta;
                let batch = meta.garbage(queue, before, after.as_ref(), BATCH_MAX).await?;
                let Some(last) = batch.last() else { break };
                after = Some(last.clone());
                for candidate in &batch {
                    progress.item(item(candidate)).await;
                }
            }
        }
        Ok(())
    }

    async fn describe_rest(&self, bounds: Bounds, report: &mut Report) -> Result<()> {
        let untagged = bounds.untagged.unwrap_or_default();
        let found = self.inner.meta.waiting(bounds.garbage, untagged).await?;
        let Waiting { eligible, waiting, last_eligible_uptime_seconds: last } = found;
        report.eligible = Queued::new(eligible, bounds.untagged.is_some());
        report.waiting = Queued::new(waiting, bounds.untagged.is_some());
        if bounds.untagged.is_none() {
            report.untagged_kept = eligible.untagged.count + waiting.untagged.count;
        }
        let uptime = self.uptime_seconds();
        report.waiting_seconds =
            last.filter(|_| report.waiting.count() > 0).map(|last| last.saturating_sub(uptime));
        Ok(())
    }

    /// Collects until `stop`: first after one lease, then whenever something is eligible. A
    /// registry that is read-only by configuration is left as it is.
    pub async fn run_collector(&self, stop: CancellationToken) {
        if self.inner.options.read_only {
            return;
        }
        let clock = &self.inner.clock;
        let progress = Progress::until(stop.clone());
        let mut at = clock.monotonic() + self.resting().unwrap_or_default();
        loop {
            let now = clock.monotonic();
            tokio::select! {
                () = clock.sleep(at.saturating_sub(now)) => {}
                () = self.inner.garbage_made.notified(), if at > now + PAUSE_MIN => {
                    at = at.min(now + self.next_pass().await);
                    continue;
                }
                () = stop.cancelled() => return,
            }
            self.inner.leases.sweep(clock.monotonic());
            let pause = match self.collect_once(Pass::default(), true, &progress).await {
                Ok(report) => {
                    report.log();
                    self.next_pass().await
                }
                Err(Error::Abandoned(_)) => return,
                Err(Error::Poisoned) => {
                    tracing::error!("nothing is collected until a restart");
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "garbage could not be collected; trying again later");
                    PAUSE_MAX
                }
            };
            at = clock.monotonic() + pause.max(self.resting().unwrap_or_default());
        }
    }

    /// How long until something is eligible; when that cannot be read, as long as it may be.
    async fn next_pass(&self) -> Duration {
        let mut pause = PAUSE_MAX;
        let now = self.uptime_seconds();
        for (queue, before) in self.bounds(Pass::default()).queues() {
            let Ok(first) = self.inner.meta.garbage(queue, u64::MAX, None, 1).await else {
                return PAUSE_MAX;
            };
            if let Some(first) = first.first() {
                let late = now.saturating_add(1).saturating_sub(before);
                let at = first.eligible_uptime_seconds.saturating_add(late);
                pause = pause.min(Duration::from_secs(at.saturating_sub(now)));
            }
        }
        pause.max(PAUSE_MIN)
    }
}

impl Bounds {
    fn queues(self) -> impl Iterator<Item = (GcQueue, u64)> {
        let untagged = self.untagged.map(|before| (GcQueue::Untagged, before));
        std::iter::once((GcQueue::Garbage, self.garbage)).chain(untagged)
    }
}

impl Report {
    fn log(&self) {
        if self.links + self.manifests + self.contents.count + self.failed == 0 {
            return;
        }
        tracing::info!(
            links = self.links,
            manifests = self.manifests,
            contents = self.contents.count,
            freed_bytes = self.contents.size_bytes,
            leased = self.leased,
            failed = self.failed,
            "garbage collected"
        );
    }
}

fn item(candidate: &Candidate) -> serde_json::Value {
    let kind = match candidate.garbage {
        Garbage::Link => "link",
        Garbage::Referrer | Garbage::Untagged => "manifest",
        Garbage::Content => "content",
    };
    json!({
        "kind": kind,
        "repository": candidate.repository.as_ref().map(ToString::to_string),
        "digest": candidate.digest.to_string(),
        "size_bytes": candidate.size_bytes,
    })
}

/// A pass that is being made.
struct Collecting<'a> {
    registry: &'a Registry,
    pass: Pass,
    served: bool,
    progress: &'a Progress,
    report: Report,
}

impl Collecting<'_> {
    /// Until nothing more goes: what goes may leave behind what may go at once.
    async fn run(&mut self, bounds: Bounds) -> Result<()> {
        self.progress.phase("collecting garbage", None, Unit::Items).await;
        loop {
            let before = self.gone();
            for (queue, eligible_before) in bounds.queues() {
                self.collect_queue(queue, eligible_before).await?;
            }
            if self.gone() == before {
                return Ok(());
            }
        }
    }

    fn gone(&self) -> u64 {
        self.report.links + self.report.manifests + self.report.contents.count
    }

    async fn collect_queue(&mut self, queue: GcQueue, before: u64) -> Result<()> {
        let mut after = None;
        loop {
            let turn = tokio::select! {
                turn = self.registry.pause_collector() => turn,
                abandoned = self.progress.abandoned() => return Err(abandoned.into()),
            };
            let meta = &self.registry.inner.meta;
            let batch = meta.garbage(queue, before, after.as_ref(), BATCH_MAX).await?;
            let Some(last) = batch.last() else { return Ok(()) };
            after = Some(last.clone());
            let gone = self.collect_batch(batch).await?;
            drop(turn);
            for candidate in &gone {
                self.progress.item(item(candidate)).await;
            }
            self.progress.advance(self.gone())?;
        }
    }

    /// T1, T2, unlink, T3. Returns what is to be shown, once nobody waits for the turn.
    async fn collect_batch(&mut self, batch: Vec<Candidate>) -> Result<Vec<Candidate>> {
        let inner = &self.registry.inner;
        let condemned = inner.meta.condemn(batch).await?;
        let now = inner.clock.monotonic();
        let looks = self.served;
        // A mutant: the race test must notice a collector that does not look at the leases.
        #[cfg(feature = "failpoints")]
        let looks = looks && !crate::disk::failpoint::is_mutant("no-leases");
        let (leased, free): (Vec<_>, Vec<_>) = condemned.into_iter().partition(|candidate| {
            let repository = candidate.repository.as_ref().filter(|_| looks);
            let lease = |repo| inner.leases.leased_until(repo, &candidate.digest, now);
            repository.and_then(lease).is_some()
        });
        let lease_seconds = if self.served { inner.leases.duration().as_secs() + 1 } else { 0 };
        let moment = self.registry.moment_after(lease_seconds);
        if !leased.is_empty() {
            self.report.leased += leased.len() as u64;
            inner.meta.spare(leased, moment.eligible_uptime_seconds).await?;
        }
        let shown = if self.pass.verbose { free.clone() } else { Vec::new() };
        let Collected { links, manifests, contents } = inner.meta.collect(free, moment).await?;
        self.report.links += links;
        self.report.manifests += manifests;
        self.unlink(contents).await?;
        Ok(shown)
    }

    /// Removes the files of contents that are unlinking, then their rows. A publish holds the
    /// same stripes until its facts are committed, or known to be refused.
    async fn unlink(&mut self, contents: Vec<Digest>) -> Result<()> {
        if contents.is_empty() {
            return Ok(());
        }
        let inner = &self.registry.inner;
        let _stripes = inner.stripes.lock_all(contents.iter()).await;
        let mut gone = Vec::with_capacity(contents.len());
        for digest in contents {
            let stored = inner.meta.stored(&digest).await?;
            if stored.is_none_or(|blob| blob.state != BlobState::Unlinking) {
                continue;
            }
            match inner.blobs.remove(&digest).await.map_err(Error::from) {
                Ok(_) => gone.push(digest),
                Err(Error::Poisoned) => return Err(Error::Poisoned),
                Err(error) => {
                    self.report.failed += 1;
                    tracing::error!(blob.digest = %digest, %error, "a file cannot be removed");
                }
            }
        }
        let forgotten = inner.meta.forget_contents(gone).await?;
        self.report.contents.count += forgotten.count;
        self.report.contents.size_bytes += forgotten.size_bytes;
        Ok(())
    }
}
