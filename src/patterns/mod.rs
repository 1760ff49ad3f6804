//! The ZeroMQ Guide's other patterns, as parts and as commands: each a folder with a machine that knows no
//! sockets, and its sockets at the edge, on one [reactor].

pub mod binary_star;
pub mod cache;
pub mod clone;
pub mod copies;
pub mod ends;
pub mod kvmsg;
pub mod reactor;
pub mod snapshot;
mod store_kind;
pub mod tap;
