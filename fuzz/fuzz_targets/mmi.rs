//! The broker's own services: any name and any argument gets an answer of the right form.
#![no_main]

use std::time::Instant;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::BrokerOptions;
use majordomo::proto::broker::{Broker, BrokerConfig};
use majordomo::proto::mdp::{self, ToBroker};
use majordomo::proto::mdpx::{self, Command};
use majordomo::proto::mmi::{self, Question};
use majordomo_fuzz::input::Input;
use majordomo_fuzz::words;

const NAMES: [&str; 6] = ["mmi.service", "mmi.protocols", "mmi.services", "mmi.workers", "mmi.stats", "mmi.nonsense"];

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let now = Instant::now();
    let mut broker: Broker<Bytes> = Broker::new(BrokerConfig::from(&BrokerOptions::new("tcp://127.0.0.1:0")), now, 1);
    for number in 0..input.below(4) {
        let peer = [b'w', number as u8];
        let name = match input.below(3) {
            0 => Bytes::from_static(b"echo"),
            // A name of any text that may name a service.
            _ => Bytes::copy_from_slice(input.bytes(9)),
        };
        if input.flag() {
            let ready =
                Command::Ready { capacity: input.u32(), heartbeat_ms: input.u32(), liveness: 3, service: &name };
            broker.handle_message(now, &peer, mdpx::control(&ready));
        } else {
            let version = words::version(&mut input);
            broker.handle_message(now, &peer, mdp::write_to_broker(ToBroker::Ready { version, service: name }));
        }
    }
    while broker.poll_transmit().is_some() {}

    let asked = match input.pick(&NAMES) {
        Some(name) if input.flag() => Bytes::from_static(name.as_bytes()),
        _ => Bytes::from([b"mmi.", input.bytes(12)].concat()),
    };
    let version = words::version(&mut input);
    let request = ToBroker::Request { version, service: asked.clone(), body: input.frames() };
    let question = mmi::question(&asked);
    assert!(mmi::is_reserved(&asked));
    broker.handle_message(now, b"client", mdp::write_to_broker(request.clone()));
    let answers: Vec<_> = std::iter::from_fn(|| broker.poll_transmit()).collect();
    if mdp::read_to_broker(mdp::write_to_broker(request)).is_err() {
        return assert!(answers.is_empty(), "a name that is none gets no answer");
    }
    assert_eq!(answers.len(), 1);
    let answer = mdp::read_to_client(version, answers[0].frames.to_vec()).expect("a reply");
    assert_eq!(answer.service, asked);
    let body: Vec<&[u8]> = answer.body.iter().map(|frame| &frame[..]).collect();
    match question {
        Question::Service => assert!(body == [b"200"] || body == [b"404"]),
        Question::Protocols => assert!(body.len() == 4),
        Question::Unknown => assert!(body == [b"501"]),
        Question::Services | Question::Workers | Question::Stats => {
            assert_eq!((body.len(), body[0]), (2, &b"200"[..]));
            let _: serde_json::Value = serde_json::from_slice(body[1]).expect("JSON");
        }
    }
});
