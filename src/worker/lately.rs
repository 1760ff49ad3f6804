//! What a worker's thread did lately: the evidence where a batch took long, of whether its handler computed, waited,
//! or did not get its core.
//!
//! The thread looks at itself behind a batch, and when it is idle, when a look is older than [`RENEW_NS`]: a look takes
//! some microseconds, and would make a message late that waits for it. Whoever waits for it may look as well. Times are
//! nanoseconds of the pipeline's clock.

use crate::host::probe::{Probe, Sample};

/// How old a look may be before it is renewed.
const RENEW_NS: u64 = 100_000_000;

/// The last look of a thread at itself, or of another at it.
#[derive(Debug)]
pub(crate) struct Lately {
    probe: Probe,
    at_ns: u64,
    sample: Option<Sample>,
}

impl Lately {
    /// Begins without a look. `probe` is the thread's own.
    pub(crate) fn new(probe: Probe) -> Self {
        Self {
            probe,
            at_ns: 0,
            sample: None,
        }
    }

    /// Takes the first look, and lets others look at the thread. To be called by the thread itself.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.probe.attach();
        self.renew(now_ns);
    }

    /// Takes the first look, unless that was done.
    pub(super) fn look_first(&mut self, now_ns: u64) {
        if self.sample.is_none() {
            self.renew(now_ns);
        }
    }

    /// Renews the look where it is due.
    #[inline]
    pub(super) fn note(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.at_ns) > RENEW_NS {
            self.renew(now_ns);
        }
    }

    #[cold]
    fn renew(&mut self, now_ns: u64) {
        (self.at_ns, self.sample) = (now_ns, self.probe.sample());
    }

    /// Returns what it did since, to be put behind other evidence; nothing where that is not known.
    pub(super) fn evidence(&self, now_ns: u64) -> String {
        let (Some(before), Some(now)) = (&self.sample, self.probe.sample()) else {
            return String::new();
        };
        let for_ms = now_ns.saturating_sub(self.at_ns) / 1_000_000;
        format!("; in the last {for_ms} ms its thread {}", now.since(before))
    }
}
