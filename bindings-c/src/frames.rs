//! The frames of a message, which C takes apart and puts together at both ends.

use std::collections::VecDeque;

use bytes::Bytes;
use majordomo::Message;

/// A list of frames. Most messages are one frame, which takes no memory for a list.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Frames {
    first: Option<Bytes>,
    /// Empty where there is no first one.
    rest: VecDeque<Bytes>,
}

impl Frames {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Bytes> {
        index.checked_sub(1).map_or(self.first.as_ref(), |index| self.rest.get(index))
    }

    pub(crate) fn front(&self) -> Option<&Bytes> {
        self.first.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(&self.rest)
    }

    pub(crate) fn push_back(&mut self, frame: Bytes) {
        if self.first.is_none() {
            self.first = Some(frame);
        } else {
            self.rest.push_back(frame);
        }
    }

    pub(crate) fn push_front(&mut self, frame: Bytes) {
        if let Some(second) = self.first.replace(frame) {
            self.rest.push_front(second);
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<Bytes> {
        std::mem::replace(&mut self.first, self.rest.pop_front())
    }

    /// Puts other frames behind these.
    pub(crate) fn append(&mut self, others: Frames) {
        others.into_iter().for_each(|frame| self.push_back(frame));
    }
}

impl IntoIterator for Frames {
    type Item = Bytes;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Bytes>, std::collections::vec_deque::IntoIter<Bytes>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

impl From<Message> for Frames {
    fn from(message: Message) -> Self {
        let mut frames = message.into_iter();
        Frames { first: frames.next(), rest: frames.collect() }
    }
}

impl From<Frames> for Message {
    fn from(frames: Frames) -> Self {
        match frames.first {
            Some(frame) if frames.rest.is_empty() => Message::from(frame),
            first => first.into_iter().chain(frames.rest).collect(),
        }
    }
}
