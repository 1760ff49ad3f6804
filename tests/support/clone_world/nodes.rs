//! Servers and clients at work: what they hear goes into their machines, and what they do is done.

use super::*;

impl World {
    pub(super) fn server_turn(&mut self, server: usize) -> Result<(), String> {
        if self.nodes[server].is_dead || self.nodes[server].is_stopped {
            return Ok(());
        }
        let now = self.now();
        let before = self.servers[server].counters();
        let (was, pending) = (self.servers[server].role(), self.servers[server].pending());
        self.servers[server].on_time(now);
        for heard in std::mem::take(&mut self.nodes[server].inbox) {
            if let Err(fatal) = self.server_hears(server, heard) {
                return Err(format!("server {server}: {fatal}"));
            }
        }
        if was != Role::Active && self.servers[server].role() == Role::Active {
            let made = self.servers[server].counters().accepted - before.accepted;
            self.totals.pending_made += made.min(pending as u64);
        }
        let death = self.deaths[server].take();
        if death == Some(Death::BeforeCommit) {
            self.tell(|| format!("server {server} dies before it commits"));
            self.kill(server);
            return Ok(());
        }
        if let Some(changes) = self.servers[server].changes() {
            for update in changes.updates.iter().filter(|update| update.deletes()) {
                let at = self.deletions.entry(update.key.to_vec()).or_default();
                *at = (*at).max(update.value.sequence);
            }
            self.disks[server].commit(changes, now);
        }
        self.servers[server].committed(now);
        if death == Some(Death::AfterCommit) {
            self.tell(|| format!("server {server} dies after it committed"));
            self.kill(server);
            return Ok(());
        }
        while let Some(output) = self.servers[server].output() {
            self.server_does(server, output);
        }
        Ok(())
    }

    pub(super) fn server_hears(&mut self, server: usize, heard: Heard) -> Result<(), String> {
        let now = self.now();
        let machine = &mut self.servers[server];
        match heard {
            Heard::Up(index) => {
                let connection = &self.connections[index];
                if connection.to == server && connection.kind == Kind::Published {
                    machine.on_subscriber((index, connection.life));
                }
            }
            Heard::Down(index, life) => {
                if self.connections[index].to == server {
                    machine.on_gone((index, life));
                }
            }
            Heard::Message(index, frames) => {
                let connection = &self.connections[index];
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                match connection.kind {
                    Kind::State => {
                        let tidings = Tidings::decode(&frames).expect("a server sent it");
                        machine
                            .on_peer(&tidings, now)
                            .map_err(|fatal| fatal.to_string())?;
                    }
                    Kind::Collected => {
                        let message = KeyValue::decode(&frames).expect("a client sent it");
                        machine.on_update(message, now).expect("a good update");
                    }
                    Kind::Snapshot if connection.from == server => {
                        machine
                            .on_peer_snapshot(&frames, now)
                            .expect("a server sent it");
                    }
                    Kind::Snapshot => machine.on_request((index, connection.life), &frames, now),
                    Kind::Published => unreachable!("servers publish"),
                }
            }
        }
        Ok(())
    }

    pub(super) fn server_does(&mut self, server: usize, output: Output<ClientId>) {
        match output {
            Output::Publish(update) => self.publish(server, owned(&update.message())),
            Output::Hugz(sequence) => self.publish(server, owned(&bare(HUGZ, sequence))),
            Output::Snapshot {
                client,
                view,
                with_recent,
            } => self.answer(server, client, &view, with_recent),
            Output::Tell {
                role,
                state,
                rounds,
                current,
                preempts,
                update,
            } => {
                let update = update.as_ref().map(Update::message);
                let tidings = Tidings {
                    role,
                    state: Some(state),
                    rounds,
                    current,
                    preempts,
                    update,
                };
                let frames =
                    tidings.encode(|frames| frames.iter().map(|one| one.to_vec()).collect());
                let index = self.find(1 - server, server, Kind::State);
                self.send(index, true, frames);
            }
            Output::AskPeer => {
                let index = self.find(server, 1 - server, Kind::Snapshot);
                let frames = vec![ICANHAZ.to_vec(), Vec::new(), RECENT.to_vec()];
                self.ask(index, frames);
            }
            Output::Greet {
                client: (index, life),
                sequence,
            } => {
                if self.connections[index].life == life {
                    self.send(index, true, owned(&bare(HUGZ, sequence)));
                }
            }
            Output::Step { role, in_step } => {
                self.tell(|| format!("server {server}, {role:?}, is in step: {in_step}"));
            }
            Output::Role(role) => {
                let freshness = self.servers[server].freshness();
                self.tell(|| format!("server {server} is {role:?} at {freshness:?}"));
            }
        }
    }

