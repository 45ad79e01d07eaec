//! A libzmq socket that closes itself, and libzmq's errors as ours.

use std::cell::Cell;
use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::proto::mdpx;

use super::context::Context;
use super::frame::Frame;

/// Socket options that not every published `zmq-sys` names.
pub(super) const ZMQ_DISCONNECT_MSG: u32 = 111;
pub(super) const ZMQ_HICCUP_MSG: u32 = 114;
/// Of this project's libzmq alone, as the next one.
const ZMQ_TCP_NOTSENT_LOWAT: u32 = 10_001;
const ZMQ_KNOWN_EVENTS: u32 = 10_002;

/// How many bytes of a connection the operating system may hold beyond what it can send: enough to go on with until it is given
/// more. What waits is in this process already, and the operating system's copy of it only takes memory and time.
const UNSENT: i32 = 128 * 1024;

/// A socket of any type. It may move between threads, but only one may use it at a time.
pub(crate) struct Socket {
    raw: *mut c_void,
    /// Stirs when something may have changed.
    fd: RawFd,
    /// Whether the socket has just said that it has nothing, so that its descriptor tells of whatever comes next.
    drained: Cell<bool>,
    /// The option that says what the socket is known to be ready for.
    known_events: u32,
    origin: Origin,
    /// Dropped after the socket is closed.
    _context: Arc<Context>,
}

// SAFETY: libzmq lets a socket migrate between threads behind a full fence, which every hand-over in safe Rust is.
unsafe impl Send for Socket {}

/// What became of an attempt to send or receive without waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// There was nothing to receive, or no room to send.
    WouldBlock,
    /// A ROUTER knows no such peer.
    Unreachable,
}

impl Socket {
    pub(super) fn new(kind: zmq::SocketType, context: Arc<Context>) -> Result<Socket> {
        // SAFETY: the context is live.
        let raw = unsafe { zmq_sys::zmq_socket(context.raw(), kind as c_int) };
        if raw.is_null() {
            return Err(os_error("no socket could be opened", last_errno()));
        }
        let mut socket = Socket {
            raw,
            fd: -1,
            drained: Cell::new(false),
            known_events: ZMQ_KNOWN_EVENTS,
            origin: Origin::here(),
            _context: context,
        };
        socket.fd = socket.get_int(zmq_sys::ZMQ_FD, "descriptor")?;
        if socket.known_events().is_err() {
            socket.known_events = zmq_sys::ZMQ_EVENTS;
        }
        // A half-open handshake must not hold a connection for ever; dead hosts and cut cables must show.
        socket.set_int(zmq_sys::ZMQ_HANDSHAKE_IVL, 10_000)?;
        socket.set_int(zmq_sys::ZMQ_TCP_KEEPALIVE, 1)?;
        socket.set_int(zmq_sys::ZMQ_TCP_KEEPALIVE_IDLE, 30)?;
        socket.set_int(zmq_sys::ZMQ_TCP_KEEPALIVE_INTVL, 10)?;
        socket.set_int(zmq_sys::ZMQ_TCP_KEEPALIVE_CNT, 3)?;
        socket.set_if_known(ZMQ_TCP_NOTSENT_LOWAT, &UNSENT.to_ne_bytes());
        Ok(socket)
    }

