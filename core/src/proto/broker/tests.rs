//! The broker's promises, one by one. The virtual-time test bed tries them together.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::options::BrokerOptions;
use crate::proto::mdp::{Part, ToBroker, ToClient, ToWorker};

mod fairness;
mod x1;

const BEAT: Duration = Duration::from_millis(1000);

struct Bed {
    broker: Broker<Bytes>,
    now: Instant,
}

fn bed(change: impl FnOnce(BrokerOptions) -> BrokerOptions) -> Bed {
    let options = change(BrokerOptions::new("tcp://127.0.0.1:0").heartbeat(BEAT));
    let now = Instant::now();
    Bed { broker: Broker::new(BrokerConfig::from(&options), now, 42), now }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn body(text: &str) -> Vec<Bytes> {
    vec![bytes(text)]
}

impl Bed {
    fn say(&mut self, peer: &str, message: ToBroker<Bytes>) {
        self.broker.handle_message(self.now, peer.as_bytes(), mdp::write_to_broker(message));
    }

    fn ask(&mut self, client: &str, version: Version, service: &str, text: &str) {
        self.say(client, ToBroker::Request { version, service: bytes(service), body: body(text) });
    }

    fn ready(&mut self, worker: &str, version: Version, service: &str) {
        self.say(worker, ToBroker::Ready { version, service: bytes(service) });
    }

    fn answer(&mut self, worker: &str, version: Version, address: &Bytes, part: Part, text: &str) {
        self.say(worker, ToBroker::Answer { version, address: address.clone(), part, body: body(text) });
    }

    fn beat(&mut self, worker: &str, version: Version) {
        self.say(worker, ToBroker::Heartbeat { version });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// What went out, each message as `peer:what`; heartbeats are left out.
    fn sent(&mut self) -> Vec<String> {
        self.transmits().into_iter().map(|(peer, what, _)| format!("{peer}:{what}")).collect()
    }

    /// The client address of the one request that went out.
    fn address(&mut self) -> Bytes {
        let sent = self.transmits();
        let [(_, _, Some(address))] = &sent[..] else { panic!("expected one request, got {sent:?}") };
        address.clone()
    }

    fn transmits(&mut self) -> Vec<(String, String, Option<Bytes>)> {
        let mut sent = Vec::new();
        while let Some(Transmit { to, frames }) = self.broker.poll_transmit() {
            let peer = String::from_utf8_lossy(&to).into_owned();
            let text = |body: &[Bytes]| body.iter().map(|f| String::from_utf8_lossy(f)).collect::<Vec<_>>().join("+");
            let header = frames.first().filter(|header| mdpx::is_header(header));
            let read = header.and_then(|header| mdpx::read(header, frames.len() - 1).ok());
            if read.is_some_and(|read| matches!(read.command, mdpx::Command::Disconnect { .. })) {
                sent.push((peer.clone(), "disconnect".into(), None));
            }
            for version in [Version::V01, Version::V02] {
                match mdp::read_to_worker(version, frames.to_vec()) {
                    Ok(ToWorker::Request { address, body }) => {
                        sent.push((peer.clone(), format!("work {}", text(&body)), Some(address)));
                    }
                    Ok(ToWorker::Disconnect) => sent.push((peer.clone(), "disconnect".into(), None)),
                    Ok(ToWorker::Heartbeat) | Err(_) => {}
                }
                if let Ok(ToClient { part, body, .. }) = mdp::read_to_client(version, frames.to_vec()) {
                    sent.push((peer.clone(), format!("{part:?} {}", text(&body)), None));
                }
            }
        }
        sent
    }

    fn counters(&self) -> Counters {
        self.broker.stats(self.now).counters
    }
}

const V01: Version = Version::V01;
const V02: Version = Version::V02;

#[test]
fn clients_and_workers_of_both_versions_reach_each_other() {
    for client in [V01, V02] {
        for worker in [V01, V02] {
            let mut bed = bed(|options| options);
            bed.ready("w", worker, "echo");
            bed.ask("c", client, "echo", "hi");
            let address = bed.address();
            bed.answer("w", worker, &address, Part::Final, "ho");
            assert_eq!(bed.sent(), ["c:Final ho"]);
        }
    }
}

#[test]
fn requests_wait_for_a_worker_and_go_to_the_longest_idle_one() {
    let mut bed = bed(|options| options);
    bed.ask("c", V01, "echo", "1");
    assert!(bed.sent().is_empty());
    bed.ready("a", V01, "echo");
    let first = bed.address();
    bed.ready("b", V01, "echo");
    bed.answer("a", V01, &first, Part::Final, "1");
    bed.sent();
    bed.ask("c", V01, "echo", "2");
    bed.ask("c", V01, "echo", "3");
    assert_eq!(bed.sent(), ["b:work 2", "a:work 3"]);
}

#[test]
fn a_request_survives_the_loss_of_its_worker_and_goes_to_the_front() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    bed.ask("c", V01, "echo", "2");
    bed.sent();
    bed.broker.handle_gone(bed.now, b"a");
    bed.ready("b", V01, "echo");
    assert_eq!(bed.sent(), ["b:work 1"]);
    assert_eq!((bed.counters().redelivered, bed.counters().workers_lost), (1, 1));
}

#[test]
fn a_request_is_handed_out_max_attempts_times() {
    let mut bed = bed(|options| options.max_attempts(2));
    bed.ask("c", V01, "echo", "1");
    for worker in ["a", "b"] {
        bed.ready(worker, V01, "echo");
        assert_eq!(bed.sent(), [format!("{worker}:work 1")]);
        bed.broker.handle_gone(bed.now, worker.as_bytes());
    }
    bed.ready("d", V01, "echo");
    assert!(bed.sent().is_empty());
    assert_eq!(bed.counters().exhausted, 1);
}

#[test]
fn a_request_that_never_reached_its_worker_was_not_attempted() {
    let mut bed = bed(|options| options.max_attempts(1));
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    let Some(lost) = bed.broker.poll_transmit() else { panic!("nothing sent") };
    bed.broker.handle_undeliverable(bed.now, lost);
    bed.ready("b", V01, "echo");
    assert_eq!(bed.sent(), ["b:work 1"]);
}

#[test]
fn a_request_that_waited_behind_a_message_that_could_not_be_sent_has_not_used_an_attempt() {
    let mut bed = bed(|options| options.max_attempts(1));
    bed.ready("a", V01, "echo");
    bed.pass(BEAT);
    bed.ask("c", V01, "echo", "1");
    let Some(beat) = bed.broker.poll_transmit() else { panic!("nothing sent") };
    bed.broker.handle_undeliverable(bed.now, beat);
    bed.ready("b", V01, "echo");
    assert_eq!(bed.sent(), ["b:work 1"]);
}

#[test]
fn only_the_holder_of_the_delivery_can_answer() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ready("b", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    let address = bed.address();
    bed.answer("b", V01, &address, Part::Final, "forged");
    bed.answer("a", V01, &bytes("c"), Part::Final, "invented");
    assert!(bed.sent().is_empty());
    bed.answer("a", V01, &address, Part::Final, "right");
    bed.answer("a", V01, &address, Part::Final, "again");
    assert_eq!(bed.sent(), ["c:Final right"]);
    assert_eq!(bed.counters().stray_replies, 3);
    bed.ask("c", V01, "echo", "2");
    bed.ask("c", V01, "echo", "3");
    bed.ask("c", V01, "echo", "4");
    assert_eq!(bed.sent(), ["b:work 2", "a:work 3"], "no worker counts as idle twice");
}

#[test]
fn an_answer_to_an_earlier_delivery_does_not_answer_the_one_in_hand() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    let first = bed.address();
    bed.answer("a", V01, &first, Part::Final, "1");
    bed.sent();
    bed.ask("d", V01, "echo", "2");
    let second = bed.address();
    bed.answer("a", V01, &first, Part::Final, "again");
    assert!(bed.sent().is_empty());
    bed.answer("a", V01, &second, Part::Final, "2");
    assert_eq!(bed.sent(), ["d:Final 2"]);
}

