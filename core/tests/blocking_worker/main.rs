//! Promises of the blocking worker, kept on real sockets towards a broker that is a bare ROUTER.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod answers;
mod connection;
mod ending;
mod waiting;
#[path = "../worker_peers/mod.rs"]
mod worker_peers;
