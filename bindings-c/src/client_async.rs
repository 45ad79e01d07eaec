//! `mdcli_async_t`: many requests at once, answers as they come.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use majordomo::aio::{Client, ClientEvent, Inbox, Part};
use majordomo::{ClientOptions, Error, ErrorKind, RequestOptions, Result};

use crate::arguments::{count, invalid, milliseconds, optional_milliseconds, patience, place, text};
use crate::bell::Bell;
use crate::client::{change_checked, connection_options, errno, request_options, too_late};
use crate::event::{Listening, md_event_handler_t};
use crate::guard::{guard, guard_on};
use crate::logging::set_verbose;
use crate::message::{self, mdmsg_t};
use crate::options::{self, mdopt_t};
use crate::registry::{self, Handle};

/// An asynchronous client: mdcli_async_send returns at once, mdcli_async_recv gives the outcomes as they come. Threads:
/// any number may use it at once, also to send while others wait. A client made before a fork is MD_ECLOSED in the child.
pub struct mdcli_async_t {
    _opaque: [u8; 0],
}

/// In cache lines of its own: beside it in memory is the inbox, which the I/O thread writes to with each of the outcomes.
#[repr(align(64))]
pub(crate) struct Session {
    state: Mutex<State>,
    inbox: Arc<Inbox<ClientEvent>>,
    bell: Arc<Bell>,
    listening: Listening,
    errno: AtomicI32,
}

struct State {
    options: ClientOptions,
    /// What each request has from these and from what else was set.
    request_options: RequestOptions,
    /// Made by the first request.
    client: Option<Client>,
    /// That of the last request: the client's number of it.
    last_ticket: u64,
    /// Requests whose end nobody has received yet.
    outstanding: usize,
    /// What has come of them and nobody has received yet.
    ready: VecDeque<ClientEvent>,
    /// How many threads wait for the bell.
    waiting: usize,
    /// Set by a destroy while another thread is in a call.
    destroyed: bool,
}

/// What came of a request, as C gets it.
struct Outcome {
    ticket: i64,
    message: Result<*mut mdmsg_t>,
    more: bool,
}

impl Handle for Session {
    type Opaque = mdcli_async_t;
    const TAG: usize = 3;

    fn set_errno(&self, number: c_int) {
        self.errno.store(number, Ordering::Relaxed);
    }
}

/// Makes an asynchronous client of the broker at an endpoint such as "tcp://127.0.0.1:5555"; several endpoints are
/// separated by commas. It connects with its first request. verbose, if not 0, logs to standard error. Result: the client,
/// or NULL on failure (md_errno tells why; NULL is MD_EINVAL). Ownership: the caller's, until mdcli_async_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_new(broker: *const c_char, verbose: c_int) -> *mut mdcli_async_t {
    guard(|| {
        set_verbose(verbose);
        // SAFETY: a string or NULL, as the header demands.
        let options = ClientOptions::new(unsafe { text(broker, "broker") }?);
        options.validate()?;
        let bell = Arc::new(Bell::new()?);
        let ringer = Arc::clone(&bell);
        let inbox = Inbox::new(move || ringer.ring());
        let state = State {
            request_options: request_options(&options, &RequestOptions::default()),
            options,
            client: None,
            last_ticket: 0,
            outstanding: 0,
            ready: VecDeque::new(),
            waiting: 0,
            destroyed: false,
        };
        let (state, listening) = (Mutex::new(state), Listening::default());
        Ok(registry::insert(Session { state, inbox, bell, listening, errno: AtomicI32::new(0) }))
    })
}

/// Closes and destroys *self_p, gives up what is outstanding, and sets *self_p to NULL. Ownership: takes *self_p. Does
/// nothing if *self_p is NULL already; NULL for self_p itself sets md_errno to MD_EINVAL. Threads: another thread that
/// waits in mdcli_async_recv gets MD_ECLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_destroy(self_p: *mut *mut mdcli_async_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if this.is_null() {
            return Ok(());
        }
        if let Some(session) = registry::remove::<Session>(this)? {
            let mut state = session.locked()?;
            state.destroyed = true;
            if let Some(client) = &state.client {
                client.close();
            }
            drop(state);
            session.listening.end();
        }
        Ok(())
    });
}