#[test]
fn a_worker_whose_answer_is_too_large_does_not_keep_its_request_for_ever() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    bed.sent();
    bed.broker.handle_too_large(bed.now, b"a");
    bed.ready("b", V01, "echo");
    assert_eq!(bed.sent(), ["a:disconnect", "b:work 1"]);
}

#[test]
fn an_answer_to_an_earlier_broker_does_not_count() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    bed.sent();
    let address = Bytes::copy_from_slice(&write_address(41, 1));
    bed.answer("a", V01, &address, Part::Final, "old");
    assert!(bed.sent().is_empty());
}

#[test]
fn every_silent_idle_worker_expires_wherever_it_stands_in_the_line() {
    let mut bed = bed(|options| options);
    for worker in ["a", "b", "d"] {
        bed.ready(worker, V01, "echo");
    }
    for _ in 0..3 {
        bed.pass(BEAT * 9 / 10);
        bed.beat("b", V01);
    }
    bed.pass(BEAT);
    assert_eq!(bed.sent(), ["a:disconnect", "d:disconnect"]);
    bed.ask("c", V01, "echo", "1");
    assert_eq!(bed.sent(), ["b:work 1"]);
}

#[test]
fn a_busy_guide_worker_is_not_expired_by_silence() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    let address = bed.address();
    bed.pass(BEAT * 100);
    bed.answer("a", V01, &address, Part::Final, "slow");
    assert_eq!(bed.sent(), ["c:Final slow"]);
}

