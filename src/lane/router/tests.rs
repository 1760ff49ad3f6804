//! Messages that are routed together end up where they would one by one.

use std::sync::{Arc, Mutex, OnceLock};

use proptest::prelude::*;

use super::*;
use crate::{
    handoff::{BatchLimits, HandoffLimits, Inlet, Outlet, Received, Run, ring},
    lane::{Pressure, Routing, Work},
    ledger::{Ledger, Totals},
    message::Stamp,
    policy::{Rules, TopicTally},
    sequence::{StaleRule, TrackerOptions, arbiter},
    shard::{ShardTable, topic_hash},
    wait::Wait,
};

const LIMITS: HandoffLimits = HandoffLimits {
    batch: BatchLimits {
        messages: 40,
        // Sometimes full before that.
        bytes: 16 * 1024,
    },
    // Nobody gives any back before the end.
    batches: 256,
};
const ORIGIN: Origin = Origin { feed: 0, line: 0 };
const HOUR_NS: u64 = 3_600_000_000_000;

/// Who looks at numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Not,
    Tracked,
    /// Likewise, and at topics that are silent.
    TrackedWithSilence,
    /// By two lines.
    Merged,
}

/// A router, and what its workers would get.
struct Bench {
    router: Router,
    inlets: Vec<Inlet>,
    ledger: Arc<Ledger>,
    merge: Option<Arc<Mutex<Merge>>>,
}

impl Bench {
    fn new(envelope: &Envelope, watched: Watched, workers: usize, topics_max: usize) -> Self {
        let (mut of_lane, mut of_merge, mut inlets) = (Vec::new(), Vec::new(), Vec::new());
        for worker in 0..workers {
            let (ends, inlet) = ring::connect(worker, &[false, false], LIMITS, Wait::Park);
            let [lane, merge] = <[_; 2]>::try_from(ends).expect("two ends");
            of_lane.push(Outlet::Ring(lane));
            of_merge.push(Outlet::Ring(merge));
            inlets.push(Inlet::Ring(inlet));
        }
        let clock = Clock::start();
        let flight = FlightRecord::new(["feed".to_owned()]);
        let ledger = Arc::new(Ledger::new(1, workers));
        let dispatch = |outlets| {
            let pressure = Pressure {
                clock: clock.clone(),
                flight: flight.clone(),
                topics: TopicTally::new(1),
                workers: (0..workers).map(|_| Default::default()).collect(),
                batches: LIMITS.batches,
                work: Work::default(),
            };
            let table = ShardTable::new(workers, Vec::new()).unwrap();
            let rules = Rules::new([Vec::new()]);
            Dispatch::new(Routing::Keyed(table), rules, outlets, LIMITS, pressure)
        };
        let numbering = envelope.numbering();
        let is_tracked = matches!(watched, Watched::Tracked | Watched::TrackedWithSilence);
        let silence = StaleRule {
            prefix: Vec::new(),
            after_ns: HOUR_NS,
        };
        let options = TrackerOptions {
            numbering: numbering.filter(|_| is_tracked),
            from_start: false,
            topics_max,
            stale_after_ns: None,
            stale_rules: match watched {
                Watched::TrackedWithSilence => vec![silence],
                _ => Vec::new(),
            },
            recover_ns: 0,
        };
        let mut tracker = Tracker::new(options);
        tracker.connected(true, 0, &mut |_| {});
        let mut merge = None;
        let watches = match watched {
            Watched::Not => vec![Watch::Nothing],
            Watched::Tracked | Watched::TrackedWithSilence => {
                vec![Watch::Tracked(Box::new(tracker))]
            }
            Watched::Merged => {
                let limits = arbiter::Limits {
                    wait_ns: 3,
                    held_messages_max: 20,
                    held_bytes_max: 10_000,
                    topics_max,
                    from_start: false,
                };
                let way = dispatch(of_merge);
                let lines = Merge::new(0, envelope.clone(), 2, limits, tracker, None, way);
                let shared = merge.insert(Arc::new(Mutex::new(lines)));
                (0..2)
                    .map(|_| Watch::Merged(Share::of(shared, 0)))
                    .collect()
            }
        };
        let lines = (0..).zip(watches).map(|(line, watch)| {
            LineRoute::new(Origin { line, ..ORIGIN }, envelope.clone(), watch)
        });
        let tally = Tally::new(0, ledger.clone(), Arc::new(OnceLock::new()));
        let way = dispatch(of_lane);
        Self {
            router: Router::new(way, tally, lines.collect(), 200, flight, clock),
            inlets,
            ledger,
            merge,
        }
    }

