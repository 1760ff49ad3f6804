//! What people ask of the view: in which theme it is drawn, what its tables are sorted by, whether it stands still.

use crate::cli::tui::{model::Sort, theme::Theme};

/// How the view is to be drawn.
pub(super) struct Look {
    pub theme: Theme,
    pub sort: Sort,
    pub is_paused: bool,
    pub is_helping: bool,
}

impl Look {
    pub(super) fn new(theme: Theme) -> Self {
        Self {
            theme,
            sort: Sort::default(),
            is_paused: false,
            is_helping: false,
        }
    }
}
