//! `mdcli_t`: the blocking client.

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use majordomo::{Client, ClientOptions, Error, ErrorKind, Parts, RequestOptions, Result, Wake};

use crate::arguments::{count, invalid, milliseconds, optional_milliseconds, place, text};
use crate::error::last_call;
use crate::event::{Listening, md_event_handler_t};
use crate::guard::{guard, guard_on};
use crate::latch::Latch;
use crate::logging::set_verbose;
use crate::message::{self, mdmsg_t};
use crate::options::{self, mdopt_t};
use crate::registry::{self, Handle};

/// A blocking client: asks services by name and waits for the answer, with the Guide's timeout and retries. Threads: one
/// call at a time; a second thread meanwhile gets MD_EBUSY. A client made before a fork is MD_ECLOSED in the child.
pub struct mdcli_t {
    _opaque: [u8; 0],
}

pub(crate) struct Session {
    state: Mutex<State>,
    /// The connected client once more, for a destroy while another thread is in a call.
    closer: Latch<Client>,
    listening: Listening,
    errno: AtomicI32,
}

struct State {
    options: ClientOptions,
    /// What requests have beside the options of their client.
    request_options: RequestOptions,
    stream: Option<Stream>,
    /// Made by the first request, and anew after an option changed that a connection cannot change.
    client: Option<Arc<Client>>,
}

/// A stream that is being read, with the client it borrows.
struct Stream {
    // Declared, and so dropped, before the client that it borrows.
    parts: Parts<'static>,
    _client: Arc<Client>,
}

impl Handle for Session {
    type Opaque = mdcli_t;
    const TAG: usize = 2;

    fn set_errno(&self, number: c_int) {
        self.errno.store(number, Ordering::Relaxed);
    }
}

/// Makes a client of the broker at an endpoint such as "tcp://127.0.0.1:5555"; several endpoints are separated by
/// commas, and the next one is tried when the current one is silent. It connects with its first request. verbose, if not
/// 0, logs to standard error. Result: the client, or NULL on failure (md_errno tells why; NULL is MD_EINVAL). Ownership:
/// the caller's, until mdcli_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_new(broker: *const c_char, verbose: c_int) -> *mut mdcli_t {
    guard(|| {
        set_verbose(verbose);
        // SAFETY: a string or NULL, as the header demands.
        let options = ClientOptions::new(unsafe { text(broker, "broker") }?);
        options.validate()?;
        let request_options = RequestOptions::default();
        let state = Mutex::new(State { options, request_options, stream: None, client: None });
        let (closer, listening) = (Latch::new(), Listening::default());
        Ok(registry::insert(Session { state, closer, listening, errno: AtomicI32::new(0) }))
    })
}

/// Closes and destroys *self_p and sets it to NULL. Ownership: takes *self_p. Does nothing if *self_p is NULL already;
/// NULL for self_p itself sets md_errno to MD_EINVAL. Threads: a call that another thread is in ends with MD_ECLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_destroy(self_p: *mut *mut mdcli_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if this.is_null() {
            return Ok(());
        }
        if let Some(session) = registry::remove::<Session>(this)? {
            if let Some(client) = session.closer.shut() {
                client.close();
            }
            session.listening.end();
        }
        Ok(())
    });
}

/// Sets how long one attempt may take, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on failure (NULL and
/// other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_timeout(this: *mut mdcli_t, timeout_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let timeout = milliseconds(timeout_ms, "timeout")?;
        session.configure(|options| options.timeout = timeout)
    })
}

/// Sets how often a request is sent at most, the first time included: 3 at first, at least 1. Result: 0, or -1 on failure
/// (NULL and other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_retries(this: *mut mdcli_t, retries: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let retries = count(retries, "retries")?;
        session.configure(|options| options.retries = retries)
    })
}

/// Sets how long a whole request may take, in milliseconds; 0, as at first, is timeout times retries. Result: 0, or -1 on
/// failure (NULL and other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_deadline(this: *mut mdcli_t, deadline_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let deadline = optional_milliseconds(deadline_ms, "deadline")?;
        session.configure(|options| options.deadline = deadline)
    })
}

/// Sets the protocol: "0.1", "0.2", "x1" (MDPX), or "auto", as at first: the best that the broker knows, too. Result:
/// 0, or -1 on failure (NULL and other values are MD_EINVAL). The next request makes a new connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_set_protocol(this: *mut mdcli_t, protocol: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let protocol = unsafe { text(protocol, "protocol") }?.parse()?;
        session.reconnect_with(|options| options.protocol = protocol)
    })
}

/// Sets the largest message that is sent or accepted, in bytes: 256 MiB at first. Result: 0, or -1 on failure (NULL and 0
/// are MD_EINVAL). The next request makes a new connection.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_max_message_bytes(this: *mut mdcli_t, bytes: usize) -> c_int {
    guard_on(this, |session: &Session| session.reconnect_with(|options| options.max_message_bytes = bytes))
}

