//! A publisher that costs next to nothing: one subscriber, NULL mechanism, frames encoded beforehand.

use std::{
    io::{self, Read, Write},
    net::TcpListener,
};

use pinfeed::{
    clock::wall_ns,
    envelope::pinfeed::{OVERHEAD_BYTES, seal},
    message::Stamp,
};

use crate::{MESSAGE_BYTES, TOPICS};

const GREETING_BYTES: usize = 64;
/// Messages written at once.
const BLOCK_MESSAGES: usize = 10 * TOPICS;

/// Says on standard output where it listens, waits for a subscriber, sends it `messages` messages,
/// and waits for it to go.
pub fn serve(messages: u64) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("tcp://{}", listener.local_addr()?);
    let (mut peer, _) = listener.accept()?;
    peer.set_nodelay(true)?;
    peer.write_all(&greeting())?;
    peer.read_exact(&mut [0; GREETING_BYTES])?;
    peer.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB")?;
    // The subscriber's READY, then its subscription to everything.
    read_frame(&mut peer)?;
    read_frame(&mut peer)?;
    let block = block();
    let frame_bytes = block.len() / BLOCK_MESSAGES;
    let mut left = messages as usize;
    while left > 0 {
        let count = left.min(BLOCK_MESSAGES);
        peer.write_all(&block[..count * frame_bytes])?;
        left -= count;
    }
    // Until the subscriber closes, which may come as a reset: it has nothing to read from us.
    let _ = io::copy(&mut peer, &mut io::sink());
    Ok(())
}

fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

fn read_frame(peer: &mut impl Read) -> io::Result<()> {
    let mut head = [0; 2];
    peer.read_exact(&mut head)?;
    let mut body = vec![0; usize::from(head[1])];
    peer.read_exact(&mut body)
}

fn block() -> Vec<u8> {
    let mut block = Vec::new();
    let mut frame = Vec::new();
    for index in 0..BLOCK_MESSAGES {
        let topic = format!("sim.{:05}", index % TOPICS);
        let payload = [b'x'; MESSAGE_BYTES];
        let payload_bytes = MESSAGE_BYTES - OVERHEAD_BYTES - topic.len();
        let stamp = Stamp {
            epoch: 1,
            sequence: (index / TOPICS) as u64,
            timestamp_ns: wall_ns(),
        };
        frame.clear();
        seal(
            &mut frame,
            topic.as_bytes(),
            &payload[..payload_bytes],
            stamp,
        );
        block.extend_from_slice(&[0, MESSAGE_BYTES as u8]);
        block.extend_from_slice(&frame);
    }
    block
}
