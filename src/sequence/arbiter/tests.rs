mod connections;
mod heartbeats;

use super::*;

const WAIT_NS: u64 = 100;
const NUMBERING: Numbering = Numbering {
    scope: Scope::Line,
    width_bits: 64,
    start: Some(0),
    has_epoch: true,
};
const LIMITS: Limits = Limits {
    wait_ns: WAIT_NS,
    held_messages_max: 100,
    held_bytes_max: 1_000,
    topics_max: 2,
    from_start: true,
};

/// An arbiter that holds what is to come out of it, and all that came out.
struct Bench {
    arbiter: Arbiter<Out>,
    out: Vec<Out>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// Epoch and number.
    Message(u64, u64),
    /// The epoch, and the number it says was published.
    Heartbeat(u64, u64),
    /// Epoch, first and last number.
    Lost(u64, u64, u64),
    /// Epochs before and after.
    Restarted(u64, u64),
}

impl Bench {
    fn new(numbering: Numbering, limits: Limits) -> Self {
        Self::of_lines(2, numbering, limits)
    }

    fn of_lines(lines: usize, numbering: Numbering, limits: Limits) -> Self {
        Self {
            arbiter: Arbiter::new(numbering, lines, limits),
            out: Vec::new(),
        }
    }

    fn offer(&mut self, line: u8, epoch: u64, sequence: u64, now_ns: u64) -> Verdict {
        let position = Position { epoch, sequence };
        let verdict = self.arbiter.offer(line, 0, position, now_ns);
        self.take_up(verdict, Out::Message(epoch, sequence), now_ns);
        verdict
    }

    fn heed(&mut self, line: u8, epoch: u64, sequence: u64, now_ns: u64) -> Verdict {
        let position = Position { epoch, sequence };
        let verdict = self.arbiter.heed(line, position, now_ns);
        self.take_up(verdict, Out::Heartbeat(epoch, sequence), now_ns);
        verdict
    }

    fn take_up(&mut self, verdict: Verdict, what: Out, now_ns: u64) {
        match verdict {
            Verdict::Pass => self.out.push(what),
            Verdict::Hold => self.arbiter.hold(10, what),
            Verdict::Duplicate | Verdict::TooLate => {}
        }
        self.release(now_ns);
    }

    fn release(&mut self, now_ns: u64) {
        let out = &mut self.out;
        self.arbiter.release(now_ns, &mut |released| {
            out.push(match released {
                Released::Message(what) => what,
                Released::Lost { gap, .. } => Out::Lost(gap.epoch, gap.from, gap.to),
                Released::Restarted { from, to, .. } => Out::Restarted(from.epoch, to.epoch),
            });
        });
    }

    fn take(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }
}

use Out::{Heartbeat, Lost, Message, Restarted};

#[test]
fn the_first_copy_wins_and_a_hole_is_filled_by_the_other_line() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    assert_eq!(bench.offer(0, 1, 0, 0), Verdict::Pass);
    assert_eq!(bench.offer(1, 1, 0, 1), Verdict::Duplicate);
    assert_eq!(bench.offer(0, 1, 2, 2), Verdict::Hold);
    assert_eq!(bench.offer(0, 1, 2, 3), Verdict::Duplicate);
    assert_eq!(bench.offer(1, 1, 1, 4), Verdict::Pass);
    assert_eq!(bench.take(), [Message(1, 0), Message(1, 1), Message(1, 2)]);
    let lines = bench.arbiter.lines();
    assert_eq!((lines[0].wins, lines[1].wins), (2, 1));
    assert_eq!((lines[0].repaired, lines[1].repaired), (1, 0));
}

#[test]
fn each_hole_has_a_wait_of_its_own() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 1, 2, 10);
    bench.offer(0, 1, 4, 50);
    assert_eq!(bench.arbiter.due_ns(), 10 + WAIT_NS);
    bench.release(10 + WAIT_NS);
    assert_eq!(bench.take(), [Lost(1, 0, 1), Message(1, 2)]);
    assert_eq!(bench.arbiter.due_ns(), 50 + WAIT_NS);
    assert_eq!(bench.offer(1, 1, 1, 120), Verdict::TooLate);
    assert_eq!(bench.offer(1, 1, 2, 120), Verdict::Duplicate);
    bench.release(50 + WAIT_NS);
    assert_eq!(bench.take(), [Lost(1, 3, 3), Message(1, 4)]);
    assert_eq!((bench.arbiter.lost(), bench.arbiter.held()), (3, 0));
}

