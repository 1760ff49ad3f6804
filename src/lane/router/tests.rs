//! Messages that are routed together end up where they would one by one.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use super::*;
use crate::{
    handoff::{BatchLimits, HandoffLimits, Inlet, Outlet, Received, ring},
    lane::{Pressure, Routing, Work},
    ledger::{Ledger, Totals},
    message::Stamp,
    policy::{Rules, TopicTally},
    sequence::{Numbering, TrackerOptions},
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

/// A router, and what its workers would get.
struct Bench {
    router: Router,
    inlets: Vec<Inlet>,
    ledger: Arc<Ledger>,
}

impl Bench {
    fn new(envelope: &Envelope, numbering: Option<Numbering>, workers: usize) -> Self {
        let (mut outlets, mut inlets) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            let (ends, inlet) = ring::connect(worker, &[false], LIMITS, Wait::Park);
            outlets.extend(ends.into_iter().map(Outlet::Ring));
            inlets.push(Inlet::Ring(inlet));
        }
        let clock = Clock::start();
        let flight = FlightRecord::new(["feed".to_owned()]);
        let ledger = Arc::new(Ledger::new(1, workers));
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
        let dispatch = Dispatch::new(Routing::Keyed(table), rules, outlets, LIMITS, pressure);
        let watch = match numbering {
            None => Watch::Nothing,
            Some(_) => {
                let mut tracker = Tracker::new(TrackerOptions {
                    numbering,
                    from_start: false,
                    topics_max: 6,
                    stale_after_ns: None,
                    stale_rules: Vec::new(),
                    recover_ns: 0,
                });
                tracker.connected(true, 0, &mut |_| {});
                Watch::Tracked(Box::new(tracker))
            }
        };
        let line = LineRoute {
            origin: ORIGIN,
            envelope: envelope.clone(),
            watch,
        };
        let tally = Tally::new(0, ledger.clone(), Arc::new(OnceLock::new()));
        Self {
            router: Router::new(dispatch, tally, vec![line], 200, flight, clock),
            inlets,
            ledger,
        }
    }

    /// Ends. Returns what each worker got, in order, and what was counted.
    fn end(mut self) -> (Vec<Vec<String>>, Totals) {
        self.router.end().unwrap();
        // How many batches they come in is another matter.
        let counts = Totals {
            batches: 0,
            ..self.ledger.totals()
        };
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
        (got.collect(), counts)
    }
}

/// Routes messages in runs as well as one by one, and compares.
fn compare<const N: usize>(
    envelope: &Envelope,
    numbering: Option<Numbering>,
    workers: usize,
    messages: &[[Vec<u8>; N]],
    run: usize,
) {
    let mut together = Bench::new(envelope, numbering, workers);
    let mut apart = Bench::new(envelope, numbering, workers);
    for (number, messages) in (1..).zip(messages.chunks(run)) {
        let frames: Vec<[&[u8]; N]> = messages
            .iter()
            .map(|frames| frames.each_ref().map(|frame| &frame[..]))
            .collect();
        together.router.route_run(0, number, &frames).unwrap();
        for frames in &frames {
            apart.router.route(0, number, &frames[..]).unwrap();
        }
        if number % 5 == 0 {
            together.router.offer().unwrap();
            apart.router.flush().unwrap();
        }
    }
    let (together, apart) = (together.end(), apart.end());
    assert_eq!(together.1, apart.1);
    for (together, apart) in together.0.iter().zip(&apart.0) {
        // The first that differs tells enough.
        let pairs = together.iter().zip(apart);
        if let Some((together, apart)) = pairs.into_iter().find(|(one, other)| one != other) {
            assert_eq!(together, apart);
        }
        assert_eq!(together.len(), apart.len());
    }
    assert_eq!(together.1.received, messages.len() as u64);
}

proptest! {
    #[test]
    fn together_or_one_by_one(
        steps in proptest::collection::vec((0_u8..8, 0_u64..12, 0_usize..150), 1..400),
        workers in prop_oneof![Just(1), Just(2), Just(3), Just(7), Just(8)],
        run in 1_usize..=32,
        tracked: bool,
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
        let numbering = Envelope::Pinfeed.numbering().filter(|_| tracked);
        compare(&Envelope::Pinfeed, numbering, workers, &numbered, run);
        compare(&Envelope::Raw, None, workers, &plain, run);
        compare(&Envelope::Delimited(b'a'), None, workers, &plain, run);
    }
}
