//! Whatever a peer sends: see `check`.

#![no_main]

#[path = "../../tests/support/zmtp_stream.rs"]
mod zmtp_stream;

libfuzzer_sys::fuzz_target!(|input: &[u8]| zmtp_stream::check(input));
