//! What has to hold all the time, and in the end.

use super::*;

impl World {
    pub(super) fn is_in_step(&self) -> bool {
        let mut roles = self.servers.iter().map(server::Machine::is_in_step);
        let alive = self
            .nodes
            .iter()
            .all(|node| !node.is_dead && !node.is_stopped);
        let active = usize::from(self.servers[1].role() == Role::Active);
        let settled = |client: &client::Machine| client.is_ready() && client.server() == active;
        alive
            && roles.all(|is| is)
            && self.clients.iter().all(settled)
            && self.connections.iter().all(|one| one.is_up)
    }

    /// Checks that what a client is told fits what any was told before.
    pub(super) fn note_told(&mut self, client: usize, update: &Update) -> Result<(), String> {
        let (key, sequence, uuid) = (
            update.key.to_vec(),
            update.value.sequence,
            update.value.uuid,
        );
        if uuid.is_none() && update.deletes() {
            // It may be a difference that the client found, which has no sequence of its own.
            return Ok(());
        }
        let told = (key.clone(), uuid);
        let before = self
            .by_sequence
            .entry(sequence)
            .or_insert_with(|| told.clone());
        if *before != told {
            return Err(format!(
                "client {client}: {sequence} is {told:?}, and was {before:?}"
            ));
        }
        if let Some(uuid) = uuid {
            let before = *self.by_uuid.entry(uuid).or_insert(sequence);
            if before != sequence {
                return Err(format!(
                    "client {client}: an update was made as {before} and {sequence}"
                ));
            }
        }
        let newest = self.newest.entry(key).or_insert((0, None, false));
        if sequence > newest.0 {
            *newest = (sequence, uuid, update.deletes());
        }
        Ok(())
    }

    /// Checks that no two servers accept updates.
    pub(super) fn check_roles(&mut self) -> Result<(), String> {
        for server in 0..2 {
            let is_active =
                self.servers[server].role() == Role::Active && !self.nodes[server].is_dead;
            if is_active && !self.was_active[server] {
                self.totals.takeovers += 1;
            }
            let stepped_back = !is_active && self.was_active[server] && !self.nodes[server].is_dead;
            if self.preempts && server == 1 && stepped_back {
                self.totals.preempted += 1;
            }
            self.was_active[server] = is_active;
            let counters = self.servers[server].counters();
            let accepted = counters.accepted - counters.expired;
            let accepts = accepted > std::mem::replace(&mut self.accepted[server], accepted);
            let other = &self.nodes[1 - server];
            let other_is_active = self.servers[1 - server].role() == Role::Active;
            if accepts && other_is_active && !other.is_dead && !other.is_stopped {
                return Err(format!(
                    "server {server} accepts an update while the other one is active"
                ));
            }
        }
        Ok(())
    }

    /// Returns what is not the same everywhere.
    pub(super) fn difference(&self) -> Option<String> {
        let active = self
            .servers
            .iter()
            .position(|one| one.role() == Role::Active);
        let Some(active) = active else {
            return Some("no server is active".to_owned());
        };
        if !self.is_in_step() {
            return Some("the servers are not in step".to_owned());
        }
        let bodies = |server: usize| -> BTreeMap<Vec<u8>, Vec<u8>> {
            let values = self.servers[server].state().subtree(b"");
            values
                .map(|(key, value)| (key.to_vec(), value.body.to_vec()))
                .collect()
        };
        let expected = bodies(active);
        if bodies(1 - active) != expected {
            return Some(format!(
                "server {} has {:?}, not {expected:?}",
                1 - active,
                bodies(1 - active)
            ));
        }
        for (number, client) in self.clients.iter().enumerate() {
            let values = client.values().iter();
            let found: BTreeMap<Vec<u8>, Vec<u8>> = values
                .map(|(key, value)| (key.to_vec(), value.body.to_vec()))
                .collect();
            if !client.is_ready() || client.own() > 0 || found != expected {
                return Some(format!(
                    "client {number} has {found:?}, not {expected:?}: {:?}",
                    client.counters()
                ));
            }
        }
        None
    }

    /// Checks that nothing that a client was told is missing.
    pub(super) fn check_end(&self) -> Result<(), String> {
        let active = usize::from(self.servers[1].role() == Role::Active);
        for (key, &(sequence, uuid, deletes)) in &self.newest {
            let key_text = String::from_utf8_lossy(key);
            match self.servers[active].state().get(key) {
                Some(value) if value.sequence > sequence => {}
                Some(value) if value.sequence == sequence && value.uuid == uuid => {}
                None if deletes || self.deletions.get(key).is_some_and(|at| *at > sequence) => {}
                found => {
                    return Err(format!(
                        "{key_text} was published as {sequence}, and is {found:?} in the end"
                    ));
                }
            }
        }
        Ok(())
    }
}