#[test]
fn a_busy_worker_that_has_beaten_while_busy_expires_when_it_falls_silent() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    bed.sent();
    bed.pass(BEAT + BEAT / 2);
    bed.beat("a", V01);
    bed.pass(BEAT * 10);
    bed.ready("b", V01, "echo");
    assert_eq!(bed.sent(), ["a:disconnect", "b:work 1"]);
}

#[test]
fn an_overdue_attempt_is_given_to_another_worker_and_its_late_answer_dropped() {
    let mut bed = bed(|options| options.attempt_timeout(Some(BEAT / 2)));
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    let late = bed.address();
    bed.ready("b", V01, "echo");
    bed.pass(BEAT * 6 / 10);
    let address = bed.address();
    bed.answer("a", V01, &late, Part::Final, "late");
    assert!(bed.sent().is_empty());
    bed.answer("b", V01, &address, Part::Final, "right");
    assert_eq!(bed.sent(), ["c:Final right"]);
    bed.ask("c", V01, "echo", "2");
    assert_eq!(bed.sent(), ["a:work 2"], "a late worker is idle again once it has answered");
}

#[test]
fn queued_requests_expire_and_an_unused_service_disappears() {
    let mut bed = bed(|options| options.request_ttl(Some(BEAT)));
    bed.ask("c", V01, "typo", "1");
    bed.ask("d", V01, "typo", "2");
    bed.broker.handle_gone(bed.now, b"c");
    assert_eq!(bed.broker.stats(bed.now).services, 1);
    bed.pass(BEAT * 2);
    let stats = bed.broker.stats(bed.now);
    assert_eq!((stats.services, stats.queued, stats.queued_bytes), (0, 0, 0));
    assert_eq!((stats.counters.abandoned, stats.counters.expired), (1, 1));
}

#[test]
fn limits_refuse_new_requests_and_lose_none_that_was_taken_in() {
    let mut bed = bed(|options| options.max_queued(2).max_message_bytes(10).max_services(1));
    bed.ask("c", V01, "echo", "1");
    bed.ask("c", V01, "echo", "2");
    bed.ask("c", V01, "echo", "3");
    bed.ask("c", V01, "other", "4");
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "longer than ten bytes");
    assert_eq!(bed.counters().refused, 3);
    let address = bed.address();
    bed.answer("a", V01, &address, Part::Final, "1");
    assert_eq!(bed.sent(), ["c:Final 1", "a:work 2"]);
}

