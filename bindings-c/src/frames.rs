//! The frames of a message, which C takes apart and puts together at both ends.

use std::collections::VecDeque;

use bytes::Bytes;
use majordomo::Message;

/// A list of frames. Most messages are one frame, which takes no memory for a list.
#[derive(Clone, Default)]
pub(crate) struct Frames {
    first: Option<Bytes>,
    /// `None` where there is no first one.
    #[expect(clippy::box_collection, reason = "most messages have no rest, and are to be small")]
    rest: Option<Box<VecDeque<Bytes>>>,
}

impl Frames {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Bytes> {
        index.checked_sub(1).map_or(self.first.as_ref(), |index| self.rest.as_ref()?.get(index))
    }

    pub(crate) fn front(&self) -> Option<&Bytes> {
        self.first.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    pub(crate) fn push_back(&mut self, frame: Bytes) {
        if self.first.is_none() {
            self.first = Some(frame);
        } else {
            self.rest.get_or_insert_default().push_back(frame);
        }
    }

    pub(crate) fn push_front(&mut self, frame: Bytes) {
        if let Some(second) = self.first.replace(frame) {
            self.rest.get_or_insert_default().push_front(second);
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<Bytes> {
        std::mem::replace(&mut self.first, self.rest.as_mut().and_then(|rest| rest.pop_front()))
    }

    /// Puts other frames behind these.
    pub(crate) fn append(&mut self, others: Frames) {
        others.first.into_iter().for_each(|frame| self.push_back(frame));
        others.rest.into_iter().flat_map(|rest| *rest).for_each(|frame| self.push_back(frame));
    }
}

/// What frames they are, and not how they came to be: a rest that has become empty is none.
impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl From<Bytes> for Frames {
    #[inline]
    fn from(frame: Bytes) -> Self {
        Frames { first: Some(frame), rest: None }
    }
}

impl From<Vec<Bytes>> for Frames {
    fn from(frames: Vec<Bytes>) -> Self {
        let mut rest = VecDeque::from(frames);
        Frames { first: rest.pop_front(), rest: (!rest.is_empty()).then(|| Box::new(rest)) }
    }
}

impl From<Frames> for Message {
    #[inline]
    fn from(frames: Frames) -> Self {
        match frames.rest {
            None => frames.first.map_or_else(Message::new, Message::from),
            Some(rest) => frames.first.into_iter().chain(*rest).collect(),
        }
    }
}
