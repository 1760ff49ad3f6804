//! Lanes: pinned receive threads. An engine turns sockets into frames, the router behind it turns
//! frames into batches for workers; the router is the same whatever the engine.

mod libzmq;
mod quota;
mod reconnect;
mod router;

pub(crate) use libzmq::{LibzmqLane, Opening, Source};
pub use quota::Quota;
pub(crate) use router::{Router, Routing};
