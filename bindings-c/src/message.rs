//! `mdmsg_t`: a body as a list of frames that C builds, reads and takes apart.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use majordomo::{ErrorKind, Message, Properties, Result};

use crate::arguments::{bytes, c_string, duplicate, invalid, place, text};
use crate::frames::Frames;
use crate::guard::{guard, guard_message};
use crate::places;
use crate::registry::Handle;

/// A message: an ordered list of byte frames, the body of a request or of a reply, and the properties that travel
/// beside it. Frames may be empty and may hold any bytes. Threads: one call at a time; a second thread meanwhile gets
/// MD_EBUSY. A message may go from thread to thread, and survives a fork.
pub struct mdmsg_t {
    _opaque: [u8; 0],
}

/// What a message holds.
#[derive(Clone, Default)]
pub(crate) struct Body {
    list: Frames,
    /// Which frame mdmsg_next gives.
    cursor: usize,
    /// What most messages do not have.
    beside: Option<Box<Beside>>,
}

/// The properties of a message.
#[derive(Clone, Default)]
struct Beside {
    properties: Properties,
    /// The names of the properties for C, once it has asked for one.
    names: Vec<CString>,
}

impl Handle for Body {
    type Opaque = mdmsg_t;
    const TAG: usize = 1;
}

/// A new handle of `message`'s frames.
pub(crate) fn give(message: Message) -> *mut mdmsg_t {
    places::insert(message)
}

/// The message that `place` holds, taken out of it: the handle is gone and `place` is NULL afterwards.
///
/// # Safety
/// `place` is NULL or points to a handle that nothing else uses now.
pub(crate) unsafe fn take(message: *mut *mut mdmsg_t, argument: &str) -> Result<Message> {
    // SAFETY: the caller's promise.
    let place = unsafe { place(message, argument) }?;
    // Refused before it is taken: a message that another thread is reading stays whole.
    let mut held = places::hold(*place)?;
    *place = std::ptr::null_mut();
    Ok(held.take().into())
}

/// The same for a message that need not be there: NULL in `place` gives `None`.
///
/// # Safety
/// As [`take`].
pub(crate) unsafe fn take_optional(message: *mut *mut mdmsg_t, argument: &str) -> Result<Option<Message>> {
    // SAFETY: the caller's promise.
    if unsafe { place(message, argument) }?.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { take(message, argument) }.map(Some)
}

/// Makes an empty message. Result: the message, or NULL on failure. Ownership: the caller's, until mdmsg_destroy or a
/// function that takes it.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_new() -> *mut mdmsg_t {
    guard(|| Ok(places::insert(Body::default())))
}

/// Makes a message of one frame, a copy of size bytes at data. Result: the message, or NULL on failure. data may be NULL
/// only if size is 0: an empty frame; else MD_EINVAL. Ownership: the caller's, as with mdmsg_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_new_mem(data: *const c_void, size: usize) -> *mut mdmsg_t {
    guard(|| {
        // SAFETY: memory of that size, as the header demands.
        Ok(places::insert(Bytes::copy_from_slice(unsafe { bytes(data, size) }?)))
    })
}

/// Destroys *self_p and sets it to NULL. Ownership: takes *self_p; one that another thread is in a call with sets md_errno
/// to MD_EBUSY and is left alone. Does nothing if *self_p is NULL already; NULL for self_p itself sets md_errno to
/// MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_destroy(self_p: *mut *mut mdmsg_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let place = unsafe { place(self_p, "self_p") }?;
        if place.is_null() {
            return Ok(());
        }
        match places::hold(*place) {
            Err(failure) if failure.kind() == ErrorKind::Busy => return Err(failure),
            held => {
                *place = std::ptr::null_mut();
                drop(held?.take());
            }
        }
        Ok(())
    });
}

