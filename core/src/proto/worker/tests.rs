//! The worker's promises, one by one. The virtual-time test bed tries them together.

use super::super::mdp::{self, ToWorker, Version};
use super::super::mdpx;
use super::*;

mod x1;

const BEAT: Duration = Duration::from_millis(1000);

fn options(protocol: Protocol) -> WorkerOptions {
    WorkerOptions::new("tcp://a:1,tcp://b:1", "echo").protocol(protocol).heartbeat(BEAT)
}

fn machine(version: Version, now: Instant) -> Worker {
    let options = options(Spoken::Mdp(version).into());
    Worker::new(WorkerConfig::from(&options), now, 7)
}

/// What the machine wants done, but for the events.
fn outputs(worker: &mut Worker) -> Vec<String> {
    all_outputs(worker).into_iter().filter(|output| !output.starts_with("event ")).collect()
}

fn events(worker: &mut Worker) -> Vec<String> {
    all_outputs(worker).iter().filter_map(|output| output.strip_prefix("event ")).map(str::to_owned).collect()
}

fn all_outputs(worker: &mut Worker) -> Vec<String> {
    std::iter::from_fn(|| worker.poll_output())
        // Goes with the first READY on each connection.
        .filter(
            |output| !matches!(output, WorkerOutput::Send(frames) if *frames == mdpx::control(&mdpx::Command::Batch)),
        )
        .flat_map(|output| match output {
            WorkerOutput::Send(frames) => mdpx::each_alone(frames).map(WorkerOutput::Send).collect(),
            output => vec![output],
        })
        .map(|output| match output {
            WorkerOutput::Connect { endpoint } => format!("connect {endpoint}"),
            WorkerOutput::Send(frames) if mdpx::is_header(&frames[0]) => x1::said(&frames),
            WorkerOutput::Send(frames) => match mdp::read_to_broker(frames) {
                Ok(ToBroker::Request { .. }) => "question".into(),
                Ok(ToBroker::Ready { version: Version::V02, .. }) => "ready 0.2".into(),
                Ok(ToBroker::Ready { .. }) => "ready".into(),
                Ok(ToBroker::Heartbeat { .. }) => "heartbeat".into(),
                Ok(ToBroker::Disconnect { .. }) => "disconnect".into(),
                Ok(ToBroker::Answer { part, body, .. }) => format!("{part:?} {}", body.len()),
                other => format!("{other:?}"),
            },
            WorkerOutput::Close => "close".into(),
            WorkerOutput::Request { number, .. } => format!("request {number}"),
            WorkerOutput::Cancelled { number } => format!("cancelled {number}"),
            WorkerOutput::Event(event) => format!("event {}", event.name()),
            WorkerOutput::Closed => "closed".into(),
        })
        .collect()
}

fn request(version: Version) -> Vec<Bytes> {
    let (address, body) = (Bytes::from("client"), vec![Bytes::from("hi")]);
    mdp::write_to_worker(version, ToWorker::Request { address, body })
}

fn say(worker: &mut Worker, now: Instant, message: ToWorker<Bytes>) {
    let version = worker.version().unwrap_or(Version::V01);
    worker.handle_message(now, mdp::write_to_worker(version, message));
}

fn reply(worker: &mut Worker, now: Instant, number: u64) {
    assert!(worker.answer(now, number, Answer::Final(Message::from("ok"))).is_ok());
}

#[test]
fn it_registers_beats_while_busy_and_answers() {
    for version in [Version::V01, Version::V02] {
        let now = Instant::now();
        let mut worker = machine(version, now);
        let ready = if version == Version::V01 { "ready" } else { "ready 0.2" };
        assert_eq!(outputs(&mut worker), ["connect 0", ready]);
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
    for (version, expected) in [(Version::V01, vec!["Final 2"]), (Version::V02, vec!["Partial 1", "Final 1"])] {
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
    worker.limit = 3;
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

/// What a broker answers to `mmi.protocols`, or to any question that it does not know.
fn answer_question(worker: &mut Worker, now: Instant, body: &[&'static str]) {
    let body = body.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect();
    let service = Bytes::from_static(b"mmi.protocols");
    let reply = mdp::ToClient { service, part: mdp::Part::Final, body };
    worker.handle_message(now, mdp::write_to_client(Version::V01, reply));
}

#[test]
fn a_worker_finds_out_what_the_broker_speaks_on_every_connection() {
    let now = Instant::now();
    let cases: [(&[&str], &str); 4] = [
        (&["200", "0.1", "0.2", "x1"], "READY 1"),
        (&["200", "0.1", "0.2"], "ready 0.2"),
        (&["200", "0.1"], "ready"),
        (&["501"], "ready"),
    ];
    for (answer, expected) in cases {
        let mut worker = Worker::new(WorkerConfig::from(&options(Protocol::Auto)), now, 7);
        for endpoint in ["connect 0", "connect 1"] {
            assert!(outputs(&mut worker).ends_with(&[endpoint.to_owned(), "question".to_owned()]));
            assert_eq!(worker.protocol(), None);
            answer_question(&mut worker, now, answer);
            assert_eq!(outputs(&mut worker), [expected], "{answer:?}");
            worker.handle_disconnected(now);
        }
    }
}

#[test]
fn a_broker_that_leaves_the_question_unanswered_is_asked_twice_and_then_spoken_to_in_0_2() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(Protocol::Auto)), now, 7);
    assert_eq!(worker.poll_timeout(), Some(now + BEAT * 3), "the question has not gone out yet");
    let sent = now + BEAT;
    worker.handle_sent(sent);
    outputs(&mut worker);
    let mut due = worker.poll_timeout();
    assert!(due.is_some_and(|due| due > sent && due < sent + BEAT * 3));
    for expected in ["question", "ready 0.2"] {
        worker.handle_timeout(due.unwrap_or(now));
        assert_eq!(outputs(&mut worker), [expected]);
        due = worker.poll_timeout();
    }
}

#[test]
fn a_broker_that_cannot_be_reached_is_left_for_the_next_one() {
    let now = Instant::now();
    let mut worker = Worker::new(WorkerConfig::from(&options(Protocol::Auto)), now, 7);
    outputs(&mut worker);
    worker.handle_timeout(now + BEAT * 3);
    assert_eq!(outputs(&mut worker), ["connect 1", "question"]);
}

#[test]
fn what_happens_to_the_connection_is_told() {
    let now = Instant::now();
    let mut worker = machine(Version::V01, now);
    assert!(events(&mut worker).is_empty(), "nothing is known yet");
    say(&mut worker, now, ToWorker::Heartbeat);
    say(&mut worker, now, ToWorker::Heartbeat);
    assert_eq!(events(&mut worker), ["connected"]);
    worker.handle_disconnected(now);
    assert_eq!(events(&mut worker), ["disconnected", "reconnecting"]);
    worker.handle_timeout(now + BEAT * 3);
    assert_eq!(events(&mut worker), ["reconnecting"], "it was never connected");
    worker.drain(now);
    assert_eq!(events(&mut worker), ["draining"]);
}