    /// For the poller: readable where something may have changed since [`Socket::events`], or since there was nothing to
    /// receive, whichever was last.
    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    /// Whether nothing was there when the socket was last used: only the descriptor can tell of something new.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.get()
    }

    /// What the socket is ready for, as `ZMQ_POLLIN` and `ZMQ_POLLOUT`.
    pub(super) fn events(&self) -> Result<u32> {
        self.ask_events(zmq_sys::ZMQ_EVENTS)
    }

    /// The same as far as the socket knows without a system call: of all else its descriptor tells.
    pub(super) fn known_events(&self) -> Result<u32> {
        self.ask_events(self.known_events)
    }

    fn ask_events(&self, option: u32) -> Result<u32> {
        let events = self.get_int(option, "events")? as u32;
        self.drained.set(events & zmq_sys::ZMQ_POLLIN == 0);
        Ok(events)
    }

    pub(super) fn get_int(&self, option: u32, name: &str) -> Result<c_int> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>();
        // SAFETY: the socket is live; value and length are what the option takes.
        uninterrupted(|| unsafe {
            zmq_sys::zmq_getsockopt(self.raw, option as c_int, ptr::from_mut(&mut value).cast(), &mut length)
        })
        .map_err(|errno| os_error(&format!("libzmq does not tell a socket's {name}"), errno))?;
        Ok(value)
    }

    pub(super) fn set_int(&self, option: u32, value: i32) -> Result<()> {
        self.set(option, &value.to_ne_bytes())
    }

    pub(super) fn set_max_message(&self, bytes: usize) -> Result<()> {
        // Whatever the limit for bodies: a header frame of MDPX may be as long as it may.
        let limit = i64::try_from(bytes.max(mdpx::MAX_HEADER)).unwrap_or(i64::MAX);
        self.set(zmq_sys::ZMQ_MAXMSGSIZE, &limit.to_ne_bytes())
    }

    /// Sets an option that a libzmq without its draft API does not have; whether it has.
    pub(super) fn set_if_known(&self, option: u32, value: &[u8]) -> bool {
        self.set(option, value).is_ok()
    }

    fn set(&self, option: u32, value: &[u8]) -> Result<()> {
        // SAFETY: the socket is live and the value's length is right.
        let result = unsafe { zmq_sys::zmq_setsockopt(self.raw, option as c_int, value.as_ptr().cast(), value.len()) };
        check(result, || format!("libzmq refused socket option {option}"))
    }

    pub(super) fn connect(&self, endpoint: &str) -> Result<()> {
        let address = c_string(endpoint)?;
        // SAFETY: the socket is live, the address ends in NUL.
        uninterrupted(|| unsafe { zmq_sys::zmq_connect(self.raw, address.as_ptr()) })
            .map_err(|errno| os_error(&format!("cannot connect to {endpoint}"), errno))
    }

    /// Listens; the endpoint with its port filled in.
    pub(super) fn bind(&self, endpoint: &str) -> Result<String> {
        let address = c_string(endpoint)?;
        // SAFETY: the socket is live, the address ends in NUL.
        uninterrupted(|| unsafe { zmq_sys::zmq_bind(self.raw, address.as_ptr()) })
            .map_err(|errno| os_error(&format!("cannot listen on {endpoint}"), errno))?;
        self.last_endpoint()
    }

    /// Reports these events to the address; see [`Socket::stop_monitor`].
    pub(super) fn monitor(&self, address: &str, events: u32) -> Result<()> {
        let address = c_string(address)?;
        // SAFETY: the socket is live, the address ends in NUL.
        uninterrupted(|| unsafe { zmq_sys::zmq_socket_monitor(self.raw, address.as_ptr(), events as c_int) })
            .map_err(|errno| os_error("libzmq refuses to report on a socket", errno))
    }

    /// Ends the reports. In a child of fork() the socket is left alone.
    pub(super) fn stop_monitor(&self) {
        self.drained.set(false);
        if self.origin.is_here() {
            // SAFETY: the socket is live; no address means the end.
            unsafe { zmq_sys::zmq_socket_monitor(self.raw, ptr::null(), 0) };
        }
    }

    fn last_endpoint(&self) -> Result<String> {
        let mut buffer = [0u8; 1024];
        let mut length = buffer.len();
        // SAFETY: the socket is live, the buffer has the length it is said to have.
        let result = unsafe {
            zmq_sys::zmq_getsockopt(
                self.raw,
                zmq_sys::ZMQ_LAST_ENDPOINT as c_int,
                buffer.as_mut_ptr().cast(),
                ptr::from_mut(&mut length),
            )
        };
        check(result, || "libzmq does not say what it listens on".to_owned())?;
        let text = &buffer[..length.min(buffer.len())];
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Sends one frame without waiting. A frame that was not taken is still the caller's, whole.
    pub(super) fn send(&self, frame: &mut Frame, more: bool) -> Result<Outcome> {
        // libzmq may look at its mail first, and take from the descriptor what it would have told.
        self.drained.set(false);
        let flags = zmq_sys::ZMQ_DONTWAIT | if more { zmq_sys::ZMQ_SNDMORE } else { 0 };
        // SAFETY: socket and message are live. When taken, the message becomes empty, which dropping it allows for.
        self.repeat("send", || unsafe { zmq_sys::zmq_msg_send(frame.as_mut_ptr(), self.raw, flags as c_int) })
    }

    /// Sends a frame of these bytes, which are copied, without waiting.
    pub(super) fn send_copy(&self, bytes: &[u8], more: bool) -> Result<Outcome> {
        self.drained.set(false);
        let flags = zmq_sys::ZMQ_DONTWAIT | if more { zmq_sys::ZMQ_SNDMORE } else { 0 };
        // SAFETY: the socket is live, and the bytes are as many as they are said to be.
        self.repeat("send", || unsafe {
            zmq_sys::zmq_send(self.raw, bytes.as_ptr().cast(), bytes.len(), flags as c_int)
        })
    }

    /// Receives one frame without waiting.
    pub(super) fn recv(&self, frame: &mut Frame) -> Result<Outcome> {
        // SAFETY: socket and message are live; what the message held before is released.
        let outcome = self.repeat("receive", || unsafe {
            zmq_sys::zmq_msg_recv(frame.as_mut_ptr(), self.raw, zmq_sys::ZMQ_DONTWAIT as c_int)
        })?;
        self.drained.set(outcome == Outcome::WouldBlock);
        Ok(outcome)
    }

    /// A signal in the middle of a call that does not wait is no reason to give the call up.
    #[inline]
    fn repeat(&self, what: &str, mut call: impl FnMut() -> c_int) -> Result<Outcome> {
        while call() == -1 {
            match last_errno() {
                libc::EINTR => {}
                libc::EAGAIN => return Ok(Outcome::WouldBlock),
                libc::EHOSTUNREACH => return Ok(Outcome::Unreachable),
                errno => return Err(os_error(&format!("cannot {what}"), errno)),
            }
        }
        Ok(Outcome::Done)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // In a child of fork() the socket is the parent's.
        if self.origin.is_here() {
            // SAFETY: the socket is live, and nobody uses it afterwards. Its one error says that it is no socket.
            unsafe { zmq_sys::zmq_close(self.raw) };
        }
    }
}

