//! Bars with the spread of their runs.

use maud::{Markup, html};
use plotters::{
    element::{Circle, PathElement, Rectangle},
    prelude::Text,
    style::{
        Color,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::{
    bench::Spread,
    findings::plot::{
        Size, both,
        colors::{BASELINE, GRID, HICCUP, SPREAD, SUBJECT, TEXT},
    },
};

/// Pixels of a bar with its name above.
const BAR_HEIGHT: i32 = 50;
/// Pixels left for the value behind the longest bar.
const VALUE_WIDTH: i32 = 104;

/// A figure of several runs.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub name: String,
    pub values: Vec<f64>,
    /// The median as text.
    pub shown: String,
    /// Whether it is the subject's, rather than a baseline's.
    pub is_subject: bool,
}

/// Draws bars from 0 to medians, with a line from the lowest to the highest run. `rule` is a value to measure against.
pub(crate) fn bars(title: &str, bars: &[Bar], rule: Option<f64>) -> Markup {
    let spreads: Vec<Spread> = bars
        .iter()
        .map(|bar| Spread::of(bar.values.iter().copied()))
        .collect();
    let ends = spreads.iter().map(|one| one.highest).chain(rule);
    let highest = ends.filter(|end| end.is_finite()).fold(0.0, f64::max);
    let drawn = both(
        title,
        |_| (bars.len() as i32 * BAR_HEIGHT + 8) as u32,
        |area, size: Size| {
            let room = size.width() as i32 - VALUE_WIDTH - 8;
            let scale = f64::from(room) / if highest > 0.0 { highest } else { 1.0 };
            // What is not a number is at the start.
            let x = |value: f64| 4 + (value.max(0.0) * scale).min(f64::from(room)) as i32;
            let text = |horizontal| size.text(TEXT).pos(Pos::new(horizontal, VPos::Center));
            for (at, (bar, spread)) in bars.iter().zip(&spreads).enumerate() {
                let top = at as i32 * BAR_HEIGHT + 4;
                let (upper, lower) = (top + 20, top + 40);
                let middle = (upper + lower) / 2;
                area.draw(&Text::new(
                    bar.name.clone(),
                    (4, top + 10),
                    text(HPos::Left),
                ))?;
                let track = [(x(0.0), upper), (x(highest), lower)];
                area.draw(&Rectangle::new(track, GRID.color().filled()))?;
                let ink = if bar.is_subject { SUBJECT } else { BASELINE };
                let ends = [(x(0.0), upper), (x(spread.median), lower)];
                area.draw(&Rectangle::new(ends, ink.color().filled()))?;
                let spread_ends = vec![(x(spread.lowest), middle), (x(spread.highest), middle)];
                let line = SPREAD.color().stroke_width(2);
                area.draw(&PathElement::new(spread_ends, line))?;
                for value in &bar.values {
                    area.draw(&Circle::new(
                        (x(*value), middle),
                        3,
                        SPREAD.color().filled(),
                    ))?;
                }
                let behind = (x(highest) + 8, middle);
                area.draw(&Text::new(bar.shown.clone(), behind, text(HPos::Left)))?;
            }
            if let Some(rule) = rule {
                let bottom = bars.len() as i32 * BAR_HEIGHT;
                for at in 0..bars.len() as i32 {
                    let top = at * BAR_HEIGHT + 22;
                    let ends = vec![(x(rule), top), (x(rule), (top + 24).min(bottom))];
                    area.draw(&PathElement::new(ends, HICCUP.color().stroke_width(3)))?;
                }
            }
            Ok(())
        },
    );
    html! { figure { figcaption { (title) } (drawn) } }
}
