//! The panels that are tables: lanes, workers, feeds, lines, topics, threads.

use ratatui::{Frame, layout::Rect, style::Style, text::Line, widgets::Paragraph};

use crate::{
    cli::{
        threads::ThreadRow,
        tui::{
            layout::Panel,
            look::Look,
            model::{FeedRow, LaneRow, LineRow, Picture, Sort, TopicRow, Topics, WorkerRow},
            table::{self, Column, Row},
            theme::Theme,
            title::titled,
        },
    },
    pipeline::ratio,
    report::{count, rate, time},
};

/// Makes columns of their titles, widths and what they are sorted by.
macro_rules! columns {
    ($($title:literal $width:literal $sort:expr),* $(,)?) => {
        &[$(Column { title: $title, width: $width, sort: $sort }),*]
    };
}

const LANES: &[Column] = columns![
    "msg/s" 8 Some(Sort::Rate), "B/s" 8 None, "waits" 7 None, "received" 16 Some(Sort::Total),
];
const WORKERS: &[Column] = columns![
    "msg/s" 8 Some(Sort::Rate), "queue" 9 None, "CPU" 7 None, "delivered" 16 Some(Sort::Total),
];
const FEEDS: &[Column] = columns![
    "msg/s" 8 Some(Sort::Rate), "received" 16 Some(Sort::Total), "lines" 7 None,
];
const LINES: &[Column] = columns![
    "copies/s" 9 Some(Sort::Rate), "first" 7 None, "repaired" 10 None, "behind" 9 None, "absent" 8 None,
    "copies" 16 Some(Sort::Total),
];
const TOPICS: &[Column] = columns![
    "msg/s" 8 Some(Sort::Rate), "messages" 14 Some(Sort::Total),
];
const THREADS: &[Column] = columns![
    "CPU" 7 Some(Sort::Rate), "core" 6 None, "wanted" 8 None, "taken" 8 None, "tied to" 9 None,
    "moved" 8 None, "CPU time" 10 Some(Sort::Total),
];

/// Draws the panel of a table.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    panel: Panel,
    picture: &Picture,
    look: &Look,
) {
    let (theme, sort) = (look.theme, look.sort);
    let (title, right) = match panel {
        Panel::Topics => match &picture.topics {
            Topics::Top(_, topics) => ("busiest topics", format!("of {}", count(*topics as u64))),
            Topics::Unknown(_) => ("busiest topics", String::new()),
        },
        Panel::Lanes => ("lanes", String::new()),
        Panel::Workers => ("workers", String::new()),
        Panel::Feeds => ("feeds", String::new()),
        Panel::Lines => ("lines that are copies", String::new()),
        _ => ("threads", String::new()),
    };
    let inner = titled(frame, area, (title, &right), theme);
    let table = |head, rows| table::lines(inner, head, (rows, 0), sort, theme);
    let lines = match panel {
        Panel::Lanes => table(
            ("lane", LANES),
            rows(sort.apply(&picture.lanes), lane, theme),
        ),
        Panel::Workers => table(
            ("worker", WORKERS),
            rows(sort.apply(&picture.workers), worker, theme),
        ),
        Panel::Feeds => {
            let mut lines = table(
                ("feed", FEEDS),
                rows(sort.apply(&picture.feeds), feed, theme),
            );
            let unknown = picture.feeds.iter().any(|feed| feed.received.is_none());
            if unknown && lines.len() < usize::from(inner.height) {
                let why = "-: its lane carries other feeds, too";
                lines.push(Line::styled(
                    table::cut(why, inner.width.into()),
                    theme.dim(),
                ));
            }
            lines
        }
        Panel::Lines if picture.lines.is_empty() => vec![Line::styled("none", theme.dim())],
        Panel::Lines => table(
            ("line", LINES),
            rows(sort.apply(&picture.lines), line, theme),
        ),
        Panel::Topics => match &picture.topics {
            Topics::Unknown(why) => vec![Line::styled(
                table::cut(why, inner.width.into()),
                theme.dim(),
            )],
            Topics::Top(topics, all) => {
                let beyond = all.saturating_sub(topics.len());
                let rows = (rows(sort.apply(topics), topic, theme), beyond);
                table::lines(inner, ("topic", TOPICS), rows, sort, theme)
            }
        },
        _ => table(
            ("thread", THREADS),
            rows(sort.apply(&picture.threads), thread, theme),
        ),
    };
    frame.render_widget(Paragraph::new(lines), inner);
}

