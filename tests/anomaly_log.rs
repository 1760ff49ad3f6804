//! Goal: `run` says what goes wrong while it runs: a line whose copies stay away, which no handler misses, a
//! lost connection, a restart, a loss.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use support::{Pinfeed, free_endpoint, number, sealed, xpub};

/// A feed with two lines that are copies of each other.
fn copies(endpoints: &[String]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut text = "[[lane]]\nname = \"0\"\n[[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\n\
                    [feed.arbitration]\nwait_ms = 50\n[feed.quality]\nstale_after_ms = 300\n"
        .to_owned();
    for endpoint in endpoints {
        text += &format!("[[feed.line]]\nlane = \"0\"\nconnect = [\"{endpoint}\"]\n");
    }
    std::fs::write(file.path(), text).expect("a file");
    file
}

#[test]
fn what_goes_wrong_is_said_as_it_happens() {
    let context = zmq::Context::new();
    let endpoints = [free_endpoint(), free_endpoint()];
    let [first, second] = [0, 1].map(|line: usize| {
        let publisher = xpub(&context);
        publisher.bind(&endpoints[line]).expect("a free port");
        publisher
    });
    let file = copies(&endpoints);
    let path = file.path().to_str().expect("UTF-8");
    let mut run = Pinfeed::start(&["run", path, "--json"]);
    for publisher in [&first, &second] {
        publisher.recv_bytes(0).expect("a subscription");
    }
    let send = |publisher: &zmq::Socket, epoch, sequence| {
        let message = sealed("BTC", epoch, sequence);
        publisher.send(message, 0).expect("an open socket");
    };
    send(&first, 1, 0);
    send(&second, 1, 0);
    // The second one's copies stay away, and nothing is missing.
    let missed = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let missed = missed.clone();
        move || {
            let mut last = 0;
            while !missed.load(SeqCst) {
                last += 1;
                send(&first, 1, last);
                // The pace of a slow feed.
                thread::sleep(Duration::from_millis(10));
            }
            (first, last)
        }
    });
    run.wait_for_text("nothing came over line 1 for");
    missed.store(true, SeqCst);
    let (first, last) = sender.join().expect("it sends");
    second.unbind(&endpoints[1]).expect("it was bound");
    drop(second);
    run.wait_for_text("line 1 has no connection, 1 of its copies have");
    send(&first, 2, 0);
    run.wait_for_text(&format!(
        "epoch 2, number 0 followed epoch 1, number {last}"
    ));
    send(&first, 2, 5);
    run.wait_for_text("numbers 1 to 4 were missing");
    run.signal(Signal::INT);
    let summary = run.json(130);
    assert_eq!(summary["balanced"], true, "{summary}");
    let counted = ["delivered", "duplicates", "lost", "gaps", "restarts"];
    let counted = counted.map(|name| number(&summary, name));
    assert_eq!(counted, [last + 3, 1, 4, 1, 1], "{summary}");
    let absences = |line: usize| {
        let line = &summary["lines"][line];
        (number(line, "disconnects"), number(line, "silences"))
    };
    assert_eq!((absences(0), absences(1)), ((0, 0), (1, 1)), "{summary}");
}
