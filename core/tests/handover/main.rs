//! The hand-overs between threads that no lock alone makes right, in every order that their steps can have. The sources are
//! the library's own, compiled here over loom's atomics and locks (`sync.rs`) and a pipe made of them (`pipe.rs`).
//!
//! Only the I/O thread's sleep is a model, in `reactor.rs`: its steps lie in several files and in libzmq, and a change there is
//! a change here.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test fails by a panic, and does not call all that the library does"
)]

#[path = "../../src/worker/beat.rs"]
mod beat;
mod beats;
mod kernel;
mod pipe;
mod reactor;
mod sync;
#[path = "../../src/transport/waker.rs"]
mod waker;
mod wakes;

use majordomo::error;
