//! The blocking worker, and the request that every worker gets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use majordomo::{ServiceError, WorkerOptions};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::detached::Detached;
use crate::error::{call, invalid, wait};
use crate::message::{Message, body_of, message_of, properties_dict};
use crate::options::{Endpoints, duration, protocol as set_protocol, set_number, set_seconds};

/// Signals are looked for this often while a thread waits.
const SLICE: Duration = Duration::from_millis(100);

/// A blocking worker: registers for a service at a broker and takes its requests, one at a time.
///
/// Iterate over it (``for request in worker: request.reply(request.body)``), or call ``recv``. Heartbeats go out
/// whatever the program does between two requests, and a lost broker is connected to again.
///
/// ``endpoints`` is the broker's address, or several as for Client. ``service`` is 1 to 255 bytes of text without
/// control characters; names starting with ``mmi.`` belong to the broker (RFC 8).
///
/// Options, with their defaults; durations are in seconds:
///
/// - ``heartbeat`` (2.5): interval between heartbeats;
/// - ``liveness`` (3): how many intervals the broker may be silent before it counts as gone;
/// - ``reconnect`` (2.5): longest pause before connecting again;
/// - ``prefetch`` (0): how many further requests are held ready (MDPX only);
/// - ``keep_outcomes`` (0): how many outcomes are kept, so that a repeat of a request is answered without running it
///   again (MDPX only); ``keep_outcomes_bytes`` (64 MiB): their size; ``keep_outcomes_age`` (300): their age;
/// - ``protocol`` ("auto"): "x1" (MDPX), "0.2" (RFC 18), "0.1" (RFC 7), or the best that the broker knows;
/// - ``max_message_bytes`` (256 MiB): largest message sent or accepted;
/// - ``drain_timeout`` (5): how long ``drain`` waits for requests in hand;
/// - ``on_event``: called with an Event for each change of the connection.
///
/// A worker holds one request at a time: the next one comes when the last one is answered, by whichever thread. A loop
/// that goes on while it keeps a request that nobody answers waits for ever.
///
/// Raises InvalidArgument for a service name or an option that is out of range.
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Worker {
    core: Detached<majordomo::Worker>,
    /// The request that the next `recv(reply)` answers.
    current: Mutex<Option<Py<Request>>>,
    /// Closed by this program: the iterator ends instead of raising.
    closed: AtomicBool,
}

#[pymethods]
impl Worker {
    #[new]
    #[pyo3(signature = (endpoints, service, *, heartbeat=None, liveness=None, reconnect=None, protocol=None,
                        max_message_bytes=None, drain_timeout=None, prefetch=None, keep_outcomes=None,
                        keep_outcomes_bytes=None, keep_outcomes_age=None, on_event=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        py: Python<'_>,
        endpoints: Endpoints,
        service: &str,
        heartbeat: Option<f64>,
        liveness: Option<i64>,
        reconnect: Option<f64>,
        protocol: Option<&str>,
        max_message_bytes: Option<i64>,
        drain_timeout: Option<f64>,
        prefetch: Option<i64>,
        keep_outcomes: Option<i64>,
        keep_outcomes_bytes: Option<i64>,
        keep_outcomes_age: Option<f64>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let mut options = WorkerOptions::new(&endpoints.joined(), service);
        set_seconds(py, &mut options.heartbeat, "heartbeat", heartbeat)?;
        set_number(py, &mut options.liveness, "liveness", liveness)?;
        set_seconds(py, &mut options.reconnect, "reconnect", reconnect)?;
        set_protocol(py, &mut options.protocol, protocol)?;
        set_number(py, &mut options.max_message_bytes, "max_message_bytes", max_message_bytes)?;
        set_seconds(py, &mut options.drain_timeout, "drain_timeout", drain_timeout)?;
        set_number(py, &mut options.prefetch, "prefetch", prefetch)?;
        set_number(py, &mut options.keep_outcomes, "keep_outcomes", keep_outcomes)?;
        set_number(py, &mut options.keep_outcomes_bytes, "keep_outcomes_bytes", keep_outcomes_bytes)?;
        set_seconds(py, &mut options.keep_outcomes_age, "keep_outcomes_age", keep_outcomes_age)?;
        options.on_event = on_event.map(crate::event::hook);
        let core = call(py, || majordomo::Worker::with_options(options))?;
        Ok(Worker { core: Detached::new(core), current: Mutex::new(None), closed: AtomicBool::new(false) })
    }

    /// Wait for the next request.
    ///
    /// With ``reply``, the request that the last call of ``recv`` returned is answered first, as in the Guide's
    /// worker loop. With ``timeout`` (seconds) the result is None when no request came in time; without, the call
    /// waits for ever.
    ///
    /// Raises Closed after ``close`` or ``drain``, InvalidArgument for a reply without a request or for a second
    /// answer.
    #[pyo3(signature = (reply=None, *, timeout=None))]
    fn recv(
        &self,
        py: Python<'_>,
        reply: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Py<Request>>> {
        let timeout = duration(py, "timeout", timeout)?;
        let reply = reply.map(body_of).transpose()?;
        let request = self.lock_current().take();
        if let Some(body) = reply {
            let Some(request) = &request else {
                return Err(invalid(py, "a reply was given, but recv() has returned no request to answer"));
            };
            call(py, || request.get().core.reply(body))?;
        }
        // If nobody else holds it, an unanswered request ends here.
        drop(request);
        let Some(request) = wait(py, |check| self.core.recv_with(timeout, check))? else { return Ok(None) };
        let request = Py::new(py, Request::from(request))?;
        *self.lock_current() = Some(request.clone_ref(py));
        Ok(Some(request))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Request>> {
        let next = wait(py, |check| match self.core.recv_with(None, check) {
            Err(error) if error.kind() == majordomo::ErrorKind::Closed && self.closed.load(Ordering::Acquire) => {
                Ok(None)
            }
            outcome => outcome,
        })?;
        Ok(next.map(Request::from))
    }

    /// Answer requests with a function until the worker is drained or closed; ``majordomo.serve`` describes handlers.
    fn serve(slf: Py<Self>, py: Python<'_>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        py.import("majordomo._serve")?.call_method1("run", (slf, handler)).map(drop)
    }

    /// Take no new requests, let those in hand be answered, then say DISCONNECT and close.
    ///
    /// May be called from another thread than the one that receives; there, ``recv`` raises Closed and a loop over
    /// the worker ends. Waits at most ``drain_timeout`` seconds for answers; Ctrl-C ends the wait, and ``close`` then
    /// gives what is in hand back to the broker.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, Ordering::Release);
        wait(py, |check| self.core.drain_with(check))
    }

    /// Say DISCONNECT and close; a request in hand goes to another worker. Closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, Ordering::Release);
        call(py, || {
            self.core.close();
            Ok(())
        })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}

