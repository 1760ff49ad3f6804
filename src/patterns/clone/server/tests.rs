//! A server by hand: what comes goes in, and what is published when comes out.

use std::time::Duration;

use super::*;
use crate::patterns::{
    binary_star::{PEER_EXPIRY_NS, Side, wire::Tidings},
    clone::RECENT,
    kvmsg::{Form, ICANHAZ},
};

const SECOND: u64 = HEARTBEAT_NS;

fn at(ns: u64) -> Now {
    Now { ns, wall_ns: ns }
}

fn update<'a>(key: &'a [u8], uuid: u8, properties: &'a [u8], body: &'a [u8]) -> KeyValue<'a> {
    KeyValue {
        key,
        sequence: 0,
        uuid: Some([uuid; 16]),
        properties,
        body,
    }
}

fn alone() -> Machine<u32> {
    Machine::new(&Restored::default(), Limits::default(), None, at(0))
}

/// Ends a turn, and returns keys, sequences and bodies of what is published.
fn turn(machine: &mut Machine<u32>, ns: u64) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    machine.on_time(at(ns));
    machine.changes();
    machine.committed(at(ns));
    published(machine)
}

fn published(machine: &mut Machine<u32>) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let outputs = std::iter::from_fn(|| machine.output());
    let published = outputs.filter_map(|output| match output {
        Output::Publish(update) => Some((
            update.key.to_vec(),
            update.value.sequence,
            update.value.body.to_vec(),
        )),
        _ => None,
    });
    published.collect()
}

fn one(key: &[u8], sequence: u64, body: &[u8]) -> (Vec<u8>, u64, Vec<u8>) {
    (key.to_vec(), sequence, body.to_vec())
}

#[test]
fn nothing_is_published_before_it_is_committed() {
    let mut machine = alone();
    machine
        .on_update(update(b"k", 1, b"", b"v"), at(1))
        .unwrap();
    assert_eq!(published(&mut machine), []);
    let changes = machine.changes().expect("something changed");
    assert_eq!((changes.updates.len(), changes.state.sequence), (1, 1));
    assert_eq!(published(&mut machine), []);
    machine.committed(at(2));
    assert_eq!(published(&mut machine), [one(b"k", 1, b"v")]);
}

#[test]
fn an_update_that_comes_again_is_made_once_and_told_again() {
    let mut machine = alone();
    machine
        .on_update(update(b"k", 1, b"", b"old"), at(1))
        .unwrap();
    machine
        .on_update(update(b"k", 2, b"", b"new"), at(1))
        .unwrap();
    assert_eq!(
        turn(&mut machine, 1),
        [one(b"k", 1, b"old"), one(b"k", 2, b"new")]
    );
    machine
        .on_update(update(b"k", 1, b"", b"old"), at(2))
        .unwrap();
    assert_eq!(
        turn(&mut machine, 2),
        [one(b"k", 1, b"old")],
        "with its own sequence"
    );
    assert_eq!(&*machine.state().get(b"k").expect("it is set").body, b"new");
    assert_eq!(machine.counters().duplicate, 1);
}

#[test]
fn a_value_with_a_ttl_is_deleted_in_time() {
    let mut machine = alone();
    machine
        .on_update(update(b"k", 1, b"ttl=0.5\n", b"v"), at(0))
        .unwrap();
    turn(&mut machine, 0);
    assert!(machine.due_ns() <= SECOND / 2);
    assert_eq!(turn(&mut machine, SECOND / 2 - 1), []);
    assert_eq!(turn(&mut machine, SECOND / 2), [one(b"k", 2, b"")]);
    assert!(machine.state().is_empty());
}

#[test]
fn what_is_refused_is_counted_and_changes_nothing() {
    let limits = Limits {
        keys_max: 1,
        bytes_max: 100,
    };
    let mut machine: Machine<u32> = Machine::new(&Restored::default(), limits, None, at(0));
    let ttl = machine.on_update(update(b"k", 1, b"ttl=soon\n", b"v"), at(0));
    assert_eq!(
        ttl,
        Err(Malformed::Ttl {
            value: "soon".to_owned()
        })
    );
    machine
        .on_update(update(b"a", 2, b"", b"v"), at(0))
        .unwrap();
    machine
        .on_update(update(b"b", 3, b"", b"v"), at(0))
        .unwrap();
    machine.on_request(1, &[b"ICANHAZ?", b"", b"x"], at(0));
    machine.on_request(1, &[b"PLEASE"], at(0));
    let counters = machine.counters();
    assert_eq!(
        (
            counters.malformed,
            counters.refused_full,
            counters.unknown_requests
        ),
        (1, 1, 2)
    );
    assert_eq!(machine.state().len(), 1);
}

