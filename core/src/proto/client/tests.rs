//! The client's promises, one by one. The virtual-time test bed tries them together.

use super::*;

const TIMEOUT: Duration = Duration::from_millis(2500);

fn machine(version: Version, endpoints: &str) -> Client {
    Client::new(ClientConfig { version, ..ClientConfig::from(&ClientOptions::new(endpoints)) })
}

fn start(client: &mut Client, now: Instant, mode: ReplyMode) {
    let result = client.start(now, "echo", Message::from("hi"), &RequestOptions::default(), mode);
    assert!(result.is_ok(), "{result:?}");
}

fn outputs(client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.poll_output())
        .map(|output| match output {
            ClientOutput::Connect { endpoint } => format!("connect {endpoint}"),
            ClientOutput::Send(frames) => format!("send {}", frames.len()),
            ClientOutput::Close => "close".into(),
            ClientOutput::Partial(body) => format!("partial {}", body.len()),
            ClientOutput::Done(Ok(body)) => format!("ok {}", body.len()),
            ClientOutput::Done(Err(error)) => format!("error {}", error.kind()),
        })
        .collect()
}

fn reply(service: &'static str) -> Vec<Bytes> {
    ["", "MDPC01", service, "hi"].map(Bytes::from).to_vec()
}

fn part(command: &'static [u8], body: &'static str) -> Vec<Bytes> {
    vec![Bytes::from("MDPC02"), Bytes::from_static(command), Bytes::from("echo"), Bytes::from(body)]
}

