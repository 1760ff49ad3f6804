//! Takes pictures of a running pipeline: counters are read and compared with those of the picture before.

use std::collections::{HashMap, VecDeque};

use crate::{
    cli::{
        threads::{ThreadRow, Threads},
        tui::{
            model::{
                ANOMALIES_MAX, FeedRow, HISTORY_MAX, LaneRow, LineRow, Picture, TopicRow, Topics,
                WorkerRow, latency,
            },
            topics::{Board, Busiest},
        },
    },
    clock::{SECOND_NS, process_cpu_ns},
    config::{Config, Feed},
    host::topology,
    latency::Stages,
    ledger::{LaneTotals, Totals, WorkerTotals},
    pipeline::{LineGlance, Pipeline},
    worker::Handler,
};

/// What pictures are taken with.
pub(super) struct Sampler<'a> {
    config: &'a Config,
    board: Option<Board>,
    cores: usize,
    threads: Threads,
    before: Before,
    overall: Stages,
    history: VecDeque<f64>,
    /// By feed and line.
    lines: Vec<Glanced>,
}

/// What the last picture was taken of.
#[derive(Default)]
struct Before {
    at_ns: u64,
    totals: Totals,
    cpu_ns: u64,
    lanes: Vec<LaneTotals>,
    workers: Vec<WorkerTotals>,
    topics: HashMap<Box<[u8]>, u64>,
}

/// A line when it could be looked at last.
struct Glanced {
    at_ns: u64,
    per_s: f64,
    line: LineGlance,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(config: &'a Config, board: Option<Board>) -> Self {
        Self {
            config,
            board,
            cores: topology::usable_cores().len(),
            threads: Threads::default(),
            before: Before {
                cpu_ns: process_cpu_ns(),
                ..Before::default()
            },
            overall: Stages::default(),
            history: VecDeque::with_capacity(HISTORY_MAX),
            lines: Vec::new(),
        }
    }

    /// Looks at the lines of feeds with copies, as far as their lanes are not at work on them: to be called
    /// more often than pictures are taken, for one of the looks to succeed.
    pub(super) fn glance<H: Handler>(&mut self, pipeline: &Pipeline<H>) {
        let now_ns = pipeline.now_ns();
        for line in pipeline.glance_at_lines() {
            let place = (line.feed, line.line);
            let same = |known: &&mut Glanced| (known.line.feed, known.line.line) == place;
            match self.lines.iter_mut().find(same) {
                Some(known) if now_ns < known.at_ns + SECOND_NS / 2 => {}
                Some(known) => {
                    let copies = line.copies - known.line.copies;
                    known.per_s = per_s(copies, now_ns - known.at_ns);
                    (known.at_ns, known.line) = (now_ns, line);
                }
                None => self.lines.push(Glanced {
                    at_ns: now_ns,
                    per_s: 0.0,
                    line,
                }),
            }
        }
    }

    /// Takes a picture. `interval` is what the stages recorded since the last.
    pub(super) fn picture<H: Handler>(
        &mut self,
        pipeline: &mut Pipeline<H>,
        interval: &Stages,
        is_draining: bool,
    ) -> Picture {
        let (totals, now_ns, cpu_ns) = (pipeline.look(), pipeline.now_ns(), process_cpu_ns());
        let elapsed_ns = (now_ns - self.before.at_ns).max(1);
        let share = |ns: u64| ns as f64 / elapsed_ns as f64;
        let before = self.before.totals;
        let messages_per_s = per_s(totals.received - before.received, elapsed_ns);
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(messages_per_s);
        self.overall.merge(interval);
        let latency = latency(interval, &self.overall);
        let (lanes, workers) = (pipeline.by_lane(), pipeline.by_worker());
        let threads = self.threads.look(pipeline.placements(), elapsed_ns);
        let (entries, seen) = pipeline.flight_record().entries_from(0);
        let kept = entries.len().saturating_sub(ANOMALIES_MAX);
        let picture = Picture {
            engine: self.config.engine().name(),
            up_ns: now_ns,
            is_draining,
            totals,
            lost: (self.config.feeds.iter().any(Feed::is_numbered)).then(|| totals.lost()),
            per_s: messages_per_s,
            bytes_per_s: per_s(totals.received_bytes - before.received_bytes, elapsed_ns),
            cpu_share: share(cpu_ns.saturating_sub(self.before.cpu_ns)),
            cores: self.cores,
            history: self.history.iter().copied().collect(),
            latency,
            feeds: self.feeds(&lanes, elapsed_ns),
            workers: self.workers(
                &workers,
                pipeline.batches_per_worker(),
                &threads,
                elapsed_ns,
            ),
            lanes: self.lanes(&lanes, elapsed_ns),
            lines: self.lines.iter().map(|line| self.line(line)).collect(),
            topics: self.topics(elapsed_ns),
            threads,
            anomalies: entries[kept..].to_vec(),
            anomalies_seen: seen,
        };
        self.before.at_ns = now_ns;
        self.before.totals = totals;
        self.before.cpu_ns = cpu_ns;
        (self.before.lanes, self.before.workers) = (lanes, workers);
        picture
    }

