//! What `majordomo.aio` is made of: handles whose outcomes arrive in a mailbox that an event loop watches.

use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use majordomo::aio::{ClientEvent, Inbox, Part, WorkerEvent, WorkerEventKind};
use majordomo::{ClientOptions, Error, ErrorKind, WorkerOptions};
use pyo3::prelude::*;

use crate::detached::Detached;
use crate::error::{call, exception};
use crate::message::{Message, message_of};
use crate::options::{Endpoints, duration, protocol as set_protocol, request_options, set_number, set_seconds};
use crate::worker::Request;

/// Where the outcomes for one event loop arrive.
///
/// Its file descriptor becomes readable once for a batch of outcomes. The I/O thread writes one byte and never takes
/// the GIL, so a program that holds the GIL holds up nobody's heartbeats.
#[pyclass(frozen, module = "majordomo._majordomo")]
pub(crate) struct Mailbox {
    replies: Arc<Inbox<ClientEvent>>,
    requests: Arc<Inbox<WorkerEvent>>,
    bell: UnixStream,
}

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> PyResult<Self> {
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        let ringer = Arc::new(ringer);
        let for_requests = Arc::clone(&ringer);
        Ok(Mailbox {
            replies: Inbox::new(move || ring(&ringer)),
            requests: Inbox::new(move || ring(&for_requests)),
            bell,
        })
    }

    /// The file descriptor that becomes readable when there is something to drain.
    fn fileno(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// Return what has arrived, as tuples ``(token, last, outcome)``.
    ///
    /// The outcome is a Message, an Unread part of one, a Request, the number of a cancelled request, an exception, or None
    /// where a worker has closed.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Vec<(u64, bool, Bound<'py, PyAny>)>> {
        // The bell first: what arrives after the inboxes were emptied rings it again.
        self.silence();
        let (mut replies, mut requests) = (Vec::new(), Vec::new());
        self.replies.drain(&mut replies);
        self.requests.drain(&mut requests);
        let mut outcomes = Vec::with_capacity(replies.len() + requests.len());
        for ClientEvent { token, part, .. } in replies {
            let (last, outcome) = match part {
                Part::Partial(part) => (false, Bound::new(py, Unread { part: Mutex::new(Some(part)) })?.into_any()),
                Part::Done(Ok(message)) => (true, Bound::new(py, Message::from(message))?.into_any()),
                Part::Done(Err(error)) => (true, exception(py, &error)?),
            };
            outcomes.push((token, last, outcome));
        }
        for WorkerEvent { token, kind, .. } in requests {
            let (last, outcome) = match kind {
                WorkerEventKind::Request(request) => (false, Bound::new(py, Request::from(request))?.into_any()),
                // A number in the place of a request: its handler is told, its answer is dropped.
                WorkerEventKind::Cancelled { id } => (false, id.into_pyobject(py)?.into_any()),
                WorkerEventKind::Closed(Some(error)) => (true, exception(py, &error)?),
                WorkerEventKind::Closed(None) => (true, py.None().into_bound(py)),
            };
            outcomes.push((token, last, outcome));
        }
        Ok(outcomes)
    }
}

impl Mailbox {
    fn silence(&self) {
        let mut rings = [0; 64];
        loop {
            match (&self.bell).read(&mut rings) {
                Ok(0) => return,
                Err(error) if error.kind() != IoErrorKind::Interrupted => return,
                _ => {}
            }
        }
    }
}

/// A part of a streamed reply, which counts towards what may wait of its stream until it is taken or dropped.
#[pyclass(frozen, module = "majordomo._majordomo")]
pub(crate) struct Unread {
    part: Mutex<Option<majordomo::aio::Unread>>,
}

#[pymethods]
impl Unread {
    /// The message, which waits no more. Given once.
    fn take(&self, py: Python<'_>) -> PyResult<Message> {
        let message = call(py, || {
            let part = self.part.lock().unwrap_or_else(PoisonError::into_inner).take();
            part.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "this part has been taken already"))
                .map(majordomo::aio::Unread::into_message)
        })?;
        Ok(Message::from(message))
    }
}

fn ring(ringer: &UnixStream) {
    // Full means that it rings already; gone means that the loop is gone.
    let _ = (&*ringer).write(&[1]);
}

/// The client behind ``majordomo.aio.Client``.
#[pyclass(frozen, module = "majordomo._majordomo")]
pub(crate) struct AsyncClient {
    core: Detached<majordomo::aio::Client>,
}

