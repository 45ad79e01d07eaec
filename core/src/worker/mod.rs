//! The blocking worker: it drives its socket in the caller's thread.
//!
//! While the handler runs nobody calls, so a thread of the worker's own beats in the meantime. It looks in when a beat is
//! due, and only if the caller has left the session alone: a request costs no hand-over to it.

mod beat;
mod cancel;
mod notices;
mod request;
mod serve;
mod session;

use std::fmt;
use std::ops::{ControlFlow, Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::options::WorkerOptions;
use crate::proto::worker::Answer;
use crate::transport::{Interest, Poller, Waker, Woken, spawn};
use crate::turn::Turn;
use crate::wait::{Check, SLICE, Wake, keep_waiting};

use beat::Beater;
pub(crate) use cancel::Cancellations;
pub use cancel::{CancelToken, Cancelled};
use notices::Notices;
pub use request::Request;
pub(crate) use request::{Delivered, Responder};
pub use serve::{Stop, serve};
use session::Session;

/// Pause between looks whether the connection has room for more parts.
const ROOM_LOOK: Duration = Duration::from_millis(5);

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
    /// Locked through [`Inner::hold`] and [`Inner::try_hold`] only.
    session: Mutex<Session>,
    /// Interrupts a wait for messages.
    waker: Waker,
    draining: AtomicBool,
    closing: AtomicBool,
    beater: Beater,
    cancellations: Arc<Cancellations>,
    notices: Arc<Notices>,
    /// Whether the session has closed, for those who wait for that.
    closed: Mutex<bool>,
    closes: Condvar,
}

/// The session, locked. Letting go of it tells those who wait for something that may have happened to it.
struct Held<'a> {
    inner: &'a Inner,
    session: MutexGuard<'a, Session>,
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
    /// `InvalidArgument` for options that cannot be, `BrokerUnreachable` without free descriptors, `Internal` where no
    /// thread can be had.
    pub fn with_options(options: WorkerOptions) -> Result<Worker> {
        options.validate()?;
        if options.concurrency != 1 {
            return Err(Error::invalid("a blocking worker takes one request at a time: concurrency must be 1"));
        }
        let cancellations = Arc::new(Cancellations::default());
        let notices = Arc::new(Notices::new(options.on_event.clone()));
        let inner = Arc::new(Inner {
            origin: Origin::here(),
            service: options.service.as_str().into(),
            drain_timeout: options.drain_timeout,
            turn: Turn::default(),
            session: Mutex::new(Session::new(&options, cancellations.clone(), notices.clone())?),
            waker: Waker::new()?,
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            beater: Beater::new(options.heartbeat),
            cancellations,
            notices,
            closed: Mutex::new(false),
            closes: Condvar::new(),
        });
        // READY goes out as soon as the connection stands, also where nobody receives yet.
        drop(inner.hold());
        let beating = inner.clone();
        let beater = spawn("majordomo-beat", move || beating.beater.run(|| beating.look_after()))?;
        Ok(Worker { inner, beater: Mutex::new(Some(beater)) })
    }

    /// Waits for a request, as long as it takes. While the last one has no answer yet, it waits for that first: a worker
    /// works on one request at a time.
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
        self.inner.origin.is_here() && self.inner.turn.is_taken()
    }

    /// Takes no new work, waits until the request in hand is answered (at most `drain_timeout`), says DISCONNECT and
    /// closes. Calls of other threads end with `Closed`.
    pub fn drain(&self) {
        // With this check it does not fail.
        let _ = self.drain_with(&mut keep_waiting);
    }

    /// Drains as [`Worker::drain`] does, asking `check` meanwhile.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the wait: the worker takes no new work and still has the request in hand, until it
    /// is closed.
    pub fn drain_with(&self, check: Check<'_>) -> Result<()> {
        if !self.inner.origin.is_here() {
            return Ok(());
        }
        self.begin_drain();
        let deadline = Instant::now() + self.inner.drain_timeout + SLICE;
        let mut closed = self.inner.lock_closed();
        while !*closed {
            let left = deadline.saturating_duration_since(Instant::now()).min(SLICE);
            if left.is_zero() {
                break;
            }
            let waited = self.inner.closes.wait_timeout(closed, left);
            closed = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !*closed {
                drop(closed);
                if check(Wake::Tick) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for the request in hand was interrupted"));
                }
                // The child of a fork that `check` made has nothing to wait for.
                if !self.inner.origin.is_here() {
                    return Ok(());
                }
                closed = self.inner.lock_closed();
            }
        }
        drop(closed);
        self.close();
        Ok(())
    }

    /// Drains without waiting for the end.
    fn begin_drain(&self) {
        if self.inner.origin.is_here() {
            self.inner.draining.store(true, Ordering::Release);
            self.inner.waker.wake();
            self.inner.hold().obey(&self.inner);
            self.inner.notices.tell();
        }
    }

    /// Says DISCONNECT and closes at once. A request in hand goes to another worker. Closing twice is as good as once.
    pub fn close(&self) {
        if !self.inner.origin.is_here() {
            return;
        }
        self.inner.closing.store(true, Ordering::Release);
        // A `recv` that waits for messages does the same as we, and gives up the session.
        self.inner.waker.wake();
        self.inner.hold().obey(&self.inner);
        self.inner.notices.tell();
        self.inner.beater.end();
        if let Some(beater) = self.beater.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It cannot have panicked with anything of worth.
            let _ = beater.join();
        }
    }
}

