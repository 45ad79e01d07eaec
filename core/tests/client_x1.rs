//! Clients of MDPX, blocking and asynchronous, with an embedded broker and real workers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aio_peers;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use aio_peers::{PATIENCE, RawBroker, block_on, until};
use bytes::Bytes;
use majordomo::aio::{self, ClientEvent, Inbox, Part};
use majordomo::proto::mdpx::{self, Command};
use majordomo::{
    Broker, BrokerOptions, Client, ClientOptions, ConnectionEvent, Error, ErrorKind, EventHook, Message, Properties,
    Protocol, RequestOptions, Result, ServiceError, Worker, WorkerOptions,
};

fn broker() -> Broker {
    Broker::start("tcp://127.0.0.1:0").unwrap()
}

fn options(endpoint: &str) -> ClientOptions {
    ClientOptions::new(endpoint).timeout(PATIENCE).retries(1)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// A listener for connection events, and the events as they come.
fn listener() -> (EventHook, mpsc::Receiver<ConnectionEvent>) {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let hook = EventHook::new(move |event| sender.lock().unwrap().send(event.clone()).unwrap());
    (hook, receiver)
}

fn names(events: &mpsc::Receiver<ConnectionEvent>, count: usize) -> Vec<&'static str> {
    (0..count).map(|_| events.recv_timeout(PATIENCE).unwrap().name()).collect()
}

fn worker(endpoint: &str, service: &str) -> Worker {
    Worker::with_options(WorkerOptions::new(endpoint, service).prefetch(64)).unwrap()
}

/// A worker that answers every request with the request itself, until the test ends.
fn echo(endpoint: &str) {
    let worker = worker(endpoint, "echo");
    thread::spawn(move || {
        while let Ok(request) = worker.recv() {
            let _ = request.reply(request.body().clone().with_properties(request.properties().clone()));
        }
    });
}

/// A raw broker's address is freed some time after it is closed.
fn start_when_free(endpoint: &str) -> Broker {
    loop {
        match Broker::start(endpoint) {
            Ok(broker) => return broker,
            Err(_) => thread::yield_now(),
        }
    }
}

#[test]
fn properties_go_there_and_back_and_the_listener_hears_what_is_spoken() {
    let broker = broker();
    echo(broker.endpoint());
    let mut properties = Properties::new();
    properties.set(Properties::CONTENT_TYPE, "text/plain").unwrap();
    let message = Message::from(["one", "two"]).with_properties(properties);
    let large = Message::from(vec![7; 100_000]);
    for protocol in [Protocol::Auto, Protocol::X1] {
        let (hook, events) = listener();
        let options = options(broker.endpoint()).protocol(protocol).on_event(hook);
        let connected = ConnectionEvent::Connected { endpoint: broker.endpoint().to_owned(), protocol: Protocol::X1 };
        let client = Client::with_options(options.clone()).unwrap();
        for body in [&message, &large, &message] {
            assert_eq!(&client.request("echo", body.clone()).unwrap(), body);
        }
        assert_eq!(events.try_iter().collect::<Vec<_>>(), std::slice::from_ref(&connected));
        let client = aio::Client::with_options(options).unwrap();
        for body in [&message, &large, &message] {
            assert_eq!(&block_on(client.request("echo", body.clone())).unwrap(), body);
        }
        assert_eq!(events.recv_timeout(PATIENCE), Ok(connected));
    }
}

#[test]
fn failures_keep_their_code_their_text_and_whether_to_try_again() {
    let broker = broker();
    let worker = worker(broker.endpoint(), "fail");
    let failure = ServiceError::new(418, "a teapot").retryable(true);
    let told = failure.clone();
    let once = RequestOptions { max_attempts: Some(1), ..RequestOptions::default() };
    let serving = thread::spawn(move || {
        for _ in 0..2 {
            worker.recv().unwrap().fail_with(told.clone()).unwrap();
        }
    });
    let client = Client::with_options(options(broker.endpoint())).unwrap();
    let check = |error: Error| {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ServiceError, true));
        let service = error.service_error().unwrap();
        assert_eq!((service.code, &service.text[..]), (418, "a teapot"));
    };
    let mut go_on = |_| ControlFlow::Continue(());
    check(client.request_with("fail", "hi".into(), &once, &mut go_on).unwrap_err());
    let asynchronous = aio::Client::with_options(options(broker.endpoint())).unwrap();
    check(block_on(asynchronous.request_with("fail", "hi".into(), &once)).unwrap_err());
    serving.join().unwrap();
    let fast = RequestOptions { fail_fast: true, ..RequestOptions::default() };
    assert_eq!(kind(client.request_with("nobody", "hi".into(), &fast, &mut go_on)), ErrorKind::NoWorker);
    assert_eq!(kind(block_on(asynchronous.request_with("nobody", "hi".into(), &fast))), ErrorKind::NoWorker);
}