#[test]
fn what_slow_readers_leave_behind_counts_against_the_limits() {
    let mut bed = bed(|options| options.max_queued(2).max_queued_bytes(1000).max_message_bytes(1000));
    bed.broker.set_backlog(10, 900);
    bed.ask("c", V01, "echo", "1");
    assert_eq!(bed.counters().refused, 0, "what is not read takes no place of a request");
    bed.ask("c", V01, "echo", "2");
    assert_eq!(bed.counters().refused, 1);
}

#[test]
fn parts_stream_to_0_2_and_are_joined_for_0_1() {
    for (client, expected) in [(V02, vec!["c:Partial a", "c:Partial b", "c:Final z"]), (V01, vec!["c:Final a+b+z"])] {
        let mut bed = bed(|options| options);
        bed.ready("w", V02, "echo");
        bed.ask("c", client, "echo", "1");
        let address = bed.address();
        bed.ask("d", client, "echo", "2");
        bed.answer("w", V02, &address, Part::Partial, "a");
        bed.answer("w", V02, &address, Part::Partial, "b");
        let mut sent = bed.sent();
        bed.answer("w", V02, &address, Part::Final, "z");
        sent.extend(bed.sent());
        let (work, replies): (Vec<_>, Vec<_>) = sent.into_iter().partition(|what| what.contains("work"));
        assert_eq!(replies, expected);
        assert_eq!(work, ["w:work 2"], "dispatched once, after the final part");
    }
}

#[test]
fn a_stream_that_broke_after_its_first_part_is_not_begun_again() {
    for (client, expected) in [(V02, 0), (V01, 1)] {
        let mut bed = bed(|options| options);
        bed.ready("a", V02, "echo");
        bed.ask("c", client, "echo", "1");
        let address = bed.address();
        bed.answer("a", V02, &address, Part::Partial, "x");
        bed.sent();
        bed.broker.handle_gone(bed.now, b"a");
        bed.ready("b", V02, "echo");
        assert_eq!(bed.sent().len(), expected, "client {client:?}");
    }
}

#[test]
fn leaving_while_busy_or_saying_ready_twice_gives_the_request_back() {
    for second_ready in [false, true] {
        let mut bed = bed(|options| options);
        bed.ready("a", V01, "echo");
        bed.ask("c", V01, "echo", "1");
        bed.sent();
        if second_ready {
            bed.ready("a", V01, "echo");
            assert_eq!(bed.sent(), ["a:disconnect"]);
        } else {
            bed.say("a", ToBroker::Disconnect { version: V01 });
        }
        bed.ready("b", V01, "echo");
        assert_eq!(bed.sent(), ["b:work 1"]);
    }
}

#[test]
fn strangers_and_usurpers_are_told_to_leave() {
    let mut bed = bed(|options| options);
    bed.beat("x", V01);
    bed.answer("y", V02, &bytes("c"), Part::Final, "?");
    bed.ready("z", V01, "mmi.service");
    assert_eq!(bed.sent(), ["x:disconnect", "y:disconnect", "z:disconnect"]);
    assert_eq!(bed.broker.stats(bed.now).workers, 0);
}

#[test]
fn mmi_tells_of_live_workers_only() {
    let mut bed = bed(|options| options);
    bed.ask("c", V01, "echo", "waits");
    bed.ask("c", V01, "mmi.service", "echo");
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "mmi.service", "echo");
    bed.broker.handle_gone(bed.now, b"a");
    bed.ask("c", V02, "mmi.service", "echo");
    bed.ask("c", V01, "mmi.nonsense", "");
    bed.ask("c", V01, "mmi.protocols", "");
    let sent = bed.sent();
    let replies: Vec<_> = sent.iter().filter(|what| what.starts_with('c')).collect();
    assert_eq!(replies, ["c:Final 404", "c:Final 200", "c:Final 404", "c:Final 501", "c:Final 200+0.1+0.2+x1"]);
}

