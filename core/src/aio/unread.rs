//! Parts of a streamed reply that wait in an inbox: how much of it may wait, and what happens when that is reached.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::Result;
use crate::message::Message;

use super::command::Command;
use super::inbox::Inbox;
use super::outcome::{ClientEvent, Part};
use super::runtime::Queue;
use super::wakes::Wakes;

/// A part of a streamed reply that nobody has read yet.
///
/// Of a stream at most `max_message_bytes` wait, each frame counted with 64 bytes more. A part counts, wherever it is kept,
/// until it is [taken out](Unread::into_message) or dropped. When there are more, the request fails with `QueueFull` over MDPX;
/// with MDP/0.2 its connection is not read meanwhile.
#[derive(Clone)]
pub struct Unread(Box<Held>);

#[derive(Clone)]
struct Held {
    message: Message,
    share: Share,
}

impl Unread {
    /// The part, which waits no more.
    pub fn into_message(self) -> Message {
        let Held { message, share } = *self.0;
        drop(share);
        message
    }
}

impl Deref for Unread {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0.message
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.message.fmt(f)
    }
}

/// What a part takes of the room of its stream. It is given back when it is dropped.
struct Share {
    backlog: Arc<Backlog>,
    cost: usize,
}

impl Share {
    fn take(backlog: &Arc<Backlog>, cost: usize) -> Share {
        backlog.cost.fetch_add(cost, Ordering::SeqCst);
        Share { backlog: backlog.clone(), cost }
    }
}

impl Clone for Share {
    fn clone(&self) -> Share {
        Share::take(&self.backlog, self.cost)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let backlog = &self.backlog;
        backlog.cost.fetch_sub(self.cost, Ordering::SeqCst);
        if let Some(id) = backlog.take_halted() {
            backlog.queue.push(Command::Resume { client: backlog.client, id });
        }
    }
}

/// How much of one stream waits.
struct Backlog {
    queue: Arc<Queue>,
    client: u64,
    max_cost: usize,
    cost: AtomicUsize,
    /// The number of the request while its connection is not read because too much waits; 0 otherwise.
    halted: AtomicU64,
}

impl Backlog {
    /// The request whose connection is to be read again.
    fn take_halted(&self) -> Option<u64> {
        // Half empty, so that the connection is not stopped and started for each part.
        if self.halted.load(Ordering::SeqCst) == 0 || self.cost.load(Ordering::SeqCst) > self.max_cost / 2 {
            return None;
        }
        Some(self.halted.swap(0, Ordering::SeqCst)).filter(|id| *id != 0)
    }
}

/// A request of an inbox for a reply in parts.
pub(super) struct InboxStream {
    inbox: Arc<Inbox<ClientEvent>>,
    token: u64,
    backlog: Arc<Backlog>,
}

impl InboxStream {
    pub(super) fn new(
        inbox: Arc<Inbox<ClientEvent>>,
        token: u64,
        queue: Arc<Queue>,
        client: u64,
        max_cost: usize,
    ) -> Self {
        let (cost, halted) = (AtomicUsize::new(0), AtomicU64::new(0));
        InboxStream { inbox, token, backlog: Arc::new(Backlog { queue, client, max_cost, cost, halted }) }
    }

    /// Hands over a part of request `id`, which has its connection for itself; whether there is room for more. Where there is
    /// none, the I/O thread hears when there is.
    pub(super) fn put(&self, id: u64, part: Message, wakes: &mut Wakes) -> bool {
        self.store(part, wakes);
        let backlog = &self.backlog;
        if backlog.cost.load(Ordering::SeqCst) < backlog.max_cost {
            return true;
        }
        backlog.halted.store(id, Ordering::SeqCst);
        // All that waited may have been read before this was to be seen.
        backlog.take_halted().is_some()
    }

    /// Hands over a part unless there is too much already; whether it did. Whatever its size, the first one finds room.
    pub(super) fn put_within(&self, part: Message, wakes: &mut Wakes) -> bool {
        let waiting = self.backlog.cost.load(Ordering::SeqCst);
        if waiting > 0 && waiting.saturating_add(part.cost()) > self.backlog.max_cost {
            return false;
        }
        self.store(part, wakes);
        true
    }

    pub(super) fn end(&self, outcome: Result<Message>, wakes: &mut Wakes) {
        wakes.store(&self.inbox, ClientEvent { token: self.token, part: Part::Done(outcome) });
    }

    fn store(&self, message: Message, wakes: &mut Wakes) {
        let share = Share::take(&self.backlog, message.cost());
        let part = Part::Partial(Unread(Box::new(Held { message, share })));
        wakes.store(&self.inbox, ClientEvent { token: self.token, part });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_no_larger_than_the_outcome_in_it() {
        assert_eq!(size_of::<Part>(), size_of::<Result<Message>>());
    }
}