/// Makes a second message with the same frames; their bytes are shared, not copied. Result: the new message, or NULL on
/// failure. Ownership: the caller's. self stays as it is; NULL is MD_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_dup(this: *mut mdmsg_t) -> *mut mdmsg_t {
    guard_message(this, |message| Ok(places::insert(message.clone())))
}

/// Result: the number of frames; 0 for an empty message, and on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_size(this: *mut mdmsg_t) -> usize {
    guard_message(this, |message| Ok(message.list.len()))
}

/// Result: the length of all frames together in bytes; 0 on failure, too (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_content_size(this: *mut mdmsg_t) -> usize {
    guard_message(this, |message| Ok(message.list.iter().map(Bytes::len).sum()))
}

/// Adds a frame at the end, a copy of size bytes at data. Result: 0, or -1 on failure. data may be NULL only if size is
/// 0: an empty frame. NULL for self is MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_addmem(this: *mut mdmsg_t, data: *const c_void, size: usize) -> c_int {
    guard_message(this, |message| {
        // SAFETY: memory of that size, as the header demands.
        let frame = Bytes::copy_from_slice(unsafe { bytes(data, size) }?);
        message.list.push_back(frame);
        Ok(0)
    })
}

/// Adds a frame at the front, a copy of size bytes at data. Result: 0, or -1 on failure. data may be NULL only if size
/// is 0: an empty frame. NULL for self is MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_pushmem(this: *mut mdmsg_t, data: *const c_void, size: usize) -> c_int {
    guard_message(this, |message| {
        // SAFETY: memory of that size, as the header demands.
        let frame = Bytes::copy_from_slice(unsafe { bytes(data, size) }?);
        message.list.push_front(frame);
        Ok(0)
    })
}

/// Adds a frame at the end, a copy of the string without its NUL. Result: 0, or -1 on failure. NULL for any argument is
/// MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_addstr(this: *mut mdmsg_t, string: *const c_char) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a string or NULL, as the header demands.
        let frame = Bytes::copy_from_slice(unsafe { text_bytes(string) }?);
        message.list.push_back(frame);
        Ok(0)
    })
}

/// Adds a frame at the front, a copy of the string without its NUL. Result: 0, or -1 on failure. NULL for any argument
/// is MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_pushstr(this: *mut mdmsg_t, string: *const c_char) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a string or NULL, as the header demands.
        let frame = Bytes::copy_from_slice(unsafe { text_bytes(string) }?);
        message.list.push_front(frame);
        Ok(0)
    })
}

/// Moves all frames of *frames_p to the end of self, without copying; its properties are dropped. Result: 0, or -1 on
/// failure. Ownership: takes *frames_p and sets it to NULL; leaves it alone on failure. NULL for any argument, or self
/// itself, is MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_append(this: *mut mdmsg_t, frames_p: *mut *mut mdmsg_t) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let more = unsafe { take_other(this, frames_p) }?;
        message.list.append(more);
        Ok(0)
    })
}

/// Moves all frames of *frames_p to the front of self, in their order, without copying; its properties are dropped.
/// Result: 0, or -1 on failure. Ownership: takes *frames_p and sets it to NULL; leaves it alone on failure. NULL for
/// any argument, or self itself, is MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_prepend(this: *mut mdmsg_t, frames_p: *mut *mut mdmsg_t) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let more = unsafe { take_other(this, frames_p) }?;
        let rest = std::mem::replace(&mut message.list, more);
        message.list.append(rest);
        Ok(0)
    })
}

/// Removes the first frame. Result: a message of that one frame, or NULL if there is none, or on failure (NULL is
/// MD_EINVAL). Ownership: the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_pop(this: *mut mdmsg_t) -> *mut mdmsg_t {
    guard_message(this, |message| {
        let first = message.list.pop_front();
        Ok(first.map_or(std::ptr::null_mut(), |frame| give(Message::from(frame))))
    })
}

