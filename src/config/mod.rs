//! What a pipeline is asked to do: lanes, feeds, workers, as data. `feeds.toml` in Rust.
//!
//! [`Config::load`] reads a file, the commands build the same structure from flags. [`Config::check`] checks either in
//! itself, [`Config::validate`] against this machine as well, before anything is started.

mod endpoint;
mod feed;
mod lane;
mod limits;
mod mistake;
mod name;
mod numbers;
mod placement;
mod policies;
mod schema;
mod snapshot;
mod validate;
mod wanted;

pub(crate) use endpoint::check_bind;
pub use feed::{Feed, Line, SocketKind};
pub use lane::Lane;
pub(crate) use limits::BATCH_MESSAGES_MAX;
pub use numbers::{Arbitration, QualityLimits, Sequence, StaleTopics};
pub use placement::Cores;
pub use policies::{OnLate, PolicyLimits, TopicPolicy};
pub use schema::{
    Config, CoreChoice, Engine, HandlerPanic, Handoff, PinPolicy, Receive, Sharding, ShardingMode,
    Threads, TopicOverride, Workers,
};
pub use snapshot::Snapshot;
