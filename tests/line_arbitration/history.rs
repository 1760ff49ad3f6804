//! What arrives over several lines: random loss, duplication, delay, disorder, outages and restarts of their publishers.

use std::collections::BTreeMap;

use pinfeed::sequence::{Numbering, Position, Scope, arbiter::Limits};
use rand::{RngExt, rngs::StdRng};

const LINES_MAX: u8 = 4;
pub const WAIT_NS: u64 = 1_000;
/// How late a line is at most as a whole, and a message on top: together less than the wait.
pub const LAG_NS_MAX: u64 = 450;
const JITTER_NS_MAX: u64 = 450;
/// Where a late history's messages may go wherever they like.
const LATE_NS_MAX: u64 = 5_000;
/// A publisher pauses so long before the heartbeat at the end of a life that all that came before has been passed on, and
/// so long after it that the next life does not begin before it has come.
const PAUSE_NS: u64 = 3 * WAIT_NS;

#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub arrives_ns: u64,
    pub line: u8,
    pub series: u64,
    pub position: Position,
    /// It has the position of the last message published.
    pub is_heartbeat: bool,
    /// The line's connection is new.
    pub reconnects: bool,
    /// The other line has no connection any more.
    pub is_alone: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub numbering: Numbering,
    pub limits: Limits,
    pub lines: u8,
    /// Whether copies may come later than the wait.
    pub late: bool,
}

/// Draws what a history goes by.
pub fn rules(random: &mut StdRng) -> Rules {
    let has_epoch = random.random_bool(0.75);
    Rules {
        numbering: Numbering {
            scope: if random.random() {
                Scope::Topic
            } else {
                Scope::Line
            },
            width_bits: [16, 32, 64][random.random_range(0..3)],
            start: Some(random.random_range(0..3)),
            has_epoch,
        },
        limits: Limits {
            wait_ns: WAIT_NS,
            held_messages_max: 10_000,
            held_bytes_max: 1 << 20,
            topics_max: 100,
            from_start: random.random(),
        },
        lines: if random.random() {
            2
        } else {
            random.random_range(3..=LINES_MAX)
        },
        late: false,
    }
}

/// Everything that arrives, in order of arrival.
pub fn history(random: &mut StdRng, rules: Rules) -> Vec<Copy> {
    let epochs = random.random_range(1..4);
    let series_count = match rules.numbering.scope {
        Scope::Topic => random.random_range(1..4),
        Scope::Line => 1,
    };
    let start = rules.numbering.start.expect("the histories have a start");
    let loss = [0.0, 0.05, 0.3][random.random_range(0..3)];
    let duplication = [0.0, 0.1][random.random_range(0..2)];
    let jitter = [0, 20, JITTER_NS_MAX][random.random_range(0..3)];
    let late = if rules.late { LATE_NS_MAX } else { 0 };
    let heartbeats = match rules.numbering.scope {
        Scope::Topic => 0.0,
        Scope::Line => [0.0, 0.2][random.random_range(0..2)],
    };
    let mut copies = Vec::new();
    let mut published_ns = 1_000;
    let mut line_free_ns = [0; LINES_MAX as usize];
    for epoch in 1..=epochs {
        let step_ns = [1, 30, 600][random.random_range(0..3)];
        let messages = random.random_range(1..30);
        let mut numbers = BTreeMap::new();
        // When, of which series, with which number, and whether it is a heartbeat.
        let mut published = Vec::new();
        // Where only numbers tell, every line hears two messages of each series in every life: by one
        // a restart could not be told from a duplicate.
        let all = (0..2 * series_count).filter(|_| !rules.numbering.has_epoch);
        let all = all.map(|index| index % series_count);
        let chosen: Vec<u64> = all
            .chain((0..messages).map(|_| random.random_range(0..series_count)))
            .collect();
        for series in chosen {
            let number = numbers.entry(series).or_insert(start);
            published_ns += random.random_range(1..=step_ns);
            published.push((published_ns, series, *number, false));
            if random.random_bool(heartbeats) {
                published_ns += 1;
                published.push((published_ns, series, *number, true));
            }
            if *number == start && !rules.numbering.has_epoch {
                // Numbers alone tell lives apart only where lines are never two lives apart, and
                // were heard before the first restart.
                published_ns += WAIT_NS;
            }
            *number += 1;
        }
        let ends_with_heartbeat = heartbeats > 0.0 && random.random();
        if ends_with_heartbeat {
            published_ns += PAUSE_NS;
            published.push((published_ns, 0, numbers[&0] - 1, true));
        }
        // What all lines lose at the end, which only heartbeats show.
        let tail = [0, 1, 4][random.random_range(0..3)] * usize::from(ends_with_heartbeat);
        let tail_from = (published.len() - usize::from(ends_with_heartbeat)).saturating_sub(tail);
        for line in 0..rules.lines {
            let lag_ns = random.random_range(0..=LAG_NS_MAX);
            let outage = random.random_bool(0.2).then(|| {
                let from = random.random_range(0..published.len());
                from..random.random_range(from..=published.len())
            });
            let mut last_ns = line_free_ns[usize::from(line)];
            let mut free_ns = last_ns;
            let mut of_line = Vec::new();
            for (index, &(published_ns, series, number, is_heartbeat)) in
                published.iter().enumerate()
            {
                let by_numbers_alone = !rules.numbering.has_epoch;
                let is_needed = by_numbers_alone && number <= start + 1 && !is_heartbeat;
                let is_lost = !is_heartbeat && index >= tail_from;
                let is_out = is_lost || outage.as_ref().is_some_and(|it| it.contains(&index));
                let copies = 1 + usize::from(random.random_bool(duplication));
                for _ in 0..copies {
                    if !is_needed && (is_out || random.random_bool(loss)) {
                        continue;
                    }
                    let delay_ns = lag_ns + random.random_range(0..=jitter + late);
                    let mut arrives_ns = (published_ns + delay_ns).max(free_ns + 1);
                    if by_numbers_alone {
                        arrives_ns = arrives_ns.max(last_ns);
                    }
                    last_ns = last_ns.max(arrives_ns);
                    of_line.push(Copy {
                        arrives_ns,
                        line,
                        series,
                        position: Position {
                            epoch,
                            sequence: number,
                        },
                        is_heartbeat,
                        reconnects: false,
                        is_alone: false,
                    });
                }
            }
            of_line.sort_by_key(|copy| copy.arrives_ns);
            if let Some(first) = of_line.first_mut() {
                first.reconnects = true;
            }
            free_ns = free_ns.max(last_ns);
            line_free_ns[usize::from(line)] = free_ns;
            copies.extend(of_line);
        }
        if ends_with_heartbeat {
            published_ns += PAUSE_NS;
        }
    }
    copies.sort_by_key(|copy| copy.arrives_ns);
    copies
}
