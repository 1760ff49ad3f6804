//! Measuring what a host carries, and where it breaks.
//!
//! Generator and subject are processes of their own, `pinfeed publish --blast` and `pinfeed run`, each
//! confined to stated cores, over loopback TCP. At a rate the loop is open: messages are stamped with the
//! time they were *due*, so a subject that stalls delays all messages of that time, and shows it. A closed
//! loop would wait for it and ask it nothing meanwhile.
//!
//! How late the generator was by its own fault is measured beside the subject's latencies, and a run whose
//! rate was missed is invalid, whoever is to blame. Rates are messages a second, times nanoseconds
//! unless a name says otherwise.

pub mod baseline;
mod capacity;
mod costs;
mod folder;
mod generator;
mod hiccups;
mod latency;
mod load;
mod measured;
mod objective;
mod paired;
mod process;
pub mod record;
mod replay;
pub mod series;
mod spread;
mod step;
mod subject;
mod sweep;
mod throughput;
mod tries;
mod verdict;

pub use capacity::{Found, NEAR_ENOUGH, Search, SearchEnd, curve};
pub use costs::measure as measure_costs;
pub use folder::ResultFolder;
pub use latency::LatencyPlan;
pub use measured::{LatencyRun, Stage, csv, feed_spread, spread};
pub use objective::{BadObjective, Judgement, Objective};
pub use paired::paired_ratios;
pub use replay::{
    ReplayEnd, ReplayPlan, ReplayStep, Replayed, SPEED_MAX, SPEED_MIN, by_speed, highest_speed,
    replay_table, speeds,
};
pub use spread::Spread;
pub use step::{Step, Tells};
pub use sweep::{
    AtRate, BadVary, FlatOut, Point, Property, Vary, at_rate_csv, at_rate_figures, at_rate_table,
    flat_out_csv, flat_out_figures, flat_out_table,
};
pub use throughput::{
    Contender, Figures, Ratio, Throughput, ThroughputPlan, ThroughputRun, ratios, throughput_csv,
    throughput_table,
};
pub use tries::{REPEATS_MAX, Tries, by_load, together, verdicts};
pub use verdict::{HasVerdict, Validity, Verdict};

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    config::{BATCH_MESSAGES_MAX, Engine},
    envelope::pinfeed::OVERHEAD_BYTES,
    error::{Error, Result},
    handoff::HandoffKind,
    host::topology::usable_cores,
    publish::{
        check_frames,
        exchange::{Exchange, Parameters},
        payload_parts,
    },
    stop::Stop,
    wait::Wait,
};

/// Bytes of a topic of the synthetic exchange.
const TOPIC_BYTES: usize = 9;
/// The most topics that all have names of [`TOPIC_BYTES`], so that messages are of one size.
const TOPICS_MAX: usize = 100_000;
/// The most workers.
const WORKERS_MAX: usize = 256;
/// The most connections, to all publishers.
const CONNECTIONS_MAX: usize = 256;
/// The most publishers: each is a process.
const PUBLISHERS_MAX: usize = 64;
/// The longest frame whose length takes one byte.
const SHORT_FRAME_BYTES_MAX: usize = 255;

/// What is sent, and how the subject is set up.
#[derive(Clone, Debug, Serialize)]
pub struct Shape {
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Frames of a message, which the payload is split over.
    pub frames: usize,
    /// Topics, at most 100,000.
    pub topics: usize,
    /// How unevenly messages are spread over them: the exponent of Zipf's law.
    pub skew: f64,
    /// The subject's workers.
    pub workers: usize,
    /// The subject's engine.
    #[serde(serialize_with = "engine_name")]
    pub engine: Engine,
    /// What carries messages to its workers.
    #[serde(serialize_with = "displayed")]
    pub handoff: HandoffKind,
    /// How its threads wait.
    #[serde(serialize_with = "displayed")]
    pub wait: Wait,
    /// Messages in one of its batches, at most.
    pub batch_messages: usize,
    /// Publishers, each a process with topics of its own, that send equal shares.
    pub publishers: usize,
    /// Connections to each publisher, each with topics of its own.
    pub connections: usize,
    /// The subject's lanes, which connections are spread over.
    pub lanes: usize,
}

/// How the subject is set up, where a capture says what is sent.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectShape {
    workers: usize,
    #[serde(serialize_with = "engine_name")]
    engine: Engine,
    #[serde(serialize_with = "displayed")]
    handoff: HandoffKind,
    #[serde(serialize_with = "displayed")]
    wait: Wait,
    batch_messages: usize,
}

fn engine_name<S: serde::Serializer>(
    engine: &Engine,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(engine.name())
}

