//! The session's promises, one by one; the broker is played with the codec.

use super::super::client::ReplyMode;
use super::super::mdpx::Failure;
use super::*;
use crate::error::ServiceError;
use crate::message::Message;
use crate::options::{ClientOptions, Protocol, RequestOptions};

const TIMEOUT: Duration = Duration::from_millis(2500);

/// A machine, its clock, and what the test still has to look at.
struct Bed {
    session: Session,
    now: Instant,
    last: u64,
    done: Vec<String>,
    last_error: String,
}

/// What the broker was told, in a few words.
fn told(frames: &[Bytes]) -> String {
    if !mdpx::is_header(&frames[0]) {
        return "ask".into();
    }
    match mdpx::read(&frames[0], frames.len() - 1).unwrap().command {
        Command::Hello { session: [7, ..], secret: [8, ..], .. } => "hello".into(),
        Command::Hello { session: [9, ..], secret: [10, ..], .. } => "hello under another name".into(),
        Command::Request { number, .. } => format!("request {number}"),
        Command::Cancel { number } => format!("cancel {number}"),
        Command::Ack { number } => format!("ack {number}"),
        Command::Disconnect { kind, .. } => format!("disconnect {kind}"),
        other => panic!("{other:?}"),
    }
}

fn options() -> ClientOptions {
    ClientOptions::new("tcp://a:1,tcp://b:1").protocol(Protocol::X1)
}

impl Bed {
    fn new(options: &ClientOptions) -> Bed {
        let (now, identity) = (Instant::now(), Identity { session: [7; 16], secret: [8; 16] });
        Bed {
            session: Session::new(SessionConfig::from(options), identity, now),
            now,
            last: 0,
            done: Vec::new(),
            last_error: String::new(),
        }
    }

    /// A machine whose broker has welcomed it.
    fn ready(options: &ClientOptions, credit: u32) -> Bed {
        let mut bed = Bed::new(options);
        bed.ask(RequestOptions::default(), ReplyMode::Whole);
        assert_eq!(bed.outputs(), ["connect 0", "hello"]);
        bed.welcome(false, credit);
        assert_eq!(bed.outputs(), ["connected", "request 1"]);
        bed
    }

    fn ask(&mut self, options: RequestOptions, mode: ReplyMode) -> u64 {
        self.last += 1;
        let (service, body, submitted) = ("echo", Message::from("hi"), self.now);
        self.session.start(
            self.now,
            self.last,
            Asked { terms: Terms::new(service, &options).unwrap(), body, mode, submitted },
        );
        self.last
    }

    fn whole(&mut self) -> u64 {
        self.ask(RequestOptions::default(), ReplyMode::Whole)
    }

    fn say(&mut self, command: &Command<'_>, body: &str) {
        let frames = mdpx::message(command, &Message::from(body));
        self.session.handle_message(self.now, frames);
    }

    fn control(&mut self, command: &Command<'_>) {
        self.session.handle_message(self.now, mdpx::control(command));
    }

    fn welcome(&mut self, resumed: bool, credit: u32) {
        self.session.handle_sent(self.now);
        let (heartbeat_ms, liveness, max_message) = (500, 3, 1 << 20);
        self.control(&Command::ClientWelcome { resumed, heartbeat_ms, liveness, credit, max_message });
    }

    fn answer(&mut self, number: u64) {
        self.say(&Command::Final { number, sequence: 0 }, "hi");
    }

    /// The connection breaks; the next one is welcomed.
    fn reconnect(&mut self, resumed: bool, credit: u32) {
        self.session.handle_disconnected(self.now);
        let outputs = self.outputs();
        assert_eq!(outputs[outputs.len() - 1], "hello", "{outputs:?}");
        self.welcome(resumed, credit);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.session.poll_timeout().is_some_and(|due| due <= self.now) {
            self.session.handle_timeout(self.now);
        }
    }

