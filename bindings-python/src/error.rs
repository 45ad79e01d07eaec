//! Failures of the core become Python exceptions, and waiting is done without the GIL.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use majordomo::{Check, Wake};
use majordomo::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Calls into the core without the GIL. A failure becomes the exception of its kind.
pub(crate) fn call<T: Send>(py: Python<'_>, operation: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guarded(operation)).map_err(|error| raise(py, &error))
}

/// Calls a blocking operation of the core without the GIL, and looks for signals whenever the core asks.
///
/// A signal handler that raises (Ctrl-C does) ends the operation, and its exception is what the caller gets.
pub(crate) fn wait<T: Send>(py: Python<'_>, operation: impl FnOnce(Check<'_>) -> Result<T> + Send) -> PyResult<T> {
    let mut raised = None;
    let outcome = py.detach(|| {
        let mut check = |_: Wake| match Python::try_attach(|py| py.check_signals()) {
            Some(Ok(())) => ControlFlow::Continue(()),
            Some(Err(exception)) => {
                raised = Some(exception);
                ControlFlow::Break(())
            }
            // The interpreter shuts down: nobody is left to take the outcome.
            None => ControlFlow::Break(()),
        };
        guarded(|| operation(&mut check))
    });
    match raised {
        Some(exception) => Err(exception),
        None => outcome.map_err(|error| raise(py, &error)),
    }
}

/// Turns a panic of the core into an `Internal` failure.
fn guarded<T>(operation: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|panic| Err(internal(panic.as_ref())))
}

fn internal(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Error::new(ErrorKind::Internal, format!("a defect in majordomo: {}", text.unwrap_or("unknown")))
}

/// The exception for a failure of the core.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

/// The exception for a failure of the core, as an object.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    /// `majordomo.errors.from_core`, which knows the class of each number.
    static FROM_CORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from_core = FROM_CORE
        .get_or_try_init(py, || py.import("majordomo.errors")?.getattr("from_core").map(Bound::unbind))?
        .bind(py);
    match error.service_error() {
        Some(service) => from_core.call1((error.kind().number(), error.to_string(), service.code, &service.text, service.retryable)),
        None => from_core.call1((error.kind().number(), error.to_string())),
    }
}

/// The exception for an argument that is not of the required form.
pub(crate) fn invalid(py: Python<'_>, text: impl Into<String>) -> PyErr {
    raise(py, &Error::new(ErrorKind::InvalidArgument, text))
}