fn displayed<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Shape {
    /// Returns how the subject is set up.
    #[must_use]
    pub fn of_subject(&self) -> SubjectShape {
        SubjectShape {
            workers: self.workers,
            engine: self.engine,
            handoff: self.handoff,
            wait: self.wait,
            batch_messages: self.batch_messages,
        }
    }

    /// Returns the bytes of a message, its envelope included.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        TOPIC_BYTES + OVERHEAD_BYTES + self.payload_bytes
    }

    /// Returns the bytes that a message takes on the wire.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        // Envelope and topic stand in the first frame.
        let mut before = TOPIC_BYTES + OVERHEAD_BYTES;
        let of_frame = |part: usize| {
            let bytes = std::mem::take(&mut before) + part;
            let head = if bytes > SHORT_FRAME_BYTES_MAX { 9 } else { 2 };
            (head + bytes) as u64
        };
        payload_parts(self.payload_bytes, self.frames)
            .map(of_frame)
            .sum()
    }

    /// Returns the connections to all publishers.
    #[must_use]
    pub fn connections_in_all(&self) -> usize {
        self.publishers * self.connections
    }

    /// Returns what tells this shape's names from others', where it is not as usual: `-frames2-lanes2`.
    #[must_use]
    pub fn unusual(&self) -> String {
        let parts = [
            ("frames", self.frames),
            ("publishers", self.publishers),
            ("connections", self.connections),
            ("lanes", self.lanes),
        ];
        let unusual = parts.iter().filter(|(_, value)| *value != 1);
        unusual
            .map(|(name, value)| format!("-{name}{value}"))
            .collect()
    }

    /// Checks that it can be sent and received at a rate.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Error::Config`] for several publishers.
    pub fn check_at_rate(&self) -> Result<()> {
        if self.publishers > 1 {
            return Err(Error::config(
                "--publishers",
                self.publishers,
                "at a rate there is one, which keeps to the times that messages are due",
                "give 1, or measure flat out",
            ));
        }
        self.check()
    }

    /// Checks that it can be sent and received.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag.
    pub fn check(&self) -> Result<()> {
        if self.topics > TOPICS_MAX {
            return Err(Error::config(
                "--topics",
                self.topics,
                "messages would not be of one size",
                format!("give 1 to {TOPICS_MAX}"),
            ));
        }
        // It knows what it can publish.
        Exchange::new(Parameters {
            topics: self.topics,
            skew: self.skew,
            payload_bytes: self.payload_bytes,
            ..Parameters::default()
        })?;
        check_frames(self.frames, self.payload_bytes)?;
        for (flag, value, max) in [
            ("--workers", self.workers, WORKERS_MAX),
            ("--batch-messages", self.batch_messages, BATCH_MESSAGES_MAX),
            (
                "--publishers",
                self.publishers,
                PUBLISHERS_MAX.min(self.topics),
            ),
            (
                "--connections",
                self.connections,
                CONNECTIONS_MAX.min(self.topics) / self.publishers.max(1),
            ),
        ] {
            if value == 0 || value > max {
                let range = format!("give 1 to {max}");
                return Err(Error::config(flag, value, "it is out of range", range));
            }
        }
        let connections = self.connections_in_all();
        if self.lanes == 0 {
            return Err(Error::config(
                "--lanes",
                0,
                "nothing would receive",
                "give 1 or more",
            ));
        }
        if self.lanes > connections {
            return Err(Error::config(
                "--lanes",
                self.lanes,
                format!("{connections} connection(s) can't be spread over so many lanes"),
                "give no more than that, or more --connections",
            ));
        }
        Ok(())
    }
}

/// The cores that the two sides are confined to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cores {
    /// The generator's, which it keeps busy at any rate; of several publishers each has the next, in turn.
    pub generator: Vec<usize>,
    /// The subject's.
    pub subject: Vec<usize>,
}

impl Cores {
    /// Chooses those that are not given: the first core for the generator, of several publishers one for each but no
    /// more than half of all, and all others for the subject.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag, for a core that this process may not use.
    pub fn choose(
        publishers: usize,
        generator: Option<&[usize]>,
        subject: Option<&[usize]>,
    ) -> Result<Self> {
        Self::choose_among(&usable_cores(), publishers, generator, subject)
    }

    fn choose_among(
        usable: &[usize],
        publishers: usize,
        generator: Option<&[usize]>,
        subject: Option<&[usize]>,
    ) -> Result<Self> {
        let list = |cores: &[usize]| {
            let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
            cores.join(",")
        };
        let check = |flag: &str, cores: &[usize]| {
            let absent: Vec<usize> = cores
                .iter()
                .copied()
                .filter(|core| !usable.contains(core))
                .collect();
            if absent.is_empty() {
                return Ok(());
            }
            Err(Error::config(
                flag,
                list(cores),
                format!("this process may not use core {}", list(&absent)),
                format!("give some of {}", list(usable)),
            ))
        };
        check("--generator-cores", generator.unwrap_or_default())?;
        check("--subject-cores", subject.unwrap_or_default())?;
        let generator = generator.map_or_else(
            || {
                let taken = |core: &&usize| !subject.unwrap_or_default().contains(core);
                let most = publishers.min(usable.len() / 2).max(1);
                let free: Vec<usize> = usable.iter().filter(taken).take(most).copied().collect();
                match free.is_empty() {
                    true => usable.first().copied().into_iter().collect(),
                    false => free,
                }
            },
            <[usize]>::to_vec,
        );
        let mut others: Vec<usize> = match subject {
            Some(cores) => cores.to_vec(),
            None => usable
                .iter()
                .copied()
                .filter(|core| !generator.contains(core))
                .collect(),
        };
        if others.is_empty() {
            others.clone_from(&generator);
        }
        Ok(Self {
            generator,
            subject: others,
        })
    }

