//! The worker's machine over all protocols: a broker says what it likes, handlers answer when they like, and each delivery
//! is answered once, by the connection that it came by.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::error::ServiceError;
use majordomo::proto::mdp::{self, ToWorker};
use majordomo::proto::mdpx::{self, Command};
use majordomo::proto::worker::{Answer, Worker, WorkerConfig, WorkerOutput};
use majordomo::{ErrorKind, Protocol, WorkerOptions};
use majordomo_fuzz::input::Input;
use majordomo_fuzz::outputs::{check_to_broker, messages_of_x1};
use majordomo_fuzz::words::{self, BEATS};

const CONCURRENCY: usize = 3;

struct World {
    machine: Worker,
    now: Instant,
    /// What handlers have.
    running: BTreeSet<u64>,
    last_number: u64,
    /// By delivery of the present connection: how often it was made, less how often it was answered.
    owed: BTreeMap<u64, i32>,
    last_delivery: u64,
    closed: bool,
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let setup = input.u8();
    let protocol = [Protocol::X1, Protocol::Auto, Protocol::V01, Protocol::V02][usize::from(setup % 4)];
    let options = WorkerOptions::new("tcp://broker:1,tcp://other:1", "echo")
        .protocol(protocol)
        .heartbeat(Duration::from_millis(100))
        .concurrency(if setup & 4 == 0 { CONCURRENCY } else { 1 })
        .prefetch(usize::from(setup >> 6))
        .keep_outcomes(if setup & 8 == 0 { 4 } else { 0 })
        .max_message_bytes(if setup & 16 == 0 { 1000 } else { 1 << 20 });
    let now = Instant::now();
    let machine = Worker::new(WorkerConfig::from(&options), now, 9);
    let (running, owed) = (BTreeSet::new(), BTreeMap::new());
    let mut world = World { machine, now, running, last_number: 0, owed, last_delivery: 0, closed: false };
    world.settle();
    while !input.is_over() {
        step(&mut world, &mut input);
        world.settle();
    }
    world.machine.close(world.now);
    world.settle();
    assert!(world.closed && world.machine.is_closed() && world.machine.poll_timeout().is_none());
});

fn step(world: &mut World, input: &mut Input<'_>) {
    let now = world.now;
    match input.u8() % 16 {
        0 => world.machine.handle_sent(now),
        1..6 => {
            let said = world.said(input);
            world.hear(said);
        }
        6 => {
            let messages: Vec<_> = (0..input.below(5)).map(|_| world.said(input).swap_remove(0)).collect();
            world.hear(words::batch(&messages));
        }
        7 => {
            let frames = if input.flag() { words::protocols(input) } else { input.frames() };
            world.hear(frames);
        }
        8..12 => world.answer(input),
        12 | 13 => world.pass(input.step()),
        _ => match input.u8() % 16 {
            0..8 => world.machine.handle_disconnected(now),
            8..14 => {
                let number = world.number(input);
                world.running.remove(&number);
                world.machine.take_back(now, number);
            }
            14 => world.machine.drain(now),
            _ => world.machine.close(now),
        },
    }
}

impl World {
    /// A number that a handler has or had.
    fn number(&self, input: &mut Input<'_>) -> u64 {
        let running: Vec<u64> = self.running.iter().copied().collect();
        input.pick(&running).copied().unwrap_or(self.last_number)
    }

