//! Bodies: lists of buffers in JavaScript, a `Message` in the core.
//!
//! Properties cross as a list of names and a list of values of the same length.
//!
//! Each frame is copied once at this border in each direction. A buffer that JavaScript can write to must not share
//! memory with a message that the core may still read (a request that is sent again, a body that is forwarded).

use bytes::Bytes;
use majordomo::{Message, Properties};
use napi::Env;
use napi::bindgen_prelude::BufferSlice;
use napi_derive::napi;

use crate::error::{Result, thrown};

/// The frames of a body as they come from JavaScript.
pub(crate) type Frames<'env> = Vec<BufferSlice<'env>>;

pub(crate) fn message(frames: &[BufferSlice<'_>]) -> Message {
    frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect()
}

/// A body with properties, where there are any.
pub(crate) fn with_properties(
    frames: &[BufferSlice<'_>],
    names: Option<Vec<String>>,
    values: Option<Frames<'_>>,
) -> Result<Message> {
    let message = message(frames);
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
