//! How a failure crosses into JavaScript.
//!
//! A synchronous failure is thrown with the kind's code as `code`; one that comes later is an object among the events.
//! The JavaScript layer makes the same `MajordomoError` of both.

use majordomo::{Error, ErrorKind};
use napi_derive::napi;

/// Status of a thrown error: becomes its `code`.
#[derive(Clone, Copy, Debug)]
pub struct Code(&'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl From<napi::Status> for Code {
    fn from(status: napi::Status) -> Self {
        let kind = match status {
            napi::Status::GenericFailure | napi::Status::PendingException | napi::Status::Unknown => {
                ErrorKind::Internal
            }
            napi::Status::Closing | napi::Status::Cancelled => ErrorKind::Closed,
            _ => ErrorKind::InvalidArgument,
        };
        Code(kind.code())
    }
}

/// Result of a synchronous native function.
pub(crate) type Result<T> = napi::Result<T, Code>;

/// The error to throw for a failure of the core.
pub(crate) fn thrown(error: &Error) -> napi::Error<Code> {
    napi::Error::new(Code(error.kind().code()), error)
}

/// The error to throw for a failure of the engine, for example when it has no memory for a buffer.
pub(crate) fn engine(error: &napi::Error) -> napi::Error<Code> {
    napi::Error::new(Code::from(error.status), &error.reason)
}

pub(crate) fn invalid(text: impl Into<String>) -> napi::Error<Code> {
    thrown(&Error::new(ErrorKind::InvalidArgument, text))
}

/// A failure that is handed over as a value.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// Number of the kind, as in `errorKinds()`.
    pub number: u8,
    /// The whole sentence.
    pub message: String,
    /// Whether the same request may succeed when it is sent again.
    pub retryable: bool,
    /// The service's own code, of a `ServiceError`.
    pub service_code: Option<u32>,
    /// The service's own text, of a `ServiceError`.
    pub service_text: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let service = error.service_error();
        Failure {
            number: error.kind().number(),
            message: error.to_string(),
            retryable: error.is_retryable(),
            service_code: service.map(|service| service.code),
            service_text: service.map(|service| service.text.clone()),
        }
    }
}

/// One row of the table of failures.
#[napi(object, object_from_js = false)]
pub(crate) struct Kind {
    /// The number, the same in every language.
    pub number: u8,
    /// The name, for example `Timeout`.
    pub name: &'static str,
    /// The code, for example `MD_ETIMEOUT`.
    pub code: &'static str,
    /// Whether the same request may succeed when it is sent again.
    pub retryable: bool,
    /// What it means, in one sentence.
    pub description: &'static str,
}

/// The table of failures.
#[napi]
pub(crate) fn error_kinds() -> Vec<Kind> {
    let row = |kind: &ErrorKind| Kind {
        number: kind.number(),
        name: kind.name(),
        code: kind.code(),
        retryable: kind.is_retryable(),
        description: kind.description(),
    };
    ErrorKind::ALL.iter().map(row).collect()
}
