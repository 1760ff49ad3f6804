//! The bounded channel that carries batches from lanes to workers.
//!
//! A lane fills a [`Batch`] for a worker and hands it over whole. Batches are made once, at start,
//! and travel in a circle: spare → filled on the lane → inbox of the worker → spare. Their number
//! bounds the handoff; when none is spare, the worker is behind and the lane has to wait.

mod batch;
pub mod inproc;

pub use batch::{Batch, BatchLimits, FRAMES_MAX};

/// How much a handoff from one lane to one worker holds.
#[derive(Clone, Copy, Debug)]
pub struct HandoffLimits {
    /// How large a batch may grow.
    pub batch: BatchLimits,
    /// The number of batches, filled, under way and spare together.
    pub batches: usize,
}
