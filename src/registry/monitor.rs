//! What monitoring is told: counters that the work itself keeps, and gauges that are read when
//! somebody asks.

use super::Registry;
use super::examine::Damage;
use super::gc::Report;
use crate::meta::Verdict;
use crate::ops::metrics::DamageLabels;

impl Registry {
    /// Every metric, as [`crate::ops::Metrics::render`] writes it. Costs one read of the database;
    /// where that fails, the gauges of the scrub are those of the last time.
    pub async fn metrics(&self) -> String {
        let metrics = &self.inner.metrics;
        metrics.ready.set(i64::from(self.is_ready()));
        match self.scrub_status().await {
            Ok(scrub) => {
                let finished_seconds = scrub.finished_at_ms.unwrap_or_default() / 1000;
                for (gauge, value) in [
                    (&metrics.scrub_passes, scrub.passes),
                    (&metrics.scrub_done_percent, scrub.done_percent),
                    (&metrics.scrub_finished_seconds, finished_seconds),
                    (&metrics.scrub_contents, scrub.contents),
                    (&metrics.scrub_damaged, scrub.damaged),
                    (&metrics.scrub_unreadable, scrub.unreadable),
                    (&metrics.scrub_orphans, scrub.orphans),
                ] {
                    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                }
            }
            Err(error) => tracing::warn!(%error, "metrics without the state of the scrub"),
        }
        metrics.render().unwrap_or_default()
    }

    pub(super) fn count_damage(&self, damage: &Damage, verdict: Verdict) {
        let metrics = &self.inner.metrics;
        let labels = DamageLabels { damage: damage.word() };
        metrics.damaged_contents.get_or_create(&labels).inc();
        if verdict == Verdict::Quarantined {
            metrics.quarantined_contents.inc();
        }
    }

    pub(super) fn count_collected(&self, report: &Report) {
        let metrics = &self.inner.metrics;
        metrics.collected_links.inc_by(report.links);
        metrics.collected_manifests.inc_by(report.manifests);
        metrics.collected_contents.inc_by(report.contents.count);
        metrics.collected_size_bytes.inc_by(report.contents.size_bytes);
        metrics.collector_failures.inc_by(report.failed);
    }
}
