//! Goal: ten million distinct topics, as from a publisher with a number in its topics, are all delivered, those
//! beyond the limits counted as such, in bounded memory.

mod support;

use std::{fs, thread};

use support::{Pinfeed, number, sealed};

const TOPICS: u64 = 10_000_000;
const TRACKED: u64 = 100_000;
/// What batches, tables within their limits and the program itself take, with room to spare. The names and
/// entries of all topics would be a gigabyte.
const MEMORY_KB_MAX: u64 = 400_000;

#[test]
fn ten_million_are_delivered_in_bounded_memory() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[lane]]\nname = \"0\"\n[[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\nsocket = \"pull\"\n\
         [feed.sequence]\ntopics_max = {TRACKED}\n\
         [[feed.line]]\nlane = \"0\"\nbind = [\"tcp://127.0.0.1:*\"]\n"
    );
    fs::write(file.path(), text).expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let messages = TOPICS.to_string();
    let mut run = Pinfeed::start(&["run", path, "--json", "--messages", &messages]);
    let endpoint = run.wait_for_line("listening on ");
    let pusher = thread::spawn(move || {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::PUSH).expect("a socket");
        socket.connect(&endpoint).expect("an endpoint");
        for topic in 0..TOPICS {
            let message = sealed(&format!("T{topic}"), 1, 0);
            socket.send(message, 0).expect("an open socket");
        }
    });
    let watch = run.watch_memory();
    let summary = run.json(0);
    pusher.join().expect("it sends all");
    let counted = ["received", "delivered", "lost", "duplicates", "untracked"];
    let counted = counted.map(|name| number(&summary, name));
    assert_eq!(counted, [TOPICS, TOPICS, 0, 0, TOPICS - TRACKED]);
    assert_eq!(summary["balanced"], true);
    let peak = watch.join().expect("it sees the end");
    assert!((1..MEMORY_KB_MAX).contains(&peak), "{peak} kB");
    println!("{peak} kB at most");
}
