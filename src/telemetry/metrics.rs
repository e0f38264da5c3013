//! Metrics, in the OpenMetrics text format. Labels are static words and names of kinds: their number is bounded.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came to its end.
    Done,
    /// It failed for a reason, a static word.
    Failed(&'static str),
    /// It panicked: a bug.
    Panicked,
    /// The object can't be decoded.
    Undecodable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// What others count and the metrics tell.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Writes to the API server that were tried.
    pub writes: Counter,
    /// Objects of lists that could not be decoded.
    pub undecodable: Counter,
    /// Watches that the API server refuses now.
    pub refused_watches: Gauge,
}

/// The operator's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
}

fn duration_buckets() -> Histogram {
    Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0])
}

impl Metrics {
    /// Metrics that tell what is counted elsewhere besides their own.
    #[must_use]
    pub fn new(counted: Counted) -> Self {
        let mut registry = Registry::with_prefix("timetracker_operator");
        let reconciles = Family::<ReconcileLabels, Counter>::default();
        let durations = Family::<KindLabels, Histogram, fn() -> Histogram>::new_with_constructor(
            duration_buckets as fn() -> Histogram,
        );
        registry.register("reconciles", "Reconciles by kind and result", reconciles.clone());
        registry.register("reconcile_duration_seconds", "How long reconciles took", durations.clone());
        registry.register("api_writes", "Writes to the API server that were tried", counted.writes);
        registry.register(
            "undecodable_objects",
            "Objects of lists that could not be decoded and were passed over",
            counted.undecodable,
        );
        registry.register(
            "refused_watches",
            "Watches that the API server refuses: a right is missing, or a definition",
            counted.refused_watches,
        );
        Self { registry: Arc::new(registry), reconciles, durations }
    }

    /// Counts one reconcile.
    pub fn reconciled(&self, kind: &'static str, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Done => "done",
            Outcome::Failed(reason) => reason,
            Outcome::Panicked => "Panicked",
            Outcome::Undecodable => "Undecodable",
        };
        self.reconciles.get_or_create(&ReconcileLabels { kind, result }).inc();
        self.durations.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    /// The text that a scraper gets.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new(Counted::default());
        metrics.reconciled("PipelineRun", Outcome::Failed("Conflict"), Duration::from_millis(3));
        let text = metrics.text();
        assert!(
            text.contains("timetracker_operator_reconciles_total{kind=\"PipelineRun\",result=\"Conflict\"} 1"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
