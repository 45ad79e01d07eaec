//! When a client counts, and for how long: the same for every contender.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::process::cpu_seconds;
use crate::report::Measured;

/// How long to measure.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Extent {
    /// How long requests go to and fro before counting begins, in seconds
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// How long to count, in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Send exactly so many requests instead, and count them all
    #[arg(long)]
    requests: Option<u64>,
    /// A process whose processor time is measured meanwhile
    #[arg(long, value_name = "PID")]
    watch: Option<u32>,
}

/// Counts the requests and replies of one thread and knows when it is enough.
#[derive(Debug)]
pub(crate) struct Meter {
    extent: Extent,
    begin: Instant,
    sent: u64,
    received: u64,
    first: Option<Mark>,
    last: Option<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    received: u64,
    cpu_seconds: f64,
}

impl Meter {
    /// Time begins now.
    pub(crate) fn new(extent: &Extent) -> Self {
        Meter { extent: extent.clone(), begin: Instant::now(), sent: 0, received: 0, first: None, last: None }
    }

    /// Whether one more request is to be sent; it counts as sent then.
    pub(crate) fn send(&mut self) -> bool {
        let wanted = self.extent.requests.is_none_or(|requests| self.sent < requests);
        self.sent += u64::from(wanted);
        wanted
    }

    /// So many replies came in one batch; whether to go on.
    pub(crate) fn receive(&mut self, replies: u64) -> Result<bool> {
        if self.extent.requests.is_some() && self.first.is_none() {
            self.first = Some(self.mark(self.begin)?);
        }
        self.received += replies;
        let now = Instant::now();
        let finished = match (self.extent.requests, self.first) {
            (Some(requests), _) => self.received >= requests,
            (None, Some(first)) => now - first.at >= Duration::from_secs_f64(self.extent.seconds),
            (None, None) => {
                if now - self.begin >= Duration::from_secs_f64(self.extent.warm_up) {
                    self.first = Some(self.mark(now)?);
                }
                false
            }
        };
        if finished {
            self.last = Some(self.mark(now)?);
        }
        Ok(!finished)
    }

    /// Whether the time before counting is over.
    pub(crate) fn counts(&self) -> bool {
        self.first.is_some()
    }

    /// What was counted.
    pub(crate) fn measured(&self) -> Result<Measured> {
        let (first, last) = self.first.zip(self.last).context("nothing was measured")?;
        let seconds = (last.at - first.at).as_secs_f64();
        let replies = last.received - first.received;
        Ok(Measured {
            replies,
            seconds,
            rate: replies as f64 / seconds,
            watched_cpu_seconds: self.extent.watch.map(|_| last.cpu_seconds - first.cpu_seconds),
            ..Measured::default()
        })
    }

    fn mark(&self, at: Instant) -> Result<Mark> {
        let cpu_seconds = self.extent.watch.map_or(Ok(0.0), cpu_seconds)?;
        Ok(Mark { at, received: self.received, cpu_seconds })
    }
}

/// Round trips, one at a time: their times, counted as a [`Meter`] says.
#[derive(Debug)]
pub(crate) struct RoundTrips {
    meter: Meter,
    nanoseconds: Histogram<u64>,
}

/// The longest round trip that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

impl RoundTrips {
    pub(crate) fn new(extent: &Extent) -> Result<Self> {
        let longest = u64::try_from(LONGEST.as_nanos())?;
        Ok(RoundTrips { meter: Meter::new(extent), nanoseconds: Histogram::new_with_bounds(1, longest, 3)? })
    }

    /// Makes round trips until it is enough.
    pub(crate) fn run(mut self, mut once: impl FnMut() -> Result<()>) -> Result<Measured> {
        while self.meter.send() {
            let begin = Instant::now();
            once()?;
            let took = u64::try_from(begin.elapsed().as_nanos())?;
            if self.meter.counts() {
                self.nanoseconds.saturating_record(took);
            }
            if !self.meter.receive(1)? {
                break;
            }
        }
        let percentile = |p| Some(self.nanoseconds.value_at_percentile(p) as f64 / 1000.0);
        Ok(Measured { median_us: percentile(50.0), p99_us: percentile(99.0), ..self.meter.measured()? })
    }
}
