//! What no feed brings about at will: one class of topics that is full while another is not, and a worker that is
//! gone before its time, or waited for no longer.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
};

use super::*;
use crate::{
    clock::Clock,
    envelope::Envelope,
    error::Error,
    flight::FlightRecord,
    handoff::{BatchLimits, Inlet, Received, inproc, ring},
    lane::Work,
    ledger::Ledger,
    libzmq::Context,
    policy::TopicTally,
    sequence::{EventKind, Gap},
    wait::Wait,
};

const ORIGIN: Origin = Origin { feed: 0, line: 0 };
/// Topics of two shards, that of the first worker and that of the second, go by their hashes.
const SHARDS: [u64; 2] = [0, 1 << 56];
const WORKERS: usize = SHARDS.len();
/// Each message is a batch.
const LIMITS: HandoffLimits = HandoffLimits {
    batch: BatchLimits {
        messages: 1,
        bytes: 1024,
    },
    batches: 2,
};

/// A lane's side, and its workers' ends.
struct Stand {
    dispatch: Dispatch,
    tally: Tally,
    flight: FlightRecord,
    ledger: Arc<Ledger>,
    inlets: Vec<Option<Inlet>>,
}

impl Stand {
    /// `handoffs` are by class and in it by worker.
    fn new(rules: Rules, handoffs: Vec<Outlet>, inlets: Vec<Inlet>) -> Self {
        let flight = FlightRecord::new(["feed".to_owned()]);
        let pressure = Pressure {
            clock: Clock::start(),
            flight: flight.clone(),
            topics: TopicTally::new(1),
            workers: (0..WORKERS).map(|_| Default::default()).collect(),
            batches: LIMITS.batches,
            work: Work::default(),
        };
        let ledger = Arc::new(Ledger::new(1, WORKERS));
        let routing = Routing::Keyed(ShardTable::new(WORKERS, Vec::new()).unwrap());
        Self {
            dispatch: Dispatch::new(routing, rules, handoffs, LIMITS, pressure),
            tally: Tally::new(0, ledger.clone(), Arc::new(OnceLock::new())),
            flight,
            ledger,
            inlets: inlets.into_iter().map(Some).collect(),
        }
    }

    /// Topics wait for their worker, but those with a `d`, of which the newest are dropped.
    fn over_rings() -> Self {
        let (mut by_class, mut inlets) = ([Vec::new(), Vec::new()], Vec::new());
        for worker in 0..WORKERS {
            let (ends, inlet) = ring::connect(worker, &[false; 2], LIMITS, Wait::Park);
            for (class, end) in by_class.iter_mut().zip(ends) {
                class.push(Outlet::Ring(end));
            }
            inlets.push(Inlet::Ring(inlet));
        }
        let rules = Rules::new([vec![(b"d".to_vec(), Policy::DropNewest)]]);
        assert_eq!(rules.classes(), [Policy::Block, Policy::DropNewest]);
        Self::new(rules, by_class.into_iter().flatten().collect(), inlets)
    }

    fn over_inproc(context: &Context) -> Self {
        let (mut handoffs, mut inlets) = (Vec::new(), Vec::new());
        for worker in 0..WORKERS {
            let (ends, inlet) = inproc::connect(context, worker, 1, LIMITS, Wait::Park).unwrap();
            handoffs.extend(ends.into_iter().map(Outlet::Inproc));
            inlets.push(Inlet::Inproc(inlet));
        }
        Self::new(Rules::new([Vec::new()]), handoffs, inlets)
    }

    fn put(&mut self, topic: &[u8], hash: u64) {
        let frames = [topic];
        let fields = Envelope::Raw.open(&frames).unwrap();
        self.tally.note_received(1, 1, 1);
        self.dispatch
            .put(&mut self.tally, ORIGIN, 1, hash, &fields, &frames)
            .unwrap();
    }

    fn tell_of_gap(&mut self, topic: &[u8], hash: u64) {
        let gap = Gap {
            epoch: 0,
            from: 5,
            to: 6,
            count: 2,
        };
        let notice = Notice {
            origin: ORIGIN,
            topic: Some(topic),
            noticed_ns: 1,
            kind: EventKind::Gap(gap),
        };
        self.dispatch.tell(&mut self.tally, hash, &notice).unwrap();
    }

    /// Has a worker take its next batch, if there is one, and returns what it finds there.
    fn take(&mut self, worker: usize) -> Vec<String> {
        let inlet = self.inlets[worker].as_mut().expect("it is there");
        let Received::Batch(batch) = inlet.receive().unwrap() else {
            return Vec::new();
        };
        let told = batch.notes().iter().map(|(_, notice)| {
            let topic = notice.topic.unwrap_or_default();
            format!("gap of {}", topic.escape_ascii())
        });
        let messages = batch.messages();
        let messages = messages.map(|one| one.topic().escape_ascii().to_string());
        let found = told.chain(messages).collect();
        inlet.give_back(batch);
        found
    }
}