    fn answer(&mut self, input: &mut Input<'_>) {
        let number = self.number(input);
        let kind = input.u8() % 8;
        let mut text = String::new();
        let failure = words::failure(input, &mut text);
        let answer = match kind {
            0 => Answer::Partial(input.message()),
            1 => Answer::Cancelled,
            2 => Answer::Failure(ServiceError {
                retryable: failure.retryable,
                ..ServiceError::new(failure.code, failure.text)
            }),
            _ => Answer::Final(input.message()),
        };
        match self.machine.answer(self.now, number, answer) {
            Ok(()) if kind != 0 => {
                self.running.remove(&number);
            }
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge),
        }
    }

    /// What a broker may say to a worker.
    fn said(&mut self, input: &mut Input<'_>) -> Vec<Bytes> {
        let kind = input.u8() % 16;
        if let Some(Protocol::V01 | Protocol::V02) = self.machine.protocol() {
            let version =
                if self.machine.protocol() == Some(Protocol::V01) { mdp::Version::V01 } else { mdp::Version::V02 };
            let message = match kind {
                0..8 => ToWorker::Request { address: Bytes::from_static(b"a"), body: input.message().into_frames() },
                8..14 => ToWorker::Heartbeat,
                _ => ToWorker::Disconnect,
            };
            return mdp::write_to_worker(version, message);
        }
        let delivery = match input.u8() {
            0..200 => self.last_delivery + 1,
            back => self.last_delivery.saturating_sub(u64::from(back - 200)),
        };
        let beat = *input.pick(&BEATS).expect("some");
        let command = match kind {
            0..8 => {
                self.last_delivery = self.last_delivery.max(delivery);
                let (session, ttl_ms) = ([input.u8() % 3; 16], u32::from(input.u8()) * 4);
                let deliver = Command::Deliver { delivery, session, number: delivery % 7, ttl_ms, attempt: 1 };
                return words::x1(&deliver, Some(&input.message()));
            }
            8 | 9 => Command::WorkerCancel {
                delivery: self.last_delivery - u64::from(input.u8() % 4).min(self.last_delivery),
            },
            10 => Command::Heartbeat,
            11 => Command::Disconnect { kind: 0, text: "x" },
            _ => {
                Command::WorkerWelcome { heartbeat_ms: beat, liveness: input.u8(), max_message: u64::from(input.u16()) }
            }
        };
        words::x1(&command, None)
    }

    fn hear(&mut self, frames: Vec<Bytes>) {
        // A handler's driver hands over one message after the other, and does in between what the machine wants.
        if let Some(header) = frames.first().filter(|header| mdpx::is_header(header)) {
            mdpx::each_message(header, frames.len() - 1, |command| {
                if let Command::Deliver { delivery, .. } = command {
                    *self.owed.entry(delivery).or_default() += 1;
                }
            });
        }
        self.machine.handle_message(self.now, frames);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..300 {
            let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            self.settle();
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "what was due is done");
        }
        self.now = self.machine.poll_timeout().map_or(end, |due| end.min(due)).max(self.now);
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            assert!(!self.closed, "something comes after the end: {output:?}");
            match output {
                WorkerOutput::Send(frames) => self.check(&frames),
                WorkerOutput::Connect { endpoint } => {
                    assert!(endpoint < 2);
                    self.owed.clear();
                }
                WorkerOutput::Request { number, .. } => {
                    assert!(number > self.last_number, "a number is given once");
                    self.last_number = number;
                    self.running.insert(number);
                    assert!(self.running.len() <= CONCURRENCY, "more requests than handlers");
                }
                WorkerOutput::Cancelled { number } => assert!(self.running.contains(&number)),
                WorkerOutput::Closed => {
                    self.closed = true;
                    self.running.clear();
                }
                WorkerOutput::Close | WorkerOutput::Event(_) => {}
            }
        }
        assert!(self.closed || self.machine.is_busy() == !self.running.is_empty());
    }

    fn check(&mut self, frames: &[Bytes]) {
        check_to_broker(frames);
        for message in messages_of_x1(frames) {
            let command = mdpx::read(&message[0], message.len() - 1).expect("was read before").command;
            let (delivery, ends) = match command {
                Command::WorkerFinal { delivery, .. }
                | Command::WorkerError { delivery, .. }
                | Command::Return { delivery } => (delivery, 1),
                Command::WorkerPartial { delivery, .. } => (delivery, 0),
                _ => continue,
            };
            let owed = self.owed.get_mut(&delivery).expect("only what was delivered is answered");
            *owed -= ends;
            assert!(*owed >= 0, "delivery {delivery} is answered twice");
        }
    }
}
