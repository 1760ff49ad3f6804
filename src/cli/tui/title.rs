//! The title of a panel.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use crate::cli::tui::{table::cut, theme::Theme};

/// Draws a title over a panel, with something at its right end, and returns what is left of the panel.
pub(super) fn titled(
    frame: &mut Frame<'_>,
    area: Rect,
    (title, right): (&str, &str),
    theme: Theme,
) -> Rect {
    let width = usize::from(area.width);
    let title = cut(title, width);
    let room = width.saturating_sub(title.chars().count() + 2);
    let right = if right.chars().count() < room {
        right
    } else {
        ""
    };
    let rule = room.saturating_sub(right.chars().count() + usize::from(!right.is_empty()));
    let line = Line::from(vec![
        Span::styled(title, theme.title()),
        Span::raw(" "),
        Span::styled("─".repeat(rule), theme.dim()),
        Span::raw(if right.is_empty() { "" } else { " " }),
        Span::raw(right.to_owned()),
    ]);
    frame.render_widget(line, Rect { height: 1, ..area });
    Rect {
        y: area.y + 1,
        height: area.height - 1,
        ..area
    }
}
