//! The raw relay: the yardstick. Nothing but libzmq on the way, one body frame, no high-water marks.

use std::thread;

use anyhow::{Context, Result, bail};

use crate::measure::{Extent, Meter, RoundTrips};
use crate::report::{self, Listening, Measured, Ready};

#[derive(clap::Args, Debug)]
pub(crate) struct WorkerArguments {
    /// Where the relay listens for workers
    #[arg(long)]
    endpoint: String,
    /// How many workers
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ClientArguments {
    /// Where the relay listens for clients
    #[arg(long)]
    endpoint: String,
    /// The body's size in bytes
    #[arg(long, default_value_t = 11)]
    size: usize,
    /// How many requests each client has outstanding
    #[arg(long, default_value_t = 1000)]
    outstanding: usize,
    /// How many clients, each in a thread of its own
    #[arg(long, default_value_t = 1)]
    clients: usize,
    #[command(flatten)]
    extent: Extent,
}

/// Relays until the process is ended.
pub(crate) fn proxy() -> Result<()> {
    let context = zmq::Context::new();
    let front = socket(&context, zmq::ROUTER)?;
    let back = socket(&context, zmq::DEALER)?;
    for side in [&front, &back] {
        side.bind("tcp://127.0.0.1:*")?;
    }
    report::print(&Listening { endpoint: endpoint(&front)?, workers: endpoint(&back)?, pid: std::process::id() })?;
    Ok(zmq::proxy(&front, &back)?)
}

/// Sends messages back until the process is ended.
pub(crate) fn workers(arguments: &WorkerArguments) -> Result<()> {
    let context = zmq::Context::new();
    let sockets = connected(&context, &arguments.endpoint, arguments.workers)?;
    report::print(&Ready::NOW)?;
    thread::scope(|scope| {
        let threads: Vec<_> = sockets.into_iter().map(|socket| scope.spawn(move || echo(&socket))).collect();
        threads.into_iter().try_for_each(|thread| joined(thread.join()))
    })
}

fn echo(socket: &zmq::Socket) -> Result<()> {
    let mut message = zmq::Message::new();
    loop {
        socket.recv(&mut message, 0)?;
        let flags = if message.get_more() { zmq::SNDMORE } else { 0 };
        socket.send(std::mem::replace(&mut message, zmq::Message::new()), flags)?;
    }
}

/// Measures and prints what it measured.
pub(crate) fn clients(arguments: &ClientArguments) -> Result<()> {
    let context = zmq::Context::new();
    let sockets = connected(&context, &arguments.endpoint, arguments.clients)?;
    let body = vec![b'x'; arguments.size];
    let measured = if arguments.outstanding == 1 {
        let socket = sockets.first().context("no client")?;
        let mut reply = zmq::Message::new();
        RoundTrips::new(&arguments.extent)?.run(|| {
            socket.send(&body[..], 0)?;
            Ok(socket.recv(&mut reply, 0)?)
        })?
    } else {
        thread::scope(|scope| {
            let body = &body;
            let threads: Vec<_> =
                sockets.into_iter().map(|socket| scope.spawn(move || pipelined(&socket, body, arguments))).collect();
            let results = threads.into_iter().map(|thread| joined(thread.join())).collect::<Result<Vec<_>>>()?;
            Ok::<_, anyhow::Error>(together(&results))
        })?
    };
    report::print(&measured)
}

/// Sends a request for each reply, in the batches in which replies come.
fn pipelined(socket: &zmq::Socket, body: &[u8], arguments: &ClientArguments) -> Result<Measured> {
    let mut meter = Meter::new(&arguments.extent);
    let mut more = arguments.outstanding;
    let mut reply = zmq::Message::new();
    loop {
        while more > 0 && meter.send() {
            socket.send(body, 0)?;
            more -= 1;
        }
        socket.recv(&mut reply, 0)?;
        more = 1;
        while more < arguments.outstanding {
            match socket.recv(&mut reply, zmq::DONTWAIT) {
                Ok(()) => more += 1,
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if !meter.receive(u64::try_from(more)?)? {
            return meter.measured();
        }
    }
}

/// What several clients that ran at the same time measured.
fn together(results: &[Measured]) -> Measured {
    let mut sum = Measured::default();
    for result in results {
        sum.replies += result.replies;
        sum.rate += result.rate;
        sum.seconds = sum.seconds.max(result.seconds);
        // They watch the same process at the same time.
        sum.watched_cpu_seconds = sum.watched_cpu_seconds.or(result.watched_cpu_seconds);
    }
    sum
}

fn connected(context: &zmq::Context, endpoint: &str, count: usize) -> Result<Vec<zmq::Socket>> {
    (0..count)
        .map(|_| {
            let socket = socket(context, zmq::DEALER)?;
            socket.connect(endpoint)?;
            Ok(socket)
        })
        .collect()
}

/// A socket without high-water marks, which does not keep a process that is to end.
pub(crate) fn socket(context: &zmq::Context, kind: zmq::SocketType) -> Result<zmq::Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(0)?;
    Ok(socket)
}

fn endpoint(socket: &zmq::Socket) -> Result<String> {
    match socket.get_last_endpoint()? {
        Ok(endpoint) => Ok(endpoint),
        Err(_) => bail!("libzmq does not say where it listens"),
    }
}

/// What a thread came to.
pub(crate) fn joined<T>(outcome: thread::Result<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|_| bail!("a thread panicked"))
}
