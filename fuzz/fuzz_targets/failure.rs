//! How a handler's failure travels in 0.1 and 0.2: any reply is a failure or itself, and what a worker says of a failure is
//! what a client hears.
#![no_main]

use std::time::Instant;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::error::ServiceError;
use majordomo::proto::client::{Client, ClientConfig, ClientOutput, ReplyMode};
use majordomo::proto::mdp::{self, Part, ToBroker, ToClient, ToWorker, Version};
use majordomo::proto::worker::{Answer, Worker, WorkerConfig, WorkerOutput};
use majordomo::{ClientOptions, Error, Message, RequestOptions, WorkerOptions};
use majordomo_fuzz::input::Input;
use majordomo_fuzz::words;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let version = words::version(&mut input);
    if input.flag() {
        let (code, bytes) = (input.u32(), input.rest());
        let long = String::from_utf8_lossy(bytes).repeat(1 + usize::from(bytes.first() == Some(&0)) * 3000);
        let failure = ServiceError::new(code, long);
        let heard = hear(version, say(version, failure.clone())).expect_err("a failure");
        let heard = heard.service_error().expect("the service's own words");
        assert!(heard.code == failure.code && failure.text.starts_with(&heard.text));
        assert!(heard.text == failure.text || heard.text.len() > 65_000, "only a long text is cut");
    } else {
        let mut body = input.frames();
        if input.flag() {
            body.insert(0, Bytes::from_static(b"MAJORDOMO-ERROR"));
        }
        match hear(version, body.clone()) {
            Ok(reply) => assert_eq!(reply, Message::from_frames(body)),
            Err(error) => assert!(error.service_error().is_some() && body[0] == "MAJORDOMO-ERROR"),
        }
    }
});

/// The body by which a worker says a failure.
fn say(version: Version, failure: ServiceError) -> Vec<Bytes> {
    let now = Instant::now();
    let options = WorkerOptions::new("tcp://broker:1", "echo").protocol(version.into());
    let mut worker = Worker::new(WorkerConfig::from(&options), now, 1);
    let request = ToWorker::Request { address: Bytes::from_static(b"a"), body: vec![] };
    worker.handle_message(now, mdp::write_to_worker(version, request));
    while worker.poll_output().is_some() {}
    worker.answer(now, 1, Answer::Failure(failure)).expect("a failure can always be said");
    let Some(WorkerOutput::Send(frames)) = worker.poll_output() else { panic!("nothing was said") };
    let Ok(ToBroker::Answer { body, .. }) = mdp::read_to_broker(frames) else { panic!("no answer") };
    body
}

/// What a client makes of a reply with this body.
fn hear(version: Version, body: Vec<Bytes>) -> Result<Message, Error> {
    let now = Instant::now();
    let options = ClientOptions::new("tcp://broker:1").protocol(version.into());
    let mut client = Client::new(ClientConfig::from(&options));
    let started = client.start(now, "echo", Message::new(), &RequestOptions::default(), ReplyMode::Whole);
    started.expect("a request");
    client.handle_sent(now);
    let reply = ToClient { service: Bytes::from_static(b"echo"), part: Part::Final, body };
    client.handle_message(now, mdp::write_to_client(version, reply));
    let outcomes = std::iter::from_fn(|| client.poll_output());
    let mut outcomes =
        outcomes.filter_map(|output| if let ClientOutput::Done(outcome) = output { Some(outcome) } else { None });
    outcomes.next().expect("an outcome")
}
