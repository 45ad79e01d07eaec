//! The blocking client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use majordomo::{ClientOptions, Error, ErrorKind};
use pyo3::prelude::*;

use crate::detached::Detached;
use crate::error::{call, raise, wait};
use crate::message::{Message, message_of};
use crate::options::{Endpoints, duration, protocol as set_protocol, request_options, set_number, set_seconds};

/// A blocking client of a Majordomo broker.
///
/// ``endpoints`` is the broker's address, for example ``"tcp://127.0.0.1:5555"``; several addresses (a list, or one
/// string separated by commas) are brokers to fall back on. No connection is waited for here.
///
/// Options, with their defaults; durations are in seconds:
///
/// - ``timeout`` (2.5): how long one attempt may take without a sign of the reply;
/// - ``retries`` (3): how often a request is sent at most, the first time included;
/// - ``deadline`` (``timeout`` times ``retries``): how long the whole call may take;
/// - ``protocol`` ("auto"): "x1" (MDPX), "0.2" (RFC 18), "0.1" (RFC 7), or the best that the broker knows;
/// - ``max_message_bytes`` (256 MiB): largest message sent or accepted;
/// - ``reconnect_min`` (0.1), ``reconnect_max`` (32): the pauses before a broken connection is made again;
/// - ``on_event``: called by the calling thread with an Event for each change of the connection.
///
/// A client serves one call at a time; another thread waits its turn. Ctrl-C ends a call within 100 ms.
///
/// Raises InvalidArgument for an option that is out of range.
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Client {
    core: Detached<Arc<majordomo::Client>>,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (endpoints, *, timeout=None, retries=None, deadline=None, protocol=None,
                        max_message_bytes=None, reconnect_min=None, reconnect_max=None, on_event=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        py: Python<'_>,
        endpoints: Endpoints,
        timeout: Option<f64>,
        retries: Option<i64>,
        deadline: Option<f64>,
        protocol: Option<&str>,
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
        set_number(py, &mut options.max_message_bytes, "max_message_bytes", max_message_bytes)?;
        set_seconds(py, &mut options.reconnect_min, "reconnect_min", reconnect_min)?;
        set_seconds(py, &mut options.reconnect_max, "reconnect_max", reconnect_max)?;
        options.on_event = on_event.map(crate::event::hook);
        let core = call(py, || majordomo::Client::with_options(options))?;
        Ok(Client { core: Detached::new(Arc::new(core)) })
    }

    /// Ask a service, and wait for its reply.
    ///
    /// ``body`` is one bytes-like object, one ``str`` (sent as UTF-8), a list or tuple of them, or a Message.
    /// ``timeout``, ``retries`` and ``deadline`` replace the client's options for this request. ``max_attempts`` is how
    /// often it is handed to a worker at most; with 1 it never runs twice, and fails with WorkerLost where it may have
    /// run. With ``fail_fast`` it fails with NoWorker at once where the service has no worker (MDPX only).
    /// ``properties``, a mapping of names to bytes or str, travel beside the body (MDPX only).
    ///
    /// Raises RequestTimeout when no answer came in time, ServiceError when the service's handler failed,
    /// BrokerUnreachable when there is no broker, TooLarge, InvalidArgument, Closed; over MDPX also NoWorker (with
    /// ``fail_fast``), QueueFull when the broker is full, Expired when the broker's own waiting time is over, WorkerLost
    /// and AttemptsExhausted when workers were lost with it.
    #[pyo3(signature = (service, body, *, timeout=None, retries=None, deadline=None, max_attempts=None,
                        fail_fast=false, properties=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn request(
        &self,
        py: Python<'_>,
        service: &str,
        body: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        retries: Option<i64>,
        deadline: Option<f64>,
        max_attempts: Option<i64>,
        fail_fast: bool,
        properties: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Message> {
        let options = request_options(py, timeout, retries, deadline, max_attempts, fail_fast)?;
        let body = message_of(body, properties)?;
        wait(py, |check| self.core.request_with(service, body, &options, check)).map(Message::from)
    }

    /// Ask a service, and iterate over the messages of its reply: the partial ones, then the final one.
    ///
    /// Over MDP/0.1, which knows one reply only, that is one message. Closing or dropping the iterator abandons the
    /// request. The stream has a connection of its own, so the client serves other calls meanwhile. Arguments and
    /// errors are those of ``request``; a failure on the way is raised by the iterator.
    #[pyo3(signature = (service, body, *, timeout=None, retries=None, deadline=None, max_attempts=None,
                        fail_fast=false, properties=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn stream(
        &self,
        py: Python<'_>,
        service: &str,
        body: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        retries: Option<i64>,
        deadline: Option<f64>,
        max_attempts: Option<i64>,
        fail_fast: bool,
        properties: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Parts> {
        let options = request_options(py, timeout, retries, deadline, max_attempts, fail_fast)?;
        let body = message_of(body, properties)?;
        let stream = call(py, || Stream::start(&self.core, service, body, &options))?;
        Ok(Parts {
            core: Mutex::new(Some(Detached::new(stream))),
            last: AtomicBool::new(false),
            process: std::process::id(),
        })
    }

    /// Close the connection. Calls made afterwards raise Closed; closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
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

    fn __repr__(&self) -> String {
        let options = self.core.options();
        format!("<majordomo.Client {:?} protocol {}>", options.endpoints.join(","), options.protocol)
    }
}

/// The messages of a reply as they come, made by ``Client.stream``.
///
/// An iterator of Message, and a context manager that abandons the request at the end of its block.
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Parts {
    core: Mutex<Option<Detached<Stream>>>,
    last: AtomicBool,
    /// Process that made it: in a child made by fork, `core` may be locked by a thread that does not exist there.
    process: u32,
}

#[pymethods]
impl Parts {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        if self.process != std::process::id() {
            return Err(raise(py, &Error::new(ErrorKind::Closed, "this stream was made before fork()")));
        }
        let next = wait(py, |check| {
            let mut stream = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stream) = stream.as_mut() else { return Ok(None) };
            let next = stream.parts.next_with(check).transpose();
            self.last.store(stream.parts.is_final(), Ordering::Release);
            next
        })?;
        Ok(next.map(Message::from))
    }

    /// Whether the message that the iterator returned last was the final one.
    #[getter]
    #[pyo3(name = "final")]
    fn is_final(&self) -> bool {
        self.last.load(Ordering::Acquire)
    }

    /// Abandon the request, unless it has ended; the iterator then ends.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.process != std::process::id() {
            return Ok(());
        }
        call(py, || {
            drop(self.core.lock().unwrap_or_else(PoisonError::into_inner).take());
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

/// A stream together with the client that it borrows.
struct Stream {
    /// Declared, and so dropped, before the client.
    parts: majordomo::Parts<'static>,
    _client: Arc<majordomo::Client>,
}

impl Stream {
    fn start(
        client: &Arc<majordomo::Client>,
        service: &str,
        body: majordomo::Message,
        options: &majordomo::RequestOptions,
    ) -> majordomo::Result<Self> {
        let parts = client.stream_with(service, body, options)?;
        // SAFETY: `parts` borrows the client inside the Arc, which does not move and outlives it (see the fields).
        let parts = unsafe { std::mem::transmute::<majordomo::Parts<'_>, majordomo::Parts<'static>>(parts) };
        Ok(Stream { parts, _client: Arc::clone(client) })
    }
}
