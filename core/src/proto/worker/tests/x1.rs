//! A worker's promises over MDPX.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::proto::mdpx::{self, Command, SessionId};

/// What a message to the broker says, in a word.
pub(super) fn said(frames: &[Bytes]) -> String {
    match mdpx::read(&frames[0], frames.len() - 1).map(|header| header.command) {
        Ok(Command::Ready { capacity, .. }) => format!("READY {capacity}"),
        Ok(Command::WorkerPartial { delivery, sequence }) => format!("PARTIAL {delivery} {sequence}"),
        Ok(Command::WorkerFinal { delivery, sequence }) => format!("FINAL {delivery} {sequence}"),
        Ok(Command::WorkerError { delivery, failure }) => {
            let retryable = if failure.retryable { " retryable" } else { "" };
            format!("ERROR {delivery} {} {}{retryable}", failure.kind, failure.code)
        }
        Ok(Command::Return { delivery }) => format!("RETURN {delivery}"),
        Ok(Command::Disconnect { kind, .. }) => format!("DISCONNECT {kind}"),
        Ok(Command::Drain) => "DRAIN".into(),
        Ok(Command::Heartbeat) => "HEARTBEAT".into(),
        other => format!("{other:?}"),
    }
}

fn tell(worker: &mut Worker, now: Instant, command: &Command<'_>) {
    worker.handle_message(now, mdpx::control(command));
}

fn welcome(worker: &mut Worker, now: Instant) {
    tell(worker, now, &Command::WorkerWelcome { heartbeat_ms: 1000, liveness: 3, max_message: 1 << 20 });
}

fn options(concurrency: usize, prefetch: usize) -> WorkerOptions {
    super::options(Protocol::X1).concurrency(concurrency).prefetch(prefetch)
}

/// A machine that is registered.
fn registered(options: &WorkerOptions, now: Instant) -> Worker {
    let mut worker = Worker::new(WorkerConfig::from(options), now, 7);
    welcome(&mut worker, now);
    all_outputs(&mut worker);
    worker
}

struct Work {
    delivery: u64,
    session: SessionId,
    number: u64,
    ttl_ms: u32,
    attempt: u16,
    body: Message,
}

fn work(delivery: u64) -> Work {
    Work { delivery, session: [1; 16], number: delivery, ttl_ms: 0, attempt: 1, body: Message::from("hi") }
}

fn deliver(worker: &mut Worker, now: Instant, work: Work) {
    let Work { delivery, session, number, ttl_ms, attempt, body } = work;
    worker.handle_message(now, mdpx::message(&Command::Deliver { delivery, session, number, ttl_ms, attempt }, &body));
}

fn answer(worker: &mut Worker, now: Instant, number: u64, answer: Answer) {
    assert!(worker.answer(now, number, answer).is_ok());
}

fn text(text: &str) -> Message {
    Message::from(text)
}

#[test]
fn it_says_how_much_it_takes_and_works_once_it_is_welcome() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(3, 2)), now, 7);
    assert_eq!(all_outputs(&mut worker), ["connect 0", "READY 5"]);
    welcome(&mut worker, now);
    assert_eq!(all_outputs(&mut worker), ["event connected"]);
    for delivery in 11..16 {
        deliver(&mut worker, now, work(delivery));
    }
    assert_eq!(all_outputs(&mut worker), ["request 1", "request 2", "request 3"]);
    reply(&mut worker, now, 2);
    assert_eq!(all_outputs(&mut worker), ["request 4", "FINAL 12 0"], "what waited takes the free handler");
    for number in [1, 3, 4, 5] {
        reply(&mut worker, now, number);
    }
    assert_eq!(all_outputs(&mut worker), ["request 5", "FINAL 11 0", "FINAL 13 0", "FINAL 14 0", "FINAL 15 0"]);
}

