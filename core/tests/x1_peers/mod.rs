//! A client of MDPX that is a bare DEALER, for tests of workers.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared by tests, which may panic"
)]

use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use majordomo::proto::mdpx::{self, Command};
use majordomo::{ErrorKind, Message};

/// A test that waits for something that never comes fails after this.
const PATIENCE: i32 = 30_000;

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Part(u64, u32, Message),
    Reply(u64, Message),
    Failed(u64, ErrorKind, u32),
}

pub struct X1Client {
    socket: zmq::Socket,
}

impl X1Client {
    pub fn new(endpoint: &str) -> X1Client {
        static LAST: AtomicU8 = AtomicU8::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let socket = zmq::Context::new().socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(PATIENCE).unwrap();
        socket.connect(endpoint).unwrap();
        let client = X1Client { socket };
        client.say(&Command::Hello { session: [id; 16], secret: [id; 16], heartbeat_ms: 2500, liveness: 100 });
        client.recv(|command, _| matches!(command, Command::ClientWelcome { .. }).then_some(()));
        client
    }

    /// Asks `echo`.
    pub fn ask(&self, number: u64, body: impl Into<Message>) {
        self.ask_within(number, 0, body);
    }

    /// Asks `echo` with a time to live.
    pub fn ask_within(&self, number: u64, ttl_ms: u32, body: impl Into<Message>) {
        let command =
            Command::Request { number, acked: 0, ttl_ms, max_attempts: 0, fail_fast: false, service: b"echo" };
        self.send(mdpx::message(&command, &body.into()));
    }

    pub fn cancel(&self, number: u64) {
        self.say(&Command::Cancel { number });
    }

    /// The next part or outcome.
    pub fn hear(&self) -> Outcome {
        self.recv(|command, body| match *command {
            Command::Partial { number, sequence } => Some(Outcome::Part(number, sequence, body)),
            Command::Final { number, .. } => Some(Outcome::Reply(number, body)),
            Command::Error { number, failure } => {
                let kind = ErrorKind::from_number(failure.kind).unwrap();
                Some(Outcome::Failed(number, kind, failure.code))
            }
            _ => None,
        })
    }

    fn say(&self, command: &Command<'_>) {
        self.send(mdpx::control(command));
    }

    fn send(&self, frames: Vec<Bytes>) {
        self.socket.send_multipart(frames.iter().map(|frame| &frame[..]), 0).unwrap();
    }

    /// The next message that `wanted` makes something of.
    fn recv<T>(&self, wanted: impl Fn(&Command<'_>, Message) -> Option<T>) -> T {
        loop {
            let mut frames = self.socket.recv_multipart(0).expect("the broker should have said something").into_iter();
            let header = Bytes::from(frames.next().unwrap());
            let read = mdpx::read(&header, frames.len()).unwrap();
            let body = read.layout.into_message(header.clone(), frames.map(Bytes::from));
            if let Some(found) = wanted(&read.command, body) {
                return found;
            }
        }
    }
}
