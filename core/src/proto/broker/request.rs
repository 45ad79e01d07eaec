//! A request that the broker has accepted, from acceptance to its outcome.

use std::num::NonZeroU64;
use std::time::Instant;

use crate::message::FRAME_COST;
use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdp::Version;
use crate::proto::mdpx::{self, Command, Layout};

use super::received::{Received, Said};
use super::service::ServiceKey;
use super::session::SessionKey;
use super::spare::Buffers;
use super::worker::WorkerKey;

/// Number of a request, rising in the order of acceptance.
pub(super) type RequestId = u64;

/// Who asked, and how the answer is to be addressed.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// A client of MDP: its connection is all there is to know.
    Mdp { peer: RoutingId, version: Version },
    /// A client of MDPX: the session, and the number that it gave the request.
    X1 { session: SessionKey, number: u64 },
}

#[derive(Debug)]
pub(super) struct Request<F> {
    pub(super) client: Client,
    pub(super) service: ServiceKey,
    pub(super) body: Held<F>,
    /// How often it has been handed to a worker.
    pub(super) attempts: u32,
    /// How often it may be.
    pub(super) max_attempts: u32,
    /// When it must not be handed out any more, by the broker's own rule.
    pub(super) expires: Option<Instant>,
    /// When the caller's time is over, wherever the request is then.
    pub(super) deadline: Option<Instant>,
    /// Whether it waits in its service's queue.
    pub(super) queued: bool,
    /// Who holds it, and under which delivery.
    pub(super) holder: Option<(WorkerKey, NonZeroU64)>,
    /// The worker that failed at it last: another one is preferred.
    pub(super) avoid: Option<NonZeroU64>,
    /// How many parts of the reply the client has been sent. Another worker's parts must not follow them.
    pub(super) parts: u32,
    /// Whether the client is gone: the answer has nowhere to go.
    pub(super) orphaned: bool,
    /// Partial replies kept for a client of 0.1, which gets one reply.
    pub(super) joined: Option<Box<Joined<F>>>,
}

/// Partial replies that wait for the final one.
#[derive(Debug)]
pub(super) struct Joined<F> {
    pub(super) frames: Vec<F>,
    pub(super) bytes: usize,
}

/// The body of an answer as it came: the frames of a message of MDP, or a whole message of MDPX, whose header frame may
/// hold it packed.
#[derive(Debug)]
pub(super) struct Body<'a, F> {
    /// The frames; of a message of MDPX with the header.
    message: Received<'a, F>,
    /// Where in a message of MDPX the body is; `None` for one of MDP.
    layout: Option<Layout>,
}

/// A body to be read, whoever has it.
pub(super) struct View<'a, F> {
    /// The block of properties of MDPX; empty where there is none.
    properties: &'a [u8],
    /// The body as MDPX packs it; `None` where it is frames.
    packed: Option<&'a [u8]>,
    frames: &'a [F],
}

/// The body of a request until its outcome, in as little memory as it takes: it may have to wait, beside many others.
#[derive(Debug)]
pub(super) enum Held<F> {
    /// The length of the properties in two bytes, the properties, the packed body: one allocation; see [`Held::compact`].
    Packed(Vec<u8>),
    Frames(Box<Loose<F>>),
}

/// A body that is not packed.
#[derive(Debug)]
pub(super) struct Loose<F> {
    properties: Box<[u8]>,
    frames: Vec<F>,
}

/// The longest header of a DELIVER without properties and body.
const DELIVER_HEADER: usize = 48;
/// What stands before the properties of a [`Held::Packed`].
const PREFIX: usize = 2;

impl<'a, F: Frame> Body<'a, F> {
    /// The body of a message of MDP.
    pub(super) fn of_frames(frames: Vec<F>) -> Self {
        Body { message: Received::Alone(Frames::from_vec(frames)), layout: None }
    }

    /// The body of a message of MDPX, given with its header frame.
    pub(super) fn of_message(message: Received<'a, F>, layout: Layout) -> Self {
        Body { message, layout: Some(layout) }
    }

