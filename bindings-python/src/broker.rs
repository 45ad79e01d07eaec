//! The embedded broker.

use majordomo::BrokerOptions;
use pyo3::prelude::*;

use crate::detached::Detached;
use crate::error::{call, wait};
use crate::options::{Endpoints, set_limit, set_number, set_seconds};

/// A Majordomo broker on a thread of its own, for clients and workers of every protocol version.
///
/// ``endpoints`` is where it listens: one address or several. Port 0 picks a free port, and ``endpoint`` tells which.
/// The broker stops, with DISCONNECT to its workers, at the end of the ``with`` block or by ``stop``.
///
/// Options, with their defaults; durations are in seconds, and infinity (``math.inf``) means no limit:
///
/// - ``heartbeat`` (2.5): interval between heartbeats to workers;
/// - ``liveness`` (3): how many intervals a worker may be silent before it counts as gone;
/// - ``max_attempts`` (3): how often a request is handed to a worker at most;
/// - ``attempt_timeout`` (no limit): how long one worker may take over a request;
/// - ``request_ttl`` (300): how long a request may wait for a worker;
/// - ``max_queued`` (100,000), ``max_queued_per_service`` (100,000): how many requests may wait;
/// - ``max_queued_bytes`` (1 GiB), ``max_queued_bytes_per_service`` (1 GiB): how large they may be together;
/// - ``max_message_bytes`` (256 MiB): largest message accepted;
/// - ``max_services`` (10,000), ``max_workers`` (100,000): how many there may be;
/// - ``max_sessions`` (100,000): how many sessions MDPX clients may have open;
/// - ``credit`` (16,384): how many requests one MDPX client may have outstanding;
/// - ``heartbeat_min`` (0.01), ``heartbeat_max`` (60): the intervals between heartbeats that MDPX peers are granted.
///
/// Raises InvalidArgument for an option that is out of range, and InternalError where the address is taken.
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Broker {
    core: Detached<majordomo::Broker>,
}

#[pymethods]
impl Broker {
    #[new]
    #[pyo3(signature = (endpoints, *, heartbeat=None, liveness=None, max_attempts=None, attempt_timeout=None,
                        request_ttl=None, max_queued=None, max_queued_per_service=None, max_queued_bytes=None,
                        max_queued_bytes_per_service=None, max_message_bytes=None, max_services=None,
                        max_workers=None, max_sessions=None, credit=None, heartbeat_min=None, heartbeat_max=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        py: Python<'_>,
        endpoints: Endpoints,
        heartbeat: Option<f64>,
        liveness: Option<i64>,
        max_attempts: Option<i64>,
        attempt_timeout: Option<f64>,
        request_ttl: Option<f64>,
        max_queued: Option<i64>,
        max_queued_per_service: Option<i64>,
        max_queued_bytes: Option<i64>,
        max_queued_bytes_per_service: Option<i64>,
        max_message_bytes: Option<i64>,
        max_services: Option<i64>,
        max_workers: Option<i64>,
        max_sessions: Option<i64>,
        credit: Option<i64>,
        heartbeat_min: Option<f64>,
        heartbeat_max: Option<f64>,
    ) -> PyResult<Self> {
        let mut options = BrokerOptions::new(&endpoints.joined());
        set_seconds(py, &mut options.heartbeat, "heartbeat", heartbeat)?;
        set_number(py, &mut options.liveness, "liveness", liveness)?;
        set_number(py, &mut options.max_attempts, "max_attempts", max_attempts)?;
        set_limit(py, &mut options.attempt_timeout, "attempt_timeout", attempt_timeout)?;
        set_limit(py, &mut options.request_ttl, "request_ttl", request_ttl)?;
        set_number(py, &mut options.max_queued, "max_queued", max_queued)?;
        set_number(py, &mut options.max_queued_per_service, "max_queued_per_service", max_queued_per_service)?;
        set_number(py, &mut options.max_queued_bytes, "max_queued_bytes", max_queued_bytes)?;
        let per_service = &mut options.max_queued_bytes_per_service;
        set_number(py, per_service, "max_queued_bytes_per_service", max_queued_bytes_per_service)?;
        set_number(py, &mut options.max_message_bytes, "max_message_bytes", max_message_bytes)?;
        set_number(py, &mut options.max_services, "max_services", max_services)?;
        set_number(py, &mut options.max_workers, "max_workers", max_workers)?;
        set_number(py, &mut options.max_sessions, "max_sessions", max_sessions)?;
        set_number(py, &mut options.credit, "credit", credit)?;
        set_seconds(py, &mut options.heartbeat_min, "heartbeat_min", heartbeat_min)?;
        set_seconds(py, &mut options.heartbeat_max, "heartbeat_max", heartbeat_max)?;
        let core = call(py, || majordomo::Broker::with_options(options))?;
        Ok(Broker { core: Detached::new(core) })
    }

    /// The first address that the broker listens on, its port resolved.
    #[getter]
    fn endpoint(&self) -> &str {
        self.core.endpoint()
    }

    /// All addresses that the broker listens on, their ports resolved.
    #[getter]
    fn endpoints(&self) -> Vec<String> {
        self.core.endpoints().to_vec()
    }

    /// Return the broker's counters and what it knows of services, as the service ``mmi.stats`` does.
    ///
    /// Raises Closed after ``stop``.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = call(py, || self.core.stats())?;
        let text = serde_json::to_string(&stats)
            .map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))?;
        py.import("json")?.call_method1("loads", (text,))
    }

    /// Say DISCONNECT to the workers and end the broker. Stopping twice does nothing.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        call(py, || self.core.stop())
    }

    /// Wait until the broker has ended: until another thread stops it, or it fails. Ctrl-C ends the wait.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, |check| self.core.wait_with(check))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.stop(py)
    }

    fn __repr__(&self) -> String {
        format!("<majordomo.Broker {:?}>", self.core.endpoints().join(","))
    }
}
