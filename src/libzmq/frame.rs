//! A frame that libzmq receives: as the `zmq` crate's message, but that asking which connection it came by allocates
//! nothing.

use std::{
    ffi::{CStr, c_int},
    ops::Deref,
    slice,
};

use super::Socket;
use crate::{
    errno::Errno,
    error::{Error, Result},
};

/// What every peer says of itself, but for those of ZMTP 2 and before, and those over inproc.
const PROPERTY: &CStr = c"Socket-Type";

/// A frame of a message, or an empty one.
pub(crate) struct Frame {
    raw: zmq_sys::zmq_msg_t,
}

impl Frame {
    pub(crate) fn new() -> Self {
        let mut raw = zmq_sys::zmq_msg_t::default();
        // SAFETY: makes an empty message of the space, which can't fail. Libzmq lets messages be moved as they are.
        unsafe { zmq_sys::zmq_msg_init(&raw mut raw) };
        Self { raw }
    }

    /// Returns the same frame once more: large ones are not copied.
    pub(crate) fn share(&mut self) -> Self {
        let mut shared = Self::new();
        // SAFETY: both are messages. It fails for those that are none only.
        unsafe { zmq_sys::zmq_msg_copy(&raw mut shared.raw, &raw mut self.raw) };
        shared
    }

    /// Tells whether its message has another frame behind it.
    pub(crate) fn has_more(&self) -> bool {
        // SAFETY: it is a message, which is only looked at.
        unsafe { zmq_sys::zmq_msg_more(&raw const self.raw) != 0 }
    }

    /// Returns where the properties of the peer lie that it came from, if that has said any: once for all frames of a
    /// connection, as long as there are any.
    pub(crate) fn properties_at(&self) -> Option<usize> {
        // SAFETY: it is a message, which is only looked at, and the name ends with a zero.
        let value = unsafe { zmq_sys::zmq_msg_gets(&raw const self.raw, PROPERTY.as_ptr()) };
        (!value.is_null()).then(|| value.addr())
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let raw = &raw const self.raw;
        // SAFETY: it is a message, which neither call changes. Its bytes stay where they are as long as it is borrowed.
        unsafe {
            let data = zmq_sys::zmq_msg_data(raw.cast_mut());
            slice::from_raw_parts(data.cast(), zmq_sys::zmq_msg_size(raw))
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: it is a message, and no longer used.
        unsafe { zmq_sys::zmq_msg_close(&raw mut self.raw) };
    }
}

impl Socket {
    /// Receives a frame, in place of what it held. Returns whether there was one: always, if it is to wait for one.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    #[inline]
    pub(crate) fn receive(&self, frame: &mut Frame, waits: bool) -> Result<bool> {
        let flags = if waits { 0 } else { zmq_sys::ZMQ_DONTWAIT };
        loop {
            // SAFETY: the socket is live, and not `Sync`, so no other thread is in one of its calls; `frame` is a
            // message.
            let received =
                unsafe { zmq_sys::zmq_msg_recv(&raw mut frame.raw, self.pointer, flags as c_int) };
            if received >= 0 {
                return Ok(true);
            }
            let reason = Errno::last();
            if reason.is(zmq::Error::EAGAIN) && !waits {
                return Ok(false);
            }
            if !reason.is(zmq::Error::EINTR) {
                return Err(Error::zmq("receiving")(reason));
            }
        }
    }
}
