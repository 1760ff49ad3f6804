//! Puts a picture on the screen, panel by panel.
//!
//! Colour only underlines what weight and words say already, so that terminals without it show as much.

use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline, Wrap},
};

use crate::{
    cli::tui::{
        layout::{self, Panel, Rows, SIZE_MIN},
        look::Look,
        model::{HISTORY_MAX, Latency, Percentiles, Picture, Topics},
        table::cut,
        tables,
        theme::Theme,
        title::titled,
    },
    clock::SECOND_NS,
    report::{count, rate, time},
};

/// Columns of a percentile.
const PERCENTILE_WIDTH: usize = 9;
/// Columns of a name in the latency panel.
const STAGE_WIDTH: usize = 8;
/// Columns of a counter with its name.
const COUNTER_WIDTH: u16 = 26;

/// What keys do, on the narrowest terminal.
const HELP: &str = "q end cleanly, again: at once  p hold the picture  s sort otherwise  ? close";
/// The width from which on the header has room for bytes a second.
const BYTES_FROM: u16 = 80;

/// Draws a picture on the whole terminal.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, look: &Look) {
    let length = |length: usize| u16::try_from(length).unwrap_or(u16::MAX - 2);
    let rows = Rows {
        lanes: length(picture.lanes.len()),
        workers: length(picture.workers.len()),
        feeds: length(picture.feeds.len()),
        lines: length(picture.lines.len()),
        topics: match &picture.topics {
            // One more tells how many there is no row of.
            Topics::Top(rows, all) => length(rows.len() + usize::from(*all > rows.len())),
            Topics::Unknown(_) => 1,
        },
        threads: length(picture.threads.len()),
        anomalies: length(picture.anomalies.len()),
    };
    let Some(placed) = layout::place(frame.area(), rows) else {
        draw_too_small(frame, picture);
        return;
    };
    for (panel, area) in placed {
        match panel {
            Panel::Header => header(frame, area, picture, look),
            Panel::Footer => footer(frame, area, look),
            Panel::Rate => {
                let title = "msg/s, the last minute";
                rate_panel(frame, area, title, &picture.history, look.theme);
            }
            Panel::Latency => {
                let titles = ("latency, the last half second", "since the start");
                latency_panel(frame, area, titles, &picture.latency, look.theme);
            }
            Panel::Losses => losses(frame, area, picture, look.theme),
            Panel::Anomalies => anomalies(frame, area, picture, look.theme),
            table => tables::draw(frame, area, table, picture, look),
        }
    }
}

