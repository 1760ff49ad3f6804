//! Puts a benchmark's board on the screen.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};

use crate::{
    cli::tui::{
        bench::model::{AtRate, Board, Done, FlatOut, Left, Seen},
        draw::{latency_panel, rate_panel, uptime},
        layout::SIZE_MIN,
        model::Sort,
        table::{self, Column, Row, cut},
        theme::Theme,
        title::titled,
    },
    report::{rate, time},
};

/// Rows of the panels above the results, where there is room for all.
const HEADER_ROWS: u16 = 3;
const RATE_ROWS: (u16, u16) = (3, 8);
const LATENCY_ROWS: u16 = 5;
const FOOTER_ROWS: u16 = 1;
/// The least rows of results.
const RESULT_ROWS_MIN: u16 = 4;

macro_rules! columns {
    ($($title:literal $width:literal),* $(,)?) => {
        &[$(Column { title: $title, width: $width, sort: None }),*]
    };
}

const AT_RATE: &[Column] = columns![
    "verdict" 9, "feed p50" 9, "p99" 9, "p99.9" 9, "late p99" 9, "max" 9, "CPU/msg" 9,
];
const FLAT_OUT: &[Column] = columns![
    "runs" 6, "msg/s" 8, "lowest" 8, "highest" 8, "CPU/msg" 9, "INVALID" 9,
];

/// How the view is to be drawn.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub theme: Theme,
    pub is_paused: bool,
}

impl Look {
    pub(super) fn new(theme: Theme) -> Self {
        Self {
            theme,
            is_paused: false,
        }
    }
}

