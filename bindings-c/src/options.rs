//! `mdopt_t`: what a request does differently from its client.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use majordomo::{RequestOptions, Result};

use crate::arguments::{count, milliseconds, optional_milliseconds, place};
use crate::guard::{guard, guard_on};
use crate::registry::{self, Handle};

/// Options of requests, for the functions ..._with: what is set here counts for these requests in place of their client's
/// option, what is not set is the client's. Threads: any number may use them at once. Options made before a fork are
/// MD_ECLOSED in the child.
pub struct mdopt_t {
    _opaque: [u8; 0],
}

#[derive(Default)]
pub(crate) struct Options(Mutex<Chosen>);

/// What is set, and to what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Chosen {
    timeout: Option<Duration>,
    retries: Option<u32>,
    /// `Some(None)` is one without a value: C's 0.
    deadline: Option<Option<Duration>>,
    /// The same.
    max_attempts: Option<Option<u32>>,
    fail_fast: Option<bool>,
}

impl Handle for Options {
    type Opaque = mdopt_t;
    const TAG: usize = 8;
}

/// Makes options of requests, none of them set. Result: the options, or NULL on failure. Ownership: the caller's, until
/// mdopt_destroy. They may serve any number of requests of any clients.
#[unsafe(no_mangle)]
pub extern "C" fn mdopt_new() -> *mut mdopt_t {
    guard(|| Ok(registry::insert(Options::default())))
}

/// Destroys *self_p and sets it to NULL; requests that were sent with them go on as they are. Ownership: takes *self_p.
/// Does nothing if *self_p is NULL already; NULL for self_p itself sets md_errno to MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdopt_destroy(self_p: *mut *mut mdopt_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if !this.is_null() {
            registry::remove::<Options>(this)?;
        }
        Ok(())
    });
}

/// Sets how long one attempt may take, in milliseconds: at least 1. Result: 0, or -1 on failure (NULL and other values
/// are MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdopt_set_timeout(this: *mut mdopt_t, timeout_ms: c_int) -> c_int {
    guard_on(this, |options: &Options| {
        let timeout = milliseconds(timeout_ms, "timeout")?;
        options.choose(|chosen| chosen.timeout = Some(timeout))
    })
}

/// Sets how often the request is sent at most, the first time included: at least 1. Result: 0, or -1 on failure (NULL and
/// other values are MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdopt_set_retries(this: *mut mdopt_t, retries: c_int) -> c_int {
    guard_on(this, |options: &Options| {
        let retries = count(retries, "retries")?;
        options.choose(|chosen| chosen.retries = Some(retries))
    })
}

/// Sets how long the whole request may take, in milliseconds; 0 is timeout times retries. Result: 0, or -1 on failure
/// (NULL and other values are MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdopt_set_deadline(this: *mut mdopt_t, deadline_ms: c_int) -> c_int {
    guard_on(this, |options: &Options| {
        let deadline = optional_milliseconds(deadline_ms, "deadline")?;
        options.choose(|chosen| chosen.deadline = Some(deadline))
    })
}

/// Sets how often the request is handed to a worker at most: 1 to 65535; 0 leaves it to the broker. A request of one
/// attempt never runs twice: where it may have run, it fails with MD_EWORKERLOST. Result: 0, or -1 on failure (NULL and
/// other values are MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdopt_set_max_attempts(this: *mut mdopt_t, attempts: c_int) -> c_int {
    guard_on(this, |options: &Options| {
        let attempts = count(attempts, "max_attempts")?;
        options.choose(|chosen| chosen.max_attempts = Some((attempts > 0).then_some(attempts)))
    })
}

/// Sets whether the request fails with MD_ENOWORKER at once where its service has no worker: 1 yes; 0 no: it waits for
/// one. MDPX only. Result: 0, or -1 on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdopt_set_fail_fast(this: *mut mdopt_t, fail_fast: c_int) -> c_int {
    guard_on(this, |options: &Options| options.choose(|chosen| chosen.fail_fast = Some(fail_fast != 0)))
}

