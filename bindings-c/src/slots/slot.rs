//! One slot: its word, its object, and the tokens that lead to it.
//!
//! `tests/slot.rs` has this file run in every order that its steps can have: what comes from `super` here is of the standard
//! library in the one, of loom in the other.

use std::cell::UnsafeCell;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use super::{AtomicU64, Object, PLACE_BITS, TAG_BITS, give_back};

/// In the word of a slot: above these the handle's key, which are the highest and the lowest bits of its token.
const KEY_SHIFT: u32 = u64::BITS - USE_BITS - TAG_BITS;
const USE_BITS: u32 = 32;
/// One use of a slot, in its word and in a token.
const USE: u64 = 1 << (u64::BITS - USE_BITS);
/// The handle is in use: it can be entered.
const LIVE: u64 = 1 << (KEY_SHIFT - 1);
/// The handle ends when nobody is in it any more.
const ENDING: u64 = 1 << (KEY_SHIFT - 2);
/// How many calls are in it, or have entered it by mistake and are about to leave.
const CALLS: u64 = ENDING - 1;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
/// All that is between them in a token, so that no bit of it is ignored: most places of this width do not exist.
const PLACE_MASK: u64 = (USE >> TAG_BITS) - 1;
const _: () = assert!(TAG_BITS + PLACE_BITS <= u64::BITS - USE_BITS, "a token has no room for its use");

/// A cache line of its own: threads that use different handles do not meet.
#[repr(align(64))]
pub(super) struct Slot {
    word: AtomicU64,
    /// Its place in the table.
    at: usize,
    object: UnsafeCell<Option<Object>>,
}

// SAFETY: the object is shared by those who have entered the slot while it was LIVE, and is `Sync`. It is put in by who has
// taken the slot out of a list of free ones, and taken out by who has cleared ENDING when nobody was in.
unsafe impl Sync for Slot {}

/// A call that is in a handle: the object stays as long.
pub(crate) struct Entered {
    slot: &'static Slot,
}

impl Slot {
    pub(super) fn new(at: usize) -> Self {
        Slot { word: AtomicU64::new(0), at, object: UnsafeCell::new(None) }
    }

    /// A token for the object, which this slot holds.
    ///
    /// # Safety
    /// Whoever calls this has taken the slot out of a list of free ones.
    pub(super) unsafe fn fill(&self, tag: usize, object: Object) -> usize {
        // SAFETY: the slot was free: it has no object, and nobody looks for one before it is LIVE.
        unsafe { *self.object.get() = Some(object) };
        let tag = tag as u64 & TAG_MASK;
        // Added, because somebody may be in by mistake.
        let before = self.word.fetch_add(USE | (tag << KEY_SHIFT) | LIVE, Ordering::Release);
        let used = (before & !(USE - 1)) + USE;
        (used | ((self.at as u64) << TAG_BITS) | tag) as usize
    }

    /// Enters the handle of this token, whose place is this; `None` where there is none, or none any more.
    #[inline]
    pub(super) fn enter(&'static self, token: usize) -> Option<Entered> {
        // Counted first: from here on what is LIVE stays.
        let before = self.word.fetch_add(1, Ordering::Acquire);
        let entered = Entered { slot: self };
        is_of(before, token).then_some(entered)
    }

    /// Enters the handle of this token for the last time: nobody else can from now on.
    pub(super) fn retire(&'static self, token: usize) -> Option<Entered> {
        let last = |word: u64| is_of(word, token).then_some((word ^ LIVE ^ ENDING) + 1);
        self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, last).ok()?;
        Some(Entered { slot: self })
    }

    /// Whether this is the token of its handle, in use.
    pub(super) fn has(&self, token: usize) -> bool {
        is_of(self.word.load(Ordering::Relaxed), token)
    }

    /// Whether it has a handle in use.
    pub(super) fn is_live(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LIVE != 0
    }
}

impl Deref for Entered {
    type Target = Object;

    #[inline]
    fn deref(&self) -> &Object {
        // SAFETY: entered while it was LIVE, so the object is there until this call has left.
        match unsafe { &*self.slot.object.get() } {
            Some(object) => object,
            None => no_object(),
        }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        // Released, so that who ends the handle sees all that was done in it.
        let before = self.slot.word.fetch_sub(1, Ordering::Release);
        if before & (ENDING | CALLS) == ENDING | 1 {
            self.end(before - 1);
        }
    }
}

impl Entered {
    /// Nobody was in the handle, and nobody will be: ends it, unless another has come by mistake, who does it then.
    #[cold]
    fn end(&self, word: u64) {
        let empty = word & !(USE - 1);
        if self.slot.word.compare_exchange(word, empty, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        // SAFETY: of all that have found ENDING and nobody in, the exchange has let one pass, and nobody can enter.
        let object = unsafe { (*self.slot.object.get()).take() };
        // A slot whose uses are used up stays empty.
        if empty < !(USE - 1) {
            give_back(self.slot.at);
        }
        drop(object);
    }
}

/// The place that a token names.
pub(super) fn place_of(token: usize) -> usize {
    ((token as u64 >> TAG_BITS) & PLACE_MASK) as usize
}

/// Whether a slot with this word has the handle of this token, in use.
#[inline]
fn is_of(word: u64, token: usize) -> bool {
    let token = token as u64;
    // All of it but the place, at which the slot was found.
    let key = (token & !(USE - 1)) | ((token & TAG_MASK) << KEY_SHIFT);
    word & !CALLS == key | LIVE
}

#[cold]
#[expect(clippy::panic, reason = "cannot be; the guard makes an error of it")]
fn no_object() -> ! {
    panic!("a handle in use has no object")
}
