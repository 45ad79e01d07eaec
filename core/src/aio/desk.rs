//! Where a worker's requests are handed to those who work on them.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, ErrorKind, Result};
use crate::message::{FRAME_COST, Message};
use crate::options::{Protocol, WorkerOptions};
use crate::proto::mdpx::Gathered;
use crate::proto::worker::Answer;
use crate::wait::Check;
use crate::worker::{Cancellations, Delivered, Request, Responder};

use super::command::Command;
use super::inbox::Inbox;
use super::runtime::Queue;
use super::wakes::Wakes;

/// What happened to a worker that was made with [`Worker::with_inbox`](super::Worker::with_inbox).
#[derive(Debug)]
pub struct WorkerEvent {
    /// The token that the worker was made with.
    pub token: u64,
    /// What happened.
    pub kind: WorkerEventKind,
}

/// What happened to a worker.
#[derive(Debug)]
pub enum WorkerEventKind {
    /// A request came, to be answered through it.
    Request(Request),
    /// Nobody waits for the answer to this request any more (MDPX only). It is still owed, and dropped when it comes.
    Cancelled {
        /// The request's number, see [`Request::id`].
        id: u64,
    },
    /// The worker has ended: drained or closed, or for this reason. Nothing follows.
    Closed(Option<Error>),
}

/// The place between a worker's sessions and its handlers. It outlives neither: requests in it and out of it are worth
/// nothing once the sessions are closed.
pub(super) struct Desk {
    worker: u64,
    queue: Arc<Queue>,
    options: Arc<WorkerOptions>,
    service: Arc<str>,
    /// Where requests go; `None` where they wait here to be received.
    /// Weak: what waits in it holds the desk.
    inbox: Option<(Weak<Inbox<WorkerEvent>>, u64)>,
    cancellations: Cancellations,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    /// Tasks that wait for a request, or for the end. Each is asked again when something happens.
    wakers: Vec<(u64, Waker)>,
    next_waiter: u64,
    ended: Option<Option<Error>>,
}

/// One task's place among those that wait at a desk.
#[derive(Default)]
pub(super) struct Place(Option<u64>);

impl Desk {
    pub(super) fn new(
        worker: u64,
        queue: Arc<Queue>,
        options: Arc<WorkerOptions>,
        inbox: Option<(Arc<Inbox<WorkerEvent>>, u64)>,
    ) -> Arc<Desk> {
        let service = Arc::from(&*options.service);
        Arc::new(Desk {
            worker,
            queue,
            options,
            service,
            inbox: inbox.map(|(inbox, token)| (Arc::downgrade(&inbox), token)),
            cancellations: Cancellations::default(),
            state: Mutex::default(),
        })
    }

    /// What takes the answers of one session's requests to it.
    pub(super) fn answers(self: &Arc<Desk>) -> Arc<Answers> {
        Arc::new(Answers {
            desk: self.clone(),
            room: Room::default(),
            in_hand: AtomicUsize::new(0),
            joins: AtomicBool::new(false),
            joined: AtomicUsize::new(0),
        })
    }

    /// A request came.
    pub(super) fn request(&self, delivered: Delivered, answers: &Arc<Answers>, wakes: &mut Wakes) {
        answers.joined.store(0, Ordering::Relaxed);
        answers.in_hand.fetch_add(1, Ordering::Relaxed);
        let request = Request::new(delivered, answers.clone());
        if let Some((inbox, token)) = &self.inbox {
            // Nobody is left to work on it where the inbox is gone: dropping it answers it.
            if let Some(inbox) = inbox.upgrade() {
                wakes.store(&inbox, WorkerEvent { token: *token, kind: WorkerEventKind::Request(request) });
            }
        } else {
            let mut state = self.lock();
            state.requests.push_back(request);
            wakes.wakers(state.wakers.drain(..).map(|(_, waker)| waker));
        }
    }