    pub(super) fn publish(&mut self, server: usize, frames: Frames) {
        for client in 0..CLIENTS {
            let index = self.find(2 + client, server, Kind::Published);
            self.send(index, true, frames.clone());
        }
    }

    pub(super) fn answer(
        &mut self,
        server: usize,
        client: ClientId,
        view: &View,
        with_recent: bool,
    ) {
        let (index, life) = client;
        let now = self.now();
        if self.connections[index].life == life && self.connections[index].is_up {
            for (key, value) in view.values_after(None) {
                let update = Update {
                    key: key.clone(),
                    value: value.clone(),
                };
                let mut message = update.message();
                let left = value.expires_ns.map(|at_ns| at_ns.saturating_sub(now.ns));
                let properties = left.map(|left_ns| {
                    with_ttl(
                        &value.properties,
                        std::time::Duration::from_nanos(left_ns.max(1)),
                    )
                });
                if let Some(properties) = &properties {
                    message.properties = properties;
                }
                self.send(index, true, owned(&message));
            }
            for (sequence, uuid) in view.recent_after(0).filter(|_| with_recent) {
                let message = KeyValue {
                    uuid: Some(uuid),
                    ..bare(b"", sequence)
                };
                self.send(index, true, owned(&message));
            }
            self.send(index, true, owned(&bare(KTHXBAI, view.sequence())));
        }
        self.servers[server].snapshot_ended();
    }

    pub(super) fn client_turn(&mut self, client: usize) -> Result<(), String> {
        let node = 2 + client;
        if self.nodes[node].is_dead {
            return Ok(());
        }
        let now = self.now();
        for heard in std::mem::take(&mut self.nodes[node].inbox) {
            self.client_hears(client, heard)?;
        }
        if self.clients[client].due_ns() <= now.ns {
            self.clients[client].on_time(now);
        }
        while let Some(output) = self.clients[client].output() {
            self.client_does(client, output)?;
        }
        Ok(())
    }

    pub(super) fn client_hears(&mut self, client: usize, heard: Heard) -> Result<(), String> {
        let now = self.now();
        let (index, change) = match heard {
            Heard::Message(index, frames) => {
                let connection = &self.connections[index];
                let machine = &mut self.clients[client];
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                let heard = match connection.kind {
                    Kind::Published => machine.on_published(connection.to, &frames, now),
                    _ => machine.on_snapshot(connection.to, &frames, now),
                };
                return heard.map_err(|large| large.to_string());
            }
            Heard::Up(index) => (index, true),
            Heard::Down(index, _) => (index, false),
        };
        let Connection { to, kind, .. } = self.connections[index];
        match kind {
            Kind::Snapshot => self.clients[client].on_reach(to, change, now),
            Kind::Published => self.clients[client].on_subscription(to, change, now),
            Kind::Collected | Kind::State => {}
        }
        Ok(())
    }

    pub(super) fn client_does(
        &mut self,
        client: usize,
        output: client::Output,
    ) -> Result<(), String> {
        let node = 2 + client;
        match output {
            client::Output::Ask(server) => {
                let index = self.find(node, server, Kind::Snapshot);
                self.ask(index, vec![ICANHAZ.to_vec(), Vec::new()]);
            }
            client::Output::Send(update) => {
                for server in [0, 1] {
                    let index = self.find(node, server, Kind::Collected);
                    self.send(index, false, owned(&update.message()));
                }
            }
            client::Output::Changed(update) if update.value.sequence > 0 => {
                self.note_told(client, &update)?;
            }
            client::Output::Synchronised { server, sequence } => {
                self.tell(|| format!("client {client} follows server {server} from {sequence}"));
            }
            client::Output::Own {
                fate: client::Fate::GivenUp,
                ..
            } => self.totals.given_up += 1,
            _ => {}
        }
        Ok(())
    }
}