#[test]
fn thousands_of_requests_share_one_session_within_the_credit() {
    let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").credit(100)).unwrap();
    let client = aio::Client::with_options(options(broker.endpoint())).unwrap();
    let responses: Vec<_> = (0..5000).map(|number| client.request("echo", format!("{number}"))).collect();
    until("the credit to be used up", || broker.stats().unwrap().queued == 100);
    assert_eq!(broker.stats().unwrap().sessions, 1);
    echo(broker.endpoint());
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(block_on(response).unwrap(), Message::from(format!("{number}")));
    }
}

#[test]
fn small_and_large_requests_arrive_in_the_order_in_which_they_were_made() {
    let broker = broker();
    let client = aio::Client::with_options(options(broker.endpoint())).unwrap();
    let sizes = [1, 20_000, 1, 1, 100_000];
    let bodies: Vec<Message> = (0..2000)
        .map(|number| Message::from(vec![format!("{number}").into_bytes(), vec![b'x'; sizes[number % sizes.len()]]]))
        .collect();
    let worker = Worker::connect(broker.endpoint(), "echo").unwrap();
    // Where the session stands, a large one goes out from this thread.
    assert!(block_on(client.request("mmi.service", "echo")).is_ok());
    let responses: Vec<_> = bodies.iter().map(|body| client.request("echo", body.clone())).collect();
    for body in &bodies {
        let request = worker.recv().unwrap();
        assert_eq!(request.body()[0], body[0]);
        request.reply(body.clone()).unwrap();
    }
    for (body, response) in bodies.iter().zip(responses) {
        assert!(block_on(response).unwrap() == *body);
    }
}

#[test]
fn beyond_the_credit_and_max_waiting_a_request_is_refused() {
    let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").credit(2)).unwrap();
    let client = aio::Client::with_options(options(broker.endpoint()).max_waiting(0)).unwrap();
    let first = client.request("echo", "1");
    until("the first request to arrive", || broker.stats().unwrap().queued == 1);
    let second = client.request("echo", "2");
    assert_eq!(kind(block_on(client.request("echo", "3"))), ErrorKind::QueueFull);
    drop(first);
    echo(broker.endpoint());
    assert!(block_on(second).is_ok());
    assert!(block_on(client.request("echo", "4")).is_ok());
}

#[test]
fn whoever_gives_a_request_up_cancels_it_at_the_worker() {
    let broker = broker();
    let worker = worker(broker.endpoint(), "long");
    let held = |what: &str, give_up: &mut dyn FnMut()| {
        let request = worker.recv().unwrap();
        assert!(!request.is_cancelled());
        give_up();
        until(what, || request.is_cancelled());
    };
    let client = aio::Client::with_options(options(broker.endpoint())).unwrap();
    let mut response = Some(client.request("long", "hi"));
    held("a dropped future", &mut || drop(response.take()));
    let inbox: Arc<Inbox<ClientEvent>> = Inbox::new(|| {});
    let number = client.submit("long", "hi".into(), &RequestOptions::default(), &inbox, 1);
    held("a cancelled request", &mut || client.cancel(number));
    until("its end", || inbox.len() == 1);
    let short = RequestOptions { deadline: Some(Duration::from_millis(300)), ..RequestOptions::default() };
    let response = client.request_with("long", "hi".into(), &short);
    let mut response = Some(response);
    held("a deadline", &mut || {
        let outcome = block_on(response.take().unwrap());
        assert!(matches!(kind(outcome), ErrorKind::Timeout | ErrorKind::Expired));
    });
    let blocking = Client::with_options(options(broker.endpoint())).unwrap();
    let mut parts = Some(blocking.stream("long", "hi").unwrap());
    // A blocking stream is driven by whoever reads it.
    let mut asked = 0;
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut stop = |_| {
                asked += 1;
                if asked == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            assert_eq!(kind(parts.as_mut().unwrap().next_with(&mut stop).unwrap()), ErrorKind::Cancelled);
        });
        held("an interrupted call", &mut || ());
        reading.join().unwrap();
    });
    let mut closing = Some(client);
    let response = closing.as_ref().unwrap().request("long", "hi");
    held("a closed client", &mut || closing.take().unwrap().close());
    assert_eq!(kind(block_on(response)), ErrorKind::Closed);
}