impl Inner {
    fn hold(&self) -> Held<'_> {
        Held { inner: self, session: self.session.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn lock_closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, unless somebody has it.
    fn try_hold(&self) -> Option<Held<'_>> {
        let session = match self.session.try_lock() {
            Ok(session) => session,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Held { inner: self, session })
    }

    fn receive(self: &Arc<Self>, deadline: Option<Instant>, check: Check<'_>) -> Result<Option<Request>> {
        let result = self.wait_for_request(deadline, check);
        if !matches!(result, Ok(Some(_))) && self.origin.is_here() {
            // Who looks after the connection now is the beater.
            self.hold().receiving = false;
        }
        result
    }

    fn wait_for_request(self: &Arc<Self>, deadline: Option<Instant>, check: Check<'_>) -> Result<Option<Request>> {
        let (mut asked, mut just_now) = (None, None);
        loop {
            // `check` may have forked.
            self.origin.check("worker")?;
            let mut session = self.hold();
            session.now = just_now.take().unwrap_or_else(Instant::now);
            session.receiver_waits = false;
            session.receiving = true;
            session.obey(self);
            if !session.has_request() {
                session.pump()?;
            }
            if let Some(request) = session.take_request() {
                session.receiving = false;
                drop(session);
                self.notices.tell();
                return Ok(Some(Request::new(request, self.clone())));
            }
            if self.notices.are_waiting() {
                drop(session);
                if self.notices.tell() {
                    continue;
                }
                session = self.hold();
            }
            if session.is_closed() {
                return Err(Error::closed("worker"));
            }
            let now = session.now;
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(None);
            }
            let last_asked = *asked.get_or_insert(now);
            let until = deadline.map_or(last_asked + SLICE, |deadline| deadline.min(last_asked + SLICE));
            let longest = until.saturating_duration_since(now);
            let (woken, now) = if session.is_busy() {
                // The handler has a request. The beater looks after the connection until it is answered.
                session.receiver_waits = true;
                session.receiving = false;
                drop(session);
                let woken = Poller::default().poll(&[Interest::waker(&self.waker)], Some(longest))?;
                (woken, Instant::now())
            } else {
                self.beater.rest();
                let woken = session.wait(&self.waker, longest)?;
                let now = session.now;
                drop(session);
                (woken, now)
            };
            just_now = Some(now);
            self.waker.clear();
            let wake = if woken == Woken::Interrupted { Wake::Interrupted } else { Wake::Tick };
            if wake == Wake::Interrupted || now.saturating_duration_since(last_asked) >= SLICE {
                (asked, just_now) = (None, None);
                if check(wake) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for a request was interrupted"));
                }
            }
        }
    }

    /// Looks after the connection, if nobody else does: sends what is due and reads what came.
    fn look_after(&self) -> bool {
        let Some(mut session) = self.try_hold() else { return false };
        session.now = Instant::now();
        let pumped = session.pump();
        drop(session);
        self.notices.tell();
        if let Err(error) = pumped {
            log::error!("{}: {error}", self.service);
            return false;
        }
        true
    }
}

impl Deref for Held<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let inner = self.inner;
        inner.beater.look_in_at(self.session.due());
        if self.session.receiver_waits && !self.session.is_busy() {
            inner.waker.wake();
        }
        if self.session.is_closed() {
            *inner.lock_closed() = true;
            inner.closes.notify_all();
        }
    }
}

impl Responder for Inner {
    fn answer(&self, number: u64, answer: Answer) -> Result<bool> {
        self.origin.check("request")?;
        let partial = matches!(answer, Answer::Partial(_));
        let has_room = {
            let mut session = self.hold();
            session.answer(number, answer)?;
            !partial || session.is_clear()?
        };
        self.notices.tell();
        Ok(has_room)
    }

    /// Waits until the connection has taken the parts so far, so that a handler cannot fill the memory with them.
    fn await_room(&self, check: Check<'_>) -> Result<()> {
        let mut asked = Instant::now();
        loop {
            // `check` may have forked.
            self.origin.check("request")?;
            if self.hold().is_clear()? {
                return Ok(());
            }
            // For nothing but time and signals: what tells of room is the connection's, and the beater may have taken it.
            let woken = Poller::default().poll(&[], Some(ROOM_LOOK))?;
            let wake = if woken == Woken::Interrupted { Wake::Interrupted } else { Wake::Tick };
            if wake == Wake::Interrupted || asked.elapsed() >= SLICE {
                asked = Instant::now();
                if check(wake) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for room was interrupted"));
                }
            }
        }
    }

    fn cancellations(&self) -> &Cancellations {
        &self.cancellations
    }

    fn service(&self) -> &str {
        &self.service
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
