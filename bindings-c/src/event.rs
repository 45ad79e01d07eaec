//! What happens to a handle's connection, told to a function of C's.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use majordomo::{ConnectionEvent, EventHook};

use crate::arguments::c_string;

/// Called with what happens to a connection. name: "connected", with the protocol in detail ("0.1", "0.2" or "x1");
/// "disconnected", with the reason in detail; "reconnecting"; or "draining", of workers only. endpoint: the broker's;
/// empty for "draining". detail: empty for the others. arg: what was set with the handler. Never NULL but for arg.
/// Ownership: the library's, valid until the handler returns. Threads: of the blocking handles the thread that uses
/// them, or the library's while the program works on a request; of the asynchronous ones the library's. It must return
/// soon, and call no function of the handle.
pub type md_event_handler_t =
    Option<unsafe extern "C" fn(name: *const c_char, endpoint: *const c_char, detail: *const c_char, arg: *mut c_void)>;

/// The handler of one handle. Once it is replaced or the handle destroyed, it is not called any more.
#[derive(Default)]
pub(crate) struct Listening(Mutex<Option<Arc<Listener>>>);

/// A function of C's, until it is told no more.
struct Listener(Mutex<Option<Function>>);

#[derive(Clone, Copy)]
struct Function {
    call: unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, *mut c_void),
    arg: *mut c_void,
}

// SAFETY: the header says which threads call the function with its argument.
unsafe impl Send for Function {}

impl Listening {
    /// Puts a handler in the place of the present one, or none. What the core is to call; the earlier one is done.
    pub(crate) fn set(&self, handler: md_event_handler_t, arg: *mut c_void) -> Option<EventHook> {
        self.end();
        let listener = Arc::new(Listener(Mutex::new(Some(Function { call: handler?, arg }))));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listener));
        Some(EventHook::new(move |event| listener.tell(event)))
    }

    /// The handler is not called any more; one that is just being called has returned.
    pub(crate) fn end(&self) {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            *listener.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Listener {
    fn tell(&self, event: &ConnectionEvent) {
        let (endpoint, detail) = match event {
            ConnectionEvent::Connected { endpoint, protocol } => (endpoint.as_str(), protocol.name()),
            ConnectionEvent::Disconnected { endpoint, reason } => (endpoint.as_str(), reason.as_str()),
            ConnectionEvent::Reconnecting { endpoint } => (endpoint.as_str(), ""),
            _ => ("", ""),
        };
        let (name, endpoint, detail) = (c_string(event.name()), c_string(endpoint), c_string(detail));
        // Held while the function runs, so that whoever ends the listener waits for it.
        let function = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Function { call, arg }) = *function {
            // SAFETY: a function of that type with its argument, as the header demands; the strings live until it returns.
            unsafe { call(name.as_ptr(), endpoint.as_ptr(), detail.as_ptr(), arg) };
        }
    }
}