    /// What is to be done but for outcomes, which are kept in `done`.
    fn outputs(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        while let Some(output) = self.session.poll_output() {
            // Goes with every HELLO.
            if matches!(&output, SessionOutput::Send(frames) if *frames == mdpx::control(&Command::Batch)) {
                continue;
            }
            outputs.push(match output {
                SessionOutput::Connect { endpoint } => format!("connect {endpoint}"),
                SessionOutput::Send(frames) => {
                    outputs.extend(mdpx::each_alone(frames).map(|frames| told(&frames)));
                    continue;
                }
                SessionOutput::Close => "close".into(),
                SessionOutput::Event(event) => event.name().into(),
                SessionOutput::Identify => {
                    self.session.set_identity(Identity { session: [9; 16], secret: [10; 16] });
                    "identify".into()
                }
                SessionOutput::Older { version, endpoint, requests } => {
                    let numbers: Vec<u64> = requests.iter().map(|(number, _)| *number).collect();
                    format!("older {} at {endpoint}: {numbers:?}", version.name())
                }
                SessionOutput::Partial { number, part } => {
                    self.done.push(format!("{number} part {}", part.len()));
                    continue;
                }
                SessionOutput::Done { number, outcome: Ok(body) } => {
                    self.done.push(format!("{number} ok {}", body.len()));
                    continue;
                }
                SessionOutput::Done { number, outcome: Err(error) } => {
                    self.done.push(format!("{number} {}", error.kind()));
                    self.last_error = error.to_string();
                    continue;
                }
            });
        }
        outputs
    }

    fn done(&mut self) -> Vec<String> {
        self.outputs();
        std::mem::take(&mut self.done)
    }
}

#[test]
fn nothing_goes_out_before_the_welcome_and_then_all_of_it_in_order() {
    let mut bed = Bed::new(&options());
    for _ in 0..3 {
        bed.whole();
    }
    assert_eq!(bed.outputs(), ["connect 0", "hello"]);
    bed.welcome(false, 10);
    assert_eq!(bed.outputs(), ["connected", "request 1", "request 2", "request 3"]);
    bed.answer(2);
    bed.answer(1);
    bed.answer(3);
    assert_eq!(bed.done(), ["2 ok 1", "1 ok 1", "3 ok 1"]);
    assert!(bed.session.is_idle() && bed.session.strays() == 0);
}

#[test]
fn no_more_is_outstanding_than_the_broker_and_the_caller_allow() {
    for (credit, in_flight) in [(2, 1000), (1000, 2), (0, 1)] {
        let limit = in_flight.min(credit.max(1)) as usize;
        let mut bed = Bed::ready(&options().max_in_flight(in_flight as usize), credit);
        (0..5).for_each(|_| {
            bed.whole();
        });
        assert_eq!(bed.outputs().len(), limit - 1, "beside the first one");
        for number in 1..=6 {
            bed.answer(number);
            assert_eq!(bed.outputs().len(), usize::from(number + limit as u64 <= 6), "one for one");
        }
        assert_eq!(bed.done().len(), 6);
    }
}

#[test]
fn what_is_cancelled_gives_its_credit_back_and_the_broker_hears_of_it() {
    let mut bed = Bed::ready(&options(), 1);
    let (second, third) = (bed.whole(), bed.whole());
    bed.session.cancel(bed.now, second, Error::new(ErrorKind::Cancelled, "not wanted"));
    assert!(bed.outputs().is_empty(), "it was not sent");
    bed.session.cancel(bed.now, 1, Error::new(ErrorKind::Cancelled, "not wanted"));
    assert_eq!(bed.outputs(), ["cancel 1".to_owned(), format!("request {third}")]);
    bed.answer(1);
    assert_eq!(bed.done(), ["2 Cancelled", "1 Cancelled"]);
    assert_eq!(bed.session.strays(), 1);
}

#[test]
fn a_resumed_session_sends_again_what_is_unanswered_and_cancels_what_was_given_up() {
    let mut bed = Bed::ready(&options(), 3);
    let once = RequestOptions { max_attempts: Some(1), ..RequestOptions::default() };
    bed.ask(once, ReplyMode::Whole);
    bed.whole();
    bed.whole();
    bed.answer(1);
    bed.outputs();
    bed.session.handle_disconnected(bed.now);
    assert_eq!(bed.outputs(), ["disconnected", "close", "reconnecting", "connect 1", "hello"]);
    bed.session.cancel(bed.now, 3, Error::new(ErrorKind::Cancelled, "not wanted"));
    bed.welcome(true, 3);
    assert_eq!(bed.outputs(), ["connected", "cancel 3", "request 2", "request 4"]);
    bed.answer(4);
    bed.answer(2);
    assert_eq!(bed.done(), ["1 ok 1", "3 Cancelled", "4 ok 1", "2 ok 1"]);
}

