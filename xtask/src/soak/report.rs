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
    /// Whether it grows by more than its uncertainty and its floor explain; `None` where that is not judged.
    grows: Option<bool>,
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

/// What goes on for less than this after the warm-up, in seconds, may still be warming up: its growth is not judged.
const SHORTEST: f64 = 300.0;

/// What a figure may grow by in an hour, beyond its uncertainty. The least that malloc gives out is 32 bytes: lost with each of
/// the 144,000 requests that an agent makes in an hour at the default rate, they are 4.4 MiB.
const MEMORY_FLOOR: f64 = 2.0;
/// One, come in the part of twenty minutes that counts, is four in an hour.
const COUNT_FLOOR: f64 = 4.0;

impl Report {
    pub(crate) fn new(
        lasted: Duration,
        warm_up: f64,
        watched: &[Watched],
        latencies: &[(f64, Percentiles)],
        outcomes: Outcomes,
    ) -> Report {
        let begin = lasted.as_secs_f64() * warm_up;
        let is_judged = lasted.as_secs_f64() - begin >= SHORTEST;
        let mut rows = Vec::new();
        let mut row = |of: &str, figure, unit, floor: Option<f64>, samples: Vec<(f64, f64)>| {
            let samples: Vec<_> = samples.into_iter().filter(|(at, _)| *at >= begin).collect();
            let Some(trend) = Trend::of(&samples) else { return };
            let (in_eight_hours, eight_hours_uncertainty) = (trend.per_hour * EIGHT, trend.uncertainty * EIGHT);
            let (of, grows) = (of.to_owned(), floor.filter(|_| is_judged).map(|floor| trend.is_beyond(floor)));
            rows.push(Row { of, figure, unit, trend, in_eight_hours, eight_hours_uncertainty, grows });
        };
        for process in watched {
            let over = |figure: fn(&Sample) -> f64| process.samples.iter().map(|s| (s.at, figure(s))).collect();
            row(&process.name, "memory", "MiB", Some(MEMORY_FLOOR), over(|sample| sample.resident / MIB));
            row(&process.name, "descriptors", "", Some(COUNT_FLOOR), over(|sample| sample.descriptors));
            row(&process.name, "threads", "", Some(COUNT_FLOOR), over(|sample| sample.threads));
        }
        // How long an answer takes is the machine's affair as much as ours.
        row("requests", "median latency", "µs", None, latencies.iter().map(|(at, p)| (*at, p.p50)).collect());
        row("requests", "99th percentile", "µs", None, latencies.iter().map(|(at, p)| (*at, p.p99)).collect());
        Report { minutes: lasted.as_secs_f64() / 60.0, warm_up_minutes: begin / 60.0, outcomes, rows }
    }

    /// Whether every request had its right answer.
    pub(crate) fn is_right(&self) -> bool {
        self.outcomes.failed == 0 && self.outcomes.answered == self.outcomes.asked
    }

