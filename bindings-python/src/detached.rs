//! Handles of the core are dropped without the GIL.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::Python;

/// Owns a handle of the core that Python's garbage collector may drop at any moment.
///
/// Dropping a handle may take its lock, and a thread that holds the lock may be waiting for the GIL to look for
/// signals: dropped under the GIL, the two would wait for each other.
pub(crate) struct Detached<T: Send>(ManuallyDrop<T>);

impl<T: Send> Detached<T> {
    pub(crate) fn new(handle: T) -> Self {
        Detached(ManuallyDrop::new(handle))
    }
}

impl<T: Send> Deref for Detached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send> DerefMut for Detached<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Send> Drop for Detached<T> {
    fn drop(&mut self) {
        // SAFETY: `self` is being dropped, so nobody can reach the emptied field again.
        let handle = unsafe { ManuallyDrop::take(&mut self.0) };
        let mut handle = Some(handle);
        // A panic in a destructor would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            // `None` while the interpreter shuts down: then no other thread can get the GIL anyway.
            let _ = Python::try_attach(|py| py.detach(|| drop(handle.take())));
            drop(handle.take());
        }));
    }
}
