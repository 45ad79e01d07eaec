//! What happened, as JavaScript is told of it.
//!
//! It is told by the arguments of one call, [`STRIDE`] of them for each thing: where one request at a time goes to and fro, an
//! object with a property for each of them would be half of what JavaScript does for it.

use majordomo::aio::{ClientEvent, Part, WorkerEvent, WorkerEventKind};
use majordomo::{ConnectionEvent, Error, ErrorKind, Message};
use napi::bindgen_prelude::{BufferSlice, Either3, ToNapiValue};
use napi::{Env, sys};
use napi_derive::napi;

use crate::environment::{Shared, TaskEvent, lock};
use crate::error::Failure;
use crate::message::{Frames, Scratch, frames, properties};

/// How many arguments tell of one thing.
pub(crate) const STRIDE: usize = 6;

/// What happened to a connection; what does not belong to an event of this name is left out.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Connection {
    /// `connected`, `disconnected`, `reconnecting` or `draining`.
    pub name: String,
    /// The broker's endpoint.
    pub endpoint: Option<String>,
    /// What is spoken with it.
    pub protocol: Option<String>,
    /// Why the connection is of no use any more.
    pub reason: Option<String>,
}

/// What there is to say of an event besides what other arguments tell; what does not belong to it is left out. Of a part of
/// a streamed reply it is all.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Event<'env> {
    /// Whether nothing more comes for this token.
    pub last: bool,
    /// A part of a reply.
    pub frames: Option<Vec<BufferSlice<'env>>>,
    /// Names of the message's properties.
    pub names: Option<Vec<String>>,
    /// Their values, in the same order.
    pub values: Option<Vec<BufferSlice<'env>>>,
    /// The number of a worker's request that nobody waits for any more.
    pub cancelled: Option<i64>,
    /// What happened to a connection.
    pub connection: Option<Connection>,
    /// What a call on a thread of its own gave.
    pub value: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// One thing that happened.
pub(crate) enum Happened {
    Connection((u64, ConnectionEvent)),
    Client(ClientEvent),
    Worker(WorkerEvent),
    Task(TaskEvent),
}

/// A small frame's length, where its bytes are the next ones in the environment's scratch; a frame; or a list of them.
type Body<'env> = Either3<u32, BufferSlice<'env>, Frames<'env>>;

/// The arguments that tell of one thing.
pub(crate) struct Told<'env> {
    /// What it happened to.
    token: u64,
    /// Of a reply or a request.
    frames: Option<Body<'env>>,
    /// Number, attempt and deadline of a worker's request.
    request: Option<(u64, u32, Option<f64>)>,
    event: Option<Event<'env>>,
}

impl<'env> Told<'env> {
    /// `None` where there is nobody to tell.
    pub(crate) fn of(env: &'env Env, shared: &Shared, scratch: &mut Scratch, happened: Happened) -> Option<Self> {
        match happened {
            Happened::Connection((token, event)) => {
                Some(Told::event(token, Event { connection: Some(connection(event)), ..Event::default() }))
            }
            Happened::Client(event) => Told::outcome(env, scratch, event),
            Happened::Worker(event) => Told::work(env, shared, scratch, event),
            Happened::Task(TaskEvent { token, outcome }) => Some(match outcome {
                Ok(value) => Told::event(token, Event { last: true, value, ..Event::default() }),
                Err(error) => Told::event(token, failed(&error)),
            }),
        }
    }

    fn event(token: u64, event: Event<'env>) -> Self {
        Told { token, frames: None, request: None, event: Some(event) }
    }

    fn outcome(env: &'env Env, scratch: &mut Scratch, ClientEvent { token, part }: ClientEvent) -> Option<Self> {
        // Whole replies are asked for here, so there are no parts.
        let Part::Done(outcome) = part else { return None };
        Some(match outcome.and_then(|message| Told::message(env, scratch, token, &message, true)) {
            Ok(told) => told,
            Err(error) => Told::event(token, failed(&error)),
        })
    }

