//! A request that the broker has accepted, from acceptance to its outcome.

use std::time::Instant;

use crate::proto::frame::{Frame, RoutingId};

use crate::proto::mdp::Version;

use super::service::ServiceName;

/// Number of a request, rising in the order of acceptance.
pub(super) type RequestId = u64;

/// Rough cost of holding one frame beside its bytes.
const FRAME_OVERHEAD: usize = 64;

#[derive(Debug)]
pub(super) struct Request<F> {
    pub(super) client: RoutingId,
    pub(super) version: Version,
    pub(super) service: ServiceName,
    pub(super) body: Vec<F>,
    /// What the request counts towards the limits in bytes.
    pub(super) bytes: usize,
    /// How often it has been handed to a worker.
    pub(super) attempts: u32,
    /// When it must not be handed out any more.
    pub(super) expires: Option<Instant>,
    /// Whether it waits in its service's queue.
    pub(super) queued: bool,
    /// Whether the client has already been sent a part of the reply: another worker's parts must not follow it.
    pub(super) streaming: bool,
    /// Whether the client is gone: the answer has nowhere to go.
    pub(super) orphaned: bool,
    /// Partial replies kept for a client of 0.1, which gets one reply.
    pub(super) joined: Vec<F>,
    pub(super) joined_bytes: usize,
}

pub(super) fn byte_len<F: Frame>(frames: &[F]) -> usize {
    frames.iter().map(|frame| frame.as_ref().len()).sum()
}

pub(super) fn cost<F: Frame>(frames: &[F]) -> usize {
    byte_len(frames) + frames.len() * FRAME_OVERHEAD
}
