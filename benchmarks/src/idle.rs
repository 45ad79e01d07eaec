//! Many workers without work: connections that register and beat, and nothing else.
//!
//! One DEALER with many connections sends to each in turn, so as many READYs as there are connections register a worker on
//! each. To the broker they are workers like all others; here they cost one socket.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use majordomo::proto::mdpx;
use majordomo::{Client, Protocol};

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
    /// Protocol: 0.1 or x1
    #[arg(long, default_value = "0.1")]
    protocol: Protocol,
}

/// Workers beat at the default interval.
const HEARTBEAT: Duration = Duration::from_millis(2500);
/// Connections that are begun at once; more would overflow the listener's queue.
const BATCH: usize = 100;
/// How long all of them may take to be registered.
const START: Duration = Duration::from_secs(60);

/// What an idle worker says.
enum Said<'a> {
    Ready { service: &'a str },
    Heartbeat,
}

impl Said<'_> {
    fn frames(&self, protocol: Protocol) -> Result<Vec<Bytes>> {
        match protocol {
            Protocol::V01 => Ok(self.plain()),
            Protocol::X1 => {
                let command = match self {
                    Said::Ready { service } => mdpx::Command::Ready {
                        capacity: 1,
                        heartbeat_ms: u32::try_from(HEARTBEAT.as_millis())?,
                        liveness: 3,
                        service: service.as_bytes(),
                    },
                    Said::Heartbeat => mdpx::Command::Heartbeat,
                };
                Ok(mdpx::control(&command))
            }
            other => bail!("there are no idle workers of protocol {other}"),
        }
    }

    fn plain(&self) -> Vec<Bytes> {
        let protocol = [Bytes::new(), Bytes::from_static(b"MDPW01")].into_iter();
        match self {
            Said::Ready { service } => {
                protocol.chain([Bytes::from_static(&[1]), Bytes::copy_from_slice(service.as_bytes())]).collect()
            }
            Said::Heartbeat => protocol.chain([Bytes::from_static(&[4])]).collect(),
        }
    }
}

/// Beats until the process is ended.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let context = zmq::Context::new();
    let socket = raw::socket(&context, zmq::DEALER)?;
    connect(&context, &socket, arguments)?;
    let client = Client::connect(&arguments.endpoint)?;
    // Others may be registered already.
    let workers = stats(&client)?.workers + arguments.workers;
    // Only now: a connection that is added to those in use does not get the next message.
    let heartbeat = Said::Heartbeat.frames(arguments.protocol)?;
    speak(&socket, arguments.workers, |said| {
        if said == arguments.workers {
            await_workers(&client, workers)?;
            report::print(&Ready::NOW)?;
        }
        if said >= arguments.workers {
            return send(&socket, &heartbeat);
        }
        let service = format!("idle-{}", said % arguments.services.max(1));
        let ready = Said::Ready { service: &service };
        send(&socket, &ready.frames(arguments.protocol)?)
    })
}

fn send(socket: &zmq::Socket, frames: &[Bytes]) -> Result<()> {
    Ok(socket.send_multipart(frames.iter().map(|frame| &frame[..]), 0)?)
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

/// Lets one worker after the other speak, READY at first and then beats, each once in an interval and all of them spread
/// over it, as workers do that started at different times; and throws away what comes.
fn speak(socket: &zmq::Socket, workers: usize, mut next: impl FnMut(usize) -> Result<()>) -> Result<()> {
    const STEPS: usize = 100;
    let begin = Instant::now();
    let mut said = 0;
    for step in 1.. {
        let due = begin + HEARTBEAT * step / u32::try_from(STEPS)?;
        while said < usize::try_from(step)? * workers / STEPS {
            next(said)?;
            said += 1;
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
