//! A frame as the protocols see it: bytes that can be shared, whoever holds them.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

/// The name under which a ROUTER socket knows a peer's connection.
pub type RoutingId = Arc<[u8]>;

/// The frames of a message. Most messages of MDPX are one frame: they need no list of their own.
pub type Frames<F> = SmallVec<[F; 1]>;

/// One frame of a message. The broker's driver passes libzmq's own frames through the machines, tests pass [`Bytes`].
pub trait Frame: AsRef<[u8]> + Clone {
    /// A frame with a copy of these bytes.
    fn copy_from(bytes: &[u8]) -> Self;

    /// A frame of bytes that are always there: a copy only where it must be one.
    fn from_static(bytes: &'static [u8]) -> Self {
        Self::copy_from(bytes)
    }

    /// Lets go of any larger buffer that the frame keeps alive: a frame that has to wait may have to be copied once.
    fn compact(&mut self);

    /// The bytes to be changed in place; `None` where they are shared, or cannot be changed.
    fn bytes_mut(&mut self) -> Option<&mut [u8]>;
}

impl Frame for Bytes {
    fn copy_from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes)
    }

    fn from_static(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes)
    }

    fn compact(&mut self) {}

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        None
    }
}
