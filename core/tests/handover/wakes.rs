//! The waker.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::kernel;
use crate::waker::Waker;

/// A waker, and what others leave for its thread, with no ordering of its own.
struct Desk {
    waker: Waker,
    work: Vec<AtomicBool>,
}

/// Threads that leave something and wake, each as often as is said, in every order, or in every one in which threads are
/// interrupted no more often than `interruptions`.
fn every_order(threads: usize, times: usize, interruptions: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions;
    model.check(move || {
        let work = (0..threads * times).map(|_| AtomicBool::new(false)).collect();
        let desk = Arc::new(Desk { waker: Waker::new().unwrap(), work });
        let wakers: Vec<_> = (0..threads)
            .map(|first| {
                let desk = desk.clone();
                thread::spawn(move || {
                    for work in desk.work.iter().skip(first).step_by(threads) {
                        work.store(true, Ordering::Relaxed);
                        desk.waker.wake();
                    }
                })
            })
            .collect();
        // A wake that is lost leaves this thread waiting for ever, which loom reports.
        let mut left: Vec<&AtomicBool> = desk.work.iter().collect();
        while !left.is_empty() {
            sleep(&desk.waker);
            desk.waker.clear();
            left.retain(|work| !work.load(Ordering::Relaxed));
        }
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// What the poller does.
fn sleep(waker: &Waker) {
    if let Some(_asleep) = waker.fall_asleep() {
        kernel::poll(waker.fd());
    }
}

#[test]
fn a_thread_that_is_woken_while_it_looks_finds_what_was_left_for_it() {
    every_order(1, 2, Some(4));
}

#[test]
fn a_woken_thread_finds_all_that_was_left_for_it_and_no_wake_is_lost() {
    every_order(2, 1, Some(3));
}

#[test]
fn whoever_asks_why_the_sleep_has_ended_is_told() {
    loom::model(|| {
        let waker = Arc::new(Waker::new().unwrap());
        let waking = {
            let waker = waker.clone();
            thread::spawn(move || waker.wake())
        };
        sleep(&waker);
        assert!(waker.is_woken());
        waker.clear();
        assert!(!waker.is_woken());
        waking.join().unwrap();
    });
}

#[test]
fn all_who_sleep_are_woken_and_one_of_them_takes_the_wake_up_back() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let waker = Arc::new(Waker::new().unwrap());
        let wake = |waker: &Arc<Waker>, act: fn(&Waker)| {
            let waker = waker.clone();
            thread::spawn(move || act(&waker))
        };
        let sleeping = [wake(&waker, sleep), wake(&waker, Waker::wake)];
        sleep(&waker);
        sleeping.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(waker.is_woken());
        waker.clear();
        // The pipe is empty again: the model's kernel would complain of a second byte.
        wake(&waker, Waker::wake);
        sleep(&waker);
    });
}
