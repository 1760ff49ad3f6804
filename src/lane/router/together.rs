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
        let find = |frames: &[&[u8]; N]| fields::find_by(&open, bytes_max, frames).ok();
        let opened = |frames: &[&[u8]; N]| open(frames).expect("it was opened before");
        if let Watch::Merged(share) = watch {
            return self.way.merge(share, &self.clock, |merge, tally, flight| {
                let passed = merge.take_run(tally, sorter, run, find, opened)?;
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
        let to_outlet = |hash: Option<u64>| match hash {
            Some(hash) => Destination::Outlet(table.owner_of(shard_of(hash)), hash),
            None => Destination::Unknown,
        };
        let sorted = match watch {
            Watch::Nothing => sorter.sort(messages, |frames| {
                to_outlet(find(frames).map(|(_, hash)| hash))
            }),
            Watch::Tracked(tracker) => {
                tracker.hear(tally.heard(received_ns));
                match tracker.followed() {
                    Some(mut followed) => sorter.sort(messages, |frames| {
                        to_outlet(find(frames).and_then(|(fields, hash)| {
                            let position = fields.stamp.position()?;
                            followed.follow(hash, position).then_some(hash)
                        }))
                    }),
                    None => sorter.sort(messages, |frames| {
                        to_outlet(find(frames).and_then(|(fields, hash)| {
                            let position = fields.stamp.position();
                            tracker.follow(hash, position).then_some(hash)
                        }))
                    }),
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
