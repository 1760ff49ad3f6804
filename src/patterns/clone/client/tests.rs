//! A client by hand: what it is told goes in, and its state and its requests come out.

use super::*;
use crate::patterns::{
    clone::state::Limits,
    kvmsg::{Form, HUGZ, KTHXBAI},
};

const SECOND: u64 = HEARTBEAT_NS;

fn at(ns: u64) -> Now {
    Now { ns, wall_ns: ns }
}

fn message<'a>(key: &'a [u8], sequence: u64, body: &'a [u8]) -> KeyValue<'a> {
    let uuid = Some([sequence as u8 + 1; 16]);
    KeyValue {
        key,
        sequence,
        uuid,
        properties: b"",
        body,
    }
}

struct Bench {
    machine: Machine,
    told: Vec<Output>,
}

impl Bench {
    /// A client that is connected to so many servers.
    fn new(servers: usize, subtree: &[u8]) -> Self {
        let wishes = Wishes {
            subtree: subtree.to_vec(),
            ..Wishes::default()
        };
        let mut machine = Machine::new(servers, wishes, at(0));
        for server in 0..servers {
            machine.on_subscription(server, true, at(0));
            machine.on_reach(server, true, at(0));
        }
        Self {
            machine,
            told: Vec::new(),
        }
    }

    fn published(&mut self, server: usize, key: &[u8], sequence: u64, body: &[u8], ns: u64) {
        message(key, sequence, body)
            .encode(Form::Five, |frames| {
                self.machine.on_published(server, frames, at(ns))
            })
            .unwrap();
    }

    fn snapshot(&mut self, server: usize, key: &[u8], sequence: u64, body: &[u8], ns: u64) {
        message(key, sequence, body)
            .encode(Form::Five, |frames| {
                self.machine.on_snapshot(server, frames, at(ns))
            })
            .unwrap();
    }

    fn asked(&mut self) -> Vec<usize> {
        self.told.clear();
        self.told
            .extend(std::iter::from_fn(|| self.machine.output()));
        let asked = self.told.iter().filter_map(|output| match output {
            Output::Ask(server) => Some(*server),
            _ => None,
        });
        asked.collect()
    }

    fn state(&self) -> Vec<(&[u8], &[u8])> {
        let values = self.machine.values().iter();
        values.map(|(key, value)| (&**key, &*value.body)).collect()
    }
}

/// A client of one server whose state is `a` = 1 at sequence 5.
fn ready(subtree: &[u8]) -> Bench {
    let mut bench = Bench::new(1, subtree);
    assert_eq!(bench.asked(), [0]);
    bench.snapshot(0, b"a", 3, b"1", 1);
    bench.snapshot(0, KTHXBAI, 5, b"", 1);
    assert!(bench.machine.is_ready());
    assert_eq!(bench.asked(), [0; 0]);
    bench
}

#[test]
fn updates_that_overlap_a_snapshot_are_applied_once() {
    let mut bench = Bench::new(1, b"");
    bench.published(0, b"a", 4, b"old", 1);
    bench.published(0, b"b", 5, b"5", 1);
    bench.snapshot(0, b"a", 4, b"old", 2);
    bench.published(0, b"a", 6, b"6", 2);
    bench.snapshot(0, KTHXBAI, 5, b"", 3);
    // The snapshot says that b was deleted by 5; 6 comes after it.
    assert_eq!(bench.state(), [(&b"a"[..], &b"6"[..])]);
    bench.published(0, b"a", 6, b"again", 4);
    bench.published(0, b"a", 7, b"7", 4);
    assert_eq!(
        (bench.state(), bench.machine.sequence()),
        (vec![(&b"a"[..], &b"7"[..])], 7)
    );
    assert_eq!(bench.machine.counters().stale, 1);
}

#[test]
fn a_gap_makes_it_ask_again_and_keep_what_it_had() {
    let mut bench = ready(b"");
    bench.published(0, b"a", 7, b"7", 2);
    assert!(!bench.machine.is_ready());
    bench.machine.on_time(at(3));
    assert_eq!(bench.asked(), [0]);
    assert_eq!(bench.state(), [(&b"a"[..], &b"1"[..])]);
    // A snapshot from before the gap is of no use.
    bench.snapshot(0, KTHXBAI, 6, b"", 4);
    assert!(!bench.machine.is_ready());
    assert_eq!(bench.asked(), [0]);
    bench.snapshot(0, b"a", 7, b"7", 5);
    bench.snapshot(0, KTHXBAI, 7, b"", 5);
    assert_eq!(bench.state(), [(&b"a"[..], &b"7"[..])]);
}

