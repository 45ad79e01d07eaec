//! The broker's socket: many peers, each with an outbox of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::error::Result;
use crate::message::FRAME_COST;
use crate::proto::{self, Frame as _, RoutingId};

use super::context::Context;
use super::frame::{Frame, USUAL_FRAMES};
use super::socket::{Outcome, Socket, ZMQ_DISCONNECT_MSG};

/// What libzmq delivers in a peer's name when its connection closes. Not a message of any protocol here; a peer that
/// sends it says of itself that it is gone.
const PEER_GONE: &[u8] = b"\0majordomo: peer gone";

/// So many times what is left for all may wait for one peer: eight ninths of it where nobody else is slow. The queues of
/// services are shared in the same way.
const SHARE: usize = 8;

/// So many messages of each peer may have been read and not been taken: of BATCHes 1.5 MiB. With fewer, a peer that is faster
/// than the broker stops and starts its connection so often that others wait for it.
const READ_AHEAD: i32 = 96;

type Frames = proto::Frames<Frame>;

/// A socket that many peers connect to. It never waits and never drops: what a slow peer does not take yet is kept in
/// order until it does.
pub(crate) struct Router {
    socket: Socket,
    endpoints: Vec<String>,
    max_message_bytes: usize,
    /// How many bytes may wait for all peers together. A peer that takes more than its share of it counts as lost.
    max_backlog_bytes: usize,
    outboxes: HashMap<RoutingId, Outbox>,
    /// Peers that lost messages and are still connected. They get nothing more: a conversation with a hole in it would
    /// pass for a whole one.
    cut: HashSet<RoutingId>,
    backlog: Backlog,
}

/// What is kept for slow peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Messages.
    pub(crate) messages: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct Outbox {
    messages: VecDeque<Frames>,
    bytes: usize,
}

/// What a [`Router`] has received.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Nothing is there.
    Nothing,
    /// A message without the routing id.
    Message { peer: Frame, frames: Frames },
    /// A message over the limit; it was dropped.
    TooLarge { peer: Frame },
    /// The peer's connection closed.
    Gone { peer: Frame },
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It is on its way, or waits in the peer's outbox.
    Accepted,
    /// There is no such peer, or it has stopped reading for so long that it counts as lost. These are the messages that
    /// did not go out, oldest first.
    Lost(Vec<Frames>),
}

impl Router {
    /// Listens on all of these endpoints. With a context of its own, which reaches every transport but `inproc`, dropping
    /// the router waits until what was sent has gone out, for a second at most.
    ///
    /// # Errors
    /// `InvalidArgument`, `Denied` or `Internal`, naming the endpoint.
    pub(crate) fn bind(endpoints: &[String], max_message_bytes: usize, max_backlog_bytes: usize) -> Result<Router> {
        let shared = endpoints.iter().any(|endpoint| endpoint.starts_with("inproc://"));
        let context = if shared { Context::shared()? } else { Context::private()? };
        let socket = Socket::new(zmq::ROUTER, context)?;
        socket.set_int(zmq_sys::ZMQ_ROUTER_MANDATORY, 1)?;
        // What was sent when the broker ends, DISCONNECT among it, has this long to go out.
        socket.set_int(zmq_sys::ZMQ_LINGER, 1000)?;
        socket.set_int(zmq_sys::ZMQ_BACKLOG, 1024)?;
        socket.set_max_message(max_message_bytes)?;
        // What libzmq reads of a peer before we do is in nobody's account. Beyond this the peer waits; nothing is dropped.
        socket.set_int(zmq_sys::ZMQ_RCVHWM, READ_AHEAD)?;
        // Without the draft API a closed connection shows at the next send, or by its silence.
        socket.set_if_known(ZMQ_DISCONNECT_MSG, PEER_GONE);
        let endpoints = endpoints.iter().map(|endpoint| socket.bind(endpoint)).collect::<Result<_>>()?;
        Ok(Router {
            socket,
            endpoints,
            max_message_bytes,
            max_backlog_bytes,
            outboxes: HashMap::new(),
            cut: HashSet::new(),
            backlog: Backlog::default(),
        })
    }

    /// What it listens on, with ports filled in.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Whether a further message is known to be there, without a look for it. Where none is, the descriptor tells of the next.
    pub(crate) fn knows_more(&self) -> Result<bool> {
        Ok(self.socket.known_events()? & zmq_sys::ZMQ_POLLIN != 0)
    }

    /// The next message, if one is there.
    pub(crate) fn try_recv(&self) -> Result<Incoming> {
        let mut peer = Frame::empty();
        if self.socket.recv(&mut peer)? != Outcome::Done {
            return Ok(Incoming::Nothing);
        }
        let mut frames = Frames::new();
        let mut cost = 0usize;
        let mut more = peer.more();
        while more {
            let mut frame = Frame::empty();
            if self.socket.recv(&mut frame)? != Outcome::Done {
                break;
            }
            more = frame.more();
            cost = cost.saturating_add(frame.len() + FRAME_COST);
            if more && frames.is_empty() {
                frames.reserve_exact(USUAL_FRAMES);
            }
            if self.is_within_limit(cost) {
                frames.push(frame);
            } else {
                frames.clear();
            }
        }
        Ok(match &frames[..] {
            _ if !self.is_within_limit(cost) => Incoming::TooLarge { peer },
            [only] if only.as_ref() == PEER_GONE => Incoming::Gone { peer },
            _ => Incoming::Message { peer, frames },
        })
    }

