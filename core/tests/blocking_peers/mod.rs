//! Peers made of raw sockets, for tests of the broker and the blocking half.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test binary uses some of it, and ends where something is not as it must be"
)]

use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long any test waits for something that must happen, in milliseconds.
pub(crate) const PATIENCE: i64 = 30_000;

pub(crate) type Frames = Vec<Vec<u8>>;

/// A raw socket that gives up after a while instead of hanging the tests.
pub(crate) struct Raw {
    pub(crate) socket: zmq::Socket,
}

impl Raw {
    pub(crate) fn dealer(endpoint: &str) -> Raw {
        let raw = Raw::new(zmq::DEALER);
        raw.socket.connect(endpoint).unwrap();
        raw
    }

    /// A dealer that takes in little before its owner reads.
    pub(crate) fn new_slow_dealer(endpoint: &str) -> Raw {
        let raw = Raw::new(zmq::DEALER);
        raw.socket.set_rcvhwm(10).unwrap();
        raw.socket.connect(endpoint).unwrap();
        raw
    }

    /// A dealer whose routing id is chosen.
    pub(crate) fn named_dealer(id: &[u8], endpoint: &str) -> Raw {
        let raw = Raw::new(zmq::DEALER);
        raw.socket.set_identity(id).unwrap();
        raw.socket.connect(endpoint).unwrap();
        raw
    }

    /// A raw broker on a free port, and its endpoint.
    pub(crate) fn router() -> (Raw, String) {
        let raw = Raw::new(zmq::ROUTER);
        raw.socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = raw.socket.get_last_endpoint().unwrap().unwrap();
        (raw, endpoint)
    }

    fn new(kind: zmq::SocketType) -> Raw {
        let socket = zmq::Context::new().socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.set_rcvtimeo(PATIENCE as i32).unwrap();
        Raw { socket }
    }

    pub(crate) fn send(&self, frames: &[&[u8]]) {
        self.socket.send_multipart(frames, 0).unwrap();
    }

    pub(crate) fn recv(&self) -> Frames {
        self.socket.recv_multipart(0).expect("nothing came")
    }

    /// The next message that is not a heartbeat.
    pub(crate) fn recv_work(&self) -> Frames {
        loop {
            let frames = self.recv();
            let heartbeat = (frames.len() == 3 && frames[1] == b"MDPW01" && frames[2] == [4])
                || (frames.len() == 2 && frames[0] == b"MDPW02" && frames[1] == [5]);
            if !heartbeat {
                return frames;
            }
        }
    }
}

/// Signs a 0.1 worker on, and waits until the broker says so.
pub(crate) fn worker_01(endpoint: &str, service: &str) -> Raw {
    let raw = Raw::dealer(endpoint);
    raw.send(&[b"", b"MDPW01", &[1], service.as_bytes()]);
    await_worker(endpoint, service);
    raw
}

/// Signs a 0.2 worker on, and waits until the broker says so.
pub(crate) fn worker_02(endpoint: &str, service: &str) -> Raw {
    let raw = Raw::dealer(endpoint);
    raw.send(&[b"MDPW02", &[1], service.as_bytes()]);
    await_worker(endpoint, service);
    raw
}

/// Asks the broker until it knows a worker of this service. Each question is a full round trip.
pub(crate) fn await_worker(endpoint: &str, service: &str) {
    let raw = Raw::dealer(endpoint);
    loop {
        raw.send(&[b"", b"MDPC01", b"mmi.service", service.as_bytes()]);
        if raw.recv()[3] == b"200" {
            return;
        }
        thread::yield_now();
    }
}

/// Answers a 0.1 request with these frames.
pub(crate) fn answer_01(worker: &Raw, request: &[Vec<u8>], body: &[&[u8]]) {
    let mut frames: Vec<&[u8]> = vec![b"", b"MDPW01", &[3], &request[3], b""];
    frames.extend(body);
    worker.send(&frames);
}

/// A 0.1 worker on a thread of its own that answers this many requests with their own bodies.
pub(crate) fn echo(endpoint: &str, service: &str, requests: usize) -> JoinHandle<()> {
    let worker = worker_01(endpoint, service);
    thread::spawn(move || {
        for _ in 0..requests {
            let request = worker.recv_work();
            let body: Vec<&[u8]> = request[5..].iter().map(Vec::as_slice).collect();
            answer_01(&worker, &request, &body);
        }
        // Asking anything waits until the last answer is out.
        worker.send(&[b"", b"MDPW01", &[5]]);
        worker.socket.set_linger(PATIENCE as i32).unwrap();
    })
}

/// A duration that no test reaches.
pub(crate) const LONG: Duration = Duration::from_secs(60);
