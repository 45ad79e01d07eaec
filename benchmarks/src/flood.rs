//! Everything sent before the first reply is read.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use majordomo::{Client, ClientOptions, Message, Protocol, RequestOptions, aio};
use serde::Deserialize;

use crate::majordomo_peers::{SERVICE, TIMEOUT, inbox_of};
use crate::raw;
use crate::report::{self, Flooded, Ready};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    endpoint: String,
    /// How many requests
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// The body's size in bytes
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Say that it is ready when all requests wait at the broker, which has no worker yet; otherwise when all are answered
    #[arg(long)]
    queue: bool,
    /// Protocol version
    #[arg(long, default_value = "0.1")]
    protocol: Protocol,
}

/// How long the broker may take to take in, and then to answer, everything.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends all requests, says when it is ready, reads all replies and tells how many came.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.protocol == Protocol::V01 { plain(arguments) } else { with_clients(arguments) }
}

/// Over 0.1 one connection of our clients has one request. The protocol itself has no such bound.
fn plain(arguments: &Arguments) -> Result<()> {
    let context = zmq::Context::new();
    let socket = raw::socket(&context, zmq::DEALER)?;
    socket.connect(&arguments.endpoint)?;
    let body = vec![b'x'; arguments.size];
    for _ in 0..arguments.requests {
        socket.send_multipart([&b""[..], b"MDPC01", SERVICE.as_bytes(), &body], 0)?;
    }
    await_broker(arguments)?;
    report::print(&Ready::NOW)?;
    socket.set_rcvtimeo(i32::try_from(LIMIT.as_millis())?)?;
    let mut answered = 0;
    while answered < arguments.requests {
        match socket.recv_multipart(0) {
            Ok(frames) if frames.last() == Some(&body) => answered += 1,
            Ok(_) => bail!("a reply is not what was sent"),
            Err(zmq::Error::EAGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    report::print(&Flooded { sent: arguments.requests, answered })
}

/// Requests that one client can have in flight at most.
const IN_FLIGHT: u64 = 10_000;

fn with_clients(arguments: &Arguments) -> Result<()> {
    let count = arguments.requests.div_ceil(IN_FLIGHT);
    let options = ClientOptions::new(&arguments.endpoint)
        .protocol(arguments.protocol)
        .max_in_flight(usize::try_from(IN_FLIGHT)?)
        .timeout(TIMEOUT);
    let clients = (0..count).map(|_| Ok(aio::Client::with_options(options.clone())?)).collect::<Result<Vec<_>>>()?;
    let body = vec![b'x'; arguments.size];
    let inbox = inbox_of(thread::current());
    for (number, client) in (0..arguments.requests).zip(clients.iter().cycle()) {
        client.submit_whole(SERVICE, Message::from(&body[..]), &RequestOptions::default(), &inbox, number);
    }
    await_broker(arguments)?;
    report::print(&Ready::NOW)?;
    let mut answered = 0;
    let mut events = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while answered < arguments.requests && Instant::now() < deadline {
        inbox.drain(&mut events);
        if events.is_empty() {
            thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        for event in events.drain(..) {
            if let aio::Part::Done(outcome) = event.part {
                let reply = outcome?;
                if reply.first() != Some(&body[..]) {
                    bail!("a reply is not what was sent");
                }
                answered += 1;
            }
        }
    }
    report::print(&Flooded { sent: arguments.requests, answered })
}

/// Waits until the broker holds all requests, or has answered them all.
fn await_broker(arguments: &Arguments) -> Result<()> {
    let client = Client::connect(&arguments.endpoint)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let stats = stats(&client)?;
        let done = if arguments.queue { stats.queued } else { stats.answered };
        if done >= arguments.requests {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("after {} s the broker has {stats:?} of {} requests", LIMIT.as_secs(), arguments.requests);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Numbers of the broker's.
#[derive(Debug, Deserialize)]
pub(crate) struct Stats {
    /// Registered workers.
    pub(crate) workers: usize,
    /// Requests that wait for a worker.
    queued: u64,
    /// Requests whose final answer was sent to their client.
    answered: u64,
    /// Requests not taken in because of a limit.
    #[expect(dead_code, reason = "shown where a flood fails")]
    refused: u64,
}

/// Asks the broker for its numbers.
pub(crate) fn stats(client: &Client) -> Result<Stats> {
    let reply = client.request("mmi.stats", "")?;
    let json = reply.iter().next_back().context("the broker has no numbers")?;
    Ok(serde_json::from_slice(json)?)
}
