//! Many workers without work: connections that register and beat, and nothing else.
//!
//! One DEALER with many connections sends to each in turn, so as many READYs as there are connections register a worker on
//! each. To the broker they are workers like all others; here they cost one socket.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use majordomo::Client;

use crate::flood::stats;
use crate::raw;
use crate::report::{self, Ready};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    endpoint: String,
    /// How many workers
    #[arg(long, default_value_t = 10_000)]
    workers: usize,
    /// How many services they are spread over
    #[arg(long, default_value_t = 1000)]
    services: usize,
}

/// Workers beat at the default interval.
const HEARTBEAT: Duration = Duration::from_millis(2500);
/// Connections that are begun at once; more would overflow the listener's queue.
const BATCH: usize = 100;
/// How long all of them may take to be registered.
const START: Duration = Duration::from_secs(60);

const PROTOCOL: &[u8] = b"MDPW01";
const READY: &[u8] = &[1];
const BEAT: &[u8] = &[4];

/// Beats until the process is ended.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let context = zmq::Context::new();
    let socket = raw::socket(&context, zmq::DEALER)?;
    connect(&context, &socket, arguments)?;
    let client = Client::connect(&arguments.endpoint)?;
    // Others may be registered already.
    let workers = stats(&client)?.workers + arguments.workers;
    // Only now: a connection that is added to those in use does not get the next message.
    for worker in 0..arguments.workers {
        let service = format!("idle-{}", worker % arguments.services.max(1));
        socket.send_multipart([&b""[..], PROTOCOL, READY, service.as_bytes()], 0)?;
    }
    await_workers(&client, workers)?;
    report::print(&Ready::NOW)?;
    beat(&socket, arguments.workers)
}

/// Makes all connections, some at a time.
fn connect(context: &zmq::Context, socket: &zmq::Socket, arguments: &Arguments) -> Result<()> {
    const EVENTS: &str = "inproc://connections";
    socket.monitor(EVENTS, i32::from(zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw()))?;
    let events = context.socket(zmq::PAIR)?;
    events.set_rcvtimeo(i32::try_from(START.as_millis())?)?;
    events.connect(EVENTS)?;
    for worker in 0..arguments.workers {
        socket.connect(&from_own_address(&arguments.endpoint, worker)?)?;
        if worker >= BATCH {
            events.recv_multipart(0).context("a worker is not connected")?;
        }
    }
    for _ in 0..arguments.workers.min(BATCH) {
        events.recv_multipart(0).context("a worker is not connected")?;
    }
    Ok(())
}

/// The endpoint with a source address: a DEALER takes an endpoint that it is connected to already for the same connection.
fn from_own_address(endpoint: &str, worker: usize) -> Result<String> {
    let address = endpoint.strip_prefix("tcp://").context("the workers connect by TCP")?;
    Ok(format!("tcp://127.1.{}.{}:0;{address}", worker / 250, worker % 250 + 1))
}

/// Waits until the broker knows so many workers.
fn await_workers(client: &Client, workers: usize) -> Result<()> {
    let deadline = Instant::now() + START;
    while stats(client)?.workers < workers {
        if Instant::now() >= deadline {
            bail!("{workers} workers are not registered after {} s", START.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Spreads the beats over the interval, as workers that started at different times do, and throws away what comes.
fn beat(socket: &zmq::Socket, workers: usize) -> Result<()> {
    const STEPS: usize = 100;
    let begin = Instant::now();
    let mut sent = 0;
    for step in 1.. {
        let due = begin + HEARTBEAT * step / u32::try_from(STEPS)?;
        let beats = usize::try_from(step)? * workers / STEPS;
        while sent < beats {
            socket.send_multipart([&b""[..], PROTOCOL, BEAT], 0)?;
            sent += 1;
        }
        while let Some(wait) =
            due.checked_duration_since(Instant::now()).filter(|wait| *wait >= Duration::from_millis(1))
        {
            if socket.poll(zmq::POLLIN, i64::try_from(wait.as_millis())?)? > 0 {
                drop(socket.recv_multipart(zmq::DONTWAIT)?);
            }
        }
    }
    Ok(())
}
