//! The broker's promises to peers of MDPX.

use super::*;
use crate::error::ErrorKind;
use crate::message::Message;
use crate::properties::Properties;
use crate::proto::mdpx::{Command, Failure};

const SESSION: SessionId = [7; 16];
const SECRET: [u8; 16] = [9; 16];

/// A message of MDPX that went out: whom it is for, what it says and its body.
#[derive(Debug)]
struct Said {
    to: String,
    header: Bytes,
    rest: Vec<Bytes>,
}

impl Said {
    fn command(&self) -> Command<'_> {
        mdpx::read(&self.header, self.rest.len()).unwrap().command
    }

    fn body(&self) -> Message {
        let layout = mdpx::read(&self.header, self.rest.len()).unwrap().layout;
        layout.into_message(self.header.clone(), self.rest.clone())
    }

    fn text(&self) -> String {
        self.body().iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join("+")
    }

    /// In short, for comparisons.
    fn brief(&self) -> String {
        let to = &self.to;
        match self.command() {
            Command::Partial { number, sequence } => format!("{to}:partial {number}.{sequence} {}", self.text()),
            Command::Final { number, sequence } => format!("{to}:final {number}.{sequence} {}", self.text()),
            Command::Error { number, failure } => {
                format!("{to}:error {number} {}", ErrorKind::from_number(failure.kind).unwrap())
            }
            Command::Deliver { attempt, .. } => format!("{to}:work {} attempt {attempt}", self.text()),
            Command::WorkerCancel { .. } => format!("{to}:cancel"),
            Command::ClientWelcome { resumed, .. } => format!("{to}:welcome resumed={resumed}"),
            Command::WorkerWelcome { .. } => format!("{to}:welcome"),
            Command::Heartbeat => format!("{to}:beat"),
            Command::Disconnect { .. } => format!("{to}:disconnect"),
            other => format!("{to}:{other:?}"),
        }
    }
}

impl Bed {
    fn x1(&mut self, peer: &str, command: &Command<'_>, body: &Message) {
        self.broker.handle_message(self.now, peer.as_bytes(), mdpx::message(command, body));
    }

    fn tell(&mut self, peer: &str, command: &Command<'_>) {
        self.broker.handle_message(self.now, peer.as_bytes(), mdpx::control(command));
    }

    pub(super) fn hello(&mut self, peer: &str) {
        self.tell(peer, &Command::Hello { session: SESSION, secret: SECRET, heartbeat_ms: 1000, liveness: 3 });
    }

    pub(super) fn ask_x1(&mut self, peer: &str, number: u64, text: &str) {
        self.x1(peer, &request(number), &Message::from(text));
    }

    pub(super) fn ready_x1(&mut self, peer: &str, capacity: u32) {
        self.tell(peer, &Command::Ready { capacity, heartbeat_ms: 1000, liveness: 3, service: b"echo" });
    }

    fn said(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(Transmit { to, frames }) = self.broker.poll_transmit() {
            let mut frames = frames.into_iter();
            let header = frames.next().unwrap();
            said.push(Said { to: String::from_utf8_lossy(&to).into_owned(), header, rest: frames.collect() });
        }
        said
    }

    pub(super) fn briefly(&mut self) -> Vec<String> {
        self.said().iter().map(Said::brief).collect()
    }

    /// The deliveries that went out, by their numbers.
    fn deliveries(&mut self) -> Vec<u64> {
        let numbers = self.said().into_iter().filter_map(|said| match said.command() {
            Command::Deliver { delivery, .. } => Some(delivery),
            _ => None,
        });
        numbers.collect()
    }
}

fn request(number: u64) -> Command<'static> {
    Command::Request { number, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: false, service: b"echo" }
}

fn answer(delivery: u64) -> Command<'static> {
    Command::WorkerFinal { delivery, sequence: 0 }
}

/// A broker with one session and one worker.
fn hub(capacity: u32) -> Bed {
    let mut bed = bed(|options| options);
    bed.hello("c");
    bed.ready_x1("w", capacity);
    assert_eq!(bed.briefly(), ["c:welcome resumed=false", "w:welcome"]);
    bed
}

