//! Messages that were cut off together, and need no closer look: sorted by worker, and copied worker by worker.

use crate::{
    envelope::Fields,
    error::Result,
    handoff::Run,
    lane::{
        LineRoute, fields,
        line::Watch,
        router::{Router, Way},
        sorter::Destination,
    },
    ledger::Rejection,
    shard::shard_of,
};

impl Router {
    /// Passes on what a run begins with that needs no closer look: messages that fit, in sequence where that is looked
    /// at. Returns how many they are; of merged lines all, since the rest is looked at in the same turn.
    #[inline(always)]
    pub(super) fn pass_together<const N: usize>(
        &mut self,
        line: usize,
        received_ns: u64,
        messages: &[[&[u8]; N]],
        open: impl Fn(&[&[u8]]) -> std::result::Result<Fields, Rejection>,
    ) -> Result<usize> {
        let LineRoute { origin, watch, .. } = &mut self.lines[line];
        let (sorter, bytes_max) = (&mut *self.sorter, self.message_bytes_max);
        let run = Run {
            origin: *origin,
            received_ns,
            messages,
        };
        let hash_of = |frames: &[&[u8]; N]| {
            let found = fields::find_by(&open, bytes_max, frames).ok();
            found.map(|(_, hash)| hash)
        };
        let opened = |frames: &[&[u8]; N]| open(frames).expect("it was opened before");
        if let Watch::Merged(share) = watch {
            return self.way.merge(share, &self.clock, |merge, tally, flight| {
                let passed = merge.take_run(tally, sorter, run, hash_of, opened)?;
                // In the same turn.
                let rest = messages[passed..].iter().map(|frames| &frames[..]);
                let rest = rest.map(|frames| (fields::find_by(&open, bytes_max, frames), frames));
                merge.take_each(tally, flight, run.origin, received_ns, rest)?;
                Ok(messages.len())
            });
        }
        let Way {
            dispatch, tally, ..
        } = &mut self.way;
        let Some(table) = dispatch.sorting_table() else {
            return Ok(0);
        };
        let to_outlet = |hash| Destination::Outlet(table.owner_of(shard_of(hash)));
        let sorted = match watch {
            Watch::Nothing => {
                let hashed = sorter.hash(messages, hash_of, |_| {});
                sorter.sort(hashed, |_, hash| to_outlet(hash))
            }
            Watch::Tracked(tracker) => {
                tracker.hear(tally.heard(received_ns));
                let position = |frames: &[&[u8]; N]| opened(frames).stamp.position();
                if let Some(mut followed) = tracker.followed() {
                    let hashed = sorter.hash(messages, hash_of, |hash| followed.fetch(hash));
                    sorter.sort(hashed, |frames, hash| match position(frames) {
                        Some(position) if followed.follow(hash, position) => to_outlet(hash),
                        _ => Destination::Unknown,
                    })
                } else {
                    let hashed = sorter.hash(messages, hash_of, |hash| tracker.fetch(hash));
                    sorter.sort(hashed, |frames, hash| {
                        if tracker.follow(hash, position(frames)) {
                            to_outlet(hash)
                        } else {
                            Destination::Unknown
                        }
                    })
                }
            }
            // Its feed's past is looked at with each.
            Watch::Joined(_) => return Ok(0),
            Watch::Merged(_) => unreachable!("they have gone another way"),
        };
        dispatch.put_sorted(tally, sorter, sorted, run, opened)?;
        Ok(sorted.messages)
    }
}