#[test]
fn a_forgotten_session_repeats_only_what_may_run_twice() {
    let mut bed = Bed::ready(&options(), 10);
    let once = RequestOptions { max_attempts: Some(1), ..RequestOptions::default() };
    bed.ask(once.clone(), ReplyMode::Whole);
    let stream = bed.ask(RequestOptions::default(), ReplyMode::Parts);
    bed.say(&Command::Partial { number: stream, sequence: 0 }, "a");
    bed.say(&Command::Partial { number: 1, sequence: 0 }, "lost with the broker");
    bed.session.handle_disconnected(bed.now);
    bed.ask(once, ReplyMode::Whole);
    bed.outputs();
    bed.welcome(false, 10);
    assert_eq!(bed.outputs(), ["connected", "request 1", "request 4"], "the last was never sent before");
    let mut done = bed.done();
    done.sort();
    assert_eq!(done, ["2 WorkerLost", "3 BrokerUnreachable", "3 part 1"]);
    bed.answer(1);
    assert_eq!(bed.done(), ["1 ok 1"], "of the old parts nothing is left");
}

#[test]
fn credit_that_shrinks_with_a_new_broker_holds_for_what_is_sent_again() {
    let mut bed = Bed::ready(&options(), 3);
    bed.whole();
    bed.whole();
    bed.outputs();
    bed.reconnect(true, 2);
    assert_eq!(bed.outputs(), ["connected", "request 1", "request 2"]);
    bed.answer(1);
    assert_eq!(bed.outputs(), ["request 3"]);
    bed.reconnect(false, 1);
    assert_eq!(bed.outputs(), ["connected", "request 2"]);
}

#[test]
fn a_gap_in_a_stream_fails_it_and_cancels_it() {
    let mut bed = Bed::ready(&options(), 10);
    let stream = bed.ask(RequestOptions::default(), ReplyMode::Parts);
    bed.say(&Command::Partial { number: stream, sequence: 0 }, "a");
    bed.outputs();
    bed.reconnect(true, 10);
    assert_eq!(bed.outputs(), ["connected", "request 1", "request 2"]);
    bed.say(&Command::Partial { number: stream, sequence: 2 }, "c");
    assert_eq!(bed.outputs(), ["cancel 2"]);
    bed.say(&Command::Final { number: 1, sequence: 3 }, "the end of what?");
    assert_eq!(bed.outputs(), ["cancel 1"]);
    assert_eq!(bed.done(), ["2 part 1", "2 BrokerUnreachable", "1 BrokerUnreachable"]);
}

#[test]
fn a_stream_gives_its_parts_and_a_whole_reply_joins_them_within_the_limit() {
    let mut bed = Bed::ready(&options().max_message_bytes(200), 10);
    let stream = bed.ask(RequestOptions::default(), ReplyMode::Parts);
    let large = bed.whole();
    for number in [1, stream] {
        bed.say(&Command::Partial { number, sequence: 0 }, "a");
        bed.say(&Command::Partial { number, sequence: 1 }, "b");
        bed.say(&Command::Final { number, sequence: 2 }, "c");
    }
    bed.say(&Command::Partial { number: large, sequence: 0 }, &"abcdef".repeat(30));
    assert_eq!(bed.done(), ["1 ok 3", "2 part 1", "2 part 1", "2 ok 1", "3 TooLarge"]);
}

#[test]
fn parts_of_empty_frames_and_of_none_are_not_joined_without_end() {
    for body in [Message::from(vec![Bytes::new(); 3]), Message::new()] {
        let mut bed = Bed::ready(&options().max_message_bytes(10_000), 10);
        let mut sequence = 0;
        while !bed.session.is_idle() {
            assert!(sequence < 1000, "{sequence} parts were joined");
            bed.session.handle_message(bed.now, mdpx::message(&Command::Partial { number: 1, sequence }, &body));
            sequence += 1;
        }
        assert_eq!(bed.done(), ["1 TooLarge"]);
    }
}