#[test]
fn every_version_of_client_reaches_every_version_of_worker() {
    let mut bed = hub(1);
    bed.ask_x1("c", 1, "hi");
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    bed.x1("w", &answer(delivery), &Message::from("ho"));
    assert_eq!(bed.briefly(), ["c:final 1.0 ho"]);
    for version in [V01, V02] {
        bed.ask("old", version, "echo", "hi");
        let [delivery] = bed.deliveries()[..] else { panic!("no work") };
        bed.x1("w", &answer(delivery), &Message::from("ho"));
        assert_eq!(bed.sent(), ["old:Final ho"]);
    }
    bed.tell("w", &Command::Disconnect { kind: 0, text: "" });
    for (version, number) in [(V01, 2), (V02, 3)] {
        bed.ready("older", version, "echo");
        bed.ask_x1("c", number, "hi");
        let address = bed.address();
        bed.answer("older", version, &address, Part::Final, "ho");
        assert_eq!(bed.briefly(), [format!("c:final {number}.0 ho")]);
        bed.say("older", ToBroker::Disconnect { version });
    }
}

#[test]
fn properties_and_large_bodies_reach_the_worker_and_come_back() {
    let mut bed = hub(1);
    let mut properties = Properties::new();
    properties.set(Properties::TRACEPARENT, "00-1-2-03").unwrap();
    for (number, size) in [(1, 10), (2, 100_000)] {
        let message = Message::from(vec![b'x'; size]).with_properties(properties.clone());
        bed.x1("c", &request(number), &message);
        let said = bed.said();
        assert_eq!(said[0].body(), message);
        let Command::Deliver { delivery, session, number: same, .. } = said[0].command() else { panic!("no work") };
        assert_eq!((session, same), (SESSION, number), "the worker learns which request it is");
        bed.x1("w", &answer(delivery), &message);
        assert_eq!(bed.said()[0].body(), message);
    }
}

#[test]
fn a_worker_never_holds_more_than_its_capacity_and_may_change_it() {
    let mut bed = hub(2);
    for number in 1..=5 {
        bed.ask_x1("c", number, "hi");
    }
    let held = bed.deliveries();
    assert_eq!(held.len(), 2);
    bed.ready_x1("w", 3);
    assert_eq!(bed.deliveries().len(), 1);
    bed.x1("w", &answer(held[0]), &Message::from("ho"));
    assert_eq!(bed.briefly().iter().filter(|said| said.contains("work")).count(), 1);
}

#[test]
fn requests_go_to_the_least_loaded_worker() {
    let mut bed = hub(8);
    bed.ready_x1("v", 8);
    bed.said();
    for number in 1..=4 {
        bed.ask_x1("c", number, "hi");
    }
    let to: Vec<_> = bed.said().into_iter().map(|said| said.to).collect();
    assert_eq!(to.iter().filter(|to| *to == "w").count(), 2, "{to:?}");
}

#[test]
fn of_requests_that_come_together_a_worker_gets_a_quarter_of_what_it_holds_in_a_row_and_no_more() {
    let mut bed = hub(1000);
    let workers = ["w", "v", "u"];
    workers[1..].iter().for_each(|worker| bed.ready_x1(worker, 1000));
    bed.said();
    let mut held = [0_usize; 3];
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in 1..=900 {
        bed.ask_x1("c", number, "hi");
        let to = bed.said().pop().expect("work").to;
        let at = workers.iter().position(|worker| *worker == to).expect("a worker");
        let fewest = held.into_iter().min().unwrap_or_default();
        match runs.last_mut() {
            Some((last, length)) if *last == at => *length += 1,
            _ => {
                assert_eq!(held[at], fewest, "request {number} begins at the least loaded");
                runs.push((at, 1));
            }
        }
        held[at] += 1;
        assert!(held[at] <= fewest + (fewest / 4).max(1), "request {number}: {held:?}");
    }
    assert!(runs[..12].iter().all(|(_, length)| *length == 1), "few go to one each: {runs:?}");
    assert!(runs.len() < 100, "many go in rows: {} of them", runs.len());
}

