//! The socket of clients and workers.

use std::cell::{Ref, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

use super::context::Context;
use super::frame::{Frame, USUAL_FRAMES};
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

/// A connection to one broker. It cannot send before the connection stands, so readiness to write means connected.
///
/// libzmq's own way to this, ZMQ_IMMEDIATE, is not used: it throws away what a broken connection had received, the notice
/// that it broke among it.
pub(crate) struct Dealer {
    /// Tells when the connection stands; gone once it does. Closed before the socket that it watches.
    monitor: RefCell<Option<Monitor>>,
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
    /// `InvalidArgument` for an endpoint that cannot be one, `BrokerUnreachable` without free descriptors.
    pub(crate) fn connect(endpoint: &str, options: &DealerOptions) -> Result<Dealer> {
        let socket = Socket::new(zmq::DEALER, Context::shared()?)?;
        socket.set_int(zmq_sys::ZMQ_LINGER, milliseconds(options.linger))?;
        socket.set_int(zmq_sys::ZMQ_RECONNECT_IVL, milliseconds(options.reconnect_min).max(1))?;
        socket.set_int(zmq_sys::ZMQ_RECONNECT_IVL_MAX, milliseconds(options.reconnect_max))?;
        socket.set_max_message(options.max_message_bytes)?;
        // Without the draft API a lost connection shows only by its silence.
        socket.set_if_known(ZMQ_HICCUP_MSG, CONNECTION_LOST);
        // Within the process there is no handshake to wait for.
        let monitor = if endpoint.starts_with("inproc://") { None } else { Some(Monitor::watch(&socket)?) };
        let dealer = Dealer { monitor: RefCell::new(monitor), socket };
        dealer.socket.connect(endpoint)?;
        Ok(dealer)
    }

    /// Whether the connection stands, or has stood.
    fn is_connected(&self) -> Result<bool> {
        let mut slot = self.monitor.borrow_mut();
        let Some(monitor) = &*slot else { return Ok(true) };
        if !monitor.has_reported()? {
            return Ok(false);
        }
        monitor.stop(&self.socket);
        *slot = None;
        Ok(true)
    }

    /// Sends a message if the connection stands and has room; whether it was taken.
    pub(crate) fn try_send(&self, frames: &[Bytes]) -> Result<bool> {
        let Some(last) = frames.len().checked_sub(1) else {
            return Err(Error::new(ErrorKind::Internal, "a message without frames cannot be sent"));
        };
        if !self.is_connected()? {
            return Ok(false);
        }
        for (index, bytes) in frames.iter().enumerate() {
            let more = index < last;
            let outcome = if Frame::is_copied(bytes.len()) {
                self.socket.send_copy(bytes, more)?
            } else {
                self.socket.send(&mut Frame::from(bytes.clone()), more)?
            };
            // A refusal in the middle takes back the frames before it: libzmq gives up the message as a whole.
            if outcome != Outcome::Done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next message, if one is there.
    pub(crate) fn try_recv(&self) -> Result<Received> {
        let mut frame = Frame::empty();
        if self.socket.recv(&mut frame)? != Outcome::Done {
            return Ok(Received::Nothing);
        }
        let mut more = frame.more();
        let mut frames = Vec::with_capacity(if more { USUAL_FRAMES } else { 1 });
        frames.push(frame.take_bytes());
        while more {
            if self.socket.recv(&mut frame)? != Outcome::Done {
                return Ok(Received::Nothing);
            }
            more = frame.more();
            frames.push(frame.take_bytes());
        }
        if let [only] = &frames[..]
            && only == CONNECTION_LOST
        {
            // libzmq would connect again by itself and bring what is still unsent to whoever listens there by then, which
            // may be a broker of another protocol.
            self.socket.set_int(zmq_sys::ZMQ_LINGER, 0)?;
            return Ok(Received::Disconnected);
        }
        Ok(Received::Message(frames))
    }

    /// Whether a message, or the notice of a lost connection, is there. Where none is, the descriptor tells of the next.
    pub(crate) fn is_readable(&self) -> Result<bool> {
        Ok(self.socket.events()? & zmq_sys::ZMQ_POLLIN != 0)
    }

    /// Whether it is known without asking that the descriptor tells of the next message.
    pub(crate) fn is_drained(&self) -> bool {
        self.socket.is_drained()
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The socket that becomes readable when the connection stands, until then.
    pub(super) fn connecting(&self) -> Option<Ref<'_, Socket>> {
        Ref::filter_map(self.monitor.borrow(), |monitor| monitor.as_ref().map(|monitor| &monitor.reports)).ok()
    }
}

impl Drop for Dealer {
    fn drop(&mut self) {
        if let Some(monitor) = self.monitor.get_mut() {
            monitor.stop(&self.socket);
        }
    }
}

/// Reports the first handshake of a socket.
struct Monitor {
    reports: Socket,
}

impl Monitor {
    fn watch(socket: &Socket) -> Result<Monitor> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let address = format!("inproc://majordomo-monitor-{}", LAST.fetch_add(1, Ordering::Relaxed));
        socket.monitor(&address, zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED)?;
        let reports = Socket::new(zmq::PAIR, Context::shared()?).and_then(|reports| {
            reports.connect(&address)?;
            Ok(reports)
        });
        if reports.is_err() {
            socket.stop_monitor();
        }
        Ok(Monitor { reports: reports? })
    }

    fn has_reported(&self) -> Result<bool> {
        Ok(self.reports.recv(&mut Frame::empty())? == Outcome::Done)
    }

    /// Ends the reports. Were the receiving end closed first, the next report would block libzmq's I/O thread.
    fn stop(&self, watched: &Socket) {
        watched.stop_monitor();
    }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