/// Draws a board and what is seen of its step on the whole terminal.
pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, seen: &Seen, look: Look) {
    let area = frame.area();
    let (width, height) = SIZE_MIN;
    if area.width < width || area.height < height {
        let size = format!("{}x{}", area.width, area.height);
        let text = format!("{size} is too small: {width}x{height} at least. q ends");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let mut top = area;
    let mut take = |rows: u16| {
        let taken = Rect {
            height: rows.min(top.height),
            ..top
        };
        (top.y, top.height) = (top.y + taken.height, top.height - taken.height);
        taken
    };
    header(frame, take(HEADER_ROWS), board, look);
    let mut spare = area.height - HEADER_ROWS - FOOTER_ROWS - RESULT_ROWS_MIN;
    if let Done::AtRate(_) = board.done {
        let rows = LATENCY_ROWS.min(spare);
        spare -= rows;
        let title = "latency, the last second";
        let right = "since the step began";
        latency_panel(frame, take(rows), (title, right), &seen.latency, look.theme);
    }
    if spare >= RATE_ROWS.0 {
        let rows = (spare / 2).clamp(RATE_ROWS.0, RATE_ROWS.1);
        let (title, history) = match &board.done {
            Done::AtRate(_) => ("msg/s, second by second", seen.history.clone()),
            Done::FlatOut(groups) => ("msg/s of the first, run by run", of_first(groups)),
        };
        rate_panel(frame, take(rows), title, &history, look.theme);
    }
    let rest = top;
    let results = Rect {
        height: rest.height - FOOTER_ROWS,
        ..rest
    };
    results_panel(frame, results, &board.done, look.theme);
    let footer = Rect::new(area.x, area.bottom() - FOOTER_ROWS, area.width, FOOTER_ROWS);
    frame.render_widget(footer_line(seen, board, look), footer);
}

fn of_first(groups: &[FlatOut]) -> Vec<f64> {
    let runs = groups.first().map(|group| group.runs.iter());
    let rates = runs.into_iter().flatten().map(|run| run.msgs_per_s);
    rates.collect()
}

fn header(frame: &mut Frame<'_>, area: Rect, board: &Board, look: Look) {
    let theme = look.theme;
    let state = if look.is_paused {
        Span::styled("PAUSED", theme.notable())
    } else {
        Span::raw("")
    };
    let elapsed = uptime(board.since.elapsed_ns());
    let first = Line::from(vec![
        Span::styled("pinfeed bench ", theme.title()),
        Span::styled(
            cut(&board.title, usize::from(area.width) / 2),
            theme.strong(),
        ),
        Span::raw(format!("  running for {elapsed}  ")),
        state,
    ]);
    let step = match &board.step {
        Some(step) => format!("{}, for {}", step.name, uptime(step.since.elapsed_ns())),
        None => "starting".to_owned(),
    };
    let second = Line::raw(cut(&step, usize::from(area.width)));
    let lines = vec![first, second, gauge(board, area.width, theme)];
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns a bar as long as the part of the time that has passed, and how much is left.
fn gauge(board: &Board, width: u16, theme: Theme) -> Line<'static> {
    let (Some(share), Some(Left { time, is_least })) = (board.share(), board.left) else {
        return Line::styled("time left: known after the first round", theme.dim());
    };
    let least = if is_least { "at least " } else { "" };
    let left = uptime(time.as_nanos() as u64);
    let words = format!(" {:>3.0} %  {least}{left} left", 100.0 * share);
    let room = usize::from(width).saturating_sub(words.chars().count());
    let filled = (room as f64 * share) as usize;
    Line::from(vec![
        Span::styled("█".repeat(filled), theme.good()),
        Span::styled("░".repeat(room - filled), theme.dim()),
        Span::raw(words),
    ])
}

fn results_panel(frame: &mut Frame<'_>, area: Rect, done: &Done, theme: Theme) {
    let (head, columns, rows) = match done {
        Done::AtRate(rows) => {
            let rows: Vec<Row> = rows.iter().map(|row| at_rate(row, theme)).collect();
            ("run", AT_RATE, rows)
        }
        Done::FlatOut(groups) => {
            let rows: Vec<Row> = groups.iter().map(|group| flat_out(group, theme)).collect();
            ("medians of", FLAT_OUT, rows)
        }
    };
    let right = match rows.len() {
        0 => "none yet",
        _ => "",
    };
    let inner = titled(frame, area, ("results so far", right), theme);
    let lines = table::lines(inner, (head, columns), (rows, 0), Sort::default(), theme);
    frame.render_widget(Paragraph::new(lines), inner);
}

fn at_rate(row: &AtRate, theme: Theme) -> Row {
    let shown = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| time(ns as f64));
    let [p50, p99, p99_9, max] = row.feed_ns.map(shown);
    let verdict = if row.is_good {
        theme.good()
    } else {
        theme.bad()
    };
    let plain = [p50, p99, p99_9, shown(row.late_ns), max, time(row.cpu_ns)];
    let plain = plain.into_iter().map(|text| (text, Style::new()));
    Row {
        name: row.name.clone(),
        cells: [(row.verdict.clone(), verdict)]
            .into_iter()
            .chain(plain)
            .collect(),
    }
}

fn flat_out(group: &FlatOut, theme: Theme) -> Row {
    let shown = |value: f64, show: fn(f64) -> String| match value.is_nan() {
        true => "-".to_owned(),
        false => show(value),
    };
    let (rates, cpu_ns) = (group.msgs_per_s(), group.cpu_ns());
    let invalid = group.runs.iter().filter(|run| !run.verdict.is_ok()).count();
    let mut cells: Vec<(String, Style)> = [
        group.runs.len().to_string(),
        shown(rates.median, rate),
        shown(rates.lowest, rate),
        shown(rates.highest, rate),
        shown(cpu_ns.median, time),
    ]
    .into_iter()
    .map(|text| (text, Style::new()))
    .collect();
    let style = if invalid > 0 {
        theme.bad()
    } else {
        theme.dim()
    };
    cells.push((invalid.to_string(), style));
    Row {
        name: group.name.clone(),
        cells,
    }
}