/// What libzmq says went wrong last in this thread.
pub(super) fn last_errno() -> c_int {
    // SAFETY: no preconditions.
    unsafe { zmq_sys::zmq_errno() }
}

/// An errno of libzmq or of the operating system, known or not, as an error.
pub(super) fn os_error(what: &str, errno: c_int) -> Error {
    let kind = match errno {
        libc::EINVAL
        | libc::EPROTONOSUPPORT
        | libc::ENODEV
        | libc::EADDRNOTAVAIL
        | libc::ENAMETOOLONG
        | libc::ENOENT => ErrorKind::InvalidArgument,
        libc::EACCES | libc::EPERM => ErrorKind::Denied,
        // Descriptors come free again: worth another try.
        libc::EMFILE | libc::ENFILE => ErrorKind::BrokerUnreachable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("{what}: {}", errno_text(errno)))
}

/// An error of the standard library's as one of ours.
pub(super) fn io_error(what: &str, error: &io::Error) -> Error {
    os_error(what, error.raw_os_error().unwrap_or_default())
}

fn errno_text(errno: c_int) -> String {
    // libzmq's own numbers start here; the operating system has no words for them.
    const ZMQ_HAUSNUMERO: c_int = 156_384_712;
    match errno.wrapping_sub(ZMQ_HAUSNUMERO) {
        51 => "the socket cannot do this now (EFSM)".to_owned(),
        52 => "the transport does not fit the socket (ENOCOMPATPROTO)".to_owned(),
        53 => "the context was terminated (ETERM)".to_owned(),
        54 => "no I/O thread (EMTHREAD)".to_owned(),
        _ => io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// Repeats a call that a signal interrupted: libzmq looks at its mail first, and has then done nothing else yet.
fn uninterrupted(mut call: impl FnMut() -> c_int) -> std::result::Result<(), c_int> {
    while call() == -1 {
        match last_errno() {
            libc::EINTR => {}
            errno => return Err(errno),
        }
    }
    Ok(())
}

fn check(result: c_int, what: impl FnOnce() -> String) -> Result<()> {
    if result == -1 { Err(os_error(&what(), last_errno())) } else { Ok(()) }
}

fn c_string(endpoint: &str) -> Result<CString> {
    CString::new(endpoint).map_err(|_| Error::invalid(format!("endpoint {endpoint:?} contains a NUL character")))
}
