//! A request's or reply's body: an ordered list of byte frames.

use std::iter::Chain;
use std::ops::Index;
use std::{option, vec};

use bytes::{Bytes, BytesMut};

use crate::properties::Properties;

/// What one frame costs besides its bytes, so that a message of a million empty frames is not free.
pub(crate) const FRAME_COST: usize = 64;

/// An immutable, ordered list of byte frames, with the properties that travel beside them: a request or a reply.
///
/// Cloning is cheap: frames are reference-counted and never copied. A message may have no frames, and frames may be
/// empty.
///
/// ```
/// use majordomo::Message;
/// let message = Message::from(["hello", "world"]);
/// assert_eq!(&message[0], b"hello");
/// assert_eq!(message.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    frames: List,
    properties: Properties,
}

/// The frames of a message. Most bodies are one frame: they need no list of their own, and are small to move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum List {
    One(Bytes),
    /// None, or several.
    Many(Vec<Bytes>),
}

impl List {
    pub(crate) fn push(&mut self, frame: Bytes) {
        match self {
            List::Many(frames) if frames.is_empty() => *self = List::One(frame),
            List::Many(frames) => frames.push(frame),
            List::One(first) => *self = List::Many(vec![std::mem::take(first), frame]),
        }
    }

    fn as_slice(&self) -> &[Bytes] {
        match self {
            List::One(frame) => std::slice::from_ref(frame),
            List::Many(frames) => frames,
        }
    }
}

impl Default for List {
    fn default() -> Self {
        List::Many(Vec::new())
    }
}

impl From<Vec<Bytes>> for List {
    fn from(mut frames: Vec<Bytes>) -> Self {
        match frames.pop() {
            Some(frame) if frames.is_empty() => List::One(frame),
            last => {
                frames.extend(last);
                List::Many(frames)
            }
        }
    }
}

impl FromIterator<Bytes> for List {
    fn from_iter<I: IntoIterator<Item = Bytes>>(frames: I) -> Self {
        let mut frames = frames.into_iter().fuse();
        match (frames.next(), frames.next()) {
            (Some(frame), None) => List::One(frame),
            (first, second) => List::Many(first.into_iter().chain(second).chain(frames).collect()),
        }
    }
}

impl Message {
    /// A message without frames.
    pub const fn new() -> Self {
        Message { frames: List::Many(Vec::new()), properties: Properties::new() }
    }

    /// A message of these frames, in this order.
    pub fn from_frames(frames: Vec<Bytes>) -> Self {
        Message { frames: frames.into(), properties: Properties::new() }
    }

    /// A message of what it consists of.
    #[inline]
    pub(crate) fn from_parts(frames: List, properties: Properties) -> Self {
        Message { frames, properties }
    }

    /// The same message with these properties in the place of those it had.
    #[inline]
    #[must_use]
    pub fn with_properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// What travels beside the frames.
    #[inline]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The number of frames.
    pub fn len(&self) -> usize {
        self.frames().len()
    }

    /// Whether the message has no frames at all.
    pub fn is_empty(&self) -> bool {
        self.frames().is_empty()
    }

