//! The asynchronous client against brokers made of raw sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use aio_peers::{Asked, Event, RawBroker, Seeded, block_on, until};
use majordomo::aio::{Client, ClientEvent, Inbox, Part};
use majordomo::{ClientOptions, ErrorKind, Message, Protocol, RequestOptions, Result};

fn kind(outcome: Result<Message>) -> ErrorKind {
    outcome.map(|body| panic!("an answer: {body:?}")).unwrap_err().kind()
}

/// The raw brokers speak 0.1.
fn v01(endpoint: &str) -> ClientOptions {
    ClientOptions::new(endpoint).protocol(Protocol::V01)
}

fn silent_inbox() -> Arc<Inbox<ClientEvent>> {
    Inbox::new(|| {})
}

/// Everything in the inbox, once it has `count` events.
fn events(inbox: &Inbox<ClientEvent>, count: usize) -> Vec<ClientEvent> {
    until("events", || inbox.len() >= count);
    let mut events = Vec::new();
    inbox.drain(&mut events);
    events
}

#[test]
fn of_a_thousand_requests_at_once_each_gets_its_own_answer() {
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut random = Seeded(seed);
    let mut held: Vec<Asked> = Vec::new();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let broker = RawBroker::start(move |router, event| {
        let idle = matches!(event, Event::Idle);
        if let Event::Asked(asked) = event {
            held.push(asked);
        }
        seen.fetch_max(held.len(), Ordering::Relaxed);
        // Any of the held ones, in any order, as late as it pleases.
        while !held.is_empty() && (idle || random.below(20) == 0) {
            let asked = held.swap_remove(random.below(held.len()));
            let body: Vec<&[u8]> = asked.body.iter().map(Vec::as_slice).collect();
            router.reply(&asked, &body);
        }
    });
    let options = v01(&broker.endpoint).timeout(Duration::from_secs(20)).max_in_flight(100);
    let client = Client::with_options(options).unwrap();
    let responses: Vec<_> = (0..1000).map(|number| client.request("echo", format!("{number}"))).collect();
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(block_on(response).unwrap(), Message::from(format!("{number}")));
    }
    let most = most.load(Ordering::Relaxed);
    assert!(most > 1 && most <= 100, "{most} at once");
}

#[test]
fn an_unanswered_request_is_sent_again_on_a_fresh_connection() {
    let (peers, sent) = mpsc::channel();
    let mut count = 0;
    let broker = RawBroker::start(move |router, event| {
        let Event::Asked(asked) = event else { return };
        count += 1;
        peers.send(asked.peer.clone()).unwrap();
        if count >= 3 {
            router.reply(&asked, &[b"at last"]);
        }
    });
    let options = v01(&broker.endpoint).timeout(Duration::from_millis(200)).retries(50);
    let client = Client::with_options(options).unwrap();
    assert_eq!(block_on(client.request("echo", "hi")).unwrap(), Message::from("at last"));
    let mut peers: Vec<_> = sent.try_iter().collect();
    let sent = peers.len();
    peers.sort();
    peers.dedup();
    assert_eq!(peers.len(), sent);
}

#[test]
fn a_late_answer_reaches_nobody() {
    let mut first: Option<Asked> = None;
    let broker = RawBroker::start(move |router, event| {
        let Event::Asked(asked) = event else { return };
        match first.take() {
            None => first = Some(asked),
            Some(late) => {
                router.reply(&late, &[b"the first one's"]);
                router.reply(&asked, &[b"the second one's"]);
            }
        }
    });
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(1)).unwrap();
    let once = RequestOptions { timeout: Some(Duration::from_millis(500)), retries: Some(1), ..Default::default() };
    assert_eq!(kind(block_on(client.request_with("echo", "1".into(), &once))), ErrorKind::Timeout);
    assert_eq!(block_on(client.request("echo", "2")).unwrap(), Message::from("the second one's"));
}