/// Removes the first frame. Result: its bytes as a string, with a NUL behind them, or NULL if there is none, or on
/// failure (NULL is MD_EINVAL). Ownership: the caller's, who ends it with free(). A frame that holds a NUL itself seems
/// to end there: read such frames with mdmsg_frame.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_popstr(this: *mut mdmsg_t) -> *mut c_char {
    guard_message(this, |message| {
        let copy = message.list.front().map_or(Ok(std::ptr::null_mut()), |frame| duplicate(frame))?;
        message.list.pop_front();
        Ok(copy)
    })
}

/// Looks at the frame at index, counted from 0: *data_p and *size_p are set to where it is and how long it is, also for
/// an empty frame (*data_p is then not NULL either). Result: 0, or -1 on failure: MD_EINVAL past the last frame and for
/// NULL. Ownership: the bytes stay the message's; valid until that frame is popped or the message sent or destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_frame(
    this: *mut mdmsg_t,
    index: usize,
    data_p: *mut *const c_void,
    size_p: *mut usize,
) -> c_int {
    guard_message(this, |message| {
        // SAFETY: places for the results or NULL, as the header demands.
        let (data, size) = unsafe { (place(data_p, "data_p")?, place(size_p, "size_p")?) };
        let frame = message.frame(index)?;
        (*data, *size) = (frame.as_ptr().cast(), frame.len());
        Ok(0)
    })
}

/// Looks at the first frame; mdmsg_next goes on from there. Result: where the frame is, with its length in *size_p; NULL
/// if there is none, or on failure (NULL for any argument is MD_EINVAL). Ownership: as mdmsg_frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_first(this: *mut mdmsg_t, size_p: *mut usize) -> *const c_void {
    guard_message(this, |message| {
        // SAFETY: a place for the result or NULL, as the header demands.
        let size = unsafe { place(size_p, "size_p") }?;
        message.cursor = 0;
        Ok(message.step(size))
    })
}

/// Looks at the frame after the one that mdmsg_first or mdmsg_next gave last. Result: where the frame is, with its
/// length in *size_p; NULL behind the last, or on failure (NULL for any argument is MD_EINVAL). Ownership: as
/// mdmsg_frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_next(this: *mut mdmsg_t, size_p: *mut usize) -> *const c_void {
    guard_message(this, |message| {
        // SAFETY: a place for the result or NULL, as the header demands.
        let size = unsafe { place(size_p, "size_p") }?;
        Ok(message.step(size))
    })
}

/// Copies the frame at index, counted from 0. Result: its bytes as a string, with a NUL behind them, or NULL on failure:
/// MD_EINVAL past the last frame and for NULL. Ownership: the caller's, who ends it with free().
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_strframe(this: *mut mdmsg_t, index: usize) -> *mut c_char {
    guard_message(this, |message| duplicate(message.frame(index)?))
}

/// Compares the frame at index, counted from 0, with a string. Result: 1 if they have the same bytes, 0 if not, -1 on
/// failure: MD_EINVAL past the last frame and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_streq(this: *mut mdmsg_t, index: usize, string: *const c_char) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a string or NULL, as the header demands.
        let expected = unsafe { text_bytes(string) }?;
        Ok(c_int::from(message.frame(index)?[..] == *expected))
    })
}

/// Compares the frames of two messages, not their properties. Result: 1 if they are the same, 0 if not, -1 on failure
/// (NULL for any argument is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_eq(this: *mut mdmsg_t, other: *mut mdmsg_t) -> c_int {
    guard_message(this, |message| Ok(c_int::from(other == this || message.list == places::hold(other)?.list)))
}

/// Puts an address in front: the frames of *address_p and an empty frame, which is how envelopes of ZeroMQ look. Result:
/// 0, or -1 on failure. Ownership: takes *address_p and sets it to NULL; leaves it alone on failure. NULL for any
/// argument, or self itself, is MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_wrap(this: *mut mdmsg_t, address_p: *mut *mut mdmsg_t) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let address = unsafe { take_other(this, address_p) }?;
        message.list.push_front(Bytes::new());
        let rest = std::mem::replace(&mut message.list, address);
        message.list.append(rest);
        Ok(0)
    })
}

