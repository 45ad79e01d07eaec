//! The errno values that libzmq returns.

#![allow(missing_docs, reason = "the names are those of errno.h and zmq.h")]

pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBUSY, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINPROGRESS, EINTR, EINVAL,
    EMFILE, EMSGSIZE, ENAMETOOLONG, ENETDOWN, ENOBUFS, ENODEV, ENOENT, ENOMEM, ENOTCONN, ENOTSOCK, ENOTSUP, EPROTO,
    EPROTONOSUPPORT,
};

/// Where libzmq's own numbers begin.
const OWN: i32 = crate::ZMQ_HAUSNUMERO as i32;

// Errors that only libzmq has.
pub const EFSM: i32 = OWN + 51;
pub const ENOCOMPATPROTO: i32 = OWN + 52;
pub const ETERM: i32 = OWN + 53;
pub const EMTHREAD: i32 = OWN + 54;

// What libzmq returns on a platform whose errno.h lacks the name.
pub const ENOTSUP_ALT: i32 = OWN + 1;
pub const EPROTONOSUPPORT_ALT: i32 = OWN + 2;
pub const ENOBUFS_ALT: i32 = OWN + 3;
pub const ENETDOWN_ALT: i32 = OWN + 4;
pub const EADDRINUSE_ALT: i32 = OWN + 5;
pub const EADDRNOTAVAIL_ALT: i32 = OWN + 6;
pub const ECONNREFUSED_ALT: i32 = OWN + 7;
pub const EINPROGRESS_ALT: i32 = OWN + 8;
pub const ENOTSOCK_ALT: i32 = OWN + 9;
pub const EMSGSIZE_ALT: i32 = OWN + 10;
pub const EAFNOSUPPORT_ALT: i32 = OWN + 11;
pub const ENETUNREACH_ALT: i32 = OWN + 12;
pub const ECONNABORTED_ALT: i32 = OWN + 13;
pub const ECONNRESET_ALT: i32 = OWN + 14;
pub const ENOTCONN_ALT: i32 = OWN + 15;
pub const ETIMEDOUT_ALT: i32 = OWN + 16;
pub const EHOSTUNREACH_ALT: i32 = OWN + 17;
pub const ENETRESET_ALT: i32 = OWN + 18;
