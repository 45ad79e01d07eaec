//! The frames of MDP/0.1 (RFC 7) and MDP/0.2 (RFC 18): one table per version, one vocabulary for both.

use crate::options::{MAX_SERVICE_NAME, Protocol};

use super::frame::Frame;

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
        protocol: Protocol,
        /// The service's name.
        service: F,
        /// The request's body.
        body: Vec<F>,
    },
    /// A worker registers for a service.
    Ready {
        /// Version of the worker.
        protocol: Protocol,
        /// The service's name.
        service: F,
    },
    /// A worker answers a request.
    Answer {
        /// Version of the worker.
        protocol: Protocol,
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
        protocol: Protocol,
    },
    /// A worker leaves.
    Disconnect {
        /// Version of the worker.
        protocol: Protocol,
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
    pub worker: Option<Protocol>,
    /// What is wrong with it.
    pub reason: &'static str,
}

const CLIENT_01: &[u8] = b"MDPC01";
const WORKER_01: &[u8] = b"MDPW01";
const CLIENT_02: &[u8] = b"MDPC02";
const WORKER_02: &[u8] = b"MDPW02";

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

const fn commands(protocol: Protocol) -> &'static WorkerCommands {
    match protocol {
        Protocol::V01 => &WORKER_COMMANDS_01,
        Protocol::V02 => &WORKER_COMMANDS_02,
    }
}

/// Whether these bytes can name a service: 1 to 255 bytes of UTF-8 without control characters.
pub fn is_service_name(name: &[u8]) -> bool {
    (1..=MAX_SERVICE_NAME).contains(&name.len())
        && std::str::from_utf8(name).is_ok_and(|name| !name.chars().any(char::is_control))
}

/// Reads what a peer said to a broker; `frames` without the routing id.
pub fn read_to_broker<F: Frame>(frames: Vec<F>) -> Result<ToBroker<F>, Malformed> {
    let stranger = |reason| Malformed { worker: None, reason };
    let (protocol, start) = match frames.first().map(AsRef::as_ref) {
        Some([]) => (Protocol::V01, 1),
        Some(_) => (Protocol::V02, 0),
        None => return Err(stranger("a message without frames")),
    };
    let header = frames.get(start).map(AsRef::as_ref).unwrap_or_default();
    match (protocol, header) {
        (Protocol::V01, CLIENT_01) => read_request(protocol, frames, start + 1),
        (Protocol::V02, CLIENT_02) => match frames.get(1).map(AsRef::as_ref) {
            Some([CLIENT_REQUEST_02]) => read_request(protocol, frames, 2),
            _ => Err(stranger("a client's command other than REQUEST")),
        },
        (Protocol::V01, WORKER_01) | (Protocol::V02, WORKER_02) => read_from_worker(protocol, frames, start + 1),
        _ => Err(stranger("no header of a known protocol")),
    }
}

fn read_request<F: Frame>(protocol: Protocol, mut frames: Vec<F>, at: usize) -> Result<ToBroker<F>, Malformed> {
    match frames.get(at) {
        Some(service) if is_service_name(service.as_ref()) => {
            let service = service.clone();
            frames.drain(..=at);
            Ok(ToBroker::Request { protocol, service, body: frames })
        }
        Some(_) => Err(Malformed { worker: None, reason: "a service name that is not 1 to 255 bytes of text" }),
        None => Err(Malformed { worker: None, reason: "a request without a service" }),
    }
}

fn read_from_worker<F: Frame>(protocol: Protocol, frames: Vec<F>, at: usize) -> Result<ToBroker<F>, Malformed> {
    let malformed = |reason| Malformed { worker: Some(protocol), reason };
    let Some(&[command]) = frames.get(at).map(AsRef::as_ref) else {
        return Err(malformed("no command of one byte"));
    };
    let table = commands(protocol);
    let rest = frames.len() - at - 1;
    if command == table.ready {
        match frames.get(at + 1) {
            Some(service) if rest == 1 && is_service_name(service.as_ref()) => {
                Ok(ToBroker::Ready { protocol, service: service.clone() })
            }
            _ => Err(malformed("READY without exactly one service name of 1 to 255 bytes of text")),
        }
    } else if command == table.last || Some(command) == table.partial {
        let part = if command == table.last { Part::Final } else { Part::Partial };
        let (address, body) =
            read_envelope(frames, at + 1).ok_or(malformed("an answer without client address and empty frame"))?;
        Ok(ToBroker::Answer { protocol, address, part, body })
    } else if command == table.heartbeat && rest == 0 {
        Ok(ToBroker::Heartbeat { protocol })
    } else if command == table.disconnect && rest == 0 {
        Ok(ToBroker::Disconnect { protocol })
    } else {
        Err(malformed("a command that a worker does not send, or with frames that it does not have"))
    }
}

/// Client address, empty frame, body.
fn read_envelope<F: Frame>(mut frames: Vec<F>, at: usize) -> Option<(F, Vec<F>)> {
    let address = frames.get(at)?.clone();
    if !frames.get(at + 1)?.as_ref().is_empty() {
        return None;
    }
    frames.drain(..at + 2);
    Some((address, frames))
}