#[test]
fn without_a_broker_the_error_says_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = v01(&format!("tcp://{free}")).timeout(Duration::from_millis(50)).retries(2);
    let client = Client::with_options(options).unwrap();
    assert_eq!(kind(block_on(client.request("echo", "hi"))), ErrorKind::BrokerUnreachable);
}

#[test]
fn the_next_broker_is_asked_when_one_is_silent_also_by_requests_with_one_attempt() {
    let (silent, echo) = (RawBroker::silent(), RawBroker::echo());
    let both = format!("{},{}", silent.endpoint, echo.endpoint);
    let client = Client::with_options(v01(&both).timeout(Duration::from_millis(500))).unwrap();
    assert!(block_on(client.request("echo", "hi")).is_ok());
    let client = Client::with_options(v01(&both).timeout(Duration::from_millis(500)).retries(1)).unwrap();
    assert_eq!(kind(block_on(client.request("echo", "hi"))), ErrorKind::Timeout);
    assert!(block_on(client.request("echo", "hi")).is_ok());
}

#[test]
fn a_request_that_waits_too_long_for_its_turn_times_out_and_says_so() {
    let broker = RawBroker::silent();
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(1)).unwrap();
    let _running = client.request("echo", "1");
    let short = RequestOptions { deadline: Some(Duration::from_millis(50)), ..Default::default() };
    let error = block_on(client.request_with("echo", "2".into(), &short)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("for its turn"), "{error}");
}

#[test]
fn the_deadline_of_a_request_counts_the_wait_for_its_turn() {
    let broker = RawBroker::silent();
    let options = v01(&broker.endpoint).max_in_flight(1).timeout(Duration::from_secs(5)).retries(1);
    let (client, other) = (Client::with_options(options.clone()).unwrap(), Client::with_options(options).unwrap());
    let within = |millis| RequestOptions { deadline: Some(Duration::from_millis(millis)), ..Default::default() };
    let inbox = silent_inbox();
    client.submit("echo", "hi".into(), &within(300), &inbox, 1);
    // Its turn comes after 300 ms. Were its 500 ms to count from there, it would be the last to end.
    client.submit("echo", "hi".into(), &within(500), &inbox, 2);
    other.submit("echo", "hi".into(), &within(700), &inbox, 3);
    let order: Vec<_> = events(&inbox, 3).iter().map(|event| event.token).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn beyond_max_waiting_a_request_is_refused_until_there_is_room() {
    let broker = RawBroker::silent();
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(2).max_waiting(3)).unwrap();
    let mut accepted: Vec<_> = (0..5).map(|_| client.request("echo", "hi")).collect();
    assert_eq!(kind(block_on(client.request("echo", "hi"))), ErrorKind::QueueFull);
    let inbox = silent_inbox();
    client.submit("echo", "hi".into(), &RequestOptions::default(), &inbox, 7);
    let [ClientEvent { token: 7, part: Part::Done(Err(error)), .. }] = &events(&inbox, 1)[..] else { panic!() };
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    accepted.pop();
    until("room", || {
        let short = RequestOptions { deadline: Some(Duration::from_millis(1)), ..Default::default() };
        kind(block_on(client.request_with("echo", "hi".into(), &short))) == ErrorKind::Timeout
    });
}

#[test]
fn a_dropped_future_gives_its_connection_to_the_next_request() {
    let held = Arc::new(AtomicBool::new(false));
    let holding = held.clone();
    let broker = RawBroker::start(move |router, event| {
        let Event::Asked(asked) = event else { return };
        match &asked.body[0][..] {
            b"hold" => holding.store(true, Ordering::Release),
            _ => router.reply(&asked, &[b"answer"]),
        }
    });
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(1)).unwrap();
    let given_up = client.request("echo", "hold");
    until("the request to arrive", || held.load(Ordering::Acquire));
    let next = client.request("echo", "next");
    drop(given_up);
    assert_eq!(block_on(next).unwrap(), Message::from("answer"));
}

