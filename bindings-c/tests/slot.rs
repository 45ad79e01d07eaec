//! Calls, the end of a handle and the next use of its slot, in every order that their steps can have. It is the library's own
//! `slot.rs` that runs here, over loom's atomics: what it takes from its parent is this file's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../src/slots/slot.rs"]
mod slot;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use self::slot::{Entered, Slot, place_of};

const TAG_BITS: u32 = 4;
const PLACE_BITS: u32 = 24;
const TAG: usize = 5;
const AT: usize = 77;

/// What a handle stands for. loom reports who looks at it without having seen it made, or while it ends.
struct Object {
    number: usize,
    lives: UnsafeCell<bool>,
    ended: Arc<Count>,
}

impl Object {
    fn look(&self) -> usize {
        // SAFETY: loom sees to it that nobody changes it meanwhile.
        self.lives.with(|lives| assert!(unsafe { *lives }, "an object that has ended"));
        self.number
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: loom sees to it that nobody looks at it meanwhile.
            self.lives.with_mut(|lives| assert!(std::mem::replace(unsafe { &mut *lives }, false), "ended twice"));
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// The only slot that there is, and whether it is free.
struct Table {
    slot: Slot,
    free: Mutex<bool>,
    freed: Condvar,
    /// What follows the giving back and what follows the next taking come in either order: loom tries orders of atomics alone.
    meeting: AtomicUsize,
}

loom::lazy_static! {
    static ref TABLE: Table =
        Table { slot: Slot::new(AT), free: Mutex::new(true), freed: Condvar::new(), meeting: AtomicUsize::new(0) };
}

fn give_back(at: usize) {
    assert_eq!(at, AT);
    let mut free = TABLE.free.lock().unwrap();
    assert!(!*free, "given back twice");
    *free = true;
    TABLE.freed.notify_one();
    drop(free);
    TABLE.meeting.fetch_add(1, Ordering::Relaxed);
}

/// Waits until the slot is free. A handle that never ends leaves it waiting for ever, which loom reports.
fn insert(number: usize, ended: &Arc<Count>) -> usize {
    let mut free = TABLE.free.lock().unwrap();
    while !*free {
        free = TABLE.freed.wait(free).unwrap();
    }
    *free = false;
    drop(free);
    let object = Object { number, lives: UnsafeCell::new(true), ended: Arc::clone(ended) };
    // SAFETY: it was free.
    let token = unsafe { TABLE.slot.fill(TAG, object) };
    assert_eq!(place_of(token), AT);
    TABLE.meeting.fetch_add(1, Ordering::Relaxed);
    token
}

/// What a call of any function does with the handle: whether it was there.
fn call(token: usize, number: usize) -> bool {
    let Some(entered) = TABLE.slot.enter(token) else { return false };
    work(entered, number);
    true
}

/// One look as the first thing in a call and one as the last.
fn work(entered: Entered, number: usize) {
    assert_eq!(entered.look(), number);
    assert_eq!(entered.look(), number);
}

/// Destroys the handle: whether nobody had done it before.
fn retire(token: usize, number: usize) -> bool {
    let Some(last) = TABLE.slot.retire(token) else { return false };
    work(last, number);
    assert!(!TABLE.slot.has(token));
    true
}

fn join<const N: usize>(threads: [JoinHandle<bool>; N]) -> [bool; N] {
    threads.map(|thread| thread.join().unwrap())
}

/// A thread that does this with a token once it is told, by a store that orders nothing; where it is too early, nothing.
fn told(token: &Arc<AtomicUsize>, work: fn(usize, usize) -> bool, number: usize) -> JoinHandle<bool> {
    let token = Arc::clone(token);
    thread::spawn(move || match token.load(Ordering::Relaxed) {
        0 => false,
        token => work(token, number),
    })
}

/// With a bound where the orders in which threads are interrupted more often are many and show nothing new.
fn in_every_order(interruptions: Option<usize>, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions;
    model.check(move || {
        // Makes the table first: loom takes what its maker does right afterwards as seen by all who find it.
        assert!(!TABLE.slot.is_live());
        scenario();
        assert!(!TABLE.slot.is_live() && *TABLE.free.lock().unwrap(), "the slot has become free");
    });
}

#[test]
fn a_handle_ends_once_when_the_last_of_its_calls_has_left() {
    in_every_order(Some(4), || {
        let ended = Arc::default();
        let token = insert(1, &ended);
        let callers = [(); 2].map(|()| thread::spawn(move || call(token, 1)));
        assert!(retire(token, 1));
        join(callers);
        assert!(!call(token, 1));
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn who_comes_by_mistake_while_the_last_call_leaves_ends_the_handle_or_leaves_it_alone() {
    in_every_order(None, || {
        let ended = Arc::default();
        let token = insert(1, &ended);
        let last = TABLE.slot.enter(token).unwrap();
        assert!(retire(token, 1));
        assert!(!TABLE.slot.is_live());
        assert_eq!(ended.load(Ordering::SeqCst), 0, "a call is in it");
        let mistaken = [(); 2].map(|()| thread::spawn(move || call(token, 1)));
        work(last, 1);
        assert_eq!(join(mistaken), [false; 2]);
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn who_hears_of_a_handle_by_chance_finds_its_object_whole() {
    in_every_order(None, || {
        let ended = Arc::default();
        let token = Arc::new(AtomicUsize::new(0));
        let others = [told(&token, call, 1), told(&token, retire, 1)];
        let known = insert(1, &ended);
        token.store(known, Ordering::Relaxed);
        let [_, was_retired] = join(others);
        assert_ne!(retire(known, 1), was_retired);
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn who_is_in_by_mistake_when_the_slot_is_used_again_meets_no_other_handle() {
    in_every_order(Some(3), || {
        let ended = Arc::default();
        let old = insert(1, &ended);
        let token = Arc::new(AtomicUsize::new(0));
        let others = [thread::spawn(move || call(old, 1) | call(old, 1)), told(&token, call, 2)];
        assert!(retire(old, 1));
        let new = insert(2, &ended);
        assert_ne!(old, new);
        token.store(new, Ordering::Relaxed);
        assert!(!call(old, 1));
        assert!(retire(new, 2));
        join(others);
        assert_eq!(ended.load(Ordering::SeqCst), 2);
    });
}
