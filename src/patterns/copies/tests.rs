use super::*;
use std::{convert::Infallible, thread};

fn message<'a>(frames: &'a [&'a [u8]]) -> Passed<'a> {
    Passed {
        at_ns: 7 * SECOND_NS,
        kind: Kind::Message,
        topic_bytes: Some(1),
        frames,
    }
}

#[test]
fn who_waits_loses_nothing_and_keeps_its_order() {
    const COPIES: u32 = 20_000;
    let (copier, copies) = Copier::new(CopyRule::default(), WhenFull::Wait, None);
    let counters = copier.counters();
    let copying = [copier.clone(), copier].map(|mut copier| {
        thread::spawn(move || {
            for copy in 0..COPIES {
                copier.copy(&message(&[b"A", &copy.to_be_bytes(), &[7; 500]]));
            }
        })
    });
    let mut taken = Vec::new();
    let mut pages = 0;
    while let Ok(page) = copies.take() {
        pages += 1;
        let Ok(()) = page.each(|copy| {
            assert_eq!(copy.topic_bytes, Some(1));
            taken.push(u32::from_be_bytes(copy.frames[1].try_into().unwrap()));
            Ok::<_, Infallible>(())
        });
        copies.count_written(page.len() as u64);
        copies.give_back(page);
    }
    copying
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(pages > 2 * PAGES_MAX_WAITED_FOR, "{pages} pages");
    assert_eq!(taken.len() as u32, 2 * COPIES);
    // Those of two threads in some order, each in its own.
    let mut next = [0, 0];
    for copy in taken {
        let Some(of) = next.iter().position(|&one| one == copy) else {
            panic!("{copy} does not follow {next:?}");
        };
        next[of] += 1;
    }
    let expected = Copied {
        written: u64::from(2 * COPIES),
        ..Copied::default()
    };
    assert_eq!(counters.copied(), expected);
}

#[test]
fn large_messages_wait_for_room_in_bytes() {
    const COPIES: u64 = 60;
    const LARGE: usize = 1 << 20;
    let (mut copier, copies) = Copier::new(CopyRule::default(), WhenFull::Wait, None);
    let shared = copies.shared.clone();
    let copying = thread::spawn(move || {
        for copy in 0..COPIES {
            // The last one has more bytes than may wait.
            let bytes = if copy + 1 < COPIES {
                LARGE
            } else {
                WAITING_BYTES_MAX + 1
            };
            copier.copy(&message(&[b"A", &vec![7; bytes]]));
        }
    });
    // Most that may wait do, before any is taken.
    while shared.waiting_bytes.load(Relaxed) < WAITING_BYTES_MAX - 2 * LARGE {
        thread::yield_now();
    }
    let mut taken = 0;
    while let Ok(page) = copies.take() {
        let waiting_bytes = shared.waiting_bytes.load(Relaxed);
        let is_alone = waiting_bytes == page.cost_bytes();
        assert!(waiting_bytes <= WAITING_BYTES_MAX || is_alone);
        taken += page.len() as u64;
        copies.give_back(page);
    }
    copying.join().unwrap();
    assert_eq!(taken, COPIES);
}

#[test]
fn nobody_waits_for_one_that_is_gone() {
    let (mut copier, copies) = Copier::new(CopyRule::default(), WhenFull::Wait, None);
    drop(copies);
    for _ in 0..1_000 {
        copier.copy(&message(&[b"A", &[7; 10_000]]));
    }
    copier.flush();
    assert_eq!(copier.counters().copied().lost, 1_000);
}

#[test]
fn all_who_copy_share_a_second() {
    let rule = CopyRule {
        per_s_max: Some(3),
        ..CopyRule::default()
    };
    let (mut first, copies) = Copier::new(rule, WhenFull::Lose, None);
    let mut second = first.clone();
    for copier in [&mut first, &mut second] {
        for _ in 0..2 {
            copier.copy(&message(&[b"A"]));
        }
        copier.flush();
    }
    let page = [copies.try_take(), copies.try_take()].map(|taken| taken.unwrap().unwrap());
    assert_eq!(page.map(|page| page.len()), [2, 1]);
    assert_eq!(first.counters().copied().skipped, 1);
}

#[test]
fn nothing_is_copied_while_nobody_is_there() {
    let (mut copier, copies) = Copier::new(CopyRule::default(), WhenFull::Lose, None);
    for is_watched in [false, true, false] {
        copies.set_watched(is_watched);
        copier.copy(&message(&[b"A"]));
    }
    copier.flush();
    assert_eq!(copies.try_take().unwrap().unwrap().len(), 1);
    assert_eq!(copier.counters().copied().lost, 1, "it is under way");
}