    /// What grows as a leak does.
    pub(crate) fn growing(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter(|row| row.grows == Some(true)).map(|row| format!("{} of {}", row.figure, row.of))
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["process", "figure", "after the warm-up", "growth per hour", "in eight hours", "a leak"]);
        for row in &self.rows {
            let unit = if row.unit.is_empty() { String::new() } else { format!(" {}", row.unit) };
            table.add_row([
                row.of.clone(),
                row.figure.to_owned(),
                format!("{:.1}{unit}", row.trend.start),
                format!("{:+.2} ± {:.2}{unit}", row.trend.per_hour, row.trend.uncertainty),
                format!("{:+.1} ± {:.1}{unit}", row.in_eight_hours, row.eight_hours_uncertainty),
                match row.grows {
                    Some(true) => "**yes**",
                    Some(false) => "no",
                    None => "–",
                }
                .to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A soak whose only process held this at each second; its latencies rise all the while.
    fn report(minutes: u32, held: impl Fn(f64) -> Sample) -> Report {
        let seconds: Vec<f64> = (0..minutes * 20).map(|n| f64::from(n) * 3.0).collect();
        let samples = seconds.iter().map(|at| held(*at)).collect();
        let latencies: Vec<_> = seconds.iter().map(|at| (*at, Percentiles { p50: *at, p99: 2.0 * at })).collect();
        let outcomes = Outcomes { asked: 100, answered: 100, failed: 0 };
        let watched = [Watched { name: "C".to_owned(), pid: 1, samples }];
        Report::new(Duration::from_secs(u64::from(minutes) * 60), 0.25, &watched, &latencies, outcomes)
    }

    fn growing(held: impl Fn(f64) -> Sample) -> Vec<String> {
        report(20, held).growing().collect()
    }

    /// From 0 to 1, with no order to it.
    fn noise(at: f64) -> f64 {
        (at / 3.0 * 7919.0) % 13.0 / 13.0
    }

    /// What a healthy process holds.
    fn healthy(at: f64) -> Sample {
        Sample { at, resident: (20.0 + noise(at)) * MIB, descriptors: 12.0 + (noise(at) * 2.0).floor(), threads: 4.0 }
    }

    #[test]
    fn what_goes_up_and_down_is_no_leak() {
        for shift in 0..13 {
            let shifted = |at| Sample { at, ..healthy(at + 3.0 * f64::from(shift)) };
            assert_eq!(growing(shifted), [""; 0], "shifted by {shift}");
        }
    }

    #[test]
    fn what_grows_in_the_warm_up_or_all_at_once_or_shrinks_is_no_leak() {
        assert_eq!(growing(|at| Sample { resident: 8.0 * MIB + at.min(300.0) * 1e5, ..healthy(at) }), [""; 0]);
        let step = |at| if at < 700.0 { 0.0 } else { 1.0 };
        assert_eq!(
            growing(|at| Sample { descriptors: 12.0 + step(at), threads: 4.0 + step(at), ..healthy(at) }),
            [""; 0]
        );
        assert_eq!(growing(|at| Sample { resident: (90.0 - at / 20.0) * MIB, ..healthy(at) }), [""; 0]);
    }

    #[test]
    fn thirty_two_bytes_for_each_request_are_a_leak() {
        let leaking = |at| Sample { resident: healthy(at).resident + 40.0 * at * 32.0, ..healthy(at) };
        assert_eq!(growing(leaking), ["memory of C"]);
        assert!(report(20, leaking).table().contains("**yes**"));
    }

    #[test]
    fn growth_in_a_few_minutes_is_told_and_not_judged() {
        let warming = |at| Sample { resident: healthy(at).resident + at * 1e4, ..healthy(at) };
        assert_eq!(report(6, warming).growing().count(), 0);
        let table = report(6, warming).table();
        assert!(table.lines().any(|row| row.contains("memory") && row.contains('±') && row.contains('–')), "{table}");
        assert_eq!(report(7, warming).growing().count(), 1);
    }

    #[test]
    fn a_descriptor_or_a_thread_in_each_minute_is_a_leak() {
        let leaking = |at: f64| Sample { descriptors: healthy(at).descriptors + (at / 60.0).floor(), ..healthy(at) };
        assert_eq!(growing(leaking), ["descriptors of C"]);
        assert_eq!(growing(|at| Sample { threads: 4.0 + (at / 60.0).floor(), ..healthy(at) }), ["threads of C"]);
    }

    #[test]
    fn each_figure_is_told_for_eight_hours() {
        let table = report(20, healthy).table();
        for figure in ["memory", "descriptors", "threads", "median latency", "99th percentile"] {
            let row = table.lines().find(|line| line.contains(figure)).expect("a row");
            assert_eq!(row.matches('±').count(), 2, "by the hour and by eight: {row}");
        }
        // One µs more in each second.
        assert!(table.lines().any(|line| line.contains("median") && line.contains("+28800.0 ± 0.0 µs")), "{table}");
    }
}
