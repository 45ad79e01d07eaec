//! `mdctl bench`: what a running broker does, measured from outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use majordomo::aio::{Client, ClientEvent, Inbox, Part};
use majordomo::{
    ConnectionEvent, Error, ErrorKind, EventHook, Message, Protocol, RequestOptions, Stop, WorkerOptions, serve,
};
use serde_json::{Value, json};

use crate::mdctl::{Connection, Failure, print, print_json};
use crate::{signals, table};

/// How long the wait for answers goes on before the clock and the signals are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Latencies above are counted as this.
const LONGEST: Duration = Duration::from_secs(3600);
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The broker's endpoint; that of --broker unless given
    endpoint: Option<String>,
    /// The service that is asked; it should answer at once
    #[arg(default_value = "echo")]
    service: String,
    /// How many requests are outstanding at any moment. Those above the broker's credit, or above 64 over MDP/0.1 and 0.2,
    /// wait in this process, and their latency counts it
    #[arg(long, visible_alias = "concurrency", value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    outstanding: u32,
    /// Size of each request's body, in bytes
    #[arg(long, value_name = "N", default_value_t = 11)]
    size: usize,
    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Serve the service from this process too, by a worker that echoes; workers that are there already take part
    #[arg(long)]
    echo: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= Duration::from_secs(7 * 24 * 3600) => Ok(duration),
        _ => Err("must be more than 0 and at most 7 days".to_owned()),
    }
}

/// Measures and prints the figures. SIGINT and SIGTERM end the measurement early.
pub(crate) fn run(arguments: &Arguments, connection: &Connection, json: bool) -> Result<(), Failure> {
    let endpoints = arguments.endpoint.as_deref().unwrap_or(&connection.broker);
    let stop = signals::stop_flag()?;
    let worker = Stop::new();
    let options = WorkerOptions::new(endpoints, &arguments.service)
        .protocol(connection.protocol()?)
        .prefetch(arguments.outstanding.min(512) as usize);
    if arguments.echo {
        options.validate()?;
    }
    thread::scope(|scope| {
        let serving =
            arguments.echo.then(|| scope.spawn(|| serve(options, &worker, |request| Ok(request.body().clone()))));
        let measured = measure(arguments, connection, endpoints, &stop);
        worker.stop();
        if let Some(serving) = serving {
            serving.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the echo worker panicked")))?;
        }
        let figures = measured?;
        if json { print_json(&figures.to_json()) } else { print(table::pairs(&figures.to_rows()).as_bytes()) }?;
        match figures.failed() {
            0 => Ok(()),
            count => Err(Failure::Requests(count)),
        }
    })
}

fn measure(
    arguments: &Arguments,
    connection: &Connection,
    endpoints: &str,
    stop: &AtomicBool,
) -> Result<Figures, Failure> {
    let mut figures = Figures::new(arguments)?;
    let spoken = Arc::new(Mutex::new(connection.protocol()?));
    let heard = spoken.clone();
    let hook = EventHook::new(move |event| {
        if let ConnectionEvent::Connected { protocol, .. } = event {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = *protocol;
        }
    });
    // What the broker does not grant at once waits in the client: nothing is refused and asked again at once.
    let outstanding = arguments.outstanding as usize;
    let options = connection.options(endpoints)?.max_in_flight(outstanding).max_waiting(outstanding).on_event(hook);
    let mut load = Load::new(Client::with_options(options)?, arguments);
    // One request by itself: it tells whether there is a broker and a service, and makes the connection.
    load.submit(0);
    let first = load.first(stop);
    figures.protocol = *spoken.lock().unwrap_or_else(PoisonError::into_inner);
    match first {
        Some(outcome) => outcome?,
        None => return Ok(figures),
    }
    let bar = live_view(arguments.duration);
    load.run(&mut figures, arguments.duration, stop, &bar);
    bar.finish_and_clear();
    load.client.close();
    Ok(figures)
}

/// A bar on stderr where that is a terminal, otherwise nothing.
fn live_view(duration: Duration) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// A client that always has the same number of requests outstanding.
struct Load<'a> {
    client: Client,
    service: &'a str,
    body: Message,
    options: RequestOptions,
    inbox: Arc<Inbox<ClientEvent>>,
    /// When the request of each token was submitted.
    since: Vec<Instant>,
}

impl Load<'_> {
    fn new(client: Client, arguments: &Arguments) -> Load<'_> {
        let here = thread::current();
        Load {
            client,
            service: &arguments.service,
            body: Message::from_frames(vec![Bytes::from(vec![b'x'; arguments.size])]),
            options: RequestOptions::default(),
            inbox: Inbox::new(move || here.unpark()),
            since: vec![Instant::now(); arguments.outstanding as usize],
        }
    }

    fn submit(&mut self, slot: usize) {
        if let Some(since) = self.since.get_mut(slot) {
            *since = Instant::now();
            self.client.submit_whole(self.service, self.body.clone(), &self.options, &self.inbox, slot as u64);
        }
    }

    /// The outcome of the only request under way; `None` where a signal came first.
    fn first(&self, stop: &AtomicBool) -> Option<majordomo::Result<()>> {
        let mut batch = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            self.inbox.drain(&mut batch);
            for event in batch.drain(..) {
                if let Part::Done(outcome) = event.part {
                    return Some(outcome.map(drop));
                }
            }
            thread::park_timeout(LOOK);
        }
        None
    }

    fn run(&mut self, figures: &mut Figures, duration: Duration, stop: &AtomicBool, bar: &ProgressBar) {
        let begin = Instant::now();
        let mut shown = begin;
        let mut batch = Vec::new();
        (0..self.since.len()).for_each(|slot| self.submit(slot));
        loop {
            let now = Instant::now();
            figures.elapsed = now - begin;
            if figures.elapsed >= duration || stop.load(Ordering::Relaxed) {
                break;
            }
            if now - shown >= LOOK {
                shown = now;
                figures.show(bar);
            }
            self.inbox.drain(&mut batch);
            if batch.is_empty() {
                thread::park_timeout(LOOK.min(duration - figures.elapsed));
            }
            for event in batch.drain(..) {
                let Part::Done(outcome) = event.part else { continue };
                let slot = usize::try_from(event.token).unwrap_or(usize::MAX);
                figures.count(self.since.get(slot).map(Instant::elapsed), outcome.map(drop));
                self.submit(slot);
            }
        }
        figures.unanswered = self.since.len();
    }
}