    pub(super) fn view(&self) -> View<'_, F> {
        match (self.layout, &self.message) {
            (Some(layout), message) => View::of_parts(message.header(), message.followers(), layout),
            (None, Received::Alone(frames)) => View { properties: &[], packed: None, frames },
            (None, Received::Joined(_)) => View { properties: &[], packed: None, frames: &[] },
        }
    }

    /// What the body costs while it is held.
    pub(super) fn cost(&self) -> usize {
        match &self.message {
            Received::Alone(frames) => cost(frames),
            Received::Joined(header) => header.len() + FRAME_COST,
        }
    }

    /// The frames of the body.
    pub(super) fn into_frames(self) -> Vec<F> {
        match (self.layout, self.message) {
            (None, Received::Alone(frames)) => frames.into_vec(),
            (layout, message) => Body { message, layout }.view().to_frames(),
        }
    }

    /// The same message for a client of MDPX, or the body itself where it came in none.
    pub(super) fn readdressed(self, number: u64, buffers: &mut Buffers) -> Result<Said<F>, Self> {
        if self.layout.is_some() { Ok(self.message.readdressed(number, buffers)) } else { Err(self) }
    }
}

impl<'a, F: Frame> View<'a, F> {
    /// The body of a message of MDPX, given with its header frame.
    pub(super) fn of_message(message: &'a [F], layout: Layout) -> Self {
        let (header, frames) =
            message.split_first().map_or((&[][..], message), |(header, rest)| (header.as_ref(), rest));
        View::of_parts(header, frames, layout)
    }

    fn of_parts(header: &'a [u8], frames: &'a [F], layout: Layout) -> Self {
        View { properties: layout.properties(header), packed: layout.packed(header), frames }
    }

    /// The body's first frame.
    pub(super) fn first(&self) -> Option<&'a [u8]> {
        match self.packed {
            Some(packed) => mdpx::unpack(packed).next(),
            None => self.frames.first().map(AsRef::as_ref),
        }
    }

    /// The frames of the body.
    pub(super) fn frames(&self) -> impl Iterator<Item = F> {
        let loose = if self.packed.is_some() { &[] } else { self.frames };
        let packed = self.packed.into_iter().flat_map(mdpx::unpack).map(F::copy_from);
        packed.chain(loose.iter().cloned())
    }

    /// The frames of the body in a list.
    pub(super) fn to_frames(&self) -> Vec<F> {
        match self.packed {
            Some(_) => self.frames().collect(),
            None => self.frames.to_vec(),
        }
    }

    /// Writes the body behind a header of MDPX if it is packed and the whole is of moderate size; whether it is.
    pub(super) fn write_inline(&self, command: &Command<'_>, out: &mut Vec<u8>) -> bool {
        let fits = |packed: &&[u8]| DELIVER_HEADER + self.properties.len() + packed.len() <= mdpx::PACK_LIMIT;
        let Some(packed) = self.packed.filter(fits) else { return false };
        out.clear();
        mdpx::write(out, command, self.properties);
        mdpx::pack_again(out, 0, packed);
        true
    }

    /// The body behind a header of MDPX. `scratch` is memory to write in.
    pub(super) fn message(&self, command: &Command<'_>, scratch: &mut Vec<u8>) -> Frames<F> {
        scratch.clear();
        mdpx::write(scratch, command, self.properties);
        let mut message = Frames::new();
        if let Some(packed) = self.packed {
            mdpx::pack_again(scratch, 0, packed);
            message.push(F::copy_from(scratch));
        } else if mdpx::is_packable(self.properties.len(), mdpx::packed_len(self.frames)) {
            mdpx::pack(scratch, 0, self.frames);
            message.push(F::copy_from(scratch));
        } else {
            message.push(F::copy_from(scratch));
            message.extend(self.frames.iter().cloned());
        }
        message
    }
}