/// Sets how long one attempt may take, in milliseconds: 2500 at first, at least 1. Result: 0, or -1 on failure (NULL and
/// other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_timeout(this: *mut mdcli_async_t, timeout_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let timeout = milliseconds(timeout_ms, "timeout")?;
        session.configure(|options| options.timeout = timeout)
    })
}

/// Sets how often a request is sent at most, the first time included: 3 at first, at least 1. Result: 0, or -1 on failure
/// (NULL and other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_retries(this: *mut mdcli_async_t, retries: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let retries = count(retries, "retries")?;
        session.configure(|options| options.retries = retries)
    })
}

/// Sets how long a whole request may take, in milliseconds; 0, as at first, is timeout times retries. Result: 0, or -1 on
/// failure (NULL and other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_deadline(this: *mut mdcli_async_t, deadline_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let deadline = optional_milliseconds(deadline_ms, "deadline")?;
        session.configure(|options| options.deadline = deadline)
    })
}

/// Sets the protocol: "0.1", "0.2", "x1" (MDPX), or "auto", as at first: the best that the broker knows, too. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL, for another version, and after the first request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_set_protocol(this: *mut mdcli_async_t, protocol: *const c_char) -> c_int {
    guard_on(this, |session: &Session| {
        // SAFETY: a string or NULL, as the header demands.
        let protocol = unsafe { text(protocol, "protocol") }?.parse()?;
        session.prepare("protocol", |options| options.protocol = protocol)
    })
}

/// Sets the largest message that is sent or accepted, in bytes: 256 MiB at first. Result: 0, or -1 on failure: MD_EINVAL
/// for NULL, for 0, and after the first request.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_max_message_bytes(this: *mut mdcli_async_t, bytes: usize) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("max_message_bytes", |options| options.max_message_bytes = bytes)
    })
}

/// Sets how many requests are in flight at once: 1000 at first. MDPX carries them on one connection, within what the
/// broker permits; 0.1 and 0.2 need a connection for each, and use 64 at most. Result: 0, or -1 on failure: MD_EINVAL
/// for NULL, for 0, and after the first request.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_max_in_flight(this: *mut mdcli_async_t, requests: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("max_in_flight", |options| options.max_in_flight = requests))
}

/// Sets how many further requests may wait for their turn; beyond these a request fails with MD_EQUEUEFULL: 10000 at
/// first. Result: 0, or -1 on failure: MD_EINVAL for NULL and after the first request.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_max_waiting(this: *mut mdcli_async_t, requests: usize) -> c_int {
    guard_on(this, |session: &Session| session.prepare("max_waiting", |options| options.max_waiting = requests))
}

/// Sets the first and the longest pause before a broken connection is made again, in milliseconds: 100 and 32000 at
/// first. Result: 0, or -1 on failure: MD_EINVAL for NULL, for values below 1, and after the first request.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_reconnect(this: *mut mdcli_async_t, min_ms: c_int, max_ms: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let (min, max) = (milliseconds(min_ms, "reconnect_min")?, milliseconds(max_ms, "reconnect_max")?);
        session.prepare("reconnect", |options| (options.reconnect_min, options.reconnect_max) = (min, max))
    })
}

/// Sets how often a request is handed to a worker at most: 1 to 65535; 0, as at first, leaves it to the broker. A
/// request of one attempt never runs twice: where it may have run, it fails with MD_EWORKERLOST. Result: 0, or -1 on
/// failure (NULL and other values are MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_max_attempts(this: *mut mdcli_async_t, attempts: c_int) -> c_int {
    guard_on(this, |session: &Session| {
        let attempts = count(attempts, "max_attempts")?;
        session.configure_requests(|options| options.max_attempts = (attempts > 0).then_some(attempts))
    })
}

