//! Majordomo's broker, workers and clients, with nothing around them.

use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use majordomo::aio::{ClientEvent, Inbox, Part, WorkerEventKind};
use majordomo::{
    Broker, BrokerOptions, Client, ClientOptions, Message, Protocol, RequestOptions, Worker, WorkerOptions, aio,
};

use crate::measure::{Extent, Meter, RoundTrips};
use crate::report::{self, Listening, Ready};

/// The service of every worker here.
pub(crate) const SERVICE: &str = "echo";

/// Long enough that no request is ever sent twice.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(clap::Args, Debug)]
pub(crate) struct BrokerArguments {
    /// How many requests may wait: more than are ever sent, since a queue that fills keeps room for other clients
    #[arg(long, default_value_t = 200_000)]
    max_queued: usize,
    /// How many bytes the waiting requests may hold
    #[arg(long, default_value_t = 1 << 30)]
    max_queued_bytes: usize,
    /// How many bytes a message may have
    #[arg(long, default_value_t = 256 << 20)]
    max_message_bytes: usize,
}

#[derive(clap::Args, Debug)]
pub(crate) struct WorkerArguments {
    #[arg(long)]
    endpoint: String,
    /// How many workers, each in a thread of its own
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// How many further requests a worker of MDPX holds ready
    #[arg(long, default_value_t = 512)]
    prefetch: usize,
    /// Protocol version
    #[arg(long, default_value = "0.1")]
    protocol: Protocol,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ClientArguments {
    #[arg(long)]
    endpoint: String,
    /// The body's size in bytes
    #[arg(long, default_value_t = 11)]
    size: usize,
    /// How many requests each client has outstanding
    #[arg(long, default_value_t = 1000)]
    outstanding: usize,
    /// How many clients
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Protocol version
    #[arg(long, default_value = "0.1")]
    protocol: Protocol,
    #[command(flatten)]
    extent: Extent,
}

#[derive(clap::Args, Debug)]
pub(crate) struct RoundTripArguments {
    #[arg(long)]
    endpoint: String,
    /// The body's size in bytes
    #[arg(long, default_value_t = 11)]
    size: usize,
    /// Protocol version
    #[arg(long, default_value = "0.1")]
    protocol: Protocol,
    #[command(flatten)]
    extent: Extent,
}

/// Prints the names of all protocol versions, oldest first.
pub(crate) fn protocols() -> Result<()> {
    report::print(&Protocol::ALL.iter().map(|protocol| protocol.name()).collect::<Vec<_>>())
}

/// Runs a broker until the process is ended.
pub(crate) fn broker(arguments: &BrokerArguments) -> Result<()> {
    let (requests, bytes) = (arguments.max_queued, arguments.max_queued_bytes);
    let options = BrokerOptions::new("tcp://127.0.0.1:0")
        .max_queued(requests)
        .max_queued_per_service(requests)
        .max_queued_bytes(bytes)
        .max_queued_bytes_per_service(bytes)
        .max_message_bytes(arguments.max_message_bytes);
    let broker = Broker::with_options(options)?;
    let endpoint = broker.endpoint().to_owned();
    report::print(&Listening { workers: endpoint.clone(), endpoint, pid: std::process::id() })?;
    Ok(broker.wait()?)
}

/// Sends requests back until the process is ended.
pub(crate) fn workers(arguments: &WorkerArguments) -> Result<()> {
    let options =
        WorkerOptions::new(&arguments.endpoint, SERVICE).prefetch(arguments.prefetch).protocol(arguments.protocol);
    if arguments.workers > 1 {
        return many_workers(options, arguments.workers);
    }
    let worker = Worker::with_options(options)?;
    report::print(&Ready::NOW)?;
    for request in &worker {
        request.reply(request.body().clone())?;
    }
    bail!("the worker has ended")
}

/// Asynchronous workers, whose requests come to one inbox.
fn many_workers(options: WorkerOptions, count: usize) -> Result<()> {
    let worker_thread = thread::current();
    let inbox = Inbox::new(move || worker_thread.unpark());
    let options = options.concurrency(512);
    let _workers: Vec<_> = (0..count)
        .map(|token| Ok(aio::Worker::with_inbox(options.clone(), &inbox, token as u64)?))
        .collect::<Result<_>>()?;
    report::print(&Ready::NOW)?;
    let mut batch = Vec::new();
    loop {
        inbox.drain(&mut batch);
        if batch.is_empty() {
            thread::park();
        }
        for event in batch.drain(..) {
            match event.kind {
                WorkerEventKind::Request(request) => request.reply(request.body().clone())?,
                WorkerEventKind::Cancelled { .. } => {}
                WorkerEventKind::Closed(_) => bail!("a worker has ended"),
            }
        }
    }
}

/// Measures and prints what it measured.
pub(crate) fn clients(arguments: &ClientArguments) -> Result<()> {
    let options = ClientOptions::new(&arguments.endpoint)
        .protocol(arguments.protocol)
        .max_in_flight(arguments.outstanding)
        .timeout(TIMEOUT);
    let clients =
        (0..arguments.clients).map(|_| Ok(aio::Client::with_options(options.clone())?)).collect::<Result<Vec<_>>>()?;
    let body = vec![b'x'; arguments.size];
    let mut meter = Meter::new(&arguments.extent);
    pipelined(&clients, arguments.outstanding, &body, &mut meter)?;
    report::print(&meter.measured()?)
}

/// Keeps requests outstanding on each client until it is enough. The replies of all come to one inbox, whose token says
/// which client has room for the next request.
fn pipelined(clients: &[aio::Client], outstanding: usize, body: &[u8], meter: &mut Meter) -> Result<()> {
    let inbox = inbox_of(thread::current());
    let options = RequestOptions::default();
    let send = |client: &aio::Client, token: usize| {
        client.submit_whole(SERVICE, Message::from(body), &options, &inbox, token as u64);
    };
    for _ in 0..outstanding {
        for (token, client) in clients.iter().enumerate() {
            if meter.send() {
                send(client, token);
            }
        }
    }
    let mut batch = Vec::new();
    loop {
        inbox.drain(&mut batch);
        if batch.is_empty() {
            thread::park();
            continue;
        }
        let replies = u64::try_from(batch.len())?;
        for event in batch.drain(..) {
            if let Part::Done(outcome) = event.part {
                outcome?;
            }
            let token = usize::try_from(event.token)?;
            let client = clients.get(token).context("a token that was never given")?;
            if meter.send() {
                send(client, token);
            }
        }
        if !meter.receive(replies)? {
            return Ok(());
        }
    }
}

/// An inbox that wakes the thread when something has arrived.
pub(crate) fn inbox_of(thread: Thread) -> Arc<Inbox<ClientEvent>> {
    Inbox::new(move || thread.unpark())
}

/// Measures and prints what it measured.
pub(crate) fn round_trips(arguments: &RoundTripArguments) -> Result<()> {
    let options = ClientOptions::new(&arguments.endpoint).protocol(arguments.protocol).timeout(TIMEOUT);
    let client = Client::with_options(options)?;
    let body = vec![b'x'; arguments.size];
    let measured = RoundTrips::new(&arguments.extent)?.run(|| {
        client.request(SERVICE, &body[..])?;
        Ok(())
    })?;
    report::print(&measured)
}
