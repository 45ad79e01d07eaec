//! The embedded broker: one thread that drives the broker's machine over a ROUTER socket.

mod driver;

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::options::BrokerOptions;
use crate::proto::broker::Stats;
use crate::transport::{Router, Waker, spawn};
use crate::wait::{Check, SLICE, Wake, keep_waiting};

use driver::Driver;

/// What the frames of one message may cost beside their bytes, with air.
const FRAMES: usize = 128 << 10;

/// A broker that runs on a thread of its own. Dropping it stops it.
///
/// ```
/// # fn main() -> majordomo::Result<()> {
/// let broker = majordomo::Broker::start("tcp://127.0.0.1:0")?;
/// println!("clients and workers connect to {}", broker.endpoint());
/// broker.stop()
/// # }
/// ```
pub struct Broker {
    origin: Origin,
    endpoints: Vec<String>,
    shared: Arc<Shared>,
    /// Taken by whoever stops the broker first.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the broker's thread share.
struct Shared {
    waker: Waker,
    state: Mutex<State>,
    /// Notified when the thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// Who wants to know the numbers.
    asking: Vec<mpsc::Sender<Stats>>,
    /// How the thread ended.
    outcome: Option<Result<()>>,
}

impl Broker {
    /// Starts a broker on `endpoint` with the usual options. Port 0 picks a free one, see [`Broker::endpoint`].
    ///
    /// # Errors
    /// As [`Broker::with_options`].
    pub fn start(endpoint: &str) -> Result<Broker> {
        Broker::with_options(BrokerOptions::new(endpoint))
    }

    /// Starts a broker; it listens when this returns.
    ///
    /// # Errors
    /// `InvalidArgument` for options that cannot be, `Denied` or `Internal` where an endpoint cannot be listened on,
    /// `BrokerUnreachable` without free descriptors.
    pub fn with_options(options: BrokerOptions) -> Result<Broker> {
        options.validate()?;
        let origin = Origin::here();
        // Whatever the limit: one message of the largest size must be able to wait for a reader that is slow for a moment.
        let largest = options.max_message_bytes.saturating_add(options.max_message_bytes / 4).saturating_add(FRAMES);
        let backlog = options.max_queued_bytes.max(largest);
        let router = Router::bind(&options.bind, options.max_message_bytes, backlog)?;
        let endpoints = router.endpoints().to_vec();
        let shared =
            Arc::new(Shared { waker: Waker::new()?, state: Mutex::new(State::default()), ended: Condvar::new() });
        let driver = Driver::new(&options, router, shared.clone());
        let thread = spawn("majordomo-broker", move || driver.run())?;
        Ok(Broker { origin, endpoints, shared, thread: Mutex::new(Some(thread)) })
    }

    /// The first endpoint that the broker listens on, its port filled in.
    pub fn endpoint(&self) -> &str {
        self.endpoints.first().map_or("", String::as_str)
    }

    /// Every endpoint that the broker listens on, ports filled in.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Counters and sizes.
    ///
    /// # Errors
    /// `Closed` once the broker has stopped.
    pub fn stats(&self) -> Result<Stats> {
        self.origin.check("broker")?;
        let (sender, receiver) = mpsc::channel();
        {
            let mut state = self.shared.lock();
            if state.outcome.is_some() || state.stop {
                return Err(Error::closed("broker"));
            }
            state.asking.push(sender);
        }
        self.shared.waker.wake();
        receiver.recv().map_err(|_| Error::closed("broker"))
    }

    /// Says DISCONNECT to the workers and ends the broker. Its endpoints are free when this returns. Stopping twice is
    /// as good as once.
    ///
    /// # Errors
    /// The failure that had already ended the broker, if one did; `Closed` in a child of the process that made it.
    pub fn stop(&self) -> Result<()> {
        self.origin.check("broker")?;
        self.shared.lock().stop = true;
        self.shared.waker.wake();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The outcome is in the shared state; a panic of the thread was caught there.
            let _ = thread.join();
        }
        self.wait()
    }

    /// Waits until the broker has ended: until another thread stops it, or it fails.
    ///
    /// # Errors
    /// The failure that ended the broker; `Closed` in a child of the process that made it.
    pub fn wait(&self) -> Result<()> {
        self.wait_with(&mut keep_waiting)
    }

    /// Waits as [`Broker::wait`] does, asking `check` meanwhile.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the wait; the broker goes on. Otherwise as [`Broker::wait`].
    pub fn wait_with(&self, check: Check<'_>) -> Result<()> {
        self.origin.check("broker")?;
        let mut state = self.shared.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            let (guard, timeout) = self.shared.ended.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() {
                drop(state);
                if check(Wake::Tick) == ControlFlow::Break(()) {
                    return Err(Error::new(ErrorKind::Cancelled, "the wait for the broker's end was interrupted"));
                }
                self.origin.check("broker")?;
                state = self.shared.lock();
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.origin.is_here() {
            let _ = self.stop();
        } else {
            // The thread and the socket are the parent's.
            std::mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
