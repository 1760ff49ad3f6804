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
