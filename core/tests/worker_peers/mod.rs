//! What the worker's tests talk to: a broker that is a bare ROUTER, its frames typed from the specifications.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared by tests, which may panic"
)]

use std::time::Duration;

use majordomo::{ErrorKind, Protocol, Worker, WorkerOptions};

/// A test that waits for something that never comes fails after this.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Fast enough for tests that count beats.
pub const BEAT: Duration = Duration::from_millis(50);

pub type Frames = Vec<Vec<u8>>;

/// Command bytes of worker and broker in one version.
pub struct Words {
    pub head: &'static [&'static [u8]],
    pub ready: &'static [u8],
    pub request: &'static [u8],
    pub partial: &'static [u8],
    pub last: &'static [u8],
    pub heartbeat: &'static [u8],
    pub disconnect: &'static [u8],
}

pub fn words(protocol: Protocol) -> &'static Words {
    match protocol {
        Protocol::V01 => &Words {
            head: &[b"", b"MDPW01"],
            ready: b"\x01",
            request: b"\x02",
            partial: b"(none)",
            last: b"\x03",
            heartbeat: b"\x04",
            disconnect: b"\x05",
        },
        _ => &Words {
            head: &[b"MDPW02"],
            ready: b"\x01",
            request: b"\x02",
            partial: b"\x03",
            last: b"\x04",
            heartbeat: b"\x05",
            disconnect: b"\x06",
        },
    }
}

pub fn frames(parts: &[&[u8]]) -> Frames {
    parts.iter().map(|part| part.to_vec()).collect()
}

pub struct RawBroker {
    socket: zmq::Socket,
    pub endpoint: String,
    words: &'static Words,
}

impl RawBroker {
    pub fn new(protocol: Protocol) -> RawBroker {
        RawBroker::at("tcp://127.0.0.1:*", protocol)
    }

    pub fn at(endpoint: &str, protocol: Protocol) -> RawBroker {
        RawBroker::with_room_for(1000, endpoint, protocol)
    }

    pub fn with_room_for(messages: i32, endpoint: &str, protocol: Protocol) -> RawBroker {
        RawBroker::try_at(messages, endpoint, protocol).expect("an address to listen on")
    }

    /// A broker that lets no more than so many messages wait on its side.
    pub fn try_at(messages: i32, endpoint: &str, protocol: Protocol) -> zmq::Result<RawBroker> {
        let socket = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvhwm(messages).unwrap();
        socket.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
        socket.bind(endpoint)?;
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Ok(RawBroker { socket, endpoint, words: words(protocol) })
    }

    pub fn poll_item(&self) -> zmq::PollItem<'_> {
        self.socket.as_poll_item(zmq::POLLIN)
    }

    /// The next message: who sent it, and what.
    pub fn recv(&self) -> (Vec<u8>, Frames) {
        let mut message = self.socket.recv_multipart(0).expect("a worker should have sent something");
        let peer = message.remove(0);
        (peer, message)
    }

    /// The next message that is not a heartbeat.
    pub fn recv_word(&self) -> (Vec<u8>, Frames) {
        loop {
            let (peer, message) = self.recv();
            if message != self.message(self.words.heartbeat, &[]) {
                return (peer, message);
            }
        }
    }

    /// Waits for the registration of a worker.
    pub fn registered(&self, service: &str) -> Vec<u8> {
        let (peer, message) = self.recv_word();
        assert_eq!(message, self.message(self.words.ready, &[service.as_bytes()]), "READY was to come");
        peer
    }

    /// Waits for this many heartbeats of `peer`, with nothing in between.
    pub fn hear_beats(&self, peer: &[u8], count: usize) {
        for _ in 0..count {
            assert_eq!(
                self.recv(),
                (peer.to_vec(), self.message(self.words.heartbeat, &[])),
                "a HEARTBEAT was to come"
            );
        }
    }

    /// Beats at a pace of its own until `peer` has beaten so often.
    pub fn beat_until_answered(&self, peer: &[u8], count: usize) {
        let mut answers = 0;
        for _ in 0..1000 {
            self.beat(peer);
            if zmq::poll(&mut [self.poll_item()], BEAT.as_millis() as i64).unwrap() > 0 {
                self.hear_beats(peer, 1);
                answers += 1;
            }
            if answers == count {
                return;
            }
        }
        panic!("{answers} answers to a thousand beats");
    }

    /// Waits for the final answer of `peer` to the request of client `address`.
    pub fn answered(&self, peer: &[u8], address: &[u8], body: &[&[u8]]) {
        assert_eq!(
            self.recv_word(),
            (peer.to_vec(), self.answer(self.words.last, address, body)),
            "an answer was to come"
        );
    }

    pub fn partly_answered(&self, peer: &[u8], address: &[u8], body: &[&[u8]]) {
        assert_eq!(self.recv_word(), (peer.to_vec(), self.answer(self.words.partial, address, body)));
    }

    pub fn left(&self, peer: &[u8]) {
        assert_eq!(
            self.recv_word(),
            (peer.to_vec(), self.message(self.words.disconnect, &[])),
            "a DISCONNECT was to come"
        );
    }

    pub fn request(&self, peer: &[u8], address: &[u8], body: &[&[u8]]) {
        self.send(peer, self.answer(self.words.request, address, body));
    }

    pub fn beat(&self, peer: &[u8]) {
        self.send(peer, self.message(self.words.heartbeat, &[]));
    }

    pub fn disconnect(&self, peer: &[u8]) {
        self.send(peer, self.message(self.words.disconnect, &[]));
    }

    pub fn send(&self, peer: &[u8], message: Frames) {
        let mut all = vec![peer.to_vec()];
        all.extend(message);
        self.socket.send_multipart(all, 0).unwrap();
    }

    fn message(&self, command: &[u8], rest: &[&[u8]]) -> Frames {
        let mut all = frames(self.words.head);
        all.push(command.to_vec());
        all.extend(frames(rest));
        all
    }

    fn answer(&self, command: &[u8], address: &[u8], body: &[&[u8]]) -> Frames {
        let mut all = self.message(command, &[address, b""]);
        all.extend(frames(body));
        all
    }
}

/// A worker of `echo` that beats as tests like it and is patient enough not to leave a broker that is silent.
pub fn options(broker: &RawBroker, protocol: Protocol) -> WorkerOptions {
    WorkerOptions::new(&broker.endpoint, "echo").protocol(protocol).heartbeat(BEAT).liveness(1000)
}

/// Does this at the end, also of a test that fails: threads that wait for something must not outlast it.
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Answers what comes with itself until the worker closes.
pub fn echo(worker: &Worker) {
    for request in worker {
        request.reply(request.body().clone()).unwrap();
    }
}

/// A worker of `echo` on a thread of its own; it ends when the worker closes.
pub fn echoing<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    worker: &'scope Worker,
) -> std::thread::ScopedJoinHandle<'scope, ()> {
    scope.spawn(move || echo(worker))
}

pub fn kind<T>(result: majordomo::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}
