//! The ways that messages are received by: cut off and forgotten, copied, shared.

use std::{sync::Arc, thread, time::Duration};

use pinfeed::zmtp::{Cut, Frames, Limits, Splitter};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    batches::{BATCH_BYTES, BATCH_MESSAGES, Copied, Header, Outlet, Shared, WORKERS, with_workers},
    connection::{Connection, TOPIC_BYTES},
};

/// What is received into.
const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks that may be shared at a time.
const BLOCKS: usize = 32;
/// Read less than this, and the system calls weigh.
const READ_BYTES_MIN: usize = 64 * 1024;
/// How much is read at once where batches leave after each read.
const SMALL_READ_BYTES: usize = 8 * 1024;
const LIMITS: Limits = Limits {
    frame_bytes_max: 1 << 20,
    message_bytes_max: 1 << 20,
    frames_max: 64,
};

/// When batches leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// When a batch is full or the socket dry.
    WhenDry,
    /// After each small read.
    EachRead,
}

impl Flush {
    fn read_bytes_max(self) -> usize {
        match self {
            Self::WhenDry => BLOCK_BYTES,
            Self::EachRead => SMALL_READ_BYTES,
        }
    }
}

/// Receives a number of messages from a connection. Returns how many came, and the sum of their
/// digests.
pub type Way = fn(&mut Connection, u64, Flush) -> (u64, u64);

pub const WAYS: [(&str, Way); 3] = [("cut only", cut_only), ("copy", copy), ("share", share)];

#[inline]
fn topic_hash(message: &[u8]) -> u64 {
    xxh3_64(&message[..TOPIC_BYTES])
}

#[inline]
fn worker_of(hash: u64) -> usize {
    (hash >> 32) as usize % WORKERS
}

/// Cuts messages off the front of `bytes` until there is no whole one. Returns how many bytes they
/// took.
#[inline]
fn cut_all<'a>(
    splitter: &mut Splitter,
    bytes: &'a [u8],
    mut each: impl FnMut(&'a [u8], usize),
) -> usize {
    let mut frames = Frames::default();
    let mut at = 0;
    loop {
        let (cut, used) = splitter
            .cut(&bytes[at..], &mut frames)
            .expect("valid frames");
        at += used;
        match cut {
            Cut::Message => {
                let message = frames.as_slice()[0];
                each(message, at - message.len());
            }
            Cut::Need(_) => return at,
            other => panic!("{other:?}"),
        }
    }
}

fn cut_only(connection: &mut Connection, messages: u64, flush: Flush) -> (u64, u64) {
    let mut splitter = Splitter::new(LIMITS);
    let mut buffer = vec![0; BLOCK_BYTES];
    let (mut held, mut count, mut sum) = (0, 0, 0_u64);
    while count < messages {
        let end = buffer.len().min(held + flush.read_bytes_max());
        let Some(read) = connection.read(&mut buffer[held..end]) else {
            connection.wait();
            continue;
        };
        let end = held + read;
        let used = cut_all(&mut splitter, &buffer[..end], |message, _| {
            count += 1;
            sum = sum.wrapping_add(message.len() as u64);
        });
        buffer.copy_within(used..end, 0);
        held = end - used;
    }
    (count, sum)
}

fn copy(connection: &mut Connection, messages: u64, flush: Flush) -> (u64, u64) {
    with_workers(|outlets: &mut [Outlet<Copied>]| {
        let mut splitter = Splitter::new(LIMITS);
        let mut buffer = vec![0; BLOCK_BYTES];
        let (mut held, mut count) = (0, 0);
        while count < messages {
            let end = buffer.len().min(held + flush.read_bytes_max());
            let Some(read) = connection.read(&mut buffer[held..end]) else {
                outlets.iter_mut().for_each(Outlet::hand_over);
                connection.wait();
                continue;
            };
            let end = held + read;
            let received_ns = connection.clock.now_ns();
            let used = cut_all(&mut splitter, &buffer[..end], |message, _| {
                count += 1;
                let topic_hash = topic_hash(message);
                let outlet = &mut outlets[worker_of(topic_hash)];
                let batch = outlet.filling();
                let start = batch.bytes.len() as u32;
                batch.bytes.extend_from_slice(message);
                batch.headers.push(Header {
                    received_ns,
                    topic_hash,
                    start,
                    end: batch.bytes.len() as u32,
                });
                if batch.headers.len() >= BATCH_MESSAGES || batch.bytes.len() >= BATCH_BYTES {
                    outlet.hand_over();
                }
            });
            buffer.copy_within(used..end, 0);
            held = end - used;
            if flush == Flush::EachRead {
                outlets.iter_mut().for_each(Outlet::hand_over);
            }
        }
    })
}

