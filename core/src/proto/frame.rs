//! A frame as the protocols see it: bytes that can be shared, whoever holds them.

use std::sync::Arc;

use bytes::Bytes;

/// The name under which a ROUTER socket knows a peer's connection.
pub type RoutingId = Arc<[u8]>;

/// One frame of a message. The broker's driver passes libzmq's own frames through the machines, tests pass [`Bytes`].
pub trait Frame: AsRef<[u8]> + Clone {
    /// A frame with a copy of these bytes.
    fn copy_from(bytes: &[u8]) -> Self;

    /// Lets go of any larger buffer that the frame keeps alive: a frame that has to wait may have to be copied once.
    fn compact(&mut self);
}

impl Frame for Bytes {
    fn copy_from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes)
    }

    fn compact(&mut self) {}
}