/// Returns what keys do, and what the platform did in the last second.
fn footer_line(seen: &Seen, board: &Board, look: Look) -> Line<'static> {
    let key = |key: &'static str| Span::styled(key, look.theme.strong());
    let pause = if look.is_paused {
        " go on   "
    } else {
        " pause   "
    };
    let mut spans = vec![
        key("q"),
        Span::raw(" end, keeping nothing   "),
        key("p"),
        Span::raw(pause),
    ];
    let by_core = seen.hiccups.iter();
    let by_core: Vec<String> = by_core
        .map(|(core, ns)| format!("{core}: {}", time(*ns as f64)))
        .collect();
    if !by_core.is_empty() {
        spans.push(Span::raw(format!(
            "longest hiccup, core {}",
            by_core.join(", ")
        )));
    } else if matches!(board.done, Done::AtRate(_)) {
        spans.push(Span::styled(
            "hiccups: --hiccups measures them",
            look.theme.dim(),
        ));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        bench::{ThroughputRun, Verdict},
        cli::tui::model::latency,
        latency::Stages,
    };
    use std::time::Duration;

    fn drawn(width: u16, height: u16, board: &Board) -> String {
        let mut interval = Stages::default();
        for ns in 1..=1_000 {
            interval.queue.record(ns * 1_000).unwrap();
        }
        let seen = Seen {
            history: vec![10.0, 20.0],
            latency: latency(&interval, &interval),
            hiccups: vec![(0, 1_500_000), (3, 20_000)],
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let look = Look::new(Theme::plain());
        let frame = terminal
            .draw(|frame| draw(frame, board, &seen, look))
            .unwrap();
        let cells = frame.buffer.content().chunks(usize::from(width));
        let lines: Vec<String> = cells
            .map(|line| line.iter().map(|cell| cell.symbol()).collect())
            .collect();
        lines.join("\n")
    }

    fn board(done: Done) -> Board {
        let mut board = Board::new("latency at 5 msg/s".to_owned(), done);
        board.left = Some(Left {
            time: Duration::from_secs(75),
            is_least: true,
        });
        board
    }

    #[test]
    fn runs_at_a_rate_are_listed_below_the_step_under_way() {
        let run = |number: usize| AtRate {
            name: format!("run-{number}"),
            verdict: if number == 3 { "INVALID" } else { "OK" }.to_owned(),
            is_good: number != 3,
            feed_ns: [Some(1_000), None, Some(3_000_000), Some(4_000_000)],
            late_ns: Some(77),
            cpu_ns: 45.0,
        };
        let board = board(Done::AtRate((1..=30).rev().map(run).collect()));
        for (width, height) in [(80, 24), (200, 50), SIZE_MIN] {
            let shown = drawn(width, height, &board);
            for part in [
                "pinfeed bench latency at 5 msg/s",
                "at least 1:15 left",
                "run-30 ",
                "1.00 µs",
                "q end, keeping nothing",
            ] {
                assert!(
                    shown.contains(part),
                    "{part:?} at {width}x{height}:\n{shown}"
                );
            }
        }
        let shown = drawn(80, 24, &board);
        assert!(shown.contains("and 23 more"), "{shown}");
        assert!(shown.contains("queue      500 µs   990 µs"), "{shown}");
        assert!(
            shown.contains("longest hiccup, core 0: 1.50 ms, 3: 20.0 µs"),
            "{shown}"
        );
    }

    #[test]
    fn runs_flat_out_are_summed_up_by_name() {
        let mut done = Done::FlatOut(Vec::new());
        let run = |msgs_per_s: f64, verdict: Verdict| ThroughputRun {
            verdict,
            elapsed_s: 1.0,
            msgs_per_s,
            cpu_ns_per_msg: 12.0,
        };
        let failed = Verdict::Failed("it broke".to_owned());
        for (name, rate, verdict) in [
            ("pinfeed, native", 10e6, Verdict::Ok),
            ("plain recv", 30e6, Verdict::Ok),
            ("pinfeed, native", 20e6, Verdict::Ok),
            ("plain recv", 1.0, failed),
        ] {
            done.note_flat_out(name, run(rate, verdict));
        }
        let shown = drawn(80, 24, &board(done));
        let row = |name: &str| {
            let line = shown.lines().find(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name} is not in\n{shown}"));
            line[name.len()..]
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(row("pinfeed, native"), "2 15.0M 10.0M 20.0M 12 ns 0");
        assert_eq!(row("plain recv"), "2 30.0M 30.0M 30.0M 12 ns 1");
    }
}
