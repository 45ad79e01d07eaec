//! Sockets, frames and waiting: the only place that touches libzmq.
//!
//! What callers above need not know: libzmq's return codes and ownership of messages, high-water marks that drop, errno
//! values that make the `zmq` crate panic, and how a lost connection is reported. Sockets here never block; [`Poller`]
//! is the one place that waits.

mod bundle;
mod context;
mod dealer;
mod frame;
mod library;
mod memory;
mod pipe;
mod poller;
mod router;
mod socket;
mod thread;
mod waker;

#[cfg(test)]
mod tests;

pub(crate) use bundle::Bundle;
pub(crate) use context::Context;
pub(crate) use dealer::{Dealer, DealerOptions, Received};
pub(crate) use frame::Frame;
pub use library::{Capability, Libzmq, libzmq};
pub(crate) use memory::give_back_memory;
pub(crate) use poller::{Interest, Poller, Woken};
pub(crate) use router::{Incoming, Router, Sent};
pub(crate) use thread::{seed, spawn};
pub(crate) use waker::Waker;
