//! Restarts told by which connection of its line a copy came by.

use super::*;

const WITHOUT_EPOCHS: Numbering = Numbering {
    has_epoch: false,
    ..NUMBERING
};

/// Two lines without epochs, of which the first has brought these numbers over its first connection.
fn bench(numbers: impl Iterator<Item = u64>) -> Bench {
    let mut bench = Bench::new(WITHOUT_EPOCHS, LIMITS);
    bench.arbiter.connected(0);
    bench.arbiter.connected(1);
    for sequence in numbers {
        bench.offer(0, 0, sequence, 0);
    }
    bench
}

/// As a cache sends it to who connects.
#[test]
fn the_last_number_again_over_a_new_connection_is_a_copy() {
    let mut bench = Bench::new(WITHOUT_EPOCHS, LIMITS);
    let both = |bench: &mut Bench, sequence| [0, 1].map(|line| bench.offer(line, 0, sequence, 0));
    bench.arbiter.connected(0);
    bench.arbiter.connected(1);
    for sequence in 0..6 {
        assert_eq!(
            both(&mut bench, sequence),
            [Verdict::Pass, Verdict::Duplicate]
        );
    }
    bench.arbiter.connected(0);
    assert_eq!(bench.offer(0, 0, 5, 0), Verdict::Duplicate);
    assert_eq!(bench.offer(0, 0, 7, 0), Verdict::Hold, "it has lost one");
    assert_eq!(
        bench.offer(1, 0, 6, 0),
        Verdict::Pass,
        "which the other has not"
    );
    for sequence in 7..10 {
        bench.offer(1, 0, sequence, 0);
    }
    let all: Vec<Out> = (0..10).map(|number| Message(0, number)).collect();
    assert_eq!(bench.take(), all);
    assert!(bench.arbiter.lines().iter().all(|it| it.too_late == 0));
}

#[test]
fn what_an_older_connection_still_brings_is_too_late() {
    let mut bench = Bench::new(WITHOUT_EPOCHS, LIMITS);
    bench.arbiter.connected(0);
    bench.arbiter.connected(1);
    for sequence in 0..20 {
        for line in [0, 1] {
            bench.offer(line, 0, sequence, 0);
        }
    }
    bench.take();
    // What one publisher sent before it began anew is read along with what it sent since, and what it sent first is lost.
    bench.arbiter.connected(0);
    assert_eq!(bench.offer(0, 0, 3, 10), Verdict::Hold);
    bench.arbiter.set_connection(0, 1);
    assert_eq!(bench.offer(0, 0, 20, 10), Verdict::TooLate);
    bench.arbiter.set_connection(0, 2);
    bench.offer(0, 0, 4, 10);
    bench.arbiter.connected(1);
    for sequence in 0..5 {
        bench.offer(1, 0, sequence, 20);
    }
    bench.release(u64::MAX);
    let mut all = vec![Restarted(0, 1)];
    all.extend((0..5).map(|number| Message(0, number)));
    assert_eq!(bench.take(), all);
    assert_eq!((bench.arbiter.lost(), bench.arbiter.held()), (0, 0));
}

#[test]
fn what_falls_back_behind_the_last_number_again_is_a_restart() {
    for repeated in [0, 1, 2] {
        let mut bench = bench(0..10);
        bench.take();
        bench.arbiter.connected(0);
        for _ in 0..repeated {
            assert_eq!(bench.offer(0, 0, 9, 10), Verdict::Duplicate);
        }
        for sequence in 0..3 {
            bench.offer(0, 0, sequence, 20);
        }
        bench.arbiter.set_connection(0, 1);
        assert_eq!(bench.offer(0, 0, 10, 30), Verdict::TooLate);
        bench.release(u64::MAX);
        let mut all = vec![Restarted(0, 1)];
        all.extend((0..3).map(|number| Message(0, number)));
        assert_eq!(bench.take(), all, "{repeated} times");
    }
}

