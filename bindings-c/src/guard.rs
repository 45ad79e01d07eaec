//! The border: no panic crosses it, every failure leaves its reason behind, every function goes through here.

use std::any::Any;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use majordomo::{Error, ErrorKind, Result};

use crate::error;
use crate::message::{Body, mdmsg_t};
use crate::places;
use crate::registry::{self, Handle};

/// What a C function returns, and which value of it says "failed".
pub(crate) trait Outcome {
    const FAILURE: Self;
}

impl<T> Outcome for *mut T {
    const FAILURE: Self = std::ptr::null_mut();
}

impl<T> Outcome for *const T {
    const FAILURE: Self = std::ptr::null();
}

impl Outcome for c_int {
    const FAILURE: Self = -1;
}

impl Outcome for i64 {
    const FAILURE: Self = -1;
}

impl Outcome for usize {
    const FAILURE: Self = 0;
}

impl Outcome for u32 {
    const FAILURE: Self = 0;
}

impl Outcome for () {
    const FAILURE: Self = ();
}

/// A string from static memory, for functions that always have one to give.
pub(crate) struct StaticText(pub(crate) &'static CStr);

/// Runs the body of an exported function. A failure, and a panic as `Internal`, becomes the thread's last error.
pub(crate) fn guard<T: Outcome>(body: impl FnOnce() -> Result<T>) -> T {
    let result = catch_unwind(AssertUnwindSafe(body));
    match result.unwrap_or_else(|panic| Err(internal(panic.as_ref()))) {
        Ok(value) => value,
        Err(failure) => {
            error::remember(&failure);
            T::FAILURE
        }
    }
}

/// The same for a function whose first argument is a handle: its result is what the handle's `errno` tells.
pub(crate) fn guard_on<H: Handle, T: Outcome>(this: *mut H::Opaque, body: impl FnOnce(&H) -> Result<T>) -> T {
    guard(|| {
        let handle = registry::get::<H>(this)?;
        let mut call = Call { token: this.addr(), handle: &*handle, number: c_int::from(ErrorKind::Internal.number()) };
        let result = body(&handle);
        call.number = result.as_ref().err().map_or(0, |failure| c_int::from(failure.kind().number()));
        result
    })
}

/// Notes at its end, which may be a panic, how a call on a handle has ended.
struct Call<'a, H: Handle> {
    token: usize,
    handle: &'a H,
    number: c_int,
}

impl<H: Handle> Drop for Call<'_, H> {
    fn drop(&mut self) {
        error::remember_call(self.token, self.number);
        self.handle.set_errno(self.number);
    }
}

/// The same for a function whose first argument is a message. One thread uses a message at a time, so it has no errno of
/// its own.
pub(crate) fn guard_message<T: Outcome>(this: *mut mdmsg_t, body: impl FnOnce(&mut Body) -> Result<T>) -> T {
    guard(|| body(&mut *places::hold(this)?))
}

/// For functions that give a text from static memory and have no way to fail but a panic.
pub(crate) fn guard_text(body: impl FnOnce() -> StaticText) -> *const c_char {
    guard(|| Ok(body().0.as_ptr()))
}

#[cold]
fn internal(panic: &(dyn Any + Send)) -> Error {
    Error::new(ErrorKind::Internal, format!("a panic inside the library: {}", reason(panic)))
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_text() {
        let result: c_int = guard(|| std::panic::panic_any("out of cheese"));
        assert_eq!(result, -1);
        assert_eq!(error::md_errno(), c_int::from(ErrorKind::Internal.number()));
        // SAFETY: md_errtext gives a string of this thread.
        let text = unsafe { CStr::from_ptr(error::md_errtext()) };
        assert!(text.to_string_lossy().contains("out of cheese"));
    }

    #[test]
    fn a_success_leaves_the_last_error_alone() {
        let _: c_int = guard(|| Err(Error::new(ErrorKind::Denied, "no")));
        let _: c_int = guard(|| Ok(0));
        assert_eq!(error::md_errno(), c_int::from(ErrorKind::Denied.number()));
    }
}
