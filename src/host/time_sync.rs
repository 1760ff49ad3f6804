//! Whether the kernel takes its clock for synchronised, be it by NTP or PTP.

#![allow(
    unsafe_code,
    reason = "adjtimex is libc's: no safe crate of ours has it"
)]

use std::{io, mem};

/// From this on, 16 s, the kernel takes an error for unbounded, in microseconds: nobody has set the clock for long.
const ERROR_US_MAX: libc::c_long = 16_000_000;

/// Tells whether the clock's error is bounded, as who keeps it in step says it is. The flag `STA_UNSYNC` says less:
/// some set it only so that the kernel does not write to the hardware's clock.
pub(crate) fn synchronised() -> io::Result<bool> {
    // SAFETY: a `timex` is numbers, for all of which zero is a value.
    let mut times: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: with `modes` zero it only writes to what the pointer leads to, which is there for the call.
    match unsafe { libc::adjtimex(&raw mut times) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(times.maxerror < ERROR_US_MAX),
    }
}
