//! Handles: what C holds is a token, never an address, so any value it passes can be checked before it is used.
//!
//! A token names a place in a table and the how-manieth handle that the place has had, with the type in its low bits. So it
//! is never given twice, and a NULL, a stale copy of a destroyed handle, a handle of another type and a stray pointer are
//! told apart; none of them is dereferenced. Messages have [`places`] of their own.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, TryLockError};

use majordomo::{Error, ErrorKind, Result};

use crate::message::Body;
use crate::places::{self, Common};

/// The type names by tag; a tag is an index into this.
const NAMES: [&str; 8] = ["", "mdmsg_t", "mdcli_t", "mdcli_async_t", "mdwrk_t", "mdwrk_async_t", "mdreq_t", "mdbrk_t"];
pub(crate) const TAG_BITS: u32 = 4;
const SHARD_BITS: u32 = 4;
const SHARD_COUNT: usize = 1 << SHARD_BITS;
/// Of a place in its shard; what is above them counts the place's handles.
pub(crate) const PLACE_BITS: u32 = 24;
const MOST_USES: usize = usize::MAX >> (TAG_BITS + SHARD_BITS + PLACE_BITS);
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

struct Entry {
    token: usize,
    object: Arc<dyn Any + Send + Sync>,
    /// The value of [`FORKS`] when the handle was made.
    forks: usize,
}

impl Entry {
    /// Whether it is from before a fork: what has sockets does not work in a child process.
    fn is_foreign(&self) -> bool {
        self.forks != FORKS.load(Ordering::Relaxed)
    }
}

/// A table of handles.
struct Shard {
    places: Vec<Place>,
    /// Places without a handle, to be used again.
    free: Vec<usize>,
}

struct Place {
    /// How many handles it has had.
    used: usize,
    entry: Option<Entry>,
}

impl Shard {
    /// A token for the object.
    #[expect(clippy::panic, reason = "a shard of 16 million handles is out of memory; the guard makes an error of it")]
    fn insert(&mut self, shard: usize, tag: usize, object: Arc<dyn Any + Send + Sync>, forks: usize) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            if self.places.len() >> PLACE_BITS == 0 {
                self.places.push(Place { used: 0, entry: None });
            }
            self.places.len() - 1
        });
        match self.places.get_mut(place).filter(|slot| slot.entry.is_none() && slot.used < MOST_USES) {
            Some(slot) => {
                slot.used += 1;
                let token = (((((slot.used << PLACE_BITS) | place) << SHARD_BITS) | shard) << TAG_BITS) | tag;
                slot.entry = Some(Entry { token, object, forks });
                token
            }
            None => panic!("there are as many handles as tokens can name"),
        }
    }

    fn place_of(token: usize) -> usize {
        (token >> (TAG_BITS + SHARD_BITS)) & ((1 << PLACE_BITS) - 1)
    }

    fn get(&self, token: usize) -> Option<&Entry> {
        self.places.get(Shard::place_of(token))?.entry.as_ref().filter(|entry| entry.token == token)
    }

    fn remove(&mut self, token: usize) -> Option<Entry> {
        let place = Shard::place_of(token);
        let slot = self.places.get_mut(place)?;
        let entry = slot.entry.take_if(|entry| entry.token == token)?;
        // A place whose numbers are used up stays empty.
        if slot.used < MOST_USES {
            self.free.push(place);
        }
        Some(entry)
    }

    fn len(&self) -> usize {
        self.places.iter().filter(|place| place.entry.is_some()).count()
    }
}

static SHARDS: [Mutex<Shard>; SHARD_COUNT] =
    [const { Mutex::new(Shard { places: Vec::new(), free: Vec::new() }) }; SHARD_COUNT];
/// Spreads handles over the shards.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// How often this process is a child of the one that loaded the library: 0, or more after `fork`.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Gives out a handle of `object`.
pub(crate) fn insert<H: Handle>(object: H) -> *mut H::Opaque {
    notice_forks();
    let shard = NEXT.fetch_add(1, Ordering::Relaxed) % SHARD_COUNT;
    let forks = FORKS.load(Ordering::Relaxed);
    let token = lock_shard(shard).insert(shard, H::TAG, Arc::new(object), forks);
    std::ptr::without_provenance_mut(token)
}

/// The object of a handle.
pub(crate) fn get<H: Handle>(handle: *mut H::Opaque) -> Result<Arc<H>> {
    let token = check::<H>(handle)?;
    let shard = lock(token);
    let entry = shard.get(token).ok_or_else(destroyed::<H>)?;
    if entry.is_foreign() {
        return Err(Error::new(
            ErrorKind::Closed,
            format!("this {} was made before a fork; make a new one", name::<H>()),
        ));
    }
    downcast(Arc::clone(&entry.object))
}

/// Takes a handle out of use; the object lives on while another thread works with it. `None` for one from before a fork:
/// its threads are not in this process, so there is nothing to end.
pub(crate) fn remove<H: Handle>(handle: *mut H::Opaque) -> Result<Option<Arc<H>>> {
    let token = check::<H>(handle)?;
    let entry = lock(token).remove(token).ok_or_else(destroyed::<H>)?;
    if entry.is_foreign() { Ok(None) } else { downcast(entry.object).map(Some) }
}

/// How many handles have been given out and not destroyed.
pub(crate) fn live() -> usize {
    let others: usize = SHARDS.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum();
    others + places::live()
}

/// Locks what belongs to a handle for one call; `Busy` where another thread has it.
pub(crate) fn exclusive<'a, H: Handle, T>(state: &'a Mutex<T>) -> Result<MutexGuard<'a, T>> {
    state.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => busy::<H>(),
        TryLockError::Poisoned(_) => Error::new(
            ErrorKind::Internal,
            format!("an earlier call on this {} failed inside the library; destroy it", name::<H>()),
        ),
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
    let is_live = || if tag == Body::TAG { places::has(token) } else { lock(token).get(token).is_some() };
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
pub(crate) fn destroyed<H: Handle>() -> Error {
    Error::new(ErrorKind::Closed, format!("this {} has been destroyed, or never existed", name::<H>()))
}

fn downcast<H: Handle>(object: Arc<dyn Any + Send + Sync>) -> Result<Arc<H>> {
    object.downcast().map_err(|_| Error::new(ErrorKind::Internal, format!("a {} is of another type", name::<H>())))
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, context)
}

fn lock(token: usize) -> MutexGuard<'static, Shard> {
    lock_shard((token >> TAG_BITS) % SHARD_COUNT)
}

fn lock_shard(shard: usize) -> MutexGuard<'static, Shard> {
    // A poisoned shard is still a whole table: nothing in this file panics between two changes of it.
    SHARDS[shard].lock().unwrap_or_else(PoisonError::into_inner)
}

type Tables = (Vec<MutexGuard<'static, Shard>>, MutexGuard<'static, Common>);

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
        let shards = SHARDS.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        let held = (shards, places::common());
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
