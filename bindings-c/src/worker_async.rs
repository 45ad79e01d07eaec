//! `mdwrk_async_t`: a worker that has several requests in hand at once.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use majordomo::aio::{Inbox, Worker, WorkerEvent, WorkerEventKind};
use majordomo::{Error, ErrorKind, Request, Result, WorkerOptions};

use crate::arguments::{count, milliseconds, patience, place, text};
use crate::bell::Bell;
use crate::client::{errno, too_late};
use crate::event::{Listening, md_event_handler_t};
use crate::guard::{guard, guard_on};
use crate::logging::set_verbose;
use crate::registry::{self, Handle};
use crate::request::{self, mdreq_t};

/// An asynchronous worker: as many requests at once as its concurrency says, each a mdreq_t, answered in any order.
/// Threads: any number may use it at once. A worker made before a fork is MD_ECLOSED in the child.
pub struct mdwrk_async_t {
    _opaque: [u8; 0],
}

/// In cache lines of its own: beside it in memory is the inbox, which the I/O thread writes to with each of the requests.
#[repr(align(64))]
pub(crate) struct Session {
    state: Mutex<State>,
    inbox: Arc<Inbox<WorkerEvent>>,
    bell: Arc<Bell>,
    listening: Listening,
    errno: AtomicI32,
}

struct State {
    options: WorkerOptions,
    /// Made by the first call that needs it.
    worker: Option<Worker>,
    /// Requests that nobody has received yet.
    ready: VecDeque<Request>,
    /// Memory for the events of a batch.
    batch: Vec<WorkerEvent>,
    /// How the worker ended, once it has.
    ended: Option<Error>,
}

impl Handle for Session {
    type Opaque = mdwrk_async_t;
    const TAG: usize = 5;

    fn set_errno(&self, number: c_int) {
        self.errno.store(number, Ordering::Relaxed);
    }
}

/// Makes an asynchronous worker for a service at the broker at an endpoint such as "tcp://127.0.0.1:5555"; several
/// endpoints are separated by commas. It connects and registers with the first mdwrk_async_recv, or with
/// mdwrk_async_start. verbose, if not 0, logs to standard error. Result: the worker, or NULL on failure (md_errno tells
/// why; NULL is MD_EINVAL). Ownership: the caller's, until mdwrk_async_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_async_new(
    broker: *const c_char,
    service: *const c_char,
    verbose: c_int,
) -> *mut mdwrk_async_t {
    guard(|| {
        set_verbose(verbose);
        // SAFETY: strings or NULL, as the header demands.
        let options = unsafe { WorkerOptions::new(text(broker, "broker")?, text(service, "service")?) };
        options.validate()?;
        let bell = Arc::new(Bell::new()?);
        let ringer = Arc::clone(&bell);
        let inbox = Inbox::new(move || ringer.ring());
        let state = State { options, worker: None, ready: VecDeque::new(), batch: Vec::new(), ended: None };
        let (state, listening) = (Mutex::new(state), Listening::default());
        Ok(registry::insert(Session { state, inbox, bell, listening, errno: AtomicI32::new(0) }))
    })
}

/// Closes and destroys *self_p, with a DISCONNECT to the broker, and sets *self_p to NULL. Requests that have not been
/// answered go to other workers. Ownership: takes *self_p; a mdreq_t stays the caller's. Does nothing if *self_p is NULL
/// already; NULL for self_p itself sets md_errno to MD_EINVAL. Threads: another thread that waits in mdwrk_async_recv gets
/// MD_ECLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_async_destroy(self_p: *mut *mut mdwrk_async_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if this.is_null() {
            return Ok(());
        }
        if let Some(session) = registry::remove::<Session>(this)? {
            let mut state = session.locked()?;
            match &state.worker {
                Some(worker) => worker.close(),
                None => state.ended = Some(Error::new(ErrorKind::Closed, "this mdwrk_async_t has been destroyed")),
            }
            drop(state);
            session.listening.end();
        }
        Ok(())
    });
}

/// Sets how many requests are worked on at once: 1 at first, at least 1. Result: 0, or -1 on failure: MD_EINVAL for NULL,
/// for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_concurrency(this: *mut mdwrk_async_t, requests: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("concurrency", |options| options.concurrency = requests))
}

