use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::proto::mdp::always_there;
use crate::proto::{Frame as _, RoutingId};

use super::socket::{Socket, os_error};
use super::*;

const LONG: Option<Duration> = Some(Duration::from_secs(30));

fn options() -> DealerOptions {
    DealerOptions {
        linger: Duration::ZERO,
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(100),
        max_message_bytes: 256 << 20,
    }
}

fn router() -> (Router, String) {
    router_with(256 << 20, 1 << 30)
}

fn router_with(max_message_bytes: usize, max_outbox_bytes: usize) -> (Router, String) {
    let router = Router::bind(&["tcp://127.0.0.1:0".to_owned()], max_message_bytes, max_outbox_bytes).unwrap();
    let endpoint = router.endpoints()[0].clone();
    (router, endpoint)
}

fn frames(parts: &[&[u8]]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
}

fn id(peer: &Frame) -> RoutingId {
    peer.as_ref().into()
}

/// Sends once the connection stands.
fn send(dealer: &Dealer, message: &[Bytes]) {
    while !dealer.try_send(message).unwrap() {
        let woken = Poller::default().poll(&[Interest::dealer(dealer, true)], LONG).unwrap();
        assert_ne!(woken, Woken::Timeout, "no connection");
    }
}

/// The next thing a dealer receives.
fn recv(dealer: &Dealer) -> Received {
    loop {
        match dealer.try_recv().unwrap() {
            Received::Nothing => {
                let woken = Poller::default().poll(&[Interest::dealer(dealer, false)], LONG).unwrap();
                assert_ne!(woken, Woken::Timeout, "nothing came");
            }
            received => return received,
        }
    }
}

/// The next thing a router receives.
fn incoming(router: &Router) -> Incoming {
    loop {
        match router.try_recv().unwrap() {
            Incoming::Nothing => {
                let woken = Poller::default().poll(&[Interest::router(router)], LONG).unwrap();
                assert_ne!(woken, Woken::Timeout, "nothing came");
            }
            received => return received,
        }
    }
}

fn message(router: &Router) -> (RoutingId, Vec<Frame>) {
    match incoming(router) {
        Incoming::Message { peer, frames } => (id(&peer), frames.into_vec()),
        other => panic!("no message but {other:?}"),
    }
}

#[test]
fn frames_of_every_size_arrive_as_they_were_sent() {
    let (mut router, endpoint) = router();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    let sizes = [0, 1, 29, 33, 34, 512, 513, 4096, 8191, 8192, 8193, 100_000, 5 << 20];
    let sent: Vec<Bytes> = sizes.iter().map(|&size| Bytes::from(vec![size as u8; size])).collect();
    send(&dealer, &sent);
    let (peer, received) = message(&router);
    assert!(received.iter().zip(&sent).all(|(a, b)| a.as_ref() == &b[..]));
    assert_eq!(received.len(), sent.len());
    // Copies share their bytes and outlive the original.
    let copies = received.clone();
    assert_eq!(copies.last().map(|copy| copy.as_ref().as_ptr()), received.last().map(|frame| frame.as_ref().as_ptr()));
    drop(received);
    assert!(matches!(router.send(&peer, copies).unwrap(), Sent::Accepted));
    assert_eq!(recv(&dealer), Received::Message(sent));
}

#[test]
fn headers_and_commands_take_no_memory_where_they_arrive() {
    let (mut router, endpoint) = router();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    let sent: [&[u8]; 6] = [b"", b"MDPW01", b"\x02", b"address", b"", b"MDPC03"];
    send(&dealer, &frames(&sent));
    let (peer, received) = message(&router);
    assert!(matches!(router.send(&peer, received).unwrap(), Sent::Accepted));
    let Received::Message(received) = recv(&dealer) else { panic!("no message") };
    assert_eq!(received, frames(&sent));
    let there = received.iter().map(|frame| always_there(frame).map(<[u8]>::as_ptr) == Some(frame.as_ptr()));
    assert_eq!(there.collect::<Vec<_>>()[1..4], [true, true, false]);
}

#[test]
fn a_dealer_cannot_send_before_its_connection_stands() {
    // A listener that never accepts would still complete the connection; a closed port does not.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dealer = Dealer::connect(&format!("tcp://127.0.0.1:{port}"), &options()).unwrap();
    assert!(!dealer.try_send(&frames(&[b"hello"])).unwrap());
}

