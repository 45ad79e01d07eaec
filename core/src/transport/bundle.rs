//! One descriptor in the place of several sockets' descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::Result;

use super::dealer::Dealer;
use super::socket::io_error;

/// A descriptor that stirs with those of the sockets in it. They may come and go while somebody waits for it.
#[derive(Debug)]
pub(crate) struct Bundle {
    epoll: OwnedFd,
}

impl Bundle {
    /// An empty one.
    ///
    /// # Errors
    /// `BrokerUnreachable` without free descriptors, or where the operating system has none of this kind.
    pub(crate) fn new() -> Result<Bundle> {
        let epoll =
            epoll::create().map_err(|error| io_error("no descriptor could be opened to watch others by", &error))?;
        Ok(Bundle { epoll })
    }

    /// Adds a socket under a number of the caller's; whether that succeeded.
    pub(crate) fn add(&self, dealer: &Dealer, number: u64) -> bool {
        epoll::add(&self.epoll, dealer.socket().fd(), number)
    }

    /// Takes a socket out.
    pub(crate) fn remove(&self, dealer: &Dealer) {
        epoll::remove(&self.epoll, dealer.socket().fd());
    }

    /// Appends the numbers of sockets that have stirred; of very many, some. Does not wait.
    pub(crate) fn stirred(&self, into: &mut Vec<u64>) {
        epoll::ready(&self.epoll, into);
    }
}

impl AsFd for Bundle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(target_os = "linux")]
mod epoll {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    use std::ptr;

    /// How many are told of at once.
    const MANY: usize = 64;

    pub(super) fn create() -> io::Result<OwnedFd> {
        // SAFETY: the call takes no memory.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: it is open, and nobody else has it.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }

    pub(super) fn add(epoll: &OwnedFd, fd: RawFd, number: u64) -> bool {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: the event is live.
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) == 0 }
    }

    pub(super) fn remove(epoll: &OwnedFd, fd: RawFd) {
        // SAFETY: no event is needed for this.
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) };
    }

    pub(super) fn ready(epoll: &OwnedFd, into: &mut Vec<u64>) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MANY];
        // SAFETY: the list is as long as it is said to be.
        let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), MANY as i32, 0) };
        into.extend(events.iter().take(usize::try_from(count).unwrap_or(0)).map(|event| event.u64));
    }
}

/// Other systems have nothing of this kind: there is no bundle to be had.
#[cfg(not(target_os = "linux"))]
mod epoll {
    use std::io;
    use std::os::fd::{OwnedFd, RawFd};

    pub(super) fn create() -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn add(_: &OwnedFd, _: RawFd, _: u64) -> bool {
        false
    }

    pub(super) fn remove(_: &OwnedFd, _: RawFd) {}

    pub(super) fn ready(_: &OwnedFd, _: &mut Vec<u64>) {}
}
