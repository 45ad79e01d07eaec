//! The frames of MDPX/1, described in `docs/mdpx.md`: many requests at once, one outcome each.
//!
//! A message is one header frame and the body's frames behind it. A small body is packed into the header frame, because
//! frames are what costs on the way. Numbers are big-endian.

mod batch;
mod body;
mod read;
mod write;

use std::ops::Range;

pub(crate) use batch::Gathered;
#[cfg(test)]
pub(crate) use batch::each_alone;
pub use batch::{BATCH_HEADER, MAX_BATCH, MAX_TOGETHER, begin_batch, each_message, may_join};
pub use body::{Layout, unpack};
pub(crate) use read::is_batch;
pub use read::{Header, is_header, read};
pub use write::{control, is_packable, message, pack, pack_again, packed_len, readdress, write};

/// What every header frame starts with.
pub const MAGIC: &[u8; 6] = b"MDPX01";
/// A header frame takes at most so many bytes, a packed body included.
pub const MAX_HEADER: usize = 64 << 10;
/// A body of at most so many bytes, lengths included, is packed.
pub const PACK_LIMIT: usize = 4 << 10;
/// Properties and a packed body take at most so many bytes together, so that they fit behind the fields of every command:
/// a request that may be sent can also be delivered.
pub const MAX_INLINE: usize = 60 << 10;
/// The text of an error or of a DISCONNECT is cut to so many bytes.
pub const MAX_TEXT: usize = 16 << 10;

const PACKED: u8 = 1;
const PROPERTIES: u8 = 1 << 1;
const RETRYABLE: u8 = 1 << 2;
const FAIL_FAST: u8 = 1 << 3;
const RESUMED: u8 = 1 << 4;

/// Position of the number in every command that has one.
const NUMBER: Range<usize> = 8..16;

/// Names a client's session.
pub type SessionId = [u8; 16];