#[test]
fn what_both_lines_skip_is_lost_as_well() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 1, 3, 10);
    bench.offer(1, 1, 1, 40);
    // The hole after 1 has been known since 3 came.
    bench.release(10 + WAIT_NS);
    let all = [Lost(1, 0, 0), Message(1, 1), Lost(1, 2, 2), Message(1, 3)];
    assert_eq!(bench.take(), all);
}

#[test]
fn a_new_epoch_waits_for_the_tail_of_the_old() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 1, 0, 0);
    assert_eq!(bench.offer(0, 2, 0, 10), Verdict::Hold);
    assert_eq!(bench.offer(1, 1, 0, 11), Verdict::Duplicate);
    assert_eq!(bench.offer(1, 1, 1, 12), Verdict::Pass);
    assert_eq!(bench.offer(1, 2, 0, 13), Verdict::Duplicate);
    let restart = Restarted(1, 2);
    assert_eq!(
        bench.take(),
        [Message(1, 0), Message(1, 1), restart, Message(2, 0)]
    );
    assert_eq!(bench.offer(1, 1, 1, 14), Verdict::Duplicate);
    assert_eq!(bench.offer(1, 1, 2, 14), Verdict::TooLate);
}

#[test]
fn a_silent_line_costs_a_restart_one_wait() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    bench.offer(0, 1, 0, 0);
    bench.offer(0, 2, 1, 10);
    bench.release(9 + WAIT_NS);
    assert_eq!(bench.take(), [Message(1, 0)]);
    bench.release(10 + WAIT_NS);
    assert_eq!(
        bench.take(),
        [Restarted(1, 2), Lost(2, 0, 0), Message(2, 1)]
    );
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let limits = Limits {
        wait_ns: 3 * UNHEARD_NS,
        ..LIMITS
    };
    let mut bench = Bench::new(NUMBERING, limits);
    let gone_ns = 10;
    for line in [0, 1] {
        bench.offer(line, 1, 0, 0);
    }
    bench.arbiter.disconnected(1, gone_ns);
    bench.take();
    // It may be back in time.
    bench.offer(0, 1, 2, gone_ns);
    bench.release(gone_ns + limits.wait_ns - 1);
    assert_eq!(bench.take(), []);
    let mut now_ns = gone_ns + limits.wait_ns;
    bench.release(now_ns);
    assert_eq!(bench.take(), [Lost(1, 1, 1), Message(1, 2)]);
    // It is not, neither for a hole nor for a restart; what the other one disorders is.
    bench.offer(0, 1, 4, now_ns);
    bench.offer(0, 1, 3, now_ns + ALONE_WAIT_NS - 1);
    bench.release(now_ns + ALONE_WAIT_NS - 1);
    assert_eq!(bench.take(), [Message(1, 3), Message(1, 4)]);
    bench.offer(0, 1, 6, now_ns);
    bench.release(now_ns + ALONE_WAIT_NS);
    assert_eq!(bench.take(), [Lost(1, 5, 5), Message(1, 6)]);
    bench.offer(0, 2, 0, now_ns);
    bench.release(now_ns + ALONE_WAIT_NS);
    assert_eq!(bench.take(), [Restarted(1, 2), Message(2, 0)]);
    // When it is back, all are waited for again, also what the wait had begun for.
    now_ns += 10 * ALONE_WAIT_NS;
    bench.offer(0, 2, 2, now_ns);
    bench.arbiter.connected(1);
    bench.release(now_ns + limits.wait_ns - 1);
    assert_eq!(bench.take(), []);
    assert_eq!(
        bench.offer(1, 2, 1, now_ns + limits.wait_ns - 1),
        Verdict::Pass
    );
    bench.release(now_ns + limits.wait_ns - 1);
    assert_eq!(bench.take(), [Message(2, 1), Message(2, 2)]);
}

