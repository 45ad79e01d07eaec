//! Peers made of raw sockets, for tests of the asynchronous half.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long any test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An executor written by hand: this thread, parked until the waker unparks it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let start = Instant::now();
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
        assert!(start.elapsed() < PATIENCE * 2, "a future did not become ready");
    }
}

/// Waits until `done` says so.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Numbers that look random and come again with the same seed (xorshift64).
pub(crate) struct Seeded(pub u64);

impl Seeded {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// A request as a broker's raw socket sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) peer: Vec<u8>,
    v02: bool,
    pub(crate) service: Vec<u8>,
    pub(crate) body: Vec<Vec<u8>>,
}

/// What a raw broker is told.
pub(crate) enum Event {
    Asked(Asked),
    /// Nothing has come for some milliseconds.
    Idle,
}

/// The socket of a raw broker.
pub(crate) struct Router(zmq::Socket);

impl Router {
    pub(crate) fn reply(&self, asked: &Asked, body: &[&[u8]]) {
        self.send(asked, 3, body);
    }

    /// A part of a reply (0.2).
    pub(crate) fn partial(&self, asked: &Asked, body: &[&[u8]]) {
        assert!(asked.v02);
        self.send(asked, 2, body);
    }

    fn send(&self, asked: &Asked, command: u8, body: &[&[u8]]) {
        let command = [command];
        let mut frames: Vec<&[u8]> = vec![&asked.peer];
        if asked.v02 {
            frames.extend([b"MDPC02".as_slice(), &command, &asked.service]);
        } else {
            frames.extend([b"".as_slice(), b"MDPC01", &asked.service]);
        }
        frames.extend(body);
        self.0.send_multipart(frames, 0).unwrap();
    }

    fn recv(&self) -> Option<Asked> {
        let mut frames = self.0.recv_multipart(zmq::DONTWAIT).ok()?;
        let peer = frames.remove(0);
        let v02 = frames[0] == b"MDPC02";
        if !v02 && frames[1] != b"MDPC01" {
            // Workers are left without an answer.
            return self.recv();
        }
        let service = frames.remove(2);
        Some(Asked { peer, v02, service, body: frames.split_off(2) })
    }
}

/// A broker that is a raw ROUTER and a script.
pub(crate) struct RawBroker {
    pub(crate) endpoint: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawBroker {
    pub(crate) fn start(mut script: impl FnMut(&Router, Event) + Send + 'static) -> RawBroker {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.set_linger(0).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let router = Router(socket);
            while !stopped.load(Ordering::Acquire) {
                match router.recv() {
                    Some(asked) => script(&router, Event::Asked(asked)),
                    None if router.0.poll(zmq::POLLIN, 5).unwrap() == 0 => script(&router, Event::Idle),
                    None => {}
                }
            }
        });
        RawBroker { endpoint, stop, thread: Some(thread) }
    }

    /// A broker that answers every request with its own body.
    pub(crate) fn echo() -> RawBroker {
        RawBroker::start(|router, event| {
            if let Event::Asked(asked) = event {
                let body: Vec<&[u8]> = asked.body.iter().map(Vec::as_slice).collect();
                router.reply(&asked, &body);
            }
        })
    }

    /// A broker that takes requests and never answers.
    pub(crate) fn silent() -> RawBroker {
        RawBroker::start(|_, _| {})
    }
}

impl Drop for RawBroker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the raw broker panicked");
    }
}

/// How many threads of this name the process has.
pub(crate) fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .flatten()
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
        .count()
}
