//! Endpoints: what lanes can connect to, and what this machine can bind.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{
    config::Lane,
    error::{Error, Result},
    host::topology,
    net::{Endpoint, Host, Malformed},
};

const FORMS: &str = "write tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH";

fn parse(key: &str, endpoint: &str) -> Result<Endpoint> {
    endpoint
        .parse()
        .map_err(|problem: Malformed| Error::config(key, endpoint.escape_debug(), problem.0, FORMS))
}

/// Checks an endpoint that a lane is to connect to.
///
/// # Errors
/// [`Error::Config`] with `key`.
pub(crate) fn check_connect(key: &str, endpoint: &str, lane: &Lane) -> Result<()> {
    let refused =
        |problem: String, remedy: &str| Err(Error::config(key, endpoint, problem, remedy));
    match parse(key, endpoint)? {
        Endpoint::Tcp {
            host: Host::Any, ..
        }
        | Endpoint::Tcp { port: 0, .. } => refused(
            "one can't connect to a wildcard".to_owned(),
            "give the publisher's host and port, or use `bind`",
        ),
        Endpoint::Tcp {
            host: Host::Address(address),
            ..
        } if lane
            .source
            .is_some_and(|source| source.is_ipv4() != address.is_ipv4()) =>
        {
            refused(
                format!(
                    "lane {} connects from an address of the other kind",
                    lane.name
                ),
                "use a lane whose `source` is of the same kind, IPv4 or IPv6",
            )
        }
        Endpoint::Ipc { .. } => check_ipc_lane(key, endpoint, lane),
        Endpoint::Tcp { .. } => Ok(()),
    }
}

fn check_ipc_lane(key: &str, endpoint: &str, lane: &Lane) -> Result<()> {
    if lane.nic.is_none() && lane.source.is_none() {
        return Ok(());
    }
    Err(Error::config(
        key,
        endpoint,
        format!("ipc does not pass the network card of lane {}", lane.name),
        "use a lane without `nic` and `source`",
    ))
}

/// Checks whether a lane could bind an endpoint, on whatever machine.
///
/// # Errors
/// [`Error::Config`] with `key`.
pub(super) fn check_bind_of(key: &str, endpoint: &str, lane: &Lane) -> Result<()> {
    if endpoint.starts_with("ipc:") {
        check_ipc_lane(key, endpoint, lane)?;
    } else if let Some(source) = lane.source {
        return Err(Error::config(
            key,
            endpoint,
            format!(
                "lane {} has a `source`, which only connections are made from",
                lane.name
            ),
            format!("bind that address, tcp://{source}:PORT, on a lane without `source`"),
        ));
    }
    parse(key, endpoint).map(drop)
}

/// Checks that this machine can bind an endpoint, by binding it where that leaves nothing behind.
///
/// # Errors
/// [`Error::Config`] with `key`: it is malformed, in use, or no address of this machine.
pub(crate) fn check_bind(key: &str, endpoint: &str) -> Result<()> {
    match parse(key, endpoint)? {
        Endpoint::Ipc { path } => check_ipc_path(key, endpoint, Path::new(&path)),
        Endpoint::Tcp { host, port } => {
            let address = match host {
                Host::Any => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Host::Address(address) => address,
                // The card may come later.
                Host::Scoped(..) => return Ok(()),
                Host::Name(name) => return check_nic_name(key, endpoint, &name),
            };
            let bound = TcpListener::bind((address, port));
            bound.map(drop).map_err(|refused| {
                Error::config(
                    key,
                    endpoint,
                    format!("it can't be bound ({refused})"),
                    "give an address of this machine and a port that is free, or * as the port for any",
                )
            })
        }
    }
}

/// Tells whether an endpoint is bound by the name of a network card, which only libzmq can do.
pub(super) fn binds_card(endpoint: &str) -> bool {
    matches!(
        endpoint.parse(),
        Ok(Endpoint::Tcp {
            host: Host::Name(_),
            ..
        })
    )
}

/// Libzmq resolves no names for binding, but takes those of network cards.
fn check_nic_name(key: &str, endpoint: &str, name: &str) -> Result<()> {
    let nics = topology::nics();
    if nics.iter().any(|nic| nic == name) {
        return Ok(());
    }
    Err(Error::config(
        key,
        endpoint,
        "its host is not an address, and there is no such network card",
        format!(
            "bind an address of this machine, *, or one of: {}",
            nics.join(", ")
        ),
    ))
}

/// What stands at the path is deleted before it is bound: a socket by the native engine, anything by
/// libzmq.
fn check_ipc_path(key: &str, endpoint: &str, path: &Path) -> Result<()> {
    // Names that stand nowhere in the file system.
    if endpoint == "ipc://*" || endpoint.starts_with("ipc://@") {
        return Ok(());
    }
    let refused =
        |problem: String, remedy: &str| Err(Error::config(key, endpoint, problem, remedy));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return refused(
            format!("there is no folder {}", folder.display()),
            "make the folder first",
        );
    }
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        // Making a file there is the only way to learn whether a socket could be made.
        Err(_) => {
            return match tempfile_in(folder) {
                Ok(()) => Ok(()),
                Err(reason) => refused(
                    format!("nothing can be made in {} ({reason})", folder.display()),
                    "give a folder that this process may write to",
                ),
            };
        }
    };
    if !there.file_type().is_socket() {
        return refused(
            "what stands there is not a socket, and would be deleted".to_owned(),
            "give a path that is free",
        );
    }
    match UnixStream::connect(path) {
        // What its owner left behind.
        Err(reason) if reason.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) => refused("it is in use".to_owned(), "give a path that is free"),
        Err(reason) => refused(
            format!("what stands there may be in use ({reason})"),
            "give a path that is free",
        ),
    }
}

/// Makes a file in a folder and deletes it.
fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let probe = PROBES.fetch_add(1, Relaxed);
    let path = folder.join(format!(".pinfeed-{}-{probe}", std::process::id()));
    fs::File::create_new(&path)?;
    fs::remove_file(&path)
}
