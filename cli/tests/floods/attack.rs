//! Peers that do too much of something, over bare sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use majordomo::Message;
use majordomo::proto::mdpx::{self, Command};

/// What a hostile peer does too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// Requests, for a service that nobody serves.
    Messages,
    /// Requests of one session of MDPX, beyond its credit.
    Session,
    /// The same of many sessions, each within its credit.
    Sessions,
    /// Names of services.
    Services,
    /// Names of services in a session of MDPX.
    Names,
    /// Registrations of one worker that comes and goes.
    Ready,
    /// Workers of MDPX, each for a service of its own.
    Workers,
    /// Questions whose answers it never reads.
    Deaf,
    /// Requests of one session of MDPX, whose outcomes it does not read before it has asked them all.
    Unread,
    /// Messages of one byte.
    Bytes,
    /// Messages that say they have 1 GiB.
    Huge,
    /// Messages whose frames all say that more follow.
    Endless,
    /// Connections that say nothing, or half a greeting.
    HalfOpen,
}

#[allow(dead_code, reason = "the benchmark goes through them by name")]
pub(crate) const ALL: [Flood; 13] = [
    Flood::Messages,
    Flood::Session,
    Flood::Sessions,
    Flood::Services,
    Flood::Names,
    Flood::Ready,
    Flood::Workers,
    Flood::Deaf,
    Flood::Unread,
    Flood::Bytes,
    Flood::Huge,
    Flood::Endless,
    Flood::HalfOpen,
];

/// What was heard of the broker, and what must be held until the broker has been looked at.
#[derive(Default)]
pub(crate) struct Aftermath {
    /// Refusals in words, and how often.
    pub(crate) refusals: std::collections::BTreeMap<String, usize>,
    /// Connections that the broker ended.
    pub(crate) ended: usize,
    sockets: Vec<zmq::Socket>,
    connections: Vec<TcpStream>,
}

