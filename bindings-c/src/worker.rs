//! `mdwrk_t`: the blocking worker, in the Guide's shape: one call gives the last answer and waits for the next request.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use majordomo::{Error, ErrorKind, Request, Result, Worker, WorkerOptions};

use crate::arguments::{count, invalid, milliseconds, patience, place, text};
use crate::client::{errno, until_signal};
use crate::event::{Listening, md_event_handler_t};
use crate::guard::{guard, guard_on};
use crate::latch::Latch;
use crate::logging::set_verbose;
use crate::message::{self, mdmsg_t};
use crate::registry::{self, Handle};
use crate::request::{failure, remaining};

/// A blocking worker: registers for a service and answers its requests one after the other. Heartbeats go out by
/// themselves, also while the program works on a request. Threads: one call at a time, but for mdwrk_drain and
/// mdwrk_destroy; a second thread meanwhile gets MD_EBUSY. A worker made before a fork is MD_ECLOSED in the child.
pub struct mdwrk_t {
    _opaque: [u8; 0],
}

pub(crate) struct Session {
    state: Mutex<State>,
    /// The registered worker once more, for a drain or a destroy while another thread is in a call.
    closer: Latch<Worker>,
    /// The thread in which the core's drain waits for the request in hand.
    drain: Mutex<Option<JoinHandle<()>>>,
    listening: Listening,
    errno: AtomicI32,
}

struct State {
    options: WorkerOptions,
    /// How long a call waits for a request; for ever where `None`.
    patience: Option<Duration>,
    /// The request in hand, until it is answered.
    current: Option<Request>,
    /// Made by the first call that needs it, and anew after an option changed.
    worker: Option<Arc<Worker>>,
}

impl Handle for Session {
    type Opaque = mdwrk_t;
    const TAG: usize = 4;

    fn set_errno(&self, number: c_int) {
        self.errno.store(number, Ordering::Relaxed);
    }
}

/// Makes a worker for a service at the broker at an endpoint such as "tcp://127.0.0.1:5555"; several endpoints are
/// separated by commas, and the next one is tried when the current one is silent. It connects and registers with the first
/// mdwrk_recv, or with mdwrk_start. verbose, if not 0, logs to standard error. Result: the worker, or NULL on failure
/// (md_errno tells why; NULL is MD_EINVAL). Ownership: the caller's, until mdwrk_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_new(broker: *const c_char, service: *const c_char, verbose: c_int) -> *mut mdwrk_t {
    guard(|| {
        set_verbose(verbose);
        // SAFETY: strings or NULL, as the header demands.
        let options = unsafe { WorkerOptions::new(text(broker, "broker")?, text(service, "service")?) };
        options.validate()?;
        let state = Mutex::new(State { options, patience: None, current: None, worker: None });
        let (closer, drain, listening) = (Latch::new(), Mutex::default(), Listening::default());
        Ok(registry::insert(Session { state, closer, drain, listening, errno: AtomicI32::new(0) }))
    })
}

/// Closes and destroys *self_p, with a DISCONNECT to the broker, and sets *self_p to NULL. A request in hand goes to
/// another worker. Ownership: takes *self_p. Does nothing if *self_p is NULL already; NULL for self_p itself sets
/// md_errno to MD_EINVAL. Threads: a call that another thread is in ends with MD_ECLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_destroy(self_p: *mut *mut mdwrk_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if this.is_null() {
            return Ok(());
        }
        if let Some(session) = registry::remove::<Session>(this)? {
            if let Some(worker) = session.closer.shut() {
                worker.close();
            }
            let drain = session.drain.lock().unwrap_or_else(PoisonError::into_inner).take();
            // The close has ended what it waits for.
            if let Some(drain) = drain {
                let _ = drain.join();
            }
            session.listening.end();
        }
        Ok(())
    });
}

/// Sets the interval between heartbeats, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on failure:
/// MD_EINVAL for NULL, for other values, and while a request is in hand. The next mdwrk_recv registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_heartbeat(this: *mut mdwrk_t, heartbeat_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let heartbeat = milliseconds(heartbeat_ms, "heartbeat")?;
        session.reconnect_with(|options| options.heartbeat = heartbeat)
    })
}

/// Sets how many heartbeat intervals the broker may be silent before it counts as gone: 3 at first, at least 1. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL, for other values, and while a request is in hand. The next mdwrk_recv
/// registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_liveness(this: *mut mdwrk_t, liveness: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let liveness = count(liveness, "liveness")?;
        session.reconnect_with(|options| options.liveness = liveness)
    })
}

