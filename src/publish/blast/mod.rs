//! A publisher that costs next to nothing: messages encoded once, written to sockets without libzmq.
//!
//! The point is to saturate a subscriber, not to share the machine with it: libzmq takes some 500 ns a
//! message, and its subscribers no more than they are sent. Here a block of messages is encoded
//! once and sent over and over, 64 KiB at a time; only sequence numbers and timestamps are written anew.
//! Over loopback, a message of 64 bytes costs the blaster some 9 ns, two thirds of it the kernel's copy.
//!
//! All subscribers are served by one thread, a chunk at a time: the next is stamped once the slowest has
//! taken the last. So nothing is lost, and nothing is queued beyond what the kernel holds.
//!
//! # Time
//! At a fixed rate the blaster is to be where it says, to microseconds, since latency is measured from
//! the times it writes. A thread that sleeps wakes up 50 µs late or more (timer slack, and an idle core
//! that has to wake up), so it polls the clock for the last [`SPIN_NS`] and sleeps only where there is
//! longer to wait: below some 500 messages a second. That takes a whole core, which is what a test
//! machine can give and a feed's host could not. Everything that is due by then is written at once.
//! Timestamps are the *intended* times by the wall clock, so that what the blaster itself is late counts
//! as latency, and is not left out. Flat out there is no such time, and it is that of stamping, read once
//! a chunk.

mod block;
mod lateness;
mod peers;
mod subscriber;
mod subscriptions;

use std::{io, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    clock::{Deadline, Stopwatch, wall_ns},
    envelope::Envelope,
    error::{Error, Result},
    message::FRAMES_MAX,
    publish::{
        Item, Published, PublisherOptions, Recording, Schedule, Source, Until,
        capture::Capture,
        format::{Format, check_frames},
        schedule::due_before,
    },
    stop::Stop,
};
use block::Block;
use lateness::Lateness;
use peers::{Peers, WAIT_MAX};

/// Bytes stamped and written at once: some 1,000 messages of 64 bytes a system call. Over one connection half of it,
/// twice and four times as much cost the blaster as much CPU time a message; over 64, each with topics of its own, a
/// quarter of it, which a block of 16,000 messages has for each, a third more.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long before a message is due the blaster stops sleeping, in nanoseconds. The poller counts in
/// milliseconds.
const SPIN_NS: u64 = 1_000_000;
/// How long after the end of its time the blaster waits for subscribers to take the last chunk, which those
/// that are at work do at once.
const LAST_GRACE: Duration = Duration::from_millis(100);
/// How often subscribers are listened to while messages flow, in nanoseconds.
const ATTEND_EVERY_NS: u64 = 1_000_000;

/// A publisher of messages encoded beforehand that waits for slow subscribers.
///
/// ```no_run
/// use pinfeed::{
///     envelope::Envelope,
///     publish::{Blaster, PublisherOptions, Until, exchange::{Exchange, Parameters}},
///     stop::Stop,
/// };
///
/// let parameters = Parameters { rate: None, ..Parameters::default() };
/// let mut exchange = Exchange::new(parameters)?;
/// let options = PublisherOptions {
///     bind: vec!["tcp://127.0.0.1:5556".to_owned()],
///     connect: Vec::new(),
///     envelope: Envelope::Pinfeed,
///     epoch: None,
/// };
/// let mut blaster = Blaster::open(&options, &mut exchange, parameters.topics, parameters.schedule())?;
/// let stop = Stop::default();
/// blaster.wait_for_subscriptions(1, &stop)?;
/// let until = Until { messages: Some(100_000_000), elapsed: None };
/// let done = blaster.publish(until, &stop)?;
/// assert_eq!(done.published, 100_000_000);
/// # Ok::<(), pinfeed::Error>(())
/// ```
pub struct Blaster {
    block: Block,
    timing: Timing,
    peers: Peers,
    /// The messages of each part of the block that come next. One part goes to all endpoints, of several
    /// each to its own.
    next: Vec<usize>,
    /// The part that comes next.
    turn: usize,
    /// How long after the first message lateness is not recorded.
    warm_up: Duration,
    /// Of the last stream.
    lateness: Lateness,
}

