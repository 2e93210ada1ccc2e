//! Removing abandoned uploads. Ages are accumulated uptime: a jump of the wall clock, or a long
//! stop, removes nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::Result;
use super::sessions::{Session, State};
use super::{Registry, UploadPurging};

/// The first run comes so long after the start, when clients that go on have come back.
const FIRST_RUN_AFTER: Duration = Duration::from_secs(600);

/// Sessions looked up at once.
const BATCH_MAX: usize = 100;

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Sessions that were removed, or would have been.
    pub uploads: usize,
}

impl Registry {
    /// Removes every session that is older than the configured age and that nobody is writing to.
    pub async fn purge_uploads_once(&self, options: UploadPurging) -> Result<Report> {
        let mut report = Report::default();
        let before = self.uptime_seconds().saturating_sub(options.age.as_secs());
        for session in self.inner.sessions.started_before(before) {
            let Some(mut state) = session.try_idle() else { continue };
            report.uploads += 1;
            if !options.dry_run {
                *state = State::Closed;
                self.abandon(session.id).await?;
            }
        }
        let mut after = None;
        loop {
            let records = self.inner.meta.uploads(before, after, BATCH_MAX).await?;
            let Some(last) = records.last() else { return Ok(report) };
            after = Some((last.started_uptime_seconds, last.id));
            for record in records {
                if self.inner.sessions.get(record.id).is_some() {
                    continue;
                }
                report.uploads += 1;
                if options.dry_run {
                    continue;
                }
                let session = self.inner.sessions.adopt(Session::suspended(record));
                let Some(mut state) = session.try_idle() else { continue };
                *state = State::Closed;
                self.abandon(session.id).await?;
            }
        }
    }

    /// Purges soon after the start and then at the configured interval, until `stop`. A server that
    /// is restarted every night purges, too.
    pub async fn run_purge(&self, stop: CancellationToken) {
        let Some(options) = self.inner.options.upload_purging else { return };
        let mut pause = options.interval.min(FIRST_RUN_AFTER);
        loop {
            tokio::select! {
                () = self.inner.clock.sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = options.interval;
            match self.purge_uploads_once(options).await {
                Ok(report) => tracing::info!(
                    uploads = report.uploads,
                    dry_run = options.dry_run,
                    "abandoned uploads purged"
                ),
                Err(error) => tracing::error!(%error, "abandoned uploads could not be purged"),
            }
        }
    }
}
