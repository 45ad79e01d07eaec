//! Messages on their way to peers that take several in one.
//!
//! What costs in libzmq is the message, not its bytes. So what becomes ready for a peer while the broker works through what
//! it has received goes out together; nothing waits for the sake of company.

use foldhash::fast::FixedState;

use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdpx;

use super::{Map, Transmit};

#[derive(Debug)]
pub(super) struct Batches {
    open: Map<RoutingId, Batch>,
    /// Memory of batches that were closed.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    count: usize,
}

/// So much memory is kept for the next batches.
const MAX_SPARE: usize = 16;

impl Batch {
    fn has_room(&self, message: &[u8]) -> bool {
        self.count < mdpx::MAX_TOGETHER && self.bytes.len() + message.len() <= mdpx::MAX_BATCH
    }

    fn add(&mut self, message: &[u8]) {
        mdpx::pack(&mut self.bytes, 0, &[message]);
        self.count += 1;
    }
}

impl Batches {
    pub(super) fn new(hash: FixedState) -> Self {
        Batches { open: Map::with_hasher(hash), spare: Vec::new() }
    }

    /// Adds a message of one frame. Gives out the batch that had no room for it.
    pub(super) fn add<F: Frame>(&mut self, to: &RoutingId, message: &[u8]) -> Option<Transmit<F>> {
        if let Some(batch) = self.open.get_mut(to)
            && batch.has_room(message)
        {
            batch.add(message);
            return None;
        }
        let full = self.close(to);
        let mut batch = Batch { bytes: self.spare.pop().unwrap_or_default(), count: 0 };
        mdpx::begin_batch(&mut batch.bytes);
        batch.add(message);
        self.open.insert(to.clone(), batch);
        full
    }

    /// What waits for this peer, as one message.
    pub(super) fn close<F: Frame>(&mut self, to: &[u8]) -> Option<Transmit<F>> {
        if self.open.is_empty() {
            return None;
        }
        let (to, batch) = self.open.remove_entry(to)?;
        Some(self.finish(to, batch))
    }

    /// What waits for any peer, as one message.
    pub(super) fn close_any<F: Frame>(&mut self) -> Option<Transmit<F>> {
        let to = self.open.keys().next()?.clone();
        self.close(&to)
    }

    fn finish<F: Frame>(&mut self, to: RoutingId, batch: Batch) -> Transmit<F> {
        let mut frames = Frames::new();
        // One alone travels as itself.
        let single = mdpx::unpack(&batch.bytes[mdpx::BATCH_HEADER..]).next().filter(|_| batch.count == 1);
        frames.push(F::copy_from(single.unwrap_or(&batch.bytes)));
        if self.spare.len() < MAX_SPARE {
            self.spare.push(batch.bytes);
        }
        Transmit { to, frames }
    }
}
