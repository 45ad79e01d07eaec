//! Why a call failed: the last error of each thread, and the one table of kinds.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;

use majordomo::{Error, ErrorKind};

use crate::arguments::{c_string, invalid, text};
use crate::guard::{StaticText, guard, guard_text};
use crate::registry;

#[derive(Default)]
struct Last {
    number: c_int,
    text: CString,
    service_code: u32,
    service_text: CString,
    service_retryable: bool,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
    /// The handle of this thread's last call on one, and how that call ended.
    static LAST_CALL: Cell<(usize, c_int)> = const { Cell::new((0, 0)) };
}

/// Makes `error` the thread's last error.
pub(crate) fn remember(error: &Error) {
    let service = error.service_error();
    let last = Last {
        number: c_int::from(error.kind().number()),
        text: c_string(&error.to_string()),
        service_code: service.map_or(0, |service| service.code),
        service_text: service.map(|service| c_string(&service.text)).unwrap_or_default(),
        service_retryable: service.is_some_and(|service| service.retryable),
    };
    // A thread that is being torn down has no last error any more.
    let _ = LAST.try_with(|cell| cell.replace(last));
}

/// Notes how this thread's call on a handle ended.
pub(crate) fn remember_call(token: usize, number: c_int) {
    let _ = LAST_CALL.try_with(|cell| cell.set((token, number)));
}

/// How this thread's last call ended if it was on that handle.
pub(crate) fn last_call(token: usize) -> Option<c_int> {
    LAST_CALL.try_with(Cell::get).ok().filter(|(last, _)| *last == token).map(|(_, number)| number)
}

/// The number (MD_E...) of the last failure of any function of this library on the calling thread; 0 if none failed
/// yet. A success does not change it. Threads: each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn md_errno() -> c_int {
    guard(|| Ok(LAST.try_with(|last| last.borrow().number).unwrap_or(0)))
}

/// The same failure as a sentence, with the service, endpoint or argument it is about; an empty string if none failed
/// yet. Never NULL. Ownership: the library's; valid until the next failure on the calling thread.
#[unsafe(no_mangle)]
pub extern "C" fn md_errtext() -> *const c_char {
    guard(|| Ok(LAST.try_with(|last| last.borrow().text.as_ptr()).unwrap_or(c"".as_ptr())))
}

/// The number that the service's handler gave its failure, if the calling thread's last failure is MD_ESERVICE; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn md_service_code() -> u32 {
    guard(|| Ok(LAST.try_with(|last| last.borrow().service_code).unwrap_or(0)))
}

/// The text that the service's handler gave its failure, if the calling thread's last failure is MD_ESERVICE; else an
/// empty string. Never NULL. Ownership: the library's; valid until the next failure on the calling thread.
#[unsafe(no_mangle)]
pub extern "C" fn md_service_text() -> *const c_char {
    guard(|| Ok(LAST.try_with(|last| last.borrow().service_text.as_ptr()).unwrap_or(c"".as_ptr())))
}

/// Whether the service's handler said that another attempt may succeed, if the calling thread's last failure is
/// MD_ESERVICE: 1 yes, 0 no; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn md_service_retryable() -> c_int {
    guard(|| Ok(LAST.try_with(|last| c_int::from(last.borrow().service_retryable)).unwrap_or(0)))
}

/// What an error number means, in one sentence; for 0 "no error". Never NULL, also for a number that is none.
/// Ownership: static memory. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn md_strerror(number: c_int) -> *const c_char {
    guard_text(|| StaticText(row(number).map_or(c"unknown error", |row| &row.description)))
}

/// The name of an error number's kind, the same in every language: "Timeout", "NoWorker", ...; for 0 "Ok". Never NULL,
/// also for a number that is none. Ownership: static memory. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn md_kind(number: c_int) -> *const c_char {
    guard_text(|| StaticText(row(number).map_or(c"Unknown", |row| &row.name)))
}

/// The name of an error number's constant in this header: "MD_ETIMEOUT", ...; for 0 "MD_OK". Never NULL, also for a
/// number that is none. Ownership: static memory. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn md_code(number: c_int) -> *const c_char {
    guard_text(|| StaticText(row(number).map_or(c"MD_EUNKNOWN", |row| &row.code)))
}

/// Whether the same request may succeed when it is sent again after this error: 1 yes, 0 no. Of MD_ESERVICE the service
/// itself may say so: see md_service_retryable.
#[unsafe(no_mangle)]
pub extern "C" fn md_retryable(number: c_int) -> c_int {
    guard(|| Ok(c_int::from(row(number).is_some_and(|row| row.retryable))))
}

/// The library's version, for example "0.1.0". Never NULL. Ownership: static memory. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn md_version() -> *const c_char {
    static VERSION: OnceLock<CString> = OnceLock::new();
    guard_text(|| StaticText(VERSION.get_or_init(|| c_string(majordomo::version()))))
}

/// The version of the libzmq inside the library, for example "4.3.5". Never NULL. Ownership: static memory.
#[unsafe(no_mangle)]
pub extern "C" fn md_libzmq_version() -> *const c_char {
    static VERSION: OnceLock<CString> = OnceLock::new();
    guard_text(|| {
        StaticText(VERSION.get_or_init(|| {
            let (major, minor, patch) = majordomo::libzmq().version;
            c_string(&format!("{major}.{minor}.{patch}"))
        }))
    })
}

/// Whether the libzmq inside the library can do something: "curve" (encryption and authentication) or
/// "disconnect-notice" (the broker learns at once of a lost connection). 1 yes, 0 no, -1 with MD_EINVAL for any other name
/// and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn md_libzmq_has(capability: *const c_char) -> c_int {
    guard(|| {
        // SAFETY: a string or NULL, as the header demands.
        let capability = unsafe { text(capability, "capability") }?;
        let libzmq = majordomo::libzmq();
        match capability {
            "curve" => Ok(c_int::from(libzmq.curve)),
            "disconnect-notice" => Ok(c_int::from(libzmq.disconnect_notice)),
            _ => Err(invalid(format!("{capability:?} is not a capability: curve, disconnect-notice"))),
        }
    })
}

/// How many handles (messages, options, clients, workers, requests, brokers) exist in this process: what has been made and
/// not destroyed. A program that leaks nothing ends with 0. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn md_handles() -> usize {
    guard(|| Ok(registry::live()))
}

struct Row {
    name: CString,
    code: CString,
    description: CString,
    retryable: bool,
}

/// The row of an error number; `None` where no kind has it.
fn row(number: c_int) -> Option<&'static Row> {
    static ROWS: OnceLock<Vec<(c_int, Row)>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| {
        let none = Row { name: c"Ok".into(), code: c"MD_OK".into(), description: c"no error".into(), retryable: false };
        let kinds = ErrorKind::ALL.iter().map(|kind| {
            let row = Row {
                name: c_string(kind.name()),
                code: c_string(kind.code()),
                description: c_string(kind.description()),
                retryable: kind.is_retryable(),
            };
            (c_int::from(kind.number()), row)
        });
        std::iter::once((0, none)).chain(kinds).collect()
    });
    rows.iter().find(|(known, _)| *known == number).map(|(_, row)| row)
}
