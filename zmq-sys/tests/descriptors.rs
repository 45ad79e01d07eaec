//! What libzmq does with the descriptors it opens, read back from the kernel.

#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod sockets;

use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::c_int;
use sockets::{Context, connected_pair};
use zmq_sys::*;

#[test]
fn threads_are_woken_through_eventfds() {
    let opened = Opened::from_now();
    let context = Context::new();
    let _socket = context.socket(ZMQ_DEALER);
    let targets = opened.descriptors();
    let eventfds = count(&targets, "anon_inode:[eventfd]");
    assert!(eventfds > 0, "{targets:?}");
    assert_eq!(
        targets.values().filter(|t| t.starts_with("socket:")).count(),
        0,
        "a pair of sockets stands in for an eventfd: {targets:?}"
    );
}

#[test]
fn no_descriptor_survives_an_exec() {
    let opened = Opened::from_now();
    let context = Context::new();
    let path = std::env::temp_dir().join(format!("zmq-sys-{}.ipc", std::process::id()));
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    connected_pair(&router, &dealer, &format!("ipc://{}", path.display()));

    let targets = opened.descriptors();
    // A listening, an accepted and a connecting one for each of tcp and ipc.
    let stream = targets.values().filter(|t| t.starts_with("socket:"));
    assert!(stream.count() >= 6, "{targets:?}");
    assert!(count(&targets, "anon_inode:[eventpoll]") > 0, "{targets:?}");

    for (fd, target) in &targets {
        // SAFETY: asks for flags of a number; a descriptor closed meanwhile gives -1.
        let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
        assert_ne!(flags, -1, "{fd} {target}");
        assert_ne!(flags & libc::FD_CLOEXEC, 0, "{fd} {target} is inherited");
    }
}

#[test]
fn keep_alive_arrives_at_both_ends() {
    let opened = Opened::from_now();
    let context = Context::new();
    let (router, dealer) = (context.socket(ZMQ_ROUTER), context.socket(ZMQ_DEALER));
    for (socket, idle, interval, probes) in [(&router, 78, 12, 6), (&dealer, 77, 11, 5)] {
        for (option, value) in [
            (ZMQ_TCP_KEEPALIVE, 1),
            (ZMQ_TCP_KEEPALIVE_IDLE, idle),
            (ZMQ_TCP_KEEPALIVE_INTVL, interval),
            (ZMQ_TCP_KEEPALIVE_CNT, probes),
        ] {
            socket.set_int(option, value).expect("keep-alive option");
        }
    }
    connected_pair(&router, &dealer, "tcp://127.0.0.1:*");

    let mut found = Vec::new();
    for fd in opened.descriptors().into_keys() {
        let connection = option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP)
            && option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Some(0);
        if connection {
            found.push((
                option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
                option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
                option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
                option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
            ));
        }
    }
    found.sort_unstable();
    let dealers = (Some(1), Some(77), Some(11), Some(5));
    let routers = (Some(1), Some(78), Some(12), Some(6));
    assert_eq!(found, [dealers, routers]);
}

/// What the process opens while this lives. The tests take turns: descriptors belong to the process, not to a test.
struct Opened {
    before: BTreeMap<c_int, String>,
    _turn: MutexGuard<'static, ()>,
}

impl Opened {
    fn from_now() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: all_descriptors(), _turn: turn }
    }

    /// The new descriptors and what each refers to.
    fn descriptors(&self) -> BTreeMap<c_int, String> {
        let mut now = all_descriptors();
        now.retain(|fd, target| self.before.get(fd) != Some(target));
        now
    }
}

fn all_descriptors() -> BTreeMap<c_int, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").expect("proc") {
        let entry = entry.expect("entry");
        // The directory being read is a descriptor too, and gone when its turn comes.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        if target.starts_with("/proc/") {
            continue;
        }
        let fd = entry.file_name().to_string_lossy().parse().expect("number");
        found.insert(fd, target);
    }
    found
}

fn count(targets: &BTreeMap<c_int, String>, wanted: &str) -> usize {
    targets.values().filter(|target| *target == wanted).count()
}

/// An integer option of a socket, `None` where the descriptor is not one or has no such option.
fn option(fd: c_int, level: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = mem::size_of::<c_int>() as libc::socklen_t;
    // SAFETY: a place for an int, with its size.
    let rc = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) };
    (rc == 0).then_some(value)
}
