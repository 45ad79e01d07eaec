//! Asynchronous clients and workers, under any runtime or none.
//!
//! One I/O thread serves all of them, however many there are; it starts with the first and ends with the last. Futures
//! are woken by their wakers, so any executor will do. An event loop of another language takes outcomes from an
//! [`Inbox`], a batch at a time, and one that can wait for a descriptor may read messages itself, see [`Watch`].
//!
//! Nothing of a caller's (a waker, a notification) runs while a lock is held or a connection is half done, and nothing
//! of a caller's can end the I/O thread.

mod asker;
mod client;
mod command;
mod crew;
mod desk;
mod engine;
mod inbox;
mod link;
mod outcome;
mod pool;
mod reactor;
mod runtime;
mod serve;
mod timers;
mod unread;
mod wakes;
mod watch;
mod worker;

pub use client::{Client, Parts, Response};
pub use desk::{WorkerEvent, WorkerEventKind};
pub use inbox::Inbox;
pub use outcome::{ClientEvent, Part};
pub use unread::Unread;
pub use watch::Watch;
pub use worker::{Drain, Recv, Requests, Worker};
