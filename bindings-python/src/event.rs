//! What happens to a connection, told to a Python callable.

use majordomo::{ConnectionEvent, EventHook};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// What happened to the connection of a client or a worker.
///
/// ``name`` is "connected", "disconnected", "reconnecting" or "draining".
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Event {
    core: ConnectionEvent,
}

#[pymethods]
impl Event {
    /// What happened: "connected", "disconnected", "reconnecting" or "draining".
    #[getter]
    fn name(&self) -> &'static str {
        self.core.name()
    }

    /// The broker's endpoint; None for "draining".
    #[getter]
    fn endpoint(&self) -> Option<&str> {
        match &self.core {
            ConnectionEvent::Connected { endpoint, .. }
            | ConnectionEvent::Disconnected { endpoint, .. }
            | ConnectionEvent::Reconnecting { endpoint } => Some(endpoint),
            _ => None,
        }
    }

    /// What is spoken with the broker, of "connected" only: "0.1", "0.2" or "x1".
    #[getter]
    fn protocol(&self) -> Option<&'static str> {
        match &self.core {
            ConnectionEvent::Connected { protocol, .. } => Some(protocol.name()),
            _ => None,
        }
    }

    /// Why the connection is of no use any more, of "disconnected" only.
    #[getter]
    fn reason(&self) -> Option<&str> {
        match &self.core {
            ConnectionEvent::Disconnected { reason, .. } => Some(reason),
            _ => None,
        }
    }

    fn __repr__(&self) -> String {
        format!("<majordomo.Event {} {}>", self.name(), self.endpoint().unwrap_or_default())
    }
}

/// A hook that calls `listener` with an Event. What it raises is reported as unraisable; Ctrl-C is not lost by that.
pub(crate) fn hook(listener: Py<PyAny>) -> EventHook {
    EventHook::new(move |event| {
        // `None` while the interpreter shuts down: nobody is left to be told.
        let _ = Python::try_attach(|py| {
            let listener = listener.bind(py);
            if let Err(error) = listener.call1((Event { core: event.clone() },)) {
                if error.is_instance_of::<PyKeyboardInterrupt>(py) {
                    // SAFETY: the interpreter is attached. The call that waits behind this looks for signals, and ends.
                    unsafe { pyo3::ffi::PyErr_SetInterrupt() };
                } else {
                    error.write_unraisable(py, Some(listener));
                }
            }
        });
    })
}