#[test]
fn the_deadline_ends_a_request_and_says_how_far_it_came() {
    let mut bed = Bed::new(&options());
    let within = |deadline| RequestOptions { deadline: Some(deadline), ..RequestOptions::default() };
    bed.ask(within(TIMEOUT / 10), ReplyMode::Whole);
    bed.pass(TIMEOUT / 10);
    assert_eq!(bed.done(), ["1 BrokerUnreachable"], "there was no connection");
    let silent = bed.ask(within(TIMEOUT / 10), ReplyMode::Whole);
    bed.session.handle_sent(bed.now);
    bed.pass(TIMEOUT / 10);
    assert_eq!(bed.done(), [format!("{silent} Timeout")], "HELLO was out");
    bed.whole();
    bed.ask(within(TIMEOUT / 2), ReplyMode::Whole);
    bed.ask(within(TIMEOUT / 3), ReplyMode::Whole);
    bed.welcome(false, 2);
    assert_eq!(bed.outputs(), ["connected", "request 3", "request 4"]);
    bed.pass(TIMEOUT / 3);
    bed.control(&Command::Heartbeat);
    assert_eq!(bed.done(), ["5 Timeout"], "it waited for its turn");
    bed.pass(TIMEOUT / 2 - TIMEOUT / 3);
    assert_eq!(bed.outputs(), ["cancel 4"]);
    assert_eq!(bed.done(), ["4 Timeout"]);
    assert!(!bed.session.is_idle());
}

#[test]
fn parts_renew_an_implied_deadline_and_not_the_callers_own() {
    let mut bed = Bed::ready(&options().timeout(TIMEOUT).retries(1), 10);
    let implied = bed.ask(RequestOptions::default(), ReplyMode::Parts);
    let explicit = RequestOptions { deadline: Some(TIMEOUT), ..RequestOptions::default() };
    let explicit = bed.ask(explicit, ReplyMode::Parts);
    for sequence in 0..4 {
        bed.pass(TIMEOUT / 3 - Duration::from_millis(1));
        bed.say(&Command::Partial { number: implied, sequence }, "a");
        if sequence < 2 {
            bed.say(&Command::Partial { number: explicit, sequence }, "a");
        }
    }
    let done: Vec<_> = bed.done().into_iter().filter(|done| !done.contains("part")).collect();
    assert_eq!(done, ["1 Timeout", "3 Timeout"]);
    bed.pass(TIMEOUT / 2);
    bed.control(&Command::Heartbeat);
    bed.pass(TIMEOUT / 2);
    assert_eq!(bed.done(), ["2 Timeout"]);
}

#[test]
fn outcomes_are_acknowledged_by_requests_by_number_and_by_time() {
    let acked = |frames: &[Bytes]| match mdpx::read(&frames[0], 0).unwrap().command {
        Command::Request { acked, .. } => acked,
        other => panic!("{other:?}"),
    };
    let mut bed = Bed::ready(&options(), 1000);
    bed.whole();
    bed.outputs();
    bed.answer(2);
    bed.outputs();
    bed.whole();
    let Some(SessionOutput::Send(frames)) = bed.session.poll_output() else { panic!() };
    assert_eq!(acked(&frames), 0, "the first is still open");
    bed.answer(1);
    bed.outputs();
    bed.pass(ACK_WITHIN);
    assert_eq!(bed.outputs(), ["ack 2"]);
    (0..300).for_each(|_| {
        bed.whole();
    });
    bed.outputs();
    (3..300).for_each(|number| bed.answer(number));
    assert_eq!(bed.outputs(), ["ack 258"]);
    bed.control(&Command::Heartbeat);
    bed.pass(ACK_WITHIN);
    assert_eq!(bed.outputs(), ["ack 299"]);
    bed.control(&Command::Heartbeat);
    bed.pass(ACK_WITHIN);
    assert!(bed.outputs().is_empty(), "it is said once");
}

