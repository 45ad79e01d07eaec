//! A message of MDPX on its way through the broker: as it came, and as it goes to a client.

use crate::proto::frame::{Frame, Frames};
use crate::proto::mdpx;

use super::spare::Buffers;

/// A message of MDPX as it came.
#[derive(Debug)]
pub(super) enum Received<'a, F> {
    Alone(Frames<F>),
    /// With others in a BATCH: a header frame.
    Joined(&'a [u8]),
}

/// A message for a client of MDPX. What came small with others and goes out so needs no frame of its own.
#[derive(Clone, Debug)]
pub(super) enum Said<F> {
    Frames(Frames<F>),
    Small(Vec<u8>),
}

impl<'a, F: Frame> Received<'a, F> {
    pub(super) fn header(&self) -> &[u8] {
        match self {
            Received::Alone(frames) => frames.first().map(AsRef::as_ref).unwrap_or_default(),
            Received::Joined(header) => header,
        }
    }

    /// The frames behind the header.
    pub(super) fn followers(&self) -> &[F] {
        match self {
            Received::Alone(frames) => frames.get(1..).unwrap_or_default(),
            Received::Joined(_) => &[],
        }
    }

    pub(super) fn into_frames(self) -> Frames<F> {
        match self {
            Received::Alone(frames) => frames,
            Received::Joined(header) => one(header),
        }
    }

    /// The same message for the client: rewritten in place where that can be.
    pub(super) fn readdressed(self, number: u64, buffers: &mut Buffers) -> Said<F> {
        match self {
            Received::Alone(mut message) => {
                if let Some(header) = message.first_mut() {
                    if let Some(bytes) = header.bytes_mut() {
                        mdpx::readdress(bytes, number);
                    } else {
                        let mut bytes = header.as_ref().to_vec();
                        mdpx::readdress(&mut bytes, number);
                        *header = F::copy_from(&bytes);
                    }
                }
                Said::Frames(message)
            }
            Received::Joined(header) => {
                let mut bytes = buffers.get(header.len());
                bytes.extend_from_slice(header);
                mdpx::readdress(&mut bytes, number);
                Said::Small(bytes)
            }
        }
    }
}

impl<F: Frame> Said<F> {
    /// The message as it may stand in a BATCH, if it may.
    pub(super) fn small(&self) -> Option<&[u8]> {
        match self {
            Said::Frames(frames) => mdpx::may_join(frames).then(|| frames.first().map(AsRef::as_ref)).flatten(),
            Said::Small(bytes) => Some(bytes),
        }
    }

    pub(super) fn to_frames(&self) -> Frames<F> {
        match self {
            Said::Frames(frames) => frames.clone(),
            Said::Small(bytes) => one(bytes),
        }
    }

    pub(super) fn into_frames(self) -> Frames<F> {
        match self {
            Said::Frames(frames) => frames,
            Said::Small(bytes) => one(&bytes),
        }
    }
}

fn one<F: Frame>(header: &[u8]) -> Frames<F> {
    let mut frames = Frames::new();
    frames.push(F::copy_from(header));
    frames
}