#[test]
fn what_was_received_before_a_connection_broke_is_kept_and_the_break_is_reported() {
    for round in 0..50u32 {
        let (mut broker, endpoint) = router();
        let dealer = Dealer::connect(&endpoint, &options()).unwrap();
        send(&dealer, &frames(&[b"hello"]));
        let (peer, _) = message(&broker);
        let waiting = thread::spawn(move || (recv(&dealer), recv(&dealer)));
        let words = round.to_be_bytes();
        assert!(matches!(broker.send(&peer, vec![Frame::copy_from(&words)]).unwrap(), Sent::Accepted));
        drop(broker);
        assert_eq!(waiting.join().unwrap(), (Received::Message(frames(&[&words])), Received::Disconnected));
    }
}

#[test]
fn what_was_sent_on_a_broken_connection_reaches_nobody_else() {
    for _ in 0..5 {
        let (broker, endpoint) = router();
        // libzmq closes in the background: a thread of it that is held up for so long might connect before it hears of it.
        let pause = Duration::from_millis(200);
        let linger = Duration::from_secs(60);
        let patient = DealerOptions { linger, reconnect_min: pause, reconnect_max: pause, ..options() };
        let dealer = Dealer::connect(&endpoint, &patient).unwrap();
        send(&dealer, &frames(&[b"hello"]));
        drop(broker);
        while !matches!(recv(&dealer), Received::Disconnected) {}
        send(&dealer, &frames(&[b"for the old broker"]));
        drop(dealer);
        let broker = loop {
            // The old one's port is free as soon as libzmq has closed it.
            if let Ok(broker) = Router::bind(std::slice::from_ref(&endpoint), 1 << 20, 1 << 20) {
                break broker;
            }
        };
        // A connection that lived on is made again after one to two pauses.
        let begin = Instant::now();
        while begin.elapsed() < pause * 3 {
            let other = Dealer::connect(&endpoint, &options()).unwrap();
            send(&other, &frames(&[b"for the new broker"]));
            let first = loop {
                if let Incoming::Message { frames, .. } = incoming(&broker) {
                    break frames;
                }
            };
            assert_eq!(first[0].as_ref(), b"for the new broker");
        }
    }
}

#[test]
fn a_closed_connection_is_reported_on_both_sides() {
    let (mut broker, endpoint) = router();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    send(&dealer, &frames(&[b"hello"]));
    let (peer, _) = message(&broker);
    drop(dealer);
    match incoming(&broker) {
        Incoming::Gone { peer: gone } => assert_eq!(id(&gone), peer),
        other => panic!("{other:?}"),
    }
    // libzmq may swallow what is sent in the very moment of the end; the notice has come by then.
    while let Sent::Accepted = broker.send(&peer, vec![Frame::copy_from(b"late")]).unwrap() {
        thread::yield_now();
    }

    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    send(&dealer, &frames(&[b"hello"]));
    let (peer, _) = message(&broker);
    assert!(matches!(broker.send(&peer, vec![Frame::copy_from(b"last words")]).unwrap(), Sent::Accepted));
    drop(broker);
    assert_eq!(recv(&dealer), Received::Message(frames(&[b"last words"])));
    assert_eq!(recv(&dealer), Received::Disconnected);
}

