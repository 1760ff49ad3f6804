//! What is compared with what, and what should come of it.

use pinfeed::{
    config::{Arbitration, Engine},
    envelope::Envelope,
    handoff::HandoffKind,
    wait::Wait,
};

use crate::{
    middle::Middle,
    publisher::Feed,
    skew,
    stall::{self, Stall},
    subjects::{Setup, Subject},
};

const LIBZMQ: Setup = Setup {
    name: "pinfeed, libzmq",
    messages: 4_000_000,
    configure: |config| config.engine = Some(Engine::Libzmq),
};

const NATIVE: Setup = Setup {
    name: "pinfeed, native",
    messages: 40_000_000,
    configure: |config| config.engine = Some(Engine::Native),
};

const NATIVE_OVER_INPROC: Setup = Setup {
    name: "pinfeed, native over inproc",
    messages: 40_000_000,
    configure: |config| {
        config.engine = Some(Engine::Native);
        config.handoff.kind = HandoffKind::Inproc;
    },
};

const NATIVE_ADAPTIVE: Setup = Setup {
    name: "pinfeed, native, adaptive",
    messages: 40_000_000,
    configure: |config| {
        config.engine = Some(Engine::Native);
        config.wait = Wait::Adaptive;
    },
};

const UNTRACKED: Setup = Setup {
    name: "pinfeed, native, numbers not looked at",
    messages: 40_000_000,
    configure: |config| {
        config.engine = Some(Engine::Native);
        config.feeds[0].sequence.track = false;
    },
};

const ARBITRATED: Setup = Setup {
    name: "pinfeed, native, two lines arbitrated",
    messages: 40_000_000,
    configure: |config| {
        config.engine = Some(Engine::Native);
        // However far one line gets ahead of the other.
        config.feeds[0].arbitration = Some(Arbitration {
            wait_ms: 60_000,
            ..Arbitration::default()
        });
    },
};

const WAITING: Setup = Setup {
    name: "shards stay",
    messages: 6_000_000,
    configure: |config| {
        config.engine = Some(Engine::Native);
        config.workers.count = skew::WORKERS;
    },
};

const WAITING_MOVED: Setup = Setup {
    name: "shards move",
    messages: 6_000_000,
    configure: |config| {
        (WAITING.configure)(config);
        config.sharding.rebalance = true;
    },
};

/// What the comparisons of feeds and of latencies are made with: what users get.
const CHOSEN: Setup = NATIVE;

/// How long latencies are measured for, in seconds.
const LATENCY_S: u64 = 3;

/// Cases that are printed together, in turn.
pub struct Group {
    pub title: &'static str,
    /// The word that asks for this group.
    pub word: &'static str,
    pub cases: Vec<Case>,
    /// The places of the cases that all others are compared with.
    pub baselines: Vec<usize>,
}

/// A subject and what it is given.
pub struct Case {
    pub name: String,
    pub subject: Subject,
    pub feed: Feed,
    pub messages: u64,
}

impl Case {
    fn new(subject: Subject, feed: Feed, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            messages: match feed.rate {
                Some(rate) => rate as u64 * LATENCY_S,
                None => subject.messages(),
            },
            subject,
            feed,
        }
    }

    fn named_by_subject(subject: Subject) -> Self {
        Self::new(subject, Feed::PLAIN, subject.name())
    }
}

/// What is looked at of a case.
#[derive(Clone, Copy)]
pub enum Figure {
    MessagesPerSecond,
    CpuPerMessage,
    LatencyP50,
    LatencyP99,
    /// The median of the p99 of slices of time.
    SliceP99,
    /// Nanoseconds that one case takes more than the other.
    CpuMore,
}

/// Which side of a ratio is good.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// A ratio that should come out, between two cases by name.
pub struct Target {
    pub figure: Figure,
    pub of: String,
    pub to: String,
    pub goal: Goal,
}

impl Target {
    fn new(figure: Figure, of: impl Into<String>, to: impl Into<String>, goal: Goal) -> Self {
        Self {
            figure,
            of: of.into(),
            to: to.into(),
            goal,
        }
    }
}

const BASELINES: [Subject; 4] = [
    Subject::Plain,
    Subject::Bare,
    Subject::BareOnOneCore,
    Subject::OneByOne,
];

/// Rates that latency is measured at, with what their cases are called by.
const RATES: [(f64, &str); 2] = [(100_000.0, "100,000"), (1_000_000.0, "1,000,000")];