#[test]
fn a_request_that_comes_again_is_never_run_again() {
    let mut bed = hub(1);
    bed.ask_x1("c", 1, "hi");
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    bed.broker.handle_gone(bed.now, b"c");
    bed.hello("d");
    assert_eq!(bed.briefly(), ["d:welcome resumed=true"]);
    bed.ask_x1("d", 1, "hi");
    assert!(bed.briefly().is_empty(), "it runs already");
    bed.x1("w", &answer(delivery), &Message::from("ho"));
    assert_eq!(bed.briefly(), ["d:final 1.0 ho"]);
    // The outcome was lost with the connection.
    bed.broker.handle_gone(bed.now, b"d");
    bed.hello("e");
    bed.said();
    bed.ask_x1("e", 1, "hi");
    assert_eq!(bed.briefly(), ["e:final 1.0 ho"], "it is answered from what was kept");
    bed.tell("e", &Command::Ack { number: 1 });
    bed.ask_x1("e", 1, "hi");
    assert_eq!(bed.briefly(), ["e:error 1 Expired"], "an acknowledged outcome is forgotten, and the request not run");
    assert_eq!(bed.broker.stats(bed.now).kept_bytes, 0);
}

#[test]
fn a_session_is_the_clients_who_knows_its_secret() {
    let mut bed = hub(1);
    bed.tell("thief", &Command::Hello { session: SESSION, secret: [0; 16], heartbeat_ms: 1000, liveness: 3 });
    assert_eq!(bed.briefly(), ["thief:disconnect"]);
    bed.ask_x1("c", 1, "hi");
    assert_eq!(bed.deliveries().len(), 1, "the owner goes on");
}

#[test]
fn a_client_that_does_not_come_back_is_given_up_and_its_requests_with_it() {
    let mut bed = hub(1);
    bed.ask_x1("c", 1, "runs");
    bed.ask_x1("c", 2, "waits");
    assert_eq!(bed.deliveries().len(), 1);
    bed.broker.handle_gone(bed.now, b"c");
    bed.pass(BEAT * 2);
    assert_eq!(bed.broker.stats(bed.now).queued, 1, "it may come back");
    bed.tell("w", &Command::Heartbeat);
    bed.pass(BEAT * 2);
    let said = bed.briefly();
    assert!(said.contains(&"w:cancel".to_owned()), "{said:?}");
    let stats = bed.broker.stats(bed.now);
    assert_eq!((stats.queued, stats.in_flight, stats.sessions, stats.counters.abandoned), (0, 0, 0, 2));
}

#[test]
fn a_lost_workers_requests_go_to_another_in_order_and_its_late_answers_do_not_count() {
    let mut bed = hub(2);
    bed.ask_x1("c", 1, "one");
    bed.ask_x1("c", 2, "two");
    let lost = bed.deliveries();
    bed.broker.handle_gone(bed.now, b"w");
    bed.ready_x1("v", 2);
    assert_eq!(bed.briefly(), ["v:welcome", "v:work one attempt 2", "v:work two attempt 2"]);
    bed.x1("v", &answer(lost[0]), &Message::from("wrong"));
    assert!(bed.briefly().is_empty());
    assert_eq!(bed.counters().stray_replies, 1);
}

#[test]
fn a_request_of_one_attempt_is_not_run_twice() {
    let mut bed = hub(1);
    let once = Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 1, fail_fast: false, service: b"echo" };
    bed.x1("c", &once, &Message::from("hi"));
    bed.said();
    bed.broker.handle_gone(bed.now, b"w");
    bed.ready_x1("v", 1);
    assert_eq!(bed.briefly(), ["c:error 1 WorkerLost", "v:welcome"]);
}

#[test]
fn a_request_whose_workers_were_all_lost_fails_with_the_last_permitted_attempt() {
    let mut bed = hub(1);
    let twice =
        Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 2, fail_fast: false, service: b"echo" };
    bed.x1("c", &twice, &Message::from("hi"));
    bed.said();
    bed.broker.handle_gone(bed.now, b"w");
    bed.ready_x1("v", 1);
    assert_eq!(bed.briefly(), ["v:welcome", "v:work hi attempt 2"]);
    bed.broker.handle_gone(bed.now, b"v");
    bed.ready_x1("u", 1);
    let said = bed.said();
    let Command::Error { number: 1, failure } = said[0].command() else { panic!("{said:?}") };
    assert_eq!((failure.kind, failure.retryable), (6, true), "AttemptsExhausted");
    assert_eq!(said[1].brief(), "u:welcome");
    assert_eq!((said.len(), bed.counters().exhausted, bed.broker.held()), (2, 1, 0));
}

