//! Bindings to libzmq 4.3.5 for Linux, complete: with CURVE, thread options and the draft API.
//!
//! A stand-in for the `zmq-sys` of crates.io under the [`zmq`](https://docs.rs/zmq/0.10) crate,
//! with the same names and types. What differs is the library behind them, which `build.rs`
//! compiles with the features of Linux switched on.
//!
//! The items are those of `zmq.h`, which the manual pages of libzmq document. Left out are its
//! deprecated functions, its utilities beside messaging and the draft poller.

#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod errno;

#[allow(missing_docs, non_camel_case_types)]
#[rustfmt::skip]
mod ffi;

pub use ffi::*;
pub use std::os::fd::RawFd;

impl Default for zmq_msg_t {
    /// Space for a message, which one of the `zmq_msg_init*` functions must initialise before any
    /// other use.
    fn default() -> Self {
        Self { __: [0; 64] }
    }
}
