//! The broker's machine, driven by peers of all protocols that say what they like: plausible things for the most part, so
//! that requests get to workers and answers back, and now and then anything.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::proto::mdp::{self, ToBroker};
use majordomo::proto::mdpx::Command;
use majordomo_fuzz::broker::World;
use majordomo_fuzz::input::Input;
use majordomo_fuzz::words::{self, BEATS, SERVICES};

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_over() {
        let peer = [b'p', input.u8() % 6];
        match input.u8() % 16 {
            0 => {
                let frames = input.frames();
                world.hear(&peer, frames);
            }
            1..=4 => {
                let message = older(&mut input, &world);
                world.hear(&peer, mdp::write_to_broker(message));
            }
            5..=10 => {
                let frames = x1(&mut input, &world);
                world.hear(&peer, frames);
            }
            11 => {
                let count = input.below(5);
                let messages: Vec<_> = (0..count).map(|_| x1(&mut input, &world).swap_remove(0)).collect();
                world.hear(&peer, words::batch(&messages));
            }
            12 | 13 => {
                let step = input.step();
                world.pass(step);
            }
            14 => match input.u8() {
                0..100 => world.gone(&peer),
                which @ 100..200 => world.lose(usize::from(which % 8)),
                200..220 => world.too_large(&peer),
                220..250 => {
                    let (messages, bytes) = (input.below(200), input.below(255) * 1000);
                    world.machine.set_backlog(messages, bytes);
                }
                _ => world.shutdown(),
            },
            _ => world.hear(&peer, words::batch(&[])),
        }
    }
    world.wind_up();
});

fn service(input: &mut Input<'_>) -> Bytes {
    Bytes::from(*input.pick(&SERVICES).expect("there are some"))
}

/// What a peer of an older protocol may say.
fn older(input: &mut Input<'_>, world: &World) -> ToBroker<Bytes> {
    let version = words::version(input);
    match input.u8() % 8 {
        0..3 => ToBroker::Request { version, service: service(input), body: input.message().into_frames() },
        3 => ToBroker::Ready { version, service: service(input) },
        4 | 5 => {
            let last = world.addresses.len().wrapping_sub(1 + input.below(3));
            let address = world.addresses.get(last).cloned().unwrap_or_default();
            ToBroker::Answer { version, address, part: words::part(input), body: input.message().into_frames() }
        }
        6 => ToBroker::Heartbeat { version },
        _ => ToBroker::Disconnect { version },
    }
}

/// What a peer of MDPX may say.
fn x1(input: &mut Input<'_>, world: &World) -> Vec<Bytes> {
    let kind = input.u8() % 20;
    let session = 1 + input.u8() % 3;
    let number = u64::from(input.u8() % 64);
    let last = world.deliveries.len().wrapping_sub(1 + input.below(3));
    let delivery = world.deliveries.get(last).copied().unwrap_or(1);
    let (name, beat) = (service(input), *input.pick(&BEATS).expect("there are some"));
    let mut text = String::new();
    let with_body = |command: &Command<'_>, input: &mut Input<'_>| words::x1(command, Some(&input.message()));
    let command = match kind {
        0 | 1 => {
            let (secret, liveness) = ([input.u8() % 2; 16], input.u8());
            Command::Hello { session: [session; 16], secret, heartbeat_ms: beat, liveness }
        }
        2..=6 => {
            let acked = number.saturating_sub(u64::from(input.u8() % 8) + 1);
            let (flags, ttl_ms) = (input.u8(), u32::from(input.u8()) * 10);
            let (max_attempts, fail_fast) = (u16::from(flags & 3), flags & 4 != 0);
            let acked = if flags & 8 == 0 { 0 } else { acked };
            let request = Command::Request { number, acked, ttl_ms, max_attempts, fail_fast, service: &name };
            return with_body(&request, input);
        }
        7 => Command::Cancel { number },
        8 => Command::Ack { number },
        9 | 10 => {
            let capacity = if beat == u32::MAX { u32::MAX } else { u32::from(input.u8() % 4) };
            Command::Ready { capacity, heartbeat_ms: beat, liveness: input.u8(), service: &name }
        }
        11 => Command::Return { delivery },
        12 => return with_body(&Command::WorkerPartial { delivery, sequence: input.u32() }, input),
        13 | 14 => return with_body(&Command::WorkerFinal { delivery, sequence: input.u32() }, input),
        15 => Command::WorkerError { delivery, failure: words::failure(input, &mut text) },
        16 => Command::Drain,
        17 => Command::Heartbeat,
        18 => Command::Disconnect { kind: input.u8(), text: "x" },
        _ => Command::Deliver { delivery, session: [session; 16], number, ttl_ms: 0, attempt: 1 },
    };
    words::x1(&command, None)
}
