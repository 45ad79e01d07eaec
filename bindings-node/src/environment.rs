//! One JavaScript environment (the main thread, or one of `worker_threads`): where finished things wait to be taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use majordomo::aio::{self, ClientEvent, Inbox, Part, Ticket, WorkerEvent, WorkerEventKind};
use majordomo::{ConnectionEvent, Error, ErrorKind, EventHook, Message};
use napi::bindgen_prelude::{BufferSlice, Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status, sys};
use napi_derive::napi;

use crate::error::{Failure, Result, engine};
use crate::message::{frames, properties};
use crate::worker::NativeRequest;

/// Calls JavaScript's `wake`; does not keep the process alive unless asked to.
type Wake = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true>;

/// Where everything that belongs to one JavaScript environment reports to.
#[napi]
pub struct Environment {
    wake: Arc<Wake>,
    pub(crate) clients: Arc<Inbox<ClientEvent>>,
    pub(crate) workers: Arc<Inbox<WorkerEvent>>,
    pub(crate) tasks: Arc<Inbox<TaskEvent>>,
    connections: Arc<Inbox<(u64, ConnectionEvent)>>,
    /// Requests that may still be cancelled.
    pub(crate) tickets: Mutex<HashMap<u64, Ticket>>,
    /// Workers that are open, to be closed before the environment goes away.
    pub(crate) open: Arc<Mutex<HashMap<u64, aio::Worker>>>,
}

/// Something for JavaScript to go on with: the outcome of a call that was made on a thread of its own because it may block, or
/// the moment to ask again.
pub(crate) struct TaskEvent {
    pub(crate) token: u64,
    pub(crate) outcome: majordomo::Result<Option<String>>,
}

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

/// One thing that happened, for the promise or the worker known by `token`.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Event<'env> {
    /// The number given with the call.
    pub token: i64,
    /// Whether nothing more comes for this token.
    pub last: bool,
    /// A reply, a part of one, or the body of `request`.
    pub frames: Option<Vec<BufferSlice<'env>>>,
    /// Names of the message's properties.
    pub names: Option<Vec<String>>,
    /// Their values, in the same order.
    pub values: Option<Vec<BufferSlice<'env>>>,
    /// The number of a worker's request that nobody waits for any more.
    pub cancelled: Option<i64>,
    /// What happened to a connection.
    pub connection: Option<Connection>,
    /// What a worker was given to do.
    pub request: Option<NativeRequest>,
    /// What a call on a thread of its own gave.
    pub value: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

