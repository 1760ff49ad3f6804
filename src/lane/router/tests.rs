//! Messages that are routed together end up where they would one by one.

use std::sync::{Arc, Mutex, OnceLock};

use proptest::prelude::*;

use super::*;
use crate::{
    handoff::{BatchLimits, HandoffLimits, Inlet, Outlet, Received, ring},
    lane::{Pressure, Routing, Work},
    ledger::{Ledger, Totals},
    message::Stamp,
    policy::{Rules, TopicTally},
    sequence::{TrackerOptions, arbiter},
    shard::ShardTable,
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

/// Who looks at numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Not,
    Tracked,
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
    fn new(envelope: &Envelope, watched: Watched, workers: usize) -> Self {
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
        let options = TrackerOptions {
            numbering: numbering.filter(|_| watched == Watched::Tracked),
            from_start: false,
            topics_max: 6,
            stale_after_ns: None,
            stale_rules: Vec::new(),
            recover_ns: 0,
        };
        let mut tracker = Tracker::new(options);
        tracker.connected(true, 0, &mut |_| {});
        let mut merge = None;
        let watches = match watched {
            Watched::Not => vec![Watch::Nothing],
            Watched::Tracked => vec![Watch::Tracked(Box::new(tracker))],
            Watched::Merged => {
                let limits = arbiter::Limits {
                    wait_ns: 3,
                    held_messages_max: 20,
                    held_bytes_max: 10_000,
                    topics_max: 6,
                    from_start: false,
                };
                let numbering = numbering.expect("what is merged is numbered");
                let way = dispatch(of_merge);
                let lines = Merge::new(0, numbering, 2, limits, tracker, None, way);
                let shared = merge.insert(Arc::new(Mutex::new(lines)));
                (0..2).map(|_| Watch::Merged(Share::of(shared))).collect()
            }
        };
        let lines = (0..).zip(watches).map(|(line, watch)| LineRoute {
            origin: Origin { line, ..ORIGIN },
            envelope: envelope.clone(),
            watch,
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

    /// Ends. Returns what each worker got, in order, what was counted, and what was of each line.
    fn end(mut self) -> (Vec<Vec<String>>, Totals, Vec<[u64; 5]>) {
        self.router.end().unwrap();
        // How many batches they come in is another matter.
        let counts = Totals {
            batches: 0,
            ..self.ledger.totals()
        };
        let lines = self.merge.iter().flat_map(|merge| {
            let merge = merge.lock().unwrap();
            let lines = merge.glance().map(|(line, _)| {
                let lags = line.lag.len();
                [line.copies, line.wins, line.duplicates, line.too_late, lags]
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

/// Routes messages in runs as well as one by one, and compares. Where lines are merged, each run comes by the first
/// one, and some runs later all but some of it by the other.
fn compare<const N: usize>(
    envelope: &Envelope,
    watched: Watched,
    workers: usize,
    messages: &[[Vec<u8>; N]],
    run: usize,
) {
    let mut together = Bench::new(envelope, watched, workers);
    let mut apart = Bench::new(envelope, watched, workers);
    let mut received = 0;
    let mut route = |now_ns: u64, line: usize, messages: &[[Vec<u8>; N]]| {
        let frames: Vec<[&[u8]; N]> = messages
            .iter()
            .map(|frames| frames.each_ref().map(|frame| &frame[..]))
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
    };
    let runs: Vec<_> = messages.chunks(run).collect();
    for (number, messages) in runs.iter().enumerate() {
        let now_ns = number as u64 + 1;
        route(now_ns, 0, messages);
        if watched == Watched::Merged
            && let Some(before) = number.checked_sub(2)
        {
            // Lost where the other line is whole, and the other way round.
            let lost = (number % 3).min(runs[before].len());
            route(now_ns, 1, &runs[before][lost..]);
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
        watched in prop_oneof![Just(Watched::Not), Just(Watched::Tracked), Just(Watched::Merged)],
    ) {
        // Mostly in sequence; now and then with a gap, again, or not readable; one topic too many; some too large.
        let mut next = [0_u64; 8];
        let mut numbered = Vec::new();
        let mut plain = Vec::new();
        for (index, (topic, step, payload_bytes)) in steps.into_iter().enumerate() {
            let topic_bytes = vec![b'a' + topic; 1 + usize::from(topic) * 4];
            let sequence = match step {
                0 => next[usize::from(topic)] + 3,
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
        compare(&Envelope::Pinfeed, watched, workers, &numbered, run);
        compare(&Envelope::Raw, Watched::Not, workers, &plain, run);
        compare(&Envelope::Delimited(b'a'), Watched::Not, workers, &plain, run);
    }
}
