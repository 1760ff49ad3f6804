//! Restarts told by which connection a message came by.

use proptest::{collection::vec, prelude::*};

use super::*;

#[test]
fn after_a_new_connection_any_fall_back_is_a_restart() {
    let mut bench = Bench::new(numbered(64, Some(0), false));
    bench.connected(true, 0);
    bench.number(100);
    assert_eq!(bench.number(90), Verdict::Duplicate);
    bench.connected(false, 0);
    bench.connected(true, 0);
    assert_eq!(bench.number(90), Verdict::Deliver);
    assert_eq!((bench.lost(), bench.tracker.counts().restarts), (90, 1));
    assert_eq!(bench.number(91), Verdict::Deliver);
    assert_eq!(
        bench.number(80),
        Verdict::Deliver,
        "missing of the new life"
    );
    assert_eq!(bench.lost(), 89);
}

#[test]
fn the_last_number_again_is_a_copy_over_a_new_connection_too() {
    let mut bench = Bench::new(numbered(64, Some(0), false));
    bench.connected(true, 0);
    for sequence in 0..10 {
        bench.number(sequence);
    }
    bench.connected(true, 0);
    assert_eq!(bench.number(9), Verdict::Duplicate);
    assert_eq!(bench.number(10), Verdict::Deliver);
    let counts = bench.tracker.counts();
    assert_eq!((counts.lost, counts.duplicates, counts.restarts), (0, 1, 0));
    // Whoever repeats it may still begin anew behind it.
    bench.connected(true, 0);
    assert_eq!(bench.number(10), Verdict::Duplicate);
    assert_eq!(bench.number(3), Verdict::Deliver);
    let counts = bench.tracker.counts();
    assert_eq!((counts.lost, counts.duplicates, counts.restarts), (3, 2, 1));
}

/// A new connection of another publisher of the line makes nothing that comes late a restart.
#[test]
fn what_was_missing_comes_late_whatever_connections_are_made() {
    let mut bench = Bench::new(numbered(64, Some(0), false));
    bench.connected(true, 0);
    bench.connected(true, 0);
    bench.tracker.set_connection(1);
    for sequence in (0..20).filter(|&sequence| sequence != 15) {
        bench.number(sequence);
    }
    assert_eq!(bench.lost(), 1);
    bench.connected(true, 0);
    bench.tracker.set_connection(1);
    assert_eq!(bench.number(12), Verdict::Duplicate);
    bench.connected(true, 0);
    assert_eq!(bench.number(15), Verdict::Deliver);
    let counts = bench.tracker.counts();
    assert_eq!((counts.lost, counts.reordered, counts.restarts), (0, 1, 0));
}

#[test]
fn what_an_older_connection_still_brings_is_of_the_life_before() {
    for scope in [Scope::Topic, Scope::Line] {
        let mut options = numbered(32, Some(0), false);
        options.numbering.as_mut().unwrap().scope = scope;
        let mut bench = Bench::new(options);
        bench.connected(true, 0);
        for sequence in 0..2_000 {
            bench.number(sequence);
        }
        // Its publisher has begun anew before all of that was read, and its first three messages are missing.
        bench.connected(true, 0);
        let (mut old, mut new) = (2_000..2_600, 3..900);
        while old.start < old.end || new.start < new.end {
            for (connection, rest) in [(1, &mut old), (2, &mut new)] {
                bench.tracker.set_connection(connection);
                for sequence in rest.take(7) {
                    let verdict = bench.number(sequence);
                    assert_eq!(verdict, Verdict::Deliver, "{sequence} by {connection}");
                }
            }
        }
        let counts = bench.tracker.counts();
        assert_eq!((counts.lost, counts.gaps, counts.restarts), (3, 1, 1));
        assert_eq!(bench.number(899), Verdict::Duplicate);
    }
}

#[test]
fn a_heartbeat_by_an_older_connection_tells_nothing_of_the_new_life() {
    let mut bench = Bench::new(TrackerOptions {
        numbering: Some(Numbering {
            scope: Scope::Line,
            width_bits: 64,
            start: Some(1),
            has_epoch: false,
        }),
        ..TrackerOptions::default()
    });
    let heed = |bench: &mut Bench, connection, sequence| {
        bench.tracker.set_connection(connection);
        bench.tracker.note_reached(at(0, sequence), &mut |_| {})
    };
    bench.connected(true, 0);
    for sequence in 1..=2_000 {
        bench.number(sequence);
    }
    bench.connected(true, 0);
    for sequence in 1..5 {
        assert_eq!(bench.number(sequence), Verdict::Deliver);
    }
    assert!(!heed(&mut bench, 1, 2_000), "all of the old life has come");
    assert!(!heed(&mut bench, 1, 3_000));
    assert!(!heed(&mut bench, 2, 4));
    assert_eq!(bench.lost(), 0);
    assert!(heed(&mut bench, 2, 5));
    assert_eq!(bench.lost(), 1);
}

#[test]
fn of_the_life_before_the_last_nothing_is_known() {
    let mut bench = Bench::new(numbered(64, None, false));
    let mut bring = |connection, numbers: std::ops::Range<u64>| {
        bench.tracker.set_connection(connection);
        for sequence in numbers {
            assert_eq!(bench.number(sequence), Verdict::Deliver, "{sequence}");
        }
    };
    bring(1, 0..2_000);
    bring(2, 0..101);
    bring(3, 0..50);
    bring(1, 2_000..2_500);
    bring(2, 101..2_000);
    bring(3, 50..90);
    let counts = *bench.tracker.counts();
    assert_eq!((counts.restarts, counts.lost, counts.duplicates), (2, 0, 0));
}

/// A publisher that dies and comes back: how far the old one got, from where on the new one's are numbered and how many
/// those are, how many of the old one's messages were read before any of the new one's, and in which order the rest.
fn two_lives() -> impl Strategy<Value = (u64, u64, u64, u64, Vec<bool>)> {
    (3..2_000_u64).prop_flat_map(|old| {
        (2..=old).prop_flat_map(move |read| {
            let rest = vec(any::<bool>(), 0..400);
            (Just(old), 0..read - 1, 1..2_000_u64, Just(read), rest)
        })
    })
}

proptest! {
    /// Of topics and of lines.
    #[test]
    fn two_connections_read_in_any_order_bring_all_of_both_lives(
        (old, from, count, read, order) in two_lives(),
        by_line in any::<bool>(),
    ) {
        let mut options = numbered(64, None, false);
        if by_line {
            let numbering = options.numbering.expect("it is numbered");
            options.numbering = Some(Numbering { scope: Scope::Line, ..numbering });
        }
        let mut bench = Bench::new(options);
        let (mut olds, mut news) = (0..old, from..from + count);
        let mut bring = |is_new, sequence| {
            bench.tracker.set_connection(1 + u32::from(is_new));
            bench.number(sequence)
        };
        for sequence in olds.by_ref().take(read as usize) {
            prop_assert_eq!(bring(false, sequence), Verdict::Deliver);
        }
        prop_assert_eq!(bring(true, news.next().expect("one at least")), Verdict::Deliver);
        for is_new in order.into_iter().chain([false; 2_000]).chain([true; 2_000]) {
            let next = if is_new { news.next() } else { olds.next() };
            if let Some(sequence) = next {
                prop_assert_eq!(bring(is_new, sequence), Verdict::Deliver, "{} {}", is_new, sequence);
            }
        }
        let counts = bench.tracker.counts();
        prop_assert_eq!((counts.restarts, counts.lost, counts.duplicates), (1, 0, 0));
    }
}