fn share(connection: &mut Connection, messages: u64, flush: Flush) -> (u64, u64) {
    with_workers(|outlets: &mut [Outlet<Shared>]| {
        let mut splitter = Splitter::new(LIMITS);
        let mut blocks: Vec<_> = (0..BLOCKS)
            .map(|_| Arc::new(vec![0; BLOCK_BYTES]))
            .collect();
        let mut now = 0;
        // Of the block that is received into: where the first message that is not whole starts, and
        // where the bytes end.
        let (mut start, mut end) = (0, 0);
        let mut count = 0;
        while count < messages {
            let block = Arc::get_mut(&mut blocks[now]).expect("not shared yet");
            let room = block.len().min(end + flush.read_bytes_max());
            let Some(read) = connection.read(&mut block[end..room]) else {
                if leave(outlets, &mut blocks, &mut now, start..end) {
                    (start, end) = (0, end - start);
                }
                connection.wait();
                continue;
            };
            end += read;
            let received_ns = connection.clock.now_ns();
            let mut shared = flush == Flush::EachRead;
            let block = &blocks[now];
            let used = cut_all(&mut splitter, &block[start..end], |message, at| {
                count += 1;
                let topic_hash = topic_hash(message);
                let outlet = &mut outlets[worker_of(topic_hash)];
                let batch = outlet.filling();
                let at = start + at;
                batch.headers.push(Header {
                    received_ns,
                    topic_hash,
                    start: at as u32,
                    end: (at + message.len()) as u32,
                });
                batch.bytes += message.len();
                if batch.headers.len() >= BATCH_MESSAGES || batch.bytes >= BATCH_BYTES {
                    batch.block = Some(block.clone());
                    outlet.hand_over();
                    shared = true;
                }
            });
            start += used;
            if shared || BLOCK_BYTES - end < READ_BYTES_MIN {
                leave(outlets, &mut blocks, &mut now, start..end);
                (start, end) = (0, end - start);
            }
        }
        hand_over_all(outlets, &blocks[now]);
    })
}

fn hand_over_all(outlets: &mut [Outlet<Shared>], block: &Arc<Vec<u8>>) {
    for outlet in outlets {
        if let Some(batch) = &mut outlet.filling {
            batch.block = Some(block.clone());
            outlet.hand_over();
        }
    }
}

/// Hands over what refers to the block that is received into, and goes on to one that is free, with the
/// unfinished end. Returns false where nothing refers to it, so that there is no need.
fn leave(
    outlets: &mut [Outlet<Shared>],
    blocks: &mut [Arc<Vec<u8>>],
    now: &mut usize,
    unfinished: std::ops::Range<usize>,
) -> bool {
    hand_over_all(outlets, &blocks[*now]);
    if Arc::get_mut(&mut blocks[*now]).is_some() && unfinished.start == 0 {
        return false;
    }
    // The first one: what was used last is still in the cache.
    let free = loop {
        let mut candidates = (0..blocks.len()).filter(|index| index != now);
        match candidates.find(|&index| Arc::strong_count(&blocks[index]) == 1) {
            Some(free) => break free,
            None => thread::park_timeout(Duration::from_millis(1)),
        }
    };
    let (from, to) = (blocks[*now].clone(), &mut blocks[free]);
    let bytes = unfinished.len();
    Arc::get_mut(to).expect("nobody else has it")[..bytes].copy_from_slice(&from[unfinished]);
    *now = free;
    true
}