#[test]
fn a_request_that_no_handler_has_seen_is_returned_without_an_attempt() {
    let mut bed = hub(1);
    let once = Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 1, fail_fast: false, service: b"echo" };
    bed.x1("c", &once, &Message::from("hi"));
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    bed.ready_x1("v", 1);
    bed.tell("w", &Command::Drain);
    bed.tell("w", &Command::Return { delivery });
    assert_eq!(bed.briefly(), ["v:welcome", "v:work hi attempt 1"]);
}

#[test]
fn a_worker_that_drains_gets_nothing_more_and_what_it_holds_is_answered() {
    let mut bed = hub(4);
    bed.ask_x1("c", 1, "hi");
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    bed.tell("w", &Command::Drain);
    bed.ask_x1("c", 2, "waits");
    assert!(bed.briefly().is_empty());
    bed.x1("w", &answer(delivery), &Message::from("ho"));
    assert_eq!(bed.briefly(), ["c:final 1.0 ho"]);
}

#[test]
fn a_retryable_failure_goes_to_another_worker_and_the_last_one_to_the_caller() {
    let mut bed = hub(1);
    let failed = |delivery, retryable| {
        let failure = Failure { kind: ErrorKind::ServiceError.number(), retryable, code: 503, text: "later" };
        Command::WorkerError { delivery, failure }
    };
    bed.ask_x1("c", 1, "hi");
    let [first] = bed.deliveries()[..] else { panic!("no work") };
    bed.ready_x1("v", 1);
    bed.tell("w", &failed(first, true));
    let said = bed.said();
    assert_eq!(said[1].brief(), "v:work hi attempt 2");
    let Command::Deliver { delivery, .. } = said[1].command() else { panic!("no work") };
    bed.tell("v", &failed(delivery, false));
    let said = bed.said();
    let Command::Error { number: 1, failure } = said[0].command() else { panic!("{said:?}") };
    assert_eq!((failure.code, failure.text, failure.retryable), (503, "later", false));
}

#[test]
fn a_cancelled_request_leaves_the_queue_or_its_worker_is_told() {
    let mut bed = hub(1);
    bed.ask_x1("c", 1, "runs");
    bed.ask_x1("c", 2, "waits");
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    bed.tell("c", &Command::Cancel { number: 2 });
    assert_eq!(bed.broker.stats(bed.now).queued, 0);
    bed.tell("c", &Command::Cancel { number: 1 });
    assert_eq!(bed.briefly(), ["w:cancel"]);
    bed.ask_x1("c", 3, "next");
    assert!(bed.briefly().is_empty(), "the worker still owes the first answer");
    bed.x1("w", &answer(delivery), &Message::from("late"));
    assert_eq!(bed.briefly(), ["w:work next attempt 1"], "and its answer goes nowhere");
    assert_eq!(bed.counters().cancelled, 2);
}

#[test]
fn time_runs_out_in_the_queue_and_in_the_handler() {
    let mut bed = hub(1);
    let short = |number| Command::Request {
        number,
        acked: 0,
        ttl_ms: 100,
        max_attempts: 0,
        fail_fast: false,
        service: b"echo",
    };
    bed.x1("c", &short(1), &Message::from("runs"));
    bed.x1("c", &short(2), &Message::from("waits"));
    let said = bed.said();
    let Command::Deliver { ttl_ms, .. } = said[0].command() else { panic!("no work") };
    assert_eq!(ttl_ms, 100);
    bed.pass(Duration::from_millis(99));
    assert!(bed.briefly().is_empty());
    bed.pass(Duration::from_millis(1));
    assert_eq!(bed.briefly(), ["w:cancel", "c:error 1 Expired", "c:error 2 Expired"]);
}