/// Sets the longest pause before reconnecting, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on failure:
/// MD_EINVAL for NULL, for other values, and while a request is in hand. The next mdwrk_recv registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_reconnect(this: *mut mdwrk_t, reconnect_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let reconnect = milliseconds(reconnect_ms, "reconnect")?;
        session.reconnect_with(|options| options.reconnect = reconnect)
    })
}

/// Sets the protocol: "0.1", "0.2", "x1" (MDPX), or "auto", as at first: the best that the broker knows, too. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL, for another version, and while a request is in hand. The next mdwrk_recv
/// registers anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_set_protocol(this: *mut mdwrk_t, protocol: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let protocol = unsafe { text(protocol, "protocol") }?.parse()?;
        session.reconnect_with(|options| options.protocol = protocol)
    })
}

/// Sets the largest message that is sent or accepted, in bytes: 256 MiB at first. Result: 0, or -1 on failure: MD_EINVAL
/// for NULL, for 0, and while a request is in hand. The next mdwrk_recv registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_max_message_bytes(this: *mut mdwrk_t, bytes: usize) -> c_int {
    guard_on(this, |session: &Session| session.reconnect_with(|options| options.max_message_bytes = bytes))
}

/// Sets how long a drain waits for the request in hand, in milliseconds: 5000 at first, at least 1. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL, for other values, and while a request is in hand. The next mdwrk_recv registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_drain_timeout(this: *mut mdwrk_t, drain_timeout_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let drain_timeout = milliseconds(drain_timeout_ms, "drain_timeout")?;
        session.reconnect_with(|options| options.drain_timeout = drain_timeout)
    })
}

/// Sets how many further requests the worker holds ready: 0 at first, at most 65536. A few dozen save a worker of short
/// requests the way to the broker between two of them; while another worker is idle, no request waits here. MDPX only.
/// Result: 0, or -1 on failure: MD_EINVAL for NULL, for other values, and while a request is in hand. The next
/// mdwrk_recv registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_prefetch(this: *mut mdwrk_t, requests: usize) -> c_int {
    guard_on(this, |session: &Session| session.reconnect_with(|options| options.prefetch = requests))
}

/// Sets how many outcomes are kept, so that a repeat of a request (one of the same MD_PROPERTY_IDEMPOTENCY_KEY, or of
/// the same number of the same client) is answered without another run: 0 at first; bytes: how many bytes they may
/// take, 64 MiB at first; age_ms: how long each is kept in milliseconds, 300000 at first, at least 1. Streamed replies
/// are not kept. MDPX only. Result: 0, or -1 on failure: MD_EINVAL for NULL, for other values, and while a request is
/// in hand. The next mdwrk_recv registers anew.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_keep_outcomes(this: *mut mdwrk_t, outcomes: usize, bytes: usize, age_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let age = milliseconds(age_ms, "keep_outcomes_age")?;
        session.reconnect_with(|options| {
            (options.keep_outcomes, options.keep_outcomes_bytes) = (outcomes, bytes);
            options.keep_outcomes_age = age;
        })
    })
}

/// Sets who is told what happens to the connection: handler, with arg; nobody, as at first, if handler is NULL. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL for self and while a request is in hand. The next mdwrk_recv registers anew.
/// Ownership: arg stays the caller's; the handler is not called any more once it is replaced or mdwrk_destroy has
/// returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_set_event_handler(
    this: *mut mdwrk_t,
    handler: md_event_handler_t,
    arg: *mut c_void,
) -> c_int {
    guard_on(this, |session: &Session| {
        session.reconnect_with(|options| options.on_event = session.listening.set(handler, arg))
    })
}

/// Sets how long mdwrk_recv waits for a request, in milliseconds; -1, as at first, is for ever. Result: 0, or -1 on
/// failure (NULL and values below -1 are MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_set_recv_timeout(this: *mut mdwrk_t, timeout_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        session.exclusive()?.patience = patience(timeout_ms)?;
        Ok(0)
    })
}

/// Connects and registers now instead of with the first mdwrk_recv. Result: 0, also if it is done already; -1 on failure
/// (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_start(this: *mut mdwrk_t) -> c_int {
    guard_on(this, |session: &Session| {
        let State { options, worker, .. } = &mut *session.exclusive()?;
        session.registered(worker, options).map(|_| 0)
    })
}