#[test]
fn streams_give_their_parts_side_by_side_and_requests_get_them_joined() {
    let broker = broker();
    let worker = worker(broker.endpoint(), "count");
    let serving = thread::spawn(move || {
        for _ in 0..4 {
            let request = worker.recv().unwrap();
            request.partial("a").unwrap();
            request.partial("b").unwrap();
            request.reply("c").unwrap();
        }
    });
    let client = aio::Client::with_options(options(broker.endpoint())).unwrap();
    let mut streams = [client.stream("count", ""), client.stream("count", "")];
    for expected in ["a", "b", "c"] {
        for stream in &mut streams {
            assert_eq!(block_on(stream.next_part()).unwrap().unwrap(), Message::from(expected));
        }
    }
    assert!(streams.iter().all(aio::Parts::is_final));
    assert_eq!(block_on(client.request("count", "")).unwrap(), Message::from(["a", "b", "c"]));
    let blocking = Client::with_options(options(broker.endpoint())).unwrap();
    let parts: Vec<_> = blocking.stream("count", "").unwrap().map(|part| part.unwrap()).collect();
    assert_eq!(parts, ["a", "b", "c"].map(Message::from));
    serving.join().unwrap();
}

#[test]
fn a_stream_that_nobody_reads_fails_alone_when_too_much_waits() {
    let broker = broker();
    echo(broker.endpoint());
    let worker = worker(broker.endpoint(), "flood");
    let client = aio::Client::with_options(options(broker.endpoint()).max_message_bytes(10_000)).unwrap();
    let mut stream = client.stream("flood", "");
    let request = worker.recv().unwrap();
    // Each costs a little more than its bytes.
    for _ in 0..10 {
        request.partial(vec![0; 1000]).unwrap();
    }
    until("the stream to be cancelled", || request.is_cancelled());
    assert!(block_on(client.request("echo", "hi")).is_ok(), "others go on");
    for _ in 0..9 {
        assert_eq!(block_on(stream.next_part()).unwrap().unwrap().byte_len(), 1000);
    }
    assert_eq!(kind(block_on(stream.next_part()).unwrap()), ErrorKind::QueueFull);
}

#[test]
fn after_a_part_that_found_no_room_a_stream_gives_none_that_would() {
    let router = zmq::Context::new().socket(zmq::ROUTER).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    router.set_rcvtimeo(30_000).unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    // All parts of the answer come at once; the fourth is too much, and the fifth would have room.
    let serving = thread::spawn(move || {
        loop {
            let frames = router.recv_multipart(0).unwrap();
            let header = Bytes::from(frames[1].clone());
            let (heartbeat_ms, liveness, credit, max_message) = (2500, 100, 1, 10_000);
            let reply = match mdpx::read(&header, frames.len() - 2).unwrap().command {
                Command::Hello { .. } => mdpx::control(&Command::ClientWelcome {
                    resumed: false,
                    heartbeat_ms,
                    liveness,
                    credit,
                    max_message,
                })
                .concat(),
                Command::Request { number, .. } => {
                    let parts = (0..).zip([3000, 3000, 3000, 3000, 10]).map(|(sequence, size)| {
                        let command = Command::Partial { number, sequence };
                        mdpx::message(&command, &Message::from(vec![0; size])).concat()
                    });
                    let mut batch = Vec::new();
                    mdpx::begin_batch(&mut batch);
                    mdpx::pack(&mut batch, 0, &parts.collect::<Vec<_>>());
                    batch
                }
                Command::Cancel { .. } => return router,
                _ => continue,
            };
            router.send_multipart([frames[0].clone(), reply], 0).unwrap();
        }
    });
    let options = options(&endpoint).protocol(Protocol::X1).max_message_bytes(10_000);
    let client = aio::Client::with_options(options).unwrap();
    let mut stream = client.stream("flood", "");
    serving.join().unwrap();
    for _ in 0..3 {
        assert_eq!(block_on(stream.next_part()).unwrap().unwrap().byte_len(), 3000);
    }
    assert_eq!(kind(block_on(stream.next_part()).unwrap()), ErrorKind::QueueFull);
    assert!(block_on(stream.next_part()).is_none());
}

