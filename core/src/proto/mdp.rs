//! The frames of MDP/0.1 (RFC 7) and MDP/0.2 (RFC 18): one table per version, one vocabulary for both.

use std::slice;

use crate::options::MAX_SERVICE_NAME;

use super::frame::Frame;

/// A version of the published protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MDP/0.1 (RFC 7).
    V01,
    /// MDP/0.2 (RFC 18).
    V02,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: &'static [Version] = &[Version::V01, Version::V02];

    /// The version's name, as in `mmi.protocols`.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V01 => "0.1",
            Version::V02 => "0.2",
        }
    }

    pub(super) const fn of(protocol: crate::options::Protocol) -> Version {
        match protocol {
            crate::options::Protocol::V02 => Version::V02,
            _ => Version::V01,
        }
    }
}

impl From<Version> for crate::options::Protocol {
    fn from(version: Version) -> Self {
        match version {
            Version::V01 => crate::options::Protocol::V01,
            Version::V02 => crate::options::Protocol::V02,
        }
    }
}

/// Whether a part of an answer is followed by more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// More parts follow (0.2 only).
    Partial,
    /// The last part, in 0.1 the only one.
    Final,
}

/// What a client or a worker says to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToBroker<F> {
    /// A client asks a service.
    Request {
        /// Version of the client.
        version: Version,
        /// The service's name.
        service: F,
        /// The request's body.
        body: Vec<F>,
    },
    /// A worker registers for a service.
    Ready {
        /// Version of the worker.
        version: Version,
        /// The service's name.
        service: F,
    },
    /// A worker answers a request.
    Answer {
        /// Version of the worker.
        version: Version,
        /// The client address that came with the request, untouched.
        address: F,
        /// Whether more follows.
        part: Part,
        /// The answer's body.
        body: Vec<F>,
    },
    /// A worker is alive.
    Heartbeat {
        /// Version of the worker.
        version: Version,
    },
    /// A worker leaves.
    Disconnect {
        /// Version of the worker.
        version: Version,
    },
}

/// What a broker says to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWorker<F> {
    /// Work: the address comes back with the answer.
    Request {
        /// The client address: the broker's business.
        address: F,
        /// The request's body.
        body: Vec<F>,
    },
    /// The broker is alive.
    Heartbeat,
    /// The broker wants nothing more to do with this connection.
    Disconnect,
}

/// What a broker says to a client: a part of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToClient<F> {
    /// The service that was asked.
    pub service: F,
    /// Whether more follows.
    pub part: Part,
    /// The reply's body.
    pub body: Vec<F>,
}

/// A message that is not of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The version of the worker that sent it; `None` where the sender did not say that it was a worker.
    pub worker: Option<Version>,
    /// What is wrong with it.
    pub reason: &'static str,
}

const CLIENT_01: &[u8] = b"MDPC01";
const WORKER_01: &[u8] = b"MDPW01";
const CLIENT_02: &[u8] = b"MDPC02";
const WORKER_02: &[u8] = b"MDPW02";
const HEADERS: [&[u8]; 4] = [CLIENT_01, WORKER_01, CLIENT_02, WORKER_02];

/// Every byte by its number.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

/// A frame of one byte, such as a command.
fn one(byte: u8) -> &'static [u8] {
    slice::from_ref(&BYTES[usize::from(byte)])
}

/// The bytes of a frame as ones that are always there, if they are: those of headers, commands and empty frames are. So
/// what most frames of a message consist of takes no memory.
pub(crate) fn always_there(bytes: &[u8]) -> Option<&'static [u8]> {
    match *bytes {
        [] => Some(&[]),
        [byte] => Some(one(byte)),
        _ => HEADERS.into_iter().find(|header| *header == bytes),
    }
}

/// The command bytes of a worker's conversation in one version. Each version has its own: they share no arithmetic.
struct WorkerCommands {
    ready: u8,
    request: u8,
    /// 0.1 has no partial replies.
    partial: Option<u8>,
    last: u8,
    heartbeat: u8,
    disconnect: u8,
}

const WORKER_COMMANDS_01: WorkerCommands =
    WorkerCommands { ready: 1, request: 2, partial: None, last: 3, heartbeat: 4, disconnect: 5 };
const WORKER_COMMANDS_02: WorkerCommands =
    WorkerCommands { ready: 1, request: 2, partial: Some(3), last: 4, heartbeat: 5, disconnect: 6 };

const CLIENT_REQUEST_02: u8 = 1;
const CLIENT_PARTIAL_02: u8 = 2;
const CLIENT_FINAL_02: u8 = 3;

const fn commands(version: Version) -> &'static WorkerCommands {
    match version {
        Version::V01 => &WORKER_COMMANDS_01,
        Version::V02 => &WORKER_COMMANDS_02,
    }
}

/// Whether these bytes can name a service: 1 to 255 bytes of UTF-8 without control characters.
pub fn is_service_name(name: &[u8]) -> bool {
    // Most names are of such characters only.
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
    (1..=MAX_SERVICE_NAME).contains(&name.len())
        && (name.iter().all(is_plain)
            || std::str::from_utf8(name).is_ok_and(|name| !name.chars().any(char::is_control)))
}

