//! Latency over time: cells coloured by count, the platform's hiccups over them, anomalies above.

use maud::{Markup, html};
use plotters::{
    element::{PathElement, Polygon, Rectangle},
    style::Color,
};

use crate::findings::{
    heat::HeatMap,
    plot::{
        Axis, Size, both,
        colors::{ALARM, HEAT, HICCUP},
        lines::chart,
    },
    words::short_time,
};

/// What is drawn over a heat map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Seconds since 1970 of what its left end is.
    pub zero_s: f64,
    /// Seconds from there to the right end.
    pub length_s: f64,
    /// Intervals and their longest hiccup in nanoseconds, if hiccups were measured.
    pub hiccups: Vec<(f64, f64, u64)>,
    /// When something went wrong, in seconds since 1970.
    pub anomalies: Vec<f64>,
}

/// Draws a heat map. `map` makes one for a size.
pub(crate) fn heat_map(
    title: &str,
    marks: &Marks,
    map: impl Fn(Size) -> Option<HeatMap>,
) -> Markup {
    let (Some(wide), Some(phone)) = (map(Size::Wide), map(Size::Phone)) else {
        return html! { p.note { (title) ": nothing was recorded." } };
    };
    let hiccup_max = marks.hiccups.iter().map(|one| one.2).max().unwrap_or(0);
    let drawn = both(
        title,
        |size| size.pick(340, 300),
        |area, size| {
            let map = size.pick(&wide, &phone);
            let rows = map.columns.first().map_or(0, |column| column.counts.len());
            let ends = [map.bottom(0), map.bottom(rows)].map(|place| 10_f64.powf(place));
            let up = Axis::log_time("latency", ends[0], ends[1].max(hiccup_max as f64));
            let across = Axis::seconds("time", marks.length_s);
            let mut chart = chart(area, size, &across, &up)?;
            let cells = cells(map).into_iter().map(|cell| {
                let (from, to) = (cell.from_s - marks.zero_s, cell.to_s - marks.zero_s);
                let (bottom, top) = (map.bottom(cell.row), map.bottom(cell.row + 1));
                Rectangle::new(
                    [(from, bottom), (to, top)],
                    HEAT[cell.level].color().filled(),
                )
            });
            chart.draw_series(cells)?;
            let hiccups = marks.hiccups.iter().filter(|one| one.2 > 0);
            chart.draw_series(hiccups.map(|&(from_s, to_s, ns)| {
                let y = (ns as f64).log10();
                let ends = vec![(from_s - marks.zero_s, y), (to_s - marks.zero_s, y)];
                PathElement::new(ends, HICCUP.color().stroke_width(3))
            }))?;
            for anomaly in &marks.anomalies {
                let at = (anomaly - marks.zero_s, up.range.end);
                let (x, y) = chart.backend_coord(&at);
                let corners = vec![(x - 5, y - 10), (x + 5, y - 10), (x, y - 1)];
                area.draw(&Polygon::new(corners, ALARM.color().filled()))?;
            }
            Ok(())
        },
    );
    html! {
        figure {
            figcaption { (title) }
            (drawn)
            ul.legend {
                li {
                    "1 "
                    span.ramp { @for level in 0..HEAT.len() { span class=(format!("swatch heat-{level}")) {} } }
                    " " (crate::report::count(wide.count_max)) " messages"
                }
                @if hiccup_max > 0 {
                    li {
                        span.swatch.hiccup {} "worst hiccup of the platform, up to " (short_time(hiccup_max as f64))
                    }
                }
                @if !marks.anomalies.is_empty() {
                    li { span.swatch.alarm {} "anomaly: see below" }
                }
            }
        }
    }
}

/// Neighbours of a row that have the same colour.
struct Cell {
    from_s: f64,
    to_s: f64,
    row: usize,
    level: usize,
}

fn cells(map: &HeatMap) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    let rows = map.columns.first().map_or(0, |column| column.counts.len());
    for row in 0..rows {
        let mut open: Option<Cell> = None;
        for column in &map.columns {
            let level = map.level(column.counts[row], HEAT.len());
            match (&mut open, level) {
                // Intervals touch, to the millisecond that logs have.
                (Some(cell), Some(level))
                    if cell.level == level && (column.from_s - cell.to_s).abs() < 0.01 =>
                {
                    cell.to_s = column.to_s;
                }
                (_, level) => {
                    cells.extend(open.take());
                    open = level.map(|level| Cell {
                        from_s: column.from_s,
                        to_s: column.to_s,
                        row,
                        level,
                    });
                }
            }
        }
        cells.extend(open);
    }
    cells
}
