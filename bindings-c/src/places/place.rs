//! One place: its word, its message, and the tokens that lead to it.
//!
//! `tests/place.rs` has this file run in every order that its steps can have: what comes from `super` here is of the standard
//! library in the one, of loom in the other.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

use super::{AtomicUsize, Body, PLACE_BITS, TAG_BITS, give_back};

/// In the word of a place while a call is in it. No tag has this bit.
const BUSY: usize = 1 << (TAG_BITS - 1);
const TAG_MASK: usize = (1 << TAG_BITS) - 1;
/// One use of a place, in its word.
const USE: usize = 1 << (PLACE_BITS + TAG_BITS);

/// One cache line.
#[repr(align(64))]
pub(super) struct Place {
    /// The token of its message, with [`BUSY`] during a call; without a message the last token without its tag.
    word: AtomicUsize,
    body: UnsafeCell<Body>,
}

// SAFETY: the body belongs to the thread that has put BUSY into the word, or has taken the empty place out of a stock.
unsafe impl Sync for Place {}

/// A message that a call has to itself.
pub(crate) struct Held {
    place: &'static Place,
    /// What the place's word is after the call: the token, without its tag once the message is taken.
    token: usize,
}

/// Why a call does not get a message.
pub(super) enum Refusal {
    /// Another call has it.
    Busy,
    /// It is gone.
    Gone,
}

impl Place {
    pub(super) fn new(at: usize) -> Self {
        Place { word: AtomicUsize::new(at << TAG_BITS), body: UnsafeCell::default() }
    }

    /// A token for the message, with this tag.
    ///
    /// # Safety
    /// Whoever calls this has taken the place out of a stock.
    #[inline]
    pub(super) unsafe fn fill(&self, tag: usize, body: Body) -> usize {
        // SAFETY: nobody else uses the place, no token leads to it, and what is in it holds nothing.
        unsafe { self.body.get().write(body) };
        let token = (self.word.load(Ordering::Relaxed) + USE) | tag;
        self.word.store(token, Ordering::Release);
        token
    }

    /// The message of this token, whose place is this, for one call.
    #[inline]
    pub(super) fn hold(&'static self, token: usize) -> Result<Held, Refusal> {
        match self.word.compare_exchange(token, token | BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Held { place: self, token }),
            Err(word) if word == token | BUSY => Err(Refusal::Busy),
            Err(_) => Err(Refusal::Gone),
        }
    }

    /// Whether this is the token of its message.
    pub(super) fn has(&self, token: usize) -> bool {
        self.word.load(Ordering::Relaxed) & !BUSY == token
    }

    /// Whether it has a message.
    pub(super) fn is_live(&self) -> bool {
        self.word.load(Ordering::Relaxed) & TAG_MASK != 0
    }
}

impl Held {
    /// Takes the message out of its place. With the end of this call the handle is gone.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Body {
        self.token &= !TAG_MASK;
        std::mem::take(&mut **self)
    }
}

impl Deref for Held {
    type Target = Body;

    #[inline]
    fn deref(&self) -> &Body {
        // SAFETY: this call has put BUSY into the word.
        unsafe { &*self.place.body.get() }
    }
}

impl DerefMut for Held {
    #[inline]
    fn deref_mut(&mut self) -> &mut Body {
        // SAFETY: this call has put BUSY into the word, and `self` is borrowed alone.
        unsafe { &mut *self.place.body.get() }
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        self.place.word.store(self.token, Ordering::Release);
        // A place whose numbers are used up stays empty.
        if self.token & TAG_MASK == 0 && self.token < usize::MAX - USE {
            give_back(self.place);
        }
    }
}

/// The place that a token names.
#[inline]
pub(super) fn place_of(token: usize) -> usize {
    (token >> TAG_BITS) & ((1 << PLACE_BITS) - 1)
}
