//! The compiled half of the Python package `majordomo`: it converts arguments, calls the core, and converts results.
//!
//! No behaviour lives here. Whatever waits does so without the GIL ([`error::call`], [`error::wait`]), whatever is
//! dropped is dropped without the GIL ([`detached::Detached`]), and no panic leaves the core as one.

mod aio;
mod broker;
mod client;
mod detached;
mod error;
mod event;
mod message;
mod options;
mod worker;

use pyo3::prelude::*;

/// Compiled half of the package `majordomo`. Import from `majordomo` instead.
#[pymodule]
mod _majordomo {
    #[pymodule_export]
    use super::aio::{AsyncClient, AsyncWorker, Mailbox, Unread};
    #[pymodule_export]
    use super::broker::Broker;
    #[pymodule_export]
    use super::client::{Client, Parts};
    #[pymodule_export]
    use super::event::Event;
    #[pymodule_export]
    use super::message::Message;
    #[pymodule_export]
    use super::worker::{Request, Worker};
    #[pymodule_export]
    use super::{error_table, libzmq_version, mdbroker, version};
}

/// The version of the library, for example `"0.1.0"`.
#[pyfunction]
fn version() -> &'static str {
    majordomo::version()
}

/// The version of the libzmq inside the library, for example `(4, 3, 5)`.
#[pyfunction]
fn libzmq_version() -> (i32, i32, i32) {
    majordomo::libzmq().version
}

/// The table of error kinds: `(number, kind, name, retryable, description)` of each.
#[pyfunction]
fn error_table() -> Vec<(u8, &'static str, &'static str, bool, &'static str)> {
    (majordomo::ErrorKind::ALL.iter())
        .map(|kind| (kind.number(), kind.name(), kind.code(), kind.is_retryable(), kind.description()))
        .collect()
}

/// Runs the command `mdbroker` with these arguments, the program's name first, and returns its exit status.
#[pyfunction]
fn mdbroker(py: Python<'_>, args: Vec<String>) -> PyResult<i32> {
    error::call(py, || Ok(i32::from(majordomo_cli::mdbroker(args.into_iter().map(Into::into)))))
}
