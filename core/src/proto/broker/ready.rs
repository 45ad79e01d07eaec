//! The workers of a service that have room.

use std::collections::BTreeMap;

use super::worker::WorkerKey;

/// A worker's place among those that have room: the least loaded first, of these the one that waits longest.
pub(super) type Place = (u32, u64);

/// So many moves at most wait beside as many as there are workers.
const SPARE: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Ready {
    places: BTreeMap<Place, WorkerKey>,
    /// Workers that hold less than their places say. Answers come many at once, so a worker's place is made anew when the
    /// next one is to be picked, and not with each of them.
    moved: Vec<WorkerKey>,
}

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A worker takes a place.
    pub(super) fn enter(&mut self, place: Place, worker: WorkerKey) {
        self.places.insert(place, worker);
    }

    /// A worker leaves its place.
    pub(super) fn leave(&mut self, place: Place) {
        self.places.remove(&place);
    }

    /// The worker that is next in turn; this one only if there is no other. None may have moved.
    pub(super) fn first(&self, avoid: impl Fn(WorkerKey) -> bool) -> Option<WorkerKey> {
        let mut workers = self.places.values().copied();
        let first = workers.next()?;
        Some(if avoid(first) { workers.next().unwrap_or(first) } else { first })
    }

    /// A worker's place is to be made anew. Whether that must not wait any longer.
    pub(super) fn has_moved(&mut self, worker: WorkerKey) -> bool {
        self.moved.push(worker);
        self.moved.len() > self.places.len() + SPARE
    }

    /// The workers whose places are to be made anew, in the order in which they have moved; not all may still be there.
    pub(super) fn take_moved(&mut self) -> Option<Vec<WorkerKey>> {
        (!self.moved.is_empty()).then(|| std::mem::take(&mut self.moved))
    }

    /// Takes the empty list back for its memory.
    pub(super) fn settled(&mut self, mut moved: Vec<WorkerKey>) {
        moved.clear();
        self.moved = moved;
    }
}