impl Flood {
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Does it `count` times. Whoever waits for the broker here waits no longer than `PATIENCE`.
    pub(crate) fn run(self, endpoint: &str, count: usize) -> Aftermath {
        let mut after = Aftermath::default();
        match self {
            Flood::Messages => {
                let socket = dealer(endpoint);
                for _ in 0..count {
                    send(&socket, &[b"", b"MDPC01", b"nobody-serves-this", &BODY]);
                }
                settle(&socket);
                after.sockets.push(socket);
            }
            Flood::Services => {
                let socket = dealer(endpoint);
                for number in 0..count {
                    send(&socket, &[b"", b"MDPC01", format!("nobody-serves-this-{number}").as_bytes(), &BODY]);
                }
                settle(&socket);
                after.sockets.push(socket);
            }
            Flood::Session => {
                let socket = dealer(endpoint);
                after.greet(&socket, 0);
                for number in 1..=count as u64 {
                    ask(&socket, number, number - 1, "nobody-serves-this");
                    after.hear(&socket, Duration::ZERO);
                }
                after.hear_all(&socket);
                after.sockets.push(socket);
            }
            Flood::Sessions => {
                for session in 0..count.div_ceil(OF_A_SESSION) {
                    let socket = dealer(endpoint);
                    after.greet(&socket, session);
                    for number in 1..=OF_A_SESSION as u64 {
                        ask(&socket, number, 0, "nobody-serves-this");
                        after.hear(&socket, Duration::ZERO);
                    }
                    after.sockets.push(socket);
                }
                for socket in std::mem::take(&mut after.sockets) {
                    after.hear(&socket, Duration::ZERO);
                    after.sockets.push(socket);
                }
            }
            Flood::Names => {
                let socket = dealer(endpoint);
                after.greet(&socket, 0);
                for number in 1..=count as u64 {
                    ask(&socket, number, number - 1, &format!("nobody-serves-this-{number}"));
                    after.hear(&socket, Duration::ZERO);
                }
                after.hear_all(&socket);
                after.sockets.push(socket);
            }
            Flood::Ready => {
                let socket = dealer(endpoint);
                for number in 0..count {
                    let frames: [&[u8]; 4] = [b"", b"MDPW01", b"\x01", b"mmi.mine"];
                    send(&socket, &if number % 2 == 0 { frames } else { [b"", b"MDPW01", b"\x01", b"ready-twice"] });
                    after.hear(&socket, Duration::ZERO);
                }
                after.hear_all(&socket);
                settle(&socket);
                after.sockets.push(socket);
            }
            Flood::Workers => {
                for number in 0..count {
                    let socket = dealer(endpoint);
                    let service = format!("mine-alone-{number}");
                    let service = service.as_bytes();
                    say(&socket, &Command::Ready { capacity: 1, heartbeat_ms: 60_000, liveness: 9, service });
                    after.sockets.push(socket);
                }
                for socket in std::mem::take(&mut after.sockets) {
                    after.hear(&socket, PATIENCE);
                    after.sockets.push(socket);
                }
            }
            Flood::Deaf => {
                let socket = deaf(endpoint);
                for _ in 0..count {
                    send(&socket, &[b"", b"MDPC01", b"mmi.stats", b"x"]);
                }
                after.sockets.push(socket);
            }
            Flood::Unread => {
                let socket = deaf(endpoint);
                hello(&socket, 0);
                for number in 1..=count as u64 {
                    ask(&socket, number, 0, "nobody-serves-this");
                }
                after.hear_all(&socket);
                after.sockets.push(socket);
            }
            Flood::Bytes => {
                let socket = dealer(endpoint);
                for _ in 0..count {
                    send(&socket, &[b"x"]);
                }
                settle(&socket);
                after.sockets.push(socket);
            }
            Flood::Huge => {
                for _ in 0..count {
                    let mut connection = handshaken(endpoint);
                    // A long frame of 1 GiB, of which some comes.
                    let mut frame = vec![2];
                    frame.extend_from_slice(&(1u64 << 30).to_be_bytes());
                    let _ = connection.write_all(&frame);
                    let _ = connection.write_all(&[0; 64 << 10]);
                    after.ended += usize::from(is_ended(&mut connection));
                    after.connections.push(connection);
                }
            }
            Flood::Endless => {
                for number in 0..count {
                    let mut connection = handshaken(endpoint);
                    // Short frames, of none to 36 bytes.
                    let size = number % 4 * 12;
                    let mut frame = vec![1, size as u8];
                    frame.resize(2 + size, b'x');
                    let frames = frame.repeat(1000);
                    // Enough to tell whether anybody ends it: written at once, what is on its way counts as well.
                    let mut left = (32 << 20) / frames.len();
                    while left > 0 && connection.write_all(&frames).is_ok() {
                        left -= 1;
                    }
                    let ended = is_ended(&mut connection);
                    after.ended += usize::from(ended);
                    after.connections.push(connection);
                    if !ended {
                        // More of them would cost the machine its memory.
                        break;
                    }
                }
            }
            Flood::HalfOpen => {
                for number in 0..count {
                    let mut connection = TcpStream::connect(address(endpoint)).expect("a connection");
                    let _ = connection.write_all(&GREETING[..number % 64]);
                    after.connections.push(connection);
                }
            }
        }
        after
    }
}

/// What is asked: large enough that an ordinary flood, kept whole, is beyond every limit.
const BODY: [u8; 1024] = [b'x'; 1024];

/// How many requests each of many sessions has.
const OF_A_SESSION: usize = 1000;

/// How long a hostile peer waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Aftermath {
    /// How many connections are held.
    pub(crate) fn connections(&self) -> usize {
        self.sockets.len() + self.connections.len()
    }

    /// Opens a session and waits for the broker's word.
    fn greet(&mut self, socket: &zmq::Socket, session: usize) {
        hello(socket, session);
        self.hear(socket, PATIENCE);
    }

    /// Takes note of the answers that come within this time; of one at least, where it is not zero.
    fn hear(&mut self, socket: &zmq::Socket, wait: Duration) {
        let mut wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        while socket.poll(zmq::POLLIN, wait).unwrap_or(0) > 0 {
            wait = 0;
            let frames = socket.recv_multipart(zmq::DONTWAIT).unwrap_or_default();
            let Some(header) = frames.first() else { continue };
            if mdpx::is_header(header) {
                mdpx::each_message(header, frames.len() - 1, |command| match command {
                    Command::Error { failure, .. } => self.refused(failure.text),
                    Command::Disconnect { text, .. } => self.refused(text),
                    _ => {}
                });
            } else if frames.get(2).is_some_and(|command| command[..] == [5]) {
                self.refused("DISCONNECT");
            }
        }
    }

    fn hear_all(&mut self, socket: &zmq::Socket) {
        self.hear(socket, PATIENCE);
        while socket.poll(zmq::POLLIN, 200).unwrap_or(0) > 0 {
            self.hear(socket, PATIENCE);
        }
    }

    fn refused(&mut self, text: &str) {
        *self.refusals.entry(text.to_owned()).or_default() += 1;
    }
}

