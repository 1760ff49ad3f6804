//! Requests for snapshots: those that wait, and those that are being answered.

use std::collections::VecDeque;

use crate::patterns::{
    binary_star::Role,
    clone::{
        Now, RECENT,
        server::Machine,
        state::{State, View},
    },
    kvmsg::ICANHAZ,
};

/// Snapshots that are on their way at once. More wait for their turn.
pub const SNAPSHOTS_MAX: usize = 64;

/// Requests that wait for their turn. More are not answered.
pub const REQUESTS_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Request<C> {
    pub(super) client: C,
    subtree: Box<[u8]>,
    pub(super) with_recent: bool,
}

/// The requests of a server.
#[derive(Debug)]
pub(super) struct Requests<C> {
    waiting: VecDeque<Request<C>>,
    /// Snapshots that wait until what they hold is published.
    prepared: Vec<(Request<C>, View)>,
    /// Snapshots on their way, those prepared among them.
    under_way: usize,
}

impl<C> Default for Requests<C> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            prepared: Vec::new(),
            under_way: 0,
        }
    }
}

impl<C: PartialEq> Requests<C> {
    /// Has a request wait for its turn; false where too many do.
    fn wait(&mut self, request: Request<C>) -> bool {
        let has_room = self.waiting.len() < REQUESTS_MAX;
        if has_room {
            self.waiting.push_back(request);
        }
        has_room
    }

    fn forget(&mut self, client: &C) {
        self.waiting.retain(|request| request.client != *client);
        let before = self.prepared.len();
        self.prepared
            .retain(|(request, _)| request.client != *client);
        self.under_way -= before - self.prepared.len();
    }

    /// Forgets all but those whose snapshots have left in part.
    pub(super) fn forget_all(&mut self) {
        self.waiting.clear();
        self.under_way -= self.prepared.len();
        self.prepared.clear();
    }

    /// Prepares as many snapshots as may be under way, and takes out those that may leave.
    pub(super) fn take_ready(
        &mut self,
        state: &State,
        published: u64,
        committed: u64,
    ) -> Vec<(Request<C>, View)> {
        while self.under_way < SNAPSHOTS_MAX
            && let Some(request) = self.waiting.pop_front()
        {
            self.under_way += 1;
            let view = state.view(&request.subtree);
            self.prepared.push((request, view));
        }
        let ready = self.prepared.extract_if(.., |(request, view)| {
            // The peer has to get what waits for it to be published.
            let limit = if request.with_recent {
                committed
            } else {
                published
            };
            view.sequence() <= limit
        });
        ready.collect()
    }
}

impl<C: Copy + PartialEq> Machine<C> {
    /// Takes a client's request.
    pub fn on_request(&mut self, client: C, frames: &[&[u8]], now: Now) {
        let (subtree, with_recent) = match *frames {
            [ICANHAZ] => (&[][..], false),
            [ICANHAZ, subtree] => (subtree, false),
            [ICANHAZ, subtree, RECENT] => (subtree, true),
            _ => {
                self.counters.unknown_requests += 1;
                return;
            }
        };
        if let Some(pair) = &mut self.pair {
            // A peer's request is no vote.
            if with_recent && pair.star.role() != Role::Active {
                self.counters.unanswered += 1;
                return;
            }
            let (answered, change) = pair.star.on_request(pair.follow.is_current(), now.ns);
            if let Some(change) = change {
                self.change_role(change, now);
            }
            if !answered {
                self.counters.unanswered += 1;
                return;
            }
        }
        let request = Request {
            client,
            subtree: subtree.into(),
            with_recent,
        };
        self.counters.unanswered += u64::from(!self.requests.wait(request));
    }

    /// Notes that a client is gone: what it asked for is not sent any more. A snapshot that has begun ends with
    /// [`snapshot_ended`](Self::snapshot_ended), as any.
    pub fn on_gone(&mut self, client: C) {
        self.requests.forget(&client);
    }

    /// Notes that a snapshot is sent, or given up.
    pub fn snapshot_ended(&mut self) {
        self.requests.under_way = self.requests.under_way.saturating_sub(1);
    }
}
