//! The socket of clients and workers.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

use super::context::Context;
use super::frame::Frame;
use super::socket::{Outcome, Socket, ZMQ_HICCUP_MSG};

/// What libzmq puts into the stream of messages where a connection broke. Not a message of any protocol here; a peer
/// that sends it says of its own connection that it broke.
const CONNECTION_LOST: &[u8] = b"\0majordomo: connection lost";

/// How a [`Dealer`] behaves.
#[derive(Clone, Debug)]
pub(crate) struct DealerOptions {
    /// How long what was sent may take to go out after the socket is dropped. Dropping itself does not wait.
    pub(crate) linger: Duration,
    /// First pause before libzmq tries again to connect.
    pub(crate) reconnect_min: Duration,
    /// Longest such pause.
    pub(crate) reconnect_max: Duration,
    /// Largest frame accepted.
    pub(crate) max_message_bytes: usize,
}

/// A connection to one broker. It can send only while the connection stands, so readiness to write means connected.
pub(crate) struct Dealer {
    socket: Socket,
}

/// What a [`Dealer`] has received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing is there.
    Nothing,
    /// The connection broke: what was sent and not answered may be lost, and what is sent
    /// on this socket in the next moment may be as well: go on with a fresh one.
    Disconnected,
    /// A message.
    Message(Vec<Bytes>),
}

impl Dealer {
    /// Starts to connect; does not wait for it.
    ///
    /// # Errors
    /// `InvalidArgument` for an endpoint that cannot be one, `Internal` where no socket can be had.
    pub(crate) fn connect(endpoint: &str, options: &DealerOptions) -> Result<Dealer> {
        let socket = Socket::new(zmq::DEALER, Context::shared()?)?;
        socket.set_int(zmq_sys::ZMQ_IMMEDIATE, 1)?;
        socket.set_int(zmq_sys::ZMQ_LINGER, milliseconds(options.linger))?;
        socket.set_int(zmq_sys::ZMQ_RECONNECT_IVL, milliseconds(options.reconnect_min).max(1))?;
        socket.set_int(zmq_sys::ZMQ_RECONNECT_IVL_MAX, milliseconds(options.reconnect_max))?;
        socket.set_max_message(options.max_message_bytes)?;
        // Without the draft API a lost connection shows only by its silence.
        socket.set_if_known(ZMQ_HICCUP_MSG, CONNECTION_LOST);
        socket.connect(endpoint)?;
        Ok(Dealer { socket })
    }

    /// Sends a message if the connection stands and has room; whether it was taken.
    pub(crate) fn try_send(&self, frames: &[Bytes]) -> Result<bool> {
        let Some(last) = frames.len().checked_sub(1) else {
            return Err(Error::new(ErrorKind::Internal, "a message without frames cannot be sent"));
        };
        for (index, bytes) in frames.iter().enumerate() {
            // A refusal in the middle takes back the frames before it: libzmq gives up the message as a whole.
            if self.socket.send(&mut Frame::from(bytes.clone()), index < last)? != Outcome::Done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next message, if one is there.
    pub(crate) fn try_recv(&self) -> Result<Received> {
        let mut frames = Vec::new();
        loop {
            let mut frame = Frame::empty();
            if self.socket.recv(&mut frame)? != Outcome::Done {
                return Ok(Received::Nothing);
            }
            let more = frame.more();
            frames.push(frame.into_bytes());
            if !more {
                break;
            }
        }
        if let [only] = &frames[..]
            && only == CONNECTION_LOST
        {
            return Ok(Received::Disconnected);
        }
        Ok(Received::Message(frames))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