/// Has the shard of the first worker move to the second, where one class is full and the other has room.
fn half_moved() -> Stand {
    let mut stand = Stand::over_rings();
    for _ in 0..LIMITS.batches {
        stand.put(b"d-other", SHARDS[1]);
    }
    stand.dispatch.move_shard(0, 1);
    stand.dispatch.go_on_moving(&mut stand.tally).unwrap();
    stand.put(b"d-moving", SHARDS[0]);
    // The marks of both classes.
    for _ in 0..2 {
        assert_eq!(stand.take(0), [""; 0]);
    }
    stand.dispatch.go_on_moving(&mut stand.tally).unwrap();
    assert!(stand.dispatch.is_moving(), "there is no room for d-moving");
    stand
}

#[test]
fn what_is_told_while_another_class_waits_comes_before_its_message() {
    let mut stand = half_moved();
    stand.tell_of_gap(b"b-moving", SHARDS[0]);
    stand.put(b"b-moving", SHARDS[0]);
    let mut found = Vec::new();
    // Each turn makes room for a message, and there are four.
    for _ in 0..4 {
        found.extend(stand.take(1));
        stand.dispatch.offer(&mut stand.tally).unwrap();
    }
    assert!(!stand.dispatch.is_moving());
    while let next = stand.take(1)
        && !next.is_empty()
    {
        found.extend(next);
    }
    let gap = found.iter().position(|one| one == "gap of b-moving");
    let message = found.iter().position(|one| one == "b-moving");
    assert!(gap.is_some() && gap < message, "{found:?}");
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn what_finds_no_room_in_a_move_names_whom_the_move_waits_for() {
    let mut stand = Stand::over_rings();
    stand.dispatch.move_shard(0, 1);
    stand.dispatch.go_on_moving(&mut stand.tally).unwrap();
    // Two are held; then there is no room until the first worker is done.
    for _ in 0..4 {
        stand.put(b"d-moving", SHARDS[0]);
    }
    stand.dispatch.flush(&mut stand.tally).unwrap();
    let evidence = &stand.flight.entries()[0].evidence;
    let waits = "a shard that moves to worker-1 waits for worker-0, which has done none yet";
    assert_eq!(evidence, waits);
}

#[test]
fn the_end_does_not_wait_for_a_worker_that_is_gone() {
    let context = Context::new(0, 4).unwrap();
    for mut stand in [Stand::over_rings(), Stand::over_inproc(&context)] {
        stand.dispatch.move_shard(0, 1);
        stand.dispatch.go_on_moving(&mut stand.tally).unwrap();
        stand.inlets[0] = None;
        let (sender, ended) = mpsc::channel();
        // On a thread of its own, should it never end.
        thread::spawn(move || sender.send(stand.dispatch.end(&mut stand.tally)));
        let outcome = ended
            .recv_timeout(Duration::from_secs(60))
            .expect("it ends");
        assert!(
            matches!(outcome, Err(Error::WorkerGone { worker: 0 })),
            "{outcome:?}"
        );
    }
}

/// Ends the way to workers, on a thread of its own should it never end. Returns what was received, and what was dropped.
fn ended(mut stand: Stand) -> (u64, u64) {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        stand.dispatch.end(&mut stand.tally).unwrap();
        stand.tally.settle();
        let totals = stand.ledger.totals();
        sender.send(totals).expect("it is awaited");
    });
    let totals = ended
        .recv_timeout(Duration::from_secs(60))
        .expect("it ends");
    (totals.received, totals.dropped)
}

#[test]
fn what_is_for_an_abandoned_worker_is_dropped_and_counted() {
    let context = Context::new(0, 4).unwrap();
    for mut stand in [Stand::over_rings(), Stand::over_inproc(&context)] {
        for _ in 0..LIMITS.batches {
            stand.put(b"b", SHARDS[0]);
        }
        stand.ledger.workers[0].abandoned.set(1);
        for _ in 0..3 {
            stand.put(b"b", SHARDS[0]);
        }
        stand.put(b"b-other", SHARDS[1]);
        assert_eq!(stand.take(1), ["b-other"]);
        assert_eq!(ended(stand), (6, 3));
    }
}

#[test]
fn shards_move_away_from_an_abandoned_worker() {
    let mut stand = Stand::over_rings();
    for _ in 0..LIMITS.batches {
        stand.put(b"b-moving", SHARDS[0]);
    }
    stand.dispatch.move_shard(0, 1);
    stand.dispatch.go_on_moving(&mut stand.tally).unwrap();
    stand.put(b"b-moving", SHARDS[0]);
    assert!(stand.dispatch.is_moving(), "the first one has two of them");
    stand.ledger.workers[0].abandoned.set(1);
    stand.dispatch.go_on_moving(&mut stand.tally).unwrap();
    assert_eq!(stand.take(1), ["b-moving"]);
    assert_eq!(ended(stand), (3, 0));
}

#[test]
fn what_is_held_for_an_abandoned_worker_is_dropped_and_counted() {
    let stand = half_moved();
    stand.ledger.workers[1].abandoned.set(1);
    let moving = 1;
    assert_eq!(ended(stand), (LIMITS.batches as u64 + moving, moving));
}