#[test]
fn who_is_gone_may_be_back_within_a_second() {
    let limits = Limits {
        wait_ns: 50_000_000,
        ..LIMITS
    };
    let mut bench = Bench::new(NUMBERING, limits);
    for line in [0, 1] {
        bench.offer(line, 1, 0, 0);
    }
    bench.arbiter.disconnected(1, 0);
    bench.take();
    let before_ns = UNHEARD_NS - limits.wait_ns;
    for (next, now_ns, wait_ns) in [
        (2, before_ns, limits.wait_ns),
        (4, UNHEARD_NS, ALONE_WAIT_NS),
    ] {
        bench.offer(0, 1, next, now_ns);
        bench.release(now_ns + wait_ns - 1);
        assert_eq!(bench.take(), []);
        bench.release(now_ns + wait_ns);
        let lost = Lost(1, next - 1, next - 1);
        assert_eq!(bench.take(), [lost, Message(1, next)]);
    }
}

#[test]
fn an_epoch_ends_without_the_lines_that_are_gone() {
    let limits = Limits {
        wait_ns: UNHEARD_NS / 2,
        ..LIMITS
    };
    let mut bench = Bench::of_lines(3, NUMBERING, limits);
    for line in [0, 1, 2] {
        bench.offer(line, 1, 0, 0);
    }
    bench.arbiter.disconnected(2, 0);
    bench.take();
    // Line 2 may be back: the tail of the epoch is waited for until it can't be.
    let mut now_ns = UNHEARD_NS - 10;
    bench.offer(0, 2, 0, now_ns);
    bench.offer(1, 2, 0, now_ns);
    assert_eq!(bench.arbiter.due_ns(), UNHEARD_NS);
    bench.release(UNHEARD_NS - 1);
    assert_eq!(bench.take(), []);
    bench.release(UNHEARD_NS);
    assert_eq!(bench.take(), [Restarted(1, 2), Message(2, 0)]);
    // Nor by now, so that the end comes with the last line that is left: but not before it.
    now_ns = 2 * UNHEARD_NS;
    assert_eq!(bench.offer(0, 3, 0, now_ns), Verdict::Hold);
    assert_eq!(bench.offer(1, 2, 1, now_ns), Verdict::Pass);
    assert_eq!(bench.take(), [Message(2, 1)]);
    assert_eq!(bench.offer(1, 3, 1, now_ns), Verdict::Hold);
    let all = [Restarted(2, 3), Message(3, 0), Message(3, 1)];
    assert_eq!(bench.take(), all);
    // A hole that one of the two may fill is waited for.
    bench.offer(0, 3, 3, now_ns);
    bench.release(now_ns + limits.wait_ns - 1);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.offer(1, 3, 2, now_ns + 1), Verdict::Pass);
    bench.take();
    // It is back, and its tail is waited for again.
    bench.arbiter.connected(2);
    for line in [0, 1] {
        bench.offer(line, 4, 0, now_ns + 2);
    }
    bench.release(now_ns + 1 + limits.wait_ns);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.offer(2, 3, 4, now_ns + 3), Verdict::Pass);
    bench.release(now_ns + 2 + limits.wait_ns);
    let all = [Message(3, 4), Restarted(3, 4), Message(4, 0)];
    assert_eq!(bench.take(), all);
}

#[test]
fn an_unknown_start_is_the_lowest_number_held() {
    let numbering = Numbering {
        start: None,
        ..NUMBERING
    };
    let mut bench = Bench::new(numbering, LIMITS);
    assert_eq!(bench.offer(0, 1, 7, 0), Verdict::Pass);
    assert_eq!(bench.offer(1, 1, 6, 1), Verdict::TooLate);
    bench.offer(0, 2, 9, 10);
    bench.offer(0, 2, 8, 11);
    bench.release(10 + WAIT_NS);
    let restart = Restarted(1, 2);
    assert_eq!(
        bench.take(),
        [Message(1, 7), restart, Message(2, 8), Message(2, 9)]
    );
}

#[test]
fn numbers_wrap_without_a_hole_or_a_restart() {
    for has_epoch in [false, true] {
        let numbering = Numbering {
            width_bits: 32,
            has_epoch,
            ..NUMBERING
        };
        let limits = Limits {
            from_start: false,
            ..LIMITS
        };
        let mut bench = Bench::new(numbering, limits);
        let highest = u64::from(u32::MAX);
        assert_eq!(bench.offer(0, 0, highest - 1, 0), Verdict::Pass);
        assert_eq!(bench.offer(0, 0, highest, 0), Verdict::Pass);
        assert_eq!(bench.offer(0, 0, 0, 0), Verdict::Pass);
        assert_eq!(bench.offer(1, 0, highest, 0), Verdict::Duplicate);
        assert_eq!(bench.offer(1, 0, 0, 0), Verdict::Duplicate);
    }
}

