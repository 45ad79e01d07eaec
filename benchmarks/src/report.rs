//! What the programs print: lines of JSON on standard output.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

/// Where a broker or a relay listens.
#[derive(Debug, Serialize)]
pub(crate) struct Listening {
    /// For clients.
    pub(crate) endpoint: String,
    /// For workers.
    pub(crate) workers: String,
    pub(crate) pid: u32,
}

/// A program has done what it does before anything is measured.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    pub(crate) ready: bool,
}

impl Ready {
    pub(crate) const NOW: Ready = Ready { ready: true };
}

/// What a client measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Replies that were counted.
    pub(crate) replies: u64,
    /// In how many seconds.
    pub(crate) seconds: f64,
    /// Replies per second.
    pub(crate) rate: f64,
    /// Round trips in microseconds, where one request was outstanding at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) median_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    /// Processor time that the watched process took meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) watched_cpu_seconds: Option<f64>,
}

/// What became of a flood of requests.
#[derive(Debug, Serialize)]
pub(crate) struct Flooded {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

/// Prints a line at once, also where standard output is a pipe.
pub(crate) fn print(line: &impl Serialize) -> Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, line)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}
