//! The bed's teeth: bugs are planted in a copy of the machines, one at a time, and each is found.
//!
//! `build.rs` makes the copy. Here it stands in the place of the core, and the bed is compiled over it once more.

#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "copies of which only a part is used")]
#![allow(
    rustdoc::all,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "checked elsewhere"
)]

extern crate self as majordomo;

include!(concat!(env!("OUT_DIR"), "/planted.rs"));

#[path = "planted/bugs.rs"]
mod bugs;
#[path = "../src/lib.rs"]
mod simulation;

pub use error::{Error, ErrorKind, Result, ServiceError};
pub use event::{ConnectionEvent, EventHook};
pub use message::Message;
pub use options::{BrokerOptions, ClientOptions, Protocol, RequestOptions, WorkerOptions};
pub use properties::Properties;

use std::cell::Cell;

use bugs::BUGS;
use simulation::plan::{self, Mix};
use simulation::script::Script;
use simulation::{Failure, run, shrink};

/// A bug must be found within so many worlds.
const SEEDS: u64 = 5_000;
/// A script that shows one is not longer than this.
const ACTS: usize = 12;

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Whether this bug is in force.
pub(crate) fn is_planted(bug: &str) -> bool {
    PLANTED.with(|planted| planted.get().is_some_and(|name| name == bug))
}

fn with<T>(bug: Option<&'static str>, run: impl FnOnce() -> T) -> T {
    PLANTED.set(bug);
    let result = run();
    PLANTED.set(None);
    result
}

/// The first seed that finds the bug.
fn find(bug: Option<&'static str>, seeds: u64) -> Option<(u64, Script, Failure)> {
    with(bug, || {
        (0..seeds).find_map(|seed| {
            let script = plan::script(seed, Mix::of(seed));
            run(&script).err().map(|failure| (seed, script, failure))
        })
    })
}

#[test]
fn every_bug_has_its_place_in_the_sources() {
    assert!(MISFITS.is_empty(), "their text is not found exactly once, change tests/planted/bugs.rs: {MISFITS:#?}");
}

#[test]
fn without_a_bug_nothing_is_found() {
    let found = find(None, 1_000);
    assert!(found.is_none(), "{found:?}");
}

#[test]
fn every_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in BUGS {
        match find(Some(bug.name), SEEDS) {
            Some((seed, _, failure)) => println!("{}: found by seed {seed}: {}", bug.name, failure.promise),
            None => missed.push(bug.name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[test]
fn what_finds_a_bug_is_shrunk_to_a_short_script_that_finds_it_again() {
    std::panic::set_hook(Box::new(|_| {}));
    for bug in BUGS {
        let Some((seed, script, failure)) = find(Some(bug.name), SEEDS) else { continue };
        let short = with(Some(bug.name), || shrink::shrink(&script, &failure, run));
        let acts = short.acts.len();
        println!("{}: seed {seed}, {} of {} acts", bug.name, acts, script.acts.len());
        let again = Script::from_text(&short.to_text()).unwrap();
        let outcome = with(Some(bug.name), || run(&again));
        assert_eq!(outcome.map_err(|again| again.promise), Err(failure.promise), "{}", bug.name);
        assert!(acts <= ACTS, "{}: {acts} acts\n{}", bug.name, short.to_text());
        assert!(run(&again).is_ok(), "{}: without the bug the script is fine", bug.name);
    }
}
