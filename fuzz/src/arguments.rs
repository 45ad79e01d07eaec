//! Arguments as a careless C program might pass them: handles that are good, destroyed, of another type, or no handles at
//! all; strings and memory that are there, or NULL.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use crate::input::Input;

/// The handles that an input has made, of one type.
pub struct Handles {
    pub live: Vec<usize>,
    /// Values of handles that have been destroyed.
    stale: Vec<usize>,
}

impl Handles {
    pub const fn new() -> Handles {
        Handles { live: Vec::new(), stale: Vec::new() }
    }

    /// What a function gave: a handle or NULL.
    pub fn add<T>(&mut self, handle: *mut T) {
        if !handle.is_null() {
            self.live.push(handle.addr());
        }
    }

    /// A value to be passed as a handle; `other` is a handle of another type.
    pub fn any<T>(&self, input: &mut Input<'_>, other: usize) -> *mut T {
        let value = match input.u8() {
            0..232 => input.pick(&self.live).copied().unwrap_or_default(),
            232..240 => input.pick(&self.stale).copied().unwrap_or_default(),
            240..246 => other,
            246..250 => input.u64() as usize,
            _ => 0,
        };
        ptr::without_provenance_mut(value)
    }

    /// Calls a function that takes the place of a handle, which is NULL itself now and then, and keeps the books.
    pub fn with_place<T, R>(&mut self, input: &mut Input<'_>, other: usize, call: impl FnOnce(*mut *mut T) -> R) -> R {
        let mut handle = self.any::<T>(input, other);
        let before = handle.addr();
        if input.u8() > 250 {
            return call(ptr::null_mut());
        }
        let result = call(&mut handle);
        assert!(handle.is_null() || handle.addr() == before, "a place gets NULL or stays as it is");
        if handle.is_null()
            && let Some(at) = self.live.iter().position(|live| *live == before)
        {
            self.stale.push(self.live.swap_remove(at));
        }
        result
    }

    /// Destroys what is left.
    pub fn destroy<T>(&mut self, destroy: unsafe extern "C" fn(*mut *mut T)) {
        for handle in self.live.drain(..) {
            let mut handle = ptr::without_provenance_mut(handle);
            // SAFETY: the place of a live handle.
            unsafe { destroy(&mut handle) };
            assert!(handle.is_null());
        }
    }
}

impl Default for Handles {
    fn default() -> Self {
        Handles::new()
    }
}

/// A string of any bytes without NUL; `None` stands for NULL.
pub fn text(input: &mut Input<'_>) -> Option<CString> {
    let length = match input.u8() {
        255 => return None,
        length => usize::from(length) % 40,
    };
    let bytes = input.bytes(length);
    CString::new(bytes.iter().copied().take_while(|byte| *byte != 0).collect::<Vec<_>>()).ok()
}

/// The pointer to a string that may be NULL.
pub fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

/// Memory and its size, which may be none, or impossible.
pub fn memory<'a>(input: &mut Input<'a>) -> (*const c_void, usize, &'a [u8]) {
    match input.u8() {
        0..240 => {
            let length = usize::from(input.u8());
            let bytes = input.bytes(length);
            (bytes.as_ptr().cast(), bytes.len(), bytes)
        }
        240..245 => (ptr::null(), 0, &[]),
        245..250 => (ptr::null(), usize::from(input.u8()) + 1, &[]),
        _ => ([0u8].as_ptr().cast(), usize::MAX - usize::from(input.u8()), &[]),
    }
}

/// A number as C programs pass them for times and counts: small, zero, negative.
pub fn small(input: &mut Input<'_>) -> c_int {
    *input.pick(&[1, 2, 5, 0, -1, -2, c_int::MIN]).unwrap_or(&1)
}

/// How long a call may wait: not at all, or a moment; also impossible times, but never for ever.
pub fn patience(input: &mut Input<'_>) -> c_int {
    *input.pick(&[0, 1, 2, -2, c_int::MIN]).unwrap_or(&0)
}

/// Reads memory that the library has given, to its last byte.
///
/// # Safety
/// `data` is NULL or points to `size` bytes.
pub unsafe fn read(data: *const c_void, size: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) }.to_vec()
}

/// Reads a string that the library has given; NULL is `None`.
///
/// # Safety
/// `text` is NULL or a string.
pub unsafe fn string(text: *const c_char) -> Option<Vec<u8>> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes().to_vec())
}

/// Reads a string that the caller owns, and ends it.
///
/// # Safety
/// `text` is NULL or a string of malloc's.
pub unsafe fn owned(text: *mut c_char) -> Option<Vec<u8>> {
    // SAFETY: the caller's promise.
    unsafe {
        let copy = string(text);
        libc::free(text.cast());
        copy
    }
}
