//! What happens to the connection of a client or a worker.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::options::Protocol;

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The broker has answered and can be used.
    Connected {
        /// The broker's endpoint.
        endpoint: String,
        /// What is spoken with it.
        protocol: Protocol,
    },
    /// The connection is of no use any more.
    Disconnected {
        /// The broker's endpoint.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// Another connection is being made.
    Reconnecting {
        /// The endpoint that is tried.
        endpoint: String,
    },
    /// The worker takes no new requests and ends when those in hand are answered.
    Draining,
}

impl ConnectionEvent {
    /// The event's name, the same in every language: `connected`, `disconnected`, `reconnecting` or `draining`.
    pub const fn name(&self) -> &'static str {
        match self {
            ConnectionEvent::Connected { .. } => "connected",
            ConnectionEvent::Disconnected { .. } => "disconnected",
            ConnectionEvent::Reconnecting { .. } => "reconnecting",
            ConnectionEvent::Draining => "draining",
        }
    }
}

/// Called with what happens to a connection: for blocking handles by the thread that uses them (or, while a handler runs,
/// by the worker's helper thread), for asynchronous ones by the I/O thread. It must return soon and call no method of
/// the handle.
#[derive(Clone)]
pub struct EventHook(Arc<dyn Fn(&ConnectionEvent) + Send + Sync>);

impl EventHook {
    /// A hook that calls `listener`.
    pub fn new(listener: impl Fn(&ConnectionEvent) + Send + Sync + 'static) -> Self {
        EventHook(Arc::new(listener))
    }

    /// Tells the listener. What it panics over is its own.
    pub(crate) fn call(&self, event: &ConnectionEvent) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(event))).is_err() {
            log::error!("a listener for connection events panicked");
        }
    }
}

impl fmt::Debug for EventHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventHook")
    }
}

/// Hooks are equal when they are clones of one another.
impl PartialEq for EventHook {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for EventHook {}