#[test]
fn a_request_carries_what_the_broker_knows_of_it() {
    let now = Instant::now();
    let mut worker = registered(&options(2, 0), now);
    let mut properties = crate::Properties::new();
    assert!(properties.set("content-type", "text/plain").is_ok());
    let body = text("hi").with_properties(properties);
    deliver(&mut worker, now, Work { ttl_ms: 250, attempt: 3, number: 9, body: body.clone(), ..work(1) });
    let Some(WorkerOutput::Request { body: received, attempt, deadline, key, .. }) = worker.poll_output() else {
        panic!("no request");
    };
    assert_eq!((received, attempt, deadline), (body, 3, Some(now + Duration::from_millis(250))));
    assert_eq!(key, Some(RequestKey { session: [1; 16], number: 9 }));
    deliver(&mut worker, now, Work { session: [0; 16], ..work(2) });
    let Some(WorkerOutput::Request { deadline, key, .. }) = worker.poll_output() else { panic!("no request") };
    assert_eq!((deadline, key), (None, None), "an older client's");
}

#[test]
fn parts_are_numbered_and_failures_keep_their_code_and_whether_to_try_again() {
    let now = Instant::now();
    let mut worker = registered(&options(1, 1), now);
    deliver(&mut worker, now, work(1));
    for _ in 0..2 {
        answer(&mut worker, now, 1, Answer::Partial(text("part")));
    }
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["request 1", "PARTIAL 1 0", "PARTIAL 1 1", "FINAL 1 2"]);
    for (number, retryable) in [(2, false), (3, true)] {
        deliver(&mut worker, now, work(number));
        answer(&mut worker, now, number, Answer::Failure(ServiceError::new(404, "no").retryable(retryable)));
    }
    assert_eq!(outputs(&mut worker), ["request 2", "request 3", "ERROR 2 8 404", "ERROR 3 8 404 retryable"]);
}

#[test]
fn a_broker_that_exceeds_the_capacity_is_left_and_not_asked_again_at_once() {
    let now = Instant::now();
    let mut worker = registered(&options(1, 1), now);
    for delivery in 1..4 {
        deliver(&mut worker, now, work(delivery));
    }
    assert_eq!(outputs(&mut worker), ["request 1", "cancelled 1", "DISCONNECT 11", "close"]);
    assert!(worker.poll_timeout().is_some_and(|due| due > now));
}

#[test]
fn a_delivery_before_the_welcome_breaks_the_protocol() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(1, 1)), now, 7);
    deliver(&mut worker, now, work(1));
    assert_eq!(outputs(&mut worker), ["connect 0", "READY 2", "DISCONNECT 11", "close"]);
}

#[test]
fn a_cancelled_request_is_dropped_before_its_turn_and_told_afterwards() {
    let now = Instant::now();
    let mut worker = registered(&options(1, 2), now);
    for delivery in 1..4 {
        deliver(&mut worker, now, work(delivery));
    }
    outputs(&mut worker);
    for delivery in [2, 1, 1, 77] {
        tell(&mut worker, now, &Command::WorkerCancel { delivery });
    }
    assert_eq!(outputs(&mut worker), ["cancelled 1", "ERROR 2 7 0"]);
    answer(&mut worker, now, 1, Answer::Partial(text("for nobody")));
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["request 2", "FINAL 1 1"], "it is still owed an answer");
    tell(&mut worker, now, &Command::WorkerCancel { delivery: 3 });
    answer(&mut worker, now, 2, Answer::Cancelled);
    assert_eq!(outputs(&mut worker), ["cancelled 2", "ERROR 3 7 0"]);
}

#[test]
fn a_request_whose_time_is_over_before_its_turn_goes_back_unseen() {
    let now = Instant::now();
    let mut worker = registered(&options(1, 2), now);
    deliver(&mut worker, now, work(1));
    deliver(&mut worker, now, Work { ttl_ms: 100, ..work(2) });
    deliver(&mut worker, now, Work { ttl_ms: 300, ..work(3) });
    reply(&mut worker, now + Duration::from_millis(200), 1);
    assert_eq!(outputs(&mut worker), ["request 1", "request 2", "FINAL 1 0", "RETURN 2"]);
}

#[test]
fn a_request_that_reached_no_handler_can_be_taken_back() {
    let now = Instant::now();
    let mut worker = registered(&options(1, 1), now);
    deliver(&mut worker, now, work(1));
    deliver(&mut worker, now, work(2));
    worker.take_back(now, 1);
    assert_eq!(outputs(&mut worker), ["request 1", "request 2", "RETURN 1"]);
}

