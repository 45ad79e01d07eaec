//! `mdbroker`: a broker until a signal ends it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{ArgAction, Parser};
use majordomo::{Broker, BrokerOptions, ErrorKind, Result};

use crate::{report, signals};

/// Runs a Majordomo broker.
///
/// Clients and workers of MDPX, MDP/0.1 and 0.2 use the same endpoints. Once it listens, it prints one line per endpoint to
/// stdout, `listening on tcp://…`, with the port filled in where `*` or 0 asked for a free one. Logs go to stderr.
/// SIGINT and SIGTERM end it: the workers are told, and the exit status is 0. It is 1 after a failure, 2 for wrong
/// arguments.
#[derive(Parser)]
#[command(name = "mdbroker", version, verbatim_doc_comment)]
struct Arguments {
    /// Endpoint to listen on, for example tcp://*:5555 or ipc:///run/mdbroker.sock; may be given several times
    #[arg(long, value_name = "ENDPOINT", required = true)]
    bind: Vec<String>,
    /// Interval between heartbeats to workers, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 2500)]
    heartbeat_ms: u64,
    /// Heartbeat intervals that a worker may be silent before it counts as gone
    #[arg(long, value_name = "N", default_value_t = 3)]
    liveness: u32,
    /// How often a request is handed to a worker at most
    #[arg(long, value_name = "N", default_value_t = 3)]
    max_attempts: u32,
    /// How long one worker may take over a request, in milliseconds; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    attempt_timeout_ms: u64,
    /// How long a request may wait for a worker, in milliseconds; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 300_000)]
    request_ttl_ms: u64,
    /// How many requests may wait in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_queued: usize,
    /// How many requests may wait for one service
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_queued_per_service: usize,
    /// How many bytes the waiting requests may hold in all
    #[arg(long, value_name = "N", default_value_t = 1 << 30)]
    max_queued_bytes: usize,
    /// How many bytes the waiting requests of one service may hold
    #[arg(long, value_name = "N", default_value_t = 1 << 30)]
    max_queued_bytes_per_service: usize,
    /// Largest message accepted, in bytes
    #[arg(long, value_name = "N", default_value_t = 256 << 20)]
    max_message_bytes: usize,
    /// How many services there may be
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_services: usize,
    /// How many workers there may be
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_workers: usize,
    /// How many sessions MDPX clients may have open
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_sessions: usize,
    /// How many requests one MDPX client may have outstanding
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    credit: u32,
    /// Shortest interval between heartbeats that an MDPX peer is granted, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 10)]
    heartbeat_min_ms: u64,
    /// Longest interval between heartbeats that an MDPX peer is granted, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    heartbeat_max_ms: u64,
    /// Log more; may be given several times
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

/// Runs `mdbroker` with these arguments, the program's name first, and returns its exit status.
pub fn mdbroker(args: impl Iterator<Item = OsString>) -> u8 {
    let arguments: Arguments = match report::parse(args) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    report::log_to_stderr(arguments.verbose);
    let options = arguments.options();
    if let Err(error) = options.validate() {
        report::complain("mdbroker", &error);
        return report::USAGE;
    }
    match run(options) {
        Ok(()) => report::SUCCESS,
        Err(error) => {
            report::complain("mdbroker", &error);
            report::FAILURE
        }
    }
}

impl Arguments {
    fn options(&self) -> BrokerOptions {
        let limit = |milliseconds: u64| (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
        let mut options = BrokerOptions::new("");
        options.bind = self.bind.clone();
        options
            .heartbeat(Duration::from_millis(self.heartbeat_ms))
            .liveness(self.liveness)
            .max_attempts(self.max_attempts)
            .attempt_timeout(limit(self.attempt_timeout_ms))
            .request_ttl(limit(self.request_ttl_ms))
            .max_queued(self.max_queued)
            .max_queued_per_service(self.max_queued_per_service)
            .max_queued_bytes(self.max_queued_bytes)
            .max_queued_bytes_per_service(self.max_queued_bytes_per_service)
            .max_message_bytes(self.max_message_bytes)
            .max_services(self.max_services)
            .max_workers(self.max_workers)
            .max_sessions(self.max_sessions)
            .credit(self.credit)
            .heartbeat_min(Duration::from_millis(self.heartbeat_min_ms))
            .heartbeat_max(Duration::from_millis(self.heartbeat_max_ms))
    }
}

fn run(options: BrokerOptions) -> Result<()> {
    let stop = signals::stop_flag()?;
    let broker = Broker::with_options(options)?;
    let mut out = io::stdout().lock();
    for endpoint in broker.endpoints() {
        // A broker whose output nobody reads is still a broker.
        let _ = writeln!(out, "listening on {endpoint}").and_then(|()| out.flush());
    }
    drop(out);
    let mut check = |_| if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    match broker.wait_with(&mut check) {
        Err(error) if error.kind() == ErrorKind::Cancelled => {
            log::info!("ending");
            broker.stop()
        }
        outcome => outcome,
    }
}
