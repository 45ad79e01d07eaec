//! The blocking client on real sockets, against our broker and against raw ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod blocking_peers;

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use blocking_peers::*;
use majordomo::{Broker, Client, ClientOptions, ErrorKind, Message, Protocol, RequestOptions, Result, Wake};

/// Long enough for a round trip on a busy machine, short enough to wait for where nobody answers.
const SHORT: Duration = Duration::from_millis(200);

/// The raw brokers speak 0.1.
fn v01(endpoint: &str) -> ClientOptions {
    ClientOptions::new(endpoint).protocol(Protocol::V01)
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn patient(endpoint: &str) -> Client {
    Client::with_options(v01(endpoint).timeout(LONG)).unwrap()
}

/// A 0.1 request as a raw broker sees it: peer, empty, header, service, body.
fn asked(broker: &Raw) -> Frames {
    let frames = broker.recv();
    assert_eq!((frames[1].as_slice(), frames[2].as_slice()), (&b""[..], &b"MDPC01"[..]));
    frames
}

fn reply(broker: &Raw, request: &[Vec<u8>], service: &[u8], body: &[u8]) {
    broker.send(&[&request[0], b"", b"MDPC01", service, body]);
}

fn reply_02(broker: &Raw, request: &[Vec<u8>], command: u8, body: &[u8]) {
    broker.send(&[&request[0], b"MDPC02", &[command], &request[3], body]);
}

#[test]
fn client_and_its_errors_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Client>();
    shared::<majordomo::Error>();
}

#[test]
fn replies_come_back_as_they_were_sent() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let bodies =
        [vec![], vec![vec![]], vec![b"hello".to_vec()], (0..20).map(|size| vec![size as u8; size * 1000]).collect()];
    let echo = echo(broker.endpoint(), "echo", bodies.len());
    let client = patient(broker.endpoint());
    for body in bodies {
        let reply = client.request("echo", Message::from(body.clone())).unwrap();
        assert_eq!(reply, Message::from(body));
    }
    echo.join().unwrap();
}

#[test]
fn a_message_of_100_megabytes_passes() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let echo = echo(broker.endpoint(), "echo", 1);
    let body: Vec<u8> = (0..100_000_000u32).map(|number| (number % 251) as u8).collect();
    let reply = patient(broker.endpoint()).request("echo", body.clone()).unwrap();
    assert!(reply[0] == body[..]);
    echo.join().unwrap();
}

#[test]
fn every_attempt_comes_on_a_fresh_connection_and_the_last_answer_counts() {
    let (broker, endpoint) = Raw::router();
    let asking = thread::spawn(move || {
        let client = Client::with_options(v01(&endpoint).timeout(SHORT).retries(3).deadline(LONG)).unwrap();
        client.request("echo", "hello")
    });
    let first = asked(&broker);
    let second = asked(&broker);
    assert_ne!(first[0], second[0]);
    assert_eq!(first[3..], second[3..]);
    reply(&broker, &second, b"echo", b"second");
    let outcome = asking.join().unwrap();
    // A third attempt may have been under way when the answer came; it then got none.
    assert!(outcome.is_ok_and(|reply| &reply[0] == b"second"));
}

#[test]
fn a_broker_that_never_answers_is_a_timeout_and_none_at_all_is_unreachable() {
    let (broker, endpoint) = Raw::router();
    let client = Client::with_options(v01(&endpoint).timeout(SHORT).retries(2)).unwrap();
    assert_eq!(kind(client.request("echo", "hello")), Some(ErrorKind::Timeout));
    assert_ne!(asked(&broker)[0], asked(&broker)[0]);
    assert!(broker.socket.poll(zmq::POLLIN, 0).unwrap() == 0, "more attempts than retries");

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = v01(&format!("tcp://127.0.0.1:{port}")).timeout(SHORT).retries(2);
    assert_eq!(
        kind(Client::with_options(options).unwrap().request("echo", "hello")),
        Some(ErrorKind::BrokerUnreachable)
    );
}

