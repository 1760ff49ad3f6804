//! Who is to be looked at when: a timing wheel (Varghese and Lauck, 1987) of one level, used lazily.
//!
//! Each topic waits in at most one of [`SLOTS`] slots, a doubly linked list through one array. A slot
//! comes due at a multiple of the grain, and whoever waits there is looked at: those for whom it is too
//! early wait again. So a message only has to store when it came, and never moves its topic. What lies
//! beyond the last slot waits there, and is looked at once a turn.
//!
//! The trade-off: nothing is noticed before the next multiple of the grain. Times in nanoseconds.

/// How many slots there are.
const SLOTS: u32 = 1_024;
/// The list of those that are due and have not been looked at.
const DUE: u32 = SLOTS;
/// Where the topics' links start.
const FIRST: u32 = SLOTS + 1;
/// The most topics that fit.
pub(super) const PLACES_MAX: usize = (u32::MAX - FIRST) as usize;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// The slots, and a link for each topic.
#[derive(Debug)]
pub(super) struct Wheel {
    grain_ns: u64,
    /// The slot that comes due next: number `n` does at `n` grains, and is list `n % SLOTS`.
    cursor: u64,
    /// No slot before this one has anyone waiting.
    next_due: Option<u64>,
    /// Heads of slots, the list of those due, then topics. One that waits nowhere is linked to itself.
    links: Vec<Link>,
}

impl Wheel {
    pub(super) fn new(grain_ns: u64) -> Self {
        let alone = |at| Link {
            previous: at,
            next: at,
        };
        Self {
            grain_ns: grain_ns.max(1),
            cursor: 0,
            next_due: None,
            links: (0..FIRST).map(alone).collect(),
        }
    }

    /// Returns the last multiple of the grain up to `now_ns`.
    pub(super) fn boundary_ns(&self, now_ns: u64) -> u64 {
        now_ns - now_ns % self.grain_ns
    }

    /// Has the topic at `place` wait until `due_ns`, and nowhere else.
    pub(super) fn wait(&mut self, place: u32, due_ns: u64) {
        let at = FIRST + place;
        while self.links.len() <= at as usize {
            let new = self.links.len() as u32;
            self.links.push(Link {
                previous: new,
                next: new,
            });
        }
        self.unlink(at);
        let slot = due_ns
            .div_ceil(self.grain_ns)
            .clamp(self.cursor, self.cursor + u64::from(SLOTS) - 1);
        self.next_due = Some(self.next_due.map_or(slot, |next| next.min(slot)));
        let head = Self::head(slot);
        let last = self.links[head as usize].previous;
        self.links[at as usize] = Link {
            previous: last,
            next: head,
        };
        self.links[last as usize].next = at;
        self.links[head as usize].previous = at;
    }

    /// Moves those whose slot has come due by `now_ns` to where [`pop_due`](Self::pop_due) takes them.
    pub(super) fn advance(&mut self, now_ns: u64) {
        let current = now_ns / self.grain_ns;
        if current < self.cursor {
            return;
        }
        let end = (current + 1).min(self.cursor + u64::from(SLOTS));
        for slot in self.cursor..end {
            self.splice(Self::head(slot));
        }
        self.cursor = current + 1;
        if self.next_due.is_some_and(|next| next < self.cursor) {
            self.next_due = (self.cursor..self.cursor + u64::from(SLOTS)).find(|&slot| {
                let head = Self::head(slot);
                self.links[head as usize].next != head
            });
        }
    }

    /// Takes a topic that is due.
    pub(super) fn pop_due(&mut self) -> Option<u32> {
        let at = self.links[DUE as usize].next;
        (at != DUE).then(|| {
            self.unlink(at);
            at - FIRST
        })
    }

    /// Returns when someone is to be looked at next: 0 if someone is due already.
    pub(super) fn due_ns(&self) -> Option<u64> {
        if self.links[DUE as usize].next != DUE {
            return Some(0);
        }
        self.next_due.map(|slot| slot.saturating_mul(self.grain_ns))
    }

    fn head(slot: u64) -> u32 {
        (slot % u64::from(SLOTS)) as u32
    }

    fn unlink(&mut self, at: u32) {
        let Link { previous, next } = self.links[at as usize];
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.links[at as usize] = Link {
            previous: at,
            next: at,
        };
    }

    /// Moves a whole slot to the end of those due.
    fn splice(&mut self, head: u32) {
        let Link {
            previous: last,
            next: first,
        } = self.links[head as usize];
        if first == head {
            return;
        }
        self.links[head as usize] = Link {
            previous: head,
            next: head,
        };
        let end = self.links[DUE as usize].previous;
        self.links[end as usize].next = first;
        self.links[first as usize].previous = end;
        self.links[last as usize].next = DUE;
        self.links[DUE as usize].previous = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now_ns: u64) -> Vec<u32> {
        wheel.advance(now_ns);
        std::iter::from_fn(|| wheel.pop_due()).collect()
    }

    #[test]
    fn each_comes_due_at_the_first_boundary_after_its_time() {
        let mut wheel = Wheel::new(10);
        wheel.wait(0, 25);
        wheel.wait(1, 30);
        wheel.wait(2, 31);
        assert_eq!(wheel.due_ns(), Some(30));
        assert!(due(&mut wheel, 29).is_empty());
        assert_eq!(due(&mut wheel, 30), [0, 1]);
        assert_eq!(wheel.due_ns(), Some(40));
        assert_eq!(due(&mut wheel, 1_000), [2]);
        assert_eq!(wheel.due_ns(), None);
    }

    #[test]
    fn who_waits_anew_waits_nowhere_else() {
        let mut wheel = Wheel::new(1);
        wheel.wait(7, 5);
        wheel.wait(7, 9);
        assert!(due(&mut wheel, 8).is_empty());
        assert_eq!(due(&mut wheel, 9), [7]);
    }

    #[test]
    fn times_beyond_the_last_slot_are_looked_at_early_and_none_is_lost() {
        let mut wheel = Wheel::new(1);
        wheel.wait(0, u64::MAX);
        assert_eq!(wheel.due_ns(), Some(u64::from(SLOTS) - 1));
        assert_eq!(due(&mut wheel, 1 << 60), [0]);
        wheel.wait(0, 3);
        assert_eq!(wheel.due_ns(), Some((1 << 60) + 1));
    }
}
