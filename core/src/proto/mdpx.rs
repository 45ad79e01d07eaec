//! The frames of MDPX/1, described in `docs/mdpx.md`: many requests at once, one outcome each.
//!
//! A message is one header frame and the body's frames behind it. A small body is packed into the header frame, because
//! frames are what costs on the way. Numbers are big-endian.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::ops::Range;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::message::Message;
use crate::properties::{self, Properties};

use super::mdp::is_service_name;

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

/// A header frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// What it says.
    pub command: Command<'a>,
    /// Where the rest of the message is.
    pub layout: Layout,
}

/// Where in its message a body and its properties are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Start and end of the block of properties in the header frame.
    properties: (u32, u32),
    /// Where in the header frame the packed body starts; `None` where the body's frames follow.
    packed: Option<NonZeroU32>,
}

/// Whether a message that starts with this frame is of this protocol.
pub fn is_header(frame: &[u8]) -> bool {
    frame.starts_with(MAGIC) && frame.len() > MAGIC.len()
}

/// Reads a header frame; `followers` frames come behind it.
///
/// # Errors
/// What is wrong with it.
pub fn read(frame: &[u8], followers: usize) -> Result<Header<'_>, &'static str> {
    if frame.len() > MAX_HEADER {
        return Err("a header of more than 64 KiB");
    }
    let rest = frame.strip_prefix(MAGIC).ok_or("no header of MDPX/1")?;
    let mut fields = Fields(rest);
    let [command, flags] = fields.array()?;
    let has = |flag| flags & flag != 0;
    let command = read_command(command, has(RETRYABLE), has(FAIL_FAST), has(RESUMED), &mut fields)?;
    let properties = if has(PROPERTIES) {
        let length = usize::from(u16::from_be_bytes(fields.array()?));
        let start = frame.len() - fields.0.len();
        properties::check(fields.bytes(length)?)?;
        (position(start), position(start + length))
    } else {
        (0, 0)
    };
    let start = frame.len() - fields.0.len();
    if !has(PACKED) && start != frame.len() {
        return Err("bytes behind the header's fields");
    }
    let may_follow = may_have_body(&command) && !has(PACKED);
    if followers > 0 && !may_follow {
        return Err("frames that the command does not have");
    }
    if has(PACKED) {
        if !may_have_body(&command) {
            return Err("a body that the command does not have");
        }
        if (properties.1 - properties.0) as usize + fields.0.len() > MAX_INLINE {
            return Err("properties and a packed body of more than 60 KiB");
        }
        let mut rest = fields.0;
        while !rest.is_empty() {
            rest = split_packed(rest).ok_or("a packed body that is cut short")?.1;
        }
    }
    Ok(Header {
        command,
        layout: Layout { properties, packed: if has(PACKED) { NonZeroU32::new(position(start)) } else { None } },
    })
}

/// A position in a header frame, which is no longer than [`MAX_HEADER`].
fn position(at: usize) -> u32 {
    at as u32
}

fn may_have_body(command: &Command<'_>) -> bool {
    matches!(
        command,
        Command::Request { .. }
            | Command::Deliver { .. }
            | Command::Partial { .. }
            | Command::Final { .. }
            | Command::WorkerPartial { .. }
            | Command::WorkerFinal { .. }
            | Command::Batch
    )
}

