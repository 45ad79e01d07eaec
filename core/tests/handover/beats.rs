//! The beater. Its session is due at once, or not at all: the clock stands still, and a wake that is lost leaves the beater
//! asleep for ever, which loom reports.

use loom::sync::Arc;
use loom::sync::Mutex;
use loom::thread;

use crate::beat::Beater;
use crate::sync::{Instant, LONG};

/// Runs a beater that ends when it has looked in, beside whoever has the session.
fn every_order(before: impl Fn(&Beater) + Sync + Send + 'static, act: impl Fn(&Beater) + Sync + Send + 'static) {
    loom::model(move || {
        let beater = Arc::new(Beater::new(LONG));
        before(&beater);
        let running = {
            let beater = beater.clone();
            thread::spawn(move || {
                beater.run(|| {
                    beater.end();
                    true
                });
            })
        };
        act(&beater);
        running.join().unwrap();
    });
}

#[test]
fn a_beater_never_sleeps_beyond_what_was_due_before() {
    let now = || Some(Instant::now());
    every_order(|_| {}, move |beater| beater.look_in_at(now()));
    // Also with a plan that is earlier than what is due now, and one that is put off before.
    every_order(
        |beater| beater.look_in_at(Some(Instant::now() + LONG)),
        move |beater| {
            beater.rest();
            beater.look_in_at(now());
        },
    );
    every_order(
        |_| {},
        move |beater| {
            beater.look_in_at(Some(Instant::now() + LONG));
            beater.rest();
            beater.look_in_at(now());
        },
    );
}

#[test]
fn a_beater_ends_whenever_it_is_told_to() {
    every_order(|_| {}, Beater::end);
    every_order(
        |_| {},
        |beater| {
            beater.look_in_at(Some(Instant::now() + LONG));
            beater.end();
        },
    );
}

#[test]
fn a_beater_that_finds_the_session_in_use_comes_again() {
    loom::model(|| {
        let beater = Arc::new(Beater::new(LONG));
        let session = Arc::new(Mutex::new(()));
        beater.look_in_at(Some(Instant::now()));
        let held = session.lock().unwrap();
        let running = {
            let (beater, session) = (beater.clone(), session.clone());
            thread::spawn(move || {
                beater.run(|| {
                    let Ok(_held) = session.try_lock() else { return false };
                    beater.end();
                    true
                });
            })
        };
        beater.rest();
        beater.look_in_at(Some(Instant::now()));
        drop(held);
        running.join().unwrap();
    });
}
