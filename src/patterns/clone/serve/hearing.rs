//! Whether anything comes of the other server of a pair, for people: without a word, one that waits for a wrong endpoint
//! looks like one that waits for a server that is yet to start.

use crate::{clock::SECOND_NS, patterns::clone::serve::News};

/// For how long nothing comes before that is said, in seconds: five heartbeats.
const PATIENCE_S: u64 = 5;

/// What is heard of the other server.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Where it is asked, and where it tells.
    endpoints: [String; 2],
    /// Why there is no connection to each, where there is none.
    ends: [Option<String>; 2],
    /// When something came last, or this server began to listen, in nanoseconds.
    heard_ns: u64,
    is_told: bool,
}

impl Hearing {
    pub(super) fn new(endpoints: [String; 2], now_ns: u64) -> Self {
        let end = || Some("not connected yet".to_owned());
        Self {
            endpoints,
            ends: [end(), end()],
            heard_ns: now_ns,
            is_told: false,
        }
    }

    /// Notes that there is a connection to one of the endpoints, or why not.
    pub(super) fn connected(&mut self, place: usize, end: Option<String>) {
        self.ends[place] = end;
    }

    /// Notes that something has come.
    pub(super) fn heard(&mut self, now_ns: u64) -> Option<News> {
        self.heard_ns = now_ns;
        std::mem::take(&mut self.is_told).then_some(News::Heard)
    }

    /// Returns, once, that nothing has come for too long.
    pub(super) fn overdue(&mut self, now_ns: u64) -> Option<News> {
        if self.is_told || now_ns < self.heard_ns + PATIENCE_S * SECOND_NS {
            return None;
        }
        self.is_told = true;
        let lacking = self.endpoints.iter().zip(&self.ends);
        let mut lacking = lacking.filter_map(|(at, end)| Some(format!("{at}: {}", end.as_ref()?)));
        let connected = || format!("{}: connected, but it tells nothing", self.endpoints[1]);
        Some(News::Unheard {
            for_s: PATIENCE_S,
            obstacle: lacking.next().unwrap_or_else(connected),
        })
    }
}