fn read_command<'a>(
    command: u8,
    retryable: bool,
    fail_fast: bool,
    resumed: bool,
    fields: &mut Fields<'a>,
) -> Result<Command<'a>, &'static str> {
    Ok(match command {
        code::HELLO => Command::Hello {
            session: fields.array()?,
            secret: fields.array()?,
            heartbeat_ms: fields.u32()?,
            liveness: fields.u8()?,
        },
        code::CLIENT_WELCOME => Command::ClientWelcome {
            resumed,
            heartbeat_ms: fields.u32()?,
            liveness: fields.u8()?,
            credit: fields.u32()?,
            max_message: fields.u64()?,
        },
        code::REQUEST => Command::Request {
            number: fields.u64()?,
            acked: fields.u64()?,
            ttl_ms: fields.u32()?,
            max_attempts: u16::from_be_bytes(fields.array()?),
            fail_fast,
            service: fields.service()?,
        },
        code::CANCEL => Command::Cancel { number: fields.u64()? },
        code::ACK => Command::Ack { number: fields.u64()? },
        code::PARTIAL => Command::Partial { number: fields.u64()?, sequence: fields.u32()? },
        code::FINAL => Command::Final { number: fields.u64()?, sequence: fields.u32()? },
        code::ERROR => Command::Error { number: fields.u64()?, failure: fields.failure(retryable)? },
        code::READY => Command::Ready {
            capacity: fields.u32()?,
            heartbeat_ms: fields.u32()?,
            liveness: fields.u8()?,
            service: fields.service()?,
        },
        code::WORKER_WELCOME => {
            Command::WorkerWelcome { heartbeat_ms: fields.u32()?, liveness: fields.u8()?, max_message: fields.u64()? }
        }
        code::DELIVER => Command::Deliver {
            delivery: fields.u64()?,
            session: fields.array()?,
            number: fields.u64()?,
            ttl_ms: fields.u32()?,
            attempt: u16::from_be_bytes(fields.array()?),
        },
        code::WORKER_CANCEL => Command::WorkerCancel { delivery: fields.u64()? },
        code::RETURN => Command::Return { delivery: fields.u64()? },
        code::WORKER_PARTIAL => Command::WorkerPartial { delivery: fields.u64()?, sequence: fields.u32()? },
        code::WORKER_FINAL => Command::WorkerFinal { delivery: fields.u64()?, sequence: fields.u32()? },
        code::WORKER_ERROR => Command::WorkerError { delivery: fields.u64()?, failure: fields.failure(retryable)? },
        code::DRAIN => Command::Drain,
        code::HEARTBEAT => Command::Heartbeat,
        code::BATCH => Command::Batch,
        code::DISCONNECT => Command::Disconnect { kind: fields.u8()?, text: fields.text()? },
        _ => return Err("an unknown command"),
    })
}

/// The fields of a header that were not read yet.
struct Fields<'a>(&'a [u8]);

const CUT_SHORT: &str = "a header that is cut short";

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn service(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.u8()?;
        let name = self.bytes(usize::from(length))?;
        if is_service_name(name) { Ok(name) } else { Err("a service name that is not 1 to 255 bytes of text") }
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        let length = u16::from_be_bytes(self.array()?);
        std::str::from_utf8(self.bytes(usize::from(length))?).map_err(|_| "a text that is not UTF-8")
    }

    fn failure(&mut self, retryable: bool) -> Result<Failure<'a>, &'static str> {
        Ok(Failure { kind: self.u8()?, retryable, code: self.u32()?, text: self.text()? })
    }
}

/// Appends a header without its body; see [`pack`].
pub fn write(out: &mut Vec<u8>, command: &Command<'_>, properties: &[u8]) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[0, 0]);
    let (command, mut flags) = write_command(out, command);
    if !properties.is_empty() {
        flags |= PROPERTIES;
        // Their size was checked when they were made or read.
        out.extend_from_slice(&u16::try_from(properties.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(properties);
    }
    out[start + 6] = command;
    out[start + 7] = flags;
}

fn write_command(out: &mut Vec<u8>, command: &Command<'_>) -> (u8, u8) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    match *command {
        Command::Hello { session, secret, heartbeat_ms, liveness } => {
            out.extend_from_slice(&session);
            out.extend_from_slice(&secret);
            out.extend_from_slice(&heartbeat_ms.to_be_bytes());
            out.push(liveness);
            (code::HELLO, 0)
        }
        Command::ClientWelcome { resumed, heartbeat_ms, liveness, credit, max_message } => {
            out.extend_from_slice(&heartbeat_ms.to_be_bytes());
            out.push(liveness);
            out.extend_from_slice(&credit.to_be_bytes());
            out.extend_from_slice(&max_message.to_be_bytes());
            (code::CLIENT_WELCOME, flag(resumed, RESUMED))
        }
        Command::Request { number, acked, ttl_ms, max_attempts, fail_fast, service } => {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&acked.to_be_bytes());
            out.extend_from_slice(&ttl_ms.to_be_bytes());
            out.extend_from_slice(&max_attempts.to_be_bytes());
            write_service(out, service);
            (code::REQUEST, flag(fail_fast, FAIL_FAST))
        }
        Command::Cancel { number } => write_number(out, code::CANCEL, number),
        Command::Ack { number } => write_number(out, code::ACK, number),
        Command::Partial { number, sequence } => write_part(out, code::PARTIAL, number, sequence),
        Command::Final { number, sequence } => write_part(out, code::FINAL, number, sequence),
        Command::Error { number, failure } => write_failure(out, code::ERROR, number, failure),
        Command::Ready { capacity, heartbeat_ms, liveness, service } => {
            out.extend_from_slice(&capacity.to_be_bytes());
            out.extend_from_slice(&heartbeat_ms.to_be_bytes());
            out.push(liveness);
            write_service(out, service);
            (code::READY, 0)
        }
        Command::WorkerWelcome { heartbeat_ms, liveness, max_message } => {
            out.extend_from_slice(&heartbeat_ms.to_be_bytes());
            out.push(liveness);
            out.extend_from_slice(&max_message.to_be_bytes());
            (code::WORKER_WELCOME, 0)
        }
        Command::Deliver { delivery, session, number, ttl_ms, attempt } => {
            out.extend_from_slice(&delivery.to_be_bytes());
            out.extend_from_slice(&session);
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&ttl_ms.to_be_bytes());
            out.extend_from_slice(&attempt.to_be_bytes());
            (code::DELIVER, 0)
        }
        Command::WorkerCancel { delivery } => write_number(out, code::WORKER_CANCEL, delivery),
        Command::Return { delivery } => write_number(out, code::RETURN, delivery),
        Command::WorkerPartial { delivery, sequence } => write_part(out, code::WORKER_PARTIAL, delivery, sequence),
        Command::WorkerFinal { delivery, sequence } => write_part(out, code::WORKER_FINAL, delivery, sequence),
        Command::WorkerError { delivery, failure } => write_failure(out, code::WORKER_ERROR, delivery, failure),
        Command::Drain => (code::DRAIN, 0),
        Command::Heartbeat => (code::HEARTBEAT, 0),
        Command::Batch => (code::BATCH, 0),
        Command::Disconnect { kind, text } => {
            out.push(kind);
            write_text(out, text);
            (code::DISCONNECT, 0)
        }
    }
}

