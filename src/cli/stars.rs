//! Stars at the end of what is asked for: most likely meant for a pattern, and none.

use crate::cli::say;

/// Warns of the first such prefix, and of the first such name.
pub(super) fn warn<'a>(
    prefixes: impl IntoIterator<Item = &'a String>,
    names: impl IntoIterator<Item = &'a String>,
) {
    if let Some(prefix) = prefixes.into_iter().find(|prefix| prefix.ends_with('*')) {
        say(format_args!(
            "warning: what is subscribed to is a prefix already, so the * of {prefix:?} stands for itself; leave it out \
             if it is to stand for anything"
        ));
    }
    if let Some(name) = names.into_iter().find(|name| name.ends_with('*')) {
        say(format_args!(
            "warning: a topic is asked for by its whole name, so the * of {name:?} stands for itself; subscribe to \
             what is in front of it if it is to stand for anything"
        ));
    }
}
