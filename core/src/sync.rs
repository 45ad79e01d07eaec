//! What hand-overs between threads are made of. The files that take it from here are compiled a second time by
//! `core/tests/handover`, over loom's, which tries every order of their steps.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex};
pub(crate) use std::time::Instant;
