//! The protocols, pure: bytes and state machines.
//!
//! Nothing here knows sockets, threads, clocks, randomness or the environment: time and seeds are arguments. A machine
//! takes inputs (`handle_*`), gives outputs (`poll_*`, until `None`) and names the next moment it wants to be called
//! (`poll_timeout`). A malformed or hostile message is an ordinary input.

#![forbid(unsafe_code)]

pub mod broker;
pub mod client;
mod discovery;
mod failure;
mod frame;
mod heartbeat;
pub mod mdp;
pub mod mdpx;
pub mod mmi;
mod moment;
mod outputs;
pub mod session;
mod window;
pub mod worker;

pub use frame::{Frame, Frames, RoutingId};
pub use mdp::is_service_name;
pub(crate) use moment::earliest;
pub use window::Window;
