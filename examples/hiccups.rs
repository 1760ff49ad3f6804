//! Prints every second, as CSV, how late threads that only sleep were woken, core by core: what the host itself
//! does to latency.
//!
//! ```sh
//! cargo run --release --example hiccups -- 2 3
//! ```
//!
//! The arguments are cores; without any, all that this process may use.

use std::{
    env,
    error::Error,
    io::{self, Write},
    thread,
    time::Duration,
};

use pinfeed::{host::topology::usable_cores, latency::Hiccups};

fn main() -> Result<(), Box<dyn Error>> {
    let mut cores: Vec<usize> = env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    if cores.is_empty() {
        cores = usable_cores();
    }
    let mut hiccups = Hiccups::start(&cores)?;
    let mut out = io::stdout().lock();
    writeln!(out, "core,counts,counts_of_1_ms,p50_ns,p99_ns,max_ns")?;
    loop {
        thread::sleep(Duration::from_secs(1));
        for (core, late_ns) in hiccups.collect() {
            writeln!(
                out,
                "{core},{},{},{},{},{}",
                late_ns.len(),
                late_ns.count_between(1_000_000, u64::MAX),
                late_ns.value_at_quantile(0.5),
                late_ns.value_at_quantile(0.99),
                late_ns.max(),
            )?;
        }
    }
}
