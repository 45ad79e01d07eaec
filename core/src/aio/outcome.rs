//! Where the outcome of a request goes: to a future, to a stream, or to an inbox.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::message::Message;
use crate::proto::client::ReplyMode;

use super::inbox::Inbox;
use super::unread::{InboxStream, Unread};
use super::wakes::Wakes;

/// What became of a request of [`Client::submit`](super::Client::submit).
#[derive(Clone, Debug)]
pub struct ClientEvent {
    /// The token that the request was submitted with.
    pub token: u64,
    /// The part of the outcome.
    pub part: Part,
}

/// A part of a request's outcome.
#[derive(Clone, Debug)]
pub enum Part {
    /// A part of the reply; more follow.
    Partial(Unread),
    /// The reply or its last part, or the failure. It comes exactly once.
    Done(Result<Message>),
}

/// The one who asked. Dropped without an outcome, it hears that the client is closed, so nobody waits for ever.
pub(super) struct Caller {
    to: Option<To>,
}

pub(super) enum To {
    Future(Arc<Reply>),
    Stream(Arc<Buffer>),
    /// An inbox, and the token of a request for a reply in one piece.
    Inbox(Arc<Inbox<ClientEvent>>, u64),
    InboxStream(Box<InboxStream>),
}

impl Caller {
    pub(super) fn new(to: To) -> Self {
        Caller { to: Some(to) }
    }

    pub(super) fn mode(&self) -> ReplyMode {
        match &self.to {
            Some(To::Stream(_) | To::InboxStream(_)) => ReplyMode::Parts,
            Some(To::Future(_) | To::Inbox(..)) | None => ReplyMode::Whole,
        }
    }

    /// Hands over a part of request `id`; whether the caller can take more now.
    pub(super) fn partial(&self, id: u64, part: Message, wakes: &mut Wakes) -> bool {
        match &self.to {
            Some(To::Stream(buffer)) => buffer.put(part, wakes),
            Some(To::InboxStream(stream)) => stream.put(id, part, wakes),
            Some(To::Future(_) | To::Inbox(..)) | None => true,
        }
    }

    /// Hands over a part that shares its connection with other requests; whether the caller had room for it.
    pub(super) fn shared_partial(&self, part: Message, wakes: &mut Wakes) -> bool {
        match &self.to {
            Some(To::Stream(buffer)) => buffer.put_within(part, wakes),
            Some(To::InboxStream(stream)) => stream.put_within(part, wakes),
            Some(To::Future(_) | To::Inbox(..)) | None => true,
        }
    }

    /// Hands over the outcome of a request that `load` has admitted.
    pub(super) fn done(mut self, outcome: Result<Message>, load: &Load, wakes: &mut Wakes) {
        // First of all: whoever hears of the outcome may submit the next request.
        load.leave(1);
        self.end(outcome, wakes);
    }

    /// Hands over many outcomes at once: the count is shared with those who submit requests meanwhile.
    pub(super) fn all_done(ended: &mut Vec<(Caller, Result<Message>)>, load: &Load, wakes: &mut Wakes) {
        load.leave(ended.len());
        for (mut caller, outcome) in ended.drain(..) {
            caller.end(outcome, wakes);
        }
    }

    /// Tells the caller of a request that was not admitted.
    pub(super) fn refuse(mut self, error: Error, wakes: &mut Wakes) {
        self.end(Err(error), wakes);
    }

    /// Tells the caller on the present thread, where there is no I/O thread to do it.
    pub(super) fn refuse_here(mut self, error: Error) {
        let mut wakes = Wakes::default();
        self.end(Err(error), &mut wakes);
        wakes.flush();
    }

