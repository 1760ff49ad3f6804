//! Handing messages from a lane to a worker over a ring in memory, by the size of batches. The difference to
//! the empty case is the way from thread to thread.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn ring(criterion: &mut Criterion) {
    support::measure_handoff(criterion, "ring", support::over_ring);
}

criterion_group!(benches, ring);
criterion_main!(benches);
