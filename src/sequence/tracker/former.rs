//! The lives before the present ones: what the old publisher still sends while the new one has begun, or what of it comes
//! by a connection that is read behind the new one's.

use std::collections::HashMap;

use crate::sequence::{
    Numbering, Position,
    stream::{Step, Stream},
};

/// The life before the present one of each series that had one: by its topic's hash, or 0 for the line's. Bounded by the
/// topics tracked.
#[derive(Debug, Default)]
pub(super) struct Former {
    lives: HashMap<u64, Stream>,
}

impl Former {
    /// Takes a message of a series at `at`, as [`Stream::advance`] does where there is no life before.
    pub(super) fn advance(
        &mut self,
        key: u64,
        series: &mut Stream,
        numbering: &Numbering,
        from_start: bool,
        at: Position,
        connection: u32,
    ) -> Step {
        if series.is_left_by(numbering, at) {
            match self.lives.get_mut(&key) {
                Some(life) if life.is_resumed_by(numbering.mask(), at, connection) => {
                    return series.resume(life, numbering, at, connection);
                }
                _ => self.lives.insert(key, *series),
            };
        } else if !series.is_of(connection)
            && let Some(life) = self.lives.get_mut(&key)
        {
            if life.is_of(connection) {
                return life.advance(numbering, false, at, connection);
            }
            // Of a life before that, of which nothing is known any more.
            return Step::InSequence;
        }
        let before = *series;
        let step = series.advance(numbering, from_start, at, connection);
        if !numbering.has_epoch && matches!(step, Step::Restarted { .. }) {
            self.lives.insert(key, before);
        }
        step
    }
}