    /// Returns all of them, each once.
    pub(crate) fn all(&self) -> Vec<usize> {
        let mut all = self.subject.clone();
        all.extend(&self.generator);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Tells whether the two sides take a core from each other.
    #[must_use]
    pub fn are_shared(&self) -> bool {
        let mut generator = self.generator.iter();
        generator.any(|core| self.subject.contains(core))
    }
}

/// What all benchmarks need.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The command `pinfeed`, that both sides are processes of.
    pub program: PathBuf,
    /// What is sent, and how the subject is set up.
    pub shape: Shape,
    /// Where the two sides run.
    pub cores: Cores,
    /// Whether to measure the platform's hiccups at the same time, on all cores used, at a rate.
    pub hiccups: bool,
    /// The request to stop, which ends a benchmark with [`Error::Stopped`].
    pub stop: Stop,
}

/// Someone who is told how far a benchmark has come.
pub trait Progress {
    /// A step has begun, with processes of these ids; it takes about `left`, as far as that is known.
    fn begin(&mut self, step: &str, left: Duration, generators: &[u32], subject: u32);

    /// Called some five times a second.
    fn left(&mut self, step: &str, left: Duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_get_cores_of_their_own_where_there_are_enough() {
        for (usable, publishers, generator, subject, chosen) in [
            (&[0, 1][..], 1, None, None, (&[0][..], &[1][..])),
            (&[2, 3, 5], 1, None, None, (&[2], &[3, 5])),
            (&[2, 3, 5], 1, Some(&[3][..]), None, (&[3], &[2, 5])),
            (&[0, 1, 2], 1, None, Some(&[0][..]), (&[1], &[0])),
            (&[0], 1, None, None, (&[0], &[0])),
            (&[0, 1], 1, None, Some(&[0, 1]), (&[0], &[0, 1])),
            (&[0, 1], 2, None, None, (&[0], &[1])),
            (&[0, 1, 2, 3], 2, None, None, (&[0, 1], &[2, 3])),
            (&[0, 1, 2, 3], 9, None, None, (&[0, 1], &[2, 3])),
            (&[0, 1, 2], 2, Some(&[1, 2]), None, (&[1, 2], &[0])),
        ] {
            let cores = Cores::choose_among(usable, publishers, generator, subject).unwrap();
            assert_eq!((&cores.generator[..], &cores.subject[..]), chosen);
            let is_shared = chosen.0.iter().any(|core| chosen.1.contains(core));
            assert_eq!(cores.are_shared(), is_shared, "{chosen:?}");
        }
    }

    #[test]
    fn combinations_that_cannot_be_name_their_flag() {
        let good = Shape {
            payload_bytes: 28,
            frames: 2,
            topics: 1_000,
            skew: 1.0,
            workers: 2,
            engine: Engine::Native,
            handoff: HandoffKind::Ring,
            wait: Wait::Park,
            batch_messages: 1_024,
            publishers: 2,
            connections: 1,
            lanes: 2,
        };
        good.check().unwrap();
        // Half of the payload in each, and a head of two bytes.
        assert_eq!(good.wire_bytes(), (2 + 9 + 29 + 14) + (2 + 14));
        assert_eq!(good.unusual(), "-frames2-publishers2-lanes2");
        type Change = fn(&mut Shape);
        for (change, said) in [
            (
                (|shape| shape.lanes = 3) as Change,
                "--lanes = 3: 2 connection(s) can't be spread over so many lanes; give no more",
            ),
            (
                |shape| shape.frames = 29,
                "--frames = 29: it is out of range; give 1 to 28",
            ),
            (|shape| shape.frames = 0, "--frames = 0: "),
            (
                |shape| shape.lanes = 0,
                "--lanes = 0: nothing would receive; give 1 or more",
            ),
            (
                |shape| shape.publishers = 65,
                "--publishers = 65: it is out of range; give 1 to 64",
            ),
            (
                |shape| shape.connections = 129,
                "--connections = 129: it is out of range; give 1 to 128",
            ),
        ] {
            let mut shape = good.clone();
            change(&mut shape);
            let error = shape.check().unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        let error = good.check_at_rate().unwrap_err().to_string();
        assert!(error.starts_with("--publishers = 2: at a rate "), "{error}");
    }

    #[test]
    fn cores_that_are_not_there_are_named_with_those_that_are() {
        let generator = Cores::choose_among(&[0, 1], 1, Some(&[7]), None).unwrap_err();
        let subject = Cores::choose_among(&[0, 1], 1, None, Some(&[0, 1, 2, 3])).unwrap_err();
        assert_eq!(
            generator.to_string(),
            "--generator-cores = 7: this process may not use core 7; give some of 0,1"
        );
        assert_eq!(
            subject.to_string(),
            "--subject-cores = 0,1,2,3: this process may not use core 2,3; give some of 0,1"
        );
    }
}
