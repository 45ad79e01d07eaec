//! What callers are to be told once no lock is held: events of the connection, and cancellations.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::event::{ConnectionEvent, EventHook};

use super::cancel::CancelToken;

pub(super) enum Notice {
    Event(ConnectionEvent),
    Cancelled(CancelToken),
}

pub(super) struct Notices {
    hook: Option<EventHook>,
    waiting: AtomicBool,
    queue: Mutex<VecDeque<Notice>>,
    /// Held by the thread that tells, so that events are told in order.
    telling: Mutex<()>,
}

impl Notices {
    pub(super) fn new(hook: Option<EventHook>) -> Notices {
        Notices { hook, waiting: AtomicBool::new(false), queue: Mutex::default(), telling: Mutex::new(()) }
    }

    pub(super) fn event(&self, event: ConnectionEvent) {
        if self.hook.is_some() {
            self.push(Notice::Event(event));
        }
    }

    pub(super) fn cancelled(&self, token: CancelToken) {
        self.push(Notice::Cancelled(token));
    }

    /// Whether something waits to be told.
    pub(super) fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Tells what waits, unless another thread is just doing that; whether anything was told. The caller holds no lock.
    pub(super) fn tell(&self) -> bool {
        if !self.are_waiting() {
            return false;
        }
        let _telling = match self.telling.try_lock() {
            Ok(telling) => telling,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        while let Some(notice) = self.pop() {
            match (notice, &self.hook) {
                (Notice::Event(event), Some(hook)) => hook.call(&event),
                (Notice::Event(_), None) => {}
                (Notice::Cancelled(token), _) => token.cancel(),
            }
        }
        true
    }

    fn push(&self, notice: Notice) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(notice);
        self.waiting.store(true, Ordering::Release);
    }

    fn pop(&self) -> Option<Notice> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let notice = queue.pop_front();
        self.waiting.store(!queue.is_empty(), Ordering::Release);
        notice
    }
}
