//! Where handles other than messages are: slots that never move, each found by its token and entered without a lock.
//!
//! A slot's one word tells which handle it has, whether that is in use, and how many calls are in it. Who enters counts
//! itself first and then looks whether the handle is the one that was meant; so a handle that is taken out of use ends when
//! the last call has left it, and a token that is stale or made up finds another word and changes nothing.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::registry::{PLACE_BITS, TAG_BITS};

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
/// Slots are made so many at a time.
const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_COUNT: usize = 1 << (PLACE_BITS - CHUNK_BITS);
/// Free slots are in so many lists, so that threads seldom meet there.
const LISTS: usize = 16;
const _: () = assert!(TAG_BITS + PLACE_BITS <= u64::BITS - USE_BITS, "a token has no room for its use");

/// What a handle stands for.
pub(crate) struct Object {
    pub(crate) handle: Box<dyn Any + Send + Sync>,
    /// How often the process had forked when the handle was made.
    pub(crate) forks: usize,
}

/// A cache line of its own: threads that use different handles do not meet.
#[repr(align(64))]
struct Slot {
    word: AtomicU64,
    object: UnsafeCell<Option<Object>>,
}

// SAFETY: the object is shared by those who have entered the slot while it was LIVE, and is `Sync`. It is put in by who has
// taken the slot out of a list of free ones, and taken out by who has cleared ENDING when nobody was in.
unsafe impl Sync for Slot {}

static CHUNKS: [OnceLock<Box<[Slot]>>; CHUNK_COUNT] = [const { OnceLock::new() }; CHUNK_COUNT];

/// Slots without a handle.
pub(crate) struct Free {
    slots: Vec<usize>,
    /// How many slots of this list there are.
    made: usize,
}

static FREE: [Mutex<Free>; LISTS] = [const { Mutex::new(Free { slots: Vec::new(), made: 0 }) }; LISTS];
/// Spreads handles over the lists.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A call that is in a handle: the object stays as long.
pub(crate) struct Entered {
    slot: &'static Slot,
    at: usize,
}

/// A token for the object.
pub(crate) fn insert(tag: usize, object: Object) -> usize {
    let list = NEXT.fetch_add(1, Ordering::Relaxed) % LISTS;
    let at = lock(list).take(list);
    let Some(slot) = find(at) else { out_of_slots() };
    // SAFETY: the slot was in a list of free ones: it has no object, and nobody looks for one before it is LIVE.
    unsafe { *slot.object.get() = Some(object) };
    let tag = tag as u64 & TAG_MASK;
    // Added, because somebody may be in by mistake.
    let before = slot.word.fetch_add(USE | (tag << KEY_SHIFT) | LIVE, Ordering::Release);
    let used = (before & !(USE - 1)) + USE;
    (used | ((at as u64) << TAG_BITS) | tag) as usize
}

/// Enters the handle of this token; `None` where there is none, or none any more.
#[inline]
pub(crate) fn enter(token: usize) -> Option<Entered> {
    let at = place_of(token);
    let slot = find(at)?;
    // Counted first: from here on what is LIVE stays.
    let before = slot.word.fetch_add(1, Ordering::Acquire);
    let entered = Entered { slot, at };
    (before & !CALLS == key(token) | LIVE).then_some(entered)
}

/// Enters the handle of this token for the last time: nobody else can from now on.
pub(crate) fn retire(token: usize) -> Option<Entered> {
    let at = place_of(token);
    let slot = find(at)?;
    let last = |word: u64| (word & !CALLS == key(token) | LIVE).then_some((word ^ LIVE ^ ENDING) + 1);
    slot.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, last).ok()?;
    Some(Entered { slot, at })
}

/// Whether this is the token of a handle in use.
pub(crate) fn has(token: usize) -> bool {
    let word = find(place_of(token)).map(|slot| slot.word.load(Ordering::Relaxed));
    word.is_some_and(|word| word & !CALLS == key(token) | LIVE)
}

/// How many handles are in use.
pub(crate) fn live() -> usize {
    let made = |list| (0..lock(list).made).map(move |count| place(list, count));
    let words = (0..LISTS).flat_map(made).filter_map(find).map(|slot| slot.word.load(Ordering::Relaxed));
    words.filter(|word| word & LIVE != 0).count()
}

/// All lists, locked.
pub(crate) fn lists() -> Vec<MutexGuard<'static, Free>> {
    (0..LISTS).map(lock).collect()
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
            lock(self.at % LISTS).slots.push(self.at);
        }
        drop(object);
    }
}

impl Free {
    fn take(&mut self, list: usize) -> usize {
        if let Some(at) = self.slots.pop() {
            return at;
        }
        let at = place(list, self.made);
        let Some(chunk) = CHUNKS.get(at >> CHUNK_BITS) else { out_of_slots() };
        let slot = || Slot { word: AtomicU64::new(0), object: UnsafeCell::new(None) };
        chunk.get_or_init(|| std::iter::repeat_with(slot).take(CHUNK).collect());
        self.made += 1;
        at
    }
}

