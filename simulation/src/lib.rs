//! The machines of broker, clients and workers of all protocol versions in virtual time, over a network that delays, breaks,
//! stalls and goes silent, among processes that stand still, die and come back.
//!
//! A seed makes a [`script::Script`], which is data; a script makes a world, whose run depends on nothing else. Promises are
//! checked after every step. A script that breaks one is shrunk to a short one that breaks the same.

mod acts;
mod asks;
mod broker;
mod checks;
mod ending;
mod hands;
mod ledger;
mod network;
mod older;
pub mod plan;
mod random;
pub mod script;
mod sessions;
pub mod shrink;
mod trace;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

pub use asks::Failure;
pub use ending::Report;
pub use world::Clocks;

use script::Script;
use world::World;

/// Runs a script's world.
///
/// # Errors
/// The first promise that is not kept.
pub fn run(script: &Script) -> Result<Report, Failure> {
    live(script, Clocks::equal(Instant::now()), false, false).0
}

/// Runs a script's world twice, with hosts' clocks that began to count at other moments: nothing that is sent may differ.
///
/// # Errors
/// The first promise that is not kept.
pub fn run_by_other_clocks(script: &Script) -> Result<Report, Failure> {
    let now = Instant::now();
    let one = live(script, Clocks::equal(now), false, true).0?;
    let other = live(script, Clocks::unequal(now), false, true).0?;
    if one == other {
        return Ok(one);
    }
    Err(Failure { promise: "the hosts' clocks have no effect", detail: format!("{one:?} and {other:?}") })
}

/// Runs a script's world and tells what happens in it.
pub fn trace(script: &Script) -> (Result<Report, Failure>, Vec<String>) {
    live(script, Clocks::equal(Instant::now()), true, false)
}

fn live(script: &Script, clocks: Clocks, tells: bool, digests: bool) -> (Result<Report, Failure>, Vec<String>) {
    let mut world = World::new(script, clocks, tells, digests);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.live()));
    let told = world.told.take().unwrap_or_default();
    let outcome = match (outcome, world.ledger.failure.take()) {
        (Err(panic), _) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("").to_owned();
            Err(Failure { promise: "nothing panics", detail: text })
        }
        (_, Some(failure)) => Err(failure),
        (Ok(report), None) => Ok(report),
    };
    (outcome, told)
}