#[test]
fn nobody_to_ask_is_an_error_for_those_who_do_not_want_to_wait() {
    let mut bed = bed(|options| options);
    bed.hello("c");
    let fast = Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: true, service: b"echo" };
    bed.x1("c", &fast, &Message::from("hi"));
    assert_eq!(bed.briefly(), ["c:welcome resumed=false", "c:error 1 NoWorker"]);
}

#[test]
fn a_worker_that_drains_is_nobody_to_ask() {
    let mut bed = hub(1);
    let fast =
        |number| Command::Request { number, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: true, service: b"echo" };
    bed.ask_x1("c", 1, "held");
    bed.tell("w", &Command::Drain);
    bed.tell("w", &Command::Drain);
    bed.said();
    bed.x1("c", &fast(2), &Message::from("hi"));
    assert_eq!(bed.briefly(), ["c:error 2 NoWorker"]);
    bed.ready_x1("v", 1);
    bed.x1("c", &fast(3), &Message::from("hi"));
    assert_eq!(bed.briefly(), ["v:welcome", "v:work hi attempt 1"]);
    bed.tell("w", &Command::Disconnect { kind: 0, text: "" });
    bed.x1("c", &fast(4), &Message::from("waits for v"));
    assert!(bed.briefly().is_empty());
    bed.tell("v", &Command::Drain);
    bed.x1("c", &fast(5), &Message::from("hi"));
    assert_eq!(bed.briefly(), ["c:error 5 NoWorker"]);
}

#[test]
fn limits_and_credit_refuse_with_a_reason_and_lose_nothing() {
    let mut bed = bed(|options| options.credit(2).max_queued_per_service(1).max_message_bytes(100));
    bed.hello("c");
    bed.ask_x1("c", 1, "waits");
    bed.ask_x1("c", 2, "one too many");
    bed.x1("c", &request(3), &Message::from(vec![0; 101]));
    assert_eq!(bed.briefly()[1..], ["c:error 2 QueueFull", "c:error 3 TooLarge"]);
    bed.ready_x1("w", 8);
    bed.ask_x1("c", 4, "second");
    bed.ask_x1("c", 5, "beyond credit");
    assert_eq!(
        bed.briefly(),
        ["w:welcome", "w:work waits attempt 1", "w:work second attempt 1", "c:error 5 QueueFull"]
    );
}

#[test]
fn streams_are_numbered_and_are_not_begun_again() {
    let mut bed = hub(2);
    bed.ask_x1("c", 1, "stream");
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    for sequence in 0..2 {
        bed.x1("w", &Command::WorkerPartial { delivery, sequence }, &Message::from("part"));
    }
    assert_eq!(bed.briefly(), ["c:partial 1.0 part", "c:partial 1.1 part"]);
    bed.broker.handle_gone(bed.now, b"w");
    assert_eq!(bed.briefly(), ["c:error 1 WorkerLost"]);
    // A worker of 0.2 does not number its parts.
    bed.ready("older", V02, "echo");
    bed.ask_x1("c", 2, "stream");
    let address = bed.address();
    bed.answer("older", V02, &address, Part::Partial, "part");
    bed.answer("older", V02, &address, Part::Final, "end");
    assert_eq!(bed.briefly(), ["c:partial 2.0 part", "c:final 2.1 end"]);
}

#[test]
fn failures_of_older_workers_are_failures_and_of_newer_ones_are_readable_to_older_clients() {
    let mut bed = bed(|options| options);
    bed.hello("c");
    bed.ready("older", V01, "echo");
    bed.said();
    bed.ask_x1("c", 1, "hi");
    let address = bed.address();
    let body: Vec<_> = failure_frames(404, "no such page");
    bed.say("older", ToBroker::Answer { version: V01, address, part: Part::Final, body });
    let said = bed.said();
    let Command::Error { failure, .. } = said[0].command() else { panic!("{said:?}") };
    assert_eq!((failure.code, failure.text), (404, "no such page"));
    bed.say("older", ToBroker::Disconnect { version: V01 });
    bed.ready_x1("w", 1);
    bed.said();
    bed.ask("old", V01, "echo", "hi");
    let [delivery] = bed.deliveries()[..] else { panic!("no work") };
    let failure = Failure { kind: ErrorKind::ServiceError.number(), retryable: false, code: 7, text: "no" };
    bed.tell("w", &Command::WorkerError { delivery, failure });
    assert_eq!(bed.sent(), ["old:Final MAJORDOMO-ERROR+7+no"]);
}

