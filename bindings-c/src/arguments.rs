//! What C passes besides handles: strings, memory, places for results, numbers.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::Duration;

use majordomo::{Error, ErrorKind, Result};

/// The text that `pointer` points to, or an error that names the argument.
///
/// # Safety
/// `pointer` is NULL or points to a NUL-terminated string that lives for `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, argument: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(null(argument));
    }
    // SAFETY: not NULL, so NUL-terminated by the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    let bytes = text.to_bytes();
    // Nearly always, and sooner found than UTF-8: short texts are checked with every request.
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).map_err(|_| invalid(format!("{argument} is not UTF-8")))
}

/// `size` bytes at `data`. NULL stands for no bytes only where `size` is 0.
///
/// # Safety
/// `data` is NULL or points to `size` readable bytes that live for `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, size: usize) -> Result<&'a [u8]> {
    match (data.is_null(), size) {
        (true, 0) => Ok(&[]),
        (true, _) => Err(null("data")),
        (false, _) if size > isize::MAX as usize => Err(invalid(format!("size {size} is more than memory can hold"))),
        // SAFETY: not NULL and of a possible size, so readable by the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) }),
    }
}

/// The place where a result goes, or an error that names the argument.
///
/// # Safety
/// `pointer` is NULL or points to an initialised `T` that nothing else uses during `'a`.
pub(crate) unsafe fn place<'a, T>(pointer: *mut T, argument: &str) -> Result<&'a mut T> {
    // SAFETY: NULL gives None; anything else is valid by the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(argument))
}

/// A duration in milliseconds as C gives it.
pub(crate) fn milliseconds(ms: c_int, option: &str) -> Result<Duration> {
    u64::try_from(ms).map(Duration::from_millis).map_err(|_| invalid(format!("{option} must not be negative")))
}

/// A duration in milliseconds where 0 says "none".
pub(crate) fn optional_milliseconds(ms: c_int, option: &str) -> Result<Option<Duration>> {
    milliseconds(ms, option).map(|duration| (!duration.is_zero()).then_some(duration))
}

/// How long to wait: -1 is for ever.
#[inline]
pub(crate) fn patience(ms: c_int) -> Result<Option<Duration>> {
    if ms == -1 { Ok(None) } else { milliseconds(ms, "the waiting time").map(Some) }
}

/// A count as C gives it.
pub(crate) fn count(value: c_int, option: &str) -> Result<u32> {
    u32::try_from(value).map_err(|_| invalid(format!("{option} must not be negative")))
}

/// A copy of `bytes` for C to `free`, with a NUL behind it.
pub(crate) fn duplicate(bytes: &[u8]) -> Result<*mut c_char> {
    // SAFETY: malloc has no conditions, and its result is checked.
    let copy = unsafe { libc::malloc(bytes.len() + 1) }.cast::<u8>();
    if copy.is_null() {
        return Err(Error::new(ErrorKind::Internal, format!("no memory for {} bytes", bytes.len() + 1)));
    }
    // SAFETY: `copy` has room for the bytes and one more, and is fresh memory.
    unsafe {
        copy.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        copy.add(bytes.len()).write(0);
    }
    Ok(copy.cast())
}

/// A C string of `text`; what follows an interior NUL is lost, as any reader of a C string would lose it.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

pub(crate) fn invalid(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, context)
}

fn null(argument: &str) -> Error {
    invalid(format!("{argument} is NULL"))
}
