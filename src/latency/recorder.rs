//! Recording without locks: a worker writes histograms that nobody else sees, and now and then hands
//! them to the collector in exchange for empty ones.
//!
//! Two sets of histograms circle between a worker and the collector through two channels of one
//! place each. The worker offers its set when the collector has asked for it, between batches, so a
//! record costs no atomic operation at all, and a collector that is slow or gone costs a worker
//! nothing: it keeps recording in the set it has. HdrHistogram's own recorder was the alternative;
//! it checks a shared phase at each record and allocates a histogram at each exchange.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crossbeam::channel::{self, Receiver, Sender};

use crate::latency::Stages;

/// A worker's side: where its times are recorded.
#[derive(Debug)]
pub struct Recorder {
    stages: Box<Stages>,
    wanted: Arc<AtomicBool>,
    full: Sender<Box<Stages>>,
    empty: Receiver<Box<Stages>>,
}

/// The other side: gathers what a worker has recorded.
#[derive(Debug)]
pub struct Collector {
    wanted: Arc<AtomicBool>,
    full: Receiver<Box<Stages>>,
    empty: Sender<Box<Stages>>,
    /// Whether the worker's next answer is to be thrown away.
    forgetting: bool,
}

/// Makes the two sides for one worker.
#[must_use]
pub fn recorder() -> (Recorder, Collector) {
    let wanted = Arc::new(AtomicBool::new(false));
    let (full_sender, full) = channel::bounded(1);
    let (empty, empty_receiver) = channel::bounded(1);
    empty
        .send(Box::default())
        .expect("the channel has room for one");
    let recorder = Recorder {
        stages: Box::default(),
        wanted: wanted.clone(),
        full: full_sender,
        empty: empty_receiver,
    };
    let collector = Collector {
        wanted,
        full,
        empty,
        forgetting: false,
    };
    (recorder, collector)
}

impl Recorder {
    /// Returns the histograms to record in.
    #[inline]
    pub fn stages(&mut self) -> &mut Stages {
        &mut self.stages
    }

    /// Hands the histograms over if they were asked for. To be called between batches and when idle.
    #[inline]
    pub fn offer(&mut self) {
        if self.wanted.load(Relaxed) {
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        let Ok(empty) = self.empty.try_recv() else {
            return;
        };
        self.wanted.store(false, Relaxed);
        let full = mem::replace(&mut self.stages, empty);
        // There is room: only two sets exist, and the collector just had the other one.
        let _ = self.full.try_send(full);
    }

    /// Hands over what is left, at the end.
    #[must_use]
    pub fn finish(self) -> Box<Stages> {
        self.stages
    }
}

impl Collector {
    /// Asks for what is recorded until the worker's next look up: after its next batch, or when idle.
    pub fn request(&self) {
        self.wanted.store(true, Relaxed);
    }

    /// Throws away what is recorded until the worker's next look up.
    pub fn forget(&mut self) {
        self.forgetting = false;
        self.collect(&mut Stages::default());
        self.forgetting = true;
        self.request();
    }

    /// Tells whether the worker has not yet looked up since [`forget`](Self::forget).
    #[must_use]
    pub fn is_forgetting(&self) -> bool {
        self.forgetting
    }

    /// Tells whether what was asked for is yet to come.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Adds what has been handed over to `total`.
    pub fn collect(&mut self, total: &mut Stages) {
        while let Ok(mut full) = self.full.try_recv() {
            if !mem::take(&mut self.forgetting) {
                total.merge(&full);
            }
            full.reset();
            let _ = self.empty.try_send(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recorded_is_lost_or_doubled() {
        let (mut recorder, mut collector) = recorder();
        let mut total = Stages::default();
        for round in 0..100 {
            recorder.stages().queue.record(round + 1).unwrap();
            recorder.offer();
            if round % 7 == 0 {
                collector.collect(&mut total);
                collector.request();
            }
        }
        let rest = recorder.finish();
        collector.collect(&mut total);
        assert!(
            total.queue.len() >= 90,
            "the collector was served while recording went on"
        );
        total.merge(&rest);
        assert_eq!(total.queue.len(), 100);
        assert_eq!(total.queue.max(), 100);
    }

    #[test]
    fn what_is_forgotten_is_what_came_before() {
        let (mut recorder, mut collector) = recorder();
        let mut total = Stages::default();
        recorder.stages().queue.record(1).unwrap();
        // An answer that is under way, and what is recorded after it.
        collector.request();
        recorder.offer();
        recorder.stages().queue.record(2).unwrap();
        collector.forget();
        recorder.stages().queue.record(3).unwrap();
        recorder.offer();
        recorder.stages().queue.record(4).unwrap();
        assert!(collector.is_forgetting());
        collector.collect(&mut total);
        assert!(!collector.is_forgetting());
        collector.request();
        recorder.offer();
        collector.collect(&mut total);
        total.merge(&recorder.finish());
        assert_eq!((total.queue.len(), total.queue.max()), (1, 4));
    }
}
