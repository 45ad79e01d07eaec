//! Waiting for many sockets and a waker at once.
//!
//! libzmq signals a socket through a descriptor that says only that something has changed, and what has is asked of the
//! socket. `zmq_poll` asks every socket twice and makes two more system calls than it needs; where one message at a time
//! goes to and fro, that is a tenth of its way. So a socket that has just said that it has nothing is not asked again, and
//! after the wait only those are asked whose descriptor has stirred.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::error::Result;

use super::dealer::Dealer;
use super::router::Router;
use super::socket::{Socket, os_error};
use super::waker::Waker;

/// What to wait for on one socket or waker.
pub(crate) struct Interest<'a> {
    source: Source<'a>,
    writable: bool,
}

enum Source<'a> {
    Dealer(&'a Dealer),
    Socket(&'a Socket),
    Waker(&'a Waker),
}

impl<'a> Interest<'a> {
    /// Messages of a dealer; with `writable`, also that its connection stands and has room.
    pub(crate) fn dealer(dealer: &'a Dealer, writable: bool) -> Self {
        Interest { source: Source::Dealer(dealer), writable }
    }

    /// Messages of a router.
    pub(crate) fn router(router: &'a Router) -> Self {
        Interest { source: Source::Socket(router.socket()), writable: false }
    }

    /// That somebody wakes this thread. There is one at most in a wait.
    pub(crate) fn waker(waker: &'a Waker) -> Self {
        Interest { source: Source::Waker(waker), writable: false }
    }

    /// What is ready now. Afterwards the descriptors tell of everything else. `stirred` is whether one of them has.
    fn look(&self, stirred: bool) -> Result<Readiness> {
        let ask = |socket: &Socket, exactly: bool| match stirred {
            // Whoever reads finds out.
            true if !exactly => Ok(zmq_sys::ZMQ_POLLIN),
            true => socket.events(),
            false if socket.is_drained() && !exactly => Ok(0),
            false => socket.known_events(),
        };
        let readable = |events: u32| events & zmq_sys::ZMQ_POLLIN != 0;
        let both = |socket: &Socket| {
            let events = ask(socket, self.writable)?;
            let writable = self.writable && events & zmq_sys::ZMQ_POLLOUT != 0;
            Ok(Readiness { readable: readable(events), writable })
        };
        match self.source {
            Source::Waker(waker) => Ok(Readiness { readable: waker.is_woken(), writable: false }),
            Source::Socket(socket) => both(socket),
            Source::Dealer(dealer) => match dealer.connecting().filter(|_| self.writable) {
                // Its pipe would take messages already; what must be waited for is the connection.
                Some(connecting) => Ok(Readiness {
                    readable: readable(ask(dealer.socket(), false)?),
                    writable: readable(ask(&connecting, true)?),
                }),
                None => both(dealer.socket()),
            },
        }
    }

    fn for_each_fd(&self, mut each: impl FnMut(RawFd)) {
        match self.source {
            Source::Waker(waker) => each(waker.fd()),
            Source::Socket(socket) => each(socket.fd()),
            Source::Dealer(dealer) => {
                each(dealer.socket().fd());
                if let Some(connecting) = dealer.connecting().filter(|_| self.writable) {
                    each(connecting.fd());
                }
            }
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// This many of the interests are ready, as far as is known without reading; none where something stirred that turned out to
    /// be nothing.
    Ready(usize),
    /// The time is over.
    Timeout,
    /// A signal arrived in this thread.
    Interrupted,
}

/// What one interest is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// A message, or a wake-up, is there, or may be.
    pub(crate) readable: bool,
    /// The connection stands and has room.
    pub(crate) writable: bool,
}

/// Waits. Kept between waits for its memory only.
#[derive(Default)]
pub(crate) struct Poller {
    readiness: Vec<Readiness>,
    descriptors: Vec<libc::pollfd>,
}

impl Poller {
    /// Waits until an interest is ready or `timeout` is over; `None` waits as long as it takes. A timeout is rounded up
    /// to whole milliseconds.
    pub(crate) fn poll(&mut self, interests: &[Interest<'_>], timeout: Option<Duration>) -> Result<Woken> {
        let ready = self.look(interests)?;
        if ready > 0 {
            return Ok(Woken::Ready(ready));
        }
        let waker = interests.iter().find_map(|interest| match interest.source {
            Source::Waker(waker) => Some(waker),
            _ => None,
        });
        match self.sleep(waker, timeout)? {
            Woken::Ready(_) => Ok(Woken::Ready(self.look_again(interests)?)),
            woken => Ok(woken),
        }
    }

    /// How many of the interests are ready without waiting. Where none is, [`Poller::sleep`] waits for them.
    pub(crate) fn look(&mut self, interests: &[Interest<'_>]) -> Result<usize> {
        self.readiness.clear();
        for interest in interests {
            self.readiness.push(interest.look(false)?);
        }
        let ready = self.count();
        if ready == 0 {
            self.descriptors.clear();
            for interest in interests {
                interest.for_each_fd(|fd| self.descriptors.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 }));
            }
        }
        Ok(ready)
    }

    /// Waits until one of the descriptors of the last look stirs; meanwhile others may use the sockets. `waker` is the one
    /// among the interests.
    pub(crate) fn sleep(&mut self, waker: Option<&Waker>, timeout: Option<Duration>) -> Result<Woken> {
        let asleep = waker.map(Waker::fall_asleep);
        if matches!(asleep, Some(None)) {
            self.descriptors.iter_mut().for_each(|known| known.revents = 0);
            return Ok(Woken::Ready(1));
        }
        let timeout =
            timeout.map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the list is live and as long as it is said to be. A descriptor that has been closed meanwhile, or that
        // belongs to something else, is reported as such and read by nobody.
        match unsafe { libc::poll(self.descriptors.as_mut_ptr(), self.descriptors.len() as _, timeout) } {
            0 => Ok(Woken::Timeout),
            -1 => match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => Ok(Woken::Interrupted),
                errno => Err(os_error("cannot wait for messages", errno.unwrap_or_default())),
            },
            stirred => Ok(Woken::Ready(stirred as usize)),
        }
    }

    /// After a sleep: how many of the interests, which may be others now, are ready as far as descriptors that have stirred
    /// can tell.
    pub(crate) fn look_again(&mut self, interests: &[Interest<'_>]) -> Result<usize> {
        self.readiness.clear();
        let mut next = 0;
        for interest in interests {
            let mut has_stirred = false;
            interest.for_each_fd(|fd| {
                // Nearly always in the order of the last look.
                let known = self.descriptors.get(next).filter(|known| known.fd == fd);
                next += 1;
                let known = known.or_else(|| self.descriptors.iter().find(|known| known.fd == fd));
                has_stirred |= known.is_some_and(|known| known.revents != 0);
            });
            // A waker says by itself whether it was woken, which its descriptor need not tell.
            let may_be_ready = has_stirred || matches!(interest.source, Source::Waker(_));
            self.readiness.push(if may_be_ready { interest.look(true)? } else { Readiness::default() });
        }
        Ok(self.count())
    }

    /// What the interest at `index` of the last wait is ready for.
    pub(crate) fn readiness(&self, index: usize) -> Readiness {
        self.readiness.get(index).copied().unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.readiness.iter().filter(|readiness| readiness.readable || readiness.writable).count()
    }
}
