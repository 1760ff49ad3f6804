//! Goal: at default settings the program takes little memory however hard it is driven, and no processor where there
//! is nothing to do.

mod support;

use std::{thread, time::Duration};

use support::{
    assert_all_delivered, bound_xpub, cpu_ns, number, publisher, sleeps, subscriber, wait_until,
};

/// What a program may take at full load: 64 MiB.
const MEMORY_KB_MAX: u64 = 64 * 1024;
/// What it may take where all that comes has to be given up or conflated: a table of what waits as well. All that is
/// published meanwhile would be 50 MiB more.
const STALLED_KB_MAX: u64 = 80 * 1024;
/// For how long an idle one is watched.
const IDLE: Duration = Duration::from_secs(4);
/// How much of a core it may take meanwhile.
const IDLE_SHARE_MAX: f64 = 0.01;

#[test]
fn full_load_takes_little_memory() {
    const MESSAGES: u64 = 10_000_000;
    let messages = MESSAGES.to_string();
    let flood = ["--blast", "--rate", "max", "--messages", &messages];
    let (_publisher, endpoint) = publisher(&flood);
    let mut run = subscriber(&endpoint, &["--messages", &messages]);
    let watch = run.watch_memory();
    assert_all_delivered(&run.json(0), MESSAGES);
    let peak = watch.join().expect("it sees the end");
    assert!((1..MEMORY_KB_MAX).contains(&peak), "{peak} kB");
    println!("{peak} kB at most");
}

#[test]
fn an_idle_one_sleeps() {
    let context = zmq::Context::new();
    for engine in ["native", "libzmq"] {
        let (publisher, endpoint) = bound_xpub(&context);
        let run = subscriber(&endpoint, &["--engine", engine]);
        assert_eq!(publisher.recv_bytes(0).expect("a subscription"), [1]);
        wait_until("it has started", || sleeps(run.id()));
        let before_ns = cpu_ns(run.id());
        // What is measured is this time.
        thread::sleep(IDLE);
        let share = (cpu_ns(run.id()) - before_ns) as f64 / IDLE.as_nanos() as f64;
        assert!(run.is_running());
        assert!(share < IDLE_SHARE_MAX, "{engine}: {share:.4} of a core");
        println!("{engine}: {share:.4} of a core");
    }
}

/// Nobody reads what handlers print, so that all of them stand still.
#[test]
fn stalled_workers_take_little_memory_whatever_the_policy() {
    const MESSAGES: u64 = 400_000;
    let messages = MESSAGES.to_string();
    let feed = ["--blast", "--rate", "200000", "--messages", &messages];
    let mut stalled = [
        ("block", "blocked"),
        ("drop-newest", "dropped"),
        ("drop-oldest", "dropped"),
        ("conflate:*", "conflated"),
    ]
    .map(|(policy, counted)| {
        let (publisher, endpoint) = publisher(&feed);
        let print = ["--handler", "print", "--policy", policy];
        let run = subscriber(
            &endpoint,
            &[&["--messages", &messages], &print[..]].concat(),
        );
        let watch = run.watch_memory();
        (policy, counted, publisher, run, watch)
    });
    // Meanwhile it piles up, or is given up. By `block` a publisher waits as well, for as long as the others take.
    for (policy, _, publisher, ..) in &mut stalled {
        if *policy != "block" {
            publisher.wait_for_line("published ");
        }
    }
    for (policy, counted, _publisher, mut run, watch) in stalled {
        let summary = run.json(0);
        assert_eq!(summary["balanced"], true, "{policy}: {summary}");
        assert_eq!(number(&summary, "received"), MESSAGES, "{policy}");
        assert!(number(&summary, counted) > 0, "{policy}: {summary}");
        let peak = watch.join().expect("it sees the end");
        assert!((1..STALLED_KB_MAX).contains(&peak), "{policy}: {peak} kB");
        println!("{policy}: {peak} kB at most");
    }
}
