//! The worker's promises, one by one. The virtual-time test bed tries them together.

use super::*;

const BEAT: Duration = Duration::from_millis(1000);

fn machine(version: Version, now: Instant) -> Worker {
    let options = WorkerOptions::new("tcp://a:1,tcp://b:1", "echo").protocol(protocol).heartbeat(BEAT);
    Worker::new(WorkerConfig::from(&options), now, 7)
}

fn outputs(worker: &mut Worker) -> Vec<String> {
    std::iter::from_fn(|| worker.poll_output())
        .map(|output| match output {
            WorkerOutput::Connect { endpoint } => format!("connect {endpoint}"),
            WorkerOutput::Send(frames) => match mdp::read_to_broker(frames) {
                Ok(ToBroker::Ready { .. }) => "ready".into(),
                Ok(ToBroker::Heartbeat { .. }) => "heartbeat".into(),
                Ok(ToBroker::Disconnect { .. }) => "disconnect".into(),
                Ok(ToBroker::Answer { part, body, .. }) => format!("{part:?} {}", body.len()),
                other => format!("{other:?}"),
            },
            WorkerOutput::Close => "close".into(),
            WorkerOutput::Request { number, .. } => format!("request {number}"),
            WorkerOutput::Closed => "closed".into(),
        })
        .collect()
}

fn request(version: Version) -> Vec<Bytes> {
    let (address, body) = (Bytes::from("client"), vec![Bytes::from("hi")]);
    mdp::write_to_worker(version, ToWorker::Request { address, body })
}

fn say(worker: &mut Worker, now: Instant, message: ToWorker<Bytes>) {
    let frames = mdp::write_to_worker(worker.config.version, message);
    worker.handle_message(now, frames);
}

fn reply(worker: &mut Worker, now: Instant, number: u64) {
    assert!(worker.answer(now, number, Answer::Final(Message::from("ok"))).is_ok());
}

#[test]
fn it_registers_beats_while_busy_and_answers() {
    for version in [Version::V01, Version::V02] {
        let now = Instant::now();
        let mut worker = machine(version, now);
        assert_eq!(outputs(&mut worker), ["connect 0", "ready"]);
        worker.handle_message(now, request(version));
        assert_eq!(outputs(&mut worker), ["request 1"]);
        assert_eq!(worker.poll_timeout(), Some(now + BEAT));
        worker.handle_timeout(now + BEAT);
        assert_eq!(outputs(&mut worker), ["heartbeat"]);
        reply(&mut worker, now + BEAT, 1);
        assert_eq!(outputs(&mut worker), ["Final 1"]);
    }
}

#[test]
fn a_silent_broker_is_left_only_while_idle() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.handle_message(now, request(Version::V01));
    outputs(&mut worker);
    worker.handle_timeout(now + BEAT * 10);
    assert_eq!(outputs(&mut worker), ["heartbeat"]);
    reply(&mut worker, now + BEAT * 10, 1);
    outputs(&mut worker);
    worker.handle_timeout(now + BEAT * 13);
    assert_eq!(outputs(&mut worker), ["connect 1", "ready"]);
}

#[test]
fn any_traffic_is_a_sign_of_life() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.handle_message(now + BEAT * 2, request(Version::V01));
    reply(&mut worker, now + BEAT * 2, 1);
    outputs(&mut worker);
    worker.handle_timeout(now + BEAT * 3);
    assert_eq!(outputs(&mut worker), ["heartbeat"]);
}

#[test]
fn a_broker_that_beats_faster_is_answered() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    outputs(&mut worker);
    for beat in 1..4 {
        say(&mut worker, now + BEAT / 5 * beat, ToWorker::Heartbeat);
        assert_eq!(outputs(&mut worker), ["heartbeat"]);
    }
}

#[test]
fn hasty_beats_and_answers_to_our_own_start_no_storm() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    outputs(&mut worker);
    let soon = |n: u32| now + BEAT + Duration::from_millis(1) * n;
    worker.handle_timeout(now + BEAT);
    assert_eq!(outputs(&mut worker), ["heartbeat"]);
    for n in 1..4 {
        say(&mut worker, soon(n), ToWorker::Heartbeat);
    }
    assert!(outputs(&mut worker).is_empty());
    assert_eq!(worker.poll_timeout(), Some(now + BEAT * 2), "our own pace is as before");
}

#[test]
fn a_request_lost_with_its_connection_is_finished_before_registering_again() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.handle_message(now, request(Version::V01));
    outputs(&mut worker);
    worker.handle_disconnected(now);
    assert_eq!(outputs(&mut worker), ["close"]);
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["connect 1", "ready"]);
}

#[test]
fn a_broker_that_refuses_again_and_again_is_asked_with_growing_pauses() {
    let mut now = Instant::now();
    let mut worker = machine(Version::V01, now);
    outputs(&mut worker);
    say(&mut worker, now, ToWorker::Disconnect);
    assert_eq!(outputs(&mut worker), ["close", "connect 1", "ready"]);
    let mut last = Duration::ZERO;
    for _ in 0..8 {
        say(&mut worker, now, ToWorker::Disconnect);
        outputs(&mut worker);
        let Some(until) = worker.poll_timeout() else { panic!("no pause") };
        last = until - now;
        assert!(last >= FIRST_PAUSE / 2 && last <= Duration::from_millis(2500));
        now = until;
        worker.handle_timeout(now);
        assert!(outputs(&mut worker).contains(&"ready".to_owned()));
    }
    assert!(last >= Duration::from_millis(1250));
    say(&mut worker, now, ToWorker::Heartbeat);
    say(&mut worker, now, ToWorker::Disconnect);
    assert!(outputs(&mut worker).contains(&"ready".to_owned()), "a broker that spoke is asked again at once");
}

#[test]
fn partials_go_out_in_0_2_and_are_joined_in_0_1() {
    for (protocol, expected) in [(Version::V01, vec!["Final 2"]), (Version::V02, vec!["Partial 1", "Final 1"])] {
        let now = Instant::now();
        let mut worker = machine(version, now);
        worker.handle_message(now, request(version));
        outputs(&mut worker);
        assert!(worker.answer(now, 1, Answer::Partial(Message::from("a"))).is_ok());
        reply(&mut worker, now, 1);
        assert_eq!(outputs(&mut worker), expected);
    }
}

#[test]
fn a_drain_finishes_the_request_in_hand_and_then_leaves() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.handle_message(now, request(Version::V01));
    outputs(&mut worker);
    worker.drain(now);
    assert!(outputs(&mut worker).is_empty());
    reply(&mut worker, now, 1);
    assert_eq!(outputs(&mut worker), ["Final 1", "disconnect", "close", "closed"]);
    assert!(worker.is_closed() && worker.poll_timeout().is_none());
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.handle_message(now, request(Version::V01));
    outputs(&mut worker);
    worker.drain(now);
    worker.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(outputs(&mut worker), ["disconnect", "close", "closed"]);
}

#[test]
fn an_answer_that_is_too_large_leaves_the_request_open() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.config.max_message_bytes = 3;
    worker.handle_message(now, request(Version::V01));
    let result = worker.answer(now, 1, Answer::Final(Message::from("long")));
    assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::TooLarge));
    assert!(worker.is_busy());
}

#[test]
fn a_second_request_gives_both_back() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    worker.handle_message(now, request(Version::V01));
    outputs(&mut worker);
    worker.handle_message(now, request(Version::V01));
    assert_eq!(outputs(&mut worker), ["disconnect", "close"]);
}
