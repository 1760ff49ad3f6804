//! Rules one by one, then random histories against simple models.

use super::*;

mod connections;
mod models;

/// An event without its borrows: topic hash, and what happened.
type Told = (u64, EventKind);

/// A tracker whose events are kept.
struct Bench {
    tracker: Tracker,
    told: Vec<Told>,
}

impl Bench {
    fn new(options: TrackerOptions) -> Self {
        Self {
            tracker: Tracker::new(options),
            told: Vec::new(),
        }
    }

    fn message(&mut self, hash: u64, position: Option<Position>, now_ns: u64) -> Verdict {
        let told = &mut self.told;
        let mut events = |event: Event<'_>| told.push((event.hash, event.kind));
        self.tracker
            .track(&name(hash), hash, position, now_ns, &mut events)
    }

    fn number(&mut self, sequence: u64) -> Verdict {
        self.message(1, Some(at(0, sequence)), 0)
    }

    fn tick(&mut self, now_ns: u64) -> Vec<Told> {
        let told = &mut self.told;
        self.tracker
            .tick(now_ns, &mut |event| told.push((event.hash, event.kind)));
        std::mem::take(told)
    }

    fn connected(&mut self, up: bool, now_ns: u64) {
        let told = &mut self.told;
        self.tracker.connected(up, now_ns, &mut |event| {
            told.push((event.hash, event.kind));
        });
    }

    fn lost(&self) -> u64 {
        self.tracker.counts().lost
    }
}

fn name(hash: u64) -> Vec<u8> {
    format!("topic-{hash}").into_bytes()
}

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn quality(from: Quality, to: Quality) -> EventKind {
    EventKind::Quality { from, to }
}

fn numbered(width_bits: u32, start: Option<u64>, has_epoch: bool) -> TrackerOptions {
    TrackerOptions {
        numbering: Some(Numbering {
            scope: Scope::Topic,
            width_bits,
            start,
            has_epoch,
        }),
        topics_max: 100,
        recover_ns: 1_000,
        ..TrackerOptions::default()
    }
}

fn silent_after(after_ns: u64) -> TrackerOptions {
    TrackerOptions {
        topics_max: 100,
        stale_rules: vec![StaleRule {
            prefix: b"topic".to_vec(),
            after_ns,
        }],
        recover_ns: 1_000,
        ..TrackerOptions::default()
    }
}

#[test]
fn a_late_number_is_delivered_once_and_no_longer_lost() {
    let mut bench = Bench::new(numbered(64, None, false));
    for (sequence, verdict, lost) in [
        (10, Verdict::Deliver, 0),
        (14, Verdict::Deliver, 3),
        (12, Verdict::Deliver, 2),
        (12, Verdict::Duplicate, 2),
        (14, Verdict::Duplicate, 2),
        (15, Verdict::Deliver, 2),
        (13, Verdict::Deliver, 1),
        (9, Verdict::Duplicate, 1),
    ] {
        assert_eq!(bench.number(sequence), verdict, "{sequence}");
        assert_eq!(bench.lost(), lost, "{sequence}");
    }
    let counts = bench.tracker.counts();
    assert_eq!(
        (counts.gaps, counts.reordered, counts.duplicates),
        (1, 2, 3)
    );
}

#[test]
fn a_snapshot_brings_topics_on_and_never_back() {
    let mut bench = Bench::new(numbered(64, Some(0), false));
    bench.connected(true, 0);
    bench.number(4);
    bench.number(7);
    assert_eq!(bench.lost(), 2);
    let rebase = |bench: &mut Bench, hash, sequence| {
        let told = &mut bench.told;
        let mut events = |event: Event<'_>| told.push((event.hash, event.kind));
        let topic = name(hash);
        bench
            .tracker
            .rebase(Some((&topic, hash)), at(0, sequence), &mut events)
    };
    for (sequence, is_news) in [(3, false), (7, false), (9, true), (9, false)] {
        assert_eq!(rebase(&mut bench, 1, sequence), is_news, "{sequence}");
    }
    assert!(rebase(&mut bench, 2, 100), "of a topic that is new");
    for (hash, sequence, verdict) in [
        (1, 8, Verdict::Duplicate),
        (1, 9, Verdict::Duplicate),
        (1, 10, Verdict::Deliver),
        (2, 100, Verdict::Duplicate),
        (2, 101, Verdict::Deliver),
    ] {
        let position = Some(at(0, sequence));
        assert_eq!(
            bench.message(hash, position, 0),
            verdict,
            "{hash}: {sequence}"
        );
    }
    assert_eq!(bench.lost(), 2, "what the snapshot jumped over is known");
    bench.told.clear();
    let told = &mut bench.told;
    bench
        .tracker
        .caught_up(10, &mut |event| told.push((event.hash, event.kind)));
    bench.tick(1_010);
    assert_eq!(bench.tracker.quality(), Quality::Ok);
}