#[test]
fn the_deadline_ends_a_call_with_attempts_left() {
    let (broker, endpoint) = Raw::router();
    let client = patient(&endpoint);
    let options = RequestOptions { deadline: Some(SHORT), ..RequestOptions::default() };
    let outcome = client.request_with("echo", "hello".into(), &options, &mut |_| ControlFlow::Continue(()));
    assert_eq!(kind(outcome), Some(ErrorKind::Timeout));
    asked(&broker);
}

#[test]
fn the_next_endpoint_is_tried_when_one_is_silent() {
    let (silent, first) = Raw::router();
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let echo = echo(broker.endpoint(), "echo", 2);
    let endpoints = format!("{first}, {}", broker.endpoint());
    let client = Client::with_options(v01(&endpoints).timeout(SHORT).deadline(LONG).retries(100)).unwrap();
    assert!(client.request("echo", "one").is_ok());
    asked(&silent);
    assert!(client.request("echo", "two").is_ok());
    echo.join().unwrap();
}

#[test]
fn a_stray_reply_is_dropped_and_the_right_one_still_counts() {
    let (broker, endpoint) = Raw::router();
    let asking = thread::spawn(move || patient(&endpoint).request("echo", "hello"));
    let request = asked(&broker);
    broker.send(&[&request[0]]);
    broker.send(&[&request[0], b"garbage"]);
    broker.send(&[&request[0], b"", b"MDPC01"]);
    broker.send(&[&request[0], b"", b"MDPW01", &[1], b"echo"]);
    broker.send(&[&request[0], b"MDPC02", &[3], b"echo", b"wrong version"]);
    reply(&broker, &request, b"other", b"wrong service");
    reply(&broker, &request, b"echo", b"right");
    assert_eq!(&asking.join().unwrap().unwrap()[0], b"right");
}

#[test]
fn an_answer_to_an_abandoned_request_never_reaches_the_next_one() {
    let (broker, endpoint) = Raw::router();
    let asking = thread::spawn(move || {
        let client = Client::with_options(v01(&endpoint).timeout(SHORT).retries(1)).unwrap();
        let first = kind(client.request("echo", "first"));
        client.set_timeout(LONG).unwrap();
        (first, client.request("echo", "second"))
    });
    let first = asked(&broker);
    let second = asked(&broker);
    assert_ne!(first[0], second[0]);
    // The first one's connection is gone; a raw ROUTER drops this.
    reply(&broker, &first, b"echo", b"late");
    reply(&broker, &second, b"echo", b"second");
    let (outcome, answer) = asking.join().unwrap();
    assert_eq!(outcome, Some(ErrorKind::Timeout));
    assert_eq!(&answer.unwrap()[0], b"second");
}

#[test]
fn one_connection_serves_one_request_after_the_other() {
    let (broker, endpoint) = Raw::router();
    let asking = thread::spawn(move || {
        let client = patient(&endpoint);
        (client.request("echo", "1").is_ok(), client.request("echo", "2").is_ok())
    });
    let first = asked(&broker);
    reply(&broker, &first, b"echo", b"1");
    let second = asked(&broker);
    reply(&broker, &second, b"echo", b"2");
    assert_eq!(first[0], second[0]);
    assert_eq!(asking.join().unwrap(), (true, true));
}

#[test]
fn a_restarted_broker_is_found_again() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let endpoint = broker.endpoint().to_owned();
    let client = Client::with_options(v01(&endpoint).timeout(LONG).retries(10)).unwrap();
    let first = echo(&endpoint, "echo", 1);
    assert!(client.request("echo", "one").is_ok());
    first.join().unwrap();
    drop(broker);
    let _broker = Broker::start(&endpoint).unwrap();
    let second = echo(&endpoint, "echo", 1);
    assert!(client.request("echo", "two").is_ok());
    second.join().unwrap();
}

