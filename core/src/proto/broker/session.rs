//! A session of an MDPX client: what it has asked, and what it has not yet said to have heard.

use std::time::{Duration, Instant};

use crate::message::FRAME_COST;
use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdpx::SessionId;
use crate::proto::moment::earliest;
use crate::proto::window::Window;

use super::received::Said;
use super::request::{RequestId, cost};
use super::spare::Buffers;

/// Outcomes kept for one session may take this many bytes. The oldest go first.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// The broker's own number of a session; no other has had it.
pub(super) type SessionKey = u64;

#[derive(Debug)]
pub(super) struct Session<F> {
    pub(super) id: SessionId,
    pub(super) secret: [u8; 16],
    /// The connection; `None` while the client is away.
    pub(super) peer: Option<RoutingId>,
    /// Whether the client takes several messages in one over this connection.
    pub(super) takes_batches: bool,
    /// The interval at which the client wants to hear from us while it waits.
    pub(super) heartbeat: Duration,
    pub(super) liveness: u32,
    pub(super) last_sent: Instant,
    /// The highest number of a request so far. A lower one that is not in the table has had its outcome.
    pub(super) highest: u64,
    slots: Window<Slot<F>>,
    /// How many of the slots are open.
    pub(super) open: usize,
    kept_bytes: usize,
    /// No deadline of an open request is earlier than this.
    pub(super) next_deadline: Option<Instant>,
    /// When a client that is away is given up.
    pub(super) forget_at: Option<Instant>,
    /// When the session's timer will fire.
    pub(super) armed: Option<Instant>,
}

#[derive(Debug)]
enum Slot<F> {
    /// The request has no outcome yet.
    Open(RequestId),
    /// The outcome, until the client says that it has it.
    Kept(Kept<F>),
}

/// An outcome that is kept: in one allocation where it is small, and in a place no larger than another's.
#[derive(Debug)]
enum Kept<F> {
    Small(Vec<u8>),
    Frames(Box<Frames<F>>),
}

impl<F: Frame> Kept<F> {
    fn new(outcome: Said<F>) -> Kept<F> {
        match outcome {
            Said::Frames(frames) => Kept::Frames(Box::new(frames)),
            Said::Small(bytes) => Kept::Small(bytes),
        }
    }

    fn to_frames(&self) -> Frames<F> {
        match self {
            Kept::Frames(frames) => Frames::clone(frames),
            Kept::Small(bytes) => Said::Small(bytes.clone()).into_frames(),
        }
    }

    /// What it costs.
    fn bytes(&self) -> usize {
        match self {
            Kept::Frames(frames) => cost(frames),
            Kept::Small(bytes) => bytes.capacity() + FRAME_COST,
        }
    }
}

/// What the session knows of a number.
pub(super) enum Known<F> {
    /// It was never used.
    New,
    /// The request waits or runs.
    Open(RequestId),
    /// This was the outcome.
    Kept(Frames<F>),
    /// It has had its outcome, which is not kept any more.
    Gone,
}

impl<F: Frame> Session<F> {
    pub(super) fn new(id: SessionId, secret: [u8; 16], now: Instant) -> Self {
        Session {
            id,
            secret,
            peer: None,
            takes_batches: false,
            heartbeat: Duration::ZERO,
            liveness: 1,
            last_sent: now,
            highest: 0,
            slots: Window::default(),
            open: 0,
            kept_bytes: 0,
            next_deadline: None,
            forget_at: None,
            armed: None,
        }
    }

    pub(super) fn know(&self, number: u64) -> Known<F> {
        if number > self.highest {
            return Known::New;
        }
        match self.slots.get(number) {
            Some(Slot::Open(id)) => Known::Open(*id),
            Some(Slot::Kept(kept)) => Known::Kept(kept.to_frames()),
            None => Known::Gone,
        }
    }

    /// A request is taken in.
    pub(super) fn begin(&mut self, number: u64, id: RequestId) {
        // The number is higher than all before it.
        if self.slots.push(number, Slot::Open(id)).is_ok() {
            self.open += 1;
        }
    }

    /// The number's outcome is there, and is kept.
    pub(super) fn keep(&mut self, number: u64, outcome: Said<F>) {
        let kept = Kept::new(outcome);
        self.kept_bytes += kept.bytes();
        let kept = Slot::Kept(kept);
        match self.slots.get_mut(number) {
            Some(slot) => {
                if let Slot::Open(_) = std::mem::replace(slot, kept) {
                    self.open -= 1;
                }
            }
            // Refused or answered at once: it was never open.
            None => drop(self.slots.push(number, kept)),
        }
        if self.kept_bytes > MAX_KEPT_BYTES {
            self.shed();
        }
    }

    /// The number is over without an outcome: its request was given up.
    pub(super) fn end(&mut self, number: u64) {
        if let Some(Slot::Open(_)) = self.slots.get(number) {
            self.slots.remove(number);
            self.open -= 1;
        }
    }

    /// The client does not want this outcome.
    pub(super) fn discard(&mut self, number: u64) {
        if let Some(Slot::Kept(kept)) = self.slots.get(number) {
            self.kept_bytes -= kept.bytes();
            self.slots.remove(number);
        }
    }

    /// The client has all outcomes up to this number; their memory may serve again.
    pub(super) fn acknowledge(&mut self, number: u64, buffers: &mut Buffers) {
        // A request that is still open ends the look: a client that says it has that one's outcome is mistaken.
        while let Some((first, Slot::Kept(kept))) = self.slots.first()
            && first <= number
        {
            self.kept_bytes -= kept.bytes();
            if let Some(Slot::Kept(Kept::Small(buffer))) = self.slots.remove(first) {
                buffers.take_back(buffer);
            }
        }
    }

    /// The requests without an outcome, in the order of their numbers.
    pub(super) fn open_requests(&self) -> impl Iterator<Item = RequestId> {
        self.slots.iter().filter_map(|(_, slot)| match slot {
            Slot::Open(id) => Some(*id),
            Slot::Kept(_) => None,
        })
    }

    /// Whether there is nothing that the client could come back for.
    pub(super) fn is_settled(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// When the session next needs attention.
    pub(super) fn due(&self) -> Option<Instant> {
        let beat = (self.open > 0 && self.peer.is_some()).then(|| self.last_sent + self.heartbeat);
        let deadline = self.next_deadline.filter(|_| self.open > 0);
        earliest([beat, deadline, self.forget_at])
    }

    /// Forgets the oldest outcomes until the rest takes no more than this.
    pub(super) fn shed_to(&mut self, most: usize) {
        let is_kept = |slot: &Slot<F>| matches!(slot, Slot::Kept(..));
        let kept: Vec<u64> = self.slots.iter().filter(|(_, slot)| is_kept(slot)).map(|(number, _)| number).collect();
        for number in kept {
            if self.kept_bytes <= most {
                return;
            }
            self.discard(number);
        }
    }

    /// Forgets the oldest outcomes until the rest takes half of what it may.
    fn shed(&mut self) {
        let kept_bytes = &mut self.kept_bytes;
        self.slots.retain(|_, slot| match slot {
            Slot::Kept(kept) if *kept_bytes > MAX_KEPT_BYTES / 2 => {
                *kept_bytes -= kept.bytes();
                false
            }
            _ => true,
        });
    }
}
