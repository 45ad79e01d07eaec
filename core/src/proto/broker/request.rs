//! A request that the broker has accepted, from acceptance to its outcome.

use std::time::Instant;

use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdp::Version;
use crate::proto::mdpx::{self, Command, Layout};

use super::service::ServiceKey;
use super::session::SessionKey;
use super::worker::WorkerKey;

/// Number of a request, rising in the order of acceptance.
pub(super) type RequestId = u64;

/// By so many bytes at most the header of a DELIVER is longer than that of its REQUEST.
const DELIVER_MORE: usize = 32;
/// Rough cost of holding one frame beside its bytes.
const FRAME_OVERHEAD: usize = 64;

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
    pub(super) body: Body<F>,
    /// What the request counts towards the limits in bytes.
    pub(super) bytes: usize,
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
    pub(super) holder: Option<(WorkerKey, u64)>,
    /// The worker that failed at it last: another one is preferred.
    pub(super) avoid: Option<u64>,
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

/// A body as it came: the frames of a message of MDP, or a whole message of MDPX, whose header frame may hold it packed.
#[derive(Clone, Debug)]
pub(super) struct Body<F> {
    held: Held<F>,
    /// Where in a message of MDPX the body is; `None` for one of MDP.
    layout: Option<Layout>,
    /// The number of bytes in the body's frames.
    pub(super) byte_len: usize,
    /// What the body costs while it is held.
    pub(super) cost: usize,
}

#[derive(Clone, Debug)]
enum Held<F> {
    /// The frames; of a message of MDPX with the header.
    Frames(Frames<F>),
    /// The header frame of a packed message that has to wait, in an allocation of its size.
    Waiting(Box<[u8]>),
}

impl<F: Frame> Body<F> {
    /// The body of a message of MDP.
    pub(super) fn of_frames(frames: Vec<F>) -> Self {
        let (byte_len, cost) = (byte_len(&frames), cost(&frames));
        Body { held: Held::Frames(Frames::from_vec(frames)), layout: None, byte_len, cost }
    }

    /// The body of a message of MDPX, given with its header frame, which has `header` bytes.
    pub(super) fn of_message(message: Frames<F>, header: usize, layout: Layout) -> Self {
        let behind = message.get(1..).unwrap_or_default();
        let byte_len = layout.packed_len(header).unwrap_or_else(|| byte_len(behind));
        let cost = header + FRAME_OVERHEAD + cost(behind);
        Body { held: Held::Frames(message), layout: Some(layout), byte_len, cost }
    }

    /// Whether it came in a message of MDPX.
    pub(super) fn is_x1(&self) -> bool {
        self.layout.is_some()
    }

    fn header(&self) -> &[u8] {
        match (&self.held, self.layout) {
            (Held::Waiting(header), _) => header,
            (Held::Frames(frames), Some(_)) => frames.first().map(AsRef::as_ref).unwrap_or_default(),
            (Held::Frames(_), None) => &[],
        }
    }

    /// The body's frames, where they are frames.
    fn frames(&self) -> &[F] {
        match (&self.held, self.layout) {
            (Held::Frames(frames), None) => frames,
            (Held::Frames(frames), Some(_)) => frames.get(1..).unwrap_or_default(),
            (Held::Waiting(_), _) => &[],
        }
    }

    fn packed(&self) -> Option<&[u8]> {
        self.layout.and_then(|layout| layout.packed(self.header()))
    }

    /// The body's first frame.
    pub(super) fn first(&self) -> Option<&[u8]> {
        match self.packed() {
            Some(packed) => mdpx::unpack(packed).next(),
            None => self.frames().first().map(AsRef::as_ref),
        }
    }

    /// The frames of the body.
    pub(super) fn to_frames(&self) -> Vec<F> {
        match self.packed() {
            Some(packed) => mdpx::unpack(packed).map(F::copy_from).collect(),
            None => self.frames().to_vec(),
        }
    }

    /// Writes the body behind another header of MDPX if it is packed and the whole is of moderate size; whether it is.
    pub(super) fn write_inline(&self, command: &Command<'_>, out: &mut Vec<u8>) -> bool {
        let Some(layout) = self.layout else { return false };
        let header = self.header();
        let Some(packed) = layout.packed(header).filter(|_| header.len() + DELIVER_MORE <= mdpx::PACK_LIMIT) else {
            return false;
        };
        out.clear();
        mdpx::write(out, command, layout.properties(header));
        mdpx::pack_again(out, 0, packed);
        true
    }

    /// The body behind another header of MDPX. `scratch` is memory to write in.
    pub(super) fn message(&self, command: &Command<'_>, scratch: &mut Vec<u8>) -> Frames<F> {
        scratch.clear();
        let (properties, packed) = match self.layout {
            Some(layout) => {
                let header = self.header();
                (layout.properties(header), layout.packed(header))
            }
            None => (&[][..], None),
        };
        mdpx::write(scratch, command, properties);
        let mut message = Frames::new();
        if let Some(packed) = packed {
            mdpx::pack_again(scratch, 0, packed);
            message.push(F::copy_from(scratch));
        } else if mdpx::is_packable(properties.len(), mdpx::packed_len(self.frames())) {
            mdpx::pack(scratch, 0, self.frames());
            message.push(F::copy_from(scratch));
        } else {
            message.push(F::copy_from(scratch));
            message.extend(self.frames().iter().cloned());
        }
        message
    }

    /// The same message of MDPX for the client: rewritten in place where that can be.
    pub(super) fn readdressed(self, number: u64) -> Frames<F> {
        let Held::Frames(mut message) = self.held else { return Frames::new() };
        let Some(header) = message.first_mut() else { return message };
        if let Some(bytes) = header.bytes_mut() {
            mdpx::readdress(bytes, number);
        } else {
            let mut bytes = header.as_ref().to_vec();
            mdpx::readdress(&mut bytes, number);
            *header = F::copy_from(&bytes);
        }
        message
    }

    /// Lets go of larger buffers, because the body has to wait.
    pub(super) fn compact(&mut self) {
        if self.packed().is_some() {
            self.held = Held::Waiting(self.header().into());
        } else if let Held::Frames(frames) = &mut self.held {
            frames.iter_mut().for_each(F::compact);
        }
    }
}

pub(super) fn byte_len<F: Frame>(frames: &[F]) -> usize {
    frames.iter().map(|frame| frame.as_ref().len()).sum()
}

pub(super) fn cost<F: Frame>(frames: &[F]) -> usize {
    byte_len(frames) + frames.len() * FRAME_OVERHEAD
}