#[test]
fn a_lost_connection_sends_again_without_waiting_for_the_timeout() {
    let (broker, endpoint) = Raw::router();
    let address = endpoint.clone();
    let asking = thread::spawn(move || patient(&address).request("echo", "hello"));
    asked(&broker);
    drop(broker);
    // Timeouts are a minute long here: only the lost connection can have caused the second attempt.
    let broker = Broker::start_when_free(&endpoint);
    let echo = echo(&endpoint, "echo", 1);
    assert!(asking.join().unwrap().is_ok());
    echo.join().unwrap();
    drop(broker);
}

trait StartWhenFree {
    fn start_when_free(endpoint: &str) -> Broker;
}

impl StartWhenFree for Broker {
    /// A raw socket's address is freed some time after it is closed.
    fn start_when_free(endpoint: &str) -> Broker {
        loop {
            match Broker::start(endpoint) {
                Ok(broker) => return broker,
                Err(error) if error.kind() == ErrorKind::Internal => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn another_thread_waits_its_turn() {
    let (broker, endpoint) = Raw::router();
    let client = patient(&endpoint);
    thread::scope(|scope| {
        let first = scope.spawn(|| client.request("echo", "one"));
        let request = asked(&broker);
        assert!(client.is_busy());
        let second = scope.spawn(|| client.request("echo", "two"));
        reply(&broker, &request, b"echo", b"one");
        assert_eq!(&first.join().unwrap().unwrap()[0], b"one");
        let request = asked(&broker);
        assert_eq!(request[4], b"two");
        reply(&broker, &request, b"echo", b"two");
        assert_eq!(&second.join().unwrap().unwrap()[0], b"two");
    });
    assert!(!client.is_busy());
}

#[test]
fn closing_from_another_thread_ends_a_call_and_all_later_ones() {
    let (broker, endpoint) = Raw::router();
    let client = patient(&endpoint);
    thread::scope(|scope| {
        let asking = scope.spawn(|| client.request("echo", "hello"));
        asked(&broker);
        client.close();
        assert_eq!(kind(asking.join().unwrap()), Some(ErrorKind::Closed));
    });
    assert_eq!(kind(client.request("echo", "hello")), Some(ErrorKind::Closed));
    assert_eq!(kind(client.stream("echo", "hello")), Some(ErrorKind::Closed));
    client.close();
}

#[test]
fn the_caller_can_give_up_while_it_waits_and_use_the_client_again() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let client = patient(broker.endpoint());
    let mut asked = 0;
    let outcome = client.request_with("nobody", Message::new(), &RequestOptions::default(), &mut |wake| {
        assert_eq!(wake, Wake::Tick);
        asked += 1;
        if asked == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(kind(outcome), Some(ErrorKind::Cancelled));
    let echo = echo(broker.endpoint(), "echo", 1);
    assert!(client.request("echo", "hello").is_ok());
    echo.join().unwrap();
}

/// Makes SIGUSR1 interrupt what a thread waits in, and do nothing else.
fn notice_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler does nothing, which is allowed in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
}

#[test]
fn a_signal_in_the_waiting_thread_asks_the_caller_at_once() {
    notice_signals();
    let (broker, endpoint) = Raw::router();
    let (sender, receiver) = mpsc::channel();
    let asking = thread::spawn(move || {
        // SAFETY: no preconditions.
        sender.send(unsafe { libc::pthread_self() }).unwrap();
        patient(&endpoint).request_with("echo", Message::new(), &RequestOptions::default(), &mut |wake| match wake {
            Wake::Interrupted => ControlFlow::Break(()),
            Wake::Tick => ControlFlow::Continue(()),
        })
    });
    let waiting = receiver.recv().unwrap();
    asked(&broker);
    // One signal may arrive between two waits, where there is nothing to interrupt.
    while !asking.is_finished() {
        // SAFETY: the thread is not joined yet.
        unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) };
        thread::yield_now();
    }
    assert_eq!(kind(asking.join().unwrap()), Some(ErrorKind::Cancelled));
}

#[test]
fn a_request_that_asks_nobody_goes_on_after_signals() {
    notice_signals();
    let (broker, endpoint) = Raw::router();
    let (sender, receiver) = mpsc::channel();
    let asking = thread::spawn(move || {
        // SAFETY: no preconditions.
        sender.send(unsafe { libc::pthread_self() }).unwrap();
        patient(&endpoint).request("echo", "hi").unwrap()
    });
    let waiting = receiver.recv().unwrap();
    let request = asked(&broker);
    for _ in 0..1000 {
        // SAFETY: the thread is not joined yet.
        unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) };
        thread::yield_now();
    }
    assert!(!asking.is_finished());
    reply(&broker, &request, b"echo", b"answer");
    assert_eq!(asking.join().unwrap(), Message::from("answer"));
}