#[test]
fn a_cancelled_request_ends_once_with_cancelled_wherever_it_is() {
    let broker = RawBroker::silent();
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(1)).unwrap();
    let inbox = silent_inbox();
    let numbers: Vec<_> =
        (0..3).map(|token| client.submit("echo", "hi".into(), &RequestOptions::default(), &inbox, token)).collect();
    for number in numbers.into_iter().rev() {
        client.cancel(number);
        client.cancel(number);
    }
    let mut tokens: Vec<_> = events(&inbox, 3)
        .into_iter()
        .map(|event| match event.part {
            Part::Done(Err(error)) if error.kind() == ErrorKind::Cancelled => event.token,
            part => panic!("{part:?}"),
        })
        .collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2]);
}

#[test]
fn requests_are_numbered_as_they_are_submitted_and_cancelling_one_leaves_the_others_alone() {
    let broker = RawBroker::silent();
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(2)).unwrap();
    let inbox = silent_inbox();
    let submit = |client: &Client, service: &str, token| {
        client.submit(service, "hi".into(), &RequestOptions::default(), &inbox, token)
    };
    // Refused ones are numbered, too, and those of clones.
    assert_eq!([submit(&client, "a", 11), submit(&client, "", 12), submit(&client.clone(), "b", 13)], [1, 2, 3]);
    let [ClientEvent { token: 12, part: Part::Done(Err(refused)) }] = &events(&inbox, 1)[..] else { panic!() };
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    for number in [2, 0, u64::MAX, 4, 3] {
        client.cancel(number);
    }
    let [ClientEvent { token: 13, part: Part::Done(Err(cancelled)) }] = &events(&inbox, 1)[..] else { panic!() };
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    assert_eq!(submit(&client, "c", 14), 4);
    client.cancel(4);
    let [ClientEvent { token: 14, part: Part::Done(Err(_)) }] = &events(&inbox, 1)[..] else { panic!() };
    client.close();
    let [ClientEvent { token: 11, part: Part::Done(Err(closed)) }] = &events(&inbox, 1)[..] else { panic!() };
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

#[test]
fn closing_from_any_thread_ends_every_request_with_closed_and_refuses_the_next() {
    let broker = RawBroker::silent();
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(2)).unwrap();
    let inbox = silent_inbox();
    let number = client.submit("echo", "hi".into(), &RequestOptions::default(), &inbox, 9);
    let responses: Vec<_> = (0..10).map(|_| client.request("echo", "hi")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| client.close());
        }
    });
    for response in responses {
        assert_eq!(kind(block_on(response)), ErrorKind::Closed);
    }
    assert_eq!(kind(block_on(client.request("echo", "hi"))), ErrorKind::Closed);
    client.submit("echo", "hi".into(), &RequestOptions::default(), &inbox, 10);
    client.cancel(number);
    let closed: HashMap<_, _> = events(&inbox, 2).into_iter().map(|event| (event.token, event.part)).collect();
    assert!(closed.values().all(|part| matches!(part, Part::Done(Err(error)) if error.kind() == ErrorKind::Closed)));
    assert_eq!(closed.len(), 2);
}