pub fn groups() -> Vec<Group> {
    let chosen = Subject::Pinfeed(CHOSEN);
    let polling = Subject::Pinfeed(NATIVE_ADAPTIVE);
    let of = |setup: Setup, name: &str, feed: Feed| {
        let case = format!("{}: {name}", setup.name);
        Case::new(Subject::Pinfeed(setup), feed, case)
    };
    let feed = |name: &str, feed: Feed| of(CHOSEN, name, feed);
    let plain =
        |name: &str, feed: Feed| Case::new(Subject::Plain, feed, format!("plain recv: {name}"));
    let with = |topics, connections| Feed {
        topics,
        connections,
        ..Feed::PLAIN
    };
    let copied = Feed {
        topics: 10_000,
        copies: 2,
        ..Feed::PLAIN
    };
    let waiting = |setup: Setup, name: &str, busiest_percent| {
        let feed = Feed {
            busiest_percent,
            ..Feed::PLAIN
        };
        Case::new(
            Subject::Waiting(setup),
            feed,
            format!("{name}, {}", setup.name),
        )
    };
    let framed = |frames| Feed {
        frames,
        ..Feed::PLAIN
    };
    let pinfeed = [
        Subject::Pinfeed(LIBZMQ),
        chosen,
        Subject::Pinfeed(UNTRACKED),
        polling,
        Subject::Pinfeed(NATIVE_OVER_INPROC),
        Subject::Counting(CHOSEN),
    ];
    vec![
        Group {
            title: "Throughput",
            word: "throughput",
            cases: BASELINES
                .into_iter()
                .chain(pinfeed)
                .map(Case::named_by_subject)
                .collect(),
            baselines: vec![0, 1, 2, 3],
        },
        Group {
            title: "Frames: the same bytes as one and as two",
            word: "frames",
            cases: vec![feed("one frame", framed(1)), feed("two frames", framed(2))],
            baselines: vec![0],
        },
        Group {
            title: "Topics",
            word: "topics",
            cases: vec![
                plain("100,000 topics", with(100_000, 1)),
                feed("10 topics", with(10, 1)),
                feed("100,000 topics", with(100_000, 1)),
                of(UNTRACKED, "10 topics", with(10, 1)),
                of(UNTRACKED, "100,000 topics", with(100_000, 1)),
            ],
            baselines: vec![1],
        },
        Group {
            title: "Accounting: 10,000 topics, tracked by number or not; two copies of the feed, delivered twice or once",
            word: "accounting",
            cases: vec![
                Case::new(
                    Subject::Pinfeed(UNTRACKED),
                    with(10_000, 1),
                    "10,000 topics, numbers not looked at",
                ),
                Case::new(chosen, with(10_000, 1), "10,000 topics, tracked"),
                Case::new(
                    Subject::Pinfeed(UNTRACKED),
                    copied.clone(),
                    "two lines, all copies delivered",
                ),
                Case::new(
                    Subject::Pinfeed(ARBITRATED),
                    copied,
                    "two lines, arbitrated",
                ),
            ],
            baselines: vec![0],
        },
        Group {
            title: "Connections: the same messages over one and over many",
            word: "connections",
            cases: vec![
                plain("64 connections", with(1_024, 64)),
                feed("1 connection", with(1_024, 1)),
                feed("64 connections", with(1_024, 64)),
                of(UNTRACKED, "1 connection", with(1_024, 1)),
                of(UNTRACKED, "64 connections", with(1_024, 64)),
            ],
            baselines: vec![1],
        },
        Group {
            title: "Something between, 10,000 topics; CPU time is the subscriber's",
            word: "between",
            cases: Middle::ALL
                .map(|middle| {
                    let feed = Feed {
                        envelope: Envelope::Delimited(b'|'),
                        topics: 10_000,
                        ..Feed::PLAIN
                    };
                    Case::new(Subject::Behind(CHOSEN, middle), feed, middle.name())
                })
                .into(),
            baselines: vec![0],
        },
        Group {
            title: "Skew: 4 workers whose handler waits for 2 µs a message, as for a disk; the second half of the messages, when shards have moved",
            word: "skew",
            cases: vec![
                waiting(WAITING, skew::ALIKE, 0),
                waiting(WAITING, skew::BUSY, skew::BUSIEST_PERCENT),
                waiting(WAITING_MOVED, skew::BUSY, skew::BUSIEST_PERCENT),
            ],
            baselines: vec![1],
        },
        Group {
            title: "Latency at fixed rates, from the intended send time, the publisher on a core of its own",
            word: "latency",
            cases: RATES
                .into_iter()
                .flat_map(|(rate, name)| {
                    let rate = Feed {
                        rate: Some(rate),
                        ..Feed::PLAIN
                    };
                    [Subject::Bare, chosen, polling].map(|subject| {
                        let name = format!("{}: {name} a second", subject.name());
                        Case::new(subject, rate.clone(), name)
                    })
                })
                .collect(),
            baselines: Vec::new(),
        },
        Group {
            title: "A stall of two seconds, by policy: latency to the other three workers, 200,000 messages a second; slices are hundredths of these two seconds",
            word: "stall",
            cases: Stall::all()
                .flat_map(|stall| [stall, stall.stalled()])
                .map(|stall| {
                    let feed = Feed {
                        rate: Some(stall::RATE),
                        ..Feed::PLAIN
                    };
                    Case {
                        messages: stall::RATE as u64 * stall::RUN_S,
                        ..Case::new(Subject::Stalled(stall), feed, stall.name())
                    }
                })
                .collect(),
            baselines: Vec::new(),
        },
    ]
}