/// How the messages of a [`Blaster`] go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Frames of each message, 1 to [`FRAMES_MAX`]. More than one take the envelope `pinfeed`, which stands in the
    /// first with a part of the payload; the others have equal parts of the rest.
    pub frames: usize,
    /// Whether each endpoint gets topics of its own, and all have their turn; otherwise each gets all.
    pub split: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            frames: 1,
            split: false,
        }
    }
}

/// When messages are due.
enum Timing {
    Steady(Schedule),
    Recorded(Recording),
}

impl Timing {
    #[inline]
    fn due_ns(&self, message: u64) -> Option<u64> {
        match self {
            Self::Steady(schedule) => schedule.due_ns(message),
            Self::Recorded(recording) => Some(recording.due_ns(message)),
        }
    }
}

impl Blaster {
    /// Encodes as many messages of `source` as it has `topics`, and no fewer than make a megabyte, then
    /// opens the sockets. When the source says that they are due does not matter; `schedule` does.
    ///
    /// # Errors
    /// What the source fails with; [`Error::Config`] for an endpoint that is
    /// malformed or can't be bound, and an envelope that can only be read; [`Error::Socket`].
    pub fn open(
        options: &PublisherOptions,
        source: &mut dyn Source,
        topics: usize,
        schedule: Schedule,
    ) -> Result<Self> {
        Self::open_as(Wire::default(), options, source, topics, schedule)
    }

    /// As [`open`](Self::open), with messages that go over the wire like this.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Config`] for a number of frames that can't be.
    pub fn open_as(
        wire: Wire,
        options: &PublisherOptions,
        source: &mut dyn Source,
        topics: usize,
        schedule: Schedule,
    ) -> Result<Self> {
        Self::open_parts(options, source, topics, wire, Timing::Steady(schedule))
    }

    /// Encodes a whole capture, and sends it when its messages were captured, over and over.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Config`] for a capture without messages, or of more than 256 MiB.
    pub fn open_capture(options: &PublisherOptions, capture: &mut Capture) -> Result<Self> {
        let mut noted = Noted {
            capture,
            due_ns: Vec::new(),
        };
        let flat_out = Timing::Steady(Schedule {
            rate: None,
            burst: 1,
        });
        let mut blaster =
            Self::open_parts(options, &mut noted, usize::MAX, Wire::default(), flat_out)?;
        let path = noted.capture.path().display().to_string();
        let refused = |problem: &str| {
            let remedy = "give another one, or leave --blast out";
            Error::config("--capture", &path, problem, remedy)
        };
        if blaster.block.messages() == 0 {
            return Err(refused("it has no messages"));
        }
        if noted.capture.next(&mut Vec::new())?.is_some() {
            return Err(refused("it is too long to be encoded beforehand"));
        }
        if let Some(due_ns) = noted.due_ns.into_iter().collect() {
            blaster.timing = Timing::Recorded(Recording::new(due_ns));
        }
        Ok(blaster)
    }

    fn open_parts(
        options: &PublisherOptions,
        source: &mut dyn Source,
        topics: usize,
        wire: Wire,
        timing: Timing,
    ) -> Result<Self> {
        check_frames(wire.frames, FRAMES_MAX)?;
        if wire.frames > 1 && options.envelope != Envelope::Pinfeed {
            return Err(Error::config(
                "--frames",
                wire.frames,
                format!(
                    "messages in the envelope {} are not split",
                    options.envelope
                ),
                "give the envelope pinfeed, or leave --frames out",
            ));
        }
        let endpoints = options.bind.len() + options.connect.len();
        let parts = if wire.split { endpoints.max(1) } else { 1 };
        let epoch = options.epoch.unwrap_or_else(wall_ns);
        let format = Format::of(&options.envelope)?;
        let block = Block::encode(source, (format, wire.frames), epoch, topics, parts)?;
        Ok(Self {
            timing,
            next: (0..parts)
                .map(|part| block.messages_of(part).start)
                .collect(),
            block,
            peers: Peers::open(&options.bind, &options.connect)?,
            turn: 0,
            warm_up: Duration::ZERO,
            lateness: Lateness::new(0),
        })
    }