#[test]
fn snapshots_wait_for_their_turn_and_go_with_their_client() {
    let mut machine = alone();
    machine
        .on_update(update(b"k", 1, b"", b"v"), at(0))
        .unwrap();
    for client in 0..SNAPSHOTS_MAX as u32 + 2 {
        machine.on_request(client, &[ICANHAZ, b"k"], at(0));
    }
    let begun = |machine: &mut Machine<u32>| {
        machine.on_time(at(1));
        machine.changes();
        machine.committed(at(1));
        let outputs = std::iter::from_fn(|| machine.output());
        let clients = outputs.filter_map(|output| match output {
            Output::Snapshot { client, view, .. } => Some((client, view.sequence())),
            _ => None,
        });
        clients.collect::<Vec<_>>()
    };
    assert_eq!(begun(&mut machine).len(), SNAPSHOTS_MAX);
    assert_eq!(begun(&mut machine), []);
    machine.on_gone(SNAPSHOTS_MAX as u32);
    machine.snapshot_ended();
    assert_eq!(begun(&mut machine), [(SNAPSHOTS_MAX as u32 + 1, 1)]);
}

#[test]
fn what_a_store_held_goes_on_with_its_uuids() {
    let mut machine = alone();
    machine
        .on_update(update(b"k", 1, b"", b"v"), at(0))
        .unwrap();
    let changes = machine.changes().expect("something changed");
    let recent = vec![(1, [1; 16])];
    let restored = Restored {
        updates: changes.updates,
        recent,
        state: changes.state,
    };
    let mut again: Machine<u32> = Machine::new(&restored, Limits::default(), None, at(0));
    again.on_update(update(b"k", 1, b"", b"v"), at(0)).unwrap();
    again.on_update(update(b"l", 2, b"", b"w"), at(0)).unwrap();
    assert_eq!(
        turn(&mut again, 0),
        [one(b"k", 1, b"v"), one(b"l", 2, b"w")]
    );
    assert_eq!(again.counters().duplicate, 1);
    assert!(again.freshness().epoch > restored.state.epoch);
}

/// A pair in step, with an update on its way.
struct Two {
    active: Machine<u32>,
    passive: Machine<u32>,
}

impl Two {
    fn new() -> Self {
        let machine = |side| -> Machine<u32> {
            let star = Star::new(side, false, 1, 0);
            Machine::new(&Restored::default(), Limits::default(), Some(star), at(0))
        };
        let mut two = Self {
            active: machine(Side::Primary),
            passive: machine(Side::Backup),
        };
        two.talk(0);
        assert_eq!(
            (two.active.role(), two.passive.role()),
            (Role::Active, Role::Passive)
        );
        assert!(two.active.is_in_step() && two.passive.is_in_step());
        two
    }