#[test]
fn a_stream_of_an_inbox_that_nobody_reads_fails_alone_when_too_much_waits() {
    let broker = broker();
    echo(broker.endpoint());
    let worker = worker(broker.endpoint(), "flood");
    let client = aio::Client::with_options(options(broker.endpoint()).max_message_bytes(10_000)).unwrap();
    let inbox: Arc<Inbox<ClientEvent>> = Inbox::new(|| {});
    client.submit("flood", "".into(), &RequestOptions::default(), &inbox, 7);
    let request = worker.recv().unwrap();
    let mut events = Vec::new();
    // Taken from the inbox, but not out of their events, they wait as before; what is taken out makes room.
    for taken_out in [true, false] {
        for _ in 0..5 {
            request.partial(vec![0; 1000]).unwrap();
        }
        until("five parts", || {
            inbox.drain(&mut events);
            events.len() == 5
        });
        if taken_out {
            let bodies = events.drain(..).map(|event| match event.part {
                Part::Partial(part) => part.into_message(),
                Part::Done(outcome) => panic!("{outcome:?}"),
            });
            assert_eq!(bodies.map(|body| body.byte_len()).collect::<Vec<_>>(), [1000; 5]);
        }
    }
    for _ in 0..5 {
        request.partial(vec![0; 1000]).unwrap();
    }
    until("the stream to be cancelled", || request.is_cancelled());
    client.submit_whole("echo", "others go on".into(), &RequestOptions::default(), &inbox, 8);
    until("the other request's reply", || {
        inbox.drain(&mut events);
        events.last().is_some_and(|event| event.token == 8)
    });
    let told: Vec<_> = events
        .into_iter()
        .map(|event| match event.part {
            Part::Partial(part) => format!("{} part {}", event.token, part.byte_len()),
            Part::Done(Ok(body)) => format!("{} {}", event.token, String::from_utf8_lossy(&body[0])),
            Part::Done(Err(error)) => format!("{} {}", event.token, error.kind()),
        })
        .collect();
    let mut expected = vec!["7 part 1000"; 9];
    expected.extend(["7 QueueFull", "8 others go on"]);
    assert_eq!(told, expected);
}

#[test]
fn empty_frames_that_nobody_reads_fill_a_stream_and_a_joined_reply_as_well() {
    let broker = broker();
    let worker = worker(broker.endpoint(), "flood");
    let client = aio::Client::with_options(options(broker.endpoint()).max_message_bytes(10_000)).unwrap();
    let blocking = Client::with_options(options(broker.endpoint()).max_message_bytes(10_000)).unwrap();
    let flood = || {
        let request = worker.recv().unwrap();
        until("the request to be cancelled", || {
            let _ = request.partial(vec![Bytes::new(); 10]);
            request.is_cancelled()
        });
    };
    let mut stream = client.stream("flood", "");
    flood();
    let last = std::iter::from_fn(|| block_on(stream.next_part())).last();
    assert_eq!(kind(last.unwrap()), ErrorKind::QueueFull);
    thread::scope(|scope| {
        let joined = scope.spawn(|| kind(block_on(client.request("flood", ""))));
        flood();
        assert_eq!(joined.join().unwrap(), ErrorKind::TooLarge);
        let joined = scope.spawn(|| kind(blocking.request("flood", "")));
        flood();
        assert_eq!(joined.join().unwrap(), ErrorKind::TooLarge);
    });
}

#[test]
fn a_restarted_broker_is_asked_again_and_only_once_where_once_is_wanted() {
    let first = broker();
    let endpoint = first.endpoint().to_owned();
    let (hook, events) = listener();
    let options = options(&endpoint).on_event(hook);
    let client = aio::Client::with_options(options.clone()).unwrap();
    let response = client.request("echo", "hi");
    let once = RequestOptions { max_attempts: Some(1), ..RequestOptions::default() };
    let fragile = client.request_with("echo", "once".into(), &once);
    until("the requests to arrive", || first.stats().unwrap().queued == 2);
    drop(first);
    assert_eq!(names(&events, 3), ["connected", "disconnected", "reconnecting"]);
    let _second = start_when_free(&endpoint);
    echo(&endpoint);
    assert!(block_on(response).is_ok());
    assert_eq!(kind(block_on(fragile)), ErrorKind::WorkerLost);
}

#[test]
fn a_blocking_client_finds_a_restarted_broker() {
    let first = broker();
    let endpoint = first.endpoint().to_owned();
    echo(&endpoint);
    let client = Client::with_options(options(&endpoint)).unwrap();
    assert!(client.request("echo", "one").is_ok());
    drop(first);
    let _second = start_when_free(&endpoint);
    assert!(client.request("echo", "two").is_ok());
}

