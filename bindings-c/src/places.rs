//! Where messages are: places that never move, each found by its token and entered without a lock.
//!
//! Messages come and go by the million, so they do not pass through the [`registry`]'s tables. A place holds its message
//! itself, and its one word is the token, the lock and the mark of an empty place at once: who enters replaces the token
//! that C has given by the same with [`BUSY`]. So a call costs one atomic exchange and no allocation, and a token that is
//! stale or made up finds another word. Empty places wait in a small stock of each thread, the others in one for all.

mod place;

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use majordomo::{Error, Result};

pub(crate) use self::place::Held;
use self::place::{Place, Refusal, place_of};
use crate::message::{Body, mdmsg_t};
use crate::registry::{self, Handle, PLACE_BITS, TAG_BITS};

/// Places are made so many at a time.
const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_COUNT: usize = 1 << (PLACE_BITS - CHUNK_BITS);
/// Empty places that a thread keeps.
const STOCK: usize = 64;

const _: () = assert!(size_of::<Place>() == 64, "a message has outgrown its cache line");

static CHUNKS: [OnceLock<Box<[Place]>>; CHUNK_COUNT] = [const { OnceLock::new() }; CHUNK_COUNT];

/// Empty places for all threads.
pub(crate) struct Common {
    empty: Vec<&'static Place>,
    /// How many places there are.
    made: usize,
}

static COMMON: Mutex<Common> = Mutex::new(Common { empty: Vec::new(), made: 0 });

/// The empty places of one thread.
struct Stock {
    places: [Cell<Option<&'static Place>>; STOCK],
    count: Cell<usize>,
}

thread_local! {
    static OWN: Stock = const { Stock { places: [const { Cell::new(None) }; STOCK], count: Cell::new(0) } };
}

/// A handle of `body`, which is made where it stays.
#[inline(always)]
pub(crate) fn insert(body: impl Into<Body>) -> *mut mdmsg_t {
    // A thread that is being torn down has no stock any more.
    let place = OWN.try_with(Stock::take).unwrap_or_else(|_| common().take());
    // SAFETY: it was in a stock.
    let token = unsafe { place.fill(Body::TAG, body.into()) };
    std::ptr::without_provenance_mut(token)
}

/// The message of a handle, for one call.
///
/// # Errors
/// `InvalidArgument` for what is no message's handle, `Closed` for one that is gone, `Busy` while another thread has it.
#[inline]
pub(crate) fn hold(message: *mut mdmsg_t) -> Result<Held> {
    let token = registry::check::<Body>(message)?;
    let place = find(place_of(token)).ok_or_else(registry::destroyed::<Body>)?;
    place.hold(token).map_err(refused)
}

#[cold]
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Busy => registry::busy::<Body>(),
        Refusal::Gone => registry::destroyed::<Body>(),
    }
}

/// Whether this is the token of a message.
pub(crate) fn has(token: usize) -> bool {
    find(place_of(token)).is_some_and(|place| place.has(token))
}

/// How many messages there are.
pub(crate) fn live() -> usize {
    let made = common().made;
    (0..made).filter_map(find).filter(|place| place.is_live()).count()
}

/// The stock of all threads, locked.
pub(crate) fn common() -> MutexGuard<'static, Common> {
    // Nothing panics between two changes of it.
    COMMON.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Common {
    fn take(&mut self) -> &'static Place {
        if let Some(place) = self.empty.pop() {
            return place;
        }
        let at = self.made;
        let Some(chunk) = CHUNKS.get(at >> CHUNK_BITS) else { out_of_places() };
        let chunk = chunk.get_or_init(|| {
            registry::notice_forks();
            (at..at + CHUNK).map(Place::new).collect()
        });
        self.made += 1;
        &chunk[at & (CHUNK - 1)]
    }
}

impl Stock {
    #[inline]
    fn take(&self) -> &'static Place {
        self.pop().unwrap_or_else(|| self.fetch())
    }

    #[inline]
    fn put(&self, place: &'static Place) {
        let count = self.count.get();
        match self.places.get(count) {
            Some(room) => {
                room.set(Some(place));
                self.count.set(count + 1);
            }
            None => self.share(place),
        }
    }

    #[inline]
    fn pop(&self) -> Option<&'static Place> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.places.get(last)?.get()
    }

    /// A place out of the stock for all, and some more for later, for which there is room: nothing is here any more.
    #[cold]
    fn fetch(&self) -> &'static Place {
        let mut common = common();
        (1..STOCK / 2).for_each(|_| self.put(common.take()));
        common.take()
    }

    /// Others get this place, and half of those here.
    #[cold]
    fn share(&self, place: &'static Place) {
        let mut common = common();
        common.empty.push(place);
        common.empty.extend(std::iter::from_fn(|| self.pop()).take(STOCK / 2));
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        common().empty.extend(std::iter::from_fn(|| self.pop()));
    }
}