fn failure_frames(code: u32, text: &str) -> Vec<Bytes> {
    crate::proto::failure::encode(&crate::error::ServiceError::new(code, text)).into_frames()
}

#[test]
fn a_client_hears_from_the_broker_while_it_waits_and_only_then() {
    let mut bed = hub(1);
    bed.pass(BEAT * 2);
    assert!(!bed.briefly().contains(&"c:beat".to_owned()));
    bed.tell("w", &Command::Heartbeat);
    bed.ask_x1("c", 1, "hi");
    bed.said();
    bed.pass(BEAT * 2);
    assert_eq!(bed.briefly().iter().filter(|said| *said == "c:beat").count(), 2);
}

#[test]
fn beats_of_an_idle_worker_are_met_at_once_and_cost_no_beats_of_their_own() {
    let mut bed = hub(1);
    bed.pass(BEAT / 4);
    bed.said();
    let mut met = 0;
    for _ in 0..10 {
        bed.tell("w", &Command::Heartbeat);
        met += usize::from(bed.briefly().contains(&"w:beat".to_owned()));
        bed.pass(BEAT);
        assert!(
            !bed.briefly().contains(&"w:beat".to_owned()),
            "what was said with the worker's beat is not said again"
        );
    }
    assert_eq!(met, 10);
}

#[test]
fn a_worker_that_falls_silent_is_sent_away_busy_or_not() {
    let mut bed = hub(1);
    bed.ask_x1("c", 1, "hi");
    bed.said();
    bed.pass(BEAT * 4);
    let said = bed.briefly();
    assert!(said.contains(&"w:disconnect".to_owned()), "{said:?}");
    assert_eq!(bed.counters().workers_lost, 1);
    assert_eq!(bed.broker.stats(bed.now).queued, 1);
}

#[test]
fn strangers_to_a_conversation_are_told_to_begin_one() {
    let mut bed = bed(|options| options);
    bed.ask_x1("nobody", 1, "hi");
    bed.tell("nobody", &answer(1));
    bed.tell("nobody", &Command::Heartbeat);
    assert_eq!(bed.briefly(), ["nobody:disconnect", "nobody:disconnect", "nobody:disconnect"]);
}

#[test]
fn kept_outcomes_take_bounded_memory() {
    let mut bed = hub(1);
    for number in 1..=80 {
        bed.ask_x1("c", number, "hi");
        let [delivery] = bed.deliveries()[..] else { panic!("no work") };
        bed.x1("w", &answer(delivery), &Message::from(vec![0; 1 << 20]));
        bed.said();
    }
    let kept = bed.broker.stats(bed.now).kept_bytes;
    assert!((1 << 20..=64 << 20).contains(&kept), "{kept}");
}

/// What went out to a peer, as messages; those of a BATCH one by one behind a mark.
fn unbatched(said: &[Said]) -> Vec<String> {
    let mut all = Vec::new();
    for one in said {
        if one.command() == Command::Batch {
            all.push(format!("{}:batch", one.to));
            let layout = mdpx::read(&one.header, 0).unwrap().layout;
            all.extend(
                layout
                    .messages(&one.header)
                    .map(|header| Said { to: one.to.clone(), header, rest: Vec::new() }.brief()),
            );
        } else {
            all.push(one.brief());
        }
    }
    all
}

