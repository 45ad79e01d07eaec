//! A request that the broker has accepted, from acceptance to its outcome.

use std::time::Instant;

use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdp::Version;
use crate::proto::mdpx::{self, Command, Layout, SessionId};

use super::service::ServiceName;

/// Number of a request, rising in the order of acceptance.
pub(super) type RequestId = u64;

/// Rough cost of holding one frame beside its bytes.
const FRAME_OVERHEAD: usize = 64;

/// Who asked, and how the answer is to be addressed.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// A client of MDP: its connection is all there is to know.
    Mdp { peer: RoutingId, version: Version },
    /// A client of MDPX: the session, and the number that it gave the request.
    X1 { session: SessionId, number: u64 },
}

#[derive(Debug)]
pub(super) struct Request<F> {
    pub(super) client: Client,
    pub(super) service: ServiceName,
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
    pub(super) holder: Option<(RoutingId, u64)>,
    /// The worker that failed at it last: another one is preferred.
    pub(super) avoid: Option<u64>,
    /// How many parts of the reply the client has been sent. Another worker's parts must not follow them.
    pub(super) parts: u32,
    /// Whether the client is gone: the answer has nowhere to go.
    pub(super) orphaned: bool,
    /// Partial replies kept for a client of 0.1, which gets one reply.
    pub(super) joined: Vec<F>,
    pub(super) joined_bytes: usize,
}

/// A body as it came: frames, or a header frame of MDPX that may hold it packed.
#[derive(Clone, Debug)]
pub(super) struct Body<F> {
    header: Option<(F, Layout)>,
    frames: Frames<F>,
}

impl<F: Frame> Body<F> {
    /// The body of a message of MDP.
    pub(super) fn of_frames(frames: Vec<F>) -> Self {
        Body { header: None, frames: Frames::from_vec(frames) }
    }

    /// The body of a message of MDPX.
    pub(super) fn of_message(header: F, layout: Layout, frames: Frames<F>) -> Self {
        Body { header: Some((header, layout)), frames }
    }

    /// Whether it came in a message of MDPX.
    pub(super) fn is_x1(&self) -> bool {
        self.header.is_some()
    }

    fn packed(&self) -> Option<&[u8]> {
        self.header.as_ref().and_then(|(header, layout)| layout.packed(header.as_ref()))
    }

    fn properties(&self) -> &[u8] {
        self.header.as_ref().map_or(&[], |(header, layout)| layout.properties(header.as_ref()))
    }

    /// The number of bytes in the body's frames.
    pub(super) fn byte_len(&self) -> usize {
        self.packed().map_or_else(|| byte_len(&self.frames), <[u8]>::len)
    }

    /// What the body costs while it is held.
    pub(super) fn cost(&self) -> usize {
        self.header.as_ref().map_or(0, |(header, _)| header.as_ref().len() + FRAME_OVERHEAD) + cost(&self.frames)
    }

    /// The body's first frame.
    pub(super) fn first(&self) -> Option<&[u8]> {
        match self.packed() {
            Some(packed) => mdpx::unpack(packed).next(),
            None => self.frames.first().map(AsRef::as_ref),
        }
    }

    /// The frames of the body.
    pub(super) fn to_frames(&self) -> Vec<F> {
        match self.packed() {
            Some(packed) => mdpx::unpack(packed).map(F::copy_from).collect(),
            None => self.frames.to_vec(),
        }
    }

    /// The body behind another header of MDPX. `scratch` is memory to write in.
    pub(super) fn message(&self, command: &Command<'_>, scratch: &mut Vec<u8>) -> Frames<F> {
        scratch.clear();
        mdpx::write(scratch, command, self.properties());
        let mut frames = Frames::new();
        if let Some(packed) = self.packed() {
            mdpx::pack_again(scratch, 0, packed);
            frames.push(F::copy_from(scratch));
        } else if mdpx::packed_len(&self.frames) <= mdpx::PACK_LIMIT {
            mdpx::pack(scratch, 0, &self.frames);
            frames.push(F::copy_from(scratch));
        } else {
            frames.push(F::copy_from(scratch));
            frames.extend(self.frames.iter().cloned());
        }
        frames
    }

    /// The same message of MDPX for the client: rewritten in place where that can be.
    pub(super) fn readdressed(self, number: u64) -> Frames<F> {
        let mut frames = Frames::new();
        if let Some((mut header, _)) = self.header {
            match header.bytes_mut() {
                Some(bytes) => mdpx::readdress(bytes, number),
                None => {
                    let mut bytes = header.as_ref().to_vec();
                    mdpx::readdress(&mut bytes, number);
                    header = F::copy_from(&bytes);
                }
            }
            frames.push(header);
        }
        frames.extend(self.frames);
        frames
    }

    /// Lets go of larger buffers, because the body has to wait.
    pub(super) fn compact(&mut self) {
        if let Some((header, _)) = &mut self.header {
            header.compact();
        }
        self.frames.iter_mut().for_each(F::compact);
    }
}

pub(super) fn byte_len<F: Frame>(frames: &[F]) -> usize {
    frames.iter().map(|frame| frame.as_ref().len()).sum()
}

pub(super) fn cost<F: Frame>(frames: &[F]) -> usize {
    byte_len(frames) + frames.len() * FRAME_OVERHEAD
}