    /// Nobody waits for the answer to a request any more.
    pub(super) fn cancelled(&self, id: u64, wakes: &mut Wakes) {
        if let Some(token) = self.cancellations.mark(id) {
            wakes.cancelled(token);
        }
        let mut state = self.lock();
        let at = state.requests.iter().position(|request| request.id() == id);
        let untaken = at.and_then(|at| state.requests.remove(at));
        // Whoever runs handlers looks which of them need not go on.
        wakes.wakers(state.wakers.drain(..).map(|(_, waker)| waker));
        drop(state);
        if untaken.is_none()
            && let Some((inbox, token)) = &self.inbox
            && let Some(inbox) = inbox.upgrade()
        {
            wakes.store(&inbox, WorkerEvent { token: *token, kind: WorkerEventKind::Cancelled { id } });
        }
        // This answers it.
        drop(untaken);
    }

    /// The requests that nobody has received yet, which a drain leaves to other workers.
    pub(super) fn take_untaken(&self) -> Vec<Request> {
        mem::take(&mut self.lock().requests).into()
    }

    pub(super) fn cancellations(&self) -> &Cancellations {
        &self.cancellations
    }

    /// The worker has ended.
    pub(super) fn closed(&self, failure: Option<Error>, wakes: &mut Wakes) {
        let mut state = self.lock();
        state.ended = Some(failure.clone());
        let wakers = mem::take(&mut state.wakers);
        let requests = mem::take(&mut state.requests);
        drop(state);
        // The broker gives them to other workers.
        drop(requests);
        wakes.wakers(wakers.into_iter().map(|(_, waker)| waker));
        if let Some((inbox, token)) = &self.inbox
            && let Some(inbox) = inbox.upgrade()
        {
            wakes.store(&inbox, WorkerEvent { token: *token, kind: WorkerEventKind::Closed(failure) });
        }
    }

    /// The next request, or the error that says why there will be none.
    pub(super) fn poll_request(&self, context: &Context<'_>, place: &mut Place) -> Poll<Result<Request>> {
        self.poll(context, place, |state| {
            if let Some(request) = state.requests.pop_front() {
                return Some(Ok(request));
            }
            let ended = state.ended.as_ref()?;
            Some(Err(ended.clone().unwrap_or_else(|| Error::closed("worker"))))
        })
    }

    /// The worker's end.
    pub(super) fn poll_end(&self, context: &Context<'_>, place: &mut Place) -> Poll<Result<()>> {
        self.poll(context, place, |state| {
            let ended = state.ended.as_ref()?;
            Some(ended.clone().map_or(Ok(()), Err))
        })
    }

    /// Whoever waited in this place has gone. It may have been woken for a request that it leaves to the others.
    pub(super) fn leave(&self, place: &mut Place) {
        let Some(waiter) = place.0.take() else { return };
        if self.queue.origin().check("worker").is_err() {
            return;
        }
        let mut state = self.lock();
        let at = state.wakers.iter().position(|(id, _)| *id == waiter);
        let gone = at.map(|at| state.wakers.swap_remove(at));
        drop(state);
        drop(gone);
    }

