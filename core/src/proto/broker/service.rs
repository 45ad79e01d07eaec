//! A service: its waiting requests and its idle workers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::proto::frame::RoutingId;

use super::request::RequestId;

pub(super) type ServiceName = Arc<str>;

#[derive(Debug, Default)]
pub(super) struct Service {
    /// Waiting requests in the order of acceptance. A request that ended while it waited leaves its number behind.
    queue: VecDeque<RequestId>,
    /// How many of the queue's numbers still wait.
    pub(super) queued: usize,
    pub(super) queued_bytes: usize,
    /// Idle workers by their turn: the longest idle one first.
    pub(super) idle: BTreeMap<u64, RoutingId>,
    /// Registered workers, idle or not.
    pub(super) workers: usize,
    /// Requests that workers hold.
    pub(super) in_flight: usize,
    /// When the service's timer will fire.
    pub(super) armed: Option<Instant>,
}

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
            self.queue.insert(place, id);
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
