//! libzmq as Majordomo needs it, behind the API of the published `zmq-sys` 0.12.
//!
//! The crate `zmq` 0.10 compiles on top of it unchanged. What differs is the library underneath (see `build.rs` and
//! `README.md`) and a few items that the published crate does not have, marked where they stand.

#[cfg(not(unix))]
compile_error!("this zmq-sys builds for Unix; without the patch in [patch.crates-io] the published one is used");

// The archive that libzmq's CURVE needs comes from this crate's build script; nothing here calls it.
extern crate libsodium_sys as _;

mod constants;
pub mod errno;
mod functions;

pub use std::os::unix::io::RawFd;

pub use constants::*;
pub use functions::*;