#[test]
fn a_snapshot_of_a_line_says_what_comes_next() {
    let mut options = numbered(64, Some(1), false);
    options.numbering.as_mut().unwrap().scope = Scope::Line;
    let mut bench = Bench::new(options);
    bench.connected(true, 0);
    assert!(bench.tracker.rebase(None, at(0, 41), &mut |_| ()));
    assert_eq!(bench.number(42), Verdict::Deliver);
    bench.number(45);
    assert_eq!(bench.lost(), 2);
    assert_eq!(bench.tracker.quality(), Quality::Gapped);
    bench.tracker.rebase(None, at(0, 44), &mut |_| ());
    bench.tracker.caught_up(0, &mut |_| ());
    assert_eq!(bench.tracker.quality(), Quality::Recovering);
    assert_eq!(bench.number(45), Verdict::Deliver);
    assert_eq!(bench.lost(), 2);
    bench.tick(1_000);
    assert_eq!(bench.tracker.quality(), Quality::Ok);
}

#[test]
fn numbers_wrap_at_their_width() {
    let mut bench = Bench::new(numbered(32, Some(0), false));
    let top = u64::from(u32::MAX);
    for sequence in [top - 1, top, 0, 1] {
        assert_eq!(bench.number(sequence), Verdict::Deliver);
    }
    assert_eq!(bench.lost(), 0);
    bench.message(2, Some(at(0, top - 1)), 0);
    bench.message(2, Some(at(0, 2)), 0);
    assert_eq!((bench.lost(), bench.tracker.counts().restarts), (3, 0));
    bench.message(2, Some(at(0, top)), 0);
    assert_eq!((bench.lost(), bench.tracker.counts().reordered), (2, 1));
}

#[test]
fn a_fall_to_the_start_or_far_back_is_a_restart_and_never_a_huge_gap() {
    for width_bits in [32, 64] {
        for (before, after, missing) in [
            (5_000, 0, 0),
            (3_000_000_000, 0, 0),
            (3_000_000_000, 7, 7),
            (1_000_000, 1_000, 1_000),
        ] {
            let mut bench = Bench::new(numbered(width_bits, Some(0), false));
            bench.number(before);
            assert_eq!(bench.number(after), Verdict::Deliver);
            let counts = bench.tracker.counts();
            assert_eq!(
                (counts.restarts, counts.lost),
                (1, missing),
                "{before} {after}"
            );
        }
    }
    let mut bench = Bench::new(numbered(64, Some(0), false));
    bench.number(5);
    bench.number(1 << 60);
    assert_eq!((bench.lost(), bench.tracker.counts().restarts), (0, 1));
}

#[test]
fn epochs_alone_decide_on_restarts_where_there_are_any() {
    let mut bench = Bench::new(numbered(64, Some(0), true));
    bench.message(1, Some(at(1, 100_000)), 0);
    assert_eq!(bench.message(1, Some(at(1, 0)), 0), Verdict::Duplicate);
    assert_eq!(bench.message(1, Some(at(2, 3)), 0), Verdict::Deliver);
    let restarted = EventKind::Restarted {
        from: at(1, 100_000),
        to: at(2, 3),
    };
    assert!(bench.told.contains(&(1, restarted)), "{:?}", bench.told);
    assert_eq!(bench.lost(), 3);
}

#[test]
fn of_two_lives_that_alternate_each_loses_what_it_loses() {
    for scope in [Scope::Topic, Scope::Line] {
        let mut options = numbered(64, Some(0), true);
        options.numbering.as_mut().unwrap().scope = scope;
        let mut bench = Bench::new(options);
        for (epoch, sequence, verdict, lost) in [
            (1, 100_000, Verdict::Deliver, 0),
            (2, 0, Verdict::Deliver, 0),
            (1, 100_001, Verdict::Deliver, 0),
            (2, 1, Verdict::Deliver, 0),
            (2, 4, Verdict::Deliver, 2),
            (1, 100_004, Verdict::Deliver, 4),
            (2, 2, Verdict::Deliver, 3),
            (2, 4, Verdict::Duplicate, 3),
            (1, 100_003, Verdict::Deliver, 2),
            (2, 5, Verdict::Deliver, 2),
        ] {
            let got = bench.message(1, Some(at(epoch, sequence)), 0);
            assert_eq!(got, verdict, "{epoch}, {sequence}");
            assert_eq!(bench.lost(), lost, "{epoch}, {sequence}");
        }
        // Over a new connection, too, or while another one was made.
        bench.connected(true, 0);
        for (epoch, sequence) in [(1, 100_005), (2, 6), (1, 100_006), (2, 7)] {
            let got = bench.message(1, Some(at(epoch, sequence)), 0);
            assert_eq!(
                (got, bench.lost()),
                (Verdict::Deliver, 2),
                "{epoch}, {sequence}"
            );
        }
        // A publisher that reuses its epoch has begun anew.
        bench.connected(true, 0);
        let again = bench.message(1, Some(at(1, 0)), 0);
        assert_eq!((again, bench.lost()), (Verdict::Deliver, 2));
        // Whichever comes first over the new connection.
        bench.connected(true, 0);
        assert_eq!(bench.message(1, Some(at(2, 0)), 0), Verdict::Deliver);
        assert_eq!(bench.message(1, Some(at(1, 0)), 0), Verdict::Deliver);
    }
}