    /// Returns the endpoints, with the ports that wildcards were given.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.peers.endpoints()
    }

    /// Returns how many peers it hung up on: they did not speak ZMTP, did not finish their handshake in
    /// time, asked for too much, or were too many.
    #[must_use]
    pub fn rejected_peers(&self) -> u64 {
        self.peers.rejected()
    }

    /// Has `tell` called, once, with the kernel's reason should it refuse a connection: too many open files,
    /// mostly. Whoever wants to connect waits then, and is asked in as soon as there is room.
    pub fn on_refused(&mut self, tell: impl FnOnce(&io::Error) + Send + 'static) {
        self.peers.on_refused(Box::new(tell));
    }

    /// Leaves what is stamped within `warm_up` of a stream's first message out of
    /// [`lateness_ns`](Self::lateness_ns): what a subscriber leaves out of its latencies.
    pub fn warm_up_for(&mut self, warm_up: Duration) {
        self.warm_up = warm_up;
    }

    /// Returns how late the messages of the last call of [`publish`](Self::publish) were by the blaster's
    /// own fault, in nanoseconds: without what subscribers made it wait.
    #[must_use]
    pub fn lateness_ns(&self) -> &Histogram<u64> {
        self.lateness.histogram()
    }

    /// Waits until `count` subscriptions have come, one for each prefix of each subscriber, or
    /// `stop` is requested.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn wait_for_subscriptions(&mut self, count: u64, stop: &Stop) -> Result<()> {
        while self.peers.subscriptions() < count && !stop.requested() {
            self.peers.attend(&self.block, WAIT_MAX)?;
        }
        Ok(())
    }

    /// Waits until all subscribers have gone, `limit` has passed, or `stop` is requested: one that is
    /// still sending something, a heartbeat perhaps, when the publisher closes would lose what its kernel
    /// holds.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn wait_for_departure(&mut self, limit: Duration, stop: &Stop) -> Result<()> {
        let deadline = Deadline::after(limit);
        self.peers.attend(&self.block, Duration::ZERO)?;
        while self.peers.has_subscriber() && !deadline.passed() && !stop.requested() {
            self.peers.attend(&self.block, WAIT_MAX)?;
        }
        Ok(())
    }

    /// Publishes until `until` is reached or `stop` is requested. Subscribers that come meanwhile get
    /// what comes after.
    ///
    /// Where the time is over, or `stop` is requested, while a subscriber makes it wait, what that one was
    /// about to get counts as published, and as [`unsent`](Published::unsent) with what was due by then.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn publish(&mut self, until: Until, stop: &Stop) -> Result<Published> {
        let messages_max = until.messages.unwrap_or(u64::MAX);
        let end_ns = until
            .elapsed
            .map_or(u64::MAX, |elapsed| elapsed.as_nanos() as u64);
        let end = || {
            until
                .elapsed
                .map(|elapsed| Deadline::after(elapsed + LAST_GRACE))
        };
        // With what an earlier call left when it was asked to stop, or out of time.
        self.peers.catch_up(&self.block, end(), stop)?;
        if self.peers.are_behind() {
            return Ok(Published::default());
        }
        let start_wall_ns = wall_ns();
        let watch = Stopwatch::start();
        let end = end();
        let mut attended_ns = 0;
        let mut done = Published::default();
        self.lateness = Lateness::new(self.warm_up.as_nanos() as u64);
        while done.published < messages_max && self.block.messages() > 0 {
            let due_ns = self.timing.due_ns(done.published);
            if due_ns.is_some_and(|due_ns| due_ns >= end_ns) {
                break;
            }
            let now_ns = self.wait_until(due_ns.unwrap_or(0), &watch, &mut attended_ns, stop)?;
            if now_ns >= end_ns || stop.requested() {
                break;
            }
            let (timing, sent) = (&self.timing, done.published);
            let due_ns = |index| timing.due_ns(sent + index);
            let part = self.block.messages_of(self.turn);
            let mut messages = self.block.chunk(
                self.next[self.turn]..part.end,
                CHUNK_BYTES,
                messages_max - sent,
            );
            if let Some(first_due_ns) = due_ns(0) {
                done.late_ns_max = done.late_ns_max.max(now_ns - first_due_ns);
                let due = (1..messages.len()).find(|&index| due_ns(index as u64) > Some(now_ns));
                messages.end = due.map_or(messages.end, |due| messages.start + due);
                self.lateness.record(now_ns, messages.len(), |index| {
                    due_ns(index).unwrap_or(now_ns)
                });
                self.block.stamp(messages.clone(), |index| {
                    start_wall_ns + due_ns(index).unwrap_or(now_ns)
                });
            } else {
                self.block
                    .stamp(messages.clone(), |_| start_wall_ns + now_ns);
            }
            let endpoint = (self.next.len() > 1).then_some(self.turn);
            self.peers.hand_over(&self.block, &messages, endpoint);
            if self.peers.are_behind() {
                let from_ns = watch.elapsed_ns();
                self.peers.catch_up(&self.block, end, stop)?;
                self.lateness.excuse(from_ns, watch.elapsed_ns());
                done.unsent = self.peers.unsent(&self.block, &messages);
            }
            done.published += messages.len() as u64;
            done.payload_bytes += self.block.payload_bytes(messages.clone());
            self.next[self.turn] = if messages.end == part.end {
                part.start
            } else {
                messages.end
            };
            self.turn = self.turn_after(self.turn);
            if done.unsent > 0 {
                break;
            }
        }
        if watch.elapsed_ns() >= end_ns {
            let due = due_before(|message| self.timing.due_ns(message), end_ns);
            done.unsent += due.min(messages_max).saturating_sub(done.published);
        }
        done.elapsed_s = watch.elapsed_ns() as f64 / 1e9;
        (done.lateness_ns, done.blocked_s) = (self.lateness.quantiles(), self.lateness.blocked_s());
        Ok(done)
    }

    /// Returns the part with messages that comes after another one.
    fn turn_after(&self, turn: usize) -> usize {
        let parts = self.next.len();
        let mut others = (1..=parts).map(|step| (turn + step) % parts);
        others
            .find(|&part| !self.block.messages_of(part).is_empty())
            .unwrap_or(turn)
    }

    /// Waits until `due_ns` or a request to stop, listening to subscribers now and then, and returns the
    /// time.
    fn wait_until(
        &mut self,
        due_ns: u64,
        watch: &Stopwatch,
        attended_ns: &mut u64,
        stop: &Stop,
    ) -> Result<u64> {
        loop {
            let now_ns = watch.elapsed_ns();
            if now_ns - *attended_ns >= ATTEND_EVERY_NS {
                *attended_ns = now_ns;
                let spare_ns = due_ns.saturating_sub(now_ns).saturating_sub(SPIN_NS);
                let spare = Duration::from_millis(spare_ns / 1_000_000);
                self.peers.attend(&self.block, spare)?;
            } else if now_ns >= due_ns || stop.requested() {
                return Ok(now_ns);
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// A capture, with when its messages were due.
struct Noted<'a> {
    capture: &'a mut Capture,
    due_ns: Vec<Option<u64>>,
}

impl Source for Noted<'_> {
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Item>> {
        let item = self.capture.next(payload)?;
        self.due_ns.extend(item.map(|item| item.due_ns));
        Ok(item)
    }

    fn topic(&self, index: usize) -> &[u8] {
        self.capture.topic(index)
    }
}
