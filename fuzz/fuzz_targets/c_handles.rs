//! The C functions of clients, workers, requests and brokers, in any order with any arguments, between a broker that works
//! and endpoints where nobody is.
#![no_main]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use majordomo_c::*;
use majordomo_fuzz::arguments::{Handles, memory, owned, patience, pointer, small, string, text};
use majordomo_fuzz::input::Input;

type Number<T> = unsafe extern "C" fn(*mut T, c_int) -> c_int;
type Size<T> = unsafe extern "C" fn(*mut T, usize) -> c_int;
type Text<T> = unsafe extern "C" fn(*mut T, *const c_char) -> c_int;
type Ask<T> = unsafe extern "C" fn(*mut T) -> c_int;
type Give<T> = unsafe extern "C" fn(*mut T, *mut *mut mdmsg_t) -> c_int;
type Listen<T> = unsafe extern "C" fn(*mut T, md_event_handler_t, *mut c_void) -> c_int;

#[derive(Default)]
struct World {
    messages: Handles,
    options: Handles,
    clients: Handles,
    async_clients: Handles,
    workers: Handles,
    async_workers: Handles,
    requests: Handles,
    brokers: Handles,
    tickets: Vec<i64>,
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let others = broker();
    let mut world = World::default();
    // SAFETY: every pointer is NULL or good for what the function says of it; handles may be anything.
    unsafe {
        world.make(&mut input);
        world.make(&mut input);
        while !input.is_over() {
            match input.u8() % 16 {
                0 => world.make(&mut input),
                1 => world.message(&mut input),
                2 => world.options(&mut input),
                3 | 4 => world.client(&mut input),
                5..=7 => world.async_client(&mut input),
                8 | 9 => world.worker(&mut input),
                10..=12 => world.async_worker(&mut input),
                13 | 14 => world.request(&mut input),
                _ => world.broker(&mut input),
            }
        }
    }
    world.options.destroy(mdopt_destroy);
    world.requests.destroy(mdreq_destroy);
    world.clients.destroy(mdcli_destroy);
    world.async_clients.destroy(mdcli_async_destroy);
    world.workers.destroy(mdwrk_destroy);
    world.async_workers.destroy(mdwrk_async_destroy);
    world.brokers.destroy(mdbrk_destroy);
    world.messages.destroy(mdmsg_destroy);
    assert_eq!(md_handles(), 1, "but for {others:?}");
});

/// The endpoint of a broker that all runs share.
fn broker() -> &'static CString {
    static ENDPOINT: OnceLock<CString> = OnceLock::new();
    ENDPOINT.get_or_init(|| {
        // SAFETY: a string, and a handle that stays.
        unsafe {
            let broker = mdbrk_new(c"tcp://127.0.0.1:0".as_ptr(), 0);
            assert_eq!(mdbrk_start(broker), 0);
            CString::new(string(mdbrk_endpoint(broker)).expect("it listens")).expect("no NUL")
        }
    })
}

/// Where a client or worker may be told that a broker is. Nothing beyond this machine.
fn endpoint(input: &mut Input<'_>) -> Option<CString> {
    match input.u8() % 16 {
        0..=9 => Some(broker().clone()),
        10 | 11 => Some(c"tcp://127.0.0.1:1".to_owned()),
        12 => CString::new([b"tcp://127.0.0.1:1,", broker().to_bytes()].concat()).ok(),
        13 => Some(c"inproc://nobody".to_owned()),
        _ => text(input).filter(|text| !text.to_bytes().windows(2).any(|pair| pair == b"//")),
    }
}

fn name(input: &mut Input<'_>) -> Option<CString> {
    match input.u8() % 8 {
        0..=4 => Some(c"echo".to_owned()),
        5 => Some(c"mmi.service".to_owned()),
        _ => text(input),
    }
}

fn protocol(input: &mut Input<'_>) -> Option<CString> {
    match input.u8() % 8 {
        0..=6 => Some(input.pick(&[c"auto", c"0.1", c"0.2", c"x1"]).copied().unwrap_or(c"x1").to_owned()),
        _ => text(input),
    }
}

fn size(input: &mut Input<'_>) -> usize {
    *input.pick(&[1, 10, 1 << 20, 0, usize::MAX]).unwrap_or(&1)
}

/// What is told of connections is text.
unsafe extern "C" fn told(name: *const c_char, endpoint: *const c_char, detail: *const c_char, _: *mut c_void) {
    for text in [name, endpoint, detail] {
        // SAFETY: strings, as the header promises.
        unsafe { string(text) }.expect("never NULL");
    }
}

/// Functions of one type that take a handle and something simple.
struct Simple<T: 'static> {
    numbers: &'static [Number<T>],
    sizes: &'static [Size<T>],
    texts: &'static [Text<T>],
    asks: &'static [Ask<T>],
    listen: &'static [Listen<T>],
}