#[test]
fn a_drain_returns_what_nobody_began_and_answers_the_rest() {
    let now = Instant::now();
    let mut worker = registered(&options(2, 2), now);
    for delivery in 1..5 {
        deliver(&mut worker, now, work(delivery));
    }
    outputs(&mut worker);
    worker.drain(now);
    worker.drain(now);
    assert_eq!(all_outputs(&mut worker), ["event draining", "RETURN 3", "RETURN 4", "DRAIN", "question"]);
    reply(&mut worker, now, 1);
    reply(&mut worker, now, 2);
    deliver(&mut worker, now, work(5));
    assert_eq!(outputs(&mut worker), ["FINAL 1 0", "FINAL 2 0", "RETURN 5"], "on its way when DRAIN was said");
    answer_question(&mut worker, now, &["200", "x1"]);
    assert_eq!(outputs(&mut worker), ["DISCONNECT 0", "close", "closed"]);
}

#[test]
fn an_idle_worker_that_drains_is_gone_soon_whether_the_broker_answers_or_not() {
    let now = Instant::now();
    let mut worker = registered(&options(1, 1), now);
    worker.drain(now);
    assert_eq!(outputs(&mut worker), ["DRAIN", "question"]);
    let due = worker.poll_timeout().unwrap_or(now);
    assert!(due > now && due < now + BEAT);
    worker.handle_timeout(due);
    assert_eq!(outputs(&mut worker), ["DISCONNECT 0", "close", "closed"]);
    let mut worker = registered(&options(1, 1), now);
    worker.drain(now);
    worker.handle_disconnected(now);
    assert!(worker.is_closed());
}

#[test]
fn a_worker_that_drains_before_its_welcome_returns_what_was_on_its_way() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(1, 1)), now, 7);
    worker.drain(now);
    assert_eq!(outputs(&mut worker), ["connect 0", "READY 2", "DRAIN", "question"]);
    welcome(&mut worker, now);
    deliver(&mut worker, now, work(1));
    deliver(&mut worker, now, work(2));
    assert_eq!(outputs(&mut worker), ["RETURN 1", "RETURN 2"], "told of before the broker knew of the DRAIN");
    answer_question(&mut worker, now, &["200", "x1"]);
    assert_eq!(outputs(&mut worker), ["DISCONNECT 0", "close", "closed"]);
    let mut worker = Worker::new(WorkerConfig::from(&options(1, 1)), now, 7);
    worker.drain(now);
    worker.handle_timeout(worker.poll_timeout().unwrap_or(now));
    assert!(worker.is_closed(), "the broker need not answer");
}

#[test]
fn a_drain_ends_when_its_time_is_over_or_the_last_handler_is_done_without_a_connection() {
    let now = Instant::now();
    for lost in [false, true] {
        let mut worker = registered(&options(1, 0), now);
        deliver(&mut worker, now, work(1));
        worker.drain(now);
        outputs(&mut worker);
        if lost {
            worker.handle_disconnected(now);
            assert_eq!(outputs(&mut worker), ["cancelled 1", "close"], "no new connection");
            reply(&mut worker, now, 1);
        } else {
            let ends = now + Duration::from_secs(5);
            while let Some(due) = worker.poll_timeout().filter(|due| *due < ends) {
                tell(&mut worker, due, &Command::Heartbeat);
                worker.handle_timeout(due);
            }
            outputs(&mut worker);
            worker.handle_timeout(ends);
        }
        assert!(worker.is_closed() && worker.poll_timeout().is_none());
    }
}

#[test]
fn after_a_lost_connection_it_registers_with_what_is_free_and_says_so_as_more_becomes_free() {
    let now = Instant::now();
    let mut worker = registered(&options(2, 2), now);
    for delivery in 1..5 {
        deliver(&mut worker, now, work(delivery));
    }
    outputs(&mut worker);
    worker.handle_disconnected(now);
    assert_eq!(outputs(&mut worker), ["cancelled 1", "cancelled 2", "close", "connect 1", "READY 2"]);
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["READY 3"], "its answer is dropped");
    welcome(&mut worker, now);
    for delivery in 1..4 {
        deliver(&mut worker, now, work(delivery));
    }
    assert_eq!(outputs(&mut worker), ["request 3"], "the other handler still runs");
    reply(&mut worker, now, 2);
    assert_eq!(outputs(&mut worker), ["request 4", "READY 4"]);
    reply(&mut worker, now, 3);
    assert_eq!(outputs(&mut worker), ["request 5", "FINAL 1 0"], "numbers of an earlier broker mean nothing");
}

