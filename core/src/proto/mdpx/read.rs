//! From a header frame to what it says.

use std::num::NonZeroU32;

use crate::properties;

use super::super::mdp::is_service_name;
use super::body::{Layout, split_packed};
use super::{Command, FAIL_FAST, Failure, MAGIC, MAX_HEADER, MAX_INLINE, PACKED, PROPERTIES, RESUMED, RETRYABLE, code};

/// A header frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// What it says.
    pub command: Command<'a>,
    /// Where the rest of the message is.
    pub layout: Layout,
}

/// Whether a message that starts with this frame is of this protocol.
pub fn is_header(frame: &[u8]) -> bool {
    frame.starts_with(MAGIC) && frame.len() > MAGIC.len()
}

/// Whether a message that starts with this frame holds several.
pub(crate) fn is_batch(frame: &[u8]) -> bool {
    is_header(frame) && frame[MAGIC.len()] == code::BATCH
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
    // The messages of a BATCH are always packed.
    let may_follow = may_have_body(&command) && command != Command::Batch && !has(PACKED);
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

pub(super) fn may_have_body(command: &Command<'_>) -> bool {
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