    /// Has what merged lines wait for done, at a time of theirs.
    fn tick(&mut self, now_ns: u64) {
        if let Some(merge) = &self.merge {
            let Way { tally, flight, .. } = &mut self.router.way;
            merge.lock().unwrap().tick(tally, flight, now_ns).unwrap();
        }
    }

    /// Ends. Returns what each worker got, in order, what was counted, and what was of each line.
    fn end(mut self) -> (Vec<Vec<String>>, Totals, Vec<[u64; 6]>) {
        self.router.end().unwrap();
        // How many batches they come in is another matter.
        let counts = Totals {
            batches: 0,
            ..self.ledger.totals()
        };
        let lines = self.merge.iter().flat_map(|merge| {
            let merge = merge.lock().unwrap();
            let lines = merge.glance().map(|(line, _)| {
                let (late, lags) = (line.too_late, line.lag.len());
                let (copies, wins) = (line.copies, line.wins);
                [copies, wins, line.duplicates, late, line.repaired, lags]
            });
            lines.collect::<Vec<_>>()
        });
        let lines = lines.collect();
        drop(self.router);
        let got = self.inlets.iter_mut().map(|inlet| {
            let mut got = Vec::new();
            while let Received::Batch(batch) = inlet.receive().unwrap() {
                let mut notes = batch.notes().iter().peekable();
                for index in 0..=batch.len() {
                    while let Some((_, notice)) = notes.next_if(|(before, _)| *before <= index) {
                        got.push(format!("{:?} {:?}", notice.topic, notice.kind));
                    }
                    if index < batch.len() {
                        let message = batch.message(index);
                        let frames: Vec<&[u8]> = message.frames().collect();
                        got.push(format!(
                            "{:?} {:?} {:?} {:?} {:?} {:?} {} {} {frames:?}",
                            message.topic(),
                            message.payload(),
                            message.epoch(),
                            message.sequence(),
                            message.timestamp_ns(),
                            message.origin(),
                            message.topic_hash(),
                            message.received_ns(),
                        ));
                    }
                }
                drop(notes);
                inlet.give_back(batch);
            }
            got
        });
        (got.collect(), counts, lines)
    }
}

/// How messages are routed.
#[derive(Clone, Copy, Debug)]
struct Course {
    workers: usize,
    topics_max: usize,
    /// Messages at once.
    run: usize,
    /// By merged line: one of so many messages does not come by it.
    lost_every: [usize; 2],
}

/// Routes messages in runs as well as one by one, and compares. Where lines are merged, each run comes by both, some
/// runs later by the one that lags, and now one lags, now the other.
fn compare<const N: usize>(
    envelope: &Envelope,
    watched: Watched,
    messages: &[[Vec<u8>; N]],
    course: Course,
) {
    const LAG: usize = 2;
    let bench = || Bench::new(envelope, watched, course.workers, course.topics_max);
    let (mut together, mut apart) = (bench(), bench());
    let mut received = 0;
    let mut route = |now_ns: u64, line: usize, (first, messages): (usize, &[[Vec<u8>; N]])| {
        let is_lost = |index: &usize| {
            let every = course.lost_every[line];
            watched == Watched::Merged && (first + index) % every == every - 1
        };
        let frames: Vec<[&[u8]; N]> = (0..messages.len())
            .filter(|index| !is_lost(index))
            .map(|index| messages[index].each_ref().map(|frame| &frame[..]))
            .collect();
        together.router.route_run(line, now_ns, &frames).unwrap();
        for frames in &frames {
            apart.router.route(line, now_ns, &frames[..]).unwrap();
        }
        received += frames.len() as u64;
        if now_ns.is_multiple_of(5) {
            together.router.offer().unwrap();
            apart.router.flush().unwrap();
        }
        together.tick(now_ns);
        apart.tick(now_ns);
    };
    let runs: Vec<_> = messages.chunks(course.run).collect();
    let run = |number: usize| (number * course.run, runs[number]);
    for number in 0..runs.len() {
        let (now_ns, ahead) = (number as u64 + 1, number / 8 % 2);
        if watched == Watched::Merged {
            route(now_ns, ahead, run(number));
            if let Some(before) = number.checked_sub(LAG) {
                route(now_ns, 1 - ahead, run(before));
            }
        } else {
            route(now_ns, 0, run(number));
        }
    }
    let (together, apart) = (together.end(), apart.end());
    assert_eq!(together.1, apart.1);
    assert_eq!(together.2, apart.2);
    for (together, apart) in together.0.iter().zip(&apart.0) {
        // The first that differs tells enough.
        let pairs = together.iter().zip(apart);
        if let Some((together, apart)) = pairs.into_iter().find(|(one, other)| one != other) {
            assert_eq!(together, apart);
        }
        assert_eq!(together.len(), apart.len());
    }
    assert_eq!(together.1.received, received);
}

