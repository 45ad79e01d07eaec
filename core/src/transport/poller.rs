//! Waiting for many sockets and a waker at once.

use std::ffi::c_long;
use std::time::Duration;

use zmq_sys::zmq_pollitem_t;

use crate::error::Result;

use super::dealer::Dealer;
use super::router::Router;
use super::socket::{Socket, last_errno, os_error};
use super::waker::Waker;

/// What to wait for on one socket or waker.
pub(crate) struct Interest<'a> {
    source: Source<'a>,
    events: u32,
}

enum Source<'a> {
    Dealer(&'a Dealer),
    Socket(&'a Socket),
    Waker(&'a Waker),
}

impl<'a> Interest<'a> {
    /// Messages of a dealer; with `writable`, also that its connection stands and has room.
    pub(crate) fn dealer(dealer: &'a Dealer, writable: bool) -> Self {
        let events = zmq_sys::ZMQ_POLLIN | if writable { zmq_sys::ZMQ_POLLOUT } else { 0 };
        Interest { source: Source::Dealer(dealer), events }
    }

    /// Messages of a router.
    pub(crate) fn router(router: &'a Router) -> Self {
        Interest { source: Source::Socket(router.socket()), events: zmq_sys::ZMQ_POLLIN }
    }

    /// That somebody wakes this thread.
    pub(crate) fn waker(waker: &'a Waker) -> Self {
        Interest { source: Source::Waker(waker), events: zmq_sys::ZMQ_POLLIN }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// This many of the interests are ready.
    Ready(usize),
    /// The time is over.
    Timeout,
    /// A signal arrived in this thread.
    Interrupted,
}

/// What one interest is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// A message, or a wake-up, is there.
    pub(crate) readable: bool,
    /// The connection stands and has room.
    pub(crate) writable: bool,
}

/// Waits. Kept between waits for its memory only.
#[derive(Default)]
pub(crate) struct Poller {
    items: Vec<zmq_pollitem_t>,
    /// For each interest where its items begin: one, or two for a dealer that is still connecting.
    starts: Vec<usize>,
}

// SAFETY: the pointers in `items` are used only while `poll` borrows the sockets that they belong to.
unsafe impl Send for Poller {}

impl Poller {
    /// Waits until an interest is ready or `timeout` is over; `None` waits as long as it takes. A timeout is rounded up
    /// to whole milliseconds.
    pub(crate) fn poll<'a>(
        &mut self,
        interests: impl IntoIterator<Item = Interest<'a>>,
        timeout: Option<Duration>,
    ) -> Result<Woken> {
        self.items.clear();
        self.starts.clear();
        for interest in interests {
            self.starts.push(self.items.len());
            self.add(&interest);
        }
        let timeout = timeout
            .map_or(-1, |timeout| c_long::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_long::MAX));
        // SAFETY: the items' sockets are borrowed by the caller during this call, in this thread alone.
        match unsafe { zmq_sys::zmq_poll(self.items.as_mut_ptr(), self.items.len() as _, timeout) } {
            0 => Ok(Woken::Timeout),
            -1 if last_errno() == libc::EINTR => Ok(Woken::Interrupted),
            -1 => Err(os_error("cannot wait for messages", last_errno())),
            ready => Ok(Woken::Ready(ready as usize)),
        }
    }

    /// What the interest at `index` of the last wait is ready for.
    pub(crate) fn readiness(&self, index: usize) -> Readiness {
        let Some(&start) = self.starts.get(index) else { return Readiness::default() };
        let end = self.starts.get(index + 1).copied().unwrap_or(self.items.len());
        let has = |item: &zmq_pollitem_t, events| item.revents as u32 & events != 0;
        let readable = zmq_sys::ZMQ_POLLIN | zmq_sys::ZMQ_POLLERR;
        match &self.items[start..end] {
            [socket] => Readiness { readable: has(socket, readable), writable: has(socket, zmq_sys::ZMQ_POLLOUT) },
            [socket, connecting] => Readiness { readable: has(socket, readable), writable: has(connecting, readable) },
            _ => Readiness::default(),
        }
    }

    fn add(&mut self, interest: &Interest<'_>) {
        let mut push = |socket, fd, events: u32| {
            self.items.push(zmq_pollitem_t { socket, fd, events: events as _, revents: 0 });
        };
        match interest.source {
            Source::Waker(waker) => push(std::ptr::null_mut(), waker.fd(), interest.events),
            Source::Socket(socket) => push(socket.raw(), 0, interest.events),
            Source::Dealer(dealer) => match dealer.connecting() {
                // Its pipe would take messages already; what must be waited for is the connection.
                Some(connecting) if interest.events & zmq_sys::ZMQ_POLLOUT != 0 => {
                    push(dealer.socket().raw(), 0, zmq_sys::ZMQ_POLLIN);
                    push(connecting.raw(), 0, zmq_sys::ZMQ_POLLIN);
                }
                _ => push(dealer.socket().raw(), 0, interest.events),
            },
        }
    }
}