    /// Wakers are cloned and dropped outside of the lock: they run code of the executor's.
    fn poll<T>(
        &self,
        context: &Context<'_>,
        place: &mut Place,
        mut check: impl FnMut(&mut State) -> Option<Result<T>>,
    ) -> Poll<Result<T>> {
        if let Err(error) = self.queue.origin().check("worker") {
            return Poll::Ready(Err(error));
        }
        let found = check(&mut self.lock());
        if let Some(found) = found {
            self.leave(place);
            return Poll::Ready(found);
        }
        let waker = context.waker().clone();
        let mut state = self.lock();
        if let Some(found) = check(&mut state) {
            drop(state);
            self.leave(place);
            return Poll::Ready(found);
        }
        let waiter = *place.0.get_or_insert_with(|| {
            state.next_waiter += 1;
            state.next_waiter
        });
        let mut old = None;
        match state.wakers.iter_mut().find(|(id, _)| *id == waiter) {
            Some((_, present)) => old = Some(mem::replace(present, waker)),
            None => state.wakers.push((waiter, waker)),
        }
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the answers to the requests of one session to the I/O thread.
pub(super) struct Answers {
    desk: Arc<Desk>,
    pub(super) room: Room,
    /// How many requests have not had their last answer.
    in_hand: AtomicUsize,
    /// Whether the protocol joins parts to one reply.
    joins: AtomicBool,
    /// Bytes of the parts so far, where it does. Such a session has one request at a time.
    joined: AtomicUsize,
}

impl Answers {
    /// What is spoken on the session's connection has been found out.
    pub(super) fn set_protocol(&self, protocol: Protocol) {
        self.joins.store(protocol == Protocol::V01, Ordering::Relaxed);
    }
}

impl Responder for Answers {
    fn answer(&self, id: u64, answer: Answer) -> Result<bool> {
        let desk = &*self.desk;
        desk.queue.origin().check("request")?;
        let bytes = match &answer {
            Answer::Partial(body) | Answer::Final(body) => body.byte_len(),
            Answer::Failure(_) | Answer::Cancelled => 0,
        };
        // The machine would find this too, but too late for the handler to hear of it.
        let total = self.joined.load(Ordering::Relaxed).saturating_add(bytes);
        let limit = desk.options.max_message_bytes;
        if bytes > 0 && total > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the answer has {total} bytes; max_message_bytes is {limit}"),
            ));
        }
        if let Answer::Partial(body) = &answer {
            if self.joins.load(Ordering::Relaxed) {
                self.joined.store(total, Ordering::Relaxed);
            }
            // The final answer may always go: with it, this comes to an end.
            self.room.check(cost(body), limit)?;
        }
        self.room.enter(&answer);
        let last = !matches!(answer, Answer::Partial(_));
        let is_single = last && self.in_hand.fetch_sub(1, Ordering::Relaxed) == 1;
        // Large ones are not gathered, so they need not wait for others.
        let is_large = matches!(&answer, Answer::Final(body) if !Gathered::fits(body));
        let command = Command::Answer { worker: desk.worker, id, answer };
        match is_single || is_large {
            true => desk.queue.push_alone(|| command),
            false => desk.queue.push(command),
        }
        Ok(true)
    }

    /// Without room a part has been refused already.
    fn await_room(&self, _check: Check<'_>) -> Result<()> {
        Ok(())
    }

    fn cancellations(&self) -> &Cancellations {
        &self.desk.cancellations
    }

    fn service(&self) -> &str {
        &self.desk.service
    }
}

/// Workers of small messages may have this much on its way all the same.
const MIN_ROOM: usize = 1 << 20;

/// How much of a session's answers is on its way to a broker that may be slow to take it.
#[derive(Default)]
pub(super) struct Room {
    /// On the way to the I/O thread.
    queued: AtomicUsize,
    /// Not taken by the connection yet.
    unsent: AtomicUsize,
}

impl Room {
    /// Refuses a part when what waits would take more memory than the largest message may.
    fn check(&self, cost: usize, limit: usize) -> Result<()> {
        let limit = limit.max(MIN_ROOM);
        let waiting = self.queued.load(Ordering::Relaxed).saturating_add(self.unsent.load(Ordering::Relaxed));
        // Whatever its size, the first one finds room.
        if waiting > 0 && waiting.saturating_add(cost) > limit {
            return Err(Error::new(
                ErrorKind::QueueFull,
                format!("{waiting} bytes of parts wait for the broker to take them; {limit} may wait"),
            ));
        }
        Ok(())
    }

    fn enter(&self, answer: &Answer) {
        self.queued.fetch_add(answer_cost(answer), Ordering::Relaxed);
    }

    /// The I/O thread has taken the answer.
    pub(super) fn arrive(&self, answer: &Answer) {
        self.queued.fetch_sub(answer_cost(answer), Ordering::Relaxed);
    }

    pub(super) fn set_unsent(&self, cost: usize) {
        self.unsent.store(cost, Ordering::Relaxed);
    }
}

fn answer_cost(answer: &Answer) -> usize {
    match answer {
        Answer::Partial(body) | Answer::Final(body) => cost(body),
        Answer::Failure(_) | Answer::Cancelled => FRAME_COST,
    }
}

fn cost(body: &Message) -> usize {
    body.byte_len() + (body.len() + 1) * FRAME_COST
}
