//! What a soak found, as a table and as JSON.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::load::Outcomes;
use super::trend::Trend;
use super::{Sample, Watched};

/// Latencies of an interval, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Percentiles {
    p50: f64,
    p99: f64,
}

impl Percentiles {
    pub(crate) fn of(latencies: &mut [Duration]) -> Percentiles {
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index.min(latencies.len().saturating_sub(1))).map_or(0.0, |value| value.as_secs_f64() * 1e6)
        };
        Percentiles { p50: at(0.50), p99: at(0.99) }
    }
}

/// How one figure of one process, or of the requests, went.
#[derive(Debug, Serialize)]
struct Row {
    of: String,
    figure: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    trend: Trend,
    /// What the line comes to after eight hours, beyond its start.
    in_eight_hours: f64,
    eight_hours_uncertainty: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    minutes: f64,
    warm_up_minutes: f64,
    #[serde(flatten)]
    outcomes: Outcomes,
    rows: Vec<Row>,
}

const EIGHT: f64 = 8.0;
const MIB: f64 = 1024.0 * 1024.0;

impl Report {
    pub(crate) fn new(
        lasted: Duration,
        warm_up: f64,
        watched: &[Watched],
        latencies: &[(f64, Percentiles)],
        outcomes: Outcomes,
    ) -> Report {
        let begin = lasted.as_secs_f64() * warm_up;
        let mut rows = Vec::new();
        let mut row = |of: &str, figure, unit, samples: Vec<(f64, f64)>| {
            let samples: Vec<_> = samples.into_iter().filter(|(at, _)| *at >= begin).collect();
            let Some(trend) = Trend::of(&samples) else { return };
            let (in_eight_hours, eight_hours_uncertainty) = (trend.per_hour * EIGHT, trend.uncertainty * EIGHT);
            rows.push(Row { of: of.to_owned(), figure, unit, trend, in_eight_hours, eight_hours_uncertainty });
        };
        for process in watched {
            let over = |figure: fn(&Sample) -> f64| process.samples.iter().map(|s| (s.at, figure(s))).collect();
            row(&process.name, "memory", "MiB", over(|sample| sample.resident / MIB));
            row(&process.name, "descriptors", "", over(|sample| sample.descriptors));
            row(&process.name, "threads", "", over(|sample| sample.threads));
        }
        row("requests", "median latency", "µs", latencies.iter().map(|(at, p)| (*at, p.p50)).collect());
        row("requests", "99th percentile", "µs", latencies.iter().map(|(at, p)| (*at, p.p99)).collect());
        Report { minutes: lasted.as_secs_f64() / 60.0, warm_up_minutes: begin / 60.0, outcomes, rows }
    }

    /// Whether every request had its right answer.
    pub(crate) fn is_right(&self) -> bool {
        self.outcomes.failed == 0 && self.outcomes.answered == self.outcomes.asked
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["process", "figure", "after the warm-up", "growth per hour", "in eight hours"]);
        for row in &self.rows {
            let unit = if row.unit.is_empty() { String::new() } else { format!(" {}", row.unit) };
            table.add_row([
                row.of.clone(),
                row.figure.to_owned(),
                format!("{:.1}{unit}", row.trend.start),
                format!("{:+.2} ± {:.2}{unit}", row.trend.per_hour, row.trend.uncertainty),
                format!("{:+.1} ± {:.1}{unit}", row.in_eight_hours, row.eight_hours_uncertainty),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let Outcomes { asked, answered, failed } = self.outcomes;
        format!(
            "{table}\n\n{:.1} minutes, the first {:.1} of them warm-up: {asked} requests, {answered} answered rightly, {failed} failed",
            self.minutes, self.warm_up_minutes
        )
    }
}