    fn is_within_limit(&self, cost: usize) -> bool {
        // A message of usual shape may use all of its bytes for its body.
        cost <= self.max_message_bytes.saturating_add(64 << 10)
    }

    /// Sends a message to a peer, behind what waits for it already.
    pub(crate) fn send(&mut self, to: &RoutingId, frames: impl Into<Frames>) -> Result<Sent> {
        let frames = frames.into();
        // Both are empty as long as everybody reads.
        if !self.cut.is_empty() && self.cut.contains(to) {
            return Ok(Sent::Lost(vec![frames]));
        }
        if !self.outboxes.is_empty()
            && let Some(outbox) = self.outboxes.get_mut(to)
        {
            let bytes = size(&frames);
            outbox.push(&mut self.backlog, frames, bytes);
            return Ok(self.cut_greedy(to));
        }
        match send(&self.socket, to, frames)? {
            Attempt::Taken => Ok(Sent::Accepted),
            Attempt::NoSuchPeer(frames) => Ok(Sent::Lost(vec![frames])),
            Attempt::Full(frames) => {
                let bytes = size(&frames);
                self.outboxes.entry(to.clone()).or_default().push(&mut self.backlog, frames, bytes);
                Ok(self.cut_greedy(to))
            }
        }
    }

    /// Gives a peer up that lets more wait than its share: so many times what is left for all others.
    fn cut_greedy(&mut self, to: &RoutingId) -> Sent {
        let waits = self.outboxes.get(to).map_or(0, |outbox| outbox.bytes);
        let left = self.max_backlog_bytes.saturating_sub(self.backlog.bytes);
        if waits <= left.saturating_mul(SHARE) {
            return Sent::Accepted;
        }
        log::warn!("a peer that has left {waits} bytes unread gets nothing more");
        let lost = self.forget(to);
        self.cut.insert(to.clone());
        Sent::Lost(lost)
    }

    /// Tries again what waits for slow peers; the peers that are gone, with the messages that did not go out.
    pub(crate) fn flush(&mut self) -> Result<Vec<(RoutingId, Vec<Frames>)>> {
        let mut gone = Vec::new();
        for (peer, outbox) in &mut self.outboxes {
            while let Some(frames) = outbox.pop(&mut self.backlog) {
                match send(&self.socket, peer, frames)? {
                    Attempt::Taken => {}
                    Attempt::Full(frames) => {
                        outbox.push_front(&mut self.backlog, frames);
                        break;
                    }
                    Attempt::NoSuchPeer(frames) => {
                        outbox.push_front(&mut self.backlog, frames);
                        gone.push(peer.clone());
                        break;
                    }
                }
            }
        }
        self.outboxes.retain(|_, outbox| !outbox.messages.is_empty());
        let forgotten = gone.into_iter().map(|peer| {
            let lost = self.forget(&peer);
            (peer, lost)
        });
        Ok(forgotten.collect())
    }

    /// Drops what waits for a peer that is gone, and gives it back, oldest first.
    pub(crate) fn forget(&mut self, peer: &[u8]) -> Vec<Frames> {
        self.cut.remove(peer);
        let Some(outbox) = self.outboxes.remove(peer) else { return Vec::new() };
        self.backlog.messages -= outbox.messages.len();
        self.backlog.bytes -= outbox.bytes;
        outbox.messages.into()
    }

    /// What is kept for slow peers.
    pub(crate) fn backlog(&self) -> Backlog {
        self.backlog
    }

    /// How soon [`Router::flush`] should be called again. libzmq does not tell when a single peer has room.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        (!self.outboxes.is_empty()).then_some(Duration::from_millis(2))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Outbox {
    fn push(&mut self, backlog: &mut Backlog, mut frames: Frames, bytes: usize) {
        frames.iter_mut().for_each(Frame::compact);
        self.messages.push_back(frames);
        self.account(backlog, bytes);
    }

    fn push_front(&mut self, backlog: &mut Backlog, frames: Frames) {
        let bytes = size(&frames);
        self.messages.push_front(frames);
        self.account(backlog, bytes);
    }

    fn account(&mut self, backlog: &mut Backlog, bytes: usize) {
        self.bytes += bytes;
        backlog.messages += 1;
        backlog.bytes += bytes;
    }

    fn pop(&mut self, backlog: &mut Backlog) -> Option<Frames> {
        let frames = self.messages.pop_front()?;
        let bytes = size(&frames);
        self.bytes -= bytes;
        backlog.messages -= 1;
        backlog.bytes -= bytes;
        Some(frames)
    }
}

fn size(frames: &[Frame]) -> usize {
    frames.iter().map(|frame| frame.as_ref().len() + FRAME_COST).sum()
}

enum Attempt {
    Taken,
    Full(Frames),
    NoSuchPeer(Frames),
}

fn send(socket: &Socket, to: &[u8], mut frames: Frames) -> Result<Attempt> {
    let Some(last) = frames.len().checked_sub(1) else { return Ok(Attempt::Taken) };
    match socket.send_copy(to, true)? {
        Outcome::Done => {}
        Outcome::WouldBlock => return Ok(Attempt::Full(frames)),
        Outcome::Unreachable => return Ok(Attempt::NoSuchPeer(frames)),
    }
    // Once the routing id is taken, so is the rest; should the peer vanish meanwhile, its notice follows.
    for (index, frame) in frames.iter_mut().enumerate() {
        socket.send(frame, index < last)?;
    }
    Ok(Attempt::Taken)
}
