//! Real-time scheduling and memory that stays where it is, both read back from the kernel.
//!
//! `SCHED_FIFO` is given so that what a thread starts is not real-time itself: what a user's handler starts
//! would run before everything else otherwise.

#![allow(
    unsafe_code,
    reason = "the scheduler's calls are libc's: no safe crate of ours has them"
)]

use std::{fs, io};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{Resource, getrlimit},
    thread::{CapabilitySet, Pid, capabilities, gettid},
};

use crate::error::{Error, Result};

/// The highest priority of `SCHED_FIFO`; the lowest is 1.
pub const FIFO_MAX: u32 = 99;

/// Gives a thread of this process a priority of `SCHED_FIFO`; the calling thread for `None`. Zero gives
/// nothing.
///
/// # Errors
/// [`Error::Config`] for `threads.fifo`, where the kernel refuses it or shows something else afterwards.
pub fn set_fifo(name: &str, thread: Option<Pid>, priority: u32) -> Result<()> {
    if priority == 0 {
        return Ok(());
    }
    let thread = thread.unwrap_or_else(gettid).as_raw_nonzero().get();
    let refused = |problem: String| {
        Error::config(
            "threads.fifo",
            priority,
            format!("{name} {problem}"),
            format!(
                "allow it with LimitRTPRIO={priority} in its systemd unit, `ulimit -r {priority}`, or `setcap \
                 cap_sys_nice+ep` on the binary; or leave fifo out"
            ),
        )
    };
    let wanted = (
        libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
        priority as i32,
    );
    set_scheduler(thread, wanted).map_err(|reason| {
        refused(format!(
            "was not let run in real time ({reason}): RLIMIT_RTPRIO is {}, {} CAP_SYS_NICE",
            limit(Resource::Rtprio),
            with(CapabilitySet::SYS_NICE),
        ))
    })?;
    match scheduler(thread) {
        Ok(found) if found == wanted => Ok(()),
        Ok((policy, found)) => Err(refused(format!(
            "reads back as policy {policy} with priority {found}"
        ))),
        Err(reason) => Err(refused(format!("can't be read back ({reason})"))),
    }
}

/// Locks all memory that this process has and will have.
///
/// A limit is refused although what there is now would fit: what goes beyond it later would end the process.
///
/// # Errors
/// [`Error::Config`] for `threads.lock_memory`, where that is not allowed, or nothing is locked afterwards.
pub fn lock_memory() -> Result<()> {
    let refused = |problem: String| {
        Error::config(
            "threads.lock_memory",
            true,
            problem,
            "allow it with LimitMEMLOCK=infinity in its systemd unit, `ulimit -l unlimited`, or `setcap \
             cap_ipc_lock+ep` on the binary; or leave lock_memory out",
        )
    };
    let rights = format!(
        "RLIMIT_MEMLOCK is {} bytes, {} CAP_IPC_LOCK",
        limit(Resource::Memlock),
        with(CapabilitySet::IPC_LOCK)
    );
    if getrlimit(Resource::Memlock).current.is_some() && !has(CapabilitySet::IPC_LOCK) {
        return Err(refused(rights));
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|reason| refused(format!("the kernel refused it ({reason}): {rights}")))?;
    match locked_kib() {
        Some(1..) => Ok(()),
        _ => Err(refused("/proc/self/status shows none in VmLck".to_owned())),
    }
}

/// Returns how much memory of this process is locked, in KiB, if the kernel says.
fn locked_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn limit(resource: Resource) -> String {
    let limit = getrlimit(resource).current;
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn has(right: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(right))
}

fn with(right: CapabilitySet) -> &'static str {
    if has(right) { "with" } else { "without" }
}

/// Sets a thread's policy and priority.
fn set_scheduler(thread: i32, (policy, priority): (i32, i32)) -> io::Result<()> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    parameter.sched_priority = priority;
    // SAFETY: `parameter` lives through the call, which only reads it.
    answer(unsafe { libc::sched_setscheduler(thread, policy, &raw const parameter) }).map(drop)
}

/// Returns a thread's policy and priority.
fn scheduler(thread: i32) -> io::Result<(i32, i32)> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: takes and returns integers.
    let policy = answer(unsafe { libc::sched_getscheduler(thread) })?;
    // SAFETY: `parameter` lives through the call, which writes all of it.
    answer(unsafe { libc::sched_getparam(thread, &raw mut parameter) })?;
    Ok((policy, parameter.sched_priority))
}

fn answer(status: i32) -> io::Result<i32> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}