impl<T> Simple<T> {
    unsafe fn call(&self, input: &mut Input<'_>, handle: *mut T) {
        // SAFETY: strings and handlers, or NULL; handles may be anything.
        unsafe {
            match input.u8() % 5 {
                0 => input.pick(self.numbers).map(|call| call(handle, small(input))),
                1 => input.pick(self.sizes).map(|call| call(handle, size(input))),
                2 => input.pick(self.texts).map(|call| call(handle, pointer(&protocol(input)))),
                3 => input.pick(self.asks).map(|call| call(handle)),
                _ => {
                    let handler: md_event_handler_t = if input.flag() { Some(told) } else { None };
                    input.pick(self.listen).map(|call| call(handle, handler, null_mut()))
                }
            };
        }
    }
}

const CLIENT: Simple<mdcli_t> = Simple {
    numbers: &[mdcli_set_timeout, mdcli_set_retries, mdcli_set_deadline, mdcli_set_max_attempts, mdcli_set_fail_fast],
    sizes: &[mdcli_set_max_message_bytes],
    texts: &[mdcli_set_protocol],
    asks: &[mdcli_errno, mdcli_cancel],
    listen: &[mdcli_set_event_handler],
};

const OPTIONS: Simple<mdopt_t> = Simple {
    numbers: &[mdopt_set_timeout, mdopt_set_retries, mdopt_set_deadline, mdopt_set_max_attempts, mdopt_set_fail_fast],
    sizes: &[],
    texts: &[],
    asks: &[],
    listen: &[],
};

const ASYNC_CLIENT: Simple<mdcli_async_t> = Simple {
    numbers: &[
        mdcli_async_set_timeout,
        mdcli_async_set_retries,
        mdcli_async_set_deadline,
        mdcli_async_set_max_attempts,
        mdcli_async_set_fail_fast,
    ],
    sizes: &[mdcli_async_set_max_message_bytes, mdcli_async_set_max_in_flight, mdcli_async_set_max_waiting],
    texts: &[mdcli_async_set_protocol],
    asks: &[mdcli_async_errno, mdcli_async_fd],
    listen: &[mdcli_async_set_event_handler],
};

const WORKER: Simple<mdwrk_t> = Simple {
    numbers: &[mdwrk_set_heartbeat, mdwrk_set_liveness, mdwrk_set_reconnect, mdwrk_set_drain_timeout],
    sizes: &[mdwrk_set_max_message_bytes, mdwrk_set_prefetch],
    texts: &[mdwrk_set_protocol],
    asks: &[mdwrk_errno, mdwrk_start, mdwrk_attempt, mdwrk_cancelled, mdwrk_drain],
    listen: &[mdwrk_set_event_handler],
};

const ASYNC_WORKER: Simple<mdwrk_async_t> = Simple {
    numbers: &[
        mdwrk_async_set_heartbeat,
        mdwrk_async_set_liveness,
        mdwrk_async_set_reconnect,
        mdwrk_async_set_drain_timeout,
    ],
    sizes: &[mdwrk_async_set_concurrency, mdwrk_async_set_max_message_bytes, mdwrk_async_set_prefetch],
    texts: &[mdwrk_async_set_protocol],
    asks: &[mdwrk_async_errno, mdwrk_async_start, mdwrk_async_fd, mdwrk_async_drain],
    listen: &[mdwrk_async_set_event_handler],
};

const BROKER: Simple<mdbrk_t> = Simple {
    numbers: &[
        mdbrk_set_heartbeat,
        mdbrk_set_liveness,
        mdbrk_set_max_attempts,
        mdbrk_set_attempt_timeout,
        mdbrk_set_request_ttl,
    ],
    sizes: &[mdbrk_set_max_message_bytes, mdbrk_set_max_services, mdbrk_set_max_workers, mdbrk_set_max_sessions],
    texts: &[],
    asks: &[mdbrk_errno, mdbrk_start, mdbrk_stop],
    listen: &[],
};

const REQUEST: Simple<mdreq_t> =
    Simple { numbers: &[], sizes: &[], texts: &[], asks: &[mdreq_attempt, mdreq_cancelled], listen: &[] };

impl World {
    /// A handle of another type than the one that is asked for.
    fn other(&self) -> usize {
        self.messages.live.iter().chain(&self.clients.live).chain(&self.requests.live).last().copied().unwrap_or(3)
    }

