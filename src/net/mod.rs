//! Sockets without libzmq: endpoints, non-blocking TCP and Unix sockets with the options that feeds
//! need, and waiting for many of them.

mod endpoint;
mod poller;
mod socket;

pub use endpoint::{Endpoint, Host, Malformed};
pub use poller::{Interest, Poller, Ready};
pub use socket::{Listener, SocketOptions, begin_connect, is_not_ready};
