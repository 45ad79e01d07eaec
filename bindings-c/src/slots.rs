//! Where handles other than messages are: slots that never move, each found by its token and entered without a lock.
//!
//! A slot's one word tells which handle it has, whether that is in use, and how many calls are in it. Who enters counts
//! itself first and then looks whether the handle is the one that was meant; so a handle that is taken out of use ends when
//! the last call has left it, and a token that is stale or made up finds another word and changes nothing.

mod slot;

use std::any::Any;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use self::slot::Entered;
use self::slot::{Slot, place_of};
use crate::registry::{PLACE_BITS, TAG_BITS};

/// Slots are made so many at a time.
const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_COUNT: usize = 1 << (PLACE_BITS - CHUNK_BITS);
/// Free slots are in so many lists, so that threads seldom meet there.
const LISTS: usize = 16;

/// What a handle stands for.
pub(crate) struct Object {
    pub(crate) handle: Box<dyn Any + Send + Sync>,
    /// How often the process had forked when the handle was made.
    pub(crate) forks: usize,
}

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

/// A token for the object.
pub(crate) fn insert(tag: usize, object: Object) -> usize {
    let list = NEXT.fetch_add(1, Ordering::Relaxed) % LISTS;
    let at = lock(list).take(list);
    let Some(slot) = find(at) else { out_of_slots() };
    // SAFETY: it was in a list of free ones.
    unsafe { slot.fill(tag, object) }
}

/// Enters the handle of this token; `None` where there is none, or none any more.
#[inline]
pub(crate) fn enter(token: usize) -> Option<Entered> {
    find(place_of(token))?.enter(token)
}

/// Enters the handle of this token for the last time: nobody else can from now on.
pub(crate) fn retire(token: usize) -> Option<Entered> {
    find(place_of(token))?.retire(token)
}

/// Whether this is the token of a handle in use.
pub(crate) fn has(token: usize) -> bool {
    find(place_of(token)).is_some_and(|slot| slot.has(token))
}

/// How many handles are in use.
pub(crate) fn live() -> usize {
    let made = |list| (0..lock(list).made).map(move |count| place(list, count));
    (0..LISTS).flat_map(made).filter_map(find).filter(|slot| slot.is_live()).count()
}

/// All lists, locked.
pub(crate) fn lists() -> Vec<MutexGuard<'static, Free>> {
    (0..LISTS).map(lock).collect()
}

impl Free {
    fn take(&mut self, list: usize) -> usize {
        if let Some(at) = self.slots.pop() {
            return at;
        }
        let at = place(list, self.made);
        let Some(chunk) = CHUNKS.get(at >> CHUNK_BITS) else { out_of_slots() };
        let first = at & !(CHUNK - 1);
        chunk.get_or_init(|| (first..first + CHUNK).map(Slot::new).collect());
        self.made += 1;
        at
    }
}

/// A slot is free again.
fn give_back(at: usize) {
    lock(at % LISTS).slots.push(at);
}

fn lock(list: usize) -> MutexGuard<'static, Free> {
    // Nothing panics between two changes of it.
    FREE[list].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The how-manieth place of a list.
fn place(list: usize, count: usize) -> usize {
    count * LISTS + list
}

#[inline]
fn find(at: usize) -> Option<&'static Slot> {
    CHUNKS.get(at >> CHUNK_BITS)?.get()?.get(at & (CHUNK - 1))
}

#[cold]
#[expect(clippy::panic, reason = "16 million handles are out of memory; the guard makes an error of it")]
fn out_of_slots() -> ! {
    panic!("there are as many handles as tokens can name")
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
            assert!(place_of(other) != place_of(token) || enter(other).is_none(), "bit {bit}");
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