/// Answers the request in hand with *reply_p, if that is not NULL, and waits for the next request. Result: the request's
/// body, or NULL on failure; mdwrk_errno tells why: MD_ECLOSED after a drain, MD_ECANCELLED when the calling thread
/// handled a signal meanwhile, MD_ETIMEOUT after mdwrk_set_recv_timeout, MD_ETOOLARGE when the reply is over the limit
/// (the request is then still in hand: mdwrk_fail can answer it), MD_EINVAL when a request is in hand and *reply_p is
/// NULL, or the other way round, and for NULL. Ownership: takes *reply_p and sets it to NULL, whether the call succeeds or
/// not (only a message or a worker that cannot be used at all, NULL included, is MD_EINVAL or MD_EBUSY and left alone);
/// the request is the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_recv(this: *mut mdwrk_t, reply_p: *mut *mut mdmsg_t) -> *mut mdmsg_t {
    guard_on(this, |session: &Session| {
        let mut state = session.exclusive()?;
        // SAFETY: a place for a message or NULL, as the header demands.
        match unsafe { message::take_optional(reply_p, "reply_p") }? {
            Some(reply) => state.in_hand()?.reply(reply)?,
            None if state.current.as_ref().is_some_and(|request| !request.is_answered()) => {
                return Err(invalid("the request in hand has no answer yet: mdwrk_recv wants a reply"));
            }
            None => {}
        }
        state.current = None;
        let State { options, patience, worker, .. } = &mut *state;
        let request = session.registered(worker, options)?.recv_with(*patience, &mut until_signal)?;
        let request = request.ok_or_else(|| Error::new(ErrorKind::Timeout, "no request came in time"))?;
        Ok(message::give(state.current.insert(request).take_body()))
    })
}

/// Sends *part_p as a part of the answer to the request in hand; the reply given to mdwrk_recv or mdwrk_reply ends the
/// answer. Where the protocol knows no parts (0.1), they are joined with the reply. Waits while the connection has no room
/// for more. Result: 0, or -1 on failure: MD_EINVAL if no request is in hand, and for NULL; MD_ECANCELLED when the thread
/// handled a signal while it waited (the part goes out all the same). Ownership: takes *part_p as mdwrk_recv takes
/// *reply_p.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_partial(this: *mut mdwrk_t, part_p: *mut *mut mdmsg_t) -> c_int {
    guard_on(this, |session: &Session| {
        let state = session.exclusive()?;
        // SAFETY: a place for a message or NULL, as the header demands.
        let part = unsafe { message::take(part_p, "part_p") }?;
        state.in_hand()?.partial_with(part, &mut until_signal).map(|()| 0)
    })
}

/// Answers the request in hand with *reply_p without waiting for another. Result: 0, or -1 on failure: MD_EINVAL if no
/// request is in hand, and for NULL; MD_ETOOLARGE over the limit (the request is then still in hand). Ownership: takes
/// *reply_p as mdwrk_recv does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_reply(this: *mut mdwrk_t, reply_p: *mut *mut mdmsg_t) -> c_int {
    guard_on(this, |session: &Session| {
        let mut state = session.exclusive()?;
        // SAFETY: a place for a message or NULL, as the header demands.
        let reply = unsafe { message::take(reply_p, "reply_p") }?;
        state.in_hand()?.reply(reply)?;
        state.current = None;
        Ok(0)
    })
}

/// Answers the request in hand with a failure: its client gets MD_ESERVICE with this code and text. Then *reply_p of the
/// next mdwrk_recv is NULL. Result: 0, or -1 on failure: MD_EINVAL if no request is in hand, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_fail(this: *mut mdwrk_t, code: u32, reason: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let reason = unsafe { text(reason, "reason") }?;
        let mut state = session.exclusive()?;
        state.in_hand()?.fail(code, reason)?;
        state.current = None;
        Ok(0)
    })
}

/// As mdwrk_fail, with a failure that another attempt may not have: another worker gets the request while it has
/// attempts left, MDPX only. Result: as mdwrk_fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdwrk_fail_retryable(this: *mut mdwrk_t, code: u32, reason: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let reason = unsafe { text(reason, "reason") }?;
        let mut state = session.exclusive()?;
        state.in_hand()?.fail_with(failure(code, reason).retryable(true))?;
        state.current = None;
        Ok(0)
    })
}

