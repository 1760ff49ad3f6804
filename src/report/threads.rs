//! What people are told of threads.

use crate::{pipeline::ThreadOutcome, report::times};

/// From so many times a second on that a thread loses its core people are told.
const TAKEN_OFTEN_PER_S: f64 = 100.0;

/// Says of a thread that it was off its core, or lost it often while messages flowed for `elapsed_s`.
pub(super) fn disturbed(thread: &ThreadOutcome, elapsed_s: f64) -> Option<String> {
    let mut said = Vec::new();
    if let (Some(wanted), Some(now)) = (thread.placement.core_wanted, thread.core_now)
        && wanted != now
    {
        said.push(format!("ran on core {now} in the end, not on {wanted}"));
    }
    let taken = thread.involuntary_switches.unwrap_or(0);
    // A short run's start counts, too.
    if taken as f64 > TAKEN_OFTEN_PER_S * elapsed_s.max(1.0) {
        said.push(format!("lost its core {}", times(taken)));
        if let Some(moved @ 1..) = thread.migrations {
            said.push(format!("went on on another {}", times(moved)));
        }
    }
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::pin::Placement;

    #[test]
    fn only_what_is_out_of_order_is_said() {
        let thread = |core_now, taken, migrations| ThreadOutcome {
            placement: Placement {
                name: "worker-0".to_owned(),
                core_wanted: Some(1),
                core_got: Some(1),
            },
            core_now,
            involuntary_switches: taken,
            migrations,
        };
        let said = |thread: ThreadOutcome| disturbed(&thread, 2.0);
        assert_eq!(said(thread(Some(1), Some(200), Some(7))), None);
        assert_eq!(said(thread(None, None, None)), None);
        let off = "ran on core 0 in the end, not on 1";
        assert_eq!(said(thread(Some(0), Some(1), None)).as_deref(), Some(off));
        let both = format!("{off}, lost its core 1,201 times, went on on another 7 times");
        assert_eq!(said(thread(Some(0), Some(1_201), Some(7))), Some(both));
        let lost = "lost its core 201 times";
        assert_eq!(
            said(thread(Some(1), Some(201), Some(0))).as_deref(),
            Some(lost)
        );
    }
}