fn draw_too_small(frame: &mut Frame<'_>, picture: &Picture) {
    let area = frame.area();
    let (width, height) = SIZE_MIN;
    let text = format!(
        "{}x{} is too small: {width}x{height} at least. {} received. q quits",
        area.width,
        area.height,
        count(picture.totals.received)
    );
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn header(frame: &mut Frame<'_>, area: Rect, picture: &Picture, look: &Look) {
    let (theme, totals) = (look.theme, &picture.totals);
    let state = if look.is_paused {
        Span::styled("PAUSED", theme.notable().add_modifier(Modifier::REVERSED))
    } else if picture.is_draining {
        Span::styled("draining", theme.notable())
    } else if totals.connects == totals.disconnects {
        Span::styled("not connected", theme.bad())
    } else {
        Span::styled("receiving", theme.good())
    };
    let first = Line::from(vec![
        Span::styled("pinfeed", theme.title()),
        Span::raw(format!(
            "  {} engine  up {}  ",
            picture.engine,
            uptime(picture.up_ns)
        )),
        state,
    ]);
    let cpu = format!("CPU {:.2} of {} cores", picture.cpu_share, picture.cores);
    let under_way = totals.under_way();
    let (balance, style) = match under_way {
        0 => ("balanced".to_owned(), theme.good()),
        1.. => (
            format!("balanced but {} under way", count(under_way.unsigned_abs())),
            theme.good(),
        ),
        _ => ("NOT BALANCED".to_owned(), theme.bad()),
    };
    let bytes = if area.width >= BYTES_FROM {
        format!("  {}B/s  ", rate(picture.bytes_per_s))
    } else {
        "  ".to_owned()
    };
    let second = Line::from(vec![
        Span::raw("received "),
        Span::styled(count(totals.received), theme.strong()),
        Span::raw("  "),
        Span::styled(format!("{} msg/s", rate(picture.per_s)), theme.strong()),
        Span::raw(bytes),
        Span::styled(balance, style),
    ]);
    frame.render_widget(Paragraph::new(vec![first, second]), area);
    let right = Paragraph::new(cpu.clone()).alignment(Alignment::Right);
    let width = (cpu.len() as u16).min(area.width);
    let corner = Rect::new(area.right() - width, area.y, width, 1);
    frame.render_widget(right, corner);
}

/// Writes `m:ss`, or `h:mm:ss`.
pub(super) fn uptime(ns: u64) -> String {
    let seconds = ns / SECOND_NS;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Draws rates over time, the newest at the right, of [`HISTORY_MAX`] that there is room for.
pub(super) fn rate_panel(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    history: &[f64],
    theme: Theme,
) {
    let history = &history[history.len().saturating_sub(HISTORY_MAX)..];
    let peak = history.iter().copied().fold(0.0, f64::max);
    let peak = format!("at most {}", rate(peak));
    let inner = titled(frame, area, (title, &peak), theme);
    let width = usize::from(inner.width);
    let absent = HISTORY_MAX - history.len();
    let bars = (0..width).map(|column| {
        let from = column * HISTORY_MAX / width;
        let to = ((column + 1) * HISTORY_MAX / width).max(from + 1);
        let known = history.get(from.saturating_sub(absent)..to.saturating_sub(absent));
        let known = known.unwrap_or_default();
        known.iter().sum::<f64>() as u64 / (known.len().max(1) as u64)
    });
    let bars: Vec<u64> = bars.collect();
    let style = theme.coloured(Style::new(), Color::Green);
    frame.render_widget(Sparkline::default().data(&bars).style(style), inner);
}

/// Draws percentiles by stage: of an interval, titled on the left, and where there is room overall.
pub(super) fn latency_panel(
    frame: &mut Frame<'_>,
    area: Rect,
    (title, overall): (&str, &str),
    stages: &[Latency],
    theme: Theme,
) {
    let block = 4 * PERCENTILE_WIDTH;
    let has_overall = usize::from(area.width) >= STAGE_WIDTH + 2 * block;
    let right = if has_overall { overall } else { "" };
    let inner = titled(frame, area, (title, right), theme);
    let heads: String = ["p50", "p99", "p99.9", "max"]
        .map(|head| format!("{head:>PERCENTILE_WIDTH$}"))
        .concat();
    let more = if has_overall { heads.as_str() } else { "" };
    let mut lines = vec![Line::styled(
        format!("{:<STAGE_WIDTH$}{heads}{more}", "stage"),
        theme.dim(),
    )];
    for stage in stages {
        let mut spans = vec![
            Span::raw(format!("{:<STAGE_WIDTH$}", stage.stage)),
            Span::styled(percentiles(stage.interval), theme.strong()),
        ];
        if has_overall {
            spans.push(Span::raw(percentiles(stage.overall)));
        }
        lines.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn percentiles(values: Option<Percentiles>) -> String {
    let columns = match values {
        Some(values) => values.map(|ns| time(ns as f64)),
        None => ["-"; 4].map(str::to_owned),
    };
    columns
        .map(|text| format!("{text:>PERCENTILE_WIDTH$}"))
        .concat()
}

fn losses(frame: &mut Frame<'_>, area: Rect, picture: &Picture, theme: Theme) {
    let totals = &picture.totals;
    let inner = titled(frame, area, ("losses and connections", ""), theme);
    let grave = |number: u64| {
        if number > 0 {
            theme.bad()
        } else {
            Style::new()
        }
    };
    let mild = |number: u64| {
        if number > 0 {
            theme.notable()
        } else {
            Style::new()
        }
    };
    let open = totals.connects.saturating_sub(totals.disconnects);
    let failed = totals.connect_failures + totals.handshake_failures;
    let lost = match picture.lost {
        Some(lost) => ("lost", count(lost), grave(lost)),
        None => ("lost", "unknown".to_owned(), Style::new()),
    };
    let counters = [
        lost,
        ("gaps", count(totals.gaps), grave(totals.gaps)),
        ("duplicates", count(totals.duplicates), Style::new()),
        ("dropped", count(totals.dropped), grave(totals.dropped)),
        ("conflated", count(totals.conflated), mild(totals.conflated)),
        (
            "rejected",
            count(totals.rejected()),
            grave(totals.rejected()),
        ),
        (
            "connections",
            count(open),
            if open == 0 { theme.bad() } else { Style::new() },
        ),
        (
            "of them lost",
            count(totals.disconnects),
            mild(totals.disconnects),
        ),
        ("failed", count(failed), mild(failed)),
        ("reordered", count(totals.reordered), Style::new()),
        ("restarts", count(totals.restarts), mild(totals.restarts)),
        (
            "protocol errors",
            count(totals.protocol_errors()),
            mild(totals.protocol_errors()),
        ),
        ("times blocked", count(totals.blocked), Style::new()),
        ("untold", count(totals.untold), mild(totals.untold)),
        ("unwanted", count(totals.unwanted), Style::new()),
    ];
    let columns = usize::from((inner.width / COUNTER_WIDTH).max(1)).min(3);
    let width = usize::from(inner.width) / columns;
    // Apart from the next one.
    let gap = 2;
    let cell = |(name, number, style): &(&str, String, Style)| {
        let room = width.saturating_sub(name.len() + gap);
        [
            Span::styled((*name).to_owned(), theme.dim()),
            Span::styled(format!("{number:>room$}"), *style),
            Span::raw(" ".repeat(gap)),
        ]
    };
    let rows = counters.chunks(columns);
    let lines: Vec<Line<'_>> = rows
        .take(usize::from(inner.height))
        .map(|row| Line::from(row.iter().flat_map(cell).collect::<Vec<_>>()))
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn anomalies(frame: &mut Frame<'_>, area: Rect, picture: &Picture, theme: Theme) {
    let all = format!("{} so far", count(picture.anomalies_seen));
    let inner = titled(frame, area, ("what went wrong last", &all), theme);
    if picture.anomalies.is_empty() {
        frame.render_widget(Line::styled("nothing", theme.dim()), inner);
        return;
    }
    let room = usize::from(inner.height);
    let first = picture.anomalies.len().saturating_sub(room);
    let lines = picture.anomalies[first..].iter().map(|anomaly| {
        let text = anomaly.to_string();
        Line::raw(cut(text.trim_start(), usize::from(inner.width)))
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
}

fn footer(frame: &mut Frame<'_>, area: Rect, look: &Look) {
    let line = if look.is_helping {
        Line::raw(cut(HELP, usize::from(area.width)))
    } else {
        let key = |key: &'static str| Span::styled(key, look.theme.strong());
        let pause = if look.is_paused {
            " go on   "
        } else {
            " pause   "
        };
        Line::from(vec![
            key("q"),
            Span::raw(" quit   "),
            key("p"),
            Span::raw(pause),
            key("s"),
            Span::raw(format!(" sort: {}   ", look.sort.name())),
            key("?"),
            Span::raw(" help"),
        ])
    };
    frame.render_widget(line, area);
}

#[cfg(test)]
mod tests;
