//! Endpoints as ZeroMQ writes them: `tcp://HOST:PORT`, `tcp://[IPV6]:PORT`, `ipc://PATH`.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs},
    str::FromStr,
};

use socket2::SockAddr;

/// The longest path of a Unix socket, without the terminating zero.
const IPC_PATH_BYTES_MAX: usize = 107;

/// An endpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port of a host.
    Tcp {
        /// The host.
        host: Host,
        /// The port, 0 for any that is free.
        port: u16,
    },
    /// A Unix socket.
    Ipc {
        /// Its path. `@` in front stands for a name outside the file system, and `*` for any path.
        path: String,
    },
}

/// The host of a TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// All addresses of this machine, to bind.
    Any,
    /// An address.
    Address(IpAddr),
    /// An IPv6 address on the network card of this name or number.
    Scoped(Ipv6Addr, String),
    /// A host's name, or that of a network card.
    Name(String),
}

/// The text is not an endpoint that feeds come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl FromStr for Endpoint {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.chars().any(char::is_control) {
            return Err(Malformed("it has a control character"));
        }
        if let Some(path) = text.strip_prefix("ipc://") {
            return match path.len() {
                0 => Err(Malformed("it has no path")),
                1..=IPC_PATH_BYTES_MAX => Ok(Self::Ipc {
                    path: path.to_owned(),
                }),
                _ => Err(Malformed(
                    "its path is longer than the 107 bytes that Unix sockets allow",
                )),
            };
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err(Malformed("it is not of a transport that feeds come by"));
        };
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err(Malformed("it has no port"));
        };
        let port = match (port, port.parse()) {
            ("*", _) => 0,
            (_, Ok(port)) => port,
            _ => return Err(Malformed("its port is not a number up to 65535")),
        };
        let host = host.parse()?;
        Ok(Self::Tcp { host, port })
    }
}

impl FromStr for Host {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if let Some(bracketed) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let (address, scope) = match bracketed.split_once('%') {
                Some((address, scope)) => (address, Some(scope)),
                None => (bracketed, None),
            };
            let address: Ipv6Addr = address
                .parse()
                .map_err(|_| Malformed("what stands in brackets is not an IPv6 address"))?;
            return Ok(match scope {
                Some(scope) => Self::Scoped(address, scope.to_owned()),
                None => Self::Address(address.into()),
            });
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Malformed("an IPv6 address has to stand in brackets"));
        }
        if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            let address = text
                .parse()
                .map_err(|_| Malformed("its host is not an address"))?;
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        if is_name(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(Malformed("its host is not a name or an address"))
    }
}

/// Tells whether this may be the name of a host or a network card.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner)
}

impl Endpoint {
    /// Tells whether finding its addresses may take a look at the network.
    #[must_use]
    pub fn has_name(&self) -> bool {
        matches!(
            self,
            Self::Tcp {
                host: Host::Name(_),
                ..
            }
        )
    }

    /// Finds the addresses that it stands for now, at least one. Blocks while a host's name is looked
    /// up.
    ///
    /// # Errors
    /// The resolver's, or that there is no such network card.
    pub fn addresses(&self) -> io::Result<Vec<SockAddr>> {
        let (host, port) = match self {
            Self::Ipc { path } => return Ok(vec![unix_address(path)?]),
            Self::Tcp { host, port } => (host, *port),
        };
        let addresses: Vec<SockAddr> = match host {
            Host::Any => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()],
            Host::Address(address) => vec![SocketAddr::from((*address, port)).into()],
            Host::Scoped(address, scope) => {
                let scope_id = scope_id(scope)?;
                vec![SocketAddrV6::new(*address, port, 0, scope_id).into()]
            }
            Host::Name(name) => (name.as_str(), port)
                .to_socket_addrs()?
                .map(SockAddr::from)
                .collect(),
        };
        if addresses.is_empty() {
            return Err(io::Error::other("the name stands for no address"));
        }
        Ok(addresses)
    }
}

/// Returns the address of a Unix socket, `@` standing for a name outside the file system.
pub(super) fn unix_address(path: &str) -> io::Result<SockAddr> {
    match path.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path),
    }
}

fn scope_id(scope: &str) -> io::Result<u32> {
    if let Ok(number) = scope.parse() {
        return Ok(number);
    }
    let index = fs::read_to_string(format!("/sys/class/net/{scope}/ifindex"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    index.ok_or_else(|| io::Error::other(format!("there is no network card {scope}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: Host, port: u16) -> Endpoint {
        Endpoint::Tcp { host, port }
    }

    #[test]
    fn forms_are_told_apart() {
        for (text, expected) in [
            (
                "tcp://10.0.0.1:5556",
                tcp(Host::Address([10, 0, 0, 1].into()), 5556),
            ),
            ("tcp://*:*", tcp(Host::Any, 0)),
            (
                "tcp://[::1]:7",
                tcp(Host::Address(Ipv6Addr::LOCALHOST.into()), 7),
            ),
            (
                "tcp://[fe80::1%eth0]:7",
                tcp(Host::Scoped("fe80::1".parse().unwrap(), "eth0".into()), 7),
            ),
            (
                "tcp://feed.example:0",
                tcp(Host::Name("feed.example".into()), 0),
            ),
            (
                "ipc:///tmp/feed",
                Endpoint::Ipc {
                    path: "/tmp/feed".into(),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "tcp://",
            "tcp://host",
            "tcp://host:port",
            "tcp://host:65536",
            "tcp://::1:5",
            "tcp://1.2.3:5",
            "tcp://ho st:5",
            "tcp://[nope]:5",
            "ipc://",
            "inproc://x",
            "udp://1.2.3.4:5",
            "tcp://a\n:5",
            "",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn scopes_are_names_or_numbers_of_cards() {
        let addresses = |text: &str| text.parse::<Endpoint>().unwrap().addresses();
        let by_name = addresses("tcp://[fe80::1%lo]:7").unwrap();
        let by_number = addresses("tcp://[fe80::1%1]:7").unwrap();
        assert_eq!(by_name, by_number);
        assert!(addresses("tcp://[fe80::1%nosuch0]:7").is_err());
    }
}
