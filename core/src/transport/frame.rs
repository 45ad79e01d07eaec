//! One frame of a message, as libzmq holds it.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::mem::{self, MaybeUninit};

use bytes::Bytes;
use zmq_sys::zmq_msg_t;

use crate::proto;
use crate::proto::mdp::always_there;

/// Up to this size a copy costs less than sharing the owner's allocation.
const COPIED_WHEN_SENT: usize = 4096 + 512;
/// libzmq cuts what it receives out of buffers of this size. A frame that is no larger may keep a whole buffer alive.
const RECEIVE_BUFFER: usize = 8192;
/// Messages of several frames have about so many: a request of MDP/0.1 that reaches its worker has six.
pub(super) const USUAL_FRAMES: usize = 6;
/// Property of a message: whether its bytes may belong to another message too.
const ZMQ_SHARED: c_int = 3;

/// A frame of bytes in libzmq's own hands: receiving, cloning and sending copy none of a large one.
///
/// Send, but not Sync: cloning changes libzmq's account of who shares the bytes.
pub(crate) struct Frame {
    message: UnsafeCell<zmq_msg_t>,
}

// SAFETY: a message belongs to no thread; what clones share is counted atomically.
unsafe impl Send for Frame {}

impl Frame {
    /// A frame without bytes.
    pub(crate) fn empty() -> Frame {
        Frame::init(|message| {
            // SAFETY: the storage is of the right size; this cannot fail.
            unsafe { zmq_sys::zmq_msg_init(message) };
        })
    }

    /// Whether so many bytes are copied when they are sent, and not shared.
    pub(super) fn is_copied(length: usize) -> bool {
        length <= COPIED_WHEN_SENT
    }

    fn copied(bytes: &[u8]) -> Frame {
        let mut frame = Frame::init(|message| {
            // SAFETY: the storage is of the right size.
            if unsafe { zmq_sys::zmq_msg_init_size(message, bytes.len()) } == -1 {
                out_of_memory(bytes.len());
            }
        });
        if !bytes.is_empty() {
            // SAFETY: the fresh message has room for exactly these bytes.
            unsafe {
                let data = zmq_sys::zmq_msg_data(frame.message.get_mut());
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast(), bytes.len());
            }
        }
        frame
    }

    fn init(fill: impl FnOnce(*mut zmq_msg_t)) -> Frame {
        let mut message = MaybeUninit::<zmq_msg_t>::zeroed();
        fill(message.as_mut_ptr());
        // SAFETY: all zero is a valid value of this plain storage, and `fill` has made a message of it.
        Frame { message: UnsafeCell::new(unsafe { message.assume_init() }) }
    }

    /// The message, for libzmq's functions.
    pub(super) fn as_mut_ptr(&mut self) -> *mut zmq_msg_t {
        self.message.get_mut()
    }

    /// Whether more frames of the same message follow (after a receive).
    pub(super) fn more(&self) -> bool {
        // SAFETY: the message is initialised.
        unsafe { zmq_sys::zmq_msg_more(self.message.get()) != 0 }
    }

    /// How many bytes the frame has.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the message is initialised.
        unsafe { zmq_sys::zmq_msg_size(self.message.get()) }
    }

    /// The bytes as a shareable buffer. A large frame is handed over uncopied, and is empty then.
    pub(super) fn take_bytes(&mut self) -> Bytes {
        let bytes: &[u8] = (*self).as_ref();
        if bytes.len() > RECEIVE_BUFFER {
            // The owner is never cloned once it is shared, which keeps its missing Sync out of play.
            return Bytes::from_owner(mem::replace(self, Frame::empty()));
        }
        always_there(bytes).map_or_else(|| Bytes::copy_from_slice(bytes), Bytes::from_static)
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        let size = self.len();
        if size == 0 {
            return &[];
        }
        // SAFETY: the message is initialised; its bytes stay where they are while the frame is borrowed.
        unsafe { std::slice::from_raw_parts(zmq_sys::zmq_msg_data(self.message.get()) as *const u8, size) }
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        let mut copy = Frame::empty();
        // SAFETY: both are initialised, and this thread is the only one that can see either.
        unsafe { zmq_sys::zmq_msg_copy(copy.as_mut_ptr(), self.message.get()) };
        copy
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: the message is initialised, and nobody uses it afterwards.
        unsafe { zmq_sys::zmq_msg_close(self.message.get_mut()) };
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Frame {
        if Frame::is_copied(bytes.len()) {
            return Frame::copied(&bytes);
        }
        Frame::init(|message| {
            let (data, size) = (bytes.as_ptr(), bytes.len());
            let owner = Box::into_raw(Box::new(bytes));
            // SAFETY: the bytes stay where they are until `release` drops their owner. libzmq only reads them.
            let result =
                unsafe { zmq_sys::zmq_msg_init_data(message, data as *mut c_void, size, Some(release), owner.cast()) };
            if result == -1 {
                out_of_memory(mem::size_of::<zmq_msg_t>());
            }
        })
    }
}

/// Called by libzmq, on any thread, when nobody shares the bytes any more.
unsafe extern "C" fn release(_data: *mut c_void, owner: *mut c_void) {
    // SAFETY: `owner` came from `Box::into_raw` for exactly this one call.
    drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
}

/// As any other allocation that fails in Rust.
fn out_of_memory(size: usize) -> ! {
    match std::alloc::Layout::array::<u8>(size) {
        Ok(layout) => std::alloc::handle_alloc_error(layout),
        Err(_) => std::process::abort(),
    }
}

impl proto::Frame for Frame {
    fn copy_from(bytes: &[u8]) -> Frame {
        Frame::copied(bytes)
    }

    fn compact(&mut self) {
        let bytes: &[u8] = (*self).as_ref();
        if bytes.len() <= RECEIVE_BUFFER {
            *self = Frame::copied(bytes);
        }
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let message = self.message.get_mut();
        // SAFETY: the message is initialised.
        if unsafe { zmq_sys::zmq_msg_get(message, ZMQ_SHARED) } != 0 {
            return None;
        }
        // SAFETY: nobody shares the bytes: libzmq says so, and buffers that it has received several messages into are
        // divided among these without overlap. They stay where they are while the frame is borrowed.
        unsafe {
            let size = zmq_sys::zmq_msg_size(message);
            if size == 0 {
                return Some(&mut []);
            }
            Some(std::slice::from_raw_parts_mut(zmq_sys::zmq_msg_data(message).cast(), size))
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = self.as_ref();
        match bytes.len() {
            0..=64 => write!(f, "{:?}", Bytes::copy_from_slice(bytes)),
            length => write!(f, "{:?}… ({length} bytes)", Bytes::copy_from_slice(&bytes[..64])),
        }
    }
}
