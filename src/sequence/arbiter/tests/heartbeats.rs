use super::*;

#[test]
fn a_heartbeat_shows_what_both_lines_lost_at_the_end() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    assert_eq!(
        bench.heed(0, 1, 3, 0),
        Verdict::Pass,
        "nothing has come yet"
    );
    bench.offer(0, 1, 0, 0);
    assert_eq!(bench.heed(0, 1, 0, 1), Verdict::Pass, "all has come");
    assert_eq!(bench.heed(1, 1, 3, 10), Verdict::Hold);
    assert_eq!(bench.heed(0, 1, 3, 20), Verdict::Hold);
    assert_eq!(bench.offer(1, 1, 4, 30), Verdict::Hold);
    assert_eq!(bench.offer(0, 1, 1, 40), Verdict::Pass);
    assert_eq!(bench.arbiter.due_ns(), 10 + WAIT_NS);
    bench.take();
    bench.release(10 + WAIT_NS);
    let beats = [Heartbeat(1, 3), Heartbeat(1, 3)];
    assert_eq!(bench.out[..3], [Lost(1, 2, 3), beats[0], beats[1]]);
    assert_eq!(bench.out[3..], [Message(1, 4)]);
    assert_eq!(bench.offer(0, 1, 2, 200), Verdict::TooLate);
    // They are no copies.
    let lines = bench.arbiter.lines();
    assert_eq!((lines[0].copies, lines[1].copies), (3, 1));
    assert_eq!((bench.arbiter.lost(), bench.arbiter.held()), (2, 0));
}

#[test]
fn a_heartbeat_waits_for_what_another_line_brings() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 1, 0, 0);
    assert_eq!(bench.heed(0, 1, 2, 10), Verdict::Hold);
    assert_eq!(bench.heed(0, 1, 1, 10), Verdict::Hold);
    for sequence in 0..3 {
        bench.offer(1, 1, sequence, 20);
    }
    let all = [
        Message(1, 0),
        Message(1, 1),
        Heartbeat(1, 1),
        Message(1, 2),
        Heartbeat(1, 2),
    ];
    assert_eq!(bench.take(), all);
    assert_eq!(bench.arbiter.due_ns(), u64::MAX);
    // What a line was silent about counts when it goes on, and no heartbeat does.
    bench.offer(0, 1, 3, 30);
    assert_eq!(bench.arbiter.lines()[0].repaired, 2);
}

#[test]
fn a_heartbeat_of_another_epoch_tells_nothing() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 2, 0, 0);
    for epoch in [1, 3] {
        assert_eq!(bench.heed(1, epoch, 7, 10), Verdict::Pass, "{epoch}");
    }
    assert_eq!(
        bench.heed(1, 2, 1 << 50, 10),
        Verdict::Pass,
        "it is damaged"
    );
    assert_eq!(bench.offer(0, 2, 1, 20), Verdict::Pass);
}

#[test]
fn without_epochs_a_heartbeat_tells_of_the_life_its_line_is_in() {
    let numbering = Numbering {
        has_epoch: false,
        ..NUMBERING
    };
    let mut bench = Bench::of_lines(4, numbering, LIMITS);
    for sequence in 0..5 {
        bench.offer(0, 0, sequence, 0);
        bench.offer(1, 0, sequence, 0);
    }
    // Over a new connection, too, and by a line that has brought no message.
    bench.arbiter.connected(0);
    assert_eq!(bench.heed(0, 0, 4, 5), Verdict::Pass);
    assert_eq!(bench.heed(0, 0, 5, 10), Verdict::Hold);
    assert_eq!(bench.heed(2, 0, 6, 20), Verdict::Hold);
    bench.take();
    bench.release(20 + WAIT_NS);
    let all = [
        Lost(0, 5, 5),
        Heartbeat(0, 5),
        Lost(0, 6, 6),
        Heartbeat(0, 6),
    ];
    assert_eq!(bench.take(), all);
    // The publisher of the first line has begun anew; the one of the second has not.
    assert_eq!(bench.offer(0, 0, 0, 200), Verdict::Hold);
    assert_eq!(bench.heed(3, 0, 8, 210), Verdict::Pass, "of either life");
    bench.release(200 + WAIT_NS);
    assert_eq!(bench.heed(1, 0, 8, 400), Verdict::Pass);
    assert_eq!(bench.heed(0, 0, 1, 410), Verdict::Hold);
    bench.take();
    bench.release(u64::MAX);
    assert_eq!(bench.take(), [Lost(1, 1, 1), Heartbeat(0, 1)]);
}

#[test]
fn a_heartbeat_is_passed_on_however_late_its_release_is() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 1, 0, 0);
    bench.heed(0, 1, 1, 10);
    for sequence in [1, 2] {
        let position = Position { epoch: 1, sequence };
        assert_eq!(bench.arbiter.offer(1, 0, position, 20), Verdict::Pass);
    }
    assert_eq!(bench.arbiter.due_ns(), 0);
    bench.take();
    bench.release(20);
    assert_eq!(bench.take(), [Heartbeat(1, 1)]);
    assert_eq!(bench.offer(0, 1, 3, 30), Verdict::Pass);
    assert_eq!((bench.arbiter.lost(), bench.arbiter.held()), (0, 0));
}

#[test]
fn heartbeats_that_wait_take_their_share_of_the_room() {
    let limits = Limits {
        held_messages_max: 3,
        ..LIMITS
    };
    let mut bench = Bench::new(NUMBERING, limits);
    bench.offer(0, 1, 0, 0);
    for _ in 0..4 {
        assert_eq!(bench.arbiter.given_up(), 0);
        assert_eq!(bench.heed(0, 1, 1, 10), Verdict::Hold);
    }
    assert_eq!((bench.arbiter.given_up(), bench.arbiter.held()), (1, 0));
    assert_eq!(bench.out[1..3], [Lost(1, 1, 1), Heartbeat(1, 1)]);
    assert_eq!(bench.out.len(), 6);
}
