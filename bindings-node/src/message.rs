//! Bodies: lists of buffers in JavaScript, a `Message` in the core.
//!
//! Properties cross as a list of names and a list of values of the same length.
//!
//! Each frame is copied once at this border in each direction. A buffer that JavaScript can write to must not share
//! memory with a message that the core may still read (a request that is sent again, a body that is forwarded).

use std::slice;

use bytes::Bytes;
use majordomo::{Message, Properties};
use napi::Env;
use napi::bindgen_prelude::{Buffer, BufferSlice, Either};
use napi_derive::napi;

use crate::error::{Result, thrown};

/// The frames of a body as they come from JavaScript.
pub(crate) type Frames<'env> = Vec<BufferSlice<'env>>;

/// A body as it comes from JavaScript: a frame, as nearly all have, or a list of them.
pub(crate) type Body<'env> = Either<BufferSlice<'env>, Frames<'env>>;

pub(crate) fn message(body: &Body<'_>) -> Message {
    let frames = match body {
        Either::A(frame) => slice::from_ref(frame),
        Either::B(frames) => frames,
    };
    frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect()
}

/// A body with properties, where there are any.
pub(crate) fn with_properties(
    body: &Body<'_>,
    names: Option<Vec<String>>,
    values: Option<Frames<'_>>,
) -> Result<Message> {
    let message = message(body);
    let (Some(names), Some(values)) = (names, values) else { return Ok(message) };
    let mut properties = Properties::new();
    for (name, value) in names.iter().zip(&values) {
        properties.set(name, &value[..]).map_err(|error| thrown(&error))?;
    }
    Ok(message.with_properties(properties))
}

/// Names and values of a message's properties, where there are any.
pub(crate) fn properties<'env>(
    env: &'env Env,
    message: &Message,
) -> napi::Result<(Option<Vec<String>>, Option<Frames<'env>>)> {
    let properties = message.properties();
    if properties.is_empty() {
        return Ok((None, None));
    }
    let names = properties.iter().map(|(name, _)| name.to_owned()).collect();
    let values = properties.iter().map(|(_, value)| BufferSlice::copy_from(env, value)).collect::<napi::Result<_>>()?;
    Ok((Some(names), Some(values)))
}

/// The well-known names of properties: idempotency key, content type, trace parent.
#[napi]
pub(crate) fn property_names() -> Vec<String> {
    [Properties::IDEMPOTENCY_KEY, Properties::CONTENT_TYPE, Properties::TRACEPARENT].map(str::to_owned).into()
}

pub(crate) fn frames<'env>(env: &'env Env, message: &Message) -> napi::Result<Frames<'env>> {
    message.iter().map(|frame| BufferSlice::copy_from(env, frame)).collect()
}

/// A frame above this size is worth a buffer of the engine's making. JavaScript cuts its own, up to this size, from a pool.
const SMALL: usize = 4095;

/// Memory that JavaScript shares with this layer. A small frame is left here for JavaScript to copy: a buffer that is made
/// on this side of the border costs ten times as much.
pub(crate) struct Scratch {
    memory: Buffer,
    used: usize,
}

impl Scratch {
    pub(crate) fn new(memory: Buffer) -> Self {
        Scratch { memory, used: 0 }
    }

    /// JavaScript has taken what was here.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// Puts the only frame of a message behind those that are here; its length. `None` where it is not small, not the only
    /// one, or finds no room.
    pub(crate) fn put(&mut self, message: &Message) -> Option<u32> {
        let mut frames = message.iter();
        let (Some(frame), None) = (frames.next(), frames.next()) else { return None };
        let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= SMALL)?;
        let end = self.used + frame.len();
        self.memory.get_mut(self.used..end)?.copy_from_slice(frame);
        self.used = end;
        Some(length)
    }
}