#[test]
fn a_silent_broker_is_left_only_while_it_owes_something() {
    let mut bed = Bed::ready(&options(), 10);
    bed.answer(1);
    bed.outputs();
    bed.pass(TIMEOUT * 10);
    assert_eq!(bed.outputs(), ["ack 1"]);
    let deadline = Some(TIMEOUT * 10);
    bed.ask(RequestOptions { deadline, ..RequestOptions::default() }, ReplyMode::Whole);
    assert_eq!(bed.outputs(), ["request 2"]);
    for _ in 0..5 {
        bed.pass(Duration::from_millis(1499));
        bed.control(&Command::Heartbeat);
        assert!(bed.outputs().is_empty());
    }
    bed.pass(Duration::from_millis(1500));
    assert_eq!(bed.outputs(), ["disconnected", "close", "reconnecting", "connect 1", "hello"]);
}

#[test]
fn why_a_broker_takes_no_session_is_what_a_request_fails_with_that_found_no_other() {
    let options = options().reconnect_min(TIMEOUT / 10).reconnect_max(TIMEOUT / 10).deadline(TIMEOUT * 4);
    let mut bed = Bed::new(&options);
    let full = Command::Disconnect { kind: ErrorKind::QueueFull.number(), text: "max_sessions is reached" };
    bed.whole();
    bed.session.handle_sent(bed.now);
    bed.control(&full);
    assert_eq!(bed.outputs(), ["connect 0", "hello", "close", "reconnecting", "connect 1", "hello"]);
    // The other broker is not there. That the first one is full says more.
    bed.pass(TIMEOUT);
    assert_eq!(bed.outputs(), ["close", "reconnecting", "connect 0", "hello"]);
    bed.session.handle_sent(bed.now);
    bed.control(&full);
    bed.pass(TIMEOUT / 10);
    assert_eq!(bed.outputs(), ["close", "reconnecting", "connect 1", "hello"]);
    bed.session.handle_sent(bed.now);
    bed.pass(TIMEOUT * 3);
    assert_eq!(bed.done(), ["1 QueueFull"]);
    assert!(bed.last_error.contains("max_sessions is reached"), "{}", bed.last_error);
    // For the next request this is past, and so it is once a broker has taken the client.
    bed.ask(RequestOptions { deadline: Some(TIMEOUT / 10), ..RequestOptions::default() }, ReplyMode::Whole);
    bed.pass(TIMEOUT / 10);
    assert_eq!(bed.done(), ["2 BrokerUnreachable"]);
    bed.whole();
    bed.session.handle_sent(bed.now);
    bed.control(&full);
    bed.pass(TIMEOUT / 10);
    bed.session.handle_sent(bed.now);
    bed.welcome(false, 1);
    bed.whole();
    bed.session.handle_disconnected(bed.now);
    bed.pass(TIMEOUT * 4);
    assert_eq!(bed.done(), ["3 Timeout", "4 BrokerUnreachable"]);
    // A kind that says nothing of sessions changes nothing.
    bed.whole();
    bed.session.handle_sent(bed.now);
    bed.control(&Command::Disconnect { kind: ErrorKind::ServiceError.number(), text: "well" });
    bed.pass(TIMEOUT * 4);
    assert_eq!(bed.done(), ["5 BrokerUnreachable"]);
}

#[test]
fn a_session_that_is_denied_comes_back_after_a_pause_under_another_name() {
    let options = options().reconnect_min(TIMEOUT / 10).reconnect_max(TIMEOUT / 10).deadline(TIMEOUT * 4);
    let mut bed = Bed::ready(&options, 10);
    bed.ask(RequestOptions { max_attempts: Some(1), ..RequestOptions::default() }, ReplyMode::Whole);
    bed.outputs();
    bed.session.handle_disconnected(bed.now);
    bed.outputs();
    bed.session.handle_sent(bed.now);
    bed.control(&Command::Disconnect {
        kind: ErrorKind::Denied.number(),
        text: "the session belongs to somebody else",
    });
    assert_eq!(bed.outputs(), ["identify", "close"]);
    bed.pass(TIMEOUT / 10);
    assert_eq!(bed.outputs(), ["reconnecting", "connect 0", "hello under another name"]);
    bed.welcome(false, 10);
    assert_eq!(bed.outputs(), ["connected", "request 1"]);
    assert_eq!(bed.done(), ["2 WorkerLost"], "it may have run for the session of before");
    // Where it does not help, that is what requests fail with that were never sent.
    bed.session.handle_disconnected(bed.now);
    bed.outputs();
    bed.whole();
    while !bed.session.is_idle() {
        bed.session.handle_sent(bed.now);
        bed.control(&Command::Disconnect { kind: ErrorKind::Denied.number(), text: "not you" });
        bed.outputs();
        bed.pass(TIMEOUT / 10);
    }
    assert_eq!(bed.done(), ["1 Timeout", "3 Denied"]);
    assert!(bed.last_error.contains("not you"), "{}", bed.last_error);
}

