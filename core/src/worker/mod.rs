//! The blocking worker: it drives its socket in the caller's thread.
//!
//! While the handler runs nobody calls, so a thread of the worker's own beats in the meantime. It looks in when a beat is
//! due, and only if the caller has left the session alone: a request costs no hand-over to it.

mod request;
mod serve;
mod session;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::options::WorkerOptions;
use crate::proto::worker::Answer;
use crate::transport::{Waker, Woken, spawn};
use crate::turn::Turn;
use crate::wait::{Check, SLICE, Wake, keep_waiting};

pub use request::Request;
pub(crate) use request::Responder;
pub use serve::{Stop, serve};
use session::Session;

/// A worker of one service. It connects, registers, beats and reconnects by itself.
///
/// One call at a time: another thread waits its turn. Requests may be answered from any thread.
///
/// ```no_run
/// # fn main() -> majordomo::Result<()> {
/// let worker = majordomo::Worker::connect("tcp://127.0.0.1:5555", "echo")?;
/// for request in &worker {
///     request.reply(request.body().clone())?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    inner: Arc<Inner>,
    /// The thread that beats while the handler runs; taken when the worker closes.
    beater: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    origin: Origin,
    service: Arc<str>,
    drain_timeout: Duration,
    turn: Turn,
    session: Mutex<Session>,
    /// Notified when the handler is done with its request, or the session has closed.
    changed: Condvar,
    /// Interrupts a wait for messages.
    waker: Waker,
    draining: AtomicBool,
    closing: AtomicBool,
    /// Set when the beater shall end.
    ended: Mutex<bool>,
    end: Condvar,
}

impl Worker {
    /// Connects a worker of `service` to the broker at `endpoint` (several, separated by commas, are tried in turn).
    /// Does not wait for the connection.
    ///
    /// # Errors
    /// As [`Worker::with_options`].
    pub fn connect(endpoint: &str, service: &str) -> Result<Worker> {
        Worker::with_options(WorkerOptions::new(endpoint, service))
    }

    /// Connects a worker with these options. `concurrency` other than 1 is for [`serve`] and [`aio`](crate::aio).
    ///
    /// # Errors
    /// `InvalidArgument` for options that cannot be, `Internal` where no socket or thread can be had.
    pub fn with_options(options: WorkerOptions) -> Result<Worker> {
        options.validate()?;
        if options.concurrency != 1 {
            return Err(Error::invalid("a blocking worker takes one request at a time: concurrency must be 1"));
        }
        let inner = Arc::new(Inner {
            origin: Origin::here(),
            service: options.service.as_str().into(),
            drain_timeout: options.drain_timeout,
            turn: Turn::default(),
            session: Mutex::new(Session::new(&options)?),
            changed: Condvar::new(),
            waker: Waker::new()?,
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let beating = inner.clone();
        let longest_pause = options.heartbeat / 4;
        let beater = spawn("majordomo-beat", move || beating.beat(longest_pause))?;
        Ok(Worker { inner, beater: Mutex::new(Some(beater)) })
    }

    /// Waits for a request, as long as it takes.
    ///
    /// # Errors
    /// `Closed` once the worker is closed or drained, or in a forked child; `Internal` where the socket fails.
    pub fn recv(&self) -> Result<Request> {
        match self.recv_with(None, &mut keep_waiting)? {
            Some(request) => Ok(request),
            None => Err(Error::new(ErrorKind::Internal, "a wait without end has ended")),
        }
    }

    /// Waits for a request until `timeout` is over; `None` then. `check` is asked meanwhile.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the wait; otherwise as [`Worker::recv`].
    pub fn recv_with(&self, timeout: Option<Duration>, check: Check<'_>) -> Result<Option<Request>> {
        self.inner.origin.check("worker")?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match self.inner.turn.take(deadline, check)? {
            Some(_turn) => self.inner.receive(deadline, check),
            None => Ok(None),
        }
    }

    /// The requests as they come; ends when the worker is closed or drained.
    pub fn iter(&self) -> Requests<'_> {
        Requests { worker: self }
    }

    /// The service that the worker serves.
    pub fn service(&self) -> &str {
        &self.inner.service
    }

    /// Whether another thread is in a call.
    pub fn is_busy(&self) -> bool {
        self.inner.turn.is_taken()
    }

    /// Takes no new work, waits until the request in hand is answered (at most `drain_timeout`), says DISCONNECT and
    /// closes. Calls of other threads end with `Closed`.
    pub fn drain(&self) {
        if !self.inner.origin.is_here() {
            return;
        }
        self.inner.draining.store(true, Ordering::Release);
        let ends = Instant::now() + self.inner.drain_timeout + SLICE;
        let mut session = self.inner.wake_and_lock();
        session.obey(&self.inner);
        while !session.is_closed() && Instant::now() < ends {
            let (guard, _) = self.inner.changed.wait_timeout(session, SLICE).unwrap_or_else(PoisonError::into_inner);
            session = guard;
        }
        drop(session);
        self.close();
    }

    /// Says DISCONNECT and closes at once. A request in hand goes to another worker. Closing twice is as good as once.
    pub fn close(&self) {
        if !self.inner.origin.is_here() {
            return;
        }
        self.inner.closing.store(true, Ordering::Release);
        self.inner.wake_and_lock().obey(&self.inner);
        *self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.end.notify_all();
        if let Some(beater) = self.beater.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It cannot have panicked with anything of worth.
            let _ = beater.join();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the session, which a waiting `recv` gives up when it is woken.
    fn wake_and_lock(&self) -> MutexGuard<'_, Session> {
        self.waker.wake();
        self.lock()
    }

    fn receive(self: &Arc<Self>, deadline: Option<Instant>, check: Check<'_>) -> Result<Option<Request>> {
        let mut last_check = Instant::now();
        loop {
            let mut session = self.lock();
            session.obey(self);
            session.pump()?;
            if let Some((number, body)) = session.take_request() {
                return Ok(Some(Request::new(body, self.service.clone(), number, self.clone())));
            }
            if session.is_closed() {
                return Err(Error::closed("worker"));
            }
            let now = Instant::now();
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() {
                return Ok(None);
            }
            let woken = if session.is_busy() {
                // The handler has a request. The beater looks after the connection until it is answered.
                let waited = self.changed.wait_timeout(session, left.min(SLICE));
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                Woken::Timeout
            } else {
                let woken = session.wait(&self.waker, left.min(SLICE))?;
                self.waker.clear();
                drop(session);
                woken
            };
            let wake = if woken == Woken::Interrupted { Wake::Interrupted } else { Wake::Tick };
            if wake == Wake::Interrupted || last_check.elapsed() >= SLICE / 2 {
                last_check = Instant::now();
                if check(wake) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for a request was interrupted"));
                }
            }
        }
    }

