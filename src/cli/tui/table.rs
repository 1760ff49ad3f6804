//! Tables that fit: columns that have no room are left out from the right, rows from below, and what is left
//! out of the rows is counted.

use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::cli::tui::{model::Sort, theme::Theme};

/// The least width of the first column.
const NAME_MIN: usize = 9;

/// The width of the first column, unless its names want more or there is no room.
const NAME_USUAL: usize = 16;

/// A column right of the first one, aligned to the right.
pub(super) struct Column {
    pub title: &'static str,
    pub width: usize,
    /// What tables are sorted by where this column leads.
    pub sort: Option<Sort>,
}

/// A row: what stands in the first column, then in the others.
pub(super) struct Row {
    pub name: String,
    pub cells: Vec<(String, Style)>,
}

/// Lays out a table for an area, its head first. `beyond` is how many more there are than rows were given.
pub(super) fn lines(
    area: Rect,
    (title, columns): (&str, &[Column]),
    (rows, beyond): (Vec<Row>, usize),
    sort: Sort,
    theme: Theme,
) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let mut used = NAME_MIN;
    let fitting = columns.iter().take_while(|column| {
        used += column.width;
        used <= width
    });
    let columns: Vec<&Column> = fitting.collect();
    let names_left = width - columns.iter().map(|column| column.width).sum::<usize>();
    let longest = rows.iter().map(|row| row.name.chars().count()).max();
    // Numbers near their names, where there is more room than that takes.
    let name_width = (longest.unwrap_or(0) + 2).max(NAME_USUAL).min(names_left);
    let marked = |title: &str, by: Option<Sort>| {
        let mark = if by == Some(sort) { "▾" } else { "" };
        format!("{title}{mark}")
    };
    let mut head = vec![Span::styled(
        format!("{:<name_width$}", marked(title, Some(Sort::Name))),
        theme.dim(),
    )];
    head.extend(columns.iter().map(|column| {
        let title = marked(column.title, column.sort);
        Span::styled(
            format!("{title:>width$}", width = column.width),
            theme.dim(),
        )
    }));
    let mut lines = vec![Line::from(head)];
    let room = usize::from(area.height).saturating_sub(1);
    let shown = if rows.len() + usize::from(beyond > 0) > room {
        room.saturating_sub(1)
    } else {
        rows.len()
    };
    let hidden = rows.len() - shown + beyond;
    for row in rows.into_iter().take(shown) {
        let mut spans = vec![Span::raw(format!(
            "{:<name_width$}",
            cut(&row.name, name_width.saturating_sub(1))
        ))];
        let cells = row.cells.into_iter().zip(&columns);
        spans.extend(cells.map(|((text, style), column)| {
            // One column apart from its neighbour at least.
            let text = cut(&text, column.width.saturating_sub(1));
            Span::styled(format!("{text:>width$}", width = column.width), style)
        }));
        lines.push(Line::from(spans));
    }
    if hidden > 0 {
        lines.push(Line::styled(format!("and {hidden} more"), theme.dim()));
    }
    lines
}

/// Shortens a text to `width` characters, and shows that it did.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [
        Column {
            title: "msg/s",
            width: 8,
            sort: Some(Sort::Rate),
        },
        Column {
            title: "received",
            width: 10,
            sort: Some(Sort::Total),
        },
    ];

    fn laid_out(width: u16, height: u16, rows: usize) -> Vec<String> {
        laid_out_of(width, height, rows, 0)
    }

    fn laid_out_of(width: u16, height: u16, rows: usize, beyond: usize) -> Vec<String> {
        let row = |number| Row {
            name: format!("lane-{number}"),
            cells: vec![
                ("1.00k".to_owned(), Style::new()),
                ("1,000".to_owned(), Style::new()),
            ],
        };
        let rows = (0..rows).map(row).collect();
        let area = Rect::new(0, 0, width, height);
        let table = ("lane", &COLUMNS[..]);
        let lines = lines(area, table, (rows, beyond), Sort::Rate, Theme::plain());
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_without_room_are_left_out_whole() {
        let [head, row] = &laid_out(30, 2, 1)[..] else {
            panic!("two lines");
        };
        assert_eq!(head, "lane          msg/s▾  received");
        assert_eq!(row, "lane-0         1.00k     1,000");
        let narrow = laid_out(26, 2, 1);
        assert_eq!(narrow[0], "lane              msg/s▾");
    }

    #[test]
    fn rows_without_room_are_counted() {
        assert_eq!(laid_out(30, 4, 3).len(), 4);
        let cut = laid_out(30, 4, 4);
        assert_eq!((cut.len(), &cut[3][..]), (4, "and 2 more"));
        for (rows, shown) in [(2, 2), (3, 2), (4, 2)] {
            let cut = laid_out_of(30, 4, rows, 10);
            let hidden = format!("and {} more", rows - shown + 10);
            assert_eq!((cut.len(), &cut[3]), (4, &hidden));
        }
    }

    #[test]
    fn a_cut_shows() {
        assert_eq!(cut("BTC-USDT", 8), "BTC-USDT");
        assert_eq!(cut("BTC-USDT", 7), "BTC-US…");
        assert_eq!(cut("µµµ", 2), "µ…");
    }
}