/// Reads what a broker said to a worker of this version.
pub fn read_to_worker<F: Frame>(protocol: Protocol, frames: Vec<F>) -> Result<ToWorker<F>, Malformed> {
    let malformed = |reason| Malformed { worker: Some(protocol), reason };
    let at = header(protocol, &frames, WORKER_01, WORKER_02).ok_or(malformed("no worker header of this version"))?;
    let Some(&[command]) = frames.get(at).map(AsRef::as_ref) else {
        return Err(malformed("no command of one byte"));
    };
    let table = commands(protocol);
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
pub fn read_to_client<F: Frame>(protocol: Protocol, mut frames: Vec<F>) -> Result<ToClient<F>, Malformed> {
    let malformed = |reason| Malformed { worker: None, reason };
    let at = header(protocol, &frames, CLIENT_01, CLIENT_02).ok_or(malformed("no client header of this version"))?;
    let (part, at) = match (protocol, frames.get(at).map(AsRef::as_ref)) {
        (Protocol::V01, _) => (Part::Final, at),
        (Protocol::V02, Some([CLIENT_PARTIAL_02])) => (Part::Partial, at + 1),
        (Protocol::V02, Some([CLIENT_FINAL_02])) => (Part::Final, at + 1),
        (Protocol::V02, _) => return Err(malformed("a command that a broker does not send")),
    };
    let service = frames.get(at).ok_or(malformed("a reply without a service"))?.clone();
    frames.drain(..=at);
    Ok(ToClient { service, part, body: frames })
}

/// Index of the frame behind the header, if the header is the one of this version.
fn header<F: Frame>(protocol: Protocol, frames: &[F], v01: &[u8], v02: &[u8]) -> Option<usize> {
    match protocol {
        Protocol::V01 => (frames.first()?.as_ref().is_empty() && frames.get(1)?.as_ref() == v01).then_some(2),
        Protocol::V02 => (frames.first()?.as_ref() == v02).then_some(1),
    }
}

/// Writes what a peer says to a broker.
pub fn write_to_broker<F: Frame>(message: ToBroker<F>) -> Vec<F> {
    match message {
        ToBroker::Request { protocol, service, body } => match protocol {
            Protocol::V01 => join(&[b"", CLIENT_01], [service], body),
            Protocol::V02 => join(&[CLIENT_02, &[CLIENT_REQUEST_02]], [service], body),
        },
        ToBroker::Ready { protocol, service } => write_worker(protocol, commands(protocol).ready, [service], vec![]),
        ToBroker::Answer { protocol, address, part, body } => {
            let table = commands(protocol);
            let command = match part {
                Part::Final => table.last,
                // A 0.1 worker joins its parts before it answers; a partial reply never gets here.
                Part::Partial => table.partial.unwrap_or(table.last),
            };
            write_worker(protocol, command, [address, F::copy_from(b"")], body)
        }
        ToBroker::Heartbeat { protocol } => write_worker(protocol, commands(protocol).heartbeat, [], vec![]),
        ToBroker::Disconnect { protocol } => write_worker(protocol, commands(protocol).disconnect, [], vec![]),
    }
}

/// Writes what a broker says to a worker of this version.
pub fn write_to_worker<F: Frame>(protocol: Protocol, message: ToWorker<F>) -> Vec<F> {
    let table = commands(protocol);
    match message {
        ToWorker::Request { address, body } => {
            write_worker(protocol, table.request, [address, F::copy_from(b"")], body)
        }
        ToWorker::Heartbeat => write_worker(protocol, table.heartbeat, [], vec![]),
        ToWorker::Disconnect => write_worker(protocol, table.disconnect, [], vec![]),
    }
}

/// Writes what a broker says to a client of this version. 0.1 has no partial replies: the broker joins them.
pub fn write_to_client<F: Frame>(protocol: Protocol, message: ToClient<F>) -> Vec<F> {
    match (protocol, message.part) {
        (Protocol::V01, _) => join(&[b"", CLIENT_01], [message.service], message.body),
        (Protocol::V02, Part::Partial) => join(&[CLIENT_02, &[CLIENT_PARTIAL_02]], [message.service], message.body),
        (Protocol::V02, Part::Final) => join(&[CLIENT_02, &[CLIENT_FINAL_02]], [message.service], message.body),
    }
}

fn write_worker<F: Frame, const N: usize>(protocol: Protocol, command: u8, head: [F; N], body: Vec<F>) -> Vec<F> {
    match protocol {
        Protocol::V01 => join(&[b"", WORKER_01, &[command]], head, body),
        Protocol::V02 => join(&[WORKER_02, &[command]], head, body),
    }
}

fn join<F: Frame, const N: usize>(fixed: &[&[u8]], head: [F; N], body: Vec<F>) -> Vec<F> {
    let mut frames = Vec::with_capacity(fixed.len() + N + body.len());
    frames.extend(fixed.iter().map(|bytes| F::copy_from(bytes)));
    frames.extend(head);
    frames.extend(body);
    frames
}