#[test]
fn what_falls_back_among_what_is_held_is_a_restart() {
    let mut bench = bench((0..20).chain(21..51));
    bench.take();
    bench.arbiter.connected(0);
    for sequence in 25..60 {
        assert_eq!(bench.offer(0, 0, sequence, 10), Verdict::Hold, "{sequence}");
    }
    bench.release(u64::MAX);
    let mut all = vec![Lost(0, 20, 20)];
    all.extend((21..51).map(|number| Message(0, number)));
    all.extend([Restarted(0, 1), Lost(1, 0, 24)]);
    all.extend((25..60).map(|number| Message(0, number)));
    assert_eq!(bench.take(), all);
}

/// The one that is missing may be of the old life or the new one; what comes behind it tells.
#[test]
fn what_falls_back_behind_a_missing_one_is_a_restart() {
    let mut bench = bench((0..20).chain(21..51));
    bench.arbiter.connected(0);
    assert_eq!(bench.offer(0, 0, 20, 10), Verdict::Pass);
    bench.take();
    for sequence in 21..60 {
        assert_eq!(bench.offer(0, 0, sequence, 10), Verdict::Hold, "{sequence}");
    }
    bench.release(u64::MAX);
    let mut all = vec![Restarted(0, 1), Lost(1, 0, 20)];
    all.extend((21..60).map(|number| Message(0, number)));
    assert_eq!(bench.take(), all);
}

#[test]
fn a_heartbeat_by_an_older_connection_tells_nothing_of_the_new_life() {
    let mut bench = bench(0..10);
    bench.arbiter.connected(0);
    for sequence in 0..5 {
        bench.offer(0, 0, sequence, 10);
    }
    bench.release(10 + WAIT_NS);
    bench.take();
    bench.arbiter.set_connection(0, 1);
    assert_eq!(bench.heed(0, 0, 30, 300), Verdict::Pass);
    bench.arbiter.set_connection(0, 2);
    assert_eq!(bench.offer(0, 0, 5, 310), Verdict::Pass);
    assert_eq!(bench.heed(0, 0, 30, 320), Verdict::Hold);
    assert_eq!(bench.arbiter.lost(), 0);
}

#[test]
fn a_line_that_restarted_alone_gives_the_feed_back_when_it_dies() {
    for start in [Some(0), None] {
        let numbering = Numbering {
            start,
            ..WITHOUT_EPOCHS
        };
        let mut bench = Bench::new(numbering, LIMITS);
        bench.arbiter.connected(0);
        bench.arbiter.connected(1);
        for sequence in 0..10 {
            bench.offer(0, 0, sequence, 0);
            bench.offer(1, 0, sequence, 0);
        }
        bench.take();
        bench.arbiter.disconnected(0, 10);
        bench.arbiter.connected(0);
        bench.offer(0, 0, 0, 10);
        bench.offer(0, 0, 1, 10);
        bench.release(10 + WAIT_NS);
        assert_eq!(
            bench.take(),
            [Restarted(0, 1), Message(0, 0), Message(0, 1)]
        );
        for sequence in 10..15 {
            assert_eq!(bench.offer(1, 0, sequence, 200), Verdict::TooLate);
        }
        bench.arbiter.disconnected(0, 300);
        for sequence in 15..20 {
            assert_eq!(bench.offer(1, 0, sequence, 300), Verdict::Hold);
        }
        bench.release(300 + WAIT_NS);
        // What was too late is not lost as well.
        let mut all = vec![Restarted(1, 2)];
        all.extend((15..20).map(|number| Message(0, number)));
        assert_eq!(bench.take(), all, "{start:?}");
        assert_eq!(bench.offer(1, 0, 20, 500), Verdict::Pass);
        assert_eq!(bench.offer(1, 0, 22, 510), Verdict::Hold);
        bench.release(510 + WAIT_NS);
        let after = [Message(0, 20), Lost(2, 21, 21), Message(0, 22)];
        assert_eq!(bench.take(), after);
        // Its publisher begins anew as well, and so does the other one's, over new connections.
        for line in [0, 1] {
            bench.arbiter.connected(line);
        }
        for sequence in 0..3 {
            for line in [1, 0] {
                bench.offer(line, 0, sequence, 700);
            }
        }
        bench.release(u64::MAX);
        let mut all = vec![Restarted(2, 3)];
        all.extend((0..3).map(|number| Message(0, number)));
        assert_eq!(bench.take(), all, "{start:?}");
        assert_eq!(bench.arbiter.lost(), 1);
    }
}