#[test]
fn a_loss_over_the_wrap_is_counted() {
    let numbering = Numbering {
        width_bits: 32,
        ..NUMBERING
    };
    let limits = Limits {
        from_start: false,
        ..LIMITS
    };
    let mut bench = Bench::new(numbering, limits);
    let highest = u64::from(u32::MAX);
    bench.offer(0, 1, highest - 1, 0);
    bench.offer(0, 1, 2, 0);
    bench.release(WAIT_NS);
    assert_eq!(bench.out[1..], [Lost(1, highest, 1), Message(1, 2)]);
    assert_eq!(bench.arbiter.lost(), 3);
}

#[test]
fn limits_give_up_the_oldest_hole() {
    let by_messages = Limits {
        held_messages_max: 2,
        ..LIMITS
    };
    let by_bytes = Limits {
        held_bytes_max: 20,
        ..LIMITS
    };
    for limits in [by_messages, by_bytes] {
        let mut bench = Bench::new(NUMBERING, limits);
        bench.offer(0, 1, 1, 1);
        bench.offer(0, 1, 3, 2);
        assert_eq!(bench.take(), []);
        bench.offer(0, 1, 5, 3);
        assert_eq!(bench.take(), [Lost(1, 0, 0), Message(1, 1)]);
        assert_eq!((bench.arbiter.held(), bench.arbiter.given_up()), (2, 1));
    }
}

#[test]
fn topics_beyond_the_limit_come_by_one_line() {
    let numbering = Numbering {
        scope: Scope::Topic,
        ..NUMBERING
    };
    let mut arbiter: Arbiter<u64> = Arbiter::new(numbering, 2, LIMITS);
    let position = Position {
        epoch: 1,
        sequence: 0,
    };
    for hash in [1, 2, 3] {
        assert_eq!(arbiter.offer(0, hash, position, 0), Verdict::Pass);
        assert_eq!(arbiter.offer(1, hash, position, 0), Verdict::Duplicate);
    }
    assert_eq!(arbiter.untracked(), 2);
    arbiter.disconnected(0, 0);
    assert_eq!(arbiter.offer(1, 3, position, 0), Verdict::Pass);
}

#[test]
fn topics_beyond_the_limit_come_by_a_line_that_is_heard() {
    let numbering = Numbering {
        scope: Scope::Topic,
        ..NUMBERING
    };
    let mut arbiter: Arbiter<u64> = Arbiter::new(numbering, 2, LIMITS);
    let mut offer = |line, hash, sequence, now_ns| {
        let position = Position { epoch: 1, sequence };
        arbiter.offer(line, hash, position, now_ns)
    };
    for hash in [1, 2] {
        offer(0, hash, 0, 0);
    }
    assert_eq!(offer(1, 3, 0, 1_000), Verdict::Pass);
    assert_eq!(offer(0, 3, 0, 1_010), Verdict::Duplicate);
    // Connected as it is, it brings no more.
    assert_eq!(offer(0, 3, 1, 1_050), Verdict::Duplicate);
    assert_eq!(offer(0, 3, 2, 1_000 + UNHEARD_NS), Verdict::Duplicate);
    assert_eq!(offer(0, 3, 3, 1_001 + UNHEARD_NS), Verdict::Pass);
    assert_eq!(offer(1, 3, 3, 1_002 + UNHEARD_NS), Verdict::Duplicate);
    assert_eq!(offer(0, 3, 4, 5_000 + UNHEARD_NS), Verdict::Pass);
}

#[test]
fn the_other_line_lags_by_what_was_between_the_copies() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    for sequence in 0..100 {
        bench.offer(0, 1, sequence, 10 * sequence);
        if sequence >= 3 {
            bench.offer(1, 1, sequence - 3, 10 * sequence);
        }
    }
    let lines = bench.arbiter.lines();
    assert_eq!((lines[0].lag.len(), lines[1].lag.len()), (0, 6));
    assert_eq!((lines[1].lag.min(), lines[1].lag.max()), (30, 30));
}