/// What a header frame says. The client's and the worker's commands share one number space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Client to broker: opens a session, or goes on with one over a new connection.
    Hello {
        /// The session; workers see it.
        session: SessionId,
        /// Proves that the session is the client's; only the broker sees it.
        secret: [u8; 16],
        /// The interval between heartbeats that the client wants, in milliseconds.
        heartbeat_ms: u32,
        /// How many such intervals of silence the client bears.
        liveness: u8,
    },
    /// Broker to client: the answer to HELLO.
    ClientWelcome {
        /// Whether the broker still knew the session.
        resumed: bool,
        /// Interval between heartbeats in milliseconds.
        heartbeat_ms: u32,
        /// How many such intervals of silence mean that the broker is gone.
        liveness: u8,
        /// How many requests may be outstanding.
        credit: u32,
        /// Largest message in bytes.
        max_message: u64,
    },
    /// Client to broker: asks a service.
    Request {
        /// The request's number, rising within the session.
        number: u64,
        /// All outcomes up to this number have arrived.
        acked: u64,
        /// Time to live in milliseconds; 0 for none.
        ttl_ms: u32,
        /// How often the request is handed out at most; 0 for the broker's default.
        max_attempts: u16,
        /// Whether the request fails at once where the service has no worker.
        fail_fast: bool,
        /// The service's name.
        service: &'a [u8],
    },
    /// Client to broker: gives a request up. No outcome follows.
    Cancel {
        /// The request's number.
        number: u64,
    },
    /// Client to broker: all outcomes up to this request have arrived.
    Ack {
        /// The request's number.
        number: u64,
    },
    /// Broker to client: a part of the reply; more follow.
    Partial {
        /// The request's number.
        number: u64,
        /// The part's number, from 0.
        sequence: u32,
    },
    /// Broker to client: the reply, or its last part.
    Final {
        /// The request's number.
        number: u64,
        /// How many parts came before.
        sequence: u32,
    },
    /// Broker to client: the request failed.
    Error {
        /// The request's number.
        number: u64,
        /// What went wrong.
        failure: Failure<'a>,
    },
    /// Worker to broker: registers for a service; again, with another capacity, at any time.
    Ready {
        /// How many requests the worker holds at once.
        capacity: u32,
        /// The interval between heartbeats that the worker wants, in milliseconds.
        heartbeat_ms: u32,
        /// How many such intervals of silence the worker bears.
        liveness: u8,
        /// The service's name.
        service: &'a [u8],
    },
    /// Broker to worker: the answer to the first READY.
    WorkerWelcome {
        /// Interval between heartbeats in milliseconds.
        heartbeat_ms: u32,
        /// How many such intervals of silence mean that the other side is gone.
        liveness: u8,
        /// Largest message in bytes.
        max_message: u64,
    },
    /// Broker to worker: work.
    Deliver {
        /// Number of the delivery, unique in the broker's life: the answer carries it.
        delivery: u64,
        /// The client's session; zeros where the client speaks an older protocol.
        session: SessionId,
        /// The request's number within the session.
        number: u64,
        /// What is left of the time to live in milliseconds; 0 for no limit.
        ttl_ms: u32,
        /// Which attempt this is, from 1.
        attempt: u16,
    },
    /// Broker to worker: nobody waits for the answer any more. It is still owed.
    WorkerCancel {
        /// Number of the delivery.
        delivery: u64,
    },
    /// Worker to broker: gives a delivery back that no handler has seen. It does not count as an attempt.
    Return {
        /// Number of the delivery.
        delivery: u64,
    },
    /// Worker to broker: a part of the reply; more follow.
    WorkerPartial {
        /// Number of the delivery.
        delivery: u64,
        /// The part's number, from 0.
        sequence: u32,
    },
    /// Worker to broker: the reply, or its last part.
    WorkerFinal {
        /// Number of the delivery.
        delivery: u64,
        /// How many parts came before.
        sequence: u32,
    },
    /// Worker to broker: the handler failed.
    WorkerError {
        /// Number of the delivery.
        delivery: u64,
        /// What went wrong.
        failure: Failure<'a>,
    },
    /// Worker to broker: no new requests; what is held will still be answered.
    Drain,
    /// Either way: the sender is alive.
    Heartbeat,
    /// Either way: several messages in one, packed as the frames of a body are. An empty one says that its sender takes
    /// such messages.
    Batch,
    /// Either way: the sender wants nothing more to do with this connection.
    Disconnect {
        /// Number of the error kind that says why; 0 for an ordinary end.
        kind: u8,
        /// Why, in words.
        text: &'a str,
    },
}

impl Command<'_> {
    /// What it says in words.
    pub(super) fn text(&self) -> &str {
        match self {
            Command::Error { failure, .. } | Command::WorkerError { failure, .. } => failure.text,
            Command::Disconnect { text, .. } => text,
            _ => "",
        }
    }
}

/// A failure on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Number of the error kind.
    pub kind: u8,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The service's own code, where the kind is `ServiceError`; otherwise 0.
    pub code: u32,
    /// What happened, in words.
    pub text: &'a str,
}

mod code {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const CLIENT_WELCOME: u8 = 0x02;
    pub(super) const REQUEST: u8 = 0x03;
    pub(super) const CANCEL: u8 = 0x04;
    pub(super) const ACK: u8 = 0x05;
    pub(super) const PARTIAL: u8 = 0x06;
    pub(super) const FINAL: u8 = 0x07;
    pub(super) const ERROR: u8 = 0x08;
    pub(super) const READY: u8 = 0x11;
    pub(super) const WORKER_WELCOME: u8 = 0x12;
    pub(super) const DELIVER: u8 = 0x13;
    pub(super) const WORKER_CANCEL: u8 = 0x14;
    pub(super) const RETURN: u8 = 0x15;
    pub(super) const WORKER_PARTIAL: u8 = 0x16;
    pub(super) const WORKER_FINAL: u8 = 0x17;
    pub(super) const WORKER_ERROR: u8 = 0x18;
    pub(super) const DRAIN: u8 = 0x19;
    pub(super) const HEARTBEAT: u8 = 0x21;
    pub(super) const DISCONNECT: u8 = 0x22;
    pub(super) const BATCH: u8 = 0x23;
}

#[cfg(test)]
mod tests;
