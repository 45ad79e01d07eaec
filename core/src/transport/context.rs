//! libzmq's contexts: one that clients and workers of the process share, and one for each broker.

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::Result;
use crate::fork::Origin;

use super::socket::{io_error, last_errno, os_error};

/// How many sockets there may be at once: the most that libzmq's slots can number.
const MAX_SOCKETS: i32 = 65_535;

/// libzmq's context: its I/O thread and what all sockets share. It lives while any socket does; the last one to go waits
/// until lingering messages are out, or their linger time is over.
pub(crate) struct Context {
    raw: *mut c_void,
    origin: Origin,
}

// SAFETY: a libzmq context is made for use from many threads at once.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Where the process keeps its context. A lock that is held while another thread forks stays locked in the child, so
/// each generation has a cell of its own; the ones left behind are never freed.
struct Cell {
    origin: Origin,
    context: Mutex<Weak<Context>>,
}

static CELL: AtomicPtr<Cell> = AtomicPtr::new(ptr::null_mut());

impl Context {
    /// The process's context; made if there is none.
    pub(crate) fn shared() -> Result<Arc<Context>> {
        let cell = Cell::current();
        let mut slot = cell.context.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = slot.upgrade() {
            return Ok(context);
        }
        let context = Arc::new(Context::new(cell.origin)?);
        *slot = Arc::downgrade(&context);
        Ok(context)
    }

    /// A context for one socket alone. Once that socket and this are dropped, everything is closed for certain: what was
    /// sent has gone out (or its linger time is over), and addresses are free again.
    pub(crate) fn private() -> Result<Arc<Context>> {
        Context::new(Origin::here()).map(Arc::new)
    }

    pub(crate) fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// # Errors
    /// `BrokerUnreachable` without free descriptors.
    fn new(origin: Origin) -> Result<Context> {
        check_descriptors()?;
        // SAFETY: no preconditions.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(os_error("libzmq gave no context", last_errno()));
        }
        // SAFETY: the context is live. A refusal leaves libzmq's default of 1023 sockets.
        unsafe { zmq_sys::zmq_ctx_set(raw, zmq_sys::ZMQ_MAX_SOCKETS as i32, MAX_SOCKETS) };
        Ok(Context { raw, origin })
    }
}

/// A context opens five descriptors, one here and four with its first socket, and libzmq ends the process where it gets only
/// some of them. So it is asked for only where there are as many, and as many again for whoever opens some in between.
fn check_descriptors() -> Result<()> {
    let pipes: io::Result<Vec<_>> = (0..5).map(|_| io::pipe()).collect();
    pipes.map(drop).map_err(|error| io_error("libzmq has no descriptors to start with", &error))
}

impl Drop for Context {
    fn drop(&mut self) {
        // In a child of fork() the I/O thread does not exist: waiting for it would never end.
        if !self.origin.is_here() {
            return;
        }
        // SAFETY: the context is live, and every socket, which holds a reference, is closed.
        while unsafe { zmq_sys::zmq_ctx_term(self.raw) } == -1 && last_errno() == libc::EINTR {}
    }
}

impl Cell {
    fn current() -> &'static Cell {
        let origin = Origin::here();
        loop {
            let present = CELL.load(Ordering::Acquire);
            // SAFETY: a cell that was ever stored is never freed.
            if let Some(cell) = unsafe { present.as_ref() }
                && cell.origin == origin
            {
                return cell;
            }
            let fresh = Box::into_raw(Box::new(Cell { origin, context: Mutex::new(Weak::new()) }));
            if CELL.compare_exchange(present, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: another thread was faster; nobody else has seen this one.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}