    fn lanes(&self, lanes: &[LaneTotals], elapsed_ns: u64) -> Vec<LaneRow> {
        let rows = lanes.iter().zip(&self.config.lanes).enumerate();
        rows.map(|(index, (now, lane))| {
            let before = self.before.lanes.get(index).copied().unwrap_or_default();
            LaneRow {
                name: format!("lane-{}", lane.name),
                per_s: per_s(now.received - before.received, elapsed_ns),
                bytes_per_s: per_s(now.received_bytes - before.received_bytes, elapsed_ns),
                received: now.received,
                blocked: (now.blocked_ns - before.blocked_ns) as f64 / elapsed_ns as f64,
            }
        })
        .collect()
    }

    fn workers(
        &self,
        workers: &[WorkerTotals],
        batches_max: u64,
        threads: &[ThreadRow],
        elapsed_ns: u64,
    ) -> Vec<WorkerRow> {
        let handoff = self.config.handoff.limits();
        let rows = workers.iter().enumerate();
        rows.map(|(index, now)| {
            let before = self.before.workers.get(index).copied().unwrap_or_default();
            let name = format!("worker-{index}");
            let thread = threads.iter().find(|thread| thread.name == name);
            WorkerRow {
                per_s: per_s(now.delivered - before.delivered, elapsed_ns),
                delivered: now.delivered,
                batches: now.batches_under_way.min(batches_max),
                batches_max,
                is_behind: handoff.is_behind(now.batches_under_way as usize),
                cpu_share: thread.map(|thread| thread.cpu_share),
                name,
            }
        })
        .collect()
    }

    /// What a feed receives is what its lines or its lanes do, where those have no other.
    fn feeds(&self, lanes: &[LaneTotals], elapsed_ns: u64) -> Vec<FeedRow> {
        let feeds = self.config.feeds.iter().enumerate();
        feeds
            .map(|(index, feed)| FeedRow {
                name: feed.name.clone(),
                received: self
                    .copies(index)
                    .or_else(|| self.of_lanes(feed, lanes, elapsed_ns)),
                lines: feed.lines.len(),
            })
            .collect()
    }

    fn copies(&self, feed: usize) -> Option<(f64, u64)> {
        let lines = self.lines.iter().filter(|line| line.line.feed == feed);
        lines
            .map(|line| (line.per_s, line.line.copies))
            .reduce(|a, b| (a.0 + b.0, a.1 + b.1))
    }

    fn of_lanes(&self, feed: &Feed, lanes: &[LaneTotals], elapsed_ns: u64) -> Option<(f64, u64)> {
        let carries = |feed: &Feed, lane: &str| feed.lines.iter().any(|line| line.lane == lane);
        let (mut messages, mut since_before) = (0, 0);
        for (index, lane) in self.config.lanes.iter().enumerate() {
            if !carries(feed, &lane.name) {
                continue;
            }
            let feeds = self.config.feeds.iter();
            if feeds.filter(|feed| carries(feed, &lane.name)).count() > 1 {
                return None;
            }
            let before = self.before.lanes.get(index).copied().unwrap_or_default();
            messages += lanes[index].received;
            since_before += lanes[index].received - before.received;
        }
        Some((per_s(since_before, elapsed_ns), messages))
    }

    fn line(&self, glanced: &Glanced) -> LineRow {
        let line = &glanced.line;
        LineRow {
            name: format!("{} {}", self.config.feeds[line.feed].name, line.line),
            per_s: glanced.per_s,
            copies: line.copies,
            wins: line.wins,
            repaired: line.repaired,
            lag_max_ns: line.lag_max_ns,
            disconnects: line.absence.disconnects,
            silences: line.absence.silences,
        }
    }

    fn topics(&mut self, elapsed_ns: u64) -> Topics {
        let Some(board) = &self.board else {
            return Topics::Unknown("only --handler count counts topics");
        };
        let (noted, topics) = match board.look() {
            Busiest::Top(noted, topics) => (noted, topics),
            Busiest::TooMany => {
                return Topics::Unknown("too many to look through while messages wait");
            }
        };
        let before = &self.before.topics;
        let mut rows: Vec<TopicRow> = noted
            .iter()
            .map(|(topic, messages)| TopicRow {
                name: topic.escape_ascii().to_string(),
                // One that was not among the busiest before: no telling.
                per_s: (before.get(topic)).map_or(0.0, |before| {
                    per_s(messages.saturating_sub(*before), elapsed_ns)
                }),
                messages: *messages,
            })
            .collect();
        rows.sort_by(|a, b| b.messages.cmp(&a.messages).then(a.name.cmp(&b.name)));
        self.before.topics = noted.into_iter().collect();
        Topics::Top(rows, topics)
    }
}

fn per_s(amount: u64, elapsed_ns: u64) -> f64 {
    amount as f64 * SECOND_NS as f64 / elapsed_ns as f64
}
