//! Which panels are shown, and where: bands from top to bottom, of a panel or several side by side. Where there
//! is no room for all, those that matter least are left out; what is left over goes to those that want more.

use ratatui::layout::Rect;

/// The least terminal that anything is shown on.
pub(super) const SIZE_MIN: (u16, u16) = (60, 12);
/// From this width on panels stand in more columns.
const WIDE: u16 = 120;
/// Columns between panels side by side.
const GAP: u16 = 2;

/// Something that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Header,
    Rate,
    Latency,
    Lanes,
    Workers,
    Feeds,
    Losses,
    Lines,
    Topics,
    Threads,
    Anomalies,
    Footer,
}

/// The rows of each table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rows {
    pub lanes: u16,
    pub workers: u16,
    pub feeds: u16,
    pub lines: u16,
    pub topics: u16,
    pub threads: u16,
    pub anomalies: u16,
}

/// Panels side by side, with their parts of the width in hundredths.
struct Band {
    panels: &'static [(Panel, u16)],
    /// The first to be shown has 0.
    rank: usize,
    height_min: u16,
    height_wanted: u16,
}

/// Places the panels, or `None` where the terminal is too small.
pub(super) fn place(area: Rect, rows: Rows) -> Option<Vec<(Panel, Rect)>> {
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        return None;
    }
    let bands = if area.width >= WIDE {
        wide(rows)
    } else {
        narrow(rows)
    };
    let mut heights = vec![0; bands.len()];
    let mut left = area.height;
    let mut by_rank: Vec<usize> = (0..bands.len()).collect();
    by_rank.sort_by_key(|&band| bands[band].rank);
    for &band in &by_rank {
        if bands[band].height_min > left {
            break;
        }
        heights[band] = bands[band].height_min;
        left -= bands[band].height_min;
    }
    // One row each in turn, so that none takes it all.
    let wants = |band: usize, height: u16| height > 0 && height < bands[band].height_wanted;
    while left > 0 && by_rank.iter().any(|&band| wants(band, heights[band])) {
        for &band in &by_rank {
            if left > 0 && wants(band, heights[band]) {
                heights[band] += 1;
                left -= 1;
            }
        }
    }
    // The footer stays at the bottom.
    let mut placed = Vec::new();
    let mut y = area.y;
    for (band, &height) in bands.iter().zip(&heights) {
        if height == 0 {
            continue;
        }
        if band.panels[0].0 == Panel::Footer {
            y = area.bottom() - height;
        }
        let mut x = area.x;
        for (index, &(panel, part)) in band.panels.iter().enumerate() {
            let last = index + 1 == band.panels.len();
            let width = if last {
                area.right() - x
            } else {
                area.width * part / 100 - GAP / 2
            };
            placed.push((panel, Rect::new(x, y, width, height)));
            x += width + GAP;
        }
        y += height;
    }
    Some(placed)
}

fn band(panels: &'static [(Panel, u16)], rank: usize, height_min: u16, height_wanted: u16) -> Band {
    Band {
        panels,
        rank,
        height_min,
        height_wanted: height_wanted.max(height_min),
    }
}

/// The height of a table with its title and head.
fn table(rows: u16) -> u16 {
    rows + 2
}

fn narrow(rows: Rows) -> Vec<Band> {
    let mut bands = vec![
        band(&[(Panel::Header, 100)], 0, 2, 2),
        band(&[(Panel::Rate, 100)], 6, 3, 8),
        band(&[(Panel::Latency, 100)], 2, 5, 5),
        band(
            &[(Panel::Lanes, 50), (Panel::Workers, 50)],
            3,
            4,
            table(rows.lanes.max(rows.workers)),
        ),
        band(&[(Panel::Feeds, 100)], 8, 3, table(rows.feeds)),
        band(&[(Panel::Lines, 100)], 7, 4, table(rows.lines)),
        band(
            &[(Panel::Topics, 50), (Panel::Threads, 50)],
            9,
            5,
            table(rows.topics.max(rows.threads)),
        ),
        band(&[(Panel::Losses, 100)], 4, 4, 4),
        band(&[(Panel::Anomalies, 100)], 5, 3, rows.anomalies + 1),
        band(&[(Panel::Footer, 100)], 1, 1, 1),
    ];
    if rows.lines == 0 {
        bands.retain(|band| band.panels[0].0 != Panel::Lines);
    }
    bands
}

fn wide(rows: Rows) -> Vec<Band> {
    vec![
        band(&[(Panel::Header, 100)], 0, 2, 2),
        band(&[(Panel::Rate, 60), (Panel::Losses, 40)], 4, 6, 8),
        band(
            &[(Panel::Latency, 60), (Panel::Lines, 40)],
            2,
            5,
            table(rows.lines).min(8),
        ),
        band(
            &[(Panel::Lanes, 34), (Panel::Workers, 33), (Panel::Feeds, 33)],
            3,
            4,
            table(rows.lanes.max(rows.workers).max(rows.feeds)),
        ),
        band(
            &[(Panel::Topics, 50), (Panel::Threads, 50)],
            6,
            5,
            table(rows.topics.max(rows.threads)),
        ),
        band(&[(Panel::Anomalies, 100)], 5, 3, rows.anomalies + 1),
        band(&[(Panel::Footer, 100)], 1, 1, 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: Rows = Rows {
        lanes: 2,
        workers: 4,
        feeds: 2,
        lines: 2,
        topics: 40,
        threads: 9,
        anomalies: 40,
    };

    fn shown(width: u16, height: u16) -> Vec<Panel> {
        let placed = place(Rect::new(0, 0, width, height), ROWS).unwrap();
        placed.into_iter().map(|(panel, _)| panel).collect()
    }

    #[test]
    fn panels_never_overlap_and_stay_within() {
        for width in 60..=220 {
            for height in 12..=80 {
                let area = Rect::new(0, 0, width, height);
                let placed = place(area, ROWS).unwrap();
                for (index, (panel, one)) in placed.iter().enumerate() {
                    assert!(one.height > 0 && one.width > 0, "{panel:?} at {area}");
                    assert_eq!(one.intersection(area), *one, "{panel:?} at {area}");
                    for (other, another) in &placed[..index] {
                        assert!(!one.intersects(*another), "{panel:?} {other:?} at {area}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_matters_most_comes_first() {
        use Panel::*;
        assert_eq!(shown(80, 12), [Header, Latency, Lanes, Workers, Footer]);
        let all_important = [
            Header, Rate, Latency, Lanes, Workers, Losses, Anomalies, Footer,
        ];
        assert_eq!(shown(80, 24), all_important);
        assert_eq!(shown(200, 50).len(), 12, "all of them");
        assert_eq!(shown(80, 60).len(), 12, "all of them, one below the other");
        assert!(place(Rect::new(0, 0, 59, 40), ROWS).is_none());
        assert!(place(Rect::new(0, 0, 80, 11), ROWS).is_none());
    }
}
