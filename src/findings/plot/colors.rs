//! Colours, each for a light and for a dark page.

use std::fmt::Write;

use plotters::style::RGBColor;

/// A colour: on light pages, on dark ones. The first is what shapes are found by, so no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink(u32, u32);

impl Ink {
    pub(super) const fn color(self) -> RGBColor {
        let [_, red, green, blue] = self.0.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// Letters.
pub(super) const TEXT: Ink = Ink(0x3D4752, 0xC3CCD6);
/// Lines to read values by.
pub(super) const GRID: Ink = Ink(0xDFE4E9, 0x2B333D);
/// What went wrong.
pub(super) const ALARM: Ink = Ink(0xC01C28, 0xFF6B6B);
/// What the platform did; a mark to measure against.
pub(super) const HICCUP: Ink = Ink(0xD9660A, 0xFFB454);
/// What is compared, and what with.
pub(super) const SUBJECT: Ink = Ink(0x1F6FB2, 0x4EA1E0);
pub(super) const BASELINE: Ink = Ink(0xA9B4C0, 0x596673);
/// The lowest and the highest of several runs.
pub(super) const SPREAD: Ink = Ink(0x1D2732, 0xF0F4F8);

/// Lines beside each other.
pub(super) const LINES: [Ink; 8] = [
    Ink(0x1565B0, 0x6CB6FF),
    Ink(0xC2540A, 0xFFA657),
    Ink(0x14794E, 0x56D38A),
    Ink(0x9A3692, 0xE09BE6),
    Ink(0x8A6A00, 0xE3C04B),
    Ink(0xB3261F, 0xFF8A80),
    Ink(0x0C7480, 0x56D4DD),
    Ink(0x5650CF, 0xA9A6FF),
];

/// Counts, from few to many.
pub(super) const HEAT: [Ink; 8] = [
    Ink(0xDDEBF7, 0x14304A),
    Ink(0xC1DAEF, 0x1A4566),
    Ink(0x9DC6E5, 0x215D88),
    Ink(0x74AED9, 0x2C79AD),
    Ink(0x4D94CA, 0x4498CD),
    Ink(0x3078B8, 0x6EB7E3),
    Ink(0x1C5B99, 0xA4D5F2),
    Ink(0x0C3D75, 0xE3F4FF),
];

/// Returns the rules that make shapes dark on dark pages, and the classes `line-N` and `heat-N` of legends.
pub(crate) fn style_sheet() -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    let single = [TEXT, GRID, ALARM, HICCUP, SUBJECT, BASELINE, SPREAD];
    let shapes = single.iter().chain(&LINES).chain(&HEAT);
    for Ink(on_light, on_dark) in shapes {
        for property in ["fill", "stroke"] {
            let _ = write!(
                dark,
                "svg [{property}=\"#{on_light:06X}\"]{{{property}:#{on_dark:06X}}}"
            );
        }
    }
    let lines = LINES
        .iter()
        .enumerate()
        .map(|(at, ink)| (format!("line-{at}"), ink));
    let heat = HEAT
        .iter()
        .enumerate()
        .map(|(at, ink)| (format!("heat-{at}"), ink));
    let others = [("hiccup", HICCUP), ("alarm", ALARM)].map(|(name, ink)| (name.to_owned(), ink));
    let classes = lines
        .chain(heat)
        .chain(others.iter().map(|(name, ink)| (name.clone(), ink)));
    for (class, Ink(on_light, on_dark)) in classes {
        let _ = write!(light, ".{class}{{background:#{on_light:06X}}}");
        let _ = write!(dark, ".{class}{{background:#{on_dark:06X}}}");
    }
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}
