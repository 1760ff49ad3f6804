//! The error numbers that [`zmq_errno`](crate::zmq_errno) gives, as the `zmq` crate expects them.

use crate::ZMQ_HAUSNUMERO;

pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBUSY, ECONNREFUSED, EFAULT, EHOSTUNREACH,
    EINPROGRESS, EINTR, EINVAL, EMFILE, EMSGSIZE, ENAMETOOLONG, ENETDOWN, ENOBUFS, ENODEV, ENOENT,
    ENOMEM, ENOTCONN, ENOTSOCK, ENOTSUP, EPROTO, EPROTONOSUPPORT,
};

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $offset:literal;)*) => {
        $($(#[$doc])* pub const $name: i32 = ZMQ_HAUSNUMERO as i32 + $offset;)*
    };
}

errors! {
    /// The socket cannot do this in its present state.
    EFSM = 51;
    /// The transport does not go with the socket type.
    ENOCOMPATPROTO = 52;
    /// The context was terminated.
    ETERM = 53;
    /// The context has no I/O thread for the task.
    EMTHREAD = 54;
}

// zmq.h gives numbers to errors that a system lacks. Linux lacks none of them, so libzmq never
// returns these here, but the `zmq` crate matches on them.
errors! {
    /// [`ENOTSUP`] of a system without it.
    ENOTSUP_ALT = 1;
    /// [`EPROTONOSUPPORT`] of a system without it.
    EPROTONOSUPPORT_ALT = 2;
    /// [`ENOBUFS`] of a system without it.
    ENOBUFS_ALT = 3;
    /// [`ENETDOWN`] of a system without it.
    ENETDOWN_ALT = 4;
    /// [`EADDRINUSE`] of a system without it.
    EADDRINUSE_ALT = 5;
    /// [`EADDRNOTAVAIL`] of a system without it.
    EADDRNOTAVAIL_ALT = 6;
    /// [`ECONNREFUSED`] of a system without it.
    ECONNREFUSED_ALT = 7;
    /// [`EINPROGRESS`] of a system without it.
    EINPROGRESS_ALT = 8;
    /// [`ENOTSOCK`] of a system without it.
    ENOTSOCK_ALT = 9;
    /// [`EMSGSIZE`] of a system without it.
    EMSGSIZE_ALT = 10;
}