    unsafe fn make(&mut self, input: &mut Input<'_>) {
        let verbose = c_int::from(input.u8() == 255);
        let (at, service) = (endpoint(input), name(input));
        // SAFETY: strings or NULL.
        unsafe {
            match input.u8() % 5 {
                0 => {
                    let client = mdcli_new(pointer(&at), verbose);
                    mdcli_set_timeout(client, 5);
                    mdcli_set_retries(client, 1);
                    self.clients.add(client);
                }
                1 => {
                    let client = mdcli_async_new(pointer(&at), verbose);
                    mdcli_async_set_timeout(client, 5);
                    self.async_clients.add(client);
                }
                2 => {
                    let worker = mdwrk_new(pointer(&at), pointer(&service), verbose);
                    mdwrk_set_recv_timeout(worker, 1);
                    mdwrk_set_drain_timeout(worker, 1);
                    self.workers.add(worker);
                }
                3 => {
                    let worker = mdwrk_async_new(pointer(&at), pointer(&service), verbose);
                    mdwrk_async_set_drain_timeout(worker, 1);
                    self.async_workers.add(worker);
                }
                _ => {
                    let listen = if input.flag() { Some(c"tcp://127.0.0.1:0".to_owned()) } else { at };
                    self.brokers.add(mdbrk_new(pointer(&listen), verbose));
                }
            }
        }
    }

    /// Messages to give away.
    unsafe fn message(&mut self, input: &mut Input<'_>) {
        let message = mdmsg_new();
        let (data, size, _) = memory(input);
        // SAFETY: memory of that size, or NULL, or a size that no memory has.
        unsafe { mdmsg_addmem(message, data, size) };
        self.messages.add(message);
    }

    /// Options to send with.
    unsafe fn options(&mut self, input: &mut Input<'_>) {
        let options: *mut mdopt_t = self.options.any(input, self.other());
        // SAFETY: places and handles, or NULL.
        unsafe {
            match input.u8() % 8 {
                0 => {
                    self.options.with_place(input, 1, |place| mdopt_destroy(place));
                }
                1 | 2 => self.options.add(mdopt_new()),
                _ => OPTIONS.call(input, options),
            }
        }
    }

    /// Calls a function that takes a message.
    unsafe fn give<R>(&mut self, input: &mut Input<'_>, call: impl FnOnce(*mut *mut mdmsg_t) -> R) -> R {
        let other = self.other();
        self.messages.with_place(input, other, call)
    }

    unsafe fn client(&mut self, input: &mut Input<'_>) {
        let client: *mut mdcli_t = self.clients.any(input, self.other());
        let service = name(input);
        // SAFETY: strings, places and handles, or NULL.
        unsafe {
            match input.u8() % 8 {
                0 => {
                    self.clients.with_place(input, 1, |place| mdcli_destroy(place));
                }
                1 => {
                    mdcli_set_reconnect(client, small(input), small(input));
                }
                2 => {
                    self.give(input, |place| mdcli_stream(client, pointer(&service), place));
                }
                3 => self.messages.add(mdcli_next(client)),
                4 => {
                    let reply = self.give(input, |place| mdcli_send(client, pointer(&service), place));
                    self.messages.add(reply);
                }
                5 => {
                    let options: *mut mdopt_t = self.options.any(input, self.other());
                    if input.flag() {
                        self.give(input, |place| mdcli_stream_with(client, pointer(&service), place, options));
                    } else {
                        let reply =
                            self.give(input, |place| mdcli_send_with(client, pointer(&service), place, options));
                        self.messages.add(reply);
                    }
                }
                _ => CLIENT.call(input, client),
            }
        }
    }

    unsafe fn async_client(&mut self, input: &mut Input<'_>) {
        let client: *mut mdcli_async_t = self.async_clients.any(input, self.other());
        let service = name(input);
        let (mut ticket, mut more) = (-7, -7);
        // SAFETY: strings, places and handles, or NULL.
        unsafe {
            match input.u8() % 12 {
                0 => {
                    self.async_clients.with_place(input, 1, |place| mdcli_async_destroy(place));
                }
                1 => {
                    mdcli_async_set_reconnect(client, small(input), small(input));
                }
                2 => {
                    let options: *mut mdopt_t = self.options.any(input, self.other());
                    let send = if input.flag() { mdcli_async_stream_with } else { mdcli_async_send_with };
                    let ticket = self.give(input, |place| send(client, pointer(&service), place, options));
                    self.tickets.push(ticket);
                }
                3 | 4 => {
                    let streams = input.flag();
                    let send = if streams { mdcli_async_stream } else { mdcli_async_send };
                    let ticket = self.give(input, |place| send(client, pointer(&service), place));
                    self.tickets.push(ticket);
                }
                5 | 6 => {
                    let ticket: *mut i64 = if input.u8() == 255 { null_mut() } else { &mut ticket };
                    self.messages.add(mdcli_async_recv(client, ticket, patience(input)));
                }
                7 | 8 => {
                    let ticket: *mut i64 = if input.u8() == 255 { null_mut() } else { &mut ticket };
                    let more: *mut c_int = if input.u8() == 255 { null_mut() } else { &mut more };
                    self.messages.add(mdcli_async_recv_part(client, ticket, more, patience(input)));
                }
                9 => {
                    let ticket = input.pick(&self.tickets).copied().unwrap_or(input.u64() as i64);
                    mdcli_async_cancel(client, ticket);
                    mdcli_async_outstanding(client);
                }
                _ => ASYNC_CLIENT.call(input, client),
            }
        }
    }