#[test]
fn heartbeats_are_the_brokers_and_silence_counts_while_busy_too() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(1, 0)), now, 7);
    tell(&mut worker, now, &Command::WorkerWelcome { heartbeat_ms: 200, liveness: 2, max_message: 3 });
    deliver(&mut worker, now, work(1));
    outputs(&mut worker);
    let beat = Duration::from_millis(200);
    assert_eq!(worker.poll_timeout(), Some(now + beat));
    worker.handle_timeout(now + beat);
    assert_eq!(outputs(&mut worker), ["HEARTBEAT"]);
    let refused = worker.answer(now, 1, Answer::Final(text("long")));
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::TooLarge), "the broker's limit is smaller");
    worker.handle_timeout(now + beat * 2);
    assert_eq!(outputs(&mut worker), ["cancelled 1", "connect 1", "READY 0"]);
}

#[test]
fn a_broker_that_never_says_welcome_is_left() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(1, 0)), now, 7);
    outputs(&mut worker);
    worker.handle_timeout(now + BEAT);
    assert!(outputs(&mut worker).is_empty(), "no beats before that");
    worker.handle_timeout(now + BEAT * 3);
    assert_eq!(outputs(&mut worker), ["connect 1", "READY 1"]);
}

#[test]
fn handlers_that_still_run_keep_an_older_broker_waiting() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(2, 0).protocol(Protocol::Auto)), now, 7);
    answer_question(&mut worker, now, &["200", "x1"]);
    welcome(&mut worker, now);
    deliver(&mut worker, now, work(1));
    worker.handle_disconnected(now);
    outputs(&mut worker);
    answer_question(&mut worker, now, &["501"]);
    assert_eq!(outputs(&mut worker), ["close"]);
    reply(&mut worker, now, 1);
    worker.handle_timeout(worker.poll_timeout().unwrap_or(now));
    assert_eq!(outputs(&mut worker), ["connect 1", "question"]);
}

fn keeping(concurrency: usize, prefetch: usize) -> WorkerOptions {
    options(concurrency, prefetch).keep_outcomes(10)
}

fn repeat(delivery: u64) -> Work {
    Work { number: 1, ..work(delivery) }
}

#[test]
fn a_repeat_is_answered_from_the_kept_outcome() {
    let now = Instant::now();
    let failure = |retryable| Answer::Failure(ServiceError::new(5, "no").retryable(retryable));
    let cases = [
        (Answer::Final(text("ok")), "FINAL 2 0"),
        (failure(false), "ERROR 2 8 5"),
        // These say nothing about the next attempt.
        (failure(true), "request 2"),
        (Answer::Cancelled, "request 2"),
    ];
    for (outcome, expected) in cases {
        let mut worker = registered(&keeping(1, 1), now);
        deliver(&mut worker, now, repeat(1));
        answer(&mut worker, now, 1, outcome);
        outputs(&mut worker);
        deliver(&mut worker, now, repeat(2));
        assert_eq!(outputs(&mut worker), [expected]);
    }
}

#[test]
fn streams_and_requests_of_older_clients_are_not_kept() {
    let now = Instant::now();
    let mut worker = registered(&keeping(1, 1), now);
    deliver(&mut worker, now, repeat(1));
    answer(&mut worker, now, 1, Answer::Partial(text("part")));
    reply(&mut worker, now, 1);
    outputs(&mut worker);
    deliver(&mut worker, now, repeat(2));
    assert_eq!(outputs(&mut worker), ["request 2"]);
    reply(&mut worker, now, 2);
    for delivery in [3, 4] {
        deliver(&mut worker, now, Work { session: [0; 16], ..repeat(delivery) });
        outputs(&mut worker);
        assert!(worker.is_busy());
        reply(&mut worker, now, delivery);
    }
}

#[test]
fn an_idempotency_key_is_stronger_than_session_and_number() {
    let now = Instant::now();
    let keyed = |delivery: u64, key: &str| {
        let mut properties = crate::Properties::new();
        assert!(properties.set(crate::Properties::IDEMPOTENCY_KEY, key).is_ok());
        Work { body: text("hi").with_properties(properties), session: [delivery as u8; 16], ..repeat(delivery) }
    };
    let mut worker = registered(&keeping(1, 1), now);
    deliver(&mut worker, now, keyed(1, "a"));
    reply(&mut worker, now, 1);
    outputs(&mut worker);
    deliver(&mut worker, now, keyed(2, "a"));
    assert_eq!(outputs(&mut worker), ["FINAL 2 0"]);
    deliver(&mut worker, now, keyed(3, "b"));
    assert_eq!(outputs(&mut worker), ["request 2"]);
}