#[test]
fn a_series_expected_from_its_start_begins_with_a_gap() {
    for (from_start, lost) in [(false, 0), (true, 5)] {
        let mut bench = Bench::new(TrackerOptions {
            from_start,
            ..numbered(64, Some(0), false)
        });
        bench.number(5);
        assert_eq!(bench.lost(), lost);
        let late = bench.number(3) == Verdict::Deliver;
        assert_eq!(late, from_start);
    }
}

#[test]
fn topics_beyond_the_limit_are_delivered_and_counted() {
    let mut bench = Bench::new(TrackerOptions {
        topics_max: 2,
        ..numbered(64, None, false)
    });
    for hash in [1, 2, 3, 3, 4] {
        assert_eq!(bench.message(hash, Some(at(0, 0)), 0), Verdict::Deliver);
    }
    let counts = bench.tracker.counts();
    assert_eq!((counts.untracked, counts.first_seen), (3, 2));
    assert_eq!(bench.tracker.topics(), 2);
}

#[test]
fn a_line_has_one_series_over_all_topics() {
    let mut options = numbered(64, Some(0), false);
    if let Some(numbering) = &mut options.numbering {
        numbering.scope = Scope::Line;
    }
    let mut bench = Bench::new(options);
    bench.connected(true, 0);
    for (hash, sequence) in [(1, 0), (2, 1), (3, 2), (1, 5)] {
        bench.message(hash, Some(at(0, sequence)), 0);
    }
    assert_eq!((bench.lost(), bench.tracker.topics()), (2, 0));
    assert_eq!(bench.tracker.quality(), Quality::Gapped);
    bench.message(9, Some(at(0, 5)), 5);
    assert_eq!(
        bench.tracker.quality(),
        Quality::Gapped,
        "a copy heals nothing"
    );
    bench.message(9, Some(at(0, 6)), 10);
    assert_eq!(bench.tracker.quality(), Quality::Recovering);
    assert_eq!(bench.tracker.due_ns(), Some(1_010));
    let told = bench.tick(1_010);
    assert_eq!(
        told.last(),
        Some(&(0, quality(Quality::Recovering, Quality::Ok)))
    );
}

#[test]
fn a_heartbeat_tells_what_is_missing_at_the_end_of_a_line() {
    let mut options = numbered(32, Some(0), false);
    options.numbering.as_mut().unwrap().scope = Scope::Line;
    let mut bench = Bench::new(options);
    bench.connected(true, 0);
    let reached = |bench: &mut Bench, epoch: u64, sequence: u64| {
        bench.tracker.note_reached(at(epoch, sequence), &mut |_| ())
    };
    assert!(!reached(&mut bench, 0, 9), "nothing has come yet");
    bench.number(5);
    for (epoch, sequence) in [(0, 4), (0, 5), (1, 8)] {
        assert!(!reached(&mut bench, epoch, sequence), "{epoch}, {sequence}");
    }
    assert!(reached(&mut bench, 0, 8));
    assert_eq!((bench.lost(), bench.tracker.counts().gaps), (3, 1));
    assert_eq!(bench.tracker.quality(), Quality::Gapped);
    assert!(!reached(&mut bench, 0, 8), "it is known");
    assert_eq!(bench.number(7), Verdict::Deliver, "it is late");
    assert_eq!(bench.number(9), Verdict::Deliver);
    assert_eq!(bench.lost(), 2);
    bench.number(100_000);
    let lost = bench.lost();
    assert!(!reached(&mut bench, 0, 3), "the publisher began anew");
    assert_eq!(bench.lost(), lost);
}

