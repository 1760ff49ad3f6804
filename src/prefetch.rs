//! A hint to the processor: what will be read before long.
//!
//! Where something lies that is found by a hash no processor can guess, so it begins to wait when it gets there, and
//! whatever comes after waits as well. A read ahead of time is waited for just so; a hint is not.

#![allow(
    unsafe_code,
    reason = "the processor's instruction is given an address, and takes any"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::ptr;

use hashbrown::HashTable;

const LINE_BYTES: usize = 64;

/// Has the cache lines fetched that `what` is in, where it is aligned so that these are as few as can be. On other
/// processors than x86-64 nothing happens.
#[inline(always)]
pub(crate) fn prefetch<T>(what: &T) {
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        let address = ptr::from_ref(what).cast::<i8>().wrapping_add(offset);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 has this instruction; it reads and writes nothing that a program can see, and refuses no
        // address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }
}

/// Has the entry of a table fetched that a hash most likely stands for.
#[inline(always)]
pub(crate) fn prefetch_found<T>(table: &HashTable<T>, hash: u64) {
    table.find(hash, |entry| {
        prefetch(entry);
        // To look whether it is the one would be to wait for it.
        true
    });
}
