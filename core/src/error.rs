//! Every failure has one kind; the kinds, numbers and names are the same in all languages.

use std::fmt;

/// Result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The one table of failures. The C constants, the Python classes and the Node codes are generated from it or
/// checked against it, and a number is never given to another kind.
macro_rules! error_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $number:literal, $code:literal, $retry:literal;)+) => {
        /// What went wrong. The number and the names are the same in every language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $kind = $number,)+
        }

        impl ErrorKind {
            /// Every kind, by rising number.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind),+];

            /// The kind's name, for example `Timeout`.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorKind::$kind => stringify!($kind)),+ }
            }

            /// The kind's code: the constant's name in C, `name` in Python, `code` in Node; for example `MD_ETIMEOUT`.
            pub const fn code(self) -> &'static str {
                match self { $(ErrorKind::$kind => $code),+ }
            }

            /// Whether the same request may succeed when it is sent again.
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorKind::$kind => $retry),+ }
            }

            /// What the kind means, in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $(ErrorKind::$kind => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

error_kinds! {
    /// No answer came in time.
    Timeout = 1, "MD_ETIMEOUT", true;
    /// No worker serves the service, and the caller did not want to wait for one.
    NoWorker = 2, "MD_ENOWORKER", true;
    /// A queue is at its limit and took nothing more.
    QueueFull = 3, "MD_EQUEUEFULL", true;
    /// The request waited longer than it may.
    Expired = 4, "MD_EEXPIRED", true;
    /// The worker was lost while it held the request.
    WorkerLost = 5, "MD_EWORKERLOST", true;
    /// Every permitted attempt at the request failed.
    AttemptsExhausted = 6, "MD_EATTEMPTS", true;
    /// The caller gave the request up.
    Cancelled = 7, "MD_ECANCELLED", false;
    /// The service's handler reported a failure of its own.
    ServiceError = 8, "MD_ESERVICE", false;
    /// No broker could be reached.
    BrokerUnreachable = 9, "MD_EUNREACHABLE", true;
    /// The other side does not permit it.
    Denied = 10, "MD_EDENIED", false;
    /// A peer broke the protocol.
    Protocol = 11, "MD_EPROTOCOL", false;
    /// An argument is not of the required form.
    InvalidArgument = 12, "MD_EINVAL", false;
    /// The handle is closed, or was made before a fork.
    Closed = 13, "MD_ECLOSED", false;
    /// The message is larger than the limit.
    TooLarge = 14, "MD_ETOOLARGE", false;
    /// Something failed that should not have: the operating system, or this software.
    Internal = 15, "MD_EINTERNAL", false;
    /// The handle is in use by another thread.
    Busy = 16, "MD_EBUSY", true;
}

impl ErrorKind {
    /// The kind's number, 1 to 16.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure that a service's handler reported: its own code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// The service's own number for the failure; 500 where it gave none.
    pub code: u32,
    /// What the service said.
    pub text: String,
    /// Whether another attempt may succeed. The broker hands such a request to another worker while it has attempts
    /// left (MDPX workers only).
    pub retryable: bool,
}

impl ServiceError {
    /// A failure with the service's own `code` and `text`.
    pub fn new(code: u32, text: impl Into<String>) -> Self {
        ServiceError { code, text: text.into(), retryable: false }
    }

    /// Sets whether another attempt may succeed.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl std::error::Error for ServiceError {}

/// A failure: its kind, and a sentence with what a person needs to act on it.
///
/// It is one pointer: whatever can fail hands its result on, and nearly always that is no failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.context)]
pub struct Error(Box<Failure>);

#[derive(Clone, Debug)]
struct Failure {
    kind: ErrorKind,
    context: String,
    service: Option<ServiceError>,
}

impl Error {
    /// A failure of `kind`, told in the sentence `context`.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Error(Box::new(Failure { kind, context: context.into(), service: None }))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may succeed when it is sent again: what the service said, or what the kind says.
    pub fn is_retryable(&self) -> bool {
        self.service_error().map_or(self.kind().is_retryable(), |service| service.retryable)
    }

    /// The service's own code and text, where the kind is [`ErrorKind::ServiceError`].
    pub fn service_error(&self) -> Option<&ServiceError> {
        self.0.service.as_ref()
    }

    pub(crate) fn invalid(context: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, context)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Error::new(ErrorKind::Closed, format!("this {what} is closed"))
    }
}

impl From<ServiceError> for Error {
    fn from(failure: ServiceError) -> Self {
        let context = format!("the service failed: {failure}");
        Error(Box::new(Failure { kind: ErrorKind::ServiceError, context, service: Some(failure) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_lead_back_to_their_kinds() {
        for (index, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.number()), index + 1);
            assert_eq!(ErrorKind::from_number(kind.number()), Some(*kind));
            assert!(kind.code().starts_with("MD_E"));
            assert!(!kind.description().is_empty());
        }
        assert_eq!(ErrorKind::from_number(0), None);
    }

    #[test]
    fn a_result_is_as_small_as_what_is_in_it() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
        assert_eq!(size_of::<Result<&str>>(), size_of::<&str>());
    }

    #[test]
    fn a_service_error_keeps_its_code_and_text() {
        let error = Error::from(ServiceError::new(404, "no such page"));
        assert_eq!(error.kind(), ErrorKind::ServiceError);
        assert_eq!(error.service_error(), Some(&ServiceError::new(404, "no such page")));
    }
}