#[test]
fn an_older_broker_is_asked_as_it_understands_and_an_upgraded_one_is_noticed() {
    let older = RawBroker::echo();
    let endpoint = older.endpoint.clone();
    let (hook, events) = listener();
    let client = aio::Client::with_options(options(&endpoint).on_event(hook)).unwrap();
    let blocking = Client::with_options(options(&endpoint)).unwrap();
    for _ in 0..2 {
        assert_eq!(block_on(client.request("echo", "hi")).unwrap(), Message::from("hi"));
        assert_eq!(blocking.request("echo", "hi").unwrap(), Message::from("hi"));
    }
    let connected = |protocol| ConnectionEvent::Connected { endpoint: endpoint.clone(), protocol };
    assert_eq!(events.recv_timeout(PATIENCE), Ok(connected(Protocol::V01)));
    drop(older);
    let _newer = start_when_free(&endpoint);
    echo(&endpoint);
    let mut properties = Properties::new();
    properties.set("mine", "1").unwrap();
    let message = Message::from("hi").with_properties(properties);
    // Properties come back over MDPX only.
    until("the upgrade to be noticed", || block_on(client.request("echo", message.clone())).unwrap() == message);
    until("the upgrade to be noticed", || blocking.request("echo", message.clone()).unwrap() == message);
    assert!(events.iter().any(|event| event == connected(Protocol::X1)));
}

#[test]
fn a_client_without_room_for_its_session_says_so_and_gets_the_next_free_place() {
    let broker = Broker::with_options(BrokerOptions::new("tcp://127.0.0.1:0").max_sessions(1)).unwrap();
    let first = aio::Client::with_options(options(broker.endpoint())).unwrap();
    assert!(block_on(first.request("mmi.service", "echo")).is_ok());
    let options = options(broker.endpoint()).reconnect_max(Duration::from_millis(100));
    let hasty = options.clone().protocol(Protocol::X1).deadline(Duration::from_secs(2));
    let asynchronous = aio::Client::with_options(hasty.clone()).unwrap();
    let blocking = Client::with_options(hasty).unwrap();
    let response = asynchronous.request("echo", "");
    for error in [blocking.request("echo", "").unwrap_err(), block_on(response).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::QueueFull, "{error}");
        assert!(error.to_string().contains("max_sessions is reached"), "{error}");
    }
    let second = aio::Client::with_options(options).unwrap();
    let response = second.request("mmi.service", "echo");
    first.close();
    assert!(block_on(response).is_ok());
}

#[test]
fn a_client_whose_session_somebody_else_has_taken_goes_on_under_another_name() {
    let router = zmq::Context::new().socket(zmq::ROUTER).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    router.set_rcvtimeo(30_000).unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let options = options(&endpoint).protocol(Protocol::X1);
    // The first HELLO of each client is denied, its second one welcomed.
    let serving = thread::spawn(move || {
        let (mut names, mut answered) = (Vec::new(), 0);
        while answered < 2 {
            let frames = router.recv_multipart(0).unwrap();
            let header = Bytes::from(frames[1].clone());
            let reply = match mdpx::read(&header, frames.len() - 2).unwrap().command {
                Command::Hello { session, secret, .. } => {
                    names.extend([session, secret]);
                    let (kind, text) = (ErrorKind::Denied.number(), "the session belongs to somebody else");
                    let (heartbeat_ms, liveness, credit, max_message) = (2500, 100, 1, 1000);
                    mdpx::control(&match names.len() % 4 {
                        0 => Command::ClientWelcome { resumed: false, heartbeat_ms, liveness, credit, max_message },
                        _ => Command::Disconnect { kind, text },
                    })
                }
                Command::Request { number, .. } => {
                    answered += 1;
                    mdpx::message(&Command::Final { number, sequence: 0 }, &Message::from("hi"))
                }
                _ => continue,
            };
            let reply = reply.iter().map(|frame| frame.to_vec());
            router.send_multipart([frames[0].clone()].into_iter().chain(reply), 0).unwrap();
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 8, "each name and each secret is another one");
        router
    });
    let client = Client::with_options(options.clone()).unwrap();
    assert_eq!(client.request("echo", "").unwrap(), Message::from("hi"));
    let client = aio::Client::with_options(options).unwrap();
    assert_eq!(block_on(client.request("echo", "")).unwrap(), Message::from("hi"));
    serving.join().unwrap();
}

#[test]
fn without_a_broker_the_error_says_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = ClientOptions::new(&format!("tcp://{free}")).timeout(Duration::from_millis(50)).retries(2);
    let asynchronous = aio::Client::with_options(options.clone()).unwrap();
    assert_eq!(kind(block_on(asynchronous.request("echo", "hi"))), ErrorKind::BrokerUnreachable);
    let client = Client::with_options(options).unwrap();
    assert_eq!(kind(client.request("echo", "hi")), ErrorKind::BrokerUnreachable);
}
