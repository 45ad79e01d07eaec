//! From what is to be said to a header frame, and to a whole message.

use bytes::Bytes;

use crate::message::Message;

use super::{
    Command, FAIL_FAST, Failure, MAGIC, MAX_INLINE, MAX_TEXT, NUMBER, PACK_LIMIT, PACKED, PROPERTIES, RESUMED,
    RETRYABLE, code,
};

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

/// Makes of a worker's PARTIAL, FINAL or ERROR the same for the client: on both legs they differ in command and number
/// only, so that the broker need not copy the frame.
pub fn readdress(header: &mut [u8], number: u64) {
    header[6] &= 0x0f;
    header[NUMBER].copy_from_slice(&number.to_be_bytes());
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
