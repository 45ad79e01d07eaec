//! `mdbrk_t`: a broker inside the program, on a thread of its own.

use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use majordomo::{Broker, BrokerOptions, Error, ErrorKind, Result};

use crate::arguments::{c_string, count, duplicate, invalid, milliseconds, optional_milliseconds, place, text};
use crate::client::{errno, too_late};
use crate::guard::{guard, guard_on};
use crate::logging::set_verbose;
use crate::registry::{self, Handle};

/// A broker that runs on a thread of its own from mdbrk_start to mdbrk_stop. Threads: setters one at a time, a second
/// thread meanwhile gets MD_EBUSY; the rest from any thread. A broker made before a fork is MD_ECLOSED in the child.
pub struct mdbrk_t {
    _opaque: [u8; 0],
}

pub(crate) struct Session {
    options: Mutex<BrokerOptions>,
    running: OnceLock<Running>,
    errno: AtomicI32,
}

struct Running {
    broker: Broker,
    endpoints: Vec<CString>,
}

impl Handle for Session {
    type Opaque = mdbrk_t;
    const TAG: usize = 7;

    fn set_errno(&self, number: c_int) {
        self.errno.store(number, Ordering::Relaxed);
    }
}

/// Makes a broker that will listen on an endpoint such as "tcp://127.0.0.1:5555"; several are separated by commas; port 0
/// picks a free one, which mdbrk_endpoint tells after mdbrk_start. verbose, if not 0, logs to standard error. Result: the
/// broker, or NULL on failure (md_errno tells why; NULL is MD_EINVAL). Ownership: the caller's, until mdbrk_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdbrk_new(endpoint: *const c_char, verbose: c_int) -> *mut mdbrk_t {
    guard(|| {
        set_verbose(verbose);
        // SAFETY: a string or NULL, as the header demands.
        let options = BrokerOptions::new(unsafe { text(endpoint, "endpoint") }?);
        options.validate()?;
        let session = Session { options: Mutex::new(options), running: OnceLock::new(), errno: AtomicI32::new(0) };
        Ok(registry::insert(session))
    })
}

/// Stops and destroys *self_p, with a DISCONNECT to its workers, and sets *self_p to NULL. Ownership: takes *self_p. Does
/// nothing if *self_p is NULL already; NULL for self_p itself sets md_errno to MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdbrk_destroy(self_p: *mut *mut mdbrk_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if !this.is_null() {
            registry::remove::<Session>(this)?;
        }
        Ok(())
    });
}

/// Adds an endpoint to listen on. Result: 0, or -1 on failure: MD_EINVAL for NULL, for what is no endpoint, and after the
/// start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdbrk_bind(this: *mut mdbrk_t, endpoint: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let endpoint = unsafe { text(endpoint, "endpoint") }?;
        session.prepare("bind", |options| *options = options.clone().bind(endpoint))
    })
}

/// Sets the interval between heartbeats to workers, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_heartbeat(this: *mut mdbrk_t, heartbeat_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let heartbeat = milliseconds(heartbeat_ms, "heartbeat")?;
        session.prepare("heartbeat", |options| options.heartbeat = heartbeat)
    })
}

/// Sets how many heartbeat intervals a worker may be silent before it counts as gone: 3 at first, at least 1. Result: 0,
/// or -1 on failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_liveness(this: *mut mdbrk_t, liveness: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let liveness = count(liveness, "liveness")?;
        session.prepare("liveness", |options| options.liveness = liveness)
    })
}

/// Sets how often a request is handed to a worker at most: 3 at first, at least 1; with 1 no request runs twice. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_attempts(this: *mut mdbrk_t, attempts: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let attempts = count(attempts, "max_attempts")?;
        session.prepare("max_attempts", |options| options.max_attempts = attempts)
    })
}

/// Sets how long one worker may take over a request, in milliseconds; 0, as at first, is no limit. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_attempt_timeout(this: *mut mdbrk_t, timeout_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let timeout = optional_milliseconds(timeout_ms, "attempt_timeout")?;
        session.prepare("attempt_timeout", |options| options.attempt_timeout = timeout)
    })
}

/// Sets how long a request may wait for a worker, in milliseconds: 300000 at first; 0 is no limit. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL, for other values, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_request_ttl(this: *mut mdbrk_t, ttl_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let ttl = optional_milliseconds(ttl_ms, "request_ttl")?;
        session.prepare("request_ttl", |options| options.request_ttl = ttl)
    })
}

/// Sets how many requests may wait, in all and for one service: 100000 each at first. Result: 0, or -1 on failure:
/// MD_EINVAL for NULL and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_queued(this: *mut mdbrk_t, in_all: usize, per_service: usize) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("max_queued", |options| {
            (options.max_queued, options.max_queued_per_service) = (in_all, per_service);
        })
    })
}

/// Sets how many bytes the waiting requests may hold, in all and for one service: 1 GiB each at first. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_queued_bytes(this: *mut mdbrk_t, in_all: usize, per_service: usize) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("max_queued_bytes", |options| {
            (options.max_queued_bytes, options.max_queued_bytes_per_service) = (in_all, per_service);
        })
    })
}

/// Sets the largest message that is accepted, in bytes: 256 MiB at first. Result: 0, or -1 on failure: MD_EINVAL for
/// NULL, for 0, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_message_bytes(this: *mut mdbrk_t, bytes: usize) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("max_message_bytes", |options| options.max_message_bytes = bytes)
    })
}