#[test]
fn a_stream_gives_its_parts_and_leaves_the_client_free() {
    let (broker, endpoint) = Raw::router();
    let client = Client::with_options(ClientOptions::new(&endpoint).timeout(LONG).protocol(Protocol::V02)).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut parts = client.stream("count", "go").unwrap();
            let first = parts.next().unwrap().unwrap();
            assert!(&first[0] == b"a" && !parts.is_final());
            // Another request in the middle of the stream.
            let whole = client.request("count", "go").unwrap();
            assert_eq!(whole.iter().collect::<Vec<_>>(), [b"x", b"y"]);
            let rest: Vec<_> = parts.by_ref().map(|part| part.unwrap()).collect();
            assert!(rest.len() == 2 && &rest[1][0] == b"c" && parts.is_final());
        });
        let stream = broker.recv();
        reply_02(&broker, &stream, 2, b"a");
        let whole = broker.recv();
        assert_ne!(stream[0], whole[0]);
        reply_02(&broker, &stream, 2, b"b");
        reply_02(&broker, &whole, 2, b"x");
        reply_02(&broker, &whole, 3, b"y");
        reply_02(&broker, &stream, 3, b"c");
        reading.join().unwrap();
    });
}

#[test]
fn a_dropped_stream_and_a_closed_client_end_the_request() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let worker = worker_02(broker.endpoint(), "count");
    let client =
        Client::with_options(ClientOptions::new(broker.endpoint()).timeout(LONG).protocol(Protocol::V02)).unwrap();
    let mut parts = client.stream("count", "go").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| parts.next().unwrap().unwrap());
        let request = worker.recv_work();
        worker.send(&[b"MDPW02", &[3], &request[2], b"", b"a"]);
        assert_eq!(&waiting.join().unwrap()[0], b"a");
    });
    drop(parts);
    // The broker learns of the closed connection and drops the request when its worker is done.
    let mut parts = client.stream("count", "again").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| parts.next());
        while broker.stats().unwrap().counters.accepted < 2 {
            thread::yield_now();
        }
        client.close();
        assert_eq!(waiting.join().unwrap().and_then(kind), Some(ErrorKind::Closed));
    });
    assert!(parts.next().is_none());
}

#[test]
fn a_handlers_failure_and_bad_arguments_are_typed() {
    let broker = Broker::start("tcp://127.0.0.1:0").unwrap();
    let worker = worker_01(broker.endpoint(), "fails");
    let serving = thread::spawn(move || {
        let request = worker.recv_work();
        answer_01(&worker, &request, &[b"MAJORDOMO-ERROR", b"404", b"no such thing"]);
        worker
    });
    let client =
        Client::with_options(ClientOptions::new(broker.endpoint()).timeout(LONG).max_message_bytes(1000)).unwrap();
    let error = client.request("fails", "hello").unwrap_err();
    assert_eq!(
        error.service_error().map(|failure| (failure.code, failure.text.as_str())),
        Some((404, "no such thing"))
    );
    assert_eq!(kind(client.request("", "hello")), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(client.request("a\0b", "hello")), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(client.request("fails", vec![0; 1001])), Some(ErrorKind::TooLarge));
    assert_eq!(kind(client.set_retries(0)), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(client.set_timeout(Duration::ZERO)), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(Client::connect("nonsense")), Some(ErrorKind::InvalidArgument));
    drop(serving.join().unwrap());
}