/// Sets the interval between heartbeats, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on failure:
/// MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_heartbeat(this: *mut mdwrk_async_t, heartbeat_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let heartbeat = milliseconds(heartbeat_ms, "heartbeat")?;
        session.prepare("heartbeat", |options| options.heartbeat = heartbeat)
    })
}

/// Sets how many heartbeat intervals the broker may be silent before it counts as gone: 3 at first, at least 1. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_liveness(this: *mut mdwrk_async_t, liveness: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let liveness = count(liveness, "liveness")?;
        session.prepare("liveness", |options| options.liveness = liveness)
    })
}

/// Sets the longest pause before reconnecting, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on failure:
/// MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_reconnect(this: *mut mdwrk_async_t, reconnect_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let reconnect = milliseconds(reconnect_ms, "reconnect")?;
        session.prepare("reconnect", |options| options.reconnect = reconnect)
    })
}

/// Sets the protocol: "0.1", "0.2", "x1" (MDPX), or "auto", as at first: the best that the broker knows, too. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL, for another version, and after the start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_async_set_protocol(this: *mut mdwrk_async_t, protocol: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let protocol = unsafe { text(protocol, "protocol") }?.parse()?;
        session.prepare("protocol", |options| options.protocol = protocol)
    })
}

/// Sets the largest message that is sent or accepted, in bytes: 256 MiB at first. Result: 0, or -1 on failure: MD_EINVAL
/// for NULL, for 0, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_max_message_bytes(this: *mut mdwrk_async_t, bytes: usize) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("max_message_bytes", |options| options.max_message_bytes = bytes)
    })
}

/// Sets how long a drain waits for requests in hand, in milliseconds: 5000 at first, at least 1. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_drain_timeout(this: *mut mdwrk_async_t, drain_timeout_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let drain_timeout = milliseconds(drain_timeout_ms, "drain_timeout")?;
        session.prepare("drain_timeout", |options| options.drain_timeout = drain_timeout)
    })
}

/// Sets how many further requests the worker holds ready: 0 at first, at most 65536. A few dozen save a worker of short
/// requests the way to the broker between two of them; while another worker is idle, no request waits here. MDPX only.
/// Result: 0, or -1 on failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_prefetch(this: *mut mdwrk_async_t, requests: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("prefetch", |options| options.prefetch = requests))
}

/// Sets how many outcomes are kept, so that a repeat of a request (one of the same MD_PROPERTY_IDEMPOTENCY_KEY, or of
/// the same number of the same client) is answered without another run: 0 at first; bytes: how many bytes they may
/// take, 64 MiB at first; age_ms: how long each is kept in milliseconds, 300000 at first, at least 1. Streamed replies
/// are not kept. MDPX only. Result: 0, or -1 on failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_set_keep_outcomes(
    this: *mut mdwrk_async_t,
    outcomes: usize,
    bytes: usize,
    age_ms: c_int,
) -> c_int {
    guard_on(this, |session: &Session| {
        let age = milliseconds(age_ms, "keep_outcomes_age")?;
        session.prepare("keep_outcomes", |options| {
            (options.keep_outcomes, options.keep_outcomes_bytes) = (outcomes, bytes);
            options.keep_outcomes_age = age;
        })
    })
}

/// Sets who is told what happens to the connection: handler, with arg; nobody, as at first, if handler is NULL. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL for self and after the start. Ownership: arg stays the caller's; the handler
/// is not called any more once it is replaced or mdwrk_async_destroy has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_async_set_event_handler(
    this: *mut mdwrk_async_t,
    handler: md_event_handler_t,
    arg: *mut c_void,
) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("event_handler", |options| options.on_event = session.listening.set(handler, arg))
    })
}

/// Connects and registers now instead of with the first mdwrk_async_recv. Result: 0, also if it is done already; -1 on
/// failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_start(this: *mut mdwrk_async_t) -> c_int {
    guard_on(this, |session: &Session| session.start(&mut *session.locked()?).map(|()| 0))
}

/// Waits for the next request, at most wait_ms milliseconds; -1 is for ever, 0 not at all. Result: the request, or NULL
/// on failure; mdwrk_async_errno tells why: MD_ETIMEOUT when none came in time, MD_ECLOSED after a drain, MD_ECANCELLED
/// when the thread handled a signal meanwhile, MD_EINVAL for NULL. Ownership: the caller's, until mdreq_destroy.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_recv(this: *mut mdwrk_async_t, wait_ms: c_int) -> *mut mdreq_t {
    guard_on(this, |session: &Session| session.receive(wait_ms).map(request::give))
}

