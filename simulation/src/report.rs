//! What many worlds came to, in one line.

use std::time::Duration;

use simulation::{Failure, Report};

#[derive(Debug, Default)]
pub(crate) struct Sum {
    worlds: u64,
    requests: usize,
    answered: usize,
    as_asked: usize,
    broken: usize,
    faults: usize,
    pub(crate) failures: Vec<(u64, Failure)>,
}

impl Sum {
    pub(crate) fn add(&mut self, worlds: u64, outcome: &Result<Report, Failure>) {
        self.worlds += worlds;
        if let Ok(report) = outcome {
            self.requests += report.asked;
            self.answered += report.answered;
            self.as_asked += report.as_asked;
            self.broken += report.broken;
            self.faults += report.faults;
        }
    }

    pub(crate) fn merge(&mut self, other: &Sum) {
        self.worlds += other.worlds;
        self.requests += other.requests;
        self.answered += other.answered;
        self.as_asked += other.as_asked;
        self.broken += other.broken;
        self.faults += other.faults;
    }

    pub(crate) fn line(&self, from: u64, seeds: u64, time: Duration) -> String {
        format!(
            "simulate: {seeds} seeds from {from}, {} worlds, {} requests ({} answered, {} ended as their callers brought \
             about, {} broken streams), {} faults, {:.1} s, {} failures",
            self.worlds,
            self.requests,
            self.answered,
            self.as_asked,
            self.broken,
            self.faults,
            time.as_secs_f64(),
            self.failures.len()
        )
    }
}
