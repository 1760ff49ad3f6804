use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::*;
use crate::{
    cli::{
        threads::ThreadRow,
        tui::model::{FeedRow, LaneRow, Latency, LineRow, Sort, TopicRow, WorkerRow},
    },
    flight::{Anomaly, AnomalyKind, Hop},
    ledger::Totals,
};

fn picture() -> Picture {
    let percentiles = Some([1_000, 25_000, 300_000, 4_000_000]);
    let latency = |stage| Latency {
        stage,
        interval: percentiles,
        overall: (stage != "feed").then_some([1, 2, 3, 999_000_000]),
    };
    let thread = |name: &str, core| ThreadRow {
        name: name.to_owned(),
        cpu_share: 0.5,
        cpu_ns: 1_500_000_000,
        core_wanted: core,
        core_got: None,
        core_last: 1,
        involuntary_switches: 1_234_567,
        migrations: Some(42),
    };
    Picture {
        engine: "native",
        up_ns: 3_725 * SECOND_NS,
        totals: Totals {
            received: 1_234_567_890,
            delivered: 1_234_560_000,
            dropped: 17,
            connects: 2,
            disconnects: 1,
            ..Totals::default()
        },
        lost: Some(4_711),
        per_s: 24_100_000.0,
        bytes_per_s: 1.54e9,
        cpu_share: 1.95,
        cores: 2,
        history: vec![0.0, 12e6, 24.1e6],
        latency: ["queue", "handler", "feed"].map(latency),
        lanes: (0..2)
            .map(|number| LaneRow {
                name: format!("lane-{number}"),
                per_s: 1e6 * f64::from(number),
                received: 600_000_000,
                ..LaneRow::default()
            })
            .collect(),
        workers: vec![WorkerRow {
            name: "worker-0".to_owned(),
            batches: 31,
            batches_max: 64,
            ..WorkerRow::default()
        }],
        feeds: vec![FeedRow {
            name: "prices".to_owned(),
            received: None,
            lines: 2,
        }],
        lines: vec![LineRow {
            name: "prices 1".to_owned(),
            copies: 100,
            wins: 25,
            ..LineRow::default()
        }],
        topics: Topics::Top(
            vec![TopicRow {
                name: "BTC-USD".to_owned(),
                per_s: 5.0,
                messages: 99,
            }],
            1_000,
        ),
        threads: vec![thread("lane-0", Some(1)), thread("worker-0", None)],
        anomalies: vec![Anomaly {
            at_ns: SECOND_NS,
            until_ns: SECOND_NS,
            kind: AnomalyKind::Gap,
            hop: Hop::Network,
            feed: "prices".to_owned(),
            topic: String::new(),
            count: 3,
            times: 1,
            evidence: "numbers 4 to 6 were missing ".repeat(9),
        }],
        anomalies_seen: 1,
        ..Picture::default()
    }
}

fn drawn(width: u16, height: u16, look: &Look) -> (Vec<String>, Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, &picture(), look))
        .unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect();
    ((0..height).map(row).collect(), buffer)
}

fn plain() -> Look {
    Look::new(Theme::plain())
}

/// The row that a text is on.
fn row_of(rows: &[String], text: &str) -> usize {
    let found = rows.iter().position(|row| row.contains(text));
    found.unwrap_or_else(|| panic!("{text:?} is not in\n{}", rows.join("\n")))
}

#[test]
fn a_small_terminal_shows_what_matters_most_whole() {
    let (rows, _) = drawn(80, 24, &plain());
    assert!(rows[0].starts_with("pinfeed  native engine  up 1:02:05  receiving"));
    assert!(rows[0].ends_with("CPU 1.95 of 2 cores"));
    assert_eq!(
        rows[1].trim_end(),
        "received 1,234,567,890  24.1M msg/s  1.54GB/s  balanced but 7,873 under way"
    );
    let queue = &rows[row_of(&rows, "queue  ")];
    assert!(
        queue.contains("1.00 µs  25.0 µs   300 µs  4.00 ms"),
        "{queue}"
    );
    assert!(
        queue.ends_with("1 ns     2 ns     3 ns   999 ms"),
        "{queue}"
    );
    assert!(rows[row_of(&rows, "feed    ")].ends_with("-        -        -        -"));
    assert_eq!(
        row_of(&rows, "lanes ─"),
        row_of(&rows, "workers ─"),
        "side by side"
    );
    assert!(rows[row_of(&rows, "worker-0")].contains("31/64"));
    assert!(rows[row_of(&rows, "lost")].contains("4,711"));
    let anomaly = &rows[row_of(&rows, "gap        network")];
    assert!(anomaly.ends_with('…'), "a cut shows: {anomaly}");
    assert!(rows[23].starts_with("q quit"));
    assert!(!rows.concat().contains("BTC-USD"));
}

#[test]
fn a_small_terminal_shows_the_whole_help() {
    let look = Look {
        is_helping: true,
        ..plain()
    };
    let (rows, _) = drawn(80, 24, &look);
    assert_eq!(rows[23].trim_end(), HELP);
}

#[test]
fn a_large_terminal_shows_all() {
    let (rows, _) = drawn(200, 50, &plain());
    for text in [
        "BTC-USD",
        "prices 1",
        "lane carries other feeds",
        "25 %",
        "tied to",
        "taken",
        "1.23M",
        "of 1,000",
    ] {
        row_of(&rows, text);
    }
    assert_eq!(row_of(&rows, "BTC-USD") + 1, row_of(&rows, "and 999 more"));
    assert_eq!(row_of(&rows, "busiest topics"), row_of(&rows, "threads ─"));
    assert!(rows[49].starts_with("q quit"));
}

#[test]
fn every_size_can_be_drawn() {
    for width in (1..=210).step_by(3) {
        for height in 1..=60 {
            let (rows, _) = drawn(width, height, &plain());
            assert_eq!(rows.len(), usize::from(height));
        }
    }
    assert!(
        drawn(40, 10, &plain())
            .0
            .concat()
            .contains("40x10 is too small")
    );
}

#[test]
fn the_order_of_tables_and_a_held_picture_show() {
    let mut look = plain();
    look.sort = Sort::Rate;
    look.is_paused = true;
    let (rows, _) = drawn(80, 24, &look);
    assert!(row_of(&rows, "lane-1") < row_of(&rows, "lane-0"));
    assert!(rows[0].contains("PAUSED"));
    assert!(rows[23].contains("sort: by rate") && rows[23].contains("p go on"));
}

#[test]
fn colours_are_left_out_on_request() {
    let coloured = |buffer: &Buffer| {
        let cells = buffer.content().iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert_eq!(coloured(&drawn(200, 50, &plain()).1), 0);
    let look = Look::new(Theme::colourful());
    assert!(coloured(&drawn(200, 50, &look).1) > 0);
}