    /// The beater: looks after the connection whenever nobody else does.
    fn beat(&self, longest_pause: Duration) {
        let shortest_pause = longest_pause.min(Duration::from_millis(5));
        let mut pause = longest_pause;
        loop {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let (ended, _) = self
                .end
                .wait_timeout_while(ended, pause.clamp(shortest_pause, longest_pause), |ended| !*ended)
                .unwrap_or_else(PoisonError::into_inner);
            if *ended {
                return;
            }
            drop(ended);
            // A session in somebody's hands is looked after by them.
            pause = match self.session.try_lock() {
                Ok(session) => self.look_after(session),
                Err(TryLockError::Poisoned(poisoned)) => self.look_after(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => longest_pause,
            };
        }
    }

    /// Sends what is due and reads what came; how long that will do.
    fn look_after(&self, mut session: MutexGuard<'_, Session>) -> Duration {
        if let Err(error) = session.pump() {
            log::error!("{}: {error}", self.service);
        }
        self.changed.notify_all();
        session.due().map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()))
    }
}

impl Responder for Inner {
    fn answer(&self, number: u64, answer: Answer) -> Result<()> {
        self.origin.check("request")?;
        let result = self.lock().answer(number, answer);
        self.changed.notify_all();
        result
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.inner.origin.is_here() {
            self.close();
        } else {
            // Thread and socket are the parent's.
            let beater = self.beater.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(beater.take());
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

/// Iterator over a worker's requests, see [`Worker::iter`].
#[derive(Debug)]
pub struct Requests<'a> {
    worker: &'a Worker,
}

impl Iterator for Requests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        match self.worker.recv() {
            Ok(request) => Some(request),
            Err(error) if error.kind() == ErrorKind::Closed => None,
            Err(error) => {
                log::error!("the worker of {:?} has ended: {error}", self.worker.service());
                None
            }
        }
    }
}

impl<'a> IntoIterator for &'a Worker {
    type Item = Request;
    type IntoIter = Requests<'a>;

    fn into_iter(self) -> Requests<'a> {
        self.iter()
    }
}