/// A place is empty again.
#[inline]
fn give_back(place: &'static Place) {
    let kept = OWN.try_with(|own| own.put(place));
    if kept.is_err() {
        common().empty.push(place);
    }
}

#[inline]
fn find(at: usize) -> Option<&'static Place> {
    CHUNKS.get(at >> CHUNK_BITS)?.get()?.get(at & (CHUNK - 1))
}

#[cold]
#[expect(clippy::panic, reason = "16 million messages are out of memory; the guard makes an error of it")]
fn out_of_places() -> ! {
    panic!("there are as many messages as tokens can name")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::thread;

    use majordomo::{ErrorKind, Message};

    use super::*;

    fn give(text: String) -> usize {
        insert(Message::from(text)).addr()
    }

    fn held(token: usize) -> Result<Held> {
        hold(std::ptr::without_provenance_mut(token))
    }

    fn take(token: usize) -> Result<Message> {
        let mut held = held(token)?;
        // Others come meanwhile.
        thread::yield_now();
        Ok(Message::from(held.take()))
    }

    #[test]
    fn of_many_threads_that_want_a_message_one_gets_it() {
        const THREADS: usize = 4;
        const MESSAGES: usize = 500;
        let made = AtomicUsize::new(0);
        let next = || match made.fetch_add(1, Ordering::Relaxed) {
            number if number < MESSAGES => give(number.to_string()),
            _ => 0,
        };
        // What they all want at any moment: who gets it puts the next one there.
        let wanted = AtomicUsize::new(next());
        let get = || {
            let mut got = Vec::new();
            loop {
                match wanted.load(Ordering::Acquire) {
                    0 => return got,
                    token => match take(token) {
                        Ok(message) => {
                            got.push(message);
                            wanted.store(next(), Ordering::Release);
                        }
                        Err(refusal) => assert!(matches!(refusal.kind(), ErrorKind::Busy | ErrorKind::Closed)),
                    },
                }
            }
        };
        let mut got: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(get)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        got.sort_by_key(|message| std::str::from_utf8(&message[0]).unwrap().parse::<usize>().unwrap());
        assert!(got.into_iter().eq((0..MESSAGES).map(|number| Message::from(number.to_string()))), "each once");
    }

    #[test]
    fn a_message_in_a_call_is_busy_and_whole_afterwards() {
        let token = give("whole".to_owned());
        let call = held(token).unwrap();
        assert!(has(token));
        assert_eq!(held(token).err().map(|error| error.kind()), Some(ErrorKind::Busy));
        assert_eq!(take(token).map_err(|error| error.kind()), Err(ErrorKind::Busy));
        drop(call);
        assert_eq!(take(token).unwrap(), Message::from("whole"));
        assert!(!has(token));
        assert_eq!(take(token).map_err(|error| error.kind()), Err(ErrorKind::Closed));
    }

    #[test]
    fn tokens_are_never_given_twice_though_places_are() {
        let mut tokens: Vec<_> = (0..10_000).map(|round| (give(round.to_string()), take)).collect();
        let made = || common().made;
        for (round, (token, take)) in tokens.iter().enumerate() {
            assert_eq!(take(*token).unwrap(), Message::from(round.to_string()));
        }
        let before = made();
        for _ in 0..10_000 {
            let token = give("again".to_owned());
            tokens.push((token, take));
            assert_eq!(take(token).unwrap(), Message::from("again"));
        }
        // The other tests of this file take some meanwhile.
        assert!(made() - before < 1000, "places are used again");
        let count = tokens.len();
        tokens.sort_by_key(|(token, _)| *token);
        tokens.dedup_by_key(|(token, _)| *token);
        assert_eq!(tokens.len(), count);
    }

    #[test]
    fn places_of_messages_that_end_on_another_thread_come_back() {
        let before = common().made;
        for _ in 0..500 {
            let (sender, receiver) = mpsc::sync_channel(64);
            let ending = thread::spawn(move || receiver.iter().all(|token| take(token).is_ok()));
            for number in 0..128 {
                sender.send(give(number.to_string())).unwrap();
            }
            drop(sender);
            assert!(ending.join().unwrap());
        }
        // Each of the threads ends with 32 or more of them in hand. Other tests take some thousands meanwhile.
        assert!(common().made - before < 12_000, "places of a thread that has ended are lost");
    }
}
