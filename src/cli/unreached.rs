//! Endpoints that nothing comes from: said while it is so, and at the end.

use std::time::Duration;

use crate::{
    cli::say,
    clock::Deadline,
    lane::{Source, Unreached},
    report::times,
};

/// What a publisher that starts with its subscriber may take.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Publishers that there is no connection to, from some time after the start until there is one.
pub(super) struct Awaited {
    /// When to look next, if at all.
    look_at: Option<Deadline>,
    /// Those that people were told of.
    told: Option<Vec<Unreached>>,
}

impl Awaited {
    pub(super) fn new() -> Self {
        Self {
            look_at: Some(Deadline::after(FIRST_LOOK)),
            told: None,
        }
    }

    /// Says what is new, where it is time to look: to be called some times a second.
    pub(super) fn look(&mut self, unreached: impl FnOnce() -> Vec<Unreached>) {
        if !self.look_at.as_ref().is_some_and(Deadline::passed) {
            return;
        }
        let mut unreached = unreached();
        unreached.retain(|one| one.source == Source::Publisher);
        match &mut self.told {
            None => {
                for one in &unreached {
                    say(format_args!(
                        "no connection to {} yet, {}; trying on",
                        place(one),
                        one.reason
                    ));
                }
                self.told = Some(unreached);
            }
            Some(told) => told.retain(|one| {
                let is_here = |other: &Unreached| place(other) == place(one);
                let is_unreached = unreached.iter().any(is_here);
                if !is_unreached {
                    say(format_args!("connected to {}", place(one)));
                }
                is_unreached
            }),
        }
        let waits = self.told.as_ref().is_some_and(|told| !told.is_empty());
        self.look_at = waits.then(|| Deadline::after(LOOK_EVERY));
    }
}

/// Warns of all that never had a connection, or gave no snapshot.
pub(super) fn warn(unreached: &[Unreached]) {
    for one in unreached {
        let what = match one.source {
            Source::Publisher => "never connected to",
            Source::Publishers => "no publisher came to",
            Source::Snapshots => "nothing is delivered before a snapshot, and none came from",
        };
        let failed = match one.attempts {
            0 => String::new(),
            attempts => format!("; failed {}", times(attempts)),
        };
        say(format_args!(
            "warning: {what} {}: {}{failed}",
            place(one),
            one.reason
        ));
    }
}

fn place(one: &Unreached) -> String {
    format!("{}, line {} of {}", one.endpoint, one.line, one.feed)
}
