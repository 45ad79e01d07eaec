//! The native layer of the npm package: converts, calls, converts.
//!
//! Nothing here calls back into JavaScript but one function per environment, which is told of all that is finished in one go.
//! The layer written in JavaScript (`lib/`) settles its promises there, so every error object is made on the JavaScript
//! thread.

mod broker;
mod client;
mod environment;
mod error;
mod message;
mod options;
mod poll;
mod told;
mod worker;

use std::ffi::OsString;

use napi_derive::napi;

/// The version of the library underneath.
#[napi]
pub fn version() -> &'static str {
    majordomo::version()
}

/// Runs the command `mdbroker` on the calling thread until it is told to end, and gives its exit status.
///
/// `args` are the arguments after the name of the command.
#[napi(catch_unwind)]
pub fn mdbroker(args: Vec<String>) -> u8 {
    let name = OsString::from("mdbroker");
    majordomo_cli::mdbroker(std::iter::once(name).chain(args.into_iter().map(OsString::from)))
}