/// What has been measured.
struct Figures {
    service: String,
    protocol: Protocol,
    size: usize,
    outstanding: u32,
    elapsed: Duration,
    /// Of the answered requests, in nanoseconds.
    latency: Histogram<u64>,
    errors: BTreeMap<&'static str, u64>,
    /// Requests that were on their way when the measurement ended.
    unanswered: usize,
}

impl Figures {
    fn new(arguments: &Arguments) -> majordomo::Result<Figures> {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let latency = Histogram::new_with_bounds(1, longest, 3)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("no histogram: {error}")))?;
        Ok(Figures {
            service: arguments.service.clone(),
            protocol: Protocol::Auto,
            size: arguments.size,
            outstanding: arguments.outstanding,
            elapsed: Duration::ZERO,
            latency,
            errors: BTreeMap::new(),
            unanswered: 0,
        })
    }

    fn count(&mut self, latency: Option<Duration>, outcome: majordomo::Result<()>) {
        match outcome {
            Ok(()) => {
                let nanoseconds = latency.unwrap_or_default().as_nanos();
                self.latency.saturating_record(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            }
            Err(error) => *self.errors.entry(error.kind().name()).or_default() += 1,
        }
    }

    fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Answers in a second; 0 where nothing was measured.
    fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.latency.len() as f64 / seconds } else { 0.0 }
    }

    /// The latencies by name, in microseconds; none where nothing was answered.
    fn latencies(&self) -> Vec<(&'static str, f64)> {
        if self.latency.is_empty() {
            return Vec::new();
        }
        let quantiles = QUANTILES.iter().map(|(name, at)| (*name, self.latency.value_at_quantile(*at)));
        let all = [("min", self.latency.min())].into_iter().chain(quantiles).chain([("max", self.latency.max())]);
        all.map(|(name, nanoseconds)| (name, nanoseconds as f64 / 1000.0)).collect()
    }

    fn show(&self, bar: &ProgressBar) {
        if bar.is_hidden() {
            return;
        }
        bar.set_position(u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX));
        let median = self.latency.value_at_quantile(0.5) as f64 / 1000.0;
        bar.set_message(format!("{:.0}/s  p50 {median:.0} us  {} errors", self.rate(), self.failed()));
    }

    fn to_json(&self) -> Value {
        json!({
            "service": self.service,
            "protocol": self.protocol.name(),
            "size": self.size,
            "outstanding": self.outstanding,
            "seconds": self.elapsed.as_secs_f64(),
            "answered": self.latency.len(),
            "errors": self.errors,
            "unanswered": self.unanswered,
            "per_second": self.rate(),
            "latency_us": self.latencies().into_iter().collect::<BTreeMap<_, _>>(),
        })
    }

    fn to_rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![
            ("service".to_owned(), self.service.clone()),
            ("protocol".to_owned(), self.protocol.name().to_owned()),
            ("body".to_owned(), format!("{} B", self.size)),
            ("outstanding".to_owned(), self.outstanding.to_string()),
            ("measured for".to_owned(), format!("{:.3} s", self.elapsed.as_secs_f64())),
            ("answered".to_owned(), self.latency.len().to_string()),
            ("rate".to_owned(), format!("{:.0}/s", self.rate())),
        ];
        rows.extend(self.latencies().into_iter().map(|(name, us)| (format!("latency {name}"), format!("{us:.1} us"))));
        rows.push(("errors".to_owned(), self.failed().to_string()));
        rows.extend(self.errors.iter().map(|(kind, count)| (format!("errors {kind}"), count.to_string())));
        rows.push(("unanswered at the end".to_owned(), self.unanswered.to_string()));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_the_percentiles_of_what_was_counted() -> majordomo::Result<()> {
        let arguments = Arguments {
            endpoint: None,
            service: "echo".to_owned(),
            outstanding: 1,
            size: 0,
            duration: Duration::from_secs(1),
            echo: false,
        };
        let mut figures = Figures::new(&arguments)?;
        assert_eq!(figures.latencies(), []);
        for us in (1..=1000).rev() {
            figures.count(Some(Duration::from_micros(us)), Ok(()));
        }
        figures.count(Some(Duration::ZERO), Err(Error::new(ErrorKind::Timeout, "late")));
        let expected =
            [("min", 1.0), ("p50", 500.0), ("p90", 900.0), ("p99", 990.0), ("p99.9", 999.0), ("max", 1000.0)];
        let told = figures.latencies();
        // The histogram keeps three digits.
        let is_near = |(told, expected): (&(&str, f64), &(&str, f64))| {
            told.0 == expected.0 && (told.1 - expected.1).abs() <= expected.1 / 1000.0
        };
        assert!(told.len() == expected.len() && told.iter().zip(&expected).all(is_near), "{told:?}");
        Ok(())
    }
}