pub fn targets() -> Vec<Target> {
    use Figure::{CpuMore, CpuPerMessage, LatencyP50, LatencyP99, MessagesPerSecond, SliceP99};
    use Goal::{AtLeast, AtMost};
    let chosen = CHOSEN.name;
    let case = |name: &str| format!("{chosen}: {name}");
    let untracked = |name: &str| format!("{}: {name}", UNTRACKED.name);
    let (bare, plain) = (Subject::Bare.name(), Subject::Plain.name());
    let mut targets = vec![
        Target::new(MessagesPerSecond, chosen, &bare, AtLeast(7.0)),
        Target::new(CpuPerMessage, chosen, &bare, AtMost(0.1)),
        Target::new(CpuPerMessage, chosen, &plain, AtMost(4.0)),
        // Histograms and ledger are on with these as well.
        Target::new(MessagesPerSecond, UNTRACKED.name, &bare, AtLeast(7.0)),
        Target::new(CpuPerMessage, UNTRACKED.name, &bare, AtMost(0.1)),
        Target::new(CpuPerMessage, UNTRACKED.name, &plain, AtMost(4.0)),
        Target::new(
            MessagesPerSecond,
            NATIVE_OVER_INPROC.name,
            chosen,
            AtLeast(0.8),
        ),
        Target::new(
            MessagesPerSecond,
            case("two frames"),
            case("one frame"),
            AtLeast(0.75),
        ),
        Target::new(
            MessagesPerSecond,
            case("100,000 topics"),
            case("10 topics"),
            AtLeast(0.75),
        ),
        Target::new(
            MessagesPerSecond,
            untracked("100,000 topics"),
            untracked("10 topics"),
            AtLeast(0.75),
        ),
        Target::new(
            CpuMore,
            "10,000 topics, tracked",
            "10,000 topics, numbers not looked at",
            AtMost(10.0),
        ),
        Target::new(
            CpuMore,
            "two lines, arbitrated",
            "two lines, all copies delivered",
            AtMost(15.0),
        ),
        Target::new(
            MessagesPerSecond,
            case("64 connections"),
            case("1 connection"),
            AtLeast(0.8),
        ),
        Target::new(
            MessagesPerSecond,
            untracked("64 connections"),
            untracked("1 connection"),
            AtLeast(0.8),
        ),
    ];
    targets.extend([
        Target::new(
            MessagesPerSecond,
            Middle::StalledTap.name(),
            Middle::Tap.name(),
            AtLeast(0.9),
        ),
        Target::new(
            MessagesPerSecond,
            Middle::Cache.name(),
            Middle::Proxy.name(),
            AtLeast(0.7),
        ),
    ]);
    let busy = |setup: Setup| format!("{}, {}", skew::BUSY, setup.name);
    targets.push(Target::new(
        MessagesPerSecond,
        busy(WAITING_MOVED),
        busy(WAITING),
        // Its worker had 67 % of all, and is left with 56: no more than 1.2 can come of it.
        AtLeast(1.1),
    ));
    targets.extend(RATES.into_iter().flat_map(|(_, name)| {
        let at = |subject: &str| format!("{subject}: {name} a second");
        [chosen, NATIVE_ADAPTIVE.name]
            .map(|setup| Target::new(LatencyP50, at(setup), at(&bare), AtMost(0.6)))
    }));
    targets.extend([LatencyP99, SliceP99].into_iter().flat_map(|figure| {
        Stall::all().map(move |stall| {
            let stalled = stall.stalled().name();
            Target::new(figure, stalled, stall.name(), AtMost(2.0))
        })
    }));
    targets
}