/// Sets how many services may have workers or waiting requests: 10000 at first. Result: 0, or -1 on failure: MD_EINVAL
/// for NULL and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_services(this: *mut mdbrk_t, services: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("max_services", |options| options.max_services = services))
}

/// Sets how many workers may be registered: 100000 at first. Result: 0, or -1 on failure: MD_EINVAL for NULL and after
/// the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_workers(this: *mut mdbrk_t, workers: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("max_workers", |options| options.max_workers = workers))
}

/// Sets how many sessions MDPX clients may have open: 100000 at first. Result: 0, or -1 on failure: MD_EINVAL for NULL
/// and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_max_sessions(this: *mut mdbrk_t, sessions: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("max_sessions", |options| options.max_sessions = sessions))
}

/// Sets how many requests one MDPX client may have outstanding: 16384 at first, at least 1. Result: 0, or -1 on
/// failure: MD_EINVAL for NULL, for 0, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_credit(this: *mut mdbrk_t, requests: u32) -> c_int {
    guard_on(this, |session: &Session| session.prepare("credit", |options| options.credit = requests))
}

/// Sets the shortest and the longest interval between heartbeats that an MDPX client or worker is granted, in
/// milliseconds: 10 and 60000 at first. Result: 0, or -1 on failure: MD_EINVAL for NULL, for values below 1, for a
/// shortest above the longest, and after the start.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_set_heartbeat_bounds(this: *mut mdbrk_t, min_ms: c_int, max_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let (min, max) = (milliseconds(min_ms, "heartbeat_min")?, milliseconds(max_ms, "heartbeat_max")?);
        session.prepare("heartbeat_bounds", |options| (options.heartbeat_min, options.heartbeat_max) = (min, max))
    })
}

/// Binds the endpoints and starts the broker's thread. Result: 0 once it listens, or -1 on failure: an endpoint that
/// cannot be bound, MD_EINVAL for a second start and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_start(this: *mut mdbrk_t) -> c_int {
    guard_on(this, |session: &Session| {
        let options = session.exclusive()?;
        if session.running.get().is_some() {
            return Err(invalid("this broker was started before"));
        }
        let broker = Broker::with_options(options.clone())?;
        let endpoints = broker.endpoints().iter().map(|endpoint| c_string(endpoint)).collect();
        let running = Running { broker, endpoints };
        session.running.set(running).map_err(|_| invalid("this broker was started before"))?;
        Ok(0)
    })
}

/// Result: the first endpoint that the broker listens on, its port resolved, or NULL on failure: MD_EINVAL before the
/// start, and for NULL. Ownership: the broker's, valid until mdbrk_destroy.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_endpoint(this: *mut mdbrk_t) -> *const c_char {
    guard_on(this, |session: &Session| session.endpoint(0))
}

/// Result: the endpoint at index, counted from 0, or NULL on failure: MD_EINVAL past the last, before the start, and for
/// NULL. Ownership: the broker's, valid until mdbrk_destroy.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_endpoint_at(this: *mut mdbrk_t, index: usize) -> *const c_char {
    guard_on(this, |session: &Session| session.endpoint(index))
}

/// What the broker has and has done, as a JSON object; mmi.stats gives the same. Result: the text, or NULL on failure:
/// MD_ECLOSED after mdbrk_stop, MD_EINVAL before the start and for NULL. Ownership: the caller's, who ends it with
/// free().
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_stats(this: *mut mdbrk_t) -> *mut c_char {
    guard_on(this, |session: &Session| {
        let stats = session.running()?.broker.stats()?;
        let json = serde_json::to_string(&stats)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("statistics as JSON: {error}")))?;
        duplicate(json.as_bytes())
    })
}

/// Ends the broker: its workers get a DISCONNECT and its endpoints are free again when the call returns. Result: 0, also
/// if it has ended already; -1 on failure: MD_EINVAL before the start and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_stop(this: *mut mdbrk_t) -> c_int {
    guard_on(this, |session: &Session| session.running()?.broker.stop().map(|()| 0))
}

/// How the last call on this broker ended: 0, or a number MD_E...; on the thread that made it always that thread's own
/// last call. md_errtext has the details. NULL, or a handle that is none: the thread's md_errno.
#[unsafe(no_mangle)]
pub extern "C" fn mdbrk_errno(this: *mut mdbrk_t) -> c_int {
    guard(|| Ok(errno(this, |session: &Session| session.errno.load(Ordering::Relaxed))))
}

impl Session {
    fn exclusive(&self) -> Result<MutexGuard<'_, BrokerOptions>> {
        registry::exclusive::<Session, _>(&self.options)
    }

    fn prepare(&self, option: &str, change: impl FnOnce(&mut BrokerOptions)) -> Result<c_int> {
        let mut options = self.exclusive()?;
        if self.running.get().is_some() {
            return Err(too_late(option));
        }
        let mut changed = options.clone();
        change(&mut changed);
        changed.validate()?;
        *options = changed;
        Ok(0)
    }

    fn running(&self) -> Result<&Running> {
        self.running.get().ok_or_else(|| invalid("this broker has not been started"))
    }

    fn endpoint(&self, index: usize) -> Result<*const c_char> {
        let endpoint = self.running()?.endpoints.get(index);
        endpoint.map(|text| text.as_ptr()).ok_or_else(|| invalid(format!("there is no endpoint {index}")))
    }
}
