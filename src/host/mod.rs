//! The machine: which cores and network cards there are, and how a thread gets and keeps its core.

pub mod environment;
pub mod pin;
pub(crate) mod probe;
pub mod topology;