#[test]
fn a_burst_of_replies_to_a_slow_reader_loses_nothing() {
    const REPLIES: u32 = 100_000;
    let (mut router, endpoint) = router();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    send(&dealer, &frames(&[b"go"]));
    let (peer, _) = message(&router);
    for number in 0..REPLIES {
        let mut body = vec![0; 1024];
        body[..4].copy_from_slice(&number.to_be_bytes());
        match router.send(&peer, vec![Frame::from(Bytes::from(body))]).unwrap() {
            Sent::Accepted => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(router.backlog().messages > 0, "the reader was not slow");
    let reader = thread::spawn(move || {
        for number in 0..REPLIES {
            match recv(&dealer) {
                Received::Message(frames) => assert_eq!(frames[0][..4], number.to_be_bytes()),
                other => panic!("{other:?}"),
            }
        }
    });
    while let Some(pause) = router.retry_after() {
        assert!(router.flush().unwrap().is_empty());
        Poller::default().poll(&[Interest::router(&router)], Some(pause)).unwrap();
    }
    assert_eq!(router.backlog(), Default::default());
    reader.join().unwrap();
}

#[test]
fn a_router_that_takes_nothing_makes_its_peer_wait_and_loses_nothing() {
    let (router, endpoint) = router();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    let body = Bytes::from(vec![b'x'; 64 << 10]);
    let numbered = |number: usize| vec![Bytes::copy_from_slice(&number.to_be_bytes()), body.clone()];
    send(&dealer, &numbered(0));
    let mut sent = 1;
    // What the dealer keeps, a thousand messages, and what the kernel does are not the router's.
    while sent < 3000 {
        if dealer.try_send(&numbered(sent)).unwrap() {
            sent += 1;
            continue;
        }
        // Nothing tells that there will be no room: long enough to have read all, were it to be read.
        let woken = Poller::default().poll(&[Interest::dealer(&dealer, true)], Some(Duration::from_millis(500)));
        if woken.unwrap() == Woken::Timeout {
            break;
        }
    }
    assert!(sent < 1700, "{sent} messages went out though nobody took one");
    for number in 0..sent {
        assert_eq!(message(&router).1[0].as_ref(), number.to_be_bytes());
    }
}

#[test]
fn a_peer_that_stops_reading_is_lost_when_its_outbox_is_over_the_limit() {
    let (mut router, endpoint) = router_with(1 << 20, 1 << 20);
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    send(&dealer, &frames(&[b"go"]));
    let (peer, _) = message(&router);
    let body = Bytes::from(vec![0; 64 << 10]);
    let lost = (0..100_000).find_map(|_| match router.send(&peer, vec![Frame::from(body.clone())]).unwrap() {
        Sent::Accepted => None,
        Sent::Lost(lost) => Some(lost),
    });
    assert_eq!(lost.map(|lost| lost.len()), Some(15), "eight ninths of what may wait for all");
    assert_eq!(router.backlog(), Default::default());
    // It is still connected, but a conversation with a hole in it does not go on.
    assert!(matches!(router.send(&peer, vec![Frame::from(body)]).unwrap(), Sent::Lost(_)));
}

#[test]
fn peers_that_stop_reading_leave_room_for_others_and_never_exceed_what_may_wait() {
    let limit = 1 << 20;
    let (mut router, endpoint) = router_with(1 << 20, limit);
    let dealers: Vec<Dealer> = (0..5).map(|_| Dealer::connect(&endpoint, &options()).unwrap()).collect();
    let body = Bytes::from(vec![0; 16 << 10]);
    for dealer in &dealers {
        send(dealer, &frames(&[b"go"]));
        let (peer, _) = message(&router);
        let before = router.backlog().bytes;
        // Each lets as much wait as it may, less than would have it cut.
        let share = (limit - before) / 2;
        while router.backlog().bytes < before + share {
            assert!(matches!(router.send(&peer, vec![Frame::from(body.clone())]).unwrap(), Sent::Accepted));
        }
        assert!(router.backlog().bytes < limit);
    }
}

#[test]
fn an_address_is_free_again_once_its_router_is_dropped() {
    let (first, endpoint) = router();
    for _ in 0..20 {
        let dealer = Dealer::connect(&endpoint, &options()).unwrap();
        send(&dealer, &frames(&[b"hello"]));
    }
    drop(first);
    assert!(Router::bind(&[endpoint], 1 << 20, 1 << 20).is_ok());
}

#[test]
fn a_message_over_the_limit_is_dropped_and_reported() {
    let (router, endpoint) = router_with(1 << 20, 1 << 30);
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    // More than twice the limit would end the connection, as a single frame over it does: libzmq keeps no more of a message.
    send(&dealer, &vec![Bytes::new(); 20_000]);
    assert!(matches!(incoming(&router), Incoming::TooLarge { .. }));
    send(&dealer, &frames(&[b"fine"]));
    assert_eq!(message(&router).1.len(), 1);
    // A single frame over the limit never gets as far: libzmq ends the connection.
    send(&dealer, &[Bytes::from(vec![0; 2 << 20])]);
    assert!(matches!(incoming(&router), Incoming::Gone { .. }));
}

#[test]
fn a_waker_wakes_once_however_often_it_is_called() {
    let waker = Waker::new().unwrap();
    let mut poller = Poller::default();
    for _ in 0..3 {
        assert_eq!(poller.poll(&[Interest::waker(&waker)], Some(Duration::ZERO)).unwrap(), Woken::Timeout);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| waker.wake()));
            }
        });
        assert_eq!(poller.poll(&[Interest::waker(&waker)], LONG).unwrap(), Woken::Ready(1));
        assert!(poller.readiness(0).readable);
        waker.clear();
    }
}