#[test]
fn broken_connections_are_made_again_at_once_and_then_after_growing_pauses() {
    let options = options().reconnect_min(TIMEOUT / 10).reconnect_max(TIMEOUT / 5).deadline(TIMEOUT * 20);
    let mut bed = Bed::ready(&options, 10);
    bed.session.handle_disconnected(bed.now);
    assert_eq!(bed.outputs().last().map(String::as_str), Some("hello"));
    for longest in [1, 2, 2] {
        let longest = TIMEOUT / 10 * longest;
        bed.session.handle_disconnected(bed.now);
        assert_eq!(bed.outputs(), ["close"]);
        let pause = bed.session.poll_timeout().map(|due| due - bed.now).unwrap();
        assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
        bed.pass(pause);
        assert_eq!(bed.outputs().last().map(String::as_str), Some("hello"));
    }
}

#[test]
fn a_broker_of_an_older_protocol_is_handed_what_may_be_asked_there() {
    let question = Bytes::from_static(b"mmi.protocols");
    let answer = |names: &[&'static str]| {
        let mut frames = vec![Bytes::new(), Bytes::from_static(b"MDPC01"), question.clone(), Bytes::from("200")];
        frames.extend(names.iter().map(|name| Bytes::from_static(name.as_bytes())));
        frames
    };
    let mut bed = Bed::new(&options().protocol(Protocol::Auto));
    bed.whole();
    bed.ask(RequestOptions { max_attempts: Some(1), ..RequestOptions::default() }, ReplyMode::Whole);
    assert_eq!(bed.outputs(), ["connect 0", "ask"]);
    bed.session.handle_sent(bed.now);
    bed.session.handle_message(bed.now, answer(&["0.1", "0.2", "x1"]));
    assert_eq!(bed.outputs(), ["hello"]);
    bed.welcome(false, 10);
    assert_eq!(bed.outputs(), ["connected", "request 1", "request 2"]);
    bed.session.handle_disconnected(bed.now);
    bed.ask(RequestOptions { max_attempts: Some(1), ..RequestOptions::default() }, ReplyMode::Whole);
    bed.outputs();
    bed.session.handle_sent(bed.now);
    bed.session.handle_message(bed.now, answer(&["0.1"]));
    assert_eq!(bed.outputs(), ["close", "older 0.1 at 1: [1, 3]"]);
    assert_eq!(bed.done(), ["2 WorkerLost"]);
    assert!(bed.session.is_idle() && bed.session.poll_timeout().is_none());
    bed.whole();
    assert_eq!(bed.outputs(), ["connect 1", "ask"], "the next one asks anew");
    bed.session.handle_sent(bed.now);
    bed.pass(Duration::from_millis(500));
    assert_eq!(bed.outputs(), ["ask"]);
    bed.pass(Duration::from_millis(500));
    assert_eq!(bed.outputs(), ["close", "older 0.2 at 1: [4]"]);
}

#[test]
fn failures_keep_what_the_broker_says() {
    let mut bed = Bed::ready(&options(), 10);
    let text = "no such page";
    bed.whole();
    bed.whole();
    bed.outputs();
    for (number, kind) in [(1, ErrorKind::ServiceError.number()), (2, ErrorKind::NoWorker.number()), (3, 250)] {
        bed.control(&Command::Error { number, failure: Failure { kind, retryable: true, code: 404, text } });
    }
    let mut errors = std::iter::from_fn(|| bed.session.poll_output()).map(|output| match output {
        SessionOutput::Done { outcome: Err(error), .. } => error,
        other => panic!("{other:?}"),
    });
    let service = errors.next().unwrap();
    assert_eq!(service.service_error(), Some(&ServiceError::new(404, text).retryable(true)));
    let others: Vec<_> = errors.map(|error| (error.kind(), error.to_string())).collect();
    assert_eq!(others, [(ErrorKind::NoWorker, text.to_owned()), (ErrorKind::Internal, text.to_owned())]);
}