impl Worker {
    fn lock_current(&self) -> std::sync::MutexGuard<'_, Option<Py<Request>>> {
        // Held for a move only, never while Python code runs.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that a worker was given. It is answered exactly once, by ``reply`` or by ``fail``.
///
/// A request that is dropped unanswered is answered as a failure with the code 500. When the connection on which it
/// came is lost, the broker gives the request to another worker, and an answer from here goes nowhere.
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Request {
    core: Detached<majordomo::Request>,
    body: PyOnceLock<Py<Message>>,
}

impl From<majordomo::Request> for Request {
    fn from(core: majordomo::Request) -> Self {
        Request { core: Detached::new(core), body: PyOnceLock::new() }
    }
}

#[pymethods]
impl Request {
    /// The request's body, a Message.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, Message>> {
        let body = self.body.get_or_try_init(py, || Py::new(py, Message::from(self.core.body().clone())))?;
        Ok(body.bind(py))
    }

    /// The name of the service that was asked.
    #[getter]
    fn service(&self) -> &str {
        self.core.service()
    }

    /// Whether the final answer has been given.
    #[getter]
    fn answered(&self) -> bool {
        self.core.is_answered()
    }

    /// The properties that came with the body: a dict of names to bytes.
    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        properties_dict(py, self.core.properties())
    }

    /// Which attempt at the request this is, from 1; 1 where the protocol does not say.
    #[getter]
    fn attempt(&self) -> u32 {
        self.core.attempt()
    }

    /// How many seconds the caller still waits; None without a limit, or where the protocol does not say.
    #[getter]
    fn remaining(&self) -> Option<f64> {
        self.core.remaining().map(|left| left.as_secs_f64())
    }

    /// Whether nobody waits for the answer any more: the caller gave up, or its time is over (MDPX only).
    #[getter]
    fn cancelled(&self) -> bool {
        self.core.is_cancelled()
    }

    /// Wait until the request is cancelled, at most ``timeout`` seconds or for ever; return whether it is.
    #[pyo3(signature = (timeout=None))]
    fn wait_cancelled(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = duration(py, "timeout", timeout)?;
        let token = self.core.cancel_token();
        let began = Instant::now();
        loop {
            let left = timeout.map_or(SLICE, |timeout| timeout.saturating_sub(began.elapsed()));
            if py.detach(|| token.wait_timeout(left.min(SLICE))) {
                return Ok(true);
            }
            py.check_signals()?;
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// The request's number within its worker, by which the mailbox tells of its cancellation.
    #[getter]
    fn _id(&self) -> u64 {
        self.core.id()
    }

    /// Send the final reply, with properties beside it if there are any (MDPX only).
    ///
    /// Raises InvalidArgument for a second answer, and TooLarge for a body over ``max_message_bytes``: the request can
    /// still be answered then.
    #[pyo3(signature = (body, *, properties=None))]
    fn reply(&self, py: Python<'_>, body: &Bound<'_, PyAny>, properties: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let body = message_of(body, properties)?;
        call(py, || self.core.reply(body))
    }

    /// Send a partial reply; any number of them may come before the final one.
    ///
    /// MDP/0.2 (RFC 18) and MDPX deliver each by itself; over MDP/0.1 their frames arrive joined with the final
    /// reply's. A part that finds the connection full waits until there is room: Ctrl-C ends the wait, and the part goes
    /// out all the same. A request of ``majordomo.aio`` raises QueueFull instead. Raises what ``reply`` raises.
    #[pyo3(signature = (body, *, properties=None))]
    fn partial(&self, py: Python<'_>, body: &Bound<'_, PyAny>, properties: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let body = message_of(body, properties)?;
        wait(py, |check| self.core.partial_with(body, check))
    }

    /// Answer that the request failed: the caller gets a ServiceError with this code and text.
    ///
    /// Where the failure is ``retryable``, another worker gets the request while it has attempts left (MDPX only).
    /// Raises InvalidArgument for a second answer.
    #[pyo3(signature = (code, text, retryable=false))]
    fn fail(&self, py: Python<'_>, code: u32, text: &str, retryable: bool) -> PyResult<()> {
        call(py, || self.core.fail_with(ServiceError::new(code, text).retryable(retryable)))
    }

    fn __repr__(&self) -> String {
        let (service, frames) = (self.core.service(), self.core.body().len());
        let answered = if self.core.is_answered() { ", answered" } else { "" };
        format!("<majordomo.Request to {service:?}, {frames} frames{answered}>")
    }
}
