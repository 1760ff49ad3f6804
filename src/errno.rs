//! The reasons that libzmq gives for refusing.

#![allow(unsafe_code, reason = "libzmq is a C library")]

use std::{
    ffi::{CStr, c_int},
    fmt,
};

/// A reason that libzmq gives, by its number.
///
/// The `zmq` crate's own type has no value for many of the system's reasons, and panics on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(c_int);

impl Errno {
    /// Returns this thread's last.
    pub(crate) fn last() -> Self {
        // SAFETY: reads this thread's errno.
        Self(unsafe { zmq_sys::zmq_errno() })
    }

    pub(crate) fn is(self, reason: zmq::Error) -> bool {
        self.0 == reason.to_raw()
    }
}

impl From<zmq::Error> for Errno {
    fn from(reason: zmq::Error) -> Self {
        Self(reason.to_raw())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: for every number the answer is a text that nobody changes or frees.
        let text = unsafe { CStr::from_ptr(zmq_sys::zmq_strerror(self.0)) };
        out.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for Errno {}