    fn work(
        env: &'env Env,
        shared: &Shared,
        scratch: &mut Scratch,
        WorkerEvent { token, kind }: WorkerEvent,
    ) -> Option<Self> {
        Some(match kind {
            WorkerEventKind::Request(request) => {
                // A request that cannot be shown to JavaScript is dropped here, which answers it with an error.
                let mut told = Told::message(env, scratch, token, request.body(), false).ok()?;
                let deadline = request.deadline().map(|deadline| shared.moment(deadline));
                told.request = Some((request.id(), request.attempt(), deadline));
                shared.requests.put(token, request);
                told
            }
            // The request is still owed an answer, which is dropped.
            WorkerEventKind::Cancelled { id } => {
                Told::event(token, Event { cancelled: Some(id.cast_signed()), ..Event::default() })
            }
            WorkerEventKind::Closed(reason) => {
                lock(&shared.open).remove(&token);
                let end = Event { last: true, ..Event::default() };
                Told::event(token, reason.map_or(end, |error| failed(&error)))
            }
        })
    }

    fn message(
        env: &'env Env,
        scratch: &mut Scratch,
        token: u64,
        message: &Message,
        last: bool,
    ) -> majordomo::Result<Self> {
        let small = if message.properties().is_empty() { scratch.put(message) } else { None };
        if let Some(length) = small {
            return Ok(Told { token, frames: Some(Either3::A(length)), request: None, event: None });
        }
        let (mut frames, names, values) = buffers(env, message)?;
        let event = names.is_some().then(|| Event { last, names, values, ..Event::default() });
        // A single frame, as nearly all messages have, is told without a list around it.
        let frames = match (frames.len(), frames.pop()) {
            (1, Some(frame)) => Either3::B(frame),
            (_, last) => Either3::C(frames.into_iter().chain(last).collect()),
        };
        Ok(Told { token, frames: Some(frames), request: None, event })
    }

    /// Appends the arguments.
    pub(crate) fn put(self, env: &Env, arguments: &mut Vec<sys::napi_value>) -> napi::Result<()> {
        let Told { token, frames, request, event } = self;
        let (number, attempt, deadline) = request.map_or((None, None, None), |(number, attempt, deadline)| {
            (Some(number.cast_signed()), Some(attempt), deadline)
        });
        let env = env.raw();
        arguments.extend([
            value(env, Some(token.cast_signed()))?,
            value(env, frames)?,
            value(env, number)?,
            value(env, attempt)?,
            value(env, deadline)?,
            value(env, event)?,
        ]);
        Ok(())
    }
}

/// What stands for it in JavaScript; `undefined` where there is nothing.
fn value<T: ToNapiValue>(env: sys::napi_env, given: Option<T>) -> napi::Result<sys::napi_value> {
    // SAFETY: the environment is that of the present thread: it comes from an `Env`, which leaves its thread in no safe way.
    unsafe {
        match given {
            Some(given) => T::to_napi_value(env, given),
            None => <()>::to_napi_value(env, ()),
        }
    }
}

/// The event of an item of a streamed reply. After a failure, and after the end, nothing follows.
pub(crate) fn part_event<'env>(
    env: &'env Env,
    item: Option<majordomo::Result<Message>>,
    is_final: bool,
) -> Event<'env> {
    let Some(item) = item else { return Event { last: true, ..Event::default() } };
    match item.and_then(|message| buffers(env, &message)) {
        Ok((frames, names, values)) => {
            Event { last: is_final, frames: Some(frames), names, values, ..Event::default() }
        }
        Err(error) => failed(&error),
    }
}

type Buffers<'env> = (Frames<'env>, Option<Vec<String>>, Option<Frames<'env>>);

/// The frames of a message, and names and values of its properties. It fails where the engine has no room for them.
fn buffers<'env>(env: &'env Env, message: &Message) -> majordomo::Result<Buffers<'env>> {
    let made = frames(env, message).and_then(|frames| Ok((frames, properties(env, message)?)));
    let (frames, (names, values)) =
        made.map_err(|error| Error::new(ErrorKind::Internal, format!("no buffer for the message: {}", error.reason)))?;
    Ok((frames, names, values))
}

fn connection(event: ConnectionEvent) -> Connection {
    let name = event.name().to_owned();
    match event {
        ConnectionEvent::Connected { endpoint, protocol } => Connection {
            name,
            endpoint: Some(endpoint),
            protocol: Some(protocol.name().to_owned()),
            ..Connection::default()
        },
        ConnectionEvent::Disconnected { endpoint, reason } => {
            Connection { name, endpoint: Some(endpoint), reason: Some(reason), ..Connection::default() }
        }
        ConnectionEvent::Reconnecting { endpoint } => {
            Connection { name, endpoint: Some(endpoint), ..Connection::default() }
        }
        _ => Connection { name, ..Connection::default() },
    }
}

fn failed<'env>(error: &Error) -> Event<'env> {
    Event { last: true, failure: Some(error.into()), ..Event::default() }
}
