//! Which system functions libzmq calls. The linker gives libzmq the functions defined here in place of the C library's;
//! they count and pass the call on. So a macro missing from the build shows as the other function being called.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{clockid_t, sockaddr, socklen_t, timespec};
use sockets::{Context, TOO_LONG_MS, connected_pair};
use zmq_sys::*;

static WALL_CLOCK: AtomicUsize = AtomicUsize::new(0);
static SOCKETS: AtomicUsize = AtomicUsize::new(0);
static INHERITABLE_SOCKETS: AtomicUsize = AtomicUsize::new(0);
static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
static INHERITABLE_ACCEPTED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Readings of the monotonic clock by this thread; the Rust library's are on other threads or outside the count.
    static MONOTONIC: Cell<usize> = const { Cell::new(0) };
    /// Writes of this thread: among them those that wake another one.
    static WRITES: Cell<usize> = const { Cell::new(0) };
    /// Reads of this thread.
    static READS: Cell<usize> = const { Cell::new(0) };
    /// How often this thread has polled.
    static POLLS: Cell<usize> = const { Cell::new(0) };
    /// How often this thread has asked for the process's id.
    static IDS: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn timers_follow_the_monotonic_clock() {
    let context = Context::new();
    let socket = context.socket(ZMQ_DEALER);
    let mut item = zmq_pollitem_t { socket: socket.raw(), events: ZMQ_POLLIN as i16, ..Default::default() };
    let before = MONOTONIC.get();
    // SAFETY: one valid item; nothing arrives, so this waits out its time.
    let ready = unsafe { zmq_poll(&raw mut item, 1, 20) };
    assert_eq!(ready, 0);
    assert!(MONOTONIC.get() > before, "the time was taken elsewhere");
    assert_eq!(WALL_CLOCK.load(Ordering::SeqCst), 0, "gettimeofday was asked");
}

/// A flag set after the descriptor exists leaves a gap in which another thread may start a program.
#[test]
fn sockets_are_born_close_on_exec() {
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    assert!(SOCKETS.load(Ordering::SeqCst) >= 2);
    assert_eq!(INHERITABLE_SOCKETS.load(Ordering::SeqCst), 0);
    assert!(ACCEPTED.load(Ordering::SeqCst) >= 1);
    assert_eq!(INHERITABLE_ACCEPTED.load(Ordering::SeqCst), 0);
}

/// Each time that some messages have been read the sending side hears that it may go on, and is woken for it.
#[test]
fn a_message_is_told_of_once_and_not_with_each_frame_of_the_next() {
    const FRAMES: usize = 1000;
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    // The fewest that there can be: one message is half of them.
    router.set_int(ZMQ_RCVHWM, 2).expect("an option");
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    dealer.send(&[&b"frame"[..]; FRAMES]);
    let before = WRITES.get();
    assert_eq!(router.receive().len(), 1 + FRAMES);
    assert!(WRITES.get() - before <= 1, "{} writes", WRITES.get() - before);
}

#[test]
fn what_is_there_is_asked_of_the_system_once() {
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    let asked = || (READS.get(), POLLS.get(), IDS.get());
    let look = || {
        // SAFETY: room for no byte at all.
        assert_eq!(unsafe { zmq_recv(router.raw(), std::ptr::null_mut(), 0, ZMQ_DONTWAIT as c_int) }, -1);
        // SAFETY: no precondition.
        assert_eq!(unsafe { zmq_errno() }, libc::EAGAIN);
    };
    look();
    let before = asked();
    look();
    assert_eq!(asked(), (before.0 + 1, before.1, before.2));
    // Nor is anything asked of who this is when others are woken or waited for.
    dealer.send(&[b"message"]);
    router.receive();
    assert_eq!(IDS.get(), before.2);
}

#[test]
fn what_is_known_is_told_without_a_look_and_the_descriptor_tells_of_the_rest() {
    const ZMQ_KNOWN_EVENTS: u32 = 10_002;
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    let is_readable = |option| router.int(option) as u32 & ZMQ_POLLIN != 0;
    let stirs = |milliseconds| {
        let mut descriptor = libc::pollfd { fd: router.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor.
        unsafe { libc::poll(&raw mut descriptor, 1, milliseconds) == 1 }
    };
    // Of the connection.
    assert!(!is_readable(ZMQ_EVENTS));
    for _ in 0..3 {
        dealer.send(&[b"message"]);
        assert!(stirs(TOO_LONG_MS));
        let before = (READS.get(), POLLS.get());
        assert!(!is_readable(ZMQ_KNOWN_EVENTS), "nobody has looked");
        assert_eq!((READS.get(), POLLS.get()), before);
        assert!(stirs(0), "it stirs until somebody looks");
        assert!(is_readable(ZMQ_EVENTS) && is_readable(ZMQ_KNOWN_EVENTS));
        router.receive();
        assert!(!is_readable(ZMQ_KNOWN_EVENTS) && !stirs(0));
    }
}

// Each of these has the C library's name and signature and does what it does, by the system call it stands for.

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(now: *mut libc::timeval, zone: *mut c_void) -> c_int {
    WALL_CLOCK.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::syscall(libc::SYS_gettimeofday, now, zone) as c_int }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, now: *mut timespec) -> c_int {
    if clock == libc::CLOCK_MONOTONIC {
        // A thread that ends may ask for the time after its thread-locals are gone.
        let _ = MONOTONIC.try_with(|readings| readings.set(readings.get() + 1));
    }
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock as c_long, now) as c_int }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    SOCKETS.fetch_add(1, Ordering::SeqCst);
    if kind & libc::SOCK_CLOEXEC == 0 {
        INHERITABLE_SOCKETS.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: three numbers.
    unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) as c_int }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept(fd: c_int, peer: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the caller's arguments, passed on.
    unsafe { accept4(fd, peer, length, 0) }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept4(fd: c_int, peer: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    ACCEPTED.fetch_add(1, Ordering::SeqCst);
    if flags & libc::SOCK_CLOEXEC == 0 {
        INHERITABLE_ACCEPTED.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::syscall(libc::SYS_accept4, fd, peer, length, flags) as c_int }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, length: usize) -> isize {
    WRITES.set(WRITES.get() + 1);
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::syscall(libc::SYS_write, descriptor, bytes, length) as isize }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn read(descriptor: c_int, bytes: *mut c_void, length: usize) -> isize {
    let _ = READS.try_with(|reads| reads.set(reads.get() + 1));
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::syscall(libc::SYS_read, descriptor, bytes, length) as isize }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(descriptors: *mut libc::pollfd, count: libc::nfds_t, milliseconds: c_int) -> c_int {
    POLLS.set(POLLS.get() + 1);
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let time = timespec { tv_sec: seconds.into(), tv_nsec: c_long::from(rest) * 1_000_000 };
    let time = if milliseconds < 0 { std::ptr::null() } else { &raw const time };
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::ppoll(descriptors, count, time, std::ptr::null()) }
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn getpid() -> libc::pid_t {
    // A thread that begins or ends may ask when its thread-locals are not there.
    let _ = IDS.try_with(|ids| ids.set(ids.get() + 1));
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getpid) as libc::pid_t }
}
