//! A lane, and what it is tied to.

use serde::Deserialize;

/// A pinned receive thread, tied to one network card.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// The name that lines refer to, and that the thread carries.
    pub name: String,
    /// The core of the receive thread.
    pub core: Option<usize>,
    /// The core of libzmq's I/O thread. The native engine has none.
    pub io_core: Option<usize>,
    /// The network card to receive over, by name: `SO_BINDTODEVICE`.
    pub nic: Option<String>,
    /// The address to connect from, which routing may tie to a card.
    pub source: Option<std::net::IpAddr>,
}

impl Lane {
    /// A lane that is tied to nothing.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            core: None,
            io_core: None,
            nic: None,
            source: None,
        }
    }
}