/// Sets whether a request fails with MD_ENOWORKER at once where its service has no worker: 1 yes; 0 no, as at first: it
/// waits for one. MDPX only. Result: 0, or -1 on failure (NULL is MD_EINVAL). Applies to later requests.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_set_fail_fast(this: *mut mdcli_async_t, fail_fast: c_int) -> c_int {
    guard_on(this, |session: &Session| session.configure_requests(|options| options.fail_fast = fail_fast != 0))
}

/// Sets who is told what happens to the connection: handler, with arg; nobody, as at first, if handler is NULL. Result:
/// 0, or -1 on failure: MD_EINVAL for NULL for self and after the first request. Ownership: arg stays the caller's; the
/// handler is not called any more once it is replaced or mdcli_async_destroy has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_set_event_handler(
    this: *mut mdcli_async_t,
    handler: md_event_handler_t,
    arg: *mut c_void,
) -> c_int {
    guard_on(this, |session: &Session| {
        session.prepare("event_handler", |options| options.on_event = session.listening.set(handler, arg))
    })
}

/// Sends *request_p to a service and returns at once. Result: the request's ticket, above 0, or -1 on failure. Each
/// ticket has exactly one outcome, which mdcli_async_recv gives with it; the parts of a streamed answer are joined. An
/// outcome is also MD_EQUEUEFULL, when max_in_flight and max_waiting are reached, MD_ETOOLARGE and the like: -1 is about
/// the call itself. Ownership: takes *request_p and sets it to NULL, whether the call succeeds or not (only a message or a
/// client that cannot be used at all, NULL included, is MD_EINVAL or MD_EBUSY and left alone).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_send(
    this: *mut mdcli_async_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
) -> i64 {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.submit(service, request_p, std::ptr::null_mut(), false) }
    })
}

/// As mdcli_async_send, with options of this request in place of the client's; NULL for options chooses none. Result,
/// ownership: as mdcli_async_send; the options stay the caller's, and may be used by other threads meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_send_with(
    this: *mut mdcli_async_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
    options: *mut mdopt_t,
) -> i64 {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.submit(service, request_p, options, false) }
    })
}

/// The same for a service whose answer comes in parts (MDPX or 0.2): mdcli_async_recv_part gives each of them as it
/// comes. When parts that nobody receives exceed max_message_bytes, over MDPX the outcome is MD_EQUEUEFULL; over 0.2 their
/// connection is not read meanwhile. Result, ownership: as mdcli_async_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_stream(
    this: *mut mdcli_async_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
) -> i64 {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.submit(service, request_p, std::ptr::null_mut(), true) }
    })
}

/// As mdcli_async_stream, with options of this request in place of the client's; NULL for options chooses none. Result,
/// ownership: as mdcli_async_stream; the options stay the caller's, and may be used by other threads meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_stream_with(
    this: *mut mdcli_async_t,
    service: *const c_char,
    request_p: *mut *mut mdmsg_t,
    options: *mut mdopt_t,
) -> i64 {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for a message and a string, or NULL, as the header demands.
        unsafe { session.submit(service, request_p, options, true) }
    })
}

/// Waits for the next outcome of any request, at most wait_ms milliseconds; -1 is for ever, 0 not at all. Result: the
/// reply, with its request's ticket in *ticket_p; or NULL, with *ticket_p telling which request failed and
/// mdcli_async_errno why. NULL with *ticket_p 0 is about the call itself: MD_ETIMEOUT when nothing came in time,
/// MD_ECANCELLED when the thread handled a signal, MD_EINVAL when nothing is outstanding, and for NULL. Ownership: the
/// reply is the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_recv(
    this: *mut mdcli_async_t,
    ticket_p: *mut i64,
    wait_ms: c_int,
) -> *mut mdmsg_t {
    guard_on(this, |session: &Session| {
        // SAFETY: a place for the result or NULL, as the header demands.
        let ticket = unsafe { place(ticket_p, "ticket_p") }?;
        *ticket = 0;
        let outcome = session.receive(wait_ms)?;
        *ticket = outcome.ticket;
        outcome.message
    })
}