#[test]
fn a_request_that_the_broker_would_not_take_fails_alone() {
    let mut bed = Bed::new(&options());
    bed.whole();
    bed.session.handle_sent(bed.now);
    let (heartbeat_ms, liveness, credit) = (500, 3, 10);
    bed.control(&Command::ClientWelcome { resumed: false, heartbeat_ms, liveness, credit, max_message: 1 });
    assert_eq!(bed.done(), ["1 TooLarge"]);
    assert!(bed.session.is_ready() && bed.session.is_idle());
}

#[test]
fn hostile_messages_change_nothing() {
    let mut bed = Bed::ready(&options(), 1);
    let waiting = bed.whole();
    bed.answer(waiting);
    bed.answer(99);
    bed.control(&Command::Error { number: waiting, failure: Failure { kind: 1, retryable: false, code: 0, text: "" } });
    bed.say(&Command::Partial { number: waiting, sequence: 0 }, "never asked");
    bed.session.handle_message(bed.now, vec![]);
    bed.session.handle_message(bed.now, vec![Bytes::from_static(b"MDPX01"), Bytes::new()]);
    bed.control(&Command::Drain);
    bed.welcome(true, 1);
    assert!(bed.outputs().is_empty() && bed.done.is_empty());
    assert_eq!(bed.session.strays(), 8);
}

#[test]
fn closing_ends_everything_and_takes_leave() {
    let mut bed = Bed::ready(&options(), 1);
    bed.whole();
    bed.session.close(&Error::closed("client"));
    assert_eq!(bed.outputs(), ["disconnect 0", "close"]);
    assert_eq!(bed.done, ["1 Closed", "2 Closed"]);
    assert!(bed.session.is_idle() && bed.session.poll_timeout().is_none());
}

#[test]
fn what_ended_long_ago_leaves_nothing_behind_a_request_that_runs_long() {
    let mut bed = Bed::ready(&options(), 10);
    for _ in 0..10_000 {
        let number = bed.whole();
        bed.answer(number);
    }
    bed.outputs();
    let kept = [bed.session.queue.len(), bed.session.sent.len(), bed.session.deadlines.len()];
    assert!(kept.iter().all(|len| *len <= SWEPT_FROM + 1), "{kept:?}");
    bed.answer(1);
    assert!(bed.session.is_idle());
}

#[test]
fn a_driver_that_slept_through_the_brokers_rest_does_not_take_it_for_silence() {
    let mut bed = Bed::ready(&options(), 10);
    bed.answer(1);
    assert_eq!(bed.done(), ["1 ok 1"]);
    // Nobody looks at the machine meanwhile, as with a blocking client that is not called.
    bed.now += Duration::from_secs(60);
    let number = bed.ask(RequestOptions::default(), ReplyMode::Parts);
    bed.pass(Duration::from_millis(10));
    // The acknowledgement of the first outcome is long due.
    assert_eq!(bed.outputs(), ["request 2"]);
    bed.say(&Command::Partial { number, sequence: 0 }, "part");
    bed.say(&Command::Final { number, sequence: 1 }, "last");
    assert_eq!(bed.done(), ["2 part 1", "2 ok 1"]);
}

#[test]
fn messages_of_a_batch_count_one_after_the_other_up_to_one_that_may_not_be_there() {
    let mut bed = Bed::ready(&options(), 8);
    bed.whole();
    bed.whole();
    let reply = |number| mdpx::message(&Command::Final { number, sequence: 0 }, &Message::from("hi")).remove(0);
    let mut batch = Vec::new();
    mdpx::begin_batch(&mut batch);
    mdpx::pack(&mut batch, 0, &[reply(1), reply(2), mdpx::control(&Command::Batch).remove(0), reply(3)]);
    bed.session.handle_message(bed.now, vec![batch.into()]);
    assert_eq!(bed.done(), ["1 ok 1", "2 ok 1"]);
}
