//! Whatever frames a Clone server or client is sent: see `check`.

#![no_main]

#[path = "../../tests/support/kvmsg_frames.rs"]
mod kvmsg_frames;

libfuzzer_sys::fuzz_target!(|input: &[u8]| kvmsg_frames::check(input));