#[test]
fn a_thread_that_does_not_sleep_is_woken_without_the_operating_system() {
    let waker = Waker::new().unwrap();
    let is_shown = || {
        let mut poll = libc::pollfd { fd: waker.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    };
    let mut poller = Poller::default();
    for _ in 0..3 {
        waker.wake();
        assert!(!is_shown(), "nobody sleeps");
        assert_eq!(poller.poll(&[Interest::waker(&waker)], LONG).unwrap(), Woken::Ready(1));
        waker.clear();
        let asleep = waker.fall_asleep().unwrap();
        waker.wake();
        drop(asleep);
        assert!(is_shown() && waker.fall_asleep().is_none(), "somebody sleeps");
        waker.clear();
        assert!(!is_shown());
    }
}

#[test]
fn endpoints_that_cannot_be_are_typed_errors() {
    let (_router, taken) = router();
    for (endpoint, kind) in [
        ("tcp://127.0.0.1", ErrorKind::InvalidArgument),
        ("nonsense", ErrorKind::InvalidArgument),
        ("what://ever", ErrorKind::InvalidArgument),
        ("tcp://127.0.0.1:1\0", ErrorKind::InvalidArgument),
        (&taken, ErrorKind::Internal),
    ] {
        let result = Router::bind(&[endpoint.to_owned()], 1 << 20, 1 << 20);
        assert_eq!(result.err().map(|error| error.kind()), Some(kind), "{endpoint:?}");
    }
    assert_eq!(Dealer::connect("", &options()).err().map(|error| error.kind()), Some(ErrorKind::InvalidArgument));
}

#[test]
fn an_unknown_errno_is_an_ordinary_error() {
    for errno in [0, -1, 9999, i32::MAX, i32::MIN, 156_384_712 + 51, 156_384_712 + 99] {
        assert_eq!(os_error("cannot", errno).kind(), ErrorKind::Internal);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn descriptors_are_not_inherited_and_connections_are_kept_alive() {
    use std::os::fd::RawFd;

    let (router, endpoint) = router();
    let port: u16 = endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    let _waker = Waker::new().unwrap();
    send(&dealer, &frames(&[b"hello"]));
    message(&router);

    let mut connections = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let fd: RawFd = entry.file_name().to_string_lossy().parse().unwrap();
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if !["socket:", "anon_inode:[event"].iter().any(|kind| target.starts_with(kind)) {
            continue;
        }
        // SAFETY: a descriptor may be closed by another test meanwhile; then the call fails, which is looked at.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert!(flags == -1 || flags & libc::FD_CLOEXEC != 0, "{target} would be inherited");
        if tcp_ports(fd).is_some_and(|(local, remote)| remote != 0 && (local == port || remote == port)) {
            connections += 1;
            assert_eq!(option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 30);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 10);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT), 3);
        }
    }
    assert_eq!(connections, 2, "both ends of the connection are in this process");
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_never_says_what_it_is_ends_and_gives_its_descriptor_back() {
    use std::io::Read;
    use std::net::TcpStream;

    let (router, endpoint) = router();
    let dealer = Dealer::connect(&endpoint, &options()).unwrap();
    for socket in [router.socket(), dealer.socket()] {
        assert_eq!(socket.get_int(zmq_sys::ZMQ_HANDSHAKE_IVL, "handshake").unwrap(), 10_000);
    }

    // A socket like theirs, with less patience.
    let hasty = Socket::new(zmq::ROUTER, Context::shared().unwrap()).unwrap();
    hasty.set_int(zmq_sys::ZMQ_HANDSHAKE_IVL, 100).unwrap();
    let endpoint = hasty.bind("tcp://127.0.0.1:0").unwrap();
    let port: u16 = endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    let accepted = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let numbers = descriptors.map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap());
        numbers.filter_map(tcp_ports).filter(|ports| ports.0 == port).count()
    };
    let silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap()).collect();
    for mut stream in silent {
        stream.set_read_timeout(LONG).unwrap();
        // The socket's own greeting, and then the end.
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!(accepted(), 0);
}

/// Local and remote port of an IPv4 socket.
#[cfg(target_os = "linux")]
fn tcp_ports(fd: i32) -> Option<(u16, u16)> {
    let port = |remote: bool| {
        // SAFETY: all zero is a valid address, and its true length is passed along.
        unsafe {
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            let mut length = size_of_val(&address) as libc::socklen_t;
            let pointer = (&raw mut address).cast();
            let result = if remote {
                libc::getpeername(fd, pointer, &mut length)
            } else {
                libc::getsockname(fd, pointer, &mut length)
            };
            (result == 0 && i32::from(address.sin_family) == libc::AF_INET).then(|| u16::from_be(address.sin_port))
        }
    };
    Some((port(false)?, port(true)?))
}

#[cfg(target_os = "linux")]
fn option(fd: i32, level: i32, name: i32) -> i32 {
    let mut value = 0i32;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value has the length that is passed along.
    unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut length) };
    value
}

#[test]
fn the_library_says_what_it_has_and_what_is_missing() {
    let library = libzmq();
    assert!(library.version >= (4, 3, 4));
    for (has, capability) in
        [(library.curve, Capability::Curve), (library.disconnect_notice, Capability::DisconnectNotice)]
    {
        assert_eq!(library.require(capability).is_ok(), has);
    }
    let bare = Libzmq { curve: false, disconnect_notice: false, ..library };
    assert!(bare.require(Capability::Curve).is_err_and(|error| error.to_string().contains("CURVE")));
}