/// Sets the first and the longest pause before a broken connection is made again, in milliseconds: 100 and 32000 at
/// first. Result: 0, or -1 on failure (NULL and values below 1 are MD_EINVAL). The next request makes a new connection.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_reconnect(this: *mut mdcli_t, min_ms: c_int, max_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let (min, max) = (milliseconds(min_ms, "reconnect_min")?, milliseconds(max_ms, "reconnect_max")?);
        session.reconnect_with(|options| (options.reconnect_min, options.reconnect_max) = (min, max))
    })
}

/// Sets how often a request is handed to a worker at most: 1 to 65535; 0, as at first, leaves it to the broker. A
/// request of one attempt never runs twice: where it may have run, it fails with MD_EWORKERLOST. Result: 0, or -1 on
/// failure (NULL and other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_max_attempts(this: *mut mdcli_t, attempts: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let attempts = count(attempts, "max_attempts")?;
        session.configure_requests(|options| options.max_attempts = (attempts > 0).then_some(attempts))
    })
}

/// Sets whether a request fails with MD_ENOWORKER at once where its service has no worker: 1 yes; 0 no, as at first: it
/// waits for one. MDPX only. Result: 0, or -1 on failure (NULL is MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_set_fail_fast(this: *mut mdcli_t, fail_fast: c_int) -> c_int {
    guard_on(this, |session: &Session| session.configure_requests(|options| options.fail_fast = fail_fast != 0))
}

/// Sets who is told what happens to the connection: handler, with arg; nobody, as at first, if handler is NULL. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL for self. The next request makes a new connection. Ownership: arg stays the
/// caller's; the handler is not called any more once it is replaced or mdcli_destroy has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_set_event_handler(
    this: *mut mdcli_t,
    handler: md_event_handler_t,
    arg: *mut c_void,
) -> c_int {
    guard_on(this, |session: &Session| {
        session.reconnect_with(|options| options.on_event = session.listening.set(handler, arg))
    })
}

/// Sends *request_p to a service and waits for the reply, sending again when an attempt takes too long (over MDPX only
/// where the connection was lost). Result: the reply, or NULL on failure; mdcli_errno tells why: MD_ETIMEOUT when none came
/// in time, MD_ESERVICE when the handler failed, MD_EUNREACHABLE without a broker, MD_ETOOLARGE; over MDPX also
/// MD_ENOWORKER (see mdcli_set_fail_fast), MD_EQUEUEFULL, MD_EEXPIRED, MD_EWORKERLOST, MD_EATTEMPTS, as the broker says. A
/// signal that the calling thread handles meanwhile ends the call with MD_ECANCELLED. Ownership: takes *request_p and sets
/// it to NULL, whether the call succeeds or not (only a message or a client that cannot be used at all, NULL included, is
/// MD_EINVAL or MD_EBUSY and left alone); the reply is the caller's. What is left of a stream is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_send(
    this: *mut mdcli_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
) -> *mut mdmsg_t {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.send(service, request_p, std::ptr::null_mut()) }
    })
}

/// As mdcli_send, with options of this request in place of the client's; NULL for options chooses none. Result,
/// ownership: as mdcli_send; the options stay the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_send_with(
    this: *mut mdcli_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
    options: *mut mdopt_t,
) -> *mut mdmsg_t {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.send(service, request_p, options) }
    })
}

/// Sends *request_p to a service whose answer comes in parts (MDPX or 0.2); mdcli_next gives them, mdcli_cancel gives up
/// what is left. Result: 0, or -1 on failure; mdcli_errno tells why. Ownership: as mdcli_send. What is left of an earlier
/// stream is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_stream(
    this: *mut mdcli_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.stream(service, request_p, std::ptr::null_mut()) }
    })
}

/// As mdcli_stream, with options of this request in place of the client's; NULL for options chooses none. Result,
/// ownership: as mdcli_stream; the options stay the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_stream_with(
    this: *mut mdcli_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
    options: *mut mdopt_t,
) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.stream(service, request_p, options) }
    })
}

/// Waits for the next part of the answer to mdcli_stream; the final part is the last. Result: the part, or NULL: with
/// mdcli_errno 0 behind the last part, or else on failure, which ends the stream. MD_EINVAL if there is no stream, and
/// for NULL. Signals: as mdcli_send. Ownership: the part is the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_next(this: *mut mdcli_t) -> *mut mdmsg_t {
    guard_on(this, |session: &Session| {
        let mut state = session.exclusive()?;
        let stream = state.stream.as_mut().ok_or_else(|| invalid("there is no stream: mdcli_stream starts one"))?;
        match stream.parts.next_with(&mut until_signal) {
            Some(Ok(part)) => Ok(message::give(part)),
            Some(Err(failure)) => {
                state.stream = None;
                Err(failure)
            }
            None => {
                state.stream = None;
                Ok(std::ptr::null_mut())
            }
        }
    })
}

/// Gives up what is left of the stream that mdcli_stream started; over MDPX the broker and the worker are told at once.
/// Result: 0, also when there is no stream any more; -1 on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_cancel(this: *mut mdcli_t) -> c_int {
    guard_on(this, |session: &Session| {
        session.exclusive()?.stream = None;
        Ok(0)
    })
}

