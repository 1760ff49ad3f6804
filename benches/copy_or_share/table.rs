//! What the ways cost, as a Markdown table.

use crate::{
    batches::WORKERS,
    ways::{Flush, WAYS},
};

/// What a run took.
#[derive(Clone, Copy)]
pub struct Cost {
    pub elapsed_ns: u64,
    pub cpu_ns: u64,
}

pub fn print_head(flush: Flush, rounds: usize) {
    let when = match flush {
        Flush::WhenDry => "batches leave when full or when the socket is dry",
        Flush::EachRead => "batches leave after each read of at most 8 KiB",
    };
    println!("\n{when}; {WORKERS} workers; medians of {rounds} rounds, from - to\n");
    print!("| bytes |");
    for (name, _) in WAYS {
        print!(" {name}: M msg/s | CPU ns/msg |");
    }
    println!(" share to copy: rate | CPU |");
    println!("|---|{}---|---|", "---|".repeat(2 * WAYS.len()));
}

pub fn print_row(bytes: usize, messages: u64, costs: &[Vec<Cost>]) {
    print!("| {bytes} |");
    let mut medians = Vec::new();
    for costs in costs {
        let rates = costs
            .iter()
            .map(|cost| messages as f64 / cost.elapsed_ns as f64 * 1e3);
        let cpu = costs
            .iter()
            .map(|cost| cost.cpu_ns as f64 / messages as f64);
        let ([rate, slowest, fastest], [cpu, least, most]) = (spread(rates), spread(cpu));
        print!(" {rate:.2} ({slowest:.2} - {fastest:.2}) | {cpu:.1} ({least:.1} - {most:.1}) |");
        medians.push((rate, cpu));
    }
    let (copy, share) = (medians[1], medians[2]);
    println!(" {:.2} | {:.2} |", share.0 / copy.0, share.1 / copy.1);
}

/// The median, the least and the most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    [median, values[0], values[values.len() - 1]]
}
