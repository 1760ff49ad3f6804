//! A line as the router sees it: what its messages look like, and who looks at their numbers.

use crate::{
    envelope::Envelope,
    lane::{join::Join, merge::Share},
    message::Origin,
    sequence::Tracker,
};

/// A line of a lane.
pub(crate) struct LineRoute {
    pub origin: Origin,
    pub envelope: Envelope,
    pub watch: Watch,
    /// How many connections were made.
    pub made: u32,
    /// The number of the one that what comes next came by, from 1.
    pub connection: u32,
}

impl LineRoute {
    /// A line without a connection yet.
    pub(crate) fn new(origin: Origin, envelope: Envelope, watch: Watch) -> Self {
        Self {
            origin,
            envelope,
            watch,
            made: 0,
            connection: 0,
        }
    }
}

/// Who looks at the numbers of a line's messages, and listens for its silence.
pub(crate) enum Watch {
    /// Nobody.
    Nothing,
    /// The line is a part of its feed.
    Tracked(Box<Tracker>),
    /// The line is a copy of its feed's others.
    Merged(Share),
    /// The line is all of its feed, and takes snapshots.
    Joined(Box<Join>),
}
