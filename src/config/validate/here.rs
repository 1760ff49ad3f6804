//! Checking a configuration against this machine: its cores, its network cards, its ports.

use std::{collections::HashSet, net::UdpSocket};

use super::{LOOSE_PIN, SHARED_CORE};
use crate::{
    config::{Config, Engine, Lane, PinPolicy, endpoint},
    error::{Error, Result},
    host::topology,
};

impl Config {
    /// Checks what depends on this machine, of a configuration that is right in itself.
    pub(super) fn check_here(&self) -> Result<()> {
        self.check_usable()?;
        self.check_fifo_here()?;
        for (index, lane) in self.lanes.iter().enumerate() {
            check_card(&format!("lane[{index}]"), lane)?;
        }
        for (index, feed) in self.feeds.iter().enumerate() {
            for (line, one) in feed.lines.iter().enumerate() {
                for (place, endpoint) in one.bind.iter().enumerate() {
                    let key = format!("feed[{index}].line[{line}].bind[{place}]");
                    endpoint::check_bind(&key, endpoint)?;
                }
            }
        }
        Ok(())
    }

    fn check_usable(&self) -> Result<()> {
        let usable = topology::usable_cores();
        // Asked for, not by default: there it is a slip.
        let may_lack = self.pin == Some(PinPolicy::BestEffort);
        let lacking = self.named_cores().find(|(_, core)| !usable.contains(core));
        let Some((key, core)) = lacking.filter(|_| !may_lack) else {
            return Ok(());
        };
        let usable: Vec<String> = usable.iter().map(usize::to_string).collect();
        Err(Error::config(
            key,
            core,
            "there is no such core for this process",
            format!(
                "give one of {}, or best-effort for pins, which makes it a warning",
                usable.join(", ")
            ),
        ))
    }

    /// Checks that threads that poll in real time have a core each of this machine's, and leave one over.
    fn check_fifo_here(&self) -> Result<()> {
        if !self.polls_in_real_time() {
            return Ok(());
        }
        let cores = self.cores();
        let lanes = cores.lanes.iter();
        let of_lanes = lanes.flat_map(|&(io_core, core)| match self.engine() {
            Engine::Native => vec![core],
            Engine::Libzmq => vec![io_core, core],
        });
        let all = of_lanes.chain(cores.workers.iter().copied());
        let mut taken = HashSet::new();
        if !all
            .into_iter()
            .all(|core| core.is_some_and(|core| taken.insert(core)))
        {
            return Err(self.refused_fifo(SHARED_CORE));
        }
        if !cores.strict {
            return Err(self.refused_fifo(LOOSE_PIN));
        }
        let usable = topology::usable_cores();
        if usable.iter().all(|core| taken.contains(core)) {
            return Err(
                self.refused_fifo("nothing else would run on the cores that this process may use")
            );
        }
        Ok(())
    }
}

/// Checks that there is the network card that a lane is to receive by.
fn check_card(key: &str, lane: &Lane) -> Result<()> {
    if let Some(nic) = &lane.nic {
        topology::check_nic(&format!("{key}.nic"), nic)?;
    }
    if let Some(source) = lane.source {
        UdpSocket::bind((source, 0)).map_err(|refused| {
            Error::config(
                format!("{key}.source"),
                source,
                format!("no network card has this address ({refused})"),
                "give an address that `ip address` shows",
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;

    #[test]
    fn what_another_machine_may_have_is_right_in_itself() {
        type Change = fn(&mut Config);
        // Of a net that is for examples in books.
        let elsewhere: [(&str, Change); 5] = [
            ("workers.cores[0]", |config| {
                config.workers.cores = vec![9_999]
            }),
            ("lane[0].nic", |config| {
                config.lanes[0].nic = Some("nosuch0".to_owned());
            }),
            ("lane[0].source", |config| {
                config.lanes[0].source = Some("192.0.2.1".parse().unwrap());
            }),
            ("feed[0].line[0].bind[0]", |config| {
                config.feeds[0].lines[0].bind = vec!["tcp://192.0.2.1:5556".to_owned()];
            }),
            ("feed[0].line[0].bind[0]", |config| {
                config.feeds[0].lines[0].bind = vec!["ipc:///nosuch/feed".to_owned()];
            }),
        ];
        for (wrong, change) in elsewhere {
            let mut config = Config::connect("tcp://127.0.0.1:5556", Envelope::Raw);
            config.validate().unwrap();
            change(&mut config);
            config.check().unwrap();
            let error = config.validate().unwrap_err();
            assert!(
                matches!(&error, Error::Config { key, .. } if key == wrong),
                "{error}"
            );
        }
    }
}
