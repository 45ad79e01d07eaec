//! Threads of our own.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, ErrorKind, Result};

/// Starts a thread that signals leave alone: they belong to the program's own threads, whose calls they interrupt.
///
/// # Errors
/// `Internal` where the operating system gives no thread.
pub(crate) fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    // The mask is inherited, so it is set here for the moment of the start: no signal can slip in before it.
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut old = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` fills the set before it is used; `pthread_sigmask` fills `old`.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
    }
    let result = Builder::new().name(name.to_owned()).spawn(body);
    // SAFETY: `old` is what the call above stored.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
    result.map_err(|error| Error::new(ErrorKind::Internal, format!("no thread could be started: {error}")))
}

/// A number that differs from process to process and from call to call.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
