//! What no file tells: whether pins take effect, what libzmq can do, what cards and clocks say.

use std::{collections::BTreeMap, thread};

use serde::Serialize;

use super::{Wanted, program::ask};
use crate::{
    host::{
        machine::{Fact, Machine, Unavailable},
        pin::{Placement, pin_current, pin_thread},
        time_sync::synchronised,
    },
    libzmq::Context,
};

/// What was tried and asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probed {
    /// The version of the libzmq in this program.
    pub libzmq_version: [i32; 3],
    /// Whether it was built with CURVE.
    pub libzmq_has_curve: bool,
    /// A thread pinned to each hot core, one after the other, and an I/O thread of libzmq's pinned to the
    /// first, with what the kernel shows of them.
    pub pins: Fact<Vec<Placement>>,
    /// How each card gathers interrupts.
    pub coalescing: BTreeMap<String, Fact<Coalescing>>,
    /// Whether the kernel takes its clock for synchronised.
    pub time_synchronised: Fact<bool>,
}

/// How a card gathers interrupts. What its driver does not have is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coalescing {
    /// Whether it chooses by itself how long to wait.
    pub adaptive_rx: Option<bool>,
    /// Microseconds from a packet to its interrupt.
    pub rx_us: Option<u64>,
    /// Packets to an interrupt.
    pub rx_frames: Option<u64>,
}

impl Probed {
    /// Tries and asks, on this machine. Programs that are not installed are not needed.
    #[must_use]
    pub fn look(machine: &Machine, wanted: &Wanted) -> Self {
        let coalescing = judged_nics(machine, wanted).into_iter().map(|nic| {
            let answer = ask("ethtool", &["-c", &nic]);
            (nic, answer.and_then(|text| coalescing(&text)))
        });
        Self {
            pins: pins(&wanted.hot_cores()),
            coalescing: coalescing.collect(),
            time_synchronised: synchronised()
                .map_err(|error| Unavailable::new("adjtimex", error.to_string())),
            ..Self::of_recorded()
        }
    }

    /// What is known without trying anything: for a machine that is not this one.
    #[must_use]
    pub fn of_recorded() -> Self {
        let unavailable = |what: &str| Unavailable::new(what, "not tried on a recorded machine");
        let (major, minor, patch) = zmq::version();
        Self {
            libzmq_version: [major, minor, patch],
            libzmq_has_curve: zmq::has("curve").unwrap_or(false),
            pins: Err(unavailable("pins")),
            coalescing: BTreeMap::new(),
            time_synchronised: Err(unavailable("adjtimex")),
        }
    }
}

/// Returns the names of the cards that matter: those that lanes are tied to, or all that are devices.
pub(super) fn judged_nics(machine: &Machine, wanted: &Wanted) -> Vec<String> {
    let mut names: Vec<String> = if wanted.nics.is_empty() {
        let devices = machine.nics.iter().filter(|nic| nic.has_device);
        devices.map(|nic| nic.name.clone()).collect()
    } else {
        wanted
            .nics
            .iter()
            .map(|wanted| wanted.nic.clone())
            .collect()
    };
    names.sort_unstable();
    names.dedup();
    names
}

fn pins(cores: &[usize]) -> Fact<Vec<Placement>> {
    let failed = |reason: String| Unavailable::new("a thread to pin", reason);
    let mut placements = Vec::new();
    for &core in cores {
        let name = format!("pin-{core}");
        let pin = {
            let name = name.clone();
            move || pin_current(&name, Some(core), false)
        };
        let spawned = thread::Builder::new().name(name).spawn(pin);
        let ended = spawned.map_err(|error| failed(error.to_string()))?.join();
        let placement = ended.map_err(|_| failed("it panicked".to_owned()))?;
        placements.push(placement.map_err(|error| failed(error.to_string()))?);
    }
    if let Some(&core) = cores.first() {
        let placement = libzmq_pin(core).map_err(|error| failed(error.to_string()))?;
        placements.extend(placement);
    }
    Ok(placements)
}

/// Pins an I/O thread of libzmq's as lanes do.
fn libzmq_pin(core: usize) -> crate::Result<Option<Placement>> {
    let context = Context::new(1, 1)?;
    let _socket = context.socket(zmq::SUB)?;
    let threads = context.io_thread_ids()?;
    let first = threads.first();
    first
        .map(|thread| pin_thread("libzmq's I/O thread", *thread, Some(core), false))
        .transpose()
}

/// Reads what `ethtool -c` writes: `Adaptive RX: off  TX: off`, `rx-usecs: 8`, `rx-frames: 1`, or `n/a` for any.
fn coalescing(text: &str) -> Fact<Coalescing> {
    let value = |key: &str| {
        let mut rests = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        rests.next()?.split_whitespace().next()
    };
    let found = Coalescing {
        adaptive_rx: value("Adaptive RX:").and_then(|word| match word {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        }),
        rx_us: value("rx-usecs:").and_then(|word| word.parse().ok()),
        rx_frames: value("rx-frames:").and_then(|word| word.parse().ok()),
    };
    if found == Coalescing::default() {
        return Err(Unavailable::new("ethtool -c", "the driver does not say"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::topology::usable_cores;

    #[test]
    fn answers_of_ethtool_are_read() {
        let intel = "Coalesce parameters for eth0:\nAdaptive RX: on  TX: off\nstats-block-usecs:\tn/a\n\
                     rx-usecs:\t50\nrx-frames:\tn/a\n";
        let expected = Coalescing {
            adaptive_rx: Some(true),
            rx_us: Some(50),
            rx_frames: None,
        };
        assert_eq!(coalescing(intel), Ok(expected));
        let tap = "Adaptive RX: n/a  TX: n/a\nrx-usecs:\tn/a\nrx-frames:\t8\nrx-frames-irq:\tn/a\n";
        let expected = Coalescing {
            rx_frames: Some(8),
            ..Coalescing::default()
        };
        assert_eq!(coalescing(tap), Ok(expected));
        let virtio = "Coalesce parameters for eth0:\nAdaptive RX: n/a  TX: n/a\nrx-usecs:\tn/a\n";
        for nothing in ["", "garbage\0", virtio] {
            assert!(coalescing(nothing).is_err(), "{nothing}");
        }
    }

    #[test]
    fn pins_take_effect_here() {
        let cores = usable_cores();
        let placements = pins(&cores).expect("threads start");
        assert_eq!(placements.len(), cores.len() + 1, "libzmq's, too");
        assert!(!placements.iter().any(Placement::failed), "{placements:?}");
    }

    #[test]
    fn a_pin_that_does_not_take_effect_shows() {
        let absent = usable_cores().last().unwrap() + 1;
        let placements = pins(&[absent]).expect("threads start");
        assert!(placements.iter().all(Placement::failed), "{placements:?}");
    }
}