    unsafe fn worker(&mut self, input: &mut Input<'_>) {
        let worker: *mut mdwrk_t = self.workers.any(input, self.other());
        let reason = text(input);
        // SAFETY: strings, places and handles, or NULL.
        unsafe {
            match input.u8() % 12 {
                0 => {
                    self.workers.with_place(input, 1, |place| mdwrk_destroy(place));
                }
                1 => {
                    mdwrk_set_recv_timeout(worker, patience(input));
                }
                2 => {
                    mdwrk_set_keep_outcomes(worker, size(input), size(input), small(input));
                }
                3..=5 => {
                    let request = self.give(input, |place| mdwrk_recv(worker, place));
                    self.messages.add(request);
                }
                6 | 7 => {
                    let answers: [Give<mdwrk_t>; 2] = [mdwrk_partial, mdwrk_reply];
                    let answer = answers[input.below(2)];
                    self.give(input, |place| answer(worker, place));
                }
                8 => {
                    let fail = if input.flag() { mdwrk_fail } else { mdwrk_fail_retryable };
                    fail(worker, input.u32(), pointer(&reason));
                }
                9 => {
                    mdwrk_remaining(worker);
                }
                _ => WORKER.call(input, worker),
            }
        }
    }

    unsafe fn async_worker(&mut self, input: &mut Input<'_>) {
        let worker: *mut mdwrk_async_t = self.async_workers.any(input, self.other());
        // SAFETY: strings, places and handles, or NULL.
        unsafe {
            match input.u8() % 8 {
                0 => {
                    self.async_workers.with_place(input, 1, |place| mdwrk_async_destroy(place));
                }
                1 => {
                    mdwrk_async_set_keep_outcomes(worker, size(input), size(input), small(input));
                }
                2..=4 => self.requests.add(mdwrk_async_recv(worker, patience(input))),
                _ => ASYNC_WORKER.call(input, worker),
            }
        }
    }

    unsafe fn request(&mut self, input: &mut Input<'_>) {
        let request: *mut mdreq_t = self.requests.any(input, self.other());
        let reason = text(input);
        // SAFETY: strings, places and handles, or NULL.
        unsafe {
            match input.u8() % 8 {
                0 => {
                    self.requests.with_place(input, 1, |place| mdreq_destroy(place));
                }
                1 => self.messages.add(mdreq_body(request)),
                2 => {
                    string(mdreq_service(request));
                }
                3 | 4 => {
                    let answers: [Give<mdreq_t>; 2] = [mdreq_partial, mdreq_reply];
                    let answer = answers[input.below(2)];
                    self.give(input, |place| answer(request, place));
                }
                5 => {
                    let fail = if input.flag() { mdreq_fail } else { mdreq_fail_retryable };
                    fail(request, input.u32(), pointer(&reason));
                }
                6 => {
                    mdreq_remaining(request);
                }
                _ => REQUEST.call(input, request),
            }
        }
    }

    unsafe fn broker(&mut self, input: &mut Input<'_>) {
        let broker: *mut mdbrk_t = self.brokers.any(input, self.other());
        // SAFETY: strings, places and handles, or NULL.
        unsafe {
            match input.u8() % 8 {
                0 => {
                    self.brokers.with_place(input, 1, |place| mdbrk_destroy(place));
                }
                1 => {
                    let listen = if input.flag() { Some(c"tcp://127.0.0.1:0".to_owned()) } else { endpoint(input) };
                    mdbrk_bind(broker, pointer(&listen));
                }
                2 => {
                    mdbrk_set_max_queued(broker, size(input), size(input));
                    mdbrk_set_max_queued_bytes(broker, size(input), size(input));
                    mdbrk_set_credit(broker, input.u32());
                }
                3 => {
                    mdbrk_set_heartbeat_bounds(broker, small(input), small(input));
                }
                4 => {
                    string(mdbrk_endpoint(broker));
                    string(mdbrk_endpoint_at(broker, size(input)));
                }
                5 => {
                    owned(mdbrk_stats(broker));
                }
                _ => BROKER.call(input, broker),
            }
            // What was said of the last failure is a text.
            string(md_errtext()).expect("never NULL");
        }
    }
}
