//! A peer that speaks ZMTP by hand, and may stop doing so anywhere.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::TOO_LONG_MS;

pub(crate) struct Bare(TcpStream);

/// The flags of a frame.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

impl Bare {
    /// Connects to `tcp://address` and shakes hands as a DEALER.
    pub(crate) fn connect(endpoint: &str) -> Bare {
        let address = endpoint.strip_prefix("tcp://").expect("a TCP endpoint");
        Bare::shake_hands(TcpStream::connect(address).expect("a connection"), "DEALER")
    }

    /// Takes one connection, as a ROUTER.
    pub(crate) fn accept(listener: &TcpListener) -> Bare {
        Bare::shake_hands(listener.accept().expect("a connection").0, "ROUTER")
    }

    fn shake_hands(stream: TcpStream, kind: &str) -> Bare {
        let too_long = Some(Duration::from_millis(TOO_LONG_MS.unsigned_abs().into()));
        stream.set_read_timeout(too_long).expect("an option");
        stream.set_write_timeout(too_long).expect("an option");
        stream.set_nodelay(true).expect("an option");
        let mut peer = Bare(stream);
        let mut greeting = [0; 64];
        (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
        greeting[12..16].copy_from_slice(b"NULL");
        peer.write(&greeting).expect("a greeting");
        peer.0.read_exact(&mut greeting).expect("a greeting");
        let mut ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06".to_vec();
        ready.extend_from_slice(kind.as_bytes());
        peer.write(&frame(COMMAND, &ready)).expect("a handshake");
        let (flags, body) = peer.read();
        assert_eq!((flags, &body[..6]), (COMMAND, &b"\x05READY"[..]));
        peer
    }

    /// The port that it has connected from.
    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    /// Sends bytes as they are. An error where the other side has closed the connection.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// The flags and the bytes of the next frame.
    pub(crate) fn read(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).expect("a frame");
        let mut size = usize::from(header[1]);
        if header[0] & LONG != 0 {
            let mut rest = [0; 7];
            self.0.read_exact(&mut rest).expect("a frame");
            size = rest.iter().fold(size, |size, byte| size << 8 | usize::from(*byte));
        }
        let mut body = vec![0; size];
        self.0.read_exact(&mut body).expect("a frame");
        (header[0] & !LONG, body)
    }

    /// Sends frames that each say that more follow, as often as `times`; how many went out before the other side
    /// closed the connection.
    pub(crate) fn never_end(&mut self, body: &[u8], times: usize) -> Option<usize> {
        const TOGETHER: usize = 1000;
        let frames = more(body).repeat(TOGETHER);
        (0..times).step_by(TOGETHER).find(|_| self.write(&frames).is_err() || self.has_ended())
    }

    /// Returns when the other side has read what came before, if it still listens.
    pub(crate) fn ping(&mut self) -> std::io::Result<()> {
        self.write(&frame(COMMAND, b"\x04PING\x00\x00"))?;
        let mut pong = [0; 7];
        self.0.read_exact(&mut pong)?;
        assert_eq!(pong, *b"\x04\x05\x04PONG");
        Ok(())
    }

    fn has_ended(&mut self) -> bool {
        self.0.set_nonblocking(true).expect("an option");
        let read = self.0.read(&mut [0]);
        self.0.set_nonblocking(false).expect("an option");
        read.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |bytes| bytes == 0)
    }
}

/// A frame that others follow.
pub(crate) fn more(body: &[u8]) -> Vec<u8> {
    frame(MORE, body)
}

/// The last frame of a message.
pub(crate) fn last(body: &[u8]) -> Vec<u8> {
    frame(0, body)
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(size) => vec![flags, size],
        Err(_) => [&[flags | LONG], &(body.len() as u64).to_be_bytes()[..]].concat(),
    };
    bytes.extend_from_slice(body);
    bytes
}
