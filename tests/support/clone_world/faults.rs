//! Connections and what breaks them.

use super::*;

impl World {
    /// Brings about a fault, and returns how long it lasts.
    pub(super) fn fault(&mut self) -> u64 {
        let server = self.random.random_range(0..2_usize);
        let client = 2 + self.random.random_range(0..CLIENTS);
        match self.random.random_range(0..10) {
            0 => self.cut(&[(0, 1)]),
            1 => self.cut(&[(client, server)]),
            2 => {
                let links: Vec<_> = (2..2 + CLIENTS).map(|client| (client, server)).collect();
                self.cut(&links);
            }
            3 | 4 => self.doom(server),
            5 | 6 => {
                self.tell(|| format!("server {server} is stopped"));
                self.nodes[server].is_stopped = true;
            }
            7 => {
                self.doom(0);
                self.doom(1);
            }
            8 => {
                self.tell(|| format!("client {client} is killed"));
                self.kill(client);
            }
            _ => {
                self.tell(|| "messages get lost".to_owned());
                self.loss = 20;
            }
        }
        self.between(200, 7_000)
    }

    pub(super) fn doom(&mut self, server: usize) {
        let death = if self.chance(50) {
            Death::BeforeCommit
        } else {
            Death::AfterCommit
        };
        self.deaths[server] = Some(death);
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].is_dead = true;
        self.nodes[node].inbox.clear();
        for index in 0..self.connections.len() {
            let Connection { from, to, .. } = self.connections[index];
            if from == node || to == node {
                self.break_off(index, true);
            }
        }
    }

    pub(super) fn cut(&mut self, links: &[(usize, usize)]) {
        self.tell(|| format!("links {links:?} are cut"));
        self.cuts = links.to_vec();
        for index in 0..self.connections.len() {
            if !self.is_cut(index) || !self.connections[index].is_up {
                continue;
            }
            // Either the ends learn of it at once, or what is sent waits for as long as it lasts.
            if self.chance(50) {
                self.break_off(index, true);
            } else {
                self.connections[index].stalled = Some(Vec::new());
            }
        }
    }

    pub(super) fn is_cut(&self, index: usize) -> bool {
        let Connection { from, to, .. } = self.connections[index];
        self.cuts.contains(&(from, to)) || self.cuts.contains(&(to, from))
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.loss = 0;
        self.deaths = [None; 2];
        for node in 0..self.nodes.len() {
            if std::mem::take(&mut self.nodes[node].is_stopped) {
                self.tell(|| format!("node {node} goes on"));
            }
            if !std::mem::take(&mut self.nodes[node].is_dead) {
                continue;
            }
            self.tell(|| format!("node {node} starts"));
            if node < 2 {
                self.totals.expired += self.servers[node].counters().expired;
                self.totals.duplicates += self.servers[node].counters().duplicate;
                self.servers[node] =
                    server_machine(node, self.preempts, &self.disks[node], self.now());
                self.was_active[node] = false;
                self.accepted[node] = 0;
            } else {
                self.clients[node - 2] = self.new_client();
            }
        }
        for index in 0..self.connections.len() {
            for (back, frames) in self.connections[index].stalled.take().unwrap_or_default() {
                self.send(index, back, frames);
            }
        }
    }

    /// Ends a connection: nothing of it arrives any more. `tells` is whether the ends take note.
    pub(super) fn break_off(&mut self, index: usize, tells: bool) {
        let wait_ns = self.between(50, 300);
        let connection = &mut self.connections[index];
        let was_up = std::mem::take(&mut connection.is_up);
        let life = connection.life;
        connection.life += 1;
        connection.stalled = None;
        connection.up_ns = self.now_ns + wait_ns;
        let (from, to) = (connection.from, connection.to);
        if tells {
            connection.asks = None;
        }
        if was_up {
            self.nodes[to].inbox.push(Heard::Down(index, life));
            if tells {
                self.nodes[from].inbox.push(Heard::Down(index, life));
            }
        }
    }

    /// Makes connections, and delivers what has arrived.
    pub(super) fn carry(&mut self) {
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            let free = [connection.from, connection.to]
                .iter()
                .all(|node| !self.nodes[*node].is_dead && !self.nodes[*node].is_stopped);
            if connection.is_up || self.now_ns < connection.up_ns || !free || self.is_cut(index) {
                continue;
            }
            let connection = &mut self.connections[index];
            connection.is_up = true;
            connection.is_used = false;
            connection.arrives_ns = [self.now_ns; 2];
            let asks = connection.asks.take();
            let (from, to, kind) = (connection.from, connection.to, connection.kind);
            if let Some(frames) = asks {
                self.connections[index].is_used = true;
                self.send(index, false, frames);
            }
            self.nodes[from].inbox.push(Heard::Up(index));
            if kind == Kind::Published {
                self.nodes[to].inbox.push(Heard::Up(index));
            }
        }
        while let Some(Reverse((arrives_ns, ..))) = self.flights.peek()
            && *arrives_ns <= self.now_ns
            && let Some(Reverse((_, _, index, life, back, frames))) = self.flights.pop()
        {
            let connection = &mut self.connections[index];
            if connection.life != life {
                continue;
            }
            if let Some(stalled) = &mut connection.stalled {
                stalled.push((back, frames));
                continue;
            }
            let node = if back { connection.from } else { connection.to };
            self.nodes[node].inbox.push(Heard::Message(index, frames));
        }
    }

    /// Sends a message, `back` to the node that connected or to the other one.
    pub(super) fn send(&mut self, index: usize, back: bool, frames: Frames) {
        let delay_ns = if self.chance(5) {
            self.between(50, 400)
        } else {
            self.between(0, 30)
        };
        let is_lossy = matches!(
            self.connections[index].kind,
            Kind::Published | Kind::Collected
        );
        if is_lossy && self.chance(self.loss) {
            return;
        }
        let connection = &mut self.connections[index];
        if !connection.is_up {
            return;
        }
        if let Some(stalled) = &mut connection.stalled {
            stalled.push((back, frames));
            return;
        }
        let arrives_ns = &mut connection.arrives_ns[usize::from(back)];
        *arrives_ns = (*arrives_ns).max(self.now_ns + delay_ns);
        self.messages += 1;
        let flight = (
            *arrives_ns,
            self.messages,
            index,
            connection.life,
            back,
            frames,
        );
        self.flights.push(Reverse(flight));
    }

    /// Asks for a snapshot over a fresh connection.
    pub(super) fn ask(&mut self, index: usize, frames: Frames) {
        let connection = &mut self.connections[index];
        if connection.is_up && !connection.is_used {
            connection.is_used = true;
            self.send(index, false, frames);
        } else {
            self.break_off(index, false);
            self.connections[index].asks = Some(frames);
        }
    }

    pub(super) fn find(&self, from: usize, to: usize, kind: Kind) -> usize {
        let mut all = self.connections.iter();
        let found = all.position(|one| one.from == from && one.to == to && one.kind == kind);
        found.expect("all connections exist from the beginning")
    }
}
