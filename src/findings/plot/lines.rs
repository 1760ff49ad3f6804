//! Lines over two axes.

use maud::{Markup, html};
use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::{cartesian::Cartesian2d, types::RangedCoordf64},
    element::{Circle, PathElement},
    prelude::{SVGBackend, Text},
    series::LineSeries,
    style::{
        Color,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::findings::plot::{
    Area, Axis, Size, both,
    colors::{GRID, LINES, TEXT},
};

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A line with its name in the legend. Places are those of the axes.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub name: String,
    pub places: Vec<(f64, f64)>,
    /// Where runs lie that a place is the median of: across, lowest, highest.
    pub spreads: Vec<(f64, f64, f64)>,
}

impl Line {
    /// Makes one of single places.
    pub(crate) fn new(name: &str, places: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.to_owned(),
            places,
            spreads: Vec::new(),
        }
    }
}

impl Axis {
    /// Nanoseconds on a logarithmic axis that holds all of the lines.
    pub(crate) fn around(name: &str, lines: &[Line]) -> Self {
        let places = lines.iter().flat_map(|line| {
            let ends = line.spreads.iter().flat_map(|&(_, low, high)| [low, high]);
            line.places.iter().map(|place| place.1).chain(ends)
        });
        let (lowest, highest) = places.fold((f64::MAX, 0.0_f64), |(low, high), place| {
            (low.min(place), high.max(place))
        });
        let [lowest, highest] = [lowest.min(highest), highest].map(|place| 10_f64.powf(place));
        Self::log_time(name, lowest, highest)
    }
}

/// Draws lines, and names them below.
pub(crate) fn lines(title: &str, across: &Axis, up: &Axis, lines: &[Line]) -> Markup {
    let drawn = both(
        title,
        |size| size.pick(340, 280),
        |area, size| {
            let mut chart = chart(area, size, across, up)?;
            for (at, line) in lines.iter().enumerate() {
                let style = LINES[at % LINES.len()].color().stroke_width(2);
                chart.draw_series(LineSeries::new(line.places.iter().copied(), style))?;
                let spreads = line.spreads.iter();
                let ends = spreads.map(|&(x, low, high)| vec![(x, low), (x, high)]);
                chart.draw_series(ends.map(|ends| PathElement::new(ends, style)))?;
                // A line of one place has no length.
                if line.places.len() == 1 || !line.spreads.is_empty() {
                    let places = line.places.iter();
                    chart
                        .draw_series(places.map(|&place| Circle::new(place, 4, style.filled())))?;
                }
            }
            Ok(())
        },
    );
    html! {
        figure {
            figcaption { (title) }
            (drawn)
            ul.legend {
                @for (at, line) in lines.iter().enumerate() {
                    li { span class=(format!("swatch line-{}", at % LINES.len())) {} (line.name) }
                }
            }
        }
    }
}

/// Draws the axes of a plot, and returns what to draw on.
pub(super) fn chart<'a, 'b>(
    area: &'a Area<'b>,
    size: Size,
    across: &Axis,
    up: &Axis,
) -> Result<Chart<'a, 'b>, plotters::drawing::DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(30)
        .margin_right(size.pick(30, 26))
        .x_label_area_size(44)
        .y_label_area_size(size.pick(66, 54))
        .build_cartesian_2d(across.range.clone(), up.range.clone())?;
    let (left, right) = (across.range.start, across.range.end);
    let (bottom, top) = (up.range.start, up.range.end);
    let across_ticks = across.ticks(across.wanted(size, true));
    let up_ticks = up.ticks(up.wanted(size, false));
    let upright = across_ticks.iter().map(|&x| vec![(x, bottom), (x, top)]);
    let level = up_ticks.iter().map(|&y| vec![(left, y), (right, y)]);
    let grid = GRID.color().stroke_width(1);
    chart.draw_series(
        upright
            .chain(level)
            .map(|ends| PathElement::new(ends, grid)),
    )?;
    let text = |horizontal, vertical| size.text(TEXT).pos(Pos::new(horizontal, vertical));
    let place = |x, y| chart.backend_coord(&(x, y));
    for &x in &across_ticks {
        let (x_px, y_px) = place(x, bottom);
        let style = text(HPos::Center, VPos::Top);
        area.draw(&Text::new(across.show(x), (x_px, y_px + 7), style))?;
    }
    for &y in &up_ticks {
        let (x_px, y_px) = place(left, y);
        let style = text(HPos::Right, VPos::Center);
        area.draw(&Text::new(up.show(y), (x_px - 8, y_px), style))?;
    }
    // What is counted: upwards above the axis, across at its end.
    area.draw(&Text::new(
        up.name.clone(),
        (4, 4),
        text(HPos::Left, VPos::Top),
    ))?;
    let (right_px, bottom_px) = place(right, bottom);
    let style = text(HPos::Right, VPos::Top);
    area.draw(&Text::new(
        across.name.clone(),
        (right_px, bottom_px + 25),
        style,
    ))?;
    Ok(chart)
}