#[test]
fn a_heartbeat_tells_of_a_gap_and_of_sequences_that_went_back() {
    let mut bench = ready(b"");
    bench.published(0, HUGZ, 5, b"", 2);
    assert!(bench.machine.is_ready());
    bench.published(0, HUGZ, 6, b"", 3);
    assert!(!bench.machine.is_ready());
    assert_eq!(bench.machine.counters().gaps, 1);
    let mut bench = ready(b"");
    // These were under way when the snapshot was taken.
    for sequence in 3..=5 {
        bench.published(0, HUGZ, sequence, b"", 2);
    }
    assert!(bench.machine.is_ready());
    bench.published(0, HUGZ, 4, b"", 2);
    assert!(!bench.machine.is_ready());
    assert_eq!(bench.machine.counters().backwards, 1);
    bench.snapshot(0, KTHXBAI, 4, b"", 3);
    bench.machine.on_time(at(4));
    bench.snapshot(0, KTHXBAI, 4, b"", 5);
    assert_eq!(
        (bench.machine.is_ready(), bench.machine.sequence()),
        (true, 4)
    );
}

#[test]
fn a_heartbeat_without_a_number_tells_of_neither() {
    for subtree in [&b""[..], b"a"] {
        let mut bench = ready(subtree);
        for sequence in 6..9 {
            bench.published(0, HUGZ, 0, b"", sequence);
            bench.published(0, b"a", sequence, b"new", sequence);
        }
        assert!(bench.machine.is_ready());
        assert_eq!(bench.machine.sequence(), 8);
        assert_eq!(bench.machine.counters().backwards, 0);
        // While a snapshot is wanted, it does not hide that the first updates were missed.
        let mut bench = Bench::new(1, subtree);
        assert_eq!(bench.asked(), [0]);
        bench.published(0, HUGZ, 0, b"", 1);
        bench.published(0, b"a", 7, b"7", 1);
        bench.snapshot(0, KTHXBAI, 5, b"", 2);
        assert!(!bench.machine.is_ready());
        assert_eq!(bench.asked(), [0]);
        bench.snapshot(0, KTHXBAI, 6, b"", 3);
        assert_eq!(bench.state(), [(&b"a"[..], &b"7"[..])]);
    }
}

#[test]
fn below_a_subtree_gaps_are_normal_once_the_subscription_is_known_to_hold() {
    let mut bench = ready(b"a");
    // The first heartbeat is ahead of the snapshot: something may have been missed before the subscription held.
    bench.published(0, HUGZ, 8, b"", 2);
    assert!(!bench.machine.is_ready());
    bench.machine.on_time(at(3));
    bench.snapshot(0, KTHXBAI, 9, b"", 3);
    assert!(bench.machine.is_ready());
    bench.published(0, b"ab", 20, b"x", 4);
    bench.published(0, HUGZ, 30, b"", 5);
    assert!(bench.machine.is_ready());
    assert_eq!(bench.state(), [(&b"ab"[..], &b"x"[..])]);
}

#[test]
fn an_update_of_its_own_is_sent_again_until_it_is_seen() {
    let mut bench = ready(b"");
    let uuid = [9; 16];
    bench
        .machine
        .make(message(b"k", 0, b"v"), uuid, at(SECOND))
        .unwrap();
    let sent = |bench: &mut Bench| {
        bench.asked();
        bench
            .told
            .iter()
            .filter(|output| matches!(output, Output::Send(_)))
            .count()
    };
    assert_eq!(sent(&mut bench), 1);
    bench.published(0, HUGZ, 5, b"", 2 * SECOND);
    bench.machine.on_time(at(2 * SECOND));
    assert_eq!((sent(&mut bench), bench.machine.own()), (1, 1));
    let seen = KeyValue {
        uuid: Some(uuid),
        ..message(b"k", 6, b"v")
    };
    seen.encode(Form::Five, |frames| {
        bench.machine.on_published(0, frames, at(2 * SECOND))
    })
    .unwrap();
    bench.asked();
    assert!(bench.told.contains(&Output::Own {
        uuid,
        fate: Fate::Published(6)
    }));
    assert_eq!(bench.machine.own(), 0);
}