/// How the last call on this client ended: 0, or a number MD_E...; on the thread that made it always that thread's own
/// last call. md_errtext has the details. NULL, or a handle that is none: the thread's md_errno.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_errno(this: *mut mdcli_t) -> c_int {
    guard(|| Ok(errno(this, |session: &Session| session.errno.load(Ordering::Relaxed))))
}

/// What the `errno` function of a handle gives.
pub(crate) fn errno<H: Handle>(this: *mut H::Opaque, stored: impl FnOnce(&H) -> c_int) -> c_int {
    match registry::get::<H>(this) {
        Ok(handle) => last_call(this.addr()).unwrap_or_else(|| stored(&handle)),
        Err(_) => crate::error::md_errno(),
    }
}

/// The hook of a blocking call: a signal ends it.
pub(crate) fn until_signal(wake: Wake) -> ControlFlow<()> {
    match wake {
        Wake::Interrupted => ControlFlow::Break(()),
        Wake::Tick => ControlFlow::Continue(()),
    }
}

impl Session {
    fn exclusive(&self) -> Result<MutexGuard<'_, State>> {
        registry::exclusive::<Session, _>(&self.state)
    }

    /// # Safety
    /// The arguments of mdcli_send_with, as the header demands.
    unsafe fn send(
        &self,
        service: *const c_char,
        request_p: *mut *mut mdmsg_t,
        options: *mut mdopt_t,
    ) -> Result<*mut mdmsg_t> {
        let mut state = self.exclusive()?;
        // SAFETY: the caller's promise.
        let (request, service) = unsafe { (message::take(request_p, "request_p")?, text(service, "service")?) };
        let options = options::chosen(options)?.over(state.request_options());
        state.stream = None;
        let client = self.connected(&mut state)?;
        client.request_with(service, request, &options, &mut until_signal).map(message::give)
    }

    /// # Safety
    /// The arguments of mdcli_stream_with, as the header demands.
    unsafe fn stream(
        &self,
        service: *const c_char,
        request_p: *mut *mut mdmsg_t,
        options: *mut mdopt_t,
    ) -> Result<c_int> {
        let mut state = self.exclusive()?;
        // SAFETY: the caller's promise.
        let (request, service) = unsafe { (message::take(request_p, "request_p")?, text(service, "service")?) };
        let options = options::chosen(options)?.over(state.request_options());
        state.stream = None;
        let client = self.connected(&mut state)?;
        let parts = client.stream_with(service, request, &options)?;
        // SAFETY: the parts borrow the client inside the Arc, which stays where it is while the Arc beside them lives.
        let parts = unsafe { std::mem::transmute::<Parts<'_>, Parts<'static>>(parts) };
        state.stream = Some(Stream { parts, _client: Arc::clone(&client) });
        Ok(0)
    }

    /// Changes options that count from the next request on.
    fn configure(&self, change: impl FnOnce(&mut ClientOptions)) -> Result<c_int> {
        self.exclusive()?.change(change)
    }

    fn configure_requests(&self, change: impl FnOnce(&mut RequestOptions)) -> Result<c_int> {
        change_checked(&mut self.exclusive()?.request_options, change)
    }

    /// Changes options that a connection cannot change: it is closed, and the next request makes another.
    fn reconnect_with(&self, change: impl FnOnce(&mut ClientOptions)) -> Result<c_int> {
        let mut state = self.exclusive()?;
        state.change(change)?;
        (state.stream, state.client) = (None, None);
        self.closer.release();
        Ok(0)
    }

    fn connected(&self, state: &mut State) -> Result<Arc<Client>> {
        if let Some(client) = &state.client {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::with_options(connection_options(&state.options))?);
        if !self.closer.hold(&client) {
            return Err(Error::new(ErrorKind::Closed, "this mdcli_t has been destroyed"));
        }
        state.client = Some(Arc::clone(&client));
        Ok(client)
    }
}

impl State {
    fn change(&mut self, change: impl FnOnce(&mut ClientOptions)) -> Result<c_int> {
        let mut options = self.options.clone();
        change(&mut options);
        options.validate()?;
        self.options = options;
        Ok(0)
    }

    fn request_options(&self) -> RequestOptions {
        request_options(&self.options, &self.request_options)
    }
}

/// Changes options of requests, if they are valid then.
pub(crate) fn change_checked(options: &mut RequestOptions, change: impl FnOnce(&mut RequestOptions)) -> Result<c_int> {
    let mut changed = options.clone();
    change(&mut changed);
    changed.validate()?;
    *options = changed;
    Ok(0)
}

/// The options of a client's connections: the deadline is left to its requests, see [`request_options`].
pub(crate) fn connection_options(options: &ClientOptions) -> ClientOptions {
    let mut options = options.clone();
    options.deadline = None;
    options
}

/// The options that each request carries with it, so that a change does not need another connection.
pub(crate) fn request_options(options: &ClientOptions, more: &RequestOptions) -> RequestOptions {
    RequestOptions {
        timeout: Some(options.timeout),
        retries: Some(options.retries),
        deadline: options.deadline,
        ..more.clone()
    }
}

/// An option that has to be set before the first use.
pub(crate) fn too_late(option: &str) -> Error {
    invalid(format!("{option} is set before the first use"))
}