#[pymethods]
impl AsyncClient {
    #[new]
    #[pyo3(signature = (endpoints, *, timeout=None, retries=None, deadline=None, protocol=None, max_in_flight=None,
                        max_waiting=None, max_message_bytes=None, reconnect_min=None, reconnect_max=None,
                        on_event=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        py: Python<'_>,
        endpoints: Endpoints,
        timeout: Option<f64>,
        retries: Option<i64>,
        deadline: Option<f64>,
        protocol: Option<&str>,
        max_in_flight: Option<i64>,
        max_waiting: Option<i64>,
        max_message_bytes: Option<i64>,
        reconnect_min: Option<f64>,
        reconnect_max: Option<f64>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let mut options = ClientOptions::new(&endpoints.joined());
        set_seconds(py, &mut options.timeout, "timeout", timeout)?;
        set_number(py, &mut options.retries, "retries", retries)?;
        options.deadline = duration(py, "deadline", deadline)?;
        set_protocol(py, &mut options.protocol, protocol)?;
        set_number(py, &mut options.max_in_flight, "max_in_flight", max_in_flight)?;
        set_number(py, &mut options.max_waiting, "max_waiting", max_waiting)?;
        set_number(py, &mut options.max_message_bytes, "max_message_bytes", max_message_bytes)?;
        set_seconds(py, &mut options.reconnect_min, "reconnect_min", reconnect_min)?;
        set_seconds(py, &mut options.reconnect_max, "reconnect_max", reconnect_max)?;
        options.on_event = on_event.map(crate::event::hook);
        let core = call(py, || majordomo::aio::Client::with_options(options))?;
        Ok(AsyncClient { core: Detached::new(core) })
    }

    /// Send a request whose outcome arrives in the mailbox under this token: its parts as they come, or as a whole. Its
    /// number is for ``cancel``.
    #[pyo3(signature = (mailbox, token, service, body, timeout, retries, deadline, max_attempts, fail_fast, properties,
                        *, parts=false))]
    #[expect(clippy::too_many_arguments, reason = "the address of the outcome, and the arguments of the request")]
    fn submit(
        &self,
        py: Python<'_>,
        mailbox: &Bound<'_, Mailbox>,
        token: u64,
        service: &str,
        body: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        retries: Option<i64>,
        deadline: Option<f64>,
        max_attempts: Option<i64>,
        fail_fast: bool,
        properties: Option<&Bound<'_, PyAny>>,
        parts: bool,
    ) -> PyResult<u64> {
        let options = request_options(py, timeout, retries, deadline, max_attempts, fail_fast)?;
        let body = message_of(body, properties)?;
        let inbox = &mailbox.get().replies;
        call(py, || {
            Ok(match parts {
                true => self.core.submit(service, body, &options, inbox, token),
                false => self.core.submit_whole(service, body, &options, inbox, token),
            })
        })
    }

    /// Abandon the request of this number; does nothing when it has ended.
    fn cancel(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        call(py, || {
            self.core.cancel(number);
            Ok(())
        })
    }

    /// Close the connections; unanswered requests end with Closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        call(py, || {
            self.core.close();
            Ok(())
        })
    }
}

/// The worker behind ``majordomo.aio.Worker``; its requests arrive in the mailbox under the token.
#[pyclass(frozen, module = "majordomo._majordomo")]
pub(crate) struct AsyncWorker {
    core: Detached<majordomo::aio::Worker>,
    /// What waits for the drain to end; kept because dropping it would not wait.
    draining: Mutex<Option<Detached<majordomo::aio::Drain>>>,
}

#[pymethods]
impl AsyncWorker {
    #[new]
    #[pyo3(signature = (mailbox, token, endpoints, service, *, heartbeat=None, liveness=None, reconnect=None,
                        concurrency=None, protocol=None, max_message_bytes=None, drain_timeout=None, prefetch=None,
                        keep_outcomes=None, keep_outcomes_bytes=None, keep_outcomes_age=None, on_event=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        py: Python<'_>,
        mailbox: &Bound<'_, Mailbox>,
        token: u64,
        endpoints: Endpoints,
        service: &str,
        heartbeat: Option<f64>,
        liveness: Option<i64>,
        reconnect: Option<f64>,
        concurrency: Option<i64>,
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
        set_number(py, &mut options.concurrency, "concurrency", concurrency)?;
        set_protocol(py, &mut options.protocol, protocol)?;
        set_number(py, &mut options.max_message_bytes, "max_message_bytes", max_message_bytes)?;
        set_seconds(py, &mut options.drain_timeout, "drain_timeout", drain_timeout)?;
        set_number(py, &mut options.prefetch, "prefetch", prefetch)?;
        set_number(py, &mut options.keep_outcomes, "keep_outcomes", keep_outcomes)?;
        set_number(py, &mut options.keep_outcomes_bytes, "keep_outcomes_bytes", keep_outcomes_bytes)?;
        set_seconds(py, &mut options.keep_outcomes_age, "keep_outcomes_age", keep_outcomes_age)?;
        options.on_event = on_event.map(crate::event::hook);
        let inbox = &mailbox.get().requests;
        let core = call(py, || majordomo::aio::Worker::with_inbox(options, inbox, token))?;
        Ok(AsyncWorker { core: Detached::new(core), draining: Mutex::new(None) })
    }

    /// Take no new requests, let those in hand be answered, then say DISCONNECT; the mailbox tells when it is done.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let drain = call(py, || Ok(self.core.drain()))?;
        let earlier = self.draining.lock().unwrap_or_else(PoisonError::into_inner).replace(Detached::new(drain));
        drop(earlier);
        Ok(())
    }

    /// Say DISCONNECT and close; a request in hand goes to another worker.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        call(py, || {
            self.core.close();
            Ok(())
        })
    }
}
