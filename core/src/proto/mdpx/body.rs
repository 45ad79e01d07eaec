//! Where in its message a body and its properties are.

use std::mem;
use std::num::NonZeroU32;

use bytes::{Buf, Bytes};

use crate::message::{List, Message};
use crate::properties::Properties;

/// The messages of a BATCH are copied out of it, so that a small one does not keep all of them alive; but not one by one: as
/// many as fit into so many bytes share a piece of memory.
const PIECE: usize = 512;

/// Where in its message a body and its properties are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Start and end of the block of properties in the header frame.
    pub(super) properties: (u32, u32),
    /// Where in the header frame the packed body starts; `None` where the body's frames follow.
    pub(super) packed: Option<NonZeroU32>,
}

impl Layout {
    /// The block of properties in the header frame.
    pub fn properties(self, header: &[u8]) -> &[u8] {
        &header[self.properties.0 as usize..self.properties.1 as usize]
    }

    /// The messages of a BATCH, each a header frame of its own.
    pub fn messages(self, header: &[u8]) -> impl Iterator<Item = Bytes> {
        let mut packed = self.packed(header).unwrap_or_default();
        let mut piece = Bytes::new();
        std::iter::from_fn(move || {
            if piece.is_empty() {
                let (first, rest) = packed.split_at(piece_len(packed));
                piece = Bytes::copy_from_slice(first);
                packed = rest;
            }
            let length = usize::try_from(piece.try_get_u32().ok()?).ok()?;
            // The last one takes the piece as it is: nothing is counted.
            Some(if length >= piece.len() { mem::take(&mut piece) } else { piece.split_to(length) })
        })
    }

    /// How many bytes the packed body takes in a header frame of `header` bytes; `None` where frames follow.
    pub fn packed_len(self, header: usize) -> Option<usize> {
        self.packed.map(|start| header.saturating_sub(start.get() as usize))
    }

    /// The packed body in the header frame; `None` where the body's frames follow it.
    pub fn packed(self, header: &[u8]) -> Option<&[u8]> {
        self.packed.map(|start| &header[start.get() as usize..])
    }

    /// The body with its properties. `rest` are the frames behind the header.
    pub fn into_message(self, mut header: Bytes, rest: impl IntoIterator<Item = Bytes>) -> Message {
        // Their form was checked when the header was read.
        let properties = Properties::from_block(self.properties(&header)).unwrap_or_default();
        let Some(start) = self.packed else { return rest.into_iter().collect::<Message>().with_properties(properties) };
        header.advance(start.get() as usize);
        let mut frames = List::default();
        while header.len() >= 4 {
            let length = header.get_u32() as usize;
            if length >= header.len() {
                // The last frame takes the buffer as it is: nothing is shared, nothing is counted.
                frames.push(mem::take(&mut header));
            } else {
                frames.push(header.split_to(length));
            }
        }
        Message::from_parts(frames, properties)
    }
}

/// The frames of a packed body.
pub fn unpack(mut packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (frame, rest) = split_packed(packed)?;
        packed = rest;
        Some(frame)
    })
}

pub(super) fn split_packed(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// How many bytes of this packed body the frames take that share a piece: at least one frame, if there is any.
fn piece_len(packed: &[u8]) -> usize {
    let mut length = 0;
    while let Some((_, rest)) = split_packed(&packed[length..]) {
        let end = packed.len() - rest.len();
        if length > 0 && end > PIECE {
            break;
        }
        length = end;
    }
    length
}