proptest! {
    #[test]
    fn together_or_one_by_one(
        steps in proptest::collection::vec((0_u8..8, 0_u64..12, 0_usize..150), 1..400),
        workers in prop_oneof![Just(1), Just(2), Just(3), Just(7), Just(8)],
        run in 1_usize..=32,
        watched in prop_oneof![
            Just(Watched::Not),
            Just(Watched::Tracked),
            Just(Watched::TrackedWithSilence),
            Just(Watched::Merged),
        ],
        topics_max in 6_usize..=8,
        lost_every in [2_usize..60, 2_usize..60],
    ) {
        let course = Course { workers, topics_max, run, lost_every };
        // Mostly in sequence; now and then with a gap, again, or not readable; one topic too many; some too large.
        let mut next = [0_u64; 8];
        let mut numbered = Vec::new();
        let mut plain = Vec::new();
        for (index, (topic, step, payload_bytes)) in steps.into_iter().enumerate() {
            let topic_bytes = vec![b'a' + topic; 1 + usize::from(topic) * 4];
            let sequence = match step {
                // Merged lines have gaps of their own.
                0 if watched != Watched::Merged => next[usize::from(topic)] + 3,
                1 => next[usize::from(topic)].saturating_sub(1),
                _ => next[usize::from(topic)],
            };
            next[usize::from(topic)] = sequence + 1;
            let stamp = Stamp { epoch: 9, sequence, timestamp_ns: index as u64 };
            let mut frame = Vec::new();
            pinfeed::seal(&mut frame, &topic_bytes, &vec![7; payload_bytes], stamp);
            if step == 2 && payload_bytes % 7 == 0 {
                frame.pop();
            }
            frame.truncate(255);
            numbered.push([frame]);
            plain.push([topic_bytes, vec![index as u8; payload_bytes]]);
        }
        compare(&Envelope::Pinfeed, watched, &numbered, course);
        compare(&Envelope::Raw, Watched::Not, &plain, course);
        compare(&Envelope::Delimited(b'a'), Watched::Not, &plain, course);
    }
}

/// What comes first and what is a copy stand between each other in one run.
#[test]
fn a_run_of_merged_lines_is_taken_whole() {
    let mut bench = Bench::new(&Envelope::Pinfeed, Watched::Merged, 2, 8);
    let message = |topic: &[u8], sequence| {
        let mut frame = Vec::new();
        let stamp = Stamp {
            epoch: 9,
            sequence,
            timestamp_ns: 1,
        };
        pinfeed::seal(&mut frame, topic, b"payload", stamp);
        frame
    };
    let (a, b) = (
        |number| message(b"a", number),
        |number| message(b"b", number),
    );
    let mut route = |line: usize, messages: &[Vec<u8>]| {
        let frames: Vec<[&[u8]; 1]> = messages.iter().map(|frame| [&frame[..]]).collect();
        bench.router.route_run(line, 1, &frames).unwrap();
    };
    // Each line is known to each topic then, and line 0 is ahead with one of them.
    route(0, &[a(0), b(0)]);
    route(1, &[a(0), b(0)]);
    route(0, &[a(1), a(2)]);
    let messages = [a(1), b(1), a(2), b(2), a(3)];
    let frames = messages.each_ref().map(|frame| [&frame[..]]);
    let run = Run {
        origin: Origin { line: 1, ..ORIGIN },
        received_ns: 2,
        messages: &frames,
    };
    let open = |frames: &[&[u8]; 1]| pinfeed::open(frames[0]).unwrap();
    let hash_of = |frames: &[&[u8]; 1]| Some(topic_hash(open(frames).topic.of(&frames[..])));
    let Router { way, sorter, .. } = &mut bench.router;
    way.tally.note_received(2, frames.len() as u64, 0);
    let merge = bench.merge.clone().expect("they are merged");
    let taken = merge
        .lock()
        .unwrap()
        .take_run(&mut way.tally, sorter, run, hash_of, open);
    assert_eq!(taken.unwrap(), 5);
    let (got, counts, lines) = bench.end();
    // Beside what is told of their quality.
    let messages = got.concat().into_iter().filter(|got| got.starts_with('['));
    assert_eq!(messages.count(), 7);
    assert_eq!((counts.received, counts.duplicates), (11, 4));
    let wins: Vec<_> = lines.iter().map(|[_, wins, ..]| *wins).collect();
    assert_eq!(wins, [4, 3]);
}