/// Ends the worker gently: no new request comes, those in hand can still be answered within the drain timeout, then the
/// broker gets a DISCONNECT, and mdwrk_async_recv gives NULL with MD_ECLOSED. Does not wait for any of it. Result: 0, or
/// -1 on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_drain(this: *mut mdwrk_async_t) -> c_int {
    guard_on(this, |session: &Session| {
        let mut state = session.locked()?;
        session.start(&mut state)?;
        let worker = state.worker.clone();
        drop(state);
        if let Some(worker) = worker {
            // The end is reported to the inbox; nobody awaits the future.
            drop(worker.drain());
        }
        Ok(0)
    })
}

/// A descriptor for poll() that is readable while requests wait; mdwrk_async_recv with wait_ms 0 then gives them (now and
/// then there is none after all: MD_ETIMEOUT). Result: the descriptor, or -1 on failure (NULL is MD_EINVAL). Ownership:
/// the worker's; do not read from it or close it.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_fd(this: *mut mdwrk_async_t) -> c_int {
    guard_on(this, |session: &Session| Ok(session.bell.descriptor()))
}

/// How the last call on this worker ended: 0, or a number MD_E...; on the thread that made it always that thread's own
/// last call. md_errtext has the details. NULL, or a handle that is none: the thread's md_errno.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_async_errno(this: *mut mdwrk_async_t) -> c_int {
    guard(|| Ok(errno(this, |session: &Session| session.errno.load(Ordering::Relaxed))))
}

impl Session {
    /// Never held while waiting.
    fn locked(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| Error::new(ErrorKind::Internal, "an earlier call on this worker failed inside"))
    }

    fn prepare(&self, option: &str, change: impl FnOnce(&mut WorkerOptions)) -> Result<c_int> {
        let mut state = self.locked()?;
        if state.worker.is_some() {
            return Err(too_late(option));
        }
        let mut options = state.options.clone();
        change(&mut options);
        options.validate()?;
        state.options = options;
        Ok(0)
    }

    fn start(&self, state: &mut State) -> Result<()> {
        if state.worker.is_none() {
            if let Some(end) = &state.ended {
                return Err(end.clone());
            }
            state.worker = Some(Worker::with_inbox(state.options.clone(), &self.inbox, 0)?);
        }
        Ok(())
    }

    fn receive(&self, wait_ms: c_int) -> Result<Request> {
        let deadline = patience(wait_ms)?.map(|patience| Instant::now() + patience);
        let mut state = self.locked()?;
        self.start(&mut state)?;
        loop {
            // The bell is hushed when the last request is taken, not with each: that would be two system calls for each.
            if state.ready.is_empty() {
                state.collect(&self.inbox);
            }
            let request = state.ready.pop_front();
            if state.ready.is_empty() {
                self.bell.hush();
                // Something has come meanwhile, or whoever waits beside this thread is to learn that the worker has ended.
                if !self.inbox.is_empty() || state.ended.is_some() {
                    self.bell.ring();
                }
            }
            if let Some(request) = request {
                return Ok(request);
            }
            if let Some(end) = &state.ended {
                return Err(end.clone());
            }
            drop(state);
            if !self.bell.wait(deadline)? {
                return Err(Error::new(ErrorKind::Timeout, format!("no request came within {wait_ms} ms")));
            }
            state = self.locked()?;
        }
    }
}

impl State {
    fn collect(&mut self, inbox: &Inbox<WorkerEvent>) {
        inbox.drain(&mut self.batch);
        for event in self.batch.drain(..) {
            match event.kind {
                WorkerEventKind::Request(request) => self.ready.push_back(request),
                // Asked of the request itself: mdreq_cancelled.
                WorkerEventKind::Cancelled { .. } => {}
                WorkerEventKind::Closed(reason) => {
                    let closed = || Error::new(ErrorKind::Closed, "this mdwrk_async_t has been drained or closed");
                    self.ended = Some(reason.unwrap_or_else(closed));
                }
            }
        }
    }
}
