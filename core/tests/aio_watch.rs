//! Clients and workers whose messages an event loop reads on its own thread.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::collections::HashMap;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aio_peers::{PATIENCE, Seeded, until};
use majordomo::aio::{Client, ClientEvent, Inbox, Part, Watch, Worker, WorkerEvent, WorkerEventKind};
use majordomo::{Broker, BrokerOptions, ErrorKind, Message, RequestOptions, WorkerOptions};

/// What happens to a request of a test.
type Outcome = (u64, majordomo::Result<Message>);

/// An event loop that echoes what its workers get and hands on what its clients get.
struct Loop {
    shared: Arc<Shared>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    watch: Arc<Watch>,
    clients: Arc<Inbox<ClientEvent>>,
    workers: Arc<Inbox<WorkerEvent>>,
    bell: Arc<Bell>,
    stop: AtomicBool,
    /// The watch has ended.
    ended: AtomicBool,
    /// Held by whoever keeps the loop busy.
    busy: Mutex<()>,
}

/// What inboxes ring, and on which thread they did.
struct Bell {
    pipe: PipeWriter,
    loop_thread: Mutex<Option<ThreadId>>,
    here: AtomicUsize,
    elsewhere: AtomicUsize,
}

impl Bell {
    fn ring(&self) {
        match *self.loop_thread.lock().unwrap() == Some(thread::current().id()) {
            true => self.here.fetch_add(1, Ordering::Relaxed),
            false => self.elsewhere.fetch_add(1, Ordering::Relaxed),
        };
        (&self.pipe).write_all(&[1]).unwrap();
    }
}

impl Loop {
    fn start() -> Loop {
        let (reader, writer) = pipe().unwrap();
        let (sender, outcomes) = channel();
        let bell = Arc::new(Bell {
            pipe: writer,
            loop_thread: Mutex::default(),
            here: AtomicUsize::default(),
            elsewhere: AtomicUsize::default(),
        });
        let (of_clients, of_workers) = (bell.clone(), bell.clone());
        let shared = Arc::new(Shared {
            watch: Watch::new().unwrap(),
            clients: Inbox::new(move || of_clients.ring()),
            workers: Inbox::new(move || of_workers.ring()),
            bell,
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            busy: Mutex::default(),
        });
        let its = shared.clone();
        let thread = thread::spawn(move || its.run(reader, &sender));
        until("the loop to begin", || shared.bell.loop_thread.lock().unwrap().is_some());
        Loop { shared, outcomes, thread: Some(thread) }
    }

    fn client(&self, broker: &Broker) -> Client {
        let client = Client::connect(broker.endpoint()).unwrap();
        client.watched_by(&self.shared.watch);
        client
    }

    fn worker(&self, options: WorkerOptions) -> Worker {
        let worker = Worker::with_inbox(options, &self.shared.workers, 0).unwrap();
        worker.watched_by(&self.shared.watch);
        worker
    }

    fn submit(&self, client: &Client, token: u64, body: String) {
        client.submit_whole("echo", body.into(), &RequestOptions::default(), &self.shared.clients, token);
    }

    fn outcome(&self) -> Outcome {
        self.outcomes.recv_timeout(PATIENCE).unwrap()
    }

    /// Asks one thing after the other until the loop's thread reads the messages of both sides.
    fn settle(&self, client: &Client) {
        for token in 0..200 {
            self.submit(client, token, token.to_string());
            let (answered, outcome) = self.outcome();
            assert_eq!((answered, outcome.unwrap()), (token, token.to_string().into()));
        }
    }