#[test]
fn an_answered_connection_is_used_again() {
    let (mut client, now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    start(&mut client, now, ReplyMode::Whole);
    assert_eq!(outputs(&mut client), ["connect 0", "send 4"]);
    client.handle_sent(now);
    client.handle_message(now, reply("echo"));
    assert_eq!(outputs(&mut client), ["ok 1"]);
    start(&mut client, now, ReplyMode::Whole);
    assert_eq!(outputs(&mut client), ["send 4"]);
}

#[test]
fn each_attempt_uses_a_fresh_connection_to_the_next_broker_until_the_last_fails() {
    let (mut client, mut now) = (machine(Version::V01, "tcp://a:1,tcp://b:1"), Instant::now());
    start(&mut client, now, ReplyMode::Whole);
    assert_eq!(outputs(&mut client), ["connect 0", "send 4"]);
    for endpoint in [1, 0] {
        client.handle_sent(now);
        now += TIMEOUT;
        client.handle_timeout(now);
        assert_eq!(outputs(&mut client), [format!("connect {endpoint}"), "send 4".into()]);
    }
    now += TIMEOUT;
    client.handle_timeout(now);
    assert_eq!(outputs(&mut client), ["close", "error Timeout"]);
    assert!(client.is_idle() && client.poll_timeout().is_none());
    start(&mut client, now, ReplyMode::Whole);
    assert_eq!(outputs(&mut client), ["connect 0", "send 4"], "what was given up took its connection with it");
}

#[test]
fn a_broker_that_never_took_the_request_is_called_unreachable() {
    let (mut client, mut now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    start(&mut client, now, ReplyMode::Whole);
    for _ in 0..3 {
        now += TIMEOUT;
        client.handle_timeout(now);
    }
    assert_eq!(outputs(&mut client).last().map(String::as_str), Some("error BrokerUnreachable"));
}

#[test]
fn a_lost_connection_resends_at_once_unless_only_one_attempt_is_allowed() {
    let (mut client, now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    start(&mut client, now, ReplyMode::Whole);
    client.handle_sent(now);
    outputs(&mut client);
    client.handle_disconnected(now);
    assert_eq!(outputs(&mut client), ["connect 0", "send 4"]);
    client.cancel(now, Error::closed("client"));
    outputs(&mut client);
    let once = RequestOptions { retries: Some(1), ..RequestOptions::default() };
    assert!(client.start(now, "echo", Message::new(), &once, ReplyMode::Whole).is_ok());
    client.handle_sent(now);
    outputs(&mut client);
    client.handle_disconnected(now);
    assert_eq!(outputs(&mut client), ["close", "error BrokerUnreachable"]);
}

#[test]
fn the_deadline_ends_the_call_whatever_attempts_are_left() {
    let (mut client, now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    let options = RequestOptions { deadline: Some(TIMEOUT / 2), ..RequestOptions::default() };
    assert!(client.start(now, "echo", Message::new(), &options, ReplyMode::Whole).is_ok());
    client.handle_sent(now);
    assert_eq!(client.poll_timeout(), Some(now + TIMEOUT / 2));
    client.handle_timeout(now + TIMEOUT / 2);
    assert_eq!(outputs(&mut client).last().map(String::as_str), Some("error Timeout"));
}

#[test]
fn stray_and_malformed_replies_change_nothing() {
    let (mut client, now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    client.handle_message(now, reply("echo"));
    start(&mut client, now, ReplyMode::Whole);
    outputs(&mut client);
    client.handle_sent(now);
    client.handle_message(now, reply("other"));
    client.handle_message(now, vec![]);
    client.handle_message(now, part(&[3], "hi"));
    assert!(outputs(&mut client).is_empty());
    assert_eq!(client.strays(), 4);
    assert!(!client.is_idle());
}

#[test]
fn a_stream_gives_its_parts_and_a_whole_reply_joins_them() {
    let (mut client, now) = (machine(Version::V02, "tcp://a:1"), Instant::now());
    for (mode, expected) in
        [(ReplyMode::Parts, vec!["partial 1", "partial 1", "ok 1"]), (ReplyMode::Whole, vec!["ok 3"])]
    {
        start(&mut client, now, mode);
        outputs(&mut client);
        client.handle_sent(now);
        client.handle_message(now, part(&[2], "a"));
        client.handle_message(now, part(&[2], "b"));
        client.handle_message(now, part(&[3], "c"));
        assert_eq!(outputs(&mut client), expected);
    }
}

#[test]
fn parts_of_empty_frames_and_of_none_are_not_joined_without_end() {
    for frames in [3, 0] {
        let (mut client, now) = (machine(Version::V02, "tcp://a:1"), Instant::now());
        client.config_mut().max_message_bytes = 10_000;
        start(&mut client, now, ReplyMode::Whole);
        client.handle_sent(now);
        let mut part = part(&[2], "");
        part.resize(3 + frames, Bytes::new());
        let mut parts = 0;
        while !client.is_idle() {
            assert!(parts < 1000, "{parts} parts were joined");
            client.handle_message(now, part.clone());
            parts += 1;
        }
        assert_eq!(outputs(&mut client).last().map(String::as_str), Some("error TooLarge"));
    }
}

#[test]
fn a_stream_whose_parts_were_delivered_is_not_asked_for_again() {
    let (mut client, now) = (machine(Version::V02, "tcp://a:1"), Instant::now());
    start(&mut client, now, ReplyMode::Parts);
    client.handle_sent(now);
    client.handle_message(now, part(&[2], "a"));
    outputs(&mut client);
    client.handle_timeout(now + TIMEOUT);
    assert_eq!(outputs(&mut client), ["close", "error Timeout"]);
}

#[test]
fn a_failed_handler_is_a_service_error_with_its_code_and_text() {
    let (mut client, now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    start(&mut client, now, ReplyMode::Whole);
    outputs(&mut client);
    client.handle_sent(now);
    client.handle_message(now, ["", "MDPC01", "echo", "MAJORDOMO-ERROR", "404", "gone"].map(Bytes::from).to_vec());
    let Some(ClientOutput::Done(Err(error))) = client.poll_output() else { panic!("no failure") };
    assert_eq!(error.service_error().map(|failure| (failure.code, failure.text.as_str())), Some((404, "gone")));
}

#[test]
fn bad_requests_are_refused_before_anything_starts() {
    let (mut client, now) = (machine(Version::V01, "tcp://a:1"), Instant::now());
    client.config_mut().max_message_bytes = 4;
    for (service, body, kind) in [
        ("", "hi", ErrorKind::InvalidArgument),
        ("a\nb", "hi", ErrorKind::InvalidArgument),
        ("echo", "hello", ErrorKind::TooLarge),
    ] {
        let result = client.start(now, service, Message::from(body), &RequestOptions::default(), ReplyMode::Whole);
        assert_eq!(result.map_err(|error| error.kind()), Err(kind));
    }
    assert!(client.is_idle() && outputs(&mut client).is_empty());
}
