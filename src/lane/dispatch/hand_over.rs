//! When batches are handed over: full ones at once, others when there is nothing more to receive, as their workers can
//! make use of them.

use super::{Dispatch, Routing, SPARE_WAIT};
use crate::{
    error::Result,
    handoff::{Batch, Outlet},
    lane::tally::Tally,
};

impl Dispatch {
    pub(super) fn hand_over(&mut self, tally: &mut Tally, outlet: usize) -> Result<()> {
        match self.close_batch(tally, outlet) {
            Some(batch) => self.outlets[outlet].send(batch),
            None => Ok(()),
        }
    }

    /// As [`hand_over`](Self::hand_over), but may leave a worker asleep that sleeps.
    pub(super) fn hand_over_quietly(&mut self, tally: &mut Tally, outlet: usize) -> Result<()> {
        match self.close_batch(tally, outlet) {
            Some(batch) => self.outlets[outlet].send_quietly(batch),
            None => Ok(()),
        }
    }

    /// Wakes all workers that there is something for. To be called before the lane waits for anything.
    #[inline]
    pub(in crate::lane) fn announce(&mut self) {
        for outlet in &mut self.outlets {
            outlet.announce();
        }
    }

    /// Takes the batch that is being filled for an outlet, to be sent.
    fn close_batch(&mut self, tally: &mut Tally, outlet: usize) -> Option<Box<Batch>> {
        let batch = self.filling[outlet].take()?;
        tally.settle();
        let worker = self.worker_of(outlet);
        if let Routing::Keyed(table) = &self.routing {
            tally.note_load(&batch, table, worker);
        }
        let way = &tally.counters().ways[worker];
        way.batches.add(1);
        way.messages.add(batch.len() as u64);
        self.turns[outlet / self.ways] = (worker + 1) % self.workers;
        Some(batch)
    }

    /// Hands over what there is for workers that have nothing else to do, and wakes those that there is something
    /// for. What there is for busy ones can as well become more.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline]
    pub(in crate::lane) fn offer(&mut self, tally: &mut Tally) -> Result<()> {
        self.bring_up_to_date(tally)?;
        for outlet in self.to_workers() {
            if self.filling[outlet].is_some() && self.outlets[outlet].is_empty() {
                self.hand_over(tally, outlet)?;
            }
        }
        self.announce();
        Ok(())
    }

    /// Hands over all batches that hold messages, but for those of workers that are [behind](Outlet::is_behind):
    /// these have enough to do, and where each read brings little, batches of a few messages would soon be all there
    /// are.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(in crate::lane) fn flush(&mut self, tally: &mut Tally) -> Result<()> {
        self.bring_up_to_date(tally)?;
        self.hand_over_to_ready(tally)?;
        self.pressure.note_rest(tally);
        Ok(())
    }

    pub(super) fn hand_over_to_ready(&mut self, tally: &mut Tally) -> Result<()> {
        self.is_keeping = false;
        for outlet in self.to_workers() {
            if self.filling[outlet].is_some() && self.is_behind(outlet) {
                // One that is gone is behind for ever.
                self.outlets[outlet].check_worker()?;
                self.is_keeping = true;
            } else {
                self.hand_over(tally, outlet)?;
            }
        }
        self.announce();
        Ok(())
    }

    /// Tells whether who gets what goes by an outlet has enough to do: its worker, or all where any may.
    #[inline]
    fn is_behind(&self, outlet: usize) -> bool {
        match self.routing {
            Routing::Keyed(_) => self.outlets[outlet].is_behind(),
            Routing::Balanced => {
                let first = outlet - outlet % self.ways;
                let mut all = self.outlets[first..first + self.workers].iter();
                all.all(Outlet::is_behind)
            }
        }
    }

    /// Tells whether it waits for a worker that does not ring: for one to be done with what it had of a shard, or
    /// with some of what it is behind with.
    #[inline]
    pub(in crate::lane) fn has_to_look(&self) -> bool {
        self.is_keeping || self.is_moving()
    }

    /// Tells workers what they are yet to be told, and brings moves forward.
    #[inline]
    fn bring_up_to_date(&mut self, tally: &mut Tally) -> Result<()> {
        if self.owing {
            self.tell_owed(None);
        }
        if self.is_moving() {
            self.go_on_moving(tally)?;
        }
        Ok(())
    }

    /// Hands over all batches that hold messages.
    pub(super) fn flush_open(&mut self, tally: &mut Tally) -> Result<()> {
        for outlet in self.to_workers() {
            self.hand_over(tally, outlet)?;
        }
        self.announce();
        Ok(())
    }

    /// Hands over all there is, for the last time: waits for workers that are yet to be told something,
    /// which is not counted as blocked, since there is nothing more to receive.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(in crate::lane) fn end(&mut self, tally: &mut Tally) -> Result<()> {
        self.bring_up_to_date(tally)?;
        self.flush_open(tally)?;
        self.finish_moves(tally)?;
        for outlet in self.to_workers() {
            let class = outlet / self.ways;
            let is_told =
                |it: &Self| it.owed[outlet].is_empty() && it.owed_to_any[class].is_empty();
            while !is_told(self) && !tally.is_abandoned(outlet % self.ways) {
                if let Some(batch) = self.outlets[outlet].wait_for_spare(SPARE_WAIT)? {
                    self.fill_next(outlet, batch);
                }
            }
        }
        self.flush_open(tally)?;
        self.pressure.note_rest(tally);
        Ok(())
    }
}