fn dealer(endpoint: &str) -> zmq::Socket {
    let socket = socket();
    socket.set_linger(0).expect("an option");
    socket.set_sndtimeo(20_000).expect("an option");
    socket.connect(endpoint).expect("an endpoint");
    socket
}

/// A socket that takes in next to nothing of what it does not read.
fn deaf(endpoint: &str) -> zmq::Socket {
    let socket = socket();
    socket.set_linger(0).expect("an option");
    socket.set_rcvhwm(1).expect("an option");
    socket.set_rcvbuf(4096).expect("an option");
    socket.connect(endpoint).expect("an endpoint");
    socket
}

/// A socket; a context takes about a thousand.
fn socket() -> zmq::Socket {
    thread_local!(static CONTEXT: std::cell::RefCell<zmq::Context> = zmq::Context::new().into());
    CONTEXT.with_borrow_mut(|context| {
        context.socket(zmq::DEALER).unwrap_or_else(|_| {
            *context = zmq::Context::new();
            context.socket(zmq::DEALER).expect("a socket")
        })
    })
}

fn send(socket: &zmq::Socket, frames: &[&[u8]]) {
    // A broker that has cut the peer takes nothing more: that is an answer too.
    let _ = socket.send_multipart(frames, 0);
}

fn hello(socket: &zmq::Socket, session: usize) {
    let session = (session as u128 + 9).to_le_bytes();
    say(socket, &Command::Hello { session, secret: [1; 16], heartbeat_ms: 60_000, liveness: 9 });
}

/// A request in a session of MDPX.
fn ask(socket: &zmq::Socket, number: u64, acked: u64, service: &str) {
    let service = service.as_bytes();
    let ask = Command::Request { number, acked, ttl_ms: 0, max_attempts: 0, fail_fast: false, service };
    say_with(socket, &ask, &Message::from(&BODY[..]));
}

fn say(socket: &zmq::Socket, command: &Command<'_>) {
    say_with(socket, command, &Message::new());
}

fn say_with(socket: &zmq::Socket, command: &Command<'_>, body: &Message) {
    let frames: Vec<Bytes> = if body.is_empty() { mdpx::control(command) } else { mdpx::message(command, body) };
    let _ = socket.send_multipart(frames.iter().map(|frame| &frame[..]), 0);
}

/// Returns when the broker has read everything sent before.
fn settle(socket: &zmq::Socket) {
    send(socket, &[b"", b"MDPC01", b"mmi.settled", b"x"]);
    let ends = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < ends && socket.poll(zmq::POLLIN, 1000).unwrap_or(0) > 0 {
        let frames = socket.recv_multipart(zmq::DONTWAIT).unwrap_or_default();
        if frames.get(2).is_some_and(|service| service == b"mmi.settled") {
            return;
        }
    }
}

/// The greeting of ZMTP 3.0: NULL, no server.
const GREETING: [u8; 64] = {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12] = b'N';
    greeting[13] = b'U';
    greeting[14] = b'L';
    greeting[15] = b'L';
    greeting
};

fn address(endpoint: &str) -> &str {
    endpoint.strip_prefix("tcp://").unwrap_or(endpoint)
}

/// A connection whose handshake is done, as a DEALER's.
fn handshaken(endpoint: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address(endpoint)).expect("a connection");
    connection.set_read_timeout(Some(PATIENCE)).expect("an option");
    connection.set_write_timeout(Some(PATIENCE)).expect("an option");
    connection.write_all(&GREETING).expect("a greeting");
    connection.read_exact(&mut [0; 64]).expect("a greeting");
    let ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER";
    connection.write_all(&[4, ready.len() as u8]).expect("a handshake");
    connection.write_all(ready).expect("a handshake");
    let mut header = [0; 2];
    connection.read_exact(&mut header).expect("a handshake");
    connection.read_exact(&mut vec![0; usize::from(header[1])]).expect("a handshake");
    connection
}

/// Whether the other side has closed the connection.
fn is_ended(connection: &mut TcpStream) -> bool {
    let mut rest = [0; 1024];
    loop {
        match connection.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
