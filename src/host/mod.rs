//! The machine: which cores and network cards there are, how it is set up, and how a thread gets and keeps
//! its core.

pub mod cpulist;
pub mod doctor;
pub mod environment;
pub mod huge_pages;
pub mod machine;
pub mod pin;
pub mod plan;
pub(crate) mod probe;
pub mod realtime;
pub(crate) mod time_sync;
pub mod topology;