    /// The bytes of the frame at `index`, or `None` past the end.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.frames().get(index).map(|frame| &frame[..])
    }

    /// The bytes of the first frame, or `None` in a message without frames.
    pub fn first(&self) -> Option<&[u8]> {
        self.get(0)
    }

    /// The frames' bytes in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.frames().iter().map(|frame| &frame[..])
    }

    /// The frames in order.
    pub fn frames(&self) -> &[Bytes] {
        self.frames.as_slice()
    }

    /// The frames in order, taken out of the message.
    pub fn into_frames(self) -> Vec<Bytes> {
        match self.frames {
            List::One(frame) => vec![frame],
            List::Many(frames) => frames,
        }
    }

    /// The frame of a message that has just one, to be changed or taken out.
    #[inline]
    pub fn single_mut(&mut self) -> Option<&mut Bytes> {
        match &mut self.frames {
            List::One(frame) => Some(frame),
            List::Many(_) => None,
        }
    }

    /// The same in memory of its own, which is as large as need be.
    pub(crate) fn apart(&self) -> Message {
        let mut bytes = BytesMut::with_capacity(self.byte_len());
        self.frames().iter().for_each(|frame| bytes.extend_from_slice(frame));
        let mut bytes = bytes.freeze();
        let frames = self.frames().iter().map(|frame| bytes.split_to(frame.len())).collect();
        Message { frames, properties: self.properties.clone() }
    }

    /// The sum of the frames' lengths in bytes.
    pub fn byte_len(&self) -> usize {
        self.frames().iter().map(Bytes::len).sum()
    }

    /// How much memory the message takes while it waits, about. None is free, not even one without frames.
    pub(crate) fn cost(&self) -> usize {
        self.byte_len() + self.properties.block().len() + self.len().max(1) * FRAME_COST
    }
}

impl Index<usize> for Message {
    type Output = [u8];

    /// The bytes of the frame at `index`.
    ///
    /// # Panics
    /// Past the end, as a slice does; [`Message::get`] does not.
    fn index(&self, index: usize) -> &[u8] {
        &self.frames()[index]
    }
}

impl IntoIterator for Message {
    type Item = Bytes;
    type IntoIter = Chain<option::IntoIter<Bytes>, vec::IntoIter<Bytes>>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self.frames {
            List::One(frame) => (Some(frame), Vec::new()),
            List::Many(frames) => (None, frames),
        };
        one.into_iter().chain(many)
    }
}

impl<T: Into<Bytes>> FromIterator<T> for Message {
    fn from_iter<I: IntoIterator<Item = T>>(frames: I) -> Self {
        Message { frames: frames.into_iter().map(Into::into).collect(), properties: Properties::new() }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Message::from(text.as_bytes())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Message::from(Bytes::from(text))
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Message::from(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        Message::from(&bytes[..])
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Message::from(Bytes::from(bytes))
    }
}

impl From<Bytes> for Message {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Message { frames: List::One(bytes), properties: Properties::new() }
    }
}

impl From<Vec<Bytes>> for Message {
    fn from(frames: Vec<Bytes>) -> Self {
        Message::from_frames(frames)
    }
}

impl From<Vec<Vec<u8>>> for Message {
    fn from(frames: Vec<Vec<u8>>) -> Self {
        frames.into_iter().collect()
    }
}

impl<const N: usize> From<[&str; N]> for Message {
    fn from(frames: [&str; N]) -> Self {
        frames.iter().map(|frame| Bytes::copy_from_slice(frame.as_bytes())).collect()
    }
}

impl<const N: usize> From<[&[u8]; N]> for Message {
    fn from(frames: [&[u8]; N]) -> Self {
        frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect()
    }
}

impl<const N: usize> From<[Bytes; N]> for Message {
    fn from(frames: [Bytes; N]) -> Self {
        Message::from_frames(frames.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_small_to_move_and_one_frame_takes_no_list() {
        assert!(size_of::<Message>() <= 48, "{} bytes", size_of::<Message>());
        let frame = Bytes::from_static(b"frame");
        for (count, is_one) in [(0, false), (1, true), (2, false), (3, false)] {
            let frames = vec![frame.clone(); count];
            let mut pushed = List::default();
            frames.iter().cloned().for_each(|frame| pushed.push(frame));
            let lists = [List::from(frames.clone()), frames.iter().cloned().collect(), pushed];
            for list in lists {
                assert_eq!((list.as_slice(), matches!(list, List::One(_))), (&frames[..], is_one));
                let message = Message::from_parts(list, Properties::new());
                assert_eq!(message.apart(), message);
                assert_eq!(message.clone().into_frames(), frames);
                assert!(message.clone().into_iter().eq(frames.clone()));
                assert_eq!(message.clone().single_mut().is_some(), is_one);
            }
        }
    }
}