/// Which attempt at the request in hand this is, from 1; 1 where the protocol does not say (0.1 and 0.2). Result: the
/// number, or -1 on failure: MD_EINVAL if no request is in hand, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_attempt(this: *mut mdwrk_t) -> c_int {
    guard_on(this, |session: &Session| Ok(session.exclusive()?.in_hand()?.attempt().cast_signed()))
}

/// How long the client of the request in hand still waits. Result: milliseconds, rounded up, 0 when its time is over;
/// -1 where it has set no limit or the protocol does not say (0.1 and 0.2), and on failure: MD_EINVAL if no request is
/// in hand, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_remaining(this: *mut mdwrk_t) -> i64 {
    guard_on(this, |session: &Session| Ok(remaining(session.exclusive()?.in_hand()?)))
}

/// Whether nobody waits for the answer to the request in hand any more: its client has given it up or has run out of
/// time, or the connection that it came by is lost. It is still to be answered; the answer is dropped. MDPX only.
/// Result: 1 yes, 0 no, -1 on failure: MD_EINVAL if no request is in hand, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_cancelled(this: *mut mdwrk_t) -> c_int {
    guard_on(this, |session: &Session| Ok(c_int::from(session.exclusive()?.in_hand()?.is_cancelled())))
}

/// Ends the worker gently: no new request comes, the one in hand can still be answered within the drain timeout, then the
/// broker gets a DISCONNECT and mdwrk_recv gives NULL with MD_ECLOSED. Does not wait for any of it. Result: 0, or -1 on
/// failure (NULL is MD_EINVAL). Threads: any, also while another is in mdwrk_recv.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_drain(this: *mut mdwrk_t) -> c_int {
    guard_on(this, |session: &Session| session.closer.shut().map_or(Ok(0), |worker| session.drain(worker).map(|()| 0)))
}

/// How the last call on this worker ended: 0, or a number MD_E...; on the thread that made it always that thread's own
/// last call. md_errtext has the details. NULL, or a handle that is none: the thread's md_errno.
#[unsafe(no_mangle)]
pub extern "C" fn mdwrk_errno(this: *mut mdwrk_t) -> c_int {
    guard(|| Ok(errno(this, |session: &Session| session.errno.load(Ordering::Relaxed))))
}

impl Session {
    #[inline]
    fn exclusive(&self) -> Result<MutexGuard<'_, State>> {
        registry::exclusive::<Session, _>(&self.state)
    }

    /// Changes options: a worker that is registered leaves, and the next call registers it with the new ones.
    fn reconnect_with(&self, change: impl FnOnce(&mut WorkerOptions)) -> Result<c_int> {
        let mut state = self.exclusive()?;
        if state.current.is_some() {
            return Err(invalid("options cannot change while a request is in hand: answer it first"));
        }
        let mut options = state.options.clone();
        change(&mut options);
        options.validate()?;
        state.options = options;
        if let Some(worker) = self.closer.release() {
            worker.close();
        }
        state.worker = None;
        Ok(0)
    }

    /// Starts the core's drain, which waits for the request in hand: for that the caller may be needed.
    fn drain(&self, worker: Arc<Worker>) -> Result<()> {
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if drain.is_none() {
            let thread = std::thread::Builder::new().name("majordomo-drain".to_owned());
            let started = thread.spawn(move || worker.drain());
            *drain = Some(started.map_err(|error| Error::new(ErrorKind::Internal, format!("no thread: {error}")))?);
        }
        Ok(())
    }

    /// The worker, made if there is none.
    #[inline]
    fn registered<'a>(&self, worker: &'a mut Option<Arc<Worker>>, options: &WorkerOptions) -> Result<&'a Worker> {
        match worker {
            Some(present) => Ok(present),
            none => self.register(none, options),
        }
    }

    #[cold]
    fn register<'a>(&self, worker: &'a mut Option<Arc<Worker>>, options: &WorkerOptions) -> Result<&'a Worker> {
        let made = Arc::new(Worker::with_options(options.clone())?);
        if !self.closer.hold(&made) {
            return Err(Error::new(ErrorKind::Closed, "this mdwrk_t has been drained or destroyed"));
        }
        Ok(worker.insert(made))
    }
}

impl State {
    fn in_hand(&self) -> Result<&Request> {
        self.current.as_ref().ok_or_else(|| invalid("no request is in hand: mdwrk_recv gives one"))
    }
}
