//! Calls on a message, the taking of it and the next use of its place, in every order that their steps can have. It is the
//! library's own `place.rs` that runs here, over loom's atomics: what it takes from its parent is this file's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../src/places/place.rs"]
mod place;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use self::place::{Place, Refusal, place_of};

const TAG_BITS: u32 = 4;
const PLACE_BITS: u32 = 24;
const TAG: usize = 1;
const AT: usize = 77;

/// A message. loom reports who touches it while another does, or without having seen what the last one has done.
#[derive(Default)]
struct Body {
    number: usize,
    calls: UnsafeCell<usize>,
}

impl Body {
    fn touch(&self) -> usize {
        // SAFETY: loom sees to it that nobody else touches it meanwhile.
        self.calls.with_mut(|calls| unsafe {
            *calls += 1;
            *calls
        })
    }
}

/// The only place that there is, and whether it is in a stock.
struct Table {
    place: Place,
    empty: Mutex<bool>,
    emptied: Condvar,
}

loom::lazy_static! {
    static ref TABLE: Table = Table { place: Place::new(AT), empty: Mutex::new(true), emptied: Condvar::new() };
}

fn give_back(place: &Place) {
    assert!(std::ptr::eq(place, &raw const TABLE.place));
    let mut empty = TABLE.empty.lock().unwrap();
    assert!(!*empty, "given back twice");
    *empty = true;
    TABLE.emptied.notify_one();
}

/// Waits until the place is empty.
fn insert(number: usize) -> usize {
    let mut empty = TABLE.empty.lock().unwrap();
    while !*empty {
        empty = TABLE.emptied.wait(empty).unwrap();
    }
    *empty = false;
    drop(empty);
    // SAFETY: it was empty.
    let token = unsafe { TABLE.place.fill(TAG, Body { number, calls: UnsafeCell::new(0) }) };
    assert_eq!(place_of(token), AT);
    token
}

/// What a call of any function does with the message: 1 if it had it.
fn call(token: usize, number: usize) -> usize {
    let Ok(held) = TABLE.place.hold(token) else { return 0 };
    assert_eq!(held.number, number);
    held.touch();
    1
}

/// Takes the message: the calls that it has had, this one among them. `None` if another has it, or has had it.
fn take(token: usize, number: usize) -> Option<usize> {
    let mut held = TABLE.place.hold(token).ok()?;
    assert_eq!(held.number, number);
    let body = held.take();
    assert_eq!(body.number, number);
    Some(body.touch())
}

fn in_every_order(scenario: impl Fn() + Sync + Send + 'static) {
    loom::model(move || {
        // Makes the table first: loom takes what its maker does right afterwards as seen by all who find it.
        assert!(!TABLE.place.is_live());
        scenario();
        assert!(!TABLE.place.is_live() && *TABLE.empty.lock().unwrap(), "the place has become empty");
    });
}

#[test]
fn of_all_who_want_a_message_one_gets_it() {
    in_every_order(|| {
        let token = insert(1);
        let others = [(); 2].map(|()| thread::spawn(move || take(token, 1)));
        let own = take(token, 1);
        let got = others.map(|other| other.join().unwrap());
        assert_eq!(got.into_iter().chain([own]).flatten().collect::<Vec<_>>(), [1]);
        assert!(!TABLE.place.has(token) && matches!(TABLE.place.hold(token), Err(Refusal::Gone)));
    });
}

#[test]
fn each_call_sees_what_the_one_before_has_done() {
    in_every_order(|| {
        let token = insert(1);
        let others = [(); 2].map(|()| thread::spawn(move || call(token, 1)));
        let own = call(token, 1);
        let calls = others.map(|other| other.join().unwrap()).iter().sum::<usize>() + own;
        assert!(TABLE.place.has(token) && calls > 0);
        assert_eq!(take(token, 1), Some(calls + 1));
    });
}

#[test]
fn a_stale_token_meets_no_other_message_and_who_hears_of_one_by_chance_finds_it_whole() {
    in_every_order(|| {
        let old = insert(1);
        // Tells of the new token, and orders nothing.
        let told = Arc::new(AtomicUsize::new(0));
        let stale = thread::spawn(move || take(old, 1));
        let caller = thread::spawn({
            let told = Arc::clone(&told);
            move || match told.load(Ordering::Relaxed) {
                0 => 0,
                new => call(new, 2),
            }
        });
        let was_taken = take(old, 1).is_some();
        let new = insert(2);
        assert_ne!(old, new);
        told.store(new, Ordering::Relaxed);
        assert_eq!(call(old, 1), 0);
        assert_ne!(stale.join().unwrap().is_some(), was_taken);
        let calls = caller.join().unwrap();
        assert_eq!(take(new, 2), Some(calls + 1));
    });
}
