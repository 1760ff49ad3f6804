//! Goal: whatever the network and crashes do to a pair of Clone servers and their clients, one thing at a time, no update
//! that was published is lost, no two servers accept updates, and in the end all have the same state.
//!
//! Servers and clients are the machines of the library; sockets, disks and clocks are simulated. What is sent over a
//! connection arrives in order, after random delays, or, when the connection breaks, not at all from then on, as
//! with TCP; connections delay each other's messages at random. A publisher may drop what it publishes for a slow
//! subscriber, and of what a client sends to collectors anything may be lost. Disks keep what was committed.
//!
//! In half of the worlds the primary preempts: when it comes back it takes over again, also while something breaks.
//!
//! Faults are drawn at random from the seed: cuts of the pair's link, of some or all of a client's links; a server
//! killed or stopped, and going on; both killed at once; clients killed; bursts of loss. A fault that concerns
//! servers waits until both are in step, because without a third server nothing can be promised of two faults at
//! once. What this can't show: the network in two halves with a server and clients each, in which both servers
//! accept, as in the Guide.
//!
//! `PINFEED_SEED=N cargo test --test clone_simulation` replays one seed and tells all that happens.

#[path = "support/clone_world/mod.rs"]
mod clone_world;

use clone_world::{Totals, World};

const SEEDS: u64 = 1_200;

#[test]
fn nothing_published_is_lost_and_all_converge() {
    if let Ok(seed) = std::env::var("PINFEED_SEED") {
        let seed = seed.parse().expect("PINFEED_SEED is a number");
        let outcome = World::new(seed, true).run();
        assert_eq!(outcome.err(), None, "seed {seed}");
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let run_share = |first: u64| {
        let mut totals = Totals::default();
        for seed in (first..SEEDS).step_by(threads as usize) {
            match std::panic::catch_unwind(|| World::new(seed, false).run()) {
                Ok(Ok(one)) => totals.add(&one),
                Ok(Err(why)) => return Err((seed, why)),
                Err(_) => return Err((seed, "it panicked".to_owned())),
            }
        }
        Ok(totals)
    };
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run_share(first)))
            .collect();
        for share in shares {
            match share.join().expect("panics are caught") {
                Ok(one) => totals.add(&one),
                Err((seed, why)) => panic!(
                    "{why}\nreplay: PINFEED_SEED={seed} cargo test --test clone_simulation -- --nocapture"
                ),
            }
        }
    });
    println!("{SEEDS} seeds: {totals:?}");
    // The simulation is worth something only if all of this happened.
    assert!(totals.published > SEEDS * 50, "{totals:?}");
    assert!(totals.takeovers > SEEDS / 4, "{totals:?}");
    assert!(totals.preempted > SEEDS / 8, "{totals:?}");
    assert!(
        totals.resent > SEEDS && totals.gaps > SEEDS / 10,
        "{totals:?}"
    );
    assert!(
        totals.pending_made > 0 && totals.duplicates > SEEDS,
        "{totals:?}"
    );
    assert!(totals.expired > SEEDS, "{totals:?}");
}
