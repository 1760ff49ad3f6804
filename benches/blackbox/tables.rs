//! What was measured, as Markdown: medians of the rounds with the lowest and the highest, and ratios of
//! medians.

use pinfeed::bench::Spread;

use crate::{
    cases::{Case, Figure, Goal, Group, Target},
    publisher::MESSAGE_BYTES,
    subjects::{Cost, Latency},
};

/// A case with what each of its rounds took.
pub struct Measured {
    pub case: Case,
    pub costs: Vec<Cost>,
}

impl Measured {
    fn rates(&self) -> Spread {
        let per_us = |cost: &Cost| cost.messages as f64 / cost.elapsed_ns as f64 * 1e3;
        Spread::of(self.costs.iter().map(per_us))
    }

    fn cpu_ns(&self) -> Spread {
        let per_message = |cost: &Cost| cost.cpu_ns as f64 / cost.messages as f64;
        Spread::of(self.costs.iter().map(per_message))
    }

    fn latency_us(&self, percentile: fn(&Latency) -> u64) -> Spread {
        let latencies = self.costs.iter().filter_map(|cost| cost.latency);
        Spread::of(latencies.map(|latency| percentile(&latency) as f64 / 1e3))
    }

    fn slice_p99_us(&self) -> Option<Spread> {
        let p99s: Option<Vec<f64>> = self.costs.iter().map(|cost| cost.slice_p99_ns).collect();
        p99s.map(|p99s| Spread::of(p99s.into_iter().map(|p99_ns| p99_ns / 1e3)))
    }

    /// The busiest worker's part of the messages, in percent.
    fn busiest_percent(&self) -> Option<Spread> {
        let parts: Option<Vec<f64>> = self.costs.iter().map(|cost| cost.busiest).collect();
        parts.map(|parts| Spread::of(parts.into_iter().map(|part| 100.0 * part)))
    }

    fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::MessagesPerSecond => self.rates().median,
            Figure::CpuPerMessage | Figure::CpuMore => self.cpu_ns().median,
            Figure::LatencyP50 => self.latency_us(|latency| latency.p50_ns).median,
            Figure::LatencyP99 => self.latency_us(|latency| latency.p99_ns).median,
            Figure::SliceP99 => self.slice_p99_us().map_or(f64::NAN, |p99| p99.median),
        }
    }
}

pub fn print_group(group: &Group, measured: &[Measured]) {
    let rounds = measured.first().map_or(0, |first| first.costs.len());
    println!(
        "## {}\n\n{MESSAGE_BYTES}-byte messages; medians of {rounds} rounds in turn, with the lowest and \
         the highest.\n",
        group.title
    );
    if measured.iter().all(|one| one.case.feed.rate.is_some()) {
        print_latencies(measured);
    } else {
        print_rates(group, measured);
    }
    println!();
}

fn print_rates(group: &Group, measured: &[Measured]) {
    let mut head = "| | M messages | M msg/s | from - to | CPU ns/msg |".to_owned();
    let mut line = "|---|---|---|---|---|".to_owned();
    for &baseline in &group.baselines {
        head += &format!(" to {} |", measured[baseline].case.name);
        line += "---|";
    }
    let has_busiest = measured.iter().all(|one| one.busiest_percent().is_some());
    if has_busiest {
        head += " busiest worker's part |";
        line += "---|";
    }
    println!("{head}\n{line}");
    for one in measured {
        let (rates, cpu_ns) = (one.rates(), one.cpu_ns());
        let mut row = format!(
            "| {} | {} | {:.2} | {:.2} - {:.2} | {:.1} |",
            one.case.name,
            one.case.messages as f64 / 1e6,
            rates.median,
            rates.lowest,
            rates.highest,
            cpu_ns.median,
        );
        for &baseline in &group.baselines {
            let ratio = rates.median / measured[baseline].rates().median;
            row += &format!(" {ratio:.2} |");
        }
        if let Some(busiest) = one.busiest_percent().filter(|_| has_busiest) {
            row += &format!(" {:.0} % |", busiest.median);
        }
        println!("{row}");
    }
}

fn print_latencies(measured: &[Measured]) {
    let slices: Option<Vec<Spread>> = measured.iter().map(Measured::slice_p99_us).collect();
    let (head, line) = match slices {
        Some(_) => (" p99 of a slice µs | from - to |", "---|---|"),
        None => ("", ""),
    };
    println!("| | p50 µs | from - to | p99 µs | from - to |{head} CPU ns/msg |");
    println!("|---|---|---|---|---|{line}---|");
    for (at, one) in measured.iter().enumerate() {
        let p50 = one.latency_us(|latency| latency.p50_ns);
        let p99 = one.latency_us(|latency| latency.p99_ns);
        let slice = slices.as_ref().map(|slices| cells(&slices[at]));
        println!(
            "| {} |{}{}{} {:.0} |",
            one.case.name,
            cells(&p50),
            cells(&p99),
            slice.unwrap_or_default(),
            one.cpu_ns().median,
        );
    }
}

/// A figure's median, and its ends.
fn cells(spread: &Spread) -> String {
    format!(
        " {:.1} | {:.1} - {:.1} |",
        spread.median, spread.lowest, spread.highest
    )
}

/// Prints the targets whose cases were measured.
pub fn print_targets(targets: &[Target], measured: &[Measured]) {
    println!("## Targets\n\n| ratio | target | measured | met |\n|---|---|---|---|");
    let find = |name: &str| measured.iter().find(|one| one.case.name == name);
    for target in targets {
        let (Some(of), Some(to)) = (find(&target.of), find(&target.to)) else {
            continue;
        };
        let (of_figure, to_figure) = (of.figure(target.figure), to.figure(target.figure));
        let ratio = match target.figure {
            Figure::CpuMore => of_figure - to_figure,
            _ => of_figure / to_figure,
        };
        let (goal, met) = match target.goal {
            Goal::AtLeast(goal) => (format!("at least {goal}"), ratio >= goal),
            Goal::AtMost(goal) => (format!("at most {goal}"), ratio <= goal),
        };
        let figure = match target.figure {
            Figure::MessagesPerSecond => "msg/s",
            Figure::CpuPerMessage => "CPU a message",
            Figure::LatencyP50 => "p50",
            Figure::LatencyP99 => "p99",
            Figure::SliceP99 => "p99 of a slice",
            Figure::CpuMore => "CPU ns a message more",
        };
        println!(
            "| {figure}, {} to {} | {goal} | {ratio:.2} | {} |",
            target.of,
            target.to,
            if met { "yes" } else { "**no**" },
        );
    }
}
