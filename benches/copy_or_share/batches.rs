//! Batches that hold copies and batches that share what was received, and their way to the workers.

use std::{
    sync::Arc,
    thread::{self, Thread},
    time::Duration,
};

use rtrb::{Consumer, Producer, RingBuffer};
use xxhash_rust::xxh3::xxh3_64;

/// Workers that batches go to.
pub const WORKERS: usize = 2;
/// At which a batch leaves: pinfeed's defaults.
pub const BATCH_MESSAGES: usize = 1_024;
pub const BATCH_BYTES: usize = 128 * 1024;
/// Batches between the lane and one worker.
const BATCHES: usize = 32;

/// What stands beside a message in a batch: one cache line, as in pinfeed.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Header {
    pub received_ns: u64,
    pub topic_hash: u64,
    pub start: u32,
    pub end: u32,
}

const _: () = assert!(size_of::<Header>() == 64);

/// What a worker needs of a batch.
pub trait Batch: Default + Send + 'static {
    fn headers(&self) -> &[Header];
    /// Where the headers point into.
    fn bytes(&self) -> &[u8];
    fn clear(&mut self);
}

pub struct Copied {
    pub headers: Vec<Header>,
    pub bytes: Vec<u8>,
}

impl Default for Copied {
    fn default() -> Self {
        Self {
            headers: Vec::with_capacity(BATCH_MESSAGES),
            bytes: Vec::with_capacity(2 * BATCH_BYTES),
        }
    }
}

impl Batch for Copied {
    fn headers(&self) -> &[Header] {
        &self.headers
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn clear(&mut self) {
        self.headers.clear();
        self.bytes.clear();
    }
}

pub struct Shared {
    pub headers: Vec<Header>,
    pub bytes: usize,
    pub block: Option<Arc<Vec<u8>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            headers: Vec::with_capacity(BATCH_MESSAGES),
            bytes: 0,
            block: None,
        }
    }
}

impl Batch for Shared {
    fn headers(&self) -> &[Header] {
        &self.headers
    }

    fn bytes(&self) -> &[u8] {
        self.block.as_deref().map_or(&[], Vec::as_slice)
    }

    fn clear(&mut self) {
        self.headers.clear();
        self.bytes = 0;
        self.block = None;
    }
}

/// A lane's end of the rings to one worker.
pub struct Outlet<B> {
    filled: Producer<Box<B>>,
    spares: Consumer<Box<B>>,
    pub filling: Option<Box<B>>,
    worker: Thread,
}

impl<B: Batch> Outlet<B> {
    #[inline]
    pub fn filling(&mut self) -> &mut B {
        let spares = &mut self.spares;
        self.filling.get_or_insert_with(|| {
            loop {
                match spares.pop() {
                    Ok(batch) => return batch,
                    Err(_) => thread::park_timeout(Duration::from_millis(1)),
                }
            }
        })
    }

    pub fn hand_over(&mut self) {
        if let Some(batch) = self.filling.take() {
            self.filled.push(batch).expect("room for all its batches");
            self.worker.unpark();
        }
    }
}

/// Runs the lane with outlets to its workers, and adds up what these found.
pub fn with_workers<B: Batch>(lane: impl FnOnce(&mut [Outlet<B>])) -> (u64, u64) {
    let this = thread::current();
    let (mut outlets, workers): (Vec<_>, Vec<_>) = (0..WORKERS)
        .map(|_| {
            let (filled, inbox) = RingBuffer::new(BATCHES);
            let (mut home, spares) = RingBuffer::new(BATCHES);
            for _ in 0..BATCHES {
                let _ = home.push(Box::<B>::default());
            }
            let lane = this.clone();
            let worker = thread::spawn(move || work(inbox, home, &lane));
            let outlet = Outlet {
                filled,
                spares,
                filling: None,
                worker: worker.thread().clone(),
            };
            (outlet, worker)
        })
        .unzip();
    lane(&mut outlets);
    for mut outlet in outlets {
        outlet.hand_over();
        let Outlet { filled, worker, .. } = outlet;
        drop(filled);
        worker.unpark();
    }
    let found = workers.into_iter().map(|worker| worker.join());
    found.fold((0, 0), |(count, digest), found| {
        let (more, with) = found.expect("a worker does not panic");
        (count + more, with.wrapping_add(digest))
    })
}

fn work<B: Batch>(
    mut inbox: Consumer<Box<B>>,
    mut home: Producer<Box<B>>,
    lane: &Thread,
) -> (u64, u64) {
    let (mut count, mut digest) = (0, 0_u64);
    loop {
        // Before the look: what was pushed before the end is seen.
        let ended = inbox.is_abandoned();
        let Ok(mut batch) = inbox.pop() else {
            if ended {
                return (count, digest);
            }
            thread::park_timeout(Duration::from_millis(10));
            continue;
        };
        let bytes = batch.bytes();
        for header in batch.headers() {
            let payload = &bytes[header.start as usize..header.end as usize];
            digest = digest.wrapping_add(xxh3_64(payload));
            std::hint::black_box((header.received_ns, header.topic_hash));
        }
        count += batch.headers().len() as u64;
        batch.clear();
        let _ = home.push(batch);
        lane.unpark();
    }
}