    fn end(&mut self, outcome: Result<Message>, wakes: &mut Wakes) {
        match self.to.take() {
            Some(To::Future(reply)) => reply.put(outcome, wakes),
            Some(To::Stream(buffer)) => buffer.end(outcome, wakes),
            Some(To::Inbox(inbox, token)) => wakes.store(&inbox, ClientEvent { token, part: Part::Done(outcome) }),
            Some(To::InboxStream(stream)) => stream.end(outcome, wakes),
            None => {}
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.to.is_some() {
            let mut wakes = Wakes::default();
            self.end(Err(Error::closed("client")), &mut wakes);
            wakes.flush();
        }
    }
}

/// How many requests of one client are unanswered, and how many may be. A client that is closed does not count any more.
pub(super) struct Load {
    pending: AtomicUsize,
    limit: AtomicUsize,
}

impl Load {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Load { pending: AtomicUsize::new(0), limit: AtomicUsize::new(limit) })
    }

    /// Counts one more request, unless there are too many; whether it did.
    pub(super) fn admit(&self) -> bool {
        let limit = self.limit();
        let below = |pending| (pending < limit).then_some(pending + 1);
        self.pending.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok()
    }

    /// So many requests are answered.
    fn leave(&self, requests: usize) {
        if requests > 0 {
            self.pending.fetch_sub(requests, Ordering::AcqRel);
        }
    }

    /// Whether no more than one request is unanswered.
    pub(super) fn is_single(&self) -> bool {
        self.pending.load(Ordering::Relaxed) <= 1
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// From now on so many; those above that stay.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

/// Runs `check` until it gives something, or leaves the task's waker in the slot that `check` shows. Wakers are cloned and
/// dropped outside of the lock: they run code of the executor's.
fn poll_locked<S, T>(
    state: &Mutex<S>,
    context: &Context<'_>,
    slot: impl Fn(&mut S) -> &mut Option<Waker>,
    mut check: impl FnMut(&mut S) -> Option<T>,
) -> Poll<T> {
    {
        let mut state = lock(state);
        if let Some(value) = check(&mut state) {
            return Poll::Ready(value);
        }
        if slot(&mut state).as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
    }
    let waker = context.waker().clone();
    let mut state = lock(state);
    if let Some(value) = check(&mut state) {
        return Poll::Ready(value);
    }
    let old = slot(&mut state).replace(waker);
    drop(state);
    drop(old);
    Poll::Pending
}

fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The outcome of a request that a future waits for.
#[derive(Default)]
pub(super) struct Reply {
    state: Mutex<ReplyState>,
}

#[derive(Default)]
struct ReplyState {
    outcome: Option<Result<Message>>,
    waker: Option<Waker>,
}

impl Reply {
    fn put(&self, outcome: Result<Message>, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        wakes.waker(waker);
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Result<Message>> {
        poll_locked(&self.state, context, |state| &mut state.waker, |state| state.outcome.take())
    }
}

/// Parts beyond this number stop the reading of the connection that they come from.
const MAX_BUFFERED: usize = 1024;

/// The parts of a reply that a stream has not taken yet.
pub(super) struct Buffer {
    state: Mutex<BufferState>,
    max_bytes: usize,
}

#[derive(Default)]
struct BufferState {
    parts: VecDeque<Message>,
    /// How much memory they take, about.
    cost: usize,
    end: Option<Result<Message>>,
    waker: Option<Waker>,
    /// Whether the connection is not read because there is too much here.
    full: bool,
}

/// What a stream takes out of its buffer.
pub(super) struct Taken {
    pub(super) item: Result<Message>,
    /// Whether nothing follows.
    pub(super) last: bool,
    /// Whether the connection is to be read again.
    pub(super) resume: bool,
}

impl Buffer {
    pub(super) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Buffer { state: Mutex::default(), max_bytes })
    }

    /// Whether there is room for more.
    fn put(&self, part: Message, wakes: &mut Wakes) -> bool {
        let mut state = lock(&self.state);
        state.cost += part.cost();
        state.parts.push_back(part);
        state.full = state.parts.len() >= MAX_BUFFERED || state.cost >= self.max_bytes;
        let room = !state.full;
        let waker = state.waker.take();
        drop(state);
        wakes.waker(waker);
        room
    }

    /// Takes a part unless there is too much already; whether it did.
    fn put_within(&self, part: Message, wakes: &mut Wakes) -> bool {
        let mut state = lock(&self.state);
        let cost = state.cost.saturating_add(part.cost());
        if cost > self.max_bytes && !state.parts.is_empty() {
            return false;
        }
        state.cost = cost;
        state.parts.push_back(part);
        let waker = state.waker.take();
        drop(state);
        wakes.waker(waker);
        true
    }

    fn end(&self, outcome: Result<Message>, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        state.end = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        wakes.waker(waker);
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Taken> {
        let take = |state: &mut BufferState| {
            if let Some(part) = state.parts.pop_front() {
                state.cost -= part.cost();
                // Half empty, so that the connection is not stopped and started for each part.
                let roomy = state.parts.len() <= MAX_BUFFERED / 2 && state.cost <= self.max_bytes / 2;
                let resume = roomy && mem::take(&mut state.full);
                return Some(Taken { item: Ok(part), last: false, resume });
            }
            state.end.take().map(|item| Taken { item, last: true, resume: false })
        };
        poll_locked(&self.state, context, |state| &mut state.waker, take)
    }
}
