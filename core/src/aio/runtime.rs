//! The one I/O thread of the process: started with the first handle, ended with the last.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Result;
use crate::fork::Origin;
use crate::transport::{self, Waker};

use super::command::Command;
use super::engine::Engine;
use super::reactor::Reactor;

/// How long the last handle waits for the thread to say its farewells: a little more than sockets linger.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Keeps the I/O thread alive.
#[derive(Clone)]
pub(super) struct Runtime(Arc<Lifetime>);

impl Runtime {
    /// The process's I/O thread, started if it does not run.
    ///
    /// # Errors
    /// `Internal` where the operating system gives no thread, `BrokerUnreachable` where it gives no descriptors to wake it by.
    pub(super) fn shared() -> Result<Runtime> {
        let cell = Cell::current();
        let mut slot = lock(&cell.lifetime);
        if let Some(lifetime) = slot.upgrade() {
            return Ok(Runtime(lifetime));
        }
        let queue = Arc::new(Queue::new(cell.origin)?);
        let reactor = Reactor::new(queue.clone())?;
        let thread = transport::spawn("majordomo-aio", move || reactor.run())?;
        let lifetime = Arc::new(Lifetime { queue, thread: Some(thread) });
        *slot = Arc::downgrade(&lifetime);
        Ok(Runtime(lifetime))
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.0.queue
    }
}

struct Lifetime {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !self.queue.origin.is_here() {
            // The thread stayed in the parent: there is nothing to wait for, and nothing that could be detached.
            mem::forget(thread);
            return;
        }
        self.queue.push(Command::Stop);
        // The last handle may be dropped by a waker, on the very thread. And a waker that waits for a lock of the thread
        // that drops the last handle must not wait for ever; so the wait has an end.
        if thread.thread().id() != thread::current().id() && self.queue.wait_until_ended(FAREWELL) {
            let _ = thread.join();
        }
    }
}

/// Commands on their way to the I/O thread. It takes all that are there at once, and is woken once for them.
///
/// Aligned so that what all threads write here is in no cache line of what lies beside it.
#[repr(align(64))]
pub(super) struct Queue {
    origin: Origin,
    waker: Waker,
    /// What commands are carried out on: by the I/O thread, which waits for it, or by a caller who finds it free.
    /// Locked before `state`.
    engine: Mutex<Engine>,
    state: Mutex<QueueState>,
    ended: Condvar,
    next_id: AtomicU64,
}

#[derive(Default)]
struct QueueState {
    commands: Vec<Command>,
    /// The I/O thread takes no more commands.
    closed: bool,
    /// The I/O thread has closed all its sockets.
    ended: bool,
}

impl Queue {
    fn new(origin: Origin) -> Result<Queue> {
        Ok(Queue {
            origin,
            waker: Waker::new()?,
            engine: Mutex::new(Engine::new()),
            state: Mutex::default(),
            ended: Condvar::new(),
            next_id: AtomicU64::new(1),
        })
    }

    /// The process that the handles of this thread belong to.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// A number for a client or a worker that no other has.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands a command to the I/O thread; drops it where there is none any more.
    pub(super) fn push(&self, command: Command) {
        self.push_in_order(|| command);
    }

    /// Hands over a command that is made when its turn has come, so that it can bear a number in the order of the commands.
    pub(super) fn push_in_order(&self, command: impl FnOnce() -> Command) {
        if self.origin.is_here() {
            let state = self.lock();
            let command = command();
            self.put(state, command);
        }
    }

    /// As [`Queue::push_in_order`], for a command that should be carried out in this thread if it can be: one after which
    /// there will be nothing to do but wait, or one with a large body. Small ones that come in numbers are better handed
    /// over, and go out together.
    pub(super) fn push_alone(&self, command: impl FnOnce() -> Command) {
        let engine = if self.origin.is_here() { self.engine.try_lock().ok() } else { None };
        let Some(mut engine) = engine else { return self.push_in_order(command) };
        let state = self.lock();
        let command = command();
        // What was asked before comes before, and all of it before the end.
        if state.closed || !state.commands.is_empty() || !engine.is_ready_for(&command) {
            drop(engine);
            return self.put(state, command);
        }
        drop(state);
        let carried_out = catch_unwind(AssertUnwindSafe(|| engine.carry_out(command)));
        drop(engine);
        if carried_out.is_err() {
            log::error!("an asynchronous call panicked; this is a bug");
        }
        if carried_out.unwrap_or(true) {
            self.waker.wake();
        }
    }

    /// Does, in an event loop's thread, what there is to do for these handles.
    pub(super) fn look_after(&self, handles: &[u64], look: fn(&mut Engine, u64)) {
        let mut engine = self.engine();
        let looked = catch_unwind(AssertUnwindSafe(|| engine.look_after(handles, look)));
        let mut wakes = mem::take(&mut engine.io.wakes);
        drop(engine);
        if looked.is_err() {
            log::error!("an event loop's turn panicked; this is a bug");
        }
        if looked.unwrap_or(true) {
            self.waker.wake();
        }
        wakes.flush();
    }

    /// Waits for the engine, which callers have for moments only.
    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.engine)
    }

    fn put(&self, mut state: MutexGuard<'_, QueueState>, command: Command) {
        if state.closed {
            drop(state);
            // Outside of the lock: it tells its caller that the client is closed.
            drop(command);
            return;
        }
        state.commands.push(command);
        let first = state.commands.len() == 1;
        drop(state);
        if first {
            self.waker.wake();
        }
    }

    /// Takes everything, in exchange for an empty list.
    pub(super) fn take(&self, into: &mut Vec<Command>) {
        self.waker.clear();
        mem::swap(&mut self.lock().commands, into);
    }

    /// From now on commands are dropped; those that came last are given back.
    pub(super) fn close(&self) -> Vec<Command> {
        let mut state = self.lock();
        state.closed = true;
        mem::take(&mut state.commands)
    }

    /// Everything of the I/O thread is closed.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.ended.notify_all();
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    fn wait_until_ended(&self, limit: Duration) -> bool {
        let state = self.lock();
        match self.ended.wait_timeout_while(state, limit, |state| !state.ended) {
            Ok((state, _)) => state.ended,
            Err(poisoned) => poisoned.into_inner().0.ended,
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }
}

/// Where the process keeps its I/O thread. As with libzmq's context, each generation of a fork has its own; a lock that
/// was held during the fork is never looked at again.
struct Cell {
    origin: Origin,
    lifetime: Mutex<Weak<Lifetime>>,
}

static CELL: AtomicPtr<Cell> = AtomicPtr::new(ptr::null_mut());

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
            let fresh = Box::into_raw(Box::new(Cell { origin, lifetime: Mutex::new(Weak::new()) }));
            if CELL.compare_exchange(present, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: another thread was faster; nobody else has seen this one.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
