//! Making a script that breaks a promise short.

use super::Failure;
use super::script::Script;

/// So many worlds at most are tried.
const TRIES: usize = 4_000;

/// A script with as few acts as can be that breaks the same promise: acts are left out by halves, by quarters, and at last
/// one by one, for as long as that leaves anything out.
pub fn shrink(script: &Script, failure: &Failure, run: impl Fn(&Script) -> Result<super::Report, Failure>) -> Script {
    let mut shortest = script.clone();
    let mut tries = 0;
    loop {
        let before = shortest.acts.len();
        let mut size = before.div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < shortest.acts.len() && tries < TRIES {
                let mut shorter = shortest.clone();
                shorter.acts.drain(start..(start + size).min(shortest.acts.len()));
                tries += 1;
                if run(&shorter).is_err_and(|other| other.promise == failure.promise) {
                    shortest = shorter;
                } else {
                    start += size;
                }
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        if shortest.acts.len() == before || tries >= TRIES {
            return shortest;
        }
    }
}
