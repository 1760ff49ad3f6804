//! What a pipeline is asked to do: lanes, feeds, workers, as data. `feeds.toml` in Rust.
//!
//! [`Config::load`] reads a file, the commands build the same structure from flags, and
//! [`Config::validate`] checks either against this machine before anything is started.

mod endpoint;
mod mistake;
mod numbers;
mod placement;
mod schema;
mod snapshot;
mod validate;
mod wanted;

pub(crate) use endpoint::check_bind;
pub use numbers::{Arbitration, QualityLimits, Sequence, StaleTopics};
pub use placement::Cores;
pub use schema::{
    Config, CoreChoice, Engine, Feed, HandlerPanic, Handoff, Lane, Line, OnLate, PinPolicy,
    PolicyLimits, Receive, Sharding, ShardingMode, SocketKind, Threads, TopicOverride, TopicPolicy,
    Workers,
};
pub use snapshot::Snapshot;
pub(crate) use validate::BATCH_MESSAGES_MAX;
