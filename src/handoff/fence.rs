//! Fences: how a lane learns that a worker is done with all that it was handed up to some moment.

use std::sync::Arc;

/// A lane's view of a fence. It is passed once its mark is gone.
#[derive(Debug, Default)]
pub(crate) struct Fence(Arc<()>);

/// What a batch carries of a fence: gone when the worker gives the batch back, and so is done with it and all
/// before it. Where messages are moved to another batch it goes with the last of them.
#[derive(Debug)]
pub(super) struct Mark(#[expect(dead_code, reason = "it is there, or it is not")] Arc<()>);

impl Fence {
    /// Makes the mark that goes with the last batch before the fence.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.0.clone())
    }

    /// Tells whether the worker is done with what was before. What it did happened before what this thread
    /// does next.
    pub(crate) fn is_passed(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_passed_when_the_last_mark_is_gone() {
        let mut fence = Fence::default();
        assert!(fence.is_passed());
        let (one, other) = (fence.mark(), fence.mark());
        drop(one);
        assert!(!fence.is_passed());
        drop(other);
        assert!(fence.is_passed());
    }
}
