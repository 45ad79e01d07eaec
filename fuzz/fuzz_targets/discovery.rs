//! Finding out what a broker speaks: whatever it answers, client and worker come to the same result, or ask on.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use majordomo::proto::client::ReplyMode;
use majordomo::proto::session::{Asked, Identity, Session, SessionConfig, SessionOutput, Terms};
use majordomo::proto::worker::{Worker, WorkerConfig};
use majordomo::{ClientOptions, Message, Protocol, RequestOptions, WorkerOptions};
use majordomo_fuzz::input::Input;
use majordomo_fuzz::words;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let answer = if input.flag() { words::protocols(&mut input) } else { input.frames() };
    let now = Instant::now();

    let options = WorkerOptions::new("tcp://broker:1", "echo");
    let mut worker = Worker::new(WorkerConfig::from(&options), now, 1);
    worker.handle_sent(now);
    worker.handle_message(now, answer.clone());

    let options = ClientOptions::new("tcp://broker:1");
    let identity = Identity { session: [1; 16], secret: [2; 16] };
    let mut session = Session::new(SessionConfig::from(&options), identity, now);
    let (service, body, options) = ("echo", Message::from("x"), RequestOptions::default());
    session.start(
        now,
        1,
        Asked {
            terms: Terms::new(service, &options).expect("a service that can be"),
            body,
            mode: ReplyMode::Whole,
            submitted: now,
        },
    );
    session.handle_sent(now);
    let hears = |session: &mut Session| {
        std::iter::from_fn(|| session.poll_output()).fold(None, |found, output| match output {
            SessionOutput::Older { version, .. } => Some(Protocol::from(version)),
            SessionOutput::Send(frames) if frames[0].starts_with(b"MDPX01\x01") => Some(Protocol::X1),
            _ => found,
        })
    };
    assert_eq!(hears(&mut session), None, "nothing is said before the answer");
    session.handle_message(now, answer);
    assert_eq!(hears(&mut session), worker.protocol());
});
