//! Lanes: pinned receive threads. An engine turns sockets into frames, the router behind it turns
//! frames into batches for workers; the router is the same whatever the engine.

mod attendance;
mod attention;
mod dispatch;
mod fields;
mod join;
mod libzmq;
mod line;
mod merge;
mod native;
mod orders;
mod pressure;
mod quota;
mod reach;
mod router;
mod sorter;
mod subscriptions;
mod tally;
mod told;

use std::fmt;

pub use attendance::Absence;
pub(crate) use dispatch::{Dispatch, Routing};
pub(crate) use join::Join;
pub(crate) use libzmq::LibzmqLane;
pub(crate) use line::{LineRoute, Watch};
pub(crate) use merge::{Merge, Share};
pub(crate) use native::NativeLane;
pub(crate) use orders::{Change, MoveOrder, Order, OrderSender, Orders, orders};
pub(crate) use pressure::{Pressure, Work};
pub use quota::Quota;
pub(crate) use reach::Reach;
pub use reach::{Source, Unreached};
pub(crate) use router::Router;
pub(crate) use tally::Tally;

use crate::{
    clock::Clock,
    config,
    error::{Error, Result},
    message::Origin,
    stop::Stop,
    wait::Wait,
};

/// What every lane works with, whatever its engine.
pub(crate) struct Setup {
    pub clock: Clock,
    pub wait: Wait,
    pub quota: Quota,
    pub stop: Stop,
    pub orders: Orders,
}

/// A line that a lane receives.
pub(crate) struct Assigned<'a> {
    pub feed: &'a config::Feed,
    pub line: &'a config::Line,
    pub origin: Origin,
    /// The line's key in the configuration.
    pub key: String,
}

impl Assigned<'_> {
    fn refused(
        &self,
        side: &str,
        index: usize,
        endpoint: &str,
        reason: &dyn fmt::Display,
    ) -> Error {
        Error::config(
            format!("{}.{side}[{index}]", self.key),
            endpoint,
            format!("it was refused ({reason})"),
            "give a host and a port that this machine can use",
        )
    }
}

/// A lane, ready to run on a thread of its own.
#[expect(
    clippy::large_enum_variant,
    reason = "there are a few of them, and each is moved once"
)]
pub(crate) enum Lane {
    Native(NativeLane),
    Libzmq(LibzmqLane),
}

impl Lane {
    /// Returns the endpoints that publishers may connect to.
    pub(crate) fn bound(&self) -> Vec<String> {
        match self {
            Self::Native(lane) => lane.bound().map(str::to_owned).collect(),
            Self::Libzmq(lane) => lane.bound().map(str::to_owned).collect(),
        }
    }

    /// Returns what will tell which of its endpoints were reached.
    pub(crate) fn reaches(&self) -> Vec<Reach> {
        match self {
            Self::Native(lane) => lane.reaches().cloned().collect(),
            Self::Libzmq(lane) => lane.reaches().cloned().collect(),
        }
    }

    /// Receives until asked to stop, or the quota is used up.
    ///
    /// # Errors
    /// The engine's, where waiting or receiving fails, and what [`Router::route`] gives.
    pub(crate) fn run(self, router: Router) -> Result<()> {
        match self {
            Self::Native(lane) => lane.run(router),
            Self::Libzmq(lane) => lane.run(router),
        }
    }
}
