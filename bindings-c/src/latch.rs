//! What one thread works with and another may have to end: a client or a worker, once it is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Holds a live object where a thread finds it that is not in the call. Shut, it takes no other.
pub(crate) struct Latch<T>(Mutex<Held<T>>);

struct Held<T> {
    object: Option<Arc<T>>,
    shut: bool,
}

impl<T> Latch<T> {
    pub(crate) const fn new() -> Self {
        Latch(Mutex::new(Held { object: None, shut: false }))
    }

    /// Holds `object` from now on; `false` if the latch is shut, and the object has no future.
    pub(crate) fn hold(&self, object: &Arc<T>) -> bool {
        let mut held = self.lock();
        if !held.shut {
            held.object = Some(Arc::clone(object));
        }
        !held.shut
    }

    /// Lets go of the object, for another one to come.
    pub(crate) fn release(&self) -> Option<Arc<T>> {
        self.lock().object.take()
    }

    /// Takes no other object from now on. Gives the one that is there, for the caller to end it.
    pub(crate) fn shut(&self) -> Option<Arc<T>> {
        let mut held = self.lock();
        held.shut = true;
        held.object.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
