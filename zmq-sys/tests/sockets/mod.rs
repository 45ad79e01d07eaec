//! Contexts and sockets straight over the foreign functions: what is tested is the library, not a wrapper around it.

#![allow(dead_code, reason = "each test binary uses the part it needs")]

pub(crate) mod bare;
pub(crate) mod memory;

use std::ffi::{CStr, CString, c_int, c_void};

use zmq_sys::*;

/// Nothing here waits this long unless a promise is broken; then the test fails instead of hanging.
pub(crate) const TOO_LONG_MS: c_int = 20_000;

pub(crate) struct Context(*mut c_void);

impl Context {
    pub(crate) fn new() -> Self {
        // SAFETY: no precondition.
        let context = unsafe { zmq_ctx_new() };
        assert!(!context.is_null());
        Self(context)
    }

    /// From now on, what sockets are asked to do fails.
    pub(crate) fn shut_down(&self) {
        // SAFETY: the context lives until its drop.
        assert_eq!(unsafe { zmq_ctx_shutdown(self.0) }, 0, "{}", last_error());
    }

    pub(crate) fn socket(&self, kind: u32) -> Socket {
        // SAFETY: the context lives until its drop.
        let socket = unsafe { zmq_socket(self.0, kind as c_int) };
        assert!(!socket.is_null(), "{}", last_error());
        let socket = Socket(socket);
        socket.set_int(ZMQ_LINGER, 0).expect("linger");
        socket.set_int(ZMQ_RCVTIMEO, TOO_LONG_MS).expect("timeout");
        socket
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the sockets, declared after their context, are closed by now.
        unsafe { zmq_ctx_term(self.0) };
    }
}

pub(crate) struct Socket(*mut c_void);

impl Socket {
    pub(crate) fn raw(&self) -> *mut c_void {
        self.0
    }

    pub(crate) fn set(&self, option: u32, value: &[u8]) -> Result<(), String> {
        // SAFETY: the pointer and the length are those of a slice that outlives the call.
        let rc = unsafe { zmq_setsockopt(self.0, option as c_int, value.as_ptr().cast(), value.len()) };
        if rc == 0 { Ok(()) } else { Err(last_error()) }
    }

    pub(crate) fn set_int(&self, option: u32, value: c_int) -> Result<(), String> {
        self.set(option, &value.to_ne_bytes())
    }

    /// Binds and gives the endpoint that came of it.
    pub(crate) fn bind(&self, endpoint: &str) -> String {
        let wanted = CString::new(endpoint).expect("endpoint");
        // SAFETY: a NUL-terminated string that outlives the call.
        let rc = unsafe { zmq_bind(self.0, wanted.as_ptr()) };
        assert_eq!(rc, 0, "bind {endpoint}: {}", last_error());
        self.last_endpoint()
    }

    pub(crate) fn last_endpoint(&self) -> String {
        let mut buffer = [0u8; 256];
        let mut length = buffer.len();
        // SAFETY: the buffer has `length` bytes; libzmq writes at most these and ends with NUL.
        let rc =
            unsafe { zmq_getsockopt(self.0, ZMQ_LAST_ENDPOINT as c_int, buffer.as_mut_ptr().cast(), &raw mut length) };
        assert_eq!(rc, 0, "{}", last_error());
        let bound = CStr::from_bytes_until_nul(&buffer).expect("terminated");
        bound.to_str().expect("UTF-8").to_owned()
    }

    /// The descriptor that stirs when something may have come.
    pub(crate) fn fd(&self) -> c_int {
        self.int(ZMQ_FD)
    }

    /// The value of an option that is an int.
    pub(crate) fn int(&self, option: u32) -> c_int {
        let mut value: c_int = -1;
        let mut length = size_of::<c_int>();
        // SAFETY: a valid place for an int, and its length.
        let rc = unsafe { zmq_getsockopt(self.0, option as c_int, (&raw mut value).cast(), &raw mut length) };
        assert_eq!(rc, 0, "{}", last_error());
        value
    }

    pub(crate) fn connect(&self, endpoint: &str) {
        let endpoint = CString::new(endpoint).expect("endpoint");
        // SAFETY: a NUL-terminated string that outlives the call.
        let rc = unsafe { zmq_connect(self.0, endpoint.as_ptr()) };
        assert_eq!(rc, 0, "connect {endpoint:?}: {}", last_error());
    }

    pub(crate) fn send(&self, frames: &[&[u8]]) {
        for (index, frame) in frames.iter().enumerate() {
            self.send_frame(frame, index + 1 < frames.len()).expect("a frame that is sent");
        }
    }

    pub(crate) fn send_frame(&self, frame: &[u8], more: bool) -> Result<(), String> {
        let flags = if more { ZMQ_SNDMORE } else { 0 };
        // SAFETY: the pointer and the length are those of a slice; libzmq copies it.
        let rc = unsafe { zmq_send(self.0, frame.as_ptr().cast(), frame.len(), flags as c_int) };
        if rc == frame.len() as c_int { Ok(()) } else { Err(last_error()) }
    }

    /// Waits for one message and gives its frames.
    pub(crate) fn receive(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let mut msg = zmq_msg_t::default();
            // SAFETY: `msg` is initialised before use and closed once; its data is read only while it is open.
            let more = unsafe {
                zmq_msg_init(&raw mut msg);
                let rc = zmq_msg_recv(&raw mut msg, self.0, 0);
                assert!(rc >= 0, "{}", last_error());
                let data = zmq_msg_data(&raw mut msg).cast::<u8>();
                let size = zmq_msg_size(&raw const msg);
                frames.push(if size == 0 { Vec::new() } else { std::slice::from_raw_parts(data, size).to_vec() });
                let more = zmq_msg_more(&raw const msg);
                zmq_msg_close(&raw mut msg);
                more
            };
            if more == 0 {
                return frames;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: closed once, here.
        unsafe { zmq_close(self.0) };
    }
}

/// A DEALER connected to a ROUTER over `endpoint`, after a message each way: both ends have accepted and connected.
pub(crate) fn connected_pair(router: &Socket, dealer: &Socket, endpoint: &str) {
    let bound = router.bind(endpoint);
    dealer.connect(&bound);
    dealer.send(&[b"hello"]);
    let request = router.receive();
    assert_eq!(request[1], b"hello");
    router.send(&[&request[0], b"welcome"]);
    assert_eq!(dealer.receive(), [b"welcome"]);
}

pub(crate) fn last_error() -> String {
    // SAFETY: the string is static.
    let text = unsafe { CStr::from_ptr(zmq_strerror(zmq_errno())) };
    text.to_string_lossy().into_owned()
}

pub(crate) fn has(capability: &CStr) -> bool {
    // SAFETY: a NUL-terminated string.
    unsafe { zmq_has(capability.as_ptr()) == 1 }
}

pub(crate) fn version() -> (c_int, c_int, c_int) {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid places for an int.
    unsafe { zmq_version(&raw mut major, &raw mut minor, &raw mut patch) };
    (major, minor, patch)
}
