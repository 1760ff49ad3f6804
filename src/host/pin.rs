//! Tying a thread to a core, and reading back from the kernel whether it is.
//!
//! Several of the usual calls succeed and do nothing, so no pin is believed that the kernel's own
//! mask does not show.

use core_affinity::CoreId;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where a thread was to run, and where the kernel lets it run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The thread's name.
    pub name: String,
    /// The core asked for, if any.
    pub core_wanted: Option<usize>,
    /// The core that the kernel's mask ties it to; none where the mask has several.
    pub core_got: Option<usize>,
}

impl Placement {
    /// Tells whether a core was asked for and not given.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.core_wanted.is_some() && self.core_got != self.core_wanted
    }
}

/// Ties the calling thread to a core, if one is wanted. With `strict` a failure is an error.
///
/// # Errors
/// [`Error::Pin`], only with `strict`.
pub fn pin_current(name: &str, core: Option<usize>, strict: bool) -> Result<Placement> {
    place(name, core, strict, None, |id| {
        if core_affinity::set_for_current(CoreId { id }) {
            Ok(())
        } else {
            Err("the kernel refused it".to_owned())
        }
    })
}

/// Ties another thread of this process to a core, if one is wanted, by its thread id.
///
/// # Errors
/// As [`pin_current`].
pub fn pin_thread(name: &str, thread: Pid, core: Option<usize>, strict: bool) -> Result<Placement> {
    place(name, core, strict, Some(thread), |id| {
        let mut mask = CpuSet::new();
        mask.set(id);
        sched_setaffinity(Some(thread), &mask)
            .map_err(|refused| format!("the kernel refused it ({refused})"))
    })
}

/// Confines the calling thread, and what it starts, to some cores.
///
/// # Errors
/// Where the kernel refuses it, or there are no such cores.
pub fn confine_current(cores: &[usize]) -> std::io::Result<()> {
    let mut mask = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        mask.set(core);
    }
    Ok(sched_setaffinity(None, &mask)?)
}

fn place(
    name: &str,
    core_wanted: Option<usize>,
    strict: bool,
    thread: Option<Pid>,
    pin: impl FnOnce(usize) -> std::result::Result<(), String>,
) -> Result<Placement> {
    let outcome = match core_wanted {
        Some(core) if core < CpuSet::MAX_CPU => pin(core),
        Some(_) => Err(format!(
            "the kernel counts cores up to {}",
            CpuSet::MAX_CPU - 1
        )),
        None => Ok(()),
    };
    let allowed = cores_allowed(thread);
    let placement = Placement {
        name: name.to_owned(),
        core_wanted,
        core_got: only(&allowed),
    };
    match core_wanted {
        Some(core) if strict && placement.failed() => Err(Error::Pin {
            thread: name.to_owned(),
            core,
            found: outcome.err().unwrap_or_else(|| {
                let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
                format!("may run on {}", allowed.join(", "))
            }),
        }),
        _ => Ok(placement),
    }
}

/// Returns the cores in a thread's affinity mask, ascending; the calling thread's for `None`.
#[must_use]
pub fn cores_allowed(thread: Option<Pid>) -> Vec<usize> {
    sched_getaffinity(thread).map_or_else(
        |_| Vec::new(),
        |mask| {
            (0..CpuSet::MAX_CPU)
                .filter(|&core| mask.is_set(core))
                .collect()
        },
    )
}

/// Returns the one core that a thread may run on, if it is one.
pub(crate) fn core_tied(thread: Option<Pid>) -> Option<usize> {
    only(&cores_allowed(thread))
}

/// Tells whether a thread may run on this core and no other, without allocating; `None` where it has ended.
pub(crate) fn is_tied_to(thread: Pid, core: usize) -> Option<bool> {
    let mask = sched_getaffinity(Some(thread)).ok()?;
    Some(core < CpuSet::MAX_CPU && mask.is_set(core) && mask.count() == 1)
}

fn only(cores: &[usize]) -> Option<usize> {
    match cores {
        [only] => Some(*only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::topology::usable_cores;
    use std::thread;

    #[test]
    fn a_pinned_thread_runs_on_its_core() {
        for core in usable_cores() {
            let (placement, ran_on) = thread::spawn(move || {
                let placement = pin_current("test", Some(core), true).unwrap();
                (placement, rustix::thread::sched_getcpu())
            })
            .join()
            .unwrap();
            assert_eq!(placement.core_got, Some(core));
            assert_eq!(ran_on, core);
        }
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error_or_shows() {
        let absent = usable_cores().last().unwrap() + 1;
        for core in [absent, CpuSet::MAX_CPU, usize::MAX] {
            let (strict, lenient) = thread::spawn(move || {
                (
                    pin_current("test", Some(core), true),
                    pin_current("test", Some(core), false),
                )
            })
            .join()
            .unwrap();
            assert!(matches!(strict, Err(Error::Pin { .. })));
            assert!(lenient.unwrap().failed());
        }
    }
}
