//! What the fuzz targets share: how their input is read, and the words that peers say.
//!
//! An input is read from its beginning, a few bytes for each choice, so that what a mutation adds or takes away moves the
//! rest of the meaning as little as possible, and so that the golden vectors can be written down as inputs.

pub mod arguments;
pub mod broker;
pub mod input;
pub mod outputs;
pub mod words;