#[test]
fn a_repeat_of_what_is_being_worked_on_waits_for_its_outcome() {
    let now = Instant::now();
    let mut worker = registered(&keeping(2, 2), now);
    for delivery in 1..4 {
        deliver(&mut worker, now, repeat(delivery));
    }
    assert_eq!(outputs(&mut worker), ["request 1"]);
    tell(&mut worker, now, &Command::WorkerCancel { delivery: 3 });
    tell(&mut worker, now, &Command::WorkerCancel { delivery: 1 });
    assert_eq!(outputs(&mut worker), ["ERROR 3 7 0"], "the handler goes on for the one that is left");
    reply(&mut worker, now, 1);
    let mut answers = outputs(&mut worker);
    answers.sort();
    assert_eq!(answers, ["FINAL 1 0", "FINAL 2 0"]);
}

#[test]
fn the_handler_of_a_request_is_told_when_the_last_of_its_repeats_is_cancelled_or_given_back() {
    let now = Instant::now();
    for drains in [false, true] {
        let mut worker = registered(&keeping(2, 0), now);
        deliver(&mut worker, now, repeat(1));
        deliver(&mut worker, now, repeat(2));
        tell(&mut worker, now, &Command::WorkerCancel { delivery: 1 });
        assert_eq!(outputs(&mut worker), ["request 1"], "the repeat waits");
        if drains {
            worker.drain(now);
            assert_eq!(outputs(&mut worker), ["cancelled 1", "RETURN 2", "DRAIN", "question"]);
        } else {
            tell(&mut worker, now, &Command::WorkerCancel { delivery: 2 });
            assert_eq!(outputs(&mut worker), ["cancelled 1", "ERROR 2 7 0"]);
        }
    }
}

#[test]
fn an_idle_worker_forgets_outcomes_that_are_old() {
    let now = Instant::now();
    let mut worker = registered(&keeping(1, 0).keep_outcomes_age(BEAT), now);
    deliver(&mut worker, now, repeat(1));
    reply(&mut worker, now, 1);
    assert!(!worker.outcomes.is_empty());
    worker.handle_timeout(now + BEAT);
    assert!(worker.outcomes.is_empty());
}

#[test]
fn an_outcome_outlives_the_connection_and_an_unfit_one_is_not_shared() {
    let now = Instant::now();
    let mut worker = registered(&keeping(1, 2), now);
    deliver(&mut worker, now, repeat(1));
    worker.handle_disconnected(now);
    welcome(&mut worker, now);
    outputs(&mut worker);
    deliver(&mut worker, now, Work { attempt: 2, ..repeat(1) });
    assert!(outputs(&mut worker).is_empty(), "the first attempt still runs");
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["READY 3", "FINAL 1 0"]);

    let mut worker = registered(&keeping(2, 2), now);
    deliver(&mut worker, now, repeat(1));
    deliver(&mut worker, now, repeat(2));
    answer(&mut worker, now, 1, Answer::Partial(text("part")));
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["request 1", "request 2", "PARTIAL 1 0", "FINAL 1 1"], "a stream is begun anew");
}

#[test]
fn messages_of_a_batch_count_one_after_the_other_up_to_one_that_may_not_be_there() {
    let now = Instant::now();
    let mut worker = registered(&options(4, 0), now);
    let deliver = |delivery| {
        let (session, number, ttl_ms, attempt) = ([1; 16], delivery, 0, 1);
        mdpx::message(&Command::Deliver { delivery, session, number, ttl_ms, attempt }, &text("hi")).remove(0)
    };
    let mut batch = Vec::new();
    mdpx::begin_batch(&mut batch);
    mdpx::pack(&mut batch, 0, &[deliver(1), deliver(2), mdpx::control(&Command::Batch).remove(0), deliver(3)]);
    worker.handle_message(now, vec![batch.into()]);
    assert_eq!(outputs(&mut worker), ["request 1", "request 2"]);
}
