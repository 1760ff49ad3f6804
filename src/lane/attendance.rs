//! Which lines of a feed bring their copies. One that does not is missed by no handler, as the others bring
//! everything: so its operator has to be told.

use crate::{
    clock::SECOND_NS,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
};

/// How long a line may take to connect while another one brings messages.
const CONNECT_NS: u64 = 5 * SECOND_NS;

/// The lines of a feed that are copies of each other. Times are nanoseconds by the feed's clock.
pub(super) struct Attendance {
    feed: u16,
    /// How long a line may be silent while others are not.
    silent_after_ns: Option<u64>,
    lines: Vec<Line>,
    /// When any line was heard first and last.
    first_ns: Option<u64>,
    heard_ns: u64,
}

#[derive(Clone, Default)]
struct Line {
    /// Connections that are up.
    connections: usize,
    /// Whether it ever had one, or was found to be without.
    was_missed: bool,
    /// When it was heard last, or connected.
    heard_ns: u64,
    is_silent: bool,
    absence: Absence,
}

/// How often a line was not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absence {
    /// Times that it was left without a connection, or never had one.
    pub disconnects: u64,
    /// Times that it was silent for longer than its feed's limit while another line was not.
    pub silences: u64,
}

impl Attendance {
    pub(super) fn new(feed: u16, lines: usize, silent_after_ns: Option<u64>) -> Self {
        Self {
            feed,
            silent_after_ns,
            lines: vec![Line::default(); lines],
            first_ns: None,
            heard_ns: 0,
        }
    }

    /// Takes note that a line brought something.
    #[inline(always)]
    pub(super) fn hear(&mut self, line: u8, heard_ns: u64) {
        let line = &mut self.lines[usize::from(line)];
        line.heard_ns = heard_ns;
        line.is_silent = false;
        self.heard_ns = heard_ns;
        self.first_ns.get_or_insert(heard_ns);
    }

    /// Takes note that a connection of a line was made, or ended. Returns whether it has one.
    pub(super) fn note_connection(
        &mut self,
        line: u8,
        made: bool,
        heard_ns: u64,
        flight: &FlightRecord,
        now_ns: u64,
    ) -> bool {
        let of_line = &mut self.lines[usize::from(line)];
        if made {
            of_line.connections += 1;
            of_line.was_missed = true;
            of_line.heard_ns = heard_ns;
            of_line.is_silent = false;
            return true;
        }
        let was_up = of_line.connections > 0;
        of_line.connections = of_line.connections.saturating_sub(1);
        let is_up = of_line.connections > 0;
        if was_up && !is_up {
            of_line.absence.disconnects += 1;
            let others = self.lines.iter().filter(|it| it.connections > 0).count();
            // Where none has, the feed itself is said to have none.
            if others > 0 {
                self.note(flight, AnomalyKind::Reconnect, now_ns, || {
                    format!("line {line} has no connection; copies of it that have: {others}")
                });
            }
        }
        is_up
    }

    /// Finds lines that never connected, or were silent for too long, although another one brought
    /// messages all the while.
    pub(super) fn tick(&mut self, flight: &FlightRecord, now_ns: u64) {
        let Some(first_ns) = self.first_ns else {
            return;
        };
        for at in 0..self.lines.len() {
            let newest_ns = self.heard_ns;
            let line = &mut self.lines[at];
            if !line.was_missed && newest_ns.saturating_sub(first_ns) > CONNECT_NS {
                line.was_missed = true;
                line.absence.disconnects += 1;
                self.note(flight, AnomalyKind::Reconnect, now_ns, || {
                    format!(
                        "line {at} has never had a connection, while a copy of it brings messages"
                    )
                });
                continue;
            }
            let silent_ns = newest_ns.saturating_sub(line.heard_ns);
            let is_too_long = self.silent_after_ns.is_some_and(|after| silent_ns > after);
            if is_too_long && line.connections > 0 && !line.is_silent {
                line.is_silent = true;
                line.absence.silences += 1;
                self.note(flight, AnomalyKind::Stale, now_ns, || {
                    format!(
                        "nothing came over line {at} for {} ms, while a copy of it brought messages",
                        silent_ns / 1_000_000
                    )
                });
            }
        }
    }

    /// Returns how often each line was not there.
    pub(super) fn absences(&self) -> impl Iterator<Item = Absence> {
        self.lines.iter().map(|line| line.absence)
    }

    fn note(
        &self,
        flight: &FlightRecord,
        kind: AnomalyKind,
        now_ns: u64,
        evidence: impl FnOnce() -> String,
    ) {
        let sighting = Sighting {
            at_ns: now_ns,
            kind,
            hop: Hop::Network,
            feed: Some(self.feed),
            topic: None,
            count: 1,
        };
        flight.note(sighting, evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_silent_only_where_another_is_not() {
        let flight = FlightRecord::new(["prices".to_owned()]);
        let mut lines = Attendance::new(0, 2, Some(100));
        for line in 0..2 {
            assert!(lines.note_connection(line, true, 1_000, &flight, 1_000));
        }
        lines.hear(0, 1_300);
        lines.hear(1, 1_301);
        lines.tick(&flight, 1_500);
        assert!(flight.entries().is_empty(), "neither brings anything more");
        lines.hear(1, 1_600);
        for at_ns in [1_650, 1_700] {
            lines.tick(&flight, at_ns);
        }
        let silences: Vec<u64> = lines.absences().map(|line| line.silences).collect();
        assert_eq!(silences, [1, 0], "told once");
        assert_eq!(flight.entries()[0].kind, AnomalyKind::Stale);
        lines.hear(0, 1_700);
        lines.hear(1, 1_810);
        lines.tick(&flight, 1_850);
        assert_eq!(lines.absences().next().unwrap().silences, 2, "and again");
    }

    #[test]
    fn a_line_that_never_connects_is_missed_once() {
        let flight = FlightRecord::new(["prices".to_owned()]);
        let mut lines = Attendance::new(0, 2, None);
        lines.note_connection(0, true, 1, &flight, 1);
        for heard_ns in [5, CONNECT_NS, CONNECT_NS + 6, 2 * CONNECT_NS] {
            lines.hear(0, heard_ns);
            lines.tick(&flight, heard_ns);
        }
        let missed: Vec<u64> = lines.absences().map(|line| line.disconnects).collect();
        assert_eq!(missed, [0, 1]);
        assert_eq!(flight.entries()[0].at_ns, CONNECT_NS + 6);
    }

    #[test]
    fn a_line_is_gone_with_its_last_connection() {
        let flight = FlightRecord::new(["prices".to_owned()]);
        let mut lines = Attendance::new(0, 2, None);
        for line in [0, 1, 1] {
            lines.note_connection(line, true, 1, &flight, 1);
        }
        assert!(lines.note_connection(1, false, 2, &flight, 2));
        assert!(!lines.note_connection(1, false, 3, &flight, 3));
        let gone: Vec<u64> = lines.absences().map(|line| line.disconnects).collect();
        assert_eq!(gone, [0, 1]);
        let entries = flight.entries();
        assert_eq!(entries.len(), 1);
        assert!(
            entries[0].evidence.contains("copies of it that have: 1"),
            "{entries:?}"
        );
    }
}