/// The same, telling also in *more_p whether further parts of the same answer follow: 1 yes, 0 no (always so for
/// mdcli_async_send). Result, ownership, NULL: as mdcli_async_recv.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdcli_async_recv_part(
    this: *mut mdcli_async_t,
    ticket_p: *mut i64,
    more_p: *mut c_int,
    wait_ms: c_int,
) -> *mut mdmsg_t {
    guard_on(this, |session: &Session| {
        // SAFETY: places for the results or NULL, as the header demands.
        let (ticket, more) = unsafe { (place(ticket_p, "ticket_p")?, place(more_p, "more_p")?) };
        (*ticket, *more) = (0, 0);
        let outcome = session.receive(wait_ms)?;
        (*ticket, *more) = (outcome.ticket, c_int::from(outcome.more));
        outcome.message
    })
}

/// Gives up a request: its outcome is MD_ECANCELLED, unless it has one already; over MDPX the broker and the worker are
/// told. Result: 0, also when the outcome was there first; -1 on failure: MD_EINVAL for what is no ticket of this client,
/// and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_cancel(this: *mut mdcli_async_t, ticket: i64) -> c_int {
    guard_on(this, |session: &Session| {
        let state = session.locked()?;
        let number = u64::try_from(ticket).ok().filter(|number| (1..=state.last_ticket).contains(number));
        match (number, &state.client) {
            (Some(number), Some(client)) => client.cancel(number),
            _ => return Err(invalid(format!("{ticket} is no ticket of this mdcli_async_t"))),
        }
        Ok(0)
    })
}

/// How many requests have been sent whose outcome mdcli_async_recv has not given yet. Result: the number; 0 on failure,
/// too (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_outstanding(this: *mut mdcli_async_t) -> usize {
    guard_on(this, |session: &Session| Ok(session.locked()?.outstanding))
}

/// A descriptor for poll() that is readable while outcomes wait; mdcli_async_recv with wait_ms 0 then gives them (now and
/// then there is none after all: MD_ETIMEOUT). Result: the descriptor, or -1 on failure (NULL is MD_EINVAL). Ownership:
/// the client's; do not read from it or close it.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_fd(this: *mut mdcli_async_t) -> c_int {
    guard_on(this, |session: &Session| Ok(session.bell.descriptor()))
}

/// How the last call on this client ended: 0, or a number MD_E...; on the thread that made it always that thread's own
/// last call. md_errtext has the details. NULL, or a handle that is none: the thread's md_errno.
#[unsafe(no_mangle)]
pub extern "C" fn mdcli_async_errno(this: *mut mdcli_async_t) -> c_int {
    guard(|| Ok(errno(this, |session: &Session| session.errno.load(Ordering::Relaxed))))
}