    /// Has both take turns until neither says anything; returns what was published.
    fn talk(&mut self, ns: u64) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
        let mut told = Vec::new();
        for _ in 0..10 {
            let (active, passive) = (&mut self.active, &mut self.passive);
            told.extend(Self::half(active, passive, ns));
            told.extend(Self::half(passive, active, ns));
        }
        told
    }

    fn half(
        from: &mut Machine<u32>,
        to: &mut Machine<u32>,
        ns: u64,
    ) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
        from.on_time(at(ns));
        from.changes();
        from.committed(at(ns));
        let mut told = Vec::new();
        while let Some(output) = from.output() {
            match output {
                Output::Tell {
                    role,
                    state,
                    rounds,
                    current,
                    preempts,
                    update,
                } => {
                    let update = update.as_ref().map(Update::message);
                    let tidings = Tidings {
                        role,
                        state: Some(state),
                        rounds,
                        current,
                        preempts,
                        update,
                    };
                    to.on_peer(&tidings, at(ns)).unwrap();
                }
                Output::AskPeer => to.on_request(0, &[ICANHAZ, b"", RECENT], at(ns)),
                Output::Snapshot { view, .. } => {
                    for (key, value) in view.values_after(None) {
                        let update = Update {
                            key: key.clone(),
                            value: value.clone(),
                        };
                        update
                            .message()
                            .encode(Form::Five, |frames| to.on_peer_snapshot(frames, at(ns)))
                            .unwrap();
                    }
                    for (sequence, uuid) in view.recent_after(0) {
                        let recent = KeyValue {
                            sequence,
                            ..update(b"", 0, b"", b"")
                        };
                        let recent = KeyValue {
                            uuid: Some(uuid),
                            ..recent
                        };
                        recent
                            .encode(Form::Five, |frames| to.on_peer_snapshot(frames, at(ns)))
                            .unwrap();
                    }
                    let last = KeyValue {
                        sequence: view.sequence(),
                        ..update(b"KTHXBAI", 0, b"", b"")
                    };
                    last.encode(Form::Five, |frames| to.on_peer_snapshot(frames, at(ns)))
                        .unwrap();
                    from.snapshot_ended();
                }
                Output::Publish(update) => {
                    told.push((
                        update.key.to_vec(),
                        update.value.sequence,
                        update.value.body.to_vec(),
                    ));
                }
                Output::Hugz(_) | Output::Greet { .. } | Output::Role(_) | Output::Step { .. } => {}
            }
        }
        told
    }
}

#[test]
fn a_pair_publishes_what_both_have_on_disk() {
    let mut two = Two::new();
    two.active
        .on_update(update(b"k", 1, b"", b"v"), at(1))
        .unwrap();
    let alone = Two::half(&mut two.active, &mut two.passive, 1);
    assert_eq!(alone, [], "the passive one does not have it on disk yet");
    assert_eq!(two.talk(1), [one(b"k", 1, b"v")]);
    assert_eq!(two.passive.state().len(), 1);
    // A peer that does not answer is waited for for a while.
    two.active
        .on_update(update(b"k", 2, b"", b"w"), at(2))
        .unwrap();
    assert_eq!(turn(&mut two.active, 2), []);
    assert_eq!(
        turn(&mut two.active, 2 + PEER_PATIENCE_NS),
        [one(b"k", 2, b"w")]
    );
    assert!(!two.active.is_in_step());
}

#[test]
fn only_an_active_server_greets_its_subscribers() {
    let mut two = Two::new();
    for (machine, expected) in [(&mut two.active, vec![(7, 0)]), (&mut two.passive, vec![])] {
        machine.on_subscriber(7);
        machine.committed(at(1));
        let outputs = std::iter::from_fn(|| machine.output());
        let greeted: Vec<_> = outputs
            .filter_map(|output| match output {
                Output::Greet { client, sequence } => Some((client, sequence)),
                _ => None,
            })
            .collect();
        assert_eq!(greeted, expected);
    }
}

#[test]
fn updates_that_only_the_backup_has_are_made_when_it_takes_over_and_once() {
    let mut two = Two::new();
    for (key, uuid) in [(b"a", 1), (b"b", 2)] {
        two.passive
            .on_update(update(key, uuid, b"", b"v"), at(1))
            .unwrap();
    }
    two.active
        .on_update(update(b"a", 1, b"", b"v"), at(1))
        .unwrap();
    two.talk(1);
    assert_eq!(two.passive.pending(), 1);
    let silent_ns = 1 + PEER_EXPIRY_NS;
    // It goes on taking turns, or it would think that it was stopped.
    turn(&mut two.passive, SECOND);
    two.passive.on_time(at(silent_ns));
    two.passive.on_request(5, &[ICANHAZ, b""], at(silent_ns));
    assert_eq!(two.passive.role(), Role::Active);
    assert_eq!(turn(&mut two.passive, silent_ns), [one(b"b", 2, b"v")]);
    two.passive
        .on_update(update(b"b", 2, b"", b"v"), at(silent_ns))
        .unwrap();
    assert_eq!(two.passive.counters().duplicate, 1);
}

#[test]
fn a_time_to_live_goes_on_at_the_backup() {
    let mut two = Two::new();
    two.active
        .on_update(update(b"k", 1, b"ttl=5\n", b"v"), at(1))
        .unwrap();
    two.talk(1);
    let value = two.passive.state().get(b"k").expect("it is set");
    assert_eq!(
        value.expires_ns,
        Some(1 + Duration::from_secs(5).as_nanos() as u64)
    );
}