/// Reads what a peer said to a broker; `frames` without the routing id.
pub fn read_to_broker<F: Frame>(frames: Vec<F>) -> Result<ToBroker<F>, Malformed> {
    let stranger = |reason| Malformed { worker: None, reason };
    let (version, start) = match frames.first().map(AsRef::as_ref) {
        Some([]) => (Version::V01, 1),
        Some(_) => (Version::V02, 0),
        None => return Err(stranger("a message without frames")),
    };
    let header = frames.get(start).map(AsRef::as_ref).unwrap_or_default();
    match (version, header) {
        (Version::V01, CLIENT_01) => read_request(version, frames, start + 1),
        (Version::V02, CLIENT_02) => match frames.get(1).map(AsRef::as_ref) {
            Some([CLIENT_REQUEST_02]) => read_request(version, frames, 2),
            _ => Err(stranger("a client's command other than REQUEST")),
        },
        (Version::V01, WORKER_01) | (Version::V02, WORKER_02) => read_from_worker(version, frames, start + 1),
        _ => Err(stranger("no header of a known protocol")),
    }
}

fn read_request<F: Frame>(version: Version, mut frames: Vec<F>, at: usize) -> Result<ToBroker<F>, Malformed> {
    let malformed = |reason| Malformed { worker: None, reason };
    if frames.get(at).is_some_and(|service| !is_service_name(service.as_ref())) {
        return Err(malformed("a service name that is not 1 to 255 bytes of text"));
    }
    let service = take_head(&mut frames, at).ok_or(malformed("a request without a service"))?;
    Ok(ToBroker::Request { version, service, body: frames })
}

/// Takes out the frames before the body; the last of them, which is at this place.
fn take_head<F>(frames: &mut Vec<F>, at: usize) -> Option<F> {
    if at < frames.len() { frames.drain(..=at).next_back() } else { None }
}

fn read_from_worker<F: Frame>(version: Version, frames: Vec<F>, at: usize) -> Result<ToBroker<F>, Malformed> {
    let malformed = |reason| Malformed { worker: Some(version), reason };
    let Some(&[command]) = frames.get(at).map(AsRef::as_ref) else {
        return Err(malformed("no command of one byte"));
    };
    let table = commands(version);
    let rest = frames.len() - at - 1;
    if command == table.ready {
        match frames.get(at + 1) {
            Some(service) if rest == 1 && is_service_name(service.as_ref()) => {
                Ok(ToBroker::Ready { version, service: service.clone() })
            }
            _ => Err(malformed("READY without exactly one service name of 1 to 255 bytes of text")),
        }
    } else if command == table.last || Some(command) == table.partial {
        let part = if command == table.last { Part::Final } else { Part::Partial };
        let (address, body) =
            read_envelope(frames, at + 1).ok_or(malformed("an answer without client address and empty frame"))?;
        Ok(ToBroker::Answer { version, address, part, body })
    } else if command == table.heartbeat && rest == 0 {
        Ok(ToBroker::Heartbeat { version })
    } else if command == table.disconnect && rest == 0 {
        Ok(ToBroker::Disconnect { version })
    } else {
        Err(malformed("a command that a worker does not send, or with frames that it does not have"))
    }
}

/// Client address, empty frame, body.
fn read_envelope<F: Frame>(mut frames: Vec<F>, at: usize) -> Option<(F, Vec<F>)> {
    if !frames.get(at + 1)?.as_ref().is_empty() {
        return None;
    }
    let address = frames.drain(..at + 2).nth_back(1)?;
    Some((address, frames))
}

/// Reads what a broker said to a worker of this version.
pub fn read_to_worker<F: Frame>(version: Version, frames: Vec<F>) -> Result<ToWorker<F>, Malformed> {
    let malformed = |reason| Malformed { worker: Some(version), reason };
    let at = header(version, &frames, WORKER_01, WORKER_02).ok_or(malformed("no worker header of this version"))?;
    let Some(&[command]) = frames.get(at).map(AsRef::as_ref) else {
        return Err(malformed("no command of one byte"));
    };
    let table = commands(version);
    if command == table.request {
        let (address, body) =
            read_envelope(frames, at + 1).ok_or(malformed("a request without client address and empty frame"))?;
        Ok(ToWorker::Request { address, body })
    } else if command == table.heartbeat {
        Ok(ToWorker::Heartbeat)
    } else if command == table.disconnect {
        Ok(ToWorker::Disconnect)
    } else {
        Err(malformed("a command that a broker does not send"))
    }
}

