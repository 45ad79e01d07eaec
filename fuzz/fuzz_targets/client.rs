//! The client's machine over 0.1 and 0.2: a broker says what it likes, and each call has exactly one outcome.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::proto::client::{Client, ClientConfig, ClientOutput, ReplyMode};
use majordomo::proto::mdp::{self, ToClient};
use majordomo::{ClientOptions, Error, ErrorKind, RequestOptions};
use majordomo_fuzz::input::Input;
use majordomo_fuzz::outputs::check_to_broker;
use majordomo_fuzz::words;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let version = words::version(&mut input);
    let options = ClientOptions::new("tcp://broker:1,tcp://other:1")
        .protocol(version.into())
        .timeout(Duration::from_millis(500))
        .retries(1 + u32::from(input.u8() % 4))
        .max_message_bytes(2000);
    let mut client = Client::new(ClientConfig::from(&options));
    let mut now = Instant::now();
    let (mut started, mut ended) = (0, 0);
    while !input.is_over() {
        match input.u8() % 10 {
            0 | 1 => {
                let flags = input.u8();
                let options = RequestOptions {
                    deadline: (flags & 1 != 0).then(|| Duration::from_millis(u64::from(flags))),
                    max_attempts: (flags & 2 != 0).then_some(1),
                    ..RequestOptions::default()
                };
                let mode = if flags & 8 == 0 { ReplyMode::Whole } else { ReplyMode::Parts };
                match client.start(now, "echo", input.message(), &options, mode) {
                    Ok(()) => started += 1,
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::TooLarge), "{error:?}"),
                }
            }
            2 => client.handle_sent(now),
            3..6 => {
                let service = if input.u8() == 0 { "other" } else { "echo" };
                let (part, body) = (words::part(&mut input), input.message().into_frames());
                let reply = ToClient { service: Bytes::from(service), part, body };
                client.handle_message(now, mdp::write_to_client(version, reply));
            }
            6 => client.handle_message(now, input.frames()),
            7 => {
                now += input.step();
                client.handle_timeout(now);
            }
            8 => client.handle_disconnected(now),
            _ if input.flag() => client.cancel(now, Error::new(ErrorKind::Cancelled, "given up")),
            _ => client.count_wait(input.step()),
        }
        while let Some(output) = client.poll_output() {
            match output {
                ClientOutput::Send(frames) => check_to_broker(&frames),
                ClientOutput::Done(_) => ended += 1,
                ClientOutput::Partial(_) => assert!(ended < started, "a late part"),
                ClientOutput::Connect { endpoint } => assert!(endpoint < 2),
                ClientOutput::Close => {}
            }
        }
        assert_eq!(started, ended + i32::from(!client.is_idle()), "one outcome for each call");
        assert_eq!(client.is_idle(), client.poll_timeout().is_none());
    }
});
