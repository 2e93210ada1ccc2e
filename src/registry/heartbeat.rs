//! Once a minute: the time that the store was open is added up, and `store.json` learns how far
//! the database has come.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Registry;
use super::error::{Error, Result};
use super::identity::Identity;

/// How often.
const INTERVAL: Duration = Duration::from_secs(60);

impl Registry {
    /// Accumulates the uptime since `recorded`, and tells `identity` the committed transactions.
    pub async fn beat_once(&self, recorded: &mut u64, identity: &Identity) -> Result<()> {
        if self.inner.meta.is_poisoned() {
            return Ok(());
        }
        let uptime_seconds = self.uptime_seconds();
        let elapsed_seconds = uptime_seconds.saturating_sub(*recorded);
        if elapsed_seconds > 0 {
            self.inner.meta.advance_uptime(elapsed_seconds).await?;
            *recorded = uptime_seconds;
        }
        let counters = self.inner.meta.counters().await?;
        identity
            .record_transactions(counters.transactions)
            .await
            .map_err(|error| Error::Storage(error.to_string()))
    }

    /// Beats until `stop`, then once more, after everything else was committed.
    pub async fn run_heartbeat(&self, identity: &Identity, stop: CancellationToken) {
        let mut recorded = self.inner.uptime_base_seconds;
        let (mut stopping, mut failing) = (false, false);
        while !stopping {
            tokio::select! {
                () = self.inner.clock.sleep(INTERVAL) => {}
                () = stop.cancelled() => stopping = true,
            }
            match self.beat_once(&mut recorded, identity).await {
                // Said when it begins and when it ends: a full disk stays so for hours.
                Err(error) if !failing => {
                    tracing::error!(%error, "the uptime could not be recorded");
                    failing = true;
                }
                Ok(()) if failing => {
                    tracing::info!("the uptime is recorded again");
                    failing = false;
                }
                _ => {}
            }
        }
    }
}