#[test]
fn a_line_that_reconnects_joins_the_life_the_others_are_in() {
    let numbering = Numbering {
        has_epoch: false,
        ..NUMBERING
    };
    let mut bench = Bench::new(numbering, LIMITS);
    for (line, sequence) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0)] {
        bench.offer(line, 0, sequence, 0);
    }
    bench.release(WAIT_NS);
    assert_eq!(bench.offer(1, 0, 2, 200), Verdict::TooLate);
    assert_eq!(bench.offer(0, 0, 1, 200), Verdict::Pass);
    bench.arbiter.connected(1);
    assert_eq!(bench.offer(1, 0, 1, 201), Verdict::Duplicate);
    assert_eq!(bench.offer(1, 0, 2, 201), Verdict::Pass);
}

#[test]
fn a_line_that_restarted_alone_gives_the_feed_back_when_it_dies() {
    for (healthy, restarted) in [(1, 2), (2, 1)] {
        let mut bench = Bench::new(NUMBERING, LIMITS);
        for line in [0, 1] {
            bench.offer(line, healthy, 0, 0);
        }
        assert_eq!(bench.offer(0, restarted, 0, 10), Verdict::Hold);
        assert_eq!(bench.offer(1, healthy, 1, 20), Verdict::Pass);
        bench.release(10 + WAIT_NS);
        let restart = Restarted(healthy, restarted);
        let all = [Message(healthy, 0), Message(healthy, 1), restart];
        assert_eq!(bench.take()[..3], all);
        assert_eq!(bench.offer(1, healthy, 2, 200), Verdict::TooLate);
        assert_eq!(bench.offer(0, restarted, 1, 200), Verdict::Pass);
        bench.take();
        bench.arbiter.disconnected(0, 300);
        assert_eq!(bench.offer(1, healthy, 1, 300), Verdict::Duplicate);
        assert_eq!(bench.offer(1, healthy, 3, 300), Verdict::Hold);
        assert_eq!(bench.offer(1, healthy, 5, 310), Verdict::Hold);
        bench.release(300 + WAIT_NS);
        // What was too late is not lost as well.
        let restart = Restarted(restarted, healthy);
        assert_eq!(bench.take(), [restart, Message(healthy, 3)]);
        bench.release(310 + WAIT_NS);
        let all = [Lost(healthy, 4, 4), Message(healthy, 5)];
        assert_eq!(bench.take(), all);
        assert_eq!(bench.offer(1, healthy, 6, 500), Verdict::Pass);
        assert_eq!(bench.offer(0, healthy, 6, 500), Verdict::Duplicate);
    }
}

#[test]
fn lower_epochs_of_all_lines_are_a_restart() {
    let mut bench = Bench::new(NUMBERING, LIMITS);
    for line in [0, 1] {
        bench.offer(line, 9, 0, 0);
    }
    assert_eq!(bench.offer(0, 4, 1, 10), Verdict::Hold);
    assert_eq!(bench.offer(1, 9, 1, 11), Verdict::Pass);
    assert_eq!(bench.offer(1, 4, 0, 12), Verdict::Hold);
    assert_eq!(bench.offer(1, 4, 1, 13), Verdict::Duplicate);
    let before = [Message(9, 0), Message(9, 1), Restarted(9, 4)];
    assert_eq!(bench.out[..3], before);
    assert_eq!(bench.out[3..], [Message(4, 0), Message(4, 1)]);
    assert_eq!(bench.offer(0, 4, 2, 14), Verdict::Pass);
    assert_eq!(bench.offer(0, 9, 1, 15), Verdict::Duplicate);
    assert_eq!(bench.arbiter.lost(), 0);
}

#[test]
fn a_damaged_epoch_costs_no_message() {
    for damaged in [0, u64::MAX] {
        let mut bench = Bench::new(NUMBERING, LIMITS);
        for line in [0, 1] {
            bench.offer(line, 5, 0, 0);
        }
        bench.offer(0, damaged, 0, 10);
        for sequence in 1..4 {
            bench.offer(1, 5, sequence, 20 + sequence);
            bench.offer(0, 5, sequence, 40 + sequence);
        }
        bench.release(10 + WAIT_NS);
        for sequence in 4..8 {
            bench.offer(1, 5, sequence, 200 + sequence);
            bench.offer(0, 5, sequence, 300 + sequence);
        }
        bench.release(u64::MAX);
        let mut all: Vec<Out> = (0..8).map(|number| Message(5, number)).collect();
        let strange = [
            Restarted(5, damaged),
            Message(damaged, 0),
            Restarted(damaged, 5),
        ];
        all.splice(4..4, strange);
        assert_eq!(bench.take(), all);
    }
}
