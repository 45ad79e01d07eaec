//! What the libzmq underneath can do.

use crate::error::{Error, ErrorKind, Result};

use super::context::Context;
use super::socket::{Socket, ZMQ_DISCONNECT_MSG};

/// The libzmq that this process runs on. Built as this project builds it, it has everything; the one that the
/// published crates bring along lacks some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Libzmq {
    /// Major, minor and patch version.
    pub version: (i32, i32, i32),
    /// Encryption and authentication by CURVE.
    pub curve: bool,
    /// Connections that close are reported at once. Without it, heartbeats alone tell of lost peers.
    pub disconnect_notice: bool,
}

/// A feature of libzmq that an application may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Encryption and authentication by CURVE.
    Curve,
    /// Connections that close are reported at once.
    DisconnectNotice,
}

/// Says what the libzmq underneath can do.
pub fn libzmq() -> Libzmq {
    let disconnect_notice = Context::shared()
        .and_then(|context| Socket::new(zmq::ROUTER, context))
        .is_ok_and(|socket| socket.set_if_known(ZMQ_DISCONNECT_MSG, b"gone"));
    Libzmq { version: zmq::version(), curve: zmq::has("curve").unwrap_or(false), disconnect_notice }
}

impl Libzmq {
    /// Checks that a feature is there.
    ///
    /// # Errors
    /// `Internal`, saying what is missing and how to get it.
    pub fn require(&self, capability: Capability) -> Result<()> {
        let (has, what) = match capability {
            Capability::Curve => (self.curve, "CURVE (it was built without libsodium)"),
            Capability::DisconnectNotice => {
                (self.disconnect_notice, "ZMQ_DISCONNECT_MSG (it was built without drafts)")
            }
        };
        if has {
            return Ok(());
        }
        let (major, minor, patch) = self.version;
        Err(Error::new(
            ErrorKind::Internal,
            format!(
                "this program's libzmq {major}.{minor}.{patch} lacks {what}; build with this project's zmq-sys under \
                 [patch.crates-io]"
            ),
        ))
    }
}
