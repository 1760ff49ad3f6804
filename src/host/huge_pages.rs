//! Huge pages for the memory that a process has, or none: a core keeps few translations of addresses, and one of a huge
//! page stands for 512 others; but what is touched of memory takes 2 MiB at least then.
//!
//! They are the kernel's transparent ones, so none have to be set aside beforehand. Some allocators ask for them, and say
//! nothing where there are none; [`advise`] does. Memory gets one where as much of it as one has is touched for the first
//! time, so that is to be called when all has its memory and little of it is in use.

#![allow(
    unsafe_code,
    reason = "advice on memory can be harmful; this one is not"
)]

use std::{ffi::c_void, fs, ptr};

use rustix::{
    io::Errno,
    mm::{Advice, madvise},
    thread::disable_transparent_huge_pages,
};

use crate::error::{Error, Result};

/// Which memory gets huge pages: what is in brackets.
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// Their bytes.
const SIZE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
const MAPS: &str = "/proc/self/maps";

/// Has this process, and those that it starts, do without huge pages from here on, whoever asks for them, until
/// [`advise`] does.
pub fn decline() {
    // Where that is not allowed there are those that the allocator asks for, which takes memory and harms nothing.
    let _ = disable_transparent_huge_pages(true);
}

/// Asks for huge pages for all anonymous memory that this process has so far, and allows them to it again, whoever had
/// declined them.
///
/// # Errors
/// [`Error::Config`] for `threads.huge_pages`, where the kernel gives none.
pub fn advise() -> Result<()> {
    check(&read(ENABLED)?)?;
    disable_transparent_huge_pages(false).map_err(|reason| {
        refused(
            format!("the kernel does not allow them to this process ({reason})"),
            "allow it PR_SET_THP_DISABLE of prctl; or leave huge_pages out",
        )
    })?;
    let said = read(SIZE)?;
    let size = said.trim().parse();
    let size = size.map_err(|_| unsuited(format!("{SIZE} is {:?}", said.trim())))?;
    for (start, bytes) in anonymous(&read(MAPS)?).filter(|&(_, bytes)| bytes >= size) {
        let start = ptr::without_provenance_mut::<c_void>(start);
        // SAFETY: which pages hold memory changes nothing of what is in it, whoever has it by now.
        match unsafe { madvise(start, bytes, Advice::LinuxHugepage) } {
            // Some of it is gone by now: the rest was asked for.
            Ok(()) | Err(Errno::NOMEM) => {}
            Err(reason) => return Err(unsuited(format!("it refused them ({reason})"))),
        }
    }
    Ok(())
}

fn refused(problem: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::config("threads.huge_pages", true, problem, remedy)
}

/// The kernel has no such thing.
fn unsuited(problem: String) -> Error {
    refused(
        format!("the kernel gives no transparent huge pages: {problem}"),
        "take one that has CONFIG_TRANSPARENT_HUGEPAGE; or leave huge_pages out",
    )
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|reason| unsuited(format!("{path}: {reason}")))
}

/// Checks that the kernel gives huge pages.
fn check(enabled: &str) -> Result<()> {
    if !["[always]", "[madvise]"]
        .iter()
        .any(|word| enabled.contains(word))
    {
        return Err(refused(
            format!("{ENABLED} is {:?}", enabled.trim()),
            format!("allow them with `echo madvise >{ENABLED}`, as root; or leave huge_pages out"),
        ));
    }
    Ok(())
}

/// Returns start and length of the private mappings that are of no file, of what `/proc/PID/maps` shows: address, rights,
/// offset, device, inode, name.
fn anonymous(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (rights, inode) = (fields.next()?, fields.nth(2)?);
        let is_heap = fields
            .next()
            .is_none_or(|name| name == "[heap]" || name.starts_with("[anon"));
        if !rights.ends_with('p') || inode != "0" || !is_heap {
            return None;
        }
        let number = |digits| usize::from_str_radix(digits, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        Some((start, end - start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_gives_none_is_named_with_the_remedy() {
        assert!(check("always [madvise] never\n").is_ok());
        assert!(check("[always] madvise never\n").is_ok());
        let error = check("always madvise [never]\n").unwrap_err().to_string();
        for text in [
            "threads.huge_pages = true",
            "madvise [never]",
            "echo madvise >",
        ] {
            assert!(error.contains(text), "{text:?} is not in {error}");
        }
    }

    /// Whether huge pages are asked for for the mapping that a place is in.
    fn is_advised(place: usize) -> bool {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        let is_in = |line: &str| {
            let (range, _) = line.split_once(' ').unwrap_or_default();
            let bound = |digits| usize::from_str_radix(digits, 16).ok();
            let bounds = range
                .split_once('-')
                .map(|(start, end)| (bound(start), bound(end)));
            matches!(bounds, Some((Some(start), Some(end))) if (start..end).contains(&place))
        };
        lines.find(|line| is_in(line)).expect("it is mapped");
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
        flags
            .expect("it has flags")
            .split_whitespace()
            .any(|flag| flag == "hg")
    }

    #[test]
    fn all_memory_that_is_there_is_asked_for() {
        if let Err(refused) = read(ENABLED).and_then(|enabled| check(&enabled)) {
            println!("SKIPPED: {refused}");
            return;
        }
        let memory = Vec::<u8>::with_capacity(16 << 20);
        let place = memory.as_ptr().addr() + memory.capacity() / 2;
        assert!(!is_advised(place));
        advise().unwrap();
        assert!(is_advised(place));
    }

    #[test]
    fn only_private_memory_of_no_file_is_asked_for() {
        let maps = "\
            2000-5000 rw-p 00000000 00:00 0 \n\
            6000-7000 ---p 00000000 00:00 0                          [anon:arena]\n\
            7000-8000 rw-p 00000000 00:00 0                          [heap]\n\
            8000-9000 rw-p 00000000 00:00 0                          [stack]\n\
            9000-a000 rw-p 00001000 08:01 77                         /usr/bin/it\n\
            a000-b000 rw-s 00000000 00:00 0\n";
        let found: Vec<_> = anonymous(maps).collect();
        assert_eq!(
            found,
            [(0x2000, 0x3000), (0x6000, 0x1000), (0x7000, 0x1000)]
        );
    }
}
