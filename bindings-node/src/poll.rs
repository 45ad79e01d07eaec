//! A descriptor that the environment's event loop watches.
//!
//! napi has no names for libuv's functions, so they are looked up in the process. A runtime without them goes without this:
//! then everything comes to JavaScript from the I/O thread.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

use libloading::os::unix::Library;
use napi::{Env, sys};

/// libuv's functions, of every version 1.
struct Functions {
    size: extern "C" fn(c_int) -> usize,
    init: extern "C" fn(*mut sys::uv_loop_s, *mut c_void, c_int) -> c_int,
    start: extern "C" fn(*mut c_void, c_int, extern "C" fn(*mut c_void, c_int, c_int)) -> c_int,
    unref: extern "C" fn(*mut c_void),
    close: extern "C" fn(*mut c_void, extern "C" fn(*mut c_void)),
    get_data: extern "C" fn(*const c_void) -> *mut c_void,
    set_data: extern "C" fn(*mut c_void, *mut c_void),
}

/// `uv_handle_type` of a `uv_poll_t`.
const UV_POLL: c_int = 8;
/// `uv_poll_event`.
const UV_READABLE: c_int = 1;

impl Functions {
    fn found() -> Option<&'static Functions> {
        static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
        FOUND.get_or_init(Functions::find).as_ref()
    }

    fn find() -> Option<Functions> {
        let process = Library::this();
        // SAFETY: these are the signatures that libuv has for these names; it is never unloaded.
        unsafe {
            Some(Functions {
                size: *process.get(c"uv_handle_size").ok()?,
                init: *process.get(c"uv_poll_init").ok()?,
                start: *process.get(c"uv_poll_start").ok()?,
                unref: *process.get(c"uv_unref").ok()?,
                close: *process.get(c"uv_close").ok()?,
                get_data: *process.get(c"uv_handle_get_data").ok()?,
                set_data: *process.get(c"uv_handle_set_data").ok()?,
            })
        }
    }
}

/// What is done when the descriptor is readable, on the environment's thread, and at the environment's end.
pub(crate) trait Readable {
    fn readable(&self, env: Env);
    fn end(&self);
}

struct Poll {
    functions: &'static Functions,
    env: sys::napi_env,
    /// What libuv keeps of the handle.
    handle: *mut [u64],
    hook: sys::napi_async_cleanup_hook_handle,
    readable: Box<dyn Readable>,
}

/// Watches `fd` until the environment ends, which this does not delay. Whether it can be watched.
pub(crate) fn start(env: Env, fd: RawFd, readable: Box<dyn Readable>) -> bool {
    let Some(functions) = Functions::found() else { return false };
    let Ok(event_loop) = env.get_uv_event_loop() else { return false };
    let words = (functions.size)(UV_POLL).div_ceil(size_of::<u64>());
    let handle = Box::into_raw(vec![0u64; words].into_boxed_slice());
    let raw = handle.cast::<c_void>();
    if (functions.init)(event_loop, raw, fd) != 0 {
        // SAFETY: it was leaked above, and libuv has not taken it.
        drop(unsafe { Box::from_raw(handle) });
        return false;
    }
    let poll = Box::into_raw(Box::new(Poll { functions, env: env.raw(), handle, hook: ptr::null_mut(), readable }));
    (functions.set_data)(raw, poll.cast());
    (functions.unref)(raw);
    let started = (functions.start)(raw, UV_READABLE, on_readable) == 0;
    // SAFETY: the poll lives until its handle is closed, which is below or in the hook.
    let hooked = started
        && unsafe { sys::napi_add_async_cleanup_hook(env.raw(), Some(on_end), poll.cast(), &raw mut (*poll).hook) }
            == sys::Status::napi_ok;
    if !hooked {
        (functions.close)(raw, on_closed);
    }
    hooked
}

/// Calls `act` with room for what it makes of JavaScript. A failure, an exception among them, ends the process as one that
/// nobody caught does.
pub(crate) fn in_scope(env: Env, act: impl FnOnce() -> napi::Result<()>) {
    let mut scope = ptr::null_mut();
    // SAFETY: this is the environment's thread.
    if unsafe { sys::napi_open_handle_scope(env.raw(), &raw mut scope) } != sys::Status::napi_ok {
        return;
    }
    if act().is_err() {
        let mut thrown = ptr::null_mut();
        // SAFETY: as above.
        unsafe {
            if sys::napi_get_and_clear_last_exception(env.raw(), &raw mut thrown) == sys::Status::napi_ok {
                sys::napi_fatal_exception(env.raw(), thrown);
            }
        }
    }
    // SAFETY: as above; it is the scope that was opened.
    unsafe { sys::napi_close_handle_scope(env.raw(), scope) };
}

extern "C" fn on_readable(handle: *mut c_void, status: c_int, _events: c_int) {
    let Some(functions) = Functions::found() else { return };
    // SAFETY: the poll lives until its handle is closed.
    let poll = unsafe { &*(functions.get_data)(handle).cast::<Poll>() };
    if status == 0 {
        // What panicked has said so; libuv has nobody to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| poll.readable.readable(Env::from_raw(poll.env))));
    }
}

unsafe extern "C" fn on_end(_: sys::napi_async_cleanup_hook_handle, poll: *mut c_void) {
    // SAFETY: the poll lives until its handle is closed.
    let poll = unsafe { &*poll.cast::<Poll>() };
    poll.readable.end();
    (poll.functions.close)(poll.handle.cast(), on_closed);
}

extern "C" fn on_closed(handle: *mut c_void) {
    let Some(functions) = Functions::found() else { return };
    // SAFETY: both were leaked when they were made, and libuv has just done with them.
    let poll = unsafe {
        let poll = Box::from_raw((functions.get_data)(handle).cast::<Poll>());
        drop(Box::from_raw(poll.handle));
        poll
    };
    if !poll.hook.is_null() {
        // SAFETY: the hook has run, and is removed this once.
        unsafe { sys::napi_remove_async_cleanup_hook(poll.hook) };
    }
}