    fn rung(&self) -> (usize, usize) {
        let bell = &self.shared.bell;
        (bell.here.load(Ordering::Relaxed), bell.elsewhere.load(Ordering::Relaxed))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

impl Shared {
    fn run(&self, mut rung: PipeReader, outcomes: &Sender<Outcome>) {
        *self.bell.loop_thread.lock().unwrap() = Some(thread::current().id());
        let readable = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        while !self.stop.load(Ordering::Acquire) {
            let watched = if self.ended.load(Ordering::Acquire) { -1 } else { self.watch.as_fd().as_raw_fd() };
            let mut descriptors = [readable(watched), readable(rung.as_raw_fd())];
            // SAFETY: the list is live and has two entries.
            assert!(unsafe { libc::poll(descriptors.as_mut_ptr(), 2, -1) } > 0);
            let _idle = self.busy.lock().unwrap();
            if descriptors[1].revents != 0 {
                let _ = rung.read(&mut [0; 64]).unwrap();
                self.deliver(outcomes);
            }
            if descriptors[0].revents != 0 {
                self.watch.turn(|| self.deliver(outcomes));
            }
        }
    }

    fn deliver(&self, outcomes: &Sender<Outcome>) {
        let (mut replies, mut requests) = (Vec::new(), Vec::new());
        self.clients.drain(&mut replies);
        self.workers.drain(&mut requests);
        for WorkerEvent { kind, .. } in requests {
            if let WorkerEventKind::Request(request) = kind {
                request.reply(request.body().clone()).unwrap();
            }
        }
        for ClientEvent { token, part } in replies {
            if let Part::Done(outcome) = part {
                // At the end of a test nobody listens any more.
                let _ = outcomes.send((token, outcome));
            }
        }
    }
}

fn echo(broker: &Broker) -> WorkerOptions {
    WorkerOptions::new(broker.endpoint(), "echo").concurrency(8)
}

fn broker() -> Broker {
    Broker::start("tcp://127.0.0.1:0").unwrap()
}

#[test]
fn where_one_request_follows_the_other_the_loops_own_thread_reads_the_messages() {
    let (broker, event_loop) = (broker(), Loop::start());
    let (_worker, client) = (event_loop.worker(echo(&broker)), event_loop.client(&broker));
    event_loop.settle(&client);
    let (here, elsewhere) = event_loop.rung();
    event_loop.settle(&client);
    let (here, elsewhere) = (event_loop.rung().0 - here, event_loop.rung().1 - elsewhere);
    // The I/O thread may have been awake now and then, and have read one itself.
    assert!(here > 10 * elsewhere.max(1), "{here} on the loop's thread, {elsewhere} on others");
}

#[test]
fn every_request_has_its_own_outcome_however_many_are_asked_at_once() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut seeded = Seeded(seed);
    let (broker, event_loop) = (broker(), Loop::start());
    let _workers: Vec<_> = (0..2).map(|_| event_loop.worker(echo(&broker))).collect();
    let clients: Vec<_> = (0..3).map(|_| event_loop.client(&broker)).collect();
    let mut next = 0;
    for _ in 0..60 {
        // Long rows of single requests, with which connections are lent, and bursts, with which they are taken back.
        let (rounds, together) = if seeded.below(2) == 0 { (150, 1) } else { (seeded.below(5), 1 + seeded.below(30)) };
        for _ in 0..rounds {
            let mut waiting = HashMap::new();
            for _ in 0..together {
                next += 1;
                let body = "x".repeat(seeded.below(64)) + &next.to_string();
                event_loop.submit(&clients[seeded.below(clients.len())], next, body.clone());
                waiting.insert(next, body);
            }
            while !waiting.is_empty() {
                let (token, outcome) = event_loop.outcome();
                assert_eq!(outcome.unwrap(), Message::from(waiting.remove(&token).unwrap()));
            }
        }
    }
    assert!(event_loop.outcomes.try_recv().is_err());
}

#[test]
fn while_the_loop_is_busy_heartbeats_go_out_and_deadlines_pass() {
    let beat = Duration::from_millis(100);
    let options = BrokerOptions::new("tcp://127.0.0.1:0").heartbeat(beat).liveness(3);
    let (broker, event_loop) = (Broker::with_options(options).unwrap(), Loop::start());
    let (_worker, client) = (event_loop.worker(echo(&broker).heartbeat(beat)), event_loop.client(&broker));
    event_loop.settle(&client);

    let shared = event_loop.shared.clone();
    let busy = shared.busy.lock().unwrap();
    let context = zmq::Context::new();
    for silent in 1..=5 {
        // One that says nothing: it is gone when nobody could have been silent for as long.
        let peer = context.socket(zmq::DEALER).unwrap();
        peer.connect(broker.endpoint()).unwrap();
        peer.send_multipart([b"".as_slice(), b"MDPW01", b"\x01", b"silent"], 0).unwrap();
        until("the silent worker to be given up", || broker.stats().unwrap().counters.workers_lost == silent);
    }
    assert_eq!(broker.stats().unwrap().workers, 1);
    let within = RequestOptions { timeout: Some(beat), ..RequestOptions::default() };
    client.submit_whole("echo", "late".into(), &within, &event_loop.shared.clients, 1000);
    until("the deadline to pass", || !event_loop.shared.clients.is_empty());
    drop(busy);

    let (token, outcome) = event_loop.outcome();
    assert_eq!((token, outcome.unwrap_err().kind()), (1000, ErrorKind::Timeout));
    event_loop.settle(&client);
    assert_eq!(broker.stats().unwrap().counters.workers_lost, 5);
}

#[test]
fn a_broker_that_was_restarted_is_found_again() {
    let (first, event_loop) = (broker(), Loop::start());
    let endpoint = first.endpoint().to_owned();
    let (_worker, client) = (event_loop.worker(echo(&first)), event_loop.client(&first));
    event_loop.settle(&client);
    first.stop().unwrap();
    drop(first);
    let _second = Broker::start(&endpoint).unwrap();
    event_loop.settle(&client);
}

#[test]
fn when_the_watch_has_ended_everything_comes_from_the_io_thread() {
    let (broker, event_loop) = (broker(), Loop::start());
    let (_worker, client) = (event_loop.worker(echo(&broker)), event_loop.client(&broker));
    event_loop.settle(&client);
    event_loop.shared.ended.store(true, Ordering::Release);
    event_loop.shared.watch.close();
    let here = event_loop.rung().0;
    event_loop.settle(&client);
    // The loop may have been about to take its last turn.
    assert!(event_loop.rung().0 <= here + 1);
}

#[test]
fn a_client_that_is_closed_while_the_loop_reads_for_it_tells_its_caller() {
    let (broker, event_loop) = (broker(), Loop::start());
    let (worker, client) = (event_loop.worker(echo(&broker)), event_loop.client(&broker));
    event_loop.settle(&client);
    worker.close();
    until("the worker to be gone", || broker.stats().unwrap().workers == 0);
    event_loop.submit(&client, 1, "nobody".to_owned());
    until("the request to wait", || broker.stats().unwrap().queued == 1);
    client.close();
    let (token, outcome) = event_loop.outcome();
    assert_eq!((token, outcome.unwrap_err().kind()), (1, ErrorKind::Closed));
}