impl<F: Frame> Held<F> {
    /// Lets go of the body; its memory, if that may serve for another.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(self, Held::Packed(Vec::new())) {
            Held::Packed(bytes) => Some(bytes),
            Held::Frames(_) => None,
        }
    }

    /// The body of a message of MDP.
    pub(super) fn of_frames(frames: Vec<F>) -> Self {
        Held::Frames(Box::new(Loose { properties: Box::default(), frames }))
    }

    /// The packed body in a header frame of MDPX; `None` where it is in the frames that follow.
    pub(super) fn of_header(header: &[u8], layout: Layout, buffers: &mut Buffers) -> Option<Self> {
        let (properties, packed) = (layout.properties(header), layout.packed(header)?);
        let mut bytes = buffers.get(PREFIX + properties.len() + packed.len());
        bytes.extend_from_slice(&u16::try_from(properties.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(packed);
        Some(Held::Packed(bytes))
    }

    /// The body of a message of MDPX that is not packed, given with its header frame.
    pub(super) fn of_message(message: Frames<F>, layout: Layout) -> Self {
        let properties = View::of_message(&message, layout).properties.into();
        let frames = message.into_iter().skip(1).collect();
        Held::Frames(Box::new(Loose { properties, frames }))
    }

    pub(super) fn view(&self) -> View<'_, F> {
        match self {
            Held::Packed(bytes) => {
                let (length, rest) = bytes
                    .split_first_chunk()
                    .map_or((0, &[][..]), |(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest));
                let (properties, packed) = rest.split_at_checked(length).unwrap_or_default();
                View { properties, packed: Some(packed), frames: &[] }
            }
            Held::Frames(loose) => View { properties: &loose.properties, packed: None, frames: &loose.frames },
        }
    }

    /// The number of bytes in the body's frames; of a packed one, as it is packed.
    pub(super) fn byte_len(&self) -> usize {
        let view = self.view();
        view.packed.map_or_else(|| byte_len(view.frames), <[u8]>::len)
    }

    /// What the body costs while it is held.
    pub(super) fn cost(&self) -> usize {
        match self {
            Held::Packed(bytes) => bytes.len() + FRAME_COST,
            Held::Frames(loose) => loose.properties.len() + cost(&loose.frames),
        }
    }

    /// Lets go of larger buffers, because the body has to wait.
    pub(super) fn compact(&mut self) {
        match self {
            // As much as it counts for besides its bytes may stay: the buffer serves again.
            Held::Packed(bytes) if bytes.capacity() - bytes.len() > FRAME_COST => bytes.shrink_to_fit(),
            Held::Packed(_) => {}
            Held::Frames(loose) => {
                loose.frames.shrink_to_fit();
                loose.frames.iter_mut().for_each(F::compact);
            }
        }
    }
}

pub(super) fn byte_len<F: Frame>(frames: &[F]) -> usize {
    frames.iter().map(|frame| frame.as_ref().len()).sum()
}

pub(super) fn cost<F: Frame>(frames: &[F]) -> usize {
    byte_len(frames) + frames.len() * FRAME_COST
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_request_that_waits_takes_little_memory_beside_its_body() {
        assert!(size_of::<Request<Bytes>>() <= 136, "{} bytes", size_of::<Request<Bytes>>());
        let body = [Bytes::from(vec![b'x'; 1000])];
        let mut header = Vec::new();
        let command =
            Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: false, service: b"echo" };
        mdpx::write(&mut header, &command, b"\x01a\x00\x01b");
        mdpx::pack(&mut header, 0, &body);
        let layout = mdpx::read(&header, 0).expect("well-formed").layout;
        let held = Held::<Bytes>::of_header(&header, layout, &mut Buffers::default()).expect("packed");
        let view = held.view();
        assert_eq!((view.properties, view.to_frames()), (&b"\x01a\x00\x01b"[..], body.to_vec()));
        let Held::Packed(bytes) = held else { panic!("it is packed") };
        assert_eq!(bytes.len(), 1000 + 4 + 5 + PREFIX);
        for (spare, kept) in [(0, 0), (FRAME_COST, FRAME_COST), (FRAME_COST + 1, 0)] {
            let mut buffer = Vec::with_capacity(100 + spare);
            buffer.extend_from_slice(&[0; 100]);
            let mut held = Held::<Bytes>::Packed(buffer);
            held.compact();
            assert_eq!(held.take_buffer().map(|buffer| buffer.capacity()), Some(100 + kept));
        }
    }
}
