//! Reliable request-reply between programs in different languages: the Majordomo protocol's client, worker and broker.
//!
//! A [`Client`] asks a service by its name, a [`Worker`] serves one, and a [`Broker`] stands between them. The blocking
//! handles drive their socket in the caller's thread; [`aio`] has the asynchronous ones, which need no runtime.
//!
//! The layers point one way: `proto` is pure (bytes and state machines), `transport` holds all that touches libzmq, and
//! the rest drives the machines.

pub mod aio;
pub mod broker;
pub mod client;
pub mod error;
pub mod event;
mod fork;
mod identity;
pub mod message;
mod notices;
pub mod options;
pub mod properties;
pub mod proto;
mod sync;
mod transport;
mod turn;
mod wait;
pub mod worker;

pub use broker::Broker;
pub use client::{Client, Parts};
pub use error::{Error, ErrorKind, Result, ServiceError};
pub use event::{ConnectionEvent, EventHook};
pub use message::Message;
pub use options::{BrokerOptions, ClientOptions, Protocol, RequestOptions, WorkerOptions};
pub use properties::Properties;
pub use transport::{Capability, Libzmq, libzmq};
pub use wait::{Check, Wake};
pub use worker::{CancelToken, Request, Stop, Worker, serve};

/// The version of this library, for example `0.1.0`.
pub const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