impl Session {
    /// Never held while waiting.
    #[inline]
    fn locked(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| failed_before())
    }

    /// Changes options that each request carries.
    fn configure(&self, change: impl FnOnce(&mut ClientOptions)) -> Result<c_int> {
        let mut state = self.locked()?;
        let mut options = state.options.clone();
        change(&mut options);
        options.validate()?;
        state.request_options = request_options(&options, &state.request_options);
        state.options = options;
        Ok(0)
    }

    fn configure_requests(&self, change: impl FnOnce(&mut RequestOptions)) -> Result<c_int> {
        change_checked(&mut self.locked()?.request_options, change)
    }

    /// Changes options of the connections.
    fn prepare(&self, option: &str, change: impl FnOnce(&mut ClientOptions)) -> Result<c_int> {
        if self.locked()?.client.is_some() {
            return Err(too_late(option));
        }
        self.configure(change)
    }

    /// # Safety
    /// The arguments of mdcli_async_send_with, as the header demands.
    #[inline(always)]
    unsafe fn submit(
        &self,
        service: *const c_char,
        request_p: *mut *mut mdmsg_t,
        options: *mut mdopt_t,
        stream: bool,
    ) -> Result<i64> {
        // SAFETY: the caller's promise.
        let (service, request) = unsafe { (text(service, "service"), message::take(request_p, "request_p")?) };
        let service = service?;
        let chosen = if options.is_null() { None } else { Some(options::chosen(options)?) };
        let mut state = self.locked()?;
        if state.destroyed {
            return Err(Error::new(ErrorKind::Closed, "this mdcli_async_t has been destroyed"));
        }
        let State { options, request_options, client, last_ticket, outstanding, .. } = &mut *state;
        let client = match client {
            Some(client) => client,
            None => client.insert(Client::with_options(connection_options(options))?),
        };
        let chosen = chosen.map(|chosen| chosen.over(request_options.clone()));
        let options = chosen.as_ref().unwrap_or(request_options);
        // Nobody else asks this client, so it gives the next number.
        let token = *last_ticket + 1;
        *last_ticket = if stream {
            client.submit(service, request, options, &self.inbox, token)
        } else {
            client.submit_whole(service, request, options, &self.inbox, token)
        };
        debug_assert_eq!(*last_ticket, token);
        *outstanding += 1;
        Ok(last_ticket.cast_signed())
    }

    /// The next part of any outcome.
    #[inline(always)]
    fn receive(&self, wait_ms: c_int) -> Result<Outcome> {
        let deadline = patience(wait_ms)?.map(|patience| Instant::now() + patience);
        let mut state = self.locked()?;
        loop {
            if state.ready.is_empty() {
                state.collect(&self.inbox);
            }
            let event = state.next();
            // The bell is hushed when the last event is taken, not with each: that would be two system calls for each.
            if state.ready.is_empty() {
                self.hush(&state);
            }
            if let Some(event) = event {
                drop(state);
                return Ok(event.into());
            }
            if state.outstanding == 0 {
                return Err(invalid("no request is outstanding"));
            }
            state.waiting += 1;
            drop(state);
            let rung = self.bell.wait(deadline);
            state = self.locked()?;
            state.waiting -= 1;
            if !rung? {
                return Err(Error::new(ErrorKind::Timeout, format!("no request came to an end within {wait_ms} ms")));
            }
        }
    }

    /// All that had come is taken. Apart, as all that is not done with each event, so that what is done is short.
    #[inline(never)]
    fn hush(&self, state: &State) {
        self.bell.hush();
        // Something has come meanwhile, or whoever waits beside this thread is to learn that nothing will.
        if !self.inbox.is_empty() || (state.outstanding == 0 && state.waiting > 0) {
            self.bell.ring();
        }
    }
}

impl From<ClientEvent> for Outcome {
    #[inline]
    fn from(event: ClientEvent) -> Self {
        let (message, more) = match event.part {
            Part::Partial(part) => (Ok(message::give(part.into_message())), true),
            Part::Done(result) => (result.map(message::give), false),
        };
        Outcome { ticket: event.token.cast_signed(), message, more }
    }
}

#[cold]
fn failed_before() -> Error {
    Error::new(ErrorKind::Internal, "an earlier call on this client failed inside")
}

impl State {
    /// Takes all that has come.
    #[inline(never)]
    fn collect(&mut self, inbox: &Inbox<ClientEvent>) {
        // The memory goes from hand to hand: nothing is copied for this.
        let mut batch = Vec::from(std::mem::take(&mut self.ready));
        inbox.drain(&mut batch);
        self.ready = batch.into();
    }

    #[inline]
    fn next(&mut self) -> Option<ClientEvent> {
        let first = self.ready.front()?;
        if let Part::Done(_) = first.part {
            self.outstanding -= 1;
        }
        self.ready.pop_front()
    }
}
