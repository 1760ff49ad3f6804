//! A hint to the processor: what will be read before long.
//!
//! Where something lies that is found by a hash no processor can guess, so it begins to wait when it gets there, and
//! whatever comes after waits as well. A read ahead of time helps little: it is waited for, too. A hint is not.

#![allow(
    unsafe_code,
    reason = "the processor's instruction is given an address, and takes any"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::ptr;

const LINE_BYTES: usize = 64;

/// Has the cache line fetched that `what` begins in, and of what is larger those that follow. On other processors
/// than x86-64 nothing happens.
#[inline(always)]
pub(crate) fn prefetch<T>(what: &T) {
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        let address = ptr::from_ref(what).cast::<i8>().wrapping_add(offset);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: nothing is read or written as far as the program can tell, and no address is refused.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }
}
