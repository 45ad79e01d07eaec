//! A service: its waiting requests and the workers that have room.

use std::sync::Arc;

use foldhash::fast::FixedState;

use super::queue::Queue;
use super::ready::Ready;

pub(super) type ServiceName = Arc<str>;
/// Where a service is in the table of services, as long as it is there.
pub(super) type ServiceKey = usize;

#[derive(Debug)]
pub(super) struct Service {
    /// Requests that wait.
    pub(super) queue: Queue,
    /// Workers that have room.
    pub(super) ready: Ready,
    /// Registered workers, ready or not.
    pub(super) workers: usize,
    /// Those of them that take nothing more.
    pub(super) draining: usize,
    /// Registered workers that hold nothing.
    pub(super) idle: usize,
    /// Requests that workers hold.
    pub(super) in_flight: usize,
}

impl Service {
    pub(super) fn new(hash: FixedState) -> Self {
        Service { queue: Queue::new(hash), ready: Ready::default(), workers: 0, draining: 0, idle: 0, in_flight: 0 }
    }

    /// How many requests wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.load().requests
    }

    /// Whether the service has a worker that takes requests, now or when it has room.
    pub(super) fn is_served(&self) -> bool {
        self.workers > self.draining
    }

    /// Whether nothing needs the service any more.
    pub(super) fn is_unused(&self) -> bool {
        self.workers == 0 && self.queued() == 0 && self.in_flight == 0
    }
}