#[napi]
impl Environment {
    /// `wake` is called, once for many events, when there is something to `drain`.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, wake: Function<'_, (), Unknown<'static>>) -> Result<Self> {
        let wake: Arc<Wake> =
            Arc::new((wake.build_threadsafe_function::<()>().weak::<true>().build()).map_err(|error| engine(&error))?);
        let open = Arc::new(Mutex::new(HashMap::new()));
        // Runs before the finalizers of this environment's objects: a request that is dropped there must find its
        // worker closed, so that the broker gives it to another one instead of getting an error for it.
        env.add_env_cleanup_hook(open.clone(), |open: Arc<Mutex<HashMap<u64, aio::Worker>>>| {
            for (_, worker) in lock(&open).drain() {
                worker.close();
            }
        })
        .map_err(|error| engine(&error))?;
        Ok(Environment {
            clients: inbox(&wake),
            workers: inbox(&wake),
            tasks: inbox(&wake),
            connections: inbox(&wake),
            tickets: Mutex::default(),
            open,
            wake,
        })
    }

    /// Keeps the process alive (`true`) or lets it end when nothing else is to be done (`false`).
    #[napi(catch_unwind)]
    pub fn hold(&self, env: Env, alive: bool) {
        let (env, wake) = (env.raw(), self.wake.raw());
        // SAFETY: both pointers are live: this runs on the environment's own thread, and the function is released
        // only when `self` and the inboxes are gone.
        unsafe {
            if alive {
                sys::napi_ref_threadsafe_function(env, wake);
            } else {
                sys::napi_unref_threadsafe_function(env, wake);
            }
        }
    }

    /// Takes everything that happened since the last time, in order for each token.
    #[napi(catch_unwind)]
    pub fn drain<'env>(&self, env: &'env Env) -> Vec<Event<'env>> {
        let (mut clients, mut workers, mut tasks, mut connections) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.clients.drain(&mut clients);
        self.workers.drain(&mut workers);
        self.tasks.drain(&mut tasks);
        self.connections.drain(&mut connections);
        let mut events = Vec::with_capacity(connections.len() + clients.len() + workers.len() + tasks.len());
        // First: the last event of a worker ends its token.
        events.extend(connections.into_iter().map(connection_event));
        events.extend(clients.into_iter().filter_map(|event| self.client_event(env, event)));
        events.extend(workers.into_iter().filter_map(|event| self.worker_event(env, event)));
        events.extend(tasks.into_iter().map(task_event));
        events
    }

    /// Gives up the request known by `token`; nothing happens if it is already answered.
    #[napi(catch_unwind)]
    pub fn cancel(&self, token: i64) {
        let ticket = lock(&self.tickets).remove(&token.cast_unsigned());
        if let Some(ticket) = ticket {
            ticket.cancel();
        }
    }

    /// A hook that brings connection events here, under `token`.
    pub(crate) fn hook(&self, token: u64) -> EventHook {
        let inbox = self.connections.clone();
        EventHook::new(move |event| Inbox::push(&inbox, (token, event.clone())))
    }

    fn client_event<'env>(&self, env: &'env Env, event: ClientEvent) -> Option<Event<'env>> {
        let ClientEvent { token, part } = event;
        // Whole replies are asked for here, so there are no parts.
        let Part::Done(outcome) = part else { return None };
        lock(&self.tickets).remove(&token);
        Some(match outcome {
            Ok(message) => with_frames(env, token, &message, Event { last: true, ..Event::default() }),
            Err(error) => failed(token, &error),
        })
    }

    fn worker_event<'env>(&self, env: &'env Env, event: WorkerEvent) -> Option<Event<'env>> {
        let WorkerEvent { token, kind } = event;
        Some(match kind {
            WorkerEventKind::Request(request) => {
                let body = request.body().clone();
                let request = Some(NativeRequest::new(request));
                with_frames(env, token, &body, Event { request, ..Event::default() })
            }
            // The request is still owed an answer, which is dropped.
            WorkerEventKind::Cancelled { id } => {
                Event { token: token.cast_signed(), cancelled: Some(id.cast_signed()), ..Event::default() }
            }
            WorkerEventKind::Closed(reason) => {
                lock(&self.open).remove(&token);
                match reason {
                    Some(error) => failed(token, &error),
                    None => Event { token: token.cast_signed(), last: true, ..Event::default() },
                }
            }
        })
    }
}

/// The event of an item of a streamed reply. After a failure, and after the end, nothing follows.
pub(crate) fn part_event<'env>(
    env: &'env Env,
    item: Option<majordomo::Result<Message>>,
    is_final: bool,
) -> Event<'env> {
    match item {
        Some(Ok(message)) => with_frames(env, 0, &message, Event { last: is_final, ..Event::default() }),
        Some(Err(error)) => failed(0, &error),
        None => Event { last: true, ..Event::default() },
    }
}

fn connection_event<'env>((token, event): (u64, ConnectionEvent)) -> Event<'env> {
    let name = event.name().to_owned();
    let connection = match event {
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
    };
    Event { token: token.cast_signed(), connection: Some(connection), ..Event::default() }
}

fn task_event<'env>(event: TaskEvent) -> Event<'env> {
    match event.outcome {
        Ok(value) => Event { token: event.token.cast_signed(), last: true, value, ..Event::default() },
        Err(error) => failed(event.token, &error),
    }
}

/// The event with the frames of a message, or with a failure if the engine has no room for them. A request that cannot
/// be shown to JavaScript is dropped here, which answers it with an error.
fn with_frames<'env>(env: &'env Env, token: u64, message: &Message, event: Event<'env>) -> Event<'env> {
    match frames(env, message).and_then(|frames| Ok((frames, properties(env, message)?))) {
        Ok((frames, (names, values))) => {
            Event { token: token.cast_signed(), frames: Some(frames), names, values, ..event }
        }
        Err(error) if event.request.is_none() => {
            failed(token, &Error::new(ErrorKind::Internal, format!("no buffer for the message: {}", error.reason)))
        }
        Err(_) => Event { token: token.cast_signed(), ..Event::default() },
    }
}

fn failed<'env>(token: u64, error: &Error) -> Event<'env> {
    Event { token: token.cast_signed(), last: true, failure: Some(error.into()), ..Event::default() }
}

fn inbox<T: Send + 'static>(wake: &Arc<Wake>) -> Arc<Inbox<T>> {
    let wake = wake.clone();
    // The status is of no interest: a closing environment takes nothing any more.
    Inbox::new(move || {
        wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
    })
}

/// A poisoned lock is taken all the same: what is inside are whole entries of a map.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
