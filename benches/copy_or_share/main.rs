//! Whether a lane should copy messages into batches, or share the buffer it received them in.
//!
//! Both ways receive from a TCP connection, cut with `zmtp::Splitter`, choose one of two workers by the
//! hash of a topic, and hand batches over through rings; the workers digest each payload.
//!
//! - copy: the bytes go into the batch of their worker, as `handoff::Batch` has them. One receive
//!   buffer, whose unfinished end moves to its front.
//! - share: a batch is an index into the block that was received into. A block is received into again
//!   once no batch refers to it. What was handed over can't be written behind, so the first batch that
//!   leaves ends its block for all, and the unfinished end is copied into the next.
//!
//! Beside them, in turn in the same run: receiving and cutting alone. Each with batches that leave when
//! they are full or the socket is dry, and with batches that leave after each read of at most 8 KiB. The
//! publisher is a process of its own that writes frames encoded beforehand; its CPU time does not
//! count. Each run checks the number of messages and the sum of their digests.
//!
//! On virtual machines of two cores neither wins: both pay for the way from core to core, beside which a copy
//! within the lane's cache is nothing. Sharing has 1.10 to 0.95 times the rate from 16 to 1,024 bytes, less than each
//! case varies by itself; on one host a copy of 16 KiB cost a fifth more CPU time, on another none. Reusing the spare
//! batch that came back last changed nothing.
//!
//! `cargo bench --bench copy_or_share -- [ROUNDS]` prints a Markdown table.

mod batches;
mod connection;
mod table;
mod ways;

use pinfeed::clock::process_cpu_ns;

use connection::{Connection, digest_of, publish};
use table::{Cost, print_head, print_row};
use ways::{Flush, WAYS, Way};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sizes of messages, with how many make a run of about half a second.
const SIZES: [(usize, u64); 5] = [
    (16, 8_000_000),
    (64, 8_000_000),
    (256, 4_000_000),
    (1_024, 1_500_000),
    (16_384, 100_000),
];
const ROUNDS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, bytes, messages] = &arguments[..]
        && word == "publisher"
    {
        let number = |text: &String| text.parse().expect("a number");
        publish(number(bytes) as usize, number(messages)).expect("the subscriber takes all");
        return;
    }
    // Without `--bench` this is `cargo test`, which only wants to know whether it works.
    let measure = arguments.iter().any(|word| word == "--bench");
    let rounds = arguments.iter().find(|word| *word != "--bench");
    let rounds = match rounds.map(|rounds| rounds.parse()) {
        None if measure => ROUNDS,
        None => 1,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("usage: copy_or_share [ROUNDS], a whole number above 0");
            std::process::exit(2);
        }
    };
    for flush in [Flush::WhenDry, Flush::EachRead] {
        if measure {
            print_head(flush, rounds);
        }
        for (bytes, messages) in SIZES {
            let messages = if measure { messages } else { messages / 100 };
            let mut costs = WAYS.map(|_| Vec::new());
            for _ in 0..rounds {
                for ((name, way), costs) in WAYS.iter().zip(&mut costs) {
                    costs.push(run(name, *way, bytes, messages, flush));
                }
            }
            if measure {
                print_row(bytes, messages, &costs);
            }
        }
    }
}

fn run(name: &str, way: Way, bytes: usize, messages: u64, flush: Flush) -> Cost {
    let mut connection = Connection::open(bytes, messages);
    let (start_ns, cpu_ns) = (connection.clock.now_ns(), process_cpu_ns());
    let (count, digest) = way(&mut connection, messages, flush);
    let cost = Cost {
        elapsed_ns: connection.clock.now_ns() - start_ns,
        cpu_ns: process_cpu_ns() - cpu_ns,
    };
    assert_eq!(count, messages, "{name}");
    if name != "cut only" {
        assert_eq!(digest, digest_of(bytes, messages), "{name}");
    }
    cost
}
