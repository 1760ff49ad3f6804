//! Which cores this process may use, and which network cards there are.

use std::{io, net::UdpSocket, path::Path};

use socket2::SockRef;

use crate::{
    error::{Error, Result},
    host::machine::{Tree, nic_names},
};

/// Returns the cores that the calling thread may run on, ascending; before it is pinned, those of the process.
#[must_use]
pub fn usable_cores() -> Vec<usize> {
    let mut cores: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    cores.sort_unstable();
    cores
}

/// Returns the names of the network cards, sorted.
#[must_use]
pub fn nics() -> Vec<String> {
    nic_names(&Tree::at(Path::new("/")))
}

/// Checks that this process may tie a socket to a network card, by tying one.
///
/// # Errors
/// [`Error::Config`] with `key`: there is no such card, or the process lacks `CAP_NET_RAW`.
pub fn check_nic(key: &str, nic: &str) -> Result<()> {
    if !nics().iter().any(|name| name == nic) {
        return Err(Error::config(
            key,
            nic,
            "there is no such network card",
            format!("give one of: {}", nics().join(", ")),
        ));
    }
    let tied = UdpSocket::bind(("0.0.0.0", 0))
        .and_then(|socket| SockRef::from(&socket).bind_device(Some(nic.as_bytes())));
    tied.map_err(|refused| not_tied(key, nic, &refused))
}

fn not_tied(key: &str, nic: &str, refused: &io::Error) -> Error {
    Error::config(
        key,
        nic,
        format!("a socket could not be tied to this card ({refused})"),
        "run `setcap cap_net_raw+ep` on the binary, or give the card's address as `source`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_found_and_others_are_not() {
        assert!(check_nic("nic", "lo").is_ok());
        let error = check_nic("lane[0].nic", "nosuch0").unwrap_err().to_string();
        assert!(
            error.contains("lane[0].nic = nosuch0") && error.contains("lo"),
            "{error}"
        );
    }

    /// Kernels before 5.7 refuse it without the capability, and all do for a socket tied already.
    #[test]
    fn a_missing_capability_comes_with_its_remedy() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = not_tied("--nic", "eth0", &refused).to_string();
        assert!(
            error.contains("--nic = eth0") && error.contains("setcap cap_net_raw+ep"),
            "{error}"
        );
    }
}
