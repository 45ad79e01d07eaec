//! Replies in parts, taken as a stream.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aio_peers::{Event, RawBroker, block_on, until};
use futures_core::Stream;
use majordomo::aio::{Client, ClientEvent, Inbox, Part, Parts};
use majordomo::{ClientOptions, ErrorKind, Message, Protocol, RequestOptions};

fn options(broker: &RawBroker) -> ClientOptions {
    ClientOptions::new(&broker.endpoint).protocol(Protocol::V02)
}

fn next(parts: &mut Parts) -> Option<majordomo::Result<Message>> {
    block_on(std::future::poll_fn(|context| Pin::new(&mut *parts).poll_next(context)))
}

/// Answers with as many parts as asked for, numbered, and a final one; counts the requests.
fn counting(requests: &Arc<AtomicUsize>) -> RawBroker {
    let requests = requests.clone();
    RawBroker::start(move |router, event| {
        let Event::Asked(asked) = event else { return };
        requests.fetch_add(1, Ordering::AcqRel);
        let count: usize = String::from_utf8(asked.body[0].clone()).unwrap().parse().unwrap();
        (0..count).for_each(|number| router.partial(&asked, &[number.to_string().as_bytes()]));
        router.reply(&asked, &[b"end"]);
    })
}

#[test]
fn a_stream_gives_every_part_in_order_and_the_final_one_last() {
    let broker = counting(&Arc::default());
    let client = Client::with_options(options(&broker)).unwrap();
    let mut parts = client.stream("count", "5");
    for number in 0..5 {
        assert_eq!(next(&mut parts).unwrap().unwrap(), Message::from(number.to_string()));
        assert!(!parts.is_final());
    }
    assert_eq!(block_on(parts.next_part()).unwrap().unwrap(), Message::from("end"));
    assert!(parts.is_final());
    assert!(next(&mut parts).is_none() && next(&mut parts).is_none());
}

#[test]
fn a_request_gets_the_parts_joined_and_an_inbox_gets_them_one_by_one() {
    let broker = counting(&Arc::default());
    let client = Client::with_options(options(&broker)).unwrap();
    assert_eq!(block_on(client.request("count", "2")).unwrap(), Message::from(["0", "1", "end"]));
    let inbox: Arc<Inbox<ClientEvent>> = Inbox::new(|| {});
    client.submit("count", "2".into(), &RequestOptions::default(), &inbox, 1);
    until("three parts", || inbox.len() == 3);
    let mut events = Vec::new();
    inbox.drain(&mut events);
    let bodies: Vec<_> = events
        .into_iter()
        .map(|event| match event.part {
            Part::Partial(body) => (false, body.into_message()),
            Part::Done(body) => (true, body.unwrap()),
        })
        .collect();
    assert_eq!(bodies, [(false, "0".into()), (false, "1".into()), (true, "end".into())]);
    client.submit_whole("count", "2".into(), &RequestOptions::default(), &inbox, 2);
    until("the reply", || inbox.len() == 1);
    let mut events = Vec::new();
    inbox.drain(&mut events);
    let [ClientEvent { token: 2, part: Part::Done(Ok(body)), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(body, &Message::from(["0", "1", "end"]));
}

#[test]
fn a_stream_dropped_early_frees_its_connection_and_its_rest_reaches_nobody() {
    let requests = Arc::default();
    let broker = counting(&requests);
    let client = Client::with_options(options(&broker).max_in_flight(1)).unwrap();
    for _ in 0..3 {
        let mut parts = client.stream("count", "10000");
        assert_eq!(next(&mut parts).unwrap().unwrap(), Message::from("0"));
        drop(parts);
        assert_eq!(block_on(client.request("count", "0")).unwrap(), Message::from("end"));
    }
    assert_eq!(requests.load(Ordering::Acquire), 6);
}

#[test]
fn a_stream_that_nobody_reads_is_held_back_loses_nothing_and_does_not_time_out() {
    let broker = counting(&Arc::default());
    let client = Client::with_options(options(&broker).timeout(Duration::from_millis(500)).retries(1)).unwrap();
    let mut slow = client.stream("count", "20000");
    // Longer than the stream's attempt may take without a part: others are served, and the parts wait.
    let others = Client::with_options(options(&broker)).unwrap();
    until("the slow stream's time to pass", {
        let silent = RawBroker::silent();
        move || {
            let once = RequestOptions { timeout: Some(Duration::from_secs(1)), retries: Some(1), ..Default::default() };
            let client = Client::with_options(options(&silent)).unwrap();
            block_on(client.request_with("x", "".into(), &once)).unwrap_err().kind() == ErrorKind::Timeout
        }
    });
    assert!(block_on(others.request("count", "3")).is_ok());
    for number in 0..20_000 {
        assert_eq!(next(&mut slow).unwrap().unwrap(), Message::from(number.to_string()));
    }
    assert_eq!(next(&mut slow).unwrap().unwrap(), Message::from("end"));
}

#[test]
fn a_stream_of_an_inbox_that_nobody_reads_is_held_back_and_loses_nothing() {
    let broker = counting(&Arc::default());
    let client = Client::with_options(options(&broker).max_message_bytes(64_000)).unwrap();
    let inbox: Arc<Inbox<ClientEvent>> = Inbox::new(|| {});
    client.submit("count", "20000".into(), &RequestOptions::default(), &inbox, 1);
    let (mut numbers, mut events) = (0..20_000, Vec::new());
    until("the first parts", || !inbox.is_empty());
    assert!(block_on(client.request("count", "3")).is_ok(), "others go on");
    let mut end = None;
    until("all parts", || {
        // What a connection that is held back had read already comes as well.
        assert!(inbox.len() <= 1100, "{} parts wait", inbox.len());
        inbox.drain(&mut events);
        for event in events.drain(..) {
            match event.part {
                Part::Partial(part) => {
                    assert_eq!(Some(part.into_message()), numbers.next().map(|n| n.to_string().into()))
                }
                Part::Done(outcome) => end = Some(outcome.unwrap()),
            }
        }
        end.is_some()
    });
    assert_eq!((numbers.next(), end), (None, Some("end".into())));
}

#[test]
fn a_stream_ends_with_the_error_that_ends_it() {
    let broker = RawBroker::start(|router, event| {
        if let Event::Asked(asked) = event {
            router.partial(&asked, &[b"first"]);
        }
    });
    let client = Client::with_options(options(&broker).timeout(Duration::from_millis(500))).unwrap();
    let mut parts = client.stream("count", "hi");
    assert!(next(&mut parts).unwrap().is_ok());
    assert_eq!(next(&mut parts).unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(parts.is_final() && next(&mut parts).is_none());
    let mut refused = client.stream("", "hi");
    assert_eq!(next(&mut refused).unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(next(&mut refused).is_none());
}