#[test]
fn mmi_lists_are_json() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "q\"uote");
    for service in ["mmi.services", "mmi.workers", "mmi.stats"] {
        bed.ask("c", V01, service, "");
        let Some(Transmit { frames, .. }) = bed.broker.poll_transmit() else { panic!("no reply") };
        let json: serde_json::Value = serde_json::from_slice(&frames[4]).unwrap_or_default();
        assert!(json.get("workers").or(json.get(0)).is_some(), "{service}: {json}");
    }
}

#[test]
fn a_client_that_left_is_not_answered_and_its_waiting_requests_are_dropped() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.ask("c", V01, "echo", "1");
    let address = bed.address();
    bed.ask("c", V01, "echo", "2");
    bed.broker.handle_gone(bed.now, b"c");
    bed.answer("a", V01, &address, Part::Final, "1");
    assert!(bed.sent().is_empty());
    assert_eq!(bed.counters().abandoned, 2);
}

#[test]
fn any_bytes_whatever_are_an_ordinary_input() {
    let pieces: [&[u8]; 12] =
        [b"", b"MDPC01", b"MDPW01", b"MDPC02", b"MDPW02", &[1], &[2], &[3], &[4], &[5], &[6], b"echo"];
    let mut bed = bed(|options| options);
    for length in 0..5u32 {
        for mut number in 0..pieces.len().pow(length) {
            let mut frames = Vec::new();
            for _ in 0..length {
                frames.push(Bytes::from_static(pieces[number % pieces.len()]));
                number /= pieces.len();
            }
            bed.broker.handle_message(bed.now, b"x", frames);
        }
    }
    bed.transmits();
    bed.broker.handle_gone(bed.now, b"x");
    let stats = bed.broker.stats(bed.now);
    assert_eq!((stats.workers, stats.queued, stats.in_flight, stats.services), (0, 0, 0, 0));
}

#[test]
fn a_pause_of_the_broker_itself_costs_no_worker_its_place() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    bed.now += BEAT * 60;
    bed.broker.handle_timeout(bed.now);
    assert!(bed.sent().is_empty());
    assert_eq!(bed.broker.stats(bed.now).workers, 1);
}

#[test]
fn a_worker_that_beats_faster_is_answered() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "echo");
    for _ in 0..3 {
        bed.pass(BEAT / 5);
        bed.beat("a", V01);
        assert!(bed.broker.poll_transmit().is_some(), "a heartbeat for a heartbeat");
        assert!(bed.broker.poll_transmit().is_none());
    }
    bed.beat("a", V01);
    assert!(bed.broker.poll_transmit().is_none(), "but not for one that follows on its heels");
}

#[test]
fn shutdown_says_disconnect_to_every_worker_and_every_session_and_takes_nothing_more() {
    let mut bed = bed(|options| options);
    bed.ready("a", V01, "older");
    bed.ready("b", V02, "older");
    bed.ready_x1("c", 1);
    bed.hello("d");
    for (number, text) in [(1, "runs"), (2, "waits")] {
        bed.ask_x1("d", number, text);
    }
    bed.sent();
    bed.broker.shutdown(bed.now);
    assert_eq!(bed.sent(), ["a:disconnect", "b:disconnect", "c:disconnect", "d:disconnect"]);
    let before = bed.counters();
    bed.ask("e", V01, "echo", "1");
    bed.ask_x1("d", 3, "late");
    bed.ready_x1("f", 1);
    bed.pass(BEAT * 10);
    assert!(bed.sent().is_empty());
    assert_eq!((bed.counters(), bed.broker.held()), (before, 0));
}

#[test]
fn timers_and_tables_of_services_and_clients_that_come_and_go_do_not_pile_up() {
    let mut bed = bed(|options| options);
    for number in 0..10_000 {
        bed.ask("c", V01, &format!("typo{number}"), "1");
        bed.broker.handle_gone(bed.now, b"c");
    }
    let broker = &bed.broker;
    assert_eq!((broker.timers.len(), broker.services.len(), broker.waiting.len()), (0, 0, 0));
}