fn lock(list: usize) -> MutexGuard<'static, Free> {
    // Nothing panics between two changes of it.
    FREE[list].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The how-manieth place of a list.
fn place(list: usize, count: usize) -> usize {
    count * LISTS + list
}

fn place_of(token: usize) -> usize {
    ((token as u64 >> TAG_BITS) & PLACE_MASK) as usize
}

/// What of a token is in the word of its slot: all but the place.
fn key(token: usize) -> u64 {
    let token = token as u64;
    (token & !(USE - 1)) | ((token & TAG_MASK) << KEY_SHIFT)
}

fn find(at: usize) -> Option<&'static Slot> {
    CHUNKS.get(at >> CHUNK_BITS)?.get()?.get(at & (CHUNK - 1))
}

#[cold]
#[expect(clippy::panic, reason = "16 million handles are out of memory; the guard makes an error of it")]
fn out_of_slots() -> ! {
    panic!("there are as many handles as tokens can name")
}

#[cold]
#[expect(clippy::panic, reason = "cannot be; the guard makes an error of it")]
fn no_object() -> ! {
    panic!("a handle in use has no object")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    const TAG: usize = 5;

    /// Says when it ends; twice would be once too often.
    struct Mortal {
        number: usize,
        ended: Arc<AtomicUsize>,
        gone: AtomicBool,
    }

    impl Drop for Mortal {
        fn drop(&mut self) {
            assert!(!self.gone.swap(true, Ordering::SeqCst));
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn give(number: usize, ended: &Arc<AtomicUsize>) -> usize {
        let handle = Box::new(Mortal { number, ended: Arc::clone(ended), gone: AtomicBool::new(false) });
        insert(TAG, Object { handle, forks: 0 })
    }

    fn number(entered: &Entered) -> usize {
        let mortal = entered.handle.downcast_ref::<Mortal>().unwrap();
        assert!(!mortal.gone.load(Ordering::SeqCst), "an object that has ended");
        mortal.number
    }

    #[test]
    fn a_handle_taken_out_of_use_ends_with_the_last_call_in_it() {
        let ended = Arc::default();
        let token = give(7, &ended);
        let (one, two) = (enter(token).unwrap(), enter(token).unwrap());
        drop(retire(token).unwrap());
        assert!(!has(token) && enter(token).is_none() && retire(token).is_none());
        drop(two);
        assert_eq!((number(&one), ended.load(Ordering::SeqCst)), (7, 0));
        drop(one);
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        assert!(enter(token).is_none() && retire(token).is_none());
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_token_with_any_bit_changed_is_none() {
        let ended = Arc::default();
        let token = give(1, &ended);
        for bit in 0..usize::BITS {
            // Another place may have a handle of another test; its token has another use, or is that handle's own.
            let other = token ^ (1 << bit);
            assert!(enter(other).is_none_or(|entered| entered.at != place_of(token)), "bit {bit}");
        }
        assert_eq!(number(&enter(token).unwrap()), 1);
        drop(retire(token).unwrap());
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn calls_of_many_threads_on_handles_that_come_and_go_meet_the_one_they_mean_or_none() {
        const ROUNDS: usize = 20_000;
        const SHARED: usize = 4;
        let ended = Arc::default();
        // Each holds the token of a handle whose number is the token's place in the order of making.
        let shared: [AtomicUsize; SHARED] = std::array::from_fn(|_| AtomicUsize::new(0));
        let numbers: [AtomicUsize; SHARED] = std::array::from_fn(|_| AtomicUsize::new(0));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut met = 0;
                        while !over.load(Ordering::Relaxed) {
                            for (token, expected) in shared.iter().zip(&numbers) {
                                let before = expected.load(Ordering::SeqCst);
                                let token = token.load(Ordering::SeqCst);
                                if let Some(entered) = enter(token) {
                                    let number = number(&entered);
                                    // The number is written after the token of the last one is out of use.
                                    assert!(number >= before, "{number} in place of {before}");
                                    met += 1;
                                }
                            }
                        }
                        met
                    })
                })
                .collect();
            for round in 0..ROUNDS {
                let which = round % SHARED;
                let old = shared[which].load(Ordering::SeqCst);
                if old != 0 {
                    let last = retire(old).unwrap();
                    assert!(retire(old).is_none() && !has(old));
                    drop(last);
                }
                numbers[which].store(round + 1, Ordering::SeqCst);
                shared[which].store(give(round + 1, &ended), Ordering::SeqCst);
                if round % 64 == 0 {
                    thread::yield_now();
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(callers.into_iter().map(|caller| caller.join().unwrap()).sum::<usize>() > 0);
        });
        for token in &shared {
            drop(retire(token.load(Ordering::SeqCst)).unwrap());
        }
        assert_eq!(ended.load(Ordering::SeqCst), ROUNDS, "each ends once");
    }
}
