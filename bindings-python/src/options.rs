//! Options: float seconds and plain integers from Python; whatever is left out (`None`) keeps the core's default.

use std::time::Duration;

use majordomo::{Error, ErrorKind, RequestOptions};
use pyo3::prelude::*;

use crate::error::invalid;

/// One string (several endpoints separated by commas), or a sequence of strings.
#[derive(FromPyObject)]
pub(crate) enum Endpoints {
    #[pyo3(transparent, annotation = "str")]
    One(String),
    #[pyo3(transparent, annotation = "Sequence[str]")]
    Several(Vec<String>),
}

impl Endpoints {
    pub(crate) fn joined(self) -> String {
        match self {
            Endpoints::One(endpoint) => endpoint,
            Endpoints::Several(endpoints) => endpoints.join(","),
        }
    }
}

/// Sets `option` to so many seconds, unless they were left out.
pub(crate) fn set_seconds(py: Python<'_>, option: &mut Duration, name: &str, seconds: Option<f64>) -> PyResult<()> {
    if let Some(duration) = duration(py, name, seconds)? {
        *option = duration;
    }
    Ok(())
}

/// As [`set_seconds`], for an option that can be without a limit: that is asked for by an infinite number of seconds.
pub(crate) fn set_limit(
    py: Python<'_>,
    option: &mut Option<Duration>,
    name: &str,
    seconds: Option<f64>,
) -> PyResult<()> {
    match seconds {
        None => {}
        Some(f64::INFINITY) => *option = None,
        seconds => *option = duration(py, name, seconds)?,
    }
    Ok(())
}

/// Sets `option` to this number, unless it was left out.
pub(crate) fn set_number<T: TryFrom<i64>>(
    py: Python<'_>,
    option: &mut T,
    name: &str,
    value: Option<i64>,
) -> PyResult<()> {
    if let Some(number) = number(py, name, value)? {
        *option = number;
    }
    Ok(())
}

/// What one request does differently.
pub(crate) fn request_options(
    py: Python<'_>,
    timeout: Option<f64>,
    retries: Option<i64>,
    deadline: Option<f64>,
    max_attempts: Option<i64>,
    fail_fast: bool,
) -> PyResult<RequestOptions> {
    Ok(RequestOptions {
        max_attempts: number(py, "max_attempts", max_attempts)?,
        fail_fast,
        timeout: duration(py, "timeout", timeout)?,
        retries: number(py, "retries", retries)?,
        deadline: duration(py, "deadline", deadline)?,
    })
}

pub(crate) fn protocol(py: Python<'_>, option: &mut majordomo::Protocol, name: Option<&str>) -> PyResult<()> {
    if let Some(name) = name {
        *option = name.parse().map_err(|error: Error| crate::error::raise(py, &error))?;
    }
    Ok(())
}

pub(crate) fn duration(py: Python<'_>, name: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    // Negative, infinite, not a number, or beyond what a Duration holds.
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => Ok(Some(duration)),
        Err(error) => Err(invalid(py, format!("{name} = {seconds} seconds: {error}"))),
    }
}

fn number<T: TryFrom<i64>>(py: Python<'_>, name: &str, value: Option<i64>) -> PyResult<Option<T>> {
    let Some(value) = value else { return Ok(None) };
    match T::try_from(value) {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(crate::error::raise(
            py,
            &Error::new(ErrorKind::InvalidArgument, format!("{name} = {value} is out of range")),
        )),
    }
}
