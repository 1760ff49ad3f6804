//! Frames in, batches out: the envelope finds a message's fields, and the message goes to its worker.
//!
//! The same code stands behind every engine. An engine calls [`Router::route`] for each message, or
//! [`Router::route_run`] for several; [`Router::offer`] now and then, if it reads many at once; and
//! [`Router::flush`] when its sockets have run dry: a burst leaves in large batches, a lone message
//! at once.

use std::ops::Deref;

use crate::{
    envelope::{Envelope, Fields},
    error::Result,
    handoff::FRAMES_MAX,
    lane::{Dispatch, tally::Tally},
    ledger::{LaneLedger, Rejection},
    message::Origin,
    shard::topic_hash,
};

/// The way from a lane's engine to the workers.
pub(crate) struct Router {
    dispatch: Dispatch,
    tally: Tally,
    message_bytes_max: usize,
}

/// What an envelope and a hash tell of a message.
struct Addressed {
    fields: Fields,
    hash: u64,
    outlet: usize,
}

impl Router {
    pub(crate) fn new(dispatch: Dispatch, tally: Tally, message_bytes_max: usize) -> Self {
        Self {
            dispatch,
            tally,
            message_bytes_max,
        }
    }

    /// The lane's side of the ledger.
    pub(crate) fn counters(&self) -> &LaneLedger {
        self.tally.counters()
    }

    /// Takes a message of at least one frame, received at `received_ns` by the pipeline's clock.
    ///
    /// Where the handoff to the message's worker is full, its topic's policy decides.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone).
    #[inline]
    pub(crate) fn route<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        envelope: Envelope,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        self.tally.note_received(received_ns, 1, bytes);
        self.pass(origin, envelope, received_ns, bytes, frames)
    }

    /// As [`route`](Self::route), for messages of `N` frames each. A known number of frames makes each
    /// cheaper.
    ///
    /// Tried and slower by a fifth: to look at all of them first and copy then.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    #[inline]
    pub(crate) fn route_run<const N: usize>(
        &mut self,
        origin: Origin,
        envelope: Envelope,
        received_ns: u64,
        messages: &[[&[u8]; N]],
    ) -> Result<()> {
        let bytes = messages.iter().flatten().map(|frame| frame.len()).sum();
        self.tally
            .note_received(received_ns, messages.len() as u64, bytes);
        for frames in messages {
            let bytes = frames.iter().map(|frame| frame.len()).sum();
            self.pass(origin, envelope, received_ns, bytes, frames)?;
        }
        Ok(())
    }

    /// Passes a message of `bytes` bytes on, or rejects it.
    #[inline(always)]
    fn pass<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        envelope: Envelope,
        received_ns: u64,
        bytes: usize,
        frames: &[F],
    ) -> Result<()> {
        match self.address(origin, envelope, bytes, frames) {
            Ok(to) => self.dispatch.put(
                &mut self.tally,
                origin,
                received_ns,
                to.outlet,
                to.hash,
                &to.fields,
                frames,
            ),
            Err(reason) => {
                self.tally.note_rejected(received_ns, reason);
                Ok(())
            }
        }
    }

    /// Finds the outlet for a message of `bytes` bytes, and what a batch notes of it.
    #[inline(always)]
    fn address<F: Deref<Target = [u8]>>(
        &self,
        origin: Origin,
        envelope: Envelope,
        bytes: usize,
        frames: &[F],
    ) -> std::result::Result<Addressed, Rejection> {
        if frames.len() > FRAMES_MAX {
            return Err(Rejection::TooManyFrames);
        }
        if bytes > self.message_bytes_max {
            return Err(Rejection::TooLarge);
        }
        let fields = envelope.open(frames)?;
        let topic = &frames[fields.topic.frame][fields.topic.start..fields.topic.end];
        let hash = topic_hash(topic);
        Ok(Addressed {
            fields,
            hash,
            outlet: self.dispatch.outlet_of(origin.feed, topic, hash),
        })
    }

    /// Takes note of a message that was thrown away as it came.
    pub(crate) fn reject(&mut self, received_ns: u64, bytes: u64, reason: Rejection) {
        self.tally.note_received(received_ns, 1, bytes as usize);
        self.tally.note_rejected(received_ns, reason);
    }

    /// Hands over what is held for workers that have nothing else to do: to be called after each read.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    #[inline]
    pub(crate) fn offer(&mut self) -> Result<()> {
        self.dispatch.offer(&mut self.tally)
    }

    /// Hands over all batches that hold messages: to be called when there is nothing more to receive.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.dispatch.flush(&mut self.tally)?;
        self.tally.settle();
        Ok(())
    }
}
