//! The C face of Majordomo: converts, calls the core, converts back.
//!
//! Nothing here retries, waits by itself or knows the protocol. Each exported function is one [`guard`] around a few
//! lines; handles are the [`registry`]'s tokens, so a NULL, destroyed or wrong handle is an error and never a memory
//! access. The header `include/majordomo.h` is generated from this crate: its comments are the doc comments here.
#![expect(
    clippy::missing_safety_doc,
    reason = "the callers are C programs: what they must know of a pointer stands in the text of each function"
)]
#![expect(non_camel_case_types, reason = "the handle types carry their C names")]

mod arguments;
mod bell;
mod broker;
mod client;
mod client_async;
mod error;
mod event;
mod frames;
mod guard;
mod latch;
mod logging;
mod message;
mod options;
mod places;
mod registry;
mod request;
mod slots;
mod worker;
mod worker_async;

pub use broker::*;
pub use client::*;
pub use client_async::*;
pub use error::*;
pub use event::*;
pub use message::*;
pub use options::*;
pub use request::*;
pub use worker::*;
pub use worker_async::*;