#[test]
fn gaps_found_elsewhere_make_a_topic_gapped_until_it_has_recovered() {
    let mut bench = Bench::new(TrackerOptions {
        numbering: None,
        ..numbered(64, None, false)
    });
    bench.connected(true, 0);
    bench.message(1, None, 0);
    assert_eq!(bench.tracker.topics(), 0, "nothing is looked up");
    bench.tick(1_000);
    let gap = Gap {
        epoch: 0,
        from: 1,
        to: 2,
        count: 2,
    };
    bench
        .tracker
        .note_gap(Some((b"a", 1)), gap, 1_000, &mut |_| {});
    assert_eq!(bench.tracker.topic_quality(1), Some(Quality::Gapped));
    bench.message(2, None, 1_100);
    assert_eq!(bench.tracker.quality(), Quality::Gapped);
    bench.message(1, None, 1_200);
    assert_eq!(bench.tracker.quality(), Quality::Recovering);
    bench.tick(2_300);
    assert_eq!(bench.tracker.quality(), Quality::Ok);
    assert_eq!((bench.lost(), bench.tracker.topics()), (2, 1));
}

#[test]
fn silence_is_told_once_and_ends_with_a_message() {
    let mut bench = Bench::new(silent_after(6_400));
    bench.connected(true, 0);
    bench.message(1, None, 0);
    bench.tick(1_000);
    assert_eq!(bench.tick(6_399), []);
    let stale = quality(Quality::Ok, Quality::Stale);
    assert_eq!(bench.tick(6_405), [(1, stale)]);
    assert_eq!(bench.tick(60_000), []);
    assert_eq!(
        bench.tracker.quality(),
        Quality::Ok,
        "the feed is not stale"
    );
    bench.message(1, None, 60_001);
    assert_eq!(bench.told, [(1, quality(Quality::Stale, Quality::Ok))]);
}

#[test]
fn the_longest_prefix_decides_and_topics_without_a_rule_are_never_stale() {
    let mut options = silent_after(1_000);
    options.stale_rules.push(StaleRule {
        prefix: b"topic-2".to_vec(),
        after_ns: 5_000,
    });
    let mut bench = Bench::new(options);
    bench.connected(true, 0);
    bench.message(1, None, 0);
    bench.message(2, None, 0);
    bench.tracker.track(b"other", 3, None, 0, &mut |_| {});
    bench.tick(2_000);
    let stale = |bench: &Bench, hash| bench.tracker.topic_quality(hash) == Some(Quality::Stale);
    assert!(stale(&bench, 1) && !stale(&bench, 2));
    bench.tick(1_000_000);
    assert!(stale(&bench, 2) && !stale(&bench, 3));
}

#[test]
fn a_disconnect_is_one_event_and_silence_counts_from_the_new_connection() {
    let mut bench = Bench::new(silent_after(1_000));
    bench.connected(true, 0);
    for hash in 1..=50 {
        bench.message(hash, None, 0);
    }
    bench.tick(500);
    bench.told.clear();
    bench.connected(false, 600);
    assert_eq!(bench.told.len(), 1);
    assert_eq!(bench.tracker.topic_quality(1), Some(Quality::Disconnected));
    assert_eq!(bench.tick(1_000_000).len(), 1);
    bench.connected(true, 1_000_000);
    bench.told.clear();
    assert_eq!(bench.tick(1_000_990), []);
    assert_eq!(bench.tick(1_001_020).len(), 50);
}

#[test]
fn times_that_fall_back_make_nothing_stale() {
    let mut bench = Bench::new(TrackerOptions {
        stale_after_ns: Some(1_000),
        ..silent_after(1_000)
    });
    bench.connected(true, 1_000_000);
    for step in 0..100 {
        bench.message(1, None, 1_000_000 - step * 10_000);
        bench.tick(1_000_000 - step * 5_000);
    }
    bench.tick(1_000_900);
    let stale = |told: &&Told| {
        matches!(
            told.1,
            EventKind::Quality {
                to: Quality::Stale,
                ..
            }
        )
    };
    assert_eq!(bench.told.iter().filter(stale).count(), 0);
    assert_eq!(bench.tracker.topic_quality(1), Some(Quality::Recovering));
}

#[test]
fn a_tick_looks_at_a_bounded_number_of_topics() {
    let topics = 3 * TOPICS_PER_TICK_MAX as u64;
    let mut bench = Bench::new(TrackerOptions {
        topics_max: topics as usize,
        ..silent_after(1_000)
    });
    bench.connected(true, 0);
    for hash in 0..topics {
        bench.message(hash, None, 0);
    }
    bench.told.clear();
    let mut stale = 0;
    for _ in 0..3 {
        assert!(bench.tracker.due_ns().is_some_and(|due_ns| due_ns <= 1_100));
        let told = bench.tick(1_100);
        stale += told
            .iter()
            .filter(|told| told.1 == quality(Quality::Ok, Quality::Stale))
            .count();
        assert!(told.len() <= TOPICS_PER_TICK_MAX + 1);
    }
    assert_eq!(stale, topics as usize);
}
