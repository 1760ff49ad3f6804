//! Styles by what they are to say.

use ratatui::style::{Color, Modifier, Style};

/// With colour or without.
#[derive(Clone, Copy)]
pub(super) struct Theme {
    has_colour: bool,
}

impl Theme {
    /// Without colour where `NO_COLOR` is set, to anything.
    pub(super) fn of_environment() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colour: !refused,
        }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { has_colour: false }
    }

    #[cfg(test)]
    pub(super) fn colourful() -> Self {
        Self { has_colour: true }
    }

    /// Colours a style, where there is colour.
    pub(super) fn coloured(self, style: Style, colour: Color) -> Style {
        if self.has_colour {
            style.fg(colour)
        } else {
            style
        }
    }

    /// What names other things.
    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn title(self) -> Style {
        self.coloured(self.strong(), Color::Cyan)
    }

    /// What is not as it should be.
    pub(super) fn bad(self) -> Style {
        self.coloured(self.strong(), Color::Red)
    }

    /// What somebody should know of.
    pub(super) fn notable(self) -> Style {
        self.coloured(self.strong(), Color::Yellow)
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Style::new(), Color::Green)
    }
}
