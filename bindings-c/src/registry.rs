//! Handles: what C holds is a token, never an address, so any value it passes can be checked before it is used.
//!
//! A token names a place in a table and the how-manieth handle that the place has had, with the type in its low bits. So it
//! is never given twice, and a NULL, a stale copy of a destroyed handle, a handle of another type and a stray pointer are
//! told apart; none of them is dereferenced. The table is that of [`slots`]; messages have [`places`] of their own.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_int;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, TryLockError};

use majordomo::{Error, ErrorKind, Result};

use crate::message::Body;
use crate::places::{self, Common};
use crate::slots::{self, Entered, Free, Object};

/// The type names by tag; a tag is an index into this.
const NAMES: [&str; 9] =
    ["", "mdmsg_t", "mdcli_t", "mdcli_async_t", "mdwrk_t", "mdwrk_async_t", "mdreq_t", "mdbrk_t", "mdopt_t"];
pub(crate) const TAG_BITS: u32 = 4;
/// Of a place in its table; what is above them counts the place's handles.
pub(crate) const PLACE_BITS: u32 = 24;
const _: () = assert!(usize::BITS == 64, "a token has no room for what it counts");

/// Something that C holds a handle of.
pub(crate) trait Handle: Any + Send + Sync {
    /// The type that the header names.
    type Opaque;
    /// Index of the type's name in [`NAMES`].
    const TAG: usize;

    /// Notes how the last call ended.
    fn set_errno(&self, _number: c_int) {}
}

/// The object of a handle, for one call.
pub(crate) struct Held<H> {
    /// Within what has been entered.
    object: NonNull<H>,
    _entered: Entered,
}

/// How often this process is a child of the one that loaded the library: 0, or more after `fork`.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Gives out a handle of `object`.
pub(crate) fn insert<H: Handle>(object: H) -> *mut H::Opaque {
    notice_forks();
    let object = Object { handle: Box::new(object), forks: FORKS.load(Ordering::Relaxed) };
    std::ptr::without_provenance_mut(slots::insert(H::TAG, object))
}

/// The object of a handle.
#[inline(always)]
pub(crate) fn get<H: Handle>(handle: *mut H::Opaque) -> Result<Held<H>> {
    let token = check::<H>(handle)?;
    let entered = slots::enter(token).ok_or_else(destroyed::<H>)?;
    if is_foreign(&entered) { Err(foreign::<H>()) } else { Held::new(entered) }
}

/// Takes a handle out of use; the object lives on while another thread works with it. `None` for one from before a fork:
/// its threads are not in this process, so there is nothing to end.
pub(crate) fn remove<H: Handle>(handle: *mut H::Opaque) -> Result<Option<Held<H>>> {
    let token = check::<H>(handle)?;
    let entered = slots::retire(token).ok_or_else(destroyed::<H>)?;
    if is_foreign(&entered) { Ok(None) } else { Held::new(entered).map(Some) }
}

impl<H: Handle> Held<H> {
    #[inline]
    fn new(entered: Entered) -> Result<Self> {
        let object = entered.handle.downcast_ref::<H>().map(NonNull::from);
        let object = object.ok_or_else(mistyped::<H>)?;
        Ok(Held { object, _entered: entered })
    }
}

impl<H> Deref for Held<H> {
    type Target = H;

    #[inline]
    fn deref(&self) -> &H {
        // SAFETY: it points into the box of the object, which stays while the handle is entered.
        unsafe { self.object.as_ref() }
    }
}

/// Whether it is from before a fork: what has sockets does not work in a child process.
#[inline]
fn is_foreign(object: &Object) -> bool {
    object.forks != FORKS.load(Ordering::Relaxed)
}

/// How many handles have been given out and not destroyed.
pub(crate) fn live() -> usize {
    slots::live() + places::live()
}

/// Locks what belongs to a handle for one call; `Busy` where another thread has it.
#[inline]
pub(crate) fn exclusive<'a, H: Handle, T>(state: &'a Mutex<T>) -> Result<MutexGuard<'a, T>> {
    state.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => busy::<H>(),
        TryLockError::Poisoned(_) => broken::<H>(),
    })
}

/// The C name of a handle's type.
pub(crate) fn name<H: Handle>() -> &'static str {
    NAMES[H::TAG]
}

/// The token in place of which C has a handle, if it is of the right type.
#[inline]
pub(crate) fn check<H: Handle>(handle: *mut H::Opaque) -> Result<usize> {
    let token = handle.addr();
    if token & ((1 << TAG_BITS) - 1) == H::TAG { Ok(token) } else { Err(mistaken(token, name::<H>())) }
}

#[cold]
fn mistaken(token: usize, wanted: &str) -> Error {
    let tag = token & ((1 << TAG_BITS) - 1);
    let is_live = || if tag == Body::TAG { places::has(token) } else { slots::has(token) };
    let given = match NAMES.get(tag).filter(|_| is_live()) {
        Some(name) => name,
        None if token == 0 => "NULL",
        None => "something that is no handle",
    };
    invalid(format!("{given} was given in place of a {wanted} *"))
}

#[cold]
pub(crate) fn busy<H: Handle>() -> Error {
    Error::new(ErrorKind::Busy, format!("this {} is in use by another thread", name::<H>()))
}

#[cold]
fn broken<H: Handle>() -> Error {
    let context = format!("an earlier call on this {} failed inside the library; destroy it", name::<H>());
    Error::new(ErrorKind::Internal, context)
}

#[cold]
pub(crate) fn destroyed<H: Handle>() -> Error {
    Error::new(ErrorKind::Closed, format!("this {} has been destroyed, or never existed", name::<H>()))
}

#[cold]
fn foreign<H: Handle>() -> Error {
    Error::new(ErrorKind::Closed, format!("this {} was made before a fork; make a new one", name::<H>()))
}

#[cold]
fn mistyped<H: Handle>() -> Error {
    Error::new(ErrorKind::Internal, format!("a {} is of another type", name::<H>()))
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, context)
}

type Tables = (Vec<MutexGuard<'static, Free>>, MutexGuard<'static, Common>);

thread_local! {
    /// All tables, held across a fork by the thread that forks, so that no other thread's lock is copied into the child.
    static HELD: RefCell<Option<Tables>> = const { RefCell::new(None) };
}

/// Has forks noticed from now on.
pub(crate) fn notice_forks() {
    static HOOKS: Once = Once::new();
    HOOKS.call_once(watch_forks);
}

fn watch_forks() {
    extern "C" fn prepare() {
        let held = (slots::lists(), places::common());
        let _ = HELD.try_with(|cell| cell.replace(Some(held)));
    }
    extern "C" fn parent() {
        let _ = HELD.try_with(|cell| cell.take());
    }
    extern "C" fn child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
        let _ = HELD.try_with(|cell| cell.take());
    }
    // SAFETY: the three functions are static, do not unwind, and only lock and unlock.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}