fn rows<T>(sorted: Vec<&T>, row: fn(&T, Theme) -> Row, theme: Theme) -> Vec<Row> {
    sorted.into_iter().map(|one| row(one, theme)).collect()
}

fn row<const N: usize>(name: &str, cells: [(String, Style); N]) -> Row {
    Row {
        name: name.to_owned(),
        cells: cells.into(),
    }
}

fn plain(text: String) -> (String, Style) {
    (text, Style::new())
}

fn per_cent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Writes a number in seven columns at most.
fn short(number: u64) -> String {
    if number < 100_000 {
        count(number)
    } else {
        rate(number as f64)
    }
}

/// In bold red, say, where it is more than none.
fn if_any(number: u64, style: Style) -> (String, Style) {
    (count(number), if number > 0 { style } else { Style::new() })
}

fn lane(one: &LaneRow, theme: Theme) -> Row {
    let cells = [
        (rate(one.per_s), theme.strong()),
        plain(rate(one.bytes_per_s)),
        plain(per_cent(one.blocked)),
        plain(count(one.received)),
    ];
    row(&one.name, cells)
}

fn worker(one: &WorkerRow, theme: Theme) -> Row {
    let queue = format!("{}/{}", one.batches, one.batches_max);
    let cells = [
        (rate(one.per_s), theme.strong()),
        (
            queue,
            if one.is_behind {
                theme.notable()
            } else {
                Style::new()
            },
        ),
        plain(one.cpu_share.map_or_else(|| "-".to_owned(), per_cent)),
        plain(count(one.delivered)),
    ];
    row(&one.name, cells)
}

fn feed(one: &FeedRow, theme: Theme) -> Row {
    let (per_s, received) = match one.received {
        Some((per_s, received)) => (rate(per_s), count(received)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let cells = [
        (per_s, theme.strong()),
        plain(received),
        plain(one.lines.to_string()),
    ];
    row(&one.name, cells)
}

fn line(one: &LineRow, theme: Theme) -> Row {
    let cells = [
        (rate(one.per_s), theme.strong()),
        plain(per_cent(ratio(one.wins as f64, one.copies))),
        if_any(one.repaired, theme.notable()),
        plain(time(one.lag_max_ns as f64)),
        if_any(one.disconnects + one.silences, theme.bad()),
        plain(count(one.copies)),
    ];
    row(&one.name, cells)
}

fn topic(one: &TopicRow, theme: Theme) -> Row {
    let cells = [
        (rate(one.per_s), theme.strong()),
        plain(count(one.messages)),
    ];
    row(&one.name, cells)
}

fn thread(one: &ThreadRow, theme: Theme) -> Row {
    let core = |core: Option<usize>| core.map_or_else(|| "any".to_owned(), |core| core.to_string());
    let astray = one.core_wanted.is_some() && one.core_wanted != one.core_got;
    let if_astray = |style| if astray { style } else { Style::new() };
    let moved = one.migrations.map_or_else(|| "-".to_owned(), short);
    let cells = [
        (per_cent(one.cpu_share), theme.strong()),
        (one.core_last.to_string(), if_astray(theme.bad())),
        plain(core(one.core_wanted)),
        plain(short(one.involuntary_switches)),
        (core(one.core_got), if_astray(theme.bad())),
        plain(moved),
        plain(time(one.cpu_ns as f64)),
    ];
    row(&one.name, cells)
}
