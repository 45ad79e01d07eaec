//! A service: its waiting requests and the workers that have room.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::proto::frame::RoutingId;

use super::request::RequestId;

pub(super) type ServiceName = Arc<str>;

/// A worker's place among those that have room: the least loaded first, of these the one that waits longest.
pub(super) type Place = (u32, u64);

#[derive(Debug, Default)]
pub(super) struct Service {
    /// Waiting requests in the order of acceptance. A request that ended while it waited leaves its number behind.
    queue: VecDeque<RequestId>,
    /// How many of the queue's numbers still wait.
    pub(super) queued: usize,
    pub(super) queued_bytes: usize,
    /// Workers that have room.
    pub(super) ready: BTreeMap<Place, RoutingId>,
    /// Registered workers, ready or not.
    pub(super) workers: usize,
    /// Registered workers that hold nothing.
    pub(super) idle: usize,
    /// Requests that workers hold.
    pub(super) in_flight: usize,
    /// When the service's timer will fire.
    pub(super) armed: Option<Instant>,
}

/// A queue that has emptied gives back memory for more than this many numbers.
const KEPT_CAPACITY: usize = 1024;

impl Service {
    /// Whether nothing needs the service any more.
    pub(super) fn is_unused(&self) -> bool {
        self.workers == 0 && self.queued == 0 && self.in_flight == 0
    }

    /// Puts a request in its place by order of acceptance: a returned one comes to stand in front.
    pub(super) fn enqueue(&mut self, id: RequestId, bytes: usize) {
        if self.queue.back().is_none_or(|&last| last < id) {
            self.queue.push_back(id);
        } else {
            let place = self.queue.partition_point(|&other| other < id);
            // What waited here before may have left its number behind.
            if self.queue.get(place) != Some(&id) {
                self.queue.insert(place, id);
            }
        }
        self.queued += 1;
        self.queued_bytes += bytes;
    }

    /// The number at the front, which may be of a request that has ended.
    pub(super) fn front(&self) -> Option<RequestId> {
        self.queue.front().copied()
    }

    /// Takes the front number away without counting it.
    pub(super) fn skip_front(&mut self) {
        self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
    }

    /// One waiting request fewer; its number may stay behind.
    pub(super) fn uncount(&mut self, bytes: usize) {
        self.queued -= 1;
        self.queued_bytes -= bytes;
    }

    /// Whether more numbers were left behind than there are waiting requests.
    pub(super) fn is_littered(&self) -> bool {
        self.queue.len() > 2 * self.queued + 16
    }

    /// Drops the numbers that do not wait any more.
    pub(super) fn sweep(&mut self, waits: impl Fn(RequestId) -> bool) {
        self.queue.retain(|&id| waits(id));
    }
}
