//! `mdreq_t`: a request that a worker has in hand, and the only way to answer it.

use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;

use majordomo::{Request, Result, ServiceError};

use crate::arguments::{c_string, place, text};
use crate::guard::{guard, guard_on};
use crate::message::{self, mdmsg_t};
use crate::registry::{self, Handle};

/// A request in hand of a mdwrk_async_t. Threads: any, also another than the one that received it; it may outlive its
/// worker. A request received before a fork is MD_ECLOSED in the child.
pub struct mdreq_t {
    _opaque: [u8; 0],
}

pub(crate) struct InHand {
    request: Request,
    /// The service's name for C, once it has asked for it.
    service: OnceLock<CString>,
}

impl Handle for InHand {
    type Opaque = mdreq_t;
    const TAG: usize = 6;
}

/// A new handle of `request`.
pub(crate) fn give(request: Request) -> *mut mdreq_t {
    registry::insert(InHand { request, service: OnceLock::new() })
}

/// Destroys *self_p and sets it to NULL. A request without an answer fails for its client. Ownership: takes *self_p. Does
/// nothing if *self_p is NULL already; NULL for self_p itself sets md_errno to MD_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdreq_destroy(self_p: *mut *mut mdreq_t) {
    guard(|| {
        // SAFETY: a place for a handle or NULL, as the header demands.
        let this = std::mem::replace(unsafe { place(self_p, "self_p") }?, std::ptr::null_mut());
        if !this.is_null() {
            registry::remove::<InHand>(this)?;
        }
        Ok(())
    });
}

/// Result: the request's body as a message of its own, or NULL on failure (NULL is MD_EINVAL). The bytes are shared, not
/// copied. Ownership: the caller's; it may outlive the request.
#[unsafe(no_mangle)]
pub extern "C" fn mdreq_body(this: *mut mdreq_t) -> *mut mdmsg_t {
    guard_on(this, |in_hand: &InHand| Ok(message::give(in_hand.request.body().clone())))
}

/// Result: the name of the service that was asked for, or NULL on failure (NULL is MD_EINVAL). Ownership: the request's,
/// valid until mdreq_destroy.
#[unsafe(no_mangle)]
pub extern "C" fn mdreq_service(this: *mut mdreq_t) -> *const c_char {
    guard_on(this, |in_hand: &InHand| Ok(in_hand.service.get_or_init(|| c_string(in_hand.request.service())).as_ptr()))
}

/// Answers with *reply_p. Result: 0, also when the connection was lost meanwhile and another worker has the request; -1 on
/// failure: MD_EINVAL if it is answered already, and for NULL; MD_ETOOLARGE over the limit (it can still be answered, by
/// mdreq_fail for example). Ownership: takes *reply_p and sets it to NULL, whether the call succeeds or not (only a message
/// or a request that cannot be used at all, NULL included, is MD_EINVAL or MD_EBUSY and left alone). The request is still
/// to be destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdreq_reply(this: *mut mdreq_t, reply_p: *mut *mut mdmsg_t) -> c_int {
    guard_on(this, |in_hand: &InHand| {
        // SAFETY: a place for a message or NULL, as the header demands.
        let reply = unsafe { message::take(reply_p, "reply_p") }?;
        answered(in_hand.request.reply(reply))
    })
}

/// Sends *part_p as a part of the answer; mdreq_reply ends it. Where the protocol knows no parts (0.1), they are joined
/// with the reply. Result, ownership: as mdreq_reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdreq_partial(this: *mut mdreq_t, part_p: *mut *mut mdmsg_t) -> c_int {
    guard_on(this, |in_hand: &InHand| {
        // SAFETY: a place for a message or NULL, as the header demands.
        let part = unsafe { message::take(part_p, "part_p") }?;
        answered(in_hand.request.partial(part))
    })
}

/// Answers with a failure: the client gets MD_ESERVICE with this code and text. Result: as mdreq_reply. Ownership: the
/// text stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdreq_fail(this: *mut mdreq_t, code: u32, reason: *const c_char) -> c_int {
    guard_on(this, |in_hand: &InHand| {
        // SAFETY: a string or NULL, as the header demands.
        let reason = unsafe { text(reason, "reason") }?;
        answered(in_hand.request.fail(code, reason))
    })
}

/// As mdreq_fail, with a failure that another attempt may not have: another worker gets the request while it has
/// attempts left, MDPX only. Result, ownership: as mdreq_fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdreq_fail_retryable(this: *mut mdreq_t, code: u32, reason: *const c_char) -> c_int {
    guard_on(this, |in_hand: &InHand| {
        // SAFETY: a string or NULL, as the header demands.
        let reason = unsafe { text(reason, "reason") }?;
        answered(in_hand.request.fail_with(failure(code, reason).retryable(true)))
    })
}

/// Which attempt at the request this is, from 1; 1 where the protocol does not say (0.1 and 0.2). Result: the number,
/// or -1 on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdreq_attempt(this: *mut mdreq_t) -> c_int {
    guard_on(this, |in_hand: &InHand| Ok(in_hand.request.attempt().cast_signed()))
}

/// How long the client still waits. Result: milliseconds, rounded up, 0 when its time is over; -1 where it has set no
/// limit or the protocol does not say (0.1 and 0.2), and on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdreq_remaining(this: *mut mdreq_t) -> i64 {
    guard_on(this, |in_hand: &InHand| Ok(remaining(&in_hand.request)))
}

/// Whether nobody waits for the answer any more: the client has given the request up or has run out of time, or the
/// connection that it came by is lost. It is still to be answered; the answer is dropped. MDPX only. Result: 1 yes, 0
/// no, -1 on failure (NULL is MD_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn mdreq_cancelled(this: *mut mdreq_t) -> c_int {
    guard_on(this, |in_hand: &InHand| Ok(c_int::from(in_hand.request.is_cancelled())))
}

/// A service's failure as C gives it.
pub(crate) fn failure(code: u32, reason: &str) -> ServiceError {
    ServiceError::new(code, reason)
}

/// What is left of a request's time in milliseconds; -1 where it has no end.
pub(crate) fn remaining(request: &Request) -> i64 {
    let left = request.remaining().map(|left| left.as_nanos().div_ceil(1_000_000));
    left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX))
}

fn answered(result: Result<()>) -> Result<c_int> {
    result.map(|()| 0)
}