#[test]
fn an_older_update_of_a_key_is_not_sent_again() {
    let mut bench = ready(b"");
    for (uuid, body) in [([1; 16], b"1"), ([2; 16], b"2")] {
        bench
            .machine
            .make(message(b"k", 0, body), uuid, at(0))
            .unwrap();
    }
    bench.asked();
    bench.machine.on_time(at(SECOND));
    bench.asked();
    let superseded = Output::Own {
        uuid: [1; 16],
        fate: Fate::Superseded,
    };
    assert!(bench.told.contains(&superseded), "{:?}", bench.told);
    assert_eq!(
        (bench.machine.own(), bench.machine.counters().resent),
        (1, 1)
    );
    bench.machine.on_time(at(31 * SECOND));
    bench.asked();
    let given_up = Output::Own {
        uuid: [2; 16],
        fate: Fate::GivenUp,
    };
    assert!(bench.told.contains(&given_up), "{:?}", bench.told);
}

#[test]
fn of_two_servers_it_asks_the_one_that_publishes() {
    let mut bench = Bench::new(2, b"");
    assert_eq!(bench.asked(), [0; 0], "it listens first");
    bench.published(1, HUGZ, 0, b"", 1);
    assert_eq!(bench.machine.due_ns(), 0, "at once");
    bench.machine.on_time(at(1));
    assert_eq!(bench.asked(), [1]);
    // When nobody publishes, asking is all that is left.
    let mut bench = Bench::new(2, b"");
    bench.machine.on_time(at(LISTEN_FOR_NS));
    assert_eq!(bench.asked(), [0]);
    bench.machine.on_time(at(LISTEN_FOR_NS + ASK_AGAIN_NS));
    assert_eq!(bench.asked(), [0]);
    bench.machine.on_time(at(ASK_FOR_NS));
    assert_eq!(bench.asked(), [1]);
}

const TOO_LARGE: TooLarge = TooLarge {
    keys_max: 2,
    bytes_max: 100,
};

/// A client that takes two keys and 100 bytes.
fn limited() -> Machine {
    let limits = Limits {
        keys_max: TOO_LARGE.keys_max,
        bytes_max: TOO_LARGE.bytes_max,
    };
    let wishes = Wishes {
        limits,
        ..Wishes::default()
    };
    let mut machine = Machine::new(1, wishes, at(0));
    machine.on_subscription(0, true, at(0));
    machine.on_reach(0, true, at(0));
    machine
}

#[test]
fn a_snapshot_beyond_its_limits_ends_it() {
    let mut machine = limited();
    let mut take = |key: &[u8], body: &[u8]| {
        message(key, 1, body).encode(Form::Five, |frames| machine.on_snapshot(0, frames, at(1)))
    };
    assert_eq!(take(b"a", b"x"), Ok(()));
    // A key that comes again counts once.
    assert_eq!(take(b"a", &[7; 98]), Ok(()));
    assert_eq!(take(b"a", b"x"), Ok(()));
    assert_eq!(take(b"b", b"x"), Ok(()));
    assert_eq!(take(b"c", b"x"), Err(TOO_LARGE));
}

#[test]
fn a_state_that_grows_beyond_its_limits_ends_it() {
    let mut machine = limited();
    let end = message(KTHXBAI, 1, b"");
    end.encode(Form::Five, |frames| machine.on_snapshot(0, frames, at(1)))
        .unwrap();
    assert!(machine.is_ready());
    let mut sequence = 1;
    let mut take = |key: &[u8], body: &[u8]| {
        sequence += 1;
        message(key, sequence, body)
            .encode(Form::Five, |frames| machine.on_published(0, frames, at(1)))
    };
    for bytes in [10, 98, 1, 49] {
        assert_eq!(take(b"a", &vec![7; bytes]), Ok(()));
    }
    assert_eq!(take(b"b", &[7; 49]), Ok(()));
    // What is deleted makes room.
    assert_eq!(take(b"a", b""), Ok(()));
    assert_eq!(take(b"b", &[7; 99]), Ok(()));
    assert_eq!(take(b"b", &[7; 100]), Err(TOO_LARGE));
}

#[test]
fn what_is_held_for_a_snapshot_has_the_same_limits() {
    for (keys, bytes) in [(3, 1), (1, 100)] {
        let mut machine = limited();
        let mut outcome = Ok(());
        for key in 0..keys {
            assert_eq!(outcome, Ok(()));
            outcome = message(&[b'a' + key], key.into(), &vec![7; bytes])
                .encode(Form::Five, |frames| machine.on_published(0, frames, at(1)));
        }
        assert_eq!(outcome, Err(TOO_LARGE));
        assert!(!machine.is_ready());
    }
}