/// What the options of a request choose; NULL chooses nothing.
pub(crate) fn chosen(options: *mut mdopt_t) -> Result<Chosen> {
    if options.is_null() { Ok(Chosen::default()) } else { Ok(*registry::get::<Options>(options)?.locked()) }
}

impl Options {
    /// Never held while anything is waited for: nobody is told that it is busy.
    fn locked(&self) -> MutexGuard<'_, Chosen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, change: impl FnOnce(&mut Chosen)) -> Result<c_int> {
        let mut chosen = self.locked();
        let mut changed = *chosen;
        change(&mut changed);
        changed.over(RequestOptions::default()).validate()?;
        *chosen = changed;
        Ok(0)
    }
}

impl Chosen {
    /// The options of a request of a client that has these.
    pub(crate) fn over(self, client: RequestOptions) -> RequestOptions {
        RequestOptions {
            timeout: self.timeout.or(client.timeout),
            retries: self.retries.or(client.retries),
            deadline: self.deadline.unwrap_or(client.deadline),
            max_attempts: self.max_attempts.unwrap_or(client.max_attempts),
            fail_fast: self.fail_fast.unwrap_or(client.fail_fast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: RequestOptions = RequestOptions {
        timeout: Some(Duration::from_millis(100)),
        retries: Some(5),
        deadline: Some(Duration::from_millis(400)),
        max_attempts: Some(7),
        fail_fast: true,
    };

    #[test]
    fn what_is_not_set_is_the_clients() {
        assert_eq!(Chosen::default().over(CLIENT), CLIENT);
        assert_eq!(chosen(std::ptr::null_mut()).unwrap().over(CLIENT), CLIENT);
    }

    #[test]
    fn what_is_set_counts_in_place_of_the_clients_and_nothing_else_does() {
        let mut options = mdopt_new();
        assert_eq!(mdopt_set_max_attempts(options, 1), 0);
        let mut wanted = RequestOptions { max_attempts: Some(1), ..CLIENT };
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        assert_eq!(mdopt_set_timeout(options, 20), 0);
        wanted.timeout = Some(Duration::from_millis(20));
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        assert_eq!(mdopt_set_retries(options, 2), 0);
        wanted.retries = Some(2);
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        assert_eq!(mdopt_set_deadline(options, 30), 0);
        wanted.deadline = Some(Duration::from_millis(30));
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        assert_eq!(mdopt_set_fail_fast(options, 0), 0);
        wanted.fail_fast = false;
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        // SAFETY: the place of a handle.
        unsafe { mdopt_destroy(&mut options) };
    }

    #[test]
    fn what_a_client_limits_a_request_can_leave_open_again() {
        let mut options = mdopt_new();
        assert_eq!((mdopt_set_deadline(options, 0), mdopt_set_max_attempts(options, 0)), (0, 0));
        let wanted = RequestOptions { deadline: None, max_attempts: None, ..CLIENT };
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        // SAFETY: the place of a handle.
        unsafe { mdopt_destroy(&mut options) };
    }

    #[test]
    fn a_value_that_cannot_be_leaves_the_options_as_they_were() {
        let mut options = mdopt_new();
        assert_eq!(mdopt_set_max_attempts(options, 3), 0);
        for failed in [
            mdopt_set_timeout(options, 0),
            mdopt_set_timeout(options, -1),
            mdopt_set_retries(options, 0),
            mdopt_set_retries(options, -1),
            mdopt_set_deadline(options, -1),
            mdopt_set_max_attempts(options, -1),
            mdopt_set_max_attempts(options, 65_536),
        ] {
            assert_eq!(failed, -1);
            assert_eq!(crate::error::md_errno(), c_int::from(majordomo::ErrorKind::InvalidArgument.number()));
        }
        let wanted = RequestOptions { max_attempts: Some(3), ..CLIENT };
        assert_eq!(chosen(options).unwrap().over(CLIENT), wanted);
        // SAFETY: the place of a handle.
        unsafe { mdopt_destroy(&mut options) };
    }
}
