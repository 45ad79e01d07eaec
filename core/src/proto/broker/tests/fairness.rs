//! Turns: one client's many requests do not stand in another's way.

use std::collections::BTreeSet;

use super::*;
use crate::proto::broker::queue::Queue;

impl Bed {
    /// Has a worker answer whatever it gets until nothing more comes; the texts in the order of hand-out.
    fn work_off(&mut self, worker: &str, version: Version) -> Vec<String> {
        let mut order = Vec::new();
        loop {
            let sent = self.transmits();
            let Some((_, text, Some(address))) = sent.into_iter().find(|(peer, ..)| peer == worker) else {
                return order;
            };
            order.push(text.trim_start_matches("work ").to_owned());
            self.answer(worker, version, &address, Part::Final, "done");
        }
    }
}

fn in_turns(bed: &mut Bed) -> Vec<String> {
    bed.ready("w", V01, "echo");
    bed.work_off("w", V01)
}

#[test]
fn clients_with_waiting_requests_are_served_in_turns() {
    for version in [V01, V02] {
        let mut bed = bed(|options| options);
        for text in ["a1", "a2", "a3", "a4"] {
            bed.ask("a", version, "echo", text);
        }
        bed.ask("b", version, "echo", "b1");
        bed.ask("b", version, "echo", "b2");
        bed.ask("c", version, "echo", "c1");
        assert_eq!(in_turns(&mut bed), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }
}

#[test]
fn a_session_is_one_client_whatever_it_asks() {
    let mut bed = bed(|options| options);
    bed.hello("s");
    for number in 1..=4 {
        bed.ask_x1("s", number, &format!("s{number}"));
    }
    bed.briefly();
    bed.ask("a", V01, "echo", "a1");
    bed.ask("b", V02, "echo", "b1");
    assert_eq!(in_turns(&mut bed), ["s1", "a1", "b1", "s2", "s3", "s4"]);
}

#[test]
fn a_client_that_comes_again_and_again_gets_no_more_turns_than_others() {
    let mut bed = bed(|options| options);
    for number in 0..3 {
        bed.ask("a", V01, "echo", &format!("a{number}"));
        bed.ask("b", V01, "echo", &format!("b{number}"));
    }
    bed.ready("w", V01, "echo");
    let mut order = Vec::new();
    for number in 3..9 {
        let [(_, text, Some(address))] = &bed.transmits()[..] else { panic!("no work") };
        order.push(text.chars().nth(5).unwrap());
        let address = address.clone();
        // The greedy one asks twice for each answer.
        bed.ask("a", V01, "echo", &format!("a{number}"));
        bed.ask("a", V01, "echo", &format!("a{number}+"));
        bed.answer("w", V01, &address, Part::Final, "done");
        let sent = bed.transmits();
        let Some((_, text, Some(address))) = sent.into_iter().find(|(peer, ..)| peer == "w") else { break };
        order.push(text.chars().nth(5).unwrap());
        bed.answer("w", V01, &address, Part::Final, "done");
        bed.broker.outputs.retain(|transmit| &*transmit.to == b"w");
    }
    assert_eq!(order[..6], ['a', 'b', 'a', 'b', 'a', 'b'], "{order:?}");
}

#[test]
fn what_was_given_back_goes_before_everybody() {
    let mut bed = bed(|options| options);
    bed.ready("lost", V01, "echo");
    bed.ready("lost too", V01, "echo");
    bed.ask("a", V01, "echo", "a1");
    bed.ask("a", V01, "echo", "a2");
    bed.ask("b", V01, "echo", "b1");
    bed.ask("a", V01, "echo", "a3");
    bed.sent();
    bed.broker.handle_gone(bed.now, b"lost too");
    bed.broker.handle_gone(bed.now, b"lost");
    assert_eq!(in_turns(&mut bed), ["a1", "a2", "b1", "a3"], "by order of acceptance");
}

#[test]
fn requests_that_end_while_they_wait_leave_nobody_without_a_turn() {
    let mut bed = bed(|options| options);
    for text in ["1", "2"] {
        for client in ["a", "b", "c"] {
            bed.ask(client, V01, "echo", &format!("{client}{text}"));
        }
    }
    bed.broker.handle_gone(bed.now, b"b");
    bed.ask("b", V01, "echo", "b3");
    assert_eq!(bed.broker.stats(bed.now).queued, 5);
    assert_eq!(in_turns(&mut bed), ["a1", "b3", "c1", "a2", "c2"]);
    assert!(bed.broker.waiting.is_empty());
}

#[test]
fn requests_expire_at_their_time_whosever_turn_it_is() {
    let mut bed = bed(|options| options.request_ttl(Some(BEAT)));
    for number in 0..10 {
        bed.ask("greedy", V01, "echo", &format!("{number}"));
    }
    bed.pass(BEAT / 2);
    bed.ask("late", V01, "echo", "late");
    bed.ask("late", V01, "other", "other");
    bed.pass(BEAT * 6 / 10);
    let stats = bed.broker.stats(bed.now);
    assert_eq!((stats.queued, stats.counters.expired), (2, 10));
    assert_eq!(in_turns(&mut bed), ["late"]);
    bed.pass(BEAT / 2);
    let stats = bed.broker.stats(bed.now);
    assert_eq!((stats.queued, stats.counters.expired), (0, 11));
    assert_eq!(bed.broker.poll_timeout().map(|at| at > bed.now), Some(true), "the worker's beat is next");
}

#[test]
fn a_request_that_was_held_past_its_time_expires_when_it_is_given_back() {
    let mut bed = bed(|options| options.request_ttl(Some(BEAT)));
    bed.ready("w", V01, "echo");
    bed.ask("c", V01, "echo", "held");
    bed.ask("c", V01, "echo", "waits");
    bed.pass(BEAT * 2);
    assert_eq!(bed.counters().expired, 1);
    bed.broker.handle_gone(bed.now, b"w");
    assert_eq!((bed.counters().expired, bed.broker.held()), (2, 0));
}

#[test]
fn a_client_that_fills_the_queue_leaves_room_for_others() {
    for per_service in [false, true] {
        let mut bed = bed(|options| match per_service {
            true => options.max_queued_per_service(90),
            false => options.max_queued(90),
        });
        for number in 0..200 {
            bed.ask("greedy", V01, "echo", &format!("g{number}"));
        }
        let held = bed.broker.stats(bed.now).queued;
        assert_eq!(held, 81, "eight times what it leaves, and one that tips the scales");
        for client in 0..9 {
            bed.ask(&format!("modest{client}"), V01, "echo", "m");
        }
        assert_eq!(bed.broker.stats(bed.now).queued, 90, "each of the modest is let in");
        bed.ask("late", V01, "echo", "l");
        assert_eq!(bed.broker.stats(bed.now).queued, 90, "full is full");
    }
}

#[test]
fn a_client_that_fills_the_queue_with_bytes_leaves_room_for_others() {
    let mut bed = bed(|options| options.max_queued_bytes(90_000).max_message_bytes(1000));
    let large = "x".repeat(936);
    for _ in 0..200 {
        bed.ask("greedy", V01, "echo", &large);
    }
    assert_eq!(bed.broker.stats(bed.now).queued, 81);
    bed.ask("modest", V01, "echo", &large);
    assert_eq!(bed.broker.stats(bed.now).queued, 82);
}

#[test]
fn a_client_that_fills_many_services_leaves_room_for_others() {
    let mut bed = bed(|options| options.max_queued(90));
    for number in 0..200 {
        bed.ask("greedy", V01, &format!("service{number}"), "g");
    }
    assert_eq!(bed.broker.stats(bed.now).queued, 81);
    bed.ask("modest", V01, "service100", "m");
    assert_eq!(bed.broker.stats(bed.now).queued, 82);
}

#[test]
fn a_client_that_asks_for_many_names_leaves_room_for_the_services_of_others() {
    let mut bed = bed(|options| options.max_services(90));
    for number in 0..200 {
        bed.ask("greedy", V01, &format!("service{number}"), "g");
    }
    assert_eq!(bed.broker.stats(bed.now).services, 81);
    bed.ready("w", V01, "echo");
    bed.ask("modest", V01, "later", "m");
    assert_eq!((bed.sent(), bed.broker.stats(bed.now).services), (vec![], 83));
}

#[test]
fn a_client_with_its_share_waiting_is_still_served_where_nothing_waits() {
    let mut bed = bed(|options| options.max_queued(90));
    for _ in 0..100 {
        bed.ask("greedy", V01, "nobody", "g");
    }
    bed.ready("w", V01, "echo");
    bed.ask("greedy", V01, "echo", "at once");
    assert_eq!(bed.sent(), ["w:work at once"]);
}

#[test]
fn a_session_that_has_its_share_is_told_why_it_is_refused() {
    let mut bed = bed(|options| options.max_queued(90));
    bed.hello("s");
    for number in 1..=82 {
        bed.ask_x1("s", number, "s");
    }
    assert_eq!(bed.briefly().last().map(String::as_str), Some("s:error 82 QueueFull"));
}

#[test]
fn the_queue_behaves_as_its_description_says_for_any_sequence() {
    for seed in 1..300u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut queue = Queue::new(FixedState::with_seed(seed));
        // What waits, in the words of the description: given back, and the lines by turns.
        let (mut returned, mut lines) = (BTreeSet::new(), VecDeque::<(u64, VecDeque<u64>)>::new());
        let (mut last, mut taken) = (0, Vec::<(u64, u64)>::new());
        for _ in 0..400 {
            let waiting = |returned: &BTreeSet<u64>, lines: &VecDeque<(u64, VecDeque<u64>)>| {
                let all: BTreeSet<u64> =
                    returned.iter().chain(lines.iter().flat_map(|(_, line)| line)).copied().collect();
                all
            };
            match next(8) {
                0..=3 => {
                    last += 1;
                    let client = next(5);
                    queue.push(last, Asker::Session(client), 10);
                    match lines.iter_mut().find(|(other, _)| *other == client) {
                        Some((_, line)) => line.push_back(last),
                        None => lines.push_back((client, VecDeque::from([last]))),
                    }
                }
                4 | 5 => {
                    let waits = waiting(&returned, &lines);
                    let expected = returned.first().copied().or_else(|| Some(lines.front()?.1[0]));
                    assert_eq!(queue.front(|id| waits.contains(&id)), expected, "seed {seed}");
                    let Some(id) = expected else { continue };
                    let client = if returned.remove(&id) {
                        taken.iter().find(|(other, _)| *other == id).unwrap().1
                    } else {
                        let (client, mut line) = lines.pop_front().unwrap();
                        line.pop_front();
                        if !line.is_empty() {
                            lines.push_back((client, line));
                        }
                        taken.push((id, client));
                        client
                    };
                    queue.take_front(&Asker::Session(client), 10);
                }
                6 => {
                    let held: Vec<u64> = taken.iter().map(|(id, _)| *id).filter(|id| !returned.contains(id)).collect();
                    if !held.is_empty() {
                        let id = held[next(held.len() as u64) as usize];
                        queue.give_back(id, 10);
                        returned.insert(id);
                    }
                }
                _ => {
                    let waits: Vec<u64> = waiting(&returned, &lines).into_iter().collect();
                    if waits.is_empty() {
                        continue;
                    }
                    let id = waits[next(waits.len() as u64) as usize];
                    let client = match lines.iter_mut().find(|(_, line)| line.contains(&id)) {
                        Some((client, line)) => {
                            line.retain(|other| *other != id);
                            *client
                        }
                        None => taken.iter().find(|(other, _)| *other == id).unwrap().1,
                    };
                    taken.retain(|(other, _)| *other != id);
                    returned.remove(&id);
                    queue.end(id, &Asker::Session(client), 10);
                    if queue.is_littered() {
                        let waits = waiting(&returned, &lines);
                        queue.sweep(|id| waits.contains(&id));
                    }
                    // A line that emptied keeps its turn for whatever comes meanwhile; here it loses it.
                    let waits = waiting(&returned, &lines);
                    queue.sweep(|id| waits.contains(&id));
                    lines.retain(|(_, line)| !line.is_empty());
                }
            }
            let count = waiting(&returned, &lines).len();
            assert_eq!(queue.load(), Load { requests: count, bytes: 10 * count }, "seed {seed}");
            for client in 0..5 {
                let of = lines.iter().find(|(other, _)| *other == client).map_or(0, |(_, line)| line.len());
                assert_eq!(queue.load_of(&Asker::Session(client)).requests, of, "seed {seed}");
            }
        }
    }
}