/// Removes the first frame, and the one behind it if that is empty. Result: a message of the first frame, or NULL if
/// there is none, or on failure (NULL is MD_EINVAL). Ownership: the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_unwrap(this: *mut mdmsg_t) -> *mut mdmsg_t {
    guard_message(this, |message| {
        let Some(first) = message.list.pop_front() else { return Ok(std::ptr::null_mut()) };
        if message.list.front().is_some_and(Bytes::is_empty) {
            message.list.pop_front();
        }
        Ok(give(Message::from(first)))
    })
}

/// Sets a property, a copy of size bytes at data, in the place of one of the same name; MDPX takes it beside the body.
/// Result: 0, or -1 on failure: MD_EINVAL for a name that is not 1 to 255 bytes of text without control characters, for
/// more than 65535 bytes, where all properties of the message would take more than 60 KiB, and for NULL. data may be
/// NULL only if size is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_set_property(
    this: *mut mdmsg_t,
    name: *const c_char,
    data: *const c_void,
    size: usize,
) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a string and memory of that size, or NULL, as the header demands.
        let (name, value) = unsafe { (text(name, "name")?, bytes(data, size)?) };
        let beside = message.beside.get_or_insert_default();
        beside.properties.set(name, value)?;
        beside.names.clear();
        Ok(0)
    })
}

/// Looks at the property of this name: *data_p and *size_p are set to where its value is and how long it is in bytes.
/// Result: 1 if there is one; 0 if not, *data_p is then NULL and *size_p 0; -1 on failure (NULL for any argument is
/// MD_EINVAL). Ownership: the bytes stay the message's; valid until a property is set or the message sent or destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_property(
    this: *mut mdmsg_t,
    name: *const c_char,
    data_p: *mut *const c_void,
    size_p: *mut usize,
) -> c_int {
    guard_message(this, |message| {
        // SAFETY: a string and places for the results, or NULL, as the header demands.
        let (name, data, size) = unsafe { (text(name, "name")?, place(data_p, "data_p")?, place(size_p, "size_p")?) };
        let value = message.beside.as_ref().and_then(|beside| beside.properties.get(name));
        (*data, *size) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr().cast(), value.len()));
        Ok(c_int::from(value.is_some()))
    })
}

/// Looks at the property at index, counted from 0: sets *name_p to its name, *data_p and *size_p as mdmsg_property
/// does. Result: 0, or -1 on failure: MD_EINVAL past the last property and for NULL. Ownership: as mdmsg_property.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdmsg_property_at(
    this: *mut mdmsg_t,
    index: usize,
    name_p: *mut *const c_char,
    data_p: *mut *const c_void,
    size_p: *mut usize,
) -> c_int {
    guard_message(this, |message| {
        // SAFETY: places for the results or NULL, as the header demands.
        let (name, data, size) =
            unsafe { (place(name_p, "name_p")?, place(data_p, "data_p")?, place(size_p, "size_p")?) };
        let Some((known, value)) = message.beside.as_mut().and_then(|beside| beside.named(index)) else {
            return Err(invalid(format!("property {index} of a message of {} properties", message.properties())));
        };
        (*name, *data, *size) = (known.as_ptr(), value.as_ptr().cast(), value.len());
        Ok(0)
    })
}

/// Result: the number of properties; 0 on failure, too (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_properties(this: *mut mdmsg_t) -> usize {
    guard_message(this, |message| Ok(message.properties()))
}

/// Writes the frames to standard error, one line each: the length, then text, or hexadecimal digits if it is none. Long
/// frames are cut. NULL sets md_errno to MD_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_dump(this: *mut mdmsg_t) {
    guard_message(this, |message| {
        let lines: String = message.list.iter().map(line).collect();
        // A closed standard error is no reason to fail.
        let _ = write!(std::io::stderr().lock(), "--------------------------------------\n{lines}");
        Ok(())
    })
}

