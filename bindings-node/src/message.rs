//! Bodies: lists of buffers in JavaScript, a `Message` in the core.
//!
//! Each frame is copied once at this border in each direction. A buffer that JavaScript can write to must not share
//! memory with a message that the core may still read (a request that is sent again, a body that is forwarded).

use bytes::Bytes;
use majordomo::Message;
use napi::Env;
use napi::bindgen_prelude::BufferSlice;

/// The frames of a body as they come from JavaScript.
pub(crate) type Frames<'env> = Vec<BufferSlice<'env>>;

pub(crate) fn message(frames: &[BufferSlice<'_>]) -> Message {
    frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect()
}

pub(crate) fn frames<'env>(env: &'env Env, message: &Message) -> napi::Result<Frames<'env>> {
    message.iter().map(|frame| BufferSlice::copy_from(env, frame)).collect()
}
