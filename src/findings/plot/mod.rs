//! Plots as inline SVG, drawn once for wide windows and once for phones; a media query shows one of them.
//!
//! They are drawn in the light theme's colours. A dark one is the style sheet's doing, which finds shapes by
//! the colours that they were given.

mod axis;
mod bars;
mod colors;
mod heat;
mod lines;

pub(super) use axis::{Axis, percentile_place};
pub(super) use bars::{Bar, bars};
pub(super) use colors::style_sheet;
pub(super) use heat::{Marks, heat_map};
pub(super) use lines::{Line, lines};

use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea},
    prelude::SVGBackend,
    style::{Color, FontDesc, FontFamily, FontStyle, TextStyle},
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The backend writes letters smaller than it is told, by this.
const FONT_FACTOR: f64 = 1.24;

/// Which of the two pictures is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Wide,
    Phone,
}

impl Size {
    /// Width in pixels.
    fn width(self) -> u32 {
        match self {
            Self::Wide => 960,
            Self::Phone => 350,
        }
    }

    /// Returns the first on wide pictures, the second on phones.
    pub(super) fn pick<T>(self, wide: T, phone: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Phone => phone,
        }
    }

    /// Returns how text looks.
    fn text(self, ink: colors::Ink) -> TextStyle<'static> {
        let pixels = FONT_FACTOR * self.pick(13.0, 12.0);
        let font = FontDesc::new(FontFamily::SansSerif, pixels, FontStyle::Normal);
        TextStyle {
            color: ink.color().to_backend_color(),
            ..TextStyle::from(font)
        }
    }
}

/// Draws both pictures. `height` is in pixels.
fn both(
    title: &str,
    height: impl Fn(Size) -> u32,
    draw: impl Fn(&Area<'_>, Size) -> Drawn,
) -> Markup {
    html! {
        @for size in [Size::Wide, Size::Phone] {
            @let (width, height) = (size.width(), height(size));
            @match picture((width, height), |area| draw(area, size)) {
                Ok(shapes) => {
                    svg class=(size.pick("plot wide", "plot phone")) role="img"
                        viewBox=(format!("0 0 {width} {height}")) {
                        title { (title) }
                        (shapes)
                    }
                }
                Err(error) => p class=(size.pick("wide", "phone")) { "This plot could not be drawn: " (error) },
            }
        }
    }
}

/// Returns the shapes of a picture, which the backend has escaped, without the element around them.
fn picture(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<Markup, DrawingAreaErrorKind<std::io::Error>> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    let shapes = text.split_once('>').map_or("", |(_, shapes)| shapes);
    let shapes = shapes.trim_end().trim_end_matches("</svg>");
    Ok(PreEscaped(shapes.to_owned()))
}
