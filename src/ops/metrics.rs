//! What monitoring asks: counters since the start of the process, and gauges.
//!
//! Names begin with `kelson_` and end with their unit; docs/METRICS.md lists them.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of damaged contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DamageLabels {
    /// What is wrong, the word that `kelson fsck` has for it.
    pub damage: &'static str,
}

/// Every metric of a process. Each handle may be changed from any thread.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Registry,
    /// Damaged contents that were found, by what is wrong.
    pub damaged_contents: Family<DamageLabels, Counter>,
    /// Contents that were put into quarantine.
    pub quarantined_contents: Counter,
    /// Links, manifests and contents that the collector removed.
    pub collected_links: Counter,
    /// See [`Self::collected_links`].
    pub collected_manifests: Counter,
    /// See [`Self::collected_links`].
    pub collected_contents: Counter,
    /// Bytes of those contents.
    pub collected_size_bytes: Counter,
    /// Files that the collector could not remove.
    pub collector_failures: Counter,
    /// Whether pushes are taken: 1 or 0.
    pub ready: Gauge,
    /// Passes of the scrub over the whole store.
    pub scrub_passes: Gauge,
    /// How much of a pass is done, in percent.
    pub scrub_done_percent: Gauge,
    /// When the last pass ended: seconds since the Unix epoch; 0 before the first.
    pub scrub_finished_seconds: Gauge,
    /// Contents that this pass, or the last one, compared.
    pub scrub_contents: Gauge,
    /// Of these, how many were damaged.
    pub scrub_damaged: Gauge,
    /// Of these, how many could not be read.
    pub scrub_unreadable: Gauge,
    /// Files without a row that it met.
    pub scrub_orphans: Gauge,
}

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Self {
        let mut new = Self::default();
        let registry = &mut new.registry;
        let counters = [
            ("quarantined_contents", "Contents put into quarantine", &new.quarantined_contents),
            ("collected_links", "Blob links that the collector removed", &new.collected_links),
            (
                "collected_manifests",
                "Manifests that the collector removed",
                &new.collected_manifests,
            ),
            ("collected_contents", "Contents that the collector removed", &new.collected_contents),
            ("collected_bytes", "Bytes of the contents removed", &new.collected_size_bytes),
            ("collector_failures", "Files that could not be removed", &new.collector_failures),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("kelson_{name}"), help, counter.clone());
        }
        let damaged = new.damaged_contents.clone();
        registry.register("kelson_damaged_contents", "Damaged contents that were found", damaged);
        let gauges = [
            ("ready", "Whether pushes are taken", &new.ready),
            ("scrub_passes", "Passes of the scrub over the whole store", &new.scrub_passes),
            ("scrub_done_percent", "How much of a pass is done", &new.scrub_done_percent),
            (
                "scrub_finished_timestamp_seconds",
                "When the last pass ended, 0 before the first",
                &new.scrub_finished_seconds,
            ),
            ("scrub_contents", "Contents compared in this or the last pass", &new.scrub_contents),
            ("scrub_damaged", "Of these, those that were damaged", &new.scrub_damaged),
            ("scrub_unreadable", "Of these, those that could not be read", &new.scrub_unreadable),
            ("scrub_orphans", "Files without a row in this or the last pass", &new.scrub_orphans),
        ];
        for (name, help, gauge) in gauges {
            registry.register(format!("kelson_{name}"), help, gauge.clone());
        }
        new
    }

    /// All of them in the text format of OpenMetrics 1.0, which Prometheus reads.
    ///
    /// # Errors
    /// None that can happen: a text takes everything.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_are_told_with_what_they_mean() {
        let metrics = Metrics::new();
        metrics.damaged_contents.get_or_create(&DamageLabels { damage: "wrong_bytes" }).inc();
        metrics.collected_size_bytes.inc_by(4096);
        metrics.ready.set(1);
        let text = metrics.render().unwrap();
        for line in [
            "# HELP kelson_collected_bytes Bytes of the contents removed.",
            "# TYPE kelson_collected_bytes counter",
            "kelson_collected_bytes_total 4096",
            "kelson_damaged_contents_total{damage=\"wrong_bytes\"} 1",
            "# TYPE kelson_ready gauge",
            "kelson_ready 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let documented = include_str!("../../docs/METRICS.md");
        let text = Metrics::new().render().unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for name in names.filter_map(|line| line.split(' ').next()) {
            assert!(documented.contains(&format!("`{name}")), "{name}");
        }
    }
}