#[test]
fn a_future_outlives_its_client_and_a_submitted_request_does_not() {
    let broker = RawBroker::echo();
    let response = Client::with_options(v01(&broker.endpoint)).unwrap().request("echo", "hi");
    assert_eq!(block_on(response).unwrap(), Message::from("hi"));
    let silent = RawBroker::silent();
    let inbox = silent_inbox();
    let options = RequestOptions::default();
    Client::with_options(v01(&silent.endpoint)).unwrap().submit("echo", "hi".into(), &options, &inbox, 1);
    let [ClientEvent { part: Part::Done(Err(error)), .. }] = &events(&inbox, 1)[..] else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn bad_arguments_come_back_as_outcomes() {
    let client = Client::connect("tcp://127.0.0.1:1").unwrap();
    let inbox = silent_inbox();
    client.submit("", "hi".into(), &RequestOptions::default(), &inbox, 1);
    let [ClientEvent { token: 1, part: Part::Done(Err(error)), .. }] = &events(&inbox, 1)[..] else { panic!() };
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(kind(block_on(client.request("a\nb", "hi"))), ErrorKind::InvalidArgument);
    let nowhere = Client::connect("tcp://no-port").unwrap();
    assert_eq!(kind(block_on(nowhere.request("echo", "hi"))), ErrorKind::InvalidArgument);
    assert_eq!(Client::connect("carrier pigeon").unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn one_notification_serves_for_a_hundred_answers() {
    let held: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let all = held.clone();
    let broker = RawBroker::start(move |router, event| {
        let mut held = all.lock().unwrap();
        if let Event::Asked(asked) = event {
            held.push(asked);
        }
        if held.len() == 100 {
            held.drain(..).for_each(|asked| router.reply(&asked, &[b"answer"]));
        }
    });
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let inbox = Inbox::new(move || {
        counted.fetch_add(1, Ordering::AcqRel);
    });
    let client = Client::with_options(v01(&broker.endpoint).max_in_flight(100)).unwrap();
    for token in 0..100 {
        client.submit("echo", "hi".into(), &RequestOptions::default(), &inbox, token);
    }
    let mut tokens: Vec<_> = events(&inbox, 100).iter().map(|event| event.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..100).collect::<Vec<_>>());
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn a_waker_or_a_notification_that_panics_stops_nobody_else() {
    struct Panicking;
    impl std::task::Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("a broken executor");
        }
    }
    let go = Arc::new(AtomicBool::new(false));
    let may = go.clone();
    let mut held: Vec<Asked> = Vec::new();
    let broker = RawBroker::start(move |router, event| {
        if let Event::Asked(asked) = event {
            held.push(asked);
        }
        if may.load(Ordering::Acquire) {
            held.drain(..).for_each(|asked| router.reply(&asked, &[b"answer"]));
        }
    });
    let client = Client::with_options(v01(&broker.endpoint)).unwrap();
    let mut broken = client.request("echo", "hi");
    let waker = std::task::Waker::from(Arc::new(Panicking));
    let mut context = std::task::Context::from_waker(&waker);
    assert!(std::future::Future::poll(std::pin::Pin::new(&mut broken), &mut context).is_pending());
    let inbox: Arc<Inbox<ClientEvent>> = Inbox::new(|| panic!("a broken loop"));
    client.submit("echo", "hi".into(), &RequestOptions::default(), &inbox, 1);
    go.store(true, Ordering::Release);
    assert!(block_on(client.request("echo", "hi")).is_ok());
    assert_eq!(events(&inbox, 1).len(), 1);
    assert!(block_on(broken).is_ok());
}

#[test]
fn a_thousand_requests_at_once_use_64_connections_at_most() {
    let (mut held, mut all, mut peers): (Vec<Asked>, _, _) = (Vec::new(), 0, HashSet::new());
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let broker = RawBroker::start(move |router, event| {
        if let Event::Asked(asked) = event {
            peers.insert(asked.peer.clone());
            held.push(asked);
            all += 1;
        }
        seen.fetch_max(peers.len(), Ordering::Relaxed);
        if held.len() >= 64 || all == 1000 {
            held.drain(..).for_each(|asked| router.reply(&asked, &[&asked.body[0]]));
        }
    });
    let options = v01(&broker.endpoint).max_in_flight(1000).timeout(Duration::from_secs(20));
    let client = Client::with_options(options).unwrap();
    let responses: Vec<_> = (0..1000).map(|number| client.request("echo", format!("{number}"))).collect();
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(block_on(response).unwrap(), Message::from(format!("{number}")));
    }
    assert_eq!(most.load(Ordering::Relaxed), 64);
}

#[test]
fn handles_and_futures_move_between_threads() {
    fn moves<T: Send + Unpin>() {}
    fn shared<T: Send + Sync + Clone>() {}
    moves::<majordomo::aio::Response>();
    moves::<majordomo::aio::Parts>();
    moves::<majordomo::aio::Recv>();
    moves::<majordomo::aio::Requests>();
    moves::<majordomo::aio::Drain>();
    shared::<Client>();
    shared::<majordomo::aio::Worker>();
}
