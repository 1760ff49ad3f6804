//! Sockets without libzmq: endpoints, non-blocking TCP and Unix sockets with the options that feeds
//! need, and waiting for many of them; names looked up aside, and when to connect again.

mod backoff;
mod endpoint;
mod poller;
mod resolver;
mod socket;

pub use backoff::Backoff;
pub use endpoint::{Endpoint, Host, Malformed};
pub use poller::{Interest, Poller, Ready};
pub use resolver::{Answer, Resolver};
pub use socket::{Listener, SocketOptions, begin_connect, is_exhausted, is_not_ready};