#[test]
fn small_messages_go_out_together_to_peers_that_take_that_and_order_is_kept() {
    let mut bed = hub(8);
    bed.tell("w", &Command::Batch);
    bed.ask_x1("c", 1, "one");
    bed.ask_x1("c", 2, "two");
    bed.x1("c", &request(3), &Message::from(vec![0; 10_000]));
    bed.ask_x1("c", 4, "alone");
    let said = bed.said();
    let texts: Vec<_> = unbatched(&said).into_iter().filter(|text| text.len() < 100).collect();
    assert_eq!(texts, ["w:batch", "w:work one attempt 1", "w:work two attempt 1", "w:work alone attempt 1"]);
    assert_eq!(said.len(), 3, "the large one in its place between them");
    // The client has not said that it takes batches.
    let mut deliveries = Vec::new();
    for one in &said {
        mdpx::each_message(&one.header, one.rest.len(), |command| {
            if let Command::Deliver { delivery, .. } = command {
                deliveries.push(delivery);
            }
        });
    }
    bed.x1("w", &answer(deliveries[0]), &Message::from("1"));
    bed.x1("w", &answer(deliveries[1]), &Message::from("2"));
    assert_eq!(bed.briefly(), ["c:final 1.0 1", "c:final 2.0 2"]);
    bed.tell("c", &Command::Batch);
    bed.x1("w", &answer(deliveries[2]), &Message::from("3"));
    bed.x1("w", &answer(deliveries[3]), &Message::from("4"));
    assert_eq!(unbatched(&bed.said()), ["c:batch", "c:final 3.0 3", "c:final 4.0 4"]);
}

#[test]
fn a_batch_from_a_peer_is_as_good_as_its_messages() {
    let mut bed = hub(8);
    let mut gathered = mdpx::Gathered::default();
    for number in 1..=3 {
        assert_eq!(gathered.add(&request(number), Some(&Message::from("hi"))), None);
    }
    let batch = gathered.take().unwrap();
    bed.broker.handle_message(bed.now, b"c", batch.clone());
    assert_eq!(bed.deliveries().len(), 3);
    // One within another is no message.
    let mut nested = Vec::new();
    mdpx::begin_batch(&mut nested);
    mdpx::pack(&mut nested, 0, &batch);
    bed.broker.handle_message(bed.now, b"c", vec![Bytes::from(nested)]);
    assert_eq!((bed.deliveries().len(), bed.counters().malformed), (0, 1));
}

#[test]
fn deliveries_in_a_batch_that_did_not_go_out_were_no_attempts() {
    let mut bed = hub(8);
    bed.tell("w", &Command::Batch);
    bed.ask_x1("c", 1, "one");
    bed.ask_x1("c", 2, "two");
    let lost = bed.broker.poll_transmit().unwrap();
    bed.broker.handle_undeliverable(bed.now, lost);
    bed.ready_x1("v", 8);
    assert_eq!(bed.briefly(), ["v:welcome", "v:work one attempt 1", "v:work two attempt 1"]);
}

#[test]
fn what_sessions_keep_has_a_limit_in_all_and_leaves_room_for_others() {
    let most = 20_000;
    let mut bed = bed(|options| options.max_queued_bytes(most).max_message_bytes(1000).credit(1));
    let mut largest = 0;
    for (peer, session) in [("a", [1; 16]), ("b", [2; 16]), ("c", [3; 16])] {
        bed.tell(peer, &Command::Hello { session, secret: SECRET, heartbeat_ms: 1000, liveness: 3 });
        // The first waits for ever; all others are refused, and their refusals never acknowledged.
        for number in 1..=500 {
            bed.ask_x1(peer, number, "x");
            let kept = bed.broker.stats(bed.now).kept_bytes;
            assert!(kept <= most, "{kept}");
            largest = largest.max(kept);
        }
        let own = bed.broker.sessions.values().find(|session| session.peer.as_deref() == Some(peer.as_bytes()));
        assert!(own.is_some_and(|session| session.kept_bytes() > 100), "{peer} has room for something");
    }
    assert!(largest > most / 2, "{largest}");
    for peer in ["a", "b", "c"] {
        bed.tell(peer, &Command::Disconnect { kind: 0, text: "" });
    }
    assert_eq!(bed.broker.stats(bed.now).kept_bytes, 0);
}

#[test]
fn a_peer_that_is_a_worker_and_a_client_at_once_is_told_nothing_once_it_is_gone() {
    let mut bed = bed(|options| options.max_attempts(1));
    bed.hello("c");
    bed.ready("c", Version::V01, "echo");
    bed.ask_x1("c", 1, "hi");
    while bed.broker.poll_transmit().is_some() {}
    assert_eq!(bed.broker.stats(bed.now).in_flight, 1, "it works on its own request");
    bed.broker.handle_gone(bed.now, b"c");
    assert!(bed.broker.poll_transmit().is_none());
}
