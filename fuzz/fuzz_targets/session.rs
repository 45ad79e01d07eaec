//! The client's machine over MDPX (and its way to the older protocols), driven by callers and a broker that says what it
//! likes: each request has exactly one outcome, and no part comes behind it.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::proto::client::ReplyMode;
use majordomo::proto::mdpx::Command;
use majordomo::proto::session::{Asked, Identity, Session, SessionConfig, SessionOutput, Terms};
use majordomo::{ClientOptions, Error, ErrorKind, Protocol, RequestOptions};
use majordomo_fuzz::input::Input;
use majordomo_fuzz::outputs::check_to_broker;
use majordomo_fuzz::words::{self, BEATS};

struct World {
    machine: Session,
    now: Instant,
    /// How many outcomes each request has had.
    requests: BTreeMap<u64, u32>,
    last: u64,
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let setup = input.u8();
    let mut options = ClientOptions::new("tcp://broker:1,tcp://other:1")
        .protocol(if setup & 1 == 0 { Protocol::X1 } else { Protocol::Auto })
        .timeout(Duration::from_millis(500))
        .retries(1 + u32::from(setup >> 5))
        .max_in_flight(if setup & 2 == 0 { 2 } else { 1000 })
        .max_message_bytes(if setup & 4 == 0 { 1000 } else { 1 << 20 });
    if setup & 8 != 0 {
        options = options.deadline(Duration::from_secs(1));
    }
    let now = Instant::now();
    let identity = Identity { session: [1; 16], secret: [2; 16] };
    let machine = Session::new(SessionConfig::from(&options), identity, now);
    let mut world = World { machine, now, requests: BTreeMap::new(), last: 0 };
    while !input.is_over() {
        step(&mut world, &mut input);
        world.settle();
    }
    world.machine.close(&Error::new(ErrorKind::Closed, "the end"));
    world.settle();
    assert!(world.machine.is_idle() && world.machine.poll_timeout().is_none());
    assert!(world.requests.values().all(|outcomes| *outcomes == 1), "one outcome each: {:?}", world.requests);
});

fn step(world: &mut World, input: &mut Input<'_>) {
    let now = world.now;
    match input.u8() % 16 {
        0..3 => world.start(input),
        3 => {
            let number = world.number(input);
            world.machine.cancel(now, number, Error::new(ErrorKind::Cancelled, "given up"));
        }
        4 => world.machine.handle_sent(now),
        5 => {
            let (resumed, credit, limit) = (input.flag(), u32::from(input.u8()), u64::from(input.u16()) * 100);
            let (heartbeat_ms, liveness) = (*input.pick(&BEATS).expect("some"), input.u8());
            let welcome = Command::ClientWelcome { resumed, heartbeat_ms, liveness, credit, max_message: limit };
            world.machine.handle_sent(now);
            world.machine.handle_message(now, words::x1(&welcome, None));
        }
        6..11 => {
            let said = world.said(input);
            world.machine.handle_message(now, said);
        }
        11 => {
            let messages: Vec<_> = (0..input.below(5)).map(|_| world.said(input).swap_remove(0)).collect();
            world.machine.handle_message(now, words::batch(&messages));
        }
        12 => {
            let frames = if input.flag() { words::protocols(input) } else { input.frames() };
            world.machine.handle_message(now, frames);
        }
        13 | 14 => world.pass(input.step()),
        _ => match input.u8() % 8 {
            0..5 => world.machine.handle_disconnected(now),
            5 => world.machine.set_endpoint(usize::from(input.u8())),
            6 => world.machine.handle_refused(&Error::new(ErrorKind::Internal, "no sockets left")),
            _ => world.machine.close(&Error::new(ErrorKind::Closed, "closed")),
        },
    }
}

impl World {
    fn start(&mut self, input: &mut Input<'_>) {
        self.last += 1 + u64::from(input.u8() == 0) * 1000;
        let flags = input.u8();
        let options = RequestOptions {
            deadline: (flags & 1 != 0).then(|| Duration::from_millis(u64::from(flags))),
            max_attempts: (flags & 2 != 0).then_some(1),
            fail_fast: flags & 4 != 0,
            ..RequestOptions::default()
        };
        let mode = if flags & 8 == 0 { ReplyMode::Whole } else { ReplyMode::Parts };
        let Ok(terms) = Terms::new("echo", &options) else { return };
        let asked = Asked { terms, body: input.message(), mode, submitted: self.now };
        self.requests.insert(self.last, 0);
        self.machine.start(self.now, self.last, asked);
    }

    /// A number that was given, most often one of the last.
    fn number(&self, input: &mut Input<'_>) -> u64 {
        self.last.saturating_sub(u64::from(input.u8() % 8))
    }

    /// What a broker may say to a session.
    fn said(&self, input: &mut Input<'_>) -> Vec<Bytes> {
        let (number, sequence, kind) = (self.number(input), u32::from(input.u8() % 3), input.u8() % 8);
        let mut text = String::new();
        let command = match kind {
            0..3 => return words::x1(&Command::Final { number, sequence }, Some(&input.message())),
            3 | 4 => return words::x1(&Command::Partial { number, sequence }, Some(&input.message())),
            5 => Command::Error { number, failure: words::failure(input, &mut text) },
            6 => Command::Heartbeat,
            _ => Command::Disconnect { kind: input.u8(), text: "x" },
        };
        words::x1(&command, None)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        // A client without a broker tries again and again, at its pauses: of hours, only the first hundreds.
        for _ in 0..300 {
            let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            self.settle();
        }
        self.now = self.machine.poll_timeout().map_or(end, |due| end.min(due)).max(self.now);
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                SessionOutput::Send(frames) => check_to_broker(&frames),
                SessionOutput::Partial { number, .. } => assert_eq!(self.requests[&number], 0, "a late part"),
                SessionOutput::Done { number, .. } => self.end(number),
                SessionOutput::Older { requests, .. } => requests.iter().for_each(|(number, _)| self.end(*number)),
                SessionOutput::Connect { endpoint } => assert!(endpoint < 2),
                SessionOutput::Identify => self.machine.set_identity(Identity { session: [1; 16], secret: [1; 16] }),
                SessionOutput::Close | SessionOutput::Event(_) => {}
            }
        }
        let open = self.requests.values().any(|outcomes| *outcomes == 0);
        assert_eq!(self.machine.is_idle(), !open);
        assert!(!open || self.machine.poll_timeout().is_some(), "a request waits for nothing");
    }

    fn end(&mut self, number: u64) {
        let outcomes = self.requests.get_mut(&number).expect("an outcome belongs to a request");
        *outcomes += 1;
        assert_eq!(*outcomes, 1, "request {number} has a second outcome");
    }
}
