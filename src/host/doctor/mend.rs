//! What mends a condition: a file of `tuning/`, or what to do.

use std::fmt;

/// A file of `tuning/`, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tuning {
    Sysctl,
    Tuned,
    IrqAffinity,
    NicLatency,
    Cpuset,
    KernelCommandLine,
    Service,
}

impl Tuning {
    /// Returns where it is in the repository.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Sysctl => "tuning/90-pinfeed.conf",
            Self::Tuned => "tuning/tuned/pinfeed/tuned.conf",
            Self::IrqAffinity => "tuning/irq-affinity",
            Self::NicLatency => "tuning/nic-latency",
            Self::Cpuset => "tuning/cpuset",
            Self::KernelCommandLine => "tuning/kernel-command-line.md",
            Self::Service => "tuning/pinfeed.service",
        }
    }
}

/// What mends a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// The file does.
    By(Tuning),
    /// The file does, in so far.
    ByAnd(Tuning, &'static str),
    /// Something else does.
    Do(&'static str),
}

impl fmt::Display for Mend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(file) => out.write_str(file.path()),
            Self::ByAnd(file, what) => write!(out, "{}; {what}", file.path()),
            Self::Do(what) => out.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_named_is_there() {
        let all = [
            Tuning::Sysctl,
            Tuning::Tuned,
            Tuning::IrqAffinity,
            Tuning::NicLatency,
            Tuning::Cpuset,
            Tuning::KernelCommandLine,
            Tuning::Service,
        ];
        for file in all {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file.path());
            assert!(path.is_file(), "{}", path.display());
        }
    }
}