/// The same as mdmsg_dump, under the name that newer programs use.
#[unsafe(no_mangle)]
pub extern "C" fn mdmsg_print(this: *mut mdmsg_t) {
    guard(|| {
        mdmsg_dump(this);
        Ok(())
    });
}

impl From<Bytes> for Body {
    #[inline]
    fn from(frame: Bytes) -> Self {
        Body { list: frame.into(), ..Body::default() }
    }
}

impl From<Message> for Body {
    #[inline]
    fn from(mut message: Message) -> Self {
        let properties = message.properties();
        let beside = (!properties.is_empty()).then(|| Box::new(Beside::from(properties)));
        // Taken out where it is, and so in one piece: what is moved in parts has to be written before it is read as a whole.
        if let Some(frame) = message.single_mut() {
            return Body { list: std::mem::take(frame).into(), cursor: 0, beside };
        }
        Body { list: message.into_frames().into(), cursor: 0, beside }
    }
}

impl From<Body> for Message {
    #[inline]
    fn from(body: Body) -> Self {
        let message = Message::from(body.list);
        match body.beside {
            Some(beside) => message.with_properties(beside.properties),
            None => message,
        }
    }
}

impl From<&Properties> for Beside {
    fn from(properties: &Properties) -> Self {
        Beside { properties: properties.clone(), names: Vec::new() }
    }
}

impl Beside {
    /// The property at `index`, with its name as C reads it.
    fn named(&mut self, index: usize) -> Option<(&CString, &[u8])> {
        if self.names.is_empty() {
            self.names = self.properties.iter().map(|(name, _)| c_string(name)).collect();
        }
        Some((self.names.get(index)?, self.properties.iter().nth(index)?.1))
    }
}

impl Body {
    /// The number of properties.
    fn properties(&self) -> usize {
        self.beside.as_ref().map_or(0, |beside| beside.properties.len())
    }

    fn frame(&self, index: usize) -> Result<&Bytes> {
        let count = self.list.len();
        self.list.get(index).ok_or_else(|| invalid(format!("frame {index} of a message of {count} frames")))
    }

    fn step(&mut self, size: &mut usize) -> *const c_void {
        let Some(frame) = self.list.get(self.cursor) else {
            *size = 0;
            return std::ptr::null();
        };
        self.cursor += 1;
        *size = frame.len();
        frame.as_ptr().cast()
    }
}

/// One frame as a line: `[005] hello`.
fn line(frame: &Bytes) -> String {
    const SHOWN: usize = 70;
    let part = &frame[..frame.len().min(SHOWN)];
    let mut line = format!("[{:03}] ", frame.len());
    if part.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        line.push_str(&String::from_utf8_lossy(part));
    } else {
        part.iter().for_each(|byte| {
            // Writing to a String cannot fail.
            let _ = write!(line, "{byte:02X}");
        });
    }
    line.push_str(if part.len() < frame.len() { "...\n" } else { "\n" });
    line
}

/// # Safety
/// `string` is NULL or points to a NUL-terminated string that lives for `'a`.
unsafe fn text_bytes<'a>(string: *const c_char) -> Result<&'a [u8]> {
    if string.is_null() {
        return Err(invalid("string is NULL"));
    }
    // SAFETY: not NULL, so NUL-terminated by the caller's promise.
    Ok(unsafe { std::ffi::CStr::from_ptr(string) }.to_bytes())
}

/// The frames of a message that is to become part of `this`; otherwise as [`take`].
///
/// # Safety
/// As [`take`].
unsafe fn take_other(this: *mut mdmsg_t, other: *mut *mut mdmsg_t) -> Result<Frames> {
    // SAFETY: the caller's promise.
    let place = unsafe { place(other, "the other message") }?;
    if *place == this {
        return Err(invalid("a message cannot be put into itself"));
    }
    let mut held = places::hold(*place)?;
    *place = std::ptr::null_mut();
    Ok(held.take().list)
}
