//! What is measured, and what repeated measurements come to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::comparison::Comparison;
use super::contender::Contender;

/// What a figure is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    /// Requests answered per second.
    Rate,
    /// Median of the round trips, in microseconds.
    Median,
    /// The round trip that one in a hundred exceeds, in microseconds.
    P99,
    /// Processor time of the broker per 100,000 requests, in seconds.
    BrokerCpu,
    /// How much of one core the broker takes while there are no requests.
    IdleCores,
    /// Growth of the broker's memory with all requests queued, in bytes.
    Queued,
    /// Growth that is left when they are answered, in bytes.
    Kept,
    /// The greatest growth of the broker's memory, in bytes.
    Peak,
    /// Requests without a reply.
    Lost,
    /// Instructions of the broker for each request.
    BrokerInstructions,
    /// Instructions of the client for each request.
    ClientInstructions,
    /// Instructions of the worker for each request.
    WorkerInstructions,
}

impl Quantity {
    /// What it is, for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Quantity::Rate => "requests per second",
            Quantity::Median => "median round trip",
            Quantity::P99 => "99th percentile",
            Quantity::BrokerCpu => "broker's processor time per 100,000 requests",
            Quantity::IdleCores => "share of a core for heartbeats",
            Quantity::Queued => "memory for 100,000 queued requests of 1 KiB",
            Quantity::Kept => "of it kept when they are answered",
            Quantity::Peak => "greatest growth of the broker's memory",
            Quantity::Lost => "requests lost of 100,000 sent at once",
            Quantity::BrokerInstructions => "instructions per request, broker",
            Quantity::ClientInstructions => "instructions per request, client",
            Quantity::WorkerInstructions => "instructions per request, worker",
        }
    }

    /// A figure with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Quantity::Rate => format!("{}/s", with_commas(value)),
            Quantity::Median | Quantity::P99 => format!("{value:.0} µs"),
            Quantity::BrokerCpu => format!("{value:.3} s"),
            Quantity::IdleCores => format!("{:.1} %", value * 100.0),
            Quantity::Queued | Quantity::Kept | Quantity::Peak => format!("{:.1} MB", value / 1e6),
            Quantity::Lost
            | Quantity::BrokerInstructions
            | Quantity::ClientInstructions
            | Quantity::WorkerInstructions => with_commas(value),
        }
    }
}

/// A whole number with its thousands set apart.
fn with_commas(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 && !shown.ends_with('-') {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// What one measurement gave.
pub(crate) type Sample = BTreeMap<Quantity, f64>;

/// What all measurements of a contender gave.
#[derive(Default, Debug)]
pub(crate) struct Figures {
    /// One entry for each repetition; `None` where it failed.
    samples: Vec<Option<Sample>>,
    pub(crate) failures: Vec<String>,
}

/// All figures of a run.
pub(crate) type Results = BTreeMap<Contender, Figures>;

impl Figures {
    pub(crate) fn add(&mut self, sample: &Sample) {
        self.samples.push(Some(sample.clone()));
    }

    pub(crate) fn fail(&mut self, failure: String) {
        self.samples.push(None);
        self.failures.push(failure);
    }

    /// One quantity in the order of the repetitions.
    fn series(&self, quantity: Quantity) -> Vec<Option<f64>> {
        self.samples.iter().map(|sample| sample.as_ref()?.get(&quantity).copied()).collect()
    }

    /// What one quantity comes to, if it was measured at all.
    pub(crate) fn summary(&self, quantity: Quantity) -> Option<Summary> {
        Summary::of(self.series(quantity).into_iter().flatten().collect())
    }
}

/// What a comparison's figures come to: of a ratio, the ratios within each repetition.
pub(crate) fn compare(comparison: &Comparison, results: &Results) -> Option<Summary> {
    let of = results.get(&comparison.of)?.series(comparison.quantity);
    let Some(to) = &comparison.to else { return Summary::of(of.into_iter().flatten().collect()) };
    let to = results.get(to)?.series(comparison.quantity);
    Summary::of(
        of.into_iter().zip(to).filter_map(|(of, to)| Some(of? / to?)).filter(|ratio| ratio.is_finite()).collect(),
    )
}

/// The least, the middle and the greatest of some figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` of nothing.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (*values.get((values.len() - 1) / 2)?, *values.get(values.len() / 2)?);
        Some(Summary { min, median: f64::midpoint(low, high), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::comparison::Target;
    use crate::bench::contender::Load;
    use crate::bench::table::missed;

    fn sample(rate: f64) -> Sample {
        Sample::from([(Quantity::Rate, rate)])
    }

    #[test]
    fn a_summary_of_an_even_number_has_its_median_between_the_two_in_the_middle() {
        assert_eq!(Summary::of(vec![4.0, 1.0, 2.0, 9.0]), Some(Summary { min: 1.0, median: 3.0, max: 9.0 }));
        assert_eq!(Summary::of(vec![5.0]), Some(Summary { min: 5.0, median: 5.0, max: 5.0 }));
        assert_eq!(Summary::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_taken_within_a_repetition_and_failed_ones_are_left_out() {
        let load = Load::RoundTrip;
        let (of, to) = (Contender::Burst, Contender::RawRelay(load));
        let mut results = Results::new();
        for (ours, theirs) in [(Some(1.0), Some(2.0)), (None, Some(100.0)), (Some(30.0), Some(10.0))] {
            for (contender, rate) in [(&of, ours), (&to, theirs)] {
                let figures = results.entry(contender.clone()).or_default();
                match rate {
                    Some(rate) => figures.add(&sample(rate)),
                    None => figures.fail("broken".to_owned()),
                }
            }
        }
        let target = Some(Target::AtLeast(1.0));
        let comparison = Comparison { name: "x", quantity: Quantity::Rate, of, to: Some(to), target };
        assert_eq!(compare(&comparison, &results), Some(Summary { min: 0.5, median: 1.75, max: 3.0 }));
    }

    #[test]
    fn a_target_is_missed_where_the_median_is_beyond_it_and_not_where_there_is_none() {
        let mut results = Results::new();
        results.entry(Contender::Burst).or_default().add(&sample(2.0));
        let is_missed = |target| {
            let (quantity, of) = (Quantity::Rate, Contender::Burst);
            let comparison = Comparison { name: "x", quantity, of, to: None, target };
            missed(&[comparison], &results) == ["x, burst"]
        };
        assert!(is_missed(Some(Target::AtLeast(2.5))) && is_missed(Some(Target::AtMost(1.5))));
        assert!(!is_missed(Some(Target::AtLeast(2.0))) && !is_missed(Some(Target::AtMost(2.0))) && !is_missed(None));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(with_commas(999.6), "1,000");
        assert_eq!(with_commas(12.0), "12");
        assert_eq!(with_commas(1_234_567.0), "1,234,567");
    }
}