/// Reads what a broker said to a client of this version.
pub fn read_to_client<F: Frame>(version: Version, mut frames: Vec<F>) -> Result<ToClient<F>, Malformed> {
    let malformed = |reason| Malformed { worker: None, reason };
    let at = header(version, &frames, CLIENT_01, CLIENT_02).ok_or(malformed("no client header of this version"))?;
    let (part, at) = match (version, frames.get(at).map(AsRef::as_ref)) {
        (Version::V01, _) => (Part::Final, at),
        (Version::V02, Some([CLIENT_PARTIAL_02])) => (Part::Partial, at + 1),
        (Version::V02, Some([CLIENT_FINAL_02])) => (Part::Final, at + 1),
        (Version::V02, _) => return Err(malformed("a command that a broker does not send")),
    };
    let service = take_head(&mut frames, at).ok_or(malformed("a reply without a service"))?;
    Ok(ToClient { service, part, body: frames })
}

/// Index of the frame behind the header, if the header is the one of this version.
fn header<F: Frame>(version: Version, frames: &[F], v01: &[u8], v02: &[u8]) -> Option<usize> {
    match version {
        Version::V01 => (frames.first()?.as_ref().is_empty() && frames.get(1)?.as_ref() == v01).then_some(2),
        Version::V02 => (frames.first()?.as_ref() == v02).then_some(1),
    }
}

/// Writes what a peer says to a broker.
pub fn write_to_broker<F: Frame>(message: ToBroker<F>) -> Vec<F> {
    match message {
        ToBroker::Request { version, service, body } => request(version, service, body),
        ToBroker::Ready { version, service } => write_worker(version, commands(version).ready, [service], vec![]),
        ToBroker::Answer { version, address, part, body } => answer(version, address, part, body),
        ToBroker::Heartbeat { version } => write_worker(version, commands(version).heartbeat, [], vec![]),
        ToBroker::Disconnect { version } => write_worker(version, commands(version).disconnect, [], vec![]),
    }
}

/// A client's request, whose body need not be in a list of its own.
pub(super) fn request<F: Frame>(version: Version, service: F, body: impl IntoIterator<Item = F>) -> Vec<F> {
    match version {
        Version::V01 => join(&[b"", CLIENT_01], [service], body),
        Version::V02 => join(&[CLIENT_02, one(CLIENT_REQUEST_02)], [service], body),
    }
}

/// A worker's answer, whose body need not be in a list of its own.
pub(super) fn answer<F: Frame>(version: Version, address: F, part: Part, body: impl IntoIterator<Item = F>) -> Vec<F> {
    let table = commands(version);
    let command = match part {
        Part::Final => table.last,
        // A 0.1 worker joins its parts before it answers; a partial reply never gets here.
        Part::Partial => table.partial.unwrap_or(table.last),
    };
    write_worker(version, command, [address, F::from_static(b"")], body)
}

/// A request to a worker, whose body need not be in a list of its own.
pub(super) fn delivery<F: Frame>(version: Version, address: F, body: impl IntoIterator<Item = F>) -> Vec<F> {
    write_worker(version, commands(version).request, [address, F::from_static(b"")], body)
}

/// Writes what a broker says to a worker of this version.
pub fn write_to_worker<F: Frame>(version: Version, message: ToWorker<F>) -> Vec<F> {
    let table = commands(version);
    match message {
        ToWorker::Request { address, body } => delivery(version, address, body),
        ToWorker::Heartbeat => write_worker(version, table.heartbeat, [], vec![]),
        ToWorker::Disconnect => write_worker(version, table.disconnect, [], vec![]),
    }
}

/// Writes what a broker says to a client of this version. 0.1 has no partial replies: the broker joins them.
pub fn write_to_client<F: Frame>(version: Version, message: ToClient<F>) -> Vec<F> {
    match (version, message.part) {
        (Version::V01, _) => join(&[b"", CLIENT_01], [message.service], message.body),
        (Version::V02, Part::Partial) => join(&[CLIENT_02, one(CLIENT_PARTIAL_02)], [message.service], message.body),
        (Version::V02, Part::Final) => join(&[CLIENT_02, one(CLIENT_FINAL_02)], [message.service], message.body),
    }
}

fn write_worker<F: Frame, const N: usize>(
    version: Version,
    command: u8,
    head: [F; N],
    body: impl IntoIterator<Item = F>,
) -> Vec<F> {
    match version {
        Version::V01 => join(&[b"", WORKER_01, one(command)], head, body),
        Version::V02 => join(&[WORKER_02, one(command)], head, body),
    }
}

fn join<F: Frame, const N: usize>(fixed: &[&'static [u8]], head: [F; N], body: impl IntoIterator<Item = F>) -> Vec<F> {
    let body = body.into_iter();
    // A body whose length shows only at its end is mostly one frame.
    let mut frames = Vec::with_capacity(fixed.len() + N + body.size_hint().0.max(1));
    frames.extend(fixed.iter().map(|bytes| F::from_static(bytes)));
    frames.extend(head);
    frames.extend(body);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_always_there_are_headers_empty_frames_and_single_bytes() {
        for byte in 0..=u8::MAX {
            assert_eq!(always_there(&[byte]), Some(&[byte][..]));
        }
        for header in HEADERS.into_iter().chain([&b""[..]]) {
            assert_eq!(always_there(header), Some(header));
        }
        for other in [&b"MDPC03"[..], b"MDPC0", b"MDPC011", b"\x01\x01"] {
            assert_eq!(always_there(other), None);
        }
    }
}