fn write_number(out: &mut Vec<u8>, command: u8, number: u64) -> (u8, u8) {
    out.extend_from_slice(&number.to_be_bytes());
    (command, 0)
}

fn write_part(out: &mut Vec<u8>, command: u8, number: u64, sequence: u32) -> (u8, u8) {
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    (command, 0)
}

fn write_failure(out: &mut Vec<u8>, command: u8, number: u64, failure: Failure<'_>) -> (u8, u8) {
    out.extend_from_slice(&number.to_be_bytes());
    out.push(failure.kind);
    out.extend_from_slice(&failure.code.to_be_bytes());
    write_text(out, failure.text);
    (command, if failure.retryable { RETRYABLE } else { 0 })
}

fn write_service(out: &mut Vec<u8>, service: &[u8]) {
    // A name's length was checked where it came from; a longer one would be malformed, not dangerous.
    let length = u8::try_from(service.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&service[..usize::from(length)]);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&(end as u16).to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// How many bytes the body takes when it is packed.
pub fn packed_len<F: AsRef<[u8]>>(body: &[F]) -> usize {
    body.iter().map(|frame| 4 + frame.as_ref().len()).sum()
}

/// Whether a body is to be packed: `properties` and `packed` are what the two take in bytes.
pub fn is_packable(properties: usize, packed: usize) -> bool {
    packed <= PACK_LIMIT && properties + packed <= MAX_INLINE
}

/// Appends the body to a header that [`write`] has made and that starts at `start` of `out`.
pub fn pack<F: AsRef<[u8]>>(out: &mut Vec<u8>, start: usize, body: &[F]) {
    out[start + 7] |= PACKED;
    for frame in body {
        let frame = frame.as_ref();
        out.extend_from_slice(&u32::try_from(frame.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(frame);
    }
}

/// Appends a body that is packed already to a header that [`write`] has made and that starts at `start` of `out`.
pub fn pack_again(out: &mut Vec<u8>, start: usize, packed: &[u8]) {
    out[start + 7] |= PACKED;
    out.extend_from_slice(packed);
}

/// The frames of a packed body.
pub fn unpack(mut packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (frame, rest) = split_packed(packed)?;
        packed = rest;
        Some(frame)
    })
}

fn split_packed(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Makes of a worker's PARTIAL, FINAL or ERROR the same for the client: on both legs they differ in command and number
/// only, so that the broker need not copy the frame.
pub fn readdress(header: &mut [u8], number: u64) {
    header[6] &= 0x0f;
    header[NUMBER].copy_from_slice(&number.to_be_bytes());
}

impl Layout {
    /// The block of properties in the header frame.
    pub fn properties(self, header: &[u8]) -> &[u8] {
        &header[self.properties.0 as usize..self.properties.1 as usize]
    }

    /// The messages of a BATCH, each a header frame of its own.
    pub fn messages(self, header: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
        // Copied, so that a small message does not keep a large one alive.
        let packed = self.packed(header).unwrap_or_default();
        let messages: Vec<Bytes> = unpack(packed).map(Bytes::copy_from_slice).collect();
        messages.into_iter()
    }

    /// How many bytes the packed body takes in a header frame of `header` bytes; `None` where frames follow.
    pub fn packed_len(self, header: usize) -> Option<usize> {
        self.packed.map(|start| header.saturating_sub(start.get() as usize))
    }

    /// The packed body in the header frame; `None` where the body's frames follow it.
    pub fn packed(self, header: &[u8]) -> Option<&[u8]> {
        self.packed.map(|start| &header[start.get() as usize..])
    }

    /// The body with its properties. `rest` are the frames behind the header.
    pub fn into_message(self, mut header: Bytes, rest: impl IntoIterator<Item = Bytes>) -> Message {
        // Their form was checked when the header was read.
        let properties = match self.properties {
            (start, end) if start < end => {
                Properties::from_block(header.slice(start as usize..end as usize)).unwrap_or_default()
            }
            _ => Properties::new(),
        };
        let Some(start) = self.packed else { return rest.into_iter().collect::<Message>().with_properties(properties) };
        header.advance(start.get() as usize);
        let mut frames = SmallVec::<[Bytes; 1]>::new();
        while header.len() >= 4 {
            let length = header.get_u32() as usize;
            if length >= header.len() {
                // The last frame takes the buffer as it is: nothing is shared, nothing is counted.
                frames.push(std::mem::take(&mut header));
            } else {
                frames.push(header.split_to(length));
            }
        }
        Message::from_iter(frames).with_properties(properties)
    }
}

/// A message of several takes at most so many bytes.
pub const MAX_BATCH: usize = 32 << 10;

/// Whether a message may be one of several in a BATCH: it is one frame, of moderate size, and no BATCH itself.
pub fn may_join<F: AsRef<[u8]>>(message: &[F]) -> bool {
    match message {
        [header] => {
            let header = header.as_ref();
            header.len() <= PACK_LIMIT && is_header(header) && header[MAGIC.len()] != code::BATCH
        }
        _ => false,
    }
}

/// Length of a BATCH without messages.
pub const BATCH_HEADER: usize = MAGIC.len() + 2;

/// Calls `see` with what a header frame says, or with what each message of a BATCH says.
pub fn each_message<'a>(header: &'a [u8], followers: usize, mut see: impl FnMut(Command<'a>)) {
    match read(header, followers) {
        Ok(Header { command: Command::Batch, layout }) => {
            let messages = unpack(layout.packed(header).unwrap_or_default());
            messages.filter_map(|message| read(message, 0).ok()).for_each(|message| see(message.command));
        }
        Ok(Header { command, .. }) => see(command),
        Err(_) => {}
    }
}

/// Begins a BATCH in `out`; [`pack`] appends messages to it.
pub fn begin_batch(out: &mut Vec<u8>) {
    out.clear();
    write(out, &Command::Batch, &[]);
}

/// Makes one message of the first ones that wait, where there are several that may be joined.
pub fn join_first(waiting: &mut VecDeque<Vec<Bytes>>) {
    if waiting.len() < 2 {
        return;
    }
    let mut count = 0;
    let mut size = 0;
    for message in waiting.iter().take_while(|message| may_join(message)) {
        size += packed_len(message);
        if size > MAX_BATCH {
            break;
        }
        count += 1;
    }
    if count < 2 {
        return;
    }
    let mut batch = Vec::with_capacity(size.min(MAX_BATCH) + 8);
    begin_batch(&mut batch);
    for message in waiting.drain(..count) {
        pack(&mut batch, 0, &message);
    }
    waiting.push_front(vec![batch.into()]);
}

/// The frames of a message with this body.
pub fn message(command: &Command<'_>, body: &Message) -> Vec<Bytes> {
    let packed = packed_len(body.frames());
    let mut header = Vec::with_capacity(128 + packed.min(PACK_LIMIT) + body.properties().block().len());
    write(&mut header, command, body.properties().block());
    let mut frames = Vec::with_capacity(1);
    if is_packable(body.properties().block().len(), packed) {
        pack(&mut header, 0, body.frames());
        frames.push(header.into());
    } else {
        frames.push(header.into());
        frames.extend_from_slice(body.frames());
    }
    frames
}

/// The frames of a message without a body.
pub fn control(command: &Command<'_>) -> Vec<Bytes> {
    let mut header = Vec::with_capacity(64);
    write(&mut header, command, &[]);
    vec![header.into()]
}

#[cfg(test)]
mod tests;
